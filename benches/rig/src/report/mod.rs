//! What was measured, as data: kept as JSON, shown as Markdown, held against bars.

mod bars;
mod ceiling;
mod machine;
mod markdown;
mod statistics;

use crate::Failure;
use crate::contender::{Contender, Load, Receive, name};
use crate::measure::{Figures, Setup};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use statistics::Spread;
use std::path::Path;

pub use bars::bars;
pub use ceiling::{Ceiling, measure as measure_ceiling};

/// What one box did in all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The contender's name.
    pub name: String,
    /// What it was given.
    pub load: Load,
    /// Where the LAN port's receive work was done.
    pub receives_on: Receive,
    /// True for a box that polls.
    pub spins: bool,
    /// Why there is nothing, where a tool is not installed.
    pub missing: Option<String>,
    /// In order.
    pub rounds: Vec<Figures>,
}

impl Outcome {
    /// Of the frames that came out; of the frames that went in, where all are to be dropped.
    pub fn rate(&self) -> Option<Spread> {
        Spread::of(self.rounds.iter().map(|figures| figures.rate(self.load)))
    }

    /// The median of something else.
    pub fn median(&self, of: impl Fn(&Figures) -> f64) -> Option<f64> {
        Some(Spread::of(self.rounds.iter().map(of))?.median)
    }

    /// The floor and the testpmd that have the same load, and receive in the same place. A kernel box does all on one core and has no
    /// other place: it is compared with the first of each.
    fn references(&self) -> [&'static str; 2] {
        match (self.load, self.spins, self.receives_on) {
            (Load::Tftp, ..) => [name::DROP_FLOOR, name::DROP_TESTPMD],
            (_, true, Receive::BoxCore) => [name::FLOOR_ONE, name::TESTPMD_ONE],
            _ => [name::FLOOR, name::TESTPMD],
        }
    }
}

/// Everything that was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// When it began (RFC 3339, UTC).
    pub date: String,
    /// What it was measured on, with what.
    pub machine: Map<String, Value>,
    /// Flows of the office.
    pub flows: usize,
    /// In the order of the table.
    pub boxes: Vec<Outcome>,
    /// What a reader has to know.
    pub notes: Vec<String>,
    /// What the gate's loop does with no kernel in the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceiling: Option<Ceiling>,
}

impl Results {
    /// An empty one.
    pub fn new(setup: &Setup, rounds: u32) -> Results {
        Results {
            date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            machine: machine::facts(setup, rounds),
            flows: setup.flows,
            boxes: Vec::new(),
            notes: Vec::new(),
            ceiling: None,
        }
    }

    /// Adds a box, without figures.
    pub fn enter(&mut self, contender: &Contender, missing: Option<&str>) {
        if let Some(why) = missing {
            eprintln!("bench-rig: without {}: {why}", contender.name);
        }
        self.boxes.push(Outcome {
            name: contender.name.to_owned(),
            load: contender.load,
            receives_on: contender.receive,
            spins: contender.spins(),
            missing: missing.map(str::to_owned),
            rounds: Vec::new(),
        });
    }

    /// Adds one measurement of the box at `index`.
    pub fn add(&mut self, index: usize, figures: Figures) {
        if !figures.apart() {
            let name = &self.boxes[index].name;
            let share = 100.0 * (1.0 - figures.sink_apart);
            self.note(format!(
                "{name}: {share:.0} % of the sink's work was on the box's core in one round"
            ));
        }
        self.boxes[index].rounds.push(figures);
    }

    /// Adds something that a reader has to know.
    pub fn note(&mut self, text: String) {
        eprintln!("bench-rig: {text}");
        self.notes.push(text);
    }

    fn named(&self, name: &str) -> Option<&Outcome> {
        self.boxes.iter().find(|outcome| outcome.name == name)
    }

    /// How many times the median rate of one box another one has.
    fn ratio(&self, of: &str, beside: &str) -> Option<f64> {
        let rate = |name| Some(self.named(name)?.rate()?.median);
        let ratio = rate(of)? / rate(beside)?;
        ratio.is_finite().then_some(ratio)
    }

    /// For people.
    pub fn markdown(&self) -> String {
        markdown::page(self)
    }

