//! Results in words and numbers: what `--json` prints and the page shows. `docs/bench.md` describes each field.

pub mod html;
mod plot;

use crate::outcome::Outcome;
use crate::search::{Bound, Found};
use crate::size::Size;
use hdrhistogram::Histogram;
use serde::Serialize;

/// The parts of the latencies that a curve is drawn through, in percent.
const CURVE: [f64; 20] = [
    0.0, 1.0, 5.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0, 70.0, 80.0, 90.0, 95.0, 98.0, 99.0, 99.5,
    99.9, 99.95, 99.99, 100.0,
];

/// All of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Version of the tester.
    pub version: String,
    /// The command line.
    pub command: String,
    /// When it began: RFC 3339, UTC.
    pub date: String,
    /// Where it ran.
    pub machine: Machine,
    /// The LAN port and the uplink port.
    pub ports: Vec<PortReport>,
    /// What was sent, and how.
    pub settings: Settings,
    /// RFC 2544 section 26.1.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throughput: Vec<Throughput>,
    /// RFC 2544 section 26.2.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub latency: Vec<Latency>,
    /// RFC 2544 section 26.3.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub loss: Vec<Loss>,
    /// RFC 2544 section 26.4.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub back_to_back: Vec<BackToBack>,
    /// Traffic of which a part is forbidden.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mix: Option<Mix>,
    /// Frames of all trials together.
    pub totals: Totals,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Frames of all trials together: what was sent has arrived or is lost.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Totals {
    /// Trials.
    pub trials: usize,
    /// Frames sent that should arrive.
    pub sent: u64,
    /// Those that did.
    pub received: u64,
    /// Those that did not.
    pub lost: u64,
    /// Those that arrived once more.
    pub duplicated: u64,
    /// Those that arrived after one that was sent later.
    pub reordered: u64,
    /// Frames without a mark of the tester's.
    pub foreign: u64,
    /// Frames that the tester itself lost.
    pub lost_by_tester: u64,
}

impl Report {
    /// Adds up the trials.
    pub fn sum(&mut self) {
        let mix = self.mix.iter();
        let searched = self
            .throughput
            .iter()
            .chain(mix.clone().map(|mix| &mix.throughput));
        let measured = self.latency.iter().chain(mix.flat_map(|mix| &mix.latency));
        let steps = self.loss.iter().flat_map(|loss| &loss.steps);
        let trials = searched
            .flat_map(|row| &row.trials)
            .chain(measured.map(|row| &row.trial))
            .chain(steps.map(|step| &step.trial));
        let mut totals = Totals::default();
        for trial in trials {
            totals.trials += 1;
            totals.sent += trial.sent;
            totals.received += trial.received;
            totals.lost += trial.lost;
            totals.duplicated += trial.duplicated;
            totals.reordered += trial.reordered;
            totals.foreign += trial.foreign;
            totals.lost_by_tester += trial.lost_by_tester;
        }
        self.totals = totals;
    }
}

/// Where a run was made.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    /// The processor, as the kernel calls it.
    pub cpu: String,
    /// Its cores, as the kernel counts them.
    pub cores: usize,
    /// The kernel's release.
    pub kernel: String,
}

/// A port of the tester.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PortReport {
    /// `lan` or `uplink`.
    pub side: &'static str,
    /// The NIC.
    pub interface: String,
    /// Its network namespace, if another than the command's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its driver, where the kernel tells.
    pub driver: String,
    /// `zero-copy`, `copy` or `generic`.
    pub mode: &'static str,
    /// Receive queues.
    pub queues: u32,
}

