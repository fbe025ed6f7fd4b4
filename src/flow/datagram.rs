//! Fragments: those of one datagram share the verdict of its first, whichever worker sees them (RFC 791 section 3.2, RFC 8200 section 4.5).
//!
//! A datagram is known from its first fragment on, until all of it was seen, or for [`LIFETIME`]. What of it has gone by is kept as two bits
//! for each eight bytes: seen, and a fragment starts here. So an overlap is found whatever the order, and an exact duplicate is told from one.

use crate::frame::{Frag, Meta, Net, tunnel};
use crate::policy::{RuleSlot, Side, Verdict};
use crate::telemetry::Reason;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, TryLockError};

/// Datagrams in one set, which one lock guards for the time of one fragment.
const WAYS: usize = 4;
/// How long a datagram may take, nanoseconds: RFC 791 asks for no less than 15 s, Linux gives 30.
pub const LIFETIME: u64 = 30_000_000_000;
/// Eight-byte units of the longest datagram.
const UNITS: usize = 65_536 / 8;
const WORDS: usize = UNITS / 64;

/// What names a datagram: addresses, identification, and the protocol of the IPv4 header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name {
    src: u128,
    dst: u128,
    id: u32,
    vlan: [u16; 2],
    /// Of a sender on the LAN: nobody adds to the datagram of another.
    mac: [u8; 6],
    tunnel: u8,
    proto: u8,
    v6: bool,
    side: Side,
}

impl Name {
    fn of(meta: &Meta, side: Side) -> Name {
        Name {
            src: meta.src,
            dst: meta.dst,
            id: meta.frag_id,
            vlan: [meta.vlan[0] & 0xfff, meta.vlan[1] & 0xfff],
            mac: match side {
                Side::Lan => meta.src_mac,
                Side::Uplink => [0; 6],
            },
            tunnel: tunnel::number(meta),
            // Of IPv6 the addresses and the identification are all (RFC 8200 section 4.5).
            proto: if meta.net == Net::V4 {
                meta.frag_proto
            } else {
                0
            },
            v6: meta.net == Net::V6,
            side,
        }
    }
}

/// The bytes of one fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    /// In units of 8 bytes.
    units: (usize, usize),
    /// In bytes, for the last one.
    end: usize,
    last: bool,
}

impl Span {
    fn of(meta: &Meta) -> Span {
        let start = usize::from(meta.frag_offset);
        let end = start + usize::from(meta.end.saturating_sub(meta.frag_data));
        Span {
            units: (start / 8, end.div_ceil(8).min(UNITS)),
            end,
            last: !meta.frag_more,
        }
    }
}

/// What the first fragment of a datagram got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its verdict.
    pub verdict: Verdict,
    /// The rule behind it.
    pub rule: Option<RuleSlot>,
}

/// What a fragment gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// What the first of its datagram got.
    Inherits(Outcome),
    /// The first was not seen yet.
    Waits,
    /// It overlaps another one, or comes after one that did.
    Overlaps,
    /// It was seen already, byte for byte in the same place.
    Duplicate,
}

struct Datagram {
    name: Name,
    /// The place is taken.
    live: bool,
    since: u64,
    outcome: Outcome,
    /// It had an overlap: no more of it passes.
    spoilt: bool,
    /// Its length in bytes, once the last fragment was seen.
    len: Option<usize>,
    /// Units seen, and the end of the highest.
    seen: usize,
    highest: usize,
    covered: [u64; WORDS],
    starts: [u64; WORDS],
}

impl Datagram {
    /// A free place.
    fn nothing() -> Datagram {
        Datagram {
            name: Name {
                src: 0,
                dst: 0,
                id: 0,
                vlan: [0; 2],
                mac: [0; 6],
                tunnel: 0,
                proto: 0,
                v6: false,
                side: Side::Lan,
            },
            live: false,
            since: 0,
            outcome: Outcome {
                verdict: Verdict::Drop(Reason::FragmentOrphan),
                rule: None,
            },
            spoilt: false,
            len: None,
            seen: 0,
            highest: 0,
            covered: [0; WORDS],
            starts: [0; WORDS],
        }
    }

