//! Clauses to a [`Plan`]: who gets a home, the classes of every field, and the arrays put together.

use super::CompileError;
use super::crossed::{self, Crossing};
use super::fields::{Swept, fields, spread, words};
use super::homes::{self, Assigned, Choice, Chunks};
use super::kernel::Kernel;
use super::plan::{
    AddrField, AddrRecord, Direct, HEADS, HOMES, HeadRecord, Home, LANES, NO_LANE, Plan, PortField,
    PortRecord, SIEVE_LANES, field, mode,
};
use super::rows::{self, Pieces};
use super::search::{Pivots, Search32, Search128};
use super::sweep::Runs;
use crate::policy::RuleId;
use crate::policy::addr::Set;
use crate::policy::rule::Clause;
use af_xdp::Array;

/// Up to this many rows all of them are put into bitsets even where these are looked at by slower code.
const FEW: usize = 64;
/// Bytes of a table up to which it does not pay to ask for cache lines ahead: a processor finds enough to do meanwhile.
const NEAR: usize = 6 << 20;
/// By how many chunks the lists of a home must get shorter, on average over their rows, for its keys to go through
/// separators.
const WORTH: f64 = 0.7;
/// Bytes of answers that are worth it in a table that is far larger than the caches.
const SMALL: usize = 16 << 20;

/// How many bits past the last word the kernels may point to where there is none, and one.
const NONE: usize = 65;

/// What compiling may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Bytes: a policy that needs more is refused.
    pub most: usize,
    /// Bytes of whole bitsets, beyond which they are kept aggregated.
    pub dense: usize,
    /// Up to this many rows all of them are put into bitsets, if all ask for addresses, ports and protocols alone.
    pub few: usize,
    /// Beyond so many rows lists are looked at through sieves, not as a whole.
    pub whole: usize,
    /// Whether rows go into lists, or are answered ahead, though bitsets would be looked up sooner.
    pub lists: bool,
    /// Pairs of source and destination classes, beyond which rows are not found by pairs.
    pub pairs: usize,
}

