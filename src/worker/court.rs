//! One frame's ruling: what its flow, the rules and the datagram that it is a part of come to.

use super::looks::{Payload, flows_on, looked, payload};
use super::observer::Observer;
use super::own::Own;
use super::shown::{Place, Showcase};
use super::{Now, reason_alert};
use crate::app::App;
use crate::flow::datagram::Piece;
use crate::flow::{
    Found, Judged, Kind, Outcome, Refused, Seen, Settled, Track, Tracker, Watch, Why, key_of,
    opener,
};
use crate::frame::{Frag, Meta, Net, tunnel};
use crate::policy::admit::{Admit, admit};
use crate::policy::{Generation, Key, RuleId, RuleSlot, Side, Verdict};
use crate::telemetry::counters::FlowCounters;
use crate::telemetry::{Cause, Counter, Reason};
use af_xdp::Umem;

/// Ports from here on are not those of a server: the lowest that systems give to clients of their own accord (Linux,
/// net.ipv4.ip_local_port_range).
const EPHEMERAL: u16 = 32_768;
/// Below, only servers of a system's own listen (RFC 6335 section 6).
const SYSTEM_PORTS: u16 = 1024;

/// What was found of one frame.
pub(super) struct Ruling {
    /// What becomes of it, or would if the policy were enforced.
    pub verdict: Verdict,
    /// The rule that decides.
    pub rule: Option<RuleSlot>,
    /// What alerts, if anything does.
    pub cause: Option<Cause>,
    /// A rule in shadow that matched before the one that decides, and the verdict it would have had.
    pub shadowed: Option<(RuleSlot, Verdict)>,
    /// It waits for the first fragment of its datagram.
    pub waits: bool,
    /// What its flow's payload is, where this frame has shown it.
    pub app: Option<App>,
    /// Where that payload stands, if it came in pieces.
    pub shown: Option<Place>,
}

impl Ruling {
    pub fn new(verdict: Verdict) -> Ruling {
        Ruling {
            verdict,
            rule: None,
            cause: suspicious(verdict),
            shadowed: None,
            waits: false,
            app: None,
            shown: None,
        }
    }

    /// The rule that lets the frame through, where there is nothing else to say about it.
    #[inline(always)]
    pub fn plain(&self) -> Option<RuleSlot> {
        let silent = self.cause.is_none() && self.shadowed.is_none() && !self.waits;
        self.rule
            .filter(|_| silent && self.verdict == Verdict::Forward)
    }

    /// That of a fragment whose datagram is known.
    pub fn of_piece(piece: Piece) -> Ruling {
        let (verdict, rule) = match piece {
            Piece::Inherits(Outcome { verdict, rule }) => match verdict {
                // An answer was given to the first, if it was.
                Verdict::Reject(reason) => (Verdict::Drop(reason), rule),
                verdict => (verdict.without_decoy(), rule),
            },
            Piece::Waits => (Verdict::Drop(Reason::FragmentOrphan), None),
            Piece::Overlaps => (Verdict::Drop(Reason::FragmentOverlap), None),
            Piece::Duplicate => (Verdict::Drop(Reason::FragmentDuplicate), None),
        };
        Ruling {
            rule,
            waits: piece == Piece::Waits,
            ..Ruling::new(verdict)
        }
    }

    /// As [`of_rules`], written in its place: what was just written in pieces, read as a whole to be moved there, has to wait for the pieces.
    #[inline(always)]
    fn by_rules(&mut self, court: &Court<'_>, shadow: bool, (first, rule): (RuleId, RuleId)) {
        let generation = court.generation;
        let verdict = generation.verdict(rule, court.now.steady);
        let alerts = generation.alerts(rule) || (shadow && verdict != Verdict::Forward);
        let slot = generation.slot(rule);
        let shadowed = || {
            let verdict = generation.verdict(first, court.now.steady);
            (generation.slot(first), verdict)
        };
        *self = Ruling {
            verdict,
            rule: Some(slot),
            cause: suspicious(verdict).or(alerts.then_some(Cause::Rule(slot))),
            shadowed: (first != rule).then(shadowed),
            waits: false,
            app: None,
            shown: None,
        };
    }

