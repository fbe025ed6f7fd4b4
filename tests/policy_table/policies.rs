//! Random policies: small ones of every kind of match, and large ones like those that administrators have.

use classbench::{Kind, generate, prefixes};
use portcullis::policy::addr::Family;
use portcullis::policy::{
    Action, AddrMatch, AddrRange, AppSet, Clause, DEFAULT_RULE, Direction, FlagMatch, MacMatch,
    Origin, Policy, PortSet, ProtoSet, Rule, Set, Term, UNTAGGED,
};
use proptest::prelude::*;
use proptest::sample::select;

use super::keys::{APPS, Dice};

/// Few and close numbers, so that ranges meet, touch and overlap, and the ends of each family.
fn address() -> impl Strategy<Value = (Family, u128)> {
    let v4 = prop_oneof![
        0u128..12,
        (0u128..12).prop_map(|n| u128::from(u32::MAX) - n),
        Just(0x0a00_0000),
        0..=u128::from(u32::MAX)
    ];
    let v6 = prop_oneof![
        0u128..12,
        (0u128..12).prop_map(|n| u128::MAX - n),
        // Where the halves and quarters of the address meet.
        select(vec![
            1 << 32,
            1 << 64,
            (1 << 64) - 1,
            0x2001_0db8 << 96,
            1 << 127
        ]),
        any::<u128>()
    ];
    prop_oneof![
        v4.prop_map(|n| (Family::V4, n)),
        v6.prop_map(|n| (Family::V6, n))
    ]
}

fn range() -> impl Strategy<Value = AddrRange> {
    let more = prop_oneof![
        Just(0u128),
        0u128..9,
        0u128..1 << 20,
        Just((1 << 64) - 1),
        Just(u128::MAX)
    ];
    (address(), more).prop_map(|((family, first), more)| AddrRange {
        family,
        first,
        last: first.saturating_add(more).min(family.max()),
    })
}

fn term() -> impl Strategy<Value = Term> {
    prop_oneof![3 => range().prop_map(Term::Range), 2 => (0usize..4).prop_map(Term::Set)]
}

fn addr_match() -> impl Strategy<Value = AddrMatch> {
    let terms = || prop::collection::vec(term(), 0..3);
    let some = (terms(), terms()).prop_map(|(any_of, none_of)| AddrMatch { any_of, none_of });
    prop_oneof![2 => Just(AddrMatch::any()), 3 => some]
}

/// Lists of ranges of numbers that are near each other, or all numbers.
fn numbers(of: impl Strategy<Value = u16> + Clone + 'static) -> impl Strategy<Value = PortSet> {
    prop::collection::vec((of.clone(), of), 0..4).prop_map(|list| {
        PortSet(
            list.into_iter()
                .map(|(a, b)| (a.min(b), a.max(b)))
                .collect(),
        )
    })
}

fn ports() -> impl Strategy<Value = PortSet> {
    let number = prop_oneof![
        0u16..6,
        65_530u16..=65_535,
        Just(69),
        Just(443),
        1020u16..1030
    ];
    prop_oneof![3 => Just(PortSet::any()), 2 => numbers(number)]
}

fn ethertypes() -> impl Strategy<Value = Option<PortSet>> {
    let ethertype = select(vec![0x0000, 0x0800, 0x0806, 0x86dd, 0x86de, 0x88cc, 0xffff]);
    prop_oneof![
        8 => Just(None),
        1 => numbers(ethertype).prop_map(Some),
        1 => select(vec![0x0800, 0x86dd, 0x0806]).prop_map(|one| Some(PortSet::one(one))),
        1 => Just(Some(PortSet::any())),
    ]
}

fn vlan() -> impl Strategy<Value = PortSet> {
    let id = select(vec![0, 1, 2, 10, 11, 4094, 4095, UNTAGGED]);
    prop_oneof![8 => Just(PortSet::any()), 2 => numbers(id)]
}

