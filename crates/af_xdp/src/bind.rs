//! From a configuration to a bound socket: the steps of `bind(2)` for `AF_XDP`, and what their errors mean.

use std::{
    ffi::c_int,
    fmt, io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use crate::{
    error::{BindError, TakeOverError},
    mapping::RingMemory,
    queues::{Queues, VOID},
    ring::{Consumer, Producer},
    sys,
    umem::{Frame, Umem},
};

/// How long a queue that is held is asked for again: a killed process lets go of it after 8 to 20 ms.
const BUSY_FOR: Duration = Duration::from_millis(500);
/// Between two tries.
const BUSY_PAUSE: Duration = Duration::from_millis(5);

/// `SO_PREFER_BUSY_POLL` and `SO_BUSY_POLL_BUDGET` of `asm-generic/socket.h`, which libc lacks on some targets.
const SO_PREFER_BUSY_POLL: c_int = 69;
const SO_BUSY_POLL_BUDGET: c_int = 70;
/// `XDP_MAX_TX_SKB_BUDGET` of `linux/if_xdp.h`, since Linux 6.17.
const XDP_MAX_TX_SKB_BUDGET: c_int = 9;
/// The least that it takes (`TX_BATCH_SIZE` of `net/xdp/xsk.c`).
const LEAST_TX_BUDGET: u32 = 32;

/// How frames get into and out of the packet memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The device reads and writes it (`XDP_ZEROCOPY`).
    ZeroCopy,
    /// The kernel copies (`XDP_COPY`): every driver can.
    Copy,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::ZeroCopy => "zero-copy",
            Mode::Copy => "copy",
        })
    }
}

/// Entries of each ring: powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingSizes {
    /// Empty chunks on their way to the kernel.
    pub fill: u32,
    /// Sent chunks on their way back.
    pub completion: u32,
    /// Received frames.
    pub rx: u32,
    /// Frames to send.
    pub tx: u32,
}

/// Preferred busy polling: the driver's receive work is done inside of our own wake-ups, not in soft interrupts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// `SO_BUSY_POLL`, in microseconds.
    pub usecs: u32,
    /// `SO_BUSY_POLL_BUDGET`, in frames a wake-up.
    pub budget: u16,
}

/// What a socket is bound to, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketConfig {
    /// The interface's number in the network namespace of the calling thread.
    pub ifindex: u32,
    /// The queue, from 0.
    pub queue: u32,
    /// Ignored by a shared bind, which inherits.
    pub mode: Mode,
    /// Entries of the rings.
    pub rings: RingSizes,
    /// `XDP_USE_NEED_WAKEUP`: the kernel says when it wants to be woken. Ignored by a shared bind, which inherits.
    pub need_wakeup: bool,
    /// Preferred busy polling, if wanted.
    pub busy_poll: Option<BusyPoll>,
    /// Frames that one wake-up sends in copy mode (`XDP_MAX_TX_SKB_BUDGET`; by default 32). Brought into what the
    /// kernel takes, 32 to the size of the tx ring; not an error on a kernel before 6.17, which keeps its default.
    pub tx_budget: Option<u32>,
}

/// What a bind made.
pub(crate) struct Bound {
    pub(crate) queues: Queues<RingMemory<u64>, RingMemory<libc::xdp_desc>>,
    pub(crate) fd: OwnedFd,
    pub(crate) mode: Mode,
    pub(crate) need_wakeup: bool,
}

/// The socket whose memory is to be shared.
#[derive(Clone, Copy)]
pub(crate) struct Sharing<'a> {
    pub(crate) umem: &'a Umem,
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) ifindex: u32,
    pub(crate) queue: u32,
    pub(crate) mode: Mode,
    pub(crate) need_wakeup: bool,
}

