//! TCP as far as a box in the middle needs it (RFC 9293): who opened, whether it is open, closing or over, and which reset counts.
//!
//! What is kept of each end is one word: the acknowledgement number that it has sent last, and the right edge of its window. A reset counts
//! where the end that it is sent to would take it: within that window (RFC 9293 section 3.10.7.4; RFC 5961 section 3.2 is stricter still).

use super::state::Phase;
use crate::frame::all_bits;

/// FIN, as in byte 13 of the header.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// PSH.
pub const PSH: u8 = 0x08;
/// ACK.
pub const ACK: u8 = 0x10;
/// URG.
pub const URG: u8 = 0x20;

/// A window scale above this is taken for this (RFC 7323 section 2.3).
const LARGEST_SCALE: u8 = 14;

/// Flags that no TCP sends, but those who probe how others take them: SYN with FIN or RST, none of SYN, RST and ACK, and FIN, PSH or URG without ACK.
#[inline]
pub fn flags_make_sense(flags: u8) -> bool {
    if is_ordinary(flags) {
        return true;
    }
    let has = |bits: u8| flags & bits != 0;
    if has(SYN) && has(FIN | RST) {
        return false;
    }
    has(ACK) || (has(SYN | RST) && !has(FIN | PSH | URG))
}

/// What matters of a segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Byte 13 of the header.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number; means something with ACK.
    pub ack: u32,
    /// The window as it stands in the header.
    pub window: u16,
    /// Bytes of payload.
    pub len: u16,
    /// The window scale option of a SYN.
    pub scale: Option<u8>,
}

impl Segment {
    /// The segment whose header is at `header` and that has `len` bytes of payload; `None` where the header is not whole.
    #[inline]
    pub fn read(header: &[u8], len: u16) -> Option<Segment> {
        let fixed: &[u8; 20] = header.first_chunk()?;
        let word = |at: usize| {
            u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
        };
        let flags = fixed[13];
        let scale = match flags & SYN {
            0 => None,
            _ => scale(header.get(20..usize::from(fixed[12] >> 4) * 4)?),
        };
        Some(Segment {
            flags,
            seq: word(4),
            ack: word(8),
            window: u16::from_be_bytes([fixed[14], fixed[15]]),
            len,
            scale,
        })
    }

    fn has(&self, bits: u8) -> bool {
        self.flags & bits != 0
    }

    /// Opens a connection: SYN and no ACK.
    #[inline]
    pub fn opens(&self) -> bool {
        self.flags & (SYN | ACK | RST) == SYN
    }
}

/// The window scale among the options of a SYN (RFC 7323 section 2.2: kind 3, length 3).
fn scale(mut options: &[u8]) -> Option<u8> {
    loop {
        match options {
            [0, ..] | [] => return None,
            [1, rest @ ..] => options = rest,
            [3, 3, shift, ..] => return Some((*shift).min(LARGEST_SCALE)),
            [_, len, ..] if *len >= 2 => options = options.get(usize::from(*len)..)?,
            _ => return None,
        }
    }
}

/// What one end has told of itself: low half what it has acknowledged, high half the right edge of its window. Of an initiator that has
/// acknowledged nothing yet: the acknowledgements of its SYN that are right, without and with the data on it. 0 is nothing known.
pub type End = u64;

fn end(low: u32, high: u32) -> End {
    u64::from(low) | u64::from(high) << 32
}

fn within(number: u32, end: End) -> bool {
    let (low, high) = (end as u32, (end >> 32) as u32);
    end != 0 && number.wrapping_sub(low) <= high.wrapping_sub(low)
}

/// The initiator's word after its SYN.
pub fn opening(segment: &Segment) -> End {
    let next = segment.seq.wrapping_add(1);
    end(next, next.wrapping_add(u32::from(segment.len)))
}

/// The same after the SYN was sent again: without the data that was on it the first time, the acknowledgement of that is still right.
pub fn opening_again(segment: &Segment, before: End) -> End {
    let now = opening(segment);
    match now as u32 == before as u32 && within((now >> 32) as u32, before) {
        true => before,
        false => now,
    }
}

