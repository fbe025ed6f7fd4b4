//! Numbers of bytes with a unit.

use super::raw::{Reader, Value};
use std::ops::RangeInclusive;

const UNITS: [(&str, u64); 7] = [
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("B", 1),
];

/// A number of bytes such as `100MB` or `64MiB`, within `range`.
pub(super) fn bytes(
    reader: &mut Reader,
    value: &Value<'_>,
    key: &str,
    range: RangeInclusive<u64>,
) -> Option<u64> {
    let text = reader.string(value, key)?;
    let read = parse(&text);
    let (label, help) = match read {
        Some(bytes) if range.contains(&bytes) => return read,
        Some(_) => (
            "out of range",
            format!("write {} to {}", words(*range.start()), words(*range.end())),
        ),
        None => (
            "not a number of bytes",
            "write a whole number and a unit: B, kB, MB, GB, KiB, MiB or GiB, such as \"100MB\""
                .to_owned(),
        ),
    };
    reader.error(
        value.span(),
        format!("`{key}` cannot be \"{text}\""),
        label,
        help,
    );
    None
}

fn parse(text: &str) -> Option<u64> {
    let (unit, times) = UNITS.iter().find(|(unit, _)| text.ends_with(unit))?;
    let number = text.strip_suffix(unit)?.trim_end();
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    digits
        .then(|| number.parse::<u64>().ok()?.checked_mul(*times))
        .flatten()
}

fn words(bytes: u64) -> String {
    let whole = ["GiB", "MiB", "KiB"].iter().find_map(|name| {
        let (_, times) = UNITS.iter().find(|(unit, _)| unit == name)?;
        bytes
            .is_multiple_of(*times)
            .then(|| format!("{}{name}", bytes / times))
    });
    whole.unwrap_or(format!("{bytes}B"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_whole_number_and_a_unit() {
        for (text, bytes) in [
            ("100MB", Some(100_000_000)),
            ("64 MiB", Some(64 << 20)),
            ("4096B", Some(4096)),
            ("4096", None),
            ("MB", None),
            ("1.5GB", None),
            ("-1GB", None),
            ("99999999999999GB", None),
            ("1TB", None),
        ] {
            assert_eq!(parse(text), bytes, "{text}");
        }
    }
}
