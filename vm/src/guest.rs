//! A running virtual machine: what it is told from outside, and the programs that run inside.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rig::{Daemon, Error, Namespace, Output, Result, poll_until, spawn};

use crate::qemu::Machine;
use crate::talk::{Agent, Ended, Monitor};

/// How long qemu may take until it listens.
const LISTENS: Duration = Duration::from_secs(20);

/// How long a program that only sets something up may take: emulated ones are slow.
pub const SETUP: Duration = Duration::from_secs(90);

/// How often it is asked whether a program has ended. Each question is work for the guest.
const ASK: Duration = Duration::from_millis(60);

/// What timeout(1) ends with where it killed the program (with SIGKILL).
const KILLED: i32 = 128 + 9;

/// A machine that runs until it is dropped.
#[derive(Debug)]
pub struct Guest {
    name: &'static str,
    qemu: Daemon,
    monitor: Mutex<Monitor>,
    agent: Option<Mutex<Agent>>,
    serial: std::path::PathBuf,
}

/// A program that was started inside.
#[derive(Debug)]
pub struct Job {
    pid: u64,
    since: Instant,
}

impl Guest {
    /// Starts a machine in `namespace`, where its taps are.
    ///
    /// # Errors
    /// What qemu says.
    pub fn start(name: &'static str, namespace: &Namespace, machine: &Machine) -> Result<Guest> {
        let mut command = namespace.command(&machine.emulator.program);
        let log = machine.dir.join("qemu.log");
        let mut qemu = spawn(
            &format!("qemu of {name}"),
            command.args(machine.words()),
            &log,
        )?;
        let socket = machine.dir.join("monitor");
        let monitor = poll_until(&format!("the monitor of {name}"), LISTENS, || {
            qemu.check()?;
            Ok(socket
                .exists()
                .then(|| Monitor::connect(name, &socket))
                .and_then(Result::ok))
        })?;
        Ok(Guest {
            name,
            qemu,
            monitor: Mutex::new(monitor),
            agent: None,
            serial: machine.dir.join("serial.log"),
        })
    }

    /// Waits until programs can be started inside.
    ///
    /// # Errors
    /// That the machine ended, or that its agent does not come up.
    pub fn await_agent(&mut self, dir: &Path, limit: Duration) -> Result<()> {
        match Agent::connect(self.name, &dir.join("agent"), limit) {
            Ok(agent) => {
                self.agent = Some(Mutex::new(agent));
                Ok(())
            }
            Err(Error::Interrupted) => Err(Error::Interrupted),
            Err(error) => {
                self.qemu.check()?;
                Err(Error::Answer {
                    what: error.to_string(),
                    said: format!(
                        "its console ends with: {}; qemu said: {}",
                        self.console(8),
                        self.qemu.log().trim()
                    ),
                })
            }
        }
    }

    /// The last lines of the console.
    pub fn console(&self, lines: usize) -> String {
        let text = std::fs::read(&self.serial).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        let all: Vec<&str> = text
            .lines()
            .filter(|line| !line.trim().is_empty())
            .collect();
        all[all.len().saturating_sub(lines)..].join(" | ")
    }

