//! Which frames are for the box itself, and which of those get an answer. The stack behind it sees nothing else.

use crate::frame::{Frag, Meta, Net};
use crate::policy::{Side, Verdict};
use crate::telemetry::Reason;
use ipnet::IpNet;
use std::net::{IpAddr, Ipv6Addr};

const ARP: u16 = 0x0806;
const ICMP: u8 = 1;
const TCP: u8 = 6;
const ICMPV6: u8 = 58;
/// ICMP: echo request (RFC 792).
const ECHO: u16 = 8;
/// ICMPv6: echo request (RFC 4443 section 4.1).
const ECHO_V6: u16 = 128;
/// ICMP: "fragmentation needed", type and code (RFC 1191 section 4).
const TOO_BIG: (u16, u16) = (3, 4);
/// ICMPv6: packet too big (RFC 4443 section 3.2).
const TOO_BIG_V6: u16 = 2;
/// ICMPv6: neighbour solicitation and advertisement (RFC 4861 sections 4.3 and 4.4).
const SOLICITS: u16 = 135;
const ADVERTISES: u16 = 136;

/// The box's own address on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Own {
    /// Its MAC address.
    pub mac: [u8; 6],
    /// By side: whether it is answered for there.
    pub sides: [bool; 2],
    /// The VLAN; `None` for untagged frames.
    pub vlan: Option<u16>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Routers that may ask for them.
    pub gateways: Vec<IpAddr>,
    /// Who gets an answer.
    pub allow: Vec<IpNet>,
    /// The TCP port.
    pub port: u16,
}

impl Own {
    /// What becomes of a frame that is for the box; `None` for one that is not. `bytes` are what `meta` was parsed from.
    pub fn verdict(&self, meta: &Meta, bytes: &[u8], side: Side) -> Option<Verdict> {
        match self.is_at(side) && self.may_be_for_us(meta) {
            true => self.look(meta, bytes, is_group(meta)),
            false => None,
        }
    }

    /// Whether the box is there at all.
    pub fn is_at(&self, side: Side) -> bool {
        self.sides[side as usize]
    }

    /// False for what is neither to our MAC address nor to a group: nearly everything, so this is all that it costs.
    #[inline(always)]
    pub(super) fn may_be_for_us(&self, meta: &Meta) -> bool {
        is_group(meta) | (number(meta.dst_mac) == number(self.mac))
    }

    /// The same of the bytes of a frame of IPv4 to one host, which is to no group of ours.
    #[inline(always)]
    pub(super) fn may_be_to_us(&self, frame: &[u8]) -> bool {
        let group = frame.first().is_none_or(|first| first & 1 == 1);
        group || frame.starts_with(&self.mac)
    }

    #[cold]
    fn look(&self, meta: &Meta, bytes: &[u8], group: bool) -> Option<Verdict> {
        let answered = match (group, self.is_of_our_vlan(meta)) {
            (true, false) => return None,
            (false, false) => false,
            // To all of them: ours where it asks for one of our addresses.
            (true, true) => self.may_ask(self.asks_for_ours(meta, bytes)?),
            (false, true) => self.is_answered(meta, bytes),
        };
        Some(match answered {
            true => Verdict::Own,
            false => Verdict::Drop(Reason::InbandRefused),
        })
    }

    fn is_of_our_vlan(&self, meta: &Meta) -> bool {
        let id = meta.vlan[0] & 0x0fff;
        match self.vlan {
            // A priority tag (IEEE 802.1Q) is refused too: the answer would go without one.
            None => meta.vlan_depth == 0,
            Some(vlan) => meta.vlan_depth == 1 && id == vlan,
        }
    }

