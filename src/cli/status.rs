//! `portcullis status`.

use super::{Gate, print_json};
use crate::control::socket::Request;
use serde_json::Value;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    gate: Gate,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> ExitCode {
        match self.gate.ask(&Request::Status) {
            Ok(status) if self.json => print_json(&status),
            Ok(status) => {
                print!("{}", human(&status));
                ExitCode::SUCCESS
            }
            Err(code) => code,
        }
    }
}

fn human(status: &Value) -> String {
    let mut out = format!(
        "portcullis {}, process {}, up {} s, {}\n\n",
        text(&status["version"]),
        status["pid"],
        status["uptime_s"],
        if status["healthy"] == true {
            "healthy"
        } else {
            "NOT HEALTHY: a worker does not turn"
        },
    );
    if status["shadow"] == true {
        out += "SHADOW: NOTHING IS ENFORCED. Every frame is forwarded; what would have been dropped is counted and alerted on.\n\n";
    }
    if let Some(taken) = status["taken_over"].as_object() {
        let waited = taken["waiting"].as_array().into_iter().flatten();
        out += &format!(
            "Taken over from the process before: nobody filtered for {} ms, and {} frames waited.{}\n\n",
            taken["gap_us"].as_u64().unwrap_or(0) / 1000,
            waited.filter_map(Value::as_u64).sum::<u64>(),
            match taken["late"] == true {
                true =>
                    " That was longer than [bridge] handover: on_failure ruled at the end of it.",
                false => "",
            }
        );
    }
    let reloads = &status["reloads"];
    if let Some(error) = reloads["error"].as_str() {
        out += &format!("CONFIG NOT TAKEN, the one before is in force: {error}\n\n");
    }
    if let Some(until) = reloads["confirm_until"].as_u64() {
        let left = until.saturating_sub(crate::control::status::now() / 1_000_000_000);
        out += &format!(
            "The config in force is taken back in {left} s unless `portcullis commit` confirms it.\n\n"
        );
    }
    for (name, port) in status["ports"].as_object().into_iter().flatten() {
        let list = |key: &str| -> Vec<String> {
            let counts = port[key].as_object().into_iter().flatten();
            counts.map(|(reason, n)| format!("{reason} {n}")).collect()
        };
        let (dropped, shadow) = (list("dropped"), list("shadow"));
        let sum: u64 = port["dropped"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(_, n)| n.as_u64())
            .sum();
        out += &format!(
            "{name:<7}{} ({}, queues: {})\n       rx {} = forwarded {} + dropped {sum} + rejected {} + to host stack {};  forwarded {} = tx {} + tx failed {}  [{}]\n",
            text(&port["interface"]),
            text(&port["mode"]),
            port["queues"],
            port["rx"],
            port["forwarded"],
            port["rejected"],
            port["to_host_stack"],
            port["forwarded"],
            port["tx"],
            port["tx_failed"],
            balance(port),
        );
        for (key, words) in [
            (
                "gate_no_socket",
                "dropped in the kernel while nobody was there",
            ),
            ("gate_stale", "dropped in the kernel while no worker turned"),
            ("gate_unfiltered", "PASSED UNFILTERED while nobody filtered"),
        ] {
            if port[key].as_u64().is_some_and(|n| n > 0) {
                out += &format!(
                    "       since the gate was attached: {} frames {words}\n",
                    port[key]
                );
            }
        }
        if !dropped.is_empty() {
            out += &format!("       dropped: {}\n", dropped.join(", "));
        }
        if !shadow.is_empty() {
            out += &format!(
                "       forwarded, would have been dropped: {}\n",
                shadow.join(", ")
            );
        }
    }
    out += &flows(&status["flows"]);
    out += &decoys(status);
    out += &inband(&status["inband"]);
    out += &format!(
        "\n{:<24}{:>14}{:>18}{:>10}\n",
        "rule", "packets", "bytes", "alerts"
    );
    for (name, hits) in status["rules"].as_object().into_iter().flatten() {
        let note = match (&hits["expired"], &hits["shadow"]) {
            (Value::Bool(true), _) => "  expired",
            (_, Value::Bool(true)) => "  in shadow",
            _ => "",
        };
        out += &format!(
            "{name:<24}{:>14}{:>18}{:>10}{note}\n",
            hits["packets"].to_string(),
            hits["bytes"].to_string(),
            hits["alerts"].to_string()
        );
    }
    for held in status["quarantine"].as_array().into_iter().flatten() {
        out += &format!("\nin quarantine: {}", super::quarantine::line(held));
    }
    if !out.ends_with('\n') {
        out.push('\n');
    }
    out + &sinks(status) + &evidence(status) + &sets(status)
}

/// Where alert lines go, and how that goes.
fn sinks(status: &Value) -> String {
    let mut out = format!(
        "\n{:<24}{:<14}{:<9}{:>10}{:>10}{:>8}\n",
        "sink", "kind", "state", "sent", "waiting", "lost"
    );
    for (name, sink) in status["sinks"].as_object().into_iter().flatten() {
        out += &format!(
            "{name:<24}{:<14}{:<9}{:>10}{:>10}{:>8}\n",
            text(&sink["kind"]),
            text(&sink["state"]),
            sink["sent"].to_string(),
            sink["waiting"].to_string(),
            sink["lost"].to_string(),
        );
        if let (Some(error), "failing") = (sink["last_error"].as_str(), text(&sink["state"])) {
            out += &format!("    {error}\n");
        }
    }
    out
}

