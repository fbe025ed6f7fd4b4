//! Ethernet II and IEEE 802.3 with LLC (IEEE 802.3-2022 section 3.2.6, IEEE 802.2 section 3).

use super::{Meta, Net, arp, chunk, pppoe, vlan};
use crate::telemetry::Reason;

/// Length of destination, source and type, bytes.
pub(super) const HEADER_LEN: usize = 14;

/// IPv4 (RFC 894).
pub(super) const IPV4: u16 = 0x0800;
/// IPv6 (RFC 2464 section 3).
pub(super) const IPV6: u16 = 0x86dd;
/// The largest value of the type field that is a length: the payload of a basic frame, bytes.
const LONGEST_LLC: u16 = 1500;
/// The smallest value of the type field that is an ethertype.
const FIRST_ETHERTYPE: u16 = 0x0600;
/// DSAP, SSAP and one byte of control.
const SHORTEST_LLC: usize = 3;

/// A checked header.
struct Header<'a>(&'a [u8; HEADER_LEN]);

impl<'a> Header<'a> {
    /// `Malformed` under 14 bytes.
    #[inline(always)]
    fn new_checked(frame: &'a [u8]) -> Result<Self, Reason> {
        frame.first_chunk().map(Header).ok_or(Reason::Malformed)
    }

    #[inline(always)]
    fn dst(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, ..] = *self.0;
        [a, b, c, d, e, f]
    }

    #[inline(always)]
    fn src(&self) -> [u8; 6] {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *self.0;
        [a, b, c, d, e, f]
    }

    /// Ethertype, TPID of a tag, or 802.3 length.
    #[inline(always)]
    fn kind(&self) -> u16 {
        u16::from_be_bytes([self.0[12], self.0[13]])
    }
}

/// Everything up to the network header. `net` is [`Net::V4`] or [`Net::V6`] where an IP header is to follow at `l3`;
/// `end` is the end of what the link layer says it carries.
#[inline(always)]
pub(super) fn parse(frame: &[u8], meta: &mut Meta) -> Result<(), Reason> {
    *meta = Meta::NONE;
    let header = Header::new_checked(frame)?;
    let len = u16::try_from(frame.len()).map_err(|_| Reason::Oversize)?;
    meta.dst_mac = header.dst();
    meta.src_mac = header.src();
    meta.ethertype = header.kind();
    meta.l3 = HEADER_LEN as u16;
    meta.l4 = len;
    meta.payload = len;
    meta.end = len;
    match header.kind() {
        IPV4 => meta.net = Net::V4,
        IPV6 => meta.net = Net::V6,
        _ => parse_rest(frame, meta)?,
    }
    Ok(())
}

/// What is not plainly IP: tags, PPPoE, LLC, ARP and the ethertypes that are not looked into.
#[inline(never)]
fn parse_rest(frame: &[u8], meta: &mut Meta) -> Result<(), Reason> {
    vlan::look_through(frame, meta)?;
    match meta.ethertype {
        IPV4 => meta.net = Net::V4,
        IPV6 => meta.net = Net::V6,
        pppoe::SESSION => pppoe::look_through(frame, meta)?,
        arp::ETHERTYPE => arp::check(frame, meta)?,
        0..FIRST_ETHERTYPE => parse_llc(frame, meta)?,
        _ => {}
    }
    Ok(())
}

/// A length in place of the ethertype: [`Net::Llc`], ending where the length says.
fn parse_llc(frame: &[u8], meta: &mut Meta) -> Result<(), Reason> {
    let len = usize::from(meta.ethertype);
    let end = usize::from(meta.l3) + len;
    if meta.ethertype > LONGEST_LLC || len < SHORTEST_LLC || end > frame.len() {
        return Err(Reason::Malformed);
    }
    let [dsap, ssap] = *chunk(frame, usize::from(meta.l3)).ok_or(Reason::Malformed)?;
    meta.net = Net::Llc;
    meta.ethertype = u16::from_be_bytes([dsap, ssap]);
    meta.end = end as u16;
    meta.l4 = meta.end;
    meta.payload = meta.end;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::frame::testing::ethernet;
    use crate::frame::{Net, parse};
    use crate::telemetry::Reason;

    #[test]
    fn a_frame_shorter_than_its_header_is_malformed() {
        let frame = ethernet(0x88cc, &[]);
        for len in 0..14 {
            assert_eq!(parse(&frame[..len]), Err(Reason::Malformed));
        }
        assert!(parse(&frame).is_ok());
    }

    #[test]
    fn an_ethertype_that_is_not_looked_into_is_reported_with_the_macs() {
        for ethertype in [0x0600, 0x88cc, 0x888e, 0x8863, 0x8847, 0xffff] {
            let meta = parse(&ethernet(ethertype, &[1, 2, 3])).unwrap();
            assert_eq!((meta.net, meta.ethertype), (Net::Other, ethertype));
            assert_eq!(meta.dst_mac, [2, 0, 0, 0, 0, 2]);
            assert_eq!(meta.src_mac, [2, 0, 0, 0, 0, 1]);
            assert_eq!((meta.l3, meta.l4, meta.payload, meta.end), (14, 17, 17, 17));
        }
    }

    #[test]
    fn a_length_in_place_of_the_ethertype_is_llc_and_ends_where_it_says() {
        let mut stp = vec![0x42, 0x42, 3];
        stp.resize(46, 0);
        let meta = parse(&ethernet(38, &stp)).unwrap();
        assert_eq!((meta.net, meta.ethertype), (Net::Llc, 0x4242));
        assert_eq!((meta.l3, meta.end), (14, 14 + 38));
    }

    #[test]
    fn an_llc_length_that_contradicts_the_frame_is_malformed() {
        for (kind, payload) in [(0, 46), (2, 46), (47, 46), (1501, 1600), (1535, 1600)] {
            let frame = ethernet(kind, &vec![0x42; payload]);
            assert_eq!(parse(&frame), Err(Reason::Malformed), "length {kind}");
        }
        assert!(parse(&ethernet(1500, &[0x42; 1500])).is_ok());
    }

    #[test]
    fn saps_that_spell_an_ip_ethertype_are_still_llc() {
        let meta = parse(&ethernet(3, &[0x08, 0x00, 0x03])).unwrap();
        assert_eq!((meta.net, meta.ethertype), (Net::Llc, 0x0800));
    }

    #[test]
    fn a_frame_longer_than_any_offset_can_name_is_oversize() {
        let longest = ethernet(0x88cc, &vec![0; 65535 - 14]);
        assert_eq!(parse(&longest).map(|meta| meta.end), Ok(65535));
        let longer = ethernet(0x88cc, &vec![0; 65536 - 14]);
        assert_eq!(parse(&longer), Err(Reason::Oversize));
    }
}
