//! The rows that are answered ahead, and those that have homes: each key's lists are found, and compared sixteen rows at
//! a time.

use super::burst::{Addresses, GROUP, Lane, each, get, head, opaque};
use super::{PASS, Simd};
use crate::policy::table::plan::{
    Entry, HOMES, Home, LANES, Plan, PortField, SLIM_LANES, mode, rules_of,
};
use crate::policy::{Key, RuleId};
use std::mem::MaybeUninit;

/// What was found of each key. What a plan does not have is not written.
struct Found {
    /// Source lane, destination lane, source port, destination port.
    values: [MaybeUninit<[u16; 4]>; PASS],
    /// The bit of the head.
    mask: Cells<u16>,
    /// Of the rows that are answered ahead: the place of destination port and head, and what the source port adds.
    service: Cells<u32>,
    sport: Cells<u32>,
    /// By home: where to look next; in the end the chunk where the list starts.
    at: [Cells<u32>; 4],
    /// Of pairs of addresses the same, and then the place of the first row that is answered ahead, as far as it is known.
    sum: [MaybeUninit<[u32; 2]>; PASS],
}

/// A number for each key of the pass, written before it is read.
#[repr(C, align(64))]
struct Cells<T>([MaybeUninit<T>; PASS]);

impl<T: Copy> Cells<T> {
    const NEW: Cells<T> = Cells([const { MaybeUninit::uninit() }; PASS]);

    #[inline(always)]
    unsafe fn set(&mut self, i: usize, value: T) {
        // SAFETY: `i` is below `PASS`, as the caller's.
        unsafe { self.0.get_unchecked_mut(i).write(value) };
    }

    #[inline(always)]
    unsafe fn get(&self, i: usize) -> T {
        // SAFETY: as above, and it was set.
        unsafe { self.0.get_unchecked(i).assume_init() }
    }
}

/// What the whole plan has, known when this is compiled, but for the plans of [`mode::OTHER`].
#[inline(always)]
fn has<const M: u32>(plan: &Plan, what: u32) -> bool {
    if M == mode::OTHER {
        plan.mode & what != 0
    } else {
        M & what != 0
    }
}

/// Sets `out` to the rule of the first row, of those outside the bitsets, that holds, or to the last rule.
///
/// # Safety
/// As of [`super::burst::classify`].
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) unsafe fn listed<S: Simd, const M: u32>(
    plan: &Plan,
    keys: &[Key; PASS],
    addresses: &Addresses,
    out: &mut [RuleId; PASS],
) {
    let mut found = Found {
        values: [const { MaybeUninit::uninit() }; PASS],
        mask: Cells::NEW,
        service: Cells::NEW,
        sport: Cells::NEW,
        at: [Cells::NEW; 4],
        sum: [const { MaybeUninit::uninit() }; PASS],
    };
    // Stage by stage, so that what one needs stays in registers, and the loads of many keys are on their way together.
    let groups = addresses.groups;
    // SAFETY: the caller's; a group is one of the keys.
    unsafe {
        if plan.far {
            for i in 0..groups * GROUP {
                let [src, dst] = &addresses.at;
                S::prefetch(plan.src.records.as_ptr().add(src.0[i] as usize));
                S::prefetch(plan.dst.records.as_ptr().add(dst.0[i] as usize));
            }
        }
        for group in 0..groups {
            each!(group, i, {
                fields::<S, M>(plan, keys.get_unchecked(i), &addresses.at, i, &mut found);
            });
        }
        for group in 0..groups {
            each!(group, i, {
                pairs::<S, M>(plan, i, &mut found);
            });
        }
        if plan.far {
            for i in 0..groups * GROUP {
                ahead::<S, M>(plan, i, &found);
            }
        }
        if has::<M>(plan, mode::SPLIT) {
            for group in 0..groups {
                each!(group, i, {
                    apart::<S, M, 0>(plan, i, &mut found);
                    apart::<S, M, 1>(plan, i, &mut found);
                    apart::<S, M, 2>(plan, i, &mut found);
                    apart::<S, M, 3>(plan, i, &mut found);
                });
            }
            if plan.far {
                for i in 0..groups * GROUP {
                    ask_again::<S, M, 0>(plan, i, &found);
                    ask_again::<S, M, 1>(plan, i, &found);
                    ask_again::<S, M, 2>(plan, i, &found);
                    ask_again::<S, M, 3>(plan, i, &found);
                }
            }
        }
        let mut open = Open::NEW;
        for group in 0..groups {
            each!(group, i, {
                let key = keys.get_unchecked(i);
                let rule = rows::<S, M>(plan, key, i, &found, &mut open);
                *out.get_unchecked_mut(i) = RuleId(rule);
            });
        }
        rest::<S, M, 0>(plan, keys, &found, &open, out);
        rest::<S, M, 1>(plan, keys, &found, &open, out);
        rest::<S, M, 2>(plan, keys, &found, &open, out);
        rest::<S, M, 3>(plan, keys, &found, &open, out);
        rest::<S, M, 4>(plan, keys, &found, &open, out);
    }
}

