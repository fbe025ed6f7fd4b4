//! What a flow's payload is, and what the rules say to that.
//!
//! ```text
//! a flow opens ── might a rule that asks decide? ── no ──► nobody looks
//!                              │ yes
//!                              ▼
//!            watched ── payload ──► known ── forbidden ──► ended
//!                                    │ let through
//!                                    ▼
//!            held to it until its server has read it, and then as fast as any other
//! ```

use super::court::{Asks, Court, Ruling, of_flow, of_frame, of_rules};
use crate::app::{self, App, Identity};
use crate::flow::{Judged, Kind, Known, Look, Seen, Still, Track, Watch, Why, opener};
use crate::frame::{Frag, Meta, checksum};
use crate::policy::{AppSet, Key, RuleId, Verdict};
use crate::telemetry::Reason;

const UDP: u8 = 17;

/// What a frame that opens a flow, or whose flow is judged again, means for what the payload is.
pub(super) struct Payload {
    /// The first rule that matches, and the first that decides.
    pub answer: (RuleId, RuleId),
    pub seen: Seen,
    /// The rule that decides does so for now, because the payload may yet turn out to be what it asks for.
    pub provisional: bool,
    /// The payload is here, and cannot be seen.
    pub unseen: Option<Reason>,
}

impl Payload {
    pub fn of_no_interest(answer: (RuleId, RuleId)) -> Payload {
        Payload {
            answer,
            seen: Seen::default(),
            provisional: false,
            unseen: None,
        }
    }
}

/// Whether the payload matters to what the rules say, and if it is here what it is. `answer` is theirs as long as nobody has looked.
pub(super) fn payload(
    court: &Court<'_>,
    track: &Track,
    meta: &Meta,
    bytes: &[u8],
    (answer, any): ((RuleId, RuleId), Option<RuleId>),
    (why, forth): (Why, bool),
    asks: &Asks,
) -> Payload {
    let mut of = Payload::of_no_interest(answer);
    let (before, renews) = match why {
        Why::Related => return of,
        Why::Alone => return alone_or_not(court, (meta, bytes), of, any, asks),
        Why::Opens | Why::Reopens(_) | Why::Turns(_) => (Seen::default(), false),
        Why::Renews(_, seen) => (seen, true),
    };
    let permitted = court.generation.permits(answer.1);
    if !renews && !permitted && !court.generation.permits_apps() {
        // It does not open.
        return of;
    }
    let carries = match track.kind {
        Kind::Tcp => true,
        Kind::Plain => meta.proto == UDP,
        _ => false,
    };
    if !carries {
        return of;
    }
    let generation = court.generation;
    let initiator = if forth {
        court.side
    } else {
        court.side.other()
    };
    let key = opener(meta, court.side, initiator, track.kind);
    let known = |of: &mut Payload, app: u8| {
        of.answer = (asks.rules)(generation, &Key { app, ..key });
        let permits = generation.permits(of.answer.1);
        let watch = watch_on(track.kind == Kind::Tcp, app, permits);
        of.seen = Seen { app, watch };
    };
    if before.app != 0 {
        known(&mut of, before.app);
        of.seen.watch = before.watch;
        return of;
    }
    if renews && !before.watch.is_on() {
        // Nobody asked when there was something to see; or it could not be seen, and that stays so.
        of.seen = before;
        return of;
    }
    let (might, permits) = (asks.might)(generation, &key, answer, any);
    if !might || !(permitted || permits.is_some()) {
        return of;
    }
    if let Why::Turns(_) = why {
        // Both ends would be clients, and the payload of one of them be looked at.
        of.unseen = Some(Reason::PayloadHidden);
        return of;
    }
    let carries = forth && track.has_payload(meta);
    if track.kind == Kind::Plain && carries {
        match datagram(meta, bytes) {
            Ok(app) => known(&mut of, app),
            Err(reason) => of.unseen = Some(reason),
        }
        return of;
    }
    if carries && !checksum::is_right(meta, bytes) {
        of.unseen = Some(Reason::Checksum);
        return of;
    }
    of.seen.watch = if renews { before.watch } else { Watch::First };
    if let (false, Some(rule)) = (permitted, permits) {
        of.provisional = true;
        of.answer = (rule, rule);
    }
    of
}

