//! The frames that clauses match, as products of intervals: exact, so that coverage is a question of arithmetic.
//!
//! ```text
//! clause --> pieces, one for each family and class of protocols that it can match in
//! piece  =   dst x src x dport x sport x proto x side x vlan x ethertype x src_mac x tcp_flags x fragment x app
//! ```
//! Within a class every field is what the parser can find there (see [`Key`](crate::policy::Key)): only TCP has flags, ICMP types and codes
//! end at 255, what has no ports has 0, a frame that is not IP has neither addresses nor protocol.

use crate::policy::addr::{AddrMatch, Family, Set, merge, subtract};
use crate::policy::rule::{AppSet, Clause, Direction, PortSet, ProtoSet};
use crate::policy::{Side, UNTAGGED};
use std::collections::HashMap;
use std::rc::Rc;

/// Sorted, disjoint intervals, both ends included; shared by the pieces that have the same.
pub(super) type Intervals = Rc<[(u128, u128)]>;

/// The fields of a piece.
pub(super) const FIELDS: usize = 12;
// Those that are named; the order is that of `Space::ip`, the most telling first.
const SIDE: usize = 5;
const VLAN: usize = 6;
const ETHERTYPE: usize = 7;
const MAC: usize = 8;

/// A product of intervals: a value matches where each of its fields is in the field's intervals.
#[derive(Clone, Debug)]
pub(super) struct Product(pub [Intervals; FIELDS]);

/// What of one rule's clauses lies in one [`Plane`].
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// Index of the rule.
    pub rule: u32,
    pub product: Product,
}

/// Frames of two planes have nothing in common, and within a plane every product of field values is a possible frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Plane {
    /// `None` for frames that are not IP.
    family: Option<Family>,
    class: Class,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Tcp,
    /// Ports and no flags.
    Ports,
    Icmp,
    Rest,
}

const CLASSES: [Class; 4] = [Class::Tcp, Class::Ports, Class::Icmp, Class::Rest];

/// How many planes there are.
pub(super) const PLANES: usize = 2 * CLASSES.len() + 1;

/// Every plane; their number is their place here.
pub(super) fn planes() -> impl Iterator<Item = Plane> {
    let ip = [Family::V4, Family::V6].into_iter().flat_map(|family| {
        CLASSES.into_iter().map(move |class| Plane {
            family: Some(family),
            class,
        })
    });
    ip.chain([Plane {
        family: None,
        class: Class::Rest,
    }])
}

impl Class {
    fn protos(self) -> ProtoSet {
        match self {
            Class::Tcp => ProtoSet::of(&[6]),
            Class::Ports => ProtoSet::of(&[17, 33, 132, 136]),
            Class::Icmp => ProtoSet::of(&[1, 58]),
            Class::Rest => ProtoSet::all_but(&[6, 17, 33, 132, 136, 1, 58]),
        }
    }

    fn max_port(self) -> u16 {
        match self {
            Class::Tcp | Class::Ports => u16::MAX,
            Class::Icmp => 255,
            Class::Rest => 0,
        }
    }
}

/// Turns clauses into pieces; keeps the intervals of each address expression, of which many rules may have the same.
pub(super) struct Space<'p> {
    sets: &'p [Set],
    addresses: HashMap<(&'p AddrMatch, Family), Intervals>,
    /// Single intervals, which most fields of most rules are.
    single: HashMap<(u128, u128), Intervals>,
}

