//! The slow, obvious evaluator: rule by rule, clause by clause, term by term. It is the truth that the table is
//! compared with, so it shares nothing with the table's compilation.

use super::addr::{AddrMatch, Family, Set, Term};
use super::rule::{Clause, Policy};
use super::{Key, RuleId};

/// The first rule that matches. The last rule of a policy is its default and matches everything; a policy without
/// rules answers with rule 0.
pub fn evaluate(policy: &Policy, key: &Key) -> RuleId {
    let first = policy.rules.iter().position(|rule| {
        rule.clauses
            .iter()
            .any(|clause| matches(policy, clause, key))
    });
    RuleId(first.unwrap_or(policy.rules.len().saturating_sub(1)) as u16)
}

/// Whether every field of the clause holds for the key.
pub fn matches(policy: &Policy, clause: &Clause, key: &Key) -> bool {
    clause.direction.holds(key.side)
        && clause.protos.contains(key.proto)
        && address_matches(&policy.sets, &clause.src, key.v6, key.src)
        && address_matches(&policy.sets, &clause.dst, key.v6, key.dst)
        && clause.sport.contains(key.sport)
        && clause.dport.contains(key.dport)
}

fn address_matches(sets: &[Set], wanted: &AddrMatch, v6: bool, addr: u128) -> bool {
    let family = if v6 { Family::V6 } else { Family::V4 };
    let holds = |term: &Term| match term {
        Term::Range(range) => range.contains(family, addr),
        Term::Set(set) => sets
            .get(*set)
            .is_some_and(|set| set.ranges.iter().any(|range| range.contains(family, addr))),
    };
    let wanted_one = wanted.any_of.is_empty() || wanted.any_of.iter().any(holds);
    wanted_one && !wanted.none_of.iter().any(holds)
}
