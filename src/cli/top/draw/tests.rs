use super::super::keys::{Act, press};
use super::super::picture::Picture;
use super::super::testing::{incident, incidents, status};
use super::super::view::{Over, View};
use super::draw;
use crate::config::packet::Asked;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;
use serde_json::{Value, json};
use std::time::{Duration, Instant, SystemTime};

/// Some time of the first day.
fn picture(at: Instant, status: &Value, incidents: &Value) -> Result<Picture, String> {
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(43_447);
    Picture::read((at, time), status, incidents)
}

/// A view after two pictures, a second apart.
fn seen(status: &Value, incidents: &Value) -> (View, Instant) {
    let start = Instant::now();
    let mut view = View::new(false);
    let mut before = status.clone();
    for (field, n) in [("rx", 400), ("forwarded", 300), ("tx", 300)] {
        before["ports"]["lan"][field] = n.into();
    }
    before["ports"]["lan"]["rx_bytes"] = 40_000.into();
    view.see(picture(start, &before, incidents));
    let now = start + Duration::from_secs(1);
    view.see(picture(now, status, incidents));
    (view, now)
}

fn buffer(view: &mut View, now: Instant, (width, height): (u16, u16)) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, now)).unwrap();
    terminal.backend().buffer().clone()
}

fn drawn(view: &mut View, now: Instant, size: (u16, u16)) -> String {
    let buffer = buffer(view, now, size);
    let row = |y: u16| -> String { (0..size.0).map(|x| buffer[(x, y)].symbol()).collect() };
    let rows: Vec<String> = (0..size.1).map(|y| row(y).trim_end().to_owned()).collect();
    let text = rows.join("\n");
    // To look at: cargo test top -- --nocapture
    println!("{text}\n");
    text
}

fn key(view: &mut View, code: KeyCode) -> Act {
    press(view, KeyEvent::new(code, KeyModifiers::NONE))
}

fn typing(view: &mut View, text: &str) {
    for c in text.chars() {
        key(view, KeyCode::Char(c));
    }
}

/// Enter in the form: the number of the question, and its packet.
fn ask(view: &mut View) -> (u64, Box<Asked>) {
    match key(view, KeyCode::Enter) {
        Act::Ask(number, asked) => (number, asked),
        other => panic!("nothing asked: {other:?}"),
    }
}

fn assert_says(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "no `{word}` in:\n{text}");
    }
}

#[test]
fn the_smallest_usual_terminal_has_all_that_matters() {
    let (mut view, now) = seen(&status(), &incidents());
    let text = drawn(&mut view, now, (80, 24));
    assert_says(
        &text,
        &[
            "portcullis 0.1.0   healthy   up 3 min 12 s",
            "12:04:07 UTC",
            "lan enp1s0            600       480k",
            "stopped        rule 180   no-flow 20",
            "core 1: 0% busy, turned 3 ms ago",
            "> tftp",
            "123M",
            "in shadow",
            "12:04:05 high   drop    10.77.0.9  tftp       17 read payload.bin octet (desk…",
            "? help",
        ],
    );
}

#[test]
fn a_larger_terminal_has_more_of_it() {
    let (mut view, now) = seen(&status(), &incidents());
    let text = drawn(&mut view, now, (120, 40));
    assert_says(
        &text,
        &[
            "bit/s",
            "10.77.0.9 (desk-9)",
            "read payload.bin octet -> 93.184.216.34:69",
        ],
    );
    let text = drawn(&mut view, now, (200, 50));
    let line = text
        .lines()
        .find(|line| line.contains("Rules in the order"))
        .unwrap();
    assert!(line.contains("Incidents, the latest first"), "{text}");
    assert_says(
        &text,
        &["/etc/portcullis/portcullis.toml (sha256 ab12cd34), policy 1"],
    );
}

