//! What it is measured on, and what is needed to run it again.

use crate::measure::Setup;
use serde_json::{Map, Value};
use std::process::Command;

/// In the order in which they are shown.
pub fn facts(setup: &Setup, rounds: u32) -> Map<String, Value> {
    let command: Vec<String> = std::env::args().collect();
    let kernel = ["osrelease", "version"].map(|name| read(&format!("/proc/sys/kernel/{name}")));
    let facts = [
        ("commit", commit()),
        ("command", command.join(" ")),
        ("processor", format!("{}, {} cores", processor(), cores())),
        ("kernel", kernel.join(" ")),
        ("nftables", or_missing(said("nft", &["--version"]))),
        ("DPDK", or_missing(dpdk())),
        ("gate", said(&setup.gate.to_string_lossy(), &["--version"])),
        ("rustc", said("rustc", &["--version"])),
        ("load before", read("/proc/loadavg")),
        (
            "setup",
            format!(
                "{rounds} rounds in turn of {:.1} s after {:.1} s; box on core {}, generator and sink on core {}; 60-byte frames (64 with FCS), {} flows",
                setup.window.as_secs_f64(),
                setup.warm_up.as_secs_f64(),
                setup.box_core,
                setup.generator_core,
                setup.flows
            ),
        ),
    ];
    let text = |(name, value): (&str, String)| (name.to_owned(), Value::String(value));
    facts.into_iter().map(text).collect()
}

/// The processor as a part of a file's name: lower case, with a hyphen for whatever is neither letter nor digit.
pub fn slug(machine: &Map<String, Value>) -> String {
    let processor = machine.get("processor").and_then(Value::as_str);
    let words = processor
        .unwrap_or("unknown")
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join("-").to_lowercase()
}

fn commit() -> String {
    let changed = if said("git", &["status", "--porcelain"]).is_empty() {
        ""
    } else {
        ", with changes"
    };
    said("git", &["rev-parse", "HEAD"]) + changed
}

/// EAL says its version before it reads anything else.
fn dpdk() -> String {
    let done = Command::new("dpdk-testpmd")
        .args(["-v", "--no-huge", "--no-pci", "--in-memory", "--help"])
        .output();
    let text = done.map_or(String::new(), |done| {
        String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
    });
    let version = text
        .lines()
        .find_map(|line| line.split_once("RTE Version:"));
    version.map_or(String::new(), |(_, version)| {
        version.trim().trim_matches('\'').to_owned()
    })
}

fn or_missing(version: String) -> String {
    if version.is_empty() {
        "not installed".to_owned()
    } else {
        version
    }
}

/// All of the machine, whatever this process is pinned to.
fn cores() -> usize {
    let text = read("/proc/cpuinfo");
    let each = text.lines().filter(|line| line.starts_with("processor"));
    each.count()
        .max(std::thread::available_parallelism().map_or(1, usize::from))
}

fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or(std::env::consts::ARCH.to_owned(), |(_, name)| {
        name.trim().to_owned()
    })
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output();
    done.map_or(String::new(), |done| {
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_machine_is_fit_for_a_file() {
        let name = Value::from("AMD EPYC(tm) 7763, 2 cores");
        let machine = Map::from_iter([("processor".to_owned(), name)]);
        assert_eq!(slug(&machine), "amd-epyc-tm-7763-2-cores");
        assert_eq!(slug(&Map::new()), "unknown");
    }
}
