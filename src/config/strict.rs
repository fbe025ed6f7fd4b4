//! The rules of the profile `strict`: after the baseline, what may leave, and that nothing else may.
//!
//! Every rule is for direction out. What comes in is for the user's own rules and the default.

use super::baseline::{LAN, LINK_LOCAL_V6, RESOLVERS, TCP, TCP_UDP, UDP, ports, terms};
use super::header::{Header, Profile};
use super::raw::Reader;
use super::rule::Stated;
use crate::policy::{
    Action, AddrMatch, Clause, Direction, Limit, Origin, Policy, PortSet, ProtoSet, Rule, Severity,
};
use std::time::Duration;

/// QUIC to UDP port 443; off unless `quic = true`.
pub(super) const QUIC: &str = "strict-quic";
/// TCP to `tcp_ports`; off where there are none.
pub(super) const STRICT_TCP: &str = "strict-tcp";
const DNS: &str = "strict-dns";

/// The names of the rules, in order of evaluation.
pub const NAMES: [&str; 9] = [
    DNS,
    "strict-dhcp",
    "strict-ntp",
    QUIC,
    STRICT_TCP,
    "strict-icmp",
    "strict-nd",
    "strict-multicast",
    "strict-deny",
];

const ICMP: ProtoSet = ProtoSet::of(&[1]);
const ICMPV6: ProtoSet = ProtoSet::of(&[58]);

/// How much ICMP passes: of `strict-icmp` and of `strict-nd`, each.
const RATE: Limit = Limit {
    frames: 1000,
    per: Duration::from_secs(1),
    burst: 1000,
};

const BROADCAST: &str = "255.255.255.255/32";
/// All DHCPv6 relay agents and servers of the link (RFC 8415 section 7.1).
const DHCPV6_SERVERS: &str = "ff02::1:2/128";
const MULTICAST: [&str; 3] = ["224.0.0.0/4", "ff00::/8", BROADCAST];
/// Multicast that no router forwards (RFC 4291 section 2.7).
const LINK_MULTICAST: &str = "ff02::/16";

/// The rules as they are before the config changes them, in the order of [`NAMES`]. They refer to the sets of
/// [`baseline::SETS`](super::baseline::SETS) by index.
pub(super) fn rules(header: &Header) -> Vec<Rule> {
    let allow = |name: &str, clauses| Rule::new(name, Action::Allow, clauses, Origin::Builtin);
    let drop = |name: &str, alert, clauses| Rule {
        alert,
        ..Rule::new(name, Action::Drop, clauses, Origin::Builtin)
    };
    let within_rate = |name: &str, clauses| Rule {
        limit: Some(RATE),
        ..allow(name, clauses)
    };
    let to = |prefixes: &[&str], sets: &[usize]| AddrMatch {
        any_of: terms(prefixes, sets),
        none_of: vec![],
    };
    let [dns, dhcp, ntp, quic, tcp, icmp, nd, multicast, deny] = NAMES;
    vec![
        allow(
            dns,
            vec![Clause {
                dst: to(&[], &[RESOLVERS]),
                ..ports(TCP_UDP, &[(53, 53)])
            }],
        ),
        allow(dhcp, dhcp_clauses()),
        allow(ntp, vec![ports(UDP, &[(123, 123)])]),
        allow(quic, vec![ports(UDP, &[(443, 443)])]),
        allow(
            tcp,
            vec![Clause {
                dport: header.tcp_ports.clone(),
                ..ports(TCP, &[])
            }],
        ),
        within_rate(icmp, icmp_clauses()),
        within_rate(
            nd,
            vec![
                types(ICMPV6, &[(133, 136)]),
                Clause {
                    dst: to(&[LINK_MULTICAST], &[]),
                    ..types(ICMPV6, &[(130, 132), (143, 143)])
                },
            ],
        ),
        drop(
            multicast,
            None,
            vec![Clause {
                dst: to(&MULTICAST, &[]),
                ..Clause::any(Direction::Out)
            }],
        ),
        drop(deny, Some(Severity::Low), vec![Clause::any(Direction::Out)]),
    ]
}

/// A host that asks for its address or renews it: RFC 2131 section 4.1 (to the broadcast address, or to a server on its own
/// network), RFC 8415 section 7.2.
fn dhcp_clauses() -> Vec<Clause> {
    let to = |prefixes: &[&str], sets: &[usize]| AddrMatch {
        any_of: terms(prefixes, sets),
        none_of: vec![],
    };
    vec![
        Clause {
            sport: PortSet::one(68),
            dst: to(&[BROADCAST], &[LAN]),
            ..ports(UDP, &[(67, 67)])
        },
        Clause {
            sport: PortSet::one(546),
            dst: to(&[DHCPV6_SERVERS, LINK_LOCAL_V6], &[]),
            ..ports(UDP, &[(547, 547)])
        },
    ]
}

/// Echo, unreachable (of ICMP also "fragmentation needed", RFC 1191), packet too big, time exceeded: RFC 792, RFC 4443.
fn icmp_clauses() -> Vec<Clause> {
    vec![
        types(ICMP, &[(0, 0), (3, 3), (8, 8), (11, 11)]),
        types(ICMPV6, &[(1, 3), (128, 129)]),
    ]
}

fn types(proto: ProtoSet, types: &[(u16, u16)]) -> Clause {
    Clause {
        protos: proto,
        sport: PortSet(types.to_vec()),
        ..Clause::any(Direction::Out)
    }
}

/// Whether a rule is on where the config does not speak of it.
pub(super) fn is_on(header: &Header, name: &str) -> bool {
    let has = match name {
        QUIC => header.quic,
        STRICT_TCP => !header.tcp_ports.0.is_empty(),
        _ => true,
    };
    has && header.profile == Profile::Strict
}

/// Warns of a strict policy that lets out less than is likely to be meant.
pub(super) fn warn(reader: &mut Reader, header: &Header, policy: &Policy, overrides: &[Stated]) {
    if header.profile != Profile::Strict {
        return;
    }
    let stated = |name: &str| overrides.iter().any(|rule| rule.name == name);
    if header.tcp_ports.0.is_empty() && !stated(STRICT_TCP) {
        let message = "`tcp_ports` of [policy] is empty: no TCP leaves but DNS to `@resolvers` and what rules of yours allow";
        let help = "add `tcp_ports = [80, 443]`, the ports that the inside may open";
        reader.warn(header.profile_span.clone(), message, "this profile", help);
    }
    let no_resolvers = policy
        .set("resolvers")
        .is_some_and(|set| set.ranges.is_empty());
    if no_resolvers && !stated(DNS) {
        let message = "the set `resolvers` is empty: no DNS leaves";
        let help = "add `resolvers = [\"10.0.0.1\"]` to [sets], the servers that the inside asks";
        reader.warn(header.profile_span.clone(), message, "this profile", help);
    }
}
