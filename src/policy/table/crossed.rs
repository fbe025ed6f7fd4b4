//! Rows whose addresses are both wide, answered ahead: which of them is first is written down for every class of ports,
//! heads and wide ranges of addresses, so that such rows cost a few loads however many they are.
//!
//! Crossing all fields at once is what recursive flow classification does (Gupta and McKeown, SIGCOMM 1999); it stays
//! small here because only the few address ranges that many rows name take part.

use super::fields::spread;
use super::plan::{Crossed, NO_ROW};
use super::rows::{Piece, Pieces, Span};
use super::sweep::{Classes, Matches};
use crate::policy::RuleId;
use af_xdp::Array;
use std::collections::HashMap;

/// The most ranges of a field that count as wide: two ends each, so that the classes between them fit 64 bits.
const MAX_WIDE: usize = 31;
/// How many rows of a range a packet must meet on average, for the range to count as wide.
const MET: f64 = 0.25;
/// What may be tried for one table: classes of ports and heads, times pairs of address classes.
const MAX_WORK: usize = 40_000_000;
/// The most cells of either table.
const MAX_CELLS: usize = 8 << 20;

/// The ranges of source and destination addresses that count as wide, the one that costs most elsewhere first.
pub(super) fn wide(pieces: &Pieces) -> [Vec<Span>; 2] {
    let field = |field: usize, cells: usize| {
        let mut rows: HashMap<Span, usize> = HashMap::new();
        // By cell: rows with a range that starts there; a packet is as often there as rows speak of it.
        let mut before = vec![0u32; cells + 1];
        for piece in &pieces.pieces {
            let span = piece.spans[field];
            *rows.entry(span).or_default() += 1;
            if (span.1 - span.0) as usize * 2 < cells {
                before[span.0 as usize + 1] += 1;
            }
        }
        for cell in 0..cells {
            before[cell + 1] += before[cell];
        }
        let all = pieces.pieces.len().max(1) as f64;
        let met = |(span, rows): (Span, usize)| {
            let within = if (span.1 - span.0) as usize * 2 < cells {
                f64::from(before[span.1 as usize + 1] - before[span.0 as usize]) / all
            } else {
                1.0
            };
            (rows as f64 * within, span)
        };
        let mut met: Vec<(f64, Span)> = rows.into_iter().map(met).collect();
        met.retain(|(rows, _)| *rows >= MET);
        met.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        met.truncate(MAX_WIDE);
        met.into_iter().map(|(_, span)| span).collect()
    };
    [field(0, pieces.src.cells()), field(1, pieces.dst.cells())]
}

/// The tables, and what the cells of each address field stand for in them.
pub(super) struct Crossing {
    pub table: Crossed,
    /// By piece: whether it is in the tables.
    pub members: Vec<bool>,
    /// By address field and cell: what to add up for the place in the last table.
    pub places: [Vec<u32>; 2],
    /// The same of a source that is no address; of a destination it is 0.
    pub none: u32,
}

impl Crossed {
    /// Does without the class of the source port, where no row asks for it.
    pub fn forget_sport(&mut self) {
        let services = self.services.iter();
        self.services = services
            .map(|service| self.port_pairs[usize::from(*service)])
            .collect();
        (self.sport, self.port_pairs) = (Array::default(), Array::default());
    }
}

/// Crosses the pieces whose addresses are both wide; fewer ranges count as wide where all of them would take too much.
/// `None` where it cannot be had, or would be empty.
pub(super) fn cross(pieces: &Pieces, rule_of_row: &[RuleId]) -> Option<Crossing> {
    let wide = wide(pieces);
    let mut tried = usize::MAX;
    for most in [MAX_WIDE, 8, 3, 1] {
        let [src, dst] = wide.each_ref().map(|spans| &spans[..spans.len().min(most)]);
        let is_wide =
            |piece: &Piece| src.contains(&piece.spans[0]) && dst.contains(&piece.spans[1]);
        let members: Vec<bool> = pieces.pieces.iter().map(is_wide).collect();
        let rows: Vec<&Piece> = pieces
            .pieces
            .iter()
            .filter(|piece| is_wide(piece))
            .collect();
        if rows.is_empty() {
            return None;
        }
        if src.len() + dst.len() == tried {
            continue;
        }
        tried = src.len() + dst.len();
        if let Some((table, places, none)) = tables(pieces, &rows, rule_of_row) {
            return Some(Crossing {
                table,
                members,
                places,
                none,
            });
        }
    }
    None
}

