//! The generator and the sinks: the programs of `bpf/rig.bpf.c`.

use crate::frames::{self, Template};
use crate::netns::{self, LAN_FAR, Lab, UPLINK_FAR};
use crate::{Failure, pause, stopped};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{ProgramError, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// `rig.bpf.c`, compiled; see `bpf/build.sh`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/rig.bpf.o");

/// Frames that the kernel generates before it hands them on: its NAPI weight.
const BATCH: u32 = 64;
/// Frames that put the sink in its place: fewer than a NAPI poll takes, else the kernel does not defer after it.
const PLACING: u32 = 16;
/// Times that the generator is run in one call where it has credit for a few frames at a time: a fraction of a second, so that a stop is soon seen.
const CALL: u32 = 1 << 18;
/// The same in a flood: between two calls the kernel takes the memory of the first one down, for which it waits 10 to 25 ms, and nothing is sent meanwhile.
const FLOOD_CALL: u32 = 1 << 24;
/// Frames under way at once where none may be lost: fewer than a veth's ring of 256 takes (VETH_RING_SIZE).
const CHUNK: usize = 192;
/// A chunk of which some did not arrive is sent again in such pieces, each so often, and waited for twice as long each time: where receive
/// thread and box spin on one core with others, the scheduler has been seen to keep one of them waiting for a second.
const PIECE: usize = 16;
const TRIES: u32 = 6;
/// How often it is looked whether a chunk has arrived.
const LOOK: Duration = Duration::from_micros(50);
/// How long the generator may take to come to its turn.
const STARVED: Duration = Duration::from_secs(5);
/// How long a chunk is waited for.
const ARRIVAL: Duration = Duration::from_millis(100);
/// How long a chunk has for itself that is not meant to arrive.
const BETWEEN: Duration = Duration::from_millis(10);
/// How long frames are waited for that should not come, in the end.
const ABSENCE: Duration = Duration::from_millis(150);

/// Indices of the map `state`; as in `rig.bpf.c`.
const STATE_OUT: u32 = 0;
const STATE_OFFERED: u32 = 1;
const STATE_NEXT: u32 = 2;
const STATE_TEMPLATES: u32 = 3;
const STATE_CREDIT: u32 = 4;

/// One end of the rig.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Where the generator is. Also the index of what arrived there, in the map `sunk`.
    Lan = 1,
    /// Where the sink is.
    Uplink = 0,
}

impl End {
    fn namespace(self, lab: &Lab) -> &str {
        match self {
            End::Lan => &lab.lan,
            End::Uplink => &lab.uplink,
        }
    }

    fn other(self) -> End {
        match self {
            End::Lan => End::Uplink,
            End::Uplink => End::Lan,
        }
    }
}

/// What the programs of both ends count and go by.
pub struct Counts {
    state: Array<MapData, u64>,
    sunk: PerCpuArray<MapData, u64>,
}

impl Counts {
    /// Frames that the generator has made.
    pub fn offered(&self) -> Result<u64, Failure> {
        Ok(self.state.get(&STATE_OFFERED, 0)?)
    }

    /// Frames that have arrived at the uplink's far end, by CPU.
    pub fn sunk(&self) -> Result<Vec<u64>, Failure> {
        Ok(self.sunk.get(&(End::Uplink as u32), 0)?.to_vec())
    }
}

/// Both ends of the rig, loaded.
pub struct Traffic {
    ebpf: Ebpf,
    templates: Array<MapData, Template>,
    counts: Counts,
    lan_far: u32,
    uplink_far: u32,
    uplink_port: u32,
    generator_core: usize,
}

impl Traffic {
    /// Loads the programs, with room for so many frames, and puts a sink on each far end.
    pub fn new(lab: &Lab, room: usize, generator_core: usize) -> Result<Traffic, Failure> {
        let mut ebpf = EbpfLoader::new()
            .map_max_entries("templates", u32::try_from(room)?)
            .load(OBJECT)?;
        for name in ["generate", "sink", "back"] {
            program_mut(&mut ebpf, name)?.load()?;
        }
        let lan_far = lab.index(&lab.lan, LAN_FAR)?;
        let uplink_far = lab.index(&lab.uplink, UPLINK_FAR)?;
        let ends = [
            ("sink", &lab.uplink, uplink_far),
            ("back", &lab.lan, lan_far),
        ];
        for (name, ns, index) in ends {
            let sink = program_mut(&mut ebpf, name)?;
            // The link lives as long as the program object does.
            netns::within(ns, || {
                sink.attach_to_if_index(index, XdpMode::Driver).map(drop)
            })??;
        }
        Ok(Traffic {
            templates: Array::try_from(ebpf.take_map("templates").ok_or("no map templates")?)?,
            counts: Counts {
                state: Array::try_from(ebpf.take_map("state").ok_or("no map state")?)?,
                sunk: PerCpuArray::try_from(ebpf.take_map("sunk").ok_or("no map sunk")?)?,
            },
            ebpf,
            lan_far,
            uplink_far,
            uplink_port: lab.index(&lab.mid, &lab.uplink_port)?,
            generator_core,
        })
    }

