//! `[decoy]`: how much the conversations of decoys may cost.

use super::address::quoted;
use super::raw::{Reader, Value};
use super::section::Section;
use super::size;
use std::time::Duration;

/// The most conversations at once.
const MOST: u32 = 1024;
/// The longest time that a conversation may last.
const LONGEST: Duration = Duration::from_secs(600);
/// The shortest.
const SHORTEST: Duration = Duration::from_secs(1);

/// `[decoy]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoy {
    /// Conversations at once, 1 to 1024; what would open another is dropped.
    pub at_most: usize,
    /// Those of one inside host, 1 to `at_most`.
    pub for_a_host: usize,
    /// How long a conversation lasts, 1 s to 10 min.
    pub deadline: Duration,
    /// How long its client may say nothing, 1 s to `deadline`.
    pub silence: Duration,
    /// Bytes of a transcript, 256 to 1 MiB.
    pub record: usize,
    /// Frames a second that workers hand to decoys at most, 10 to 1,000,000.
    pub rate: u32,
    /// The host name by which decoys speak of themselves: letters, digits, `-` and `.`.
    pub name: String,
}

impl Default for Decoy {
    fn default() -> Decoy {
        Decoy {
            at_most: 64,
            for_a_host: 16,
            deadline: Duration::from_secs(60),
            silence: Duration::from_secs(20),
            record: 16 << 10,
            rate: 2000,
            name: "localhost.localdomain".to_owned(),
        }
    }
}

/// Reads `[decoy]`.
pub(super) fn decoy(reader: &mut Reader, section: Option<Section<'_>>) -> Decoy {
    let mut decoy = Decoy::default();
    let Some(mut section) = section else {
        return decoy;
    };
    // What is compared with a value that has a fault of its own is compared with its limit.
    let at_most = section.take("at_most");
    let at_most = at_most.map(|value| reader.integer(&value, "at_most", 1..=MOST).unwrap_or(MOST));
    decoy.at_most = at_most.map_or(decoy.at_most, |most| most as usize);
    decoy.for_a_host = decoy.for_a_host.min(decoy.at_most);
    if let Some(value) = section.take("for_a_host") {
        decoy.for_a_host = for_a_host(reader, &value, decoy.at_most).unwrap_or(1);
    }
    if let Some(value) = section.take("deadline") {
        decoy.deadline = deadline(reader, &value).unwrap_or(LONGEST);
    }
    decoy.silence = decoy.silence.min(decoy.deadline);
    if let Some(value) = section.take("silence") {
        decoy.silence = silence(reader, &value, decoy.deadline).unwrap_or(SHORTEST);
    }
    let record = section.take("record");
    let record = record.and_then(|value| size::bytes(reader, &value, "record", 256..=1 << 20));
    decoy.record = record.map_or(decoy.record, |bytes| bytes as usize);
    let rate = section.take("rate");
    let rate = rate.and_then(|value| reader.integer(&value, "rate", 10..=1_000_000));
    decoy.rate = rate.unwrap_or(decoy.rate);
    if let Some(value) = section.take("name") {
        decoy.name = name(reader, &value).unwrap_or_default();
    }
    section.finish(reader);
    decoy
}

fn for_a_host(reader: &mut Reader, value: &Value<'_>, at_most: usize) -> Option<usize> {
    let number = reader.integer(value, "for_a_host", 1..=MOST)? as usize;
    if number <= at_most {
        return Some(number);
    }
    let help = format!(
        "those of one host are among all: write a number from 1 to {at_most}, or a greater `at_most`"
    );
    let message = format!("`for_a_host` is greater than `at_most`, {at_most}");
    reader.error(value.span(), message, "a part larger than the whole", help);
    None
}

fn deadline(reader: &mut Reader, value: &Value<'_>) -> Option<Duration> {
    let time = reader.duration(value, "deadline")?;
    if (SHORTEST..=LONGEST).contains(&time) {
        return Some(time);
    }
    let message = format!("`deadline` cannot be {}", humantime::format_duration(time));
    let help = "write a time from \"1s\" to \"10m\": so long a conversation lasts at most";
    reader.error(value.span(), message, "too short, or too long", help);
    None
}

