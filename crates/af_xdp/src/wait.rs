//! Sleeping until a socket has frames.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
    time::Duration,
};

/// How many descriptors are waited for without an allocation.
const INLINE: usize = 16;

/// Sleeps until one of `fds` is readable (or in error) or `timeout` is over: `ppoll(2)` for `POLLIN`. Returns whether
/// one is; a signal counts as "none is". For up to 16 descriptors nothing is allocated.
///
/// In copy mode the kernel also sends what is in the socket's tx ring (`xsk_poll`).
///
/// # Errors
/// Those of `ppoll(2)` but `EINTR`.
pub fn wait(fds: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<bool> {
    let entry = |fd: &BorrowedFd<'_>| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    if fds.len() > INLINE {
        return poll(&mut fds.iter().map(entry).collect::<Vec<_>>(), timeout);
    }
    let mut inline = [libc::pollfd {
        fd: -1,
        events: 0,
        revents: 0,
    }; INLINE];
    for (slot, fd) in inline.iter_mut().zip(fds) {
        *slot = entry(fd);
    }
    poll(&mut inline[..fds.len()], timeout)
}

fn poll(fds: &mut [libc::pollfd], timeout: Duration) -> io::Result<bool> {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos() as libc::c_long,
    };
    // SAFETY: the slice is writable, its length is given, the time is readable, and no signal mask is set.
    let ready = unsafe {
        libc::ppoll(
            fds.as_mut_ptr(),
            fds.len() as libc::nfds_t,
            &timeout,
            ptr::null(),
        )
    };
    if ready >= 0 {
        return Ok(ready > 0);
    }
    let error = io::Error::last_os_error();
    if error.kind() == io::ErrorKind::Interrupted {
        Ok(false)
    } else {
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        os::{fd::AsFd, unix::net::UnixStream},
        time::Instant,
    };

    use super::*;

    #[test]
    fn waiting_ends_with_something_to_read_or_with_the_time() {
        let (mut a, b) = UnixStream::pair().unwrap();
        for count in [0, 1, 16, 17, 40] {
            let fds = vec![b.as_fd(); count];
            let start = Instant::now();
            assert!(!wait(&fds, Duration::from_millis(20)).unwrap());
            assert!(start.elapsed() >= Duration::from_millis(19));
        }
        a.write_all(b"x").unwrap();
        for count in [1, 16, 17, 40] {
            assert!(wait(&vec![b.as_fd(); count], Duration::MAX).unwrap());
        }
    }
}
