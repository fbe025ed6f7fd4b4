//! Rule sets and packet traces for measuring classifiers: made from a seed, with the kind of statistics that
//! ClassBench (Taylor and Turner, IEEE/ACM Transactions on Networking 15(3), 2007) found in real filter sets, and
//! written and read in its text format, so that the same files can be given to other classifiers.
//!
//! ```
//! let profile = "acl".parse().unwrap();
//! let rules = classbench::generate(profile, 1000, 1);
//! let headers = classbench::trace(&rules, 16_384, 1);
//! let policy = classbench::policy(&rules);
//! let table = portcullis::policy::Table::compile(&policy).unwrap();
//! let reference = classbench::Reference::new(&rules);
//! let id = table.lookup(&classbench::key(&headers[0]));
//! assert_eq!(reference.first_match(&headers[0]), Some(id.index()));
//! ```

#![deny(unsafe_code)]

mod format;
mod generate;
pub mod machine;
pub mod measured;
pub mod ours;
mod policy;
mod profile;
mod random;
mod reference;
mod trace;

pub use format::{ParseError, parse_rules, parse_trace, write_rules, write_trace};
pub use generate::{generate, prefixes};
pub use policy::{key, policy};
pub use profile::{Kind, Profile, UnknownProfile};
pub use reference::Reference;
pub use trace::trace;

use ipnet::IpNet;
use std::net::IpAddr;

/// One line of a rule set: a five-tuple match. Earlier lines have priority.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Source prefix, bits below its length 0.
    pub src: IpNet,
    /// Destination prefix, of the same family.
    pub dst: IpNet,
    /// Source ports, first and last.
    pub sport: (u16, u16),
    /// Destination ports, first and last.
    pub dport: (u16, u16),
    /// Transport protocol, as far as `mask` looks at it.
    pub proto: u8,
    /// Which bits of the protocol count: 0xff for all of them, 0 for any protocol.
    pub mask: u8,
}

/// One packet of a trace: what a five-tuple classifier sees of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Source address.
    pub src: IpAddr,
    /// Destination address, of the same family.
    pub dst: IpAddr,
    /// Source port.
    pub sport: u16,
    /// Destination port.
    pub dport: u16,
    /// Transport protocol.
    pub proto: u8,
    /// The line (from 0) that the packet was drawn from, `None` where it is wholly random. An earlier line may match
    /// it first.
    pub drawn_from: Option<usize>,
}
