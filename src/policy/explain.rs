//! Why a packet meets the verdict that it meets, in words.

use super::rule::{Origin, Policy, Rule};
use super::table::Table;
use super::{Key, RuleId, Verdict, oracle};
use crate::frame::Meta;
use serde::Serialize;

/// One decision, explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// `forward`, `drop` or `reject`.
    pub verdict: &'static str,
    /// The reason of a drop or a reject.
    pub reason: Option<&'static str>,
    /// The rule that decides.
    pub rule: String,
    /// `low`, `medium` or `high`; `None` where the rule does not alert.
    pub alert: Option<&'static str>,
    /// One sentence with the clause that matched.
    pub why: String,
    /// Where the rule comes from: `built in`, `line N of the config`, or `the default`.
    pub origin: String,
    /// What the rules are not asked about, where that may concern this packet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<&'static str>,
    /// The rules that match too and come later, in order, without the default.
    pub also: Vec<String>,
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
    let Some(rule) = policy.rules.get(found.index()).filter(|_| found == truth) else {
        return Err(Disagreement {
            table: name(found),
            oracle: name(truth),
            key: Box::new(*key),
        });
    };
    let verdict = table.verdict(found);
    let matching = |rule: &&Rule| {
        rule.clauses
            .iter()
            .any(|clause| oracle::matches(policy, clause, key))
    };
    let also = policy.rules[found.index() + 1..]
        .iter()
        .filter(matching)
        .filter(|rule| rule.origin != Origin::Default);
    Ok(Explanation {
        verdict: verdict.name(),
        reason: match verdict {
            Verdict::Forward => None,
            Verdict::Drop(reason) | Verdict::Reject(reason) => Some(reason.name()),
        },
        rule: rule.name.clone(),
        alert: rule.alert.map(super::Severity::name),
        why: why(policy, rule, key),
        origin: origin(rule.origin),
        note: note(key),
        also: also.map(|rule| rule.name.clone()).collect(),
    })
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
    if rule.origin == Origin::Default {
        return "no rule matches, so the policy's default decides".to_owned();
    }
    let clause = rule
        .clauses
        .iter()
        .find(|clause| oracle::matches(policy, clause, key));
    let clause = clause.map_or_else(String::new, |clause| clause.describe(&policy.sets));
    format!(
        "the first rule that matches is `{}` ({}): {clause}",
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
