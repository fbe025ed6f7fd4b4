//! The compiled table is the rules, read one by one: random policies and keys, compared with the oracle.
//!
//! Ten million pairs optimized (`make test-table`), some 150,000 otherwise; each asked of every kernel that the processor can
//! run, in the form that the compiler chooses and in the smaller one.

mod cases;
mod keys;
mod policies;

use classbench::{Kind, generate, trace};
use keys::{Dice, Keys};
use portcullis::policy::table::{BUDGET, Budget, Kernel};
use portcullis::policy::{Key, Policy, PortSet, RuleId, Side, Table, oracle};
use proptest::prelude::*;
use std::cell::Cell;

/// How many pairs of a policy and a key were compared, and how many of them met a rule before the default.
#[derive(Clone, Copy, Default)]
struct Pairs {
    all: usize,
    met: usize,
}

impl Pairs {
    fn and(self, other: Pairs) -> Pairs {
        Pairs {
            all: self.all + other.all,
            met: self.met + other.met,
        }
    }
}

/// So many in release, or that many in a build without optimization.
const fn either(release: usize, debug: usize) -> usize {
    if cfg!(debug_assertions) {
        debug
    } else {
        release
    }
}

/// Every way to look a policy up: as it compiles; with lists by pairs of addresses or by single fields, whole or through sieves,
/// however few rows there are; and in the smaller form that a compiler without room for whole bitsets takes. Each by every
/// kernel of this processor.
fn tables(policy: &Policy) -> Vec<(String, Table)> {
    let lists = Budget {
        few: 0,
        lists: true,
        ..BUDGET
    };
    let fields = Budget { pairs: 0, ..lists };
    let ways = [
        ("as it compiles", BUDGET),
        ("pairs", lists),
        ("fields", fields),
        ("sifted", Budget { whole: 0, ..fields }),
        ("aggregated", Budget { dense: 0, ..BUDGET }),
    ];
    let mut tables = Vec::new();
    for (form, budget) in ways {
        let table = Table::compile_within(policy, budget).expect("a policy within the limits");
        assert!(budget.dense > 0 || table.shape().aggregated || table.shape().wide_rows == 0);
        for kernel in Kernel::available() {
            let table = table.with_kernel(kernel).expect("a kernel that is there");
            tables.push((format!("{form}, {}", kernel.name()), table));
        }
    }
    tables
}

#[test]
fn the_ways_to_look_a_policy_up_are_as_different_as_they_are_meant_to_be() {
    let shapes = |kind, rules| {
        let policy = policies::large(kind, rules, false, 1);
        let shapes = tables(&policy).into_iter();
        shapes
            .step_by(Kernel::available().len())
            .map(|(_, table)| table.shape())
            .collect::<Vec<_>>()
    };
    let [dense, pairs, fields, sifted, aggregated] = &shapes(Kind::Acl, 800)[..] else {
        panic!("five ways");
    };
    assert_eq!(
        (dense.chunks, dense.crossed, dense.aggregated),
        (0, 0, false)
    );
    assert!(
        pairs.homes[4] && pairs.crossed > 0 && pairs.rows_in_a_chunk == 16,
        "{pairs:?}"
    );
    assert!(
        !fields.homes[4] && fields.homes[1] && fields.crossed > 0,
        "{fields:?}"
    );
    assert!(
        sifted.chunks > 0 && sifted.rows_in_a_chunk == 12,
        "{sifted:?}"
    );
    assert!(aggregated.aggregated);
    // One rule on a VLAN does not put all others where they are looked at by slower code.
    let mut linked = policies::large(Kind::Acl, 800, false, 1);
    linked.rules[0].clauses[0].vlan = PortSet(vec![(5, 5)]);
    let linked = Table::compile(&linked).unwrap().shape();
    assert!(linked.wide_rows < 64 && linked.chunks > 0, "{linked:?}");
    let large = shapes(Kind::Fw, 5000);
    assert!(
        large[0].crossed > 0 && large[0].chunks > 0,
        "{:?}",
        large[0]
    );
    assert!(
        large[2].separators > 0 && large[3].separators > 0,
        "{large:?}"
    );
}

