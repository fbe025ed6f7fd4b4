//! The slow, obvious evaluator: rule by rule, clause by clause, term by term. It is the truth that the table is
//! compared with, so it shares nothing with the table's compilation.

use super::addr::{AddrMatch, Family, Set, Term};
use super::rule::{Clause, Policy};
use super::{Key, RuleId};

/// The first rule that matches. The last rule of a policy is its default, which also answers for a frame that is not
/// IP and that no rule names; a policy without rules answers with rule 0.
pub fn evaluate(policy: &Policy, key: &Key) -> RuleId {
    let first = policy.rules.iter().position(|rule| {
        rule.clauses
            .iter()
            .any(|clause| matches(policy, clause, key))
    });
    RuleId(first.unwrap_or(policy.rules.len().saturating_sub(1)) as u32)
}

/// Whether every field of the clause holds for the key.
pub fn matches(policy: &Policy, clause: &Clause, key: &Key) -> bool {
    clause.direction.holds(key.side)
        && clause.protos.contains(key.proto)
        && address_matches(&policy.sets, &clause.src, key.family(), key.src)
        && address_matches(&policy.sets, &clause.dst, key.family(), key.dst)
        && clause.sport.contains(key.sport)
        && clause.dport.contains(key.dport)
        && match &clause.ethertype {
            Some(ethertypes) => ethertypes.contains(key.ethertype),
            None => key.family().is_some(),
        }
        && clause.vlan.contains(key.vlan)
        && clause.src_mac.contains(&key.src_mac)
        && clause.tcp_flags.contains(key.tcp_flags)
        && clause
            .fragment
            .is_none_or(|fragment| fragment == key.fragment)
        && clause.app.is_none_or(|apps| apps.contains(key.app))
}

/// A frame without addresses matches where no address is asked for.
fn address_matches(sets: &[Set], wanted: &AddrMatch, family: Option<Family>, addr: u128) -> bool {
    let Some(family) = family else {
        return wanted.is_any();
    };
    let holds = |term: &Term| match term {
        Term::Range(range) => range.contains(family, addr),
        Term::Set(set) => sets
            .get(*set)
            .is_some_and(|set| set.ranges.iter().any(|range| range.contains(family, addr))),
    };
    let wanted_one = wanted.any_of.is_empty() || wanted.any_of.iter().any(holds);
    wanted_one && !wanted.none_of.iter().any(holds)
}
