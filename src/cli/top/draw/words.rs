//! Texts of a width, and how they look. Nothing is said by a colour alone.

use crate::cli::alerts::table::{cut, safe};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use unicode_width::UnicodeWidthStr;

/// What a text is, which says how it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    /// A title, or the name of a column.
    Head,
    Good,
    Warning,
    Bad,
    /// Of less weight.
    Quiet,
    /// The chosen line.
    Chosen,
}

pub(super) fn style(colour: bool, tone: Tone) -> Style {
    let plain = Style::new();
    let (bold, in_colour) = match tone {
        Tone::Plain => return plain,
        Tone::Chosen => return plain.add_modifier(Modifier::REVERSED),
        Tone::Quiet => return plain.add_modifier(Modifier::DIM),
        Tone::Head => (true, None),
        Tone::Good => (false, Some(Color::Green)),
        Tone::Warning => (true, Some(Color::Yellow)),
        Tone::Bad => (true, Some(Color::Red)),
    };
    let plain = match bold {
        true => plain.add_modifier(Modifier::BOLD),
        false => plain,
    };
    match in_colour.filter(|_| colour) {
        Some(shade) => plain.fg(shade),
        None => plain,
    }
}

/// Whatever comes here, what leaves is printable: the gate's words were made safe when they came, and this is the last door.
pub(super) fn span(colour: bool, tone: Tone, text: impl AsRef<str>) -> Span<'static> {
    Span::styled(safe(text.as_ref()), style(colour, tone))
}

pub(super) fn line(colour: bool, tone: Tone, text: impl AsRef<str>) -> Line<'static> {
    Line::from(span(colour, tone, text))
}

pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// As much as fits.
pub(super) fn fitted(text: &str, width: usize) -> String {
    match width {
        0 => String::new(),
        _ => cut(text, width),
    }
}

/// As much as fits, and blanks up to the width.
pub(super) fn left(text: &str, width: usize) -> String {
    let text = fitted(text, width);
    let gap = width.saturating_sub(text.width());
    text + &" ".repeat(gap)
}

/// The same with the blanks before it: numbers are read from their right end.
pub(super) fn right(text: &str, width: usize) -> String {
    let text = fitted(text, width);
    " ".repeat(width.saturating_sub(text.width())) + &text
}

/// Items behind a label, in at most so many lines, and how many have no room.
pub(super) fn flowing(label: &str, items: &[String], columns: usize, most: usize) -> Vec<String> {
    const GAP: &str = "   ";
    /// Room for the count of what is left out.
    const MORE: usize = 14;
    let indent = " ".repeat(label.width());
    let mut lines = vec![label.to_owned()];
    for (at, item) in items.iter().enumerate() {
        let count = lines.len();
        let Some(last) = lines.last_mut() else { break };
        let first = last.width() == label.width();
        let tail = if count == most && at + 1 < items.len() {
            MORE
        } else {
            0
        };
        if first || last.width() + GAP.len() + item.width() + tail <= columns {
            if !first {
                last.push_str(GAP);
            }
            last.push_str(item);
        } else if count < most {
            lines.push(format!("{indent}{item}"));
        } else {
            last.push_str(&format!("{GAP}and {} more", items.len() - at));
            break;
        }
    }
    lines.iter().map(|line| fitted(line, columns)).collect()
}

/// A text in lines of at most this width, broken at spaces where that can be; a long word is broken, never cut.
pub(super) fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(8);
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let mut word = word.to_owned();
        let used = lines.last().map_or(0, |line| line.width());
        if used > 0 && used + 1 + word.width() <= columns {
            if let Some(line) = lines.last_mut() {
                line.push(' ');
                line.push_str(&word);
            }
            continue;
        }
        if used > 0 {
            lines.push(String::new());
        }
        while word.width() > columns {
            let mut at = word.len();
            while word[..at].width() > columns {
                at = word[..at]
                    .char_indices()
                    .next_back()
                    .map_or(0, |(at, _)| at);
            }
            let rest = word.split_off(at);
            if let Some(line) = lines.last_mut() {
                *line = word;
            }
            lines.push(String::new());
            word = rest;
        }
        if let Some(line) = lines.last_mut() {
            *line = word;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_flow_into_as_many_lines_as_there_are_and_the_rest_is_counted() {
        let items: Vec<String> = (10..40).map(|n| format!("item {n}")).collect();
        let lines = flowing("seen  ", &items, 40, 2);
        assert_eq!(
            lines,
            [
                "seen  item 10   item 11   item 12",
                "      item 13   item 14   and 25 more"
            ]
        );
        assert_eq!(flowing("seen  ", &items[..1], 40, 2), ["seen  item 10"]);
        assert_eq!(flowing("seen  ", &[], 40, 2), ["seen  "]);
    }

    #[test]
    fn a_wrapped_text_is_whole() {
        let lines = wrapped("run: portcullis sets add 0123456789012345", 12);
        assert_eq!(
            lines,
            ["run:", "portcullis", "sets add", "012345678901", "2345"]
        );
        assert_eq!(wrapped("", 12), [""]);
        assert_eq!(
            wrapped("日本語日本語日本語", 8),
            ["日本語日", "本語日本", "語"]
        );
    }
}
