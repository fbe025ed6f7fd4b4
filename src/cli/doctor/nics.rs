//! The two NICs, as netlink and sysfs tell of them.

use super::finding::Finding;
use super::tree::{Tree, list, parse_list};
use crate::config::{Bridge, Mode, Offloads};
use crate::control::bringup;
use crate::os::genl::{Rss, XdpFeatures};
use crate::os::nic::Nic;
use crate::os::offload;

/// The first bytes of a key that sends both directions of a flow to the same queue.
const SYMMETRIC_KEY: [&str; 2] = ["6d", "5a"];
/// Drivers with zero copy, of the kernel's tree.
const ZERO_COPY: &str = "ice, i40e, ixgbe, igc, igb, mlx5, stmmac, nfp";

/// What is known of a NIC besides sysfs.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub nic: Nic,
    pub xdp: Option<XdpFeatures>,
    pub rss: Option<Rss>,
}

/// Everything about one NIC; `workers` are the cores in order of queues.
pub(super) fn checks(
    tree: &Tree,
    bridge: &Bridge,
    facts: &Facts,
    workers: &[usize],
) -> Vec<Finding> {
    let nic = &facts.nic;
    let mut all = vec![
        link(nic),
        mtu(bridge, nic),
        offloads(bridge, nic),
        driver(tree, bridge, facts),
    ];
    if nic.rx_queues > 1 {
        all.push(symmetry(facts));
    }
    all.push(interrupts(tree, bridge, nic, workers));
    all.into_iter()
        .map(|finding| finding.of(&nic.name))
        .collect()
}

fn link(nic: &Nic) -> Finding {
    let name = &nic.name;
    if nic.controller.is_some() {
        let free = format!("ip link set {name} nomaster");
        return Finding::not_ready(
            "link",
            "belongs to a bridge or bond, which would forward past the gate",
            [free],
        );
    }
    if !nic.up {
        return Finding::not_ready("link", "down", [format!("ip link set {name} up")]);
    }
    Finding::ready("link", "up")
}

fn mtu(bridge: &Bridge, nic: &Nic) -> Finding {
    let room = bringup::room(bridge.chunk);
    if nic.mtu <= room {
        return Finding::ready(
            "MTU",
            format!("{}; a chunk of {} holds {room}", nic.mtu, bridge.chunk),
        );
    }
    let found = format!(
        "{} is more than the {room} that a chunk of {} holds",
        nic.mtu, bridge.chunk
    );
    Finding::not_ready(
        "MTU",
        found,
        [format!("ip link set {} mtu {}", nic.name, room.min(1500))],
    )
}

fn offloads(bridge: &Bridge, nic: &Nic) -> Finding {
    const CHECK: &str = "offloads";
    if nic.features.is_empty() {
        let off = format!("ethtool -K {} gro off lro off rxvlan off", nic.name);
        return Finding::not_ready(CHECK, "the kernel does not tell them", [off]);
    }
    let on = offload::harmful(nic);
    let fixed = on.iter().find(|name| {
        nic.features
            .get(*name)
            .is_some_and(|feature| !feature.changeable)
    });
    if let Some(fixed) = fixed {
        let found = format!("{fixed} is on, and the driver does not let it be switched off");
        return Finding::not_ready(
            CHECK,
            found,
            ["use another NIC: frames would not leave as they came".to_string()],
        );
    }
    if on.is_empty() {
        return Finding::ready(CHECK, "none that changes frames is on");
    }
    let found = format!("{} would change frames", on.join(", "));
    if bridge.offloads == Offloads::Check {
        let off = format!(
            "ethtool {}",
            offload::arguments(&nic.name, &on, false).join(" ")
        );
        return Finding::not_ready(CHECK, found, [off]);
    }
    Finding::ready(
        CHECK,
        format!("{found}; `portcullis run` switches them off, `detach` on again"),
    )
}

fn driver(tree: &Tree, bridge: &Bridge, facts: &Facts) -> Finding {
    const CHECK: &str = "zero copy";
    let nic = &facts.nic;
    let link = tree.path(&format!("sys/class/net/{}/device/driver", nic.name));
    let driver = std::fs::read_link(link).ok();
    let driver = driver.as_ref().and_then(|path| path.file_name()?.to_str());
    let driver = driver.unwrap_or(if nic.veth { "veth" } else { "its driver" });
    if matches!(bridge.mode, Mode::Copy | Mode::Generic) {
        return Finding::ready(CHECK, "not asked for by [bridge] mode");
    }
    let Some(features) = facts.xdp else {
        return Finding::unknown(
            CHECK,
            format!(
                "the kernel does not say what {driver} can (6.3 and later do); `portcullis run` tries, and `status` shows the mode"
            ),
        );
    };
    let instead = |mode: &str| {
        [
            format!("use a NIC whose driver has it: {ZERO_COPY}"),
            format!("or live without it: [bridge] mode = \"{mode}\""),
        ]
    };
    match features {
        XdpFeatures { native: false, .. } => Finding::not_ready(
            CHECK,
            format!("{driver} has no XDP: generic mode, the slowest"),
            instead("generic"),
        ),
        XdpFeatures {
            zero_copy: false, ..
        } => Finding::not_ready(
            CHECK,
            format!("{driver} has XDP without zero copy: the kernel copies every frame"),
            instead("copy"),
        ),
        _ => Finding::ready(CHECK, format!("{driver} has it")),
    }
}

