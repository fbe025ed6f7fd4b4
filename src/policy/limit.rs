//! Token buckets: how many frames a rule does its action for. One bucket for a rule, whatever number of workers.

use super::rule::{Limit, Policy};
use super::{Action, RuleId, RuleSlot, Verdict};
use crate::telemetry::Reason;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A bucket that is emptier than empty by more than this, nanoseconds, was filled before the clock was set back.
/// Workers of one gate read their clocks within far less of each other.
const CLOCK_SET_BACK: u64 = 1_000_000_000;

/// The longest time that a limit counts over, nanoseconds: a century and more, and far from the end of the word.
const LONGEST: u64 = 1 << 62;

/// A token bucket in one word: the generic cell rate algorithm in its virtual-scheduling form (ITU-T I.371 annex A). The word
/// is the theoretical arrival time of the next frame, nanoseconds; admitting a frame moves it one interval on.
///
/// In any stretch of `t` nanoseconds at most `burst + t / interval` frames are admitted, from any number of threads.
#[derive(Debug)]
#[repr(align(64))]
pub struct Bucket {
    arrival: AtomicU64,
    /// Nanoseconds a frame, rounded up: no more than the rate, and at most 10^9 a second.
    interval: u64,
    /// How far ahead of now the arrival time may be for a frame to be admitted, nanoseconds.
    ahead: u64,
}

impl Bucket {
    /// Full.
    pub fn new(limit: Limit) -> Bucket {
        let nanos = u64::try_from(limit.per.as_nanos()).map_or(LONGEST, |n| n.min(LONGEST));
        let interval = nanos.div_ceil(u64::from(limit.frames).max(1)).max(1);
        Bucket {
            arrival: AtomicU64::new(0),
            interval,
            ahead: interval.saturating_mul(u64::from(limit.burst.max(1)) - 1),
        }
    }

    fn is_of_the_limit_of(&self, other: &Bucket) -> bool {
        (self.interval, self.ahead) == (other.interval, other.ahead)
    }

    /// Whether a frame at `now` (nanoseconds) is within the limit; if so, it is counted. A `now` that is a little older than
    /// that of another thread does no harm. Where the clock was set back by more than a second, the bucket is empty and
    /// fills from there.
    #[inline]
    pub fn admit(&self, now: u64) -> bool {
        let full = self.ahead.saturating_add(self.interval);
        let mut stored = self.arrival.load(Relaxed);
        loop {
            let set_back = stored.saturating_sub(now) > full.saturating_add(CLOCK_SET_BACK);
            let arrival = if set_back {
                now.saturating_add(full)
            } else {
                stored.max(now)
            };
            let after = arrival.checked_add(self.interval);
            let after = after.filter(|_| arrival - now <= self.ahead);
            let next = match after {
                Some(after) => after,
                None if set_back => arrival,
                None => return false,
            };
            let exchange = self
                .arrival
                .compare_exchange_weak(stored, next, Relaxed, Relaxed);
            match exchange {
                Ok(_) => return after.is_some(),
                Err(changed) => stored = changed,
            }
        }
    }
}

/// The buckets of a policy, found by rule.
#[derive(Debug)]
pub struct Limits {
    /// By rule: an index into `buckets`, or [`UNLIMITED`].
    of_rule: Box<[u32]>,
    /// Each with what its rule is counted under, in every generation.
    buckets: Box<[(Arc<Bucket>, RuleSlot)]>,
}

/// A rule without a bucket.
const UNLIMITED: u32 = u32::MAX;

impl Limits {
    /// Buckets for the rules that have a limit; `None` where none has one. They are full, but for those that a rule of the same slot and limit has in `before`: these are
    /// the same. `slots` is as long as the policy has rules.
    pub fn new(policy: &Policy, slots: &[RuleSlot], before: Option<&Limits>) -> Option<Limits> {
        let kept: HashMap<RuleSlot, &Arc<Bucket>> = before
            .iter()
            .flat_map(|before| before.buckets.iter().map(|(bucket, slot)| (*slot, bucket)))
            .collect();
        let mut buckets = Vec::new();
        let of_rule = policy
            .rules
            .iter()
            .zip(slots)
            .map(|(rule, slot)| match rule.limit {
                // What is dropped anyway needs no limit.
                Some(limit) if rule.action != Action::Drop => {
                    let new = Bucket::new(limit);
                    let bucket = match kept.get(slot) {
                        Some(kept) if kept.is_of_the_limit_of(&new) => Arc::clone(kept),
                        _ => Arc::new(new),
                    };
                    buckets.push((bucket, *slot));
                    buckets.len() as u32 - 1
                }
                _ => UNLIMITED,
            })
            .collect();
        (!buckets.is_empty()).then(|| Limits {
            of_rule,
            buckets: buckets.into(),
        })
    }

    /// Whether this rule has one.
    pub fn is_on(&self, rule: RuleId) -> bool {
        let bucket = self.of_rule.get(rule.index());
        bucket.is_some_and(|at| *at != UNLIMITED)
    }

