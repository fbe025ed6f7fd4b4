//! `portcullis test`.

use super::{ConfigFile, NO, cannot, print_json};
use crate::config::policy_tests::{self, Outcome, unknown_rule};
use crate::config::{self, Config};
use crate::policy::explain::describe;
use crate::policy::table::Table;
use crate::policy::test::expected;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Test {
    #[command(flatten)]
    config: ConfigFile,
    /// A file of [[test]] entries to run as well, after those of the config. Repeatable
    #[arg(long, value_name = "FILE")]
    tests: Vec<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Test {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let mut more = Vec::new();
        for path in &self.tests {
            match config::load_tests(path) {
                Ok(file) => more.push(file),
                Err(e) => return cannot(e),
            }
        }
        let table = match Table::compile(&config.policy) {
            Ok(table) => table,
            Err(e) => return cannot(e),
        };
        let outcomes = policy_tests::run(&config, &table, &more);
        let failed = outcomes.iter().any(|outcome| outcome.failure.is_some());
        if self.json {
            let printed = print_json(&json(&config, &outcomes));
            if printed != ExitCode::SUCCESS {
                return printed;
            }
        } else {
            print!("{}", human(&config, &outcomes));
        }
        ExitCode::from(if failed { NO } else { 0 })
    }
}

/// A line for each test, two or three for one that fails, and a summary.
fn human(config: &Config, outcomes: &[Outcome<'_>]) -> String {
    if outcomes.is_empty() {
        let file = config.source.name();
        return format!(
            "{file}: no tests; add [[test]] entries, or name a file of them with --tests\n"
        );
    }
    let mut out = String::new();
    for outcome in outcomes {
        let (test, file) = (outcome.test, outcome.source.name());
        let packet = describe(&test.key);
        let what = test.name.as_ref().unwrap_or(&packet);
        let word = if outcome.failure.is_some() {
            "FAIL"
        } else {
            "PASS"
        };
        out += &format!("{word}  {file}:{}: {what}\n", test.line);
        let Some(failure) = &outcome.failure else {
            continue;
        };
        if test.name.is_some() {
            out += &format!("      packet    {packet}\n");
        }
        out += &format!("      expected  {}\n", failure.expected);
        out += &format!(
            "      found     {} by rule `{}`\n",
            failure.verdict, failure.rule
        );
        if let Some(hint) = unknown_rule(config, test.rule.as_deref()) {
            out += &format!("      note      {hint}\n");
        }
    }
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.failure.is_some())
        .count();
    let (all, passed) = (outcomes.len(), outcomes.len() - failed);
    let plural = if all == 1 { "" } else { "s" };
    out + &format!("{all} test{plural}: {passed} passed, {failed} failed\n")
}

fn json(config: &Config, outcomes: &[Outcome<'_>]) -> serde_json::Value {
    let test = |outcome: &Outcome<'_>| {
        let (verdict, rule) = outcome.decided;
        serde_json::json!({
            "file": outcome.source.name(),
            "line": outcome.test.line,
            "name": outcome.test.name,
            "ok": outcome.failure.is_none(),
            "packet": describe(&outcome.test.key),
            "expected": expected(outcome.test),
            "verdict": verdict,
            "rule": rule,
        })
    };
    let failed = outcomes
        .iter()
        .filter(|outcome| outcome.failure.is_some())
        .count();
    serde_json::json!({
        "file": config.source.name(),
        "ok": failed == 0,
        "run": outcomes.len(),
        "failed": failed,
        "tests": outcomes.iter().map(test).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    const CONFIG: &str = r#"
lan.prefixes = ["10.77.0.0/24"]
[[test]]
name = "no TFTP leaves"
packet = { proto = "udp", src = "10.77.0.9:40000", dst = "93.184.216.34:69" }
expect = { verdict = "drop", rule = "tftp" }
[[test]]
packet = { proto = "tcp", src = "10.77.0.9:40000", dst = "93.184.216.34:443" }
expect = { verdict = "forward" }
[[test]]
name = "no mail leaves"
packet = { proto = "tcp", src = "10.77.0.9:40000", dst = "93.184.216.34:25" }
expect = { verdict = "drop", rule = "smpt" }
"#;

    #[test]
    fn each_test_has_its_place_and_one_that_fails_says_what_was_found() {
        let config = config::parse(CONFIG, "p.toml", Path::new(".")).unwrap();
        let table = Table::compile(&config.policy).unwrap();
        let outcomes = policy_tests::run(&config, &table, &[]);
        let expected = "\
PASS  p.toml:3: no TFTP leaves
PASS  p.toml:7: out tcp 10.77.0.9:40000 > 93.184.216.34:443
FAIL  p.toml:10: no mail leaves
      packet    out tcp 10.77.0.9:40000 > 93.184.216.34:25
      expected  drop by rule `smpt`
      found     drop by rule `smtp`
      note      there is no rule `smpt`: did you mean `smtp`?
3 tests: 2 passed, 1 failed
";
        assert_eq!(human(&config, &outcomes), expected);
        let json = json(&config, &outcomes);
        assert_eq!((&json["run"], &json["failed"]), (&3.into(), &1.into()));
        assert_eq!(json["tests"][2]["rule"], "smtp");
        assert_eq!(json["tests"][1]["name"], serde_json::Value::Null);
    }
}
