//! Ways to make this box read something else than the server does: none gets IRC out.

use super::datagrams::{fragments, header_sum};
use super::lab::*;
use portcullis::policy::{Action, Side};

const IN: &str = "10.77.0.9:40000";
const OUT: &str = "93.184.216.34:8080";
const NICK: &[u8] = b"NICK bot\r\nUSER bot 0 * :bot\r\n";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
const RRQ: &[u8] = b"\0\x01tool\0octet\0";

fn opened(text: &str) -> Lab {
    let mut lab = Lab::new(text);
    open(&mut lab, IN, 100);
    lab
}

/// Opens a connection whose client's next byte is `isn + 1`.
#[track_caller]
fn open(lab: &mut Lab, client: &str, isn: u32) {
    assert!(lab.out(&tcp(client, OUT, SYN, isn, 0)));
    assert!(lab.back(&tcp(OUT, client, SYN | ACK, 500, isn + 1)));
    assert!(lab.out(&tcp(client, OUT, ACK, isn + 1, 501)));
}

fn says(seq: u32, bytes: &[u8]) -> Vec<u8> {
    tcp_with(IN, OUT, ACK | PSH, (seq, 501), bytes)
}

/// The client's words are not let out, and nothing after them.
#[track_caller]
fn stays_in(lab: &mut Lab, seq: u32) {
    assert!(!lab.out(&says(seq, NICK)), "NICK got out");
    let after = seq + NICK.len() as u32;
    assert!(!lab.out(&says(after, b"JOIN #x\r\n")), "JOIN got out");
}