/// By home and key: 1 where the list goes on after its first chunk.
struct Open([Lines; HOMES]);

/// A number for each key of the pass.
#[repr(C, align(32))]
struct Lines([u8; PASS]);

impl Open {
    const NEW: Open = Open([const { Lines([0; PASS]) }; HOMES]);
}

/// What each field of a key stands for.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn fields<S: Simd, const M: u32>(
    plan: &Plan,
    key: &Key,
    intervals: &[Lane; 2],
    i: usize,
    found: &mut Found,
) {
    // SAFETY: the caller's; `head` is below `HEADS`, a table of cells has 65,536, and there is a list for each cell and
    // head.
    unsafe {
        let head = get(&plan.heads, head(key));
        found.mask.set(i, head.mask);
        let src = plan
            .src
            .records
            .get_unchecked(opaque(*intervals[0].0.get_unchecked(i)));
        let dst = plan
            .dst
            .records
            .get_unchecked(opaque(*intervals[1].0.get_unchecked(i)));
        // Both numbers of both addresses are added up at once: neither sum goes beyond its half.
        let sum = src.places + dst.places;
        found
            .sum
            .get_unchecked_mut(i)
            .write([sum as u32, (sum >> 32) as u32]);
        if has::<M>(plan, mode::CROSSED) {
            let crossed = &plan.crossed;
            let to = get(&crossed.dport, usize::from(key.dport & crossed.dport_mask));
            found.service.set(i, u32::from(to) + u32::from(head.head));
            if has::<M>(plan, mode::SPORT) {
                let from = get(&crossed.sport, usize::from(key.sport));
                found.sport.set(i, u32::from(from) * crossed.width);
            }
        }
        if has::<M>(plan, mode::BY_FIELD) {
            let values: *mut u16 = found.values.get_unchecked_mut(i).as_mut_ptr().cast();
            values.write(src.lane);
            values.add(1).write(dst.lane);
            if has::<M>(plan, mode::SPLIT) {
                values.add(2).write(key.sport);
                values.add(3).write(key.dport);
            }
        }
        if has::<M>(plan, mode::home(0)) {
            found.at[0].set(i, src.list);
        }
        if has::<M>(plan, mode::home(1)) {
            found.at[1].set(i, dst.list);
        }
        if has::<M>(plan, mode::home(2)) {
            let list = port_list(&plan.sport, key.sport, plan.head_count, head.head);
            found.at[2].set(i, list);
        }
        if has::<M>(plan, mode::home(3)) {
            let list = port_list(&plan.dport, key.dport, plan.head_count, head.head);
            found.at[3].set(i, list);
        }
    }
}

/// What pairs of fields stand for.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn pairs<S: Simd, const M: u32>(plan: &Plan, i: usize, found: &mut Found) {
    // SAFETY: the caller's.
    unsafe {
        if has::<M>(plan, mode::home(4)) {
            let [at, _] = found.sum.get_unchecked_mut(i).assume_init_mut();
            *at = get(&plan.pairs, *at as usize);
        }
        if has::<M>(plan, mode::CROSSED) {
            let crossed = &plan.crossed;
            let mut pair = get(&crossed.services, found.service.get(i) as usize);
            if has::<M>(plan, mode::SPORT) {
                let at = found.sport.get(i) + u32::from(pair);
                pair = get(&crossed.port_pairs, at as usize);
            }
            let [_, first] = found.sum.get_unchecked_mut(i).assume_init_mut();
            *first += u32::from(pair);
        }
    }
}

/// Asks for what the next stages look up, where it may be far.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn ahead<S: Simd, const M: u32>(plan: &Plan, i: usize, found: &Found) {
    // SAFETY: the caller's.
    unsafe {
        let [pair, first] = found.sum.get_unchecked(i).assume_init();
        if has::<M>(plan, mode::CROSSED) {
            S::prefetch(plan.crossed.first.as_ptr().add(first as usize));
        }
        ask::<S, M, 0>(plan, i, found);
        ask::<S, M, 1>(plan, i, found);
        ask::<S, M, 2>(plan, i, found);
        ask::<S, M, 3>(plan, i, found);
        if has::<M>(plan, mode::home(4)) {
            chunk_ahead::<S, M>(plan, pair);
        }
    }
}

