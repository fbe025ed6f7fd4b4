//! The table, the JSON and the files of results, with what is needed to run them again.

use crate::Failure;
use crate::boxes::{Contender, Kind, Receive};
use crate::frames::Load;
use crate::measure::{Figures, Setup};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

/// Everything that was measured.
pub struct Report {
    contenders: Vec<(Contender, Vec<Figures>)>,
    machine: Vec<(&'static str, String)>,
    remarks: Vec<String>,
    date: String,
}

impl Report {
    /// An empty one.
    pub fn new(contenders: &[Contender], setup: &Setup, rounds: u32) -> Report {
        let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let command: Vec<String> = std::env::args().collect();
        let machine = vec![
            ("date", date.clone()),
            ("commit", commit()),
            ("command", command.join(" ")),
            ("cpu", from_file("/proc/cpuinfo", "model name")),
            (
                "cores",
                std::thread::available_parallelism()
                    .map_or(0, usize::from)
                    .max(cores())
                    .to_string(),
            ),
            (
                "kernel",
                format!(
                    "{} {}",
                    read("/proc/sys/kernel/osrelease"),
                    read("/proc/sys/kernel/version")
                ),
            ),
            ("rustc", said("rustc", &["--version"])),
            ("load before", read("/proc/loadavg")),
            (
                "setup",
                format!(
                    "{rounds} interleaved rounds of {:.1} s after {:.1} s; box on core {}, generator and sink on core {}; 60-byte frames (64 with FCS), {} flows",
                    setup.window.as_secs_f64(),
                    setup.warm_up.as_secs_f64(),
                    setup.box_core,
                    setup.generator_core,
                    crate::frames::FLOWS
                ),
            ),
        ];
        let contenders = contenders
            .iter()
            .map(|contender| (*contender, Vec::new()))
            .collect();
        Report {
            contenders,
            machine,
            remarks: Vec::new(),
            date,
        }
    }

    /// Adds one measurement of the contender at `index`.
    pub fn add(&mut self, index: usize, figures: Figures) {
        if !figures.apart() {
            let name = self.contenders[index].0.name;
            self.remark(format!(
                "{name}: {:.0} % of the sink's work was on the box's core in one round",
                100.0 * (1.0 - figures.sink_apart)
            ));
        }
        self.contenders[index].1.push(figures);
    }

    /// Adds something that a reader has to know.
    pub fn remark(&mut self, text: String) {
        eprintln!("bench-rig: {text}");
        self.remarks.push(text);
    }

    /// Median rate of the plain bridge, or of the floor, under the same load. A box in user space is compared with the floor that receives
    /// where it does, a kernel box with the first one of the table.
    fn reference(&self, kind: Kind, to: &Contender) -> Option<f64> {
        let same_place = |other: &Contender| {
            kind != Kind::Floor
                || !matches!(to.kind, Kind::Floor | Kind::Gate | Kind::Silent)
                || other.receive == to.receive
        };
        let (_, rounds) = self
            .contenders
            .iter()
            .find(|(other, _)| other.kind == kind && other.load == to.load && same_place(other))?;
        median(rounds.iter().map(|figures| figures.rate(to.load)))
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, value) in &self.machine {
            out += &format!("{name:<12} {value}\n");
        }
        out += &format!(
            "\n{:<21}{:>7}{:>15}{:>9}{:>9}{:>10}{:>9}{:>7}{:>8}  {}\n",
            "contender",
            "Mpps",
            "range",
            "/bridge",
            "/floor",
            "received",
            "ns/frame",
            "lost",
            "on CPU",
            "receives on"
        );
        for (contender, rounds) in &self.contenders {
            let load = contender.load;
            let Some(rate) = median(rounds.iter().map(|f| f.rate(load))) else {
                out += &format!("{:<21}{:>7}\n", contender.name, "-");
                continue;
            };
            let of =
                |pick: fn(&Figures) -> f64| median(rounds.iter().map(pick)).unwrap_or_default();
            let (least, most) = range(rounds, load);
            let ratio = |reference: Option<f64>| {
                reference.map_or("-".into(), |reference| format!("{:.2}", rate / reference))
            };
            let lost = if load == Load::Tftp {
                "-".into()
            } else {
                format!("{:.1} %", 100.0 * of(Figures::lost))
            };
            out += &format!(
                "{:<21}{:>7.3}{:>15}{:>9}{:>9}{:>10.3}{:>9.0}{lost:>7}{:>6.0} %  {}\n",
                contender.name,
                rate / 1e6,
                format!("{:.3}-{:.3}", least / 1e6, most / 1e6),
                ratio(self.reference(Kind::Bridge, contender)),
                ratio(self.reference(Kind::Floor, contender)),
                of(|f| f.received) / 1e6,
                of(|f| f.nanoseconds),
                100.0 * of(|f| f.on_cpu),
                receives_on(contender.receive),
            );
        }
        out += "\nMpps: median of the frames a second at the sink; on the lines `drop:`, of the frames received, all of which are dropped.\n\
                ns/frame: time on the CPU of the box's threads for each frame received; a box in user space spins, so that is all the time there is.\n\
                on CPU: share of a core; for a spinning box, what is missing to 100 % other processes took: run it on a quiet machine. Ratios are of medians of this run; `one core` to `floor, one core`.\n\
                receives on: whose core does the LAN port's receive work (NAPI); on the generator's core it is not in ns/frame.\n";
        for (contender, rounds) in &self.contenders {
            let bound = rounds.iter().filter(|f| f.generator_bound()).count();
            if bound > 0 {
                out += &format!(
                    "note: {}: in {bound} of {} rounds the box took all that was offered: the generator's core was the limit, the box can do more\n",
                    contender.name,
                    rounds.len()
                );
            }
        }
        for remark in &self.remarks {
            out += &format!("note: {remark}\n");
        }
        out
    }

