//! A restart that was asked for, under a service manager that keeps descriptors: the next process goes on where the one before stopped.

mod common;

use common::craft::{Packet, UDP, number_of, numbered};
use common::gate::{config, kernel_drops, number, portcullis};
use common::wire::{assert_closed, assert_open};
use common::{Gate, Lab, SOON, Wire, until};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;
use rig::Manager;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// A gate under the manager, ready.
fn start<'lab>(lab: &'lab Lab, config: &str, manager: &Manager) -> Gate<'lab> {
    let mut gate = Gate::spawn_under(lab, config, manager);
    gate.wait_ready();
    gate
}

/// Ends it as an upgrade does.
fn stop(mut gate: Gate) -> String {
    gate.signal(Signal::SIGTERM);
    assert_eq!(gate.ended().code(), Some(0), "{}", gate.log());
    gate.log()
}

/// A watchdog as by default, and a start that is not longer than it has to be: memory of a few flows is made in no time by a build that is not optimized, too.
fn usual(lab: &Lab, bridge: &str) -> String {
    let bridge = format!("watchdog = \"200ms\"\nhandover = \"10s\"\n{bridge}");
    config(lab, &bridge, "[flows]\nsize = 1024")
}

/// A number of a port's status.
fn of(status: &serde_json::Value, port: &str, key: &str) -> u64 {
    number(&status["ports"][port][key])
}

/// Sends two numbered frames a millisecond and a forbidden one every two, while `work` is done; how many were sent of both.
fn under_traffic(lan: &Wire, work: impl FnOnce()) -> [u64; 2] {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = [0, 0];
            while !done.load(Relaxed) {
                // Never more at once: one that was kept off its core does not make up for it.
                std::thread::sleep(Duration::from_millis(1));
                for _ in 0..2 {
                    lan.send(&numbered(sent[0]));
                    sent[0] += 1;
                }
                if sent[0].is_multiple_of(4) {
                    lan.send(&Packet::out(UDP, 69).frame());
                    sent[1] += 1;
                }
            }
            sent
        });
        struct Done<'a>(&'a AtomicBool);
        impl Drop for Done<'_> {
            fn drop(&mut self) {
                self.0.store(true, Relaxed);
            }
        }
        let done = Done(&done);
        work();
        drop(done);
        sender.join().expect("the sender")
    })
}

/// Frames that the gate in the kernel has not given to a socket.
fn failed(gate: &Gate) -> u64 {
    let status = gate.status();
    let keys = ["gate_no_socket", "gate_stale", "gate_unfiltered"];
    keys.iter().map(|key| of(&status, "lan", key)).sum()
}

#[test]
fn restarts_under_traffic_lose_no_frame_let_no_forbidden_one_out_and_every_frame_is_accounted_for()
{
    let Some(lab) = Lab::new() else { return };
    let manager = Manager::start(lab.dir()).expect("a manager");
    let (lan, uplink) = Wire::both(&lab);
    for on_failure in ["closed", "open"] {
        let text = usual(&lab, &format!("on_failure = \"{on_failure}\""));
        let mut gate = start(&lab, &text, &manager);
        assert!(gate.status()["taken_over"].is_null());
        let before = failed(&gate);
        uplink.drain();
        let (mut left, mut longest): (Vec<u64>, u64) = (Vec::new(), 0);
        let mut take = || left.extend(uplink.drain().iter().map(|frame| number_of(frame)));
        let sent = under_traffic(&lan, || {
            for _ in 0..6 {
                std::thread::sleep(Duration::from_millis(100));
                gate.signal(Signal::SIGTERM);
                assert_eq!(gate.ended().code(), Some(0), "{}", gate.log());
                gate = start(&lab, &text, &manager);
                let taken = gate.status()["taken_over"].clone();
                assert!(!taken.is_null(), "{}", gate.log());
                eprintln!("{on_failure}: {taken}");
                longest = longest.max(number(&taken["gap_us"]) / 1000);
                assert_eq!(
                    manager.kept(),
                    [""; 0],
                    "if it dies, its sockets die with it"
                );
                take();
            }
            std::thread::sleep(Duration::from_millis(100));
        });
        let status = gate.assert_balanced();
        std::thread::sleep(Duration::from_millis(100));
        take();
        let missing = (0..sent[0]).filter(|n| left.binary_search(n).is_err());
        eprintln!(
            "{on_failure}: {sent:?} sent, {} lost, nobody filtered for {longest} ms at most",
            missing.count()
        );
        assert!(left.into_iter().eq(0..sent[0]), "once, and in order");
        let port = &status["ports"]["lan"];
        let earlier = number(&status["taken_over"]["received_before"][0]);
        assert_eq!(number(&port["rx"]) + earlier, sent[0] + sent[1]);
        assert_eq!(kernel_drops(&status, "lan"), 0);
        assert_eq!(failed(&gate), before, "the gate in the kernel never failed");
        stop(gate);
        manager.release();
    }
}

