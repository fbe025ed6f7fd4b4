//! The rows that have homes: each key's lists are found, and compared eight rows at a time.

use super::burst::{Lane, get, head, opaque};
use super::{PASS, Simd};
use crate::policy::Key;
use crate::policy::table::plan::{Plan, PortField, RULES};
use std::mem::MaybeUninit;

/// What a key is compared with the rows of its lists by.
pub(super) struct Lists {
    /// By home: the chunk where the list starts.
    chunk: [Lane; 4],
    /// Source and destination lane.
    lane: [Lane<u16>; 2],
    /// The bit of the head.
    mask: Lane<u16>,
}

impl Lists {
    #[inline(always)]
    pub fn new() -> Lists {
        Lists {
            chunk: [Lane([0; PASS]); 4],
            lane: [Lane([0; PASS]); 2],
            mask: Lane([0; PASS]),
        }
    }
}

/// Finds the lists of one key, and asks for them where they may be far.
#[inline(always)]
pub(super) unsafe fn find<S: Simd>(
    plan: &Plan,
    key: &Key,
    intervals: &[Lane; 2],
    i: usize,
    lists: &mut Lists,
) {
    // SAFETY: the caller's; `head` is below `HEADS`, a table of cells has 65,536, and there is a list for each cell and
    // head.
    unsafe {
        let head = get(&plan.heads, head(key));
        let src = get(&plan.src.records, opaque(intervals[0].0[i]));
        let dst = get(&plan.dst.records, opaque(intervals[1].0[i]));
        (lists.lane[0].0[i], lists.lane[1].0[i]) = (src.lane as u16, dst.lane as u16);
        (lists.chunk[0].0[i], lists.chunk[1].0[i]) = (src.list, dst.list);
        lists.mask.0[i] = head.mask;
        if plan.homes[2] {
            lists.chunk[2].0[i] = port_list(plan, &plan.sport, key.sport, head.head);
        }
        if plan.homes[3] {
            lists.chunk[3].0[i] = port_list(plan, &plan.dport, key.dport, head.head);
        }
        if plan.far {
            for chunk in &lists.chunk {
                S::prefetch(plan, chunk.0[i]);
            }
        }
    }
}

#[inline(always)]
unsafe fn port_list(plan: &Plan, field: &PortField, port: u16, head: u16) -> u32 {
    // SAFETY: the caller's.
    unsafe {
        let cell = usize::from(get(&field.cell, usize::from(port)));
        let at = cell * plan.head_count as usize + usize::from(head);
        get(&field.lists, at)
    }
}

/// The lists of one home that go on: their keys.
type Open = [MaybeUninit<u8>; PASS];

/// Compares each key with the rows of its lists: lowers `best` to the first that holds.
#[inline(always)]
pub(super) unsafe fn rows<S: Simd>(plan: &Plan, keys: &[Key], lists: &Lists, best: &mut Lane) {
    let mut open: [Open; 4] = [[MaybeUninit::uninit(); PASS]; 4];
    let mut count = [0; 4];
    let mut rules = [Lane([u32::MAX; PASS]); 4];
    // SAFETY: the caller's.
    unsafe {
        for (i, key) in keys.iter().enumerate() {
            first::<S, 0>(plan, key, lists, i, &mut rules, &mut open, &mut count);
            first::<S, 1>(plan, key, lists, i, &mut rules, &mut open, &mut count);
            first::<S, 2>(plan, key, lists, i, &mut rules, &mut open, &mut count);
            first::<S, 3>(plan, key, lists, i, &mut rules, &mut open, &mut count);
        }
        rest::<S, 0>(plan, keys, lists, &mut rules[0], &mut open[0], count[0]);
        rest::<S, 1>(plan, keys, lists, &mut rules[1], &mut open[1], count[1]);
        rest::<S, 2>(plan, keys, lists, &mut rules[2], &mut open[2], count[2]);
        rest::<S, 3>(plan, keys, lists, &mut rules[3], &mut open[3], count[3]);
    }
    for (home, rules) in rules.iter().enumerate() {
        if plan.homes[home] {
            for (best, rule) in best.0.iter_mut().zip(&rules.0) {
                *best = (*best).min(*rule);
            }
        }
    }
}

