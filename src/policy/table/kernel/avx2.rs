//! The lookup with AVX2: a node is two comparisons, a chunk of rows is compared in 128-bit registers.

use super::portable::Portable;
use super::{AddrField, Chunk, Node16, Node32, Node128, PASS, Row, Sieve, Simd, burst, low};
use crate::policy::table::plan::{LANES, Plan, SIEVE_LANES};
use crate::policy::{Key, RuleId};
use core::arch::x86_64::*;
use std::mem::offset_of;

pub(super) struct Avx2;

// Functions and no closures, as for AVX-512.

/// A number for each lane of a chunk.
///
/// # Safety
/// The processor must have AVX2, as of all that follow.
#[inline(always)]
pub(super) unsafe fn lanes(lanes: &[u16; LANES]) -> __m256i {
    // SAFETY: lanes are aligned within a chunk.
    unsafe { _mm256_load_si256(lanes.as_ptr().cast()) }
}

/// What is above the lowest value by more than it may be leaves a rest. Vectors, not masks: a chain of masks takes half as
/// long again.
///
/// # Safety
/// Only that of the processor.
#[inline(always)]
pub(super) unsafe fn rest(value: u16, field: &[[u16; LANES]; 2]) -> __m256i {
    // SAFETY: as above.
    unsafe {
        let above = _mm256_sub_epi16(_mm256_set1_epi16(value as i16), lanes(&field[0]));
        _mm256_subs_epu16(above, lanes(&field[1]))
    }
}

/// What is above the lowest byte by more than it may be leaves a rest: of a field of a sieve that starts `at` bytes from its
/// start, and of four bytes that follow it.
///
/// # Safety
/// So much of the sieve must be there.
#[inline(always)]
unsafe fn small_rest(value: __m128i, sieve: *const u8, at: usize) -> __m128i {
    // SAFETY: the caller's.
    unsafe {
        let lowest = _mm_loadu_si128(sieve.add(at).cast());
        let span = _mm_loadu_si128(sieve.add(at + SIEVE_LANES).cast());
        _mm_subs_epu8(_mm_sub_epi8(value, lowest), span)
    }
}

