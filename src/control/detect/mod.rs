//! How hosts behave over time: what none of their frames shows by itself. Findings alert and block nothing.
//!
//! ```text
//! worker ► ring ► Detectors::take ─┬► scan         a state machine for each host and detector, of fixed size,
//!          full: counted           ├► dns_tunnel   for a bounded number of hosts; time is that of the
//!                                  ├► icmp_tunnel  observation
//!                                  ├► upload
//!                                  └► beacon  ► Finding ► an incident, as that of a rule
//! ```

mod beacon;
mod bits;
mod dns_tunnel;
mod hosts;
mod icmp_tunnel;
mod places;
mod scan;
mod upload;

use crate::config::detect::Settings;
use crate::frame::{Meta, Net};
use crate::policy::{Side, Verdict};
use crate::telemetry::event::Snippet;
use crate::telemetry::observe::{Host, Peer, What};
use crate::telemetry::{Behaviour, Cause, Event, Observation, ObservationRing};
use hosts::Hosts;
use serde_json::{Map, Value};
use std::hash::{BuildHasher, RandomState};

/// What a detector has found of one host.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// What it is.
    pub behaviour: Behaviour,
    /// When, nanoseconds since the Unix epoch.
    pub wall: u64,
    /// Who.
    pub host: Host,
    /// Towards whom, or towards whom last.
    pub peer: Peer,
    /// Observations that led to it.
    pub frames: u32,
    /// The numbers that led to it, as an alert shows them.
    pub numbers: Map<String, Value>,
}

impl Finding {
    /// The event that stands for it among those of frames.
    pub fn event(&self) -> Event {
        let meta = Meta {
            net: if self.host.v6 { Net::V6 } else { Net::V4 },
            ethertype: if self.host.v6 { 0x86dd } else { 0x0800 },
            src: self.host.address,
            dst: self.peer.address,
            src_mac: self.host.mac,
            dst_mac: self.host.router,
            proto: self.peer.proto,
            // Of ICMP an echo request's type.
            sport: match self.peer.proto {
                1 => 8,
                58 => 128,
                _ => 0,
            },
            dport: self.peer.port,
            ..Meta::NONE
        };
        Event {
            time: self.wall,
            cause: Cause::Behaviour(self.behaviour),
            verdict: Verdict::Forward,
            shadow: false,
            side: Side::Lan,
            frames: self.frames,
            len: 0,
            meta,
            app: None,
            payload: Snippet::EMPTY,
        }
    }
}

/// What a detector says; who and when are the observation's.
struct Found {
    behaviour: Behaviour,
    peer: Peer,
    frames: u32,
    numbers: Value,
}

/// What is remembered of one host: nothing for a detector that it has given nothing to see.
#[derive(Default)]
struct Known {
    scan: Option<Box<scan::Scan>>,
    dns_tunnel: Option<Box<dns_tunnel::DnsTunnel>>,
    icmp_tunnel: Option<Box<icmp_tunnel::IcmpTunnel>>,
    upload: Option<Box<upload::Upload>>,
    beacon: Option<Box<beacon::Beacon>>,
}

/// All detectors, and all hosts that they know.
pub struct Detectors {
    settings: Settings,
    hosts: Hosts<Known>,
    /// Nobody outside knows which addresses, ports and names fall together.
    keys: RandomState,
}

impl Detectors {
    /// Knowing nobody.
    pub fn new(settings: Settings) -> Detectors {
        Detectors {
            hosts: Hosts::new(settings.hosts),
            settings,
            keys: RandomState::new(),
        }
    }

