//! Start, stop, death and take-over of the whole box, and what it says of itself while it runs.

mod common;

use common::craft::{self, Packet, UDP, number_of, numbered};
use common::gate::{config, get, kernel_drops, number, portcullis, refused, write_config};
use common::wire::{assert_closed, assert_open};
use common::{Gate, Lab, SOON, Wire, until};
use nix::sys::signal::Signal;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Sends numbered frames from `first` on, one each `every`, until told to stop; the first number that was not sent.
fn stream(wire: &Wire, first: u64, every: Duration, stop: &AtomicBool) -> u64 {
    let start = Instant::now();
    let mut n = 0;
    while !stop.load(Relaxed) {
        wire.send(&numbered(first + n as u64));
        n += 1;
        std::thread::sleep((every * n).saturating_sub(start.elapsed()));
    }
    first + u64::from(n)
}

fn xdp_attached(lab: &Lab, interface: &str) -> bool {
    lab.ip("gate", &format!("-j link show {interface}"))
        .contains("\"xdp\"")
}

#[test]
fn after_a_kill_nothing_passes_and_the_next_start_takes_over_three_times() {
    let Some(lab) = Lab::new() else { return };
    let (lan, uplink) = Wire::both(&lab);
    let mut gate = Gate::start(&lab);
    for round in 0..3 {
        assert_open(&lan, &uplink);
        let before = number(&gate.status()["ports"]["lan"]["gate_no_socket"]);
        gate.signal(Signal::SIGKILL);
        gate.ended();
        assert!(gate.socket.exists(), "a killed process leaves its socket");
        let socket = gate.socket.to_str().expect("UTF-8");
        portcullis(&lab, &["status", "--socket", socket])
            .assert_one_line(&["no gate is running", "portcullis run"]);
        assert_closed(&lan, &uplink, 20);
        // At 100 frames a second from the kill on.
        let stop = AtomicBool::new(false);
        let (sent, ready, back) = std::thread::scope(|scope| {
            let sending = scope.spawn(|| stream(&lan, 0, Duration::from_millis(10), &stop));
            let start = Instant::now();
            gate = Gate::start(&lab);
            let ready = start.elapsed();
            let back = uplink.next(SOON).is_some().then(|| start.elapsed() - ready);
            std::thread::sleep(Duration::from_millis(300));
            stop.store(true, Relaxed);
            (sending.join().expect("the sender"), ready, back)
        });
        eprintln!("round {round}: ready after {ready:?}, forwarding {back:?} after that");
        assert!(back.is_some_and(|b| b < Duration::from_secs(2)), "{back:?}");
        // Every frame since the kill is accounted for, those that found nobody in the kernel's own counter.
        let status = until("all frames accounted for", SOON, || {
            let status = gate.assert_balanced();
            let port = &status["ports"]["lan"];
            let found = number(&port["rx"]) + number(&port["gate_no_socket"]) - before
                + kernel_drops(&status, "lan");
            (found == 20 + sent).then_some(status)
        });
        let lost = number(&status["ports"]["lan"]["gate_no_socket"]) - before;
        assert!(lost >= 20, "the closed gate counts what it drops: {lost}");
        let rx = number(&status["ports"]["lan"]["rx"]);
        let left = uplink.frames(rx as usize - 1, SOON);
        assert_eq!(
            left.len() as u64 + 1,
            rx,
            "all that was received was forwarded"
        );
    }
    gate.assert_balanced();
}

#[test]
fn sigterm_ends_cleanly_and_the_gate_stays_closed_until_detach_gives_the_nics_back() {
    let Some(lab) = Lab::new() else { return };
    for port in ["gl0", "gu0"] {
        lab.must("gate", "ethtool", &format!("-K {port} gro on rxvlan on"));
    }
    lab.ip("gate", "link set gu0 promisc on");
    let before = lab.ports();
    let (lan, uplink) = Wire::both(&lab);
    let gate = Gate::start(&lab);
    let config = lab.dir().join("portcullis.toml");
    let detach = ["detach", "-c", config.to_str().expect("UTF-8")];
    assert_open(&lan, &uplink);
    let running = portcullis(&lab, &detach);
    running.assert_one_line(&["running", &gate.pid().to_string(), "stop it first"]);
    assert_open(&lan, &uplink);
    gate.assert_accounts([2, 0]);
    let features = lab.must("gate", "ethtool", "-k gl0");
    assert!(
        features.contains("generic-receive-offload: off"),
        "{features}"
    );
    assert!(features.contains("rx-vlan-offload: off"), "{features}");

    assert_eq!(gate.end(Signal::SIGTERM).code(), Some(0));
    assert!(xdp_attached(&lab, "gl0") && xdp_attached(&lab, "gu0"));
    assert_eq!(lab.pins().len(), 2);
    assert_closed(&lan, &uplink, 10);

    let off = portcullis(&lab, &detach);
    assert_eq!(off.code, Some(0), "{off:?}");
    assert_eq!(lab.ports(), before, "the ports are not as they were");
    assert!(lab.pins().is_empty());
    let again = portcullis(&lab, &detach);
    assert_eq!(again.code, Some(0), "{again:?}");
    assert!(again.stdout.contains("no gate of ours"), "{again:?}");
    assert_eq!(lab.ports(), before);
}