    /// Of another datagram from now on.
    fn restart(&mut self, name: Name, since: u64, outcome: Outcome) {
        (self.name, self.since, self.outcome) = (name, since, outcome);
        (self.live, self.spoilt, self.len) = (true, false, None);
        (self.seen, self.highest) = (0, 0);
        self.covered = [0; WORDS];
        self.starts = [0; WORDS];
    }

    fn take(&mut self, span: &Span) -> Piece {
        if self.spoilt {
            return Piece::Overlaps;
        }
        if self.is_duplicate(span) {
            return Piece::Duplicate;
        }
        let (start, end) = span.units;
        let beyond = self.len.is_some_and(|len| span.last || span.end > len);
        let more_seen = span.last && self.highest > end;
        if beyond || more_seen || self.any(start, end) {
            self.spoilt = true;
            return Piece::Overlaps;
        }
        for unit in start..end {
            set(&mut self.covered, unit);
        }
        set(&mut self.starts, start);
        self.seen += end - start;
        self.highest = self.highest.max(end);
        if span.last {
            self.len = Some(span.end);
        }
        Piece::Inherits(self.outcome)
    }

    /// Some unit from `start` to before `end` was seen.
    fn any(&self, start: usize, end: usize) -> bool {
        (start..end).any(|unit| get(&self.covered, unit))
    }

    /// A fragment of just these bytes was seen: it starts where one does, all of it is there, none starts within, and it ends where one ends.
    fn is_duplicate(&self, span: &Span) -> bool {
        let (start, end) = span.units;
        let ends = match self.len {
            Some(len) if len.div_ceil(8) == end => span.last && span.end == len,
            _ => !span.last && (!get(&self.covered, end) || get(&self.starts, end)),
        };
        ends && get(&self.starts, start)
            && (start..end).all(|unit| get(&self.covered, unit))
            && !(start + 1..end).any(|unit| get(&self.starts, unit))
    }

    fn complete(&self) -> bool {
        self.len.is_some_and(|len| self.seen == len.div_ceil(8))
    }
}

fn get(bits: &[u64; WORDS], unit: usize) -> bool {
    bits.get(unit / 64)
        .is_some_and(|word| word >> (unit % 64) & 1 == 1)
}

fn set(bits: &mut [u64; WORDS], unit: usize) {
    if let Some(word) = bits.get_mut(unit / 64) {
        *word |= 1 << (unit % 64);
    }
}

type Set = [Box<Datagram>; WAYS];

/// The datagrams under way, of all workers. Every place has its memory from the start.
pub struct Datagrams {
    sets: Box<[Mutex<Set>]>,
    random: RandomState,
    /// First fragments that were seen: as long as it stays the same, nothing that waits has to be looked at.
    firsts: AtomicU64,
}

impl Datagrams {
    /// With room for about so many.
    pub fn new(count: usize) -> Datagrams {
        let set = || std::array::from_fn(|_| Box::new(Datagram::nothing()));
        Datagrams {
            sets: (0..count.div_ceil(WAYS).max(1))
                .map(|_| Mutex::new(set()))
                .collect(),
            random: RandomState::new(),
            firsts: AtomicU64::new(0),
        }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        Datagrams::bytes_of(self.sets.len() * WAYS)
    }

    /// Bytes for so many.
    pub(super) fn bytes_of(count: usize) -> usize {
        let sets = count.div_ceil(WAYS).max(1);
        sets * (size_of::<Mutex<Set>>() + WAYS * size_of::<Datagram>())
    }

    /// A fragment that is the first, and what it got as a packet; what it gets as a fragment: its own outcome, unless it is a duplicate or overlaps.
    pub fn first(&self, meta: &Meta, side: Side, now: u64, outcome: Outcome) -> Piece {
        debug_assert_eq!(meta.frag, Frag::First);
        let name = Name::of(meta, side);
        let mut set = self.set(&name);
        if let Some(piece) = self.take(&mut set, &name, now, &Span::of(meta)) {
            return piece;
        }
        let Some(place) = room(&mut set, &name, now) else {
            return Piece::Inherits(outcome);
        };
        place.restart(name, now, outcome);
        self.firsts.fetch_add(1, Relaxed);
        place.take(&Span::of(meta))
    }

    /// How many datagrams have begun.
    pub fn begun(&self) -> u64 {
        self.firsts.load(Relaxed)
    }

