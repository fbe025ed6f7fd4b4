//! The most frequent form, the short way: Ethernet II, IPv4 without options and not a fragment, TCP or UDP.
//!
//! What it leaves is what the files of the protocols leave; whatever it does not know it leaves to them. One check of a length stands for all loads, and the record is written once.

use super::ethernet::IPV4;
use super::{Meta, Net, transport};

/// Ethernet, IPv4 and TCP without options, bytes.
const HEADERS: usize = 14 + 20 + 20;
/// Where the IPv4 header starts, and where what it carries.
const L3: u16 = 14;
const L4: u16 = 34;

/// The bytes that a [`Glance`] is made of, as they stand in memory.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// How long the frame is, above the ethertype, the version and length of the IP header and the type of service.
    pub form: u64,
    /// Total length, identification, flags and offset of a fragment, time to live, protocol.
    pub middle: u64,
    /// Both addresses.
    pub ends: u64,
    /// Both ports, and of UDP the length.
    pub ports: u64,
    /// Of TCP acknowledgement, data offset, flags and window.
    pub acknowledges: u64,
}

impl Words {
    /// Of a frame that is too short for the form.
    const NONE: Words = Words {
        form: 0,
        middle: 0,
        ends: 0,
        ports: 0,
        acknowledges: 0,
    };

    /// Those of a frame from the wire.
    #[inline(always)]
    pub fn of(frame: &[u8]) -> Words {
        let head = frame.first_chunk();
        head.map_or(Words::NONE, |head| Words::of_head(head, frame.len()))
    }

    #[inline(always)]
    fn of_head(head: &[u8; HEADERS], length: usize) -> Words {
        let [a, b, c, d] = [head[12], head[13], head[14], head[15]];
        // What is longer than that is too long anyway.
        let length = length.min(u32::MAX as usize) as u64;
        Words {
            form: length << 32 | u64::from(u32::from_ne_bytes([a, b, c, d])),
            middle: word(head, 16),
            ends: word(head, 26),
            ports: word(head, 34),
            acknowledges: word(head, 42),
        }
    }
}

/// What such a frame says of itself, as far as a flow is known by it: read before, and often instead of, a whole [`Meta`].
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    /// Source address above, destination address below.
    pub ends: u64,
    /// Source port above, destination port below.
    pub ports: u64,
    /// TCP or UDP.
    pub proto: u64,
    /// Of TCP, bytes 8 to 15 of its header: acknowledgement, data offset, flags, window. Of UDP whatever stands there.
    pub acknowledges: u64,
    /// The total length of the packet, which is whole.
    total: u64,
    /// 0 where the frame is of that form and nothing is wrong with it; else nothing of the above means anything.
    pub amiss: u64,
}

impl Glance {
    /// All bits where it is TCP, else none.
    #[inline(always)]
    pub fn of_tcp(&self) -> u64 {
        all_bits(self.proto == u64::from(transport::TCP))
    }

    /// All bits where it is UDP, else none.
    #[inline(always)]
    pub fn of_udp(&self) -> u64 {
        all_bits(self.proto == u64::from(transport::UDP))
    }

    /// The flags of TCP; whatever stands there of UDP.
    #[inline(always)]
    pub fn flags(&self) -> u64 {
        self.acknowledges >> 16 & 0xff
    }

    /// Reads the words of a frame. There is no branch in it, and only what wide registers can do too: it is gone through for several frames at once.
    #[inline(always)]
    pub fn of(words: Words) -> Glance {
        const FORM: u64 = u32::from_ne_bytes([(IPV4 >> 8) as u8, IPV4 as u8, 0x45, 0]) as u64;
        const MASK: u64 = u32::from_ne_bytes([0xff, 0xff, 0xff, 0]) as u64;
        let middle = u64::from_be(words.middle);
        let ports = u64::from_be(words.ports);
        let acknowledges = u64::from_be(words.acknowledges);
        let (length, total) = (words.form >> 32, middle >> 48);
        let mut glance = Glance {
            ends: u64::from_be(words.ends),
            ports: ports >> 32,
            proto: middle & 0xff,
            acknowledges,
            total,
            amiss: (words.form ^ FORM) & MASK | (middle >> 16 & 0x3fff),
        };
        // Of TCP the length of the header, of UDP that of the datagram (RFC 768): what is there at least, and at most.
        let tcp = glance.of_tcp();
        let header = acknowledges >> 26 & 0x3c;
        let said = (header & tcp) | (ports >> 16 & 0xffff & !tcp);
        glance.amiss |= !(tcp | glance.of_udp());
        glance.amiss |= all_bits(said < 8 + (12 & tcp)) | all_bits(said + 20 > total);
        glance.amiss |= all_bits(total + u64::from(L3) > length) | all_bits(length > 65_535);
        glance
    }
}

