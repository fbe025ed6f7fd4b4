//! The two lists: rules in order, and the last incidents.

use super::super::rates::short;
use super::super::view::{Chosen, Pane, View, note};
use super::summary::{UNKNOWN, aged};
use super::words::{Tone, fitted, left, line, right, width};
use crate::cli::alerts::table::{shown, to};
use ratatui::layout::Rect;
use ratatui::text::Line;
use serde_json::Value;

/// From this width on there are columns for what is also in the details.
const ROOMY: usize = 110;
/// Before each line: a sign at the chosen one.
const MARK: usize = 2;

pub(super) fn rules(view: &mut View, area: Rect) -> Vec<Line<'static>> {
    let (columns, rows) = (usize::from(area.width), usize::from(area.height));
    let count = view.shown_rules().len();
    view.rules.fit(rows.saturating_sub(2), count);
    let shown = view.shown_rules();
    let all = view.picture.as_ref().map_or(0, |p| p.status.rules.0.len());
    let order = match view.by_rate {
        true => "by rate",
        false => "in the order in which they are asked",
    };
    let title = title(view, Pane::Rules, &format!("Rules {order}"), (count, all));
    let name = shown.iter().map(|(name, _)| width(name)).max();
    let name = name.unwrap_or(0).clamp(12, (columns / 4).max(12));
    let roomy = columns >= ROOMY / 5 * 4;
    let row = |cells: [String; 8]| {
        let [
            rule,
            action,
            packets_s,
            bits_s,
            packets,
            bytes,
            alerts,
            note,
        ] = cells;
        let mut text = format!("{} {}", left(&rule, name), left(&action, 6));
        text += &right(&packets_s, 8);
        if roomy {
            text += &right(&bits_s, 9);
        }
        for cell in [packets, bytes, alerts] {
            text += &right(&cell, 9);
        }
        fitted(&format!("{text}  {note}"), columns - MARK)
    };
    let head = [
        "rule", "action", "pkt/s", "bit/s", "packets", "bytes", "alerts", "",
    ];
    let head = row(head.map(str::to_owned));
    let lines = shown.iter().map(|(name, rule)| {
        let rate = view.rates.as_ref();
        let rate = rate.map(|rates| rates.rules.get(*name).copied().unwrap_or_default());
        let per_second = |n: Option<f64>| n.map_or(UNKNOWN.to_owned(), short);
        let note = match (note(rule), &rule.alert) {
            ("", Some(level)) => format!("alert {level}"),
            (note, Some(level)) => format!("{note}, alert {level}"),
            (note, None) => note.to_owned(),
        };
        let tone = match (rule.expired || rule.shadow, rule.alerts) {
            (true, _) => Tone::Quiet,
            (_, 1..) if rule.alert.is_some() => Tone::Warning,
            _ => Tone::Plain,
        };
        let cells = [
            (*name).to_owned(),
            rule.action.clone(),
            per_second(rate.map(|rate| rate.packets)),
            per_second(rate.map(|rate| rate.bits)),
            short(rule.packets as f64),
            short(rule.bytes as f64),
            short(rule.alerts as f64),
            note,
        ];
        (tone, row(cells))
    });
    let nothing = "no rule has this in its name or notes";
    list(view, Pane::Rules, [title, head], lines, nothing, columns)
}

pub(super) fn incidents(view: &mut View, area: Rect) -> Vec<Line<'static>> {
    let (columns, rows) = (usize::from(area.width), usize::from(area.height));
    let count = view.shown_incidents().len();
    view.incidents.fit(rows.saturating_sub(2), count);
    let lines = view.shown_incidents();
    let all = view.picture.as_ref().map_or(0, |p| p.incidents.len());
    let title = title(
        view,
        Pane::Incidents,
        "Incidents, the latest first",
        (count, all),
    );
    let roomy = columns >= ROOMY;
    let longest = |cell: &dyn Fn(&Value) -> String, most: usize| {
        let cells = lines.iter().map(|line| width(&cell(line)));
        cells.max().unwrap_or(0).clamp(7, most.max(12))
    };
    let host = |line: &Value| host(line, roomy);
    let rule = |line: &Value| text(&line["alert"]["signature"]);
    let host_width = longest(&host, columns * 3 / 10);
    let rule_width = longest(&rule, columns / 6);
    let row = |cells: [String; 7]| {
        let [time, level, did, host, rule, count, rest] = cells;
        let cells = [
            left(&time, 8),
            left(&level, 6),
            left(&did, 7),
            left(&host, host_width),
            left(&rule, rule_width),
            right(&count, 5),
            rest,
        ];
        fitted(cells.join(" ").trim_end(), columns - MARK)
    };
    let head = [
        "time",
        "level",
        "verdict",
        "host",
        "rule",
        "count",
        "what the payload showed",
    ];
    let head = row(head.map(str::to_owned));
    let today = view.picture.as_ref().map(|picture| {
        let text = humantime::format_rfc3339_seconds(picture.time).to_string();
        text.chars().take(10).collect::<String>()
    });
    let drawn = lines.iter().map(|line| {
        let alert = &line["alert"];
        let cells = [
            time(&text(&alert["last_seen"]), today.as_deref().unwrap_or("")),
            text(&alert["level"]),
            verdict(alert),
            host(line),
            rule(line),
            short(alert["packets"].as_u64().unwrap_or(0) as f64),
            rest(line, roomy),
        ];
        let tone = match alert["level"].as_str() {
            Some("high") => Tone::Bad,
            Some("medium") => Tone::Warning,
            _ => Tone::Plain,
        };
        (tone, row(cells))
    });
    let nothing = match all {
        0 => "none since the gate started",
        _ => "no incident has this in it",
    };
    list(
        view,
        Pane::Incidents,
        [title, head],
        drawn,
        nothing,
        columns,
    )
}

