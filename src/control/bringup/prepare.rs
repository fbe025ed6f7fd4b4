//! Putting the gate on a NIC and making the NIC fit, with a way back.

use super::BringupError;
use crate::config::{Bridge, Mode as WantedMode, OnFailure};
use crate::control::status::PortInfo;
use crate::os::nic::{self, Nic};
use crate::os::offload::{self, Before, OffloadError};
use crate::policy::Side;
use crate::port::gate::{Gate, GateError, Hook, Loader};
use af_xdp::Socket;
use std::os::fd::AsFd;
use std::path::Path;

/// A port with the gate on it. Dropped before it is kept, it puts the NIC back.
pub(super) struct Prepared<'a> {
    nic: &'a Nic,
    info: Option<PortInfo>,
    gate: Option<Gate>,
    switched: Vec<String>,
    written: Option<&'a Path>,
}

impl Prepared<'_> {
    /// What to say where `auto` ended in the slowest mode.
    pub(super) fn slow_note(&self, bridge: &Bridge) -> Option<String> {
        let generic = self
            .gate
            .as_ref()
            .is_some_and(|gate| gate.hook() == Hook::Generic);
        let name = &self.nic.name;
        (generic && bridge.mode == WantedMode::Auto).then(|| {
            format!("{name} runs in generic mode, the slowest: its driver has no XDP, or not at an MTU of {}, or an earlier gate was left so (then: portcullis detach, and start again)", self.nic.mtu)
        })
    }

    pub(super) fn keep(mut self) -> (PortInfo, Gate) {
        self.written = None;
        self.switched.clear();
        match (self.info.take(), self.gate.take()) {
            (Some(info), Some(gate)) => (info, gate),
            // `prepare` hands out only ports that have both.
            _ => unreachable!("a prepared port without a gate"),
        }
    }
}

impl Drop for Prepared<'_> {
    fn drop(&mut self) {
        // Best effort: the error that led here is the one to tell.
        let _ = offload::switch(&self.nic.name, &self.switched, true);
        if let Some(state) = self.written {
            let _ = nic::block_on(nic::set_flags(self.nic, self.nic.promisc));
            Before::forget(state, &self.nic.name);
        }
        if let Some(gate) = self.gate.take() {
            gate.undo();
        }
    }
}

/// Puts the gate on a NIC, switches off what would harm, and gives its queues their sockets.
pub(super) fn prepare<'a>(
    bridge: &Bridge,
    loader: &mut Loader,
    (nic, side): (&'a Nic, Side),
    sockets: &[Socket],
    state: &'a Path,
) -> Result<Prepared<'a>, BringupError> {
    let mut port = Prepared {
        nic,
        info: None,
        gate: None,
        switched: Vec::new(),
        written: None,
    };
    let mut gate = put_gate(bridge, loader, nic)?;
    let hook = gate.hook();
    if bridge.on_failure == OnFailure::Closed {
        gate.close()?;
    }
    let stats = gate.take_stats(nic.rx_queues);
    port.gate = Some(gate);
    if Before::load(state, nic).is_none() {
        Before::of(nic).store(state, &nic.name)?;
        port.written = Some(state);
    }
    let harmful = offload::harmful(nic);
    offload::switch(&nic.name, &harmful, false)?;
    port.switched = harmful;
    let left = offload::harmful(&nic::block_on(nic::inspect(&nic.name))?);
    if !left.is_empty() {
        let command = format!(
            "ethtool {}",
            offload::arguments(&nic.name, &left, false).join(" ")
        );
        return Err(OffloadError::On {
            nic: nic.name.clone(),
            names: left,
            why: "the driver keeps them on".into(),
            command,
        }
        .into());
    }
    nic::block_on(nic::set_flags(nic, true))?;
    let mut readers = Vec::new();
    for socket in sockets {
        if let Some(gate) = &mut port.gate {
            gate.set_socket(socket.queue(), &socket.as_fd())?;
        }
        readers.push(
            socket
                .statistics_reader()
                .map_err(BringupError::Statistics)?,
        );
    }
    port.info = Some(PortInfo {
        side: side.name(),
        interface: nic.name.clone(),
        mode: match (sockets.first().is_some_and(Socket::zero_copy), hook) {
            (true, _) => "zero-copy",
            (false, Hook::Driver) => "copy",
            (false, Hook::Generic) => "generic",
        },
        queues: nic.rx_queues,
        sockets: readers,
        gate: stats,
    });
    Ok(port)
}

/// The gate in the driver, or in the network stack where the driver has no XDP and the config allows it.
fn put_gate(bridge: &Bridge, loader: &mut Loader, nic: &Nic) -> Result<Gate, GateError> {
    let at = |driver| if driver { Hook::Driver } else { Hook::Generic };
    let hooks: &[Hook] = match bridge.mode {
        WantedMode::Auto => &[Hook::Driver, Hook::Generic],
        WantedMode::ZeroCopy | WantedMode::Copy => &[Hook::Driver],
        WantedMode::Generic => &[Hook::Generic],
    };
    let taken = nic.xdp.map(|(_, driver)| at(driver));
    let port = (nic.name.as_str(), nic.index);
    Gate::attach(loader, port, hooks, &bridge.bpffs, taken)
}
