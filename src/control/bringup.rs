//! From a configuration to workers that are ready to run: look at the NICs, make them fit, bind the sockets, put the gate on.
//!
//! Whatever fails on the way leaves the NICs as they were.

use super::status::PortInfo;
use crate::action::reject::Rejector;
use crate::config::{Bridge, Mode as WantedMode, Offloads, Queues};
use crate::os::nic::{self, Nic, NicError};
use crate::os::offload::{self, Before, OffloadError};
use crate::policy::Side;
use crate::policy::table::Table;
use crate::port::afxdp::AfXdpPort;
use crate::port::gate::{self, Gate, GateError, Hook};
use crate::telemetry::{EventRing, event};
use crate::worker::Worker;
use af_xdp::{
    BindError, Frame, Mode, Pages, RingSizes, Socket, SocketConfig, Umem, UmemConfig, UmemError,
};
use ipnet::IpNet;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

/// Bytes in front of each frame that the kernel keeps for XDP programs (`XDP_PACKET_HEADROOM`, linux/bpf.h).
const HEADROOM: u32 = 256;
/// Ethernet and two VLAN tags.
const LINK_HEADER: u32 = 14 + 8;
/// Alert events between a worker and the control thread.
const EVENTS: usize = 4096;
/// Frames that one wake-up may send in copy mode; the kernel's own default is 32.
const TX_BUDGET: u32 = 256;

/// Why the gate could not be made ready.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BringupError {
    #[error(transparent)]
    Nic(#[from] NicError),
    #[error(transparent)]
    Offload(#[from] OffloadError),
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error("{nic} is down; run: ip link set {nic} up")]
    Down { nic: String },
    #[error(
        "{nic} belongs to a bridge or bond, which would forward past the gate; run: ip link set {nic} nomaster"
    )]
    Enslaved { nic: String },
    #[error(
        "{nic}: an MTU of {mtu} does not fit a chunk of {chunk} bytes, of which {room} hold the packet; run: ip link set {nic} mtu {room}{hint}"
    )]
    Mtu {
        nic: String,
        mtu: u32,
        chunk: u32,
        room: u32,
        hint: &'static str,
    },
    #[error(
        "{nic} has {queues} receive queues, {wanted} were asked for; each queue needs a socket, or its frames are dropped; run: ethtool -L {nic} combined {wanted}, or set queues = \"auto\""
    )]
    Queues {
        nic: String,
        queues: u32,
        wanted: u32,
    },
    #[error(
        "[bridge] frames = {frames} is too few for rings of {ring}: a NIC would starve; use at least {least}, or a smaller ring"
    )]
    Frames { frames: u32, ring: u32, least: u32 },
    #[error(
        "zero-copy mode needs chunk = 4096: drivers lose full-size frames in chunks of 2048 without a word"
    )]
    SmallChunk,
    #[error("{nic}: {source}{hint}")]
    Bind {
        nic: String,
        source: BindError,
        hint: &'static str,
    },
    #[error("packet memory: {0}")]
    Umem(#[from] UmemError),
    #[error("cores = {wanted:?}: this process may run on {allowed:?} only")]
    Cores {
        wanted: Vec<usize>,
        allowed: Vec<usize>,
    },
    #[error("{0}")]
    Statistics(std::io::Error),
}

/// A gate that is ready.
pub struct Ready {
    /// Each with the core that it belongs on.
    pub workers: Vec<(Worker<AfXdpPort>, usize)>,
    /// By side, with the in-kernel gate, which is pinned.
    pub ports: [(PortInfo, Gate); 2],
    /// One from each worker.
    pub events: Vec<EventRing>,
    /// What a person should know: huge pages that were not there, a veth.
    pub notes: Vec<String>,
}

/// Makes everything ready. `state` is the folder where the NICs' state before is written down for `detach`.
///
/// # Errors
/// [`BringupError`], one line that says what to do; the NICs are then as they were.
pub fn bring_up(
    bridge: &Bridge,
    table: &Arc<Table>,
    inside: &[IpNet],
    state: &Path,
) -> Result<Ready, BringupError> {
    let mut notes = Vec::new();
    let nics = [
        look(&bridge.lan, bridge, &mut notes)?,
        look(&bridge.uplink, bridge, &mut notes)?,
    ];
    let queues = nics.each_ref().map(|nic| nic.rx_queues);
    let cores = cores(bridge, queues[0].min(queues[1]) as usize)?;
    let (umem, memory) = memory(bridge, queues[0].max(queues[1]), &mut notes)?;
    let modes = [
        copy_or_not(bridge, &nics[0])?,
        copy_or_not(bridge, &nics[1])?,
    ];
    let sockets = bind_all(bridge, &nics, modes, &umem)?;
    let lan = prepare(bridge, &nics[0], Side::Lan, &sockets[0], state)?;
    let uplink = prepare(bridge, &nics[1], Side::Uplink, &sockets[1], state)?;
    let (workers, events) = distribute(bridge, umem, memory, sockets, table, inside, &cores);
    Ok(Ready {
        workers,
        events,
        notes,
        ports: [lan.keep(), uplink.keep()],
    })
}

