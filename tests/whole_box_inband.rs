//! The box's own address, used from the LAN as an administrator uses it.
//!
//! As root; else each test says that it was not run.

mod common;

use common::craft::{ethernet, numbered, padded, tagged};
use common::gate::{config, dropped, number};
use common::lab::Cables;
use common::{Gate, Lab, SOON, Wire, until};
use etherparse::PacketBuilder;
use serde_json::Value;
use std::process::{Output, Stdio};
use std::time::Duration;

const ADDRESS: &str = "10.77.0.2";
const ADDRESS6: &str = "fd77::2";
/// An address of the box, for one machine.
const INBAND: &str = "[inband]\naddress = [\"10.77.0.2/24\", \"fd77::2/64\"]\nallow = [\"10.77.0.9\", \"fd77::9\"]\n";

fn run(lab: &Lab, role: &str, program: &str, arguments: &[&str]) -> Output {
    let mut command = lab.command(role, "timeout");
    command.arg("20").arg(program).args(arguments);
    command.output().expect("a program that can be run")
}

/// What curl has got, and whether that was an answer of 200.
fn curl(lab: &Lab, role: &str, arguments: &[&str]) -> (bool, String) {
    let mut all = vec!["-sS", "-f", "-g", "--max-time", "10"];
    all.extend(arguments);
    let got = run(lab, role, "curl", &all);
    let text = String::from_utf8_lossy(&got.stdout).into_owned();
    (got.status.success(), text)
}

fn pings(lab: &Lab, role: &str, to: &str) -> bool {
    let arguments = ["-n", "-c", "2", "-i", "0.2", "-W", "2", to];
    run(lab, role, "ping", &arguments).status.success()
}

fn inband(gate: &Gate<'_>, what: &str) -> u64 {
    number(&gate.status()["inband"][what])
}

