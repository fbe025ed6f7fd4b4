//! `check`: everything that can be said of a config without touching a NIC, its own tests included.

use super::error::{Problem, nearest, render};
use super::{Config, load};
use crate::policy::{PolicyTest, Table, test};
use serde::Serialize;
use std::path::Path;

/// What a check found.
#[derive(Clone, Debug)]
pub struct CheckReport {
    /// The file as it was named.
    pub file: String,
    /// What stops the config from being used; failing `[[test]]` entries are among them.
    pub errors: Vec<Problem>,
    /// What does not stop it.
    pub warnings: Vec<Problem>,
    /// Rules in force, without the default; 0 where the config does not load.
    pub rules: usize,
    /// How many `[[test]]` entries there are.
    pub tests: usize,
    /// How many of them failed.
    pub failed: usize,
}

/// Loads, compiles and tests the config at `path`.
pub fn report(path: &Path) -> CheckReport {
    let file = path.display().to_string();
    let mut report = CheckReport {
        file,
        errors: Vec::new(),
        warnings: Vec::new(),
        rules: 0,
        tests: 0,
        failed: 0,
    };
    match load(path) {
        Ok(config) => report.judge(config),
        Err(error) => report.errors = error.problems,
    }
    report
}

impl CheckReport {
    fn judge(&mut self, config: Config) {
        self.rules = config.policy.rules.len().saturating_sub(1);
        self.tests = config.tests.len();
        match Table::compile(&config.policy) {
            Ok(table) => {
                self.errors = config
                    .tests
                    .iter()
                    .filter_map(|entry| failure(&config, &table, entry))
                    .collect();
                self.failed = self.errors.len();
            }
            Err(error) => {
                let problem = Problem::of_file(&self.file, error.to_string());
                self.errors.push(match miette::Diagnostic::help(&error) {
                    Some(help) => problem.help(help.to_string()),
                    None => problem,
                });
            }
        }
        self.warnings = config.warnings;
    }

    /// Whether the config can be used.
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }

    /// For a person: every problem with its text, then one line of summary.
    pub fn human(&self, colour: bool) -> String {
        let problems = render(self.warnings.iter().chain(&self.errors), colour);
        let count = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
        let warnings = count(self.warnings.len(), "warning");
        let summary = if self.is_ok() {
            let tests = format!("{} passed", count(self.tests, "test"));
            format!(
                "{}: ok, {}, {tests}, {warnings}",
                self.file,
                count(self.rules, "rule")
            )
        } else {
            format!(
                "{}: {}, {warnings}",
                self.file,
                count(self.errors.len(), "error")
            )
        };
        format!("{problems}{summary}\n")
    }

    /// For a program: one JSON object.
    pub fn json(&self) -> serde_json::Value {
        fn list(problems: &[Problem]) -> Vec<Entry<'_>> {
            problems.iter().map(Entry::from).collect()
        }
        serde_json::json!({
            "file": self.file,
            "ok": self.is_ok(),
            "rules": self.rules,
            "tests": { "run": self.tests, "failed": self.failed },
            "errors": list(&self.errors),
            "warnings": list(&self.warnings),
        })
    }
}

/// A problem as JSON: `line` and `column` are null where the problem is of the whole file.
#[derive(Serialize)]
struct Entry<'a> {
    file: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    message: &'a str,
    help: Option<&'a str>,
}

impl<'a> From<&'a Problem> for Entry<'a> {
    fn from(problem: &'a Problem) -> Entry<'a> {
        let place = |number: usize| (number > 0).then_some(number);
        Entry {
            file: &problem.file,
            line: place(problem.line),
            column: place(problem.column),
            message: &problem.message,
            help: problem.help.as_deref(),
        }
    }
}

/// The error of a `[[test]]` that does not hold.
fn failure(config: &Config, table: &Table, entry: &PolicyTest) -> Option<Problem> {
    let failure = test::run(&config.policy, table, entry).err()?;
    let span = entry.span.0..entry.span.0 + entry.span.1;
    let message = format!("a test fails: expected {}", failure.expected);
    let label = format!(
        "the policy says {} by rule `{}`",
        failure.verdict, failure.rule
    );
    let help = unknown_rule(config, entry.rule.as_deref()).unwrap_or_else(|| {
        format!(
            "`portcullis explain` says why `{}` decides: change the rule or the test",
            failure.rule
        )
    });
    Some(Problem::at(&config.source, span, message, label).help(help))
}

/// What to say where the expected rule does not exist or is off.
fn unknown_rule(config: &Config, rule: Option<&str>) -> Option<String> {
    let name = rule?;
    if config.policy.rule(name).is_some() {
        return None;
    }
    if config.policy.disabled.iter().any(|off| off == name) {
        return Some(format!("the rule `{name}` is switched off"));
    }
    let near = nearest(
        name,
        config.policy.rules.iter().map(|rule| rule.name.as_str()),
    );
    Some(near.map_or_else(
        || format!("there is no rule `{name}`"),
        |near| format!("there is no rule `{name}`: did you mean `{near}`?"),
    ))
}
