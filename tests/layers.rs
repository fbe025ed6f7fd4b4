//! Which module may use which: the data plane never depends on the control plane.

use std::collections::BTreeSet;
use std::path::Path;

/// A module, and the modules of this crate that it may name in `use crate::…`. What is not listed is not allowed.
const ALLOWED: &[(&str, &[&str])] = &[
    // Reasons stand at the bottom; an event record carries a frame's Meta and its verdict.
    ("telemetry", &["telemetry", "app", "frame", "policy"]),
    ("frame", &["frame", "telemetry"]),
    ("policy", &["policy", "app", "frame", "telemetry"]),
    // Bytes alone.
    ("app", &["app"]),
    // What the rules said of a flow, and the reasons and counters of those that get none.
    ("flow", &["flow", "app", "frame", "policy", "telemetry"]),
    ("action", &["action", "frame", "policy"]),
    // The box's own stack judges nothing: it reads headers again, and says which rule a conversation is of.
    (
        "hoststack",
        &["hoststack", "app", "frame", "policy", "telemetry"],
    ),
    // A port moves frames and judges none; only the capture port asks the parser which side a frame is from.
    ("port", &["port"]),
    ("port/pcap.rs", &["port", "frame", "policy"]),
    (
        "worker",
        &[
            "worker",
            "action",
            "app",
            "flow",
            "frame",
            "policy",
            "port",
            "telemetry",
        ],
    ),
    // A worker's way to the box's own stack is a pair of rings.
    (
        "worker/host.rs",
        &[
            "worker",
            "hoststack",
            "frame",
            "policy",
            "port",
            "telemetry",
        ],
    ),
    ("config", &["config", "policy"]),
    // The baseline names applications.
    ("config/baseline.rs", &["config", "app", "policy"]),
    // A packet that a person writes down has the family that parsing would give it.
    ("config/packet.rs", &["config", "frame", "policy"]),
    // `[flows]` is what the flow table takes.
    ("config/flows.rs", &["config", "flow"]),
    ("os", &["os"]),
    (
        "control",
        &[
            "control",
            "action",
            "app",
            "config",
            "flow",
            "frame",
            "hoststack",
            "os",
            "policy",
            "port",
            "telemetry",
            "worker",
        ],
    ),
    (
        "cli",
        &[
            "cli",
            "action",
            "app",
            "config",
            "control",
            "flow",
            "os",
            "policy",
            "port",
            "telemetry",
            "worker",
        ],
    ),
    // `bench ceiling` runs the loop itself, stage by stage.
    (
        "cli/bench/inside",
        &[
            "cli",
            "action",
            "config",
            "flow",
            "frame",
            "policy",
            "port",
            "telemetry",
            "worker",
        ],
    ),
];

/// The same of `crates/traffic`: what is sent and what is counted knows no NIC, and a test knows nothing of sockets.
const TRAFFIC: &[(&str, &[&str])] = &[
    ("flow.rs", &[]),
    ("mark.rs", &[]),
    ("pace.rs", &[]),
    ("size.rs", &[]),
    ("window.rs", &[]),
    ("tally.rs", &["mark", "window"]),
    ("frames.rs", &["flow", "mark", "size"]),
    ("load.rs", &["flow", "frames", "mark", "size"]),
    ("policy.rs", &["flow", "frames"]),
    ("outcome.rs", &["pace", "tally"]),
    ("program.rs", &["port"]),
    ("port.rs", &["frames", "program"]),
    ("failure.rs", &["frames", "port"]),
    ("work.rs", &["failure", "load", "pace", "port", "tally"]),
    ("sink.rs", &["mark", "port", "tally", "tester", "work"]),
    (
        "tester.rs",
        &[
            "failure", "frames", "load", "mark", "outcome", "pace", "port", "tally", "work",
        ],
    ),
    (
        "opening.rs",
        &[
            "failure", "flow", "frames", "load", "pace", "tally", "tester", "work",
        ],
    ),
    ("search.rs", &["failure", "outcome", "pace"]),
    ("report", &["outcome", "search", "size"]),
    (
        "suite.rs",
        &[
            "failure", "load", "outcome", "pace", "report", "search", "size", "tester",
        ],
    ),
    (
        "mix.rs",
        &[
            "failure", "flow", "frames", "load", "opening", "outcome", "pace", "policy", "report",
            "search", "size", "suite", "tester",
        ],
    ),
];

/// Of `telemetry`, the reasons alone are below `frame`.
const BOTTOM: &str = "telemetry/reason.rs";

fn files(dir: &Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The modules that the code of a file (its tests left out) names behind `crate::`.
fn used(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or("");
    let lines = code
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let mut found = BTreeSet::new();
    for line in lines {
        for part in line.split("crate::").skip(1) {
            let name: String = part
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            found.insert(name);
        }
    }
    found
}

/// Holds every file below `src` to the list; how many there are.
fn hold(src: &Path, allowed: &[(&str, &[&str])]) -> usize {
    let mut all = Vec::new();
    files(src, &mut all);
    let mut seen = 0;
    for path in all {
        let name = path.strip_prefix(src).unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let used = used(&text);
        if name == BOTTOM {
            assert!(used.is_empty(), "{name} uses {used:?}");
        }
        let rule = allowed
            .iter()
            .filter(|(module, _)| name == *module || name.starts_with(&format!("{module}/")))
            .max_by_key(|(module, _)| module.len());
        let Some((_, allowed)) = rule else {
            assert!(
                matches!(name, "lib.rs" | "main.rs"),
                "{name} has no place in the layers"
            );
            continue;
        };
        seen += 1;
        for module in used {
            assert!(
                allowed.contains(&module.as_str()),
                "{name} uses crate::{module}"
            );
        }
    }
    seen
}

#[test]
fn each_module_uses_only_the_layers_below_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let seen = hold(&root.join("src"), ALLOWED);
    assert!(seen > 30, "only {seen} files were looked at");
    let seen = hold(&root.join("crates/traffic/src"), TRAFFIC);
    assert!(seen > 15, "only {seen} files were looked at");
}

/// Where the crate may be unsafe beside `crates/af_xdp`: the look-up in the rule table, for which a benchmark paid
/// (`benches/classify.rs`).
const UNSAFE: &str = "policy/table/kernel/mod.rs";

#[test]
fn unsafe_code_is_in_the_af_xdp_crate_and_in_the_kernels_of_the_rule_table_alone() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut all = Vec::new();
    files(&src, &mut all);
    // Whoever is not lib.rs and names the lint, lifts it.
    let lifts = |path: &std::path::PathBuf| {
        let name = path.strip_prefix(&src).unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        (name != "lib.rs" && text.contains("unsafe_code")).then(|| name.to_owned())
    };
    let allowed: Vec<String> = all.iter().filter_map(lifts).collect();
    // Once, for the whole module: its doc says why.
    assert_eq!(allowed, [UNSAFE]);
    let lib = std::fs::read_to_string(src.join("lib.rs")).unwrap();
    assert!(lib.contains("#![deny(unsafe_code)]"));
}
