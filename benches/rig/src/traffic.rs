//! The generator and the sink: the programs of `bpf/rig.bpf.c`.

use crate::Failure;
use crate::frames::{self, Load, Template};
use crate::netns::{self, LAN_FAR, Lab, UPLINK_FAR};
use aya::Ebpf;
use aya::maps::{Array, MapData, PerCpuArray};
use aya::programs::{ProgramError, TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// `rig.bpf.c`, compiled; see `bpf/build.sh`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/rig.bpf.o");

/// Frames that the kernel generates before it hands them on: its NAPI weight.
const BATCH: u32 = 64;
/// Frames that put the sink in its place: fewer than a NAPI poll takes, else the kernel does not defer after it.
const PLACING: u32 = 16;
/// Frames of one call: a fraction of a second, so that a stop is soon seen.
const CALL: u32 = 1 << 18;

/// Indices of the map `state`; as in `rig.bpf.c`.
const STATE_OUT: u32 = 0;
const STATE_OFFERED: u32 = 1;

/// Both ends of the rig, loaded.
pub struct Traffic {
    ebpf: Ebpf,
    state: Array<MapData, u64>,
    sunk: PerCpuArray<MapData, u64>,
    lan_far: u32,
    uplink_port: u32,
    generator_core: usize,
}

impl Traffic {
    /// Loads both programs, and puts the sink on the far end of the uplink.
    pub fn new(lab: &Lab, load: Load, generator_core: usize) -> Result<Traffic, Failure> {
        let mut ebpf = Ebpf::load(OBJECT)?;
        for name in ["generate", "sink"] {
            program_mut(&mut ebpf, name)?.load()?;
        }
        let up = lab.index(&lab.uplink, UPLINK_FAR)?;
        let sink = program_mut(&mut ebpf, "sink")?;
        // The link lives as long as the program object does.
        netns::within(&lab.uplink, || {
            sink.attach_to_if_index(up, XdpMode::Driver).map(drop)
        })??;
        let mut templates: Array<MapData, Template> =
            Array::try_from(ebpf.take_map("templates").ok_or("no map templates")?)?;
        let state = Array::try_from(ebpf.take_map("state").ok_or("no map state")?)?;
        let sunk = PerCpuArray::try_from(ebpf.take_map("sunk").ok_or("no map sunk")?)?;
        for (at, template) in (0..).zip(frames::templates(load)) {
            templates.set(at, template, 0)?;
        }
        Ok(Traffic {
            ebpf,
            state,
            sunk,
            lan_far: lab.index(&lab.lan, LAN_FAR)?,
            uplink_port: lab.index(&lab.mid, &lab.uplink_port)?,
            generator_core,
        })
    }

    /// Frames that the generator has made.
    pub fn offered(&self) -> Result<u64, Failure> {
        Ok(self.state.get(&STATE_OFFERED, 0)?)
    }

    /// Frames that the sink has got, by CPU.
    pub fn sunk(&self) -> Result<Vec<u64>, Failure> {
        Ok(self.sunk.get(&0, 0)?.to_vec())
    }

    /// Puts the sink's work on the generator's core, by letting the first frames arrive from there.
    pub fn place_sink(&mut self, lab: &Lab) -> Result<(), Failure> {
        self.state.set(STATE_OUT, u64::from(self.uplink_port), 0)?;
        let core = self.generator_core;
        let program = program(&self.ebpf, "generate")?;
        netns::within(&lab.mid, || -> Result<(), String> {
            netns::pin(0, core).map_err(|e| e.to_string())?;
            burst(program, PLACING).map_err(|e| e.to_string())
        })??;
        Ok(self.state.set(STATE_OUT, u64::from(self.lan_far), 0)?)
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
            let generator = scope.spawn(|| -> Result<(), String> {
                netns::enter(&lab.lan).map_err(|e| e.to_string())?;
                netns::pin(0, self.generator_core).map_err(|e| e.to_string())?;
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
