//! What one turn of the stack's thread costs, whatever is in the rings, and what conversations take.

use super::client::{Chance, settings};
use super::counting::live;
use super::hostile::{Bench, CLIENT, ROUTER, SERVER, Segment, read, syn};
use portcullis::frame::parse;
use portcullis::hoststack::decoy::{Hall, Settings};
use portcullis::hoststack::inband::{self, Inband};
use portcullis::hoststack::rings::{Lane, WorkerEnd, pair};
use portcullis::hoststack::{BUDGET, ROOM, Stack};
use portcullis::policy::{Manners, RuleSlot, Side};
use smoltcp::time::Instant;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

const DECOY: Lane = Lane::Decoy(RuleSlot(0), Manners::Port);
const OURS: [u8; 4] = [10, 77, 0, 2];
/// The box's own MAC address.
const BOX: [u8; 6] = [2, 0, 0, 0, 0, 0xb0];

fn inband(sides: [bool; 2]) -> Inband {
    let settings = inband::Settings {
        mac: BOX,
        addresses: vec!["10.77.0.2/24".parse().expect("a net")],
        gateways: vec![],
        vlan: None,
        sides,
        port: 9155,
    };
    let (sender, receiver) = tokio::sync::mpsc::channel(16);
    // Nobody serves.
    drop(receiver);
    Inband::new(settings, sender, 7, Instant::ZERO)
}

fn taken(hall: &portcullis::hoststack::decoy::Tally) -> u64 {
    let all = [
        &hall.begun,
        &hall.heard,
        &hall.strays,
        &hall.full,
        &hall.host_full,
    ];
    all.iter().map(|counter| counter.get()).sum()
}

#[test]
fn a_turn_takes_so_many_frames_of_each_worker_however_fast_they_come() {
    let (workers, ends): (Vec<WorkerEnd>, Vec<_>) = (0..2).map(|_| pair(ROOM)).unzip();
    let hall = Hall::new(settings());
    let tally = hall.tally();
    let (mut stack, _reports) = Stack::new(ends, hall, None);
    let stop = AtomicBool::new(false);
    let stray = Segment {
        flags: 16,
        ..syn(40_000)
    }
    .frame(CLIENT, ROUTER);
    std::thread::scope(|scope| {
        for worker in &workers {
            let (stop, stray) = (&stop, &stray);
            scope.spawn(move || {
                while !stop.load(Relaxed) {
                    worker.give(stray, DECOY, Side::Lan, 0);
                }
            });
        }
        let (mut before, mut turns) = (0, 0);
        while turns < 200 || before < 4 * BUDGET as u64 {
            stack.turn(Instant::from_millis(turns));
            let now = taken(&tally);
            assert!(
                now - before <= 2 * BUDGET as u64,
                "{} in one turn",
                now - before
            );
            (before, turns) = (now, turns + 1);
        }
        stop.store(true, Relaxed);
    });
}

#[test]
fn any_frames_through_the_rings_are_answered_to_the_right_side_and_no_parcel_is_lost() {
    let mut chance = Chance(77);
    let (worker, end) = pair(ROOM);
    let hall = Hall::new(Settings {
        at_most: 32,
        for_a_host: 8,
        deadline: Duration::from_secs(5),
        silence: Duration::from_secs(2),
        ..settings()
    });
    let tally = hall.tally();
    let inband = inband([false, true]);
    let own = inband.tally();
    let (mut stack, reports) = Stack::new(vec![end], hall, Some(inband));
    let (mut decoys, mut owns, mut answers) = (0, 0, [0; 2]);
    for turn in 0..2_000 {
        let count = chance.below(40);
        for _ in 0..count {
            let to_us = chance.below(2) == 0;
            let segment = Segment {
                src: [10, 77, 0, 8 + chance.below(8) as u8],
                dst: if to_us { OURS } else { SERVER },
                dport: if to_us {
                    9155
                } else {
                    [25, 80, 6667][chance.below(3) as usize]
                },
                seq: chance.next() as u32,
                flags: [2, 2, 2, 16, 18, 4, 1, 17][chance.below(8) as usize],
                payload: vec![b'x'; chance.below(2) as usize * 40],
                ..syn(1 + chance.below(200) as u16)
            };
            let mut frame = segment.frame(CLIENT, if to_us { BOX } else { ROUTER });
            if chance.below(4) == 0 {
                let at = chance.below(frame.len() as u64) as usize;
                frame[at] ^= 1 << chance.below(8);
            }
            let (lane, side) = if to_us {
                (Lane::Own, Side::Uplink)
            } else {
                (DECOY, Side::Lan)
            };
            let given = worker.give(&frame, lane, side, 0);
            decoys += u64::from(given && !to_us);
            owns += u64::from(given && to_us);
        }
        stack.turn(Instant::from_millis(turn * 20));
        while let Some(parcel) = worker.take() {
            let back = parse(parcel.bytes()).expect("a frame");
            let by_box = back.src_mac == BOX;
            assert_eq!(parcel.side, if by_box { Side::Uplink } else { Side::Lan });
            assert!(back.src_mac[0] & 1 == 0);
            answers[usize::from(by_box)] += 1;
            worker.give_back(parcel);
        }
        assert!(tally.open.load(Relaxed) <= 32);
        while reports.try_recv().is_ok() {}
    }
    assert_eq!((taken(&tally), own.received.get()), (decoys, owns));
    assert!(answers[0] > 1_000 && answers[1] > 10, "{answers:?}");
    let stray = Segment {
        flags: 16,
        ..syn(1)
    }
    .frame(CLIENT, ROUTER);
    let room = (0..ROOM + 1).filter(|_| worker.give(&stray, DECOY, Side::Lan, 0));
    assert_eq!(room.count(), ROOM);
    for turn in 2_000..2_500 {
        stack.turn(Instant::from_millis(turn * 20));
        while let Some(parcel) = worker.take() {
            worker.give_back(parcel);
        }
    }
    assert_eq!(tally.open.load(Relaxed), 0);
}

