//! What the table and its explanation say of particular policies.

use super::policies::rule;
use portcullis::frame::Net;
use portcullis::policy::table::MAX_RULES;
use portcullis::policy::{
    Action, Clause, Direction, Key, MacMatch, PortSet, ProtoSet, RuleId, Side, Table, explain,
};

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
fn as_many_rules_as_allowed_compile_and_one_more_is_refused() {
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
    policy.rules = vec![empty; MAX_RULES - 1];
    policy.rules.push(default.clone());
    let table = Table::compile(&policy).unwrap();
    assert_eq!(table.lookup(&key(1)), RuleId(MAX_RULES as u32 - 1));
    policy.rules.push(default);
    let error = Table::compile(&policy).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "{} rules, and a policy holds at most {MAX_RULES}",
            MAX_RULES + 1
        )
    );
}

/// Of more MAC addresses than 16 bits can number each is told from every other: the rule `n` is about those whose number has
/// the bit `n`.
#[test]
fn seventy_thousand_mac_addresses_that_differ_are_told_apart() {
    let mut policy = portcullis::config::parse("", "", std::path::Path::new(""))
        .unwrap()
        .policy;
    let default = policy.rules.pop().unwrap();
    let mac = |number: u32| {
        let [a, b, c, d] = number.to_be_bytes();
        [2, 0, a, b, c, d]
    };
    let all = 1..=70_000u32;
    let of_bit = |bit: usize, negated: bool| {
        let macs = all.clone().filter(|number| number >> bit & 1 == 1);
        let macs = macs.map(mac).collect();
        let src_mac = match negated {
            false => MacMatch {
                any_of: macs,
                none_of: Vec::new(),
            },
            true => MacMatch {
                any_of: Vec::new(),
                none_of: macs,
            },
        };
        Clause {
            src_mac,
            ..Clause::any(Direction::Out)
        }
    };
    let key = |src_mac| Key {
        side: Side::Lan,
        net: Net::V4,
        ethertype: 0x0800,
        src_mac,
        ..Key::EMPTY
    };
    for negated in [false, true] {
        policy.rules = (0..17)
            .map(|bit| rule(bit, vec![of_bit(bit, negated)], Action::Drop))
            .chain([default.clone()])
            .collect();
        let table = Table::compile(&policy).unwrap();
        for number in [0u32, 1, 2, 65_535, 65_536, 65_537, 69_632, 69_999, 70_000] {
            let first = match negated {
                false => number.trailing_zeros().min(17),
                true => number.trailing_ones(),
            };
            assert_eq!(table.lookup(&key(mac(number))), RuleId(first), "{number}");
        }
        let foreign = if negated { 0 } else { 17 };
        assert_eq!(table.lookup(&key([9; 6])), RuleId(foreign));
    }
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
