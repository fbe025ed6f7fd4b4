//! Three machines and the cables between them.
//!
//! ```text
//!  ┌── namespace pcPID-lab, from which nothing leaves ────────────────────────────────────────┐
//!  │  ┌─ lan ────────┐ tap       tap ┌─ gate ────────────────┐ tap       tap ┌─ uplink ─────┐ │
//!  │  │ clients lan0 ├──── cable ────┤ enp1s0  .deb  enp2s0  ├──── cable ────┤ up0  servers │ │
//!  │  │ bench send   │               │       systemd         │               │   bench sink │ │
//!  │  └──────────────┘               └───────────┬───────────┘               └──────────────┘ │
//!  │                                             │ enp3s0, management                         │
//!  │                              127.0.0.1:9155 └── Prometheus                               │
//!  └──────────────────────────────────────────────────────────────────────────────────────────┘
//! ```

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rig::{Error, Namespace, Result, Rig, Server, addr};
use tempfile::TempDir;

use crate::archive::{Archive, make};
use crate::cpio::Overlay;
use crate::gate::PORTS;
use crate::guest::{Guest, SETUP};
use crate::image::Image;
use crate::kernel::Kernel;
use crate::mode::{Ground, Mode};
use crate::qemu::{Accelerator, MANAGEMENT, Machine, Nic, Plug};

/// How long a machine may take until its agent answers.
const BOOT: Duration = Duration::from_secs(180);

/// How long one may take to switch itself off.
const SHUTDOWN: Duration = Duration::from_secs(60);

/// Where the files of the servers are in the machines at the ends.
pub const SERVERS: &str = "/srv/rig";

/// The gate's port for metrics, here and in the gate.
pub const METRICS: u16 = 9155;

/// The gate's address on the management side: what qemu's address translation knows it by.
const ADDRESS: &str = "10.0.2.15";

/// MiB of memory that a machine has besides what its image takes.
const MEMORY: u64 = 512;

/// MiB of memory for a machine with these archives. What they hold goes into half of what they leave free (Linux, `shmem_default_max_blocks`), so they take thrice
/// their size until they are unpacked.
fn memory(initrd: &Path) -> Result<u64> {
    let data = initrd
        .metadata()
        .map_err(Error::io(format!("reading {}", initrd.display())))?;
    Ok(MEMORY + 3 * data.len().div_ceil(1 << 20))
}

/// How a lab is made.
#[derive(Clone, Debug)]
pub struct Plan<'a> {
    /// The Debian package of the gate.
    pub package: &'a Path,
    /// Where images, kernels and emulators are kept.
    pub cache: &'a Path,
    /// On what the machines run.
    pub accelerator: Accelerator,
    /// Processors of each machine, and queues of each NIC.
    pub processors: u32,
}

/// Three running machines. All of it goes when dropped.
#[derive(Debug)]
pub struct Lab {
    /// Where the clients and the generator are.
    pub lan: Guest,
    /// Where the package is.
    pub gate: Guest,
    /// Where the servers and the sink are.
    pub uplink: Guest,
    /// Where taps, qemu and Prometheus are.
    pub namespace: Namespace,
    /// The mode that the gate is to run in.
    pub mode: Mode,
    /// From the first start until all three answered.
    pub booted: Duration,
    dir: TempDir,
}

