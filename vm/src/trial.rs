//! What is done to a running lab: load at rest, after trouble with the cables, and in the middle of a fault.

use std::time::Duration;

use rig::{Error, Result};
use serde::Serialize;

use crate::gate::{config, ready, status, tell};
use crate::hops;
use crate::lab::Lab;
use crate::load::{self, Load, Outcome};

/// How often a cable is pulled and plugged in again.
const FLAPS: u32 = 20;

/// How long a cable is out, and in, while it flaps.
const FLAP: Duration = Duration::from_millis(100);

/// How long a fault lasts that has an end.
const FAULT: Duration = Duration::from_secs(2);

/// The least time that a load with a fault in it lasts: an emulated machine takes seconds to start a service.
const LONG: Duration = Duration::from_secs(20);

/// How long a link may take to come up again: some drivers take seconds.
const SETTLE: Duration = Duration::from_secs(5);

/// One load, and what it had to show.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was done.
    pub what: String,
    /// Frame size, or mix.
    pub size: &'static str,
    /// What came of the load.
    pub outcome: Outcome,
    /// Frames that did not arrive.
    pub lost: u64,
    /// True where frames may be lost: a rate beyond the first, a fault.
    pub may_lose: bool,
    /// What is wrong; empty where all is well.
    pub wrong: Vec<String>,
}

impl Row {
    fn new(what: impl Into<String>, load: Load, outcome: Outcome, may_lose: bool) -> Row {
        let (lost, leaked) = (outcome.lost(), outcome.heard.leaked);
        let mut wrong = Vec::new();
        if outcome.sent.forbidden == 0 || outcome.heard.received == 0 {
            wrong.push(
                "nothing forbidden was sent, or nothing arrived: it shows nothing".to_owned(),
            );
        }
        if leaked > 0 {
            wrong.push(format!("{leaked} forbidden frames got through"));
        }
        if outcome.heard.duplicated > 0 {
            wrong.push(format!("{} frames came twice", outcome.heard.duplicated));
        }
        if lost > 0 && !may_lose {
            wrong.push(format!("{lost} frames were lost"));
        }
        Row {
            what: what.into(),
            size: load.size,
            outcome,
            lost,
            may_lose,
            wrong,
        }
    }

    /// In a word: whether all is well, and whether something was lost that may be.
    pub fn word(&self) -> &'static str {
        match (self.wrong.is_empty(), self.lost) {
            (false, _) => "WRONG",
            (true, 0) => "ok",
            (true, _) => "ok, lossy",
        }
    }
}

/// Load with nothing else going on.
///
/// # Errors
/// What the generator or the sink says.
pub fn calm(lab: &Lab, what: &str, load: Load) -> Result<Row> {
    let outcome = load::run(lab, load, || Ok(()))?;
    let row = Row::new(what, load, outcome, false);
    if !row.wrong.is_empty() {
        eprintln!(
            "{what}: {}: {}",
            row.wrong.join(", "),
            hops::line(&row.outcome.hops)
        );
        tell(&lab.gate);
    }
    Ok(row)
}

/// The highest of the doubled rates, from that of `load` on, of which nothing is lost; and that of which something is. At most `steps` of them.
///
/// # Errors
/// What the generator or the sink says.
pub fn throughput(lab: &Lab, load: Load, steps: u32, step: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let mut rows: Vec<Row> = Vec::new();
    for doubled in 0..steps {
        let load = Load {
            rate: load.rate << doubled,
            ..load
        };
        step(&format!(
            "load of {} frames a second, {}",
            load.rate, load.size
        ));
        let outcome = load::run(lab, load, || Ok(()))?;
        // Only the first rate has to be borne; the last is where something, or the generator, gives way.
        let row = Row::new(
            format!("{} frames/s", load.rate),
            load,
            outcome,
            doubled > 0,
        );
        let bound = row.lost > 0 || row.outcome.sent.offered_fps < f64::from(load.rate) * 0.95;
        rows.push(row);
        if bound {
            break;
        }
    }
    Ok(rows)
}

/// Cables that flap, and a machine that stands still; after each, load of which nothing may be lost.
///
/// # Errors
/// What qemu, the generator or the sink says.
pub fn links(lab: &Lab, load: Load, step: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let full = Load {
        size: "1518",
        ..load
    };
    step("full-size frames");
    rows.push(calm(lab, "full-size frames", full)?);
    for nic in ["lan", "uplink"] {
        step(&format!("{FLAPS} flaps of the link on the {nic} side"));
        for _ in 0..FLAPS {
            lab.gate.monitor().set_link(nic, false)?;
            std::thread::sleep(FLAP);
            lab.gate.monitor().set_link(nic, true)?;
            std::thread::sleep(FLAP);
        }
        std::thread::sleep(SETTLE);
        rows.push(calm(
            lab,
            &format!("after {FLAPS} flaps, {nic} side"),
            full,
        )?);
    }
    step("a pause of the whole machine");
    lab.gate.monitor().stop()?;
    std::thread::sleep(FAULT);
    lab.gate.monitor().cont()?;
    std::thread::sleep(SETTLE / 5);
    rows.push(calm(lab, "after a pause of 2 s", full)?);
    Ok(rows)
}

