//! A port that only listens: to a sender in another process, which must be on the same machine for latencies to mean something.

use crate::mark::{Kind, Mark};
use crate::port::Port;
use crate::tally::Tally;
use crate::tester::Manner;
use crate::work::clock;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Whoever asks to stop is heard after this long.
const NAP: Duration = Duration::from_millis(1);

/// What was heard of one run of a sender.
pub struct Run {
    /// Its frames.
    pub tally: Tally,
    /// The longest time between two frames that should arrive, nanoseconds.
    pub silence: u64,
    /// When the latest of them came.
    latest: Option<u64>,
}

impl Run {
    fn new(trial: u16, flows: usize, foreign: u64) -> Run {
        // Of how many forbidden flows a leak is one, only the sender knows.
        let mut tally = Tally::new(trial, flows, 1);
        tally.foreign = foreign;
        Run {
            tally,
            silence: 0,
            latest: None,
        }
    }

    fn take(&mut self, frame: &[u8], kind: Kind, now: u64) {
        self.tally.take(frame, now);
        if kind == Kind::Counted {
            let before = self.latest.replace(now).unwrap_or(now);
            self.silence = self.silence.max(now.saturating_sub(before));
        }
    }

    /// Forbidden frames that arrived.
    pub fn leaked(&self) -> u64 {
        self.tally.leaked.iter().sum()
    }
}

/// Listens until it is told to stop, or `limit` is over, or nothing has come for `quiet` after something has. Hands over what it heard of each run of a sender, whose order is looked at by flow where it is known how many there are, and else (1) in all.
pub fn listen(
    port: &mut Port,
    manner: &Manner,
    limit: Option<Duration>,
    quiet: Option<Duration>,
    flows: usize,
    mut heard: impl FnMut(&Run),
) {
    let nanos = |time: Duration| time.as_nanos() as u64;
    let (start, mut last) = (clock(), None);
    let (mut run, mut foreign): (Option<Run>, u64) = (None, 0);
    loop {
        let now = clock();
        let over = limit.is_some_and(|limit| now - start > nanos(limit));
        let silent = last
            .zip(quiet)
            .is_some_and(|(last, quiet)| now.saturating_sub(last) > nanos(quiet));
        if manner.stop.load(Relaxed) || over || silent {
            break;
        }
        let mut arrived = None;
        let count = port.receive(|frame| {
            let now = *arrived.get_or_insert_with(clock);
            let Some(mark) = Mark::of(frame) else {
                match &mut run {
                    Some(run) => run.tally.foreign += 1,
                    None => foreign += 1,
                }
                return;
            };
            last = Some(now);
            if let Some(before) = run.take_if(|before| before.tally.trial() != mark.trial) {
                heard(&before);
            }
            // Those of before the first sender are its.
            let current = run
                .get_or_insert_with(|| Run::new(mark.trial, flows, std::mem::take(&mut foreign)));
            current.take(frame, mark.kind, now);
        });
        if count == 0 && !manner.spin {
            port.wait(NAP);
        }
    }
    if let Some(run) = &run {
        heard(run);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_silence_is_between_frames_that_should_arrive_and_leaks_are_counted() {
        let mut run = Run::new(3, 1, 0);
        let arrivals = [
            (Kind::Counted, 1_000),
            (Kind::Counted, 1_500),
            (Kind::Forbidden, 2_000),
            (Kind::Counted, 2_700),
            (Kind::Counted, 2_800),
            (Kind::Forbidden, 9_000),
        ];
        for (sequence, (kind, now)) in (0..).zip(arrivals) {
            let mark = Mark {
                kind,
                trial: 3,
                sequence,
                time: 500,
            };
            run.take(&mark.bytes(), kind, now);
        }
        assert_eq!((run.silence, run.leaked()), (1_200, 2));
    }
}
