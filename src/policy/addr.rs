//! Addresses as rules name them: ranges, named sets, negation; and their compiled form, sorted disjoint intervals.

use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4 (RFC 791): 32 bits, in the low bits of a `u128`.
    V4,
    /// IPv6 (RFC 8200): 128 bits.
    V6,
}

impl Family {
    /// The highest address.
    pub const fn max(self) -> u128 {
        match self {
            Family::V4 => u32::MAX as u128,
            Family::V6 => u128::MAX,
        }
    }
}

/// A run of addresses of one family, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddrRange {
    /// Which family.
    pub family: Family,
    /// The lowest address.
    pub first: u128,
    /// The highest address, not below `first`.
    pub last: u128,
}

impl AddrRange {
    /// The single address `ip`.
    pub fn host(ip: IpAddr) -> AddrRange {
        let (family, bits) = bits(ip);
        AddrRange {
            family,
            first: bits,
            last: bits,
        }
    }

    /// The addresses of a prefix; bits below the prefix length are ignored.
    pub fn prefix(net: IpNet) -> AddrRange {
        let (family, first) = bits(net.network());
        AddrRange {
            family,
            first,
            last: bits(net.broadcast()).1,
        }
    }

    /// `first` to `last`; `None` when the families differ or the ends are the wrong way round.
    pub fn between(first: IpAddr, last: IpAddr) -> Option<AddrRange> {
        let ((family, first), (other, last)) = (bits(first), bits(last));
        (family == other && first <= last).then_some(AddrRange {
            family,
            first,
            last,
        })
    }

    /// Whether the range holds this address.
    pub fn contains(&self, family: Family, addr: u128) -> bool {
        self.family == family && self.first <= addr && addr <= self.last
    }

    /// An address of the range as a standard address.
    fn ip(&self, addr: u128) -> IpAddr {
        match self.family {
            Family::V4 => Ipv4Addr::from(addr as u32).into(),
            Family::V6 => Ipv6Addr::from(addr).into(),
        }
    }

    /// The prefix length where the range is a prefix: its size is a power of two, and its start a multiple of that.
    fn prefix_len(&self) -> Option<u32> {
        let width = if self.family == Family::V4 { 32 } else { 128 };
        let mask = self.first ^ self.last;
        (mask & mask.wrapping_add(1) == 0 && self.first & mask == 0)
            .then_some(width - mask.count_ones())
    }
}

/// The family and number of a standard address.
pub fn bits(ip: IpAddr) -> (Family, u128) {
    match ip {
        IpAddr::V4(ip) => (Family::V4, u32::from(ip).into()),
        IpAddr::V6(ip) => (Family::V6, ip.into()),
    }
}

impl fmt::Display for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.prefix_len() {
            _ if self.first == self.last => write!(f, "{}", self.ip(self.first)),
            Some(len) => write!(f, "{}/{len}", self.ip(self.first)),
            None => write!(f, "{}-{}", self.ip(self.first), self.ip(self.last)),
        }
    }
}

impl fmt::Debug for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A named set of addresses. May be empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The name, without `@`.
    pub name: String,
    /// What it holds, in the order given; ranges may overlap.
    pub ranges: Vec<AddrRange>,
    /// The file that it was read from; `None` where the config itself lists it.
    pub file: Option<PathBuf>,
}

/// One thing that an address expression names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Term {
    /// An address, a prefix or a range.
    Range(AddrRange),
    /// The set at this index of [`Policy::sets`](super::Policy::sets).
    Set(usize),
}

/// An address expression: any of `any_of` (or any address at all, when that is empty), and none of `none_of`.
///
/// A negated term alone covers both families: IPv6 addresses are not in `10.0.0.0/8`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct AddrMatch {
    /// The terms without `!`.
    pub any_of: Vec<Term>,
    /// The terms with `!`.
    pub none_of: Vec<Term>,
}

impl AddrMatch {
    /// Matches every address of both families.
    pub fn any() -> AddrMatch {
        AddrMatch::default()
    }

    /// Whether every address matches by the form of the expression.
    pub fn is_any(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty()
    }

    /// The matching addresses of one family as sorted, disjoint, non-adjacent intervals (both ends included).
    pub fn intervals(&self, sets: &[Set], family: Family) -> Vec<(u128, u128)> {
        let mut hold = if self.any_of.is_empty() {
            vec![(0, family.max())]
        } else {
            merge(expand(&self.any_of, sets, family))
        };
        let not = merge(expand(&self.none_of, sets, family));
        if !not.is_empty() {
            hold = subtract(&hold, &not);
        }
        hold
    }

