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

    /// Takes over the producing side from somebody who has gone. The oldest entries that the consumer has not taken may be void ones that he has left.
    /// `None` where the cursors make no sense.
    pub(crate) fn resume(memory: M, is_void: impl Fn(M::Entry) -> bool) -> Option<Self> {
        let mut producer = Producer::new(memory);
        let Producer { next, consumed, .. } = producer;
        let pending = next.wrapping_sub(consumed);
        if pending > producer.memory.size() {
            return None;
        }
        let (mut voids, mut done) = (0, false);
        producer.pending(|entry| {
            done |= !is_void(entry);
            voids += u32::from(!done);
        });
        producer.void_end = consumed.wrapping_add(voids);
        Some(producer)
    }

    /// Gives `each` the entries that the consumer has not taken, oldest first, and leaves them where they are.
    pub(crate) fn pending(&self, mut each: impl FnMut(M::Entry)) {
        let level = self.level();
        for offset in (1..=level).rev() {
            // SAFETY: between the cursors nobody writes but the producer, which is us.
            each(unsafe { self.memory.read(self.next.wrapping_sub(offset)) });
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

    /// Takes over the consuming side from somebody who has gone. `None` where the cursors make no sense.
    pub(crate) fn resume(memory: M) -> Option<Self> {
        let consumer = Consumer::new(memory);
        (consumer.ahead() <= consumer.memory.size()).then_some(consumer)
    }

    /// Entries that wait.
    pub(crate) fn level(&self) -> u32 {
        self.ahead().min(self.memory.size())
    }

    /// Gives `each` the entries that wait, oldest first, and leaves them where they are.
    pub(crate) fn pending(&self, mut each: impl FnMut(M::Entry)) {
        for offset in 0..self.level() {
            // SAFETY: between the two cursors the slots are ours, and our cursor does not move.
            each(unsafe { self.memory.read(self.next.wrapping_add(offset)) });
        }
    }

    fn ahead(&self) -> u32 {
        let produced = self.memory.producer().load(Ordering::Acquire);
        produced.wrapping_sub(self.next)
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

/// A ring on the heap, whose other side a test plays.
#[cfg(test)]
pub(crate) mod heap {
    use super::{AtomicU32, Memory, Ordering};

    #[cfg(loom)]
    use loom::{cell::UnsafeCell, sync::Arc};
    #[cfg(not(loom))]
    use std::sync::Arc;

    /// The part of loom's cell that is used here, without its checks.
    #[cfg(not(loom))]
    struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    #[cfg(not(loom))]
    impl<T> UnsafeCell<T> {
        fn new(value: T) -> Self {
            UnsafeCell(std::cell::UnsafeCell::new(value))
        }
        fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }
        fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }

    struct Shared<T> {
        producer: AtomicU32,
        consumer: AtomicU32,
        flags: AtomicU32,
        slots: Vec<UnsafeCell<T>>,
    }

    pub(crate) struct Heap<T>(Arc<Shared<T>>);

    impl<T> Clone for Heap<T> {
        fn clone(&self) -> Self {
            Heap(Arc::clone(&self.0))
        }
    }

    // SAFETY: the cursors are atomics, and a slot is reached only under the promises of `Memory`.
    unsafe impl<T: Send> Send for Heap<T> {}
    // SAFETY: as above.
    unsafe impl<T: Send> Sync for Heap<T> {}

    impl<T: Copy> Heap<T> {
        /// `size` slots of `fill`, both cursors at `cursor`.
        pub(crate) fn new(size: u32, cursor: u32, fill: T) -> Self {
            assert!(size.is_power_of_two());
            Heap(Arc::new(Shared {
                producer: AtomicU32::new(cursor),
                consumer: AtomicU32::new(cursor),
                flags: AtomicU32::new(0),
                slots: (0..size).map(|_| UnsafeCell::new(fill)).collect(),
            }))
        }

        pub(crate) fn set_flags(&self, flags: u32) {
            self.0.flags.store(flags, Ordering::Relaxed);
        }

        fn slot(&self, cursor: u32) -> &UnsafeCell<T> {
            &self.0.slots[(cursor & (self.size() - 1)) as usize]
        }
    }

    // SAFETY: a power of two of slots, masked, of a type that only we write.
    unsafe impl<T: Copy> Memory for Heap<T> {
        type Entry = T;
        fn size(&self) -> u32 {
            self.0.slots.len() as u32
        }
        fn producer(&self) -> &AtomicU32 {
            &self.0.producer
        }
        fn consumer(&self) -> &AtomicU32 {
            &self.0.consumer
        }
        fn flags(&self) -> &AtomicU32 {
            &self.0.flags
        }
        unsafe fn read(&self, cursor: u32) -> T {
            // SAFETY: nobody writes the slot, by the caller's promise.
            self.slot(cursor).with(|slot| unsafe { *slot })
        }
        unsafe fn write(&self, cursor: u32, entry: T) {
            // SAFETY: nobody uses the slot, by the caller's promise.
            self.slot(cursor).with_mut(|slot| unsafe { *slot = entry });
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::{heap::Heap, *};

    /// Both sides of a ring of `size` slots whose cursors stand at `cursor`.
    fn pair(size: u32, cursor: u32) -> (Producer<Heap<u64>>, Consumer<Heap<u64>>, Heap<u64>) {
        let memory = Heap::new(size, cursor, 0);
        (
            Producer::new(memory.clone()),
            Consumer::new(memory.clone()),
            memory,
        )
    }

    fn put(ring: &mut Producer<Heap<u64>>, values: impl IntoIterator<Item = u64>) -> u32 {
        let mut values = values.into_iter();
        ring.produce(u32::MAX, || values.next())
    }

    fn get(ring: &mut Consumer<Heap<u64>>, max: u32) -> Vec<u64> {
        let mut out = Vec::new();
        ring.consume(max, |v| out.push(v));
        out
    }

    #[test]
    fn entries_come_out_in_the_order_they_went_in_across_the_wrap_at_2_to_the_32() {
        for before in [0, 1, 3, 5, 8, 13] {
            let (mut producer, mut consumer, _) = pair(8, u32::MAX.wrapping_sub(before));
            let (mut sent, mut received) = (0, Vec::new());
            while received.len() < 40 {
                sent += u64::from(put(&mut producer, sent..sent + 5));
                assert!(producer.level() <= 8);
                received.extend(get(&mut consumer, 3));
            }
            let expected: Vec<u64> = (0..received.len() as u64).collect();
            assert_eq!(received, expected);
        }
    }

    #[test]
    fn a_nearly_full_ring_takes_the_part_there_is_room_for() {
        let (mut producer, mut consumer, _) = pair(8, u32::MAX - 3);
        assert_eq!(put(&mut producer, 0..6), 6);
        assert_eq!(producer.reserve(5), 2);
        assert_eq!(put(&mut producer, 6..11), 2);
        assert_eq!(put(&mut producer, 8..11), 0);
        assert_eq!(get(&mut consumer, 1), [0]);
        assert_eq!(put(&mut producer, 8..11), 1);
        assert_eq!(get(&mut consumer, 100), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(producer.level(), 0);
    }

    #[test]
    fn an_entry_that_is_not_given_leaves_no_slot_behind() {
        let (mut producer, mut consumer, _) = pair(4, 0);
        assert_eq!(producer.produce(4, || None), 0);
        assert_eq!(get(&mut consumer, 4), []);
        assert_eq!(put(&mut producer, [9]), 1);
        assert_eq!(get(&mut consumer, 4), [9]);
    }

    #[test]
    fn cursors_that_make_no_sense_give_no_room_and_no_entries_beyond_the_ring() {
        let (mut producer, mut consumer, memory) = pair(4, 0);
        memory.consumer().store(7, Ordering::Release);
        producer.consumed = 7;
        assert_eq!(put(&mut producer, 0..4), 0);
        assert_eq!(producer.level(), 4);
        // SAFETY: the other side is not running.
        assert_eq!(unsafe { producer.take_back(0, |_| ()) }, 0);
        memory.producer().store(1_000, Ordering::Release);
        assert_eq!(get(&mut consumer, 100).len(), 4);
    }

    #[test]
    fn the_wake_up_flag_is_read_from_the_ring() {
        let (producer, _, memory) = pair(4, 0);
        assert!(!producer.needs_wakeup());
        memory.set_flags(1);
        assert!(producer.needs_wakeup());
        memory.set_flags(2);
        assert!(!producer.needs_wakeup());
    }

    #[test]
    fn a_ring_is_taken_over_where_it_stands_with_the_voids_that_were_left_there() {
        const VOID: u32 = 0;
        let ring = Heap::new(8, u32::MAX - 1, VOID);
        let mut first = Producer::new(ring.clone());
        let mut entries = 1..;
        assert_eq!(first.produce(3, || entries.next()), 3);
        // SAFETY: the other side is this thread.
        assert_eq!(unsafe { first.take_back(VOID, |_| {}) }, 3);
        assert_eq!(first.produce(2, || entries.next()), 2);
        let mut next = Producer::resume(ring.clone(), |entry| entry == VOID).unwrap();
        assert_eq!((next.level(), next.voids()), (5, 3));
        assert_eq!(next.produce(9, || entries.next()), 3);
        let mut taken = Vec::new();
        let mut consumer = Consumer::resume(ring.clone()).unwrap();
        assert_eq!(consumer.level(), 8);
        assert_eq!(consumer.consume(4, |entry| taken.push(entry)), 4);
        assert_eq!((next.level(), next.voids()), (4, 0));
        let mut again = Consumer::resume(ring.clone()).unwrap();
        assert_eq!(again.consume(9, |entry| taken.push(entry)), 4);
        assert_eq!(taken, [0, 0, 0, 4, 5, 6, 7, 8]);
        ring.producer().store(9_999, Ordering::Relaxed);
        assert!(Producer::resume(ring.clone(), |_| false).is_none());
        assert!(Consumer::resume(ring).is_none());
    }

    #[test]
    fn what_is_taken_back_leaves_voids_that_are_never_taken_again() {
        for start in [0, u32::MAX - 2] {
            let (mut producer, mut consumer, _) = pair(8, start);
            put(&mut producer, 1..=5);
            assert_eq!(get(&mut consumer, 2), [1, 2]);
            let mut back = Vec::new();
            // SAFETY: the other side is not running.
            assert_eq!(unsafe { producer.take_back(0, |v| back.push(v)) }, 3);
            put(&mut producer, 6..=7);
            assert_eq!(producer.voids(), 3);
            // SAFETY: as above.
            assert_eq!(unsafe { producer.take_back(0, |v| back.push(v)) }, 2);
            assert_eq!(back, [3, 4, 5, 6, 7]);
            assert_eq!((producer.voids(), producer.level()), (5, 5));
            assert_eq!(put(&mut producer, 8..=11), 3);
            assert_eq!(get(&mut consumer, 8), [0, 0, 0, 0, 0, 8, 9, 10]);
            assert_eq!((producer.voids(), producer.level()), (0, 0));
        }
    }

    #[test]
    fn two_threads_pass_a_million_entries_in_order() {
        let (mut producer, mut consumer, _) = pair(64, u32::MAX - 500_000);
        let sender = std::thread::spawn(move || {
            let mut next = 0;
            while next < 1_000_000 {
                match put(&mut producer, next..1_000_000) {
                    0 => std::thread::yield_now(),
                    n => next += u64::from(n),
                }
            }
        });
        let mut next = 0;
        while next < 1_000_000 {
            let count = consumer.consume(17, |v| {
                assert_eq!(v, next);
                next += 1;
            });
            if count == 0 {
                std::thread::yield_now();
            }
        }
        sender.join().unwrap();
    }
}

#[cfg(all(test, loom))]
mod loom_tests {
    use super::{heap::Heap, *};

    /// Every interleaving of a producer and a consumer over `size` slots, across the wrap of the cursors. Loom's cells
    /// fail the model if a slot is read while it is written, or without seeing what was written.
    fn model(size: u32, total: u64, burst: u32) {
        loom::model(move || {
            let memory = Heap::new(size, u32::MAX, 0u64);
            let (mut producer, mut consumer) =
                (Producer::new(memory.clone()), Consumer::new(memory));
            let sender = loom::thread::spawn(move || {
                let mut next = 0;
                while next < total {
                    let mut values = next..total;
                    match producer.produce(burst, || values.next()) {
                        0 => loom::thread::yield_now(),
                        n => next += u64::from(n),
                    }
                }
            });
            let mut next = 0;
            while next < total {
                let count = consumer.consume(burst, |v| {
                    assert_eq!(v, next);
                    next += 1;
                });
                if count == 0 {
                    loom::thread::yield_now();
                }
            }
            sender.join().unwrap();
        });
    }

    #[test]
    fn loom_one_at_a_time_every_entry_arrives_once_and_in_order() {
        model(1, 3, 1);
    }

    #[test]
    fn loom_in_bursts_every_entry_arrives_once_and_in_order() {
        model(2, 4, 2);
    }
}
