//! A packet in words, as short as it can be told.

use crate::policy::rule::{AppSet, FlagMatch, ProtoSet, proto_name};
use crate::policy::{Family, Key, Side, UNTAGGED};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

/// The flags of a segment that opens a connection (RFC 9293 section 3.1): the usual case.
const SYN: u8 = 0x02;

/// A packet on one line: `out udp 10.77.0.9:40000 > 93.184.216.34:69`, and what else it has that is not usual.
pub fn describe(key: &Key) -> String {
    let mut text = Side::direction(key.side).to_owned();
    let ported = ProtoSet::WITH_PORTS.contains(key.proto);
    match ip(key, key.src).zip(ip(key, key.dst)) {
        Some((src, dst)) if ported => {
            let (src, dst) = (
                SocketAddr::new(src, key.sport),
                SocketAddr::new(dst, key.dport),
            );
            text += &format!(" {} {src} > {dst}", proto_name(key.proto));
        }
        Some((src, dst)) => {
            text += &format!(" {} {src} > {dst}", proto_name(key.proto));
            if let 1 | 58 = key.proto {
                text += &format!(", type {} code {}", key.sport, key.dport);
            }
        }
        None => text += &format!(" ethertype {:#06x}", key.ethertype),
    }
    if key.proto == 6 && ![0, SYN].contains(&key.tcp_flags) {
        let set = FlagMatch(vec![(key.tcp_flags, key.tcp_flags)]);
        text += &format!(", flags {set}");
    }
    if key.vlan != UNTAGGED {
        text += &format!(", vlan {}", key.vlan);
    }
    if key.src_mac != [0; 6] {
        let mac = key.src_mac.map(|byte| format!("{byte:02x}")).join(":");
        text += &format!(", from {mac}");
    }
    if key.fragment {
        text += ", first fragment";
    }
    if key.app != 0 {
        text += &format!(", app {}", AppSet::name(key.app));
    }
    text
}

fn ip(key: &Key, addr: u128) -> Option<std::net::IpAddr> {
    key.family().map(|family| match family {
        Family::V4 => Ipv4Addr::from(addr as u32).into(),
        Family::V6 => Ipv6Addr::from(addr).into(),
    })
}

/// An address of the packet.
pub(super) fn address(key: &Key, addr: u128) -> String {
    ip(key, addr).map_or_else(|| "none: it is not IP".to_owned(), |ip| ip.to_string())
}

/// The VLAN id of the packet.
pub(super) fn vlan(key: &Key) -> String {
    match key.vlan {
        UNTAGGED => "none".to_owned(),
        id => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Net;

    #[test]
    fn a_packet_is_told_on_one_line_with_what_is_not_usual_of_it() {
        let syn = Key {
            net: Net::V4,
            ethertype: 0x0800,
            proto: 6,
            src: 0x0a4d_0009,
            dst: 0x0808_0808,
            sport: 40_000,
            dport: 443,
            tcp_flags: 18,
            vlan: 7,
            ..Key::EMPTY
        };
        assert_eq!(
            describe(&syn),
            "out tcp 10.77.0.9:40000 > 8.8.8.8:443, flags syn,ack, vlan 7"
        );
        let echo = Key {
            net: Net::V6,
            proto: 58,
            src: 1,
            dst: 2,
            sport: 128,
            side: Side::Uplink,
            fragment: true,
            ..Key::EMPTY
        };
        assert_eq!(
            describe(&echo),
            "in icmpv6 ::1 > ::2, type 128 code 0, first fragment"
        );
        let arp = Key {
            ethertype: 0x0806,
            src_mac: [2, 0, 0, 0, 0, 9],
            ..Key::EMPTY
        };
        assert_eq!(
            describe(&arp),
            "out ethertype 0x0806, from 02:00:00:00:00:09"
        );
    }
}
