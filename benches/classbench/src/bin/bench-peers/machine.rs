//! What it is measured on.

use crate::Failure;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: i32) {
    STOPPED.store(true, Relaxed);
}

/// From here on a signal that asks to stop only sets what [`stopped`] reads, so that everything is given back on the
/// way out.
pub fn catch_signals() -> Result<(), Failure> {
    for which in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic, which is allowed in a signal handler.
        unsafe { signal(which, SigHandler::Handler(stop)) }?;
    }
    Ok(())
}

/// An error as soon as a signal asked to stop.
pub fn stopped() -> Result<(), Failure> {
    if STOPPED.load(Relaxed) {
        return Err("stopped by a signal".into());
    }
    Ok(())
}

/// Huge pages of 2 MiB that the peer may need at once: its largest table and its trace.
const PAGES: usize = 768;
const COUNT: &str = "/proc/sys/vm/nr_hugepages";

/// Huge pages reserved for this run; given back when dropped.
pub struct HugePages(String);

impl HugePages {
    /// `None` where there are none to be had: not root, or not that much memory in one piece.
    pub fn reserve() -> Option<HugePages> {
        let before = read(COUNT);
        let number = |text: &str| text.parse::<usize>().unwrap_or(0);
        let wanted = number(&before) + PAGES;
        std::fs::write(COUNT, wanted.to_string()).ok()?;
        let reserved = HugePages(before);
        (number(&read(COUNT)) >= wanted).then_some(reserved)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(COUNT, &self.0);
    }
}

/// Cores of the machine.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The processor, in words.
pub fn processor() -> String {
    let text = read("/proc/cpuinfo");
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':'));
    name.map_or(std::env::consts::ARCH.to_owned(), |(_, name)| {
        name.trim().to_owned()
    })
}

/// What a reader has to know to judge the figures, and to run them again.
pub fn facts() -> Vec<(&'static str, String)> {
    let changed = if said("git", &["status", "--porcelain"]).is_empty() {
        ""
    } else {
        ", with changes"
    };
    let command: Vec<String> = std::env::args().collect();
    vec![
        ("commit", said("git", &["rev-parse", "HEAD"]) + changed),
        ("command", command.join(" ")),
        ("processor", format!("{}, {} cores", processor(), cores())),
        (
            "kernel",
            format!(
                "{} {}",
                read("/proc/sys/kernel/osrelease"),
                read("/proc/sys/kernel/version")
            ),
        ),
        (
            "transparent huge pages",
            read("/sys/kernel/mm/transparent_hugepage/enabled"),
        ),
        ("rustc", said("rustc", &["--version"])),
        (
            "DPDK",
            said("dpkg-query", &["-W", "-f", "${Version}", "dpdk-dev"]),
        ),
        ("load before", read("/proc/loadavg")),
    ]
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

fn said(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output();
    done.map_or(String::new(), |done| {
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    })
}
