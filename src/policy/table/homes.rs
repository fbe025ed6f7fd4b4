//! Which rows get a home, and the lists of each home.
//!
//! A row is put where its list stays shortest, first rows first; a row whose ranges are wide in every field, or that
//! only meets full lists, gets no home and goes to the bitsets.

use super::coarse::coarse;
use super::pairs::{self, Pairs};
use super::plan::{Chunk, Entry, HOMES, Home, LANES, Node16, RULES, Row, SIEVE_LANES, Sieve};
use super::rows::{Piece, Pieces, Space, Span};
use super::split::{self, Split, split};
use crate::policy::RuleId;
use std::collections::HashMap;

/// The most cells (of a home's field) that a row with this home may cover.
const MAX_CELLS: usize = 256;
/// A destination is narrow where it covers at most one in so many cells.
const NARROW: usize = 64;
/// The fewest cells of a field that is worth being a home.
const MIN_CELLS: usize = 16;
/// The most ends of ranges that chunks may compare in an address field: their ranks must fit 16 bits.
const MAX_LANES: usize = 65_000;

/// Who may be a home, and how long a list may get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Choice {
    /// One list for each pair of addresses, of at most so many pairs.
    Pairs(usize),
    /// Each row has one home.
    Fields {
        homes: [bool; 4],
        /// The most rows of a list.
        longest: usize,
        /// Whether a row whose destination is narrow goes there, whatever its other fields are like.
        by_dst: bool,
    },
}

/// Lists of rows, by cell (of a port home: `cell * heads + head`); the numbers are indices of pieces.
pub(super) struct Assigned {
    pub lists: [Vec<Vec<u32>>; 4],
    /// The starts of the cells of source and destination port.
    pub ports: [Vec<u32>; 2],
    /// Lists by both addresses.
    pub pairs: Option<Pairs>,
    /// By row: whether all its pieces have a home, or are answered ahead.
    pub housed: Vec<bool>,
}

impl Assigned {
    /// Every list of a home, each once.
    fn lists(&self, home: usize) -> &[Vec<u32>] {
        match (self.lists.get(home), &self.pairs) {
            (Some(lists), _) => lists,
            (None, Some(pairs)) => &pairs.lists,
            (None, None) => &[],
        }
    }

    /// Chunks that a packet meets in each home, on average over the rows, as if no list were taken apart.
    pub fn chunks(&self, home: usize, per_chunk: usize) -> f64 {
        let (mut rows, mut chunks) = (0.0, 0.0);
        for list in self.lists(home) {
            rows += list.len() as f64;
            chunks += (list.len() * list.len().div_ceil(per_chunk)) as f64;
        }
        if rows > 0.0 { chunks / rows } else { 1.0 }
    }

    /// Whether some row lives there.
    pub fn is_used(&self, home: usize) -> bool {
        self.lists(home).iter().any(|list| !list.is_empty())
    }
}

/// Gives homes to the pieces that are not `taken`. `None` where the choice cannot be had.
pub(super) fn assign(pieces: &Pieces, taken: &[bool], choice: Choice) -> Option<Assigned> {
    match choice {
        Choice::Pairs(most) => {
            let wanted = (0..pieces.pieces.len() as u32).filter(|at| !taken[*at as usize]);
            let wanted: Vec<u32> = wanted.collect();
            Some(Assigned {
                lists: Default::default(),
                ports: Default::default(),
                pairs: Some(pairs::pairs(pieces, &wanted, most)?),
                housed: pieces.plain.clone(),
            })
        }
        Choice::Fields {
            homes,
            longest,
            by_dst,
        } => Some(fields(pieces, taken, homes, longest, by_dst)),
    }
}

