//! `check`, `test` and `explain` as a person meets them: what they print, and how they exit.

use std::path::Path;
use std::process::{Command, Output};

fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn portcullis(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    command.current_dir(dir).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

const SHADOWED: &str = r#"[lan]
prefixes = ["10.77.0.0/24"]
[sets]
mail_servers = ["10.77.0.25"]
[[rule]]
name   = "web"
proto  = "tcp"
dport  = [80, 443]
action = "allow"
[[rule]]
name   = "no-http"
proto  = "tcp"
dport  = 80
action = "drop"
"#;

#[test]
fn a_shadowed_rule_is_drawn_with_the_rule_that_covers_it_in_one_picture() {
    let dir = directory(&[("p.toml", SHADOWED)]);
    let output = portcullis(dir.path(), &["check", "-c", "p.toml"]);
    let expected = "  ⚠ the rule `no-http` never decides: `web` before it matches all that it
  │ matches, and allows what `no-http` drops
    ╭─[p.toml:11:10]
  5 │ [[rule]]
  6 │ name   = \"web\"
    ·          ──┬──
    ·            ╰── decides before it: allows
  7 │ proto  = \"tcp\"
  8 │ dport  = [80, 443]
  9 │ action = \"allow\"
 10 │ [[rule]]
 11 │ name   = \"no-http\"
    ·          ────┬────
    ·              ╰── never decides
 12 │ proto  = \"tcp\"
    ╰────
  help: put `no-http` before `web` if it is the exception, or take it out

p.toml: ok, 11 rules, 0 tests passed, 1 warning
";
    assert_eq!(stdout(&output), expected);
    assert_eq!(output.status.code(), Some(0));
    let json = stdout(&portcullis(
        dir.path(),
        &["check", "-c", "p.toml", "--json"],
    ));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let warning = &json["warnings"][0];
    assert_eq!(
        (&warning["line"], &warning["column"]),
        (&11.into(), &10.into())
    );
    assert_eq!(warning["also"][0]["line"], 6);
    assert_eq!(warning["also"][0]["label"], "decides before it: allows");
    assert!(json.get("stats").is_none());
}

#[test]
fn stats_say_the_size_of_rules_table_and_sets_and_the_time_of_each_step() {
    let config = format!("{SHADOWED}\n[sets.partners]\nfile = \"partners.txt\"\n");
    let dir = directory(&[("p.toml", &config), ("partners.txt", "10.0.0.0/8\n::/0\n")]);
    let args = ["check", "-c", "p.toml", "--stats", "--json"];
    let json = stdout(&portcullis(dir.path(), &args));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let stats = &json["stats"];
    assert_eq!(stats["rules"], 11);
    assert!(stats["table_bytes"].as_u64().unwrap() > 1000, "{stats}");
    let set = stats["sets"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&set["name"], &set["entries"], &set["file"]),
        (&"partners".into(), &2.into(), &"partners.txt".into())
    );
    for step in ["read", "judge", "compile", "test"] {
        assert!(stats["seconds"][step].as_f64().unwrap() >= 0.0, "{step}");
    }
    let human = stdout(&portcullis(dir.path(), &args[..4]));
    assert!(human.contains("table, compiled"), "{human}");
    assert!(human.contains("@partners                            2        96 B  partners.txt\n"));
}

const TESTS: &str = r#"[[test]]
name = "no TFTP leaves"
packet = { proto = "udp", src = "10.77.0.9:40000", dst = "93.184.216.34:69" }
expect = { verdict = "drop", rule = "tftp" }
"#;

const WRONG: &str = r#"[[test]]
packet = { proto = "tcp", src = "10.77.0.9:40000", dst = "93.184.216.34:80" }
expect = { verdict = "drop" }
"#;

#[test]
fn tests_come_from_the_config_from_files_that_it_names_and_from_the_command_line() {
    let config = format!("{SHADOWED}{TESTS}\n[[test]]\nfile = \"more.toml\"\n");
    let dir = directory(&[("p.toml", &config), ("more.toml", TESTS), ("x.toml", WRONG)]);
    let output = portcullis(dir.path(), &["test", "-c", "p.toml"]);
    let passed = "\
PASS  p.toml:15: no TFTP leaves
PASS  more.toml:1: no TFTP leaves
2 tests: 2 passed, 0 failed
";
    assert_eq!(stdout(&output), passed);
    assert_eq!(output.status.code(), Some(0));
    let output = portcullis(dir.path(), &["test", "-c", "p.toml", "--tests", "x.toml"]);
    let failed = stdout(&output);
    assert!(
        failed.contains("FAIL  x.toml:1: out tcp 10.77.0.9:40000 > 93.184.216.34:80"),
        "{failed}"
    );
    assert!(
        failed.contains("      expected  drop\n      found     forward by rule `web`\n"),
        "{failed}"
    );
    assert!(
        failed.ends_with("3 tests: 2 passed, 1 failed\n"),
        "{failed}"
    );
    assert_eq!(output.status.code(), Some(1));
    let args = ["test", "-c", "p.toml", "--tests", "x.toml", "--json"];
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&portcullis(dir.path(), &args))).unwrap();
    assert_eq!(
        (&json["run"], &json["failed"], &json["ok"]),
        (&3.into(), &1.into(), &false.into())
    );
    assert_eq!(json["tests"][2]["file"], "x.toml");
    let output = portcullis(
        dir.path(),
        &["test", "-c", "p.toml", "--tests", "none.toml"],
    );
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("none.toml: cannot read the tests: No such file"),
        "{said}"
    );
}

