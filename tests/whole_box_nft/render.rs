//! A policy in the language of nft(8), bridge family. It shares nothing with the compilation of the table.
//!
//! A clause becomes one line for each combination of what nft has no "or" for: the family of the addresses, tagged or
//! not, alternatives of TCP flags.

use super::packets::SENTINEL;
use portcullis::policy::addr::Family;
use portcullis::policy::{
    Action, AddrMatch, AddrRange, Clause, Direction, Policy, PortSet, ProtoSet, Set, Term, UNTAGGED,
};
use std::fmt::Write;
use std::net::{Ipv4Addr, Ipv6Addr};

const FAMILIES: [Family; 2] = [Family::V4, Family::V6];

/// The whole rule set, in place of whatever there was.
pub fn ruleset(policy: &Policy) -> String {
    let mut sets = String::new();
    let mut lines = format!("    ether type {SENTINEL:#06x} accept\n");
    for (at, set) in policy.sets.iter().enumerate() {
        for family in FAMILIES {
            declare(&mut sets, &set_name(at, family), family, &set.ranges);
        }
    }
    for rule in &policy.rules {
        let verdict = if rule.action == Action::Allow {
            "accept"
        } else {
            "drop"
        };
        for (at, clause) in rule.clauses.iter().enumerate() {
            let mut render = Clauses {
                policy,
                sets: &mut sets,
                prefix: format!("{}_{at}", rule.name),
            };
            for line in render.lines(clause) {
                let _ = writeln!(lines, "    {line} {verdict} comment \"{}\"", rule.name);
            }
        }
    }
    // Also for what the default rule, which is of IP, does not match.
    let rest = if policy.default == Action::Allow {
        "accept"
    } else {
        "drop"
    };
    format!(
        "flush ruleset\ntable bridge t {{\n{sets}  chain forward {{\n    type filter hook forward priority 0; policy {rest};\n{lines}  }}\n}}\n"
    )
}

fn set_name(at: usize, family: Family) -> String {
    format!("s{at}_{family:?}")
}

fn declare(out: &mut String, name: &str, family: Family, ranges: &[AddrRange]) {
    let kind = if family == Family::V4 {
        "ipv4_addr"
    } else {
        "ipv6_addr"
    };
    let text = |addr: u128| match family {
        Family::V4 => Ipv4Addr::from(addr as u32).to_string(),
        Family::V6 => Ipv6Addr::from(addr).to_string(),
    };
    let element = |range: &AddrRange| match range.first == range.last {
        true => text(range.first),
        false => format!("{}-{}", text(range.first), text(range.last)),
    };
    let elements: Vec<String> = ranges
        .iter()
        .filter(|range| range.family == family)
        .map(element)
        .collect();
    let elements = match elements.is_empty() {
        true => String::new(),
        false => format!("elements = {{ {} }}; ", elements.join(", ")),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "  set {name} {{ type {kind}; flags interval; auto-merge; {elements}}}"
    );
}

struct Clauses<'a> {
    policy: &'a Policy,
    sets: &'a mut String,
    /// Of the names of sets that are made for a clause.
    prefix: String,
}

