//! `[policy]`, the rules and the baseline, put together into one checked [`Policy`].

use super::header::{self, Header, Profile};
use super::hosts::Host;
use super::raw::Reader;
use super::rule::{self, Stated};
use super::section::Section;
use super::{baseline, hosts, set, strict, tunnels, warn};
use crate::policy::table::MAX_RULES;
use crate::policy::{
    Action, AddrRange, Clause, DEFAULT_RULE, Direction, FlagMatch, Manners, Origin, Policy,
    ProtoSet, Rule, Severity,
};
use std::collections::HashMap;

/// The rule that needs `lan.prefixes`.
pub(super) const SPOOFED: &str = "spoofed-source";
/// The rule that `uplink = "inner"` switches off.
pub(super) const BOGON: &str = "bogon-destination";

/// Reads `[lan]`, `[policy]`, `[sets]`, `[hosts]` and `[[rule]]`.
pub(super) fn policy(reader: &mut Reader, root: &mut Section<'_>) -> (Policy, Vec<Host>) {
    let section = root.section("lan", reader);
    let lan_prefixes = header::lan_prefixes(reader, section);
    let section = root.section("policy", reader);
    let header = header::policy(reader, section);
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
    let section = root.section("hosts", reader);
    let hosts = hosts::hosts(reader, section);
    let pins = hosts::pins(&hosts);
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
        look_into: header.look_into,
        shadow: header.shadow,
    };
    let (overrides, own): (Vec<_>, Vec<_>) =
        stated.into_iter().partition(|rule| is_builtin(&rule.name));
    for rule in &own {
        push_own(reader, &mut policy, rule);
    }
    let pinned = overrides
        .iter()
        .find(|stated| stated.name == hosts::SPOOFED_MAC);
    if !pins.is_empty() || pinned.is_some() {
        let on = !pins.is_empty();
        push_builtin(reader, &mut policy, &header, hosts::rule(pins), on, pinned);
    }
    for rule in baseline::rules() {
        let needs_lan = rule.name == SPOOFED && policy.lan_prefixes.is_empty();
        let inner = rule.name == BOGON && header.inner;
        let on = header.profile != Profile::None && !inner && !needs_lan;
        let stated = overrides.iter().find(|stated| stated.name == rule.name);
        push_builtin(reader, &mut policy, &header, rule, on, stated);
    }
    for rule in tunnels::rules() {
        let stated = overrides.iter().find(|stated| stated.name == rule.name);
        if stated.is_some() {
            push_builtin(reader, &mut policy, &header, rule, false, stated);
        }
    }
    for rule in strict::rules(&header) {
        let stated = overrides.iter().find(|stated| stated.name == rule.name);
        if header.profile == Profile::Strict || stated.is_some() {
            let on = strict::is_on(&header, &rule.name);
            push_builtin(reader, &mut policy, &header, rule, on, stated);
        }
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
    strict::warn(reader, &header, &policy, &overrides);
    (policy, hosts)
}

/// The names of every built-in rule, whatever the profile.
fn builtin_names() -> impl Iterator<Item = &'static str> {
    let fixed = baseline::NAMES.into_iter().chain(tunnels::NAMES);
    fixed.chain(strict::NAMES).chain([hosts::SPOOFED_MAC])
}

