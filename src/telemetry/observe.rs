//! What workers see hosts of the LAN do, for the control thread to judge by: fixed size, nothing behind a pointer. Nothing here decides over a frame.

use crossbeam::queue::ArrayQueue;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// What is looked for in how a host behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[allow(missing_docs)] // Their names say it.
pub enum Behaviour {
    ScanHorizontal,
    ScanVertical,
    DnsTunnel,
    IcmpTunnel,
    Upload,
    Beacon,
}

impl Behaviour {
    /// All of them, in the order of their numbers.
    pub const ALL: [Behaviour; 6] = [
        Behaviour::ScanHorizontal,
        Behaviour::ScanVertical,
        Behaviour::DnsTunnel,
        Behaviour::IcmpTunnel,
        Behaviour::Upload,
        Behaviour::Beacon,
    ];

    /// The signature of its alerts, and its label in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Behaviour::ScanHorizontal => "scan-horizontal",
            Behaviour::ScanVertical => "scan-vertical",
            Behaviour::DnsTunnel => "dns-tunnel",
            Behaviour::IcmpTunnel => "icmp-tunnel",
            Behaviour::Upload => "upload",
            Behaviour::Beacon => "beacon",
        }
    }
}

/// A host of the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its address, IPv4 in the low 32 bits.
    pub address: u128,
    /// The address is one of IPv6.
    pub v6: bool,
    /// The MAC address that the frame had.
    pub mac: [u8; 6],
    /// The MAC address at the other end of the frame: mostly the router's.
    pub router: [u8; 6],
}

/// The other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its address, of the same family as the host's.
    pub address: u128,
    /// Its port; 0 where the protocol has none.
    pub port: u16,
    /// The transport protocol.
    pub proto: u8,
}

/// The most bytes of a domain that are kept.
pub const DOMAIN: usize = 48;

/// One question of DNS over UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// Who is asked.
    pub server: u128,
    /// Of the whole name in lower case, by a key that nobody outside knows.
    pub hash: u64,
    /// Bytes of the labels before the last two, with the dots between them.
    pub length: u8,
    /// Bytes of the longest of these.
    pub longest: u8,
    /// Shannon entropy of their bytes, in eighths of a bit.
    pub entropy: u8,
    /// QTYPE.
    pub kind: u16,
    /// The last two labels in lower case with a dot between, or as much of their end as has room; zeros behind it.
    pub domain: [u8; DOMAIN],
}

/// One ICMP or ICMPv6 echo request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// Where it goes.
    pub to: u128,
    /// Its identifier.
    pub identifier: u16,
    /// Bytes behind the header of 8.
    pub size: u16,
    /// They are what a ping sends: a time, then a pattern.
    pub ordinary: bool,
}

/// What was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A flow that the host opened, or wanted to.
    Opened {
        /// Towards whom.
        peer: Peer,
        /// It was refused.
        blocked: bool,
    },
    /// The other end of such a flow has answered for the first time.
    Answered(Peer),
    /// A question.
    Dns(Question),
    /// An echo request.
    Echo(Echo),
    /// One frame of many that were let through.
    Sent {
        /// Towards whom.
        peer: Peer,
        /// Bytes that it stands for.
        bytes: u32,
    },
}

/// One thing that a host did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Time of the burst, nanoseconds since the Unix epoch.
    pub wall: u64,
    /// The same by the clock that only goes on.
    pub steady: u64,
    /// Who.
    pub host: Host,
    /// What.
    pub what: What,
}

/// The bounded ring from one worker to the control thread: one pushes, one pops, full is counted by the worker.
#[derive(Debug)]
pub struct Ring {
    queue: ArrayQueue<Observation>,
    key: u64,
}

/// Shared by a worker and the control thread.
pub type ObservationRing = Arc<Ring>;

impl Ring {
    /// False where there is no room for it.
    pub fn push(&self, observation: Observation) -> bool {
        self.queue.push(observation).is_ok()
    }

    /// The oldest.
    pub fn pop(&self) -> Option<Observation> {
        self.queue.pop()
    }

    /// How many there is room for.
    pub fn capacity(&self) -> usize {
        self.queue.capacity()
    }

    /// What names are hashed with: the same for all workers of a gate, odd.
    pub fn key(&self) -> u64 {
        self.key
    }
}

/// A ring for each of so many workers, with room for `capacity` observations each.
pub fn rings(workers: usize, capacity: usize) -> Vec<ObservationRing> {
    let key = RandomState::new().hash_one(workers) | 1;
    let ring = |_| {
        Arc::new(Ring {
            queue: ArrayQueue::new(capacity),
            key,
        })
    };
    (0..workers).map(ring).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_at_most_144_bytes() {
        assert!(
            size_of::<Observation>() <= 144,
            "{}",
            size_of::<Observation>()
        );
    }
}
