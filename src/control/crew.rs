//! The worker threads: each on its core, turning until it is told to stop.

use super::serve::ServeError;
use super::status::now;
use crate::config::Idle;
use crate::os::sandbox::{self, Calls};
use crate::policy::Side;
use crate::port::afxdp::AfXdpPort;
use crate::port::gate::Beats;
use crate::worker::{Now, Worker};
use nix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// An adaptive worker sleeps after this long without a frame, nanoseconds.
const QUIET: u64 = 1_000_000;
/// And at most this long, so that it sees that it should stop, and what it sent is reclaimed.
const NAP: Duration = Duration::from_millis(20);
/// Pauses of a turn that moved nothing: well under a microsecond.
const IDLE_SPINS: u32 = 16;
/// Turns in a row that moved nothing, after which whoever else has work on this core is let to it: where the kernel receives in a thread (`ksoftirqd`, threaded NAPI) that
/// shares the core, what we wait for is what our waiting keeps it from. With the core to itself a worker is back in a fraction of a microsecond.
const IDLE_TURNS: u32 = 8;
/// Turns after the stop was asked for, so that frames on their way are accounted for.
const LAST_TURNS: u32 = 64;

/// How long a worker that is to rest waits for what it has sent, nanoseconds.
const RESTS: u64 = 5_000_000;

/// What workers are asked to do.
const TURN: u8 = 0;
const END: u8 = 1;
const REST: u8 = 2;

/// How often a worker beats: the gate in the kernel reads the cache line of each beat for every frame.
const BEAT: u64 = 1_000_000;

/// The worker threads.
pub struct Crew {
    asked: Arc<AtomicU8>,
    alive: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<Option<Worker<AfXdpPort>>>>,
    clock: Clock,
}

impl Crew {
    /// Starts them, each on its core. Returns when each worker has made its first turn, which gives its sockets the memory to receive in; from then on it beats where
    /// the gates of both NICs look, by side.
    ///
    /// # Errors
    /// That there is no thread to be had, or that a worker ended in its first turn.
    pub fn start(
        workers: Vec<(Worker<AfXdpPort>, usize)>,
        idle: Idle,
        beats: &[Beats; 2],
    ) -> Result<Crew, ServeError> {
        let mut crew = Crew {
            asked: Arc::default(),
            alive: Arc::default(),
            threads: Vec::new(),
            clock: Clock::start(),
        };
        let (turned, turns) = mpsc::channel();
        // One clock for all of them: what one writes into the flow table is read by the others.
        let clock = crew.clock;
        for (index, (worker, core)) in workers.into_iter().enumerate() {
            let mut worker = worker.timed(Instant::now);
            let mut pulse = Pulse::of(&worker, beats);
            let (asked, alive) = (Arc::clone(&crew.asked), Arc::clone(&crew.alive));
            alive.fetch_add(1, Relaxed);
            let turned = turned.clone();
            let work = move || {
                let _gone = Gone(alive);
                core_affinity::set_for_current(core_affinity::CoreId { id: core });
                // Before its first turn: frames may wait already, and nothing is parsed by a worker that can do more than it has to.
                if let Err(e) = sandbox::only(Calls::Worker) {
                    eprintln!("portcullis: {e}");
                    return None;
                }
                worker.turn(clock.now());
                pulse.beat(clock.monotonic(clock.steady()));
                // Nobody waits any more where another worker has failed already.
                let _ = turned.send(());
                work(worker, idle, (clock, pulse), &asked)
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(work)
                .map_err(ServeError::Os)?;
            crew.threads.push(thread);
        }
        drop(turned);
        for _ in &crew.threads {
            // The channel closes early if a worker panics in its first turn.
            turns.recv().map_err(|_| ServeError::WorkerEnded)?;
        }
        Ok(crew)
    }

    /// The steady clock that the workers go by.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// Whether every worker is still at work.
    pub fn complete(&self) -> bool {
        self.alive.load(Relaxed) == self.threads.len()
    }

    /// Ends them, and waits until they have.
    pub fn stop(self) {
        self.asked.store(END, Relaxed);
        for thread in self.threads {
            // A worker that panicked has said so on standard error already.
            let _ = thread.join();
        }
    }

    /// Has them come to rest, and waits until they have: nothing is received any more, and all frames are in their pools or in the rings. `None` where one has
    /// ended by itself.
    pub fn rest(self) -> Option<Vec<Worker<AfXdpPort>>> {
        self.asked.store(REST, Relaxed);
        let threads = self.threads.into_iter();
        let ended: Vec<_> = threads.map(|thread| thread.join().ok().flatten()).collect();
        ended.into_iter().collect()
    }
}

/// Reads both clocks. The steady one starts at a second, since zero is no time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// The kernel's `CLOCK_MONOTONIC` at the steady clock's zero, nanoseconds; it may lie before that of the machine's start.
    zero: i64,
}