/// Compiles the rows; `rule_of_row` is ascending.
pub(super) fn build(
    rows: &[&Clause],
    rule_of_row: &[RuleId],
    sets: &[Set],
    budget: Budget,
) -> Result<Plan, CompileError> {
    // Bitsets that rows ask for more than addresses, ports and protocols of are looked at by slower code.
    let checked = !rows.iter().all(|row| rows::is_plain(row));
    let few = budget.few.min(if checked { FEW } else { usize::MAX });
    let housing = if rows.len() > few {
        house(rows, rule_of_row, sets, budget, checked)
    } else {
        None
    };
    let in_bits: Vec<u32> = match &housing {
        Some(housing) => (0..rows.len() as u32)
            .filter(|row| !housing.assigned.housed[*row as usize])
            .collect(),
        None => (0..rows.len() as u32).collect(),
    };
    let clauses: Vec<&Clause> = in_bits.iter().map(|row| rows[*row as usize]).collect();
    let mut fields = fields(&clauses, sets, budget)?;
    let lines = fields.join();
    let bases: [u32; 5] = std::array::from_fn(|field| fields.bits[field].base);
    let swept = std::mem::take(&mut fields.swept);
    let addr = |at: usize| address(&swept[at], housing.as_ref(), at, fields.unit, bases[at]);
    let (src, dst) = (addr(field::SRC), addr(field::DST));
    let port = |at: usize| {
        let field = field::SPORT + at;
        port(&swept[field], housing.as_ref(), at, bases[field])
    };
    let (sport, dport) = (port(0), port(1));
    let heads = heads(
        &swept[field::HEAD],
        housing.as_ref(),
        fields.unit,
        bases[field::HEAD],
    );
    // Whether some row outside the bitsets asks for the source port.
    let asks_sport = housing.as_ref().is_some_and(|housing| {
        let mut pieces = housing.pieces.pieces.iter();
        pieces.any(|piece| piece.spans[2] != (0, 65_535))
    });
    let (pieces, assigned, mut chunks, mut crossing) = match housing {
        Some(housing) => (
            Some(housing.pieces),
            Some(housing.assigned),
            housing.chunks,
            housing.crossing,
        ),
        None => (None, None, Chunks::none(), None),
    };
    let homes: [bool; HOMES] =
        std::array::from_fn(|home| assigned.as_ref().is_some_and(|it| it.is_used(home)));
    let pairs = assigned.and_then(|assigned| assigned.pairs);
    if let Some(crossing) = crossing.as_mut().filter(|_| !asks_sport) {
        crossing.table.forget_sport();
    }
    let last_rule = rule_of_row.last().map_or(0, |rule| rule.0);
    let bytes = std::mem::take(&mut chunks.bytes);
    let mut plan = Plan {
        src,
        dst,
        sport,
        dport,
        heads,
        head_count: pieces.map_or(1, |pieces| pieces.head_count as u32),
        extras: fields.extras,
        form: fields.form,
        words: fields.words,
        unit: fields.unit,
        asks_sport: clauses.iter().any(|row| !row.sport.is_any()),
        lines: lines.into(),
        bits: fields.bits,
        wide_rows: in_bits.len(),
        last_rule,
        rule_of_bit: in_bits
            .iter()
            .map(|row| rule_of_row[*row as usize].0)
            .chain(std::iter::repeat(last_rule))
            .take(fields.words * 64 + NONE)
            .collect(),
        far: false,
        mode: mode(&homes, &chunks, crossing.is_some(), asks_sport),
        homes,
        crossed: crossing.map(|crossing| crossing.table).unwrap_or_default(),
        pairs: pairs.map_or_else(Array::default, |pairs| {
            let starts = &chunks.starts[Home::Pair as usize];
            let of_list = pairs.list_of.iter().map(|list| starts[*list as usize]);
            of_list.collect()
        }),
        entries: chunks.entries.into(),
        nodes: chunks.nodes.into(),
        children: chunks.children.into(),
        chunks: chunks.chunks.into(),
        rule_of_lane: chunks.rule_of_lane.into(),
        sieves: chunks.sieves.into(),
        rows: chunks.rows.into(),
    };
    if plan.mode & mode::SIFTED != 0 {
        let [sport, dport] = [&bytes[2], &bytes[3]];
        gather(&mut plan.sport, &mut plan.crossed.sport, sport);
        gather(&mut plan.dport, &mut plan.crossed.dport, dport);
    }
    plan.far = plan.memory() > NEAR;
    if plan.memory() > budget.most {
        return Err(CompileError::TooLarge);
    }
    plan.settle();
    Ok(plan)
}

/// Puts together what is known of each port.
fn gather(field: &mut PortField, crossed: &mut Direct, bytes: &[u8]) {
    let of = |direct: &Direct, port: usize| match direct.len() {
        0 => 0,
        1 => direct[0],
        _ => direct[port],
    };
    let record = |port: usize| PortRecord {
        class: of(&field.class, port),
        cell: of(&field.cell, port),
        crossed: of(crossed, port),
        byte: bytes[port],
    };
    field.records = (0..65_536).map(record).collect();
    field.class = Array::default();
    field.cell = Array::default();
    *crossed = Array::default();
}

fn mode(homes: &[bool; HOMES], chunks: &Chunks, crossed: bool, sport: bool) -> u32 {
    let mut mode = 0;
    let mut set = |has: bool, what: u32| mode |= if has { what } else { 0 };
    set(crossed, mode::CROSSED);
    set(sport && (crossed || homes.contains(&true)), mode::SPORT);
    set(chunks.per_chunk == SIEVE_LANES, mode::SIFTED);
    for (home, used) in homes.iter().enumerate() {
        set(*used, mode::home(home));
        set(*used && chunks.split[home], mode::split(home));
    }
    mode
}

/// Where the rows are that are not in bitsets.
struct Housing {
    pieces: Pieces,
    crossing: Option<Crossing>,
    assigned: Assigned,
    chunks: Chunks,
}