impl<'p> Space<'p> {
    pub fn new(sets: &'p [Set]) -> Space<'p> {
        Space {
            sets,
            addresses: HashMap::new(),
            single: HashMap::new(),
        }
    }

    /// What of a clause lies in a plane; `None` where nothing does.
    pub fn product(&mut self, clause: &'p Clause, plane: Plane) -> Option<Product> {
        let fields = match plane.family {
            Some(family) => self.ip(clause, family, plane.class)?,
            None => self.not_ip(clause)?,
        };
        let product = Product(fields);
        (!product.0.iter().any(|field| field.is_empty())).then_some(product)
    }

    fn ip(
        &mut self,
        clause: &'p Clause,
        family: Family,
        class: Class,
    ) -> Option<[Intervals; FIELDS]> {
        let ethertype = match family {
            Family::V4 => 0x0800,
            Family::V6 => 0x86dd,
        };
        let named = |types: &PortSet| types.contains(ethertype);
        if !clause.ethertype.as_ref().is_none_or(named) {
            return None;
        }
        let protos = clause.protos.iter();
        let protos: Vec<_> = protos
            .filter(|&proto| class.protos().contains(proto))
            .map(|proto| (u128::from(proto), u128::from(proto)))
            .collect();
        let flags = if class == Class::Tcp { u8::MAX } else { 0 };
        let flags = (0..=flags).filter(|&flags| clause.tcp_flags.contains(flags));
        let flags = flags.map(|flags| (flags.into(), flags.into())).collect();
        let fragment = match clause.fragment {
            None => (0, 1),
            Some(fragment) => (fragment.into(), fragment.into()),
        };
        let apps = match class {
            // Nothing else has a payload that is looked at.
            Class::Tcp | Class::Ports => AppSet::UNKNOWN,
            Class::Icmp | Class::Rest => 0,
        };
        let apps = (0..=apps).filter(|app| clause.app.is_none_or(|set| set.contains(*app)));
        let apps = apps.map(|app| (app.into(), app.into())).collect();
        if protos.is_empty() {
            return None;
        }
        Some([
            self.address(&clause.dst, family),
            self.address(&clause.src, family),
            self.numbers(&clause.dport, class.max_port()),
            self.numbers(&clause.sport, class.max_port()),
            self.intern(merge(protos)),
            self.side(clause.direction),
            self.numbers(&clause.vlan, UNTAGGED),
            self.intern(vec![(ethertype.into(), ethertype.into())]),
            self.mac(clause),
            self.intern(merge(flags)),
            self.intern(vec![fragment]),
            self.intern(merge(apps)),
        ])
    }

    fn not_ip(&mut self, clause: &'p Clause) -> Option<[Intervals; FIELDS]> {
        let types = clause.ethertype.as_ref()?;
        let as_if_empty = clause.protos.contains(0)
            && clause.src.is_any()
            && clause.dst.is_any()
            && clause.sport.contains(0)
            && clause.dport.contains(0)
            && clause.tcp_flags.contains(0)
            && clause.fragment != Some(true)
            && clause.app.is_none();
        if !as_if_empty {
            return None;
        }
        let zero = self.intern(vec![(0, 0)]);
        let ip = [(0x0800, 0x0800), (0x86dd, 0x86dd)];
        let types = subtract(&ports(types, u16::MAX), &ip);
        let mut fields = std::array::from_fn(|_| zero.clone());
        fields[SIDE] = self.side(clause.direction);
        fields[VLAN] = self.numbers(&clause.vlan, UNTAGGED);
        fields[ETHERTYPE] = self.intern(types);
        fields[MAC] = self.mac(clause);
        Some(fields)
    }

    fn intern(&mut self, intervals: Vec<(u128, u128)>) -> Intervals {
        match intervals[..] {
            [one] => self
                .single
                .entry(one)
                .or_insert_with(|| Rc::new([one]))
                .clone(),
            _ => intervals.into(),
        }
    }

    fn address(&mut self, wanted: &'p AddrMatch, family: Family) -> Intervals {
        if let Some(known) = self.addresses.get(&(wanted, family)) {
            return known.clone();
        }
        let intervals = wanted.intervals(self.sets, family);
        let intervals = self.intern(intervals);
        self.addresses.insert((wanted, family), intervals.clone());
        intervals
    }

    fn numbers(&mut self, wanted: &PortSet, max: u16) -> Intervals {
        let intervals = ports(wanted, max);
        self.intern(intervals)
    }

    fn side(&mut self, direction: Direction) -> Intervals {
        let sides = Side::BOTH.into_iter().filter(|side| direction.holds(*side));
        let sides = sides.map(|side| (side as u128, side as u128)).collect();
        self.intern(merge(sides))
    }

    fn mac(&mut self, clause: &Clause) -> Intervals {
        let number = |mac: &[u8; 6]| {
            let number = mac.iter().fold(0, |n, byte| n << 8 | u128::from(*byte));
            (number, number)
        };
        let wanted = &clause.src_mac;
        let any = if wanted.any_of.is_empty() {
            vec![(0, (1 << 48) - 1)]
        } else {
            merge(wanted.any_of.iter().map(number).collect())
        };
        let none = merge(wanted.none_of.iter().map(number).collect());
        self.intern(subtract(&any, &none))
    }
}

fn ports(wanted: &PortSet, max: u16) -> Vec<(u128, u128)> {
    let ranges = wanted.0.iter();
    let ranges = ranges.filter(|(first, last)| first <= last && *first <= max);
    merge(
        ranges
            .map(|&(first, last)| (first.into(), last.min(max).into()))
            .collect(),
    )
}

impl Product {
    /// The lowest value of each field: one frame that matches.
    pub fn corner(&self) -> [u128; FIELDS] {
        std::array::from_fn(|field| self.0[field].first().map_or(0, |interval| interval.0))
    }

    /// Lowest and highest value of each field.
    pub fn hull(&self) -> [(u128, u128); FIELDS] {
        std::array::from_fn(|field| {
            let ends = (self.0[field].first(), self.0[field].last());
            (ends.0.map_or(0, |i| i.0), ends.1.map_or(0, |i| i.1))
        })
    }

    pub fn holds(&self, point: &[u128; FIELDS]) -> bool {
        self.0.iter().zip(point).all(|(field, value)| {
            let after = field.partition_point(|interval| interval.1 < *value);
            field
                .get(after)
                .is_some_and(|interval| interval.0 <= *value)
        })
    }

