//! Scans: one port of many addresses, or many ports of one.
//!
//! What counts is what does not answer: a bit is set when a flow is opened and cleared when the other end answers for the first time, so a hundred open tabs are nothing. Ten times as
//! many addresses on one port are a scan though all of them answer.

use super::bits::Bits;
use super::places::Places;
use super::{Found, is_over, seconds};
use crate::config::detect;
use crate::telemetry::Behaviour;
use crate::telemetry::observe::Peer;
use serde_json::json;

/// So many times the bound on addresses is a scan even where they answer.
const ANSWERED: u32 = 10;
/// UDP services that a server inside may well ask of the whole world: DNS, NTP.
const ASKED_OF_ALL: [u16; 2] = [53, 123];
const UDP: u8 = 17;

/// What is tried on one port, or at one address.
struct Tried {
    since: u64,
    told: bool,
    openings: u32,
    blocked: u32,
    all: Bits,
    unanswered: Bits,
}

impl Tried {
    fn since(now: u64) -> Tried {
        Tried {
            since: now,
            told: false,
            openings: 0,
            blocked: 0,
            all: Bits::default(),
            unanswered: Bits::default(),
        }
    }

    fn weight(&self, window: std::time::Duration, now: u64) -> u64 {
        match is_over(self.since, window, now) {
            true => 0,
            false => 1 + u64::from(self.unanswered.count()),
        }
    }

    fn add(&mut self, hash: u64, blocked: bool) {
        self.openings = self.openings.saturating_add(1);
        self.blocked = self.blocked.saturating_add(blocked.into());
        self.all.set(hash);
        self.unanswered.set(hash);
    }
}

/// Of one host.
#[derive(Default)]
pub(super) struct Scan {
    /// Addresses by protocol and port.
    ports: Places<(u8, u16), Tried, 8>,
    /// Ports by address.
    peers: Places<u128, Tried, 8>,
}

impl Scan {
    pub fn opened(
        &mut self,
        settings: &detect::Scan,
        peer: Peer,
        blocked: bool,
        now: u64,
        hash: impl Fn(u128, u16) -> u64,
    ) -> [Option<Found>; 2] {
        let (window, nothing) = (settings.window, [None, None]);
        if peer.proto == UDP && ASKED_OF_ALL.contains(&peer.port) {
            return nothing;
        }
        let fresh = || Tried::since(now);
        let weight = |tried: &Tried| tried.weight(window, now);
        let port = self.ports.get((peer.proto, peer.port), fresh, weight);
        if is_over(port.since, window, now) {
            *port = fresh();
        }
        port.add(hash(peer.address, 0), blocked);
        let horizontal = port.horizontal(settings, peer, now);
        // Without ports there is nothing to go through.
        if peer.port == 0 {
            return [horizontal, None];
        }
        let address = self.peers.get(peer.address, fresh, weight);
        if is_over(address.since, window, now) {
            *address = fresh();
        }
        address.add(hash(u128::from(peer.proto), peer.port), blocked);
        [horizontal, address.vertical(settings, peer, now)]
    }

    pub fn answered(&mut self, peer: Peer, hash: impl Fn(u128, u16) -> u64) {
        if let Some(port) = self.ports.find((peer.proto, peer.port)) {
            port.unanswered.clear(hash(peer.address, 0));
        }
        if let Some(address) = self.peers.find(peer.address) {
            address
                .unanswered
                .clear(hash(u128::from(peer.proto), peer.port));
        }
    }
}

impl Tried {
    fn horizontal(&mut self, settings: &detect::Scan, peer: Peer, now: u64) -> Option<Found> {
        let (hosts, unanswered) = (self.all.count(), self.unanswered.count());
        let many = unanswered >= settings.hosts || hosts >= settings.hosts * ANSWERED;
        (many && !std::mem::replace(&mut self.told, many)).then(|| Found {
            behaviour: Behaviour::ScanHorizontal,
            peer,
            frames: self.openings,
            numbers: json!({
                "kind": Behaviour::ScanHorizontal.name(),
                "port": peer.port,
                "hosts": hosts,
                "unanswered": unanswered,
                "blocked": self.blocked,
                "seconds": seconds(self.since, now),
            }),
        })
    }

    fn vertical(&mut self, settings: &detect::Scan, peer: Peer, now: u64) -> Option<Found> {
        let unanswered = self.unanswered.count();
        let many = unanswered >= settings.ports;
        (many && !std::mem::replace(&mut self.told, many)).then(|| Found {
            behaviour: Behaviour::ScanVertical,
            peer,
            frames: self.openings,
            numbers: json!({
                "kind": Behaviour::ScanVertical.name(),
                "ports": self.all.count(),
                "unanswered": unanswered,
                "blocked": self.blocked,
                "seconds": seconds(self.since, now),
            }),
        })
    }
}
