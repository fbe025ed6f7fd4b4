//! Three network namespaces in a row, `lan - mid - uplink`, joined by veth pairs; the box stands in the middle.
//!
//! ```text
//!   lan                mid                          uplink
//!   [lan0] ────── [LAN port]  box  [uplink port] ────── [up0]
//!   generator                                             sink
//! ```

use crate::Failure;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};

/// The generator's end of the LAN cable.
pub const LAN_FAR: &str = "lan0";
/// The sink's end of the uplink cable.
pub const UPLINK_FAR: &str = "up0";

/// The namespaces; gone, with all that is in them, when this is dropped.
pub struct Lab {
    /// Name of the generator's namespace.
    pub lan: String,
    /// Name of the box's namespace.
    pub mid: String,
    /// Name of the sink's namespace.
    pub uplink: String,
    /// The box's interface to the LAN. Its name is in the name of its kernel thread, so it is unlike that of other rigs.
    pub lan_port: String,
    /// The box's interface to the uplink.
    pub uplink_port: String,
}

impl Lab {
    /// Lays the cables.
    pub fn up() -> Result<Lab, Failure> {
        let id = std::process::id();
        let short = id % 100_000;
        let lab = Lab {
            lan: format!("bench{id}-lan"),
            mid: format!("bench{id}-mid"),
            uplink: format!("bench{id}-uplink"),
            lan_port: format!("b{short}l"),
            uplink_port: format!("b{short}u"),
        };
        let Lab {
            lan,
            mid,
            uplink,
            lan_port,
            uplink_port,
        } = &lab;
        for ns in [lan, mid, uplink] {
            run(&format!("ip netns add {ns}"))?;
            // Else the stack's own neighbour discovery is among the counted frames.
            within(ns, || {
                let _ = std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
                let _ = std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
            })?;
        }
        let one = "numrxqueues 1 numtxqueues 1";
        run(&format!(
            "ip link add {LAN_FAR} {one} netns {lan} type veth peer name {lan_port} {one} netns {mid}"
        ))?;
        run(&format!(
            "ip link add {uplink_port} {one} netns {mid} type veth peer name {UPLINK_FAR} {one} netns {uplink}"
        ))?;
        for (ns, far) in [(lan, LAN_FAR), (uplink, UPLINK_FAR)] {
            run(&format!(
                "ip netns exec {ns} ethtool -K {far} tx off txvlan off"
            ))?;
            run(&format!("ip -n {ns} link set {far} up"))?;
        }
        for port in [lan_port, uplink_port] {
            run(&format!("ip -n {mid} link set {port} up promisc on"))?;
        }
        // Without a NAPI of its own a veth refuses frames redirected to it; GRO or an XDP program gives it one (veth_xdp_xmit).
        for port in [lan_port, uplink_port] {
            run(&format!("ip netns exec {mid} ethtool -K {port} gro on"))?;
        }
        Ok(lab)
    }

    /// The sink's NAPI, once it ran, stays with the core on which it ran: it is polled by a timer there, and no frame wakes it elsewhere
    /// (`napi_defer_hard_irqs` and `gro_flush_timeout`, docs.kernel.org/networking/napi.html). After 4,000 empty polls in a row it lets go,
    /// and also when an empty poll follows one that was just full.
    pub fn defer_sink(&self) -> Result<(), Failure> {
        const POLL_NANOSECONDS: u32 = 25_000;
        let class = format!("/sys/class/net/{UPLINK_FAR}");
        self.shell(&self.uplink, &format!("echo 4000 > {class}/napi_defer_hard_irqs && echo {POLL_NANOSECONDS} > {class}/gro_flush_timeout"))
    }

    /// Puts the receive work of the LAN port into a kernel thread on `core`; returns its process id.
    pub fn thread_lan_port(&self, core: usize) -> Result<i32, Failure> {
        self.shell(
            &self.mid,
            &format!("echo 1 > /sys/class/net/{}/threaded", self.lan_port),
        )?;
        let prefix = format!("napi/{}-", self.lan_port);
        for _ in 0..50 {
            for entry in std::fs::read_dir("/proc")?.flatten() {
                let comm = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
                if comm.starts_with(&prefix)
                    && let Ok(pid) = entry.file_name().to_string_lossy().parse()
                {
                    pin(pid, core)?;
                    return Ok(pid);
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        Err(format!("no kernel thread {prefix}* appeared").into())
    }

    /// Number of an interface in one of the namespaces.
    pub fn index(&self, ns: &str, interface: &str) -> Result<u32, Failure> {
        Ok(within(ns, || nix::net::if_::if_nametoindex(interface))??)
    }

    /// Frames that the LAN port's driver has received, for as long as the lab is there.
    pub fn received(&self) -> Result<Received, Failure> {
        let file = within(&self.mid, || File::open("/proc/thread-self/net/dev"))??;
        Ok(Received {
            file,
            prefix: format!("{}:", self.lan_port),
        })
    }

    /// Runs shell text in a namespace, with that namespace's `/sys`.
    pub fn shell(&self, ns: &str, text: &str) -> Result<(), Failure> {
        output(
            Command::new("ip").args(["netns", "exec", ns, "sh", "-c", text]),
            text,
        )
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for ns in [&self.lan, &self.mid, &self.uplink] {
            let _ = Command::new("ip")
                .args(["netns", "del", ns])
                .stderr(Stdio::null())
                .status();
        }
    }
}

/// Reads one interface's counter of received frames.
pub struct Received {
    file: File,
    prefix: String,
}

impl Received {
    /// Frames since the interface was made.
    pub fn read(&mut self) -> Result<u64, Failure> {
        let mut text = String::new();
        self.file.rewind()?;
        self.file.read_to_string(&mut text)?;
        let line = text
            .lines()
            .find_map(|line| line.trim_start().strip_prefix(&self.prefix));
        let field = line
            .and_then(|line| line.split_whitespace().nth(1))
            .and_then(|n| n.parse().ok());
        field.ok_or_else(|| format!("{} is not in /proc/net/dev", self.prefix).into())
    }
}

/// Runs `work` on a thread of its own in a network namespace.
pub fn within<T: Send>(ns: &str, work: impl FnOnce() -> T + Send) -> Result<T, Failure> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| -> Result<T, String> {
            enter(ns).map_err(|e| e.to_string())?;
            Ok(work())
        });
        thread
            .join()
            .map_err(|_| "a thread in a namespace panicked")?
            .map_err(Into::into)
    })
}

/// Moves the calling thread, for good, into a network namespace.
pub fn enter(ns: &str) -> Result<(), Failure> {
    let file = File::open(format!("/run/netns/{ns}"))?;
    Ok(setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?)
}

/// Pins a thread (0: the calling one) to a core.
pub fn pin(thread: i32, core: usize) -> Result<(), Failure> {
    let mut set = nix::sched::CpuSet::new();
    set.set(core)?;
    Ok(nix::sched::sched_setaffinity(
        nix::unistd::Pid::from_raw(thread),
        &set,
    )?)
}

/// Runs a command given as words between spaces.
pub fn run(line: &str) -> Result<(), Failure> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    output(command.args(words), line)
}

fn output(command: &mut Command, text: &str) -> Result<(), Failure> {
    let done = command
        .stdin(Stdio::null())
        .output()
        .map_err(|e| format!("{text}: {e}"))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{text}: {}", String::from_utf8_lossy(&done.stderr).trim()).into())
}