    /// There is no room for the flow.
    fn refuse(&mut self, why: Refused) {
        let reason = match why {
            Refused::Full => Reason::FlowTableFull,
            Refused::Host => Reason::HostFlows,
        };
        if self.verdict == Verdict::Forward {
            self.verdict = Verdict::Drop(reason);
            self.rule = None;
            self.cause = None;
        }
    }
}

/// What a burst is judged with, the same for all of its frames.
pub(super) struct Court<'a> {
    pub umem: &'a Umem,
    pub generation: &'a Generation,
    pub tracker: &'a mut Tracker,
    pub counters: &'a FlowCounters,
    pub shown: &'a mut Showcase,
    pub observer: &'a mut Observer,
    /// Observations that found no room.
    pub unobserved: &'a Counter,
    /// The box's own address, where it has one.
    pub own: Option<&'a Own>,
    pub side: Side,
    pub now: Now,
}

/// Of a first fragment the ruling is kept for the others of its datagram, if it may pass as one.
pub(super) fn first_of_datagram(court: &Court<'_>, meta: &Meta, ruling: &mut Ruling) {
    if meta.frag != Frag::First || !matches!(meta.net, Net::V4 | Net::V6) {
        return;
    }
    // Nobody puts fragments together to answer them.
    ruling.verdict = ruling.verdict.without_decoy();
    let outcome = Outcome {
        verdict: ruling.verdict,
        rule: ruling.rule,
    };
    let datagrams = court.tracker.datagrams();
    match datagrams.first(meta, court.side, court.now.steady, outcome) {
        Piece::Inherits(_) => {}
        piece => *ruling = Ruling::of_piece(piece),
    }
}

/// How the rules are asked about one packet: as it is on the wire, or inside of a tunnel.
pub(super) struct Asks {
    /// The first rule that matches a key, and the first that decides.
    pub rules: fn(&Generation, &Key) -> (RuleId, RuleId),
    /// Whether a payload yet to come may bring the flow under a rule before these two, and the first such rule that would let it through.
    pub might: Might,
}

/// As [`Generation::might`].
type Might = fn(&Generation, &Key, (RuleId, RuleId), Option<RuleId>) -> (bool, Option<RuleId>);

/// On the wire.
pub(super) const ALONE: Asks = Asks {
    rules: alone,
    might: Generation::might,
};

/// Inside of a tunnel.
const INSIDE: Asks = Asks {
    rules: |generation, key| {
        let rule = generation.classify_inside(key);
        (rule, rule)
    },
    might: Generation::might_inside,
};

/// The ruling on one packet that was looked for, by itself.
pub(super) fn found(
    court: &mut Court<'_>,
    shadow: bool,
    track: &mut Track,
    meta: &Meta,
    bytes: &[u8],
    asks: &Asks,
) -> Ruling {
    let number = court.generation.number();
    court.tracker.begin();
    match court.tracker.find(track, meta, bytes, court.side, number) {
        Found::Flow {
            rule,
            blocked,
            forth,
            seen,
        } => match blocked {
            true => of_flow(court, shadow, rule, true, forth),
            false => flows_on(court, shadow, track, meta, (rule, forth, seen), asks),
        },
        Found::Look(look) => looked(court, shadow, track, meta, bytes, look, asks),
        Found::Ask(opened_from, why) => {
            let key = key_of(meta, court.side, opened_from, track.kind);
            let answer = (asks.rules)(court.generation, &key);
            let about = (why, key.side == court.side);
            let mut ruling = Ruling::new(Verdict::Drop(Reason::Default));
            let of = (&mut *track, &mut ruling);
            settled(
                court,
                shadow,
                of,
                (meta, bytes),
                (answer, None),
                about,
                asks,
            );
            ruling
        }
        Found::Adopt => adopted(court, shadow, track, meta, asks),
        Found::Again => unknown(court, shadow, meta, Reason::NoFlow),
        Found::Drop(reason) => unknown(court, shadow, meta, reason),
    }
}

/// The ruling on a frame that belongs to nothing: dropped for `reason`, but where it goes on with a connection that was answered in the destination's place. No flow was opened for that
/// one, so its rule is asked once more.
#[cold]
#[inline(never)]
pub(super) fn unknown(court: &Court<'_>, shadow: bool, meta: &Meta, reason: Reason) -> Ruling {
    match reason == Reason::NoFlow && court.generation.has_decoys() {
        true => of_decoy(court, shadow, meta),
        false => Ruling::new(Verdict::Drop(reason)),
    }
}

