//! Another config in the place of the one in force, on the real thing under traffic.

mod common;

use common::craft::{Packet, TCP, UDP, number_of, numbered};
use common::gate::{config, dropped, number, portcullis, write_config};
use common::wire::assert_open;
use common::{Gate, Lab, SOON, Wire, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

/// Where the configs of these tests differ: one rule on UDP port 7000, and nothing that reads the file by itself.
fn rule(lab: &Lab, action: &str) -> String {
    with(
        lab,
        &format!(
            "[[rule]]\nname = \"seven\"\nproto = \"udp\"\ndport = [7000]\naction = \"{action}\"\n"
        ),
    )
}

fn with(lab: &Lab, rules: &str) -> String {
    let text = config(lab, "", rules);
    text.replace("[control]\n", "[control]\nwatch = false\n")
}

fn command(lab: &Lab, words: &[&str], file: Option<&Path>) -> (Option<i32>, String, String) {
    let socket = lab.dir().join("control.sock");
    let mut all = words.to_vec();
    all.extend(["--socket", socket.to_str().expect("UTF-8")]);
    if let Some(file) = file {
        all.extend(["-c", file.to_str().expect("UTF-8")]);
    }
    let out = portcullis(lab, &all);
    (out.code, out.stdout, out.stderr)
}

fn json(lab: &Lab, words: &[&str], file: Option<&Path>) -> Value {
    let (_, stdout, stderr) = command(lab, &[words, &["--json"]].concat(), file);
    serde_json::from_str(&stdout).unwrap_or_else(|e| panic!("{words:?}: {e}: {stdout}{stderr}"))
}

fn own(lab: &Lab) -> PathBuf {
    lab.dir().join("portcullis.toml")
}

fn passes(lan: &Wire, uplink: &Wire, port: u16) -> bool {
    uplink.drain();
    lan.send(&Packet::out(UDP, port).frame());
    uplink.next(Duration::from_millis(300)).is_some()
}

#[test]
fn a_thousand_reloads_under_load_lose_no_frame_and_no_frame_is_judged_by_a_mix() {
    let Some(lab) = Lab::new() else { return };
    // Two policies that agree in nothing about two ports: one lets 7001 out and drops 7002, the other the other way round. What each rule counts says which verdict its frames
    // have got, whichever policy it was of.
    let policy = |open: u16, shut: u16| {
        with(
            &lab,
            &format!(
                "[[rule]]\nname = \"open\"\nproto = \"udp\"\ndport = [{open}]\naction = \"allow\"\n\
                 [[rule]]\nname = \"shut\"\nproto = \"udp\"\ndport = [{shut}]\naction = \"drop\"\n"
            ),
        )
    };
    let texts = [policy(7001, 7002), policy(7002, 7001)];
    let gate = Gate::with(&lab, &texts[0]);
    let (lan, uplink) = Wire::both(&lab);
    assert_open(&lan, &uplink);
    let before = gate.assert_balanced();
    let stop = AtomicBool::new(false);
    // Flows of their own ports, so that each frame is judged anew: 100 sources in turn, on both ports; between them numbered frames that either policy lets through.
    let (sent, taken) = std::thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let (mut plain, mut judged) = (0u64, [0u64; 2]);
            while !stop.load(Relaxed) {
                lan.send(&numbered(1000 + plain));
                plain += 1;
                for (at, port) in [7001u16, 7002].into_iter().enumerate() {
                    let source = 20_000 + (plain % 20_000) as u16;
                    lan.send(&Packet::out(UDP, port).sport(source).frame());
                    judged[at] += 1;
                }
                std::thread::sleep(Duration::from_micros(300));
            }
            (plain, judged)
        });
        let receiving = scope.spawn(|| {
            let mut got: HashMap<u16, u64> = HashMap::new();
            let (mut plain, mut next, mut quiet) = (0u64, 1000u64, false);
            loop {
                let Some(frame) = uplink.next(Duration::from_millis(500)) else {
                    if quiet {
                        return (plain, got);
                    }
                    quiet = stop.load(Relaxed);
                    continue;
                };
                let port = u16::from_be_bytes([frame[36], frame[37]]);
                if port == 7001 || port == 7002 {
                    *got.entry(port).or_default() += 1;
                } else {
                    assert_eq!(
                        number_of(&frame),
                        next,
                        "a numbered frame was lost, or came out of order"
                    );
                    next += 1;
                    plain += 1;
                }
            }
        });
        let mut taken = 0;
        let socket = lab.dir().join("control.sock");
        for n in 1..=1000usize {
            std::fs::write(own(&lab), &texts[n % 2]).expect("the config");
            let ask = portcullis::control::socket::Request::Config(
                portcullis::control::reload::Ask::Reload,
            );
            let answer = portcullis::control::socket::ask(&socket, &ask).expect("an answer");
            assert!(answer["error"].is_null(), "{answer}");
            taken += 1;
        }
        stop.store(true, Relaxed);
        let sent = sending.join().expect("the sender");
        let (plain, got) = receiving.join().expect("the receiver");
        assert_eq!(
            plain, sent.0,
            "numbered frames that arrived, and that were sent"
        );
        ((sent, got), taken)
    });
    let ((plain, judged), got) = sent;
    let status = gate.assert_balanced();
    assert_eq!(taken, 1000);
    assert_eq!(number(&status["reloads"]["taken"]), 1000);
    assert_eq!(
        number(&status["generation"]),
        number(&before["generation"]) + 1000
    );
    eprintln!("{plain} numbered frames; {judged:?} were judged, of which passed {got:?}");
    let counted = |name: &str| number(&status["rules"][name]["packets"]);
    let passed: u64 = got.values().sum();
    assert_eq!(
        counted("open"),
        passed,
        "what the one rule has decided passed"
    );
    assert_eq!(
        counted("shut"),
        dropped(&status, "lan", "rule"),
        "and what the other has did not"
    );
    assert_eq!(
        counted("open") + counted("shut"),
        judged[0] + judged[1],
        "and one of the two has decided every frame"
    );
    for port in [7001, 7002] {
        assert!(
            got.get(&port)
                .is_some_and(|n| *n > 0 && *n < judged[usize::from(port - 7001)]),
            "both policies were in force: {got:?}"
        );
    }
}

