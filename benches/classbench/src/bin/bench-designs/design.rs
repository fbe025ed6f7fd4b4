//! What every design is given and has to answer.

use crate::lanes::Lanes;
use classbench::{Header, Rule};
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Packets handed over at once.
pub const BURST: usize = 32;
/// No rule, and more than the number of any.
pub const NONE: u32 = u32::MAX;

/// What a classifier of IPv4 sees of a packet.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packet {
    pub src: u32,
    pub dst: u32,
    pub sport: u16,
    pub dport: u16,
    pub proto: u8,
}

/// One rule: prefixes as value and length, ranges as first and last.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    pub src: (u32, u8),
    pub dst: (u32, u8),
    pub sport: (u16, u16),
    pub dport: (u16, u16),
    pub proto: u8,
    pub mask: u8,
}

/// A way to find the first of many rules that match.
pub trait Design: Sized {
    /// Builds it, or says where it stopped.
    fn build(lines: &[Line], budget: &Budget) -> Result<Self, Stopped>;

    /// Bytes that a look-up may read.
    fn memory(&self) -> usize;

    /// The first line (from 0) that matches each packet of a burst, or [`NONE`]. To be inlined:
    /// the function around it and `lanes` choose the instructions.
    fn classify(&self, lanes: impl Lanes, packets: &[Packet; BURST], out: &mut [u32; BURST]);

    /// What it looks like, for whoever reads the figures.
    fn shape(&self) -> String;
}

/// What building a design may take.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub bytes: usize,
    pub until: Instant,
}

/// Why there is no design.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stopped {
    #[error("stopped at {} MiB: {what}", bytes >> 20)]
    Bytes { bytes: usize, what: String },
    #[error("stopped by the clock: {what}")]
    Time { what: String },
    #[error("not possible: {what}")]
    Shape { what: String },
}

impl Budget {
    pub fn new(bytes: usize, time: Duration) -> Budget {
        Budget {
            bytes,
            until: Instant::now() + time,
        }
    }

    /// An error if `bytes` are too many or time is up; `what` is what was being built.
    pub fn check(&self, bytes: usize, what: impl Fn() -> String) -> Result<(), Stopped> {
        if bytes > self.bytes {
            Err(Stopped::Bytes {
                bytes,
                what: what(),
            })
        } else if Instant::now() > self.until {
            Err(Stopped::Time { what: what() })
        } else {
            Ok(())
        }
    }
}

/// The rules as numbers; `None` if one is not of IPv4.
pub fn lines(rules: &[Rule]) -> Option<Vec<Line>> {
    let prefix = |net: IpNet| match net {
        IpNet::V4(net) => Some((u32::from(net.network()), net.prefix_len())),
        IpNet::V6(_) => None,
    };
    let line = |rule: &Rule| {
        Some(Line {
            src: prefix(rule.src)?,
            dst: prefix(rule.dst)?,
            sport: rule.sport,
            dport: rule.dport,
            proto: rule.proto,
            mask: rule.mask,
        })
    };
    rules.iter().map(line).collect()
}

/// The header as numbers; `None` if it is not of IPv4.
pub fn packet(header: &Header) -> Option<Packet> {
    let addr = |addr| match addr {
        IpAddr::V4(addr) => Some(u32::from(addr)),
        IpAddr::V6(_) => None,
    };
    Some(Packet {
        src: addr(header.src)?,
        dst: addr(header.dst)?,
        sport: header.sport,
        dport: header.dport,
        proto: header.proto,
    })
}

/// First and last address of a prefix.
pub fn range((value, len): (u32, u8)) -> (u32, u32) {
    let host = u32::MAX.checked_shr(len.into()).unwrap_or(0);
    (value, value | host)
}

/// The mask of a prefix length.
pub fn netmask(len: u8) -> u32 {
    !u32::MAX.checked_shr(len.into()).unwrap_or(0)
}
