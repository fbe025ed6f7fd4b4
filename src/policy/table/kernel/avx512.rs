//! The lookup with AVX-512: a node, a chunk or a line of bits is one comparison, whose outcome is a mask.

use super::avx2::{Avx2, lanes, rest};
use super::{AddrField, Chunk, Node16, Node32, Node128, PASS, Row, Sieve, Simd, burst, low};
use crate::policy::table::plan::{LANES, Plan};
use crate::policy::{Key, RuleId};
use core::arch::x86_64::*;

struct Avx512;

// Functions that are inlined in any case, no closures: whether a closure is inlined depends on how much there is around it,
// and one that is not is compiled without wide registers.

/// The source (`FIELD` 0) or destination (1) address of a key.
///
/// # Safety
/// The processor must have AVX-512, as of all that follow.
#[inline(always)]
unsafe fn address<const FIELD: usize>(key: *const Key) -> __m128i {
    // SAFETY: the caller's; an address is 16 bytes, of which the low ones come first.
    unsafe {
        let address = if FIELD == 0 {
            &raw const (*key).src
        } else {
            &raw const (*key).dst
        };
        _mm_loadu_si128(address.cast())
    }
}

/// The low 32 bits of the address of four keys.
///
/// # Safety
/// There must be as many.
#[inline(always)]
unsafe fn four<const FIELD: usize>(keys: *const Key) -> __m128i {
    // SAFETY: the caller's.
    unsafe {
        let (a, b) = (address::<FIELD>(keys), address::<FIELD>(keys.add(1)));
        let (c, d) = (address::<FIELD>(keys.add(2)), address::<FIELD>(keys.add(3)));
        _mm_unpacklo_epi64(_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d))
    }
}

/// The same of sixteen.
///
/// # Safety
/// There must be as many.
#[inline(always)]
unsafe fn sixteen<const FIELD: usize>(keys: *const Key) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let low = _mm512_castsi128_si512(four::<FIELD>(keys));
        let low = _mm512_inserti32x4::<1>(low, four::<FIELD>(keys.add(4)));
        let low = _mm512_inserti32x4::<2>(low, four::<FIELD>(keys.add(8)));
        _mm512_inserti32x4::<3>(low, four::<FIELD>(keys.add(12)))
    }
}

/// Sixteen numbers, on a cache line of their own.
///
/// # Safety
/// They must be there.
#[inline(always)]
unsafe fn load<T>(numbers: *const T) -> __m512i {
    // SAFETY: the caller's.
    unsafe { _mm512_load_si512(numbers.cast()) }
}

/// Of 64 numbers, on cache lines of their own, those that the low six bits of `at` name.
///
/// # Safety
/// They must be there.
#[inline(always)]
unsafe fn of_64(at: __m512i, numbers: *const u32) -> __m512i {
    // SAFETY: the caller's; 64 numbers are four registers.
    unsafe {
        let low = _mm512_permutex2var_epi32(load(numbers), at, load(numbers.add(16)));
        let high = _mm512_permutex2var_epi32(load(numbers.add(32)), at, load(numbers.add(48)));
        let is_upper = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32));
        _mm512_mask_mov_epi32(low, is_upper, high)
    }
}

/// Of 256 numbers those that the low eight bits of `at` name.
///
/// # Safety
/// As of [`of_64`].
#[inline(always)]
unsafe fn of_256(at: __m512i, numbers: *const u32) -> __m512i {
    // SAFETY: the caller's.
    unsafe {
        let is_64 = _mm512_test_epi32_mask(at, _mm512_set1_epi32(64));
        let is_128 = _mm512_test_epi32_mask(at, _mm512_set1_epi32(128));
        let low = _mm512_mask_mov_epi32(of_64(at, numbers), is_64, of_64(at, numbers.add(64)));
        let (c, d) = (of_64(at, numbers.add(128)), of_64(at, numbers.add(192)));
        _mm512_mask_mov_epi32(low, is_128, _mm512_mask_mov_epi32(c, is_64, d))
    }
}