fn symmetry(facts: &Facts) -> Finding {
    const CHECK: &str = "RSS symmetry";
    let nic = &facts.nic;
    let Some(rss) = facts
        .rss
        .as_ref()
        .filter(|rss| rss.symmetric_input || !rss.key.is_empty())
    else {
        return Finding::unknown(
            CHECK,
            format!(
                "the driver does not tell how it chooses among {} queues",
                nic.rx_queues
            ),
        );
    };
    if rss.symmetric() {
        return Finding::ready(
            CHECK,
            "both directions of a flow come out at the same queue",
        );
    }
    let key: Vec<&str> = SYMMETRIC_KEY
        .into_iter()
        .cycle()
        .take(rss.key.len())
        .collect();
    let found =
        "the two directions of a flow go to different workers, which costs them cache misses";
    Finding::not_ready(
        CHECK,
        found,
        [format!("ethtool -X {} hkey {}", nic.name, key.join(":"))],
    )
}

/// Without busy polling interrupts must leave the workers' cores alone; with it the kernel's half runs on the worker's core, and
/// the interrupt that starts it belongs there.
fn interrupts(tree: &Tree, bridge: &Bridge, nic: &Nic, workers: &[usize]) -> Finding {
    const CHECK: &str = "interrupts";
    let numbers = numbers(tree, &nic.name);
    if numbers.is_empty() {
        let why = if nic.veth {
            "a veth has none"
        } else {
            "the kernel does not tell which are this NIC's"
        };
        return Finding::unknown(CHECK, why);
    }
    let busy = bridge.busy_poll.is_some();
    let online = tree
        .cores("sys/devices/system/cpu/online")
        .unwrap_or_default();
    let others: Vec<usize> = online
        .into_iter()
        .filter(|core| !workers.contains(core))
        .collect();
    let mut mend = Vec::new();
    for (at, irq) in numbers.iter().enumerate() {
        let read = |name: &str| {
            tree.read(&format!("proc/irq/{irq}/{name}"))
                .and_then(|text| parse_list(&text))
        };
        let Some(cores) = read("effective_affinity_list")
            .filter(|cores| !cores.is_empty())
            .or_else(|| read("smp_affinity_list"))
        else {
            continue;
        };
        let right: &[usize] = if busy {
            &workers[at % workers.len()..=at % workers.len()]
        } else {
            &others
        };
        if !right.is_empty() && !cores.iter().all(|core| right.contains(core)) {
            mend.push(format!(
                "echo {} > /proc/irq/{irq}/smp_affinity_list",
                list(right)
            ));
        }
    }
    let place = if busy {
        "on the core of their worker, as busy polling wants it"
    } else {
        "off the workers' cores"
    };
    if mend.is_empty() {
        return Finding::ready(CHECK, format!("{} of them, {place}", numbers.len()));
    }
    let found = format!("{} of {} are not {place}", mend.len(), numbers.len());
    Finding::not_ready(CHECK, found, mend)
}

/// The interrupts of a NIC's queues: those of its device that bear its name, else all of the device but the first where there
/// are more than one, which is for its configuration. A virtio device has them at its parent.
fn numbers(tree: &Tree, nic: &str) -> Vec<u32> {
    let table = tree.read("proc/interrupts").unwrap_or_default();
    let named: Vec<u32> = table
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.split_once(':')?;
            let mine = rest.split([' ', ',']).any(|word| {
                word == nic
                    || word
                        .strip_prefix(nic)
                        .is_some_and(|rest| rest.starts_with('-'))
            });
            mine.then(|| number.trim().parse().ok())?
        })
        .collect();
    if !named.is_empty() {
        return named;
    }
    for folder in ["device/msi_irqs", "device/../msi_irqs"] {
        let names = tree.names(&format!("sys/class/net/{nic}/{folder}"));
        let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
        numbers.sort_unstable();
        match numbers.len() {
            0 => continue,
            1 => return numbers,
            _ => return numbers.split_off(1),
        }
    }
    Vec::new()
}
