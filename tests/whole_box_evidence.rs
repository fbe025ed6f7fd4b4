//! The frames behind an alert, as an analyser finds them.
//!
//! As root; else each test says that it was not run.

use rig::{
    Attempt, Gate, GateKind, Rig, Server, Servers, poll_until, read_alerts, root_or_say, run,
    run_all,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(20);
const PORTCULLIS: &str = env!("CARGO_BIN_EXE_portcullis");

fn gate<'r>(rig: &'r Rig, dir: &Path) -> Gate<'r> {
    let more = format!("\n[evidence]\ndir = \"{}\"\nframes = 50\n", dir.display());
    let config = GateKind::config(rig, &more);
    let bin = PORTCULLIS.into();
    Gate::start(rig, GateKind::Portcullis { bin, config }).unwrap()
}

/// The lines of the alert file, as they stand there.
fn lines(gate: &Gate<'_>) -> Vec<Value> {
    let text = std::fs::read_to_string(gate.alert_file()).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

/// What tshark prints of these fields of a capture, a line a frame.
fn tshark(rig: &Rig, path: &Path, fields: &[&str]) -> Vec<String> {
    let mut command = rig.gate.command("tshark");
    command.arg("-r").arg(path).args(["-T", "fields"]);
    for field in fields {
        command.args(["-e", field]);
    }
    let out = run(&mut command, "", LIMIT).unwrap();
    assert!(out.success(), "{}", out.stderr);
    out.stdout.lines().map(str::to_owned).collect()
}

fn attempts() -> Vec<Attempt> {
    Attempt::blocked_by_baseline()
        .into_iter()
        .filter(|attempt| ["TFTP get", "IRC"].contains(&attempt.name))
        .collect()
}

#[test]
fn an_alert_names_a_capture_that_holds_what_made_it() {
    if !root_or_say("an_alert_names_a_capture_that_holds_what_made_it") {
        return;
    }
    let rig = Rig::new().unwrap();
    let _servers = Servers::start(&rig, &Server::ALL).unwrap();
    let dir = rig.dir().join("evidence");
    let gate = gate(&rig, &dir);
    run_all(&rig, &attempts(), Duration::from_secs(3)).unwrap();
    let tftp = poll_until("the alert", LIMIT, || {
        let of_tftp = |line: &Value| line["alert"]["signature"] == "tftp";
        Ok(lines(&gate).into_iter().find(of_tftp))
    })
    .unwrap();
    let path = PathBuf::from(tftp["alert"]["evidence"].as_str().unwrap());
    let incident = tftp["alert"]["incident"].as_str().unwrap();
    assert!(path.starts_with(&dir));
    assert!(gate.settled_status(LIMIT).unwrap().holds());
    let metrics = gate.metrics().unwrap();
    gate.stop().unwrap();
    assert!(
        metrics.contains("portcullis_evidence_captures_total"),
        "{metrics}"
    );
    assert!(metrics.contains("portcullis_evidence_missed_frames_total 0"));

    let fields = ["ip.src", "udp.dstport", "tftp.source_file", "frame.comment"];
    let frames = tshark(&rig, &path, &fields);
    let request = frames.iter().find(|line| line.contains("\t69\t"));
    let request = request.unwrap_or_else(|| panic!("no request in {frames:#?}"));
    assert!(request.starts_with("10.77.0.9\t69\t"), "{request}");
    assert!(request.ends_with("dropped: rule"), "{request}");
    let about = run(rig.gate.command("capinfos").arg(&path), "", LIMIT).unwrap();
    let comment = format!("incident {incident}, rule tftp, host 10.77.0.9");
    assert!(about.stdout.contains(&comment), "{}", about.stdout);
    assert!(about.stdout.contains("gl0") && about.stdout.contains("gu0"));
}

#[test]
fn a_full_disk_ends_evidence_and_nothing_else() {
    if !root_or_say("a_full_disk_ends_evidence_and_nothing_else") {
        return;
    }
    let rig = Rig::new().unwrap();
    let _servers = Servers::start(&rig, &Server::ALL).unwrap();
    let dir = rig.dir().join("small");
    std::fs::create_dir(&dir).unwrap();
    // Of one page, which the first file takes.
    let (target, size) = (dir.to_str().unwrap().to_owned(), "size=4k");
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", size, "tmpfs", &target]);
    assert!(run(&mut mount, "", LIMIT).unwrap().success());
    struct Unmount(String);
    impl Drop for Unmount {
        fn drop(&mut self) {
            let mut umount = std::process::Command::new("umount");
            let _ = run(umount.arg("-l").arg(&self.0), "", LIMIT);
        }
    }
    let _unmount = Unmount(target);
    std::fs::write(dir.join("filler"), [0; 4096]).unwrap();
    let gate = gate(&rig, &dir);
    for got in run_all(&rig, &attempts(), Duration::from_secs(3)).unwrap() {
        assert!(!got.through, "{}", got.said);
    }
    for got in run_all(&rig, &Attempt::allowed_by_baseline(), LIMIT).unwrap() {
        assert!(got.through, "{}", got.said);
    }
    poll_until("the error", LIMIT, || {
        let metrics = gate.metrics()?;
        let errors = |line: &str| {
            let n = line.strip_prefix("portcullis_evidence_errors_total ")?;
            n.parse().ok().filter(|n: &u64| *n > 0)
        };
        Ok(metrics.lines().find_map(errors))
    })
    .unwrap();
    assert!(!read_alerts(&gate.alert_file()).unwrap().is_empty());
    assert!(gate.settled_status(LIMIT).unwrap().holds());
    gate.stop().unwrap();
}