/// Addresses that differ in their first, their last or no byte.
pub const MACS: [[u8; 6]; 5] = [
    [2, 0, 0, 0, 0, 1],
    [2, 0, 0, 0, 0, 2],
    [3, 0, 0, 0, 0, 1],
    [0; 6],
    [0xff; 6],
];

fn macs() -> impl Strategy<Value = MacMatch> {
    let some = || prop::collection::vec(select(MACS.to_vec()), 0..3);
    let any = MacMatch::default();
    prop_oneof![8 => Just(any), 2 => (some(), some()).prop_map(|(any_of, none_of)| MacMatch { any_of, none_of })]
}

fn flags() -> impl Strategy<Value = FlagMatch> {
    // Usual combinations, and any mask with any value, which may be one that it never leaves.
    let usual = select(vec![
        (0x02, 0x02),
        (0x12, 0x02),
        (0x17, 0x02),
        (0x05, 0x00),
        (0xff, 0x00),
        (0, 0),
    ]);
    let alternative = prop_oneof![3 => usual, 1 => any::<(u8, u8)>()];
    prop_oneof![8 => Just(FlagMatch::default()), 2 => prop::collection::vec(alternative, 1..3).prop_map(FlagMatch)]
}

fn protos() -> impl Strategy<Value = ProtoSet> {
    select(vec![
        ProtoSet::of(&[6]),
        ProtoSet::of(&[17]),
        ProtoSet::of(&[6, 17]),
        ProtoSet::of(&[1]),
        ProtoSet::of(&[58]),
        ProtoSet::ALL,
        ProtoSet::all_but(&[17]),
        ProtoSet::of(&[0, 47, 255]),
        ProtoSet::EMPTY,
    ])
}

fn apps() -> impl Strategy<Value = Option<AppSet>> {
    let some = prop::collection::vec(select(APPS.to_vec()), 1..3);
    let set = |numbers: Vec<u8>| numbers.into_iter().fold(AppSet::EMPTY, AppSet::with);
    prop_oneof![7 => Just(None), 3 => some.prop_map(move |numbers| Some(set(numbers)))]
}

/// With matches of the link, of flags and of fragments, or without.
fn clause(link: bool) -> impl Strategy<Value = Clause> {
    let direction = select(vec![Direction::Out, Direction::In, Direction::Both]);
    let fragment = prop_oneof![8 => Just(None), 1 => Just(Some(true)), 1 => Just(Some(false))];
    let network = (
        direction,
        protos(),
        addr_match(),
        addr_match(),
        ports(),
        ports(),
    );
    let more = (ethertypes(), vlan(), macs(), flags(), fragment, apps());
    let link = match link {
        true => prop_oneof![1 => Just(None), 1 => more.prop_map(Some)].boxed(),
        false => Just(None).boxed(),
    };
    (network, link).prop_map(|((direction, protos, src, dst, sport, dport), link)| {
        let network = Clause {
            protos,
            src,
            dst,
            sport,
            dport,
            ..Clause::any(direction)
        };
        match link {
            None => network,
            Some((ethertype, vlan, src_mac, tcp_flags, fragment, app)) => Clause {
                ethertype,
                vlan,
                src_mac,
                tcp_flags,
                fragment,
                app,
                ..network
            },
        }
    })
}

/// A rule of no particular origin, named by its number.
pub fn rule(at: usize, clauses: Vec<Clause>, action: Action) -> Rule {
    Rule::new(format!("r{at}"), action, clauses, Origin::User { line: at })
}

/// These rules and sets, and the default behind them.
fn ended(mut rules: Vec<Rule>, sets: Vec<Vec<AddrRange>>) -> Policy {
    let all = vec![Clause::any(Direction::Both)];
    rules.push(Rule::new(DEFAULT_RULE, Action::Drop, all, Origin::Default));
    let named = |(at, ranges)| Set {
        name: format!("s{at}"),
        ranges,
        file: None,
    };
    Policy {
        rules,
        default: Action::Drop,
        lan_prefixes: vec![],
        sets: sets.into_iter().enumerate().map(named).collect(),
        disabled: vec![],
        look_into: Default::default(),
        shadow: false,
    }
}

