//! What is compared: each box with a load and a place for its receive work.

use crate::rules::Nft;
use serde::{Deserialize, Serialize};

/// What is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Load {
    /// Flows that every policy here allows.
    Office,
    /// UDP to port 69, which the baseline forbids.
    Tftp,
}

/// Where the receive work of the LAN port is done.
///
/// A frame that crosses a veth is received by a soft interrupt on the core that sent it, here the generator's, unless the port's NAPI has
/// a thread. A kernel box does all of its work in there, so its NAPI is threaded and on the box's core. A box in user space has its own
/// thread on that core; the driver's part, which copies into its memory, can be on either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Receive {
    /// In a kernel thread on the box's core.
    BoxCore,
    /// In the generator's soft interrupts: like a NIC whose interrupt is steered to another core than the worker's.
    GeneratorCore,
}

/// How testpmd gets at frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// DPDK's net_af_xdp.
    AfXdp,
    /// DPDK's net_af_packet.
    AfPacket,
}

/// A way to join the two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bare AF_XDP loop.
    Floor {
        /// It also reads where each frame goes, as whatever decides over frames has to.
        reads: bool,
    },
    /// Portcullis with the baseline policy.
    Gate {
        /// The thousand rules before the baseline's.
        thousand: bool,
        /// The rule for TFTP alerts, as it does by default.
        alert: bool,
    },
    /// The Linux bridge.
    Bridge(Option<Nft>),
    /// A BPF program at the ingress hook of traffic control.
    Tc,
    /// An XDP program.
    Xdp,
    /// DPDK's testpmd.
    Testpmd(Driver),
}

/// What a box has to do with frames, to be measured at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// It passes whatever comes.
    Forward,
    /// It passes what the policy allows and nothing else.
    Filter,
    /// It takes frames and sends none.
    Swallow,
}

/// One line of the comparison.
#[derive(Clone, Copy, Debug)]
pub struct Contender {
    /// What the table calls it.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Where it receives.
    pub receive: Receive,
    /// What it is given.
    pub load: Load,
    /// In a few words, for `--list`.
    pub what: &'static str,
}

impl Contender {
    /// What is asked of it before it is measured.
    pub fn duty(&self) -> Duty {
        match self.kind {
            Kind::Gate { .. } | Kind::Bridge(Some(_)) => Duty::Filter,
            Kind::Floor { .. } | Kind::Testpmd(_) if self.load == Load::Tftp => Duty::Swallow,
            _ => Duty::Forward,
        }
    }

    /// True if the thousand rules are part of its policy.
    pub fn has_thousand(&self) -> bool {
        match self.kind {
            Kind::Gate { thousand, .. } => thousand,
            Kind::Bridge(nft) => matches!(nft, Some(Nft::Linear | Nft::Set | Nft::Conntrack)),
            _ => false,
        }
    }

    /// True if it remembers flows, so that they have to be opened.
    pub fn has_state(&self) -> bool {
        matches!(
            self.kind,
            Kind::Gate { .. } | Kind::Bridge(Some(Nft::Conntrack))
        )
    }

    /// True if a thread of it in user space polls, and so uses a core up whatever comes.
    pub fn spins(&self) -> bool {
        matches!(
            self.kind,
            Kind::Floor { .. } | Kind::Gate { .. } | Kind::Testpmd(_)
        )
    }
}

/// The names that ratios and bars go by.
pub mod name {
    pub const FLOOR: &str = "floor";
    pub const TESTPMD: &str = "testpmd io";
    pub const GATE_1000: &str = "gate, 1000 rules";
    pub const GATE_ONE: &str = "gate, 1000 rules, one core";
    pub const BRIDGE: &str = "bridge";
    pub const NFT_1000: &str = "bridge+nftables, 1000 rules";
    pub const CONNTRACK: &str = "bridge+conntrack, 1000 rules";
    pub const FLOOR_ONE: &str = "floor, one core";
    pub const TESTPMD_ONE: &str = "testpmd io, one core";
    pub const DROP_FLOOR: &str = "drop: floor";
    pub const DROP_GATE: &str = "drop: gate";
    pub const DROP_TESTPMD: &str = "drop: testpmd";
}

const fn contender(name: &'static str, kind: Kind, what: &'static str) -> Contender {
    let receive = match kind {
        Kind::Floor { .. } | Kind::Gate { .. } | Kind::Testpmd(_) => Receive::GeneratorCore,
        Kind::Bridge(_) | Kind::Tc | Kind::Xdp => Receive::BoxCore,
    };
    Contender {
        name,
        kind,
        receive,
        load: Load::Office,
        what,
    }
}

