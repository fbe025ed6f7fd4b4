//! A bound socket.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use crate::{
    bind::{self, Bound, Mode, Sharing, SocketConfig},
    error::{BindError, TakeOverError, WakeError},
    mapping::RingMemory,
    queues::Queues,
    sys,
    umem::{Frame, Umem},
};

/// An `AF_XDP` socket on one queue of one device, with a fill and a completion ring of its own.
///
/// It does not allocate after its bind, but for [`Socket::retract`]. Dropping it unbinds the queue; the kernel takes
/// 8 to 20 ms over that, which a later bind waits for.
pub struct Socket {
    // Before `fd`, so that the rings are unmapped first.
    queues: Queues<RingMemory<u64>, RingMemory<libc::xdp_desc>>,
    fd: OwnedFd,
    ifindex: u32,
    queue: u32,
    mode: Mode,
    need_wakeup: bool,
}

/// What the kernel counted for a socket (`struct xdp_statistics`), in frames or descriptors since its bind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Received, and dropped for another reason than a full rx ring: too long for a chunk, and in copy mode also when
    /// the fill ring was empty.
    pub rx_dropped: u64,
    /// Invalid addresses in the fill ring.
    pub rx_invalid_descs: u64,
    /// Invalid descriptors in the tx ring, without those that [`Socket::retract`] left there.
    pub tx_invalid_descs: u64,
    /// Received, and dropped because the rx ring was full: we are too slow.
    pub rx_ring_full: u64,
    /// How often the kernel found the fill ring empty.
    pub rx_fill_ring_empty_descs: u64,
    /// How often the kernel found the tx ring empty.
    pub tx_ring_empty_descs: u64,
}

impl Socket {
    /// Binds to a queue. Without `share` the memory is registered with this socket (the same memory can be registered
    /// with several sockets); with it, that socket's registration is shared (`XDP_SHARED_UMEM`), for another queue or
    /// device, and its mode and its use of `need_wakeup` are inherited.
    ///
    /// A queue that is held is asked for again for up to 500 ms.
    ///
    /// # Errors
    /// [`BindError`]; the queue is then as it was.
    pub fn bind(
        umem: &Umem,
        config: &SocketConfig,
        share: Option<&Socket>,
    ) -> Result<Socket, BindError> {
        Socket::bind_filled(umem, config, share, &mut Vec::new(), 0)
    }

    /// As [`Socket::bind`], with frames of `frames` in the fill ring before the driver looks at it, `fill` at most and no more than it has room for.
    ///
    /// A driver in zero-copy mode gives its NIC what it finds there when the queue is set up, and not all ask for more by a wake-up that a receive queue
    /// hears: with igb of Linux 7.3 wake-ups raised the transmit queues' interrupts alone (/proc/interrupts), and nothing was ever received into a ring that had been empty.
    ///
    /// # Errors
    /// [`BindError`]; the queue is then as it was, and the frames that the ring took are lost.
    pub fn bind_filled(
        umem: &Umem,
        config: &SocketConfig,
        share: Option<&Socket>,
        frames: &mut Vec<Frame>,
        fill: usize,
    ) -> Result<Socket, BindError> {
        let share = share.map(|first| Sharing {
            umem: &first.queues.umem,
            fd: first.as_fd(),
            ifindex: first.ifindex,
            queue: first.queue,
            mode: first.mode,
            need_wakeup: first.need_wakeup,
        });
        let Bound {
            queues,
            fd,
            mode,
            need_wakeup,
        } = bind::bind(umem, config, share, (frames, fill))?;
        Ok(Socket {
            queues,
            fd,
            ifindex: config.ifindex,
            queue: config.queue,
            mode,
            need_wakeup,
        })
    }

