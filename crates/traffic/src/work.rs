//! What one thread of the tester does in a trial: sends what is due, takes what has come, until nothing more is to be expected.

use crate::failure::Failure;
use crate::load::Source;
use crate::pace::{Pacer, Rate};
use crate::port::{BURST, Port};
use crate::tally::Tally;
use nix::time::{ClockId, clock_gettime};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Before the first frame of a trial, for both threads to be there.
pub(crate) const BEFORE: u64 = 2_000_000;
/// Duplicates of the last frames are waited for so long once all frames have come.
const AFTER: u64 = 10_000_000;
/// A NIC that has not sent what it was given after so long does not send.
const STUCK: u64 = 5_000_000_000;
/// Who has nothing to do for longer than this sleeps, and wakes so much earlier.
const SLEEPS: u64 = 120_000;
/// The longest sleep: whoever asks to stop is heard after it.
const NAP: u64 = 1_000_000;

/// How much is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// For so long.
    Time(Duration),
    /// So many frames in each direction.
    Frames(u64),
}

impl Amount {
    /// The most frames, and the time after which it ends, nanoseconds.
    fn limits(self, rate: Rate) -> (u64, u64) {
        match (self, rate) {
            (Amount::Frames(count), _) => (count, u64::MAX),
            (Amount::Time(time), Rate::Max) => (u64::MAX, time.as_nanos() as u64),
            (Amount::Time(time), Rate::Fixed(rate)) => {
                let count = ((rate * time.as_secs_f64()) as u64).max(2);
                // A sender that cannot keep up ends all the same.
                (count, (time.as_nanos() as u64).saturating_mul(2))
            }
        }
    }
}

/// How the threads run.
#[derive(Clone, Debug)]
pub struct Manner {
    /// Cores of the LAN port's and of the uplink port's thread.
    pub cores: [Option<usize>; 2],
    /// Never sleep: latencies without wake-ups in them, for two cores.
    pub spin: bool,
    /// How long stragglers are waited for (RFC 2544 section 23: 2 s).
    pub settle: Duration,
    /// Set when the test shall end.
    pub stop: Arc<AtomicBool>,
}

/// What a port sends in a trial.
pub(crate) struct Job<'a> {
    pub(crate) source: Source<'a>,
    pub(crate) rate: Rate,
    pub(crate) amount: Amount,
}

/// What the threads know of each other.
pub(crate) struct Shared<'a> {
    stop: &'a AtomicBool,
    /// Senders that are not done.
    sending: AtomicU32,
    /// By the port that sends: frames that should arrive.
    sent: [AtomicU64; 2],
    /// By the port that sends: those that have.
    arrived: [AtomicU64; 2],
}

impl<'a> Shared<'a> {
    /// For a trial with so many senders.
    pub(crate) fn new(stop: &'a AtomicBool, senders: u32) -> Shared<'a> {
        Shared {
            stop,
            sending: AtomicU32::new(senders),
            sent: Default::default(),
            arrived: Default::default(),
        }
    }
}

/// What one thread did.
pub(crate) struct Side<'a> {
    pub(crate) source: Option<Source<'a>>,
    pub(crate) tally: Tally,
    /// From the first frame sent to the last.
    pub(crate) took: u64,
}

/// Nanoseconds of `CLOCK_MONOTONIC`.
pub fn clock() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
    })
}

/// What one thread has to do.
pub(crate) struct Work<'p, 'a> {
    /// 0 at the LAN port, 1 at the uplink port.
    pub(crate) at: usize,
    pub(crate) port: &'p mut Port,
    pub(crate) job: Option<Job<'a>>,
    pub(crate) tally: Tally,
    pub(crate) start: u64,
    pub(crate) core: Option<usize>,
    pub(crate) spin: bool,
    pub(crate) settle: u64,
}

