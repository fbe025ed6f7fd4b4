//! Machines that are made up: one that is ready, and the same with one thing wrong at a time.

use super::finding::{Finding, State, all_ready};
use super::nics::Facts;
use super::tree::Tree;
use super::*;
use crate::os::genl::{Rss, XdpFeatures};
use crate::os::nic::{Feature, Nic};
use std::path::PathBuf;

/// Four cores, workers on 2 and 3, two NICs of two queues.
struct Machine {
    root: tempfile::TempDir,
    bridge: Bridge,
    facts: [Facts; 2],
}

impl Machine {
    fn ready() -> Machine {
        let machine = Machine {
            root: tempfile::tempdir().unwrap(),
            bridge: bridge(""),
            facts: ["e0", "e1"].map(facts),
        };
        let cpu = "sys/devices/system/cpu";
        let huge = "sys/kernel/mm/hugepages/hugepages-2048kB";
        let clock = "sys/devices/system/clocksource/clocksource0";
        machine
            .write("proc/sys/kernel/osrelease", "6.1.0-40-amd64\n")
            .write(
                "proc/mounts",
                "proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw 0 0\n",
            )
            .write(&format!("{huge}/nr_hugepages"), "4096\n")
            .write(&format!("{huge}/free_hugepages"), "4096\n")
            .write("proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff\n")
            .write(&format!("{clock}/current_clocksource"), "tsc\n")
            .write(
                &format!("{clock}/available_clocksource"),
                "tsc hpet acpi_pm\n",
            )
            .write("proc/77/comm", "sshd\n")
            .write(&format!("{cpu}/online"), "0-3\n")
            .write(&format!("{cpu}/isolated"), "2-3\n")
            .write(&format!("{cpu}/nohz_full"), "2-3\n");
        for core in 0..4 {
            machine
                .write(
                    &format!("{cpu}/cpu{core}/topology/thread_siblings_list"),
                    &format!("{core}\n"),
                )
                .write(
                    &format!("{cpu}/cpu{core}/cpufreq/scaling_governor"),
                    "performance\n",
                );
        }
        machine.write(
            "proc/interrupts",
            "           CPU0  CPU1\n 40:  1  0  PCI-MSI e0-TxRx-0\n 41:  1  0  PCI-MSI e0-TxRx-1\n 50:  1  0  PCI-MSI e1-TxRx-0\n 51:  1  0  PCI-MSI e10-TxRx-0\nNMI:  0 0\n",
        );
        for irq in [40, 41, 50] {
            machine.write(&format!("proc/irq/{irq}/smp_affinity_list"), "0-1\n");
        }
        machine
    }

