//! Where among sorted numbers a value stands: static trees whose every step costs the same, whatever the value.
//!
//! Level by level as in a B+ tree, but the children of a node are found by arithmetic, not by pointers: a step is one
//! cache line, compared as a whole. Of the tree over 32-bit keys the uppermost level (up to [`ROOT`] separators) is
//! compared with a whole burst at once: a processor that can look up a register by another one finds sixteen packets' nodes in
//! four instructions a level.

/// The most separators of the level that is compared with a whole burst.
pub const ROOT: usize = 127;

/// Sixteen 32-bit keys, ascending, filled up with the highest: one cache line.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Node32(pub [u32; 16]);

/// Eight 128-bit keys in halves, ascending, filled up with the highest: two cache lines.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub struct Node128 {
    /// The high halves.
    pub hi: [u64; 8],
    /// The low halves.
    pub lo: [u64; 8],
}

/// A tree over sorted, distinct keys. The rank of a value is the number of keys that are not above it.
#[derive(Clone, Debug)]
pub struct Search<K, N> {
    /// The separators of the uppermost level; their count says which of its nodes to go to. Without levels, all keys.
    pub root: Vec<K>,
    /// All levels below the root, one after the other.
    pub nodes: Vec<N>,
    /// Where each level starts in `nodes`.
    pub levels: Vec<usize>,
    /// How many keys there are: no rank is higher.
    pub keys: usize,
    /// The separators once more, as the levels of a binary tree.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub pivots: Pivots<K>,
}

/// Up to [`ROOT`] keys as a complete binary tree, filled up with the highest: `keys[level][at]`, where the next `at` is
/// `2 * at`, and one more where the key is not above the value. A level is one to four 512-bit registers.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Pivots<K> {
    /// By level, as many as the level has nodes; what is behind them is not looked at.
    pub keys: [[K; 64]; 7],
    /// How many levels.
    pub levels: usize,
    /// How many keys.
    pub count: usize,
}

impl<K: Copy> Pivots<K> {
    fn new(keys: &[K], max: K) -> Pivots<K> {
        let levels = (usize::BITS - keys.len().leading_zeros()) as usize;
        let mut pivots = Pivots {
            keys: [[max; 64]; 7],
            levels: levels.min(7),
            count: keys.len(),
        };
        for (level, nodes) in pivots.keys.iter_mut().enumerate().take(levels) {
            for (at, node) in nodes.iter_mut().enumerate().take(1 << level) {
                let sorted = (2 * at + 1) * (1 << (levels - level - 1)) - 1;
                *node = keys.get(sorted).copied().unwrap_or(max);
            }
        }
        pivots
    }
}

/// The tree over IPv4 addresses.
pub type Search32 = Search<u32, Node32>;
/// The tree over IPv6 addresses.
pub type Search128 = Search<u128, Node128>;

impl Search32 {
    /// A tree over `keys`, sorted and distinct, with a root of at most `root` separators, not above [`ROOT`].
    pub fn new(keys: &[u32], root: usize) -> Search32 {
        build(keys, root.min(ROOT), 16, u32::MAX, |keys| {
            let mut node = Node32([u32::MAX; 16]);
            node.0[..keys.len()].copy_from_slice(keys);
            node
        })
    }
}

impl Search128 {
    /// A tree over `keys`, sorted and distinct.
    pub fn new(keys: &[u128]) -> Search128 {
        build(keys, 0, 8, u128::MAX, |keys| {
            let mut node = Node128 {
                hi: [u64::MAX; 8],
                lo: [u64::MAX; 8],
            };
            for (at, key) in keys.iter().enumerate() {
                (node.hi[at], node.lo[at]) = ((key >> 64) as u64, *key as u64);
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

/// Builds from the lowest level up: blocks of `per` keys, then nodes of `per` separators over `per + 1` children, until
/// no more than `root` separators are left over them.
///
/// Every node has all its children, those past the last key being full of `max`: the value `max` is not below the
/// filling either, so it leads there, and the caller brings its rank down to the number of keys.
fn build<K: Copy, N>(
    keys: &[K],
    root: usize,
    per: usize,
    max: K,
    pack: impl Fn(&[K]) -> N,
) -> Search<K, N> {
    if keys.len() <= root {
        return Search {
            root: keys.to_vec(),
            nodes: Vec::new(),
            levels: Vec::new(),
            keys: keys.len(),
            pivots: Pivots::new(keys, max),
        };
    }
    // Of each level, from the lowest: the keys of its nodes. `firsts` are the lowest keys under the nodes of the last.
    let mut levels: Vec<Vec<Vec<K>>> = Vec::new();
    let mut firsts: Vec<K> = keys.chunks(per).map(|block| block[0]).collect();
    levels.push(keys.chunks(per).map(<[K]>::to_vec).collect());
    while firsts.len() > root + 1 {
        let groups = || firsts.chunks(per + 1);
        levels.push(groups().map(|group| group[1..].to_vec()).collect());
        firsts = groups().map(|group| group[0]).collect();
    }
    levels.reverse();
    let (mut nodes, mut starts) = (Vec::new(), Vec::new());
    let mut room = firsts.len();
    for level in &levels {
        starts.push(nodes.len());
        nodes.extend(level.iter().map(|keys| pack(keys)));
        let filling = [max].repeat(per);
        nodes.extend((level.len()..room).map(|_| pack(&filling)));
        room *= per + 1;
    }
    Search {
        root: firsts[1..].to_vec(),
        pivots: Pivots::new(&firsts[1..], max),
        nodes,
        levels: starts,
        keys: keys.len(),
    }
}
