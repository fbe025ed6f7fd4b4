//! The ways in which a gate fails, caused to the process from outside.

use crate::{Error, Result};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// What happens to the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SIGKILL to the process.
    Kill,
    /// SIGABRT to the process: the end of a panic, which aborts in what is shipped.
    Abort,
    /// The kernel kills it for want of memory.
    OutOfMemory,
    /// SIGSTOP to the process, SIGCONT at the end.
    Stop,
    /// Its worker is held by a debugger, the rest of it runs on.
    Stuck,
    /// It is stopped in good order and started again at once: what an upgrade costs without a service manager.
    Restart,
    /// The same under a service manager that keeps its sockets for the next process.
    Handover,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 7] = [
        Cause::Kill,
        Cause::Abort,
        Cause::OutOfMemory,
        Cause::Stop,
        Cause::Stuck,
        Cause::Restart,
        Cause::Handover,
    ];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Kill => "kill",
            Cause::Abort => "abort",
            Cause::OutOfMemory => "oom",
            Cause::Stop => "stop",
            Cause::Stuck => "stuck",
            Cause::Restart => "restart",
            Cause::Handover => "handover",
        }
    }

    /// Whether the process lives on, so that only its heartbeat tells.
    pub fn is_a_hang(self) -> bool {
        matches!(self, Cause::Stop | Cause::Stuck)
    }

    /// Whether it is none: nothing may be lost, and the gate never comes into its fail mode.
    pub fn is_a_handover(self) -> bool {
        self == Cause::Handover
    }

    /// Causes it. `None` where this machine has no way to, which is said on standard error.
    pub(super) fn start(self, pid: u32, dir: &Path) -> Result<Option<Caused>> {
        let process = Pid::from_raw(pid.cast_signed());
        let signal = |signal| kill(process, signal).map_err(os("signalling the gate"));
        let (mut worker, mut hog) = (None, None);
        let at = match self {
            Cause::OutOfMemory => match Hog::start(pid, dir)? {
                Some(started) => {
                    hog = Some(started);
                    Hog::await_end(pid)?
                }
                None => return Ok(None),
            },
            Cause::Stuck => {
                let thread = worker_of(pid)?;
                ptrace::seize(thread, ptrace::Options::empty()).map_err(os("holding a worker"))?;
                let at = Instant::now();
                ptrace::interrupt(thread).map_err(os("holding a worker"))?;
                waitpid(thread, Some(WaitPidFlag::__WALL)).map_err(os("holding a worker"))?;
                worker = Some(thread);
                at
            }
            Cause::Kill | Cause::Abort | Cause::Stop | Cause::Restart | Cause::Handover => {
                let at = Instant::now();
                signal(match self {
                    Cause::Kill => Signal::SIGKILL,
                    Cause::Abort => Signal::SIGABRT,
                    Cause::Restart | Cause::Handover => Signal::SIGTERM,
                    _ => Signal::SIGSTOP,
                })?;
                at
            }
        };
        Ok(Some(Caused {
            at,
            process,
            cause: self,
            worker,
            _hog: hog,
        }))
    }
}

/// A failure that lasts.
pub(super) struct Caused {
    /// When it began.
    pub at: Instant,
    process: Pid,
    cause: Cause,
    worker: Option<Pid>,
    _hog: Option<Hog>,
}

impl Caused {
    /// Ends it, where the process lives. Says when.
    pub fn end(mut self) -> Result<Instant> {
        let at = Instant::now();
        if self.cause == Cause::Stop {
            kill(self.process, Signal::SIGCONT).map_err(os("signalling the gate"))?;
        }
        if let Some(worker) = self.worker.take() {
            ptrace::detach(worker, None).map_err(os("letting a worker go"))?;
        }
        Ok(at)
    }
}

fn os(what: &'static str) -> impl Fn(nix::Error) -> Error {
    move |e| Error::Io {
        what: what.to_owned(),
        source: e.into(),
    }
}

/// The first worker thread of a process.
fn worker_of(pid: u32) -> Result<Pid> {
    let io = || Error::io("looking for a worker");
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).map_err(io())? {
        let path = task.map_err(io())?.path();
        let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
        let id = path.file_name().and_then(|id| id.to_str()?.parse().ok());
        if let (true, Some(id)) = (name.starts_with("worker-"), id) {
            return Ok(Pid::from_raw(id));
        }
    }
    Err(Error::Answer {
        what: "the gate's threads".into(),
        said: "there is no worker among them".into(),
    })
}

/// What a control group of the hog and the gate may take, bytes. What the gate has taken before does not count in it.
const ROOM: &str = "33554432";
/// The kernel takes its time to find out that nothing can be freed.
const DIES: Duration = Duration::from_secs(20);

/// A program that takes more memory than there is, in a memory control group with the gate, which the kernel is to choose.
struct Hog {
    child: Child,
    group: PathBuf,
}

impl Hog {
    fn start(pid: u32, dir: &Path) -> Result<Option<Hog>> {
        let Some((group, limit)) = group(dir) else {
            eprintln!("oom: no memory control group can be made here");
            return Ok(None);
        };
        let write = |file: &Path, text: &str| {
            std::fs::write(file, text).map_err(Error::io(format!("writing {}", file.display())))
        };
        write(&group.join(limit), ROOM)?;
        write(Path::new(&format!("/proc/{pid}/oom_score_adj")), "1000")?;
        write(&group.join("cgroup.procs"), &pid.to_string())?;
        // It joins, takes 64 MiB and waits to be ended. It is spared: what it wants is there when the gate is gone.
        let script = format!(
            "echo $$ > {}/cgroup.procs; echo -900 > /proc/self/oom_score_adj; x=$(head -c 67108864 /dev/zero | tr '\\0' x); sleep 20",
            group.display()
        );
        let child = Command::new("sh")
            .args(["-c", &script])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("starting a program that takes memory"))?;
        Ok(Some(Hog { child, group }))
    }

    /// When the process was killed: looked for every quarter of a millisecond.
    fn await_end(pid: u32) -> Result<Instant> {
        let status = format!("/proc/{pid}/status");
        let limit = Instant::now() + DIES;
        let dying = || {
            let text = std::fs::read_to_string(&status).unwrap_or_default();
            let pending = |key: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(key));
                line.is_some_and(|mask| {
                    u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << 8) != 0)
                })
            };
            text.is_empty()
                || text.contains("State:\tZ")
                || pending("SigPnd:")
                || pending("ShdPnd:")
        };
        while !dying() {
            if Instant::now() > limit {
                return Err(Error::Timeout {
                    what: "the kernel to kill the gate for want of memory".into(),
                    limit: DIES,
                });
            }
            std::thread::sleep(Duration::from_micros(250));
        }
        Ok(Instant::now())
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Those that it started end with their pipes.
        for _ in 0..100 {
            if std::fs::remove_dir(&self.group).is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A memory control group of either version, and the name of its limit.
fn group(dir: &Path) -> Option<(PathBuf, &'static str)> {
    let name = dir.file_name()?;
    for (root, limit) in [
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
        ("/sys/fs/cgroup", "memory.max"),
    ] {
        let group = Path::new(root).join(name);
        if std::fs::create_dir(&group).is_ok() {
            if group.join(limit).exists() {
                return Some((group, limit));
            }
            let _ = std::fs::remove_dir(&group);
        }
    }
    None
}
