//! What happens in a second: the difference of two pictures.

use super::picture::{Picture, Port};
use std::collections::HashMap;

/// Counts of one rule, or one reason, in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rate {
    pub packets: f64,
    pub bits: f64,
}

/// What passes by one port in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct PortRate {
    /// Into the box.
    pub received: Rate,
    /// Out of the box: what came in by the other port, and answers that the box made.
    pub sent: Rate,
    /// Frames that came in by it and were let through, and that were not.
    pub passed: f64,
    pub stopped: f64,
}

/// Everything that is shown as so many in a second.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    pub ports: HashMap<String, PortRate>,
    pub rules: HashMap<String, Rate>,
    /// Frames that did not pass by any port, by reason.
    pub reasons: HashMap<String, f64>,
    /// The share of its turns in which a worker moved something, 0 to 1.
    pub busy: Vec<f64>,
}

impl Rates {
    /// `None` where the two are not of one run of the gate, or of one moment.
    pub fn between(before: &Picture, now: &Picture) -> Option<Rates> {
        let (old, new) = (&before.status, &now.status);
        let seconds = now.at.checked_duration_since(before.at)?.as_secs_f64();
        if old.pid != new.pid || new.uptime_s < old.uptime_s || seconds <= 0.0 {
            return None;
        }
        let each = |new: u64, old: u64| new.saturating_sub(old) as f64 / seconds;
        let rate = |new: (u64, u64), old: (u64, u64)| Rate {
            packets: each(new.0, old.0),
            bits: each(new.1, old.1) * 8.0,
        };
        let nothing = Port::default();
        let was = |name: &str| old.ports.get(name).unwrap_or(&nothing);
        let mut rates = Rates::default();
        for (name, port) in &new.ports.0 {
            let other = new.ports.0.iter().find(|(other, _)| other != name);
            let sent = other.map_or(Rate::default(), |(other, port)| {
                let old = was(other);
                rate(
                    (port.tx + port.replies, port.forwarded_bytes),
                    (old.tx + old.replies, old.forwarded_bytes),
                )
            });
            let old = was(name);
            let shown = PortRate {
                received: rate((port.rx, port.rx_bytes), (old.rx, old.rx_bytes)),
                sent,
                passed: each(port.forwarded, old.forwarded),
                stopped: each(port.stopped(), old.stopped()),
            };
            rates.ports.insert(name.clone(), shown);
            let before: HashMap<&str, u64> = old.reasons().collect();
            for (reason, count) in port.reasons() {
                let old = before.get(reason).copied().unwrap_or(0);
                *rates.reasons.entry(reason.to_owned()).or_default() += each(count, old);
            }
        }
        let rules: HashMap<&str, (u64, u64)> = old
            .rules
            .0
            .iter()
            .map(|(name, rule)| (name.as_str(), (rule.packets, rule.bytes)))
            .collect();
        for (name, rule) in &new.rules.0 {
            let old = rules.get(name.as_str()).copied().unwrap_or_default();
            let shown = rate((rule.packets, rule.bytes), old);
            rates.rules.insert(name.clone(), shown);
        }
        for (at, worker) in new.workers.iter().enumerate() {
            let old = old.workers.get(at).cloned().unwrap_or_default();
            let turns = each(worker.turns, old.turns);
            let busy = each(worker.busy_turns, old.busy_turns);
            rates
                .busy
                .push(if turns > 0.0 { busy / turns } else { 0.0 });
        }
        Some(rates)
    }
}

/// A number as short as a column needs it: exact up to five digits, then three that count.
pub(super) fn short(n: f64) -> String {
    if n < 10.0 && n.fract() >= 0.05 {
        return format!("{n:.1}");
    }
    if n.round() < 100_000.0 {
        return format!("{n:.0}");
    }
    let (mut n, mut units) = (n / 1e3, ["k", "M", "G", "T", "P"].iter());
    let mut unit = units.next().unwrap_or(&"");
    for larger in units {
        if n < 999.5 {
            break;
        }
        (n, unit) = (n / 1e3, larger);
    }
    match n {
        _ if n < 9.995 => format!("{n:.2}{unit}"),
        _ if n < 99.95 => format!("{n:.1}{unit}"),
        _ => format!("{n:.0}{unit}"),
    }
}

