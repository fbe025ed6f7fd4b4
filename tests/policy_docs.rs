//! `docs/policy.md` is held to what the code does: its examples load, their tests hold, its examples of mistakes fail with
//! the message that they give, and every key of the language stands in one of them.

use portcullis::config::{self, Config};
use portcullis::policy::{self, Policy, Table};
use std::collections::BTreeSet;
use std::path::Path;

/// A fenced block: what stands behind the fence, the line of the fence, and the text.
struct Block {
    info: String,
    line: usize,
    text: String,
}

fn page() -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policy.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (mut blocks, mut open) = (Vec::new(), None::<Block>);
    for (line, text) in page.lines().enumerate() {
        match (text.strip_prefix("```"), &mut open) {
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (Some(info), None) => {
                open = Some(Block {
                    info: info.to_owned(),
                    line: line + 1,
                    text: String::new(),
                });
            }
            (None, Some(block)) => block.text += &format!("{text}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block without an end");
    blocks
}

fn examples(info: &str) -> Vec<Block> {
    let blocks = page().into_iter().filter(|block| block.info == info);
    blocks.collect()
}

/// The files that the page shows: text blocks that begin with `# name.txt`.
fn files() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for block in examples("text") {
        let name = block
            .text
            .lines()
            .next()
            .and_then(|line| line.strip_prefix("# "));
        if let Some(name) = name.filter(|name| name.ends_with(".txt")) {
            std::fs::write(dir.path().join(name), &block.text).unwrap();
        }
    }
    // What sinks name.
    rig::tls_files(dir.path()).unwrap();
    std::fs::write(dir.path().join("hook.token"), "example\n").unwrap();
    std::fs::write(dir.path().join("page.token"), "example\n").unwrap();
    dir
}

/// The policy without its rules in shadow, which decide nothing.
fn deciding(config: &Config) -> Policy {
    let mut policy = config.policy.clone();
    for rule in policy.rules.iter_mut().filter(|rule| rule.shadow) {
        rule.clauses.clear();
    }
    policy
}

/// The tests of an example that do not hold.
fn failures(config: &Config) -> Vec<String> {
    let policy = deciding(config);
    let table = Table::compile(&policy).unwrap();
    let failed = config.tests.iter().filter_map(|test| {
        let failure = policy::test::run(&policy, &table, test).err()?;
        Some(format!("the test in its line {}: {failure:?}", test.line))
    });
    failed.collect()
}

