//! Tuple space search where each field says first which tuples can hold the packet at all (tuple pruning, Srinivasan, Suri
//! and Varghese, SIGCOMM 1999): the interval of an address, a port and the protocol each name a set of tuples, and only
//! those in all five sets are asked.

use crate::design::{BURST, Budget, Design, Line, NONE, Packet, Stopped, range};
use crate::hashed::Hashed;
use crate::lanes::Lanes;
use crate::rows::{Item, Lists};
use crate::search::{Intervals, starts};
use crate::tuple_space::tables;
use crate::tuples::{Group, fields, merged};
use af_xdp::{huge_vec, prefetch};

/// Tuples that a set of them has room for.
const TUPLES: usize = 64;
/// A list may grow to this by merging: one chunk of eight. Tuples that are not asked cost nothing.
const LONGEST: usize = 8;
/// Tables that a packet asks at once.
const AT_ONCE: usize = 2;

/// An address: its interval, and the tuples that have a rule there.
struct Addr {
    intervals: Intervals,
    tuples: Vec<u64>,
}

/// A port: its class, and the tuples that have a rule there.
struct Port {
    classes: Vec<u16>,
    tuples: Vec<u64>,
}

/// The tables, the one with the earliest rule first, and which of them a field allows.
pub struct Pruned {
    src: Addr,
    dst: Addr,
    sport: Port,
    dport: Port,
    protos: Vec<u64>,
    tables: Vec<Hashed>,
    lists: Lists,
}

impl Design for Pruned {
    fn build(lines: &[Line], budget: &Budget) -> Result<Pruned, Stopped> {
        let groups = merged(lines, LONGEST, TUPLES);
        let (tables, lists) = tables(lines, &groups)?;
        let pruned = Pruned {
            src: Addr::new(lines, &groups, |line| range(line.src)),
            dst: Addr::new(lines, &groups, |line| range(line.dst)),
            sport: Port::new(lines, &groups, |line| line.sport)?,
            dport: Port::new(lines, &groups, |line| line.dport)?,
            protos: protos(lines, &groups),
            tables,
            lists,
        };
        budget.check(pruned.memory(), || "hash tables".to_owned())?;
        Ok(pruned)
    }

    fn memory(&self) -> usize {
        let addrs = [&self.src, &self.dst].map(Addr::memory);
        let ports = [&self.sport, &self.dport].map(Port::memory);
        let tables = self.tables.iter().map(Hashed::memory);
        let fields = addrs.into_iter().chain(ports);
        self.lists.memory() + fields.chain(tables).sum::<usize>() + size_of_val(&self.protos[..])
    }

    #[inline(always)]
    fn classify(&self, lanes: impl Lanes, packets: &[Packet; BURST], out: &mut [u32; BURST]) {
        let fields = fields(packets);
        let src = self.src.find(lanes, &fields[0]);
        let dst = self.dst.find(lanes, &fields[1]);
        let mut left = [(0u32, 0u64); BURST];
        for (i, packet) in packets.iter().enumerate() {
            let tuples = self.src.tuples[src[i] as usize]
                & self.dst.tuples[dst[i] as usize]
                & self.sport.tuples(packet.sport)
                & self.dport.tuples(packet.dport)
                & self.protos[usize::from(packet.proto)];
            left[i] = (i as u32, tuples);
        }
        let mut best = [NONE; BURST];
        let mut probes = [(0u32, 0u32, (0u32, 0u32)); BURST * AT_ONCE];
        let mut items = [Item::default(); BURST * AT_ONCE];
        let mut count = BURST;
        while count > 0 {
            let (mut asked, mut kept) = (0, 0);
            for i in 0..count {
                let (packet, mut tuples) = left[i];
                let of = packet as usize % BURST;
                for _ in 0..AT_ONCE {
                    // With none left, the first table is asked for nothing.
                    let some = tuples != 0;
                    let at = if some { tuples.trailing_zeros() } else { 0 };
                    tuples &= tuples.wrapping_sub(1);
                    let table = &self.tables[at as usize];
                    let hash = table.hasher.hash_of(&fields, of);
                    table.prefetch(hash.0);
                    probes[asked] = (packet, at, hash);
                    asked += usize::from(some & (table.first < best[of]));
                }
                left[kept] = (packet, tuples);
                kept += usize::from(tuples != 0);
            }
            let mut found = 0;
            for &(packet, table, hash) in &probes[..asked] {
                let list = self.tables[table as usize].list(lanes, hash);
                items[found] = Item { packet, list };
                found += usize::from(list.chunks > 0);
            }
            for item in &items[..found] {
                self.lists.prefetch(item.list.at);
            }
            self.lists
                .walk(lanes, &mut items, found, packets, &mut best);
            // What is left is later in order than what a packet has: it ends as soon as that is so of its next table.
            count = 0;
            for i in 0..kept {
                let (packet, tuples) = left[i];
                let next = &self.tables[tuples.trailing_zeros() as usize % TUPLES];
                left[count] = (packet, tuples);
                count += usize::from(next.first < best[packet as usize % BURST]);
            }
        }
        *out = best;
    }

