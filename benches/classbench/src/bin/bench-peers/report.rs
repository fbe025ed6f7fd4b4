//! The table, the JSON and the files of results, with what is needed to run them again.

use crate::peer::Mode;
use crate::{Arguments, BURST, Failure, PACKETS, WINDOW};
use classbench::Profile;
use classbench::machine::{facts, said};
use classbench::measured::{Side, mebibytes, milliseconds, now, save};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::Path;

/// What was found on one rule set.
pub struct Outcome {
    profile: Profile,
    /// Rules.
    pub size: usize,
    /// The mode that the peer is compared in.
    pub best: Option<Mode>,
    /// Nanoseconds a packet in each mode of the peer, one short run each.
    pub modes: Vec<(Mode, f64)>,
    /// The modes that could not be run, and why.
    pub refused: Vec<(Mode, String)>,
    /// rte_acl.
    pub peer: Side,
    /// The rule table.
    pub ours: Side,
}

impl Outcome {
    pub fn new(profile: Profile, size: usize) -> Outcome {
        Outcome {
            profile,
            size,
            best: None,
            modes: Vec::new(),
            refused: Vec::new(),
            peer: Side::default(),
            ours: Side::default(),
        }
    }

    /// The modes that take at most `times` as long as the best.
    pub fn modes_within(&self, times: f64) -> Vec<Mode> {
        let least = self.modes.iter().map(|(_, ns)| *ns).min_by(f64::total_cmp);
        let limit = least.map_or(0.0, |least| least * times);
        let within = self.modes.iter().filter(|(_, ns)| *ns <= limit);
        within.map(|(mode, _)| *mode).collect()
    }

    /// Time of the peer over ours, by medians.
    fn ratio(&self) -> Option<f64> {
        Some(self.peer.median()? / self.ours.median()?)
    }

    /// For who waits.
    pub fn one_line(&self) -> String {
        let ns = |side: &Side| match (side.median(), &side.error) {
            (Some(ns), _) => format!("{ns:.1} ns"),
            (None, Some(error)) => error.clone(),
            (None, None) => "not run".to_owned(),
        };
        let ratio = self
            .ratio()
            .map_or(String::new(), |ratio| format!(", {ratio:.2} times"));
        format!(
            "rte_acl {}, Portcullis {}{ratio}",
            ns(&self.peer),
            ns(&self.ours)
        )
    }

    fn json(&self) -> Value {
        let modes: serde_json::Map<String, Value> = self
            .modes
            .iter()
            .map(|(mode, ns)| (mode.to_string(), json!(ns)))
            .collect();
        let refused: serde_json::Map<String, Value> = self
            .refused
            .iter()
            .map(|(mode, why)| (mode.to_string(), json!(why)))
            .collect();
        json!({
            "rules": self.size, "set": self.profile.to_string(), "ratio": self.ratio(),
            "rte_acl": self.peer.json(), "rte_acl_mode": self.best.map(|mode| mode.to_string()),
            "rte_acl_modes_ns": modes, "rte_acl_refused": refused, "portcullis": self.ours.json(),
        })
    }
}

/// Everything that was measured.
pub struct Report {
    date: String,
    facts: Vec<(&'static str, String)>,
    outcomes: Vec<Outcome>,
    remarks: Vec<String>,
}

impl Report {
    /// An empty one.
    pub fn new(arguments: &Arguments, core: usize, huge: bool) -> Report {
        let date = now();
        let mut told = vec![("date", date.clone())];
        told.extend(facts());
        told.push((
            "DPDK",
            said("dpkg-query", &["-W", "-f", "${Version}", "dpdk-dev"]),
        ));
        let pages = if huge {
            "on huge pages of 2 MiB"
        } else {
            "on pages of 4 KiB"
        };
        told.push((
            "setup",
            format!(
                "{} interleaved rounds of at least {} ms each, both on core {core}, bursts of {BURST}, trace of {PACKETS} packets, seed {}; rte_acl {pages}",
                arguments.rounds,
                WINDOW.as_millis(),
                arguments.seed,
            ),
        ));
        Report {
            date,
            facts: told,
            outcomes: Vec::new(),
            remarks: Vec::new(),
        }
    }

    /// Adds what was found on one rule set.
    pub fn add(&mut self, outcome: Outcome) {
        self.outcomes.push(outcome);
    }

    /// Adds something that a reader has to know.
    pub fn remark(&mut self, text: String) {
        eprintln!("bench-peers: {text}");
        self.remarks.push(text);
    }

