//! A planned stop hands the sockets and the memory of the packets to the next process, by way of the service manager, so that no frame is lost between the two.
//!
//! ```text
//!  the old process            the service manager         the next one
//!  workers come to rest
//!  ledger written   ──────►   memory, sockets, ledger
//!  (frames wait in the rings, which are the kernel's)
//!  ends             ──────►   starts ──────────────────►  has them, and the manager does not any more
//!                                                         ledger looked at; it fits: taken over, workers turn
//!                                                         it does not: closed, bound anew, as at any start
//! ```
//!
//! Nothing is with the manager while a process filters: one that dies takes its sockets with it.

mod give;
mod ledger;

pub use give::Giver;
pub use ledger::{Layout, Ledger, Port};

use crate::os::notify::{self, Manager};
use crate::port::gate::QUEUES;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::os::fd::OwnedFd;
use std::time::Duration;

/// What waits in the rings for longer is of no use to anybody, and is not taken over.
const EXPIRES: Duration = Duration::from_secs(30);

const LEDGER: &str = "portcullis-ledger";
const MEMORY: &str = "portcullis-memory";

/// What a socket is called there.
fn socket_name(side: &str, queue: usize) -> String {
    format!("portcullis-{side}-{queue}")
}

/// Every name that something can have been left under.
fn all_names() -> impl Iterator<Item = String> {
    let queues = 0..QUEUES;
    let sockets = queues.flat_map(|queue| ["lan", "uplink"].map(|side| socket_name(side, queue)));
    [LEDGER, MEMORY]
        .map(String::from)
        .into_iter()
        .chain(sockets)
}

/// What an earlier process has left.
#[derive(Debug)]
pub struct Left(Vec<(String, OwnedFd)>);

impl Left {
    /// Takes it from the manager, which is the first thing that a process does: from here on all of it ends with this process.
    pub fn take() -> Left {
        let mut names = Vec::new();
        let kept = notify::kept().unwrap_or_else(|e| {
            eprintln!("portcullis: warning: LISTEN_FDS: {e}; what was kept is closed");
            // What there is under our names is not to be passed to the next process too.
            names = all_names().collect();
            Vec::new()
        });
        names.extend(kept.iter().map(|(name, _)| name.clone()));
        if let (Some(manager), false) = (Manager::here(), names.is_empty())
            && let Err(e) = manager.forget(names.iter().map(String::as_str))
        {
            eprintln!(
                "portcullis: warning: the service manager does not let go of what it kept ({e}): if this process dies, the watchdog alone ends the hand-over"
            );
        }
        Left(kept)
    }

    /// There is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What is called so.
    ///
    /// # Errors
    /// That there is not exactly one.
    fn pick(&mut self, name: &str) -> Result<OwnedFd, String> {
        let named = |(kept, _): &(String, OwnedFd)| kept == name;
        let at = self.0.iter().position(named);
        let at = at.ok_or_else(|| format!("there is no {name}"))?;
        let (_, fd) = self.0.swap_remove(at);
        match self.0.iter().any(named) {
            true => Err(format!("there are two of {name}")),
            false => Ok(fd),
        }
    }

    /// The ledger.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn ledger(&mut self) -> Result<Ledger, String> {
        ledger::read(self.pick(LEDGER)?)
    }

    /// The memory of the packets.
    ///
    /// # Errors
    /// That there is none.
    pub fn memory(&mut self) -> Result<OwnedFd, String> {
        self.pick(MEMORY)
    }

    /// The socket of a queue.
    ///
    /// # Errors
    /// That there is none.
    pub fn socket(&mut self, side: &str, queue: usize) -> Result<OwnedFd, String> {
        self.pick(&socket_name(side, queue))
    }

    /// Sees that nothing is left.
    ///
    /// # Errors
    /// What is.
    pub fn finish(self) -> Result<(), String> {
        match self.0.first() {
            None => Ok(()),
            Some((name, _)) => Err(format!("{name} is one too many")),
        }
    }
}

/// What was taken over, in `status`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TakenOver {
    /// From when the workers of the process before had ended until those of this one turned, microseconds.
    pub gap_us: u64,
    /// Frames that waited in the receive rings, by side.
    pub waiting: [u64; 2],
    /// Frames that the process before had sent and not got back, by side on which they leave. Their completions are not counted again.
    pub in_flight: [u64; 2],
    /// Frames that the processes before have received since the sockets were bound, by side.
    pub received_before: [u64; 2],
    /// Chunks that were in hand.
    pub chunks: u64,
    /// The fail mode ruled for a part of the gap: it was longer than the gate waits (`[bridge] handover`).
    pub late: bool,
    /// When the workers had ended, nanoseconds of `CLOCK_MONOTONIC`.
    #[serde(skip)]
    pub left: u64,
    /// How long the gate waits from then on, nanoseconds.
    #[serde(skip)]
    pub patience: u64,
}

impl TakenOver {
    /// The workers turn, at `now` of `CLOCK_MONOTONIC`.
    pub fn ended(self, now: u64) -> TakenOver {
        let gap = now.saturating_sub(self.left);
        TakenOver {
            gap_us: gap / 1000,
            late: gap > self.patience,
            ..self
        }
    }
}

impl std::fmt::Display for TakenOver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "sockets and packet memory are those of the process before: nobody filtered for {} ms, and {} frames waited",
            self.gap_us / 1000,
            self.waiting.iter().sum::<u64>()
        )?;
        match self.late {
            true => f.write_str("; that was longer than `[bridge] handover`, so that `on_failure` ruled at the end of it, and frames were lost or passed unfiltered: give it more time"),
            false => Ok(()),
        }
    }
}

/// `CLOCK_MONOTONIC`, nanoseconds.
pub fn monotonic() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
    })
}
