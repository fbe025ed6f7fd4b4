//! The profile `strict`: what leaves, what does not, and how a config changes it.

use portcullis::config::{self, Config};
use portcullis::policy::{Action, Severity, Table, oracle};
use std::path::Path;

const STRICT: &str = r#"
[lan]
prefixes = ["10.77.0.0/24", "fd77::/64"]

[sets]
mail_servers = ["10.77.0.25"]
resolvers    = ["9.9.9.9", "2620:fe::fe"]

[policy]
profile   = "strict"
tcp_ports = [80, 443, "8000-8010"]
"#;

fn config(text: &str) -> Config {
    config::parse(text, "p.toml", Path::new("/nonexistent")).unwrap_or_else(|error| {
        panic!("{}", config::error::render(&error.problems, false));
    })
}

/// Checks lines of `rule: packet` by the config's own tests.
fn assert_rules(text: &str, rows: &[(&str, &str)]) {
    let mut text = text.to_owned();
    for (rule, packet) in rows {
        text += &format!("[[test]]\npacket = {{ {packet} }}\nexpect = {{ rule = \"{rule}\" }}\n");
    }
    let config = config(&text);
    let table = Table::compile(&config.policy).unwrap();
    let failures = config.tests.iter().filter_map(|test| {
        let id = oracle::evaluate(&config.policy, &test.key);
        if test.key.family().is_some() {
            assert_eq!(table.lookup(&test.key), id, "{:?}", test.key);
        }
        let found = &config.policy.rules[id.index()].name;
        let packet = text.lines().nth(test.line).unwrap_or_default();
        (test.rule.as_ref() != Some(found)).then(|| format!("{packet}: found {found}"))
    });
    let wrong: Vec<_> = failures.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn udp(dst: &str) -> String {
    format!("proto = \"udp\", src = \"10.77.0.9:40000\", dst = \"{dst}\"")
}

fn tcp(dst: &str) -> String {
    format!("proto = \"tcp\", src = \"10.77.0.9:40000\", dst = \"{dst}\"")
}

fn icmp(kind: u8) -> String {
    format!("proto = \"icmp\", src = \"10.77.0.9\", dst = \"93.184.216.34\", icmp_type = {kind}")
}

fn icmpv6(src: &str, dst: &str, kind: u8) -> String {
    format!("proto = \"icmpv6\", src = \"{src}\", dst = \"{dst}\", icmp_type = {kind}")
}

#[test]
fn what_the_profile_names_leaves_and_nothing_else() {
    let gre = r#"proto = "gre", src = "10.77.0.9", dst = "93.184.216.34""#;
    let esp = r#"proto = "esp", src = "fd77::9", dst = "2600::1""#;
    let dns_v6 = r#"proto = "udp", src = "[fd77::9]:40000", dst = "[2620:fe::fe]:53""#;
    let rows = [
        ("strict-dns", udp("9.9.9.9:53")),
        ("strict-dns", tcp("9.9.9.9:53")),
        ("strict-dns", dns_v6.to_owned()),
        ("strict-deny", udp("8.8.8.8:53")),
        ("strict-deny", tcp("8.8.8.8:53")),
        ("strict-deny", udp("9.9.9.9:853")),
        ("strict-ntp", udp("93.184.216.34:123")),
        ("strict-deny", tcp("93.184.216.34:123")),
        ("strict-deny", udp("93.184.216.34:443")),
        ("strict-deny", udp("93.184.216.34:80")),
        ("strict-tcp", tcp("93.184.216.34:80")),
        ("strict-tcp", tcp("93.184.216.34:8005")),
        ("strict-deny", tcp("93.184.216.34:22")),
        ("strict-deny", tcp("93.184.216.34:8011")),
        ("strict-deny", gre.to_owned()),
        ("strict-deny", esp.to_owned()),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(rule, packet)| (*rule, packet.as_str()))
        .collect();
    assert_rules(STRICT, &rows);
}

#[test]
fn icmp_that_hosts_need_passes_within_a_rate_and_the_rest_does_not() {
    let mut rows = Vec::new();
    for kind in [0, 3, 8, 11] {
        rows.push(("strict-icmp", icmp(kind)));
    }
    for kind in [4, 5, 9, 10, 12, 13, 17, 42, 255] {
        rows.push(("strict-deny", icmp(kind)));
    }
    for kind in [1, 2, 3, 128, 129] {
        rows.push(("strict-icmp", icmpv6("fd77::9", "2600::1", kind)));
    }
    for kind in [133, 134, 135, 136] {
        rows.push(("strict-nd", icmpv6("fe80::9", "ff02::2", kind)));
        rows.push(("strict-nd", icmpv6("fd77::9", "fd77::1", kind)));
    }
    for kind in [130, 131, 132, 143] {
        rows.push(("strict-nd", icmpv6("fe80::9", "ff02::16", kind)));
        rows.push(("strict-deny", icmpv6("fd77::9", "2600::1", kind)));
    }
    for kind in [0, 4, 127, 137, 138, 139, 200] {
        rows.push(("strict-deny", icmpv6("fd77::9", "2600::1", kind)));
    }
    let rows: Vec<_> = rows
        .iter()
        .map(|(rule, packet)| (*rule, packet.as_str()))
        .collect();
    assert_rules(STRICT, &rows);
    let policy = config(STRICT).policy;
    for name in ["strict-icmp", "strict-nd"] {
        let limit = policy.rule(name).unwrap().1.limit.unwrap();
        assert_eq!(
            (limit.frames, limit.per.as_secs(), limit.burst),
            (1000, 1, 1000)
        );
    }
}

#[test]
fn the_baseline_still_decides_first() {
    let spoofed = r#"proto = "tcp", src = "10.78.0.9:40000", dst = "93.184.216.34:443""#;
    let mail = r#"proto = "tcp", src = "10.77.0.25:40000", dst = "93.184.216.34:25""#;
    let rows = [
        ("tftp", udp("93.184.216.34:69")),
        ("smb", tcp("93.184.216.34:445")),
        ("smtp", tcp("93.184.216.34:25")),
        ("strict-deny", mail.to_owned()),
        ("spoofed-source", spoofed.to_owned()),
        ("bogon-destination", tcp("192.168.1.1:443")),
    ];
    let rows: Vec<_> = rows
        .iter()
        .map(|(rule, packet)| (*rule, packet.as_str()))
        .collect();
    assert_rules(STRICT, &rows);
    let listed = STRICT.replace("[80, 443, \"8000-8010\"]", "[25, 443]");
    assert_rules(
        &listed,
        &[("strict-tcp", mail), ("smtp", &tcp("93.184.216.34:25"))],
    );
}

#[test]
fn a_host_still_gets_its_address() {
    let rows = [
        (
            "strict-dhcp",
            r#"proto = "udp", src = "0.0.0.0:68", dst = "255.255.255.255:67""#,
        ),
        (
            "strict-dhcp",
            r#"proto = "udp", src = "10.77.0.9:68", dst = "10.77.0.1:67""#,
        ),
        (
            "strict-dhcp",
            r#"proto = "udp", src = "[fe80::9]:546", dst = "[ff02::1:2]:547""#,
        ),
        (
            "strict-dhcp",
            r#"proto = "udp", src = "[fe80::9]:546", dst = "[fe80::1]:547""#,
        ),
        (
            "strict-deny",
            r#"proto = "udp", src = "10.77.0.9:68", dst = "93.184.216.34:67""#,
        ),
        (
            "strict-deny",
            r#"proto = "udp", src = "[fd77::9]:546", dst = "[2600::1]:547""#,
        ),
        (
            "strict-deny",
            r#"proto = "udp", src = "10.77.0.9:4000", dst = "10.77.0.1:67""#,
        ),
        (
            "bogon-destination",
            r#"proto = "udp", src = "10.77.0.9:68", dst = "255.255.255.255:68""#,
        ),
    ];
    assert_rules(STRICT, &rows);
}

#[test]
fn multicast_is_dropped_without_an_alert() {
    let rows = [
        (
            "strict-multicast",
            r#"proto = "udp", src = "10.77.0.9:5353", dst = "224.0.0.251:5353""#,
        ),
        (
            "strict-multicast",
            r#"proto = "udp", src = "[fe80::9]:5353", dst = "[ff02::fb]:5353""#,
        ),
        (
            "strict-multicast",
            r#"proto = "igmp", src = "10.77.0.9", dst = "224.0.0.22""#,
        ),
        (
            "strict-multicast",
            r#"proto = "udp", src = "10.77.0.9:4", dst = "239.255.255.250:1900""#,
        ),
    ];
    assert_rules(STRICT, &rows);
    let policy = config(STRICT).policy;
    let alert = |name: &str| policy.rule(name).unwrap().1.alert;
    assert_eq!(
        (alert("strict-multicast"), alert("strict-deny")),
        (None, Some(Severity::Low))
    );
}

#[test]
fn what_comes_in_and_what_is_not_ip_is_not_for_these_rules() {
    let rows = [
        (
            "default",
            r#"direction = "in", proto = "tcp", src = "93.184.216.34:443", dst = "10.77.0.9:40000", tcp_flags = "syn,ack""#,
        ),
        (
            "default",
            r#"direction = "in", proto = "udp", src = "9.9.9.9:53", dst = "10.77.0.9:40000""#,
        ),
        ("default", r#"ethertype = "arp""#),
    ];
    assert_rules(STRICT, &rows);
}

#[test]
fn quic_leaves_where_the_user_says_so() {
    let quic = udp("93.184.216.34:443");
    let with = format!("{STRICT}quic = true\n");
    assert_rules(
        &with,
        &[
            ("strict-quic", &quic),
            ("strict-deny", &udp("93.184.216.34:444")),
        ],
    );
    let enabled = format!("{STRICT}[[rule]]\nname = \"strict-quic\"\nenabled = true\n");
    assert_rules(&enabled, &[("strict-quic", &quic)]);
}

#[test]
fn without_ports_or_resolvers_a_strict_policy_says_what_does_not_leave() {
    let bare = "lan.prefixes = [\"10.77.0.0/24\"]\nsets.mail_servers = [\"10.77.0.25\"]\npolicy.profile = \"strict\"\n";
    let bare_config = config(bare);
    let said: Vec<_> = bare_config
        .warnings
        .iter()
        .map(|warning| (warning.line, warning.message.as_str()))
        .collect();
    let expected = [
        (
            3,
            "`tcp_ports` of [policy] is empty: no TCP leaves but DNS to `@resolvers` and what rules of yours allow",
        ),
        (3, "the set `resolvers` is empty: no DNS leaves"),
    ];
    assert_eq!(said, expected);
    assert_rules(bare, &[("strict-deny", &tcp("93.184.216.34:443"))]);
    assert_eq!(bare_config.policy.disabled, ["strict-quic", "strict-tcp"]);
    assert_eq!(
        config(STRICT).warnings.len(),
        0,
        "{:?}",
        config(STRICT).warnings
    );
    let own = format!(
        "{bare}sets.resolvers = [\"9.9.9.9\"]\nrule = [{{ name = \"strict-tcp\", proto = \"tcp\", dport = 443 }}]"
    );
    assert_eq!(
        config(&own).warnings.len(),
        0,
        "{:?}",
        config(&own).warnings
    );
}

#[test]
fn the_keys_of_the_profile_change_nothing_in_another_and_say_so() {
    let text = "lan.prefixes = [\"10.77.0.0/24\"]\nsets.mail_servers = [\"10.77.0.25\"]\n[policy]\nquic = true\ntcp_ports = []\n";
    let config = config(text);
    let said: Vec<_> = config
        .warnings
        .iter()
        .map(|warning| (warning.line, warning.message.as_str()))
        .collect();
    assert_eq!(
        said,
        [
            (4, "`quic` changes nothing here"),
            (5, "`tcp_ports` changes nothing here")
        ]
    );
    assert!(
        config
            .policy
            .rules
            .iter()
            .all(|rule| !rule.name.starts_with("strict-"))
    );
    assert!(config.policy.disabled.is_empty());
}

#[test]
fn every_strict_rule_can_be_switched_off_and_changed_as_those_of_the_baseline() {
    let base = format!("{STRICT}quic = true\n");
    for name in config::strict::NAMES {
        let off = config(&format!(
            "{base}[[rule]]\nname = \"{name}\"\nenabled = false\n"
        ));
        assert!(off.policy.rule(name).is_none());
        assert_eq!(off.policy.disabled, [name]);
    }
    let changed = config(&format!(
        r#"{STRICT}
        [[rule]]
        name   = "strict-deny"
        action = "reject"
        alert  = "high"
        [[rule]]
        name  = "strict-icmp"
        limit = "5/s"
        [[rule]]
        name  = "strict-nd"
        limit = "none"
        [[rule]]
        name   = "strict-icmp-of-mine"
        action = "allow"
        proto  = "icmp"
        [[rule]]
        name   = "strict-ntp"
        action = "drop"
        shadow = true"#
    ));
    let rule = |name: &str| changed.policy.rule(name).unwrap().1.clone();
    assert_eq!(
        (rule("strict-deny").action, rule("strict-deny").alert),
        (Action::Reject, Some(Severity::High))
    );
    assert_eq!(rule("strict-icmp").limit.unwrap().frames, 5);
    assert_eq!(rule("strict-icmp").clauses.len(), 2);
    assert_eq!(rule("strict-nd").limit, None);
    assert!(rule("strict-ntp").shadow);
}

#[test]
fn a_strict_rule_can_be_taken_into_another_profile() {
    let text = "policy.profile = \"none\"\nsets.resolvers = [\"9.9.9.9\"]\nrule = [{ name = \"strict-dns\", enabled = true }, { name = \"strict-deny\", enabled = true }]\n";
    assert_rules(
        &format!("{text}\n"),
        &[
            ("strict-dns", &udp("9.9.9.9:53")),
            ("strict-deny", &udp("8.8.8.8:53")),
        ],
    );
    let names: Vec<_> = config(text)
        .policy
        .rules
        .iter()
        .map(|rule| rule.name.clone())
        .collect();
    assert_eq!(names, ["strict-dns", "strict-deny", "default"]);
}

#[test]
fn the_users_rules_come_before_the_strict_ones() {
    let text = format!(
        "{STRICT}[[rule]]\nname = \"vpn\"\nproto = \"udp\"\ndport = 51820\naction = \"allow\"\n"
    );
    assert_rules(
        &text,
        &[
            ("vpn", &udp("93.184.216.34:51820")),
            ("strict-deny", &udp("93.184.216.34:51821")),
        ],
    );
}

#[test]
fn an_inner_uplink_reaches_private_resolvers() {
    let text = STRICT.replace("9.9.9.9", "192.168.1.1");
    assert_rules(&text, &[("bogon-destination", &udp("192.168.1.1:53"))]);
    let inner = format!("{text}uplink = \"inner\"\n");
    assert_rules(
        &inner,
        &[
            ("strict-dns", &udp("192.168.1.1:53")),
            ("strict-deny", &udp("192.168.1.1:54")),
        ],
    );
}
