//! One field of the bitsets: which values no row tells apart (a class), and which rows each class satisfies.

use super::CompileError;
use super::plan::{BitField, Form, Line};
use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};

/// Sorted, disjoint intervals, both ends included.
pub(super) type Intervals = Vec<(u128, u128)>;

/// The distinct matches of a field, and the rows that ask for each: a thousand rows that name one set cost one sweep.
pub(super) struct Matches<T> {
    distinct: Vec<T>,
    rows: Vec<Vec<u32>>,
    /// A random number for each match: those of the matches that hold together, XORed, name their class.
    tokens: Vec<u128>,
}

impl<T: Clone + Eq + Hash> Matches<T> {
    pub fn collect(per_row: impl Iterator<Item = T>) -> Matches<T> {
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
        let (high, low) = (RandomState::new(), RandomState::new());
        let token = |at: usize| u128::from(high.hash_one(at)) << 64 | u128::from(low.hash_one(at));
        Matches {
            tokens: (0..distinct.len()).map(token).collect(),
            distinct,
            rows,
        }
    }
}

impl<T> Matches<T> {
    /// The rows of the matches `held`, a bitset over `rows` rows.
    pub fn rows_of(&self, held: &[u64], rows: usize) -> Vec<u64> {
        let mut set = vec![0u64; rows.div_ceil(64)];
        self.each_row(held, |row| set[row / 64] |= 1 << (row % 64));
        set
    }

    fn each_row(&self, held: &[u64], mut with: impl FnMut(usize)) {
        for (word, &bits) in held.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                for &row in &self.rows[word * 64 + bits.trailing_zeros() as usize] {
                    with(row as usize);
                }
                bits &= bits - 1;
            }
        }
    }
}

/// The classes of a field. Several sweeps (one for each address family) may share them.
pub(super) struct Classes {
    number: HashMap<u128, u32>,
}

/// Where each run of values of one class starts, the first at 0, and its class.
pub(super) struct Runs {
    pub starts: Vec<u128>,
    pub class: Vec<u32>,
}

/// A value from which on a match holds, or no longer holds.
type Flip = (u128, u32);

fn flips<T>(matches: &Matches<T>, max: u128, intervals: impl Fn(&T) -> Intervals) -> Vec<Flip> {
    let mut flips = Vec::new();
    for (at, wanted) in matches.distinct.iter().enumerate() {
        for (first, last) in intervals(wanted) {
            flips.push((first, at as u32));
            if last < max {
                flips.push((last + 1, at as u32));
            }
        }
    }
    flips.sort_unstable();
    flips
}

impl Classes {
    pub fn new() -> Classes {
        Classes {
            number: HashMap::new(),
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.number.len()
    }

    /// Walks over the ends of the intervals of every match. `found` is told of each new class and the matches that
    /// hold in it, a bitset.
    pub fn sweep<T>(
        &mut self,
        matches: &Matches<T>,
        max: u128,
        intervals: impl Fn(&T) -> Intervals,
        mut found: impl FnMut(&[u64]) -> Result<(), CompileError>,
    ) -> Result<Runs, CompileError> {
        let flips = flips(matches, max, intervals);
        let mut held = vec![0u64; matches.distinct.len().div_ceil(64)];
        let mut name = 0;
        let mut runs = Runs {
            starts: Vec::new(),
            class: Vec::new(),
        };
        let mut at = 0;
        while at < flips.len() || runs.starts.is_empty() {
            let start = match flips.get(at) {
                Some(flip) if flip.0 == 0 || !runs.starts.is_empty() => flip.0,
                _ => 0,
            };
            while let Some(flip) = flips.get(at).filter(|flip| flip.0 == start) {
                held[flip.1 as usize / 64] ^= 1 << (flip.1 % 64);
                name ^= matches.tokens[flip.1 as usize];
                at += 1;
            }
            let class = match self.number.get(&name) {
                Some(class) => *class,
                None => {
                    found(&held)?;
                    let class = self.number.len() as u32;
                    self.number.insert(name, class);
                    class
                }
            };
            if runs.class.last() != Some(&class) {
                runs.starts.push(start);
                runs.class.push(class);
            }
        }
        Ok(runs)
    }

    /// The class of a value for which exactly the matches hold that `holds` says.
    pub fn holding<T>(
        &mut self,
        matches: &Matches<T>,
        holds: impl Fn(&T) -> bool,
        mut found: impl FnMut(&[u64]) -> Result<(), CompileError>,
    ) -> Result<u32, CompileError> {
        let mut held = vec![0u64; matches.distinct.len().div_ceil(64)];
        let mut name = 0;
        for at in (0..matches.distinct.len()).filter(|at| holds(&matches.distinct[*at])) {
            held[at / 64] |= 1 << (at % 64);
            name ^= matches.tokens[at];
        }
        if let Some(class) = self.number.get(&name) {
            return Ok(*class);
        }
        found(&held)?;
        let class = self.number.len() as u32;
        self.number.insert(name, class);
        Ok(class)
    }
}

/// Collects the bits of the classes of one field.
pub(super) struct Bits<'b> {
    pub field: BitField,
    form: Form,
    words: usize,
    /// Bytes that may still be taken, by all fields.
    left: &'b mut usize,
}

impl<'b> Bits<'b> {
    pub fn new(form: Form, words: usize, left: &'b mut usize) -> Bits<'b> {
        Bits {
            field: BitField::default(),
            form,
            words,
            left,
        }
    }

    /// Adds a class: the rows of the matches `held`.
    pub fn push<T>(&mut self, held: &[u64], matches: &Matches<T>) -> Result<(), CompileError> {
        let mut set = vec![0u64; self.words];
        matches.each_row(held, |row| set[row / 64] |= 1 << (row % 64));
        self.add(&set)
    }

    fn add(&mut self, set: &[u64]) -> Result<(), CompileError> {
        match self.form {
            Form::Dense if self.words < 8 => {
                // Short sets share lines: filled up by `finish`.
                self.take(self.words * 8)?;
                self.field.sparse.words.extend_from_slice(set);
            }
            Form::Dense => {
                self.take(self.words * 8)?;
                let lines = set.chunks_exact(8).map(|line| {
                    let mut words = [0; 8];
                    words.copy_from_slice(line);
                    Line(words)
                });
                self.field.lines.extend(lines);
            }
            Form::Aggregated => {
                for group in set.chunks(64) {
                    let used = group.iter().enumerate().filter(|(_, word)| **word != 0);
                    let mut summary = 0;
                    let start = self.field.sparse.words.len() as u32;
                    for (at, word) in used {
                        summary |= 1u64 << at;
                        self.field.sparse.words.push(*word);
                    }
                    self.field.sparse.summary.push(summary);
                    self.field.sparse.starts.push(start);
                    self.take(12 + summary.count_ones() as usize * 8)?;
                }
            }
        }
        Ok(())
    }

    fn take(&mut self, bytes: usize) -> Result<(), CompileError> {
        *self.left = self.left.checked_sub(bytes).ok_or(CompileError::TooLarge)?;
        Ok(())
    }

    /// The field. Where the sets are shorter than a line they are put into lines here.
    pub fn finish(mut self) -> BitField {
        if self.form == Form::Dense && self.words < 8 {
            let words = std::mem::take(&mut self.field.sparse.words);
            let line = |words: &[u64]| {
                let mut line = [0; 8];
                line[..words.len()].copy_from_slice(words);
                Line(line)
            };
            self.field.lines = words.chunks(8).map(line).collect();
        }
        self.field
    }
}
