//! How decision trees grow.

use crate::design::{Budget, Line, NONE, Stopped, range};
use crate::rows::{List, Lists};
use crate::tree::{LEAF, Node, SEPARATORS};

/// A leaf has at most so many rules, where more splits make them fewer.
const FEW: usize = 8;
/// A prefix is wide if it is shorter.
const WIDE: u8 = 17;
/// So much a tree may take, in copies of its rules.
const COPIES: usize = 24;
/// What twice the copies of a rule may be worth, in halvings of the rules that are left: each is tried.
pub const PRICES: [f64; 3] = [0.3, 0.6, 0.9];

type Range = (u32, u32);

/// Ways to put rules apart.
pub const WAYS: usize = 5;

/// The rules put apart in one of [`WAYS`] ways, each part in order, the one with the earliest rule first: all in one tree;
/// by whether the source is wide; the destination; both; and, where both are wide, the ports as well.
pub fn parts(lines: &[Line], way: usize) -> Vec<Vec<u32>> {
    let mut parts = vec![Vec::new(); 8];
    for (rule, line) in lines.iter().enumerate() {
        let src = usize::from(line.src.1 < WIDE);
        let dst = usize::from(line.dst.1 < WIDE);
        let sport = usize::from(line.sport.0 != line.sport.1);
        let dport = usize::from(line.dport.0 != line.dport.1);
        let part = match way {
            0 => 0,
            1 => src,
            2 => dst,
            3 => 2 * src + dst,
            _ if src + dst < 2 => 2 * src + dst,
            _ => 3 + 2 * sport + dport,
        };
        parts[part].push(rule as u32);
    }
    parts.retain(|part| !part.is_empty());
    parts.sort_by_key(|part| part[0]);
    parts
}

/// What is growing.
pub struct Grower<'a> {
    lines: &'a [Line],
    budget: &'a Budget,
    pub nodes: Vec<Node>,
    pub lists: Lists,
    /// Rules in leaves.
    pub copies: usize,
    /// Levels of the deepest tree.
    pub depth: usize,
    /// Copies that the tree that is growing may still make.
    left: usize,
    /// One of [`PRICES`].
    price: f64,
}

