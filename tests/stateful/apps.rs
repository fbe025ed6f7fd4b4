//! What a payload is, on whatever port: rules that ask for it, and every way to hide it.

use super::datagrams::fragments;
use super::lab::*;
use portcullis::app::App;
use portcullis::policy::{Action, Policy, Side};

const IN: &str = "10.77.0.9:40000";
const OUT: &str = "93.184.216.34:8080";
const IN6: &str = "[fd77::9]:40000";
const OUT6: &str = "[2606:2800:220:1::34]:8080";
const NICK: &[u8] = b"NICK bot\r\nUSER bot 0 * :bot\r\n";

/// The frames that open a connection: the client's next byte is 101, the server's 501.
pub fn handshake(client: &str, server: &str) -> Vec<Vec<u8>> {
    vec![
        tcp(client, server, SYN, 100, 0),
        tcp(server, client, SYN | ACK, 500, 101),
        tcp(client, server, ACK, 101, 501),
    ]
}

/// Opens a connection from inside.
#[track_caller]
fn open(lab: &mut Lab, client: &str, server: &str) {
    let [syn, answer, ack] = handshake(client, server).try_into().unwrap();
    assert!(lab.out(&syn) && lab.back(&answer) && lab.out(&ack));
}

/// The client's bytes from `seq` on.
fn says(seq: u32, bytes: &[u8]) -> Vec<u8> {
    tcp_with(IN, OUT, ACK | PSH, (seq, 501), bytes)
}

/// Nothing of the connection passes any more, either way.
#[track_caller]
fn is_over(lab: &mut Lab, client: &str, server: &str) {
    assert!(!lab.out(&tcp_with(client, server, ACK, (200, 501), b"more")));
    assert!(!lab.back(&tcp_with(server, client, ACK, (501, 101), b"welcome")));
    lab.alerts();
}

#[test]
fn irc_on_any_port_ends_the_connection_with_its_first_words() {
    for (client, server) in [(IN, OUT), (IN6, OUT6)] {
        let mut lab = Lab::new("");
        open(&mut lab, client, server);
        let nick = tcp_with(client, server, ACK | PSH, (101, 501), NICK);
        lab.drops(Side::Lan, &nick, "rule");
        let [event] = lab.events().try_into().unwrap();
        assert_eq!(event.app, Some(App::Irc));
        assert_eq!(event.payload.bytes(), NICK);
        is_over(&mut lab, client, server);
        // The same ports again, and then something that is allowed.
        open(&mut lab, client, server);
        assert!(lab.out(&tcp_with(
            client,
            server,
            ACK,
            (101, 501),
            b"GET / HTTP/1.1\r\n\r\n"
        )));
    }
}

#[test]
fn lower_case_empty_lines_and_any_cut_are_no_hiding_place() {
    let words: [&[u8]; 3] = [
        b"nick bot\r\n",
        b"\r\n\r\nNiCk bot\r\n",
        b"USER a b c :d\r\n",
    ];
    for words in words {
        for len in 1..words.len() {
            let mut lab = Lab::new("");
            open(&mut lab, IN, OUT);
            let pieces = words.chunks(len).enumerate();
            let through = pieces.map(|(n, bytes)| lab.out(&says(101 + (n * len) as u32, bytes)));
            let through: Vec<_> = through.collect();
            assert!(
                through.iter().any(|passed| !passed),
                "{len} bytes at a time"
            );
            assert_eq!(lab.alerts()[0], "irc");
            is_over(&mut lab, IN, OUT);
        }
    }
}

#[test]
fn one_byte_at_a_time_backwards_and_each_twice_comes_to_the_same() {
    let mut lab = Lab::new("");
    open(&mut lab, IN, OUT);
    let words = b"NICK bot\r\n";
    for at in (1..words.len()).rev() {
        let byte = says(101 + at as u32, &words[at..=at]);
        assert!(lab.out(&byte) && lab.out(&byte), "nobody can read it yet");
    }
    lab.drops(Side::Lan, &says(101, b"N"), "rule");
    let [event] = lab.events().try_into().unwrap();
    assert_eq!(event.payload.bytes(), words, "all of it, in order");
    is_over(&mut lab, IN, OUT);
}

