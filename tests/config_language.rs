//! What each form of each rule key means: a rule, a packet that it matches, and one that it nearly matches.

use portcullis::config::{self, Config};
use portcullis::policy::{self, Action, Limit, Policy, Rule, Table, oracle};
use std::path::Path;
use std::time::Duration;

fn config(text: &str) -> Config {
    config::parse(text, "p.toml", Path::new("/nonexistent")).unwrap_or_else(|error| {
        panic!("{}\n{text}", config::error::render(&error.problems, false));
    })
}

/// A rule's lines, packets that it matches, packets that it does not match.
type Row = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

const UDP53: &str = r#"proto = "udp", src = "10.0.0.9:4000", dst = "9.9.9.9:53""#;
const TCP25: &str = r#"proto = "tcp", src = "10.0.0.9:4000", dst = "9.9.9.9:25""#;
const TCP80: &str = r#"proto = "tcp", src = "10.0.0.9:4000", dst = "9.9.9.9:80""#;
const TCP80_V6: &str = r#"proto = "tcp", src = "[fd77::9]:4000", dst = "[2600::1]:80""#;
const SCTP80: &str = r#"proto = "sctp", src = "10.0.0.9:4000", dst = "9.9.9.9:80""#;
const GRE: &str = r#"proto = "gre", src = "10.0.0.9", dst = "9.9.9.9""#;
const PING: &str = r#"proto = "icmp", src = "10.0.0.9", dst = "9.9.9.9""#;
const PING_V6: &str = r#"proto = "icmpv6", src = "fd77::9", dst = "2600::1""#;
const UNREACHABLE: &str = r#"proto = "icmp", src = "10.0.0.9", dst = "9.9.9.9", icmp_type = "unreachable", icmp_code = 4"#;
const UNREACHABLE_V6: &str =
    r#"proto = "icmpv6", src = "fd77::9", dst = "2600::1", icmp_type = "unreachable""#;
const TOO_BIG: &str =
    r#"proto = "icmpv6", src = "fd77::9", dst = "2600::1", icmp_type = "packet-too-big""#;
const ARP: &str = r#"ethertype = "arp""#;
const PTP: &str = r#"ethertype = 0x88f7"#;
const LLDP: &str = r#"ethertype = "0x88cc""#;
const SYN_ACK: &str =
    r#"proto = "tcp", src = "10.0.0.9:4000", dst = "9.9.9.9:80", tcp_flags = "syn,ack""#;
const ACK: &str = r#"proto = "tcp", src = "10.0.0.9:4000", dst = "9.9.9.9:80", tcp_flags = "ack""#;
const NULL: &str =
    r#"proto = "tcp", src = "10.0.0.9:4000", dst = "9.9.9.9:80", tcp_flags = "none""#;
const FIRST: &str = r#"proto = "udp", src = "10.0.0.9:4000", dst = "9.9.9.9:53", fragment = true"#;
const VLAN10: &str = r#"proto = "gre", src = "10.0.0.9", dst = "9.9.9.9", vlan = 10"#;
const VLAN20: &str = r#"proto = "gre", src = "10.0.0.9", dst = "9.9.9.9", vlan = 20"#;
const VLAN0: &str = r#"proto = "gre", src = "10.0.0.9", dst = "9.9.9.9", vlan = 0"#;
const MAC1: &str =
    r#"proto = "gre", src = "10.0.0.9", dst = "9.9.9.9", src_mac = "52:54:00:00:00:01""#;
const MAC2: &str = r#"ethertype = "arp", src_mac = "52:54:00:00:00:02""#;
const IN: &str = r#"direction = "in", proto = "tcp", src = "9.9.9.9:4", dst = "10.0.0.9:80""#;

