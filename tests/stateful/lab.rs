//! A gate in memory: any number of workers over one flow table, and frames to send through them.

use af_xdp::{Umem, UmemConfig};
use etherparse::{PacketBuilder, PacketBuilderStep, TcpHeader};
use portcullis::action::reject::Rejector;
use portcullis::config;
use portcullis::control::snapshot::Snapshot;
use portcullis::flow::{Flows, Settings};
use portcullis::policy::{Generation, InForce, Policy, Side};
use portcullis::port::memory::MemoryPort;
use portcullis::telemetry::{Cause, Event, EventRing, event};
use portcullis::worker::{Host, LONGEST_HELD, Worker};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub const SECOND: u64 = 1_000_000_000;
const FRAMES: u32 = 512;

pub struct Lab {
    pub workers: Vec<Worker<MemoryPort>>,
    rings: Vec<EventRing>,
    pub in_force: InForce,
    pub policy: Policy,
    pub flows: Arc<Flows>,
    pub now: u64,
}

/// The policy of a config's text.
pub fn policy(text: &str) -> Policy {
    match config::parse(text, "test", Path::new(".")) {
        Ok(config) => config.policy,
        Err(error) => panic!("{error}"),
    }
}

/// Room for 10,000 flows, and no time in which connections are adopted.
pub fn settings() -> Settings {
    Settings {
        adopt: Duration::ZERO,
        ..Settings::of_size(10_000)
    }
}

impl Lab {
    /// One worker, the policy of this config.
    pub fn new(text: &str) -> Lab {
        Lab::with(text, &settings(), 1)
    }

    pub fn with(text: &str, settings: &Settings, workers: usize) -> Lab {
        let policy = policy(text);
        let in_force = Generation::first(&policy).unwrap().in_force();
        let flows = Flows::new(settings);
        let rings: Vec<_> = (0..workers).map(|_| event::ring(4096)).collect();
        let worker = |index: usize| {
            let config = UmemConfig {
                frames: FRAMES,
                chunk: 2048,
                headroom: 0,
                huge_pages: false,
            };
            let (umem, frames) = Umem::new(&config).unwrap();
            let port = || vec![MemoryPort::with_capacity(FRAMES as usize)];
            Worker::new(
                umem,
                frames,
                [port(), port()],
                Arc::clone(&in_force),
                flows.tracker(index, workers),
                Rejector::new(),
                Arc::clone(&rings[index]),
            )
        };
        let mut lab = Lab {
            workers: (0..workers).map(worker).collect(),
            rings: rings.clone(),
            in_force: Arc::clone(&in_force),
            policy,
            flows: Arc::clone(&flows),
            now: 1000 * SECOND,
        };
        lab.turn();
        lab
    }

    /// The first worker has a way to a stack of the box's own.
    pub fn with_host(mut self, host: Host) -> Lab {
        let first = self.workers.remove(0);
        self.workers.insert(0, first.with_host(host));
        self
    }

    /// Puts the next generation in force: the same rules, changed by `change`.
    pub fn reload(&mut self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.policy);
        let over = vec![false; self.policy.rules.len()];
        let next = self.in_force.load().next(&self.policy, &over).unwrap();
        self.in_force.store(Arc::new(next));
    }

    pub fn arrive(&mut self, worker: usize, side: Side, frame: &[u8]) {
        let worker = &mut self.workers[worker];
        let mut token = worker.pool().pop().expect("a free frame");
        let umem = worker.umem().clone();
        umem.write(&mut token, frame).unwrap();
        worker.ports(side)[0].arriving.push_back(token);
    }

    /// A turn of every worker.
    pub fn turn(&mut self) {
        self.now += 50_000;
        for worker in &mut self.workers {
            while worker.turn(self.now) > 0 {}
        }
    }

    /// What was sent on this side since the last time.
    pub fn sent(&mut self, side: Side) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for worker in &mut self.workers {
            let umem = worker.umem().clone();
            let port = &mut worker.ports(side)[0];
            all.extend(port.sent.iter().map(|frame| umem.bytes(frame).to_vec()));
            port.finish();
        }
        all
    }

    /// Sends one frame through a worker. True if it came out of the other side, unchanged; what else came out is lost.
    pub fn passes_by(&mut self, worker: usize, side: Side, frame: &[u8]) -> bool {
        self.arrive(worker, side, frame);
        self.turn();
        let out = self.sent(side.other());
        assert!(
            out.iter().all(|sent| sent == frame),
            "something else came out"
        );
        self.sent(side);
        self.turn();
        out.len() == 1
    }

    pub fn passes(&mut self, side: Side, frame: &[u8]) -> bool {
        self.passes_by(0, side, frame)
    }

    /// From the inside.
    pub fn out(&mut self, frame: &[u8]) -> bool {
        self.passes(Side::Lan, frame)
    }

    /// From the outside.
    pub fn back(&mut self, frame: &[u8]) -> bool {
        self.passes(Side::Uplink, frame)
    }

    pub fn wait(&mut self, time: Duration) {
        self.now += time.as_nanos() as u64;
        self.turn();
    }

    /// Until nothing waits for a fragment any more.
    pub fn settle(&mut self) {
        self.wait(Duration::from_nanos(LONGEST_HELD));
        for side in Side::BOTH {
            self.sent(side);
        }
        self.turn();
    }

    /// The counters, which add up.
    pub fn snapshot(&mut self) -> Snapshot {
        let counters: Vec<_> = self.workers.iter().map(Worker::counters).collect();
        let snapshot = Snapshot::take(&counters, &self.in_force.load(), &[]);
        if self.workers.iter().all(|worker| worker.waiting() == 0) {
            assert!(snapshot.balanced(), "{snapshot:?}");
        }
        snapshot
    }

    /// Frames dropped for this reason, of both sides.
    pub fn dropped(&mut self, reason: &str) -> u64 {
        let snapshot = self.snapshot();
        let of = |side: Side| snapshot.sides[side as usize].dropped.get(reason).copied();
        Side::BOTH.into_iter().filter_map(of).sum()
    }

    /// Sends a frame that must be dropped for just this reason.
    #[track_caller]
    pub fn drops(&mut self, side: Side, frame: &[u8], reason: &str) {
        let before = self.dropped(reason);
        assert!(!self.passes(side, frame), "it passed");
        let snapshot = self.snapshot();
        assert_eq!(
            self.dropped(reason),
            before + 1,
            "for {reason}: {:?}",
            snapshot.sides
        );
    }

    /// The names of the rules that have alerted since the last time.
    pub fn alerts(&mut self) -> Vec<String> {
        let events = self.events();
        let rules = self.in_force.load();
        let name = |event: &Event| match event.cause {
            Cause::Rule(rule) => rules.rules()[rule.index()].name.clone(),
            Cause::Reason(reason) => reason.name().to_owned(),
            Cause::Behaviour(behaviour) => behaviour.name().to_owned(),
        };
        events.iter().map(name).collect()
    }

    /// The alerts since the last time, one for each frame that made one.
    pub fn events(&mut self) -> Vec<Event> {
        for worker in &mut self.workers {
            worker.tell_rest(self.now);
        }
        self.rings
            .iter()
            .flat_map(|ring| std::iter::from_fn(|| ring.pop()))
            .flat_map(|event| std::iter::repeat_n(event, event.frames as usize))
            .collect()
    }
}

