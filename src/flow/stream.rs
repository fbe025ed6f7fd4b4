//! The first bytes of what a client sends over TCP, put in order until it is known what they are: the memory for it is bounded, and most connections never need any.
//!
//! A byte that comes twice has to be the same both times: which of two the receiver would take is not for anybody in the middle to say. So what a client has said is kept until
//! its server has acknowledged it, also where one segment has said it all: a segment that is made so that this box reads it and the server does not cannot stand for what the server
//! reads after it.

use super::datagram::locked;
use super::key::FlowKey;
use super::slots::KeyWords;
use crate::app::{self, App, Identity, MOST};
use std::sync::{Mutex, MutexGuard};

/// Connections in one set, which one lock guards for the time of one segment.
const WAYS: usize = 4;
const WORDS: usize = MOST / 64;
/// Whoever has not said what it is for so long makes room first, nanoseconds.
const STALE: u64 = 30_000_000_000;
/// Segments in which a client may say what it is: each is looked at under the lock of its set.
const PIECES: u32 = 256;
/// Bytes that a server may say before a client whose application alone is let through.
const GREETING: u32 = 4096;

/// What is known of a stream after one more segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// What it is; `None` for none of those that are known.
    Is(Option<App>),
    /// What it was known to be before: the bytes agree.
    Same,
    /// Not yet. Whether the segment begins beyond what is looked at.
    More {
        /// It does.
        far: bool,
    },
    /// Bytes came twice, and were not the same.
    Overlap,
    /// It cannot be known: [`MOST`] bytes say nothing, they come in too many pieces, or what came before is kept no more.
    Hidden,
}

/// The bytes by which a stream was known, where they are not those of one segment; no more than there is room for.
pub struct Shown<'a> {
    /// Room for them.
    pub bytes: &'a mut [u8],
    /// How many there are.
    pub len: usize,
}

impl Shown<'_> {
    fn show(&mut self, bytes: &[u8]) {
        self.len = bytes.len().min(self.bytes.len());
        self.bytes[..self.len].copy_from_slice(&bytes[..self.len]);
    }
}

/// One segment of a client's, and where it belongs.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// The flow.
    pub key: &'a KeyWords,
    /// The sequence number of the stream's first byte, where nothing of it has been kept yet.
    pub base: u32,
    /// That of this segment's first.
    pub seq: u32,
    /// Its payload.
    pub bytes: &'a [u8],
    /// Something of this stream was kept before.
    pub kept: bool,
    /// It is known what the stream is, and not yet whether its server has read the same.
    pub known: bool,
    /// It may be that the receiver does not take this, and the client sends it again: data on a SYN (RFC 7413 section 4.2). It decides nothing.
    pub again: bool,
}

struct Stream {
    live: bool,
    key: KeyWords,
    base: u32,
    since: u64,
    /// Bytes by which it was known what the stream is, once it was.
    settled: Option<u32>,
    /// Bytes when that was asked last.
    asked: usize,
    /// Segments that came until then.
    pieces: u32,
    /// Bytes that the server has said until then.
    heard: u32,
    /// All that is here came on a SYN.
    only_syn: bool,
    held: [u64; WORDS],
    bytes: [u8; MOST],
}

impl Stream {
    fn nothing() -> Stream {
        Stream {
            live: false,
            key: [0; 5],
            base: 0,
            since: 0,
            settled: None,
            asked: 0,
            pieces: 0,
            heard: 0,
            only_syn: true,
            held: [0; WORDS],
            bytes: [0; MOST],
        }
    }

    fn restart(&mut self, key: &KeyWords, base: u32, since: u64) {
        (self.live, self.key, self.base, self.since) = (true, *key, base, since);
        (self.settled, self.asked, self.pieces, self.heard) = (None, 0, 0, 0);
        self.only_syn = true;
        self.held = [0; WORDS];
    }