fn is_builtin(name: &str) -> bool {
    builtin_names().any(|builtin| builtin == name)
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
        let help = match super::error::nearest(&stated.name, builtin_names()) {
            Some(near) => format!(
                "add `action = \"drop\"` (or \"allow\", \"reject\", \"decoy\"); or did you mean the built-in rule `{near}`?"
            ),
            None => "add `action = \"drop\"` (or \"allow\", \"reject\", \"decoy\")".to_owned(),
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
    let clauses = match stated.clauses.is_empty() {
        true => vec![Clause::any(Direction::Out)],
        false => stated.clauses.clone(),
    };
    let origin = Origin::User { line: stated.line };
    let mut rule = Rule::new(&stated.name, action, clauses, origin);
    if let Action::Decoy(_) = action {
        // What it hears stands in its alerts.
        rule.alert = Some(Severity::Medium);
    }
    run_time(reader, &mut rule, stated);
    only_outwards(reader, &rule, stated);
    can_decoy(reader, &rule, stated);
    policy.rules.push(rule);
}

/// A host that somebody outside has made do something is not cut off for it.
fn only_outwards(reader: &mut Reader, rule: &Rule, stated: &Stated) {
    let inwards = |clause: &Clause| clause.direction != Direction::Out;
    if rule.quarantine.is_some() && rule.clauses.iter().any(inwards) {
        let message = format!("the rule `{}` cannot put hosts in quarantine", rule.name);
        let help = "only what a host sends by itself is a reason: leave `direction` out, and write another rule for what comes in";
        reader.error(
            stated.quarantine_span.clone(),
            message,
            "by a rule on what comes in",
            help,
        );
    }
}

/// A decoy answers connections over TCP, and datagrams of UDP, that go out, from their first packet on.
fn can_decoy(reader: &mut Reader, rule: &Rule, stated: &Stated) {
    let Action::Decoy(_) = rule.action else {
        return;
    };
    const TCP_UDP: ProtoSet = ProtoSet::of(&[6, 17]);
    let wrong = |clause: &Clause| {
        if clause.direction != Direction::Out {
            return Some((
                "on what comes in",
                "leave `direction` out: a decoy answers hosts of the LAN, in the place of whom they want to reach",
            ));
        }
        if clause.protos.and(TCP_UDP) != clause.protos || clause.ethertype.is_some() {
            return Some((
                "on more than TCP and UDP",
                "add `proto = \"tcp\"`, `\"udp\"`, or both: nothing else is answered",
            ));
        }
        if clause.tcp_flags != FlagMatch::default() || clause.fragment.is_some() {
            return Some((
                "on single packets",
                "take `tcp_flags` and `fragment` out: a decoy answers whole connections",
            ));
        }
        None
    };
    let mid_stream = |clause: &Clause| clause.app.is_some() && !clause.protos.contains(17);
    let found = rule.clauses.iter().find_map(wrong).or_else(|| {
        (!rule.clauses.is_empty() && rule.clauses.iter().all(mid_stream)).then_some((
            "on what a connection turns out to be",
            "what speaks over TCP is known when the connection is open to its destination, and a decoy has to answer its first packet: add a clause by ports, or use \"drop\"",
        ))
    });
    let found = found.or_else(|| {
        loses_blocks(rule).then_some((
            "as a TFTP server, on what a datagram turns out to be",
            "only the request is known by its payload: the decoy would have the client send its file, and the blocks go to the real destination; write `dport` instead of `app`, or `decoy = \"raw\"`",
        ))
    });
    if let Some((label, help)) = found {
        let message = format!("the rule `{}` cannot answer by a decoy", rule.name);
        reader.error(stated.action_span.clone(), message, label, help);
    } else if rule.quarantine.is_some() {
        let message = format!("the decoy of the rule `{}` will hear nothing", rule.name);
        let help = "its first packet puts the host in quarantine, and what follows is dropped: take one of them out";
        let label = "a decoy, and `quarantine` beside it";
        reader.warn(stated.action_span.clone(), message, label, help);
    } else if rule.alert.is_none() {
        let message = format!(
            "nobody will know what the decoy of the rule `{}` hears",
            rule.name
        );
        let help = "what is said to a decoy stands in the alerts of its rule: give it an `alert`";
        reader.warn(
            stated.action_span.clone(),
            message,
            "a decoy without an alert",
            help,
        );
    }
}

/// Whether it acknowledges a file's request, and does not match the blocks that follow: each datagram is asked about by itself.
fn loses_blocks(rule: &Rule) -> bool {
    const UDP: u8 = 17;
    const TFTP: u16 = 69;
    let Action::Decoy(manners) = rule.action else {
        return false;
    };
    let over_udp = |clause: &&Clause| clause.protos.contains(UDP);
    let mut by_app = rule
        .clauses
        .iter()
        .filter(over_udp)
        .filter(|c| c.app.is_some());
    match manners {
        Manners::Tftp => by_app.next().is_some(),
        // Elsewhere than at its port nothing is said.
        Manners::Port => {
            let mut by_port = rule
                .clauses
                .iter()
                .filter(over_udp)
                .filter(|c| c.app.is_none());
            by_app.any(|clause| clause.dport.contains(TFTP))
                && !by_port.any(|clause| clause.dport.contains(TFTP))
        }
        Manners::Irc | Manners::Smtp | Manners::Http | Manners::Raw => false,
    }
}

/// What a rule does over time: alert, limit, time-to-live, shadow. What is not stated stays as it is.
fn run_time(reader: &mut Reader, rule: &mut Rule, stated: &Stated) {
    rule.alert = stated.alert.unwrap_or(rule.alert);
    rule.ttl = stated.ttl.or(rule.ttl);
    rule.shadow = stated.shadow.unwrap_or(rule.shadow);
    rule.quarantine = stated.quarantine.unwrap_or(rule.quarantine);
    if stated.quarantine.is_some_and(|time| time.is_some())
        && (rule.action == Action::Allow || rule.alert.is_none())
    {
        let message = format!("the rule `{}` cannot put hosts in quarantine", rule.name);
        let help =
            "it is its alerts that do: give it `action = \"drop\"` or \"reject\", and an `alert`";
        reader.error(
            stated.quarantine_span.clone(),
            message,
            "by a rule that allows, or does not alert",
            help,
        );
    }
    match stated.limit {
        Some(Some(_)) if rule.action == Action::Drop => {
            let message = format!(
                "the rule `{}` drops, and a limit on that would let the rest through",
                rule.name
            );
            let help = "a limit is how much an \"allow\" lets through, or how often a \"reject\" answers: change the action, or take `limit` out";
            reader.error(
                stated.limit_span.clone(),
                message,
                "a limit on a drop",
                help,
            );
        }
        Some(Some(_)) if matches!(rule.action, Action::Decoy(_)) => {
            let message = format!(
                "the rule `{}` answers by a decoy, and a limit on frames would cut its conversations short",
                rule.name
            );
            let help = "take `limit` out: how many conversations there may be, and how many frames, says [decoy] (at_most, for_a_host, rate)";
            reader.error(
                stated.limit_span.clone(),
                message,
                "a limit on a decoy",
                help,
            );
        }
        Some(limit) => rule.limit = limit,
        // The limit of a built-in rule that allows means nothing where the user has it drop.
        None if matches!(rule.action, Action::Drop | Action::Decoy(_)) => rule.limit = None,
        None => {}
    }
}

/// A built-in rule, at its place, with what the user states of it; `on` is whether it is on where nothing is stated.
fn push_builtin(
    reader: &mut Reader,
    policy: &mut Policy,
    header: &Header,
    mut rule: Rule,
    mut on: bool,
    stated: Option<&Stated>,
) {
    if let Some(stated) = stated {
        rule.origin = Origin::User { line: stated.line };
        rule.action = stated.action.unwrap_or(rule.action);
        run_time(reader, &mut rule, stated);
        match (stated.clauses.is_empty(), stated.enabled) {
            (false, enabled) => {
                rule.clauses = stated.clauses.clone();
                only_outwards(reader, &rule, stated);
                on = enabled.unwrap_or(true);
            }
            (true, Some(true)) if needs_more(reader, policy, header, stated) => {}
            (true, Some(enabled)) => on = enabled,
            (true, None) if !on => {
                let help = "add `enabled = true` to switch it on, or take it out";
                let message = format!(
                    "the built-in rule `{}` is off here, so this changes nothing",
                    rule.name
                );
                reader.warn(stated.span.clone(), message, "this rule", help);
            }
            (true, None) => {}
        }
        can_decoy(reader, &rule, stated);
    }
    if on {
        policy.rules.push(rule);
    } else {
        policy.disabled.push(rule.name);
    }
}

/// Reports a built-in rule that is switched on without that which it matches by.
fn needs_more(reader: &mut Reader, policy: &Policy, header: &Header, stated: &Stated) -> bool {
    let (message, help) = if stated.name == SPOOFED && policy.lan_prefixes.is_empty() {
        let message = format!("`{SPOOFED}` cannot be on without the prefixes of the LAN");
        (message, "fill `prefixes` of [lan], or take the rule out")
    } else if stated.name == strict::STRICT_TCP && header.tcp_ports.0.is_empty() {
        let message = format!("`{}` cannot be on without ports", stated.name);
        (
            message,
            "add `tcp_ports = [80, 443]` to [policy], or `proto` and `dport` to the rule",
        )
    } else {
        return false;
    };
    reader.error(stated.span.clone(), message, "this rule", help);
    true
}
