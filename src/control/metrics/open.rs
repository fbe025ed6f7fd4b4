//! The OpenMetrics text format, version 1.0.0 (prometheus.io/docs/specs/om/open_metrics_spec), which the prometheus crate does not write.
//!
//! It differs from the older text format in what a family of counters is called, in the form of bounds, and in its end.

use super::Format;
use super::lines::{Kind, head, sample};
use prometheus::proto::{Metric, MetricFamily, MetricType};
use std::fmt::Result;

/// As it is asked for and answered.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The end of the whole text.
pub const END: &str = "# EOF\n";

/// Writes the families.
///
/// # Errors
/// Only what `out` says.
pub(super) fn encode(families: &[MetricFamily], out: &mut String) -> Result {
    for family in families {
        let kind = match family.get_field_type() {
            MetricType::COUNTER => Kind::Counter,
            MetricType::HISTOGRAM => Kind::Histogram,
            _ => Kind::Gauge,
        };
        let name = family.name();
        head(out, Format::OpenMetrics, (name, kind), family.help())?;
        for metric in family.get_metric() {
            match kind {
                Kind::Counter => {
                    sample(out, name, labels(metric), metric.get_counter().get_value())?
                }
                Kind::Gauge => sample(out, name, labels(metric), metric.get_gauge().get_value())?,
                Kind::Histogram => histogram(out, name, metric)?,
            }
        }
    }
    Ok(())
}

fn labels(metric: &Metric) -> impl Iterator<Item = (&str, &str)> {
    let pairs = metric.get_label().iter();
    pairs.map(|pair| (pair.name(), pair.value()))
}

fn histogram(out: &mut String, name: &str, metric: &Metric) -> Result {
    let histogram = metric.get_histogram();
    let count = histogram.get_sample_count();
    let bucket = format!("{name}_bucket");
    for one in histogram.get_bucket() {
        let le = bound(one.upper_bound());
        let all = labels(metric).chain([("le", &*le)]);
        sample(out, &bucket, all, one.cumulative_count())?;
    }
    sample(out, &bucket, labels(metric).chain([("le", "+Inf")]), count)?;
    sample(
        out,
        &format!("{name}_sum"),
        labels(metric),
        histogram.get_sample_sum(),
    )?;
    sample(out, &format!("{name}_count"), labels(metric), count)
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
"#;
        assert_eq!(text, expected);
    }
}
