//! The lab itself, in the mode that needs nothing but this machine's own release: from building images to shutting down.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Building two images and fetching a kernel, where none are kept.
const BUILD: Duration = Duration::from_secs(300);

/// A boot, all attempts twice, and a load.
const DEMO: Duration = Duration::from_secs(270);

/// Three machines at a time are enough for two cores.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Where images are kept, so that they are built once a tree: as `make vm` keeps them.
fn cache() -> PathBuf {
    // The program lies in target/debug.
    let target = Path::new(env!("CARGO_BIN_EXE_vm-lab")).ancestors().nth(2);
    target.expect("a target folder").join("vm")
}

fn lab(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vm-lab"))
        .args(arguments)
        .arg("--cache")
        .arg(cache())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("vm-lab starts")
}

/// Its end, in time; where it does not come, it is asked to take everything down.
fn ended(lab: Child, limit: Duration) -> Output {
    let id = Pid::from_raw(lab.id().cast_signed());
    let (tell, told) = std::sync::mpsc::channel();
    let watch = std::thread::spawn(move || {
        let late = told.recv_timeout(limit).is_err();
        if late {
            let _ = kill(id, Signal::SIGTERM);
        }
        late
    });
    let output = lab.wait_with_output().expect("its output");
    let _ = tell.send(());
    let late = watch.join().expect("the watch");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!late, "not done in {limit:?}: {said}");
    output
}

/// Whether machines can be made here; else says why not. What `deploy/setup.sh vm` installs has to be there.
fn can(what: &str) -> bool {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT RUN, needs root: {what} (`make test` asks sudo)");
        return false;
    }
    if !Path::new("/dev/net/tun").exists() {
        eprintln!("NOT RUN, there is no /dev/net/tun: {what}");
        return false;
    }
    true
}

/// Images and kernels are there before a machine's own time runs.
fn build_images() {
    let built = ended(lab(&["images"]), BUILD);
    assert!(
        built.status.success(),
        "{}",
        String::from_utf8_lossy(&built.stderr)
    );
}

/// The package of the gate as the other tests have it, built for debugging.
fn package(dir: &Path) -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args([
            "build",
            "--quiet",
            "--locked",
            "--offline",
            "--package",
            "portcullis",
            "--bin",
            "portcullis",
        ])
        .status()
        .expect("cargo starts");
    assert!(built.success(), "the gate does not build");
    let binary = Path::new(env!("CARGO_BIN_EXE_vm-lab")).with_file_name("portcullis");
    manual::package(&binary, dir, "0.1.0-1").expect("a package")
}

fn namespaces_of(id: u32) -> Vec<String> {
    let names = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names
        .filter(|name| name.starts_with(&format!("pc{id}-")))
        .collect()
}

/// Processes that serve a lab whose directory is `dir`.
fn processes_with(dir: &str) -> usize {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let lines = all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .filter(|line| String::from_utf8_lossy(line).contains(dir))
        .count()
}

#[test]
fn a_gate_installed_from_its_package_on_a_machine_of_its_own_does_what_the_demo_says() {
    let name = "a_gate_installed_from_its_package_on_a_machine_of_its_own_does_what_the_demo_says";
    if !can(name) {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    build_images();
    let dir = tempfile::tempdir().expect("a folder");
    let deb = package(dir.path());
    let demo = || {
        let run = lab(&[
            "demo",
            "--json",
            "--rate=200",
            "--duration=2s",
            "--steps=1",
            "--deb",
            &deb.to_string_lossy(),
        ]);
        let id = run.id();
        (id, ended(run, DEMO))
    };
    let (mut id, mut output) = demo();
    if output.status.code() == Some(2) {
        // A machine that does not boot says nothing of the gate, and on a busy machine an emulator may not get its memory: once more.
        eprintln!("{}", String::from_utf8_lossy(&output.stderr));
        (id, output) = demo();
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    assert!(output.status.success(), "{report:#}\n{said}");
    let run = &report["runs"][0];
    assert_eq!(run["gate"]["mode"], serde_json::json!(["copy", "copy"]));
    assert_eq!(
        run["gate"]["queues"],
        serde_json::json!([2, 2]),
        "several queues"
    );
    let attempts = run["demo"]["attempts"].as_array().expect("attempts");
    assert!(
        attempts.len() > 15 && attempts.iter().all(|attempt| attempt["ok"] == true),
        "{said}"
    );
    let load = &run["loads"][0];
    assert_eq!(
        (&load["lost"], &load["outcome"]["heard"]["leaked"]),
        (&Value::from(0), &Value::from(0))
    );
    assert!(
        load["outcome"]["sent"]["forbidden"].as_u64() > Some(0),
        "{load}"
    );
    assert_eq!(namespaces_of(id), [""; 0]);
}

#[test]
fn a_lab_that_is_interrupted_while_it_boots_leaves_nothing_behind() {
    let name = "a_lab_that_is_interrupted_while_it_boots_leaves_nothing_behind";
    if !can(name) {
        return;
    }
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    build_images();
    let dir = tempfile::tempdir().expect("a folder");
    let deb = package(dir.path());
    let temporary = dir.path().join("t");
    std::fs::create_dir(&temporary).expect("a folder");
    let run = Command::new(env!("CARGO_BIN_EXE_vm-lab"))
        .args(["links", "--accel=tcg", "--cache"])
        .arg(cache())
        .arg("--deb")
        .arg(&deb)
        .env("TMPDIR", &temporary)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("vm-lab starts");
    let id = run.id();
    let here = temporary.to_string_lossy().into_owned();
    let deadline = Instant::now() + Duration::from_secs(60);
    // The third machine was started last.
    while processes_with(&format!("{here}/")) < 3 {
        assert!(Instant::now() < deadline, "no machines");
        std::thread::sleep(Duration::from_millis(50));
    }
    kill(Pid::from_raw(id.cast_signed()), Signal::SIGINT).expect("a signal");
    let output = ended(run, Duration::from_secs(60));
    assert_eq!(
        output.status.code(),
        Some(130),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(namespaces_of(id), [""; 0]);
    assert_eq!(processes_with(&format!("{here}/")), 0);
    let left = std::fs::read_dir(&temporary).expect("a folder").count();
    assert_eq!(left, 0, "files of the lab");
}
