//! `[policy]`, the rules and the baseline, put together into one checked [`Policy`].

use super::raw::Reader;
use super::rule::{self, Stated};
use super::section::Section;
use super::{address, baseline, set, warn};
use crate::policy::table::MAX_RULES;
use crate::policy::{Action, AddrRange, Clause, DEFAULT_RULE, Direction, Origin, Policy, Rule};
use ipnet::IpNet;
use std::collections::HashMap;

/// The rule that needs `lan.prefixes`.
pub(super) const SPOOFED: &str = "spoofed-source";
/// The rule that `uplink = "inner"` switches off.
pub(super) const BOGON: &str = "bogon-destination";

/// `[policy]`.
struct Header {
    baseline: bool,
    default: Action,
    inner: bool,
}

fn header(reader: &mut Reader, section: Option<Section<'_>>) -> Header {
    let mut header = Header {
        baseline: true,
        default: Action::Allow,
        inner: false,
    };
    let Some(mut section) = section else {
        return header;
    };
    if let Some(value) = section.take("profile") {
        if value.get_ref().as_str() == Some("strict") {
            let message = "this version does not have the profile \"strict\"";
            let help = "use \"baseline\", and `default = \"drop\"` with rules for what may leave";
            reader.error(value.span(), message, "not in this version", help);
        } else if let Some(on) =
            reader.word(&value, "profile", &[("baseline", true), ("none", false)])
        {
            header.baseline = on;
        }
    }
    if let Some(value) = section.take("default") {
        let words = [("allow", Action::Allow), ("drop", Action::Drop)];
        header.default = reader
            .word(&value, "default", &words)
            .unwrap_or(Action::Drop);
    }
    rule::shadow(
        reader,
        section.take("shadow"),
        "take `shadow` out, or set it to false",
    );
    if let Some(value) = section.take("uplink") {
        header.inner = reader
            .word(&value, "uplink", &[("internet", false), ("inner", true)])
            .unwrap_or(false);
    }
    section.finish(reader);
    header
}

/// `prefixes` of `[lan]`.
fn lan_prefixes(reader: &mut Reader, section: Option<Section<'_>>) -> Vec<IpNet> {
    let Some(mut section) = section else {
        return Vec::new();
    };
    let value = section.take("prefixes");
    section.finish(reader);
    let Some(value) = value else {
        return Vec::new();
    };
    if value
        .get_ref()
        .as_array()
        .is_some_and(|array| array.is_empty())
    {
        return Vec::new();
    }
    let mut prefixes = Vec::new();
    for item in reader.list(&value, "prefixes").unwrap_or_default() {
        let Some(text) = reader.string(&item, "prefixes") else {
            continue;
        };
        match address::prefix(&text) {
            Ok(prefix) => prefixes.push(prefix),
            Err((message, help)) => reader.error(item.span(), message, "here", help),
        }
    }
    prefixes
}

/// Reads `[lan]`, `[policy]`, `[sets]` and `[[rule]]`.
pub(super) fn policy(reader: &mut Reader, root: &mut Section<'_>) -> Policy {
    let section = root.section("lan", reader);
    let lan_prefixes = lan_prefixes(reader, section);
    let section = root.section("policy", reader);
    let header = header(reader, section);
    let section = root.section("sets", reader);
    let sets = set::sets(
        reader,
        section,
        lan_prefixes
            .iter()
            .copied()
            .map(AddrRange::prefix)
            .collect(),
    );
    let mut stated = Vec::new();
    if let Some(value) = root.take("rule") {
        for section in reader.sections(value, "rule") {
            stated.extend(rule::read(reader, section, &sets));
        }
    }
    unique(reader, &stated);
    let mut policy = Policy {
        rules: Vec::new(),
        default: header.default,
        lan_prefixes,
        sets,
        disabled: Vec::new(),
        shadow: false,
    };
    let (overrides, own): (Vec<_>, Vec<_>) = stated
        .into_iter()
        .partition(|rule| baseline::NAMES.contains(&rule.name.as_str()));
    for rule in &own {
        push_own(reader, &mut policy, rule);
    }
    for rule in baseline::rules() {
        let stated = overrides.iter().find(|stated| stated.name == rule.name);
        push_builtin(reader, &mut policy, &header, rule, stated);
    }
    policy.rules.push(Rule::new(
        DEFAULT_RULE,
        header.default,
        vec![Clause::any(Direction::Both)],
        Origin::Default,
    ));
    if policy.rules.len() > MAX_RULES {
        let span = own.last().map_or(0..0, |rule| rule.span.clone());
        let help = "put addresses that share a rule into a set: a set of any size costs one rule";
        let message = format!(
            "{} rules, and a policy holds at most {MAX_RULES}",
            policy.rules.len()
        );
        reader.error(span, message, "the last of them", help);
    }
    warn::warn(reader, &policy, &own, &overrides);
    policy
}