fn of_decoy(court: &Court<'_>, shadow: bool, meta: &Meta) -> Ruling {
    let none = Ruling::new(Verdict::Drop(Reason::NoFlow));
    if court.side != Side::Lan || meta.proto != 6 {
        return none;
    }
    let answer = alone(court.generation, &Key::new(meta, court.side));
    match court.generation.answers_for(answer.1) {
        true => of_rules(court, shadow, answer),
        false => none,
    }
}

/// The ruling on one IP packet, from the beginning.
fn packet(
    court: &mut Court<'_>,
    shadow: bool,
    track: &mut Track,
    meta: &Meta,
    bytes: &[u8],
    asks: &Asks,
) -> Ruling {
    if let Err(reason) = court.tracker.prepare(meta, bytes, court.side, track) {
        return Ruling::new(Verdict::Drop(reason));
    }
    if track.kind == Kind::Later {
        let datagrams = court.tracker.datagrams();
        return Ruling::of_piece(datagrams.later(meta, court.side, court.now.steady));
    }
    court.tracker.hash_key(track);
    if court.tracker.seek(track) {
        court.tracker.seek_elsewhere(track);
    }
    found(court, shadow, track, meta, bytes, asks)
}

/// The ruling on a tunnel that is looked into: what is outside has to pass, and what is inside too. A fragment inside gets what its first got, and does not wait
/// for it: the frame around it is none.
pub(super) fn tunnelled(
    court: &mut Court<'_>,
    shadow: bool,
    track: &mut Track,
    outer: &Meta,
    bytes: &[u8],
    kind: tunnel::Kind,
) -> Ruling {
    let ruling = packet(court, shadow, track, outer, bytes, &ALONE);
    if ruling.verdict != Verdict::Forward || outer.frag == Frag::Later {
        return ruling;
    }
    let inner = match tunnel::inside(bytes, outer, kind) {
        Ok(inner) => inner,
        Err(reason) => return Ruling::new(Verdict::Drop(reason)),
    };
    let mut carried = match admit(&inner, court.side) {
        Admit::Pass => return ruling,
        Admit::AskOr(_, Verdict::Forward) => return ruling,
        Admit::AskOr(_, verdict) => Ruling::new(verdict),
        Admit::Ask => packet(court, shadow, track, &inner, bytes, &INSIDE),
    };
    first_of_datagram(court, &inner, &mut carried);
    match carried.verdict {
        Verdict::Forward => ruling,
        // An answer would be to the packet outside, which is not the one that is refused.
        Verdict::Reject(reason) | Verdict::Drop(reason) => Ruling {
            verdict: Verdict::Drop(reason),
            waits: false,
            ..carried
        },
        verdict => Ruling {
            verdict: verdict.without_decoy(),
            waits: false,
            ..carried
        },
    }
}

/// The ruling on a frame of a live flow.
#[inline]
pub(super) fn of_flow(
    court: &Court<'_>,
    shadow: bool,
    rule: RuleId,
    blocked: bool,
    forth: bool,
) -> Ruling {
    let verdict = match blocked || forth {
        true => court.generation.verdict(rule, court.now.steady),
        // What answers was asked for; a limit is on the asking.
        false => Verdict::Forward,
    };
    // Not for what its rule says: for what could not be seen of it.
    let verdict = match verdict {
        Verdict::Forward if blocked => Verdict::Drop(Reason::PayloadHidden),
        verdict => verdict,
    };
    let mut ruling = Ruling::new(verdict);
    let slot = court.generation.slot(rule);
    ruling.rule = Some(slot);
    // A flow that is let through has alerted when it opened. In shadow an alert is all that is seen of a rule that forbids.
    if blocked && (shadow || court.generation.alerts(rule)) {
        ruling.cause = Some(Cause::Rule(slot));
    }
    ruling
}

/// The ruling where the rules were asked: the first rule that matches, and the first of those that decide.
pub(super) fn of_rules(court: &Court<'_>, shadow: bool, answer: (RuleId, RuleId)) -> Ruling {
    let mut ruling = Ruling::new(Verdict::Drop(Reason::Default));
    ruling.by_rules(court, shadow, answer);
    ruling
}

