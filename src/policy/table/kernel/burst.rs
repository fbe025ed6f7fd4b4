//! The stages.

use super::general::general_bits;
use super::lists::{listed, lower};
use super::{PASS, Simd};
use crate::frame::Net;
use crate::policy::table::plan::{AddrField, Form, Plan, PortField, mode};
use crate::policy::table::search::{Node32, Search32};
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
    if let (Ok(keys), Ok(out)) = (keys.try_into(), <&mut [RuleId; PASS]>::try_from(&mut *out)) {
        // SAFETY: the caller's.
        unsafe { pass::<S>(plan, keys, out, PASS / GROUP) };
        return;
    }
    // A short burst is filled up, so that there is no second way through the table.
    let len = keys.len().min(out.len()).min(PASS - 1);
    let (mut padded, mut rules) = ([Key::EMPTY; PASS], [RuleId(0); PASS]);
    padded[..len].copy_from_slice(&keys[..len]);
    padded[len..len.next_multiple_of(GROUP)].fill(keys[0]);
    // SAFETY: the caller's.
    unsafe { pass::<S>(plan, &padded, &mut rules, len.div_ceil(GROUP)) };
    out[..len].copy_from_slice(&rules[..len]);
}

/// Keys that a stage takes at a time. The turns of loops as short as ours are a fifth of their instructions.
pub(super) const GROUP: usize = 4;

/// Does the same for each key `$i` of a group. Not a function with a closure, which would not be compiled for wide
/// registers.
macro_rules! each {
    ($group:expr, $i:ident, $body:block) => {{
        let first = $group * GROUP;
        let $i = first;
        $body
        let $i = first + 1;
        $body
        let $i = first + 2;
        $body
        let $i = first + 3;
        $body
    }};
}
pub(super) use each;

/// The first `groups` groups of keys.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn pass<S: Simd>(plan: &Plan, keys: &[Key; PASS], out: &mut [RuleId; PASS], groups: usize) {
    let mut found = Addresses {
        at: [Lane([0; PASS]); 2],
        groups,
    };
    // SAFETY: the caller's.
    unsafe {
        if plan.far && plan.mode & mode::SIFTED != 0 {
            let sport = plan.asks_sport || plan.mode & mode::SPORT != 0;
            for key in &keys[..groups * GROUP] {
                S::prefetch(plan.dport.records.as_ptr().add(key.dport.into()));
                if sport {
                    S::prefetch(plan.sport.records.as_ptr().add(key.sport.into()));
                }
            }
        }
        addresses::<S>(plan, keys, &mut found);
        match plan.mode {
            0 => out.fill(RuleId(plan.last_rule)),
            mode::PAIRS => listed::<S, { mode::PAIRS }>(plan, keys, &found, out),
            mode::PAIRS_SPORT => listed::<S, { mode::PAIRS_SPORT }>(plan, keys, &found, out),
            mode::ADDRESSES => listed::<S, { mode::ADDRESSES }>(plan, keys, &found, out),
            mode::ADDRESSES_SPORT => {
                listed::<S, { mode::ADDRESSES_SPORT }>(plan, keys, &found, out)
            }
            mode::ADDRESSES_DST => listed::<S, { mode::ADDRESSES_DST }>(plan, keys, &found, out),
            mode::ADDRESSES_DST_SPORT => {
                listed::<S, { mode::ADDRESSES_DST_SPORT }>(plan, keys, &found, out)
            }
            mode::ADDRESSES_BOTH => listed::<S, { mode::ADDRESSES_BOTH }>(plan, keys, &found, out),
            mode::ADDRESSES_BOTH_SPORT => {
                listed::<S, { mode::ADDRESSES_BOTH_SPORT }>(plan, keys, &found, out)
            }
            mode::SIFTED_ADDRESSES => {
                listed::<S, { mode::SIFTED_ADDRESSES }>(plan, keys, &found, out)
            }
            mode::SIFTED_ADDRESSES_SPORT => {
                listed::<S, { mode::SIFTED_ADDRESSES_SPORT }>(plan, keys, &found, out)
            }
            mode::SIFTED_SERVICES => {
                listed::<S, { mode::SIFTED_SERVICES }>(plan, keys, &found, out)
            }
            mode::SIFTED_SERVICES_SPORT => {
                listed::<S, { mode::SIFTED_SERVICES_SPORT }>(plan, keys, &found, out)
            }
            _ => listed::<S, { mode::OTHER }>(plan, keys, &found, out),
        }
        if plan.wide_rows == 0 {
            return;
        }
        if !plan.extras.is_empty() || plan.form == Form::Aggregated {
            general_bits(plan, &keys[..groups * GROUP], &found.at, out);
        } else if plan.mode & mode::SIFTED != 0 {
            bits_of_plan::<S, true>(plan, keys, &found, out);
        } else {
            bits_of_plan::<S, false>(plan, keys, &found, out);
        }
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

/// The intervals of a burst's addresses.
pub(super) struct Addresses {
    /// Of source and destination; while they are looked up, the node of each key in the next level of the tree.
    pub at: [Lane; 2],
    /// Groups of keys.
    pub groups: usize,
}

impl Addresses {
    /// One group down the level that has `left - 1` below it, in the fields that have it.
    #[cfg_attr(not(debug_assertions), inline(always))]
    unsafe fn level<S: Simd>(
        &mut self,
        plan: &Plan,
        keys: &[Key; PASS],
        left: usize,
        group: usize,
    ) {
        // SAFETY: the caller's.
        unsafe {
            if plan.src.v4.levels.len() >= left {
                let (nodes, fan) = level_of(&plan.src.v4, left);
                each!(group, i, {
                    let x = keys.get_unchecked(i).src as u32;
                    step::<S>(nodes, fan, x, self.at[0].0.get_unchecked_mut(i));
                });
            }
            if plan.dst.v4.levels.len() >= left {
                let (nodes, fan) = level_of(&plan.dst.v4, left);
                each!(group, i, {
                    let x = keys.get_unchecked(i).dst as u32;
                    step::<S>(nodes, fan, x, self.at[1].0.get_unchecked_mut(i));
                });
            }
        }
    }
}

/// The intervals of each key's addresses: all keys down one level after the other.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn addresses<S: Simd>(plan: &Plan, keys: &[Key; PASS], found: &mut Addresses) {
    // All are of IPv4 where the bits that any has and those that all have are its number.
    let (mut any, mut all) = (0, u8::MAX);
    for group in 0..found.groups {
        each!(group, i, {
            // SAFETY: a reference is good to read. Compilers would make wide registers of this, byte by byte.
            let net = unsafe {
                (&raw const keys.get_unchecked(i).net)
                    .cast::<u8>()
                    .read_volatile()
            };
            any |= net;
            all &= net;
        });
    }
    // SAFETY: the caller's.
    unsafe {
        S::root::<0>(&plan.src, keys, &mut found.at[0].0);
        S::root::<1>(&plan.dst, keys, &mut found.at[1].0);
        let levels = plan.src.v4.levels.len().max(plan.dst.v4.levels.len());
        for left in (1..=levels).rev() {
            for group in 0..found.groups {
                found.level::<S>(plan, keys, left, group);
            }
        }
        if any != Net::V4 as u8 || all != Net::V4 as u8 {
            other_addresses::<S>(plan, &keys[..found.groups * GROUP], &mut found.at);
        }
    }
}