/// How long: the two largest units of it.
pub(super) fn how_long(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{incidents, status};
    use super::*;
    use serde_json::Value;
    use std::time::{Duration, Instant, SystemTime};

    const NOON: SystemTime = SystemTime::UNIX_EPOCH;

    fn after(seconds: u64, change: impl FnOnce(&mut Value)) -> Option<Rates> {
        let (start, mut later) = (Instant::now(), status());
        change(&mut later);
        let before = Picture::read((start, NOON), &status(), &incidents()).unwrap();
        let at = (start + Duration::from_secs(seconds), NOON);
        Rates::between(&before, &Picture::read(at, &later, &incidents()).unwrap())
    }

    #[test]
    fn a_rate_is_what_was_counted_between_two_pictures_by_the_time_between_them() {
        let rates = after(2, |later| {
            let lan = &mut later["ports"]["lan"];
            lan["rx"] = 1_200.into();
            lan["rx_bytes"] = 101_000.into();
            lan["forwarded"] = 1_100.into();
            lan["tx"] = 1_100.into();
            lan["forwarded_bytes"] = 100_000.into();
            lan["dropped"] = serde_json::json!({ "rule": 90, "no-flow": 20 });
            later["rules"]["tftp"]["packets"] = 27.into();
            later["rules"]["tftp"]["bytes"] = 1_400.into();
            later["workers"][0]["turns"] = 2_000.into();
            later["workers"][0]["busy_turns"] = 350.into();
        });
        let rates = rates.unwrap();
        let lan = rates.ports["lan"];
        assert_eq!((lan.received.packets, lan.received.bits), (100.0, 4_000.0));
        assert_eq!((lan.passed, lan.stopped), (100.0, 5.0));
        let uplink = rates.ports["uplink"].sent;
        assert_eq!((uplink.packets, uplink.bits), (100.0, 40_000.0));
        assert_eq!(rates.reasons["no-flow"], 5.0);
        let tftp = rates.rules["tftp"];
        assert_eq!((tftp.packets, tftp.bits), (10.0, 4_000.0));
        assert_eq!(rates.busy, [0.25, 0.0]);
    }

    #[test]
    fn two_runs_of_the_gate_have_no_rate_between_them_and_counters_that_go_back_have_none_below_zero()
     {
        assert!(after(1, |later| later["pid"] = 8.into()).is_none());
        assert!(after(1, |later| later["uptime_s"] = 0.into()).is_none());
        assert!(after(0, |_| ()).is_none());
        let back = after(1, |later| later["rules"]["tftp"]["packets"] = 1.into()).unwrap();
        assert_eq!(back.rules["tftp"].packets, 0.0);
    }

    #[test]
    fn numbers_and_times_are_short_and_never_wider_than_their_columns() {
        let cases = [
            (0.0, "0"),
            (0.25, "0.2"),
            (9.97, "10.0"),
            (12.4, "12"),
            (99_999.4, "99999"),
            (99_999.6, "100k"),
            (123_456.0, "123k"),
            (999_600.0, "1.00M"),
            (1_234_567.0, "1.23M"),
            (12_345_678.0, "12.3M"),
            (9.9e9, "9.90G"),
            (1.8e19, "18000P"),
        ];
        for (n, text) in cases {
            assert_eq!(short(n), text, "{n}");
        }
        for (seconds, text) in [
            (7, "7 s"),
            (192, "3 min 12 s"),
            (7_500, "2 h 5 min"),
            (200_000, "2 d 7 h"),
        ] {
            assert_eq!(how_long(seconds), text);
        }
    }
}