/// Compares the answers for these keys, asked in bursts and one by one.
fn agree(
    policy: &Policy,
    tables: &[(String, Table)],
    keys: &[Key],
) -> Result<Pairs, TestCaseError> {
    let right: Vec<RuleId> = keys
        .iter()
        .map(|key| oracle::evaluate(policy, key))
        .collect();
    for (way, table) in tables {
        let mut found = vec![RuleId(u32::MAX); keys.len()];
        table.classify(keys, &mut found);
        for ((key, found), right) in keys.iter().zip(found).zip(&right) {
            let alone = table.lookup(key);
            if found != *right || alone != *right {
                return Err(TestCaseError::fail(format!(
                    "{way}: {key:?}: by the rules {}, by classify {}, by lookup {}",
                    tell(policy, *right),
                    tell(policy, found),
                    tell(policy, alone),
                )));
            }
        }
    }
    let met = right
        .iter()
        .filter(|id| id.index() + 1 < policy.rules.len());
    Ok(Pairs {
        all: keys.len(),
        met: met.count(),
    })
}

/// A rule in words.
fn tell(policy: &Policy, id: RuleId) -> String {
    let Some(rule) = policy.rules.get(id.index()) else {
        return format!("{id:?}, which there is not");
    };
    let clauses = rule
        .clauses
        .iter()
        .map(|clause| clause.describe(&policy.sets));
    format!(
        "{} ({})",
        rule.name,
        clauses.collect::<Vec<_>>().join("; or ")
    )
}

/// Compares a policy and `count` keys near to what it speaks of.
fn compare(policy: &Policy, seed: u64, count: usize) -> Result<Pairs, TestCaseError> {
    let tables = tables(policy);
    let (near, mut dice) = (Keys::new(policy), Dice::new(seed));
    let mut pairs = Pairs::default();
    // Not a multiple of any burst.
    for start in (0..count).step_by(1009) {
        let keys: Vec<Key> = (start..count.min(start + 1009))
            .map(|_| near.key(&mut dice))
            .collect();
        pairs = pairs.and(agree(policy, &tables, &keys)?);
    }
    Ok(pairs)
}

/// Compares `cases` policies of `rules` rules each.
fn compare_policies(rules: std::ops::Range<usize>, cases: usize, keys: usize) -> Pairs {
    let total = Cell::new(Pairs::default());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        cases: cases as u32,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    let policies = (policies::policy(rules), any::<u64>());
    let run = runner.run(&policies, |(policy, seed)| {
        total.set(total.get().and(compare(&policy, seed, keys)?));
        Ok(())
    });
    run.unwrap_or_else(|failure| panic!("{failure}"));
    let pairs = total.get();
    println!(
        "{} pairs agree, {} of them met a rule",
        pairs.all, pairs.met
    );
    pairs
}

#[test]
fn small_policies_and_the_rules_read_one_by_one_agree() {
    let pairs = compare_policies(0..14, either(2000, 25), 4000);
    assert!(pairs.all >= either(8_000_000, 100_000));
    assert!(
        pairs.met * 4 > pairs.all && pairs.met < pairs.all,
        "{} met a rule",
        pairs.met
    );
}

#[test]
fn policies_beyond_one_word_of_bits_and_the_rules_read_one_by_one_agree() {
    let pairs = compare_policies(60..140, either(300, 4), 6000);
    assert!(pairs.all >= either(1_800_000, 24_000));
}

#[test]
fn policies_of_several_hundred_clauses_and_the_rules_read_one_by_one_agree() {
    let pairs = compare_policies(140..201, either(40, 3), 8000);
    assert!(pairs.all >= either(320_000, 24_000));
}

#[test]
fn large_policies_with_large_sets_and_the_rules_read_one_by_one_agree() {
    let mut total = Pairs::default();
    for (seed, kind) in Kind::ALL.into_iter().enumerate() {
        let sizes = [1000, either(5000, 1200)];
        for (rules, link) in sizes.into_iter().flat_map(|n| [(n, false), (n, true)]) {
            let policy = policies::large(kind, rules, link, seed as u64);
            let near = compare(&policy, seed as u64, either(7500, 200));
            // And packets of the rule set's own trace, from either side.
            let headers = [kind.v4(), kind.v6()].map(|profile| {
                trace(
                    &generate(profile, rules / 2, seed as u64),
                    either(2500, 100),
                    1,
                )
            });
            let keys = headers.iter().flatten().map(classbench::key);
            let keys = keys.enumerate().map(|(at, key)| Key {
                side: Side::BOTH[at % 2],
                ..key
            });
            let own = agree(&policy, &tables(&policy), &keys.collect::<Vec<_>>());
            total = total.and(
                near.and_then(|near| Ok(near.and(own?)))
                    .unwrap_or_else(|e| panic!("{e}")),
            );
        }
    }
    println!(
        "{} pairs agree, {} of them met a rule",
        total.all, total.met
    );
    assert!(
        total.all >= either(200_000, 6400) && total.met * 2 > total.all,
        "{} met a rule",
        total.met
    );
}
