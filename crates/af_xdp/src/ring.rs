//! One ring, from either side: a power of two of entries, a cursor for each side, a flags word.
//!
//! A cursor counts entries since the ring was made and wraps at 2^32; its low bits are the slot. The producer owns the
//! slots from its own cursor up to the consumer's plus the size, the consumer those between the two cursors. A side
//! writes its cursor with release and reads the other's with acquire, which is the pairing that the kernel uses
//! (`net/xdp/xsk_queue.h`, "The structure of the shared state of the rings").
//!
//! The memory is a parameter so that a test, or loom, can play the kernel's side.

#[cfg(not(loom))]
pub(crate) use std::sync::atomic::{AtomicU32, Ordering, fence};

#[cfg(loom)]
pub(crate) use loom::sync::atomic::{AtomicU32, Ordering, fence};

/// `XDP_RING_NEED_WAKEUP`, bit 0 of the flags word.
const NEED_WAKEUP: u32 = 1;

/// Where a ring lives.
///
/// # Safety
/// `size` is a power of two and never changes; `read` and `write` reach slot `cursor % size` of memory that is valid
/// as long as the value lives; a bit pattern that the other side leaves in a slot is a valid `Entry`.
pub(crate) unsafe trait Memory {
    /// What a slot holds: a descriptor or an address.
    type Entry: Copy;
    /// Slots.
    fn size(&self) -> u32;
    /// The producer's cursor.
    fn producer(&self) -> &AtomicU32;
    /// The consumer's cursor.
    fn consumer(&self) -> &AtomicU32;
    /// `XDP_RING_*`, written by the kernel.
    fn flags(&self) -> &AtomicU32;
    /// Reads a slot.
    ///
    /// # Safety
    /// No other thread, nor the kernel, writes that slot during the call.
    unsafe fn read(&self, cursor: u32) -> Self::Entry;
    /// Writes a slot.
    ///
    /// # Safety
    /// No other thread, nor the kernel, uses that slot during the call.
    unsafe fn write(&self, cursor: u32, entry: Self::Entry);
}

/// The producing side: of the fill and the tx ring, in user space.
pub(crate) struct Producer<M: Memory> {
    memory: M,
    /// The next slot to write; equal to the shared cursor between calls.
    next: u32,
    /// The consumer's cursor when last looked at.
    consumed: u32,
    /// End of the slots voided by `take_back`; means something only while it is ahead of the consumer.
    void_end: u32,
}

impl<M: Memory> Producer<M> {
    /// Takes the producing side of `memory`, wherever its cursors stand.
    pub(crate) fn new(memory: M) -> Self {
        let next = memory.producer().load(Ordering::Relaxed);
        let consumed = memory.consumer().load(Ordering::Acquire);
        Producer {
            memory,
            next,
            consumed,
            void_end: consumed,
        }
    }

    /// Entries that the consumer has not taken, void ones included.
    pub(crate) fn level(&self) -> u32 {
        let consumed = self.memory.consumer().load(Ordering::Acquire);
        // A consumer ahead of its producer would be the kernel's bug; "full" is the answer that sends nothing.
        self.next.wrapping_sub(consumed).min(self.memory.size())
    }

    /// Slots that can be written now, `want` at most. Looks at the shared cursor only if the last look does not do.
    pub(crate) fn reserve(&mut self, want: u32) -> u32 {
        let size = self.memory.size();
        let mut used = self.next.wrapping_sub(self.consumed);
        if used > size || size - used < want {
            self.consumed = self.memory.consumer().load(Ordering::Acquire);
            used = self.next.wrapping_sub(self.consumed);
        }
        size.saturating_sub(used).min(want)
    }

