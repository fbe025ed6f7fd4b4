//! Why a rule can never match: the one field, or the two, that leave nothing.

use super::space::{self, Space};
use crate::policy::addr::{AddrMatch, Set, Term};
use crate::policy::rule::{Clause, FlagMatch, MacMatch, PortSet, ProtoSet, Rule};

/// The fields of a clause that leave nothing, by the names of their keys: one, two that contradict, or in a rule with
/// several clauses or more involved reasons all that it states. For the fields `sport` and `dport` of ICMP the keys are
/// `icmp_type` and `icmp_code`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// The names, at least one.
    pub fields: Vec<&'static str>,
    /// Sets (by index) that are named in these fields and are empty, where that is what leaves nothing.
    pub empty_sets: Vec<usize>,
}

/// The fields that can contradict, in the order in which they are named.
const FIELDS: [&str; 11] = [
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

/// Why no clause of the rule can match.
pub(super) fn of(rule: &Rule, sets: &[Set]) -> Contradiction {
    let mut reasons = rule.clauses.iter().map(|clause| of_clause(clause, sets));
    let Some(mut why) = reasons.next() else {
        return Contradiction {
            fields: vec!["rule"],
            empty_sets: Vec::new(),
        };
    };
    for other in reasons {
        if why.empty_sets.is_empty() || other.empty_sets.is_empty() {
            why.empty_sets.clear();
        }
        for set in other.empty_sets {
            if !why.empty_sets.is_empty() && !why.empty_sets.contains(&set) {
                why.empty_sets.push(set);
            }
        }
        for field in other.fields {
            if !why.fields.contains(&field) {
                why.fields.push(field);
            }
        }
    }
    why
}

fn of_clause(clause: &Clause, sets: &[Set]) -> Contradiction {
    let stated: Vec<_> = FIELDS
        .into_iter()
        .filter(|field| only(clause, &[field]) != Clause::any(clause.direction))
        .collect();
    let pairs = stated
        .iter()
        .enumerate()
        .flat_map(|(at, a)| stated[at + 1..].iter().map(|b| vec![*a, *b]));
    let fields = stated
        .iter()
        .map(|field| vec![*field])
        .chain(pairs)
        .find(|fields| nothing(&only(clause, fields), sets))
        .unwrap_or_else(|| stated.clone());
    let empty_sets = fields.iter().flat_map(|field| match *field {
        "src" => empty(&clause.src, sets),
        "dst" => empty(&clause.dst, sets),
        _ => Vec::new(),
    });
    Contradiction {
        empty_sets: empty_sets.collect(),
        fields,
    }
}

/// The empty sets among the terms without `!`, where there is nothing else among these.
fn empty(wanted: &AddrMatch, sets: &[Set]) -> Vec<usize> {
    let empty = |term: &Term| match term {
        Term::Set(at) if sets.get(*at).is_none_or(|set| set.ranges.is_empty()) => Some(*at),
        _ => None,
    };
    let all: Option<Vec<_>> = wanted.any_of.iter().map(empty).collect();
    all.unwrap_or_default()
}

/// Whether no frame matches.
fn nothing(clause: &Clause, sets: &[Set]) -> bool {
    let mut space = Space::new(sets);
    space::planes().all(|plane| space.product(clause, plane).is_none())
}

/// The clause with all but these fields left open.
fn only(clause: &Clause, fields: &[&str]) -> Clause {
    let mut only = clause.clone();
    for field in FIELDS.iter().filter(|field| !fields.contains(field)) {
        match *field {
            "proto" => only.protos = ProtoSet::ALL,
            "src" => only.src = AddrMatch::any(),
            "dst" => only.dst = AddrMatch::any(),
            "sport" => only.sport = PortSet::any(),
            "dport" => only.dport = PortSet::any(),
            "ethertype" => only.ethertype = None,
            "vlan" => only.vlan = PortSet::any(),
            "src_mac" => only.src_mac = MacMatch::default(),
            "tcp_flags" => only.tcp_flags = FlagMatch::default(),
            "fragment" => only.fragment = None,
            _ => only.app = None,
        }
    }
    only
}
