//! Applications on ports that are not theirs: real clients, real servers, and clients that hide what they say.
//!
//! As root; else each test says that it was not run.

use rig::{Gate, GateKind, Rig, Server, Servers, addr, poll_until, root_or_say, run, spawn};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");
const ATFTPD: &str = "/usr/sbin/atftpd";

/// Speaks IRC to port 8080 in one of several ways; prints what the server says, and `closed` where nothing came.
const CLIENT: &str = r#"
import socket, sys, time
way, server = sys.argv[1], sys.argv[2]
words = b"NICK %s\r\nUSER bot 0 * :bot\r\n" % way.encode()
link = socket.create_connection((server, 8080), timeout=4)
link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
try:
    if way == "bytes":
        for at in range(len(words)):
            link.send(words[at:at + 1])
            time.sleep(0.01)
    elif way == "lines":
        link.send(b"\r\n\r\n\r\n")
        time.sleep(0.1)
        link.send(words.lower())
    elif way == "ping":
        link.send(b"PING x\r\n")
        time.sleep(0.2)
        link.send(words)
    else:
        link.send(words)
    print(link.recv(1000).decode(errors="replace"))
except OSError as error:
    print("closed", error)
"#;

fn says(rig: &Rig, way: &str) -> String {
    let mut command = rig.lan.command("python3");
    let out = run(command.args(["-c", CLIENT, way, addr::SERVER]), "", LIMIT);
    let out = out.unwrap();
    out.stdout + &out.stderr
}

/// A TFTP server on port 6969, with the file that the others serve.
fn tftp_server(rig: &Rig) -> rig::Daemon {
    let dir = rig.dir().join("odd");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(dir.join("tool.bin"), "a tool\n").unwrap();
    let mut command = rig.uplink.command(ATFTPD);
    command
        .args(["--daemon", "--no-fork", "--user", "root", "--group", "root"])
        .args(["--port", "6969", "--bind-address", addr::SERVER])
        .arg(&dir);
    spawn("atftpd", &mut command, &rig.dir().join("atftpd.log")).unwrap()
}

fn fetches(rig: &Rig) -> bool {
    let url = format!("tftp://{}:6969/tool.bin", addr::SERVER);
    let mut command = rig.lan.command("curl");
    let out = run(command.args(["-sS", "--max-time", "4", &url]), "", LIMIT);
    out.unwrap().stdout == "a tool\n"
}

fn alert(gate: &Gate<'_>, rule: &str) -> Value {
    poll_until("the alert", LIMIT, || {
        let text = std::fs::read_to_string(gate.alert_file()).unwrap_or_default();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        let of_rule = |line: &Value| line["alert"]["signature"] == rule;
        Ok(lines.into_iter().find(of_rule))
    })
    .unwrap()
}

const WAYS: [&str; 4] = ["plain", "bytes", "lines", "ping"];

#[test]
fn irc_and_tftp_on_other_ports_work_without_a_gate_and_not_through_one() {
    if !root_or_say("irc_and_tftp_on_other_ports_work_without_a_gate_and_not_through_one") {
        return;
    }
    assert!(
        Path::new(ATFTPD).exists(),
        "`deploy/setup.sh test` installs atftpd"
    );
    let rig = Rig::new().unwrap();
    let _servers = Servers::start(&rig, &[Server::Ngircd]).unwrap();
    let _tftp = tftp_server(&rig);
    let bridge = Gate::start(&rig, GateKind::Bridge { nftables: None }).unwrap();
    poll_until("the TFTP server", LIMIT, || Ok(fetches(&rig).then_some(()))).unwrap();
    for way in WAYS {
        let said = says(&rig, way);
        assert!(said.contains("irc.rig.test"), "{way}: {said}");
    }
    bridge.stop().unwrap();

    let gate = Gate::start(&rig, GateKind::portcullis(Path::new(PORTCULLIS), &rig)).unwrap();
    for way in WAYS {
        let said = says(&rig, way);
        assert!(!said.contains("001"), "{way} was let in: {said}");
    }
    assert!(!fetches(&rig));
    let irc = alert(&gate, "irc");
    assert_eq!(
        (&irc["app_proto"], &irc["irc"]["nick"]),
        (&"irc".into(), &"plain".into())
    );
    assert_eq!(irc["dest_port"], 8080);
    let tftp = alert(&gate, "tftp");
    assert_eq!(tftp["tftp"]["file"], "tool.bin");
    assert_eq!(tftp["tftp"]["operation"], "read");
    let status = gate.settled_status(LIMIT).unwrap();
    assert!(status.holds(), "{status:?}");
    assert!(status.packets("irc") >= 4 && status.packets("tftp") >= 1);
    gate.stop().unwrap();
}

#[test]
fn a_client_that_is_rejected_for_what_it_says_is_told_at_once() {
    if !root_or_say("a_client_that_is_rejected_for_what_it_says_is_told_at_once") {
        return;
    }
    let rig = Rig::new().unwrap();
    let _servers = Servers::start(&rig, &[Server::Ngircd]).unwrap();
    let rule = "\n[[rule]]\nname = \"irc\"\naction = \"reject\"\n";
    let config = GateKind::config(&rig, rule);
    let bin = PORTCULLIS.into();
    let gate = Gate::start(&rig, GateKind::Portcullis { bin, config }).unwrap();
    let said = says(&rig, "plain");
    assert!(said.contains("closed") && said.contains("reset"), "{said}");
    assert!(gate.settled_status(LIMIT).unwrap().holds());
    gate.stop().unwrap();
}
