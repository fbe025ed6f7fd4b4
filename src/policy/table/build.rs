//! Clauses to a [`Plan`]: who gets a home, the classes of every field, and the arrays put together.

use super::CompileError;
use super::fields::{Swept, fields, spread, words};
use super::homes::{self, Assigned, Choice, Chunks};
use super::kernel::Kernel;
use super::plan::{
    AddrField, AddrRecord, Chunk, HEADS, HeadRecord, NO_LANE, Plan, PortField, field,
};
use super::rows::{self, Pieces, Space};
use super::search::{Search32, Search128};
use super::sweep::Runs;
use crate::policy::RuleId;
use crate::policy::addr::Set;
use crate::policy::rule::Clause;

/// Up to this many rows all of them are put into bitsets of one word, which nothing beats.
const FEW: usize = 64;
/// Bytes of lists that the caches next to a core hold beside everything else.
const NEAR: usize = 256 << 10;

/// How many bits past the last word the kernels may point to where there is none, and one.
const NONE: usize = 65;

/// What compiling may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes: a policy that needs more is refused.
    pub most: usize,
    /// Bytes of whole bitsets, beyond which they are kept aggregated.
    pub dense: usize,
}

/// Compiles the rows; `rule_of_row` is ascending.
pub(super) fn build(
    rows: &[&Clause],
    rule_of_row: &[RuleId],
    sets: &[Set],
    budget: Budget,
) -> Result<Plan, CompileError> {
    let housing = (rows.len() > FEW).then(|| house(rows, sets)).flatten();
    let in_bits: Vec<u32> = match &housing {
        Some((_, assigned)) => (0..rows.len() as u32)
            .filter(|row| !assigned.housed[*row as usize])
            .collect(),
        None => (0..rows.len() as u32).collect(),
    };
    let chunks = housing
        .as_ref()
        .map(|(pieces, assigned)| homes::pack(pieces, assigned, rule_of_row));
    let clauses: Vec<&Clause> = in_bits.iter().map(|row| rows[*row as usize]).collect();
    let mut fields = fields(&clauses, sets, budget)?;
    let lines = fields.join();
    let bases: [u32; 5] = std::array::from_fn(|field| fields.bits[field].base);
    let addr = |at: usize, runs: Swept| {
        let homes = housing.as_ref().zip(chunks.as_ref());
        let homes = homes.map(|((pieces, _), chunks)| {
            let space = [&pieces.src, &pieces.dst][at];
            (space, &chunks.starts[at], &chunks.lanes[at])
        });
        address(&runs, homes, fields.unit, bases[at])
    };
    let (src, dst) = (
        addr(0, std::mem::take(&mut fields.swept[field::SRC])),
        addr(1, std::mem::take(&mut fields.swept[field::DST])),
    );
    let port = |at: usize| {
        let homes = housing.as_ref().zip(chunks.as_ref());
        let homes = homes.map(|((_, assigned), chunks)| {
            (
                &assigned.ports[at],
                &chunks.starts[at + 2],
                assigned.is_used(at + 2),
            )
        });
        let field = field::SPORT + at;
        port(&fields.swept[field], homes, bases[field])
    };
    let (sport, dport) = (port(0), port(1));
    let swept = &fields.swept[field::HEAD];
    let heads = heads(swept, housing.as_ref(), fields.unit, bases[field::HEAD]);
    let used = |home: usize| {
        housing
            .as_ref()
            .is_some_and(|(_, assigned)| assigned.is_used(home))
    };
    let Chunks {
        chunks,
        rule_of_lane,
        long,
        ..
    } = chunks.unwrap_or_else(Chunks::none);
    let last_rule = rule_of_row.last().map_or(0, |rule| rule.0);
    let plan = Plan {
        src,
        dst,
        sport,
        dport,
        heads,
        head_count: housing
            .as_ref()
            .map_or(1, |(pieces, _)| pieces.head_count as u32),
        extras: fields.extras,
        form: fields.form,
        words: fields.words,
        unit: fields.unit,
        lines,
        bits: fields.bits,
        wide_rows: in_bits.len(),
        last_rule,
        rule_of_bit: in_bits
            .iter()
            .map(|row| rule_of_row[*row as usize].0)
            .chain(std::iter::repeat(last_rule))
            .take(fields.words * 64 + NONE)
            .collect(),
        far: chunks.len() * size_of::<Chunk>() > NEAR,
        homes: std::array::from_fn(used),
        chunks,
        rule_of_lane,
        long,
    };
    if plan.memory() > budget.most {
        return Err(CompileError::TooLarge);
    }
    Ok(plan)
}

