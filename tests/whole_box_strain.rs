//! The whole box under strain: links that go away, bursts beyond every ring, frames too long for the memory.

mod common;

use common::craft::{self, Packet, TCP, UDP, number_of, numbered};
use common::gate::{config, kernel_drops, number};
use common::wire::{NOT_COMING, assert_open};
use common::{Gate, Lab, SOON, Wire, until};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

#[test]
fn no_frame_that_waited_for_a_dead_link_is_sent_when_it_comes_back() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::start(&lab);
    let (lan, uplink) = Wire::both(&lab);
    let base = Instant::now();
    let now = || base.elapsed().as_nanos() as u64;
    let every = Duration::from_millis(1);
    let stop = AtomicBool::new(false);
    let mut arrived = Vec::new();
    let (sent, down, up) = std::thread::scope(|scope| {
        // The number of a frame is the time when it was sent.
        let sending = scope.spawn(|| {
            let mut sent = Vec::new();
            while !stop.load(Relaxed) {
                let time = now();
                lan.send(&numbered(time));
                sent.push(time);
                std::thread::sleep(every);
            }
            sent
        });
        std::thread::sleep(every * 200);
        lab.ip("gate", "link set gu0 down");
        let down = now();
        std::thread::sleep(every * 300);
        let up = now();
        lab.ip("gate", "link set gu0 up");
        let resumed = now();
        until("a frame sent after the link came up", SOON, || {
            let time = number_of(&uplink.next(NOT_COMING)?);
            arrived.push(time);
            (time > resumed).then_some(())
        });
        std::thread::sleep(every * 100);
        stop.store(true, Relaxed);
        (sending.join().expect("the sender"), down, up)
    });
    let status = gate.assert_accounts([sent.len() as u64, 0]);
    arrived.extend(uplink.drain().iter().map(|f| number_of(f)));
    let while_down = sent.iter().filter(|t| (down..up).contains(*t)).count();
    let failed = number(&status["ports"]["lan"]["tx_failed"]);
    assert!(while_down > 10, "the link was hardly down: {while_down}");
    assert!(
        failed >= while_down as u64,
        "{failed} failed, {while_down} were sent meanwhile"
    );
    // What the kernel took and then lost with the link, it calls completed: no more than was in its hands at that moment.
    let lost = number(&status["ports"]["lan"]["tx"]) - arrived.len() as u64;
    assert!(lost < 64, "{lost} frames lost beside those that failed");
    // A worker that the scheduler kept waiting may take a frame late from its receive ring.
    let slack = Duration::from_millis(100).as_nanos() as u64;
    let stale = arrived
        .iter()
        .filter(|t| (down..up - slack).contains(*t))
        .count();
    assert_eq!(stale, 0, "frames from before the link came up");
    assert!(arrived.is_sorted(), "out of order");
}

#[test]
fn a_lost_carrier_makes_no_stale_frames_and_forwarding_resumes_by_itself() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::start(&lab);
    let (lan, uplink) = Wire::both(&lab);
    assert_open(&lan, &uplink);
    // The far end goes down: the port of the gate is up and has no carrier.
    lab.ip("uplink", "link set up0 down");
    for n in 1000..1100 {
        lan.send(&numbered(n));
    }
    gate.assert_accounts([101, 0]);
    lab.ip("uplink", "link set up0 up");
    let mut sent = 101;
    let first = until("a frame after the carrier came back", SOON, || {
        lan.send(&numbered(sent));
        sent += 1;
        uplink.next(Duration::from_millis(20))
    });
    assert!(number_of(&first) < 1000, "a stale frame");
    assert!(
        uplink.drain().iter().all(|f| number_of(f) < 1000),
        "a stale frame"
    );
    gate.assert_accounts([sent, 0]);
}

#[test]
fn a_burst_beyond_every_ring_is_accounted_for_both_ways_and_the_gate_forwards_on() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::start(&lab);
    let (lan, uplink) = Wire::both(&lab);
    const COUNT: u64 = 20_000;
    let back = craft::padded(Packet::back(UDP, 53).frame(), 60);
    std::thread::scope(|scope| {
        for (wire, frame) in [(&lan, numbered(1)), (&uplink, back.clone())] {
            // Those that find no room on the cable are counted by its interface.
            scope.spawn(move || (0..COUNT).for_each(|_| _ = wire.try_send(&frame)));
        }
    });
    // What the cable took is received, or dropped by the kernel, which counts it.
    let status = until("all frames accounted for", SOON, || {
        let status = gate.assert_nothing_lost();
        let ends = [("lan", "lan0"), ("uplink", "up0")];
        let all = ends.iter().all(|(role, interface)| {
            let tx = |what| lab.counter(role, interface, "tx", what);
            let port = &status["ports"][*role];
            tx("packets") == number(&port["rx"]) + kernel_drops(&status, role)
                && tx("packets") + tx("dropped") == COUNT
        });
        all.then_some(status)
    });
    for (name, to) in [("lan", &uplink), ("uplink", &lan)] {
        let arrived = to.drain().len() as u64;
        let port = &status["ports"][name];
        eprintln!(
            "{name}: of {COUNT}, received {}, arrived {arrived}",
            port["rx"]
        );
        assert!(
            arrived > 0 && arrived <= number(&port["tx"]),
            "{arrived}: {port}"
        );
    }
    for n in 0..100 {
        lan.send(&numbered(n));
        assert_eq!(uplink.next(SOON).map(|f| number_of(&f)), Some(n), "starved");
        uplink.send(&back);
        assert_eq!(lan.next(SOON).as_ref(), Some(&back), "starved");
    }
    let rx = |port: &str| number(&status["ports"][port]["rx"]) + 100;
    gate.assert_accounts([rx("lan"), rx("uplink")]);
}

#[test]
fn a_frame_too_long_for_a_chunk_is_dropped_whole_and_the_kernel_counts_it() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &config(&lab, "chunk = 2048", ""));
    let (lan, uplink) = Wire::both(&lab);
    // Somebody raises the MTU of every port while the gate runs.
    for (role, interface) in [
        ("gate", "gl0"),
        ("gate", "gu0"),
        ("lan", "lan0"),
        ("uplink", "up0"),
    ] {
        lab.ip(role, &format!("link set {interface} mtu 3000"));
    }
    // 2048 bytes less the 256 in front of each frame.
    let fits = Packet::out(TCP, 443).sized(1792);
    for len in [1793, 2000, 3000] {
        lan.send(&Packet::out(TCP, 443).sized(len));
    }
    lan.send(&fits);
    assert_eq!(uplink.next(SOON), Some(fits));
    assert_eq!(uplink.next(NOT_COMING), None);
    let status = gate.assert_accounts([1, 0]);
    assert_eq!(number(&status["ports"]["lan"]["kernel"]["rx_dropped"]), 3);
}
