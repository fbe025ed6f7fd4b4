//! The bitsets of every field of some rows.

use super::CompileError;
use super::build::Budget;
use super::plan::{BitField, Extra, ExtraField, Form, HEADS, Line};
use super::rows::{head_intervals, port_intervals};
use super::sweep::{Bits, Classes, Intervals, Matches, Runs};
use crate::policy::addr::{AddrMatch, Family, Set};
use crate::policy::rule::{AppSet, Clause, FlagMatch, MacMatch, PortSet};
use std::collections::BTreeSet;
use std::hash::Hash;

/// The sweeps of a field, and the class of frames without addresses.
#[derive(Default)]
pub(super) struct Swept {
    pub runs: Vec<Runs>,
    pub none: u32,
}

/// The bitsets of every field.
pub(super) struct Fields {
    pub swept: [Swept; 5],
    pub bits: [BitField; 5],
    pub extras: Vec<Extra>,
    pub form: Form,
    pub words: usize,
    pub unit: usize,
}

impl Fields {
    /// Takes the lines of all fields together, and notes where each one's start.
    pub fn join(&mut self) -> Vec<Line> {
        let mut lines = Vec::new();
        let extras = self.extras.iter_mut().map(|extra| &mut extra.bits);
        for field in self.bits.iter_mut().chain(extras) {
            field.base = (lines.len() * 8) as u32;
            lines.append(&mut field.lines);
        }
        lines
    }
}

/// The intervals in which a match holds.
type Of<'a, T> = Box<dyn Fn(&T) -> Intervals + 'a>;

/// A field as it is swept: its matches, the domains of its values, and which matches hold without a value.
struct Field<'a, T> {
    matches: Matches<T>,
    domains: Vec<(u128, Of<'a, T>)>,
    none: Option<fn(&T) -> bool>,
}

impl<'a, T: Clone + Eq + Hash> Field<'a, T> {
    fn new(
        per_row: impl Iterator<Item = T>,
        max: u128,
        intervals: impl Fn(&T) -> Intervals + 'a,
    ) -> Field<'a, T> {
        Field {
            matches: Matches::collect(per_row),
            domains: vec![(max, Box::new(intervals))],
            none: None,
        }
    }

    /// Walks over all domains; numbers are given in the same order every time.
    fn sweep(
        &self,
        mut found: impl FnMut(&[u64]) -> Result<(), CompileError>,
    ) -> Result<(Swept, usize), CompileError> {
        let mut classes = Classes::new();
        let mut swept = Swept::default();
        for (max, intervals) in &self.domains {
            swept
                .runs
                .push(classes.sweep(&self.matches, *max, intervals, &mut found)?);
        }
        if let Some(holds) = self.none {
            swept.none = classes.holding(&self.matches, holds, &mut found)?;
        }
        Ok((swept, classes.count()))
    }

    fn count(&self) -> Result<usize, CompileError> {
        Ok(self.sweep(|_| Ok(()))?.1)
    }

    fn bits(
        &self,
        form: Form,
        words: usize,
        left: &mut usize,
    ) -> Result<(Swept, BitField), CompileError> {
        let mut bits = Bits::new(form, words, left);
        let (swept, _) = self.sweep(|held| bits.push(held, &self.matches))?;
        Ok((swept, bits.finish()))
    }
}

/// An address expression, and whether its row names ethertypes: only such a row holds for a frame that is not IP.
type AddrWanted<'a> = (&'a AddrMatch, bool);

