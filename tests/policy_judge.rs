//! What is said of rules that never decide is so, and all that is so is said: random small policies, read rule by rule
//! over every frame that they can tell apart.

use portcullis::frame::Net;
use portcullis::policy::judge::{self, Agreement, Finding, agreement};
use portcullis::policy::rule::{FlagMatch, MacMatch};
use portcullis::policy::{
    Action, AddrMatch, AddrRange, AppSet, Clause, DEFAULT_RULE, Direction, Family, Key, Limit,
    Origin, Policy, PortSet, ProtoSet, Rule, RuleId, Set, Side, Term, UNTAGGED, oracle,
};
use proptest::prelude::*;
use proptest::sample::select;
use std::time::{Duration, Instant};

/// Every frame that the policies below can tell apart: each field has its few special values, and one of the rest.
fn universe() -> Vec<Key> {
    let mut keys = Vec::new();
    let ip = [(Net::V4, 0x0800), (Net::V6, 0x86dd)];
    for (side, vlan, mac) in [Side::Lan, Side::Uplink]
        .into_iter()
        .flat_map(|side| [7, UNTAGGED].map(|vlan| (side, vlan)))
        .flat_map(|(side, vlan)| [1, 2].map(|mac| (side, vlan, mac)))
    {
        let frame = Key {
            side,
            vlan,
            src_mac: [0, 0, 0, 0, 0, mac],
            ..Key::EMPTY
        };
        for ethertype in [0, 0x0806, 0x88cc] {
            keys.push(Key { ethertype, ..frame });
        }
        for ((net, ethertype), src, dst, fragment) in ip
            .into_iter()
            .flat_map(|net| (0..4).map(move |src| (net, src)))
            .flat_map(|(net, src)| (0..4).map(move |dst| (net, src, dst)))
            .flat_map(|(net, src, dst)| [false, true].map(|fragment| (net, src, dst, fragment)))
        {
            let packet = Key {
                net,
                ethertype,
                src,
                dst,
                fragment,
                ..frame
            };
            keys.push(Key {
                proto: 47,
                ..packet
            });
            for (proto, flags, port, app) in
                [(6, 0), (6, 2), (6, 16), (6, 18), (17, 0), (33, 0), (58, 0)]
                    .into_iter()
                    .flat_map(|(proto, flags)| [0, 1, 2, 65_535].map(|port| (proto, flags, port)))
                    .flat_map(|(proto, flags, port)| [0, 1, 2].map(|app| (proto, flags, port, app)))
                    .filter(|(proto, _, _, app)| *proto != 58 || *app == 0)
            {
                let dport = if proto == 58 { port.min(255) } else { port };
                keys.push(Key {
                    proto,
                    tcp_flags: flags,
                    app,
                    dport,
                    ..packet
                });
            }
        }
    }
    keys
}

fn range() -> impl Strategy<Value = AddrRange> {
    let family = select(vec![Family::V4, Family::V6]);
    (family, 0u128..3, select(vec![0u128, 1, 2, u128::MAX])).prop_map(|(family, first, more)| {
        AddrRange {
            family,
            first,
            // The last special address stands for all above it.
            last: match first.saturating_add(more) {
                0..=2 => first + more,
                _ => family.max(),
            },
        }
    })
}

fn term() -> impl Strategy<Value = Term> {
    prop_oneof![3 => range().prop_map(Term::Range), 1 => (0usize..3).prop_map(Term::Set)]
}

fn address() -> impl Strategy<Value = AddrMatch> {
    let some = (
        prop::collection::vec(term(), 0..3),
        prop::collection::vec(term(), 0..2),
    )
        .prop_map(|(any_of, none_of)| AddrMatch { any_of, none_of });
    prop_oneof![3 => Just(AddrMatch::any()), 2 => some]
}

fn ports() -> impl Strategy<Value = PortSet> {
    let some = prop::collection::vec(
        select(vec![
            (0, 0),
            (1, 1),
            (2, 2),
            (0, 1),
            (1, 2),
            (3, 65_535),
            (2, 65_535),
        ]),
        1..3,
    );
    prop_oneof![2 => Just(PortSet::any()), 3 => some.prop_map(PortSet)]
}

