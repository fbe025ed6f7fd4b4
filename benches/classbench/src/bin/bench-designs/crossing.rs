//! Cross-producting in steps, which is recursive flow classification (Gupta and McKeown, "Packet Classification on Multiple
//! Fields", SIGCOMM 1999): a field's value finds its class, two classes find theirs in a table of all pairs, and the table
//! of the last pair holds the first rule. Twelve loads a packet, whatever the rules, as long as there is room for the tables.

use crate::design::{BURST, Budget, Design, Line, NONE, Packet, Stopped, range};
use crate::lanes::Lanes;
use af_xdp::{huge_vec, prefetch};
use std::collections::HashMap;

/// Tables of classes by 16 bits of a packet each: both halves of both addresses, the ports, the protocol.
const CHUNKS: usize = 7;
/// The pairs of the first steps, by where their classes are: chunks first, then what the steps before found.
const STEPS: [(usize, usize); 4] = [(0, 1), (2, 3), (6, 5), (9, 4)];

/// Which rules a class satisfies, a set each, one after the other.
struct Sets {
    words: usize,
    sets: Vec<u64>,
}

/// A table of pairs of classes.
struct Cross {
    left: usize,
    right: usize,
    /// Classes of the right side.
    width: u32,
    table: Vec<u32>,
}

/// All the tables.
pub struct Crossing {
    chunks: [Vec<u32>; CHUNKS],
    crosses: Vec<Cross>,
    classes: Vec<usize>,
}

impl Design for Crossing {
    fn build(lines: &[Line], budget: &Budget) -> Result<Crossing, Stopped> {
        let mut build = Building {
            lines,
            budget,
            keys: Keys::new(lines.len()),
            taken: 0,
            sets: Vec::new(),
        };
        let mut chunks: [Vec<u32>; CHUNKS] = Default::default();
        for (at, chunk) in chunks.iter_mut().enumerate() {
            *chunk = build.chunk(at)?;
        }
        let mut crosses = Vec::new();
        for (left, right) in STEPS {
            crosses.push(build.cross(left, right)?);
        }
        // Source, destination, and all the rest: first the two whose table is smallest.
        let of = |at: usize| build.sets[at].count();
        let (left, right, last) = [(7, 8, 10), (7, 10, 8), (8, 10, 7)]
            .into_iter()
            .min_by_key(|(left, right, _)| of(*left) * of(*right))
            .unwrap_or((7, 8, 10));
        crosses.push(build.cross(left, right)?);
        crosses.push(build.first(CHUNKS + STEPS.len(), last)?);
        Ok(Crossing {
            chunks,
            crosses,
            classes: build.sets.iter().map(Sets::count).collect(),
        })
    }

    fn memory(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| size_of_val(&chunk[..]));
        let crosses = self
            .crosses
            .iter()
            .map(|cross| size_of_val(&cross.table[..]));
        chunks.chain(crosses).sum()
    }

    #[inline(always)]
    fn classify(&self, _: impl Lanes, packets: &[Packet; BURST], out: &mut [u32; BURST]) {
        let mut classes = [[0u32; BURST]; CHUNKS + STEPS.len() + 2];
        for (i, packet) in packets.iter().enumerate() {
            let of = |chunk: usize| self.chunks[chunk][value(packet, chunk)];
            for (chunk, classes) in classes[..CHUNKS].iter_mut().enumerate() {
                classes[i] = of(chunk);
            }
        }
        for (step, cross) in self.crosses.iter().enumerate() {
            let mut at = [0; BURST];
            for (i, at) in at.iter_mut().enumerate() {
                *at = classes[cross.left][i] * cross.width + classes[cross.right][i];
                prefetch(&cross.table[*at as usize]);
            }
            for (i, at) in at.into_iter().enumerate() {
                classes[CHUNKS + step][i] = cross.table[at as usize];
            }
        }
        *out = classes[CHUNKS + STEPS.len() + 1];
    }

    fn shape(&self) -> String {
        let classes: Vec<String> = self.classes.iter().map(usize::to_string).collect();
        format!("classes {}", classes.join(", "))
    }
}