/// The first chunk of one list.
#[inline(always)]
unsafe fn first<S: Simd, const HOME: usize>(
    plan: &Plan,
    key: &Key,
    lists: &Lists,
    i: usize,
    rules: &mut [Lane; 4],
    open: &mut [Open; 4],
    count: &mut [usize; 4],
) {
    if !plan.homes[HOME] {
        return;
    }
    let chunk = lists.chunk[HOME].0[i];
    // SAFETY: the caller's; no home has more keys than there are.
    unsafe {
        rules[HOME].0[i] = row::<S, HOME>(plan, chunk, key, lists, i);
        if plan.long[HOME] {
            let more = more(plan, chunk);
            if plan.far {
                // The chunk itself once more where the list ends: that costs nothing.
                S::prefetch(plan, chunk + more as u32);
            }
            open[HOME].get_unchecked_mut(count[HOME]).write(i as u8);
            count[HOME] += more;
        }
    }
}

/// The further chunks of the lists that have some: of fewer each time.
#[inline(always)]
unsafe fn rest<S: Simd, const HOME: usize>(
    plan: &Plan,
    keys: &[Key],
    lists: &Lists,
    rules: &mut Lane,
    open: &mut Open,
    mut count: usize,
) {
    let mut further = 1;
    while count > 0 {
        let mut left = 0;
        for at in 0..count {
            // SAFETY: the first `count` are written, with indices of keys; a chunk that goes on is followed by one.
            unsafe {
                let i = usize::from(open.get_unchecked(at).assume_init());
                let chunk = lists.chunk[HOME].0.get_unchecked(i) + further;
                let rule = row::<S, HOME>(plan, chunk, keys.get_unchecked(i), lists, i);
                let known = rules.0.get_unchecked_mut(i);
                *known = lower(*known, rule);
                let more = more(plan, chunk);
                if plan.far {
                    S::prefetch(plan, chunk + more as u32);
                }
                open.get_unchecked_mut(left).write(i as u8);
                left += more;
            }
        }
        count = left;
        further += 1;
    }
}

/// The lower number, without a branch: compilers make a minimum in a loop like ours into a jump that is taken at random.
#[inline(always)]
fn lower(a: u32, b: u32) -> u32 {
    let below = ((i64::from(a) - i64::from(b)) >> 63) as u32;
    a & below | b & !below
}

/// One chunk: the rule of its first row that holds, `u32::MAX` for none.
#[inline(always)]
unsafe fn row<S: Simd, const HOME: usize>(
    plan: &Plan,
    at: u32,
    key: &Key,
    lists: &Lists,
    i: usize,
) -> u32 {
    // SAFETY: the caller's.
    unsafe {
        let (src, dst) = (
            lists.lane[0].0.get_unchecked(i),
            lists.lane[1].0.get_unchecked(i),
        );
        // The fields that the chunks of each home compare: see `Home`.
        let values = match HOME {
            0 => [*dst, key.sport, key.dport],
            1 => [*src, key.sport, key.dport],
            2 => [*src, *dst, key.dport],
            _ => [*src, *dst, key.sport],
        };
        let chunk = plan.chunks.get_unchecked(at as usize);
        let lane = S::first_row(chunk, values, *lists.mask.0.get_unchecked(i));
        get(&plan.rule_of_lane, at as usize * RULES + lane as usize)
    }
}

/// Whether the list goes on after this chunk (1) or not (0).
#[inline(always)]
unsafe fn more(plan: &Plan, chunk: u32) -> usize {
    // SAFETY: the caller's.
    unsafe { plan.chunks.get_unchecked(chunk as usize).more as usize }
}
