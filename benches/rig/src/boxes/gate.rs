//! Portcullis itself as a box: its release binary.

use super::{Flows, Middle};
use crate::netns::Lab;
use crate::{Failure, pause, rules};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(3);

/// A running gate; dropped, it is stopped and its folder removed.
pub struct Gate {
    binary: PathBuf,
    child: Child,
    dir: PathBuf,
    worker: i32,
}

impl Gate {
    /// Starts the gate in the middle of the lab, its one worker spinning on `core`, and waits until it says that it is ready. Without
    /// `alert` the baseline's rule for TFTP drops and tells nobody.
    pub fn start(
        lab: &Lab,
        binary: &Path,
        core: usize,
        thousand: bool,
        alert: bool,
    ) -> Result<Gate, Failure> {
        let dir = std::env::temp_dir().join(&lab.mid);
        std::fs::create_dir_all(&dir)?;
        let shown = dir.display();
        let severity = if alert { "high" } else { "none" };
        let rules = if thousand {
            rules::config()
        } else {
            String::new()
        };
        let config = format!(
            "[bridge]\nlan = \"{}\"\nuplink = \"{}\"\ncores = [{core}]\nidle = \"spin\"\nbpffs = \"{shown}/bpf\"\n\n\
             [control]\nsocket = \"{shown}/control.sock\"\n\n\
             [alerts]\nfile = \"{shown}/alerts.jsonl\"\n\n\
             [metrics]\nlisten = \"off\"\n\n\
             [lan]\nprefixes = [\"10.77.0.0/24\"]\n\n\
             [sets]\nmail_servers = [\"10.77.0.25\"]\n\n\
             # What was never opened is no connection.\n\
             [flows]\nadopt = \"off\"\n\
             {rules}\n\
             [[rule]]\nname = \"tftp\"\nalert = \"{severity}\"\n",
            lab.lan_port, lab.uplink_port
        );
        std::fs::write(dir.join("portcullis.toml"), config)?;
        let child = Command::new("nsenter")
            .arg(format!("--net=/run/netns/{}", lab.mid))
            .arg(binary)
            .args(["run", "-c"])
            .arg(dir.join("portcullis.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join("log"))?)
            .spawn()?;
        let mut gate = Gate {
            binary: binary.to_path_buf(),
            child,
            dir,
            worker: 0,
        };
        let started = Instant::now();
        while !gate.log().contains("portcullis: ready") {
            if gate.child.try_wait()?.is_some() || started.elapsed() > START {
                return Err(format!("the gate did not start: {}", gate.log().trim()).into());
            }
            pause(Duration::from_millis(20))?;
        }
        gate.worker = super::thread_of(gate.child.id(), "worker-")?;
        Ok(gate)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.join("log")).unwrap_or_default()
    }

    /// What `portcullis status --json` says.
    fn status(&self) -> Result<Value, Failure> {
        let done = Command::new(&self.binary)
            .args(["status", "--json", "--socket"])
            .arg(self.dir.join("control.sock"))
            .stdin(Stdio::null())
            .output()?;
        if !done.status.success() {
            return Err(format!(
                "portcullis status: {}",
                String::from_utf8_lossy(&done.stderr).trim()
            )
            .into());
        }
        Ok(serde_json::from_slice(&done.stdout)?)
    }
}

impl Middle for Gate {
    fn threads(&self) -> Vec<i32> {
        vec![self.worker]
    }

    /// Frames that its worker has received on the LAN port.
    fn received(&mut self) -> Result<u64, Failure> {
        number(&self.status()?, "/ports/lan/rx")
    }

    fn flows(&self) -> Result<Option<Flows>, Failure> {
        let status = self.status()?;
        Ok(Some(Flows {
            live: number(&status, "/flows/live")?,
            opened: Some(number(&status, "/flows/opened")?),
        }))
    }

    /// Refuses a gate that cannot say what became of each frame.
    fn finish(&mut self) -> Result<(), Failure> {
        let mut status = Value::Null;
        for _ in 0..20 {
            status = self.status()?;
            if status["balanced"] == true {
                return Ok(());
            }
            pause(Duration::from_millis(50))?;
        }
        Err(format!("the gate's counters do not balance: {}", status["ports"]).into())
    }
}

fn number(status: &Value, at: &str) -> Result<u64, Failure> {
    let found = status.pointer(at).and_then(Value::as_u64);
    found.ok_or_else(|| format!("status has no {at}").into())
}

impl Drop for Gate {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id() as i32);
        let _ = kill(pid, Signal::SIGTERM);
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) {
            if asked.elapsed() > STOP {
                let _ = self.child.kill();
                let _ = self.child.wait();
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        // With the file system go the pins, and with them the programs.
        let _ = nix::mount::umount2(&self.dir.join("bpf"), nix::mount::MntFlags::MNT_DETACH);
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}
