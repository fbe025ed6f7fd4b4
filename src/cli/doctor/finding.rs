//! What was found, for people and for programs.

use serde::Serialize;
use std::fmt::Write;

/// How a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    Ready,
    NotReady,
    /// This machine does not tell, or has no such thing.
    Unknown,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What: one name for each kind of check, the same on every machine.
    pub check: &'static str,
    /// The NIC, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nic: Option<String>,
    pub state: State,
    /// What is there.
    pub found: String,
    /// What to run, in order; empty unless it is not ready.
    pub mend: Vec<String>,
}

impl Finding {
    pub fn ready(check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            check,
            nic: None,
            state: State::Ready,
            found: found.into(),
            mend: Vec::new(),
        }
    }

    pub fn unknown(check: &'static str, found: impl Into<String>) -> Finding {
        Finding {
            state: State::Unknown,
            ..Finding::ready(check, found)
        }
    }

    pub fn not_ready(
        check: &'static str,
        found: impl Into<String>,
        mend: impl IntoIterator<Item = String>,
    ) -> Finding {
        Finding {
            state: State::NotReady,
            mend: mend.into_iter().collect(),
            ..Finding::ready(check, found)
        }
    }

    /// The same, of a NIC.
    pub fn of(self, nic: &str) -> Finding {
        Finding {
            nic: Some(nic.to_string()),
            ..self
        }
    }
}

/// True if nothing is not ready.
pub(super) fn all_ready(findings: &[Finding]) -> bool {
    findings.iter().all(|one| one.state != State::NotReady)
}

/// A line for each, and under it what to run.
pub(super) fn table(findings: &[Finding]) -> String {
    let name = |one: &Finding| match &one.nic {
        Some(nic) => format!("{} {nic}", one.check),
        None => one.check.to_string(),
    };
    let width = findings
        .iter()
        .map(|one| name(one).len())
        .max()
        .unwrap_or(0);
    let mut text = String::new();
    for one in findings {
        let word = match one.state {
            State::Ready => "ready",
            State::NotReady => "NOT READY",
            State::Unknown => "unknown",
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "{word:9}  {:width$}  {}", name(one), one.found);
        for command in &one.mend {
            let _ = writeln!(text, "{:9}  {:width$}  > {command}", "", "");
        }
    }
    let bad = findings
        .iter()
        .filter(|one| one.state == State::NotReady)
        .count();
    let _ = match bad {
        0 => writeln!(text, "\nthis machine is ready"),
        _ => writeln!(
            text,
            "\n{bad} of {} are not ready; the lines with > are what to run or to do",
            findings.len()
        ),
    };
    text
}

/// `ready`, and every finding in `checks`.
pub(super) fn json(findings: &[Finding]) -> serde_json::Value {
    serde_json::json!({ "ready": all_ready(findings), "checks": findings })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ready_comes_with_its_command_and_makes_the_whole_not_ready() {
        let mut findings = vec![
            Finding::ready("kernel", "6.1"),
            Finding::unknown("governor", "none here"),
        ];
        assert!(all_ready(&findings));
        assert!(table(&findings).ends_with("\nthis machine is ready\n"));
        findings
            .push(Finding::not_ready("mtu", "9000", ["ip link set e0 mtu 1500".into()]).of("e0"));
        assert!(!all_ready(&findings));
        let text = table(&findings);
        assert!(text.contains("NOT READY  mtu e0    9000\n"), "{text}");
        assert!(text.contains("> ip link set e0 mtu 1500\n"), "{text}");
        assert!(text.contains("1 of 3 are not ready"), "{text}");
        let json = json(&findings);
        assert_eq!(json["ready"], false);
        assert_eq!(json["checks"][2]["state"], "not-ready");
        assert_eq!(json["checks"][2]["nic"], "e0");
        assert!(json["checks"][0].get("nic").is_none());
    }
}
