//! What the fuzz targets assert, as plain functions over bytes: the targets call them, and `tests/fuzz_corpus.rs` replays what was found.

use af_xdp::{Umem, UmemConfig};
use portcullis::action::reject::Rejector;
use portcullis::app::{App, Identity, details, identify_banner, identify_tcp, identify_udp};
use portcullis::control::snapshot::Snapshot;
use portcullis::flow::datagram::Piece;
use portcullis::flow::{Datagrams, Flows, Outcome, Settings};
use portcullis::frame::{Frag, Meta, Net, parse};
use portcullis::policy::{Generation, InForce, Side, Verdict};
use portcullis::port::memory::MemoryPort;
use portcullis::telemetry::event;
use portcullis::worker::{LONGEST_HELD, Worker};
use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// Takes `count` bytes off the front; fewer at the end.
fn take<'a>(data: &mut &'a [u8], count: usize) -> &'a [u8] {
    let (front, rest) = data.split_at(count.min(data.len()));
    *data = rest;
    front
}

fn umem(frames: u32) -> (Umem, Vec<af_xdp::Frame>) {
    let config = UmemConfig {
        frames,
        chunk: 2048,
        headroom: 0,
        huge_pages: false,
    };
    Umem::new(&config).expect("a little memory")
}

/// A strict and a lenient rule for each protocol, and rules that look at single frames.
const POLICY: &str = "[lan]\nprefixes = [\"10.77.0.0/16\", \"fd77::/32\"]\n[policy]\nuplink = \"inner\"\n\
    [[rule]]\nname = \"no-rst\"\nproto = \"tcp\"\ntcp_flags = \"rst\"\ndport = 81\naction = \"drop\"\n\
    [[rule]]\nname = \"refuse\"\nproto = [\"tcp\", \"udp\"]\ndport = 23\naction = \"reject\"\n\
    [[rule]]\nname = \"in\"\ndirection = \"in\"\nproto = \"tcp\"\ndport = 22\naction = \"drop\"\n";

static GENERATIONS: LazyLock<[Arc<Generation>; 2]> = LazyLock::new(|| {
    let config = portcullis::config::parse(POLICY, "fuzz", Path::new("/nonexistent"));
    let mut policy = config.expect("a config").policy;
    let first = Generation::first(&policy).expect("it compiles");
    policy.rules[1].clauses.clear();
    let over = vec![false; policy.rules.len()];
    let next = first.next(&policy, &over).expect("it compiles");
    [Arc::new(first), Arc::new(next)]
});

/// Two workers over one flow table: frames to either, from either side, time that goes on, and policies that change. Every frame is accounted for, what comes out
/// has come in, and no frame is lost.
pub fn flow(mut data: &[u8]) {
    const FRAMES: usize = 64;
    let in_force: InForce = Arc::new(arc_swap::ArcSwap::new(Arc::clone(&GENERATIONS[0])));
    let settings = Settings {
        per_host: 24,
        datagrams: 16,
        adopt: Duration::from_secs(u64::from(data.first().copied().unwrap_or(0) & 1)),
        ..Settings::of_size(32)
    };
    let flows = Flows::new(&settings);
    let mut workers: Vec<Worker<MemoryPort>> = (0..2)
        .map(|index| {
            let (umem, frames) = umem(FRAMES as u32);
            let port = || vec![MemoryPort::with_capacity(FRAMES)];
            let ring = event::ring(64);
            let tracker = flows.tracker(index, 2);
            Worker::new(
                umem,
                frames,
                [port(), port()],
                Arc::clone(&in_force),
                tracker,
                Rejector::new(),
                ring,
            )
        })
        .collect();
    let mut now = 1 << 30;
    let mut came_in: Vec<Vec<u8>> = Vec::new();
    while let [control, len, rest @ ..] = data {
        data = rest;
        let bytes = take(&mut data, usize::from(*len));
        let worker = &mut workers[usize::from(control & 1)];
        let side = if control & 2 == 0 {
            Side::Lan
        } else {
            Side::Uplink
        };
        now += [0, 1 << 16, 1 << 28, 1 << 38][usize::from(control >> 2 & 3)];
        if control & 16 != 0 {
            in_force.store(Arc::clone(&GENERATIONS[usize::from(control >> 5 & 1)]));
        }
        if let Some(mut frame) = worker.pool().pop() {
            worker
                .umem()
                .clone()
                .write(&mut frame, bytes)
                .expect("255 bytes fit");
            worker.ports(side)[0].arriving.push_back(frame);
            came_in.push(bytes.to_vec());
        }
        if control & 64 == 0 {
            worker.turn(now);
            finish(worker, &came_in);
        }
    }
    for _ in 0..3 {
        now += LONGEST_HELD;
        for worker in &mut workers {
            worker.turn(now);
            finish(worker, &came_in);
        }
    }
    for worker in &mut workers {
        worker.turn(now);
        assert_eq!((worker.waiting(), worker.pool().len()), (0, FRAMES));
    }
    let counters: Vec<_> = workers.iter().map(Worker::counters).collect();
    let snapshot = Snapshot::take(&counters, &in_force.load(), &[]);
    assert!(snapshot.balanced(), "{snapshot:?}");
    assert_eq!(
        snapshot.sides[0].rx + snapshot.sides[1].rx,
        came_in.len() as u64
    );
    assert!(flows.count() <= 32);
    let counts = snapshot.flows;
    assert_eq!(
        flows.count() as u64,
        counts.opened - counts.expired - counts.evicted
    );
}

