//! Which tuples a rule set is hashed by: rules of many tuples share one that says less, as long as the lists stay short
//! (TupleMerge: Daly, Bruschi, Linguaglossa, Pontarelli, Rossi, Tollet, Torng and Yourtchenko, "TupleMerge: Fast Software
//! Packet Processing for Online Packet Classification", IEEE/ACM Transactions on Networking 27(4), 2019).
//!
//! Unlike there, a tuple may also say that a port or the protocol is exact: without it all rules of wild addresses would be
//! one list. Ranges of ports are left to the list.

use crate::design::{BURST, Line, Packet, netmask};
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

/// A burst's fields, each in one row: source, destination, both ports, protocol.
pub type Fields = [[u32; BURST]; 4];

/// The fields of a burst.
#[inline(always)]
pub fn fields(packets: &[Packet; BURST]) -> Fields {
    let mut fields = [[0; BURST]; 4];
    for (i, packet) in packets.iter().enumerate() {
        for (field, value) in fields.iter_mut().zip(words(packet)) {
            field[i] = value;
        }
    }
    fields
}

#[inline(always)]
fn words(packet: &Packet) -> [u32; 4] {
    let ports = u32::from(packet.sport) << 16 | u32::from(packet.dport);
    [packet.src, packet.dst, ports, packet.proto.into()]
}

/// Hashes packets by a tuple: the bits of each field that count.
#[derive(Clone, Copy, Debug)]
pub struct Hasher([u32; 4]);

/// Odd numbers, for the two halves of a hash.
const TURNS: [[u32; 4]; 2] = [
    [0x9e37_79b1, 0x85eb_ca77, 0xc2b2_ae3d, 0x27d4_eb2f],
    [0x1656_67b1, 0xcc9e_2d51, 0x1b87_3593, 0xe654_6b65],
];

impl Hasher {
    pub fn new(tuple: Tuple) -> Hasher {
        let all = |asked: bool, bits: u32| if asked { bits } else { 0 };
        let ports = all(tuple.sport, 0xffff_0000) | all(tuple.dport, 0xffff);
        let proto = all(tuple.proto, 0xff);
        Hasher([netmask(tuple.src), netmask(tuple.dst), ports, proto])
    }

    /// Which line, and which tag in it. Packets of one hash are compared in full all the same.
    #[inline(always)]
    fn mixed(&self, words: [u32; 4]) -> (u32, u32) {
        let half = |turns: [u32; 4]| {
            let mut sum = 0u32;
            for i in 0..4 {
                // What a mask leaves stands in the upper half, and a multiplication does not carry down.
                let word = words[i] & self.0[i];
                sum = sum.wrapping_add((word ^ (word >> 15)).wrapping_mul(turns[i]));
            }
            let sum = (sum ^ (sum >> 15)).wrapping_mul(turns[0]);
            sum ^ (sum >> 16)
        };
        (half(TURNS[0]), half(TURNS[1]))
    }

    /// The hash of one packet.
    pub fn hash(&self, packet: &Packet) -> (u32, u32) {
        self.mixed(words(packet))
    }

    /// The hashes of a burst.
    #[inline(always)]
    pub fn hashes(&self, fields: &Fields) -> ([u32; BURST], [u32; BURST]) {
        let (mut lines, mut tags) = ([0; BURST], [0; BURST]);
        for i in 0..BURST {
            let words = [fields[0][i], fields[1][i], fields[2][i], fields[3][i]];
            (lines[i], tags[i]) = self.mixed(words);
        }
        (lines, tags)
    }

    /// The hash of one packet of a burst.
    #[inline(always)]
    pub fn hash_of(&self, fields: &Fields, i: usize) -> (u32, u32) {
        self.mixed([fields[0][i], fields[1][i], fields[2][i], fields[3][i]])
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
    loop {
        // Once none can be merged for nothing, the smallest one is merged in any case, if there are too many.
        let small = groups.iter().position(|group| !group.alone);
        let Some(small) = small.or((groups.len() > most).then_some(0)) else {
            break;
        };
        let this = groups.remove(small);
        let forced = this.alone;
        let merge = |(at, other): (usize, &Merging)| {
            let tuple = this.tuple.meet(other.tuple);
            let rules = this.rules.iter().chain(&other.rules).copied();
            let (list, squares) = lists(lines, tuple, rules);
            let within = list <= longest.max(this.longest).max(other.longest);
            let more = squares - this.squares - other.squares;
            (within || forced).then_some((more, at, list, squares))
        };
        let least = groups.iter().enumerate().filter_map(merge).min();
        match least {
            Some((_, at, longest, squares)) => {
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
    let mut hashes: Vec<(u32, u32)> = rules.map(hash).collect();
    hashes.sort_unstable();
    let runs = hashes.chunk_by(|a, b| a == b).map(<[_]>::len);
    runs.fold((0, 0), |(longest, squares), run| {
        (longest.max(run), squares + (run * run) as u64)
    })
}