/// What is kept of the frames behind alerts.
fn evidence(status: &Value) -> String {
    let kept = &status["evidence"];
    let Some(dir) = kept["dir"].as_str() else {
        return String::new();
    };
    let mut out = format!(
        "\nevidence  {} captures since the start, {} bytes in {dir}",
        kept["captures"], kept["bytes"]
    );
    for (key, words) in [
        ("skipped", "incidents without one"),
        ("errors", "refused by the disk"),
        ("missed_frames", "frames not recorded"),
    ] {
        if kept[key].as_u64().is_some_and(|n| n > 0) {
            out += &format!(", {} {words}", kept[key]);
        }
    }
    out.push('\n');
    out
}

/// How full the flow table is, and what did not go as usual.
fn flows(flows: &Value) -> String {
    let mut out = format!(
        "\nflows  {} live, {} opened",
        flows["live"], flows["opened"]
    );
    for (key, words) in [
        ("adopted", "adopted at the start"),
        ("evicted", "thrown out for want of room"),
        ("refused_full", "refused by a full table"),
        ("refused_host", "refused to a host with too many"),
        ("ended", "ended by a new policy"),
        ("fragments_held", "fragments held"),
    ] {
        if flows[key].as_u64().is_some_and(|n| n > 0) {
            out += &format!(", {} {words}", flows[key]);
        }
    }
    out.push('\n');
    out
}

/// What decoys did, where a rule has them speak or had until a reload.
fn decoys(status: &Value) -> String {
    let decoys = &status["decoys"];
    let mut rules = status["rules"].as_object().into_iter().flatten();
    if !rules.any(|(_, rule)| rule["action"] == "decoy") && decoys["begun"].as_u64() == Some(0) {
        return String::new();
    }
    let mut out = format!(
        "decoys  {} conversations open, {} begun, {} refused",
        decoys["open"],
        decoys["begun"],
        decoys["refused"].as_u64().unwrap_or(0) + decoys["refused_host"].as_u64().unwrap_or(0),
    );
    if decoys["refused_host"].as_u64().is_some_and(|n| n > 0) {
        out += &format!(
            " ({} to a host that had as many as it may)",
            decoys["refused_host"]
        );
    }
    out += &besides(
        decoys,
        &[
            ("strays", "frames of no conversation"),
            ("unsent", "frames found no room on their way out"),
            ("unreported", "that no alert tells of"),
        ],
    );
    out
}

/// The box's own address, and who uses it.
fn inband(inband: &Value) -> String {
    if inband.is_null() {
        return String::new();
    }
    let addresses = inband["addresses"].as_array().into_iter().flatten();
    let addresses: Vec<&str> = addresses.filter_map(Value::as_str).collect();
    let mut out = format!(
        "in band  {} port {}, {} connections open, {} served, frames: {} received, {} sent",
        addresses.join(" and "),
        inband["port"],
        inband["open"],
        inband["opened"],
        inband["received"],
        inband["sent"],
    );
    out += &besides(
        inband,
        &[
            ("refused", "connections that nobody had time for"),
            ("unsent", "frames found no room on their way out"),
            ("narrowed", "messages that a packet was too big"),
        ],
    );
    out
}

/// The counts that are not nothing, and the end of the line.
fn besides(counts: &Value, names: &[(&str, &str)]) -> String {
    let mut out = String::new();
    for (key, words) in names {
        if counts[*key].as_u64().is_some_and(|n| n > 0) {
            out += &format!(", {} {words}", counts[*key]);
        }
    }
    out + "\n"
}

/// The sets that come from files, and what is wrong with those files.
fn sets(status: &Value) -> String {
    let mut out = String::new();
    for (name, set) in status["sets"].as_object().into_iter().flatten() {
        let file = text(&set["file"]);
        out += &format!(
            "\nset @{name}: {} entries from {file}, changed {} times",
            set["entries"], set["reloads"]
        );
        if let Some(error) = set["error"].as_str() {
            out += &format!("\n    NOT TAKEN, the entries above are from before: {error}");
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    out
}

/// Frames between the verdict and the wire are counted as forwarded and not yet as sent.
fn balance(port: &Value) -> String {
    let n = |name: &str| port[name].as_u64().unwrap_or(0);
    let under_way = n("forwarded").saturating_sub(n("tx") + n("tx_failed"));
    if port["balanced"] == true {
        "balanced".into()
    } else {
        format!("not settled: {under_way} frames forwarded and not yet sent")
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn decoys_are_told_of_where_there_are_some() {
        let counts = |begun: u64| json!({ "open": 1, "begun": begun, "refused": 4, "refused_host": 3, "strays": 0, "unsent": 2, "unreported": 0 });
        let with = |action: &str, begun| {
            let rules = json!({ "irc": { "action": action } });
            decoys(&json!({ "decoys": counts(begun), "rules": rules }))
        };
        let told = "decoys  1 conversations open, 9 begun, 7 refused (3 to a host that had as many as it may), 2 frames found no room on their way out\n";
        assert_eq!(with("decoy", 9), told);
        assert_eq!(with("drop", 9), told);
        assert!(with("decoy", 0).contains("0 begun"));
        assert_eq!(with("drop", 0), "");
    }

    #[test]
    fn the_boxs_own_address_is_told_of_where_there_is_one() {
        assert_eq!(inband(&Value::Null), "");
        let told = inband(&json!({
            "addresses": ["10.77.0.2", "fd77::2"], "port": 9155, "received": 70, "sent": 65, "unsent": 0, "open": 1, "opened": 12, "refused": 3, "narrowed": 0,
        }));
        assert_eq!(
            told,
            "in band  10.77.0.2 and fd77::2 port 9155, 1 connections open, 12 served, frames: 70 received, 65 sent, 3 connections that nobody had time for\n"
        );
    }
}