fn address_field<'a>(
    per_row: impl Iterator<Item = AddrWanted<'a>>,
    sets: &'a [Set],
) -> Field<'a, AddrWanted<'a>> {
    let of = |family: Family| {
        let intervals: Of<AddrWanted> =
            Box::new(move |(wanted, _): &AddrWanted<'a>| wanted.intervals(sets, family));
        (family.max(), intervals)
    };
    Field {
        matches: Matches::collect(per_row),
        domains: vec![of(Family::V4), of(Family::V6)],
        none: Some(|(wanted, link)| wanted.is_any() && *link),
    }
}

/// Every value of 0 to `max` that `holds`, as intervals.
fn where_it_holds(max: u128, holds: impl Fn(usize) -> bool) -> Intervals {
    let values = (0..=max).filter(|value| holds(*value as usize));
    crate::policy::addr::merge(values.map(|value| (value, value)).collect())
}

/// Compiles every field of the rows.
pub(super) fn fields(
    rows: &[&Clause],
    sets: &[Set],
    budget: Budget,
) -> Result<Fields, CompileError> {
    let link = |row: &Clause| row.ethertype.is_some();
    let src = address_field(rows.iter().map(|row| (&row.src, link(row))), sets);
    let dst = address_field(rows.iter().map(|row| (&row.dst, link(row))), sets);
    let sport = Field::new(rows.iter().map(|row| &row.sport), 65_535, |ports| {
        port_intervals(ports)
    });
    let dport = Field::new(rows.iter().map(|row| &row.dport), 65_535, |ports| {
        port_intervals(ports)
    });
    let head = Field::new(
        rows.iter().map(|row| (row.direction, row.protos)),
        HEADS as u128 - 1,
        |&(direction, protos)| head_intervals(direction, protos),
    );
    let counts = [
        src.count()?,
        dst.count()?,
        sport.count()?,
        dport.count()?,
        head.count()?,
    ];
    let words = words(rows.len());
    let dense = counts.iter().sum::<usize>() * words * 8;
    let form = if dense > budget.dense {
        Form::Aggregated
    } else {
        Form::Dense
    };
    let mut left = budget.most;
    let left = &mut left;
    let mut made = [
        src.bits(form, words, left)?,
        dst.bits(form, words, left)?,
        sport.bits(form, words, left)?,
        dport.bits(form, words, left)?,
        head.bits(form, words, left)?,
    ];
    Ok(Fields {
        extras: extras(rows, form, words, left)?,
        swept: std::array::from_fn(|at| std::mem::take(&mut made[at].0)),
        bits: std::array::from_fn(|at| std::mem::take(&mut made[at].1)),
        form,
        words,
        unit: match form {
            Form::Dense => words,
            Form::Aggregated => words.div_ceil(64),
        },
    })
}

/// The fields that few policies ask for, where this one does.
fn extras(
    rows: &[&Clause],
    form: Form,
    words: usize,
    left: &mut usize,
) -> Result<Vec<Extra>, CompileError> {
    let mut extras = Vec::new();
    let numbers = |wanted: &Option<&PortSet>| match wanted {
        Some(ports) => port_intervals(ports),
        None => vec![(0, 65_535)],
    };
    let mut direct = |field: ExtraField, wanted: Vec<Option<&PortSet>>| {
        if wanted.iter().all(Option::is_none) {
            return Ok(());
        }
        let swept = Field::new(wanted.into_iter(), 65_535, numbers).bits(form, words, left)?;
        extras.push(extra(field, swept, 65_536, Vec::new()));
        Ok(())
    };
    direct(
        ExtraField::Ethertype,
        rows.iter().map(|row| row.ethertype.as_ref()).collect(),
    )?;
    let vlans = rows
        .iter()
        .map(|row| Some(&row.vlan).filter(|vlan| !vlan.is_any()));
    direct(ExtraField::Vlan, vlans.collect())?;
    if rows.iter().any(|row| !row.tcp_flags.0.is_empty()) {
        let holds = |wanted: &&FlagMatch| where_it_holds(255, |flags| wanted.contains(flags as u8));
        let flags = Field::new(rows.iter().map(|row| &row.tcp_flags), 255, holds);
        let swept = flags.bits(form, words, left)?;
        extras.push(extra(ExtraField::TcpFlags, swept, 256, Vec::new()));
    }
    if rows.iter().any(|row| row.fragment.is_some()) {
        let holds = |wanted: &Option<bool>| {
            where_it_holds(1, |value| {
                wanted.is_none_or(|wanted| wanted == (value == 1))
            })
        };
        let fragment = Field::new(rows.iter().map(|row| row.fragment), 1, holds);
        let swept = fragment.bits(form, words, left)?;
        extras.push(extra(ExtraField::Fragment, swept, 2, Vec::new()));
    }
    if rows.iter().any(|row| row.app.is_some()) {
        let last = u128::from(AppSet::PERMITTED);
        let holds = move |wanted: &Option<AppSet>| {
            where_it_holds(last, |app| {
                wanted.is_none_or(|wanted| wanted.contains(app as u8))
            })
        };
        let app = Field::new(rows.iter().map(|row| row.app), last, holds);
        let swept = app.bits(form, words, left)?;
        extras.push(extra(ExtraField::App, swept, last as usize + 1, Vec::new()));
    }
    if rows.iter().any(|row| !row.src_mac.is_any()) {
        let named = |mac: &MacMatch| [&mac.any_of[..], &mac.none_of[..]].concat();
        let mut macs: Vec<_> = rows.iter().flat_map(|row| named(&row.src_mac)).collect();
        macs.sort_unstable();
        macs.dedup();
        let known = &macs;
        let holds = move |wanted: &&MacMatch| macs_that_match(wanted, known);
        let field = Field::new(
            rows.iter().map(|row| &row.src_mac),
            macs.len() as u128,
            holds,
        );
        let swept = field.bits(form, words, left)?;
        let values = macs.len() + 1;
        drop(field);
        extras.push(extra(ExtraField::SrcMac, swept, values, macs));
    }
    Ok(extras)
}

/// The MAC addresses that match, as intervals of their places among the `known` ones, which are sorted, from 1 on; 0 is any other
/// address.
fn macs_that_match(wanted: &MacMatch, known: &[[u8; 6]]) -> Intervals {
    let places = |macs: &[[u8; 6]]| -> BTreeSet<u128> {
        let place = |mac| known.binary_search(mac).ok();
        let places = macs.iter().filter_map(place);
        places.map(|at| at as u128 + 1).collect()
    };
    let none = places(&wanted.none_of);
    if !wanted.any_of.is_empty() {
        let any = places(&wanted.any_of);
        let left = any.difference(&none);
        return crate::policy::addr::merge(left.map(|at| (*at, *at)).collect());
    }
    let mut first = 0;
    let mut intervals = Vec::new();
    for end in none.into_iter().chain([known.len() as u128 + 1]) {
        if first < end {
            intervals.push((first, end - 1));
        }
        first = end + 1;
    }
    intervals
}

fn extra(
    field: ExtraField,
    (swept, bits): (Swept, BitField),
    values: usize,
    macs: Vec<[u8; 6]>,
) -> Extra {
    let runs = &swept.runs[0];
    let starts: Vec<u32> = runs.starts.iter().map(|start| *start as u32).collect();
    Extra {
        field,
        class: spread(&starts, |at| runs.class[at], values),
        macs,
        bits,
    }
}

/// Words of a bitset over so many rows.
pub(super) fn words(rows: usize) -> usize {
    match rows.div_ceil(64) {
        0 | 1 => 1,
        2 => 2,
        3 | 4 => 4,
        more => more.next_multiple_of(8),
    }
}

/// By value, of the `values` values: what `of` says of the run that the value is in. It must fit `T`: of what has 65,536 values
/// no more than that differ.
pub(super) fn spread<T>(starts: &[u32], of: impl Fn(usize) -> u32, values: usize) -> Vec<T>
where
    T: TryFrom<u32> + Default + Clone,
{
    let mut out = Vec::with_capacity(values);
    let ends = starts.iter().skip(1).map(|start| *start as usize);
    for (at, end) in ends.chain([values]).enumerate() {
        out.resize(end, T::try_from(of(at)).unwrap_or_default());
    }
    out
}
