//! Loops in checked code that the compiler turns into wide registers by itself, once it is told that the processor has them.

use super::Kernel;

/// The registers that such loops run in.
#[derive(Clone, Copy, Debug)]
pub struct Registers(Kernel);

/// A loop over the frames of a burst that takes the same instructions for each, whatever they are.
pub trait Lanes {
    /// What it says in the end.
    type Output;

    /// Goes through it. To be `#[inline(always)]`, as all that it calls: what stays a call is not compiled for wide registers.
    fn run(self) -> Self::Output;
}

impl Registers {
    /// The widest that this processor has.
    pub fn widest() -> Registers {
        Registers(Kernel::best())
    }

    /// Those that the kernel is named for; `None` where the processor has none.
    pub fn of(kernel: Kernel) -> Option<Registers> {
        (Kernel::available().contains(&kernel)).then_some(Registers(kernel))
    }

    /// Goes through a loop in these.
    #[inline]
    pub fn run<L: Lanes>(self, lanes: L) -> L::Output {
        match self.0 {
            // SAFETY: no `Registers` is made but of what the processor has.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { avx512(lanes) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2(lanes) },
            _ => lanes.run(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,bmi1,bmi2,popcnt,lzcnt")]
fn avx512<L: Lanes>(lanes: L) -> L::Output {
    lanes.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,bmi1,bmi2,popcnt,lzcnt")]
fn avx2<L: Lanes>(lanes: L) -> L::Output {
    lanes.run()
}
