//! The TOML text as keys and values with their places, and the questions that the sections ask of it.
//!
//! Nothing here knows what a key means. A [`Section`] hands out its keys one by one; those that nobody asked for are
//! unknown, and [`Section::finish`] reports them.

use super::error::{ConfigError, Problem, Source, nearest};
use super::places::Places;
use super::section::Section;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and its place.
pub(super) type Value<'t> = Spanned<DeValue<'t>>;

/// The text that is read, and what was found wrong with it.
pub(super) struct Reader {
    pub source: Source,
    pub dir: PathBuf,
    pub problems: Vec<Problem>,
    pub warnings: Vec<Problem>,
    pub places: Places,
    /// Byte offset of the end of each line.
    line_ends: Vec<usize>,
}

impl Reader {
    pub fn new(text: &str, name: &str, dir: &Path) -> Reader {
        let source = Source::new(name, Arc::from(text)).with_language("toml");
        Reader {
            source,
            dir: dir.to_owned(),
            problems: Vec::new(),
            warnings: Vec::new(),
            places: Places::default(),
            line_ends: text.match_indices('\n').map(|(at, _)| at).collect(),
        }
    }

    /// The whole text as a section. Syntax errors become problems, all of them.
    pub fn root<'t>(&mut self, text: &'t str) -> Section<'t> {
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            let span = error.span().unwrap_or(0..0);
            let problem = Problem::at(
                &self.source,
                span,
                format!("not valid TOML: {}", error.message()),
                "here",
            );
            self.problems.push(problem.help(SYNTAX_HELP));
        }
        Section::new("the top level", table.into_inner(), 0..0)
    }

    /// Reports an error.
    pub fn error(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        label: &str,
        help: impl Into<String>,
    ) {
        self.problems
            .push(Problem::at(&self.source, span, message, label).help(help));
    }

    /// Reports a warning.
    pub fn warn(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        label: &str,
        help: impl Into<String>,
    ) {
        self.warnings.push(
            Problem::at(&self.source, span, message, label)
                .help(help)
                .warn(),
        );
    }

    /// Every problem found, in the order of the text; those of set files after those of the config.
    pub fn into_error(mut self) -> ConfigError {
        let config = self.source.name();
        self.problems
            .sort_by_key(|problem| (problem.file != config, problem.offset()));
        ConfigError {
            problems: self.problems,
        }
    }

    /// 1-based line of a byte offset.
    pub fn line(&self, offset: usize) -> usize {
        self.line_ends.partition_point(|end| *end < offset) + 1
    }

    fn wrong_type(&mut self, value: &Value<'_>, key: &str, wanted: &str) {
        let found = value.get_ref().type_str();
        let label = format!("this is {}", with_article(found));
        self.error(
            value.span(),
            format!("`{key}` must be {wanted}"),
            &label,
            format!("write {wanted}"),
        );
    }

    /// A string.
    pub fn string(&mut self, value: &Value<'_>, key: &str) -> Option<String> {
        match value.get_ref() {
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.wrong_type(value, key, "a string in quotes");
                None
            }
        }
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, value: &Value<'_>, key: &str) -> Option<bool> {
        match value.get_ref() {
            DeValue::Boolean(truth) => Some(*truth),
            _ => {
                self.wrong_type(value, key, "true or false");
                None
            }
        }
    }

    /// An integer within `range`.
    pub fn integer(
        &mut self,
        value: &Value<'_>,
        key: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let wanted = format!("a number from {} to {}", range.start(), range.end());
        let Some(number) = as_integer(value.get_ref()) else {
            self.wrong_type(value, key, &wanted);
            return None;
        };
        let fits = u32::try_from(number)
            .ok()
            .filter(|number| range.contains(number));
        if fits.is_none() {
            let help = format!("write {wanted}");
            self.error(
                value.span(),
                format!("`{key}` must be {wanted}"),
                "out of range",
                help,
            );
        }
        fits
    }

    /// One of a few words.
    pub fn word<T: Copy>(
        &mut self,
        value: &Value<'_>,
        key: &str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let list = words
            .iter()
            .map(|(word, _)| format!("\"{word}\""))
            .collect::<Vec<_>>()
            .join(", ");
        let DeValue::String(text) = value.get_ref() else {
            self.wrong_type(value, key, &format!("one of {list}"));
            return None;
        };
        let found = words.iter().find(|(word, _)| word == text);
        if found.is_none() {
            let help = match nearest(text, words.iter().map(|(word, _)| *word)) {
                Some(near) => format!("did you mean \"{near}\"? It may be {list}"),
                None => format!("it may be {list}"),
            };
            self.error(
                value.span(),
                format!("`{key}` cannot be \"{text}\""),
                "not one of its values",
                help,
            );
        }
        found.map(|(_, meaning)| *meaning)
    }

    /// A duration such as `200ms`, `60s`, `5m`; not zero.
    pub fn duration(&mut self, value: &Value<'_>, key: &str) -> Option<Duration> {
        let text = self.string(value, key)?;
        let parsed = humantime::parse_duration(&text)
            .ok()
            .filter(|duration| !duration.is_zero());
        if parsed.is_none() {
            let help = "write a number and a unit, such as \"200ms\", \"60s\" or \"5m\"";
            self.error(
                value.span(),
                format!("`{key}` cannot be \"{text}\""),
                "not a duration above zero",
                help,
            );
        }
        parsed
    }

    /// A path, made relative to the config's directory.
    pub fn path(&mut self, value: &Value<'_>, key: &str) -> Option<PathBuf> {
        let text = self.string(value, key)?;
        if text.is_empty() {
            self.error(
                value.span(),
                format!("`{key}` is empty"),
                "no path",
                "name a file, or leave the key out",
            );
            return None;
        }
        Some(self.dir.join(text))
    }

    /// A value or a list of values: each with its place. An empty list is an error.
    pub fn list<'t>(&mut self, value: &Value<'t>, key: &str) -> Option<Vec<Value<'t>>> {
        match value.get_ref() {
            DeValue::Array(array) if array.is_empty() => {
                let help = format!("leave `{key}` out to match any");
                self.error(
                    value.span(),
                    format!("`{key}` is an empty list"),
                    "matches nothing",
                    help,
                );
                None
            }
            DeValue::Array(array) => Some(array.iter().cloned().collect()),
            _ => Some(vec![value.clone()]),
        }
    }

    /// An inline table or a `[section]`.
    pub fn section<'t>(&mut self, value: Value<'t>, name: &str) -> Option<Section<'t>> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some(Section::new(name, table, span)),
            other => {
                self.wrong_type(&Spanned::new(span, other), name, "a table");
                None
            }
        }
    }

    /// The tables of a `[[list]]`.
    pub fn sections<'t>(&mut self, value: Value<'t>, name: &str) -> Vec<Section<'t>> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Array(array) => array
                .into_iter()
                .filter_map(|entry| self.section(entry, &format!("[[{name}]]")))
                .collect(),
            other => {
                let help = format!("write `[[{name}]]` with two brackets: each one adds an entry");
                let found = with_article(other.type_str());
                let message = format!("`{name}` must be a list of tables");
                self.error(span, message, &format!("this is {found}"), help);
                Vec::new()
            }
        }
    }
}

const SYNTAX_HELP: &str =
    "strings stand in quotes, lists in [ ], and each `key = value` on a line of its own";

fn with_article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) {
        "an"
    } else {
        "a"
    };
    format!("{article} {kind}")
}

/// The value of an integer; `None` for another type. Out of `i64` is out of every range, so it becomes `i64::MAX`.
pub(super) fn as_integer(value: &DeValue<'_>) -> Option<i64> {
    match value {
        DeValue::Integer(number) => {
            Some(i64::from_str_radix(number.as_str(), number.radix()).unwrap_or(i64::MAX))
        }
        _ => None,
    }
}
