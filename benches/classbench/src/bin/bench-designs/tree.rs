//! Decision trees: rules are put apart by which of their fields are wide, as EffiCuts (Vamanan, Voskuilen and Vijaykumar,
//! SIGCOMM 2010) and CutSplit (Li, Li, Li and Xie, INFOCOM 2018) do, and each part gets a tree whose nodes split one field
//! where its rules begin and end, as HyperSplit (Qi, Xu, Yang, Xue and Li, INFOCOM 2009) does, but into thirteen: a node is
//! a cache line. Leaves are lists that are compared eight rules at once. How rules are put apart, and how many copies of a
//! rule a split may make, is tried in several ways, and the one taken that costs least by an estimate.

use crate::design::{BURST, Budget, Design, Line, NONE, Packet, Stopped, netmask};
use crate::grow::{Grower, PRICES, WAYS, parts};
use crate::lanes::{Lanes, Plain};
use crate::rows::{Item, List, Lists};
use af_xdp::{huge_vec, prefetch};

/// The field that a leaf asks for: one where every packet has 0.
pub const LEAF: u32 = 5;
/// Where a node splits, at most.
pub const SEPARATORS: usize = 12;
/// Trees that are walked at once.
const AT_ONCE: usize = 2;

/// One cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Node {
    /// The field, from 0: source, destination, source port, destination port, protocol; or [`LEAF`].
    pub field: u32,
    /// The first rule below it.
    pub first: u32,
    /// The first of its children, which stand together, less one for each separator that is over, modulo 2^32; of a leaf its
    /// list.
    pub at: u32,
    /// Chunks of its list, of a leaf.
    pub chunks: u32,
    /// Where the second child begins, and so on; before them zeros that are over.
    pub separators: [u32; SEPARATORS],
}

/// The trees, the one with the earliest rule first.
pub struct Trees {
    roots: Vec<u32>,
    nodes: Vec<Node>,
    lists: Lists,
    copies: usize,
    rules: usize,
    depth: usize,
}

impl Design for Trees {
    fn build(lines: &[Line], budget: &Budget) -> Result<Trees, Stopped> {
        let mut best: Option<(u64, Trees)> = None;
        let ways = (0..WAYS).flat_map(|way| PRICES.map(|price| (way, price)));
        for (way, price) in ways {
            let trees = Trees::grow(lines, parts(lines, way), budget, price)?;
            let cost = trees.cost(lines);
            if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                best = Some((cost, trees));
            }
        }
        best.map(|(_, trees)| trees).ok_or_else(|| Stopped::Shape {
            what: "no trees".to_owned(),
        })
    }

    fn memory(&self) -> usize {
        size_of_val(&self.nodes[..]) + self.lists.memory()
    }

    #[inline(always)]
    fn classify(&self, lanes: impl Lanes, packets: &[Packet; BURST], out: &mut [u32; BURST]) {
        let mut fields = [[0u32; BURST]; 8];
        for (i, packet) in packets.iter().enumerate() {
            fields[0][i] = packet.src;
            fields[1][i] = packet.dst;
            fields[2][i] = packet.sport.into();
            fields[3][i] = packet.dport.into();
            fields[4][i] = packet.proto.into();
        }
        let mut best = [NONE; BURST];
        let mut walkers = [(0u32, 0u32); BURST * AT_ONCE];
        let mut items = [Item::default(); BURST * AT_ONCE];
        for roots in self.roots.chunks(AT_ONCE) {
            let mut count = 0;
            for &root in roots {
                for (packet, best) in best.iter().enumerate() {
                    walkers[count] = (packet as u32, root);
                    count += usize::from(self.nodes[root as usize].first < *best);
                }
            }
            let mut leaves = 0;
            while count > 0 {
                let (mut kept, before) = (0, leaves);
                for i in 0..count {
                    let (packet, at) = walkers[i];
                    let node = &self.nodes[at as usize];
                    let leaf = node.field == LEAF;
                    let value = fields[node.field as usize % 8][packet as usize % BURST];
                    let child = node.at.wrapping_add(lanes.child(node, value));
                    let better = node.first < best[packet as usize % BURST];
                    items[leaves] = Item {
                        packet,
                        list: List {
                            at: node.at,
                            chunks: node.chunks,
                        },
                    };
                    leaves += usize::from(leaf & better);
                    walkers[kept] = (packet, child);
                    kept += usize::from(!leaf & better);
                }
                for (_, child) in &walkers[..kept] {
                    prefetch(&self.nodes[*child as usize]);
                }
                for item in &items[before..leaves] {
                    self.lists.prefetch(item.list.at);
                }
                count = kept;
            }
            self.lists
                .walk(lanes, &mut items, leaves, packets, &mut best);
        }
        *out = best;
    }

    fn shape(&self) -> String {
        format!(
            "trees {}, levels {}, copies a rule {:.1}",
            self.roots.len(),
            self.depth,
            self.copies as f64 / self.rules as f64
        )
    }
}

/// What a node costs, and a chunk of a list, to each other: cycles, more or less.
const COSTS: (u64, u64) = (7, 13);

impl Trees {
    fn grow(
        lines: &[Line],
        parts: Vec<Vec<u32>>,
        budget: &Budget,
        price: f64,
    ) -> Result<Trees, Stopped> {
        let mut grower = Grower::new(lines, budget, price);
        let mut roots = Vec::new();
        for rules in parts {
            roots.push(grower.tree(rules)?);
        }
        let mut nodes = huge_vec(grower.nodes.len());
        nodes.append(&mut grower.nodes);
        grower.lists.settle();
        Ok(Trees {
            roots,
            nodes,
            lists: grower.lists,
            copies: grower.copies,
            rules: lines.len(),
            depth: grower.depth,
        })
    }

    /// An estimate of what packets of some of the rules cost.
    fn cost(&self, lines: &[Line]) -> u64 {
        let some = lines.iter().step_by(lines.len() / 1000 + 1);
        let mut spent = 0;
        for line in some {
            let values = [
                line.src.0 | (0x5555_5555 & !netmask(line.src.1)),
                line.dst.0 | (0x3333_3333 & !netmask(line.dst.1)),
                line.sport.1.into(),
                line.dport.1.into(),
                line.proto.into(),
            ];
            for &root in &self.roots {
                let mut node = &self.nodes[root as usize];
                while node.field != LEAF {
                    let child = Plain.child(node, values[node.field as usize]);
                    node = &self.nodes[node.at.wrapping_add(child) as usize];
                    spent += COSTS.0;
                }
                spent += COSTS.0 + COSTS.1 * u64::from(node.chunks);
            }
        }
        spent
    }
}
