//! A NIC of the tester: an AF_XDP socket on each of its queues, and the program that gives them the frames of the other port.
//!
//! The program is attached by a link that nothing else holds: it goes with the port, and with the process however that ends.

use crate::frames::ROOM;
use af_xdp::{
    BindError, Frame, Mode, RingSizes, Socket, SocketConfig, Statistics, Umem, UmemConfig,
    UmemError, WakeError,
};
use aya::maps::{Array, MapData, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// `port.bpf.c`, compiled.
static OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/port.bpf.o");

/// Entries of each ring. What the device sends has to wait here while the receiving thread is kept away.
const RING: u32 = 4096;
/// Room for both receiving rings and the sending ones.
const FRAMES: u32 = 3 * RING;
const CHUNK: u32 = 4096;
/// Frames that one wake-up may send in copy mode.
const TX_BUDGET: u32 = 64;
/// A wake-up that the kernel answers with "try again" is repeated this often before other work is done.
const KICKS: u32 = 8;
/// Frames received at once.
pub const BURST: usize = 64;

/// A NIC, in the network namespace of the thread that opens the port.
#[derive(Clone, Debug)]
pub struct Nic {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// Its receive queues.
    pub queues: u32,
}

/// How frames get into and out of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// Zero copy where the driver has it, else copied.
    #[default]
    Auto,
    /// Copied.
    Copy,
    /// Zero copy or nothing.
    ZeroCopy,
}

/// Which frames a port receives; the others go to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hears {
    /// None: nothing is attached.
    Nothing,
    /// Those that come from this MAC address.
    From([u8; 6]),
    /// All that arrive at the NIC: nobody else hears them.
    All,
}

/// Why a NIC cannot be a port.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum PortError {
    #[error("{0}")]
    Memory(#[from] UmemError),
    #[error("{nic}: {source}{hint}")]
    Bind {
        nic: String,
        source: BindError,
        hint: &'static str,
    },
    #[error(
        "{nic} already runs an XDP program; stop what put it there, or take it off: ip link set dev {nic} xdp off"
    )]
    Taken { nic: String },
    #[error(
        "not allowed to load BPF programs; run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW"
    )]
    Privilege,
    #[error("{nic}: {what}: {why}")]
    Program {
        nic: String,
        what: &'static str,
        why: String,
    },
    #[error(
        "{nic} is down: see `ip link show {nic}`; its cable, or the device at its other end, may be gone"
    )]
    Down { nic: String },
    #[error("{nic}: cannot send: {source}")]
    Send { nic: String, source: std::io::Error },
}

/// An open NIC.
pub struct Port {
    name: String,
    umem: Umem,
    pool: Vec<Frame>,
    queued: Vec<Frame>,
    received: Vec<Frame>,
    /// The first of them sends.
    sockets: Vec<Socket>,
    driver: bool,
    _program: Option<(Ebpf, FdLink)>,
}

impl Port {
    /// Opens a NIC of the calling thread's network namespace; the port may then go to any thread.
    ///
    /// # Errors
    /// [`PortError`]; the NIC is then as it was.
    pub fn open(nic: &Nic, hears: Hears, wanted: Wanted) -> Result<Port, PortError> {
        let queues = nic.queues.max(1);
        let (umem, pool) = Umem::new(&UmemConfig {
            frames: FRAMES * queues,
            chunk: CHUNK,
            headroom: 0,
            huge_pages: true,
        })?;
        // Before the sockets: a NIC that is somebody else's is then not touched at all.
        let mut program = match hears {
            Hears::Nothing => None,
            _ => Some(attached(nic, hears)?),
        };
        let sockets = bind(nic, queues, &umem, wanted)?;
        if let Some((ebpf, ..)) = &mut program {
            enter(ebpf, nic, &sockets)?;
        }
        let mut port = Port {
            name: nic.name.clone(),
            umem,
            pool,
            queued: Vec::with_capacity(BURST),
            received: Vec::with_capacity(BURST),
            sockets,
            driver: program.as_ref().is_none_or(|(.., driver)| *driver),
            _program: program.map(|(ebpf, link, _)| (ebpf, link)),
        };
        port.refill();
        Ok(port)
    }

