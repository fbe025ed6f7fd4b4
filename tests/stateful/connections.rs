//! Who may open, what answers, and what belongs to nothing.

use super::lab::*;
use portcullis::flow::Settings;
use portcullis::policy::Side;
use std::time::Duration;

const IN: &str = "10.77.0.9:40000";
const OUT: &str = "93.184.216.34:80";
const IN6: &str = "[fd77::9]:40000";
const OUT6: &str = "[2606:2800:220:1::34]:80";

/// A handshake from `src` on `side`; each segment has to pass.
fn handshake(lab: &mut Lab, side: Side, src: &str, dst: &str) {
    assert!(lab.passes(side, &tcp(src, dst, SYN, 100, 0)));
    assert!(lab.passes(side.other(), &tcp(dst, src, SYN | ACK, 500, 101)));
    assert!(lab.passes(side, &tcp(src, dst, ACK, 101, 501)));
}

#[test]
fn a_reply_of_an_inside_server_to_a_client_on_a_forbidden_port_passes_without_an_alert() {
    let mut lab = Lab::new("");
    for port in [6667, 445, 25, 135, 139] {
        let client = format!("93.184.216.34:{port}");
        handshake(&mut lab, Side::Uplink, &client, "10.77.0.80:443");
        assert!(lab.out(&tcp_with(
            "10.77.0.80:443",
            &client,
            ACK | PSH,
            (501, 101),
            b"page"
        )));
    }
    for port in [69, 161, 137] {
        let client = format!("93.184.216.34:{port}");
        assert!(lab.back(&udp(&client, "10.77.0.80:53")));
        assert!(lab.out(&udp("10.77.0.80:53", &client)));
    }
    assert!(lab.back(&udp("[2606:2800:220:1::34]:69", "[fd77::80]:53")));
    assert!(lab.out(&udp("[fd77::80]:53", "[2606:2800:220:1::34]:69")));
    assert_eq!(lab.alerts(), Vec::<String>::new());
}

#[test]
fn a_source_port_of_a_well_known_service_makes_no_reply() {
    let mut lab = Lab::new("");
    for port in [25, 53, 80, 443] {
        let src = format!("10.77.0.9:{port}");
        lab.drops(Side::Lan, &udp(&src, "93.184.216.34:69"), "rule");
        lab.drops(
            Side::Lan,
            &tcp(&src, "93.184.216.34:6667", SYN, 1, 0),
            "rule",
        );
        for flags in [ACK, SYN | ACK, RST | ACK, FIN | ACK, RST] {
            lab.drops(
                Side::Lan,
                &tcp(&src, "93.184.216.34:6667", flags, 1, 1),
                "no-flow",
            );
        }
    }
}

#[test]
fn the_other_side_of_a_flow_opens_nothing_that_the_rules_forbid() {
    let mut lab = Lab::new("");
    // An accomplice outside opens from port 6667; the host inside then opens towards that port, on the same ports.
    handshake(&mut lab, Side::Uplink, "93.184.216.34:6667", IN);
    assert_eq!(lab.alerts(), Vec::<String>::new());
    lab.drops(
        Side::Lan,
        &tcp(IN, "93.184.216.34:6667", SYN, 9000, 0),
        "rule",
    );
    assert_eq!(lab.alerts(), ["irc"]);
    assert!(
        lab.out(&tcp(IN, "93.184.216.34:6667", ACK, 501, 101)),
        "the first flow goes on"
    );
    // Where it may, it is a simultaneous open (RFC 9293 section 3.5).
    assert!(lab.out(&tcp("10.77.0.9:5000", "93.184.216.34:5001", SYN, 1, 0)));
    assert!(lab.back(&tcp("93.184.216.34:5001", "10.77.0.9:5000", SYN, 1, 0)));
}

