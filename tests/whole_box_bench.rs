//! `portcullis bench` across real boxes: what it says of a gate is what the gate says of itself, and what gets through a bridge that filters nothing is called a leak.

mod common;

use common::gate::{BINARY, Output, config, number};
use common::{Gate, Lab, SOON, Wire, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Trials as short as tells anything, and a little patience with a machine on which many tests run.
const SHORT: [&str; 8] = [
    "--duration",
    "300ms",
    "--settle",
    "1s",
    "--resolution",
    "25%",
    "--retries",
    "1",
];

/// A test between the hosts' ends of both cables.
fn bench(lab: &Lab, test: &str) -> Command {
    let mut command = Command::new(BINARY);
    command.args(["bench", test]);
    for (option, role, nic) in [("--lan", "lan", "lan0"), ("--uplink", "uplink", "up0")] {
        command.args([option, &format!("{}:{nic}", lab.namespace(role))]);
    }
    command
}

fn done(command: &mut Command) -> Output {
    let out = command.output().expect("the binary starts");
    Output {
        code: out.status.code(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

fn json(command: &mut Command, code: i32) -> Value {
    let out = done(command.arg("--json"));
    assert_eq!(out.code, Some(code), "{out:?}");
    let report = serde_json::from_str(&out.stdout).expect("JSON from bench");
    assert_documented(&report);
    report
}

/// Every field of it stands in the documentation.
fn assert_documented(value: &Value) {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/bench.md");
    let page = std::fs::read_to_string(page).unwrap();
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        left.extend(value.as_array().into_iter().flatten());
        for (key, value) in value.as_object().into_iter().flatten() {
            assert!(
                page.contains(&format!("`{key}`")),
                "`{key}` is not in docs/bench.md"
            );
            left.push(value);
        }
    }
}

/// True if an XDP program is on the host's end of either cable.
fn program_left(lab: &Lab) -> bool {
    let shown = |role, nic| lab.ip(role, &format!("-j link show {nic}"));
    (shown("lan", "lan0") + &shown("uplink", "up0")).contains("\"xdp\"")
}

/// A Linux bridge in the gate's place.
fn bridge(lab: &Lab) {
    lab.bridge();
    lab.ip("gate", "link set br0 up");
}

/// Frames of a run that an opening takes: three to the uplink side and two back, for each flow, if none was lost.
fn opening(flows: u64) -> [u64; 2] {
    [3 * flows, 2 * flows]
}

#[test]
fn throughput_counts_as_the_gate_does() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &config(&lab, "", ""));
    let page = lab.dir().join("page.html");
    let flows = 200;
    let report = json(
        bench(&lab, "throughput")
            .args(SHORT)
            // Far below what the slowest gate can: nothing is lost before it either.
            .args([
                "--size",
                "64",
                "--rate",
                "4k",
                "--flows",
                &flows.to_string(),
            ])
            .arg("--html")
            .arg(&page),
        0,
    );
    let totals = &report["totals"];
    let of = |key: &str| number(&totals[key]);
    assert!(of("sent") >= 1_200, "{report:#}");
    assert_eq!(of("sent"), of("received") + of("lost"), "{totals}");
    assert_eq!(of("duplicated") + of("reordered") + of("foreign"), 0);
    let row = &report["throughput"][0];
    let trials = row["trials"].as_array().expect("trials");
    let sum = |key: &str| trials.iter().map(|trial| number(&trial[key])).sum::<u64>();
    assert_eq!([sum("sent"), sum("received")], [of("sent"), of("received")]);
    assert!(row["fps"].as_f64().unwrap() > 500.0, "{row}");
    let [out, back] = opening(flows);
    let status = gate.assert_balanced();
    let lan = &status["ports"]["lan"];
    // Frames of an opening that were lost are sent again.
    assert!(number(&lan["rx"]) >= of("received") + out, "{lan}");
    assert!(number(&lan["rx"]) <= of("sent") + 5 * out, "{lan}");
    if of("lost") == 0 {
        gate.assert_accounts([of("sent") + out, back]);
    }
    assert_eq!(number(&status["flows"]["opened"]), flows);
    assert!(!program_left(&lab));
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("Throughput") && page.ends_with("</html>"));
}

