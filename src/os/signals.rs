//! Signals that end a process, or have it read its config again, before it can answer them.

use nix::sys::signal::{SigSet, Signal};

/// While it is there, SIGTERM, SIGINT and SIGHUP wait, in this thread and in those that it starts.
#[derive(Debug)]
pub struct Held(());

impl Held {
    /// From now on.
    ///
    /// # Errors
    /// Those of pthread_sigmask(3).
    pub fn all() -> nix::Result<Held> {
        set().thread_block().map(Held)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // The same call has just been made.
        let _ = set().thread_unblock();
    }
}

fn set() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;

    #[test]
    fn what_comes_meanwhile_waits_and_is_not_lost() {
        // Of a thread of its own: a mask is a thread's.
        std::thread::spawn(|| {
            let held = Held::all().unwrap();
            raise(Signal::SIGHUP).unwrap();
            let mut waits = SigSet::empty();
            waits.add(Signal::SIGHUP);
            assert_eq!(waits.wait(), Ok(Signal::SIGHUP));
            drop(held);
            let now = SigSet::thread_get_mask().unwrap();
            assert!(!now.contains(Signal::SIGTERM) && !now.contains(Signal::SIGHUP));
        })
        .join()
        .unwrap();
    }
}
