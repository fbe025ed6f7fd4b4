//! Finding the highest rate, or the longest burst, that a device forwards without loss.

use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::pace::Rate;

/// Something that trials can be made with.
pub trait Device {
    /// Offers frames at a rate for the time of a trial.
    ///
    /// # Errors
    /// [`Failure`].
    fn trial(&mut self, rate: Rate) -> Result<Outcome, Failure>;

    /// Offers so many frames at full speed.
    ///
    /// # Errors
    /// [`Failure`].
    fn burst(&mut self, frames: u64) -> Result<Outcome, Failure>;
}

/// How a rate is looked for.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The part of the frames that may be lost.
    pub tolerance: f64,
    /// The search ends when it knows the rate to this part of the highest.
    pub resolution: f64,
    /// A rate at which frames were lost is tried so often again: on a machine that does other things too, a loss may not be the device's.
    pub retries: u32,
    /// No higher rate is tried, frames a second; without it, full speed is.
    pub most: Option<f64>,
}

/// What bounds the rate that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The device lost frames above it.
    Device,
    /// The tester offered no more, and the device lost none: it could do more.
    Tester,
    /// Nothing higher was asked for, and the device lost none.
    Asked,
}

/// What a search found.
#[derive(Clone, Debug)]
pub struct Found {
    /// The trial without loss at the highest rate; none where every rate had some.
    pub best: Option<Outcome>,
    /// What it is bounded by.
    pub bound: Bound,
    /// Every trial, in order, and whether it passed.
    pub trials: Vec<(Outcome, bool)>,
}

impl Found {
    /// The highest rate without loss, frames a second; 0 where there was none.
    pub fn rate(&self) -> f64 {
        self.best.as_ref().map_or(0.0, Outcome::offered)
    }

    /// What made the last trial fail: the device, unless it was no trial.
    fn stopped_by(&self) -> Bound {
        match self.trials.last() {
            Some((outcome, _)) if !outcome.valid() => Bound::Tester,
            _ => Bound::Device,
        }
    }
}

impl Search {
    /// Looks for the highest rate without loss by halving what is between one that passed and one that did not (RFC 2544 section 26.1).
    ///
    /// # Errors
    /// [`Failure`], of the device.
    pub fn rate(&self, device: &mut dyn Device) -> Result<Found, Failure> {
        let mut found = Found {
            best: None,
            bound: Bound::Device,
            trials: Vec::new(),
        };
        let first = self.most.map_or(Rate::Max, Rate::Fixed);
        if self.passes(device, first, &mut found)? {
            found.bound = match first {
                Rate::Max => Bound::Tester,
                Rate::Fixed(_) => Bound::Asked,
            };
            return Ok(found);
        }
        found.bound = found.stopped_by();
        // At full speed the sender may have offered more than it can pace.
        let offered = found
            .trials
            .last()
            .map_or(0.0, |(outcome, _)| outcome.offered());
        let top = self.most.unwrap_or(offered).min(offered);
        let (mut low, mut high) = (0.0, top);
        let step = top * self.resolution.clamp(1e-4, 0.5);
        while high - low > step {
            let middle = f64::midpoint(low, high);
            if self.passes(device, Rate::Fixed(middle), &mut found)? {
                low = middle;
            } else {
                high = middle;
                found.bound = found.stopped_by();
            }
        }
        Ok(found)
    }