#[test]
fn ping_and_curl_reach_it_over_both_families_and_the_page_is_live() {
    let Some(lab) = Lab::addressed() else { return };
    let uplink = Wire::open(&lab, "uplink", "up0");
    let gate = Gate::with(&lab, &config(&lab, "", INBAND));
    for to in [ADDRESS, ADDRESS6] {
        assert!(pings(&lab, "lan", to), "{to}");
    }
    for at in ["10.77.0.2:9155", "[fd77::2]:9155"] {
        let (ok, metrics) = curl(&lab, "lan", &[&format!("http://{at}/metrics")]);
        assert!(
            ok && metrics.contains("portcullis_inband_connections 1"),
            "{metrics}"
        );
        let (ok, _) = curl(&lab, "lan", &[&format!("http://{at}/healthz")]);
        assert!(ok, "{at}");
        let (ok, page) = curl(&lab, "lan", &[&format!("http://{at}/")]);
        assert!(ok && page.contains("<html"), "{page}");
    }
    // Two beats of the live page's stream.
    let live = ["-N", "--max-time", "4", "http://10.77.0.2:9155/api/events"];
    let (_, events) = curl(&lab, "lan", &live);
    assert!(events.matches("data:").count() >= 2, "{events}");
    let status = gate.assert_balanced();
    assert!(
        number(&status["ports"]["lan"]["to_host_stack"]) > 20,
        "{status:#}"
    );
    // Nothing of it has left: neither a question for the address nor a segment.
    for frame in uplink.drain() {
        let ours = [
            &[10, 77, 0, 2][..],
            &[0xfd, 0x77, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
        ];
        let names = |ours: &[u8]| frame.windows(ours.len()).any(|part| part == ours);
        assert!(!ours.into_iter().any(names), "{frame:02x?}");
    }
}

#[test]
fn who_is_not_of_the_list_gets_nothing_and_neither_does_the_uplink() {
    let Some(lab) = Lab::addressed() else { return };
    let gate = Gate::with(&lab, &config(&lab, "", INBAND));
    lab.ip("lan", "address add 10.77.0.8/24 dev lan0");
    let from = [
        "--interface",
        "10.77.0.8",
        "--max-time",
        "3",
        "http://10.77.0.2:9155/healthz",
    ];
    assert!(!curl(&lab, "lan", &from).0);
    let pinged = run(
        &lab,
        "lan",
        "ping",
        &["-n", "-c", "1", "-W", "1", "-I", "10.77.0.8", ADDRESS],
    );
    assert!(!pinged.status.success());
    let refused = || dropped(&gate.status(), "lan", "inband-refused");
    assert!(refused() > 0, "{:#}", gate.status());
    assert!(
        pings(&lab, "lan", ADDRESS),
        "the other address of the same machine"
    );
    // Another port: not even a reset.
    let other = run(
        &lab,
        "lan",
        "curl",
        &["-sS", "--max-time", "2", "http://10.77.0.2:22/"],
    );
    assert_eq!(other.status.code(), Some(28), "a time-out: {other:?}");
    assert!(!pings(&lab, "uplink", ADDRESS));
    gate.assert_balanced();
}

#[test]
fn it_may_stand_at_both_sides_with_a_mac_address_and_a_port_of_its_own() {
    let Some(lab) = Lab::addressed() else { return };
    let more = "[inband]\naddress = \"10.77.0.2/24\"\nallow = [\"10.77.0.0/24\"]\nside = \"both\"\nmac = \"02:00:00:00:00:fe\"\nport = 80\n";
    let gate = Gate::with(&lab, &config(&lab, "", more));
    for role in ["lan", "uplink"] {
        assert!(pings(&lab, role, ADDRESS), "{role}");
        let (ok, metrics) = curl(&lab, role, &["http://10.77.0.2/metrics"]);
        assert!(ok && metrics.ends_with('\n'), "{role}");
    }
    gate.assert_balanced();
}

#[test]
fn on_a_vlan_it_is_asked_and_answers_with_the_tag() {
    let Some(lab) = Lab::new() else { return };
    let more = "[inband]\naddress = \"10.77.0.2/24\"\nallow = [\"10.77.0.9\"]\nvlan = 10\nmac = \"02:00:00:00:00:fe\"\n";
    let gate = Gate::with(&lab, &config(&lab, "", more));
    let (lan, uplink) = Wire::both(&lab);
    let (host, ours) = ([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 0xfe]);
    let mut asks = vec![0, 1, 8, 0, 6, 4, 0, 1];
    asks.extend([&host[..], &[10, 77, 0, 9], &[0; 6], &[10, 77, 0, 2]].concat());
    let asks = padded(ethernet([0xff; 6], host, 0x0806, &asks), 60);
    lan.send(&tagged(&asks, &[[0x8100, 10]]));
    let answer = lan.next(SOON).expect("an answer");
    assert_eq!(
        answer[..18],
        [&host[..], &ours, &[0x81, 0, 0, 10, 8, 6]].concat()
    );
    assert_eq!(answer[24..26], [0, 2], "a reply");
    let mut ping = Vec::new();
    let builder = PacketBuilder::ethernet2(host, ours).ipv4([10, 77, 0, 9], [10, 77, 0, 2], 64);
    builder
        .icmpv4_echo_request(7, 1)
        .write(&mut ping, b"is it there?")
        .unwrap();
    lan.send(&tagged(&ping, &[[0x8100, 10]]));
    let answer = lan.next(SOON).expect("an answer");
    assert_eq!(answer[12..18], [0x81, 0, 0, 10, 8, 0]);
    assert!(answer.windows(12).any(|part| part == b"is it there?"));
    // Without the tag, and with another, nobody is there; a question goes on to those behind the gate.
    lan.send(&ping);
    lan.send(&tagged(&ping, &[[0x8100, 11]]));
    lan.send(&asks);
    assert_eq!(uplink.next(SOON).as_ref(), Some(&asks));
    assert!(lan.drain().is_empty() && uplink.drain().is_empty());
    gate.assert_balanced();
}

#[test]
fn an_answer_of_many_segments_arrives_whole_over_a_path_that_carries_less() {
    let Some(lab) = Lab::addressed() else { return };
    // Many rules: metrics of some hundred kilobytes. The client is behind a router of the LAN whose other link is narrow.
    let rules: String = (0..1000)
        .map(|n| {
            format!(
                "[[rule]]\nname = \"r{n}\"\naction = \"drop\"\nproto = \"tcp\"\ndport = {}\n",
                20_000 + n
            )
        })
        .collect();
    let behind = lab.namespace("lan") + "b";
    let made = run(&lab, "lan", "ip", &["netns", "add", &behind]);
    assert!(made.status.success(), "{made:?}");
    let remove = Remove(behind.clone());
    lab.ip(
        "lan",
        &format!("link add in0 mtu 1000 type veth peer name far0 mtu 1000 netns {behind}"),
    );
    lab.ip("lan", "link set in0 up");
    lab.ip("lan", "address add 10.79.0.1/24 dev in0");
    lab.must("lan", "sysctl", "-q -w net.ipv4.ip_forward=1");
    for line in [
        "link set far0 up",
        "address add 10.79.0.9/24 dev far0",
        "route add default via 10.79.0.1 mtu 1500",
    ] {
        let arguments: Vec<&str> = ["-n", &behind].into_iter().chain(line.split(' ')).collect();
        let done = run(&lab, "lan", "ip", &arguments);
        assert!(done.status.success(), "{line}: {done:?}");
    }
    // The client offers segments of full size, as one does whose own link is wide.
    let clamp = run(
        &lab,
        "lan",
        "ip",
        &[
            "-n",
            &behind,
            "route",
            "replace",
            "default",
            "via",
            "10.79.0.1",
            "advmss",
            "1460",
        ],
    );
    assert!(clamp.status.success(), "{clamp:?}");
    let more = format!(
        "[inband]\naddress = \"10.77.0.2/24\"\ngateway = \"10.77.0.9\"\nallow = [\"10.79.0.0/24\", \"10.77.0.9\"]\n{rules}"
    );
    let gate = Gate::with(&lab, &config(&lab, "", &more));
    let (_, direct) = curl(&lab, "lan", &["http://10.77.0.2:9155/metrics"]);
    assert!(direct.len() > 100_000, "{}", direct.len());
    let arguments = [
        "netns",
        "exec",
        &behind,
        "curl",
        "-sS",
        "-f",
        "--max-time",
        "15",
        "http://10.77.0.2:9155/metrics",
    ];
    let got = run(&lab, "lan", "ip", &arguments);
    assert!(got.status.success(), "{got:?}");
    let text = String::from_utf8_lossy(&got.stdout);
    assert!(
        text.len() > 100_000 && text.contains("rule=\"r999\""),
        "{}",
        text.len()
    );
    assert!(inband(&gate, "narrowed") > 0, "{:#}", gate.status());
    gate.assert_balanced();
    drop(remove);
}

/// A namespace that is removed.
struct Remove(String);

impl Drop for Remove {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip")
            .args(["netns", "del", &self.0])
            .status();
    }
}

