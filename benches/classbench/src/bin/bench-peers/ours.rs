//! The rule table on the same rules and packets.

use crate::BURST;
use classbench::{Rule, policy};
use portcullis::policy::{Key, RuleId, Table, table::CompileError};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// The table, and how long compiling it took. Making the policy out of the rules is not in it, as reading its file is
/// not in the peer's.
pub fn compile(rules: &[Rule]) -> Result<(Table, Duration), CompileError> {
    let policy = policy(rules);
    let start = Instant::now();
    let table = Table::compile(&policy)?;
    Ok((table, start.elapsed()))
}

/// The line that decides each packet, asked in bursts.
pub fn answers(table: &Table, keys: &[Key]) -> Vec<Option<usize>> {
    let mut found = vec![RuleId(u32::MAX); keys.len()];
    for (keys, found) in keys.chunks(BURST).zip(found.chunks_mut(BURST)) {
        table.classify(keys, found);
    }
    found.into_iter().map(|id| Some(id.index())).collect()
}

/// Nanoseconds a packet, on that core: whole passes over the trace, for at least `window` after one that warms up.
pub fn measure(table: &Table, keys: &[Key], window: Duration, core: usize) -> f64 {
    let passes = || {
        core_affinity::set_for_current(core_affinity::CoreId { id: core });
        let mut out = [RuleId(0); BURST];
        let mut pass = || {
            for keys in keys.chunks(BURST) {
                table.classify(black_box(keys), &mut out);
                black_box(&out);
            }
        };
        pass();
        let (start, mut packets) = (Instant::now(), 0);
        loop {
            pass();
            packets += keys.len();
            let elapsed = start.elapsed();
            if elapsed >= window {
                return elapsed.as_nanos() as f64 / packets as f64;
            }
        }
    };
    // A thread of its own, so that only it is bound to the core.
    std::thread::scope(|scope| scope.spawn(passes).join()).unwrap_or(f64::NAN)
}
