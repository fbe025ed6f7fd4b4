//! Three namespaces and two cables.

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// How the cables are made.
#[derive(Clone, Copy)]
pub struct Cables {
    pub mtu: u32,
    /// Queues of both ends of the LAN cable, and of the uplink cable.
    pub queues: [u32; 2],
    /// The hosts have addresses and speak by themselves; without, no frame is on the wire but those that a test sends.
    pub addresses: bool,
}

impl Default for Cables {
    fn default() -> Cables {
        Cables {
            mtu: 1500,
            queues: [1, 1],
            addresses: false,
        }
    }
}

/// The namespaces; gone when it is dropped, and a folder of its own with them.
pub struct Lab {
    name: String,
    dir: tempfile::TempDir,
}

impl Lab {
    /// `None`, and a line that says so, where the test does not run as root.
    pub fn new() -> Option<Lab> {
        Lab::with(Cables::default())
    }

    /// The hosts have addresses: 10.77.0.9 and fd77::9 on the LAN; 10.77.0.1, fd77::1, 93.184.216.34 and
    /// 2606:2800:220:1::34 at the uplink.
    pub fn addressed() -> Option<Lab> {
        Lab::with(Cables {
            addresses: true,
            ..Cables::default()
        })
    }

    /// See [`Lab::new`].
    pub fn with(cables: Cables) -> Option<Lab> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: whole-box tests make network namespaces, which needs root");
            return None;
        }
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        if n == 0 {
            sweep();
        }
        let lab = Lab {
            name: format!("box{}n{n}", std::process::id()),
            dir: tempfile::tempdir().expect("a temporary folder"),
        };
        for role in ["lan", "gate", "uplink"] {
            must("ip", &["netns", "add", &lab.namespace(role)]);
            lab.ip(role, "link set lo up");
        }
        for ((role, host, port), queues) in [("lan", "lan0", "gl0"), ("uplink", "up0", "gu0")]
            .into_iter()
            .zip(cables.queues)
        {
            let (far, near) = (lab.namespace(role), lab.namespace("gate"));
            let q = format!("numrxqueues {queues} numtxqueues {queues}");
            let mtu = cables.mtu;
            must_line(
                "ip",
                &format!(
                    "link add {host} netns {far} mtu {mtu} {q} type veth peer name {port} netns {near} mtu {mtu} {q}"
                ),
            );
            lab.quiet("gate", port);
            if !cables.addresses {
                lab.quiet(role, host);
            }
            for (role, end) in [(role, host), ("gate", port)] {
                let off =
                    format!("-K {end} tx off rx off tso off gso off gro off txvlan off rxvlan off");
                lab.must(role, "ethtool", &off);
            }
            lab.ip("gate", &format!("link set {port} up"));
            lab.ip(role, &format!("link set {host} up"));
        }
        if cables.addresses {
            lab.give_addresses();
        }
        // The kernel notes a carrier up to a second after it came: a change that would otherwise look like the gate's.
        super::until("both carriers", super::SOON, || {
            let ports = lab.ip("gate", "-j link show");
            (ports.matches("\"operstate\":\"UP\"").count() == 2).then_some(())
        });
        Some(lab)
    }

    /// No frame of the kernel's own on this interface.
    fn quiet(&self, role: &str, interface: &str) {
        self.ip(
            role,
            &format!("link set {interface} addrgenmode none arp off"),
        );
        let key = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        self.must(role, "sh", &format!("-c echo\t1\t>{key}"));
    }

    fn give_addresses(&self) {
        for (role, interface, addresses) in [
            ("lan", "lan0", &["10.77.0.9/24", "fd77::9/64"][..]),
            (
                "uplink",
                "up0",
                &[
                    "10.77.0.1/24",
                    "fd77::1/64",
                    "93.184.216.34/32",
                    "2606:2800:220:1::34/128",
                ][..],
            ),
        ] {
            for address in addresses {
                let nodad = if address.contains(':') { " nodad" } else { "" };
                self.ip(
                    role,
                    &format!("address add {address} dev {interface}{nodad}"),
                );
            }
        }
        self.ip("lan", "route add default via 10.77.0.1");
        self.ip("lan", "-6 route add default via fd77::1");
    }

    /// A bridge in the gate's place, which learns nothing; still down.
    pub fn bridge(&self) {
        self.ip(
            "gate",
            "link add br0 type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
        );
        for port in ["gl0", "gu0"] {
            self.ip("gate", &format!("link set {port} master br0"));
            self.ip(
                "gate",
                &format!("link set {port} type bridge_slave learning off"),
            );
        }
    }

    /// The name of `lan`, `gate` or `uplink`.
    pub fn namespace(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }

    /// A folder for configs, sockets and logs.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A command that runs inside and dies with the thread that starts it. Not `ip netns exec`: that hides bpffs.
    pub fn command(&self, role: &str, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "nsenter"])
            .arg(format!("--net=/run/netns/{}", self.namespace(role)))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs `ip` inside.
    pub fn ip(&self, role: &str, arguments: &str) -> String {
        must_line("ip", &format!("-n {} {arguments}", self.namespace(role)))
    }

    /// Runs a program inside, its arguments in one string: what it printed.
    ///
    /// # Panics
    /// If it fails.
    pub fn must(&self, role: &str, program: &str, arguments: &str) -> String {
        // A tab stands for a space within an argument.
        let arguments: Vec<String> = arguments
            .split(' ')
            .filter(|a| !a.is_empty())
            .map(|a| a.replace('\t', " "))
            .collect();
        let out = self
            .command(role, program)
            .args(&arguments)
            .output()
            .unwrap_or_else(|e| panic!("{program}: {e}"));
        checked(program, &arguments, &out)
    }

    /// Everything that the kernel tells of both gate ports and that a failed start may not change.
    pub fn ports(&self) -> String {
        let mut text = self.ip("gate", "-j -d link show");
        for port in ["gl0", "gu0"] {
            text += &self.must("gate", "ethtool", &format!("-k {port}"));
        }
        let pins = self.pins();
        format!("{text}{pins:?}")
    }

    /// What is pinned in bpffs for ports of this lab.
    pub fn pins(&self) -> Vec<PathBuf> {
        let inode = std::fs::metadata(format!("/run/netns/{}", self.namespace("gate")))
            .expect("the namespace")
            .ino();
        let suffix = format!("-{inode}");
        let folder = std::fs::read_dir("/sys/fs/bpf/portcullis");
        folder
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.to_string_lossy().ends_with(&suffix))
            .collect()
    }

    /// A counter of `ip -s link`, such as `tx`, `packets`.
    pub fn counter(&self, role: &str, interface: &str, way: &str, what: &str) -> u64 {
        let text = self.ip(role, &format!("-s -j link show {interface}"));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON from ip");
        value[0]["stats64"][way][what].as_u64().expect("a counter")
    }

    /// Does `work` on a thread that is inside.
    pub fn within<T: Send>(&self, role: &str, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.namespace(role));
        let done = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let namespace = File::open(&path).expect("the namespace");
                    setns(namespace, CloneFlags::CLONE_NEWNET).expect("setns");
                    work()
                })
                .join()
        });
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let pins = std::panic::catch_unwind(|| self.pins()).unwrap_or_default();
        for dir in pins {
            for pin in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
                let _ = std::fs::remove_file(pin.path());
            }
            let _ = std::fs::remove_dir(dir);
        }
        for role in ["lan", "gate", "uplink"] {
            let _ = Command::new("ip")
                .args(["netns", "del", &self.namespace(role)])
                .output();
        }
    }
}

/// Removes what a test run left that was ended by SIGKILL; what ran inside died with it.
fn sweep() {
    let names = std::fs::read_dir("/run/netns")
        .into_iter()
        .flatten()
        .flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some((pid, _)) = name
            .strip_prefix("box")
            .and_then(|rest| rest.split_once('n'))
        else {
            continue;
        };
        if pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists() {
            let _ = Command::new("ip").args(["netns", "del", &name]).output();
        }
    }
}

fn must_line(program: &str, arguments: &str) -> String {
    must(program, &arguments.split_whitespace().collect::<Vec<_>>())
}

fn must(program: &str, arguments: &[&str]) -> String {
    let out = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    checked(program, arguments, &out)
}

fn checked(program: &str, arguments: &[impl AsRef<str>], out: &std::process::Output) -> String {
    let said = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let arguments: Vec<&str> = arguments.iter().map(AsRef::as_ref).collect();
    assert!(
        out.status.success(),
        "{program} {}: {}",
        arguments.join(" "),
        said(&out.stderr)
    );
    said(&out.stdout)
}
