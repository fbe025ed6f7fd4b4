//! The service manager: what it is told, and the descriptors that it keeps from one process to the next (sd_notify(3), sd_listen_fds(3), "File Descriptor Store").

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// How long the manager may take until it has read what it was told.
const READS: Duration = Duration::from_millis(500);

/// No process is passed more descriptors.
const MOST: u32 = 4096;

/// A manager that listens.
#[derive(Clone, Copy, Debug)]
pub struct Manager(());

impl Manager {
    /// `None` where this process was started by none: in a shell of somebody else's service too, whose environment it has (`SYSTEMD_EXEC_PID`,
    /// systemd.exec(5)).
    pub fn here() -> Option<Manager> {
        let own = std::process::id().to_string();
        let others = std::env::var("SYSTEMD_EXEC_PID").is_ok_and(|started| started != own);
        std::env::var_os("NOTIFY_SOCKET")
            .filter(|_| !others)
            .map(|_| Manager(()))
    }

    /// The service is ready; a line on how it runs.
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub fn ready(self, status: &str) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Ready, NotifyState::Status(status)])
    }

    /// It ends, as it was asked to.
    ///
    /// # Errors
    /// Those of sendmsg(2).
    pub fn stopping(self, status: &str) -> io::Result<()> {
        sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status(status)])
    }

    /// Keeps a descriptor for the next process. The manager does not poll it, which for an `AF_XDP` socket would be to send.
    ///
    /// # Errors
    /// Those of sendmsg(2). That the manager has no room is not told.
    pub fn keep(self, name: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
        let state = [
            NotifyState::FdStore,
            NotifyState::FdName(name),
            NotifyState::Custom("FDPOLL=0"),
        ];
        sd_notify::notify_with_fds(&state, &[fd])
    }

    /// Keeps the descriptors of these names no longer. When it returns, they are closed there.
    ///
    /// # Errors
    /// Those of sendmsg(2), and that the manager took longer than half a second.
    pub fn forget<'a>(self, names: impl Iterator<Item = &'a str>) -> io::Result<()> {
        for name in names {
            sd_notify::notify(&[NotifyState::FdStoreRemove, NotifyState::FdName(name)])?;
        }
        // It closes the other end when it has done all that came before (sd_notify_barrier(3)).
        let (reader, writer) = io::pipe()?;
        sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[writer.as_fd()])?;
        drop(writer);
        let mut fds = [PollFd::new(reader.as_fd(), PollFlags::empty())];
        let limit = PollTimeout::try_from(READS).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, limit)? {
            0 => Err(io::ErrorKind::TimedOut.into()),
            _ => Ok(()),
        }
    }
}

/// The descriptors that the manager has kept, with their names, each once in the life of the process: their numbers are closed then.
///
/// # Errors
/// That what the environment says of them makes no sense. They are closed then, all the same.
pub fn kept() -> io::Result<Vec<(String, OwnedFd)>> {
    let numbers = numbers();
    let taken = (|| {
        let mut all = Vec::new();
        for (number, name) in sd_notify::listen_fds_with_names()? {
            all.push((name, af_xdp::duplicate(number)?));
        }
        Ok(all)
    })();
    for number in numbers {
        // One that is not there is closed.
        let _ = nix::unistd::close(number);
    }
    taken
}

/// The numbers of those that were passed to this process (`SD_LISTEN_FDS_START` is 3).
fn numbers() -> std::ops::Range<i32> {
    let number = |name| std::env::var(name).ok()?.parse::<u32>().ok();
    let own = number("LISTEN_PID") == Some(std::process::id());
    let count = number("LISTEN_FDS").filter(|count| own && *count <= MOST);
    3..3 + count.unwrap_or(0) as i32
}
