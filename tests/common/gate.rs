//! The real binary, running in the gate namespace.

use super::{Lab, SOON, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

pub const BINARY: &str = env!("CARGO_BIN_EXE_portcullis");

/// What a program that ended has said.
#[derive(Debug)]
pub struct Output {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A gate that runs; killed when it is dropped.
pub struct Gate<'lab> {
    lab: &'lab Lab,
    child: Child,
    pub socket: PathBuf,
    log: PathBuf,
}

/// The config of most tests, in one string; `bridge` are lines of that section, `more` further sections.
pub fn config(lab: &Lab, bridge: &str, more: &str) -> String {
    let dir = lab.dir().display();
    // One small worker: several gates run at once on few cores.
    let metrics = if more.contains("[metrics]") {
        ""
    } else {
        "[metrics]\nlisten = \"off\"\n"
    };
    let idle = if bridge.contains("idle") {
        ""
    } else {
        "idle = \"adaptive\"\n"
    };
    // Many of these share few cores, and a worker may be kept off its own for longer than on a box of its own.
    let watchdog = if bridge.contains("watchdog") {
        ""
    } else {
        "watchdog = \"20s\"\n"
    };
    format!(
        "[bridge]\nlan = \"gl0\"\nuplink = \"gu0\"\nhuge_pages = false\n{idle}{watchdog}{bridge}\n\n\
         [lan]\nprefixes = [\"10.77.0.0/24\", \"fd77::/64\"]\n\n\
         [sets]\nmail_servers = [\"10.77.0.25\"]\n\n{metrics}\n\
         [alerts]\nfile = \"{dir}/alerts.jsonl\"\n\n[control]\nsocket = \"{dir}/control.sock\"\nstate = \"{dir}/state\"\n\n{more}\n"
    )
}

/// Writes a config to a file of the lab.
pub fn write_config(lab: &Lab, name: &str, text: &str) -> PathBuf {
    let path = lab.dir().join(name);
    std::fs::write(&path, text).expect("a config file");
    path
}

/// Runs a command of the binary in the gate namespace to its end.
pub fn portcullis(lab: &Lab, arguments: &[&str]) -> Output {
    finish(lab.command("gate", BINARY).args(arguments))
}

/// Runs `run -c` to its end: for starts that must fail. One that does not end is killed and fails the test.
pub fn refused(lab: &Lab, config: &Path) -> Output {
    let config = config.to_str().expect("a path in UTF-8");
    let mut command = lab.command("gate", "timeout");
    finish(command.args(["-s", "KILL", "20", BINARY, "run", "-c", config]))
}

fn finish(command: &mut std::process::Command) -> Output {
    let out = command.output().expect("the binary starts");
    Output {
        code: out.status.code(),
        stdout: String::from_utf8_lossy(&out.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&out.stderr).into_owned(),
    }
}

impl Output {
    /// One line on standard error, exit status 2, and the line holds all of `words`.
    pub fn assert_one_line(&self, words: &[&str]) {
        assert_eq!(self.code, Some(2), "{self:?}");
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{}", self.stderr);
        assert!(self.stderr.starts_with("portcullis: "), "{}", self.stderr);
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no `{word}` in: {}",
                self.stderr
            );
        }
    }
}

