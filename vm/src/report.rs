//! What was found, as text and as JSON.

use std::fmt::Write;
use std::process::Command;

use comfy_table::{Table, presets};
use rig::demo;
use serde::Serialize;

use crate::gate::Running;
use crate::hops;
use crate::mode::Mode;
use crate::qemu::Accelerator;
use crate::scrape::Answer;
use crate::trial::Row;

/// One boot of the three machines.
#[derive(Debug, Serialize)]
pub struct Run {
    /// The mode that was asked for.
    pub asked: Mode,
    /// That which it was.
    pub mode: Mode,
    /// Why it was another.
    pub fell_back: Option<String>,
    /// The gate's kernel.
    pub kernel: String,
    /// What ran the machines.
    pub qemu: String,
    /// On what.
    pub accelerator: Accelerator,
    /// Why on that.
    pub because: String,
    /// Until all three answered, seconds.
    pub booted_s: f32,
    /// How the gate ran.
    pub gate: Running,
    /// What the demo found.
    pub demo: Option<demo::Report>,
    /// What Prometheus knew.
    pub scraped: Vec<Answer>,
    /// Loads.
    pub loads: Vec<Row>,
    /// What is wrong; empty where all is well.
    pub wrong: Vec<String>,
}

/// All of a session.
#[derive(Debug, Serialize)]
pub struct Report {
    /// True where nothing is wrong.
    pub ok: bool,
    /// When it began, RFC 3339.
    pub date: String,
    /// The command line.
    pub command: String,
    /// The processor and the kernel of this machine.
    pub machine: String,
    /// One for each mode.
    pub runs: Vec<Run>,
}

/// What has to stand beside each figure.
const WORTH: &str = "Figures of three machines on one processor, mostly of the emulator where there is one: they show that drivers work and that nothing is lost or leaks, and no performance.";

impl Report {
    /// Of these runs.
    pub fn new(runs: Vec<Run>) -> Report {
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now());
        Report {
            ok: runs.iter().all(|run| run.wrong.is_empty()),
            date: now.to_string(),
            command: command_line(),
            machine: machine(),
            runs,
        }
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self)
            .unwrap_or_else(|e| format!("{{\"ok\":false,\"error\":\"{e}\"}}"))
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}\n{}\n$ {}", self.date, self.machine, self.command);
        for run in &self.runs {
            run.tell(&mut text);
        }
        let _ = writeln!(text, "\n{WORTH}");
        let wrong: usize = self.runs.iter().map(|run| run.wrong.len()).sum();
        let _ = match wrong {
            0 => writeln!(text, "Nothing is wrong."),
            n => writeln!(text, "{n} WRONG"),
        };
        text
    }
}

impl Run {
    fn tell(&self, text: &mut String) {
        let gate = &self.gate;
        let _ = writeln!(
            text,
            "\n=== {}: {} and {}, gate in {} mode, {} queues a port, kernel {}, qemu {}",
            self.mode.name(),
            gate.driver[0],
            gate.driver[1],
            gate.mode[0],
            gate.queues[0],
            self.kernel,
            self.qemu
        );
        if let Some(why) = &self.fell_back {
            let _ = writeln!(text, "NOT {}: {why}", self.asked.name());
        }
        let _ = writeln!(text, "on {}: {}", self.accelerator.name(), self.because);
        let _ = writeln!(
            text,
            "three machines up after {:.1} s; the service, enabled by systemctl, ready after {:.1} s",
            self.booted_s, gate.ready_after_s
        );
        if let Some(demo) = &self.demo {
            text.push_str(&demo.text());
        }
        if !self.scraped.is_empty() {
            let _ = writeln!(text, "\nPrometheus, over the management NIC");
            for answer in &self.scraped {
                let _ = writeln!(text, "  {} = {}", answer.query, answer.value);
            }
        }
        if !self.loads.is_empty() {
            let _ = writeln!(
                text,
                "\nload, a tenth of it forbidden frames\n{}",
                table(&self.loads)
            );
            for row in self.loads.iter().filter(|row| row.lost > 0) {
                let Row { what, outcome, .. } = row;
                let _ = writeln!(
                    text,
                    "{what}: {} {}",
                    hops::line(&outcome.hops),
                    outcome.sink
                );
            }
        }
        for wrong in &self.wrong {
            let _ = writeln!(text, "WRONG  {wrong}");
        }
    }
}

fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "load",
        "size",
        "frames/s",
        "sent",
        "arrived",
        "lost",
        "longest gap",
        "forbidden",
        "leaked",
        "Mbit/s",
        "ok",
    ]);
    for row in rows {
        let Row { outcome, .. } = row;
        table.add_row([
            row.what.clone(),
            row.size.to_owned(),
            format!("{:.0}", outcome.sent.offered_fps),
            outcome.sent.sent.to_string(),
            outcome.heard.received.to_string(),
            row.lost.to_string(),
            format!("{:.0} ms", outcome.silence_ms()),
            outcome.sent.forbidden.to_string(),
            outcome.heard.leaked.to_string(),
            format!("{:.1}", outcome.mbps()),
            row.word().to_owned(),
        ]);
    }
    table
}

/// As it can be typed again: where the program lies says nothing.
fn command_line() -> String {
    let words = std::env::args().skip(1);
    std::iter::once("vm-lab".to_owned())
        .chain(words)
        .collect::<Vec<_>>()
        .join(" ")
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("unknown processor", |(_, model)| model.trim());
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = Command::new("uname")
        .arg("-r")
        .output()
        .map(|out| String::from_utf8_lossy(&out.stdout).trim().to_owned());
    format!(
        "{model}, {cores} cores, Linux {}",
        kernel.unwrap_or_default()
    )
}