#[test]
fn what_took_over_and_dies_is_as_dead_as_any_other_process() {
    let Some(lab) = Lab::new() else { return };
    let manager = Manager::start(lab.dir()).expect("a manager");
    let (lan, uplink) = Wire::both(&lab);
    // A watchdog that has no part in it.
    let text = config(&lab, "watchdog = \"20s\"", "");
    stop(start(&lab, &text, &manager));
    let mut gate = start(&lab, &text, &manager);
    assert!(!gate.status()["taken_over"].is_null(), "{}", gate.log());
    assert_open(&lan, &uplink);
    assert_eq!(manager.kept(), [""; 0]);
    let before = gate.status();
    gate.signal(Signal::SIGKILL);
    let killed = Instant::now();
    gate.ended();
    // No frame passes, nor is one kept for later.
    assert_closed(&lan, &uplink, 10);
    let gate = start(&lab, &text, &manager);
    assert!(gate.status()["taken_over"].is_null(), "{}", gate.log());
    let lost = of(&gate.status(), "lan", "gate_no_socket") - of(&before, "lan", "gate_no_socket");
    assert!(lost >= 10, "{lost} after {:?}", killed.elapsed());
    assert_open(&lan, &uplink);
}

#[test]
fn nobody_takes_over_and_the_fail_mode_comes_when_the_patience_is_over_or_the_manager_lets_go() {
    let Some(lab) = Lab::new() else { return };
    let manager = Manager::start(lab.dir()).expect("a manager");
    let (lan, uplink) = Wire::both(&lab);
    for watchdog in ["200ms", "20s"] {
        let text = config(
            &lab,
            &format!("watchdog = \"{watchdog}\"\nhandover = \"1s\""),
            "",
        );
        let gate = start(&lab, &text, &manager);
        let before = gate.status();
        let log = stop(gate);
        assert!(log.contains("with the service manager"), "{log}");
        assert_eq!(manager.kept().len(), 4, "{:?}", manager.kept());
        // Some wait, and after a second no more.
        lan.send(&numbered(0));
        std::thread::sleep(Duration::from_millis(1300));
        (1..11).for_each(|n| lan.send(&numbered(n)));
        assert_eq!(uplink.next(Duration::from_millis(100)), None);
        let gate = start(&lab, &text, &manager);
        let status = gate.status();
        let stale = of(&status, "lan", "gate_stale") - of(&before, "lan", "gate_stale");
        assert_eq!(stale, 10, "{watchdog}: {status}");
        assert_eq!(status["taken_over"]["waiting"][0], 1);
        let late = uplink.next(SOON).map(|frame| number_of(&frame));
        assert_eq!(late, Some(0), "what waited is judged like any frame");

        // A stop that is none of a restart: what was kept is let go of.
        stop(gate);
        manager.release();
        assert_closed(&lan, &uplink, 10);
    }
}

/// What is kept under a name is something else.
type Spoil = Option<(&'static str, Option<OwnedFd>)>;

/// A file of memory that nobody changes any more.
fn sealed(text: &[u8]) -> OwnedFd {
    let made = memfd_create(c"spoilt", MFdFlags::MFD_ALLOW_SEALING).expect("a file");
    let mut file = File::from(made);
    file.write_all(text).expect("written");
    let all = SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(all)).expect("sealed");
    file.into()
}

