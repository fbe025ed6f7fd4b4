//! Rows found by both addresses at once: a list for each pair of a source and a destination class.

use super::crossed::Field;
use super::plan::LANES;
use super::rows::Pieces;
use std::collections::HashMap;

/// The most chunks of eight rows that the lists of pairs may take.
const MAX_CHUNKS: usize = 64 << 10;

/// The lists, and where each pair's is.
#[derive(Default)]
pub(super) struct Pairs {
    /// By address field and cell: what to add up for the place in `list_of`.
    pub places: [Vec<u32>; 2],
    /// The same of a source that is no address; of a destination it is 0.
    pub none: u32,
    /// By place: the list.
    pub list_of: Vec<u32>,
    /// The distinct lists of pieces, in order.
    pub lists: Vec<Vec<u32>>,
}

/// Pairs of the classes of those pieces that `wanted` names; `None` where there would be more than `most` pairs, or too
/// many lists.
pub(super) fn pairs(pieces: &Pieces, wanted: &[u32], most: usize) -> Option<Pairs> {
    if wanted.is_empty() {
        return None;
    }
    let field = |field: usize, cells| {
        let pieces = wanted.iter().map(|at| &pieces.pieces[*at as usize]);
        Field::of(pieces.map(|piece| piece.spans[field]), cells)
    };
    let (src, dst) = (field(0, pieces.src.cells())?, field(1, pieces.dst.cells())?);
    let width = dst.sets.len();
    if src.sets.len() * width > most {
        return None;
    }
    let mut lists = vec![Vec::new()];
    let mut known: HashMap<Vec<u32>, u32> = HashMap::from([(Vec::new(), 0)]);
    let mut list_of = Vec::with_capacity(src.sets.len() * width + 1);
    let mut chunks = 0;
    let mut list = Vec::new();
    for a in &src.sets {
        for b in &dst.sets {
            list.clear();
            for (word, (a, b)) in a.iter().zip(b).enumerate() {
                let mut bits = a & b;
                while bits != 0 {
                    list.push(wanted[word * 64 + bits.trailing_zeros() as usize]);
                    bits &= bits - 1;
                }
            }
            let number = match known.get(&list) {
                Some(number) => *number,
                None => {
                    chunks += list.len().div_ceil(LANES);
                    let number = lists.len() as u32;
                    known.insert(list.clone(), number);
                    lists.push(list.clone());
                    number
                }
            };
            list_of.push(number);
        }
        if chunks > MAX_CHUNKS {
            return None;
        }
    }
    // Frames without addresses, for which no such row holds.
    list_of.push(0);
    let rows = src.class.iter().map(|class| class * width as u32);
    let places = [rows.collect(), dst.class];
    Some(Pairs {
        places,
        none: (src.sets.len() * width) as u32,
        list_of,
        lists,
    })
}
