//! A socket's four rings and the frames that go through them. No system call is made here, so the tests at the end
//! run it with the kernel's side played in user space.

use crate::{
    ring::{Consumer, Memory, Producer},
    umem::{Frame, Umem},
};

/// The shortest frame that is sent: an Ethernet header. The kernel skips an empty descriptor without completing it
/// (`xp_aligned_validate_desc`), which would lose the chunk.
const SHORTEST: usize = 14;

/// What is left in a slot whose descriptor was taken back: out of range and empty, each of which makes the kernel skip
/// it (`xp_aligned_validate_desc`). No option is set: with `XDP_PKT_CONTD` the kernel would take the next, good
/// descriptor for the rest of this frame and drop it too.
pub(crate) const VOID: libc::xdp_desc = libc::xdp_desc {
    addr: u64::MAX,
    len: 0,
    options: 0,
};

/// The rings of a socket: `A` holds addresses, `D` descriptors.
pub(crate) struct Queues<A: Memory<Entry = u64>, D: Memory<Entry = libc::xdp_desc>> {
    pub(crate) umem: Umem,
    pub(crate) fill: Producer<A>,
    pub(crate) completion: Consumer<A>,
    pub(crate) rx: Consumer<D>,
    pub(crate) tx: Producer<D>,
    /// Frames too short to be sent; they come back with the next completions.
    refused: Vec<Frame>,
    pub(crate) in_flight: u32,
    pub(crate) invalid: u64,
    pub(crate) voided: u64,
}

impl<A: Memory<Entry = u64>, D: Memory<Entry = libc::xdp_desc>> Queues<A, D> {
    pub(crate) fn new(
        umem: Umem,
        fill: Producer<A>,
        completion: Consumer<A>,
        rx: Consumer<D>,
        tx: Producer<D>,
    ) -> Self {
        let refused = Vec::with_capacity(64);
        Queues {
            umem,
            fill,
            completion,
            rx,
            tx,
            refused,
            in_flight: 0,
            invalid: 0,
            voided: 0,
        }
    }

    /// A chunk that is in one of the rings and in our hand as well, or twice in one ring. What is in the kernel's hand otherwise cannot be seen.
    pub(crate) fn conflict(&self) -> Option<u32> {
        let mut found = None;
        let mut look = |addrs: Vec<u64>| {
            let mut seen = vec![false; self.umem.frames() as usize];
            for addr in addrs {
                let number = self.umem.chunk_at(addr);
                // An address out of range makes no frame, whoever gives it.
                let Some(seen) = number.and_then(|number| seen.get_mut(number as usize)) else {
                    continue;
                };
                if std::mem::replace(seen, true) || self.umem.is_in_hand(addr) {
                    found = found.or(number);
                }
            }
        };
        let mut addrs = Vec::new();
        self.fill.pending(|addr| addrs.push(addr));
        look(std::mem::take(&mut addrs));
        self.rx.pending(|desc| addrs.push(desc.addr));
        look(std::mem::take(&mut addrs));
        self.tx.pending(|desc| addrs.push(desc.addr));
        look(std::mem::take(&mut addrs));
        self.completion.pending(|addr| addrs.push(addr));
        look(addrs);
        found
    }

    pub(crate) fn receive(&mut self, max: usize, out: &mut Vec<Frame>) -> usize {
        let before = out.len();
        let (umem, invalid) = (&self.umem, &mut self.invalid);
        self.rx.consume(clamp(max.min(room(out))), |desc| {
            match umem.take(desc.addr, desc.len) {
                Some(frame) => out.push(frame),
                None => *invalid += 1,
            }
        });
        out.len() - before
    }

    pub(crate) fn send(&mut self, frames: &mut Vec<Frame>) -> usize {
        let take = self
            .tx
            .reserve(clamp(frames.len().min(room(&self.refused))));
        let mut taken = frames.drain(..take as usize);
        let (umem, invalid, refused) = (&self.umem, &mut self.invalid, &mut self.refused);
        let sent = self.tx.produce(take, || {
            loop {
                let frame = taken.next()?;
                if frame.len() < SHORTEST {
                    refused.push(frame);
                    continue;
                }
                match umem.lend(frame) {
                    Ok((addr, len)) => {
                        return Some(libc::xdp_desc {
                            addr,
                            len,
                            options: 0,
                        });
                    }
                    Err(_) => *invalid += 1,
                }
            }
        });
        self.in_flight = self.in_flight.wrapping_add(sent);
        sent as usize
    }