/// The nodes of the level that has `left - 1` below it, and their children.
#[inline(always)]
unsafe fn level_of(search: &Search32, left: usize) -> (*const Node32, u32) {
    // SAFETY: the caller's; there is such a level.
    unsafe {
        let start = get(&search.levels, search.levels.len() - left);
        (
            search.nodes.as_ptr().add(start),
            if left == 1 { 16 } else { 17 },
        )
    }
}

/// One level down.
#[inline(always)]
unsafe fn step<S: Simd>(nodes: *const Node32, fan: u32, x: u32, at: &mut u32) {
    // SAFETY: the caller's; no separator leads to a node that is not there.
    unsafe {
        let node = &*nodes.add(*at as usize);
        *at = *at * fan + opaque(S::count32(node, x)) as u32;
    }
}

/// The intervals of the keys that are not IPv4: all of them down one level after the other, as IPv4.
#[cfg_attr(not(debug_assertions), inline(always))]
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
                // SAFETY: the caller's; `others` holds indices of keys.
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
            let six = field.v6_base + *rank;
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

/// Where each field's bits of one key start, in words. `SIFTED` is what the plan's mode says.
#[inline(always)]
pub(super) unsafe fn starts<const W: usize, const SPORT: bool, const SIFTED: bool>(
    plan: &Plan,
    key: &Key,
    intervals: &[Lane; 2],
    i: usize,
) -> [u32; 5] {
    let unit = if W == 0 { plan.unit } else { W } as u32;
    // SAFETY: the caller's; `head` is below `HEADS`.
    unsafe {
        [
            of_address::<SIFTED>(&plan.src, opaque(*intervals[0].0.get_unchecked(i))),
            of_address::<SIFTED>(&plan.dst, opaque(*intervals[1].0.get_unchecked(i))),
            if SPORT {
                plan.sport.base + port_class::<SIFTED>(&plan.sport, key.sport) * unit
            } else {
                plan.sport.base
            },
            plan.dport.base + port_class::<SIFTED>(&plan.dport, key.dport) * unit,
            get(&plan.heads, head(key)).bits,
        ]
    }
}

