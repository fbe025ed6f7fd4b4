//! The lines of either format as they stand in the text: for OpenMetrics, which the prometheus crate does not write, and for what there is of each rule, which ten
//! thousand rules make too much of for values that are built first and written then (36 ms a scrape, and not 10).

use super::Format;
use std::fmt::{Display, Result, Write};

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// The lines before the samples of a family. In OpenMetrics the name of a family of counters is without `_total`, which its samples have.
pub(super) fn head(
    out: &mut String,
    format: Format,
    (name, kind): (&str, Kind),
    help: &str,
) -> Result {
    let name = match format {
        Format::OpenMetrics => name.trim_end_matches("_total"),
        Format::Text => name,
    };
    writeln!(out, "# TYPE {name} {}", kind.name())?;
    write!(out, "# HELP {name} ")?;
    escaped(help, format == Format::OpenMetrics, out);
    out.write_char('\n')
}

/// One sample, under the whole name that it has.
pub(super) fn sample<'a>(
    out: &mut String,
    name: &str,
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    value: impl Display,
) -> Result {
    out.push_str(name);
    let mut open = '{';
    for (name, value) in labels {
        out.push(open);
        out.push_str(name);
        out.push_str("=\"");
        escaped(value, true, out);
        out.push('"');
        open = ',';
    }
    if open == ',' {
        out.push('}');
    }
    writeln!(out, " {value}")
}

/// Help texts of the older format have no quotes to escape.
fn escaped(text: &str, quotes: bool, out: &mut String) {
    if !text.contains(['\\', '"', '\n']) {
        out.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' if quotes => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}
