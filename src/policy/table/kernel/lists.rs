//! The rows that are answered ahead, and those that have homes: each key's lists are found, and compared sixteen rows at
//! a time.

use super::burst::{Addresses, GROUP, Lane, each, get, head, opaque};
use super::sifted::sifted;
use super::{PASS, Simd};
use crate::policy::table::plan::{Entry, HOMES, Home, Plan, PortRecord, RULES, Sieve, mode};
use crate::policy::{Key, RuleId};
use std::mem::MaybeUninit;

/// What was found of each key. What a plan does not have is not written.
pub(super) struct Found {
    /// Source lane, destination lane, source port, destination port.
    pub values: [MaybeUninit<[u16; 4]>; PASS],
    /// The bit of the head.
    pub mask: Cells<u16>,
    /// By home: the bytes that its sieves compare, of the first and second field, and the head's bit.
    pub bytes: [Cells<u32>; 4],
    /// Of the rows that are answered ahead: the place of destination port and head, and what the source port adds.
    service: Cells<u32>,
    sport: Cells<u32>,
    /// By home: where to look next; in the end the chunk where the list starts.
    pub at: [Cells<u32>; 4],
    /// Of pairs of addresses the same, and then the place of the first row that is answered ahead, as far as it is known.
    sum: [MaybeUninit<[u32; 2]>; PASS],
}

/// A number for each key of the pass, written before it is read.
#[repr(C, align(64))]
pub(super) struct Cells<T>([MaybeUninit<T>; PASS]);

impl<T: Copy> Cells<T> {
    const NEW: Cells<T> = Cells([const { MaybeUninit::uninit() }; PASS]);

    #[inline(always)]
    pub unsafe fn set(&mut self, i: usize, value: T) {
        // SAFETY: `i` is below `PASS`, as the caller's.
        unsafe { self.0.get_unchecked_mut(i).write(value) };
    }

    #[inline(always)]
    pub unsafe fn get(&self, i: usize) -> T {
        // SAFETY: as above, and it was set.
        unsafe { self.0.get_unchecked(i).assume_init() }
    }
}

/// What the whole plan has, known when this is compiled, but for the plans of [`mode::OTHER`].
#[inline(always)]
pub(super) fn has<const M: u32>(plan: &Plan, what: u32) -> bool {
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
        bytes: [Cells::NEW; 4],
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
        if has::<M>(plan, mode::SIFTED) {
            for (i, out) in out.iter_mut().take(groups * GROUP).enumerate() {
                *out = RuleId(answered::<M>(plan, i, &found));
            }
            sifted::<S, M>(plan, groups * GROUP, &found, out);
            return;
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
        let (from, to) = ports::<M>(plan, key);
        if has::<M>(plan, mode::CROSSED) {
            found
                .service
                .set(i, u32::from(to.crossed) + u32::from(head.head));
            if has::<M>(plan, mode::SPORT) {
                found
                    .sport
                    .set(i, u32::from(from.crossed) * plan.crossed.width);
            }
        }
        if has::<M>(plan, mode::BY_FIELD) {
            let values: *mut u16 = found.values.get_unchecked_mut(i).as_mut_ptr().cast();
            values.write(src.lane);
            values.add(1).write(dst.lane);
            if has::<M>(plan, mode::SPLIT | mode::SIFTED) {
                values.add(2).write(key.sport);
                values.add(3).write(key.dport);
            }
        }
        if has::<M>(plan, mode::SIFTED) {
            let heads = u32::from(head.mask as u8 | (head.mask >> 8) as u8) << 16;
            let (a, b) = (u32::from(src.byte) | heads, u32::from(dst.byte) | heads);
            found.bytes[0].set(i, b | u32::from(to.byte) << 8);
            found.bytes[1].set(i, a | u32::from(to.byte) << 8);
            found.bytes[2].set(i, a | u32::from(dst.byte) << 8);
            found.bytes[3].set(i, a | u32::from(dst.byte) << 8);
        }
        if has::<M>(plan, mode::home(0)) {
            found.at[0].set(i, src.list);
        }
        if has::<M>(plan, mode::home(1)) {
            found.at[1].set(i, dst.list);
        }
        if has::<M>(plan, mode::home(2)) {
            let place = u32::from(from.cell) * plan.head_count + u32::from(head.head);
            found.at[2].set(i, place);
            if has::<M>(plan, mode::SIFTED) {
                S::prefetch(plan.sport.lists.as_ptr().add(place as usize));
            }
        }
        if has::<M>(plan, mode::home(3)) {
            let place = u32::from(to.cell) * plan.head_count + u32::from(head.head);
            found.at[3].set(i, place);
            if has::<M>(plan, mode::SIFTED) {
                S::prefetch(plan.dport.lists.as_ptr().add(place as usize));
            }
        }
    }
}