impl<'a> Work<'_, 'a> {
    /// From the first frame to the last straggler.
    pub(crate) fn run(self, shared: &Shared<'_>) -> Result<Side<'a>, Failure> {
        let stop = shared.stop;
        let done = self.turn(shared);
        if done.is_err() {
            // The other thread waits for nothing any more.
            stop.store(true, Relaxed);
        }
        done
    }

    fn turn(self, shared: &Shared<'_>) -> Result<Side<'a>, Failure> {
        let Work {
            at,
            port,
            mut job,
            mut tally,
            start,
            core,
            spin,
            settle,
        } = self;
        if let Some(id) = core {
            core_affinity::set_for_current(core_affinity::CoreId { id });
        }
        let from = 1 - at;
        let mut sender = job.as_ref().map(|job| Sender::new(job, start));
        let (mut took, mut last_done) = (0, None);
        loop {
            if shared.stop.load(Relaxed) {
                return Err(Failure::Stopped);
            }
            let now = clock();
            let mut busy = false;
            if let (Some(state), Some(job)) = (&mut sender, &mut job) {
                busy = state.step(port, &mut job.source, now)?;
                if state.done {
                    took = state.last.saturating_sub(start);
                    shared.sent[at].store(job.source.counted, Relaxed);
                    shared.sending.fetch_sub(1, Relaxed);
                }
            }
            if sender.as_ref().is_some_and(|state| state.done) {
                sender = None;
            }
            let mut arrived = None;
            let count = port.receive(|frame| tally.take(frame, *arrived.get_or_insert_with(clock)));
            if count > 0 {
                shared.arrived[from].store(tally.counted.received + tally.opened, Relaxed);
                busy = true;
            }
            if shared.sending.load(Relaxed) == 0 {
                let since = *last_done.get_or_insert(now);
                let all = [0, 1].into_iter().all(|port: usize| {
                    shared.arrived[port].load(Relaxed) >= shared.sent[port].load(Relaxed)
                });
                let patience = if all { AFTER.min(settle) } else { settle };
                if now.saturating_sub(since) >= patience {
                    break;
                }
            }
            if !busy && !spin {
                let gap = sender
                    .as_ref()
                    .map_or(NAP, |state| state.pacer.until_next(now));
                if gap > SLEEPS {
                    port.wait(Duration::from_nanos((gap - SLEEPS / 2).min(NAP)));
                }
            }
        }
        Ok(Side {
            source: job.map(|job| job.source),
            tally,
            took,
        })
    }
}

/// Where a sender stands.
struct Sender {
    pacer: Pacer,
    /// The most frames, and when it ends.
    most: u64,
    end: u64,
    /// When the last frame was sent.
    last: u64,
    /// All was handed over; what is left is on its way out.
    drained_by: Option<u64>,
    done: bool,
}

impl Sender {
    fn new(job: &Job<'_>, start: u64) -> Sender {
        let (most, time) = job.amount.limits(job.rate);
        Sender {
            pacer: Pacer::new(job.rate, start),
            most,
            end: start.saturating_add(time),
            last: start,
            drained_by: None,
            done: false,
        }
    }

    /// Sends what is due. True if something was.
    fn step(
        &mut self,
        port: &mut Port,
        source: &mut Source<'_>,
        now: u64,
    ) -> Result<bool, Failure> {
        if self.drained_by.is_none() && (source.sent() >= self.most || now >= self.end) {
            self.drained_by = Some(now + STUCK);
        }
        if let Some(limit) = self.drained_by {
            self.done = port.flush()?;
            if !self.done && now > limit {
                let nic = port.name().to_string();
                return Err(Failure::Stuck { nic });
            }
            return Ok(true);
        }
        let left = self.most - source.sent();
        let due = self.pacer.due(now, BURST as u64).min(left);
        if due == 0 {
            return Ok(false);
        }
        let sent = port.send(due as usize, |room| source.write(now, room))?;
        self.pacer.sent(sent as u64);
        if sent > 0 {
            self.last = now;
        }
        Ok(true)
    }
}