#[test]
fn the_other_tests_of_rfc_2544_measure_a_gate_too_and_tcp_both_ways() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &config(&lab, "", ""));
    let report = json(
        bench(&lab, "latency").args(SHORT).args([
            "--size", "128", "--rate", "2k", "--flows", "100", "--proto", "tcp", "--both",
        ]),
        0,
    );
    let latency = &report["latency"][0];
    let of = |key: &str| number(&latency[key]);
    assert_eq!(of("count"), number(&latency["trial"]["received"]));
    assert_eq!(number(&latency["trial"]["sent"]), 2 * 600);
    assert!(of("count") > 1_000, "{latency}");
    let ordered = ["min_ns", "median_ns", "p99_ns", "p99_9_ns", "max_ns"].map(of);
    assert!(ordered.is_sorted() && ordered[0] > 0, "{ordered:?}");
    let args = ["--size", "imix", "--flows", "50", "--no-opening"];
    let report = json(
        bench(&lab, "loss")
            .args(SHORT)
            .args(args)
            .args(["--rate", "1k"]),
        0,
    );
    let steps = report["loss"][0]["steps"].as_array().expect("steps");
    assert!(
        steps.len() >= 2 && steps[0]["load_percent"] == 100.0,
        "{steps:?}"
    );
    let report = json(
        bench(&lab, "back-to-back").args(SHORT).args(args).args([
            "--repeats",
            "2",
            "--longest",
            "300",
        ]),
        0,
    );
    let row = &report["back_to_back"][0];
    let bursts = row["bursts"].as_array().expect("bursts");
    assert!(
        !bursts.is_empty() && bursts.iter().all(|burst| number(burst) <= 300),
        "{row}"
    );
    gate.assert_balanced();
}

/// A policy of fifty rules, and traffic for it.
const MIX: [&str; 12] = [
    "--rules",
    "50",
    "--flows",
    "300",
    "--size",
    "128",
    "--rate",
    "2k",
    "--at",
    "50",
    "--forbidden",
    "20%",
];

#[test]
fn a_mix_leaks_nothing_through_a_gate_that_has_its_policy() {
    let Some(lab) = Lab::new() else { return };
    let policy = Command::new(BINARY)
        .args(["bench", "policy", "--rules", "50"])
        .output()
        .unwrap();
    let policy = String::from_utf8(policy.stdout).unwrap();
    // The lab's own [lan] is the same.
    let rules = policy.split_once("[policy]").expect("a policy").1;
    let text = config(&lab, "", &format!("[policy]{rules}"));
    let gate = Gate::with(&lab, &text);
    let report = json(bench(&lab, "mix").args(SHORT).args(MIX), 0);
    let mix = &report["mix"];
    assert_eq!((number(&mix["leaked"]), number(&mix["flows"])), (0, 300));
    assert_eq!(number(&mix["live_after"]), 300, "{mix}");
    for kind in mix["kinds"].as_array().unwrap() {
        assert_eq!(number(&kind["leaked"]), 0);
    }
    let sent: u64 = mix["kinds"]
        .as_array()
        .unwrap()
        .iter()
        .map(|kind| number(&kind["sent"]))
        .sum();
    let status = gate.assert_balanced();
    let dropped: u64 = status["ports"]["lan"]["dropped"]
        .as_object()
        .unwrap()
        .values()
        .map(number)
        .sum();
    assert!(sent > 100 && dropped <= sent, "{dropped} of {sent}");
    assert!(dropped * 10 > sent * 9, "{dropped} of {sent}");
}

