//! What each worker counts. One writer, many readers: a counter is a plain add for its worker and a relaxed load for the others.

use super::Reason;
use crate::policy::RuleSlot;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

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
    /// Bytes of them.
    pub rejected_bytes: Counter,
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
    /// Bytes of them, but for frames that do not fit a chunk, whose length nobody knows.
    pub dropped_bytes: Counter,
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

/// How many bounds of sizes of bursts there are: 1, 2, 4 and so on to [`BURST`](crate::port::BURST).
pub const BURST_BOUNDS: usize = 7;
/// How many bounds of times in the box there are: 1 µs, 2 µs, 4 µs and so on to 16.384 ms. What takes longer is counted beyond them.
pub const TIME_BOUNDS: usize = 15;

/// What a worker says of how it goes: histograms, whose counts are not cumulative, and levels.
#[derive(Debug, Default)]
pub struct Health {
    /// Bursts by size: the first of at most 1 frame, the next of at most 2, and so on.
    pub bursts: [Counter; BURST_BOUNDS],
    /// Frames of all bursts.
    pub burst_frames: Counter,
    /// Samples by time from receive to send.
    pub times: [Counter; TIME_BOUNDS + 1],
    /// Nanoseconds of all samples.
    pub time_sum: Counter,
    /// Frames of the UMEM that no port holds, that were queued to be sent, and that wait for the first fragment of their datagram; all that the worker has.
    pub pool: AtomicU64,
    /// See `pool`.
    pub transmit: AtomicU64,
    /// See `pool`.
    pub held: AtomicU64,
    /// See `pool`.
    pub frames: AtomicU64,
}

impl Health {
    /// Counts a burst of `frames`, which are some.
    #[inline]
    pub fn burst(&self, frames: usize) {
        let at = frames.next_power_of_two().trailing_zeros() as usize;
        self.bursts[at.min(BURST_BOUNDS - 1)].add(1);
        self.burst_frames.add(frames as u64);
    }

    /// Counts a sample of the time from receive to send.
    pub fn time(&self, time: Duration) {
        // The bucket of 2^n microseconds holds what took no longer.
        let micros = time.as_nanos().div_ceil(1000).max(1);
        let at = micros.next_power_of_two().trailing_zeros() as usize;
        self.times[at.min(TIME_BOUNDS)].add(1);
        self.time_sum.add(time.as_nanos() as u64);
    }
}

/// Everything that one worker counts.
#[derive(Debug)]
pub struct WorkerCounters {
    /// By [`Side`](crate::policy::Side) of reception.
    pub sides: [SideCounters; 2],
    /// By [`RuleSlot`](crate::policy::RuleSlot).
    pub rules: Box<[RuleCounters]>,
    /// Flows.
    pub flows: FlowCounters,
    /// How it goes.
    pub health: Health,
    /// Frames whose alert was not told: the event ring was full, or their machine had told of too many hosts in a second.
    pub events_lost: Counter,
    /// DHCP requests that found their ring full: a host may stay without a name.
    pub dhcp_lost: Counter,
    /// Observations that nobody judges by: the ring was full, or one machine had made too many.
    pub observations_lost: Counter,
    /// Frames of the box itself that were not sent: no frame of the pool was free, one did not fit, or the port took fewer.
    pub unsent: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// Turns that moved at least one frame.
    pub busy_turns: Counter,
    /// Time of the last turn, nanoseconds of the workers' steady clock; 0 before the first. A clock that is set back would make a worker that stands still look well.
    pub last_turn: AtomicU64,
}

impl WorkerCounters {
    /// Zeroed, with room for `rules` rules.
    pub fn new(rules: usize) -> WorkerCounters {
        WorkerCounters {
            sides: Default::default(),
            rules: (0..rules).map(|_| RuleCounters::default()).collect(),
            flows: FlowCounters::default(),
            health: Health::default(),
            events_lost: Counter::default(),
            dhcp_lost: Counter::default(),
            observations_lost: Counter::default(),
            unsent: Counter::default(),
            turns: Counter::default(),
            busy_turns: Counter::default(),
            last_turn: AtomicU64::new(0),
        }
    }

    /// A frame of so many bytes met this rule. Only the worker that owns the counters may call this.
    #[inline(always)]
    pub fn hit(&self, rule: RuleSlot, bytes: u64) {
        if let Some(hits) = self.rules.get(rule.index()) {
            hits.packets.add(1);
            hits.bytes.add(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(counters: &[Counter]) -> Vec<u64> {
        counters.iter().map(Counter::get).collect()
    }

    #[test]
    fn a_burst_and_a_time_are_counted_under_the_first_bound_that_is_not_below_them() {
        let health = Health::default();
        for frames in [1, 2, 3, 4, 5, 33, 64] {
            health.burst(frames);
        }
        assert_eq!(counts(&health.bursts), [1, 1, 2, 1, 0, 0, 2]);
        assert_eq!(health.burst_frames.get(), 112);
        let nanos = [
            0,
            1,
            1000,
            1001,
            2000,
            2001,
            16_384_000,
            16_384_001,
            5_000_000_000,
        ];
        for time in nanos {
            health.time(Duration::from_nanos(time));
        }
        let mut expected = [0; TIME_BOUNDS + 1];
        (expected[0], expected[1], expected[2]) = (3, 2, 1);
        (expected[TIME_BOUNDS - 1], expected[TIME_BOUNDS]) = (1, 2);
        assert_eq!(counts(&health.times), expected);
        assert_eq!(health.time_sum.get(), nanos.iter().sum::<u64>());
    }
}
