//! The baseline: each rule by what it matches and by what it nearly matches; and how a config changes it.

use portcullis::config::packet::Packet;
use portcullis::config::{self, Config};
use portcullis::policy::{Key, Table, Verdict, explain};
use std::path::Path;

const LAN: &str =
    "lan.prefixes = [\"10.77.0.0/24\", \"fd77::/64\"]\nsets.mail_servers = [\"10.77.0.25\"]\n";

fn config(text: &str) -> Config {
    config::parse(text, "p.toml", Path::new("")).unwrap_or_else(|error| panic!("{error}"))
}

fn key(direction: &str, proto: &str, src: &str, dst: &str) -> Key {
    let (proto, icmp_type) = match proto.split_once('/') {
        Some((proto, number)) => (proto, Some(number.parse().unwrap())),
        None => (proto, None),
    };
    Packet {
        direction,
        proto,
        src,
        dst,
        icmp_type,
        ..Packet::default()
    }
    .key()
    .unwrap_or_else(|error| panic!("{error}"))
}

/// The name of the rule that decides, by the table, which must agree with the oracle.
fn decides(config: &Config, key: &Key) -> String {
    let table = Table::compile(&config.policy).unwrap();
    explain(&config.policy, &table, key).unwrap().rule
}

fn assert_rows(config: &Config, rows: &[(&str, &str, &str, &str, &str)]) {
    let mut wrong = Vec::new();
    for (direction, proto, src, dst, rule) in rows {
        let found = decides(config, &key(direction, proto, src, dst));
        if found != *rule {
            wrong.push(format!(
                "{direction} {proto} {src} -> {dst}: expected {rule}, found {found}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_rule_matches_its_traffic_and_not_what_is_next_to_it() {
    let rows = [
        ("out", "udp", "10.77.0.9:40000", "93.184.216.34:69", "tftp"),
        ("out", "udp", "[fd77::9]:40000", "[2600::1]:69", "tftp"),
        (
            "out",
            "udp",
            "10.77.0.9:40000",
            "93.184.216.34:68",
            "default",
        ),
        (
            "out",
            "udp",
            "10.77.0.9:40000",
            "93.184.216.34:70",
            "default",
        ),
        (
            "out",
            "tcp",
            "10.77.0.9:40000",
            "93.184.216.34:69",
            "default",
        ),
        (
            "out",
            "udp",
            "10.77.0.9:69",
            "93.184.216.34:40000",
            "default",
        ),
        (
            "in",
            "udp",
            "93.184.216.34:40000",
            "10.77.0.9:69",
            "default",
        ),
        ("out", "tcp", "10.77.0.9:40000", "93.184.216.34:25", "smtp"),
        (
            "out",
            "tcp",
            "10.77.0.25:40000",
            "93.184.216.34:25",
            "default",
        ),
        ("out", "tcp", "10.77.0.24:40000", "93.184.216.34:25", "smtp"),
        ("out", "tcp", "[fd77::25]:40000", "[2600::1]:25", "smtp"),
        (
            "out",
            "udp",
            "10.77.0.9:40000",
            "93.184.216.34:25",
            "default",
        ),
        (
            "out",
            "tcp",
            "10.77.0.9:40000",
            "93.184.216.34:587",
            "default",
        ),
        (
            "in",
            "tcp",
            "93.184.216.34:40000",
            "10.77.0.25:25",
            "default",
        ),
        (
            "out",
            "tcp",
            "10.77.0.9:40000",
            "93.184.216.34:6659",
            "default",
        ),
        ("out", "tcp", "10.77.0.9:40000", "93.184.216.34:6660", "irc"),
        ("out", "tcp", "10.77.0.9:40000", "93.184.216.34:6669", "irc"),
        (
            "out",
            "tcp",
            "10.77.0.9:40000",
            "93.184.216.34:6670",
            "default",
        ),
        (
            "out",
            "udp",
            "10.77.0.9:40000",
            "93.184.216.34:6667",
            "default",
        ),
        (
            "out",
            "udp",
            "10.77.0.9:40000",
            "93.184.216.34:159",
            "default",
        ),
        ("out", "udp", "10.77.0.9:40000", "93.184.216.34:160", "snmp"),
        ("out", "udp", "10.77.0.9:40000", "93.184.216.34:162", "snmp"),
        (
            "out",
            "udp",
            "10.77.0.9:40000",
            "93.184.216.34:163",
            "default",
        ),
        (
            "out",
            "tcp",
            "10.77.0.9:40000",
            "93.184.216.34:160",
            "default",
        ),
        ("out", "tcp", "10.77.0.9:40000", "93.184.216.34:161", "snmp"),
        ("out", "tcp", "10.77.0.9:40000", "93.184.216.34:162", "snmp"),
        (
            "out",
            "tcp",
            "10.77.0.9:40000",
            "93.184.216.34:135",
            "msrpc",
        ),
        (
            "out",
            "udp",
            "10.77.0.9:40000",
            "93.184.216.34:135",
            "msrpc",
        ),
        (
            "out",
            "sctp",
            "10.77.0.9:40000",
            "93.184.216.34:135",
            "default",
        ),
        (
            "out",
            "tcp",
            "10.77.0.9:40000",
            "93.184.216.34:136",
            "default",
        ),
        ("out", "tcp", "10.77.0.9:40000", "93.184.216.34:445", "smb"),
        (
            "out",
            "udp",
            "10.77.0.9:40000",
            "93.184.216.34:445",
            "default",
        ),
        (
            "out",
            "tcp",
            "10.77.0.9:40000",
            "93.184.216.34:443",
            "default",
        ),
        (
            "out",
            "udp",
            "10.77.0.9:137",
            "93.184.216.34:137",
            "netbios",
        ),
        (
            "out",
            "udp",
            "10.77.0.9:138",
            "93.184.216.34:138",
            "netbios",
        ),
        (
            "out",
            "udp",
            "10.77.0.9:139",
            "93.184.216.34:139",
            "default",
        ),
        (
            "out",
            "tcp",
            "10.77.0.9:40000",
            "93.184.216.34:139",
            "netbios",
        ),
        (
            "out",
            "tcp",
            "10.77.0.9:40000",
            "93.184.216.34:137",
            "default",
        ),
    ];
    assert_rows(&config(LAN), &rows);
}

#[test]
fn a_source_outside_the_lan_is_spoofed_unless_it_is_of_the_link() {
    let rows = [
        (
            "out",
            "tcp",
            "10.77.1.9:40000",
            "93.184.216.34:80",
            "spoofed-source",
        ),
        (
            "out",
            "tcp",
            "10.76.255.255:40000",
            "93.184.216.34:80",
            "spoofed-source",
        ),
        (
            "out",
            "tcp",
            "10.77.0.0:40000",
            "93.184.216.34:80",
            "default",
        ),
        (
            "out",
            "tcp",
            "10.77.0.255:40000",
            "93.184.216.34:80",
            "default",
        ),
        (
            "out",
            "tcp",
            "[fd77:0:0:1::9]:4",
            "[2600::1]:80",
            "spoofed-source",
        ),
        ("out", "tcp", "[fd77::9]:4", "[2600::1]:80", "default"),
        (
            "out",
            "udp",
            "8.8.8.8:53",
            "93.184.216.34:69",
            "spoofed-source",
        ),
        ("out", "udp", "0.0.0.0:68", "255.255.255.255:67", "default"),
        ("out", "igmp", "0.0.0.0", "224.0.0.22", "default"),
        (
            "out",
            "udp",
            "169.254.9.9:5353",
            "224.0.0.251:5353",
            "default",
        ),
        (
            "out",
            "udp",
            "169.254.9.9:5353",
            "93.184.216.34:53",
            "spoofed-source",
        ),
        (
            "out",
            "udp",
            "0.0.0.0:68",
            "93.184.216.34:67",
            "spoofed-source",
        ),
        (
            "out",
            "udp",
            "0.0.0.1:68",
            "255.255.255.255:67",
            "spoofed-source",
        ),
        ("out", "icmpv6/135", "::", "ff02::1:ff00:9", "default"),
        ("out", "icmpv6/135", "::", "fe80::1", "default"),
        ("out", "icmpv6/128", "::", "2600::1", "spoofed-source"),
        ("out", "icmpv6/133", "fe80::9", "ff02::2", "default"),
        ("out", "icmpv6/136", "fe80::9", "fe80::1", "default"),
        ("out", "icmpv6/136", "fe80::9", "fd77::1", "default"),
        (
            "out",
            "tcp",
            "[fe80::9]:4",
            "[2600::1]:80",
            "spoofed-source",
        ),
        (
            "out",
            "tcp",
            "[fec0::9]:4",
            "[fe80::1]:80",
            "spoofed-source",
        ),
        ("in", "tcp", "8.8.8.8:4", "10.77.0.9:80", "default"),
    ];
    assert_rows(&config(LAN), &rows);
}

#[test]
fn one_family_in_the_prefixes_makes_the_other_spoofed() {
    let config = config("lan.prefixes = [\"10.77.0.0/24\"]");
    let rows = [
        (
            "out",
            "tcp",
            "[2600::9]:4",
            "[2600::1]:80",
            "spoofed-source",
        ),
        ("out", "icmpv6/133", "fe80::9", "ff02::2", "default"),
    ];
    assert_rows(&config, &rows);
}

#[test]
fn a_destination_that_is_nowhere_on_the_internet_is_bogus_unless_it_is_near() {
    let mut rows = vec![
        ("out", "tcp", "10.77.0.9:4", "10.77.0.1:53", "default"),
        (
            "out",
            "udp",
            "10.77.0.9:68",
            "255.255.255.255:67",
            "default",
        ),
        (
            "out",
            "udp",
            "10.77.0.9:68",
            "255.255.255.255:66",
            "bogon-destination",
        ),
        (
            "out",
            "udp",
            "10.77.0.9:68",
            "255.255.255.255:68",
            "bogon-destination",
        ),
        (
            "out",
            "tcp",
            "10.77.0.9:68",
            "255.255.255.255:67",
            "bogon-destination",
        ),
        ("out", "igmp", "10.77.0.9", "224.0.0.22", "default"),
        ("out", "udp", "[fd77::9]:546", "[ff02::1:2]:547", "default"),
        ("out", "udp", "[fe80::9]:546", "[fe80::1]:547", "default"),
        ("out", "icmpv6/136", "fd77::9", "fe80::1", "default"),
        ("out", "icmpv6/135", "fd77::9", "fe80::1", "default"),
        (
            "out",
            "icmpv6/128",
            "fd77::9",
            "fe80::1",
            "bogon-destination",
        ),
        (
            "out",
            "icmpv6/132",
            "fd77::9",
            "fe80::1",
            "bogon-destination",
        ),
        (
            "out",
            "icmpv6/137",
            "fd77::9",
            "fe80::1",
            "bogon-destination",
        ),
        (
            "out",
            "tcp",
            "[fd77::9]:4",
            "[fe80::1]:80",
            "bogon-destination",
        ),
        ("out", "icmpv6/128", "fd77::9", "fd77::1", "default"),
        ("in", "icmp", "93.184.216.34", "10.9.9.9", "default"),
    ];
    let bogus = [
        "0.0.0.1",
        "10.0.0.1",
        "10.77.1.0",
        "100.64.0.0",
        "100.127.255.255",
        "127.0.0.1",
        "169.254.1.1",
        "172.16.0.0",
        "172.31.255.255",
        "192.0.0.8",
        "192.0.2.1",
        "192.168.1.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.7",
        "203.0.113.7",
        "240.0.0.0",
        "255.255.255.254",
    ];
    let real = [
        "1.0.0.0",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.0.9",
        "192.0.0.10",
        "192.0.1.0",
        "192.88.99.1",
        "192.167.255.255",
        "198.17.255.255",
        "198.20.0.0",
        "203.0.114.0",
        "224.0.0.1",
        "239.255.255.255",
    ];
    let bogus_v6 = [
        "::",
        "::1",
        "::ffff:8.8.8.8",
        "64:ff9b:1::1",
        "100::1",
        "2001::1",
        "2001:1ff:ffff::",
        "2001:db8::1",
        "3fff::1",
        "5f00::1",
        "fc00::1",
        "fd77:0:0:1::1",
    ];
    let real_v6 = [
        "::2",
        "64:ff9b::808:808",
        "2001:1::1",
        "2001:3::1",
        "2001:4:112::1",
        "2001:20::1",
        "2001:200::1",
        "2002::1",
        "2001:4860:4860::8888",
        "2600::1",
        "fec0::1",
        "ff0e::1",
    ];
    rows.extend(
        bogus
            .iter()
            .map(|dst| ("out", "icmp", "10.77.0.9", *dst, "bogon-destination")),
    );
    rows.extend(
        real.iter()
            .map(|dst| ("out", "icmp", "10.77.0.9", *dst, "default")),
    );
    rows.extend(
        bogus_v6
            .iter()
            .map(|dst| ("out", "icmpv6", "fd77::9", *dst, "bogon-destination")),
    );
    rows.extend(
        real_v6
            .iter()
            .map(|dst| ("out", "icmpv6", "fd77::9", *dst, "default")),
    );
    assert_rows(&config(LAN), &rows);
}

#[test]
fn an_inner_uplink_switches_bogon_destination_off_and_a_rule_of_that_name_on_again() {
    let packet = key("out", "tcp", "10.77.0.9:4", "192.168.1.1:80");
    let inner = format!("policy.uplink = \"inner\"\n{LAN}");
    assert_eq!(decides(&config(LAN), &packet), "bogon-destination");
    assert_eq!(decides(&config(&inner), &packet), "default");
    let again = format!("{inner}rule = [{{ name = \"bogon-destination\", enabled = true }}]");
    assert_eq!(decides(&config(&again), &packet), "bogon-destination");
}

#[test]
fn every_baseline_rule_can_be_switched_off_alone() {
    for name in config::baseline::NAMES {
        let config = config(&format!(
            "{LAN}rule = [{{ name = \"{name}\", enabled = false }}]"
        ));
        assert!(config.policy.rule(name).is_none());
        assert_eq!(
            config.policy.rules.len(),
            config::baseline::NAMES.len(),
            "{name}"
        );
        assert_eq!(config.policy.disabled, [name]);
    }
}

#[test]
fn an_action_alone_keeps_the_match_and_the_place_of_a_built_in_rule() {
    let config = config(&format!(
        "{LAN}rule = [{{ name = \"smb\", action = \"reject\", alert = false }}]"
    ));
    let (at, rule) = config.policy.rule("smb").unwrap();
    assert_eq!((at, rule.alert), (6, None));
    let table = Table::compile(&config.policy).unwrap();
    let id = table.lookup(&key("out", "tcp", "10.77.0.9:4", "93.184.216.34:445"));
    assert_eq!(id.index(), at);
    assert!(matches!(table.verdict(id), Verdict::Reject(_)));
}

#[test]
fn a_match_key_replaces_the_whole_match_of_a_built_in_rule_and_nothing_else() {
    let config = config(&format!("{LAN}rule = [{{ name = \"irc\", dport = 7000 }}]"));
    let rows = [
        ("out", "tcp", "10.77.0.9:4", "93.184.216.34:7000", "irc"),
        ("out", "udp", "10.77.0.9:4", "93.184.216.34:7000", "irc"),
        ("out", "tcp", "10.77.0.9:4", "93.184.216.34:6667", "default"),
    ];
    assert_rows(&config, &rows);
    let (at, rule) = config.policy.rule("irc").unwrap();
    assert_eq!(
        (at, rule.alert.map(|alert| alert.name())),
        (3, Some("high"))
    );
}

#[test]
fn the_users_rules_come_before_the_baseline() {
    let config = config(&format!(
        "{LAN}rule = [{{ name = \"lab\", action = \"allow\", proto = \"udp\", dport = 69 }}]"
    ));
    assert_rows(
        &config,
        &[("out", "udp", "10.77.0.9:4", "93.184.216.34:69", "lab")],
    );
}

#[test]
fn without_a_profile_only_what_is_named_with_a_match_or_enabled_is_on() {
    let rules = "policy.profile = \"none\"\nrule = [{ name = \"smb\", enabled = true }, { name = \"irc\", alert = \"low\" }, { name = \"tftp\", dport = 70 }]";
    let config = config(rules);
    let names: Vec<_> = config
        .policy
        .rules
        .iter()
        .map(|rule| rule.name.as_str())
        .collect();
    assert_eq!(names, ["tftp", "smb", "default"]);
    let said = &config.warnings[0];
    assert_eq!(
        (said.line, said.message.as_str()),
        (
            2,
            "the built-in rule `irc` is off here, so this changes nothing"
        )
    );
}

#[test]
fn a_rule_on_an_empty_set_matches_nothing_and_a_negated_one_everything() {
    let text = "policy.profile = \"none\"\nrule = [{ name = \"in-it\", action = \"drop\", src = \"@resolvers\" }, { name = \"not-in-it\", action = \"drop\", src = \"!@resolvers\" }]";
    assert_rows(
        &config(text),
        &[
            ("out", "gre", "::", "::1", "not-in-it"),
            ("out", "gre", "10.0.0.1", "10.0.0.2", "not-in-it"),
        ],
    );
}

#[test]
fn what_no_rule_matches_gets_the_default_with_a_reason_of_its_own() {
    let table = |text: &str| Table::compile(&config(text).policy).unwrap();
    let packet = key("out", "gre", "10.0.0.1", "93.184.216.34");
    let (open, closed) = (
        table("policy.default = \"allow\""),
        table("policy.default = \"drop\""),
    );
    assert_eq!(open.verdict(open.lookup(&packet)), Verdict::Forward);
    assert_eq!(
        closed.verdict(closed.lookup(&packet)),
        Verdict::Drop(portcullis::telemetry::Reason::Default)
    );
    let matched = closed.lookup(&key("out", "udp", "10.0.0.1:4", "93.184.216.34:69"));
    assert_eq!(
        closed.verdict(matched),
        Verdict::Drop(portcullis::telemetry::Reason::Rule)
    );
}
