//! A port that only listens: to a sender in another process, which must be on the same machine for latencies to mean something.

use crate::mark::Mark;
use crate::port::Port;
use crate::tally::Tally;
use crate::tester::Manner;
use crate::work::clock;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// Whoever asks to stop is heard after this long.
const NAP: Duration = Duration::from_millis(1);

/// Listens until it is told to stop, or `limit` is over, or nothing has come for `quiet` after something has. Hands over what it heard of each run of a sender, whose order is looked at by flow where it is known how many there are, and else (1) in all.
pub fn listen(
    port: &mut Port,
    manner: &Manner,
    limit: Option<Duration>,
    quiet: Option<Duration>,
    flows: usize,
    mut heard: impl FnMut(&Tally),
) {
    let nanos = |time: Duration| time.as_nanos() as u64;
    let (start, mut last) = (clock(), None);
    let (mut tally, mut foreign): (Option<Tally>, u64) = (None, 0);
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
            let Some(trial) = Mark::of(frame).map(|mark| mark.trial) else {
                match &mut tally {
                    Some(tally) => tally.foreign += 1,
                    None => foreign += 1,
                }
                return;
            };
            last = Some(now);
            if let Some(before) = tally.take_if(|before| before.trial() != trial) {
                heard(&before);
            }
            let current = tally.get_or_insert_with(|| Tally::new(trial, flows, 0));
            // Those of before the first sender.
            current.foreign += std::mem::take(&mut foreign);
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
