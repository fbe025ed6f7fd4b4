//! Random numbers that stay the same whatever version of whatever library: the files are compared between runs.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
pub struct Random(u64);

impl Random {
    /// A stream of its own for each text and seed.
    pub fn new(text: &str, seed: u64) -> Random {
        // FNV-1a, so that neighbouring seeds of neighbouring profiles do not share a stream.
        let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut random = Random(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        random.next();
        random
    }

    /// 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 128 random bits.
    pub fn wide(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    /// From 0 to below 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number below `end`, which is not 0.
    pub fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// A number from `first` to `last`, both included.
    pub fn within(&mut self, (first, last): (u16, u16)) -> u16 {
        first + self.below(usize::from(last - first) + 1) as u16
    }

    /// One of the values, each as often as its weight says.
    pub fn weighted<T: Copy>(&mut self, from: &[(u32, T)]) -> T {
        let total: u32 = from.iter().map(|(weight, _)| weight).sum();
        let mut at = self.below(total as usize) as u32;
        for &(weight, value) in from {
            match at.checked_sub(weight) {
                Some(rest) => at = rest,
                None => return value,
            }
        }
        unreachable!("the weights add up to more than any number below their sum")
    }

    /// Mean 0 and variance 1, near enough to the normal distribution: twelve uniform numbers, less their mean.
    pub fn bell(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_the_same_every_time_and_differs_by_text_and_seed() {
        let first = |text, seed| Random::new(text, seed).next();
        assert_eq!(first("acl", 1), first("acl", 1));
        assert_ne!(first("acl", 1), first("acl", 2));
        assert_ne!(first("acl", 1), first("fw", 1));
    }

    #[test]
    fn weights_are_kept() {
        let mut random = Random::new("weights", 0);
        let hits = (0..10_000)
            .filter(|_| random.weighted(&[(1, false), (3, true)]))
            .count();
        assert!((7300..7700).contains(&hits), "{hits}");
    }
}
