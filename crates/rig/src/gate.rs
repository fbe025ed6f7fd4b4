//! What stands between `gl0` and `gu0`.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::process::{must, must_regardless, run_regardless, tail};
use crate::{Daemon, Error, Manager, Namespace, Result, Rig, Status, poll_until, spawn};

/// How long a gate may take until it forwards: as a restart may meet EBUSY for some tens of milliseconds.
const READY: Duration = Duration::from_secs(10);

/// What to put between the two ports.
#[derive(Clone, Debug)]
pub enum GateKind {
    /// The product: `bin run -c FILE`, FILE holding `config`.
    Portcullis {
        /// The `portcullis` binary.
        bin: PathBuf,
        /// Its configuration, TOML.
        config: String,
    },
    /// A Linux bridge: the control that shows what happens where nothing filters, and what benches compare with.
    Bridge {
        /// A ruleset for nft(8), loaded before the bridge forwards.
        nftables: Option<String>,
    },
}

impl GateKind {
    /// The product with `bin` and the configuration that [`GateKind::config`] writes for `rig`.
    pub fn portcullis(bin: &Path, rig: &Rig) -> GateKind {
        GateKind::Portcullis {
            bin: bin.to_owned(),
            config: GateKind::config(rig, ""),
        }
    }

    /// The baseline policy on the rig's two ports: one mail server, alerts and control socket in the rig's directory,
    /// metrics on the gate's loopback. `more` is appended: rules, tests, further tables.
    pub fn config(rig: &Rig, more: &str) -> String {
        let dir = rig.dir().display();
        format!(
            r#"[bridge]
lan    = "gl0"
uplink = "gu0"
idle   = "adaptive"
cores  = [0]

[lan]
prefixes = ["10.77.0.0/24", "fd77::/64"]

[sets]
mail_servers = ["10.77.0.25"]

[metrics]
listen = "{metrics}"

[alerts]
file = "{dir}/alerts.jsonl"

[control]
socket = "{dir}/control.sock"
state  = "{dir}/state"

{more}"#,
            metrics = Gate::METRICS,
        )
    }
}

/// A running gate. Dropping it ends it and gives the interfaces back.
#[derive(Debug)]
pub struct Gate<'rig> {
    rig: &'rig Rig,
    running: Running,
    /// From the start of the gate until it said that it forwards.
    pub ready_after: Duration,
}

#[derive(Debug)]
enum Running {
    Portcullis {
        daemon: Option<Daemon>,
        bin: PathBuf,
        config: PathBuf,
        manager: Option<Manager>,
    },
    Bridge {
        filtered: bool,
    },
}

impl<'rig> Gate<'rig> {
    /// Where the gate serves its metrics, inside the gate namespace.
    pub const METRICS: &'static str = "127.0.0.1:9155";

