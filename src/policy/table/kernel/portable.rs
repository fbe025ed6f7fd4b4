//! Plain Rust in a shape that compilers turn into vector instructions of whatever width they may use.

use super::{AddrField, Chunk, Node32, Node128, PASS, Row, Sieve, Simd, burst, low};
use crate::policy::table::plan::{LANES, Node16, Plan, SIEVE_LANES};
use crate::policy::{Key, RuleId};

pub(super) struct Portable;

/// One pass.
#[inline(never)]
pub(super) unsafe fn classify(plan: &Plan, keys: &[Key], out: &mut [RuleId]) {
    // SAFETY: the caller's.
    unsafe { burst::classify::<Portable>(plan, keys, out) }
}

impl Simd for Portable {
    #[inline(always)]
    unsafe fn count32(node: &Node32, x: u32) -> u32 {
        node.0.iter().map(|key| u32::from(*key < x)).sum()
    }

    #[inline(always)]
    unsafe fn count128(node: &Node128, hi: u64, lo: u64) -> u32 {
        let keys = node.hi.iter().zip(&node.lo);
        keys.map(|(key_hi, key_lo)| {
            u32::from(*key_hi < hi) | u32::from(*key_hi == hi) & u32::from(*key_lo < lo)
        })
        .sum()
    }

    #[inline(always)]
    unsafe fn root<const FIELD: usize>(field: &AddrField, keys: &[Key], at: &mut [u32; PASS]) {
        let x = low::<FIELD>(keys);
        *at = [0; PASS];
        for end in &field.v4.root {
            for (at, x) in at.iter_mut().zip(&x) {
                *at += u32::from(end < x);
            }
        }
    }

    #[inline(always)]
    unsafe fn below16(node: &Node16, x: u16) -> u32 {
        let below: u16 = node.0.iter().map(|key| u16::from(*key < x)).sum();
        below.into()
    }

    #[inline(always)]
    unsafe fn first_row<const A: bool, const B: bool>(
        chunk: &Chunk,
        values: [u16; 3],
        mask: u16,
    ) -> u32 {
        let [a, b, c] = values;
        // A bit for each row, not the least lane: of a minimum compilers make jumps.
        let mut rows = 1u32 << LANES;
        for lane in 0..LANES {
            // At least the lowest, and at most so much above it, in one comparison.
            let holds = (!A | (a.wrapping_sub(chunk.a.0[0][lane]) <= chunk.a.0[1][lane]))
                & (!B | (b.wrapping_sub(chunk.b[0][lane]) <= chunk.b[1][lane]))
                & (c.wrapping_sub(chunk.c[0][lane]) <= chunk.c[1][lane])
                & (chunk.not_heads[lane] & mask == 0);
            rows |= u32::from(holds) << lane;
        }
        rows.trailing_zeros()
    }

    #[inline(always)]
    unsafe fn sift(sieve: &Sieve, bytes: u32) -> u32 {
        let [a, b, head, _] = bytes.to_le_bytes();
        let mut may = 0;
        for lane in 0..SIEVE_LANES {
            let holds = (a.wrapping_sub(sieve.a[0][lane]) <= sieve.a[1][lane])
                & (b.wrapping_sub(sieve.b[0][lane]) <= sieve.b[1][lane])
                & (sieve.not_heads[lane] & head == 0);
            may |= u32::from(holds) << lane;
        }
        may
    }

    #[inline(always)]
    unsafe fn holds(row: &Row, values: *const [u16; 4], mask: u16) -> u32 {
        // SAFETY: the caller's.
        let values = unsafe { *values };
        let mut holds = row.not_heads & mask == 0;
        for (value, (lowest, span)) in values.iter().zip(row.lowest.iter().zip(&row.span)) {
            holds &= value.wrapping_sub(*lowest) <= *span;
        }
        holds.into()
    }

    #[inline(always)]
    unsafe fn first_bit<const W: usize, const SPORT: bool>(words: [*const u64; 5]) -> u32 {
        let [a, b, c, d, e] = words;
        let mut first = 64 * W as u32;
        for word in (0..W).rev() {
            // SAFETY: the caller gives `W` words each.
            let both = unsafe {
                let c = if SPORT { *c.add(word) } else { u64::MAX };
                *a.add(word) & *b.add(word) & c & *d.add(word) & *e.add(word)
            };
            let bit = word as u32 * 64 + both.trailing_zeros();
            // All ones where there is a bit, else 0.
            let found = u32::from(both != 0).wrapping_neg();
            first = first & !found | bit & found;
        }
        first
    }

    #[inline(always)]
    unsafe fn not_zero(numbers: &[u8; PASS]) -> u32 {
        let bits = numbers.iter().enumerate();
        bits.fold(0, |bits, (at, number)| bits | u32::from(*number) << at)
    }

    #[inline(always)]
    unsafe fn prefetch<T>(_at: *const T) {}
}
