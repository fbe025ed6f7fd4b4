//! A port that only listens: to a sender in another process, which must be on the same machine for latencies to mean something.

use crate::mark::Mark;
use crate::port::Port;
use crate::tally::Tally;
use crate::tester::{Manner, clock};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Whoever asks to stop is heard after this long.
const NAP: Duration = Duration::from_millis(1);

/// Listens until it is told to stop, or `limit` is over, or nothing has come for `quiet` after something has. Hands over what it heard of each run of a sender.
pub fn listen(
    port: &mut Port,
    manner: &Manner,
    limit: Option<Duration>,
    quiet: Option<Duration>,
    mut heard: impl FnMut(&Tally),
) {
    let nanos = |time: Duration| time.as_nanos() as u64;
    let (start, mut last) = (clock(), None);
    let mut tally: Option<Tally> = None;
    loop {
        let now = clock();
        let over = limit.is_some_and(|limit| now - start > nanos(limit));
        let silent = last
            .zip(quiet)
            .is_some_and(|(last, quiet)| now.saturating_sub(last) > nanos(quiet));
        if manner.stop.load(Relaxed) || over || silent {
            break;
        }
        let count = port.receive(|frame| {
            let now = clock();
            let trial = Mark::of(frame).map(|mark| mark.trial);
            if let (Some(trial), Some(before)) = (trial, &tally)
                && trial != before.trial()
            {
                heard(before);
                tally = None;
            }
            if trial.is_some() {
                last = Some(now);
            }
            let current = tally.get_or_insert_with(|| Tally::new(trial.unwrap_or(0), 1, 0));
            current.take(frame, now);
        });
        if count == 0 && !manner.spin {
            port.wait(NAP);
        }
    }
    if let Some(tally) = &tally {
        heard(tally);
    }
}
