//! Network namespaces (`ip netns`).

use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::path::PathBuf;

/// Where `ip netns add` puts them (ip-netns(8)).
const NAMED: &str = "/run/netns";

/// Does `work` in a network namespace, on a thread of its own: a name of `ip netns`, or a path; nothing is the one that the caller is in.
///
/// # Errors
/// That there is no such namespace, or that it may not be entered.
pub fn within<T: Send>(namespace: Option<&str>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let Some(name) = namespace else {
        return Ok(work());
    };
    let path = match name.contains('/') {
        true => PathBuf::from(name),
        false => PathBuf::from(NAMED).join(name),
    };
    let file = File::open(path)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        });
        let panicked = |_| Err(io::Error::other("the work panicked"));
        thread.join().unwrap_or_else(panicked)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_name_the_work_is_done_here_and_a_name_that_is_not_there_is_an_error() {
        assert_eq!(within(None, || 5).unwrap(), 5);
        let e = within(Some("no-such-namespace"), || 5).unwrap_err();
        assert_eq!(e.kind(), io::ErrorKind::NotFound);
    }
}
