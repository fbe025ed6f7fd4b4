//! A gate that dies, hangs or is stuck, in both fail modes; `portcullis-drill` does the same a hundred times a cause.

use rig::drill::{Cause, Drill, Mode, Outcome};
use rig::{Rig, root_or_say};
use std::path::Path;
use std::time::Duration;

const WATCHDOG: Duration = Duration::from_millis(200);
/// What a busy machine may take on top of what a quiet one does.
const SLACK: Duration = Duration::from_millis(800);
const RUNS: usize = 2;

fn outcomes(mode: Mode, managed: bool, causes: &[Cause]) -> Vec<(Cause, Outcome)> {
    let binary = Path::new(env!("CARGO_BIN_EXE_portcullis"));
    let rig = Rig::new().expect("a rig");
    let mut drill = Drill::start(&rig, binary, (mode, managed), WATCHDOG).expect("a drill");
    let mut outcomes = Vec::new();
    for cause in causes {
        let outcome = drill.run(*cause).expect("a run");
        outcomes.extend(outcome.map(|outcome| (*cause, outcome)));
    }
    drill.finish().expect("a clean end");
    outcomes
}

/// All that are failures, one after the other.
fn failures() -> Vec<Cause> {
    let all = Cause::ALL
        .into_iter()
        .filter(|cause| !cause.is_a_handover());
    all.flat_map(|cause| [cause; RUNS]).collect()
}

fn in_time(cause: Cause, outcome: &Outcome) {
    let at_most = SLACK
        + if cause.is_a_hang() {
            WATCHDOG
        } else {
            Duration::ZERO
        };
    let failed = outcome.failed_after;
    assert!(
        failed.is_some_and(|after| after < at_most),
        "{cause:?}: {outcome:?}"
    );
    assert!(outcome.back_after.is_some(), "{cause:?}: {outcome:?}");
}

#[test]
fn a_closed_gate_that_fails_lets_nothing_through_and_comes_back_by_itself() {
    if !root_or_say("the failure drills, closed") {
        return;
    }
    let outcomes = outcomes(Mode::Closed, false, &failures());
    // Only a memory control group may be missing.
    assert!(outcomes.len() >= failures().len() - RUNS, "{outcomes:?}");
    for (cause, outcome) in &outcomes {
        in_time(*cause, outcome);
        assert_eq!(outcome.leaked, 0, "{cause:?}: {outcome:?}");
        assert!(outcome.lost > 0, "nothing passes meanwhile: {outcome:?}");
    }
}

#[test]
fn an_open_gate_that_fails_bridges_unfiltered_and_filters_again_when_it_is_back() {
    if !root_or_say("the failure drills, open") {
        return;
    }
    let outcomes = outcomes(Mode::Open, false, &failures());
    // Only a memory control group may be missing.
    assert!(outcomes.len() >= failures().len() - RUNS, "{outcomes:?}");
    for (cause, outcome) in &outcomes {
        in_time(*cause, outcome);
        assert!(outcome.unfiltered > 0, "it did not bridge: {outcome:?}");
        assert_eq!(
            outcome.leaked, 0,
            "{cause:?}, before, and after: {outcome:?}"
        );
        // 4,000 are sent in a second: what was lost fits into the time until it bridged.
        assert!(outcome.lost < 4000, "{cause:?}: {outcome:?}");
    }
}

#[test]
fn a_gate_that_hands_over_never_fails_in_either_mode() {
    if !root_or_say("the failure drills, handed over") {
        return;
    }
    for mode in [Mode::Closed, Mode::Open] {
        let outcomes = outcomes(mode, true, &[Cause::Handover; RUNS]);
        assert_eq!(outcomes.len(), RUNS);
        for (_, outcome) in &outcomes {
            assert_eq!([outcome.leaked, outcome.unfiltered], [0; 2], "{outcome:?}");
            assert!(outcome.back_after.is_some(), "{outcome:?}");
            // Five come in a millisecond, and 4,096 find room: a build that is not optimized may take longer on a busy machine.
            let room = outcome.silent_for < Duration::from_millis(750);
            assert!(outcome.lost == 0 || !room, "{outcome:?}");
            eprintln!("{}: {outcome:?}", mode.name());
        }
    }
}

#[test]
fn a_gate_that_took_over_and_dies_fails_as_soon_as_any_other() {
    if !root_or_say("the failure drills, after a hand-over") {
        return;
    }
    let causes = [Cause::Handover, Cause::Kill, Cause::Handover, Cause::Stop];
    for mode in [Mode::Closed, Mode::Open] {
        let outcomes = outcomes(mode, true, &causes);
        assert_eq!(outcomes.len(), causes.len());
        for (cause, outcome) in &outcomes {
            assert_eq!(outcome.leaked, 0, "{cause:?}: {outcome:?}");
            if !cause.is_a_handover() {
                in_time(*cause, outcome);
                eprintln!("{} {}: {outcome:?}", mode.name(), cause.name());
            }
        }
    }
}