    pub(crate) fn complete(&mut self, out: &mut Vec<Frame>) -> usize {
        let before = out.len();
        while let Some(frame) = if room(out) > 0 {
            self.refused.pop()
        } else {
            None
        } {
            out.push(frame);
        }
        let (umem, invalid) = (&self.umem, &mut self.invalid);
        let in_flight = &mut self.in_flight;
        self.completion.consume(clamp(room(out)), |addr| {
            if addr == VOID.addr {
                return; // some kernels (6.18.44 for one) complete also what they skip
            }
            match umem.take_empty(addr) {
                Some(frame) => {
                    *in_flight = in_flight.saturating_sub(1);
                    out.push(frame);
                }
                None => *invalid += 1,
            }
        });
        out.len() - before
    }

    pub(crate) fn fill(&mut self, frames: &mut Vec<Frame>, max: usize) -> usize {
        let (umem, invalid) = (&self.umem, &mut self.invalid);
        let filled = self.fill.produce(clamp(max.min(frames.len())), || {
            loop {
                match umem.lend(frames.pop()?) {
                    Ok((addr, _)) => return Some(addr & !u64::from(umem.chunk() - 1)),
                    Err(_) => *invalid += 1,
                }
            }
        });
        filled as usize
    }

    /// Takes back what the kernel has not consumed of the tx ring.
    ///
    /// # Safety
    /// The kernel does not read the tx ring during the call.
    pub(crate) unsafe fn retract(&mut self, out: &mut Vec<Frame>) -> usize {
        let before = out.len();
        out.reserve(self.tx.level() as usize);
        let (umem, invalid) = (&self.umem, &mut self.invalid);
        let each = |desc: libc::xdp_desc| match umem.take(desc.addr, desc.len) {
            Some(frame) => out.push(frame),
            None => *invalid += 1,
        };
        // SAFETY: by the caller's promise.
        let taken = unsafe { self.tx.take_back(VOID, each) };
        self.in_flight = self.in_flight.saturating_sub(taken);
        self.voided += u64::from(taken);
        out.len() - before
    }
}

fn room(frames: &Vec<Frame>) -> usize {
    frames.capacity() - frames.len()
}

