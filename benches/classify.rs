//! What it costs to find the rule that decides a packet, by rule set and number of rules.
//!
//! `cargo bench --bench classify`; `-- acl`, `-- /1000$` or `-- set` runs those whose name matches, and `CLASSIFY_SIZES=128,1000`
//! makes only rule sets of these sizes. An iteration is a burst of 32 packets out of a random trace; the line `thrpt`
//! counts packets, and its inverse is the time for one.

use std::hint::black_box;
use std::time::Instant;

use classbench::{Kind, Profile, generate, key, policy, prefixes, trace};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use portcullis::policy::addr::Set;
use portcullis::policy::{
    Action, AddrMatch, AddrRange, Clause, Direction, Family, Key, Origin, Policy, Rule, RuleId,
    Table, Term,
};

/// Packets in a burst, as a NIC hands them over.
const BURST: usize = 32;
/// Packets of a trace, which is then cycled: more than a branch predictor remembers.
const TRACE: usize = 16_384;
/// Rules, where `CLASSIFY_SIZES` does not say.
const SIZES: [usize; 4] = [128, 1000, 10_000, 100_000];
/// Prefixes of the set.
const SET: usize = 100_000;
/// Ports that the baseline has rules for, and some that it has none for.
const PORTS: [u16; 16] = [
    25, 53, 69, 80, 135, 138, 139, 161, 443, 445, 587, 993, 6660, 6667, 8080, 50_000,
];

/// Measures one table on one trace. Both are made when it is known that they are wanted.
fn bench(
    group: &mut BenchmarkGroup<WallTime>,
    name: &str,
    make: impl FnOnce() -> (Policy, Vec<Key>),
) {
    let (mut make, mut made) = (Some(make), None);
    group.bench_function(name, |b| {
        if let Some(make) = make.take() {
            let (policy, keys) = make();
            let start = Instant::now();
            let table = Table::compile(&policy).expect("a policy within the limits");
            let (took, kib) = (start.elapsed(), table.memory() as f64 / 1024.0);
            eprintln!(
                "{name}: {} rules, compiled in {took:.1?}, {kib:.1} KiB",
                policy.rules.len()
            );
            made = Some((table, keys));
        }
        let (table, keys) = made.as_ref().expect("made at the first call");
        let mut bursts = keys.chunks_exact(BURST).cycle();
        let mut out = [RuleId(0); BURST];
        b.iter(|| {
            if let Some(keys) = bursts.next() {
                table.classify(black_box(keys), &mut out);
            }
            black_box(out)
        });
    });
}

/// Half of the packets to the ports that the baseline speaks of, and a quarter of them of IPv6, in no order that a
/// branch predictor could learn.
fn mixed_keys() -> Vec<Key> {
    let headers =
        |profile: Profile, packets, seed| trace(&generate(profile, 1000, seed), packets, seed);
    let mut headers = [
        headers(Kind::Egress.v4(), TRACE * 3 / 4, 1),
        headers(Kind::Egress.v6(), TRACE / 4, 2),
    ]
    .concat();
    let mut state = 1u64;
    let mut roll = |below: usize| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    for at in 0..headers.len() {
        headers.swap(at, roll(TRACE));
        if roll(2) == 0 {
            headers[at].dport = PORTS[roll(PORTS.len())];
        }
    }
    headers.iter().map(key).collect()
}

fn baseline() -> Policy {
    let parsed = portcullis::config::parse("", "", std::path::Path::new(""));
    parsed.expect("the empty config is the baseline").policy
}

/// The baseline behind a rule that drops what goes to the set.
fn behind_a_set(ranges: Vec<AddrRange>) -> Policy {
    let mut policy = baseline();
    let set = Term::Set(policy.sets.len());
    policy.sets.push(Set {
        name: "blocklist".to_owned(),
        ranges,
        file: None,
    });
    let clause = Clause {
        dst: AddrMatch {
            any_of: vec![set],
            none_of: vec![],
        },
        ..Clause::any(Direction::Out)
    };
    let rule = Rule::new(
        "blocklist",
        Action::Drop,
        vec![clause],
        Origin::User { line: 1 },
    );
    policy.rules.insert(0, rule);
    policy
}

fn baselines(c: &mut Criterion) {
    let mut group = c.benchmark_group("classify");
    group.throughput(Throughput::Elements(BURST as u64));
    let keys = mixed_keys();
    bench(&mut group, "baseline", || (baseline(), keys.clone()));
    // The same without the packets of IPv6.
    let four = keys.iter().filter(|key| key.family() == Some(Family::V4));
    let four: Vec<Key> = four.copied().collect();
    bench(&mut group, "baseline4", || (baseline(), four));
    for (name, family) in [("set", Family::V4), ("set6", Family::V6)] {
        let set: Vec<_> = prefixes(family, SET, 7)
            .into_iter()
            .map(AddrRange::prefix)
            .collect();
        // Every tenth packet of the family goes to the set; the same packets are also measured without it.
        let mut keys = keys.clone();
        let of_family = keys.iter_mut().filter(|key| key.family() == Some(family));
        for (key, range) in of_family.step_by(10).zip(set.iter().cycle().step_by(17)) {
            key.dst = range.first;
        }
        bench(&mut group, &format!("{name}/0"), || {
            (baseline(), keys.clone())
        });
        bench(&mut group, &format!("{name}/{SET}"), || {
            (behind_a_set(set), keys.clone())
        });
    }
    group.finish();
}

fn rule_sets(c: &mut Criterion) {
    let sizes = match std::env::var("CLASSIFY_SIZES") {
        Ok(list) => list
            .split(',')
            .map(|n| n.trim().parse().expect("CLASSIFY_SIZES=128,1000"))
            .collect(),
        Err(_) => SIZES.to_vec(),
    };
    let mut group = c.benchmark_group("classify");
    group.throughput(Throughput::Elements(BURST as u64));
    for n in sizes {
        for kind in [Kind::Acl, Kind::Fw, Kind::Ipc] {
            for profile in [kind.v4(), kind.v6()] {
                bench(&mut group, &format!("{profile}/{n}"), || {
                    let rules = generate(profile, n, 1);
                    (
                        policy(&rules),
                        trace(&rules, TRACE, 1).iter().map(key).collect(),
                    )
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, baselines, rule_sets);
criterion_main!(benches);
