//! Opening flows before they are measured, and seeing that they are open: a firewall forwards what belongs to a connection, a switch floods what it has not
//! learnt. (RFC 2544 section 23 has frames sent before a trial for that reason.)

use crate::failure::Failure;
use crate::flow::Flow;
use crate::frames::{Frames, Step};
use crate::load::{Load, Source};
use crate::pace::Rate;
use crate::tally::Tally;
use crate::tester::{Amount, Tester};
use crate::work::Job;

/// A flow whose frame was lost is tried so often in all.
const ROUNDS: u32 = 5;

/// The frames that open flows, by the step.
pub struct Opening<'a> {
    flows: &'a [Flow],
    steps: Vec<(Step, Load)>,
}

impl<'a> Opening<'a> {
    /// Of these flows, with frames of `size`.
    pub fn new(tester: &Tester, flows: &'a [Flow], size: usize) -> Opening<'a> {
        let steps = [
            Step::Open,
            Step::Answer,
            Step::Confirm,
            Step::Out,
            Step::Back,
        ];
        let load = |step| {
            let frames = Frames::build(flows, tester.ends(), step, size);
            (step, Load::plain(frames))
        };
        Opening {
            flows,
            steps: steps.into_iter().map(load).collect(),
        }
    }

    /// Opens every flow: a connection by its three segments, a flow of datagrams by one and its answer; then sends one frame more through each, both ways.
    ///
    /// # Errors
    /// [`Failure::Closed`] where one does not come through.
    pub fn open(&self, tester: &mut Tester, rate: Rate) -> Result<(), Failure> {
        for (step, load) in &self.steps {
            let missing = call(tester, load, *step, rate, ROUNDS)?;
            if let Some(first) = missing.first().and_then(|at| self.flows.get(*at as usize)) {
                return Err(Failure::Closed {
                    missing: missing.len(),
                    flows: self.flows.len(),
                    step: name(*step),
                    first: shown(first),
                    why: "the device does not let them through, or drops at --opening-rate; see what its policy says of that flow, how many flows it may have, and how many of one host",
                });
            }
        }
        Ok(())
    }

    /// How many flows a frame passes through now, without opening any.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn live(&self, tester: &mut Tester, rate: Rate) -> Result<usize, Failure> {
        let out = self.steps.iter().find(|(step, _)| *step == Step::Out);
        let Some((step, load)) = out else {
            return Ok(0);
        };
        let missing = call(tester, load, *step, rate, 2)?;
        Ok(self.flows.len() - missing.len())
    }
}

/// One frame of each flow; those that none came of after so many rounds.
fn call(
    tester: &mut Tester,
    load: &Load,
    step: Step,
    rate: Rate,
    rounds: u32,
) -> Result<Vec<u32>, Failure> {
    let from = usize::from(matches!(step, Step::Answer | Step::Back));
    let mut missing: Vec<u32> = (0..load.flows() as u32).collect();
    for _ in 0..rounds {
        if missing.is_empty() {
            break;
        }
        let trial = tester.next_trial();
        let mut jobs = [None, None];
        jobs[from] = Some(Job {
            source: Source::opening(load, trial, &missing),
            rate,
            amount: Amount::Frames(missing.len() as u64),
        });
        let tally = |at| Tally::opening(trial, if at == from { 0 } else { load.flows() });
        let sides = tester.run(jobs, [tally(0), tally(1)])?;
        let open = &sides[1 - from].tally.open;
        let came = |at: &u32| open.get(*at as usize).is_some_and(|open| *open);
        missing = missing.iter().copied().filter(|at| !came(at)).collect();
    }
    Ok(missing)
}

fn name(step: Step) -> &'static str {
    match step {
        Step::Open => "the first frame",
        Step::Answer => "the answer",
        Step::Confirm => "the frame after the answer",
        Step::Out => "a frame of the open flow",
        Step::Back => "its answer",
    }
}

fn shown(flow: &Flow) -> String {
    let protocol = if flow.tcp { "tcp" } else { "udp" };
    format!("{protocol} {} > {}", flow.src, flow.dst)
}
