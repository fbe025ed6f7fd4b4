//! The compiled table is the rules, read one by one: random policies and keys, compared with the oracle.

use portcullis::frame::Net;
use portcullis::policy::addr::Family;
use portcullis::policy::{
    Action, AddrMatch, AddrRange, Clause, DEFAULT_RULE, Direction, Key, Origin, Policy, PortSet,
    ProtoSet, Rule, RuleId, Set, Side, Table, Term, explain, oracle,
};
use proptest::prelude::*;
use proptest::sample::select;

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
        Just(1 << 32),
        any::<u128>()
    ];
    prop_oneof![
        v4.prop_map(|n| (Family::V4, n)),
        v6.prop_map(|n| (Family::V6, n))
    ]
}

fn range() -> impl Strategy<Value = AddrRange> {
    (
        address(),
        prop_oneof![Just(0u128), 0u128..9, 0u128..1 << 20, Just(u128::MAX)],
    )
        .prop_map(|((family, first), more)| AddrRange {
            family,
            first,
            last: first.saturating_add(more).min(family.max()),
        })
}

fn term() -> impl Strategy<Value = Term> {
    prop_oneof![3 => range().prop_map(Term::Range), 2 => (0usize..4).prop_map(Term::Set)]
}

fn addr_match() -> impl Strategy<Value = AddrMatch> {
    let some = (
        prop::collection::vec(term(), 0..3),
        prop::collection::vec(term(), 0..3),
    )
        .prop_map(|(any_of, none_of)| AddrMatch { any_of, none_of });
    prop_oneof![2 => Just(AddrMatch::any()), 3 => some]
}

fn number() -> impl Strategy<Value = u16> {
    prop_oneof![0u16..6, 65_530u16..=65_535, Just(69), Just(443)]
}

fn ports() -> impl Strategy<Value = PortSet> {
    let some = prop::collection::vec((number(), number()), 1..3).prop_map(|list| {
        PortSet(
            list.into_iter()
                .map(|(a, b)| (a.min(b), a.max(b)))
                .collect(),
        )
    });
    prop_oneof![3 => Just(PortSet::any()), 2 => some]
}

fn direction() -> impl Strategy<Value = Direction> {
    select(vec![Direction::Out, Direction::In, Direction::Both])
}

fn clause() -> impl Strategy<Value = Clause> {
    let with = select(vec![
        ProtoSet::of(&[6]),
        ProtoSet::of(&[17]),
        ProtoSet::of(&[6, 17]),
        ProtoSet::of(&[1]),
        ProtoSet::of(&[58]),
    ]);
    let without = select(vec![
        ProtoSet::ALL,
        ProtoSet::all_but(&[17]),
        ProtoSet::of(&[0, 47, 255]),
    ]);
    let head = prop_oneof![
        (with, ports(), ports()),
        without.prop_map(|protos| (protos, PortSet::any(), PortSet::any())),
    ];
    (direction(), head, addr_match(), addr_match()).prop_map(
        |(direction, (protos, sport, dport), src, dst)| Clause {
            direction,
            protos,
            src,
            dst,
            sport,
            dport,
            ..Clause::any(direction)
        },
    )
}

fn rule(at: usize, clauses: Vec<Clause>, action: Action) -> Rule {
    Rule::new(format!("r{at}"), action, clauses, Origin::User { line: at })
}

fn policy(rules: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Policy> {
    let action = select(vec![Action::Allow, Action::Drop, Action::Reject]);
    let rules = prop::collection::vec((prop::collection::vec(clause(), 0..4), action), rules);
    let sets = prop::collection::vec(prop::collection::vec(range(), 0..5), 3);
    (rules, sets).prop_map(|(rules, mut sets)| {
        sets.push(Vec::new());
        let mut rules: Vec<_> = rules
            .into_iter()
            .enumerate()
            .map(|(at, (clauses, action))| rule(at, clauses, action))
            .collect();
        rules.push(Rule::new(
            DEFAULT_RULE,
            Action::Drop,
            vec![Clause::any(Direction::Both)],
            Origin::Default,
        ));
        let sets = sets
            .into_iter()
            .enumerate()
            .map(|(at, ranges)| Set {
                name: format!("s{at}"),
                ranges,
                file: None,
            })
            .collect();
        Policy {
            rules,
            default: Action::Drop,
            lan_prefixes: vec![],
            sets,
            disabled: vec![],
            shadow: false,
        }
    })
}

/// A small generator of numbers for keys: proptest's own strategies are too slow for a quarter of a million of them.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len())]
    }
}