/// What both ports stand for, as far as the stages ask for it.
#[inline(always)]
unsafe fn ports<const M: u32>(plan: &Plan, key: &Key) -> (PortRecord, PortRecord) {
    let (mut from, mut to) = (PortRecord::default(), PortRecord::default());
    // SAFETY: a table that a stage asks for has 65,536, or as many as its mask says.
    unsafe {
        if has::<M>(plan, mode::SIFTED) {
            to = get(&plan.dport.records, usize::from(key.dport));
            if has::<M>(plan, mode::SPORT) || plan.asks_sport {
                from = get(&plan.sport.records, usize::from(key.sport));
            }
            return (from, to);
        }
        if has::<M>(plan, mode::CROSSED) {
            let crossed = &plan.crossed;
            to.crossed = get(&crossed.dport, usize::from(key.dport & crossed.dport_mask));
            if has::<M>(plan, mode::SPORT) {
                from.crossed = get(&crossed.sport, usize::from(key.sport));
            }
        }
        if has::<M>(plan, mode::home(2)) {
            from.cell = get(&plan.sport.cell, usize::from(key.sport));
        }
        if has::<M>(plan, mode::home(3)) {
            to.cell = get(&plan.dport.cell, usize::from(key.dport));
        }
    }
    (from, to)
}

/// What pairs of fields stand for, a port with its head among them.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn pairs<S: Simd, const M: u32>(plan: &Plan, i: usize, found: &mut Found) {
    // SAFETY: the caller's.
    unsafe {
        if has::<M>(plan, mode::home(4)) {
            let [at, _] = found.sum.get_unchecked_mut(i).assume_init_mut();
            *at = get(&plan.pairs, *at as usize);
        }
        if has::<M>(plan, mode::home(2)) {
            let list = get(&plan.sport.lists, found.at[2].get(i) as usize);
            found.at[2].set(i, list);
        }
        if has::<M>(plan, mode::home(3)) {
            let list = get(&plan.dport.lists, found.at[3].get(i) as usize);
            found.at[3].set(i, list);
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

/// Asks for the lines of a chunk and of its rules, or for the first ones of a list with sieves.
#[inline(always)]
unsafe fn chunk_ahead<S: Simd, const M: u32>(plan: &Plan, chunk: u32) {
    // SAFETY: the chunk is one of the plan's.
    unsafe {
        if has::<M>(plan, mode::SIFTED) {
            let further = chunk >> Sieve::FURTHER;
            let line = plan
                .sieves
                .as_ptr()
                .add((chunk & ((1 << Sieve::FURTHER) - 1)) as usize);
            S::prefetch(line);
            // The first itself once more where there is no second: that costs nothing.
            S::prefetch(line.add(further.min(1) as usize));
            return;
        }
        let lines = plan.chunks.as_ptr().add(chunk as usize).cast::<[u8; 64]>();
        S::prefetch(lines);
        S::prefetch(lines.add(1));
        S::prefetch(lines.add(2));
        S::prefetch(lines.add(3));
        S::prefetch(plan.rule_of_lane.as_ptr().add(chunk as usize * RULES));
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
        let mut rule = answered::<M>(plan, i, found);
        rule = first::<S, M, 0>(plan, key, found, open, i, rule);
        rule = first::<S, M, 1>(plan, key, found, open, i, rule);
        rule = first::<S, M, 2>(plan, key, found, open, i, rule);
        rule = first::<S, M, 3>(plan, key, found, open, i, rule);
        rule = first::<S, M, 4>(plan, key, found, open, i, rule);
        rule
    }
}

/// The rule of the first row that is answered ahead, or the last rule.
#[inline(always)]
unsafe fn answered<const M: u32>(plan: &Plan, i: usize, found: &Found) -> u32 {
    if !has::<M>(plan, mode::CROSSED) {
        return plan.last_rule;
    }
    // SAFETY: the caller's.
    unsafe {
        let [_, place] = found.sum.get_unchecked(i).assume_init();
        let first = get(&plan.crossed.first, place as usize);
        let rule = get(&plan.crossed.rule_of_first, usize::from(first));
        lower(plan.last_rule, rule)
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
        let more = more(plan, chunk);
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
                let more = more(plan, chunk);
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
        let chunk = plan.chunks.get_unchecked(at as usize);
        // Of these homes the second field is the source port.
        let sport = has::<M>(plan, mode::SPORT) || !matches!(HOME, 0 | 1 | 4);
        let lane = match (HOME == Home::Pair as usize, sport) {
            (false, false) => S::first_row::<true, false>(chunk, compared, mask),
            (false, true) => S::first_row::<true, true>(chunk, compared, mask),
            (true, false) => S::first_row::<false, false>(chunk, compared, mask),
            (true, true) => S::first_row::<false, true>(chunk, compared, mask),
        };
        get(&plan.rule_of_lane, at as usize * RULES + lane as usize)
    }
}

/// Whether the list goes on after this chunk (1) or not (0).
#[inline(always)]
unsafe fn more(plan: &Plan, chunk: u32) -> u32 {
    // SAFETY: the caller's.
    unsafe { plan.chunks.get_unchecked(chunk as usize).more }
}