/// What becomes of a connection by one segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Where it stands now.
    pub phase: Phase,
    /// Scales of initiator and responder.
    pub scale: [u8; 2],
    /// The sender's word; the same as before where nothing is learnt.
    pub sender: End,
}

/// Judges a segment of a live connection that does not open it. `own` and `other` are the words of the end that sent it and of the one that it
/// is sent to.
#[inline]
pub fn advance(
    phase: Phase,
    scale: [u8; 2],
    from_initiator: bool,
    segment: &Segment,
    own: End,
    other: End,
) -> Next {
    let mut next = Next {
        phase,
        scale,
        sender: own,
    };
    if segment.has(RST) {
        if reset_counts(phase, from_initiator, segment, own, other) {
            next.phase = Phase::Reset;
        }
        return next;
    }
    if segment.has(SYN) {
        if phase == Phase::SynSent && !from_initiator && within(segment.ack, other) {
            next.phase = Phase::SynReceived;
            // Scaling is on only where both have offered it.
            next.scale = segment.scale.map_or([0, 0], |own| [scale[0], own]);
            next.sender = window(segment.ack, segment.window, 0);
        }
        return next;
    }
    let shift = scale[usize::from(!from_initiator)];
    let first_word = from_initiator && matches!(phase, Phase::SynSent | Phase::SynReceived);
    let newer = segment.ack.wrapping_sub(own as u32) <= i32::MAX as u32;
    if segment.has(ACK) && (own == 0 || newer || first_word) && phase != Phase::SynSent {
        next.sender = window(segment.ack, segment.window, shift);
    }
    if phase == Phase::SynReceived && from_initiator {
        next.phase = Phase::Established;
    }
    if segment.has(FIN) {
        next.phase = ended(next.phase, from_initiator);
    }
    next
}

/// Data, or an acknowledgement, and nothing else.
#[inline]
pub fn is_ordinary(flags: u8) -> bool {
    flags & (SYN | FIN | RST | ACK) == ACK
}

/// All bits where the lowest eight are such flags, else none: the same where several frames are read at once.
#[inline(always)]
pub fn are_ordinary(flags: u64) -> u64 {
    const OF: u64 = (SYN | FIN | RST | ACK) as u64;
    all_bits(flags & OF == ACK as u64)
}

