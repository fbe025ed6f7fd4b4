//! The stages.

use super::{PASS, Simd};
use crate::frame::Net;
use crate::policy::table::plan::{BitField, ExtraField, Form, Plan, PortField, RULES};
use crate::policy::table::search::{Search32, Search128};
use crate::policy::{Key, RuleId};
use std::mem::MaybeUninit;

/// A number for each key of the pass, on whole cache lines: what is stored as a vector is read again one by one, and
/// a processor forwards that only where the store did not cross a line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Lane<T = u32>([T; PASS]);

/// What a key is compared with the rows of its lists by.
struct Lists {
    /// By home: the chunk where the list starts.
    chunk: [Lane; 4],
    /// Source and destination lane.
    lane: [Lane<u16>; 2],
    /// The bit of the head.
    mask: Lane<u16>,
}

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
unsafe fn get<T: Copy>(list: &[T], at: usize) -> T {
    debug_assert!(at < list.len(), "{at} of {}", list.len());
    // SAFETY: the caller's.
    unsafe { *list.get_unchecked(at) }
}

/// The same number, but the compiler may not see that. A loop of table look-ups with it stays one of plain loads: made
/// into gathers, as compilers like to, it takes half as long again on processors whose gathers are slow.
#[inline(always)]
fn opaque(number: u32) -> usize {
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

/// The intervals of the keys that are not IPv4.
#[inline(always)]
unsafe fn other_addresses<S: Simd>(plan: &Plan, keys: &[Key], intervals: &mut [Lane; 2]) {
    let (mut others, mut count) = ([0u8; PASS], 0);
    for (at, key) in keys.iter().enumerate() {
        others[count] = at as u8;
        count += usize::from(key.net != Net::V4);
    }
    for (field, interval) in [&plan.src, &plan.dst].into_iter().zip(0..) {
        for &other in &others[..count] {
            let key = &keys[usize::from(other)];
            let address = if interval == 0 { key.src } else { key.dst };
            // SAFETY: the caller's.
            let rank = unsafe { rank128::<S>(&field.v6, address) };
            let none = field.bits.len() as u32 - 1;
            let six = field.v6_base + rank;
            let at = if key.net == Net::V6 { six } else { none };
            intervals[interval].0[usize::from(other)] = at;
        }
    }
}

#[inline(always)]
unsafe fn rank128<S: Simd>(search: &Search128, x: u128) -> u32 {
    let (hi, lo) = ((x >> 64) as u64, x as u64);
    let mut at = search
        .root
        .iter()
        .map(|key| u32::from(*key <= x))
        .sum::<u32>();
    let mut levels = search.levels.as_slice();
    while let [start, below @ ..] = levels {
        let fan = if below.is_empty() { 8 } else { 9 };
        // SAFETY: as in `rank32`.
        unsafe {
            let node = search.nodes.get_unchecked(*start + at as usize);
            at = at * fan + S::count128(node, hi, lo);
        }
        levels = below;
    }
    at.min(search.keys as u32)
}

/// Index into [`Plan::heads`].
#[inline(always)]
fn head(key: &Key) -> usize {
    usize::from(u16::from(key.proto) | (key.side as u16) << 8)
}

/// Where each field's bits of one key start, in words.
#[inline(always)]
unsafe fn starts<const W: usize>(
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

impl Lists {
    #[inline(always)]
    fn new() -> Lists {
        Lists {
            chunk: [Lane([0; PASS]); 4],
            lane: [Lane([0; PASS]); 2],
            mask: Lane([0; PASS]),
        }
    }
}

/// Finds the lists of one key, and asks for them where they may be far.
#[inline(always)]
unsafe fn find<S: Simd>(
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
unsafe fn rows<S: Simd>(plan: &Plan, keys: &[Key], lists: &Lists, best: &mut Lane) {
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

/// Fields beyond the five are asked for, or the bitsets are aggregated: safe code, for policies that are not the common
/// ones.
fn general_bits(plan: &Plan, keys: &[Key], intervals: &[Lane; 2], best: &mut Lane) {
    for (i, key) in keys.iter().enumerate() {
        // SAFETY: the intervals are those of this plan.
        let starts = unsafe { starts::<0>(plan, key, intervals, i) };
        let bit = general(plan, key, starts);
        best.0[i] = plan.rule_of_bit.get(bit).copied().unwrap_or(plan.last_rule);
    }
}

/// The first bit of one key.
fn general(plan: &Plan, key: &Key, five: [u32; 5]) -> usize {
    let mut starts = [(0usize, &plan.bits[0]); 10];
    let mut count = 0;
    for (start, bits) in five.into_iter().zip(&plan.bits) {
        starts[count] = (start as usize, bits);
        count += 1;
    }
    for extra in &plan.extras {
        let value = match extra.field {
            ExtraField::Ethertype => usize::from(key.ethertype),
            ExtraField::Vlan => usize::from(key.vlan),
            ExtraField::TcpFlags => usize::from(key.tcp_flags),
            ExtraField::Fragment => usize::from(key.fragment),
            ExtraField::SrcMac => match extra.macs.binary_search(&key.src_mac) {
                Ok(at) => at + 1,
                Err(_) => 0,
            },
        };
        let class = extra.class.get(value).copied().unwrap_or(0);
        let start = extra.bits.base as usize + usize::from(class) * plan.unit;
        starts[count] = (start, &extra.bits);
        count += 1;
    }
    let starts = &starts[..count];
    match plan.form {
        Form::Dense => {
            let mut first = plan.rule_of_bit.len() - 1;
            for word in (0..plan.words).rev() {
                let both = starts.iter().fold(u64::MAX, |both, (start, _)| {
                    let at = start + word;
                    both & plan.lines[at / 8].0[at % 8]
                });
                let bit = word * 64 + both.trailing_zeros() as usize;
                first = if both != 0 { bit } else { first };
            }
            first
        }
        Form::Aggregated => aggregated(plan, starts),
    }
}

/// Only the words that are not empty in any field are looked at, in order, until one has a bit.
fn aggregated(plan: &Plan, starts: &[(usize, &BitField)]) -> usize {
    for group in 0..plan.unit {
        let summaries = starts
            .iter()
            .map(|(start, bits)| bits.sparse.summary[start + group]);
        let mut open = summaries.fold(u64::MAX, |both, summary| both & summary);
        while open != 0 {
            let word = open.trailing_zeros();
            let both = starts.iter().fold(u64::MAX, |both, (start, bits)| {
                let sparse = &bits.sparse;
                let before = sparse.summary[start + group] & ((1 << word) - 1);
                let at = sparse.starts[start + group] as usize + before.count_ones() as usize;
                both & sparse.words[at]
            });
            if both != 0 {
                return (group * 64 + word as usize) * 64 + both.trailing_zeros() as usize;
            }
            open &= open - 1;
        }
    }
    plan.rule_of_bit.len() - 1
}
