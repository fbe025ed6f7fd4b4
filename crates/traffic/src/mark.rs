//! 18 bytes of every frame that the tester sends: that it is ours, which one, and when it was sent.
//!
//! A frame of 64 bytes has room for exactly these behind Ethernet, IPv4 and UDP, so sequence number and time have 48 bits each: ten years of frames at
//! 880,000 a second, and a clock that comes round after 78 hours, of which only differences are taken. They are the last 18 bytes of a frame, or of a TCP segment an option; both are
//! places that are found without parsing what is before them.
//!
//! ```text
//!  0       4       6               12              18
//!  ┌───────┬───────┬───────────────┬───────────────┐
//!  │ magic │ kind, │ sequence      │ time, ns of   │   big endian
//!  │       │ trial │ number        │ the sender    │
//!  └───────┴───────┴───────────────┴───────────────┘
//! ```

/// Bytes of it.
pub const LEN: usize = 18;
/// What no other traffic ends with, but once in four thousand million frames.
const MAGIC: [u8; 4] = [0x9c, 0x0b, 0xe4, 0xc7];
/// Where it is as the first option of a segment, over IPv4 and over IPv6.
const OPTIONS: [usize; 2] = [14 + 20 + 22, 14 + 40 + 22];
/// Bits of a sequence number and of a time.
const BITS: u32 = 48;
const TRIAL_BITS: u32 = 14;
/// Trials are told apart by a number below this; then it begins again.
pub const TRIALS: u16 = 1 << TRIAL_BITS;

/// What a frame is sent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It should arrive, and is counted.
    Counted,
    /// It must not arrive.
    Forbidden,
    /// It opens a flow, or shows that one is open; the sequence number is that of the flow.
    Opening,
}

/// What the end of a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it is sent for.
    pub kind: Kind,
    /// Of which trial, below [`TRIALS`].
    pub trial: u16,
    /// Counted from 0 for each kind in a trial; 48 bits.
    pub sequence: u64,
    /// Nanoseconds of the sender's clock; 48 bits.
    pub time: u64,
}

impl Mark {
    /// As bytes.
    pub fn bytes(&self) -> [u8; LEN] {
        let kind = match self.kind {
            Kind::Counted => 0,
            Kind::Forbidden => 1,
            Kind::Opening => 2,
        };
        let mut bytes = [0; LEN];
        bytes[..4].copy_from_slice(&MAGIC);
        let head = kind << TRIAL_BITS | (self.trial & (TRIALS - 1));
        bytes[4..6].copy_from_slice(&head.to_be_bytes());
        bytes[6..12].copy_from_slice(&self.sequence.to_be_bytes()[2..]);
        bytes[12..].copy_from_slice(&self.time.to_be_bytes()[2..]);
        bytes
    }

    /// Reads that of a frame; `None` if it is not ours.
    #[inline]
    pub fn of(frame: &[u8]) -> Option<Mark> {
        let end = frame.last_chunk().and_then(Mark::read);
        end.or_else(|| {
            let mut options = OPTIONS
                .iter()
                .filter_map(|at| frame.get(*at..)?.first_chunk());
            options.find_map(Mark::read)
        })
    }

    fn read(bytes: &[u8; LEN]) -> Option<Mark> {
        if bytes[..4] != MAGIC {
            return None;
        }
        let head = u16::from_be_bytes([bytes[4], bytes[5]]);
        let kind = match head >> TRIAL_BITS {
            0 => Kind::Counted,
            1 => Kind::Forbidden,
            2 => Kind::Opening,
            _ => return None,
        };
        let number = |at: usize| {
            bytes[at..at + 6]
                .iter()
                .fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        Some(Mark {
            kind,
            trial: head & (TRIALS - 1),
            sequence: number(6),
            time: number(12),
        })
    }

    /// Nanoseconds from when it was sent to `now` of the same clock.
    pub fn age(&self, now: u64) -> u64 {
        now.wrapping_sub(self.time) & ((1 << BITS) - 1)
    }
}

/// The Internet checksum `old` (RFC 1071) of something in which 18 bytes were zero and are `mark` now (RFC 1624 section 3, where the old value is 0). `odd` says
/// that the mark begins at an odd byte of what is summed.
pub fn checksum(old: u16, mark: &[u8; LEN], odd: bool) -> u16 {
    let (words, _) = mark.as_chunks::<2>();
    let sum: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    let sum = fold(sum);
    // RFC 1071 section 2 (B): in the other byte order the sum is the same with its bytes swapped.
    let sum = if odd { sum.swap_bytes() } else { sum };
    !fold(u32::from(!old) + u32::from(sum))
}

fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MARK: Mark = Mark {
        kind: Kind::Forbidden,
        trial: 16_383,
        sequence: 0xffff_ffff_fffe,
        time: 0x1234_5678_9abc,
    };

    #[test]
    fn a_mark_is_found_at_the_end_of_whatever_frame_and_where_segments_have_options() {
        let frame = [&[1, 2, 3][..], &MARK.bytes()].concat();
        assert_eq!(Mark::of(&frame), Some(MARK));
        assert_eq!(Mark::of(&MARK.bytes()), Some(MARK));
        for at in OPTIONS {
            let frame = [&vec![7; at][..], &MARK.bytes(), &[1; 99]].concat();
            assert_eq!(Mark::of(&frame), Some(MARK));
        }
    }

    #[test]
    fn other_frames_and_frames_too_short_have_none() {
        let mut frame = MARK.bytes();
        assert_eq!(Mark::of(&frame[1..]), None);
        frame[2] ^= 1;
        assert_eq!(Mark::of(&frame), None);
        assert_eq!(Mark::of(&[]), None);
    }

    #[test]
    fn an_age_is_right_across_the_end_of_the_clock() {
        let mark = Mark {
            time: (1 << BITS) - 5,
            ..MARK
        };
        assert_eq!(mark.age((1 << BITS) + 7), 12);
    }

    proptest! {
        #[test]
        fn the_checksum_is_that_of_summing_all_of_it(
            before in prop::collection::vec(any::<u8>(), 0..60),
            mark in any::<[u8; LEN]>(),
        ) {
            let whole = |mark: &[u8]| {
                let bytes = [&before, mark].concat();
                let words = bytes.chunks(2);
                let sum = words.map(|w| u32::from(u16::from_be_bytes([w[0], *w.get(1).unwrap_or(&0)])));
                !fold(sum.sum())
            };
            let updated = checksum(whole(&[0; LEN]), &mark, before.len() % 2 == 1);
            // Both are zero in one's complement.
            let same = |sum: u16| if sum == 0xffff { 0 } else { sum };
            prop_assert_eq!(same(updated), same(whole(&mark)));
        }
    }
}
