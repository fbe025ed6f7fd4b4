//! The stages.

use super::general::general_bits;
use super::lists::{Lists, find, rows};
use super::{PASS, Simd};
use crate::frame::Net;
use crate::policy::table::plan::{Form, Plan, PortField};
use crate::policy::table::search::Search32;
use crate::policy::{Key, RuleId};

/// A number for each key of the pass, on whole cache lines: what is stored as a vector is read again one by one, and
/// a processor forwards that only where the store did not cross a line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Lane<T = u32>(pub [T; PASS]);

/// One pass: `keys` and `out` are of one length, not above [`PASS`].
///
/// # Safety
/// The processor must have what `S` is named for. The plan must be one that [`build`](super::super::build) made: every
/// number in it that leads into an array is below that array's length.
#[inline(always)]
pub(super) unsafe fn classify<S: Simd>(plan: &Plan, keys: &[Key], out: &mut [RuleId]) {
    let len = keys.len().min(out.len()).min(PASS);
    // SAFETY: as it was just made; it saves a comparison in every loop.
    unsafe { std::hint::assert_unchecked(len <= PASS) };
    let keys = &keys[..len];
    let mut best = Lane([plan.last_rule; PASS]);
    // SAFETY: the caller's.
    unsafe {
        let intervals = addresses::<S>(plan, keys);
        let homes = plan.chunks.len() > 1;
        let general = !plan.extras.is_empty() || plan.form == Form::Aggregated;
        match (plan.words, homes) {
            _ if general => general_bits(plan, keys, &intervals, &mut best),
            (1, false) => bits::<S, 1>(plan, keys, &intervals, &mut best),
            (2, false) => bits::<S, 2>(plan, keys, &intervals, &mut best),
            (4, false) => bits::<S, 4>(plan, keys, &intervals, &mut best),
            (8, false) => bits::<S, 8>(plan, keys, &intervals, &mut best),
            (16, false) => bits::<S, 16>(plan, keys, &intervals, &mut best),
            (_, false) => bits::<S, 0>(plan, keys, &intervals, &mut best),
            (1, true) => both::<S, 1>(plan, keys, &intervals, &mut best),
            (2, true) => both::<S, 2>(plan, keys, &intervals, &mut best),
            (4, true) => both::<S, 4>(plan, keys, &intervals, &mut best),
            (8, true) => both::<S, 8>(plan, keys, &intervals, &mut best),
            (16, true) => both::<S, 16>(plan, keys, &intervals, &mut best),
            (_, true) => both::<S, 0>(plan, keys, &intervals, &mut best),
        }
        if general && homes {
            let mut lists = Lists::new();
            for (i, key) in keys.iter().enumerate() {
                find::<S>(plan, key, &intervals, i, &mut lists);
            }
            rows::<S>(plan, keys, &lists, &mut best);
        }
    }
    for (out, best) in out.iter_mut().zip(&best.0[..len]) {
        *out = RuleId(*best);
    }
}

/// `list[at]`, which is known to be there.
#[inline(always)]
pub(super) unsafe fn get<T: Copy>(list: &[T], at: usize) -> T {
    debug_assert!(at < list.len(), "{at} of {}", list.len());
    // SAFETY: the caller's.
    unsafe { *list.get_unchecked(at) }
}

/// The same number, but the compiler may not see that. A loop of table look-ups with it stays one of plain loads: made
/// into gathers, as compilers like to, it takes half as long again on processors whose gathers are slow.
#[inline(always)]
pub(super) fn opaque(number: u32) -> usize {
    #[allow(unused_mut)]
    let mut number = number as usize;
    #[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
    // SAFETY: no instruction at all.
    unsafe {
        core::arch::asm!("/* {0} */", inout(reg) number, options(pure, nomem, nostack, preserves_flags));
    }
    number
}

/// Source and destination interval of each key.
#[inline(always)]
unsafe fn addresses<S: Simd>(plan: &Plan, keys: &[Key]) -> [Lane; 2] {
    let mut x = [Lane([0; PASS]); 2];
    let mut others = 0;
    for (i, key) in keys.iter().enumerate() {
        (x[0].0[i], x[1].0[i]) = (key.src as u32, key.dst as u32);
        others |= key.net as u8 ^ Net::V4 as u8;
    }
    let mut at = [Lane([0; PASS]); 2];
    let (src, dst) = (&plan.src.v4, &plan.dst.v4);
    // SAFETY: the caller's.
    unsafe {
        S::count_burst(src, &x[0].0, &mut at[0].0);
        S::count_burst(dst, &x[1].0, &mut at[1].0);
        // Both fields go down together as far as both have levels.
        let common = src.levels.len().min(dst.levels.len());
        for level in 0..common {
            for i in 0..keys.len() {
                step::<S>(src, level, &x[0], &mut at[0], i);
                step::<S>(dst, level, &x[1], &mut at[1], i);
            }
        }
        for (field, search) in [src, dst].into_iter().enumerate() {
            for level in common..search.levels.len() {
                for i in 0..keys.len() {
                    step::<S>(search, level, &x[field], &mut at[field], i);
                }
            }
            // The highest address of all leads past the last key.
            for at in &mut at[field].0 {
                *at = (*at).min(search.keys as u32);
            }
        }
        if others != 0 {
            other_addresses::<S>(plan, keys, &mut at);
        }
    }
    at
}

/// One level down.
#[inline(always)]
unsafe fn step<S: Simd>(search: &Search32, level: usize, x: &Lane, at: &mut Lane, i: usize) {
    let fan = if level + 1 == search.levels.len() {
        16
    } else {
        17
    };
    // SAFETY: the caller's; every node has all its children, so each index is one of its level.
    unsafe {
        let start = get(&search.levels, level);
        let node = search.nodes.get_unchecked(start + at.0[i] as usize);
        at.0[i] = at.0[i] * fan + S::count32(node, x.0[i]);
    }
}