/// Frames with a request that are all on their way, and that no server reads.
fn decoys() -> Vec<(&'static str, Vec<u8>)> {
    let get = says(101, GET);
    let changed = |at: usize, bytes: &[u8]| {
        let mut frame = get.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let mut pppoe = get[..12].to_vec();
    pppoe.extend([0x88, 0x64, 0x11, 0, 0x12, 0x34]);
    pppoe.extend(((get.len() - 12) as u16).to_be_bytes());
    pppoe.extend([0, 0x21]);
    pppoe.extend(&get[14..]);
    let mut authenticated = get[..34].to_vec();
    authenticated[23] = 51;
    authenticated.extend([6, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]);
    authenticated.extend([0; 12]);
    authenticated.extend(&get[34..]);
    let len = (authenticated.len() - 14) as u16;
    authenticated[16..18].copy_from_slice(&len.to_be_bytes());
    header_sum(&mut authenticated);
    let mut short_lived = changed(22, &[1]);
    header_sum(&mut short_lived);
    let beyond = tcp_with(IN, OUT, ACK | PSH, (101, 900_501), GET);
    let syn = tcp_with(IN, OUT, SYN | ACK | PSH, (101, 501), GET);
    let first = fragments(&get, 8, &[40]).swap_remove(0);
    vec![
        ("an acknowledgement of what was never sent", beyond),
        ("a SYN and ACK with data", syn),
        ("a wrong checksum of the IP header", changed(24, &[0x12])),
        ("a time to live that ends before the server", short_lived),
        ("the first fragment of a packet that never is whole", first),
        ("to another machine", changed(0, &[2, 0, 0, 0, 0xee, 0xee])),
        ("in a session of PPPoE", pppoe),
        ("behind a header of authentication", authenticated),
        (
            "a FIN with data",
            tcp_with(IN, OUT, ACK | FIN, (101, 501), GET),
        ),
    ]
}

#[test]
fn a_segment_that_the_server_does_not_take_stands_for_nothing() {
    for (name, decoy) in decoys() {
        println!("{name}");
        let mut lab = opened("");
        lab.out(&decoy);
        stays_in(&mut lab, 101);
    }
}

#[test]
fn once_the_server_has_read_what_a_flow_is_it_is_that() {
    let mut lab = opened("");
    assert!(
        lab.out(&says(101, GET)) && lab.out(&says(101, GET)),
        "again"
    );
    let end = 101 + GET.len() as u32;
    assert!(lab.back(&tcp(OUT, IN, ACK, 501, end)));
    assert!(lab.out(&says(end, NICK)));
    // As much of it as it has acknowledged, and no more.
    let mut lab = opened("");
    assert!(lab.out(&says(101, GET)));
    assert!(lab.back(&tcp(OUT, IN, ACK, 501, 105)));
    lab.drops(Side::Lan, &says(105, &NICK[4..]), "payload-overlap");
}

#[test]
fn a_syn_on_an_open_connection_says_nothing() {
    let mut lab = opened("");
    let syn = tcp_with(IN, OUT, SYN, (5000, 0), GET);
    lab.drops(Side::Lan, &syn, "payload-hidden");
    stays_in(&mut lab, 101);
}

#[test]
fn of_two_syns_the_one_that_is_answered_counts() {
    let mut lab = Lab::new("");
    let (one, two) = (5_000_000, 1_000_000);
    assert!(lab.out(&tcp_with(IN, OUT, SYN, (one, 0), GET)));
    assert!(lab.out(&tcp(IN, OUT, SYN, two, 0)));
    lab.out(&tcp(IN, OUT, RST, one + 1, 0));
    open(&mut lab, IN, two);
    stays_in(&mut lab, two + 1);
}

#[test]
fn what_a_connection_before_has_said_is_not_part_of_the_next_on_its_ports() {
    let mut lab = opened("");
    assert!(lab.out(&says(101, b"\n")));
    assert!(lab.back(&tcp(OUT, IN, ACK, 501, 102)));
    assert!(lab.out(&tcp(IN, OUT, RST | ACK, 102, 501)));
    open(&mut lab, IN, 50_000_000);
    assert!(lab.out(&says(50_000_001, b"N")));
    assert!(!lab.out(&says(50_000_002, &NICK[1..])));
}

#[test]
fn what_is_urgent_is_not_looked_at_and_not_let_through() {
    let mut lab = opened("");
    let urgent = tcp_with(IN, OUT, ACK | PSH | URG, (101, 501), b"NIXCK bot\r\n");
    lab.drops(Side::Lan, &urgent, "payload-hidden");
    lab.drops(
        Side::Lan,
        &tcp(IN, OUT, ACK | URG, 101, 501),
        "payload-hidden",
    );
    assert!(lab.out(&says(101, GET)));
    let end = 101 + GET.len() as u32;
    assert!(lab.out(&tcp_with(IN, OUT, ACK | URG, (end, 501), b"!")));
}

#[test]
fn frames_of_one_burst_are_held_to_each_other() {
    let pieces = [says(102, &NICK[1..]), says(101, b"NOPE, another thing")];
    for burst in [pieces, [says(101, NICK), says(101, GET)]] {
        let mut lab = opened("");
        for frame in &burst {
            lab.arrive(0, Side::Lan, frame);
        }
        lab.turn();
        assert!(lab.sent(Side::Uplink).len() < 2);
        assert!(!lab.alerts().is_empty());
        stays_in(&mut lab, 101);
    }
}

#[test]
fn a_hello_in_two_segments_of_a_burst_is_one_also_across_a_reload() {
    let mut hello = b"\x16\x03\x01\x06\xc0\x01\0\x06\xbc\x03\x03".to_vec();
    hello.resize(1400, 7);
    let mut settings = settings();
    settings.streams = 64;
    for reload in [false, true] {
        let mut lab = Lab::with("", &settings, 1);
        open(&mut lab, IN, 100);
        assert!(lab.out(&says(101, b"N")));
        for n in 0..400 {
            let client = format!("10.77.0.{}:{}", 20 + n % 200, 5000 + n);
            open(&mut lab, &client, 100);
            if reload {
                lab.reload(|_| ());
            }
            for (seq, bytes) in [(101, &hello[..]), (1501, &hello[..300])] {
                let segment = tcp_with(&client, OUT, ACK, (seq, 501), bytes);
                lab.arrive(0, Side::Lan, &segment);
            }
            lab.turn();
            assert_eq!(lab.sent(Side::Uplink).len(), 2);
            lab.turn();
            assert!(lab.back(&tcp(OUT, &client, ACK, 501, 1801)));
        }
        assert!(!lab.out(&says(102, &NICK[1..])), "held to its first letter");
        assert_eq!(lab.dropped("payload-hidden"), 0);
    }
}

#[test]
fn data_on_a_syn_is_looked_at_where_an_old_flow_is_over_too() {
    let mut lab = Lab::new("");
    assert!(lab.out(&tcp(IN, OUT, SYN, 100, 0)));
    lab.now += 33 * SECOND;
    assert!(!lab.out(&tcp_with(IN, OUT, SYN, (9000, 0), NICK)));
}

#[test]
fn where_both_ends_open_the_inside_is_looked_at_all_the_same() {
    let mut lab = Lab::new("");
    assert!(lab.out(&tcp(IN, OUT, SYN, 3_000_000_000, 0)));
    assert!(lab.back(&tcp(OUT, IN, SYN, 500, 0)));
    assert!(!lab.out(&tcp_with(IN, OUT, ACK, (3_000_000_001, 501), NICK)));
}

#[test]
fn a_server_s_greeting_lets_nothing_through() {
    for greeting in [&b"SSH-2.0-x\r\n"[..], b"220 a ESMTP\r\n", b"RFB 003.008\n"] {
        let mut lab = opened("");
        assert!(lab.back(&tcp_with(OUT, IN, ACK | PSH, (501, 101), greeting)));
        stays_in(&mut lab, 101);
    }
}

#[test]
fn tftp_to_a_group_from_nowhere_or_behind_a_datagram_of_nothing_is_tftp() {
    let from_nowhere = ("0.0.0.0:4000", "93.184.216.34:7000");
    for (from, to) in [(IN, "224.0.1.60:7000"), from_nowhere] {
        let mut lab = Lab::new("");
        lab.drops(Side::Lan, &udp_with(from, to, RRQ), "rule");
        assert!(lab.out(&udp(from, to)));
    }
    let mut lab = Lab::new("");
    assert!(lab.out(&udp(IN, OUT)));
    lab.drops(Side::Lan, &udp_with(IN, OUT, RRQ), "rule");
    // Whoever is answered has found what it was looking for.
    let mut lab = Lab::new("");
    assert!(lab.out(&udp(IN, OUT)) && lab.back(&udp(OUT, IN)));
    assert!(lab.out(&udp_with(IN, OUT, RRQ)));
}

const WEB: &str = "[policy]\nprofile = \"none\"\ndefault = \"drop\"\n\
    [[rule]]\nname = \"web\"\napp = [\"http\", \"tls\"]\naction = \"allow\"\nalert = \"low\"\n";

#[test]
fn a_door_that_is_held_open_for_first_words_lets_little_else_through() {
    let mut lab = opened(WEB);
    let mut heard = 0;
    for k in 0..100 {
        let chunk = tcp_with(OUT, IN, ACK, (501 + k * 1000, 101), &[7; 1000]);
        heard += usize::from(lab.back(&chunk));
        lab.out(&tcp(IN, OUT, ACK, 101, 1501 + k * 1000));
    }
    assert_eq!(heard, 4, "a greeting");
    let mut lab = opened(WEB);
    let sent = (0..100).filter(|k| lab.out(&says(103 + k * 1000, &[7; 1000])));
    assert!(sent.count() <= 3, "no more than could be first words");
}

#[test]
fn a_rule_on_a_machine_and_an_application_holds_for_every_frame() {
    let mac = "src_mac = \"02:00:00:00:00:09\"\nproto = \"tcp\"\napp =";
    let mut lab = opened(&WEB.replace("app =", mac));
    assert!(lab.out(&says(101, GET)));
    let end = 101 + GET.len() as u32;
    assert!(lab.back(&tcp(OUT, IN, ACK, 501, end)));
    assert!(lab.out(&says(end, b"more")));
    let mut other = says(end + 4, b"more");
    other[11] = 10;
    assert!(!lab.out(&other), "of another machine");
}

#[test]
fn a_reload_between_the_handshake_and_the_first_words_loses_no_alert() {
    let shadow = "[[rule]]\nname = \"irc\"\nshadow = true\n";
    for (text, words) in [(WEB, GET), (shadow, NICK)] {
        let mut lab = opened(text);
        lab.reload(|_| ());
        assert!(lab.out(&says(101, words)));
        assert_eq!(lab.alerts().len(), 1);
    }
}

#[test]
fn a_flood_of_what_a_payload_shows_leaves_room_for_another_host_s_alert() {
    let mut lab = Lab::new("");
    for n in 0..6000 {
        lab.arrive(0, Side::Lan, &udp_with(IN, OUT, RRQ));
        if n % 32 == 31 {
            lab.turn();
        }
    }
    lab.turn();
    lab.out(&udp_with("10.77.0.77:4000", OUT, RRQ));
    assert_eq!(lab.workers[0].counters().events_lost.get(), 0);
    let events = lab.events();
    let of = |host| events.iter().filter(|event| event.meta.src == host).count();
    assert_eq!((of(0x0a4d_0009), of(0x0a4d_004d)), (6000, 1));
}

#[test]
fn what_has_been_ended_stays_so_until_the_policy_says_else() {
    let mut lab = opened("");
    lab.drops(Side::Lan, &says(101, NICK), "rule");
    assert!(!lab.out(&says(101, GET)));
    lab.reload(|_| ());
    assert!(!lab.out(&says(101, GET)));
    lab.reload(|policy| {
        let irc = policy.rules.iter_mut().find(|rule| rule.name == "irc");
        irc.unwrap().action = Action::Allow;
    });
    assert!(lab.out(&says(101, GET)));
}
