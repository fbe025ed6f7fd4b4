//! Which sequence numbers have come, and how often, in memory that does not grow with the trial.

/// Sequence numbers that are looked back upon. What comes later than that was long taken for lost.
const SPAN: u64 = 1 << 20;
const WORDS: usize = SPAN as usize / 64;

/// What is known of the sequence numbers of one stream.
#[derive(Clone, Debug)]
pub struct Window {
    seen: Box<[u64]>,
    /// One more than the highest.
    next: u64,
    /// Different numbers that have come.
    pub received: u64,
    /// Numbers that came once more.
    pub duplicated: u64,
    /// Numbers that came too late to tell whether they had come before.
    pub late: u64,
}

impl Default for Window {
    fn default() -> Window {
        Window {
            seen: vec![0; WORDS].into(),
            next: 0,
            received: 0,
            duplicated: 0,
            late: 0,
        }
    }
}

impl Window {
    /// Takes a number; true if it comes for the first time.
    #[inline]
    pub fn take(&mut self, number: u64) -> bool {
        if number >= self.next {
            self.clear(self.next, number);
            self.next = number + 1;
            self.set(number);
            self.received += 1;
            return true;
        }
        if self.next - number > SPAN {
            self.late += 1;
            return false;
        }
        if self.has(number) {
            self.duplicated += 1;
            return false;
        }
        self.set(number);
        self.received += 1;
        true
    }

    /// One more than the highest that has come.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Forgets what the places of `from..=to` stood for.
    fn clear(&mut self, from: u64, to: u64) {
        if to - from >= SPAN {
            self.seen.fill(0);
            return;
        }
        for number in from..=to {
            let (word, bit) = place(number);
            self.seen[word] &= !bit;
        }
    }

    fn set(&mut self, number: u64) {
        let (word, bit) = place(number);
        self.seen[word] |= bit;
    }

    fn has(&self, number: u64) -> bool {
        let (word, bit) = place(number);
        self.seen[word] & bit != 0
    }
}

fn place(number: u64) -> (usize, u64) {
    ((number / 64) as usize % WORDS, 1 << (number % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn it_counts_as_a_set_of_all_numbers_would(
            numbers in prop::collection::vec(0..500u64, 0..400),
            base in prop::sample::select(&[0, SPAN - 100, 5 * SPAN - 250][..]),
        ) {
            let mut window = Window::default();
            let (mut set, mut again) = (HashSet::new(), 0);
            for number in numbers.iter().map(|n| n + base) {
                let new = set.insert(number);
                prop_assert_eq!(window.take(number), new);
                again += u64::from(!new);
            }
            prop_assert_eq!(window.received, set.len() as u64);
            prop_assert_eq!((window.duplicated, window.late), (again, 0));
        }
    }

    #[test]
    fn what_comes_after_a_million_others_is_late_and_nothing_else() {
        let mut window = Window::default();
        assert!(window.take(0) && window.take(SPAN + 5) && window.take(6));
        assert!(!window.take(5));
        assert_eq!((window.received, window.late), (3, 1));
        assert!(window.take(9 * SPAN) && window.take(8 * SPAN + 1));
        assert_eq!(window.duplicated, 0);
    }
}
