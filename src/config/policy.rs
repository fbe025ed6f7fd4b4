//! `[policy]`, the rules and the baseline, put together into one checked [`Policy`].

use super::raw::{Reader, Section};
use super::rule::{self, Stated};
use super::{address, baseline, set};
use crate::policy::table::MAX_RULES;
use crate::policy::{
    Action, AddrMatch, AddrRange, Clause, DEFAULT_RULE, Direction, Family, Origin, Policy, Rule,
    Set, Term,
};
use ipnet::IpNet;
use std::collections::HashMap;

/// The names of the rules with a warning of their own.
const SPOOFED: &str = "spoofed-source";
const BOGON: &str = "bogon-destination";

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
    policy.rules.push(Rule {
        name: DEFAULT_RULE.to_owned(),
        action: header.default,
        alert: None,
        clauses: vec![Clause::any(Direction::Both)],
        origin: Origin::Default,
    });
    if policy.rules.len() > MAX_RULES {
        let span = own.last().map_or(0..0, |rule| rule.span.clone());
        let help = "put addresses that share a rule into a set: a set of any size costs one rule";
        let message = format!(
            "{} rules, and a policy holds at most {MAX_RULES}",
            policy.rules.len()
        );
        reader.error(span, message, "the last of them", help);
    }
    warn(reader, &policy, &own, &overrides);
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
        name: stated.name.clone(),
        action,
        alert: stated.alert.flatten(),
        clauses: vec![
            stated
                .clause
                .clone()
                .unwrap_or_else(|| Clause::any(Direction::Out)),
        ],
        origin: Origin::User { line: stated.line },
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

/// What is allowed and yet unlikely to be meant.
fn warn(reader: &mut Reader, policy: &Policy, own: &[Stated], overrides: &[Stated]) {
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
        .any(|rule| rule.name == "smtp" && rule.clause.is_some());
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
    for stated in own
        .iter()
        .filter(|stated| policy.rule(&stated.name).is_some())
    {
        let any = Clause::any(Direction::Out);
        let clause = stated.clause.as_ref().unwrap_or(&any);
        let sides = crate::policy::Side::BOTH.map(|side| clause.direction.holds(side));
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
        } else if !can_match(clause, &policy.sets) {
            let help = "source and destination must be able to be of one family, and a set that is named must not be empty";
            reader.warn(
                stated.span.clone(),
                format!("the rule `{}` can never match", stated.name),
                "never matches",
                help,
            );
        }
        if clause.is_any() {
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
