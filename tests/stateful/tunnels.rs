//! Tunnels: a rule for each, and what is inside judged too where the config says so. Hosts whose addresses are pinned.

use super::datagrams::fragments;
use super::lab::*;
use etherparse::PacketBuilder;
use portcullis::policy::Side;

const HOST: [u8; 4] = [10, 77, 0, 9];
const FAR: [u8; 4] = [93, 184, 216, 34];

/// An IPv4 packet of this protocol between the tunnel's ends, from `side`.
fn outer(side: Side, proto: u8, body: &[u8]) -> Vec<u8> {
    let (src, dst) = if side == Side::Lan {
        (HOST, FAR)
    } else {
        (FAR, HOST)
    };
    let mut header =
        etherparse::Ipv4Header::new(body.len() as u16, 64, etherparse::IpNumber(proto), src, dst)
            .unwrap();
    header.header_checksum = header.calc_header_checksum();
    let mut frame = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 8, 0].to_vec();
    header.write(&mut frame).unwrap();
    frame.extend(body);
    frame
}

fn udp_outer(side: Side, sport: u16, dport: u16, body: &[u8]) -> Vec<u8> {
    let (src, dst) = if side == Side::Lan {
        (HOST, FAR)
    } else {
        (FAR, HOST)
    };
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1])
        .ipv4(src, dst, 64)
        .udp(sport, dport)
        .write(&mut frame, body)
        .unwrap();
    frame
}

/// This frame's packet in every tunnel that can be looked into.
fn tunnels(side: Side, frame: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let v6 = frame[12..14] == [0x86, 0xdd];
    let ethertype = [frame[12], frame[13]];
    let gre = |head: &[u8]| outer(side, 47, &[head, packet(frame)].concat());
    let vxlan = [&[8, 0, 0, 0, 0, 0, 9, 0], frame].concat();
    vec![
        (
            if v6 { "6in4" } else { "ipip" },
            outer(side, if v6 { 41 } else { 4 }, packet(frame)),
        ),
        ("gre", gre(&[[0, 0], ethertype].concat())),
        (
            "gre",
            gre(&[&[0x30, 0][..], &ethertype, &[0, 0, 0, 1, 0, 0, 0, 2]].concat()),
        ),
        (
            "gre",
            outer(side, 47, &[&[0, 0, 0x65, 0x58], frame].concat()),
        ),
        ("vxlan", udp_outer(side, 50_000, 4789, &vxlan)),
    ]
}

const LOOK: &str = "[lan]\nprefixes = [\"10.77.0.0/24\", \"fd77::/64\"]\n[policy]\nlook_into = [\"gre\", \"ipip\", \"6in4\", \"vxlan\"]\n";

#[test]
fn each_kind_of_tunnel_has_a_rule_that_is_off_until_it_is_switched_on() {
    let cases: [(&str, Vec<u8>); 8] = [
        ("tunnel-gre", outer(Side::Lan, 47, &[0; 24])),
        ("tunnel-ipip", outer(Side::Lan, 4, &[0; 24])),
        ("tunnel-6in4", outer(Side::Lan, 41, &[0; 24])),
        ("tunnel-esp", outer(Side::Lan, 50, &[0; 24])),
        ("tunnel-vxlan", udp_outer(Side::Lan, 5, 4789, &[0; 24])),
        ("tunnel-geneve", udp_outer(Side::Lan, 5, 6081, &[0; 24])),
        ("tunnel-teredo", udp_outer(Side::Lan, 5, 3544, &[0; 24])),
        (
            "tunnel-wireguard",
            udp_outer(Side::Lan, 5, 51_820, &[0; 24]),
        ),
    ];
    assert!(
        cases
            .iter()
            .map(|(name, _)| *name)
            .eq(portcullis::config::tunnels::NAMES)
    );
    for (name, frame) in &cases {
        assert!(Lab::new("").out(frame), "{name} is off");
        let mut lab = Lab::new(&format!("[[rule]]\nname = \"{name}\"\nenabled = true\n"));
        lab.drops(Side::Lan, frame, "rule");
        assert_eq!(lab.alerts(), [*name]);
        for (_, other) in cases.iter().filter(|(other, _)| other != name) {
            assert!(lab.out(other));
        }
    }
    let mut strict = Lab::new(
        "[policy]\nprofile = \"strict\"\ntcp_ports = [443]\n[[rule]]\nname = \"tunnel-wireguard\"\nenabled = true\naction = \"allow\"\n",
    );
    assert!(strict.out(&cases[7].1), "the one that is wanted");
    strict.drops(Side::Lan, &cases[0].1, "rule");
}