#[test]
fn every_example_loads_and_its_own_tests_hold() {
    let dir = files();
    let (mut wrong, mut tests) = (Vec::new(), 0);
    let examples = examples("toml");
    for block in &examples {
        let name = format!("docs/policy.md, the example after line {}", block.line);
        match config::parse(&block.text, &name, dir.path()) {
            Ok(config) => {
                tests += config.tests.len();
                let failed = failures(&config);
                wrong.extend(failed.iter().map(|failure| format!("{name}: {failure}")));
            }
            Err(error) => wrong.push(config::error::render(&error.problems, false)),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(
        examples.len() > 20 && tests > 50,
        "{} examples, {tests} tests",
        examples.len()
    );
}

#[test]
fn every_example_with_rules_has_a_test_that_a_rule_decides_and_one_that_it_does_not() {
    let dir = files();
    for block in examples("toml") {
        let config = config::parse(&block.text, "docs/policy.md", dir.path()).unwrap();
        if !block.text.contains("[[rule]]") {
            continue;
        }
        let table = Table::compile(&deciding(&config)).unwrap();
        let decided: BTreeSet<_> = config
            .tests
            .iter()
            .map(|test| table.lookup(&test.key))
            .collect();
        assert!(
            decided.len() > 1,
            "the example after line {} shows one outcome only",
            block.line
        );
    }
}

#[test]
fn every_example_of_a_mistake_fails_as_it_says() {
    let examples = examples("toml,error");
    for block in &examples {
        let said = block
            .text
            .lines()
            .find_map(|line| line.strip_prefix("# error: "));
        let said = said.unwrap_or_else(|| panic!("line {} says no error", block.line));
        let Err(error) = config::parse(&block.text, "p.toml", Path::new("/nonexistent")) else {
            panic!("the example after line {} loads", block.line);
        };
        let messages: Vec<_> = error
            .problems
            .iter()
            .map(|problem| &problem.message)
            .collect();
        assert!(
            messages[0].starts_with(said) && messages.len() == 1,
            "{said}\n{messages:?}"
        );
    }
    assert!(examples.len() > 4);
}

/// What each table is called in messages; how it is opened in a config, with `@` for a key of its own; where its keys
/// stand in a parsed config.
const TABLES: &[(&str, &str, &[&str])] = &[
    ("[bridge]", "[bridge]\n@", &["bridge"]),
    ("[quarantine]", "[quarantine]\n@", &["quarantine"]),
    (
        "busy_poll",
        "[bridge]\nbusy_poll = { @ }",
        &["bridge", "busy_poll"],
    ),
    ("[lan]", "[lan]\n@", &["lan"]),
    ("[policy]", "[policy]\n@", &["policy"]),
    ("the set `a`", "[sets]\na = { @ }", &["sets", "*"]),
    ("[[rule]]", "[[rule]]\n@", &["rule", "*"]),
    ("limit", "[[rule]]\nlimit = { @ }", &["rule", "*", "limit"]),
    (
        "packet",
        "[[test]]\npacket = { @ }\nexpect = {}",
        &["test", "*", "packet"],
    ),
    (
        "expect",
        "[[test]]\npacket = {}\nexpect = { @ }",
        &["test", "*", "expect"],
    ),
    ("the host `a`", "[hosts]\na = { @ }", &["hosts", "*"]),
    ("[flows]", "[flows]\n@", &["flows"]),
    (
        "timeouts",
        "[flows]\ntimeouts = { @ }",
        &["flows", "timeouts"],
    ),
    ("[metrics]", "[metrics]\n@", &["metrics"]),
    (
        "[inband]",
        "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.9\"\n@",
        &["inband"],
    ),
    ("[decoy]", "[decoy]\n@", &["decoy"]),
    ("[alerts]", "[alerts]\n@", &["alerts"]),
    ("rotate", "[alerts]\nrotate = { @ }", &["alerts", "rotate"]),
    ("[detect]", "[detect]\n@", &["detect"]),
    ("scan", "[detect.scan]\n@", &["detect", "scan"]),
    (
        "dns_tunnel",
        "[detect.dns_tunnel]\n@",
        &["detect", "dns_tunnel"],
    ),
    (
        "icmp_tunnel",
        "[detect.icmp_tunnel]\n@",
        &["detect", "icmp_tunnel"],
    ),
    ("upload", "[detect.upload]\n@", &["detect", "upload"]),
    ("beacon", "[detect.beacon]\n@", &["detect", "beacon"]),
    (
        "[[sink]]",
        "[[sink]]\nkind = \"journald\"\n@",
        &["sink", "*"],
    ),
    (
        "[[sink]]",
        "[[sink]]\nkind = \"syslog\"\naddress = \"a:514\"\n@",
        &["sink", "*"],
    ),
    (
        "[[sink]]",
        "[[sink]]\nkind = \"webhook\"\nurl = \"https://a/\"\n@",
        &["sink", "*"],
    ),
    ("[evidence]", "[evidence]\ndir = \"/e\"\n@", &["evidence"]),
    ("[control]", "[control]\n@", &["control"]),
    ("the top level", "@", &[]),
];

/// The keys of a table, as the message about an unknown one lists them.
fn known(table: &str, open: &str) -> Vec<String> {
    let text = open.replace('@', "qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq = 1");
    let error = config::parse(&text, "p.toml", Path::new("/nonexistent")).unwrap_err();
    let before = format!("the keys of {table} are: ");
    let helps = error
        .problems
        .iter()
        .filter_map(|problem| problem.help.as_deref());
    let list = helps.filter_map(|help| help.strip_prefix(&before)).next();
    let list = list.unwrap_or_else(|| panic!("no list of the keys of {table}: {error}"));
    list.split(", ").map(str::to_owned).collect()
}

/// The keys that stand at a place of a config; `*` is each of a list or of a table.
fn keys_at(value: &toml::Value, place: &[&str], found: &mut BTreeSet<String>) {
    let Some((step, rest)) = place.split_first() else {
        found.extend(
            value
                .as_table()
                .into_iter()
                .flat_map(|table| table.keys().cloned()),
        );
        return;
    };
    let below: Vec<&toml::Value> = match value {
        toml::Value::Table(table) if *step == "*" => table.values().collect(),
        toml::Value::Table(table) => table.get(*step).into_iter().collect(),
        toml::Value::Array(array) if *step == "*" => array.iter().collect(),
        _ => Vec::new(),
    };
    for value in below {
        keys_at(value, rest, found);
    }
}

#[test]
fn every_key_of_the_language_stands_in_an_example() {
    let examples: Vec<toml::Value> = examples("toml")
        .iter()
        .map(|block| toml::Value::Table(block.text.parse().unwrap()))
        .collect();
    let mut missing = Vec::new();
    let mut all = 0;
    for (table, open, place) in TABLES {
        let mut used = BTreeSet::new();
        for example in &examples {
            keys_at(example, place, &mut used);
        }
        let keys = known(table, open);
        all += keys.len();
        let unused = keys.iter().filter(|key| !used.contains(*key));
        missing.extend(unused.map(|key| format!("`{key}` of {table}")));
    }
    assert!(missing.is_empty(), "in no example: {}", missing.join(", "));
    assert!(all > 60, "only {all} keys were looked for");
}
