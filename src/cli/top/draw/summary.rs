//! The lines above the lists: whether all is well, what passes by the ports and what does not, and the workers.

use super::super::picture::{Picture, Status};
use super::super::rates::{PortRate, how_long, short};
use super::super::view::View;
use super::words::{Tone, fitted, flowing, left, line, right, span, style};
use ratatui::style::Modifier;
use ratatui::text::Line;
use std::time::Instant;

/// A worker whose last turn is older is not well (as in [`crate::control::status`]).
const STALE_MS: u64 = 1_000;
/// Lines that reasons, or workers, may take.
const LINES: usize = 2;

pub(super) fn lines(view: &View, width: usize, now: Instant) -> Vec<Line<'static>> {
    let Some(picture) = &view.picture else {
        return Vec::new();
    };
    let status = &picture.status;
    let mut lines = vec![title(view, picture, width)];
    lines.extend(warnings(view, picture, width, now));
    lines.extend(ports(view, status, width));
    lines.extend(reasons(view, status, width));
    lines.extend(workers(view, status, width));
    lines
}

/// What it is, and whether it is well.
fn title(view: &View, picture: &Picture, width: usize) -> Line<'static> {
    let status = &picture.status;
    let (tone, how) = match (&view.silence, status.healthy) {
        (Some(_), _) => (Tone::Bad, "NO ANSWER".to_owned()),
        (None, true) => (Tone::Good, "healthy".to_owned()),
        (None, false) => (Tone::Bad, "NOT HEALTHY".to_owned()),
    };
    let name = format!("portcullis {}", status.version);
    let clock = humantime::format_rfc3339_seconds(picture.time).to_string();
    let clock = format!("{} UTC", clock.get(11..19).unwrap_or("?"));
    let up = format!("up {}", how_long(status.uptime_s));
    let digest: String = status.config.sha256.chars().take(8).collect();
    let used = name.len() + how.len() + up.len() + clock.len() + 3 * 4;
    let config = match width.saturating_sub(used) {
        room if room > 70 => format!(
            "{} (sha256 {digest}), policy {}",
            status.config.file, status.generation
        ),
        room if status.config.file.len() <= room => status.config.file.clone(),
        // The folder is what can be done without.
        _ => {
            let name = status.config.file.rsplit('/').next();
            name.unwrap_or_default().to_owned()
        }
    };
    let config = left(&config, width.saturating_sub(used));
    let gap = || span(view.colour, Tone::Plain, "   ");
    Line::from(vec![
        span(view.colour, Tone::Head, name),
        gap(),
        span(view.colour, tone, how),
        gap(),
        span(view.colour, Tone::Plain, up),
        gap(),
        span(view.colour, Tone::Quiet, config),
        gap(),
        span(view.colour, Tone::Plain, clock),
    ])
}

/// Everything that is not as it should be, one a line.
fn warnings(view: &View, picture: &Picture, width: usize, now: Instant) -> Vec<Line<'static>> {
    let status = &picture.status;
    let mut told: Vec<(Tone, String)> = Vec::new();
    if let Some(silence) = &view.silence {
        let age = how_long(now.saturating_duration_since(silence.since).as_secs());
        let words = format!("! OLD PICTURE: there has been no answer for {age}. Asking on.");
        told.push((Tone::Bad, words));
        told.push((Tone::Bad, format!("! {}", silence.why)));
    }
    if view.paused {
        let age = how_long(now.saturating_duration_since(picture.at).as_secs());
        told.push((Tone::Warning, format!("! PAUSED for {age}; p goes on")));
    }
    if status.shadow {
        let words = "! SHADOW: NOTHING IS ENFORCED, every frame is forwarded and only counted";
        told.push((Tone::Warning, words.to_owned()));
    }
    let stale = |worker: &&super::super::picture::Worker| worker.heartbeat_ms > STALE_MS;
    for worker in status.workers.iter().filter(stale) {
        let words = format!(
            "! WORKER ON CORE {} last turned {} ms ago: what it should pass is dropped",
            worker.core, worker.heartbeat_ms
        );
        told.push((Tone::Bad, words));
    }
    for (name, sink) in status.sinks.0.iter().filter(|(_, s)| s.state == "failing") {
        let words = format!(
            "! SINK {name} ({}) fails, {} waiting, {} lost: {}",
            sink.kind,
            sink.waiting,
            sink.lost,
            sink.last_error.as_deref().unwrap_or("?")
        );
        told.push((Tone::Bad, words));
    }
    for (name, set) in &status.sets.0 {
        if let Some(error) = &set.error {
            let words = format!("! SET @{name} keeps what it had before: {error}");
            told.push((Tone::Bad, words));
        }
    }
    if let Some(error) = &status.reloads.error {
        let words = format!("! CONFIG NOT TAKEN, the one before is in force: {error}");
        told.push((Tone::Bad, words));
    }
    if status.reloads.confirm_until.is_some() {
        let words = "! THE CONFIG IS TAKEN BACK by itself unless `portcullis commit` confirms it";
        told.push((Tone::Warning, words.to_owned()));
    }
    if let Some(first) = status.quarantine.first() {
        let more = match status.quarantine.len() - 1 {
            0 => String::new(),
            n => format!(" and {n} more"),
        };
        let words = format!(
            "! IN QUARANTINE: {}{more}",
            crate::cli::quarantine::line(first)
        );
        told.push((Tone::Warning, words));
    }
    if status.alerts_lost > 0 {
        let words = format!("! {} alerts were lost", status.alerts_lost);
        told.push((Tone::Warning, words));
    }
    let told = told.into_iter();
    told.map(|(tone, words)| line(view.colour, tone, fitted(&words, width)))
        .collect()
}

