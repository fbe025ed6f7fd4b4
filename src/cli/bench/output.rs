//! Telling results: as they come, and at the end.

use super::options::{Output, Traffic};
use std::fmt::Write;
use std::io::IsTerminal;
use std::process::ExitCode;
use traffic::outcome::Outcome;
use traffic::report::{Latency, Report};
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

/// Prints and writes what was asked for. Exit status 1 where something forbidden got through.
pub(super) fn tell(report: &Report, output: &Output) -> ExitCode {
    if output.json {
        let printed = super::super::print_json(report);
        if printed != ExitCode::SUCCESS {
            return printed;
        }
    } else {
        print!("{}", table(report));
    }
    ExitCode::SUCCESS
}

fn table(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = head(report, &mut out);
    let _ = body(report, &mut out);
    for note in &report.notes {
        let _ = writeln!(out, "\nnote: {note}");
    }
    out
}

fn head(report: &Report, out: &mut String) -> std::fmt::Result {
    let Report {
        machine, settings, ..
    } = report;
    for port in &report.ports {
        let place = match &port.namespace {
            Some(namespace) => format!("{namespace}:{}", port.interface),
            None => port.interface.clone(),
        };
        let (side, driver, mode, queues) = (port.side, &port.driver, port.mode, port.queues);
        writeln!(out, "{side:<7}{place} ({driver}, {mode}, queues: {queues})")?;
    }
    let both = if settings.both {
        ", both ways at once"
    } else {
        ""
    };
    writeln!(
        out,
        "sent   {}{both}, {} flows",
        settings.traffic, settings.flows
    )?;
    writeln!(
        out,
        "on     {}, {} cores, Linux {}, {}",
        machine.cpu, machine.cores, machine.kernel, report.date
    )
}

fn body(report: &Report, out: &mut String) -> std::fmt::Result {
    if !report.throughput.is_empty() {
        writeln!(
            out,
            "\n{:<12}{:>14}{:>12}{:>12}{:>8}  bound by",
            "throughput", "frames/s", "Mbit/s", "line Mbit/s", "trials"
        )?;
    }
    for row in &report.throughput {
        writeln!(
            out,
            "{:<12}{:>14.0}{:>12.1}{:>12.1}{:>8}  {}",
            row.size,
            row.fps,
            row.mbps,
            row.line_mbps,
            row.trials.len(),
            bound(row.bound)
        )?;
    }
    if !report.latency.is_empty() {
        writeln!(
            out,
            "\n{:<12}{:>6}{:>14}{:>10}{:>10}{:>10}{:>10}  microseconds",
            "latency", "load", "frames/s", "median", "p99", "p99.9", "max"
        )?;
    }
    for row in &report.latency {
        latency(row, out)?;
    }
    for row in &report.loss {
        writeln!(
            out,
            "\n{:<12}{:>6}{:>14}{:>12}",
            format!("loss, {}", row.size),
            "load",
            "frames/s",
            "lost"
        )?;
        for step in &row.steps {
            writeln!(
                out,
                "{:<12}{:>5}%{:>14.0}{:>11.4}%{}",
                "",
                step.load_percent,
                step.trial.offered_fps,
                step.loss_percent,
                doubt(step.trial.valid)
            )?;
        }
    }
    if !report.back_to_back.is_empty() {
        writeln!(
            out,
            "\n{:<14}{:>14}{:>12}{:>12}{:>6}",
            "back-to-back", "mean, frames", "least", "most", "runs"
        )?;
    }
    for row in &report.back_to_back {
        let (least, most) = (row.bursts.iter().min(), row.bursts.iter().max());
        let all = if most == Some(&row.longest_tried) {
            "  the longest that was tried"
        } else {
            ""
        };
        writeln!(
            out,
            "{:<14}{:>14.0}{:>12}{:>12}{:>6}{all}",
            row.size,
            row.mean,
            least.unwrap_or(&0),
            most.unwrap_or(&0),
            row.bursts.len()
        )?;
    }
    Ok(())
}

fn latency(row: &Latency, out: &mut String) -> std::fmt::Result {
    let load = row
        .load_percent
        .map_or("-".into(), |percent| format!("{percent}%"));
    let us = |ns: u64| ns as f64 / 1e3;
    let quantiles = &row.quantiles;
    writeln!(
        out,
        "{:<12}{load:>6}{:>14.0}{:>10.1}{:>10.1}{:>10.1}{:>10.1}{}",
        row.size,
        row.trial.offered_fps,
        us(quantiles.median_ns),
        us(quantiles.p99_ns),
        us(quantiles.p99_9_ns),
        us(quantiles.max_ns),
        match row.trial.lost {
            _ if !row.trial.valid => doubt(false).to_string(),
            0 => String::new(),
            lost => format!("  {lost} lost"),
        }
    )
}

fn doubt(valid: bool) -> &'static str {
    if valid {
        ""
    } else {
        "  the tester could not keep up"
    }
}

fn bound(bound: &str) -> &'static str {
    match bound {
        "device" => "the device",
        "tester" => "the tester: the device may do more",
        _ => "what was asked for",
    }
}
