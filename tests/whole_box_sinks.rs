//! From a real client's attempt, through the gate, to Alertmanager.
//!
//! As root, and with Debian's prometheus-alertmanager; else the test says that it was not run.

use rig::{
    Attempt, Gate, GateKind, Rig, poll_until, read_alerts, root_or_say, run, run_all, spawn,
};
use serde_json::Value;
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");
const ALERTMANAGER: &str = "/usr/bin/prometheus-alertmanager";

/// One sink that is there, and one that is not.
const SINKS: &str = r#"
[[sink]]
kind = "alertmanager"
url  = "http://127.0.0.1:9093"

[[sink]]
kind      = "syslog"
name      = "dead"
address   = "127.0.0.1:6514"
transport = "tcp"
queue     = 3
"#;

fn text(rig: &Rig, program: &str, args: &[&str]) -> String {
    let mut command = rig.gate.command(program);
    run(command.args(args), "", LIMIT).unwrap().stdout
}

#[test]
fn a_tftp_attempt_is_an_alert_in_alertmanager_though_another_sink_is_dead() {
    if !root_or_say("a_tftp_attempt_is_an_alert_in_alertmanager_though_another_sink_is_dead") {
        return;
    }
    if !Path::new(ALERTMANAGER).exists() {
        eprintln!("not run: {ALERTMANAGER} is not installed; `deploy/setup.sh test` installs it");
        return;
    }
    let rig = Rig::new().unwrap();
    let dir = rig.dir();
    let config = dir.join("alertmanager.yml");
    let nobody = "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n";
    std::fs::write(&config, nobody).unwrap();
    let mut command = rig.gate.command(ALERTMANAGER);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", dir.join("data").display()))
        .args([
            "--web.listen-address=127.0.0.1:9093",
            "--cluster.listen-address=",
        ]);
    let _alertmanager = spawn("alertmanager", &mut command, &dir.join("alertmanager.log")).unwrap();

    let kind = GateKind::Portcullis {
        bin: PORTCULLIS.into(),
        config: GateKind::config(&rig, SINKS),
    };
    let gate = Gate::start(&rig, kind).unwrap();
    let blocked = Attempt::blocked_by_baseline();
    for got in run_all(&rig, &blocked, Duration::from_secs(3)).unwrap() {
        assert!(!got.through, "{}", got.said);
    }
    let url = "http://127.0.0.1:9093/api/v2/alerts";
    let alert = poll_until("the alert", LIMIT, || {
        let said = text(&rig, "curl", &["-s", "--max-time", "3", url]);
        let all: Vec<Value> = serde_json::from_str(&said).unwrap_or_default();
        let tftp = |alert: &Value| alert["labels"]["alertname"] == "tftp";
        Ok(all.into_iter().find(tftp))
    })
    .unwrap();
    assert_eq!(alert["labels"]["host"], "10.77.0.9");
    assert_eq!(alert["annotations"]["action"], "blocked");
    assert_eq!(alert["status"]["state"], "active");

    let socket = dir.join("control.sock");
    let socket = socket.to_str().unwrap();
    let status = poll_until("every line in the file", LIMIT, || {
        let said = text(&rig, PORTCULLIS, &["status", "--json", "--socket", socket]);
        let status: Value = serde_json::from_str(&said).unwrap();
        let done = status["sinks"]["file"]["sent"] == status["alerts"]
            && status["sinks"]["alertmanager"]["sent"] == status["alerts"];
        Ok(done.then_some(status))
    })
    .unwrap();
    let lines = status["alerts"].as_u64().unwrap();
    assert!(lines > 3);
    assert_eq!(read_alerts(&gate.alert_file()).unwrap().len() as u64, lines);
    let dead = &status["sinks"]["dead"];
    assert_eq!(dead["state"], "failing");
    assert_eq!((&dead["sent"], &dead["waiting"]), (&0.into(), &3.into()));
    assert_eq!(dead["lost"], lines - 3);
    let human = text(&rig, PORTCULLIS, &["status", "--socket", socket]);
    assert!(human.contains("Connection refused"), "{human}");
    let metrics = gate.metrics().unwrap();
    for line in [
        format!("portcullis_sink_lines_total{{sink=\"alertmanager\"}} {lines}"),
        format!("portcullis_sink_lost_total{{sink=\"dead\"}} {}", lines - 3),
        "portcullis_sink_queue{sink=\"dead\"} 3".to_owned(),
        "portcullis_alerts_lost_total 0".to_owned(),
    ] {
        assert!(metrics.contains(&line), "no {line} in\n{metrics}");
    }
    assert!(gate.settled_status(Duration::from_secs(3)).unwrap().holds());
    // In five seconds, whatever a sink has not taken.
    gate.stop().unwrap();
}
