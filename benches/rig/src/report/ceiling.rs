//! What the gate's loop does with no kernel in the way: `portcullis bench ceiling`, in the same run.

use super::markdown::table;
use crate::Failure;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// A 100 Gbit/s line of IMIX on one core.
const WANTED_NS: f64 = 29.0;

/// What it prints as JSON, as far as it is shown here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceiling {
    points: Vec<Point>,
    lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Point {
    rules: u32,
    flows: u32,
    workers: u32,
    loop_ns: f64,
    quick_ns: f64,
    opening_ns: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    rules: u32,
    flows: u32,
    workers: u32,
    size: String,
    gigabits: u32,
    busy: f64,
}

/// Has the gate measure it on one of the cores, which has nothing else to do.
pub fn measure(gate: &Path, core: usize) -> Result<Ceiling, Failure> {
    let done = Command::new("taskset")
        .args(["-c", &core.to_string()])
        .arg(gate)
        .args(["bench", "ceiling", "--json"])
        .stdin(Stdio::null())
        .output()?;
    if !done.status.success() {
        let said = String::from_utf8_lossy(&done.stderr);
        return Err(format!("portcullis bench ceiling: {}", said.trim()).into());
    }
    Ok(serde_json::from_slice(&done.stdout)?)
}

/// A part of the page: what a frame costs, and how many workers a full line keeps busy.
pub fn part(ceiling: &Ceiling) -> String {
    let mut out = "\n## With no kernel in the way\n\n".to_owned();
    let head = [
        "rules",
        "flows",
        "workers",
        "ns a frame",
        "quickest tenth",
        "where a flow opens",
        "Mpps a worker",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(ceiling.points.iter().map(|point| {
        [
            point.rules.to_string(),
            point.flows.to_string(),
            point.workers.to_string(),
            format!("{:.1}", point.loop_ns),
            format!("{:.1}", point.quick_ns),
            format!("{:.1}", point.opening_ns),
            format!("{:.3}", 1e3 / point.loop_ns),
        ]
    }));
    let _ = writeln!(out, "{}", table(&rows));
    // By size, and of each by line, a row for each point.
    let mut busy: BTreeMap<(u32, u32, u32), Vec<&Line>> = BTreeMap::new();
    for line in &ceiling.lines {
        let of = (line.rules, line.flows, line.workers);
        busy.entry(of).or_default().push(line);
    }
    let _ = writeln!(
        out,
        "Workers that a full line keeps busy, one way, were there nothing but the loop:\n"
    );
    for ((rules, flows, workers), lines) in busy {
        let each: Vec<String> = lines
            .iter()
            .map(|line| format!("{} at {}G {:.2}", line.size, line.gigabits, line.busy))
            .collect();
        let _ = writeln!(
            out,
            "- {rules} rules, {flows} flows, {workers} at once: {}",
            each.join(", ")
        );
    }
    let most = ceiling.points.iter().map(|point| point.loop_ns);
    if let Some(most) = most.reduce(f64::max) {
        let enough = if most <= WANTED_NS { "yes" } else { "no" };
        let _ = writeln!(
            out,
            "- bar: a 100 Gbit/s line of IMIX on one core: {most:.1} ns a frame at most (wanted {WANTED_NS}): {enough}"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceiling(loop_ns: f64) -> Ceiling {
        let line = |size: &str, gigabits, busy| Line {
            rules: 1000,
            flows: 10_000,
            workers: 1,
            size: size.to_owned(),
            gigabits,
            busy,
        };
        Ceiling {
            points: vec![Point {
                rules: 1000,
                flows: 10_000,
                workers: 1,
                loop_ns,
                quick_ns: loop_ns - 1.0,
                opening_ns: 300.0,
            }],
            lines: vec![line("64", 10, 0.5), line("imix", 100, 1.25)],
        }
    }

    #[test]
    fn the_part_has_the_costs_the_lines_and_the_bar() {
        let slow = part(&ceiling(40.0));
        assert!(
            slow.contains("| 1000  | 10000 |       1 |       40.0 |"),
            "{slow}"
        );
        assert!(
            slow.contains(
                "- 1000 rules, 10000 flows, 1 at once: 64 at 10G 0.50, imix at 100G 1.25\n"
            )
        );
        assert!(slow.contains("40.0 ns a frame at most (wanted 29): no"));
        assert!(part(&ceiling(28.0)).contains("(wanted 29): yes"));
    }
}
