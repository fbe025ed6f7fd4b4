//! One worker's hand on the flow table.
//!
//! A burst is gone through in stages, so that memory is asked for before it is needed: [`Tracker::prepare`] makes the key, [`Tracker::hash_key`] asks for the
//! tags, [`Tracker::seek`] looks at the tags and asks for the flow, [`Tracker::find`] says what is known, and once the rules were asked about the
//! rest, [`Tracker::settle`] writes down what they let through.

use super::key::FlowKey;
use super::slots::{Fresh, KeyWords, Likely, Opened, Slot, Tag};
use super::state::{self, Class, Control, Phase};
use super::tcp::{self, Segment};
use super::watch::{Look, Seen};
use super::{ADOPT_AFTER_REFUSAL, Datagrams, Flows, Kind, Overflow};
use crate::frame::{Frag, Meta, Net, quote};
use crate::policy::{Key, RuleId, Side};
use crate::telemetry::Reason;
use crate::telemetry::counters::FlowCounters;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A whole sweep over a worker's share of the table takes 2^32 nanoseconds.
const SWEEP_SHIFT: u32 = 32;
/// Buckets that one turn looks through at most.
const SWEEP_AT_ONCE: u64 = 128;
/// A clock that goes on by more than this at once (a suspended machine, a capture with a gap) is followed in steps, nanoseconds: over an hour.
const JUMP: u64 = 0x1000 << state::TICK_SHIFT;
/// Longer than any flow may be idle, nanoseconds.
const AGE: u64 = state::LONGEST.as_nanos() as u64 + 60_000_000_000;

/// One worker's hand on the flow table.
pub struct Tracker {
    pub(super) flows: Arc<Flows>,
    /// The worker's share of the buckets, and where its sweep stands.
    share: std::ops::Range<usize>,
    at: usize,
    swept: u64,
    pub(super) tick: u16,
    pub(super) steady: u64,
    adopting: bool,
    /// Some bits of the hashes of flows that this burst may open.
    opening: u64,
    /// Flows of the LAN whose other end has spoken for the first time.
    answered: Vec<Answer>,
}

/// The other end of a flow of the LAN has spoken for the first time.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Who opened the flow.
    pub host: u128,
    /// The addresses are of IPv6.
    pub v6: bool,
    /// The MAC address that the answer goes to.
    pub mac: [u8; 6],
    /// The MAC address that it comes from.
    pub router: [u8; 6],
    /// Who answers.
    pub peer: u128,
    /// Its port; 0 of a ping.
    pub port: u16,
    /// The transport protocol.
    pub proto: u8,
}

/// A frame on its way through the table.
#[derive(Clone, Copy, Debug)]
pub struct Track {
    /// What kind of thing it is.
    pub kind: Kind,
    pub(super) key: KeyWords,
    pub(super) hash: u64,
    /// The first bucket that the hash names.
    bucket: u32,
    pub(super) slot: Option<Slot>,
    /// There was no such flow when its tags were looked at.
    absent: bool,
    /// It may go the shortest way: a datagram, or a segment that neither opens nor ends.
    ordinary: bool,
    /// What an ordinary segment says, as in [`tcp::acknowledges`].
    acknowledges: u64,
    /// All of a segment: read where a frame does not take the shortest way.
    pub(super) segment: Segment,
}

impl Track {
    /// Of a frame that was not looked at.
    pub const NONE: Track = Track {
        kind: Kind::Alone,
        key: [0; 5],
        hash: 0,
        bucket: 0,
        slot: None,
        absent: false,
        ordinary: false,
        acknowledges: 0,
        segment: Segment {
            flags: 0,
            seq: 0,
            ack: 0,
            window: 0,
            len: 0,
            scale: None,
        },
    };
}

impl Track {
    /// It was hashed and sought already.
    pub(super) fn found_before(
        &mut self,
        hash: u64,
        bucket: u32,
        slot: Option<Slot>,
        absent: bool,
    ) {
        (self.hash, self.bucket) = (hash, bucket);
        (self.slot, self.absent) = (slot, absent);
    }

