//! Which pieces hold a point: a tree that splits them, field by field, into those below a value, those above it, and
//! those on both sides, each with the hull of what is in it. No piece stands in it twice.

use super::space::{FIELDS, Piece};

/// The pieces of a leaf, about: a leaf is longer where no value tells its pieces apart.
const LEAF: usize = 8;
/// How many pieces are looked at to choose where to split.
const SAMPLE: usize = 256;

/// The tree over the pieces of one plane.
pub(super) struct Index {
    pub pieces: Vec<Piece>,
    nodes: Vec<Node>,
}

struct Node {
    hull: [(u128, u128); FIELDS],
    /// The lowest rule below.
    first_rule: u32,
    /// Of a leaf its pieces, ascending by rule; of an inner node its children.
    range: (u32, u32),
    leaf: bool,
}

impl Index {
    pub fn new(pieces: Vec<Piece>) -> Index {
        let mut index = Index {
            pieces,
            nodes: Vec::new(),
        };
        if index.pieces.is_empty() {
            return index;
        }
        index.nodes.push(index.node(0, index.pieces.len()));
        let mut at = 0;
        while at < index.nodes.len() {
            index.split(at);
            at += 1;
        }
        index
    }

    fn node(&self, start: usize, end: usize) -> Node {
        let mut hull = [(u128::MAX, 0); FIELDS];
        let mut first_rule = u32::MAX;
        for piece in &self.pieces[start..end] {
            first_rule = first_rule.min(piece.rule);
            for (all, one) in hull.iter_mut().zip(piece.product.hull()) {
                *all = (all.0.min(one.0), all.1.max(one.1));
            }
        }
        Node {
            hull,
            first_rule,
            range: (start as u32, end as u32),
            leaf: true,
        }
    }

    fn split(&mut self, at: usize) {
        let (start, end) = self.nodes[at].range;
        let (start, end) = (start as usize, end as usize);
        let pieces = &mut self.pieces[start..end];
        let cut = if pieces.len() > LEAF {
            cut(pieces)
        } else {
            None
        };
        let Some((field, value)) = cut else {
            pieces.sort_by_key(|piece| piece.rule);
            return;
        };
        let part = |piece: &Piece| {
            let (first, last) = piece.product.hull()[field];
            match (last < value, first >= value) {
                (true, _) => 0,
                (_, true) => 1,
                _ => 2,
            }
        };
        pieces.sort_by_cached_key(part);
        let ends = [0, 1, 2].map(|wanted| pieces.partition_point(|piece| part(piece) <= wanted));
        let children = self.nodes.len() as u32;
        let mut from = 0;
        for to in ends {
            if to > from {
                self.nodes.push(self.node(start + from, start + to));
            }
            from = to;
        }
        self.nodes[at].leaf = false;
        self.nodes[at].range = (children, self.nodes.len() as u32);
    }

    /// Calls `found` with each piece of a rule below `before` that holds the point; what it returns is the new
    /// `before`. Returns how many nodes and pieces were looked at.
    pub fn stab(
        &self,
        point: &[u128; FIELDS],
        mut before: u32,
        mut found: impl FnMut(&Piece) -> u32,
    ) -> usize {
        let mut looked = 0;
        let mut stack: Vec<u32> = (!self.nodes.is_empty()).then_some(0).into_iter().collect();
        while let Some(at) = stack.pop() {
            let node = &self.nodes[at as usize];
            looked += 1;
            let holds =
                |(hull, value): (&(u128, u128), &u128)| hull.0 <= *value && *value <= hull.1;
            if node.first_rule >= before || !node.hull.iter().zip(point).all(holds) {
                continue;
            }
            let (start, end) = node.range;
            if !node.leaf {
                stack.extend(start..end);
                continue;
            }
            for piece in &self.pieces[start as usize..end as usize] {
                if piece.rule >= before {
                    break;
                }
                looked += 1;
                if piece.product.holds(point) {
                    before = found(piece);
                }
            }
        }
        looked
    }
}

/// The field and value that leave the largest part smallest; `None` where none is much smaller than the whole.
fn cut(pieces: &[Piece]) -> Option<(usize, u128)> {
    let step = pieces.len().div_ceil(SAMPLE);
    let hulls: Vec<_> = pieces
        .iter()
        .step_by(step)
        .map(|piece| piece.product.hull())
        .collect();
    let mut best = (hulls.len(), 0, 0);
    for field in 0..FIELDS {
        let mut ends: Vec<u128> = hulls
            .iter()
            .flat_map(|hull| [Some(hull[field].0), hull[field].1.checked_add(1)])
            .flatten()
            .filter(|end| *end > 0)
            .collect();
        ends.sort_unstable();
        ends.dedup();
        for value in [1, 2, 3].map(|quarter| ends.get(ends.len() * quarter / 4)) {
            let Some(&value) = value else { continue };
            let below = hulls.iter().filter(|hull| hull[field].1 < value).count();
            let above = hulls.iter().filter(|hull| hull[field].0 >= value).count();
            let most = below.max(above).max(hulls.len() - below - above);
            if most < best.0 {
                best = (most, field, value);
            }
        }
    }
    // A cut that leaves nearly all in one part would make the tree deep and not smaller.
    (best.0 * 16 <= hulls.len() * 15).then_some((best.1, best.2))
}