#[test]
fn what_a_tunnel_carries_is_judged_by_the_rules_where_it_is_looked_into() {
    for (src, irc, web) in [
        ("192.168.5.5:40000", "8.8.8.8:6667", "8.8.8.8:443"),
        (
            "[fd55::5]:40000",
            "[2606:2800:220:1::35]:6667",
            "[2606:2800:220:1::35]:443",
        ),
    ] {
        let forbidden = tunnels(Side::Lan, &tcp(src, irc, SYN, 100, 0));
        let mut open = Lab::new("");
        assert!(
            forbidden.iter().all(|(_, frame)| open.out(frame)),
            "it is not looked into"
        );
        for (at, (kind, frame)) in forbidden.iter().enumerate() {
            let mut lab = Lab::new(LOOK);
            lab.drops(Side::Lan, frame, "rule");
            assert_eq!(lab.alerts(), ["irc"], "{kind}");
            // What is allowed passes, its answer too, and what belongs to nothing does not. Inner addresses may be private ones.
            let inside = |side, frame: Vec<u8>| tunnels(side, &frame).swap_remove(at).1;
            let out = inside(Side::Lan, tcp(src, web, SYN, 100, 0));
            let back = inside(Side::Uplink, tcp(web, src, SYN | ACK, 500, 101));
            lab.drops(Side::Uplink, &back, "no-flow");
            assert!(lab.out(&out) && lab.back(&back), "{kind}");
            assert!(lab.out(&inside(Side::Lan, tcp(src, web, ACK, 101, 501))));
            lab.drops(
                Side::Lan,
                &inside(Side::Lan, tcp(src, web, FIN | SYN, 1, 0)),
                "tcp-flags",
            );
            // The same five-tuple outside of the tunnel is another flow.
            lab.drops(
                Side::Lan,
                &tcp(
                    "10.77.0.9:40000",
                    web.replace("[2606:2800:220:1::35]", "8.8.8.8").as_str(),
                    ACK,
                    101,
                    501,
                ),
                "no-flow",
            );
        }
        let only = format!("[policy]\nlook_into = [\"{}\"]\n", forbidden[0].0);
        let mut lab = Lab::new(&only);
        lab.drops(Side::Lan, &forbidden[0].1, "rule");
        assert!(lab.out(&forbidden[1].1), "the others are not looked into");
    }
}

#[test]
fn what_cannot_be_seen_inside_a_tunnel_that_is_looked_into_is_dropped() {
    let mut lab = Lab::new(LOOK);
    lab.drops(
        Side::Lan,
        &outer(Side::Lan, 47, &[0, 1, 0x88, 0x0b, 0, 0, 0, 0]),
        "ethertype",
    );
    lab.drops(
        Side::Lan,
        &outer(Side::Lan, 47, &[0, 0, 0x88, 0x47, 0, 0, 0, 0]),
        "ethertype",
    );
    lab.drops(
        Side::Lan,
        &outer(Side::Lan, 4, &[0x45, 0, 0, 9]),
        "malformed",
    );
    lab.drops(
        Side::Lan,
        &udp_outer(Side::Lan, 1, 4789, &[8, 0, 0]),
        "malformed",
    );
    let inner = udp_with("192.168.5.5:1", "8.8.8.8:5000", &[1; 200]);
    for part in fragments(&outer(Side::Lan, 4, packet(&inner)), 5, &[64]) {
        assert!(!lab.out(&part), "in pieces it cannot be seen");
    }
    // A tunnel in a tunnel is what its protocol number says.
    let twice = outer(
        Side::Lan,
        4,
        packet(&outer(
            Side::Lan,
            4,
            packet(&udp("1.1.1.1:1", "2.2.2.2:69")),
        )),
    );
    assert!(lab.out(&twice));
    let mut lab = Lab::new(&format!(
        "{LOOK}[[rule]]\nname = \"tunnel-ipip\"\nenabled = true\n"
    ));
    lab.drops(Side::Lan, &twice, "rule");
}

#[test]
fn fragments_inside_a_tunnel_get_what_their_first_got() {
    for (port, passes) in [(5000, true), (69, false)] {
        let mut lab = Lab::new(LOOK);
        let inner = udp_with("192.168.5.5:1", &format!("8.8.8.8:{port}"), &[1; 200]);
        for part in fragments(&inner, 5, &[64, 136]) {
            assert_eq!(lab.out(&outer(Side::Lan, 4, packet(&part))), passes);
        }
    }
}

#[test]
fn rules_on_machines_and_frames_hold_inside_and_around_a_tunnel() {
    let text = format!(
        "{LOOK}[[rule]]\nname = \"no-rst\"\nproto = \"tcp\"\ntcp_flags = \"rst\"\naction = \"drop\"\n[hosts]\na = {{ ip = \"10.77.0.9\", mac = \"02:00:00:00:00:09\" }}\n"
    );
    let (src, web) = ("192.168.5.5:40000", "8.8.8.8:443");
    let mut lab = Lab::new(&text);
    let inside = |side, frame: Vec<u8>| outer(side, 4, packet(&frame));
    assert!(lab.out(&inside(Side::Lan, tcp(src, web, SYN, 100, 0))));
    assert!(lab.back(&inside(Side::Uplink, tcp(web, src, SYN | ACK, 500, 101))));
    lab.drops(
        Side::Lan,
        &inside(Side::Lan, tcp(src, web, RST, 101, 0)),
        "rule",
    );
    let mut forged = inside(Side::Lan, tcp(src, web, ACK, 101, 501));
    assert!(lab.out(&forged));
    forged[11] = 0x66;
    lab.drops(Side::Lan, &forged, "rule");
    // A frame on the wire with the highest VLAN id is not what is inside.
    let tagged =
        |frame: &[u8], tci: [u8; 2]| [&frame[..12], &[0x81, 0], &tci, &frame[12..]].concat();
    lab.drops(
        Side::Lan,
        &tagged(&tcp(src, web, ACK, 101, 501), [0x0f, 0xff]),
        "no-flow",
    );
}

