//! IPv4 (RFC 791 section 3.1). The header checksum is not looked at: a wrong one is the receiver's to drop.

use super::fragment::Fragment;
use super::{Frag, Meta, ah, ipv6_ext, transport};
use crate::telemetry::Reason;

/// The header without options, bytes.
const FIXED_LEN: usize = 20;

/// A checked header: version 4, at least 20 bytes, and a total length that holds it and fits.
struct Header<'a>(&'a [u8; FIXED_LEN]);

impl<'a> Header<'a> {
    /// `bytes` starts at the header and ends where the link layer says. `Malformed` as said at the type.
    #[inline(always)]
    fn new_checked(bytes: &'a [u8]) -> Result<Self, Reason> {
        let header = Header(bytes.first_chunk().ok_or(Reason::Malformed)?);
        if header.0[0] >> 4 != 4
            || header.len() < FIXED_LEN
            || header.total_len() < header.len()
            || header.total_len() > bytes.len()
        {
            return Err(Reason::Malformed);
        }
        Ok(header)
    }

    /// Header with options, bytes.
    #[inline(always)]
    fn len(&self) -> usize {
        usize::from(self.0[0] & 0x0f) * 4
    }

    /// Header and data, bytes.
    #[inline(always)]
    fn total_len(&self) -> usize {
        usize::from(u16::from_be_bytes([self.0[2], self.0[3]]))
    }

    fn ident(&self) -> u16 {
        u16::from_be_bytes([self.0[4], self.0[5]])
    }

    /// Any bit of offset or more-fragments.
    #[inline(always)]
    fn is_fragment(&self) -> bool {
        u16::from_be_bytes([self.0[6], self.0[7]]) & 0x3fff != 0
    }

    fn fragment(&self) -> Fragment {
        let field = u16::from_be_bytes([self.0[6], self.0[7]]);
        Fragment {
            offset: usize::from(field & 0x1fff) * 8,
            more: field & 0x2000 != 0,
            len: self.total_len() - self.len(),
            before: self.len(),
        }
    }

    #[inline(always)]
    fn ttl(&self) -> u8 {
        self.0[8]
    }

    #[inline(always)]
    fn proto(&self) -> u8 {
        self.0[9]
    }

    #[inline(always)]
    fn src(&self) -> u32 {
        u32::from_be_bytes([self.0[12], self.0[13], self.0[14], self.0[15]])
    }

    #[inline(always)]
    fn dst(&self) -> u32 {
        u32::from_be_bytes([self.0[16], self.0[17], self.0[18], self.0[19]])
    }
}

/// The datagram at `meta.l3`, to its end.
///
/// # Errors
/// `Malformed`; `SourceRoute` for a loose or strict one; `FragmentTiny`; `ExtHeader` for more than 8 authentication
/// headers.
#[inline(always)]
pub(super) fn parse(frame: &[u8], meta: &mut Meta) -> Result<(), Reason> {
    let l3 = usize::from(meta.l3);
    let header = Header::new_checked(frame.get(l3..usize::from(meta.end)).unwrap_or_default())?;
    let end = l3 + header.total_len();
    let l4 = l3 + header.len();
    let bytes = frame.get(..end).ok_or(Reason::Malformed)?;

    meta.src = u128::from(header.src());
    meta.dst = u128::from(header.dst());
    meta.proto = header.proto();
    meta.hop_limit = header.ttl();
    meta.end = end as u16;
    meta.l4 = l4 as u16;
    meta.payload = meta.end;

    if header.len() > FIXED_LEN {
        check_options(bytes.get(l3 + FIXED_LEN..l4).unwrap_or_default())?;
    }
    if header.is_fragment() {
        return parse_fragment(&header, bytes, l4, meta);
    }
    parse_carried(bytes, l4, meta)
}

/// What follows the header in a whole datagram or a first fragment.
#[inline(always)]
fn parse_carried(bytes: &[u8], l4: usize, meta: &mut Meta) -> Result<(), Reason> {
    if meta.proto == ah::PROTO {
        return parse_after_ah(bytes, l4, meta);
    }
    transport::parse(bytes, l4, meta)
}

/// Sorts out `Frag`, and holds the fragment to its rules.
#[inline(never)]
fn parse_fragment(
    header: &Header<'_>,
    bytes: &[u8],
    l4: usize,
    meta: &mut Meta,
) -> Result<(), Reason> {
    let fragment = header.fragment();
    meta.frag_id = u32::from(header.ident());
    meta.frag_more = fragment.more;
    meta.frag_proto = meta.proto;
    meta.frag_data = l4 as u16;
    if fragment.offset > 0 {
        meta.frag = Frag::Later;
        meta.frag_offset = fragment.offset as u16;
        return fragment.check_later(meta.proto);
    }
    meta.frag = Frag::First;
    parse_carried(bytes, l4, meta)?;
    fragment.check_multiple()
}

