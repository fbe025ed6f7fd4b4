//! The stages.

use super::{PASS, Simd};
use crate::frame::Net;
use crate::policy::table::plan::{
    AddrField, ExtraField, Form, LANES, Line, NOT_IP, Plan, PortField, field,
};
use crate::policy::table::search::{Search32, Search128};
use crate::policy::{Key, RuleId};

/// A number for each key of the pass.
type Lane = [u32; PASS];

/// What is known of each key so far.
struct Pass {
    /// How many keys there are.
    len: usize,
    /// By field: the first word of its bits (of the sparse form, of its summary).
    bits: [Lane; 5],
    /// By home: the chunk where the list starts.
    list: [Lane; 4],
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
    let mut pass = Pass {
        len: keys.len().min(out.len()).min(PASS),
        bits: [[0; PASS]; 5],
        list: [[0; PASS]; 4],
        value: [[0; PASS]; 4],
        mask: [0; PASS],
    };
    let homes = plan.chunks.len() > 1;
    // SAFETY: the caller's, for every stage.
    unsafe {
        addresses::<S>(plan, keys, &mut pass);
        ports(plan, keys, &mut pass);
        if homes {
            lists::<S>(plan, keys, &mut pass);
        }
        let mut best = [plan.last_rule; PASS];
        bitsets::<S>(plan, keys, &pass, &mut best);
        if homes {
            for home in 0..4 {
                rows::<S>(plan, home, &pass, &mut best);
            }
        }
        for (out, best) in out.iter_mut().zip(best) {
            *out = RuleId(best);
        }
    }
}

/// `list[at]`, which is known to be there.
#[inline(always)]
unsafe fn get<T: Copy>(list: &[T], at: usize) -> T {
    debug_assert!(at < list.len(), "{at} of {}", list.len());
    // SAFETY: the caller's.
    unsafe { *list.get_unchecked(at) }
}

#[inline(always)]
unsafe fn addresses<S: Simd>(plan: &Plan, keys: &[Key], pass: &mut Pass) {
    let (mut src, mut dst) = ([0; PASS], [0; PASS]);
    let (mut others, mut other) = ([0u8; PASS], 0);
    for (at, key) in keys[..pass.len].iter().enumerate() {
        (src[at], dst[at]) = (key.src as u32, key.dst as u32);
        others[other] = at as u8;
        other += usize::from(key.net != Net::V4);
    }
    let others = &others[..other];
    for (at, (field, addresses)) in [(&plan.src, &src), (&plan.dst, &dst)].into_iter().enumerate() {
        // SAFETY: the caller's.
        unsafe {
            let mut interval = rank32::<S>(&field.v4, addresses, pass.len);
            for &other in others {
                let key = &keys[usize::from(other)];
                let address = if at == 0 { key.src } else { key.dst };
                interval[usize::from(other)] = other_interval::<S>(field, key, address);
            }
            for i in 0..pass.len {
                let record = get(&field.records, interval[i] as usize);
                pass.bits[field::SRC + at][i] = record.bits;
                pass.list[at][i] = record.list;
                pass.value[at][i] = record.lane as u16;
            }
        }
    }
}