/// What is shown for a rate that is not known yet.
pub(super) const UNKNOWN: &str = "-";

fn ports(view: &View, status: &Status, width: usize) -> Vec<Line<'static>> {
    // What else there is room for stands between the columns.
    let (name_width, wide) = if width >= 100 { (28, 11) } else { (15, 10) };
    let row = |name: &str, cells: [String; 6]| {
        let cells = cells.map(|cell| right(&cell, wide)).join(" ");
        fitted(&format!("{}{cells}", left(name, name_width)), width)
    };
    let head = [
        "in pkt/s",
        "in bit/s",
        "out pkt/s",
        "out bit/s",
        "passed/s",
        "stopped/s",
    ];
    let mut lines = vec![line(
        view.colour,
        Tone::Head,
        row("port", head.map(str::to_owned)),
    )];
    for (name, port) in &status.ports.0 {
        let rate = view.rates.as_ref().and_then(|rates| rates.ports.get(name));
        let shown = |of: fn(&PortRate) -> f64| match rate {
            Some(rate) => short(of(rate)),
            None => UNKNOWN.to_owned(),
        };
        let cells = [
            shown(|rate| rate.received.packets),
            shown(|rate| rate.received.bits),
            shown(|rate| rate.sent.packets),
            shown(|rate| rate.sent.bits),
            shown(|rate| rate.passed),
            shown(|rate| rate.stopped),
        ];
        let mode = if width >= 100 { port.mode.as_str() } else { "" };
        let text = row(&format!("{name} {} {mode}", port.interface), cells);
        lines.push(aged(view, line(view.colour, Tone::Plain, text)));
    }
    lines
}

/// Why frames did not pass, the most of them first.
fn reasons(view: &View, status: &Status, width: usize) -> Vec<Line<'static>> {
    let mut counts: Vec<(&str, u64)> = Vec::new();
    let mut shadow = 0;
    for (_, port) in &status.ports.0 {
        for (reason, count) in port.reasons().filter(|(_, n)| *n > 0) {
            match counts.iter_mut().find(|(other, _)| *other == reason) {
                Some((_, sum)) => *sum += count,
                None => counts.push((reason, count)),
            }
        }
        shadow += port.shadow.0.iter().map(|(_, n)| n).sum::<u64>();
    }
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rate = |reason: &str| {
        let rates = &view.rates.as_ref()?.reasons;
        rates.get(reason).filter(|rate| **rate > 0.0)
    };
    let told = |(reason, count): &(&str, u64)| match rate(reason) {
        Some(rate) => format!("{reason} {} ({}/s)", short(*count as f64), short(*rate)),
        None => format!("{reason} {}", short(*count as f64)),
    };
    let mut items: Vec<String> = counts.iter().map(told).collect();
    if shadow > 0 {
        items.push(format!("in shadow, passed: {}", short(shadow as f64)));
    }
    if items.is_empty() {
        items.push("nothing".to_owned());
    }
    let lines = flowing("stopped        ", &items, width, LINES).into_iter();
    lines
        .map(|text| aged(view, line(view.colour, Tone::Plain, text)))
        .collect()
}

fn workers(view: &View, status: &Status, width: usize) -> Vec<Line<'static>> {
    let told = |(at, worker): (usize, &super::super::picture::Worker)| {
        let busy = view.rates.as_ref().and_then(|rates| rates.busy.get(at));
        let busy = busy.map_or(UNKNOWN.to_owned(), |busy| format!("{:.0}%", busy * 100.0));
        format!(
            "core {}: {busy} busy, turned {} ms ago",
            worker.core, worker.heartbeat_ms
        )
    };
    let items: Vec<String> = status.workers.iter().enumerate().map(told).collect();
    let lines = flowing("workers        ", &items, width, LINES).into_iter();
    lines
        .map(|text| aged(view, line(view.colour, Tone::Plain, text)))
        .collect()
}

/// Of an old picture everything is dim.
pub(super) fn aged(view: &View, line: Line<'static>) -> Line<'static> {
    match view.silence {
        Some(_) => line.patch_style(style(view.colour, Tone::Quiet).add_modifier(Modifier::DIM)),
        None => line,
    }
}
