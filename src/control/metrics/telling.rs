//! Alerts, where they go, and what is kept beside them.

use super::Source;
use super::family::{Families, Of};
use crate::control::sink::queue::SinkStatus;

pub(super) fn alerts(families: &mut Families, source: &Source<'_>) {
    families
        .gauge(
            "portcullis_incidents_open",
            "Incidents that what comes is still counted into.",
        )
        .count(&[], source.incidents_open as u64);
    for (name, help, n) in [
        (
            "portcullis_alert_events_lost_total",
            "Alerting frames whose event was not told: the ring was full, or their machine had told of too many hosts in a second.",
            source.counters.events_lost,
        ),
        (
            "portcullis_dhcp_requests_lost_total",
            "DHCP requests that were not read for a host name.",
            source.counters.dhcp_lost,
        ),
        (
            "portcullis_alerts_lost_total",
            "Alerts that could not be written to the file, or not be kept apart.",
            source.alerts_lost,
        ),
    ] {
        families.counter(name, help).count(&[], n);
    }
}

/// Only where the config asks for it: these labels are addresses.
pub(super) fn hosts(families: &mut Families, source: &Source<'_>) {
    let Some(loudest) = &source.hosts else {
        return;
    };
    let mut series = families.gauge(
        "portcullis_host_alerting_frames",
        "Frames that alerted since the start, of the hosts that have most; those of all others under `other`. A host may give way to a louder one.",
    );
    for (host, frames) in &loudest.hosts {
        series.count(&[("host", host)], *frames);
    }
    series.count(&[("host", "other")], loudest.other);
}

pub(super) fn detectors(families: &mut Families, source: &Source<'_>) {
    let mut findings = families.counter(
        "portcullis_detector_findings_total",
        "What detectors have found in how hosts behave, told or counted into an open incident.",
    );
    for (name, n) in source.findings {
        findings.count(&[("detector", name)], *n);
    }
    families
        .counter(
            "portcullis_observations_lost_total",
            "What hosts did and no detector has seen: a ring was full, or one machine had done too much at once.",
        )
        .count(&[], source.counters.observations_lost);
}

pub(super) fn sinks(families: &mut Families, source: &Source<'_>) {
    let counters: [Of<SinkStatus, u64>; 3] = [
        (
            "portcullis_sink_lines_total",
            "Alert lines that a sink has taken.",
            |sink| sink.sent,
        ),
        (
            "portcullis_sink_lost_total",
            "Alert lines that a sink will never have: its queue was full, or the other side refused them.",
            |sink| sink.lost,
        ),
        (
            "portcullis_sink_errors_total",
            "Attempts to deliver that failed.",
            |sink| sink.errors,
        ),
    ];
    for (name, help, of) in counters {
        let mut series = families.counter(name, help);
        for (sink, status) in source.sinks {
            series.count(&[("sink", sink)], of(status));
        }
    }
    let mut queue = families.gauge("portcullis_sink_queue", "Alert lines that wait for a sink.");
    for (sink, status) in source.sinks {
        queue.put(&[("sink", sink)], status.waiting as f64);
    }
}

pub(super) fn evidence(families: &mut Families, source: &Source<'_>) {
    let Some(kept) = &source.evidence else {
        return;
    };
    for (name, help, n) in [
        (
            "portcullis_evidence_captures_total",
            "Captures that were begun for an incident.",
            kept.captures,
        ),
        (
            "portcullis_evidence_skipped_total",
            "Incidents without a capture, and conversations without a transcript: too many at once, too long, or the disk had refused one.",
            kept.skipped,
        ),
        (
            "portcullis_evidence_errors_total",
            "Captures that the disk refused, or a part of one.",
            kept.errors,
        ),
        (
            "portcullis_evidence_missed_frames_total",
            "Frames that were not recorded, because those before them were still being read.",
            kept.missed_frames,
        ),
    ] {
        families.counter(name, help).count(&[], n);
    }
    families
        .gauge(
            "portcullis_evidence_bytes",
            "Bytes of the captures on disk.",
        )
        .count(&[], kept.bytes);
}
