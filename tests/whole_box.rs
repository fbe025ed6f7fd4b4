//! What goes through the whole box, byte for byte, and what does not: real kernel, real veth, the real binary.

mod common;

use common::craft::{self, HOST, Packet, ROUTER, TCP, UDP, tagged};
use common::gate::{config, dropped, number};
use common::lab::Cables;
use common::{Gate, Lab, SOON, Wire};
use std::time::Duration;

/// How long a frame that must not come is waited for, after one behind it has come.
const NOT_COMING: Duration = Duration::from_millis(100);

/// Allowed frames of every kind, in the direction out or in.
fn allowed(out: bool) -> Vec<Vec<u8>> {
    let packet = |proto, port| {
        if out {
            Packet::out(proto, port)
        } else {
            Packet::back(proto, port)
        }
    };
    let mac = if out { HOST } else { ROUTER };
    let mut frames = vec![
        craft::arp(out),
        craft::neighbour_solicitation(out),
        craft::lldp(mac),
        craft::stp(mac),
        craft::padded(packet(TCP, 443).frame(), 60),
        craft::padded(packet(UDP, 53).payload(b"q").frame(), 64),
        craft::padded(packet(UDP, 123).frame(), 1514),
    ];
    for len in [66, 67, 128, 594, 1024, 1513, 1514] {
        frames.push(packet(TCP, 443).sized(len));
        frames.push(packet(UDP, 443).sized(len));
        frames.push(packet(TCP, 443).v6().sized(len.max(74)));
        frames.push(packet(UDP, 53).v6().sized(len.max(74)));
    }
    let tags: [&[[u16; 2]]; 6] = [
        &[[0x8100, 0x0064]],
        &[[0x8100, 0xefff]],
        &[[0x88a8, 0x0065]],
        &[[0x88a8, 0x2064], [0x8100, 0x0065]],
        &[[0x8100, 0x0064], [0x8100, 0x0065]],
        // Priority tags: VLAN id 0.
        &[[0x8100, 0xe000]],
    ];
    for tags in tags {
        frames.push(craft::padded(tagged(&packet(UDP, 53).frame(), tags), 60));
        frames.push(tagged(&packet(TCP, 443).sized(1514), tags));
        frames.push(tagged(&packet(UDP, 53).v6().sized(1514), tags));
        frames.push(tagged(&craft::arp(out), tags));
    }
    frames
}

#[test]
fn allowed_frames_arrive_byte_for_byte_once_and_in_order_both_ways() {
    // Two tags more than a full-size frame: a veth counts the second one as payload.
    let cables = Cables {
        mtu: 1508,
        ..Cables::default()
    };
    let Some(lab) = Lab::with(cables) else { return };
    let gate = Gate::start(&lab);
    let (lan, uplink) = Wire::both(&lab);
    for (out, from, to) in [(true, &lan, &uplink), (false, &uplink, &lan)] {
        let frames = allowed(out);
        for frame in &frames {
            from.send(frame);
        }
        let got = to.frames(frames.len(), SOON);
        for (at, (sent, got)) in frames.iter().zip(&got).enumerate() {
            assert_eq!(sent, got, "frame {at} of {} (out: {out})", frames.len());
        }
        assert_eq!(got.len(), frames.len());
        assert_eq!(to.next(NOT_COMING), None, "a frame twice");
        assert_eq!(from.drain(), Vec::<Vec<u8>>::new(), "a frame sent back");
    }
    let sent = allowed(true).len() as u64;
    let status = gate.assert_accounts([sent, sent]);
    for port in ["lan", "uplink"] {
        assert_eq!(number(&status["ports"][port]["tx"]), sent);
    }
}

/// Frames that a rule of the baseline stops, with its name and whether it alerts.
fn forbidden() -> Vec<(&'static str, bool, Vec<Vec<u8>>)> {
    let out = |proto, port| Packet::out(proto, port).frame();
    let to = |dst: [u8; 4]| {
        let packet = Packet {
            dst4: dst.into(),
            ..Packet::out(TCP, 80)
        };
        packet.frame()
    };
    vec![
        (
            "tftp",
            true,
            vec![out(UDP, 69), Packet::out(UDP, 69).v6().frame()],
        ),
        ("smtp", true, vec![out(TCP, 25)]),
        (
            "irc",
            true,
            vec![out(TCP, 6660), out(TCP, 6667), out(TCP, 6669)],
        ),
        (
            "snmp",
            true,
            vec![out(UDP, 160), out(UDP, 161), out(UDP, 162), out(TCP, 161)],
        ),
        ("msrpc", true, vec![out(TCP, 135), out(UDP, 135)]),
        (
            "smb",
            true,
            vec![out(TCP, 445), tagged(&out(TCP, 445), &[[0x8100, 7]])],
        ),
        (
            "netbios",
            false,
            vec![out(UDP, 137), out(UDP, 138), out(TCP, 139)],
        ),
        (
            "spoofed-source",
            true,
            vec![Packet::out(TCP, 80).from([172, 16, 0, 1]).frame()],
        ),
        (
            "bogon-destination",
            false,
            vec![to([10, 0, 0, 1]), to([192, 168, 1, 1])],
        ),
    ]
}

