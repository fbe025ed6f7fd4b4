//! Why a packet meets the verdict that it meets, in words.

mod describe;
mod near;

pub use describe::describe;
pub use near::{FieldMiss, MOST, Miss};

use super::rule::{Origin, Policy, Rule};
use super::table::Table;
use super::{AppSet, Key, Manners, RuleId, Verdict, admit, oracle};
use crate::frame::Meta;
use serde::Serialize;

const TCP: u8 = 6;

/// One decision, explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `forward`, `drop`, `reject` or `decoy`.
    pub verdict: &'static str,
    /// The reason of a drop or a reject.
    pub reason: Option<&'static str>,
    /// The rule that decides.
    pub rule: String,
    /// `low`, `medium` or `high`; `None` where the rule does not alert.
    pub alert: Option<&'static str>,
    /// What else there is to know: `speaks irc` (the decoy that answers this packet), `ttl 1h`, `limit 5 in 1s`.
    pub marks: Vec<String>,
    /// One sentence with the clause that matched.
    pub why: String,
    /// Where the rule comes from: `built in`, `line N of the config`, or `the default`.
    pub origin: String,
    /// What the rules are not asked about, where that may concern this packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
    /// Rules in shadow before it that match: what they would have done was not done. In order.
    pub in_shadow: Vec<String>,
    /// Rules before it that its payload may yet bring the flow under, with what they ask for: `irc (app irc)`. In order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub once_known: Vec<String>,
    /// The rules that match too and come later, in order, without the default.
    pub also: Vec<String>,
    /// The rules before it that do not match, by how near they came: the fewest fields first, then in order. At most
    /// [`MOST`].
    pub misses: Vec<Miss>,
    /// How many further rules before it do not match.
    pub misses_left_out: usize,
}

/// The compiled table and the slow evaluator decide differently: a fault of this program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error(
    "the compiled table says rule `{table}` and the rules read one by one say `{oracle}` for {key:?}"
)]
#[diagnostic(help(
    "this is a fault of Portcullis, not of the config: please report it with this line"
))]
pub struct Disagreement {
    /// The rule that the table finds.
    pub table: String,
    /// The rule that the oracle finds.
    pub oracle: String,
    /// The packet.
    pub key: Box<Key>,
}

/// Explains what `table`, compiled from `policy`, does to a packet.
///
/// # Errors
/// [`Disagreement`] where the table does not do what the policy's rules, read one by one, say.
pub fn explain(policy: &Policy, table: &Table, key: &Key) -> Result<Explanation, Disagreement> {
    let (found, truth) = (table.lookup(key), oracle::evaluate(policy, key));
    let name = |id: RuleId| {
        policy
            .rules
            .get(id.index())
            .map_or_else(|| id.0.to_string(), |rule| rule.name.clone())
    };
    let found = if found == truth {
        past_shadow(policy, found, key)
    } else {
        return Err(Disagreement {
            table: name(found),
            oracle: name(truth),
            key: Box::new(*key),
        });
    };
    let Some(rule) = policy.rules.get(found.index()) else {
        return Err(Disagreement {
            table: name(found),
            oracle: "none".to_owned(),
            key: Box::new(*key),
        });
    };
    let verdict = verdict(policy, table, found, key);
    let matching = |rule: &&Rule| {
        rule.clauses
            .iter()
            .any(|clause| oracle::matches(policy, clause, key))
    };
    let also = policy.rules[found.index() + 1..]
        .iter()
        .filter(matching)
        .filter(|rule| rule.origin != Origin::Default);
    let in_shadow = policy.rules[..found.index()].iter().filter(matching);
    let (misses, misses_left_out) = near::misses(policy, key, found);
    Ok(Explanation {
        verdict: verdict.name(),
        reason: match verdict {
            Verdict::Forward | Verdict::Decoy(_) | Verdict::Own => None,
            Verdict::Drop(reason) | Verdict::Reject(reason) => Some(reason.name()),
        },
        rule: rule.name.clone(),
        alert: rule.alert.map(super::Severity::name),
        marks: voice(verdict, key).into_iter().chain(marks(rule)).collect(),
        why: why(policy, rule, key),
        origin: origin(rule.origin),
        note: note(key)
            .or(policy.shadow.then_some(
                "the whole policy is in shadow: this is counted and alerted on, and the frame is forwarded",
            ))
            .or(unanswered(table.verdict(found), verdict, key)),
        once_known: once_known(&policy.rules[..found.index()], policy, key),
        in_shadow: in_shadow.map(|rule| rule.name.clone()).collect(),
        misses,
        misses_left_out,
        also: also.map(|rule| rule.name.clone()).collect(),
    })
}

/// Of these rules, those that ask for an application and otherwise match; none where it is known what the payload is.
fn once_known(rules: &[Rule], policy: &Policy, key: &Key) -> Vec<String> {
    if key.app != 0 {
        return Vec::new();
    }
    let any = Key {
        app: AppSet::ANY,
        ..*key
    };
    let asks = |rule: &Rule| {
        let mut clauses = rule.clauses.iter();
        let app =
            clauses.find_map(|clause| clause.app.filter(|_| oracle::matches(policy, clause, &any)));
        app.map(|app| format!("{} (app {app})", rule.name))
    };
    rules.iter().filter_map(asks).collect()
}

