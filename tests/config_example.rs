//! Configs that must load: the example of the specification, and the one that is shipped.

use portcullis::config::packet::Packet;
use portcullis::config::{self, Idle, Mode, OnFailure, Queues, check};
use portcullis::policy::{Action, Severity, Table};
use std::path::Path;
use std::time::{Duration, Instant};

const EXAMPLE: &str = r#"
[bridge]
lan        = "enp1s0"
uplink     = "enp2s0"
mode       = "auto"          # zero-copy, copy, generic; auto takes the best that both NICs have
queues     = "auto"
on_failure = "closed"        # or "open"
watchdog   = "200ms"
idle       = "spin"          # or "adaptive"

[lan]
prefixes = ["10.77.0.0/24", "fd77::/64"]

[policy]
profile = "baseline"         # or "strict", "none"
default = "allow"            # what no rule matches
shadow  = false
uplink  = "internet"         # "inner" where the other side is itself private: bogon-destination is then off

[sets]
mail_servers = ["10.77.0.25"]
resolvers    = ["10.77.0.53"]
partners     = { file = "partners.txt" }

[[rule]]
name      = "no-telnet"
direction = "out"            # the default
proto     = "tcp"
dst       = "!@partners"
dport     = [23, "2323-2330"]
action    = "reject"
alert     = "low"

[[rule]]
name    = "netbios"          # a baseline rule, switched off
enabled = false

[[test]]
packet = { direction = "out", proto = "udp", src = "10.77.0.9:40000", dst = "93.184.216.34:69" }
expect = { verdict = "drop", rule = "tftp" }

[metrics]
listen = "127.0.0.1:9155"

[alerts]
file = "/var/log/portcullis/alerts.jsonl"
"#;

const PARTNERS: &str =
    "# who may still be reached by telnet\n198.51.100.0/24\n2001:db8:5::/48 # the other office\n\n";

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

#[test]
fn the_example_of_the_specification_loads_with_every_value_in_its_place() {
    let dir = directory(&[("portcullis.toml", EXAMPLE), ("partners.txt", PARTNERS)]);
    let config = config::load(&dir.path().join("portcullis.toml")).unwrap();
    let bridge = config.bridge.unwrap();
    assert_eq!(
        (bridge.lan.as_str(), bridge.uplink.as_str()),
        ("enp1s0", "enp2s0")
    );
    assert_eq!(
        (bridge.mode, bridge.queues, bridge.idle),
        (Mode::Auto, Queues::Auto, Idle::Spin)
    );
    assert_eq!(
        (bridge.on_failure, bridge.watchdog),
        (OnFailure::Closed, Duration::from_millis(200))
    );
    assert_eq!(
        (bridge.chunk, bridge.frames, bridge.ring),
        (4096, 16_384, 2048)
    );
    assert_eq!(config.policy.set("partners").unwrap().ranges.len(), 2);
    assert_eq!(config.policy.disabled, ["netbios"]);
    let first = &config.policy.rules[0];
    assert_eq!(
        (first.name.as_str(), first.action, first.alert),
        ("no-telnet", Action::Reject, Some(Severity::Low))
    );
    assert_eq!(config.policy.rules.last().unwrap().name, "default");
    assert_eq!(
        config.metrics.listen,
        Some("127.0.0.1:9155".parse().unwrap())
    );
    assert_eq!(
        config.alerts.file.unwrap(),
        Path::new("/var/log/portcullis/alerts.jsonl")
    );
    assert_eq!(config.alerts.window, Duration::from_secs(60));
    assert_eq!(
        config.control.socket,
        Path::new("/run/portcullis/control.sock")
    );
    assert_eq!(config.control.state, Path::new("/var/lib/portcullis"));
    assert_eq!(config.warnings.len(), 0, "{:?}", config.warnings);
}

#[test]
fn the_example_passes_its_check_and_its_own_test() {
    let dir = directory(&[("portcullis.toml", EXAMPLE), ("partners.txt", PARTNERS)]);
    let report = check::report(&dir.path().join("portcullis.toml"));
    assert!(report.is_ok(), "{}", report.human(false));
    assert_eq!((report.tests, report.failed), (1, 0));
    assert!(
        report
            .human(false)
            .ends_with("ok, 9 rules, 1 test passed, 0 warnings\n"),
        "{}",
        report.human(false)
    );
    assert_eq!(report.json()["ok"], true);
}