    /// Keeps the bytes that begin `at` bytes after the first; what lies outside of what is looked at is left out. False where one of them was another before.
    fn put(&mut self, at: i32, bytes: &[u8]) -> bool {
        let skip = usize::try_from(-i64::from(at)).unwrap_or(0);
        let start = usize::try_from(at).unwrap_or(0);
        if self.pieces == 0 && self.settled.is_none() {
            // Nothing is here yet, and most streams never have a second piece before they are known.
            let bytes = bytes.get(skip..).unwrap_or_default();
            let len = bytes.len().min(MOST.saturating_sub(start));
            if let Some(room) = self.bytes.get_mut(start..start + len) {
                room.copy_from_slice(&bytes[..len]);
                self.hold(start, start + len);
            }
            return true;
        }
        for (at, byte) in (start..MOST).zip(bytes.iter().skip(skip)) {
            let (word, bit) = (at / 64, 1 << (at % 64));
            if self.held[word] & bit == 0 {
                self.held[word] |= bit;
                self.bytes[at] = *byte;
            } else if self.bytes[at] != *byte {
                return false;
            }
        }
        true
    }

    /// Marks the bytes from `start` to before `end`.
    fn hold(&mut self, start: usize, end: usize) {
        for (word, held) in self.held.iter_mut().enumerate() {
            let (from, to) = (start.max(word * 64), end.min(word * 64 + 64));
            if from < to {
                let bits = u64::MAX >> (64 - (to - from));
                *held |= bits << (from % 64);
            }
        }
    }

    /// The bytes from the first on without a gap.
    fn whole(&self) -> &[u8] {
        let full = self.held.iter().take_while(|word| **word == u64::MAX);
        let full = full.count();
        let rest = self.held.get(full).map_or(0, |word| word.trailing_ones());
        &self.bytes[..(full * 64 + rest as usize).min(MOST)]
    }

    /// Takes one more segment.
    fn take(&mut self, piece: &Piece<'_>, shown: &mut Shown<'_>) -> Known {
        let at = piece.seq.wrapping_sub(self.base) as i32;
        if !self.put(at, piece.bytes) {
            return Known::Overlap;
        }
        if self.settled.is_some() {
            return Known::Same;
        }
        self.pieces += 1;
        self.only_syn &= piece.again;
        let far = at >= MOST as i32;
        let whole = self.whole();
        let len = whole.len();
        // The same again, or what does not join: nothing that was not asked before.
        if len <= self.asked {
            return match self.pieces > PIECES {
                true => Known::Hidden,
                false => Known::More { far },
            };
        }
        if self.pieces > 1 || at != 0 {
            shown.show(whole);
        }
        let identity = app::identify_tcp(whole);
        if !piece.again {
            self.asked = len;
        }
        let is = |this: &mut Stream, app| {
            if !piece.again {
                this.settled = Some(len as u32);
            }
            Known::Is(app)
        };
        match identity {
            Identity::Known(app) => is(self, Some(app)),
            Identity::Unknown => is(self, None),
            Identity::More if len >= MOST || self.pieces > PIECES => Known::Hidden,
            Identity::More => Known::More { far },
        }
    }
}

type Set = [Box<Stream>; WAYS];

/// The streams that are not known yet, or not for certain, of all workers. Every place has its memory from the start.
pub struct Streams {
    sets: Box<[Mutex<Set>]>,
}

impl Streams {
    /// With room for about so many.
    pub fn new(count: usize) -> Streams {
        let set = || std::array::from_fn(|_| Box::new(Stream::nothing()));
        Streams {
            sets: (0..count.div_ceil(WAYS).max(1))
                .map(|_| Mutex::new(set()))
                .collect(),
        }
    }

    /// Bytes of memory.
    pub(super) fn bytes(&self) -> usize {
        Streams::bytes_of(self.sets.len() * WAYS)
    }

    /// Bytes for so many.
    pub(super) fn bytes_of(count: usize) -> usize {
        let sets = count.div_ceil(WAYS).max(1);
        sets * (size_of::<Mutex<Set>>() + WAYS * size_of::<Stream>())
    }

