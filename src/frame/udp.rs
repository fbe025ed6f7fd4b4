//! UDP (RFC 768).

use super::{Frag, Meta, chunk, transport};
use crate::telemetry::Reason;

/// Ports, length, checksum.
const HEADER_LEN: usize = 8;

/// A checked header.
struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// `None` where it is not whole in `bytes` at `pos`.
    #[inline(always)]
    fn new_checked(bytes: &'a [u8], pos: usize) -> Option<Self> {
        chunk(bytes, pos).map(Header)
    }

    #[inline(always)]
    fn sport(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    #[inline(always)]
    fn dport(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    /// Header and data, bytes.
    #[inline(always)]
    fn total_len(&self) -> usize {
        usize::from(u16::from_be_bytes([self.0[4], self.0[5]]))
    }
}

/// Ports and payload of the datagram at `l4`. The length may be shorter than what IP carries (RFC 768 gives no rule, and
/// receivers cut it), and in a first fragment it is that of the datagram, so only its lower bound is checked there.
///
/// # Errors
/// As [`transport::parse`], and `Malformed` for a length under 8 or past the end; 0 is for jumbograms (RFC 2675
/// section 4), which are refused.
#[inline(always)]
pub(super) fn parse(bytes: &[u8], l4: usize, meta: &mut Meta) -> Result<(), Reason> {
    let header = Header::new_checked(bytes, l4).ok_or_else(|| transport::cut_short(meta))?;
    let past_end = l4 + header.total_len() > bytes.len() && meta.frag == Frag::Whole;
    if header.total_len() < HEADER_LEN || past_end {
        return Err(Reason::Malformed);
    }
    meta.sport = header.sport();
    meta.dport = header.dport();
    meta.payload = (l4 + HEADER_LEN) as u16;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::frame::testing::{Ip4, Ip6, ethernet, udp};
    use crate::frame::{Frag, Meta, parse};
    use crate::telemetry::Reason;

    fn judge(datagram: &[u8]) -> Result<Meta, Reason> {
        let v4 = parse(&ethernet(0x0800, &Ip4::new(17).build(datagram)));
        let v6 = parse(&ethernet(0x86dd, &Ip6::new(17).build(datagram)));
        let known = |meta: Meta| (meta.sport, meta.dport, meta.end - meta.payload);
        assert_eq!(v4.map(known), v6.map(known));
        v4
    }

    #[test]
    fn ports_and_payload_are_those_of_the_datagram() {
        let meta = judge(&udp(40000, 69, b"hello")).unwrap();
        assert_eq!(
            (meta.proto, meta.sport, meta.dport, meta.tcp_flags),
            (17, 40000, 69, 0)
        );
        assert_eq!((meta.l4, meta.payload, meta.end), (34, 42, 47));
    }

    #[test]
    fn a_header_that_is_cut_short_is_malformed() {
        for len in 0..8 {
            assert_eq!(
                judge(&udp(1, 2, b"")[..len]),
                Err(Reason::Malformed),
                "{len} bytes"
            );
        }
    }

    #[test]
    fn a_length_under_eight_or_past_the_end_is_malformed_and_a_shorter_one_is_not() {
        for (length, ok) in [
            (0, false),
            (7, false),
            (8, true),
            (12, true),
            (13, true),
            (14, false),
        ] {
            let mut datagram = udp(1, 2, b"hello");
            datagram[5] = length;
            assert_eq!(judge(&datagram).is_ok(), ok, "length {length}");
        }
    }

    #[test]
    fn the_length_in_a_first_fragment_is_that_of_the_datagram() {
        let whole = udp(1, 69, &[0; 2000]);
        let meta = parse(&ethernet(
            0x0800,
            &Ip4::new(17).fragment(0, true).build(&whole[..1480]),
        ));
        assert_eq!(
            meta.map(|meta| (meta.frag, meta.dport)),
            Ok((Frag::First, 69))
        );
        let mut bad = whole;
        bad[4..6].fill(0);
        let bad = Ip4::new(17).fragment(0, true).build(&bad[..1480]);
        assert_eq!(parse(&ethernet(0x0800, &bad)), Err(Reason::Malformed));
    }
}