/// Binds with as many of `frames` in the fill ring as it has room for, `fill` at most.
pub(crate) fn bind(
    umem: &Umem,
    config: &SocketConfig,
    share: Option<Sharing<'_>>,
    (frames, fill): (&mut Vec<Frame>, usize),
) -> Result<Bound, BindError> {
    check_sizes(&config.rings)?;
    if let Some(first) = share {
        if !first.umem.is(umem) {
            return Err(BindError::ForeignUmem);
        }
        // Legal for the kernel, but then both would have one fill and one completion ring.
        if (first.ifindex, first.queue) == (config.ifindex, config.queue) {
            return Err(BindError::Busy {
                ifindex: config.ifindex,
                queue: config.queue,
            });
        }
    }
    let socket = sys::xdp_socket().map_err(|e| failed("socket", e))?;
    let fd = socket.as_fd();
    if share.is_none() {
        register(fd, umem)?;
    }
    let mut queues = make_rings(fd, umem, &config.rings)?;
    queues.fill(frames, fill);
    set_budgets(fd, config)?;
    let (mode, need_wakeup) = share.map_or((config.mode, config.need_wakeup), |first| {
        (first.mode, first.need_wakeup)
    });
    bind_queue(fd, config, share.map(|first| first.fd), mode)?;
    let (options, _) = sys::get_option::<libc::xdp_options>(fd)
        .map_err(|e| failed("getsockopt(XDP_OPTIONS)", e))?;
    let mode = mode_of(&options);
    Ok(Bound {
        queues,
        fd: socket,
        mode,
        need_wakeup,
    })
}

/// Takes over a socket that another process had bound as `config` says, over memory that was taken over too.
pub(crate) fn take_over(
    umem: &Umem,
    socket: OwnedFd,
    config: &SocketConfig,
) -> Result<Bound, TakeOverError> {
    let os = |call| move |source| TakeOverError::Os { call, source };
    let fd = socket.as_fd();
    match sys::get_option::<sys::Domain>(fd) {
        Ok((sys::Domain(libc::AF_XDP), _)) => {}
        _ => return Err(TakeOverError::Kind),
    }
    let here = sys::xdp_socket().map_err(os("socket"))?;
    let namespace = |fd| sys::get_option::<sys::Namespace>(fd).map(|(namespace, _)| namespace);
    // Where the kernel does not tell, interfaces are known by their numbers alone.
    if let (Ok(here), Ok(there)) = (namespace(here.as_fd()), namespace(fd))
        && here != there
    {
        return Err(TakeOverError::Namespace);
    }
    // Of a link that is down it is known by that that it is bound.
    match sys::kick_rx(fd) {
        Err(e) if e.raw_os_error() == Some(libc::ENXIO) => return Err(TakeOverError::Unbound),
        _ => {}
    }
    let (options, _) =
        sys::get_option::<libc::xdp_options>(fd).map_err(os("getsockopt(XDP_OPTIONS)"))?;
    let mode = mode_of(&options);
    if mode != config.mode {
        return Err(TakeOverError::Mode(mode));
    }
    if check_sizes(&config.rings).is_err() {
        return Err(TakeOverError::Ring("fill, completion, rx or tx"));
    }
    let mapped = map_rings(fd, &config.rings).map_err(|error| match error {
        MapError::Old => TakeOverError::Kind,
        MapError::Offsets(e) => os("getsockopt(XDP_MMAP_OFFSETS)")(e),
        MapError::Ring(name, _) => TakeOverError::Ring(name),
    });
    let (fill, completion, rx, tx) = mapped?;
    let ring = TakeOverError::Ring;
    let queues = Queues::new(
        umem.clone(),
        Producer::resume(fill, |_| false).ok_or(ring("fill"))?,
        Consumer::resume(completion).ok_or(ring("completion"))?,
        Consumer::resume(rx).ok_or(ring("rx"))?,
        Producer::resume(tx, |desc| desc.addr == VOID.addr).ok_or(ring("tx"))?,
    );
    if let Some(chunk) = queues.conflict() {
        return Err(TakeOverError::Twice(chunk));
    }
    Ok(Bound {
        queues,
        fd: socket,
        mode,
        need_wakeup: config.need_wakeup,
    })
}