    /// Takes one more segment; what is known then. `hash` is that of the key; `shown` is given what the stream is known by.
    pub fn take(&self, piece: &Piece<'_>, hash: u64, now: u64, shown: &mut Shown<'_>) -> Known {
        let mut set = self.set(hash);
        let place = match place(&mut set, piece.key) {
            Some(place) => {
                // That of a connection before, or of a SYN that nobody has answered and another one is in the place of.
                let other = place.base != piece.base && (!piece.kept || piece.again);
                if other {
                    place.restart(piece.key, piece.base, now);
                }
                place
            }
            // There was no room any more to hold its client to what it has said.
            None if piece.known => return Known::Same,
            None if piece.kept => return Known::Hidden,
            None => {
                let place = room(&mut set, piece.key, now);
                place.restart(piece.key, piece.base, now);
                place
            }
        };
        let known = place.take(piece, shown);
        place.live &= !matches!(known, Known::Overlap | Known::Hidden);
        known
    }

    /// Takes into account that the server has acknowledged all up to `ack`. True where it has read what the stream is known by, or where that is kept no more.
    pub fn acknowledged(&self, key: &KeyWords, hash: u64, ack: u32) -> bool {
        let mut set = self.set(hash);
        let Some(place) = place(&mut set, key) else {
            return true;
        };
        let read = ack.wrapping_sub(place.base) as i32;
        let all = place.settled.is_some_and(|len| read >= len as i32);
        place.live &= !all;
        all
    }

    /// Takes into account that the server has said so many bytes before its client. False where that is more than a greeting.
    pub fn heard(&self, key: &KeyWords, hash: u64, base: u32, bytes: usize, now: u64) -> bool {
        let mut set = self.set(hash);
        let place = match place(&mut set, key) {
            Some(place) => place,
            None => {
                let place = room(&mut set, key, now);
                place.restart(key, base, now);
                place
            }
        };
        place.heard = place.heard.saturating_add(bytes as u32);
        place.heard <= GREETING
    }

    /// Forgets a stream.
    pub fn forget(&self, key: &KeyWords, hash: u64) {
        if let Some(place) = place(&mut self.set(hash), key) {
            place.live = false;
        }
    }

    fn set(&self, hash: u64) -> MutexGuard<'_, Set> {
        locked(&self.sets[hash as usize % self.sets.len()])
    }
}

/// The place of a stream.
fn place<'a>(set: &'a mut Set, key: &KeyWords) -> Option<&'a mut Stream> {
    let held = set.iter_mut().find(|held| held.live && held.key == *key);
    held.map(|held| &mut **held)
}