/// What was sent, and how.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Settings {
    /// Seconds of a trial.
    pub duration_s: f64,
    /// Seconds that stragglers were waited for.
    pub settle_s: f64,
    /// The part of the frames that might be lost.
    pub tolerance: f64,
    /// The part of the highest rate to which a search goes on.
    pub resolution: f64,
    /// How often a rate with loss was tried again.
    pub retries: u32,
    /// Both ways at once.
    pub both: bool,
    /// What the frames are.
    pub traffic: String,
    /// Flows.
    pub flows: usize,
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// What was asked for, frames a second in each direction; nothing for full speed.
    pub asked_fps: Option<f64>,
    /// What was offered, the same.
    pub offered_fps: f64,
    /// Frames sent that should arrive.
    pub sent: u64,
    /// Those that did.
    pub received: u64,
    /// Those that did not.
    pub lost: u64,
    /// Those that arrived once more.
    pub duplicated: u64,
    /// Those that arrived after one that was sent later.
    pub reordered: u64,
    /// Frames sent that must not arrive.
    pub forbidden: u64,
    /// Those that did.
    pub leaked: u64,
    /// Frames without a mark of the tester's.
    pub foreign: u64,
    /// Frames that the tester itself lost.
    pub lost_by_tester: u64,
    /// The tester offered what was asked for and lost nothing itself.
    pub valid: bool,
    /// It was valid, and no more was lost than may be.
    pub passed: bool,
}

impl Trial {
    /// What is to be said of it, if something is.
    pub fn doubt(&self) -> &'static str {
        match self.valid {
            true => "",
            false => "the tester could not keep up",
        }
    }

    /// Of a trial that passed or did not.
    pub fn of(outcome: &Outcome, passed: bool) -> Trial {
        Trial {
            asked_fps: outcome.asked.fixed(),
            offered_fps: outcome.offered(),
            sent: outcome.sent,
            received: outcome.received,
            lost: outcome.lost(),
            duplicated: outcome.duplicated,
            reordered: outcome.reordered,
            forbidden: outcome.forbidden,
            leaked: outcome.leaks(),
            foreign: outcome.foreign,
            lost_by_tester: outcome.lost_here,
            valid: outcome.valid(),
            passed,
        }
    }
}

/// The highest rate without loss, for one size.
#[derive(Clone, Debug, Serialize)]
pub struct Throughput {
    /// Bytes with FCS, or `imix`.
    pub size: String,
    /// Frames a second in each direction.
    pub fps: f64,
    /// Megabits a second of frames with FCS, in each direction.
    pub mbps: f64,
    /// The same with preamble and gap: what a line carries.
    pub line_mbps: f64,
    /// What bounds it: `device`, `tester` or `asked`.
    pub bound: &'static str,
    /// All trials, in order.
    pub trials: Vec<Trial>,
}

impl Throughput {
    /// What bounds it, for people.
    pub fn bound_by(&self) -> &'static str {
        match self.bound {
            "device" => "the device",
            "tester" => "the tester: the device may do more",
            _ => "what was asked for",
        }
    }

    /// Of what a search found.
    pub fn of(size: Size, found: &Found) -> Throughput {
        let fps = found.rate();
        Throughput {
            size: size.to_string(),
            fps,
            mbps: fps * size.mean() * 8.0 / 1e6,
            line_mbps: fps * size.wire_bits() / 1e6,
            bound: bound(found.bound),
            trials: found
                .trials
                .iter()
                .map(|(outcome, passed)| Trial::of(outcome, *passed))
                .collect(),
        }
    }
}

/// What bounds a rate, in a word.
fn bound(bound: Bound) -> &'static str {
    match bound {
        Bound::Device => "device",
        Bound::Tester => "tester",
        Bound::Asked => "asked",
    }
}

/// Latencies at one rate, for one size.
#[derive(Clone, Debug, Serialize)]
pub struct Latency {
    /// Bytes with FCS, or `imix`.
    pub size: String,
    /// Percent of the throughput; nothing where a rate was given.
    pub load_percent: Option<f64>,
    /// The trial.
    pub trial: Trial,
    /// What was measured.
    #[serde(flatten)]
    pub quantiles: Quantiles,
}