#[test]
fn a_policy_whose_own_tests_fail_is_refused_by_check_and_by_run() {
    let config = format!("{SHADOWED}\n[[test]]\nfile = \"wrong.toml\"\n");
    let dir = directory(&[("p.toml", &config), ("wrong.toml", WRONG)]);
    let output = portcullis(dir.path(), &["check", "-c", "p.toml"]);
    let drawn = stdout(&output);
    assert!(drawn.contains("a test fails: expected drop"), "{drawn}");
    assert!(drawn.contains("wrong.toml:3:10"), "{drawn}");
    assert_eq!(output.status.code(), Some(1));
    let output = portcullis(dir.path(), &["run", "-c", "p.toml"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(
        said.contains("wrong.toml:3:10: a test fails: expected drop"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_file_of_tests_holds_nothing_else_and_its_errors_are_told_in_its_place() {
    let wrong = format!("{TESTS}\n[policy]\ndefault = \"drop\"\n");
    for (text, place, message) in [
        (
            wrong.as_str(),
            "more.toml:6:2",
            "unknown key `policy` in the top level",
        ),
        (
            "[[test]]\nfile = \"x\"\n",
            "more.toml:1:1",
            "a test needs `packet` and `expect`",
        ),
        ("[[test]\n", "more.toml:1:", "not valid TOML"),
    ] {
        let dir = directory(&[
            ("more.toml", text),
            ("p.toml", "[[test]]\nfile = \"more.toml\"\n"),
        ]);
        let output = portcullis(dir.path(), &["check", "-c", "p.toml"]);
        let drawn = stdout(&output);
        assert!(drawn.contains(place) && drawn.contains(message), "{drawn}");
        assert_eq!(output.status.code(), Some(2));
    }
    let dir = directory(&[("p.toml", "[[test]]\nfile = \"gone.toml\"\n")]);
    let drawn = stdout(&portcullis(dir.path(), &["check", "-c", "p.toml"]));
    assert!(drawn.contains("p.toml:2:8"), "{drawn}");
    assert!(
        drawn.contains("gone.toml: cannot read the tests"),
        "{drawn}"
    );
}

#[test]
fn explain_asks_of_every_field_of_a_packet_and_marks_what_is_not_for_good() {
    let rules = r#"lan.prefixes = ["10.77.0.0/24"]
[[rule]]
name = "arp"
ethertype = "arp"
vlan = 7
action = "drop"
[[rule]]
name = "quiet"
proto = "tcp"
tcp_flags = "fin"
shadow = true
action = "drop"
[[rule]]
name = "for-now"
src_mac = "02:00:00:00:00:09"
ttl = "1h"
action = "drop"
[[rule]]
name = "split"
fragment = true
limit = "5/s"
action = "allow"
"#;
    let dir = directory(&[("p.toml", rules)]);
    let ask = |more: &[&str]| {
        let output = portcullis(dir.path(), &[&["explain", "-c", "p.toml"], more].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        stdout(&output)
    };
    let arp = ask(&["--ethertype", "arp", "--vlan", "7"]);
    assert!(arp.starts_with("drop (rule) by rule arp\n"), "{arp}");
    // The default, here to allow, is not for frames that are not IP.
    let arp = ask(&["--ethertype", "arp"]);
    assert!(arp.starts_with("forward by rule default\n"), "{arp}");
    let goose = ask(&["--ethertype", "goose"]);
    assert!(
        goose.starts_with("drop (ethertype) by rule default\n  why: no rule names this ethertype"),
        "{goose}"
    );
    let to = [
        "--src",
        "10.77.0.9:40000",
        "--dst",
        "93.184.216.34:80",
        "--proto",
        "tcp",
    ];
    let fin = ask(&[&to[..], &["--tcp-flags", "fin,ack", "--fragment"]].concat());
    assert!(
        fin.starts_with("forward by rule split, limit 5 in 1s\n"),
        "{fin}"
    );
    assert!(
        fin.contains("  matched before it, in shadow and not enforced: quiet\n"),
        "{fin}"
    );
    let near = "    for-now (line 13, ttl 1h):\n      all but src_mac: wants 02:00:00:00:00:09, has 00:00:00:00:00:00\n";
    assert!(fin.contains(near), "{fin}");
    let mac = ask(&[&to[..], &["--src-mac", "02:00:00:00:00:09"]].concat());
    assert!(
        mac.starts_with("drop (rule) by rule for-now, ttl 1h\n"),
        "{mac}"
    );
    assert!(
        mac.contains("    quiet (line 7, shadow): all but tcp_flags: wants fin, has syn\n"),
        "{mac}"
    );
}

#[test]
fn explain_gives_a_program_every_near_miss() {
    let dir = directory(&[("p.toml", SHADOWED)]);
    let packet = [
        "--proto",
        "tcp",
        "--src",
        "10.77.0.9:40000",
        "--dst",
        "93.184.216.34:22",
    ];
    let args = [&["explain", "-c", "p.toml", "--json"][..], &packet[..]].concat();
    let json: serde_json::Value =
        serde_json::from_str(&stdout(&portcullis(dir.path(), &args))).unwrap();
    assert_eq!(json["rule"], "default");
    let misses = json["misses"].as_array().unwrap();
    assert_eq!((misses.len(), &json["misses_left_out"]), (11, &0.into()));
    let expected = serde_json::json!({
        "rule": "web", "origin": "line 5 of the config", "marks": [],
        "fields": [{ "field": "dport", "wants": "80, 443", "has": "22" }],
    });
    assert_eq!(misses[0], expected);
    let fields = misses
        .iter()
        .map(|miss| miss["fields"].as_array().unwrap().len());
    assert!(fields.is_sorted());
}