#[test]
fn nothing_is_said_by_colour_alone_and_without_it_there_is_none() {
    let mut status = status();
    status["healthy"] = false.into();
    status["shadow"] = true.into();
    status["workers"][1]["heartbeat_ms"] = 4_200.into();
    status["sinks"]["siem"] = json!({ "kind": "syslog", "state": "failing", "waiting": 12, "lost": 3, "last_error": "connection refused" });
    status["sets"]["bad"] = json!({ "error": "line 7" });
    status["alerts_lost"] = 9.into();
    status["reloads"] = json!({ "error": "p.toml:3:1: no", "confirm_until": 9 });
    status["quarantine"] = json!([{ "ips": ["10.77.0.9"], "until": 0, "by": "tftp" }, {}]);
    let (mut view, now) = seen(&status, &incidents());
    view.paused = true;
    let plain = buffer(&mut view, now, (100, 30));
    assert!(
        plain
            .content()
            .iter()
            .all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset)
    );
    let text = drawn(&mut view, now, (100, 30));
    assert_says(
        &text,
        &[
            "NOT HEALTHY",
            "! PAUSED",
            "! SHADOW: NOTHING IS ENFORCED",
            "! WORKER ON CORE 2 last turned 4200 ms ago",
            "! SINK siem (syslog) fails, 12 waiting, 3 lost: connection refused",
            "! SET @bad keeps what it had before: line 7",
            "! CONFIG NOT TAKEN, the one before is in force: p.toml:3:1: no",
            "! THE CONFIG IS TAKEN BACK by itself",
            "! IN QUARANTINE: 10.77.0.9, 0s more, by the rule `tftp` and 1 more",
            "! 9 alerts were lost",
            "> tftp",
        ],
    );
    view.colour = true;
    let coloured = buffer(&mut view, now, (100, 30));
    assert!(coloured.content().iter().any(|cell| cell.fg == Color::Red));
    let symbols = |buffer: &Buffer| -> Vec<String> {
        buffer
            .content()
            .iter()
            .map(|cell| cell.symbol().to_owned())
            .collect()
    };
    assert_eq!(symbols(&plain), symbols(&coloured));
}

#[test]
fn what_others_wrote_moves_nothing_and_hides_nothing() {
    let nasty = "a\u{1b}[2J\u{9b}31m\n\r\u{7}\u{202e}\u{200b}b";
    let mut status = status();
    status["rules"][nasty] = status["rules"]["tftp"].clone();
    status["config"]["file"] = nasty.into();
    status["ports"]["lan"]["dropped"][nasty] = 5.into();
    status["ports"]["lan"]["interface"] = nasty.into();
    status["sinks"]["siem"] = json!({ "kind": nasty, "state": "failing", "last_error": nasty });
    let mut line = incident("3", nasty, "high", nasty);
    for field in ["host_name", "evidence", "hint", "verdict"] {
        line["alert"][field] = nasty.into();
    }
    line["tftp"][nasty] = nasty.into();
    line["app_proto"] = "tftp".into();
    line["src_mac"] = nasty.into();
    let (mut view, now) = seen(&status, &json!({ "incidents": [line] }));
    for code in [
        KeyCode::Null,
        KeyCode::Tab,
        KeyCode::Enter,
        KeyCode::Char('e'),
    ] {
        key(&mut view, code);
        if code == KeyCode::Char('e') {
            let text = drawn(&mut view, now, (120, 50));
            assert_says(&text, &["besides     src_mac a\\x1b"]);
            let (number, _) = ask(&mut view);
            view.hear(number, Err(nasty.to_owned()));
        }
        view.filter = match code {
            KeyCode::Tab => String::new(),
            _ => view.filter,
        };
        let text = drawn(&mut view, now, (120, 50));
        let printable = |c: char| {
            matches!(
                c,
                ' '..='~' | '\n' | '…' | '─' | '│' | '┌' | '┐' | '└' | '┘'
            )
        };
        assert!(text.chars().all(printable), "{text:?}");
        assert_says(&text, &["\\x1b"]);
    }
}

