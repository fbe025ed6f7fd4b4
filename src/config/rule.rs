//! `[[rule]]`: one rule of the user's.

use super::raw::{Reader, Value};
use super::section::Section;
use super::{limit, matching, quarantine};
use crate::policy::{Action, Clause, Limit, Manners, Set, Severity};
use std::ops::Range;
use std::time::Duration;
use toml::de::DeValue;

/// A rule as the config states it: what is `None` is not stated.
pub(super) struct Stated {
    pub name: String,
    /// The place of the name.
    pub span: Range<usize>,
    pub line: usize,
    pub action: Option<Action>,
    /// The place of the action, or of what a decoy speaks.
    pub action_span: Range<usize>,
    /// The inner `None` is "no alert", said explicitly.
    pub alert: Option<Option<Severity>>,
    pub enabled: Option<bool>,
    /// The inner `None` is "no limit", said explicitly.
    pub limit: Option<Option<Limit>>,
    /// The place of the limit.
    pub limit_span: Range<usize>,
    pub ttl: Option<Duration>,
    pub shadow: Option<bool>,
    /// How long a host that it alerts on is put in quarantine; the inner `None` is "not", said explicitly.
    pub quarantine: Option<Option<Duration>>,
    /// The place of that.
    pub quarantine_span: Range<usize>,
    /// The rule matches where any of these does; empty where no key says what to match.
    pub clauses: Vec<Clause>,
}

/// Keys of rules that the language has and this version does not.
const LATER: &[(&str, &str)] = &[("dst_mac", "matching on the destination MAC address")];

pub(super) const NAME_HELP: &str =
    "use 1 to 63 letters, digits, `-`, `_` and `.`, beginning with a letter or digit";

/// Names are labels of metrics and stand in alerts.
pub(super) fn is_name(name: &str) -> bool {
    let letters = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    letters && name.len() <= 63 && name.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Reads one rule. `None` where it has no usable name; other faults are reported and the rest is read on.
pub(super) fn read(reader: &mut Reader, mut section: Section<'_>, sets: &[Set]) -> Option<Stated> {
    let header = section.span.clone();
    let name = section.take("name");
    // A fault is reported where it stands; the stand-in keeps a second report, that there is no action, away.
    let action = section.take("action");
    let mut action_span = action.as_ref().map_or(0..0, |value| value.span());
    let mut action = action.map(|value| action_of(reader, &value).unwrap_or(Action::Drop));
    if let Some(value) = section.take("decoy") {
        let manners = reader.word(&value, "decoy", &Manners::ALL);
        match (action, manners) {
            (Some(Action::Decoy(_)), Some(manners)) => {
                (action, action_span) = (Some(Action::Decoy(manners)), value.span());
            }
            (_, None) => {}
            _ => reader.error(
                value.span(),
                "`decoy` says what a decoy speaks, and the rule has none",
                "of no use here",
                "write `action = \"decoy\"` beside it, or take it out",
            ),
        }
    }
    let alert = section
        .take("alert")
        .and_then(|value| alert(reader, &value));
    let enabled = section
        .take("enabled")
        .and_then(|value| reader.boolean(&value, "enabled"));
    let shadow = section
        .take("shadow")
        .and_then(|value| reader.boolean(&value, "shadow"));
    let ttl = section
        .take("ttl")
        .and_then(|value| limit::ttl(reader, &value));
    let away = section.take("quarantine");
    let quarantine_span = away.as_ref().map_or(0..0, |value| value.span());
    let quarantine = away.and_then(|value| match value.get_ref() {
        DeValue::Boolean(false) => Some(None),
        _ => quarantine::time(reader, &value, "quarantine").map(Some),
    });
    let rate = section.take("limit");
    let limit_span = rate.as_ref().map_or(0..0, |value| value.span());
    let limit = rate.and_then(|value| limit::limit(reader, value));
    let clauses = matching::clauses(reader, &mut section, sets);
    section.refuse_later(LATER, reader);
    section.finish(reader);
    let Some(value) = name else {
        let help = "add `name = \"...\"`: alerts, metrics and explanations call the rule by it";
        reader.error(header, "a rule has no name", "this rule", help);
        return None;
    };
    let name = reader.string(&value, "name")?;
    let reserved = [crate::policy::DEFAULT_RULE, crate::policy::QUARANTINE_RULE];
    if !is_name(&name) || reserved.contains(&&*name) {
        let help = if name == crate::policy::DEFAULT_RULE {
            "`default` is what no rule matches; set it by `default` in [policy]"
        } else if name == crate::policy::QUARANTINE_RULE {
            "that is the rule that stops hosts in quarantine; to put some there, give a rule `quarantine = \"1h\"`"
        } else {
            NAME_HELP
        };
        reader.error(
            value.span(),
            format!("\"{name}\" is not a name for a rule"),
            "here",
            help,
        );
        return None;
    }
    let line = reader.line(header.start);
    Some(Stated {
        name,
        span: value.span(),
        line,
        action,
        action_span,
        alert,
        enabled,
        limit,
        limit_span,
        ttl,
        shadow,
        quarantine,
        quarantine_span,
        clauses,
    })
}

fn action_of(reader: &mut Reader, value: &Value<'_>) -> Option<Action> {
    reader.word(
        value,
        "action",
        &[
            ("allow", Action::Allow),
            ("drop", Action::Drop),
            ("reject", Action::Reject),
            ("decoy", Action::Decoy(Manners::Port)),
        ],
    )
}

fn alert(reader: &mut Reader, value: &Value<'_>) -> Option<Option<Severity>> {
    match value.get_ref() {
        DeValue::Boolean(false) => Some(None),
        DeValue::Boolean(true) => {
            let help = "write \"low\", \"medium\" or \"high\"; false or \"none\" is no alert";
            reader.error(
                value.span(),
                "`alert = true` does not say how loud",
                "no severity",
                help,
            );
            None
        }
        _ => {
            let severities = [
                ("low", Some(Severity::Low)),
                ("medium", Some(Severity::Medium)),
                ("high", Some(Severity::High)),
                ("none", None),
            ];
            reader.word(value, "alert", &severities)
        }
    }
}