fn unique(reader: &mut Reader, stated: &[Stated]) {
    let mut seen: HashMap<&str, usize> = HashMap::new();
    for rule in stated {
        if let Some(line) = seen.insert(&rule.name, rule.line) {
            let message = format!("there are two rules with the name `{}`", rule.name);
            let help = format!(
                "the first is in line {line}: give one of them another name, or make them one rule"
            );
            reader.error(rule.span.clone(), message, "the second", help);
        }
    }
}

/// A rule of the user's own.
fn push_own(reader: &mut Reader, policy: &mut Policy, stated: &Stated) {
    let Some(action) = stated.action else {
        let help = match super::error::nearest(&stated.name, baseline::NAMES) {
            Some(near) => format!(
                "add `action = \"drop\"` (or \"allow\", \"reject\"); or did you mean the built-in rule `{near}`?"
            ),
            None => "add `action = \"drop\"` (or \"allow\", \"reject\")".to_owned(),
        };
        reader.error(
            stated.span.clone(),
            format!("the rule `{}` has no action", stated.name),
            "this rule",
            help,
        );
        return;
    };
    if stated.enabled == Some(false) {
        policy.disabled.push(stated.name.clone());
        return;
    }
    policy.rules.push(Rule {
        alert: stated.alert.flatten(),
        ..Rule::new(
            &stated.name,
            action,
            vec![
                stated
                    .clause
                    .clone()
                    .unwrap_or_else(|| Clause::any(Direction::Out)),
            ],
            Origin::User { line: stated.line },
        )
    });
}

/// A built-in rule, at its place, with what the user states of it.
fn push_builtin(
    reader: &mut Reader,
    policy: &mut Policy,
    header: &Header,
    mut rule: Rule,
    stated: Option<&Stated>,
) {
    let needs_lan = rule.name == SPOOFED && policy.lan_prefixes.is_empty();
    let mut on = header.baseline && !(rule.name == BOGON && header.inner) && !needs_lan;
    if let Some(stated) = stated {
        rule.origin = Origin::User { line: stated.line };
        rule.action = stated.action.unwrap_or(rule.action);
        rule.alert = stated.alert.unwrap_or(rule.alert);
        match (&stated.clause, stated.enabled) {
            (Some(clause), enabled) => {
                rule.clauses = vec![clause.clone()];
                on = enabled.unwrap_or(true);
            }
            (None, Some(true)) if needs_lan => {
                let help = "fill `prefixes` of [lan], or take the rule out";
                let message = format!("`{SPOOFED}` cannot be on without the prefixes of the LAN");
                reader.error(stated.span.clone(), message, "this rule", help);
            }
            (None, Some(enabled)) => on = enabled,
            (None, None) if !on => {
                let help = "add `enabled = true` to switch it on, or take it out";
                let message = format!(
                    "the built-in rule `{}` is off here, so this changes nothing",
                    rule.name
                );
                reader.warn(stated.span.clone(), message, "this rule", help);
            }
            (None, None) => {}
        }
    }
    if on {
        policy.rules.push(rule);
    } else {
        policy.disabled.push(rule.name);
    }
}
