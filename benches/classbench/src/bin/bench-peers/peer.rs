//! DPDK's `dpdk-test-acl`: how it is called and what it says.

use crate::{BURST, Failure};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode as Permissions;
use portcullis::policy::Family;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::{JoinHandle, spawn};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The longest that one run may take; building 100,000 rules takes seconds.
const PATIENCE: Duration = Duration::from_secs(180);

/// How the peer is to search: its code path, and for IPv6 how it cuts addresses into fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// `--alg`.
    pub alg: &'static str,
    /// `--ipv6`: fields of four bytes or of eight; `None` for IPv4.
    pub field: Option<&'static str>,
}

impl Mode {
    /// Those of x86 and of other machines; what this one cannot do is refused by the program.
    pub fn all(v6: bool) -> Vec<Mode> {
        let algs = if cfg!(target_arch = "x86_64") {
            &["scalar", "sse", "avx2", "avx512x16", "avx512x32"][..]
        } else {
            &["scalar", "neon", "altivec"]
        };
        let fields: &[Option<&str>] = if v6 {
            &[Some("4B"), Some("8B")]
        } else {
            &[None]
        };
        let modes = fields
            .iter()
            .flat_map(|&field| algs.iter().map(move |&alg| Mode { alg, field }));
        modes.collect()
    }
}

impl std::fmt::Display for Mode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let field = self
            .field
            .map_or(String::new(), |field| format!(" {field}"));
        write!(f, "{}{field}", self.alg)
    }
}

/// A rule set and a trace where the peer can read them; gone when dropped.
pub struct Files {
    folder: TempDir,
    rules: String,
    rule_count: usize,
    packets: usize,
    family: Family,
}