impl Lab {
    /// Boots the three machines. The gate has the package lying there, and nothing of it installed.
    ///
    /// # Errors
    /// What mmdebstrap, iproute2 or qemu says, or that a machine does not come up.
    pub fn boot(
        plan: &Plan,
        archive: &Archive,
        ground: &Ground,
        step: &dyn Fn(&str),
    ) -> Result<Lab> {
        let images = [Image::Gate, Image::Ends].map(|image| image.build(archive, plan.cache, step));
        let [gate_image, ends_image] = images;
        let (gate_image, ends_image) = (gate_image?, ends_image?);
        // The ends are the same whatever the gate runs on.
        let ends_kernel = Kernel::of_release(plan.cache, step)?;

        let namespace = Namespace::create(&format!("pc{}-lab", std::process::id()))?;
        cable(&namespace, "lan", plan.processors)?;
        cable(&namespace, "uplink", plan.processors)?;
        let dir = tempfile::Builder::new()
            .prefix("vm-lab-")
            .tempdir()
            .map_err(Error::io("making a directory"))?;
        let binary = binary_of(plan.package, dir.path())?;

        let start = Instant::now();
        let boot = |name: &'static str,
                    kernel: &Kernel,
                    image: &Path,
                    overlay: Overlay,
                    plugs: &[Plug],
                    management|
         -> Result<Guest> {
            let dir = dir.path().join(name);
            make(&dir)?;
            let initrd = dir.join("initrd");
            overlay.write(&[image, &kernel.modules], &initrd)?;
            let machine = Machine {
                accelerator: plan.accelerator,
                emulator: &ground.emulator,
                kernel,
                initrd: &initrd,
                memory: memory(&initrd)?,
                processors: plan.processors,
                plugs,
                management,
                dir: &dir,
            };
            Guest::start(name, &namespace, &machine)
        };
        let end = |name, tap, mac| Plug {
            name,
            tap,
            mac,
            nic: Nic::Virtio,
        };
        let nic = ground.mode.nic();
        let gate_plugs = [
            Plug {
                name: "lan",
                tap: "gate-lan",
                mac: "52:54:00:77:00:01",
                nic,
            },
            Plug {
                name: "uplink",
                tap: "gate-uplink",
                mac: "52:54:00:77:00:02",
                nic,
            },
        ];
        let mut gate = boot(
            "gate",
            &ground.kernel,
            &gate_image,
            gate_overlay(plan.package)?,
            &gate_plugs,
            Some((METRICS, METRICS)),
        )?;
        let plug = [end("lan", "lan", addr::LAN_MAC)];
        let mut lan = boot(
            "lan",
            &ends_kernel,
            &ends_image,
            end_overlay("lan0", &Rig::lan_setup(), &[], &binary),
            &plug,
            None,
        )?;
        let plug = [end("uplink", "uplink", addr::UPLINK_MAC)];
        let mut uplink = boot(
            "uplink",
            &ends_kernel,
            &ends_image,
            end_overlay("up0", &Rig::uplink_setup(), &Server::ALL, &binary),
            &plug,
            None,
        )?;
        for (name, guest) in [
            ("lan", &mut lan),
            ("uplink", &mut uplink),
            ("gate", &mut gate),
        ] {
            guest.await_agent(&dir.path().join(name), BOOT)?;
            // The memory of what a machine has unpacked is given back.
            let _ = std::fs::remove_file(dir.path().join(name).join("initrd"));
        }
        let lab = Lab {
            lan,
            gate,
            uplink,
            namespace,
            mode: ground.mode,
            booted: start.elapsed(),
            dir,
        };
        lab.await_servers()?;
        Ok(lab)
    }

    /// A directory of the lab's own.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    fn await_servers(&self) -> Result<()> {
        let mut missing = String::new();
        let up = rig::poll_until("the servers", SETUP, || {
            missing = Server::missing(
                &Server::ALL,
                &self.uplink.must(&Server::LISTENING.join(" "))?,
            );
            Ok(missing.is_empty().then_some(()))
        });
        match up {
            Err(Error::Timeout { limit, .. }) => {
                let logs = self.uplink.must(&format!("tail -n 2 {SERVERS}/*.log"))?;
                Err(Error::Timeout {
                    what: format!("{missing} to listen in uplink: {logs}"),
                    limit,
                })
            }
            other => other,
        }
    }

    /// Switches all three machines off, the gate as systemd does it.
    ///
    /// # Errors
    /// That one goes on running; it is ended all the same.
    pub fn shut_down(self) -> Result<()> {
        let Lab {
            lan,
            gate,
            uplink,
            namespace,
            dir,
            ..
        } = self;
        gate.begin(&["systemctl", "poweroff"].map(str::to_owned), "", SETUP)?;
        for end in [&lan, &uplink] {
            // With no init that would be asked (Linux, Documentation/admin-guide/sysrq.rst).
            end.begin(
                &crate::guest::shell("echo o > /proc/sysrq-trigger"),
                "",
                SETUP,
            )?;
        }
        let ended = [lan.off(SHUTDOWN), uplink.off(SHUTDOWN), gate.off(SHUTDOWN)];
        drop((namespace, dir));
        ended.into_iter().collect()
    }
}

