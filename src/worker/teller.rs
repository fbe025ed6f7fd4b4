//! From frames that alert to events: the first of a host and a rule at once, those after it counted into the next, so that a loud host costs neither the worker nor
//! the ring more than a quiet one.
//!
//! What is counted here and not told yet is told when it is due, or when another host takes the place: nothing is left out of the count of an incident but what is counted as lost.

use crate::app::App;
use crate::frame::Meta;
use crate::policy::{RuleSlot, Side, Verdict};
use crate::telemetry::event::{Event, Snippet};
use crate::telemetry::{Cause, Counter, EventRing};
use std::hash::{BuildHasher, RandomState};

/// Hosts and rules that are counted at once; a power of two.
const TALLIES: usize = 1024;
/// Places that each of them may have, so that two that are loud at once do not turn each other out all the time.
const WAYS: usize = 8;
/// A repeat is told at most this often, nanoseconds.
const EVERY: u64 = 250_000_000;
/// Places that are looked at in one turn for what is due.
const SWEPT: usize = 4;
/// Counters of new hosts by MAC address; a power of two.
const MACS: usize = 256;
/// New hosts and rules that one MAC address may tell of in a second: somebody who makes addresses up leaves room for others.
const NEW: u32 = 500;

/// Who alerts, and for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Who {
    cause: Cause,
    mac: [u8; 6],
    /// 0 where the address is a lie.
    host: u128,
    shadow: bool,
}

/// What each frame that alerts is counted by: one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Tally {
    who: Who,
    /// Frames that no event has told of.
    pending: u32,
    /// When the next repeat may be told.
    next: u64,
    /// A bit for each destination by its hash: a new one is told at once.
    seen: u64,
    /// What its payload was, as far as it was told.
    app: Option<App>,
}

const _: () = assert!(size_of::<Tally>() == 64);

/// The rest of it: as it was told last, without the payload.
#[derive(Clone, Copy)]
struct Told {
    meta: Meta,
    verdict: Verdict,
    side: Side,
    len: u32,
}

#[derive(Clone, Copy, Default)]
struct Budget {
    second: u64,
    used: u32,
}

/// One worker's way of telling.
pub(super) struct Teller {
    ring: EventRing,
    /// By place, [`WAYS`] to a bucket; 0 where there is no tally.
    tags: Box<[[u32; WAYS]]>,
    tallies: Box<[Tally]>,
    told: Box<[Told]>,
    budgets: Box<[Budget]>,
    /// The place that was swept last.
    at: usize,
    multiplier: u64,
    /// Who alerted last: a flood is mostly the same again.
    last: Option<Last>,
}

/// The frame that alerted last, and how often the like of it came again.
#[derive(Clone, Copy)]
struct Last {
    /// Cause, shadow and side.
    kind: u64,
    ends: Ends,
    /// What its tally knows of its payload.
    app: Option<App>,
    /// As in its tally.
    next: u64,
    /// Where its tally is.
    place: usize,
    /// Frames that the tally does not count yet.
    repeats: u32,
}

/// Whom a frame is from and where it goes to.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    mac: [u8; 6],
    host: u128,
    other: u128,
    port: u16,
}

/// One frame that alerts.
pub(super) struct Alarm<'a> {
    pub cause: Cause,
    /// Its address is a lie: the rule that alerts is about such.
    pub by_mac: bool,
    pub verdict: Verdict,
    pub shadow: bool,
    pub side: Side,
    pub len: usize,
    pub meta: &'a Meta,
    pub app: Option<App>,
    pub payload: &'a [u8],
    /// Nanoseconds since the Unix epoch, and of the clock that only goes on.
    pub now: super::Now,
}

impl Teller {
    /// Tells into this ring.
    pub fn new(ring: EventRing) -> Teller {
        Teller {
            ring,
            tags: vec![[0; WAYS]; TALLIES / WAYS].into(),
            tallies: vec![Tally::NONE; TALLIES].into(),
            told: vec![Told::NOTHING; TALLIES].into(),
            budgets: vec![Budget::default(); MACS].into(),
            at: 0,
            multiplier: RandomState::new().hash_one(0) | 1,
            last: None,
        }
    }

