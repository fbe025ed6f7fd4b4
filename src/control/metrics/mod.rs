//! The counters in Prometheus' words. Built anew for each scrape from what the workers count, so nothing is counted twice over.
//!
//! Labels come from closed sets: ports, verdicts, reasons, the policy's rules, the config's sinks. The one exception is [`Source::hosts`], which is empty unless the config asks for it.

mod family;
mod health;
mod hoststack;
mod lines;
mod open;
mod policy;
mod telling;
mod traffic;

use super::evidence::EvidenceStatus;
use super::handover::TakenOver;
use super::hosts::Loudest;
use super::hoststack::{DecoyStatus, InbandStatus};
use super::reload::ReloadStatus;
use super::sink::queue::SinkStatus;
use super::snapshot::Snapshot;
use super::status::{ConfigInfo, PortInfo};
use crate::policy::Generation;
use family::Families;
use prometheus::TextEncoder;
use prometheus::proto::MetricFamily;

/// What the metrics are made of.
pub struct Source<'a> {
    /// The counters.
    pub counters: &'a Snapshot,
    /// The two ports, by side.
    pub ports: &'a [PortInfo; 2],
    /// The policy in force.
    pub policy: &'a Generation,
    /// The config that it comes from.
    pub config: &'a ConfigInfo,
    /// What became of other configs.
    pub reloads: &'a ReloadStatus,
    /// Hosts in quarantine.
    pub quarantined: usize,
    /// Changed set files that were taken, and that were not.
    pub set_reloads: (u64, u64),
    /// The sets that come from files, and whether what is in the file now was not taken.
    pub set_refused: &'a [(String, bool)],
    /// Alert events, lines and losses of the control thread.
    pub alerts_lost: u64,
    /// Incidents that may still be counted into.
    pub incidents_open: usize,
    /// What detectors have found, by name.
    pub findings: &'a [(&'static str, u64)],
    /// By name.
    pub sinks: &'a [(String, SinkStatus)],
    /// `None` where no evidence is kept.
    pub evidence: Option<EvidenceStatus>,
    /// The hosts that alert most; `None` where nobody asks.
    pub hosts: Option<Loudest>,
    /// Flows that there is room for.
    pub flows_limit: usize,
    /// Every worker turns.
    pub healthy: bool,
    /// What was taken over from the process before.
    pub taken: Option<&'a TakenOver>,
    /// What decoys did.
    pub decoys: DecoyStatus,
    /// What the box's own address did; `None` where it has none.
    pub inband: Option<InbandStatus>,
    /// Nanoseconds of the workers' steady clock.
    pub now: u64,
    /// Seconds since the start.
    pub uptime: f64,
}

/// How the metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The text exposition format, version 0.0.4.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What a client that sends this `Accept` header is answered with: OpenMetrics if it names it.
    pub fn of_accept(accept: Option<&str>) -> Format {
        let names = |accept: &str| accept.contains("application/openmetrics-text");
        match accept.is_some_and(names) {
            true => Format::OpenMetrics,
            false => Format::Text,
        }
    }

    /// The value of the header `Content-Type`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Text => prometheus::TEXT_FORMAT,
            Format::OpenMetrics => open::CONTENT_TYPE,
        }
    }
}

/// The metrics' text.
///
/// # Errors
/// Only if the prometheus crate refuses a name, which a test would show.
pub fn text(source: &Source<'_>, format: Format) -> Result<Vec<u8>, prometheus::Error> {
    let families = families(source);
    let failed = |_| prometheus::Error::Msg("no room for the text".into());
    let mut out = String::new();
    match format {
        Format::Text => TextEncoder::new().encode_utf8(&families, &mut out)?,
        Format::OpenMetrics => open::encode(&families, &mut out).map_err(failed)?,
    }
    policy::rules(&mut out, format, source).map_err(failed)?;
    if format == Format::OpenMetrics {
        out.push_str(open::END);
    }
    Ok(out.into_bytes())
}

fn families(source: &Source<'_>) -> Vec<MetricFamily> {
    let mut families = Families::default();
    health::gate(&mut families, source);
    traffic::frames(&mut families, source);
    traffic::flows(&mut families, source);
    policy::policy(&mut families, source);
    telling::alerts(&mut families, source);
    telling::hosts(&mut families, source);
    telling::detectors(&mut families, source);
    telling::sinks(&mut families, source);
    telling::evidence(&mut families, source);
    hoststack::decoys(&mut families, source);
    hoststack::inband(&mut families, source);
    health::ports(&mut families, source);
    health::workers(&mut families, source);
    families.done()
}

#[cfg(test)]
mod tests;
