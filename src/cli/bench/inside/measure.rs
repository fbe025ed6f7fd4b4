//! The gate's loop over ports in memory, timed from the moment a burst waits until it is sent.

use crate::action::reject::Rejector;
use crate::flow::{Express, Flows, Settings, Tracker};
use crate::frame::{Meta, parse_into};
use crate::policy::{Generation, InForce, Key, RuleId, Side};
use crate::port::BURST;
use crate::port::memory::MemoryPort;
use crate::telemetry::counters::FlowCounters;
use crate::telemetry::event;
use crate::worker::Worker;
use af_xdp::{Umem, UmemConfig};
use serde::Serialize;
use std::hint::black_box;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};
use traffic::frames::{Frames, ROOM, Step};
use traffic::mark::{Kind, Mark};
use traffic::policy::Policy;

const SRC: &str = "10.64.0.0/10";
const ENDS: [[u8; 6]; 2] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]];
/// The shortest frame, with FCS.
const SIZE: usize = 64;
/// Bursts that each stage is measured over by itself.
const STAGE: usize = 400;

/// One point. Costs are nanoseconds a frame, in the median of bursts of 64.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Measured {
    pub rules: u32,
    pub flows: u32,
    pub workers: u32,
    /// Frames that were forwarded while it was measured.
    pub frames: u64,
    /// The whole loop, of each worker while all of them run.
    pub loop_ns: f64,
    /// In the quickest tenth of bursts: when nobody else had the processor or its caches.
    pub quick_ns: f64,
    /// Of these: bytes to keys of flows.
    pub parse_ns: f64,
    /// Hash, look-up and update.
    pub flow_ns: f64,
    /// What is left: receiving, counting, sending.
    pub rest_ns: f64,
    /// The rule table, asked about frames that open a flow.
    pub rules_ns: f64,
    /// The whole loop for a frame that opens a flow.
    pub opening_ns: f64,
}

/// A policy, and flows that are open under it.
pub(super) struct Inside {
    rules: u32,
    generation: Arc<Generation>,
    policy: InForce,
    flows: Arc<Flows>,
    /// What the LAN hosts say in open flows, and what opens them.
    out: Vec<Frame>,
    opens: Vec<Frame>,
    opening_ns: f64,
    most: usize,
    began: Instant,
}

/// Bytes of a frame, which is short.
#[derive(Clone, Copy)]
struct Frame {
    bytes: [u8; 96],
    len: u8,
}

