//! `docs/monitoring.md` is held to what a live gate prints.

use super::common::gate::{config, get};
use super::common::{Gate, Lab, SOON, until};
use super::expressions::with_a_set_file;
use super::read;
use std::collections::{BTreeMap, BTreeSet};

/// Type and labels, by name.
type Metrics = BTreeMap<String, (String, BTreeSet<String>)>;

/// The rows of the tables: ``| `name` | type | `label`, `label` | meaning |``.
fn documented() -> Metrics {
    let mut metrics = Metrics::new();
    for line in read("docs/monitoring.md").lines() {
        let Some(row) = line.strip_prefix("| `portcullis_") else {
            continue;
        };
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let name = format!("portcullis_{}", cells[0].trim_end_matches('`'));
        let labels = cells[2].split('`').skip(1).step_by(2).map(str::to_owned);
        assert!(cells[3].len() > 5, "{name} means nothing");
        let row = (cells[1].to_owned(), labels.collect());
        assert!(metrics.insert(name.clone(), row).is_none(), "{name} twice");
    }
    metrics
}

/// The names of the labels of a series.
fn labels(series: &str) -> BTreeSet<String> {
    // What stands between quotes is a value.
    let names = series.split('"').step_by(2);
    names
        .filter_map(|part| part.strip_suffix('='))
        .map(|name| name.trim_start_matches([',', '{']).to_owned())
        .filter(|name| name != "le")
        .collect()
}

fn printed(page: &str) -> Metrics {
    let mut metrics = Metrics::new();
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').expect("a type");
            metrics.insert(name.to_owned(), (kind.to_owned(), BTreeSet::new()));
        } else if !line.starts_with('#') {
            let at = line.find(['{', ' ']).expect("a value");
            let name = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| line[..at].strip_suffix(end))
                .filter(|family| metrics.contains_key(*family))
                .unwrap_or(&line[..at]);
            let series = line[at..].rsplit_once(' ').expect("a value").0;
            let (_, found) = metrics.get_mut(name).expect("a type before it");
            found.extend(labels(series));
        }
    }
    metrics
}

#[test]
fn the_page_has_every_metric_of_a_live_gate_and_no_other() {
    let Some(lab) = Lab::addressed() else { return };
    let more = format!(
        "[metrics]\nlisten = \"127.0.0.1:9155\"\nhosts = 10\n[evidence]\ndir = \"{}\"\n\
         [inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.9\"\n",
        lab.dir().join("kept").display()
    );
    let config = with_a_set_file(&lab, &config(&lab, "", &more));
    let _gate = Gate::with(&lab, &config);
    let page = until("metrics", SOON, || Some(get(&lab, "/metrics").1));
    let (printed, documented) = (printed(&page), documented());
    for (name, was) in &printed {
        assert_eq!(
            documented.get(name),
            Some(was),
            "{name} in docs/monitoring.md"
        );
    }
    for name in documented.keys() {
        assert!(
            printed.contains_key(name),
            "{name} is documented and not there"
        );
    }
    assert!(printed.len() > 50, "{}", printed.len());
}
