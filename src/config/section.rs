//! A table of the config whose keys are asked for one by one: what nobody asked for is an unknown key.

use super::error::nearest;
use super::raw::{Reader, Value};
use std::ops::Range;
use toml::Spanned;
use toml::de::DeTable;

/// A table whose keys are asked for one by one.
pub(super) struct Section<'t> {
    name: String,
    /// The place of the table: its header, or the inline table.
    pub span: Range<usize>,
    entries: Vec<(Spanned<String>, Value<'t>)>,
    asked: Vec<&'static str>,
    /// The places of the values that were taken.
    taken: Vec<(&'static str, Range<usize>)>,
}

impl<'t> Section<'t> {
    pub fn new(name: &str, table: DeTable<'t>, span: Range<usize>) -> Section<'t> {
        let entries = table.into_iter().map(|(key, value)| {
            let span = key.span();
            (Spanned::new(span, key.into_inner().into_owned()), value)
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        Section {
            name: name.to_owned(),
            span,
            entries,
            asked: Vec::new(),
            taken: Vec::new(),
        }
    }

    /// Takes the value of a key.
    pub fn take(&mut self, key: &'static str) -> Option<Value<'t>> {
        self.take_entry(key).map(|(_, value)| value)
    }

    /// Takes a key and its value.
    pub fn take_entry(&mut self, key: &'static str) -> Option<(Spanned<String>, Value<'t>)> {
        self.asked.push(key);
        let at = self
            .entries
            .iter()
            .position(|(found, _)| found.get_ref() == key)?;
        let entry = self.entries.remove(at);
        self.taken.push((key, entry.1.span()));
        Some(entry)
    }

    /// Takes a subsection; an empty one where there is none.
    pub fn section(&mut self, key: &'static str, reader: &mut Reader) -> Option<Section<'t>> {
        let value = self.take(key)?;
        reader.section(value, &format!("[{key}]"))
    }

    /// Everything left, as the free names of a map.
    pub fn rest(&mut self) -> Vec<(Spanned<String>, Value<'t>)> {
        std::mem::take(&mut self.entries)
    }

    /// Refuses keys that the language has and this version does not.
    pub fn refuse_later(&mut self, later: &[(&'static str, &str)], reader: &mut Reader) {
        for (key, what) in later {
            let found = self.take_entry(key);
            // It is not among the keys that are suggested.
            self.asked.pop();
            if let Some((found, _)) = found {
                let message = format!("this version does not have `{key}` ({what})");
                let help = format!(
                    "take `{key}` out: it would have no effect; see whether what is left is what you mean"
                );
                reader.error(found.span(), message, "not in this version", help);
            }
        }
    }

    /// Reports every key that nobody asked for, and keeps the places of the others.
    pub fn finish(self, reader: &mut Reader) {
        reader.places.keep(&self.name, self.taken);
        for (key, _) in self.entries {
            let known = self.asked.join(", ");
            let help = match nearest(key.get_ref(), self.asked.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys of {} are: {known}", self.name),
            };
            let message = format!("unknown key `{}` in {}", key.get_ref(), self.name);
            reader.error(key.span(), message, "not a key that Portcullis knows", help);
        }
    }
}