/// Whether a rule forbids a single frame of a flow that `rule` lets through; if one does, that is the ruling.
///
/// Of what goes the way that the flow was opened, every rule that is about frames is asked; of what answers from the LAN, only those that are about the machine: a rule on a port
/// is not about answers. Where the flow was let through for the sake of its machine, another machine has to be let through by itself.
pub(super) fn of_frame(
    court: &Court<'_>,
    shadow: bool,
    track: &Track,
    meta: &Meta,
    (rule, forth, seen): (RuleId, bool, Seen),
    ruling: &mut Ruling,
    asks: &Asks,
) {
    let generation = court.generation;
    if !forth && court.side == Side::Uplink {
        return;
    }
    // What it may be that its flow is not known to be yet counts for it, as it did when it opened.
    let asked = |key: Key| {
        let key = Key {
            app: seen.app,
            ..key
        };
        let (_, found) = (asks.rules)(generation, &key);
        let undecided = seen.app == 0 && seen.watch.is_on() && !generation.permits(found);
        let might = undecided.then(|| (asks.might)(generation, &key, (found, found), None));
        might.and_then(|(_, permits)| permits).unwrap_or(found)
    };
    let found = asked(Key::new(meta, court.side));
    let forbids = match forth {
        true => generation.is_of_frames(found),
        false => generation.is_of_machines(found),
    };
    if forbids {
        *ruling = of_rules(court, shadow, (found, found));
    } else if forth && generation.names_machines(rule) {
        let found = asked(opener(meta, court.side, court.side, track.kind));
        if !generation.permits(found) {
            *ruling = of_rules(court, shadow, (found, found));
        }
    }
}

/// The same, and what it means for the flow is written down. All of the ruling is written.
pub(super) fn settled(
    court: &mut Court<'_>,
    shadow: bool,
    (track, ruling): (&mut Track, &mut Ruling),
    (meta, bytes): (&Meta, &[u8]),
    (answer, any): ((RuleId, RuleId), Option<RuleId>),
    (why, forth): (Why, bool),
    asks: &Asks,
) {
    if let Why::Renews(..) = why
        && court.tracker.generation_of(why) == Some(court.generation.number() as u16)
    {
        // A frame before it in this burst was the first of the new generation, and may have said more of it.
        *ruling = found(court, shadow, track, meta, bytes, asks);
        return;
    }
    let payload = match court.generation.names_apps() {
        true => payload(court, track, meta, bytes, (answer, any), (why, forth), asks),
        false => Payload::of_no_interest(answer),
    };
    let Payload {
        answer,
        seen,
        provisional,
        unseen,
    } = payload;
    if let Some(reason) = unseen {
        *ruling = Ruling::new(Verdict::Drop(reason));
        return;
    }
    ruling.by_rules(court, shadow, answer);
    let rule = answer.1;
    if matches!(why, Why::Opens | Why::Reopens(_)) && court.side == Side::Lan {
        observe(court, meta, rule);
    }
    ruling.app = App::from_number(seen.app);
    if provisional {
        // It has not matched yet, and may never.
        (ruling.cause, ruling.rule) = (None, None);
    }
    if matches!(why, Why::Related) && court.generation.is_default(rule) {
        // The default is for what opens, and this is part of what is open.
        ruling.verdict = Verdict::Forward;
        ruling.cause = None;
    }
    let hidden = seen.watch == Watch::Hidden;
    let blocked = hidden || !court.generation.permits(rule);
    let renews = matches!(why, Why::Renews(..));
    if renews && blocked && court.generation.is_of_frames(rule) {
        // About the machine that sent this frame, which may not be the one whose flow it is: that is judged by its next frame.
        return;
    }
    // A flow that may not be is remembered only where its frames go on passing, or did.
    if ruling.verdict == Verdict::Forward || shadow || renews {
        let judged = Judged {
            rule,
            blocked,
            generation: court.generation.number(),
            seen,
        };
        let tracker = &mut *court.tracker;
        let settled = tracker.settle(track, why, meta, court.side, judged, court.counters);
        if let Settled::Refused(refused) = settled {
            ruling.refuse(refused);
        } else if let Some(look) = tracker.look(track, meta, seen, court.side) {
            let looked = looked(court, shadow, track, meta, bytes, look, asks);
            let tells = looked.cause.is_some() || looked.shadowed.is_some();
            if looked.verdict != Verdict::Forward || (tells && ruling.cause.is_none()) {
                *ruling = looked;
                return;
            }
            (ruling.app, ruling.shown) = (looked.app, looked.shown);
        }
    }
    if hidden {
        *ruling = of_flow(court, shadow, rule, true, forth);
        return;
    }
    if renews && !blocked && court.generation.judges_frames() {
        let by = (rule, forth, seen);
        of_frame(court, shadow, track, meta, by, ruling, asks);
    }
}