/// Asks for what is looked at next in one home: the chunk, or the entry's separators.
#[inline(always)]
unsafe fn ask<S: Simd, const M: u32, const HOME: usize>(plan: &Plan, i: usize, found: &Found) {
    if !has::<M>(plan, mode::home(HOME)) {
        return;
    }
    // SAFETY: the caller's.
    unsafe {
        let at = found.at[HOME].get(i);
        if has::<M>(plan, mode::split(HOME)) {
            let entry: Entry = get(&plan.entries, at as usize);
            S::prefetch(plan.nodes.as_ptr().add(entry.node as usize >> 2));
            S::prefetch(plan.children.as_ptr().add(entry.children as usize));
        } else {
            chunk_ahead::<S, M>(plan, at);
        }
    }
}

/// Asks for the chunk of one home whose list was taken apart.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn ask_again<S: Simd, const M: u32, const HOME: usize>(
    plan: &Plan,
    i: usize,
    found: &Found,
) {
    if has::<M>(plan, mode::split(HOME)) {
        // SAFETY: the caller's.
        unsafe { chunk_ahead::<S, M>(plan, found.at[HOME].get(i)) };
    }
}

/// Asks for the lines of a chunk and of its rules.
#[inline(always)]
unsafe fn chunk_ahead<S: Simd, const M: u32>(plan: &Plan, chunk: u32) {
    // SAFETY: the chunk is one of the plan's.
    unsafe {
        if has::<M>(plan, mode::SLIM) {
            let lines = plan.slim.as_ptr().add(chunk as usize).cast::<[u8; 64]>();
            S::prefetch(lines);
            S::prefetch(lines.add(1));
        } else {
            let lines = plan.chunks.as_ptr().add(chunk as usize).cast::<[u8; 64]>();
            S::prefetch(lines);
            S::prefetch(lines.add(1));
            S::prefetch(lines.add(2));
            S::prefetch(lines.add(3));
        }
        let rules = chunk as usize * rules_of(lanes::<M>(plan));
        S::prefetch(plan.rule_of_lane.as_ptr().add(rules));
    }
}

/// How many rows a chunk has at most.
#[inline(always)]
fn lanes<const M: u32>(plan: &Plan) -> usize {
    if has::<M>(plan, mode::SLIM) {
        SLIM_LANES
    } else {
        LANES
    }
}

/// The list of a port's cell and a head.
#[inline(always)]
unsafe fn port_list(field: &PortField, port: u16, heads: u32, head: u16) -> u32 {
    // SAFETY: the caller's.
    unsafe {
        let cell = u32::from(get(&field.cell, usize::from(port)));
        get(&field.lists, (cell * heads + u32::from(head)) as usize)
    }
}

/// Where a home's lists are taken apart: from the entry to the chunk.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn apart<S: Simd, const M: u32, const HOME: usize>(
    plan: &Plan,
    i: usize,
    found: &mut Found,
) {
    if !has::<M>(plan, mode::split(HOME)) {
        return;
    }
    // SAFETY: the caller's; the two lowest bits of a node name one of four values, and every entry has a child for each
    // way between its separators.
    unsafe {
        let entry: Entry = get(&plan.entries, found.at[HOME].get(i) as usize);
        let values: *const u16 = found.values.get_unchecked(i).as_ptr().cast();
        let value = *values.add(entry.node as usize & 3);
        let node = plan.nodes.get_unchecked(entry.node as usize >> 2);
        let child = entry.children + S::below16(node, value);
        let chunk = get(&plan.children, child as usize);
        found.at[HOME].set(i, chunk);
    }
}

/// Compares a key with the first rows of its lists, for the first that holds.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn rows<S: Simd, const M: u32>(
    plan: &Plan,
    key: &Key,
    i: usize,
    found: &Found,
    open: &mut Open,
) -> u32 {
    // SAFETY: the caller's.
    unsafe {
        let mut rule = plan.last_rule;
        if has::<M>(plan, mode::CROSSED) {
            let first = get(
                &plan.crossed.first,
                found.sum.get_unchecked(i).assume_init()[1] as usize,
            );
            rule = lower(rule, get(&plan.crossed.rule_of_first, usize::from(first)));
        }
        rule = first::<S, M, 0>(plan, key, found, open, i, rule);
        rule = first::<S, M, 1>(plan, key, found, open, i, rule);
        rule = first::<S, M, 2>(plan, key, found, open, i, rule);
        rule = first::<S, M, 3>(plan, key, found, open, i, rule);
        rule = first::<S, M, 4>(plan, key, found, open, i, rule);
        rule
    }
}