#[test]
fn only_a_syn_opens_a_connection() {
    for (src, dst) in [(IN, OUT), (IN6, OUT6)] {
        let mut lab = Lab::new("");
        for flags in [ACK, ACK | PSH, SYN | ACK, FIN | ACK, RST, RST | ACK] {
            lab.drops(Side::Lan, &tcp(src, dst, flags, 1, 1), "no-flow");
            lab.drops(Side::Uplink, &tcp(dst, src, flags, 1, 1), "no-flow");
        }
        handshake(&mut lab, Side::Lan, src, dst);
        assert!(lab.back(&tcp_with(dst, src, ACK | PSH, (501, 101), b"data")));
        assert_eq!(lab.flows.count(), 1);
    }
}

#[test]
fn nothing_is_acknowledged_before_the_other_side_has_answered() {
    let mut lab = Lab::new("");
    assert!(lab.out(&tcp(IN, OUT, SYN, 100, 0)));
    for flags in [ACK, ACK | PSH, FIN | ACK, SYN | ACK] {
        lab.drops(Side::Lan, &tcp(IN, OUT, flags, 101, 501), "no-flow");
    }
    assert!(lab.back(&tcp(OUT, IN, SYN | ACK, 500, 101)));
    assert!(lab.out(&tcp(IN, OUT, ACK, 101, 501)));
}

#[test]
fn flags_that_no_tcp_sends_are_dropped_with_a_flow_and_without() {
    let bad = [
        0,
        FIN,
        PSH,
        URG,
        FIN | PSH | URG,
        SYN | FIN,
        SYN | RST,
        SYN | FIN | ACK,
        SYN | PSH,
    ];
    let mut lab = Lab::new("");
    for flags in bad {
        lab.drops(Side::Lan, &tcp(IN, OUT, flags, 1, 1), "tcp-flags");
    }
    handshake(&mut lab, Side::Lan, IN, OUT);
    for flags in bad {
        lab.drops(Side::Lan, &tcp(IN, OUT, flags, 101, 501), "tcp-flags");
        lab.drops(Side::Uplink, &tcp(OUT, IN, flags, 501, 101), "tcp-flags");
    }
    assert!(lab.out(&tcp(IN, OUT, ACK, 101, 501)));
}

#[test]
fn what_nobody_asked_for_is_for_the_rules_of_the_direction_in_and_what_was_asked_for_is_not() {
    let text = "[policy]\ndefault = \"drop\"\n\
        [[rule]]\nname = \"web\"\naction = \"allow\"\nproto = [\"tcp\", \"udp\"]\ndport = [53, 80]\n\
        [[rule]]\nname = \"ping\"\naction = \"allow\"\nproto = \"icmp\"\n";
    let mut lab = Lab::new(text);
    lab.drops(Side::Uplink, &udp("93.184.216.34:53", IN), "default");
    assert!(lab.out(&udp(IN, "93.184.216.34:53")));
    assert!(lab.back(&udp("93.184.216.34:53", IN)));
    lab.drops(
        Side::Uplink,
        &udp("93.184.216.34:53", "10.77.0.9:40001"),
        "default",
    );
    lab.drops(Side::Uplink, &udp("93.184.216.35:53", IN), "default");
    handshake(&mut lab, Side::Lan, IN, OUT);
    lab.drops(
        Side::Uplink,
        &tcp(OUT, "10.77.0.9:40001", SYN, 1, 0),
        "default",
    );
}