#[test]
fn any_two_workers_put_the_pieces_together() {
    for first in 0..2 {
        let mut lab = Lab::with("", &settings(), 2);
        for (n, frame) in handshake(IN, OUT).iter().enumerate() {
            let side = if n == 1 { Side::Uplink } else { Side::Lan };
            assert!(lab.passes_by((n + first) % 2, side, frame));
        }
        let words = b"NICK bot\r\n";
        let through: Vec<_> = (0..words.len())
            .map(|at| {
                lab.passes_by(
                    (at + first) % 2,
                    Side::Lan,
                    &says(101 + at as u32, &words[at..=at]),
                )
            })
            .collect();
        assert!(!through[words.len() - 1]);
        is_over(&mut lab, IN, OUT);
    }
}

#[test]
fn bytes_that_are_others_the_second_time_end_the_connection() {
    let mut lab = Lab::new("");
    open(&mut lab, IN, OUT);
    assert!(lab.out(&says(102, b"ICK bot\r\n")));
    lab.drops(
        Side::Lan,
        &says(101, b"GET / HTTP/1.1\r\n\r\n"),
        "payload-overlap",
    );
    assert_eq!(lab.alerts(), ["payload-overlap"]);
    lab.drops(Side::Lan, &says(101, b"NICK bot\r\n"), "payload-hidden");
    is_over(&mut lab, IN, OUT);
}

#[test]
fn a_segment_that_its_receiver_would_not_take_is_not_looked_at_and_not_let_through() {
    let mut lab = Lab::new("");
    open(&mut lab, IN, OUT);
    let mut decoy = says(101, b"GET / HTTP/1.1\r\n\r\n");
    decoy[50] ^= 0x40;
    lab.drops(Side::Lan, &decoy, "checksum");
    lab.drops(Side::Lan, &says(101, NICK), "rule");
    // Once it is known what a flow is, a checksum is for its receiver again.
    let mut lab = Lab::new("");
    open(&mut lab, IN, OUT);
    assert!(lab.out(&says(101, b"GET / HTTP/1.1\r\n\r\n")));
    assert!(lab.back(&tcp(OUT, IN, ACK, 501, 119)));
    assert!(lab.out(&decoy));
}