    fn shape(&self) -> String {
        format!("tuples {}", self.tables.len())
    }
}

impl Addr {
    fn new(lines: &[Line], groups: &[Group], of: impl Fn(&Line) -> (u32, u32)) -> Addr {
        let starts = starts(lines.iter().map(&of));
        let span = |rule: u32| {
            let (first, last) = of(&lines[rule as usize]);
            let at = |value| starts.partition_point(|start| *start <= value) - 1;
            (at(first), at(last))
        };
        let mut tuples = huge_vec(starts.len());
        tuples.resize(starts.len(), 0);
        mark(&mut tuples, groups, span);
        Addr {
            intervals: Intervals::new(&starts),
            tuples,
        }
    }

    fn memory(&self) -> usize {
        self.intervals.memory() + size_of_val(&self.tuples[..])
    }

    #[inline(always)]
    fn find(&self, lanes: impl Lanes, values: &[u32; BURST]) -> [u32; BURST] {
        let at = self.intervals.find(lanes, values, self.tuples.len());
        for at in at {
            prefetch(&self.tuples[at as usize]);
        }
        at
    }
}

impl Port {
    fn new(
        lines: &[Line],
        groups: &[Group],
        of: impl Fn(&Line) -> (u16, u16),
    ) -> Result<Port, Stopped> {
        let mut tuples = vec![0; 1 << 16];
        mark(&mut tuples, groups, |rule| {
            let (first, last) = of(&lines[rule as usize]);
            (first.into(), last.into())
        });
        let mut different = tuples.clone();
        different.sort_unstable();
        different.dedup();
        let class = |tuples: &u64| different.binary_search(tuples).ok()?.try_into().ok();
        let classes: Option<Vec<u16>> = tuples.iter().map(class).collect();
        Ok(Port {
            classes: classes.ok_or_else(|| Stopped::Shape {
                what: "too many classes of ports".to_owned(),
            })?,
            tuples: different,
        })
    }

    fn memory(&self) -> usize {
        size_of_val(&self.classes[..]) + size_of_val(&self.tuples[..])
    }

    #[inline(always)]
    fn tuples(&self, port: u16) -> u64 {
        self.tuples[usize::from(self.classes[usize::from(port)])]
    }
}

/// Sets the bit of each group wherever one of its rules spans.
fn mark(tuples: &mut [u64], groups: &[Group], span: impl Fn(u32) -> (usize, usize)) {
    for (bit, (_, rules)) in groups.iter().enumerate() {
        let mut spans: Vec<_> = rules.iter().map(|rule| span(*rule)).collect();
        spans.sort_unstable();
        spans.dedup();
        for (first, last) in spans {
            for tuples in &mut tuples[first..=last] {
                *tuples |= 1 << bit;
            }
        }
    }
}

fn protos(lines: &[Line], groups: &[Group]) -> Vec<u64> {
    let mut tuples = vec![0; 256];
    for (bit, (_, rules)) in groups.iter().enumerate() {
        let mut kinds: Vec<_> = rules
            .iter()
            .map(|rule| (lines[*rule as usize].proto, lines[*rule as usize].mask))
            .collect();
        kinds.sort_unstable();
        kinds.dedup();
        for (proto, mask) in kinds {
            for (of, tuples) in (0..=u8::MAX).zip(&mut tuples) {
                *tuples |= u64::from((of ^ proto) & mask == 0) << bit;
            }
        }
    }
    tuples
}