fn silence(reader: &mut Reader, value: &Value<'_>, deadline: Duration) -> Option<Duration> {
    let time = reader.duration(value, "silence")?;
    if (SHORTEST..=deadline).contains(&time) {
        return Some(time);
    }
    let message = format!("`silence` cannot be {}", humantime::format_duration(time));
    let help = format!(
        "write a time from \"1s\" to `deadline`, {}: a client that says nothing for so long has left",
        humantime::format_duration(deadline)
    );
    reader.error(value.span(), message, "too short, or too long", help);
    None
}

/// A host name as RFC 1123 section 2.1 has it.
fn name(reader: &mut Reader, value: &Value<'_>) -> Option<String> {
    let text = reader.string(value, "name")?;
    let label = |label: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let ends = label.starts_with('-') || label.ends_with('-');
        (1..=63).contains(&label.len()) && label.bytes().all(letter) && !ends
    };
    if text.len() <= 253 && text.split('.').all(label) {
        return Some(text);
    }
    let help = "write letters, digits, `-` and `.`, such as \"mail.example.net\": at most 63 of them between dots, with no `-` at the ends, and 253 in all";
    let message = format!("{} is not a host name", quoted(&text));
    reader.error(value.span(), message, "here", help);
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Decoy {
        let text = format!("[decoy]\n{text}\n");
        match crate::config::parse(&text, "test", std::path::Path::new("/")) {
            Ok(config) => config.decoy,
            Err(error) => panic!("{}", crate::config::error::render(&error.problems, false)),
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let empty = crate::config::parse("", "test", std::path::Path::new("/")).unwrap();
        let expected = Decoy {
            at_most: 64,
            for_a_host: 16,
            deadline: Duration::from_secs(60),
            silence: Duration::from_secs(20),
            record: 16_384,
            rate: 2000,
            name: "localhost.localdomain".to_owned(),
        };
        assert_eq!(empty.decoy, expected);
        assert_eq!((Decoy::default(), read("")), (expected.clone(), expected));
    }

    #[test]
    fn a_default_is_never_more_than_the_whole_that_is_stated() {
        for (at_most, for_a_host) in [(1, 1), (15, 15), (16, 16), (17, 16), (1024, 16)] {
            let decoy = read(&format!("at_most = {at_most}"));
            assert_eq!((decoy.at_most, decoy.for_a_host), (at_most, for_a_host));
        }
        for (deadline, silence) in [(1, 1), (19, 19), (20, 20), (21, 20), (600, 20)] {
            let decoy = read(&format!("deadline = \"{deadline}s\""));
            let seconds = (decoy.deadline.as_secs(), decoy.silence.as_secs());
            assert_eq!(seconds, (deadline, silence));
        }
    }

    #[test]
    fn every_key_is_taken_up_to_its_limits() {
        let most = read(
            "at_most = 1024\nfor_a_host = 1024\ndeadline = \"10m\"\nsilence = \"10m\"\nrecord = \"1MiB\"\nrate = 1_000_000\nname = \"Mail-1.example.net\"",
        );
        let expected = Decoy {
            at_most: 1024,
            for_a_host: 1024,
            deadline: Duration::from_secs(600),
            silence: Duration::from_secs(600),
            record: 1 << 20,
            rate: 1_000_000,
            name: "Mail-1.example.net".to_owned(),
        };
        assert_eq!(most, expected);
        let least = read(
            "at_most = 1\nfor_a_host = 1\ndeadline = \"1s\"\nsilence = \"1s\"\nrecord = \"256B\"\nrate = 10\nname = \"a\"",
        );
        let expected = Decoy {
            at_most: 1,
            for_a_host: 1,
            deadline: Duration::from_secs(1),
            silence: Duration::from_secs(1),
            record: 256,
            rate: 10,
            name: "a".to_owned(),
        };
        assert_eq!(least, expected);
    }

    #[test]
    fn a_name_has_labels_of_63_and_is_not_longer_than_253() {
        let label = "a".repeat(63);
        let longest = format!("{label}.{label}.{label}.{}", &label[..61]);
        assert_eq!(read(&format!("name = \"{longest}\"")).name, longest);
        for wrong in [format!("{longest}a"), format!("{label}a")] {
            let text = format!("[decoy]\nname = \"{wrong}\"\n");
            assert!(crate::config::parse(&text, "test", std::path::Path::new("/")).is_err());
        }
    }
}
