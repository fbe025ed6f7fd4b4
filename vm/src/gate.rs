//! The gate on its machine: installed, configured and run as docs/operations.md has it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rig::demo::{Asked, Metrics};
use rig::{Client, Error, Output, Result, Site, Status, addr, mailbox};
use serde::Serialize;
use serde_json::Value;

use crate::archive::write;
use crate::guest::{Guest, SETUP, shell};
use crate::lab::{Lab, METRICS, PACKAGE, SERVERS};

/// The gate's NICs, as udev names them by their slots.
pub const PORTS: [&str; 2] = ["enp1s0", "enp2s0"];

/// How long the service may take until it answers.
const READY: Duration = Duration::from_secs(60);

/// The word that readers of the metrics send; nobody but this machine reaches them.
const TOKEN: &str = "vm-lab-reads-metrics";

/// How the gate was found to run.
#[derive(Clone, Debug, Serialize)]
pub struct Running {
    /// Of both ports: `copy`, `zero-copy`.
    pub mode: [String; 2],
    /// Queues with a socket.
    pub queues: [u64; 2],
    /// The driver of each, by ethtool(8).
    pub driver: [String; 2],
    /// From `systemctl enable` and `start` until it answered, seconds.
    pub ready_after_s: f32,
}

/// The config file, with `more` behind it. An emulated processor may stand still for longer than the watchdog allows by default, and what comes meanwhile is
/// dropped.
pub fn config(lab: &Lab, more: &str) -> String {
    let [lan, uplink] = PORTS;
    let prefixes = addr::LAN.map(|prefix| format!("\"{prefix}\"")).join(", ");
    let (mail, mode) = (addr::MAIL, lab.mode.bridge_mode());
    format!(
        r#"[bridge]
lan        = "{lan}"
uplink     = "{uplink}"
mode       = "{mode}"
on_failure = "closed"
idle       = "adaptive"
watchdog   = "5s"
frames     = 8192

[lan]
prefixes = [{prefixes}]

[sets]
mail_servers = ["{mail}"]

[alerts]
file = "/var/log/portcullis/alerts.jsonl"

[metrics]
listen     = "10.0.2.15:{METRICS}"
token_file = "page.token"
{more}"#
    )
}

/// Installs the package, configures it, looks at it with its own commands, and starts the service.
///
/// # Errors
/// What dpkg, the gate or systemd says; that the gate does not run in the mode that it was asked for.
pub fn install(lab: &Lab) -> Result<Running> {
    let gate = &lab.gate;
    gate.must(&format!("DEBIAN_FRONTEND=noninteractive dpkg -i {PACKAGE}"))?;
    gate.put("/etc/portcullis/portcullis.toml", &config(lab, ""))?;
    gate.put("/etc/portcullis/page.token", TOKEN)?;
    gate.must(
        "chgrp portcullis /etc/portcullis/page.token && chmod 640 /etc/portcullis/page.token",
    )?;
    gate.must("portcullis check")?;
    let since = Instant::now();
    // What does not start is told by ready(), with what it said.
    gate.must("systemctl enable --quiet portcullis && systemctl start --no-block portcullis")?;
    ready(gate)?;
    let ready_after_s = since.elapsed().as_secs_f32();
    let status = status(gate)?;
    let port = |at: usize| &status["ports"][["lan", "uplink"][at]];
    let driver = |at: usize| -> Result<String> {
        let said = gate.must(&format!("ethtool -i {}", PORTS[at]))?;
        let line = said.lines().find_map(|line| line.strip_prefix("driver: "));
        Ok(line.unwrap_or_default().to_owned())
    };
    let running = Running {
        mode: [0, 1].map(|at| port(at)["mode"].as_str().unwrap_or_default().to_owned()),
        queues: [0, 1].map(|at| port(at)["queues"].as_u64().unwrap_or_default()),
        driver: [driver(0)?, driver(1)?],
        ready_after_s,
    };
    let wanted = lab.mode.bridge_mode();
    match running.mode.iter().all(|mode| mode == wanted) {
        true => Ok(running),
        false => Err(Error::Answer {
            what: format!("the gate was to run in {wanted} mode"),
            said: format!("{:?}", running.mode),
        }),
    }
}

/// What a person would look at first, where something is wrong: on stderr.
pub fn tell(gate: &Guest) {
    let lines = [
        "journalctl -o cat --no-pager -u portcullis | tail -n 6",
        "dmesg | tail -n 12",
        "for port in enp1s0 enp2s0; do echo $port carrier $(cat /sys/class/net/$port/carrier); ethtool -S $port | grep -v ': 0$'; done",
        "grep enp /proc/interrupts",
        "portcullis status",
    ];
    for line in lines {
        let said = gate.shell(line, SETUP);
        let said = said.map_or_else(|e| e.to_string(), |output| output.stdout + &output.stderr);
        eprintln!("gate$ {line}\n{said}");
    }
}