impl<'lab> Gate<'lab> {
    /// The baseline policy, adaptive, one worker for each queue pair.
    pub fn start(lab: &'lab Lab) -> Gate<'lab> {
        Gate::with(lab, &config(lab, "", ""))
    }

    /// Starts with this config and waits until it says that it is ready.
    pub fn with(lab: &'lab Lab, config: &str) -> Gate<'lab> {
        let mut gate = Gate::spawn(lab, config);
        gate.wait_ready();
        gate
    }

    /// Starts, and does not wait.
    pub fn spawn(lab: &'lab Lab, config: &str) -> Gate<'lab> {
        Gate::spawn_by(lab, config, &["env"])
    }

    /// The same, started by a command that becomes what it is given to start.
    pub fn spawn_by(lab: &'lab Lab, config: &str, starter: &[&str]) -> Gate<'lab> {
        let mut command = lab.command("gate", starter[0]);
        command.args(&starter[1..]);
        Gate::spawn_with(lab, config, command)
    }

    /// The same, started by a service manager, with what it keeps.
    pub fn spawn_under(lab: &'lab Lab, config: &str, manager: &rig::Manager) -> Gate<'lab> {
        Gate::spawn_under_with(lab, config, manager, &[])
    }

    /// The same with more of an environment, or another.
    pub fn spawn_under_with(
        lab: &'lab Lab,
        config: &str,
        manager: &rig::Manager,
        environment: &[(&str, &str)],
    ) -> Gate<'lab> {
        let mut command = lab.command("gate", rig::Manager::STARTER[0]);
        command.args(&rig::Manager::STARTER[1..]);
        manager.give(&mut command).expect("what is kept");
        command.envs(environment.iter().copied());
        Gate::spawn_with(lab, config, command)
    }

    fn spawn_with(lab: &'lab Lab, config: &str, mut starter: std::process::Command) -> Gate<'lab> {
        let path = write_config(lab, "portcullis.toml", config);
        let log = lab.dir().join("gate.log");
        let file = std::fs::File::create(&log).expect("a log file");
        let child = starter
            .args([BINARY, "run", "-c"])
            .arg(path)
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the binary starts");
        Gate {
            lab,
            child,
            socket: lab.dir().join("control.sock"),
            log,
        }
    }

    pub fn wait_ready(&mut self) {
        until("portcullis: ready", SOON * 3, || {
            let log = self.log();
            let ended = self.child.try_wait().expect("wait");
            assert!(ended.is_none(), "the gate ended ({ended:?}): {log}");
            // The line is written in pieces: it is there when its end is.
            let mut lines = log.split_inclusive('\n');
            lines
                .any(|line| line.starts_with("portcullis: ready") && line.ends_with('\n'))
                .then_some(())
        });
    }

    /// What it has written to standard error.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("a process to signal");
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        until("the end of the gate", SOON, || {
            self.child.try_wait().expect("wait")
        })
    }

    /// Signals it and waits for its end.
    pub fn end(mut self, signal: Signal) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }

    /// `portcullis status --json`.
    pub fn status(&self) -> Value {
        let socket = self.socket.to_str().expect("a path in UTF-8");
        let out = portcullis(self.lab, &["status", "--socket", socket, "--json"]);
        assert_eq!(out.code, Some(0), "{out:?}\n{}", self.log());
        serde_json::from_str(&out.stdout).expect("JSON from status")
    }

    /// Law 2 at a quiet moment, and that the ports received `rx` frames (LAN, uplink). The status it held in.
    pub fn assert_accounts(&self, rx: [u64; 2]) -> Value {
        let mut last = Value::Null;
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            let status = self.status();
            let received = ["lan", "uplink"].map(|port| number(&status["ports"][port]["rx"]));
            if balances(&status) && received == rx {
                return status;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "sent {rx:?}, received {received:?}: {status:#}"
            );
            // Not before it stands still.
            if last == status["ports"] {
                std::thread::sleep(Duration::from_millis(50));
            }
            last = status["ports"].clone();
        }
    }

    /// Law 2 at a quiet moment.
    pub fn assert_balanced(&self) -> Value {
        until("balanced counters", Duration::from_secs(5), || {
            let status = self.status();
            if !balances(&status) {
                eprintln!("not yet balanced: {}", status["ports"]);
            }
            balances(&status).then_some(status)
        })
    }

    /// Every frame that the XDP program of a port has seen (`ethtool -S`) was received, dropped by the kernel, which
    /// counts it, or found nobody: for labs whose hosts speak by themselves. In driver mode, from the first attach on.
    pub fn assert_nothing_lost(&self) -> Value {
        until("every frame accounted for", Duration::from_secs(5), || {
            let seen = [("lan", "gl0"), ("uplink", "gu0")].map(|(name, port)| {
                let text = self.lab.must("gate", "ethtool", &format!("-S {port}"));
                let counts = text.lines().filter(|line| line.contains("_xdp_packets:"));
                let seen: u64 = counts
                    .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
                    .sum();
                (name, seen)
            });
            let status = self.assert_balanced();
            let all = seen.iter().all(|(name, seen)| {
                let port = &status["ports"][*name];
                number(&port["rx"])
                    + number(&port["gate_no_socket"])
                    + number(&port["gate_stale"])
                    + kernel_drops(&status, name)
                    == *seen
            });
            all.then_some(status)
        })
    }

    /// The lines of the alert file, once there are `count` of them.
    pub fn alerts(&self, count: usize) -> Vec<Value> {
        let file = self.lab.dir().join("alerts.jsonl");
        let read = || -> Vec<Value> {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            text.split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .map(|line| serde_json::from_str(line).expect("JSON in the alert file"))
                .collect()
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        loop {
            let lines = read();
            if lines.len() >= count {
                return lines;
            }
            assert!(
                std::time::Instant::now() < deadline,
                "{count} alerts were expected: {lines:#?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let socket = self.socket.to_string_lossy().into_owned();
            let status = portcullis(self.lab, &["status", "--socket", &socket, "--json"]);
            eprintln!("the gate said:\n{}{}", self.log(), status.stdout);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The first line and the body of a page that the gate serves at 127.0.0.1:9155.
pub fn get(lab: &Lab, path: &str) -> (String, String) {
    let answer = lab.within("gate", || {
        let mut stream = TcpStream::connect("127.0.0.1:9155").expect("the metrics port");
        stream.set_read_timeout(Some(SOON)).expect("a timeout");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
        )
        .expect("sent");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .expect("an answer in UTF-8");
        answer
    });
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let first = head.lines().next().expect("a status line");
    (first.to_string(), body.to_string())
}

/// A counter.
pub fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

/// Frames that the kernel dropped for want of memory or of room in the receive ring.
pub fn kernel_drops(status: &Value, port: &str) -> u64 {
    let kernel = &status["ports"][port]["kernel"];
    number(&kernel["rx_dropped"]) + number(&kernel["rx_ring_full"])
}

/// The counter of a drop reason; 0 where it is left out.
pub fn dropped(status: &Value, port: &str, reason: &str) -> u64 {
    status["ports"][port]["dropped"][reason]
        .as_u64()
        .unwrap_or(0)
}

/// Law 2, by our own arithmetic; and the gate says the same.
pub fn balances(status: &Value) -> bool {
    ["lan", "uplink"].iter().all(|name| {
        let port = &status["ports"][*name];
        let of = |key: &str| number(&port[key]);
        let dropped: u64 = port["dropped"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(_, n)| number(n))
            .sum();
        of("rx") == of("forwarded") + dropped + of("rejected") + of("to_host_stack")
            && of("forwarded") == of("tx") + of("tx_failed")
    }) && status["balanced"] == true
}
