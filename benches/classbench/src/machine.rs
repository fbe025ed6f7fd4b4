//! What a measurement was made on.

use std::process::Command;

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

/// What a reader has to know to judge figures, and to run them again: name and value.
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
        ("load before", read("/proc/loadavg")),
    ]
}

/// The text of a file of the kernel; empty where there is none.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// What a program prints; empty where it cannot be run.
pub fn said(program: &str, arguments: &[&str]) -> String {
    let done = Command::new(program).args(arguments).output();
    done.map_or(String::new(), |done| {
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    })
}
