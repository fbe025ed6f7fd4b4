//! The rule table on rules and packets of the benchmark.

use crate::{Rule, policy};
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

/// The line that decides each packet, asked in bursts of `burst`.
pub fn answers(table: &Table, keys: &[Key], burst: usize) -> Vec<Option<usize>> {
    let mut found = vec![RuleId(u32::MAX); keys.len()];
    for (keys, found) in keys.chunks(burst).zip(found.chunks_mut(burst)) {
        table.classify(keys, found);
    }
    found.into_iter().map(|id| Some(id.index())).collect()
}

/// One pass over the keys, in bursts of `BURST`.
pub fn pass<const BURST: usize>(table: &Table, keys: &[Key]) {
    let mut out = [RuleId(0); BURST];
    for keys in keys.chunks(BURST) {
        table.classify(black_box(keys), &mut out);
        black_box(&out);
    }
}
