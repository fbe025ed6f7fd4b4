//! What a box has to show before it is measured: that it forwards, that a filter drops what its policy forbids, and that flows are open.

use crate::Failure;
use crate::boxes::Middle;
use crate::contender::{Contender, Duty};
use crate::frames::{Flow, Step, templates};
use crate::netns::Lab;
use crate::rules;
use crate::traffic::{End, Traffic};

/// Flows whose frames have to pass.
const ALLOWED: usize = 500;

/// How the flows of the office are opened, each by its two ends.
const OPENING: [(Step, End); 4] = [
    (Step::Open, End::Lan),
    (Step::Answer, End::Uplink),
    (Step::Speak, End::Lan),
    (Step::Hear, End::Uplink),
];

/// Opens each of these flows, all of one step before the next.
pub fn open(traffic: &mut Traffic, lab: &Lab, flows: &[Flow]) -> Result<(), Failure> {
    for (step, from) in OPENING {
        let arrived = traffic.deliver(lab, from, &templates(flows, step))?;
        if arrived < flows.len() {
            return Err(format!(
                "only {arrived} of {} flows could be opened: {step:?} from {from:?} does not arrive",
                flows.len()
            )
            .into());
        }
    }
    Ok(())
}

/// Refuses a box that does not do what it is compared for.
pub fn prove(
    contender: &Contender,
    traffic: &mut Traffic,
    lab: &Lab,
    flows: &[Flow],
) -> Result<(), Failure> {
    let allowed = templates(flows.iter().take(ALLOWED), Step::On);
    let forbidden = templates(&rules::forbidden(contender.has_thousand()), Step::Open);
    let duty = contender.duty();
    if duty == Duty::Swallow {
        return match traffic.probe(lab, End::Lan, &allowed, None)? {
            0 => Ok(()),
            n => Err(format!("it should send nothing, and sent {n} frames").into()),
        };
    }
    let arrived = traffic.deliver(lab, End::Lan, &allowed)?;
    if arrived < allowed.len() {
        return Err(format!(
            "it does not forward: only {arrived} of {} frames arrived",
            allowed.len()
        )
        .into());
    }
    if duty == Duty::Filter {
        let leaked = traffic.probe(lab, End::Lan, &forbidden, allowed.first().copied())?;
        if leaked > 0 {
            return Err(format!(
                "it is no filter: {leaked} of {} forbidden frames got through",
                forbidden.len()
            )
            .into());
        }
        return Ok(());
    }
    // That nothing else drops these is why their absence means something.
    let arrived = traffic.deliver(lab, End::Lan, &forbidden)?;
    if arrived < forbidden.len() {
        return Err("it has no rules, and drops frames that others are to drop".into());
    }
    Ok(())
}

/// Refuses a box that remembers fewer flows than were opened, or that opened some while it was measured (`before` is how many it had
/// opened until then). Returns how many are live.
pub fn live(
    middle: &dyn Middle,
    wanted: usize,
    before: Option<u64>,
) -> Result<Option<u64>, Failure> {
    let Some(flows) = middle.flows()? else {
        return Ok(None);
    };
    if flows.live < wanted as u64 {
        return Err(format!("{wanted} flows were opened, {} are live", flows.live).into());
    }
    match (before, flows.opened) {
        (Some(before), Some(after)) if after != before => Err(format!(
            "{} flows were opened while it was measured: not all frames were of open ones",
            after - before
        )
        .into()),
        _ => Ok(Some(flows.live)),
    }
}
