//! The flow table alone: look-up and update of open connections, as a worker does it for a burst of 64.
//!
//! `cargo bench --bench flow`. Divide by 64 for a packet. Which flows a burst has is random (seeded), so with a million of them every one is out of the
//! caches; what is asked for ahead is what the stages of the loop ask for ahead. Making the burst is not timed.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use portcullis::flow::{Express, Flows, Found, Judged, Seen, Settings, Track, Tracker, Why};
use portcullis::frame::{Meta, parse_into};
use portcullis::policy::{RuleId, Side};
use portcullis::telemetry::counters::FlowCounters;
use std::hint::black_box;
use std::time::{Duration, Instant};

const BURST: usize = 64;
const GENERATION: u64 = 1;
const TICK: u64 = 1 << 30;

/// A small generator with a fixed seed (splitmix64).
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// A segment from the inside (flags SYN, ACK) or the answer to the SYN; flow `n` of many, of 4,000 hosts.
fn segment(n: u32, v6: bool, syn: bool, answer: bool, ack: u32) -> Vec<u8> {
    let host = 2 + n % 4000;
    let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]);
    let (here, there) = ((1024 + n / 4000) as u16, 443);
    let server = n % 251;
    let ip = if v6 {
        let inside = u128::from(0xfd77u16) << 112 | u128::from(host);
        let outside = 0x2606_2800_0220_0001u128 << 64 | u128::from(server);
        match answer {
            false => link.ipv6(inside.to_be_bytes(), outside.to_be_bytes(), 64),
            true => link.ipv6(outside.to_be_bytes(), inside.to_be_bytes(), 64),
        }
    } else {
        let (inside, outside) = (0x0a4d_0000 + host, 0x5db8_d800 + server);
        match answer {
            false => link.ipv4(inside.to_be_bytes(), outside.to_be_bytes(), 64),
            true => link.ipv4(outside.to_be_bytes(), inside.to_be_bytes(), 64),
        }
    };
    let mut frame = Vec::new();
    match (answer, syn) {
        (false, true) => ip.tcp(here, there, 100, 1000).syn().write(&mut frame, &[]),
        (true, _) => ip
            .tcp(there, here, 500, 1000)
            .syn()
            .ack(101)
            .write(&mut frame, &[]),
        (false, false) => ip
            .tcp(here, there, 101, 1000)
            .ack(ack)
            .write(&mut frame, &[0; 6]),
    }
    .unwrap();
    frame
}

/// One frame through all stages, settled if it opens.
fn through(tracker: &mut Tracker, frame: &[u8], side: Side, counters: &FlowCounters) {
    let (mut meta, mut track) = (Meta::NONE, Track::NONE);
    parse_into(frame, &mut meta).unwrap();
    tracker.begin();
    tracker.prepare(&meta, frame, side, &mut track).unwrap();
    tracker.hash_key(&mut track);
    if tracker.seek(&mut track) {
        tracker.seek_elsewhere(&mut track);
    }
    if let Found::Ask(_, why @ Why::Opens) =
        tracker.find(&mut track, &meta, frame, side, GENERATION)
    {
        tracker.settle(
            &mut track,
            why,
            &meta,
            side,
            Judged {
                rule: RuleId(0),
                blocked: false,
                generation: GENERATION,
                seen: Seen::default(),
            },
            counters,
        );
    }
}

/// The stages that frames of IPv4 go through; how many were of open flows.
fn shortest_way(tracker: &Tracker, express: &mut Express) -> usize {
    tracker.hash_express(express, 0..BURST, u64::MAX);
    let mut elsewhere = 0u64;
    for at in 0..BURST {
        elsewhere |= u64::from(tracker.seek_express(express, at)) << at;
    }
    while elsewhere != 0 {
        tracker.seek_express_elsewhere(express, elsewhere.trailing_zeros() as usize);
        elsewhere &= elsewhere - 1;
    }
    let passes = |at| tracker.pass_express(express, at, Side::Lan, GENERATION);
    (0..BURST).filter_map(passes).map(black_box).count()
}

