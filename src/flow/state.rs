//! What is kept of a flow beside its key: the control word, and how long it may be idle.

use super::slots::{FIRST_CLASS, Tag};
use crate::policy::{RuleId, Side};
use std::time::Duration;

/// Where a flow stands in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// TCP: the initiator's SYN was seen.
    SynSent = 0,
    /// TCP: the responder's SYN and ACK answered it.
    SynReceived,
    /// TCP: data may go both ways.
    Established,
    /// TCP: the initiator has ended its half.
    InitiatorEnded,
    /// TCP: the responder has ended its half.
    ResponderEnded,
    /// TCP: both have.
    Closing,
    /// TCP: a reset within the window was seen.
    Reset,
    /// Another protocol: nothing has come back yet.
    Unanswered,
    /// Another protocol: both sides have spoken.
    Answered,
}

impl Phase {
    const ALL: [Phase; 9] = [
        Phase::SynSent,
        Phase::SynReceived,
        Phase::Established,
        Phase::InitiatorEnded,
        Phase::ResponderEnded,
        Phase::Closing,
        Phase::Reset,
        Phase::Unanswered,
        Phase::Answered,
    ];

    /// Neither side sends any more, so that the same ports may be used anew.
    pub fn is_over(self) -> bool {
        matches!(self, Phase::Closing | Phase::Reset)
    }
}

/// How long a flow may be idle, and how readily it makes room: the class that stands in its tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// A connection whose handshake is not through.
    TcpOpening = FIRST_CLASS,
    /// One that is.
    TcpOpen,
    /// One that was ended or reset.
    TcpClosing,
    /// UDP that nobody has answered.
    UdpUnanswered,
    /// UDP with an answer.
    UdpAnswered,
    /// An ICMP query that nobody has answered.
    IcmpUnanswered,
    /// One with an answer.
    Icmp,
    /// Any other protocol, without an answer.
    OtherUnanswered,
    /// With one.
    Other,
    /// Ended by the policy: its frames are dropped.
    Blocked,
}

impl Class {
    /// That of a flow of `proto` in `phase`.
    #[inline]
    pub fn of(phase: Phase, proto: u8) -> Class {
        match phase {
            Phase::SynSent | Phase::SynReceived => Class::TcpOpening,
            Phase::Established | Phase::InitiatorEnded | Phase::ResponderEnded => Class::TcpOpen,
            Phase::Closing | Phase::Reset => Class::TcpClosing,
            Phase::Unanswered => match proto {
                1 | 58 => Class::IcmpUnanswered,
                17 | 136 => Class::UdpUnanswered,
                _ => Class::OtherUnanswered,
            },
            Phase::Answered => match proto {
                1 | 58 => Class::Icmp,
                17 | 136 => Class::UdpAnswered,
                _ => Class::Other,
            },
        }
    }

    /// Whether a flow of this class makes room for a new one when there is none: nothing is lost with it that a peer has agreed to.
    pub fn makes_room(class: usize) -> bool {
        [
            Class::TcpOpening as usize,
            Class::TcpClosing as usize,
            Class::UdpUnanswered as usize,
            Class::IcmpUnanswered as usize,
            Class::OtherUnanswered as usize,
            Class::Blocked as usize,
        ]
        .contains(&class)
    }
}

/// How long a flow may be idle before it is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// A connection whose handshake is not through.
    pub tcp_opening: Duration,
    /// One that is.
    pub tcp: Duration,
    /// One that both sides have ended, or that was reset.
    pub tcp_closing: Duration,
    /// UDP that nobody has answered.
    pub udp: Duration,
    /// UDP with an answer.
    pub udp_answered: Duration,
    /// An ICMP query.
    pub icmp: Duration,
    /// Any other protocol.
    pub other: Duration,
}

impl Default for Timeouts {
    /// 2 h 4 min for an open connection (RFC 5382 section 5, REQ-5), 4 min for UDP with an answer (RFC 4787 section 4.3, REQ-5, asks
    /// for no less than 2 and recommends 5), 60 s for ICMP queries (RFC 5508 section 3.2, REQ-2).
    fn default() -> Timeouts {
        let seconds = Duration::from_secs;
        Timeouts {
            tcp_opening: seconds(30),
            tcp: seconds(7_440),
            tcp_closing: seconds(120),
            udp: seconds(30),
            udp_answered: seconds(240),
            icmp: seconds(60),
            other: seconds(600),
        }
    }
}

/// A tick of the flow clock is 2^30 nanoseconds, a little over a second.
pub const TICK_SHIFT: u32 = 30;
/// The longest time-out: what is older than half the 16 bits of a tick would look young again.
pub const LONGEST: Duration = Duration::from_secs(8 * 3600);