impl Frame {
    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl Inside {
    /// Opens so many flows under so many rules, by the loop itself, in a table with room for `table`; for as many workers as the most of `workers`.
    ///
    /// # Errors
    /// In words, where the policy does not compile or a flow does not open.
    pub fn new(
        rules: u32,
        flows: u32,
        table: Option<u32>,
        workers: &[u32],
    ) -> Result<Inside, String> {
        let src = SRC.parse().map_err(|_| "no such prefix".to_string())?;
        let made = Policy::new(rules as usize, src);
        let config = crate::config::parse(&made.toml(None), "bench", Path::new("."))
            .map_err(|e| e.to_string())?;
        let generation = Generation::first(&config.policy).map_err(|e| e.to_string())?;
        let policy = generation.in_force();
        // With a quarter to spare one flow in some millions finds no room.
        let size = match table {
            Some(table) => table.max(flows) as usize,
            None => (flows as usize * 3 / 2).max(Settings::default().size),
        };
        let settings = Settings {
            per_host: size,
            adopt: Duration::ZERO,
            ..Settings::of_size(size)
        };
        let most = workers.iter().copied().max().unwrap_or(1) as usize;
        let all = made.allowed(flows as usize);
        let mut inside = Inside {
            rules,
            generation: policy.load_full(),
            policy,
            flows: Flows::new(&settings),
            out: frames(&all, Step::Out),
            opens: frames(&all, Step::Open),
            opening_ns: 0.0,
            most,
            began: Instant::now(),
        };
        inside.open(&all)?;
        Ok(inside)
    }

    /// A clock as the workers' own: it begins at a second.
    fn now(&self) -> u64 {
        1_000_000_000 + self.began.elapsed().as_nanos() as u64
    }

    fn open(&mut self, all: &[traffic::flow::Flow]) -> Result<(), String> {
        let mut hand = Hand::new(self, 0)?;
        let mut opened = Vec::new();
        let steps = [
            (Step::Open, Side::Lan),
            (Step::Answer, Side::Uplink),
            (Step::Confirm, Side::Lan),
            (Step::Back, Side::Uplink),
        ];
        for (step, side) in steps {
            let frames = frames(all, step);
            for burst in frames.chunks(BURST) {
                let (sent, spent) = hand.turn(burst.iter(), side, self.now())?;
                if sent != burst.len() {
                    let missing = burst.len() - sent;
                    return Err(format!(
                        "{missing} of {} flows did not open: the policy of the bench does not let them through, which is a fault of the bench",
                        burst.len()
                    ));
                }
                if step == Step::Open && sent == BURST {
                    opened.push(spent);
                }
            }
        }
        self.opening_ns = each(&mut opened, 0.5);
        Ok(())
    }

    /// Measures with so many workers at once.
    ///
    /// # Errors
    /// In words, where a frame of an open flow is not forwarded, or a thread ends.
    pub fn measure(&self, workers: u32, duration: Duration) -> Result<Measured, String> {
        let barrier = Barrier::new(workers as usize);
        let cores = core_affinity::get_core_ids().unwrap_or_default();
        let run = |index: usize| {
            if let Some(core) = cores.get(index % cores.len().max(1))
                && workers > 1
            {
                core_affinity::set_for_current(*core);
            }
            let hand = Hand::new(self, index);
            barrier.wait();
            let end = Instant::now() + duration;
            let (mut hand, mut random) = (hand?, Random::new(index));
            let mut spent = Vec::new();
            while Instant::now() < end {
                let burst: [&Frame; BURST] = std::array::from_fn(|_| random.of(&self.out));
                let (sent, took) = hand.turn(burst.into_iter(), Side::Lan, self.now())?;
                if sent != BURST {
                    return Err(format!(
                        "{} frames of open flows were dropped",
                        BURST - sent
                    ));
                }
                spent.push(took);
            }
            Ok(spent)
        };
        let mut all = std::thread::scope(|scope| {
            let run = &run;
            let threads: Vec<_> = (0..workers as usize)
                .map(|index| scope.spawn(move || run(index)))
                .collect();
            let ended = threads.into_iter().map(|thread| {
                let ended = thread.join();
                ended.unwrap_or_else(|_| Err("a worker has ended".into()))
            });
            ended.collect::<Result<Vec<_>, String>>()
        })?
        .concat();
        let frames = (all.len() * BURST) as u64;
        let loop_ns = each(&mut all, 0.5);
        let quick_ns = each(&mut all, 0.1);
        let [parse_ns, flow_ns, rules_ns] = self.stages();
        Ok(Measured {
            rules: self.rules,
            flows: self.out.len() as u32,
            workers,
            frames,
            loop_ns,
            quick_ns,
            parse_ns,
            flow_ns,
            rest_ns: (loop_ns - parse_ns - flow_ns).max(0.0),
            rules_ns,
            opening_ns: self.opening_ns,
        })
    }

    /// Parsing, the table of flows, and the rule table, each by itself.
    fn stages(&self) -> [f64; 3] {
        let mut tracker = self.flows.tracker(0, self.most);
        let number = self.generation.number();
        let counters = FlowCounters::default();
        tracker.tick(self.now(), &counters);
        let mut random = Random::new(7);
        let mut spent: [Vec<u64>; 3] = Default::default();
        let mut express = Express::default();
        let mut first = [RuleId(0); BURST];
        for _ in 0..STAGE {
            let burst: [Frame; BURST] = std::array::from_fn(|_| *random.of(&self.out));
            let start = Instant::now();
            for (at, frame) in burst.iter().enumerate() {
                express.put(at, frame.bytes());
            }
            black_box(express.read::<true, true>(0..BURST));
            spent[0].push(took(start));
            let start = Instant::now();
            look_up(&mut tracker, &mut express, number);
            spent[1].push(took(start));
            let keys: Vec<Key> = (0..BURST)
                .map(|_| {
                    let mut meta = Meta::NONE;
                    let _ = parse_into(random.of(&self.opens).bytes(), &mut meta);
                    Key::new(&meta, Side::Lan)
                })
                .collect();
            let start = Instant::now();
            self.generation.classify(&keys, black_box(&mut first));
            spent[2].push(took(start));
        }
        spent.map(|mut spent| each(&mut spent, 0.5))
    }
}

/// The stages of the table of flows, as the loop goes through them.
fn look_up(tracker: &mut Tracker, burst: &mut Express, generation: u64) {
    tracker.begin();
    tracker.hash_express(burst, 0..BURST, u64::MAX);
    let mut elsewhere = 0u64;
    for at in 0..BURST {
        elsewhere |= u64::from(tracker.seek_express(burst, at)) << at;
    }
    for at in 0..BURST {
        if elsewhere >> at & 1 == 1 {
            tracker.seek_express_elsewhere(burst, at);
        }
    }
    for at in 0..BURST {
        black_box(tracker.pass_express(burst, at, Side::Lan, generation));
    }
}

/// One worker between two ports in memory.
struct Hand {
    worker: Worker<MemoryPort>,
    umem: Umem,
}

impl Hand {
    fn new(inside: &Inside, index: usize) -> Result<Hand, String> {
        let shape = UmemConfig {
            frames: 1024,
            chunk: 4096,
            headroom: 0,
            huge_pages: true,
        };
        let (umem, frames) = Umem::new(&shape).map_err(|e| e.to_string())?;
        let port = || vec![MemoryPort::with_capacity(1024)];
        let worker = Worker::new(
            umem.clone(),
            frames,
            [port(), port()],
            Arc::clone(&inside.policy),
            inside.flows.tracker(index, inside.most),
            Rejector::new(),
            event::ring(4096),
        );
        Ok(Hand { worker, umem })
    }

