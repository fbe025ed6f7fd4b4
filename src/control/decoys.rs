//! What conversations of decoys add to alerts.

use super::line::timestamp;
use crate::app::{App, Details};
use crate::hoststack::decoy::Report;
use crate::hoststack::decoy::persona::Kind;
use crate::policy::{Manners, Side, Verdict};
use crate::telemetry::event::Snippet;
use crate::telemetry::{Cause, Event};
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// Conversations of one incident that are told of, each in a line of its own, in one window. Those beyond are counted.
pub(super) const TOLD: u32 = 8;

/// One conversation, as an alert line has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conversation {
    /// What the decoy spoke: `irc`, `smtp`, `http`, `tftp` or `raw`.
    pub protocol: &'static str,
    /// When the client began.
    pub began: String,
    /// How long it lasted.
    pub seconds: f64,
    /// What ended it, in words.
    pub ended: &'static str,
    /// Bytes that the client said, kept or not.
    pub client_bytes: u64,
    /// Bytes that the decoy said.
    pub decoy_bytes: u64,
    /// Line by line, `C: ` before what the client says and `S: ` before what the decoy says.
    /// Of the conversation that a line is written for; a later line of the incident says where it is.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub transcript: Vec<String>,
    /// More was said than the transcript has.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// Conversations of this incident until now, this one among them.
    pub conversations: u64,
    /// The transcript as a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<PathBuf>,
}

impl Conversation {
    /// Of a report; it is the incident's conversation of this number.
    pub fn of(report: &Report, conversations: u64) -> Conversation {
        let said = &report.transcript;
        Conversation {
            protocol: report.kind.name(),
            began: timestamp(report.began),
            seconds: (report.lasted.as_secs_f64() * 1000.0).round() / 1000.0,
            ended: report.ended.describe(),
            client_bytes: said.client_bytes(),
            decoy_bytes: said.server_bytes(),
            transcript: said.lines().collect(),
            cut: said.is_cut(),
            conversations,
            evidence: None,
        }
    }
}

/// What the client has shown of itself; `None` where that is nothing.
pub(super) fn shown(report: &Report) -> Option<Details> {
    let app = match report.kind {
        Kind::Irc => App::Irc,
        Kind::Smtp => App::Smtp,
        Kind::Http => App::Http,
        Kind::Tftp => App::Tftp,
        Kind::Raw => return None,
    };
    let fields = report.learned.clone();
    (!fields.is_empty()).then_some(Details { app, fields })
}

/// The event that has the incident opened, or counted into: no frame more than those that were told of.
pub(super) fn event(report: &Report) -> Event {
    let end = report.began.saturating_add(nanos(report.lasted));
    Event {
        time: end,
        cause: Cause::Rule(report.rule),
        verdict: Verdict::Decoy(Manners::Port),
        shadow: false,
        side: Side::Lan,
        frames: 0,
        len: report.len,
        meta: report.meta,
        app: None,
        payload: Snippet::EMPTY,
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// The transcript as a file has it.
pub(super) fn file(report: &Report, host: &str, rule: &str) -> String {
    let to = report.meta.dst_ip().map_or_else(String::new, |ip| {
        std::net::SocketAddr::new(ip, report.meta.dport).to_string()
    });
    format!(
        "What {host} said to a decoy in place of {to} (rule {rule}), from {} on, for {:.3} s; {}.\nC: the client, S: the decoy\n\n{}",
        timestamp(report.began),
        report.lasted.as_secs_f64(),
        report.ended.describe(),
        report.transcript.to_text()
    )
}
