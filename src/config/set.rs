//! `[sets]`: named sets of addresses, inline or from files.

use super::address;
use super::baseline;
use super::error::{Problem, Source};
use super::raw::{Reader, Value};
use super::section::Section;
use crate::policy::{AddrRange, Set};
use std::path::Path;
use std::sync::Arc;
use toml::de::DeValue;

/// How many errors of one set file are reported: the first ones say what is wrong with the rest.
const ERRORS_OF_A_FILE: usize = 20;

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
        let ranges = ranges(reader, name, value);
        match sets.iter_mut().find(|set| set.name == *name) {
            Some(set) => set.ranges = ranges,
            None => sets.push(Set {
                name: name.clone(),
                ranges,
            }),
        }
    }
    sets[0].ranges = lan;
    sets
}

fn ranges(reader: &mut Reader, name: &str, value: Value<'_>) -> Vec<AddrRange> {
    match value.get_ref() {
        DeValue::Array(array) => array
            .iter()
            .filter_map(|item| entry(reader, item, name))
            .collect(),
        DeValue::Table(_) => file(reader, name, value).unwrap_or_default(),
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

fn entry(reader: &mut Reader, item: &Value<'_>, name: &str) -> Option<AddrRange> {
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

fn file(reader: &mut Reader, name: &str, value: Value<'_>) -> Option<Vec<AddrRange>> {
    let mut section = reader.section(value, &format!("the set `{name}`"))?;
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
        return None;
    };
    let path = reader.path(&file, "file")?;
    match std::fs::read_to_string(&path) {
        Ok(text) => Some(lines(reader, &path, &text)),
        Err(error) => {
            let message = format!("cannot read {}: {error}", path.display());
            let help =
                "a relative path is relative to the config file; an empty file is an empty set";
            reader.error(file.span(), message, "this file", help);
            None
        }
    }
}

/// One entry a line; `#` starts a comment; empty lines are nothing.
fn lines(reader: &mut Reader, path: &Path, text: &str) -> Vec<AddrRange> {
    let mut source: Option<Source> = None;
    let (mut ranges, mut errors, mut offset) = (Vec::new(), 0, 0);
    for line in text.split_inclusive('\n') {
        let entry = line.split('#').next().unwrap_or_default();
        let (start, entry) = (
            offset + entry.len() - entry.trim_start().len(),
            entry.trim(),
        );
        offset += line.len();
        if entry.is_empty() {
            continue;
        }
        match address::range(entry) {
            Ok(range) => ranges.push(range),
            Err((message, help)) if errors < ERRORS_OF_A_FILE => {
                errors += 1;
                let source = source.get_or_insert_with(|| {
                    Source::new(path.display().to_string(), Arc::from(text))
                });
                reader.problems.push(
                    Problem::at(source, start..start + entry.len(), message, "here").help(help),
                );
            }
            Err(_) => {}
        }
    }
    ranges
}
