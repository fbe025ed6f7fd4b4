//! The real Alertmanager, asked by its API.

use super::daemon::{Daemon, free_port, installed};
use super::*;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

fn alertmanager(dir: &Path, port: u16) -> Option<Daemon> {
    let path = installed("/usr/bin/prometheus-alertmanager", "alertmanager")?;
    let config = dir.join("alertmanager.yml");
    let text = "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n";
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(path);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", dir.join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        // Else it would look for peers.
        .arg("--cluster.listen-address=");
    Some(Daemon::start(&mut command, &dir.join("said")))
}

/// The alerts that fire, as Alertmanager tells them.
fn alerts(port: u16) -> Option<Vec<Value>> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(LIMIT)).ok()?;
    // HTTP/1.0: the body ends with the connection.
    let ask = "GET /api/v2/alerts?active=true HTTP/1.0\r\nHost: localhost\r\n\r\n";
    stream.write_all(ask.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    serde_json::from_str(text.split_once("\r\n\r\n")?.1).ok()
}

#[test]
fn alertmanager_has_an_alert_for_each_incident_and_gets_those_of_the_time_it_was_away() {
    let dir = tempfile::tempdir().unwrap();
    let port = free_port(false);
    on_one_thread(async {
        let mut lines = Lines::new();
        let config =
            format!("[[sink]]\nkind = \"alertmanager\"\nurl = \"http://127.0.0.1:{port}\"\n");
        let (sinks, delivery) = start(dir.path(), &config);
        // Nobody is there yet.
        lines.send(&sinks, 9..=10);
        until("a failed attempt", || {
            (status(&sinks, "alertmanager").errors > 0).then_some(())
        })
        .await;
        assert_eq!(status(&sinks, "alertmanager").state, "failing");
        let Some(mut daemon) = alertmanager(dir.path(), port) else {
            return;
        };
        sent(&sinks, "alertmanager", 2).await;
        let all = until("two alerts", || alerts(port).filter(|all| all.len() == 2)).await;
        let alert = all
            .iter()
            .find(|alert| alert["labels"]["host"] == "10.77.0.9")
            .unwrap();
        let labels = serde_json::json!({
            "alertname": "tftp", "severity": "high", "host": "10.77.0.9", "direction": "out",
        });
        assert_eq!(alert["labels"], labels);
        assert_eq!(alert["startsAt"], "2026-01-01T00:00:00.000Z");
        let summary = "tftp (high): blocked UDP 10.77.0.9:40000 -> 93.184.216.34:69, 1 packet";
        assert_eq!(alert["annotations"]["summary"], summary);
        assert_eq!(alert["annotations"]["mac"], "02:00:00:00:00:09");
        assert_eq!(status(&sinks, "alertmanager").state, "ok");
        daemon.end();
        assert!(delivery.finish(LIMIT).await.is_empty());
    });
}