/// Looks at a NIC, and refuses what cannot work.
fn look(name: &str, bridge: &Bridge, notes: &mut Vec<String>) -> Result<Nic, BringupError> {
    let nic = nic::block_on(nic::inspect(name))?;
    if nic.controller.is_some() {
        return Err(BringupError::Enslaved { nic: nic.name });
    }
    if !nic.up {
        return Err(BringupError::Down { nic: nic.name });
    }
    if nic.xdp.is_some() && !gate::is_pinned(&nic.name, nic.index, &bridge.bpffs) {
        return Err(GateError::Taken { nic: nic.name }.into());
    }
    let room = bridge.chunk - HEADROOM - LINK_HEADER;
    if nic.mtu > room {
        let hint = if bridge.chunk < 4096 {
            ", or set chunk = 4096"
        } else {
            ""
        };
        return Err(BringupError::Mtu {
            nic: nic.name,
            mtu: nic.mtu,
            chunk: bridge.chunk,
            room,
            hint,
        });
    }
    if let Queues::Count(wanted) = bridge.queues
        && u32::from(wanted) != nic.rx_queues
    {
        return Err(BringupError::Queues {
            nic: nic.name,
            queues: nic.rx_queues,
            wanted: wanted.into(),
        });
    }
    let harmful = offload::harmful(&nic);
    if bridge.offloads == Offloads::Check && !harmful.is_empty() {
        let command = format!(
            "ethtool {}",
            offload::arguments(&nic.name, &harmful, false).join(" ")
        );
        return Err(OffloadError::On {
            nic: nic.name,
            names: harmful,
            why: "offloads = \"check\"".into(),
            command,
        }
        .into());
    }
    if nic.veth {
        notes.push(format!(
            "{name} is a veth: run `ethtool -K IF tx off txvlan off` on its far end, or checksums and VLAN tags do not come along"
        ));
    }
    Ok(nic)
}

/// The cores that the workers are pinned to: those of the config, or the last ones that this process may use.
fn cores(bridge: &Bridge, most: usize) -> Result<Vec<usize>, BringupError> {
    let allowed: Vec<usize> = core_affinity::get_core_ids()
        .unwrap_or_default()
        .iter()
        .map(|core| core.id)
        .collect();
    match &bridge.cores {
        Some(wanted) if wanted.iter().all(|core| allowed.contains(core)) => {
            Ok(wanted.iter().copied().take(most).collect())
        }
        Some(wanted) => Err(BringupError::Cores {
            wanted: wanted.clone(),
            allowed,
        }),
        None => Ok(allowed.into_iter().rev().take(most).collect()),
    }
}

fn memory(
    bridge: &Bridge,
    pairs: u32,
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
    let made = Umem::new(&UmemConfig {
        frames,
        chunk: bridge.chunk,
        headroom: 0,
        huge_pages: bridge.huge_pages,
    })?;
    if bridge.huge_pages && made.0.pages() == Pages::Small {
        let pages = (u64::from(frames) * u64::from(bridge.chunk)).div_ceil(2 << 20);
        notes.push(format!("no huge pages are free, so packet memory is in small ones; to change that: sysctl vm.nr_hugepages={pages}"));
    }
    Ok(made)
}

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
fn copy_or_not(bridge: &Bridge, nic: &Nic) -> Result<Mode, BringupError> {
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

/// A socket on every queue of both NICs, over the one memory: registered once, and once more if the other NIC runs in another mode.
fn bind_all(
    bridge: &Bridge,
    nics: &[Nic; 2],
    modes: [Mode; 2],
    umem: &Umem,
) -> Result<[Vec<Socket>; 2], BringupError> {
    let mut lan: Vec<Socket> = Vec::new();
    let mut uplink: Vec<Socket> = Vec::new();
    for queue in 0..nics[0].rx_queues {
        let config = socket_config(bridge, &nics[0], queue, modes[0]);
        lan.push(Socket::bind(umem, &config, lan.first()).map_err(|e| bind_error(&nics[0], e))?);
    }
    for queue in 0..nics[1].rx_queues {
        let config = socket_config(bridge, &nics[1], queue, modes[1]);
        let share = if modes[0] == modes[1] {
            lan.first()
        } else {
            uplink.first()
        };
        uplink.push(Socket::bind(umem, &config, share).map_err(|e| bind_error(&nics[1], e))?);
    }
    Ok([lan, uplink])
}

fn socket_config(bridge: &Bridge, nic: &Nic, queue: u32, mode: Mode) -> SocketConfig {
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

/// A port with the gate on it. Dropped before it is kept, it puts the NIC back.
struct Prepared<'a> {
    nic: &'a Nic,
    info: Option<PortInfo>,
    gate: Option<Gate>,
    switched: Vec<String>,
    written: Option<&'a Path>,
}

impl Prepared<'_> {
    fn keep(mut self) -> (PortInfo, Gate) {
        self.written = None;
        self.switched.clear();
        match (self.info.take(), self.gate.take()) {
            (Some(info), Some(gate)) => (info, gate),
            // `prepare` hands out only ports that have both.
            _ => unreachable!("a prepared port without a gate"),
        }
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        // Best effort: the error that led here is the one to tell.
        let _ = offload::switch(&self.nic.name, &self.switched, true);
        if let Some(state) = self.written {
            let _ = nic::block_on(nic::set_flags(self.nic, self.nic.promisc));
            Before::forget(state, &self.nic.name);
        }
        if let Some(gate) = self.gate.take() {
            gate.undo();
        }
    }
}