    /// From now on these frames are sent, over and over, the first one next.
    pub fn load(&mut self, frames: &[Template]) -> Result<(), Failure> {
        for (at, frame) in (0..).zip(frames) {
            self.templates.set(at, frame, 0)?;
        }
        self.counts
            .state
            .set(STATE_TEMPLATES, frames.len() as u64, 0)?;
        Ok(self.counts.state.set(STATE_NEXT, 0, 0)?)
    }

    /// Sends each frame until it has arrived at the other end, few at a time. Returns how many did before one would not.
    pub fn deliver(&mut self, lab: &Lab, from: End, frames: &[Template]) -> Result<usize, Failure> {
        self.few_at_a_time(lab, from, frames, frames.len(), |few, first, count| {
            Ok(few.send(first, count, ARRIVAL)? >= count || few.insist(first, count)?)
        })
    }

    /// Sends each frame once, few at a time, and returns how many arrived at the other end. Behind each few the `marker` is sent until it
    /// arrives: what was before it has been judged by then, whatever kept the box from its work.
    pub fn probe(
        &mut self,
        lab: &Lab,
        from: End,
        frames: &[Template],
        marker: Option<Template>,
    ) -> Result<u64, Failure> {
        let before = [
            self.counts.offered()?,
            arrived(&self.counts.sunk, from.other())?,
        ];
        let all = [frames, marker.as_slice()].concat();
        let sent = self.few_at_a_time(lab, from, &all, frames.len(), |few, first, count| {
            few.send(first, count, BETWEEN)?;
            Ok(marker.is_none() || few.insist(frames.len(), 1)?)
        })?;
        if sent < frames.len() {
            return Err("it does not forward any more".into());
        }
        pause(ABSENCE)?;
        let markers = self.counts.offered()? - before[0] - frames.len() as u64;
        let came = arrived(&self.counts.sunk, from.other())? - before[1];
        Ok(came.saturating_sub(markers))
    }

    /// Hands chunks of the first `of` frames, each by its first and by their number, to `each`, until it says `false`. Returns how many
    /// frames were in the chunks before.
    fn few_at_a_time(
        &mut self,
        lab: &Lab,
        from: End,
        frames: &[Template],
        of: usize,
        each: impl Fn(&mut Few<'_>, usize, usize) -> Result<bool, Failure>,
    ) -> Result<usize, Failure> {
        self.counts.state.set(STATE_CREDIT, 0, 0)?;
        self.load(frames)?;
        self.send_out_of(from)?;
        let mut few = Few {
            state: &mut self.counts.state,
            sunk: &self.counts.sunk,
            to: from.other(),
        };
        let program = program(&self.ebpf, "generate")?;
        let at = (from.namespace(lab), self.generator_core);
        generate(program, at, CALL, || {
            for first in (0..of).step_by(CHUNK) {
                if !each(&mut few, first, CHUNK.min(of - first))? {
                    return Ok(first);
                }
            }
            Ok(of)
        })
    }

    /// Puts the sink's work on the generator's core, by letting the first frames arrive from there. From here on there is no end of frames.
    pub fn place_sink(&mut self, lab: &Lab) -> Result<(), Failure> {
        self.counts
            .state
            .set(STATE_OUT, u64::from(self.uplink_port), 0)?;
        self.counts.state.set(STATE_CREDIT, u64::MAX, 0)?;
        let core = self.generator_core;
        let program = program(&self.ebpf, "generate")?;
        netns::within(&lab.mid, || -> Result<(), Failure> {
            netns::pin(0, core)?;
            Ok(burst(program, PLACING)?)
        })??;
        self.send_out_of(End::Lan)
    }

    /// Floods the LAN port, from the generator's core, while `meanwhile` runs.
    pub fn flood<T>(
        &mut self,
        lab: &Lab,
        meanwhile: impl FnOnce(&Counts) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let program = program(&self.ebpf, "generate")?;
        let (counts, at) = (&mut self.counts, (lab.lan.as_str(), self.generator_core));
        generate(program, at, FLOOD_CALL, || {
            let outcome = meanwhile(counts);
            // What is left of the call is nothing but turns, and soon over.
            counts.state.set(STATE_CREDIT, 0, 0)?;
            outcome
        })
    }

    fn send_out_of(&mut self, end: End) -> Result<(), Failure> {
        let out = match end {
            End::Lan => self.lan_far,
            End::Uplink => self.uplink_far,
        };
        Ok(self.counts.state.set(STATE_OUT, u64::from(out), 0)?)
    }
}

/// A generator that runs, and waits for credit.
struct Few<'a> {
    state: &'a mut Array<MapData, u64>,
    sunk: &'a PerCpuArray<MapData, u64>,
    to: End,
}

