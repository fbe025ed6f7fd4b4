//! The plain answer: line after line.

use crate::{Header, Rule};
use portcullis::policy::addr::bits;

/// A rule set made ready for a linear search, which is what other classifiers are compared with.
pub struct Reference(Vec<Line>);

/// Addresses as numbers, IPv4 in the low 32 bits, with what counts of them.
struct Line {
    dst: u128,
    dst_mask: u128,
    src: u128,
    src_mask: u128,
    sport: (u16, u16),
    dport: (u16, u16),
    proto: u8,
    mask: u8,
}

impl Reference {
    /// Takes the rules of one family.
    pub fn new(rules: &[Rule]) -> Reference {
        let line = |rule: &Rule| Line {
            dst: bits(rule.dst.network()).1,
            dst_mask: bits(rule.dst.netmask()).1,
            src: bits(rule.src.network()).1,
            src_mask: bits(rule.src.netmask()).1,
            sport: rule.sport,
            dport: rule.dport,
            proto: rule.proto,
            mask: rule.mask,
        };
        Reference(rules.iter().map(line).collect())
    }

    /// The first line (from 0) that matches.
    pub fn first_match(&self, header: &Header) -> Option<usize> {
        let (src, dst) = (bits(header.src).1, bits(header.dst).1);
        let within = |(first, last): (u16, u16), port| first <= port && port <= last;
        self.0.iter().position(|line| {
            dst & line.dst_mask == line.dst
                && src & line.src_mask == line.src
                && within(line.dport, header.dport)
                && within(line.sport, header.sport)
                && (header.proto ^ line.proto) & line.mask == 0
        })
    }
}
