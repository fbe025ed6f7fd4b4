//! One measurement: a lab is built, a contender put in, a flood sent through, and everything taken down again.

use crate::boxes::Running;
use crate::contender::{Contender, Load};
use crate::frames::{self, Step, templates};
use crate::netns::Lab;
use crate::traffic::{Counts, Traffic};
use crate::{Failure, check, pause, rules};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A sink that starts on the box's core is put on the generator's again this often.
const PLACINGS: u32 = 3;
/// Flows of the flood that is to be dropped.
const FLOOD: usize = 4096;
/// Flows that are open beside it, to see that what is allowed passes.
const BESIDE_THE_FLOOD: usize = 500;
/// For frames in rings and queues to get to their end.
const SETTLE: Duration = Duration::from_millis(200);

/// How to measure.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The gate's binary.
    pub gate: PathBuf,
    /// Core of the box.
    pub box_core: usize,
    /// Core of the generator and the sink.
    pub generator_core: usize,
    /// Flows of the office.
    pub flows: usize,
    /// Flooded before it is measured.
    pub warm_up: Duration,
    /// Measured.
    pub window: Duration,
}

/// What one contender did in one round, per second but for the shares.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Frames that the generator made.
    #[serde(rename = "offered_pps")]
    pub offered: f64,
    /// Frames that the box received.
    #[serde(rename = "received_pps")]
    pub received: f64,
    /// Frames that came out at the sink.
    #[serde(rename = "forwarded_pps")]
    pub forwarded: f64,
    /// Nanoseconds on a CPU of all threads of the box, for each frame received.
    #[serde(rename = "ns_per_frame")]
    pub nanoseconds: f64,
    /// Share of a core that the threads of the box were running.
    pub on_cpu: f64,
    /// Share of the sink's frames that it took on the generator's core.
    pub sink_apart: f64,
    /// Flows that the box still knew after it, if it has state and that was looked at.
    pub flows: Option<u64>,
}

impl Figures {
    /// Share of the frames that the box received and did not send on.
    pub fn lost(&self) -> f64 {
        if self.received > 0.0 {
            (1.0 - self.forwarded / self.received).max(0.0)
        } else {
            0.0
        }
    }

    /// True if the box took nearly all that was offered: then the generator's core, which also has the sink and may have the receive work,
    /// was the limit, and the box could do more.
    pub fn generator_bound(&self) -> bool {
        self.received > 0.95 * self.offered
    }

    /// True if the sink took nearly nothing of the box's core.
    pub fn apart(&self) -> bool {
        self.sink_apart >= 0.9
    }

    /// What the contender is compared by: frames forwarded, or received where all are to be dropped.
    pub fn rate(&self, load: Load) -> f64 {
        match load {
            Load::Office => self.forwarded,
            Load::Tftp => self.received,
        }
    }
}

struct Sample {
    at: Instant,
    offered: u64,
    received: u64,
    sunk: Vec<u64>,
    on_cpu: u64,
}

impl Sample {
    fn take(counts: &Counts, running: &mut Running) -> Result<Sample, Failure> {
        let received = running.middle.received()?;
        Ok(Sample {
            at: Instant::now(),
            received,
            offered: counts.offered()?,
            sunk: counts.sunk()?,
            on_cpu: on_cpu(&running.threads)?,
        })
    }

    fn since(&self, earlier: &Sample, core: usize) -> Figures {
        let seconds = (self.at - earlier.at).as_secs_f64();
        let by_core = || {
            self.sunk
                .iter()
                .zip(&earlier.sunk)
                .map(|(now, then)| now - then)
        };
        let sunk: u64 = by_core().sum();
        let apart = by_core().nth(core).unwrap_or(0);
        let on_cpu = (self.on_cpu - earlier.on_cpu) as f64;
        let received = (self.received - earlier.received) as f64;
        Figures {
            offered: (self.offered - earlier.offered) as f64 / seconds,
            received: received / seconds,
            forwarded: sunk as f64 / seconds,
            nanoseconds: if received > 0.0 {
                on_cpu / received
            } else {
                0.0
            },
            on_cpu: on_cpu / 1e9 / seconds,
            sink_apart: if sunk > 0 {
                apart as f64 / sunk as f64
            } else {
                1.0
            },
            flows: None,
        }
    }
}

/// Nanoseconds that threads have been on a CPU: the first field of `schedstat` (docs.kernel.org/scheduler/sched-stats.html).
fn on_cpu(threads: &[i32]) -> Result<u64, Failure> {
    let mut sum = 0;
    for thread in threads {
        let text = std::fs::read_to_string(format!("/proc/{thread}/schedstat"))?;
        sum += text
            .split_whitespace()
            .next()
            .unwrap_or_default()
            .parse::<u64>()?;
    }
    Ok(sum)
}

/// Measures one contender once.
pub fn measure(contender: &Contender, setup: &Setup) -> Result<Figures, Failure> {
    let cores = [setup.box_core, setup.generator_core];
    let office = frames::office(match contender.load {
        Load::Office => setup.flows,
        Load::Tftp => BESIDE_THE_FLOOD,
    });
    let flood = match contender.load {
        Load::Office => templates(&office, Step::On),
        Load::Tftp => templates(&frames::tftp(FLOOD), Step::Open),
    };
    let lab = Lab::up()?;
    let room = flood.len().max(2 * rules::COUNT);
    let mut traffic = Traffic::new(&lab, room, setup.generator_core)?;
    lab.defer_sink()?;
    let mut running = Running::start(contender, &lab, &setup.gate, cores)?;
    if contender.has_state() {
        check::open(&mut traffic, &lab, &office)?;
    }
    check::prove(contender, &mut traffic, &lab, &office)?;
    running.place_receive(contender, &lab, setup.box_core)?;
    traffic.load(&flood)?;
    let mut opened = None;
    if contender.load == Load::Office {
        check::live(running.middle.as_ref(), office.len(), None)?;
        opened = running.middle.flows()?.and_then(|flows| flows.opened);
    }
    for placing in 1.. {
        // The sink lets go of a core only after its empty polls, for which a busy machine takes its time.
        pause(SETTLE * placing)?;
        traffic.place_sink(&lab)?;
        let outcome = traffic.flood(&lab, |counts| {
            window(counts, &mut running, setup, placing == PLACINGS)
        })?;
        pause(SETTLE)?;
        if let Some(mut figures) = outcome {
            running.middle.finish()?;
            if contender.load == Load::Tftp && figures.forwarded > 0.0 {
                return Err("frames of the flood got through".into());
            }
            if contender.load == Load::Office {
                figures.flows = check::live(running.middle.as_ref(), office.len(), opened)?;
            }
            return Ok(figures);
        }
    }
    Err("the sink could not be placed".into())
}

/// Warms up and measures. `None` if the sink is on the box's core, where it would be a part of the box, unless this is the `last` try.
fn window(
    counts: &Counts,
    running: &mut Running,
    setup: &Setup,
    last: bool,
) -> Result<Option<Figures>, Failure> {
    let core = setup.generator_core;
    let start = Sample::take(counts, running)?;
    pause(setup.warm_up)?;
    let warm = Sample::take(counts, running)?;
    if !last && !warm.since(&start, core).apart() {
        return Ok(None);
    }
    pause(setup.window)?;
    let figures = Sample::take(counts, running)?.since(&warm, core);
    Ok((last || figures.apart()).then_some(figures))
}