#[test]
fn a_conversation_with_a_decoy_is_in_the_list_and_all_of_it_in_the_details() {
    let mut status = status();
    status["ports"]["lan"]["to_host_stack"] = 57.into();
    status["inband"] = json!({ "received": 15 });
    let mut line = incident("3", "irc", "high", "10.77.0.9");
    line["alert"]["verdict"] = "decoy".into();
    line["decoy"] = json!({
        "protocol": "irc", "began": "1970-01-01T12:04:01.000000+0000", "seconds": 3.25, "ended": "the client closed it", "client_bytes": 61,
        "decoy_bytes": 240, "transcript": ["C: NICK zombie", "S: :relay.example.net 001 zombie :\u{1b}[2J"], "conversations": 1,
        "evidence": "/var/lib/portcullis/evidence/3-1_10.77.0.9_irc.decoy.txt",
    });
    let (mut view, now) = seen(&status, &json!({ "incidents": [line] }));
    key(&mut view, KeyCode::Tab);
    let text = drawn(&mut view, now, (80, 24));
    assert_says(&text, &["high   decoy   10.77.0.9 irc", "to decoys 42"]);
    key(&mut view, KeyCode::Enter);
    let text = drawn(&mut view, now, (100, 40));
    assert_says(
        &text,
        &[
            "decoy: it did not pass, and the gate answered in its destination's place",
            "decoy       spoke irc for 3.25 s, the client closed it; 61 bytes of the client, 240 of the decoy",
            "was said    C: NICK zombie",
            "            S: :relay.example.net 001 zombie :\\x1b[2J",
            "transcript  /var/lib/portcullis/evidence/3-1_10.77.0.9_irc.decoy.txt",
        ],
    );
}

#[test]
fn a_gate_that_has_seen_nothing_says_so() {
    let mut status = status();
    for port in ["lan", "uplink"] {
        for field in ["rx", "forwarded", "tx", "rx_bytes", "forwarded_bytes"] {
            status["ports"][port][field] = 0.into();
        }
        status["ports"][port]["dropped"] = json!({});
    }
    let mut view = View::new(false);
    let now = Instant::now();
    view.see(picture(now, &status, &json!({ "incidents": [] })));
    let text = drawn(&mut view, now, (80, 24));
    assert_says(
        &text,
        &[
            "none since the gate started",
            "stopped        nothing",
            "lan enp1s0              -",
        ],
    );
    let small = drawn(&mut view, now, (39, 9));
    assert_says(&small, &["39x9"]);
    for size in [(40, 12), (41, 13), (1, 1), (300, 12), (40, 100)] {
        drawn(&mut view, now, size);
    }
}

#[test]
fn of_many_rules_those_around_the_chosen_one_are_shown_and_the_choice_stays_with_its_line() {
    let mut many = status();
    for n in 0..3_000 {
        let mut rule = many["rules"]["irc"].clone();
        rule["packets"] = n.into();
        many["rules"][format!("rule-{n:04}")] = rule;
    }
    let (mut view, now) = seen(&many, &incidents());
    drawn(&mut view, now, (80, 24));
    key(&mut view, KeyCode::PageDown);
    key(&mut view, KeyCode::End);
    let text = drawn(&mut view, now, (80, 24));
    assert_says(&text, &["> rule-2999", "-3005 of 3005"]);
    typing(&mut view, "k/rule-100");
    let text = drawn(&mut view, now, (80, 24));
    assert_says(
        &text,
        &[
            "1-10 of 10 with \"rule-100\"",
            "filter: rule-100",
            "no incident has this",
        ],
    );
    key(&mut view, KeyCode::Enter);
    key(&mut view, KeyCode::Esc);
    assert_eq!(view.filter, "");
    // By rate, rule-0007 comes first, and the choice goes along.
    many["rules"]["rule-0007"]["packets"] = 9_000.into();
    view.see(picture(now + Duration::from_secs(1), &many, &incidents()));
    typing(&mut view, "/0007");
    key(&mut view, KeyCode::Enter);
    assert_says(
        &drawn(&mut view, now, (80, 24)),
        &["> rule-0007    drop      8993"],
    );
    key(&mut view, KeyCode::Esc);
    typing(&mut view, "s");
    key(&mut view, KeyCode::Home);
    assert_says(
        &drawn(&mut view, now, (80, 24)),
        &["Rules by rate", "> rule-0007"],
    );
    key(&mut view, KeyCode::Down);
    let chosen = view.shown_rules()[1].0.to_owned();
    many["rules"][chosen.as_str()]["packets"] = 8_000_000.into();
    view.see(picture(now + Duration::from_secs(2), &many, &incidents()));
    assert_eq!(
        (view.rules.at, view.shown_rules()[0].0),
        (0, chosen.as_str())
    );
}