#[test]
fn connections_that_say_nothing_or_go_away_give_their_places_back() {
    let Some(lab) = Lab::addressed() else { return };
    let gate = Gate::with(&lab, &config(&lab, "", INBAND));
    // More than there are places; each says a little, and the client is gone without a word.
    let program = "import socket, os, time\n\
        s = []\n\
        for n in range(40):\n    c = socket.socket(); c.settimeout(2)\n    try:\n        c.connect(('10.77.0.2', 9155)); c.sendall(b'GET /met'); s.append(c)\n    except OSError: pass\n\
        print(len(s)); time.sleep(1); os._exit(0)\n";
    let some = run(&lab, "lan", "python3", &["-c", program]);
    let reached: u64 = String::from_utf8_lossy(&some.stdout)
        .trim()
        .parse()
        .expect("a number");
    assert!(reached >= 16, "{some:?}");
    until("places", SOON * 3, || {
        curl(&lab, "lan", &["http://10.77.0.2:9155/healthz"])
            .0
            .then_some(())
    });
    until("all closed", SOON * 3, || {
        (inband(&gate, "open") == 0).then_some(())
    });
    gate.assert_balanced();
}

#[test]
fn a_second_queue_and_a_second_worker_reach_the_same_stack() {
    let cables = Cables {
        queues: [2, 2],
        addresses: true,
        ..Cables::default()
    };
    let Some(lab) = Lab::with(cables) else { return };
    let gate = Gate::with(&lab, &config(&lab, "cores = [0, 1]", INBAND));
    for n in 0..8 {
        let (ok, _) = curl(&lab, "lan", &["http://10.77.0.2:9155/healthz"]);
        assert!(ok, "connection {n}");
    }
    let status: Value = gate.assert_balanced();
    assert_eq!(status["workers"].as_array().map(Vec::len), Some(2));
}

#[test]
fn a_flood_at_it_takes_nothing_of_what_passes_and_leaves_another_administrator_an_answer() {
    let Some(lab) = Lab::addressed() else { return };
    lab.ip("lan", "address add 10.77.0.10/24 dev lan0");
    let more = INBAND.replace("\"10.77.0.9\"", "\"10.77.0.9\", \"10.77.0.10\"");
    let gate = Gate::with(&lab, &config(&lab, "idle = \"spin\"", &more));
    assert!(pings(&lab, "lan", ADDRESS), "and its MAC address is known");
    // hping3 is asked for 20,000 pings a second of one host, four times what all may; that more come than may be is looked at below. They end with this thread at the latest.
    let mut flood = lab
        .command("lan", "hping3")
        .args(["-q", "-n", "-1", "-i", "u50", ADDRESS])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("hping3 is needed");
    let refused = || dropped(&gate.status(), "lan", "inband-rate");
    until("more pings than may be", SOON, || {
        (refused() > 1000).then_some(())
    });
    for n in 0..5 {
        let from = ["--interface", "10.77.0.10", "http://10.77.0.2:9155/healthz"];
        assert!(curl(&lab, "lan", &from).0, "question {n}");
    }
    // Meanwhile a host sends allowed datagrams, of which none is lost.
    let (lan, uplink) = Wire::both(&lab);
    for n in 0..2000 {
        lan.send(&numbered(n));
        std::thread::sleep(Duration::from_micros(200));
    }
    let mut seen = 0;
    until("all of them", SOON, || {
        let ours = |frame: &Vec<u8>| frame.len() == 60 && frame[36..38] == [0, 53];
        seen += uplink.drain().iter().filter(|frame| ours(frame)).count();
        (seen == 2000).then_some(())
    });
    let still = flood.try_wait().expect("a child").is_none();
    let _ = flood.kill();
    let _ = flood.wait();
    assert!(still, "the flood went on all the while");
    gate.assert_balanced();
}
