//! The counters of all workers at one moment, added up: what `status`, `replay` and the metrics show.

use crate::policy::{Generation, RuleId, Side};
use crate::telemetry::counters::{BURST_BOUNDS, FlowCounters, Health, TIME_BOUNDS};
use crate::telemetry::{Counter, Reason, WorkerCounters};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// A map that keeps its order in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named<T>(pub Vec<(String, T)>);

impl<T> Named<T> {
    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, value)| value)
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// What became of the frames received on one side.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Flowed {
    /// Frames received.
    pub rx: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames with the verdict forward.
    pub forwarded: u64,
    /// Bytes of them.
    pub forwarded_bytes: u64,
    /// Frames dropped, by reason; those of zero left out.
    pub dropped: Named<u64>,
    /// Frames refused with an answer.
    pub rejected: u64,
    /// Bytes of them.
    pub rejected_bytes: u64,
    /// Bytes of the frames that were dropped, but for those that do not fit a chunk.
    pub dropped_bytes: u64,
    /// Frames forwarded that would not have been if the policy were enforced, by reason; those of zero left out. Part of `forwarded`.
    pub shadow: Named<u64>,
    /// Frames given to the box's own stack.
    pub to_host_stack: u64,
    /// Forwarded frames that the other side's NIC has sent.
    pub tx: u64,
    /// The same and our own replies: what only goes up.
    #[serde(skip)]
    pub completed: u64,
    /// Forwarded frames that could not be sent.
    pub tx_failed: u64,
    /// Frames that the box built and sent on the other side; not part of `forwarded` and `tx`.
    pub replies: u64,
}

impl Flowed {
    /// Frames dropped for any reason.
    pub fn dropped_total(&self) -> u64 {
        self.dropped.0.iter().map(|(_, n)| n).sum()
    }

    /// Law 2: every frame received is accounted for, and every frame forwarded was sent or has failed. Holds at any quiet moment.
    pub fn balanced(&self) -> bool {
        self.rx == self.forwarded + self.dropped_total() + self.rejected + self.to_host_stack
            && self.forwarded == self.tx + self.tx_failed
    }
}

/// What one rule did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RuleHits {
    /// Frames it decided.
    pub packets: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Alerts (incidents opened or renewed) in its name.
    pub alerts: u64,
    /// It is judged and not enforced: `packets` would have been decided by it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// Its time is over: it matches nothing any more.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub expired: bool,
}

impl RuleHits {
    /// What a person should know beside the numbers: `  in shadow`, `  expired`, or nothing.
    pub fn note(&self) -> &'static str {
        match (self.expired, self.shadow) {
            (true, _) => "  expired",
            (_, true) => "  in shadow",
            _ => "",
        }
    }
}

/// What became of flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowCounts {
    /// Flows that are remembered now.
    pub live: u64,
    /// Flows that were let in.
    pub opened: u64,
    /// Flows that were idle for too long, or gave way to a new one with the same ports after their end.
    pub expired: u64,
    /// Flows thrown out for want of room.
    pub evicted: u64,
    /// Flows that found the table full.
    pub refused_full: u64,
    /// Flows that found their host at its limit.
    pub refused_host: u64,
    /// Connections that were open before the start.
    pub adopted: u64,
    /// Flows that a new generation of the policy was asked about.
    pub judged_again: u64,
    /// Of those, the ones that it forbids.
    pub ended: u64,
    /// Fragments that waited for the first of their datagram.
    pub fragments_held: u64,
}

impl FlowCounts {
    fn of(workers: &[Arc<WorkerCounters>]) -> FlowCounts {
        let sum = |of: fn(&FlowCounters) -> &Counter| -> u64 {
            workers.iter().map(|worker| of(&worker.flows).get()).sum()
        };
        let mut counts = FlowCounts {
            live: 0,
            opened: sum(|flows| &flows.opened),
            expired: sum(|flows| &flows.expired),
            evicted: sum(|flows| &flows.evicted),
            refused_full: sum(|flows| &flows.refused_full),
            refused_host: sum(|flows| &flows.refused_host),
            adopted: sum(|flows| &flows.adopted),
            judged_again: sum(|flows| &flows.judged_again),
            ended: sum(|flows| &flows.ended),
            fragments_held: sum(|flows| &flows.held),
        };
        // One worker may forget what another has let in, and be read before it.
        counts.live = counts
            .opened
            .saturating_sub(counts.expired + counts.evicted);
        counts
    }
}

/// All workers, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// By [`Side`] of reception.
    pub sides: [Flowed; 2],
    /// By rule, in the order of evaluation.
    pub rules: Named<RuleHits>,
    /// Flows.
    pub flows: FlowCounts,
    /// Alerting frames whose event was not told.
    pub events_lost: u64,
    /// DHCP requests that found the ring full.
    pub dhcp_lost: u64,
    /// Observations that were not judged by.
    pub observations_lost: u64,
    /// Frames of the box itself that were not sent.
    pub unsent: u64,
    /// Turns of each worker, and how many of them moved a frame.
    pub turns: Vec<(u64, u64)>,
    /// The last turn of each worker, nanoseconds of their steady clock.
    pub last_turns: Vec<u64>,
    /// How the workers go.
    pub health: Healths,
}