/// A datagram that has no flow, to a group or from nowhere, is looked at by itself.
fn alone_or_not(
    court: &Court<'_>,
    (meta, bytes): (&Meta, &[u8]),
    mut of: Payload,
    any: Option<RuleId>,
    asks: &Asks,
) -> Payload {
    let generation = court.generation;
    let key = Key::new(meta, court.side);
    if meta.proto != UDP
        || meta.frag == Frag::Later
        || !(asks.might)(generation, &key, of.answer, any).0
    {
        return of;
    }
    match datagram(meta, bytes) {
        Ok(app) => {
            of.answer = (asks.rules)(generation, &Key { app, ..key });
            of.seen.app = app;
        }
        Err(reason) => of.unseen = Some(reason),
    }
    of
}

/// What a whole datagram is, by its number; or why that cannot be known.
fn datagram(meta: &Meta, bytes: &[u8]) -> Result<u8, Reason> {
    if !checksum::is_right(meta, bytes) {
        return Err(Reason::Checksum);
    }
    let payload = bytes.get(usize::from(meta.payload)..usize::from(meta.end));
    let payload = payload.unwrap_or_default();
    match app::identify_udp(payload) {
        Identity::Known(app) => Ok(app as u8),
        // The rest is in fragments that nobody puts together here.
        _ if meta.frag == Frag::First && payload.is_empty() => Err(Reason::PayloadHidden),
        Identity::More if meta.frag == Frag::First => Err(Reason::PayloadHidden),
        Identity::Unknown | Identity::More => Ok(AppSet::UNKNOWN),
    }
}

/// A frame of a live flow that has payload, and nobody knows yet what it is, or whether its server has read the same.
pub(super) fn looked(
    court: &mut Court<'_>,
    shadow: bool,
    track: &mut Track,
    meta: &Meta,
    bytes: &[u8],
    look: Look,
    asks: &Asks,
) -> Ruling {
    // Frames before it in this burst, or another worker, may have come to it first.
    let look = match court.tracker.still(track, &look) {
        Still::Look(look) => look,
        Still::Known(rule, seen) => {
            return flows_on(court, shadow, track, meta, (rule, look.forth, seen), asks);
        }
        Still::Blocked(rule) => return of_flow(court, shadow, rule, true, look.forth),
        Still::Gone => return Ruling::new(Verdict::Drop(Reason::NoFlow)),
    };
    let seen = Seen {
        app: look.app,
        watch: Watch::More,
    };
    let by = (look.rule, look.forth, seen);
    let payload = bytes.get(usize::from(meta.payload)..usize::from(meta.end));
    let payload = payload.unwrap_or_default();
    let tcp = track.kind == Kind::Tcp;
    let initiator = if look.forth {
        court.side
    } else {
        court.side.other()
    };
    let generation = court.generation;
    let key = opener(meta, court.side, initiator, track.kind);
    let before = || (asks.rules)(generation, &key);
    let provisional = look.app == 0 && !generation.permits(before().1);
    let (known, shown) = if !look.forth {
        (
            heard(court, track, look, payload, (tcp, provisional), asks, &key),
            None,
        )
    } else if tcp {
        let tracker = &*court.tracker;
        let mut seen = court
            .shown
            .show(|shown| tracker.see(track, &look, payload, shown));
        if meta.frag == Frag::First && matches!(seen.0, Known::More { .. }) {
            // The rest of the segment is in fragments that nobody puts together here.
            seen.0 = Known::Hidden;
        }
        seen
    } else {
        match datagram(meta, bytes) {
            Ok(number) if number == look.app => (Known::Same, None),
            Ok(number) => (Known::Is(App::from_number(number)), None),
            Err(reason) => return Ruling::new(Verdict::Drop(reason)),
        }
    };
    let mut judged = Judged {
        rule: look.rule,
        blocked: true,
        generation: generation.number(),
        seen: Seen {
            app: 0,
            watch: Watch::Hidden,
        },
    };
    let mut ruling = match known {
        Known::Same => return flows_on(court, shadow, track, meta, by, asks),
        Known::More { far } => {
            court.tracker.keep_looking(&look, meta.proto);
            if far && provisional {
                // A door that is held open for first words is not one for what comes long after them.
                return Ruling::new(Verdict::Drop(Reason::PayloadHidden));
            }
            return flows_on(court, shadow, track, meta, by, asks);
        }
        Known::Overlap => Ruling::new(Verdict::Drop(Reason::PayloadOverlap)),
        Known::Hidden => Ruling::new(Verdict::Drop(Reason::PayloadHidden)),
        Known::Is(app) => {
            let number = app.map_or(AppSet::UNKNOWN, |app| app as u8);
            let answer = (asks.rules)(generation, &Key { app: number, ..key });
            let permits = generation.permits(answer.1);
            if look.again && permits {
                court.tracker.keep_looking(&look, meta.proto);
                return flows_on(court, shadow, track, meta, by, asks);
            }
            judged.rule = answer.1;
            judged.blocked = !permits;
            judged.seen = Seen {
                app: number,
                watch: watch_on(tcp, number, permits),
            };
            let before = before();
            let mut ruling = match answer.1 == before.1 && answer.1 == look.rule {
                // It was judged by that when it opened.
                true => flows_on(
                    court,
                    shadow,
                    track,
                    meta,
                    (look.rule, look.forth, judged.seen),
                    asks,
                ),
                false => of_rules(court, shadow, answer),
            };
            if tcp {
                // It is open to its destination, which nobody can take the place of any more.
                ruling.verdict = ruling.verdict.without_decoy();
            }
            // The same of a rule in shadow.
            let told = answer.0 == before.0 || answer.0 == answer.1;
            ruling.shadowed = (!told).then(|| {
                let verdict = generation.verdict(answer.0, court.now.steady);
                (generation.slot(answer.0), verdict)
            });
            ruling.app = app;
            ruling
        }
    };
    ruling.shown = shown;
    court
        .tracker
        .seen(track, &look, judged, meta.proto, court.counters);
    ruling
}

