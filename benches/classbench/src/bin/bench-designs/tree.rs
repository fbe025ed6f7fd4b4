//! Decision trees: rules are put apart by which of their fields are wide, as EffiCuts (Vamanan, Voskuilen and Vijaykumar,
//! SIGCOMM 2010) and CutSplit (Li, Li, Li and Xie, INFOCOM 2018) do, and each part gets a tree whose nodes split one field
//! where its rules begin and end, as HyperSplit (Qi, Xu, Yang, Xue and Li, INFOCOM 2009) does, but into thirteen: a node is
//! a cache line. Leaves are lists that are compared eight rules at once.

use crate::design::{BURST, Budget, Design, Line, NONE, Packet, Stopped};
use crate::grow::{Grower, parts};
use crate::lanes::Lanes;
use crate::rows::{Item, List, Lists};
use af_xdp::{huge_vec, prefetch};

/// Where the field of a packet stands that a leaf asks for: none.
pub const LEAF: u32 = u32::MAX;
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
        let mut grower = Grower::new(lines, budget);
        let mut roots = Vec::new();
        for rules in parts(lines) {
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

    fn memory(&self) -> usize {
        size_of_val(&self.nodes[..]) + self.lists.memory()
    }

    #[inline(always)]
    fn classify(&self, lanes: impl Lanes, packets: &[Packet; BURST], out: &mut [u32; BURST]) {
        let mut fields = [[0u32; BURST]; 5];
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
                for packet in 0..BURST {
                    walkers[count] = (packet as u32, root);
                    count += usize::from(self.nodes[root as usize].first < best[packet]);
                }
            }
            let mut leaves = 0;
            while count > 0 {
                let mut kept = 0;
                for i in 0..count {
                    let (packet, at) = walkers[i];
                    let node = &self.nodes[at as usize];
                    let leaf = node.field == LEAF;
                    let field = &fields[if leaf { 0 } else { node.field as usize }];
                    let value = field[packet as usize % BURST];
                    let child = lanes.child(node, value);
                    let better = node.first < best[packet as usize % BURST];
                    items[leaves] = Item {
                        packet,
                        list: List {
                            at: node.at,
                            chunks: node.chunks,
                        },
                    };
                    leaves += usize::from(leaf & better);
                    let child = node.at.wrapping_add(child);
                    walkers[kept] = (packet, child);
                    kept += usize::from(!leaf & better);
                    if leaf {
                        self.lists.prefetch(node.at);
                    } else if let Some(node) = self.nodes.get(child as usize) {
                        prefetch(node);
                    }
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
            "{} trees, {} levels, {:.1} copies a rule",
            self.roots.len(),
            self.depth,
            self.copies as f64 / self.rules as f64
        )
    }
}