#[test]
fn enter_on_an_incident_shows_all_of_it_and_e_asks_about_its_packet() {
    let (mut view, now) = seen(&status(), &incidents());
    key(&mut view, KeyCode::Tab);
    key(&mut view, KeyCode::Enter);
    let text = drawn(&mut view, now, (80, 24));
    assert_says(
        &text,
        &[
            "10.77.0.9, called desk-9 (says dhcp)",
            "drop: it did not pass",
            "tftp        file = payload.bin",
            "evidence    /var/lib/portcullis/evidence/1-tftp.pcapng",
            "run: portcullis sets add",
            "from        10.77.0.9:40000",
        ],
    );
    key(&mut view, KeyCode::Char('e'));
    let text = drawn(&mut view, now, (80, 24));
    assert_says(
        &text,
        &[
            "> dst",
            "93.184.216.34:69",
            "src         10.77.0.9:40000",
            "udp",
            "app         tftp",
            "besides     src_mac 02:00:00:00:00:09",
        ],
    );
    let (number, asked) = ask(&mut view);
    assert_eq!(
        (asked.direction.as_str(), asked.proto.as_str()),
        ("out", "udp")
    );
    assert_says(&drawn(&mut view, now, (80, 24)), &["asking ..."]);
    view.hear(
        number,
        Ok(
            json!({ "error": "a port is missing", "field": "src", "help": "write 10.77.0.9:40000" }),
        ),
    );
    assert_says(
        &drawn(&mut view, now, (80, 24)),
        &["> src", "! src: a port is missing; write"],
    );
    let (number, _) = ask(&mut view);
    view.hear(number, Ok(json!({
        "verdict": "drop", "reason": "rule", "rule": "tftp", "alert": "high", "marks": [], "why": "the first rule that matches is `tftp` (built in): direction out, proto udp, dport 69",
        "origin": "built in", "in_shadow": [], "also": ["default-out"],
        "misses": [{ "rule": "irc", "origin": "built in", "marks": [], "fields": [{ "field": "dport", "wants": "6667", "has": "69" }] }],
    })));
    let text = drawn(&mut view, now, (80, 24));
    assert_says(
        &text,
        &[
            "DROP (rule) by rule tftp, alert high",
            "why: the first rule",
            "would have matched after it: default-out",
            "all but dport: wants 6667, has 69",
        ],
    );
    key(&mut view, KeyCode::Esc);
    typing(&mut view, "?");
    assert_says(&drawn(&mut view, now, (80, 24)), &["Help", "Ctrl-C"]);
    key(&mut view, KeyCode::Esc);
    typing(&mut view, "\t");
    key(&mut view, KeyCode::Tab);
    key(&mut view, KeyCode::Enter);
    assert_says(
        &drawn(&mut view, now, (80, 24)),
        &["comes from  built in", "bytes       400"],
    );
    assert_eq!(key(&mut view, KeyCode::Char('q')), Act::Nothing);
    assert!(matches!(view.over, Over::Nothing));
    assert_eq!(key(&mut view, KeyCode::Esc), Act::Leave);
}

