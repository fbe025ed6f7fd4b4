//! From a configuration to workers that are ready to run: look at the NICs, bind the sockets, put the gate on, make the NICs fit.
//!
//! Whatever fails on the way leaves the NICs as they were.

mod error;
mod look;
mod prepare;
mod sockets;
mod takeover;

pub use error::BringupError;
pub use look::room;
pub use sockets::in_use;

use super::evidence;
use super::handover::{Layout, Left, TakenOver};
use super::status::PortInfo;
use crate::action::reject::Rejector;
use crate::config::Bridge;
use crate::config::evidence::Evidence;
use crate::flow::Flows;
use crate::policy::{InForce, Side};
use crate::port::afxdp::AfXdpPort;
use crate::port::gate::{Gate, Loader};
use crate::telemetry::recording::Pages;
use crate::telemetry::{EventRing, event};
use crate::worker::Worker;
use af_xdp::{Frame, Pages as PageSize, Socket, Umem, UmemConfig};
use look::look;
use prepare::prepare;
use sockets::{bind_all, copy_or_not, fill_target};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the kernel may take to let go of packet memory.
const RELEASED: Duration = Duration::from_millis(500);
/// Alert events between a worker and the control thread.
const EVENTS: usize = 4096;

/// A gate that is ready.
pub struct Ready {
    /// Each with the core that it belongs on.
    pub workers: Vec<(Worker<AfXdpPort>, usize)>,
    /// By side, with the in-kernel gate, which is pinned.
    pub ports: [(PortInfo, Gate); 2],
    /// One from each worker.
    pub events: Vec<EventRing>,
    /// What the workers record their frames in, one each; none where no evidence is kept.
    pub pages: Vec<Pages>,
    /// What a person should know: huge pages that were not there, a veth.
    pub notes: Vec<String>,
    /// How sockets and memory are laid out; `None` where they cannot be handed over.
    pub layout: Option<Layout>,
    /// What was taken over from the process before.
    pub taken: Option<TakenOver>,
    /// The MAC addresses of the NICs, by side.
    pub macs: [[u8; 6]; 2],
}

/// Makes everything ready. `state` is the folder where the NICs' state before is written down for `detach`; `left` is what the process before has left. Where
/// somebody could `keep` it for the next process, packet memory is such that it can be handed over.
///
/// # Errors
/// [`BringupError`], one line that says what to do; the NICs are then as they were.
pub fn bring_up(
    bridge: &Bridge,
    policy: &InForce,
    flows: &Arc<Flows>,
    evidence: Option<&Evidence>,
    state: &Path,
    mut loader: Loader,
    (left, keep): (Left, bool),
) -> Result<Ready, BringupError> {
    let mut notes = Vec::new();
    let nics = [
        look(&bridge.lan, bridge, &mut notes)?,
        look(&bridge.uplink, bridge, &mut notes)?,
    ];
    let queues = nics.each_ref().map(|nic| nic.rx_queues);
    let cores = cores(bridge, queues[0].min(queues[1]) as usize)?;
    let mut layout = takeover::wanted(bridge, &nics, cores.len());
    let mut refused = false;
    let taken = match left.is_empty() {
        true => None,
        false => match takeover::take(left, bridge, &nics, &layout) {
            Ok(taken) => Some(taken),
            Err(why) => {
                notes.push(format!(
                    "what the process before has left is not taken over, and frames were lost: {why}"
                ));
                refused = true;
                None
            }
        },
    };
    let (umem, memory, sockets, taken) = match taken {
        Some(taken) => {
            if bridge.huge_pages && taken.umem.pages() == PageSize::Small {
                notes.push("packet memory was taken over as it was, in small pages; where huge pages are free now, `systemctl stop` and `start` has them".into());
            }
            (taken.umem, taken.in_hand, taken.sockets, Some(taken.report))
        }
        None => {
            let pairs = queues[0].max(queues[1]);
            let until = Instant::now() + RELEASED;
            let mut said = Vec::new();
            let mut made = memory(bridge, pairs, keep, &mut said)?;
            // The kernel lets go of memory that was left and refused a moment after its sockets are closed.
            while refused
                && bridge.huge_pages
                && made.0.pages() == PageSize::Small
                && Instant::now() < until
            {
                drop(made);
                std::thread::sleep(RELEASED / 10);
                said.clear();
                made = memory(bridge, pairs, keep, &mut said)?;
            }
            notes.append(&mut said);
            let (umem, frames) = made;
            let modes = [
                copy_or_not(bridge, &nics[0])?,
                copy_or_not(bridge, &nics[1])?,
            ];
            let mut dealt = deal(frames, cores.len());
            let sockets = bind_all(bridge, &nics, modes, (&umem, &mut dealt))?;
            (umem, dealt, sockets, None)
        }
    };
    layout.huge = umem.pages() == PageSize::Huge;
    for (port, sockets) in layout.ports.iter_mut().zip(&sockets) {
        port.zero_copy = sockets.first().is_some_and(Socket::zero_copy);
    }
    let layout = umem.file().map(|_| layout);
    let mut prepare = |side: Side| {
        let (nic, sockets) = (&nics[side as usize], &sockets[side as usize]);
        prepare(bridge, &mut loader, (nic, side), sockets, state)
    };
    let (lan, uplink) = (prepare(Side::Lan)?, prepare(Side::Uplink)?);
    for port in [&lan, &uplink] {
        notes.extend(port.slow_note(bridge));
    }
    let (mut workers, events) = distribute(bridge, umem, memory, sockets, policy, flows, &cores);
    let made = evidence.map(|evidence| evidence::pages(evidence, workers.len()));
    let (pages, recorders) = made.unwrap_or_default();
    if !recorders.is_empty() {
        let recording = workers.into_iter().zip(recorders);
        workers = recording
            .map(|((worker, core), recorder)| (worker.with_recorder(Some(recorder)), core))
            .collect();
    }
    Ok(Ready {
        workers,
        events,
        pages,
        notes,
        layout,
        taken,
        macs: nics.each_ref().map(|nic| nic.mac),
        ports: [lan.keep(), uplink.keep()],
    })
}

