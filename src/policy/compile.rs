//! Clauses to the fields of a [`Table`](super::Table): which values of a field no row tells apart, and which rows each
//! such class satisfies.

use super::Side;
use super::addr::{Family, Set, merge};
use super::rule::{Clause, Direction, PortSet, ProtoSet};
use super::table::{AddrIndex, CompileError, Field, MAX_BYTES};
use std::collections::HashMap;
use std::hash::Hash;

/// The fields of a table, and the words of one bitset.
pub(super) struct Fields {
    pub head: Field<Vec<u32>>,
    pub src: Field<AddrIndex>,
    pub dst: Field<AddrIndex>,
    pub sport: Field<Vec<u32>>,
    pub dport: Field<Vec<u32>>,
    pub words: usize,
}

/// Sorted, disjoint intervals, both ends included.
type Intervals = Vec<(u128, u128)>;

/// Compiles each field of the rows.
pub(super) fn fields(rows: &[&Clause], sets: &[Set]) -> Result<Fields, CompileError> {
    let words = rows.len().div_ceil(64);
    let mut budget = Budget {
        words,
        left: MAX_BYTES,
    };
    let budget = &mut budget;
    Ok(Fields {
        head: direct(
            rows.iter().map(|row| (row.direction, row.protos)),
            2 * 256,
            budget,
            head_intervals,
        )?,
        sport: direct(
            rows.iter().map(|row| &row.sport),
            1 << 16,
            budget,
            |ports| port_intervals(ports),
        )?,
        dport: direct(
            rows.iter().map(|row| &row.dport),
            1 << 16,
            budget,
            |ports| port_intervals(ports),
        )?,
        src: address(rows.iter().map(|row| &row.src), sets, budget)?,
        dst: address(rows.iter().map(|row| &row.dst), sets, budget)?,
        words,
    })
}

/// The values `side * 256 + proto`.
fn head_intervals(&(direction, protos): &(Direction, ProtoSet)) -> Intervals {
    let sides = Side::BOTH.into_iter().filter(|side| direction.holds(*side));
    let values = sides.flat_map(|side| {
        protos
            .iter()
            .map(move |proto| side as u128 * 256 + u128::from(proto))
    });
    merge(values.map(|value| (value, value)).collect())
}

fn port_intervals(ports: &PortSet) -> Intervals {
    let ranges = ports.0.iter().filter(|(first, last)| first <= last);
    merge(
        ranges
            .map(|&(first, last)| (first.into(), last.into()))
            .collect(),
    )
}

/// What compiling may still take, and how long a bitset is.
struct Budget {
    words: usize,
    left: usize,
}

impl Budget {
    fn take(&mut self, bytes: usize) -> Result<(), CompileError> {
        self.left = self.left.checked_sub(bytes).ok_or(CompileError::TooLarge)?;
        Ok(())
    }
}

/// The distinct matches of a field, and the rows that ask for each: a thousand rows that name one set cost one sweep.
struct Matches<T> {
    distinct: Vec<T>,
    rows: Vec<Vec<u32>>,
}

impl<T: Clone + Eq + Hash> Matches<T> {
    fn collect(per_row: impl Iterator<Item = T>) -> Matches<T> {
        let (mut seen, mut distinct, mut rows) =
            (HashMap::new(), Vec::new(), Vec::<Vec<u32>>::new());
        for (row, wanted) in per_row.enumerate() {
            let at = *seen.entry(wanted).or_insert_with_key(|wanted: &T| {
                distinct.push(wanted.clone());
                rows.push(Vec::new());
                rows.len() - 1
            });
            rows[at].push(row as u32);
        }
        Matches { distinct, rows }
    }
}

/// Classes as they are found: a set of matches that hold together, and its number.
#[derive(Default)]
struct Classes {
    number: HashMap<Vec<u64>, u32>,
    bits: Vec<u64>,
}

