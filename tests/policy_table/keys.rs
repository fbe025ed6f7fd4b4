//! Random keys that are near to what a policy speaks of: the ends of its ranges and their neighbours.

use portcullis::frame::Net;
use portcullis::policy::addr::Family;
use portcullis::policy::{
    AddrMatch, AddrRange, AppSet, Clause, Key, Policy, PortSet, Side, Term, UNTAGGED,
};

/// A small generator of numbers: proptest's own strategies are too slow for millions of keys.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    fn bits(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `below`; 0 where that is 0.
    pub fn roll(&mut self, below: usize) -> usize {
        ((u128::from(self.bits()) * below as u128) >> 64) as usize
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.roll(from.len())).copied()
    }

    /// The first or the last, or something between.
    fn within(&mut self, first: u128, last: u128) -> u128 {
        match self.roll(4) {
            0 => first,
            1 => last,
            _ => {
                let wide = u128::from(self.bits()) << 64 | u128::from(self.bits());
                (last - first)
                    .checked_add(1)
                    .map_or(wide, |size| first + wide % size)
            }
        }
    }

    fn port(&mut self, set: &PortSet) -> Option<u16> {
        let (first, last) = self.pick(&set.0)?;
        Some(self.within(first.into(), last.into()) as u16)
    }
}

/// Few enough that a key often has one of them.
pub const APPS: [u8; 4] = [1, 3, 9, AppSet::UNKNOWN];

/// Makes keys for one policy.
pub struct Keys<'a> {
    sets: Vec<&'a [AddrRange]>,
    clauses: Vec<&'a Clause>,
    /// Ends and neighbours of every address range, IPv4 and IPv6.
    addresses: [Vec<u128>; 2],
    /// The same of every port range.
    ports: Vec<u16>,
    ethertypes: Vec<u16>,
    vlans: Vec<u16>,
    macs: Vec<[u8; 6]>,
}