/// The tick of a time in nanoseconds.
#[inline]
pub fn tick(now: u64) -> u16 {
    (now >> TICK_SHIFT) as u16
}

/// Ticks from `then` to `now`; 0 where another worker's clock was a little ahead.
#[inline]
pub fn idle(now: u16, then: u16) -> u16 {
    let idle = now.wrapping_sub(then);
    if idle > i16::MAX as u16 { 0 } else { idle }
}

/// The time-outs in ticks, by class.
#[derive(Clone, Copy, Debug)]
pub struct Limits([u16; 16]);

impl Limits {
    /// Of these time-outs, each at most [`LONGEST`].
    pub fn new(timeouts: &Timeouts) -> Limits {
        let mut limits = [0; 16];
        let by_class = [
            (Class::TcpOpening, timeouts.tcp_opening),
            (Class::TcpOpen, timeouts.tcp),
            (Class::TcpClosing, timeouts.tcp_closing),
            (Class::UdpUnanswered, timeouts.udp),
            (Class::UdpAnswered, timeouts.udp_answered),
            (Class::IcmpUnanswered, timeouts.icmp),
            (Class::Icmp, timeouts.icmp),
            (Class::OtherUnanswered, timeouts.other),
            (Class::Other, timeouts.other),
            (Class::Blocked, timeouts.tcp_opening),
        ];
        for (class, timeout) in by_class {
            let ticks = timeout.min(LONGEST).as_nanos() >> TICK_SHIFT;
            // The tick that it was last used in may have been over the moment after.
            limits[class as usize] = ticks as u16 + 1;
        }
        Limits(limits)
    }

    /// Whether a flow with this tag is over at `now`.
    #[inline]
    pub fn over(&self, tag: Tag, now: u16) -> bool {
        idle(now, tag.tick()) > self.0.get(tag.class()).copied().unwrap_or(0)
    }
}

/// The control word, taken apart.
///
/// ```text
/// bits  0–19  the rule that let the flow through, or blocks it
/// bits 20–35  the policy's generation that judged it, its low 16 bits
/// bits 36–39  phase
/// bit  40     the initiator is on the uplink side
/// bit  41     blocked
/// bit  42     the responder may open too: a rule was asked and let it
/// bits 43–46  the initiator's window scale (RFC 7323 section 2.3)
/// bits 47–50  the responder's
/// bits 51–55  what the payload was identified as, as in [`Key::app`](crate::policy::Key::app); 0 not looked at
/// bits 56–57  [`Watch`]
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Control {
    /// The rule that let the flow through, or blocks it.
    pub rule: RuleId,
    /// Low bits of the generation that judged it.
    pub generation: u16,
    /// Where it stands.
    pub phase: Phase,
    /// The side of the initiator.
    pub initiator: Side,
    /// Its frames are not let through.
    pub blocked: bool,
    /// The responder has opened too, and was let.
    pub both: bool,
    /// Window scales: of the initiator, of the responder; 0 where there is none.
    pub scale: [u8; 2],
    /// What the client's payload was identified as, as in [`Key::app`](crate::policy::Key::app); 0 where nobody has looked.
    pub app: u8,
    /// Whether it still is to be.
    pub watch: Watch,
}

/// Whether a flow's payload is still to be looked at: a rule might match once it is known what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Watch {
    /// It is not.
    #[default]
    Off = 0,
    /// Nothing of it has passed yet.
    First,
    /// Something has, and is kept (see [`stream`](super::stream)).
    More,
    /// It could not be seen what it is, and so the flow has ended.
    Hidden,
}

impl Watch {
    const ALL: [Watch; 4] = [Watch::Off, Watch::First, Watch::More, Watch::Hidden];

    /// Still to be looked at.
    pub fn is_on(self) -> bool {
        matches!(self, Watch::First | Watch::More)
    }
}

impl Control {
    /// Whether a word says that this generation has judged the flow, and that its payload is of no more interest.
    #[inline]
    pub fn is_settled(word: u64, generation: u64) -> bool {
        word & (0xffff << 20 | 3 << 56) == (generation & 0xffff) << 20
    }

    /// What stands against the shortest way in a word, as bits: another generation, a payload that is still looked at, or that the flow is blocked. 0 where nothing does.
    #[inline(always)]
    pub fn stands_against(word: u64, generation: u64) -> u64 {
        word & (0xffff << 20 | 1 << 41 | 3 << 56) ^ (generation & 0xffff) << 20
    }