    /// The monitor.
    pub fn monitor(&self) -> MutexGuard<'_, Monitor> {
        // One that panicked while it held this takes the lab down anyway.
        self.monitor.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn agent(&self) -> Result<MutexGuard<'_, Agent>> {
        let agent = self.agent.as_ref().ok_or_else(|| Error::Answer {
            what: self.name.to_owned(),
            said: "its agent is not up".to_owned(),
        })?;
        Ok(agent.lock().unwrap_or_else(|e| e.into_inner()))
    }

    /// Starts a program that is killed after `limit`, with what it has started.
    ///
    /// # Errors
    /// What the agent says.
    pub fn begin(&self, argv: &[String], input: &str, limit: Duration) -> Result<Job> {
        // By timeout(1), which makes a process group of it, with its own number.
        let mut words = vec![
            "-s".to_owned(),
            "KILL".to_owned(),
            format!("{:.1}", limit.as_secs_f32()),
        ];
        words.extend_from_slice(argv);
        let since = Instant::now();
        let pid = self.agent()?.start("timeout", &words, input)?;
        Ok(Job { pid, since })
    }

    /// Asks a program to end (SIGINT). It alone, not timeout(1) too, which would ask it once more: who is asked twice may go without a word.
    ///
    /// # Errors
    /// What the agent says.
    pub fn interrupt(&self, job: &Job) -> Result<()> {
        let words = ["-INT", "-P", &job.pid.to_string()].map(str::to_owned);
        self.agent()?.start("pkill", &words, "").map(drop)
    }

    /// Ends a program, with what it has started.
    fn kill(&self, job: &Job) -> Result<()> {
        let words = ["-KILL", "--", &format!("-{}", job.pid)].map(str::to_owned);
        self.agent()?.start("kill", &words, "").map(drop)
    }

    /// Waits for its end, or ends it when `enough` says so.
    ///
    /// # Errors
    /// What the agent says, or that it neither ends nor can be ended.
    pub fn finish(
        &self,
        job: &Job,
        limit: Duration,
        enough: &mut dyn FnMut() -> bool,
    ) -> Result<Output> {
        let deadline = job.since + limit + Duration::from_secs(30);
        let mut ended_by_us = false;
        loop {
            if let Some(ended) = self.agent()?.ended(job.pid)? {
                return Ok(output(ended, job.since.elapsed(), ended_by_us));
            }
            rig::check_interrupt()?;
            if Instant::now() > deadline {
                return Err(Error::Timeout {
                    what: format!("a program in {} to end", self.name),
                    limit,
                });
            }
            if !ended_by_us && enough() {
                ended_by_us = true;
                self.kill(job)?;
            }
            std::thread::sleep(ASK);
        }
    }

    /// Runs a program to its end, until `limit`, or until `enough` says that it has done what it was started for.
    ///
    /// # Errors
    /// What the agent says.
    pub fn run(
        &self,
        argv: &[String],
        input: &str,
        limit: Duration,
        enough: &mut dyn FnMut() -> bool,
    ) -> Result<Output> {
        let job = self.begin(argv, input, limit)?;
        self.finish(&job, limit, enough)
    }

    /// Runs a line of shell.
    ///
    /// # Errors
    /// What the agent says.
    pub fn shell(&self, line: &str, limit: Duration) -> Result<Output> {
        self.run(&shell(line), "", limit, &mut || false)
    }

    /// What a line of shell prints, which has to succeed.
    ///
    /// # Errors
    /// That it does not.
    pub fn must(&self, line: &str) -> Result<String> {
        let output = self.shell(line, SETUP)?;
        if output.success() {
            return Ok(output.stdout);
        }
        Err(Error::Command {
            command: format!("{line}, in {}", self.name),
            status: output.status.to_string(),
            said: format!("{}{}", output.stderr.trim(), output.stdout.trim()),
        })
    }

    /// Writes a file inside.
    ///
    /// # Errors
    /// What the shell says.
    pub fn put(&self, path: &str, text: &str) -> Result<()> {
        let output = self.run(&shell(&format!("cat > {path}")), text, SETUP, &mut || false)?;
        match output.success() {
            true => Ok(()),
            false => Err(Error::Command {
                command: format!("cat > {path}, in {}", self.name),
                status: output.status.to_string(),
                said: output.stderr,
            }),
        }
    }

    /// Waits until the machine has switched itself off; an error where it has not within `limit`.
    ///
    /// # Errors
    /// That it goes on running. It is ended when dropped.
    pub fn off(mut self, limit: Duration) -> Result<()> {
        self.qemu.ended(limit)
    }
}

/// A line of shell as a command line.
pub fn shell(line: &str) -> Vec<String> {
    ["sh", "-c", line].map(str::to_owned).into()
}

fn output(ended: Ended, took: Duration, ended_by_us: bool) -> Output {
    let killed = ended.signal == Some(9) || ended.code == Some(KILLED);
    // wait(2) has the exit status in the second byte, a signal in the first.
    let status = match (ended.code, ended.signal) {
        (Some(code), _) => ExitStatus::from_raw((code & 0xff) << 8),
        (None, Some(signal)) => ExitStatus::from_raw(signal),
        (None, None) => ExitStatus::from_raw(0),
    };
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Output {
        status,
        timed_out: killed && !ended_by_us,
        stdout: text(ended.stdout),
        stderr: text(ended.stderr),
        took,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: Option<i32>, signal: Option<i32>) -> Ended {
        Ended {
            code,
            signal,
            ..Ended::default()
        }
    }

    #[test]
    fn an_end_inside_is_told_as_one_here_would_be() {
        let took = Duration::from_secs(1);
        assert!(output(ended(Some(0), None), took, false).success());
        assert_eq!(
            output(ended(Some(3), None), took, false).status.code(),
            Some(3)
        );
        assert!(output(ended(Some(KILLED), None), took, false).timed_out);
        let by_us = output(ended(None, Some(9)), took, true);
        assert!(!by_us.timed_out && by_us.status.signal() == Some(9));
    }
}