/// The classes of a field among some rows: by value, and the rows of each class, a bitset.
pub(super) struct Field {
    pub class: Vec<u32>,
    pub sets: Vec<Vec<u64>>,
}

impl Field {
    /// Of the range of each row, in a field of so many values.
    pub fn of(spans: impl ExactSizeIterator<Item = Span>, values: usize) -> Option<Field> {
        let rows = spans.len();
        let matches = Matches::collect(spans);
        let mut sets = Vec::new();
        let mut classes = Classes::new();
        let runs = classes.sweep(
            &matches,
            values as u128 - 1,
            |&(first, last)| vec![(first.into(), last.into())],
            |held| {
                sets.push(matches.rows_of(held, rows));
                Ok(())
            },
        );
        let runs = runs.ok()?;
        let starts: Vec<u32> = runs.starts.iter().map(|start| *start as u32).collect();
        Some(Field {
            class: spread(&starts, |at| runs.class[at], values),
            sets,
        })
    }

    /// By row, the classes that it holds in; there must be at most 64.
    fn masks(&self, rows: usize) -> Vec<u64> {
        let mask = |row: usize| {
            let holds = |set: &Vec<u64>| set[row / 64] >> (row % 64) & 1;
            let bits = self.sets.iter().enumerate();
            bits.fold(0, |mask, (class, set)| mask | holds(set) << class)
        };
        (0..rows).map(mask).collect()
    }
}

fn and(a: &[u64], b: &[u64]) -> Vec<u64> {
    a.iter().zip(b).map(|(a, b)| a & b).collect()
}

fn tables(
    pieces: &Pieces,
    rows: &[&Piece],
    rule_of_row: &[RuleId],
) -> Option<(Crossed, [Vec<u32>; 2], u32)> {
    if rows.len() >= usize::from(NO_ROW) {
        return None;
    }
    let field = |field: usize, values| Field::of(rows.iter().map(|row| row.spans[field]), values);
    let src = field(0, pieces.src.cells())?;
    let dst = field(1, pieces.dst.cells())?;
    let (sport, dport) = (field(2, 65_536)?, field(3, 65_536)?);
    if src.sets.len() > 64 || dst.sets.len() > 64 {
        return None;
    }
    // Destination port and head.
    let heads: Vec<Vec<u64>> = (0..pieces.head_count)
        .map(|head| {
            let mut set = vec![0u64; rows.len().div_ceil(64)];
            for (at, row) in rows.iter().enumerate() {
                set[at / 64] |= u64::from(row.heads >> head & 1) << (at % 64);
            }
            set
        })
        .collect();
    let mut number: HashMap<Vec<u64>, u16> = HashMap::new();
    let mut services = Vec::with_capacity(dport.sets.len() * heads.len());
    let mut service_sets = Vec::new();
    for port in &dport.sets {
        for head in &heads {
            let set = and(port, head);
            let next = u16::try_from(number.len()).ok()?;
            services.push(*number.entry(set).or_insert_with_key(|set| {
                service_sets.push(set.clone());
                next
            }));
        }
    }
    let pairs = src.sets.len() * dst.sets.len();
    let cells = sport.sets.len() * service_sets.len();
    if cells > MAX_CELLS || cells * pairs > MAX_WORK.max(4 * cells) {
        return None;
    }
    // Which row is first, for every pair of address classes: a vector for each pair of ports.
    let masks = (src.masks(rows.len()), dst.masks(rows.len()));
    let mut vectors = Vectors::new(&masks, src.sets.len(), dst.sets.len());
    let mut port_pairs = Vec::with_capacity(cells);
    for from in &sport.sets {
        for service in &service_sets {
            port_pairs.push(u16::try_from(vectors.number(from, service)).ok()?);
        }
    }
    let count = vectors.vectors.len();
    if count * pairs > MAX_CELLS {
        return None;
    }
    let mut first = vec![NO_ROW; (pairs + 1) * count];
    for (at, vector) in vectors.vectors.iter().enumerate() {
        for (pair, row) in vector.iter().enumerate() {
            first[pair * count + at] = *row;
        }
    }
    let rules = rows.iter().map(|row| rule_of_row[row.row as usize].0);
    let none = rows.len() as u16;
    let rule_of_first = rules.chain([u32::MAX]).collect();
    for row in &mut first {
        *row = (*row).min(none);
    }
    let wide = |class: &[u32], times: usize| -> Vec<u32> {
        class
            .iter()
            .map(|class| class * (times * count) as u32)
            .collect()
    };
    let direct = |field: &Field| -> Option<Vec<u16>> {
        let numbers = field.class.iter().map(|class| u16::try_from(*class).ok());
        numbers.collect()
    };
    let times = |numbers: &[u16], times: usize| -> Option<Vec<u16>> {
        let times = u16::try_from(times).ok()?;
        numbers
            .iter()
            .map(|number| number.checked_mul(times))
            .collect()
    };
    let width = service_sets.len() as u32;
    let mut table = Crossed {
        sport: direct(&sport)?.into(),
        dport: times(&direct(&dport)?, pieces.head_count)?.into(),
        dport_mask: u16::MAX,
        services: services.into(),
        width,
        port_pairs: port_pairs.into(),
        first: first.into(),
        rule_of_first,
        rows: rows.chunk_by(|a, b| a.row == b.row).count(),
    };
    if dport.sets.len() == 1 {
        (table.dport, table.dport_mask) = (vec![0].into(), 0);
    }
    let places = [wide(&src.class, dst.sets.len()), wide(&dst.class, 1)];
    Some((table, places, (pairs * count) as u32))
}