/// Walks the authentication headers, as many as IPv6 may have of extension headers.
#[inline(never)]
fn parse_after_ah(bytes: &[u8], mut pos: usize, meta: &mut Meta) -> Result<(), Reason> {
    for _ in 0..ipv6_ext::LONGEST_CHAIN {
        let header =
            ah::Header::new_checked(bytes, pos).ok_or_else(|| transport::cut_short(meta))?;
        pos += header.len();
        meta.proto = header.next();
        if meta.proto != ah::PROTO {
            return transport::parse(bytes, pos, meta);
        }
    }
    Err(Reason::ExtHeader)
}

/// Walks the options (RFC 791 section 3.1): type 0 ends them, type 1 is one byte, the others say their length.
#[inline(never)]
fn check_options(mut options: &[u8]) -> Result<(), Reason> {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE_SOURCE_ROUTE: u8 = 131;
    const STRICT_SOURCE_ROUTE: u8 = 137;
    while let [kind, rest @ ..] = options {
        match *kind {
            END => return Ok(()),
            NO_OPERATION => options = rest,
            LOOSE_SOURCE_ROUTE | STRICT_SOURCE_ROUTE => return Err(Reason::SourceRoute),
            _ => {
                let len = rest.first().map_or(0, |len| usize::from(*len));
                if len < 2 {
                    return Err(Reason::Malformed);
                }
                options = options.get(len..).ok_or(Reason::Malformed)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::frame::testing::{Ip4, TCP_SYN, ethernet, udp};
    use crate::frame::{Frag, Net, parse};
    use crate::telemetry::Reason;

    fn judge(datagram: Vec<u8>) -> Result<crate::frame::Meta, Reason> {
        parse(&ethernet(0x0800, &datagram))
    }

    #[test]
    fn addresses_protocol_and_time_to_live_are_those_of_the_header() {
        let meta = judge(Ip4::new(17).build(&udp(1, 2, b"abc"))).unwrap();
        assert_eq!(meta.net, Net::V4);
        assert_eq!(meta.src_ip(), Some("10.77.0.9".parse().unwrap()));
        assert_eq!(meta.dst_ip(), Some("93.184.216.34".parse().unwrap()));
        assert_eq!(
            (meta.proto, meta.hop_limit, meta.frag),
            (17, 64, Frag::Whole)
        );
        assert_eq!((meta.l3, meta.l4, meta.payload, meta.end), (14, 34, 42, 45));
    }

    #[test]
    fn a_header_that_contradicts_itself_or_the_frame_is_malformed() {
        let good = Ip4::new(17).build(&udp(1, 2, b"abc"));
        // Version 5 and 6; header length 4 and 15 words; total length under the header and past the frame.
        for (at, value) in [
            (0, 0x55),
            (0, 0x65),
            (0, 0x44),
            (0, 0x4f),
            (3, 19),
            (3, 200),
        ] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(judge(bad), Err(Reason::Malformed), "byte {at} = {value:#x}");
        }
        for len in 0..good.len() {
            assert_eq!(
                judge(good[..len].to_vec()),
                Err(Reason::Malformed),
                "cut to {len}"
            );
        }
    }

    #[test]
    fn padding_is_not_part_of_the_datagram() {
        let mut padded = Ip4::new(17).build(&udp(1, 2, b"abc"));
        padded.resize(46, 0xff);
        let meta = judge(padded).unwrap();
        assert_eq!((meta.payload, meta.end), (42, 45));
    }

    #[test]
    fn ports_are_where_the_header_length_says() {
        for options in [
            vec![1; 4],
            vec![7, 7, 4, 0, 0, 0, 0, 0],
            vec![0; 40],
            vec![148, 4, 0, 0],
        ] {
            let len = options.len() as u16;
            let meta = judge(Ip4::new(17).options(&options).build(&udp(1, 69, b"abc"))).unwrap();
            assert_eq!((meta.dport, meta.l4), (69, 34 + len), "{options:?}");
        }
    }

    #[test]
    fn a_source_route_is_named_wherever_it_stands_among_the_options() {
        for options in [
            vec![131, 7, 4, 1, 2, 3, 4, 0],
            vec![1, 137, 7, 4, 1, 2, 3, 4],
            vec![148, 4, 0, 0, 131, 3, 4, 0],
        ] {
            let datagram = Ip4::new(17).options(&options).build(&udp(1, 69, b"abc"));
            assert_eq!(judge(datagram), Err(Reason::SourceRoute), "{options:?}");
        }
        // After the end of the list nothing is an option.
        let ended = Ip4::new(17)
            .options(&[0, 131, 3, 4])
            .build(&udp(1, 69, b"abc"));
        assert!(judge(ended).is_ok());
    }

    #[test]
    fn a_broken_option_length_is_malformed() {
        for options in [
            [148, 0, 0, 0],
            [148, 1, 0, 0],
            [148, 5, 0, 0],
            [1, 1, 1, 148],
        ] {
            let datagram = Ip4::new(17).options(&options).build(&udp(1, 69, b"abc"));
            assert_eq!(judge(datagram), Err(Reason::Malformed), "{options:?}");
        }
    }

    #[test]
    fn a_first_fragment_needs_the_whole_transport_header() {
        let first = |proto, data: &[u8]| judge(Ip4::new(proto).fragment(0, true).build(data));
        let mut long_header = TCP_SYN.to_vec();
        long_header[12] = 0x70;
        long_header.resize(24, 0);
        let meta = first(6, &[&TCP_SYN[..], &[0; 4]].concat()).unwrap();
        assert_eq!(
            (meta.frag, meta.frag_id, meta.dport),
            (Frag::First, 0x1234, 80)
        );
        assert_eq!(first(6, &TCP_SYN[..16]), Err(Reason::FragmentTiny));
        assert_eq!(first(6, &long_header), Err(Reason::FragmentTiny));
        assert_eq!(first(17, &[0, 1, 0, 2]), Err(Reason::FragmentTiny));
        assert_eq!(first(1, &[]), Err(Reason::FragmentTiny));
        assert_eq!(
            first(51, &[6, 4, 0, 0, 0, 0, 0, 0]),
            Err(Reason::FragmentTiny)
        );
    }

    #[test]
    fn a_later_fragment_keeps_its_place_and_knows_no_ports() {
        let meta = judge(Ip4::new(17).fragment(1480, false).build(&[9; 13])).unwrap();
        assert_eq!(
            (meta.frag, meta.frag_id, meta.frag_offset),
            (Frag::Later, 0x1234, 1480)
        );
        assert_eq!((meta.proto, meta.sport, meta.dport), (17, 0, 0));
        assert_eq!((meta.l4, meta.payload, meta.end), (34, 47, 47));
    }

    #[test]
    fn fragments_that_cannot_be_put_together_are_named() {
        let cases = [
            (6, 8, false, 8, Reason::FragmentTiny),
            (17, 65528, false, 8, Reason::Malformed),
            (17, 1480, true, 9, Reason::Malformed),
            (17, 0, true, 9, Reason::Malformed),
            (17, 1480, false, 0, Reason::Malformed),
        ];
        for (proto, offset, more, len, reason) in cases {
            let mut data = vec![0; len];
            if offset == 0 {
                data[..8].copy_from_slice(&udp(1, 2, &[0; 100])[..8]);
            }
            let datagram = Ip4::new(proto).fragment(offset, more).build(&data);
            assert_eq!(judge(datagram), Err(reason), "offset {offset} length {len}");
        }
    }

    #[test]
    fn an_authentication_header_does_not_hide_ports() {
        let ah = |next, rest: &[u8]| [&[next, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1], rest].concat();
        let mut chain = udp(1, 69, b"x");
        let mut next = 17;
        for depth in 1..=9 {
            chain = ah(next, &chain);
            next = 51;
            let verdict = judge(Ip4::new(51).build(&chain));
            if depth <= 8 {
                assert_eq!(verdict.map(|meta| (meta.proto, meta.dport)), Ok((17, 69)));
            } else {
                assert_eq!(verdict, Err(Reason::ExtHeader));
            }
        }
        assert_eq!(
            judge(Ip4::new(51).build(&[17, 4, 0, 0, 0, 0])),
            Err(Reason::Malformed)
        );
    }

    #[test]
    fn numbers_of_ipv6_extension_headers_mean_nothing_here() {
        for proto in [0, 43, 44, 60] {
            let meta = judge(Ip4::new(proto).build(&udp(1, 69, b"x"))).unwrap();
            assert_eq!((meta.proto, meta.dport, meta.payload), (proto, 0, meta.end));
        }
    }
}
