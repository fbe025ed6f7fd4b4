//! Metric families, built for one scrape and thrown away: no registry, and no label is looked up. What there is of each rule is not among them: see `lines`.

use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair};
use prometheus::proto::{Metric, MetricFamily, MetricType};

/// Name and help of a family, and where its values come from.
pub(super) type Of<S, T> = (&'static str, &'static str, fn(&S) -> T);

/// Those of one scrape, in the order in which they were begun.
#[derive(Default)]
pub(super) struct Families(Vec<MetricFamily>);

impl Families {
    /// A family of counters; its name ends with `_total`.
    pub fn counter(&mut self, name: &str, help: &str) -> Series<'_> {
        self.family(name, help, MetricType::COUNTER)
    }

    /// A family of values that go up and down.
    pub fn gauge(&mut self, name: &str, help: &str) -> Series<'_> {
        self.family(name, help, MetricType::GAUGE)
    }

    /// A histogram without labels. `counts` are those up to each of `bounds` and not up to the one before, and then of what is beyond them.
    pub fn histogram(&mut self, name: &str, help: &str, bounds: &[f64], counts: &[u64], sum: f64) {
        let mut total = 0;
        let mut buckets = Vec::with_capacity(bounds.len());
        for (bound, count) in bounds.iter().zip(counts) {
            total += count;
            let mut bucket = Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(total);
            buckets.push(bucket);
        }
        total += counts.iter().skip(bounds.len()).sum::<u64>();
        let mut histogram = Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(total);
        histogram.set_sample_sum(sum);
        let mut metric = Metric::default();
        metric.set_histogram(histogram);
        let series = self.family(name, help, MetricType::HISTOGRAM);
        series.0.mut_metric().push(metric);
    }

    fn family(&mut self, name: &str, help: &str, kind: MetricType) -> Series<'_> {
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        self.0.push(family);
        let last = self.0.len() - 1;
        Series(&mut self.0[last])
    }

    /// Those that have a series.
    pub fn done(mut self) -> Vec<MetricFamily> {
        self.0.retain(|family| !family.get_metric().is_empty());
        self.0
    }
}

/// One family, to put series into.
pub(super) struct Series<'a>(&'a mut MetricFamily);

impl Series<'_> {
    /// The series of these labels, each a name and a value.
    pub fn put(&mut self, labels: &[(&str, &str)], value: f64) {
        let pair = |(name, value): &(&str, &str)| {
            let mut pair = LabelPair::default();
            pair.set_name((*name).to_owned());
            pair.set_value((*value).to_owned());
            pair
        };
        let mut metric = Metric::from_label(labels.iter().map(pair).collect());
        if self.0.get_field_type() == MetricType::COUNTER {
            let mut counter = Counter::default();
            counter.set_value(value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(value);
            metric.set_gauge(gauge);
        }
        self.0.mut_metric().push(metric);
    }

    /// The same of a count.
    pub fn count(&mut self, labels: &[(&str, &str)], n: u64) {
        self.put(labels, n as f64);
    }
}
