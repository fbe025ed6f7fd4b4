//! What one port has received in a trial.

use crate::mark::{Kind, Mark};
use crate::window::Window;
use hdrhistogram::Histogram;

/// The longest latency that is told from longer ones, nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// Digits of a latency that are right.
const DIGITS: u8 = 3;

/// Counts the frames of one trial, and those that are not of it.
#[derive(Clone, Debug)]
pub struct Tally {
    trial: u16,
    /// Frames that should come.
    pub counted: Window,
    /// Those of them that came after a later one of their flow (RFC 4737 section 3.3). Queues of a NIC are emptied one after the other, so that of the order of
    /// different flows nothing can be said.
    pub reordered: u64,
    /// By flow: how often it had been sent when the latest of its frames was.
    latest: Vec<u64>,
    /// How long they were on their way, nanoseconds.
    pub latency: Histogram<u64>,
    /// Frames that must not come and did, by which of the forbidden flows it was.
    pub leaked: Vec<u64>,
    /// Flows that a frame of [`Kind::Opening`] came for.
    pub open: Vec<bool>,
    /// How many of them.
    pub opened: u64,
    /// Frames of the other port without a mark: what the device made of ours, or sends by itself.
    pub foreign: u64,
    /// Frames of an earlier trial.
    pub stale: u64,
}

/// A histogram of latencies.
pub fn histogram() -> Histogram<u64> {
    // The bounds are right, so that it never falls back.
    Histogram::new_with_bounds(1, LONGEST, DIGITS)
        .or_else(|_| Histogram::new(DIGITS))
        .unwrap_or_else(|_| unreachable!("three digits are possible"))
}

impl Tally {
    /// For a trial of so many flows in turn, with so many forbidden ones.
    pub fn new(trial: u16, flows: usize, forbidden: usize) -> Tally {
        Tally {
            trial,
            counted: Window::default(),
            reordered: 0,
            latest: vec![0; flows.max(1)],
            latency: histogram(),
            leaked: vec![0; forbidden],
            open: Vec::new(),
            opened: 0,
            foreign: 0,
            stale: 0,
        }
    }

    /// For one that opens so many flows.
    pub fn opening(trial: u16, flows: usize) -> Tally {
        Tally {
            open: vec![false; flows],
            ..Tally::new(trial, 1, 0)
        }
    }

    /// Takes a frame that was received at `now`.
    #[inline]
    pub fn take(&mut self, frame: &[u8], now: u64) {
        let Some(mark) = Mark::of(frame) else {
            self.foreign += 1;
            return;
        };
        if mark.trial != self.trial {
            self.stale += 1;
            return;
        }
        match mark.kind {
            Kind::Counted => {
                if self.counted.take(mark.sequence) {
                    self.latency.saturating_record(mark.age(now).max(1));
                    self.order(mark.sequence);
                }
            }
            Kind::Forbidden => {
                let flows = self.leaked.len().max(1) as u64;
                if let Some(leaked) = self.leaked.get_mut((mark.sequence % flows) as usize) {
                    *leaked += 1;
                }
            }
            Kind::Opening => {
                if let Some(open) = self.open.get_mut(mark.sequence as usize) {
                    self.opened += u64::from(!*open);
                    *open = true;
                }
            }
        }
    }

    fn order(&mut self, sequence: u64) {
        let flows = self.latest.len() as u64;
        let turn = sequence / flows;
        if let Some(latest) = self.latest.get_mut((sequence % flows) as usize) {
            self.reordered += u64::from(turn < *latest);
            *latest = turn.max(*latest);
        }
    }

    /// The trial that it counts.
    pub fn trial(&self) -> u16 {
        self.trial
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: Kind, trial: u16, sequence: u64) -> Vec<u8> {
        let time = 1_000;
        let mark = Mark {
            kind,
            trial,
            sequence,
            time,
        };
        [&[0; 42][..], &mark.bytes()].concat()
    }

    #[test]
    fn each_frame_is_counted_in_one_place() {
        let mut tally = Tally {
            open: vec![false; 2],
            ..Tally::new(3, 1, 4)
        };
        for sequence in [0, 1, 1, 0, 2] {
            tally.take(&frame(Kind::Counted, 3, sequence), 3_000);
        }
        tally.take(&frame(Kind::Counted, 2, 0), 3_000);
        tally.take(&frame(Kind::Forbidden, 3, 5), 3_000);
        tally.take(&frame(Kind::Opening, 3, 1), 3_000);
        tally.take(&frame(Kind::Opening, 3, 7), 3_000);
        tally.take(&[0; 60], 3_000);
        assert_eq!((tally.counted.received, tally.counted.duplicated), (3, 2));
        assert_eq!(tally.latency.len(), 3);
        assert_eq!(tally.latency.max(), 2_000);
        assert_eq!((tally.stale, tally.foreign), (1, 1));
        assert_eq!(
            (tally.leaked, tally.open),
            (vec![0, 1, 0, 0], vec![false, true])
        );
    }

    #[test]
    fn the_order_is_that_of_each_flow() {
        let reordered = |flows, sequences: &[u64]| {
            let mut tally = Tally::new(3, flows, 0);
            for sequence in sequences {
                tally.take(&frame(Kind::Counted, 3, *sequence), 3_000);
            }
            tally.reordered
        };
        // Flow 1 overtakes flow 0, which is nobody's business; then a frame of its own is late.
        assert_eq!(reordered(2, &[1, 3, 0, 2]), 0);
        assert_eq!(reordered(2, &[3, 1, 0, 2]), 1);
        assert_eq!(reordered(1, &[1, 3, 0, 2]), 2);
        assert_eq!(reordered(1, &[0, 1, 1, 0]), 0, "those are duplicates");
    }

    #[test]
    fn a_latency_has_three_digits_from_a_nanosecond_to_a_minute() {
        let mut histogram = histogram();
        histogram.saturating_record(1);
        histogram.saturating_record(123_456_789);
        histogram.saturating_record(u64::MAX);
        assert_eq!(histogram.min(), 1);
        assert!(histogram.value_at_quantile(0.5).abs_diff(123_456_789) < 123_456);
        assert!(histogram.max() >= LONGEST);
    }
}
