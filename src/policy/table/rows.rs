//! Clauses as rows of the table: which can have a home, and the ranges that they are then compared by.

use super::plan::HEADS;
use super::sweep::Intervals;
use crate::policy::addr::{AddrMatch, Family, Set, merge};
use crate::policy::rule::{Clause, PortSet, ProtoSet};
use crate::policy::{Direction, Side};
use std::collections::HashMap;
use std::rc::Rc;

/// The most boxes that one row may be taken apart into for a home.
const PIECES: usize = 8;
/// The most heads (sets of sides and protocols that no such row tells apart): a chunk has 16 bits for them.
pub(super) const MAX_HEADS: usize = 16;

/// The most matches of side and protocol that are tried for a place among the heads.
const MAX_TRIED: usize = 64;

/// The ends of ranges of an address field. A *cell* is a run of addresses between two of them; the cells of IPv4 come
/// first.
pub(super) struct Space {
    pub v4: Vec<u128>,
    pub v6: Vec<u128>,
}

impl Space {
    /// How many cells.
    pub fn cells(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    fn cell(&self, family: Family, addr: u128) -> u32 {
        let (starts, base) = match family {
            Family::V4 => (&self.v4, 0),
            Family::V6 => (&self.v6, self.v4.len()),
        };
        (base + starts.partition_point(|start| *start <= addr) - 1) as u32
    }
}

/// A range of cells or ports, both ends included.
pub(super) type Span = (u32, u32);

/// A box of a row that has a home.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub row: u32,
    /// Cells of source and destination address, source ports, destination ports.
    pub spans: [Span; 4],
    /// The heads, a bit each.
    pub heads: u16,
}

/// The rows that can have a home, as boxes in order.
pub(super) struct Pieces {
    pub src: Space,
    pub dst: Space,
    /// By `side << 8 | protocol`: the head.
    pub head_of: Vec<u8>,
    pub head_count: usize,
    pub pieces: Vec<Piece>,
    /// By row: whether it has pieces.
    pub plain: Vec<bool>,
}

/// Takes apart what can be taken apart.
pub(super) fn pieces(rows: &[&Clause], sets: &[Set]) -> Pieces {
    let mut intervals = Ranges {
        sets,
        known: HashMap::new(),
    };
    let common = common_heads(rows);
    let mut plain: Vec<bool> = rows
        .iter()
        .map(|row| is_plain(row) && common.contains_key(&(row.direction, row.protos)))
        .collect();
    // First every range, so that the cells are known; then the boxes over them.
    let (mut src, mut dst) = (Ends::default(), Ends::default());
    for (row, plain) in rows.iter().zip(&mut plain).filter(|(_, plain)| **plain) {
        let (from, to) = (intervals.of(&row.src), intervals.of(&row.dst));
        let count = from.len() * to.len() * row.sport.0.len() * row.dport.0.len();
        if count > PIECES {
            *plain = false;
            continue;
        }
        src.add(&from);
        dst.add(&to);
    }
    let (src, dst) = (src.space(), dst.space());
    let (head_of, head_count, masks) = heads(&common);
    let mut pieces = Vec::new();
    for (at, row) in rows.iter().enumerate().filter(|(at, _)| plain[*at]) {
        let spans = |space: &Space, ranges: &[Range]| -> Vec<Span> {
            let span = |range: &Range| {
                (
                    space.cell(range.0.0, range.0.1),
                    space.cell(range.1.0, range.1.1),
                )
            };
            ranges.iter().map(span).collect()
        };
        let (from, to) = (
            spans(&src, &intervals.of(&row.src)),
            spans(&dst, &intervals.of(&row.dst)),
        );
        let (sports, dports) = (ports(&row.sport), ports(&row.dport));
        for &s in &from {
            for &d in &to {
                for &sport in &sports {
                    for &dport in &dports {
                        pieces.push(Piece {
                            row: at as u32,
                            spans: [s, d, sport, dport],
                            heads: masks[&(row.direction, row.protos)],
                        });
                    }
                }
            }
        }
    }
    Pieces {
        src,
        dst,
        head_of,
        head_count,
        pieces,
        plain,
    }
}

/// Whether the row asks for addresses, ports, side and protocol alone.
pub(super) fn is_plain(row: &Clause) -> bool {
    row.ethertype.is_none()
        && row.vlan.is_any()
        && row.src_mac.is_any()
        && row.tcp_flags.0.is_empty()
        && row.fragment.is_none()
        && row.app.is_none()
}

fn ports(ports: &PortSet) -> Vec<Span> {
    port_intervals(ports)
        .into_iter()
        .map(|(first, last)| (first as u32, last as u32))
        .collect()
}

/// The ranges of a port set, sorted and disjoint.
pub(super) fn port_intervals(ports: &PortSet) -> Intervals {
    let ranges = ports.0.iter().filter(|(first, last)| first <= last);
    merge(
        ranges
            .map(|&(first, last)| (first.into(), last.into()))
            .collect(),
    )
}

