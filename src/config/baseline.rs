//! The baseline policy: the traffic that a compromised machine uses to fetch tools, send spam, take orders and leak.
//!
//! Every rule is for direction out. A rule that needs several clauses shares its name among them.

use crate::app::App;
use crate::policy::{
    Action, AddrMatch, AddrRange, AppSet, Clause, Direction, Origin, PortSet, ProtoSet, Rule,
    Severity, Term,
};
use ipnet::IpNet;

/// The sets that are there whether the config fills them or not, at these indices of the policy's sets.
pub const SETS: [&str; 3] = ["lan", "mail_servers", "resolvers"];
pub(super) const LAN: usize = 0;
const MAIL_SERVERS: usize = 1;
pub(super) const RESOLVERS: usize = 2;

/// The rule of sources that are not inside; its alerts go by MAC address.
pub const SPOOFED_SOURCE: &str = "spoofed-source";

/// The names of the built-in rules, in order of evaluation.
pub const NAMES: [&str; 9] = [
    SPOOFED_SOURCE,
    "tftp",
    "smtp",
    "irc",
    "snmp",
    "msrpc",
    "smb",
    "netbios",
    "bogon-destination",
];

pub(super) const TCP: ProtoSet = ProtoSet::of(&[6]);
pub(super) const UDP: ProtoSet = ProtoSet::of(&[17]);
pub(super) const TCP_UDP: ProtoSet = ProtoSet::of(&[6, 17]);
const ICMPV6: ProtoSet = ProtoSet::of(&[58]);

/// Blocks that are not globally reachable: RFC 6890 section 2.2 and the IANA special-purpose address registries that
/// it set up (RFC 8190), with what was added since: 64:ff9b:1::/48 (RFC 8215), 3fff::/20 (RFC 9637), 5f00::/16
/// (RFC 9602). Not here: 192.88.99.0/24 and 64:ff9b::/96, which RFC 6890 lists as global, and 2002::/16 (6to4), for
/// which the registry does not say. fe80::/10 and 255.255.255.255 have clauses of their own.
const BOGONS: [&str; 23] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "240.0.0.0/4",
    "::/128",
    "::1/128",
    "::ffff:0:0/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
];

/// Globally reachable parts of 192.0.0.0/24 and 2001::/23, by the same registries: PCP and TURN anycast (RFC 7723,
/// RFC 8155), DNS-SD SRP anycast (RFC 9665), AMT (RFC 7450), AS112 (RFC 7535), ORCHIDv2 (RFC 7343), drone remote id (RFC 9374).
const GLOBAL: [&str; 9] = [
    "192.0.0.9/32",
    "192.0.0.10/32",
    "2001:1::1/128",
    "2001:1::2/128",
    "2001:1::3/128",
    "2001:3::/32",
    "2001:4:112::/48",
    "2001:20::/28",
    "2001:30::/28",
];

const BROADCAST: &str = "255.255.255.255/32";
pub(super) const LINK_LOCAL_V6: &str = "fe80::/10";
const LINK_LOCAL_V4: &str = "169.254.0.0/16";
const MULTICAST_V4: &str = "224.0.0.0/4";
const MULTICAST_V6: &str = "ff00::/8";
const UNSPECIFIED_V4: &str = "0.0.0.0/32";
const UNSPECIFIED_V6: &str = "::/128";

/// The built-in rules as they are before the config changes them, in the order of [`NAMES`]. They refer to the sets
/// of [`SETS`] by index.
pub fn rules() -> Vec<Rule> {
    let rule = |name: &str, alert, clauses| Rule {
        alert,
        ..Rule::new(name, Action::Drop, clauses, Origin::Builtin)
    };
    use Severity::{High, Low, Medium};
    let [spoofed, tftp, smtp, irc, snmp, msrpc, smb, netbios, bogon] = NAMES;
    let not_mail = AddrMatch {
        any_of: vec![],
        none_of: vec![Term::Set(MAIL_SERVERS)],
    };
    vec![
        Rule {
            by_mac: true,
            ..on_the_wire(rule(spoofed, Some(High), spoofed_source()))
        },
        rule(
            tftp,
            Some(High),
            vec![ports(UDP, &[(69, 69)]), app(UDP, App::Tftp)],
        ),
        rule(
            smtp,
            Some(Medium),
            vec![Clause {
                src: not_mail,
                ..ports(TCP, &[(25, 25)])
            }],
        ),
        rule(
            irc,
            Some(High),
            vec![ports(TCP, &[(6660, 6669)]), app(TCP, App::Irc)],
        ),
        rule(
            snmp,
            Some(Low),
            vec![ports(UDP, &[(160, 162)]), ports(TCP, &[(161, 162)])],
        ),
        rule(msrpc, Some(Low), vec![ports(TCP_UDP, &[(135, 135)])]),
        rule(smb, Some(Medium), vec![ports(TCP, &[(445, 445)])]),
        rule(
            netbios,
            None,
            vec![ports(UDP, &[(137, 138)]), ports(TCP, &[(139, 139)])],
        ),
        on_the_wire(rule(bogon, None, bogon_destination())),
    ]
}

/// What a tunnel carries has addresses of the networks that it joins.
fn on_the_wire(rule: Rule) -> Rule {
    Rule {
        wire_only: true,
        ..rule
    }
}

