//! `[[rule]]`: one rule of the user's.

use super::address;
use super::error::nearest;
use super::raw::{Reader, Value, as_integer};
use super::section::Section;
use crate::policy::rule::PROTOCOLS;
use crate::policy::{Action, Clause, Direction, PortSet, ProtoSet, Set, Severity};
use std::ops::Range;
use toml::de::DeValue;

/// A rule as the config states it: what is `None` is not stated.
pub(super) struct Stated {
    pub name: String,
    /// The place of the name.
    pub span: Range<usize>,
    pub line: usize,
    pub action: Option<Action>,
    /// The inner `None` is "no alert", said explicitly.
    pub alert: Option<Option<Severity>>,
    pub enabled: Option<bool>,
    /// `None` where no key says what to match.
    pub clause: Option<Clause>,
}

/// Keys of rules that the language has and this version does not.
const LATER: &[(&str, &str)] = &[
    ("app", "application identification"),
    ("limit", "rate limits"),
    ("ttl", "rules that expire"),
    ("vlan", "matching on the VLAN id"),
    ("ethertype", "matching on the ethertype"),
    ("src_mac", "matching on the source MAC address"),
    ("dst_mac", "matching on the destination MAC address"),
    ("tcp_flags", "matching on TCP flags"),
    ("fragment", "matching on fragments"),
];

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
    let action = section
        .take("action")
        .map(|value| action(reader, &value).unwrap_or(Action::Drop));
    let alert = section
        .take("alert")
        .and_then(|value| alert(reader, &value));
    let enabled = section
        .take("enabled")
        .and_then(|value| reader.boolean(&value, "enabled"));
    shadow(
        reader,
        section.take("shadow"),
        "take `shadow` out, or set it to false",
    );
    let clause = clause(reader, &mut section, sets);
    section.refuse_later(LATER, reader);
    section.finish(reader);
    let Some(value) = name else {
        let help = "add `name = \"...\"`: alerts, metrics and explanations call the rule by it";
        reader.error(header, "a rule has no name", "this rule", help);
        return None;
    };
    let name = reader.string(&value, "name")?;
    if !is_name(&name) || name == crate::policy::DEFAULT_RULE {
        let help = if name == crate::policy::DEFAULT_RULE {
            "`default` is what no rule matches; set it by `default` in [policy]"
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
        alert,
        enabled,
        clause,
    })
}

/// `shadow = true` is not in this version.
pub(super) fn shadow(reader: &mut Reader, value: Option<Value<'_>>, help: &str) {
    let Some(value) = value else { return };
    if reader.boolean(&value, "shadow") == Some(true) {
        let message =
            "this version does not have `shadow = true` (rules that are judged and not enforced)";
        reader.error(value.span(), message, "not in this version", help);
    }
}

