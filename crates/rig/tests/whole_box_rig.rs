//! The rig with a bridge in the gate's place: that servers answer, that nftables blocks, that nothing stays behind.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rig::{
    Attempt, Gate, GateKind, Layout, Rig, Server, Servers, addr, poll_until, root_or_say, run,
    run_all,
};

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn each_server_answers_its_client_where_nothing_filters() {
    if !root_or_say("each_server_answers_its_client_where_nothing_filters") {
        return;
    }
    let rig = Rig::new().unwrap();
    let _servers = Servers::start(&rig, &Server::ALL).unwrap();
    let _bridge = Gate::start(&rig, GateKind::Bridge { nftables: None }).unwrap();
    let attempts = [
        Attempt::blocked_by_baseline(),
        Attempt::allowed_by_baseline(),
    ]
    .concat();
    // Twice, as the demo does: what a client leaves at its server must not keep the next one out.
    for round in [1, 2] {
        let all = run_all(&rig, &attempts, LIMIT).unwrap();
        for (attempt, got) in attempts.iter().zip(all) {
            assert!(got.through, "round {round}, {}: {}", attempt.name, got.said);
        }
    }
}

#[test]
fn a_bridge_with_nftables_blocks_what_its_rules_name_and_nothing_else() {
    if !root_or_say("a_bridge_with_nftables_blocks_what_its_rules_name_and_nothing_else") {
        return;
    }
    let rig = Rig::new().unwrap();
    let _servers = Servers::start(&rig, &[Server::Nginx, Server::Dnsmasq]).unwrap();
    let rules = "table bridge t { chain f { type filter hook forward priority 0; iifname gl0 udp dport 69 drop; }; }";
    let _bridge = Gate::start(
        &rig,
        GateKind::Bridge {
            nftables: Some(rules.to_owned()),
        },
    )
    .unwrap();
    let attempts = [
        Attempt::blocked_by_baseline(),
        Attempt::allowed_by_baseline(),
    ]
    .concat();
    let try_one = |name: &str, limit| {
        let attempt = attempts
            .iter()
            .find(|attempt| attempt.name == name)
            .unwrap();
        attempt.run(&rig, limit).unwrap()
    };
    assert!(!try_one("TFTP get", Duration::from_secs(1)).through);
    assert!(try_one("HTTP", LIMIT).through);
}

#[test]
fn without_a_gate_the_two_sides_do_not_meet() {
    if !root_or_say("without_a_gate_the_two_sides_do_not_meet") {
        return;
    }
    let rig = Rig::with(Layout {
        queues: 2,
        mtu: 1400,
    })
    .unwrap();
    let mut ping = rig.lan.command("ping");
    let output = run(ping.args(["-c", "1", "-W", "1", addr::SERVER]), "", LIMIT).unwrap();
    assert!(!output.success(), "{}", output.stdout);
}

#[test]
fn a_panic_takes_everything_down() {
    if !root_or_say("a_panic_takes_everything_down") {
        return;
    }
    let left = std::thread::spawn(|| {
        let rig = Rig::new().unwrap();
        let servers = Servers::start(&rig, &[Server::Nginx]).unwrap();
        assert!(servers.payload().exists() && rig.uplink.path().exists());
        std::panic::panic_any((rig.uplink.path(), rig.dir().to_owned()));
    });
    let panic = left.join().unwrap_err();
    let (namespace, dir) = panic
        .downcast_ref::<(std::path::PathBuf, std::path::PathBuf)>()
        .unwrap();
    assert!(!namespace.exists() && !dir.exists());
}

/// Starts the demo and waits until it has its namespaces.
fn demo() -> (std::process::Child, impl Fn() -> bool) {
    let demo = Command::new(env!("CARGO_BIN_EXE_portcullis-demo"))
        .arg("--control-only")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let id = demo.id();
    let there = move || {
        ["lan", "gate", "uplink"]
            .iter()
            .any(|n| Path::new(&format!("/run/netns/pc{id}-{n}")).exists())
    };
    poll_until("the demo's namespaces", LIMIT, || Ok(there().then_some(()))).unwrap();
    (demo, there)
}

fn signal(child: &std::process::Child, signal: Signal) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
}

#[test]
fn ctrl_c_takes_everything_down() {
    if !root_or_say("ctrl_c_takes_everything_down") {
        return;
    }
    let (mut demo, there) = demo();
    signal(&demo, Signal::SIGINT);
    let status = poll_until("the demo's end", LIMIT, || Ok(demo.try_wait().unwrap())).unwrap();
    assert_eq!(status.code(), Some(130));
    assert!(!there());
}

#[test]
fn what_sigkill_leaves_is_swept_by_the_next_run() {
    if !root_or_say("what_sigkill_leaves_is_swept_by_the_next_run") {
        return;
    }
    let (mut demo, there) = demo();
    signal(&demo, Signal::SIGKILL);
    demo.wait().unwrap();
    assert!(there());
    let next = Command::new(env!("CARGO_BIN_EXE_portcullis-demo"))
        .arg("--control-only")
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(next.success() && !there());
}
