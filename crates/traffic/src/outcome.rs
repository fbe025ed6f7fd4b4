//! What came of a trial.

use crate::pace::Rate;
use crate::tally;
use hdrhistogram::Histogram;

/// A sender that offered less than this part of what was asked for has not made the trial that was asked for.
const OFFERED: f64 = 0.99;

/// What was sent in a trial, in both directions together, and what became of it.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was asked for, frames a second in each direction.
    pub asked: Rate,
    /// Frames sent that should arrive.
    pub sent: u64,
    /// Bytes of all frames sent, with FCS.
    pub bytes: u64,
    /// How many of them arrived.
    pub received: u64,
    /// Frames that arrived once more.
    pub duplicated: u64,
    /// Frames that arrived after one of their flow that was sent later.
    pub reordered: u64,
    /// Frames sent that must not arrive.
    pub forbidden: u64,
    /// Frames that must not arrive and did, by flow.
    pub leaked: Vec<u64>,
    /// Frames of a port of ours that have no mark of ours.
    pub foreign: u64,
    /// Frames that arrived at the tester and were lost there, since it was too slow.
    pub lost_here: u64,
    /// Directions that were sent in.
    pub directions: u32,
    /// Nanoseconds from the first frame to the last.
    pub took: u64,
    /// How long frames were on their way, nanoseconds.
    pub latency: Histogram<u64>,
}

impl Default for Outcome {
    fn default() -> Outcome {
        Outcome {
            asked: Rate::Max,
            sent: 0,
            bytes: 0,
            received: 0,
            duplicated: 0,
            reordered: 0,
            forbidden: 0,
            leaked: Vec::new(),
            foreign: 0,
            lost_here: 0,
            directions: 1,
            took: 0,
            latency: tally::histogram(),
        }
    }
}

impl Outcome {
    /// Frames that did not arrive.
    pub fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.received)
    }

    /// The part of them that did not.
    pub fn loss(&self) -> f64 {
        self.lost() as f64 / self.sent.max(1) as f64
    }

    /// Forbidden frames that arrived.
    pub fn leaks(&self) -> u64 {
        self.leaked.iter().sum()
    }

    /// Frames a second that were really sent in each direction, forbidden ones too.
    pub fn offered(&self) -> f64 {
        let each = (self.sent + self.forbidden) / u64::from(self.directions.max(1));
        // From the first frame to the last there is one gap less than there are frames.
        each.saturating_sub(1) as f64 * 1e9 / self.took.max(1) as f64
    }

    /// Whether the tester did what was asked of it: it offered the rate, and lost nothing itself.
    pub fn valid(&self) -> bool {
        self.offered_enough() && self.lost_here == 0
    }

    /// Whether the sender offered the rate.
    pub fn offered_enough(&self) -> bool {
        self.asked
            .fixed()
            .is_none_or(|asked| self.offered() >= asked * OFFERED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(asked: f64, sent: u64) -> Outcome {
        Outcome {
            asked: Rate::Fixed(asked),
            sent,
            received: sent - 2,
            took: 1_000_000_000,
            ..Outcome::default()
        }
    }

    #[test]
    fn a_rate_that_was_not_offered_makes_no_trial() {
        assert!(outcome(1000.0, 1001).valid());
        assert!(outcome(1000.0, 992).valid());
        assert!(!outcome(1000.0, 980).valid());
        let lost_here = Outcome {
            lost_here: 1,
            ..outcome(1000.0, 1001)
        };
        assert!(!lost_here.valid() && lost_here.offered_enough());
    }

    #[test]
    fn what_did_not_arrive_is_lost() {
        let outcome = outcome(1000.0, 1001);
        assert_eq!(outcome.lost(), 2);
        assert!((outcome.offered() - 1000.0).abs() < 1e-9);
        assert!((outcome.loss() - 2.0 / 1001.0).abs() < 1e-9);
    }
}