#[test]
fn an_answer_to_no_icmp_query_is_dropped_and_one_to_another_identifier_too() {
    let mut lab = Lab::new("");
    let ping = |id| icmp("10.77.0.9", "93.184.216.34", 8, 0, [0, id, 0, 1], b"ping");
    let pong = |id| icmp("93.184.216.34", "10.77.0.9", 0, 0, [0, id, 0, 1], b"ping");
    lab.drops(Side::Uplink, &pong(1), "no-flow");
    assert!(lab.out(&ping(1)));
    assert!(lab.back(&pong(1)));
    lab.drops(Side::Uplink, &pong(2), "no-flow");
    lab.drops(
        Side::Lan,
        &icmp("10.77.0.9", "93.184.216.34", 0, 0, [0, 1, 0, 1], b"tunnel"),
        "no-flow",
    );
    let ping6 = icmp(
        "fd77::9",
        "2606:2800:220:1::34",
        128,
        0,
        [0, 7, 0, 1],
        b"ping",
    );
    let pong6 = icmp(
        "2606:2800:220:1::34",
        "fd77::9",
        129,
        0,
        [0, 7, 0, 1],
        b"ping",
    );
    lab.drops(Side::Uplink, &pong6, "no-flow");
    assert!(lab.out(&ping6) && lab.back(&pong6));
    // Both may ask with the same identifier.
    let ping_in = icmp("93.184.216.34", "10.77.0.9", 8, 0, [0, 1, 0, 1], b"ping");
    let pong_out = icmp("10.77.0.9", "93.184.216.34", 0, 0, [0, 1, 0, 1], b"ping");
    assert!(lab.back(&ping_in) && lab.out(&pong_out) && lab.out(&ping(1)));
}

#[test]
fn an_icmp_error_passes_only_for_a_packet_of_a_live_flow() {
    let cases: [(&str, &str, &str, u8, u8); 2] = [
        (IN, OUT, "93.184.216.1", 3, 4),
        (IN6, OUT6, "2606:2800:220:1::1", 2, 0),
    ];
    for (src, dst, router, kind, code) in cases {
        let mut lab = Lab::new("");
        let host = end(src).ip.to_string();
        let sent = tcp(src, dst, SYN, 100, 0);
        let error = |quoted: &[u8]| icmp(router, &host, kind, code, [0, 0, 5, 0], quoted);
        let quote = &packet(&sent)[..if end(src).ip.is_ipv4() { 28 } else { 48 }];
        lab.drops(Side::Uplink, &error(quote), "icmp-unrelated");
        assert!(lab.out(&sent));
        assert!(lab.back(&error(quote)), "with eight bytes of the transport");
        assert!(lab.back(&error(packet(&sent))));
        // Of another port, the wrong way round, to another host, cut off.
        let other = tcp("10.77.0.9:40001", "93.184.216.34:80", SYN, 100, 0);
        lab.drops(Side::Uplink, &error(packet(&other)), "icmp-unrelated");
        let reverse = tcp(dst, src, SYN | ACK, 1, 101);
        lab.drops(Side::Uplink, &error(packet(&reverse)), "icmp-unrelated");
        let elsewhere = if end(src).ip.is_ipv4() {
            "10.77.0.10"
        } else {
            "fd77::10"
        };
        let wrong = icmp(router, elsewhere, kind, code, [0, 0, 5, 0], packet(&sent));
        lab.drops(Side::Uplink, &wrong, "icmp-unrelated");
        lab.drops(
            Side::Uplink,
            &error(&quote[..quote.len() - 6]),
            "icmp-unrelated",
        );
        lab.drops(Side::Uplink, &error(&[]), "icmp-unrelated");
        // The inside tells the outside of a packet that it sent.
        let told = icmp(
            &host,
            &end(dst).ip.to_string(),
            if kind == 3 { 3 } else { 1 },
            3,
            [0; 4],
            packet(&reverse),
        );
        assert!(lab.out(&told));
    }
}

#[test]
fn an_icmp_error_of_a_ping_is_known_by_its_identifier_and_rules_may_forbid_errors() {
    let mut lab = Lab::new(
        "[policy]\ndefault = \"drop\"\n[[rule]]\nname = \"ping\"\nproto = \"icmp\"\nicmp_type = [8]\naction = \"allow\"\n\
         [[rule]]\nname = \"no-redirect\"\ndirection = \"in\"\nproto = \"icmp\"\nicmp_type = [5]\naction = \"drop\"\n",
    );
    let ping = icmp("10.77.0.9", "93.184.216.34", 8, 0, [0, 9, 0, 1], b"ping");
    let error = |kind, quoted: &[u8]| icmp("93.184.216.1", "10.77.0.9", kind, 0, [0; 4], quoted);
    assert!(lab.out(&ping));
    assert!(lab.back(&error(11, packet(&ping))));
    lab.drops(Side::Uplink, &error(5, packet(&ping)), "rule");
    let other = icmp("10.77.0.9", "93.184.216.34", 8, 0, [0, 10, 0, 1], b"ping");
    lab.drops(Side::Uplink, &error(11, packet(&other)), "icmp-unrelated");
}