/// The bits of a packet that a chunk is asked for.
#[inline(always)]
fn value(packet: &Packet, chunk: usize) -> usize {
    let bits = match chunk {
        0 => packet.src >> 16,
        1 => packet.src & 0xffff,
        2 => packet.dst >> 16,
        3 => packet.dst & 0xffff,
        4 => packet.sport.into(),
        5 => packet.dport.into(),
        _ => packet.proto.into(),
    };
    bits as usize
}

impl Sets {
    fn count(&self) -> usize {
        self.sets.len() / self.words
    }

    fn set(&self, class: usize) -> &[u64] {
        &self.sets[class * self.words..][..self.words]
    }
}

struct Building<'a> {
    lines: &'a [Line],
    budget: &'a Budget,
    keys: Keys,
    /// Bytes of tables so far.
    taken: usize,
    /// Of each chunk, then of each step.
    sets: Vec<Sets>,
}

impl Building<'_> {
    /// The class of each value of a chunk.
    fn chunk(&mut self, chunk: usize) -> Result<Vec<u32>, Stopped> {
        let size = if chunk == 6 { 1 << 8 } else { 1 << 16 };
        let mut begin: Vec<Vec<u32>> = vec![Vec::new(); size + 1];
        let mut end: Vec<Vec<u32>> = vec![Vec::new(); size + 1];
        for (rule, line) in (0..).zip(self.lines) {
            for (first, last) in spans(line, chunk) {
                begin[first as usize].push(rule);
                end[last as usize + 1].push(rule);
            }
        }
        let words = self.lines.len().div_ceil(64);
        let mut set = vec![0u64; words];
        let mut found = Found::new(words);
        let mut classes: Vec<u32> = huge_vec(size);
        for value in 0..size {
            if value == 0 || !begin[value].is_empty() || !end[value].is_empty() {
                // What goes on where it ended begins again.
                for &rule in &end[value] {
                    set[rule as usize / 64] &= !(1 << (rule % 64));
                }
                for &rule in &begin[value] {
                    set[rule as usize / 64] |= 1 << (rule % 64);
                }
                classes.push(found.class(self.keys.hash(&set, &set), &set, &set));
            } else {
                classes.push(classes[value - 1]);
            }
            if value % 256 == 0 {
                let bytes = self.bytes() + found.bytes();
                self.budget.check(bytes, || format!("chunk {chunk}"))?;
            }
        }
        self.taken += size_of_val(&classes[..]);
        self.sets.push(found.sets);
        Ok(classes)
    }

    /// Bytes of all tables and sets.
    fn bytes(&self) -> usize {
        let sets = self.sets.iter().map(|sets| size_of_val(&sets.sets[..]));
        self.taken + sets.sum::<usize>()
    }

    /// The table of a pair, its classes and their sets.
    fn cross(&mut self, left: usize, right: usize) -> Result<Cross, Stopped> {
        let (of_left, of_right) = (&self.sets[left], &self.sets[right]);
        let (height, width) = (of_left.count(), of_right.count());
        let what = || format!("{height} times {width} classes of {}", name(left, right));
        let table = self.bytes() + height * width * size_of::<u32>();
        self.budget.check(table, what)?;
        let mut found = Found::new(of_left.words);
        let mut table: Vec<u32> = huge_vec(height * width);
        for i in 0..height {
            let one = of_left.set(i);
            for j in 0..width {
                let other = of_right.set(j);
                table.push(found.class(self.keys.hash(one, other), one, other));
            }
            let bytes = self.bytes() + height * width * size_of::<u32>() + found.bytes();
            self.budget.check(bytes, what)?;
        }
        self.taken += size_of_val(&table[..]);
        self.sets.push(found.sets);
        Ok(Cross {
            left,
            right,
            width: width as u32,
            table,
        })
    }

    /// The table of the last pair: the first rule of both.
    fn first(&mut self, left: usize, right: usize) -> Result<Cross, Stopped> {
        let (of_left, of_right) = (&self.sets[left], &self.sets[right]);
        let (height, width) = (of_left.count(), of_right.count());
        let what = || format!("{height} times {width} classes of all fields");
        self.budget
            .check(self.bytes() + height * width * size_of::<u32>(), what)?;
        let mut table: Vec<u32> = huge_vec(height * width);
        for i in 0..height {
            let one = of_left.set(i);
            for j in 0..width {
                let both = one.iter().zip(of_right.set(j)).map(|(a, b)| a & b);
                let word = both.enumerate().find(|(_, word)| *word != 0);
                let rule = |(at, word): (usize, u64)| at as u32 * 64 + word.trailing_zeros();
                table.push(word.map_or(NONE, rule));
            }
            self.budget.check(0, what)?;
        }
        Ok(Cross {
            left,
            right,
            width: width as u32,
            table,
        })
    }
}

