//! Lists of tables that are far larger than the caches: a cache line says which of twelve rows may hold, and of these the
//! first one is compared, then, where it does not hold, the next.

use super::lists::{Found, has, lower};
use super::{PASS, Simd};
use crate::policy::RuleId;
use crate::policy::table::plan::{Plan, SIEVE_LANES, Sieve, mode};
use std::mem::MaybeUninit;

/// Rows that are noted before they are compared.
const MOST: usize = 512;

/// Rows that may hold.
struct Noted {
    /// Where they are.
    rows: [MaybeUninit<u32>; MOST + 1],
    /// The key of each; above it, from bit 8 on, a bit for each row behind it that may hold too.
    keys: [MaybeUninit<u32>; MOST + 1],
    count: usize,
}

/// Lowers `out` to the rule of the first row in a list that holds, for the first `count` keys.
#[cfg_attr(not(debug_assertions), inline(always))]
pub(super) unsafe fn sifted<S: Simd, const M: u32>(
    plan: &Plan,
    count: usize,
    found: &Found,
    out: &mut [RuleId; PASS],
) {
    let mut noted = Noted {
        rows: [const { MaybeUninit::uninit() }; MOST + 1],
        keys: [const { MaybeUninit::uninit() }; MOST + 1],
        count: 0,
    };
    // SAFETY: the caller's.
    unsafe {
        home::<S, M, 0>(plan, count, found, &mut noted, out);
        home::<S, M, 1>(plan, count, found, &mut noted, out);
        home::<S, M, 2>(plan, count, found, &mut noted, out);
        home::<S, M, 3>(plan, count, found, &mut noted, out);
        compare::<S>(plan, found, &mut noted, out);
    }
}

/// Notes the rows of one home: first of all keys' first lines, then of the lists that go on, of fewer each time.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn home<S: Simd, const M: u32, const HOME: usize>(
    plan: &Plan,
    count: usize,
    found: &Found,
    noted: &mut Noted,
    out: &mut [RuleId; PASS],
) {
    if !has::<M>(plan, mode::home(HOME)) {
        return;
    }
    // SAFETY: the caller's; a bit is set for a key, and a list has as many lines as its number says.
    unsafe {
        let mut going = 0u32;
        for i in 0..count {
            let list = found.at[HOME].get(i);
            line::<S, HOME>(plan, list, 0, i, found, noted, out);
            going |= u32::from(list >> Sieve::FURTHER > 0) << i;
        }
        let mut further = 1;
        while going != 0 {
            let (mut left, mut next) = (going, 0);
            while left != 0 {
                let i = left.trailing_zeros() as usize;
                left &= left - 1;
                let list = found.at[HOME].get(i);
                line::<S, HOME>(plan, list, further, i, found, noted, out);
                next |= u32::from(list >> Sieve::FURTHER > further) << i;
            }
            going = next;
            further += 1;
        }
    }
}

/// Notes the first row of one line that may hold.
#[inline(always)]
unsafe fn line<S: Simd, const HOME: usize>(
    plan: &Plan,
    list: u32,
    further: u32,
    i: usize,
    found: &Found,
    noted: &mut Noted,
    out: &mut [RuleId; PASS],
) {
    // SAFETY: the caller's; there is room for another row.
    unsafe {
        let first = list & ((1 << Sieve::FURTHER) - 1);
        let sieve = plan.sieves.get_unchecked((first + further) as usize);
        // The last itself once more where there is none behind: that costs nothing.
        let last = list >> Sieve::FURTHER;
        S::prefetch(
            plan.sieves
                .as_ptr()
                .add((first + last.min(further + 2)) as usize),
        );
        let may = S::sift(sieve, found.bytes[HOME].get(i));
        let lane = (may | 1 << SIEVE_LANES).trailing_zeros();
        let row = noted.rows.get_unchecked_mut(noted.count);
        row.write(sieve.rows + lane);
        let key = noted.keys.get_unchecked_mut(noted.count);
        key.write(i as u32 | (may >> lane >> 1) << 8);
        noted.count += usize::from(may != 0);
        if noted.count == MOST {
            compare::<S>(plan, found, noted, out);
        }
    }
}

/// Compares what was noted.
#[cfg_attr(not(debug_assertions), inline(always))]
unsafe fn compare<S: Simd>(
    plan: &Plan,
    found: &Found,
    noted: &mut Noted,
    out: &mut [RuleId; PASS],
) {
    // SAFETY: the caller's; so many were noted, of keys and rows that there are.
    unsafe {
        if plan.far {
            for row in &noted.rows[..noted.count] {
                S::prefetch(plan.rows.as_ptr().add(row.assume_init() as usize));
            }
        }
        while noted.count > 0 {
            let mut left = 0;
            for at in 0..noted.count {
                let number = noted.rows.get_unchecked(at).assume_init();
                let key = noted.keys.get_unchecked(at).assume_init();
                let (i, behind) = (key as u8 as usize, key >> 8);
                let row = plan.rows.get_unchecked(number as usize);
                let values = found.values.get_unchecked(i).as_ptr();
                let holds = S::holds(row, values, found.mask.get(i));
                let known = out.get_unchecked_mut(i);
                // All ones where the row does not hold.
                known.0 = lower(known.0, row.rule | holds.wrapping_sub(1));
                // The next row that may hold takes the place of one that is done with.
                let lane = (behind | 1 << SIEVE_LANES).trailing_zeros();
                noted.rows.get_unchecked_mut(left).write(number + lane + 1);
                let next = i as u32 | (behind >> lane >> 1) << 8;
                noted.keys.get_unchecked_mut(left).write(next);
                left += usize::from((holds == 0) & (behind != 0));
            }
            noted.count = left;
        }
    }
}
