//! Hosts that are cut off, on the real thing: by a command, by a rule, across restarts, and not beyond bounds.

mod common;

use common::craft::{Packet, UDP};
use common::gate::{config, number, portcullis};
use common::{Gate, Lab, SOON, Wire, until};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::time::Duration;

const NTP: u16 = 123;

fn run(lab: &Lab, words: &[&str]) -> (Option<i32>, String, String) {
    let socket = lab.dir().join("control.sock");
    let mut all = vec!["quarantine"];
    all.extend(words);
    all.extend(["--socket", socket.to_str().expect("UTF-8")]);
    let out = portcullis(lab, &all);
    (out.code, out.stdout, out.stderr)
}

fn done(lab: &Lab, words: &[&str]) -> Value {
    let (code, stdout, stderr) = run(lab, &[words, &["--json"]].concat());
    assert_eq!(code, Some(0), "{words:?}: {stderr}");
    serde_json::from_str(&stdout).expect("JSON")
}

/// A host of the LAN by the last byte of its address and of its MAC address.
fn from(ip: u8, mac: u8, port: u16) -> Vec<u8> {
    let mut frame = Packet::out(UDP, port).from([10, 77, 0, ip]).frame();
    frame[11] = mac;
    frame
}

fn passes(lan: &Wire, uplink: &Wire, frame: &[u8]) -> bool {
    uplink.drain();
    lan.send(frame);
    uplink.next(Duration::from_millis(300)).is_some()
}

const HOSTS: &str = "[hosts]\nprinter = { ip = \"10.77.0.31\" }\n";

#[test]
fn a_host_is_cut_off_both_ways_at_once_survives_a_restart_and_is_let_go_when_its_time_is_over() {
    let Some(lab) = Lab::new() else { return };
    let text = config(&lab, "", HOSTS);
    let mut gate = Gate::with(&lab, &text);
    let (lan, uplink) = Wire::both(&lab);
    // A flow that is open, and another host.
    assert!(passes(&lan, &uplink, &from(31, 31, NTP)) && passes(&lan, &uplink, &from(9, 9, NTP)));
    let answer = done(
        &lab,
        &["printer", "--for", "4s", "--why", "sends \u{1b}spam"],
    );
    assert_eq!(answer["held"]["ips"][0], "10.77.0.31", "{answer}");
    assert!(
        !answer["held"]["why"]
            .as_str()
            .expect("why")
            .contains('\u{1b}')
    );
    assert!(
        !passes(&lan, &uplink, &from(31, 31, NTP)),
        "what was open neither"
    );
    let mut back = Packet::back(UDP, NTP);
    back.dst4 = [10, 77, 0, 31].into();
    lan.drain();
    uplink.send(&back.frame());
    assert!(
        lan.next(Duration::from_millis(300)).is_none(),
        "nor what comes to it"
    );
    assert!(passes(&lan, &uplink, &from(9, 9, NTP)));
    let status = gate.assert_balanced();
    assert_eq!(number(&status["rules"]["quarantine"]["packets"]), 2);
    assert_eq!(status["quarantine"][0]["name"], "printer");
    assert!(
        run(&lab, &[]).1.contains("printer 10.77.0.31"),
        "{}",
        run(&lab, &[]).1
    );

    gate.signal(Signal::SIGKILL);
    gate.ended();
    gate = Gate::with(&lab, &text);
    assert!(
        !passes(&lan, &uplink, &from(31, 31, NTP)),
        "a restart lets nobody go"
    );
    until("its time to be over", SOON, || {
        passes(&lan, &uplink, &from(31, 31, NTP)).then_some(())
    });
    assert!(gate.log().contains("its time is over"), "{}", gate.log());
    assert!(run(&lab, &[]).1.starts_with("nobody is in quarantine"));

    // And by a MAC address, and let go by hand.
    done(&lab, &["02:00:00:00:00:09"]);
    assert!(!passes(&lan, &uplink, &from(9, 9, NTP)) && passes(&lan, &uplink, &from(9, 8, NTP)));
    done(&lab, &["--release", "02:00:00:00:00:09"]);
    assert!(passes(&lan, &uplink, &from(9, 9, NTP)));
    let (code, _, stderr) = run(&lab, &["--release", "10.77.0.9"]);
    assert!(
        code == Some(2) && stderr.contains("is not in quarantine"),
        "{stderr}"
    );
}

#[test]
fn a_rule_cuts_off_whom_it_alerts_on_and_not_whose_address_was_forged() {
    let Some(lab) = Lab::new() else { return };
    let more = "[quarantine]\nshare = 100\n[[rule]]\nname = \"tftp\"\nquarantine = \"1h\"\n";
    let gate = Gate::with(&lab, &config(&lab, "", more));
    let (lan, uplink) = Wire::both(&lab);
    for host in 9..=14 {
        assert!(passes(&lan, &uplink, &from(host, host, NTP)));
    }
    // The machine 9 asks for TFTP in its own name, and in that of 10.
    lan.send(&from(9, 9, 69));
    lan.send(&from(10, 9, 69));
    until("both in quarantine", SOON, || {
        (gate.status()["quarantine"].as_array().map(Vec::len) == Some(2)).then_some(())
    });
    assert!(!passes(&lan, &uplink, &from(9, 9, NTP)));
    assert!(
        !passes(&lan, &uplink, &from(10, 9, NTP)),
        "as whom it pretended to be"
    );
    assert!(
        passes(&lan, &uplink, &from(10, 10, NTP)),
        "who had nothing to do with it"
    );
    let status = gate.assert_balanced();
    assert_eq!(
        status["quarantine"][0]["by"], "tftp",
        "{}",
        status["quarantine"]
    );
}

