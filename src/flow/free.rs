//! The lines of the flow table that no flow has, and the lock that guards them and each bucket: for the time of one packet at most.

use super::sync::{AtomicU64, Ordering, spin_loop};
use Ordering::{Acquire, Relaxed, Release};

/// The bit that locks a word; the others are the word's own.
pub(super) const LOCK: u64 = 1 << 56;

/// Holds the lock of one word.
pub(super) struct Lock<'a>(Option<&'a AtomicU64>);

impl<'a> Lock<'a> {
    /// Waits until it is free; nothing is locked where there is no word.
    pub fn of(head: Option<&'a AtomicU64>) -> Lock<'a> {
        while head.is_some_and(|head| head.fetch_or(LOCK, Acquire) & LOCK != 0) {
            spin_loop();
        }
        Lock(head)
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        if let Some(head) = self.0 {
            head.fetch_and(!LOCK, Release);
        }
    }
}

/// Lines that no flow has, the last freed on top.
pub(super) struct Free {
    /// Locks the stack for the time of one exchange.
    lock: AtomicU64,
    count: AtomicU64,
    stack: Box<[AtomicU64]>,
}

impl Free {
    pub fn new(count: usize) -> Free {
        Free {
            lock: AtomicU64::new(0),
            count: AtomicU64::new(count as u64),
            stack: (0..count as u64).rev().map(AtomicU64::new).collect(),
        }
    }

    pub fn bytes(&self) -> usize {
        size_of_val(&*self.stack)
    }

    pub fn take(&self) -> Option<usize> {
        let _lock = Lock::of(Some(&self.lock));
        let count = self.count.load(Relaxed).checked_sub(1)?;
        self.count.store(count, Relaxed);
        self.stack
            .get(count as usize)
            .map(|line| line.load(Relaxed) as usize)
    }

    pub fn put(&self, line: usize) {
        let _lock = Lock::of(Some(&self.lock));
        let count = self.count.load(Relaxed);
        if let Some(place) = self.stack.get(count as usize) {
            place.store(line as u64, Relaxed);
            self.count.store(count + 1, Relaxed);
        }
    }
}