impl Few<'_> {
    /// Sends so many frames from the one at `first` on. Returns how many arrived until all did, or until that time was up after them.
    fn send(&mut self, first: usize, count: usize, time: Duration) -> Result<usize, Failure> {
        stopped()?;
        let before = arrived(self.sunk, self.to)?;
        let offered = self.state.get(&STATE_OFFERED, 0)?;
        self.state.set(STATE_NEXT, first as u64, 0)?;
        self.state.set(STATE_CREDIT, offered + count as u64, 0)?;
        let asked = Instant::now();
        while self.state.get(&STATE_OFFERED, 0)? < offered + count as u64 {
            if asked.elapsed() > STARVED {
                return Err("the generator does not run".into());
            }
            std::thread::sleep(LOOK);
        }
        let sent = Instant::now();
        let mut came = 0;
        while came < count && sent.elapsed() < time {
            std::thread::sleep(LOOK);
            came = (arrived(self.sunk, self.to)? - before) as usize;
        }
        Ok(came)
    }

    /// Sends these in smaller pieces, each until it has arrived as a whole. `false` if one does not.
    fn insist(&mut self, first: usize, count: usize) -> Result<bool, Failure> {
        for at in (0..count).step_by(PIECE) {
            if !self.insist_on_piece(first + at, PIECE.min(count - at))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn insist_on_piece(&mut self, first: usize, count: usize) -> Result<bool, Failure> {
        for times in 0..TRIES {
            if self.send(first, count, ARRIVAL * 2_u32.pow(times))? >= count {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn arrived(sunk: &PerCpuArray<MapData, u64>, at: End) -> Result<u64, Failure> {
    Ok(sunk.get(&(at as u32), 0)?.iter().sum())
}

/// Runs the generator in a namespace, on a core, while `meanwhile` runs, so many times in each call.
fn generate<T>(
    program: &Xdp,
    (ns, core): (&str, usize),
    call: u32,
    meanwhile: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let generator = scope.spawn(|| -> Result<(), Failure> {
            netns::enter(ns)?;
            netns::pin(0, core)?;
            while !stop.load(Relaxed) {
                burst(program, call).map_err(|e| format!("the generator: {e}"))?;
            }
            Ok(())
        });
        let outcome = meanwhile();
        stop.store(true, Relaxed);
        generator.join().map_err(|_| "the generator panicked")??;
        outcome
    })
}

/// Has the kernel run the generator `frames` times. The frames go out of an interface of the calling thread's namespace.
fn burst(program: &Xdp, frames: u32) -> Result<(), ProgramError> {
    let blank = [0; frames::LEN];
    let options = TestRunOptions {
        data_in: Some(&blank),
        repeat: frames,
        attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
        ..TestRunOptions::new()
    };
    match program.test_run(options) {
        Err(ProgramError::SyscallError(e))
            if e.io_error.kind() == std::io::ErrorKind::Interrupted =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}

fn program<'a>(ebpf: &'a Ebpf, name: &str) -> Result<&'a Xdp, Failure> {
    Ok(ebpf
        .program(name)
        .ok_or_else(|| format!("no program {name}"))?
        .try_into()?)
}

fn program_mut<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp, Failure> {
    Ok(ebpf
        .program_mut(name)
        .ok_or_else(|| format!("no program {name}"))?
        .try_into()?)
}
