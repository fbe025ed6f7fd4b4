//! Command lines of virtual machines, and on what they run.

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rig::{Result, poll_until, spawn};
use serde::Serialize;

use crate::kernel::{Emulator, Kernel};

/// How long a kernel may take until it says its first word under KVM. Where virtualization works that is a fraction of a second.
const FIRST_WORD: Duration = Duration::from_secs(6);

/// What runs the instructions of the guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// The processor.
    Kvm,
    /// An interpreter: some fifty times slower.
    Tcg,
}

impl Accelerator {
    /// KVM where a stock kernel says something under it, else TCG; and why.
    ///
    /// # Errors
    /// That the lab was interrupted, or has no directory to log to.
    pub fn found(
        emulator: &Emulator,
        kernel: &Kernel,
        dir: &Path,
    ) -> Result<(Accelerator, String)> {
        if !Path::new("/dev/kvm").exists() {
            return Ok((Accelerator::Tcg, "there is no /dev/kvm".to_owned()));
        }
        let serial = dir.join("kvm-serial.log");
        let mut command = Command::new(&emulator.program);
        // With no root file system it panics, and ends by that: what counts is that it got so far.
        command
            .args(base(emulator, Accelerator::Kvm))
            .args(["-m", "256", "-smp", "1", "-serial"])
            .arg(format!("file:{}", serial.display()))
            .arg("-kernel")
            .arg(&kernel.image)
            .args(["-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]);
        let mut qemu = spawn("qemu", &mut command, &dir.join("kvm.log"))?;
        let word = poll_until("a kernel under KVM", FIRST_WORD, || {
            let said = std::fs::read(&serial).unwrap_or_default();
            if String::from_utf8_lossy(&said).contains("Linux version") {
                return Ok(Some(Ok(())));
            }
            Ok(qemu.check().err().map(|e| Err(e.to_string())))
        });
        rig::check_interrupt()?;
        Ok(match word {
            Ok(Ok(())) => (Accelerator::Kvm, "a stock kernel boots under it".to_owned()),
            Ok(Err(said)) => (Accelerator::Tcg, format!("KVM is there, but {said}")),
            Err(_) => (
                Accelerator::Tcg,
                format!(
                    "/dev/kvm is there, but a stock kernel says nothing under it for {} s",
                    FIRST_WORD.as_secs()
                ),
            ),
        })
    }

    fn option(self) -> [&'static str; 4] {
        match self {
            // Without what some hosts do not let a guest set (MSR 0x10a).
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host,arch-capabilities=off"],
            Accelerator::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
        }
    }

    /// Its name, for people.
    pub const fn name(self) -> &'static str {
        match self {
            Accelerator::Kvm => "KVM",
            Accelerator::Tcg => "TCG (emulation)",
        }
    }
}

/// What kind of NIC the gate has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nic {
    /// virtio-net.
    Virtio,
    /// virtio-net whose memory goes by an IOMMU's addresses, without which its driver has no zero copy (Linux, `virtnet_xsk_pool_enable`).
    VirtioByIommu,
    /// Intel 82576, which real boxes have.
    Igb,
}

/// The end of a cable in a machine.
#[derive(Clone, Copy, Debug)]
pub struct Plug<'a> {
    /// Its name for the monitor.
    pub name: &'a str,
    /// The tap that it is.
    pub tap: &'a str,
    /// Its MAC address.
    pub mac: &'a str,
    /// What the machine has there.
    pub nic: Nic,
}

/// A machine.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// On what it runs.
    pub accelerator: Accelerator,
    /// What runs it.
    pub emulator: &'a Emulator,
    /// What it boots.
    pub kernel: &'a Kernel,
    /// Its root file system.
    pub initrd: &'a Path,
    /// MiB.
    pub memory: u64,
    /// Processors, and queues of each NIC.
    pub processors: u32,
    /// Its NICs, each in a slot of its own: the first is `enp1s0` where udev names it.
    pub plugs: &'a [Plug<'a>],
    /// A further NIC behind an address translation, by which this port of the guest is reached at this port of the loopback.
    pub management: Option<(u16, u16)>,
    /// Where sockets and logs go.
    pub dir: &'a Path,
}

/// The MAC address of the management NIC.
pub const MANAGEMENT: &str = "52:54:00:77:00:03";

