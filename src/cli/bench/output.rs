//! Telling results: as they come, and at the end.

use super::options::{Output, Traffic};
use super::stage::Trouble;
use super::table::table;
use std::io::IsTerminal;
use std::process::ExitCode;
use traffic::outcome::Outcome;
use traffic::report::{Report, html};
use traffic::size::Size;

/// A line on standard error that changes as trials end, where somebody watches.
pub(super) struct Progress {
    watched: bool,
    trials: u32,
}

impl Progress {
    pub(super) fn new() -> Progress {
        Progress {
            watched: std::io::stderr().is_terminal(),
            trials: 0,
        }
    }

    pub(super) fn say(&mut self, text: &str) {
        if self.watched {
            eprint!("\r\x1b[K{text}");
        }
    }

    pub(super) fn trial(&mut self, size: Size, outcome: &Outcome) {
        self.trials += 1;
        let text = format!(
            "{size}: trial {}: {} offered, {} of {} lost{}",
            self.trials,
            rate(outcome.offered()),
            outcome.lost(),
            outcome.sent,
            if outcome.valid() {
                ""
            } else {
                ", the tester could not keep up"
            }
        );
        self.say(&text);
    }

    pub(super) fn done(&mut self) {
        self.say("");
    }
}

/// Frames a second, for people.
pub(super) fn rate(fps: f64) -> String {
    match fps {
        1e6.. => format!("{:.3} Mfps", fps / 1e6),
        1e4.. => format!("{:.1} kfps", fps / 1e3),
        _ => format!("{fps:.0} fps"),
    }
}

/// What is sent, in a line.
pub(super) fn traffic(traffic: &Traffic) -> String {
    if let Some(path) = &traffic.capture {
        return format!("frames of {}", path.display());
    }
    let proto = match traffic.proto {
        traffic::flow::Protocol::Udp => "udp",
        traffic::flow::Protocol::Tcp => "tcp",
    };
    let ports = |ports: &std::ops::RangeInclusive<u16>| match ports.start() == ports.end() {
        true => ports.start().to_string(),
        false => format!("{}-{}", ports.start(), ports.end()),
    };
    format!(
        "{proto} {} port {} > {} port {}",
        traffic.src,
        ports(&traffic.sport),
        traffic.dst,
        ports(&traffic.dport)
    )
}

impl Output {
    /// Sees that the page can be written, before hours are spent on what is to be in it.
    pub(super) fn ready(&self) -> Result<(), String> {
        let Some(path) = &self.html else {
            return Ok(());
        };
        let open = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path);
        open.map(drop)
            .map_err(|e| format!("{}: {e}", path.display()))
    }
}

/// Prints and writes what was asked for, and what ended the run early. Exit status 1 where something forbidden got through.
pub(super) fn tell(report: &Report, ended: Option<Trouble>, output: &Output) -> ExitCode {
    if output.json {
        let printed = super::super::print_json(report);
        if printed != ExitCode::SUCCESS {
            return printed;
        }
    } else {
        print!("{}", table(report));
    }
    if let Some(path) = &output.html
        && let Err(e) = std::fs::write(path, html::page(report))
    {
        return super::super::cannot(format!("{}: {e}", path.display()));
    }
    if let Some(e) = ended {
        return super::super::cannot(format!("{e} (what was measured before is told)"));
    }
    match &report.mix {
        Some(mix) if mix.leaked > 0 => ExitCode::from(super::super::NO),
        _ => ExitCode::SUCCESS,
    }
}
