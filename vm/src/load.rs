//! Load across the gate: `portcullis bench send` in lan, `portcullis bench sink` in uplink.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rig::{Error, Result, addr};
use serde::{Deserialize, Serialize};

use crate::guest::{SETUP, shell};
use crate::hops::{self, Hop};
use crate::lab::Lab;

/// How long the sink goes on listening after the last frame was sent.
const STRAGGLERS: Duration = Duration::from_secs(2);

/// How much longer than the load itself the two halves may take.
const WAIT: Duration = Duration::from_secs(40);

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Frames a second.
    pub rate: u32,
    /// How long.
    pub time: Duration,
    /// As `--size` has it: `64`, `1518`, `imix`.
    pub size: &'static str,
}

/// What `bench send` says.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Sent {
    /// Frames that should arrive.
    pub sent: u64,
    /// Frames that must not.
    pub forbidden: u64,
    /// Of all.
    pub bytes: u64,
    /// How long it took.
    pub seconds: f64,
    /// Frames a second.
    pub offered_fps: f64,
}

/// What `bench sink` says of one sender.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Heard {
    /// Different frames.
    pub received: u64,
    /// Frames that came once more.
    pub duplicated: u64,
    /// After a later one of their flow.
    pub reordered: u64,
    /// Frames that must not arrive and did.
    pub leaked: u64,
    /// The longest time between two.
    pub silence_ns: u64,
}

/// Both.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Outcome {
    /// What was offered.
    pub sent: Sent,
    /// What came of it.
    pub heard: Heard,
    /// Frames that the sink itself lost, in its own words; empty where none.
    pub sink: String,
    /// What was counted along the way.
    pub hops: Vec<Hop>,
}

impl Outcome {
    /// Frames that did not arrive, by the numbers that they have.
    pub fn lost(&self) -> u64 {
        self.sent.sent.saturating_sub(self.heard.received)
    }

    /// What was received, Mbit/s with FCS, taking all frames for alike.
    pub fn mbps(&self) -> f64 {
        let all = self.sent.sent + self.sent.forbidden;
        let each = self.sent.bytes as f64 / all.max(1) as f64;
        each * self.heard.received as f64 * 8.0 / self.sent.seconds.max(1e-9) / 1e6
    }

    /// Says so, where more was lost than fits into the longest silence at `rate`: then frames were lost besides, or at the end, where nothing came after them.
    pub fn cut_off(&self, rate: u32) -> Option<String> {
        let most = self.heard.silence_ns as f64 / 1e9 * f64::from(rate);
        // Two queues go under at different moments, and a restart has its own burst.
        let lost = self.lost() as f64;
        (lost > 1.5 * most + f64::from(rate) / 4.0).then(|| {
            format!("{lost} frames were lost, but the longest silence has room for {most:.0}")
        })
    }

    /// The longest silence, milliseconds.
    pub fn silence_ms(&self) -> f64 {
        self.heard.silence_ns as f64 / 1e6
    }
}

/// Of a hundred frames so many are forbidden.
const FORBIDDEN: &str = "10%";

/// How many flows there are.
const FLOWS: &str = "256";

/// Sends `load` across the gate, and does `meanwhile` when a quarter of it is sent.
///
/// # Errors
/// What the generator or the sink says; what `meanwhile` says.
pub fn run(lab: &Lab, load: Load, meanwhile: impl FnOnce() -> Result<()>) -> Result<Outcome> {
    // One that hears nothing at all is not waited for any longer.
    let most = load.time + WAIT;
    let before = hops::count(lab)?;
    let to = addr::UPLINK_MAC;
    // Not that of the sink before: that one has said that it listens.
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let said = format!("/tmp/sink-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let line = format!(
        "exec portcullis bench sink --uplink up0 --from {} --flows {FLOWS} --duration {}s --json 2> {said}",
        addr::LAN_MAC,
        most.as_secs()
    );
    let sink = lab.uplink.begin(&shell(&line), "", most + SETUP)?;
    rig::poll_until("the sink", SETUP, || {
        let said = lab
            .uplink
            .must(&format!("cat {said} 2>/dev/null || true"))?;
        Ok(said.contains("listening").then_some(()))
    })?;
    let line = format!(
        "exec portcullis bench send --lan lan0 --to {to} --rate {} --duration {}ms --size {} --flows {FLOWS} --forbidden {FORBIDDEN} --json",
        load.rate,
        load.time.as_millis(),
        load.size
    );
    let send = lab.lan.begin(&shell(&line), "", most)?;
    std::thread::sleep(load.time / 4);
    meanwhile()?;
    let sent = one(&lab.lan.finish(&send, most, &mut || false)?)?;
    std::thread::sleep(STRAGGLERS);
    lab.uplink.interrupt(&sink)?;
    let heard = lab.uplink.finish(&sink, most + SETUP, &mut || false)?;
    let said = lab.uplink.must(&format!("cat {said}"))?;
    let lost_there = said.lines().find(|line| line.contains("were lost here"));
    Ok(Outcome {
        sent,
        // A sink that heard nothing says nothing.
        heard: match heard.stdout.trim() {
            "" => Heard::default(),
            _ => one(&heard)?,
        },
        sink: lost_there.unwrap_or_default().to_owned(),
        hops: hops::since(&before, &hops::count(lab)?),
    })
}

/// The one JSON object that a half of the bench prints: on one line, or on several.
fn one<T: for<'a> Deserialize<'a>>(output: &rig::Output) -> Result<T> {
    serde_json::from_str(&output.stdout).map_err(|e| Error::Answer {
        what: "portcullis bench".to_owned(),
        said: format!("{e}: {} {}", output.stdout.trim(), output.stderr.trim()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_lost_has_to_fit_into_the_longest_silence() {
        let outcome = |received, silence_ns| Outcome {
            sent: Sent {
                sent: 10_000,
                ..Sent::default()
            },
            heard: Heard {
                received,
                silence_ns,
                ..Heard::default()
            },
            ..Outcome::default()
        };
        assert_eq!(outcome(9_500, 1_000_000_000).cut_off(500), None);
        assert_eq!(outcome(10_000, 0).cut_off(500), None);
        assert!(outcome(9_500, 67_000_000).cut_off(500).is_some());
    }
}
