//! Boxes that never leave the kernel and look at nothing: the programs of `bpf/wire.bpf.c`.

use super::Middle;
use crate::Failure;
use crate::netns::{self, Lab, Received};
use aya::Ebpf;
use aya::maps::{Array, DevMap};
use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode, tc};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/wire.bpf.o");

/// From the LAN port to the uplink port; nothing comes back.
pub struct Wire {
    received: Received,
    _programs: Ebpf,
}

impl Wire {
    /// By the LAN port's ingress hook of traffic control.
    pub fn traffic_control(lab: &Lab) -> Result<Wire, Failure> {
        let out = lab.index(&lab.mid, &lab.uplink_port)?;
        Wire::start(lab, |ebpf| {
            let mut map: Array<_, u32> =
                Array::try_from(ebpf.map_mut("out_tc").ok_or("no map out_tc")?)?;
            map.set(0, out, 0)?;
            let program: &mut SchedClassifier = ebpf
                .program_mut("wire_tc")
                .ok_or("no program wire_tc")?
                .try_into()?;
            program.load()?;
            // Asked for by kernels before 6.6.
            let _ = tc::qdisc_add_clsact(&lab.lan_port);
            program.attach(&lab.lan_port, TcAttachType::Ingress)?;
            Ok(())
        })
    }

    /// By XDP on the LAN port.
    pub fn xdp(lab: &Lab) -> Result<Wire, Failure> {
        let lan = lab.index(&lab.mid, &lab.lan_port)?;
        let out = lab.index(&lab.mid, &lab.uplink_port)?;
        Wire::start(lab, |ebpf| {
            let mut map = DevMap::try_from(ebpf.map_mut("out_xdp").ok_or("no map out_xdp")?)?;
            map.set(0, out, None, 0)?;
            let program: &mut Xdp = ebpf
                .program_mut("wire_xdp")
                .ok_or("no program wire_xdp")?
                .try_into()?;
            program.load()?;
            program.attach_to_if_index(lan, XdpMode::Driver)?;
            Ok(())
        })
    }

    /// Interfaces are those of the namespace of whoever attaches, and fills a map of devices.
    fn start(
        lab: &Lab,
        attach: impl FnOnce(&mut Ebpf) -> Result<(), Failure> + Send,
    ) -> Result<Wire, Failure> {
        let mut programs = Ebpf::load(OBJECT)?;
        netns::within(&lab.mid, || attach(&mut programs))??;
        Ok(Wire {
            received: lab.received()?,
            _programs: programs,
        })
    }
}

impl Middle for Wire {
    fn threads(&self) -> Vec<i32> {
        Vec::new()
    }

    fn received(&mut self) -> Result<u64, Failure> {
        self.received.read()
    }
}
