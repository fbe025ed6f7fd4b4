//! Two workers over one table: whichever of them a frame is steered to, it gets the same verdict.

use super::datagrams::fragments;
use super::lab::*;
use portcullis::policy::Side;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const TEXT: &str = "[policy]\ndefault = \"drop\"\n\
    [[rule]]\nname = \"web\"\nproto = \"tcp\"\ndport = [80, 443]\naction = \"allow\"\n\
    [[rule]]\nname = \"dns\"\nproto = \"udp\"\ndport = [53]\naction = \"allow\"\n\
    [[rule]]\nname = \"ping\"\nproto = \"icmp\"\naction = \"allow\"\n\
    [[rule]]\nname = \"ping6\"\nproto = \"icmpv6\"\naction = \"allow\"\n";

/// Frames of a few hosts and servers that talk to each other as they may and as they may not.
fn traffic(count: usize, seed: u64) -> Vec<(Side, Vec<u8>)> {
    let mut seeded = Seeded(seed);
    let mut all = Vec::new();
    while all.len() < count {
        let v6 = seeded.below(2) == 1;
        let host = 2 + seeded.below(3);
        let inside = match v6 {
            true => format!("[fd77::{host}]:{}", 40_000 + seeded.below(3)),
            false => format!("10.77.0.{host}:{}", 40_000 + seeded.below(3)),
        };
        let kind = seeded.below(8);
        let port = match kind {
            0..3 => [80, 443, 80, 22][seeded.below(4) as usize],
            _ => [53, 53, 53, 69][seeded.below(4) as usize],
        };
        let outside = match v6 {
            true => format!("[2606:2800:220:1::34]:{port}"),
            false => format!("93.184.216.34:{port}"),
        };
        let side = if seeded.below(2) == 0 {
            Side::Lan
        } else {
            Side::Uplink
        };
        let (src, dst) = match side {
            Side::Lan => (&inside, &outside),
            Side::Uplink => (&outside, &inside),
        };
        let (from, to) = (end(src).ip.to_string(), end(dst).ip.to_string());
        match kind {
            0..3 => {
                let flags = match side {
                    Side::Lan => [SYN, SYN, SYN, ACK, ACK | PSH, FIN | ACK, RST, SYN | ACK],
                    Side::Uplink => [
                        SYN | ACK,
                        SYN | ACK,
                        ACK,
                        ACK,
                        FIN | ACK,
                        RST,
                        RST | ACK,
                        SYN,
                    ],
                }[seeded.below(8) as usize];
                let (seq, ack) = (100 + seeded.below(4) as u32, 100 + seeded.below(4) as u32);
                all.push((side, tcp(src, dst, flags, seq, ack)));
            }
            3..5 => all.push((side, udp(src, dst))),
            5 => {
                let answer = seeded.below(2) as u8;
                let kind = if v6 { 128 + answer } else { 8 * answer };
                all.push((
                    side,
                    icmp(
                        &from,
                        &to,
                        kind,
                        0,
                        [0, seeded.below(3) as u8, 0, 1],
                        b"ping",
                    ),
                ));
            }
            6 => {
                let quoted = udp(dst, src);
                let kind = if v6 { 1 } else { 3 };
                all.push((side, icmp(&from, &to, kind, 1, [0; 4], packet(&quoted))));
            }
            _ => {
                let id = seeded.next() as u16;
                let parts = fragments(&udp_with(src, dst, &[9; 200]), id, &[64, 136]);
                all.extend(parts.into_iter().map(|part| (side, part)));
            }
        }
    }
    all
}

#[test]
fn whichever_worker_a_frame_is_steered_to_it_gets_the_same_verdict() {
    let mut passed = [0, 0];
    for seed in 0..20 {
        let mut one = Lab::with(TEXT, &settings(), 1);
        let mut two = Lab::with(TEXT, &settings(), 2);
        let mut steer = Seeded(seed + 1000);
        for (at, (side, frame)) in traffic(1500, seed).iter().enumerate() {
            let alone = one.passes(*side, frame);
            let steered = two.passes_by(steer.below(2) as usize, *side, frame);
            assert_eq!(alone, steered, "frame {at} of seed {seed}: {frame:02x?}");
            passed[usize::from(alone)] += 1;
            if at % 300 == 299 {
                for lab in [&mut one, &mut two] {
                    lab.reload(|policy| {
                        policy.rules[at / 300 % 3].action = portcullis::policy::Action::Drop
                    });
                }
            }
        }
        one.settle();
        two.settle();
        let of = |lab: &mut Lab| {
            let snapshot = lab.snapshot();
            (snapshot.sides, snapshot.rules)
        };
        assert_eq!(of(&mut one), of(&mut two));
        assert_eq!(one.flows.count(), two.flows.count());
    }
    assert!(passed.iter().all(|n| *n > 5_000), "{passed:?}");
}

#[test]
fn fragments_that_come_to_another_worker_than_their_first_pass_with_it_in_any_order() {
    let mut lab = Lab::with("", &settings(), 2);
    for id in 0..200u16 {
        for (port, passes) in [(5000, true), (69, false)] {
            let dst = format!("93.184.216.34:{port}");
            let parts = fragments(
                &udp_with("10.77.0.9:40000", &dst, &[3; 200]),
                id * 2 + u16::from(passes),
                &[64, 136],
            );
            let order = [[0, 1, 2], [2, 0, 1], [1, 2, 0], [2, 1, 0]][usize::from(id % 4)];
            for (n, part) in order.into_iter().enumerate() {
                lab.arrive((n + usize::from(id)) % 2, Side::Lan, &parts[part]);
                lab.turn();
            }
            lab.turn();
            let mut sent = lab.sent(Side::Uplink);
            sent.sort();
            let mut expected = if passes { parts } else { vec![] };
            expected.sort();
            assert_eq!(sent, expected);
            lab.turn();
        }
    }
    assert_eq!(lab.dropped("rule"), 600);
    assert_eq!(lab.snapshot().sides[0].dropped_total(), 600);
}

#[test]
fn two_workers_that_meet_the_same_new_flows_at_the_same_time_make_one_of_each() {
    const FLOWS: u32 = 3000;
    let lab = Lab::with("", &settings(), 2);
    let Lab { workers, flows, .. } = lab;
    let start = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = workers
        .into_iter()
        .map(|mut worker| {
            let start = Arc::clone(&start);
            std::thread::spawn(move || {
                while !start.load(Relaxed) {
                    std::hint::spin_loop();
                }
                for n in 0..FLOWS {
                    let frame = udp(
                        &format!("10.77.{}.{}:5000", n >> 8, n & 255),
                        "93.184.216.34:53",
                    );
                    let mut token = worker.pool().pop().unwrap();
                    let umem = worker.umem().clone();
                    umem.write(&mut token, &frame).unwrap();
                    worker.ports(Side::Lan)[0].arriving.push_back(token);
                    worker.turn(1001 * SECOND);
                    assert_eq!(worker.ports(Side::Uplink)[0].sent.len(), 1);
                    worker.ports(Side::Uplink)[0].finish();
                }
                worker.counters().flows.opened.get()
            })
        })
        .collect();
    start.store(true, Relaxed);
    let opened: u64 = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum();
    assert_eq!((flows.count(), opened), (FLOWS as usize, u64::from(FLOWS)));
}