#[test]
fn detach_leaves_a_gate_alone_that_runs_behind_another_control_socket_or_does_not_answer() {
    let Some(lab) = Lab::new() else { return };
    lab.must("gate", "ethtool", "-K gl0 gro on");
    let gate = Gate::start(&lab);
    let (lan, uplink) = Wire::both(&lab);
    let running = lab.ports();
    let text = config(&lab, "", "").replace("/control.sock", "/other.sock");
    let path = write_config(&lab, "other.toml", &text);
    let detach = |path: &std::path::Path| {
        let out = portcullis(&lab, &["detach", "-c", path.to_str().expect("UTF-8")]);
        out.assert_one_line(&["gl0", "running on it", "stop it first"]);
        assert_eq!(lab.ports(), running);
    };
    detach(&path);
    gate.signal(Signal::SIGSTOP);
    detach(&lab.dir().join("portcullis.toml"));
    gate.signal(Signal::SIGCONT);
    assert_open(&lan, &uplink);
    gate.assert_accounts([1, 0]);
}

#[test]
fn what_detach_gives_back_is_what_was_there_before_the_first_start() {
    let Some(lab) = Lab::new() else { return };
    lab.must("gate", "ethtool", "-K gl0 gro on");
    let before = lab.ports();
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGINT] {
        Gate::start(&lab).end(signal);
    }
    let config = lab.dir().join("portcullis.toml");
    let out = portcullis(&lab, &["detach", "-c", config.to_str().expect("UTF-8")]);
    assert_eq!(out.code, Some(0), "{out:?}");
    assert_eq!(lab.ports(), before);
}

#[test]
fn a_second_start_beside_a_running_gate_is_refused_and_does_no_harm() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::start(&lab);
    let (lan, uplink) = Wire::both(&lab);
    let before = lab.ports();
    let same = refused(&lab, &lab.dir().join("portcullis.toml"));
    same.assert_one_line(&["control.sock", "already running", "stop that one first"]);
    // Without a common control socket it is the kernel that says so.
    std::fs::create_dir(lab.dir().join("other")).expect("a folder");
    let text = config(&lab, "", "").replace("/control.sock", "/other/control.sock");
    let other = refused(&lab, &write_config(&lab, "other.toml", &text));
    other.assert_one_line(&["gl0", "another gate", "stop that one first"]);
    assert_eq!(lab.ports(), before);
    assert_open(&lan, &uplink);
    let status = gate.assert_accounts([1, 0]);
    assert_eq!(number(&status["pid"]), u64::from(gate.pid()));
}

#[test]
fn ctrl_c_ends_cleanly_and_the_control_socket_goes() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::start(&lab);
    let (lan, uplink) = Wire::both(&lab);
    assert_open(&lan, &uplink);
    gate.assert_accounts([1, 0]);
    let socket = gate.socket.clone();
    assert!(socket.exists());
    assert_eq!(gate.end(Signal::SIGINT).code(), Some(0));
    assert!(!socket.exists());
    let status = portcullis(
        &lab,
        &["status", "--socket", socket.to_str().expect("UTF-8")],
    );
    status.assert_one_line(&["no gate is running", "control.sock"]);
}

#[test]
fn a_start_in_another_mode_takes_over_what_a_killed_one_left() {
    let Some(lab) = Lab::new() else { return };
    let (lan, uplink) = Wire::both(&lab);
    for mode in ["copy", "generic", "copy"] {
        let gate = Gate::with(&lab, &config(&lab, &format!("mode = \"{mode}\""), ""));
        assert_open(&lan, &uplink);
        let status = gate.assert_accounts([1, 0]);
        assert_eq!(status["ports"]["lan"]["mode"], mode);
        gate.end(Signal::SIGKILL);
        assert_closed(&lan, &uplink, 5);
    }
}

