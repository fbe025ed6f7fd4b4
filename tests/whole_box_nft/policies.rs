//! Random policies that nftables can say too.

use super::keys::Dice;
use classbench::prefixes;
use portcullis::policy::addr::Family;
use portcullis::policy::{
    Action, AddrMatch, AddrRange, Clause, DEFAULT_RULE, Direction, FlagMatch, Origin, Policy,
    PortSet, ProtoSet, Rule, Set, Term, UNTAGGED,
};

/// Rules of a policy, without its default.
const RULES: usize = 50;
const MACS: [[u8; 6]; 3] = [
    [2, 0, 0, 0, 0, 9],
    [2, 0, 0, 0, 0, 0x25],
    [0x0a, 1, 2, 3, 4, 5],
];
const PORTS: [u16; 10] = [0, 22, 25, 53, 69, 443, 445, 6660, 6669, u16::MAX];

/// The policy of that seed. What nft has no word for is left out: ports or ICMP types of protocols of several kinds, and
/// protocols of frames that are not IP.
pub fn policy(seed: u64) -> Policy {
    let mut dice = Dice::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5ca1_ab1e);
    let drop_rest = seed % 2 == 1;
    // Rules that do the opposite of the default more often, so that much passes and much does not.
    let actions = match drop_rest {
        true => [Action::Allow, Action::Allow, Action::Drop],
        false => [Action::Drop, Action::Reject, Action::Allow],
    };
    let rule = |at| {
        let clauses = (0..1 + dice.roll(2)).map(|_| clause(&mut dice)).collect();
        Rule::new(
            format!("r{at}"),
            actions[dice.roll(3)],
            clauses,
            Origin::User { line: at },
        )
    };
    let mut rules: Vec<Rule> = (0..RULES).map(rule).collect();
    let default = if drop_rest {
        Action::Drop
    } else {
        Action::Allow
    };
    rules.push(Rule::new(
        DEFAULT_RULE,
        default,
        vec![Clause::any(Direction::Both)],
        Origin::Default,
    ));
    let listed = |family, n| prefixes(family, n, seed).into_iter().map(AddrRange::prefix);
    let sets = [
        listed(Family::V4, 400)
            .chain(listed(Family::V6, 200))
            .collect(),
        (0..12).map(|_| range(&mut dice)).collect(),
        Vec::new(),
    ];
    let named = |(at, ranges)| Set {
        name: format!("s{at}"),
        ranges,
        file: None,
    };
    Policy {
        rules,
        default,
        lan_prefixes: vec![],
        sets: sets.into_iter().enumerate().map(named).collect(),
        disabled: vec![],
        look_into: Default::default(),
        shadow: false,
    }
}

/// At least two of its fields say something.
fn clause(dice: &mut Dice) -> Clause {
    loop {
        let mut clause =
            Clause::any([Direction::Out, Direction::In, Direction::Both][dice.roll(3)]);
        let mut said = network(&mut clause, dice);
        for addr in [&mut clause.src, &mut clause.dst] {
            if dice.roll(2) == 0 {
                *addr = addr_match(dice);
                said += usize::from(!addr.any_of.is_empty());
            }
        }
        let link = dice.roll(12);
        said += usize::from(link < 7);
        match link {
            0 => clause.vlan = numbers(dice, &[0, 1, 10, 19, 4095]),
            1 => clause.vlan.0 = vec![(UNTAGGED, UNTAGGED)],
            2 => clause.vlan.0 = vec![(5, 8), (UNTAGGED, UNTAGGED)],
            3 => clause.src_mac.any_of = vec![MACS[dice.roll(3)], MACS[dice.roll(3)]],
            4 => clause.src_mac.none_of = vec![MACS[dice.roll(3)]],
            5 => clause.fragment = Some(true),
            6 => clause.fragment = Some(false),
            _ => {}
        }
        if said >= 2 {
            return clause;
        }
    }
}

/// Protocols and what belongs to them; how many fields were given.
fn network(clause: &mut Clause, dice: &mut Dice) -> usize {
    match dice.roll(12) {
        0..6 => {
            let protos: &[u8] = [&[6][..], &[17], &[6, 17]][dice.roll(3)];
            clause.protos = ProtoSet::of(protos);
            clause.dport = numbers(dice, &PORTS);
            if dice.roll(4) == 0 {
                clause.sport = numbers(dice, &PORTS);
            }
            2
        }
        6 => {
            clause.protos = ProtoSet::of(&[6]);
            let some = [
                (0x12, 0x02),
                (0x17, 0x10),
                (0x05, 0x00),
                (0xff, 0x00),
                (0x29, 0x29),
            ];
            clause.tcp_flags = FlagMatch(vec![some[dice.roll(5)], some[dice.roll(5)]]);
            2
        }
        7 | 8 => {
            let (proto, types) =
                [(1, [0, 3, 8, 11, 13]), (58, [1, 2, 128, 129, 135])][dice.roll(2)];
            clause.protos = ProtoSet::of(&[proto]);
            clause.sport = numbers(dice, &types);
            if dice.roll(2) == 0 {
                clause.dport = numbers(dice, &[0, 1, 3, 4, 9]);
            }
            2
        }
        9 => {
            clause.protos = [
                ProtoSet::of(&[89]),
                ProtoSet::all_but(&[6]),
                ProtoSet::all_but(&[17, 1]),
            ][dice.roll(3)];
            1
        }
        10 => {
            let some = [0x0800, 0x86dd, 0x88cc, 0x88b5];
            clause.ethertype = Some(PortSet::one(some[dice.roll(4)]));
            1
        }
        _ => 0,
    }
}

/// One to three ranges, most of one number.
fn numbers(dice: &mut Dice, from: &[u16]) -> PortSet {
    let count = 1 + dice.roll(3);
    let range = |_| {
        let (a, b) = (from[dice.roll(from.len())], from[dice.roll(from.len())]);
        if dice.roll(3) == 0 {
            (a.min(b), a.max(b))
        } else {
            (a, a)
        }
    };
    PortSet((0..count).map(range).collect())
}

fn addr_match(dice: &mut Dice) -> AddrMatch {
    let mut terms = |most: usize, sets: &[usize]| -> Vec<Term> {
        let count = dice.roll(most + 1);
        let term = |_| match dice.roll(3) {
            0 => Term::Set(sets[dice.roll(sets.len())]),
            _ => Term::Range(range(dice)),
        };
        (0..count).map(term).collect()
    };
    AddrMatch {
        any_of: terms(3, &[0, 1, 1, 2]),
        none_of: terms(1, &[0, 1, 2]),
    }
}

/// A prefix, an address or a range, in few and near places; any address of a family now and then.
fn range(dice: &mut Dice) -> AddrRange {
    let (family, base, width) = match dice.roll(2) {
        0 => (
            Family::V4,
            [10 << 24, 93 << 24, 192 << 24, 0][dice.roll(4)],
            32,
        ),
        _ => (
            Family::V6,
            [0xfd77 << 112, 0x2001_0db8 << 96, 0x2606_2800 << 96, 0][dice.roll(4)],
            128,
        ),
    };
    let near =
        |dice: &mut Dice| base + ((dice.roll(256) as u128) << [0, 8, width - 16][dice.roll(3)]);
    let first = near(dice);
    let (first, last) = match dice.roll(4) {
        0 => (first, first),
        1 => {
            let other = near(dice);
            (first.min(other), first.max(other))
        }
        _ => {
            let host = family.max() >> [8, 16, 24, width - 1, width / 2][dice.roll(5)];
            (first & !host, first | host)
        }
    };
    AddrRange {
        family,
        first,
        last,
    }
}
