//! The kernel-facing layer of Linux `AF_XDP`: packet memory (UMEM), the four rings, the socket and its statistics.
//! It knows nothing of what is in a frame and loads no XDP program.
//!
//! ```text
//!              Umem: one mapping, cut into chunks; a chunk is owned through its one Frame
//!
//!    Vec<Frame> ── fill ──▶ fill ring ──▶ ┌────────┐ ──▶ rx ring ───────── receive ──▶ Vec<Frame>
//!        ▲                                │ kernel │                                      │
//!        └─ complete ◀── completion ring ◀└────────┘◀── tx ring ◀───────── send ──────────┘
//! ```
//!
//! A [`Frame`] is a token: it can be neither copied nor made, and every operation that gives a chunk to the kernel
//! consumes it. So a frame received on one device is sent on another by handing over its descriptor, and two owners
//! of one chunk are a type error. What the kernel hands back is checked (in range, and really the kernel's to give)
//! before it becomes a `Frame`; what fails the check is counted by [`Socket::invalid`].
//!
//! A dropped `Frame`, and the frames in the rings of a dropped [`Socket`], are lost to their [`Umem`] for its life:
//! memory stays safe, the chunks are just not used again.
//!
//! Memory in a file and bound sockets can be handed to another process: see [`Umem::adopt`] and [`Socket::take_over`].
//!
//! The numbers, structures and rules are those of `linux/if_xdp.h` and
//! <https://docs.kernel.org/networking/af_xdp.html>.
//!
//! # Tests
//! `cargo test -p af_xdp` (the tests against real veth pairs need root and say so). The cursors are modelled with
//! loom by `RUSTFLAGS="--cfg loom" cargo test -p af_xdp --release --lib`.

#![cfg(any(target_os = "linux", target_os = "android"))]
// Under loom only the ring is built, and nothing uses all of it.
#![cfg_attr(loom, allow(dead_code))]

mod ring;

#[cfg(not(loom))]
mod bind;
#[cfg(not(loom))]
mod block;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod mapping;
#[cfg(not(loom))]
mod queues;
#[cfg(not(loom))]
mod socket;
#[cfg(not(loom))]
mod sys;
#[cfg(not(loom))]
mod umem;
#[cfg(not(loom))]
mod wait;

#[cfg(not(loom))]
pub use {
    bind::{BusyPoll, Mode, RingSizes, SocketConfig},
    block::{Array, Block},
    error::{BindError, TakeOverError, TooLong, UmemError, WakeError},
    mapping::Words,
    socket::{Socket, Statistics, StatisticsReader},
    sys::duplicate,
    umem::{Frame, Pages, Umem, UmemConfig},
    wait::wait,
};

/// Asks the processor for the first cache line of `place`. A hint for x86-64 and aarch64, nothing elsewhere.
#[cfg(not(loom))]
#[inline]
pub fn prefetch<T>(place: &T) {
    sys::prefetch_at::<true>(std::ptr::from_ref(place).cast());
}

/// Room for `count` values, behind huge pages where the kernel has them: for tables that are read at random, which would cost a page walk a read otherwise.
#[cfg(not(loom))]
pub fn huge_vec<T>(count: usize) -> Vec<T> {
    let mut memory = Vec::with_capacity(count);
    sys::advise_huge(memory.spare_capacity_mut());
    memory
}