    /// Whether no answer of either side was wrong.
    pub fn right(&self) -> bool {
        let sides = self
            .outcomes
            .iter()
            .flat_map(|outcome| [&outcome.peer, &outcome.ours]);
        sides.into_iter().all(|side| side.wrong.unwrap_or(0) == 0)
    }

    /// For people.
    pub fn markdown(&self) -> String {
        // Writing to a string cannot fail.
        let mut out =
            "# Classification: the rule table beside DPDK's rte_acl\n\n| | |\n|---|---|\n"
                .to_owned();
        for (name, value) in &self.facts {
            let _ = writeln!(out, "| {name} | {value} |");
        }
        out += "\nNanoseconds a packet: median of the rounds (least).\n\n\
            | rules | set | rte_acl | its best mode | Portcullis | ratio | at least three times | build, rte_acl | build, Portcullis | memory, rte_acl | memory, Portcullis | wrong answers |\n\
            |---|---|---|---|---|---|---|---|---|---|---|---|\n";
        for outcome in &self.outcomes {
            let Outcome {
                profile,
                size,
                peer,
                ours,
                ..
            } = outcome;
            let or_dash = |text: Option<String>| text.unwrap_or("-".to_owned());
            let ratio = outcome.ratio();
            let three = ratio.map(|ratio| if ratio >= 3.0 { "yes" } else { "no" }.to_owned());
            let wrong = |side: &Side| or_dash(side.wrong.map(|wrong| wrong.to_string()));
            let _ = writeln!(
                out,
                "| {size} | {profile} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} and {} |",
                peer.ns_text(),
                or_dash(outcome.best.map(|mode| mode.to_string())),
                ours.ns_text(),
                or_dash(ratio.map(|ratio| format!("{ratio:.2}"))),
                or_dash(three),
                or_dash(peer.build_ms().map(milliseconds)),
                or_dash(ours.build_ms().map(milliseconds)),
                or_dash(peer.bytes.map(mebibytes)),
                or_dash(ours.bytes.map(mebibytes)),
                wrong(peer),
                wrong(ours),
            );
        }
        out += &self.modes();
        out += "\nratio: of medians. rte_acl's time is the one that `dpdk-test-acl` prints, filling its array of pointers to packets included; its table is built anew each round, from the last \
            rule being read. Portcullis is timed around whole passes over the trace. Memory is what the tables say of themselves. Every packet's answer is compared with a linear search (rte_acl's, \
            in its best mode, in a run that is not timed).\n";
        for remark in &self.remarks {
            let _ = writeln!(out, "\nNote: {remark}.");
        }
        out
    }

    /// The table of the peer's modes.
    fn modes(&self) -> String {
        let mut names: Vec<String> = Vec::new();
        for (mode, _) in self.outcomes.iter().flat_map(|outcome| &outcome.modes) {
            if !names.contains(&mode.to_string()) {
                names.push(mode.to_string());
            }
        }
        let mut out = format!(
            "\nrte_acl in each mode, short runs: nanoseconds a packet. The best two were run in the rounds, and the better one is above; on large sets only the modes that did well on smaller ones, and the best.\n\n| rules | set | {} |\n|---|---|{}\n",
            names.join(" | "),
            "---|".repeat(names.len())
        );
        for Outcome {
            profile,
            size,
            modes,
            ..
        } in &self.outcomes
        {
            let of = |name: &String| {
                let found = modes.iter().find(|(mode, _)| mode.to_string() == *name);
                found.map_or("-".to_owned(), |(_, ns)| format!("{ns:.1}"))
            };
            let cells: Vec<String> = names.iter().map(of).collect();
            let _ = writeln!(out, "| {size} | {profile} | {} |", cells.join(" | "));
        }
        out
    }

    /// Writes `<date and time>-<machine>-classify.md` and `.json` into a folder: a later run overwrites none.
    pub fn save(&self, folder: &Path) -> Result<(), Failure> {
        let facts: serde_json::Map<String, Value> = self
            .facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)))
            .collect();
        let outcomes: Vec<Value> = self.outcomes.iter().map(Outcome::json).collect();
        let json = json!({ "machine": facts, "rule_sets": outcomes, "notes": self.remarks });
        let stem = save(folder, &self.date, "classify", &self.markdown(), &json)?;
        eprintln!("bench-peers: wrote {}.md and .json", stem.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_that_one_side_refuses_has_a_row_that_says_so() {
        let mut outcome = Outcome::new(classbench::Kind::Fw.v4(), 16);
        outcome.ours.error = Some("too large".to_owned());
        outcome.peer.ns = vec![30.0, 20.0, 40.0];
        assert_eq!(outcome.one_line(), "rte_acl 30.0 ns, Portcullis too large");
        assert_eq!(outcome.ratio(), None);
    }
}