#[test]
fn a_flow_that_the_new_policy_forbids_ends_and_the_others_go_on() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &rule(&lab, "allow"));
    let (lan, uplink) = Wire::both(&lab);
    assert!(passes(&lan, &uplink, 7000) && passes(&lan, &uplink, 443));
    std::fs::write(own(&lab), rule(&lab, "drop")).expect("the config");
    let answer = json(&lab, &["reload"], None);
    assert_eq!(answer["generation"], 2, "{answer}");
    assert!(!passes(&lan, &uplink, 7000));
    assert!(passes(&lan, &uplink, 443));
    let status = gate.assert_balanced();
    assert_eq!(
        (
            number(&status["flows"]["judged_again"]),
            number(&status["flows"]["ended"])
        ),
        (2, 1)
    );
    // SIGHUP does the same.
    std::fs::write(own(&lab), rule(&lab, "allow")).expect("the config");
    gate.signal(Signal::SIGHUP);
    until("the third generation", SOON, || {
        (gate.status()["generation"] == 3).then_some(())
    });
    assert!(passes(&lan, &uplink, 7000));
    // The rule is the same one still: what it has counted stands.
    let status = gate.assert_balanced();
    assert_eq!(number(&status["rules"]["seven"]["packets"]), 3);
}

#[test]
fn what_is_wrong_is_refused_with_its_place_and_counted_and_the_policy_stays() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &rule(&lab, "drop"));
    let (lan, uplink) = Wire::both(&lab);
    let good = rule(&lab, "allow");
    let failing = format!(
        "{good}[[test]]\npacket = {{ direction = \"out\", proto = \"udp\", src = \"10.77.0.9:4000\", dst = \"93.184.216.34:7000\" }}\nexpect = {{ verdict = \"drop\" }}\n"
    );
    let bridge = good.replace("huge_pages = false", "huge_pages = false\nring = 1024");
    for (text, words) in [
        (
            good.replace("action = \"allow\"", "action = \"alow\""),
            vec!["portcullis.toml:", "`action` cannot be \"alow\""],
        ),
        (failing, vec!["portcullis.toml:", "expected drop"]),
        (bridge, vec!["[bridge] cannot change", "systemctl restart"]),
    ] {
        std::fs::write(own(&lab), text).expect("the config");
        let (code, _, stderr) = command(&lab, &["reload"], None);
        assert_eq!(code, Some(2), "{stderr}");
        for word in words {
            assert!(stderr.contains(word), "no {word:?} in {stderr}");
        }
        assert!(
            !passes(&lan, &uplink, 7000),
            "the policy before is in force"
        );
    }
    let status = gate.status();
    let reloads = &status["reloads"];
    assert_eq!(
        (number(&reloads["refused"]), number(&reloads["taken"])),
        (3, 0)
    );
    assert!(
        reloads["error"]
            .as_str()
            .is_some_and(|e| e.contains("[bridge]")),
        "{reloads}"
    );
    std::fs::write(own(&lab), good).expect("the config");
    assert_eq!(command(&lab, &["reload"], None).0, Some(0));
    assert!(passes(&lan, &uplink, 7000));
    assert!(gate.status()["reloads"]["error"].is_null());
}

