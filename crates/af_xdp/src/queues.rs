//! A socket's four rings and the frames that go through them. No system call is made here, so the tests at the end
//! run it with the kernel's side played in user space.

use crate::{
    ring::{Consumer, Memory, Producer},
    umem::{Frame, Umem},
};

/// The shortest frame that is sent: an Ethernet header. The kernel skips an empty descriptor without completing it
/// (`xp_aligned_validate_desc`), which would lose the chunk.
const SHORTEST: usize = 14;

/// What is left in a slot whose descriptor was taken back: out of range, empty, and with unknown options, each of
/// which alone makes the kernel skip it (`xskq_cons_is_valid_desc`).
const VOID: libc::xdp_desc = libc::xdp_desc {
    addr: u64::MAX,
    len: 0,
    options: u32::MAX,
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
        let done = self
            .completion
            .consume(clamp(room(out)), |addr| match umem.take_empty(addr) {
                Some(frame) => out.push(frame),
                None => *invalid += 1,
            });
        self.in_flight = self.in_flight.saturating_sub(done);
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