    /// A fragment that is not the first.
    pub fn later(&self, meta: &Meta, side: Side, now: u64) -> Piece {
        let name = Name::of(meta, side);
        let mut set = self.set(&name);
        self.take(&mut set, &name, now, &Span::of(meta))
            .unwrap_or(Piece::Waits)
    }

    fn set(&self, name: &Name) -> MutexGuard<'_, Set> {
        let at = self.random.hash_one(name) as usize % self.sets.len();
        locked(&self.sets[at])
    }

    /// What a fragment of a datagram that is known gets. One that is whole or too old is forgotten.
    fn take(&self, set: &mut Set, name: &Name, now: u64, span: &Span) -> Option<Piece> {
        let held = set
            .iter_mut()
            .find(|held| held.live && held.name == *name)?;
        if now.saturating_sub(held.since) > LIFETIME {
            held.live = false;
            return None;
        }
        let piece = held.take(span);
        held.live = !held.complete();
        Some(piece)
    }
}

/// A free place; else that of a datagram that is too old, else of the oldest of the same sender, else of the oldest.
fn room<'a>(set: &'a mut Set, name: &Name, now: u64) -> Option<&'a mut Datagram> {
    let place = set.iter_mut().min_by_key(|held| {
        let over = now.saturating_sub(held.since) > LIFETIME;
        (held.live, !over, held.name.src != name.src, held.since)
    })?;
    Some(place)
}

