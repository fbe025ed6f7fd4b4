//! The gate on real wires: real clients, real servers, and the drills of an administrator.
//!
//! As root; else each test says that it was not run.

use std::path::Path;
use std::time::Duration;

use nix::sys::signal::Signal;
use rig::{
    Attempt, Error, Expect, Gate, GateKind, Layout, Rig, Server, Servers, addr, poll_until,
    read_alerts, root_or_say, run, run_all,
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

/// What a start that has to be refused says, in one line; and that it says so with exit status 2.
fn refusal(rig: &Rig, config: &str) -> String {
    let kind = GateKind::Portcullis {
        bin: PORTCULLIS.into(),
        config: config.to_owned(),
    };
    match Gate::start(rig, kind) {
        Err(Error::Ended { said, .. }) => {
            let line = said
                .strip_prefix("exit status 2: ")
                .unwrap_or_else(|| panic!("not exit status 2: {said}"));
            line.to_owned()
        }
        Err(other) => panic!("not a refusal: {other}"),
        Ok(_) => panic!("it started"),
    }
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
fn a_gate_that_stops_gives_the_nics_back() {
    if !root_or_say("a_gate_that_stops_gives_the_nics_back") {
        return;
    }
    let rig = Rig::new().unwrap();
    let first = gate(&rig);
    assert!(ping(&rig));
    first.stop().unwrap();
    assert!(nics_are_free(&rig));
}

#[test]
fn a_killed_gate_lets_nothing_through_and_the_next_one_takes_over() {
    if !root_or_say("a_killed_gate_lets_nothing_through_and_the_next_one_takes_over") {
        return;
    }
    let rig = Rig::new().unwrap();
    let mut first = gate(&rig);
    assert!(ping(&rig));
    let daemon = first.daemon().unwrap();
    daemon.signal(Signal::SIGKILL).unwrap();
    poll_until("the gate's end", LIMIT, || Ok(daemon.check().err())).unwrap();
    assert!(!ping(&rig), "a dead gate forwarded");

    let second = gate(&rig);
    assert!(ping(&rig), "the second gate does not forward");
    let status = second.settled_status(SETTLE).unwrap();
    assert!(status.holds(), "{status:?}");
    second.stop().unwrap();
    assert!(nics_are_free(&rig));
}

#[test]
fn bad_input_is_refused_with_status_2_and_the_nics_left_as_they_were() {
    if !root_or_say("bad_input_is_refused_with_status_2_and_the_nics_left_as_they_were") {
        return;
    }
    let rig = Rig::new().unwrap();
    let good = GateKind::config(&rig, "");

    let missing = refusal(&rig, &good.replace("\"gu0\"", "\"enp9s9\""));
    assert!(missing.contains("enp9s9"), "{missing}");
    let same = refusal(&rig, &good.replace("\"gu0\"", "\"gl0\""));
    assert!(same.contains("gl0"), "{same}");
    refusal(&rig, &good.replace("prefixes =", "prefixes = = "));
    let unknown = refusal(
        &rig,
        &format!("{good}\n[[rule]]\nname = \"r\"\naction = \"forbid\"\n"),
    );
    assert!(unknown.contains("forbid"), "{unknown}");
    assert!(nics_are_free(&rig));
}

#[test]
fn an_mtu_that_no_chunk_holds_is_refused() {
    if !root_or_say("an_mtu_that_no_chunk_holds_is_refused") {
        return;
    }
    let rig = Rig::with(Layout {
        mtu: 9000,
        ..Layout::default()
    })
    .unwrap();
    let said = refusal(&rig, &GateKind::config(&rig, ""));
    assert!(said.contains("9000") && said.contains("MTU"), "{said}");
    assert!(nics_are_free(&rig));
}

#[test]
fn without_privilege_the_gate_says_so_and_ends_with_status_2() {
    if !root_or_say("without_privilege_the_gate_says_so_and_ends_with_status_2") {
        return;
    }
    let rig = Rig::new().unwrap();
    let config = rig.dir().join("gate.toml");
    std::fs::write(&config, GateKind::config(&rig, "")).unwrap();
    let mut command = rig.gate.command("setpriv");
    command
        .args([
            "--bounding-set",
            "-all",
            "--inh-caps",
            "-all",
            "--",
            PORTCULLIS,
            "run",
            "-c",
        ])
        .arg(&config);
    let output = run(&mut command, "", LIMIT).unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", output.stderr);
    assert_eq!(output.stderr.trim().lines().count(), 1, "{}", output.stderr);
    assert!(nics_are_free(&rig));
}
