//! What is on the screen: the last picture, what is chosen in it, and what lies over it.

use super::form::Form;
use super::picture::{Picture, Rule};
use super::rates::Rates;
use crate::cli::alerts::table::{shown, to};
use serde_json::Value;
use std::cmp::Reverse;
use std::time::Instant;

/// One of the two lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Rules,
    Incidents,
}

/// What lies over the picture, or takes what is typed.
#[derive(Clone, Debug)]
pub(super) enum Over {
    Nothing,
    /// The filter is being typed.
    Filter,
    Help {
        scroll: usize,
    },
    /// All of one incident, as it was when it was chosen.
    Incident {
        line: Box<Value>,
        scroll: usize,
    },
    /// All of a rule as it is now.
    Rule {
        name: String,
        scroll: usize,
    },
    Explain(Box<Form>),
}

/// Where somebody stands in a list whose lines move.
#[derive(Clone, Debug, Default)]
pub(super) struct Chosen {
    pub at: usize,
    /// Which line it is; at the first it is whichever comes first.
    name: Option<String>,
    /// The first line that is on the screen.
    pub top: usize,
    /// How many there is room for.
    pub rows: usize,
}

impl Chosen {
    /// The same line among these, or the nearest place.
    fn find(&mut self, names: &[String]) {
        let found = |name: &String| names.iter().position(|other| other == name);
        if let Some(at) = self.name.as_ref().and_then(found) {
            self.at = at;
        }
        self.go(self.at, names);
    }

    fn go(&mut self, at: usize, names: &[String]) {
        self.at = at.min(names.len().saturating_sub(1));
        self.name = names.get(self.at).filter(|_| self.at > 0).cloned();
    }

    /// Makes room for so many lines, and has the chosen one among them.
    pub fn fit(&mut self, rows: usize, lines: usize) {
        self.rows = rows;
        self.top = self.top.min(lines.saturating_sub(rows)).min(self.at);
        self.top = self.top.max((self.at + 1).saturating_sub(rows));
    }
}

/// No answer since, and why.
#[derive(Clone, Debug)]
pub(super) struct Silence {
    pub since: Instant,
    pub why: String,
}

/// Everything that drawing needs.
#[derive(Debug)]
pub(super) struct View {
    pub colour: bool,
    pub picture: Option<Picture>,
    /// `None` while there is but one picture.
    pub rates: Option<Rates>,
    pub silence: Option<Silence>,
    pub paused: bool,
    pub pane: Pane,
    pub rules: Chosen,
    pub incidents: Chosen,
    pub filter: String,
    /// Rules by rate, not in order.
    pub by_rate: bool,
    pub over: Over,
    /// Asked of the gate in explain forms; each has its own number.
    pub questions: u64,
}

impl View {
    pub fn new(colour: bool) -> View {
        View {
            colour,
            picture: None,
            rates: None,
            silence: None,
            paused: false,
            pane: Pane::Rules,
            rules: Chosen::default(),
            incidents: Chosen::default(),
            filter: String::new(),
            by_rate: false,
            over: Over::Nothing,
            questions: 0,
        }
    }

    /// Takes a new picture, or keeps the old one and says why.
    pub fn see(&mut self, picture: Result<Picture, String>) {
        match picture {
            Ok(_) if self.paused => self.silence = None,
            Ok(picture) => {
                let before = self.picture.as_ref();
                self.rates = before.and_then(|before| Rates::between(before, &picture));
                self.picture = Some(picture);
                self.silence = None;
                self.find();
            }
            Err(why) => {
                let since = match (&self.silence, &self.picture) {
                    (Some(silence), _) => silence.since,
                    (None, Some(picture)) => picture.at,
                    (None, None) => Instant::now(),
                };
                self.silence = Some(Silence { since, why });
            }
        }
    }

    /// What the gate says to the question of a number; nobody may be waiting for it any more.
    pub fn hear(&mut self, number: u64, answer: Result<Value, String>) {
        if let Over::Explain(form) = &mut self.over {
            form.hear(number, answer);
        }
    }

    /// Rules that the filter lets through, in the order that is wanted.
    pub fn shown_rules(&self) -> Vec<(&str, &Rule)> {
        let rules = self.picture.iter().flat_map(|p| &p.status.rules.0);
        let mut shown: Vec<(&str, &Rule)> = rules
            .map(|(name, rule)| (name.as_str(), rule))
            .filter(|(name, rule)| self.lets(&[*name, rule.action.as_str(), note(rule)]))
            .collect();
        if let Some(rates) = self.rates.as_ref().filter(|_| self.by_rate) {
            let rate = |name: &str| rates.rules.get(name).map_or(0.0, |rate| rate.packets);
            // In thousandths, which have an order. Those of the same rate stay in theirs.
            shown.sort_by_key(|(name, _)| Reverse((rate(name) * 1e3) as u64));
        }
        shown
    }

