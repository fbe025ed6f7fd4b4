//! Taking over the sockets and the memory that the process before has left, where they are what this start asks for.

use super::sockets::socket_config;
use crate::config::{Bridge, Mode as WantedMode};
use crate::control::handover::{self, Layout, Ledger, Left, Port, TakenOver};
use crate::os::nic::Nic;
use crate::policy::Side;
use af_xdp::{Frame, Mode, Socket, Umem, UmemConfig};
use std::os::unix::fs::MetadataExt;

/// Sockets on every queue, over memory of which each worker has its part in hand.
pub(super) struct Taken {
    pub umem: Umem,
    /// By worker.
    pub in_hand: Vec<Vec<Frame>>,
    pub sockets: [Vec<Socket>; 2],
    pub report: TakenOver,
}

/// How everything is to be laid out, as far as it is asked for.
pub(super) fn wanted(bridge: &Bridge, nics: &[Nic; 2], workers: usize) -> Layout {
    let queues = nics[0].rx_queues.max(nics[1].rx_queues);
    Layout {
        namespace: std::fs::metadata("/proc/self/ns/net").map_or(0, |found| found.ino()),
        ports: nics.each_ref().map(|nic| Port {
            nic: nic.name.clone(),
            index: nic.index,
            queues: nic.rx_queues,
            zero_copy: false,
        }),
        workers,
        frames: bridge.frames.saturating_mul(queues),
        chunk: bridge.chunk,
        ring: bridge.ring,
        huge_pages: bridge.huge_pages,
        huge: false,
        busy_poll: bridge.busy_poll.map(|busy| [busy.usecs, busy.budget]),
    }
}

/// Takes over what was left.
///
/// # Errors
/// What does not fit, in words; all of it is closed then, and the queues are free a moment later.
pub(super) fn take(
    mut left: Left,
    bridge: &Bridge,
    nics: &[Nic; 2],
    wanted: &Layout,
) -> Result<Taken, String> {
    if bridge.handover.is_none() {
        return Err("handover = \"off\"".into());
    }
    let ledger = left.ledger()?;
    ledger.check(wanted, handover::monotonic())?;
    for (port, nic) in ledger.layout.ports.iter().zip(nics) {
        fits(bridge, port, nic)?;
    }
    let shape = UmemConfig {
        frames: wanted.frames,
        chunk: wanted.chunk,
        headroom: 0,
        huge_pages: ledger.layout.huge,
    };
    let numbers: Vec<u32> = (ledger.in_hand.iter())
        .flat_map(|chunks| chunks.numbers())
        .collect();
    let adopted = Umem::adopt(left.memory()?, &shape, &numbers);
    let (umem, mut frames) = adopted.map_err(|e| e.to_string())?;
    let mut in_hand: Vec<Vec<Frame>> = Vec::new();
    for chunks in ledger.in_hand.iter().rev() {
        in_hand.insert(0, frames.split_off(frames.len() - chunks.len()));
    }
    let sockets = sockets(&mut left, &ledger, bridge, nics, &umem)?;
    left.finish()?;
    let of_side = |of: fn(&Socket) -> u32| {
        let sum = |sockets: &Vec<Socket>| sockets.iter().map(|socket| u64::from(of(socket))).sum();
        sockets.each_ref().map(sum)
    };
    let report = TakenOver {
        gap_us: 0,
        waiting: of_side(Socket::rx_level),
        in_flight: of_side(Socket::in_flight),
        received_before: ledger.received,
        chunks: numbers.len() as u64,
        late: false,
        left: ledger.left,
        patience: ledger.patience,
    };
    Ok(Taken {
        umem,
        in_hand,
        sockets,
        report,
    })
}

/// Whether the mode is one that the config allows, and the gate that gives the sockets their frames is still there.
fn fits(bridge: &Bridge, port: &Port, nic: &Nic) -> Result<(), String> {
    let Some((_, driver)) = nic.xdp else {
        return Err(format!("{} has lost its gate", nic.name));
    };
    let allowed = match bridge.mode {
        WantedMode::Auto => !port.zero_copy || bridge.chunk >= 4096,
        WantedMode::ZeroCopy => port.zero_copy && driver,
        WantedMode::Copy => !port.zero_copy && driver,
        WantedMode::Generic => !port.zero_copy && !driver,
    };
    match allowed {
        true => Ok(()),
        false => Err(format!("{} runs in another mode", nic.name)),
    }
}

fn sockets(
    left: &mut Left,
    ledger: &Ledger,
    bridge: &Bridge,
    nics: &[Nic; 2],
    umem: &Umem,
) -> Result<[Vec<Socket>; 2], String> {
    let mut all = [Vec::new(), Vec::new()];
    for side in Side::BOTH {
        let (at, nic) = (side as usize, &nics[side as usize]);
        let mode = match ledger.layout.ports[at].zero_copy {
            true => Mode::ZeroCopy,
            false => Mode::Copy,
        };
        for (queue, in_flight) in (0..).zip(&ledger.in_flight[at]) {
            let config = socket_config(bridge, nic, queue, mode);
            let fd = left.socket(side.name(), queue as usize)?;
            let socket = Socket::take_over(umem, fd, &config, *in_flight);
            all[at].push(socket.map_err(|e| format!("queue {queue} of {}: {e}", nic.name))?);
        }
    }
    Ok(all)
}