    /// A burst from one side; how many frames were sent on the other, and how long it took, nanoseconds.
    fn turn<'a>(
        &mut self,
        burst: impl Iterator<Item = &'a Frame>,
        side: Side,
        now: u64,
    ) -> Result<(usize, u64), String> {
        for frame in burst {
            let mut free = self.worker.pool().pop().ok_or("no frame is free")?;
            let written = self.umem.write(&mut free, frame.bytes());
            written.map_err(|e| e.to_string())?;
            self.worker.ports(side)[0].arriving.push_back(free);
        }
        let start = Instant::now();
        self.worker.turn(now);
        let spent = took(start);
        let port = &mut self.worker.ports(side.other())[0];
        let sent = port.sent.len();
        port.finish();
        Ok((sent, spent))
    }
}

fn frames(flows: &[traffic::flow::Flow], step: Step) -> Vec<Frame> {
    let built = Frames::build(flows, &ENDS, step, SIZE);
    let mark = Mark {
        kind: Kind::Counted,
        trial: 1,
        sequence: 1,
        time: 1,
    };
    let mut room = [0; ROOM];
    let one = |at| {
        let len = built.write(at, &mark, &mut room);
        let mut bytes = [0; 96];
        let len = len.min(bytes.len());
        bytes[..len].copy_from_slice(&room[..len]);
        Frame {
            bytes,
            len: len as u8,
        }
    };
    (0..flows.len()).map(one).collect()
}

fn took(start: Instant) -> u64 {
    start.elapsed().as_nanos() as u64
}

/// Nanoseconds a frame at this part of the bursts, sorted.
fn each(spent: &mut [u64], part: f64) -> f64 {
    spent.sort_unstable();
    let at = (spent.len() as f64 * part) as usize;
    spent
        .get(at)
        .map_or(0.0, |took| *took as f64 / BURST as f64)
}

/// A small generator with a seed (xorshift, Marsaglia 2003).
struct Random(u64);

impl Random {
    fn new(seed: usize) -> Random {
        Random(0x9e37_79b9_7f4a_7c15 ^ seed as u64)
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let at = (u128::from(self.0) * all.len() as u128) >> 64;
        &all[at as usize]
    }
}
