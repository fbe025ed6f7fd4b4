//! What lies over the picture: help, all of one incident or rule, and the explain form.

use super::super::form::{Answer, FIELDS, Form};
use super::super::view::{Over, View, note};
use super::tables::verdict;
use super::words::{Tone, fitted, left, line, span, style, width, wrapped};
use crate::cli::alerts::table::{conversation, end, to, transcript};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear, Paragraph};
use serde_json::Value;

/// The widest that reads well.
const WIDEST: u16 = 100;
/// Lines from which on the explain form has all of its packet in one place.
const ROOMY: u16 = 16;
/// Names before values.
const LABEL: usize = 12;

const HELP: &[&str] = &[
    "Keys",
    "  Tab              the other list",
    "  arrows, j k      move; PgUp, PgDn, Home, End too",
    "  Enter            all of the chosen incident or rule",
    "  /                only rules and incidents with a text; Esc shows all again",
    "  e                explain: what the policy in force does with a packet, and why",
    "                   (filled in with the chosen incident)",
    "  s                rules by rate, or in the order in which they are asked",
    "  p                pause, and go on",
    "  q, Ctrl-C, Esc   leave",
    "",
    "What it says",
    "  in, out          frames that came in by a port, and that left by it",
    "  passed, stopped  what became of frames that came in by the port",
    "  stopped          why, since the start; in brackets in a second now",
    "  workers          the share of turns that moved a frame, and the last turn",
    "  rules            the first that matches decides; packets are those it decided",
    "  shadow           judged and counted, not enforced",
    "  incidents        one rule and one inside host; the count is of all its frames",
    "  !                something needs you",
    "Rates are of the last interval. Times are UTC.",
];

pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View, area: Rect) {
    let colour = view.colour;
    // Taken out and put back, for the place in it changes while it is drawn.
    let mut over = std::mem::replace(&mut view.over, Over::Nothing);
    match &mut over {
        Over::Nothing | Over::Filter => {}
        Over::Help { scroll } => {
            let lines = HELP.iter().map(|text| line(colour, Tone::Plain, text));
            let lines = lines.collect();
            window(frame, area, colour, "Help (Esc closes)", lines, scroll);
        }
        Over::Incident { line, scroll } => {
            let lines = told(colour, inner(area), &incident(line));
            let title = "Incident (Esc closes, e explains)";
            window(frame, area, colour, title, lines, scroll);
        }
        Over::Rule { name, scroll } => {
            let lines = told(colour, inner(area), &rule(view, name));
            window(frame, area, colour, "Rule (Esc closes)", lines, scroll);
        }
        Over::Explain(form) => explain(frame, area, colour, form),
    }
    view.over = over;
}

/// Columns within a window.
fn inner(area: Rect) -> usize {
    usize::from(area.width.min(WIDEST)).saturating_sub(4)
}

/// A window of as many lines as it needs, or as there are. Where it stands.
fn window(
    frame: &mut Frame<'_>,
    area: Rect,
    colour: bool,
    title: &str,
    lines: Vec<Line<'static>>,
    scroll: &mut usize,
) -> Rect {
    let width = area.width.min(WIDEST);
    let height = u16::try_from(lines.len() + 2).unwrap_or(u16::MAX);
    let height = height.min(area.height);
    let place = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    let rows = usize::from(height.saturating_sub(2));
    let hidden = lines.len().saturating_sub(rows);
    *scroll = (*scroll).min(hidden);
    let mut title = format!(" {title} ");
    if hidden > 0 {
        title += &format!("- arrows scroll, {} more lines ", hidden - *scroll);
    }
    let block = Block::bordered()
        .border_style(style(colour, Tone::Head))
        .title(span(colour, Tone::Head, title));
    let lines = lines.into_iter().skip(*scroll).take(rows);
    let lines = lines.map(|mut line| {
        line.spans.insert(0, span(colour, Tone::Plain, " "));
        line
    });
    let lines: Vec<Line<'static>> = lines.collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(block), place);
    place
}