/// A line of the AND of five bitsets, of four where not `SPORT`. 0x80 is the AND of three.
///
/// # Safety
/// There must be as many lines.
#[inline(always)]
unsafe fn line<const SPORT: bool>(words: [*const u64; 5], at: usize) -> __m512i {
    let [a, b, c, d, e] = words;
    // SAFETY: the caller's.
    unsafe {
        let (a, b, d, e) = (
            load(a.add(8 * at)),
            load(b.add(8 * at)),
            load(d.add(8 * at)),
            load(e.add(8 * at)),
        );
        let all = _mm512_ternarylogic_epi64(a, b, d, 0x80);
        if SPORT {
            _mm512_ternarylogic_epi64(all, load(c.add(8 * at)), e, 0x80)
        } else {
            _mm512_and_si512(all, e)
        }
    }
}

/// The same of half a line.
///
/// # Safety
/// As of [`line`].
#[inline(always)]
unsafe fn half_line<const SPORT: bool>(words: [*const u64; 5]) -> __m256i {
    let [a, b, c, d, e] = words;
    // SAFETY: the caller's.
    unsafe {
        let (a, b, d, e) = (
            _mm256_loadu_si256(a.cast()),
            _mm256_loadu_si256(b.cast()),
            _mm256_loadu_si256(d.cast()),
            _mm256_loadu_si256(e.cast()),
        );
        let all = _mm256_ternarylogic_epi64(a, b, d, 0x80);
        if SPORT {
            _mm256_ternarylogic_epi64(all, _mm256_loadu_si256(c.cast()), e, 0x80)
        } else {
            _mm256_and_si256(all, e)
        }
    }
}

/// A bit for each word that is not 0.
///
/// # Safety
/// Only that of the processor.
#[inline(always)]
unsafe fn set(words: __m512i) -> u32 {
    // SAFETY: registers only.
    unsafe { _mm512_test_epi64_mask(words, words).into() }
}

/// The ANDed words, to be read one by one.
#[repr(C, align(64))]
struct Kept([u64; 24]);

