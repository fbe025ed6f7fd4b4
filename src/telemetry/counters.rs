//! What each worker counts. One writer, many readers: a counter is a plain add for its worker and a relaxed load for the others.

use super::Reason;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A counter with one writer. Adding is a load and a store, not a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the worker that owns the counter may call this, or counts are lost.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What became of the frames received on one side. At any quiet moment
/// `rx = forwarded + sum(dropped) + rejected + to_host_stack`, and `forwarded + replies = completed + tx_failed`.
///
/// Everything but `replies` is booked under the side that the frame was received on.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct SideCounters {
    /// Frames received.
    pub rx: Counter,
    /// Bytes received, without FCS.
    pub rx_bytes: Counter,
    /// Frames with the verdict forward.
    pub forwarded: Counter,
    /// Bytes of them.
    pub forwarded_bytes: Counter,
    /// Frames refused with an answer to their sender.
    pub rejected: Counter,
    /// Frames given to the stack of the box itself.
    pub to_host_stack: Counter,
    /// Frames that the kernel has finished sending on the other side, our own replies included.
    pub completed: Counter,
    /// Frames that could not be sent on the other side: ring full, or link down.
    pub tx_failed: Counter,
    /// Frames that the box built itself and sent on the other side.
    pub replies: Counter,
    /// Frames dropped, by [`Reason::index`].
    pub dropped: [Counter; Reason::COUNT],
    /// Frames forwarded that would have been dropped or rejected if the policy were enforced, by [`Reason::index`].
    pub shadow: [Counter; Reason::COUNT],
}

/// What one rule did.
#[derive(Debug, Default)]
pub struct RuleCounters {
    /// Frames it decided.
    pub packets: Counter,
    /// Bytes of them.
    pub bytes: Counter,
}

/// What became of flows.
#[derive(Debug, Default)]
pub struct FlowCounters {
    /// Flows that were let in.
    pub opened: Counter,
    /// Flows that were idle for too long, or gave way to a new one with the same ports after their end.
    pub expired: Counter,
    /// Flows thrown out for want of room.
    pub evicted: Counter,
    /// Flows that found the table full.
    pub refused_full: Counter,
    /// Flows that found their host at its limit.
    pub refused_host: Counter,
    /// Connections that were open before the start.
    pub adopted: Counter,
    /// Flows that a new generation of the policy was asked about.
    pub judged_again: Counter,
    /// Of those, the ones that it forbids.
    pub ended: Counter,
    /// Fragments that waited for the first of their datagram.
    pub held: Counter,
}

/// Everything that one worker counts.
#[derive(Debug)]
pub struct WorkerCounters {
    /// By [`Side`](crate::policy::Side) of reception.
    pub sides: [SideCounters; 2],
    /// By [`RuleId`](crate::policy::RuleId).
    pub rules: Box<[RuleCounters]>,
    /// Flows.
    pub flows: FlowCounters,
    /// Frames whose alert was not told: the event ring was full, or their machine had told of too many hosts in a second.
    pub events_lost: Counter,
    /// DHCP requests that found their ring full: a host may stay without a name.
    pub dhcp_lost: Counter,
    /// Observations that nobody judges by: the ring was full, or one machine had made too many.
    pub observations_lost: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// Turns that moved at least one frame.
    pub busy_turns: Counter,
    /// Time of the last turn, nanoseconds since the Unix epoch.
    pub last_turn: AtomicU64,
}

impl WorkerCounters {
    /// Zeroed, for a policy of `rules` rules.
    pub fn new(rules: usize) -> WorkerCounters {
        WorkerCounters {
            sides: Default::default(),
            rules: (0..rules).map(|_| RuleCounters::default()).collect(),
            flows: FlowCounters::default(),
            events_lost: Counter::default(),
            dhcp_lost: Counter::default(),
            observations_lost: Counter::default(),
            turns: Counter::default(),
            busy_turns: Counter::default(),
            last_turn: AtomicU64::new(0),
        }
    }
}