#[test]
fn who_is_protected_or_beyond_the_share_is_not_cut_off_and_somebody_is_told() {
    let Some(lab) = Lab::new() else { return };
    let more = "[quarantine]\nprotect = [\"10.77.0.1\", \"@mail_servers\", \"02:00:00:00:00:07\"]\nshare = 20\n\
        [hosts]\nrouter = { ip = \"10.77.0.1\", mac = \"02:00:00:00:00:01\" }\nnas = { ip = \"10.77.0.40\", mac = \"02:00:00:00:00:07\" }\n\
        [[rule]]\nname = \"tftp\"\nquarantine = \"1h\"\n";
    let gate = Gate::with(&lab, &config(&lab, "", more));
    let (lan, uplink) = Wire::both(&lab);
    for host in [1, 7, 25, 30, 31, 32, 33, 34, 35, 36] {
        assert!(passes(&lan, &uplink, &from(host, host, NTP)));
    }
    for (host, by) in [
        ("10.77.0.1", "10.77.0.1"),
        ("10.77.0.25", "@mail_servers"),
        ("02:00:00:00:00:07", "02:00:00:00:00:07"),
        // By what [hosts] says of the same machine.
        ("02:00:00:00:00:01", "10.77.0.1"),
        ("10.77.0.40", "02:00:00:00:00:07"),
        ("nas", "02:00:00:00:00:07"),
    ] {
        let (code, _, stderr) = run(&lab, &[host]);
        assert!(
            code == Some(2) && stderr.contains(&format!("protected by {by}")),
            "{host}: {stderr}"
        );
    }
    // Ten hosts have flows: two may be cut off at once.
    done(&lab, &["10.77.0.30"]);
    done(&lab, &["10.77.0.31"]);
    let (code, _, stderr) = run(&lab, &["10.77.0.32"]);
    assert!(
        code == Some(2) && stderr.contains("2 of at most 2 hosts"),
        "{stderr}"
    );
    lan.send(&from(33, 33, 69));
    lan.send(&from(7, 7, 69));
    until("a refusal", SOON, || {
        (gate.log().matches("could not put").count() >= 1).then_some(())
    });
    assert!(passes(&lan, &uplink, &from(33, 33, NTP)) && passes(&lan, &uplink, &from(7, 7, NTP)));
    for (words, error) in [
        (vec!["nobody"], "a MAC address or a name"),
        (vec!["10.77.0.0/24"], "more than one host"),
        (
            vec!["10.77.0.30", "--for", "400days"],
            "from a second to a year",
        ),
    ] {
        let (code, _, stderr) = run(&lab, &words);
        assert!(
            code == Some(2) && stderr.contains(error),
            "{words:?}: {stderr}"
        );
    }
    // A reload keeps who is here, and its tests know nothing of it.
    let test = "[[test]]\npacket = { direction = \"out\", proto = \"udp\", src = \"10.77.0.30:4000\", dst = \"93.184.216.34:123\" }\nexpect = { verdict = \"forward\" }\n";
    std::fs::write(
        lab.dir().join("portcullis.toml"),
        config(&lab, "", &format!("{more}{test}")),
    )
    .expect("the config");
    until("the reload", SOON, || {
        (gate.status()["reloads"]["taken"] == 1).then_some(())
    });
    assert!(!passes(&lan, &uplink, &from(30, 30, NTP)));
}

#[test]
fn what_a_box_in_shadow_would_have_stopped_is_added_up_by_rule_and_host() {
    let Some(lab) = Lab::new() else { return };
    let gate = Gate::with(&lab, &config(&lab, "", "[policy]\nshadow = true\n"));
    let (lan, uplink) = Wire::both(&lab);
    for n in 0..3 {
        assert!(passes(&lan, &uplink, &from(9, 9, 69)), "{n}");
    }
    assert!(passes(&lan, &uplink, &from(10, 10, 69)) && passes(&lan, &uplink, &from(10, 10, 161)));
    gate.alerts(3);
    // The last lines of the incidents are written at the end.
    assert_eq!(gate.end(Signal::SIGTERM).code(), Some(0));
    let config = lab.dir().join("portcullis.toml");
    let words = ["shadow", "-c", config.to_str().expect("UTF-8"), "--json"];
    let out = portcullis(&lab, &words);
    let answer: Value = serde_json::from_str(&out.stdout).expect("JSON");
    let rules: Vec<(&str, u64, usize)> = answer["rules"]
        .as_array()
        .expect("rules")
        .iter()
        .map(|rule| {
            (
                rule["rule"].as_str().expect("a name"),
                number(&rule["frames"]),
                rule["hosts"].as_array().expect("hosts").len(),
            )
        })
        .collect();
    assert_eq!(rules, [("tftp", 4, 2), ("snmp", 1, 1)], "{answer:#}");
    assert_eq!(answer["rules"][0]["hosts"][0]["host"], "10.77.0.9");
    let table = portcullis(&lab, &words[..3]).stdout;
    assert!(
        table.starts_with("tftp: 4 frames of 2 hosts would have been stopped\n"),
        "{table}"
    );
}
