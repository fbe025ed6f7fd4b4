//! A port with nothing behind it but two queues: for tests and benches.

use super::{Port, Reclaimed};
use af_xdp::Frame;
use std::collections::VecDeque;

/// Frames put into `arriving` are received; frames sent are collected in `sent` until [`MemoryPort::finish`].
#[derive(Default)]
pub struct MemoryPort {
    /// What will be received, in order.
    pub arriving: VecDeque<Frame>,
    /// What was sent and is still in flight, in order.
    pub sent: VecDeque<Frame>,
    /// How many frames may be in flight; beyond it `send` takes nothing. `None` is no bound.
    pub room: Option<usize>,
    done: Vec<Frame>,
}

impl MemoryPort {
    /// A port that never allocates while at most `frames` frames are under way.
    pub fn with_capacity(frames: usize) -> MemoryPort {
        MemoryPort {
            arriving: VecDeque::with_capacity(frames),
            sent: VecDeque::with_capacity(frames),
            room: None,
            done: Vec::with_capacity(frames),
        }
    }

    /// Lets everything in flight complete.
    pub fn finish(&mut self) {
        self.done.extend(self.sent.drain(..));
    }
}

impl Port for MemoryPort {
    fn receive(&mut self, out: &mut Vec<Frame>, max: usize) -> usize {
        let n = max.min(self.arriving.len()).min(out.capacity() - out.len());
        // One by one: what `extend` makes of a deque costs a call each.
        for frame in std::iter::from_fn(|| self.arriving.pop_front()).take(n) {
            out.push(frame);
        }
        n
    }

    fn send(&mut self, frames: &mut Vec<Frame>) -> usize {
        let room = self
            .room
            .map_or(usize::MAX, |room| room.saturating_sub(self.sent.len()));
        let n = frames.len().min(room);
        self.sent.extend(frames.drain(..n));
        n
    }

    fn flush(&mut self, _now: u64) {}

    fn reclaim(&mut self, pool: &mut Vec<Frame>) -> Reclaimed {
        let sent = self.done.len() as u32;
        pool.append(&mut self.done);
        Reclaimed { sent, failed: 0 }
    }

    fn refill(&mut self, _pool: &mut Vec<Frame>) {}

    fn in_flight(&self) -> u32 {
        (self.sent.len() + self.done.len()) as u32
    }
}
