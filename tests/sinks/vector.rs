//! `deploy/vector/portcullis.yaml`, as far as its syntax goes; the whole of it where there is a Vector to ask.

use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::process::Command;

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/vector/portcullis.yaml")
}

fn components<'a>(config: &'a Value, part: &str) -> &'a Map<String, Value> {
    config[part].as_object().unwrap()
}

#[test]
fn the_vector_config_reads_the_alert_file_and_each_input_is_a_component() {
    let text = std::fs::read_to_string(path()).unwrap();
    let config: Value = serde_saphyr::from_str(&text).unwrap();
    let (sources, transforms) = (
        components(&config, "sources"),
        components(&config, "transforms"),
    );
    let file = "/var/log/portcullis/alerts.jsonl";
    assert_eq!(sources["alerts"]["include"], serde_json::json!([file]));
    let sinks = components(&config, "sinks");
    let kinds: Vec<_> = sinks
        .values()
        .map(|sink| sink["type"].as_str().unwrap())
        .collect();
    for kind in ["kafka", "nats", "loki", "clickhouse"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    let mut read = Vec::new();
    for (name, component) in transforms.iter().chain(sinks) {
        let inputs = component["inputs"].as_array().unwrap();
        assert!(!inputs.is_empty(), "{name}");
        for input in inputs {
            let input = input.as_str().unwrap();
            let there = sources.contains_key(input) || transforms.contains_key(input);
            assert!(there, "{name} reads {input}");
            read.push(input);
        }
    }
    for name in sources.keys().chain(transforms.keys()) {
        assert!(read.contains(&&**name), "nobody reads {name}");
    }
    // The config that is shipped writes where this one reads.
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/portcullis.toml");
    assert!(std::fs::read_to_string(shipped).unwrap().contains(file));
}

#[test]
fn vector_takes_the_config() {
    let mut command = Command::new("vector");
    command.args(["validate", "--no-environment"]).arg(path());
    match command.output() {
        Ok(output) => assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stdout)
        ),
        Err(_) => eprintln!("vector_takes_the_config: not run, there is no vector"),
    }
}
