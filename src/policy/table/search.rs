//! Where among sorted numbers a value stands: static trees whose every step costs the same, whatever the value.
//!
//! Level by level as in a B+ tree, but the children of a node are found by arithmetic, not by pointers: a step is one
//! cache line, compared as a whole. Of the tree over 32-bit numbers the uppermost level (up to [`ROOT`] separators) is
//! compared with a whole burst at once: a processor that can look up a register by another one finds the nodes of sixteen
//! packets in some ten instructions for two bits.

use af_xdp::Array;

/// The most separators of the level that is compared with a whole burst.
pub const ROOT: usize = 511;

/// Sixteen 32-bit ends, ascending, filled up with the highest: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Node32(pub [u32; 16]);

/// Eight 128-bit ends in halves, ascending, filled up with the highest: two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Node128 {
    /// The high halves.
    pub hi: [u64; 8],
    /// The low halves.
    pub lo: [u64; 8],
}

/// A tree over sorted, distinct numbers, the *ends* of all intervals but the last: the highest value of each. The rank of
/// a value, which is its interval, is the number of ends below it.
#[derive(Clone, Debug)]
pub struct Search<K, N> {
    /// The separators of the uppermost level; their count says which of its nodes to go to. Without levels, all ends.
    pub root: Vec<K>,
    /// All levels below the root, one after the other.
    pub nodes: Array<N>,
    /// Where each level starts in `nodes`.
    pub levels: Vec<usize>,
}

/// The separators of a root once more, up to [`ROOT`], filled up with the highest: as the levels of a tree of four
/// children a node, and under the third or fourth one of two. A level is looked up by permuting registers.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Pivots {
    /// By level and separator of a node: that separator of each node. Of the first three levels, which have up to sixteen
    /// nodes.
    pub quads: [[[u32; 16]; 3]; 3],
    /// The same of the fourth.
    pub fourth: [[u32; 64]; 3],
    /// By node of the level below.
    pub pairs: [u32; 256],
    /// How many levels of four children there are.
    pub levels: usize,
    /// Whether there is the level of `pairs`.
    pub has_pairs: bool,
}

impl Pivots {
    /// The levels of at most [`ROOT`] separators, sorted.
    pub fn new(root: &[u32]) -> Pivots {
        // A level of two children comes under three or four of four.
        let (levels, has_pairs) = match root.len() {
            0..4 => (1, false),
            4..16 => (2, false),
            16..64 => (3, false),
            64..128 => (3, true),
            128..256 => (4, false),
            _ => (4, true),
        };
        let mut pivots = Pivots {
            quads: [[[u32::MAX; 16]; 3]; 3],
            fourth: [[u32::MAX; 64]; 3],
            pairs: [u32::MAX; 256],
            levels,
            has_pairs,
        };
        let at = |rank: usize| root.get(rank).copied().unwrap_or(u32::MAX);
        // How many separators there are under a node, and one.
        let mut node = 1 << (2 * levels + usize::from(has_pairs));
        for level in 0..levels {
            for separator in 0..3 {
                for number in 0..1 << (2 * level) {
                    let end = at(number * node + (separator + 1) * node / 4 - 1);
                    match pivots.quads.get_mut(level) {
                        Some(quads) => quads[separator][number] = end,
                        None => pivots.fourth[separator][number] = end,
                    }
                }
            }
            node /= 4;
        }
        if has_pairs {
            pivots.pairs = std::array::from_fn(|node| at(2 * node));
        }
        pivots
    }

    /// How large a root pays for so many ends: as large as saves a level under it, and no larger.
    pub fn root_for(ends: usize) -> usize {
        let reach = |root: usize, levels: u32| match levels {
            0 => root,
            _ => (root + 1) * 17usize.pow(levels - 1) * 16,
        };
        let levels = (0..8).find(|levels| ends <= reach(ROOT, *levels));
        let enough = |root: &usize| levels.is_some_and(|levels| ends <= reach(*root, levels));
        [15, 63, 127, 255].into_iter().find(enough).unwrap_or(ROOT)
    }
}

/// The tree over IPv4 addresses.
pub type Search32 = Search<u32, Node32>;
/// The tree over IPv6 addresses.
pub type Search128 = Search<u128, Node128>;

impl Search32 {
    /// A tree over `ends`, sorted and distinct, with a root of at most `root` separators, not above [`ROOT`].
    pub fn new(ends: &[u32], root: usize) -> Search32 {
        build(ends, root.min(ROOT), 16, |ends| {
            let mut node = Node32([u32::MAX; 16]);
            node.0[..ends.len()].copy_from_slice(ends);
            node
        })
    }
}

impl Search32 {
    /// The ends that it was made of.
    pub fn ends(&self) -> Vec<u32> {
        match self.levels.last() {
            None => self.root.clone(),
            Some(lowest) => {
                let ends = self.nodes[*lowest..].iter().flat_map(|node| node.0);
                // No end is the highest number, which fills nodes up.
                ends.filter(|end| *end < u32::MAX).collect()
            }
        }
    }
}

impl Search128 {
    /// A tree over `ends`, sorted and distinct.
    pub fn new(ends: &[u128]) -> Search128 {
        build(ends, 0, 8, |ends| {
            let mut node = Node128 {
                hi: [u64::MAX; 8],
                lo: [u64::MAX; 8],
            };
            for (at, end) in ends.iter().enumerate() {
                (node.hi[at], node.lo[at]) = ((end >> 64) as u64, *end as u64);
            }
            node
        })
    }
}

impl<K, N> Search<K, N> {
    /// Bytes taken.
    pub fn memory(&self) -> usize {
        size_of_val(&self.root[..]) + size_of_val(&self.nodes[..])
    }
}

/// Builds from the lowest level up: blocks of `per` ends, then nodes of `per` separators over `per + 1` children, until
/// no more than `root` separators are left over them. No value leads past the last node: the filling is below none.
fn build<K: Copy, N>(
    ends: &[K],
    root: usize,
    per: usize,
    pack: impl Fn(&[K]) -> N,
) -> Search<K, N> {
    if ends.len() <= root {
        return Search {
            root: ends.to_vec(),
            nodes: Array::default(),
            levels: Vec::new(),
        };
    }
    // Of each level, from the lowest: the ends of its nodes. `firsts` are the lowest ends under the nodes of the last.
    let mut levels: Vec<Vec<Vec<K>>> = Vec::new();
    let mut firsts: Vec<K> = ends.chunks(per).map(|block| block[0]).collect();
    levels.push(ends.chunks(per).map(<[K]>::to_vec).collect());
    while firsts.len() > root + 1 {
        let groups = || firsts.chunks(per + 1);
        levels.push(groups().map(|group| group[1..].to_vec()).collect());
        firsts = groups().map(|group| group[0]).collect();
    }
    levels.reverse();
    let (mut nodes, mut starts) = (Vec::new(), Vec::new());
    for level in &levels {
        starts.push(nodes.len());
        nodes.extend(level.iter().map(|ends| pack(ends)));
    }
    Search {
        root: firsts[1..].to_vec(),
        nodes: nodes.into(),
        levels: starts,
    }
}
