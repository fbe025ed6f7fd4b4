//! The dashboard: every expression of it, what it must not show, and Grafana's own types.

use super::{project, read};
use serde_json::Value;
use std::process::Command;

/// An expression, and where it stands.
pub struct Expression {
    pub panel: String,
    pub expr: String,
}

pub fn dashboard() -> Value {
    serde_json::from_str(&read("deploy/grafana/dashboards/portcullis.json")).expect("JSON")
}

fn panels(dashboard: &Value) -> Vec<Value> {
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let within = |panel: &Value| panel["panels"].as_array().cloned().unwrap_or_default();
    panels
        .flat_map(|panel| std::iter::once(panel.clone()).chain(within(panel)))
        .collect()
}

/// As Grafana asks them: its variables replaced, with windows for a scrape a second.
pub fn expressions() -> Vec<Expression> {
    let dashboard = dashboard();
    let mut all = Vec::new();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().into_iter().flatten() {
            all.push((panel["title"].clone(), target["expr"].clone()));
        }
    }
    for annotation in dashboard["annotations"]["list"]
        .as_array()
        .into_iter()
        .flatten()
    {
        all.push((
            annotation["name"].clone(),
            annotation["target"]["expr"].clone(),
        ));
    }
    all.into_iter()
        .map(|(panel, expr)| replaced(&panel, &expr))
        .collect()
}

fn replaced(panel: &Value, expr: &Value) -> Expression {
    let mut expr = expr.as_str().expect("an expression").to_owned();
    for (variable, value) in [
        ("$__rate_interval", "15s"),
        ("$__range", "60s"),
        ("$instance", "127.0.0.1:9155"),
    ] {
        expr = expr.replace(variable, value);
    }
    assert!(!expr.contains('$'), "a variable that nobody knows: {expr}");
    let panel = panel.as_str().expect("a title").to_owned();
    Expression { panel, expr }
}

#[test]
fn the_dashboard_is_what_grafana_takes_for_one() {
    let mut check = Command::new(project("deploy/grafana/check/check.sh"));
    let no_npm = Command::new("npm").arg("--version").output().is_err();
    if no_npm {
        eprintln!("not run: there is no npm to fetch @grafana/schema with");
        return;
    }
    let out = check.output().expect("check.sh");
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    if out.status.code() == Some(3) {
        eprintln!("not run: @grafana/schema cannot be had: {said}");
        return;
    }
    assert!(out.status.success(), "{said}");
    println!("{said}");
}

#[test]
fn panels_are_of_the_chosen_box_and_data_source_and_show_no_address() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "portcullis");
    let names: Vec<_> = dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
        .iter()
        .map(|variable| &variable["name"])
        .collect();
    assert_eq!(names, ["datasource", "instance"]);
    let mut ids = std::collections::BTreeSet::new();
    for panel in panels(&dashboard) {
        assert!(ids.insert(panel["id"].as_u64()), "an id twice: {panel}");
        for target in panel["targets"].as_array().into_iter().flatten() {
            assert_eq!(target["datasource"]["uid"], "${datasource}");
            let expr = target["expr"].as_str().expect("an expression");
            assert!(expr.contains("instance=\"$instance\""), "{expr}");
            // Addresses of hosts are there only where the config asks for them, and here never.
            assert!(!expr.contains("portcullis_host_"), "{expr}");
            let legend = target["legendFormat"].as_str().expect("a legend");
            assert!(!legend.contains("instance"), "{legend}");
            let graph = panel["type"] == "timeseries";
            assert!(
                !(graph && legend == "__auto"),
                "{}: no legend",
                panel["title"]
            );
        }
        if panel["type"] == "table" {
            let organize = &panel["transformations"][1]["options"]["excludeByName"];
            assert_eq!(organize["instance"], true, "{}", panel["title"]);
        }
    }
    let rows = panels(&dashboard);
    let rows: Vec<_> = rows
        .iter()
        .filter(|panel| panel["type"] == "row")
        .filter_map(|row| row["title"].as_str())
        .collect();
    let wanted = [
        "Overview",
        "Egress verdicts by rule",
        "Alerts by rule",
        "Drops by reason",
        "Decoys and the address of the box",
        "Data-plane health",
        "Latency",
    ];
    assert_eq!(rows, wanted);
}

#[test]
fn panels_do_not_overlap() {
    let panels = panels(&dashboard());
    let of = |panel: &Value| {
        let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
        (at("x"), at("y"), at("w"), at("h"))
    };
    for (n, one) in panels.iter().enumerate() {
        let (x, y, w, h) = of(one);
        assert!(x + w <= 24, "{} is too wide", one["title"]);
        for other in &panels[n + 1..] {
            let (x2, y2, w2, h2) = of(other);
            let apart = x + w <= x2 || x2 + w2 <= x || y + h <= y2 || y2 + h2 <= y;
            assert!(apart, "{} lies on {}", one["title"], other["title"]);
        }
    }
}
