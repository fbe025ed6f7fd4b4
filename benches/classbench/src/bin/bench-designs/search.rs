//! Which interval of a sorted list a number lies in: a static tree of sixteen children a node, one cache line a level.

use crate::design::{BURST, NONE};
use crate::lanes::Lanes;
use af_xdp::prefetch;

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Node([u32; 16]);

/// The tree, its top level first. Nodes hold where their children begin.
pub struct Intervals(Vec<Vec<Node>>);

impl Intervals {
    /// Takes where the intervals begin, rising, the first at 0.
    pub fn new(starts: &[u32]) -> Intervals {
        let mut levels = Vec::new();
        let mut keys = starts.to_vec();
        loop {
            let node = |keys: &[u32]| {
                let mut node = Node([NONE; 16]);
                node.0[..keys.len()].copy_from_slice(keys);
                node
            };
            let mut nodes = af_xdp::huge_vec(keys.len().div_ceil(16));
            nodes.extend(keys.chunks(16).map(node));
            keys = keys.chunks(16).map(|keys| keys[0]).collect();
            levels.push(nodes);
            if keys.len() <= 1 {
                levels.reverse();
                return Intervals(levels);
            }
        }
    }

    pub fn memory(&self) -> usize {
        self.0.iter().map(|nodes| size_of_val(&nodes[..])).sum()
    }

    /// The interval of each of a burst's values.
    #[inline(always)]
    pub fn find(&self, lanes: impl Lanes, values: &[u32; BURST], ends: usize) -> [u32; BURST] {
        let mut at = [0; BURST];
        for (level, nodes) in self.0.iter().enumerate() {
            let below = self.0.get(level + 1);
            for (at, value) in at.iter_mut().zip(values) {
                let node = &nodes[*at as usize];
                let begun = lanes.begun(&node.0, *value);
                // The last value is not less than what fills a node up.
                let last = below.map_or(ends, Vec::len) as u32 - 1;
                *at = (*at * 16 + begun - 1).min(last);
                if let Some(node) = below.and_then(|below| below.get(*at as usize)) {
                    prefetch(node);
                }
            }
        }
        at
    }
}

/// Where the intervals begin that no range of a list tells apart.
pub fn starts(ranges: impl Iterator<Item = (u32, u32)>) -> Vec<u32> {
    let mut starts = vec![0];
    for (first, last) in ranges {
        starts.push(first);
        starts.extend(last.checked_add(1));
    }
    starts.sort_unstable();
    starts.dedup();
    starts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_lies_in_the_last_interval_that_begins_before_it() {
        for count in [1, 2, 15, 16, 17, 256, 257, 5000] {
            let starts: Vec<u32> = (0..count).map(|i| i * 7).chain([NONE]).collect();
            let tree = Intervals::new(&starts);
            for value in (0..count * 7 + 40).step_by(3).chain([NONE - 1, NONE]) {
                let right = starts.partition_point(|start| *start <= value) - 1;
                let found = tree.find(crate::lanes::Plain, &[value; BURST], starts.len());
                assert_eq!(found, [right as u32; BURST], "{value} of {count}");
            }
        }
    }
}
