//! The generator and the sinks: the programs of `bpf/rig.bpf.c`.

use crate::frames::{self, Template};
use crate::netns::{self, LAN_FAR, Lab, UPLINK_FAR};
use crate::{Failure, stopped};
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{ProgramError, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// `rig.bpf.c`, compiled; see `bpf/build.sh`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/rig.bpf.o");

/// Frames that the kernel generates before it hands them on: its NAPI weight.
const BATCH: u32 = 64;
/// Frames that put the sink in its place: fewer than a NAPI poll takes, else the kernel does not defer after it.
const PLACING: u32 = 16;
/// Frames of one call: a fraction of a second, so that a stop is soon seen.
const CALL: u32 = 1 << 18;
/// Frames under way at once where none may be lost: fewer than a veth's ring of 256 takes (VETH_RING_SIZE).
const CHUNK: usize = 192;
/// A chunk of which some did not arrive is sent so often in all.
const TRIES: u32 = 5;
/// Frames that one visit to a namespace sends.
const VISIT: usize = CHUNK * 64;
/// How often it is looked whether a chunk has arrived.
const LOOK: Duration = Duration::from_micros(50);
/// How long a chunk is waited for.
const ARRIVAL: Duration = Duration::from_millis(100);
/// How long frames are waited for that should not come.
const ABSENCE: Duration = Duration::from_millis(150);

/// Indices of the map `state`; as in `rig.bpf.c`.
const STATE_OUT: u32 = 0;
const STATE_OFFERED: u32 = 1;
const STATE_NEXT: u32 = 2;
const STATE_TEMPLATES: u32 = 3;

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

/// Both ends of the rig, loaded.
pub struct Traffic {
    ebpf: Ebpf,
    templates: Array<MapData, Template>,
    state: Array<MapData, u64>,
    sunk: PerCpuArray<MapData, u64>,
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
            state: Array::try_from(ebpf.take_map("state").ok_or("no map state")?)?,
            sunk: PerCpuArray::try_from(ebpf.take_map("sunk").ok_or("no map sunk")?)?,
            ebpf,
            lan_far,
            uplink_far,
            uplink_port: lab.index(&lab.mid, &lab.uplink_port)?,
            generator_core,
        })
    }

    /// Frames that the generator has made.
    pub fn offered(&self) -> Result<u64, Failure> {
        Ok(self.state.get(&STATE_OFFERED, 0)?)
    }

    /// Frames that have arrived at the uplink's far end, by CPU.
    pub fn sunk(&self) -> Result<Vec<u64>, Failure> {
        Ok(self.sunk.get(&(End::Uplink as u32), 0)?.to_vec())
    }

    fn arrived(&self, at: End) -> Result<u64, Failure> {
        Ok(self.sunk.get(&(at as u32), 0)?.iter().sum())
    }

    /// From now on these frames are sent, over and over, the first one next.
    pub fn load(&mut self, frames: &[Template]) -> Result<(), Failure> {
        for (at, frame) in (0..).zip(frames) {
            self.templates.set(at, frame, 0)?;
        }
        self.state.set(STATE_TEMPLATES, frames.len() as u64, 0)?;
        Ok(self.state.set(STATE_NEXT, 0, 0)?)
    }

    /// Sends each frame until it has arrived at the other end, few at a time. Returns how many did not.
    pub fn deliver(&mut self, lab: &Lab, from: End, frames: &[Template]) -> Result<usize, Failure> {
        self.load(frames)?;
        self.send_out_of(from)?;
        let mut missing = 0;
        // One visit to the namespace for many chunks, and a look at signals between two visits.
        for first in (0..frames.len()).step_by(VISIT) {
            stopped()?;
            let part = first..frames.len().min(first + VISIT);
            missing += netns::within(from.namespace(lab), || self.deliver_part(from, part))??;
        }
        Ok(missing)
    }

    fn deliver_part(&mut self, from: End, part: Range<usize>) -> Result<usize, Failure> {
        netns::pin(0, self.generator_core)?;
        let mut missing = 0;
        for first in part.clone().step_by(CHUNK) {
            let count = CHUNK.min(part.end - first) as u64;
            let mut came = 0;
            for _ in 0..TRIES {
                self.state.set(STATE_NEXT, first as u64, 0)?;
                let before = self.arrived(from.other())?;
                burst(program(&self.ebpf, "generate")?, count as u32)?;
                let sent = Instant::now();
                while came < count && sent.elapsed() < ARRIVAL {
                    std::thread::sleep(LOOK);
                    came = self.arrived(from.other())? - before;
                }
                if came >= count {
                    break;
                }
            }
            missing += count.saturating_sub(came) as usize;
        }
        Ok(missing)
    }

    /// Sends each frame once, few at a time, and returns how many arrived at the other end.
    pub fn probe(&mut self, lab: &Lab, from: End, frames: &[Template]) -> Result<u64, Failure> {
        self.load(frames)?;
        self.send_out_of(from)?;
        let before = self.arrived(from.other())?;
        let program = program(&self.ebpf, "generate")?;
        netns::within(from.namespace(lab), || -> Result<(), Failure> {
            for chunk in frames.chunks(CHUNK) {
                burst(program, chunk.len() as u32)?;
                std::thread::sleep(Duration::from_millis(10));
            }
            Ok(())
        })??;
        std::thread::sleep(ABSENCE);
        Ok(self.arrived(from.other())? - before)
    }

    /// Puts the sink's work on the generator's core, by letting the first frames arrive from there.
    pub fn place_sink(&mut self, lab: &Lab) -> Result<(), Failure> {
        self.state.set(STATE_OUT, u64::from(self.uplink_port), 0)?;
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
        &self,
        lab: &Lab,
        meanwhile: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let program = program(&self.ebpf, "generate")?;
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let generator = scope.spawn(|| -> Result<(), Failure> {
                netns::enter(&lab.lan)?;
                netns::pin(0, self.generator_core)?;
                while !stop.load(Relaxed) {
                    burst(program, CALL).map_err(|e| format!("the generator: {e}"))?;
                }
                Ok(())
            });
            let outcome = meanwhile();
            stop.store(true, Relaxed);
            generator.join().map_err(|_| "the generator panicked")??;
            outcome
        })
    }

    fn send_out_of(&mut self, end: End) -> Result<(), Failure> {
        let out = match end {
            End::Lan => self.lan_far,
            End::Uplink => self.uplink_far,
        };
        Ok(self.state.set(STATE_OUT, u64::from(out), 0)?)
    }
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
