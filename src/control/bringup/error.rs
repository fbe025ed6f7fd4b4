//! Why a gate cannot be made ready: one line each, which says what to do.

use crate::os::nic::NicError;
use crate::os::offload::OffloadError;
use crate::port::gate::GateError;
use af_xdp::{BindError, UmemError};

/// Why the gate could not be made ready.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum BringupError {
    #[error(transparent)]
    Nic(#[from] NicError),
    #[error(transparent)]
    Offload(#[from] OffloadError),
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error("{nic} is down; run: ip link set {nic} up")]
    Down { nic: String },
    #[error(
        "{nic} belongs to a bridge or bond, which would forward past the gate; run: ip link set {nic} nomaster"
    )]
    Enslaved { nic: String },
    #[error(
        "{nic}: an MTU of {mtu} does not fit a chunk of {chunk} bytes, of which {room} hold the packet; run: ip link set {nic} mtu {room}{hint}"
    )]
    Mtu {
        nic: String,
        mtu: u32,
        chunk: u32,
        room: u32,
        hint: &'static str,
    },
    #[error(
        "{nic} has {queues} receive queues, {wanted} were asked for; each queue needs a socket, or its frames are dropped; run: ethtool -L {nic} combined {wanted}, or set queues = \"auto\""
    )]
    Queues {
        nic: String,
        queues: u32,
        wanted: u32,
    },
    #[error(
        "[bridge] frames = {frames} is too few for rings of {ring}: a NIC would starve; use at least {least}, or a smaller ring"
    )]
    Frames { frames: u32, ring: u32, least: u32 },
    #[error(
        "zero-copy mode needs chunk = 4096: drivers lose full-size frames in chunks of 2048 without a word"
    )]
    SmallChunk,
    #[error("{nic}: {source}{hint}")]
    Bind {
        nic: String,
        source: BindError,
        hint: &'static str,
    },
    #[error(
        "{nic}: the kernel does not tell its offloads, so they cannot be checked; set offloads = \"set\", and run: ethtool -K {nic} gro off lro off rxvlan off"
    )]
    Features { nic: String },
    #[error("packet memory: {0}")]
    Umem(#[from] UmemError),
    #[error(
        "[bridge] cores = {wanted:?}: this process may run on {allowed:?}; name some of these, or leave `cores` out"
    )]
    Cores {
        wanted: Vec<usize>,
        allowed: Vec<usize>,
    },
    #[error("{0}")]
    Statistics(std::io::Error),
}
