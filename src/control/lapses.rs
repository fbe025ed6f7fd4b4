//! Times in which nobody filtered: seen from the in-kernel gate's own counters, since nobody was there to see them, and said when somebody is again.

use super::keep;
use super::status::PortInfo;
use crate::port::gate::GateStats;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What was said already, by side.
#[derive(Debug, Default)]
pub struct Lapses {
    /// What earlier processes have said, as far as it was kept: frames dropped and unfiltered, milliseconds unfiltered.
    kept: [[u64; 3]; 2],
    path: PathBuf,
    known: Option<[GateStats; 2]>,
    /// As it was before the lapse that goes on, by side.
    since: [Option<GateStats>; 2],
}

impl Lapses {
    /// `state` is the folder of what is kept.
    pub fn new(state: &Path) -> Lapses {
        let path = state.join("lapses.json");
        // Nothing depends on it but what is said twice.
        let kept = keep::read(&path).ok().flatten();
        let kept = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Lapses {
            kept: kept.unwrap_or_default(),
            path,
            ..Lapses::default()
        }
    }

    /// What happened while no process was there to say it, by what was kept of those before: a line for each port.
    fn before(&self, now: &[GateStats; 2], names: [(&str, &str); 2]) -> Vec<String> {
        let mut told = Vec::new();
        for ((stats, kept), (side, interface)) in now.iter().zip(self.kept).zip(names) {
            // Counters that have gone back are of a gate that was attached anew.
            let [stale, unfiltered, ms] = numbers(stats);
            let kept = if stale < kept[0] || unfiltered < kept[1] {
                [0; 3]
            } else {
                kept
            };
            let parts = parts(
                stale - kept[0],
                unfiltered - kept[1],
                ms.saturating_sub(kept[2]),
            );
            if !parts.is_empty() {
                told.push(format!(
                    "{side}={interface}: before this start nobody filtered: {}",
                    parts.join(", ")
                ));
            }
        }
        told
    }

    /// Writes down what was said.
    fn keep(&mut self, now: &[GateStats; 2]) {
        self.kept = [numbers(&now[0]), numbers(&now[1])];
        if self.path.as_os_str().is_empty() {
            return;
        }
        let text = serde_json::to_vec(&self.kept).unwrap_or_default();
        if let Err(e) = keep::write(&self.path, &text) {
            eprintln!("portcullis: warning: {}: {e}", self.path.display());
        }
    }

    /// Looks at the counters; a line for each port whose lapse is over, to be told. A lapse is over when nothing was added to it since the last look.
    pub fn look(&mut self, ports: &[PortInfo; 2]) -> Vec<String> {
        let now = [ports[0].gate(), ports[1].gate()];
        self.counted(
            now,
            [&ports[0], &ports[1]].map(|port| (port.side, &*port.interface)),
        )
    }

    fn counted(&mut self, now: [GateStats; 2], names: [(&str, &str); 2]) -> Vec<String> {
        let Some(known) = self.known.replace(now) else {
            let told = self.before(&now, names);
            self.keep(&now);
            return told;
        };
        let mut told = Vec::new();
        for (at, (side, interface)) in names.into_iter().enumerate() {
            let grows =
                now[at].stale > known[at].stale || now[at].unfiltered > known[at].unfiltered;
            match (grows, self.since[at]) {
                (true, None) => self.since[at] = Some(known[at]),
                (false, Some(before)) => {
                    self.since[at] = None;
                    told.push(words(side, interface, &before, &now[at]));
                }
                _ => {}
            }
        }
        if !told.is_empty() {
            self.keep(&now);
        }
        told
    }
}

/// Frames dropped, frames unfiltered, milliseconds unfiltered.
fn numbers(stats: &GateStats) -> [u64; 3] {
    let dropped = stats.stale + stats.no_socket;
    [
        dropped,
        stats.unfiltered,
        stats.unfiltered_for.as_millis() as u64,
    ]
}

fn parts(dropped: u64, unfiltered: u64, ms: u64) -> Vec<String> {
    let mut parts = Vec::new();
    if unfiltered > 0 {
        let lasted = humantime::format_duration(Duration::from_millis(ms));
        parts.push(format!("{unfiltered} frames PASSED UNFILTERED in {lasted}"));
    }
    if dropped > 0 {
        parts.push(format!("{dropped} frames were dropped"));
    }
    parts
}

fn words(side: &str, interface: &str, before: &GateStats, now: &GateStats) -> String {
    let lasted = now.unfiltered_for.saturating_sub(before.unfiltered_for);
    let parts = parts(
        now.stale - before.stale,
        now.unfiltered - before.unfiltered,
        lasted.as_millis() as u64,
    );
    format!(
        "{side}={interface}: no worker turned for longer than the watchdog allows: {}",
        parts.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [(&str, &str); 2] = [("lan", "a"), ("uplink", "b")];

    fn stats(stale: u64, unfiltered: u64, ms: u64) -> GateStats {
        GateStats {
            stale,
            unfiltered,
            unfiltered_for: Duration::from_millis(ms),
            ..GateStats::default()
        }
    }

    #[test]
    fn what_an_earlier_process_has_said_is_not_said_again_and_a_gate_that_was_attached_anew_begins_at_nothing()
     {
        let dir = tempfile::tempdir().unwrap();
        let none = stats(0, 0, 0);
        let first = |lan| Lapses::new(dir.path()).counted([lan, none], NAMES);
        assert_eq!(first(stats(5, 0, 0)).len(), 1);
        assert!(first(stats(5, 0, 0)).is_empty());
        assert!(first(stats(6, 0, 0))[0].ends_with(": 1 frames were dropped"));
        assert!(first(stats(2, 0, 0))[0].ends_with(": 2 frames were dropped"));
    }

    #[test]
    fn a_lapse_is_told_once_when_it_is_over_with_all_of_it() {
        let mut lapses = Lapses::default();
        let mut look = |lan, uplink| lapses.counted([lan, uplink], NAMES);
        let none = stats(0, 0, 0);
        let told = look(stats(7, 9, 100), none);
        assert_eq!(
            told,
            [
                "lan=a: before this start nobody filtered: 9 frames PASSED UNFILTERED in 100ms, 7 frames were dropped"
            ]
        );
        assert!(look(stats(7, 9, 100), none).is_empty());
        assert!(look(stats(7, 10, 150), none).is_empty(), "it goes on");
        assert!(look(stats(7, 30, 1600), none).is_empty());
        let told = look(stats(7, 30, 1600), none);
        assert_eq!(
            told,
            [
                "lan=a: no worker turned for longer than the watchdog allows: 21 frames PASSED UNFILTERED in 1s 500ms"
            ]
        );
        assert!(look(stats(7, 30, 1600), none).is_empty(), "once");
        assert!(look(stats(7, 30, 1600), stats(5, 0, 0)).is_empty());
        let told = look(stats(7, 30, 1600), stats(5, 0, 0));
        assert!(
            told[0].starts_with("uplink=b") && told[0].ends_with(": 5 frames were dropped"),
            "{told:?}"
        );
    }
}