/// The cores that at most `most` workers are pinned to: those of the config, or the last ones that this process may use.
///
/// # Errors
/// [`BringupError::Cores`].
pub fn cores(bridge: &Bridge, most: usize) -> Result<Vec<usize>, BringupError> {
    let allowed: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|core| core.id)
        .collect();
    match &bridge.cores {
        Some(wanted) if !wanted.is_empty() && wanted.iter().all(|core| allowed.contains(core)) => {
            Ok(wanted.iter().copied().take(most).collect())
        }
        Some(wanted) => Err(BringupError::Cores {
            wanted: wanted.clone(),
            allowed,
        }),
        None if allowed.is_empty() => Err(BringupError::Cores {
            wanted: Vec::new(),
            allowed,
        }),
        None => Ok(allowed.into_iter().rev().take(most).collect()),
    }
}

fn memory(
    bridge: &Bridge,
    pairs: u32,
    keep: bool,
    notes: &mut Vec<String>,
) -> Result<(Umem, Vec<Frame>), BringupError> {
    // Half a ring waits in each fill ring, as much may stand in each receive ring, and a whole one in each transmit ring.
    let least = bridge.ring.saturating_mul(4);
    if bridge.frames < least {
        return Err(BringupError::Frames {
            frames: bridge.frames,
            ring: bridge.ring,
            least,
        });
    }
    let frames = bridge.frames.saturating_mul(pairs);
    let shape = UmemConfig {
        frames,
        chunk: bridge.chunk,
        headroom: 0,
        huge_pages: bridge.huge_pages,
    };
    let shared = keep.then(|| Umem::shared(&shape)).transpose();
    let shared = shared.unwrap_or_else(|e| {
        notes.push(format!(
            "nothing can be handed over to the next process: {e}"
        ));
        None
    });
    let made = match shared {
        Some(made) => made,
        // The kernel joins small pages of memory that is no file, where it can.
        None => Umem::new(&shape)?,
    };
    if bridge.huge_pages && made.0.pages() == PageSize::Small {
        let pages = (u64::from(frames) * u64::from(bridge.chunk)).div_ceil(2 << 20);
        notes.push(format!("no huge pages are free, so packet memory is in small ones; to change that: sysctl vm.nr_hugepages={pages}"));
    }
    Ok(made)
}

type Workers = Vec<(Worker<AfXdpPort>, usize)>;

/// Deals new memory out.
fn deal(mut memory: Vec<Frame>, workers: usize) -> Vec<Vec<Frame>> {
    let share = memory.len() / workers.max(1);
    let part = |_| memory.split_off(memory.len() - share);
    (0..workers).map(part).collect()
}

/// Deals queues out to as many workers as there are cores for, each with its memory.
fn distribute(
    bridge: &Bridge,
    umem: Umem,
    memory: Vec<Vec<Frame>>,
    sockets: [Vec<Socket>; 2],
    policy: &InForce,
    flows: &Arc<Flows>,
    cores: &[usize],
) -> (Workers, Vec<EventRing>) {
    let share = umem.frames() as usize / cores.len().max(1);
    let mut dealt: Vec<[Vec<AfXdpPort>; 2]> =
        cores.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    for (side, sockets) in sockets.into_iter().enumerate() {
        for (queue, socket) in sockets.into_iter().enumerate() {
            let port = AfXdpPort::new(socket, bridge.ring, fill_target(bridge))
                .busy_polled(bridge.busy_poll.is_some());
            dealt[queue % cores.len()][side].push(port);
        }
    }
    let mut events = Vec::new();
    let mut workers = Vec::new();
    for (index, ((ports, core), in_hand)) in dealt.into_iter().zip(cores).zip(memory).enumerate() {
        // With those in the rings of its sockets, a share.
        let mut frames = Vec::with_capacity(share);
        frames.extend(in_hand);
        let ring = event::ring(EVENTS);
        events.push(Arc::clone(&ring));
        let rejector = Rejector::new();
        workers.push((
            Worker::new(
                umem.clone(),
                frames,
                ports,
                Arc::clone(policy),
                flows.tracker(index, cores.len()),
                rejector,
                ring,
            )
            .owning(share),
            *core,
        ));
    }
    (workers, events)
}
