//! The box's own stack, put together from the config.

use super::bringup::Ready;
use crate::config::{Config, InBand, InBandSide};
use crate::hoststack::decoy::{self, Hall, Report};
use crate::hoststack::inband::{self, Inband};
use crate::hoststack::{ROOM, Stack, rings};
use crate::policy::Side;
use crate::worker::{Host, Own, Rates};
use crossbeam::channel::Receiver;
use serde::Serialize;
use smoltcp::time::Instant;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;

/// Connections that wait to be served.
const WAITING: usize = 16;

/// What the control thread knows of the stack.
#[derive(Clone, Debug)]
pub struct Tallies {
    /// Of decoys.
    pub decoy: Arc<decoy::Tally>,
    /// Of the box's own address; `None` where it has none.
    pub inband: Option<InbandTally>,
}

/// The box's own address, and what it counts.
#[derive(Clone, Debug)]
pub struct InbandTally {
    /// One, or one of each family.
    pub addresses: Vec<IpAddr>,
    /// The TCP port.
    pub port: u16,
    /// Its counts.
    pub tally: Arc<inband::Tally>,
}

/// What decoys did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct DecoyStatus {
    /// Conversations now.
    pub open: u64,
    pub begun: u64,
    /// Not begun: there were as many as may be, or their host had.
    pub refused: u64,
    pub refused_host: u64,
    /// Frames of no conversation.
    pub strays: u64,
    /// Frames of decoys that found no room on their way out.
    pub unsent: u64,
    /// Conversations that no alert tells of.
    pub unreported: u64,
}

/// What the box's own address did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct InbandStatus {
    pub addresses: Vec<IpAddr>,
    /// The TCP port of the page.
    pub port: u16,
    /// Frames.
    pub received: u64,
    pub sent: u64,
    pub unsent: u64,
    /// Connections now.
    pub open: u64,
    pub opened: u64,
    pub refused: u64,
    /// Messages of routers that a packet was too big, which were heeded.
    pub narrowed: u64,
}

impl Tallies {
    /// What decoys did until now.
    pub fn decoys(&self) -> DecoyStatus {
        let tally = &self.decoy;
        DecoyStatus {
            open: tally.open.load(Relaxed),
            begun: tally.begun.get(),
            refused: tally.full.get(),
            refused_host: tally.host_full.get(),
            strays: tally.strays.get(),
            unsent: tally.unsent.get(),
            unreported: tally.unreported.get(),
        }
    }

    /// What the box's own address did until now.
    pub fn inband(&self) -> Option<InbandStatus> {
        let InbandTally {
            addresses,
            port,
            tally,
        } = self.inband.as_ref()?;
        Some(InbandStatus {
            addresses: addresses.clone(),
            port: *port,
            received: tally.received.get(),
            sent: tally.sent.get(),
            unsent: tally.unsent.get(),
            open: tally.open.load(Relaxed),
            opened: tally.opened.get(),
            refused: tally.refused.get(),
            narrowed: tally.narrowed.get(),
        })
    }
}

/// A stack that is ready to be started.
pub struct Made {
    /// The stack.
    pub stack: Stack,
    /// Conversations that are over.
    pub reports: Receiver<Report>,
    /// Connections to the box's own address.
    pub connections: Option<mpsc::Receiver<DuplexStream>>,
    /// What it counts.
    pub tallies: Tallies,
}

/// Gives each worker its way to a stack, and makes that.
pub fn make(config: &Config, ready: &mut Ready) -> Made {
    let workers = std::mem::take(&mut ready.workers);
    let share = |rate: u32| (rate / workers.len().max(1) as u32).max(1);
    let rates = Rates {
        own: share(config.inband.as_ref().map_or(0, |inband| inband.rate)),
        decoy: share(config.decoy.rate),
    };
    let settings = config
        .inband
        .as_ref()
        .map(|inband| settings(inband, ready.macs));
    let own = config.inband.as_ref().zip(settings.as_ref());
    let own = own.map(|(inband, settings)| Arc::new(filter(inband, settings)));
    let mut ends = Vec::new();
    for (worker, core) in workers {
        let (worker_end, stack_end) = rings::pair(ROOM);
        ends.push(stack_end);
        let host = Host::new(worker_end, own.clone(), rates);
        ready.workers.push((worker.with_host(host), core));
    }
    let hall = Hall::new(decoy::Settings {
        at_most: config.decoy.at_most,
        for_a_host: config.decoy.for_a_host,
        deadline: config.decoy.deadline,
        silence: config.decoy.silence,
        record: config.decoy.record,
        name: config.decoy.name.clone(),
    });
    let mut connections = None;
    let inband = settings.map(|settings| {
        let (sender, receiver) = mpsc::channel(WAITING);
        connections = Some(receiver);
        let seed = RandomState::new().hash_one(settings.mac);
        Inband::new(settings, sender, seed, Instant::ZERO)
    });
    let tallies = Tallies {
        decoy: hall.tally(),
        inband: inband
            .as_ref()
            .zip(config.inband.as_ref())
            .map(|(inband, config)| InbandTally {
                addresses: config.addresses.iter().map(|net| net.addr()).collect(),
                port: config.port,
                tally: inband.tally(),
            }),
    };
    let (stack, reports) = Stack::new(ends, hall, inband);
    Made {
        stack,
        reports,
        connections,
        tallies,
    }
}

/// Where the box is; `macs` are those of the two NICs.
fn settings(inband: &InBand, macs: [[u8; 6]; 2]) -> inband::Settings {
    let sides = match inband.side {
        InBandSide::Lan => [true, false],
        InBandSide::Uplink => [false, true],
        InBandSide::Both => [true, true],
    };
    let nic = if sides[0] { Side::Lan } else { Side::Uplink };
    inband::Settings {
        mac: inband.mac.unwrap_or(macs[nic as usize]),
        addresses: inband.addresses.clone(),
        gateways: inband.gateways.clone(),
        vlan: inband.vlan,
        sides,
        port: inband.port,
    }
}

/// Which frames the workers give it.
fn filter(inband: &InBand, settings: &inband::Settings) -> Own {
    let mut addresses: Vec<IpAddr> = inband.addresses.iter().map(|net| net.addr()).collect();
    if addresses.iter().any(IpAddr::is_ipv6) {
        addresses.push(inband::link_local(settings.mac).into());
    }
    Own {
        mac: settings.mac,
        sides: settings.sides,
        vlan: settings.vlan,
        addresses,
        gateways: inband.gateways.clone(),
        allow: inband.allow.clone(),
        port: inband.port,
    }
}
