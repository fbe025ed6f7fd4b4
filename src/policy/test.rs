//! The user's own policy tests: what one packet should meet, compared with what it does meet.

use super::explain;
use super::rule::{Policy, PolicyTest};
use super::table::Table;

/// How a policy test failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What the policy does: `forward`, `drop`, `reject` or `decoy`.
    pub verdict: &'static str,
    /// The rule that decides.
    pub rule: String,
    /// What was expected, in words.
    pub expected: String,
}

/// Judges the test's packet by the compiled table: the verdict and the rule.
pub fn decide<'p>(policy: &'p Policy, table: &Table, test: &PolicyTest) -> (&'static str, &'p str) {
    let id = explain::deciding(policy, table, &test.key);
    let rule = policy.rules.get(id.index()).map_or("", |rule| &rule.name);
    (explain::verdict(policy, table, id, &test.key).name(), rule)
}

/// Judges the test's packet by the compiled table.
///
/// # Errors
/// [`Failure`] where the verdict or the rule is not the expected one.
pub fn run(policy: &Policy, table: &Table, test: &PolicyTest) -> Result<(), Failure> {
    let (verdict, rule) = decide(policy, table, test);
    let as_expected =
        test.verdict.is_none_or(|v| v == verdict) && test.rule.as_deref().is_none_or(|r| r == rule);
    if as_expected {
        return Ok(());
    }
    Err(Failure {
        verdict,
        rule: rule.to_owned(),
        expected: expected(test),
    })
}

/// What a test expects, in words: ``drop by rule `tftp` ``.
pub fn expected(test: &PolicyTest) -> String {
    match (test.verdict, &test.rule) {
        (Some(verdict), Some(rule)) => format!("{verdict} by rule `{rule}`"),
        (Some(verdict), None) => verdict.to_owned(),
        (None, Some(rule)) => format!("rule `{rule}`"),
        (None, None) => "anything".to_owned(),
    }
}