#[test]
fn what_is_asked_about_besides_the_fields_is_shown_and_goes_with_the_first_edit() {
    let mut line = incident("3", "ping", "low", "10.77.0.9");
    for (field, value) in [("icmp_type", 129), ("icmp_code", 0)] {
        line[field] = value.into();
    }
    line["proto"] = "ICMP".into();
    line["vlan"] = json!([4_000]);
    let (mut view, now) = seen(&status(), &json!({ "incidents": [line] }));
    key(&mut view, KeyCode::Tab);
    key(&mut view, KeyCode::Char('e'));
    let all = "besides     icmp_type 129, icmp_code 0, vlan 4000, src_mac";
    assert_says(
        &drawn(&mut view, now, (80, 24)),
        &[all, "02:00:00:00:00:09"],
    );
    // Nothing of it is cut where there is less room, and the answer comes first there.
    let all = ["icmp_type 129,", "4000,", "02:00:00:00:00:09"];
    let text = drawn(&mut view, now, (40, 12));
    assert_says(&text, &["Enter asks"]);
    assert_says(&text, &all);
    let (number, asked) = ask(&mut view);
    assert_eq!((asked.icmp_type, asked.vlan), (Some(129), Some(4_000)));
    let said = json!({ "verdict": "drop", "rule": "ping", "why": "it matches" });
    view.hear(number, Ok(said));
    let text = drawn(&mut view, now, (40, 12));
    assert_says(&text, &["DROP by rule ping", "why: it matches"]);
    key(&mut view, KeyCode::PageDown);
    assert_says(&drawn(&mut view, now, (40, 12)), &all);
    key(&mut view, KeyCode::Backspace);
    let text = drawn(&mut view, now, (80, 24));
    assert!(!text.contains("besides"), "{text}");
    let (_, asked) = ask(&mut view);
    assert_eq!((asked.icmp_type, asked.vlan), (None, None));
}

#[test]
fn a_late_answer_is_not_taken_for_that_to_a_newer_question() {
    let (mut view, now) = seen(&status(), &incidents());
    let said = |rule: &str| Ok(json!({ "verdict": "drop", "rule": rule, "why": "it matches" }));
    typing(&mut view, "e");
    let (first, _) = ask(&mut view);
    let (second, _) = ask(&mut view);
    view.hear(first, said("the-first"));
    assert_says(&drawn(&mut view, now, (80, 24)), &["asking ..."]);
    view.hear(second, said("the-second"));
    view.hear(first, said("the-first"));
    assert_says(&drawn(&mut view, now, (80, 24)), &["by rule the-second"]);
    // Nor in a form that was opened since, before or after it asks.
    let (third, _) = ask(&mut view);
    key(&mut view, KeyCode::Esc);
    typing(&mut view, "e");
    view.hear(third, said("the-third"));
    assert_says(&drawn(&mut view, now, (80, 24)), &["Enter asks the gate"]);
    ask(&mut view);
    view.hear(third, said("the-third"));
    assert_says(&drawn(&mut view, now, (80, 24)), &["asking ..."]);
}

#[test]
fn a_gate_that_is_gone_leaves_its_last_picture_marked_as_old_until_it_is_back() {
    let (mut view, now) = seen(&status(), &incidents());
    view.see(Err(
        "no gate is running behind /run/portcullis/control.sock".to_owned(),
    ));
    let text = drawn(&mut view, now + Duration::from_secs(75), (80, 24));
    assert_says(
        &text,
        &[
            "NO ANSWER",
            "! OLD PICTURE: there has been no answer for 1 min 15 s",
            "no gate is running",
            "(OLD)",
            "tftp",
        ],
    );
    let mut again = status();
    again["pid"] = 8.into();
    view.see(picture(now + Duration::from_secs(90), &again, &incidents()));
    let text = drawn(&mut view, now, (80, 24));
    assert!(!text.contains("OLD"), "{text}");
    assert_says(&text, &["healthy", "lan enp1s0              -"]);
    assert!(picture(now, &json!({}), &incidents()).is_err());
    assert!(picture(now, &status(), &json!({ "error": "unknown variant" })).is_err());
}
