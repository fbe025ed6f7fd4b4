//! A checked policy: rules in order of evaluation, each a list of clauses.

use super::addr::{AddrMatch, Set};
pub use super::matches::{
    AppSet, FlagMatch, MacMatch, PROTOCOLS, PortSet, ProtoSet, TCP_FLAGS, Tunnels, proto_name,
};
use super::{Action, Key, Severity, Side};
use ipnet::IpNet;
use std::time::Duration;

/// The name of the pseudo-rule that ends every policy.
pub const DEFAULT_RULE: &str = "default";

/// The name of the rule that stops hosts in quarantine, in a running gate the first.
pub const QUARANTINE_RULE: &str = "quarantine";

/// A checked policy. The last rule is the pseudo-rule [`DEFAULT_RULE`], which matches everything, so that every
/// decision has a [`RuleId`](super::RuleId).
#[derive(Clone, Debug)]
pub struct Policy {
    /// The rules in order of evaluation: the user's, the built-in ones, the default. Those switched off are not here.
    pub rules: Vec<Rule>,
    /// What the default rule does: `Allow` or `Drop`.
    pub default: Action,
    /// The prefixes of the inside. May be empty.
    pub lan_prefixes: Vec<IpNet>,
    /// The named sets that clauses refer to by index.
    pub sets: Vec<Set>,
    /// The names of rules that are known and switched off.
    pub disabled: Vec<String>,
    /// Tunnels that are judged by what they carry, too.
    pub look_into: Tunnels,
    /// The whole policy is judged, counted and alerted on, and every frame is forwarded.
    pub shadow: bool,
}

impl Policy {
    /// The set of that name (without `@`).
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| set.name == name)
    }

    /// The index and rule of that name.
    pub fn rule(&self, name: &str) -> Option<(usize, &Rule)> {
        self.rules
            .iter()
            .enumerate()
            .find(|(_, rule)| rule.name == name)
    }
}

/// One rule: what it matches (any of its clauses), and what then happens.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Unique within the policy.
    pub name: String,
    /// What happens to a frame that matches.
    pub action: Action,
    /// How loud the alert is; `None` for no alert.
    pub alert: Option<Severity>,
    /// The rule matches where any of these does. All share the rule's id.
    pub clauses: Vec<Clause>,
    /// How many frames a second it does its action for; `None` for no limit.
    pub limit: Option<Limit>,
    /// How long after the policy was loaded the rule is in force; `None` for ever.
    pub ttl: Option<Duration>,
    /// Judged, counted and alerted on; what happens to the frame is for the rules after it.
    pub shadow: bool,
    /// How long a host that it alerts on is put in quarantine; `None` for not.
    pub quarantine: Option<Duration>,
    /// About the packet on the wire, and not about what a tunnel carries: whether its addresses are what they may be there.
    pub wire_only: bool,
    /// What it matches is a forged source: its alerts go by MAC address alone.
    pub by_mac: bool,
    /// Where the rule comes from.
    pub origin: Origin,
}

impl Rule {
    /// A rule without alert, limit, time-to-live or shadow.
    pub fn new(
        name: impl Into<String>,
        action: Action,
        clauses: Vec<Clause>,
        origin: Origin,
    ) -> Rule {
        Rule {
            name: name.into(),
            action,
            alert: None,
            clauses,
            limit: None,
            ttl: None,
            shadow: false,
            quarantine: None,
            wire_only: false,
            by_mac: false,
            origin,
        }
    }
}

/// A token bucket: an `allow` beyond it drops, a `reject` beyond it drops without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Frames.
    pub frames: u32,
    /// In this time; not zero.
    pub per: Duration,
    /// Frames that may come at once, at least 1.
    pub burst: u32,
}

/// Where a rule comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The baseline, as it is.
    Builtin,
    /// The config file, at this line (1-based); a baseline rule that the user changed is one of these.
    User {
        /// The line of the rule's header, 1-based.
        line: usize,
    },
    /// The end of the policy.
    Default,
}

/// One conjunction of matches: a row of the rule table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause {
    /// Which way the frame goes.
    pub direction: Direction,
    /// Transport protocols.
    pub protos: ProtoSet,
    /// Source address.
    pub src: AddrMatch,
    /// Destination address.
    pub dst: AddrMatch,
    /// Source port, or ICMP type.
    pub sport: PortSet,
    /// Destination port, or ICMP code.
    pub dport: PortSet,
    /// Ethertypes; `None` for IP, either version. Only a clause that names ethertypes can match a frame that is not IP.
    pub ethertype: Option<PortSet>,
    /// VLAN ids, and [`UNTAGGED`](super::UNTAGGED).
    pub vlan: PortSet,
    /// Source MAC address.
    pub src_mac: MacMatch,
    /// TCP flags.
    pub tcp_flags: FlagMatch,
    /// Whether the frame must be, or must not be, the first fragment of several.
    pub fragment: Option<bool>,
    /// What the payload is; `None` where that is all the same.
    pub app: Option<AppSet>,
}