/// All bits, or none.
#[inline(always)]
pub fn all_bits(yes: bool) -> u64 {
    u64::from(yes).wrapping_neg()
}

/// Eight bytes of the headers, as they stand.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "constants, into an array that is longer"
)]
fn word(head: &[u8; HEADERS], at: usize) -> u64 {
    // The index is a constant, so that the compiler sees that it is below the length.
    let [a, b, c, d] = [head[at], head[at + 1], head[at + 2], head[at + 3]];
    let [e, f, g, h] = [head[at + 4], head[at + 5], head[at + 6], head[at + 7]];
    u64::from_ne_bytes([a, b, c, d, e, f, g, h])
}

/// Parses the frame if it is of that form and nothing is wrong with it; else says false, and `meta` is as it was.
#[inline(always)]
pub(super) fn parse(frame: &[u8], meta: &mut Meta) -> bool {
    let Some(head) = frame.first_chunk::<HEADERS>() else {
        return false;
    };
    let glance = Glance::of(Words::of_head(head, frame.len()));
    if glance.amiss != 0 {
        return false;
    }
    let (Some(dst_mac), Some(src_mac)) = (head.first_chunk(), head[6..].first_chunk()) else {
        return false;
    };
    let tcp = glance.of_tcp();
    let header = (glance.acknowledges >> 26 & 0x3c & tcp) | (8 & !tcp);
    *meta = Meta {
        src: (glance.ends >> 32).into(),
        dst: (glance.ends as u32).into(),
        net: Net::V4,
        proto: glance.proto as u8,
        tcp_flags: (glance.flags() & tcp) as u8,
        hop_limit: head[22],
        sport: (glance.ports >> 16) as u16,
        dport: glance.ports as u16,
        ethertype: IPV4,
        dst_mac: *dst_mac,
        src_mac: *src_mac,
        l3: L3,
        l4: L4,
        payload: L4 + header as u16,
        end: L3 + glance.total as u16,
        ..Meta::NONE
    };
    true
}

#[cfg(test)]
mod tests {
    use crate::frame::testing::{Ip4, TCP_SYN, ethernet, udp};
    use crate::frame::{Meta, parse_rest};
    use proptest::prelude::*;

    fn agrees(frame: &[u8]) -> bool {
        let mut short = Meta {
            end: 7,
            ..Meta::default()
        };
        let before = short;
        let mut long = Meta::default();
        let known = super::parse(frame, &mut short);
        let said = parse_rest(frame, &mut long);
        match known {
            true => assert_eq!((said, short), (Ok(()), long), "{frame:02x?}"),
            false => assert_eq!(short, before),
        }
        known
    }

    #[test]
    fn the_ordinary_frames_go_the_short_way_and_come_out_the_same() {
        let mut segment = TCP_SYN.to_vec();
        segment.extend([0; 40]);
        for len in [20, 24, 60] {
            segment[12] = (len as u8 / 4) << 4;
            assert!(agrees(&ethernet(
                0x0800,
                &Ip4::new(6).build(&segment[..len])
            )));
        }
        assert!(agrees(&ethernet(
            0x0800,
            &Ip4::new(17).build(&udp(5, 53, &[7; 40]))
        )));
        let padded = [
            ethernet(0x0800, &Ip4::new(17).build(&udp(5, 53, b"a"))),
            vec![0; 20],
        ]
        .concat();
        assert!(agrees(&padded));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        /// Each byte of the headers may be anything, and the frame may end anywhere.
        #[test]
        fn whatever_it_takes_the_other_way_takes_too_and_says_the_same(
            tcp in any::<bool>(),
            changes in proptest::collection::vec((12..60usize, any::<u8>()), 0..3),
            end in 0..120usize,
        ) {
            let payload = [&TCP_SYN[..], &[1; 30]].concat();
            let mut frame = match tcp {
                true => ethernet(0x0800, &Ip4::new(6).build(&payload)),
                false => ethernet(0x0800, &Ip4::new(17).build(&udp(5, 53, &payload))),
            };
            for (at, byte) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            frame.truncate(end);
            agrees(&frame);
        }
    }
}
