//! Every reason for a drop is one that a frame can meet.

use super::datagrams::{fragment, fragments};
use super::lab::*;
use portcullis::flow::Settings;
use portcullis::hoststack::rings;
use portcullis::policy::Side;
use portcullis::telemetry::Reason;
use portcullis::worker::{Host, Own, Rates};
use std::sync::Arc;
use std::time::Duration;

const IN: &str = "10.77.0.9:40000";
const OUT: &str = "93.184.216.34:80";

/// A gate with an address of its own, and the MAC address that it is reached by; the way to it may be full.
fn own_address(full: bool) -> (Lab, [u8; 6]) {
    let mac = [2, 0, 0, 0, 0, 0xfe];
    let own = Own {
        mac,
        sides: [true, false],
        vlan: None,
        addresses: vec!["10.77.0.2".parse().unwrap()],
        gateways: vec![],
        allow: vec!["10.77.0.9/32".parse().unwrap()],
        port: 9155,
    };
    let rates = Rates { own: 10, decoy: 10 };
    let (end, _) = rings::pair(1);
    if full {
        assert!(end.give(&[0; 60], rings::Lane::Own, Side::Lan, 0));
    }
    let host = Host::new(end, Some(Arc::new(own)), rates);
    (Lab::new("").with_host(host), mac)
}