#[inline(always)]
unsafe fn of_address<const SIFTED: bool>(field: &AddrField, interval: usize) -> u32 {
    // SAFETY: the caller's.
    unsafe {
        if SIFTED {
            return get(&field.records, interval).places as u32;
        }
        get(&field.bits, interval)
    }
}

#[inline(always)]
unsafe fn port_class<const SIFTED: bool>(field: &PortField, port: u16) -> u32 {
    // SAFETY: there is a class for every number under the mask.
    unsafe {
        if SIFTED {
            return get(&field.records, usize::from(port)).class.into();
        }
        get(&field.class, usize::from(port & field.mask)).into()
    }
}

/// The words of one line.
///
/// # Safety
/// There must be as many.
#[inline(always)]
unsafe fn words(all: *const u64, starts: [u32; 5], line: usize) -> [*const u64; 5] {
    let [a, b, c, d, e] = starts;
    // SAFETY: the caller's.
    unsafe {
        let all = all.add(line * 8);
        [
            all.add(a as usize),
            all.add(b as usize),
            all.add(c as usize),
            all.add(d as usize),
            all.add(e as usize),
        ]
    }
}

/// The rule of the first row in the bitsets that holds. `W` words each; 0 for as many whole lines as the plan has.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn first_rule<S: Simd, const W: usize, const SPORT: bool>(
    plan: &Plan,
    starts: [u32; 5],
) -> u32 {
    let all = plan.lines.as_ptr().cast::<u64>();
    // SAFETY: every class of a field has as many words. A bit that is set is one of a row, and the table of rules goes on for as far as "none" may point.
    unsafe {
        if W > 0 {
            let first = S::first_bit::<W, SPORT>(words(all, starts, 0));
            return get(&plan.rule_of_bit, opaque(first));
        }
        let mut first = plan.rule_of_bit.len() - 1;
        // The lines are walked from the last to the first and none is left out: the work does not depend on the key.
        for line in (0..plan.words / 8).rev() {
            let bit = S::first_bit::<8, SPORT>(words(all, starts, line)) as usize;
            // All ones where there is a bit, else 0: a select that no compiler makes into a branch.
            let found = (bit >> 9).wrapping_sub(1);
            first = first & !found | (line * 512 + bit) & found;
        }
        get(&plan.rule_of_bit, first)
    }
}

/// [`bits`] of as many words as the plan has.
#[inline(always)]
unsafe fn bits_of_plan<S: Simd, const SIFTED: bool>(
    plan: &Plan,
    keys: &[Key; PASS],
    found: &Addresses,
    out: &mut [RuleId; PASS],
) {
    // SAFETY: the caller's.
    unsafe {
        match (plan.words, plan.asks_sport) {
            (1, false) => bits::<S, 1, false, SIFTED>(plan, keys, found, out),
            (1, true) => bits::<S, 1, true, SIFTED>(plan, keys, found, out),
            (2, false) => bits::<S, 2, false, SIFTED>(plan, keys, found, out),
            (2, true) => bits::<S, 2, true, SIFTED>(plan, keys, found, out),
            (4, false) => bits::<S, 4, false, SIFTED>(plan, keys, found, out),
            (4, true) => bits::<S, 4, true, SIFTED>(plan, keys, found, out),
            (8, false) => bits::<S, 8, false, SIFTED>(plan, keys, found, out),
            (8, true) => bits::<S, 8, true, SIFTED>(plan, keys, found, out),
            (16, false) => bits::<S, 16, false, SIFTED>(plan, keys, found, out),
            (16, true) => bits::<S, 16, true, SIFTED>(plan, keys, found, out),
            _ => bits::<S, 0, true, SIFTED>(plan, keys, found, out),
        }
    }
}

/// Lowers `out` to the rule of the first row in the bitsets that holds.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn bits<S: Simd, const W: usize, const SPORT: bool, const SIFTED: bool>(
    plan: &Plan,
    keys: &[Key; PASS],
    found: &Addresses,
    out: &mut [RuleId; PASS],
) {
    // SAFETY: the caller's; a group is one of the keys.
    unsafe {
        for group in 0..found.groups {
            each!(group, i, {
                let starts = starts::<W, SPORT, SIFTED>(plan, keys.get_unchecked(i), &found.at, i);
                let out = out.get_unchecked_mut(i);
                out.0 = lower(out.0, first_rule::<S, W, SPORT>(plan, starts));
            });
        }
    }
}