    /// For programs: all of this, and what follows from it.
    pub fn json(&self) -> Result<Value, Failure> {
        let mut value = serde_json::to_value(self)?;
        for (at, outcome) in self.boxes.iter().enumerate() {
            let [floor, testpmd] = outcome.references();
            value["boxes"][at]["summary"] = json!({
                "pps": outcome.rate(),
                "to_floor": self.ratio(&outcome.name, floor),
                "to_testpmd": self.ratio(&outcome.name, testpmd),
                "ns_per_frame": outcome.median(|figures| figures.nanoseconds),
            });
        }
        value["bars"] = serde_json::to_value(bars(self))?;
        Ok(value)
    }

    /// What [`json`](Results::json) gave.
    pub fn read(path: &Path) -> Result<Results, Failure> {
        let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?)
    }

    /// Writes `<date and time>-<machine>-forwarding.md` and `.json` into a folder: a later run overwrites none.
    pub fn save(&self, folder: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(folder)?;
        let time: String = self.date.chars().filter(|c| *c != ':').collect();
        let stem = folder.join(format!(
            "{time}-{}-forwarding",
            machine::slug(&self.machine)
        ));
        std::fs::write(stem.with_extension("md"), self.markdown())?;
        std::fs::write(stem.with_extension("json"), format!("{:#}\n", self.json()?))?;
        eprintln!("bench-rig: wrote {}.md and .json", stem.display());
        Ok(())
    }
}

/// One measurement, for who waits.
pub fn one_line(figures: &Figures) -> String {
    let flows = figures
        .flows
        .map_or(String::new(), |flows| format!(", {flows} flows live"));
    format!(
        "forwarded {:.3} Mpps, received {:.3}, offered {:.3}, {:.0} ns a frame, sink apart {:.0} %{flows}",
        figures.forwarded / 1e6,
        figures.received / 1e6,
        figures.offered / 1e6,
        figures.nanoseconds,
        100.0 * figures.sink_apart
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::CONTENDERS;

    /// Every box, each with three rounds of about so many frames a second.
    pub fn results(rate: impl Fn(&str) -> f64) -> Results {
        let mut results = Results {
            date: "2026-01-02T03:04:05Z".to_owned(),
            machine: Map::from_iter([("processor".to_owned(), json!("CPU, 2 cores"))]),
            flows: 100_000,
            boxes: Vec::new(),
            notes: vec!["something to know".to_owned()],
            ceiling: None,
        };
        for (at, contender) in CONTENDERS.iter().enumerate() {
            results.enter(contender, None);
            for round in [1.0, 0.5, 1.25] {
                let pps = rate(contender.name) * round;
                results.boxes[at].rounds.push(Figures {
                    offered: 2.0 * pps,
                    received: pps,
                    forwarded: pps,
                    nanoseconds: 1e9 / pps,
                    on_cpu: 1.0,
                    sink_apart: 1.0,
                    flows: contender.has_state().then_some(100_000),
                });
            }
        }
        results
    }

    #[test]
    fn what_is_written_as_json_is_read_back_as_it_was() {
        let mut results = results(|_| 1e6);
        results.boxes[1].missing = Some("not installed".to_owned());
        let file = std::env::temp_dir().join(format!("bench-rig-{}.json", std::process::id()));
        std::fs::write(&file, results.json().unwrap().to_string()).unwrap();
        let read = Results::read(&file);
        std::fs::remove_file(&file).unwrap();
        let read = read.unwrap();
        assert_eq!(read, results);
        assert_eq!(read.markdown(), results.markdown());
    }

    #[test]
    fn json_has_medians_ratios_and_bars_beside_the_rounds() {
        let rate = |name: &str| if name == name::FLOOR { 2e6 } else { 1e6 };
        let json = results(rate).json().unwrap();
        let gate = &json["boxes"][3];
        assert_eq!(gate["name"], name::GATE_1000);
        assert_eq!(gate["summary"]["pps"]["median"], 1e6);
        assert_eq!(gate["summary"]["pps"]["most"], 1.25e6);
        assert_eq!(gate["summary"]["to_floor"], 0.5);
        assert_eq!(gate["summary"]["to_testpmd"], 1.0);
        assert_eq!(gate["rounds"][1]["forwarded_pps"], 0.5e6);
        assert_eq!(json["bars"][0]["reached"], 1.0);
    }

    #[test]
    fn a_box_is_compared_with_those_that_receive_where_it_does_and_get_the_same() {
        for outcome in results(|_| 1e6).boxes {
            for reference in outcome.references() {
                let reference = CONTENDERS.iter().find(|c| c.name == reference).unwrap();
                assert_eq!(reference.load, outcome.load);
                assert!(!outcome.spins || reference.receive == outcome.receives_on);
            }
        }
    }
}
