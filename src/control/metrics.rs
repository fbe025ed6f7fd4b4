//! The counters in Prometheus' words. Built anew for each scrape from what the workers count, so nothing is counted twice over.

use super::evidence::EvidenceStatus;
use super::sink::queue::SinkStatus;
use super::snapshot::Snapshot;
use super::status::PortInfo;
use crate::policy::Generation;
use prometheus::core::{AtomicU64, GenericCounterVec, GenericGaugeVec};
use prometheus::{Encoder, IntCounterVec, IntGaugeVec, Opts, Registry, TextEncoder};

type Counters = GenericCounterVec<AtomicU64>;
type Gauges = GenericGaugeVec<prometheus::core::AtomicI64>;

/// What the metrics are made of.
pub struct Source<'a> {
    /// The counters.
    pub counters: &'a Snapshot,
    /// The two ports, by side.
    pub ports: &'a [PortInfo; 2],
    /// The policy in force.
    pub policy: &'a Generation,
    /// Changed set files that were taken, and that were not.
    pub set_reloads: (u64, u64),
    /// Alert events, lines and losses of the control thread.
    pub alerts_lost: u64,
    /// What detectors have found, by name.
    pub findings: &'a [(&'static str, u64)],
    /// By name.
    pub sinks: &'a [(String, SinkStatus)],
    /// `None` where no evidence is kept.
    pub evidence: Option<EvidenceStatus>,
    /// Seconds since the start.
    pub uptime: f64,
}

/// The text exposition format, version 0.0.4.
///
/// # Errors
/// Only if the prometheus crate refuses a name, which a test would show.
pub fn text(source: &Source<'_>) -> Result<Vec<u8>, prometheus::Error> {
    let registry = Registry::new();
    build(&registry)?;
    frames(&registry, source)?;
    rules(&registry, source)?;
    detectors(&registry, source)?;
    sinks(&registry, source)?;
    evidence(&registry, source)?;
    policy(&registry, source)?;
    flows(&registry, source)?;
    ports(&registry, source)?;
    workers(&registry, source)?;
    let mut out = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut out)?;
    Ok(out)
}

