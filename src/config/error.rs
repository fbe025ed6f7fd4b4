//! What is wrong with a config: where it stands (file, line, column), and what would be right.

use miette::{Diagnostic, LabeledSpan, NamedSource, SourceCode, SourceSpan};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// A text file that problems point into. Cheap to clone.
pub type Source = NamedSource<Arc<str>>;

/// One error or warning.
#[derive(Clone, Debug)]
pub struct Problem {
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// What would be right.
    pub help: Option<String>,
    /// What the label under the text says.
    pub label: String,
    /// The file.
    pub file: String,
    /// Line, 1-based; 0 where the problem is not in the text.
    pub line: usize,
    /// Column in characters, 1-based; 0 where the problem is not in the text.
    pub column: usize,
    /// A warning does not stop the config from loading.
    pub warning: bool,
    /// Other places in the same text that it is about, in the order in which they were added.
    pub others: Vec<Place>,
    text: Option<(Box<Source>, SourceSpan)>,
}

/// Another place that a problem is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What the label under the text says.
    pub label: String,
    /// Line, 1-based.
    pub line: usize,
    /// Column in characters, 1-based.
    pub column: usize,
    span: SourceSpan,
}

impl Problem {
    /// An error in a text.
    pub fn at(
        source: &Source,
        span: Range<usize>,
        message: impl Into<String>,
        label: impl Into<String>,
    ) -> Problem {
        let (line, column) = position(source.inner(), span.start);
        Problem {
            message: message.into(),
            help: None,
            label: label.into(),
            file: source.name().to_owned(),
            line,
            column,
            warning: false,
            others: Vec::new(),
            text: Some((Box::new(source.clone()), span.into())),
        }
    }

    /// An error of a whole file.
    pub fn of_file(file: impl Into<String>, message: impl Into<String>) -> Problem {
        Problem {
            message: message.into(),
            help: None,
            label: String::new(),
            file: file.into(),
            line: 0,
            column: 0,
            warning: false,
            others: Vec::new(),
            text: None,
        }
    }

    /// Says what would be right.
    pub fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    /// Makes it a warning.
    pub fn warn(mut self) -> Problem {
        self.warning = true;
        self
    }

    /// Byte offset in the text, for sorting.
    pub(super) fn offset(&self) -> usize {
        self.text.as_ref().map_or(0, |(_, span)| span.offset())
    }

    /// The problem in one line: `portcullis.toml:12:9: unknown key `dprt`: did you mean `dport`?`.
    pub fn one_line(&self) -> String {
        let place = if self.line == 0 {
            self.file.clone()
        } else {
            format!("{}:{}:{}", self.file, self.line, self.column)
        };
        let help = self
            .help
            .as_ref()
            .map_or_else(String::new, |help| format!(": {help}"));
        format!("{place}: {}{help}", self.message)
    }
}

/// Where the lines of a text start, for many problems of a long text.
pub(super) struct Lines {
    source: Source,
    starts: Vec<usize>,
}

impl Lines {
    pub fn new(source: &Source) -> Lines {
        let ends = source.inner().match_indices('\n').map(|(at, _)| at + 1);
        Lines {
            starts: std::iter::once(0).chain(ends).collect(),
            source: source.clone(),
        }
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let start = self.starts.get(line.wrapping_sub(1)).copied().unwrap_or(0);
        let before = self.source.inner().get(start..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// [`Problem::at`].
    pub fn problem(&self, span: Range<usize>, message: String, label: String) -> Problem {
        let (line, column) = self.position(span.start);
        Problem {
            message,
            label,
            line,
            column,
            text: Some((Box::new(self.source.clone()), span.into())),
            ..Problem::of_file(self.source.name(), "")
        }
    }

    /// Adds another place of this text to a problem of it.
    pub fn and(&self, problem: &mut Problem, span: Range<usize>, label: impl Into<String>) {
        let (line, column) = self.position(span.start);
        problem.others.push(Place {
            label: label.into(),
            line,
            column,
            span: span.into(),
        });
    }
}

/// Line and column of a byte offset, both 1-based, the column in characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (
        before.matches('\n').count() + 1,
        before[line_start..].chars().count() + 1,
    )
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<miette::Severity> {
        Some(if self.warning {
            miette::Severity::Warning
        } else {
            miette::Severity::Error
        })
    }

    fn help<'a>(&'a self) -> Option<Box<dyn fmt::Display + 'a>> {
        self.help.as_ref().map(|help| Box::new(help) as _)
    }

    fn source_code(&self) -> Option<&dyn SourceCode> {
        self.text.as_ref().map(|(source, _)| &**source as _)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let (_, span) = self.text.as_ref()?;
        let text = |label: &String| (!label.is_empty()).then(|| label.clone());
        let first = LabeledSpan::new_primary_with_span(text(&self.label), *span);
        let others = self.others.iter();
        let others =
            others.map(move |place| LabeledSpan::new_with_span(text(&place.label), place.span));
        Some(Box::new(std::iter::once(first).chain(others)))
    }
}

/// Every error of a config. Displays as one line.
#[derive(Clone, Debug)]
pub struct ConfigError {
    /// In the order of the text; at least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = self.problems.len().saturating_sub(1);
        match self.problems.first() {
            Some(first) if more > 0 => write!(f, "{} (and {more} more)", first.one_line()),
            Some(first) => f.write_str(&first.one_line()),
            None => f.write_str("the config is not valid"),
        }
    }
}

impl std::error::Error for ConfigError {}

impl Diagnostic for ConfigError {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(
            self.problems
                .iter()
                .map(|problem| problem as &dyn Diagnostic),
        ))
    }
}

/// Problems drawn with their text, for a terminal (`colour`) or a file.
pub fn render<'a>(problems: impl IntoIterator<Item = &'a Problem>, colour: bool) -> String {
    let theme = if colour {
        miette::GraphicalTheme::unicode()
    } else {
        miette::GraphicalTheme::unicode_nocolor()
    };
    let handler = miette::GraphicalReportHandler::new_themed(theme)
        .with_links(false)
        .with_width(80);
    let mut out = String::new();
    for problem in problems {
        if handler.render_report(&mut out, problem).is_err() {
            out.push_str(&problem.one_line());
        }
        out.push('\n');
    }
    out
}

/// The candidate nearest to `name`, where it is near enough to be a slip of the fingers.
pub(super) fn nearest<'a>(
    name: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    let near = candidates
        .into_iter()
        .map(|candidate| (distance(name, candidate), candidate));
    near.filter(|(far, _)| *far <= limit)
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance: insertions, deletions, substitutions, and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (
        a.to_lowercase().chars().collect(),
        b.to_lowercase().chars().collect(),
    );
    let mut rows = vec![(0..=b.len()).collect::<Vec<_>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(row[j - 1] + 1)
                .min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_fingers_finds_its_word_and_another_word_does_not() {
        let keys = ["dport", "sport", "proto", "enabled"];
        assert_eq!(nearest("dprot", keys), Some("dport"));
        assert_eq!(nearest("Enabeld", keys), Some("enabled"));
        assert_eq!(nearest("colour", keys), None);
    }

    #[test]
    fn lines_and_columns_count_characters_from_one() {
        assert_eq!(position("a\näö = 1", 1), (1, 2));
        assert_eq!(position("a\näö = 1", 6), (2, 3));
        assert_eq!(position("", 0), (1, 1));
    }
}
