//! The machine itself: kernel, memory, clock.

use super::finding::Finding;
use super::tree::Tree;
use crate::config::Bridge;

/// The oldest kernel: BPF maps are used after the capabilities are given up (5.19); AF_XDP with shared memory between NICs is older.
const OLDEST: (u32, u32) = (5, 19);
/// Bytes of a huge page.
const HUGE: u64 = 2 << 20;
/// `CAP_IPC_LOCK` (linux/capability.h): who has it is under no limit of locked memory.
const CAP_IPC_LOCK: u32 = 14;
/// Clocks that are read without leaving the processor.
const FAST_CLOCKS: [&str; 4] = [
    "tsc",
    "kvm-clock",
    "hyperv_clocksource_tsc_page",
    "arch_sys_counter",
];

/// Everything about the machine; `pairs` is how many queue pairs there will be.
pub(super) fn checks(tree: &Tree, bridge: &Bridge, pairs: u32) -> Vec<Finding> {
    vec![
        kernel(tree),
        bpffs(tree, bridge),
        huge_pages(tree, bridge, pairs),
        memlock(tree, bridge, pairs),
        clock(tree),
        irqbalance(tree),
    ]
}

fn kernel(tree: &Tree) -> Finding {
    let Some(release) = tree.read("proc/sys/kernel/osrelease") else {
        return Finding::unknown("kernel", "/proc does not tell its release");
    };
    let mut parts = release
        .split(['.', '-'])
        .map(|part| part.parse::<u32>().ok());
    let version = (parts.next().flatten(), parts.next().flatten());
    let (Some(major), Some(minor)) = version else {
        return Finding::unknown("kernel", release);
    };
    if (major, minor) < OLDEST {
        let upgrade = "apt install linux-image-amd64, and reboot: 5.19 is the oldest that works";
        return Finding::not_ready("kernel", release, [upgrade.to_string()]);
    }
    Finding::ready("kernel", release)
}

fn bpffs(tree: &Tree, bridge: &Bridge) -> Finding {
    let path = bridge.bpffs.display().to_string();
    let mounts = tree.read("proc/mounts").unwrap_or_default();
    let there = mounts.lines().any(|line| {
        let mut words = line.split(' ').skip(1);
        words.next() == Some(path.as_str()) && words.next() == Some("bpf")
    });
    if there {
        return Finding::ready("bpffs", format!("mounted at {path}"));
    }
    let mount = format!("mount -t bpf bpf {path}");
    Finding::not_ready(
        "bpffs",
        format!("not mounted at {path}, where the gate is pinned"),
        [mount],
    )
}

/// Bytes of packet memory.
fn packet_memory(bridge: &Bridge, pairs: u32) -> u64 {
    u64::from(bridge.frames) * u64::from(bridge.chunk) * u64::from(pairs.max(1))
}

fn huge_pages(tree: &Tree, bridge: &Bridge, pairs: u32) -> Finding {
    const CHECK: &str = "huge pages";
    if !bridge.huge_pages {
        return Finding::ready(CHECK, "not asked for: [bridge] huge_pages = false");
    }
    let wanted = packet_memory(bridge, pairs).div_ceil(HUGE);
    let dir = "sys/kernel/mm/hugepages/hugepages-2048kB";
    let Some(there) = tree.number(&format!("{dir}/nr_hugepages")) else {
        return Finding::unknown(
            CHECK,
            "this kernel has none of 2 MiB; [bridge] huge_pages = false goes without",
        );
    };
    let free = tree.number(&format!("{dir}/free_hugepages")).unwrap_or(0);
    let found = format!("{there} of 2 MiB, {free} of them free; packet memory takes {wanted}");
    // A gate that runs has taken its own out of the free ones.
    if there >= wanted {
        return Finding::ready(CHECK, found);
    }
    let now = format!("sysctl -w vm.nr_hugepages={wanted}");
    let boot = format!("echo vm.nr_hugepages={wanted} > /etc/sysctl.d/60-portcullis.conf");
    Finding::not_ready(CHECK, found, [now, boot])
}

/// Of this process: the service has a limit of its own.
fn memlock(tree: &Tree, bridge: &Bridge, pairs: u32) -> Finding {
    const CHECK: &str = "memlock";
    let status = tree.read("proc/self/status").unwrap_or_default();
    let capabilities = status
        .lines()
        .find_map(|line| u64::from_str_radix(line.strip_prefix("CapEff:")?.trim(), 16).ok());
    if capabilities.is_some_and(|bits| bits >> CAP_IPC_LOCK & 1 == 1) {
        return Finding::ready(
            CHECK,
            "no limit holds for who has CAP_IPC_LOCK, as root has",
        );
    }
    let limits = tree.read("proc/self/limits").unwrap_or_default();
    let limit = limits.lines().find_map(|line| {
        let rest = line.strip_prefix("Max locked memory")?;
        rest.split_whitespace().next().map(str::to_string)
    });
    let wanted = packet_memory(bridge, pairs);
    match limit.as_deref() {
        Some("unlimited") => Finding::ready(CHECK, "unlimited"),
        Some(limit) if limit.parse::<u64>().is_ok_and(|bytes| bytes >= wanted) => Finding::ready(
            CHECK,
            format!("{limit} bytes; packet memory takes {wanted}"),
        ),
        Some(limit) => Finding::not_ready(
            CHECK,
            format!("{limit} bytes for this user; packet memory takes {wanted}"),
            [
                "ulimit -l unlimited, or start it by its unit, which has LimitMEMLOCK=infinity"
                    .to_string(),
            ],
        ),
        None => Finding::unknown(CHECK, "/proc does not tell the limit"),
    }
}

fn clock(tree: &Tree) -> Finding {
    let dir = "sys/devices/system/clocksource/clocksource0";
    let Some(current) = tree.read(&format!("{dir}/current_clocksource")) else {
        return Finding::unknown("clock source", "the kernel does not tell it");
    };
    if FAST_CLOCKS.contains(&current.as_str()) {
        return Finding::ready("clock source", current);
    }
    let available = tree
        .read(&format!("{dir}/available_clocksource"))
        .unwrap_or_default();
    let fast = available.split(' ').find(|name| FAST_CLOCKS.contains(name));
    let mend = match fast {
        Some(fast) => format!("echo {fast} > /{dir}/current_clocksource"),
        None => "journalctl -k -g clocksource, which says why the processor's clock is not used"
            .to_string(),
    };
    Finding::not_ready(
        "clock source",
        format!("{current}, which is slow to read"),
        [mend],
    )
}

fn irqbalance(tree: &Tree) -> Finding {
    let processes = tree.names("proc");
    let found = processes
        .iter()
        .filter(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
        .find(|pid| tree.read(&format!("proc/{pid}/comm")).as_deref() == Some("irqbalance"));
    match found {
        None => Finding::ready("irqbalance", "not running"),
        Some(pid) => Finding::not_ready(
            "irqbalance",
            format!("runs as process {pid}, and moves interrupts to the workers' cores"),
            ["systemctl disable --now irqbalance".to_string()],
        ),
    }
}