    /// Whether a frame is like the one before it and tells nothing new; then it is counted, and that is all.
    #[inline(always)]
    pub fn again(
        &mut self,
        cause: Cause,
        shadow: bool,
        side: Side,
        meta: &Meta,
        app: Option<App>,
        now: super::Now,
    ) -> bool {
        let Some(last) = &mut self.last else {
            return false;
        };
        let same = last.kind == kind(cause, shadow, side)
            && last.ends == Ends::of(meta, side)
            && (app.is_none() || app == last.app)
            && now.steady < last.next;
        last.repeats += u32::from(same);
        same
    }

    /// Takes one frame that alerts.
    pub fn tell(&mut self, alarm: &Alarm<'_>, lost: &Counter) {
        self.count_repeats();
        let who = Teller::who(alarm);
        let ends = Ends::of(alarm.meta, alarm.side);
        let to = [
            (ends.other >> 64) as u64,
            ends.other as u64,
            ends.port.into(),
        ];
        let destination = 1 << (self.mix(to) >> 58);
        let hash = self.hash(&who);
        let place = match self.find(hash, &who) {
            Some(place) => {
                self.count(place, alarm, destination, lost);
                place
            }
            None => match self.admit(hash, who, alarm, lost) {
                Some(place) => {
                    self.event(place, alarm, destination, lost);
                    place
                }
                None => return,
            },
        };
        self.last = self.tallies.get(place).map(|tally| Last {
            kind: kind(alarm.cause, alarm.shadow, alarm.side),
            ends,
            app: tally.app,
            next: tally.next,
            place,
            repeats: 0,
        });
    }

    /// Counts what came again where it belongs.
    fn count_repeats(&mut self) {
        if let Some(last) = self.last.take()
            && let Some(tally) = self.tallies.get_mut(last.place)
        {
            tally.pending = tally.pending.saturating_add(last.repeats);
        }
    }

    /// The place of a tally.
    fn find(&self, hash: u64, who: &Who) -> Option<usize> {
        let (bucket, tag) = place_of(hash);
        let ways = self.tags.get(bucket)?;
        let same = |way: usize| u32::from(ways[way] == tag) << way;
        let mut found: u32 = (0..WAYS).map(same).sum();
        while found != 0 {
            let place = bucket * WAYS + found.trailing_zeros() as usize;
            if self.tallies.get(place)?.who == *who {
                return Some(place);
            }
            found &= found - 1;
        }
        None
    }

    /// Counts one frame more. It is worth an event if it goes to a new destination, shows something new, or comes after a while.
    fn count(&mut self, place: usize, alarm: &Alarm<'_>, destination: u64, lost: &Counter) {
        let Some(tally) = self.tallies.get_mut(place) else {
            return;
        };
        tally.pending = tally.pending.saturating_add(1);
        let shows = alarm.app.is_some() && alarm.app != tally.app;
        if tally.seen & destination == 0 || shows || alarm.now.steady >= tally.next {
            self.event(place, alarm, destination, lost);
        }
    }

    /// Makes a tally with one frame: where there was none, or of the one in its bucket that has been quiet for longest, of which is told what was not told yet.
    /// `None`, and the frame is lost, where its machine has made too many.
    #[cold]
    fn admit(&mut self, hash: u64, who: Who, alarm: &Alarm<'_>, lost: &Counter) -> Option<usize> {
        if !self.may_be_new(&who, alarm.now.steady) {
            lost.add(1);
            return None;
        }
        let (bucket, tag) = place_of(hash);
        let ways = self.tags.get(bucket)?;
        let quiet = |way: &usize| (ways[*way] != 0, self.tallies[bucket * WAYS + way].next);
        let way = (0..WAYS).min_by_key(quiet)?;
        let place = bucket * WAYS + way;
        if ways[way] != 0 {
            self.rest(place, alarm.now.wall, lost);
        }
        self.tags[bucket][way] = tag;
        self.tallies[place] = Tally {
            who,
            pending: 1,
            ..Tally::NONE
        };
        Some(place)
    }

    /// Tells of a frame, and with it of all that were counted and not told.
    #[cold]
    fn event(&mut self, place: usize, alarm: &Alarm<'_>, destination: u64, lost: &Counter) {
        let (Some(tally), Some(told)) = (self.tallies.get_mut(place), self.told.get_mut(place))
        else {
            return;
        };
        let frames = std::mem::take(&mut tally.pending);
        let event = Event {
            time: alarm.now.wall,
            cause: tally.who.cause,
            verdict: alarm.verdict,
            shadow: tally.who.shadow,
            side: alarm.side,
            frames,
            len: alarm.len as u32,
            meta: *alarm.meta,
            app: alarm.app,
            payload: Snippet::of(alarm.payload),
        };
        if self.ring.push(event).is_err() {
            lost.add(frames.into());
        }
        tally.next = alarm.now.steady.saturating_add(EVERY);
        tally.seen |= destination;
        tally.app = alarm.app.or(tally.app);
        *told = Told {
            meta: *alarm.meta,
            verdict: alarm.verdict,
            side: alarm.side,
            len: alarm.len as u32,
        };
    }