/// The chunk where the list of a home starts.
#[inline(always)]
unsafe fn start<const HOME: usize>(found: &Found, i: usize) -> u32 {
    // SAFETY: the caller's.
    unsafe {
        match HOME {
            4 => found.sum.get_unchecked(i).assume_init()[0],
            _ => found.at[HOME].get(i),
        }
    }
}

/// The first chunk of one list.
#[inline(always)]
unsafe fn first<S: Simd, const M: u32, const HOME: usize>(
    plan: &Plan,
    key: &Key,
    found: &Found,
    open: &mut Open,
    i: usize,
    best: u32,
) -> u32 {
    if !has::<M>(plan, mode::home(HOME)) {
        return best;
    }
    // SAFETY: the caller's; no home has more keys than there are.
    unsafe {
        let chunk = start::<HOME>(found, i);
        let best = lower(best, row::<S, M, HOME>(plan, chunk, key, found, i));
        let more = more::<M>(plan, chunk);
        if has::<M>(plan, mode::SLIM) && plan.far {
            // The chunk itself once more where the list ends: that costs nothing.
            chunk_ahead::<S, M>(plan, chunk + more);
        }
        *open.0[HOME].0.get_unchecked_mut(i) = more as u8;
        best
    }
}

/// The further chunks of the lists that have some: of fewer each time.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn rest<S: Simd, const M: u32, const HOME: usize>(
    plan: &Plan,
    keys: &[Key; PASS],
    found: &Found,
    open: &Open,
    out: &mut [RuleId; PASS],
) {
    if !has::<M>(plan, mode::home(HOME)) {
        return;
    }
    // SAFETY: the caller's; a bit is set for a key, and a chunk that goes on is followed by one.
    unsafe {
        let (mut further, mut going) = (1, S::not_zero(&open.0[HOME].0));
        while going != 0 {
            let (mut left, mut next) = (going, 0);
            while left != 0 {
                let i = left.trailing_zeros() as usize;
                left &= left - 1;
                let chunk = start::<HOME>(found, i) + further;
                let rule = row::<S, M, HOME>(plan, chunk, keys.get_unchecked(i), found, i);
                let known = out.get_unchecked_mut(i);
                known.0 = lower(known.0, rule);
                let more = more::<M>(plan, chunk);
                if plan.far {
                    // The chunk itself once more where the list ends: that costs nothing.
                    chunk_ahead::<S, M>(plan, chunk + more);
                }
                next |= more << i;
            }
            going = next;
            further += 1;
        }
    }
}

/// The lower number, without a branch: compilers make a minimum in a loop like ours into a jump that is taken at random.
#[inline(always)]
pub(super) fn lower(a: u32, b: u32) -> u32 {
    let below = ((i64::from(a) - i64::from(b)) >> 63) as u32;
    a & below | b & !below
}

/// One chunk: the rule of its first row that holds, `u32::MAX` for none.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn row<S: Simd, const M: u32, const HOME: usize>(
    plan: &Plan,
    at: u32,
    key: &Key,
    found: &Found,
    i: usize,
) -> u32 {
    // SAFETY: the caller's; by field or not, what `Home::compares` names is there.
    unsafe {
        let addresses: *const u16 = found.values.get_unchecked(i).as_ptr().cast();
        let value = |field: usize| match field {
            2 => key.sport,
            3 => key.dport,
            lane => *addresses.add(lane),
        };
        let compared = Home::ALL[HOME].compares().map(value);
        let mask = found.mask.get(i);
        let lane = if has::<M>(plan, mode::SLIM) {
            S::first_row_slim(plan.slim.get_unchecked(at as usize), compared, mask)
        } else {
            let chunk = plan.chunks.get_unchecked(at as usize);
            // Of these homes the second field is the source port.
            let sport = has::<M>(plan, mode::SPORT) || !matches!(HOME, 0 | 1 | 4);
            match (HOME == Home::Pair as usize, sport) {
                (false, false) => S::first_row::<true, false>(chunk, compared, mask),
                (false, true) => S::first_row::<true, true>(chunk, compared, mask),
                (true, false) => S::first_row::<false, false>(chunk, compared, mask),
                (true, true) => S::first_row::<false, true>(chunk, compared, mask),
            }
        };
        let rules = at as usize * rules_of(lanes::<M>(plan));
        get(&plan.rule_of_lane, rules + lane as usize)
    }
}

/// Whether the list goes on after this chunk (1) or not (0).
#[inline(always)]
unsafe fn more<const M: u32>(plan: &Plan, chunk: u32) -> u32 {
    // SAFETY: the caller's.
    unsafe {
        if has::<M>(plan, mode::SLIM) {
            plan.slim.get_unchecked(chunk as usize).more
        } else {
            plan.chunks.get_unchecked(chunk as usize).more
        }
    }
}
