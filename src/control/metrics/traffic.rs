//! Frames, and the flows that they are of.

use super::Source;
use super::family::{Families, Of};
use crate::control::snapshot::Flowed;
use crate::telemetry::Reason;

pub(super) fn frames(families: &mut Families, source: &Source<'_>) {
    let sides = || source.counters.sides.iter().zip(source.ports);
    let by_port: [Of<Flowed, u64>; 5] = [
        (
            "portcullis_received_frames_total",
            "Frames received.",
            |side| side.rx,
        ),
        (
            "portcullis_received_bytes_total",
            "Bytes received, without FCS.",
            |side| side.rx_bytes,
        ),
        (
            "portcullis_transmitted_frames_total",
            "Frames that the other port has sent: forwarded ones, and replies that the box built.",
            |side| side.completed,
        ),
        (
            "portcullis_transmit_failed_frames_total",
            "Forwarded frames that the other port could not send.",
            |side| side.tx_failed,
        ),
        (
            "portcullis_replies_total",
            "Frames that the box built and sent on the other port.",
            |side| side.replies,
        ),
    ];
    for (name, help, of) in by_port {
        let mut series = families.counter(name, help);
        for (side, port) in sides() {
            series.count(&[("port", port.side)], of(side));
        }
    }
    families
        .counter(
            "portcullis_own_unsent_frames_total",
            "Frames that the box built and a worker could not send: no frame was free, or the port took no more.",
        )
        .count(&[], source.counters.unsent);
    let by_verdict: [Of<Flowed, [(&'static str, u64); 4]>; 2] = [
        (
            "portcullis_frames_total",
            "Frames by the port they were received on and their verdict.",
            verdicts,
        ),
        (
            "portcullis_bytes_total",
            "Bytes of the frames, without FCS, by the port they were received on and their verdict.",
            bytes,
        ),
    ];
    for (name, help, of) in by_verdict {
        let mut series = families.counter(name, help);
        for (side, port) in sides() {
            for (verdict, n) in of(side) {
                series.count(&[("port", port.side), ("verdict", verdict)], n);
            }
        }
    }
    for (name, help, shadow) in [
        (
            "portcullis_dropped_frames_total",
            "Frames dropped, by reason.",
            false,
        ),
        (
            "portcullis_shadow_frames_total",
            "Frames forwarded that would not have been if the policy were enforced, by reason.",
            true,
        ),
    ] {
        let mut series = families.counter(name, help);
        for (side, port) in sides() {
            let counts = if shadow { &side.shadow } else { &side.dropped };
            for reason in Reason::ALL {
                let n = counts.get(reason.name()).copied().unwrap_or(0);
                series.count(&[("port", port.side), ("reason", reason.name())], n);
            }
        }
    }
}

fn verdicts(side: &Flowed) -> [(&'static str, u64); 4] {
    [
        ("forward", side.forwarded),
        ("drop", side.dropped_total()),
        ("reject", side.rejected),
        ("host", side.to_host_stack),
    ]
}

/// Nothing goes to a stack of the box yet.
fn bytes(side: &Flowed) -> [(&'static str, u64); 4] {
    [
        ("forward", side.forwarded_bytes),
        ("drop", side.dropped_bytes),
        ("reject", side.rejected_bytes),
        ("host", 0),
    ]
}

pub(super) fn flows(families: &mut Families, source: &Source<'_>) {
    let flows = &source.counters.flows;
    for (name, help, n) in [
        (
            "portcullis_flows",
            "Flows that are remembered now.",
            flows.live,
        ),
        (
            "portcullis_flows_limit",
            "Flows that there is room for.",
            source.flows_limit as u64,
        ),
        (
            "portcullis_fragments_waiting",
            "Fragments that wait for the first of their datagram now.",
            source.counters.health.held,
        ),
    ] {
        families.gauge(name, help).count(&[], n);
    }
    for (name, help, n) in [
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
    ] {
        families.counter(name, help).count(&[], n);
    }
    let mut refused = families.counter(
        "portcullis_flows_refused_total",
        "Flows that found no room: the table was full, or their host had as many as it may.",
    );
    refused.count(&[("why", "full")], flows.refused_full);
    refused.count(&[("why", "host")], flows.refused_host);
}
