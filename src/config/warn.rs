//! Configs that load and are unlikely to be meant.

use super::policy::{BOGON, SPOOFED};
use super::raw::Reader;
use super::rule::Stated;
use crate::policy::{
    Action, AddrMatch, Clause, Direction, Family, Origin, Policy, Set, Side, Term,
};

/// Adds every warning about the assembled policy; `own` and `overrides` are the rules as the config states them.
pub(super) fn warn(reader: &mut Reader, policy: &Policy, own: &[Stated], overrides: &[Stated]) {
    let builtin = |name: &str| {
        policy
            .rule(name)
            .is_some_and(|(_, rule)| rule.clauses.len() > 1 || name == "smtp")
    };
    let lan_empty = policy.lan_prefixes.is_empty();
    let spoofed_said_off = overrides
        .iter()
        .any(|rule| rule.name == SPOOFED && rule.enabled == Some(false));
    if lan_empty
        && (builtin(BOGON)
            || (policy.disabled.iter().any(|name| name == SPOOFED) && !spoofed_said_off))
    {
        let help = "add `[lan]` with `prefixes = [\"10.0.0.0/24\"]`, the networks on the inside";
        let mut message = "`prefixes` of [lan] is empty".to_owned();
        if !spoofed_said_off {
            message.push_str(": spoofed-source is off");
        }
        if builtin(BOGON) {
            message.push_str("; bogon-destination drops every private destination, your router's own address included");
        }
        reader.warnings.push(
            super::Problem::of_file(reader.source.name(), message)
                .help(help)
                .warn(),
        );
    }
    let no_mail = policy
        .set("mail_servers")
        .is_some_and(|set| set.ranges.is_empty());
    let drops_mail = policy
        .rule("smtp")
        .is_some_and(|(_, rule)| rule.action != Action::Allow);
    let stated_match = overrides
        .iter()
        .any(|rule| rule.name == "smtp" && !rule.clauses.is_empty());
    if no_mail && drops_mail && !stated_match {
        let message = "the set `mail_servers` is empty: no inside host may send mail to port 25";
        let help =
            "add `mail_servers = [\"10.0.0.25\"]` to [sets] if there is a mail server inside";
        reader.warnings.push(
            super::Problem::of_file(reader.source.name(), message)
                .help(help)
                .warn(),
        );
    }
    let mut everything: [Option<&Stated>; 2] = [None, None];
    for stated in own.iter().filter(|stated| stated.enabled != Some(false)) {
        let any = [Clause::any(Direction::Out)];
        let clauses = match stated.clauses.is_empty() {
            true => &any[..],
            false => &stated.clauses,
        };
        let sides =
            Side::BOTH.map(|side| clauses.iter().any(|clause| clause.direction.holds(side)));
        let shadow = sides
            .iter()
            .zip(&everything)
            .filter(|(holds, _)| **holds)
            .map(|(_, before)| *before);
        let shadow: Option<Vec<_>> = shadow.collect();
        if let Some(before) = shadow.and_then(|before| before.first().copied()) {
            let message = format!(
                "the rule `{}` can never match: `{}` before it matches everything",
                stated.name, before.name
            );
            reader.warn(
                stated.span.clone(),
                message,
                "never reached",
                "put it before that rule, or narrow that rule",
            );
        } else if !clauses.iter().any(|clause| can_match(clause, &policy.sets)) {
            let help = "source and destination must be able to be of one family, and a set that is named must not be empty";
            reader.warn(
                stated.span.clone(),
                format!("the rule `{}` can never match", stated.name),
                "never matches",
                help,
            );
        }
        let decides = stated.shadow != Some(true) && stated.ttl.is_none();
        if decides && clauses.iter().any(Clause::is_any) {
            for (everything, _) in everything.iter_mut().zip(sides).filter(|(_, holds)| *holds) {
                everything.get_or_insert(stated);
            }
        }
    }
    if let (Some(before), true) = (
        everything[0],
        policy
            .rules
            .iter()
            .any(|rule| rule.origin == Origin::Builtin),
    ) {
        let message = format!(
            "no built-in rule can ever match: `{}` matches everything that goes out",
            before.name
        );
        let help = "the user's rules come before the built-in ones: say what it should match, or set `default` in [policy]";
        reader.warn(before.span.clone(), message, "this rule", help);
    }
}

/// Whether there is a family in which both addresses can match.
fn can_match(clause: &Clause, sets: &[Set]) -> bool {
    let empty = |wanted: &AddrMatch, family| {
        // Intervals of a large set cost time; a set that is not negated and is not empty is enough to know.
        let holds = |term: &Term| match term {
            Term::Range(range) => range.family == family,
            Term::Set(set) => sets
                .get(*set)
                .is_some_and(|set| set.ranges.iter().any(|range| range.family == family)),
        };
        !wanted.any_of.is_empty() && !wanted.any_of.iter().any(holds)
    };
    [Family::V4, Family::V6]
        .iter()
        .any(|&family| !empty(&clause.src, family) && !empty(&clause.dst, family))
}