    /// The rule in a word.
    #[inline]
    pub fn rule_of(word: u64) -> RuleId {
        RuleId((word & 0xf_ffff) as u32)
    }

    /// The generation in a word.
    #[inline]
    pub fn generation_of(word: u64) -> u16 {
        (word >> 20) as u16
    }

    /// The initiator in a word.
    #[inline]
    pub fn initiator_of(word: u64) -> Side {
        match word >> 40 & 1 {
            0 => Side::Lan,
            _ => Side::Uplink,
        }
    }

    /// What the payload was identified as, in a word.
    #[inline]
    pub fn app_of(word: u64) -> u8 {
        (word >> 51 & 0x1f) as u8
    }

    /// Whether the flow of a word is blocked.
    #[inline]
    pub fn is_blocked(word: u64) -> bool {
        word >> 41 & 1 == 1
    }

    /// The scale of the initiator (0) or the responder (1) in a word.
    #[inline]
    pub fn scale_of(word: u64, end: usize) -> u8 {
        (word >> if end == 0 { 43 } else { 47 } & 0xf) as u8
    }

    /// Whether a word says that data may go both ways, or one way still.
    #[inline]
    pub fn is_open(word: u64) -> bool {
        let since = (word >> 36 & 0xf).wrapping_sub(Phase::Established as u64);
        since <= Phase::ResponderEnded as u64 - Phase::Established as u64
    }

    /// Whether a word says that both sides have spoken, of a protocol that is not TCP.
    #[inline]
    pub fn is_answered(word: u64) -> bool {
        word >> 36 & 0xf == Phase::Answered as u64
    }

    /// Read from the word.
    #[inline]
    pub fn unpack(word: u64) -> Control {
        let bit = |at: u32| word >> at & 1 == 1;
        let phase = (word >> 36 & 0xf) as usize;
        Control {
            rule: Control::rule_of(word),
            generation: Control::generation_of(word),
            phase: Phase::ALL.get(phase).copied().unwrap_or(Phase::Answered),
            initiator: Control::initiator_of(word),
            blocked: Control::is_blocked(word),
            both: bit(42),
            scale: [Control::scale_of(word, 0), Control::scale_of(word, 1)],
            app: Control::app_of(word),
            watch: Watch::ALL[(word >> 56 & 3) as usize],
        }
    }

    /// As one word, below 2^58.
    #[inline]
    pub fn pack(&self) -> u64 {
        u64::from(self.rule.0 & 0xf_ffff)
            | u64::from(self.generation) << 20
            | (self.phase as u64) << 36
            | u64::from(self.initiator == Side::Uplink) << 40
            | u64::from(self.blocked) << 41
            | u64::from(self.both) << 42
            | u64::from(self.scale[0] & 0xf) << 43
            | u64::from(self.scale[1] & 0xf) << 47
            | u64::from(self.app & 0x1f) << 51
            | (self.watch as u64) << 56
    }

    /// The class of the flow's tag.
    #[inline]
    pub fn class(&self, proto: u8) -> Class {
        match self.blocked {
            true => Class::Blocked,
            false => Class::of(self.phase, proto),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_control_word_is_read_as_it_was_written(
            (rule, generation, phase, scales) in (0..1u32 << 20, any::<u16>(), 0..9usize, [0..16u8, 0..16]),
            [uplink, blocked, both] in any::<[bool; 3]>(),
            (app, watch) in (0..32u8, 0..4usize),
        ) {
            let control = Control {
                rule: RuleId(rule),
                generation,
                phase: Phase::ALL[phase],
                initiator: if uplink { Side::Uplink } else { Side::Lan },
                blocked,
                both,
                scale: scales,
                app,
                watch: Watch::ALL[watch],
            };
            prop_assert!(control.pack() < 1 << 58);
            prop_assert_eq!(Control::unpack(control.pack()), control);
        }
    }

    #[test]
    fn a_phase_stands_at_its_number() {
        for (at, phase) in Phase::ALL.iter().enumerate() {
            assert_eq!(*phase as usize, at);
        }
    }

    #[test]
    fn idle_time_goes_over_the_end_of_the_clock_and_a_clock_that_is_behind_is_no_long_time() {
        assert_eq!(idle(5, 3), 2);
        assert_eq!(idle(2, 65_534), 4);
        assert_eq!(idle(3, 4), 0);
    }

    #[test]
    fn the_longest_timeout_fits_in_half_the_clock() {
        assert!(LONGEST.as_nanos() >> TICK_SHIFT < i16::MAX as u128 - 1);
        assert!(Timeouts::default().tcp <= LONGEST);
    }
}