    /// Who asks to whom one of our addresses belongs, where that is what the frame does.
    fn asks_for_ours(&self, meta: &Meta, bytes: &[u8]) -> Option<IpAddr> {
        let (by, target) = match meta.net {
            Net::Other if meta.ethertype == ARP => arp(meta, bytes)?,
            Net::V6 if meta.proto == ICMPV6 && meta.sport == SOLICITS && whole(meta) => {
                let at = usize::from(meta.payload);
                let target: [u8; 16] = bytes.get(at..at + 16)?.try_into().ok()?;
                (meta.src_ip()?, IpAddr::V6(target.into()))
            }
            _ => return None,
        };
        // Who looks whether an address is free has none yet (RFC 5227 section 2.1.1, RFC 4862 section 5.4), and is left to whoever else has it.
        (self.addresses.contains(&target) && !by.is_unspecified()).then_some(by)
    }

    /// Of frames to our MAC address.
    fn is_answered(&self, meta: &Meta, bytes: &[u8]) -> bool {
        if let Net::Other = meta.net {
            return meta.ethertype == ARP
                && arp(meta, bytes).is_some_and(|(by, _)| self.may_ask(by));
        }
        let (Some(src), Some(dst)) = (meta.src_ip(), meta.dst_ip()) else {
            return false;
        };
        if !whole(meta) || !self.addresses.contains(&dst) {
            return false;
        }
        match (meta.net, meta.proto) {
            (_, TCP) => meta.dport == self.port && self.allows(src),
            (Net::V4, ICMP) if (meta.sport, meta.dport) == TOO_BIG => true,
            (Net::V4, ICMP) => meta.sport == ECHO && self.allows(src),
            // Of any router on the way.
            (Net::V6, ICMPV6) if meta.sport == TOO_BIG_V6 => true,
            (Net::V6, ICMPV6) if matches!(meta.sport, SOLICITS | ADVERTISES) => {
                meta.hop_limit == 255 && self.may_ask(src)
            }
            (Net::V6, ICMPV6) => meta.sport == ECHO_V6 && self.allows(src),
            _ => false,
        }
    }

    fn allows(&self, ip: IpAddr) -> bool {
        self.allow.iter().any(|net| net.contains(&ip))
    }

    /// Whether it is told our MAC address. Routers ask by their link-local address.
    fn may_ask(&self, by: IpAddr) -> bool {
        let link_local = |ip: Ipv6Addr| ip.segments()[0] & 0xffc0 == 0xfe80;
        self.allows(by)
            || self.gateways.contains(&by)
            || matches!(by, IpAddr::V6(ip) if link_local(ip))
    }
}

#[inline(always)]
fn is_group(meta: &Meta) -> bool {
    meta.dst_mac[0] & 1 != 0
}

/// One comparison instead of six.
#[inline(always)]
fn number([a, b, c, d, e, f]: [u8; 6]) -> u64 {
    u64::from_le_bytes([a, b, c, d, e, f, 0, 0])
}

fn whole(meta: &Meta) -> bool {
    meta.frag == Frag::Whole
}

