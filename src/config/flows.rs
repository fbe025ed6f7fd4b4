//! `[flows]`: how much is remembered of traffic, and for how long.

use super::raw::{Reader, Value};
use super::section::Section;
use crate::flow::state::{LONGEST, Timeouts};
pub use crate::flow::{Overflow, Settings};
use std::time::Duration;

/// The most flows that a table may be made for: 16 Mi, of 90 bytes each.
const MOST: u32 = 1 << 24;

/// Reads `[flows]`.
pub(super) fn flows(reader: &mut Reader, section: Option<Section<'_>>) -> Settings {
    let mut settings = Settings::default();
    let Some(mut section) = section else {
        return settings;
    };
    if let Some(value) = section.take("size")
        && let Some(size) = reader.integer(&value, "size", 1024..=MOST)
    {
        settings = Settings::of_size(size as usize);
    }
    if let Some(value) = section.take("per_host")
        && let Some(most) = reader.integer(&value, "per_host", 16..=MOST)
    {
        settings.per_host = (most as usize).min(settings.size);
        if most as usize > settings.size {
            let message = format!(
                "`per_host` is more than the table's {} flows",
                settings.size
            );
            let help =
                "raise `size`, or write less: what one host may have is missing to the others";
            reader.warn(value.span(), message, "more than there are", help);
        }
    }
    if let Some(value) = section.take("overflow") {
        let words = [("drop", Overflow::Drop), ("allow", Overflow::Allow)];
        settings.overflow = reader
            .word(&value, "overflow", &words)
            .unwrap_or(Overflow::Drop);
    }
    if let Some(value) = section.take("adopt") {
        settings.adopt = match value.get_ref().as_str() {
            Some("off") => Duration::ZERO,
            _ => bounded(reader, &value, "adopt").unwrap_or(Duration::ZERO),
        };
    }
    if let Some(value) = section.take("datagrams")
        && let Some(most) = reader.integer(&value, "datagrams", 64..=65_536)
    {
        settings.datagrams = most as usize;
    }
    if let Some(value) = section.take("streams")
        && let Some(most) = reader.integer(&value, "streams", 64..=65_536)
    {
        settings.streams = most as usize;
    }
    if let Some(value) = section.take("timeouts")
        && let Some(section) = reader.section(value, "timeouts")
    {
        timeouts(reader, section, &mut settings.timeouts);
    }
    section.finish(reader);
    settings
}

fn timeouts(reader: &mut Reader, mut section: Section<'_>, timeouts: &mut Timeouts) {
    let keys: [(&str, &mut Duration); 7] = [
        ("tcp_opening", &mut timeouts.tcp_opening),
        ("tcp", &mut timeouts.tcp),
        ("tcp_closing", &mut timeouts.tcp_closing),
        ("udp", &mut timeouts.udp),
        ("udp_answered", &mut timeouts.udp_answered),
        ("icmp", &mut timeouts.icmp),
        ("other", &mut timeouts.other),
    ];
    for (key, timeout) in keys {
        if let Some(value) = section.take(key)
            && let Some(stated) = bounded(reader, &value, key)
        {
            *timeout = stated;
        }
    }
    section.finish(reader);
}

/// A duration from a second to [`LONGEST`].
fn bounded(reader: &mut Reader, value: &Value<'_>, key: &str) -> Option<Duration> {
    let stated = reader.duration(value, key)?;
    if (Duration::from_secs(1)..=LONGEST).contains(&stated) {
        return Some(stated);
    }
    let message = format!(
        "`{key}` must be from 1s to {}",
        humantime::format_duration(LONGEST)
    );
    let help = "the flow clock counts seconds, and 8 hours of them";
    reader.error(value.span(), message, "out of range", help);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, String> {
        let text = format!("[flows]\n{text}");
        crate::config::parse(&text, "test", std::path::Path::new("."))
            .map(|config| config.flows)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn without_the_section_and_with_an_empty_one_there_is_room_for_a_million() {
        assert_eq!(settings("").unwrap(), Settings::default());
        assert_eq!(Settings::default().size, 1_000_000);
        assert_eq!(Settings::default().per_host, 125_000);
    }

    #[test]
    fn every_key_is_taken() {
        let text = "size = 2000\nper_host = 100\noverflow = \"allow\"\nadopt = \"5m\"\ndatagrams = 64\nstreams = 128\n\
            timeouts = { tcp_opening = \"1s\", tcp = \"8h\", tcp_closing = \"3s\", udp = \"4s\", udp_answered = \"5s\", icmp = \"6s\", other = \"7s\" }\n";
        let seconds = Duration::from_secs;
        let expected = Settings {
            size: 2000,
            per_host: 100,
            overflow: Overflow::Allow,
            adopt: seconds(300),
            datagrams: 64,
            streams: 128,
            timeouts: Timeouts {
                tcp_opening: seconds(1),
                tcp: seconds(8 * 3600),
                tcp_closing: seconds(3),
                udp: seconds(4),
                udp_answered: seconds(5),
                icmp: seconds(6),
                other: seconds(7),
            },
        };
        assert_eq!(settings(text).unwrap(), expected);
        assert_eq!(settings("adopt = \"off\"").unwrap().adopt, Duration::ZERO);
        assert_eq!(settings("size = 8000").unwrap().per_host, 1000);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for wrong in [
            "size = 1000",
            "size = 99999999",
            "per_host = 0",
            "datagrams = 1",
            "streams = 70000",
            "overflow = \"reject\"",
            "adopt = \"10h\"",
            "timeouts = { tcp = \"9h\" }",
            "timeouts = { udp = \"10ms\" }",
            "timeouts = { sctp = \"10s\" }",
            "timeouts = 5",
            "hosts = 5",
        ] {
            assert!(settings(wrong).is_err(), "{wrong}");
        }
    }
}