    /// What becomes of a frame at `now` (nanoseconds) that `rule` has judged to be `verdict`: beyond the rule's limit, what was to be
    /// forwarded is dropped for [`Reason::RateLimit`], and what was to be rejected is dropped without an answer.
    #[inline]
    pub fn apply(&self, rule: RuleId, verdict: Verdict, now: u64) -> Verdict {
        let bucket = self.of_rule.get(rule.index()).copied();
        match bucket.and_then(|at| self.buckets.get(at as usize)) {
            Some((bucket, _)) if !bucket.admit(now) => match verdict {
                Verdict::Forward => Verdict::Drop(Reason::RateLimit),
                Verdict::Reject(reason) | Verdict::Drop(reason) => Verdict::Drop(reason),
                other => other.without_decoy(),
            },
            _ => verdict,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;
    /// Some time in 2026.
    const EPOCH: u64 = 1_795_000_000 * SECOND;

    fn bucket(frames: u32, per: Duration, burst: u32) -> Bucket {
        Bucket::new(Limit { frames, per, burst })
    }

    fn per_second(frames: u32, burst: u32) -> Bucket {
        bucket(frames, Duration::from_secs(1), burst)
    }

    #[test]
    fn a_full_bucket_admits_its_burst_at_once_and_then_its_rate() {
        let bucket = per_second(10, 5);
        let at = |now| (0..100).filter(|_| bucket.admit(now)).count();
        assert_eq!(at(EPOCH), 5);
        assert_eq!(at(EPOCH + SECOND / 10 - 1), 0);
        assert_eq!(at(EPOCH + SECOND / 10), 1);
        assert_eq!(at(EPOCH + SECOND / 10 + 3 * SECOND / 10), 3);
        assert_eq!(at(EPOCH + 3600 * SECOND), 5, "no more than the burst");
    }

    #[test]
    fn what_is_beyond_the_limit_takes_nothing_from_what_comes_later() {
        let bucket = per_second(10, 1);
        let mut admitted = 0;
        // A thousand frames a second for ten seconds.
        for n in 0..10_000 {
            admitted += u32::from(bucket.admit(EPOCH + n * SECOND / 1000));
        }
        assert_eq!(admitted, 100);
    }

    #[test]
    fn a_clock_that_is_set_back_stops_no_rule_for_longer_than_its_burst_takes() {
        let bucket = per_second(10, 5);
        while bucket.admit(EPOCH) {}
        let back = EPOCH - 3600 * SECOND;
        assert!(!bucket.admit(back), "set back is not a way to a new burst");
        assert!(!bucket.admit(back + SECOND / 20));
        let later = (1..=20).filter(|n| bucket.admit(back + n * SECOND / 10));
        assert_eq!(later.count(), 20, "and the rate is as it was");
    }

    #[test]
    fn limits_at_the_ends_of_their_types_neither_panic_nor_admit_too_much() {
        for per in [Duration::from_nanos(1), Duration::MAX] {
            for frames in [1, u32::MAX] {
                for burst in [1, u32::MAX] {
                    let bucket = bucket(frames, per, burst);
                    for now in [0, EPOCH, u64::MAX, 1] {
                        let admitted = (0..1000).filter(|_| bucket.admit(now)).count();
                        assert!(admitted as u64 <= u64::from(burst));
                    }
                }
            }
        }
    }

    /// The most frames that were admitted in excess of `burst + t / interval`, over all windows.
    fn assert_within(admitted: &[u64], burst: u64, interval: u64) {
        // It is enough to look at windows that begin and end with an admitted frame.
        for (first, start) in admitted.iter().enumerate() {
            for (last, end) in admitted.iter().enumerate().skip(first) {
                let count = (last - first + 1) as u64;
                assert!(
                    count <= burst + (end - start) / interval,
                    "{count} in {} ns, burst {burst}, interval {interval}",
                    end - start
                );
            }
        }
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_burst_and_rate(
            frames in 1u32..2000, burst in 1u32..50, steps in proptest::collection::vec(0u64..5_000_000, 1..400)
        ) {
            let bucket = per_second(frames, burst);
            let mut now = EPOCH;
            let mut admitted = Vec::new();
            for step in steps {
                now += step;
                if bucket.admit(now) {
                    admitted.push(now);
                }
            }
            assert_within(&admitted, burst.into(), bucket.interval);
        }
    }

    #[test]
    fn threads_together_get_no_more_than_one_thread_would() {
        use std::sync::Barrier;
        for (frames, burst) in [(1000, 1), (1000, 64), (1_000_000, 16), (7, 3)] {
            let bucket = per_second(frames, burst);
            let start = Barrier::new(4);
            // All go through the same times, each at its own pace: some are ahead, some behind.
            let run = || {
                start.wait();
                let times = (0..5_000u64).map(|n| EPOCH + n * 20_000);
                times.filter(|now| bucket.admit(*now)).collect::<Vec<_>>()
            };
            let mut admitted: Vec<u64> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
                threads
                    .into_iter()
                    .flat_map(|thread| thread.join().unwrap())
                    .collect()
            });
            admitted.sort_unstable();
            let most = u64::from(burst) + 4_999 * 20_000 / bucket.interval;
            assert!(admitted.len() as u64 <= most, "{} > {most}", admitted.len());
            // Enough windows to look at each.
            if admitted.len() <= 2_000 {
                assert_within(&admitted, burst.into(), bucket.interval);
            }
        }
    }
}