/// A small generator with a fixed seed (splitmix64).
pub struct Seeded(pub u64);

impl Seeded {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// One end of a flow.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub ip: IpAddr,
    pub port: u16,
}

/// `10.77.0.9:40000` or `[fd77::9]:40000`.
pub fn end(text: &str) -> End {
    let socket: std::net::SocketAddr = text.parse().unwrap();
    End {
        ip: socket.ip(),
        port: socket.port(),
    }
}

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];

pub fn ip(src: IpAddr, dst: IpAddr) -> PacketBuilderStep<etherparse::IpHeaders> {
    let link = PacketBuilder::ethernet2(HOST, ROUTER);
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => link.ipv4(src.octets(), dst.octets(), 64),
        (IpAddr::V6(src), IpAddr::V6(dst)) => link.ipv6(src.octets(), dst.octets(), 64),
        _ => panic!("two families"),
    }
}

pub fn udp(src: &str, dst: &str) -> Vec<u8> {
    udp_with(src, dst, b"some data")
}

pub fn udp_with(src: &str, dst: &str, payload: &[u8]) -> Vec<u8> {
    let (src, dst) = (end(src), end(dst));
    let mut frame = Vec::new();
    let step = ip(src.ip, dst.ip).udp(src.port, dst.port);
    step.write(&mut frame, payload).unwrap();
    frame
}

/// A segment with these flags, as in byte 13 of the header.
pub fn tcp(src: &str, dst: &str, flags: u8, seq: u32, ack: u32) -> Vec<u8> {
    tcp_with(src, dst, flags, (seq, ack), &[])
}

pub fn tcp_with(
    src: &str,
    dst: &str,
    flags: u8,
    (seq, ack): (u32, u32),
    payload: &[u8],
) -> Vec<u8> {
    let (src, dst) = (end(src), end(dst));
    let bit = |at: u8| flags >> at & 1 == 1;
    let header = TcpHeader {
        acknowledgment_number: ack,
        fin: bit(0),
        syn: bit(1),
        rst: bit(2),
        psh: bit(3),
        ack: bit(4),
        urg: bit(5),
        ..TcpHeader::new(src.port, dst.port, seq, 1000)
    };
    let mut frame = Vec::new();
    ip(src.ip, dst.ip)
        .tcp_header(header)
        .write(&mut frame, payload)
        .unwrap();
    frame
}

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;

/// An ICMP or ICMPv6 message, by the family: type and code, then what follows the checksum.
pub fn icmp(src: &str, dst: &str, kind: u8, code: u8, rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let (src, dst): (IpAddr, IpAddr) = (src.parse().unwrap(), dst.parse().unwrap());
    let mut frame = Vec::new();
    match src {
        IpAddr::V4(_) => ip(src, dst)
            .icmpv4_raw(kind, code, rest)
            .write(&mut frame, payload),
        IpAddr::V6(_) => ip(src, dst)
            .icmpv6_raw(kind, code, rest)
            .write(&mut frame, payload),
    }
    .unwrap();
    frame
}

/// The packet in a frame, without its link header.
pub fn packet(frame: &[u8]) -> &[u8] {
    &frame[14..]
}