    fn write(&self, path: &str, text: &str) -> &Machine {
        let path: PathBuf = self.root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    fn judge(&self) -> Vec<Finding> {
        judge(
            &Tree::new(self.root.path()),
            &self.bridge,
            &self.facts,
            &[2, 3],
        )
    }

    /// The one finding that is not ready, and what mends it.
    fn wrong(&self) -> (&'static str, Option<String>, String) {
        let mut wrong: Vec<Finding> = self
            .judge()
            .into_iter()
            .filter(|one| one.state == State::NotReady)
            .collect();
        assert_eq!(wrong.len(), 1, "{wrong:#?}");
        let one = wrong.remove(0);
        assert!(!one.mend.is_empty(), "{one:?}");
        (one.check, one.nic, one.mend.join("; "))
    }
}

fn bridge(more: &str) -> Bridge {
    let text = format!(
        "[bridge]\nlan = \"e0\"\nuplink = \"e1\"\n{more}\n[lan]\nprefixes = [\"10.77.0.0/24\"]\n"
    );
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("portcullis.toml");
    std::fs::write(&path, text).unwrap();
    crate::config::load(&path).unwrap().bridge.unwrap()
}

fn facts(name: &str) -> Facts {
    let off = Feature {
        active: false,
        changeable: true,
    };
    Facts {
        nic: Nic {
            name: name.into(),
            mtu: 1500,
            up: true,
            rx_queues: 2,
            features: [("rx-gro".to_string(), off), ("rx-lro".to_string(), off)].into(),
            ..Nic::default()
        },
        xdp: Some(XdpFeatures {
            native: true,
            zero_copy: true,
        }),
        rss: Some(Rss {
            key: [0x6d, 0x5a].repeat(20),
            symmetric_input: false,
        }),
    }
}

#[test]
fn a_machine_that_is_ready_is_said_to_be() {
    let findings = Machine::ready().judge();
    assert!(
        findings.iter().all(|one| one.state == State::Ready),
        "{findings:#?}"
    );
    assert!(all_ready(&findings));
    assert_eq!(findings.len(), 6 + 3 + 2 * 6);
}

#[test]
fn each_thing_of_the_machine_that_is_wrong_is_found_alone_with_its_command() {
    let cpu = "sys/devices/system/cpu";
    let table = [
        (
            "proc/sys/kernel/osrelease",
            "5.4.0-1-amd64",
            "kernel",
            "linux-image",
        ),
        (
            "proc/mounts",
            "tmpfs /sys/fs/bpf tmpfs rw 0 0",
            "bpffs",
            "mount -t bpf bpf /sys/fs/bpf",
        ),
        (
            "sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages",
            "1",
            "huge pages",
            "sysctl -w vm.nr_hugepages=",
        ),
        (
            "sys/devices/system/clocksource/clocksource0/current_clocksource",
            "hpet",
            "clock source",
            "echo tsc > /sys/devices",
        ),
        (
            "proc/78/comm",
            "irqbalance",
            "irqbalance",
            "disable --now irqbalance",
        ),
        (
            &format!("{cpu}/isolated"),
            "3",
            "isolated cores",
            "isolcpus=2,3 nohz_full=2,3",
        ),
        (
            &format!("{cpu}/nohz_full"),
            "(null)",
            "isolated cores",
            "nohz_full=2,3",
        ),
        (
            &format!("{cpu}/cpu2/topology/thread_siblings_list"),
            "0,2",
            "SMT siblings",
            "smt/control",
        ),
        (
            &format!("{cpu}/cpu2/topology/thread_siblings_list"),
            "2-3",
            "SMT siblings",
            "lscpu -e",
        ),
        (
            &format!("{cpu}/cpu3/cpufreq/scaling_governor"),
            "powersave",
            "CPU governor",
            "echo performance > /sys/devices/system/cpu/cpu3/",
        ),
        (
            "proc/irq/41/smp_affinity_list",
            "0-3",
            "interrupts",
            "echo 0,1 > /proc/irq/41/smp_affinity_list",
        ),
        (
            "proc/irq/50/effective_affinity_list",
            "2",
            "interrupts",
            "echo 0,1 > /proc/irq/50/smp_affinity_list",
        ),
    ];
    for (path, text, check, command) in table {
        let machine = Machine::ready();
        machine.write(path, text);
        let (found, _, mend) = machine.wrong();
        assert_eq!(found, check, "{path} = {text}");
        assert!(mend.contains(command), "{path}: {mend}");
    }
}

#[test]
fn each_thing_of_a_nic_that_is_wrong_is_found_at_that_nic() {
    type Change = fn(&mut Facts);
    let table: [(Change, &str, &str); 8] = [
        (|f| f.nic.up = false, "link", "ip link set e1 up"),
        (
            |f| f.nic.controller = Some(9),
            "link",
            "ip link set e1 nomaster",
        ),
        (|f| f.nic.mtu = 9000, "MTU", "ip link set e1 mtu 1500"),
        (
            |f| f.nic.features.clear(),
            "offloads",
            "ethtool -K e1 gro off",
        ),
        (
            |f| {
                let fixed = Feature {
                    active: true,
                    changeable: false,
                };
                f.nic.features.insert("rx-lro".into(), fixed);
            },
            "offloads",
            "another NIC",
        ),
        (
            |f| {
                f.xdp = Some(XdpFeatures {
                    native: true,
                    zero_copy: false,
                })
            },
            "zero copy",
            "mode = \"copy\"",
        ),
        (
            |f| {
                f.xdp = Some(XdpFeatures {
                    native: false,
                    zero_copy: false,
                })
            },
            "zero copy",
            "mode = \"generic\"",
        ),
        (
            |f| {
                f.rss = Some(Rss {
                    key: vec![1, 2, 3, 4],
                    symmetric_input: false,
                })
            },
            "RSS symmetry",
            "ethtool -X e1 hkey 6d:5a:6d:5a",
        ),
    ];
    for (change, check, command) in table {
        let mut machine = Machine::ready();
        change(&mut machine.facts[1]);
        let (found, nic, mend) = machine.wrong();
        assert_eq!((found, nic.as_deref()), (check, Some("e1")));
        assert!(mend.contains(command), "{mend}");
    }
}

#[test]
fn what_the_config_accepts_is_ready() {
    let mut machine = Machine::ready();
    let on = Feature {
        active: true,
        changeable: true,
    };
    machine.facts[0].nic.features.insert("rx-gro".into(), on);
    assert!(all_ready(&machine.judge()), "a start switches it off");
    machine.bridge = bridge("offloads = \"check\"");
    assert_eq!(machine.wrong().2, "ethtool -K e0 rx-gro off");

    let mut machine = Machine::ready();
    machine.facts[0].xdp = Some(XdpFeatures {
        native: true,
        zero_copy: false,
    });
    machine.bridge = bridge("mode = \"copy\"\nhuge_pages = false");
    machine.write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "0");
    assert!(all_ready(&machine.judge()));
}

#[test]
fn busy_polling_wants_interrupts_on_the_core_of_their_worker() {
    let mut machine = Machine::ready();
    machine.bridge = bridge("busy_poll = { usecs = 20, budget = 64 }");
    machine
        .write("proc/irq/40/smp_affinity_list", "2")
        .write("proc/irq/50/smp_affinity_list", "2");
    assert_eq!(machine.wrong().2, "echo 3 > /proc/irq/41/smp_affinity_list");
}

#[test]
fn what_a_machine_does_not_tell_is_unknown_and_makes_nothing_unready() {
    let mut machine = Machine::ready();
    for path in [
        "sys/devices/system/clocksource",
        "proc/irq",
        "sys/kernel/mm",
    ] {
        std::fs::remove_dir_all(machine.root.path().join(path)).unwrap();
    }
    machine.write("proc/interrupts", "");
    machine.facts[0].xdp = None;
    machine.facts[0].rss = None;
    let findings = machine.judge();
    assert!(all_ready(&findings), "{findings:#?}");
    let unknown: Vec<&str> = findings
        .iter()
        .filter(|one| one.state == State::Unknown)
        .map(|one| one.check)
        .collect();
    assert_eq!(
        unknown,
        [
            "huge pages",
            "clock source",
            "zero copy",
            "RSS symmetry",
            "interrupts",
            "interrupts"
        ]
    );
}

#[test]
fn the_limit_of_locked_memory_counts_for_who_is_not_root() {
    let machine = Machine::ready();
    machine.write("proc/self/status", "CapEff:\t0000000000000000\n");
    machine.write(
        "proc/self/limits",
        "Max locked memory         65536                65536                bytes\n",
    );
    assert_eq!(machine.wrong().0, "memlock");
    machine.write(
        "proc/self/limits",
        "Max locked memory         unlimited            unlimited            bytes\n",
    );
    assert!(all_ready(&machine.judge()));
}
