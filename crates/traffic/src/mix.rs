//! Traffic as a security device meets it: many rules, many live flows, and a part that must not pass.
//!
//! In the manner of RFC 9411 (section 7.1, throughput with a mix of traffic; section 4.2, the policy): frames of open connections and datagrams, not
//! transactions of applications.

use crate::failure::Failure;
use crate::flow::Flow;
use crate::frames::Step;
use crate::load::Load;
use crate::opening::Opening;
use crate::outcome::Outcome;
use crate::pace::Rate;
use crate::policy::{KINDS, Policy};
use crate::report::{Forbidden, Latency, Mix};
use crate::search::Search;
use crate::size::Size;
use crate::suite::{self, Flood};
use crate::tester::Tester;
use std::time::Duration;

/// What is to be measured.
pub struct Plan<'a> {
    /// The rules that the device has.
    pub policy: &'a Policy,
    /// Flows that are opened and stay so.
    pub flows: &'a [Flow],
    /// Of a thousand frames so many are forbidden.
    pub per_mille: u64,
    /// Frame sizes.
    pub size: Size,
    /// How long a trial is.
    pub time: Duration,
    /// How the rate is looked for.
    pub search: Search,
    /// Percent of it at which latencies are measured.
    pub at: &'a [u8],
    /// How fast flows are opened.
    pub opening: Rate,
}

/// Opens the flows, looks for the highest rate without loss, measures latencies, and looks whether the flows are still open.
///
/// # Errors
/// [`Failure`]. A leak is none: the result says it.
pub fn run(
    tester: &mut Tester,
    plan: &Plan<'_>,
    say: &mut dyn FnMut(&str),
    seen: &mut dyn FnMut(&Outcome),
) -> Result<Mix, Failure> {
    let smallest = plan.size.pattern().into_iter().min().unwrap_or(64).into();
    let (forbidden, kinds) = plan.policy.forbidden(tester.ends(), smallest);
    let load = Load::of(plan.flows, tester.ends(), Step::Out, plan.size)
        .with_forbidden(forbidden, plan.per_mille);
    let opening = Opening::new(tester, plan.flows, smallest);
    say(&format!("opening {} flows", plan.flows.len()));
    opening.open(tester, plan.opening)?;
    let mut counts = Counts::new(kinds);
    let mut both = |outcome: &Outcome| {
        counts.add(outcome);
        seen(outcome);
    };
    let mut flood = Flood {
        tester,
        loads: [Some(&load), None],
        time: plan.time,
        seen: &mut both,
    };
    let throughput = suite::throughput(&mut flood, plan.size, &plan.search)?;
    let mut latency: Vec<Latency> = Vec::new();
    if throughput.fps > 0.0 {
        for percent in plan.at {
            let rate = Rate::Fixed(throughput.fps * f64::from(*percent) / 100.0);
            let percent = Some(f64::from(*percent));
            latency.push(suite::latency(&mut flood, plan.size, rate, percent)?);
        }
    }
    say("looking which flows are still open");
    let live_after = opening.live(tester, plan.opening)?;
    Ok(Mix {
        size: plan.size.to_string(),
        rules: plan.policy.rules(),
        flows: plan.flows.len(),
        live_after,
        forbidden_per_mille: plan.per_mille,
        throughput,
        latency,
        leaked: counts.all.iter().map(|kind| kind.leaked).sum(),
        kinds: counts.all,
    })
}

/// Forbidden frames by what forbids them.
struct Counts {
    /// Of each forbidden flow.
    kinds: Vec<usize>,
    all: Vec<Forbidden>,
}

impl Counts {
    fn new(kinds: Vec<usize>) -> Counts {
        let empty = |kind| Forbidden {
            kind,
            sent: 0,
            leaked: 0,
        };
        Counts {
            kinds,
            all: KINDS.into_iter().map(empty).collect(),
        }
    }

    /// Forbidden flows are sent in turn, so that it is known how often each was.
    fn add(&mut self, outcome: &Outcome) {
        let flows = self.kinds.len().max(1) as u64;
        for (at, kind) in self.kinds.iter().enumerate() {
            let once_more = u64::from(outcome.forbidden % flows > at as u64);
            if let Some(count) = self.all.get_mut(*kind) {
                count.sent += outcome.forbidden / flows + once_more;
                count.leaked += outcome.leaked.get(at).copied().unwrap_or(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_frames_are_counted_by_kind() {
        let mut counts = Counts::new(vec![0, 0, 3]);
        counts.add(&Outcome {
            forbidden: 7,
            leaked: vec![0, 1, 2],
            ..Outcome::default()
        });
        let of = |kind: usize| (counts.all[kind].sent, counts.all[kind].leaked);
        assert_eq!((of(0), of(3), of(1)), ((5, 1), (2, 2), (0, 0)));
    }
}
