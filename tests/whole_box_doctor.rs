//! `portcullis doctor` on a real kernel: what it says is wrong is, and what it says mends it does.

mod common;

use common::gate::{config, portcullis, write_config};
use common::{Gate, Lab};
use serde_json::Value;

/// The finding of a check about a NIC.
fn finding<'a>(findings: &'a Value, check: &str, nic: &str) -> &'a Value {
    let checks = findings["checks"].as_array().expect("checks");
    let mut those = checks
        .iter()
        .filter(|one| one["check"] == check && one["nic"] == nic);
    those
        .next()
        .unwrap_or_else(|| panic!("no {check} of {nic}: {findings:#}"))
}

#[test]
fn what_doctor_tells_to_run_mends_what_it_found() {
    let Some(lab) = Lab::new() else { return };
    let path = write_config(
        &lab,
        "portcullis.toml",
        &config(&lab, "offloads = \"check\"\n", ""),
    );
    let path = path.to_str().expect("UTF-8");
    let look = || {
        let out = portcullis(&lab, &["doctor", "-c", path, "--json"]);
        let found: Value = serde_json::from_str(&out.stdout).expect("JSON");
        let bad = found["checks"]
            .as_array()
            .expect("checks")
            .iter()
            .any(|one| one["state"] == "not-ready");
        assert_eq!(out.code, Some(if bad { 1 } else { 0 }), "{out:?}");
        assert_eq!(found["ready"], !bad);
        found
    };
    let found = look();
    // Linux 6.3 tells what a driver can; before, nobody knows.
    let copy = finding(&found, "zero copy", "gl0");
    assert!(
        copy["state"] == "unknown"
            || copy["found"]
                .as_str()
                .is_some_and(|text| text.contains("veth has XDP without zero copy")),
        "{copy}"
    );

    lab.must("gate", "ethtool", "-K gl0 gro on");
    lab.ip("gate", "link set gu0 down mtu 9000");
    let before = lab.ports();
    let found = look();
    for (check, nic) in [("offloads", "gl0"), ("link", "gu0"), ("MTU", "gu0")] {
        assert_eq!(finding(&found, check, nic)["state"], "not-ready");
    }
    assert_eq!(lab.ports(), before, "it only reads");
    let text = portcullis(&lab, &["doctor", "-c", path]).stdout;
    for (check, nic) in [("offloads", "gl0"), ("link", "gu0"), ("MTU", "gu0")] {
        let mend = finding(&found, check, nic)["mend"][0]
            .as_str()
            .expect("a command");
        assert!(text.contains(&format!("> {mend}\n")), "{text}");
        let (program, arguments) = mend.split_once(' ').expect("arguments");
        lab.must("gate", program, arguments);
    }
    let found = look();
    for (check, nic) in [("offloads", "gl0"), ("link", "gu0"), ("MTU", "gu0")] {
        assert_eq!(
            finding(&found, check, nic)["state"],
            "ready",
            "{check} {nic}"
        );
    }
    // A gate that runs is no hindrance.
    let _gate = Gate::start(&lab);
    look();
}

#[test]
fn doctor_that_cannot_look_says_why_in_one_line() {
    let Some(lab) = Lab::new() else { return };
    let text = config(&lab, "", "").replace("gl0", "gl7");
    let path = write_config(&lab, "portcullis.toml", &text);
    portcullis(&lab, &["doctor", "-c", path.to_str().expect("UTF-8")])
        .assert_one_line(&["gl7", "no such interface"]);
    let path = write_config(&lab, "none.toml", "[lan]\nprefixes = [\"10.77.0.0/24\"]\n");
    portcullis(&lab, &["doctor", "-c", path.to_str().expect("UTF-8")])
        .assert_one_line(&["[bridge]", "no NICs"]);
}
