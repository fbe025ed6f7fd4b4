//! The lookup with AVX2: a node is two comparisons, a chunk of rows is compared in 128-bit registers.

use super::portable::Portable;
use super::{Chunk, Node32, Node128, PASS, Search32, Simd, burst};
use crate::policy::table::plan::{LANES, Plan, RULES};
use crate::policy::{Key, RuleId};
use core::arch::x86_64::*;

pub(super) struct Avx2;

/// One pass.
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
pub(super) unsafe fn classify(plan: &Plan, keys: &[Key], out: &mut [RuleId]) {
    // SAFETY: the caller's.
    unsafe { burst::classify::<Avx2>(plan, keys, out) }
}

// SAFETY of every block below: the pointers come from references to values of at least the width that is loaded, and
// the features are those of `classify`, into which all of this is inlined.
impl Simd for Avx2 {
    #[inline(always)]
    unsafe fn count32(node: &Node32, x: u32) -> u32 {
        // SAFETY: see above.
        unsafe {
            let keys: *const __m256i = (&raw const node.0).cast();
            let x = _mm256_set1_epi32(x as i32);
            // Not above: the greater of both is `x`. There is no unsigned comparison.
            let (low, high) = (_mm256_load_si256(keys), _mm256_load_si256(keys.add(1)));
            let low = _mm256_cmpeq_epi32(_mm256_max_epu32(low, x), x);
            let high = _mm256_cmpeq_epi32(_mm256_max_epu32(high, x), x);
            let both = _mm256_movemask_epi8(_mm256_packs_epi32(low, high)) as u32;
            both.count_ones() / 2
        }
    }

    #[inline(always)]
    unsafe fn count128(node: &Node128, hi: u64, lo: u64) -> u32 {
        // SAFETY: see above.
        unsafe {
            let sign = _mm256_set1_epi64x(i64::MIN);
            let one = |x: u64| _mm256_set1_epi64x((x ^ 1 << 63) as i64);
            let (hi, lo) = (one(hi), one(lo));
            let mut holds = 0;
            for half in 0..2 {
                let load = |words: &[u64; 8]| {
                    let words = _mm256_load_si256(words.as_ptr().add(4 * half).cast());
                    _mm256_xor_si256(words, sign)
                };
                let (high, low) = (load(&node.hi), load(&node.lo));
                let below = _mm256_cmpgt_epi64(hi, high);
                let equal = _mm256_cmpeq_epi64(hi, high);
                let not_above = _mm256_andnot_si256(_mm256_cmpgt_epi64(low, lo), equal);
                let either = _mm256_castsi256_pd(_mm256_or_si256(below, not_above));
                holds = holds << 4 | _mm256_movemask_pd(either) as u32;
            }
            holds.count_ones()
        }
    }

    #[inline(always)]
    unsafe fn count_burst(search: &Search32, x: &[u32; PASS], at: &mut [u32; PASS]) {
        // SAFETY: see above; 32 numbers are four registers.
        unsafe {
            // Comparisons are of signed numbers, hence the sign bits.
            let sign = _mm256_set1_epi32(i32::MIN);
            let load = |at: usize| _mm256_loadu_si256(x.as_ptr().add(at).cast());
            let value = [
                _mm256_xor_si256(load(0), sign),
                _mm256_xor_si256(load(8), sign),
                _mm256_xor_si256(load(16), sign),
                _mm256_xor_si256(load(24), sign),
            ];
            // Each key that is above a value takes one from its count.
            let mut count = [_mm256_set1_epi32(search.root.len() as i32); 4];
            for key in &search.root {
                let key = _mm256_set1_epi32((*key ^ 1 << 31) as i32);
                for (count, value) in count.iter_mut().zip(value) {
                    *count = _mm256_add_epi32(*count, _mm256_cmpgt_epi32(key, value));
                }
            }
            for (part, count) in count.into_iter().enumerate() {
                _mm256_storeu_si256(at.as_mut_ptr().add(8 * part).cast(), count);
            }
        }
    }