#[test]
fn a_reset_ends_a_connection_only_within_the_window() {
    let short = Duration::from_secs(130);
    for (seq, ends) in [
        (501u32, true),
        (1501, true),
        (1502, false),
        (500, false),
        (0, false),
    ] {
        let mut lab = Lab::new("");
        handshake(&mut lab, Side::Lan, IN, OUT);
        assert!(
            lab.back(&tcp(OUT, IN, RST, seq, 0)),
            "the host decides over it as well"
        );
        // What was reset is forgotten soon, what is open is not.
        lab.wait(short);
        let open = lab.out(&tcp(IN, OUT, ACK, 101, 501));
        assert_eq!(open, !ends, "{seq}");
    }
}

#[test]
fn a_connection_that_was_closed_may_be_opened_anew_and_is_judged_anew() {
    let mut lab = Lab::new("");
    handshake(&mut lab, Side::Lan, IN, OUT);
    assert!(lab.out(&tcp(IN, OUT, FIN | ACK, 101, 501)));
    assert!(lab.back(&tcp(OUT, IN, FIN | ACK, 501, 102)));
    assert!(
        lab.out(&tcp(IN, OUT, ACK, 102, 502)),
        "the last acknowledgement"
    );
    handshake(&mut lab, Side::Lan, IN, OUT);
    assert_eq!(lab.flows.count(), 1);
    lab.wait(Duration::from_secs(3600));
    assert!(
        lab.out(&tcp(IN, OUT, ACK, 101, 501)),
        "it is open, not closing"
    );
}

#[test]
fn idle_flows_are_forgotten_each_kind_in_its_time() {
    let mut lab =
        Lab::new("[policy]\ndefault = \"drop\"\n[[rule]]\nname = \"all\"\naction = \"allow\"\n");
    let seconds = Duration::from_secs;
    assert!(lab.out(&udp(IN, "93.184.216.34:53")));
    lab.wait(seconds(25));
    assert!(lab.back(&udp("93.184.216.34:53", IN)));
    lab.wait(seconds(235));
    assert!(lab.back(&udp("93.184.216.34:53", IN)));
    lab.wait(seconds(245));
    lab.drops(Side::Uplink, &udp("93.184.216.34:53", IN), "default");
    assert!(lab.out(&udp(IN, "93.184.216.34:53")));
    lab.wait(seconds(35));
    lab.drops(Side::Uplink, &udp("93.184.216.34:53", IN), "default");
    handshake(&mut lab, Side::Lan, IN, OUT);
    lab.wait(seconds(7400));
    assert!(lab.back(&tcp(OUT, IN, ACK, 501, 101)));
    lab.wait(seconds(7450));
    lab.drops(Side::Uplink, &tcp(OUT, IN, ACK, 501, 101), "no-flow");
    assert!(lab.out(&tcp("10.77.0.9:40007", OUT, SYN, 1, 0)));
    lab.wait(seconds(35));
    lab.drops(
        Side::Uplink,
        &tcp(OUT, "10.77.0.9:40007", SYN | ACK, 1, 2),
        "no-flow",
    );
    // The sweep has freed the memory by then.
    for _ in 0..20 {
        lab.wait(seconds(2));
    }
    assert_eq!(lab.flows.count(), 0);
}

#[test]
fn a_day_without_a_frame_forgets_everything() {
    let mut lab = Lab::new("");
    handshake(&mut lab, Side::Lan, IN, OUT);
    // As long as the clock of the table takes to come round, and a minute.
    lab.wait(Duration::from_nanos((1 << 46) + 60 * SECOND));
    lab.drops(Side::Lan, &tcp(IN, OUT, ACK, 101, 501), "no-flow");
    assert_eq!(lab.flows.count(), 0);
}