    /// Starts `kind` and waits until it forwards.
    pub fn start(rig: &'rig Rig, kind: GateKind) -> Result<Gate<'rig>> {
        Gate::start_by(rig, kind, None)
    }

    /// The same under a service manager that keeps descriptors, where it is the product.
    pub fn managed(rig: &'rig Rig, kind: GateKind) -> Result<Gate<'rig>> {
        let manager = Manager::start(rig.dir())?;
        Gate::start_by(rig, kind, Some(manager))
    }

    fn start_by(rig: &'rig Rig, kind: GateKind, manager: Option<Manager>) -> Result<Gate<'rig>> {
        let start = Instant::now();
        let running = match kind {
            GateKind::Bridge { nftables } => bridge(rig, nftables.as_deref())?,
            GateKind::Portcullis { bin, config } => portcullis(rig, bin, &config, manager)?,
        };
        let mut gate = Gate {
            rig,
            running,
            ready_after: Duration::ZERO,
        };
        gate.await_ready()?;
        gate.ready_after = start.elapsed();
        Ok(gate)
    }

    fn await_ready(&mut self) -> Result<()> {
        let Running::Portcullis {
            daemon: Some(daemon),
            ..
        } = &mut self.running
        else {
            return Ok(());
        };
        poll_until("`portcullis: ready`", READY, || {
            let ready = daemon
                .log()
                .lines()
                .any(|line| line.starts_with("portcullis: ready"));
            if !ready {
                daemon.check()?;
            }
            Ok(ready.then_some(()))
        })
    }

    /// Where it runs.
    pub fn namespace(&self) -> &Namespace {
        &self.rig.gate
    }

    /// The gate's alert file.
    pub fn alert_file(&self) -> PathBuf {
        self.rig.dir().join("alerts.jsonl")
    }

    /// What the gate has written to stdout and stderr; nothing for a bridge.
    pub fn log(&self) -> String {
        match &self.running {
            Running::Portcullis {
                daemon: Some(daemon),
                ..
            } => daemon.log(),
            _ => String::new(),
        }
    }

    /// The process of the gate, for drills that signal it; none for a bridge.
    pub fn daemon(&mut self) -> Option<&mut Daemon> {
        match &mut self.running {
            Running::Portcullis { daemon, .. } => daemon.as_mut(),
            Running::Bridge { .. } => None,
        }
    }

    /// The gate's counters as they are now; [`Error::Answer`] for a bridge, which has none.
    pub fn status(&self) -> Result<Status> {
        Status::parse(&self.status_text()?)
    }

    /// All that `portcullis status --json` says; [`Error::Answer`] for a bridge.
    pub fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&self.status_text()?).map_err(|e| Error::Answer {
            what: "the status of the gate".into(),
            said: e.to_string(),
        })
    }

    fn status_text(&self) -> Result<String> {
        let Running::Portcullis { bin, .. } = &self.running else {
            return Err(Error::Answer {
                what: "status".into(),
                said: "a bridge has none".into(),
            });
        };
        let socket = self.rig.dir().join("control.sock");
        let mut command = self.rig.gate.command(bin);
        must(
            command.args(["status", "--json", "--socket"]).arg(socket),
            "",
        )
    }

    /// The gate's counters once both ports balance, or as they are when they still do not after `limit`.
    ///
    /// The law of accounting is about quiet moments; a frame that is being forwarded is received and not yet sent.
    pub fn settled_status(&self, limit: Duration) -> Result<Status> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.status()?;
            if status.holds() || Instant::now() >= deadline {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The text of the metrics page, read over HTTP.
    pub fn metrics(&self) -> Result<String> {
        let url = format!("http://{}/metrics", Gate::METRICS);
        must(
            self.rig
                .gate
                .command("curl")
                .args(["-sS", "--fail", "--max-time", "3", &url]),
            "",
        )
    }

    /// Starts a gate that has died again, with the config that it had, and waits until it forwards.
    pub fn restart(&mut self) -> Result<()> {
        let Running::Portcullis {
            daemon,
            bin,
            config,
            manager,
        } = &mut self.running
        else {
            return Ok(());
        };
        // The dead one first: it is reaped, and what it wrote is not what the next one waits for. One that was asked to end may have something to do still.
        if let Some(mut dead) = daemon.take() {
            dead.ended(READY)?;
        }
        *daemon = Some(daemon_of(self.rig, bin, config, manager.as_ref())?);
        self.await_ready()
    }

    /// Ends the gate and gives the interfaces back; an error where it does not end by SIGTERM within five seconds.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        match &mut self.running {
            Running::Bridge { filtered } => {
                if std::mem::take(filtered) {
                    must_regardless(self.rig.gate.command("nft").args(["flush", "ruleset"]))?;
                }
                must_regardless(self.rig.gate.command("ip").args(["link", "del", "br0"])).map(drop)
            }
            Running::Portcullis {
                daemon,
                bin,
                config,
                manager,
            } => {
                let Some(daemon) = daemon.take() else {
                    return Ok(());
                };
                let limit = Duration::from_secs(5);
                let clean = daemon.stop(limit);
                if let Some(manager) = manager {
                    manager.release();
                }
                let mut command = self.rig.gate.command(&*bin);
                let detached = run_regardless(command.arg("detach").arg("-c").arg(config), limit)?;
                if !clean? {
                    return Err(Error::Timeout {
                        what: "the gate to end by SIGTERM".into(),
                        limit,
                    });
                }
                if !detached.success() {
                    let said = tail(&detached.stderr, 3);
                    return Err(Error::Answer {
                        what: "`portcullis detach`".into(),
                        said,
                    });
                }
                Ok(())
            }
        }
    }
}

impl Drop for Gate<'_> {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

fn bridge(rig: &Rig, nftables: Option<&str>) -> Result<Running> {
    rig.gate.ip(
        "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0
link set gl0 master br0
link set gu0 master br0
",
    )?;
    // Between the making of the bridge and its first frame: hooks of the bridge family that were set before the
    // first bridge of the namespace see nothing (Linux 6.18).
    if let Some(rules) = nftables {
        must(rig.gate.command("nft").args(["-f", "-"]), rules)?;
    }
    rig.gate.ip("link set br0 up\n")?;
    Ok(Running::Bridge {
        filtered: nftables.is_some(),
    })
}

fn portcullis(rig: &Rig, bin: PathBuf, config: &str, manager: Option<Manager>) -> Result<Running> {
    let file = rig.dir().join("portcullis.toml");
    std::fs::write(&file, config).map_err(Error::io(format!("writing {}", file.display())))?;
    let daemon = daemon_of(rig, &bin, &file, manager.as_ref())?;
    Ok(Running::Portcullis {
        daemon: Some(daemon),
        bin,
        config: file,
        manager,
    })
}

/// Starts the product.
fn daemon_of(rig: &Rig, bin: &Path, config: &Path, manager: Option<&Manager>) -> Result<Daemon> {
    let mut command = match manager {
        None => rig.gate.command(bin),
        Some(manager) => {
            let mut command = rig.gate.command(Manager::STARTER[0]);
            command.args(&Manager::STARTER[1..]).arg(bin);
            manager.give(&mut command)?;
            command
        }
    };
    let log = rig.dir().join("portcullis.log");
    spawn("portcullis", command.arg("run").arg("-c").arg(config), &log)
}
