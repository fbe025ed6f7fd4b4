//! PPPoE session frames (RFC 2516 section 6) and the PPP protocols in them (RFC 1661 section 2).

use super::{Meta, Net, ethernet};
use crate::telemetry::Reason;

/// Ethertype of the session stage.
pub(super) const SESSION: u16 = 0x8864;

/// Version and type, code, session id, length; and the PPP protocol field.
const HEADER_LEN: usize = 8;
/// The PPP protocol field is counted by the length field.
const PROTOCOL_LEN: usize = 2;

/// A checked header.
struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// `Malformed` where version, type, code or length is not what section 6 says, or the frame ends too soon.
    /// `bytes` starts at the header.
    fn new_checked(bytes: &'a [u8]) -> Result<Self, Reason> {
        let header = Header(bytes.first_chunk().ok_or(Reason::Malformed)?);
        let fits = (HEADER_LEN..=bytes.len()).contains(&header.total_len());
        if header.0[0] == 0x11 && header.0[1] == 0 && fits {
            Ok(header)
        } else {
            Err(Reason::Malformed)
        }
    }

    /// From the start of this header to the end of what PPP carries, bytes.
    fn total_len(&self) -> usize {
        HEADER_LEN - PROTOCOL_LEN + usize::from(u16::from_be_bytes([self.0[4], self.0[5]]))
    }

    fn protocol(&self) -> u16 {
        u16::from_be_bytes([self.0[6], self.0[7]])
    }
}

/// Moves `l3` to the IP header inside, and `end` to where PPP says it ends. Control protocols stay [`Net::Other`] with
/// the ethertype of the session stage, and `l3` at the PPPoE header.
///
/// # Errors
/// `Malformed` as said at the header; `Ethertype` for any other PPP protocol, and for one whose field is compressed
/// (RFC 1661 section 6.5, which RFC 2516 section 7 forbids here): what it carries would not be seen.
pub(super) fn look_through(frame: &[u8], meta: &mut Meta) -> Result<(), Reason> {
    let l3 = usize::from(meta.l3);
    let header = Header::new_checked(frame.get(l3..).unwrap_or_default())?;
    let end = (l3 + header.total_len()) as u16;
    let (net, ethertype) = match header.protocol() {
        0x0021 => (Net::V4, ethernet::IPV4),
        0x0057 => (Net::V6, ethernet::IPV6),
        // IPCP, IPV6CP, LCP, PAP, LQR, CHAP.
        0x8021 | 0x8057 | 0xc021 | 0xc023 | 0xc025 | 0xc223 => (Net::Other, SESSION),
        _ => return Err(Reason::Ethertype),
    };
    if net != Net::Other {
        meta.l3 += HEADER_LEN as u16;
    }
    meta.net = net;
    meta.ethertype = ethertype;
    meta.l4 = end;
    meta.payload = end;
    meta.end = end;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::frame::testing::{ethernet, pppoe, tagged, udp4, udp6};
    use crate::frame::{Net, parse};
    use crate::telemetry::Reason;

    #[test]
    fn ip_in_a_session_is_looked_through() {
        let v4 = parse(&ethernet(0x8864, &pppoe(0x0021, &udp4(69, b"x")))).unwrap();
        assert_eq!(
            (v4.net, v4.ethertype, v4.proto, v4.dport, v4.l3),
            (Net::V4, 0x0800, 17, 69, 22)
        );
        let v6 = parse(&tagged(
            &[(0x8100, 9)],
            0x8864,
            &pppoe(0x0057, &udp6(161, b"x")),
        ))
        .unwrap();
        assert_eq!(
            (v6.net, v6.ethertype, v6.proto, v6.dport, v6.l3),
            (Net::V6, 0x86dd, 17, 161, 26)
        );
    }

    #[test]
    fn control_protocols_are_reported_under_the_ethertype_of_the_session() {
        for protocol in [0x8021, 0x8057, 0xc021, 0xc023, 0xc025, 0xc223] {
            let session = pppoe(protocol, &[1, 1, 0, 4]);
            let meta = parse(&ethernet(0x8864, &[session, vec![0; 34]].concat())).unwrap();
            assert_eq!((meta.net, meta.ethertype), (Net::Other, 0x8864));
            assert_eq!((meta.l3, meta.l4, meta.payload, meta.end), (14, 26, 26, 26));
        }
    }

    #[test]
    fn another_protocol_and_a_compressed_field_cannot_be_judged() {
        // 0x2145: the compressed form of IPv4, then the first byte of an IPv4 header; 0x00fd: compressed datagram.
        for protocol in [0x2145, 0x5760, 0x00fd, 0x002d, 0x0281, 0x8281] {
            let frame = ethernet(0x8864, &pppoe(protocol, &udp4(69, b"x")));
            assert_eq!(parse(&frame), Err(Reason::Ethertype), "{protocol:#06x}");
        }
    }

    #[test]
    fn a_bad_version_code_or_length_is_malformed() {
        let good = ethernet(0x8864, &pppoe(0x0021, &udp4(69, b"x")));
        for (at, value) in [(14, 0x12), (14, 0x21), (15, 0xa7), (18, 0xff), (19, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(parse(&bad), Err(Reason::Malformed), "byte {at}");
        }
        assert_eq!(parse(&good[..21]), Err(Reason::Malformed));
    }

    #[test]
    fn a_datagram_may_not_reach_into_the_padding_after_the_session() {
        let mut frame = ethernet(0x8864, &pppoe(0x0021, &udp4(69, b"x")));
        frame[19] -= 1;
        assert_eq!(parse(&frame), Err(Reason::Malformed));
    }
}
