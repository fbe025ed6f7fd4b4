//! The lookup with AVX-512: a node, a chunk or a line of bits is one comparison, whose outcome is a mask.

use super::avx2::Avx2;
use super::{Chunk, Node32, Node128, PASS, Search32, Simd, burst};
use crate::policy::table::plan::Plan;
use crate::policy::{Key, RuleId};
use core::arch::x86_64::*;

struct Avx512;

/// One pass.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,bmi2,popcnt,lzcnt")]
pub(super) unsafe fn classify(plan: &Plan, keys: &[Key], out: &mut [RuleId]) {
    // SAFETY: the caller's.
    unsafe { burst::classify::<Avx512>(plan, keys, out) }
}

// SAFETY of every block below: the pointers come from references to values of at least the width that is loaded, and
// the features are those of `classify`, into which all of this is inlined.
impl Simd for Avx512 {
    #[inline(always)]
    unsafe fn count32(node: &Node32, x: u32) -> u32 {
        // SAFETY: see above.
        unsafe {
            let keys = _mm512_load_si512((&raw const node.0).cast());
            _mm512_cmple_epu32_mask(keys, _mm512_set1_epi32(x as i32)).count_ones()
        }
    }

    #[inline(always)]
    unsafe fn count128(node: &Node128, hi: u64, lo: u64) -> u32 {
        // SAFETY: see above.
        unsafe {
            let high = _mm512_load_si512((&raw const node.hi).cast());
            let low = _mm512_load_si512((&raw const node.lo).cast());
            let (hi, lo) = (_mm512_set1_epi64(hi as i64), _mm512_set1_epi64(lo as i64));
            let below = _mm512_cmplt_epu64_mask(high, hi);
            let equal = _mm512_cmpeq_epi64_mask(high, hi);
            let low = _mm512_mask_cmple_epu64_mask(equal, low, lo);
            (below | low).count_ones()
        }
    }

    #[inline(always)]
    unsafe fn count_burst(search: &Search32, x: &[u32; PASS], at: &mut [u32; PASS]) {
        let pivots = &search.pivots;
        // SAFETY: see above; 32 numbers are two registers, and a level is no longer than four.
        unsafe {
            let one = _mm512_set1_epi32(1);
            let x = [
                _mm512_loadu_si512(x.as_ptr().cast()),
                _mm512_loadu_si512(x.as_ptr().add(16).cast()),
            ];
            let mut node = [_mm512_setzero_si512(); 2];
            for level in pivots.keys.iter().take(pivots.levels.min(5)) {
                let keys = _mm512_loadu_si512(level.as_ptr().cast());
                for half in 0..2 {
                    let key = _mm512_permutexvar_epi32(node[half], keys);
                    let reached = _mm512_cmpge_epu32_mask(x[half], key);
                    let next = _mm512_add_epi32(node[half], node[half]);
                    node[half] = _mm512_mask_add_epi32(next, reached, next, one);
                }
            }
            if pivots.levels > 5 {
                let level = &pivots.keys[5];
                let low = _mm512_loadu_si512(level.as_ptr().cast());
                let high = _mm512_loadu_si512(level.as_ptr().add(16).cast());
                for half in 0..2 {
                    let key = _mm512_permutex2var_epi32(low, node[half], high);
                    let reached = _mm512_cmpge_epu32_mask(x[half], key);
                    let next = _mm512_add_epi32(node[half], node[half]);
                    node[half] = _mm512_mask_add_epi32(next, reached, next, one);
                }
            }
            if pivots.levels > 6 {
                let level = &pivots.keys[6];
                let part = |at: usize| _mm512_loadu_si512(level.as_ptr().add(16 * at).cast());
                let parts = [part(0), part(1), part(2), part(3)];
                let upper = _mm512_set1_epi32(32);
                for half in 0..2 {
                    let low = _mm512_permutex2var_epi32(parts[0], node[half], parts[1]);
                    let high = _mm512_permutex2var_epi32(parts[2], node[half], parts[3]);
                    let is_upper = _mm512_test_epi32_mask(node[half], upper);
                    let key = _mm512_mask_mov_epi32(low, is_upper, high);
                    let reached = _mm512_cmpge_epu32_mask(x[half], key);
                    let next = _mm512_add_epi32(node[half], node[half]);
                    node[half] = _mm512_mask_add_epi32(next, reached, next, one);
                }
            }
            // The highest value of all is not below the filling either.
            let count = _mm512_set1_epi32(pivots.count as i32);
            for half in 0..2 {
                let node = _mm512_min_epu32(node[half], count);
                _mm512_storeu_si512(at.as_mut_ptr().add(16 * half).cast(), node);
            }
        }
    }

    #[inline(always)]
    unsafe fn first_row(chunk: &Chunk, values: [u16; 3], mask: u16) -> u32 {
        // SAFETY: whoever has AVX-512 has AVX2.
        unsafe { Avx2::first_row(chunk, values, mask) }
    }

    #[inline(always)]
    unsafe fn first_bit<const W: usize>(words: [*const u64; 5]) -> u32 {
        // SAFETY: see above. 0x80 is the AND of three. Without any bit the word is the one past the last.
        unsafe {
            match W {
                8 => {
                    let [a, b, c, d, e] = words;
                    let (a, b) = (_mm512_load_si512(a.cast()), _mm512_load_si512(b.cast()));
                    let (c, d) = (_mm512_load_si512(c.cast()), _mm512_load_si512(d.cast()));
                    let all = _mm512_ternarylogic_epi64(a, b, c, 0x80);
                    let e = _mm512_load_si512(e.cast());
                    let all = _mm512_ternarylogic_epi64(all, d, e, 0x80);
                    let set = u32::from(_mm512_test_epi64_mask(all, all));
                    let first = _mm512_maskz_compress_epi64(set as u8, all);
                    let bits = _mm_cvtsi128_si64(_mm512_castsi512_si128(first)) as u64;
                    (set | 1 << 8).trailing_zeros() * 64 + bits.trailing_zeros()
                }
                4 => {
                    let [a, b, c, d, e] = words;
                    let (a, b) = (_mm256_loadu_si256(a.cast()), _mm256_loadu_si256(b.cast()));
                    let (c, d) = (_mm256_loadu_si256(c.cast()), _mm256_loadu_si256(d.cast()));
                    let all = _mm256_ternarylogic_epi64(a, b, c, 0x80);
                    let e = _mm256_loadu_si256(e.cast());
                    let all = _mm256_ternarylogic_epi64(all, d, e, 0x80);
                    let set = u32::from(_mm256_test_epi64_mask(all, all));
                    let first = _mm256_maskz_compress_epi64(set as u8, all);
                    let bits = _mm_cvtsi128_si64(_mm256_castsi256_si128(first)) as u64;
                    (set | 1 << 4).trailing_zeros() * 64 + bits.trailing_zeros()
                }
                _ => Avx2::first_bit::<W>(words),
            }
        }
    }

    #[inline(always)]
    unsafe fn prefetch(plan: &Plan, chunk: u32) {
        // SAFETY: as above.
        unsafe { Avx2::prefetch(plan, chunk) }
    }
}