const fn on_one_core(of: Contender) -> Contender {
    Contender {
        receive: Receive::BoxCore,
        ..of
    }
}

const fn flooded(of: Contender) -> Contender {
    Contender {
        load: Load::Tftp,
        ..of
    }
}

const FLOOR: Kind = Kind::Floor { reads: false };

const fn gate(thousand: bool, alert: bool) -> Kind {
    Kind::Gate { thousand, alert }
}

/// All of them, in the order of the table.
pub const CONTENDERS: [Contender; 21] = [
    contender(
        name::FLOOR,
        FLOOR,
        "a bare AF_XDP loop in copy mode: descriptors moved, nothing looked at",
    ),
    contender(
        name::TESTPMD,
        Kind::Testpmd(Driver::AfXdp),
        "DPDK testpmd, net_af_xdp, io mode: nothing looked at",
    ),
    contender(
        "gate",
        gate(false, true),
        "Portcullis, baseline policy, stateful",
    ),
    contender(
        name::GATE_1000,
        gate(true, true),
        "Portcullis, 1,000 rules before the baseline's, stateful",
    ),
    contender(
        name::BRIDGE,
        Kind::Bridge(None),
        "the Linux bridge, no rules",
    ),
    contender(
        "bridge+nftables",
        Kind::Bridge(Some(Nft::Ports)),
        "the baseline's port rules in nftables, without state",
    ),
    contender(
        name::NFT_1000,
        Kind::Bridge(Some(Nft::Linear)),
        "the 1,000 rules and these, one nftables rule each, without state",
    ),
    contender(
        "bridge+nftables, 1000 in a set",
        Kind::Bridge(Some(Nft::Set)),
        "the same, the 1,000 in one nftables set",
    ),
    contender(
        name::CONNTRACK,
        Kind::Bridge(Some(Nft::Conntrack)),
        "the same with state: br_netfilter and conntrack, open flows accepted first",
    ),
    contender(
        "tc redirect",
        Kind::Tc,
        "a BPF program of traffic control, nothing looked at",
    ),
    contender(
        "XDP redirect",
        Kind::Xdp,
        "an XDP program, nothing looked at",
    ),
    contender(
        "testpmd io, af_packet",
        Kind::Testpmd(Driver::AfPacket),
        "DPDK testpmd, net_af_packet, io mode",
    ),
    on_one_core(contender(
        name::FLOOR_ONE,
        FLOOR,
        "the floor, receive work on its own core",
    )),
    on_one_core(contender(
        name::TESTPMD_ONE,
        Kind::Testpmd(Driver::AfXdp),
        "testpmd, receive work on its own core",
    )),
    on_one_core(contender(
        name::GATE_ONE,
        gate(true, true),
        "Portcullis, 1,000 rules, receive work on its own core",
    )),
    flooded(contender(
        name::DROP_FLOOR,
        FLOOR,
        "a TFTP flood into the floor, which sends nothing on",
    )),
    flooded(contender(
        "drop: floor that reads",
        Kind::Floor { reads: true },
        "the same, and the first 16 bytes of each frame are read",
    )),
    flooded(contender(
        name::DROP_TESTPMD,
        Kind::Testpmd(Driver::AfXdp),
        "a TFTP flood into testpmd, net_af_xdp, rxonly mode",
    )),
    flooded(contender(
        name::DROP_GATE,
        gate(false, true),
        "a TFTP flood that Portcullis drops and tells of",
    )),
    flooded(contender(
        "drop: gate, no alert",
        gate(false, false),
        "a TFTP flood that Portcullis drops",
    )),
    flooded(contender(
        "drop: bridge+nftables",
        Kind::Bridge(Some(Nft::Ports)),
        "a TFTP flood that nftables drops",
    )),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_filter_is_asked_to_drop_and_no_other_box_is() {
        let filters = |contender: &&Contender| contender.duty() == Duty::Filter;
        let names: Vec<&str> = CONTENDERS.iter().filter(filters).map(|c| c.name).collect();
        let named = |name: &str| name.contains("gate") || name.contains('+');
        assert!(names.iter().all(|name| named(name)), "{names:?}");
        assert_eq!(
            CONTENDERS.iter().filter(|c| named(c.name)).count(),
            names.len()
        );
    }

    #[test]
    fn no_two_have_the_same_name() {
        for (at, contender) in CONTENDERS.iter().enumerate() {
            assert!(CONTENDERS[..at].iter().all(|c| c.name != contender.name));
        }
    }
}
