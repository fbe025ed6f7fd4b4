//! Rules that never decide because rules before them match all that they match.

use super::{Text, does, does_it, names};
use crate::config::error::Problem;
use crate::policy::judge::{Agreement, Finding, agreement};
use crate::policy::{Origin, RuleId};

/// One covered rule of the user's.
pub(super) fn problem(text: &Text<'_>, id: RuleId, by: &[RuleId], same: bool) -> Problem {
    let rule = text.rule(id);
    let name = &rule.name;
    let agreed = agreement(rule.action, by.iter().map(|by| text.rule(*by).action));
    let list = names(by.iter().map(|by| text.rule(*by).name.as_str()));
    let (never, it) = (does(rule.action), does_it(rule.action));
    let first = text.rule(by[0]);
    let before = match first.origin {
        Origin::Builtin => "before it (built in)",
        _ => "before it",
    };
    let message = match (by.len(), same, agreed) {
        (1, true, Agreement::Redundant) => {
            format!(
                "the rule `{name}` is redundant: {list} {before} matches the very same, and {it} too"
            )
        }
        (1, true, _) => format!(
            "the rules {list} and `{name}` contradict each other: both match the very same, {list} comes first and {}, and `{name}` never {never}",
            does(first.action)
        ),
        (1, false, Agreement::Redundant) => {
            format!(
                "the rule `{name}` is redundant: {list} {before} matches all that it matches, and {it} too"
            )
        }
        (1, false, _) => format!(
            "the rule `{name}` never decides: {list} {before} matches all that it matches, and {} what `{name}` {never}",
            does(first.action)
        ),
        (_, _, Agreement::Redundant) => {
            format!(
                "the rule `{name}` is redundant: {list} before it together match all that it matches, and do the same"
            )
        }
        (_, _, Agreement::Contradicting) => {
            format!(
                "the rule `{name}` never decides: {list} before it together match all that it matches, and none of them {never}"
            )
        }
        (_, _, Agreement::Mixed) => {
            format!(
                "the rule `{name}` never decides: {list} before it together match all that it matches, and not all of them {}",
                super::infinitive(rule.action)
            )
        }
    };
    let mut help = match agreed {
        Agreement::Redundant => format!("take `{name}` out, or put it first if it should decide"),
        _ => format!("put `{name}` before {list} if it is the exception, or take it out"),
    };
    if rule.alert.is_some() && by.iter().all(|by| text.rule(*by).alert.is_none()) {
        help.push_str("; its alert is never raised");
    }
    if let Some(limited) = by.iter().find(|by| text.rule(**by).limit.is_some()) {
        let limited = &text.rule(*limited).name;
        help.push_str(&format!(
            "; what is beyond the limit of `{limited}` is dropped and comes to no later rule"
        ));
    }
    let label = match agreed {
        Agreement::Redundant => "never decides, and would do the same",
        _ => "never decides",
    };
    let mut problem = text.warning(text.name_of(id), message, label).help(help);
    for by in &by[..by.len().min(2)] {
        let label = match (by, same) {
            (_, true) => format!("the very same match: {}", does(text.rule(*by).action)),
            _ => format!("decides before it: {}", does(text.rule(*by).action)),
        };
        text.and(&mut problem, text.name_of(*by), &label);
    }
    problem
}

/// The built-in rules that the user's rules cover, once for each cover.
pub(super) fn builtin(text: &Text<'_>, findings: &[Finding]) -> Vec<Problem> {
    let mut covers: Vec<(&[RuleId], Vec<RuleId>)> = Vec::new();
    for finding in findings {
        let Finding::Covered { rule, by, .. } = finding else {
            continue;
        };
        let by_user = |by: &RuleId| matches!(text.rule(*by).origin, Origin::User { .. });
        if text.rule(*rule).origin != Origin::Builtin || !by.iter().any(by_user) {
            continue;
        }
        match covers.iter_mut().find(|(known, _)| *known == &by[..]) {
            Some((_, rules)) => rules.push(*rule),
            None => covers.push((by, vec![*rule])),
        }
    }
    let all = text.policy.rules.iter();
    let all = all.filter(|rule| rule.origin == Origin::Builtin).count();
    covers
        .into_iter()
        .map(|(by, rules)| {
            let list = names(by.iter().map(|by| text.rule(*by).name.as_str()));
            let which = match rules.len() {
                n if n == all && n > 1 => "no built-in rule ever decides".to_owned(),
                1 => format!("the built-in rule `{}` never decides", text.rule(rules[0]).name),
                _ => format!(
                    "the built-in rules {} never decide",
                    names(rules.iter().map(|rule| text.rule(*rule).name.as_str()))
                ),
            };
            let them = if rules.len() == 1 { ("it", "it matches") } else { ("them", "they match") };
            let what = match by {
                [one] => format!(
                    "{list} before {} matches all that {}, and {}",
                    them.0,
                    them.1,
                    does_it(text.rule(*one).action)
                ),
                _ => format!("{list} before {} together match all that {}", them.0, them.1),
            };
            let help = "the user's rules come before the built-in ones: narrow this rule, set `default` in [policy] instead, or change a built-in rule under its own name";
            let place = by.iter().find_map(|by| text.name_of(*by));
            let mut problem = text
                .warning(place.clone(), format!("{which}: {what}"), "decides first")
                .help(help);
            let second = by.iter().filter_map(|by| text.name_of(*by)).nth(1);
            text.and(&mut problem, second, "and this one");
            problem
        })
        .collect()
}