fn link() -> impl Strategy<Value = Clause> {
    let vlan = prop_oneof![
        6 => Just(PortSet::any()),
        1 => Just(PortSet::one(UNTAGGED)),
        1 => Just(PortSet(vec![(0, 4095)])),
    ];
    let macs = |list: &[u8]| list.iter().map(|n| [0, 0, 0, 0, 0, *n]).collect::<Vec<_>>();
    let mac = select(vec![
        (macs(&[]), macs(&[])),
        (macs(&[]), macs(&[])),
        (macs(&[]), macs(&[])),
        (macs(&[1]), macs(&[])),
        (macs(&[]), macs(&[1])),
        (macs(&[1]), macs(&[1])),
    ]);
    let ethertype = select(vec![
        None,
        None,
        None,
        None,
        Some(PortSet::one(0x0806)),
        Some(PortSet(vec![(0x0800, 0x0806)])),
        Some(PortSet::any()),
        Some(PortSet::one(0x86dd)),
    ]);
    let flags = select(vec![
        vec![],
        vec![],
        vec![],
        vec![(2, 2)],
        vec![(18, 2)],
        vec![(16, 0)],
        vec![(2, 0), (2, 2)],
        vec![(1, 2)],
    ]);
    let fragment = select(vec![None, None, None, Some(true), Some(false)]);
    let one = AppSet::EMPTY.with(1);
    let app = select(vec![None, None, None, Some(one), Some(one.with(2))]);
    (vlan, mac, ethertype, flags, fragment, app).prop_map(
        |(vlan, (any_of, none_of), ethertype, flags, fragment, app)| Clause {
            vlan,
            src_mac: MacMatch { any_of, none_of },
            ethertype,
            tcp_flags: FlagMatch(flags),
            fragment,
            app,
            ..Clause::any(Direction::Out)
        },
    )
}