/// The interval of an address that is not IPv4.
#[inline(always)]
unsafe fn other_interval<S: Simd>(field: &AddrField, key: &Key, address: u128) -> u32 {
    // SAFETY: the caller's.
    let rank = unsafe { rank128::<S>(&field.v6, address) };
    if key.net == Net::V6 {
        field.v6_base + rank
    } else {
        field.records.len() as u32 - 1
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
    let mut at = search.root.iter().map(|key| u32::from(*key <= x)).sum::<u32>();
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

#[inline(always)]
unsafe fn ports(plan: &Plan, keys: &[Key], pass: &mut Pass) {
    let unit = plan.unit as u32;
    let class = |field: &PortField, port: u16| {
        // SAFETY: a table of classes, where there is one, has 65,536.
        unsafe { u32::from(get(&field.class, usize::from(port))) * unit }
    };
    let (by_sport, by_dport) = (!plan.sport.class.is_empty(), !plan.dport.class.is_empty());
    for (i, key) in keys[..pass.len].iter().enumerate() {
        // SAFETY: `head` is below `HEADS`.
        let head = unsafe { get(&plan.heads, head(key)) };
        pass.bits[field::HEAD][i] = head.bits;
        pass.mask[i] = head.mask;
        if by_sport {
            pass.bits[field::SPORT][i] = class(&plan.sport, key.sport);
        }
        if by_dport {
            pass.bits[field::DPORT][i] = class(&plan.dport, key.dport);
        }
        (pass.value[2][i], pass.value[3][i]) = (key.sport, key.dport);
    }
}

/// Finds the lists of the port homes, and asks for all of them.
#[inline(always)]
unsafe fn lists<S: Simd>(plan: &Plan, keys: &[Key], pass: &mut Pass) {
    for (home, field) in [(2, &plan.sport), (3, &plan.dport)] {
        if !plan.homes[home] {
            continue;
        }
        for (i, key) in keys[..pass.len].iter().enumerate() {
            let port = usize::from(pass.value[home][i]);
            // SAFETY: a table of cells has 65,536, `head` is below `HEADS`, and there is a list for each cell and head.
            unsafe {
                let head = usize::from(get(&plan.heads, head(key)).head);
                let cell = usize::from(get(&field.cell, port));
                pass.list[home][i] = get(&field.lists, cell * plan.head_count as usize + head);
            }
        }
    }
    for (home, list) in pass.list.iter().enumerate() {
        if plan.homes[home] {
            for chunk in &list[..pass.len] {
                // SAFETY: the caller's; a prefetch reads nothing.
                unsafe { S::prefetch(plan.chunks.as_ptr().add(*chunk as usize)) };
            }
        }
    }
}

/// Every row of one home's lists.
#[inline(always)]
unsafe fn rows<S: Simd>(plan: &Plan, home: usize, pass: &Pass, best: &mut Lane) {
    if !plan.homes[home] {
        return;
    }
    // The fields that the chunks of this home compare: see `Home`.
    let compared = [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]][home];
    let (mut open, mut count) = ([0u8; PASS], 0);
    let mut chunk = pass.list[home];
    for i in 0..pass.len {
        // SAFETY: the caller's.
        let more = unsafe { row::<S>(plan, chunk[i], compared, pass, i, best) };
        open[count] = i as u8;
        count += more as usize;
    }
    // Lists that go on: few, and fewer each time.
    while count > 0 {
        let mut left = 0;
        for at in 0..count {
            let i = usize::from(open[at]);
            chunk[i] += 1;
            // SAFETY: a chunk that goes on is followed by one.
            let more = unsafe { row::<S>(plan, chunk[i], compared, pass, i, best) };
            open[left] = i as u8;
            left += more as usize;
        }
        count = left;
    }
}

/// One chunk: lowers `best[i]` to the rule of its first row that holds. Says whether its list goes on (1) or not (0).
#[inline(always)]
unsafe fn row<S: Simd>(
    plan: &Plan,
    at: u32,
    compared: [usize; 3],
    pass: &Pass,
    i: usize,
    best: &mut Lane,
) -> u32 {
    // SAFETY: the caller's.
    unsafe {
        let chunk = plan.chunks.get_unchecked(at as usize);
        let values = compared.map(|field| pass.value[field][i]);
        let first = S::first_row(chunk, values, pass.mask[i]);
        let rules = plan.rule_of_lane.get_unchecked(at as usize);
        let rule = rules[first as usize % LANES];
        let rule = if first < LANES as u32 { rule } else { u32::MAX };
        best[i] = best[i].min(rule);
        chunk.more
    }
}

#[inline(always)]
unsafe fn bitsets<S: Simd>(plan: &Plan, keys: &[Key], pass: &Pass, best: &mut Lane) {
    if !plan.extras.is_empty() || plan.form == Form::Aggregated {
        for i in 0..pass.len {
            let bit = general(plan, &keys[i], pass, i);
            best[i] = plan.rule_of_bit.get(bit).copied().unwrap_or(plan.last_rule);
        }
        return;
    }
    // SAFETY: the caller's.
    unsafe {
        match plan.words {
            1 => short::<1>(plan, pass, best),
            2 => short::<2>(plan, pass, best),
            4 => short::<4>(plan, pass, best),
            8 => long::<S, 1>(plan, pass, best),
            16 => long::<S, 2>(plan, pass, best),
            24 => long::<S, 3>(plan, pass, best),
            32 => long::<S, 4>(plan, pass, best),
            _ => any_length::<S>(plan, pass, best),
        }
    }
}

/// Bitsets of `W` words.
#[inline(always)]
unsafe fn short<const W: usize>(plan: &Plan, pass: &Pass, best: &mut Lane) {
    let words: [*const u64; 5] =
        std::array::from_fn(|field| plan.bits[field].lines.as_ptr().cast::<u64>());
    for i in 0..pass.len {
        let mut first = plan.rule_of_bit.len() - 1;
        for word in (0..W).rev() {
            let both = (0..5).fold(u64::MAX, |both, field| {
                // SAFETY: every class of a field has `W` words.
                both & unsafe { *words[field].add(pass.bits[field][i] as usize + word) }
            });
            let bit = word * 64 + both.trailing_zeros() as usize;
            first = if both != 0 { bit } else { first };
        }
        // SAFETY: the table of rules has one more entry than there are bits.
        best[i] = unsafe { get(&plan.rule_of_bit, first) };
    }
}

/// Bitsets of `L` lines.
#[inline(always)]
unsafe fn long<S: Simd, const L: usize>(plan: &Plan, pass: &Pass, best: &mut Lane) {
    for i in 0..pass.len {
        // SAFETY: the caller's.
        best[i] = unsafe { lines::<S>(plan, pass, i, L) };
    }
}

/// Bitsets of as many lines as the plan has.
#[inline(always)]
unsafe fn any_length<S: Simd>(plan: &Plan, pass: &Pass, best: &mut Lane) {
    let count = plan.words / 8;
    for i in 0..pass.len {
        // SAFETY: the caller's.
        best[i] = unsafe { lines::<S>(plan, pass, i, count) };
    }
}

/// The lines are walked from the last to the first and none is left out: the work does not depend on the key.
#[inline(always)]
unsafe fn lines<S: Simd>(plan: &Plan, pass: &Pass, i: usize, count: usize) -> u32 {
    let mut first = plan.rule_of_bit.len() - 1;
    for line in (0..count).rev() {
        let lines: [*const Line; 5] = std::array::from_fn(|field| {
            let class = pass.bits[field][i] as usize / 8;
            // SAFETY: every class of a field has `count` lines.
            unsafe { plan.bits[field].lines.as_ptr().add(class + line) }
        });
        // SAFETY: the caller's.
        let bit = unsafe { S::first_bit(lines) } as usize;
        first = if bit < 512 { line * 512 + bit } else { first };
    }
    // SAFETY: a bit that is set is one of a row.
    unsafe { get(&plan.rule_of_bit, first) }
}

/// The first bit of one key where fields beyond the five are asked for, or the bitsets are aggregated: safe code, for
/// policies that are not the common ones.
fn general(plan: &Plan, key: &Key, pass: &Pass, i: usize) -> usize {
    let mut starts = [(0usize, &plan.bits[0]); 10];
    let mut count = 0;
    for (field, bits) in plan.bits.iter().enumerate() {
        starts[count] = (pass.bits[field][i] as usize, bits);
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
            let mut first = plan.rule_of_bit.len();
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
fn aggregated(plan: &Plan, starts: &[(usize, &crate::policy::table::plan::BitField)]) -> usize {
    for group in 0..plan.unit {
        let summaries = starts.iter().map(|(start, bits)| bits.sparse.summary[start + group]);
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
    plan.rule_of_bit.len()
}
