//! The lookup: one burst of keys through the arrays of a [`Plan`], stage by stage, the same instructions whatever the
//! keys say.
//!
//! Each stage is a loop over the burst, so that the loads of many packets are on their way at once; of tables that are
//! larger than the caches, the lists that the last stage reads are asked for ahead of it. There is one body, compiled for
//! each [`Kernel`]; what the compiler does not find by itself in wide registers stands in [`Simd`].
//!
//! All of it is inlined into one function for each kernel, but for builds with debug assertions, whose frames would then
//! fill a thread's stack.
//!
//! This is the one place in the crate where `unsafe` is allowed: functions for wide registers may only be called where the
//! processor has them (they are three times as fast as the portable body), and the thirty-odd loads of a packet are not
//! checked one by one against bounds that the compiler of the plan has already kept.
#![allow(unsafe_code)]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod burst;
mod general;
mod lists;
mod portable;
mod sifted;
mod wide;

use super::plan::{AddrField, Chunk, Node16, Plan, Row, Sieve};
use super::search::{Node32, Node128};
use crate::policy::{Key, RuleId};

pub use wide::{Lanes, Registers};

/// Keys that one pass takes.
pub const PASS: usize = 32;

/// A way to run the lookup. All give the same answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// Whatever the target always has: SSE2 on x86-64, NEON on aarch64.
    Portable,
    /// AVX2, BMI1 and BMI2.
    Avx2,
    /// AVX-512 F, BW, VL, DQ.
    Avx512,
}

impl Kernel {
    /// Those that this processor can run, the best last.
    pub fn available() -> Vec<Kernel> {
        #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut))]
        let mut kernels = vec![Kernel::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = std::is_x86_feature_detected!("avx2")
                && std::is_x86_feature_detected!("bmi1")
                && std::is_x86_feature_detected!("bmi2")
                && std::is_x86_feature_detected!("popcnt")
                && std::is_x86_feature_detected!("lzcnt");
            let avx512 = avx2
                && std::is_x86_feature_detected!("avx512f")
                && std::is_x86_feature_detected!("avx512bw")
                && std::is_x86_feature_detected!("avx512vl")
                && std::is_x86_feature_detected!("avx512dq");
            kernels.extend(avx2.then_some(Kernel::Avx2));
            kernels.extend(avx512.then_some(Kernel::Avx512));
        }
        kernels
    }

    /// The best that this processor can run.
    pub fn best() -> Kernel {
        Kernel::available().pop().unwrap_or(Kernel::Portable)
    }

    /// How many separators of a tree over so many ends are best compared with a whole burst at once: with AVX-512 they cost
    /// what the levels of a tree of four children do, else each counts.
    pub(super) fn root(self, ends: usize) -> usize {
        match self {
            Kernel::Portable | Kernel::Avx2 => 31,
            Kernel::Avx512 => super::search::Pivots::root_for(ends),
        }
    }

    /// `portable`, `avx2` or `avx512`.
    pub const fn name(self) -> &'static str {
        match self {
            Kernel::Portable => "portable",
            Kernel::Avx2 => "avx2",
            Kernel::Avx512 => "avx512",
        }
    }
}

/// What differs between the kernels: whole cache lines against one value.
///
/// # Safety
/// Only to be called where the processor has what the implementation is named for.
trait Simd {
    /// How many ends of the node are below `x`.
    unsafe fn count32(node: &Node32, x: u32) -> u32;
    /// How many ends of the node are below `hi << 64 | lo`.
    unsafe fn count128(node: &Node128, hi: u64, lo: u64) -> u32;
    /// Sets `at[i]` to how many separators of the root are below the source (`FIELD` 0) or destination (1) address of the
    /// key `i`, of at most `PASS`. `at` is on a cache line of its own.
    unsafe fn root<const FIELD: usize>(field: &AddrField, keys: &[Key], at: &mut [u32; PASS]);
    /// How many separators of the node are below `x`.
    unsafe fn below16(node: &Node16, x: u16) -> u32;
    /// The lane of the first row of the chunk that holds for these values and this head's bit; `LANES` where none does.
    /// Not `A`, not `B`: the first, the second field holds in any case.
    unsafe fn first_row<const A: bool, const B: bool>(
        chunk: &Chunk,
        values: [u16; 3],
        mask: u16,
    ) -> u32;
    /// A bit for each row of the sieve that may hold for these bytes (see `Found::bytes`).
    unsafe fn sift(sieve: &Sieve, bytes: u32) -> u32;
    /// 1 where the row holds for these values and this head's bit, else 0.
    unsafe fn holds(row: &Row, values: *const [u16; 4], mask: u16) -> u32;
    /// The first bit of the AND of five times `W` words (1, 2, 4, 8 or 16, aligned to their length, at most to a cache
    /// line); `64 * W` or more where there is none. Not `SPORT`: the third ones are all set, and not looked at.
    unsafe fn first_bit<const W: usize, const SPORT: bool>(words: [*const u64; 5]) -> u32;
    /// A bit for each number that is not 0, the first one lowest. All are 0 or 1.
    unsafe fn not_zero(numbers: &[u8; PASS]) -> u32;
    /// Asks for a cache line.
    unsafe fn prefetch<T>(at: *const T);
}

/// The low 32 bits of the source (`FIELD` 0) or destination (1) address of each key, and zeros behind them.
#[inline(always)]
fn low<const FIELD: usize>(keys: &[Key]) -> [u32; PASS] {
    let mut x = [0; PASS];
    for (x, key) in x.iter_mut().zip(keys) {
        *x = if FIELD == 0 { key.src } else { key.dst } as u32;
    }
    x
}

/// The rule of each key: `out[i]` is for `keys[i]`. Both are of one length.
pub(super) fn classify(plan: &Plan, kernel: Kernel, keys: &[Key], out: &mut [RuleId]) {
    for (keys, out) in keys.chunks(PASS).zip(out.chunks_mut(PASS)) {
        match kernel {
            // SAFETY: the processor has what a `Kernel` needs: see `Table::with_kernel`.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { avx512::classify(plan, keys, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::classify(plan, keys, out) },
            // SAFETY: the portable one needs nothing.
            _ => unsafe { portable::classify(plan, keys, out) },
        }
    }
}
