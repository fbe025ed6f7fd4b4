//! The workers' cores: whether anything else runs there.

use super::finding::Finding;
use super::tree::{Tree, list};

/// Everything about the cores that workers will be pinned to.
pub(super) fn checks(tree: &Tree, workers: &[usize]) -> Vec<Finding> {
    vec![
        isolated(tree, workers),
        siblings(tree, workers),
        governor(tree, workers),
    ]
}

/// Those of `workers` that are not in `cores`.
fn missing(workers: &[usize], cores: &[usize]) -> Vec<usize> {
    workers
        .iter()
        .copied()
        .filter(|core| !cores.contains(core))
        .collect()
}

fn isolated(tree: &Tree, workers: &[usize]) -> Finding {
    const CHECK: &str = "isolated cores";
    let online = tree
        .cores("sys/devices/system/cpu/online")
        .unwrap_or_default();
    if !online.is_empty() && online.iter().all(|core| workers.contains(core)) {
        return Finding::not_ready(
            CHECK,
            format!("the workers have every core there is ({})", list(workers)),
            [format!(
                "leave one to the rest: [bridge] cores = [{}]",
                list(&workers[1..])
            )],
        );
    }
    let read = |name: &str| {
        tree.cores(&format!("sys/devices/system/cpu/{name}"))
            .unwrap_or_default()
    };
    let busy = missing(workers, &read("isolated"));
    let ticking = missing(workers, &read("nohz_full"));
    if busy.is_empty() && ticking.is_empty() {
        return Finding::ready(CHECK, format!("{}, without ticks", list(workers)));
    }
    let found = match (busy.is_empty(), ticking.is_empty()) {
        (false, _) => format!("other programs run on {}, where workers are", list(&busy)),
        (true, _) => format!("the timer ticks on {}, where workers are", list(&ticking)),
    };
    let all = list(workers);
    Finding::not_ready(
        CHECK,
        found,
        [
            format!(
                "add to GRUB_CMDLINE_LINUX in /etc/default/grub: isolcpus={all} nohz_full={all} rcu_nocbs={all}"
            ),
            "update-grub, and reboot".to_string(),
        ],
    )
}

fn siblings(tree: &Tree, workers: &[usize]) -> Finding {
    const CHECK: &str = "SMT siblings";
    let isolated = tree
        .cores("sys/devices/system/cpu/isolated")
        .unwrap_or_default();
    let mut shared = Vec::new();
    let mut known = false;
    for core in workers {
        let path = format!("sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
        let Some(threads) = tree.cores(&path) else {
            continue;
        };
        known = true;
        // One that is kept free by isolation takes nothing away.
        let other = threads.into_iter().filter(|other| other != core);
        shared.extend(
            other
                .filter(|other| workers.contains(other) || !isolated.contains(other))
                .map(|other| (*core, other)),
        );
    }
    if !known {
        return Finding::unknown(CHECK, "the kernel does not tell which cores share one");
    }
    match shared[..] {
        [] => Finding::ready(CHECK, "no worker shares its core"),
        [(core, other), ..] => Finding::not_ready(
            CHECK,
            format!("core {core} of a worker and core {other} are one, and take from each other"),
            [
                "echo off > /sys/devices/system/cpu/smt/control".to_string(),
                "or name cores in [bridge] cores that share with no busy one: lscpu -e".to_string(),
            ],
        ),
    }
}

fn governor(tree: &Tree, workers: &[usize]) -> Finding {
    const CHECK: &str = "CPU governor";
    let of = |core: usize| {
        tree.read(&format!(
            "sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"
        ))
    };
    let governors: Vec<(usize, String)> = workers
        .iter()
        .filter_map(|core| Some((*core, of(*core)?)))
        .collect();
    let slow: Vec<&(usize, String)> = governors
        .iter()
        .filter(|(_, name)| name != "performance")
        .collect();
    match (governors.is_empty(), slow.first()) {
        (true, _) => Finding::ready(CHECK, "none: this system does not set its frequency"),
        (false, None) => Finding::ready(CHECK, "performance"),
        (false, Some((core, name))) => Finding::not_ready(
            CHECK,
            format!("{name} on core {core}, which slows down when little comes"),
            slow.iter().map(|(core, _)| {
                format!(
                    "echo performance > /sys/devices/system/cpu/cpu{core}/cpufreq/scaling_governor"
                )
            }),
        ),
    }
}