fn clause() -> impl Strategy<Value = Clause> {
    let direction = select(vec![Direction::Out, Direction::In, Direction::Both]);
    let protos = select(vec![
        ProtoSet::ALL,
        ProtoSet::of(&[6]),
        ProtoSet::of(&[6, 17]),
        ProtoSet::all_but(&[6]),
        ProtoSet::of(&[58]),
        ProtoSet::all_but(&[17]),
    ]);
    let base = prop_oneof![2 => Just(Clause::any(Direction::Out)), 1 => link()];
    (base, direction, protos, address(), address(), ports()).prop_map(
        |(base, direction, protos, src, dst, dport)| Clause {
            direction,
            protos,
            src,
            dst,
            dport,
            ..base
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let clauses = prop_oneof![
        4 => prop::collection::vec(clause(), 1),
        1 => prop::collection::vec(clause(), 2..4),
    ];
    let action = select(vec![Action::Allow, Action::Drop, Action::Reject]);
    (clauses, action, 0..10).prop_map(|(clauses, action, kind)| {
        let limit = Limit {
            frames: 5,
            per: Duration::from_secs(1),
            burst: 5,
        };
        Rule {
            shadow: kind == 0,
            ttl: (kind == 1).then_some(Duration::from_secs(60)),
            limit: (kind == 2).then_some(limit),
            ..Rule::new("", action, clauses, Origin::Builtin)
        }
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let sets = prop::collection::vec(prop::collection::vec(range(), 0..3), 3);
    (prop::collection::vec(rule(), 1..9), sets).prop_map(|(rules, sets)| policy_of(rules, sets))
}

fn policy_of(mut rules: Vec<Rule>, sets: Vec<Vec<AddrRange>>) -> Policy {
    rules.push(Rule::new(
        DEFAULT_RULE,
        Action::Drop,
        vec![Clause::any(Direction::Both)],
        Origin::Default,
    ));
    for (at, rule) in rules.iter_mut().enumerate() {
        rule.name = format!("r{at}");
    }
    let sets = sets.into_iter().enumerate().map(|(at, ranges)| Set {
        name: format!("s{at}"),
        ranges,
        file: None,
    });
    Policy {
        rules,
        default: Action::Drop,
        lan_prefixes: Vec::new(),
        sets: sets.collect(),
        disabled: Vec::new(),
        look_into: Default::default(),
        shadow: false,
    }
}

fn matches(policy: &Policy, rule: usize, key: &Key) -> bool {
    let clauses = &policy.rules[rule].clauses;
    clauses
        .iter()
        .any(|clause| oracle::matches(policy, clause, key))
}

/// Whether these rules match every frame that `rule` matches.
fn cover(policy: &Policy, others: &[usize], rule: usize, keys: &[Key]) -> bool {
    let mut matched = keys.iter().filter(|key| matches(policy, rule, key));
    matched.all(|key| others.iter().any(|other| matches(policy, *other, key)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// Reported and never the answer are the same, and the rules that are named are those that decide instead.
    #[test]
    fn a_rule_is_reported_exactly_where_it_never_decides(policy in policy()) {
        let keys = universe();
        let judged = judge::judge(&policy);
        prop_assert_eq!(judged.undecided, 0);
        let answered: std::collections::HashSet<_> =
            keys.iter().map(|key| oracle::evaluate(&policy, key)).collect();
        for at in 0..policy.rules.len() - 1 {
            let before: Vec<_> = (0..at).filter(|at| judge::is_final(&policy.rules[*at])).collect();
            let found = judged.findings.iter().find(|found| found.rule() == RuleId(at as u32));
            match found {
                None => prop_assert!(!cover(&policy, &before, at, &keys), "r{} is not reported", at),
                Some(Finding::Never { why, .. }) => {
                    prop_assert!(!keys.iter().any(|key| matches(&policy, at, key)), "r{} {:?}", at, why);
                    prop_assert!(!why.fields.is_empty());
                }
                Some(Finding::Covered { by, same_match, .. }) => {
                    prop_assert!(!answered.contains(&RuleId(at as u32)), "r{} answers", at);
                    let by: Vec<_> = by.iter().map(|id| id.index()).collect();
                    prop_assert!(by.iter().all(|one| before.contains(one)), "r{} by {:?}", at, by);
                    prop_assert!(cover(&policy, &by, at, &keys), "r{} by {:?}", at, by);
                    if by.len() > 1 {
                        for one in &before {
                            prop_assert!(!cover(&policy, &[*one], at, &keys), "r{one} covers r{at} alone");
                        }
                        for one in &by {
                            let rest: Vec<_> = by.iter().copied().filter(|other| other != one).collect();
                            prop_assert!(!cover(&policy, &rest, at, &keys), "r{} without r{}", at, one);
                        }
                    } else {
                        prop_assert_eq!(*same_match, cover(&policy, &[at], by[0], &keys));
                    }
                }
            }
        }
    }
}

fn prefix(text: &str) -> AddrMatch {
    AddrMatch {
        any_of: vec![Term::Range(AddrRange::prefix(text.parse().unwrap()))],
        none_of: Vec::new(),
    }
}

fn own(action: Action, clause: Clause) -> Rule {
    Rule::new("", action, vec![clause], Origin::User { line: 1 })
}

fn tcp(dport: &[(u16, u16)]) -> Clause {
    Clause {
        protos: ProtoSet::of(&[6]),
        dport: PortSet(dport.to_vec()),
        ..Clause::any(Direction::Out)
    }
}

#[test]
fn rules_in_shadow_and_rules_that_end_cover_nothing_and_limited_ones_do() {
    let wide = own(Action::Allow, tcp(&[(0, 65_535)]));
    let narrow = own(Action::Drop, tcp(&[(80, 80)]));
    let covered = |first: Rule| {
        let policy = policy_of(vec![first, narrow.clone()], Vec::new());
        judge::judge(&policy).findings.len()
    };
    assert_eq!(covered(wide.clone()), 1);
    let shadow = true;
    assert_eq!(
        covered(Rule {
            shadow,
            ..wide.clone()
        }),
        0
    );
    let ttl = Some(Duration::from_secs(3600));
    assert_eq!(
        covered(Rule {
            ttl,
            ..wide.clone()
        }),
        0
    );
    let limit = Some(Limit {
        frames: 1,
        per: Duration::from_secs(1),
        burst: 1,
    });
    assert_eq!(covered(Rule { limit, ..wide }), 1);
}

#[test]
fn halves_of_a_prefix_and_ports_that_touch_cover_together_what_none_covers_alone() {
    let half = |text| Clause {
        dst: prefix(text),
        ..tcp(&[(0, 65_535)])
    };
    let rules = vec![
        own(Action::Drop, half("10.0.0.0/9")),
        own(Action::Drop, tcp(&[(5000, 6000)])),
        own(Action::Allow, half("10.128.0.0/9")),
        own(Action::Drop, half("10.0.0.0/8")),
        own(Action::Drop, tcp(&[(6001, 7000)])),
        own(Action::Drop, tcp(&[(5500, 6500)])),
        own(Action::Drop, tcp(&[(5500, 7001)])),
    ];
    let judged = judge::judge(&policy_of(rules, Vec::new()));
    let covered = |rule, by: &[u32]| Finding::Covered {
        rule: RuleId(rule),
        by: by.iter().map(|at| RuleId(*at)).collect(),
        same_match: false,
    };
    assert_eq!(judged.findings, [covered(3, &[0, 2]), covered(5, &[1, 4])]);
    let agreed = agreement(Action::Drop, [Action::Drop, Action::Allow]);
    assert_eq!(agreed, Agreement::Mixed);
}

/// Rules like those of a long access list: pairs of prefixes, a port or a range of them, many wildcards.
fn long_list(rules: u32) -> Policy {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % below
    };
    let side = |next: &mut dyn FnMut(u64) -> u64| {
        let len = [16, 20, 22, 24, 24, 28, 32, 32][next(8) as usize];
        let base = 10 << 24 | next(1 << 24) as u32;
        let ip = std::net::Ipv4Addr::from(base & !((1u64 << (32 - len)) - 1) as u32);
        prefix(&format!("{ip}/{len}"))
    };
    let list = (0..rules).map(|_| {
        let dport = match next(4) {
            0 => (0, 65_535),
            1 => (1024, 65_535),
            _ => [22, 25, 53, 80, 110, 143, 443, 993, 3306, 8080].map(|port| (port, port))
                [next(10) as usize],
        };
        let (src, dst) = match next(10) {
            0 => (AddrMatch::any(), side(&mut next)),
            1 => (side(&mut next), AddrMatch::any()),
            _ => (side(&mut next), side(&mut next)),
        };
        let clause = Clause {
            src,
            dst,
            protos: ProtoSet::of(&[[6, 6, 17][next(3) as usize]]),
            dport: PortSet(vec![dport]),
            ..Clause::any(Direction::Out)
        };
        let action = [Action::Allow, Action::Drop][next(2) as usize];
        own(action, clause)
    });
    policy_of(list.collect(), Vec::new())
}

#[test]
fn long_lists_are_judged_in_bounded_time() {
    for rules in [1_000, 10_000, 100_000] {
        if rules > 10_000 && cfg!(debug_assertions) {
            continue;
        }
        let policy = long_list(rules);
        let start = Instant::now();
        let judged = judge::judge(&policy);
        let took = start.elapsed();
        println!(
            "{rules} rules: {took:?}, {} covered, {} undecided",
            judged.findings.len(),
            judged.undecided
        );
        assert!(
            took < Duration::from_secs(30),
            "{rules} rules took {took:?}"
        );
    }
}

/// Rules that overlap in every field and cover no other: the most work to tell that of.
fn tangle(rules: u32) -> Policy {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = move |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) % below
    };
    let list = (0..rules).map(|_| {
        let mut span = |max: u64| {
            let (a, b) = (next(max), next(max));
            (a.min(b), a.max(b))
        };
        let mut address = || {
            let (first, last) = span(1 << 32);
            let range = AddrRange {
                family: Family::V4,
                first: first.into(),
                last: last.into(),
            };
            AddrMatch {
                any_of: vec![Term::Range(range)],
                none_of: Vec::new(),
            }
        };
        let (src, dst) = (address(), address());
        let (sport, dport) = (span(65_536), span(65_536));
        let clause = Clause {
            src,
            dst,
            sport: PortSet(vec![(sport.0 as u16, sport.1 as u16)]),
            ..tcp(&[(dport.0 as u16, dport.1 as u16)])
        };
        own(Action::Drop, clause)
    });
    policy_of(list.collect(), Vec::new())
}

#[test]
fn rules_that_all_overlap_are_given_up_on_rather_than_waited_for() {
    let sizes: &[u32] = if cfg!(debug_assertions) {
        &[300]
    } else {
        &[300, 3_000, 30_000]
    };
    for &rules in sizes {
        let policy = tangle(rules);
        let start = Instant::now();
        let judged = judge::judge(&policy);
        let took = start.elapsed();
        println!(
            "{rules} tangled rules: {took:?}, {} covered, {} undecided",
            judged.findings.len(),
            judged.undecided
        );
        assert!(
            took < Duration::from_secs(60),
            "{rules} rules took {took:?}"
        );
    }
}

#[test]
fn rules_that_name_large_sets_are_compared_without_walking_through_them() {
    let set = |base: u32, step: u32, len: u32| -> Vec<AddrRange> {
        let host = |n| AddrRange::host(std::net::Ipv4Addr::from(base + n * step).into());
        (0..len).map(host).collect()
    };
    let sets = vec![
        set(0x1400_0000, 4, 20_000),
        set(0x1400_0000, 8, 10_000),
        set(0x3c00_0000, 2, 20_000),
    ];
    let on = |set, dport| Clause {
        dst: AddrMatch {
            any_of: vec![Term::Set(set)],
            none_of: Vec::new(),
        },
        ..tcp(&[(dport, dport)])
    };
    let mut rules: Vec<_> = (0..1000)
        .map(|at| own(Action::Drop, on(usize::from(at % 2) * 2, at / 2)))
        .collect();
    // Each second address of the first set, to ports that the first set has a rule for.
    rules.extend((0..200).map(|at| own(Action::Allow, on(1, at))));
    let judged = judge::judge(&policy_of(rules, sets));
    assert_eq!((judged.findings.len(), judged.undecided), (200, 0));
}
