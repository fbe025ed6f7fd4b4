//! How near a rule came to matching: the clause that fails in the fewest fields, and these fields.

use super::describe::{address, vlan};
use crate::policy::addr::{AddrMatch, Term};
use crate::policy::rule::{AppSet, Clause, FlagMatch, Policy, ProtoSet, Rule, proto_name};
use crate::policy::{Key, RuleId, Side};
use serde::Serialize;

/// A rule that does not match, by the clause that comes nearest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Miss {
    /// The rule's name.
    pub rule: String,
    /// Where the rule comes from.
    pub origin: String,
    /// What else there is to know of the rule: `shadow`, `ttl 1h`, `limit 5 in 1s`.
    pub marks: Vec<String>,
    /// The fields that do not match; every other one does.
    pub fields: Vec<FieldMiss>,
}

/// A field that does not match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldMiss {
    /// The name of its key in the config.
    pub field: &'static str,
    /// What the rule asks for.
    pub wants: String,
    /// What the packet has.
    pub has: String,
}

/// The most misses that are told: the nearest.
pub const MOST: usize = 1000;

/// The fields of a clause, in the order in which they are told.
const FIELDS: [&str; 12] = [
    "direction",
    "proto",
    "src",
    "dst",
    "sport",
    "dport",
    "ethertype",
    "vlan",
    "src_mac",
    "tcp_flags",
    "fragment",
    "app",
];

/// The misses of the rules before `before`, the nearest first and else in the order of the rules, at most [`MOST`];
/// and how many were left out. A rule that matches (one in shadow may) is no miss.
pub(super) fn misses(policy: &Policy, key: &Key, before: RuleId) -> (Vec<Miss>, usize) {
    let mut looker = Looker::new(policy, key);
    let mut near: Vec<(u32, usize, &Rule, &Clause, u16)> = Vec::new();
    let rules = policy.rules.iter().take(before.index()).enumerate();
    for (at, rule) in rules {
        let clauses = rule.clauses.iter();
        let clauses = clauses.map(|clause| (looker.failing(clause), clause));
        let nearest = clauses.min_by_key(|(failing, _)| failing.count_ones());
        if let Some((failing, clause)) = nearest.filter(|(failing, _)| *failing != 0) {
            near.push((failing.count_ones(), at, rule, clause, failing));
        }
    }
    near.sort_unstable_by_key(|(count, at, ..)| (*count, *at));
    let left_out = near.len().saturating_sub(MOST);
    let told = near.into_iter().take(MOST);
    let told = told.map(|(_, _, rule, clause, failing)| Miss {
        rule: rule.name.clone(),
        origin: super::origin(rule.origin),
        marks: super::marks(rule),
        fields: FIELDS
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| failing >> bit & 1 == 1)
            .map(|(_, field)| field_miss(policy, clause, key, field))
            .collect(),
    });
    (told.collect(), left_out)
}

/// Looks at clauses for one packet; whether an address is in a set is looked up once, however many rules name the set.
struct Looker<'p> {
    policy: &'p Policy,
    key: &'p Key,
    src_in: Vec<Option<bool>>,
    dst_in: Vec<Option<bool>>,
}

impl<'p> Looker<'p> {
    fn new(policy: &'p Policy, key: &'p Key) -> Looker<'p> {
        Looker {
            policy,
            key,
            src_in: vec![None; policy.sets.len()],
            dst_in: vec![None; policy.sets.len()],
        }
    }

    /// The fields, as bits in the order of [`FIELDS`], that do not match.
    fn failing(&mut self, clause: &Clause) -> u16 {
        let key = self.key;
        let ethertype = match &clause.ethertype {
            Some(types) => types.contains(key.ethertype),
            None => key.family().is_some(),
        };
        let holds = [
            clause.direction.holds(key.side),
            clause.protos.contains(key.proto),
            address_holds(self.policy, key, &clause.src, key.src, &mut self.src_in),
            address_holds(self.policy, key, &clause.dst, key.dst, &mut self.dst_in),
            clause.sport.contains(key.sport),
            clause.dport.contains(key.dport),
            ethertype,
            clause.vlan.contains(key.vlan),
            clause.src_mac.contains(&key.src_mac),
            clause.tcp_flags.contains(key.tcp_flags),
            clause.fragment.is_none_or(|wanted| wanted == key.fragment),
            clause.app.is_none_or(|wanted| wanted.contains(key.app)),
        ];
        let failing = holds.iter().enumerate().filter(|(_, holds)| !**holds);
        failing.fold(0, |bits, (field, _)| bits | 1 << field)
    }
}

