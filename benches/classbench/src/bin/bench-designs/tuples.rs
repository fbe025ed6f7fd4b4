//! Which tuples a rule set is hashed by: rules of many tuples share one that says less, as long as the lists stay short
//! (TupleMerge: Daly, Bruschi, Linguaglossa, Pontarelli, Rossi, Tollet, Torng and Yourtchenko, "TupleMerge: Fast Software
//! Packet Processing for Online Packet Classification", IEEE/ACM Transactions on Networking 27(4), 2019).
//!
//! Unlike there, a tuple may also say that a port or the protocol is exact: without it all rules of wild addresses would be
//! one list. Ranges of ports are left to the list.

use crate::design::{Line, Packet, netmask};
use std::collections::HashMap;

/// What of a packet is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    pub src: u8,
    pub dst: u8,
    pub sport: bool,
    pub dport: bool,
    pub proto: bool,
}

/// Lengths of prefixes that are told apart from the start; longer ones count as the next shorter one.
const LENGTHS: [u8; 7] = [32, 28, 24, 20, 16, 12, 0];

impl Tuple {
    /// The most that a rule can be hashed by.
    fn of(line: &Line) -> Tuple {
        let length = |of: u8| *LENGTHS.iter().find(|len| **len <= of).unwrap_or(&0);
        Tuple {
            src: length(line.src.1),
            dst: length(line.dst.1),
            sport: line.sport.0 == line.sport.1,
            dport: line.dport.0 == line.dport.1,
            proto: line.mask == 0xff,
        }
    }

    /// What both tuples hash.
    fn meet(self, other: Tuple) -> Tuple {
        Tuple {
            src: self.src.min(other.src),
            dst: self.dst.min(other.dst),
            sport: self.sport & other.sport,
            dport: self.dport & other.dport,
            proto: self.proto & other.proto,
        }
    }
}

/// Hashes packets by a tuple.
#[derive(Clone, Copy, Debug)]
pub struct Hasher {
    addrs: u64,
    rest: u64,
}

impl Hasher {
    pub fn new(tuple: Tuple) -> Hasher {
        let all = |asked: bool, bits: u64| if asked { bits } else { 0 };
        Hasher {
            addrs: u64::from(netmask(tuple.src)) << 32 | u64::from(netmask(tuple.dst)),
            rest: all(tuple.sport, 0xffff << 32)
                | all(tuple.dport, 0xffff << 16)
                | all(tuple.proto, 0xff),
        }
    }

    /// A multiplication folded, as in wyhash. Two packets of one hash are compared in full all the same.
    #[inline(always)]
    pub fn hash(&self, packet: &Packet) -> u64 {
        let addrs = u64::from(packet.src) << 32 | u64::from(packet.dst);
        let rest =
            u64::from(packet.sport) << 32 | u64::from(packet.dport) << 16 | u64::from(packet.proto);
        let a = (addrs & self.addrs) ^ 0x9e37_79b9_7f4a_7c15;
        let b = (rest & self.rest) ^ 0xe703_7ed1_a0b4_28db;
        let product = u128::from(a) * u128::from(b);
        (product as u64 ^ (product >> 64) as u64).wrapping_mul(0xd6e8_feb8_6659_fd93)
    }
}

/// A packet that a rule matches, as far as a tuple looks at it.
pub fn packet_of(line: &Line) -> Packet {
    Packet {
        src: line.src.0,
        dst: line.dst.0,
        sport: line.sport.0,
        dport: line.dport.0,
        proto: line.proto,
    }
}

/// A tuple and its rules, in order.
pub type Group = (Tuple, Vec<u32>);

/// The rules by tuples: merged while no list that was shorter gets longer than `longest`, and then further, by whatever
/// costs least, down to `most` tuples. The tuple whose first rule is earliest comes first.
pub fn merged(lines: &[Line], longest: usize, most: usize) -> Vec<Group> {
    let mut by_tuple: HashMap<Tuple, Vec<u32>> = HashMap::new();
    for (rule, line) in lines.iter().enumerate() {
        by_tuple
            .entry(Tuple::of(line))
            .or_default()
            .push(rule as u32);
    }
    let mut groups: Vec<Merging> = by_tuple
        .into_iter()
        .map(|(tuple, rules)| {
            let (longest, squares) = lists(lines, tuple, rules.iter().copied());
            Merging {
                tuple,
                rules,
                longest,
                squares,
                alone: false,
            }
        })
        .collect();
    // The smallest one is merged with the one where the lists get least longer, again and again.
    groups.sort_by_key(|group| (group.rules.len(), group.rules[0]));
    while let Some(small) = groups.iter().position(|group| !group.alone) {
        let this = groups.remove(small);
        let merge = |(at, other): (usize, &Merging)| {
            let tuple = this.tuple.meet(other.tuple);
            let rules = this.rules.iter().chain(&other.rules).copied();
            let (list, squares) = lists(lines, tuple, rules);
            let within = list <= longest.max(this.longest).max(other.longest);
            let more = squares - this.squares - other.squares;
            (within || groups.len() >= most).then_some((!within, more, at, list, squares))
        };
        let least = groups.iter().enumerate().filter_map(merge).min();
        match least {
            Some((_, _, at, longest, squares)) => {
                let other = groups.remove(at);
                let mut rules = [this.rules, other.rules].concat();
                rules.sort_unstable();
                let tuple = this.tuple.meet(other.tuple);
                let merged = Merging {
                    tuple,
                    rules,
                    longest,
                    squares,
                    alone: false,
                };
                let size = merged.rules.len();
                let at = groups.partition_point(|group| group.rules.len() < size);
                groups.insert(at, merged);
            }
            None => groups.insert(
                small,
                Merging {
                    alone: true,
                    ..this
                },
            ),
        }
    }
    groups.sort_by_key(|group| group.rules[0]);
    groups
        .into_iter()
        .map(|group| (group.tuple, group.rules))
        .collect()
}

struct Merging {
    tuple: Tuple,
    rules: Vec<u32>,
    /// Its longest list.
    longest: usize,
    /// The sum of squares of the lengths of its lists: what a packet of a random rule compares.
    squares: u64,
    /// Nothing to merge it with.
    alone: bool,
}

/// The longest list, and the sum of squares of their lengths.
fn lists(lines: &[Line], tuple: Tuple, rules: impl Iterator<Item = u32>) -> (usize, u64) {
    let hasher = Hasher::new(tuple);
    let hash = |rule: u32| hasher.hash(&packet_of(&lines[rule as usize]));
    let mut hashes: Vec<u64> = rules.map(hash).collect();
    hashes.sort_unstable();
    let runs = hashes.chunk_by(|a, b| a == b).map(<[u64]>::len);
    runs.fold((0, 0), |(longest, squares), run| {
        (longest.max(run), squares + (run * run) as u64)
    })
}
