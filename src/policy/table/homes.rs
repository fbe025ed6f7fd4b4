//! Which rows get a home, and the lists of each home.
//!
//! A row is put where its list stays shortest, first rows first; a row whose ranges are wide in every field, or that
//! only meets full lists, gets no home and goes to the bitsets.

use super::plan::{Chunk, Home, LANES, RULES};
use super::rows::{Piece, Pieces, Space, Span};
use crate::policy::RuleId;
use std::collections::HashMap;

/// The most cells (of a home's field) that a row with this home may cover.
const MAX_CELLS: usize = 256;
/// The fewest cells of a field that is worth being a home.
const MIN_CELLS: usize = 16;
/// The most ends of ranges that chunks may compare in an address field: their ranks must fit 16 bits.
const MAX_LANES: usize = 65_000;

/// Who may be a home, and how long a list may get.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Choice {
    pub homes: [bool; 4],
    pub longest: usize,
}

/// Lists of rows, by cell (of a port home: `cell * heads + head`); the numbers are indices of pieces.
pub(super) struct Assigned {
    pub lists: [Vec<Vec<u32>>; 4],
    /// The starts of the cells of source and destination port.
    pub ports: [Vec<u32>; 2],
    /// By row: whether all its pieces have a home.
    pub housed: Vec<bool>,
}

impl Assigned {
    /// Chunks that a packet meets in each home, on average over the lists that are not empty, at least 1.
    pub fn chunks(&self, home: usize) -> f64 {
        let used = self.lists[home].iter().filter(|list| !list.is_empty());
        let (lists, chunks) = used.fold((0usize, 0usize), |(lists, chunks), list| {
            (lists + 1, chunks + list.len().div_ceil(LANES))
        });
        if lists == 0 {
            1.0
        } else {
            chunks as f64 / lists as f64
        }
    }

    /// Whether some row lives there.
    pub fn is_used(&self, home: usize) -> bool {
        self.lists[home].iter().any(|list| !list.is_empty())
    }
}

/// Gives homes.
pub(super) fn assign(pieces: &Pieces, choice: Choice) -> Assigned {
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
        if choice.homes[home] && cells[home] >= MIN_CELLS {
            vec![Vec::new(); sizes[home]]
        } else {
            Vec::new()
        }
    });
    let mut housed = pieces.plain.clone();
    let mut lanes = [Lanes::new(&pieces.src), Lanes::new(&pieces.dst)];
    for (at, piece) in pieces.pieces.iter().enumerate() {
        if !housed[piece.row as usize] {
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
            let (mut sum, mut longest) = (0, 0);
            each_cell(spans[home], home, mask, heads, |cell| {
                let len = lists[home][cell].len();
                sum += len;
                longest = longest.max(len);
            });
            let cost = sum as f64 / covered as f64 + (covered as f64).log2();
            if longest < choice.longest && best.is_none_or(|(least, _)| cost < least) {
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
    pub rule_of_lane: Vec<u32>,
    pub long: [bool; 4],
    /// By home and list: the chunk where it starts.
    pub starts: [Vec<u32>; 4],
    /// By address field and cell: the lane.
    pub lanes: [Vec<u16>; 2],
}

/// Packs the lists. Equal lists are packed once.
pub(super) fn pack(pieces: &Pieces, assigned: &Assigned, rule_of_row: &[RuleId]) -> Chunks {
    let mut lanes = [&pieces.src, &pieces.dst].map(|space| vec![false; space.cells() + 1]);
    for home in 0..4 {
        for &piece in assigned.lists[home].iter().flatten() {
            for (field, lanes) in lanes.iter_mut().enumerate().filter(|(at, _)| *at != home) {
                let span = pieces.pieces[piece as usize].spans[field];
                lanes[span.0 as usize] = true;
                lanes[span.1 as usize + 1] = true;
            }
        }
    }
    let lanes = lanes.map(|used| {
        let mut lane = 0u16;
        let ranks = used.iter().enumerate().map(|(cell, used)| {
            lane += u16::from(*used && cell > 0);
            lane
        });
        ranks.collect::<Vec<_>>()
    });
    let mut out = Chunks {
        lanes,
        ..Chunks::none()
    };
    for home in [Home::Src, Home::Dst, Home::Sport, Home::Dport] {
        let mut known: HashMap<&[u32], u32> = HashMap::new();
        let mut starts = Vec::with_capacity(assigned.lists[home as usize].len());
        for list in &assigned.lists[home as usize] {
            if list.is_empty() {
                starts.push(0);
                continue;
            }
            starts.push(
                *known
                    .entry(list)
                    .or_insert_with(|| out.list(home, list, pieces, rule_of_row)),
            );
        }
        out.starts[home as usize] = starts;
    }
    out
}

impl Chunks {
    /// No list but the empty one.
    pub fn none() -> Chunks {
        Chunks {
            chunks: vec![Chunk::EMPTY],
            rule_of_lane: vec![u32::MAX; RULES],
            long: [false; 4],
            starts: Default::default(),
            lanes: Default::default(),
        }
    }

    /// Adds a list and says where it starts.
    fn list(&mut self, home: Home, list: &[u32], pieces: &Pieces, rule_of_row: &[RuleId]) -> u32 {
        let start = self.chunks.len() as u32;
        let last = list.len().div_ceil(LANES) - 1;
        self.long[home as usize] |= last > 0;
        for (at, part) in list.chunks(LANES).enumerate() {
            let mut chunk = Chunk {
                more: u32::from(at < last),
                ..Chunk::EMPTY
            };
            let mut rules = [u32::MAX; RULES];
            for (lane, &piece) in part.iter().enumerate() {
                let piece = &pieces.pieces[piece as usize];
                let [a, b, c] = self.compared(home, piece);
                for (field, [first, last]) in
                    [(&mut chunk.a, a), (&mut chunk.b, b), (&mut chunk.c, c)]
                {
                    (field[0][lane], field[1][lane]) = (first, last - first);
                }
                chunk.heads[lane] = piece.heads;
                rules[lane] = rule_of_row[piece.row as usize].0;
            }
            self.chunks.push(chunk);
            self.rule_of_lane.extend(rules);
        }
        start
    }

    /// The ranges of the three fields that a home does not decide.
    fn compared(&self, home: Home, piece: &Piece) -> [[u16; 2]; 3] {
        let lanes = |field: usize| {
            let (first, last) = piece.spans[field];
            [
                self.lanes[field][first as usize],
                self.lanes[field][last as usize],
            ]
        };
        let port = |field: usize| [piece.spans[field].0 as u16, piece.spans[field].1 as u16];
        match home {
            Home::Src => [lanes(1), port(2), port(3)],
            Home::Dst => [lanes(0), port(2), port(3)],
            Home::Sport => [lanes(0), lanes(1), port(3)],
            Home::Dport => [lanes(0), lanes(1), port(2)],
        }
    }
}
