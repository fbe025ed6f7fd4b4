//! The verdicts that come before the rule table: frames that it is not asked about.

use super::{Key, Side, Verdict};
use crate::frame::{Meta, Net};
use crate::telemetry::Reason;

/// What to do with a parsed frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// Forward: a protocol that a LAN needs and that no rule speaks of.
    Pass,
    /// An IP packet: its flow decides, or the rule table.
    Ask,
    /// A frame that is not IP. Ask the rule table too; this is the verdict where no rule names it and the answer is the default rule.
    AskOr(Key, Verdict),
}

/// Ethertypes that pass where no rule names them (ARP, EAPOL, LLDP, slow protocols, PPPoE discovery and its control protocols).
pub const ETHERTYPES: [u16; 6] = [
    0x0806, // ARP, RFC 826
    0x888e, // EAPOL, IEEE 802.1X
    0x88cc, // LLDP, IEEE 802.1AB
    0x8809, // slow protocols (LACP, OAM), IEEE 802.3
    0x8863, // PPPoE discovery, RFC 2516
    0x8864, // PPPoE session carrying LCP, authentication and NCPs; IP inside it is parsed as IP
];

/// The 802.3/LLC protocol that passes where no rule drops such frames: spanning tree, DSAP and SSAP 0x42 (IEEE 802.1D).
pub const LLC_STP: u16 = 0x4242;

/// Judges what can be judged without the rule table.
#[inline]
pub fn admit(meta: &Meta, side: Side) -> Admit {
    match meta.net {
        Net::V4 | Net::V6 => {
            if meta.is_neighbour_discovery() && meta.stays_on_link() {
                Admit::Pass
            } else {
                Admit::Ask
            }
        }
        Net::Other | Net::Llc => {
            let otherwise = unnamed(meta.net, meta.ethertype);
            Admit::AskOr(Key::new(meta, side), otherwise)
        }
    }
}

/// What happens to a frame that is not IP and that no rule names: the default rule is not for it. `ethertype` is that of the frame,
/// for [`Net::Llc`] its DSAP and SSAP.
pub fn unnamed(net: Net, ethertype: u16) -> Verdict {
    let passes = match net {
        Net::Llc => ethertype == LLC_STP,
        _ => ETHERTYPES.contains(&ethertype),
    };
    match passes {
        true => Verdict::Forward,
        false => Verdict::Drop(Reason::Ethertype),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(ethertype: u16) -> Meta {
        Meta {
            net: Net::Other,
            ethertype,
            ..Meta::default()
        }
    }

    #[test]
    fn the_protocols_of_the_link_pass_and_others_do_not_where_no_rule_names_them() {
        let otherwise = |meta: &Meta| match admit(meta, Side::Uplink) {
            Admit::AskOr(key, verdict) => {
                assert_eq!(key, Key::new(meta, Side::Uplink));
                verdict
            }
            decided => panic!("no rule was asked: {decided:?}"),
        };
        let dropped = Verdict::Drop(Reason::Ethertype);
        for ethertype in ETHERTYPES {
            assert_eq!(otherwise(&other(ethertype)), Verdict::Forward);
        }
        for ethertype in [0x8137, 0x8847, 0x88f7, 0x0600, 0xffff] {
            assert_eq!(otherwise(&other(ethertype)), dropped);
        }
        let llc = |ethertype| Meta {
            net: Net::Llc,
            ethertype,
            ..Meta::default()
        };
        assert_eq!(otherwise(&llc(LLC_STP)), Verdict::Forward);
        assert_eq!(otherwise(&llc(0xe0e0)), dropped);
    }

    #[test]
    fn neighbour_discovery_passes_only_with_hop_limit_255_and_only_on_the_link() {
        let to = |dst: &str| u128::from(dst.parse::<std::net::Ipv6Addr>().unwrap());
        let solicitation = Meta {
            net: Net::V6,
            dst: to("ff02::1:ff00:9"),
            proto: 58,
            sport: 135,
            hop_limit: 255,
            ..Meta::default()
        };
        assert_eq!(admit(&solicitation, Side::Lan), Admit::Pass);
        let routed = Meta {
            hop_limit: 254,
            ..solicitation
        };
        assert!(matches!(admit(&routed, Side::Lan), Admit::Ask));
        for far in ["2606:2800:220:1::34", "fd77::1", "ff05::2", "ff0e::1"] {
            let dst = to(far);
            let routed = Meta {
                dst,
                ..solicitation
            };
            assert!(matches!(admit(&routed, Side::Lan), Admit::Ask), "{far}");
        }
        let near = Meta {
            dst: to("fe80::1"),
            ..solicitation
        };
        assert_eq!(admit(&near, Side::Lan), Admit::Pass);
        let echo = Meta {
            sport: 128,
            ..solicitation
        };
        assert!(matches!(admit(&echo, Side::Lan), Admit::Ask));
    }
}
