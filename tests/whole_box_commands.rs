//! What the administrator does while the gate runs, between real clients and real servers.
//!
//! As root; else each test says that it was not run.

use rig::{Attempt, Gate, GateKind, Output, Rig, Server, Servers, poll_until, root_or_say, run};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");
const LIMIT: Duration = Duration::from_secs(20);
const BLOCKED: Duration = Duration::from_secs(3);

fn gate<'rig>(rig: &'rig Rig, more: &str) -> Gate<'rig> {
    let kind = GateKind::Portcullis {
        bin: PORTCULLIS.into(),
        config: GateKind::config(rig, more),
    };
    Gate::start(rig, kind).unwrap()
}

/// A command line in a shell beside the gate that finds the program as an administrator's does.
fn shell(rig: &Rig, line: &str) -> Output {
    let bin = Path::new(PORTCULLIS).parent().unwrap();
    let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
    let mut command = rig.gate.command("env");
    command.arg(format!("PATH={path}")).args(["sh", "-c", line]);
    run(&mut command, "", LIMIT).unwrap()
}

/// A command of ours, to the gate of the rig; it must be done.
fn ours(rig: &Rig, line: &str) -> String {
    let socket = rig.dir().join("control.sock");
    let out = shell(
        rig,
        &format!("portcullis {line} --socket {}", socket.display()),
    );
    assert!(out.success(), "{line}: {out:?}");
    out.stdout
}

