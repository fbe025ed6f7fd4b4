//! The floor: descriptors moved from one AF_XDP socket to the other, and nothing looked at. What is under it is the kernel's.

use super::Middle;
use crate::Failure;
use crate::netns::{self, Lab};
use af_xdp::{Frame, Mode, RingSizes, Socket, SocketConfig, Umem, UmemConfig};
use aya::Ebpf;
use aya::maps::XskMap;
use aya::programs::{Xdp, XdpMode};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;

/// `floor.bpf.c`, compiled; see `bpf/build.sh`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/floor.bpf.o");

// The same as the gate's defaults, so that the difference is what the gate does.
const RING: u32 = 2048;
const FRAMES: u32 = 16_384;
const CHUNK: u32 = 4096;
const BURST: usize = 64;
const TX_BUDGET: u32 = 256;
const FILL_TARGET: u32 = RING / 2;
/// A wake-up that the kernel answers with "try again" is repeated this often.
const KICKS: u32 = 8;

/// What the loop does with frames.
#[derive(Clone, Copy, Debug)]
pub struct Does {
    /// Reads the addresses and the ethertype of each, once all of a burst were asked for, and does nothing with them.
    pub reads: bool,
    /// Puts chunks back into the fill ring and sends nothing.
    pub swallows: bool,
}

/// The loop, on a thread of its own; ends when this is dropped.
pub struct Floor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    _programs: [Ebpf; 2],
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    received: AtomicU64,
    thread: AtomicI32,
}

impl Floor {
    /// Starts the loop in the middle of the lab.
    pub fn start(lab: &Lab, does: Does, core: usize) -> Result<Floor, Failure> {
        let lan = lab.index(&lab.mid, &lab.lan_port)?;
        let uplink = lab.index(&lab.mid, &lab.uplink_port)?;
        let prepared =
            netns::within(&lab.mid, || prepare(lan, uplink).map_err(|e| e.to_string()))??;
        let (umem, sockets, pool, programs) = prepared;
        let shared = Arc::new(Shared::default());
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("floor".into())
            .spawn(move || {
                // Not pinned is seen in the figures; there is nobody to tell it to here.
                let _ = netns::pin(0, core);
                seen.thread.store(nix::unistd::gettid().as_raw(), Relaxed);
                work(&umem, sockets, pool, does, &seen);
            })?;
        while shared.thread.load(Relaxed) == 0 {
            std::thread::yield_now();
        }
        Ok(Floor {
            shared,
            thread: Some(thread),
            _programs: programs,
        })
    }
}

impl Middle for Floor {
    fn threads(&self) -> Vec<i32> {
        vec![self.shared.thread.load(Relaxed)]
    }

    fn received(&mut self) -> Result<u64, Failure> {
        Ok(self.shared.received.load(Relaxed))
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

type Prepared = (Umem, [Socket; 2], Vec<Frame>, [Ebpf; 2]);

fn prepare(lan: u32, uplink: u32) -> Result<Prepared, Failure> {
    let (umem, pool) = Umem::new(&UmemConfig {
        frames: FRAMES,
        chunk: CHUNK,
        headroom: 0,
        huge_pages: true,
    })?;
    let config = |ifindex| SocketConfig {
        ifindex,
        queue: 0,
        mode: Mode::Copy,
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
    let first = Socket::bind(&umem, &config(lan), None)?;
    let second = Socket::bind(&umem, &config(uplink), Some(&first))?;
    let programs = [attach(lan, &first)?, attach(uplink, &second)?];
    Ok((umem, [first, second], pool, programs))
}

fn attach(index: u32, socket: &Socket) -> Result<Ebpf, Failure> {
    use std::os::fd::AsFd;
    let mut ebpf = Ebpf::load(OBJECT)?;
    let mut sockets = XskMap::try_from(ebpf.map_mut("xsks").ok_or("no map xsks")?)?;
    sockets.set(0, socket.as_fd().as_raw_fd(), 0)?;
    let program: &mut Xdp = ebpf
        .program_mut("to_socket")
        .ok_or("no program to_socket")?
        .try_into()?;
    program.load()?;
    program.attach_to_if_index(index, XdpMode::Driver)?;
    Ok(ebpf)
}

fn work(umem: &Umem, mut sockets: [Socket; 2], mut pool: Vec<Frame>, does: Does, shared: &Shared) {
    let mut burst = Vec::with_capacity(BURST);
    while !shared.stop.load(Relaxed) {
        let [lan, uplink] = &mut sockets;
        let received = pass(umem, [lan, uplink], &mut pool, &mut burst, does)
            + pass(umem, [uplink, lan], &mut pool, &mut burst, does);
        if received > 0 {
            let before = shared.received.load(Relaxed);
            shared.received.store(before + received as u64, Relaxed);
        }
    }
}

/// One burst from one socket to the other.
fn pass(
    umem: &Umem,
    [from, to]: [&mut Socket; 2],
    pool: &mut Vec<Frame>,
    burst: &mut Vec<Frame>,
    does: Does,
) -> usize {
    to.complete(pool);
    let level = from.fill_level();
    if level + BURST as u32 <= FILL_TARGET {
        from.fill(pool, (FILL_TARGET - level) as usize);
    }
    let received = from.receive(BURST, burst);
    if does.reads {
        burst.iter().for_each(|frame| umem.prefetch_head(frame));
        for frame in burst.iter() {
            std::hint::black_box(umem.bytes(frame).first_chunk::<16>().copied());
        }
    }
    if !does.swallows && received > 0 && to.send(burst) < received {
        kick(to);
        to.send(burst);
    }
    kick(to);
    pool.append(burst);
    received
}

fn kick(to: &mut Socket) {
    for _ in 0..KICKS {
        if to.tx_pending() == 0 || !to.tx_needs_wakeup() {
            return;
        }
        // Whatever it says: a link cannot go down here, and what waits is sent with the next burst.
        let _ = to.wake_tx();
    }
}