    /// The NIC's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it runs: "zero-copy", "copy", or "generic".
    pub fn mode(&self) -> &'static str {
        match (
            self.sockets.first().is_some_and(Socket::zero_copy),
            self.driver,
        ) {
            (true, _) => "zero-copy",
            (false, true) => "copy",
            (false, false) => "generic",
        }
    }

    /// Sends up to `count` frames and [`BURST`]; `write` fills each in and says its length. Says how many were taken: fewer where there is no room.
    ///
    /// # Errors
    /// That the link is down or the kernel refuses.
    pub fn send(
        &mut self,
        count: usize,
        mut write: impl FnMut(&mut [u8; ROOM]) -> usize,
    ) -> Result<usize, PortError> {
        let Some(socket) = self.sockets.first_mut() else {
            return Ok(0);
        };
        socket.complete(&mut self.pool);
        let mut room = [0; ROOM];
        let free = (RING - socket.tx_pending().min(RING)) as usize;
        let count = count.min(BURST).min(free);
        for _ in 0..count {
            let Some(mut frame) = self.pool.pop() else {
                break;
            };
            let len = write(&mut room);
            // It fits: a chunk is longer than the longest frame.
            let _ = self.umem.write(&mut frame, &room[..len]);
            self.queued.push(frame);
        }
        let taken = self.queued.len();
        socket.send(&mut self.queued);
        // There was room for all of them; none stays behind.
        self.pool.append(&mut self.queued);
        self.flush()?;
        Ok(taken)
    }

    /// Has the kernel send what it has not sent yet. True once every frame was sent and has come back.
    ///
    /// # Errors
    /// That the link is down or the kernel refuses.
    pub fn flush(&mut self) -> Result<bool, PortError> {
        let Some(socket) = self.sockets.first_mut() else {
            return Ok(true);
        };
        for _ in 0..KICKS {
            if socket.tx_pending() == 0 || !socket.tx_needs_wakeup() {
                break;
            }
            match socket.wake_tx() {
                Ok(()) | Err(WakeError::Again) => {}
                Err(WakeError::Down) => {
                    let nic = self.name.clone();
                    return Err(PortError::Down { nic });
                }
                Err(WakeError::Os(source)) => {
                    let nic = self.name.clone();
                    return Err(PortError::Send { nic, source });
                }
            }
        }
        socket.complete(&mut self.pool);
        Ok(socket.in_flight() == 0)
    }

    /// Hands each received frame to `take`, a burst of each queue at most; says how many there were.
    pub fn receive(&mut self, mut take: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        for socket in &mut self.sockets {
            count += socket.receive(BURST, &mut self.received);
            for frame in &self.received {
                take(self.umem.bytes(frame));
            }
            self.pool.append(&mut self.received);
        }
        self.refill();
        count
    }

    /// Sleeps until a frame comes, `limit` at most.
    pub fn wait(&self, limit: Duration) {
        let fds: Vec<_> = self.sockets.iter().map(AsFd::as_fd).collect();
        if af_xdp::wait(&fds, limit).is_err() {
            std::thread::sleep(limit);
        }
    }

    /// What the kernel lost of what the device sent, because we were too slow, since the port was opened.
    pub fn lost(&self) -> u64 {
        let of = |all: Statistics| all.rx_dropped + all.rx_ring_full;
        let all = self.sockets.iter();
        all.filter_map(|socket| socket.statistics().ok())
            .map(of)
            .sum()
    }

    fn refill(&mut self) {
        for socket in &mut self.sockets {
            let level = socket.fill_level();
            if level + BURST as u32 <= RING {
                socket.fill(&mut self.pool, (RING - level) as usize);
            }
            if socket.fill_needs_wakeup() {
                // A link that is down is told of where something is sent.
                let _ = socket.wake_rx();
            }
        }
    }
}

/// The program on the NIC, and whether it runs in the driver.
fn attached(nic: &Nic, hears: Hears) -> Result<(Ebpf, FdLink, bool), PortError> {
    let mut ebpf = load(nic)?;
    let mut peer = [0; 8];
    match hears {
        Hears::From(mac) => peer[..6].copy_from_slice(&mac),
        Hears::All | Hears::Nothing => peer[6] = 1,
    }
    set_peer(&mut ebpf, nic, peer)?;
    let (link, driver) = attach(&mut ebpf, nic)?;
    Ok((ebpf, link, driver))
}

fn load(nic: &Nic) -> Result<Ebpf, PortError> {
    EbpfLoader::new().load(OBJECT).map_err(|e| refused(nic, &e))
}

fn set_peer(ebpf: &mut Ebpf, nic: &Nic, peer: [u8; 8]) -> Result<(), PortError> {
    let what = "cannot name the other port";
    let map = ebpf.map_mut("peer");
    let map = map.ok_or_else(|| program_error(nic, what, "no such map".into()))?;
    let mut map: Array<&mut MapData, [u8; 8]> =
        Array::try_from(map).map_err(|e| program_error(nic, what, chain(&e)))?;
    map.set(0, peer, 0)
        .map_err(|e| program_error(nic, what, chain(&e)))
}

