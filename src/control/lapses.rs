//! Times in which nobody filtered: seen from the in-kernel gate's own counters, since nobody was there to see them, and said when somebody is again.

use super::status::PortInfo;
use crate::port::gate::GateStats;
use std::time::Duration;

/// What was said already, by side.
#[derive(Debug, Default)]
pub struct Lapses {
    known: Option<[GateStats; 2]>,
    /// As it was before the lapse that goes on, by side.
    since: [Option<GateStats>; 2],
}

impl Lapses {
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
            // What was before the start was while nobody was there by intent or not: the counters have it.
            return Vec::new();
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
        told
    }
}

fn words(side: &str, interface: &str, before: &GateStats, now: &GateStats) -> String {
    let (stale, unfiltered) = (now.stale - before.stale, now.unfiltered - before.unfiltered);
    let lasted = now.unfiltered_for.saturating_sub(before.unfiltered_for);
    let lasted = Duration::from_millis(lasted.as_millis() as u64);
    let mut parts = Vec::new();
    if unfiltered > 0 {
        parts.push(format!(
            "{unfiltered} frames PASSED UNFILTERED in {}",
            humantime::format_duration(lasted)
        ));
    }
    if stale > 0 {
        parts.push(format!("{stale} frames were dropped"));
    }
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
    fn a_lapse_is_told_once_when_it_is_over_with_all_of_it_and_none_from_before_the_start() {
        let mut lapses = Lapses::default();
        let mut look = |lan, uplink| lapses.counted([lan, uplink], NAMES);
        let none = stats(0, 0, 0);
        assert!(look(stats(7, 9, 100), none).is_empty(), "before the start");
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