fn fields(
    pieces: &Pieces,
    taken: &[bool],
    homes: [bool; 4],
    longest: usize,
    by_dst: bool,
) -> Assigned {
    let ports = [2, 3].map(|field| port_starts(&pieces.pieces, field));
    let heads = pieces.head_count;
    let cells = [
        pieces.src.cells(),
        pieces.dst.cells(),
        ports[0].len(),
        ports[1].len(),
    ];
    let sizes = [cells[0], cells[1], cells[2] * heads, cells[3] * heads];
    let mut lists: [Vec<Vec<u32>>; 4] = std::array::from_fn(|home| {
        if homes[home] && cells[home] >= MIN_CELLS {
            vec![Vec::new(); sizes[home]]
        } else {
            Vec::new()
        }
    });
    let mut housed = pieces.plain.clone();
    let mut lanes = [Lanes::new(&pieces.src), Lanes::new(&pieces.dst)];
    for (at, piece) in pieces.pieces.iter().enumerate() {
        if taken[at] || !housed[piece.row as usize] {
            continue;
        }
        let spans = [
            piece.spans[0],
            piece.spans[1],
            port_cells(&ports[0], piece.spans[2]),
            port_cells(&ports[1], piece.spans[3]),
        ];
        let mut best: Option<(f64, usize)> = None;
        for home in 0..4 {
            let mask = if home < 2 { 1 } else { piece.heads };
            let count = (spans[home].1 - spans[home].0 + 1) as usize;
            let covered = count * mask.count_ones() as usize;
            let wide = covered > MAX_CELLS || count * 4 > cells[home];
            if lists[home].is_empty() || wide || !lanes.iter().all(Lanes::has_room) {
                continue;
            }
            let (mut sum, mut most) = (0, 0);
            each_cell(spans[home], home, mask, heads, |cell| {
                let len = lists[home][cell].len();
                sum += len;
                most = most.max(len);
            });
            if most >= longest {
                continue;
            }
            let cost = sum as f64 / covered as f64 + (covered as f64).log2();
            if by_dst && home == Home::Dst as usize && count * NARROW <= cells[home] {
                best = Some((0.0, home));
                break;
            }
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, home));
            }
        }
        let Some((_, home)) = best else {
            housed[piece.row as usize] = false;
            continue;
        };
        let mask = if home < 2 { 1 } else { piece.heads };
        each_cell(spans[home], home, mask, heads, |cell| {
            lists[home][cell].push(at as u32);
        });
        for (field, lanes) in lanes.iter_mut().enumerate() {
            if field != home {
                lanes.add(piece.spans[field]);
            }
        }
    }
    Assigned {
        lists,
        ports,
        pairs: None,
        housed,
    }
}

/// Every index of a home's lists that a span of cells and a set of heads covers.
fn each_cell(span: Span, home: usize, mask: u16, heads: usize, mut with: impl FnMut(usize)) {
    for cell in span.0 as usize..=span.1 as usize {
        if home < 2 {
            with(cell);
            continue;
        }
        let mut mask = mask;
        while mask != 0 {
            with(cell * heads + mask.trailing_zeros() as usize);
            mask &= mask - 1;
        }
    }
}

fn port_starts(pieces: &[Piece], field: usize) -> Vec<u32> {
    let ends = pieces
        .iter()
        .flat_map(|piece| [piece.spans[field].0, piece.spans[field].1 + 1]);
    let mut starts: Vec<u32> = ends.filter(|end| *end <= 65_535).chain([0]).collect();
    starts.sort_unstable();
    starts.dedup();
    starts
}

fn port_cells(starts: &[u32], span: Span) -> Span {
    let cell = |port: u32| starts.partition_point(|start| *start <= port) as u32 - 1;
    (cell(span.0), cell(span.1))
}

/// The ends of ranges of an address field that some chunk compares.
struct Lanes {
    used: Vec<bool>,
    count: usize,
}

impl Lanes {
    fn new(space: &Space) -> Lanes {
        Lanes {
            used: vec![false; space.cells() + 1],
            count: 0,
        }
    }

    fn has_room(&self) -> bool {
        self.count + 2 <= MAX_LANES
    }

    fn add(&mut self, span: Span) {
        for end in [span.0, span.1 + 1] {
            let used = &mut self.used[end as usize];
            self.count += usize::from(!*used);
            *used = true;
        }
    }
}

/// The lists as chunks.
pub(super) struct Chunks {
    pub chunks: Vec<Chunk>,
    /// How many rows a chunk, or a sieve, has at most.
    pub per_chunk: usize,
    pub rule_of_lane: Vec<u32>,
    pub sieves: Vec<Sieve>,
    pub rows: Vec<Row>,
    /// By home: whether its keys go through separators.
    pub split: [bool; HOMES],
    pub entries: Vec<Entry>,
    pub nodes: Vec<Node16>,
    pub children: Vec<u32>,
    /// By home and list: the chunk where it starts, or its entry.
    pub starts: [Vec<u32>; HOMES],
    /// By address field and cell: the lane.
    pub lanes: [Vec<u16>; 2],
    /// By field (of addresses by cell, else by port): the byte that sieves compare; empty without them.
    pub bytes: [Vec<u8>; 4],
}

