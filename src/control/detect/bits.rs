//! How many different things there were, in a few words: linear counting (Whang, Vander-Zanden, Taylor 1990).

const WORDS: usize = 8;
const BITS: u32 = 64 * WORDS as u32;

/// A bit for each thing by its hash. With the bounds of the config (up to 300) wrong by some 5 percent; full at about 3,000.
#[derive(Clone, Copy, Default)]
pub(super) struct Bits([u64; WORDS]);

impl Bits {
    pub fn set(&mut self, hash: u64) {
        let (word, bit) = place(hash);
        self.0[word] |= bit;
    }

    /// Takes a thing out, and whatever has the same bit: what is counted is never too much for that.
    pub fn clear(&mut self, hash: u64) {
        let (word, bit) = place(hash);
        self.0[word] &= !bit;
    }

    /// About how many there were.
    pub fn count(&self) -> u32 {
        let ones: u32 = self.0.iter().map(|word| word.count_ones()).sum();
        let zeros = (BITS - ones).max(1);
        let all = f64::from(BITS);
        (all * (all / f64::from(zeros)).ln()).round() as u32
    }
}

fn place(hash: u64) -> (usize, u64) {
    ((hash >> 32) as usize % WORDS, 1 << (hash & 63))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::{BuildHasher, RandomState};

    #[test]
    fn it_counts_what_differs_within_a_fifth() {
        let keys = RandomState::new();
        for many in [0u32, 1, 10, 100, 300, 1000] {
            let mut bits = Bits::default();
            for n in 0..many {
                for _ in 0..3 {
                    bits.set(keys.hash_one(n));
                }
            }
            let (count, off) = (bits.count(), many / 5 + 1);
            assert!(count.abs_diff(many) <= off, "{many}: {count}");
            for n in 0..many {
                bits.clear(keys.hash_one(n));
            }
            assert_eq!(bits.count(), 0);
        }
        assert!(Bits([u64::MAX; WORDS]).count() > 3000);
    }
}