/// A host of the LAN opens a flow, or wants to. Where the rule says that its address is a lie, it is nobody's.
fn observe(court: &mut Court<'_>, meta: &Meta, rule: RuleId) {
    let rules = court.generation.rules();
    if rules.get(rule.index()).is_some_and(|rule| !rule.by_mac) {
        let blocked = !court.generation.permits(rule);
        court
            .observer
            .opened(meta, blocked, court.now, court.unobserved);
    }
}

/// A connection without a flow, in the time after the start. It goes on where the host inside may open it, or where it looks like the server of
/// one that the outside may open: the rules alone would take every client for a server wherever the outside may open anything.
pub(super) fn adopted(
    court: &mut Court<'_>,
    shadow: bool,
    track: &mut Track,
    meta: &Meta,
    asks: &Asks,
) -> Ruling {
    let generation = court.generation;
    let (inside, outside) = match court.side {
        Side::Lan => (meta.sport, meta.dport),
        Side::Uplink => (meta.dport, meta.sport),
    };
    let serves = inside < SYSTEM_PORTS || (inside < EPHEMERAL && inside < outside);
    let asked =
        |initiator| (asks.rules)(generation, &opener(meta, court.side, initiator, Kind::Tcp));
    let (from_inside, from_outside) = (asked(Side::Lan), asked(Side::Uplink));
    let (answer, initiator) = if generation.permits(from_inside.1) {
        (from_inside, Side::Lan)
    } else if court.side == Side::Lan && generation.answers_for(from_inside.1) {
        // It may be one that a decoy answers, whichever port its client has chosen.
        return of_rules(court, shadow, from_inside);
    } else if serves && generation.permits(from_outside.1) {
        (from_outside, Side::Uplink)
    } else if court.side == Side::Lan && inside >= EPHEMERAL {
        // A client that goes on with what it may not.
        return of_rules(court, shadow, from_inside);
    } else {
        return Ruling::new(Verdict::Drop(Reason::NoFlow));
    };
    let mut ruling = of_rules(court, shadow, answer);
    if ruling.verdict == Verdict::Forward {
        let judged = Judged {
            rule: answer.1,
            blocked: false,
            generation: generation.number(),
            // Of what went before nothing was seen.
            seen: Seen::default(),
        };
        let tracker = &mut *court.tracker;
        let adopted = tracker.adopt(track, meta, court.side, initiator, judged, court.counters);
        if let Settled::Refused(refused) = adopted {
            ruling.refuse(refused);
        } else if generation.judges_frames() {
            let forth = initiator == court.side;
            of_frame(
                court,
                shadow,
                track,
                meta,
                (answer.1, forth, Seen::default()),
                &mut ruling,
                asks,
            );
        }
    }
    ruling
}

/// The first rule that matches one key, and the first that decides.
pub(super) fn alone(generation: &Generation, key: &Key) -> (RuleId, RuleId) {
    let (mut first, mut deciding) = ([RuleId(0)], [RuleId(0)]);
    generation.classify(std::slice::from_ref(key), &mut first);
    if !generation.has_shadow_rules() {
        return (first[0], first[0]);
    }
    generation.classify_enforced(std::slice::from_ref(key), &mut deciding);
    (first[0], deciding[0])
}

/// A frame that alerts whatever the rules say.
fn suspicious(verdict: Verdict) -> Option<Cause> {
    match verdict {
        Verdict::Drop(reason) if reason_alert(reason).is_some() => Some(Cause::Reason(reason)),
        _ => None,
    }
}
