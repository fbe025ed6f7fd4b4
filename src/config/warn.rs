//! Configs that load and are unlikely to be meant, as far as it can be told without a look at every rule. What needs
//! that is in [`judge`](super::judge).

use super::Problem;
use super::policy::{BOGON, SPOOFED};
use super::raw::Reader;
use super::rule::Stated;
use crate::policy::{Action, Policy};

/// Adds the warnings about the assembled policy, and says where its rules stand; `own` and `overrides` are the rules as
/// the config states them.
pub(super) fn warn(reader: &mut Reader, policy: &Policy, own: &[Stated], overrides: &[Stated]) {
    for stated in own.iter().chain(overrides) {
        reader.places.name(&stated.name, &stated.span);
    }
    lan(reader, policy, overrides);
    mail(reader, policy, overrides);
}

/// Without the prefixes of the LAN two built-in rules are not what they should be.
fn lan(reader: &mut Reader, policy: &Policy, overrides: &[Stated]) {
    let on = |name: &str| {
        policy
            .rule(name)
            .is_some_and(|(_, rule)| rule.clauses.len() > 1)
    };
    let said_off = overrides
        .iter()
        .any(|rule| rule.name == SPOOFED && rule.enabled == Some(false));
    let off = policy.disabled.iter().any(|name| name == SPOOFED) && !said_off;
    if !policy.lan_prefixes.is_empty() || !(on(BOGON) || off) {
        return;
    }
    let mut message = "`prefixes` of [lan] is empty".to_owned();
    if !said_off {
        message.push_str(": spoofed-source is off");
    }
    if on(BOGON) {
        message.push_str(
            "; bogon-destination drops every private destination, your router's own address included",
        );
    }
    let help = "add `[lan]` with `prefixes = [\"10.0.0.0/24\"]`, the networks on the inside";
    reader.warnings.push(of_file(reader, message, help));
}

/// The commonest mistake is a mail server that nobody added.
fn mail(reader: &mut Reader, policy: &Policy, overrides: &[Stated]) {
    let none = policy
        .set("mail_servers")
        .is_some_and(|set| set.ranges.is_empty());
    let drops = policy
        .rule("smtp")
        .is_some_and(|(_, rule)| rule.action != Action::Allow);
    let stated_match = overrides
        .iter()
        .any(|rule| rule.name == "smtp" && !rule.clauses.is_empty());
    if !none || !drops || stated_match {
        return;
    }
    let message = "the set `mail_servers` is empty: no inside host may send mail to port 25";
    let help = "add `mail_servers = [\"10.0.0.25\"]` to [sets] if there is a mail server inside";
    let problem = match reader.places.sets.get("mail_servers") {
        Some(span) => Problem::at(&reader.source, span.clone(), message, "empty")
            .help("put it in if there is a mail server inside")
            .warn(),
        None => of_file(reader, message.to_owned(), help),
    };
    reader.warnings.push(problem);
}

fn of_file(reader: &Reader, message: String, help: &str) -> Problem {
    Problem::of_file(reader.source.name(), message)
        .help(help)
        .warn()
}