/// Names and values, the values in as many lines as they take.
fn told(colour: bool, columns: usize, fields: &[(String, String)]) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for (name, value) in fields {
        for (at, part) in wrapped(value, columns - LABEL).iter().enumerate() {
            let name = if at == 0 { name.as_str() } else { "" };
            lines.push(Line::from(vec![
                span(colour, Tone::Head, left(name, LABEL)),
                span(colour, Tone::Plain, part),
            ]));
        }
    }
    lines
}

/// All of an incident.
fn incident(line: &Value) -> Vec<(String, String)> {
    let alert = &line["alert"];
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let host = match (text(&alert["host"]), text(&alert["host_name"])) {
        (Some(host), Some(name)) => {
            let from = text(&alert["host_name_from"]).unwrap_or_default();
            Some(format!("{host}, called {name} (says {from})"))
        }
        (host, _) => host,
    };
    let list = |value: &Value| {
        let items: Vec<String> = value.as_array()?.iter().filter_map(text).collect();
        (!items.is_empty()).then(|| items.join(", "))
    };
    let mut fields: Vec<(String, String)> = Vec::new();
    let mut tell = |name: &str, value: Option<String>| {
        fields.extend(value.map(|value| (name.to_owned(), value)));
    };
    tell("rule", text(&alert["signature"]));
    tell("level", text(&alert["level"]));
    tell("verdict", Some(in_words(alert)));
    tell("host", host);
    tell(
        "mac",
        text(&line["src_mac"]).filter(|_| line["direction"] == "out"),
    );
    tell("direction", text(&line["direction"]));
    tell("protocol", text(&line["proto"]));
    tell("from", Some(end(line, "src")));
    tell("to", Some(end(line, "dest")));
    tell(
        "others",
        list(&alert["to"]).map(|list| format!("{}: {list}", to(line))),
    );
    tell("vlan", list(&line["vlan"]));
    tell("frames", text(&alert["packets"]));
    tell("first seen", text(&alert["first_seen"]));
    tell("last seen", text(&alert["last_seen"]));
    for app in line["app_proto"].as_str().into_iter().chain(["behaviour"]) {
        for (name, value) in line[app].as_object().into_iter().flatten() {
            tell(app, text(value).map(|value| format!("{name} = {value}")));
        }
    }
    tell("decoy", conversation(line));
    tell("began", text(&line["decoy"]["began"]));
    for (at, said) in transcript(line).into_iter().enumerate() {
        tell(if at == 0 { "was said" } else { "" }, Some(said));
    }
    tell("transcript", text(&line["decoy"]["evidence"]));
    tell("evidence", text(&alert["evidence"]));
    tell("what to do", text(&alert["hint"]));
    tell("incident", text(&alert["incident"]));
    fields
}

fn in_words(alert: &Value) -> String {
    match (verdict(alert).as_str(), alert["verdict"].as_str()) {
        ("shadow", Some(would)) => format!("in shadow: passed; it would have been: {would}"),
        ("drop", _) => "drop: it did not pass".to_owned(),
        ("reject", _) => "reject: it did not pass, and the sender was told".to_owned(),
        ("decoy", _) => {
            "decoy: it did not pass, and the gate answered in its destination's place".to_owned()
        }
        (other, _) => other.to_owned(),
    }
}

/// All of a rule, in whole numbers.
fn rule(view: &View, name: &str) -> Vec<(String, String)> {
    let status = view.picture.as_ref().map(|picture| &picture.status);
    let Some(rule) = status.and_then(|status| status.rules.get(name)) else {
        let gone = "it is not in the policy any more".to_owned();
        return vec![(name.to_owned(), gone)];
    };
    let alert = rule.alert.as_deref().unwrap_or("none");
    let mut fields = vec![
        ("rule", name.to_owned()),
        ("comes from", rule.from.clone()),
        ("action", rule.action.clone()),
        ("alert", alert.to_owned()),
        ("packets", rule.packets.to_string()),
        ("bytes", rule.bytes.to_string()),
        ("alerts", rule.alerts.to_string()),
    ];
    if !note(rule).is_empty() {
        fields.push(("note", note(rule).to_owned()));
    }
    let owned = |(name, value): (&str, String)| (name.to_owned(), value);
    fields.into_iter().map(owned).collect()
}

