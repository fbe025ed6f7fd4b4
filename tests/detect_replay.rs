//! The detectors on captures of real tools, as `portcullis replay` reads them: no root, no NIC. How the captures were made stands in tests/data/detect/README.md.

use serde_json::Value;
use std::path::Path;
use std::process::Command;

fn replay(capture: &str, config: &str) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.toml");
    std::fs::write(&path, config).unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/detect");
    let output = Command::new(env!("CARGO_BIN_EXE_portcullis"))
        .args(["replay", "--json", "--lan-prefix", "10.77.0.0/24", "-c"])
        .arg(&path)
        .arg(data.join(format!("{capture}.pcap")))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Signature and numbers of what was found.
fn found(report: &Value) -> Vec<(String, Value)> {
    let alerts = report["alerts"].as_array().unwrap().iter();
    alerts
        .filter_map(|line| {
            let name = line["alert"]["signature"].as_str()?.to_owned();
            Some((name, line.get("behaviour")?.clone()))
        })
        .collect()
}

#[test]
fn each_tool_is_found_by_its_own_detector_and_by_no_other() {
    for (capture, expected) in [
        ("nmap-horizontal", "scan-horizontal"),
        ("nmap-vertical", "scan-vertical"),
        ("iodine", "dns-tunnel"),
        ("ptunnel", "icmp-tunnel"),
    ] {
        let report = replay(capture, "");
        let found = found(&report);
        assert_eq!(found.len(), 1, "{capture}: {found:?}");
        assert_eq!(found[0].0, expected, "{capture}");
        assert_eq!(found[0].1["kind"], expected);
        assert_eq!(report["balanced"], true);
    }
}

#[test]
fn an_ordinary_day_at_a_browser_is_silent() {
    let report = replay("ordinary", "");
    assert!(report["frames"].as_u64().unwrap() > 2000);
    assert_eq!(report["alerts"], serde_json::json!([]));
    assert_eq!(report["dropped"], serde_json::json!({}));
}

#[test]
fn the_thresholds_of_the_config_decide_and_nothing_is_found_with_detectors_off() {
    let low = "[detect]\nscan = { hosts = 10, ports = 10 }\ndns_tunnel = { names = 10, length = 5, entropy = 1 }\n";
    assert!(!found(&replay("ordinary", low)).is_empty());
    let off = "[detect]\nenabled = false\n";
    for capture in ["nmap-horizontal", "nmap-vertical", "iodine", "ptunnel"] {
        assert_eq!(found(&replay(capture, off)), []);
    }
    let except = "[detect]\ndns_tunnel = { except = [\"10.77.0.9\"] }\n";
    assert_eq!(found(&replay("iodine", except)), []);
}