#[test]
fn connections_that_were_open_before_the_start_go_on_where_the_rules_let_them() {
    let adopting = Settings {
        adopt: Duration::from_secs(60),
        ..settings()
    };
    let mut lab = Lab::with("", &adopting, 1);
    // A client inside, a server inside whose client has a forbidden port, and the answers to both.
    assert!(lab.out(&tcp(IN, OUT, ACK, 1, 1)) && lab.back(&tcp(OUT, IN, ACK, 1, 1)));
    assert!(lab.back(&tcp("93.184.216.34:6667", "10.77.0.80:443", ACK, 1, 1)));
    assert!(lab.out(&tcp("10.77.0.80:443", "93.184.216.34:6667", ACK, 1, 1)));
    assert_eq!(lab.alerts(), Vec::<String>::new());
    // A client inside of what is forbidden.
    lab.drops(Side::Lan, &tcp(IN, "93.184.216.34:6667", ACK, 1, 1), "rule");
    assert_eq!(lab.alerts(), ["irc"]);
    lab.drops(
        Side::Uplink,
        &tcp("93.184.216.34:6667", IN, ACK, 1, 1),
        "no-flow",
    );
    // No reset, and no answer to a SYN, is the middle of a connection.
    lab.drops(
        Side::Lan,
        &tcp("10.77.0.9:40009", OUT, RST | ACK, 1, 1),
        "no-flow",
    );
    lab.drops(
        Side::Lan,
        &tcp("10.77.0.9:40009", OUT, SYN | ACK, 1, 1),
        "no-flow",
    );
    lab.wait(Duration::from_secs(62));
    lab.drops(
        Side::Lan,
        &tcp("10.77.0.9:40010", OUT, ACK, 1, 1),
        "no-flow",
    );
    assert!(
        lab.out(&tcp(IN, OUT, ACK, 1, 1)),
        "what was adopted goes on"
    );
}

#[test]
fn another_vlan_is_another_network_and_a_priority_tag_is_none() {
    let mut lab = Lab::new("[[rule]]\nname = \"guests\"\nvlan = [7]\naction = \"drop\"\n");
    let tagged = |frame: &[u8], tci: u16| {
        let tag = [&[0x81, 0x00][..], &tci.to_be_bytes()].concat();
        [&frame[..12], &tag, &frame[12..]].concat()
    };
    let frame = udp(IN, "93.184.216.34:5000");
    assert!(lab.out(&frame));
    lab.drops(Side::Lan, &tagged(&frame, 7), "rule");
    assert!(lab.out(&tagged(&frame, 0xe000)), "the same flow");
    assert_eq!(lab.flows.count(), 1);
    assert!(lab.out(&tagged(&frame, 8)));
    assert_eq!(lab.flows.count(), 2);
}

#[test]
fn a_rule_that_forbids_single_frames_does_so_in_a_flow_that_is_open() {
    let text = "[[rule]]\nname = \"admin\"\nsrc = \"10.77.0.2\"\naction = \"allow\"\n\
        [[rule]]\nname = \"no-reset\"\nproto = \"tcp\"\ntcp_flags = \"rst\"\naction = \"drop\"\n\
        [[rule]]\nname = \"new-only\"\nproto = \"tcp\"\ndport = [80]\ntcp_flags = \"syn,!ack\"\naction = \"allow\"\n\
        [policy]\ndefault = \"drop\"\n";
    let mut lab = Lab::new(text);
    handshake(&mut lab, Side::Lan, IN, OUT);
    lab.drops(Side::Lan, &tcp(IN, OUT, RST, 101, 0), "rule");
    assert!(
        lab.out(&tcp(IN, OUT, ACK, 101, 501)),
        "a rule on the SYN lets the connection"
    );
    assert!(
        lab.back(&tcp(OUT, IN, RST, 501, 0)),
        "the rule is for what leaves"
    );
    handshake(&mut lab, Side::Lan, "10.77.0.2:40000", OUT);
    assert!(
        lab.out(&tcp("10.77.0.2:40000", OUT, RST, 101, 0)),
        "an earlier rule lets it"
    );
}