/// Puts the gate on a NIC, switches off what would harm, and gives its queues their sockets.
fn prepare<'a>(
    bridge: &Bridge,
    nic: &'a Nic,
    side: Side,
    sockets: &[Socket],
    state: &'a Path,
) -> Result<Prepared<'a>, BringupError> {
    let mut port = Prepared {
        nic,
        info: None,
        gate: None,
        switched: Vec::new(),
        written: None,
    };
    let mut gate = put_gate(bridge, nic)?;
    let hook = gate.hook();
    let stats = gate.take_stats();
    port.gate = Some(gate);
    if Before::load(state, nic).is_none() {
        Before::of(nic).store(state, &nic.name)?;
        port.written = Some(state);
    }
    let harmful = offload::harmful(nic);
    offload::switch(&nic.name, &harmful, false)?;
    port.switched = harmful;
    let left = offload::harmful(&nic::block_on(nic::inspect(&nic.name))?);
    if !left.is_empty() {
        let command = format!(
            "ethtool {}",
            offload::arguments(&nic.name, &left, false).join(" ")
        );
        return Err(OffloadError::On {
            nic: nic.name.clone(),
            names: left,
            why: "the driver keeps them on".into(),
            command,
        }
        .into());
    }
    nic::block_on(nic::set_flags(nic, true))?;
    let mut readers = Vec::new();
    for socket in sockets {
        if let Some(gate) = &mut port.gate {
            gate.set_socket(socket.queue(), &socket.as_fd())?;
        }
        readers.push(
            socket
                .statistics_reader()
                .map_err(BringupError::Statistics)?,
        );
    }
    port.info = Some(PortInfo {
        side: side.name(),
        interface: nic.name.clone(),
        mode: match (sockets.first().is_some_and(Socket::zero_copy), hook) {
            (true, _) => "zero-copy",
            (false, Hook::Driver) => "copy",
            (false, Hook::Generic) => "generic",
        },
        queues: nic.rx_queues,
        sockets: readers,
        gate: stats,
    });
    Ok(port)
}

/// The gate in the driver, or in the network stack where the driver has no XDP and the config allows it.
fn put_gate(bridge: &Bridge, nic: &Nic) -> Result<Gate, GateError> {
    let at = |driver| if driver { Hook::Driver } else { Hook::Generic };
    let hooks: &[Hook] = match bridge.mode {
        WantedMode::Auto => &[Hook::Driver, Hook::Generic],
        WantedMode::ZeroCopy | WantedMode::Copy => &[Hook::Driver],
        WantedMode::Generic => &[Hook::Generic],
    };
    let taken = nic.xdp.map(|(_, driver)| at(driver));
    Gate::attach(&nic.name, nic.index, hooks, &bridge.bpffs, taken)
}

type Workers = Vec<(Worker<AfXdpPort>, usize)>;

/// Deals queues and memory out to as many workers as there are cores for.
fn distribute(
    bridge: &Bridge,
    umem: Umem,
    mut memory: Vec<Frame>,
    sockets: [Vec<Socket>; 2],
    table: &Arc<Table>,
    inside: &[IpNet],
    cores: &[usize],
) -> (Workers, Vec<EventRing>) {
    let share = memory.len() / cores.len().max(1);
    let mut dealt: Vec<[Vec<AfXdpPort>; 2]> =
        cores.iter().map(|_| [Vec::new(), Vec::new()]).collect();
    for (side, sockets) in sockets.into_iter().enumerate() {
        for (queue, socket) in sockets.into_iter().enumerate() {
            let port = AfXdpPort::new(socket, bridge.ring, bridge.ring / 2);
            dealt[queue % cores.len()][side].push(port);
        }
    }
    let mut events = Vec::new();
    let mut workers = Vec::new();
    for (ports, core) in dealt.into_iter().zip(cores) {
        let frames = memory.split_off(memory.len() - share);
        let ring = event::ring(EVENTS);
        events.push(Arc::clone(&ring));
        let rejector = Rejector::new(inside.to_vec());
        workers.push((
            Worker::new(
                umem.clone(),
                frames,
                ports,
                Arc::clone(table),
                rejector,
                ring,
            ),
            *core,
        ));
    }
    (workers, events)
}
