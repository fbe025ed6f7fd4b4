//! A network namespace that is there as long as its value.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Result;
use crate::process::{must, must_regardless};

/// Where iproute2 keeps the names of namespaces (ip-netns(8)).
const NAMES: &str = "/run/netns";

/// A named network namespace, removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes the namespace `name`, with `lo` up and duplicate address detection off.
    pub fn create(name: &str) -> Result<Namespace> {
        // The value comes first: an addition that is interrupted half way is taken back.
        let namespace = Namespace {
            name: name.to_owned(),
        };
        must(Command::new("ip").args(["netns", "add", name]), "")?;
        namespace.ip("link set lo up\n")?;
        namespace.set("ipv6/conf/all/accept_dad", "0")?;
        namespace.set("ipv6/conf/default/accept_dad", "0")?;
        Ok(namespace)
    }

    /// The name that iproute2 knows it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for it; `nsenter --net=PATH` enters it.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// A command that runs `program` inside, and is killed when the thread that spawns it ends.
    ///
    /// Not `ip netns exec`: that mounts a sysfs of its own, under which there is no bpffs.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "nsenter"]);
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs a batch of `ip` commands inside (ip(8), `-batch`).
    pub fn ip(&self, batch: &str) -> Result<()> {
        must(
            Command::new("ip").args(["-n", &self.name, "-batch", "-"]),
            batch,
        )
        .map(drop)
    }

    /// Writes `value` to `/proc/sys/net/KEY` of this namespace.
    pub fn set(&self, key: &str, value: &str) -> Result<()> {
        let script = format!("echo {value} > /proc/sys/net/{key}");
        must(self.command("sh").args(["-c", &script]), "").map(drop)
    }

    /// Turns off on `interface` whatever makes its frames differ from what a wire would carry.
    pub fn offloads_off(&self, interface: &str) -> Result<()> {
        let off = "tx off rx off tso off gso off gro off txvlan off rxvlan off";
        must(
            self.command("ethtool")
                .args(["-K", interface])
                .args(off.split(' ')),
            "",
        )
        .map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = must_regardless(Command::new("ip").args(["netns", "del", &self.name]));
    }
}

/// Removes namespaces named `pcPID…-…` whose maker no longer runs, with whatever still runs inside: what a rig
/// leaves that was ended by SIGKILL.
pub fn sweep() {
    let Ok(names) = std::fs::read_dir(NAMES) else {
        return;
    };
    for name in names
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
    {
        let Some(maker) = maker(&name) else { continue };
        if Path::new(&format!("/proc/{maker}")).exists() {
            continue;
        }
        let pids = must(Command::new("ip").args(["netns", "pids", &name]), "").unwrap_or_default();
        for pid in pids.lines().filter_map(|pid| pid.trim().parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = must(Command::new("ip").args(["netns", "del", &name]), "");
    }
}

/// The process id in the name of a rig's namespace.
fn maker(name: &str) -> Option<u32> {
    let (id, role) = name.strip_prefix("pc")?.split_once('-')?;
    let pid = id.split_once('n').map_or(id, |(pid, _)| pid);
    matches!(role, "lan" | "gate" | "uplink" | "lab").then(|| pid.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_that_a_rig_makes_are_swept() {
        assert_eq!(maker("pc417-lan"), Some(417));
        assert_eq!(maker("pc417n2-uplink"), Some(417));
        assert_eq!(maker("pc417-lab"), Some(417));
        for other in [
            "pc417",
            "pc-lan",
            "pcx-lan",
            "pc417-dmz",
            "podman-lan",
            "pc4.1-gate",
        ] {
            assert_eq!(maker(other), None, "{other}");
        }
    }
}