/// A free place; else one whose stream is known already, or came on a SYN alone, or has been silent for long; else of the oldest of the same host, else of the oldest.
fn room<'a>(set: &'a mut Set, key: &KeyWords, now: u64) -> &'a mut Stream {
    let inside = |key: &KeyWords| FlowKey::from_words(key).inside;
    let host = inside(key);
    let rank = |held: &Stream| {
        let stale = now.saturating_sub(held.since) > STALE;
        let spare = stale || held.settled.is_some() || held.only_syn;
        (held.live, !spare, inside(&held.key) != host, held.since)
    };
    let mut oldest = 0;
    for at in 1..WAYS {
        if rank(&set[at]) < rank(&set[oldest]) {
            oldest = at;
        }
    }
    &mut set[oldest]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KEY: KeyWords = [1, 2, 3, 4, 5];
    const MORE: Known = Known::More { far: false };
    const IRC: Known = Known::Is(Some(App::Irc));

    fn piece<'a>(key: &'a KeyWords, seq: u32, bytes: &'a [u8], kept: bool) -> Piece<'a> {
        Piece {
            key,
            base: 100,
            seq,
            bytes,
            kept,
            known: false,
            again: false,
        }
    }

    fn take(streams: &Streams, piece: &Piece<'_>) -> (Known, Vec<u8>) {
        let mut room = [0; 64];
        let mut shown = Shown {
            bytes: &mut room,
            len: 0,
        };
        let known = streams.take(piece, piece.key[0], 0, &mut shown);
        let len = shown.len;
        (known, room[..len].to_vec())
    }

    #[test]
    fn the_first_segment_says_what_it_is_and_is_held_to_it_until_its_server_has_read_it() {
        let streams = Streams::new(4);
        let words = b"GET / HTTP/1.1\r\n";
        let is = take(&streams, &piece(&KEY, 100, words, false)).0;
        assert_eq!(is, Known::Is(Some(App::Http)));
        let again = |bytes| Piece {
            known: true,
            ..piece(&KEY, 100, bytes, true)
        };
        assert_eq!(take(&streams, &again(words)).0, Known::Same);
        assert!(!streams.acknowledged(&KEY, 1, 100));
        assert!(streams.acknowledged(&KEY, 1, 100 + words.len() as u32));
        // There is nothing to compare with any more.
        assert_eq!(take(&streams, &again(b"NICK bot\r\n")).0, Known::Same);
        let streams = Streams::new(4);
        take(&streams, &piece(&KEY, 100, words, false));
        assert_eq!(take(&streams, &again(b"NICK")).0, Known::Overlap);
    }

    proptest! {
        #[test]
        fn pieces_in_any_order_and_twice_come_to_what_the_whole_does(
            mut cuts in prop::collection::vec(0..10usize, 0..6),
            order in any::<u64>(),
            base in any::<u32>(),
        ) {
            let whole = b"NICK bot\r\n";
            cuts.extend([0, whole.len()]);
            cuts.sort_unstable();
            cuts.dedup();
            let mut pieces: Vec<_> = cuts.windows(2).map(|ends| (ends[0], ends[1])).collect();
            pieces.extend(pieces.clone());
            let len = pieces.len() as u64;
            pieces.sort_by_key(|(from, to)| (*from as u64 * 31 + *to as u64 * 17).wrapping_mul(order | 1) % (len * 7));
            let streams = Streams::new(4);
            let (mut known, mut kept) = (MORE, false);
            for (from, to) in pieces {
                let seq = base.wrapping_add(from as u32);
                known = take(&streams, &Piece { base, ..piece(&KEY, seq, &whole[from..to], kept) }).0;
                kept = true;
                if known != MORE {
                    break;
                }
            }
            prop_assert_eq!(known, IRC);
        }
    }

    proptest! {
        #[test]
        fn the_first_piece_is_kept_as_it_is_byte_by_byte(at in -100..2300i32, len in 0..2300usize) {
            let bytes: Vec<u8> = (0..len).map(|n| (n * 7 + 1) as u8).collect();
            let mut whole = Stream::nothing();
            prop_assert!(whole.put(at, &bytes));
            let mut by_byte = Stream::nothing();
            by_byte.pieces = 1;
            prop_assert!(by_byte.put(at, &bytes));
            prop_assert_eq!(whole.held, by_byte.held);
            prop_assert!(whole.bytes == by_byte.bytes);
        }
    }

    #[test]
    fn what_came_in_pieces_is_shown_whole() {
        let streams = Streams::new(4);
        assert_eq!(take(&streams, &piece(&KEY, 100, b"NI", false)).0, MORE);
        let rest = take(&streams, &piece(&KEY, 102, b"CK bot\r\n", true));
        assert_eq!(rest, (IRC, b"NICK bot\r\n".to_vec()));
    }

    #[test]
    fn a_byte_that_comes_twice_and_is_another_spoils_the_stream() {
        let streams = Streams::new(4);
        assert_eq!(
            take(&streams, &piece(&KEY, 101, b"ICK bot\r\n", false)).0,
            MORE
        );
        assert_eq!(
            take(&streams, &piece(&KEY, 100, b"GET / HTT", true)).0,
            Known::Overlap
        );
        let after = take(&streams, &piece(&KEY, 100, b"NICK", true)).0;
        assert_eq!(after, Known::Hidden, "it is forgotten");
    }

    #[test]
    fn what_lies_before_the_first_byte_or_beyond_what_is_looked_at_is_no_part_of_it() {
        let streams = Streams::new(4);
        let far = take(&streams, &piece(&KEY, 100 + MOST as u32 + 5, b"far", false)).0;
        assert_eq!(far, Known::More { far: true });
        assert_eq!(take(&streams, &piece(&KEY, 98, b"xyNICK a\n", true)).0, IRC);
    }

    #[test]
    fn a_stream_that_says_nothing_for_as_long_as_is_looked_is_hidden() {
        let streams = Streams::new(4);
        let empty_lines = [b'\n'; MOST];
        let most = piece(&KEY, 100, &empty_lines[..MOST - 1], false);
        assert_eq!(take(&streams, &most).0, MORE);
        let last = piece(&KEY, 99 + MOST as u32, b"\n", true);
        assert_eq!(take(&streams, &last).0, Known::Hidden);
        // The same in ever more pieces, also of the same.
        let streams = Streams::new(4);
        let mut last = MORE;
        for n in 0..=PIECES {
            last = take(&streams, &piece(&KEY, 100, b"\n", n > 0)).0;
        }
        assert_eq!(last, Known::Hidden);
    }

    #[test]
    fn what_a_connection_before_has_left_is_no_part_of_the_next() {
        let streams = Streams::new(4);
        assert_eq!(take(&streams, &piece(&KEY, 100, b"\n", false)).0, MORE);
        let next = |seq, bytes, kept| Piece {
            base: 9_000,
            ..piece(&KEY, seq, bytes, kept)
        };
        assert_eq!(take(&streams, &next(9_000, b"N", false)).0, MORE);
        assert_eq!(take(&streams, &next(9_001, b"ICK a\r\n", true)).0, IRC);
    }

    #[test]
    fn data_on_a_syn_decides_nothing_and_has_to_be_the_same_when_it_comes_again() {
        let words = b"GET / HTTP/1.1\r\n";
        let syn = Piece {
            again: true,
            ..piece(&KEY, 100, words, false)
        };
        let streams = Streams::new(4);
        assert!(matches!(take(&streams, &syn).0, Known::Is(Some(App::Http))));
        let same = take(&streams, &piece(&KEY, 100, words, true)).0;
        assert_eq!(same, Known::Is(Some(App::Http)));
        let streams = Streams::new(4);
        take(&streams, &syn);
        assert_eq!(
            take(&streams, &piece(&KEY, 100, b"NICK", true)).0,
            Known::Overlap
        );
    }

    #[test]
    fn a_server_may_greet_and_no_more() {
        let streams = Streams::new(4);
        assert!(streams.heard(&KEY, 1, 100, GREETING as usize, 0));
        assert!(!streams.heard(&KEY, 1, 100, 1, 0));
    }

    #[test]
    fn a_host_with_many_streams_throws_out_its_own() {
        let streams = Streams::new(4);
        let of = |host: u64, n: u64| [0, host, n, n, 0];
        let all = [(9, 0), (7, 1), (7, 2), (7, 3), (7, 4), (7, 5)].map(|(host, n)| of(host, n));
        for (n, key) in all.iter().enumerate() {
            let mut room = [0; 4];
            let mut shown = Shown {
                bytes: &mut room,
                len: 0,
            };
            let first = piece(key, 100, b"N", false);
            assert_eq!(streams.take(&first, 0, n as u64, &mut shown), MORE);
        }
        let still = all.map(|key| take(&streams, &piece(&key, 101, b"I", true)).0 == MORE);
        assert_eq!(still, [true, false, false, true, true, true]);
    }
}