impl Classes {
    /// The class of the values for which exactly the matches `held` (a bitset) hold.
    fn of<T>(
        &mut self,
        held: &[u64],
        matches: &Matches<T>,
        budget: &mut Budget,
    ) -> Result<u32, CompileError> {
        if let Some(class) = self.number.get(held) {
            return Ok(*class);
        }
        budget.take(budget.words * 8 + size_of_val(held))?;
        let start = self.bits.len();
        self.bits.resize(start + budget.words, 0);
        for (word, &bits) in held.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                for &row in &matches.rows[word * 64 + bits.trailing_zeros() as usize] {
                    self.bits[start + row as usize / 64] |= 1 << (row % 64);
                }
                bits &= bits - 1;
            }
        }
        let class = self.number.len() as u32;
        self.number.insert(held.to_vec(), class);
        Ok(class)
    }

    /// Walks over the ends of the intervals of every match: where each run of values of one class starts (the first
    /// at 0), and its class.
    fn sweep<T>(
        &mut self,
        matches: &Matches<T>,
        max: u128,
        budget: &mut Budget,
        intervals: impl Fn(&T) -> Intervals,
    ) -> Result<(Vec<u128>, Vec<u32>), CompileError> {
        let mut flips = Vec::new();
        for (at, wanted) in matches.distinct.iter().enumerate() {
            for (first, last) in intervals(wanted) {
                flips.push((first, at));
                if last < max {
                    flips.push((last + 1, at));
                }
            }
        }
        budget.take(flips.len() * size_of::<(u128, u32)>())?;
        flips.sort_unstable();
        let mut held = vec![0; matches.distinct.len().div_ceil(64)];
        let (mut starts, mut class) = (Vec::new(), Vec::new());
        if flips.first().is_none_or(|flip| flip.0 != 0) {
            starts.push(0);
            class.push(self.of(&held, matches, budget)?);
        }
        for flips in flips.chunk_by(|a, b| a.0 == b.0) {
            flips
                .iter()
                .for_each(|(_, at)| held[at / 64] ^= 1 << (at % 64));
            starts.push(flips[0].0);
            class.push(self.of(&held, matches, budget)?);
        }
        Ok((starts, class))
    }
}

/// A field of `values` values whose class is looked up by the value itself.
fn direct<T: Clone + Eq + Hash>(
    per_row: impl Iterator<Item = T>,
    values: usize,
    budget: &mut Budget,
    intervals: impl Fn(&T) -> Intervals,
) -> Result<Field<Vec<u32>>, CompileError> {
    budget.take(values * size_of::<u32>())?;
    let matches = Matches::collect(per_row);
    let mut classes = Classes::default();
    let (starts, class) = classes.sweep(&matches, values as u128 - 1, budget, intervals)?;
    let mut index = Vec::with_capacity(values);
    let ends = starts
        .iter()
        .skip(1)
        .map(|start| *start as usize)
        .chain([values]);
    for (class, end) in class.into_iter().zip(ends) {
        index.resize(end, class);
    }
    Ok(Field {
        index,
        bits: classes.bits,
    })
}

/// An address field: each family has intervals of its own, and both share the classes.
fn address<'a>(
    per_row: impl Iterator<Item = &'a super::AddrMatch>,
    sets: &[Set],
    budget: &mut Budget,
) -> Result<Field<AddrIndex>, CompileError> {
    let matches = Matches::collect(per_row);
    let mut classes = Classes::default();
    let mut sweep = |family: Family| {
        classes.sweep(&matches, family.max(), budget, |wanted| {
            wanted.intervals(sets, family)
        })
    };
    let (v4_starts, v4_class) = sweep(Family::V4)?;
    let (v6_starts, v6_class) = sweep(Family::V6)?;
    let v4_starts = v4_starts.into_iter().map(|start| start as u32).collect();
    Ok(Field {
        index: AddrIndex {
            v4_starts,
            v4_class,
            v6_starts,
            v6_class,
        },
        bits: classes.bits,
    })
}
