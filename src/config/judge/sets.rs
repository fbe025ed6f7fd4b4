//! Empty sets that the user's rules name.

use super::{Text, names};
use crate::config::error::Problem;
use crate::policy::judge::Finding;
use crate::policy::{AddrMatch, Origin, RuleId, Term};
use std::ops::Range;

/// How a rule names an empty set, by what comes of it.
#[derive(Default)]
struct Uses<'c> {
    /// The rule can never match.
    never: Vec<&'c str>,
    /// `@set` beside other addresses.
    adds: Vec<&'c str>,
    /// `!@set`.
    excludes: Vec<&'c str>,
    first: Option<Range<usize>>,
}

/// A warning for each empty set that rules of the user's name.
pub(super) fn empty(text: &Text<'_>, findings: &[Finding]) -> Vec<Problem> {
    let sets = &text.policy.sets;
    let mut uses: Vec<Option<Uses<'_>>> = sets
        .iter()
        .map(|set| set.ranges.is_empty().then(Uses::default))
        .collect();
    if uses.iter().all(Option::is_none) {
        return Vec::new();
    }
    let never: std::collections::HashSet<RuleId> = findings
        .iter()
        .filter_map(|finding| match finding {
            Finding::Never { rule, why } if !why.empty_sets.is_empty() => Some(*rule),
            _ => None,
        })
        .collect();
    for (at, rule) in text.policy.rules.iter().enumerate() {
        if !matches!(rule.origin, Origin::User { .. }) {
            continue;
        }
        let addresses = rule.clauses.iter();
        let addresses = addresses.flat_map(|clause| [("src", &clause.src), ("dst", &clause.dst)]);
        for (key, wanted) in addresses {
            for (set, negated) in named(wanted) {
                let Some(Some(uses)) = uses.get_mut(set) else {
                    continue;
                };
                let list = match (negated, never.contains(&RuleId(at as u32))) {
                    (true, _) => &mut uses.excludes,
                    (false, true) => &mut uses.never,
                    (false, false) => &mut uses.adds,
                };
                if list.last() != Some(&rule.name.as_str()) {
                    list.push(&rule.name);
                }
                let place = text.places.rule(&rule.name);
                uses.first = uses
                    .first
                    .take()
                    .or_else(|| place.and_then(|place| place.key(key)));
            }
        }
    }
    let named = uses.into_iter().enumerate();
    named
        .filter_map(|(set, uses)| problem(text, set, uses?))
        .collect()
}

/// The sets that an expression names, and whether with `!`.
fn named(wanted: &AddrMatch) -> impl Iterator<Item = (usize, bool)> {
    let any = wanted.any_of.iter().map(|term| (term, false));
    let none = wanted.none_of.iter().map(|term| (term, true));
    any.chain(none).filter_map(|(term, negated)| match term {
        Term::Set(set) => Some((*set, negated)),
        Term::Range(_) => None,
    })
}

fn problem(text: &Text<'_>, set: usize, uses: Uses<'_>) -> Option<Problem> {
    let set = &text.policy.sets[set];
    let name = &set.name;
    let rules = |list: &[&str]| {
        let plural = if list.len() == 1 { "" } else { "s" };
        format!("the rule{plural} {}", names(list.iter().copied()))
    };
    let mut parts = Vec::new();
    if !uses.never.is_empty() {
        parts.push(format!("{} can never match", rules(&uses.never)));
    }
    if !uses.adds.is_empty() {
        parts.push(format!("`@{name}` adds nothing in {}", rules(&uses.adds)));
    }
    if !uses.excludes.is_empty() {
        parts.push(format!(
            "`!@{name}` excludes nothing in {}",
            rules(&uses.excludes)
        ));
    }
    if parts.is_empty() {
        return None;
    }
    let message = format!("the set `{name}` is empty: {}", parts.join("; "));
    let mut problem = text.warning(uses.first, message, "names the empty set");
    let (label, help) = match &set.file {
        Some(file) => (
            "its file has no entries".to_owned(),
            format!(
                "{} holds no address: write one a line into it",
                file.display()
            ),
        ),
        None if name == "lan" => (
            String::new(),
            "fill `prefixes` of [lan], the networks on the inside".to_owned(),
        ),
        None if text.places.sets.contains_key(name) => (
            "empty".to_owned(),
            "put addresses into it, or take it out of the rule".to_owned(),
        ),
        None => (
            String::new(),
            format!("add `{name} = [\"10.0.0.53\"]` to [sets], or take it out of the rule"),
        ),
    };
    text.and(&mut problem, text.places.sets.get(name).cloned(), &label);
    Some(problem.help(help))
}