    /// Whether the frame has payload that its receiver would take, or is the beginning of one that has.
    pub fn has_payload(&self, meta: &Meta) -> bool {
        let reset = self.kind == Kind::Tcp && meta.tcp_flags & tcp::RST != 0;
        (meta.payload < meta.end || meta.frag == Frag::First) && !reset
    }
}

/// What is known of a frame.
#[derive(Clone, Copy, Debug)]
pub enum Found {
    /// It is of a live flow.
    Flow {
        /// The rule that let the flow through, or blocks it.
        rule: RuleId,
        /// The flow's frames are not let through.
        blocked: bool,
        /// It goes the way that the flow was opened.
        forth: bool,
        /// What was seen of its payload.
        seen: Seen,
    },
    /// It is of a live flow, and has payload that is to be looked at.
    Look(Look),
    /// The rules are to be asked about its key ([`key_of`]): as it is, or as of the frame that would open its flow from this side today.
    Ask(Option<Side>, Why),
    /// A connection without a flow, in the time after the start: the rules are asked about both directions.
    Adopt,
    /// It may be of a flow that an earlier frame of this burst opens.
    Again,
    /// It is dropped.
    Drop(Reason),
}

impl Found {
    /// A frame of a live flow with this control word whose payload is of no interest.
    #[inline]
    fn of(word: u64, side: Side) -> Found {
        Found::Flow {
            rule: Control::rule_of(word),
            blocked: Control::is_blocked(word),
            forth: Control::initiator_of(word) == side,
            seen: Seen::of(word),
        }
    }
}

/// What the rules came to, for a flow to be remembered by.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The rule that decides.
    pub rule: RuleId,
    /// The flow's frames are not let through.
    pub blocked: bool,
    /// The policy's generation.
    pub generation: u64,
    /// What its payload is, if that is known, and whether it is still to be looked at.
    pub seen: Seen,
}

/// Why the rules are asked.
#[derive(Clone, Copy, Debug)]
pub enum Why {
    /// It opens a flow.
    Opens,
    /// It opens one anew whose last life is over.
    Reopens(Slot),
    /// The other side of a flow opens: the flow stays if it may not.
    Turns(Slot),
    /// Its flow was judged by another generation.
    Renews(Slot, Seen),
    /// It is of no flow.
    Alone,
    /// An error of a live flow: it passes unless a rule forbids it.
    Related,
}

/// What settling came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// The rule's verdict holds.
    Done,
    /// There is no room for the flow.
    Refused(Refused),
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The table is full.
    Full,
    /// Its host has as many as it may.
    Host,
}

impl Tracker {
    pub(super) fn new(flows: Arc<Flows>, index: usize, workers: usize) -> Tracker {
        let (buckets, workers) = (flows.slots.buckets(), workers.max(1));
        let share = buckets * index / workers..buckets * (index + 1) / workers;
        Tracker {
            at: share.start,
            share,
            flows,
            swept: 0,
            tick: 0,
            steady: 0,
            adopting: false,
            opening: 0,
            answered: Vec::new(),
        }
    }

    /// From now on notes who answers flows of the LAN: up to `most` between two calls of [`Tracker::answers`].
    pub fn note_answers(&mut self, most: usize) {
        self.answered = Vec::with_capacity(most);
    }