/// A cable between the machine `end` and the gate: two taps, each of which sends on what the other receives, as it is. It learns nothing, and says nothing.
fn cable(namespace: &Namespace, end: &str, queues: u32) -> Result<()> {
    let taps = [end.to_owned(), format!("gate-{end}")];
    // A tap that is opened with several queues has to have been made for them.
    let queues = if queues > 1 { "multi_queue" } else { "" };
    for tap in &taps {
        namespace.ip(&format!("tuntap add dev {tap} mode tap {queues}\n"))?;
        namespace.set(&format!("ipv6/conf/{tap}/disable_ipv6"), "1")?;
        namespace.ip(&format!("link set {tap} up txqueuelen 4000\n"))?;
    }
    for (from, to) in [(0, 1), (1, 0)] {
        let line = format!(
            "qdisc add dev {from} clsact
filter add dev {from} ingress protocol all prio 1 u32 match u32 0 0 action mirred egress redirect dev {to}
",
            from = taps[from],
            to = taps[to],
        );
        rig::must(namespace.command("tc").args(["-batch", "-"]), &line)?;
    }
    Ok(())
}

/// The binary of the package, without what a debugger wants.
fn binary_of(package: &Path, dir: &Path) -> Result<Vec<u8>> {
    let root = dir.join("package");
    make(&root)?;
    rig::must(
        Command::new("dpkg-deb").arg("-x").arg(package).arg(&root),
        "",
    )?;
    read(&root.join("usr/bin/portcullis"))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).map_err(Error::io(format!("reading {}", file.display())))
}

/// Where the package lies in the gate.
pub const PACKAGE: &str = "/root/portcullis.deb";

fn gate_overlay(package: &Path) -> Result<Overlay> {
    let mut overlay = Overlay::default();
    overlay
        // systemd, as on any Debian. It is no initrd that another root file system follows: there is no /etc/initrd-release.
        .link("/init", "/sbin/init")
        .file("/etc/hostname", "gate\n")
        .file(PACKAGE, read(package)?)
        .file(
            "/etc/systemd/network/10-management.network",
            format!("[Match]\nMACAddress={MANAGEMENT}\n[Network]\nAddress={ADDRESS}/24\nIPv6AcceptRA=no\n"),
        )
        // Up, with nothing of its own to say: what docs/operations.md asks of the two ports.
        .file(
            "/etc/systemd/network/20-ports.network",
            format!(
                "[Match]\nName={}\n[Link]\nRequiredForOnline=no\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nLLDP=no\n",
                PORTS.join(" ")
            ),
        )
        .directory("/etc/systemd/system/multi-user.target.wants")
        .link(
            "/etc/systemd/system/multi-user.target.wants/systemd-networkd.service",
            "/lib/systemd/system/systemd-networkd.service",
        );
    // What looks after disks, which there are none of.
    for unit in [
        "e2scrub_reap.service",
        "e2scrub_all.timer",
        "fstrim.timer",
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
    ] {
        overlay.link(&format!("/etc/systemd/system/{unit}"), "/dev/null");
    }
    Ok(overlay)
}

/// A machine with one NIC of this name and these addresses, on which these servers run. Its first process is a shell, which is up in a moment.
fn end_overlay(nic: &str, addresses: &str, servers: &[Server], binary: &[u8]) -> Overlay {
    let dir = Path::new(SERVERS);
    let mut overlay = Overlay::default();
    overlay.program("/usr/bin/portcullis", binary);
    overlay.directory(SERVERS);
    for name in Server::DIRECTORIES {
        let mut path = PathBuf::from(dir);
        for part in Path::new(name) {
            path.push(part);
            overlay.directory(&path.display().to_string());
        }
    }
    for (name, content) in Server::files(dir) {
        overlay.file(&format!("{SERVERS}/{name}"), content);
    }
    let started: String = servers
        .iter()
        .map(|server| {
            format!(
                "{} > {SERVERS}/{}.log 2>&1 < /dev/null &\n",
                server.argv(dir).join(" "),
                server.name()
            )
        })
        .collect();
    overlay.file("/etc/lab-addresses", addresses);
    overlay.program(
        "/init",
        format!(
            r#"#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs run /run
mkdir -p /run/lock /run/samba
modprobe -a virtio_pci virtio_console virtio_net virtio_rng
ip link set lo up
echo 0 > /proc/sys/net/ipv6/conf/all/accept_dad
echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad
until [ -e /sys/class/net/eth0 ]; do sleep 0.1; done
ip link set eth0 name {nic}
ip -batch /etc/lab-addresses
{started}
for port in /sys/class/virtio-ports/*; do
    [ "$(cat $port/name)" = org.qemu.guest_agent.0 ] && agent=/dev/${{port##*/}}
done
qemu-ga --method virtio-serial --path $agent &
# The first process waits for whatever has lost its parent.
while :; do sleep 600 & wait $!; done
"#
        ),
    );
    overlay
}
