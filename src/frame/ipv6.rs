//! IPv6 (RFC 8200 section 3); what stands between its header and the transport is in `ipv6_ext`.

use super::{Meta, ipv6_ext, transport};
use crate::telemetry::Reason;

/// The header without extensions, bytes.
pub(super) const HEADER_LEN: usize = 40;

/// A checked header: version 6 and a payload that fits.
struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// `bytes` starts at the header and ends where the link layer says. `Malformed` as said at the type, and so for a
    /// jumbogram (RFC 2675), whose payload length is 0: nothing then holds its hop-by-hop header.
    #[inline(always)]
    fn new_checked(bytes: &'a [u8]) -> Result<Self, Reason> {
        let header = Header(bytes.first_chunk().ok_or(Reason::Malformed)?);
        if header.0[0] >> 4 != 6 || header.total_len() > bytes.len() {
            return Err(Reason::Malformed);
        }
        Ok(header)
    }

    /// Header and payload, bytes.
    #[inline(always)]
    fn total_len(&self) -> usize {
        HEADER_LEN + usize::from(u16::from_be_bytes([self.0[4], self.0[5]]))
    }

    #[inline(always)]
    fn next(&self) -> u8 {
        self.0[6]
    }

    #[inline(always)]
    fn hop_limit(&self) -> u8 {
        self.0[7]
    }

    #[inline(always)]
    fn src(&self) -> u128 {
        let [_, _, _, _, _, _, _, _, addresses @ ..] = self.0;
        addresses
            .first_chunk()
            .map_or(0, |src| u128::from_be_bytes(*src))
    }

    #[inline(always)]
    fn dst(&self) -> u128 {
        self.0
            .last_chunk()
            .map_or(0, |dst| u128::from_be_bytes(*dst))
    }
}

/// The packet at `meta.l3`, to its end.
///
/// # Errors
/// `Malformed`; those of the extension headers: `ExtHeader`, `SourceRoute`, `FragmentTiny`.
#[inline(always)]
pub(super) fn parse(frame: &[u8], meta: &mut Meta) -> Result<(), Reason> {
    let l3 = usize::from(meta.l3);
    let header = Header::new_checked(frame.get(l3..usize::from(meta.end)).unwrap_or_default())?;
    let end = l3 + header.total_len();
    let l4 = l3 + HEADER_LEN;
    let bytes = frame.get(..end).ok_or(Reason::Malformed)?;

    meta.src = header.src();
    meta.dst = header.dst();
    meta.proto = header.next();
    meta.hop_limit = header.hop_limit();
    meta.end = end as u16;
    meta.l4 = l4 as u16;
    meta.payload = meta.end;

    match header.next() {
        transport::TCP | transport::UDP | transport::ICMPV6 => transport::parse(bytes, l4, meta),
        _ => ipv6_ext::walk(bytes, l4, meta),
    }
}

#[cfg(test)]
mod tests {
    use crate::frame::testing::{Ip6, ethernet, udp};
    use crate::frame::{Frag, Meta, Net, parse};
    use crate::telemetry::Reason;

    fn judge(packet: Vec<u8>) -> Result<Meta, Reason> {
        parse(&ethernet(0x86dd, &packet))
    }

    #[test]
    fn addresses_protocol_and_hop_limit_are_those_of_the_header() {
        let meta = judge(Ip6::new(17).build(&udp(1, 2, b"abc"))).unwrap();
        assert_eq!(meta.net, Net::V6);
        assert_eq!(meta.src_ip(), Some("fd77::9".parse().unwrap()));
        assert_eq!(meta.dst_ip(), Some("2606:2800:220:1::1".parse().unwrap()));
        assert_eq!(
            (meta.proto, meta.hop_limit, meta.frag),
            (17, 64, Frag::Whole)
        );
        assert_eq!((meta.l3, meta.l4, meta.payload, meta.end), (14, 54, 62, 65));
    }

    #[test]
    fn a_header_that_contradicts_the_frame_is_malformed() {
        let good = Ip6::new(17).build(&udp(1, 2, b"abc"));
        for (at, value) in [(0, 0x40), (0, 0x70), (5, 12), (4, 1)] {
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
    fn padding_is_not_part_of_the_packet() {
        let mut padded = Ip6::new(17).build(&udp(1, 2, b"abc"));
        padded.resize(80, 0xff);
        let meta = judge(padded).unwrap();
        assert_eq!((meta.payload, meta.end), (62, 65));
    }

    #[test]
    fn a_jumbogram_is_malformed() {
        let mut jumbo =
            Ip6::new(0).build(&[&[17, 0, 0xc2, 4, 0, 1, 0, 0][..], &udp(1, 2, b"abc")].concat());
        jumbo[4..6].fill(0);
        assert_eq!(judge(jumbo), Err(Reason::Malformed));
    }
}