/// Tries who should have a home, by an estimate of what a lookup then costs.
fn house(
    rows: &[&Clause],
    rule_of_row: &[RuleId],
    sets: &[Set],
    budget: Budget,
    checked: bool,
) -> Option<Housing> {
    let pieces = rows::pieces(rows, sets);
    let near = rows.len() <= budget.whole;
    // Far from the core a large table of answers costs more than the rows that it spares.
    let crossing = crossed::cross(&pieces, rule_of_row);
    let crossing = crossing.filter(|it| near || it.table.memory() <= SMALL);
    let taken = match &crossing {
        Some(crossing) => crossing.members.clone(),
        None => vec![false; pieces.pieces.len()],
    };
    let per_chunk = if near { LANES } else { SIEVE_LANES };
    let mut best: Option<(f64, Assigned)> = None;
    let mut choices = choices(near || budget.lists, budget);
    // Sieves do without pairs.
    choices.retain(|choice| near || !matches!(choice, Choice::Pairs(_)));
    for choice in choices {
        let Some(assigned) = homes::assign(&pieces, &taken, choice) else {
            continue;
        };
        let cost = cost(&assigned, per_chunk, checked);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            best = Some((cost, assigned));
        }
    }
    let (cost, assigned) = best?;
    let crossed = if crossing.is_some() { 2.0 } else { 0.0 };
    if !budget.lists && cost + crossed >= bits_cost(rows.len(), checked) {
        return None;
    }
    let worth = match (budget.lists, near) {
        (true, _) => 0.0,
        (_, true) => WORTH,
        (_, false) => f64::INFINITY,
    };
    let chunks = homes::pack(&pieces, &assigned, rule_of_row, per_chunk, worth);
    Some(Housing {
        pieces,
        crossing,
        assigned,
        chunks,
    })
}

/// Who may be a home. Where the tables fit the caches, lists may get long, since separators take them apart; where they do
/// not, each cache line counts, and of lists with sieves one line more is little against another home.
fn choices(near: bool, budget: Budget) -> Vec<Choice> {
    let fields = |homes, longest, by_dst| Choice::Fields {
        homes,
        longest,
        by_dst,
    };
    let addresses = [true, true, false, false];
    let services = [true, true, false, true];
    if near {
        vec![
            Choice::Pairs(budget.pairs),
            fields(addresses, 1024, true),
            fields(addresses, 1024, false),
            fields(services, 32, false),
            fields([true; 4], 32, false),
        ]
    } else {
        vec![
            fields(addresses, 48, false),
            fields(addresses, 96, false),
            fields(services, 24, false),
            fields(services, 48, false),
            fields([true; 4], 24, false),
            fields([true; 4], 48, false),
        ]
    }
}

/// About how many nanoseconds a packet spends past the classes of its fields, as measured on one machine: only the
/// ratios matter.
fn cost(assigned: &Assigned, per_chunk: usize, checked: bool) -> f64 {
    let wide = assigned.housed.iter().filter(|housed| !**housed).count();
    let list = |home: usize| {
        let chunks = assigned.chunks(home, per_chunk);
        if per_chunk == SIEVE_LANES {
            let first = if home < 2 { 8.0 } else { 13.5 };
            return first + 2.0 * (chunks - 1.0);
        }
        // Separators cost a step, and leave one chunk of up to some thirty; pairs have none.
        let apart = if home != Home::Pair as usize {
            0.6 + (chunks - 1.0) / 16.0
        } else {
            f64::INFINITY
        };
        3.0 + 2.5 * (chunks - 1.0).min(apart)
    };
    let homes = (0..HOMES).filter(|home| assigned.is_used(*home));
    let bits = if wide > 0 && per_chunk == SIEVE_LANES && !checked {
        // More than two lines are walked one by one.
        2.0 + 0.4 * (words(wide) + words(wide).saturating_sub(16)) as f64
    } else if wide > 0 {
        bits_cost(wide, checked)
    } else {
        0.0
    };
    bits + homes.map(list).sum::<f64>()
}

fn bits_cost(rows: usize, checked: bool) -> f64 {
    2.0 + if checked { 3.0 } else { 0.25 } * words(rows) as f64
}