/// In the driver, or in the network stack where the driver has no XDP.
fn attach(ebpf: &mut Ebpf, nic: &Nic) -> Result<(FdLink, bool), PortError> {
    let what = "cannot attach its program";
    let program: &mut Xdp = ebpf
        .program_mut("port")
        .ok_or_else(|| program_error(nic, what, "no such program".into()))?
        .try_into()
        .map_err(|e: ProgramError| program_error(nic, what, chain(&e)))?;
    program.load().map_err(|e| refused(nic, &e))?;
    let attached = match program.attach_to_if_index(nic.index, XdpMode::Driver) {
        Ok(id) => Ok((id, true)),
        Err(e) if taken(&e) => Err(e),
        Err(_) => {
            let id = program.attach_to_if_index(nic.index, XdpMode::Skb);
            id.map(|id| (id, false))
        }
    };
    let (id, driver) = attached.map_err(|e| match taken(&e) {
        true => PortError::Taken {
            nic: nic.name.clone(),
        },
        false => refused(nic, &e),
    })?;
    let link = program
        .take_link(id)
        .map_err(|e| program_error(nic, what, chain(&e)))?;
    // An attachment without a link of its own would outlive the process.
    let old = "this kernel has no XDP links (Linux 5.9 or later is needed)";
    let link = link
        .try_into()
        .map_err(|e| program_error(nic, old, chain(&e)))?;
    Ok((link, driver))
}

fn taken(e: &(dyn std::error::Error + 'static)) -> bool {
    // EBUSY and EEXIST.
    matches!(code(e), Some(16 | 17))
}

fn bind(nic: &Nic, queues: u32, umem: &Umem, wanted: Wanted) -> Result<Vec<Socket>, PortError> {
    let modes: &[Mode] = match wanted {
        Wanted::Auto => &[Mode::ZeroCopy, Mode::Copy],
        Wanted::Copy => &[Mode::Copy],
        Wanted::ZeroCopy => &[Mode::ZeroCopy],
    };
    let mut sockets: Vec<Socket> = Vec::new();
    for queue in 0..queues {
        let mut bound = Err(BindError::Kernel);
        for mode in modes {
            let config = SocketConfig {
                ifindex: nic.index,
                queue,
                mode: *mode,
                rings: RingSizes {
                    fill: RING,
                    completion: RING,
                    rx: RING,
                    tx: RING,
                },
                need_wakeup: true,
                busy_poll: None,
                tx_budget: Some(TX_BUDGET),
            };
            bound = Socket::bind(umem, &config, sockets.first());
            if !matches!(bound, Err(BindError::NotSupported { .. })) {
                break;
            }
        }
        sockets.push(bound.map_err(|source| PortError::Bind {
            nic: nic.name.clone(),
            hint: match &source {
                BindError::Busy { .. } => "; stop the gate or the AF_XDP program that runs on it",
                BindError::NotSupported { .. } => "; say --mode auto",
                _ => "",
            },
            source,
        })?);
    }
    Ok(sockets)
}

fn enter(ebpf: &mut Ebpf, nic: &Nic, sockets: &[Socket]) -> Result<(), PortError> {
    let what = "cannot enter its sockets in the map";
    let map = ebpf.map_mut("xsks");
    let map = map.ok_or_else(|| program_error(nic, what, "no such map".into()))?;
    let mut map: XskMap<&mut MapData> =
        XskMap::try_from(map).map_err(|e| program_error(nic, what, chain(&e)))?;
    for socket in sockets {
        map.set(socket.queue(), socket.as_fd().as_raw_fd(), 0)
            .map_err(|e| program_error(nic, what, chain(&e)))?;
    }
    Ok(())
}

fn program_error(nic: &Nic, what: &'static str, why: String) -> PortError {
    PortError::Program {
        nic: nic.name.clone(),
        what,
        why,
    }
}

fn refused(nic: &Nic, e: &(dyn std::error::Error + 'static)) -> PortError {
    // EPERM and EACCES.
    match code(e) {
        Some(1 | 13) => PortError::Privilege,
        _ => program_error(nic, "the kernel refuses its program", chain(e)),
    }
}

fn code(e: &(dyn std::error::Error + 'static)) -> Option<i32> {
    std::iter::successors(Some(e), |e| e.source())
        .find_map(|e| e.downcast_ref::<std::io::Error>()?.raw_os_error())
}

/// An error and what is behind it, on one line.
fn chain(e: &(dyn std::error::Error + 'static)) -> String {
    let parts = std::iter::successors(Some(e), |e| e.source()).map(ToString::to_string);
    parts.collect::<Vec<_>>().join(": ").replace('\n', " ")
}
