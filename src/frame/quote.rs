//! The packet that an ICMP error quotes (RFC 792; RFC 4443 section 2.4): as much as there is of it, which is at least the ports.

use super::{Frag, Meta, Net, chunk, ipv6_ext, transport};

/// A quoted packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// Its addresses, protocol, ports (or ICMP type and code), and the VLAN tags of the frame that quotes it. No offset in it means anything.
    pub meta: Meta,
    /// The identifier of an ICMP query; 0 of other protocols, and where the quote ends before.
    pub identifier: u16,
}

/// Reads the packet at the start of `bytes`, quoted by the frame of `outer`: of the same IP version, its lengths as they may be.
/// `None` where its ports are not there: it is cut off before, or a later fragment.
pub fn parse(bytes: &[u8], outer: &Meta) -> Option<Quoted> {
    let mut meta = Meta {
        net: outer.net,
        vlan: outer.vlan,
        vlan_depth: outer.vlan_depth,
        ..Meta::NONE
    };
    let l4 = match outer.net {
        Net::V4 => ipv4(bytes, &mut meta)?,
        Net::V6 => ipv6(bytes, &mut meta)?,
        Net::Other | Net::Llc => return None,
    };
    let mut identifier = 0;
    if transport::has_ports(meta.proto) {
        let [s0, s1, d0, d1] = *chunk(bytes, l4)?;
        meta.sport = u16::from_be_bytes([s0, s1]);
        meta.dport = u16::from_be_bytes([d0, d1]);
    } else if matches!(meta.proto, transport::ICMP | transport::ICMPV6) {
        let [kind, code] = *chunk(bytes, l4)?;
        (meta.sport, meta.dport) = (u16::from(kind), u16::from(code));
        identifier = chunk(bytes, l4 + 4).map_or(0, |bytes| u16::from_be_bytes(*bytes));
    }
    Some(Quoted { meta, identifier })
}

fn ipv4(bytes: &[u8], meta: &mut Meta) -> Option<usize> {
    let header: &[u8; 20] = chunk(bytes, 0)?;
    let len = usize::from(header[0] & 0xf) * 4;
    let offset = u16::from_be_bytes([header[6], header[7]]) & 0x1fff;
    if header[0] >> 4 != 4 || len < header.len() || offset != 0 {
        return None;
    }
    meta.proto = header[9];
    meta.src = u128::from(u32::from_be_bytes(*chunk(bytes, 12)?));
    meta.dst = u128::from(u32::from_be_bytes(*chunk(bytes, 16)?));
    Some(len)
}

fn ipv6(bytes: &[u8], meta: &mut Meta) -> Option<usize> {
    let header: &[u8; 40] = chunk(bytes, 0)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    meta.src = u128::from_be_bytes(*chunk(bytes, 8)?);
    meta.dst = u128::from_be_bytes(*chunk(bytes, 24)?);
    let (proto, l4) = ipv6_ext::walk_quoted(bytes, header.len(), header[6])?;
    meta.proto = proto;
    meta.frag = Frag::Whole;
    Some(l4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::testing::{Ip4, Ip6, udp};

    fn outer(net: Net) -> Meta {
        Meta {
            net,
            vlan: [7, 0],
            vlan_depth: 1,
            ..Meta::default()
        }
    }

    #[test]
    fn addresses_and_ports_are_read_from_eight_bytes_of_the_transport_on() {
        let whole = Ip4::new(17).build(&udp(40_000, 53, b"hello"));
        for len in [28, 24, whole.len()] {
            let quoted = parse(&whole[..len], &outer(Net::V4)).unwrap().meta;
            assert_eq!((quoted.sport, quoted.dport, quoted.proto), (40_000, 53, 17));
            assert_eq!(quoted.src_ip(), Some("10.77.0.9".parse().unwrap()));
            assert_eq!(quoted.vlan, [7, 0]);
        }
        for len in 0..24 {
            assert_eq!(parse(&whole[..len], &outer(Net::V4)), None, "{len}");
        }
        assert_eq!(parse(&whole, &outer(Net::V6)), None, "of the other family");
    }

    #[test]
    fn extension_headers_are_walked_and_a_later_fragment_has_no_ports() {
        let options = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp(40_000, 53, b"x")].concat();
        let quoted = parse(&Ip6::new(60).build(&options), &outer(Net::V6))
            .unwrap()
            .meta;
        assert_eq!((quoted.proto, quoted.dport), (17, 53));
        for (offset, some) in [(0, true), (8, false)] {
            let fragment = [
                &[17, 0, 0, offset | 1, 0, 0, 0, 1][..],
                &udp(40_000, 53, b"x"),
            ]
            .concat();
            assert_eq!(
                parse(&Ip6::new(44).build(&fragment), &outer(Net::V6)).is_some(),
                some
            );
        }
        let later = Ip4::new(17).fragment(8, true).build(&udp(40_000, 53, b"x"));
        assert_eq!(parse(&later, &outer(Net::V4)), None);
    }

    #[test]
    fn an_icmp_query_has_its_type_and_identifier() {
        let quoted = parse(
            &Ip4::new(1).build(&[8, 0, 0, 0, 0x12, 0x34, 0, 1]),
            &outer(Net::V4),
        )
        .unwrap();
        assert_eq!((quoted.meta.sport, quoted.identifier), (8, 0x1234));
        let short = parse(&Ip4::new(1).build(&[8, 0, 0, 0]), &outer(Net::V4)).unwrap();
        assert_eq!(short.identifier, 0);
    }
}
