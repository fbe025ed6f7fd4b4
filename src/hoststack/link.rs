//! The way back on the wire: what stands before the IP packet of a frame, turned round. VLAN and PPPoE tags stay.

use crate::frame::Meta;

/// The longest: Ethernet, two tags, PPPoE. Bytes.
const LONGEST: usize = 14 + 8 + 8;
/// The least length of an Ethernet frame without FCS (IEEE 802.3).
const SHORTEST: usize = 60;
const PPPOE: [u8; 2] = [0x88, 0x64];

/// A link header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    bytes: [u8; LONGEST],
    len: usize,
    pppoe: bool,
}

impl Link {
    /// That of an answer to `frame`; `None` where `meta` is not of it.
    pub fn back(frame: &[u8], meta: &Meta) -> Option<Link> {
        let header = frame.get(..usize::from(meta.l3))?;
        if !(14..=LONGEST).contains(&header.len()) {
            return None;
        }
        let mut bytes = [0; LONGEST];
        bytes[..header.len()].copy_from_slice(header);
        bytes[..6].copy_from_slice(&meta.src_mac);
        bytes[6..12].copy_from_slice(&meta.dst_mac);
        let ethertype = 12 + 4 * usize::from(meta.vlan_depth);
        let pppoe = header.len() == ethertype + 10 && header[ethertype..ethertype + 2] == PPPOE;
        Some(Link {
            bytes,
            len: header.len(),
            pppoe,
        })
    }

    /// The frame with this packet, into `out`, which is cleared.
    pub fn wrap(&self, packet: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend(&self.bytes[..self.len]);
        if self.pppoe {
            // The length of the PPP protocol field and the packet (RFC 2516 section 4).
            let length = (packet.len() + 2) as u16;
            out[self.len - 4..self.len - 2].copy_from_slice(&length.to_be_bytes());
        }
        out.extend(packet);
        pad(out);
    }
}

/// Makes a frame as long as Ethernet asks for.
pub(super) fn pad(frame: &mut Vec<u8>) {
    frame.resize(frame.len().max(SHORTEST), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use etherparse::PacketBuilder;

    fn udp() -> Vec<u8> {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1])
            .ipv4([10, 77, 0, 9], [192, 0, 2, 1], 64)
            .udp(40_000, 69)
            .write(&mut frame, &[7; 40])
            .unwrap();
        frame
    }

    fn back(frame: &[u8]) -> Vec<u8> {
        let meta = frame::parse(frame).unwrap();
        let mut out = Vec::new();
        let packet = &frame[usize::from(meta.l3)..usize::from(meta.end)];
        Link::back(frame, &meta).unwrap().wrap(packet, &mut out);
        out
    }

    #[test]
    fn the_addresses_are_turned_round_and_tags_stay() {
        let plain = udp();
        let mut tagged = plain[..12].to_vec();
        tagged.extend([0x88, 0xa8, 0, 7, 0x81, 0, 0, 8]);
        tagged.extend(&plain[12..]);
        for frame in [plain, tagged] {
            let back = back(&frame);
            assert_eq!(back[..6], frame[6..12]);
            assert_eq!(back[6..12], frame[..6]);
            assert_eq!(back[12..], frame[12..]);
        }
    }

    #[test]
    fn a_pppoe_header_says_how_long_the_answer_is() {
        let plain = udp();
        let packet = &plain[14..];
        let mut session = plain[..12].to_vec();
        session.extend([0x88, 0x64, 0x11, 0, 0, 5]);
        session.extend((packet.len() as u16 + 2).to_be_bytes());
        session.extend([0, 0x21]);
        session.extend(packet);
        let meta = frame::parse(&session).unwrap();
        let mut out = Vec::new();
        Link::back(&session, &meta)
            .unwrap()
            .wrap(&packet[..30], &mut out);
        assert_eq!(out[18..20], [0, 32]);
        assert_eq!(out.len(), SHORTEST, "padded to what Ethernet asks for");
        assert_eq!(back(&session)[12..], session[12..]);
    }
}