/// What was sent is something that came in, or an answer of ours to the inside.
fn finish(worker: &mut Worker<MemoryPort>, came_in: &[Vec<u8>]) {
    let umem = worker.umem().clone();
    for side in Side::BOTH {
        let port = &mut worker.ports(side)[0];
        for frame in &port.sent {
            let bytes = umem.bytes(frame);
            let ours = side == Side::Lan && parse(bytes).is_ok_and(|meta| meta.hop_limit == 64);
            assert!(
                came_in.iter().any(|frame| frame == bytes) || ours,
                "{bytes:02x?}"
            );
        }
        port.finish();
    }
}

/// Fragments of a few datagrams in any order: no byte of one passes twice, and after an overlap nothing of it passes.
pub fn fragment(mut data: &[u8]) {
    let all = Datagrams::new(16);
    let outcome = Outcome {
        verdict: Verdict::Forward,
        rule: None,
    };
    // By identification: which bytes have passed, and whether it is spoilt.
    let mut model: Vec<(Vec<bool>, bool, usize)> =
        vec![(vec![false; 1 << 16], false, usize::MAX); 4];
    while let [head, offset, len, rest @ ..] = data {
        data = rest;
        let id = usize::from(head & 3);
        let more = head & 4 != 0;
        let start = usize::from(*offset) * 8;
        let len = if more {
            usize::from(*len & 31) * 8
        } else {
            usize::from(*len)
        };
        if len == 0 {
            continue;
        }
        let meta = Meta {
            src: 1,
            dst: 2,
            net: if head & 8 == 0 { Net::V4 } else { Net::V6 },
            frag: if start == 0 { Frag::First } else { Frag::Later },
            frag_id: id as u32,
            frag_offset: start as u16,
            frag_more: more,
            frag_proto: 17,
            frag_data: 34,
            end: 34 + len as u16,
            ..Meta::default()
        };
        if meta.net == Net::V6 || (start == 0 && !more) {
            continue;
        }
        let piece = match meta.frag {
            Frag::First => all.first(&meta, Side::Lan, 1, outcome),
            _ => all.later(&meta, Side::Lan, 1),
        };
        let (passed, spoilt, total) = &mut model[id];
        let (end, units) = (start + len, (start + len).next_multiple_of(8));
        match piece {
            Piece::Inherits(_) => {
                assert!(
                    !*spoilt && passed[start..units].iter().all(|seen| !seen),
                    "a byte passed twice"
                );
                assert!(end <= *total, "beyond the end");
                passed[start..units].fill(true);
                if !more {
                    *total = end;
                }
                // Whole: it is forgotten, and the name is free for another.
                let whole = total
                    .checked_next_multiple_of(8)
                    .is_some_and(|all| passed[..all].iter().all(|seen| *seen));
                if whole {
                    *passed = vec![false; 1 << 16];
                    *total = usize::MAX;
                }
            }
            Piece::Overlaps => *spoilt = true,
            Piece::Duplicate => assert!(*spoilt || passed[start..units].iter().all(|seen| *seen)),
            Piece::Waits => assert!(
                start > 0 && passed.iter().all(|seen| !seen),
                "its first is known"
            ),
        }
    }
}

/// Any frame may be asked to be answered: the answer is a frame that parses, goes back to whoever sent it, and to the inside alone.
pub fn reply(data: &[u8]) {
    let Ok(meta) = parse(data) else { return };
    let (umem, mut frames) = umem(64);
    for side in Side::BOTH {
        let mut frame = frames.pop().expect("a frame");
        if umem.write(&mut frame, data).is_err() {
            return;
        }
        let answer = Rejector::new().answer((&umem, &[]), frame, &meta, side, 1 << 40);
        let Ok(answer) = answer else { continue };
        assert_eq!(side, Side::Lan);
        let back = parse(umem.bytes(&answer)).expect("an answer is a good frame");
        assert_eq!(
            (back.src, back.dst, back.net),
            (meta.dst, meta.src, meta.net)
        );
        assert_eq!((back.src_mac, back.dst_mac), (meta.dst_mac, meta.src_mac));
        assert_eq!((back.vlan, back.vlan_depth), (meta.vlan, meta.vlan_depth));
        if meta.proto == 6 {
            assert_eq!((back.sport, back.dport), (meta.dport, meta.sport));
            assert!(back.tcp_flags & 4 != 0 && meta.tcp_flags & 4 == 0);
        }
    }
}

/// Any text is a config or an error that can be shown; a config compiles, or says why not.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match portcullis::config::parse(text, "fuzz.toml", Path::new("/nonexistent")) {
        Ok(config) => {
            let _ = Generation::first(&config.policy);
        }
        Err(error) => assert!(!error.problems.is_empty() && !error.to_string().is_empty()),
    }
}

/// Where to cut, and a payload: what is known of its start stays known of the whole, and whatever is taken out of it is safe to show.
pub fn app(data: &[u8]) {
    let [cut, payload @ ..] = data else { return };
    let start = &payload[..usize::from(*cut).min(payload.len())];
    for (of_start, of_all) in [
        (identify_tcp(start), identify_tcp(payload)),
        (identify_udp(start), identify_udp(payload)),
    ] {
        if let Identity::Known(_) = of_start {
            assert_eq!(of_start, of_all);
        }
    }
    let _ = identify_banner(payload);
    for app in App::ALL {
        for (_, value) in details(*app, payload).fields {
            assert!(!value.is_empty() && value.chars().count() <= 128);
            assert!(!value.chars().any(char::is_control), "{value:?}");
        }
    }
}