/// [`Health`] of all workers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Healths {
    /// Bursts by size, not cumulative.
    pub bursts: [u64; BURST_BOUNDS],
    /// Frames of all bursts.
    pub burst_frames: u64,
    /// Samples by time from receive to send, not cumulative.
    pub times: [u64; TIME_BOUNDS + 1],
    /// Nanoseconds of all samples.
    pub time_sum: u64,
    /// Frames that no port holds.
    pub pool: u64,
    /// Frames that were queued to be sent.
    pub transmit: u64,
    /// Frames that wait for the first fragment of their datagram.
    pub held: u64,
    /// All frames.
    pub frames: u64,
}

impl Healths {
    fn of(workers: &[Arc<WorkerCounters>]) -> Healths {
        let mut all = Healths::default();
        for Health {
            bursts,
            burst_frames,
            times,
            time_sum,
            pool,
            transmit,
            held,
            frames,
        } in workers.iter().map(|worker| &worker.health)
        {
            add(&mut all.bursts, bursts);
            add(&mut all.times, times);
            all.burst_frames += burst_frames.get();
            all.time_sum += time_sum.get();
            all.pool += pool.load(Relaxed);
            all.transmit += transmit.load(Relaxed);
            all.held += held.load(Relaxed);
            all.frames += frames.load(Relaxed);
        }
        all
    }

    /// Frames in the kernel's hands: to be received into, or received and not yet taken.
    pub fn receive(&self) -> u64 {
        let elsewhere = self.pool + self.transmit + self.held;
        self.frames.saturating_sub(elsewhere)
    }
}

fn add(sums: &mut [u64], counters: &[Counter]) {
    for (sum, counter) in sums.iter_mut().zip(counters) {
        *sum += counter.get();
    }
}

impl Snapshot {
    /// Reads the counters. `alerts` holds the number of alerts by [`RuleSlot`](crate::policy::RuleSlot).
    pub fn take(
        workers: &[Arc<WorkerCounters>],
        generation: &Generation,
        alerts: &[u64],
    ) -> Snapshot {
        let mut all = Snapshot {
            sides: Side::BOTH.map(|side| flowed(workers, side)),
            flows: FlowCounts::of(workers),
            health: Healths::of(workers),
            ..Snapshot::default()
        };
        for (index, rule) in generation.rules().iter().enumerate() {
            let id = RuleId(index as u32);
            let slot = generation.slot(id).index();
            let mut hits = RuleHits {
                alerts: alerts.get(slot).copied().unwrap_or(0),
                shadow: generation.rule_in_shadow(id),
                expired: generation.rule_expired(id),
                ..RuleHits::default()
            };
            for counters in workers.iter().filter_map(|worker| worker.rules.get(slot)) {
                hits.packets += counters.packets.get();
                hits.bytes += counters.bytes.get();
            }
            all.rules.0.push((rule.name.clone(), hits));
        }
        for worker in workers {
            all.events_lost += worker.events_lost.get();
            all.dhcp_lost += worker.dhcp_lost.get();
            all.observations_lost += worker.observations_lost.get();
            all.unsent += worker.unsent.get();
            all.turns
                .push((worker.turns.get(), worker.busy_turns.get()));
            all.last_turns.push(worker.last_turn.load(Relaxed));
        }
        all
    }

    /// True if both sides are; see [`Flowed::balanced`].
    pub fn balanced(&self) -> bool {
        self.sides.iter().all(Flowed::balanced)
    }
}

fn flowed(workers: &[Arc<WorkerCounters>], side: Side) -> Flowed {
    let mut sum = Flowed::default();
    let (mut dropped, mut shadow) = ([0; Reason::COUNT], [0; Reason::COUNT]);
    let mut completed = 0;
    for worker in workers {
        let counters = &worker.sides[side as usize];
        sum.rx += counters.rx.get();
        sum.rx_bytes += counters.rx_bytes.get();
        sum.forwarded += counters.forwarded.get();
        sum.forwarded_bytes += counters.forwarded_bytes.get();
        sum.rejected += counters.rejected.get();
        sum.rejected_bytes += counters.rejected_bytes.get();
        sum.dropped_bytes += counters.dropped_bytes.get();
        sum.to_host_stack += counters.to_host_stack.get();
        sum.tx_failed += counters.tx_failed.get();
        sum.replies += counters.replies.get();
        completed += counters.completed.get();
        add(&mut dropped, &counters.dropped);
        add(&mut shadow, &counters.shadow);
    }
    sum.completed = completed;
    sum.tx = completed.saturating_sub(sum.replies);
    sum.dropped = by_reason(&dropped);
    sum.shadow = by_reason(&shadow);
    sum
}

/// Those that are not zero, by name.
fn by_reason(counts: &[u64; Reason::COUNT]) -> Named<u64> {
    let some = Reason::ALL
        .iter()
        .map(|reason| (reason.name().to_string(), counts[reason.index()]));
    Named(some.filter(|(_, n)| *n > 0).collect())
}