/// The intervals of the keys that are not IPv4: all of them down one level after the other, as IPv4.
#[inline(always)]
unsafe fn other_addresses<S: Simd>(plan: &Plan, keys: &[Key], intervals: &mut [Lane; 2]) {
    let (mut others, mut count) = ([0u8; PASS], 0);
    for (at, key) in keys.iter().enumerate() {
        others[count % PASS] = at as u8;
        count += usize::from(key.net != Net::V4);
    }
    let others = &others[..count.min(PASS)];
    for (at, field) in [&plan.src, &plan.dst].into_iter().enumerate() {
        let mut rank = Lane([0; PASS]);
        for (level, start) in field.v6.levels.iter().enumerate() {
            let fan = if level + 1 == field.v6.levels.len() {
                8
            } else {
                9
            };
            for (rank, other) in rank.0.iter_mut().zip(others) {
                // SAFETY: the caller's, and as in `step`; `others` holds indices of keys.
                unsafe {
                    let key = keys.get_unchecked(usize::from(*other));
                    let x = if at == 0 { key.src } else { key.dst };
                    let node = field.v6.nodes.get_unchecked(*start + *rank as usize);
                    *rank = *rank * fan + S::count128(node, (x >> 64) as u64, x as u64);
                }
            }
        }
        let none = field.bits.len() as u32 - 1;
        for (rank, other) in rank.0.iter().zip(others) {
            let six = field.v6_base + (*rank).min(field.v6.keys as u32);
            let key = &keys[usize::from(*other)];
            let interval = if key.net == Net::V6 { six } else { none };
            intervals[at].0[usize::from(*other)] = interval;
        }
    }
}

/// Index into [`Plan::heads`].
#[inline(always)]
pub(super) fn head(key: &Key) -> usize {
    usize::from(u16::from(key.proto) | (key.side as u16) << 8)
}

/// Where each field's bits of one key start, in words.
#[inline(always)]
pub(super) unsafe fn starts<const W: usize>(
    plan: &Plan,
    key: &Key,
    intervals: &[Lane; 2],
    i: usize,
) -> [u32; 5] {
    let unit = if W == 0 { plan.unit } else { W } as u32;
    // SAFETY: the caller's; `head` is below `HEADS`.
    unsafe {
        [
            get(&plan.src.bits, opaque(intervals[0].0[i])),
            get(&plan.dst.bits, opaque(intervals[1].0[i])),
            plan.sport.base + port_class(&plan.sport, key.sport) * unit,
            plan.dport.base + port_class(&plan.dport, key.dport) * unit,
            get(&plan.heads, head(key)).bits,
        ]
    }
}

#[inline(always)]
unsafe fn port_class(field: &PortField, port: u16) -> u32 {
    // SAFETY: there is a class for every number under the mask.
    unsafe { get(&field.class, usize::from(port & field.mask)).into() }
}

/// The rule of the first row in the bitsets that holds. `W` words each; 0 for as many whole lines as the plan has.
#[inline(always)]
unsafe fn first_rule<S: Simd, const W: usize>(plan: &Plan, starts: [u32; 5]) -> u32 {
    let mut first = plan.rule_of_bit.len() - 1;
    let (step, count) = match W {
        0 => (8, plan.words / 8),
        1 | 2 | 4 => (W, 1),
        _ => (8, W / 8),
    };
    // The lines are walked from the last to the first and none is left out: the work does not depend on the key.
    for line in (0..count).rev() {
        let mut words = [std::ptr::null(); 5];
        for field in 0..5 {
            let all = plan.lines.as_ptr().cast::<u64>();
            // SAFETY: every class of a field has as many words.
            words[field] = unsafe { all.add(starts[field] as usize + line * step) };
        }
        // SAFETY: as above.
        let bit = unsafe {
            match W {
                1 => S::first_bit::<1>(words),
                2 => S::first_bit::<2>(words),
                4 => S::first_bit::<4>(words),
                _ => S::first_bit::<8>(words),
            }
        } as usize;
        if count == 1 {
            first = bit;
        } else {
            // All ones where there is a bit, else 0: a select that no compiler makes into a branch.
            let found = (bit >> 9).wrapping_sub(1);
            first = first & !found | (line * 512 + bit) & found;
        }
    }
    // SAFETY: a bit that is set is one of a row, and the table of rules goes on for as far as "none" may point.
    unsafe { get(&plan.rule_of_bit, first) }
}

/// All rows are in bitsets.
#[inline(always)]
unsafe fn bits<S: Simd, const W: usize>(
    plan: &Plan,
    keys: &[Key],
    intervals: &[Lane; 2],
    best: &mut Lane,
) {
    for (i, key) in keys.iter().enumerate() {
        // SAFETY: the caller's.
        best.0[i] = unsafe { first_rule::<S, W>(plan, starts::<W>(plan, key, intervals, i)) };
    }
}

/// Some rows have homes: the lists are found, and asked for, while the bitsets are ANDed.
#[inline(always)]
unsafe fn both<S: Simd, const W: usize>(
    plan: &Plan,
    keys: &[Key],
    intervals: &[Lane; 2],
    best: &mut Lane,
) {
    let mut lists = Lists::new();
    // SAFETY: the caller's.
    unsafe {
        for (i, key) in keys.iter().enumerate() {
            find::<S>(plan, key, intervals, i, &mut lists);
            best.0[i] = first_rule::<S, W>(plan, starts::<W>(plan, key, intervals, i));
        }
        rows::<S>(plan, keys, &lists, best);
    }
}
