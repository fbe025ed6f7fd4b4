//! What a tunnel carries, one level deep: GRE (RFC 2784, RFC 2890), IP in IP (RFC 2003), IPv6 in IPv4 (RFC 4213), VXLAN (RFC 7348).

use super::{Frag, Meta, Net, chunk, ipv4, ipv6};
use crate::telemetry::Reason;

/// A kind of tunnel that can be looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Protocol 47.
    Gre = 0,
    /// Protocol 4.
    Ipip,
    /// Protocol 41.
    SixInFour,
    /// UDP port 4789, or 8472.
    Vxlan,
}

impl Kind {
    /// Of a parsed packet; `None` where it is no such tunnel. VXLAN goes to its port both ways (RFC 7348 section 5).
    pub fn of(meta: &Meta) -> Option<Kind> {
        match meta.proto {
            47 => Some(Kind::Gre),
            4 => Some(Kind::Ipip),
            41 => Some(Kind::SixInFour),
            17 if matches!(meta.dport, 4789 | 8472) => Some(Kind::Vxlan),
            _ => None,
        }
    }
}

/// Set in the place of the outer tag of what is inside a tunnel, though it counts as untagged: so it is told from what is on the wire.
const INSIDE: u16 = 0xfff;

/// The number of the kind of tunnel, from 1, that this is inside of; 0 of what is on the wire.
#[inline]
pub fn number(meta: &Meta) -> u8 {
    match (meta.vlan_depth, meta.vlan) {
        (0, [INSIDE, kind]) => kind as u8 + 1,
        _ => 0,
    }
}

/// The packet or frame inside. Offsets are from the start of `frame`, as those of `outer`; MAC addresses are those outside, since they say who sent it. It counts
/// as untagged; in `vlan` stands a mark that no tag has.
///
/// # Errors
/// As [`super::parse`], for what is inside. [`Reason::Ethertype`] for GRE of a version or of a protocol that is not looked into, [`Reason::Malformed`] for a
/// header that is cut off or has a routing field (RFC 2784 section 2.3), and for an outer fragment: what is inside is not whole.
pub fn inside(frame: &[u8], outer: &Meta, kind: Kind) -> Result<Meta, Reason> {
    if outer.frag != Frag::Whole {
        return Err(Reason::Malformed);
    }
    let (l4, end) = (usize::from(outer.l4), usize::from(outer.end));
    let packet = |net, at: usize| parse_ip(frame, net, at, end);
    let link = |at: usize| {
        let inner = frame.get(at..end).ok_or(Reason::Malformed)?;
        Ok(shifted(super::parse(inner)?, at))
    };
    let mut meta = match kind {
        Kind::Ipip => packet(Net::V4, l4),
        Kind::SixInFour => packet(Net::V6, l4),
        Kind::Gre => {
            let (protocol, at) = gre(frame.get(..end).unwrap_or_default(), l4)?;
            match protocol {
                0x0800 => packet(Net::V4, at),
                0x86dd => packet(Net::V6, at),
                0x6558 => link(at),
                _ => Err(Reason::Ethertype),
            }
        }
        // Flags, reserved, network identifier, reserved: 8 bytes (RFC 7348 section 5).
        Kind::Vxlan => link(usize::from(outer.payload) + 8),
    }?;
    meta.src_mac = outer.src_mac;
    meta.dst_mac = outer.dst_mac;
    meta.vlan_depth = 0;
    meta.vlan = [INSIDE, kind as u16];
    Ok(meta)
}

/// The protocol that GRE carries, and where that begins.
fn gre(bytes: &[u8], at: usize) -> Result<(u16, usize), Reason> {
    const CHECKSUM: u16 = 0x8000;
    const ROUTING: u16 = 0x4000;
    const KEY: u16 = 0x2000;
    const SEQUENCE: u16 = 0x1000;
    let [f0, f1, p0, p1] = *chunk(bytes, at).ok_or(Reason::Malformed)?;
    let flags = u16::from_be_bytes([f0, f1]);
    if flags & 7 != 0 {
        return Err(Reason::Ethertype);
    }
    if flags & ROUTING != 0 {
        return Err(Reason::Malformed);
    }
    let fields = [CHECKSUM, KEY, SEQUENCE]
        .iter()
        .filter(|field| flags & **field != 0);
    Ok((u16::from_be_bytes([p0, p1]), at + 4 + 4 * fields.count()))
}

