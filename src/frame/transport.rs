//! From the protocol number to the transport header: ports, flags, and where the payload starts.

use super::{Frag, Meta, chunk, icmp, tcp, udp};
use crate::telemetry::Reason;

/// Protocol numbers (IANA, "Assigned Internet Protocol Numbers").
pub(super) const ICMP: u8 = 1;
/// RFC 9293.
pub(super) const TCP: u8 = 6;
/// RFC 768.
pub(super) const UDP: u8 = 17;
/// RFC 4340.
const DCCP: u8 = 33;
/// RFC 4443.
pub(super) const ICMPV6: u8 = 58;
/// RFC 9260.
const SCTP: u8 = 132;
/// RFC 3828.
const UDP_LITE: u8 = 136;

/// The transports and tunnels that may end an IPv6 header chain. A number that is not here could be an extension header
/// of a kind not known, with a transport behind it (RFC 7045 section 2.1), so a packet with it cannot be judged. The
/// numbers for experiments (253, 254) are left out because they may be extension headers too (RFC 4727 section 3.4).
const KNOWN: [bool; 256] = known(&[
    ICMP, 2, // IGMP
    4, // IPv4 in IP
    TCP, 8, // EGP
    9, // IGP
    UDP, DCCP, 41, // IPv6 in IP
    46, // RSVP
    47, // GRE
    50, // ESP
    55, // minimal encapsulation
    ICMPV6, 88,  // EIGRP
    89,  // OSPF
    94,  // IP within IP (KA9Q)
    97,  // Ethernet within IP
    98,  // encapsulation header
    103, // PIM
    108, // IPComp
    112, // VRRP
    113, // PGM
    115, // L2TP
    124, // IS-IS over IP
    SCTP, UDP_LITE, 137, // MPLS in IP
    138, // MANET
    141, // WESP
    142, // ROHC
    143, // Ethernet (RFC 8986)
]);

#[expect(
    clippy::indexing_slicing,
    reason = "evaluated while compiling, where a panic is an error"
)]
const fn known(numbers: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut rest = numbers;
    while let [number, others @ ..] = rest {
        table[*number as usize] = true;
        rest = others;
    }
    table
}

/// Whether `number` names a transport or tunnel, and so surely no extension header.
pub(super) fn is_known(number: u8) -> bool {
    KNOWN.get(usize::from(number)).copied().unwrap_or(false)
}

/// Whether the header of this protocol starts with two ports.
pub(super) fn has_ports(proto: u8) -> bool {
    matches!(proto, TCP | UDP | DCCP | SCTP | UDP_LITE)
}

/// The header of `meta.proto` at `l4`, in a whole datagram or a first fragment. For a protocol that is not looked into,
/// `payload` is left at `end`.
///
/// # Errors
/// `Malformed`, or `FragmentTiny` in a first fragment, where the header is not whole.
#[inline(always)]
pub(super) fn parse(bytes: &[u8], l4: usize, meta: &mut Meta) -> Result<(), Reason> {
    meta.l4 = l4 as u16;
    match meta.proto {
        TCP => tcp::parse(bytes, l4, meta),
        UDP => udp::parse(bytes, l4, meta),
        ICMP | ICMPV6 => icmp::parse(bytes, l4, meta),
        DCCP | SCTP | UDP_LITE => parse_ports(bytes, l4, meta),
        _ => Ok(()),
    }
}

/// The protocols whose header starts with two ports like those of UDP.
#[inline(never)]
fn parse_ports(bytes: &[u8], l4: usize, meta: &mut Meta) -> Result<(), Reason> {
    let [s0, s1, d0, d1] = *chunk(bytes, l4).ok_or_else(|| cut_short(meta))?;
    meta.sport = u16::from_be_bytes([s0, s1]);
    meta.dport = u16::from_be_bytes([d0, d1]);
    Ok(())
}

/// The reason for a transport header that is not whole.
#[cold]
pub(super) fn cut_short(meta: &Meta) -> Reason {
    if meta.frag == Frag::First {
        Reason::FragmentTiny
    } else {
        Reason::Malformed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::parse;
    use crate::frame::testing::{Ip4, Ip6, ethernet};

    #[test]
    fn protocols_with_ports_in_front_give_them_and_no_payload() {
        for proto in [33, 132, 136] {
            let meta = parse(&ethernet(0x0800, &Ip4::new(proto).build(&[1, 2, 3, 4, 9]))).unwrap();
            assert_eq!((meta.sport, meta.dport), (0x0102, 0x0304));
            assert_eq!((meta.l4, meta.payload, meta.end), (34, 39, 39));
            let cut = Ip6::new(proto).build(&[1, 2, 3]);
            assert_eq!(parse(&ethernet(0x86dd, &cut)), Err(Reason::Malformed));
            let tiny = Ip4::new(proto).fragment(0, true).build(&[]);
            assert_eq!(parse(&ethernet(0x0800, &tiny)), Err(Reason::FragmentTiny));
        }
    }

    #[test]
    fn tunnels_and_routing_protocols_are_named_by_number_and_not_looked_into() {
        for proto in [
            2, 4, 41, 46, 47, 50, 88, 89, 94, 97, 103, 108, 112, 115, 137,
        ] {
            for (ethertype, packet) in [
                (0x0800, Ip4::new(proto).build(&[1, 2, 3, 4])),
                (0x86dd, Ip6::new(proto).build(&[1, 2, 3, 4])),
            ] {
                let meta = parse(&ethernet(ethertype, &packet)).unwrap();
                assert_eq!((meta.proto, meta.sport, meta.dport), (proto, 0, 0));
                assert_eq!((meta.l4 + 4, meta.payload), (meta.end, meta.end));
            }
        }
    }

    #[test]
    fn no_number_is_both_a_transport_and_an_extension_header() {
        for number in [0, 43, 44, 51, 59, 60, 135, 139, 140, 253, 254, 255] {
            assert!(!is_known(number), "{number}");
        }
    }
}
