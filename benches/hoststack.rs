//! What a flood at the box's own address costs the frames that are forwarded.
//!
//! `cargo bench --bench hoststack`. A round is 48 frames of the baseline's ordinary traffic, received, judged and sent, by the real clock; the stack runs on a thread of its own. `own-address` has
//! an address and nobody speaks to it. In the floods one host sends pings to it, 5 and 50 times what all hosts together may (`[inband] rate`, 5,000 frames a second): more frames
//! than the 48 are in such a round, and what they take is part of it. `same-flood-forbidden` is the last, addressed to a port elsewhere that the baseline forbids.

use af_xdp::{Umem, UmemConfig};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use portcullis::action::reject::Rejector;
use portcullis::flow::{Flows, Settings};
use portcullis::hoststack::decoy::{self, Hall};
use portcullis::hoststack::inband::{self, Inband};
use portcullis::hoststack::{ROOM, Stack, Thread, rings};
use portcullis::policy::{Generation, Side};
use portcullis::port::memory::MemoryPort;
use portcullis::telemetry::event;
use portcullis::worker::{Host, Now, Own, Rates, Worker};
use smoltcp::time::Instant as StackTime;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Fewer than a burst holds, so that what comes beside them makes no burst of its own.
const ROUND: usize = 48;
const RATE: u32 = 5000;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xfe];
const HOST: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const FRAMES: usize = 4096;

/// A gate in memory; with an address of its own where `own`.
fn gate(own: bool) -> (Worker<MemoryPort>, Thread) {
    let shape = UmemConfig {
        frames: FRAMES as u32,
        chunk: 2048,
        headroom: 0,
        huge_pages: true,
    };
    let (umem, frames) = Umem::new(&shape).unwrap();
    let port = || vec![MemoryPort::with_capacity(FRAMES)];
    let config = "[lan]\nprefixes = [\"10.77.0.0/24\"]\n";
    let config = portcullis::config::parse(config, "bench", Path::new(".")).unwrap();
    let policy = Generation::first(&config.policy).unwrap().in_force();
    let worker = Worker::new(
        umem,
        frames,
        [port(), port()],
        policy,
        Flows::new(&Settings::default()).tracker(0, 1),
        Rejector::new(),
        event::ring(4096),
    );
    let (end, stack_end) = rings::pair(ROOM);
    let address = "10.77.0.2/24".parse().unwrap();
    let filter = Own {
        mac: MAC,
        sides: [true, false],
        vlan: None,
        addresses: vec!["10.77.0.2".parse().unwrap()],
        gateways: Vec::new(),
        allow: vec!["10.77.0.0/24".parse().unwrap()],
        port: 9155,
    };
    let rates = Rates {
        own: RATE,
        decoy: 2000,
    };
    let filter = own.then(|| Arc::new(filter));
    let settings = inband::Settings {
        mac: MAC,
        addresses: vec![address],
        gateways: Vec::new(),
        vlan: None,
        sides: [true, false],
        port: 9155,
    };
    let (serve, _) = tokio::sync::mpsc::channel(1);
    let inband = own.then(|| Inband::new(settings, serve, 1, StackTime::ZERO));
    let hall = Hall::new(decoy::Settings {
        at_most: 64,
        for_a_host: 16,
        deadline: Duration::from_secs(60),
        silence: Duration::from_secs(20),
        record: 16 << 10,
        name: "localhost.localdomain".to_owned(),
    });
    let (stack, _) = Stack::new(vec![stack_end], hall, inband);
    let worker = worker.with_host(Host::new(end, filter, rates));
    (worker, stack.start(|| Ok::<_, String>(())).unwrap())
}

fn ping(to: [u8; 6], dst: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(HOST, to).ipv4([10, 77, 0, 9], dst, 64);
    let builder = builder.icmpv4_echo_request(7, 7);
    builder.write(&mut frame, &[0; 18]).unwrap();
    frame
}

fn udp(n: u16, port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(HOST, ROUTER);
    let builder = builder.ipv4([10, 77, 0, 9], [93, 184, 216, 34], 64);
    builder
        .udp(10_000 + n, port)
        .write(&mut frame, &[0; 18])
        .unwrap();
    frame
}

/// The answer to one of those: what is answered is not looked into any more.
fn answer(n: u16, port: u16) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2(ROUTER, HOST);
    let builder = builder.ipv4([93, 184, 216, 34], [10, 77, 0, 9], 64);
    let builder = builder.udp(port, 10_000 + n);
    builder.write(&mut frame, &[0; 18]).unwrap();
    frame
}

fn arrive(worker: &mut Worker<MemoryPort>, side: Side, bytes: &[u8]) {
    let mut frame = worker.pool().pop().expect("a free frame");
    let umem = worker.umem().clone();
    umem.write(&mut frame, bytes).unwrap();
    worker.ports(side)[0].arriving.push_back(frame);
}

/// Rounds with a flood of so many frames a second beside them.
fn rounds(c: &mut Criterion, name: &str, own: bool, flood: Option<(&[u8], u32)>) {
    let (mut worker, stack) = gate(own);
    let ordinary: Vec<Vec<u8>> = (0..1024).map(|n| udp(n, 53)).collect();
    let mut at = 0;
    let start = Instant::now();
    let now = || {
        let steady = 1_000_000_000 + start.elapsed().as_nanos() as u64;
        Now {
            wall: steady,
            steady,
        }
    };
    for n in 0..1024 {
        arrive(&mut worker, Side::Lan, &ordinary[usize::from(n)]);
        worker.turn(now());
        arrive(&mut worker, Side::Uplink, &answer(n, 53));
        worker.turn(now());
        for side in Side::BOTH {
            worker.ports(side)[0].finish();
        }
        worker.turn(now());
    }
    // What the rounds have taken so far, in which so many frames of the flood came.
    let (mut spent_in_all, mut flooded) = (Duration::ZERO, 0u64);
    let mut group = c.benchmark_group("hoststack");
    group.throughput(Throughput::Elements(ROUND as u64));
    group.bench_function(name, |b| {
        b.iter_custom(|rounds| {
            let mut spent = Duration::ZERO;
            for _ in 0..rounds {
                for _ in 0..ROUND {
                    arrive(&mut worker, Side::Lan, &ordinary[at % ordinary.len()]);
                    at += 1;
                }
                if let Some((frame, rate)) = flood {
                    let due = (spent_in_all.as_nanos() * u128::from(rate) / 1_000_000_000) as u64;
                    while flooded < due && worker.pool().len() > ROUND {
                        arrive(&mut worker, Side::Lan, frame);
                        flooded += 1;
                    }
                }
                let time = now();
                let begun = Instant::now();
                worker.turn(time);
                let took = begun.elapsed();
                spent += took;
                spent_in_all += took;
                for side in Side::BOTH {
                    worker.ports(side)[0].finish();
                }
                worker.turn(time);
            }
            spent
        });
    });
    group.finish();
    drop(stack);
}

fn floods(c: &mut Criterion) {
    let own = ping(MAC, [10, 77, 0, 2]);
    let forbidden = udp(1, 69);
    rounds(c, "no-address", false, None);
    rounds(c, "own-address", true, None);
    rounds(c, "flood-5-times", true, Some((&own, 5 * RATE)));
    rounds(c, "flood-50-times", true, Some((&own, 50 * RATE)));
    rounds(
        c,
        "same-flood-forbidden",
        true,
        Some((&forbidden, 50 * RATE)),
    );
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(50).measurement_time(Duration::from_secs(4));
    targets = floods
}
criterion_main!(benches);
