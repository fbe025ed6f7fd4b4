//! What is decided, and by which rule: the vocabulary shared by config, table, oracle and worker.

pub mod addr;
pub mod admit;
pub mod explain;
pub mod generation;
pub mod judge;
pub mod limit;
mod matches;
pub mod oracle;
pub mod roster;
pub mod rule;
pub mod table;
pub mod test;

pub use addr::{AddrMatch, AddrRange, Family, Set, Term, bits as addr_bits};
pub use explain::{Explanation, explain};
pub use generation::{Generation, InForce};
pub use roster::{Roster, RuleSlot};
pub use rule::{
    AppSet, Clause, DEFAULT_RULE, Direction, FlagMatch, Limit, MacMatch, Origin, Policy,
    PolicyTest, PortSet, ProtoSet, QUARANTINE_RULE, Rule, Tunnels,
};
pub use table::{CompileError, RuleInfo, Table};

use crate::frame::{Frag, Meta, Net};
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

/// Index of a rule in the rules of a policy. It is valid in one generation; what outlives that goes by [`RuleSlot`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u32);

impl RuleId {
    /// The index.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What happens to a frame that a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Forward.
    Allow,
    /// Drop in silence.
    Drop,
    /// Drop, and tell the sender if it is inside.
    Reject,
    /// Drop, and answer in the destination's place.
    Decoy(Manners),
}

/// The protocol that a decoy speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Manners {
    /// What one expects at the destination's port.
    Port,
    /// A chat server.
    Irc,
    /// A mail server.
    Smtp,
    /// A web server.
    Http,
    /// A file server over UDP.
    Tftp,
    /// It reads, and says nothing.
    Raw,
}

impl Manners {
    /// All, as they are written in a rule.
    pub const ALL: [(&'static str, Manners); 6] = [
        ("port", Manners::Port),
        ("irc", Manners::Irc),
        ("smtp", Manners::Smtp),
        ("http", Manners::Http),
        ("tftp", Manners::Tftp),
        ("raw", Manners::Raw),
    ];

    /// As it is written in a rule.
    pub const fn name(self) -> &'static str {
        match self {
            Manners::Port => "port",
            Manners::Irc => "irc",
            Manners::Smtp => "smtp",
            Manners::Http => "http",
            Manners::Tftp => "tftp",
            Manners::Raw => "raw",
        }
    }

    /// What it is at a port of TCP or UDP: never [`Manners::Port`]. Where TLS comes first (465, 6697, 443), that is `Raw`: there is no certificate to show.
    pub const fn at(self, udp: bool, port: u16) -> Manners {
        match (self, udp, port) {
            (Manners::Port, false, 25 | 587 | 2525) => Manners::Smtp,
            (Manners::Port, false, 194 | 6660..=6669 | 7000) => Manners::Irc,
            (Manners::Port, false, 80 | 3128 | 8000 | 8080 | 8888) => Manners::Http,
            (Manners::Port, true, 69) => Manners::Tftp,
            (Manners::Port, _, _) => Manners::Raw,
            (manners, _, _) => manners,
        }
    }
}

impl Action {
    /// As it is written in a rule.
    pub const fn name(self) -> &'static str {
        match self {
            Action::Allow => "allow",
            Action::Drop => "drop",
            Action::Reject => "reject",
            Action::Decoy(_) => "decoy",
        }
    }
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
    /// Not sent, and given to the box's own stack, which answers in the destination's place; dropped for [`Reason::DecoyFull`] where that has no room.
    Decoy(Manners),
    /// Not sent: it is for the box itself.
    Own,
}

impl Verdict {
    /// `forward`, `drop`, `reject`, `decoy` or `own`.
    pub const fn name(self) -> &'static str {
        match self {
            Verdict::Forward => "forward",
            Verdict::Drop(_) => "drop",
            Verdict::Reject(_) => "reject",
            Verdict::Decoy(_) => "decoy",
            Verdict::Own => "own",
        }
    }

    /// The same for a frame that nobody can answer in the destination's place: one of a connection that is open already, a part of a datagram, a packet in a tunnel.
    pub const fn without_decoy(self) -> Verdict {
        match self {
            Verdict::Decoy(_) => Verdict::Drop(Reason::Rule),
            other => other,
        }
    }
}

/// What a rule may match on: the fields of a frame that the rule table looks at.
///
/// In this order: the rule table reads protocol and side as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Key {
    /// Source address; IPv4 in the low 32 bits.
    pub src: u128,
    /// Destination address; IPv4 in the low 32 bits.
    pub dst: u128,
    /// TCP or UDP source port, or ICMP type.
    pub sport: u16,
    /// TCP or UDP destination port, or ICMP code.
    pub dport: u16,
    /// Ethertype inside any VLAN tags; for IP that of its version. 0 for 802.3 with LLC, which no rule can name.
    pub ethertype: u16,
    /// VLAN id of the outer tag, 0 to 4095 (0 is a priority tag, IEEE 802.1Q), or [`UNTAGGED`].
    pub vlan: u16,
    /// Source MAC address.
    pub src_mac: [u8; 6],
    /// Transport protocol; 0 where the frame is not IP.
    pub proto: u8,
    /// The side the frame came from.
    pub side: Side,
    /// TCP flags as in byte 13 of the header (RFC 9293 section 3.1); 0 for other protocols.
    pub tcp_flags: u8,
    /// The first fragment of a datagram that has more.
    pub fragment: bool,
    /// Which protocol family; of a frame that is not IP, addresses, ports and protocol are 0.
    pub net: Net,
    /// What the payload of its flow was identified as, the number of an [`App`](crate::app::App), or one of those of [`AppSet`]; 0 where nobody has looked.
    pub app: u8,
}

/// [`Key::vlan`] of a frame without a VLAN tag: one more than the highest id.
pub const UNTAGGED: u16 = 4096;

impl Key {
    /// An untagged frame from the inside with nothing in it.
    pub const EMPTY: Key = Key {
        src: 0,
        dst: 0,
        sport: 0,
        dport: 0,
        ethertype: 0,
        vlan: UNTAGGED,
        src_mac: [0; 6],
        proto: 0,
        tcp_flags: 0,
        fragment: false,
        net: Net::Other,
        side: Side::Lan,
        app: 0,
    };

    /// The family of the addresses; `None` where the frame is not IP.
    pub const fn family(&self) -> Option<Family> {
        match self.net {
            Net::V4 => Some(Family::V4),
            Net::V6 => Some(Family::V6),
            Net::Other | Net::Llc => None,
        }
    }

    /// The key of a parsed frame received on `side`.
    #[inline(always)]
    pub fn new(meta: &Meta, side: Side) -> Key {
        Key {
            src: meta.src,
            dst: meta.dst,
            sport: meta.sport,
            dport: meta.dport,
            ethertype: if let Net::Llc = meta.net {
                0
            } else {
                meta.ethertype
            },
            vlan: if meta.vlan_depth == 0 {
                UNTAGGED
            } else {
                meta.vlan[0] & 0xfff
            },
            src_mac: meta.src_mac,
            proto: meta.proto,
            tcp_flags: meta.tcp_flags,
            fragment: meta.frag == Frag::First,
            net: meta.net,
            side,
            app: 0,
        }
    }
}
