//! The screen: how the gate is, its rules, its last incidents, and what lies over them.

mod over;
mod summary;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use super::view::{Over, Pane, View};
use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::text::Line;
use ratatui::widgets::Paragraph;
use std::time::Instant;
use words::{Tone, fitted, line};

/// Below this nothing can be read.
const SMALLEST: (u16, u16) = (40, 12);
/// From here on the two lists stand side by side.
const WIDE: u16 = 160;
/// Lines of each list that are kept for it, with its head.
const LIST: u16 = 4;

pub(super) fn draw(frame: &mut Frame<'_>, view: &mut View, now: Instant) {
    let area = frame.area();
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        let (width, height) = SMALLEST;
        let words = format!(
            "This terminal has {}x{} characters; top needs {width}x{height}. q leaves.",
            area.width, area.height
        );
        let words = Paragraph::new(words).wrap(ratatui::widgets::Wrap { trim: true });
        return frame.render_widget(words, area);
    }
    let lines = summary::lines(view, usize::from(area.width), now);
    let summary = (lines.len() as u16).min(area.height - 2 * LIST - 1);
    let [top, lists, foot] = cut_in_three(area, summary);
    frame.render_widget(Paragraph::new(lines), top);
    draw_lists(frame, view, lists);
    draw_foot(frame, view, foot);
    over::draw(frame, view, area);
}

fn cut_in_three(area: Rect, top: u16) -> [Rect; 3] {
    let part = |y: u16, height: u16| Rect {
        y: area.y + y,
        height,
        ..area
    };
    let foot = area.height - 1;
    [part(0, top), part(top, foot - top), part(foot, 1)]
}

fn draw_lists(frame: &mut Frame<'_>, view: &mut View, area: Rect) {
    let (mut rules, mut incidents) = (area, area);
    if area.width >= WIDE {
        rules.width = area.width / 2 - 1;
        incidents.x += rules.width + 2;
        incidents.width -= rules.width + 2;
    } else {
        // Half each, and what one has no use for is the other's.
        let want = |lines: usize| u16::try_from(lines + 2).unwrap_or(u16::MAX);
        let wanted = [
            want(view.shown_rules().len()),
            want(view.shown_incidents().len().max(1)),
        ];
        let half = area.height / 2;
        rules.height = match wanted {
            [few, _] if few < half => few.max(LIST),
            [_, few] if few < half => area.height - few.max(LIST),
            _ => half,
        };
        incidents.y += rules.height;
        incidents.height -= rules.height;
    }
    let lines = tables::rules(view, rules);
    frame.render_widget(Paragraph::new(lines), rules);
    let lines = tables::incidents(view, incidents);
    frame.render_widget(Paragraph::new(lines), incidents);
}

fn draw_foot(frame: &mut Frame<'_>, view: &View, area: Rect) {
    let width = usize::from(area.width);
    let typing = format!("filter: {}", view.filter);
    let text = match view.over {
        Over::Filter => format!("{typing}    (Enter keeps it, Esc shows all)"),
        _ if !view.filter.is_empty() => {
            format!("{typing}    (Esc shows all)   / change   ? help   q quit")
        }
        _ => {
            let enter = match view.pane {
                Pane::Rules => "rule",
                Pane::Incidents => "incident",
            };
            format!("Tab list  Enter {enter}  / filter  e explain  s sort  p pause  ? help  q quit")
        }
    };
    let foot: Line<'_> = line(view.colour, Tone::Quiet, fitted(&text, width));
    frame.render_widget(Paragraph::new(foot), area);
    if matches!(view.over, Over::Filter) {
        let at = words::width(&typing).min(width.saturating_sub(1));
        frame.set_cursor_position(Position::new(area.x + at as u16, area.y));
    }
}