#[test]
fn a_commit_that_nobody_confirms_is_rolled_back_by_itself() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &rule(&lab, "allow"));
    let (lan, uplink) = Wire::both(&lab);
    let new = write_config(&lab, "new.toml", &rule(&lab, "drop"));
    let answer = json(&lab, &["commit", "--confirm", "1s"], Some(&new));
    assert_eq!(answer["confirm_s"], 1, "{answer}");
    assert!(!passes(&lan, &uplink, 7000), "it is in force meanwhile");
    let (code, _, stderr) = command(&lab, &["reload"], None);
    assert!(
        code == Some(2) && stderr.contains("waits to be confirmed"),
        "{stderr}"
    );
    until("the rollback", SOON, || {
        (gate.status()["reloads"]["rolled_back"] == 1).then_some(())
    });
    assert!(passes(&lan, &uplink, 7000));
    let text = std::fs::read_to_string(own(&lab)).expect("the config");
    assert_eq!(
        text,
        rule(&lab, "allow"),
        "the gate's own file was not touched"
    );
    // And at once, where somebody says so.
    json(&lab, &["commit", "--confirm", "1h"], Some(&new));
    assert!(!passes(&lan, &uplink, 7000));
    let (code, stdout, stderr) = command(&lab, &["rollback"], None);
    assert!(
        code == Some(0) && stdout.contains("not in force any more"),
        "{stdout}{stderr}"
    );
    assert!(passes(&lan, &uplink, 7000));
}

#[test]
fn a_commit_that_is_confirmed_stays_and_takes_the_place_of_the_gate_s_own_file() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &rule(&lab, "allow"));
    let (lan, uplink) = Wire::both(&lab);
    let text = rule(&lab, "drop");
    let new = write_config(&lab, "new.toml", &text);
    json(&lab, &["commit", "--confirm", "2s"], Some(&new));
    let (code, stdout, stderr) = command(&lab, &["commit"], None);
    assert!(
        code == Some(0) && stdout.contains("stays in force"),
        "{stdout}{stderr}"
    );
    assert_eq!(
        std::fs::read_to_string(own(&lab)).expect("the config"),
        text
    );
    std::thread::sleep(Duration::from_millis(2200));
    assert!(!passes(&lan, &uplink, 7000), "it stayed");
    assert_eq!(gate.status()["reloads"]["rolled_back"], 0);
}

#[test]
fn a_config_whose_file_changes_is_taken_by_itself_and_a_broken_one_is_not() {
    let Some(lab) = Lab::new() else { return };
    let watching = |action| rule(&lab, action).replace("watch = false\n", "");
    let gate = Gate::with(&lab, &watching("allow"));
    let (lan, uplink) = Wire::both(&lab);
    assert!(passes(&lan, &uplink, 7000));
    // Written as editors do: beside it, and into its place.
    let beside = write_config(&lab, "portcullis.toml.new", &watching("drop"));
    std::fs::rename(&beside, own(&lab)).expect("renamed");
    until("the reload", SOON, || {
        (gate.status()["reloads"]["taken"] == 1).then_some(())
    });
    assert!(!passes(&lan, &uplink, 7000));
    std::fs::write(own(&lab), "[bridge\n").expect("the config");
    until("the refusal", SOON, || {
        (gate.status()["reloads"]["refused"] == 1).then_some(())
    });
    assert!(!passes(&lan, &uplink, 7000));
    std::fs::write(own(&lab), watching("allow")).expect("the config");
    until("the reload", SOON, || {
        (gate.status()["reloads"]["taken"] == 2).then_some(())
    });
    assert!(passes(&lan, &uplink, 7000));
}

