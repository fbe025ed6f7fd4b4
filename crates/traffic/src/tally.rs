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
    /// For a trial with so many forbidden flows, or that opens so many.
    pub fn new(trial: u16, forbidden: usize, opening: usize) -> Tally {
        Tally {
            trial,
            counted: Window::default(),
            latency: histogram(),
            leaked: vec![0; forbidden],
            open: vec![false; opening],
            opened: 0,
            foreign: 0,
            stale: 0,
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
        let mut tally = Tally::new(3, 4, 2);
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