/// Waits until the service answers.
///
/// # Errors
/// That it does not, with what it said last.
pub fn ready(gate: &Guest) -> Result<()> {
    let up = rig::poll_until("the gate", READY, || {
        let answer = gate.shell("portcullis status", SETUP)?;
        Ok(answer.success().then_some(()))
    });
    match up {
        Err(Error::Timeout { .. }) => Err(Error::Ended {
            name: "the service portcullis".to_owned(),
            said: gate.must("systemctl show -P ActiveState portcullis; journalctl -o cat --no-pager -u portcullis | tail -n 12")?,
        }),
        other => other,
    }
}

/// All that `portcullis status --json` says.
///
/// # Errors
/// That it says nothing, or no JSON.
pub fn status(gate: &Guest) -> Result<Value> {
    let text = gate.must("portcullis status --json")?;
    serde_json::from_str(&text).map_err(|e| Error::Answer {
        what: "the status of the gate".to_owned(),
        said: e.to_string(),
    })
}

impl Asked for Lab {
    fn status(&self) -> Result<Status> {
        Status::parse(&self.gate.must("portcullis status --json")?)
    }

    fn alerts(&self) -> Result<String> {
        self.gate
            .must("cat /var/log/portcullis/alerts.jsonl 2>/dev/null || true")
    }

    fn metrics(&self) -> Result<Metrics> {
        let url = format!("http://127.0.0.1:{METRICS}/metrics");
        let namespace = self.namespace.path();
        let command = format!(
            "nsenter --net={} curl -s -H 'Authorization: Bearer {TOKEN}' {url}",
            namespace.display()
        );
        let text = rig::must(
            self.namespace
                .command("curl")
                .args(["-sS", "--fail", "--max-time", "20", "-H"])
                .arg(format!("Authorization: Bearer {TOKEN}"))
                .arg(&url),
            "",
        )?;
        Ok(Metrics { url, command, text })
    }
}

/// Writes the token where Prometheus reads it.
///
/// # Errors
/// That the file cannot be written.
pub fn token(file: &Path) -> Result<()> {
    write(file, TOKEN)
}

/// A bridge in the gate's place, with nothing that filters.
pub struct Bridge<'a>(&'a Guest);

impl Bridge<'_> {
    /// Puts it there.
    ///
    /// # Errors
    /// What ip(8) says.
    pub fn make(gate: &Guest) -> Result<Bridge<'_>> {
        let ports: String = PORTS
            .map(|port| format!("ip link set {port} promisc on up master br0; "))
            .concat();
        gate.must(&format!(
            "set -e; ip link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0; {ports} ip link set br0 up"
        ))?;
        Ok(Bridge(gate))
    }

    /// Takes it away.
    ///
    /// # Errors
    /// What ip(8) says.
    pub fn remove(self) -> Result<()> {
        let ports: String = PORTS
            .map(|port| format!("ip link set {port} promisc off; "))
            .concat();
        self.0
            .must(&format!("set -e; ip link del br0; {ports}"))
            .map(drop)
    }
}

/// The two ends, for the clients of the demo.
pub struct Ends<'a>(pub &'a Lab);

impl Site for Ends<'_> {
    fn client(&self) -> Result<Client> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = PathBuf::from(format!("/tmp/{}{count}", Client::PREFIX));
        self.0.lan.must(&format!("mkdir {}", dir.display()))?;
        Ok(Client::elsewhere(dir))
    }

    fn servers(&self) -> PathBuf {
        PathBuf::from(SERVERS)
    }

    fn run(
        &self,
        argv: &[String],
        input: &str,
        limit: Duration,
        enough: &mut dyn FnMut() -> bool,
    ) -> Result<Output> {
        self.0.lan.run(argv, input, limit, enough)
    }

    fn read(&self, file: &Path) -> Option<Vec<u8>> {
        let line = format!("cat {}", file.display());
        let output = self
            .0
            .lan
            .run(&shell(&line), "", SETUP, &mut || false)
            .ok()?;
        output.success().then(|| output.stdout.into_bytes())
    }

    fn delivered(&self, word: &str) -> bool {
        // As a word: the number of one client begins that of another.
        let line = format!("grep -rqw -e {word} {}", mailbox(&self.servers()).display());
        self.0
            .uplink
            .shell(&line, SETUP)
            .is_ok_and(|output| output.success())
    }
}

/// curl(1) where Prometheus and the gate's metrics are reached.
pub fn curl(lab: &Lab, words: &[&str]) -> Command {
    let mut command = lab.namespace.command("curl");
    command
        .args(["-sS", "--fail", "--max-time", "10"])
        .args(words);
    command
}
