//! Data in pings: echo requests to one address that hold something else than a ping does.

use super::places::Places;
use super::{Found, is_over, seconds};
use crate::config::detect;
use crate::telemetry::Behaviour;
use crate::telemetry::observe::{Echo, Peer};
use serde_json::json;

/// Echo requests to one address.
struct Echoes {
    since: u64,
    told: bool,
    all: u32,
    odd: u32,
    /// Of the odd ones.
    bytes: u64,
    largest: u16,
    /// A bit for each size of an odd one, modulo 64.
    sizes: u64,
    identifier: u16,
}

impl Echoes {
    fn since(now: u64) -> Echoes {
        Echoes {
            since: now,
            told: false,
            all: 0,
            odd: 0,
            bytes: 0,
            largest: 0,
            sizes: 0,
            identifier: 0,
        }
    }
}

/// Of one host.
#[derive(Default)]
pub(super) struct IcmpTunnel {
    peers: Places<u128, Echoes, 4>,
}

impl IcmpTunnel {
    pub fn echo(
        &mut self,
        settings: &detect::IcmpTunnel,
        echo: &Echo,
        v6: bool,
        now: u64,
    ) -> Option<Found> {
        let window = settings.window;
        let weight = |echoes: &Echoes| match is_over(echoes.since, window, now) {
            true => 0,
            false => 1 + u64::from(echoes.odd),
        };
        let echoes = self.peers.get(echo.to, || Echoes::since(now), weight);
        if is_over(echoes.since, window, now) {
            *echoes = Echoes::since(now);
        }
        echoes.all = echoes.all.saturating_add(1);
        if echo.ordinary {
            return None;
        }
        echoes.odd = echoes.odd.saturating_add(1);
        echoes.bytes += u64::from(echo.size);
        echoes.largest = echoes.largest.max(echo.size);
        echoes.sizes |= 1 << (echo.size % 64);
        echoes.identifier = echo.identifier;
        if echoes.odd < settings.echoes || std::mem::replace(&mut echoes.told, true) {
            return None;
        }
        Some(Found {
            behaviour: Behaviour::IcmpTunnel,
            peer: Peer {
                address: echo.to,
                port: 0,
                proto: if v6 { 58 } else { 1 },
            },
            frames: echoes.odd,
            numbers: json!({
                "kind": Behaviour::IcmpTunnel.name(),
                "echoes": echoes.odd,
                "ordinary": echoes.all - echoes.odd,
                "bytes": echoes.bytes,
                "largest": echoes.largest,
                "sizes": echoes.sizes.count_ones(),
                "identifier": echoes.identifier,
                "seconds": seconds(echoes.since, now),
            }),
        })
    }
}