/// One address field: the intervals of the bitsets and the cells of the homes, laid over each other.
fn address(
    swept: &Swept,
    housing: Option<&Housing>,
    at: usize,
    unit: usize,
    base_of_bits: u32,
) -> AddrField {
    let whole = [0];
    let (mut bits, mut records) = (Vec::new(), Vec::new());
    let record = |housing: &Housing, cell: Option<usize>, bits: u32| {
        let pairs = housing.assigned.pairs.as_ref();
        let (chunks, crossing) = (&housing.chunks, housing.crossing.as_ref());
        let list = cell.and_then(|cell| chunks.starts[at].get(cell).copied());
        let is_src = at == field::SRC;
        let pair = match (cell, pairs) {
            (_, None) if chunks.per_chunk == SIEVE_LANES => bits,
            (_, None) => 0,
            (Some(cell), Some(pairs)) => pairs.places[at][cell],
            (None, Some(pairs)) => {
                if is_src {
                    pairs.none
                } else {
                    0
                }
            }
        };
        let wide = match (cell, crossing) {
            (_, None) => 0,
            (Some(cell), Some(crossing)) => crossing.places[at][cell],
            (None, Some(crossing)) => {
                if is_src {
                    crossing.none
                } else {
                    0
                }
            }
        };
        let lane = cell.map_or(NO_LANE, |cell| chunks.lanes[at][cell]);
        AddrRecord {
            places: u64::from(wide) << 32 | u64::from(pair),
            list: list.unwrap_or(0),
            lane,
            byte: cell
                .and_then(|cell| chunks.bytes[at].get(cell).copied())
                .unwrap_or(0),
        }
    };
    let mut family = |runs: &Runs, cells: &[u128], base: usize| -> Vec<u128> {
        let mut starts = [&runs.starts[..], cells].concat();
        starts.sort_unstable();
        starts.dedup();
        let (mut run, mut cell) = (0, 0);
        for start in &starts {
            run += usize::from(runs.starts.get(run + 1) == Some(start));
            cell += usize::from(cells.get(cell + 1) == Some(start));
            let start = base_of_bits + runs.class[run] * unit as u32;
            bits.push(start);
            records.extend(housing.map(|housing| record(housing, Some(base + cell), start)));
        }
        starts
    };
    let space = housing.map(|housing| [&housing.pieces.src, &housing.pieces.dst][at]);
    let (four, six) = match space {
        Some(space) => (&space.v4[..], &space.v6[..]),
        None => (&whole[..], &whole[..]),
    };
    let v4 = family(&swept.runs[0], four, 0);
    let v6 = family(&swept.runs[1], six, four.len());
    let none = base_of_bits + swept.none * unit as u32;
    bits.push(none);
    records.extend(housing.map(|housing| record(housing, None, none)));
    // The highest value of each interval but the last.
    let ends: Vec<u32> = v4[1..].iter().map(|start| *start as u32 - 1).collect();
    let ends6: Vec<u128> = v6[1..].iter().map(|start| start - 1).collect();
    let search = Search32::new(&ends, Kernel::best().root(ends.len()));
    AddrField {
        pivots: Pivots::new(&search.root),
        v4: search,
        v6: Search128::new(&ends6),
        v6_base: v4.len() as u32,
        bits: bits.into(),
        records: records.into(),
    }
}

/// One port field.
fn port(swept: &Swept, housing: Option<&Housing>, at: usize, base: u32) -> PortField {
    let runs = &swept.runs[0];
    let starts: Vec<u32> = runs.starts.iter().map(|start| *start as u32).collect();
    let home = housing.filter(|housing| housing.assigned.is_used(at + 2));
    PortField {
        class: if runs.class.len() > 1 {
            spread(&starts, |at| runs.class[at], 65_536).into()
        } else {
            vec![0].into()
        },
        base,
        mask: if runs.class.len() > 1 { u16::MAX } else { 0 },
        cell: home.map_or_else(Array::default, |housing| {
            spread(&housing.assigned.ports[at], |at| at as u32, 65_536).into()
        }),
        lists: home.map_or_else(Array::default, |housing| {
            housing.chunks.starts[at + 2].clone().into()
        }),
        records: Array::default(),
    }
}

/// By `side << 8 | protocol`.
fn heads(swept: &Swept, housing: Option<&Housing>, unit: usize, base: u32) -> Array<HeadRecord> {
    let runs = &swept.runs[0];
    let starts: Vec<u32> = runs.starts.iter().map(|start| *start as u32).collect();
    let classes: Vec<u32> = spread(&starts, |at| runs.class[at], HEADS);
    let record = |(value, class): (usize, &u32)| {
        let head = housing.map_or(0, |housing| housing.pieces.head_of[value]);
        HeadRecord {
            bits: base + class * unit as u32,
            head: head.into(),
            mask: 1 << head,
        }
    };
    classes.iter().enumerate().map(record).collect()
}
