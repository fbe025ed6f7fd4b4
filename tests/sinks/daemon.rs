//! A program that is ended, by its process id, with the test.

use super::LIMIT;
use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

pub struct Daemon(Child);

impl Daemon {
    /// Starts it. What it says goes into `said`.
    pub fn start(command: &mut Command, said: &Path) -> Daemon {
        let said = std::fs::File::create(said).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said)
            .spawn();
        Daemon(child.unwrap_or_else(|e| panic!("{command:?}: {e}")))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// SIGTERM, and SIGKILL for who does not heed it.
    pub fn end(&mut self) {
        if self.0.try_wait().unwrap().is_some() {
            return;
        }
        let pid = nix::unistd::Pid::from_raw(self.0.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
        let start = Instant::now();
        while self.0.try_wait().unwrap().is_none() {
            if start.elapsed() > LIMIT / 4 {
                self.0.kill().unwrap();
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// A daemon of Debian's, or a word that its test was not run.
pub fn installed(path: &'static str, test: &str) -> Option<&'static str> {
    if Path::new(path).exists() {
        return Some(path);
    }
    eprintln!("{test}: not run, {path} is not installed; `deploy/setup.sh test` installs it");
    None
}

/// A port of loopback that nobody listens on, for TCP or UDP.
pub fn free_port(udp: bool) -> u16 {
    let any = ("127.0.0.1", 0);
    let address = if udp {
        UdpSocket::bind(any).unwrap().local_addr()
    } else {
        TcpListener::bind(any).unwrap().local_addr()
    };
    address.unwrap().port()
}