    /// Takes over a socket that another process had bound as `config` says and has let go of, with whatever is in its rings, over memory that was
    /// [taken over](Umem::adopt) with it. `in_flight` frames had been submitted there and not come back.
    ///
    /// The kernel does not tell which queue a socket is bound to, nor over which memory, nor of what size its rings are if they are larger: who passes the
    /// descriptor on says so. A socket of another queue receives nothing from an `XSKMAP`, and what comes out of rings that are of another shape is
    /// [refused](Socket::invalid).
    ///
    /// # Errors
    /// [`TakeOverError`]; the descriptor is closed then.
    pub fn take_over(
        umem: &Umem,
        fd: OwnedFd,
        config: &SocketConfig,
        in_flight: u32,
    ) -> Result<Socket, TakeOverError> {
        let Bound {
            queues,
            fd,
            mode,
            need_wakeup,
        } = bind::take_over(umem, fd, config)?;
        let mut socket = Socket {
            queues,
            fd,
            ifindex: config.ifindex,
            queue: config.queue,
            mode,
            need_wakeup,
        };
        socket.queues.in_flight = in_flight;
        // Those that the other process has left, and those that were skipped for it before.
        let skipped = read_statistics(socket.as_fd()).map_or(0, |all| all.tx_invalid_descs);
        socket.queues.voided = skipped + u64::from(socket.queues.tx.voids());
        Ok(socket)
    }

    /// Takes received frames, oldest first, `max` at most and no more than `out` has spare capacity for. Returns how
    /// many.
    pub fn receive(&mut self, max: usize, out: &mut Vec<Frame>) -> usize {
        self.queues.receive(max, out)
    }

    /// Submits frames from the front of `frames`, in order, as many as the tx ring has room for; the others stay, in
    /// order. The kernel may have to be told: [`Socket::tx_needs_wakeup`]. Returns how many were submitted.
    ///
    /// A frame shorter than an Ethernet header is taken but not submitted, and comes back with the next
    /// [`Socket::complete`]; a frame of another UMEM is taken, counted by [`Socket::invalid`], and lost.
    pub fn send(&mut self, frames: &mut Vec<Frame>) -> usize {
        self.queues.send(frames)
    }

    /// Takes back frames that were sent, emptied, no more than `out` has spare capacity for. Returns how many.
    pub fn complete(&mut self, out: &mut Vec<Frame>) -> usize {
        self.queues.complete(out)
    }

    /// Gives the kernel frames to receive into, from the back of `frames`, `max` at most and no more than the fill ring
    /// has room for. Returns how many. A frame of another UMEM is taken, counted by [`Socket::invalid`], and lost.
    pub fn fill(&mut self, frames: &mut Vec<Frame>, max: usize) -> usize {
        self.queues.fill(frames, max)
    }

    /// Takes back every submitted frame that the kernel has not consumed, oldest first and with its bytes: what is
    /// stuck behind a link that went down must not leave as stale frames when it comes up. Copy mode only, where the
    /// kernel reads the tx ring in system calls on this socket; in zero-copy mode the device may be reading, and
    /// nothing is taken. Returns how many. Grows `out` if it has to.
    ///
    /// The emptied slots count as [`Socket::tx_pending`] and are not free again until the kernel has skipped them,
    /// which [`Socket::wake_tx`] sees to once the link is up. Some kernels complete what they skip: drain completions.
    ///
    /// Nothing else may poll or send on a duplicate of this socket's descriptor meanwhile: frames taken back could
    /// still go out. (What the kernel then hands back for them is refused and counted as invalid.)
    pub fn retract(&mut self, out: &mut Vec<Frame>) -> usize {
        match self.mode {
            Mode::ZeroCopy => 0,
            // SAFETY: in copy mode the kernel reads the ring only in sendto, recvfrom and poll on this socket, and none
            // of them runs while it is borrowed exclusively.
            Mode::Copy => unsafe { self.queues.retract(out) },
        }
    }

    /// Whether what was submitted needs [`Socket::wake_tx`] to be sent. Always without `need_wakeup`.
    pub fn tx_needs_wakeup(&self) -> bool {
        !self.need_wakeup || self.queues.tx.needs_wakeup()
    }

    /// Whether the kernel waits for [`Socket::wake_rx`] before it takes from the fill ring. Never without `need_wakeup`.
    pub fn fill_needs_wakeup(&self) -> bool {
        self.need_wakeup && self.queues.fill.needs_wakeup()
    }

