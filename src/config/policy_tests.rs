//! `[[test]]`: what the user expects of the policy, in the config or in files of their own.

use super::error::{Source, nearest};
use super::raw::Reader;
use super::section::Section;
use super::{Config, ConfigError, Problem, packet};
use crate::policy::test::{self, Failure};
use crate::policy::{Policy, PolicyTest, Table};
use std::path::Path;

/// The tests of a file that holds nothing else.
#[derive(Clone, Debug)]
pub struct TestFile {
    /// Its text and name, which the places of the tests are in.
    pub source: Source,
    /// Its tests, in order.
    pub tests: Vec<PolicyTest>,
}

/// What one `[[test]]` is.
pub(super) enum Entry {
    Test(PolicyTest),
    File(TestFile),
}

/// Reads a file of `[[test]]` entries.
///
/// # Errors
/// [`ConfigError`] with every problem found; the file itself may be what is missing.
pub fn load(path: &Path) -> Result<TestFile, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        let file = path.display().to_string();
        let problem = Problem::of_file(file, format!("cannot read the tests: {error}"));
        ConfigError {
            problems: vec![problem.help("name a file that holds [[test]] entries")],
        }
    })?;
    let name = path.display().to_string();
    let mut reader = Reader::new(&text, &name, path.parent().unwrap_or(Path::new("")));
    let mut tests = Vec::new();
    let mut root = reader.root(&text);
    if reader.problems.is_empty() {
        let entries = root.take("test");
        let entries = entries.map(|value| reader.sections(value, "test"));
        for mut section in entries.unwrap_or_default() {
            let name = self::name(&mut reader, &mut section);
            let test = packet::test(&mut reader, section);
            tests.extend(test.map(|test| PolicyTest { name, ..test }));
        }
        root.finish(&mut reader);
    }
    if reader.problems.is_empty() {
        let source = reader.source;
        Ok(TestFile { source, tests })
    } else {
        Err(reader.into_error())
    }
}

/// Reads one `[[test]]` of the config: a test, or the name of a file of tests.
pub(super) fn read(reader: &mut Reader, mut section: Section<'_>) -> Option<Entry> {
    let name = name(reader, &mut section);
    let Some(file) = section.take("file") else {
        let test = packet::test(reader, section)?;
        return Some(Entry::Test(PolicyTest { name, ..test }));
    };
    section.finish(reader);
    let path = reader.path(&file, "file")?;
    match load(&path) {
        Ok(file) => Some(Entry::File(file)),
        Err(error) => {
            for problem in error.problems {
                match problem.line {
                    0 => reader.error(
                        file.span(),
                        format!("{}: {}", problem.file, problem.message),
                        "this file",
                        "a relative path is relative to the config file",
                    ),
                    _ => reader.problems.push(problem),
                }
            }
            None
        }
    }
}

fn name(reader: &mut Reader, section: &mut Section<'_>) -> Option<String> {
    let value = section.take("name")?;
    reader.string(&value, "name")
}

/// How one test went.
#[derive(Clone, Debug)]
pub struct Outcome<'c> {
    /// The test.
    pub test: &'c PolicyTest,
    /// The text that it stands in.
    pub source: &'c Source,
    /// How it failed; `None` where the policy does what the test expects.
    pub failure: Option<Failure>,
    /// What the policy does: the verdict and the rule.
    pub decided: (&'static str, &'c str),
}

/// Runs the tests of a config, those of the files that it names, and those of `more` files, in this order. `table` is
/// compiled from the config's policy.
pub fn run<'c>(config: &'c Config, table: &Table, more: &'c [TestFile]) -> Vec<Outcome<'c>> {
    run_on(config, (&config.policy, table), more)
}

/// The same on another policy, and the table that was compiled from that.
pub fn run_on<'c>(
    config: &'c Config,
    (policy, table): (&'c Policy, &Table),
    more: &'c [TestFile],
) -> Vec<Outcome<'c>> {
    let own = config.tests.iter().map(|test| (test, &config.source));
    let files = config.test_files.iter().chain(more);
    let files = files.flat_map(|file| file.tests.iter().map(|test| (test, &file.source)));
    own.chain(files)
        .map(|(test, source)| Outcome {
            test,
            source,
            failure: test::run(policy, table, test).err(),
            decided: test::decide(policy, table, test),
        })
        .collect()
}

impl Outcome<'_> {
    /// The error of a test that does not hold, at its place; `None` where it holds.
    pub fn problem(&self, config: &Config) -> Option<Problem> {
        let failure = self.failure.as_ref()?;
        let (start, len) = self.test.span;
        let expected = &failure.expected;
        let message = match &self.test.name {
            Some(name) => format!("the test \"{name}\" fails: expected {expected}"),
            None => format!("a test fails: expected {expected}"),
        };
        let (verdict, rule) = (failure.verdict, &failure.rule);
        let label = format!("the policy says {verdict} by rule `{rule}`");
        let problem = Problem::at(self.source, start..start + len, message, label);
        let help = unknown_rule(config, self.test.rule.as_deref()).unwrap_or_else(|| {
            format!("`portcullis explain` says why `{rule}` decides: change the rule or the test")
        });
        Some(problem.help(help))
    }
}

/// What to say where the expected rule does not exist or is off.
pub fn unknown_rule(config: &Config, rule: Option<&str>) -> Option<String> {
    let name = rule?;
    if config.policy.rule(name).is_some() {
        return None;
    }
    if config.policy.disabled.iter().any(|off| off == name) {
        return Some(format!("the rule `{name}` is switched off"));
    }
    let rules = config.policy.rules.iter();
    let near = nearest(name, rules.map(|rule| rule.name.as_str()));
    Some(near.map_or_else(
        || format!("there is no rule `{name}`"),
        |near| format!("there is no rule `{name}`: did you mean `{near}`?"),
    ))
}
