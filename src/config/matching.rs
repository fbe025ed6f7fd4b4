//! The keys of a rule that match: what a frame must be.

use super::number::Protos;
use super::raw::{Reader, Value};
use super::section::Section;
use super::{address, app, flags, icmp, link, number};
use crate::policy::{Clause, Direction, FlagMatch, ProtoSet, Set};

const TCP: ProtoSet = ProtoSet::of(&[6]);
/// The protocols that a port means where none is named.
const TCP_UDP: ProtoSet = ProtoSet::of(&[6, 17]);

/// The values of the match keys.
struct Keys<'t> {
    direction: Option<Value<'t>>,
    proto: Option<Value<'t>>,
    src: Option<Value<'t>>,
    dst: Option<Value<'t>>,
    sport: Option<Value<'t>>,
    dport: Option<Value<'t>>,
    icmp_type: Option<Value<'t>>,
    icmp_code: Option<Value<'t>>,
    tcp_flags: Option<Value<'t>>,
    fragment: Option<Value<'t>>,
    app: Option<Value<'t>>,
    ethertype: Option<Value<'t>>,
    vlan: Option<Value<'t>>,
    src_mac: Option<Value<'t>>,
}

impl<'t> Keys<'t> {
    fn take(section: &mut Section<'t>) -> Keys<'t> {
        let mut take = |key| section.take(key);
        Keys {
            direction: take("direction"),
            proto: take("proto"),
            src: take("src"),
            dst: take("dst"),
            sport: take("sport"),
            dport: take("dport"),
            icmp_type: take("icmp_type"),
            icmp_code: take("icmp_code"),
            tcp_flags: take("tcp_flags"),
            fragment: take("fragment"),
            app: take("app"),
            ethertype: take("ethertype"),
            vlan: take("vlan"),
            src_mac: take("src_mac"),
        }
    }

    /// Those that speak of fields that only IP has, with their names.
    fn of_ip(&self) -> [(&'static str, &Option<Value<'t>>); 10] {
        [
            ("proto", &self.proto),
            ("src", &self.src),
            ("dst", &self.dst),
            ("sport", &self.sport),
            ("dport", &self.dport),
            ("icmp_type", &self.icmp_type),
            ("icmp_code", &self.icmp_code),
            ("tcp_flags", &self.tcp_flags),
            ("fragment", &self.fragment),
            ("app", &self.app),
        ]
    }

    fn none(&self) -> bool {
        let link = [&self.direction, &self.ethertype, &self.vlan, &self.src_mac];
        let ip = self.of_ip().map(|(_, value)| value);
        link.iter().chain(&ip).all(|value| value.is_none())
    }
}

/// What the match keys say, one clause for each ICMP protocol that they name; none where there is no such key. A key with
/// a fault counts as stated.
pub(super) fn clauses(reader: &mut Reader, section: &mut Section<'_>, sets: &[Set]) -> Vec<Clause> {
    let keys = Keys::take(section);
    if keys.none() {
        return Vec::new();
    }
    let mut clause = Clause::any(Direction::Out);
    if let Some(read) = keys
        .direction
        .as_ref()
        .and_then(|value| direction(reader, value))
    {
        clause.direction = read;
    }
    link_layer(reader, &keys, &mut clause);
    for (key, value, addr) in [
        ("src", &keys.src, &mut clause.src),
        ("dst", &keys.dst, &mut clause.dst),
    ] {
        let read = value
            .as_ref()
            .and_then(|value| address::expression(reader, value, key, sets));
        *addr = read.unwrap_or_default();
    }
    clause.fragment = keys
        .fragment
        .as_ref()
        .and_then(|value| reader.boolean(value, "fragment"));
    transport(reader, &keys, clause)
}

/// `out`, `in` or `both`.
fn direction(reader: &mut Reader, value: &Value<'_>) -> Option<Direction> {
    let words = [
        ("out", Direction::Out),
        ("in", Direction::In),
        ("both", Direction::Both),
    ];
    reader.word(value, "direction", &words)
}

fn link_layer(reader: &mut Reader, keys: &Keys<'_>, clause: &mut Clause) {
    if let Some(read) = keys
        .vlan
        .as_ref()
        .and_then(|value| link::vlans(reader, value))
    {
        clause.vlan = read;
    }
    if let Some(read) = keys
        .src_mac
        .as_ref()
        .and_then(|value| link::macs(reader, value))
    {
        clause.src_mac = read;
    }
    let Some(value) = &keys.ethertype else { return };
    clause.ethertype = link::ethertypes(reader, value);
    let more = clause
        .ethertype
        .as_ref()
        .is_some_and(link::holds_more_than_ip);
    let ip = keys.of_ip().into_iter().find(|(_, value)| value.is_some());
    if let (true, Some((key, _))) = (more, ip) {
        let message = format!(
            "`ethertype` names frames that are not IP, and `{key}` is a field of IP: they have none"
        );
        let help =
            format!("take `{key}` out, or name only \"ipv4\" and \"ipv6\"; two rules say both");
        reader.error(value.span(), message, "more than IP", help);
    }
}

/// Protocol, ports, ICMP types and TCP flags: which of them may stand together, and what they mean for the protocol.
fn transport(reader: &mut Reader, keys: &Keys<'_>, mut clause: Clause) -> Vec<Clause> {
    let faulty = Protos {
        set: ProtoSet::ALL,
        negated: true,
    };
    let stated = keys
        .proto
        .as_ref()
        .map(|value| number::protos(reader, value).unwrap_or(faulty));
    if let Some(value) = &keys.tcp_flags {
        clause.tcp_flags = tcp_flags(reader, value, stated);
    }
    if keys.icmp_type.is_some() || keys.icmp_code.is_some() {
        return icmp_clauses(reader, keys, stated, clause);
    }
    let ports = [&keys.sport, &keys.dport]
        .into_iter()
        .any(|value| value.is_some());
    if let Some(value) = &keys.app {
        clause.app = app::apps(reader, value);
        if stated.is_some_and(|stated| !stated.negated && !stated.set.within(TCP_UDP)) {
            let help = "use `proto = \"tcp\"`, \"udp\", or leave `proto` out: an application is known by what TCP or UDP carries";
            let message = "`app` with a protocol whose payload is not looked at";
            reader.error(value.span(), message, "no such field", help);
        }
    }
    clause.protos = match stated {
        _ if keys.tcp_flags.is_some() => TCP,
        None if ports || keys.app.is_some() => TCP_UDP,
        Some(stated) if keys.app.is_some() => stated.set.and(TCP_UDP),
        None => ProtoSet::ALL,
        // What is negated leaves over the protocols that have ports.
        Some(stated) if ports && stated.negated => with_ports(stated.set),
        Some(stated) => stated.set,
    };
    let no_ports = clause.protos == ProtoSet::EMPTY || !clause.protos.within(ProtoSet::WITH_PORTS);
    for (key, value, set) in [
        ("sport", &keys.sport, &mut clause.sport),
        ("dport", &keys.dport, &mut clause.dport),
    ] {
        let Some(value) = value else { continue };
        if no_ports {
            of_no_ports(reader, key, value);
        }
        let all = (0, u16::MAX);
        if let Some(read) = number::set(reader, value, key, all, |value| {
            number::plain(value, key, u16::MAX)
        }) {
            *set = read;
        }
    }
    vec![clause]
}

fn with_ports(protos: ProtoSet) -> ProtoSet {
    let held: Vec<u8> = protos
        .iter()
        .filter(|&proto| ProtoSet::WITH_PORTS.contains(proto))
        .collect();
    ProtoSet::of(&held)
}

fn of_no_ports(reader: &mut Reader, key: &str, value: &Value<'_>) {
    let help = "use `proto = \"tcp\"`, \"udp\", or both; without `proto`, a port means both";
    let message = format!("`{key}` with a protocol that has no ports");
    reader.error(value.span(), message, "no such field", help);
}

fn tcp_flags(reader: &mut Reader, value: &Value<'_>, stated: Option<Protos>) -> FlagMatch {
    if stated.is_some_and(|stated| stated.set != TCP && stated.set != ProtoSet::ALL) {
        let help = "use `proto = \"tcp\"`, or leave `proto` out: flags mean TCP";
        reader.error(
            value.span(),
            "`tcp_flags` with a protocol that has none",
            "no such field",
            help,
        );
    }
    flags::flags(reader, value).unwrap_or_default()
}

/// One clause for each ICMP protocol in which the types mean something: names do in both.
fn icmp_clauses(
    reader: &mut Reader,
    keys: &Keys<'_>,
    stated: Option<Protos>,
    clause: Clause,
) -> Vec<Clause> {
    for (key, value) in [("sport", &keys.sport), ("dport", &keys.dport)] {
        if let Some(value) = value {
            of_no_ports(reader, key, value);
        }
    }
    if let Some(value) = &keys.app {
        let help = "take `app` out, or `icmp_type` and `icmp_code`: an application is known by what TCP or UDP carries";
        let message = "`app` with an ICMP type or code";
        reader.error(value.span(), message, "no such field", help);
    }
    if let Some(value) = &keys.tcp_flags {
        let help = "take `tcp_flags` out, or `icmp_type` and `icmp_code`: flags are of TCP";
        reader.error(
            value.span(),
            "`tcp_flags` with an ICMP type or code",
            "no such field",
            help,
        );
    }
    let named = keys.icmp_code.is_none()
        && keys
            .icmp_type
            .as_ref()
            .is_some_and(|value| icmp::all_named(value.get_ref()));
    let protos: Vec<u8> = match stated {
        // After a fault in `proto`, which has been reported.
        Some(stated) if stated.set == ProtoSet::ALL => vec![icmp::V4, icmp::V6],
        Some(stated) if stated.set.is_icmp() => stated.set.iter().collect(),
        Some(_) => Vec::new(),
        None if named => vec![icmp::V4, icmp::V6],
        None => Vec::new(),
    };
    let one = protos.len() == 1
        || named && !protos.is_empty()
        || stated.is_some_and(|stated| stated.set == ProtoSet::ALL);
    for (key, value) in [
        ("icmp_type", &keys.icmp_type),
        ("icmp_code", &keys.icmp_code),
    ] {
        let Some(value) = value else { continue };
        if !one {
            let help = "add `proto = \"icmp\"` or `proto = \"icmpv6\"`: the numbers mean other things in each; names of types do for both";
            let message = format!("`{key}` needs one ICMP protocol");
            reader.error(value.span(), message, "of which protocol?", help);
        }
    }
    let codes = keys.icmp_code.as_ref().and_then(|value| {
        let all = (0, u8::MAX.into());
        number::set(reader, value, "icmp_code", all, |value| {
            number::plain(value, "icmp_code", u8::MAX.into())
        })
    });
    let of = |proto| Clause {
        protos: ProtoSet::of(&[proto]),
        dport: codes.clone().unwrap_or_else(|| clause.dport.clone()),
        ..clause.clone()
    };
    if protos.is_empty() {
        return vec![clause];
    }
    let Some(types) = &keys.icmp_type else {
        return protos.iter().copied().map(of).collect();
    };
    let Some(found) = icmp::types(reader, types, &protos) else {
        return vec![clause];
    };
    let clauses = found.into_iter().map(|(proto, types)| Clause {
        sport: types,
        ..of(proto)
    });
    clauses.collect()
}