    /// Tries a rate, and again where it fails.
    fn passes(
        &self,
        device: &mut dyn Device,
        rate: Rate,
        found: &mut Found,
    ) -> Result<bool, Failure> {
        for _ in 0..=self.retries {
            let outcome = device.trial(rate)?;
            let passed = outcome.valid() && outcome.sent > 0 && outcome.loss() <= self.tolerance;
            if passed {
                found.best = Some(outcome.clone());
            }
            found.trials.push((outcome, passed));
            if passed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Looks for the longest burst at full speed that is forwarded without loss, up to `most` frames and to a hundredth of what it is (RFC 2544 section 26.4). The
    /// length, and whether `most` of them passed.
    ///
    /// # Errors
    /// [`Failure`], of the device.
    pub fn burst(&self, device: &mut dyn Device, most: u64) -> Result<(u64, bool), Failure> {
        let mut passes = |frames: u64| -> Result<bool, Failure> {
            let outcome = device.burst(frames)?;
            Ok(outcome.lost_here == 0 && outcome.loss() <= self.tolerance)
        };
        if passes(most)? {
            return Ok((most, true));
        }
        let (mut low, mut high) = (0, most);
        while high - low > (low / 100).max(1) {
            let middle = low + (high - low) / 2;
            if passes(middle)? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok((low, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A device that forwards so many frames a second and holds so many more back, asked by a tester that sends so many a second.
    struct Simulated {
        capacity: f64,
        buffer: u64,
        tester: f64,
        /// Of so many trials one loses a frame whatever its rate; 0 for none.
        noise: u32,
        trials: u32,
        seconds: f64,
    }

    impl Simulated {
        fn new(capacity: f64, tester: f64) -> Simulated {
            Simulated {
                capacity,
                buffer: 0,
                tester,
                noise: 0,
                trials: 0,
                seconds: 1.0,
            }
        }

        fn offer(&mut self, asked: Rate, frames: u64, rate: f64) -> Outcome {
            self.trials += 1;
            let took = frames as f64 / rate;
            let room = (self.capacity * took) as u64 + self.buffer;
            let noisy = self.noise > 0 && self.trials.is_multiple_of(self.noise);
            Outcome {
                asked,
                sent: frames,
                received: frames.min(room) - u64::from(noisy),
                took: (took * 1e9) as u64,
                ..Outcome::default()
            }
        }
    }

    impl Device for Simulated {
        fn trial(&mut self, rate: Rate) -> Result<Outcome, Failure> {
            let real = rate.fixed().unwrap_or(self.tester).min(self.tester);
            Ok(self.offer(rate, (real * self.seconds) as u64 + 1, real))
        }

        fn burst(&mut self, frames: u64) -> Result<Outcome, Failure> {
            let tester = self.tester;
            Ok(self.offer(Rate::Max, frames, tester))
        }
    }

    const SEARCH: Search = Search {
        tolerance: 0.0,
        resolution: 0.01,
        retries: 0,
        most: None,
    };

    proptest! {
        #[test]
        fn the_capacity_is_found_to_the_resolution(capacity in 1_000.0..900_000.0f64) {
            let mut device = Simulated::new(capacity, 1_000_000.0);
            let found = SEARCH.rate(&mut device).unwrap();
            prop_assert_eq!(found.bound, Bound::Device);
            let error = capacity - found.rate();
            prop_assert!((-20.0..=10_100.0).contains(&error), "{} of {capacity}", found.rate());
            prop_assert!(device.trials <= 9);
        }

        #[test]
        fn the_longest_burst_is_what_is_held_and_what_goes_meanwhile(buffer in 50..100_000u64) {
            let mut device = Simulated { buffer, ..Simulated::new(500_000.0, 1_000_000.0) };
            let (burst, all) = SEARCH.burst(&mut device, 2_000_000).unwrap();
            prop_assert!(!all);
            // Half of what comes has gone already.
            prop_assert!(burst.abs_diff(2 * buffer) <= burst / 50 + 3, "{burst} of {buffer}");
        }
    }

    #[test]
    fn a_device_that_is_faster_than_the_tester_is_said_to_be() {
        let found = SEARCH.rate(&mut Simulated::new(2e6, 1e6)).unwrap();
        assert_eq!((found.bound, found.trials.len()), (Bound::Tester, 1));
        assert!((found.rate() - 1e6).abs() < 2.0);
        let most = Some(5e5);
        let asked = Search { most, ..SEARCH };
        let found = asked.rate(&mut Simulated::new(2e6, 1e6)).unwrap();
        assert_eq!(found.bound, Bound::Asked);
        let (burst, all) = SEARCH.burst(&mut Simulated::new(2e6, 1e6), 777).unwrap();
        assert_eq!((burst, all), (777, true));
    }

    #[test]
    fn a_rate_that_the_tester_cannot_offer_is_no_pass() {
        let asked = Search {
            most: Some(2e6),
            ..SEARCH
        };
        let found = asked.rate(&mut Simulated::new(5e6, 1e6)).unwrap();
        assert_eq!(found.bound, Bound::Tester);
        assert!(
            found.rate() <= 1.01e6 && found.rate() > 0.9e6,
            "{}",
            found.rate()
        );
        assert!(!found.trials[0].1);
    }

    #[test]
    fn noise_ruins_a_search_and_a_second_try_or_a_tolerance_saves_it() {
        let noisy = || Simulated {
            noise: 3,
            ..Simulated::new(800_000.0, 1e6)
        };
        let rate = |search: Search| search.rate(&mut noisy()).unwrap().rate();
        assert!(rate(SEARCH) < 780_000.0);
        let again = Search {
            retries: 1,
            ..SEARCH
        };
        let tolerant = Search {
            tolerance: 1e-5,
            ..SEARCH
        };
        for search in [again, tolerant] {
            assert!((rate(search) - 800_000.0).abs() < 10_100.0);
        }
    }

    #[test]
    fn a_device_that_always_loses_has_no_throughput() {
        let mut device = Simulated {
            noise: 1,
            ..Simulated::new(1e9, 1e6)
        };
        let found = SEARCH.rate(&mut device).unwrap();
        assert!(found.best.is_none() && found.rate() == 0.0);
        assert_eq!(SEARCH.burst(&mut device, 1000).unwrap(), (0, false));
    }
}