fn clamp(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{ring::heap::Heap, umem::UmemConfig};

    const FRAMES: u32 = 32;
    const RING: u32 = 8;
    const CHUNK: u64 = 2048;

    /// The kernel's side, in copy mode. Its view of the tx ring is cached as `net/xdp/xsk_queue.h` caches it.
    struct Kernel {
        fill: Consumer<Heap<u64>>,
        completion: Producer<Heap<u64>>,
        rx: Producer<Heap<libc::xdp_desc>>,
        tx: Heap<libc::xdp_desc>,
        cached_producer: u32,
        cached_consumer: u32,
        sent: Vec<u64>,
        skipped: u64,
        /// Whether skipped descriptors are completed too.
        completes_skipped: bool,
    }

    impl Kernel {
        /// Receives `count` frames where there are chunks and room for them.
        fn receive(&mut self, count: u32) {
            for _ in 0..count {
                if self.rx.reserve(1) == 0 {
                    return;
                }
                let rx = &mut self.rx;
                self.fill.consume(1, |addr| {
                    let mut desc = Some(libc::xdp_desc {
                        addr: addr + 256,
                        len: 60,
                        options: 0,
                    });
                    rx.produce(1, || desc.take());
                });
            }
        }

        /// One `sendto` with a budget: stops after an invalid descriptor, as newer kernels do.
        fn send(&mut self, budget: u32) {
            use crate::ring::Ordering;
            let mut sent = false;
            for _ in 0..budget {
                if self.cached_producer == self.cached_consumer {
                    self.tx
                        .consumer()
                        .store(self.cached_consumer, Ordering::Release);
                    self.cached_producer = self.tx.producer().load(Ordering::Acquire);
                }
                if self.cached_producer == self.cached_consumer {
                    break;
                }
                // SAFETY: the other side is not running.
                let desc = unsafe { self.tx.read(self.cached_consumer) };
                if desc.len == 0 || desc.addr >= u64::from(FRAMES) * CHUNK || desc.options != 0 {
                    if self.completes_skipped {
                        if self.completion.reserve(1) == 0 {
                            break;
                        }
                        let mut addr = Some(desc.addr);
                        self.completion.produce(1, || addr.take());
                    }
                    self.skipped += 1;
                    self.cached_consumer = self.cached_consumer.wrapping_add(1);
                    break;
                }
                if self.completion.reserve(1) == 0 {
                    break;
                }
                let mut addr = Some(desc.addr);
                self.completion.produce(1, || addr.take());
                self.sent.push(desc.addr / CHUNK);
                self.cached_consumer = self.cached_consumer.wrapping_add(1);
                sent = true;
            }
            if sent {
                self.tx
                    .consumer()
                    .store(self.cached_consumer, Ordering::Release);
            }
        }
    }

    type TestQueues = Queues<Heap<u64>, Heap<libc::xdp_desc>>;

    fn queues(cursor: u32) -> (TestQueues, Kernel, Vec<Frame>) {
        let config = UmemConfig {
            frames: FRAMES,
            chunk: CHUNK as u32,
            headroom: 0,
            huge_pages: false,
        };
        let (umem, frames) = Umem::new(&config).unwrap();
        let empty = libc::xdp_desc {
            addr: 0,
            len: 0,
            options: 0,
        };
        let (fill, completion) = (Heap::new(RING, cursor, 0), Heap::new(RING, cursor, 0));
        let (rx, tx) = (
            Heap::new(RING, cursor, empty),
            Heap::new(RING, cursor, empty),
        );
        let kernel = Kernel {
            fill: Consumer::new(fill.clone()),
            completion: Producer::new(completion.clone()),
            rx: Producer::new(rx.clone()),
            tx: tx.clone(),
            cached_producer: cursor,
            cached_consumer: cursor,
            sent: Vec::new(),
            skipped: 0,
            completes_skipped: false,
        };
        let (fill, tx) = (Producer::new(fill), Producer::new(tx));
        (
            Queues::new(umem, fill, Consumer::new(completion), Consumer::new(rx), tx),
            kernel,
            frames,
        )
    }

    fn number(queues: &TestQueues, frame: &Frame) -> u64 {
        // The frame's place in memory tells its chunk.
        let base = queues.umem.registration().addr;
        (queues.umem.bytes(frame).as_ptr() as u64 - base) / CHUNK
    }

    fn written(queues: &TestQueues, mut frame: Frame) -> Frame {
        queues.umem.write(&mut frame, &[1; 60]).unwrap();
        frame
    }

    #[test]
    fn frames_are_sent_in_order_and_those_without_room_stay_in_order() {
        let (mut q, mut kernel, frames) = queues(u32::MAX - 3);
        let mut frames: Vec<Frame> = frames.into_iter().map(|f| written(&q, f)).collect();
        let numbers: Vec<u64> = frames.iter().map(|f| number(&q, f)).collect();
        let capacity = frames.capacity();
        assert_eq!(q.send(&mut frames), 8);
        assert_eq!(q.send(&mut frames), 0);
        kernel.send(3);
        assert_eq!(q.send(&mut frames), 3);
        assert_eq!((q.in_flight, q.tx.level()), (11, 8));
        kernel.send(5);
        let mut done = Vec::with_capacity(6);
        assert_eq!((q.complete(&mut done), q.complete(&mut done)), (6, 0));
        assert_eq!(q.in_flight, 5);
        assert!(done.iter().all(Frame::is_empty));
        assert_eq!(kernel.sent, numbers[..8]);
        assert_eq!(
            frames.iter().map(|f| number(&q, f)).collect::<Vec<_>>(),
            numbers[11..]
        );
        assert_eq!((frames.capacity(), done.capacity()), (capacity, 6));
    }

    #[test]
    fn receiving_takes_no_more_than_fits_or_is_asked_for() {
        let (mut q, mut kernel, mut frames) = queues(u32::MAX);
        assert_eq!(q.fill(&mut frames, 3), 3);
        assert_eq!(q.fill(&mut frames, 100), 5);
        assert_eq!((q.fill.level(), frames.len()), (8, 24));
        kernel.receive(8);
        assert_eq!(q.fill.level(), 0);
        let mut got = Vec::with_capacity(4);
        assert_eq!(
            (
                q.receive(2, &mut got),
                q.receive(100, &mut got),
                q.receive(100, &mut got)
            ),
            (2, 2, 0)
        );
        assert_eq!(got.capacity(), 4);
        assert!(got.iter().all(|f| q.umem.bytes(f).len() == 60));
        assert_eq!(q.receive(100, &mut Vec::new()), 0);
    }

    #[test]
    fn descriptors_that_make_no_sense_are_counted_and_become_no_frame() {
        let (mut q, mut kernel, mut frames) = queues(0);
        q.fill(&mut frames, 2);
        let mut bad = [
            (u64::MAX, 60),
            (0, u32::MAX),
            (CHUNK * u64::from(FRAMES), 1),
            (CHUNK * 9, 60),
            (2000, 60),
        ]
        .map(|(addr, len)| libc::xdp_desc {
            addr,
            len,
            options: 0,
        })
        .into_iter();
        kernel.rx.produce(8, || bad.next());
        let mut bad = [u64::MAX - 1, CHUNK * 20].into_iter();
        kernel.completion.produce(8, || bad.next());
        let mut out = Vec::with_capacity(8);
        assert_eq!((q.receive(8, &mut out), q.complete(&mut out)), (0, 0));
        assert_eq!((q.invalid, q.in_flight), (7, 0));
    }

    #[test]
    fn a_frame_too_short_to_send_comes_back_with_the_completions() {
        let (mut q, mut kernel, mut frames) = queues(0);
        let mut out = vec![
            frames.pop().unwrap(),
            written(&q, frames.pop().unwrap()),
            frames.pop().unwrap(),
        ];
        assert_eq!((q.send(&mut out), out.len(), q.in_flight), (1, 0, 1));
        kernel.send(8);
        let mut done = Vec::with_capacity(8);
        assert_eq!((q.complete(&mut done), kernel.skipped), (3, 0));
    }

    #[test]
    fn frames_of_another_umem_never_reach_the_kernel() {
        let (mut q, mut kernel, _own) = queues(0);
        let (other, _, foreign) = queues(0);
        let mut foreign: Vec<Frame> = foreign.into_iter().map(|f| written(&other, f)).collect();
        assert_eq!((q.send(&mut foreign), q.fill(&mut foreign, 4)), (0, 0));
        kernel.send(8);
        kernel.receive(8);
        assert!(kernel.sent.is_empty());
        assert_eq!((q.fill.level(), q.in_flight), (0, 0));
        assert_eq!(q.invalid, 32);
    }

    #[test]
    fn what_is_retracted_is_not_sent_even_if_the_kernel_had_seen_the_producer() {
        let (mut q, mut kernel, frames) = queues(u32::MAX - 5);
        let mut frames: Vec<Frame> = frames.into_iter().map(|f| written(&q, f)).collect();
        let numbers: Vec<u64> = frames.iter().map(|f| number(&q, f)).collect();
        q.send(&mut frames);
        kernel.send(2);
        let mut back = Vec::new();
        // SAFETY: the kernel is played by this thread.
        assert_eq!(unsafe { q.retract(&mut back) }, 6);
        assert_eq!(
            back.iter().map(|f| number(&q, f)).collect::<Vec<_>>(),
            numbers[2..8]
        );
        assert!(back.iter().all(|f| f.len() == 60));
        assert_eq!(q.in_flight, 2);
        assert_eq!(q.send(&mut frames), 2);
        for _ in 0..8 {
            kernel.send(32);
        }
        assert_eq!(
            kernel.sent,
            [numbers[0], numbers[1], numbers[8], numbers[9]]
        );
        assert_eq!(
            (kernel.skipped, q.voided, q.tx.voids(), q.tx.level()),
            (6, 6, 0, 0)
        );
    }

    #[derive(Clone, Debug)]
    enum Step {
        Fill(usize),
        KernelReceives(u32),
        Receive(usize),
        Send(usize),
        KernelSends(u32),
        Complete(usize),
        Retract,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..12usize).prop_map(Step::Fill),
            3 => (0..12u32).prop_map(Step::KernelReceives),
            3 => (0..12usize).prop_map(Step::Receive),
            3 => (0..12usize).prop_map(Step::Send),
            3 => (0..12u32).prop_map(Step::KernelSends),
            3 => (0..12usize).prop_map(Step::Complete),
            1 => Just(Step::Retract),
        ]
    }

    proptest! {
        #[test]
        fn no_frame_is_lost_or_doubled_whatever_happens(
            before in 0..64u32,
            completes_skipped in any::<bool>(),
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let (mut q, mut kernel, mut pool) = queues(u32::MAX - before);
            kernel.completes_skipped = completes_skipped;
            let mut received: Vec<Frame> = Vec::with_capacity(FRAMES as usize);
            for step in steps {
                match step {
                    Step::Fill(n) => { q.fill(&mut pool, n); }
                    Step::KernelReceives(n) => kernel.receive(n),
                    Step::Receive(n) => { q.receive(n, &mut received); }
                    Step::Send(n) => {
                        let mut burst = received.split_off(received.len().saturating_sub(n));
                        q.send(&mut burst);
                        received.append(&mut burst);
                    }
                    Step::KernelSends(n) => kernel.send(n),
                    Step::Complete(n) => {
                        let mut done = Vec::with_capacity(n);
                        q.complete(&mut done);
                        pool.append(&mut done);
                    }
                    // SAFETY: the kernel is played by this thread.
                    Step::Retract => { unsafe { q.retract(&mut received) }; }
                }
                prop_assert_eq!(q.invalid, 0);
            }
            // Everything out of the rings again.
            let mut out = Vec::with_capacity(FRAMES as usize);
            for _ in 0..32 {
                kernel.send(32);
                kernel.receive(32);
                q.complete(&mut out);
                q.receive(32, &mut out);
            }
            out.append(&mut pool);
            out.append(&mut received);
            prop_assert_eq!((q.in_flight, q.invalid, q.tx.level(), kernel.skipped), (0, 0, 0, q.voided));
            let mut numbers: Vec<u64> =
                out.into_iter().map(|f| written(&q, f)).map(|f| number(&q, &f)).collect();
            numbers.sort_unstable();
            prop_assert_eq!(numbers, (0..u64::from(FRAMES)).collect::<Vec<_>>());
        }
    }
}