impl Machine<'_> {
    /// The words behind the program's name.
    pub fn words(&self) -> Vec<OsString> {
        let mut words = base(self.emulator, self.accelerator);
        let dir = self.dir.display();
        let mut add = |text: &str| words.extend(text.split(' ').map(OsString::from));
        add(&format!("-m {} -smp {}", self.memory, self.processors));
        add(&format!(
            "-serial file:{dir}/serial.log -qmp unix:{dir}/monitor,server=on,wait=off"
        ));
        add(&format!(
            "-device virtio-serial-pci -chardev socket,id=agent,path={dir}/agent,server=on,wait=off"
        ));
        add(
            "-device virtserialport,chardev=agent,name=org.qemu.guest_agent.0 -device virtio-rng-pci",
        );
        let queues = self.processors;
        for (at, plug) in self.plugs.iter().enumerate() {
            let (at, Plug { name, tap, mac, .. }) = (at + 1, plug);
            add(&format!(
                "-device pcie-root-port,id=slot{at},chassis={at},slot={at}"
            ));
            // Nothing but the frame itself goes through a cable: no header that says what is still to be done to it.
            add(&format!(
                "-netdev tap,id=tap-{name},ifname={tap},queues={queues},script=no,downscript=no,vnet_hdr=off"
            ));
            add(&format!(
                "-device {},bus=slot{at},id={name},netdev=tap-{name},mac={mac},romfile=",
                plug.nic.device(queues)
            ));
        }
        if let Some((here, there)) = self.management {
            let at = self.plugs.len() + 1;
            add(&format!(
                "-device pcie-root-port,id=slot{at},chassis={at},slot={at}"
            ));
            add(&format!(
                "-netdev user,id=management-net,restrict=on,hostfwd=tcp:127.0.0.1:{here}-10.0.2.15:{there}"
            ));
            add(&format!(
                "-device virtio-net-pci,bus=slot{at},id=management,netdev=management-net,mac={MANAGEMENT},romfile="
            ));
        }
        words.extend(["-kernel".into(), self.kernel.image.clone().into_os_string()]);
        words.extend(["-initrd".into(), self.initrd.as_os_str().to_owned()]);
        words.push("-append".into());
        // A machine that panics ends, instead of being waited for.
        words.push("console=ttyS0 quiet panic=-1 mitigations=off".into());
        words
    }
}

impl Nic {
    /// What of the work the driver may leave to the device is off: a driver refuses an XDP program where frames may come in pieces
    /// (Linux, `virtnet_xdp_set`).
    fn device(self, queues: u32) -> String {
        let off = "guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off";
        // Two for each pair, one for the configuration, one for the control queue.
        let vectors = 2 * queues + 2;
        match self {
            Nic::Virtio => format!("virtio-net-pci,mq=on,vectors={vectors},{off}"),
            Nic::VirtioByIommu => format!(
                "virtio-net-pci,mq=on,vectors={vectors},{off},disable-legacy=on,iommu_platform=on"
            ),
            Nic::Igb => "igb".to_owned(),
        }
    }
}

/// What all machines have in common.
fn base(emulator: &Emulator, accelerator: Accelerator) -> Vec<OsString> {
    let mut words: Vec<OsString> = Vec::new();
    for dir in &emulator.firmware {
        words.extend(["-L".into(), dir.clone().into_os_string()]);
    }
    words.extend(accelerator.option().map(OsString::from));
    words.extend(
        "-M q35 -display none -monitor none -nodefaults -no-user-config -no-reboot"
            .split(' ')
            .map(OsString::from),
    );
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn a_command_line_has_a_slot_and_the_queues_for_each_nic() {
        let emulator = Emulator {
            program: PathBuf::from("qemu"),
            firmware: vec![PathBuf::from("/firmware")],
            version: String::new(),
        };
        let kernel = Kernel {
            version: String::new(),
            image: PathBuf::from("/vmlinuz"),
            modules: PathBuf::new(),
        };
        let plug = |name, nic| Plug {
            name,
            tap: "t0",
            mac: "02:00:00:00:00:01",
            nic,
        };
        let machine = Machine {
            accelerator: Accelerator::Tcg,
            emulator: &emulator,
            kernel: &kernel,
            initrd: Path::new("/initrd"),
            memory: 512,
            processors: 2,
            plugs: &[plug("lan", Nic::VirtioByIommu), plug("uplink", Nic::Igb)],
            management: Some((9155, 9155)),
            dir: Path::new("/d"),
        };
        let words: Vec<_> = machine
            .words()
            .iter()
            .map(|w| w.to_string_lossy().into_owned())
            .collect();
        let line = words.join(" ");
        for part in [
            "-L /firmware -accel tcg,thread=multi -cpu max",
            "-netdev tap,id=tap-lan,ifname=t0,queues=2,script=no,downscript=no,vnet_hdr=off",
            "-device virtio-net-pci,mq=on,vectors=6,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,disable-legacy=on,iommu_platform=on,bus=slot1,id=lan",
            "-device igb,bus=slot2,id=uplink",
            "hostfwd=tcp:127.0.0.1:9155-10.0.2.15:9155",
            "-kernel /vmlinuz -initrd /initrd -append console",
        ] {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}