#[test]
fn a_start_that_fails_leaves_the_closed_gate_of_an_earlier_one_closed() {
    let Some(lab) = Lab::new() else { return };
    let (lan, uplink) = Wire::both(&lab);
    Gate::start(&lab).end(Signal::SIGKILL);
    // Somebody takes the gate off one NIC, and makes that one a NIC that a gate cannot be put on in its driver.
    let pin = lab
        .pins()
        .into_iter()
        .find(|pin| pin.to_string_lossy().contains("/gu0-"));
    std::fs::remove_file(pin.expect("a pin of gu0").join("link")).expect("removed");
    until("gu0 without a program", SOON, || {
        (!xdp_attached(&lab, "gu0")).then_some(())
    });
    for (role, interface) in [("gate", "gu0"), ("uplink", "up0")] {
        lab.ip(role, &format!("link set {interface} mtu 3700"));
    }
    let text = config(&lab, "mode = \"copy\"", "");
    refused(&lab, &write_config(&lab, "refused.toml", &text)).assert_one_line(&["gu0", "no XDP"]);
    assert!(xdp_attached(&lab, "gl0"), "the closed gate is gone");
    assert_closed(&lan, &uplink, 5);
}

/// Takes a mount away again.
struct Mount(std::path::PathBuf);

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg(&self.0).output();
    }
}

#[test]
fn a_bpf_file_system_that_is_not_there_is_mounted() {
    let Some(lab) = Lab::new() else { return };
    let mount = Mount(lab.dir().join("bpf"));
    let bridge = format!("bpffs = \"{}\"", mount.0.display());
    let (lan, uplink) = Wire::both(&lab);
    for _ in 0..2 {
        let gate = Gate::with(&lab, &config(&lab, &bridge, ""));
        assert_open(&lan, &uplink);
        gate.assert_accounts([1, 0]);
        gate.end(Signal::SIGKILL);
        assert_closed(&lan, &uplink, 5);
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&mount.0).expect("bpffs"));
    assert_eq!(mode & 0o777, 0o700, "for root alone");
    assert!(
        lab.pins().is_empty(),
        "pins in another file system than the one named"
    );
    let pinned = std::fs::read_dir(mount.0.join("portcullis")).expect("pins");
    assert_eq!(pinned.count(), 2);
}

#[test]
fn the_smallest_config_runs_and_serves_metrics() {
    let Some(lab) = Lab::new() else { return };
    let socket = lab.dir().join("control.sock");
    let text = format!(
        "[bridge]\nlan = \"gl0\"\nuplink = \"gu0\"\n[control]\nsocket = \"{}\"\n",
        socket.display()
    );
    let gate = Gate::with(&lab, &text);
    let (lan, uplink) = Wire::both(&lab);
    for n in 0..100 {
        lan.send(&numbered(n));
    }
    let got: Vec<u64> = uplink
        .frames(100, SOON)
        .iter()
        .map(|f| number_of(f))
        .collect();
    assert!(got.into_iter().eq(0..100));
    lan.send(&Packet::out(UDP, 69).frame());
    let status = gate.assert_accounts([101, 0]);
    assert_eq!(number(&status["rules"]["tftp"]["packets"]), 1);
    assert!(get(&lab, "/healthz").0.contains(" 200 "));
    assert_eq!(gate.end(Signal::SIGTERM).code(), Some(0));
}

#[test]
fn detach_gives_back_one_nic_where_the_other_is_gone() {
    let Some(lab) = Lab::new() else { return };
    lab.must("gate", "ethtool", "-K gu0 gro on");
    Gate::start(&lab).end(Signal::SIGTERM);
    lab.ip("gate", "link del gl0");
    let config = lab.dir().join("portcullis.toml");
    let detach = ["detach", "-c", config.to_str().expect("UTF-8")];
    portcullis(&lab, &detach).assert_one_line(&["gl0", "no such interface"]);
    assert!(!xdp_attached(&lab, "gu0"));
    let features = lab.must("gate", "ethtool", "-k gu0");
    assert!(
        features.contains("generic-receive-offload: on"),
        "{features}"
    );
}

/// User and system time of a process (proc(5), fields 14 and 15; 100 ticks a second).
fn cpu_time(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("its stat file");
    let fields: Vec<&str> = text
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |at: usize| fields[at - 3].parse::<u64>().expect("ticks");
    Duration::from_millis((ticks(14) + ticks(15)) * 10)
}

