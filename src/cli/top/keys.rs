//! What a key does.

use super::form::{Answer, FIELDS, Form, LONGEST};
use super::view::{Over, Pane, View};
use crate::config::packet::Asked;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What the loop has to do about a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Act {
    Nothing,
    /// What becomes of this packet? The answer has the same number.
    Ask(u64, Box<Asked>),
    Leave,
}

pub(super) fn press(view: &mut View, key: KeyEvent) -> Act {
    // In raw mode it is no signal.
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return match key.code {
            KeyCode::Char('c') => Act::Leave,
            _ => Act::Nothing,
        };
    }
    match &mut view.over {
        Over::Nothing => return on_the_lists(view, key.code),
        Over::Filter => in_the_filter(view, key.code),
        Over::Explain(form) => match in_the_form(form, &mut view.questions, key.code) {
            Some(act) => return act,
            None => view.over = Over::Nothing,
        },
        Over::Incident { .. } if key.code == KeyCode::Char('e') => explain(view),
        Over::Help { scroll } | Over::Incident { scroll, .. } | Over::Rule { scroll, .. } => {
            match key.code {
                KeyCode::Esc | KeyCode::Enter | KeyCode::Char('q' | '?') => {
                    view.over = Over::Nothing;
                }
                other => *scroll = scrolled(*scroll, other),
            }
        }
    }
    Act::Nothing
}

fn on_the_lists(view: &mut View, key: KeyCode) -> Act {
    let page = view.chosen().rows.max(2) as isize - 1;
    match key {
        KeyCode::Char('q') => return Act::Leave,
        KeyCode::Esc if view.filter.is_empty() => return Act::Leave,
        KeyCode::Esc => {
            view.filter.clear();
            view.find();
        }
        KeyCode::Tab | KeyCode::BackTab | KeyCode::Left | KeyCode::Right => {
            view.pane = match view.pane {
                Pane::Rules => Pane::Incidents,
                Pane::Incidents => Pane::Rules,
            }
        }
        KeyCode::Up | KeyCode::Char('k') => view.step(-1),
        KeyCode::Down | KeyCode::Char('j') => view.step(1),
        KeyCode::PageUp => view.step(-page),
        KeyCode::PageDown => view.step(page),
        KeyCode::Home => view.step(isize::MIN),
        KeyCode::End => view.step(isize::MAX),
        KeyCode::Enter => open(view),
        KeyCode::Char('/') => view.over = Over::Filter,
        KeyCode::Char('?' | 'h') => view.over = Over::Help { scroll: 0 },
        KeyCode::Char('e') => explain(view),
        KeyCode::Char('p') => view.paused = !view.paused,
        KeyCode::Char('s') => {
            view.by_rate = !view.by_rate;
            view.find();
        }
        _ => {}
    }
    Act::Nothing
}

/// All of what is chosen.
fn open(view: &mut View) {
    let over = match view.pane {
        Pane::Incidents => view.chosen_incident().map(|line| Over::Incident {
            line: Box::new(line.clone()),
            scroll: 0,
        }),
        Pane::Rules => {
            let rules = view.shown_rules();
            let rule = rules.get(view.rules.at);
            rule.map(|(name, _)| Over::Rule {
                name: (*name).to_owned(),
                scroll: 0,
            })
        }
    };
    if let Some(over) = over {
        view.over = over;
    }
}

/// The form, with the packet of the incident that is meant.
fn explain(view: &mut View) {
    let form = match (&view.over, view.pane) {
        (Over::Incident { line, .. }, _) => Form::of(Some(line)),
        (_, Pane::Incidents) => Form::of(view.chosen_incident()),
        _ => Form::of(None),
    };
    view.over = Over::Explain(Box::new(form));
}

fn in_the_filter(view: &mut View, key: KeyCode) {
    match key {
        KeyCode::Enter => view.over = Over::Nothing,
        KeyCode::Esc => {
            view.filter.clear();
            view.over = Over::Nothing;
        }
        other => typed(&mut view.filter, other),
    }
    view.find();
}

/// `None` where the form is to be closed. So many questions have been asked.
fn in_the_form(form: &mut Form, questions: &mut u64, key: KeyCode) -> Option<Act> {
    let last = FIELDS.len() - 1;
    match key {
        KeyCode::Esc => return None,
        KeyCode::Tab | KeyCode::Down => form.at = if form.at == last { 0 } else { form.at + 1 },
        KeyCode::BackTab | KeyCode::Up => form.at = form.at.checked_sub(1).unwrap_or(last),
        KeyCode::PageUp | KeyCode::PageDown => form.scroll = scrolled(form.scroll, key),
        KeyCode::Enter => {
            *questions += 1;
            form.answer = Answer::Awaited(*questions);
            return Some(Act::Ask(*questions, Box::new(form.asked())));
        }
        // There are but two.
        KeyCode::Char(_) | KeyCode::Left | KeyCode::Right if form.at == 0 => {
            let other = if form.fields[0] == "out" { "in" } else { "out" };
            form.edit(other.to_owned());
        }
        KeyCode::Backspace if form.at == 0 => {}
        other => {
            let mut text = form.fields.get(form.at).cloned().unwrap_or_default();
            typed(&mut text, other);
            form.edit(text);
        }
    }
    Some(Act::Nothing)
}

fn typed(text: &mut String, key: KeyCode) {
    match key {
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Delete => text.clear(),
        KeyCode::Char(c) if may_be_typed(c) && text.chars().count() < LONGEST => text.push(c),
        _ => {}
    }
}

/// No control character, and none that turns or hides text.
fn may_be_typed(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, ' '..='~')
}

fn scrolled(scroll: usize, key: KeyCode) -> usize {
    match key {
        KeyCode::Up | KeyCode::Char('k') => scroll.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => scroll + 1,
        KeyCode::PageUp => scroll.saturating_sub(10),
        KeyCode::PageDown => scroll + 10,
        KeyCode::Home => 0,
        _ => scroll,
    }
}