    /// Takes one observation.
    pub fn take(&mut self, seen: &Observation) -> Vec<Finding> {
        let (now, host) = (seen.steady, &seen.host);
        let settings = &self.settings;
        let known = match seen.what {
            // What nobody remembers has no use for an answer.
            What::Answered(_) => self.hosts.find(host),
            _ => Some(self.hosts.get(host, now)),
        };
        let Some(known) = known else {
            return Vec::new();
        };
        let except = |except: &crate::config::detect::Except, peer: Option<u128>| {
            except.has(host.v6, host.address) || peer.is_some_and(|peer| except.has(host.v6, peer))
        };
        let hash = |address: u128, port: u16| self.keys.hash_one((address, port));
        let mut all: [Option<Found>; 3] = [None, None, None];
        match seen.what {
            What::Opened { peer, blocked } => {
                if let Some(settings) = &settings.scan
                    && !except(&settings.except, Some(peer.address))
                {
                    let scan = known.scan.get_or_insert_default();
                    let [first, second] = scan.opened(settings, peer, blocked, now, hash);
                    (all[0], all[1]) = (first, second);
                }
                if let Some(settings) = &settings.beacon
                    && !except(&settings.except, Some(peer.address))
                {
                    let beacon = known.beacon.get_or_insert_default();
                    let hash = self.keys.hash_one((peer.address, peer.port, peer.proto));
                    all[2] = beacon.opened(settings, peer, hash, now);
                }
            }
            What::Answered(peer) => {
                if let Some(scan) = &mut known.scan {
                    scan.answered(peer, hash);
                }
            }
            What::Dns(question) => {
                if let Some(settings) = &settings.dns_tunnel
                    && !except(&settings.except, None)
                {
                    let dns_tunnel = known.dns_tunnel.get_or_insert_default();
                    all[0] = dns_tunnel.asked(settings, &question, now);
                }
            }
            What::Echo(echo) => {
                if let Some(settings) = &settings.icmp_tunnel
                    && !except(&settings.except, Some(echo.to))
                {
                    let icmp_tunnel = known.icmp_tunnel.get_or_insert_default();
                    all[0] = icmp_tunnel.echo(settings, &echo, host.v6, now);
                }
            }
            What::Sent { peer, bytes } => {
                if let Some(beacon) = &mut known.beacon {
                    beacon.sent(
                        self.keys.hash_one((peer.address, peer.port, peer.proto)),
                        bytes,
                    );
                }
                if let Some(settings) = &settings.upload
                    && !except(&settings.except, Some(peer.address))
                {
                    let upload = known.upload.get_or_insert_default();
                    all[0] = upload.sent(settings, peer, bytes, now);
                }
            }
        }
        let finding = |found: Found| Finding {
            behaviour: found.behaviour,
            wall: seen.wall,
            host: seen.host,
            peer: found.peer,
            frames: found.frames.max(1),
            numbers: match found.numbers {
                Value::Object(numbers) => numbers,
                _ => Map::new(),
            },
        };
        all.into_iter().flatten().map(finding).collect()
    }

    /// Hosts that are remembered.
    pub fn hosts(&self) -> usize {
        self.hosts.len()
    }

    /// The most memory that a host may take, bytes, without what the map around it takes.
    pub const fn bytes_of_a_host() -> usize {
        size_of::<Known>()
            + size_of::<scan::Scan>()
            + size_of::<dns_tunnel::DnsTunnel>()
            + size_of::<icmp_tunnel::IcmpTunnel>()
            + size_of::<upload::Upload>()
            + size_of::<beacon::Beacon>()
    }
}

/// Empties rings in the order of time: an answer may come in by another worker than what it answers. Bounded, so that rings that are filled all the while are left in the end.
pub fn drain(rings: &[ObservationRing], mut each: impl FnMut(&Observation)) {
    let most: usize = rings.iter().map(|ring| ring.capacity()).sum();
    let mut heads: Vec<Option<Observation>> = rings.iter().map(|ring| ring.pop()).collect();
    for taken in 0.. {
        let there = heads.iter().enumerate();
        let times = there.filter_map(|(at, head)| Some((head.as_ref()?.steady, at)));
        let Some((_, at)) = times.min() else { break };
        if let Some(seen) = heads[at].take() {
            each(&seen);
        }
        if taken < most {
            // Also of those that were empty: what is in one ring may be older than what came into another since.
            for (head, ring) in heads.iter_mut().zip(rings) {
                if head.is_none() {
                    *head = ring.pop();
                }
            }
        }
    }
}

/// Whether `window` is over that began at `since`.
fn is_over(since: u64, window: std::time::Duration, now: u64) -> bool {
    u128::from(now.saturating_sub(since)) >= window.as_nanos()
}

/// Whole seconds between two times.
fn seconds(since: u64, now: u64) -> u64 {
    now.saturating_sub(since) / 1_000_000_000
}

#[cfg(test)]
mod tests;