/// How a flow is watched on whose payload is known: over TCP until its server has read what it is known by; over UDP, where that is nothing that is known, until somebody answers: a
/// server does not answer what is none of its own, and so a first datagram without sense stands for nothing.
fn watch_on(tcp: bool, number: u8, permits: bool) -> Watch {
    match (permits, tcp) {
        (false, _) => Watch::Off,
        (true, true) => Watch::More,
        (true, false) if number == AppSet::UNKNOWN => Watch::First,
        (true, false) => Watch::Off,
    }
}

/// What a server says before its client may show what it is. Its word alone lets nothing through: only the client's does.
fn heard(
    court: &Court<'_>,
    track: &Track,
    look: Look,
    payload: &[u8],
    (tcp, provisional): (bool, bool),
    asks: &Asks,
    key: &Key,
) -> Known {
    if !tcp || look.app != 0 {
        return Known::Same;
    }
    if let Some(app) = app::identify_banner(payload) {
        let key = Key {
            app: app as u8,
            ..*key
        };
        let (_, rule) = (asks.rules)(court.generation, &key);
        if !court.generation.permits(rule) {
            return Known::Is(Some(app));
        }
    }
    if provisional {
        return match court.tracker.hear(track, &look, payload.len()) {
            true => Known::More { far: false },
            false => Known::Hidden,
        };
    }
    Known::Same
}

/// A frame of a flow that is let through by this rule, for all that is known by now.
pub(super) fn flows_on(
    court: &Court<'_>,
    shadow: bool,
    track: &Track,
    meta: &Meta,
    (rule, forth, seen): (RuleId, bool, Seen),
    asks: &Asks,
) -> Ruling {
    let mut ruling = of_flow(court, shadow, rule, false, forth);
    if court.generation.judges_frames() {
        of_frame(
            court,
            shadow,
            track,
            meta,
            (rule, forth, seen),
            &mut ruling,
            asks,
        );
    }
    ruling
}
