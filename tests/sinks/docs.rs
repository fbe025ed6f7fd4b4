//! `docs/alerts.md` is held to what the program writes.

use super::*;
use portcullis::control::sink::text::json;
use serde_json::Value;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.md");
    std::fs::read_to_string(path).unwrap()
}

fn blocks(info: &str) -> Vec<String> {
    let page = page();
    let fence = format!("```{info}\n");
    let behind = page.split(&fence).skip(1);
    behind
        .map(|text| text.split("```").next().unwrap().to_owned())
        .collect()
}

#[test]
fn the_line_of_the_page_is_the_one_that_is_written() {
    let line = json(&Lines::new().of(9));
    assert_eq!(blocks("json"), [format!("{line}\n")]);
}

/// The paths of the values of an object.
fn paths(value: &Value, before: &str, found: &mut Vec<String>) {
    for (key, value) in value.as_object().unwrap() {
        match value {
            Value::Object(_) => paths(value, &format!("{key}."), found),
            _ => found.push(format!("{before}{key}")),
        }
    }
}

#[test]
fn every_field_of_a_line_stands_in_the_table_and_has_the_form_that_eve_gives_it() {
    let mut line = Lines::new().of(9);
    (line.icmp_type, line.icmp_code) = (Some(8), Some(0));
    line.vlan = vec![7];
    line.alert.shadow = true;
    line.alert.hint = Some(String::new());
    line.alert.more_destinations = true;
    line.alert.to = vec![String::new()];
    line.alert.evidence = Some("a".into());
    // What a payload shows is listed below the table.
    line.shown.clear();
    line.alert.host_name = Some(String::new());
    line.alert.host_name_from = Some("dhcp");
    let line = serde_json::to_value(&line).unwrap();
    let mut found = Vec::new();
    paths(&line, "", &mut found);
    let page = page();
    let cells: Vec<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next())
        .collect();
    for path in &found {
        let named = cells
            .iter()
            .any(|cell| cell.split(['`', ',', ' ']).any(|name| name == path));
        assert!(named, "`{path}` is not in the table");
    }
    assert!(found.len() > 30, "{found:?}");
    for field in ["flow_id", "src_port", "dest_port", "icmp_type", "icmp_code"] {
        assert!(line[field].is_u64(), "{field}");
    }
    for field in ["gid", "signature_id", "rev", "severity"] {
        assert!(line["alert"][field].is_u64(), "{field}");
    }
    // The pattern of `timestamp` in Suricata's etc/schema.json.
    let time = line["timestamp"].as_str().unwrap();
    let shape: String = time
        .chars()
        .map(|c| if c.is_ascii_digit() { '0' } else { c })
        .collect();
    assert_eq!(shape, "0000-00-00T00:00:00.000000+0000");
}

#[test]
fn both_directions_of_a_flow_have_one_id_and_other_ports_another() {
    let mut lines = Lines::new();
    let (one, other) = (lines.of(1), lines.of(2));
    assert_ne!(one.flow_id, other.flow_id);
    assert!(one.flow_id.unwrap() < 1 << 53);
    assert_eq!(one.alert.signature_id, other.alert.signature_id);
    assert_eq!(one.in_iface.as_deref(), Some("enp1s0"));
}

#[test]
fn every_config_of_the_page_loads() {
    let dir = tempfile::tempdir().unwrap();
    rig::tls_files(dir.path()).unwrap();
    std::fs::copy(dir.path().join("ca.pem"), dir.path().join("syslog-ca.pem")).unwrap();
    std::fs::write(dir.path().join("hook.token"), "token\n").unwrap();
    let blocks = blocks("toml");
    for block in &blocks {
        let here = block.replace("/etc/portcullis/", "");
        if let Err(error) = config::parse(&here, "docs/alerts.md", dir.path()) {
            panic!("{}", config::error::render(&error.problems, false));
        }
    }
    assert_eq!(blocks.len(), 6);
}
