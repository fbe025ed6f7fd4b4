//! Every class of config error: where it is said to be, and what it says would be right.

#[path = "config_errors/answers.rs"]
mod answers;
#[path = "config_errors/language.rs"]
mod language;

use portcullis::config;
use std::path::Path;

/// Config text with `⟦` before the place of the error, a part of the message, and a part of the help.
const ERRORS: &[(&str, &str, &str)] = &[
    // The text as TOML.
    (
        "[policy]\ndefault = ⟦drop\n",
        "not valid TOML",
        "strings stand in quotes",
    ),
    ("[policy\n", "not valid TOML", "lists in [ ]"),
    (
        "[lan]\nprefixes = [\"10.0.0.0/8\"]\n⟦prefixes = []\n",
        "not valid TOML: duplicate key",
        "a line of its own",
    ),
    // Keys.
    (
        "[policy]\n⟦defualt = \"drop\"\n",
        "unknown key `defualt` in [policy]",
        "did you mean `default`?",
    ),
    (
        "[policy]\n⟦colour = 1\n",
        "unknown key `colour`",
        "the keys of [policy] are: profile, default, shadow, uplink, look_into, quic, tcp_ports",
    ),
    (
        "⟦polcy = {}\n",
        "unknown key `polcy` in the top level",
        "did you mean `policy`?",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\n⟦dprot = 23\n",
        "unknown key `dprot` in [[rule]]",
        "did you mean `dport`?",
    ),
    (
        "[metrics]\n⟦listem = \"off\"\n",
        "unknown key `listem`",
        "did you mean `listen`?",
    ),
    (
        "[[test]]\npacket = { ⟦sorc = 1, proto = \"gre\", src = \"1.1.1.1\", dst = \"1.1.1.2\" }\nexpect = { verdict = \"drop\" }\n",
        "unknown key `sorc`",
        "did you mean `src`?",
    ),
    // Types and words.
    (
        "policy = ⟦3\n",
        "`[policy]` must be a table",
        "write a table",
    ),
    (
        "⟦[rule]\nname = \"a\"\n",
        "`rule` must be a list of tables",
        "write `[[rule]]` with two brackets",
    ),
    (
        "[policy]\ndefault = ⟦true\n",
        "`default` must be one of \"allow\", \"drop\"",
        "write one of",
    ),
    (
        "[policy]\ndefault = ⟦\"alow\"\n",
        "`default` cannot be \"alow\"",
        "did you mean \"allow\"?",
    ),
    (
        "[policy]\nuplink = ⟦\"wan\"\n",
        "`uplink` cannot be \"wan\"",
        "it may be \"internet\", \"inner\"",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = ⟦\"deny\"\n",
        "`action` cannot be \"deny\"",
        "\"allow\", \"drop\", \"reject\", \"decoy\"",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\ndirection = ⟦\"outbound\"\n",
        "`direction` cannot be",
        "\"out\", \"in\", \"both\"",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nenabled = ⟦\"yes\"\n",
        "`enabled` must be true or false",
        "write true or false",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nalert = ⟦true\n",
        "does not say how loud",
        "write \"low\", \"medium\" or \"high\"",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nalert = ⟦\"hihg\"\n",
        "`alert` cannot be \"hihg\"",
        "did you mean \"high\"?",
    ),
    // Names.
    (
        "⟦[[rule]]\naction = \"drop\"\n",
        "a rule has no name",
        "add `name = \"...\"`",
    ),
    (
        "[[rule]]\nname = ⟦\"a b\"\naction = \"drop\"\n",
        "\"a b\" is not a name for a rule",
        "letters, digits",
    ),
    (
        "[[rule]]\nname = ⟦\"default\"\naction = \"drop\"\n",
        "is not a name for a rule",
        "set it by `default` in [policy]",
    ),
    (
        "[[rule]]\nname = ⟦\"netbois\"\nenabled = false\n",
        "the rule `netbois` has no action",
        "did you mean the built-in rule `netbios`?",
    ),
    (
        "[[rule]]\nname = ⟦\"a\"\n",
        "the rule `a` has no action",
        "add `action = \"drop\"`",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\n[[rule]]\nname = ⟦\"a\"\naction = \"drop\"\n",
        "two rules with the name `a`",
        "the first is in line 1",
    ),
    (
        "[[rule]]\nname = \"smb\"\nenabled = false\n[[rule]]\nname = ⟦\"smb\"\nenabled = true\n",
        "two rules with the name `smb`",
        "another name",
    ),
    // Addresses and sets.
    (
        "[lan]\nprefixes = [\"10.0.0.0/8\", ⟦\"10.77.0.1/24\"]\n",
        "has bits set below its prefix length",
        "did you mean \"10.77.0.0/24\"",
    ),
    (
        "[lan]\nprefixes = ⟦\"10.0.0.0/33\"\n",
        "\"10.0.0.0/33\" is not a prefix",
        "write an address",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nsrc = ⟦\"10.0.0\"\n",
        "\"10.0.0\" is not an address",
        "a range (\"10.0.0.1-10.0.0.9\")",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nsrc = ⟦\"10.0.0.9-10.0.0.1\"\n",
        "is not a range",
        "the lower address first",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nsrc = ⟦[]\n",
        "`src` is an empty list",
        "leave `src` out",
    ),
    (
        "[sets]\npartners = []\n[[rule]]\nname = \"a\"\naction = \"drop\"\ndst = [⟦\"!@partner\"]\n",
        "there is no set `partner`",
        "did you mean \"@partners\"?",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\ndst = ⟦\"@friends\"\n",
        "there is no set `friends`",
        "add `friends = [...]` to [sets]",
    ),
    (
        "[sets]\n⟦lan = []\n",
        "the set `lan` is always the prefixes of [lan]",
        "\"@lan\" in rules",
    ),
    (
        "[sets]\n⟦\"a b\" = []\n",
        "is not a name for a set",
        "letters, digits",
    ),
    (
        "[sets]\na = ⟦\"10.0.0.1\"\n",
        "must be a list or a file",
        "{ file = \"a/path\" }",
    ),
    (
        "[sets]\na = [\"10.0.0.1\", ⟦\"!10.0.0.2\"]\n",
        "is not an address",
        "negation and other sets stand in rules",
    ),
    (
        "[sets]\na = { file = ⟦\"missing.txt\" }\n",
        "missing.txt: No such file",
        "relative to the config file",
    ),
    ("[sets]\na = ⟦{}\n", "names no file", "write { file"),
    // Protocols and ports.
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nproto = ⟦\"tpc\"\n",
        "there is no protocol \"tpc\"",
        "did you mean \"tcp\"?",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nproto = ⟦256\n",
        "`proto` must be a number from 0 to 255",
        "from 0 to 255",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\ndport = [23, ⟦65536]\n",
        "neither a number nor a range",
        "from 0 to 65535",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\ndport = ⟦\"30-20\"\n",
        "neither a number nor a range",
        "\"a-b\" in quotes",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nproto = [\"tcp\", \"gre\"]\ndport = ⟦23\n",
        "a protocol that has no ports",
        "`proto = \"tcp\"`",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nicmp_type = ⟦8\n",
        "needs one ICMP protocol",
        "add `proto = \"icmp\"`",
    ),
    (
        "[[rule]]\nname = \"a\"\naction = \"drop\"\nproto = \"icmp\"\nicmp_code = ⟦256\n",
        "neither a number nor a range",
        "from 0 to 255",
    ),
    // [bridge].
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\non_failure = ⟦\"opened\"\n",
        "`on_failure` cannot be \"opened\"",
        "did you mean \"open\"?",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\nhandover = ⟦\"11s\"\n",
        "`handover` cannot be 11s",
        "from \"100ms\" to \"10s\"",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\nwatchdog = ⟦\"20ms\"\n",
        "`watchdog` cannot be 20ms",
        "from \"50ms\" to \"60s\"",
    ),
    // [bridge] and its neighbours.
    (
        "⟦[bridge]\nlan = \"a\"\n",
        "[bridge] has no `uplink`",
        "`ip link` lists the interfaces",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = ⟦\"a\"\n",
        "`lan` and `uplink` are both \"a\"",
        "name two interfaces",
    ),
    (
        "[bridge]\nlan = ⟦\"a-name-of-16-byt\"\nuplink = \"b\"\n",
        "is not a name for an interface",
        "1 to 15 bytes",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\nmode = ⟦\"zerocopy\"\n",
        "`mode` cannot be \"zerocopy\"",
        "did you mean \"zero-copy\"?",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\nqueues = ⟦\"all\"\n",
        "`queues` must be \"auto\" or a number",
        "1 to 1024",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\nqueues = ⟦0\n",
        "`queues` must be a number from 1 to 1024",
        "1 to 1024",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\nwatchdog = ⟦\"soon\"\n",
        "`watchdog` cannot be \"soon\"",
        "such as \"200ms\"",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\nchunk = ⟦3000\n",
        "`chunk` must be 2048 or 4096",
        "write 4096",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\nring = ⟦1000\n",
        "`ring` must be a power of two",
        "write 512 or 1024",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\nframes = ⟦-1\n",
        "`frames` must be a number",
        "write a number",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\ncores = ⟦1\n",
        "`cores` must be a list of CPU numbers",
        "write `cores = [0, 1]`",
    ),
    (
        "[bridge]\nlan = \"a\"\nuplink = \"b\"\nbusy_poll = { ⟦usec = 20 }\n",
        "unknown key `usec`",
        "did you mean `usecs`?",
    ),
    (
        "[metrics]\nlisten = ⟦\"9155\"\n",
        "`listen` is not an address and a port",
        "or \"off\"",
    ),
    (
        "[metrics]\nlisten = ⟦\"0.0.0.0:9155\"\n",
        "`listen` is an address that other machines reach, and no token is asked for",
        "add `token_file = \"page.token\"`",
    ),
    (
        "[metrics]\nlisten = ⟦\"[2001:db8::1]:9155\"\n",
        "`listen` is an address that other machines reach",
        "or listen on 127.0.0.1 or [::1]",
    ),
    (
        "[metrics]\nlisten = \"0.0.0.0:9155\"\ntoken_file = ⟦\"/nonexistent/token\"\n",
        "no token in /nonexistent/token",
        "with the token on its only line",
    ),
    (
        "[alerts]\nwindow = ⟦\"0s\"\n",
        "`window` cannot be \"0s\"",
        "a number and a unit",
    ),
    (
        "[alerts]\nfile = ⟦\"\"\n",
        "`file` is empty",
        "leave the key out",
    ),
    (
        "[alerts]\nrotate = { size = ⟦\"100 megabytes\" }\n",
        "`size` cannot be \"100 megabytes\"",
        "such as \"100MB\"",
    ),
    (
        "[alerts]\nrotate = { size = ⟦\"1kB\" }\n",
        "`size` cannot be \"1kB\"",
        "write 4KiB to 1024GiB",
    ),
    (
        "[alerts]\nrotate = { keep = ⟦0 }\n",
        "`keep` must be a number from 1 to 1000",
        "1 to 1000",
    ),
    (
        "[alerts]\nrotate = { ⟦kep = 1 }\n",
        "unknown key `kep` in rotate",
        "did you mean `keep`?",
    ),
    // Sinks.
    (
        "⟦[[sink]]\nname = \"a\"\n",
        "a sink has no `kind`",
        "add `kind = \"journald\"`",
    ),
    (
        "[[sink]]\nkind = ⟦\"sysog\"\n",
        "`kind` cannot be \"sysog\"",
        "did you mean \"syslog\"?",
    ),
    (
        "⟦[[sink]]\nkind = \"syslog\"\n",
        "a syslog sink needs `address`",
        "the receiver and its port",
    ),
    (
        "[[sink]]\nkind = \"syslog\"\naddress = ⟦\"192.0.2.10\"\n",
        "\"192.0.2.10\" is not a host and a port",
        "\"192.0.2.10:514\"",
    ),
    (
        "[[sink]]\nkind = \"syslog\"\naddress = ⟦\"2001:db8::10:514\"\n",
        "\"2001:db8::10:514\" is not a host and a port",
        "\"[2001:db8::10]:514\"",
    ),
    (
        "[[sink]]\nkind = \"syslog\"\naddress = \"192.0.2.10:514\"\ntransport = ⟦\"tsl\"\n",
        "`transport` cannot be \"tsl\"",
        "did you mean \"tls\"?",
    ),
    (
        "[[sink]]\nkind = \"syslog\"\naddress = \"192.0.2.10:514\"\nfacility = ⟦\"local8\"\n",
        "`facility` cannot be \"local8\"",
        "\"local7\"",
    ),
    (
        "[[sink]]\nkind = \"syslog\"\naddress = \"a:6514\"\ntransport = \"tls\"\nca = ⟦\"/nonexistent/ca.pem\"\n",
        "cannot read /nonexistent/ca.pem",
        "name a PEM file",
    ),
    (
        "[[sink]]\nkind = \"syslog\"\naddress = \"a:6514\"\ntransport = \"tls\"\nca = ⟦\"/dev/null\"\n",
        "/dev/null has no certificate that can be used",
        "it must be PEM",
    ),
    (
        "[[sink]]\nkind = \"webhook\"\nurl = ⟦\"hooks.example.org/alerts\"\n",
        "\"hooks.example.org/alerts\" is not a URL that can be posted to",
        "write http:// or https://",
    ),
    (
        "[[sink]]\nkind = \"webhook\"\nurl = ⟦\"https://hooks.example.org:99999/\"\n",
        "\"https://hooks.example.org:99999/\" is not a URL that can be posted to",
        "write http:// or https://",
    ),
    (
        "[[sink]]\nkind = \"webhook\"\nurl = ⟦\"https://me:secret@hooks.example.org/\"\n",
        "`url` has a user or a password in it",
        "`token_file`",
    ),
    (
        "[[sink]]\nkind = \"webhook\"\nurl = \"https://a/\"\ntoken_file = ⟦\"/nonexistent/token\"\n",
        "no token in /nonexistent/token",
        "on its only line",
    ),
    (
        "[[sink]]\nkind = \"webhook\"\nurl = \"https://a/\"\ntoken_file = ⟦\"/dev/null\"\n",
        "no token in /dev/null",
        "on its only line",
    ),
    (
        "⟦[[sink]]\nkind = \"alertmanager\"\n",
        "a sink of the kind \"alertmanager\" needs `url`",
        "add `url =",
    ),
    (
        "[[sink]]\nkind = \"alertmanager\"\nurl = ⟦\"127.0.0.1:9093\"\n",
        "\"127.0.0.1:9093\" is not a URL",
        "write http:// or https://",
    ),
    (
        "[[sink]]\nkind = \"journald\"\nlevel = ⟦\"loud\"\n",
        "`level` cannot be \"loud\"",
        "\"low\", \"medium\", \"high\"",
    ),
    (
        "[[sink]]\nkind = \"journald\"\nqueue = ⟦0\n",
        "`queue` must be a number from 1 to 1000000",
        "1 to 1000000",
    ),
    (
        "[[sink]]\nkind = \"journald\"\nname = ⟦\"file\"\n",
        "\"file\" is not a name for a sink",
        "the file of [alerts]",
    ),
    (
        "[[sink]]\nkind = \"journald\"\nname = ⟦\"a b\"\n",
        "\"a b\" is not a name for a sink",
        "letters, digits",
    ),
    (
        "[[sink]]\nkind = \"journald\"\n⟦[[sink]]\nkind = \"journald\"\n",
        "two sinks are called `journald`",
        "another `name`",
    ),
    (
        "[[sink]]\nkind = \"journald\"\n⟦facility = \"user\"\n",
        "unknown key `facility` in [[sink]]",
        "kind, socket, name, queue, level",
    ),
    // Tests.
    (
        "⟦[[test]]\nexpect = { verdict = \"drop\" }\n",
        "a test needs `packet` and `expect`",
        "write `packet =",
    ),
    (
        "[[test]]\npacket = { proto = \"gre\", src = \"1.1.1.1\", dst = \"1.1.1.2\" }\nexpect = ⟦{}\n",
        "a test that expects nothing",
        "verdict = \"drop\"",
    ),
    (
        "[[test]]\npacket = { proto = \"gre\", src = \"1.1.1.1\", dst = \"1.1.1.2\" }\nexpect = { verdict = ⟦\"pass\" }\n",
        "`verdict` cannot be \"pass\"",
        "\"forward\", \"allow\", \"drop\", \"reject\"",
    ),
    (
        "[[test]]\npacket = { proto = \"udp\", src = \"1.1.1.1:9\", dst = ⟦\"1.1.1.2\" }\nexpect = { verdict = \"drop\" }\n",
        "is not an address and a port",
        "this protocol has ports",
    ),
    (
        "[[test]]\npacket = { proto = \"gre\", src = \"1.1.1.1\", dst = ⟦\"::1\" }\nexpect = { verdict = \"drop\" }\n",
        "of two families",
        "two IPv4 or two IPv6",
    ),
    (
        "[[test]]\npacket = { direction = ⟦\"up\", proto = \"gre\", src = \"1.1.1.1\", dst = \"1.1.1.2\" }\nexpect = { verdict = \"drop\" }\n",
        "cannot go \"up\"",
        "\"out\" or \"in\"",
    ),
    (
        "[[test]]\npacket = ⟦{ proto = \"gre\", dst = \"1.1.1.2\" }\nexpect = { verdict = \"drop\" }\n",
        "the packet has no `src`",
        "add `src`",
    ),
];