fn action(reader: &mut Reader, value: &Value<'_>) -> Option<Action> {
    if value.get_ref().as_str() == Some("decoy") {
        let message = "this version does not have the action \"decoy\" (answering in the destination's place)";
        reader.error(
            value.span(),
            message,
            "not in this version",
            "use \"drop\" or \"reject\"",
        );
        return None;
    }
    reader.word(
        value,
        "action",
        &[
            ("allow", Action::Allow),
            ("drop", Action::Drop),
            ("reject", Action::Reject),
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

/// The match keys; `None` where there is none of them. A key with a fault counts as stated.
fn clause(reader: &mut Reader, section: &mut Section<'_>, sets: &[Set]) -> Option<Clause> {
    let keys = [
        "direction",
        "proto",
        "src",
        "dst",
        "sport",
        "dport",
        "icmp_type",
        "icmp_code",
    ];
    let [
        direction,
        proto,
        src,
        dst,
        sport,
        dport,
        icmp_type,
        icmp_code,
    ] = keys.map(|key| section.take(key));
    let all = [
        &direction, &proto, &src, &dst, &sport, &dport, &icmp_type, &icmp_code,
    ];
    if all.iter().all(|value| value.is_none()) {
        return None;
    }
    let mut clause = Clause::any(Direction::Out);
    if let Some(read) = direction.and_then(|value| self::direction(reader, &value)) {
        clause.direction = read;
    }
    let stated = proto
        .as_ref()
        .map(|value| protos(reader, value).unwrap_or(ProtoSet::ALL));
    if let Some(read) = src.and_then(|value| address::expression(reader, &value, "src", sets)) {
        clause.src = read;
    }
    if let Some(read) = dst.and_then(|value| address::expression(reader, &value, "dst", sets)) {
        clause.dst = read;
    }
    clause.protos = stated.unwrap_or(ProtoSet::ALL);
    if sport.is_some() || dport.is_some() {
        clause.protos = stated.unwrap_or(ProtoSet::of(&[6, 17]));
    }
    for (key, value, set) in [
        ("sport", &sport, &mut clause.sport),
        ("dport", &dport, &mut clause.dport),
    ] {
        let Some(value) = value else { continue };
        if stated
            .is_some_and(|protos| protos != ProtoSet::ALL && !protos.within(ProtoSet::WITH_PORTS))
        {
            let help =
                "use `proto = \"tcp\"`, \"udp\", or both; without `proto`, a port means both";
            reader.error(
                value.span(),
                format!("`{key}` with a protocol that has no ports"),
                "no such field",
                help,
            );
        }
        if let Some(read) = numbers(reader, value, key, u16::MAX) {
            *set = read;
        }
    }
    for (key, value, set) in [
        ("icmp_type", &icmp_type, &mut clause.sport),
        ("icmp_code", &icmp_code, &mut clause.dport),
    ] {
        let Some(value) = value else { continue };
        if !stated.is_some_and(|protos| {
            protos == ProtoSet::ALL || protos.is_icmp() && protos.iter().count() == 1
        }) {
            let help = "add `proto = \"icmp\"` or `proto = \"icmpv6\"`: the numbers mean other things in each";
            reader.error(
                value.span(),
                format!("`{key}` needs one ICMP protocol"),
                "of which protocol?",
                help,
            );
        }
        if let Some(read) = numbers(reader, value, key, u8::MAX.into()) {
            *set = read;
        }
    }
    Some(clause)
}

/// `out`, `in` or `both`.
pub(super) fn direction(reader: &mut Reader, value: &Value<'_>) -> Option<Direction> {
    let words = [
        ("out", Direction::Out),
        ("in", Direction::In),
        ("both", Direction::Both),
    ];
    reader.word(value, "direction", &words)
}

fn protos(reader: &mut Reader, value: &Value<'_>) -> Option<ProtoSet> {
    let (mut set, mut whole) = (ProtoSet::EMPTY, true);
    for item in reader.list(value, "proto")? {
        match proto(reader, &item) {
            Some(number) => set = set.union(ProtoSet::of(&[number])),
            None => whole = false,
        }
    }
    whole.then_some(set)
}

/// A protocol by name or number.
pub(super) fn proto(reader: &mut Reader, value: &Value<'_>) -> Option<u8> {
    if as_integer(value.get_ref()).is_some() {
        return reader
            .integer(value, "proto", 0..=255)
            .map(|number| number as u8);
    }
    let name = reader.string(value, "proto")?;
    let found = number_of(&name);
    if found.is_none() {
        let help = match nearest(&name, PROTOCOLS.iter().map(|(name, _)| *name)) {
            Some(near) => {
                format!("did you mean \"{near}\"? A protocol is a name or a number from 0 to 255")
            }
            None => "write a name such as \"tcp\", \"udp\" or \"icmp\", or a number from 0 to 255"
                .to_owned(),
        };
        reader.error(
            value.span(),
            format!("there is no protocol \"{name}\""),
            "here",
            help,
        );
    }
    found
}

/// The number of a protocol's name.
pub(super) fn number_of(name: &str) -> Option<u8> {
    PROTOCOLS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, number)| *number)
}

/// Numbers and ranges: `23`, `"23"`, `"2323-2330"`, or a list of these; none above `max`.
fn numbers(reader: &mut Reader, value: &Value<'_>, key: &str, max: u16) -> Option<PortSet> {
    let (mut ranges, mut whole) = (Vec::new(), true);
    for item in reader.list(value, key)? {
        match number_range(item.get_ref(), max) {
            Some(range) => ranges.push(range),
            None => {
                let help = format!(
                    "write a number from 0 to {max}, a range \"a-b\" in quotes, or a list of these"
                );
                let message = format!("`{key}` has something that is neither a number nor a range");
                reader.error(item.span(), message, "here", help);
                whole = false;
            }
        }
    }
    whole.then_some(PortSet(ranges))
}

fn number_range(value: &DeValue<'_>, max: u16) -> Option<(u16, u16)> {
    let fits = |number: u16| (number <= max).then_some(number);
    if let Some(number) = as_integer(value) {
        let number = fits(u16::try_from(number).ok()?)?;
        return Some((number, number));
    }
    let text = value.as_str()?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let parse = |text: &str| text.trim().parse::<u16>().ok().and_then(fits);
    let (first, last) = (parse(first)?, parse(last)?);
    (first <= last).then_some((first, last))
}
