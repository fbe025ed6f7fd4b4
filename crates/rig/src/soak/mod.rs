//! A long run with all that goes wrong in the life of a box: reloads, sets that change, links that flap, floods, malformed frames, stops and kills, while traffic goes on.
//!
//! The run has two parts. In the first the gate is killed now and then; in the second it lives on to the end, and has to hold what it promises: its memory stays flat, and every frame
//! that the XDP program has seen is in its account.

mod trouble;

pub use trouble::Trouble;

use crate::drill::{Stream, Traffic};
use crate::process::must;
use crate::{Error, Gate, GateKind, Result, Rig, check_interrupt};
use serde::Serialize;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_secs(2);
/// What is under way at the end arrives, and what waits in rings is dealt with.
const SETTLES: Duration = Duration::from_secs(20);
/// Memory that a life may take on from its middle to its end, kB: an allocator keeps what it was given once.
const GROWTH: u64 = 8 * 1024;

/// What a run has shown.
#[derive(Debug, Default, Serialize)]
pub struct Soaked {
    /// Seconds.
    pub seconds: u64,
    /// Troubles made, by name.
    pub troubles: std::collections::BTreeMap<&'static str, u64>,
    /// Starts of the gate.
    pub starts: u64,
    /// Resident memory of the second part, kB: the most of its first half, and of its second.
    pub memory_kb: [u64; 2],
    /// Of the second part, by side: frames that the XDP program saw, and those in the gate's account.
    pub accounts: [(u64, u64); 2],
    /// Allowed datagrams that arrived.
    pub allowed: u64,
    /// Frames received on both sides in the second part.
    pub received: u64,
    /// What was not as promised, a line each.
    pub faults: Vec<String>,
}

/// Numbers that look random and are the same in every run of one seed.
pub(crate) struct Random(u64);

impl Random {
    /// Below `bound`, which is not 0.
    fn below(&mut self, bound: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// Counters of one side at one moment: frames that the XDP program has seen since the cable was laid, and those in the account of this process and of the gate in the kernel.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Seen {
    frames: u64,
    account: u64,
    received: u64,
}

/// Runs for `length`. `tell` is called now and then with what is going on.
///
/// # Errors
/// That the rig or the gate does not work at all; what is not as promised stands in the answer.
pub fn soak(bin: &Path, length: Duration, seed: u64, mut tell: impl FnMut(&str)) -> Result<Soaked> {
    let rig = Rig::new()?;
    let config = trouble::config(&rig, 0);
    let kind = GateKind::Portcullis {
        bin: bin.to_owned(),
        config,
    };
    let mut gate = Gate::start(&rig, kind)?;
    let traffic = Traffic::start(&rig)?;
    let mut random = Random(seed);
    let mut soaked = Soaked {
        starts: 1,
        ..Soaked::default()
    };
    let start = Instant::now();
    let first = length / 3;
    while start.elapsed() < first {
        check_interrupt()?;
        traffic.begin();
        let trouble = Trouble::any(&mut random, true);
        make(trouble, &rig, &mut gate, bin, &mut random, &mut soaked)?;
        soaked.passed(&traffic.end());
    }
    tell(&format!(
        "the first part is over, after {} starts",
        soaked.starts
    ));
    let before = settled(&rig, &gate)?.0;
    let pid = gate.daemon().map(|daemon| daemon.pid()).unwrap_or_default();
    let (mut samples, mut sampled) = (Vec::new(), Instant::now());
    let second = Instant::now();
    while second.elapsed() < length - first {
        check_interrupt()?;
        traffic.begin();
        let trouble = Trouble::any(&mut random, false);
        make(trouble, &rig, &mut gate, bin, &mut random, &mut soaked)?;
        soaked.passed(&traffic.end());
        if sampled.elapsed() > SAMPLE {
            sampled = Instant::now();
            samples.push(resident(pid)?);
            if samples.len().is_multiple_of(60) {
                tell(&format!(
                    "{} s, {} kB",
                    start.elapsed().as_secs(),
                    samples.last().copied().unwrap_or(0)
                ));
            }
        }
    }
    drop(traffic);
    samples.push(resident(pid)?);
    let (after, status) = settled(&rig, &gate)?;
    soaked.seconds = start.elapsed().as_secs();
    soaked.judge(&samples, [before, after], &status);
    if gate.daemon().is_none_or(|daemon| daemon.pid() != pid) {
        soaked
            .faults
            .push("the gate did not live through the second part".into());
    }
    gate.stop()?;
    Ok(soaked)
}

fn make(
    trouble: Trouble,
    rig: &Rig,
    gate: &mut Gate<'_>,
    bin: &Path,
    random: &mut Random,
    soaked: &mut Soaked,
) -> Result<()> {
    let started = trouble.make(rig, gate, bin, random)?;
    soaked.starts += u64::from(started);
    *soaked.troubles.entry(trouble.name()).or_default() += 1;
    Ok(())
}

impl Soaked {
    /// Counts the datagrams of one stretch: allowed ones that arrived, and forbidden ones that must not have.
    fn passed(&mut self, [allowed, forbidden]: &[Stream; 2]) {
        let arrived =
            |stream: &Stream| stream.frames().filter(|(_, got)| got.is_some()).count() as u64;
        self.allowed += arrived(allowed);
        let leaked = arrived(forbidden);
        if leaked > 0 {
            self.faults
                .push(format!("{leaked} forbidden frames got through"));
        }
    }