fn counter(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<Counters, prometheus::Error> {
    let vec = IntCounterVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

fn gauge(
    registry: &Registry,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<Gauges, prometheus::Error> {
    let vec = IntGaugeVec::new(Opts::new(name, help), labels)?;
    registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

fn build(registry: &Registry) -> Result<(), prometheus::Error> {
    gauge(
        registry,
        "portcullis_build_info",
        "Always 1; the version stands in the label.",
        &["version"],
    )?
    .with_label_values(&[env!("CARGO_PKG_VERSION")])
    .set(1);
    Ok(())
}

fn frames(registry: &Registry, source: &Source<'_>) -> Result<(), prometheus::Error> {
    let rx = counter(
        registry,
        "portcullis_received_frames_total",
        "Frames received.",
        &["port"],
    )?;
    let rx_bytes = counter(
        registry,
        "portcullis_received_bytes_total",
        "Bytes received, without FCS.",
        &["port"],
    )?;
    let verdicts = counter(
        registry,
        "portcullis_frames_total",
        "Frames by the port they were received on and their verdict.",
        &["port", "verdict"],
    )?;
    let dropped = counter(
        registry,
        "portcullis_dropped_frames_total",
        "Frames dropped, by reason.",
        &["port", "reason"],
    )?;
    let shadow = counter(
        registry,
        "portcullis_shadow_frames_total",
        "Frames forwarded that would not have been if the policy were enforced, by reason.",
        &["port", "reason"],
    )?;
    let tx = counter(
        registry,
        "portcullis_transmitted_frames_total",
        "Forwarded frames that the other port has sent.",
        &["port"],
    )?;
    let failed = counter(
        registry,
        "portcullis_transmit_failed_frames_total",
        "Forwarded frames that the other port could not send.",
        &["port"],
    )?;
    let replies = counter(
        registry,
        "portcullis_replies_total",
        "Frames that the box built and sent on the other port.",
        &["port"],
    )?;
    for (side, port) in source.counters.sides.iter().zip(source.ports) {
        let port = &[port.side];
        rx.with_label_values(port).inc_by(side.rx);
        rx_bytes.with_label_values(port).inc_by(side.rx_bytes);
        tx.with_label_values(port).inc_by(side.tx);
        failed.with_label_values(port).inc_by(side.tx_failed);
        replies.with_label_values(port).inc_by(side.replies);
        let by_verdict = [
            ("forward", side.forwarded),
            ("drop", side.dropped_total()),
            ("reject", side.rejected),
            ("host", side.to_host_stack),
        ];
        for (verdict, n) in by_verdict {
            verdicts.with_label_values(&[port[0], verdict]).inc_by(n);
        }
        for reason in crate::telemetry::Reason::ALL {
            for (counts, of) in [(&dropped, &side.dropped), (&shadow, &side.shadow)] {
                let n = of.get(reason.name()).copied().unwrap_or(0);
                counts
                    .with_label_values(&[port[0], reason.name()])
                    .inc_by(n);
            }
        }
    }
    Ok(())
}

fn rules(registry: &Registry, source: &Source<'_>) -> Result<(), prometheus::Error> {
    let packets = counter(
        registry,
        "portcullis_rule_packets_total",
        "Frames that a rule decided.",
        &["rule"],
    )?;
    let bytes = counter(
        registry,
        "portcullis_rule_bytes_total",
        "Bytes of the frames that a rule decided.",
        &["rule"],
    )?;
    let alerts = counter(
        registry,
        "portcullis_alerts_total",
        "Alerts told, by rule.",
        &["rule"],
    )?;
    for (name, hits) in &source.counters.rules.0 {
        packets.with_label_values(&[name]).inc_by(hits.packets);
        bytes.with_label_values(&[name]).inc_by(hits.bytes);
        alerts.with_label_values(&[name]).inc_by(hits.alerts);
    }
    counter(
        registry,
        "portcullis_alert_events_lost_total",
        "Alerting frames whose event found the ring full.",
        &[],
    )?
    .with_label_values::<&str>(&[])
    .inc_by(source.counters.events_lost);
    counter(
        registry,
        "portcullis_dhcp_requests_lost_total",
        "DHCP requests that were not read for a host name.",
        &[],
    )?
    .with_label_values::<&str>(&[])
    .inc_by(source.counters.dhcp_lost);
    counter(
        registry,
        "portcullis_alerts_lost_total",
        "Alerts that could not be written to the file, or not be kept apart.",
        &[],
    )?
    .with_label_values::<&str>(&[])
    .inc_by(source.alerts_lost);
    Ok(())
}

fn detectors(registry: &Registry, source: &Source<'_>) -> Result<(), prometheus::Error> {
    let findings = counter(
        registry,
        "portcullis_detector_findings_total",
        "What detectors have found in how hosts behave, told or counted into an open incident.",
        &["detector"],
    )?;
    for (name, n) in source.findings {
        findings.with_label_values(&[*name]).inc_by(*n);
    }
    counter(
        registry,
        "portcullis_observations_lost_total",
        "What hosts did and no detector has seen: a ring was full, or one machine had done too much at once.",
        &[],
    )?
    .with_label_values::<&str>(&[])
    .inc_by(source.counters.observations_lost);
    Ok(())
}

fn sinks(registry: &Registry, source: &Source<'_>) -> Result<(), prometheus::Error> {
    let count = |name, help| counter(registry, name, help, &["sink"]);
    let lines = count(
        "portcullis_sink_lines_total",
        "Alert lines that a sink has taken.",
    )?;
    let lost = count(
        "portcullis_sink_lost_total",
        "Alert lines that a sink will never have: its queue was full, or the other side refused them.",
    )?;
    let errors = count(
        "portcullis_sink_errors_total",
        "Attempts to deliver that failed.",
    )?;
    let queue = gauge(
        registry,
        "portcullis_sink_queue",
        "Alert lines that wait for a sink.",
        &["sink"],
    )?;
    for (name, sink) in source.sinks {
        lines.with_label_values(&[name]).inc_by(sink.sent);
        lost.with_label_values(&[name]).inc_by(sink.lost);
        errors.with_label_values(&[name]).inc_by(sink.errors);
        let waiting = sink.waiting.try_into().unwrap_or(i64::MAX);
        queue.with_label_values(&[name]).set(waiting);
    }
    Ok(())
}

fn evidence(registry: &Registry, source: &Source<'_>) -> Result<(), prometheus::Error> {
    let Some(kept) = &source.evidence else {
        return Ok(());
    };
    for (name, help, n) in [
        (
            "portcullis_evidence_captures_total",
            "Captures that were begun for an incident.",
            kept.captures,
        ),
        (
            "portcullis_evidence_skipped_total",
            "Incidents without a capture: too many at once, or the disk had refused one.",
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
        let counter = counter(registry, name, help, &[])?;
        counter.with_label_values::<&str>(&[]).inc_by(n);
    }
    let bytes = gauge(
        registry,
        "portcullis_evidence_bytes",
        "Bytes of the captures on disk.",
        &[],
    )?;
    let kept = kept.bytes.try_into().unwrap_or(i64::MAX);
    bytes.with_label_values::<&str>(&[]).set(kept);
    Ok(())
}

fn policy(registry: &Registry, source: &Source<'_>) -> Result<(), prometheus::Error> {
    let number = |name, help, n: i64| {
        gauge(registry, name, help, &[]).map(|gauge| gauge.with_label_values::<&str>(&[]).set(n))
    };
    number(
        "portcullis_shadow",
        "1 where every frame is forwarded and nothing is enforced, else 0.",
        source.policy.is_shadow().into(),
    )?;
    number(
        "portcullis_policy_generation",
        "Policies in force since the start, this one included.",
        source.policy.number().try_into().unwrap_or(i64::MAX),
    )?;
    let expired = gauge(
        registry,
        "portcullis_rule_expired",
        "1 for a rule whose time-to-live is over, so that it matches nothing any more, else 0.",
        &["rule"],
    )?;
    let in_shadow = gauge(
        registry,
        "portcullis_rule_shadow",
        "1 for a rule that is judged and not enforced, else 0.",
        &["rule"],
    )?;
    for (name, hits) in &source.counters.rules.0 {
        expired.with_label_values(&[name]).set(hits.expired.into());
        in_shadow.with_label_values(&[name]).set(hits.shadow.into());
    }
    let reloads = counter(
        registry,
        "portcullis_set_reloads_total",
        "Set files that changed, by whether the change was taken.",
        &["result"],
    )?;
    let (ok, error) = source.set_reloads;
    reloads.with_label_values(&["ok"]).inc_by(ok);
    reloads.with_label_values(&["error"]).inc_by(error);
    Ok(())
}

fn flows(registry: &Registry, source: &Source<'_>) -> Result<(), prometheus::Error> {
    let flows = &source.counters.flows;
    gauge(
        registry,
        "portcullis_flows",
        "Flows that are remembered now.",
        &[],
    )?
    .with_label_values::<&str>(&[])
    .set(flows.live.try_into().unwrap_or(i64::MAX));
    let counters = [
        (
            "portcullis_flows_opened_total",
            "Flows that were let in.",
            flows.opened,
        ),
        (
            "portcullis_flows_expired_total",
            "Flows that were idle for too long, or gave way to a new one with the same ports after their end.",
            flows.expired,
        ),
        (
            "portcullis_flows_evicted_total",
            "Flows thrown out for want of room.",
            flows.evicted,
        ),
        (
            "portcullis_flows_adopted_total",
            "Connections that were open before the start.",
            flows.adopted,
        ),
        (
            "portcullis_flows_judged_again_total",
            "Flows that a new generation of the policy was asked about.",
            flows.judged_again,
        ),
        (
            "portcullis_flows_ended_total",
            "Flows that a new generation of the policy forbids.",
            flows.ended,
        ),
        (
            "portcullis_fragments_held_total",
            "Fragments that waited for the first of their datagram.",
            flows.fragments_held,
        ),
    ];
    for (name, help, n) in counters {
        counter(registry, name, help, &[])?
            .with_label_values::<&str>(&[])
            .inc_by(n);
    }
    let refused = counter(
        registry,
        "portcullis_flows_refused_total",
        "Flows that found no room: the table was full, or their host had as many as it may.",
        &["why"],
    )?;
    refused
        .with_label_values(&["full"])
        .inc_by(flows.refused_full);
    refused
        .with_label_values(&["host"])
        .inc_by(flows.refused_host);
    Ok(())
}

fn ports(registry: &Registry, source: &Source<'_>) -> Result<(), prometheus::Error> {
    let info = gauge(
        registry,
        "portcullis_port_info",
        "Always 1; how the port runs stands in the labels.",
        &["port", "interface", "mode"],
    )?;
    let queues = gauge(
        registry,
        "portcullis_port_queues",
        "Queues with a socket.",
        &["port"],
    )?;
    let kernel = counter(
        registry,
        "portcullis_xdp_statistics_total",
        "XDP_STATISTICS of the sockets of a queue, by the kernel's name.",
        &["port", "queue", "counter"],
    )?;
    let gate = counter(
        registry,
        "portcullis_gate_frames_total",
        "Frames seen by the in-kernel gate since it was attached: given to a socket, or dropped because there was none.",
        &["port", "verdict"],
    )?;
    for port in source.ports {
        info.with_label_values(&[port.side, &port.interface, port.mode])
            .set(1);
        queues
            .with_label_values(&[port.side])
            .set(port.queues.into());
        for (queue, statistics) in port.statistics().iter().enumerate() {
            let queue = queue.to_string();
            for (name, n) in statistics {
                kernel
                    .with_label_values(&[port.side, &queue, name])
                    .inc_by(*n);
            }
        }
        let stats = port.gate();
        gate.with_label_values(&[port.side, "socket"])
            .inc_by(stats.redirected);
        gate.with_label_values(&[port.side, "no-socket"])
            .inc_by(stats.no_socket);
    }
    Ok(())
}

fn workers(registry: &Registry, source: &Source<'_>) -> Result<(), prometheus::Error> {
    let turns = counter(
        registry,
        "portcullis_worker_turns_total",
        "Turns of a worker's loop.",
        &["worker"],
    )?;
    let busy = counter(
        registry,
        "portcullis_worker_busy_turns_total",
        "Turns that moved at least one frame.",
        &["worker"],
    )?;
    for (index, (all, moved)) in source.counters.turns.iter().enumerate() {
        let worker = index.to_string();
        turns.with_label_values(&[&worker]).inc_by(*all);
        busy.with_label_values(&[&worker]).inc_by(*moved);
    }
    gauge(
        registry,
        "portcullis_uptime_seconds",
        "Seconds since the start.",
        &[],
    )?
    .with_label_values::<&str>(&[])
    .set(source.uptime as i64);
    Ok(())
}