/// Where the steady clock starts, nanoseconds.
const START: u64 = 1_000_000_000;

impl Clock {
    /// A clock that begins now.
    pub fn start() -> Clock {
        let monotonic = clock_gettime(ClockId::CLOCK_MONOTONIC)
            .map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec());
        Clock {
            start: Instant::now(),
            zero: monotonic - START as i64,
        }
    }

    /// Nanoseconds.
    pub fn steady(self) -> u64 {
        START + self.start.elapsed().as_nanos() as u64
    }

    /// A time of the steady clock as the kernel's `CLOCK_MONOTONIC`.
    fn monotonic(self, steady: u64) -> u64 {
        steady.saturating_add_signed(self.zero)
    }

    fn now(self) -> Now {
        Now {
            wall: now(),
            steady: self.steady(),
        }
    }
}

/// What a worker tells the gates in the kernel: that it turns.
struct Pulse {
    /// The queues that it serves.
    queues: Vec<(Beats, usize)>,
    last: u64,
}

impl Pulse {
    fn of(worker: &Worker<AfXdpPort>, beats: &[Beats; 2]) -> Pulse {
        let of_side = |side: Side| {
            let ports = worker.ports_ref(side).iter();
            ports.map(move |port| {
                (
                    Arc::clone(&beats[side as usize]),
                    port.socket().queue() as usize,
                )
            })
        };
        Pulse {
            queues: Side::BOTH.into_iter().flat_map(of_side).collect(),
            last: 0,
        }
    }

    /// Beats at `now`, nanoseconds of `CLOCK_MONOTONIC`, unless it has just done so.
    #[inline]
    fn beat(&mut self, now: u64) {
        if now.saturating_sub(self.last) < BEAT {
            return;
        }
        self.last = now;
        for (beats, queue) in &self.queues {
            beats.store(*queue, now);
        }
    }
}

/// Counts a worker out, however it ends.
struct Gone(Arc<AtomicUsize>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// The thread of one worker. Gives it back where it was asked to come to rest.
fn work(
    mut worker: Worker<AfXdpPort>,
    idle: Idle,
    (clock, mut pulse): (Clock, Pulse),
    asked: &AtomicU8,
) -> Option<Worker<AfXdpPort>> {
    let mut busy_until = 0;
    let mut idle_turns = 0u32;
    while asked.load(Relaxed) == TURN {
        let time = clock.now();
        let received = worker.turn(time);
        pulse.beat(clock.monotonic(time.steady));
        if received > 0 {
            busy_until = time.steady + QUIET;
            idle_turns = 0;
        } else if idle == Idle::Adaptive
            && time.steady > busy_until
            && worker.waiting() == 0
            && !worker.awaits_host(time.steady)
        {
            nap(&mut worker);
        } else {
            // Looking at the rings again at once would only take their cache lines from the core that is filling them.
            (0..IDLE_SPINS).for_each(|_| std::hint::spin_loop());
            idle_turns += 1;
            if idle_turns == IDLE_TURNS {
                idle_turns = 0;
                std::thread::yield_now();
            }
        }
    }
    let rests = asked.load(Relaxed) == REST;
    if rests {
        let until = clock.steady() + RESTS;
        while worker.rest(clock.now()) > 0 && clock.steady() < until {
            std::hint::spin_loop();
        }
        worker.brim();
        pulse.beat(clock.monotonic(clock.steady()));
    } else {
        for _ in 0..LAST_TURNS {
            worker.turn(clock.now());
        }
    }
    worker.tell_rest(clock.now());
    rests.then_some(worker)
}

/// Sleeps until a frame arrives, or for a moment.
fn nap(worker: &mut Worker<AfXdpPort>) {
    let fds: Vec<_> = Side::BOTH
        .iter()
        .flat_map(|side| worker.ports_ref(*side).iter().map(AfXdpPort::fd))
        .collect();
    // An error of poll(2) makes a turn sooner, which is no harm.
    let _ = af_xdp::wait(&fds, NAP);
}