impl Clauses<'_> {
    /// The lines of a clause, without their verdict.
    fn lines(&mut self, clause: &Clause) -> Vec<String> {
        let mut heads = self.networks(clause);
        let mut common = Vec::new();
        match clause.direction {
            Direction::Out => common.push("iifname \"gl0\"".to_owned()),
            Direction::In => common.push("iifname \"gu0\"".to_owned()),
            Direction::Both => {}
        }
        for (negated, macs) in [
            ("", &clause.src_mac.any_of),
            ("!= ", &clause.src_mac.none_of),
        ] {
            if !macs.is_empty() {
                let macs: Vec<String> = macs
                    .iter()
                    .map(|mac| mac.map(|byte| format!("{byte:02x}")).join(":"))
                    .collect();
                common.push(format!("ether saddr {negated}{{ {} }}", macs.join(", ")));
            }
        }
        common.extend(transport(clause));
        if let Some(tags) = vlans(&clause.vlan) {
            heads = each_with_each(&tags, &heads);
        }
        if let Some(flags) = flags(clause) {
            heads = each_with_each(&heads, &flags);
        }
        heads
            .into_iter()
            .map(|head| format!("{head} {}", common.join(" ")))
            .collect()
    }

    /// What is matched of the network header, for each family that can match, and for frames that are not IP.
    fn networks(&mut self, clause: &Clause) -> Vec<String> {
        let addresses = !clause.src.is_any() || !clause.dst.is_any();
        let named: Option<Vec<u16>> = clause.ethertype.as_ref().map(|list| {
            assert!(
                list.0.iter().all(|(first, last)| first == last),
                "one by one"
            );
            list.0.iter().map(|(first, _)| *first).collect()
        });
        if named.is_none() && !addresses && clause.fragment.is_none() {
            return vec!["meta protocol { ip, ip6 }".to_owned()];
        }
        let holds = |ethertype| named.as_ref().is_none_or(|list| list.contains(&ethertype));
        let families = [(Family::V4, 0x0800), (Family::V6, 0x86dd)].into_iter();
        let families = families.filter(|(_, ethertype)| holds(*ethertype));
        let mut lines: Vec<String> = families
            .filter_map(|(family, _)| self.network(clause, family))
            .collect();
        // A frame that is not IP has no address, and is no fragment.
        if !addresses && clause.fragment != Some(true) {
            let others = named
                .iter()
                .flatten()
                .filter(|ethertype| ![0x0800, 0x86dd].contains(*ethertype));
            lines.extend(others.map(|ethertype| format!("meta protocol {ethertype:#06x}")));
        }
        lines
    }

    fn network(&mut self, clause: &Clause, family: Family) -> Option<String> {
        let (word, mut parts) = match family {
            Family::V4 => ("ip", vec!["meta protocol ip".to_owned()]),
            Family::V6 => ("ip6", vec!["meta protocol ip6".to_owned()]),
        };
        if let Some(fragment) = clause.fragment {
            parts.push(match (family, fragment) {
                (Family::V4, true) => "ip frag-off & 0x3fff != 0".to_owned(),
                (Family::V4, false) => "ip frag-off & 0x3fff == 0".to_owned(),
                (Family::V6, true) => "exthdr frag exists".to_owned(),
                (Family::V6, false) => "exthdr frag missing".to_owned(),
            });
        }
        for (field, wanted) in [("saddr", &clause.src), ("daddr", &clause.dst)] {
            let AddrMatch { any_of, none_of } = wanted;
            if !any_of.is_empty() {
                let name = self.set_of(any_of, family, &format!("{field}_any"))?;
                parts.push(format!("{word} {field} @{name}"));
            }
            if let Some(name) = self.set_of(none_of, family, &format!("{field}_none")) {
                parts.push(format!("{word} {field} != @{name}"));
            }
        }
        Some(parts.join(" "))
    }

    /// The set that holds these terms; `None` where they hold nothing of the family. One named set alone is used as it
    /// is, even if it is empty.
    fn set_of(&mut self, terms: &[Term], family: Family, what: &str) -> Option<String> {
        if let [Term::Set(at)] = terms {
            return Some(set_name(*at, family));
        }
        let in_set = |set: &Set| set.ranges.clone();
        let ranges = terms.iter().flat_map(|term| match term {
            Term::Range(range) => vec![*range],
            Term::Set(at) => self.policy.sets.get(*at).map(in_set).unwrap_or_default(),
        });
        let ranges: Vec<AddrRange> = ranges.filter(|range| range.family == family).collect();
        let name = format!("{}_{what}_{family:?}", self.prefix);
        (!ranges.is_empty()).then(|| {
            declare(self.sets, &name, family, &ranges);
            name
        })
    }
}

fn each_with_each(first: &[String], second: &[String]) -> Vec<String> {
    let both = first
        .iter()
        .flat_map(|first| second.iter().map(move |second| format!("{first} {second}")));
    both.collect()
}

/// Tagged with one of these, or not tagged.
fn vlans(wanted: &PortSet) -> Option<Vec<String>> {
    if wanted.is_any() {
        return None;
    }
    let ids = wanted.0.iter().filter(|(first, _)| *first < UNTAGGED);
    let ids: Vec<(u16, u16)> = ids
        .map(|&(first, last)| (first, last.min(UNTAGGED - 1)))
        .collect();
    let mut alternatives = Vec::new();
    if !ids.is_empty() {
        alternatives.push(format!("vlan id {}", list(&PortSet(ids))));
    }
    if wanted.contains(UNTAGGED) {
        alternatives.push("ether type != 8021q".to_owned());
    }
    Some(alternatives)
}

fn flags(clause: &Clause) -> Option<Vec<String>> {
    let alternatives = &clause.tcp_flags.0;
    let one = |(mask, value): &(u8, u8)| format!("tcp flags & {mask:#04x} == {value:#04x}");
    (!alternatives.is_empty()).then(|| alternatives.iter().map(one).collect())
}

/// Protocols and ports.
fn transport(clause: &Clause) -> Vec<String> {
    let mut parts = Vec::new();
    let protos: Vec<u8> = clause.protos.iter().collect();
    let list_of = |protos: &[u8]| {
        protos
            .iter()
            .map(u8::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    if protos.len() > 128 && clause.protos != ProtoSet::ALL {
        let not: Vec<u8> = (0..=255)
            .filter(|proto| !clause.protos.contains(*proto))
            .collect();
        parts.push(format!("meta l4proto != {{ {} }}", list_of(&not)));
    } else if clause.protos != ProtoSet::ALL {
        parts.push(format!("meta l4proto {{ {} }}", list_of(&protos)));
    }
    let (from, to) = match protos[..] {
        [1] => ("icmp type", "icmp code"),
        [58] => ("icmpv6 type", "icmpv6 code"),
        _ => ("th sport", "th dport"),
    };
    for (name, ports) in [(from, &clause.sport), (to, &clause.dport)] {
        if !ports.is_any() {
            parts.push(format!("{name} {}", list(ports)));
        }
    }
    parts
}

/// Ranges that do not overlap, as an anonymous set wants them.
fn list(ports: &PortSet) -> String {
    let held: Vec<u16> = (0..=u16::MAX)
        .filter(|port| ports.contains(*port))
        .collect();
    let runs = held.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
        [one] => one.to_string(),
        _ => format!("{}-{}", run[0], run[run.len() - 1]),
    });
    format!("{{ {} }}", runs.collect::<Vec<_>>().join(", "))
}
