//! The first bytes of what a client sends over TCP, put in order until it is known what they are: the memory for it is bounded, and most connections never need any.
//!
//! A client's first segment usually says what it is, and then nothing is kept. What is kept here is of connections whose first bytes came in pieces, or not in
//! order. A byte that comes twice has to be the same both times: which of two the receiver would take is not for anybody in the middle to say.

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

/// What is known of a stream after one more segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// What it is; `None` for none of those that are known.
    Is(Option<App>),
    /// Not yet.
    More,
    /// Bytes came twice, and were not the same.
    Overlap,
    /// It cannot be known: [`MOST`] bytes say nothing, or what came before is kept no more.
    Hidden,
}

/// The bytes by which a stream was known, or those that it has shown so far, where they are not those of one segment; no more than there is room for.
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
    /// It may be that the receiver does not take this, and the client sends it again: data on a SYN (RFC 7413 section 4.2). It is kept, whatever it is.
    pub again: bool,
}

struct Stream {
    live: bool,
    key: KeyWords,
    base: u32,
    since: u64,
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
            held: [0; WORDS],
            bytes: [0; MOST],
        }
    }

    fn restart(&mut self, key: &KeyWords, base: u32, since: u64) {
        (self.live, self.key, self.base, self.since) = (true, *key, base, since);
        self.held = [0; WORDS];
    }

    /// Keeps the bytes that begin `at` bytes after the first; what lies outside of what is looked at is left out. False where one of them was another before.
    fn put(&mut self, at: i32, bytes: &[u8]) -> bool {
        let skip = usize::try_from(-i64::from(at)).unwrap_or(0);
        let start = usize::try_from(at).unwrap_or(0);
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

    /// The bytes from the first on without a gap.
    fn whole(&self) -> &[u8] {
        let full = self.held.iter().take_while(|word| **word == u64::MAX);
        let full = full.count();
        let rest = self.held.get(full).map_or(0, |word| word.trailing_ones());
        &self.bytes[..(full * 64 + rest as usize).min(MOST)]
    }
}

type Set = [Box<Stream>; WAYS];

/// The streams that are not known yet, of all workers. Every place has its memory from the start.
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
        if !piece.kept && piece.seq == piece.base && !piece.again {
            let known = known(piece.bytes);
            if known != Known::More {
                return known;
            }
        }
        let mut set = self.set(hash);
        let found = set
            .iter_mut()
            .position(|held| held.live && held.key == *piece.key);
        let place = match found {
            Some(at) => {
                let place = &mut set[at];
                if piece.again && place.base != piece.base {
                    // Another SYN in the place of one that nobody has answered: what came with that is not part of the connection.
                    place.restart(piece.key, piece.base, now);
                }
                place
            }
            None if piece.kept => return Known::Hidden,
            None => {
                let place = room(&mut set, piece.key, now);
                place.restart(piece.key, piece.base, now);
                place
            }
        };
        let at = piece.seq.wrapping_sub(place.base) as i32;
        if !place.put(at, piece.bytes) {
            place.live = false;
            return Known::Overlap;
        }
        let whole = place.whole();
        shown.show(whole);
        let known = known(whole);
        place.live = piece.again || known == Known::More;
        known
    }

    /// Forgets a stream.
    pub fn forget(&self, key: &KeyWords, hash: u64) {
        for held in self.set(hash).iter_mut() {
            held.live &= held.key != *key;
        }
    }

    fn set(&self, hash: u64) -> MutexGuard<'_, Set> {
        locked(&self.sets[hash as usize % self.sets.len()])
    }
}

/// What the first bytes of a stream are.
fn known(bytes: &[u8]) -> Known {
    match app::identify_tcp(bytes) {
        Identity::Known(app) => Known::Is(Some(app)),
        Identity::Unknown => Known::Is(None),
        Identity::More if bytes.len() >= MOST => Known::Hidden,
        Identity::More => Known::More,
    }
}

