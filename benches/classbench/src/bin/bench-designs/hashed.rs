//! The hash table of one tuple: whatever is not in it costs one cache line.

use crate::design::{Line, NONE};
use crate::lanes::Lanes;
use crate::rows::{List, Lists};
use crate::tuples::{Group, Hasher, packet_of};
use af_xdp::prefetch;
use std::collections::{HashMap, HashSet};

/// One cache line: eight keys by 32 bits of their hash, and their lists. A list of 0 is none.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Slots {
    pub tags: [u32; 8],
    pub lists: [u32; 8],
}

/// Bits of a slot that say how many chunks its list has.
const CHUNKS: u32 = 10;

/// Every key stands in the one line that its hash names: there are as many lines as that takes.
pub struct Hashed {
    pub hasher: Hasher,
    slots: Vec<Slots>,
    /// The first rule in it.
    pub first: u32,
}

impl Hashed {
    /// Puts the lists of the group's keys with the others. `None` where a list is too long to be named.
    pub fn new(lines: &[Line], (tuple, rules): &Group, lists: &mut Lists) -> Option<Hashed> {
        let hasher = Hasher::new(*tuple);
        let mut keys: HashMap<(u32, u32), Vec<u32>> = HashMap::new();
        for &rule in rules {
            let hash = hasher.hash(&packet_of(&lines[rule as usize]));
            keys.entry(hash).or_default().push(rule);
        }
        let mut keys: Vec<Key> = keys.into_iter().collect();
        keys.sort_by_key(|(_, rules)| rules[0]);
        let mut count = (keys.len() / 5).next_power_of_two();
        while !fits(&keys, count) {
            count *= 2;
        }
        let mut slots = af_xdp::huge_vec(count);
        slots.resize(
            count,
            Slots {
                tags: [0; 8],
                lists: [0; 8],
            },
        );
        let mut some = &keys[..];
        while !some.is_empty() {
            // Short lists share a chunk: rows are compared in full, and eight at once.
            let mut rules = some[0].1.clone();
            let mut sharing = 1;
            while let Some((_, more)) = some.get(sharing)
                && rules.len() + more.len() <= 8
            {
                rules.extend(more);
                sharing += 1;
            }
            rules.sort_unstable();
            let List { at, chunks } = lists.push(lines, &rules);
            if chunks >> CHUNKS > 0 || at >> (32 - CHUNKS) > 0 {
                return None;
            }
            for ((line, tag), _) in &some[..sharing] {
                let slots = &mut slots[*line as usize & (count - 1)];
                let free = slots.lists.iter().position(|list| *list == 0)?;
                slots.tags[free] = *tag;
                slots.lists[free] = at << CHUNKS | chunks;
            }
            some = &some[sharing..];
        }
        Some(Hashed {
            hasher,
            slots,
            first: rules.first().copied().unwrap_or(NONE),
        })
    }

    pub fn memory(&self) -> usize {
        size_of_val(&self.slots[..])
    }

    /// Which slots a hash has.
    #[inline(always)]
    fn slots(&self, line: u32) -> &Slots {
        &self.slots[line as usize & (self.slots.len() - 1)]
    }

    /// Asks for the slots of a hash.
    #[inline(always)]
    pub fn prefetch(&self, line: u32) {
        prefetch(self.slots(line));
    }

    /// The list of a packet with that hash; one of no chunks if there is none.
    #[inline(always)]
    pub fn list(&self, lanes: impl Lanes, (line, tag): (u32, u32)) -> List {
        let list = lanes.list(self.slots(line), tag);
        List {
            at: list >> CHUNKS,
            chunks: list & ((1 << CHUNKS) - 1),
        }
    }
}

/// A hash, and the rules that have it.
type Key = ((u32, u32), Vec<u32>);

/// Whether no line gets more keys than it holds, nor two of one tag.
fn fits(keys: &[Key], count: usize) -> bool {
    let mut filled = vec![0u8; count];
    let mut seen = HashSet::new();
    keys.iter().all(|((line, tag), _)| {
        let line = *line as usize & (count - 1);
        filled[line] += 1;
        filled[line] <= 8 && seen.insert((line, *tag))
    })
}
