//! The OpenMetrics text format, version 1.0.0 (prometheus.io/docs/specs/om/open_metrics_spec), which the prometheus crate does not write.
//!
//! It differs from the older text format in what a family of counters is called, in the form of bounds, and in its end.

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};
use std::fmt::{Result, Write};

/// As it is asked for and answered.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Writes the families.
///
/// # Errors
/// Only what `out` says.
pub(super) fn encode(families: &[MetricFamily], out: &mut String) -> Result {
    for family in families {
        let kind = family.get_field_type();
        let name = match kind {
            MetricType::COUNTER => family.name().trim_end_matches("_total"),
            _ => family.name(),
        };
        let words = match kind {
            MetricType::COUNTER => "counter",
            MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        };
        writeln!(out, "# TYPE {name} {words}")?;
        out.push_str("# HELP ");
        out.push_str(name);
        out.push(' ');
        escaped(family.help(), out);
        out.push('\n');
        for metric in family.get_metric() {
            match kind {
                MetricType::COUNTER => {
                    sample(
                        out,
                        name,
                        "_total",
                        metric,
                        None,
                        metric.get_counter().get_value(),
                    )?;
                }
                MetricType::HISTOGRAM => histogram(out, name, metric)?,
                _ => sample(out, name, "", metric, None, metric.get_gauge().get_value())?,
            }
        }
    }
    out.write_str("# EOF\n")
}

fn histogram(out: &mut String, name: &str, metric: &Metric) -> Result {
    let histogram = metric.get_histogram();
    let count = histogram.get_sample_count() as f64;
    for bucket in histogram.get_bucket() {
        let le = bound(bucket.upper_bound());
        let n = bucket.cumulative_count() as f64;
        sample(out, name, "_bucket", metric, Some(&le), n)?;
    }
    sample(out, name, "_bucket", metric, Some("+Inf"), count)?;
    sample(out, name, "_sum", metric, None, histogram.get_sample_sum())?;
    sample(out, name, "_count", metric, None, count)
}

/// With a point, and without an exponent, as the older format has it.
fn bound(value: f64) -> String {
    let text = value.to_string();
    if text.contains('.') {
        text
    } else {
        text + ".0"
    }
}

fn sample(
    out: &mut String,
    name: &str,
    suffix: &str,
    metric: &Metric,
    le: Option<&str>,
    value: f64,
) -> Result {
    out.push_str(name);
    out.push_str(suffix);
    let labels = metric.get_label().iter();
    let labels = labels.map(|pair: &LabelPair| (pair.name(), pair.value()));
    let mut open = '{';
    for (name, value) in labels.chain(le.map(|le| ("le", le))) {
        out.push(open);
        out.push_str(name);
        out.push_str("=\"");
        escaped(value, out);
        out.push('"');
        open = ',';
    }
    if open == ',' {
        out.push('}');
    }
    writeln!(out, " {value}")
}

fn escaped(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::family::Families;
    use super::encode;

    #[test]
    fn each_kind_of_family_is_written_as_the_specification_has_it() {
        let mut families = Families::default();
        let mut frames = families.counter("frames_total", "Frames \"seen\".");
        frames.count(&[("port", "lan"), ("verdict", "a\"b\\c\nd")], 3);
        frames.count(&[("port", "uplink"), ("verdict", "drop")], 1 << 53);
        families.gauge("empty", "Nothing.");
        families.gauge("ratio", "Now.").put(&[], 0.25);
        families.histogram("took_seconds", "Long.", &[1e-6, 1.0], &[2, 1, 4], 7.5);
        let mut text = String::new();
        encode(&families.done(), &mut text).unwrap();
        let expected = r#"# TYPE frames counter
# HELP frames Frames \"seen\".
frames_total{port="lan",verdict="a\"b\\c\nd"} 3
frames_total{port="uplink",verdict="drop"} 9007199254740992
# TYPE ratio gauge
# HELP ratio Now.
ratio 0.25
# TYPE took_seconds histogram
# HELP took_seconds Long.
took_seconds_bucket{le="0.000001"} 2
took_seconds_bucket{le="1.0"} 3
took_seconds_bucket{le="+Inf"} 7
took_seconds_sum 7.5
took_seconds_count 7
# EOF
"#;
        assert_eq!(text, expected);
    }
}
