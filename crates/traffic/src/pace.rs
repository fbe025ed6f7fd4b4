//! When frames are due.

const SECOND: u64 = 1_000_000_000;

/// How fast frames are offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rate {
    /// As fast as the sender can.
    Max,
    /// Frames a second.
    Fixed(f64),
}

impl Rate {
    /// Frames a second, if it is fixed.
    pub fn fixed(self) -> Option<f64> {
        match self {
            Rate::Max => None,
            Rate::Fixed(rate) => Some(rate),
        }
    }
}

/// Says how many frames are due. It knows no clock: times are nanoseconds of the caller's.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    rate: Rate,
    start: u64,
    sent: u64,
}

impl Pacer {
    /// From `start` on.
    pub fn new(rate: Rate, start: u64) -> Pacer {
        Pacer {
            rate,
            start,
            sent: 0,
        }
    }

    /// How many frames are due at `now`, `burst` at most. The first is due at the start; who is late has more of them due, until the rate is made up for.
    pub fn due(&self, now: u64, burst: u64) -> u64 {
        let Some(elapsed) = now.checked_sub(self.start) else {
            return 0;
        };
        match self.rate {
            Rate::Max => burst,
            Rate::Fixed(rate) => {
                let by_now = (elapsed as f64 * rate / SECOND as f64) as u64 + 1;
                by_now.saturating_sub(self.sent).min(burst)
            }
        }
    }

    /// So many were sent.
    pub fn sent(&mut self, count: u64) {
        self.sent += count;
    }

    /// Nanoseconds from `now` until the next frame is due.
    pub fn until_next(&self, now: u64) -> u64 {
        let next = match self.rate {
            Rate::Max => self.start,
            Rate::Fixed(rate) => self.start + (self.sent as f64 * SECOND as f64 / rate) as u64,
        };
        next.saturating_sub(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames that a sender sends which looks every `step` nanoseconds, for a second.
    fn sent(rate: f64, step: u64, burst: u64) -> (u64, u64) {
        let mut pacer = Pacer::new(Rate::Fixed(rate), 1_000);
        let (mut total, mut largest) = (0, 0);
        for now in (1_000..1_000 + SECOND).step_by(step as usize) {
            let due = pacer.due(now, burst);
            pacer.sent(due);
            total += due;
            largest = largest.max(due);
        }
        (total, largest)
    }

    #[test]
    fn a_second_has_as_many_frames_as_the_rate_says_however_often_the_sender_looks() {
        for rate in [1.0, 3.0, 1_000.0, 123_457.0, 1_000_000.0] {
            for step in [700, 10_000, 31_000] {
                let (total, _) = sent(rate, step, 64);
                assert!(
                    total.abs_diff(rate as u64) <= 1 + (rate * step as f64 / 1e9) as u64,
                    "{rate} by {step}: {total}"
                );
            }
        }
    }

    #[test]
    fn a_sender_that_keeps_up_sends_one_frame_at_a_time() {
        assert_eq!(sent(100_000.0, 1_000, 64).1, 1);
    }

    #[test]
    fn who_was_kept_away_makes_up_for_it_a_burst_at_a_time() {
        let mut pacer = Pacer::new(Rate::Fixed(1_000.0), 0);
        assert_eq!(pacer.due(SECOND, 64), 64);
        pacer.sent(64);
        assert_eq!(pacer.due(SECOND, 64), 64);
        pacer.sent(937);
        assert_eq!(pacer.due(SECOND, 64), 0);
        assert_eq!(pacer.until_next(SECOND), 1_000_000);
    }

    #[test]
    fn nothing_is_due_before_the_start_and_a_burst_always_is_at_full_speed() {
        assert_eq!(Pacer::new(Rate::Max, 10).due(9, 32), 0);
        assert_eq!(Pacer::new(Rate::Max, 10).due(10, 32), 32);
        assert_eq!(Pacer::new(Rate::Fixed(1.0), 10).until_next(3), 7);
    }
}