/// What happens in the middle of a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process of the gate is killed with SIGKILL.
    Kill,
    /// The cable of the uplink is pulled and plugged in again.
    LinkDown,
    /// The whole machine stands still.
    Pause,
    /// The policy changes.
    Reload,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 4] = [Fault::Kill, Fault::LinkDown, Fault::Pause, Fault::Reload];

    /// In a few words.
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill -9 of the gate",
            Fault::LinkDown => "uplink cable out for 2 s",
            Fault::Pause => "machine stopped for 2 s",
            Fault::Reload => "reload",
        }
    }

    /// Whether frames may be lost: nothing filters, or there is no way out, for a while.
    const fn may_lose(self) -> bool {
        !matches!(self, Fault::Reload)
    }

    /// Does it, and sees that it happened.
    fn happen(self, lab: &Lab) -> Result<()> {
        let gate = &lab.gate;
        match self {
            Fault::Kill => {
                let pid = gate.must("systemctl show -P MainPID portcullis")?;
                gate.must("systemctl kill -s KILL portcullis")?;
                ready(gate)?;
                let new = gate.must("systemctl show -P MainPID portcullis")?;
                happened(
                    pid != new,
                    "the gate was killed, but runs under the same number",
                )
            }
            Fault::LinkDown => {
                gate.monitor().set_link("uplink", false)?;
                let carrier = rig::poll_until("the carrier to go", FAULT * 5, || {
                    let port = crate::gate::PORTS[1];
                    let carrier = gate.must(&format!("cat /sys/class/net/{port}/carrier"))?;
                    Ok((carrier.trim() == "0").then_some(()))
                });
                std::thread::sleep(FAULT);
                gate.monitor().set_link("uplink", true)?;
                carrier
            }
            Fault::Pause => {
                gate.monitor().stop()?;
                std::thread::sleep(FAULT);
                gate.monitor().cont()
            }
            Fault::Reload => {
                let before = status(gate)?["generation"].as_u64();
                let rule = "\n[[rule]]\nname = \"no-7777\"\nproto = \"udp\"\ndport = 7777\naction = \"drop\"\n";
                gate.put("/etc/portcullis/portcullis.toml", &config(lab, rule))?;
                gate.must("systemctl reload portcullis")?;
                rig::poll_until("the reload", FAULT * 10, || {
                    Ok((status(gate)?["generation"].as_u64() > before).then_some(()))
                })
            }
        }
    }
}

fn happened(did: bool, otherwise: &str) -> Result<()> {
    match did {
        true => Ok(()),
        false => Err(Error::Answer {
            what: "a fault".to_owned(),
            said: otherwise.to_owned(),
        }),
    }
}

/// Each fault in the middle of a load, and a load after it of which nothing may be lost.
///
/// # Errors
/// What qemu, the gate, the generator or the sink says.
pub fn faults(lab: &Lab, load: Load, step: &dyn Fn(&str)) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for fault in Fault::ALL {
        step(&format!("load, and in the middle of it: {}", fault.name()));
        let long = Load {
            time: load.time.max(LONG),
            ..load
        };
        let outcome = load::run(lab, long, || fault.happen(lab))?;
        let mut row = Row::new(fault.name(), long, outcome, fault.may_lose());
        row.wrong.extend(row.outcome.cut_off(load.rate));
        let after = calm(lab, "after it", load)?;
        row.wrong
            .extend(after.wrong.iter().map(|wrong| format!("after it: {wrong}")));
        rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::{Heard, Sent};

    fn row(received: u64, leaked: u64, may_lose: bool) -> Row {
        let outcome = Outcome {
            sent: Sent {
                sent: 900,
                forbidden: 100,
                ..Sent::default()
            },
            heard: Heard {
                received,
                leaked,
                ..Heard::default()
            },
            ..Outcome::default()
        };
        let load = Load {
            rate: 100,
            time: Duration::from_secs(1),
            size: "imix",
        };
        Row::new("test", load, outcome, may_lose)
    }

    #[test]
    fn a_loss_is_wrong_where_nothing_may_be_lost_and_a_leak_always() {
        assert!(row(900, 0, false).wrong.is_empty());
        assert!(row(880, 0, true).wrong.is_empty());
        assert_eq!(
            (row(880, 0, false).wrong.len(), row(880, 0, false).lost),
            (1, 20)
        );
        assert_eq!(row(880, 3, true).wrong.len(), 1);
        let words = [(900, 0), (880, 0), (880, 1)]
            .map(|(received, leaked)| row(received, leaked, true).word());
        assert_eq!(words, ["ok", "ok, lossy", "WRONG"]);
    }

    #[test]
    fn a_load_of_which_nothing_arrives_shows_nothing() {
        assert_eq!(row(0, 0, true).wrong.len(), 1);
    }
}