impl<'a> Keys<'a> {
    pub fn new(policy: &'a Policy) -> Keys<'a> {
        let clauses: Vec<&Clause> = policy.rules.iter().flat_map(|rule| &rule.clauses).collect();
        let lists = |of: fn(&Clause) -> &PortSet, usual: &[u16]| {
            let ranges = clauses.iter().flat_map(|clause| &of(clause).0);
            let ends = ranges.flat_map(|(a, b)| [a.saturating_sub(1), *a, *b, b.saturating_add(1)]);
            let mut numbers: Vec<u16> = ends.chain(usual.iter().copied()).collect();
            numbers.sort_unstable();
            numbers.dedup();
            numbers
        };
        let mut ports = lists(|clause| &clause.dport, &[0, 1, 69, u16::MAX]);
        ports.extend(lists(|clause| &clause.sport, &[]));
        let named = clauses
            .iter()
            .filter_map(|clause| clause.ethertype.as_ref());
        let named = named
            .flat_map(|list| &list.0)
            .flat_map(|(a, b)| [*a, *b, b.saturating_add(1)]);
        let vlans = lists(|clause| &clause.vlan, &[0, 1, 4095, UNTAGGED]);
        let macs = clauses.iter().map(|clause| &clause.src_mac);
        let macs = macs
            .flat_map(|macs| macs.any_of.iter().chain(&macs.none_of))
            .copied();
        Keys {
            sets: policy.sets.iter().map(|set| &set.ranges[..]).collect(),
            addresses: [Family::V4, Family::V6].map(|family| edges(policy, &clauses, family)),
            ports,
            ethertypes: named.chain([0x0800, 0x86dd, 0x0806, 0]).collect(),
            vlans: vlans.into_iter().filter(|id| *id <= UNTAGGED).collect(),
            macs: macs.chain([[0; 6], [2, 0, 0, 0, 0, 2]]).collect(),
            clauses,
        }
    }

    /// One key. Most are aimed at a clause: each field is, more often than not, one that the clause matches.
    pub fn key(&self, dice: &mut Dice) -> Key {
        let aim = match dice.roll(8) {
            0 => None,
            _ => dice.pick(&self.clauses),
        };
        // Whether this field is drawn from the clause that is aimed at; how often it is not makes near misses and hits.
        let keep = [3, 15, 63][dice.roll(3)];
        let aims: [_; 10] = std::array::from_fn(|_| aim.filter(|_| dice.roll(keep + 1) != 0));
        let [
            net,
            vlan,
            mac,
            side,
            src,
            dst,
            sport,
            dport,
            transport,
            fragment,
        ] = aims;
        let (net, ethertype) = self.net(dice, net);
        let sides = if dice.roll(2) == 0 {
            [Side::Lan, Side::Uplink]
        } else {
            [Side::Uplink, Side::Lan]
        };
        let held = |clause: &Clause| sides.into_iter().find(|side| clause.direction.holds(*side));
        let mut key = Key {
            net,
            ethertype,
            side: side.and_then(held).unwrap_or(sides[0]),
            vlan: self.vlan(dice, vlan),
            src_mac: self.mac(dice, mac),
            ..Key::EMPTY
        };
        let Some(family) = key.family() else {
            return key;
        };
        key.src = self.address(dice, family, src.map(|clause| &clause.src));
        key.dst = self.address(dice, family, dst.map(|clause| &clause.dst));
        key.sport = self.port(dice, sport.map(|clause| &clause.sport));
        key.dport = self.port(dice, dport.map(|clause| &clause.dport));
        key.proto = proto(dice, transport);
        key.fragment = match fragment.and_then(|clause| clause.fragment) {
            Some(fragment) => fragment,
            None => dice.roll(4) == 0,
        };
        if key.proto == 6 {
            key.tcp_flags = flags(dice, transport);
        }
        if dice.roll(2) == 0 {
            key.app = dice.pick(&APPS).unwrap_or(0);
        }
        key
    }

    fn net(&self, dice: &mut Dice, clause: Option<&Clause>) -> (Net, u16) {
        let named = clause.and_then(|clause| dice.port(clause.ethertype.as_ref()?));
        let ethertype = match (named, dice.roll(8)) {
            (Some(named), _) => named,
            (None, 0) => dice.pick(&self.ethertypes).unwrap_or(0),
            // As the addresses of the clause are, where it has any.
            (None, _) => match clause.and_then(|clause| self.family(clause)) {
                Some(Family::V4) => 0x0800,
                Some(Family::V6) => 0x86dd,
                None => [0x0800, 0x86dd][dice.roll(2)],
            },
        };
        match ethertype {
            0x0800 => (Net::V4, ethertype),
            0x86dd => (Net::V6, ethertype),
            0 => (Net::Llc, 0),
            _ => (Net::Other, ethertype),
        }
    }

    /// The family of the first address range of a clause.
    fn family(&self, clause: &Clause) -> Option<Family> {
        let mut terms = clause.dst.any_of.iter().chain(&clause.src.any_of);
        terms.find_map(|term| match term {
            Term::Range(range) => Some(range.family),
            Term::Set(set) => Some(self.sets.get(*set)?.first()?.family),
        })
    }

    fn address(&self, dice: &mut Dice, family: Family, wanted: Option<&AddrMatch>) -> u128 {
        let term = wanted.and_then(|wanted| dice.pick(&wanted.any_of));
        let range = term.and_then(|term| match term {
            Term::Range(range) => Some(range),
            Term::Set(set) => dice.pick(self.sets.get(set)?),
        });
        match (range, dice.roll(16)) {
            (Some(range), _) if range.family == family => dice.within(range.first, range.last),
            (_, 0) => dice.within(0, family.max()),
            _ => dice.pick(&self.addresses[family as usize]).unwrap_or(0),
        }
    }

    fn port(&self, dice: &mut Dice, wanted: Option<&PortSet>) -> u16 {
        let aimed = wanted
            .filter(|set| !set.is_any())
            .and_then(|set| dice.port(set));
        match (aimed, dice.roll(8)) {
            (Some(port), _) => port,
            (None, 0) => dice.roll(1 << 16) as u16,
            _ => dice.pick(&self.ports).unwrap_or(0),
        }
    }

    fn vlan(&self, dice: &mut Dice, clause: Option<&Clause>) -> u16 {
        let aimed = clause
            .filter(|clause| !clause.vlan.is_any())
            .and_then(|clause| dice.port(&clause.vlan));
        match (aimed, dice.roll(4)) {
            (Some(id), _) => id.min(UNTAGGED),
            (None, 0) => dice.pick(&self.vlans).unwrap_or(UNTAGGED),
            (None, 1) => dice.roll(4097) as u16,
            _ => UNTAGGED,
        }
    }

    fn mac(&self, dice: &mut Dice, clause: Option<&Clause>) -> [u8; 6] {
        let aimed = clause.and_then(|clause| dice.pick(&clause.src_mac.any_of));
        let mut mac = aimed.or_else(|| dice.pick(&self.macs)).unwrap_or_default();
        if dice.roll(8) == 0 {
            mac[dice.roll(6)] ^= 1 << dice.roll(8);
        }
        mac
    }
}

fn proto(dice: &mut Dice, clause: Option<&Clause>) -> u8 {
    let random = match dice.roll(4) {
        0 => dice.roll(256) as u8,
        _ => [6, 17, 1, 58, 0, 47, 255, 18][dice.roll(8)],
    };
    match clause.map(|clause| clause.protos) {
        // The next protocol that the clause names, round the circle.
        Some(protos) => (0..=255)
            .map(|step| random.wrapping_add(step))
            .find(|proto| protos.contains(*proto)),
        None => None,
    }
    .unwrap_or(random)
}

fn flags(dice: &mut Dice, clause: Option<&Clause>) -> u8 {
    let random = match dice.roll(2) {
        0 => dice.roll(256) as u8,
        _ => [0x02, 0x12, 0x10, 0x18, 0x04, 0x11, 0x00, 0xff][dice.roll(8)],
    };
    match clause.and_then(|clause| dice.pick(&clause.tcp_flags.0)) {
        Some((mask, value)) => random & !mask | value & mask,
        None => random,
    }
}

/// The ends of every address range of the policy and their neighbours, with the ends of the family.
fn edges(policy: &Policy, clauses: &[&Clause], family: Family) -> Vec<u128> {
    let wanted = clauses.iter().flat_map(|clause| [&clause.src, &clause.dst]);
    let terms = wanted.flat_map(|wanted| wanted.any_of.iter().chain(&wanted.none_of));
    let in_rules = terms.filter_map(|term| match term {
        Term::Range(range) => Some(range),
        Term::Set(_) => None,
    });
    let in_sets = policy.sets.iter().flat_map(|set| &set.ranges);
    let ranges = in_rules
        .chain(in_sets)
        .filter(|range| range.family == family);
    let near = ranges.flat_map(|range| {
        let after = range.last.saturating_add(1).min(family.max());
        [
            range.first.saturating_sub(1),
            range.first,
            range.last,
            after,
        ]
    });
    near.chain([0, family.max(), family.max() / 3]).collect()
}
