//! TCP (RFC 9293 section 3.1).

use super::{Meta, chunk, transport};
use crate::telemetry::Reason;

/// The header without options, bytes.
const FIXED_LEN: usize = 20;

/// A checked header: whole with its options, which are not looked into.
struct Header<'a>(&'a [u8; FIXED_LEN]);

impl<'a> Header<'a> {
    /// `None` where the header is not whole in `bytes` at `pos`, or says that it is shorter than 20 bytes.
    #[inline(always)]
    fn new_checked(bytes: &'a [u8], pos: usize) -> Option<Self> {
        let header = Header(chunk(bytes, pos)?);
        (header.len() >= FIXED_LEN && pos + header.len() <= bytes.len()).then_some(header)
    }

    #[inline(always)]
    fn sport(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    #[inline(always)]
    fn dport(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// With options, bytes.
    #[inline(always)]
    fn len(&self) -> usize {
        usize::from(self.0[12] >> 4) * 4
    }

    #[inline(always)]
    fn flags(&self) -> u8 {
        self.0[13]
    }
}

/// Ports, flags and payload of the segment at `l4`.
///
/// # Errors
/// As [`transport::parse`].
#[inline(always)]
pub(super) fn parse(bytes: &[u8], l4: usize, meta: &mut Meta) -> Result<(), Reason> {
    let header = Header::new_checked(bytes, l4).ok_or_else(|| transport::cut_short(meta))?;
    meta.sport = header.sport();
    meta.dport = header.dport();
    meta.tcp_flags = header.flags();
    meta.payload = (l4 + header.len()) as u16;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::frame::testing::{Ip4, Ip6, TCP_SYN, ethernet};
    use crate::frame::{Meta, parse};
    use crate::telemetry::Reason;

    fn judge(segment: &[u8]) -> Result<Meta, Reason> {
        let v4 = parse(&ethernet(0x0800, &Ip4::new(6).build(segment)));
        let v6 = parse(&ethernet(0x86dd, &Ip6::new(6).build(segment)));
        let known = |meta: Meta| {
            (
                meta.sport,
                meta.dport,
                meta.tcp_flags,
                meta.end - meta.payload,
            )
        };
        assert_eq!(v4.map(known), v6.map(known));
        v4
    }

    #[test]
    fn ports_flags_and_payload_are_those_of_the_segment() {
        let meta = judge(&[&TCP_SYN[..], b"hello"].concat()).unwrap();
        assert_eq!(
            (meta.proto, meta.sport, meta.dport, meta.tcp_flags),
            (6, 40000, 80, 0x02)
        );
        assert_eq!((meta.l4, meta.payload, meta.end), (34, 54, 59));
    }

    #[test]
    fn the_payload_starts_after_the_options() {
        let mut segment = TCP_SYN.to_vec();
        segment[12] = 0xf0;
        segment.resize(60, 1);
        segment.extend(b"hello");
        let meta = judge(&segment).unwrap();
        assert_eq!((meta.payload, meta.end), (34 + 60, 34 + 65));
    }

    #[test]
    fn a_header_that_is_cut_or_contradicts_itself_is_malformed() {
        for len in 0..20 {
            assert_eq!(
                judge(&TCP_SYN[..len]),
                Err(Reason::Malformed),
                "{len} bytes"
            );
        }
        for offset in [0x00, 0x40, 0x60, 0xf0] {
            let mut segment = TCP_SYN;
            segment[12] = offset;
            assert_eq!(
                judge(&segment),
                Err(Reason::Malformed),
                "data offset {offset:#x}"
            );
        }
    }
}
