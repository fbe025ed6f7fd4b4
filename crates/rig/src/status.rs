//! What a gate says about itself: its counters, and its alerts.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The counters of one port. Frames, but for `rx_bytes`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PortCounters {
    /// Received.
    pub rx: u64,
    /// Received, in bytes.
    pub rx_bytes: u64,
    /// Judged to go on.
    pub forwarded: u64,
    /// Judged not to, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Answered instead of forwarded.
    pub rejected: u64,
    /// Handed to the gate's own stack.
    pub to_host_stack: u64,
    /// Forwarded, and taken by the other port.
    pub tx: u64,
    /// Forwarded, and not taken by the other port.
    pub tx_failed: u64,
}

impl PortCounters {
    /// All drops.
    pub fn dropped_in_all(&self) -> u64 {
        self.dropped.values().sum()
    }

    /// The law of accounting: every frame received has exactly one fate, and so has every frame forwarded.
    pub fn balances(&self) -> bool {
        self.rx == self.forwarded + self.dropped_in_all() + self.rejected + self.to_host_stack
            && self.forwarded == self.tx + self.tx_failed
    }
}

/// The counters of one rule.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct RuleCounters {
    /// Frames it decided.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Alerts it raised.
    pub alerts: u64,
}

/// What `portcullis status --json` prints, as far as the rig looks at it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Status {
    /// By name: `lan`, `uplink`.
    pub ports: BTreeMap<String, PortCounters>,
    /// By name.
    pub rules: BTreeMap<String, RuleCounters>,
    /// Whether the gate itself says that both ports balance.
    pub balanced: bool,
}

impl Status {
    /// Reads the JSON form.
    pub fn parse(json: &str) -> Result<Status> {
        serde_json::from_str(json).map_err(|e| Error::Answer {
            what: "the status of the gate".to_owned(),
            said: e.to_string(),
        })
    }

    /// True where both ports are there and balance by the rig's own arithmetic, and the gate says so too.
    pub fn holds(&self) -> bool {
        self.balanced
            && ["lan", "uplink"]
                .iter()
                .all(|p| self.ports.get(*p).is_some_and(PortCounters::balances))
    }

    /// Frames that `rule` has decided.
    pub fn packets(&self, rule: &str) -> u64 {
        self.rules.get(rule).map_or(0, |counters| counters.packets)
    }
}

/// One line of an alert file, as far as the rig looks at it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Alert {
    /// When, as the gate writes it.
    pub timestamp: String,
    /// From where.
    pub src_ip: String,
    /// To where.
    pub dest_ip: String,
    /// Transport protocol.
    pub proto: String,
    /// Source port, where there are ports.
    pub src_port: Option<u16>,
    /// Destination port, where there are ports.
    pub dest_port: Option<u16>,
    /// The rule and how loud it is.
    pub alert: Signature,
}

/// Which rule alerted.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Signature {
    /// The rule's name.
    pub signature: String,
    /// A number or a word, as the gate writes it.
    pub severity: serde_json::Value,
}

/// The alerts in `file`: its whole lines with `"event_type":"alert"`; none where there is no such file yet.
pub fn read_alerts(file: &Path) -> Result<Vec<Alert>> {
    match std::fs::read_to_string(file) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(Error::io(format!("reading {}", file.display()))(e)),
        Ok(text) => parse_alerts(&text),
    }
}

/// The alerts in the text of an alert file.
pub fn parse_alerts(text: &str) -> Result<Vec<Alert>> {
    let bad = |e: serde_json::Error| Error::Answer {
        what: "the alert file".to_owned(),
        said: e.to_string(),
    };
    let mut alerts = Vec::new();
    // A line that is still being written has no line feed.
    for line in text
        .split_inclusive('\n')
        .filter_map(|line| line.strip_suffix('\n'))
    {
        let event: serde_json::Value = serde_json::from_str(line).map_err(bad)?;
        if event["event_type"] == "alert" {
            alerts.push(serde_json::from_value(event).map_err(bad)?);
        }
    }
    Ok(alerts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = r#"{"ports":{
        "lan":{"rx":10,"rx_bytes":900,"forwarded":6,"dropped":{"rule":2,"malformed":1},"rejected":1,"to_host_stack":0,
               "tx":5,"tx_failed":1,"rx_ring_full":0},
        "uplink":{"rx":4,"forwarded":4,"tx":4}},
        "rules":{"tftp":{"packets":2,"bytes":120,"alerts":1}},"balanced":true,"generation":1}"#;

    #[test]
    fn a_status_whose_ports_balance_holds() {
        let status = Status::parse(STATUS).unwrap();
        assert!(status.holds());
        assert_eq!((status.packets("tftp"), status.packets("irc")), (2, 0));
    }

    #[test]
    fn a_lost_frame_breaks_the_balance_whatever_the_gate_says() {
        let lost = STATUS.replace(r#""rx":10"#, r#""rx":11"#);
        assert!(!Status::parse(&lost).unwrap().holds());
        let unsent = STATUS.replace(r#""tx_failed":1"#, r#""tx_failed":0"#);
        assert!(!Status::parse(&unsent).unwrap().holds());
    }

    #[test]
    fn a_status_without_ports_does_not_hold() {
        assert!(!Status::parse(r#"{"balanced":true}"#).unwrap().holds());
    }

    #[test]
    fn alerts_are_read_line_by_line_and_an_unfinished_line_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("alerts.jsonl");
        assert!(read_alerts(&file).unwrap().is_empty());
        let text = concat!(
            r#"{"event_type":"start"}"#,
            "\n",
            r#"{"event_type":"alert","src_ip":"10.77.0.9","dest_port":69,"alert":{"signature":"tftp","severity":1}}"#,
            "\n",
            r#"{"event_type":"al"#
        );
        std::fs::write(&file, text).unwrap();
        let alerts = read_alerts(&file).unwrap();
        assert_eq!(alerts.len(), 1);
        assert_eq!(
            (alerts[0].alert.signature.as_str(), alerts[0].dest_port),
            ("tftp", Some(69))
        );
    }
}
