//! The program of a port: loaded, attached by a link that nothing else holds, and given the sockets.

use crate::port::{Hears, Nic, PortError};
use af_xdp::Socket;
use aya::maps::{Array, MapData, XskMap};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use std::os::fd::{AsFd, AsRawFd};

/// `port.bpf.c`, compiled.
static OBJECT: &[u8] = aya::include_bytes_aligned!("bpf/port.bpf.o");

/// The program on a NIC: it goes when this is dropped, and with the process however that ends.
pub(crate) struct Program {
    ebpf: Ebpf,
    _link: FdLink,
    /// In the driver, not in the network stack.
    pub(crate) driver: bool,
}

impl Program {
    /// Attaches it to a NIC of the calling thread's network namespace.
    pub(crate) fn attach(nic: &Nic, hears: Hears) -> Result<Program, PortError> {
        let mut ebpf = load(nic)?;
        let mut peer = [0; 8];
        match hears {
            Hears::From(mac) => peer[..6].copy_from_slice(&mac),
            Hears::All | Hears::Nothing => peer[6] = 1,
        }
        set_peer(&mut ebpf, nic, peer)?;
        let (link, driver) = attach(&mut ebpf, nic)?;
        Ok(Program {
            ebpf,
            _link: link,
            driver,
        })
    }

    /// From now on frames of each socket's queue go to it.
    pub(crate) fn enter(&mut self, nic: &Nic, sockets: &[Socket]) -> Result<(), PortError> {
        enter(&mut self.ebpf, nic, sockets)
    }
}

fn load(nic: &Nic) -> Result<Ebpf, PortError> {
    EbpfLoader::new().load(OBJECT).map_err(|e| refused(nic, &e))
}

fn set_peer(ebpf: &mut Ebpf, nic: &Nic, peer: [u8; 8]) -> Result<(), PortError> {
    let what = "cannot name the other port";
    let map = ebpf.map_mut("peer");
    let map = map.ok_or_else(|| program_error(nic, what, "no such map".into()))?;
    let mut map: Array<&mut MapData, [u8; 8]> =
        Array::try_from(map).map_err(|e| program_error(nic, what, chain(&e)))?;
    map.set(0, peer, 0)
        .map_err(|e| program_error(nic, what, chain(&e)))
}

/// In the driver, or in the network stack where the driver has no XDP.
fn attach(ebpf: &mut Ebpf, nic: &Nic) -> Result<(FdLink, bool), PortError> {
    let what = "cannot attach its program";
    let program: &mut Xdp = ebpf
        .program_mut("port")
        .ok_or_else(|| program_error(nic, what, "no such program".into()))?
        .try_into()
        .map_err(|e: ProgramError| program_error(nic, what, chain(&e)))?;
    program.load().map_err(|e| refused(nic, &e))?;
    let attached = match program.attach_to_if_index(nic.index, XdpMode::Driver) {
        Ok(id) => Ok((id, true)),
        Err(e) if taken(&e) => Err(e),
        Err(_) => {
            let id = program.attach_to_if_index(nic.index, XdpMode::Skb);
            id.map(|id| (id, false))
        }
    };
    let (id, driver) = attached.map_err(|e| match taken(&e) {
        true => PortError::Taken {
            nic: nic.name.clone(),
        },
        false => refused(nic, &e),
    })?;
    let link = program
        .take_link(id)
        .map_err(|e| program_error(nic, what, chain(&e)))?;
    // An attachment without a link of its own would outlive the process.
    let old = "this kernel has no XDP links (Linux 5.9 or later is needed)";
    let link = link
        .try_into()
        .map_err(|e| program_error(nic, old, chain(&e)))?;
    Ok((link, driver))
}

fn taken(e: &(dyn std::error::Error + 'static)) -> bool {
    // EBUSY and EEXIST.
    matches!(code(e), Some(16 | 17))
}

fn enter(ebpf: &mut Ebpf, nic: &Nic, sockets: &[Socket]) -> Result<(), PortError> {
    let what = "cannot enter its sockets in the map";
    let map = ebpf.map_mut("xsks");
    let map = map.ok_or_else(|| program_error(nic, what, "no such map".into()))?;
    let mut map: XskMap<&mut MapData> =
        XskMap::try_from(map).map_err(|e| program_error(nic, what, chain(&e)))?;
    for socket in sockets {
        map.set(socket.queue(), socket.as_fd().as_raw_fd(), 0)
            .map_err(|e| program_error(nic, what, chain(&e)))?;
    }
    Ok(())
}

fn program_error(nic: &Nic, what: &'static str, why: String) -> PortError {
    PortError::Program {
        nic: nic.name.clone(),
        what,
        why,
    }
}

fn refused(nic: &Nic, e: &(dyn std::error::Error + 'static)) -> PortError {
    // EPERM and EACCES.
    match code(e) {
        Some(1 | 13) => PortError::Privilege,
        _ => program_error(nic, "the kernel refuses its program", chain(e)),
    }
}

fn code(e: &(dyn std::error::Error + 'static)) -> Option<i32> {
    std::iter::successors(Some(e), |e| e.source())
        .find_map(|e| e.downcast_ref::<std::io::Error>()?.raw_os_error())
}

/// An error and what is behind it, on one line.
fn chain(e: &(dyn std::error::Error + 'static)) -> String {
    let parts = std::iter::successors(Some(e), |e| e.source()).map(ToString::to_string);
    parts.collect::<Vec<_>>().join(": ").replace('\n', " ")
}
