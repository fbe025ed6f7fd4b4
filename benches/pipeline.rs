//! The whole loop of a worker over ports in memory: what user space adds to a frame.
//!
//! `cargo bench --bench pipeline`. A round is 64 frames of 60 bytes (seeded), received, judged and sent; divide by 64 for a frame. `forward` and
//! `drop-and-alert` are 4,096 flows under the baseline; `rules-1000` are open connections, 10,000 and a million of them, under the
//! baseline and 1,000 rules.

use af_xdp::{Umem, UmemConfig};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use portcullis::action::reject::Rejector;
use portcullis::flow::{Flows, Settings};
use portcullis::policy::{Generation, Side};
use portcullis::port::memory::MemoryPort;
use portcullis::telemetry::{EventRing, event, observe};
use portcullis::worker::Worker;
use std::path::Path;
use std::sync::Arc;

const ROUND: usize = 64;
const FLOWS: u64 = 4096;

/// A small generator with a fixed seed (splitmix64), so that every run sees the same flows.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[(self.next() % from.len() as u64) as usize]
    }
}

/// Ordinary traffic of an office: mostly web, some DNS and QUIC.
fn office(seeded: &mut Seeded) -> Vec<u8> {
    let host = [10, 77, 0, 10 + (seeded.next() % 64) as u8];
    let server = [
        93,
        seeded.next() as u8,
        seeded.next() as u8,
        1 + (seeded.next() % 250) as u8,
    ];
    let port = 32_768 + (seeded.next() % 28_000) as u16;
    let step = PacketBuilder::ethernet2([2, 0, 0, 1, 0, host[3]], [2, 0, 0, 0, 0, 1])
        .ipv4(host, server, 64);
    let mut frame = Vec::new();
    if seeded.next() % 10 < 7 {
        step.tcp(port, seeded.pick(&[443, 443, 443, 80]), 1, 1024)
            .ack(1)
            .write(&mut frame, &[0; 6])
            .unwrap();
    } else {
        step.udp(port, seeded.pick(&[53, 443]))
            .write(&mut frame, &[0; 18])
            .unwrap();
    }
    frame
}

/// A flood that the baseline drops and alerts on.
fn tftp(seeded: &mut Seeded) -> Vec<u8> {
    let host = [10, 77, 0, 10 + (seeded.next() % 64) as u8];
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 1, 0, host[3]], [2, 0, 0, 0, 0, 1])
        .ipv4(host, [93, 184, 216, 34], 64)
        .udp(40_000, 69)
        .write(&mut frame, &[0; 18])
        .unwrap();
    frame
}

/// The same of one machine, to one destination.
fn one_host(seeded: &mut Seeded) -> Vec<u8> {
    let mut frame = tftp(seeded);
    frame[11] = 9;
    frame[26..30].copy_from_slice(&[10, 77, 0, 9]);
    frame
}

/// Flow `n` of many: an open connection, or its opening.
fn connection(
    n: u32,
    side: Side,
    seq: u32,
    flags: fn(Segment) -> Segment,
    payload: &[u8],
) -> Vec<u8> {
    let host = (0x0a4d_0000 + 2 + n % 4000).to_be_bytes();
    let server = (0x5db8_d800 + n % 251).to_be_bytes();
    let link = PacketBuilder::ethernet2([2, 0, 0, 1, 0, 9], [2, 0, 0, 0, 0, 1]);
    let (here, there) = ((1024 + n / 4000) as u16, 443);
    let step = match side {
        Side::Lan => link.ipv4(host, server, 64).tcp(here, there, seq, 1024),
        Side::Uplink => link.ipv4(server, host, 64).tcp(there, here, seq, 1024),
    };
    let mut frame = Vec::new();
    flags(step).write(&mut frame, payload).unwrap();
    frame
}

type Segment = etherparse::PacketBuilderStep<etherparse::TcpHeader>;

/// The worker of a gate in memory.
fn worker(config: &str) -> (Worker<MemoryPort>, EventRing) {
    let (umem, frames) = Umem::new(&UmemConfig {
        frames: 1024,
        chunk: 4096,
        headroom: 0,
        huge_pages: true,
    })
    .unwrap();
    let ports = [
        vec![MemoryPort::with_capacity(1024)],
        vec![MemoryPort::with_capacity(1024)],
    ];
    let config = portcullis::config::parse(config, "bench", Path::new(".")).unwrap();
    let policy = Generation::first(&config.policy).unwrap().in_force();
    let ring = event::ring(4096);
    let settings = Settings {
        per_host: 1_000_000,
        ..Settings::default()
    };
    let worker = Worker::new(
        umem,
        frames,
        ports,
        policy,
        Flows::new(&settings).tracker(0, 1),
        Rejector::new(),
        Arc::clone(&ring),
    );
    (worker, ring)
}

