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

/// Parses the frame if it is of that form and nothing is wrong with it; else says false, and `meta` is as it was.
#[inline(always)]
#[expect(
    clippy::indexing_slicing,
    reason = "constants, into an array that is longer"
)]
pub(super) fn parse(frame: &[u8], meta: &mut Meta) -> bool {
    let Some(head) = frame.first_chunk::<HEADERS>() else {
        return false;
    };
    let (Some(dst_mac), Some(src_mac)) = (head.first_chunk(), head[6..].first_chunk()) else {
        return false;
    };
    // Every index is below the length of the array, which the compiler sees.
    let number = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
    let address =
        |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let end = usize::from(number(16)) + usize::from(L3);
    let whole = number(20) & 0x3fff == 0;
    if number(12) != IPV4 || head[14] != 0x45 || !whole || end > frame.len() || frame.len() > 65_535
    {
        return false;
    }
    let proto = head[23];
    // Both protocols by the same instructions: which one comes next nobody can foretell.
    let (tcp, udp) = (proto == transport::TCP, proto == transport::UDP);
    // Headers are whole: 20 bytes at least and at most to the end; the length of UDP is 8 at least.
    let (offset, len) = (usize::from(head[46] >> 4) * 4, usize::from(number(38)));
    let of_udp = udp & (len >= 8) & (usize::from(L4) + len <= end);
    let of_tcp = tcp & (offset >= 20);
    let payload = usize::from(L4) + if tcp { offset } else { 8 };
    if !(of_tcp | of_udp) | (payload > end) {
        return false;
    }
    *meta = Meta {
        src: address(26).into(),
        dst: address(30).into(),
        net: Net::V4,
        proto,
        tcp_flags: head[47] & 0u8.wrapping_sub(tcp.into()),
        hop_limit: head[22],
        sport: number(34),
        dport: number(36),
        ethertype: IPV4,
        dst_mac: *dst_mac,
        src_mac: *src_mac,
        l3: L3,
        l4: L4,
        payload: payload as u16,
        end: end as u16,
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