#[test]
fn a_mix_leaks_through_a_bridge_that_filters_nothing() {
    let Some(lab) = Lab::new() else { return };
    bridge(&lab);
    let out = done(bench(&lab, "mix").args(SHORT).args(MIX));
    assert_eq!(out.code, Some(1), "{out:?}");
    assert!(
        out.stdout.contains("FORBIDDEN FRAMES GOT THROUGH"),
        "{}",
        out.stdout
    );
    let report = json(bench(&lab, "mix").args(SHORT).args(MIX), 1);
    for kind in report["mix"]["kinds"].as_array().unwrap() {
        assert!(
            number(&kind["sent"]) == 0 || number(&kind["leaked"]) > 0,
            "{kind}"
        );
    }
    assert!(number(&report["mix"]["leaked"]) > 100);
}

#[test]
fn whoever_interrupts_a_test_leaves_no_program_on_the_nics_and_so_does_a_kill() {
    let Some(lab) = Lab::new() else { return };
    bridge(&lab);
    for (signal, code) in [(Signal::SIGINT, Some(2)), (Signal::SIGKILL, None)] {
        let mut child = bench(&lab, "throughput")
            .args(["--size", "64", "--flows", "10", "--duration", "60s"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        until("the program", SOON, || program_left(&lab).then_some(()));
        // Into the trial, where both threads are at work.
        std::thread::sleep(Duration::from_millis(200));
        kill(Pid::from_raw(child.id() as i32), signal).unwrap();
        let status = until("its end", SOON, || child.try_wait().unwrap());
        assert_eq!(status.code(), code);
        // A killed process lets go a moment later.
        until("no program", SOON, || (!program_left(&lab)).then_some(()));
    }
}

#[test]
fn nics_that_cannot_be_used_are_refused_with_what_to_do() {
    let Some(lab) = Lab::new() else { return };
    let place = |role: &str, nic: &str| format!("{}:{nic}", lab.namespace(role));
    let refused = |lan: &str, uplink: &str, more: &[&str], words: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(["bench", "throughput", "--lan", lan, "--uplink", uplink]);
        done(command.args(more)).assert_one_line(words);
        assert!(!program_left(&lab));
    };
    let (lan, uplink) = (place("lan", "lan0"), place("uplink", "up0"));
    refused(&place("lan", "nope"), &uplink, &[], &["nope", "ip link"]);
    refused("no-such-ns:lan0", &uplink, &[], &["no-such-ns", "ip netns"]);
    refused(&lan, &lan, &[], &["the same NIC"]);
    let tcp = ["--proto", "tcp", "--size", "64"];
    refused(&lan, &uplink, &tcp, &["64 bytes", "78"]);
    let few = [
        "--flows",
        "10",
        "--sport",
        "1-3",
        "--src",
        "10.0.0.1/32",
        "--dst",
        "10.0.0.2/32",
    ];
    refused(&lan, &uplink, &few, &["only 3", "--flows"]);
    // Nobody forwards between the two.
    let alone = ["--flows", "3", "--settle", "10ms", "--size", "64"];
    refused(&lan, &uplink, &alone, &["3 of 3 flows", "the first frame"]);
    lab.ip("lan", "link set lan0 down");
    refused(&lan, &uplink, &[], &["lan0 is down", "ip link set lan0 up"]);
    lab.ip("lan", "link set lan0 up");
    lab.bridge();
    refused(
        &place("gate", "gl0"),
        &uplink,
        &[],
        &["belongs to a bridge", "--force"],
    );
    lab.ip("gate", "link set gl0 nomaster");
    lab.ip("gate", "link set gu0 nomaster");
    let _gate = Gate::start(&lab);
    refused(
        &place("gate", "gl0"),
        &uplink,
        &[],
        &["already runs an XDP program", "xdp off"],
    );
}

#[test]
fn frames_that_are_not_the_tester_s_are_not_counted_as_its_own() {
    let Some(lab) = Lab::new() else { return };
    bridge(&lab);
    let (lan, uplink) = Wire::both(&lab);
    let shown = lab.ip("lan", "-j link show lan0");
    let shown: Value = serde_json::from_str(&shown).unwrap();
    let mac = shown[0]["address"].as_str().unwrap().to_string();
    let bytes: Vec<u8> = mac
        .split(':')
        .map(|b| u8::from_str_radix(b, 16).unwrap())
        .collect();
    let test = std::thread::scope(|scope| {
        let test = scope.spawn(|| {
            json(
                bench(&lab, "latency").args([
                    "--size",
                    "64",
                    "--rate",
                    "500",
                    "--duration",
                    "4s",
                    "--settle",
                    "1s",
                    "--flows",
                    "10",
                ]),
                0,
            )
        });
        let attached = || lab.ip("uplink", "link show up0").contains(" xdp ");
        until("the second program", SOON, || attached().then_some(()));
        // Past the opening, and long before the end.
        std::thread::sleep(Duration::from_millis(1000));
        uplink.drain();
        for n in 0..20 {
            let mut frame = common::craft::numbered(n);
            // Of a stranger: the kernel gets it. From the tester's own address: it comes to the tester, and has no mark.
            lan.send(&frame);
            frame[6..12].copy_from_slice(&bytes);
            lan.send(&frame);
        }
        let seen = uplink.frames(20, SOON);
        assert_eq!(seen.len(), 20, "frames of others go on to the kernel");
        test.join().unwrap()
    });
    let totals = &test["totals"];
    let of = |key: &str| number(&totals[key]);
    assert_eq!(of("sent"), of("received") + of("lost"));
    assert_eq!((of("sent"), of("foreign")), (2_000, 20), "{totals}");
}

#[test]
fn a_sender_and_a_sink_in_two_processes_agree() {
    let Some(lab) = Lab::new() else { return };
    bridge(&lab);
    // Otherwise it may cut what is behind a packet (br_netfilter), and with it the marks of captured frames.
    let off = "-c for\tfile\tin\t/proc/sys/net/bridge/bridge-nf-call-ip*;do\t[\t!\t-e\t$file\t]||echo\t0\t>$file;done";
    lab.must("gate", "sh", off);
    let uplink = format!("{}:up0", lab.namespace("uplink"));
    let sink = Command::new(BINARY)
        .args([
            "bench",
            "sink",
            "--uplink",
            &uplink,
            "--quiet",
            "1s",
            "--duration",
            "20s",
            "--json",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    until("the sink", SOON, || program_left(&lab).then_some(()));
    std::thread::sleep(Duration::from_millis(200));
    let lan = format!("{}:lan0", lab.namespace("lan"));
    let capture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/data/detect/ordinary.pcap"
    );
    let to = ["--to", "02:00:00:00:00:09"];
    let send = |more: &[&str]| {
        let mut command = Command::new(BINARY);
        json(
            command
                .args(["bench", "send", "--lan", &lan])
                .args(to)
                .args(more),
            0,
        )
    };
    let sent = [
        send(&["--size", "imix", "--rate", "2k", "--count", "500"]),
        send(&["--capture", capture, "--rate", "2k", "--count", "400"]),
        send(&["--forbidden", "10%", "--rate", "2k", "--count", "500"]),
    ];
    let heard = sink.wait_with_output().unwrap();
    // A bridge lets everything through.
    assert_eq!(heard.status.code(), Some(1));
    let heard = String::from_utf8(heard.stdout).unwrap();
    let heard: Vec<Value> = heard
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(heard.len(), 3, "{heard:?}");
    for (sent, heard) in sent.iter().zip(&heard) {
        assert_eq!(
            number(&sent["sent"]),
            number(&heard["received"]) + number(&heard["missing"])
        );
        assert_eq!(number(&heard["missing"]), 0, "{heard}");
        assert_eq!(number(&heard["leaked"]), number(&sent["forbidden"]));
        assert!(number(&heard["silence_ns"]) > 0, "{heard}");
    }
    assert_eq!(number(&sent[2]["forbidden"]), 50);
}
