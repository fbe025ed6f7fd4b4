//! The lookup with AVX-512: a node, a chunk or a line of bits is one comparison, whose outcome is a mask.

use super::{Chunk, Line, Node32, Node128, PASS, Simd, burst};
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
            let value = [0, 16].map(|half| _mm512_loadu_si512(x.as_ptr().add(half).cast()));
            let mut count = [_mm512_setzero_si512(); 2];
            let minus_one = _mm512_set1_epi32(-1);
            for key in keys {
                let key = _mm512_set1_epi32(*key as i32);
                for half in 0..2 {
                    let reached = _mm512_cmpge_epu32_mask(value[half], key);
                    count[half] =
                        _mm512_mask_sub_epi32(count[half], reached, count[half], minus_one);
                }
            }
            for half in 0..2 {
                _mm512_storeu_si512(at.as_mut_ptr().add(16 * half).cast(), count[half]);
            }
        }
    }

    #[inline(always)]
    unsafe fn first_row(chunk: &Chunk, values: [u16; 3], mask: u16) -> u32 {
        // SAFETY: see above.
        unsafe {
            let load = |lanes: &[u16; LANES]| _mm_load_si128(lanes.as_ptr().cast());
            let one = |value: u16| _mm_set1_epi16(value as i16);
            let mut holds = _mm_test_epi16_mask(load(&chunk.heads), one(mask));
            for (bounds, value) in [&chunk.a, &chunk.b, &chunk.c].into_iter().zip(values) {
                let value = one(value);
                holds = _mm_mask_cmple_epu16_mask(holds, load(&bounds[0]), value);
                holds = _mm_mask_cmpge_epu16_mask(holds, load(&bounds[1]), value);
            }
            (u32::from(holds) | 1 << LANES).trailing_zeros()
        }
    }

    #[inline(always)]
    unsafe fn first_bit(lines: [*const Line; 5]) -> u32 {
        // SAFETY: see above.
        unsafe {
            let line = |at: usize| _mm512_load_si512(lines[at].cast());
            // 0x80 is the AND of three.
            let both = _mm512_ternarylogic_epi64(line(0), line(1), line(2), 0x80);
            let both = _mm512_ternarylogic_epi64(both, line(3), line(4), 0x80);
            let words = u32::from(_mm512_test_epi64_mask(both, both));
            let first = _mm512_maskz_compress_epi64(words as u8, both);
            let bits = _mm_cvtsi128_si64(_mm512_castsi512_si128(first)) as u64;
            // Without any bit the word is the 8th: 512 and more.
            (words | 1 << 8).trailing_zeros() * 64 + bits.trailing_zeros()
        }
    }

    #[inline(always)]
    unsafe fn prefetch(chunk: *const Chunk) {
        // SAFETY: a prefetch does not fail, wherever it points.
        unsafe {
            _mm_prefetch(chunk.cast(), _MM_HINT_T0);
            _mm_prefetch(chunk.cast::<i8>().add(64), _MM_HINT_T0);
        }
    }
}
