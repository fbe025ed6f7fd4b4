//! The ports, the workers, and the gate as a whole.

use super::Source;
use super::family::Families;
use crate::telemetry::counters::{BURST_BOUNDS, TIME_BOUNDS};
use nix::time::{ClockId, clock_gettime};

pub(super) fn gate(families: &mut Families, source: &Source<'_>) {
    families
        .gauge(
            "portcullis_build_info",
            "Always 1; the version stands in the label.",
        )
        .count(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    families
        .gauge("portcullis_uptime_seconds", "Seconds since the start.")
        .put(&[], source.uptime.floor());
    families
        .gauge(
            "portcullis_healthy",
            "1 while every worker turns, else 0: what /healthz says.",
        )
        .count(&[], source.healthy.into());
    families
        .gauge(
            "portcullis_handover_taken",
            "1 where this process has taken sockets and packet memory over from the one before, so that frames waited for it; 0 where it has bound its own.",
        )
        .count(&[], source.taken.is_some().into());
    families
        .gauge(
            "portcullis_handover_gap_seconds",
            "How long frames waited in the receive rings at the take-over, seconds; 0 where there was none.",
        )
        .put(&[], source.taken.map_or(0.0, |taken| taken.gap_us as f64 / 1e6));
    let mut waiting = families.gauge(
        "portcullis_handover_waiting_frames",
        "Frames that were found in the receive rings at the take-over; 0 where there was none.",
    );
    for (at, port) in source.ports.iter().enumerate() {
        let frames = source.taken.map_or(0, |taken| taken.waiting[at]);
        waiting.count(&[("port", port.side)], frames);
    }
}

pub(super) fn ports(families: &mut Families, source: &Source<'_>) {
    let mut info = families.gauge(
        "portcullis_port_info",
        "Always 1; how the port runs stands in the labels.",
    );
    for port in source.ports {
        let labels = [
            ("port", port.side),
            ("interface", &*port.interface),
            ("mode", port.mode),
        ];
        info.count(&labels, 1);
    }
    let mut queues = families.gauge("portcullis_port_queues", "Queues with a socket.");
    for port in source.ports {
        queues.count(&[("port", port.side)], port.queues.into());
    }
    let mut kernel = families.counter(
        "portcullis_xdp_statistics_total",
        "XDP_STATISTICS of the sockets of a queue, by the kernel's name.",
    );
    for port in source.ports {
        for (queue, statistics) in port.statistics().iter().enumerate() {
            let queue = queue.to_string();
            for (name, n) in statistics {
                let labels = [("port", port.side), ("queue", &*queue), ("counter", *name)];
                kernel.count(&labels, *n);
            }
        }
    }
    let mut gate = families.counter(
        "portcullis_gate_frames_total",
        "Frames seen by the in-kernel gate since it was attached: given to a socket; dropped because there was none, or because its worker had not turned for too long; or handed to the other port unfiltered.",
    );
    for port in source.ports {
        let stats = port.gate();
        let of = |verdict| [("port", port.side), ("verdict", verdict)];
        gate.count(&of("socket"), stats.redirected);
        gate.count(&of("no-socket"), stats.no_socket);
        gate.count(&of("stale"), stats.stale);
        gate.count(&of("unfiltered"), stats.unfiltered);
    }
    let mut unfiltered = families.counter(
        "portcullis_unfiltered_seconds_total",
        "Seconds for which the in-kernel gate has let frames pass unfiltered (on_failure = \"open\") since it was attached: from the first of each outage to its last.",
    );
    for port in source.ports {
        let seconds = port.gate().unfiltered_for.as_secs_f64();
        unfiltered.put(&[("port", port.side)], seconds);
    }
    let mut last = families.gauge(
        "portcullis_unfiltered_last_timestamp_seconds",
        "When the last frame has passed unfiltered, seconds since the Unix epoch; 0 where none has since the in-kernel gate was attached.",
    );
    for port in source.ports {
        last.count(&[("port", port.side)], wall(port.gate().unfiltered_last));
    }
}

/// A time of `CLOCK_MONOTONIC`, nanoseconds, as seconds since the Unix epoch; 0 for 0.
fn wall(monotonic: u64) -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64
    });
    match monotonic {
        0 => 0,
        at => crate::control::status::now().saturating_sub(now.saturating_sub(at)) / 1_000_000_000,
    }
}

pub(super) fn workers(families: &mut Families, source: &Source<'_>) {
    let turns = || source.counters.turns.iter().enumerate();
    let mut all = families.counter("portcullis_worker_turns_total", "Turns of a worker's loop.");
    for (worker, (turns, _)) in turns() {
        all.count(&[("worker", &worker.to_string())], *turns);
    }
    let mut busy = families.counter(
        "portcullis_worker_busy_turns_total",
        "Turns that moved at least one frame.",
    );
    for (worker, (_, moved)) in turns() {
        busy.count(&[("worker", &worker.to_string())], *moved);
    }
    let mut age = families.gauge(
        "portcullis_worker_heartbeat_age_seconds",
        "Seconds since the last turn of a worker.",
    );
    for (worker, last) in source.counters.last_turns.iter().enumerate() {
        let nanos = source.now.saturating_sub(*last);
        age.put(&[("worker", &worker.to_string())], nanos as f64 / 1e9);
    }
    let health = &source.counters.health;
    let bounds: [f64; BURST_BOUNDS] = std::array::from_fn(|n| (1u64 << n) as f64);
    families.histogram(
        "portcullis_burst_frames",
        "Frames that were there at once when a queue was read.",
        &bounds,
        &health.bursts,
        health.burst_frames as f64,
    );
    let bounds: [f64; TIME_BOUNDS] = std::array::from_fn(|n| (1u64 << n) as f64 / 1e6);
    families.histogram(
        "portcullis_in_box_seconds",
        "From taking frames out of a queue to telling the other port to send, for one in 61 times that something is forwarded.",
        &bounds,
        &health.times,
        health.time_sum as f64 / 1e9,
    );
    let mut umem = families.gauge(
        "portcullis_umem_frames",
        "Frames of the packet memory by who has them: the pool, the receiving ends, the sending ends, or fragments that wait.",
    );
    for (owner, n) in [
        ("pool", health.pool),
        ("receive", health.receive()),
        ("transmit", health.transmit),
        ("held", health.held),
    ] {
        umem.count(&[("owner", owner)], n);
    }
}