/// Tries who should have a home, by an estimate of what a lookup then costs.
fn house(rows: &[&Clause], sets: &[Set]) -> Option<(Pieces, Assigned)> {
    let pieces = rows::pieces(rows, sets);
    let addresses = [true, true, false, false];
    let services = [true, true, false, true];
    let choices = [
        (addresses, 8),
        (addresses, 16),
        (services, 8),
        (services, 16),
        (services, 32),
        ([true; 4], 16),
        ([true; 4], 32),
    ];
    let mut best: Option<(f64, Assigned)> = None;
    for (homes, longest) in choices {
        let assigned = homes::assign(&pieces, Choice { homes, longest });
        let cost = cost(&assigned);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, assigned));
        }
    }
    let all_in_bits = bits_cost(rows.len());
    best.filter(|(cost, _)| *cost < all_in_bits)
        .map(|(_, assigned)| (pieces, assigned))
}

/// About how many nanoseconds a packet spends past the classes of its fields, as measured on one machine: only the
/// ratios matter.
fn cost(assigned: &Assigned) -> f64 {
    let wide = assigned.housed.iter().filter(|housed| !**housed).count();
    let homes = (0..4).filter(|home| assigned.is_used(*home));
    let lists = homes.map(|home| 3.0 + 2.5 * (assigned.chunks(home) - 1.0));
    bits_cost(wide) + lists.sum::<f64>()
}

fn bits_cost(rows: usize) -> f64 {
    0.5 + 0.25 * words(rows) as f64
}

/// One address field: the intervals of the bitsets and the cells of the homes, laid over each other.
fn address(
    swept: &Swept,
    homes: Option<(&Space, &Vec<u32>, &Vec<u16>)>,
    unit: usize,
    base_of_bits: u32,
) -> AddrField {
    let whole = [0];
    let (mut bits, mut records) = (Vec::new(), Vec::new());
    let mut family = |runs: &Runs, cells: &[u128], base: usize| -> Vec<u128> {
        let mut starts = [&runs.starts[..], cells].concat();
        starts.sort_unstable();
        starts.dedup();
        let (mut run, mut cell) = (0, 0);
        for start in &starts {
            run += usize::from(runs.starts.get(run + 1) == Some(start));
            cell += usize::from(cells.get(cell + 1) == Some(start));
            let at = base + cell;
            bits.push(base_of_bits + runs.class[run] * unit as u32);
            records.extend(homes.map(|(_, lists, lanes)| AddrRecord {
                list: lists.get(at).copied().unwrap_or(0),
                lane: lanes[at].into(),
            }));
        }
        starts
    };
    let (four, six) = match homes {
        Some((space, _, _)) => (&space.v4[..], &space.v6[..]),
        None => (&whole[..], &whole[..]),
    };
    let v4 = family(&swept.runs[0], four, 0);
    let v6 = family(&swept.runs[1], six, four.len());
    bits.push(base_of_bits + swept.none * unit as u32);
    records.extend(homes.map(|_| AddrRecord {
        list: 0,
        lane: NO_LANE,
    }));
    let keys: Vec<u32> = v4[1..].iter().map(|start| *start as u32).collect();
    AddrField {
        v4: Search32::new(&keys, Kernel::best().root()),
        v6: Search128::new(&v6[1..]),
        v6_base: v4.len() as u32,
        bits,
        records,
    }
}

/// One port field.
fn port(swept: &Swept, homes: Option<(&Vec<u32>, &Vec<u32>, bool)>, base: u32) -> PortField {
    let runs = &swept.runs[0];
    let starts: Vec<u32> = runs.starts.iter().map(|start| *start as u32).collect();
    let home = homes.filter(|(_, _, used)| *used);
    PortField {
        class: if runs.class.len() > 1 {
            spread(&starts, |at| runs.class[at], 65_536)
        } else {
            vec![0]
        },
        base,
        mask: if runs.class.len() > 1 { u16::MAX } else { 0 },
        cell: home.map_or_else(Vec::new, |(cells, _, _)| {
            spread(cells, |at| at as u32, 65_536)
        }),
        lists: home.map_or_else(Vec::new, |(_, lists, _)| lists.clone()),
    }
}

/// By `side << 8 | protocol`.
fn heads(
    swept: &Swept,
    housing: Option<&(Pieces, Assigned)>,
    unit: usize,
    base: u32,
) -> Vec<HeadRecord> {
    let runs = &swept.runs[0];
    let starts: Vec<u32> = runs.starts.iter().map(|start| *start as u32).collect();
    let classes: Vec<u32> = spread(&starts, |at| runs.class[at], HEADS);
    let record = |(value, class): (usize, &u32)| {
        let head = housing.map_or(0, |(pieces, _)| pieces.head_of[value]);
        HeadRecord {
            bits: base + class * unit as u32,
            head: head.into(),
            mask: 1 << head,
        }
    };
    classes.iter().enumerate().map(record).collect()
}
