//! The checksum of TCP and UDP (RFC 1071; RFC 9293 section 3.1, RFC 768, RFC 8200 section 8.1). Only asked for where a payload is looked at: a frame that is only forwarded
//! keeps the checksum that it came with.

use super::{Frag, Meta, Net};

const UDP: u8 = 17;

/// Whether the receiver of this datagram would take its checksums for right: that of an IPv4 header, and of TCP or UDP. Of a fragment nothing can be said of the latter, so that it is.
///
/// `frame` is the whole frame. A UDP checksum of 0 says that there is none, which IPv4 allows and IPv6 does not (RFC 768, RFC 8200 section 8.1).
pub fn is_right(meta: &Meta, frame: &[u8]) -> bool {
    if !header_is_right(meta, frame) {
        return false;
    }
    if meta.frag != Frag::Whole {
        return true;
    }
    let (start, end) = (usize::from(meta.l4), usize::from(meta.end));
    let Some(segment) = frame.get(start..end) else {
        return false;
    };
    if meta.proto == UDP && segment.get(6..8) == Some(&[0, 0]) {
        return meta.net == Net::V4;
    }
    // UDP says its own length, and what comes after it is not part of it.
    let len = match (meta.proto, segment.get(4..6)) {
        (UDP, Some(&[high, low])) => usize::from(u16::from_be_bytes([high, low])),
        _ => segment.len(),
    };
    let Some(segment) = segment.get(..len) else {
        return false;
    };
    let address = |address: u128| sum(&address.to_be_bytes());
    let pseudo = address(meta.src) + address(meta.dst) + len as u64 + u64::from(meta.proto);
    fold(pseudo + sum(segment)) == 0xffff
}

/// Of the IPv4 header (RFC 791 section 3.1); IPv6 has none.
fn header_is_right(meta: &Meta, frame: &[u8]) -> bool {
    if meta.net != Net::V4 {
        return true;
    }
    let start = usize::from(meta.l3);
    let len = frame
        .get(start)
        .map_or(0, |byte| usize::from(byte & 0xf) * 4);
    let header = frame.get(start..start + len);
    header.is_some_and(|header| fold(sum(header)) == 0xffff)
}

/// The sum of the 16-bit words, an odd byte padded with zero.
fn sum(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    // Words of 32 bits in a sum of 64 overflow after four thousand million of them.
    let sum = words.iter().fold(0, |sum: u64, word| {
        let word = u64::from_be_bytes(*word);
        sum + (word >> 32) + (word & 0xffff_ffff)
    });
    let mut last = [0; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    let last = u64::from_be_bytes(last);
    sum + (last >> 32) + (last & 0xffff_ffff)
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::parse;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    fn frame(v6: bool, tcp: bool, payload: &[u8]) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut frame = Vec::new();
        let ip = match v6 {
            true => link.ipv6([0xfd; 16], [0x20; 16], 64),
            false => link.ipv4([10, 77, 0, 9], [93, 184, 216, 34], 64),
        };
        match tcp {
            true => ip.tcp(40_000, 80, 7, 1024).write(&mut frame, payload),
            false => ip.udp(40_000, 69).write(&mut frame, payload),
        }
        .unwrap();
        frame
    }

    proptest! {
        #[test]
        fn what_another_library_has_summed_is_right_and_with_any_bit_changed_wrong(
            (v6, tcp) in any::<(bool, bool)>(),
            payload in prop::collection::vec(any::<u8>(), 0..300),
            at in any::<prop::sample::Index>(),
            bit in 0..8u32,
        ) {
            let mut frame = frame(v6, tcp, &payload);
            let meta = parse(&frame).unwrap();
            prop_assert!(is_right(&meta, &frame));
            let padded = [&frame[..], &[1, 2, 3]].concat();
            prop_assert!(is_right(&meta, &padded), "padding is not part of it");
            let l4 = usize::from(meta.l4);
            let changed = l4 + at.index(frame.len() - l4);
            frame[changed] ^= 1u8 << bit;
            let none = !tcp && frame[l4 + 6..l4 + 8] == [0, 0];
            if let Ok(meta) = parse(&frame) && !none {
                prop_assert!(!is_right(&meta, &frame));
            }
        }
    }

    #[test]
    fn no_checksum_at_all_is_right_for_udp_over_ipv4_alone() {
        for (v6, tcp) in [(false, false), (true, false), (false, true), (true, true)] {
            let mut frame = frame(v6, tcp, b"hello");
            let meta = parse(&frame).unwrap();
            let at = usize::from(meta.l4) + if tcp { 16 } else { 6 };
            frame[at..at + 2].copy_from_slice(&[0, 0]);
            assert_eq!(is_right(&meta, &frame), (v6, tcp) == (false, false));
        }
    }
}