fn lines(gate: &Gate<'_>) -> Vec<Value> {
    let text = std::fs::read_to_string(gate.alert_file()).unwrap_or_default();
    let whole = text
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    whole
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn the_hint_of_a_mail_alert_is_a_command_that_lets_the_host_through_at_once_and_after_a_restart() {
    if !root_or_say(
        "the_hint_of_a_mail_alert_is_a_command_that_lets_the_host_through_at_once_and_after_a_restart",
    ) {
        return;
    }
    let rig = Rig::new().unwrap();
    let _servers = Servers::start(&rig, &Server::ALL).unwrap();
    let running = gate(&rig, "");
    let mut attempts = Attempt::blocked_by_baseline().into_iter();
    let mail = attempts.find(|attempt| attempt.name == "SMTP, any host");
    let mail = mail.unwrap();
    let through = |limit| mail.run(&rig, limit).unwrap().through;
    assert!(!through(BLOCKED));
    let hint = poll_until("a hint", LIMIT, || {
        let hint = |line: &Value| Some(line["alert"]["hint"].as_str()?.to_owned());
        Ok(lines(&running).iter().find_map(hint))
    });
    let hint = hint.unwrap();
    let (_, command) = hint.split_once("run: ").unwrap();
    assert!(
        command.starts_with("portcullis sets add mail_servers 10.77.0.9"),
        "{hint}"
    );
    let out = shell(&rig, command);
    assert!(out.success(), "{out:?}");
    for words in ["added 10.77.0.9", "(smtp)", "generation 2", "sets.json"] {
        assert!(out.stdout.contains(words), "{}", out.stdout);
    }
    assert!(through(LIMIT), "at once");
    let again = shell(&rig, command);
    assert!(
        again.success() && again.stdout.contains("already there"),
        "{again:?}"
    );
    running.stop().unwrap();

    let running = gate(&rig, "");
    assert!(through(LIMIT), "after a restart");
    let list = ours(&rig, "sets list");
    assert!(
        list.contains("from the config: 1\n    10.77.0.25\n"),
        "{list}"
    );
    assert!(
        list.contains("added by command: 1\n    10.77.0.9\n"),
        "{list}"
    );
    ours(&rig, "sets remove mail_servers 10.77.0.9");
    assert!(!through(BLOCKED), "removed");
    running.stop().unwrap();
}

#[test]
fn what_cannot_be_done_to_a_set_is_refused_in_one_line_and_damage_of_the_file_is_told() {
    if !root_or_say(
        "what_cannot_be_done_to_a_set_is_refused_in_one_line_and_damage_of_the_file_is_told",
    ) {
        return;
    }
    let rig = Rig::new().unwrap();
    let state = rig.dir().join("state");
    std::fs::create_dir(&state).unwrap();
    std::fs::write(state.join("sets.json"), "{ torn").unwrap();
    let test = "[[test]]\npacket = { proto = \"tcp\", src = \"10.77.0.9:4000\", dst = \"93.184.216.34:25\" }\n\
        expect = { rule = \"smtp\" }\n";
    let running = gate(&rig, test);
    let log = running.log();
    assert!(log.contains("warning") && log.contains("damaged"), "{log}");
    let socket = rig.dir().join("control.sock");
    for (line, words) in [
        ("remove mail_servers 10.77.0.25", "comes from the config"),
        ("remove mail_servers 10.77.0.99", "is not in the set"),
        ("add mail_server 10.77.0.26", "did you mean `mail_servers`?"),
        ("add mail_servers 10.77.0.9", "test 1 fails"),
        ("add mail_servers 10.77.0.900", "10.77.0.900"),
        ("add lan 10.78.0.0/24", "prefixes of [lan]"),
    ] {
        let out = shell(
            &rig,
            &format!("portcullis sets {line} --socket {}", socket.display()),
        );
        assert!(
            !out.success() && out.stderr.contains(words),
            "{line}: {out:?}"
        );
    }
    assert!(!state.join("sets.json.damaged").exists());
    ours(&rig, "sets add @mail_servers 10.77.0.26 10.77.0.32/28");
    let torn = std::fs::read_to_string(state.join("sets.json.damaged")).unwrap();
    assert_eq!(torn, "{ torn", "what was not taken is not lost");
    let list: Value = serde_json::from_str(&ours(&rig, "sets list --json")).unwrap();
    let set = &list["sets"]["mail_servers"];
    assert_eq!(set["stated"], serde_json::json!(["10.77.0.25"]));
    assert_eq!(
        set["added"],
        serde_json::json!(["10.77.0.26", "10.77.0.32/28"])
    );
    running.stop().unwrap();
}

#[test]
fn a_host_is_called_in_its_alerts_what_it_said_to_dhcp() {
    if !root_or_say("a_host_is_called_in_its_alerts_what_it_said_to_dhcp") {
        return;
    }
    let rig = Rig::new().unwrap();
    let running = gate(&rig, "");
    // A discover, three times; nobody answers.
    let mut client = rig.lan.command("udhcpc");
    client.args([
        "-i",
        "lan0",
        "-f",
        "-n",
        "-q",
        "-t",
        "2",
        "-T",
        "1",
        "-s",
        "/bin/true",
    ]);
    let asked = run(client.args(["-x", "hostname:desk-9"]), "", LIMIT).unwrap();
    assert!(!asked.success(), "{asked:?}");
    let mut attempts = Attempt::blocked_by_baseline().into_iter();
    let tftp = attempts.find(|attempt| attempt.name == "TFTP get").unwrap();
    let _servers = Servers::start(&rig, &Server::ALL).unwrap();
    assert!(!tftp.run(&rig, BLOCKED).unwrap().through);
    let line = poll_until("an alert", LIMIT, || {
        let tftp = |line: &Value| line["alert"]["signature"] == "tftp";
        Ok(lines(&running).into_iter().find(tftp))
    });
    let line = line.unwrap();
    assert_eq!(line["alert"]["host_name"], "desk-9", "{line}");
    assert_eq!(line["alert"]["host_name_from"], "dhcp");
    let file = running.alert_file();
    let show = format!("portcullis alerts --host desk-9 --file {}", file.display());
    let table = shell(&rig, &show).stdout;
    assert!(table.contains("desk-9 (10.77.0.9)"), "{table}");
    running.stop().unwrap();
}