#[test]
fn what_does_not_fit_is_closed_and_said_and_the_gate_starts_anew() {
    let Some(lab) = Lab::new() else { return };
    let manager = Manager::start(lab.dir()).expect("a manager");
    let (lan, uplink) = Wire::both(&lab);
    let usual = usual(&lab, "");
    let with = |more: &str| usual.replace("[bridge]\n", &format!("[bridge]\n{more}\n"));
    let null = || File::open("/dev/null").expect("/dev/null").into();
    let cases: [(String, Spoil, &str); 10] = [
        (with("ring = 1024"), None, "ring was 2048 and is 1024"),
        (with("chunk = 2048"), None, "chunk was 4096 and is 2048"),
        (with("frames = 8192"), None, "was 16384 and is 8192"),
        (with("mode = \"generic\""), None, "runs in another mode"),
        (
            usual.replace("handover = \"10s\"", "handover = \"off\""),
            None,
            "handover = \"off\"",
        ),
        (
            usual.clone(),
            Some(("ledger", Some(sealed(b"\xff\x00{")))),
            "its ledger cannot be read",
        ),
        (
            usual.clone(),
            Some(("ledger", Some(sealed(b"{\"version\":77}")))),
            "version 77",
        ),
        (
            usual.clone(),
            Some(("memory", Some(sealed(b"short")))),
            "packet memory is not what",
        ),
        (
            usual.clone(),
            Some(("uplink-0", Some(null()))),
            "no AF_XDP socket",
        ),
        (usual.clone(), Some(("lan-0", None)), "no portcullis-lan-0"),
    ];
    for (text, spoil, words) in cases {
        let _ = std::fs::remove_file(lab.dir().join("gate.log"));
        stop(start(&lab, &usual, &manager));
        if let Some((name, by)) = spoil {
            manager.replace(&format!("portcullis-{name}"), by);
        }
        let gate = start(&lab, &text, &manager);
        let log = gate.log();
        let said = log.lines().filter(|line| line.contains("not taken over"));
        let said: Vec<_> = said.collect();
        assert!(said.len() == 1 && said[0].contains(words), "{words}: {log}");
        assert!(gate.status()["taken_over"].is_null());
        assert_eq!(manager.kept(), [""; 0]);
        assert_open(&lan, &uplink);
        gate.assert_balanced();
        stop(gate);
        manager.release();
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn two_workers_hand_over_to_two_and_not_to_one() {
    let cables = common::lab::Cables {
        queues: [2, 2],
        ..Default::default()
    };
    let Some(lab) = Lab::with(cables) else { return };
    let manager = Manager::start(lab.dir()).expect("a manager");
    let (lan, uplink) = Wire::both(&lab);
    let text = usual(&lab, "queues = 2");
    stop(start(&lab, &text, &manager));
    let gate = start(&lab, &text, &manager);
    let taken = gate.status()["taken_over"].clone();
    assert_eq!(
        number(&taken["chunks"]),
        2 * 16_384 - 4 * 2048,
        "{}",
        gate.log()
    );
    assert_open(&lan, &uplink);
    gate.assert_accounts([1, 0]);
    assert_eq!(gate.status()["workers"].as_array().map_or(0, Vec::len), 2);
    stop(gate);
    let one = usual(&lab, "cores = [0]");
    let gate = start(&lab, &one, &manager);
    let log = gate.log();
    assert!(log.contains("workers was 2 and is 1"), "{log}");
    assert_open(&lan, &uplink);
}

#[test]
fn detach_gives_the_nics_back_after_a_stop_whose_sockets_were_kept() {
    let Some(lab) = Lab::new() else { return };
    let before = lab.ports();
    let manager = Manager::start(lab.dir()).expect("a manager");
    let gate = start(&lab, &usual(&lab, ""), &manager);
    stop(gate);
    manager.release();
    let config = lab.dir().join("portcullis.toml");
    let out = portcullis(&lab, &["detach", "-c", config.to_str().expect("UTF-8")]);
    assert_eq!(out.code, Some(0), "{out:?}");
    assert_eq!(lab.ports(), before);
}

#[test]
fn the_manager_hears_when_the_gate_is_ready_and_when_it_ends() {
    let Some(lab) = Lab::new() else { return };
    let manager = Manager::start(lab.dir()).expect("a manager");
    let gate = start(&lab, &usual(&lab, ""), &manager);
    let said = until("READY=1", SOON, || {
        let said = manager.said();
        (!said.is_empty()).then_some(said)
    });
    assert!(
        said[0].starts_with("READY=1\nSTATUS=filtering: lan=gl0"),
        "{said:?}"
    );
    stop(gate);
    let said = manager.said();
    assert!(said[1].starts_with("STOPPING=1"), "{said:?}");
    assert!(
        said[2].starts_with("FDSTORE=1\nFDNAME=portcullis-lan-0\nFDPOLL=0"),
        "{said:?}"
    );
    // Ended by hand, nothing is left for anybody.
    manager.release();
    let gate = start(&lab, &usual(&lab, ""), &manager);
    assert_eq!(gate.end(Signal::SIGINT).code(), Some(0));
    assert_eq!(manager.kept(), [""; 0]);
}

#[test]
fn a_stop_that_comes_while_a_start_goes_on_is_answered_when_it_is_through_and_loses_no_frame() {
    let Some(lab) = Lab::new() else { return };
    let manager = Manager::start(lab.dir()).expect("a manager");
    let (lan, uplink) = Wire::both(&lab);
    let text = usual(&lab, "on_failure = \"open\"");
    let mut gate = start(&lab, &text, &manager);
    uplink.drain();
    let before = failed(&gate);
    let sent = under_traffic(&lan, || {
        for wait in [0, 5, 15, 30] {
            std::thread::sleep(Duration::from_millis(50));
            gate.signal(Signal::SIGTERM);
            assert_eq!(gate.ended().code(), Some(0), "{}", gate.log());
            let mut second = Gate::spawn_under(&lab, &text, &manager);
            until("the take-over", SOON, || {
                manager.kept().is_empty().then_some(())
            });
            std::thread::sleep(Duration::from_millis(wait));
            second.signal(Signal::SIGTERM);
            assert_eq!(second.ended().code(), Some(0), "{}", second.log());
            gate = start(&lab, &text, &manager);
            let taken = gate.status()["taken_over"].clone();
            assert!(!taken.is_null(), "after {wait} ms: {}", gate.log());
        }
        std::thread::sleep(Duration::from_millis(50));
    });
    assert_eq!(failed(&gate), before, "nothing failed in between");
    let mut left = Vec::new();
    until("every allowed frame", SOON, || {
        left.extend(uplink.drain().iter().map(|frame| number_of(frame)));
        (left.len() as u64 >= sent[0]).then_some(())
    });
    let all: Vec<u64> = (0..sent[0]).collect();
    assert_eq!(left, all, "once, in order");
}

#[test]
fn a_gap_that_was_longer_than_the_gate_waits_is_told() {
    let Some(lab) = Lab::new() else { return };
    let manager = Manager::start(lab.dir()).expect("a manager");
    let bridge = "watchdog = \"50ms\"\nhandover = \"100ms\"";
    let text = config(&lab, bridge, "[flows]\nsize = 1024");
    stop(start(&lab, &text, &manager));
    std::thread::sleep(Duration::from_millis(200));
    let gate = start(&lab, &text, &manager);
    assert_eq!(gate.status()["taken_over"]["late"], true);
    assert!(
        gate.log().contains("longer than `[bridge] handover`"),
        "{}",
        gate.log()
    );
    let socket = gate.socket.to_str().expect("UTF-8");
    let shown = portcullis(&lab, &["status", "--socket", socket]).stdout;
    assert!(shown.contains("on_failure ruled"), "{shown}");
}

#[test]
fn descriptors_whose_names_do_not_fit_are_closed_and_forgotten_and_the_gate_starts_anew() {
    let Some(lab) = Lab::new() else { return };
    let manager = Manager::start(lab.dir()).expect("a manager");
    let text = usual(&lab, "");
    stop(start(&lab, &text, &manager));
    assert!(!manager.kept().is_empty());
    let mut gate = Gate::spawn_under_with(&lab, &text, &manager, &[("LISTEN_FDNAMES", "one:two")]);
    gate.wait_ready();
    assert!(gate.log().contains("LISTEN_FDS"), "{}", gate.log());
    assert!(gate.status()["taken_over"].is_null());
    assert_eq!(manager.kept(), [""; 0]);
}