/// A free place; else that of a stream that has been silent for long, else of the oldest of the same host, else of the oldest.
fn room<'a>(set: &'a mut Set, key: &KeyWords, now: u64) -> &'a mut Stream {
    let inside = |key: &KeyWords| FlowKey::from_words(key).inside;
    let host = inside(key);
    let rank = |held: &Stream| {
        let stale = now.saturating_sub(held.since) > STALE;
        (held.live, !stale, inside(&held.key) != host, held.since)
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

    fn take(
        streams: &Streams,
        key: &KeyWords,
        seq: u32,
        bytes: &[u8],
        kept: bool,
    ) -> (Known, Vec<u8>) {
        let mut room = [0; 64];
        let mut shown = Shown {
            bytes: &mut room,
            len: 0,
        };
        let piece = Piece {
            key,
            base: 100,
            seq,
            bytes,
            kept,
            again: false,
        };
        let known = streams.take(&piece, key[0], 0, &mut shown);
        let len = shown.len;
        (known, room[..len].to_vec())
    }

    #[test]
    fn the_first_segment_alone_says_what_it_is_and_nothing_is_kept() {
        let streams = Streams::new(4);
        let irc = Known::Is(Some(App::Irc));
        assert_eq!(
            take(&streams, &KEY, 100, b"NICK bot\r\n", false),
            (irc, vec![])
        );
        assert_eq!(take(&streams, &KEY, 110, b"USER", true).0, Known::Hidden);
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
            let (mut known, mut kept) = (Known::More, false);
            for (from, to) in pieces {
                let mut room = [0; 64];
                let mut shown = Shown { bytes: &mut room, len: 0 };
                let seq = base.wrapping_add(from as u32);
                let bytes = &whole[from..to];
                known = streams.take(&Piece { key: &KEY, base, seq, bytes, kept, again: false }, 1, 0, &mut shown);
                kept = true;
                if known != Known::More {
                    break;
                }
            }
            prop_assert_eq!(known, Known::Is(Some(App::Irc)));
        }
    }

    #[test]
    fn what_came_in_pieces_is_shown_whole() {
        let streams = Streams::new(4);
        assert_eq!(take(&streams, &KEY, 100, b"NI", false).0, Known::More);
        let irc = Known::Is(Some(App::Irc));
        assert_eq!(
            take(&streams, &KEY, 102, b"CK bot\r\n", true),
            (irc, b"NICK bot\r\n".to_vec())
        );
    }

    #[test]
    fn a_byte_that_comes_twice_and_is_another_spoils_the_stream() {
        let streams = Streams::new(4);
        assert_eq!(
            take(&streams, &KEY, 101, b"ICK bot\r\n", false).0,
            Known::More
        );
        assert_eq!(
            take(&streams, &KEY, 100, b"GET / HTT", true).0,
            Known::Overlap
        );
        assert_eq!(
            take(&streams, &KEY, 100, b"NICK", true).0,
            Known::Hidden,
            "it is forgotten"
        );
    }

    #[test]
    fn what_lies_before_the_first_byte_or_beyond_what_is_looked_at_is_no_part_of_it() {
        let streams = Streams::new(4);
        assert_eq!(
            take(&streams, &KEY, 100 + MOST as u32 + 5, b"far", false).0,
            Known::More
        );
        assert_eq!(
            take(&streams, &KEY, 98, b"xyNICK a\n", true).0,
            Known::Is(Some(App::Irc))
        );
    }

    #[test]
    fn a_stream_that_says_nothing_for_as_long_as_is_looked_is_hidden() {
        let streams = Streams::new(4);
        let empty_lines = [b'\n'; MOST];
        assert_eq!(
            take(&streams, &KEY, 100, &empty_lines[..MOST - 1], false).0,
            Known::More
        );
        assert_eq!(
            take(&streams, &KEY, 99 + MOST as u32, b"\n", true).0,
            Known::Hidden
        );
    }

    #[test]
    fn a_host_with_many_streams_throws_out_its_own() {
        let streams = Streams::new(4);
        let of = |host: u64, n: u64| [0, host, n, n, 0];
        let mut all = Vec::new();
        for (host, n) in [(9, 0), (7, 1), (7, 2), (7, 3), (7, 4), (7, 5)] {
            let key = of(host, n);
            let mut room = [0; 4];
            let mut shown = Shown {
                bytes: &mut room,
                len: 0,
            };
            let piece = Piece {
                key: &key,
                base: 100,
                seq: 100,
                bytes: b"N",
                kept: false,
                again: false,
            };
            assert_eq!(streams.take(&piece, 0, n, &mut shown), Known::More);
            all.push(key);
        }
        let mut still = |key: &KeyWords| {
            let mut room = [0; 4];
            let mut shown = Shown {
                bytes: &mut room,
                len: 0,
            };
            let piece = Piece {
                key,
                base: 100,
                seq: 101,
                bytes: b"I",
                kept: true,
                again: false,
            };
            streams.take(&piece, 0, 9, &mut shown) == Known::More
        };
        assert_eq!(
            all.iter().map(&mut still).collect::<Vec<_>>(),
            [true, false, false, true, true, true]
        );
    }
}