impl Clause {
    /// A clause that matches every IP frame of a direction.
    pub fn any(direction: Direction) -> Clause {
        Clause {
            direction,
            protos: ProtoSet::ALL,
            src: AddrMatch::any(),
            dst: AddrMatch::any(),
            sport: PortSet::any(),
            dport: PortSet::any(),
            ethertype: None,
            vlan: PortSet::any(),
            src_mac: MacMatch::default(),
            tcp_flags: FlagMatch::default(),
            fragment: None,
            app: None,
        }
    }

    /// Whether every IP frame of the direction matches, by the form of the clause.
    pub fn is_any(&self) -> bool {
        *self == Clause::any(self.direction)
    }

    /// Whether it asks for something that may differ between two frames of one flow that go the same way: TCP flags, a fragment, the MAC address, a
    /// priority tag, the code of an ICMP message.
    pub fn is_of_a_frame(&self) -> bool {
        let icmp = self.protos.contains(1) || self.protos.contains(58);
        self.tcp_flags != FlagMatch::default()
            || self.fragment.is_some()
            || self.src_mac != MacMatch::default()
            || self.vlan.contains(0) != self.vlan.contains(super::UNTAGGED)
            || (icmp && self.dport != PortSet::any() && self.protos != ProtoSet::ALL)
    }

    /// Whether it is about the machine that a frame comes from, and not about what that does: a MAC address, and no ports.
    pub fn is_of_a_machine(&self) -> bool {
        self.src_mac != MacMatch::default()
            && self.sport == PortSet::any()
            && self.dport == PortSet::any()
    }

    /// The matches that say something, in words: `proto tcp, dst !@partners, dport 23, 2323-2330`.
    pub fn describe(&self, sets: &[Set]) -> String {
        let mut parts = vec![format!("direction {}", self.direction.name())];
        if self.protos != ProtoSet::ALL {
            parts.push(format!("proto {}", self.protos));
        }
        for (name, addr) in [("src", &self.src), ("dst", &self.dst)] {
            if !addr.is_any() {
                parts.push(format!("{name} {}", addr.describe(sets)));
            }
        }
        let icmp = self.protos.is_icmp();
        for (name, ports) in [
            (if icmp { "icmp_type" } else { "sport" }, &self.sport),
            (if icmp { "icmp_code" } else { "dport" }, &self.dport),
        ] {
            if !ports.is_any() {
                parts.push(format!("{name} {ports}"));
            }
        }
        if let Some(ethertypes) = &self.ethertype {
            let hex = |&(first, last): &(u16, u16)| {
                if first == last {
                    format!("{first:#06x}")
                } else {
                    format!("{first:#06x}-{last:#06x}")
                }
            };
            let list: Vec<_> = ethertypes.0.iter().map(hex).collect();
            parts.push(format!("ethertype {}", list.join(", ")));
        }
        if !self.vlan.is_any() {
            let untagged = super::UNTAGGED.to_string();
            parts.push(format!("vlan {}", self.vlan).replace(&untagged, "none"));
        }
        if !self.src_mac.is_any() {
            parts.push(format!("src_mac {}", self.src_mac));
        }
        if !self.tcp_flags.0.is_empty() {
            parts.push(format!("tcp_flags {}", self.tcp_flags));
        }
        if let Some(fragment) = self.fragment {
            parts.push(format!("fragment {fragment}"));
        }
        if let Some(app) = self.app {
            parts.push(format!("app {app}"));
        }
        parts.join(", ")
    }
}

/// Which way a frame goes, as a rule names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Received on the LAN port.
    Out,
    /// Received on the uplink port.
    In,
    /// Either.
    Both,
}

impl Direction {
    /// Whether a frame received on `side` goes this way.
    pub const fn holds(self, side: Side) -> bool {
        match self {
            Direction::Out => matches!(side, Side::Lan),
            Direction::In => matches!(side, Side::Uplink),
            Direction::Both => true,
        }
    }

    /// `out`, `in` or `both`.
    pub const fn name(self) -> &'static str {
        match self {
            Direction::Out => "out",
            Direction::In => "in",
            Direction::Both => "both",
        }
    }
}

/// What the user expects of one packet: a `[[test]]` of the config.
#[derive(Clone, Debug)]
pub struct PolicyTest {
    /// What the user calls it.
    pub name: Option<String>,
    /// The packet.
    pub key: Key,
    /// `forward`, `drop` or `reject`; `None` where the test does not say.
    pub verdict: Option<&'static str>,
    /// The name of the rule that must decide; `None` where the test does not say.
    pub rule: Option<String>,
    /// Line of the test in the config, 1-based.
    pub line: usize,
    /// Where `expect` stands in the config: byte offset and length.
    pub span: (usize, usize),
}