    /// What was noted since the last time.
    pub fn answers(&mut self) -> std::vec::Drain<'_, Answer> {
        self.answered.drain(..)
    }

    /// The datagrams under way.
    pub fn datagrams(&self) -> &Datagrams {
        &self.flows.datagrams
    }

    /// A new turn, at `now` nanoseconds of a clock that never goes back. Forgets some of what is over.
    #[inline]
    pub fn tick(&mut self, now: u64, counters: &FlowCounters) {
        let tick = state::tick(now);
        if self.steady == 0 {
            let until = now.saturating_add(self.flows.adopt.as_nanos() as u64);
            // Whoever comes first says when the time is over.
            let _ = self
                .flows
                .adopt_until
                .compare_exchange(0, until, Relaxed, Relaxed);
            self.adopting = self.flows.adopt_until.load(Relaxed) > now;
            self.swept = now;
            self.tick = tick;
        }
        let before = std::mem::replace(&mut self.steady, now);
        if tick != self.tick || now.saturating_sub(before) > AGE {
            self.new_tick(before, counters);
        }
        let share = self.share.len() as u64;
        let due = (u128::from(now.saturating_sub(self.swept)) * u128::from(share)) >> SWEEP_SHIFT;
        if due > 0 {
            self.sweep(due.min(u128::from(share)) as u64, now, counters);
        }
    }

    #[cold]
    fn new_tick(&mut self, before: u64, counters: &FlowCounters) {
        let now = self.steady;
        self.adopting = self.flows.adopt_until.load(Relaxed) > now;
        let all = 0..self.flows.slots.buckets();
        if now.saturating_sub(before) > AGE {
            // No flow may be idle for that long, and the clock of the tags may have come round.
            self.flows.forget(all, |_| true, counters);
        } else {
            // Steps small enough that no idle time goes over half the clock between two sweeps.
            let mut at = before;
            while now.saturating_sub(at) > JUMP {
                at += JUMP;
                self.flows.sweep(all.clone(), state::tick(at), counters);
            }
        }
        self.tick = state::tick(now);
    }

    #[inline(never)]
    fn sweep(&mut self, due: u64, now: u64, counters: &FlowCounters) {
        let share = self.share.len() as u64;
        let count = due.min(SWEEP_AT_ONCE);
        for _ in 0..count {
            let next = self.at + 1;
            self.flows.sweep(self.at..next, self.tick, counters);
            self.at = if next < self.share.end {
                next
            } else {
                self.share.start
            };
        }
        // What a turn does not come to is for the next ones; more than one whole sweep is never owed.
        let paid = (u128::from(count) << SWEEP_SHIFT) / u128::from(share.max(1));
        let oldest = now.saturating_sub(1 << SWEEP_SHIFT);
        self.swept = self.swept.saturating_add(paid as u64).clamp(oldest, now);
    }

    /// No frame before is unsettled: a new burst, or a frame that is looked for by itself.
    #[inline]
    pub fn begin(&mut self) {
        self.opening = 0;
    }

    /// The key of a parsed IP frame. `frame` is the whole frame.
    ///
    /// # Errors
    /// [`Reason::TcpFlags`].
    #[inline(always)]
    pub fn prepare(
        &self,
        meta: &Meta,
        frame: &[u8],
        side: Side,
        track: &mut Track,
    ) -> Result<(), Reason> {
        match self.prepare_ordinary(meta, frame, side, track) {
            true => Ok(()),
            false => self.prepare_rest(meta, frame, side, track),
        }
    }

    /// The same where the frame is nothing but data between two hosts; else false, and nothing is written.
    #[inline(always)]
    pub fn prepare_ordinary(
        &self,
        meta: &Meta,
        frame: &[u8],
        side: Side,
        track: &mut Track,
    ) -> bool {
        let Some(kind) = Kind::of_ordinary(meta) else {
            return false;
        };
        track.kind = kind;
        track.ordinary = true;
        track.acknowledges = tcp::acknowledges(frame, usize::from(meta.l4));
        FlowKey::plain_words(meta, side, &mut track.key);
        true
    }

    /// Of one that is more than data between two hosts.
    #[inline(never)]
    fn prepare_rest(
        &self,
        meta: &Meta,
        frame: &[u8],
        side: Side,
        track: &mut Track,
    ) -> Result<(), Reason> {
        track.kind = Kind::of(meta);
        track.ordinary = match track.kind {
            Kind::Tcp => tcp::is_ordinary(meta.tcp_flags),
            kind => kind == Kind::Plain,
        };
        let (sport, dport) = match track.kind {
            Kind::Tcp => {
                track.acknowledges = tcp::acknowledges(frame, usize::from(meta.l4));
                if !tcp::flags_make_sense(meta.tcp_flags) {
                    return Err(Reason::TcpFlags);
                }
                (meta.sport, meta.dport)
            }
            Kind::Plain => (meta.sport, meta.dport),
            Kind::Query { asks, .. } => query_ports(side, identifier(meta, frame), asks),
            Kind::Error | Kind::Later | Kind::Alone => return Ok(()),
        };
        track.key = FlowKey::new(meta, side, sport, dport).words();
        Ok(())
    }

    /// Hashes the key that [`Tracker::prepare`] has made, and asks for the tags. A step of its own: the multiplications follow one another, and a processor does those of
    /// several packets at once only if little stands between them.
    #[inline]
    pub fn hash_key(&self, track: &mut Track) {
        if !matches!(track.kind, Kind::Error | Kind::Later | Kind::Alone) {
            track.hash = self.flows.hash(&track.key);
            track.bucket = self.flows.slots.prefetch_tags(track.hash);
        }
    }

    /// Looks for the flow by its tag, and asks for its line. True where [`Tracker::seek_elsewhere`] has to be asked too.
    #[inline]
    pub fn seek(&self, track: &mut Track) -> bool {
        (track.slot, track.absent) = (None, false);
        if let Kind::Error | Kind::Later | Kind::Alone = track.kind {
            return false;
        }
        match self.flows.slots.likely(track.hash, track.bucket) {
            Likely::Here(slot) => {
                self.flows.slots.prefetch_flow(&slot);
                track.slot = Some(slot);
                false
            }
            Likely::Elsewhere => true,
            Likely::Unsure => false,
            Likely::Nowhere => {
                track.absent = true;
                false
            }
        }
    }

    /// Looks in the second bucket, once the others of the burst were looked for.
    pub fn seek_elsewhere(&self, track: &mut Track) {
        match self.flows.slots.likely_elsewhere(track.hash) {
            Likely::Here(slot) => {
                self.flows.slots.prefetch_flow(&slot);
                track.slot = Some(slot);
            }
            Likely::Nowhere => track.absent = true,
            Likely::Elsewhere | Likely::Unsure => {}
        }
    }

    /// The shortest way, for most frames: one of many of a live flow that this generation has judged, whose payload is of no interest. The flow's control word, and
    /// its state moves on; `None` of any other frame, about which [`Tracker::find`] knows more.
    #[inline(always)]
    pub fn express(&self, track: &Track, side: Side, generation: u64) -> Option<u64> {
        let slot = track.slot.filter(|_| track.ordinary)?;
        let slots = &self.flows.slots;
        let (word, ends) = slots.get(&slot, &track.key)?;
        let own = usize::from(Control::initiator_of(word) != side);
        let over = slot.tag.tick() != self.tick && self.flows.limits.over(slot.tag, self.tick);
        if over || !Control::is_settled(word, generation) {
            return None;
        }
        if track.kind == Kind::Tcp {
            if !Control::is_open(word) {
                return None;
            }
            let shift = Control::scale_of(word, own);
            let told = tcp::told(track.acknowledges, shift, ends[own]);
            if told != ends[own] {
                slots.set_state(&slot, own, told);
            }
        } else if own == 1 && !Control::is_answered(word) {
            return None;
        }
        if slot.tag.tick() != self.tick {
            slots.tick(&slot, self.tick);
        }
        Some(word)
    }

    /// What is known of a frame under a policy of this generation. Of a live flow the state moves on.
    #[inline]
    pub fn find(
        &mut self,
        track: &mut Track,
        meta: &Meta,
        frame: &[u8],
        side: Side,
        generation: u64,
    ) -> Found {
        match self.express(track, side, generation) {
            Some(word) => Found::of(word, side),
            None => self.find_rest(track, meta, frame, side, generation),
        }
    }

    /// The same where [`Tracker::express`] was asked already, and does not know.
    #[inline(never)]
    pub fn find_rest(
        &mut self,
        track: &mut Track,
        meta: &Meta,
        frame: &[u8],
        side: Side,
        generation: u64,
    ) -> Found {
        match track.kind {
            Kind::Tcp => {
                let header = frame.get(usize::from(meta.l4)..).unwrap_or_default();
                let len = meta.end.saturating_sub(meta.payload);
                track.segment = Segment::read(header, len).unwrap_or_default();
            }
            Kind::Plain | Kind::Query { .. } => {}
            Kind::Error => return self.related(meta, frame, side),
            Kind::Alone | Kind::Later => return Found::Ask(None, Why::Alone),
        }
        if track.absent {
            return self.unknown(track);
        }
        let slots = &self.flows.slots;
        let read = |slot: Slot| Some((slot, slots.get(&slot, &track.key)?));
        let likely = track.slot.and_then(read);
        let found = likely.or_else(|| slots.find(&track.key, track.hash).and_then(read));
        let live = found.filter(|(slot, _)| !self.flows.limits.over(slot.tag, self.tick));
        let Some((slot, (word, ends))) = live else {
            return self.unknown(track);
        };
        track.slot = Some(slot);
        // One that did not stand in the likeliest place may be an ordinary one yet.
        let ordinary = match likely {
            Some(_) => None,
            None => self.express(track, side, generation),
        };
        match ordinary {
            Some(word) => Found::of(word, side),
            None => self.judge(track, meta, frame, side, generation, (slot, word, ends)),
        }
    }

    /// Of a frame that is more than one of many.
    #[inline(never)]
    fn judge(
        &mut self,
        track: &mut Track,
        meta: &Meta,
        frame: &[u8],
        side: Side,
        generation: u64,
        (slot, word, ends): (Slot, u64, [u64; 2]),
    ) -> Found {
        track.slot = Some(slot);
        let mut control = Control::unpack(word);
        let forth = control.initiator == side;
        // What the responder was let open, another generation let it.
        let renews = control.generation != generation as u16;
        control.both &= !renews;
        match track.kind {
            Kind::Tcp if track.segment.opens() => {
                // One that the policy has ended is over too: on the same ports another may be begun, and is judged.
                if control.phase.is_over() || control.blocked {
                    return Found::Ask(None, Why::Reopens(slot));
                }
                if !forth && !control.both {
                    return Found::Ask(None, Why::Turns(slot));
                }
            }
            // Nobody has answered, so that there is nothing to acknowledge; giving up is all that is left.
            Kind::Tcp
                if control.phase == Phase::SynSent
                    && forth
                    && !control.both
                    && track.segment.flags & tcp::RST == 0 =>
            {
                return Found::Drop(Reason::NoFlow);
            }
            Kind::Query { request: true, .. } if !forth && !control.both => {
                return Found::Ask(None, Why::Turns(slot));
            }
            Kind::Query { request: false, .. } if forth && !control.both => {
                return Found::Drop(Reason::NoFlow);
            }
            _ => {}
        }
        if renews {
            let seen = Seen {
                app: control.app,
                watch: control.watch,
            };
            return Found::Ask(Some(control.initiator), Why::Renews(slot, seen));
        }
        if side == Side::Uplink && !forth && !Control::is_answered(word) {
            self.note_answer(track, meta);
        }
        if control.watch.is_on() {
            return self.watched(track, meta, frame, (slot, word, ends), control, forth);
        }
        self.advance(&slot, track, meta.proto, word, control, ends, forth);
        Found::Flow {
            rule: control.rule,
            blocked: control.blocked,
            forth,
            seen: Seen {
                app: control.app,
                watch: control.watch,
            },
        }
    }

    fn note_answer(&mut self, track: &Track, meta: &Meta) {
        let answers = match track.kind {
            // A refusal is no answer, and the end of a connection none any more.
            Kind::Tcp => track.segment.flags & (tcp::SYN | tcp::RST) == tcp::SYN,
            Kind::Plain | Kind::Query { request: false, .. } => true,
            _ => false,
        };
        if answers && self.answered.len() < self.answered.capacity() {
            self.answered.push(Answer {
                host: meta.dst,
                v6: meta.net == Net::V6,
                mac: meta.dst_mac,
                peer: meta.src,
                port: match track.kind {
                    Kind::Query { .. } => 0,
                    _ => meta.sport,
                },
                router: meta.src_mac,
                proto: meta.proto,
            });
        }
    }

    /// Of a frame without a flow.
    #[inline(never)]
    fn unknown(&mut self, track: &Track) -> Found {
        let bit = 1 << (track.hash & 63);
        let opens = match track.kind {
            Kind::Tcp => track.segment.opens(),
            Kind::Query { request, .. } => request,
            _ => true,
        };
        if opens {
            self.opening |= bit;
            Found::Ask(None, Why::Opens)
        } else if self.opening & bit != 0 {
            Found::Again
        } else if track.kind == Kind::Tcp
            && self.adopts()
            && track.segment.flags & (tcp::SYN | tcp::RST) == 0
        {
            Found::Adopt
        } else {
            Found::Drop(Reason::NoFlow)
        }
    }

    /// Whether connections without a flow are adopted now.
    fn adopts(&self) -> bool {
        let refusing = self.flows.overflow == Overflow::Allow;
        self.adopting || (refusing && self.flows.adopt_until.load(Relaxed) > self.steady)
    }

    /// An ICMP error passes where the packet that it quotes is of a live flow, and where the rules do not forbid it.
    #[inline(never)]
    fn related(&self, meta: &Meta, frame: &[u8], side: Side) -> Found {
        let body = frame.get(usize::from(meta.payload)..usize::from(meta.end));
        let quoted = body.and_then(|body| quote::parse(body, meta));
        let known = quoted.is_some_and(|quoted| {
            // It went the other way, and its sender is the one who is told.
            let side = side.other();
            let (sport, dport) = match Kind::of(&quoted.meta) {
                Kind::Tcp | Kind::Plain => (quoted.meta.sport, quoted.meta.dport),
                Kind::Query { asks, .. } => query_ports(side, quoted.identifier, asks),
                _ => return false,
            };
            let key = FlowKey::new(&quoted.meta, side, sport, dport).words();
            let slot = self.flows.slots.find(&key, self.flows.hash(&key));
            let live = slot.filter(|slot| !self.flows.limits.over(slot.tag, self.tick));
            quoted.meta.src == meta.dst
                && live.is_some_and(|slot| slot.tag.class() != Class::Blocked as usize)
        });
        match known {
            true => Found::Ask(None, Why::Related),
            false => Found::Drop(Reason::IcmpUnrelated),
        }
    }

    /// Moves the state of a live flow on by one frame.
    #[inline]
    #[expect(
        clippy::too_many_arguments,
        reason = "what was read of the flow is handed on, not read again"
    )]
    pub(super) fn advance(
        &self,
        slot: &Slot,
        track: &Track,
        proto: u8,
        word: u64,
        control: Control,
        ends: [u64; 2],
        forth: bool,
    ) {
        let slots = &self.flows.slots;
        let mut next = control;
        if track.kind == Kind::Tcp {
            let own = usize::from(!forth);
            if track.segment.opens() {
                // The same SYN once more, or another one in its place before anybody answered.
                if control.phase == Phase::SynSent && forth {
                    next.scale = [track.segment.scale.unwrap_or(0), 0];
                    slots.set_state(slot, 0, tcp::opening_again(&track.segment, ends[0]));
                }
            } else {
                let step = tcp::advance(
                    control.phase,
                    control.scale,
                    forth,
                    &track.segment,
                    ends[own],
                    ends[1 - own],
                );
                (next.phase, next.scale) = (step.phase, step.scale);
                if step.sender != ends[own] {
                    slots.set_state(slot, own, step.sender);
                }
            }
        } else if !forth {
            next.phase = Phase::Answered;
        }
        if next != control {
            // If another worker changed it first, that is as good an order of the two frames as this one.
            slots.change(slot, word, next.pack());
        }
        slots.touch(slot, next.class(proto) as u8, self.tick);
    }

    /// Writes down what the rules said of a frame that [`Found::Ask`] was the answer to: `rule` decides, and lets it through unless `blocked`.
    /// Call it for what passes, and for what does not only where a flow is to stay that is not let through. Its slot is in `track` from then on.
    pub fn settle(
        &mut self,
        track: &mut Track,
        why: Why,
        meta: &Meta,
        side: Side,
        judged: Judged,
        counters: &FlowCounters,
    ) -> Settled {
        let fresh = self.fresh(track, judged, side, meta.proto);
        let blocked = judged.blocked;
        match why {
            Why::Alone | Why::Related => Settled::Done,
            Why::Opens => self.open(track, &fresh, meta, side, counters),
            Why::Reopens(slot) => match self.flows.slots.restart(&slot, &fresh) {
                Some(slot) => {
                    self.flows.streams.forget(&track.key, track.hash);
                    track.slot = Some(slot);
                    counters.opened.add(1);
                    counters.expired.add(1);
                    Settled::Done
                }
                None => self.open(track, &fresh, meta, side, counters),
            },
            Why::Turns(slot) => {
                if blocked {
                    // The flow of the other side stays as it is.
                    return Settled::Done;
                }
                self.change(&slot, meta.proto, |control| control.both = true);
                Settled::Done
            }
            Why::Renews(slot, _) => {
                counters.judged_again.add(1);
                let was = self.change(&slot, meta.proto, |control| {
                    control.generation = judged.generation as u16;
                    control.both = false;
                    control.rule = judged.rule;
                    control.blocked = blocked;
                    (control.app, control.watch) = (judged.seen.app, judged.seen.watch);
                });
                if blocked && was.is_some_and(|was| !was.blocked) {
                    counters.ended.add(1);
                }
                self.pass(track, &slot, meta, side);
                Settled::Done
            }
        }
    }

    /// Makes a flow of a connection that was open before the start, opened by `initiator`.
    pub fn adopt(
        &mut self,
        track: &mut Track,
        meta: &Meta,
        side: Side,
        initiator: Side,
        judged: Judged,
        counters: &FlowCounters,
    ) -> Settled {
        let mut fresh = self.fresh(track, judged, initiator, meta.proto);
        let control = Control {
            phase: Phase::Established,
            scale: [0, 0],
            ..Control::unpack(fresh.control)
        };
        // Nothing is known of the windows, so that no reset counts until each end has told its own. Scales were on the SYNs.
        fresh.control = control.pack();
        fresh.class = control.class(meta.proto) as u8;
        fresh.state = [0, 0];
        let settled = self.open(track, &fresh, meta, side, counters);
        counters.adopted.add(u64::from(settled == Settled::Done));
        settled
    }

    /// A live flow, and one more frame of it.
    fn pass(&self, track: &Track, slot: &Slot, meta: &Meta, side: Side) {
        if let Some((word, ends)) = self.flows.slots.read(slot) {
            let control = Control::unpack(word);
            let forth = control.initiator == side;
            self.advance(slot, track, meta.proto, word, control, ends, forth);
        }
    }

    /// Changes the control word, whoever else does; what it was before.
    pub(super) fn change(
        &self,
        slot: &Slot,
        proto: u8,
        change: impl Fn(&mut Control),
    ) -> Option<Control> {
        let slots = &self.flows.slots;
        loop {
            let (word, _) = slots.read(slot)?;
            let before = Control::unpack(word);
            let mut control = before;
            change(&mut control);
            if control == before || slots.change(slot, word, control.pack()) {
                slots.touch(slot, control.class(proto) as u8, self.tick);
                return Some(before);
            }
        }
    }

    fn fresh(&self, track: &Track, judged: Judged, initiator: Side, proto: u8) -> Fresh {
        let tcp = track.kind == Kind::Tcp;
        let control = Control {
            rule: judged.rule,
            generation: judged.generation as u16,
            phase: if tcp {
                Phase::SynSent
            } else {
                Phase::Unanswered
            },
            initiator,
            blocked: judged.blocked,
            both: false,
            scale: match tcp {
                true => [track.segment.scale.unwrap_or(0), 0],
                false => [0, 0],
            },
            app: judged.seen.app,
            watch: judged.seen.watch,
        };
        Fresh {
            class: control.class(proto) as u8,
            tick: self.tick,
            control: control.pack(),
            state: if tcp {
                [tcp::opening(&track.segment), 0]
            } else {
                [0, 0]
            },
        }
    }

    fn open(
        &mut self,
        track: &mut Track,
        fresh: &Fresh,
        meta: &Meta,
        side: Side,
        counters: &FlowCounters,
    ) -> Settled {
        track.slot = None;
        let flows = &*self.flows;
        let (slots, tick) = (&flows.slots, self.tick);
        let inside = FlowKey::from_words(&track.key).inside;
        let rehash = |key: &KeyWords| flows.hash(key);
        let over = |tag: Tag| flows.limits.over(tag, tick);
        let oldest = |tag: Tag| {
            Class::makes_room(tag.class())
                .then(|| u32::from(u16::MAX - state::idle(tick, tag.tick())))
        };
        let host = flows.host(inside);
        if host.load(Relaxed) >= flows.per_host && slots.find(&track.key, track.hash).is_none() {
            // A host that has all it may have pays for a new flow with an old one of its own.
            let own = |key: &KeyWords| FlowKey::from_words(key).inside == inside;
            let Some(gone) = slots.make_room(track.hash, oldest, own, rehash) else {
                counters.refused_host.add(1);
                return self.refused(Refused::Host);
            };
            flows.gone(&gone);
            counters.evicted.add(1);
        }
        let gone = |key: &KeyWords| {
            flows.gone(key);
            counters.evicted.add(1);
        };
        // Counted before others can see it, and throw it out again.
        host.fetch_add(1, Relaxed);
        let opened = slots.open(&track.key, track.hash, fresh, over, oldest, rehash, gone);
        if !matches!(opened, Opened::New(_)) {
            host.fetch_sub(1, Relaxed);
        }
        match opened {
            Opened::New(slot) => {
                track.slot = Some(slot);
                counters.opened.add(1);
            }
            Opened::Exists(slot) => {
                track.slot = Some(slot);
                let ended = track.kind == Kind::Tcp
                    && track.segment.opens()
                    && slots
                        .read(&slot)
                        .is_some_and(|(word, _)| Control::unpack(word).phase.is_over());
                if over(slot.tag) || ended {
                    if let Some(slot) = slots.restart(&slot, fresh) {
                        track.slot = Some(slot);
                        flows.streams.forget(&track.key, track.hash);
                        counters.opened.add(1);
                        counters.expired.add(1);
                    }
                } else {
                    self.pass(track, &slot, meta, side);
                }
            }
            Opened::Full => {
                counters.refused_full.add(1);
                return self.refused(Refused::Full);
            }
        }
        Settled::Done
    }

    fn refused(&self, why: Refused) -> Settled {
        match self.flows.overflow {
            Overflow::Drop => Settled::Refused(why),
            Overflow::Allow => {
                let until = self.steady.saturating_add(ADOPT_AFTER_REFUSAL);
                self.flows.adopt_until.fetch_max(until, Relaxed);
                Settled::Done
            }
        }
    }
}

