//! Frames in and out. A port owns no memory: every [`Frame`] is a chunk of the one UMEM, and moves from port to port by handing over its
//! descriptor.

pub mod afxdp;
pub mod capture;
mod capture_writer;
pub mod gate;
pub mod memory;
pub mod pcap;

use af_xdp::Frame;

/// The most frames that a worker takes at once.
pub const BURST: usize = 64;

/// One queue of one side. The worker loop is generic over it, so live traffic, replay, tests and benches run the same loop.
///
/// None of the methods allocates: a vector is filled to its capacity at most.
pub trait Port {
    /// Moves up to `max` received frames to `out`; says how many.
    fn receive(&mut self, out: &mut Vec<Frame>, max: usize) -> usize;

    /// Queues frames for sending, from the front and in order; what finds no room stays in `frames`. Says how many were taken.
    fn send(&mut self, frames: &mut Vec<Frame>) -> usize;

    /// Tells the far end of the queue that there is something to send, if it needs telling. `now` is in nanoseconds.
    fn flush(&mut self, now: u64);

    /// Takes back frames that are done with into `pool`.
    fn reclaim(&mut self, pool: &mut Vec<Frame>) -> Reclaimed;

    /// Gives frames of `pool` to the receiving end.
    fn refill(&mut self, pool: &mut Vec<Frame>);

    /// Frames received and lost since the last call because they do not fit a chunk.
    fn take_oversize(&mut self) -> u64 {
        0
    }

    /// Frames handed to [`Port::send`] that have not come back.
    fn in_flight(&self) -> u32;
}

/// What [`Port::reclaim`] took back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Frames that were sent.
    pub sent: u32,
    /// Frames that were queued and could not be sent: the link is down.
    pub failed: u32,
}