    /// Tells of what was counted and is due; of all that was counted with `all`.
    pub fn tell_rest(&mut self, now: super::Now, all: bool, lost: &Counter) {
        let count = if all { TALLIES } else { SWEPT };
        if all || self.last.is_some_and(|last| now.steady >= last.next) {
            self.count_repeats();
        }
        for _ in 0..count {
            self.at = (self.at + 1) % TALLIES;
            let tally = &mut self.tallies[self.at];
            if tally.pending > 0 && (all || now.steady >= tally.next) {
                tally.next = now.steady.saturating_add(EVERY);
                self.rest(self.at, now.wall, lost);
            }
        }
    }

    /// What was counted since the last event.
    fn rest(&mut self, place: usize, now: u64, lost: &Counter) {
        let (Some(tally), Some(told)) = (self.tallies.get_mut(place), self.told.get(place)) else {
            return;
        };
        let frames = std::mem::take(&mut tally.pending);
        if frames == 0 {
            return;
        }
        let event = Event {
            time: now,
            cause: tally.who.cause,
            verdict: told.verdict,
            shadow: tally.who.shadow,
            side: told.side,
            frames,
            len: told.len,
            meta: told.meta,
            app: None,
            payload: Snippet::EMPTY,
        };
        if self.ring.push(event).is_err() {
            lost.add(frames.into());
        }
    }

    fn who(alarm: &Alarm<'_>) -> Who {
        let Ends { mac, host, .. } = Ends::of(alarm.meta, alarm.side);
        Who {
            cause: alarm.cause,
            mac,
            host: if alarm.by_mac { 0 } else { host },
            shadow: alarm.shadow,
        }
    }

    /// A few multiplications by a number that nobody outside knows.
    fn mix(&self, words: [u64; 3]) -> u64 {
        words.iter().fold(0, |hash: u64, word| {
            let wide = u128::from(hash ^ word ^ self.multiplier) * u128::from(self.multiplier);
            (wide as u64) ^ (wide >> 64) as u64
        })
    }

    fn hash(&self, who: &Who) -> u64 {
        let kind = kind(who.cause, who.shadow, Side::Lan);
        let mac = mac_bits(&who.mac);
        let host = (who.host >> 64) as u64 ^ (who.host as u64).rotate_left(32);
        self.mix([host, mac, kind])
    }

    /// Whether this MAC address may tell of one more host or rule in this second.
    fn may_be_new(&mut self, who: &Who, now: u64) -> bool {
        let at = (self.mix([mac_bits(&who.mac), 0, 0]) >> 32) as usize % MACS;
        let Some(budget) = self.budgets.get_mut(at) else {
            return false;
        };
        let second = now / 1_000_000_000;
        if budget.second != second {
            *budget = Budget { second, used: 0 };
        }
        budget.used += 1;
        budget.used <= NEW
    }
}

impl Tally {
    const NONE: Tally = Tally {
        who: Who {
            cause: Cause::Rule(RuleSlot(0)),
            mac: [0; 6],
            host: 0,
            shadow: false,
        },
        pending: 0,
        next: 0,
        seen: 0,
        app: None,
    };
}

impl Told {
    const NOTHING: Told = Told {
        meta: Meta::NONE,
        verdict: Verdict::Forward,
        side: Side::Lan,
        len: 0,
    };
}

/// The bucket and the tag of a tally.
fn place_of(hash: u64) -> (usize, u32) {
    ((hash >> 32) as usize % (TALLIES / WAYS), hash as u32 | 1)
}

impl Ends {
    #[inline]
    fn of(meta: &Meta, side: Side) -> Ends {
        match side {
            Side::Lan => Ends {
                mac: meta.src_mac,
                host: meta.src,
                other: meta.dst,
                port: meta.dport,
            },
            Side::Uplink => Ends {
                mac: meta.dst_mac,
                host: meta.dst,
                other: meta.src,
                port: meta.sport,
            },
        }
    }
}