type End = (Family, u128);
/// A run of addresses that may begin in IPv4 and end in IPv6.
type Range = (End, End);

/// The ranges of each distinct address expression.
struct Ranges<'a> {
    sets: &'a [Set],
    known: HashMap<AddrMatch, Rc<[Range]>>,
}

impl Ranges<'_> {
    fn of(&mut self, wanted: &AddrMatch) -> Rc<[Range]> {
        if !self.known.contains_key(wanted) {
            let of = |family| wanted.intervals(self.sets, family).into_iter();
            let mut ranges: Vec<Range> = of(Family::V4)
                .map(|(first, last)| ((Family::V4, first), (Family::V4, last)))
                .collect();
            let mut six =
                of(Family::V6).map(|(first, last)| ((Family::V6, first), (Family::V6, last)));
            if let Some(first) = six.next() {
                let joined = ranges
                    .last_mut()
                    .filter(|last| last.1.1 == Family::V4.max() && first.0.1 == 0);
                match joined {
                    Some(last) => last.1 = first.1,
                    None => ranges.push(first),
                }
            }
            ranges.extend(six);
            self.known.insert(wanted.clone(), ranges.into());
        }
        Rc::clone(&self.known[wanted])
    }
}

/// The ends of ranges, collected.
#[derive(Default)]
struct Ends {
    v4: Vec<u128>,
    v6: Vec<u128>,
}

impl Ends {
    fn add(&mut self, ranges: &[Range]) {
        for (first, last) in ranges {
            self.of(first.0).push(first.1);
            if last.1 < last.0.max() {
                self.of(last.0).push(last.1 + 1);
            }
        }
    }

    fn of(&mut self, family: Family) -> &mut Vec<u128> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    fn space(self) -> Space {
        let sort = |mut ends: Vec<u128>| {
            ends.push(0);
            ends.sort_unstable();
            ends.dedup();
            ends
        };
        Space {
            v4: sort(self.v4),
            v6: sort(self.v6),
        }
    }
}

/// The values `side << 8 | protocol`.
pub(super) fn head_intervals(direction: Direction, protos: ProtoSet) -> Intervals {
    let sides = Side::BOTH.into_iter().filter(|side| direction.holds(*side));
    let values = sides.flat_map(|side| {
        protos
            .iter()
            .map(move |proto| (side as u128) << 8 | u128::from(proto))
    });
    merge(values.map(|value| (value, value)).collect())
}

type HeadMatch = (Direction, ProtoSet);

/// The most asked for sides and protocols, as many as [`MAX_HEADS`] heads can tell apart.
fn common_heads(rows: &[&Clause]) -> HashMap<HeadMatch, usize> {
    let mut asked: HashMap<HeadMatch, usize> = HashMap::new();
    for row in rows.iter().filter(|row| is_plain(row)) {
        *asked.entry((row.direction, row.protos)).or_default() += 1;
    }
    let mut sorted: Vec<_> = asked.into_iter().collect();
    // A row that matches every protocol first, else the most frequent; ties in a fixed order.
    sorted.sort_by_key(|((direction, protos), count)| {
        (std::cmp::Reverse(*count), *direction as u8, protos.words())
    });
    let mut taken = HashMap::new();
    for (wanted, count) in sorted.into_iter().take(MAX_TRIED) {
        taken.insert(wanted, count);
        if heads(&taken).1 > MAX_HEADS {
            taken.remove(&wanted);
        }
    }
    taken
}

/// By `side << 8 | protocol` the head, how many there are, and the heads of each match.
fn heads(taken: &HashMap<HeadMatch, usize>) -> (Vec<u8>, usize, HashMap<HeadMatch, u16>) {
    let mut matches: Vec<_> = taken.keys().copied().collect();
    matches.sort_by_key(|(direction, protos)| (*direction as u8, protos.words()));
    let mut number: HashMap<Vec<bool>, usize> = HashMap::new();
    let mut head_of = Vec::with_capacity(HEADS);
    for value in 0..HEADS {
        let (side, proto) = (Side::BOTH[value >> 8], value as u8);
        let holds =
            |&(direction, protos): &HeadMatch| direction.holds(side) && protos.contains(proto);
        let held: Vec<bool> = matches.iter().map(holds).collect();
        let next = number.len();
        head_of.push((*number.entry(held).or_insert(next)).min(255) as u8);
    }
    let mask = |at: usize| {
        let held = number.iter().filter(|(held, _)| held[at]);
        held.fold(0u16, |mask, (_, head)| {
            mask | 1u16.checked_shl(*head as u32).unwrap_or(0)
        })
    };
    let masks = matches
        .iter()
        .enumerate()
        .map(|(at, wanted)| (*wanted, mask(at)));
    (head_of, number.len(), masks.collect())
}