/// Bytes 8 to 15 of the header at `at`: acknowledgement, data offset, flags, window. 0 where it is not whole.
#[inline]
pub fn acknowledges(frame: &[u8], at: usize) -> u64 {
    let bytes = frame.get(at + 8..).and_then(<[u8]>::first_chunk);
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The sender's word after an ordinary segment of an open connection, of which these are the bytes [`acknowledges`].
#[inline]
pub fn told(bytes: u64, shift: u8, own: End) -> End {
    match moves_on(bytes, own) {
        true => next_told(bytes, shift),
        false => own,
    }
}

/// Whether such a segment tells anything new.
#[inline(always)]
pub fn moves_on(bytes: u64, own: End) -> bool {
    let ack = (bytes >> 32) as u32;
    let newer = ack.wrapping_sub(own as u32) <= i32::MAX as u32;
    (own == 0) | newer
}

/// And what.
#[inline(always)]
pub fn next_told(bytes: u64, shift: u8) -> End {
    window((bytes >> 32) as u32, bytes as u16, shift)
}

#[inline]
fn window(ack: u32, window: u16, shift: u8) -> End {
    let size = u32::from(window) << shift;
    end(ack, ack.wrapping_add(size))
}

fn reset_counts(
    phase: Phase,
    from_initiator: bool,
    segment: &Segment,
    own: End,
    other: End,
) -> bool {
    match (phase, from_initiator) {
        // The answer of a closed port acknowledges the SYN (RFC 9293 section 3.10.7.3).
        (Phase::SynSent, false) => segment.has(ACK) && within(segment.ack, other),
        // The initiator gives up: what follows its SYN.
        (Phase::SynSent, true) => within(segment.seq, own),
        _ => within(segment.seq, other),
    }
}

fn ended(phase: Phase, from_initiator: bool) -> Phase {
    match (phase, from_initiator) {
        (Phase::SynReceived | Phase::Established, true) => Phase::InitiatorEnded,
        (Phase::SynReceived | Phase::Established, false) => Phase::ResponderEnded,
        (Phase::InitiatorEnded, false) | (Phase::ResponderEnded, true) => Phase::Closing,
        _ => phase,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that segments are put through.
    struct Wire {
        phase: Phase,
        scale: [u8; 2],
        ends: [End; 2],
    }

    fn segment(flags: u8, seq: u32, ack: u32) -> Segment {
        Segment {
            flags,
            seq,
            ack,
            window: 1000,
            ..Segment::default()
        }
    }

    impl Wire {
        fn opened() -> Wire {
            let syn = Segment {
                scale: Some(7),
                ..segment(SYN, 100, 0)
            };
            Wire {
                phase: Phase::SynSent,
                scale: [7, 0],
                ends: [opening(&syn), 0],
            }
        }

        fn take(&mut self, from_initiator: bool, segment: Segment) -> Phase {
            let at = usize::from(!from_initiator);
            let (own, other) = (self.ends[at], self.ends[1 - at]);
            let next = advance(self.phase, self.scale, from_initiator, &segment, own, other);
            (self.phase, self.scale, self.ends[at]) = (next.phase, next.scale, next.sender);
            self.phase
        }

        fn established() -> Wire {
            let mut wire = Wire::opened();
            let answer = Segment {
                scale: Some(2),
                ..segment(SYN | ACK, 500, 101)
            };
            assert_eq!(wire.take(false, answer), Phase::SynReceived);
            assert_eq!(wire.take(true, segment(ACK, 101, 501)), Phase::Established);
            wire
        }
    }

    #[test]
    fn a_handshake_opens_and_two_fins_close() {
        let mut wire = Wire::established();
        assert_eq!(wire.scale, [7, 2]);
        assert_eq!(
            wire.take(true, segment(FIN | ACK, 101, 501)),
            Phase::InitiatorEnded
        );
        assert_eq!(
            wire.take(true, segment(FIN | ACK, 101, 501)),
            Phase::InitiatorEnded
        );
        assert_eq!(
            wire.take(false, segment(ACK, 501, 102)),
            Phase::InitiatorEnded
        );
        assert_eq!(
            wire.take(false, segment(FIN | ACK, 501, 102)),
            Phase::Closing
        );
        assert!(wire.phase.is_over());
    }

    #[test]
    fn an_answer_that_acknowledges_another_syn_opens_nothing() {
        let mut wire = Wire::opened();
        assert_eq!(
            wire.take(false, segment(SYN | ACK, 500, 100)),
            Phase::SynSent
        );
        assert_eq!(
            wire.take(false, segment(SYN | ACK, 500, 102)),
            Phase::SynSent
        );
        assert_eq!(
            wire.take(true, segment(SYN | ACK, 500, 101)),
            Phase::SynSent
        );
        assert_eq!(
            wire.take(false, segment(SYN | ACK, 500, 101)),
            Phase::SynReceived
        );
    }

    #[test]
    fn an_answer_may_acknowledge_the_data_on_the_syn() {
        let syn = Segment {
            len: 10,
            ..segment(SYN, u32::MAX - 3, 0)
        };
        for (ack, phase) in [
            (u32::MAX - 2, Phase::SynReceived),
            (7, Phase::SynReceived),
            (8, Phase::SynSent),
            (u32::MAX - 3, Phase::SynSent),
        ] {
            let mut wire = Wire::opened();
            wire.ends[0] = opening(&syn);
            assert_eq!(wire.take(false, segment(SYN | ACK, 9, ack)), phase, "{ack}");
        }
    }

    #[test]
    fn a_syn_that_is_sent_again_without_its_data_leaves_the_answer_to_the_data_right() {
        let with_data = Segment {
            len: 100,
            ..segment(SYN, 100, 0)
        };
        let (bare, other) = (segment(SYN, 100, 0), segment(SYN, 900, 0));
        let first = opening(&with_data);
        assert_eq!(opening_again(&bare, first), first);
        assert_eq!(opening_again(&with_data, opening(&bare)), first);
        assert_eq!(opening_again(&other, first), opening(&other));
    }

    #[test]
    fn scaling_is_off_where_one_side_does_not_offer_it() {
        let mut wire = Wire::opened();
        wire.take(false, segment(SYN | ACK, 500, 101));
        assert_eq!(wire.scale, [0, 0]);
    }

    #[test]
    fn a_reset_counts_within_the_window_of_the_one_it_is_sent_to_and_nowhere_else() {
        // The initiator has told 501, and a window of 1000 << 7.
        for (seq, counts) in [
            (501, true),
            (500, false),
            (501 + 128_000, true),
            (502 + 128_000, false),
            (0, false),
            (u32::MAX, false),
        ] {
            let mut wire = Wire::established();
            let phase = wire.take(false, segment(RST, seq, 0));
            assert_eq!(phase == Phase::Reset, counts, "{seq}");
        }
        // The responder has told 101 and, unscaled on its SYN, 1000.
        for (seq, counts) in [(101, true), (100, false), (1101, true), (1102, false)] {
            let mut wire = Wire::established();
            let phase = wire.take(true, segment(RST | ACK, seq, 501));
            assert_eq!(phase == Phase::Reset, counts, "{seq}");
        }
    }

    #[test]
    fn a_closed_port_resets_by_the_acknowledgement_of_the_syn() {
        for (flags, ack, counts) in [
            (RST | ACK, 101, true),
            (RST | ACK, 100, false),
            (RST | ACK, 102, false),
            (RST, 101, false),
        ] {
            let mut wire = Wire::opened();
            let phase = wire.take(false, segment(flags, 0, ack));
            assert_eq!(phase == Phase::Reset, counts, "{flags:#x} {ack}");
        }
    }

    #[test]
    fn what_was_acknowledged_before_does_not_take_the_window_back() {
        let mut wire = Wire::established();
        wire.take(true, segment(ACK, 101, 9000));
        let told = wire.ends[0];
        wire.take(true, segment(ACK, 101, 8000));
        assert_eq!(wire.ends[0], told);
        wire.take(true, segment(ACK, 101, 9001));
        assert_ne!(wire.ends[0], told);
    }

    #[test]
    fn a_connection_of_which_nothing_is_known_is_not_ended_by_a_reset() {
        let next = advance(Phase::Established, [0, 0], true, &segment(RST, 5, 0), 0, 0);
        assert_eq!(next.phase, Phase::Established);
    }

    #[test]
    fn flags_that_no_tcp_sends_are_told_from_those_that_it_does() {
        let good = [
            SYN,
            SYN | 0xc0,
            SYN | ACK,
            SYN | ACK | 0x40,
            ACK,
            ACK | PSH,
            ACK | PSH | URG,
            ACK | FIN,
            ACK | FIN | PSH,
            RST,
            RST | ACK,
        ];
        for flags in 0..=0x3f_u8 {
            let expected = good.iter().any(|good| good & 0x3f == flags)
                || (flags & ACK != 0
                    && flags & (SYN | FIN) != SYN | FIN
                    && flags & (SYN | RST) != SYN | RST);
            assert_eq!(flags_make_sense(flags), expected, "{flags:#04x}");
        }
        for bad in [
            0,
            FIN,
            PSH,
            URG,
            FIN | PSH | URG,
            SYN | FIN,
            SYN | RST,
            SYN | PSH,
            SYN | ACK | FIN,
        ] {
            assert!(!flags_make_sense(bad), "{bad:#04x}");
        }
    }

    #[test]
    fn the_window_scale_is_found_among_the_options_and_options_that_lie_are_no_harm() {
        assert_eq!(scale(&[2, 4, 5, 0xb4, 1, 3, 3, 7]), Some(7));
        assert_eq!(scale(&[3, 3, 200]), Some(14));
        for none in [
            &[0, 3, 3, 7][..],
            &[],
            &[3, 2, 7],
            &[3, 4, 7, 7],
            &[8, 0, 3, 3, 7],
            &[8, 1],
            &[2, 9, 1],
            &[5],
        ] {
            assert_eq!(scale(none), None, "{none:?}");
        }
    }
}
