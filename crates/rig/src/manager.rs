//! A service manager as far as a process that hands descriptors over needs one: it hears what the process says (sd_notify(3)), keeps what it is given, and passes it to
//! the next process (sd_listen_fds(3)).
//!
//! Other than systemd it hears everybody, and keeps what it has until it is told to let go.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::{Error, Result};

/// Where descriptors are passed from (`SD_LISTEN_FDS_START`).
const FIRST: i32 = 3;
/// How often it is looked whether it should end.
const LOOKS: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
struct Heard {
    kept: Vec<(String, OwnedFd)>,
    said: Vec<String>,
}

/// The manager, until it is dropped.
#[derive(Debug)]
pub struct Manager {
    path: PathBuf,
    heard: Arc<Mutex<Heard>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Manager {
    /// What goes in front of the program in a command that is [given](Manager::give) what is kept: the process that becomes the program says its own number.
    pub const STARTER: [&'static str; 4] = ["sh", "-c", "LISTEN_PID=$$ exec \"$@\"", "sh"];

    /// Listens on a socket in `dir`.
    pub fn start(dir: &Path) -> Result<Manager> {
        let path = dir.join("notify.sock");
        let socket = UnixDatagram::bind(&path).map_err(Error::io("binding a notify socket"))?;
        socket
            .set_read_timeout(Some(LOOKS))
            .map_err(Error::io("setting a time limit on a socket"))?;
        let (heard, stop): (Arc<Mutex<Heard>>, Arc<AtomicBool>) = Default::default();
        let (hears, ends) = (Arc::clone(&heard), Arc::clone(&stop));
        let listen = move || {
            while !ends.load(Relaxed) {
                // Nothing was said.
                let _ = hear(&socket, &hears);
            }
        };
        let thread = std::thread::Builder::new().spawn(listen);
        Ok(Manager {
            path,
            heard,
            stop,
            thread: Some(thread.map_err(Error::io("starting a thread"))?),
        })
    }

    /// Has the process that `command` starts say what it has to say here, and passes it what is kept. It stays kept.
    pub fn give(&self, command: &mut Command) -> Result<()> {
        command.env("NOTIFY_SOCKET", &self.path);
        let heard = self.heard();
        let (mut names, mut mappings) = (Vec::new(), Vec::new());
        for ((name, fd), child_fd) in heard.kept.iter().zip(FIRST..) {
            let parent_fd = fd
                .try_clone()
                .map_err(Error::io("duplicating a descriptor"))?;
            names.push(name.as_str());
            mappings.push(FdMapping {
                parent_fd,
                child_fd,
            });
        }
        if !names.is_empty() {
            command
                .env("LISTEN_FDS", names.len().to_string())
                .env("LISTEN_FDNAMES", names.join(":"));
        }
        let passed = command.fd_mappings(mappings).map(drop);
        passed.map_err(|e| Error::Answer {
            what: "passing descriptors".into(),
            said: e.to_string(),
        })
    }

    /// What is kept, by name.
    pub fn kept(&self) -> Vec<String> {
        let heard = self.heard();
        heard.kept.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Keeps something else under a name; lets go of it where it is nothing.
    pub fn replace(&self, name: &str, by: Option<OwnedFd>) {
        let mut heard = self.heard();
        heard.kept.retain(|(kept, _)| kept != name);
        heard.kept.extend(by.map(|fd| (name.to_owned(), fd)));
    }

    /// Lets go of all: the service was stopped and is not to be started again.
    pub fn release(&self) {
        self.heard().kept.clear();
    }

    /// All that was said, in order: a message an entry, its lines as they came.
    pub fn said(&self) -> Vec<String> {
        self.heard().said.clone()
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One message.
fn hear(socket: &UnixDatagram, heard: &Mutex<Heard>) -> io::Result<()> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut fds = Vec::new();
    for part in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = part {
            fds.extend(passed);
        }
    }
    let text = String::from_utf8_lossy(&bytes[..message.bytes]).into_owned();
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let name = value("FDNAME=").unwrap_or("stored").to_owned();
    let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
    if value("FDSTORE=") == Some("1") {
        heard
            .kept
            .extend(fds.drain(..).map(|fd| (name.clone(), fd)));
    } else if value("FDSTOREREMOVE=") == Some("1") {
        heard.kept.retain(|(kept, _)| *kept != name);
    }
    heard.said.push(text);
    // With those that nobody asked to keep: the end of a pipe says that all before it was heard.
    Ok(())
}
