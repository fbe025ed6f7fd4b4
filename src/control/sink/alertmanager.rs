//! Alertmanager's API, version 2: `POST /api/v2/alerts`
//! (<https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>).
//!
//! An alert is an incident: it fires while its end lies ahead, so each line moves the end on, and what fires is posted again
//! from time to time, for an Alertmanager that was started anew.

use super::Failure;
use super::http::Http;
use super::text::{ascii, clean, rfc3339, summary};
use crate::config::sinks;
use crate::control::alerts::{Line, timestamp};
use crate::control::status::now;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often what fires is posted again.
const AGAIN: Duration = Duration::from_secs(60);
/// Alerts in one request.
const TOGETHER: usize = 256;

/// How long an alert fires after its last line: an incident that goes on has a line in each window.
pub(super) fn hold(window: Duration) -> Duration {
    2 * window + Duration::from_secs(60)
}

pub(super) struct Alertmanager {
    http: Http,
    hold: Duration,
    /// What fires; at most `most`. One more is posted once, and not again.
    firing: HashMap<Labels, Firing>,
    most: usize,
    pub(super) again: Instant,
}

struct Firing {
    alert: Alert,
    ends: u64,
}

/// What tells alerts apart. All but the host are words of the config and the program, so that their number is bounded.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
struct Labels {
    alertname: String,
    severity: &'static str,
    host: String,
    direction: &'static str,
}

#[derive(Clone, Debug, Serialize)]
struct Annotations {
    summary: String,
    packets: String,
    action: &'static str,
    mac: String,
    first_seen: String,
    last_seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: Labels,
    annotations: Annotations,
    starts_at: String,
    ends_at: String,
}

impl Alertmanager {
    pub fn new(to: &sinks::Http, hold: Duration, most: usize) -> Result<Alertmanager, String> {
        Ok(Alertmanager {
            http: Http::new(to, "/api/v2/alerts")?,
            hold,
            firing: HashMap::new(),
            most,
            again: Instant::now() + AGAIN,
        })
    }

    /// When what fires is to be posted again.
    pub fn due(&self) -> Option<Instant> {
        (!self.firing.is_empty()).then_some(self.again)
    }

    pub async fn deliver(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure> {
        if lines.is_empty() {
            return self.post_again().await;
        }
        let now = now();
        let ends = now.saturating_add(self.hold.as_nanos() as u64);
        self.forget(now);
        // Of two lines of one incident, the later says all.
        let mut news: Vec<Alert> = Vec::new();
        for line in lines {
            let alert = self.take(line, now, ends);
            match news.iter_mut().find(|other| other.labels == alert.labels) {
                Some(other) => *other = alert,
                None => news.push(alert),
            }
        }
        self.post(&news).await
    }

    /// The alert of a line, kept among what fires. Taking a line again changes nothing.
    fn take(&mut self, line: &Line, now: u64, ends: u64) -> Alert {
        let mut alert = alert(line, ends);
        if let Some(firing) = self.firing.get(&alert.labels).filter(|f| f.ends > now) {
            alert.starts_at.clone_from(&firing.alert.starts_at);
        } else if self.firing.len() >= self.most && !self.firing.contains_key(&alert.labels) {
            return alert;
        }
        let firing = Firing {
            alert: alert.clone(),
            ends,
        };
        self.firing.insert(alert.labels.clone(), firing);
        alert
    }

    fn forget(&mut self, now: u64) {
        self.firing.retain(|_, firing| firing.ends > now);
    }

    async fn post_again(&mut self) -> Result<(), Failure> {
        self.forget(now());
        let all: Vec<Alert> = self.firing.values().map(|f| f.alert.clone()).collect();
        let done = self.post(&all).await;
        // What is refused is refused again; it waits for its turn like what was taken.
        if !matches!(&done, Err(failure) if !failure.refused) {
            self.again = Instant::now() + AGAIN;
        }
        done
    }

    async fn post(&self, alerts: &[Alert]) -> Result<(), Failure> {
        for together in alerts.chunks(TOGETHER) {
            let text = serde_json::to_string(together).map_err(|e| Failure::refused(0, e))?;
            self.http.post(ascii(text).into_bytes()).await?;
        }
        Ok(())
    }
}

fn alert(line: &Line, ends: u64) -> Alert {
    let alert = &line.alert;
    Alert {
        labels: Labels {
            alertname: clean(&alert.signature),
            severity: alert.level,
            host: clean(&alert.host),
            direction: line.direction,
        },
        annotations: Annotations {
            summary: summary(line),
            packets: alert.packets.to_string(),
            action: alert.action,
            mac: line.src_mac.clone(),
            first_seen: rfc3339(&alert.first_seen),
            last_seen: rfc3339(&alert.last_seen),
            hint: alert.hint.as_deref().map(clean),
        },
        starts_at: rfc3339(&alert.first_seen),
        ends_at: rfc3339(&timestamp(ends)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::line;
    use super::*;
    use crate::config::sinks::Roots;

    const SECOND: u64 = 1_000_000_000;

    fn alertmanager(most: usize) -> Alertmanager {
        let to = sinks::Http {
            url: "http://127.0.0.1:9".parse().unwrap(),
            roots: Roots::System,
            token_file: None,
        };
        Alertmanager::new(&to, Duration::from_secs(180), most).unwrap()
    }

    #[test]
    fn an_incident_that_goes_on_keeps_its_start_and_moves_its_end() {
        let mut all = alertmanager(10);
        let first = all.take(&line(1), 10 * SECOND, 100 * SECOND);
        let mut later = line(1);
        later.alert.first_seen = "2023-11-14T23:00:00.000000+0000".into();
        let second = all.take(&later, 90 * SECOND, 190 * SECOND);
        assert_eq!(second.starts_at, first.starts_at);
        assert!(second.ends_at > first.ends_at);
        assert_eq!(all.firing.len(), 1);
        let over = all.take(&later, 200 * SECOND, 300 * SECOND);
        assert_eq!(over.starts_at, "2023-11-14T23:00:00.000000Z", "a new one");
    }

    #[test]
    fn what_fires_is_bounded_and_forgotten_at_its_end() {
        let mut all = alertmanager(2);
        for host in 1..=3 {
            all.take(&line(host), 10 * SECOND, 100 * SECOND);
        }
        assert_eq!(all.firing.len(), 2);
        all.forget(100 * SECOND);
        assert_eq!(all.firing.len(), 0);
    }
}