    /// For programs: each round of each contender.
    pub fn json(&self) -> Value {
        let machine: serde_json::Map<String, Value> = self
            .machine
            .iter()
            .map(|(name, value)| (name.to_string(), json!(value)))
            .collect();
        let contenders: Vec<Value> = self
            .contenders
            .iter()
            .map(|(contender, rounds)| self.contender(contender, rounds))
            .collect();
        json!({ "machine": machine, "contenders": contenders, "notes": self.remarks })
    }

    fn contender(&self, contender: &Contender, rounds: &[Figures]) -> Value {
        let load = contender.load;
        let rate = median(rounds.iter().map(|figures| figures.rate(load)));
        let against = |reference: Option<f64>| {
            rate.zip(reference)
                .map(|(rate, reference)| rate / reference)
        };
        let each: Vec<Value> = rounds
            .iter()
            .map(|f| {
                json!({
                    "offered_pps": f.offered, "generator_bound": f.generator_bound(), "received_pps": f.received, "forwarded_pps": f.forwarded, "lost": f.lost(),
                    "ns_per_frame": f.nanoseconds, "on_cpu": f.on_cpu, "sink_apart": f.sink_apart,
                })
            })
            .collect();
        json!({
            "name": contender.name,
            "load": if load == Load::Office { "office" } else { "tftp" },
            "receives_on": receives_on(contender.receive),
            "median_pps": rate,
            "to_bridge": against(self.reference(Kind::Bridge, contender)),
            "to_floor": against(self.reference(Kind::Floor, contender)),
            "rounds": each,
        })
    }

    /// Writes `<date and time>-forwarding.txt` and `.json` into a folder: a later run overwrites none.
    pub fn save(&self, folder: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(folder)?;
        let time: String = self.date.chars().filter(|c| *c != ':').collect();
        let stem = folder.join(format!("{time}-forwarding"));
        std::fs::write(stem.with_extension("txt"), self.text())?;
        std::fs::write(stem.with_extension("json"), format!("{:#}\n", self.json()))?;
        eprintln!("bench-rig: wrote {}.txt and .json", stem.display());
        Ok(())
    }
}

/// One measurement, while it runs.
pub fn one_line(figures: &Figures) -> String {
    format!(
        "forwarded {:.3} Mpps, received {:.3}, offered {:.3}, {:.0} ns a frame, sink apart {:.0} %",
        figures.forwarded / 1e6,
        figures.received / 1e6,
        figures.offered / 1e6,
        figures.nanoseconds,
        100.0 * figures.sink_apart
    )
}

fn receives_on(receive: Receive) -> &'static str {
    match receive {
        Receive::BoxCore => "box's core",
        Receive::GeneratorCore => "generator's",
    }
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

fn range(rounds: &[Figures], load: Load) -> (f64, f64) {
    let rates = || rounds.iter().map(|figures| figures.rate(load));
    (
        rates().fold(f64::INFINITY, f64::min),
        rates().fold(0.0, f64::max),
    )
}

fn commit() -> String {
    let changed = if said("git", &["status", "--porcelain"]).is_empty() {
        ""
    } else {
        ", with changes"
    };
    said("git", &["rev-parse", "HEAD"]) + changed
}

fn cores() -> usize {
    std::fs::read_to_string("/proc/cpuinfo").map_or(0, |text| {
        text.lines()
            .filter(|line| line.starts_with("processor"))
            .count()
    })
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_string()
}

fn from_file(path: &str, key: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let line = text
        .lines()
        .find(|line| line.starts_with(key))
        .unwrap_or_default();
    line.split_once(':')
        .map_or(String::new(), |(_, value)| value.trim().to_string())
}

fn said(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output();
    done.map_or(String::new(), |done| {
        String::from_utf8_lossy(&done.stdout).trim().to_string()
    })
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
}