    /// The expression as it stands in a config: `10.0.0.0/8, !@partners`; `any` when it matches everything.
    pub fn describe(&self, sets: &[Set]) -> String {
        if self.is_any() {
            return "any".to_owned();
        }
        let name = |term: &Term| match term {
            Term::Range(range) => range.to_string(),
            Term::Set(set) => format!("@{}", sets.get(*set).map_or("?", |set| &set.name)),
        };
        let not = self.none_of.iter().map(|term| format!("!{}", name(term)));
        self.any_of
            .iter()
            .map(name)
            .chain(not)
            .collect::<Vec<_>>()
            .join(", ")
    }
}

/// Every range of `family` that the terms name.
fn expand(terms: &[Term], sets: &[Set], family: Family) -> Vec<(u128, u128)> {
    let mut out = Vec::new();
    let mut push = |range: &AddrRange| {
        if range.family == family {
            out.push((range.first, range.last));
        }
    };
    for term in terms {
        match term {
            Term::Range(range) => push(range),
            Term::Set(set) => sets
                .get(*set)
                .into_iter()
                .flat_map(|set| &set.ranges)
                .for_each(&mut push),
        }
    }
    out
}

/// Sorts and joins what overlaps or touches.
pub(super) fn merge(mut ranges: Vec<(u128, u128)>) -> Vec<(u128, u128)> {
    ranges.sort_unstable();
    let mut out: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match out.last_mut() {
            Some(prev) if first <= prev.1.saturating_add(1) => prev.1 = prev.1.max(last),
            _ => out.push((first, last)),
        }
    }
    out
}

/// What of `from` is not in `not`; both sorted and disjoint.
pub(super) fn subtract(from: &[(u128, u128)], not: &[(u128, u128)]) -> Vec<(u128, u128)> {
    let mut out = Vec::with_capacity(from.len() + not.len());
    let mut cuts = not.iter().peekable();
    for &(mut first, last) in from {
        while cuts.next_if(|cut| cut.1 < first).is_some() {}
        let mut rest = true;
        for cut in cuts.clone().take_while(|cut| cut.0 <= last) {
            if first < cut.0 {
                out.push((first, cut.0 - 1));
            }
            if cut.1 >= last {
                rest = false;
                break;
            }
            first = cut.1 + 1;
        }
        if rest {
            out.push((first, last));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> AddrRange {
        AddrRange::prefix(text.parse().unwrap())
    }

    #[test]
    fn overlapping_and_touching_ranges_become_one() {
        assert_eq!(
            merge(vec![(5, 9), (0, 4), (8, 12), (20, 20)]),
            [(0, 12), (20, 20)]
        );
        assert_eq!(merge(vec![(0, u128::MAX), (3, 4)]), [(0, u128::MAX)]);
    }

    #[test]
    fn a_negation_cuts_holes_and_keeps_the_ends() {
        assert_eq!(subtract(&[(0, 10)], &[(3, 4), (10, 12)]), [(0, 2), (5, 9)]);
        assert_eq!(subtract(&[(0, 3), (5, 9)], &[(2, 6)]), [(0, 1), (7, 9)]);
        assert_eq!(
            subtract(&[(0, u128::MAX)], &[(0, 0), (u128::MAX, u128::MAX)]),
            [(1, u128::MAX - 1)]
        );
        assert_eq!(subtract(&[(0, 9)], &[(0, 9)]), []);
    }

    #[test]
    fn a_range_prints_as_the_shortest_form() {
        assert_eq!(range("10.0.0.0/8").to_string(), "10.0.0.0/8");
        assert_eq!(range("::/0").to_string(), "::/0");
        assert_eq!(range("10.0.0.1/32").to_string(), "10.0.0.1");
        let odd =
            AddrRange::between("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()).unwrap();
        assert_eq!(odd.to_string(), "10.0.0.1-10.0.0.2");
    }

    #[test]
    fn a_negation_of_an_ipv4_prefix_covers_every_ipv6_address() {
        let not = AddrMatch {
            any_of: vec![],
            none_of: vec![Term::Range(range("10.0.0.0/8"))],
        };
        assert_eq!(not.intervals(&[], Family::V6), [(0, u128::MAX)]);
        assert_eq!(not.intervals(&[], Family::V4).len(), 2);
    }
}
