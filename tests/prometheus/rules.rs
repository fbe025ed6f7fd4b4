//! The rule files: as promtool sees them, as the page tells of them, and with short times for the tests that cannot wait.

use super::{of_debian, project, read};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

pub const FILES: [&str; 2] = ["recording.yml", "alerts.yml"];

fn parsed(file: &str) -> Value {
    let text = read(&format!("deploy/prometheus/rules/{file}"));
    serde_saphyr::from_str(&text).expect("YAML")
}

/// The rules of a file, in its order.
pub fn rules(file: &str) -> Vec<Value> {
    let groups = parsed(file)["groups"].clone();
    let groups = groups.as_array().expect("groups").iter();
    groups
        .flat_map(|group| group["rules"].as_array().expect("rules").clone())
        .collect()
}

/// The names of the alert rules.
pub fn alerts() -> Vec<String> {
    let name = |rule: Value| rule["alert"].as_str().expect("a name").to_owned();
    rules("alerts.yml").into_iter().map(name).collect()
}

/// What stands for a window of minutes in a test of seconds: scrapes come once a second.
pub fn shortened(expr: &str) -> String {
    let mut expr = expr.to_owned();
    for (long, short) in [("[5m]", "[15s]"), ("[15m]", "[60s]"), ("[1h]", "[60s]")] {
        expr = expr.replace(long, short);
    }
    expr
}

/// Writes the rules into `dir`, their windows shortened and every `for` a second: a test cannot wait for a week. Thresholds, labels and
/// the rest of each expression stay as they are shipped.
pub fn write_short(dir: &Path) {
    for file in FILES {
        let mut all = parsed(file);
        for group in all["groups"].as_array_mut().expect("groups") {
            group["interval"] = json!("1s");
            for rule in group["rules"].as_array_mut().expect("rules") {
                rule["expr"] = json!(shortened(rule["expr"].as_str().expect("expr")));
                if rule.get("for").is_some() {
                    rule["for"] = json!("1s");
                }
            }
        }
        // JSON is YAML.
        std::fs::write(dir.join(file), all.to_string()).expect("a rule file");
    }
}

fn promtool(arguments: &[&str], dir: &str) {
    let out = Command::new(of_debian("promtool"))
        .args(arguments)
        .current_dir(project(dir))
        .output()
        .expect("promtool runs");
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn promtool_takes_the_scrape_config_and_the_rules() {
    promtool(
        &["check", "config", "--lint-fatal", "scrape.yml"],
        "deploy/prometheus",
    );
    for file in FILES {
        let file = format!("rules/{file}");
        promtool(
            &["check", "rules", "--lint-fatal", &file],
            "deploy/prometheus",
        );
    }
}

#[test]
fn every_rule_has_a_promtool_test_and_passes_it() {
    for (file, tests) in [
        ("alerts.yml", &["alerts.yml", "alerts-of-days.yml"][..]),
        ("recording.yml", &["recording.yml"]),
    ] {
        let mut tested = BTreeSet::new();
        for tests in tests {
            promtool(
                &["test", "rules", &format!("tests/{tests}")],
                "deploy/prometheus",
            );
            let text = read(&format!("deploy/prometheus/tests/{tests}"));
            let text: Value = serde_saphyr::from_str(&text).expect("YAML");
            let names = text["tests"].as_array().expect("tests").iter();
            tested.extend(names.filter_map(|test| test["name"].as_str().map(String::from)));
        }
        for rule in rules(file) {
            let name = rule["alert"].as_str().or(rule["record"].as_str());
            let name = name.expect("a name");
            assert!(tested.contains(name), "no test of {name} of {file}");
        }
    }
}

/// promtool is asked by the hour alone.
#[test]
fn a_rule_in_shadow_is_an_alert_after_a_week() {
    let rules = rules("alerts.yml");
    let rule = rules
        .iter()
        .find(|rule| rule["alert"] == "PortcullisRuleInShadow");
    assert_eq!(rule.expect("the alert")["for"], "7d");
}

#[test]
fn every_alert_says_how_bad_it_is_and_what_to_do_and_stands_in_the_page() {
    let page = read("docs/monitoring.md");
    for rule in rules("alerts.yml") {
        let name = rule["alert"].as_str().expect("a name");
        let severity = rule["labels"]["severity"].as_str().unwrap_or("none");
        assert!(
            ["critical", "warning", "info"].contains(&severity),
            "{name}"
        );
        for text in ["summary", "description"] {
            let text = rule["annotations"][text].as_str();
            assert!(text.is_some_and(|text| text.len() > 20), "{name}: {text:?}");
        }
        let line = format!("| `{name}` | {severity} |");
        assert!(page.contains(&line), "docs/monitoring.md has no `{line}`");
    }
    let told = page
        .lines()
        .filter(|line| line.starts_with("| `Portcullis"));
    assert_eq!(told.count(), alerts().len(), "alerts that are not there");
}

#[test]
fn names_of_recorded_series_are_level_metric_operations() {
    for rule in rules("recording.yml") {
        let name = rule["record"].as_str().expect("a name");
        let parts: Vec<_> = name.split(':').collect();
        let [level, metric, operations] = parts[..] else {
            panic!("{name} has {} parts", parts.len());
        };
        assert!(level.starts_with("instance"), "{name}");
        assert!(metric.starts_with("portcullis_"), "{name}");
        // Of a rate the `_total` of its counter is gone.
        assert!(!metric.ends_with("_total"), "{name}");
        assert!(!operations.is_empty(), "{name}");
    }
}
