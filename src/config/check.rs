//! `check`: everything that can be said of a config without touching a NIC, its own tests included.

use super::error::{Problem, render};
use super::stats::Stats;
use super::{Config, ConfigError, judge, load, policy_tests};
use crate::policy::{Policy, Table};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

/// How many problems are drawn for a person; the rest take a line each.
const DRAWN: usize = 40;
/// How many problems are told to a person at all.
const TOLD: usize = 200;

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
    /// How many `[[test]]` entries there are, with those of the files that the config names.
    pub tests: usize,
    /// How many of them failed.
    pub failed: usize,
    /// Rules that it was too much work to compare with those before them.
    pub undecided: usize,
    /// Sizes and times; `None` where the config does not load.
    pub stats: Option<Stats>,
}

/// Loads, judges, compiles and tests the config at `path`.
pub fn report(path: &Path) -> CheckReport {
    let mut report = CheckReport {
        file: path.display().to_string(),
        errors: Vec::new(),
        warnings: Vec::new(),
        rules: 0,
        tests: 0,
        failed: 0,
        undecided: 0,
        stats: None,
    };
    let start = Instant::now();
    match load(path) {
        Ok(config) => report.judge(config, start),
        Err(error) => report.errors = error.problems,
    }
    report
}

/// Compiles the policy of a config and runs its own tests: what start asks before it touches anything, and what a
/// change of the policy in a running gate asks before the new policy decides. Says nothing of what `check` only warns
/// about.
///
/// # Errors
/// [`ConfigError`] where the policy cannot be compiled, or with every test that fails: such a policy is not the one that
/// was meant.
pub fn accept(config: &Config) -> Result<Table, ConfigError> {
    let table = compile(config).map_err(|problem| ConfigError {
        problems: vec![*problem],
    })?;
    tests(config, &config.policy, &table)?;
    Ok(table)
}

/// Runs the config's own tests on a policy that is like its own, and the table that was compiled from that.
///
/// # Errors
/// [`ConfigError`] with every test that fails.
pub fn tests(config: &Config, policy: &Policy, table: &Table) -> Result<(), ConfigError> {
    let outcomes = policy_tests::run_on(config, (policy, table), &[]);
    let problems: Vec<_> = outcomes
        .iter()
        .filter_map(|outcome| outcome.problem(config))
        .collect();
    match problems.is_empty() {
        true => Ok(()),
        false => Err(ConfigError { problems }),
    }
}

fn compile(config: &Config) -> Result<Table, Box<Problem>> {
    Table::compile(&config.policy).map_err(|error| {
        let problem = Problem::of_file(config.source.name(), error.to_string());
        Box::new(match miette::Diagnostic::help(&error) {
            Some(help) => problem.help(help.to_string()),
            None => problem,
        })
    })
}

impl CheckReport {
    fn judge(&mut self, config: Config, start: Instant) {
        let mut stats = Stats::of(&config);
        stats.read = start.elapsed();
        self.rules = stats.rules;

        let start = Instant::now();
        let judged = judge::judge(&config);
        stats.judge = start.elapsed();

        let start = Instant::now();
        let table = compile(&config);
        stats.compile = start.elapsed();

        let start = Instant::now();
        match table {
            Ok(table) => {
                stats.of_table(&table);
                let outcomes = policy_tests::run(&config, &table, &[]);
                self.tests = outcomes.len();
                self.errors = outcomes
                    .iter()
                    .filter_map(|outcome| outcome.problem(&config))
                    .collect();
                self.failed = self.errors.len();
                stats.test = start.elapsed();
            }
            Err(problem) => self.errors.push(*problem),
        }
        self.undecided = judged.undecided;
        self.warnings = config.warnings;
        self.warnings.extend(judged.warnings);
        self.stats = Some(stats);
    }

    /// Whether the config can be used.
    pub fn is_ok(&self) -> bool {
        self.errors.is_empty()
    }

    /// For a person: every problem with its text, then one line of summary.
    pub fn human(&self, colour: bool) -> String {
        let all = self.errors.iter().chain(&self.warnings);
        // What matters most stands last, next to the prompt: the errors, drawn before any warning is.
        let drawn: Vec<_> = all.clone().take(DRAWN).collect();
        let mut problems = String::new();
        for problem in all.clone().skip(DRAWN).take(TOLD - DRAWN) {
            problems.push_str(&problem.one_line());
            problems.push('\n');
        }
        let more = all.count().saturating_sub(TOLD);
        if more > 0 {
            problems.push_str(&format!("and {more} more; --json has them all\n"));
        }
        let warnings_first = drawn.iter().filter(|problem| problem.warning);
        let then_errors = drawn.iter().filter(|problem| !problem.warning);
        problems.push_str(&render(warnings_first.chain(then_errors).copied(), colour));
        if self.undecided > 0 {
            problems.push_str(&format!(
                "{} left out: comparing them with the rules before them takes too long\n",
                count(self.undecided, "rule")
            ));
        }
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
            "undecided": self.undecided,
            "errors": list(&self.errors),
            "warnings": list(&self.warnings),
        })
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// A problem as JSON: `line` and `column` are null where the problem is of the whole file.
#[derive(Serialize)]
struct Entry<'a> {
    file: &'a str,
    line: Option<usize>,
    column: Option<usize>,
    message: &'a str,
    label: Option<&'a str>,
    help: Option<&'a str>,
    /// Other places in the same file.
    also: Vec<Also<'a>>,
}

#[derive(Serialize)]
struct Also<'a> {
    line: usize,
    column: usize,
    label: Option<&'a str>,
}

impl<'a> From<&'a Problem> for Entry<'a> {
    fn from(problem: &'a Problem) -> Entry<'a> {
        let place = |number: usize| (number > 0).then_some(number);
        let text = |label: &'a str| (!label.is_empty()).then_some(label);
        Entry {
            file: &problem.file,
            line: place(problem.line),
            column: place(problem.column),
            message: &problem.message,
            label: text(&problem.label),
            help: problem.help.as_deref(),
            also: problem
                .others
                .iter()
                .map(|place| Also {
                    line: place.line,
                    column: place.column,
                    label: text(&place.label),
                })
                .collect(),
        }
    }
}
