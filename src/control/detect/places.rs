//! A few places for whatever is counted by itself: what has the least weight gives way.

/// `N` places.
#[derive(Clone)]
pub(super) struct Places<K, V, const N: usize>([Option<(K, V)>; N]);

impl<K: Copy + PartialEq, V, const N: usize> Default for Places<K, V, N> {
    fn default() -> Self {
        Places([const { None }; N])
    }
}

impl<K: Copy + PartialEq, V, const N: usize> Places<K, V, N> {
    /// What is counted under this key.
    pub fn find(&mut self, key: K) -> Option<&mut V> {
        let known = self.0.iter_mut().flatten();
        known
            .filter(|(of, _)| *of == key)
            .map(|(_, value)| value)
            .next()
    }

    /// The same; where there is nothing yet, in the place of what weighs least.
    pub fn get(&mut self, key: K, fresh: impl FnOnce() -> V, weight: impl Fn(&V) -> u64) -> &mut V {
        let at = self
            .0
            .iter()
            .position(|place| place.as_ref().is_some_and(|(of, _)| *of == key));
        let at = at.unwrap_or_else(|| {
            let weight = |at: &usize| self.0[*at].as_ref().map(|(_, value)| 1 + weight(value));
            (0..N).min_by_key(weight).unwrap_or(0)
        });
        let place = &mut self.0[at];
        if place.as_ref().is_none_or(|(of, _)| *of != key) {
            *place = None;
        }
        let (_, value) = place.get_or_insert_with(|| (key, fresh()));
        value
    }
}
