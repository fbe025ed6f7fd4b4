//! A queue of a NIC, over an AF_XDP socket.
//!
//! The frames that this port sends are those that the other port received: a descriptor moves, the bytes stay where the NIC put them.

use super::{BURST, Port, Reclaimed};
use af_xdp::{Frame, Socket, WakeError};
use std::os::fd::{AsFd, BorrowedFd};

/// A wake-up that the kernel answers with "try again" is repeated this often before the loop goes on to other work.
const KICKS: u32 = 8;
const BACKOFF_FIRST: u64 = 1_000_000;
const BACKOFF_LAST: u64 = 100_000_000;

/// One AF_XDP socket as a [`Port`].
pub struct AfXdpPort {
    socket: Socket,
    /// The fill ring is kept at this many frames.
    fill_target: u32,
    /// Room in the receive ring.
    rx_ring: u32,
    /// The driver receives in our calls, not in soft interrupts: a queue that has nothing is asked.
    busy_poll: bool,
    link: Link,
    /// Descriptors taken back from the transmit ring of a link that went down, until the next `reclaim`.
    retracted: Vec<Frame>,
    /// Frames that another process has sent and counted, and that have not come back.
    inherited: Inherited,
}

/// Frames in flight that another process has counted.
struct Inherited(u32);

impl Inherited {
    /// Of so many that came back, those that this process has sent: the oldest come first.
    fn own(&mut self, back: u32) -> u32 {
        let inherited = back.min(self.0);
        self.0 -= inherited;
        back - inherited
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Link {
    Up,
    /// Nothing is queued, and the kernel is asked again at `retry`: frames that wait in the ring of a dead link would be sent stale when it
    /// comes back, and each futile wake-up is a syscall.
    Down {
        retry: u64,
        backoff: u64,
    },
}

/// How many frames the fill ring is to have, with so many in the receive ring.
fn wanted(target: u32, rx_ring: u32, received: u32) -> u32 {
    target.min(rx_ring.saturating_sub(received))
}

impl AfXdpPort {
    /// Takes over `socket`, whose rings hold at most `ring` frames each; keeps `fill_target` frames in its fill ring. What is in flight there already is not ours to count.
    pub fn new(socket: Socket, ring: u32, fill_target: u32) -> AfXdpPort {
        AfXdpPort {
            inherited: Inherited(socket.in_flight()),
            socket,
            fill_target,
            rx_ring: ring,
            busy_poll: false,
            link: Link::Up,
            retracted: Vec::with_capacity(ring as usize),
        }
    }

    /// It was bound with busy polling by the kernel ([`af_xdp::BusyPoll`]).
    pub fn busy_polled(mut self, busy_poll: bool) -> AfXdpPort {
        self.busy_poll = busy_poll;
        self
    }

    /// The socket, for statistics and for the socket map.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// For sleeping until a frame arrives.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Fills the fill ring to the brim.
    pub fn brim(&mut self, pool: &mut Vec<Frame>) {
        self.socket.fill(pool, usize::MAX);
        if self.socket.fill_needs_wakeup() {
            let _ = self.socket.wake_rx();
        }
    }

    fn link_lost(&mut self, now: u64) {
        self.socket.retract(&mut self.retracted);
        let backoff = match self.link {
            Link::Up => BACKOFF_FIRST,
            Link::Down { backoff, .. } => (backoff * 2).min(BACKOFF_LAST),
        };
        self.link = Link::Down {
            retry: now.saturating_add(backoff),
            backoff,
        };
    }
}

impl Port for AfXdpPort {
    fn receive(&mut self, out: &mut Vec<Frame>, max: usize) -> usize {
        let received = self.socket.receive(max, out);
        if received == 0 && self.busy_poll {
            // What this brings is there in the next turn. Where it fails the link is down.
            let _ = self.socket.wake_rx();
        }
        received
    }

    fn send(&mut self, frames: &mut Vec<Frame>) -> usize {
        match self.link {
            Link::Up => self.socket.send(frames),
            Link::Down { .. } => 0,
        }
    }

    fn flush(&mut self, now: u64) {
        if let Link::Down { retry, .. } = self.link {
            if now < retry {
                return;
            }
            match self.socket.wake_tx() {
                Err(WakeError::Down) => return self.link_lost(now),
                _ => self.link = Link::Up,
            }
        }
        for _ in 0..KICKS {
            if self.socket.tx_pending() == 0 || !self.socket.tx_needs_wakeup() {
                return;
            }
            match self.socket.wake_tx() {
                Ok(()) | Err(WakeError::Again) => {}
                Err(WakeError::Down) => return self.link_lost(now),
                Err(WakeError::Os(_)) => return,
            }
        }
    }

    fn reclaim(&mut self, pool: &mut Vec<Frame>) -> Reclaimed {
        let failed = self.retracted.len() as u32;
        if failed > 0 {
            pool.append(&mut self.retracted);
        }
        let sent = self.socket.complete(pool) as u32;
        // Those that were sent before those that were not.
        Reclaimed {
            sent: self.inherited.own(sent),
            failed: self.inherited.own(failed),
        }
    }

    fn refill(&mut self, pool: &mut Vec<Frame>) {
        let level = self.socket.fill_level();
        // No more than there is room for in the receive ring: what the kernel has no chunk for it drops at once, and what it has no room for only after it copied it.
        let target = wanted(self.fill_target, self.rx_ring, self.socket.rx_level());
        // In steps of a burst: the producer cursor is a cache line that the kernel reads.
        if level + BURST as u32 <= target {
            self.socket.fill(pool, (target - level) as usize);
        }
        if self.socket.fill_needs_wakeup() {
            // A socket that cannot be woken has a link that is down; the next turn asks again.
            let _ = self.socket.wake_rx();
        }
    }

    fn in_flight(&self) -> u32 {
        self.socket.in_flight() + self.retracted.len() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_lent_for_as_many_frames_as_find_room() {
        let lent = [0, 1024, 1500, 2048, 3000].map(|received| wanted(1024, 2048, received));
        assert_eq!(lent, [1024, 1024, 548, 0, 0]);
    }

    #[test]
    fn what_another_process_has_sent_is_not_counted_when_it_comes_back() {
        let mut inherited = Inherited(5);
        assert_eq!([3, 3, 4].map(|back| inherited.own(back)), [0, 1, 4]);
        assert_eq!(Inherited(0).own(7), 7);
    }
}
