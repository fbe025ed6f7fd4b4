//! The rig itself, with two boxes that need neither the gate nor DPDK, for a fraction of a second.

use serde_json::Value;
use std::process::Command;

/// True if this runs as root; else says that it was not run.
fn root_or_say(what: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("NOT RUN, needs root: {what} (`make test` asks sudo)");
    }
    root
}

fn rig(arguments: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_bench-rig"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn a_floor_forwards_and_a_bridge_with_nftables_filters_in_one_short_run() {
    if !root_or_say("a_floor_forwards_and_a_bridge_with_nftables_filters_in_one_short_run") {
        return;
    }
    let filter = "bridge+nftables, 1000 in a set";
    let done = rig(&[
        "--only",
        "floor",
        "--only",
        filter,
        "--rounds=1",
        "--seconds=0.2",
        "--warm-up=0.2",
        "--flows=1000",
        "--no-save",
        "--json",
    ]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{said}");
    let results: Value = serde_json::from_slice(&done.stdout).unwrap();
    let boxes = results["boxes"].as_array().unwrap();
    assert_eq!(boxes.len(), 2, "{said}");
    for (measured, name) in boxes.iter().zip(["floor", filter]) {
        assert_eq!(measured["name"], name);
        let rate = measured["rounds"][0]["forwarded_pps"].as_f64();
        assert!(
            rate.is_some_and(|rate| rate > 1_000.0),
            "{name}: {rate:?}, {said}"
        );
    }
}

#[test]
fn an_unknown_box_is_refused_with_the_names_of_those_that_there_are() {
    let done = rig(&["--only", "router"]);
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success());
    assert!(
        said.contains("there is no \"router\"; there are: floor; "),
        "{said}"
    );
}