/// Packs the lists, so many rows a chunk. Those of a home are taken apart where they get shorter by more than `worth` chunks
/// on average. Equal lists are packed once.
pub(super) fn pack(
    pieces: &Pieces,
    assigned: &Assigned,
    rule_of_row: &[RuleId],
    per_chunk: usize,
    worth: f64,
) -> Chunks {
    let mut out = Chunks {
        lanes: lanes(pieces, assigned),
        per_chunk,
        ..Chunks::none()
    };
    if per_chunk == SIEVE_LANES {
        out.bytes = bytes(pieces, assigned);
    }
    for home in Home::ALL {
        let lists = assigned.lists(home as usize);
        let mut number: HashMap<&[u32], usize> = HashMap::new();
        let mut distinct: Vec<&[u32]> = Vec::new();
        let of_list: Vec<usize> = lists
            .iter()
            .map(|list| {
                *number.entry(list).or_insert_with(|| {
                    distinct.push(list);
                    distinct.len() - 1
                })
            })
            .collect();
        let split = |list: &&[u32]| {
            let span = |piece, field| out.span(&pieces.pieces[piece as usize], field);
            let may = worth.is_finite() && home != Home::Pair;
            let split = may.then(|| split(list, home as usize, per_chunk, span));
            (list.len(), split.flatten())
        };
        let mut splits: Vec<(usize, Option<Split>)> = distinct.iter().map(split).collect();
        out.split[home as usize] = split::pays(&splits, per_chunk, worth);
        if !out.split[home as usize] {
            splits.iter_mut().for_each(|(_, split)| *split = None);
        }
        let mut known: HashMap<Vec<u32>, u32> = HashMap::from([(Vec::new(), 0)]);
        let starts: Vec<u32> = distinct
            .iter()
            .zip(splits)
            .map(|(list, (_, split))| {
                let children = match &split {
                    Some(split) => &split.children[..],
                    None => &[list.to_vec()],
                };
                let mut chunk = |child: &Vec<u32>| {
                    if let Some(chunk) = known.get(child) {
                        return *chunk;
                    }
                    let chunk = if per_chunk == SIEVE_LANES {
                        out.sifted(home, child, pieces, rule_of_row)
                    } else {
                        out.list(home, child, pieces, rule_of_row)
                    };
                    known.insert(child.clone(), chunk);
                    chunk
                };
                let chunks: Vec<u32> = children.iter().map(&mut chunk).collect();
                if out.split[home as usize] {
                    out.entry(split.as_ref(), &chunks)
                } else {
                    chunks[0]
                }
            })
            .collect();
        out.starts[home as usize] = of_list.into_iter().map(|list| starts[list]).collect();
    }
    out
}

/// The lane of each cell: its rank among the ends of the ranges that chunks or separators compare.
fn lanes(pieces: &Pieces, assigned: &Assigned) -> [Vec<u16>; 2] {
    let mut used = [&pieces.src, &pieces.dst].map(|space| vec![false; space.cells() + 1]);
    for home in 0..4 {
        for &piece in assigned.lists[home].iter().flatten() {
            for (field, used) in used.iter_mut().enumerate().filter(|(at, _)| *at != home) {
                let span = pieces.pieces[piece as usize].spans[field];
                used[span.0 as usize] = true;
                used[span.1 as usize + 1] = true;
            }
        }
    }
    used.map(|used| {
        let mut lane = 0u16;
        let ranks = used.iter().enumerate().map(|(cell, used)| {
            lane += u16::from(*used && cell > 0);
            lane
        });
        ranks.collect()
    })
}

/// By field and value the byte that sieves compare.
fn bytes(pieces: &Pieces, assigned: &Assigned) -> [Vec<u8>; 4] {
    let mut listed = vec![false; pieces.pieces.len()];
    for piece in (0..HOMES).flat_map(|home| assigned.lists(home).iter().flatten()) {
        listed[*piece as usize] = true;
    }
    let values = [pieces.src.cells(), pieces.dst.cells(), 65_536, 65_536];
    std::array::from_fn(|field| {
        let pieces = pieces.pieces.iter().zip(&listed);
        let spans = pieces.filter(|(_, listed)| **listed);
        coarse(spans.map(|(piece, _)| piece.spans[field]), values[field])
    })
}