fn established(c: &mut Criterion, name: &str, (flows, size): (u32, usize), v6: bool) {
    let shared = Flows::new(&Settings {
        per_host: 1_000_000,
        ..Settings::of_size(size)
    });
    let mut tracker = shared.tracker(0, 1);
    let counters = FlowCounters::default();
    let mut now = 1000 * TICK;
    tracker.tick(now, &counters);
    for n in 0..flows {
        through(
            &mut tracker,
            &segment(n, v6, true, false, 0),
            Side::Lan,
            &counters,
        );
        through(
            &mut tracker,
            &segment(n, v6, true, true, 0),
            Side::Uplink,
            &counters,
        );
        through(
            &mut tracker,
            &segment(n, v6, false, false, 501),
            Side::Lan,
            &counters,
        );
    }
    // A few in a thousand may have found both of their buckets full.
    assert!(shared.count() as f64 > f64::from(flows) * 0.99);
    let mut seeded = Seeded(1);
    let mut metas = [Meta::NONE; BURST];
    let mut tracks = [Track::NONE; BURST];
    let mut express = Express::default();
    let mut ack = 502;
    let mut group = c.benchmark_group("flow");
    group.throughput(Throughput::Elements(BURST as u64));
    group.bench_function(name, |b| {
        b.iter_custom(|bursts| {
            let mut spent = Duration::ZERO;
            for _ in 0..bursts {
                ack += 1;
                let frames: [Vec<u8>; BURST] = std::array::from_fn(|_| {
                    segment(
                        (seeded.next() % u64::from(flows)) as u32,
                        v6,
                        false,
                        false,
                        ack,
                    )
                });
                for (at, (frame, meta)) in frames.iter().zip(&mut metas).enumerate() {
                    parse_into(frame, meta).unwrap();
                    express.put(at, frame);
                }
                let read = express.read::<true, true>(0..BURST);
                assert_eq!(read, if v6 { 0 } else { u64::MAX });
                now += 20_000;
                let start = Instant::now();
                tracker.tick(now, &counters);
                tracker.begin();
                if !v6 {
                    let known = shortest_way(&tracker, &mut express);
                    spent += start.elapsed();
                    assert!(known > BURST / 2, "{known}");
                    continue;
                }
                let mut known = 0;
                for ((frame, meta), track) in frames.iter().zip(&metas).zip(&mut tracks) {
                    let _ = black_box(tracker.prepare(meta, frame, Side::Lan, track));
                }
                for track in &mut tracks {
                    tracker.hash_key(track);
                }
                let mut elsewhere = 0u64;
                for (at, track) in tracks.iter_mut().enumerate() {
                    elsewhere |= u64::from(tracker.seek(track)) << at;
                }
                while elsewhere != 0 {
                    tracker.seek_elsewhere(&mut tracks[elsewhere.trailing_zeros() as usize]);
                    elsewhere &= elsewhere - 1;
                }
                for ((frame, meta), track) in frames.iter().zip(&metas).zip(&mut tracks) {
                    // As the worker's loop does.
                    known += match tracker.express(track, Side::Lan, GENERATION) {
                        Some(word) => usize::from(black_box(word) != 0),
                        None => {
                            let found =
                                tracker.find_rest(track, meta, frame, Side::Lan, GENERATION);
                            usize::from(matches!(black_box(found), Found::Flow { .. }))
                        }
                    };
                }
                spent += start.elapsed();
                assert!(known > BURST / 2, "{known}");
            }
            spent
        });
    });
    group.finish();
}

fn flow(c: &mut Criterion) {
    established(c, "10k", (10_000, 20_000), false);
    established(c, "10k-v6", (10_000, 20_000), true);
    established(c, "10k-of-1M", (10_000, 1_000_000), false);
    established(c, "1M", (1_000_000, 1_000_000), false);
    established(c, "1M-v6", (1_000_000, 1_000_000), true);
}

criterion_group!(benches, flow);
criterion_main!(benches);