/// Every row, as a whole config.
fn rows() -> Vec<(String, &'static str, &'static str)> {
    let plain = ERRORS
        .iter()
        .chain(language::CONFIGS)
        .chain(answers::CONFIGS)
        .copied();
    let plain = plain.map(|(text, message, help)| (text.to_owned(), message, help));
    let rule = |text| format!("[[rule]]\nname = \"a\"\naction = \"allow\"\n{text}\n");
    let packet = |text: &str| {
        let table = if text.contains('⟦') { "" } else { "⟦" };
        format!("[[test]]\npacket = {table}{{ {text} }}\nexpect = {{ verdict = \"drop\" }}\n")
    };
    let rules = language::RULES.iter();
    let rules = rules.map(|(text, message, help)| (rule(text), *message, *help));
    let packets = language::PACKETS.iter();
    let packets = packets.map(|(text, message, help)| (packet(text), *message, *help));
    plain.chain(rules).chain(packets).collect()
}

/// The text without its mark, and the line and column of the mark.
fn marked(text: &str) -> (String, usize, usize) {
    let at = text.find('⟦').unwrap_or(0);
    let line = text[..at].matches('\n').count() + 1;
    let column = text[..at].rsplit('\n').next().unwrap().chars().count() + 1;
    (text.replace('⟦', ""), line, column)
}

