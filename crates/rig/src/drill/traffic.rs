//! Two streams of numbered datagrams from the LAN through the gate.

use crate::{Error, Namespace, Result, Rig, addr};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{setsockopt, sockopt::RcvBufForce};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The port that the drill's policy allows.
pub const ALLOWED: u16 = 7777;
/// TFTP, which the built-in rules forbid.
const FORBIDDEN: u16 = 69;
/// Every so often a group of datagrams is sent.
const TICK: Duration = Duration::from_millis(1);
/// What is in a group, by stream.
const GROUP: [u32; 2] = [4, 1];

/// Bytes for datagrams that were not read yet.
const RECEIVE_BUFFER: usize = 8 << 20;

/// The times of one stream's datagrams, by number.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    sent: Vec<Instant>,
    got: Vec<Option<Instant>>,
}

impl Stream {
    /// When each was sent, and when it arrived, if it did.
    pub fn frames(&self) -> impl Iterator<Item = (Instant, Option<Instant>)> + Clone + '_ {
        let got = self.got.iter().copied().chain(std::iter::repeat(None));
        self.sent.iter().copied().zip(got)
    }
}

/// A run's streams; numbers of other runs are nobody's.
#[derive(Debug, Default)]
struct Run {
    /// In the upper half of every number.
    id: u32,
    streams: [Stream; 2],
}

#[derive(Debug, Default)]
struct Shared {
    run: Mutex<Run>,
    sending: AtomicBool,
    stop: AtomicBool,
}

impl Shared {
    fn run(&self) -> MutexGuard<'_, Run> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sender and the receivers, until it is dropped.
#[derive(Debug)]
pub struct Traffic {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts the threads, which send nothing yet.
    pub fn start(rig: &Rig) -> Result<Traffic> {
        let mut traffic = Traffic {
            shared: Arc::default(),
            threads: Vec::new(),
        };
        for (stream, port) in [ALLOWED, FORBIDDEN].into_iter().enumerate() {
            let socket = socket(&rig.uplink, (addr::SERVER, port))?;
            socket
                .set_read_timeout(Some(Duration::from_millis(50)))
                .map_err(Error::io("setting a time limit on a socket"))?;
            // What waited in the gate comes at once.
            setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER)
                .map_err(|e| Error::io("giving a socket room")(e.into()))?;
            let shared = Arc::clone(&traffic.shared);
            traffic.thread(move || receive(&shared, stream, &socket))?;
        }
        let senders = [
            socket(&rig.lan, (addr::HOST, 0))?,
            socket(&rig.lan, (addr::HOST, 0))?,
        ];
        let shared = Arc::clone(&traffic.shared);
        traffic.thread(move || send(&shared, &senders))?;
        Ok(traffic)
    }

    fn thread(&mut self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        let thread = std::thread::Builder::new().spawn(work);
        self.threads
            .push(thread.map_err(Error::io("starting a thread"))?);
        Ok(())
    }

    /// Sends from now on, under new numbers.
    pub fn begin(&self) {
        let mut run = self.shared.run();
        *run = Run {
            id: run.id.wrapping_add(1),
            ..Run::default()
        };
        self.shared.sending.store(true, Relaxed);
    }

    /// When the last datagram of each stream arrived.
    pub fn last_received(&self) -> [Option<Instant>; 2] {
        let run = self.shared.run();
        [0, 1].map(|stream: usize| run.streams[stream].got.iter().rev().find_map(|got| *got))
    }

    /// Sends no more, and gives the times: allowed, forbidden.
    pub fn end(&self) -> [Stream; 2] {
        self.shared.sending.store(false, Relaxed);
        // What is under way arrives.
        std::thread::sleep(Duration::from_millis(20));
        self.shared.run().streams.clone()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A socket of `namespace`: it stays in the one that it was made in.
fn socket(namespace: &Namespace, address: (&str, u16)) -> Result<UdpSocket> {
    let path = namespace.path();
    let bound = std::thread::scope(|scope| {
        let made = scope.spawn(|| {
            let file = std::fs::File::open(&path)?;
            setns(file, CloneFlags::CLONE_NEWNET)?;
            UdpSocket::bind(address)
        });
        made.join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread ended")))
    });
    bound.map_err(Error::io(format!(
        "binding a socket to {}:{}",
        address.0, address.1
    )))
}

fn send(shared: &Shared, sockets: &[UdpSocket; 2]) {
    let mut next = Instant::now();
    while !shared.stop.load(Relaxed) {
        next += TICK;
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        if !shared.sending.load(Relaxed) {
            next = Instant::now();
            continue;
        }
        for (stream, port) in [ALLOWED, FORBIDDEN].into_iter().enumerate() {
            for _ in 0..GROUP[stream] {
                let number = {
                    let mut run = shared.run();
                    let id = u64::from(run.id) << 32;
                    let sent = &mut run.streams[stream].sent;
                    sent.push(Instant::now());
                    id | (sent.len() - 1) as u64
                };
                // One that finds no room is a datagram that does not arrive.
                let _ = sockets[stream].send_to(&number.to_be_bytes(), (addr::SERVER, port));
            }
        }
    }
}

fn receive(shared: &Shared, stream: usize, socket: &UdpSocket) {
    let mut bytes = [0; 8];
    while !shared.stop.load(Relaxed) {
        let Ok(8) = socket.recv(&mut bytes) else {
            continue;
        };
        let (now, number) = (Instant::now(), u64::from_be_bytes(bytes));
        let mut run = shared.run();
        let at = (number & u64::from(u32::MAX)) as usize;
        if u64::from(run.id) != number >> 32 || at >= run.streams[stream].sent.len() {
            continue;
        }
        let got = &mut run.streams[stream].got;
        if got.len() <= at {
            got.resize(at + 1, None);
        }
        got[at] = Some(now);
    }
}