#[test]
fn connections_in_a_tunnel_are_adopted_too() {
    let adopting = portcullis::flow::Settings {
        adopt: std::time::Duration::from_secs(60),
        ..settings()
    };
    let mut lab = Lab::with(LOOK, &adopting, 1);
    let inside = |frame: Vec<u8>| outer(Side::Lan, 4, packet(&frame));
    assert!(lab.out(&inside(tcp(
        "192.168.5.5:40000",
        "8.8.8.8:443",
        ACK,
        101,
        501
    ))));
    lab.drops(
        Side::Lan,
        &inside(tcp("192.168.5.5:40000", "8.8.8.8:6667", ACK, 101, 501)),
        "rule",
    );
    // However much else is opened in tunnels of the same burst.
    let mut expected = Vec::new();
    for n in 0..30 {
        expected.push(inside(udp(
            "192.168.5.5:1",
            &format!("8.8.8.8:{}", 3000 + n),
        )));
        let src = format!("192.168.5.5:{}", 41_000 + n);
        expected.push(inside(tcp(&src, "8.8.8.8:443", ACK, 101, 501)));
    }
    for frame in &expected {
        lab.arrive(0, Side::Lan, frame);
    }
    lab.turn();
    assert_eq!(lab.sent(Side::Uplink), expected);
}

#[test]
fn an_address_that_is_pinned_belongs_to_one_machine() {
    let mut lab = Lab::new(
        "[hosts]\nprinter = { ip = [\"10.77.0.9\", \"fd77::9\"], mac = \"02:00:00:00:00:09\" }\n",
    );
    for (src, dst) in [
        ("10.77.0.9:5000", "93.184.216.34:5000"),
        ("[fd77::9]:5000", "[2606:2800:220:1::34]:5000"),
    ] {
        let good = udp(src, dst);
        let mut forged = good.clone();
        forged[11] = 0x66;
        lab.drops(Side::Lan, &forged, "rule");
        assert_eq!(lab.alerts(), ["spoofed-mac"]);
        assert!(lab.out(&good));
        lab.drops(Side::Lan, &forged, "rule");
        assert_eq!(lab.alerts(), ["spoofed-mac"], "in a flow that is open, too");
        assert!(lab.back(&udp(dst, src)), "what comes in has the router's");
    }
    assert!(
        lab.out(&udp("10.77.0.10:5000", "93.184.216.34:5000")),
        "others are not pinned"
    );
    // What answers from another machine does not pass either, and does not end the flow.
    let (inside, outside) = ("10.77.0.9:6000", "93.184.216.34:6001");
    assert!(lab.back(&udp(outside, inside)));
    let good = udp(inside, outside);
    let mut forged = good.clone();
    forged[11] = 0x66;
    lab.alerts();
    lab.drops(Side::Lan, &forged, "rule");
    assert_eq!(lab.alerts(), ["spoofed-mac"]);
    assert!(lab.out(&good));
    // Nor does a forged frame that is the first to be seen after the policy has changed.
    lab.reload(|_| ());
    lab.drops(Side::Lan, &forged, "rule");
    assert!(lab.back(&udp(outside, inside)) && lab.out(&good));
    let opened = udp("10.77.0.9:5000", "93.184.216.34:5000");
    let mut stolen = opened.clone();
    stolen[11] = 0x66;
    lab.reload(|_| ());
    lab.drops(Side::Lan, &stolen, "rule");
    assert!(lab.out(&opened));
    // A later fragment from another machine is of no datagram.
    let parts = fragments(
        &udp_with("10.77.0.9:5000", "93.184.216.34:5000", &[1; 200]),
        3,
        &[64],
    );
    assert!(lab.out(&parts[0]));
    let mut other = parts[1].clone();
    other[11] = 0x66;
    assert!(!lab.out(&other) && lab.out(&parts[1]));
    lab.settle();
    let refused =
        |text: &str| portcullis::config::parse(text, "t", std::path::Path::new(".")).is_err();
    for wrong in [
        "a = {}",
        "a = { ip = \"x\", mac = \"02:00:00:00:00:09\" }",
        "a = { ip = \"10.77.0.9\", mac = \"02\" }",
        "a = 5",
    ] {
        assert!(refused(&format!("[hosts]\n{wrong}\n")), "{wrong}");
    }
}