/// The ends of every range of the policy and their neighbours, by family, with the ends of the family.
fn edges(policy: &Policy, family: Family) -> Vec<u128> {
    let in_rules = policy
        .rules
        .iter()
        .flat_map(|rule| &rule.clauses)
        .flat_map(|clause| [&clause.src, &clause.dst]);
    let terms = in_rules.flat_map(|wanted| wanted.any_of.iter().chain(&wanted.none_of));
    let ranges = terms.filter_map(|term| {
        if let Term::Range(range) = term {
            Some(range)
        } else {
            None
        }
    });
    let ranges = ranges
        .chain(policy.sets.iter().flat_map(|set| &set.ranges))
        .filter(|range| range.family == family);
    let near = ranges.flat_map(|range| {
        [
            range.first.saturating_sub(1),
            range.first,
            range.last,
            range.last.saturating_add(1).min(family.max()),
        ]
    });
    near.chain([0, family.max(), family.max() / 3]).collect()
}

fn key(dice: &mut Dice, edges: &[Vec<u128>; 2]) -> Key {
    let v6 = dice.roll(2) == 1;
    let numbers = [
        0, 1, 5, 6, 68, 69, 70, 442, 443, 444, 65_529, 65_530, 65_534, 65_535,
    ];
    let edges = &edges[usize::from(v6)];
    Key {
        src: dice.pick(edges),
        dst: dice.pick(edges),
        sport: dice.pick(&numbers),
        dport: if dice.roll(4) == 0 {
            dice.roll(65_536) as u16
        } else {
            dice.pick(&numbers)
        },
        proto: dice.pick(&[6, 17, 6, 17, 1, 58, 0, 47, 255, 18]),
        side: dice.pick(&Side::BOTH),
        net: if v6 { Net::V6 } else { Net::V4 },
        ethertype: if v6 { 0x86dd } else { 0x0800 },
        ..Key::EMPTY
    }
}

/// Compares `bursts` bursts of 64 keys; answers how many pairs were compared and how many of them met a rule.
fn compare(policy: &Policy, seed: u64, bursts: usize) -> Result<(usize, usize), TestCaseError> {
    let table = Table::compile(policy).unwrap();
    let edges = [edges(policy, Family::V4), edges(policy, Family::V6)];
    let mut dice = Dice(seed | 1);
    let (mut pairs, mut met) = (0, 0);
    for _ in 0..bursts {
        let keys: Vec<_> = (0..64).map(|_| key(&mut dice, &edges)).collect();
        let mut found = [RuleId(u32::MAX); 64];
        table.classify(&keys, &mut found);
        for (key, found) in keys.iter().zip(found) {
            prop_assert_eq!(
                found,
                oracle::evaluate(policy, key),
                "{:?} in {:#?}",
                key,
                policy
            );
            prop_assert_eq!(found, table.lookup(key));
            pairs += 1;
            met += usize::from(found.index() + 1 < policy.rules.len());
        }
    }
    Ok((pairs, met))
}

#[test]
fn the_table_and_the_rules_read_one_by_one_agree() {
    use std::cell::Cell;
    let total = Cell::new((0, 0));
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 500,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let small = (policy(0..14usize), any::<u64>());
    runner
        .run(&small, |(policy, seed)| {
            let (pairs, met) = compare(&policy, seed, 8)?;
            total.set((total.get().0 + pairs, total.get().1 + met));
            Ok(())
        })
        .unwrap();
    let (pairs, met) = total.get();
    println!("{pairs} pairs agree, {met} of them met a rule");
    assert!(
        pairs >= 250_000 && met * 4 > pairs,
        "{pairs} pairs, {met} met a rule"
    );
}

#[test]
fn rules_beyond_one_word_of_bits_are_found_in_order() {
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&(policy(60..140usize), any::<u64>()), |(policy, seed)| {
            compare(&policy, seed, 12).map(|_| ())
        })
        .unwrap();
}