impl Files {
    pub fn write(
        rules: &str,
        trace: &str,
        rule_count: usize,
        packets: usize,
        family: Family,
    ) -> Result<Files, Failure> {
        let folder = tempfile::tempdir()?;
        std::fs::write(folder.path().join("trace"), trace)?;
        nix::unistd::mkfifo(&folder.path().join("rules"), Permissions::S_IRWXU)?;
        Ok(Files {
            folder,
            rules: rules.to_owned(),
            rule_count,
            packets,
            family,
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// What one run of the peer said.
pub struct Run {
    /// Nanoseconds a packet, by its own clock.
    pub ns: f64,
    /// From the last rule being handed over to its table being there.
    pub build: Duration,
    /// Bytes of its table.
    pub bytes: usize,
    /// The line (from 0) that decides each packet; empty where it was not asked.
    pub answers: Vec<Option<usize>>,
}

/// The program, and where it runs.
pub struct Peer {
    program: PathBuf,
    core: usize,
    huge: bool,
}

impl Peer {
    /// On that core; on huge pages where some are reserved.
    pub fn new(program: &Path, core: usize, huge: bool) -> Peer {
        Peer {
            program: program.to_owned(),
            core,
            huge,
        }
    }

    /// Runs it once: it builds its table and passes `passes` times over the trace.
    ///
    /// # Errors
    /// Where it cannot be started, cannot do the mode or cannot build the rule set: the last thing it said.
    pub fn run(
        &self,
        files: &Files,
        mode: Mode,
        passes: usize,
        answers: bool,
    ) -> Result<Run, Failure> {
        let mut child = self
            .command(files, mode, passes, answers)
            .spawn()
            .map_err(|error| {
                format!(
                    "{}: {error}; deploy/setup.sh peers installs it",
                    self.program.display()
                )
            })?;
        let stderr = child.stderr.take().ok_or("no pipe")?;
        let log = spawn(move || timed_lines(stderr));
        let mut stdout = child.stdout.take().ok_or("no pipe")?;
        let said = spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).map(|_| text)
        });
        let fed = feed(&mut child, files);
        let done = wait(&mut child);
        let log = joined(log)?;
        let said = joined(said)??;
        let (fed, done) = (fed?, done?);
        let last = || complaint(log.iter().map(|(_, line)| line.as_str()));
        if !done {
            return Err(last().into());
        }
        let figures = figures(&said)
            .ok_or_else(|| format!("no figures from {}: {}", self.program.display(), last()))?;
        let built = log
            .iter()
            .find(|(_, line)| line.starts_with("ACL: Gen phase"));
        let (built, _) = built.ok_or("it did not say that its table was built")?;
        let bytes = log.iter().find_map(|(_, line)| {
            line.strip_prefix("total: ")?
                .strip_suffix(" bytes")?
                .parse()
                .ok()
        });
        Ok(Run {
            ns: figures,
            build: built.saturating_duration_since(fed),
            bytes: bytes.ok_or("it did not say how large its table is")?,
            answers: said.lines().filter_map(answer).collect(),
        })
    }

    fn command(&self, files: &Files, mode: Mode, passes: usize, answers: bool) -> Command {
        let mut command = Command::new(&self.program);
        // Of the environment (DPDK, "EAL parameters"): no devices, nothing shared, the log of the library told in full.
        command.args(["--no-pci", "--no-telemetry", "--log-level=lib.acl:debug"]);
        let core = self.core.to_string();
        command.args(["--force-max-simd-bitwidth=512", "-l", &core]);
        // `--in-memory` asks for huge pages; together with `--no-huge` it ends in a panic.
        if self.huge {
            command.arg("--in-memory");
        } else {
            command.args(["--no-shconf", "--no-huge", "-m", "4096"]);
        }
        command.arg("--");
        for (option, path) in [("rulesf", "rules"), ("tracef", "trace")] {
            command.arg(format!("--{option}={}", files.path(path).display()));
        }
        command.arg(format!("--rulenum={}", files.rule_count));
        // Not fewer than the file has: it would write past its buffer.
        command.arg(format!("--tracenum={}", files.packets));
        command
            .arg(format!("--tracestep={BURST}"))
            .arg(format!("--iter={passes}"));
        command
            .args(["--bldcat=1", "--runcat=1"])
            .arg(format!("--alg={}", mode.alg));
        if let (Family::V6, Some(field)) = (files.family, mode.field) {
            command.arg(format!("--ipv6={field}"));
        }
        // 3: the answer for each packet too.
        command.arg(format!("--verbose={}", if answers { 3 } else { 0 }));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

/// Writes the rules into the pipe that the peer reads them from, and answers when the last of them were taken: the time
/// at which it can begin to build. It does not say itself how long building takes.
fn feed(child: &mut Child, files: &Files) -> Result<Instant, Failure> {
    let start = Instant::now();
    let pipe = loop {
        match open(
            &files.path("rules"),
            OFlag::O_WRONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC,
            Permissions::empty(),
        ) {
            Ok(pipe) => break pipe,
            // Nobody reads yet.
            Err(Errno::ENXIO) if child.try_wait()?.is_none() && start.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(Errno::ENXIO) => return Ok(start),
            Err(error) => return Err(error.into()),
        }
    };
    fcntl(&pipe, FcntlArg::F_SETFL(OFlag::empty()))?;
    // Small, so that little is still to be read when the last line is in it.
    fcntl(&pipe, FcntlArg::F_SETPIPE_SZ(4096))?;
    // It stops reading where a rule does not please it, and says so itself.
    let _ = File::from(pipe).write_all(files.rules.as_bytes());
    Ok(Instant::now())
}

/// Whether it ended well; it is killed where it does not end.
fn wait(child: &mut Child) -> Result<bool, Failure> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if start.elapsed() > PATIENCE {
            child.kill()?;
            child.wait()?;
            return Err(format!("it did not end in {} s", PATIENCE.as_secs()).into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn joined<T>(thread: JoinHandle<T>) -> Result<T, Failure> {
    thread
        .join()
        .map_err(|_| "a reading thread ended early".into())
}

/// Each line, and when it came.
fn timed_lines(from: impl Read) -> Vec<(Instant, String)> {
    let lines = BufReader::new(from).lines().map_while(Result::ok);
    lines.map(|line| (Instant::now(), line)).collect()
}

/// What it says is wrong, or what it said last.
fn complaint<'a>(log: impl DoubleEndedIterator<Item = &'a str> + Clone) -> String {
    let told = |line: &&str| {
        ["Cause: ", "PANIC", "error"]
            .iter()
            .any(|word| line.contains(word))
    };
    let line = log
        .clone()
        .rfind(told)
        .or_else(|| log.clone().rfind(|line| !line.is_empty()));
    line.unwrap_or("it ended and said nothing")
        .trim()
        .to_owned()
}

/// Nanoseconds a packet out of `... 98.90 cycles/pkt, 26289398.40 pkt/sec`.
fn figures(said: &str) -> Option<f64> {
    let line = said
        .lines()
        .rfind(|line| line.starts_with("search_ip5tuples "))?;
    let rate = line.strip_suffix(" pkt/sec")?.rsplit(' ').next()?;
    let rate: f64 = rate.parse().ok()?;
    (rate > 0.0).then_some(1e9 / rate)
}

/// The line out of `ipv4_5tuple: 1, category: 0, result: 659`; -1, as an unsigned number, is none.
fn answer(line: &str) -> Option<Option<usize>> {
    let result = line.strip_prefix("ipv")?.split_once("result: ")?.1;
    let line: u32 = result.parse().ok()?;
    Some((line != u32::MAX).then_some(line as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_and_answers_of_the_peer_are_read() {
        let said = "search_ip5tuples_once(1, 32, avx2) returns 16384\n\
            search_ip5tuples  @lcore 1: 10 iterations, 163840 pkts, 1 categories, 16203642 cycles (0.01 sec), 98.90 cycles/pkt, 25000000.00 pkt/sec\n";
        assert_eq!(figures(said), Some(40.0));
        assert_eq!(figures("rte_acl_build(1) finished with -12\n"), None);
        assert_eq!(
            answer("ipv4_5tuple: 1, category: 0, result: 659"),
            Some(Some(659))
        );
        assert_eq!(
            answer("ipv6_5tuple: 2, category: 0, result: 4294967295"),
            Some(None)
        );
        assert_eq!(answer("ipv6:0"), None);
    }

    #[test]
    fn the_complaint_of_the_peer_is_the_line_that_names_the_cause() {
        let log = [
            "EAL: Error - exiting with code: -95",
            "  Cause: failed to setup",
            "",
        ];
        assert_eq!(complaint(log.into_iter()), "Cause: failed to setup");
        assert_eq!(complaint(["EAL: x", ""].into_iter()), "EAL: x");
        assert_eq!(complaint([].into_iter()), "it ended and said nothing");
    }

    #[test]
    fn a_mode_of_ipv6_says_how_addresses_are_cut() {
        assert!(Mode::all(false).iter().all(|mode| mode.field.is_none()));
        assert_eq!(Mode::all(true).len(), 2 * Mode::all(false).len());
        assert_eq!(
            Mode {
                alg: "avx2",
                field: Some("8B")
            }
            .to_string(),
            "avx2 8B"
        );
    }
}