#[test]
fn a_segment_in_fragments_is_known_by_its_first_or_does_not_pass() {
    let mut lab = Lab::new("");
    open(&mut lab, IN, OUT);
    let whole = says(101, b"NICK bot\r\nUSER bot 0 * :bot\r\n");
    let [first, rest] = fragments(&whole, 7, &[24]).try_into().unwrap();
    lab.drops(Side::Lan, &first, "payload-hidden");
    assert!(!lab.out(&rest));
    is_over(&mut lab, IN, OUT);
    let mut lab = Lab::new("");
    open(&mut lab, IN, OUT);
    let whole = says(101, b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n");
    for fragment in fragments(&whole, 8, &[40]) {
        assert!(lab.out(&fragment));
    }
}

#[test]
fn data_on_a_syn_is_looked_at_and_again_when_it_comes_again() {
    let syn = |bytes: &[u8]| tcp_with(IN, OUT, SYN, (100, 0), bytes);
    let mut lab = Lab::new("");
    lab.drops(Side::Lan, &syn(NICK), "rule");
    assert_eq!(lab.alerts(), ["irc"]);
    // The server does not take it, and then it is something else.
    let mut lab = Lab::new("");
    let request = b"GET / HTTP/1.1\r\n\r\n";
    assert!(lab.out(&syn(request)));
    assert!(lab.back(&tcp(OUT, IN, SYN | ACK, 500, 101)));
    assert!(lab.out(&tcp(IN, OUT, ACK, 101, 501)));
    lab.drops(Side::Lan, &says(101, NICK), "payload-overlap");
    is_over(&mut lab, IN, OUT);
    // Another SYN in its place, before anybody has answered.
    let mut lab = Lab::new("");
    assert!(lab.out(&syn(request)));
    let other = b"something else";
    assert!(lab.out(&tcp_with(IN, OUT, SYN, (7_000, 0), other)));
    assert!(lab.back(&tcp(OUT, IN, SYN | ACK, 500, 7_001)));
    assert!(lab.out(&says(7_001, other)));
    let mut lab = Lab::new("");
    assert!(lab.out(&syn(request)));
    assert!(lab.out(&tcp_with(IN, OUT, SYN, (7_000, 0), other)));
    assert!(lab.back(&tcp(OUT, IN, SYN | ACK, 500, 101)));
    assert!(!lab.out(&says(101, NICK)), "not the SYN that counts");
    // The same again, or what comes after it, passes.
    for (acked, seq, bytes) in [(101, 101, &request[..]), (119, 119, b"more")] {
        let mut lab = Lab::new("");
        assert!(lab.out(&syn(request)));
        assert!(lab.back(&tcp(OUT, IN, SYN | ACK, 500, acked)));
        assert!(lab.out(&tcp(IN, OUT, ACK, seq, 501)));
        assert!(lab.out(&says(seq, bytes)));
        assert!(lab.out(&says(seq + 200, NICK)), "it is known what it is");
    }
}

#[test]
fn a_flow_is_looked_at_once() {
    let mut lab = Lab::new("");
    open(&mut lab, IN, OUT);
    assert!(lab.out(&says(101, b"GET / HTTP/1.1\r\n\r\n")));
    assert!(lab.back(&tcp_with(OUT, IN, ACK, (501, 119), NICK)));
    assert!(lab.out(&says(119, NICK)));
}

#[test]
fn what_the_outside_opens_is_not_what_the_baseline_asks_for() {
    let mut lab = Lab::new("");
    for (n, frame) in handshake(OUT, IN).iter().enumerate() {
        let side = if n == 1 { Side::Lan } else { Side::Uplink };
        assert!(lab.passes(side, frame));
    }
    assert!(lab.back(&tcp_with(OUT, IN, ACK, (101, 501), NICK)));
    assert!(lab.out(&tcp_with(IN, OUT, ACK, (501, 130), NICK)));
}

#[test]
fn a_request_of_tftp_is_one_on_any_port() {
    for (client, server) in [(IN, OUT), (IN6, OUT6)] {
        let mut lab = Lab::new("");
        let request = udp_with(client, server, b"\x00\x01tool\x00octet\x00");
        lab.drops(Side::Lan, &request, "rule");
        let [event] = lab.events().try_into().unwrap();
        assert_eq!(event.app, Some(App::Tftp));
        assert!(lab.out(&udp(client, server)));
    }
    let mut lab = Lab::new("");
    let whole = udp_with(IN, OUT, b"\x00\x01a-tool-with-a-long-name\x00octet\x00");
    let [first, rest] = fragments(&whole, 7, &[8]).try_into().unwrap();
    lab.drops(Side::Lan, &first, "payload-hidden");
    assert!(!lab.out(&rest));
    // Nothing, and then something.
    assert!(lab.out(&udp_with(IN, OUT, b"")));
    lab.drops(
        Side::Lan,
        &udp_with(IN, OUT, b"\x00\x02a\x00octet\x00"),
        "rule",
    );
    lab.drops(Side::Lan, &udp(IN, OUT), "rule");
}

const BY_APP: &str = "[policy]\nprofile = \"none\"\ndefault = \"drop\"\n\
    [[rule]]\nname = \"web\"\napp = [\"http\", \"tls\"]\naction = \"allow\"\nalert = \"low\"\n";

#[test]
fn what_an_application_is_allowed_is_let_through_until_it_turns_out_to_be_another() {
    let mut lab = Lab::new(BY_APP);
    open(&mut lab, IN, OUT);
    assert!(lab.alerts().is_empty(), "nothing has matched yet");
    assert!(lab.out(&says(101, b"GET / HTTP/1.1\r\n\r\n")));
    assert_eq!(lab.alerts(), ["web"]);
    assert!(lab.out(&says(119, b"more")) && lab.alerts().is_empty());
    let mut lab = Lab::new(BY_APP);
    open(&mut lab, IN, OUT);
    lab.drops(Side::Lan, &says(101, NICK), "default");
    is_over(&mut lab, IN, OUT);
    let mut lab = Lab::new(BY_APP);
    lab.drops(Side::Lan, &udp(IN, OUT), "default");
}

#[test]
fn a_port_may_be_kept_for_one_application() {
    let text = "[[rule]]\nname = \"only-web\"\nproto = \"tcp\"\ndport = 8080\napp = \"!http\"\naction = \"reject\"\n";
    let mut lab = Lab::new(text);
    open(&mut lab, IN, OUT);
    assert!(lab.out(&says(101, b"GET / HTTP/1.1\r\n\r\n")));
    let mut lab = Lab::new(text);
    open(&mut lab, IN, OUT);
    assert!(!lab.out(&says(101, b"\x17\x99 what is this")));
    assert_eq!(lab.snapshot().sides[0].rejected, 1);
    is_over(&mut lab, IN, OUT);
}

fn irc(policy: &mut Policy) -> &mut Action {
    let rule = policy.rules.iter_mut().find(|rule| rule.name == "irc");
    &mut rule.unwrap().action
}

#[test]
fn a_reload_that_forbids_what_a_flow_is_known_to_be_ends_it() {
    let mut lab = Lab::new("[[rule]]\nname = \"irc\"\naction = \"allow\"\n");
    open(&mut lab, IN, OUT);
    assert!(lab.out(&says(101, NICK)));
    assert!(lab.out(&says(130, b"JOIN #x\r\n")));
    lab.reload(|policy| *irc(policy) = Action::Drop);
    lab.drops(Side::Lan, &says(139, b"JOIN #y\r\n"), "rule");
    is_over(&mut lab, IN, OUT);
    lab.reload(|policy| *irc(policy) = Action::Allow);
    assert!(lab.out(&says(139, b"JOIN #y\r\n")));
}

#[test]
fn a_reload_in_the_middle_of_the_first_words_changes_nothing_about_what_they_are() {
    let mut lab = Lab::new("");
    open(&mut lab, IN, OUT);
    assert!(lab.out(&says(101, b"NI")));
    lab.reload(|_| ());
    lab.drops(Side::Lan, &says(103, b"CK bot\r\n"), "rule");
    is_over(&mut lab, IN, OUT);
    // What could not be seen stays so.
    let mut lab = Lab::new("");
    open(&mut lab, IN, OUT);
    assert!(lab.out(&says(102, b"ICK bot\r\n")));
    assert!(!lab.out(&says(101, b"GET ")));
    lab.reload(|_| ());
    lab.drops(Side::Lan, &says(105, b"more"), "payload-hidden");
}

#[test]
fn a_rule_in_shadow_tells_of_what_it_would_have_ended() {
    let mut lab = Lab::new("[[rule]]\nname = \"irc\"\nshadow = true\n");
    open(&mut lab, IN, OUT);
    assert!(lab.out(&says(101, NICK)));
    let [event] = lab.events().try_into().unwrap();
    assert!(event.shadow && event.app == Some(App::Irc));
    assert!(lab.out(&says(130, b"JOIN #x\r\n")) && lab.events().is_empty());
}

#[test]
fn more_streams_than_are_kept_end_the_oldest_of_them_and_let_nothing_through() {
    let mut settings = settings();
    settings.streams = 64;
    let mut lab = Lab::with("", &settings, 1);
    let client = |n: u16| format!("10.77.0.{}:{}", 1 + n % 200, 1000 + n);
    for n in 0..300 {
        open(&mut lab, &client(n), OUT);
        assert!(lab.out(&tcp_with(&client(n), OUT, ACK, (101, 501), b"NI")));
    }
    let mut ended = 0;
    for n in 0..300 {
        let rest = tcp_with(&client(n), OUT, ACK, (103, 501), b"CK bot\r\n");
        assert!(!lab.out(&rest), "{n}");
        ended += 1;
    }
    assert_eq!(ended, lab.dropped("rule") + lab.dropped("payload-hidden"));
    assert!(lab.dropped("payload-hidden") >= 236);
}

#[test]
fn a_mail_server_is_known_by_what_it_says() {
    let text = "[[rule]]\nname = \"no-mail\"\napp = \"smtp\"\naction = \"drop\"\nalert = \"low\"\n";
    let mut lab = Lab::new(text);
    open(&mut lab, IN, OUT);
    let banner = tcp_with(
        OUT,
        IN,
        ACK | PSH,
        (501, 101),
        b"220 mx.example.org ESMTP\r\n",
    );
    lab.drops(Side::Uplink, &banner, "rule");
    assert_eq!(lab.alerts(), ["no-mail"]);
    is_over(&mut lab, IN, OUT);
    // One that does not say it is no proof of anything.
    let mut lab = Lab::new(text);
    open(&mut lab, IN, OUT);
    assert!(lab.back(&tcp_with(OUT, IN, ACK | PSH, (501, 101), b"220 hello\r\n")));
    assert!(lab.out(&says(101, b"GET / HTTP/1.1\r\n\r\n")));
}