/// Locked by trying again and again: a lock is held for the time of one packet, and a wait by the kernel would take longer.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    loop {
        match mutex.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => std::hint::spin_loop(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DROP: Outcome = Outcome {
        verdict: Verdict::Drop(Reason::Rule),
        rule: Some(RuleSlot(3)),
    };

    /// A fragment of `len` bytes at `start`.
    fn piece(id: u32, start: u16, len: u16, more: bool) -> Meta {
        Meta {
            src: 1,
            dst: 2,
            net: Net::V4,
            frag: if start == 0 { Frag::First } else { Frag::Later },
            frag_id: id,
            frag_offset: start,
            frag_more: more,
            frag_proto: 17,
            frag_data: 34,
            end: 34 + len,
            ..Meta::default()
        }
    }

    fn take(all: &Datagrams, meta: &Meta, now: u64) -> Piece {
        match meta.frag {
            Frag::First => all.first(meta, Side::Lan, now, DROP),
            _ => all.later(meta, Side::Lan, now),
        }
    }

    #[test]
    fn later_fragments_get_what_the_first_got_in_any_order_and_wait_for_it() {
        let all = Datagrams::new(2048);
        assert_eq!(take(&all, &piece(1, 1480, 1480, true), 1), Piece::Waits);
        assert_eq!(
            take(&all, &piece(1, 0, 1480, true), 1),
            Piece::Inherits(DROP)
        );
        assert_eq!(
            take(&all, &piece(1, 2960, 100, false), 2),
            Piece::Inherits(DROP)
        );
        assert_eq!(
            take(&all, &piece(1, 1480, 1480, true), 3),
            Piece::Inherits(DROP)
        );
        assert_eq!(
            take(&all, &piece(1, 1480, 1480, true), 4),
            Piece::Waits,
            "it was complete"
        );
    }

    #[test]
    fn another_datagram_is_another_by_each_part_of_its_name() {
        let all = Datagrams::new(2048);
        take(&all, &piece(1, 0, 1480, true), 1);
        let later = piece(1, 1480, 8, true);
        let others = [
            Meta { src: 9, ..later },
            Meta { dst: 9, ..later },
            Meta {
                frag_id: 2,
                ..later
            },
            Meta {
                frag_proto: 6,
                ..later
            },
            Meta {
                src_mac: [6; 6],
                ..later
            },
            Meta {
                vlan: [5, 0],
                ..later
            },
            Meta {
                net: Net::V6,
                ..later
            },
        ];
        for other in others {
            assert_eq!(all.later(&other, Side::Lan, 1), Piece::Waits);
        }
        assert_eq!(all.later(&later, Side::Uplink, 1), Piece::Waits);
        // The priority of a tag is no part of it.
        let tagged = Meta {
            vlan: [0xe000, 0],
            ..later
        };
        assert_eq!(all.later(&tagged, Side::Lan, 1), Piece::Inherits(DROP));
    }

    #[test]
    fn an_overlap_ends_the_datagram_and_an_exact_duplicate_ends_only_itself() {
        for overlap in [
            piece(1, 1472, 16, true),
            piece(1, 0, 1472, true),
            piece(1, 0, 1488, true),
            piece(1, 8, 1472, true),
            piece(1, 1480, 1488, true),
            piece(1, 2952, 16, true),
            piece(1, 2960, 1, false),
            piece(1, 1480, 8, false),
            piece(1, 1480, 1480, false),
        ] {
            let all = Datagrams::new(2048);
            for part in [
                piece(1, 0, 1480, true),
                piece(1, 1480, 1480, true),
                piece(1, 2960, 1480, true),
            ] {
                assert_eq!(take(&all, &part, 1), Piece::Inherits(DROP));
                assert_eq!(take(&all, &part, 1), Piece::Duplicate);
            }
            assert_eq!(take(&all, &overlap, 1), Piece::Overlaps, "{overlap:?}");
            assert_eq!(
                take(&all, &piece(1, 4440, 8, false), 1),
                Piece::Overlaps,
                "the rest"
            );
            assert_eq!(
                take(&all, &piece(1, 0, 1480, true), 1),
                Piece::Overlaps,
                "the first again"
            );
        }
    }

    #[test]
    fn nothing_comes_after_the_last_fragment() {
        let all = Datagrams::new(2048);
        take(&all, &piece(1, 0, 16, true), 1);
        assert_eq!(
            take(&all, &piece(1, 32, 5, false), 1),
            Piece::Inherits(DROP)
        );
        assert_eq!(take(&all, &piece(1, 32, 5, false), 1), Piece::Duplicate);
        assert_eq!(take(&all, &piece(1, 40, 8, true), 1), Piece::Overlaps);
    }

    #[test]
    fn a_datagram_is_forgotten_in_time_and_the_same_name_is_free_for_another() {
        let all = Datagrams::new(2048);
        take(&all, &piece(1, 0, 16, true), 1);
        assert_eq!(
            take(&all, &piece(1, 16, 8, true), LIFETIME + 2),
            Piece::Waits
        );
        assert_eq!(
            take(&all, &piece(1, 0, 16, true), LIFETIME + 3),
            Piece::Inherits(DROP)
        );
    }

    #[test]
    fn a_sender_of_many_datagrams_that_never_end_pays_with_its_own() {
        let all = Datagrams::new(2048);
        let other = Meta {
            src: 77,
            ..piece(5, 0, 16, true)
        };
        all.first(&other, Side::Lan, 1, DROP);
        for id in 0..100_000 {
            let n = u64::from(id);
            assert_eq!(
                take(&all, &piece(id, 0, 16, true), 2 + n),
                Piece::Inherits(DROP)
            );
        }
        let rest = Meta {
            src: 77,
            ..piece(5, 16, 8, false)
        };
        assert_eq!(held(&all), 2048);
        assert_eq!(all.later(&rest, Side::Lan, 200_000), Piece::Inherits(DROP));
    }

    fn held(all: &Datagrams) -> usize {
        let sets = all.sets.iter();
        sets.map(|set| locked(set).iter().filter(|held| held.live).count())
            .sum()
    }

    proptest! {
        /// Whatever arrives: two fragments that passed never share a byte, unless everything after was dropped.
        #[test]
        fn no_byte_passes_twice(parts in proptest::collection::vec((0u16..40, 1u16..80, any::<bool>()), 1..30)) {
            let all = Datagrams::new(2048);
            take(&all, &piece(1, 0, 16, true), 1);
            let mut passed = vec![0u32; 1000];
            passed[..16].fill(1);
            for (unit, len, more) in parts {
                let len = if more { len.next_multiple_of(8) } else { len };
                let part = piece(1, unit * 8, len, more);
                if matches!(take(&all, &part, 1), Piece::Inherits(_)) && unit > 0 {
                    let start = usize::from(unit * 8);
                    passed[start..start + usize::from(len)].iter_mut().for_each(|n| *n += 1);
                }
                // A datagram that was complete is forgotten, and the name is free.
                if held(&all) == 0 {
                    break;
                }
            }
            prop_assert!(passed.iter().all(|n| *n <= 1));
        }
    }
}