/// `count`, and one more in each lane whose `end` is below `x`.
///
/// # Safety
/// The processor must have AVX-512.
#[inline]
#[target_feature(enable = "avx512f")]
unsafe fn more(mut count: __m512i, end: __m512i, x: __m512i, one: __m512i) -> __m512i {
    // Written out, since compilers make three instructions of the second.
    // SAFETY: the caller's; registers only.
    unsafe {
        core::arch::asm!(
            "vpcmpud {mask}, {end}, {x}, 1",
            "vpaddd {count} {{{mask}}}, {count}, {one}",
            mask = out(kreg) _,
            count = inout(zmm_reg) count,
            end = in(zmm_reg) end,
            x = in(zmm_reg) x,
            one = in(zmm_reg) one,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    count
}

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
            let ends = _mm512_load_si512((&raw const node.0).cast());
            _mm512_cmplt_epu32_mask(ends, _mm512_set1_epi32(x as i32)).count_ones()
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
            let low = _mm512_mask_cmplt_epu64_mask(equal, low, lo);
            (below | low).count_ones()
        }
    }

    #[inline(always)]
    unsafe fn root<const FIELD: usize>(field: &AddrField, keys: &[Key], at: &mut [u32; PASS]) {
        let pivots = &field.pivots;
        // SAFETY: see above; 32 numbers are two registers, a level of quads is three, one of pairs four.
        unsafe {
            let x = if keys.len() == PASS {
                let keys = keys.as_ptr();
                [sixteen::<FIELD>(keys), sixteen::<FIELD>(keys.add(16))]
            } else {
                let x = low::<FIELD>(keys);
                let x = x.as_ptr();
                [
                    _mm512_loadu_si512(x.cast()),
                    _mm512_loadu_si512(x.add(16).cast()),
                ]
            };
            let one = _mm512_set1_epi32(1);
            let mut node = [_mm512_setzero_si512(); 2];
            for quads in pivots.quads.iter().take(pivots.levels) {
                let quads = [load(&quads[0]), load(&quads[1]), load(&quads[2])];
                for (node, x) in node.iter_mut().zip(x) {
                    let number = *node;
                    *node = _mm512_slli_epi32::<2>(number);
                    for quad in quads {
                        let end = _mm512_permutexvar_epi32(number, quad);
                        *node = more(*node, end, x, one);
                    }
                }
            }
            if pivots.levels > 3 {
                for (node, x) in node.iter_mut().zip(x) {
                    let number = *node;
                    *node = _mm512_slli_epi32::<2>(number);
                    for separator in &pivots.fourth {
                        let end = of_64(number, separator.as_ptr());
                        *node = more(*node, end, x, one);
                    }
                }
            }
            if pivots.has_pairs {
                for (node, x) in node.iter_mut().zip(x) {
                    let pairs = pivots.pairs.as_ptr();
                    let end = if pivots.levels > 3 {
                        of_256(*node, pairs)
                    } else {
                        of_64(*node, pairs)
                    };
                    *node = more(_mm512_slli_epi32::<1>(*node), end, x, one);
                }
            }
            for (half, node) in node.into_iter().enumerate() {
                _mm512_store_si512(at.as_mut_ptr().add(16 * half).cast(), node);
            }
        }
    }

    #[inline(always)]
    unsafe fn below16(node: &Node16, x: u16) -> u32 {
        // SAFETY: see above.
        unsafe {
            let keys = _mm512_load_si512((&raw const node.0).cast());
            _mm512_cmplt_epu16_mask(keys, _mm512_set1_epi16(x as i16)).count_ones()
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
            // 0xfe is the OR of three, 0xf8 the first or both others.
            let all = rest(c, &chunk.c);
            let all = match (A, B) {
                (false, false) => all,
                (true, false) => _mm256_or_si256(all, rest(a, &chunk.a.0)),
                (false, true) => _mm256_or_si256(all, rest(b, &chunk.b)),
                (true, true) => {
                    let (a, b) = (rest(a, &chunk.a.0), rest(b, &chunk.b));
                    _mm256_ternarylogic_epi32(all, a, b, 0xfe)
                }
            };
            let (not, mask) = (lanes(&chunk.not_heads), _mm256_set1_epi16(mask as i16));
            let all = _mm256_ternarylogic_epi32(all, not, mask, 0xf8);
            let holds = u32::from(_mm256_testn_epi16_mask(all, all));
            (holds | 1 << LANES).trailing_zeros()
        }
    }

    #[inline(always)]
    unsafe fn sift(sieve: &Sieve, bytes: u32) -> u32 {
        // SAFETY: whoever has AVX-512 has AVX2.
        unsafe { Avx2::sift(sieve, bytes) }
    }

    #[inline(always)]
    unsafe fn holds(row: &Row, values: *const [u16; 4], mask: u16) -> u32 {
        // SAFETY: whoever has AVX-512 has AVX2.
        unsafe { Avx2::holds(row, values, mask) }
    }

    #[inline(always)]
    unsafe fn first_bit<const W: usize, const SPORT: bool>(words: [*const u64; 5]) -> u32 {
        // SAFETY: see above. Without any bit the word is the one past the last.
        unsafe {
            match W {
                16 => {
                    let mut kept = Kept([0; 24]);
                    let (low, high) = (line::<SPORT>(words, 0), line::<SPORT>(words, 1));
                    _mm512_store_si512(kept.0.as_mut_ptr().cast(), low);
                    _mm512_store_si512(kept.0.as_mut_ptr().add(8).cast(), high);
                    let word = (set(low) | set(high) << 8 | 1 << 16).trailing_zeros();
                    word * 64 + kept.0.get_unchecked(word as usize).trailing_zeros()
                }
                8 => {
                    let all = line::<SPORT>(words, 0);
                    let set = set(all);
                    let first = _mm512_maskz_compress_epi64(set as u8, all);
                    let bits = _mm_cvtsi128_si64(_mm512_castsi512_si128(first)) as u64;
                    (set | 1 << 8).trailing_zeros() * 64 + bits.trailing_zeros()
                }
                4 => {
                    let all = half_line::<SPORT>(words);
                    let set = u32::from(_mm256_test_epi64_mask(all, all));
                    let first = _mm256_maskz_compress_epi64(set as u8, all);
                    let bits = _mm_cvtsi128_si64(_mm256_castsi256_si128(first)) as u64;
                    (set | 1 << 4).trailing_zeros() * 64 + bits.trailing_zeros()
                }
                _ => Avx2::first_bit::<W, SPORT>(words),
            }
        }
    }

    #[inline(always)]
    unsafe fn not_zero(numbers: &[u8; PASS]) -> u32 {
        // SAFETY: as below.
        unsafe { Avx2::not_zero(numbers) }
    }

    #[inline(always)]
    unsafe fn prefetch<T>(at: *const T) {
        // SAFETY: as above.
        unsafe { Avx2::prefetch(at) }
    }
}