/// Sender and target of an ARP packet for Ethernet and IPv4 (RFC 826).
fn arp(meta: &Meta, bytes: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let packet = bytes.get(usize::from(meta.l3)..)?.first_chunk::<28>()?;
    let address = |at: usize| {
        let bytes: [u8; 4] = packet[at..at + 4].try_into().unwrap_or_default();
        IpAddr::V4(bytes.into())
    };
    let ethernet_and_ip = packet[..6] == [0, 1, 8, 0, 6, 4];
    ethernet_and_ip.then(|| (address(14), address(24)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame;
    use etherparse::{Icmpv4Type, Icmpv6Type, PacketBuilder};

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
    const HOST: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const OURS: [u8; 4] = [10, 77, 0, 2];
    const ADMIN: [u8; 4] = [10, 77, 0, 9];
    const OURS6: &str = "fd77::2";
    const ADMIN6: &str = "fd77::9";

    fn own() -> Own {
        Own {
            mac: MAC,
            sides: [true, false],
            vlan: None,
            addresses: vec![OURS.into(), OURS6.parse().unwrap()],
            gateways: vec!["10.77.0.1".parse().unwrap()],
            allow: vec![
                "10.77.0.8/29".parse().unwrap(),
                "fd77::9/128".parse().unwrap(),
            ],
            port: 9155,
        }
    }

    fn said(own: &Own, frame: &[u8], side: Side) -> Option<&'static str> {
        let meta = frame::parse(frame).unwrap();
        own.verdict(&meta, frame, side)
            .map(|verdict| match verdict {
                Verdict::Own => "own",
                Verdict::Drop(Reason::InbandRefused) => "refused",
                other => other.name(),
            })
    }

    fn tcp(to: [u8; 6], src: [u8; 4], dst: [u8; 4], port: u16) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2(HOST, to).ipv4(src, dst, 64);
        let builder = builder.tcp(40_000, port, 1, 1024).syn();
        builder.write(&mut frame, &[]).unwrap();
        frame
    }

    fn tagged(frame: &[u8], vlan: u8) -> Vec<u8> {
        let mut tagged = frame[..12].to_vec();
        tagged.extend([0x81, 0, 0, vlan]);
        tagged.extend(&frame[12..]);
        tagged
    }

    fn arp(to: [u8; 6], sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
        let mut frame = [&to[..], &HOST, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &HOST].concat();
        frame.extend(sender);
        frame.extend([0; 6]);
        frame.extend(target);
        frame
    }

    fn icmp(src: [u8; 4], kind: Icmpv4Type) -> Vec<u8> {
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2(HOST, MAC)
            .ipv4(src, OURS, 64)
            .icmpv4(kind);
        builder.write(&mut frame, &[0; 36]).unwrap();
        frame
    }

    fn icmp6(to: [u8; 6], src: &str, dst: &str, kind: Icmpv6Type, body: &[u8]) -> Vec<u8> {
        let octets = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
        let mut frame = Vec::new();
        let builder = PacketBuilder::ethernet2(HOST, to).ipv6(octets(src), octets(dst), 255);
        builder.icmpv6(kind).write(&mut frame, body).unwrap();
        frame
    }

    #[test]
    fn those_of_the_list_reach_the_port_and_ping_and_nobody_else_does() {
        let own = own();
        let to = |src, port| said(&own, &tcp(MAC, src, OURS, port), Side::Lan);
        assert_eq!(to(ADMIN, 9155), Some("own"));
        assert_eq!(to(ADMIN, 22), Some("refused"));
        assert_eq!(to([10, 77, 0, 16], 9155), Some("refused"));
        let elsewhere = tcp(MAC, ADMIN, [8, 8, 8, 8], 9155);
        assert_eq!(
            said(&own, &elsewhere, Side::Lan),
            Some("refused"),
            "no router"
        );
        let echo = etherparse::IcmpEchoHeader { id: 1, seq: 1 };
        let ping = |src| said(&own, &icmp(src, Icmpv4Type::EchoRequest(echo)), Side::Lan);
        assert_eq!(ping(ADMIN), Some("own"));
        assert_eq!(ping([10, 77, 0, 200]), Some("refused"));
        let reply = icmp(ADMIN, Icmpv4Type::EchoReply(echo));
        assert_eq!(said(&own, &reply, Side::Lan), Some("refused"));
    }

    #[test]
    fn frames_of_others_are_none_of_ours() {
        let own = own();
        let passing = tcp([2, 0, 0, 0, 0, 1], ADMIN, OURS, 9155);
        assert_eq!(said(&own, &passing, Side::Lan), None);
        assert_eq!(said(&own, &tcp(MAC, ADMIN, OURS, 9155), Side::Uplink), None);
        assert_eq!(
            said(&own, &arp([0xff; 6], ADMIN, [10, 77, 0, 1]), Side::Lan),
            None
        );
        let both = Own {
            sides: [true; 2],
            ..own
        };
        assert_eq!(
            said(&both, &tcp(MAC, ADMIN, OURS, 9155), Side::Uplink),
            Some("own")
        );
    }

    #[test]
    fn arp_is_answered_to_the_list_and_to_gateways() {
        let own = own();
        let asks = |to, by| said(&own, &arp(to, by, OURS), Side::Lan);
        assert_eq!(asks([0xff; 6], ADMIN), Some("own"));
        assert_eq!(asks(MAC, ADMIN), Some("own"));
        assert_eq!(asks([0xff; 6], [10, 77, 0, 1]), Some("own"));
        assert_eq!(asks([0xff; 6], [0; 4]), None, "whether it is free");
        assert_eq!(asks([0xff; 6], [10, 77, 0, 200]), Some("refused"));
        assert_eq!(asks(MAC, [10, 77, 0, 200]), Some("refused"));
    }

    #[test]
    fn neighbours_are_answered_by_the_same_list_and_by_link_local_addresses() {
        let own = own();
        let target = OURS6.parse::<Ipv6Addr>().unwrap().octets();
        let kind = Icmpv6Type::Unknown {
            type_u8: 135,
            code_u8: 0,
            bytes5to8: [0; 4],
        };
        let solicited = [0x33, 0x33, 0xff, 0, 0, 2];
        let asks = |src| {
            let frame = icmp6(solicited, src, "ff02::1:ff00:2", kind, &target);
            said(&own, &frame, Side::Lan)
        };
        assert_eq!(asks(ADMIN6), Some("own"));
        assert_eq!(asks("fe80::1"), Some("own"));
        assert_eq!(asks("::"), None, "whether it is free");
        assert_eq!(asks("fd77::10"), Some("refused"));
        let other = "fd77::3".parse::<Ipv6Addr>().unwrap().octets();
        let frame = icmp6(solicited, ADMIN6, "ff02::1:ff00:2", kind, &other);
        assert_eq!(said(&own, &frame, Side::Lan), None);
    }

    #[test]
    fn that_a_packet_was_too_big_may_say_any_router() {
        let own = own();
        let needed =
            etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1280 };
        let frame = icmp([192, 0, 2, 1], Icmpv4Type::DestinationUnreachable(needed));
        assert_eq!(said(&own, &frame, Side::Lan), Some("own"));
        let host = etherparse::icmpv4::DestUnreachableHeader::Host;
        let frame = icmp([192, 0, 2, 1], Icmpv4Type::DestinationUnreachable(host));
        assert_eq!(said(&own, &frame, Side::Lan), Some("refused"));
        let kind = Icmpv6Type::PacketTooBig { mtu: 1280 };
        let frame = icmp6(MAC, "2001:db8::1", OURS6, kind, &[0; 48]);
        assert_eq!(said(&own, &frame, Side::Lan), Some("own"));
    }

    #[test]
    fn a_vlan_is_the_one_that_is_named_and_no_other() {
        let frame = tcp(MAC, ADMIN, OURS, 9155);
        let untagged = own();
        let on_ten = Own {
            vlan: Some(10),
            ..own()
        };
        assert_eq!(said(&on_ten, &tagged(&frame, 10), Side::Lan), Some("own"));
        assert_eq!(
            said(&on_ten, &tagged(&frame, 11), Side::Lan),
            Some("refused")
        );
        assert_eq!(said(&on_ten, &frame, Side::Lan), Some("refused"));
        assert_eq!(
            said(&untagged, &tagged(&frame, 10), Side::Lan),
            Some("refused")
        );
        assert_eq!(
            said(&untagged, &tagged(&frame, 0), Side::Lan),
            Some("refused"),
            "a priority tag"
        );
        let asks = arp([0xff; 6], ADMIN, OURS);
        assert_eq!(
            said(&on_ten, &asks, Side::Lan),
            None,
            "another network's address"
        );
        assert_eq!(said(&on_ten, &tagged(&asks, 10), Side::Lan), Some("own"));
    }
}