#[test]
fn each_error_says_its_place_and_what_would_be_right() {
    let mut wrong = Vec::new();
    for (text, message, help) in rows() {
        let (clean, line, column) = marked(&text);
        let Err(error) = config::parse(&clean, "p.toml", Path::new("/nonexistent")) else {
            wrong.push(format!("{text:?} loads"));
            continue;
        };
        let first = &error.problems[0];
        let said = first.help.clone().unwrap_or_default();
        let placed = (first.line, first.column) == (line, column) || !text.contains('⟦');
        if error.problems.len() != 1
            || !placed
            || !first.message.contains(message)
            || !said.contains(help)
        {
            let all: Vec<_> = error
                .problems
                .iter()
                .map(|problem| problem.one_line())
                .collect();
            wrong.push(format!(
                "{text:?}\n  expected {line}:{column} {message} / {help}\n  got {all:#?}"
            ));
        }
        let drawn = config::error::render(&error.problems, false);
        assert!(
            drawn.contains(&format!("p.toml:{}:{}", first.line, first.column)),
            "{drawn}"
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn all_errors_of_a_file_are_told_at_once_in_the_order_of_the_text() {
    let text = "[policy]\ndefalt = \"drop\"\n[[rule]]\nname = \"a\"\naction = \"dorp\"\ndport = \"x\"\n[lan]\nprefixes = [\"nine\"]\n";
    let error = config::parse(text, "p.toml", Path::new(".")).unwrap_err();
    assert_eq!(
        error
            .problems
            .iter()
            .map(|problem| problem.line)
            .collect::<Vec<_>>(),
        [2, 5, 6, 8]
    );
    let line = "p.toml:2:1: unknown key `defalt` in [policy]: did you mean `default`? (and 3 more)";
    assert_eq!(error.to_string(), line);
}

#[test]
fn an_error_in_a_set_file_names_that_file_and_its_line() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("list.txt"),
        "# fine\n10.0.0.0/8\n  10.0.0.300 # no\nfd77::/64\n",
    )
    .unwrap();
    let error =
        config::parse("sets.a = { file = \"list.txt\" }", "p.toml", dir.path()).unwrap_err();
    let problem = &error.problems[0];
    assert!(problem.file.ends_with("list.txt"), "{}", problem.file);
    assert_eq!((problem.line, problem.column), (3, 3));
    assert_eq!(problem.message, "\"10.0.0.300\" is not an address");
}

#[test]
fn a_set_file_full_of_errors_is_told_by_its_first_ones() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("list.txt"), "nonsense\n".repeat(5000)).unwrap();
    let error =
        config::parse("sets.a = { file = \"list.txt\" }", "p.toml", dir.path()).unwrap_err();
    assert_eq!(error.problems.len(), 20);
}