/// 1,000 rules that name servers and ports elsewhere.
fn rules() -> String {
    let mut seeded = Seeded(7);
    let mut text = String::from("[lan]\nprefixes = [\"10.77.0.0/16\"]\n");
    for n in 0..1000 {
        let net = seeded.next() as u16 as u32;
        text += &format!(
            "[[rule]]\nname = \"r{n}\"\nproto = \"tcp\"\ndst = \"{}.{}.{}.0/24\"\ndport = {}\naction = \"drop\"\n",
            20 + n % 60,
            net >> 8,
            net & 255,
            1 + seeded.next() % 60_000
        );
    }
    text
}

/// Puts a frame in and takes a turn, untimed.
fn once(worker: &mut Worker<MemoryPort>, side: Side, frame: &[u8]) {
    let mut token = worker.pool().pop().unwrap();
    let umem = worker.umem().clone();
    umem.write(&mut token, frame).unwrap();
    worker.ports(side)[0].arriving.push_back(token);
    worker.turn(1 << 40);
    for side in Side::BOTH {
        worker.ports(side)[0].finish();
    }
}

/// Open connections under 1,000 rules.
fn stateful(c: &mut Criterion, name: &str, flows: u32, observed: bool) {
    let (mut worker, _ring) = worker(&rules());
    let seen = observe::rings(observed.into(), 8192).pop();
    if let Some(ring) = &seen {
        worker = worker.observing(Arc::clone(ring));
    }
    for n in 0..flows {
        let mut say = |side, seq, flags: fn(Segment) -> Segment, payload: &[u8]| {
            let frame = connection(n, side, seq, flags, payload);
            once(&mut worker, side, &frame);
        };
        say(Side::Lan, 1, |step| step.syn(), b"");
        say(Side::Uplink, 1, |step| step.syn().ack(2), b"");
        say(Side::Lan, 2, |step| step.ack(2), b"GET / HTTP/1.1\r\n");
        say(Side::Uplink, 2, |step| step.ack(18), b"");
    }
    let mut seeded = Seeded(1);
    let mut group = c.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(ROUND as u64));
    group.bench_function(name, |b| {
        b.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                for _ in 0..ROUND {
                    let n = (seeded.next() % u64::from(flows)) as u32;
                    let mut frame = worker.pool().pop().unwrap();
                    let umem = worker.umem().clone();
                    let segment = connection(n, Side::Lan, 18, |step| step.ack(2), &[0; 6]);
                    umem.write(&mut frame, &segment).unwrap();
                    worker.ports(Side::Lan)[0].arriving.push_back(frame);
                }
                let start = std::time::Instant::now();
                worker.turn((1 << 40) + 1);
                spent += start.elapsed();
                worker.ports(Side::Uplink)[0].finish();
                worker.turn((1 << 40) + 1);
                while seen.as_ref().and_then(|ring| ring.pop()).is_some() {}
            }
            spent
        });
    });
    group.finish();
}

fn rounds(c: &mut Criterion, name: &str, make: fn(&mut Seeded) -> Vec<u8>, rules: &str) {
    let config = format!("[lan]\nprefixes = [\"10.77.0.0/24\"]\n{rules}");
    let (mut worker, ring) = worker(&config);
    let mut seeded = Seeded(1);
    let flows: Vec<_> = (0..FLOWS).map(|_| make(&mut seeded)).collect();
    let mut at = 0;
    let mut group = c.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(ROUND as u64));
    group.bench_function(name, |b| {
        // Filling and emptying the ports is not part of the loop, so only the turn is timed.
        b.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            for _ in 0..rounds {
                for _ in 0..ROUND {
                    let mut frame = worker.pool().pop().unwrap();
                    let umem = worker.umem().clone();
                    umem.write(&mut frame, &flows[at % flows.len()]).unwrap();
                    worker.ports(Side::Lan)[0].arriving.push_back(frame);
                    at += 1;
                }
                let start = std::time::Instant::now();
                worker.turn(1);
                spent += start.elapsed();
                worker.ports(Side::Uplink)[0].finish();
                worker.turn(1);
                while ring.pop().is_some() {}
            }
            spent
        });
    });
    group.finish();
}

fn pipeline(c: &mut Criterion) {
    rounds(c, "forward", office, "");
    rounds(c, "drop-and-alert", tftp, "");
    rounds(c, "drop-and-alert-one-host", one_host, "");
    let silent = "[[rule]]\nname = \"tftp\"\nalert = \"none\"\n";
    rounds(c, "drop-one-host", one_host, silent);
    stateful(c, "rules-1000-flows-10k", 10_000, false);
    stateful(c, "rules-1000-flows-10k-observed", 10_000, true);
    stateful(c, "rules-1000-flows-1M", 1_000_000, false);
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