/// A distribution of latencies, in nanoseconds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Quantiles {
    /// How many there are.
    pub count: u64,
    /// The shortest.
    pub min_ns: u64,
    /// Half are no longer.
    pub median_ns: u64,
    /// The mean.
    pub mean_ns: f64,
    /// Of a hundred, one is longer.
    pub p99_ns: u64,
    /// Of a thousand, one is longer.
    pub p99_9_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// Percent, and nanoseconds that so many are within.
    pub curve: Vec<(f64, u64)>,
}

impl Quantiles {
    /// Of a histogram.
    pub fn of(latency: &Histogram<u64>) -> Quantiles {
        let at = |percent: f64| {
            latency
                .value_at_quantile(percent / 100.0)
                .min(latency.max())
        };
        Quantiles {
            count: latency.len(),
            min_ns: latency.min(),
            median_ns: at(50.0),
            mean_ns: latency.mean(),
            p99_ns: at(99.0),
            p99_9_ns: at(99.9),
            max_ns: latency.max(),
            curve: CURVE
                .iter()
                .map(|percent| (*percent, at(*percent)))
                .collect(),
        }
    }
}

/// Loss by rate, for one size.
#[derive(Clone, Debug, Serialize)]
pub struct Loss {
    /// Bytes with FCS, or `imix`.
    pub size: String,
    /// From the highest rate down.
    pub steps: Vec<LossStep>,
}

/// Loss at one rate.
#[derive(Clone, Debug, Serialize)]
pub struct LossStep {
    /// Percent of the highest rate.
    pub load_percent: f64,
    /// Percent of the frames that did not arrive.
    pub loss_percent: f64,
    /// The trial.
    pub trial: Trial,
}

/// The longest burst at full speed without loss, for one size.
#[derive(Clone, Debug, Serialize)]
pub struct BackToBack {
    /// Bytes with FCS, or `imix`.
    pub size: String,
    /// Each repetition's, in frames.
    pub bursts: Vec<u64>,
    /// Their mean, in frames.
    pub mean: f64,
    /// The longest that was tried; a burst of it says that the device may take longer ones.
    pub longest_tried: u64,
}

/// Traffic of which a part is forbidden.
#[derive(Clone, Debug, Serialize)]
pub struct Mix {
    /// Bytes with FCS, or `imix`.
    pub size: String,
    /// Rules of the policy that the traffic is made for.
    pub rules: usize,
    /// Flows that were opened.
    pub flows: usize,
    /// Flows of them that a frame passed through at the end.
    pub live_after: usize,
    /// Of a thousand frames so many are forbidden.
    pub forbidden_per_mille: u64,
    /// The highest rate without loss of what is allowed, forbidden frames counted in.
    pub throughput: Throughput,
    /// Latencies of what is allowed, at parts of that rate.
    pub latency: Vec<Latency>,
    /// Forbidden frames sent in all trials, and those that arrived, by what forbids them.
    pub kinds: Vec<Forbidden>,
    /// Forbidden frames that arrived, in all.
    pub leaked: u64,
}

/// Frames that one thing forbids.
#[derive(Clone, Debug, Serialize)]
pub struct Forbidden {
    /// What forbids them.
    pub kind: &'static str,
    /// Those sent.
    pub sent: u64,
    /// Those that arrived.
    pub leaked: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally;

    #[test]
    fn quantiles_are_those_of_the_numbers_to_three_digits() {
        let mut histogram = tally::histogram();
        (1..=10_000).for_each(|n| histogram.saturating_record(n * 100));
        let quantiles = Quantiles::of(&histogram);
        let near =
            |found: u64, right: u64| assert!(found.abs_diff(right) <= right / 500, "{found}");
        near(quantiles.median_ns, 500_000);
        near(quantiles.p99_ns, 990_000);
        near(quantiles.p99_9_ns, 999_000);
        near(quantiles.max_ns, 1_000_000);
        near(quantiles.min_ns, 100);
        assert_eq!(quantiles.count, 10_000);
        assert!(quantiles.curve.is_sorted_by_key(|(_, ns)| *ns));
    }
}
