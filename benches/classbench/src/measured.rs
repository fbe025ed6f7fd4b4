//! How the time of a look-up is taken, and how it and what else was found is told.

use crate::machine;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// What was found of one classifier on one rule set.
#[derive(Default)]
pub struct Side {
    /// Nanoseconds a packet, by round.
    pub ns: Vec<f64>,
    /// Time of building the table, by round.
    pub builds: Vec<Duration>,
    /// Bytes of the table.
    pub bytes: Option<usize>,
    /// Answers that are not those of the linear search.
    pub wrong: Option<usize>,
    /// Why there is nothing.
    pub error: Option<String>,
}

impl Side {
    /// Nanoseconds a packet: the median of the rounds.
    pub fn median(&self) -> Option<f64> {
        median(self.ns.iter().copied())
    }

    /// Nanoseconds a packet: the least of the rounds.
    pub fn least(&self) -> Option<f64> {
        self.ns.iter().copied().min_by(f64::total_cmp)
    }

    /// Milliseconds of building: the median.
    pub fn build_ms(&self) -> Option<f64> {
        median(self.builds.iter().map(|took| took.as_secs_f64() * 1e3))
    }

    /// `median (least)`, or why there is none.
    pub fn ns_text(&self) -> String {
        match (self.median(), self.least()) {
            (Some(median), Some(least)) => format!("{median:.1} ({least:.1})"),
            _ => self.error.clone().unwrap_or("-".to_owned()),
        }
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let builds: Vec<f64> = self
            .builds
            .iter()
            .map(|took| took.as_secs_f64() * 1e3)
            .collect();
        json!({
            "ns_per_packet": self.ns, "median_ns": self.median(), "least_ns": self.least(), "build_ms": builds,
            "bytes": self.bytes, "wrong_answers": self.wrong, "error": self.error,
        })
    }
}

/// Nanoseconds a packet, on that core: whole passes over a trace of `packets`, for at least `window` after one that warms
/// up.
pub fn measure(
    mut pass: impl FnMut() + Send,
    packets: usize,
    window: Duration,
    core: usize,
) -> f64 {
    let passes = move || {
        core_affinity::set_for_current(core_affinity::CoreId { id: core });
        pass();
        let (start, mut seen) = (Instant::now(), 0);
        loop {
            pass();
            seen += packets;
            let elapsed = start.elapsed();
            if elapsed >= window {
                return elapsed.as_nanos() as f64 / seen as f64;
            }
        }
    };
    // A thread of its own, so that only it is bound to the core.
    std::thread::scope(|scope| scope.spawn(passes).join()).unwrap_or(f64::NAN)
}

/// How many answers are not those of the linear search.
pub fn wrong(right: &[Option<usize>], found: &[Option<usize>]) -> usize {
    let missing = right.len().saturating_sub(found.len());
    let pairs = right.iter().zip(found);
    missing + pairs.filter(|(right, found)| right != found).count()
}

/// Now, as a date of RFC 3339.
pub fn now() -> String {
    humantime::format_rfc3339_seconds(SystemTime::now()).to_string()
}

/// Writes `<date and time>-<machine>-<what>.md` and `.json` into a folder: a later run overwrites none. Their name without
/// the ending.
pub fn save(
    folder: &Path,
    date: &str,
    what: &str,
    markdown: &str,
    json: &Value,
) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let time: String = date.chars().filter(|c| *c != ':').collect();
    let machine = slug(&format!(
        "{} {} cores",
        machine::processor(),
        machine::cores()
    ));
    let stem = folder.join(format!("{time}-{machine}-{what}"));
    std::fs::write(stem.with_extension("md"), markdown)?;
    std::fs::write(stem.with_extension("json"), format!("{json:#}\n"))?;
    Ok(stem)
}

/// Lower case, with a hyphen for whatever is neither letter nor digit.
fn slug(text: &str) -> String {
    let words = text
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

/// For people.
pub fn milliseconds(ms: f64) -> String {
    match ms {
        ..1000.0 => format!("{ms:.1} ms"),
        _ => format!("{:.2} s", ms / 1e3),
    }
}

/// For people.
pub fn mebibytes(bytes: usize) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}

fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some((values[middle - 1] + values[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_or_between_the_two_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }

    #[test]
    fn the_name_of_a_machine_is_fit_for_a_file() {
        assert_eq!(
            slug("AMD EPYC(tm) 7763 2 cores"),
            "amd-epyc-tm-7763-2-cores"
        );
    }

    #[test]
    fn an_answer_that_is_missing_is_wrong() {
        assert_eq!(wrong(&[Some(1), None, Some(2)], &[Some(1), Some(3)]), 2);
    }
}
