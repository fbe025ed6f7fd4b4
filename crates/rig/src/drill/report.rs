//! What many runs have shown, in a table and in JSON.

use super::{Cause, Mode, Outcome};
use comfy_table::Table;
use serde::Serialize;
use std::time::Duration;

/// All runs of one cause in one mode.
#[derive(Debug, Serialize)]
pub struct Line {
    /// `closed` or `open`.
    pub mode: &'static str,
    /// See [`Cause`].
    pub cause: &'static str,
    /// How many.
    pub runs: usize,
    /// Those in which the gate came into its fail mode.
    pub failed: usize,
    /// Those in which it came back.
    pub back: usize,
    /// Milliseconds to the fail mode: median, most.
    pub failed_ms: [f64; 2],
    /// Milliseconds from the end of the cause to the policy: median, most.
    pub back_ms: [f64; 2],
    /// Forbidden frames that got through where none may, of all runs.
    pub leaked: u64,
    /// Forbidden frames that got through in open mode, of all runs.
    pub unfiltered: u64,
    /// Allowed frames that did not arrive, in one run: median, most.
    pub lost: [u64; 2],
    /// Allowed frames that arrived late, in one run, at most.
    pub late: u64,
    /// Milliseconds in which no allowed frame arrived, the longest of a run: median, most.
    pub silent_ms: [f64; 2],
}

impl Line {
    /// Makes it of `outcomes`, which are some.
    pub fn of(mode: Mode, cause: Cause, outcomes: &[Outcome]) -> Line {
        let times = |of: fn(&Outcome) -> Option<Duration>| -> Vec<f64> {
            let all = outcomes.iter().filter_map(of);
            let mut all: Vec<f64> = all.map(|time| time.as_secs_f64() * 1000.0).collect();
            all.sort_by(f64::total_cmp);
            all
        };
        let ends = |all: &[f64]| {
            [all.len() / 2, all.len().saturating_sub(1)]
                .map(|at| all.get(at).copied().unwrap_or(0.0))
        };
        let silent = times(|o| Some(o.silent_for));
        let (failed, back) = (times(|o| o.failed_after), times(|o| o.back_after));
        let mut lost: Vec<u64> = outcomes.iter().map(|o| o.lost).collect();
        lost.sort_unstable();
        Line {
            mode: mode.name(),
            cause: cause.name(),
            runs: outcomes.len(),
            failed: failed.len(),
            back: back.len(),
            failed_ms: ends(&failed),
            back_ms: ends(&back),
            leaked: outcomes.iter().map(|o| o.leaked).sum(),
            unfiltered: outcomes.iter().map(|o| o.unfiltered).sum(),
            lost: [lost.len() / 2, lost.len().saturating_sub(1)]
                .map(|at| lost.get(at).copied().unwrap_or(0)),
            late: outcomes.iter().map(|o| o.late).max().unwrap_or(0),
            silent_ms: ends(&silent),
        }
    }
}

/// The whole drill.
#[derive(Debug, Serialize)]
pub struct Report {
    /// How it was started.
    pub command: String,
    /// The machine: processor and kernel.
    pub machine: String,
    /// The gate's watchdog, milliseconds.
    pub watchdog_ms: u64,
    /// A line a cause and mode.
    pub lines: Vec<Line>,
}

impl Report {
    /// For people.
    pub fn text(&self) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::presets::ASCII_MARKDOWN);
        table.set_header([
            "on_failure",
            "cause",
            "runs",
            "fail mode after, ms: median",
            "most",
            "back after, ms: median",
            "most",
            "leaked",
            "unfiltered",
            "allowed, lost in a run: median",
            "most",
            "late, most",
            "none arrived for, ms: median",
            "most",
        ]);
        for line in &self.lines {
            let ms = |ms: f64| format!("{ms:.1}");
            table.add_row([
                line.mode.to_owned(),
                line.cause.to_owned(),
                line.runs.to_string(),
                ms(line.failed_ms[0]),
                ms(line.failed_ms[1]),
                ms(line.back_ms[0]),
                ms(line.back_ms[1]),
                line.leaked.to_string(),
                line.unfiltered.to_string(),
                line.lost[0].to_string(),
                line.lost[1].to_string(),
                line.late.to_string(),
                ms(line.silent_ms[0]),
                ms(line.silent_ms[1]),
            ]);
        }
        format!(
            "{}\n{}\nwatchdog {} ms; 4,000 allowed and 1,000 forbidden frames a second\n\n{table}\n",
            self.command, self.machine, self.watchdog_ms
        )
    }

    /// What may not be: a run in which the gate did not come into its fail mode, or not back, or let through what it may not; and at a hand-over, one that lost a
    /// frame.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for line in &self.lines {
            let mut say =
                |what: String| faults.push(format!("{} {}: {what}", line.mode, line.cause));
            let handover = line.cause == Cause::Handover.name();
            if handover && (line.lost[1] > 0 || line.unfiltered > 0) {
                say(format!(
                    "up to {} frames were lost in a run, {} passed unfiltered",
                    line.lost[1], line.unfiltered
                ));
            }
            if line.failed < line.runs && !handover {
                say(format!(
                    "no fail mode in {} of {} runs",
                    line.runs - line.failed,
                    line.runs
                ));
            }
            if line.back < line.runs {
                say(format!(
                    "not back in {} of {} runs",
                    line.runs - line.back,
                    line.runs
                ));
            }
            if line.leaked > 0 {
                say(format!("{} forbidden frames got through", line.leaked));
            }
        }
        faults
    }
}

/// Processor and kernel of this machine.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpus = read("/proc/cpuinfo");
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let count = cpus.matches("processor\t").count();
    let model = model.map_or("a processor", |(_, model)| model);
    format!(
        "{model}, {count} cores, Linux {}",
        read("/proc/sys/kernel/osrelease").trim()
    )
}

/// The time, as it stands in the names of results.
pub fn time() -> String {
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    now.chars().filter(|c| *c != ':').collect()
}

impl Report {
    /// A report without lines, of this machine.
    pub fn new(command: String, watchdog: Duration) -> Report {
        Report {
            command,
            machine: machine(),
            watchdog_ms: watchdog.as_millis() as u64,
            lines: Vec::new(),
        }
    }
}