/// What is asked about and is in no field.
fn beside(colour: bool, columns: usize, told: &str) -> Vec<Line<'static>> {
    let parts = wrapped(told, columns.saturating_sub(LABEL + 2));
    let parts = parts.into_iter().enumerate().map(|(at, part)| {
        let name = if at == 0 { "besides" } else { "" };
        Line::from(vec![
            span(colour, Tone::Plain, format!("  {}", left(name, LABEL))),
            span(colour, Tone::Plain, part),
        ])
    });
    parts.collect()
}

fn explain(frame: &mut Frame<'_>, area: Rect, colour: bool, form: &mut Form) {
    let columns = inner(area);
    let hints = [
        "(out of the LAN, or in: any letter changes it)",
        "tcp, udp, icmp, 47",
        "10.77.0.9:40000, [fd77::9]:40000",
        "93.184.216.34:69",
        "(of tcp and udp, what the payload is) irc, tftp",
    ];
    let mut lines = Vec::new();
    for (at, (name, text)) in FIELDS.iter().zip(&form.fields).enumerate() {
        let here = at == form.at;
        let hint = if text.is_empty() || at == 0 {
            hints[at]
        } else {
            ""
        };
        let mark = if here { "> " } else { "  " };
        let tone = if here { Tone::Head } else { Tone::Plain };
        let room = columns.saturating_sub(LABEL + 2);
        lines.push(Line::from(vec![
            span(colour, tone, format!("{mark}{}", left(name, LABEL))),
            span(colour, tone, fitted(text, room)),
            span(
                colour,
                Tone::Quiet,
                fitted(&format!("   {hint}"), room.saturating_sub(width(text))),
            ),
        ]));
    }
    let mut besides = match &form.besides {
        Some(besides) => beside(colour, columns, &besides.told()),
        None => Vec::new(),
    };
    // Else it comes after the answer, which needs the room more.
    if area.height >= ROOMY {
        lines.append(&mut besides);
        lines.push(Line::default());
    }
    let mut answer: Vec<Line<'static>> = Vec::new();
    match &form.answer {
        Answer::None => {
            let words = "Enter asks the gate; Tab and arrows change the field; Esc closes.";
            answer.push(line(colour, Tone::Quiet, words));
        }
        Answer::Awaited(_) => answer.push(line(colour, Tone::Plain, "asking ...")),
        Answer::Refused(at, words) => {
            let field = at.and_then(|at| FIELDS.get(at));
            let field = field.map_or(String::new(), |name| format!("{name}: "));
            for part in wrapped(&format!("! {field}{words}"), columns) {
                answer.push(line(colour, Tone::Bad, part));
            }
        }
        Answer::Said(said) => {
            for (at, text) in said.iter().enumerate() {
                let tone = if at == 0 { Tone::Head } else { Tone::Plain };
                let parts = wrapped(text, columns - 2).into_iter().enumerate();
                answer.extend(parts.map(|(part, text)| {
                    let indent = if part > 0 { "  " } else { "" };
                    line(colour, tone, format!("{indent}{text}"))
                }));
            }
        }
    }
    answer.append(&mut besides);
    // The fields stay; the answer moves.
    let room = usize::from(area.height).saturating_sub(lines.len() + 2);
    form.scroll = form.scroll.min(answer.len().saturating_sub(room));
    let more = answer.len() > room;
    lines.extend(answer.into_iter().skip(form.scroll).take(room));
    let title = match more {
        true => "Explain (Enter asks, PgUp PgDn scroll, Esc closes)",
        false => "Explain (Enter asks, Esc closes)",
    };
    let place = window(frame, area, colour, title, lines, &mut 0);
    let text = form.fields.get(form.at).map_or(0, |text| width(text));
    let text = text.min(columns.saturating_sub(LABEL + 2));
    frame.set_cursor_position(Position::new(
        place.x + 2 + (LABEL + 2 + text) as u16,
        place.y + 1 + form.at as u16,
    ));
}