    /// Writes what `entries` gives, `want` entries at most and no more than there is room for, then shows them to the
    /// consumer all at once. Returns how many.
    pub(crate) fn produce(
        &mut self,
        want: u32,
        mut entries: impl FnMut() -> Option<M::Entry>,
    ) -> u32 {
        let room = self.reserve(want);
        let mut written = 0;
        while written < room {
            let Some(entry) = entries() else { break };
            // SAFETY: `reserve` found the slot free, so it is ours until the cursor below is published.
            unsafe { self.memory.write(self.next.wrapping_add(written), entry) };
            written += 1;
        }
        if written > 0 {
            self.next = self.next.wrapping_add(written);
            self.memory.producer().store(self.next, Ordering::Release);
        }
        written
    }

    /// Whether the kernel asks for a wake-up after what was produced last.
    pub(crate) fn needs_wakeup(&self) -> bool {
        // Between our cursor and the look at its flag there must be no reordering: the kernel sets the flag, then
        // looks at the cursor once more, and one of us two has to see the other.
        fence(Ordering::SeqCst);
        self.memory.flags().load(Ordering::Relaxed) & NEED_WAKEUP != 0
    }

    /// Void entries that the consumer has not passed yet.
    pub(crate) fn voids(&self) -> u32 {
        let consumed = self.memory.consumer().load(Ordering::Acquire);
        self.voids_from(consumed)
    }

    fn voids_from(&self, consumed: u32) -> u32 {
        let ahead = self.void_end.wrapping_sub(consumed);
        // Behind the consumer it wraps to a large number; within the ring it cannot pass our own cursor.
        if ahead <= self.next.wrapping_sub(consumed) {
            ahead
        } else {
            0
        }
    }

    /// Takes back every entry that the consumer has not taken, oldest first, and leaves `void` in its slot.
    ///
    /// The cursor is not moved back: the kernel keeps a copy of it (`cached_prod`), made whenever it ran out of
    /// entries, and would go on to read the old slots. So the slots stay used until the consumer has passed them, and
    /// `void` must be an entry that it skips. Returns how many were taken.
    ///
    /// # Safety
    /// The consumer does not run during the call.
    pub(crate) unsafe fn take_back(
        &mut self,
        void: M::Entry,
        mut each: impl FnMut(M::Entry),
    ) -> u32 {
        self.consumed = self.memory.consumer().load(Ordering::Acquire);
        let pending = self.next.wrapping_sub(self.consumed);
        if pending > self.memory.size() {
            return 0;
        }
        let first = self.consumed.wrapping_add(self.voids_from(self.consumed));
        let taken = self.next.wrapping_sub(first);
        for offset in 0..taken {
            let cursor = first.wrapping_add(offset);
            // SAFETY: the slot was written by us, and the caller holds the consumer still.
            each(unsafe { self.memory.read(cursor) });
            // SAFETY: as above.
            unsafe { self.memory.write(cursor, void) };
        }
        self.void_end = self.next;
        taken
    }
}

/// The consuming side: of the rx and the completion ring, in user space.
pub(crate) struct Consumer<M: Memory> {
    memory: M,
    /// The next slot to read; equal to the shared cursor between calls.
    next: u32,
}

impl<M: Memory> Consumer<M> {
    /// Takes the consuming side of `memory`, wherever its cursors stand.
    pub(crate) fn new(memory: M) -> Self {
        let next = memory.consumer().load(Ordering::Relaxed);
        Consumer { memory, next }
    }

    /// Gives `each` the entries there are, oldest first, `max` at most, then returns their slots to the producer all
    /// at once. Returns how many.
    pub(crate) fn consume(&mut self, max: u32, mut each: impl FnMut(M::Entry)) -> u32 {
        if max == 0 {
            return 0;
        }
        let produced = self.memory.producer().load(Ordering::Acquire);
        let count = produced
            .wrapping_sub(self.next)
            .min(self.memory.size())
            .min(max);
        for offset in 0..count {
            // SAFETY: between the two cursors the slots are ours until the cursor below is published.
            each(unsafe { self.memory.read(self.next.wrapping_add(offset)) });
        }
        if count > 0 {
            self.next = self.next.wrapping_add(count);
            self.memory.consumer().store(self.next, Ordering::Release);
        }
        count
    }
}