fn mode_of(options: &libc::xdp_options) -> Mode {
    match options.flags & libc::XDP_OPTIONS_ZEROCOPY {
        0 => Mode::Copy,
        _ => Mode::ZeroCopy,
    }
}

fn check_sizes(rings: &RingSizes) -> Result<(), BindError> {
    let RingSizes {
        fill,
        completion,
        rx,
        tx,
    } = *rings;
    for (ring, size) in [
        ("fill", fill),
        ("completion", completion),
        ("rx", rx),
        ("tx", tx),
    ] {
        if !size.is_power_of_two() {
            return Err(BindError::RingSize { ring, size });
        }
    }
    Ok(())
}

fn register(fd: BorrowedFd<'_>, umem: &Umem) -> Result<(), BindError> {
    sys::set_option(fd, libc::SOL_XDP, libc::XDP_UMEM_REG, &umem.registration()).map_err(
        |e| match e.raw_os_error() {
            Some(libc::ENOBUFS) => BindError::LockedMemory { bytes: umem.len() },
            _ => failed("setsockopt(XDP_UMEM_REG)", e),
        },
    )
}

fn make_rings(
    fd: BorrowedFd<'_>,
    umem: &Umem,
    sizes: &RingSizes,
) -> Result<Queues<RingMemory<u64>, RingMemory<libc::xdp_desc>>, BindError> {
    let rings = [
        (libc::XDP_UMEM_FILL_RING, sizes.fill),
        (libc::XDP_UMEM_COMPLETION_RING, sizes.completion),
        (libc::XDP_RX_RING, sizes.rx),
        (libc::XDP_TX_RING, sizes.tx),
    ];
    for (option, size) in rings {
        sys::set_option(fd, libc::SOL_XDP, option, &size)
            .map_err(|e| failed("setsockopt(XDP_*_RING)", e))?;
    }
    let mapped = map_rings(fd, sizes);
    let (fill, completion, rx, tx) = mapped.map_err(|error| match error {
        // Before 5.4: rings without a flags word.
        MapError::Old => BindError::Kernel,
        MapError::Ring(_, e) => failed("mmap of a ring", e),
        MapError::Offsets(e) => failed("getsockopt(XDP_MMAP_OFFSETS)", e),
    })?;
    let (fill, tx) = (Producer::new(fill), Producer::new(tx));
    Ok(Queues::new(
        umem.clone(),
        fill,
        Consumer::new(completion),
        Consumer::new(rx),
        tx,
    ))
}

