//! What can go wrong, worded so that the line can be shown to whoever starts the program.

use std::io;

use crate::bind::Mode;

/// A UMEM could not be made.
#[derive(Debug, thiserror::Error)]
pub enum UmemError {
    /// `AF_XDP` takes aligned chunks that are a power of two from 2,048 bytes to the page size.
    #[error(
        "a chunk of {chunk} bytes is not possible: it must be a power of two from 2048 to the page size, {page}"
    )]
    Chunk {
        /// What was asked for, in bytes.
        chunk: u32,
        /// The page size, in bytes.
        page: u32,
    },
    /// The headroom leaves no room for a frame: the kernel takes another 256 bytes (`XDP_PACKET_HEADROOM`).
    #[error(
        "a headroom of {headroom} bytes leaves nothing of a chunk of {chunk} bytes, of which the kernel takes 256"
    )]
    Headroom {
        /// What was asked for, in bytes.
        headroom: u32,
        /// Bytes of a chunk.
        chunk: u32,
    },
    /// No frames, or more bytes than can be addressed.
    #[error("{frames} frames of {chunk} bytes cannot be mapped")]
    Frames {
        /// Chunks asked for.
        frames: u32,
        /// Bytes of a chunk.
        chunk: u32,
    },
    /// This process has made 2^32 - 1 UMEMs.
    #[error("no number is left to tell one more UMEM from the others")]
    Exhausted,
    /// A file of memory could not be made.
    #[error("cannot make a file of {bytes} bytes for packet memory: {source}")]
    File {
        /// Size asked for.
        bytes: usize,
        /// The system's answer.
        source: io::Error,
    },
    /// What was handed over is not a file of memory of the length that the shape has, or it could still be cut short.
    #[error("the packet memory is not what it is said to be: {0}")]
    Foreign(&'static str),
    /// A chunk was handed over that the memory does not have, or twice.
    #[error("chunk {0} of the packet memory is not there, or was handed over twice")]
    Twice(u32),
    /// `mmap(2)` failed, with small pages too.
    #[error("cannot map {bytes} bytes of packet memory: {source}")]
    Map {
        /// Size asked for.
        bytes: usize,
        /// The system's answer.
        source: io::Error,
    },
}

/// The bytes do not fit into a chunk (or the frame is not of this UMEM, which has no room for it).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes do not fit into a frame of {capacity}")]
pub struct TooLong {
    /// Bytes given.
    pub len: usize,
    /// Bytes there is room for.
    pub capacity: usize,
}

/// A socket could not be bound to a queue. Nothing of the attempt remains.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// `EPERM`/`EACCES`: needs `CAP_NET_RAW`, and for some drivers `CAP_NET_ADMIN`.
    #[error("not permitted: AF_XDP needs CAP_NET_RAW and CAP_NET_ADMIN (run as root)")]
    Privilege,
    /// `ENOBUFS` while registering memory: `RLIMIT_MEMLOCK` is too small and `CAP_IPC_LOCK` is missing.
    #[error(
        "{bytes} bytes of packet memory cannot be locked: raise the limit (ulimit -l) or give CAP_IPC_LOCK"
    )]
    LockedMemory {
        /// Size of the UMEM.
        bytes: usize,
    },
    /// `EAFNOSUPPORT`: a kernel without `CONFIG_XDP_SOCKETS`, or too old (5.4 is the first that will do).
    #[error("this kernel has no AF_XDP sockets (CONFIG_XDP_SOCKETS, Linux 5.4 or later)")]
    Kernel,
    /// `EBUSY` for half a second: another socket is bound to the queue.
    #[error("queue {queue} of interface {ifindex} is held by another AF_XDP socket")]
    Busy {
        /// Interface.
        ifindex: u32,
        /// Queue.
        queue: u32,
    },
    /// `EOPNOTSUPP`, or `EINVAL` for zero copy on a queue that exists: the driver cannot do it.
    #[error("the driver of interface {ifindex} does not support AF_XDP in {mode} mode")]
    NotSupported {
        /// Interface.
        ifindex: u32,
        /// What it refused.
        mode: Mode,
    },
    /// `ENODEV`: no such interface in this network namespace.
    #[error("there is no interface number {ifindex}")]
    NoDevice {
        /// Interface.
        ifindex: u32,
    },
    /// `ENETDOWN`: the driver wants the interface up before it binds.
    #[error("interface {ifindex} is down")]
    Down {
        /// Interface.
        ifindex: u32,
    },
    /// The device has no such queue.
    #[error("interface {ifindex} has no queue {queue}{}", count(*queues))]
    Queue {
        /// Interface.
        ifindex: u32,
        /// What was asked for, from 0.
        queue: u32,
        /// How many there are, where the driver tells.
        queues: Option<u32>,
    },
    /// Ring sizes are powers of two.
    #[error("the {ring} ring cannot have {size} entries: it must be a power of two")]
    RingSize {
        /// "fill", "completion", "rx" or "tx".
        ring: &'static str,
        /// What was asked for, in descriptors.
        size: u32,
    },
    /// The socket to share with was bound with another UMEM.
    #[error("the socket to share with has another UMEM")]
    ForeignUmem,
    /// Anything else.
    #[error("{call}: {source}")]
    Os {
        /// What was called.
        call: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

/// A socket that another process had bound could not be taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// A descriptor of another kind.
    #[error("it is no AF_XDP socket")]
    Kind,
    /// It is of another network namespace than the calling thread.
    #[error("it is of another network namespace")]
    Namespace,
    /// It is bound to no queue, or its interface has gone.
    #[error("it is bound to no queue")]
    Unbound,
    /// It runs in another mode.
    #[error("it runs in {0} mode")]
    Mode(Mode),
    /// A chunk is in one of its rings and in hand as well, or twice in one ring.
    #[error("chunk {0} is in more than one hand")]
    Twice(u32),
    /// A ring is smaller than it is said to be, or its cursors make no sense.
    #[error("its {0} ring is not of the size that it is said to be")]
    Ring(&'static str),
    /// Anything else.
    #[error("{call}: {source}")]
    Os {
        /// What was called.
        call: &'static str,
        /// The system's answer.
        source: io::Error,
    },
}

fn count(queues: Option<u32>) -> String {
    queues.map_or_else(String::new, |n| format!(" (it has {n})"))
}

/// A kick did not take.
#[derive(Debug, thiserror::Error)]
pub enum WakeError {
    /// `EAGAIN`, `EBUSY`, `ENOBUFS`: the kernel did part of the work, or found no room: drain completions, come again.
    #[error("the kernel asks to be woken again")]
    Again,
    /// `ENETDOWN`, `ENXIO`: the interface is down, or gone.
    #[error("the interface is down")]
    Down,
    /// Anything else.
    #[error("wake-up: {0}")]
    Os(#[source] io::Error),
}

impl WakeError {
    pub(crate) fn from_errno(error: io::Error) -> WakeError {
        match error.raw_os_error() {
            Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => WakeError::Again,
            Some(libc::ENETDOWN | libc::ENXIO) => WakeError::Down,
            _ => WakeError::Os(error),
        }
    }
}