#[test]
fn a_missing_config_is_a_one_line_error() {
    let error = config::load(Path::new("/nonexistent/p.toml")).unwrap_err();
    let line = error.to_string();
    assert!(
        line.starts_with("/nonexistent/p.toml: cannot read the config: No such file"),
        "{line}"
    );
    assert!(!line.contains('\n'));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Whatever the text, there is an answer and no panic.
    #[test]
    fn no_text_makes_the_reader_panic(start in 0usize..20_000, len in 0usize..40, noise in "\\PC{0,12}") {
        let text = rows().iter().map(|(text, ..)| text.replace('⟦', "")).collect::<String>();
        let cut: String = text.chars().skip(start).take(len * 4).collect();
        let _ = config::parse(&format!("{cut}{noise}"), "p.toml", Path::new("/nonexistent"));
    }

    /// Any value in the place of any other, which the rows' own texts give.
    #[test]
    fn no_value_in_another_ones_place_makes_the_reader_panic(into in 0usize..1000, from in 0usize..1000, at in 0usize..20, word in 0usize..20) {
        let rows = rows();
        let pick = |which: usize| rows[which % rows.len()].0.replace('⟦', "");
        let (into, from) = (pick(into), pick(from));
        let words: Vec<&str> = from.split(['=', '\n']).collect();
        let mut parts: Vec<&str> = into.split_inclusive(['=', '\n']).collect();
        let at = at % parts.len();
        let changed = format!("{}{}", words[word % words.len()], if parts[at].ends_with('=') { "=" } else { "\n" });
        parts[at] = &changed;
        let _ = config::parse(&parts.concat(), "p.toml", Path::new("/nonexistent"));
    }
}