#[test]
fn an_adaptive_gate_burns_little_when_nothing_comes_and_answers_at_once() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &config(&lab, "idle = \"adaptive\"", ""));
    let (lan, uplink) = Wire::both(&lab);
    assert_open(&lan, &uplink);
    let (start, used) = (Instant::now(), cpu_time(gate.pid()));
    std::thread::sleep(Duration::from_secs(1));
    let used = cpu_time(gate.pid()) - used;
    let share = used.as_secs_f64() / start.elapsed().as_secs_f64();
    assert!(share < 0.3, "{share} of a core with nothing to do");
    for _ in 0..5 {
        // Asleep again in between.
        std::thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        assert_open(&lan, &uplink);
        let took = start.elapsed();
        assert!(
            took < Duration::from_millis(500),
            "{took:?} until the first frame"
        );
    }
    gate.assert_accounts([6, 0]);
}

#[test]
fn the_metrics_page_shows_the_same_numbers_as_status() {
    let Some(lab) = Lab::new() else { return };
    let listen = "[metrics]\nlisten = \"127.0.0.1:9155\"";
    let gate = Gate::with(&lab, &config(&lab, "", listen));
    let (lan, uplink) = Wire::both(&lab);
    for n in 0..7 {
        lan.send(&numbered(n));
    }
    lan.send(&Packet::out(UDP, 69).frame());
    lan.send(&craft::ethernet(
        craft::ROUTER,
        craft::HOST,
        0x8847,
        &[0; 46],
    ));
    for _ in 0..3 {
        uplink.send(&Packet::back(UDP, 53).frame());
    }
    let status = gate.assert_accounts([9, 3]);
    assert!(get(&lab, "/healthz").0.contains(" 200 "));
    assert!(get(&lab, "/nothing").0.contains(" 404 "));
    let (first, page) = get(&lab, "/metrics");
    assert!(first.contains(" 200 "), "{first}");
    let mut values = std::collections::HashMap::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(comment) = line.strip_prefix("# ") {
            assert!(
                comment.starts_with("HELP ") || comment.starts_with("TYPE "),
                "{line}"
            );
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(name.starts_with("portcullis_"), "{line}");
        let value: f64 = value.parse().expect("a number");
        assert!(values.insert(name, value).is_none(), "twice: {name}");
    }
    let value = |name: &str| {
        values
            .get(name)
            .copied()
            .unwrap_or_else(|| panic!("no {name} in {page}"))
    };
    for name in ["lan", "uplink"] {
        let port = &status["ports"][name];
        for (metric, key) in [
            ("received_frames_total{port=\"PORT\"}", "rx"),
            ("received_bytes_total{port=\"PORT\"}", "rx_bytes"),
            (
                "frames_total{port=\"PORT\",verdict=\"forward\"}",
                "forwarded",
            ),
            ("frames_total{port=\"PORT\",verdict=\"reject\"}", "rejected"),
            ("transmitted_frames_total{port=\"PORT\"}", "tx"),
            ("transmit_failed_frames_total{port=\"PORT\"}", "tx_failed"),
        ] {
            let metric = format!("portcullis_{}", metric.replace("PORT", name));
            assert_eq!(value(&metric), number(&port[key]) as f64, "{metric}");
        }
    }
    for reason in ["rule", "ethertype"] {
        let metric = format!("portcullis_dropped_frames_total{{port=\"lan\",reason=\"{reason}\"}}");
        assert_eq!(value(&metric), 1.0, "{reason}");
    }
    assert_eq!(value("portcullis_rule_packets_total{rule=\"tftp\"}"), 1.0);
}

#[test]
fn status_for_people_names_both_ports_and_balances() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::start(&lab);
    let (lan, uplink) = Wire::both(&lab);
    assert_open(&lan, &uplink);
    gate.assert_accounts([1, 0]);
    let out = portcullis(
        &lab,
        &["status", "--socket", gate.socket.to_str().expect("UTF-8")],
    );
    assert_eq!(out.code, Some(0), "{out:?}");
    for words in [
        "gl0 (copy, queues: 1)",
        "gu0 (copy, queues: 1)",
        "healthy",
        "[balanced]",
        "rx 1 = forwarded 1",
    ] {
        assert!(out.stdout.contains(words), "no `{words}` in {}", out.stdout);
    }
    assert!(!out.stdout.contains("on their way"));
}
