//! The lookup with AVX-512: a node, a chunk or a line of bits is one comparison, whose outcome is a mask.

use super::{Chunk, Node32, Node128, PASS, Simd, burst};
use crate::policy::table::plan::{LANES, Plan};
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
    unsafe fn count_burst(keys: &[u32], x: &[u32; PASS], at: &mut [u32; PASS]) {
        // SAFETY: see above; 32 numbers are two registers.
        unsafe {
            // Comparisons of 256 bits: those of 512 have masks for an outcome, and adding them up takes twice as long.
            // They are of signed numbers, hence the sign bits.
            let sign = _mm256_set1_epi32(i32::MIN);
            let load = |at: usize| _mm256_loadu_si256(x.as_ptr().add(at).cast());
            let value = [
                _mm256_xor_si256(load(0), sign),
                _mm256_xor_si256(load(8), sign),
                _mm256_xor_si256(load(16), sign),
                _mm256_xor_si256(load(24), sign),
            ];
            // Each key that is above a value takes one from its count.
            let mut count = [_mm256_set1_epi32(keys.len() as i32); 4];
            for key in keys {
                let key = _mm256_set1_epi32((*key ^ 1 << 31) as i32);
                for part in 0..4 {
                    let above = _mm256_cmpgt_epi32(key, value[part]);
                    count[part] = _mm256_add_epi32(count[part], above);
                }
            }
            for part in 0..4 {
                _mm256_storeu_si256(at.as_mut_ptr().add(8 * part).cast(), count[part]);
            }
        }
    }

    #[inline(always)]
    unsafe fn first_row(chunk: &Chunk, values: [u16; 3], mask: u16) -> u32 {
        // SAFETY: see above.
        unsafe {
            let bounds: *const __m128i = (&raw const *chunk).cast();
            let [a, b, c] = values;
            let (a, b) = (_mm_set1_epi16(a as i16), _mm_set1_epi16(b as i16));
            let (c, mask) = (_mm_set1_epi16(c as i16), _mm_set1_epi16(mask as i16));
            // The order of the fields of `Chunk`.
            let holds = _mm_cmple_epu16_mask(_mm_load_si128(bounds), a);
            let holds = _mm_mask_cmpge_epu16_mask(holds, _mm_load_si128(bounds.add(1)), a);
            let holds = _mm_mask_cmple_epu16_mask(holds, _mm_load_si128(bounds.add(2)), b);
            let holds = _mm_mask_cmpge_epu16_mask(holds, _mm_load_si128(bounds.add(3)), b);
            let holds = _mm_mask_cmple_epu16_mask(holds, _mm_load_si128(bounds.add(4)), c);
            let holds = _mm_mask_cmpge_epu16_mask(holds, _mm_load_si128(bounds.add(5)), c);
            let holds = _mm_mask_test_epi16_mask(holds, _mm_load_si128(bounds.add(6)), mask);
            (u32::from(holds) | 1 << LANES).trailing_zeros()
        }
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
                _ => super::portable::Portable::first_bit::<W>(words),
            }
        }
    }

    #[inline(always)]
    unsafe fn prefetch(plan: &Plan, chunk: u32) {
        // SAFETY: a prefetch reads nothing; the chunk is one of the plan's.
        unsafe {
            let rows = plan.chunks.as_ptr().add(chunk as usize).cast::<i8>();
            _mm_prefetch(rows, _MM_HINT_T0);
            _mm_prefetch(rows.add(64), _MM_HINT_T0);
            let rules = plan.rule_of_lane.as_ptr().add(chunk as usize);
            _mm_prefetch(rules.cast(), _MM_HINT_T0);
        }
    }
}