/// Policies of that many rules of up to three clauses each, with four sets, the last one empty. Half of them speak of
/// the network alone.
pub fn policy(
    rules: impl Into<prop::collection::SizeRange> + Clone,
) -> impl Strategy<Value = Policy> {
    prop_oneof![policy_of(rules.clone(), false), policy_of(rules, true)]
}

fn policy_of(
    rules: impl Into<prop::collection::SizeRange>,
    link: bool,
) -> impl Strategy<Value = Policy> {
    let action = select(vec![Action::Allow, Action::Drop, Action::Reject]);
    let clauses = prop::collection::vec(clause(link), 0..4);
    let rules = prop::collection::vec((clauses, action), rules);
    let sets = prop::collection::vec(prop::collection::vec(range(), 0..5), 3);
    (rules, sets).prop_map(|(rules, mut sets)| {
        sets.push(Vec::new());
        let rules = rules.into_iter().enumerate();
        let rules = rules.map(|(at, (clauses, action))| rule(at, clauses, action));
        ended(rules.collect(), sets)
    })
}

/// `n` rules of both families as ClassBench has them, with `link` a tenth of them with a match of the link or of flags on
/// top, and among them rules on large sets, one of these negated.
pub fn large(kind: Kind, n: usize, link: bool, seed: u64) -> Policy {
    let mut dice = Dice::new(seed);
    let mut rules = [kind.v4(), kind.v6()].map(|profile| {
        let mut rules = classbench::policy(&generate(profile, n / 2, seed)).rules;
        // Its default rule, and the line before it that matches everything.
        rules.truncate(rules.len() - 2);
        rules.into_iter().peekable()
    });
    let mut mixed = Vec::with_capacity(n + 4);
    while rules.iter_mut().any(|of_family| of_family.peek().is_some()) {
        mixed.extend(rules[dice.roll(2)].next());
    }
    for rule in mixed.iter_mut().filter(|_| link) {
        decorate(&mut rule.clauses[0], &mut dice);
    }
    let sets = [
        (Family::V4, 2000),
        (Family::V6, 1000),
        (Family::V4, 300),
        (Family::V6, 300),
    ];
    let sets = sets.map(|(family, n)| {
        prefixes(family, n, seed)
            .into_iter()
            .map(AddrRange::prefix)
            .collect()
    });
    for (set, ports) in [
        (0, (0, u16::MAX)),
        (1, (0, 1023)),
        (2, (80, 90)),
        (3, (443, 443)),
    ] {
        let terms = vec![Term::Set(set)];
        let dst = match set {
            3 => AddrMatch {
                any_of: vec![],
                none_of: terms,
            },
            _ => AddrMatch {
                any_of: terms,
                none_of: vec![],
            },
        };
        let clause = Clause {
            dst,
            dport: PortSet(vec![ports]),
            ..Clause::any(Direction::Out)
        };
        // Not among the first, where it would answer for most packets.
        let at = mixed.len() / 2 + dice.roll(mixed.len() / 2);
        mixed.insert(at, rule(at, vec![clause], Action::Reject));
    }
    ended(mixed, sets.into())
}

fn decorate(clause: &mut Clause, dice: &mut Dice) {
    match dice.roll(60) {
        0 => clause.vlan = PortSet(vec![(10, 19), (UNTAGGED, UNTAGGED)]),
        1 => clause.src_mac.none_of = vec![MACS[dice.roll(MACS.len())]],
        2 => clause.tcp_flags = FlagMatch(vec![(0x12, 0x02)]),
        3 => clause.fragment = Some(false),
        4 => clause.ethertype = Some(PortSet(vec![(0x0800, 0x0806), (0x86dd, 0x86dd)])),
        5 => clause.direction = Direction::In,
        _ => {}
    }
}
