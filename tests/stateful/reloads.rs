//! A policy that changes under flows that are open.

use super::lab::*;
use portcullis::policy::{Action, Policy, Side};

const TEXT: &str = "[[rule]]\nname = \"ssh\"\nproto = \"tcp\"\ndport = [22]\naction = \"allow\"\n\
    [[rule]]\nname = \"video\"\nproto = \"udp\"\ndport = [5000]\naction = \"allow\"\n";

fn set(policy: &mut Policy, name: &str, action: Action) {
    let rule = policy.rules.iter_mut().find(|rule| rule.name == name);
    rule.unwrap().action = action;
}

fn open(lab: &mut Lab, src: &str, dst: &str) {
    assert!(lab.out(&tcp(src, dst, SYN, 100, 0)));
    assert!(lab.back(&tcp(dst, src, SYN | ACK, 500, 101)));
    assert!(lab.out(&tcp(src, dst, ACK, 101, 501)));
}

#[test]
fn a_new_block_rule_ends_the_flows_that_it_forbids_and_no_other() {
    let mut lab = Lab::new(TEXT);
    let (ssh, web) = ("93.184.216.34:22", "93.184.216.34:443");
    for port in 0..20 {
        open(&mut lab, &format!("10.77.0.9:{}", 40_000 + port), ssh);
        open(&mut lab, &format!("10.77.0.9:{}", 50_000 + port), web);
    }
    assert!(lab.out(&udp("10.77.0.9:1000", "93.184.216.34:5000")));
    lab.reload(|policy| set(policy, "ssh", Action::Drop));
    for port in 0..20 {
        let src = format!("10.77.0.9:{}", 40_000 + port);
        // Half of them are seen first by what comes back.
        if port % 2 == 0 {
            lab.drops(Side::Uplink, &tcp(ssh, &src, ACK, 501, 101), "rule");
        }
        lab.drops(Side::Lan, &tcp(&src, ssh, ACK, 101, 501), "rule");
        lab.drops(Side::Uplink, &tcp(ssh, &src, ACK, 501, 101), "rule");
        let src = format!("10.77.0.9:{}", 50_000 + port);
        assert!(
            lab.out(&tcp(&src, web, ACK, 101, 501)) && lab.back(&tcp(web, &src, ACK, 501, 101))
        );
    }
    assert!(lab.back(&udp("93.184.216.34:5000", "10.77.0.9:1000")));
    let counters = lab.workers[0].counters();
    assert_eq!(
        (
            counters.flows.ended.get(),
            counters.flows.judged_again.get()
        ),
        (20, 41)
    );
}

#[test]
fn a_rule_that_is_taken_back_lets_the_flow_go_on() {
    let mut lab = Lab::new(TEXT);
    let (src, ssh) = ("10.77.0.9:40000", "93.184.216.34:22");
    open(&mut lab, src, ssh);
    lab.reload(|policy| set(policy, "ssh", Action::Drop));
    lab.drops(Side::Lan, &tcp(src, ssh, ACK, 101, 501), "rule");
    lab.reload(|policy| set(policy, "ssh", Action::Allow));
    assert!(lab.out(&tcp(src, ssh, ACK, 101, 501)) && lab.back(&tcp(ssh, src, ACK, 501, 101)));
}

#[test]
fn a_flow_from_outside_is_judged_again_by_the_rules_of_its_own_direction() {
    let mut lab = Lab::new(
        "[[rule]]\nname = \"in\"\ndirection = \"in\"\nproto = \"tcp\"\ndport = [22]\naction = \"allow\"\n",
    );
    let (client, server) = ("93.184.216.34:6667", "10.77.0.80:22");
    assert!(lab.back(&tcp(client, server, SYN, 100, 0)));
    assert!(lab.out(&tcp(server, client, SYN | ACK, 500, 101)));
    lab.reload(|_| ());
    assert!(
        lab.out(&tcp(server, client, ACK, 501, 101)),
        "the forbidden port is not where it goes"
    );
    lab.reload(|policy| set(policy, "in", Action::Drop));
    lab.drops(Side::Lan, &tcp(server, client, ACK, 501, 101), "rule");
    assert_eq!(lab.alerts(), Vec::<String>::new());
}

#[test]
fn a_flow_that_a_reject_rule_ends_is_answered_with_a_reset() {
    let mut lab = Lab::new(TEXT);
    let (src, ssh) = ("10.77.0.9:40000", "93.184.216.34:22");
    open(&mut lab, src, ssh);
    lab.reload(|policy| set(policy, "ssh", Action::Reject));
    lab.arrive(0, Side::Lan, &tcp(src, ssh, ACK | PSH, 101, 501));
    lab.turn();
    let answers = lab.sent(Side::Lan);
    assert_eq!(answers.len(), 1);
    let headers = etherparse::PacketHeaders::from_ethernet_slice(&answers[0]).unwrap();
    let reset = headers.transport.unwrap().tcp().unwrap();
    assert!(reset.rst);
    assert_eq!((reset.source_port, reset.sequence_number), (22, 501));
    lab.turn();
    assert!(lab.snapshot().balanced());
}

#[test]
fn in_shadow_a_flow_that_would_be_blocked_goes_on_and_is_told_by_its_rule() {
    let mut lab = Lab::new("[policy]\nshadow = true\n");
    let (src, irc) = ("10.77.0.9:40000", "93.184.216.34:6667");
    open(&mut lab, src, irc);
    assert!(lab.out(&tcp_with(src, irc, ACK | PSH, (101, 501), b"NICK x\r\n")));
    let snapshot = lab.snapshot();
    assert_eq!(snapshot.sides[0].shadow.get("rule"), Some(&3));
    assert_eq!(snapshot.sides[0].shadow.get("no-flow"), None);
    assert_eq!(
        snapshot.rules.get("irc").unwrap().packets,
        4,
        "with what came back"
    );
    // Out of shadow it is over.
    lab.reload(|policy| policy.shadow = false);
    lab.drops(Side::Lan, &tcp(src, irc, ACK, 101, 501), "rule");
    lab.drops(Side::Uplink, &tcp(irc, src, ACK, 501, 101), "rule");
}

#[test]
fn a_rule_that_alerts_and_allows_alerts_once_a_flow() {
    let mut lab = Lab::new(
        "[[rule]]\nname = \"ssh\"\nproto = \"tcp\"\ndport = [22]\naction = \"allow\"\nalert = \"low\"\n",
    );
    open(&mut lab, "10.77.0.9:40000", "93.184.216.34:22");
    open(&mut lab, "10.77.0.9:40001", "93.184.216.34:22");
    assert_eq!(lab.alerts(), ["ssh", "ssh"]);
    assert_eq!(lab.snapshot().rules.get("ssh").unwrap().packets, 6);
}
