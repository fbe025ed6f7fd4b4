//! The table, the JSON and the files of results.

use crate::contest::{NAMES, Outcome};
use crate::design::BURST;
use crate::{Arguments, Failure, PACKETS, WINDOW};
use classbench::machine::facts;
use classbench::measured::{Side, mebibytes, milliseconds, now, save};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// Everything that was measured.
pub struct Report {
    date: String,
    facts: Vec<(&'static str, String)>,
    outcomes: Vec<Outcome>,
}

impl Report {
    /// An empty one.
    pub fn new(arguments: &Arguments, core: usize) -> Report {
        let date = now();
        let mut told = vec![("date", date.clone())];
        told.extend(facts());
        let tunables = std::env::var("GLIBC_TUNABLES").unwrap_or("none".to_owned());
        told.push((
            "huge pages",
            format!("large arrays of the other designs ask for them; GLIBC_TUNABLES: {tunables}"),
        ));
        told.push((
            "setup",
            format!(
                "{} interleaved rounds of at least {} ms each, all on core {core}, bursts of {BURST}, trace of {PACKETS} packets, seed {}; a design may take {} MiB, and {} s to build",
                arguments.rounds,
                WINDOW.as_millis(),
                arguments.seed,
                arguments.memory,
                arguments.build_seconds,
            ),
        ));
        Report {
            date,
            facts: told,
            outcomes: Vec::new(),
        }
    }

    /// Adds what was found on one rule set.
    pub fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// Whether no answer was wrong.
    pub fn right(&self) -> bool {
        let sides = self.outcomes.iter().flat_map(|outcome| &outcome.sides);
        sides
            .into_iter()
            .all(|(side, _)| side.wrong.unwrap_or(0) == 0)
    }

    /// For people.
    pub fn markdown(&self) -> String {
        // Writing to a string cannot fail.
        let mut out = "# Classification: the rule table beside other designs\n\n| | |\n|---|---|\n"
            .to_owned();
        for (name, value) in &self.facts {
            let _ = writeln!(out, "| {name} | {value} |");
        }
        let huge = self.outcomes.iter().map(|outcome| outcome.huge).max();
        let huge = huge.map_or("-".to_owned(), mebibytes);
        let _ = writeln!(out, "| in huge pages, at most | {huge} |");
        let or_dash = |text: Option<String>| text.unwrap_or("-".to_owned());
        out += &self.table(
            "Nanoseconds a packet: median of the rounds (least).",
            |side| {
                side.median()
                    .map_or("stopped".to_owned(), |_| side.ns_text())
            },
        );
        out += &self.table("Building.", |side| {
            or_dash(side.build_ms().map(milliseconds))
        });
        out += &self.table("Memory.", |side| or_dash(side.bytes.map(mebibytes)));
        out += &self.table("Answers that a linear search does not give.", |side| {
            or_dash(side.wrong.map(|wrong| wrong.to_string()))
        });
        out += "\nWhat the designs look like, and where they stopped.\n\n| rules | set | design | |\n|---|---|---|---|\n";
        for Outcome {
            profile,
            size,
            sides,
            ..
        } in &self.outcomes
        {
            for (name, (side, shape)) in NAMES.iter().zip(sides) {
                let text = side.error.as_ref().unwrap_or(shape);
                if !text.is_empty() {
                    let _ = writeln!(out, "| {size} | {profile} | {name} | {text} |");
                }
            }
        }
        out += "\nThe other designs know nothing but IPv4 and five fields, and read packets of 16 bytes; the rule table reads keys of IPv4 and IPv6 with all that its language can ask for. \
            Memory is what a look-up may read.\n";
        out
    }

    fn table(&self, title: &str, cell: impl Fn(&Side) -> String) -> String {
        let mut out = format!(
            "\n{title}\n\n| rules | set | {} |\n|---|---|{}\n",
            NAMES.join(" | "),
            "---|".repeat(NAMES.len())
        );
        for outcome in &self.outcomes {
            let cells: Vec<String> = outcome.sides.iter().map(|(side, _)| cell(side)).collect();
            let _ = writeln!(
                out,
                "| {} | {} | {} |",
                outcome.size,
                outcome.profile,
                cells.join(" | ")
            );
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let facts: serde_json::Map<String, Value> = self
            .facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let set = |outcome: &Outcome| {
            let designs: serde_json::Map<String, Value> = NAMES
                .iter()
                .zip(&outcome.sides)
                .map(|(name, (side, shape))| {
                    let mut value = side.json();
                    value["shape"] = json!(shape);
                    ((*name).to_owned(), value)
                })
                .collect();
            json!({
                "rules": outcome.size, "set": outcome.profile.to_string(), "designs": designs,
                "bytes_in_huge_pages": outcome.huge,
            })
        };
        let sets: Vec<Value> = self.outcomes.iter().map(set).collect();
        json!({ "machine": facts, "rule_sets": sets })
    }

    /// Writes `<date and time>-<machine>-designs.md` and `.json` into a folder.
    pub fn save(&self, folder: &Path) -> Result<(), Failure> {
        let stem = save(
            folder,
            &self.date,
            "designs",
            &self.markdown(),
            &self.json(),
        )?;
        eprintln!("bench-designs: wrote {}.md and .json", stem.display());
        Ok(())
    }
}

/// For who waits.
pub fn one_line(outcome: &Outcome) -> String {
    let cell = |(name, (side, _)): (&&str, &(Side, String))| {
        let ns = side
            .median()
            .map_or("-".to_owned(), |ns| format!("{ns:.1}"));
        format!("{name} {ns}")
    };
    let cells: Vec<String> = NAMES.iter().zip(&outcome.sides).map(cell).collect();
    cells.join(", ")
}