    fn judge(&mut self, samples: &[u64], [before, after]: [[Seen; 2]; 2], status: &Value) {
        let (early, late) = samples.split_at(samples.len() / 2);
        self.memory_kb = [early, late].map(|half| half.iter().copied().max().unwrap_or(0));
        if self.memory_kb[1] > self.memory_kb[0] + GROWTH {
            self.faults.push(format!(
                "memory grew from {} to {} kB",
                self.memory_kb[0], self.memory_kb[1]
            ));
        }
        for (at, side) in ["lan", "uplink"].into_iter().enumerate() {
            let port = &status["ports"][side];
            let seen = after[at].frames - before[at].frames;
            let account = after[at].account - before[at].account;
            self.accounts[at] = (seen, account);
            self.received += after[at].received - before[at].received;
            if seen != account {
                self.faults.push(format!(
                    "{side}: the XDP program saw {seen} frames, the account has {account}"
                ));
            }
            if port["balanced"] != true {
                self.faults.push(format!("{side} does not balance: {port}"));
            }
        }
    }
}

/// The counters, and the gate's own, once nothing is under way.
fn settled(rig: &Rig, gate: &Gate<'_>) -> Result<([Seen; 2], Value)> {
    let deadline = Instant::now() + SETTLES;
    let mut last = None;
    loop {
        let status = gate.json()?;
        let seen = [("lan", Rig::LAN_PORT), ("uplink", Rig::UPLINK_PORT)].map(|(side, port)| {
            let of = &status["ports"][side];
            let n = |value: &Value| value.as_u64().unwrap_or(0);
            let received = n(&of["rx"]);
            let account = received
                + n(&of["gate_no_socket"])
                + n(&of["gate_stale"])
                + n(&of["kernel"]["rx_dropped"])
                + n(&of["kernel"]["rx_ring_full"]);
            xdp_packets(rig, port).map(|frames| Seen {
                frames,
                account,
                received,
            })
        });
        let [lan, uplink] = seen;
        let now = [lan?, uplink?];
        let quiet = last == Some(now) && status["balanced"] == true;
        if quiet || Instant::now() > deadline {
            return Ok((now, status));
        }
        last = Some(now);
        std::thread::sleep(Duration::from_millis(300));
    }
}

/// Frames that the XDP program of a port has seen (ethtool(8), -S).
fn xdp_packets(rig: &Rig, port: &str) -> Result<u64> {
    let text = must(rig.gate.command("ethtool").args(["-S", port]), "")?;
    let counts = text.lines().filter(|line| line.contains("_xdp_packets:"));
    Ok(counts
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum())
}

/// Resident memory, kB.
fn resident(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(Error::io(format!("reading {path}")))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kb = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
    kb.ok_or_else(|| Error::Answer {
        what: path,
        said: "no VmRSS".into(),
    })
}