/// What a pair is, for whoever reads where it stopped.
fn name(left: usize, right: usize) -> &'static str {
    match (left, right) {
        (0, 1) => "the halves of the source",
        (2, 3) => "the halves of the destination",
        (6, 5) => "protocol and destination port",
        (9, 4) => "protocol and ports",
        (7, 8) => "source and destination",
        (7, 10) => "source and ports",
        _ => "destination and ports",
    }
}

/// The values of a chunk that a rule allows.
fn spans(line: &Line, chunk: usize) -> Vec<(u32, u32)> {
    let upper = |prefix| {
        let (first, last) = range(prefix);
        (first >> 16, last >> 16)
    };
    // A prefix that ends in the upper half allows any lower one.
    let lower = |prefix: (u32, u8)| {
        let (first, last) = range(prefix);
        (first & 0xffff, last & 0xffff)
    };
    match chunk {
        0 => vec![upper(line.src)],
        1 => vec![lower(line.src)],
        2 => vec![upper(line.dst)],
        3 => vec![lower(line.dst)],
        4 => vec![(line.sport.0.into(), line.sport.1.into())],
        5 => vec![(line.dport.0.into(), line.dport.1.into())],
        _ => (0..=255)
            .filter(|proto| (*proto as u8 ^ line.proto) & line.mask == 0)
            .map(|proto| (proto, proto))
            .collect(),
    }
}

/// Classes found so far, by a hash of 128 bits of their sets.
struct Found {
    classes: HashMap<[u64; 2], u32>,
    sets: Sets,
}

impl Found {
    fn new(words: usize) -> Found {
        Found {
            classes: HashMap::new(),
            sets: Sets {
                words,
                sets: Vec::new(),
            },
        }
    }

    fn bytes(&self) -> usize {
        size_of_val(&self.sets.sets[..])
    }

    /// The class of what is in both sets.
    fn class(&mut self, hash: [u64; 2], one: &[u64], other: &[u64]) -> u32 {
        let new = self.classes.len() as u32;
        *self.classes.entry(hash).or_insert_with(|| {
            let both = one.iter().zip(other).map(|(a, b)| a & b);
            self.sets.sets.extend(both);
            new
        })
    }
}

/// Hashes sets: NH of UMAC (RFC 4418 section 5.2), twice with other keys, so that two different sets have one hash with a
/// chance of 2^-64.
struct Keys([Vec<u64>; 2]);

impl Keys {
    fn new(rules: usize) -> Keys {
        let mut state = 0u64;
        let mut key = || {
            // SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        let words = rules.div_ceil(64);
        Keys([0; 2].map(|_: i32| (0..words).map(|_| key()).collect()))
    }

    /// The hash of what is in both sets.
    fn hash(&self, one: &[u64], other: &[u64]) -> [u64; 2] {
        let mut sums = [0u64; 2];
        for (sum, keys) in sums.iter_mut().zip(&self.0) {
            for ((a, b), key) in one.iter().zip(other).zip(keys) {
                let word = a & b;
                let low = (word as u32).wrapping_add(*key as u32);
                let high = ((word >> 32) as u32).wrapping_add((key >> 32) as u32);
                *sum = sum.wrapping_add(u64::from(low) * u64::from(high));
            }
        }
        sums
    }
}