#[test]
fn diff_says_which_rules_and_sets_differ_and_which_hosts_it_would_hit() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &rule(&lab, "allow"));
    let (lan, uplink) = Wire::both(&lab);
    let same = write_config(&lab, "same.toml", &rule(&lab, "allow"));
    let (code, stdout, stderr) = command(&lab, &["diff"], Some(&same));
    assert!(
        code == Some(0) && stdout.contains("are those in force"),
        "{stdout}{stderr}"
    );
    assert!(passes(&lan, &uplink, 7000));
    assert!(
        !passes(&lan, &uplink, 69),
        "TFTP is stopped, and makes an incident"
    );
    lan.send(&Packet::out(TCP, 443).frame());
    uplink.next(SOON).expect("allowed");
    gate.alerts(1);
    let text = with(
        &lab,
        "[[rule]]\nname = \"seven\"\nproto = \"udp\"\ndport = [7000]\naction = \"drop\"\n\
         [[rule]]\nname = \"tftp\"\nenabled = false\n",
    )
    .replace(
        "mail_servers = [\"10.77.0.25\"]",
        "mail_servers = [\"10.77.0.25\", \"10.77.0.26\"]",
    );
    let new = write_config(&lab, "new.toml", &text);
    let answer = json(&lab, &["diff"], Some(&new));
    let named = |what: &str| -> Vec<&str> {
        let all = answer["rules"].as_array().into_iter().flatten();
        all.filter(|change| change["what"] == what)
            .filter_map(|change| change["rule"].as_str())
            .collect()
    };
    assert_eq!(
        (named("removed"), named("changed")),
        (vec!["tftp"], vec!["seven"]),
        "{answer:#}"
    );
    assert_eq!(
        (&answer["sets"][0]["set"], &answer["sets"][0]["added"]),
        (&"mail_servers".into(), &1.into())
    );
    let hosts = |key: &str| {
        let host = &answer[key]["by_host"][0];
        (
            number(&answer[key]["count"]),
            host["host"].clone(),
            host["rules"].clone(),
        )
    };
    let (count, host, rules) = hosts("blocked");
    assert_eq!(
        (count, host, &rules["seven"]),
        (1, "10.77.0.9".into(), &1.into()),
        "{answer:#}"
    );
    let (count, host, _) = hosts("allowed");
    assert_eq!((count, host), (1, "10.77.0.9".into()), "{answer:#}");
    let (code, stdout, _) = command(&lab, &["diff"], Some(&new));
    assert_eq!(code, Some(1), "{stdout}");
    for words in [
        "removed  tftp",
        "changed  seven",
        "set      @mail_servers",
        "would be blocked",
        "would pass",
        "udp 93.184.216.34:7000",
    ] {
        assert!(stdout.contains(words), "no {words:?} in\n{stdout}");
    }
    assert_eq!(
        number(&gate.status()["generation"]),
        1,
        "nothing has changed"
    );
}

#[test]
fn who_was_told_of_before_a_restart_is_not_told_of_anew_and_counts_on() {
    let Some(lab) = Lab::new() else { return };
    let text = config(&lab, "", "").replace("[alerts]\n", "[alerts]\nwindow = \"1h\"\n");
    let (lan, uplink) = Wire::both(&lab);
    let gate = Gate::with(&lab, &text);
    for _ in 0..3 {
        assert!(!passes(&lan, &uplink, 69));
    }
    let first = gate.alerts(1);
    assert_eq!(gate.end(Signal::SIGTERM).code(), Some(0));
    let gate = Gate::with(&lab, &text);
    assert!(!passes(&lan, &uplink, 69));
    until("the frame counted", SOON, || {
        (gate.status()["rules"]["tftp"]["packets"] == 1).then_some(())
    });
    let socket = lab.dir().join("control.sock");
    let ask = portcullis::control::socket::Request::Incidents { most: 9 };
    std::thread::sleep(Duration::from_millis(100));
    let latest = portcullis::control::socket::ask(&socket, &ask).expect("an answer");
    assert_eq!(
        latest["incidents"].as_array().map(Vec::len),
        Some(0),
        "not told: {latest}"
    );
    assert_eq!(gate.end(Signal::SIGTERM).code(), Some(0));
    let lines: Vec<Value> = std::fs::read_to_string(lab.dir().join("alerts.jsonl"))
        .expect("alerts")
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    // The first, and one at the end of each process for what was not told yet.
    let seen: Vec<(&Value, u64)> = lines
        .iter()
        .map(|line| {
            (
                &line["alert"]["incident"],
                number(&line["alert"]["packets"]),
            )
        })
        .collect();
    let id = &first[0]["alert"]["incident"];
    assert_eq!(seen, [(id, 1), (id, 3), (id, 4)], "one incident");
}

