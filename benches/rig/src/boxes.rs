//! What is compared: each way to join the two ports, under one roof.

use crate::Failure;
use crate::floor::{Floor, Then};
use crate::frames::Load;
use crate::gate::GateBox;
use crate::netns::{Lab, Received, run};
use std::path::Path;
use std::process::{Command, Stdio};

/// How the middle works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bare AF_XDP loop.
    Floor,
    /// The Linux bridge.
    Bridge,
    /// The Linux bridge with the baseline's port rules in nftables, one rule each.
    Nftables,
    /// Portcullis.
    Gate,
    /// Portcullis with TFTP dropped without an alert.
    Silent,
}

/// Where the receive work of the LAN port is done.
///
/// A frame that crosses a veth is received by a soft interrupt on the core that sent it, here the generator's, unless the port's NAPI has
/// a thread. A kernel box does all of its work in there, so its NAPI is threaded and on the box's core. A box in user space has its own
/// thread on that core; the driver's part, which copies into its memory, can be on either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receive {
    /// In a kernel thread on the box's core.
    BoxCore,
    /// In the generator's soft interrupts: like a NIC whose interrupt is steered to another core than the worker's.
    GeneratorCore,
}

/// One line of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// What the table calls it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Where it receives.
    pub receive: Receive,
    /// What it is given.
    pub load: Load,
}

const fn contender(name: &'static str, kind: Kind, receive: Receive, load: Load) -> Contender {
    Contender {
        name,
        kind,
        receive,
        load,
    }
}

/// All of them, in the order of the table.
pub const CONTENDERS: [Contender; 10] = [
    contender("floor", Kind::Floor, Receive::GeneratorCore, Load::Office),
    contender("gate", Kind::Gate, Receive::GeneratorCore, Load::Office),
    contender("bridge", Kind::Bridge, Receive::BoxCore, Load::Office),
    contender(
        "bridge+nftables",
        Kind::Nftables,
        Receive::BoxCore,
        Load::Office,
    ),
    contender(
        "floor, one core",
        Kind::Floor,
        Receive::BoxCore,
        Load::Office,
    ),
    contender("gate, one core", Kind::Gate, Receive::BoxCore, Load::Office),
    contender(
        "drop: floor",
        Kind::Floor,
        Receive::GeneratorCore,
        Load::Tftp,
    ),
    contender("drop: gate", Kind::Gate, Receive::GeneratorCore, Load::Tftp),
    contender(
        "drop: without alert",
        Kind::Silent,
        Receive::GeneratorCore,
        Load::Tftp,
    ),
    contender(
        "drop: nftables",
        Kind::Nftables,
        Receive::BoxCore,
        Load::Tftp,
    ),
];

/// The baseline's rules that look at ports, without state and without its sets; the designated mail server is the example config's.
const RULES: &str = "\
table bridge bench {
	chain forward {
		type filter hook forward priority 0; policy accept;
		udp dport 69 drop
		ip saddr 10.77.0.25 tcp dport 25 accept
		tcp dport 25 drop
		tcp dport 6660-6669 drop
		udp dport 160-162 drop
		tcp dport 161-162 drop
		tcp dport 135 drop
		udp dport 135 drop
		tcp dport 445 drop
		udp dport 137-138 drop
		tcp dport 139 drop
	}
}
";

/// A contender that runs.
pub struct Running {
    /// The threads that are the box: thread ids.
    pub threads: Vec<i32>,
    engine: Engine,
}

enum Engine {
    Floor(Floor),
    Gate(GateBox),
    Kernel(Received),
}

impl Running {
    /// Starts a contender in the middle of the lab.
    pub fn start(
        contender: &Contender,
        lab: &Lab,
        binary: &Path,
        core: usize,
    ) -> Result<Running, Failure> {
        let mut threads = Vec::new();
        let engine = match contender.kind {
            Kind::Floor => {
                let then = match contender.load {
                    Load::Office => Then::Forward,
                    Load::Tftp => Then::Drop,
                };
                let floor = Floor::start(lab, then, core)?;
                threads.push(floor.thread());
                Engine::Floor(floor)
            }
            Kind::Gate | Kind::Silent => {
                let alert = contender.kind == Kind::Gate;
                let gate = GateBox::start(lab, binary, core, alert)?;
                threads.push(gate.worker()?);
                Engine::Gate(gate)
            }
            Kind::Bridge => {
                bridge(lab)?;
                Engine::Kernel(lab.received()?)
            }
            Kind::Nftables => {
                bridge(lab)?;
                let path = std::env::temp_dir().join(format!("{}.nft", lab.mid));
                std::fs::write(&path, RULES)?;
                let loaded = run(&format!(
                    "ip netns exec {} nft -f {}",
                    lab.mid,
                    path.display()
                ));
                std::fs::remove_file(&path)?;
                loaded?;
                Engine::Kernel(lab.received()?)
            }
        };
        if contender.receive == Receive::BoxCore {
            threads.push(lab.thread_lan_port(core)?);
        }
        Ok(Running { threads, engine })
    }

    /// Frames that the box has received: those that got as far as to it, for a box in user space.
    pub fn received(&mut self) -> Result<u64, Failure> {
        match &mut self.engine {
            Engine::Floor(floor) => Ok(floor.received()),
            Engine::Gate(gate) => gate.received(),
            Engine::Kernel(counter) => counter.read(),
        }
    }

    /// Stops it. An error if what it says of itself does not add up.
    pub fn finish(self) -> Result<(), Failure> {
        match &self.engine {
            Engine::Gate(gate) => gate.balanced(),
            _ => Ok(()),
        }
    }
}

/// A bridge over both ports that knows where the destination is, so that it does not flood.
fn bridge(lab: &Lab) -> Result<(), Failure> {
    let Lab {
        mid,
        lan_port,
        uplink_port,
        ..
    } = lab;
    run(&format!("ip -n {mid} link add br0 type bridge stp_state 0"))?;
    run(&format!("ip -n {mid} link set {lan_port} master br0"))?;
    run(&format!("ip -n {mid} link set {uplink_port} master br0"))?;
    run(&format!("ip -n {mid} link set br0 up"))?;
    run(&format!(
        "bridge -n {mid} fdb add 02:00:00:fe:00:01 dev {uplink_port} master static"
    ))
}

/// What is missing to run a contender, if something is.
pub fn missing(contender: &Contender) -> Option<&'static str> {
    let there = |program: &str| {
        Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok()
    };
    (contender.kind == Kind::Nftables && !there("nft"))
        .then_some("nft is not installed (Debian: apt install nftables)")
}