/// The distinct vectors: by pair of address classes, the first row.
struct Vectors<'a> {
    masks: &'a (Vec<u64>, Vec<u64>),
    src: usize,
    dst: usize,
    /// By the rows that were looked at until every pair had one.
    known: HashMap<Vec<u16>, u32>,
    distinct: HashMap<Vec<u16>, u32>,
    vectors: Vec<Vec<u16>>,
    seen: Vec<u16>,
    open: Vec<u64>,
}

impl<'a> Vectors<'a> {
    fn new(masks: &'a (Vec<u64>, Vec<u64>), src: usize, dst: usize) -> Vectors<'a> {
        Vectors {
            masks,
            src,
            dst,
            known: HashMap::new(),
            distinct: HashMap::new(),
            vectors: Vec::new(),
            seen: Vec::new(),
            open: vec![0; src],
        }
    }

    /// The number of the vector of the rows that are in both sets.
    fn number(&mut self, a: &[u64], b: &[u64]) -> u32 {
        self.seen.clear();
        let all = u64::MAX >> (64 - self.dst);
        self.open.fill(all);
        let mut left = self.src;
        'rows: for (word, (a, b)) in a.iter().zip(b).enumerate() {
            let mut bits = a & b;
            while bits != 0 {
                let row = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let (src, dst) = (self.masks.0[row], self.masks.1[row]);
                let (mut sources, mut news) = (src, false);
                while sources != 0 {
                    let open = &mut self.open[sources.trailing_zeros() as usize];
                    sources &= sources - 1;
                    news |= *open & dst != 0;
                    let was = *open;
                    *open &= !dst;
                    left -= usize::from(was != 0 && *open == 0);
                }
                if news {
                    self.seen.push(row as u16);
                }
                if left == 0 {
                    break 'rows;
                }
            }
        }
        if let Some(number) = self.known.get(&self.seen[..]) {
            return *number;
        }
        let mut vector = vec![NO_ROW; self.src * self.dst];
        for &row in self.seen.iter().rev() {
            let (src, dst) = (
                self.masks.0[usize::from(row)],
                self.masks.1[usize::from(row)],
            );
            for s in (0..self.src).filter(|s| src >> s & 1 == 1) {
                for d in (0..self.dst).filter(|d| dst >> d & 1 == 1) {
                    vector[s * self.dst + d] = row;
                }
            }
        }
        let next = self.vectors.len() as u32;
        let number = *self.distinct.entry(vector).or_insert_with_key(|vector| {
            self.vectors.push(vector.clone());
            next
        });
        self.known.insert(self.seen.clone(), number);
        number
    }
}
