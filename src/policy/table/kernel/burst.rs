//! The stages.

use super::{PASS, Simd};
use crate::frame::Net;
use crate::policy::table::plan::{BitField, ExtraField, Form, LANES, NOT_IP, Plan, PortField};
use crate::policy::table::search::{Search32, Search128};
use crate::policy::{Key, RuleId};

/// A number for each key of the pass.
type Lane = [u32; PASS];

/// What a key is compared with the rows of its lists by.
struct Lists {
    /// By home: the chunk where the list starts.
    chunk: [Lane; 4],
    /// Source and destination lane, source and destination port.
    value: [[u16; PASS]; 4],
    /// The bit of the head.
    mask: [u16; PASS],
}

/// One pass: `keys` and `out` are of one length, not above [`PASS`].
///
/// # Safety
/// The processor must have what `S` is named for. The plan must be one that [`build`](super::super::build) made: every
/// number in it that leads into an array is below that array's length.
#[inline(always)]
pub(super) unsafe fn classify<S: Simd>(plan: &Plan, keys: &[Key], out: &mut [RuleId]) {
    let len = keys.len().min(out.len()).min(PASS);
    let keys = &keys[..len];
    let mut best = [plan.last_rule; PASS];
    // SAFETY: the caller's.
    unsafe {
        let intervals = addresses::<S>(plan, keys);
        let general = !plan.extras.is_empty() || plan.form == Form::Aggregated;
        let homes = plan.chunks.len() > 1;
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
            let lists = lists::<S>(plan, keys, &intervals);
            rows::<S>(plan, len, &lists, &mut best);
        }
    }
    for (out, best) in out.iter_mut().zip(&best[..len]) {
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
    let (mut src, mut dst) = ([0; PASS], [0; PASS]);
    let mut others = 0;
    for ((key, src), dst) in keys.iter().zip(&mut src).zip(&mut dst) {
        (*src, *dst) = (key.src as u32, key.dst as u32);
        others |= u32::from(key.net != Net::V4);
    }
    // SAFETY: the caller's.
    unsafe {
        let mut intervals = [
            rank32::<S>(&plan.src.v4, &src, keys.len()),
            rank32::<S>(&plan.dst.v4, &dst, keys.len()),
        ];
        if others != 0 {
            other_addresses::<S>(plan, keys, &mut intervals);
        }
        intervals
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
            let none = field.records.len() as u32 - 1;
            let six = field.v6_base + rank;
            intervals[interval][usize::from(other)] = if key.net == Net::V6 { six } else { none };
        }
    }
}

#[inline(always)]
unsafe fn rank32<S: Simd>(search: &Search32, x: &Lane, len: usize) -> Lane {
    let mut at = [0; PASS];
    // SAFETY: the caller's; every node has all its children, so each index is one of its level.
    unsafe {
        S::count_burst(&search.root, x, &mut at);
        let mut levels = search.levels.as_slice();
        while let [start, below @ ..] = levels {
            let fan = if below.is_empty() { 16 } else { 17 };
            for i in 0..len {
                let node = search.nodes.get_unchecked(*start + at[i] as usize);
                at[i] = at[i] * fan + S::count32(node, x[i]);
            }
            levels = below;
        }
    }
    for at in &mut at {
        *at = (*at).min(search.keys as u32);
    }
    at
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
    let ip = matches!(key.net, Net::V4 | Net::V6);
    let proto = if ip { usize::from(key.proto) } else { NOT_IP };
    key.side as usize * 512 + proto
}

/// Where each field's bits of one key start, in words.
#[inline(always)]
unsafe fn starts(plan: &Plan, key: &Key, intervals: &[Lane; 2], i: usize) -> [u32; 5] {
    let unit = plan.unit as u32;
    // SAFETY: the caller's; `head` is below `HEADS`.
    unsafe {
        [
            get(&plan.src.records, opaque(intervals[0][i])).bits,
            get(&plan.dst.records, opaque(intervals[1][i])).bits,
            port_class(&plan.sport, key.sport) * unit,
            port_class(&plan.dport, key.dport) * unit,
            get(&plan.heads, head(key)).bits,
        ]
    }
}

#[inline(always)]
unsafe fn port_class(field: &PortField, port: u16) -> u32 {
    if field.class.is_empty() {
        return 0;
    }
    // SAFETY: a table of classes, where there is one, has 65,536.
    unsafe { get(&field.class, usize::from(port)).into() }
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
            let base = plan.bits[field].lines.as_ptr().cast::<u64>();
            // SAFETY: every class of a field has as many words.
            words[field] = unsafe { base.add(starts[field] as usize + line * step) };
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
        best[i] = unsafe { first_rule::<S, W>(plan, starts(plan, key, intervals, i)) };
    }
}

/// Some rows have homes: the lists are found and asked for first, and arrive while the bitsets are ANDed.
#[inline(always)]
unsafe fn both<S: Simd, const W: usize>(
    plan: &Plan,
    keys: &[Key],
    intervals: &[Lane; 2],
    best: &mut Lane,
) {
    // SAFETY: the caller's.
    unsafe {
        let lists = lists::<S>(plan, keys, intervals);
        bits::<S, W>(plan, keys, intervals, best);
        rows::<S>(plan, keys.len(), &lists, best);
    }
}