#[test]
fn a_flow_that_was_let_for_the_sake_of_its_machine_is_of_that_machine() {
    let text = "[policy]\ndefault = \"drop\"\n[[rule]]\nname = \"a\"\nsrc_mac = \"02:00:00:00:00:09\"\naction = \"allow\"\n";
    let mut lab = Lab::new(text);
    handshake(&mut lab, Side::Lan, IN, OUT);
    let mut other = tcp(IN, OUT, ACK, 101, 501);
    assert!(lab.out(&other));
    other[11] = 0x66;
    lab.drops(Side::Lan, &other, "default");
}

#[test]
fn what_the_other_side_was_let_open_is_asked_again_after_a_reload() {
    let text = "[[rule]]\nname = \"ping\"\nproto = \"icmp\"\nicmp_type = [8]\naction = \"allow\"\n";
    let mut lab = Lab::new(text);
    let ping_in = icmp("93.184.216.34", "10.77.0.9", 8, 0, [0, 7, 0, 1], b"ping");
    let ping_out = icmp("10.77.0.9", "93.184.216.34", 8, 0, [0, 7, 0, 1], b"ping");
    assert!(lab.back(&ping_in) && lab.out(&ping_out));
    lab.reload(|policy| policy.rules[0].action = portcullis::policy::Action::Drop);
    lab.drops(Side::Lan, &ping_out, "rule");
    assert!(lab.back(&ping_in), "that was opened from outside");
    lab.drops(Side::Lan, &ping_out, "rule");
}

#[test]
fn connections_go_on_after_a_start_however_much_else_is_opened_in_the_same_burst() {
    let adopting = Settings {
        adopt: Duration::from_secs(60),
        ..settings()
    };
    let mut lab = Lab::with("", &adopting, 1);
    let mut expected = Vec::new();
    for n in 0..60 {
        let scan = udp(IN, &format!("93.184.216.34:{}", 3000 + n));
        let segment = tcp(&format!("10.77.0.9:{}", 41_000 + n), OUT, ACK, 1, 1);
        expected.extend([scan, segment]);
    }
    for frame in &expected {
        lab.arrive(0, Side::Lan, frame);
    }
    lab.turn();
    assert_eq!(lab.sent(Side::Uplink), expected);
}

#[test]
fn groups_have_no_flows_and_are_judged_frame_by_frame() {
    let mut lab = Lab::new(
        "[[rule]]\nname = \"no-ssdp\"\nproto = \"udp\"\ndport = [1900]\naction = \"drop\"\n",
    );
    let mdns = udp("10.77.0.9:5353", "224.0.0.251:5353");
    for _ in 0..3 {
        assert!(lab.out(&mdns));
        lab.drops(Side::Lan, &udp(IN, "239.255.255.250:1900"), "rule");
    }
    assert_eq!(lab.flows.count(), 0);
}

#[test]
fn a_burst_that_opens_and_goes_on_is_one_flow() {
    let mut lab = Lab::new("");
    let frames: Vec<_> = (0..40)
        .map(|n| udp_with(IN, "93.184.216.34:443", &[n; 30]))
        .collect();
    for frame in &frames {
        lab.arrive(0, Side::Lan, frame);
    }
    // A SYN, the same again, and a reset of a client that gives up.
    let segments = [
        tcp(IN, OUT, SYN, 100, 0),
        tcp(IN, OUT, SYN, 100, 0),
        tcp(IN, OUT, RST, 101, 0),
    ];
    for frame in &segments {
        lab.arrive(0, Side::Lan, frame);
    }
    lab.turn();
    assert_eq!(lab.sent(Side::Uplink), [&frames[..], &segments].concat());
    lab.turn();
    assert_eq!(lab.flows.count(), 2);
}