    #[inline(always)]
    unsafe fn first_row(chunk: &Chunk, values: [u16; 3], mask: u16) -> u32 {
        // SAFETY: see above.
        unsafe {
            let lanes: *const __m128i = (&raw const *chunk).cast();
            let [a, b, c] = values;
            let (a, b) = (_mm_set1_epi16(a as i16), _mm_set1_epi16(b as i16));
            let (c, mask) = (_mm_set1_epi16(c as i16), _mm_set1_epi16(mask as i16));
            // In the order of the fields of `Chunk`. What is above the lowest value by more than it may be leaves a rest.
            // Vectors, not masks: a chain of masks takes half as long again.
            let a = _mm_sub_epi16(a, _mm_load_si128(lanes));
            let a = _mm_subs_epu16(a, _mm_load_si128(lanes.add(1)));
            let b = _mm_sub_epi16(b, _mm_load_si128(lanes.add(2)));
            let b = _mm_subs_epu16(b, _mm_load_si128(lanes.add(3)));
            let c = _mm_sub_epi16(c, _mm_load_si128(lanes.add(4)));
            let c = _mm_subs_epu16(c, _mm_load_si128(lanes.add(5)));
            let zero = _mm_setzero_si128();
            let heads = _mm_and_si128(_mm_load_si128(lanes.add(6)), mask);
            let heads = _mm_cmpeq_epi16(heads, zero);
            let rest = _mm_or_si128(_mm_or_si128(a, b), _mm_or_si128(c, heads));
            let holds = _mm_movemask_epi8(_mm_cmpeq_epi16(rest, zero)) as u32;
            (holds | 1 << (2 * LANES)).trailing_zeros() / 2
        }
    }

    #[inline(always)]
    unsafe fn first_bit<const W: usize>(words: [*const u64; 5]) -> u32 {
        if W < 4 {
            // SAFETY: the caller's.
            return unsafe { Portable::first_bit::<W>(words) };
        }
        // SAFETY: see above; the array behind has room for the words and a 0.
        unsafe {
            let [a, b, c, d, e] = words;
            let zero = _mm256_setzero_si256();
            let mut kept = Kept([0; 12]);
            let mut empty = 0;
            for part in 0..W / 4 {
                let load = |words: *const u64| _mm256_loadu_si256(words.add(4 * part).cast());
                let ab = _mm256_and_si256(load(a), load(b));
                let cd = _mm256_and_si256(load(c), load(d));
                let all = _mm256_and_si256(_mm256_and_si256(ab, cd), load(e));
                _mm256_store_si256(kept.0.as_mut_ptr().add(4 * part).cast(), all);
                let none = _mm256_castsi256_pd(_mm256_cmpeq_epi64(all, zero));
                empty |= (_mm256_movemask_pd(none) as u32) << (4 * part);
            }
            // Without any bit the word is the one past the last.
            let word = (!empty & ((1 << W) - 1) | 1 << W).trailing_zeros();
            word * 64 + kept.0.get_unchecked(word as usize).trailing_zeros()
        }
    }

    #[inline(always)]
    unsafe fn prefetch(plan: &Plan, chunk: u32) {
        // SAFETY: a prefetch reads nothing; the chunk is one of the plan's.
        unsafe {
            let rows = plan.chunks.as_ptr().add(chunk as usize).cast::<i8>();
            _mm_prefetch(rows, _MM_HINT_T0);
            _mm_prefetch(rows.add(64), _MM_HINT_T0);
            let rules = plan.rule_of_lane.as_ptr().add(chunk as usize * RULES);
            _mm_prefetch(rules.cast(), _MM_HINT_T0);
        }
    }
}

/// The ANDed words, to be read one by one.
#[repr(C, align(32))]
struct Kept([u64; 12]);