impl Chunks {
    /// No list but the empty one.
    pub fn none() -> Chunks {
        Chunks {
            chunks: vec![Chunk::EMPTY],
            per_chunk: LANES,
            rule_of_lane: vec![u32::MAX; RULES],
            sieves: vec![Sieve::EMPTY],
            rows: vec![Row {
                lowest: [0; 4],
                not_heads: u16::MAX,
                unused: 0,
                rule: u32::MAX,
                span: [u16::MAX; 8],
            }],
            split: [false; HOMES],
            entries: vec![Entry::default()],
            nodes: vec![Node16::NONE],
            children: vec![0],
            starts: Default::default(),
            lanes: Default::default(),
            bytes: Default::default(),
        }
    }

    /// Adds the way to a list that is taken apart, or to one that is not.
    fn entry(&mut self, split: Option<&Split>, chunks: &[u32]) -> u32 {
        let node = match split {
            None => 0,
            Some(split) => {
                let mut node = Node16::NONE;
                node.0[..split.ends.len()].copy_from_slice(&split.ends);
                self.nodes.push(node);
                (self.nodes.len() as u32 - 1) << 2 | split.field as u32
            }
        };
        if split.is_none() && chunks == [0] {
            return 0;
        }
        self.entries.push(Entry {
            node,
            children: self.children.len() as u32,
        });
        self.children.extend(chunks);
        self.entries.len() as u32 - 1
    }

    /// Adds a list and says where it starts.
    fn list(&mut self, home: Home, list: &[u32], pieces: &Pieces, rule_of_row: &[RuleId]) -> u32 {
        let start = self.chunks.len() as u32;
        let last = list.len().div_ceil(self.per_chunk) - 1;
        for (at, part) in list.chunks(self.per_chunk).enumerate() {
            let mut chunk = Chunk {
                more: u32::from(at < last),
                ..Chunk::EMPTY
            };
            let mut rules = vec![u32::MAX; RULES];
            for (lane, &piece) in part.iter().enumerate() {
                let piece = &pieces.pieces[piece as usize];
                let compared = home.compares().map(|field| self.span(piece, field));
                for (field, (first, last)) in [&mut chunk.a.0, &mut chunk.b, &mut chunk.c]
                    .into_iter()
                    .zip(compared)
                {
                    (field[0][lane], field[1][lane]) = (first as u16, (last - first) as u16);
                }
                chunk.not_heads[lane] = !piece.heads;
                rules[lane] = rule_of_row[piece.row as usize].0;
            }
            self.chunks.push(chunk);
            self.rule_of_lane.extend(rules);
        }
        start
    }

    /// Adds a list that is looked at through sieves, and says where it starts.
    fn sifted(&mut self, home: Home, list: &[u32], pieces: &Pieces, rule_of_row: &[RuleId]) -> u32 {
        let start = self.sieves.len() as u32;
        for part in list.chunks(SIEVE_LANES) {
            let mut sieve = Sieve {
                rows: self.rows.len() as u32,
                ..Sieve::EMPTY
            };
            for (lane, &piece) in part.iter().enumerate() {
                let piece = &pieces.pieces[piece as usize];
                for (field, at) in home.sifts().into_iter().zip([&mut sieve.a, &mut sieve.b]) {
                    let (first, last) = piece.spans[field];
                    let byte = |value: u32| self.bytes[field][value as usize];
                    (at[0][lane], at[1][lane]) = (byte(first), byte(last) - byte(first));
                }
                sieve.not_heads[lane] = Sieve::heads(!piece.heads);
                let mut row = Row {
                    lowest: [0; 4],
                    not_heads: !piece.heads,
                    unused: 0,
                    rule: rule_of_row[piece.row as usize].0,
                    span: [u16::MAX; 8],
                };
                for field in (0..4).filter(|field| *field != home as usize) {
                    let (first, last) = self.span(piece, field);
                    (row.lowest[field], row.span[field]) = (first as u16, (last - first) as u16);
                }
                self.rows.push(row);
            }
            self.sieves.push(sieve);
        }
        let further = (list.len().div_ceil(SIEVE_LANES) - 1) as u32;
        // So many lines are more than a table may take, and no list is as long.
        debug_assert!(start < 1 << Sieve::FURTHER && further < 1 << (32 - Sieve::FURTHER));
        start | further << Sieve::FURTHER
    }

    /// The range of a row in lanes or ports.
    fn span(&self, piece: &Piece, field: usize) -> Span {
        let (first, last) = piece.spans[field];
        match self.lanes.get(field) {
            Some(lanes) => (lanes[first as usize].into(), lanes[last as usize].into()),
            None => (first, last),
        }
    }
}