/// BCP 38: a source that is not of the LAN. What a host says on its own link before it has an address, or to its link
/// alone, is not spoofed: RFC 4291 section 2.5.6, RFC 4862 section 5.4, RFC 2131 section 4.1, RFC 3376 section 4.2.13.
fn spoofed_source() -> Vec<Clause> {
    let out = Clause::any(Direction::Out);
    let link = [LINK_LOCAL_V6, MULTICAST_V6];
    let stranger = AddrMatch {
        any_of: vec![],
        none_of: terms(
            &[LINK_LOCAL_V6, LINK_LOCAL_V4, UNSPECIFIED_V6, UNSPECIFIED_V4],
            &[LAN],
        ),
    };
    vec![
        Clause {
            src: stranger,
            ..out.clone()
        },
        Clause {
            src: AddrMatch {
                any_of: terms(&[LINK_LOCAL_V6], &[]),
                none_of: vec![Term::Set(LAN)],
            },
            dst: AddrMatch {
                any_of: vec![],
                none_of: terms(&link, &[LAN]),
            },
            ..out.clone()
        },
        Clause {
            src: AddrMatch {
                any_of: terms(&[UNSPECIFIED_V6], &[]),
                none_of: vec![Term::Set(LAN)],
            },
            dst: AddrMatch {
                any_of: vec![],
                none_of: terms(&link, &[]),
            },
            ..out.clone()
        },
        Clause {
            src: AddrMatch {
                any_of: terms(&[UNSPECIFIED_V4], &[]),
                none_of: vec![Term::Set(LAN)],
            },
            dst: AddrMatch {
                any_of: vec![],
                none_of: terms(&[BROADCAST, MULTICAST_V4], &[]),
            },
            ..out.clone()
        },
        Clause {
            src: AddrMatch {
                any_of: terms(&[LINK_LOCAL_V4], &[]),
                none_of: vec![Term::Set(LAN)],
            },
            dst: AddrMatch {
                any_of: vec![],
                none_of: terms(&[LINK_LOCAL_V4, BROADCAST, MULTICAST_V4], &[]),
            },
            ..out
        },
    ]
}

/// A destination that is nowhere on the Internet and not in `lan.prefixes` (the router, a neighbour across the
/// bridge). Three things that an ordinary network needs pass: DHCP to the broadcast address (RFC 2131), link-local
/// IPv6 between link-local addresses, and neighbour discovery, which answers a router's link-local address from a
/// global one (RFC 4861 section 7.2.4; types 133 to 136).
fn bogon_destination() -> Vec<Clause> {
    let out = Clause::any(Direction::Out);
    let exempt = [&GLOBAL[..], &[BROADCAST]].concat();
    let bogons = AddrMatch {
        any_of: terms(&BOGONS, &[]),
        none_of: terms(&exempt, &[LAN]),
    };
    let broadcast = AddrMatch {
        any_of: terms(&[BROADCAST], &[]),
        none_of: vec![Term::Set(LAN)],
    };
    let link = AddrMatch {
        any_of: terms(&[LINK_LOCAL_V6], &[]),
        none_of: vec![Term::Set(LAN)],
    };
    let not_link = AddrMatch {
        any_of: vec![],
        none_of: terms(&[LINK_LOCAL_V6], &[]),
    };
    vec![
        Clause {
            dst: bogons,
            ..out.clone()
        },
        Clause {
            protos: ProtoSet::all_but(&[17]),
            dst: broadcast.clone(),
            ..out.clone()
        },
        Clause {
            dst: broadcast,
            ..ports(UDP, &[(0, 66), (68, u16::MAX)])
        },
        Clause {
            protos: ProtoSet::all_but(&[58]),
            src: not_link.clone(),
            dst: link.clone(),
            ..out.clone()
        },
        Clause {
            protos: ICMPV6,
            src: not_link,
            dst: link,
            sport: PortSet(vec![(0, 132), (137, u16::MAX)]),
            ..out
        },
    ]
}

/// Direction out, to one of these ports.
pub(super) fn ports(protos: ProtoSet, dport: &[(u16, u16)]) -> Clause {
    Clause {
        protos,
        dport: PortSet(dport.to_vec()),
        ..Clause::any(Direction::Out)
    }
}

/// Direction out, to any port, where the payload is of this application.
fn app(protos: ProtoSet, app: App) -> Clause {
    Clause {
        protos,
        app: Some(AppSet::EMPTY.with(app as u8)),
        ..Clause::any(Direction::Out)
    }
}

/// The constants above and set indices as terms. A test parses every constant, so none is lost here.
pub(super) fn terms(prefixes: &[&str], sets: &[usize]) -> Vec<Term> {
    let ranges = prefixes
        .iter()
        .filter_map(|text| text.parse::<IpNet>().ok())
        .map(|net| Term::Range(AddrRange::prefix(net)));
    ranges
        .chain(sets.iter().map(|&set| Term::Set(set)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_constant_prefix_is_one() {
        let link = [
            BROADCAST,
            LINK_LOCAL_V6,
            MULTICAST_V4,
            MULTICAST_V6,
            UNSPECIFIED_V4,
            UNSPECIFIED_V6,
        ];
        for text in BOGONS.iter().chain(&GLOBAL).chain(&link) {
            let net: IpNet = text.parse().unwrap();
            assert_eq!(net, net.trunc(), "{text} has bits below its length");
        }
    }

    #[test]
    fn the_rules_come_in_the_order_of_their_names() {
        assert_eq!(
            rules()
                .iter()
                .map(|rule| rule.name.as_str())
                .collect::<Vec<_>>(),
            NAMES
        );
    }
}
