//! Which frames a worker gives to decoys, and that it sends none of them on.

use super::datagrams::fragments;
use super::lab::*;
use portcullis::flow::Settings;
use portcullis::hoststack::rings::{self, Lane, StackEnd};
use portcullis::policy::{Action, Manners, Side};
use portcullis::worker::{Host, Rates};

const IN: &str = "10.77.0.9:40000";
const OUT: &str = "93.184.216.34:4444";
/// A rule on a port over TCP and UDP, and the built-in one on IRC.
const DECOYS: &str = "[[rule]]\nname = \"odd\"\naction = \"decoy\"\ndecoy = \"raw\"\nproto = [\"tcp\", \"udp\"]\ndport = 4444\n\
    [[rule]]\nname = \"irc\"\naction = \"decoy\"\n";

fn lab(config: &str) -> (Lab, StackEnd) {
    let (end, stack) = rings::pair(64);
    let rates = Rates {
        own: 1000,
        decoy: 1_000_000,
    };
    (
        Lab::new(config).with_host(Host::new(end, None, rates)),
        stack,
    )
}

/// What became of a frame.
#[derive(Debug, PartialEq, Eq)]
enum To {
    Decoy(Manners),
    Other,
    Nobody,
}

fn sent(lab: &mut Lab, stack: &StackEnd, side: Side, frame: &[u8]) -> To {
    let passed = lab.passes(side, frame);
    let given = stack.take().map(|parcel| {
        assert_eq!((parcel.bytes(), parcel.side), (frame, side));
        let lane = parcel.lane;
        stack.give_back(parcel);
        lane
    });
    assert!(stack.take().is_none(), "once");
    match (passed, given) {
        (true, None) => To::Other,
        (false, Some(Lane::Decoy(_, manners))) => To::Decoy(manners),
        (false, None) => To::Nobody,
        both => panic!("{both:?}"),
    }
}

const RAW: To = To::Decoy(Manners::Raw);

#[test]
fn every_frame_of_a_connection_that_is_answered_goes_to_the_stack_and_none_of_it_opens_a_flow() {
    let (mut lab, stack) = lab(DECOYS);
    for (flags, seq) in [
        (SYN, 1),
        (ACK, 2),
        (ACK | PSH, 2),
        (ACK | FIN, 9),
        (RST, 10),
    ] {
        let frame = tcp(IN, OUT, flags, seq, 100);
        assert_eq!(sent(&mut lab, &stack, Side::Lan, &frame), RAW, "{flags:#x}");
    }
    let datagram = udp(IN, OUT);
    assert_eq!(sent(&mut lab, &stack, Side::Lan, &datagram), RAW);
    let six = tcp("[fd77::9]:40000", "[2606:2800:220:1::34]:4444", SYN, 1, 0);
    assert_eq!(sent(&mut lab, &stack, Side::Lan, &six), RAW);
    let snapshot = lab.snapshot();
    assert_eq!(snapshot.sides[0].to_host_stack, 7);
    assert_eq!((snapshot.flows.live, snapshot.flows.opened), (0, 0));
    assert!(snapshot.balanced());
}

#[test]
fn the_outside_reaches_no_decoy() {
    let (mut lab, stack) = lab(DECOYS);
    assert_eq!(
        sent(&mut lab, &stack, Side::Lan, &tcp(IN, OUT, SYN, 1, 0)),
        RAW
    );
    for flags in [SYN | ACK, ACK, RST] {
        let answer = tcp(OUT, IN, flags, 1, 2);
        assert_eq!(sent(&mut lab, &stack, Side::Uplink, &answer), To::Nobody);
    }
    // The rule is on what goes out.
    let inwards = udp("93.184.216.34:4444", "10.77.0.9:4444");
    assert_eq!(sent(&mut lab, &stack, Side::Uplink, &inwards), To::Other);
}

/// As for a rule that drops: docs/decoys.md says so.
#[test]
fn what_the_outside_has_opened_on_the_same_ports_is_a_flow_of_the_outside_s() {
    let (mut lab, stack) = lab(DECOYS);
    let opens = tcp(OUT, IN, SYN, 500, 0);
    assert_eq!(sent(&mut lab, &stack, Side::Uplink, &opens), To::Other);
    let answers = tcp(IN, OUT, SYN | ACK, 1, 501);
    assert_eq!(sent(&mut lab, &stack, Side::Lan, &answers), To::Other);
    let forbids = "[[rule]]\nname = \"no-way-back\"\naction = \"drop\"\ndirection = \"in\"\nproto = \"tcp\"\nsport = 4444\n";
    let (mut lab, stack) = self::lab(&format!("{DECOYS}{forbids}"));
    assert_eq!(sent(&mut lab, &stack, Side::Uplink, &opens), To::Nobody);
    assert_eq!(sent(&mut lab, &stack, Side::Lan, &answers), RAW);
}

#[test]
fn a_policy_that_takes_the_decoy_away_lets_nothing_of_its_conversation_out() {
    for action in [Action::Allow, Action::Drop, Action::Reject] {
        let (mut lab, stack) = lab(DECOYS);
        assert_eq!(
            sent(&mut lab, &stack, Side::Lan, &tcp(IN, OUT, SYN, 1, 0)),
            RAW
        );
        lab.reload(|policy| {
            let odd = policy.rules.iter_mut().find(|rule| rule.name == "odd");
            odd.expect("the rule").action = action;
        });
        let goes_on = tcp(IN, OUT, ACK | PSH, 2, 100);
        assert_eq!(
            sent(&mut lab, &stack, Side::Lan, &goes_on),
            To::Nobody,
            "{action:?}"
        );
        assert_eq!(lab.dropped("no-flow"), 1);
    }
}

