//! How many different things there were, in a few words: linear counting (Whang, Vander-Zanden, Taylor 1990).

use std::sync::LazyLock;

const WORDS: usize = 8;
const BITS: usize = 64 * WORDS;

/// About how many there were where so many bits are set.
static COUNTS: LazyLock<[u16; BITS + 1]> = LazyLock::new(|| {
    let all = BITS as f64;
    std::array::from_fn(|ones| {
        let zeros = BITS.saturating_sub(ones).max(1);
        (all * (all / zeros as f64).ln()).round() as u16
    })
});

/// A bit for each thing by its hash. With the bounds of the config (up to 300) wrong by some 5 percent; full at about 3,000.
#[derive(Clone, Copy, Default)]
pub(super) struct Bits {
    words: [u64; WORDS],
    /// Bits that are set.
    ones: u16,
}

impl Bits {
    pub fn set(&mut self, hash: u64) {
        let (word, bit) = place(hash);
        self.ones += u16::from(self.words[word] & bit == 0);
        self.words[word] |= bit;
    }

    /// Takes a thing out, and whatever has the same bit: what is counted is never too much for that.
    pub fn clear(&mut self, hash: u64) {
        let (word, bit) = place(hash);
        self.ones -= u16::from(self.words[word] & bit != 0);
        self.words[word] &= !bit;
    }

    /// About how many there were.
    pub fn count(&self) -> u32 {
        u32::from(COUNTS[usize::from(self.ones).min(BITS)])
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
        let mut full = Bits::default();
        for hash in 0..u64::from(u16::MAX) {
            full.set(hash << 32 | hash >> 3 & 63);
        }
        assert_eq!(full.words, [u64::MAX; WORDS]);
        assert!(full.count() > 3000, "{}", full.count());
    }
}
