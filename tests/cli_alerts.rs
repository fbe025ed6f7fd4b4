//! `portcullis alerts`: the alert file read back.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

struct Box {
    dir: tempfile::TempDir,
}

/// A line as the gate writes it.
fn line(incident: u32, host: &str, rule: &str, packets: u32) -> String {
    let time = humantime::format_rfc3339_micros(std::time::SystemTime::now()).to_string();
    let time = time.replace('Z', "+0000");
    format!(
        "{{\"timestamp\":\"{time}\",\"event_type\":\"alert\",\"direction\":\"out\",\"src_ip\":\"{host}\",\"dest_ip\":\"93.184.216.34\",\"dest_port\":25,\"src_mac\":\"02:00:00:00:00:09\",\
         \"alert\":{{\"signature\":\"{rule}\",\"level\":\"high\",\"host\":\"{host}\",\"verdict\":\"drop\",\"incident\":\"{incident}\",\"packets\":{packets}}}}}\n"
    )
}

impl Box {
    fn new() -> Box {
        let dir = tempfile::tempdir().unwrap();
        let text = "[alerts]\nfile = \"alerts.jsonl\"\n[sets]\nbroken = 7\n";
        fs::write(dir.path().join("p.toml"), text).unwrap();
        Box { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
        command.arg("alerts").arg("-c").arg(self.path("p.toml"));
        command.args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> (String, String) {
        let Output {
            status,
            stdout,
            stderr,
        } = self.command(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (stdout, stderr) = (text(stdout), text(stderr));
        assert!(status.success(), "{stderr}");
        (stdout, stderr)
    }
}

#[test]
fn alerts_are_read_back_from_all_files_folded_and_selected() {
    let gate = Box::new();
    fs::write(gate.path("alerts.jsonl.1"), line(1, "10.77.0.9", "irc", 1)).unwrap();
    let text = [
        line(2, "10.77.0.10", "smtp", 2),
        "\u{1b}[2J not JSON\n".to_owned(),
        line(1, "10.77.0.9", "irc", 30),
    ];
    fs::write(gate.path("alerts.jsonl"), text.concat()).unwrap();
    let (out, notes) = gate.run(&[]);
    let rows: Vec<&str> = out.lines().collect();
    assert_eq!(rows.len(), 3, "{out}");
    assert!(rows[0].starts_with("time (UTC)"), "{out}");
    assert!(rows[1].contains("smtp") && rows[2].contains("irc") && rows[2].contains(" 30  "));
    assert_eq!(notes.lines().count(), 1, "{notes}");
    assert!(notes.contains("1 line is no alert"), "{notes}");
    assert_eq!(gate.run(&["--all"]).0.lines().count(), 4);
    assert_eq!(gate.run(&["--all", "--limit", "2"]).0.lines().count(), 3);
    assert_eq!(
        gate.run(&["--host", "10.77.0.10", "--since", "1h"])
            .0
            .lines()
            .count(),
        2
    );
    let (json, _) = gate.run(&["--rule", "irc", "--json"]);
    assert_eq!(json, text[2], "as it is in the file");
    let (none, notes) = gate.run(&["--rule", "tftp"]);
    assert!(
        none.is_empty() && notes.contains("no alert"),
        "{none}{notes}"
    );
}

#[test]
fn what_was_said_to_a_decoy_is_shown_where_that_is_wanted() {
    let gate = Box::new();
    let with = |packets, more: &str| {
        let line = line(1, "10.77.0.9", "irc", packets);
        line.replace(",\"alert\"", &format!(",\"decoy\":{{\"protocol\":\"irc\",\"seconds\":3.25,\"ended\":\"the client closed it\",\"client_bytes\":7,\"decoy_bytes\":9,\"conversations\":1{more}}},\"alert\""))
    };
    let lines = [
        with(3, ",\"transcript\":[\"C: NICK zombie\",\"S: \\u001b[2J\"]"),
        with(9, ""),
    ];
    fs::write(gate.path("alerts.jsonl"), lines.concat()).unwrap();
    let told =
        "decoy: spoke irc for 3.25 s, the client closed it; 7 bytes of the client, 9 of the decoy";
    let (short, _) = gate.run(&[]);
    assert!(short.contains(told) && !short.contains("NICK"), "{short}");
    let (long, _) = gate.run(&["--transcript"]);
    let said = format!("    {told}\n      C: NICK zombie\n      S: \\x1b[2J\n");
    assert!(
        long.ends_with(&said) && long.contains("       9  "),
        "{long}"
    );
    assert_eq!(long.lines().count(), 5);
    let (all, _) = gate.run(&["--transcript", "--all"]);
    assert_eq!(all.matches("NICK zombie").count(), 1);
    assert_eq!(all.matches(told).count(), 2);
    let both = gate.command(&["--transcript", "--json"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn a_file_that_is_not_there_or_not_named_is_told_with_what_to_do() {
    let gate = Box::new();
    let told = |words: &str| {
        let out = gate.command(&[]).output().unwrap();
        let text = String::from_utf8(out.stderr).unwrap();
        assert_eq!(
            (out.status.code(), text.lines().count()),
            (Some(2), 1),
            "{text}"
        );
        assert!(text.contains(words), "{text}");
    };
    told("--file FILE");
    fs::write(gate.path("p.toml"), "").unwrap();
    told("write [alerts] file");
    fs::remove_file(gate.path("p.toml")).unwrap();
    told("cannot read the config");
}

#[test]
fn following_goes_on_across_a_rotation_and_ends_cleanly_on_ctrl_c() {
    let gate = Box::new();
    let mut child = gate
        .command(&["--follow", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for round in 0..3 {
        let text = line(round, "10.77.0.9", "irc", round);
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(gate.path("alerts.jsonl"))
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), text.trim_end());
        let aside = format!("alerts.jsonl.{}", 3 - round);
        fs::rename(gate.path("alerts.jsonl"), gate.path(&aside)).unwrap();
    }
    kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let gate = Box::new();
    let text: String = (0..900).map(|n| line(n, "10.77.0.9", "irc", n)).collect();
    fs::write(gate.path("alerts.jsonl"), text).unwrap();
    let mut child = gate
        .command(&["--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
}
