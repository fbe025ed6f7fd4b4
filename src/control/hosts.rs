//! Which hosts alert most, in bounded memory, for whoever asks for it in the metrics.

use super::line::mac;
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;

/// Hosts that are counted apart; where there are more the quieter half gives way, and is counted together. So a flood of made-up addresses costs a sort for each
/// half of so many, and not a search for each.
const MOST: usize = 4096;

/// An inside host: by its MAC address where it has no other, or a forged one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Host {
    /// Its address.
    Ip(IpAddr),
    /// Its MAC address.
    Mac([u8; 6]),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Ip(ip) => ip.fmt(f),
            Host::Mac(address) => f.write_str(&mac(*address)),
        }
    }
}

/// Alerting frames by host since the start.
#[derive(Debug)]
pub struct Hosts {
    /// How many are shown.
    shown: usize,
    counts: HashMap<Host, u64>,
    beyond: u64,
}

/// The hosts with the most alerting frames.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loudest {
    /// The loudest first.
    pub hosts: Vec<(String, u64)>,
    /// Frames of all others.
    pub other: u64,
}

impl Hosts {
    /// Shows so many.
    pub fn new(shown: usize) -> Hosts {
        Hosts {
            shown,
            counts: HashMap::new(),
            beyond: 0,
        }
    }

    /// Frames of a host that alerted.
    pub fn add(&mut self, host: Host, frames: u64) {
        if let Some(count) = self.counts.get_mut(&host) {
            *count += frames;
            return;
        }
        if self.counts.len() >= MOST {
            let mut all: Vec<_> = self.counts.drain().collect();
            all.sort_unstable_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
            let quieter = all.split_off(MOST / 2);
            self.beyond += quieter.iter().map(|(_, frames)| frames).sum::<u64>();
            self.counts.extend(all);
        }
        self.counts.insert(host, frames);
    }

    /// The loudest now.
    pub fn loudest(&self) -> Loudest {
        let mut all: Vec<_> = self.counts.iter().collect();
        all.sort_unstable_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
        let others = all.iter().skip(self.shown);
        let other = self.beyond + others.map(|(_, frames)| **frames).sum::<u64>();
        let shown = all.into_iter().take(self.shown);
        Loudest {
            hosts: shown
                .map(|(host, frames)| (host.to_string(), *frames))
                .collect(),
            other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u32) -> Host {
        Host::Ip(std::net::Ipv4Addr::from(0x0a00_0000 + n).into())
    }

    #[test]
    fn the_loudest_are_shown_and_every_frame_is_somewhere() {
        let mut hosts = Hosts::new(2);
        for n in 0..MOST as u64 + 10 {
            hosts.add(host(n as u32), 1);
        }
        hosts.add(host(7), 5);
        hosts.add(host(9), 9);
        let loudest = hosts.loudest();
        // One that comes late is shown too.
        hosts.add(host(9_000_000), 7);
        let loudest_now = hosts.loudest();
        assert_eq!(loudest_now.hosts[1], ("10.137.84.64".to_owned(), 7));
        let names: Vec<_> = loudest
            .hosts
            .iter()
            .map(|(host, n)| (&**host, *n))
            .collect();
        assert_eq!(names, [("10.0.0.9", 10), ("10.0.0.7", 6)]);
        assert_eq!(loudest.other, MOST as u64 + 10 - 2);
    }
}