const ROWS: &[Row] = &[
    // Protocols and ports.
    (r#"proto = "!tcp""#, &[UDP53, GRE, PING_V6], &[TCP25, ARP]),
    (r#"proto = ["!tcp", "!47"]"#, &[UDP53, PING], &[TCP25, GRE]),
    (
        r#"proto = ["tcp", "47", 17, "!udp"]"#,
        &[TCP25, GRE],
        &[UDP53, PING],
    ),
    (
        r#"dport = "!25""#,
        &[TCP80, UDP53],
        &[TCP25, GRE, PING, SCTP80],
    ),
    (
        r#"dport = ["!25", "!53"]"#,
        &[TCP80, TCP80_V6],
        &[TCP25, UDP53],
    ),
    (
        r#"dport = ["20-90", "!25", "!60-85"]"#,
        &[UDP53],
        &[TCP25, TCP80],
    ),
    (
        "proto = \"!tcp\"\ndport = \"!25\"",
        &[UDP53, SCTP80],
        &[TCP80, GRE, PING],
    ),
    (r#"sport = "!4001-5000""#, &[TCP25, UDP53], &[IN, GRE]),
    // ICMP.
    (
        r#"icmp_type = "echo-request""#,
        &[PING, PING_V6],
        &[UNREACHABLE, TOO_BIG, TCP25],
    ),
    (
        r#"icmp_type = ["packet-too-big", "destination-unreachable"]"#,
        &[UNREACHABLE, UNREACHABLE_V6, TOO_BIG],
        &[PING, PING_V6],
    ),
    (
        r#"icmp_type = "packet-too-big""#,
        &[TOO_BIG],
        &[PING, UNREACHABLE, UNREACHABLE_V6],
    ),
    (
        r#"icmp_type = "!echo-request""#,
        &[UNREACHABLE, TOO_BIG],
        &[PING, PING_V6, GRE],
    ),
    (
        "proto = \"icmp\"\nicmp_type = \"!unreachable\"",
        &[PING],
        &[UNREACHABLE, PING_V6],
    ),
    (
        "proto = [\"icmp\", \"icmpv6\"]\nicmp_type = \"echo-request\"",
        &[PING, PING_V6],
        &[TOO_BIG],
    ),
    (
        "proto = \"icmp\"\nicmp_type = [\"unreachable\", \"9-12\"]\nicmp_code = \"!0-3\"",
        &[UNREACHABLE],
        &[PING, UNREACHABLE_V6],
    ),
    (
        "proto = \"icmpv6\"\nicmp_code = 0",
        &[PING_V6, TOO_BIG],
        &[PING],
    ),
    // TCP flags.
    (
        r#"tcp_flags = "syn,!ack""#,
        &[TCP80, TCP80_V6],
        &[SYN_ACK, ACK, NULL, UDP53],
    ),
    (
        r#"tcp_flags = ["syn,ack", "!syn,!ack,!rst,!fin"]"#,
        &[SYN_ACK, NULL],
        &[TCP80, ACK, UDP53, GRE],
    ),
    (
        "tcp_flags = \"syn\"\ndport = 80",
        &[TCP80, SYN_ACK],
        &[TCP25, ACK, NULL],
    ),
    (
        "proto = \"tcp\"\ntcp_flags = \"!syn\"",
        &[ACK, NULL],
        &[TCP80, UDP53],
    ),
    // Fragments.
    ("fragment = true", &[FIRST], &[UDP53, ARP]),
    ("fragment = false", &[UDP53, GRE], &[FIRST, ARP]),
    // The link layer.
    (r#"ethertype = "arp""#, &[ARP], &[PTP, TCP80]),
    (
        r#"ethertype = ["ptp", "0x88c0-0x88cf"]"#,
        &[PTP, LLDP],
        &[ARP, TCP80_V6],
    ),
    (
        r#"ethertype = ["!ipv4", "!ipv6"]"#,
        &[ARP, PTP, LLDP],
        &[TCP80, PING_V6],
    ),
    (r#"ethertype = 35063"#, &[PTP], &[LLDP]),
    (
        "ethertype = \"ipv6\"\ndport = 80",
        &[TCP80_V6],
        &[TCP80, TCP25],
    ),
    (
        "ethertype = [\"ipv4\", \"ipv6\"]\nproto = \"gre\"",
        &[GRE, VLAN10],
        &[TCP80, ARP],
    ),
    (
        r#"ethertype = "0x0600-0xffff""#,
        &[ARP, TCP80, PING_V6],
        &[],
    ),
    ("vlan = 10", &[VLAN10], &[VLAN20, GRE, VLAN0]),
    (
        r#"vlan = ["0-10", "none"]"#,
        &[VLAN0, VLAN10, GRE],
        &[VLAN20],
    ),
    (r#"vlan = "none""#, &[GRE], &[VLAN0, VLAN10]),
    (r#"vlan = "!none""#, &[VLAN0, VLAN10], &[GRE]),
    (
        r#"vlan = ["!10", "!none"]"#,
        &[VLAN20, VLAN0],
        &[VLAN10, GRE],
    ),
    (r#"vlan = "!10""#, &[GRE, VLAN20], &[VLAN10]),
    (r#"src_mac = "52:54:00:00:00:01""#, &[MAC1], &[GRE, MAC2]),
    (
        "ethertype = [\"arp\", \"ipv4\"]\nsrc_mac = [\"52-54-00-00-00-02\", \"52:54:00:00:00:01\"]",
        &[MAC1, MAC2],
        &[GRE, ARP],
    ),
    (r#"src_mac = "!52:54:00:00:00:01""#, &[GRE], &[MAC1, MAC2]),
    // The rest with its new neighbours.
    ("direction = \"in\"\ntcp_flags = \"syn\"", &[IN], &[TCP80]),
    (
        r#"src = ["10.0.0.0/8", "fd77::1-fd77::9", "!10.0.0.8"]"#,
        &[TCP80, TCP80_V6],
        &[IN, ARP],
    ),
];

#[test]
fn each_form_of_a_key_matches_what_it_says_and_not_its_neighbour() {
    let mut wrong = Vec::new();
    for (rule, yes, no) in ROWS {
        let mut text = format!(
            "policy.profile = \"none\"\n[[rule]]\nname = \"a\"\naction = \"drop\"\n{rule}\n"
        );
        for (packets, expected) in [(yes, "a"), (no, "default")] {
            for packet in *packets {
                text += &format!(
                    "[[test]]\npacket = {{ {packet} }}\nexpect = {{ rule = \"{expected}\" }}\n"
                );
            }
        }
        let config = config(&text);
        let failures = config.tests.iter().filter_map(|test| {
            let found = oracle::evaluate(&config.policy, &test.key);
            let found = &config.policy.rules[found.index()].name;
            let packet = text.lines().nth(test.line).unwrap_or_default();
            (test.rule.as_ref() != Some(found))
                .then(|| format!("{rule}\n  {packet}: found {found}"))
        });
        wrong.extend(failures);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn rule(lines: &str) -> Rule {
    config(&format!(
        "policy.profile = \"none\"\n[[rule]]\nname = \"a\"\n{lines}\n"
    ))
    .policy
    .rules
    .remove(0)
}

#[test]
fn a_limit_has_a_burst_of_one_second_unless_it_says_another() {
    let rows = [
        (r#""100/s""#, 100, 1, 100),
        (r#""90/m""#, 90, 60, 1),
        (r#""10/m""#, 10, 60, 1),
        (r#""7200/h""#, 7200, 3600, 2),
        (r#"{ rate = "100/s", burst = 200 }"#, 100, 1, 200),
        (r#"{ rate = " 5 / s " }"#, 5, 1, 5),
        (r#""4294967295/s""#, u32::MAX, 1, u32::MAX),
    ];
    for (text, frames, seconds, burst) in rows {
        let expected = Limit {
            frames,
            per: Duration::from_secs(seconds),
            burst,
        };
        for action in ["allow", "reject"] {
            let limited = rule(&format!("action = \"{action}\"\nlimit = {text}"));
            assert_eq!(limited.limit, Some(expected), "{text}");
        }
    }
    assert_eq!(rule("action = \"allow\"\nlimit = \"none\"").limit, None);
    assert_eq!(rule("action = \"drop\"\nlimit = \"none\"").limit, None);
}

#[test]
fn expiry_and_shadow_are_kept_with_the_rule_and_the_policy() {
    let timed = rule("action = \"drop\"\nttl = \"2h 30m\"\nshadow = true");
    assert_eq!(
        (timed.ttl, timed.shadow),
        (Some(Duration::from_secs(9000)), true)
    );
    let plain = rule("action = \"drop\"");
    assert_eq!((plain.ttl, plain.shadow, plain.limit), (None, false, None));
    assert!(config("policy.shadow = true").policy.shadow);
    assert!(!config("").policy.shadow);
}

fn built_in<'a>(policy: &'a Policy, name: &str) -> &'a Rule {
    policy
        .rule(name)
        .unwrap_or_else(|| panic!("{name} is off"))
        .1
}

#[test]
fn what_a_rule_does_over_time_can_be_said_of_a_built_in_rule_and_keeps_its_match() {
    let plain = config("").policy;
    let changed = config(
        r#"
        rule = [
            { name = "irc", shadow = true, ttl = "1h" },
            { name = "smb", action = "reject", limit = "5/s" },
            { name = "tftp", action = "allow", limit = { rate = "1/m", burst = 3 } },
        ]"#,
    )
    .policy;
    for name in ["irc", "smb", "tftp"] {
        let (was, is) = (built_in(&plain, name), built_in(&changed, name));
        assert_eq!(was.clauses, is.clauses, "{name}");
        assert_eq!(was.alert, is.alert, "{name}");
    }
    let irc = built_in(&changed, "irc");
    assert_eq!(
        (irc.shadow, irc.ttl, irc.action),
        (true, Some(Duration::from_secs(3600)), Action::Drop)
    );
    assert_eq!(
        built_in(&changed, "smb").limit.map(|limit| limit.burst),
        Some(5)
    );
    assert_eq!(
        built_in(&changed, "tftp").limit.map(|limit| limit.burst),
        Some(3)
    );
}

#[test]
fn a_set_remembers_the_file_that_it_came_from() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("partners.txt"), "198.51.100.0/24\r\n").unwrap();
    let text = "sets.partners = { file = \"partners.txt\" }\nsets.friends = [\"10.0.0.1\"]";
    let config = config::parse(text, "p.toml", dir.path()).unwrap();
    let partners = config.policy.set("partners").unwrap();
    let file = partners.file.as_deref().unwrap();
    assert_eq!(file, dir.path().join("partners.txt"));
    assert_eq!(config::load_set(file).unwrap(), partners.ranges);
    assert_eq!(config.policy.set("friends").unwrap().file, None);
    assert_eq!(config.policy.set("lan").unwrap().file, None);
}

#[test]
fn a_test_may_expect_a_decoy_and_finds_none_where_nobody_can_answer() {
    let text = r#"
lan.prefixes = ["10.0.0.0/8"]
[[rule]]
name   = "irc"
action = "decoy"
[[rule]]
name   = "tftp"
action = "decoy"
[[test]]
packet = { proto = "tcp", src = "10.0.0.9:4000", dst = "20.0.0.1:6667" }
expect = { verdict = "decoy", rule = "irc" }
[[test]]
packet = { proto = "tcp", src = "10.0.0.9:4000", dst = "20.0.0.1:6667", app = "irc" }
expect = { verdict = "decoy", rule = "irc" }
[[test]]
packet = { proto = "tcp", src = "10.0.0.9:4000", dst = "20.0.0.1:8080", app = "irc" }
expect = { verdict = "drop", rule = "irc" }
[[test]]
packet = { proto = "tcp", src = "10.0.0.9:4000", dst = "20.0.0.1:6667", fragment = true }
expect = { verdict = "drop", rule = "irc" }
[[test]]
packet = { proto = "udp", src = "10.0.0.9:4000", dst = "20.0.0.1:1069", app = "tftp" }
expect = { verdict = "decoy", rule = "tftp" }
"#;
    let config = config(text);
    let table = Table::compile(&config.policy).unwrap();
    for test in &config.tests {
        assert_eq!(
            policy::test::run(&config.policy, &table, test),
            Ok(()),
            "line {}",
            test.line
        );
    }
    assert_eq!(config.tests.len(), 5);
}
