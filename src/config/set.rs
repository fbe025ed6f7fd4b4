//! `[sets]`: named sets of addresses, inline or from files.

use super::address;
use super::baseline;
use super::error::nearest;
use super::raw::{Reader, Value};
use super::section::Section;
use super::set_file::{self, Fault, HELP_OF_FILE};
use crate::policy::{AddrRange, Set};
use std::path::PathBuf;
use toml::de::DeValue;

/// The sets of [`baseline::SETS`] at their places, then those that the config adds. `lan` holds `lan.prefixes`.
pub(super) fn sets(
    reader: &mut Reader,
    section: Option<Section<'_>>,
    lan: Vec<AddrRange>,
) -> Vec<Set> {
    let mut sets = baseline::SETS
        .map(|name| Set {
            name: name.to_owned(),
            ranges: Vec::new(),
            file: None,
        })
        .to_vec();
    for (key, value) in section
        .map(|mut section| section.rest())
        .unwrap_or_default()
    {
        let name = key.get_ref();
        if name == baseline::SETS[0] {
            let help = "fill `prefixes` of [lan], and write \"@lan\" in rules";
            reader.error(
                key.span(),
                "the set `lan` is always the prefixes of [lan]",
                "cannot be set here",
                help,
            );
            continue;
        }
        if !super::rule::is_name(name) {
            reader.error(
                key.span(),
                format!("`{name}` is not a name for a set"),
                "here",
                super::rule::NAME_HELP,
            );
            continue;
        }
        let (ranges, file) = match value.get_ref() {
            DeValue::Table(_) => self::file(reader, name, value),
            _ => (ranges(reader, name, value), None),
        };
        reader.places.sets.insert(name.clone(), key.span());
        let set = Set {
            name: name.clone(),
            ranges,
            file,
        };
        match sets.iter_mut().find(|known| known.name == *name) {
            Some(known) => *known = set,
            None => sets.push(set),
        }
    }
    sets[0].ranges = lan;
    sets
}

/// The longest entry that is read: two IPv6 addresses and what is between them, and then some.
const LONGEST_ENTRY: usize = 100;

/// An entry as a command gives it: an address, a prefix or a range.
///
/// # Errors
/// What is wrong with it and what would be right, in one line.
pub fn entry(text: &str) -> Result<AddrRange, String> {
    let whole = if text.len() > LONGEST_ENTRY { "" } else { text };
    address::range(whole).map_err(|(message, help)| match whole.is_empty() {
        true => format!("{} is not an entry of a set", address::quoted(text)),
        false if text.starts_with(['!', '@']) => format!("{message}; {IN_A_SET}"),
        false => format!("{message}; {help}"),
    })
}

/// The place of the set of this name, with or without `@`.
///
/// # Errors
/// That there is none, the nearest one, and all there are.
pub fn find(sets: &[Set], name: &str) -> Result<usize, String> {
    let name = name.strip_prefix('@').unwrap_or(name);
    let found = sets.iter().position(|set| set.name == name);
    found.ok_or_else(|| {
        let short: String = name.chars().take(LONGEST_ENTRY).collect();
        let names = || sets.iter().map(|set| set.name.as_str());
        let near = nearest(&short, names());
        let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
        let all: Vec<_> = names().take(MOST_NAMED).collect();
        let more = if sets.len() > all.len() {
            " and others"
        } else {
            ""
        };
        format!(
            "there is no set {}; {near}There are {}{more}",
            address::quoted(&short),
            all.join(", ")
        )
    })
}

/// Sets that an error names.
const MOST_NAMED: usize = 50;

fn ranges(reader: &mut Reader, name: &str, value: Value<'_>) -> Vec<AddrRange> {
    match value.get_ref() {
        DeValue::Array(array) => array
            .iter()
            .filter_map(|item| item_of(reader, item, name))
            .collect(),
        _ => {
            let help = "write a list of addresses, prefixes and ranges, or { file = \"a/path\" }";
            reader.error(
                value.span(),
                format!("the set `{name}` must be a list or a file"),
                "here",
                help,
            );
            Vec::new()
        }
    }
}

fn item_of(reader: &mut Reader, item: &Value<'_>, name: &str) -> Option<AddrRange> {
    let text = reader.string(item, name)?;
    match address::range(&text) {
        Ok(range) => Some(range),
        Err((message, help)) => {
            let help = if text.starts_with(['!', '@']) {
                IN_A_SET.to_owned()
            } else {
                help
            };
            reader.error(item.span(), message, "here", help);
            None
        }
    }
}

const IN_A_SET: &str =
    "a set holds addresses, prefixes and ranges; negation and other sets stand in rules";

fn file(reader: &mut Reader, name: &str, value: Value<'_>) -> (Vec<AddrRange>, Option<PathBuf>) {
    let Some(mut section) = reader.section(value, &format!("the set `{name}`")) else {
        return (Vec::new(), None);
    };
    let (table, file) = (section.span.clone(), section.take("file"));
    section.finish(reader);
    let Some(file) = file else {
        let help = "write { file = \"a/path\" }";
        reader.error(
            table,
            format!("the set `{name}` names no file"),
            "no `file` here",
            help,
        );
        return (Vec::new(), None);
    };
    let Some(path) = reader.path(&file, "file") else {
        return (Vec::new(), None);
    };
    let ranges = match set_file::read(&path) {
        Ok(ranges) => ranges,
        Err(Fault::Unreadable(message)) => {
            reader.error(file.span(), message, "this file", HELP_OF_FILE);
            Vec::new()
        }
        Err(Fault::Lines(problems)) => {
            reader.problems.extend(problems);
            Vec::new()
        }
    };
    (ranges, Some(path))
}
