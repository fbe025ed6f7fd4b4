//! Signals, and huge pages: what the machine is asked for.

use crate::Failure;
use classbench::machine::read;
use nix::sys::signal::{SigHandler, Signal, signal};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

static STOPPED: AtomicBool = AtomicBool::new(false);

extern "C" fn stop(_signal: i32) {
    STOPPED.store(true, Relaxed);
}

/// From here on a signal that asks to stop only sets what [`stopped`] reads, so that everything is given back on the
/// way out.
pub fn catch_signals() -> Result<(), Failure> {
    for which in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic, which is allowed in a signal handler.
        unsafe { signal(which, SigHandler::Handler(stop)) }?;
    }
    Ok(())
}

/// An error as soon as a signal asked to stop.
pub fn stopped() -> Result<(), Failure> {
    if STOPPED.load(Relaxed) {
        return Err("stopped by a signal".into());
    }
    Ok(())
}

/// Huge pages of 2 MiB that the peer may need at once: its largest table and its trace.
const PAGES: usize = 768;
const COUNT: &str = "/proc/sys/vm/nr_hugepages";

/// Huge pages reserved for this run; given back when dropped.
pub struct HugePages(String);

impl HugePages {
    /// `None` where there are none to be had: not root, or not that much memory in one piece.
    pub fn reserve() -> Option<HugePages> {
        let before = read(COUNT);
        let number = |text: &str| text.parse::<usize>().unwrap_or(0);
        let wanted = number(&before) + PAGES;
        std::fs::write(COUNT, wanted.to_string()).ok()?;
        let reserved = HugePages(before);
        (number(&read(COUNT)) >= wanted).then_some(reserved)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        let _ = std::fs::write(COUNT, &self.0);
    }
}