fn address_holds(
    policy: &Policy,
    key: &Key,
    wanted: &AddrMatch,
    addr: u128,
    in_set: &mut [Option<bool>],
) -> bool {
    let Some(family) = key.family() else {
        return wanted.is_any();
    };
    let mut holds = |term: &Term| match term {
        Term::Range(range) => range.contains(family, addr),
        Term::Set(at) => match (in_set.get_mut(*at), policy.sets.get(*at)) {
            (Some(known), Some(set)) => *known
                .get_or_insert_with(|| set.ranges.iter().any(|range| range.contains(family, addr))),
            _ => false,
        },
    };
    let one = wanted.any_of.is_empty() || wanted.any_of.iter().any(&mut holds);
    one && !wanted.none_of.iter().any(holds)
}

fn field_miss(policy: &Policy, clause: &Clause, key: &Key, field: &'static str) -> FieldMiss {
    let icmp = clause.protos.is_icmp();
    let (field, wants, has) = match field {
        "direction" => {
            let has = Side::direction(key.side).to_owned();
            (field, clause.direction.name().to_owned(), has)
        }
        "proto" => (field, clause.protos.to_string(), proto(key)),
        "src" => {
            let wants = clause.src.describe(&policy.sets);
            (field, wants, address(key, key.src))
        }
        "dst" => {
            let wants = clause.dst.describe(&policy.sets);
            (field, wants, address(key, key.dst))
        }
        "sport" => {
            let name = if icmp { "icmp_type" } else { field };
            (name, clause.sport.to_string(), port(key, key.sport))
        }
        "dport" => {
            let name = if icmp { "icmp_code" } else { field };
            (name, clause.dport.to_string(), port(key, key.dport))
        }
        "ethertype" => {
            let wants = match &clause.ethertype {
                None => "IP".to_owned(),
                Some(_) => described(clause, policy, "ethertype "),
            };
            (field, wants, format!("{:#06x}", key.ethertype))
        }
        "vlan" => (field, described(clause, policy, "vlan "), vlan(key)),
        "src_mac" => {
            let has = key.src_mac.map(|byte| format!("{byte:02x}")).join(":");
            (field, clause.src_mac.to_string(), has)
        }
        "tcp_flags" => {
            let set = FlagMatch(vec![(key.tcp_flags, key.tcp_flags)]).to_string();
            let has = match (key.proto, key.tcp_flags) {
                (6, 0) => "none set".to_owned(),
                (6, _) => set,
                _ => "none: it is not TCP".to_owned(),
            };
            (field, clause.tcp_flags.to_string(), has)
        }
        "app" => {
            let wants = clause.app.map_or_else(String::new, |app| app.to_string());
            let has = match key.app {
                0 => "not looked at: no `app` is given".to_owned(),
                app => AppSet::name(app).to_owned(),
            };
            (field, wants, has)
        }
        _ => {
            let wants = clause.fragment.is_some_and(|wanted| wanted).to_string();
            (field, wants, key.fragment.to_string())
        }
    };
    FieldMiss { field, wants, has }
}

/// What [`Clause::describe`] says of one field: a clause that has nothing else says nothing else.
fn described(clause: &Clause, policy: &Policy, field: &str) -> String {
    let only = Clause {
        ethertype: clause.ethertype.clone().filter(|_| field == "ethertype "),
        vlan: match field {
            "vlan " => clause.vlan.clone(),
            _ => Clause::any(clause.direction).vlan,
        },
        ..Clause::any(clause.direction)
    };
    let text = only.describe(&policy.sets);
    let at = text.find(field).map_or(text.len(), |at| at + field.len());
    text[at..].to_owned()
}

fn proto(key: &Key) -> String {
    match key.family() {
        Some(_) => proto_name(key.proto),
        None => "none: it is not IP".to_owned(),
    }
}

fn port(key: &Key, port: u16) -> String {
    let with_numbers = ProtoSet::WITH_PORTS.union(ProtoSet::of(&[1, 58]));
    if key.family().is_some() && with_numbers.contains(key.proto) {
        port.to_string()
    } else {
        "none".to_owned()
    }
}