    /// Incidents that the filter lets through, the latest first.
    pub fn shown_incidents(&self) -> Vec<&Value> {
        let incidents = self.picture.iter().flat_map(|p| &p.incidents);
        let lets = |line: &&Value| {
            let alert = &line["alert"];
            let text = |name: &str| alert[name].as_str().unwrap_or_default();
            let (to, shown) = (to(line), shown(line).unwrap_or_default());
            let words = ["signature", "host", "host_name", "level", "verdict"].map(text);
            self.lets(&words) || self.lets(&[&to, &shown])
        };
        incidents.filter(lets).collect()
    }

    /// The incident that is chosen.
    pub fn chosen_incident(&self) -> Option<&Value> {
        self.shown_incidents().get(self.incidents.at).copied()
    }

    /// Moves in the list that is in use.
    pub fn step(&mut self, by: isize) {
        let names = self.names(self.pane);
        let chosen = self.chosen();
        let at = chosen.at.saturating_add_signed(by);
        chosen.go(at, &names);
    }

    /// The list that is in use.
    pub fn chosen(&mut self) -> &mut Chosen {
        match self.pane {
            Pane::Rules => &mut self.rules,
            Pane::Incidents => &mut self.incidents,
        }
    }

    /// What was chosen, wherever it is now.
    pub fn find(&mut self) {
        let (rules, incidents) = (self.names(Pane::Rules), self.names(Pane::Incidents));
        self.rules.find(&rules);
        self.incidents.find(&incidents);
    }

    fn names(&self, pane: Pane) -> Vec<String> {
        let incident = |line: &&Value| line["alert"]["incident"].as_str().unwrap_or("").to_owned();
        match pane {
            Pane::Rules => {
                let rules = self.shown_rules().into_iter();
                rules.map(|(name, _)| name.to_owned()).collect()
            }
            Pane::Incidents => self.shown_incidents().iter().map(incident).collect(),
        }
    }

    fn lets(&self, texts: &[&str]) -> bool {
        let wanted = self.filter.to_lowercase();
        wanted.is_empty()
            || texts
                .iter()
                .any(|text| text.to_lowercase().contains(&wanted))
    }
}

/// What a person should know of a rule beside its numbers.
pub(super) fn note(rule: &Rule) -> &'static str {
    match (rule.expired, rule.shadow) {
        (true, _) => "expired",
        (_, true) => "in shadow",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{incidents, status};
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn a_paused_view_keeps_its_picture_and_silence_counts_from_the_last_answer() {
        let start = Instant::now();
        let picture = |seconds: u64| {
            let at = (start + Duration::from_secs(seconds), SystemTime::UNIX_EPOCH);
            Picture::read(at, &status(), &incidents())
        };
        let shown = |view: &View| view.picture.as_ref().map(|picture| picture.at - start);
        let mut view = View::new(false);
        view.see(picture(1));
        view.paused = true;
        view.see(picture(2));
        assert_eq!(shown(&view), Some(Duration::from_secs(1)));
        view.paused = false;
        view.see(picture(3));
        assert_eq!(shown(&view), Some(Duration::from_secs(3)));
        view.see(Err("gone".to_owned()));
        view.see(Err("still gone".to_owned()));
        let silence = view.silence.as_ref().unwrap();
        assert_eq!(silence.since - start, Duration::from_secs(3));
        assert_eq!(silence.why, "still gone");
        view.see(picture(9));
        assert!(view.silence.is_none());
    }

    #[test]
    fn the_filter_finds_rules_and_incidents_by_what_is_shown_of_them() {
        let mut view = View::new(false);
        let at = (Instant::now(), SystemTime::UNIX_EPOCH);
        view.see(Picture::read(at, &status(), &incidents()));
        for (filter, rules, found) in [
            ("", 5, 2),
            ("TFTP", 1, 2),
            ("10.77.0.31", 0, 1),
            ("desk-9", 0, 2),
            ("payload.BIN", 0, 2),
            ("93.184", 0, 2),
            ("shadow", 1, 0),
            ("allow", 2, 0),
            ("nothing like it", 0, 0),
        ] {
            filter.clone_into(&mut view.filter);
            view.find();
            let counts = (view.shown_rules().len(), view.shown_incidents().len());
            assert_eq!(counts, (rules, found), "{filter}");
        }
        assert!(view.chosen_incident().is_none());
    }
}