/// The words from four times `part` on.
///
/// # Safety
/// There must be as many.
#[inline(always)]
unsafe fn four(words: *const u64, part: usize) -> __m256i {
    // SAFETY: the caller's.
    unsafe { _mm256_loadu_si256(words.add(4 * part).cast()) }
}

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
            let ends: *const __m256i = (&raw const node.0).cast();
            let x = _mm256_set1_epi32(x as i32);
            // Not below: the lesser of both is `x`. There is no unsigned comparison.
            let (low, high) = (_mm256_load_si256(ends), _mm256_load_si256(ends.add(1)));
            let low = _mm256_cmpeq_epi32(_mm256_min_epu32(low, x), x);
            let high = _mm256_cmpeq_epi32(_mm256_min_epu32(high, x), x);
            let not = _mm256_movemask_epi8(_mm256_packs_epi32(low, high)) as u32;
            not.count_zeros() / 2
        }
    }

    #[inline(always)]
    unsafe fn count128(node: &Node128, hi: u64, lo: u64) -> u32 {
        // SAFETY: see above.
        unsafe {
            let sign = _mm256_set1_epi64x(i64::MIN);
            let hi = _mm256_set1_epi64x((hi ^ 1 << 63) as i64);
            let lo = _mm256_set1_epi64x((lo ^ 1 << 63) as i64);
            let mut holds = 0;
            for half in 0..2 {
                let high = _mm256_load_si256(node.hi.as_ptr().add(4 * half).cast());
                let low = _mm256_load_si256(node.lo.as_ptr().add(4 * half).cast());
                let (high, low) = (_mm256_xor_si256(high, sign), _mm256_xor_si256(low, sign));
                let below = _mm256_cmpgt_epi64(hi, high);
                let equal = _mm256_cmpeq_epi64(hi, high);
                let low = _mm256_and_si256(_mm256_cmpgt_epi64(lo, low), equal);
                let either = _mm256_castsi256_pd(_mm256_or_si256(below, low));
                holds = holds << 4 | _mm256_movemask_pd(either) as u32;
            }
            holds.count_ones()
        }
    }

    #[inline(always)]
    unsafe fn root<const FIELD: usize>(field: &AddrField, keys: &[Key], at: &mut [u32; PASS]) {
        let x = low::<FIELD>(keys);
        // SAFETY: see above; 32 numbers are four registers.
        unsafe {
            // Comparisons are of signed numbers, hence the sign bits.
            let sign = _mm256_set1_epi32(i32::MIN);
            let x: *const __m256i = x.as_ptr().cast();
            let value = [
                _mm256_xor_si256(_mm256_loadu_si256(x), sign),
                _mm256_xor_si256(_mm256_loadu_si256(x.add(1)), sign),
                _mm256_xor_si256(_mm256_loadu_si256(x.add(2)), sign),
                _mm256_xor_si256(_mm256_loadu_si256(x.add(3)), sign),
            ];
            let mut count = [_mm256_setzero_si256(); 4];
            for end in &field.v4.root {
                let end = _mm256_set1_epi32((*end ^ 1 << 31) as i32);
                for (count, value) in count.iter_mut().zip(value) {
                    *count = _mm256_sub_epi32(*count, _mm256_cmpgt_epi32(value, end));
                }
            }
            for (part, count) in count.into_iter().enumerate() {
                _mm256_storeu_si256(at.as_mut_ptr().add(8 * part).cast(), count);
            }
        }
    }

    #[inline(always)]
    unsafe fn below16(node: &Node16, x: u16) -> u32 {
        // SAFETY: see above.
        unsafe {
            let keys: *const __m256i = (&raw const node.0).cast();
            let x = _mm256_set1_epi16(x as i16);
            // Not below: the lesser of both is `x`. There is no unsigned comparison.
            let (low, high) = (_mm256_load_si256(keys), _mm256_load_si256(keys.add(1)));
            let low = _mm256_cmpeq_epi16(_mm256_min_epu16(low, x), x);
            let high = _mm256_cmpeq_epi16(_mm256_min_epu16(high, x), x);
            let not = _mm256_movemask_epi8(_mm256_packs_epi16(low, high)) as u32;
            not.count_zeros()
        }
    }

    #[inline(always)]
    unsafe fn first_row<const A: bool, const B: bool>(
        chunk: &Chunk,
        values: [u16; 3],
        mask: u16,
    ) -> u32 {
        // SAFETY: see above.
        unsafe {
            let [a, b, c] = values;
            let heads = _mm256_and_si256(lanes(&chunk.not_heads), _mm256_set1_epi16(mask as i16));
            let mut all = _mm256_or_si256(rest(c, &chunk.c), heads);
            if A {
                all = _mm256_or_si256(all, rest(a, &chunk.a.0));
            }
            if B {
                all = _mm256_or_si256(all, rest(b, &chunk.b));
            }
            let holds = _mm256_cmpeq_epi16(all, _mm256_setzero_si256());
            (_mm256_movemask_epi8(holds) as u32).trailing_zeros() / 2
        }
    }

    #[inline(always)]
    unsafe fn sift(sieve: &Sieve, bytes: u32) -> u32 {
        // SAFETY: see above; behind each twelve bytes of a sieve there are four more.
        unsafe {
            let byte = [
                _mm_set1_epi8(bytes as i8),
                _mm_set1_epi8((bytes >> 8) as i8),
                _mm_set1_epi8((bytes >> 16) as i8),
            ];
            let sieve: *const u8 = (&raw const *sieve).cast();
            let a = small_rest(byte[0], sieve, offset_of!(Sieve, a));
            let b = small_rest(byte[1], sieve, offset_of!(Sieve, b));
            let not_heads = _mm_loadu_si128(sieve.add(offset_of!(Sieve, not_heads)).cast());
            let all = _mm_or_si128(_mm_or_si128(a, b), _mm_and_si128(not_heads, byte[2]));
            let may = _mm_movemask_epi8(_mm_cmpeq_epi8(all, _mm_setzero_si128())) as u32;
            may & ((1 << SIEVE_LANES) - 1)
        }
    }

    #[inline(always)]
    unsafe fn holds(row: &Row, values: *const [u16; 4], mask: u16) -> u32 {
        // SAFETY: see above; a row is two registers.
        unsafe {
            let row: *const __m128i = (&raw const *row).cast();
            let values = _mm_loadl_epi64(values.cast());
            let lowest = _mm_load_si128(row);
            let rest = _mm_subs_epu16(_mm_sub_epi16(values, lowest), _mm_load_si128(row.add(1)));
            // The fifth number of a row is the heads that it does not take.
            let mask = _mm_insert_epi16::<4>(_mm_setzero_si128(), mask as i32);
            let fails = _mm_or_si128(rest, _mm_and_si128(lowest, mask));
            _mm_testz_si128(fails, fails) as u32
        }
    }

    #[inline(always)]
    unsafe fn first_bit<const W: usize, const SPORT: bool>(words: [*const u64; 5]) -> u32 {
        if W < 4 {
            // SAFETY: the caller's.
            return unsafe { Portable::first_bit::<W, SPORT>(words) };
        }
        // SAFETY: see above; the array behind has room for the words and a 0.
        unsafe {
            let [a, b, c, d, e] = words;
            let zero = _mm256_setzero_si256();
            let mut kept = Kept([0; 20]);
            let mut empty = 0;
            for part in 0..W / 4 {
                let ab = _mm256_and_si256(four(a, part), four(b, part));
                let de = _mm256_and_si256(four(d, part), four(e, part));
                let mut all = _mm256_and_si256(ab, de);
                if SPORT {
                    all = _mm256_and_si256(all, four(c, part));
                }
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
    unsafe fn not_zero(numbers: &[u8; PASS]) -> u32 {
        // SAFETY: see above.
        unsafe {
            let numbers = _mm256_loadu_si256(numbers.as_ptr().cast());
            _mm256_movemask_epi8(_mm256_cmpgt_epi8(numbers, _mm256_setzero_si256())) as u32
        }
    }

    #[inline(always)]
    unsafe fn prefetch<T>(at: *const T) {
        // SAFETY: a prefetch reads nothing.
        unsafe { _mm_prefetch(at.cast(), _MM_HINT_T0) }
    }
}

/// The ANDed words, to be read one by one.
#[repr(C, align(32))]
struct Kept([u64; 20]);