/// Opens as many conversations as there may be, and has each say more than is kept of it.
fn filled(most: u16) -> Bench {
    let mut bench = Bench::new(Settings {
        at_most: most.into(),
        for_a_host: most.into(),
        deadline: Duration::from_secs(60),
        silence: Duration::from_secs(20),
        record: 16 << 10,
        ..settings()
    });
    for port in 0..most {
        let (next, said) = bench.open(1000 + port, &[2, 4, 5, 0xb4], 65_535);
        let (seq, _, _, len) = read(said.last().expect("a greeting"));
        let mut says = Segment {
            ack: seq.wrapping_add(len as u32),
            ..next
        };
        let mut lines: Vec<Vec<u8>> = [
            &b"EHLO x\r\n"[..],
            b"MAIL FROM:<a@b>\r\n",
            b"RCPT TO:<a@b>\r\n",
            b"DATA\r\n",
        ]
        .map(<[u8]>::to_vec)
        .to_vec();
        lines.extend((0..20).map(|_| [&vec![b'x'; 998][..], b"\r\n"].concat()));
        for line in lines {
            says.payload = line;
            for answer in bench.give(&says.frame(CLIENT, ROUTER)) {
                let (seq, _, _, len) = read(&answer);
                says.ack = seq.wrapping_add(len as u32);
            }
            says.seq = says.seq.wrapping_add(says.payload.len() as u32);
        }
    }
    bench
}

#[test]
fn a_conversation_takes_a_bounded_piece_of_memory_and_gives_it_back() {
    let before = live();
    let mut bench = filled(128);
    let tally = bench.hall.tally();
    assert_eq!(
        (tally.begun.get(), bench.hall.clients().count()),
        (128, 128)
    );
    let each = (live() - before) / 128;
    println!("a conversation of 20 KB that are said: {each} bytes");
    assert!(each <= 64 * 1024, "{each} bytes");
    // First packets of ever other hosts find no room, and take none.
    for number in 0..20_000u32 {
        let [_, a, b, c] = number.to_be_bytes();
        bench.give(
            &Segment {
                src: [10, a, b, c.max(1)],
                ..syn(9)
            }
            .frame(CLIENT, ROUTER),
        );
    }
    assert!(live() - before <= 128 * 64 * 1024);
    bench.wait(23_000);
    assert!(bench.hall.is_empty());
    assert_eq!(bench.hall.reports().count(), 128);
    drop(bench);
    assert!(live() - before < 4_096, "{} bytes stay", live() - before);
}

/// Not a test: `cargo test --test hoststack -- --ignored --nocapture measures` says how long a look at 1024 conversations takes.
#[test]
#[ignore = "a measurement"]
fn measures_a_look_at_as_many_conversations_as_there_may_be() {
    let mut bench = filled(1024);
    assert_eq!(bench.hall.clients().count(), 1024);
    let (mut longest, mut all, looks) = (Duration::ZERO, Duration::ZERO, 1_000);
    for _ in 0..looks {
        bench.now += 1;
        let start = std::time::Instant::now();
        bench.hall.tick(Instant::from_millis(bench.now), |_| true);
        let took = start.elapsed();
        (longest, all) = (longest.max(took), all + took);
    }
    println!(
        "1024 conversations, {looks} looks a millisecond apart: {:?} each, the longest {longest:?}",
        all / looks
    );
}