/// A gate, frames that are to pass before, and the one that is dropped for this reason.
fn case(reason: Reason) -> Option<(Lab, Vec<Vec<u8>>, Vec<u8>)> {
    let plain = || Lab::new("");
    let small = |size, per_host| {
        let settings = Settings {
            per_host,
            adopt: Duration::ZERO,
            ..Settings::of_size(size)
        };
        Lab::with("", &settings, 1)
    };
    let frame = udp(IN, "93.184.216.34:5000");
    let changed = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        frame
    };
    let big = udp_with(IN, "93.184.216.34:5000", &[1; 200]);
    let parts = fragments(&big, 7, &[64]);
    // Connections that are open, of which none makes room, on every place of a table of one bucket's size.
    let open = |count: u16, hosts: bool| {
        let segment = |n: u16| {
            let src = match hosts {
                true => format!("10.77.1.{n}:5000"),
                false => format!("10.77.0.9:{}", 5000 + n),
            };
            [
                tcp(&src, OUT, SYN, 100, 0),
                tcp(OUT, &src, SYN | ACK, 500, 101),
                tcp(&src, OUT, ACK, 101, 501),
            ]
        };
        (0..count).flat_map(segment).collect::<Vec<_>>()
    };
    let new = tcp("10.77.0.9:999", OUT, SYN, 1, 0);
    Some(match reason {
        Reason::Rule => (plain(), vec![], udp(IN, "93.184.216.34:69")),
        Reason::Default => (Lab::new("[policy]\ndefault = \"drop\"\n"), vec![], frame),
        Reason::RateLimit => {
            let text =
                "[[rule]]\nname = \"few\"\nproto = \"udp\"\naction = \"allow\"\nlimit = \"1/h\"\n";
            (Lab::new(text), vec![frame.clone()], frame)
        }
        Reason::Malformed => (plain(), vec![], changed(14, 0x55)),
        Reason::Ethertype => {
            let mut unknown = frame;
            unknown[12..14].copy_from_slice(&[0x81, 0x37]);
            (plain(), vec![], unknown)
        }
        Reason::VlanDepth => {
            let tags = [0x81, 0, 0, 1].repeat(3);
            (
                plain(),
                vec![],
                [&frame[..12], &tags, &frame[12..]].concat(),
            )
        }
        Reason::ExtHeader => {
            let mut v6 = udp("[fd77::9]:1", "[2606:2800:220:1::34]:5000");
            v6[20] = 253;
            (plain(), vec![], v6)
        }
        Reason::SourceRoute => {
            let mut routed = frame[..34].to_vec();
            routed[14] = 0x47;
            routed[17] += 8;
            routed.extend([131, 7, 4, 1, 1, 1, 1, 0]);
            routed.extend(&frame[34..]);
            (plain(), vec![], routed)
        }
        Reason::FragmentTiny => {
            let syn = tcp_with(IN, OUT, SYN, (1, 0), &[0; 40]);
            (plain(), vec![], fragments(&syn, 1, &[8]).swap_remove(0))
        }
        Reason::FragmentOrphan => (plain(), vec![], parts[1].clone()),
        Reason::FragmentOverlap => {
            let back = fragment(&big, 7, 56, &big[34 + 56..], false);
            (plain(), vec![parts[0].clone()], back)
        }
        Reason::FragmentDuplicate => (plain(), vec![parts[0].clone()], parts[0].clone()),
        Reason::TcpFlags => (plain(), vec![], tcp(IN, OUT, SYN | FIN, 1, 0)),
        Reason::NoFlow => (plain(), vec![], tcp(IN, OUT, ACK, 1, 1)),
        Reason::IcmpUnrelated => {
            let quoted = udp(OUT, IN);
            let error = icmp("10.77.0.9", "93.184.216.34", 3, 3, [0; 4], packet(&quoted));
            (plain(), vec![], error)
        }
        Reason::FlowTableFull => (small(7, 7), open(7, true), new),
        Reason::HostFlows => (small(1000, 7), open(7, false), new),
        Reason::Checksum | Reason::PayloadOverlap | Reason::PayloadHidden => {
            let mut before = super::apps::handshake(IN, OUT);
            let data = |seq, bytes: &[u8]| tcp_with(IN, OUT, ACK | PSH, (seq, 501), bytes);
            let mut last = data(101, b"NICK");
            match reason {
                Reason::Checksum => last[50] ^= 1,
                Reason::PayloadOverlap => before.push(data(102, b"OPE!")),
                _ => last = fragments(&data(101, &[b'\n'; 40]), 3, &[32]).swap_remove(0),
            }
            (plain(), before, last)
        }
        Reason::InbandRefused | Reason::InbandRate => {
            let (lab, mac) = own_address(reason == Reason::InbandRate);
            let mut asks = tcp("10.77.0.9:40000", "10.77.0.2:9155", SYN, 1, 0);
            asks[..6].copy_from_slice(&mac);
            if reason == Reason::InbandRefused {
                asks[36..38].copy_from_slice(&22u16.to_be_bytes());
            }
            (lab, vec![], asks)
        }
        Reason::DecoyFull => {
            let decoy =
                "[[rule]]\nname = \"odd\"\naction = \"decoy\"\nproto = \"tcp\"\ndport = 4444\n";
            let (end, stack) = rings::pair(4);
            stack.set_full(true);
            let rates = Rates { own: 10, decoy: 10 };
            let lab = Lab::new(decoy).with_host(Host::new(end, None, rates));
            (lab, vec![], tcp(IN, "93.184.216.34:4444", SYN, 1, 0))
        }
        // Of a replay, which knows the length of what it has cut off: tests/replay.rs. A live port never sees such a frame whole.
        Reason::Oversize => return None,
    })
}

#[test]
fn every_reason_is_met_by_a_frame_and_counted_under_its_name() {
    let mut unmet = Vec::new();
    for reason in Reason::ALL {
        let Some((mut lab, before, frame)) = case(*reason) else {
            unmet.push(reason.name());
            continue;
        };
        for frame in before {
            let side = match frame[26..28] {
                [10, 77] => Side::Lan,
                _ => Side::Uplink,
            };
            assert!(lab.passes(side, &frame), "{reason}: before it");
        }
        assert!(!lab.out(&frame), "{reason}: it passed");
        lab.settle();
        assert_eq!(lab.dropped(reason.name()), 1, "{reason}");
    }
    assert_eq!(unmet, ["oversize"]);
}
