//! `docs/decoys.md` is held to what decoys say: its examples load, each answer on the page is one that a client gets, and the ports are those of the code.

use portcullis::config;
use portcullis::hoststack::decoy::persona::{Kind, Limits, Persona};
use serde_json::Value;
use std::path::Path;

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decoys.md");
    std::fs::read_to_string(path).unwrap()
}

/// What stands between a fence of this kind and its end.
fn blocks(info: &str) -> Vec<String> {
    let page = page();
    let fences = page.split("\n```").skip(1).step_by(2);
    let found = fences.filter_map(|block| block.strip_prefix(&format!("{info}\n")));
    found.map(str::to_owned).collect()
}

/// The rows of the table with this head, cell by cell.
fn table(head: &str) -> Vec<Vec<String>> {
    let page = page();
    let from = page.find(head).unwrap_or_else(|| panic!("no table {head}"));
    let rows = page[from..]
        .lines()
        .take_while(|line| line.starts_with('|'));
    let cells = |row: &str| {
        let cells = row.trim_matches('|').split('|').map(str::trim);
        cells.map(str::to_owned).collect()
    };
    rows.skip(2).map(cells).collect()
}

/// What stands between backticks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// All that a decoy says to these words.
fn says(kind: Kind, words: &str) -> String {
    let mut persona = Persona::new(kind, "NAME", Limits::default());
    let mut out = Vec::new();
    persona.greet(&mut out);
    persona.hear(words.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn every_example_loads() {
    let examples = blocks("toml");
    for text in &examples {
        let config = config::parse(text, "docs/decoys.md", Path::new("/nonexistent"));
        config.unwrap_or_else(|error| panic!("{error}\n{text}"));
    }
    assert!(!examples.is_empty());
}

#[test]
fn each_port_speaks_what_the_page_says() {
    let mut listed = Vec::new();
    for row in table("| port | speaks |") {
        let kind = Kind::ALL.into_iter().find(|kind| kind.name() == row[1]);
        let kind = kind.unwrap_or_else(|| panic!("{row:?}"));
        let Some((proto, ports)) = row[0].split_once(' ').filter(|(p, _)| *p != "any") else {
            assert_eq!(kind, Kind::Raw);
            continue;
        };
        for ports in ports.split(", ") {
            let (low, high) = ports.split_once(" to ").unwrap_or((ports, ports));
            let ports = low.parse::<u16>().unwrap()..=high.parse().unwrap();
            listed.extend(ports.map(|port| ((proto == "UDP", port), kind)));
        }
    }
    for udp in [false, true] {
        for port in 0..=u16::MAX {
            let row = listed.iter().find(|(at, _)| *at == (udp, port));
            let said = row.map_or(Kind::Raw, |(_, kind)| *kind);
            assert_eq!(Kind::for_port(udp, port), said, "{udp} {port}");
        }
    }
}

#[test]
fn a_chat_client_is_welcomed_with_the_very_words_of_the_page() {
    let said = says(Kind::Irc, "NICK BOT\r\nUSER USER 0 * :x\r\n");
    let blocks = blocks("text");
    let welcome = blocks.iter().find(|block| block.starts_with(":NAME 001"));
    let welcome: Vec<&str> = welcome.expect("the welcome").lines().collect();
    let said: Vec<&str> = said.split_terminator("\r\n").collect();
    let (cookie, lines) = welcome.split_last().unwrap();
    let (ping, heard) = said.split_last().unwrap();
    assert_eq!(heard, lines);
    assert_eq!(*cookie, "PING :8 hex digits");
    let digits = ping.strip_prefix("PING :").expect("a PING");
    assert!(digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
}

#[test]
fn a_chat_client_hears_what_the_table_says() {
    let rows = table("| the client says | it hears |\n|---|---|\n| `CAP LS`");
    let registered = "NICK BOT\r\nUSER USER 0 * :x\r\n";
    // Of each row words of its first cell, and what has to come of them.
    let heard: &[(&str, &[&str])] = &[
        (
            "CAP LS\r\nCAP LIST\r\nCAP REQ :sasl\r\nCAP x\r\n",
            &[
                ":NAME CAP BOT LS :",
                "LIST :",
                ":NAME CAP BOT NAK :sasl",
                " 410 ",
            ],
        ),
        (
            "JOIN #c key\r\nJOIN #1,#2,#3,#4,#5,#6,#7,#8,#9,#10,#11,#12,#13,#14,#15,#16\r\nJOIN x\r\n",
            &[
                ":BOT!~USER@users.NAME JOIN :#c",
                "331 BOT #c :No topic is set",
                "353 BOT = #c :@BOT",
                " 366 ",
                " 405 ",
                " 403 ",
            ],
        ),
        (
            "JOIN #c\r\nPART #c\r\nPART #c\r\nTOPIC #c\r\nNAMES #c\r\nLIST\r\n",
            &[" PART #c", " 442 ", " 331 ", " 366 ", " 323 "],
        ),
        (
            "MODE #c\r\nMODE #c +i\r\nMODE #c b\r\nMODE BOT\r\n",
            &[
                "324 BOT #c +nt",
                ":BOT!~USER@users.NAME MODE #c +i",
                " 368 ",
                "221 BOT +",
            ],
        ),
        (
            "WHO #c\r\nWHOIS a\r\nISON a\r\nUSERHOST BOT\r\nLUSERS\r\nMOTD\r\nVERSION\r\nAWAY x\r\nAWAY\r\n",
            &[
                " 315 ",
                " 401 ",
                " 318 ",
                "303 BOT :\r",
                "302 BOT :BOT=+",
                " 251 ",
                " 422 ",
                "351 BOT 2.11.2p3 NAME :",
                " 306 ",
                " 305 ",
            ],
        ),
        ("PRIVMSG #c :x\r\nNOTICE #c :x\r\n", &[]),
        ("PING x\r\n", &[":NAME PONG NAME :x"]),
        (
            "QUIT\r\n",
            &["ERROR :Closing Link: ~USER@users.NAME (Client Quit)"],
        ),
        ("HELLO\r\n", &["421 BOT HELLO :Unknown command"]),
        (
            &"PING xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n".repeat(400),
            &["ERROR :Closing Link: ~USER@users.NAME (Excess Flood)"],
        ),
    ];
    assert_eq!(rows.len(), heard.len());
    let welcome = says(Kind::Irc, registered).len();
    for (row, (words, wanted)) in rows.iter().zip(heard) {
        let said = says(Kind::Irc, &format!("{registered}{words}"));
        let said = &said[welcome..];
        for wanted in *wanted {
            assert!(said.contains(wanted), "{wanted:?} of {row:?} in {said}");
        }
        assert_eq!(said.is_empty(), wanted.is_empty(), "{row:?}");
        // Each number of a message on the page is one of these.
        let numbers = row[1].split(|c: char| !c.is_ascii_digit());
        for number in numbers.filter(|number| number.len() == 3) {
            let there = said.contains(&format!(" {number} "));
            assert!(there || number == "451", "{number} of {row:?}");
        }
    }
    let early = says(Kind::Irc, "WHO x\r\n");
    assert_eq!(early, ":NAME 451 * :You have not registered\r\n");
}

#[test]
fn every_answer_of_a_mail_server_on_the_page_is_one_that_it_gives() {
    let begun = "EHLO x\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n";
    let dialogues = [
        "HELO x\r\n".to_owned(),
        format!("{begun}RSET\r\nNOOP\r\nVRFY x\r\nQUIT\r\n"),
        format!("{begun}DATA\r\nSubject: x\r\n\r\nx\r\n.\r\n"),
        format!("{begun}{}", "RCPT TO:<c@d>\r\n".repeat(100)),
        format!("{begun}DATA\r\n{}", "x\r\n".repeat(30_000)),
        "STARTTLS\r\nAUTH PLAIN\r\nBDAT 1\r\nEXPN a\r\nHELP\r\nTURN\r\nETRN a\r\n".to_owned(),
        "x\r\n".repeat(30),
    ];
    let said: String = dialogues
        .iter()
        .map(|words| says(Kind::Smtp, words))
        .collect();
    let said: Vec<&str> = said.split_terminator("\r\n").collect();
    let mut answers = 0;
    for row in table("| the client says | it hears |\n|---|---|\n| (it connects)") {
        for answer in quoted(&row[1]) {
            if answer.starts_with(|c: char| c.is_ascii_digit()) {
                assert!(said.contains(&answer), "{answer:?} in {said:#?}");
                answers += 1;
            }
        }
    }
    assert!(answers > 10, "{answers}");
    for (words, number) in [
        ("MAIL FROM:<a>\r\n", "503"),
        ("EHLO\r\n", "501"),
        ("x\r\n", "500"),
    ] {
        let said = says(Kind::Smtp, words);
        assert!(
            said.contains(&format!("\r\n{number} ")) && said.contains("Error:") || number == "501",
            "{said}"
        );
    }
    let commands = dialogues[5].matches("\r\n").count();
    let refused = says(Kind::Smtp, &dialogues[5]);
    assert_eq!(refused.matches("502 5.5.1").count(), commands);
}

#[test]
fn web_and_file_servers_say_what_stands_on_the_page() {
    let page = page();
    for (words, line) in [
        ("GET / HTTP/1.1\r\n\r\n", "503 Service Unavailable"),
        (
            "POST / HTTP/1.1\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
            "503 Service Unavailable",
        ),
        ("\u{16}\u{3}\u{1}", "400 Bad Request"),
        (
            &format!("GET / HTTP/1.1\r\nx: {}", "x".repeat(9000)),
            "431 Request Header Fields Too Large",
        ),
    ] {
        let said = says(Kind::Http, words);
        assert!(
            said.starts_with(&format!("HTTP/1.1 {line}\r\n")) && page.contains(line),
            "{said}"
        );
        assert!(!said.contains("Date:") && !said.contains("Server:"));
    }
    let ok = says(Kind::Http, "GET / HTTP/1.1\r\n\r\n");
    for field in ["Retry-After: 120", "Content-Length: 0", "Connection: close"] {
        assert!(ok.contains(field) && page.contains(&format!("`{field}`")));
    }
    let answer = |datagrams: &[Vec<u8>]| {
        let mut persona = Persona::new(Kind::Tftp, "NAME", Limits::default());
        let mut out = Vec::new();
        for datagram in datagrams {
            out.clear();
            persona.hear_datagram(datagram, &mut out);
        }
        out
    };
    let request = |opcode: u8| [&[0, opcode][..], b"f\0octet\0"].concat();
    let blocks = (1..=129u8).map(|n| [&[0, 3, 0, n][..], &[7; 512]].concat());
    let full: Vec<_> = std::iter::once(request(2)).chain(blocks).collect();
    for (datagrams, number, text) in [
        (&full[..], 3, "Disk full"),
        (&[request(1)], 1, "File not found"),
        (&[vec![0, 9]], 4, "Illegal TFTP operation"),
    ] {
        let expected = [&[0, 5, 0, number][..], text.as_bytes(), &[0]].concat();
        assert_eq!(answer(datagrams), expected);
        assert!(
            page.contains(&format!("`{text}` (error {number})")),
            "{text}"
        );
    }
    assert_eq!(answer(&full[..2]), [0, 4, 0, 1]);
}

#[test]
fn the_alert_on_the_page_has_the_fields_that_alerts_md_lists() {
    let alert = blocks("json").pop().expect("an alert");
    let alert: Value = serde_json::from_str(&alert).expect("JSON");
    assert_eq!(alert["alert"]["verdict"], "decoy");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/alerts.md");
    let listed = std::fs::read_to_string(path).unwrap();
    for name in alert["decoy"].as_object().expect("an object").keys() {
        assert!(listed.contains(&format!("`decoy.{name}`")), "{name}");
    }
}
