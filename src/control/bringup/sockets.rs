//! An AF_XDP socket on every queue, over one memory.

use super::BringupError;
use crate::config::{Bridge, Mode as WantedMode};
use crate::os::nic::Nic;
use af_xdp::{BindError, Frame, Mode, RingSizes, Socket, SocketConfig, Umem, UmemConfig};

/// Frames that one wake-up may send in copy mode; the kernel's own default is 32.
const TX_BUDGET: u32 = 256;

/// Memory and rings of a socket that is bound only to see whether it can be.
const PROBE_MEMORY: UmemConfig = UmemConfig {
    frames: 64,
    chunk: 4096,
    headroom: 0,
    huge_pages: false,
};
const PROBE_RINGS: RingSizes = RingSizes {
    fill: 64,
    completion: 64,
    rx: 64,
    tx: 64,
};

/// True if some process receives by AF_XDP on the first queue of a NIC, whether it answers on a control socket or not.
pub fn in_use(nic: &Nic) -> bool {
    let config = SocketConfig {
        ifindex: nic.index,
        queue: 0,
        mode: Mode::Copy,
        rings: PROBE_RINGS,
        need_wakeup: true,
        busy_poll: None,
        tx_budget: None,
    };
    Umem::new(&PROBE_MEMORY).is_ok_and(|(umem, _)| {
        matches!(
            Socket::bind(&umem, &config, None),
            Err(BindError::Busy { .. })
        )
    })
}

/// Whether a NIC gets zero copy: asked by binding once, with memory of its own, and letting go again.
pub(super) fn copy_or_not(bridge: &Bridge, nic: &Nic) -> Result<Mode, BringupError> {
    match bridge.mode {
        WantedMode::Copy | WantedMode::Generic => return Ok(Mode::Copy),
        WantedMode::ZeroCopy if bridge.chunk < 4096 => return Err(BringupError::SmallChunk),
        WantedMode::Auto if bridge.chunk < 4096 => return Ok(Mode::Copy),
        WantedMode::ZeroCopy | WantedMode::Auto => {}
    }
    let (umem, _) = Umem::new(&UmemConfig {
        chunk: bridge.chunk,
        ..PROBE_MEMORY
    })?;
    let config = SocketConfig {
        rings: PROBE_RINGS,
        ..socket_config(bridge, nic, 0, Mode::ZeroCopy)
    };
    match (Socket::bind(&umem, &config, None), bridge.mode) {
        (Ok(_), _) => Ok(Mode::ZeroCopy),
        (Err(BindError::NotSupported { .. }), WantedMode::Auto) => Ok(Mode::Copy),
        (Err(source), _) => Err(bind_error(nic, source)),
    }
}

/// A socket on every queue of both NICs, over the one memory: registered once, and once more if the other NIC runs in another mode. Each has frames to receive
/// into, of the worker that its queue is for: some drivers look for them at the bind alone.
pub(super) fn bind_all(
    bridge: &Bridge,
    nics: &[Nic; 2],
    modes: [Mode; 2],
    (umem, memory): (&Umem, &mut [Vec<Frame>]),
) -> Result<[Vec<Socket>; 2], BringupError> {
    let mut lan: Vec<Socket> = Vec::new();
    let mut uplink: Vec<Socket> = Vec::new();
    let workers = memory.len().max(1);
    let mut bind = |side: usize, queue: u32, share: Option<&Socket>| {
        let config = socket_config(bridge, &nics[side], queue, modes[side]);
        let frames = &mut memory[queue as usize % workers];
        Socket::bind_filled(umem, &config, share, frames, fill_target(bridge) as usize)
            .map_err(|e| bind_error(&nics[side], e))
    };
    for queue in 0..nics[0].rx_queues {
        lan.push(bind(0, queue, lan.first())?);
    }
    for queue in 0..nics[1].rx_queues {
        let share = if modes[0] == modes[1] {
            lan.first()
        } else {
            uplink.first()
        };
        uplink.push(bind(1, queue, share)?);
    }
    Ok([lan, uplink])
}

/// How many frames wait in a fill ring.
pub(super) fn fill_target(bridge: &Bridge) -> u32 {
    bridge.ring / 2
}

pub(super) fn socket_config(bridge: &Bridge, nic: &Nic, queue: u32, mode: Mode) -> SocketConfig {
    // Completions come back for every frame that the transmit ring took, and the fill ring is the only buffer while we are away.
    let rings = RingSizes {
        fill: bridge.ring,
        completion: bridge.ring,
        rx: bridge.ring,
        tx: bridge.ring,
    };
    let busy_poll = bridge.busy_poll.map(|b| af_xdp::BusyPoll {
        usecs: b.usecs,
        budget: b.budget.min(u16::MAX.into()) as u16,
    });
    SocketConfig {
        ifindex: nic.index,
        queue,
        mode,
        rings,
        need_wakeup: true,
        busy_poll,
        tx_budget: Some(TX_BUDGET),
    }
}

fn bind_error(nic: &Nic, source: BindError) -> BringupError {
    let hint = match &source {
        BindError::Busy { .. } => {
            "; another gate or AF_XDP program is running on it: stop that one first"
        }
        BindError::NotSupported { .. } => "; set mode = \"auto\"",
        _ => "",
    };
    BringupError::Bind {
        nic: nic.name.clone(),
        source,
        hint,
    }
}
