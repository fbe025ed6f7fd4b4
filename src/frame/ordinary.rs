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

/// What such a frame says of itself, as far as a flow is known by it: read before, and often instead of, a whole [`Meta`].
#[derive(Clone, Copy, Debug)]
pub struct Glance {
    /// Source address above, destination address below.
    pub ends: u64,
    /// Source port above, destination port below.
    pub ports: u32,
    /// TCP or UDP.
    pub proto: u8,
    /// Of TCP, bytes 8 to 15 of its header: acknowledgement, data offset, flags, window. Of UDP whatever stands there.
    pub acknowledges: u64,
    /// The total length of the packet, which is whole.
    total: u16,
}

impl Glance {
    /// TCP; else UDP.
    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        self.proto == transport::TCP
    }

    /// The flags of TCP; whatever stands there of UDP.
    #[inline(always)]
    pub fn flags(&self) -> u8 {
        (self.acknowledges >> 16) as u8
    }

    /// Reads the frame if it is of that form and nothing is wrong with it.
    #[inline(always)]
    pub fn of(frame: &[u8]) -> Option<Glance> {
        Glance::of_head(frame.first_chunk()?, frame.len())
    }

    /// The same of the headers of a frame of so many bytes. One check of a length stands for all loads, and both protocols go through the same instructions: which one
    /// comes next nobody can foretell.
    #[inline(always)]
    fn of_head(head: &[u8; HEADERS], length: usize) -> Option<Glance> {
        // Ethertype; version and length of the header, type of service, total length, identification.
        let first = word(head, 12);
        // Flags and offset of a fragment, time to live, protocol, and what is not looked at.
        let second = word(head, 20);
        let acknowledges = word(head, 42);
        let (total, proto) = ((first >> 16) as u16, (second >> 32) as u8);
        let tcp = proto == transport::TCP;
        let form = (first >> 40) ^ (u64::from(IPV4) << 8 | 0x45);
        let piece = second >> 48 & 0x3fff;
        let other = u64::from(!tcp & (proto != transport::UDP));
        // Of TCP the length of the header, of UDP that of the datagram (RFC 768): what is there at least, and at most.
        let of_tcp = u64::from(tcp).wrapping_neg();
        let least = 8 + (12 & of_tcp);
        let header = (acknowledges >> 28 & 0xf) * 4;
        let said = (header & of_tcp) | (word(head, 34) >> 16 & 0xffff & !of_tcp);
        let room = i64::from(total) - 20;
        let fits = (said >= least) & (said as i64 <= room);
        let within = usize::from(total) + usize::from(L3) <= length && length <= 65_535;
        (form | piece | other == 0 && fits && within).then_some(Glance {
            ends: word(head, 26),
            ports: (word(head, 34) >> 32) as u32,
            proto,
            acknowledges,
            total,
        })
    }
}

/// Eight bytes of the headers, as one number.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "constants, into an array that is longer"
)]
fn word(head: &[u8; HEADERS], at: usize) -> u64 {
    // The index is a constant, so that the compiler sees that it is below the length.
    let [a, b, c, d] = [head[at], head[at + 1], head[at + 2], head[at + 3]];
    let [e, f, g, h] = [head[at + 4], head[at + 5], head[at + 6], head[at + 7]];
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Parses the frame if it is of that form and nothing is wrong with it; else says false, and `meta` is as it was.
#[inline(always)]
pub(super) fn parse(frame: &[u8], meta: &mut Meta) -> bool {
    let Some(head) = frame.first_chunk::<HEADERS>() else {
        return false;
    };
    let Some(glance) = Glance::of_head(head, frame.len()) else {
        return false;
    };
    let (Some(dst_mac), Some(src_mac)) = (head.first_chunk(), head[6..].first_chunk()) else {
        return false;
    };
    let header = match glance.is_tcp() {
        true => (glance.acknowledges >> 28 & 0xf) as u16 * 4,
        false => 8,
    };
    *meta = Meta {
        src: (glance.ends >> 32).into(),
        dst: (glance.ends as u32).into(),
        net: Net::V4,
        proto: glance.proto,
        tcp_flags: glance.flags() & 0u8.wrapping_sub(glance.is_tcp().into()),
        hop_limit: head[22],
        sport: (glance.ports >> 16) as u16,
        dport: glance.ports as u16,
        ethertype: IPV4,
        dst_mac: *dst_mac,
        src_mac: *src_mac,
        l3: L3,
        l4: L4,
        payload: L4 + header,
        end: L3 + glance.total,
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
