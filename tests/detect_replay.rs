//! The detectors on captures of real tools, as `portcullis replay` reads them: no root, no NIC. How the captures were made stands in tests/data/detect/README.md.

use etherparse::PacketBuilder;
use portcullis::port::capture::CaptureWriter;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn replay(capture: &str, config: &str) -> Value {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/detect");
    replay_file(&data.join(format!("{capture}.pcap")), config)
}

fn replay_file(capture: &Path, config: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.toml");
    std::fs::write(&path, config).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["replay", "--json", "--lan-prefix", "10.77.0.0/24", "-c"])
        .arg(&path)
        .arg(capture)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Signature and numbers of what was found.
fn found(report: &Value) -> Vec<(String, Value)> {
    let alerts = report["alerts"].as_array().unwrap().iter();
    alerts
        .filter_map(|line| {
            let name = line["alert"]["signature"].as_str()?.to_owned();
            Some((name, line.get("behaviour")?.clone()))
        })
        .collect()
}

#[test]
fn each_tool_is_found_by_its_own_detector_and_by_no_other() {
    for (capture, expected) in [
        ("nmap-horizontal", "scan-horizontal"),
        ("nmap-vertical", "scan-vertical"),
        ("iodine", "dns-tunnel"),
        ("ptunnel", "icmp-tunnel"),
    ] {
        let report = replay(capture, "");
        let found = found(&report);
        assert_eq!(found.len(), 1, "{capture}: {found:?}");
        assert_eq!(found[0].0, expected, "{capture}");
        assert_eq!(found[0].1["kind"], expected);
        assert_eq!(report["balanced"], true);
    }
}

#[test]
fn an_ordinary_day_at_a_browser_is_silent() {
    let report = replay("ordinary", "");
    assert!(report["frames"].as_u64().unwrap() > 2000);
    assert_eq!(report["alerts"], serde_json::json!([]));
    assert_eq!(report["dropped"], serde_json::json!({}));
}

#[test]
fn the_thresholds_of_the_config_decide_and_nothing_is_found_with_detectors_off() {
    let low = "[detect]\nscan = { hosts = 10, ports = 10 }\ndns_tunnel = { names = 10, length = 5, entropy = 1 }\n";
    assert!(!found(&replay("ordinary", low)).is_empty());
    let off = "[detect]\nenabled = false\n";
    for capture in ["nmap-horizontal", "nmap-vertical", "iodine", "ptunnel"] {
        assert_eq!(found(&replay(capture, off)), []);
    }
    let except = "[detect]\ndns_tunnel = { except = [\"10.77.0.9\"] }\n";
    assert_eq!(found(&replay("iodine", except)), []);
}

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_767_225_600 * SECOND;
const HOST: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0x77, 0, 9], [10, 77, 0, 9]);
const SERVER: ([u8; 6], [u8; 4]) = ([2, 0, 0, 0x77, 0, 1], [93, 184, 216, 34]);

/// What is found in these frames, each with its time.
fn found_in(frames: &[(u64, Vec<u8>)], config: &str) -> Vec<(String, Value)> {
    let dir = tempfile::tempdir().unwrap();
    let capture = dir.path().join("in.pcapng");
    let mut writer = CaptureWriter::create(&capture).unwrap();
    for (time, frame) in frames {
        writer.write(START + time, frame).unwrap();
    }
    writer.finish().unwrap();
    found(&replay_file(&capture, config))
}

/// A connection with a few words: handshake, a request, an answer, the end.
fn connection(at: u64, port: u16, dport: u16) -> Vec<(u64, Vec<u8>)> {
    let segment = |forth: bool, flags: &str, payload: &[u8]| {
        let (from, to) = if forth {
            (HOST, SERVER)
        } else {
            (SERVER, HOST)
        };
        let (sport, dport) = if forth { (port, dport) } else { (dport, port) };
        let (seq, ack) = if flags == "S" { (1, 0) } else { (2, 2) };
        let seq = if flags == "SA" { 1 } else { seq };
        let link = PacketBuilder::ethernet2(from.0, to.0).ipv4(from.1, to.1, 64);
        let mut step = link.tcp(sport, dport, seq, 60_000);
        for flag in flags.chars() {
            step = match flag {
                'S' => step.syn(),
                'F' => step.fin(),
                _ => step.ack(ack),
            };
        }
        let mut frame = Vec::new();
        step.write(&mut frame, payload).unwrap();
        frame
    };
    let frames = [
        segment(true, "S", b""),
        segment(false, "SA", b""),
        segment(true, "A", b"GET / HTTP/1.1\r\n\r\n"),
        segment(false, "A", b"HTTP/1.1 204 No Content\r\n\r\n"),
        segment(true, "FA", b""),
        segment(false, "FA", b""),
    ];
    let times = (0..).map(|n| at + n * 1_000_000);
    times.zip(frames).collect()
}

#[test]
fn connections_in_a_beat_are_found_and_connections_of_a_person_are_not() {
    let beat: Vec<_> = (0..40u16)
        .flat_map(|n| {
            let at = u64::from(n) * 60 * SECOND + u64::from(n % 5) * SECOND;
            connection(at, 40_000 + n, 443)
        })
        .collect();
    let found = found_in(&beat, "");
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "beacon");
    assert_eq!(found[0].1["beats"], 20);
    let person: Vec<_> = (0..40u16)
        .flat_map(|n| {
            let at = u64::from(n) * 60 * SECOND + u64::from(n) * u64::from(n) % 47 * SECOND;
            connection(at, 40_000 + n, 443)
        })
        .collect();
    assert_eq!(found_in(&person, ""), []);
    // Mail is looked for in a beat.
    let mail: Vec<_> = (0..40u16)
        .flat_map(|n| connection(u64::from(n) * 300 * SECOND, 40_000 + n, 995))
        .collect();
    assert_eq!(found_in(&mail, ""), []);
}

#[test]
fn an_hour_that_sends_far_more_than_those_of_two_days_before_is_found() {
    let sends = |hour: u64, frames: u64| {
        (0..frames).map(move |n| {
            let mut frame = Vec::new();
            PacketBuilder::ethernet2(HOST.0, SERVER.0)
                .ipv4(HOST.1, SERVER.1, 64)
                .udp(40_000, 4433)
                .write(&mut frame, &[7; 1400])
                .unwrap();
            (hour * 3600 * SECOND + n * SECOND / 2, frame)
        })
    };
    let low = "[detect]\nupload = { least = \"1MB\" }\n";
    let days = |last: u64| -> Vec<_> {
        let past = (0..48).flat_map(|hour| sends(hour, 150));
        past.chain(sends(48, last)).collect()
    };
    let found = found_in(&days(4000), low);
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "upload");
    assert_eq!(found_in(&days(300), low), []);
    assert_eq!(found_in(&days(4000), ""), [], "less than a gigabyte");
    let first: Vec<_> = sends(0, 4000).collect();
    assert_eq!(found_in(&first, low), [], "nothing is known of it yet");
}
