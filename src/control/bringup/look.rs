//! Looking at a NIC before anything is touched.

use super::BringupError;
use crate::config::{Bridge, Offloads, OnFailure, Queues};
use crate::os::nic::{self, Nic};
use crate::os::offload::{self, OffloadError};
use crate::port::gate::{self, GateError};

/// Bytes in front of each frame that the kernel keeps for XDP programs (`XDP_PACKET_HEADROOM`, linux/bpf.h).
const HEADROOM: u32 = 256;
/// Ethernet and two VLAN tags.
const LINK_HEADER: u32 = 14 + 8;

/// The largest MTU that fits a chunk of so many bytes.
pub fn room(chunk: u32) -> u32 {
    chunk - HEADROOM - LINK_HEADER
}

/// Looks at a NIC, and refuses what cannot work.
pub(super) fn look(
    name: &str,
    bridge: &Bridge,
    notes: &mut Vec<String>,
) -> Result<Nic, BringupError> {
    let nic = nic::block_on(nic::inspect(name))?;
    if nic.controller.is_some() {
        return Err(BringupError::Enslaved { nic: nic.name });
    }
    if !nic.up {
        return Err(BringupError::Down { nic: nic.name });
    }
    if nic.xdp.is_some() && !gate::is_pinned(&nic.name, nic.index, &bridge.bpffs) {
        return Err(GateError::Taken { nic: nic.name }.into());
    }
    let room = room(bridge.chunk);
    if nic.mtu > room {
        let hint = if bridge.chunk < 4096 {
            ", or set chunk = 4096"
        } else {
            ""
        };
        return Err(BringupError::Mtu {
            nic: nic.name,
            mtu: nic.mtu,
            chunk: bridge.chunk,
            room,
            hint,
        });
    }
    if let Queues::Count(wanted) = bridge.queues
        && u32::from(wanted) != nic.rx_queues
    {
        return Err(BringupError::Queues {
            nic: nic.name,
            queues: nic.rx_queues,
            wanted: wanted.into(),
        });
    }
    if nic.features.is_empty() {
        if bridge.offloads == Offloads::Check {
            return Err(BringupError::Features { nic: nic.name });
        }
        notes.push(format!(
            "the kernel does not tell the offloads of {name}; see to it that GRO, LRO and VLAN stripping are off: ethtool -K {name} gro off lro off rxvlan off"
        ));
    }
    let harmful = offload::harmful(&nic);
    if bridge.offloads == Offloads::Check && !harmful.is_empty() {
        let command = format!(
            "ethtool {}",
            offload::arguments(&nic.name, &harmful, false).join(" ")
        );
        return Err(OffloadError::On {
            nic: nic.name,
            names: harmful,
            why: "offloads = \"check\"".into(),
            command,
        }
        .into());
    }
    if nic.veth && bridge.on_failure == OnFailure::Open {
        notes.push(format!(
            "{name} is a veth: on_failure = \"open\" reaches its far end only with `ethtool -K IF gro on` there"
        ));
    }
    if nic.veth {
        notes.push(format!(
            "{name} is a veth: run `ethtool -K IF tx off txvlan off` on its far end, or checksums and VLAN tags do not come along"
        ));
    }
    Ok(nic)
}