    /// Has the kernel look at the tx ring (`sendto(2)`). In copy mode that is where the sending is done, 32 frames (or
    /// [`SocketConfig::tx_budget`]) at a time; if more are left it is [`WakeError::Again`].
    ///
    /// # Errors
    /// [`WakeError`]. `Down` comes also with an empty ring, so that a link can be probed without a frame.
    pub fn wake_tx(&mut self) -> Result<(), WakeError> {
        // On newer kernels (6.18 for one) a call skips a single void descriptor, and the shared cursor may show it later.
        for _ in 0..self.queues.tx.voids() {
            sys::kick_tx(self.fd.as_fd()).map_err(WakeError::from_errno)?;
            if self.queues.tx.voids() == 0 {
                break;
            }
        }
        sys::kick_tx(self.fd.as_fd()).map_err(WakeError::from_errno)
    }

    /// Has the kernel look at the fill ring (`recvfrom(2)`), and with busy polling at the device.
    ///
    /// # Errors
    /// [`WakeError`].
    pub fn wake_rx(&mut self) -> Result<(), WakeError> {
        sys::kick_rx(self.fd.as_fd()).map_err(WakeError::from_errno)
    }

    /// Entries of the tx ring that the kernel has not consumed, those emptied by [`Socket::retract`] included.
    pub fn tx_pending(&self) -> u32 {
        self.queues.tx.level()
    }

    /// Frames submitted and neither completed nor retracted.
    pub fn in_flight(&self) -> u32 {
        self.queues.in_flight
    }

    /// Frames in the fill ring that the kernel has not taken.
    pub fn fill_level(&self) -> u32 {
        self.queues.fill.level()
    }

    /// Frames that were received and not taken.
    pub fn rx_level(&self) -> u32 {
        self.queues.rx.level()
    }

    /// Descriptors of the kernel, and frames of the caller, that were refused because they are not of this UMEM (or
    /// not theirs to give). 0 but for a bug.
    pub fn invalid(&self) -> u64 {
        self.queues.invalid
    }

    /// The kernel's counters (`XDP_STATISTICS`).
    ///
    /// # Errors
    /// Those of `getsockopt(2)`.
    pub fn statistics(&self) -> io::Result<Statistics> {
        // Looked at first: a void skipped meanwhile is then in the kernel's count and not yet in ours, never the reverse.
        let skipped = self.queues.voided - u64::from(self.queues.tx.voids());
        let all = read_statistics(self.as_fd())?;
        Ok(Statistics {
            tx_invalid_descs: all.tx_invalid_descs.saturating_sub(skipped),
            ..all
        })
    }

    /// A reader of the kernel's counters for another thread. It keeps the socket, and so the queue, from being let go
    /// until it is dropped too.
    ///
    /// # Errors
    /// That the descriptor cannot be duplicated.
    pub fn statistics_reader(&self) -> io::Result<StatisticsReader> {
        Ok(StatisticsReader(self.fd.try_clone()?))
    }

    /// Whether the device itself reads and writes the packet memory, as the kernel says (`XDP_OPTIONS`).
    pub fn zero_copy(&self) -> bool {
        self.mode == Mode::ZeroCopy
    }

    /// The interface bound to.
    pub fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// The queue bound to.
    pub fn queue(&self) -> u32 {
        self.queue
    }
}

/// Reads the counters of a [`Socket`] that another thread works on.
#[derive(Debug)]
pub struct StatisticsReader(OwnedFd);

impl StatisticsReader {
    /// The kernel's counters (`XDP_STATISTICS`); `tx_invalid_descs` includes descriptors that [`Socket::retract`] left.
    ///
    /// # Errors
    /// Those of `getsockopt(2)`.
    pub fn read(&self) -> io::Result<Statistics> {
        read_statistics(self.0.as_fd())
    }
}

fn read_statistics(fd: BorrowedFd<'_>) -> io::Result<Statistics> {
    let (s, _) = sys::get_option::<libc::xdp_statistics>(fd)?;
    Ok(Statistics {
        rx_dropped: s.rx_dropped,
        rx_invalid_descs: s.rx_invalid_descs,
        tx_invalid_descs: s.tx_invalid_descs,
        rx_ring_full: s.rx_ring_full,
        rx_fill_ring_empty_descs: s.rx_fill_ring_empty_descs,
        tx_ring_empty_descs: s.tx_ring_empty_descs,
    })
}

impl AsFd for Socket {
    /// For an `XSKMAP`, and for [`wait`](crate::wait).
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Socket(interface {}, queue {}, {})",
            self.ifindex, self.queue, self.mode
        )
    }
}
