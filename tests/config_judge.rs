//! What is said of rules that never decide, and where.

use portcullis::config::{self, Config, Problem, judge};
use std::path::Path;

fn config(text: &str) -> Config {
    config::parse(text, "p.toml", Path::new(".")).unwrap_or_else(|error| panic!("{error}"))
}

/// A config with the warnings that the baseline needs out of the way.
fn rules(text: &str) -> Config {
    config(&format!(
        "lan.prefixes = [\"10.0.0.0/8\"]\nsets.mail_servers = [\"10.0.0.25\"]\n{text}"
    ))
}

fn warnings(config: &Config) -> Vec<Problem> {
    let judged = judge::judge(config);
    assert_eq!(judged.undecided, 0);
    config
        .warnings
        .iter()
        .cloned()
        .chain(judged.warnings)
        .collect()
}

/// The place of the primary label and those of the others, with the message.
type Said = (Vec<(usize, usize)>, String);

fn said(config: &Config) -> Vec<Said> {
    let place = |problem: Problem| {
        let others = problem
            .others
            .iter()
            .map(|place| (place.line, place.column));
        let places = std::iter::once((problem.line, problem.column)).chain(others);
        (places.collect(), problem.message)
    };
    warnings(config).into_iter().map(place).collect()
}

#[test]
fn a_rule_that_contradicts_itself_is_told_at_the_keys_that_do() {
    let cases = [
        (
            r#"{ name = "a", action = "drop", src = "10.0.0.0/8", dst = "2001:db8::/32" }"#,
            vec![r#""10.0.0.0/8"#, r#""2001:db8"#],
            "the rule `a` can never match: the source is of one address family, the destination of the other",
        ),
        (
            r#"{ name = "a", action = "drop", src = ["10.1.0.0/16", "!10.0.0.0/8"] }"#,
            vec!["[\"10.1"],
            "the rule `a` can never match: `src` excludes all that it names",
        ),
        (
            r#"{ name = "a", action = "drop", dst = ["@mail_servers", "!10.0.0.0/24"] }"#,
            vec!["[\"@mail"],
            "the rule `a` can never match: `dst` excludes all that it names",
        ),
        (
            r#"{ name = "a", action = "drop", proto = ["tcp", "udp"], dst = ["!0.0.0.0/0", "!::/0"] }"#,
            vec!["[\"!0"],
            "the rule `a` can never match: `dst` excludes all that it names",
        ),
        (
            r#"{ name = "a", action = "drop", ethertype = "ipv6", src = "10.1.0.0/16" }"#,
            vec![r#""10.1"#, r#""ipv6"#],
            "the rule `a` can never match: a frame of that ethertype has no such address",
        ),
    ];
    for (rule, places, message) in cases {
        let text = format!("rule = [\n{rule}\n]");
        let config = rules(&text);
        let found = said(&config);
        let places = places.iter().map(|part| (4, rule.find(part).unwrap() + 1));
        let places: Vec<_> = places.collect();
        assert_eq!(found, [(places, message.to_owned())], "{rule}");
    }
}

#[test]
fn covered_rules_are_told_at_both_names_and_by_how_the_actions_stand() {
    let config = rules(
        r#"rule = [
{ name = "wide", action = "drop", proto = "tcp", dport = "1000-1999" },
{ name = "same", action = "drop", proto = "tcp", dport = "1000-1500", alert = "low" },
{ name = "other", action = "allow", proto = "tcp", dport = 1500 },
{ name = "twin", action = "reject", proto = "tcp", dport = ["1500-1999", "1000-1499"] },
{ name = "next", action = "drop", proto = "tcp", dport = "2000-2999" },
{ name = "both", action = "drop", proto = "tcp", dport = "1900-2100" },
{ name = "part", action = "allow", proto = "tcp", dport = "2500-3500" },
]"#,
    );
    let expected = [
        (
            vec![(5, 10), (4, 10)],
            "the rule `same` is redundant: `wide` before it matches all that it matches, and drops it too",
        ),
        (
            vec![(6, 10), (4, 10)],
            "the rule `other` never decides: `wide` before it matches all that it matches, and drops what `other` allows",
        ),
        (
            vec![(7, 10), (4, 10)],
            "the rules `wide` and `twin` contradict each other: both match the very same, `wide` comes first and drops, and `twin` never rejects",
        ),
        (
            vec![(9, 10), (4, 10), (8, 10)],
            "the rule `both` is redundant: `wide` and `next` before it together match all that it matches, and do the same",
        ),
    ];
    let expected = expected.map(|(places, message)| (places, message.to_owned()));
    assert_eq!(said(&config), expected);
    let help = warnings(&config)[0].help.clone().unwrap();
    assert_eq!(
        help,
        "take `same` out, or put it first if it should decide; its alert is never raised"
    );
}

#[test]
fn rules_with_decoys_are_the_same_where_they_speak_the_same() {
    let config = rules(
        r#"rule = [
{ name = "chat", action = "decoy", decoy = "irc", proto = "tcp", dport = "1000-1999" },
{ name = "again", action = "decoy", decoy = "irc", proto = "tcp", dport = 1500 },
{ name = "silent", action = "decoy", decoy = "raw", proto = "tcp", dport = 1500 },
{ name = "plain", action = "drop", proto = "tcp", dport = 1500 },
{ name = "twin", action = "decoy", proto = "tcp", dport = "1000-1999" },
]"#,
    );
    let expected = [
        "the rule `again` is redundant: `chat` before it matches all that it matches, and decoys it as irc too",
        "the rule `silent` never decides: `chat` before it matches all that it matches, and decoys as irc what `silent` decoys as raw",
        "the rule `plain` never decides: `chat` before it matches all that it matches, and decoys as irc what `plain` drops",
        "the rules `chat` and `twin` contradict each other: both match the very same, `chat` comes first and decoys as irc, and `twin` never decoys",
    ];
    let found: Vec<_> = said(&config).into_iter().map(|(_, said)| said).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_decoy_that_nobody_hears_of_or_that_ends_with_its_first_packet_is_told() {
    let config = rules(
        r#"rule = [
{ name = "heard", action = "decoy", proto = "tcp", dport = 1 },
{ name = "unheard", action = "decoy", proto = "tcp", dport = 2, alert = "none" },
{ name = "short", action = "decoy", proto = "tcp", dport = 3, quarantine = "1h" },
{ name = "netbios", action = "decoy", alert = "low" },
]"#,
    );
    let column = "{ name = \"short\", action = ".len() + 1;
    let expected = [
        (
            vec![(5, column + 2)],
            "nobody will know what the decoy of the rule `unheard` hears",
        ),
        (
            vec![(6, column)],
            "the decoy of the rule `short` will hear nothing",
        ),
    ];
    let expected = expected.map(|(places, message)| (places, message.to_owned()));
    assert_eq!(said(&config), expected);
}