#[test]
fn a_burst_of_any_length_is_answered_as_far_as_both_slices_reach() {
    let portcullis = portcullis::config::parse("", "", std::path::Path::new(""))
        .unwrap()
        .policy;
    let table = Table::compile(&portcullis).unwrap();
    let key = Key {
        src: 1,
        dst: 0x0808_0808,
        sport: 9,
        dport: 69,
        proto: 17,
        side: Side::Lan,
        net: Net::V4,
        ethertype: 0x0800,
        ..Key::EMPTY
    };
    for (keys, out) in [
        (0, 0),
        (0, 3),
        (1, 1),
        (3, 2),
        (2, 3),
        (64, 64),
        (65, 65),
        (200, 130),
        (70, 200),
    ] {
        let mut found = vec![RuleId(u32::MAX); out];
        table.classify(&vec![key; keys], &mut found);
        let (reached, rest) = found.split_at(keys.min(out));
        assert!(
            reached.iter().all(|id| *id == RuleId(0)),
            "{keys} keys, {out} places"
        );
        assert!(
            rest.iter().all(|id| *id == RuleId(u32::MAX)),
            "{keys} keys, {out} places"
        );
    }
}

#[test]
fn sixty_five_thousand_rules_compile_and_one_more_is_refused() {
    let mut policy = portcullis::config::parse("", "", std::path::Path::new(""))
        .unwrap()
        .policy;
    let default = policy.rules.pop().unwrap();
    policy.rules = (0..2000)
        .map(|at| {
            rule(
                at,
                vec![Clause {
                    dport: PortSet::one(at as u16),
                    protos: ProtoSet::of(&[6]),
                    ..Clause::any(Direction::Out)
                }],
                Action::Drop,
            )
        })
        .collect();
    policy.rules.push(default.clone());
    let table = Table::compile(&policy).unwrap();
    let key = |dport| Key {
        src: 1,
        dst: 2,
        sport: 3,
        dport,
        proto: 6,
        side: Side::Lan,
        net: Net::V4,
        ethertype: 0x0800,
        ..Key::EMPTY
    };
    assert_eq!(table.lookup(&key(1999)), RuleId(1999));
    assert_eq!(table.lookup(&key(2000)), RuleId(2000));
    let empty = rule(0, vec![], Action::Drop);
    policy.rules = vec![empty; 65_534];
    policy.rules.push(default.clone());
    let table = Table::compile(&policy).unwrap();
    assert_eq!(table.lookup(&key(1)), RuleId(65_534));
    policy.rules.push(default);
    let error = Table::compile(&policy).unwrap_err();
    assert_eq!(
        error.to_string(),
        "65536 rules, and a policy holds at most 65535"
    );
}

#[test]
fn an_explanation_names_the_clause_and_what_would_have_matched_after_it() {
    let text = "lan.prefixes = [\"10.0.0.0/8\"]\n[[rule]]\nname = \"mine\"\nproto = \"udp\"\ndst = \"!@resolvers\"\naction = \"reject\"\nalert = \"low\"\n";
    let policy = portcullis::config::parse(text, "p.toml", std::path::Path::new(""))
        .unwrap()
        .policy;
    let table = Table::compile(&policy).unwrap();
    let key = Key {
        src: 0x0a00_0001,
        dst: 0x0808_0808,
        sport: 9,
        dport: 69,
        proto: 17,
        side: Side::Lan,
        net: Net::V4,
        ethertype: 0x0800,
        ..Key::EMPTY
    };
    let said = explain(&policy, &table, &key).unwrap();
    assert_eq!(
        (said.verdict, said.reason, said.rule.as_str(), said.alert),
        ("reject", Some("rule"), "mine", Some("low"))
    );
    assert_eq!(
        said.why,
        "the first rule that matches is `mine` (line 2 of the config): direction out, proto udp, dst !@resolvers"
    );
    assert_eq!(said.also, ["tftp"]);
    let shifted = text.replacen(
        "[[rule]]",
        "[[rule]]\nname = \"nobody\"\nsrc = \"@resolvers\"\naction = \"drop\"\n[[rule]]",
        1,
    );
    let other = portcullis::config::parse(&shifted, "q.toml", std::path::Path::new(""))
        .unwrap()
        .policy;
    let wrong = explain(&other, &table, &key).unwrap_err();
    assert!(
        wrong.to_string().starts_with(
            "the compiled table says rule `nobody` and the rules read one by one say `mine`"
        ),
        "{wrong}"
    );
}
