//! Rules that nothing matches: the key that leaves nothing, or the two that contradict each other.

use super::Text;
use crate::config::error::Problem;
use crate::policy::judge::Contradiction;
use crate::policy::rule::ProtoSet;
use crate::policy::{AddrMatch, Clause, Family, RuleId};

/// One rule of the user's that can never match. `None` where an empty set is why: that is told with the set.
pub(super) fn problem(text: &Text<'_>, id: RuleId, why: &Contradiction) -> Option<Problem> {
    if !why.empty_sets.is_empty() {
        return None;
    }
    let rule = text.rule(id);
    let name = &rule.name;
    let Some(clause) = rule.clauses.first() else {
        let message = format!("the rule `{name}` can never match: it names no frame at all");
        return Some(text.warning(text.name_of(id), message, "this rule"));
    };
    let (reason, help) = reason(why, clause);
    let message = format!("the rule `{name}` can never match: {reason}");
    let place = text.places.rule(name);
    let mut labels = why.fields.iter().filter_map(|field| {
        let span = place.and_then(|place| place.key(field))?;
        Some((span, label(text, field, clause)))
    });
    let mut problem = match labels.next() {
        Some((span, label)) => text.warning(Some(span), message, &label),
        None => text.warning(text.name_of(id), message, "never matches"),
    };
    for (span, label) in labels.take(2) {
        text.and(&mut problem, Some(span), &label);
    }
    Some(problem.help(help))
}

/// The sentence, and what would be right.
fn reason(why: &Contradiction, clause: &Clause) -> (String, &'static str) {
    let text = |reason: &str, help| (reason.to_owned(), help);
    match why.fields[..] {
        ["src"] | ["dst"] => text(
            &format!("`{}` excludes all that it names", why.fields[0]),
            "what stands with `!` is taken away from what stands without: leave one of them out",
        ),
        ["src", "dst"] => text(
            "the source is of one address family, the destination of the other",
            "name IPv4 with IPv4 or IPv6 with IPv6; a rule may name both families on both sides",
        ),
        ["src_mac"] => text(
            "`src_mac` excludes all that it names",
            "leave out what stands twice",
        ),
        ["tcp_flags"] => text(
            "no combination of flags is what `tcp_flags` asks for",
            "ask for each flag to be set or not set, not both",
        ),
        ["proto", "tcp_flags"] => text(
            "only TCP has flags",
            "write `proto = \"tcp\"`, or take `tcp_flags` out",
        ),
        ["proto", "sport"] | ["proto", "dport"] | ["proto", "sport", "dport"] => {
            let field = why.fields[1];
            if clause.protos.is_icmp() {
                text(
                    "the types and codes of ICMP go from 0 to 255",
                    "write a number from 0 to 255",
                )
            } else {
                text(
                    &format!("the protocol has no ports, and `{field}` asks for one"),
                    "ports belong to tcp, udp, sctp, dccp and udplite",
                )
            }
        }
        ["src" | "dst", "ethertype"] => text(
            "a frame of that ethertype has no such address",
            "IPv4 addresses go with ethertype 0x0800, IPv6 addresses with 0x86dd, others with none",
        ),
        [field, "ethertype"] | ["ethertype", field] => text(
            &format!("a frame of that ethertype has no `{field}` that matches"),
            "only IP has protocols, ports, flags and fragments: take one of the two out",
        ),
        [field] => text(
            &format!("nothing is in `{field}`"),
            "leave the key out to match any",
        ),
        _ => {
            let fields: Vec<_> = why
                .fields
                .iter()
                .map(|field| format!("`{field}`"))
                .collect();
            text(
                &format!("{} leave nothing together", fields.join(", ")),
                "see which of them the rule is about, and take the others out",
            )
        }
    }
}

/// What a label says of one key.
fn label(text: &Text<'_>, field: &str, clause: &Clause) -> String {
    let sets = &text.policy.sets;
    let family = |wanted: &AddrMatch| {
        let empty = |family| wanted.intervals(sets, family).is_empty();
        match (empty(Family::V4), empty(Family::V6)) {
            (true, true) => "no address is left",
            (true, false) => "IPv6 only",
            (false, true) => "IPv4 only",
            (false, false) => "these addresses",
        }
    };
    match field {
        "src" => family(&clause.src).to_owned(),
        "dst" => family(&clause.dst).to_owned(),
        "proto" if clause.protos.within(ProtoSet::of(&[6])) => "TCP".to_owned(),
        "proto" => format!("not TCP: {}", clause.protos),
        "ethertype" => "this ethertype".to_owned(),
        _ => "and this".to_owned(),
    }
}
