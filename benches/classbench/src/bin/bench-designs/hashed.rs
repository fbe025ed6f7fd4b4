//! The hash table of one tuple: whatever is not in it costs one cache line.

use crate::design::{Line, NONE, Packet};
use crate::lanes::Lanes;
use crate::rows::{List, Lists};
use crate::tuples::{Group, Hasher, packet_of};
use af_xdp::prefetch;
use std::collections::HashMap;

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
    hasher: Hasher,
    slots: Vec<Slots>,
    /// The first rule in it.
    pub first: u32,
}

impl Hashed {
    /// Puts the lists of the group's keys with the others. `None` where a list is too long to be named.
    pub fn new(lines: &[Line], (tuple, rules): &Group, lists: &mut Lists) -> Option<Hashed> {
        let hasher = Hasher::new(*tuple);
        let mut keys: HashMap<u64, Vec<u32>> = HashMap::new();
        for &rule in rules {
            let hash = hasher.hash(&packet_of(&lines[rule as usize]));
            keys.entry(hash).or_default().push(rule);
        }
        let mut keys: Vec<(u64, Vec<u32>)> = keys.into_iter().collect();
        // In the order of the rules: what is asked for more often is not known.
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
        for (hash, rules) in &keys {
            let List { at, chunks } = lists.push(lines, rules);
            if chunks >> CHUNKS > 0 || at >> (32 - CHUNKS) > 0 {
                return None;
            }
            let line = &mut slots[line(*hash, count)];
            let free = line.lists.iter().position(|list| *list == 0)?;
            if line.tags[..free].contains(&tag(*hash)) {
                return None;
            }
            line.tags[free] = tag(*hash);
            line.lists[free] = at << CHUNKS | chunks;
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

    /// The hash of a packet; its line is asked for.
    #[inline(always)]
    pub fn hash(&self, packet: &Packet) -> u64 {
        let hash = self.hasher.hash(packet);
        prefetch(&self.slots[line(hash, self.slots.len())]);
        hash
    }

    /// The list of a packet with that hash; one of no chunks if there is none.
    #[inline(always)]
    pub fn list(&self, lanes: impl Lanes, hash: u64) -> List {
        let line = &self.slots[line(hash, self.slots.len())];
        let list = lanes.list(line, tag(hash));
        List {
            at: list >> CHUNKS,
            chunks: list & ((1 << CHUNKS) - 1),
        }
    }
}

#[inline(always)]
fn line(hash: u64, lines: usize) -> usize {
    hash as usize & (lines - 1)
}

#[inline(always)]
fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// Whether no line gets more keys than it holds.
fn fits(keys: &[(u64, Vec<u32>)], count: usize) -> bool {
    let mut filled = vec![0u8; count];
    keys.iter().all(|(hash, _)| {
        let filled = &mut filled[line(*hash, count)];
        *filled += 1;
        *filled <= 8
    })
}
