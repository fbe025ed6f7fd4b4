//! What the demo found, as text and as JSON.

use std::fmt::Write;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::{Metrics, is_missing};
use crate::{Alert, Attempt, Expect, Got, PortCounters, Status};

/// One attempt, and what became of it.
#[derive(Debug, Serialize)]
struct Row {
    attempt: &'static str,
    from: &'static str,
    to: String,
    expected: String,
    got: String,
    rule: Option<&'static str>,
    /// Frames that the rule decided during the demo.
    counted: u64,
    /// Whether the same got through where nothing filters; none where it is expected to pass.
    without_the_gate: Option<bool>,
    ok: bool,
}

#[derive(Debug, Serialize)]
struct Sample {
    url: String,
    command: String,
    values: Vec<String>,
}

/// Everything that the demo found.
#[derive(Debug, Serialize)]
pub struct Report {
    ok: bool,
    attempts: Vec<Row>,
    alerts: Vec<Alert>,
    accounting: Status,
    metrics: Sample,
    failures: Vec<String>,
}

impl Report {
    /// Compares what was got with what the policy says.
    pub(super) fn new(
        attempts: &[Attempt],
        control: &[Got],
        got: &[Got],
        alerts: Vec<Alert>,
        [before, after]: [Status; 2],
        metrics: Metrics,
    ) -> Report {
        let mut failures = Vec::new();
        let mut rows = Vec::new();
        for (i, (attempt, got)) in attempts.iter().zip(got).enumerate() {
            let control = control.get(i);
            let wrong = judge(attempt, control, got, &before, &after, &alerts);
            let rule = rule(attempt);
            rows.push(Row {
                attempt: attempt.name,
                from: attempt.from,
                to: attempt.to.clone(),
                expected: rule.map_or("passes".into(), |rule| format!("blocked by {rule}")),
                got: format!(
                    "{}: {}",
                    if got.through { "passed" } else { "blocked" },
                    got.said
                ),
                rule,
                counted: rule.map_or(0, |rule| counted(rule, &before, &after)),
                without_the_gate: control.map(|got| got.through),
                ok: wrong.is_empty(),
            });
            failures.extend(
                wrong
                    .into_iter()
                    .map(|what| format!("{}: {what}", attempt.name)),
            );
        }
        if !after.holds() {
            failures.push("the accounting does not balance".to_owned());
        }
        let Metrics { url, command, text } = metrics;
        let values = sample(&text);
        if values.is_empty() {
            failures.push(format!("{url} has no metric of the gate's"));
        }
        Report {
            ok: failures.is_empty(),
            attempts: rows,
            alerts,
            accounting: after,
            metrics: Sample {
                url,
                command,
                values,
            },
            failures,
        }
    }

    /// True where everything is as the policy says.
    pub fn ok(&self) -> bool {
        self.ok
    }

    /// One JSON object.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self)
            .unwrap_or_else(|error| format!("{{\"ok\":false,\"failures\":[\"{error}\"]}}"))
    }

    /// Tables for people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut table = table(&[
            "attempt",
            "from -> to",
            "expected",
            "got",
            "rule counted",
            "ok",
        ]);
        for row in &self.attempts {
            table.add_row([
                row.attempt.to_owned(),
                format!("{} -> {}", row.from, row.to),
                row.expected.clone(),
                row.got.clone(),
                row.rule
                    .map_or("-".to_owned(), |rule| format!("{rule} +{}", row.counted)),
                if row.ok { "ok" } else { "WRONG" }.to_owned(),
            ]);
        }
        let _ = writeln!(text, "\n{table}\n\nalerts");
        for alert in &self.alerts {
            let _ = writeln!(text, "  {}", alert_line(alert));
        }
        let _ = writeln!(text, "\naccounting");
        for (name, port) in &self.accounting.ports {
            let _ = writeln!(text, "  {}", port_line(name, port));
        }
        let Sample {
            url,
            command,
            values,
        } = &self.metrics;
        let _ = writeln!(text, "\nmetrics: {url}\n  {command}");
        for value in values {
            let _ = writeln!(text, "  {value}");
        }
        let good = self.attempts.iter().filter(|row| row.ok).count();
        let _ = writeln!(
            text,
            "\n{good} of {} attempts got what the policy says",
            self.attempts.len()
        );
        for failure in &self.failures {
            let _ = writeln!(text, "WRONG  {failure}");
        }
        text
    }
}

/// What is wrong with one attempt; nothing, where it got what the policy says.
fn judge(
    attempt: &Attempt,
    control: Option<&Got>,
    got: &Got,
    before: &Status,
    after: &Status,
    alerts: &[Alert],
) -> Vec<String> {
    let Expect::Blocked {
        rule,
        alerts: alerting,
    } = attempt.expect
    else {
        return if got.through {
            Vec::new()
        } else {
            vec![format!("had to pass: {}", got.said)]
        };
    };
    let mut wrong = Vec::new();
    if !control.is_some_and(|got| got.through) {
        wrong.push("did not get through without the gate either, so it proves nothing".to_owned());
    }
    if got.through {
        wrong.push(format!("got through: {}", got.said));
    }
    if counted(rule, before, after) == 0 {
        wrong.push(format!("rule {rule} counted nothing"));
    }
    if alerting && is_missing(attempt, alerts) {
        wrong.push(format!("no alert of rule {rule} about {}", attempt.from));
    }
    wrong
}

