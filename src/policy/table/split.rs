//! Lists that are too long to be compared as a whole: one more field takes the rows apart, by a cache line of
//! separators.

use super::plan::FANOUT;
use super::rows::Span;

/// A list, taken apart.
pub(super) struct Split {
    /// The field: source lane, destination lane, source port, destination port.
    pub field: usize,
    /// The last value of each child but the last one.
    pub ends: Vec<u16>,
    /// The rows of each child.
    pub children: Vec<Vec<u32>>,
}

/// Chunks of `per_chunk` that so many rows take, one where there are none: a key looks at one in any case.
fn chunks(rows: usize, per_chunk: usize) -> f64 {
    rows.div_ceil(per_chunk).max(1) as f64
}

/// Takes a list apart by the field that leaves the shortest ones, where that helps. `span` gives a row's range in a field.
pub(super) fn split(
    list: &[u32],
    home: usize,
    per_chunk: usize,
    span: impl Fn(u32, usize) -> Span,
) -> Option<Split> {
    if list.len() <= per_chunk {
        return None;
    }
    let mut best: Option<(f64, usize, Vec<u32>)> = None;
    for field in (0..4).filter(|field| *field != home) {
        let spans: Vec<Span> = list.iter().map(|row| span(*row, field)).collect();
        let mut ends: Vec<u32> = spans
            .iter()
            .flat_map(|(first, last)| [first.checked_sub(1), Some(*last)])
            .flatten()
            .filter(|end| *end < 65_535)
            .collect();
        ends.sort_unstable();
        ends.dedup();
        let most = FANOUT - 1;
        if ends.len() > most {
            ends = (0..most).map(|at| ends[at * ends.len() / most]).collect();
        }
        if ends.is_empty() {
            continue;
        }
        let mut rows = vec![0; ends.len() + 1];
        let covered: Vec<_> = spans.iter().map(|span| children(&ends, *span)).collect();
        for children in &covered {
            children.clone().for_each(|child| rows[child] += 1);
        }
        // What a packet meets that matches one of the rows, and is anywhere in it.
        let met = |children: &std::ops::RangeInclusive<usize>| {
            let count = children.clone().count() as f64;
            children
                .clone()
                .map(|child| chunks(rows[child], per_chunk))
                .sum::<f64>()
                / count
        };
        let cost = covered.iter().map(met).sum::<f64>() / list.len() as f64;
        if best.as_ref().is_none_or(|(least, ..)| cost < *least) {
            best = Some((cost, field, ends));
        }
    }
    let (cost, field, ends) = best?;
    if cost + 0.25 > chunks(list.len(), per_chunk) {
        return None;
    }
    let mut rows = vec![Vec::new(); ends.len() + 1];
    for row in list {
        for child in children(&ends, span(*row, field)) {
            rows[child].push(*row);
        }
    }
    Some(Split {
        field,
        ends: ends.into_iter().map(|end| end as u16).collect(),
        children: rows,
    })
}

/// The children that a range reaches.
fn children(ends: &[u32], (first, last): Span) -> std::ops::RangeInclusive<usize> {
    let child = |value: u32| ends.partition_point(|end| *end < value);
    child(first)..=child(last)
}

/// Whether the lists of a home get shorter by more than `worth` chunks, on average over their rows, if keys go through
/// separators.
pub(super) fn pays(lists: &[(usize, Option<Split>)], per_chunk: usize, worth: f64) -> bool {
    let (mut rows, mut saved) = (0.0, 0.0);
    for (len, split) in lists {
        rows += *len as f64;
        if let Some(split) = split {
            let left: f64 = split
                .children
                .iter()
                .map(|child| child.len() as f64 * chunks(child.len(), per_chunk))
                .sum();
            let all: f64 = split.children.iter().map(|child| child.len() as f64).sum();
            saved += *len as f64 * (chunks(*len, per_chunk) - left / all.max(1.0));
        }
    }
    saved > worth * rows
}
