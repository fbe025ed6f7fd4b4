//! Programs with a time limit, and programs that must not outlive the rig.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::{Error, Result};

/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(15);

/// How long a daemon may take to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(2);

static INTERRUPTED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From here on SIGINT, SIGTERM and SIGHUP do not end the process: they end every wait of this crate with
/// [`Error::Interrupted`], so that the stack unwinds and everything is taken down.
pub fn catch_signals() -> Result<()> {
    let flag = INTERRUPTED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(flag))
            .map_err(Error::io("catching signals"))?;
    }
    Ok(())
}

/// True once a caught signal has arrived.
pub fn interrupted() -> bool {
    INTERRUPTED
        .get()
        .is_some_and(|flag| flag.load(Ordering::Relaxed))
}

/// [`Error::Interrupted`] once a caught signal has arrived.
pub fn check_interrupt() -> Result<()> {
    if interrupted() {
        Err(Error::Interrupted)
    } else {
        Ok(())
    }
}

/// Polls until `done` gives a value; [`Error::Timeout`] names `what` when `limit` has passed.
pub fn poll_until<T>(
    what: &str,
    limit: Duration,
    mut done: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = done()? {
            return Ok(value);
        }
        check_interrupt()?;
        if Instant::now() >= deadline {
            return Err(Error::Timeout {
                what: what.to_owned(),
                limit,
            });
        }
        std::thread::sleep(POLL);
    }
}

/// What a program that ended, or was ended, left.
#[derive(Debug)]
pub struct Output {
    /// Its exit status; a signal where it was ended.
    pub status: ExitStatus,
    /// True where `limit` passed first.
    pub timed_out: bool,
    /// What it wrote to stdout.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Output {
    /// True where it ended by itself with status 0.
    pub fn success(&self) -> bool {
        !self.timed_out && self.status.success()
    }
}

/// Runs `command` to its end or until `limit`, with `input` on stdin; its whole process group is gone afterwards.
pub fn run(command: &mut Command, input: &str, limit: Duration) -> Result<Output> {
    run_until(command, input, limit, || false)
}

/// As [`run`], and not ended by a signal that the rig caught: for taking things down, which is what a signal asks for.
pub(crate) fn run_regardless(command: &mut Command, limit: Duration) -> Result<Output> {
    run_while(command, "", limit, || Ok(true))
}

/// As [`run`], and ends the program as soon as `enough` says that it has done what it was started for.
pub(crate) fn run_until(
    command: &mut Command,
    input: &str,
    limit: Duration,
    mut enough: impl FnMut() -> bool,
) -> Result<Output> {
    run_while(command, input, limit, || {
        check_interrupt().map(|()| !enough())
    })
}