/// Finds the lists of each key, and asks for them.
#[inline(always)]
unsafe fn lists<S: Simd>(plan: &Plan, keys: &[Key], intervals: &[Lane; 2]) -> Lists {
    let mut lists = Lists {
        chunk: [[0; PASS]; 4],
        value: [[0; PASS]; 4],
        mask: [0; PASS],
    };
    let heads = plan.head_count as usize;
    for (i, key) in keys.iter().enumerate() {
        // SAFETY: the caller's; `head` is below `HEADS`, a table of cells has 65,536, and there is a list for each cell
        // and head.
        unsafe {
            let head = get(&plan.heads, head(key));
            for (at, field) in [&plan.src, &plan.dst].into_iter().enumerate() {
                let record = get(&field.records, opaque(intervals[at][i]));
                lists.value[at][i] = record.lane as u16;
                lists.chunk[at][i] = record.list;
                S::prefetch(plan, record.list);
            }
            (lists.value[2][i], lists.value[3][i]) = (key.sport, key.dport);
            lists.mask[i] = head.mask;
            for (home, field, port) in [(2, &plan.sport, key.sport), (3, &plan.dport, key.dport)] {
                if plan.homes[home] {
                    let cell = usize::from(get(&field.cell, usize::from(port)));
                    let list = get(&field.lists, cell * heads + usize::from(head.head));
                    lists.chunk[home][i] = list;
                    S::prefetch(plan, list);
                }
            }
        }
    }
    lists
}

/// The fields that the chunks of each home compare: see [`Home`](crate::policy::table::plan::Home).
const COMPARED: [[usize; 3]; 4] = [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]];

/// Compares each key with the rows of its lists: lowers `best` to the first that holds.
#[inline(always)]
unsafe fn rows<S: Simd>(plan: &Plan, len: usize, lists: &Lists, best: &mut Lane) {
    // SAFETY: the caller's.
    unsafe {
        home::<S, 0>(plan, len, lists, best);
        home::<S, 1>(plan, len, lists, best);
        home::<S, 2>(plan, len, lists, best);
        home::<S, 3>(plan, len, lists, best);
    }
}

/// The lists of one home.
#[inline(always)]
unsafe fn home<S: Simd, const HOME: usize>(
    plan: &Plan,
    len: usize,
    lists: &Lists,
    best: &mut Lane,
) {
    if !plan.homes[HOME] {
        return;
    }
    // The keys whose list goes on, and in which chunk.
    let (mut open, mut count) = ([(0u32, 0u32); PASS], 0);
    let mut rules = [u32::MAX; PASS];
    for i in 0..len {
        // SAFETY: the caller's.
        let (rule, more) = unsafe { row::<S, HOME>(plan, lists.chunk[HOME][i], lists, i) };
        rules[i] = rule;
        open[count % PASS] = (i as u32, lists.chunk[HOME][i] + 1);
        count += more as usize;
    }
    // Fewer each time. A list is in order: what a later chunk finds counts only where no earlier one found anything.
    while count > 0 {
        let mut left = 0;
        for at in 0..count {
            let (i, chunk) = open[at % PASS];
            let key = i as usize % PASS;
            // SAFETY: a chunk that goes on is followed by one.
            let (rule, more) = unsafe { row::<S, HOME>(plan, chunk, lists, key) };
            rules[key] = lower(rules[key], rule);
            open[left % PASS] = (i, chunk + 1);
            left += more as usize;
        }
        count = left;
    }
    for (best, rule) in best.iter_mut().zip(&rules) {
        *best = (*best).min(*rule);
    }
}

/// The lower number, without a branch: compilers make a minimum in a loop like ours into a jump that is taken at random.
#[inline(always)]
fn lower(a: u32, b: u32) -> u32 {
    let below = ((i64::from(a) - i64::from(b)) >> 63) as u32;
    a & below | b & !below
}

/// One chunk: the rule of its first row that holds, `u32::MAX` for none, and whether its list goes on (1) or not (0).
#[inline(always)]
unsafe fn row<S: Simd, const HOME: usize>(
    plan: &Plan,
    at: u32,
    lists: &Lists,
    i: usize,
) -> (u32, u32) {
    // SAFETY: the caller's.
    unsafe {
        let chunk = plan.chunks.get_unchecked(at as usize);
        let [a, b, c] = COMPARED[HOME];
        let values = [lists.value[a][i], lists.value[b][i], lists.value[c][i]];
        let first = S::first_row(chunk, values, lists.mask[i]);
        let rules = plan.rule_of_lane.get_unchecked(at as usize);
        // `LANES` is 8: all ones where there is no row, else 0.
        let none = 0u32.wrapping_sub(first >> 3);
        (rules[first as usize % LANES] | none, chunk.more)
    }
}

/// Fields beyond the five are asked for, or the bitsets are aggregated: safe code, for policies that are not the common
/// ones.
fn general_bits(plan: &Plan, keys: &[Key], intervals: &[Lane; 2], best: &mut Lane) {
    for (i, key) in keys.iter().enumerate() {
        // SAFETY: the intervals are those of this plan.
        let starts = unsafe { starts(plan, key, intervals, i) };
        let bit = general(plan, key, starts);
        best[i] = plan.rule_of_bit.get(bit).copied().unwrap_or(plan.last_rule);
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
        starts[count] = (usize::from(class) * plan.unit, &extra.bits);
        count += 1;
    }
    let starts = &starts[..count];
    match plan.form {
        Form::Dense => {
            let mut first = plan.rule_of_bit.len() - 1;
            for word in (0..plan.words).rev() {
                let both = starts.iter().fold(u64::MAX, |both, (start, bits)| {
                    let at = start + word;
                    both & bits.lines[at / 8].0[at % 8]
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