#[test]
fn frames_that_the_baseline_forbids_do_not_arrive_are_counted_and_alert_once_a_host() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::start(&lab);
    let (lan, uplink) = Wire::both(&lab);
    let forbidden = forbidden();
    let mut sent = 0;
    // Twice: repeats are counted into the open incident.
    for _ in 0..2 {
        for (_, _, frames) in &forbidden {
            for frame in frames {
                lan.send(frame);
                sent += 1;
            }
        }
    }
    let allowed = Packet::out(TCP, 25).from([10, 77, 0, 25]).frame();
    lan.send(&allowed);
    assert_eq!(uplink.next(SOON), Some(allowed), "only the mail server's");
    assert_eq!(uplink.next(NOT_COMING), None);
    let status = gate.assert_accounts([sent + 1, 0]);
    assert_eq!(dropped(&status, "lan", "rule"), sent);
    let mut expected = Vec::new();
    for (rule, alerts, frames) in &forbidden {
        let packets = number(&status["rules"][*rule]["packets"]);
        assert_eq!(packets, 2 * frames.len() as u64, "{rule}");
        if *alerts {
            expected.push(*rule);
        }
    }
    // TFTP over IPv6 is another address: an incident of its own.
    expected.push("tftp");
    expected.sort_unstable();
    let lines = gate.alerts(expected.len());
    let mut told: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["alert"]["signature"].as_str())
        .collect();
    told.sort_unstable();
    assert_eq!(told, expected);
    for line in &lines {
        assert_eq!(line["event_type"], "alert");
        assert_eq!(line["src_mac"], "02:00:00:00:00:09");
        assert_eq!(line["alert"]["action"], "blocked");
    }
    assert_eq!(number(&status["alerts"]), expected.len() as u64);
}

#[test]
fn each_host_alerts_for_itself() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::start(&lab);
    let lan = Wire::open(&lab, "lan", "lan0");
    for round in 0..3 {
        for host in 10..20 {
            lan.send(&Packet::out(UDP, 69).from([10, 77, 0, host]).frame());
        }
        assert_eq!(gate.alerts(10).len(), 10, "round {round}");
    }
    let status = gate.assert_accounts([30, 0]);
    assert_eq!(number(&status["rules"]["tftp"]["packets"]), 30);
    assert_eq!(gate.alerts(10).len(), 10);
}

#[test]
fn what_cannot_be_judged_is_dropped_under_its_own_reason() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::start(&lab);
    let (lan, uplink) = Wire::both(&lab);
    let plain = Packet::out(UDP, 53).payload(b"hello").frame();
    let three = tagged(&plain, &[[0x8100, 1], [0x8100, 2], [0x8100, 3]]);
    let cases = [
        ("ethertype", craft::ethernet(ROUTER, HOST, 0x8847, &[0; 46])),
        ("ethertype", craft::ethernet(ROUTER, HOST, 46, &[0xe0; 46])),
        ("vlan-depth", craft::padded(three, 60)),
        ("source-route", craft::padded(source_route(), 60)),
        ("fragment-orphan", craft::padded(later_fragment(185), 60)),
        ("fragment-tiny", craft::padded(later_fragment(1), 60)),
        ("malformed", craft::padded(cut_short(), 60)),
    ];
    for (_, frame) in &cases {
        lan.send(frame);
        uplink.send(frame);
    }
    lan.send(&plain);
    assert_eq!(uplink.next(SOON), Some(plain));
    assert_eq!(uplink.next(NOT_COMING), None);
    assert_eq!(lan.next(NOT_COMING), None);
    let n = cases.len() as u64;
    let status = gate.assert_accounts([n + 1, n]);
    for (reason, _) in &cases {
        let same = cases.iter().filter(|(other, _)| other == reason).count() as u64;
        for port in ["lan", "uplink"] {
            assert_eq!(dropped(&status, port, reason), same, "{port} {reason}");
        }
    }
}

/// IPv4 with a loose source route (RFC 791 section 3.1), to a UDP port that is allowed.
fn source_route() -> Vec<u8> {
    let udp = &Packet::out(UDP, 53).payload(b"x").frame()[34..];
    ipv4(&[0x83, 7, 4, 93, 184, 216, 1, 0], 0, UDP, udp)
}