/// Runs `command` until it ends, `limit` passes, or `go_on` says no or fails.
fn run_while(
    command: &mut Command,
    input: &str,
    limit: Duration,
    mut go_on: impl FnMut() -> Result<bool>,
) -> Result<Output> {
    // Files, not pipes: a grandchild that keeps a pipe open cannot hold up the reader, nor a full pipe the program.
    let file = || tempfile::tempfile().map_err(Error::io("making a temporary file"));
    let (mut stdin, mut stdout, mut stderr) = (file()?, file()?, file()?);
    stdin
        .write_all(input.as_bytes())
        .and_then(|()| stdin.rewind())
        .map_err(Error::io("writing the input of a program"))?;
    let handle = |file: &File| {
        file.try_clone()
            .map_err(Error::io("duplicating a descriptor"))
    };
    command
        .stdin(stdin)
        .stdout(handle(&stdout)?)
        .stderr(handle(&stderr)?);

    let start = Instant::now();
    let mut group = Group::spawn(command)?;
    let mut timed_out = false;
    let status = loop {
        if let Some(status) = group.try_wait()? {
            break status;
        }
        if !go_on()? {
            break group.end()?;
        }
        if start.elapsed() >= limit {
            timed_out = true;
            break group.end()?;
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let took = start.elapsed();
    drop(group);
    Ok(Output {
        status,
        timed_out,
        stdout: text(&mut stdout)?,
        stderr: text(&mut stderr)?,
        took,
    })
}

/// How long a program may take that only sets something up or takes it down.
const SETUP: Duration = Duration::from_secs(20);

/// Runs a program that has to succeed, and only sets something up or takes it down; gives its stdout.
pub fn must(command: &mut Command, input: &str) -> Result<String> {
    must_within(command, input, SETUP)
}

/// The same for one that may take `limit`.
pub fn must_within(command: &mut Command, input: &str, limit: Duration) -> Result<String> {
    let output = run(command, input, limit)?;
    checked(command, output, limit)
}

/// As [`must`], and not ended by a signal that the rig caught.
pub(crate) fn must_regardless(command: &mut Command) -> Result<String> {
    let output = run_regardless(command, SETUP)?;
    checked(command, output, SETUP)
}

fn checked(command: &Command, output: Output, limit: Duration) -> Result<String> {
    if output.timed_out {
        return Err(Error::Timeout {
            what: line(command),
            limit,
        });
    }
    if !output.success() {
        return Err(Error::Command {
            command: line(command),
            status: words(output.status),
            said: output.stderr.trim().to_owned(),
        });
    }
    Ok(output.stdout)
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    log: PathBuf,
    group: Group,
}

/// Starts a program that runs until the [`Daemon`] is dropped; stdout and stderr go to `log`.
///
/// It also ends when the *thread* that called this ends (`PR_SET_PDEATHSIG`, prctl(2)): start daemons from the
/// thread that owns the rig.
pub fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Daemon> {
    let file = File::create(log).map_err(Error::io(format!("creating {}", log.display())))?;
    let again = file
        .try_clone()
        .map_err(Error::io("duplicating a descriptor"))?;
    command.stdin(Stdio::null()).stdout(file).stderr(again);
    let group = Group::spawn(command)?;
    Ok(Daemon {
        name: name.to_owned(),
        log: log.to_owned(),
        group,
    })
}

impl Daemon {
    /// What it was called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id of the program.
    pub fn pid(&self) -> u32 {
        self.group.child.id()
    }

    /// Everything it has written so far.
    pub fn log(&self) -> String {
        std::fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// [`Error::Ended`], with the end of its log, where it has ended.
    pub fn check(&mut self) -> Result<()> {
        match self.group.try_wait()? {
            None => Ok(()),
            Some(status) => Err(Error::Ended {
                name: self.name.clone(),
                said: format!("{}: {}", words(status), tail(&self.log(), 12)),
            }),
        }
    }

    /// Waits until it has ended.
    pub fn ended(&mut self, limit: Duration) -> Result<()> {
        let what = format!("{} to end", self.name);
        let deadline = Instant::now() + limit;
        while self.group.try_wait()?.is_none() {
            check_interrupt()?;
            if Instant::now() > deadline {
                return Err(Error::Timeout { what, limit });
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Sends `signal` to the program alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        nix::sys::signal::kill(self.group.id(), signal).map_err(|e| Error::Io {
            what: format!("signalling {}", self.name),
            source: e.into(),
        })
    }

    /// SIGTERM, then SIGKILL when it has not ended within `limit`; true where SIGTERM was enough.
    pub fn stop(mut self, limit: Duration) -> Result<bool> {
        let clean = self.group.terminate(limit)?;
        Ok(clean)
    }
}

/// A child with its descendants, in a process group of their own, so that a Ctrl-C at the terminal reaches only the
/// rig and the rig can end them all.
#[derive(Debug)]
struct Group {
    child: Child,
    reaped: Option<ExitStatus>,
}

impl Group {
    fn spawn(command: &mut Command) -> Result<Group> {
        let child = command
            .process_group(0)
            .spawn()
            .map_err(Error::io(line(command)))?;
        Ok(Group {
            child,
            reaped: None,
        })
    }

    fn id(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.reaped.is_none() {
            self.reaped = self
                .child
                .try_wait()
                .map_err(Error::io("waiting for a program"))?;
        }
        Ok(self.reaped)
    }

    /// SIGKILL to the group, and the status of the child.
    fn end(&mut self) -> Result<ExitStatus> {
        // ESRCH says that the group is empty, which is what is wanted. Its id is not taken anew while a member lives.
        let _ = killpg(self.id(), Signal::SIGKILL);
        match self.reaped {
            Some(status) => Ok(status),
            None => {
                let status = self
                    .child
                    .wait()
                    .map_err(Error::io("waiting for a program"))?;
                self.reaped = Some(status);
                Ok(status)
            }
        }
    }

    /// SIGTERM to the child's group, SIGKILL after `limit`; true where the first was enough.
    fn terminate(&mut self, limit: Duration) -> Result<bool> {
        let deadline = Instant::now() + limit;
        let _ = killpg(self.id(), Signal::SIGTERM);
        while self.try_wait()?.is_none() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
        let clean = self.reaped.is_some();
        self.end()?;
        Ok(clean)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = match self.reaped {
            Some(_) => self.end().map(|_| true),
            None => self.terminate(GRACE),
        };
    }
}

fn text(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut bytes))
        .map_err(Error::io("reading what a program wrote"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last `lines` lines of `text`, in one line.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join(" | ")
}

fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|w| w.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_program_that_ends_in_time_gives_status_and_text() {
        let output = run(
            &mut sh("cat; echo said >&2; exit 3"),
            "given",
            Duration::from_secs(5),
        )
        .unwrap();
        assert_eq!(
            (output.stdout.as_str(), output.stderr.as_str()),
            ("given", "said\n")
        );
        assert_eq!(output.status.code(), Some(3));
        assert!(!output.timed_out && !output.success());
    }

    #[test]
    fn a_program_over_its_limit_is_ended_with_its_children() {
        let start = Instant::now();
        let output = run(
            &mut sh("sleep 60 & echo $!; wait"),
            "",
            Duration::from_millis(200),
        )
        .unwrap();
        assert!(output.timed_out && start.elapsed() < Duration::from_secs(5));
        let grandchild = format!("/proc/{}/status", output.stdout.trim());
        poll_until("the grandchild's end", Duration::from_secs(5), || {
            let state = std::fs::read_to_string(&grandchild).unwrap_or_default();
            Ok((state.is_empty() || state.contains("State:\tZ")).then_some(()))
        })
        .unwrap();
    }

    #[test]
    fn a_daemon_that_ended_says_so_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut daemon = spawn(
            "short",
            &mut sh("echo no such file; exit 1"),
            &dir.path().join("log"),
        )
        .unwrap();
        let error = poll_until("its end", Duration::from_secs(5), || {
            Ok(daemon.check().err())
        })
        .unwrap();
        assert_eq!(
            error.to_string(),
            "short ended: exit status 1: no such file"
        );
    }

    #[test]
    fn a_daemon_that_ignores_sigterm_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let daemon = spawn(
            "deaf",
            &mut sh("trap '' TERM; echo up; while :; do sleep 0.1; done"),
            &log,
        )
        .unwrap();
        poll_until("its start", Duration::from_secs(5), || {
            Ok(daemon.log().contains("up").then_some(()))
        })
        .unwrap();
        assert!(!daemon.stop(Duration::from_millis(100)).unwrap());
    }

    #[test]
    fn a_wait_reaches_its_deadline() {
        let result = poll_until::<()>("nothing", Duration::from_millis(30), || Ok(None));
        assert!(matches!(result, Err(Error::Timeout { .. })));
    }
}