    /// The fields, as bits, in which this has values that `other` does not have: 0 where `other` holds all of it.
    /// Adds to `work` how many intervals were looked at.
    pub fn beyond(&self, other: &Product, work: &mut usize) -> u32 {
        let pairs = self.0.iter().zip(&other.0).enumerate();
        pairs.fold(0, |bits, (field, (a, b))| {
            bits | u32::from(!within(a, b, work)) << field
        })
    }

    /// What of this is not in `other`, as disjoint products. `beyond` is what [`Product::beyond`] says of the two.
    /// Adds to `work` how many intervals were looked at.
    pub fn without(mut self, other: &Product, beyond: u32, work: &mut usize) -> Vec<Product> {
        let mut rest = Vec::new();
        for field in (0..FIELDS).filter(|field| beyond >> field & 1 == 1) {
            *work += self.0[field].len() + other.0[field].len();
            let outside = subtract(&self.0[field], &other.0[field]);
            let inside = subtract(&self.0[field], &outside);
            if !outside.is_empty() {
                let mut part = self.clone();
                part.0[field] = outside.into();
                rest.push(part);
            }
            self.0[field] = inside.into();
        }
        rest
    }

    /// Whether any value is in both. Adds to `work` how many intervals were looked at.
    pub fn meets(&self, other: &Product, work: &mut usize) -> bool {
        let mut pairs = self.0.iter().zip(&other.0);
        pairs.all(|(a, b)| overlap(a, b, work))
    }
}

/// Whether each value of `a` is in `b`.
fn within(a: &Intervals, b: &Intervals, work: &mut usize) -> bool {
    if Rc::ptr_eq(a, b) {
        return true;
    }
    let mut rest = &b[..];
    a.iter().all(|(first, last)| {
        *work += 1;
        rest = &rest[rest.partition_point(|interval| interval.1 < *first)..];
        rest.first()
            .is_some_and(|interval| interval.0 <= *first && *last <= interval.1)
    })
}

/// Whether any value is in both.
fn overlap(a: &Intervals, b: &Intervals, work: &mut usize) -> bool {
    let (few, many) = if a.len() < b.len() { (a, b) } else { (b, a) };
    few.iter().any(|(first, last)| {
        *work += 1;
        let after = many.partition_point(|interval| interval.1 < *first);
        many.get(after).is_some_and(|interval| interval.0 <= *last)
    })
}

/// The names of the fields as the config has them, in the order of [`Product`].
#[cfg(test)]
pub(super) const NAMES: [&str; FIELDS] = [
    "dst",
    "src",
    "dport",
    "sport",
    "proto",
    "direction",
    "vlan",
    "ethertype",
    "src_mac",
    "tcp_flags",
    "fragment",
    "app",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::rule::FlagMatch;

    fn in_planes(clause: &Clause) -> usize {
        let mut space = Space::new(&[]);
        planes()
            .filter(|plane| space.product(clause, *plane).is_some())
            .count()
    }

    #[test]
    fn a_clause_lies_in_the_planes_that_it_can_match_in() {
        let any = Clause::any(Direction::Out);
        assert_eq!(in_planes(&any), PLANES - 1);
        let flags = Clause {
            tcp_flags: FlagMatch(vec![(2, 2)]),
            ..any.clone()
        };
        assert_eq!(in_planes(&flags), 2);
        let arp = Clause {
            ethertype: Some(PortSet::one(0x0806)),
            ..any.clone()
        };
        assert_eq!(in_planes(&arp), 1);
        let ports = Clause {
            dport: PortSet::one(300),
            ..any
        };
        assert_eq!(in_planes(&ports), 4);
    }

    #[test]
    fn a_difference_is_disjoint_and_whole() {
        let clause = |first, last| Clause {
            protos: ProtoSet::of(&[6]),
            sport: PortSet(vec![(first, last)]),
            dport: PortSet(vec![(first, last)]),
            ..Clause::any(Direction::Out)
        };
        let (big, small) = (clause(0, 9), clause(3, 4));
        let plane = planes().next().unwrap();
        let mut space = Space::new(&[]);
        let big = space.product(&big, plane).unwrap();
        let small = space.product(&small, plane).unwrap();
        assert_eq!(small.beyond(&big, &mut 0), 0);
        let beyond = big.beyond(&small, &mut 0);
        assert_eq!(
            (0..FIELDS)
                .filter(|field| beyond >> field & 1 == 1)
                .map(|field| NAMES[field])
                .collect::<Vec<_>>(),
            ["dport", "sport"]
        );
        let rest = big.clone().without(&small, beyond, &mut 0);
        let mut point = big.corner();
        for (sport, dport) in (0..10).flat_map(|s| (0..10).map(move |d| (s, d))) {
            (point[3], point[2]) = (sport, dport);
            let held = rest.iter().filter(|part| part.holds(&point)).count();
            assert_eq!(held, usize::from(!small.holds(&point)));
        }
    }
}
