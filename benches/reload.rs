//! What a reload costs a worker: the turn in which it takes another policy, beside those in which it does not.
//!
//! `cargo bench --bench reload`. A worker over ports in memory takes bursts of 64 frames without a pause, pinned to one core; on another core a set of 100,000 prefixes is read and
//! compiled and put into force again and again. Every turn is timed. What a machine that is shared does to a turn (a core that is lent to others for milliseconds) is in all of
//! them, so the medians are what there is to compare, and the longest are told beside how many of each kind there were.

use af_xdp::{Umem, UmemConfig};
use etherparse::PacketBuilder;
use portcullis::action::reject::Rejector;
use portcullis::control::keeper::Keeper;
use portcullis::flow::{Flows, Settings};
use portcullis::policy::{AddrRange, Side};
use portcullis::port::memory::MemoryPort;
use portcullis::telemetry::event;
use portcullis::worker::Worker;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const PREFIXES: u32 = 100_000;
const BURST: u16 = 64;
/// How long each part takes.
const PART: Duration = Duration::from_secs(8);

/// 100,000 prefixes of 24 bits, other ones for another `form`.
fn prefixes(form: u32) -> Vec<AddrRange> {
    let range = |n: u32| {
        let first = 0x1400_0000 + (n * 2 + form % 2) * 256;
        AddrRange::between(
            Ipv4Addr::from(first).into(),
            Ipv4Addr::from(first + 255).into(),
        )
    };
    (0..PREFIXES).filter_map(range).collect()
}

fn frames() -> Vec<Vec<u8>> {
    let frame = |n: u16| {
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2, 0, 0, 1, 0, 9], [2, 0, 0, 0, 0, 1])
            .ipv4([10, 77, 0, 9], [93, 184, (n >> 8) as u8, n as u8], 64)
            .udp(40_000, 123)
            .write(&mut frame, &[0; 18])
            .unwrap();
        frame
    };
    (0..BURST).map(frame).collect()
}

/// Times of turns, nanoseconds.
#[derive(Default)]
struct Times(Vec<u32>);

impl Times {
    fn tell(&mut self, what: &str) {
        self.0.sort_unstable();
        let at = |share: f64| {
            let index =
                ((self.0.len() as f64 * share) as usize).min(self.0.len().saturating_sub(1));
            self.0.get(index).map_or(0.0, |ns| f64::from(*ns) / 1000.0)
        };
        let over = self.0.iter().filter(|ns| **ns > 100_000).count();
        println!(
            "{what:<52} {:>9} turns  median {:>7.2} us  p99 {:>7.2}  p99.9 {:>7.2}  longest {:>8.1}  over 100 us: {over} ({:.4} %)",
            self.0.len(),
            at(0.5),
            at(0.99),
            at(0.999),
            at(1.0),
            100.0 * over as f64 / self.0.len().max(1) as f64
        );
    }
}

fn main() {
    let text = "[policy]\nprofile = \"none\"\n[lan]\nprefixes = [\"10.77.0.0/16\"]\n[sets]\nbad = []\n[[rule]]\nname = \"bad\"\ndst = \"@bad\"\naction = \"drop\"\n";
    let config = portcullis::config::parse(text, "bench", Path::new(".")).unwrap();
    let mut keeper = Keeper::new(config.policy.clone(), Vec::new()).unwrap();
    let set = config
        .policy
        .sets
        .iter()
        .position(|set| set.name == "bad")
        .unwrap();
    keeper.replace_set(set, prefixes(0)).unwrap();
    let in_force = keeper.in_force();
    let (umem, pool) = Umem::new(&UmemConfig {
        frames: 1024,
        chunk: 2048,
        headroom: 0,
        huge_pages: false,
    })
    .unwrap();
    let ports = [
        vec![MemoryPort::with_capacity(1024)],
        vec![MemoryPort::with_capacity(1024)],
    ];
    let flows = Flows::new(&Settings::of_size(100_000));
    let mut worker = Worker::new(
        umem,
        pool,
        ports,
        Arc::clone(&in_force),
        flows.tracker(0, 1),
        Rejector::new(),
        event::ring(64),
    );
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    if let Some(core) = cores.first() {
        core_affinity::set_for_current(*core);
    }
    let frames = frames();
    let (stop, compiling) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    // One part without, one with.
    let mut alone = Times::default();
    let mut now = 1u64 << 40;
    let end = Instant::now() + PART;
    while Instant::now() < end {
        alone.0.push(turn(&mut worker, &frames, &mut now));
    }
    let reloads = {
        let (stop, compiling) = (Arc::clone(&stop), Arc::clone(&compiling));
        let other = cores.last().copied();
        std::thread::spawn(move || {
            if let Some(core) = other {
                core_affinity::set_for_current(core);
            }
            let mut times = Vec::new();
            let mut form = 1;
            while !stop.load(Relaxed) {
                let ranges = prefixes(form);
                form += 1;
                let start = Instant::now();
                compiling.store(1, Relaxed);
                keeper.replace_set(set, ranges).unwrap();
                compiling.store(0, Relaxed);
                times.push(start.elapsed());
                while keeper.sweep() {
                    std::thread::sleep(Duration::from_millis(1));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            times
        })
    };
    let (mut beside, mut taking, mut number) =
        (Times::default(), Times::default(), in_force.load().number());
    let end = Instant::now() + PART;
    while Instant::now() < end {
        let busy = compiling.load(Relaxed) == 1;
        let time = turn(&mut worker, &frames, &mut now);
        let is = in_force.load().number();
        if std::mem::replace(&mut number, is) != is {
            // Seen by this turn, or by the next.
            taking
                .0
                .push(time.max(turn(&mut worker, &frames, &mut now)));
        } else if busy {
            beside.0.push(time);
        }
    }
    stop.store(true, Relaxed);
    // What a policy held is let go only once no worker reads it: the worker goes on until then.
    while !reloads.is_finished() {
        turn(&mut worker, &frames, &mut now);
    }
    let mut times = reloads.join().unwrap();
    times.sort_unstable();
    alone.tell("nothing beside");
    beside.tell("while a policy is compiled on another core");
    taking.tell("the turn that takes a new policy, flows judged again");
    println!(
        "{} reloads of a set of {PREFIXES} prefixes: median {:.1} ms, longest {:.1} ms to compile and put into force",
        times.len(),
        times[times.len() / 2].as_secs_f64() * 1e3,
        times.last().map_or(0.0, Duration::as_secs_f64) * 1e3
    );
}

/// A burst from the LAN, judged and sent: nanoseconds.
fn turn(worker: &mut Worker<MemoryPort>, frames: &[Vec<u8>], now: &mut u64) -> u32 {
    let umem = worker.umem().clone();
    for frame in frames {
        let mut token = worker.pool().pop().unwrap();
        umem.write(&mut token, frame).unwrap();
        worker.ports(Side::Lan)[0].arriving.push_back(token);
    }
    *now += 10_000;
    let start = Instant::now();
    worker.turn(*now);
    let time = start.elapsed();
    for side in Side::BOTH {
        worker.ports(side)[0].finish();
    }
    time.as_nanos().min(u32::MAX.into()) as u32
}
