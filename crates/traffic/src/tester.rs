//! The tester: two ports, a thread for each, and trials.
//!
//! ```text
//!           ┌────────────── tester ──────────────┐
//!           │ thread: pace, mark, send           │ LAN port ───▶ ┌────────┐
//!           │         receive, tally             │ ◀──────────── │ device │
//!           │ thread: receive, tally             │ uplink port ◀ │        │
//!           │         pace, mark, send           │ ────────────▶ └────────┘
//!           └────────────────────────────────────┘
//! ```
//!
//! Both threads do the same; which of them has something to send is what a trial says.

use crate::failure::Failure;
use crate::frames::Ends;
use crate::load::{Load, Source};
use crate::mark::TRIALS;
use crate::outcome::Outcome;
use crate::pace::Rate;
use crate::port::Port;
use crate::tally::Tally;
pub use crate::work::{Amount, Manner};
use crate::work::{BEFORE, Job, Shared, Side, Work, clock};

/// Two open ports.
pub struct Tester {
    ports: [Port; 2],
    ends: Ends,
    manner: Manner,
    trial: u16,
}

impl Tester {
    /// Over two open ports, of the LAN side and of the uplink side.
    pub fn new(ports: [Port; 2], ends: Ends, manner: Manner) -> Tester {
        Tester {
            ports,
            ends,
            manner,
            trial: first_trial(),
        }
    }

    /// The MAC addresses of the ports.
    pub fn ends(&self) -> &Ends {
        &self.ends
    }

    /// The ports.
    pub fn ports(&self) -> &[Port; 2] {
        &self.ports
    }

    /// One trial: these loads, from the LAN port and from the uplink port.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn trial(
        &mut self,
        loads: [Option<&Load>; 2],
        rate: Rate,
        amount: Amount,
    ) -> Result<Outcome, Failure> {
        let before: u64 = self.ports.iter().map(Port::lost).sum();
        let trial = self.next_trial();
        let jobs = loads.map(|load| {
            load.map(|load| Job {
                source: Source::new(load, trial),
                rate,
                amount,
            })
        });
        // What one port sends, and must not, arrives at the other.
        let tallies = [1, 0].map(|from: usize| {
            let [flows, forbidden] = loads[from].map_or([1, 0], |l| [l.flows(), l.forbidden()]);
            Tally::new(trial, flows, forbidden)
        });
        let sides = self.run(jobs, tallies)?;
        let mut outcome = Outcome {
            asked: rate,
            directions: loads.iter().flatten().count() as u32,
            ..Outcome::default()
        };
        for side in sides {
            if let Some(source) = &side.source {
                outcome.sent += source.counted;
                outcome.forbidden += source.forbidden;
                outcome.bytes += source.bytes;
            }
            outcome.took = outcome.took.max(side.took);
            outcome.received += side.tally.counted.received;
            outcome.duplicated += side.tally.counted.duplicated;
            outcome.reordered += side.tally.reordered;
            outcome.foreign += side.tally.foreign;
            outcome.leaked.extend(side.tally.leaked);
            // Both have the same shape.
            let _ = outcome.latency.add(&side.tally.latency);
        }
        let after: u64 = self.ports.iter().map(Port::lost).sum();
        outcome.lost_here = after.saturating_sub(before);
        Ok(outcome)
    }

    /// A number for the next trial.
    pub(crate) fn next_trial(&mut self) -> u16 {
        self.trial = (self.trial + 1) % TRIALS;
        self.trial
    }

    /// Both threads, from beginning to end.
    pub(crate) fn run<'a>(
        &mut self,
        jobs: [Option<Job<'a>>; 2],
        tallies: [Tally; 2],
    ) -> Result<[Side<'a>; 2], Failure> {
        let Manner {
            cores,
            spin,
            settle,
            stop,
        } = &self.manner;
        let shared = Shared::new(stop, jobs.iter().flatten().count() as u32);
        let start = clock() + BEFORE;
        let [lan, uplink] = &mut self.ports;
        let [from_lan, from_uplink] = jobs;
        let [at_lan, at_uplink] = tallies;
        let work = |at, port, job, tally| Work {
            at,
            port,
            job,
            tally,
            start,
            core: cores[at],
            spin: *spin,
            settle: settle.as_nanos() as u64,
        };
        let works = [
            work(0, lan, from_lan, at_lan),
            work(1, uplink, from_uplink, at_uplink),
        ];
        std::thread::scope(|scope| {
            let threads = works.map(|work| scope.spawn(|| work.run(&shared)));
            let ended = threads.map(|thread| thread.join().unwrap_or(Err(Failure::Panicked)));
            match ended {
                [Ok(lan), Ok(uplink)] => Ok([lan, uplink]),
                // What stopped one is told, not that the other was stopped by it.
                [Err(Failure::Stopped), Err(e)] | [Err(e), _] | [_, Err(e)] => Err(e),
            }
        })
    }
}

/// Sends a load from one port, and hears nothing.
///
/// # Errors
/// [`Failure`].
pub fn send(
    port: &mut Port,
    load: &Load,
    rate: Rate,
    amount: Amount,
    manner: &Manner,
) -> Result<Outcome, Failure> {
    let shared = Shared::new(&manner.stop, 1);
    let trial = first_trial();
    let source = Source::new(load, trial);
    let work = Work {
        at: 0,
        port,
        job: Some(Job {
            source,
            rate,
            amount,
        }),
        tally: Tally::new(trial, 1, 0),
        start: clock() + BEFORE,
        core: manner.cores[0],
        spin: manner.spin,
        settle: 0,
    };
    let side = work.run(&shared)?;
    let source = side.source.as_ref();
    Ok(Outcome {
        asked: rate,
        sent: source.map_or(0, |source| source.counted),
        forbidden: source.map_or(0, |source| source.forbidden),
        bytes: source.map_or(0, |source| source.bytes),
        took: side.took,
        ..Outcome::default()
    })
}

/// Frames of another run are not taken for those of this one.
fn first_trial() -> u16 {
    (clock() >> 10) as u16 % TRIALS
}
