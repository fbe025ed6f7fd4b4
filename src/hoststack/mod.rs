//! The box's own TCP/IP: smoltcp, on a thread beside the control thread, reached from the workers by bounded rings.
//!
//! ```text
//! worker ─► rings ─┬─ decoy ─► hall ─► talk: a stack under the destination's address, a persona behind it ─► reports ─► control: alerts
//!                  └─ own ───► inband: ARP, neighbour discovery, ping; connections ─► pipe ─► control: the page, /metrics, /healthz
//! worker ◄─ rings ◄──────────── frames of both
//! ```
//!
//! The workers decide what gets here (`worker::own`, rules with `action = "decoy"`) and how much of it (`worker::host`). Nothing here is waited for by a worker, and nothing has more
//! room than was given to it at the start.

pub mod decoy;
pub mod inband;
mod link;
mod paths;
pub mod rings;
mod wire;

use crate::policy::Side;
use crossbeam::channel::{Receiver, Sender, TrySendError, bounded};
use decoy::{Hall, Report, Tally};
use inband::Inband;
use rings::{Lane, StackEnd};
use smoltcp::time::Instant;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::Duration;

/// Frames that each way between a worker and the stack holds.
pub const ROOM: usize = 256;
/// Frames of one worker that are taken before time-outs are looked at again.
pub const BUDGET: usize = ROOM;
/// How long nothing is looked at: while somebody is talked to, while there is an address, and while there is neither.
const BUSY: Duration = Duration::from_millis(1);
const IDLE: Duration = Duration::from_millis(5);
const QUIET: Duration = Duration::from_millis(10);
/// After the last frame it is busy for so long, looks of [`BUSY`].
const AWAKE: u32 = 50;
/// Reports that wait for the control thread.
const REPORTS: usize = 1024;

/// What runs on the thread.
pub struct Stack {
    ends: Vec<StackEnd>,
    hall: Hall,
    inband: Option<Inband>,
    reports: Sender<Report>,
    tally: Arc<Tally>,
    /// The end that has given something last: its worker does not sleep, and sends what time-outs have to say.
    last: usize,
}

impl Stack {
    /// Over the ends of all workers; reports come out of the other end of the channel.
    pub fn new(
        ends: Vec<StackEnd>,
        hall: Hall,
        inband: Option<Inband>,
    ) -> (Stack, Receiver<Report>) {
        let (reports, receiver) = bounded(REPORTS);
        let tally = hall.tally();
        let stack = Stack {
            ends,
            hall,
            inband,
            reports,
            tally,
            last: 0,
        };
        (stack, receiver)
    }

    /// Takes what the workers have, and does what is due. Says whether anything came.
    pub fn turn(&mut self, now: Instant) -> bool {
        let Stack {
            ends,
            hall,
            inband,
            last,
            ..
        } = self;
        let mut came = false;
        for (at, end) in ends.iter().enumerate() {
            for _ in 0..BUDGET {
                let Some(parcel) = end.take() else { break };
                (came, *last) = (true, at);
                match (parcel.lane, inband.as_mut()) {
                    (Lane::Decoy(..), _) => {
                        hall.take(&parcel, now, |frame| {
                            end.send(frame, parcel.lane, Side::Lan)
                        });
                    }
                    (Lane::Own, Some(inband)) => {
                        let room = (now, end.room());
                        inband.take(parcel.bytes(), parcel.side, room, |frame, side| {
                            end.send(frame, Lane::Own, side)
                        });
                    }
                    (Lane::Own, None) => {}
                }
                end.give_back(parcel);
            }
        }
        // Any worker sends to either side.
        if let Some(end) = ends.get(*last) {
            let lane = Lane::Own;
            hall.tick(now, |frame| end.send(frame, lane, Side::Lan));
            if let Some(inband) = inband {
                inband.turn((now, end.room()), |frame, side| end.send(frame, lane, side));
            }
        }
        let full = hall.is_full();
        ends.iter().for_each(|end| end.set_full(full));
        self.report();
        came
    }

    fn report(&mut self) {
        for report in self.hall.reports() {
            match self.reports.try_send(report) {
                Ok(()) => {}
                Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                    self.tally.unreported.add(1);
                }
            }
        }
    }

    /// How long to wait for the next turn, the last frame having come so many looks ago.
    fn pause(&self, looks: u32) -> Duration {
        let talked_to = looks < AWAKE || !self.hall.is_empty();
        let busy = self.inband.as_ref().is_some_and(Inband::is_busy);
        match (talked_to || busy, &self.inband) {
            (true, _) => BUSY,
            (false, Some(_)) => IDLE,
            (false, None) => QUIET,
        }
    }

    /// Starts the thread, which gives up what it has no need of by `confine` before it sees a frame; where that fails it says so and ends, and what is for it is dropped when its rings are full.
    ///
    /// # Errors
    /// That there is none to be had.
    pub fn start<E: std::fmt::Display>(
        mut self,
        confine: impl FnOnce() -> Result<(), E> + Send + 'static,
    ) -> std::io::Result<Thread> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let run = move || {
            if let Err(e) = confine() {
                eprintln!("portcullis: warning: the box's own stack does not run: {e}");
                return;
            }
            let start = std::time::Instant::now();
            let now = || Instant::from_micros(start.elapsed().as_micros() as i64);
            let mut looks = AWAKE;
            while !stopped.load(Relaxed) {
                let came = self.turn(now());
                looks = if came { 0 } else { looks.saturating_add(1) };
                std::thread::sleep(self.pause(looks));
            }
            self.hall.end(now());
            self.report();
        };
        let thread = std::thread::Builder::new()
            .name("hoststack".into())
            .spawn(run)?;
        Ok(Thread {
            stop,
            thread: Some(thread),
        })
    }
}

/// The thread; ends when it is dropped.
pub struct Thread {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // It looks at least every few milliseconds.
            let _ = thread.join();
        }
    }
}