#[test]
fn a_connection_that_turns_out_to_be_something_when_it_is_open_is_dropped() {
    let (mut lab, stack) = lab(DECOYS);
    let web = "93.184.216.34:8080";
    for frame in super::apps::handshake(IN, web) {
        let side = if frame[26..28] == [10, 77] {
            Side::Lan
        } else {
            Side::Uplink
        };
        assert_eq!(sent(&mut lab, &stack, side, &frame), To::Other);
    }
    let says = tcp_with(IN, web, ACK | PSH, (101, 501), b"NICK zombie\r\n");
    assert_eq!(sent(&mut lab, &stack, Side::Lan, &says), To::Nobody);
    assert_eq!(lab.dropped("rule"), 1);
    // On the port that its rule names it is answered from the first packet on.
    let irc = tcp(IN, "93.184.216.34:6667", SYN, 1, 0);
    assert_eq!(
        sent(&mut lab, &stack, Side::Lan, &irc),
        To::Decoy(Manners::Port)
    );
}

#[test]
fn parts_of_datagrams_are_dropped() {
    let (mut lab, stack) = lab(DECOYS);
    for part in fragments(&udp_with(IN, OUT, &[1; 200]), 7, &[64, 128]) {
        assert_eq!(sent(&mut lab, &stack, Side::Lan, &part), To::Nobody);
    }
    assert_eq!(lab.dropped("rule"), 3);
}

#[test]
fn in_shadow_nothing_is_answered() {
    let (mut whole, stack) = lab(&format!("[policy]\nshadow = true\n{DECOYS}"));
    let syn = tcp(IN, OUT, SYN, 1, 0);
    assert_eq!(sent(&mut whole, &stack, Side::Lan, &syn), To::Other);
    let snapshot = whole.snapshot();
    assert_eq!(snapshot.sides[0].shadow.get("rule"), Some(&1));
    let (mut rule, stack) =
        lab(&DECOYS.replacen("decoy = \"raw\"", "decoy = \"raw\"\nshadow = true", 1));
    assert_eq!(sent(&mut rule, &stack, Side::Lan, &syn), To::Other);
}

#[test]
fn while_no_conversation_can_be_begun_the_others_go_on() {
    let (mut lab, stack) = lab(DECOYS);
    stack.set_full(true);
    let syn = tcp(IN, OUT, SYN, 1, 0);
    assert_eq!(sent(&mut lab, &stack, Side::Lan, &syn), To::Nobody);
    let goes_on = tcp(IN, OUT, ACK, 2, 1);
    assert_eq!(sent(&mut lab, &stack, Side::Lan, &goes_on), RAW);
    // A datagram may be of one: the stack knows.
    assert_eq!(sent(&mut lab, &stack, Side::Lan, &udp(IN, OUT)), RAW);
    assert_eq!(lab.dropped("decoy-full"), 1);
}

#[test]
fn in_the_time_after_the_start_no_frame_of_a_conversation_is_taken_for_an_open_connection() {
    let adopting = Settings::of_size(1000);
    for port in [1000, 4000, 40_000] {
        let mut fresh = Lab::with(DECOYS, &adopting, 1);
        let (end, stack) = rings::pair(64);
        let rates = Rates {
            own: 1000,
            decoy: 1_000_000,
        };
        fresh = fresh.with_host(Host::new(end, None, rates));
        let from = format!("10.77.0.9:{port}");
        for flags in [ACK | PSH, ACK | FIN] {
            let frame = tcp(&from, OUT, flags, 2, 100);
            assert_eq!(sent(&mut fresh, &stack, Side::Lan, &frame), RAW, "{port}");
        }
        let other = tcp(&from, "93.184.216.34:443", ACK | PSH, 2, 100);
        assert_eq!(sent(&mut fresh, &stack, Side::Lan, &other), To::Other);
    }
}

#[test]
fn what_the_stack_sends_goes_to_its_side_and_is_counted_as_an_answer_of_the_box() {
    let (mut lab, stack) = lab(DECOYS);
    let answer = tcp(OUT, IN, SYN | ACK, 1, 2);
    for _ in 0..200 {
        assert!(stack.send(&answer, Lane::Own, Side::Lan) || stack.room() == 0);
        lab.turn();
    }
    let out = lab.sent(Side::Lan);
    assert_eq!(out.len(), 200);
    assert!(out.iter().all(|frame| *frame == answer));
    assert!(lab.sent(Side::Uplink).is_empty());
    let snapshot = lab.snapshot();
    assert_eq!((snapshot.sides[1].replies, snapshot.sides[1].tx), (200, 0));
    assert!(snapshot.balanced());
    assert_eq!(stack.room(), 64, "every parcel is back");
}

#[test]
fn without_a_stack_a_decoy_is_a_plain_drop() {
    let mut lab = Lab::new(DECOYS);
    assert!(!lab.passes(Side::Lan, &tcp(IN, OUT, SYN, 1, 0)));
    assert_eq!(lab.dropped("rule"), 1);
}
