//! journald: the real one in a mount namespace of its own, which needs root; and a socket that reads its protocol.

use super::daemon::{Daemon, installed};
use super::*;
use serde_json::Value;
use std::os::unix::net::UnixDatagram;
use std::process::Command;

/// journald for a journal namespace, with /run to itself.
fn journald(dir: &Path) -> Option<Daemon> {
    installed("/lib/systemd/systemd-journald", "journald")?;
    let script = "
        mount -t tmpfs none /run
        mkdir -p /run/systemd/journal.gate /run/systemd/journald@gate.conf.d /run/log/journal
        printf '[Journal]\\nStorage=volatile\\n' > /run/systemd/journald@gate.conf.d/test.conf
        exec /lib/systemd/systemd-journald gate";
    let mut command = Command::new("unshare");
    command.args(["-m", "--propagation", "private", "sh", "-ec", script]);
    Some(Daemon::start(&mut command, &dir.join("said")))
}

fn entries(run: &str) -> Vec<Value> {
    let output = Command::new("journalctl")
        .args([
            "-o",
            "json",
            "--file",
            &format!("{run}/log/journal/*/*.journal"),
        ])
        .arg("SYSLOG_IDENTIFIER=portcullis")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn journald_has_each_line_as_an_entry_with_its_fields() {
    let root = rig::root_or_say("journald_has_each_line_as_an_entry_with_its_fields");
    let dir = tempfile::tempdir().unwrap();
    let Some(mut daemon) = root.then(|| journald(dir.path())).flatten() else {
        return;
    };
    let run = format!("/proc/{}/root/run", daemon.pid());
    let socket = format!("{run}/systemd/journal.gate/socket");
    on_one_thread(async {
        let (sinks, delivery) = start(
            dir.path(),
            &format!("[[sink]]\nkind = \"journald\"\nsocket = \"{socket}\"\n"),
        );
        Lines::new().send(&sinks, 1..=300);
        sent(&sinks, "journald", 300).await;
        let all = until("every entry", || {
            Some(entries(&run)).filter(|all| all.len() >= 300)
        })
        .await;
        let hosts: Vec<_> = all.iter().map(|e| e["PORTCULLIS_HOST"].clone()).collect();
        assert_eq!(hosts, numbered(1..=300));
        let first = &all[0];
        assert_eq!(first["PRIORITY"], "2");
        assert_eq!(first["PORTCULLIS_RULE"], "tftp");
        let message = "tftp (high): blocked UDP 10.77.0.1:40000 -> 93.184.216.34:69, 1 packet";
        assert_eq!(first["MESSAGE"], message);
        let eve: Value = serde_json::from_str(first["PORTCULLIS_EVE"].as_str().unwrap()).unwrap();
        assert_eq!(eve["alert"]["signature"], "tftp");
        assert!(delivery.finish(LIMIT).await.is_empty());
    });
    daemon.end();
}

#[test]
fn a_journald_that_is_slow_or_started_anew_gets_every_line_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("socket");
    on_one_thread(async {
        let config = format!(
            "[[sink]]\nkind = \"journald\"\nsocket = \"{}\"\n",
            path.display()
        );
        let (sinks, delivery) = start(dir.path(), &config);
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let read = |socket: &UnixDatagram| {
            let mut buffer = [0; 65_536];
            let n = socket.recv(&mut buffer).ok()?;
            let entry = std::str::from_utf8(&buffer[..n]).unwrap();
            let field = |line: &str| {
                let (name, value) = line.split_once('=')?;
                (name == "PORTCULLIS_HOST").then(|| value.to_owned())
            };
            entry.lines().find_map(field)
        };
        let mut lines = Lines::new();
        // More than the socket holds (net.unix.max_dgram_qlen), and nobody reads.
        lines.send(&sinks, 1..=800);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(status(&sinks, "journald").waiting > 0);
        let mut got = Vec::new();
        while got.len() < 800 {
            got.push(until("an entry", || read(&socket)).await);
        }
        drop(socket);
        std::fs::remove_file(&path).unwrap();
        lines.send(&sinks, 801..=802);
        until("a failed attempt", || {
            (status(&sinks, "journald").errors > 0).then_some(())
        })
        .await;
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        while got.len() < 802 {
            got.push(until("an entry", || read(&socket)).await);
        }
        assert_eq!(got, numbered(1..=802));
        assert!(delivery.finish(LIMIT).await.is_empty());
    });
}