/// What happens to a packet that this rule decides. The default rule is for IP alone.
pub fn verdict(policy: &Policy, table: &Table, rule: RuleId, key: &Key) -> Verdict {
    let rules = &policy.rules;
    let is_default = rules.get(rule.index()).map(|rule| rule.origin) == Some(Origin::Default);
    match key.family() {
        None if is_default => admit::unnamed(key.net, key.ethertype),
        _ if is_beyond_decoys(policy, table, key) => table.verdict(rule).without_decoy(),
        _ => table.verdict(rule),
    }
}

/// Whether it is a packet that no decoy answers: a fragment; a segment whose payload has shown what a connection is that was opened to its destination.
fn is_beyond_decoys(policy: &Policy, table: &Table, key: &Key) -> bool {
    let is_open = || {
        let opening = Key { app: 0, ..*key };
        let opened_by = deciding(policy, table, &opening);
        !matches!(table.verdict(opened_by), Verdict::Decoy(_))
    };
    key.fragment || (key.proto == TCP && key.app != 0 && is_open())
}

/// What the decoy speaks that answers the packet.
fn voice(verdict: Verdict, key: &Key) -> Option<String> {
    let Verdict::Decoy(manners) = verdict else {
        return None;
    };
    Some(match manners.at(key.proto != TCP, key.dport) {
        Manners::Raw => "says nothing".to_owned(),
        manners => format!("speaks {}", manners.name()),
    })
}

/// Why a rule with a decoy has none for this packet.
fn unanswered(stated: Verdict, verdict: Verdict, key: &Key) -> Option<&'static str> {
    let has_none = stated != verdict && matches!(stated, Verdict::Decoy(_));
    has_none.then_some(match key.fragment {
        true => "a decoy answers no fragments, so this is dropped",
        false => "the connection is open to its destination when its payload is known, and no decoy can take its place: it is dropped",
    })
}

/// The rule that decides a packet: the first that matches and is not in shadow.
pub fn deciding(policy: &Policy, table: &Table, key: &Key) -> RuleId {
    past_shadow(policy, table.lookup(key), key)
}

fn past_shadow(policy: &Policy, first: RuleId, key: &Key) -> RuleId {
    let rules = policy.rules.iter().enumerate().skip(first.index());
    let decides = |rule: &Rule| {
        !rule.shadow
            && rule
                .clauses
                .iter()
                .any(|clause| oracle::matches(policy, clause, key))
    };
    if policy
        .rules
        .get(first.index())
        .is_none_or(|rule| !rule.shadow)
    {
        return first;
    }
    let mut rules = rules.filter(|(_, rule)| decides(rule));
    rules.next().map_or(first, |(at, _)| RuleId(at as u32))
}

/// What there is to know of a rule beside its match, action and alert.
fn marks(rule: &Rule) -> Vec<String> {
    let mut marks = Vec::new();
    if rule.shadow {
        marks.push("shadow".to_owned());
    }
    if let Some(ttl) = rule.ttl {
        marks.push(format!("ttl {}", humantime::format_duration(ttl)));
    }
    if let Some(limit) = rule.limit {
        let per = humantime::format_duration(limit.per);
        marks.push(format!("limit {} in {per}", limit.frames));
    }
    marks
}

/// Neighbour discovery on the link never reaches the rules; a key does not hold the hop limit that shows it.
fn note(key: &Key) -> Option<&'static str> {
    let meta = Meta {
        net: key.net,
        proto: key.proto,
        sport: key.sport,
        dport: key.dport,
        dst: key.dst,
        hop_limit: 255,
        ..Meta::NONE
    };
    (meta.is_neighbour_discovery() && meta.stays_on_link()).then_some(
        "with a hop limit of 255 this is neighbour discovery on the link, which passes before any rule is asked",
    )
}

/// The sentence.
fn why(policy: &Policy, rule: &Rule, key: &Key) -> String {
    if rule.origin == Origin::Default && key.family().is_none() {
        return "no rule names this ethertype, and the default is for IP alone: the protocols that a link needs pass, others are dropped".to_owned();
    }
    if rule.origin == Origin::Default {
        return "no rule matches, so the policy's default decides".to_owned();
    }
    let clause = rule
        .clauses
        .iter()
        .find(|clause| oracle::matches(policy, clause, key));
    let clause = clause.map_or_else(String::new, |clause| clause.describe(&policy.sets));
    format!(
        "the first rule that {} is `{}` ({}): {clause}",
        if policy.rules.iter().any(|rule| rule.shadow) {
            "matches and is not in shadow"
        } else {
            "matches"
        },
        rule.name,
        origin(rule.origin)
    )
}

fn origin(origin: Origin) -> String {
    match origin {
        Origin::Builtin => "built in".to_owned(),
        Origin::User { line } => format!("line {line} of the config"),
        Origin::Default => "the default".to_owned(),
    }
}
