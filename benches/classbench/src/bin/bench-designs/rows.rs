//! Short lists of rules, compared eight at once: where the designs that narrow the rules down end.

use crate::design::{BURST, Line, NONE, Packet};
use crate::lanes::Lanes;
use af_xdp::prefetch;

/// Eight rules in three cache lines, in order. What is not used is at the end, and names no rule.
#[derive(Clone)]
#[repr(C, align(64))]
pub struct Rows {
    pub src: [u32; 8],
    pub dst: [u32; 8],
    pub sport: [u16; 8],
    pub sport_more: [u16; 8],
    pub dport: [u16; 8],
    pub dport_more: [u16; 8],
    pub src_shift: [u8; 8],
    pub dst_shift: [u8; 8],
    pub proto: [u8; 8],
    pub mask: [u8; 8],
    pub rule: [u32; 8],
}

const EMPTY: Rows = Rows {
    src: [0; 8],
    dst: [0; 8],
    sport: [0; 8],
    sport_more: [0; 8],
    dport: [0; 8],
    dport_more: [0; 8],
    src_shift: [0; 8],
    dst_shift: [0; 8],
    proto: [0; 8],
    mask: [0; 8],
    rule: [NONE; 8],
};

/// Where a list stands: its first chunk of eight, and how many there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct List {
    pub at: u32,
    pub chunks: u32,
}

/// A packet of the burst, and the list that it goes through.
#[derive(Clone, Copy, Default)]
pub struct Item {
    pub packet: u32,
    pub list: List,
}

/// All the lists of a design.
#[derive(Default)]
pub struct Lists(Vec<Rows>);

impl Lists {
    /// Adds a list of rules by their numbers, in order.
    pub fn push(&mut self, lines: &[Line], rules: &[u32]) -> List {
        let at = self.0.len() as u32;
        for rules in rules.chunks(8) {
            let mut rows = EMPTY;
            for (i, &rule) in rules.iter().enumerate() {
                let line = &lines[rule as usize];
                rows.src[i] = line.src.0;
                rows.dst[i] = line.dst.0;
                rows.src_shift[i] = 32 - line.src.1;
                rows.dst_shift[i] = 32 - line.dst.1;
                rows.sport[i] = line.sport.0;
                rows.sport_more[i] = line.sport.1 - line.sport.0;
                rows.dport[i] = line.dport.0;
                rows.dport_more[i] = line.dport.1 - line.dport.0;
                rows.proto[i] = line.proto;
                rows.mask[i] = line.mask;
                rows.rule[i] = rule;
            }
            self.0.push(rows);
        }
        List {
            at,
            chunks: self.0.len() as u32 - at,
        }
    }

    /// Takes no more room than it needs, behind huge pages.
    pub fn settle(&mut self) {
        let mut rows = af_xdp::huge_vec(self.0.len());
        rows.append(&mut self.0);
        self.0 = rows;
    }

    /// A chunk.
    #[cfg(test)]
    pub fn rows(&self, at: usize) -> &Rows {
        &self.0[at]
    }

    pub fn memory(&self) -> usize {
        size_of_val(&self.0[..])
    }

    /// Asks for the first chunk of a list.
    #[inline(always)]
    pub fn prefetch(&self, at: u32) {
        if let Some(rows) = self.0.get(at as usize) {
            prefetch(&rows.src);
            prefetch(&rows.sport);
            prefetch(&rows.src_shift);
        }
    }

    /// Takes each packet through its list, one chunk of all of them after the other, until nothing better can come. Changes
    /// the first `count` items.
    #[inline(always)]
    pub fn walk(
        &self,
        lanes: impl Lanes,
        items: &mut [Item],
        mut count: usize,
        packets: &[Packet; BURST],
        best: &mut [u32; BURST],
    ) {
        while count > 0 {
            let mut kept = 0;
            for i in 0..count {
                let Item { packet, list } = items[i];
                let packet = packet as usize % BURST;
                let rows = &self.0[list.at as usize];
                let found = best[packet].min(lanes.first(rows, &packets[packet]));
                best[packet] = found;
                let next = List {
                    at: list.at + 1,
                    chunks: list.chunks - 1,
                };
                // Rules stand in order: behind a chunk whose last one is later than what was found, nothing is better.
                let goes_on = (next.chunks > 0) & (rows.rule[7] < found);
                items[kept] = Item {
                    packet: packet as u32,
                    list: next,
                };
                kept += usize::from(goes_on);
            }
            for item in &items[..kept] {
                self.prefetch(item.list.at);
            }
            count = kept;
        }
    }
}
