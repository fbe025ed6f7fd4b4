//! Coming to rest, so that another process can go on: everything that a worker holds is sent, dropped, or back in its pool.

use super::{LONGEST_HELD, Now, Worker};
use crate::policy::Side;
use crate::port::Port;
use crate::port::afxdp::AfXdpPort;

impl<P: Port> Worker<P> {
    /// A turn in which nothing is received: fragments that wait for the first of their datagram are dropped (nobody will know of them), and what was sent is taken
    /// back. Says how many frames are still on their way.
    pub fn rest(&mut self, now: impl Into<Now>) -> u32 {
        let now = now.into();
        let late = Now {
            steady: now.steady.saturating_add(LONGEST_HELD),
            ..now
        };
        self.burst.under(self.policy.load());
        for side in Side::BOTH {
            let other = side.other();
            for queue in 0..self.ports[side as usize].len() {
                let out = queue % self.ports[other as usize].len();
                self.release(side, queue, out, late);
            }
        }
        for side in Side::BOTH {
            for queue in 0..self.ports[side as usize].len() {
                self.ports[side as usize][queue].flush(now.steady);
                self.reclaim(side, queue);
            }
        }
        self.levels();
        self.ports.iter().flatten().map(Port::in_flight).sum()
    }
}

impl Worker<AfXdpPort> {
    /// Gives the kernel as many frames to receive into as it takes: while nobody is here, no others come.
    pub fn brim(&mut self) {
        for port in self.ports.iter_mut().flatten() {
            port.brim(&mut self.pool);
        }
        self.levels();
    }
}