/// A TCP fragment at `offset` eights of bytes.
fn later_fragment(offset: u16) -> Vec<u8> {
    ipv4(&[], offset, TCP, &[0x55; 24])
}

/// An IPv4 total length beyond the end of the frame.
fn cut_short() -> Vec<u8> {
    let mut frame = Packet::out(UDP, 53).payload(b"x").frame();
    frame[16..18].copy_from_slice(&1000u16.to_be_bytes());
    frame
}

fn ipv4(options: &[u8], offset: u16, proto: u8, body: &[u8]) -> Vec<u8> {
    let mut header = vec![0x45 + (options.len() / 4) as u8, 0];
    header.extend(((20 + options.len() + body.len()) as u16).to_be_bytes());
    header.extend([0x12, 0x34]);
    header.extend(offset.to_be_bytes());
    header.extend([64, proto, 0, 0]);
    header.extend(craft::HOST4.octets());
    header.extend(craft::SERVER4.octets());
    header.extend(options);
    let mut sum: u32 = header
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    header[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    header.extend(body);
    let mut frame = [ROUTER, HOST].concat();
    frame.extend([8, 0]);
    frame.extend(header);
    frame
}

/// Frames of many flows, so that the kernel spreads them over its queues.
fn flows(out: bool, count: u16) -> Vec<Vec<u8>> {
    let flow = |n: u16| {
        if out {
            Packet::out(UDP, 53).sport(20_000 + n).frame()
        } else {
            Packet::back(UDP, 53).sport(20_000 + n).frame()
        }
    };
    (0..count).map(|n| craft::padded(flow(n), 60)).collect()
}

fn through_queues(queues: [u32; 2], bridge: &str) {
    let cables = Cables {
        queues,
        ..Cables::default()
    };
    let Some(lab) = Lab::with(cables) else { return };
    let gate = Gate::with(&lab, &config(&lab, bridge, ""));
    let workers = format!("workers={} ", queues[0].min(queues[1]));
    assert!(gate.log().contains(&workers), "{}", gate.log());
    let (lan, uplink) = Wire::both(&lab);
    const COUNT: usize = 400;
    for (out, from, to) in [(true, &lan, &uplink), (false, &uplink, &lan)] {
        let mut frames = flows(out, COUNT as u16);
        for frame in &frames {
            from.send(frame);
        }
        let mut got = to.frames(COUNT, SOON);
        // Two queues keep no order between flows.
        frames.sort();
        got.sort();
        assert_eq!(got.len(), COUNT);
        assert!(frames == got, "other frames than those sent");
        assert_eq!(to.next(NOT_COMING), None);
    }
    let status = gate.assert_accounts([COUNT as u64, COUNT as u64]);
    for (port, interface, queues) in [("lan", "gl0", queues[0]), ("uplink", "gu0", queues[1])] {
        assert_eq!(status["ports"][port]["queues"], queues);
        assert_eq!(number(&status["ports"][port]["gate_no_socket"]), 0);
        let statistics = lab.must("gate", "ethtool", &format!("-S {interface}"));
        for queue in 0..queues {
            let name = format!("rx_queue_{queue}_xdp_packets: ");
            let seen: u64 = statistics
                .lines()
                .find_map(|line| line.trim().strip_prefix(&name)?.parse().ok())
                .unwrap_or_else(|| panic!("no {name} in {statistics}"));
            assert!(seen > 0, "no frame came on queue {queue} of {interface}");
        }
    }
}

#[test]
fn frames_on_two_queues_all_arrive_by_two_workers() {
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
    if cores < 2 {
        eprintln!("skipped: two workers on two cores need a machine with two");
        return;
    }
    through_queues([2, 2], "queues = 2\ncores = [0, 1]");
}

#[test]
fn one_queue_inside_and_two_outside_are_all_bound() {
    through_queues([1, 2], "");
}

#[test]
fn two_queues_inside_and_one_outside_are_all_bound() {
    through_queues([2, 1], "");
}

#[test]
fn generic_mode_forwards_and_says_so() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &config(&lab, "mode = \"generic\"", ""));
    let (lan, uplink) = Wire::both(&lab);
    let frames = flows(true, 20);
    for frame in &frames {
        lan.send(frame);
    }
    assert_eq!(uplink.frames(20, SOON), frames);
    lan.send(&Packet::out(UDP, 69).frame());
    let status = gate.assert_accounts([21, 0]);
    for port in ["lan", "uplink"] {
        assert_eq!(status["ports"][port]["mode"], "generic");
    }
    assert_eq!(dropped(&status, "lan", "rule"), 1);
}
