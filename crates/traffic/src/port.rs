//! A NIC of the tester: an AF_XDP socket on each of its queues, and the program that gives them the frames of the other port.

use crate::frames::ROOM;
use crate::program::Program;
use af_xdp::{
    BindError, Frame, Mode, RingSizes, Socket, SocketConfig, Statistics, Umem, UmemConfig,
    UmemError, WakeError,
};
use std::os::fd::AsFd;
use std::time::Duration;

/// Entries of a ring, of all queues together; and of one at the least and at the most. What the device sends has to wait here while the receiving thread is
/// kept away.
const RINGS: u32 = 16_384;
const RING: std::ops::RangeInclusive<u32> = 512..=4096;
/// Room for both receiving rings and the sending ones.
const FRAMES: u32 = 3;
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
    ring: u32,
    program: Option<Program>,
}

impl Port {
    /// Opens a NIC of the calling thread's network namespace; the port may then go to any thread.
    ///
    /// # Errors
    /// [`PortError`]; the NIC is then as it was.
    pub fn open(nic: &Nic, hears: Hears, wanted: Wanted) -> Result<Port, PortError> {
        let queues = nic.queues.max(1);
        let ring = ring(queues);
        let (umem, pool) = Umem::new(&UmemConfig {
            frames: FRAMES * ring * queues,
            chunk: CHUNK,
            headroom: 0,
            huge_pages: true,
        })?;
        // Before the sockets: a NIC that is somebody else's is then not touched at all.
        let mut program = match hears {
            Hears::Nothing => None,
            _ => Some(Program::attach(nic, hears)?),
        };
        let sockets = bind(nic, (queues, ring), &umem, wanted)?;
        if let Some(program) = &mut program {
            program.enter(nic, &sockets)?;
        }
        let mut port = Port {
            name: nic.name.clone(),
            umem,
            pool,
            queued: Vec::with_capacity(BURST),
            received: Vec::with_capacity(BURST),
            sockets,
            ring,
            program,
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
            self.program.as_ref().is_none_or(|program| program.driver),
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
        let free = self.ring.saturating_sub(socket.tx_pending()) as usize;
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
            if level + BURST as u32 <= self.ring {
                socket.fill(&mut self.pool, (self.ring - level) as usize);
            }
            if socket.fill_needs_wakeup() {
                // A link that is down is told of where something is sent.
                let _ = socket.wake_rx();
            }
        }
    }
}

/// Entries of each ring, by how many queues there are: memory is for all of them.
fn ring(queues: u32) -> u32 {
    let each = RINGS / queues.next_power_of_two();
    each.clamp(*RING.start(), *RING.end())
}

fn bind(
    nic: &Nic,
    (queues, ring): (u32, u32),
    umem: &Umem,
    wanted: Wanted,
) -> Result<Vec<Socket>, PortError> {
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
                    fill: ring,
                    completion: ring,
                    rx: ring,
                    tx: ring,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_powers_of_two_that_get_shorter_as_queues_get_many() {
        assert_eq!(
            [1, 4, 5, 8, 63, 256].map(ring),
            [4096, 4096, 2048, 2048, 512, 512]
        );
        assert!((1..=256).all(|queues| ring(queues).is_power_of_two()));
    }
}