/// Title, head, and the lines that there is room for.
fn list(
    view: &View,
    pane: Pane,
    [title, head]: [String; 2],
    lines: impl ExactSizeIterator<Item = (Tone, String)>,
    nothing: &str,
    columns: usize,
) -> Vec<Line<'static>> {
    let Chosen { at, top, rows, .. } = match pane {
        Pane::Rules => &view.rules,
        Pane::Incidents => &view.incidents,
    };
    let rule = "─".repeat(columns.saturating_sub(width(&title)));
    let title = fitted(&format!("{title}{rule}"), columns);
    let tone = if view.pane == pane {
        Tone::Head
    } else {
        Tone::Quiet
    };
    let blank = " ".repeat(MARK);
    let mut out = vec![
        line(view.colour, tone, title),
        line(view.colour, Tone::Head, format!("{blank}{head}")),
    ];
    if lines.len() == 0 {
        out.push(line(view.colour, Tone::Quiet, format!("{blank}{nothing}")));
    }
    for (index, (tone, text)) in lines.enumerate().skip(*top).take(*rows) {
        let chosen = index == *at && view.pane == pane;
        let drawn = match chosen {
            true => {
                let text = left(&format!("> {text}"), columns);
                line(view.colour, Tone::Chosen, text)
            }
            false => line(view.colour, tone, format!("{blank}{text}")),
        };
        out.push(aged(view, drawn));
    }
    out
}

/// `━ Rules … 3-9 of 31 `: which lines are on the screen, of how many.
fn title(view: &View, pane: Pane, name: &str, (count, all): (usize, usize)) -> String {
    let chosen = match pane {
        Pane::Rules => &view.rules,
        Pane::Incidents => &view.incidents,
    };
    let (first, last) = (chosen.top + 1, (chosen.top + chosen.rows).min(count));
    let which = match (count, all) {
        (0, _) => String::new(),
        _ if first == 1 && last == all => format!(", {all}"),
        _ if count < all => format!(", {first}-{last} of {count} with \"{}\"", view.filter),
        _ => format!(", {first}-{last} of {all}"),
    };
    let old = if view.silence.is_some() { " (OLD)" } else { "" };
    let sign = if view.pane == pane { '>' } else { '─' };
    format!("{sign} {name}{which}{old} ")
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("-").to_owned()
}

/// What became of the frames, in a word.
pub(super) fn verdict(alert: &Value) -> String {
    match (&alert["shadow"], alert["verdict"].as_str()) {
        (Value::Bool(true), _) => "shadow".to_owned(),
        (_, Some("forward")) => "passed".to_owned(),
        (_, Some(verdict)) => verdict.to_owned(),
        _ => "-".to_owned(),
    }
}

/// The address, and the name where there is room for it.
fn host(line: &Value, roomy: bool) -> String {
    let alert = &line["alert"];
    match alert["host_name"].as_str() {
        Some(name) if roomy => format!("{} ({name})", text(&alert["host"])),
        _ => text(&alert["host"]),
    }
}

/// What the payload showed, in short; where it is going where nothing was shown.
fn rest(line: &Value, roomy: bool) -> String {
    let told = match (payload(line), roomy) {
        (Some(values), false) => values,
        (Some(values), true) => format!("{values} -> {}", to(line)),
        (None, _) => format!("-> {}", to(line)),
    };
    match line["alert"]["host_name"].as_str() {
        Some(name) if !roomy => format!("{told} ({name})"),
        _ => told,
    }
}

/// The values alone: the rule says mostly what they are.
fn payload(line: &Value) -> Option<String> {
    let app = line["app_proto"].as_str();
    if let Some(found) = line["behaviour"].as_object() {
        let fields = found.iter().filter(|(name, _)| *name != "kind");
        let fields = fields.map(|(name, value)| match value {
            Value::String(text) => format!("{name} {text}"),
            other => format!("{name} {other}"),
        });
        return Some(fields.collect::<Vec<_>>().join(", "));
    }
    let fields = app.and_then(|app| line[app].as_object())?;
    let values: Vec<&str> = fields.values().filter_map(Value::as_str).collect();
    match values.is_empty() {
        true => shown(line),
        false => Some(values.join(" ")),
    }
}

/// The time of day, or the day where that is another.
fn time(stamp: &str, today: &str) -> String {
    let part = |from: usize, to: usize| stamp.get(from..to).unwrap_or("?").to_owned();
    match stamp.get(..10) == Some(today) {
        true => part(11, 19),
        false => part(5, 10),
    }
}
