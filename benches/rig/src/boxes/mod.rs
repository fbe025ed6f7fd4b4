//! The boxes: each is set up in the middle of a lab, says how much it has received, and takes itself down when dropped.

mod bridge;
mod floor;
mod gate;
mod testpmd;
mod wire;

use crate::Failure;
use crate::contender::{Contender, Kind, Load, Receive};
use crate::netns::Lab;
use crate::rules::Nft;
use std::path::Path;
use std::process::{Command, Stdio};

/// What a box remembers.
#[derive(Clone, Copy, Debug)]
pub struct Flows {
    /// Flows that are open now.
    pub live: u64,
    /// Flows that were ever opened, if it counts them.
    pub opened: Option<u64>,
}

/// A box that runs.
pub trait Middle {
    /// Its own threads; the kernel's receive thread is added by [`Running::place_receive`].
    fn threads(&self) -> Vec<i32>;

    /// Frames that it has received: those that got as far as to it, for a box in user space.
    fn received(&mut self) -> Result<u64, Failure>;

    /// `None` for a box without state.
    fn flows(&self) -> Result<Option<Flows>, Failure> {
        Ok(None)
    }

    /// An error if what it says of itself does not add up, once nothing is on its way any more.
    fn finish(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// A contender that runs.
pub struct Running {
    /// The box.
    pub middle: Box<dyn Middle>,
    /// The threads that are the box: thread ids.
    pub threads: Vec<i32>,
}

impl Running {
    /// Starts a contender in the middle of the lab.
    pub fn start(
        contender: &Contender,
        lab: &Lab,
        binary: &Path,
        [box_core, other_core]: [usize; 2],
    ) -> Result<Running, Failure> {
        let swallows = contender.load == Load::Tftp;
        let middle: Box<dyn Middle> = match contender.kind {
            Kind::Floor { reads } => {
                let does = floor::Does { reads, swallows };
                Box::new(floor::Floor::start(lab, does, box_core)?)
            }
            Kind::Gate { thousand, alert } => {
                Box::new(gate::Gate::start(lab, binary, box_core, thousand, alert)?)
            }
            Kind::Bridge(nft) => Box::new(bridge::Bridge::start(lab, nft)?),
            Kind::Tc => Box::new(wire::Wire::traffic_control(lab)?),
            Kind::Xdp => Box::new(wire::Wire::xdp(lab)?),
            Kind::Testpmd(driver) => Box::new(testpmd::Testpmd::start(
                lab,
                driver,
                swallows,
                [box_core, other_core],
            )?),
        };
        let threads = middle.threads();
        Ok(Running { middle, threads })
    }

    /// Puts the LAN port's receive work where the contender has it. Until then it is on the generator's core: beside a thread that spins on
    /// the same core the kernel's thread may wait for seconds, which few frames at a time would all wait for.
    pub fn place_receive(
        &mut self,
        contender: &Contender,
        lab: &Lab,
        box_core: usize,
    ) -> Result<(), Failure> {
        if contender.receive == Receive::BoxCore {
            self.threads.push(lab.thread_lan_port(box_core)?);
        }
        Ok(())
    }
}

/// Thread id of the thread of a process that has this in its name.
fn thread_of(process: u32, name: &str) -> Result<i32, Failure> {
    for entry in std::fs::read_dir(format!("/proc/{process}/task"))?.flatten() {
        let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if comm.contains(name) {
            return Ok(entry.file_name().to_string_lossy().parse()?);
        }
    }
    Err(format!("process {process} has no thread {name}").into())
}

/// What is missing to run a contender, if something is, with the command that mends it.
pub fn missing(kind: Kind) -> Option<&'static str> {
    let there = |program: &str| {
        Command::new(program)
            .arg("--version")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    };
    match kind {
        Kind::Bridge(Some(_)) if !there("nft") => {
            Some("nft is not installed (Debian: apt install nftables)")
        }
        Kind::Bridge(Some(Nft::Conntrack)) if !Path::new(bridge::TO_NETFILTER).exists() => {
            Some("the kernel has no br_netfilter (modprobe br_netfilter)")
        }
        Kind::Testpmd(_) if !there("dpdk-testpmd") => {
            Some("dpdk-testpmd is not installed (Debian: apt install dpdk-dev)")
        }
        _ => None,
    }
}
