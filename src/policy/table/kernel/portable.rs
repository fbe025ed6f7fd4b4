//! Plain Rust in a shape that compilers turn into vector instructions of whatever width they may use.

use super::{Chunk, Node32, Node128, PASS, Search32, Simd};
use crate::policy::table::plan::{LANES, Plan};

pub(super) struct Portable;

impl Simd for Portable {
    #[inline(always)]
    unsafe fn count32(node: &Node32, x: u32) -> u32 {
        node.0.iter().map(|key| u32::from(*key <= x)).sum()
    }

    #[inline(always)]
    unsafe fn count128(node: &Node128, hi: u64, lo: u64) -> u32 {
        let keys = node.hi.iter().zip(&node.lo);
        keys.map(|(key_hi, key_lo)| {
            u32::from(*key_hi < hi) | u32::from(*key_hi == hi) & u32::from(*key_lo <= lo)
        })
        .sum()
    }

    #[inline(always)]
    unsafe fn count_burst(search: &Search32, x: &[u32; PASS], at: &mut [u32; PASS]) {
        for key in &search.root {
            for (at, x) in at.iter_mut().zip(x) {
                *at += u32::from(key <= x);
            }
        }
    }

    #[inline(always)]
    unsafe fn first_row(chunk: &Chunk, values: [u16; 3], mask: u16) -> u32 {
        let [a, b, c] = values;
        // A bit for each row, not the least lane: of a minimum compilers make jumps.
        let mut rows = 1 << LANES;
        for lane in 0..LANES {
            // At least the lowest, and at most so much above it, in one comparison.
            let holds = (a.wrapping_sub(chunk.a[0][lane]) <= chunk.a[1][lane])
                & (b.wrapping_sub(chunk.b[0][lane]) <= chunk.b[1][lane])
                & (c.wrapping_sub(chunk.c[0][lane]) <= chunk.c[1][lane])
                & (chunk.heads[lane] & mask != 0);
            rows |= u32::from(holds) << lane;
        }
        rows.trailing_zeros()
    }

    #[inline(always)]
    unsafe fn first_bit<const W: usize>(words: [*const u64; 5]) -> u32 {
        let [a, b, c, d, e] = words;
        let mut first = 64 * W as u32;
        for word in (0..W).rev() {
            // SAFETY: the caller gives `W` words each.
            let both =
                unsafe { *a.add(word) & *b.add(word) & *c.add(word) & *d.add(word) & *e.add(word) };
            let bit = word as u32 * 64 + both.trailing_zeros();
            // All ones where there is a bit, else 0.
            let found = u32::from(both != 0).wrapping_neg();
            first = first & !found | bit & found;
        }
        first
    }

    #[inline(always)]
    unsafe fn prefetch(_plan: &Plan, _chunk: u32) {}
}