impl<'a> Grower<'a> {
    pub fn new(lines: &'a [Line], budget: &'a Budget, price: f64) -> Grower<'a> {
        Grower {
            lines,
            budget,
            nodes: Vec::new(),
            lists: Lists::default(),
            copies: 0,
            depth: 0,
            left: 0,
            price,
        }
    }

    /// Grows a tree of rules, which stand in order; its root.
    pub fn tree(&mut self, rules: Vec<u32>) -> Result<u32, Stopped> {
        let root = self.nodes.len() as u32;
        self.nodes.push(EMPTY);
        self.left = COPIES * rules.len();
        let all = [
            (0, u32::MAX),
            (0, u32::MAX),
            (0, 0xffff),
            (0, 0xffff),
            (0, 0xff),
        ];
        // Breadth first, so that what may be copied is spent where it parts the most rules.
        let mut level = vec![(root, rules, all)];
        let mut depth = 1;
        while !level.is_empty() {
            self.depth = self.depth.max(depth);
            depth += 1;
            let bytes = size_of_val(&self.nodes[..]) + self.lists.memory();
            self.budget.check(bytes, || format!("level {depth}"))?;
            let mut below = Vec::new();
            for (at, rules, space) in level {
                self.node(at, rules, space, &mut below);
            }
            level = below;
        }
        Ok(root)
    }

    /// Makes a node a leaf, or splits it and leaves its children to be made.
    fn node(&mut self, at: u32, rules: Vec<u32>, space: [Range; 5], below: &mut Vec<Growing>) {
        let first = rules.first().copied().unwrap_or(NONE);
        let split = (rules.len() > FEW)
            .then(|| self.split(&rules, &space))
            .flatten();
        let Some(Split {
            field,
            separators,
            copies,
        }) = split
        else {
            let List { at: list, chunks } = self.lists.push(self.lines, &rules);
            self.copies += rules.len();
            self.nodes[at as usize] = Node {
                first,
                at: list,
                chunks,
                ..EMPTY
            };
            return;
        };
        self.left -= copies.saturating_sub(rules.len());
        let children = self.nodes.len() as u32;
        let over = SEPARATORS - separators.len();
        let mut node = Node {
            field: field as u32,
            first,
            at: children.wrapping_sub(over as u32),
            chunks: 0,
            separators: [0; SEPARATORS],
        };
        node.separators[over..].copy_from_slice(&separators);
        self.nodes[at as usize] = node;
        self.nodes
            .resize(children as usize + separators.len() + 1, EMPTY);
        let begins = std::iter::once(space[field].0).chain(separators.iter().copied());
        let ends = separators.iter().map(|separator| separator - 1);
        let ends = ends.chain([space[field].1]);
        for (child, range) in (children..).zip(begins.zip(ends)) {
            let mut space = space;
            space[field] = range;
            let rules = self.inside(&rules, &space, field);
            below.push((child, rules, space));
        }
    }

    /// The rules that a space has part in, up to one that has all of it.
    fn inside(&self, rules: &[u32], space: &[Range; 5], field: usize) -> Vec<u32> {
        let mut kept = Vec::new();
        for &rule in rules {
            let ranges = ranges(&self.lines[rule as usize]);
            let (first, last) = ranges[field];
            if first <= space[field].1 && last >= space[field].0 {
                kept.push(rule);
                let covers =
                    |(rule, space): (&Range, &Range)| rule.0 <= space.0 && rule.1 >= space.1;
                if ranges.iter().zip(space).all(covers) {
                    break;
                }
            }
        }
        kept
    }

    /// The split that is worth most, if one is.
    fn split(&self, rules: &[u32], space: &[Range; 5]) -> Option<Split> {
        let mut best: Option<(f64, Split)> = None;
        for (field, within) in space.iter().enumerate() {
            let clipped: Vec<Range> = rules
                .iter()
                .map(|rule| {
                    let (first, last) = ranges(&self.lines[*rule as usize])[field];
                    (first.max(within.0), last.min(within.1))
                })
                .collect();
            let mut edges: Vec<u32> = clipped
                .iter()
                .flat_map(|(first, last)| [Some(*first), last.checked_add(1)])
                .flatten()
                .filter(|edge| *edge > within.0 && *edge <= within.1)
                .collect();
            edges.sort_unstable();
            for wanted in [SEPARATORS, 5, 2] {
                if wanted > 2 && rules.len() < wanted * 4 {
                    continue;
                }
                let separators = spread(&edges, wanted);
                if separators.is_empty() {
                    continue;
                }
                let counts = counts(&clipped, &separators);
                let copies: usize = counts.iter().sum();
                let squares: f64 = counts.iter().map(|n| (n * n) as f64).sum();
                let fewer = (rules.len() as f64 * copies as f64 / squares).log2();
                let more = (copies as f64 / rules.len() as f64).log2();
                let worth = fewer - self.price * more;
                let affordable = copies.saturating_sub(rules.len()) <= self.left;
                if affordable
                    && worth > 0.3
                    && best.as_ref().is_none_or(|(least, _)| worth > *least)
                {
                    best = Some((
                        worth,
                        Split {
                            field,
                            separators,
                            copies,
                        },
                    ));
                }
            }
        }
        best.map(|(_, split)| split)
    }
}

/// A node to be made, its rules and the space that it stands for.
type Growing = (u32, Vec<u32>, [Range; 5]);

struct Split {
    field: usize,
    separators: Vec<u32>,
    copies: usize,
}

const EMPTY: Node = Node {
    field: LEAF,
    first: NONE,
    at: 0,
    chunks: 0,
    separators: [0; SEPARATORS],
};

/// What a rule asks of each field. A protocol that is asked in part counts as any: the leaf compares it.
fn ranges(line: &Line) -> [Range; 5] {
    let port = |(first, last): (u16, u16)| (first.into(), last.into());
    let proto = match line.mask {
        0xff => (line.proto.into(), line.proto.into()),
        _ => (0, 0xff),
    };
    [
        range(line.src),
        range(line.dst),
        port(line.sport),
        port(line.dport),
        proto,
    ]
}

/// At most `wanted` different ones of sorted edges, with as many edges between them as can be.
fn spread(edges: &[u32], wanted: usize) -> Vec<u32> {
    let at = |i: usize| edges[(i * edges.len() / (wanted + 1)).min(edges.len() - 1)];
    if edges.is_empty() {
        return Vec::new();
    }
    let mut separators: Vec<u32> = (1..=wanted).map(at).collect();
    separators.dedup();
    separators
}

/// How many ranges each child gets.
fn counts(ranges: &[Range], separators: &[u32]) -> Vec<usize> {
    let child = |value: u32| separators.partition_point(|separator| *separator <= value);
    let mut steps = vec![0isize; separators.len() + 2];
    for (first, last) in ranges {
        steps[child(*first)] += 1;
        steps[child(*last) + 1] -= 1;
    }
    let mut counts = Vec::with_capacity(separators.len() + 1);
    let mut count = 0;
    for step in &steps[..=separators.len()] {
        count += step;
        counts.push(count as usize);
    }
    counts
}
