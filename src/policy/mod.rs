//! What is decided, and by which rule: the vocabulary shared by config, table, oracle and worker.

pub mod addr;
pub mod admit;
mod compile;
pub mod explain;
pub mod oracle;
pub mod rule;
pub mod table;
pub mod test;

pub use addr::{AddrMatch, AddrRange, Family, Set, Term};
pub use explain::{Explanation, explain};
pub use rule::{
    Clause, DEFAULT_RULE, Direction, Origin, Policy, PolicyTest, PortSet, ProtoSet, Rule,
};
pub use table::{CompileError, RuleInfo, Table};

use crate::frame::{Meta, Net};
use crate::telemetry::Reason;

/// The port a frame was received on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Side {
    /// The inside.
    Lan = 0,
    /// The outside.
    Uplink = 1,
}

impl Side {
    /// Both, in index order.
    pub const BOTH: [Side; 2] = [Side::Lan, Side::Uplink];

    /// The other side.
    pub const fn other(self) -> Side {
        match self {
            Side::Lan => Side::Uplink,
            Side::Uplink => Side::Lan,
        }
    }

    /// `lan` or `uplink`.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Lan => "lan",
            Side::Uplink => "uplink",
        }
    }

    /// The direction of what is received here: `out` or `in`.
    pub const fn direction(self) -> &'static str {
        match self {
            Side::Lan => "out",
            Side::Uplink => "in",
        }
    }
}

/// Index of a rule in the rules of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u16);

/// What happens to a frame that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Forward.
    Allow,
    /// Drop in silence.
    Drop,
    /// Drop, and tell the sender if it is inside.
    Reject,
}

/// How loud an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Severity {
    Low,
    Medium,
    High,
}

impl Severity {
    /// `low`, `medium` or `high`.
    pub const fn name(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
        }
    }
}

/// What happens to one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Sent on the other side, unchanged.
    Forward,
    /// Not sent.
    Drop(Reason),
    /// Not sent, and answered with a TCP RST or an ICMP error where that is allowed.
    Reject(Reason),
}

impl Verdict {
    /// `forward`, `drop` or `reject`.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Forward => "forward",
            Verdict::Drop(_) => "drop",
            Verdict::Reject(_) => "reject",
        }
    }
}

/// What a rule may match on: the fields of a frame that the rule table looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Source address; IPv4 in the low 32 bits.
    pub src: u128,
    /// Destination address; IPv4 in the low 32 bits.
    pub dst: u128,
    /// TCP or UDP source port, or ICMP type.
    pub sport: u16,
    /// TCP or UDP destination port, or ICMP code.
    pub dport: u16,
    /// Transport protocol.
    pub proto: u8,
    /// The side the frame came from.
    pub side: Side,
    /// True for IPv6.
    pub v6: bool,
}

impl Key {
    /// The key of a parsed IP frame received on `side`.
    pub fn new(meta: &Meta, side: Side) -> Key {
        Key {
            src: meta.src,
            dst: meta.dst,
            sport: meta.sport,
            dport: meta.dport,
            proto: meta.proto,
            side,
            v6: meta.net == Net::V6,
        }
    }
}