fn parse_ip(frame: &[u8], net: Net, at: usize, end: usize) -> Result<Meta, Reason> {
    let bytes = frame.get(at..end).ok_or(Reason::Malformed)?;
    let len = bytes.len() as u16;
    let mut meta = Meta {
        net,
        ethertype: if net == Net::V4 { 0x0800 } else { 0x86dd },
        l4: len,
        payload: len,
        end: len,
        ..Meta::NONE
    };
    match net {
        Net::V4 => ipv4::parse(bytes, &mut meta)?,
        _ => ipv6::parse(bytes, &mut meta)?,
    }
    Ok(shifted(meta, at))
}

/// The same, of a longer frame in which it begins at `by`.
fn shifted(mut meta: Meta, by: usize) -> Meta {
    let by = by as u16;
    for offset in [&mut meta.l3, &mut meta.l4, &mut meta.payload, &mut meta.end] {
        *offset = offset.saturating_add(by);
    }
    if meta.frag != Frag::Whole {
        meta.frag_data = meta.frag_data.saturating_add(by);
    }
    meta
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::parse;
    use crate::frame::testing::{Ip4, Ip6, ethernet, udp, udp4, udp6};

    fn look(frame: &[u8]) -> Result<Meta, Reason> {
        let outer = parse(frame).unwrap();
        inside(frame, &outer, Kind::of(&outer).expect("a tunnel"))
    }

    fn assert_is_udp_69(frame: &[u8], net: Net) {
        let meta = look(frame).unwrap();
        assert_eq!(
            (meta.net, meta.proto, meta.dport, meta.vlan_depth),
            (net, 17, 69, 0)
        );
        assert_eq!(meta.src_mac, parse(frame).unwrap().src_mac);
        assert_eq!(
            &frame[usize::from(meta.payload)..usize::from(meta.end)],
            b"x"
        );
    }

    #[test]
    fn what_each_tunnel_carries_is_found_with_offsets_in_the_whole_frame() {
        let (v4, v6) = (udp4(69, b"x"), udp6(69, b"x"));
        let in4 = |proto, body: &[u8]| ethernet(0x0800, &Ip4::new(proto).build(body));
        assert_is_udp_69(&in4(4, &v4), Net::V4);
        assert_is_udp_69(&in4(41, &v6), Net::V6);
        assert_is_udp_69(&ethernet(0x86dd, &Ip6::new(4).build(&v4)), Net::V4);
        let gre = |head: &[u8], body: &[u8]| in4(47, &[head, body].concat());
        assert_is_udp_69(&gre(&[0, 0, 8, 0], &v4), Net::V4);
        assert_is_udp_69(&gre(&[0, 0, 0x86, 0xdd], &v6), Net::V6);
        assert_is_udp_69(
            &gre(&[0xb0, 0, 8, 0, 1, 1, 0, 0, 2, 2, 2, 2, 3, 3, 3, 3], &v4),
            Net::V4,
        );
        assert_is_udp_69(&gre(&[0, 0, 0x65, 0x58], &ethernet(0x0800, &v4)), Net::V4);
        let vxlan = [&[8, 0, 0, 0, 0, 0, 9, 0][..], &ethernet(0x86dd, &v6)].concat();
        assert_is_udp_69(&in4(17, &udp(5000, 4789, &vxlan)), Net::V6);
    }

    #[test]
    fn what_cannot_be_seen_is_an_error() {
        let in4 = |body: &[u8]| ethernet(0x0800, &Ip4::new(47).build(body));
        for (head, reason) in [
            (&[0, 1, 0x88, 0x0b][..], Reason::Ethertype),
            (&[0, 0, 0x88, 0x47], Reason::Ethertype),
            (&[0x40, 0, 8, 0], Reason::Malformed),
            (&[0x20, 0, 8, 0, 1], Reason::Malformed),
            (&[0, 0, 8], Reason::Malformed),
            (&[0, 0, 8, 0, 0x45], Reason::Malformed),
        ] {
            assert_eq!(look(&in4(head)), Err(reason), "{head:02x?}");
        }
        let cut = Ip4::new(4).fragment(0, true).build(&udp4(69, b"1234"));
        assert_eq!(look(&ethernet(0x0800, &cut)), Err(Reason::Malformed));
    }
}