fn rule(attempt: &Attempt) -> Option<&'static str> {
    match attempt.expect {
        Expect::Passes => None,
        Expect::Blocked { rule, .. } => Some(rule),
    }
}

fn counted(rule: &str, before: &Status, after: &Status) -> u64 {
    after.packets(rule).saturating_sub(before.packets(rule))
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::UTF8_FULL_CONDENSED)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().copied());
    table
}

fn alert_line(alert: &Alert) -> String {
    let end = |ip: &str, port: Option<u16>| match port {
        Some(port) if ip.contains(':') => format!("[{ip}]:{port}"),
        Some(port) => format!("{ip}:{port}"),
        None => ip.to_owned(),
    };
    format!(
        "{}  {:18} severity {:8} {:5} {} -> {}",
        alert.timestamp,
        alert.alert.signature,
        alert
            .alert
            .severity
            .as_str()
            .map_or_else(|| alert.alert.severity.to_string(), str::to_owned),
        alert.proto,
        end(&alert.src_ip, alert.src_port),
        end(&alert.dest_ip, alert.dest_port),
    )
}

/// The law of accounting with its numbers: `rx = forwarded + dropped + rejected + host, forwarded = tx + failed`.
fn port_line(name: &str, port: &PortCounters) -> String {
    let reasons: Vec<_> = port
        .dropped
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(reason, n)| format!("{reason} {n}"))
        .collect();
    format!(
        "{name:7} rx {} = forwarded {} + dropped {}{} + rejected {} + to host stack {};  forwarded {} = tx {} + tx failed {}:  {}",
        port.rx,
        port.forwarded,
        port.dropped_in_all(),
        if reasons.is_empty() {
            String::new()
        } else {
            format!(" ({})", reasons.join(", "))
        },
        port.rejected,
        port.to_host_stack,
        port.forwarded,
        port.tx,
        port.tx_failed,
        if port.balances() {
            "balanced"
        } else {
            "NOT BALANCED"
        },
    )
}

/// A few lines of the metrics page: the first that is not zero of each metric that says what the demo is about.
fn sample(metrics: &str) -> Vec<String> {
    let shown = [
        "rule_packets",
        "alerts",
        "dropped_frames",
        "received_frames",
        "transmitted_frames",
    ];
    let first = |metric: &str| {
        let start = format!("portcullis_{metric}_total{{");
        metrics
            .lines()
            .find(|line| line.starts_with(&start) && !line.ends_with(" 0"))
            .map(str::to_owned)
    };
    shown.into_iter().filter_map(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn got(through: bool) -> Got {
        Got {
            through,
            said: "said".into(),
            took: Duration::ZERO,
        }
    }

    fn tftp() -> Attempt {
        Attempt::blocked_by_baseline()
            .into_iter()
            .find(|a| rule(a) == Some("tftp"))
            .unwrap()
    }

    fn status(packets: u64) -> Status {
        Status::parse(&format!(
            r#"{{"rules":{{"tftp":{{"packets":{packets}}}}}}}"#
        ))
        .unwrap()
    }

    fn alert() -> Alert {
        let line = r#"{"src_ip":"10.77.0.9","alert":{"signature":"tftp"}}"#;
        serde_json::from_str(line).unwrap()
    }

    #[test]
    fn a_blocked_attempt_is_good_when_counted_alerted_and_alive_without_the_gate() {
        let wrong = judge(
            &tftp(),
            Some(&got(true)),
            &got(false),
            &status(2),
            &status(5),
            &[alert()],
        );
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn a_dead_server_proves_nothing() {
        let wrong = judge(
            &tftp(),
            Some(&got(false)),
            &got(false),
            &status(2),
            &status(5),
            &[alert()],
        );
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }

    #[test]
    fn an_attempt_that_gets_through_uncounted_and_unalerted_is_wrong_three_times() {
        let wrong = judge(
            &tftp(),
            Some(&got(true)),
            &got(true),
            &status(2),
            &status(2),
            &[],
        );
        assert_eq!(wrong.len(), 3, "{wrong:?}");
    }

    #[test]
    fn an_allowed_attempt_has_to_pass() {
        let dns = Attempt::allowed_by_baseline().remove(1);
        assert!(judge(&dns, None, &got(true), &status(0), &status(0), &[]).is_empty());
        assert_eq!(
            judge(&dns, None, &got(false), &status(0), &status(0), &[]).len(),
            1
        );
    }

    #[test]
    fn the_sample_of_metrics_takes_one_line_a_metric_and_no_zeros() {
        let page = "# TYPE portcullis_alerts_total counter\nportcullis_alerts_total{rule=\"irc\"} 0\n\
                    portcullis_alerts_total{rule=\"smb\"} 10\nportcullis_alerts_total{rule=\"snmp\"} 4\nother 5\n";
        assert_eq!(sample(page), ["portcullis_alerts_total{rule=\"smb\"} 10"]);
    }
}