/// What alerts, as a number.
#[inline]
fn kind(cause: Cause, shadow: bool, side: Side) -> u64 {
    let cause = match cause {
        Cause::Rule(RuleSlot(rule)) => u64::from(rule),
        Cause::Reason(reason) => 1 << 32 | reason as u64,
        Cause::Behaviour(behaviour) => 2 << 32 | behaviour as u64,
    };
    cause << 2 | (side as u64) << 1 | u64::from(shadow)
}

pub(super) fn mac_bits(mac: &[u8; 6]) -> u64 {
    mac.iter()
        .fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::super::Now;
    use super::*;
    use crate::frame::Net;
    use crate::telemetry::{Reason, event};

    const SECOND: u64 = 1_000_000_000;

    fn alarm(meta: &Meta, now: u64) -> Alarm<'_> {
        Alarm {
            cause: Cause::Rule(RuleSlot(1)),
            by_mac: false,
            verdict: Verdict::Drop(Reason::Rule),
            shadow: false,
            side: Side::Lan,
            len: 60,
            meta,
            app: None,
            payload: b"hello",
            now: Now::from(now),
        }
    }

    fn host(mac: u8, src: u128, dst: u128) -> Meta {
        Meta {
            net: Net::V4,
            src,
            dst,
            src_mac: [2, 0, 0, 0, 0, mac],
            ..Meta::NONE
        }
    }

    /// As a worker tells.
    fn tell(teller: &mut Teller, alarm: &Alarm<'_>, lost: &Counter) {
        let Alarm {
            cause,
            shadow,
            side,
            meta,
            app,
            now,
            ..
        } = *alarm;
        if !teller.again(cause, shadow, side, meta, app, now) {
            teller.tell(alarm, lost);
        }
    }

    fn events(teller: &Teller) -> Vec<Event> {
        std::iter::from_fn(|| teller.ring.pop()).collect()
    }

    #[test]
    fn a_million_frames_of_one_host_are_a_few_events_that_count_them_all_and_another_host_is_told_at_once()
     {
        let mut teller = Teller::new(event::ring(256));
        let lost = Counter::default();
        let (loud, quiet) = (host(9, 9, 1), host(10, 10, 1));
        let mut told = Vec::new();
        for n in 0..1_000_000 {
            // In four seconds.
            let now = SECOND + n * 4_000;
            tell(&mut teller, &alarm(&loud, now), &lost);
            if n == 500_000 {
                told.extend(events(&teller));
                tell(&mut teller, &alarm(&quiet, now), &lost);
                let [event] = events(&teller).try_into().unwrap();
                assert_eq!((event.meta.src, event.frames), (10, 1));
            }
        }
        teller.tell_rest(Now::from(9 * SECOND), true, &lost);
        told.extend(events(&teller));
        assert!(told.len() <= 18, "{}", told.len());
        let frames: u64 = told.iter().map(|event| u64::from(event.frames)).sum();
        assert_eq!((frames, lost.get()), (1_000_000, 0));
        assert_eq!(told[0].payload.bytes(), b"hello");
    }

    #[test]
    fn what_a_payload_shows_is_told_at_once_and_not_each_time() {
        let mut teller = Teller::new(event::ring(16));
        let lost = Counter::default();
        let meta = host(9, 9, 1);
        let shows = |app| Alarm {
            app: Some(app),
            ..alarm(&meta, SECOND)
        };
        tell(&mut teller, &alarm(&meta, SECOND), &lost);
        for app in [App::Tftp, App::Tftp, App::Tftp, App::Irc, App::Irc] {
            tell(&mut teller, &shows(app), &lost);
        }
        let told: Vec<_> = events(&teller).iter().map(|event| event.app).collect();
        assert_eq!(told, [None, Some(App::Tftp), Some(App::Irc)]);
    }

    #[test]
    fn every_frame_is_told_or_lost_and_none_twice() {
        let mut teller = Teller::new(event::ring(100_000));
        let lost = Counter::default();
        let (mut sent, mut told) = (0, 0);
        for n in 0..20_000 {
            let (mac, src) = if n < 500 { (1, n) } else { (2, 1_000 + n) };
            for _ in 0..1 + n % 3 {
                tell(&mut teller, &alarm(&host(mac, src, 1), SECOND), &lost);
                sent += 1;
            }
        }
        teller.tell_rest(Now::from(SECOND), true, &lost);
        for event in events(&teller) {
            told += u64::from(event.frames);
        }
        assert_eq!(told + lost.get(), sent);
    }

    #[test]
    fn hosts_that_are_loud_at_once_do_not_turn_each_other_out() {
        let mut teller = Teller::new(event::ring(100_000));
        // With which no bucket overflows.
        teller.multiplier = 0x9e37_79b9_7f4a_7c15;
        let lost = Counter::default();
        let mut sent = 0;
        for n in 0..400_000u128 {
            let meta = host((n % 250) as u8, n % 250, 1);
            tell(&mut teller, &alarm(&meta, SECOND), &lost);
            sent += 1;
        }
        let told = events(&teller);
        assert_eq!(told.len(), 250);
        teller.tell_rest(Now::from(SECOND), true, &lost);
        let frames = |told: &[Event]| {
            told.iter()
                .map(|event| u64::from(event.frames))
                .sum::<u64>()
        };
        assert_eq!(frames(&told) + frames(&events(&teller)), sent);
        assert_eq!(lost.get(), 0);
    }

    #[test]
    fn a_bucket_that_is_full_gives_up_the_tally_that_was_told_longest_ago_and_tells_the_rest_of_it()
    {
        let mut teller = Teller::new(event::ring(100_000));
        let lost = Counter::default();
        let bucket = |teller: &Teller, src: u128| {
            let meta = host(9, src, 1);
            place_of(teller.hash(&Teller::who(&alarm(&meta, 0)))).0
        };
        let first = bucket(&teller, 0);
        let same: Vec<u128> = (0..100_000)
            .filter(|src| bucket(&teller, *src) == first)
            .take(WAYS + 2)
            .collect();
        for (n, src) in same.iter().enumerate() {
            let meta = host(9, *src, 1);
            for _ in 0..3 {
                tell(&mut teller, &alarm(&meta, SECOND + n as u64), &lost);
            }
        }
        let told: Vec<_> = events(&teller)
            .iter()
            .map(|event| (event.meta.src, event.frames))
            .collect();
        let mut wanted: Vec<_> = same[..WAYS].iter().map(|src| (*src, 1)).collect();
        for (turned_out, came) in same[..2].iter().zip(&same[WAYS..]) {
            wanted.extend([(*turned_out, 2), (*came, 1)]);
        }
        assert_eq!(told, wanted);
        assert_eq!(lost.get(), 0);
    }

    #[test]
    fn each_new_destination_is_told_at_once_up_to_as_many_as_there_are_bits() {
        let mut teller = Teller::new(event::ring(4096));
        let lost = Counter::default();
        for dst in 0..1000 {
            tell(&mut teller, &alarm(&host(9, 9, dst), SECOND), &lost);
        }
        let told = events(&teller).len();
        assert!((48..=64).contains(&told), "{told}");
    }

    #[test]
    fn what_is_due_is_told_within_a_second_though_nothing_comes_after_it() {
        let mut teller = Teller::new(event::ring(16));
        let lost = Counter::default();
        for _ in 0..5 {
            tell(&mut teller, &alarm(&host(9, 9, 1), SECOND), &lost);
        }
        assert_eq!(events(&teller).len(), 1);
        for turn in 0..2000 {
            teller.tell_rest(Now::from(SECOND + turn * 500_000), false, &lost);
        }
        let [rest] = events(&teller).try_into().unwrap();
        assert_eq!((rest.frames, rest.meta.src), (4, 9));
    }

    #[test]
    fn addresses_that_are_made_up_leave_room_in_the_ring_for_another_machine() {
        let mut teller = Teller::new(event::ring(4096));
        let lost = Counter::default();
        for src in 0..1_000_000 {
            tell(&mut teller, &alarm(&host(9, 1000 + src, 1), SECOND), &lost);
        }
        assert!(lost.get() > 900_000);
        tell(&mut teller, &alarm(&host(10, 10, 1), SECOND), &lost);
        let told = events(&teller);
        assert!(told.len() <= NEW as usize + 1);
        assert_eq!(told.last().unwrap().meta.src, 10);
        // Of a rule about forged sources it is one machine all the same.
        let mut teller = Teller::new(event::ring(16));
        let lost = Counter::default();
        for src in 0..1000 {
            let meta = host(9, src, 1);
            let alarm = Alarm {
                by_mac: true,
                ..alarm(&meta, SECOND)
            };
            tell(&mut teller, &alarm, &lost);
        }
        assert_eq!((events(&teller).len(), lost.get()), (1, 0));
    }
}
