//! The tests of RFC 2544, on whatever trials can be made with.

use crate::failure::Failure;
use crate::load::Load;
use crate::outcome::Outcome;
use crate::pace::Rate;
use crate::report::{BackToBack, Latency, Loss, LossStep, Quantiles, Throughput, Trial};
use crate::search::{Device, Search};
use crate::size::Size;
use crate::tester::{Amount, Tester};
use std::time::Duration;

/// Steps of a frame loss test, in percent of the highest rate (RFC 2544 section 26.3).
const STEP: u32 = 10;

/// A device behind a tester, for one load.
pub struct Flood<'a> {
    /// What sends and receives.
    pub tester: &'a mut Tester,
    /// What the LAN port sends, and the uplink port.
    pub loads: [Option<&'a Load>; 2],
    /// How long a trial is.
    pub time: Duration,
    /// Told of each trial as it ends.
    pub seen: &'a mut dyn FnMut(&Outcome),
}

impl Device for Flood<'_> {
    fn trial(&mut self, rate: Rate) -> Result<Outcome, Failure> {
        self.send(rate, Amount::Time(self.time))
    }

    fn burst(&mut self, frames: u64) -> Result<Outcome, Failure> {
        self.send(Rate::Max, Amount::Frames(frames))
    }
}

impl Flood<'_> {
    fn send(&mut self, rate: Rate, amount: Amount) -> Result<Outcome, Failure> {
        let outcome = self.tester.trial(self.loads, rate, amount)?;
        (self.seen)(&outcome);
        Ok(outcome)
    }
}

/// Throughput: the highest rate without loss (RFC 2544 section 26.1).
///
/// # Errors
/// [`Failure`].
pub fn throughput(
    device: &mut dyn Device,
    size: Size,
    search: &Search,
) -> Result<Throughput, Failure> {
    Ok(Throughput::of(size, &search.rate(device)?))
}

/// Latency at a rate (RFC 2544 section 26.2, but each frame is measured, not one of them).
///
/// # Errors
/// [`Failure`].
pub fn latency(
    device: &mut dyn Device,
    size: Size,
    rate: Rate,
    load_percent: Option<f64>,
) -> Result<Latency, Failure> {
    let outcome = device.trial(rate)?;
    let passed = outcome.valid() && outcome.lost() == 0;
    Ok(Latency {
        size: size.to_string(),
        load_percent,
        trial: Trial::of(&outcome, passed),
        quantiles: Quantiles::of(&outcome.latency),
    })
}

/// Frame loss by rate: from the highest down in steps of a tenth, until two in a row lose nothing (RFC 2544 section 26.3). The highest is `most` frames a second, or
/// what the tester offers at full speed.
///
/// # Errors
/// [`Failure`].
pub fn loss(device: &mut dyn Device, size: Size, most: Option<f64>) -> Result<Loss, Failure> {
    let mut steps: Vec<LossStep> = Vec::new();
    let mut top = most;
    for percent in (STEP..=100).rev().step_by(STEP as usize) {
        let rate = top.map_or(Rate::Max, |top| {
            Rate::Fixed(top * f64::from(percent) / 100.0)
        });
        let outcome = device.trial(rate)?;
        top = top.or(Some(outcome.offered()));
        let passed = outcome.valid() && outcome.lost() == 0;
        steps.push(LossStep {
            load_percent: percent.into(),
            loss_percent: outcome.loss() * 100.0,
            trial: Trial::of(&outcome, passed),
        });
        if let [.., before, last] = &steps[..]
            && before.trial.passed
            && last.trial.passed
        {
            break;
        }
    }
    Ok(Loss {
        size: size.to_string(),
        steps,
    })
}

/// Back-to-back frames: the longest burst at full speed without loss, so many times (RFC 2544 section 26.4).
///
/// # Errors
/// [`Failure`].
pub fn back_to_back(
    device: &mut dyn Device,
    size: Size,
    search: &Search,
    longest: u64,
    repeats: u32,
) -> Result<BackToBack, Failure> {
    let mut bursts = Vec::new();
    for _ in 0..repeats {
        let (burst, all) = search.burst(device, longest)?;
        bursts.push(burst);
        if all {
            // Nothing more is learnt from the longest.
            break;
        }
    }
    let sum: u64 = bursts.iter().sum();
    Ok(BackToBack {
        size: size.to_string(),
        mean: sum as f64 / bursts.len().max(1) as f64,
        bursts,
        longest_tried: longest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Forwards 500 frames a second of the thousand that the tester can offer, and holds 40 back.
    struct Half;

    impl Device for Half {
        fn trial(&mut self, rate: Rate) -> Result<Outcome, Failure> {
            let offered = rate.fixed().unwrap_or(1000.0).min(1000.0);
            let mut outcome = Outcome {
                asked: rate,
                sent: offered as u64 + 1,
                received: (offered as u64 + 1).min(500),
                took: 1_000_000_000,
                ..Outcome::default()
            };
            (0..outcome.received).for_each(|n| outcome.latency.saturating_record(1000 + n));
            Ok(outcome)
        }

        fn burst(&mut self, frames: u64) -> Result<Outcome, Failure> {
            Ok(Outcome {
                sent: frames,
                received: frames.min(40),
                ..Outcome::default()
            })
        }
    }

    const SEARCH: Search = Search {
        tolerance: 0.0,
        resolution: 0.01,
        retries: 0,
        most: None,
    };

    #[test]
    fn loss_goes_down_by_tenths_until_two_rates_lose_nothing() {
        let loss = loss(&mut Half, Size::Fixed(64), None).unwrap();
        let loads: Vec<f64> = loss.steps.iter().map(|step| step.load_percent).collect();
        assert_eq!(loads, [100.0, 90.0, 80.0, 70.0, 60.0, 50.0, 40.0, 30.0]);
        assert!(loss.steps[0].loss_percent > 49.0);
        assert!(loss.steps[6].trial.passed && loss.steps[7].trial.passed);
    }

    #[test]
    fn bursts_and_rates_are_told_with_what_bounds_them() {
        let bursts = back_to_back(&mut Half, Size::Fixed(64), &SEARCH, 1000, 3).unwrap();
        assert_eq!(bursts.bursts, [40, 40, 40]);
        let all = back_to_back(&mut Half, Size::Fixed(64), &SEARCH, 30, 3).unwrap();
        assert_eq!((all.bursts, all.mean), (vec![30], 30.0));
        let found = throughput(&mut Half, Size::Fixed(64), &SEARCH).unwrap();
        assert!((found.fps - 495.0).abs() < 10.0, "{}", found.fps);
        assert_eq!(found.bound, "device");
        assert!((found.line_mbps - found.fps * 84.0 * 8.0 / 1e6).abs() < 1e-9);
    }

    #[test]
    fn a_latency_comes_with_its_trial() {
        let rate = Rate::Fixed(400.0);
        let latency = latency(&mut Half, Size::Imix, rate, Some(80.0)).unwrap();
        assert_eq!(latency.quantiles.count, 401);
        assert!(latency.trial.passed);
    }
}
