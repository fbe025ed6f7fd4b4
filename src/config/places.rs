//! Where rules and sets stand in the text, for what is said of them once the whole policy is known.

use std::collections::HashMap;
use std::ops::Range;

/// The places of rules and sets, by name.
#[derive(Clone, Debug, Default)]
pub struct Places {
    /// The keys of each set in `[sets]`.
    pub(super) sets: HashMap<String, Range<usize>>,
    rules: HashMap<String, RulePlace>,
    /// The taken keys of each `[[rule]]`, until [`Places::name`] says whose they are; by where the name stands.
    unnamed: HashMap<usize, Vec<(&'static str, Range<usize>)>>,
}

/// Where a rule stands.
#[derive(Clone, Debug)]
pub(super) struct RulePlace {
    /// The value of `name`.
    pub name: Range<usize>,
    /// The values of the keys that it states.
    keys: Vec<(&'static str, Range<usize>)>,
}

impl RulePlace {
    /// The value of a key; for `sport` and `dport` also of the ICMP keys that stand for them.
    pub fn key(&self, key: &str) -> Option<Range<usize>> {
        let other = match key {
            "sport" => "icmp_type",
            "dport" => "icmp_code",
            same => same,
        };
        let found = self.keys.iter();
        let mut found = found.filter(|(name, _)| *name == key || *name == other);
        found.next().map(|(_, span)| span.clone())
    }
}

impl Places {
    /// Keeps the places of the values of a section.
    pub(super) fn keep(&mut self, section: &str, taken: Vec<(&'static str, Range<usize>)>) {
        if section != "[[rule]]" {
            return;
        }
        if let Some((_, name)) = taken.iter().find(|(key, _)| *key == "name") {
            self.unnamed.insert(name.start, taken);
        }
    }

    /// Gives the rule whose name stands at `span` its name.
    pub(super) fn name(&mut self, rule: &str, span: &Range<usize>) {
        let place = RulePlace {
            name: span.clone(),
            keys: self.unnamed.remove(&span.start).unwrap_or_default(),
        };
        self.rules.insert(rule.to_owned(), place);
    }

    /// Where a rule of the text stands.
    pub(super) fn rule(&self, name: &str) -> Option<&RulePlace> {
        self.rules.get(name)
    }
}
