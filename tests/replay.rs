//! `portcullis replay` on captures, as a person runs it: no root, no NIC.

use etherparse::PacketBuilder;
use portcullis::port::capture::{CaptureReader, CaptureWriter, Captured};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const HOST: [u8; 6] = [2, 0, 0, 0, 0, 9];
const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

fn udp(from: [u8; 4], to: [u8; 4], ports: (u16, u16), macs: ([u8; 6], [u8; 6])) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(macs.0, macs.1)
        .ipv4(from, to, 64)
        .udp(ports.0, ports.1)
        .write(&mut frame, b"payload")
        .unwrap();
    frame
}

fn out(host: u8, port: u16) -> Vec<u8> {
    udp(
        [10, 77, 0, host],
        [93, 184, 216, 34],
        (40_000, port),
        (HOST, ROUTER),
    )
}

fn back(port: u16, to: u16) -> Vec<u8> {
    udp(
        [93, 184, 216, 34],
        [10, 77, 0, 9],
        (port, to),
        (ROUTER, HOST),
    )
}

struct Case {
    dir: tempfile::TempDir,
    capture: PathBuf,
    config: PathBuf,
}

impl Case {
    fn new(config: &str, frames: &[(u64, Vec<u8>)]) -> Case {
        let dir = tempfile::tempdir().unwrap();
        let (capture, path) = (dir.path().join("in.pcapng"), dir.path().join("p.toml"));
        std::fs::write(&path, config).unwrap();
        let mut writer = CaptureWriter::create(&capture).unwrap();
        for (time, frame) in frames {
            writer.write(START + time, frame).unwrap();
        }
        writer.finish().unwrap();
        Case {
            dir,
            capture,
            config: path,
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_portcullis"))
            .arg("replay")
            .arg("-c")
            .arg(&self.config)
            .args(arguments)
            .arg(&self.capture)
            .output()
            .unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[&["--json"], arguments].concat());
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn read(path: &Path) -> Vec<Captured> {
    let mut reader = CaptureReader::open(path).unwrap();
    let (mut all, mut frame) = (Vec::new(), Captured::default());
    while reader.next(&mut frame).unwrap() {
        all.push(frame.clone());
    }
    all
}

const LAN: [&str; 2] = ["--lan-prefix", "10.77.0.0/24"];

#[test]
fn every_frame_of_a_capture_is_forwarded_or_dropped_for_a_named_reason() {
    let mut unknown = out(9, 53);
    unknown[12..14].copy_from_slice(&[0x81, 0x37]);
    let frames = [
        (0, out(9, 53)),
        (1, back(53, 40_000)),
        (2, out(9, 69)),
        (3, out(9, 161)),
        (4, unknown),
        (5, vec![1, 2, 3]),
        (6, out(9, 443)),
    ];
    let report = Case::new("", &frames).json(&LAN);
    assert_eq!(report["frames"], 7);
    assert_eq!(report["forwarded"], 3);
    assert_eq!(report["rejected"], 0);
    assert_eq!(
        report["dropped"],
        serde_json::json!({"rule": 2, "malformed": 1, "ethertype": 1})
    );
    assert_eq!(report["rules"]["tftp"]["packets"], 1);
    assert_eq!(
        report["rules"]["tftp"]["bytes"],
        frames[2].1.len() as u64,
        "bytes are those of the frame"
    );
    assert_eq!(report["rules"]["snmp"]["alerts"], 1);
    assert_eq!(report["balanced"], true);
    assert_eq!(report["in"]["rx"], 2, "the answer, and the three bytes");
}

#[test]
fn repeats_of_a_host_are_one_alert_with_a_count_and_another_host_is_another() {
    let mut frames: Vec<_> = (0..50).map(|n| (n * SECOND / 10, out(9, 69))).collect();
    frames.push((3 * SECOND, out(12, 69)));
    frames.sort_by_key(|(time, _)| *time);
    let report = Case::new("", &frames).json(&LAN);
    let alerts = report["alerts"].as_array().unwrap();
    assert_eq!(alerts.len(), 2);
    assert_eq!(report["rules"]["tftp"]["alerts"], 2);
    let first = &alerts[0];
    assert_eq!(first["src_ip"], "10.77.0.9");
    assert_eq!(first["dest_port"], 69);
    assert_eq!(first["src_mac"], "02:00:00:00:00:09");
    assert_eq!(first["alert"]["signature"], "tftp");
    assert_eq!(first["alert"]["level"], "high");
    assert_eq!(first["alert"]["packets"], 50);
    assert_eq!(
        first["alert"]["first_seen"], "2023-11-14T22:13:20.000000+0000",
        "time comes from the capture"
    );
    assert_eq!(alerts[1]["src_ip"], "10.77.0.12");
}

#[test]
fn the_forwarded_frames_are_written_byte_for_byte_and_in_order() {
    let frames: Vec<_> = (0..500u64)
        .map(|n| {
            (
                n * 1000,
                out(9, if n % 3 == 0 { 69 } else { 1000 + n as u16 }),
            )
        })
        .collect();
    let case = Case::new("", &frames);
    let written = case.dir.path().join("out.pcapng");
    let report = case.json(&[&LAN[..], &["--write-forwarded", written.to_str().unwrap()]].concat());
    let kept: Vec<_> = frames
        .iter()
        .enumerate()
        .filter(|(n, _)| n % 3 != 0)
        .map(|(_, f)| f)
        .collect();
    let read = read(&written);
    assert_eq!(report["forwarded"], kept.len());
    assert_eq!(read.len(), kept.len());
    for (captured, (time, frame)) in read.iter().zip(kept) {
        assert_eq!((captured.time, &captured.bytes), (START + time, frame));
    }
}

#[test]
fn a_spoofed_source_is_found_by_mac_and_by_prefix() {
    let config = "[lan]\nprefixes = [\"10.77.0.0/24\"]\n";
    let spoofed = udp([8, 8, 4, 4], [93, 184, 216, 34], (1, 53), (HOST, ROUTER));
    let case = Case::new(config, &[(0, spoofed), (1, back(53, 1))]);
    for side in [&["--lan-mac", "02:00:00:00:00:09"][..], &LAN[..], &[]] {
        let report = case.json(side);
        assert_eq!(
            report["rules"]["spoofed-source"]["packets"], 1,
            "{side:?}: {report}"
        );
        assert_eq!(report["in"]["forwarded"], 1, "{side:?}");
        assert_eq!(
            report["alerts"][0]["src_mac"], "02:00:00:00:00:09",
            "the IP is a lie, the MAC is not"
        );
    }
}

#[test]
fn a_frame_longer_than_a_chunk_is_oversize_also_at_the_very_end() {
    let mut long = out(9, 443);
    long.resize(9000, 0);
    let report = Case::new("", &[(0, long.clone()), (1, out(9, 443)), (2, long)]).json(&LAN);
    assert_eq!(report["frames"], 3);
    assert_eq!(report["dropped"], serde_json::json!({"oversize": 2}));
    assert_eq!(report["balanced"], true);
}

#[test]
fn a_rejected_frame_is_counted_apart_and_not_written() {
    let config = "[[rule]]\nname = \"no-dns\"\nproto = \"udp\"\ndport = 53\naction = \"reject\"\n";
    let case = Case::new(config, &[(0, out(9, 53)), (1, out(9, 443))]);
    let written = case.dir.path().join("out.pcapng");
    let report = case.json(&[&LAN[..], &["--write-forwarded", written.to_str().unwrap()]].concat());
    assert_eq!(
        (&report["rejected"], &report["forwarded"]),
        (&Value::from(1), &Value::from(1))
    );
    let frames = read(&written);
    assert_eq!(frames.len(), 1, "no answer of our own either");
    assert_eq!(frames[0].bytes, out(9, 443));
}

#[test]
fn what_cannot_be_replayed_is_said_in_one_line_with_status_2() {
    let case = Case::new("", &[(0, out(9, 53))]);
    let missing = case.run(&[
        "--lan-prefix",
        "10.77.0.0/24",
        "--write-forwarded",
        "/nowhere/x",
    ]);
    let no_side = case.run(&[]);
    let same = case.run(
        &[
            &LAN[..],
            &["--write-forwarded", case.capture.to_str().unwrap()],
        ]
        .concat(),
    );
    std::fs::write(&case.config, "[policy]\ndefault = \"perhaps\"\n").unwrap();
    let broken = case.run(&LAN);
    for (output, word) in [
        (missing, "/nowhere/x"),
        (no_side, "--lan-prefix"),
        (same, "overwritten"),
        (broken, "p.toml:2"),
    ] {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains(word), "{text}");
        assert!(text.starts_with("portcullis: "), "{text}");
    }
    assert_eq!(read(&case.capture).len(), 1, "the capture is still there");
}

#[test]
fn a_capture_that_was_cut_off_is_replayed_as_far_as_it_goes_and_said_to_be_broken() {
    let case = Case::new("", &[(0, out(9, 53)), (1, out(9, 69)), (2, out(9, 443))]);
    let whole = std::fs::read(&case.capture).unwrap();
    std::fs::write(&case.capture, &whole[..whole.len() - 20]).unwrap();
    let output = case.run(&[&LAN[..], &["--json"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("after 2 frames"));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&report["frames"], &report["forwarded"]),
        (&2.into(), &1.into())
    );
}

#[test]
fn neighbour_discovery_that_would_leave_the_link_is_asked_like_anything_else() {
    let config = "[lan]\nprefixes = [\"fd77::/64\"]\n";
    let solicit = |dst: [u16; 8]| {
        let src = [0x2606, 0x4700, 0, 0, 0, 0, 0, 9];
        let bytes = |ip: [u16; 8]| -> [u8; 16] { std::net::Ipv6Addr::from(ip).octets() };
        let mut frame = Vec::new();
        PacketBuilder::ethernet2(HOST, ROUTER)
            .ipv6(bytes(src), bytes(dst), 255)
            .icmpv6_raw(135, 0, [0; 4])
            .write(&mut frame, &[7; 1000])
            .unwrap();
        frame
    };
    let far = solicit([0x2606, 0x2800, 0x220, 1, 0, 0, 0, 0x34]);
    let near = solicit([0xff02, 0, 0, 0, 0, 1, 0xff00, 1]);
    let case = Case::new(config, &[(0, far), (1, near)]);
    let report = case.json(&["--lan-mac", "02:00:00:00:00:09"]);
    assert_eq!(report["rules"]["spoofed-source"]["packets"], 1);
    assert_eq!(report["forwarded"], 1, "the one that stays on the link");
}

const RULE: &str = "[policy]\nprofile = \"none\"\n\
    [[rule]]\nname = \"dns\"\nproto = \"udp\"\ndport = [53]\n";

#[test]
fn a_limit_counts_by_the_time_of_the_capture() {
    // Thirty frames in the first tenth of a second, then ten seconds of quiet, then thirty more.
    let tick = SECOND / 300;
    let burst = (0..30).map(|n| n * tick);
    let frames: Vec<_> = burst
        .clone()
        .chain(burst.map(|time| time + 10 * SECOND))
        .map(|time| (time, out(9, 53)))
        .collect();
    let config = format!("{RULE}action = \"allow\"\nlimit = {{ rate = \"10/s\", burst = 5 }}\n");
    let report = Case::new(&config, &frames).json(&LAN);
    // Each time the burst of five, and one that a tenth of a second has earned at most.
    let forwarded = report["forwarded"].as_u64().unwrap();
    assert!((10..=12).contains(&forwarded), "{report:#}");
    assert_eq!(report["dropped"]["rate-limit"], 60 - forwarded);
    assert_eq!(report["rules"]["dns"]["packets"], 60);
    assert_eq!(report["balanced"], true);
}

#[test]
fn a_rule_ends_by_the_time_of_the_capture() {
    let frames: Vec<_> = (0..10).map(|n| (n * SECOND, out(9, 53))).collect();
    let config = format!("{RULE}action = \"drop\"\nttl = \"5s\"\n");
    let report = Case::new(&config, &frames).json(&LAN);
    assert_eq!(report["dropped"]["rule"], 5);
    assert_eq!(report["forwarded"], 5);
    assert_eq!(report["rules"]["dns"]["expired"], true);
}

#[test]
fn a_rule_in_shadow_is_shown_as_such_and_its_frames_are_written_out() {
    let config = format!("{RULE}action = \"drop\"\nshadow = true\n");
    let case = Case::new(&config, &[(0, out(9, 53)), (1, out(9, 443))]);
    let forwarded = case.dir.path().join("out.pcapng");
    let path = forwarded.to_str().unwrap();
    let report = case.json(&[&LAN[..], &["--write-forwarded", path]].concat());
    assert_eq!(read(&forwarded).len(), 2);
    assert_eq!(report["rules"]["dns"]["shadow"], true);
    assert_eq!(report["rules"]["dns"]["packets"], 1);
    let alert = &report["alerts"][0]["alert"];
    assert_eq!(alert["signature"], "dns");
    assert_eq!(alert["shadow"], true);
    assert_eq!(alert["verdict"], "drop");
    assert_eq!(alert["action"], "allowed");
    let text = String::from_utf8(case.run(&LAN).stdout).unwrap();
    assert!(text.contains("in shadow"), "{text}");
    assert!(text.contains("(shadow: drop)"), "{text}");
}

#[test]
fn a_policy_in_shadow_forwards_the_whole_capture_and_says_what_it_would_have_dropped() {
    let mut unknown = out(9, 53);
    unknown[12..14].copy_from_slice(&[0x81, 0x37]);
    let frames = [
        (0, out(9, 69)),
        (1, unknown),
        (2, vec![1, 2, 3]),
        (3, out(9, 53)),
    ];
    let case = Case::new("[policy]\nshadow = true\n", &frames);
    let report = case.json(&LAN);
    assert_eq!(report["shadow"], true);
    assert_eq!(report["forwarded"], 4);
    assert_eq!(report["dropped"], serde_json::json!({}));
    assert_eq!(
        report["would_drop"],
        serde_json::json!({"rule": 1, "malformed": 1, "ethertype": 1})
    );
    assert_eq!(report["balanced"], true);
    let text = String::from_utf8(case.run(&LAN).stdout).unwrap();
    assert!(text.contains("nothing is enforced"), "{text}");
}