#[test]
fn a_rule_with_an_end_or_in_shadow_covers_nothing_and_one_with_a_limit_says_what_it_drops() {
    let covered = |more: &str| {
        rules(&format!(
            r#"rule = [
{{ name = "pings", action = "allow", proto = "icmp"{more} }},
{{ name = "echo", action = "allow", proto = "icmp", icmp_type = 8 }},
]"#
        ))
    };
    assert_eq!(said(&covered(", ttl = \"1h\"")), []);
    assert_eq!(said(&covered(", shadow = true")), []);
    let limited = warnings(&covered(", limit = \"5/s\""));
    assert_eq!(limited.len(), 1);
    let help = limited[0].help.as_deref().unwrap();
    assert_eq!(
        help,
        "take `echo` out, or put it first if it should decide; what is beyond the limit of `pings` is dropped and comes to no later rule"
    );
}

#[test]
fn built_in_rules_that_the_users_rules_cover_are_told_once() {
    let config = rules(
        r#"rule = [
{ name = "all", action = "allow" },
{ name = "late", action = "drop", dport = 80 },
{ name = "inwards", action = "drop", direction = "in", dport = 80 },
]"#,
    );
    let expected = [
        (
            vec![(5, 10), (4, 10)],
            "the rule `late` never decides: `all` before it matches all that it matches, and allows what `late` drops",
        ),
        (
            vec![(4, 10)],
            "no built-in rule ever decides: `all` before them matches all that they match, and allows it",
        ),
    ];
    let expected = expected.map(|(places, message)| (places, message.to_owned()));
    assert_eq!(said(&config), expected);
    let config =
        rules(r#"rule = [{ name = "my-smb", action = "reject", proto = "tcp", dport = 445 }]"#);
    let expected = "the built-in rule `smb` never decides: `my-smb` before it matches all that it matches, and rejects it";
    assert_eq!(said(&config), [(vec![(3, 18)], expected.to_owned())]);
}

#[test]
fn the_baseline_and_overrides_of_it_are_nothing_to_warn_about() {
    assert_eq!(said(&rules("")), []);
    let overridden = r#"rule = [{ name = "smb", action = "reject" }, { name = "irc", dport = 6667, proto = "tcp" }]"#;
    assert_eq!(said(&rules(overridden)), []);
    assert_eq!(said(&rules("policy.uplink = \"inner\"")), []);
}

#[test]
fn an_empty_set_is_told_where_it_is_named_and_where_it_is_defined() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("list.txt"), "# nobody yet\n").unwrap();
    let text = r#"lan.prefixes = ["10.0.0.0/8"]
[sets]
mail_servers = ["10.0.0.25"]
friends = []
listed = { file = "list.txt" }
[[rule]]
name = "a"
dst = "@friends"
action = "allow"
[[rule]]
name = "b"
dst = ["10.1.0.0/16", "@friends"]
action = "drop"
[[rule]]
name = "c"
dst = "!@listed"
dport = 9999
action = "drop"
[[rule]]
name = "d"
src = "@resolvers"
dport = 53
action = "drop"
"#;
    let config = config::parse(text, "p.toml", dir.path()).unwrap();
    let expected = [
        (
            vec![(8, 7), (4, 1)],
            "the set `friends` is empty: the rule `a` can never match; `@friends` adds nothing in the rule `b`",
        ),
        (
            vec![(16, 7), (5, 1)],
            "the set `listed` is empty: `!@listed` excludes nothing in the rule `c`",
        ),
        (
            vec![(21, 7)],
            "the set `resolvers` is empty: the rule `d` can never match",
        ),
    ];
    let expected = expected.map(|(places, message)| (places, message.to_owned()));
    assert_eq!(said(&config), expected);
    let all = warnings(&config);
    let help = all[1].help.clone().unwrap();
    assert!(help.contains("list.txt holds no address"), "{help}");
    let help = all[2].help.as_deref();
    assert_eq!(
        help,
        Some("add `resolvers = [\"10.0.0.53\"]` to [sets], or take it out of the rule")
    );
}

#[test]
fn thousands_of_covered_rules_are_told_up_to_a_bound_and_then_counted() {
    let mut text =
        String::from("policy.profile = \"none\"\n[[rule]]\nname = \"all\"\naction = \"drop\"\n");
    for rule in 0..3000 {
        text.push_str(&format!(
            "[[rule]]\nname = \"r{rule}\"\ndport = {rule}\naction = \"allow\"\n"
        ));
    }
    let judged = judge::judge(&config(&text));
    assert_eq!(judged.warnings.len(), 1001);
    let last = judged.warnings.last().unwrap();
    assert_eq!(last.message, "2000 more rules never decide");
}