/// The two ports of an ICMP query in a flow's key: the identifier inside, the type outside, whichever way it goes.
fn query_ports(side: Side, identifier: u16, asks: u8) -> (u16, u16) {
    match side {
        Side::Lan => (identifier, u16::from(asks)),
        Side::Uplink => (u16::from(asks), identifier),
    }
}

/// The identifier of an ICMP query, bytes 4 and 5 of the message (RFC 792, RFC 4443 section 4.1); 0 where it ends before.
fn identifier(meta: &Meta, frame: &[u8]) -> u16 {
    let at = usize::from(meta.l4) + 4;
    let bytes = frame
        .get(at..usize::from(meta.end))
        .and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u16::from_be_bytes(*bytes))
}

/// What the rules are asked about where [`Found::Ask`] says so.
#[inline]
pub fn key_of(meta: &Meta, side: Side, opened_from: Option<Side>, kind: Kind) -> Key {
    match opened_from {
        None => Key::new(meta, side),
        Some(initiator) => opener(meta, side, initiator, kind),
    }
}

/// The key of the frame that would open the flow of this frame today. What a frame says only of itself is as it is on a frame that opens: a SYN, no
/// fragment; the MAC address of an initiator on the far side is the one that this frame goes to.
pub fn opener(meta: &Meta, side: Side, initiator: Side, kind: Kind) -> Key {
    let key = Key::new(meta, side);
    let mut key = Key {
        tcp_flags: if kind == Kind::Tcp { tcp::SYN } else { 0 },
        fragment: false,
        ..key
    };
    if side != initiator {
        (key.src, key.dst) = (key.dst, key.src);
        (key.sport, key.dport) = (key.dport, key.sport);
        key.src_mac = meta.dst_mac;
        key.side = initiator;
    }
    if let Kind::Query { asks, .. } = kind {
        (key.sport, key.dport) = (u16::from(asks), 0);
    }
    key
}