#[test]
fn a_failing_test_of_the_config_is_an_error_with_its_place_and_what_happens_instead() {
    let text = EXAMPLE.replace("rule = \"tftp\"", "rule = \"tfpt\"");
    let dir = directory(&[("portcullis.toml", &text), ("partners.txt", PARTNERS)]);
    let report = check::report(&dir.path().join("portcullis.toml"));
    assert_eq!((report.is_ok(), report.failed), (false, 1));
    let error = &report.errors[0];
    assert_eq!((error.line, error.column), (40, 10));
    assert_eq!(error.message, "a test fails: expected drop by rule `tfpt`");
    assert_eq!(error.label, "the policy says drop by rule `tftp`");
    assert_eq!(
        error.help.as_deref(),
        Some("there is no rule `tfpt`: did you mean `tftp`?")
    );
    let drawn = report.human(false);
    assert!(drawn.contains("portcullis.toml:40:10"), "{drawn}");
    assert_eq!(report.json()["errors"][0]["line"], 40);
}

#[test]
fn an_empty_config_is_the_baseline_without_a_bridge_and_says_what_is_missing() {
    let config = config::parse("", "empty.toml", Path::new(".")).unwrap();
    assert!(config.bridge.is_none());
    let names: Vec<_> = config
        .policy
        .rules
        .iter()
        .map(|rule| rule.name.as_str())
        .collect();
    assert_eq!(
        names,
        [
            "tftp",
            "smtp",
            "irc",
            "snmp",
            "msrpc",
            "smb",
            "netbios",
            "bogon-destination",
            "default"
        ]
    );
    let warnings: Vec<_> = config
        .warnings
        .iter()
        .map(|warning| warning.message.as_str())
        .collect();
    assert!(
        warnings[0]
            .contains("spoofed-source is off; bogon-destination drops every private destination"),
        "{warnings:?}"
    );
    assert!(
        warnings[1].contains("no inside host may send mail"),
        "{warnings:?}"
    );
}

#[test]
fn a_set_of_100_000_prefixes_loads_and_compiles_and_is_exact() {
    let mut text = String::from("# a long list\n");
    for i in 0..100_000u32 {
        text.push_str(&format!(
            "{}/28\n",
            std::net::Ipv4Addr::from(0x1400_0000 + i * 32)
        ));
    }
    let policy = "[sets]\nmany = { file = \"many.txt\" }\n[[rule]]\nname = \"many\"\ndst = \"@many\"\naction = \"drop\"\n";
    let dir = directory(&[("many.txt", &text), ("p.toml", policy)]);
    let start = Instant::now();
    let config = config::load(&dir.path().join("p.toml")).unwrap();
    let loaded = start.elapsed();
    let table = Table::compile(&config.policy).unwrap();
    println!(
        "100,000 prefixes: load {loaded:?}, compile {:?}, table {} bytes",
        start.elapsed() - loaded,
        table.memory()
    );
    // Not optimized, and beside other tests, it may take longer.
    let most = if cfg!(debug_assertions) { 10 } else { 1 };
    assert!(loaded < Duration::from_secs(most), "{loaded:?}");
    for (dst, rule) in [
        ("20.0.0.15", "many"),
        ("20.0.0.16", "default"),
        ("20.48.211.239", "many"),
        ("20.48.212.0", "default"),
    ] {
        let packet = Packet {
            direction: "out",
            proto: "gre",
            src: "10.0.0.9",
            dst,
            ..Packet::default()
        };
        let id = table.lookup(&packet.key().unwrap());
        assert_eq!(table.rules()[id.index()].name, rule, "{dst}");
    }
}

#[test]
fn the_config_that_is_shipped_loads_and_passes_its_own_tests() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/portcullis.toml");
    let report = config::check::report(&path);
    assert!(report.is_ok(), "{}", report.human(false));
    assert_eq!((report.tests, report.warnings.len()), (2, 0));
}