/// Why the rings of a socket could not be mapped.
pub(crate) enum MapError {
    Old,
    Offsets(io::Error),
    Ring(&'static str, io::Error),
}

type Addresses = RingMemory<u64>;
type Descriptors = RingMemory<libc::xdp_desc>;

/// Maps the rings of a socket that has them: fill, completion, rx, tx. The kernel refuses a length that a ring does not have.
pub(crate) fn map_rings(
    fd: BorrowedFd<'_>,
    sizes: &RingSizes,
) -> Result<(Addresses, Addresses, Descriptors, Descriptors), MapError> {
    let (at, filled) = sys::get_option::<libc::xdp_mmap_offsets>(fd).map_err(MapError::Offsets)?;
    if filled < size_of::<libc::xdp_mmap_offsets>() {
        return Err(MapError::Old);
    }
    let no = |name| move |e| MapError::Ring(name, e);
    let (fill, completion) = (
        libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t,
        libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t,
    );
    Ok((
        RingMemory::map(fd, fill, &at.fr, sizes.fill).map_err(no("fill"))?,
        RingMemory::map(fd, completion, &at.cr, sizes.completion).map_err(no("completion"))?,
        RingMemory::map(fd, libc::XDP_PGOFF_RX_RING, &at.rx, sizes.rx).map_err(no("rx"))?,
        RingMemory::map(fd, libc::XDP_PGOFF_TX_RING, &at.tx, sizes.tx).map_err(no("tx"))?,
    ))
}

fn set_budgets(fd: BorrowedFd<'_>, config: &SocketConfig) -> Result<(), BindError> {
    if let Some(BusyPoll { usecs, budget }) = config.busy_poll {
        let usecs = c_int::try_from(usecs).unwrap_or(c_int::MAX);
        for (name, value) in [
            (SO_PREFER_BUSY_POLL, 1),
            (libc::SO_BUSY_POLL, usecs),
            (SO_BUSY_POLL_BUDGET, c_int::from(budget)),
        ] {
            sys::set_option(fd, libc::SOL_SOCKET, name, &value)
                .map_err(|e| failed("setsockopt(SO_BUSY_POLL)", e))?;
        }
    }
    if let Some(budget) = config
        .tx_budget
        .filter(|_| config.rings.tx >= LEAST_TX_BUDGET)
    {
        let budget = budget.clamp(LEAST_TX_BUDGET, config.rings.tx);
        match sys::set_option(fd, libc::SOL_XDP, XDP_MAX_TX_SKB_BUDGET, &budget) {
            Err(e) if e.raw_os_error() == Some(libc::ENOPROTOOPT) => {}
            other => other.map_err(|e| failed("setsockopt(XDP_MAX_TX_SKB_BUDGET)", e))?,
        }
    }
    Ok(())
}

fn bind_queue(
    fd: BorrowedFd<'_>,
    config: &SocketConfig,
    share: Option<BorrowedFd<'_>>,
    mode: Mode,
) -> Result<(), BindError> {
    let SocketConfig { ifindex, queue, .. } = *config;
    let own_flags = match config.mode {
        Mode::ZeroCopy => libc::XDP_ZEROCOPY,
        Mode::Copy => libc::XDP_COPY,
    } | if config.need_wakeup {
        libc::XDP_USE_NEED_WAKEUP
    } else {
        0
    };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        // A shared bind with any other flag is EINVAL (`xsk_bind`).
        sxdp_flags: if share.is_some() {
            libc::XDP_SHARED_UMEM
        } else {
            own_flags
        },
        sxdp_ifindex: ifindex,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: share.map_or(0, |fd| fd.as_raw_fd() as u32),
    };
    let started = Instant::now();
    let error = loop {
        match sys::bind(fd, &address) {
            Ok(()) => return Ok(()),
            Err(e) if e.raw_os_error() == Some(libc::EBUSY) && started.elapsed() < BUSY_FOR => {
                thread::sleep(BUSY_PAUSE);
            }
            Err(e) => break e,
        }
    };
    Err(match error.raw_os_error() {
        Some(libc::EBUSY) => BindError::Busy { ifindex, queue },
        Some(libc::ENODEV | libc::ENXIO) => BindError::NoDevice { ifindex },
        Some(libc::ENETDOWN) => BindError::Down { ifindex },
        Some(libc::EOPNOTSUPP) => BindError::NotSupported { ifindex, mode },
        Some(libc::EINVAL) => match sys::queues(ifindex) {
            Some(queues) if queue >= queues => BindError::Queue {
                ifindex,
                queue,
                queues: Some(queues),
            },
            // In copy mode a queue out of range is the one thing left that the kernel can refuse (`xp_assign_dev`).
            _ if mode == Mode::Copy => BindError::Queue {
                ifindex,
                queue,
                queues: None,
            },
            _ => BindError::NotSupported { ifindex, mode },
        },
        _ => failed("bind", error),
    })
}

fn failed(call: &'static str, source: io::Error) -> BindError {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => BindError::Privilege,
        Some(libc::EAFNOSUPPORT) => BindError::Kernel,
        _ => BindError::Os { call, source },
    }
}