#[test]
fn what_the_gate_reads_for_whoever_asks_is_where_its_own_config_is() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &rule(&lab, "allow"));
    let elsewhere = tempfile::tempdir().expect("a folder");
    let other = elsewhere.path().join("new.toml");
    std::fs::write(&other, rule(&lab, "drop")).expect("a config");
    let link = lab.dir().join("link.toml");
    std::os::unix::fs::symlink(&other, &link).expect("a link");
    let named = |name: &str, set: &str| {
        let sets = format!("[sets]\nothers = {{ file = \"{set}\" }}\n");
        write_config(&lab, name, &rule(&lab, "drop").replace("[sets]\n", &sets))
    };
    let secret = named("set.toml", "/etc/shadow");
    let above = named("above.toml", "../../etc/passwd");
    let pipe = lab.dir().join("pipe.toml");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    for (file, why) in [
        (&other, "another folder"),
        (&link, "another folder"),
        (&secret, "/etc/shadow is in another folder"),
        (&above, "another folder"),
        (&pipe, "not a regular file"),
    ] {
        for words in ["diff", "commit"] {
            let (code, stdout, stderr) = command(&lab, &[words], Some(file));
            // What the config of a command's own says is read by the command, with the rights of whoever runs it.
            assert!(
                code == Some(2) && stderr.contains(why),
                "{words} {}: {stdout}{stderr}",
                file.display()
            );
            assert!(!stderr.contains("root:"), "{stderr}");
        }
    }
    assert_eq!(gate.status()["generation"], 1);
}

#[test]
fn a_commit_stays_though_nobody_installs_it_and_the_own_file_is_watched() {
    let Some(lab) = Lab::new() else { return };
    let watching = |action| rule(&lab, action).replace("watch = false\n", "");
    let gate = Gate::with(&lab, &watching("allow"));
    let (lan, uplink) = Wire::both(&lab);
    let new = write_config(&lab, "new.toml", &watching("drop"));
    let socket = lab.dir().join("control.sock");
    let ask = |ask| {
        let request = portcullis::control::socket::Request::Config(ask);
        let answer = portcullis::control::socket::ask(&socket, &request).expect("an answer");
        assert!(answer["error"].is_null(), "{answer}");
    };
    use portcullis::control::reload::Ask;
    // As by somebody who may ask the gate and not write its file.
    for confirm_s in [None, Some(60)] {
        ask(Ask::Commit {
            file: new.clone(),
            confirm_s,
        });
        if confirm_s.is_some() {
            ask(Ask::Confirm);
        }
        std::thread::sleep(Duration::from_millis(1500));
        assert!(
            !passes(&lan, &uplink, 7000),
            "the own file, with its old text, was read again"
        );
    }
    assert_eq!(gate.status()["reloads"]["taken"], 2);
    // A change of it counts again.
    std::fs::write(own(&lab), watching("allow") + "# changed\n").expect("the config");
    until("the reload", SOON, || {
        (gate.status()["reloads"]["taken"] == 3).then_some(())
    });
    assert!(passes(&lan, &uplink, 7000));
}

#[test]
fn a_rollback_brings_no_rule_back_whose_time_was_over() {
    let Some(lab) = Lab::new() else { return };
    let temporary = format!(
        "[[rule]]\nname = \"visitor\"\nproto = \"udp\"\ndport = [7000]\naction = \"allow\"\nttl = \"1s\"\n{}",
        "[[rule]]\nname = \"seven\"\nproto = \"udp\"\ndport = [7000]\naction = \"drop\"\n"
    );
    let gate = Gate::with(&lab, &with(&lab, &temporary));
    let (lan, uplink) = Wire::both(&lab);
    until("the end of the rule", SOON, || {
        (!passes(&lan, &uplink, 7000)).then_some(())
    });
    let new = write_config(&lab, "new.toml", &rule(&lab, "drop"));
    json(&lab, &["commit", "--confirm", "1h"], Some(&new));
    assert_eq!(command(&lab, &["rollback"], None).0, Some(0));
    assert!(!passes(&lan, &uplink, 7000), "its time was over");
    assert_eq!(gate.status()["rules"]["visitor"]["expired"], true);
}
