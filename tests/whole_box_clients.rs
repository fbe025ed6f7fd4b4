//! The gate between real clients and real servers.
//!
//! As root; else each test says that it was not run.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use rig::{
    Attempt, Expect, Gate, GateKind, Rig, Server, Servers, addr, poll_until, read_alerts,
    root_or_say, run, run_all,
};

const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");
const LIMIT: Duration = Duration::from_secs(20);
const SETTLE: Duration = Duration::from_secs(3);

/// A gate with the baseline policy.
fn gate(rig: &Rig) -> Gate<'_> {
    Gate::start(rig, GateKind::portcullis(Path::new(PORTCULLIS), rig)).unwrap()
}

/// True where the first or second ping is answered.
fn ping(rig: &Rig) -> bool {
    let mut command = rig.lan.command("ping");
    run(
        command.args(["-n", "-c", "2", "-i", "0.2", "-W", "1", addr::SERVER]),
        "",
        LIMIT,
    )
    .unwrap()
    .success()
}

/// Without a program of anybody's on either port, and forwarding again as soon as somebody forwards.
fn nics_are_free(rig: &Rig) -> bool {
    let links = run(rig.gate.command("ip").args(["-d", "link"]), "", LIMIT)
        .unwrap()
        .stdout;
    let bridge = Gate::start(rig, GateKind::Bridge { nftables: None }).unwrap();
    let forwards = ping(rig);
    bridge.stop().unwrap();
    forwards && !links.contains("xdp")
}

#[test]
fn the_baseline_blocks_counts_and_alerts_and_lets_the_rest_through() {
    if !root_or_say("the_baseline_blocks_counts_and_alerts_and_lets_the_rest_through") {
        return;
    }
    let rig = Rig::new().unwrap();
    let _servers = Servers::start(&rig, &Server::ALL).unwrap();
    let gate = gate(&rig);
    let blocked = Attempt::blocked_by_baseline();
    let got = run_all(&rig, &blocked, Duration::from_secs(3)).unwrap();
    for (attempt, got) in blocked.iter().zip(&got) {
        assert!(!got.through, "{}: {}", attempt.name, got.said);
    }
    let allowed = Attempt::allowed_by_baseline();
    for (attempt, got) in allowed.iter().zip(run_all(&rig, &allowed, LIMIT).unwrap()) {
        assert!(got.through, "{}: {}", attempt.name, got.said);
    }

    let status = gate.settled_status(SETTLE).unwrap();
    assert!(status.holds(), "{status:?}");
    let alerts = read_alerts(&gate.alert_file()).unwrap();
    for attempt in &blocked {
        let Expect::Blocked {
            rule,
            alerts: alerting,
        } = attempt.expect
        else {
            panic!("{}", attempt.name)
        };
        assert!(status.packets(rule) > 0, "{rule} counted nothing");
        let alerted = alerts
            .iter()
            .any(|a| a.alert.signature == rule && a.src_ip == attempt.from);
        assert_eq!(alerted, alerting, "alerts of {rule}");
    }
    gate.stop().unwrap();
}

#[test]
fn a_gate_killed_in_generic_mode_stays_closed_and_auto_mode_takes_it_over() {
    if !root_or_say("a_gate_killed_in_generic_mode_stays_closed_and_auto_mode_takes_it_over") {
        return;
    }
    let rig = Rig::new().unwrap();
    let kind = |mode: &str| GateKind::Portcullis {
        bin: PORTCULLIS.into(),
        config: GateKind::config(&rig, "").replacen(
            "[bridge]",
            &format!("[bridge]\nmode = \"{mode}\""),
            1,
        ),
    };
    let kill = |gate: &mut Gate<'_>| {
        let daemon = gate.daemon().unwrap();
        daemon.signal(Signal::SIGKILL).unwrap();
        poll_until("the gate's end", LIMIT, || Ok(daemon.check().err())).unwrap();
        assert!(!ping(&rig), "a dead gate forwarded");
    };
    let mut first = Gate::start(&rig, kind("generic")).unwrap();
    assert!(ping(&rig));
    kill(&mut first);

    let mut second = Gate::start(&rig, kind("auto")).unwrap();
    assert!(ping(&rig), "the second gate does not forward");
    let status = second.settled_status(SETTLE).unwrap();
    assert!(status.holds(), "{status:?}");
    kill(&mut second);

    // Asked for by name, the driver's hook replaces the one that was left.
    let third = Gate::start(&rig, kind("copy")).unwrap();
    assert!(ping(&rig), "the third gate does not forward");
    third.stop().unwrap();
    assert!(nics_are_free(&rig));
}
