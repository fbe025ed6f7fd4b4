//! `[quarantine]`: who may be put in quarantine, how many at once, and for how long.

use super::raw::{Reader, Value};
use super::section::Section;
use super::{address, link};
use crate::policy::{AddrRange, Set};
use std::time::Duration;

/// The longest time.
pub const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// `[quarantine]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Hosts that never are: a router, a server that others live by.
    pub protect: Vec<Protected>,
    /// At most so many of a hundred hosts of the LAN at once, and one in any case.
    pub share: u32,
    /// How long, where nobody says.
    pub time: Duration,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            protect: Vec::new(),
            share: 10,
            time: Duration::from_secs(3600),
        }
    }
}

/// Who is protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protected {
    /// Every host with one of these addresses.
    Range(AddrRange),
    /// The machine with this MAC address.
    Mac([u8; 6]),
    /// Every address of the set of this name, as it is when somebody asks.
    Set(String),
}

/// Reads `[quarantine]`.
pub(super) fn quarantine(
    reader: &mut Reader,
    section: Option<Section<'_>>,
    sets: &[Set],
) -> Settings {
    let mut settings = Settings::default();
    let Some(mut section) = section else {
        return settings;
    };
    if let Some(value) = section.take("protect") {
        for item in reader.list(&value, "protect").unwrap_or_default() {
            settings.protect.extend(protected(reader, &item, sets));
        }
    }
    if let Some(value) = section.take("share") {
        settings.share = reader.integer(&value, "share", 1..=100).unwrap_or(1);
    }
    if let Some(value) = section.take("for") {
        settings.time = time(reader, &value, "for").unwrap_or(settings.time);
    }
    section.finish(reader);
    settings
}

/// A time in quarantine.
pub(super) fn time(reader: &mut Reader, value: &Value<'_>, key: &str) -> Option<Duration> {
    let time = reader.duration(value, key)?;
    if (Duration::from_secs(1)..=LONGEST).contains(&time) {
        return Some(time);
    }
    let message = format!("`{key}` cannot be {}", humantime::format_duration(time));
    let help = "write a time from \"1s\" to \"365days\"";
    reader.error(value.span(), message, "too short, or too long", help);
    None
}

fn protected(reader: &mut Reader, item: &Value<'_>, sets: &[Set]) -> Option<Protected> {
    let text = reader.string(item, "protect")?;
    if let Some(name) = text.strip_prefix('@') {
        if sets.iter().any(|set| set.name == name) {
            return Some(Protected::Set(name.to_owned()));
        }
        let names = sets.iter().map(|set| set.name.as_str());
        let help = match super::error::nearest(name, names) {
            Some(near) => format!("did you mean \"@{near}\"?"),
            None => "name a set of [sets], or `@mail_servers`, `@resolvers`".to_owned(),
        };
        reader.error(
            item.span(),
            format!("there is no set `{name}`"),
            "here",
            help,
        );
        return None;
    }
    if let Ok(mac) = link::mac(&text) {
        return Some(Protected::Mac(mac));
    }
    match address::range(&text) {
        Ok(range) => Some(Protected::Range(range)),
        Err((message, help)) => {
            let help = format!("{help}; a MAC address and \"@set\" will do too");
            reader.error(item.span(), message, "here", help);
            None
        }
    }
}
