//! Tuple space search (Srinivasan, Suri and Varghese, SIGCOMM 1999) over merged tuples: a hash table a tuple, asked in the
//! order of the earliest rule in each, until none can hold an earlier one than was found.

use crate::design::{BURST, Budget, Design, Line, NONE, Packet, Stopped};
use crate::hashed::Hashed;
use crate::lanes::Lanes;
use crate::rows::{Item, Lists};
use crate::tuples::{fields, merged};

/// A list may grow to this by merging: three chunks of eight.
const LONGEST: usize = 24;
/// Tables that are asked at once, so that that many cache lines a packet are on their way.
const AT_ONCE: usize = 4;

/// The tables, the one with the earliest rule first.
pub struct TupleSpace {
    tables: Vec<Hashed>,
    lists: Lists,
}

impl Design for TupleSpace {
    fn build(lines: &[Line], budget: &Budget) -> Result<TupleSpace, Stopped> {
        let groups = merged(lines, LONGEST, usize::MAX);
        let (tables, lists) = tables(lines, &groups)?;
        let space = TupleSpace { tables, lists };
        budget.check(space.memory(), || "hash tables".to_owned())?;
        Ok(space)
    }

    fn memory(&self) -> usize {
        self.lists.memory() + self.tables.iter().map(Hashed::memory).sum::<usize>()
    }

    #[inline(always)]
    fn classify(&self, lanes: impl Lanes, packets: &[Packet; BURST], out: &mut [u32; BURST]) {
        let mut best = [NONE; BURST];
        let fields = fields(packets);
        let mut probes = [[(0u32, 0u32, 0u32); BURST]; AT_ONCE];
        let mut items = [Item::default(); BURST * AT_ONCE];
        for tables in self.tables.chunks(AT_ONCE) {
            let mut asked = [0; AT_ONCE];
            for ((table, probes), asked) in tables.iter().zip(&mut probes).zip(&mut asked) {
                let (lines, tags) = table.hasher.hashes(&fields);
                for packet in 0..BURST {
                    table.prefetch(lines[packet]);
                    probes[*asked % BURST] = (packet as u32, lines[packet], tags[packet]);
                    *asked += usize::from(table.first < best[packet]);
                }
            }
            if asked == [0; AT_ONCE] {
                break;
            }
            let mut found = 0;
            for ((table, probes), asked) in tables.iter().zip(&probes).zip(asked) {
                for &(packet, line, tag) in &probes[..asked] {
                    let list = table.list(lanes, (line, tag));
                    items[found] = Item { packet, list };
                    found += usize::from(list.chunks > 0);
                }
            }
            for item in &items[..found] {
                self.lists.prefetch(item.list.at);
            }
            self.lists
                .walk(lanes, &mut items, found, packets, &mut best);
        }
        *out = best;
    }

    fn shape(&self) -> String {
        format!("tuples {}", self.tables.len())
    }
}

/// The tables of the groups, and their lists.
pub fn tables(
    lines: &[Line],
    groups: &[(crate::tuples::Tuple, Vec<u32>)],
) -> Result<(Vec<Hashed>, Lists), Stopped> {
    let mut lists = Lists::default();
    let mut tables = Vec::with_capacity(groups.len());
    for group in groups {
        let table = Hashed::new(lines, group, &mut lists).ok_or_else(|| Stopped::Shape {
            what: format!("a list of {:?} is too long", group.0),
        })?;
        tables.push(table);
    }
    lists.settle();
    Ok((tables, lists))
}
