//! A checked policy: rules in order of evaluation, each a list of clauses.

use super::addr::{AddrMatch, Set};
use super::{Action, Key, Severity, Side};
use ipnet::IpNet;
use std::time::Duration;

/// The name of the pseudo-rule that ends every policy.
pub const DEFAULT_RULE: &str = "default";

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
}

/// MAC addresses: one of `any_of` (any at all where that is empty), and none of `none_of`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MacMatch {
    /// Those without `!`.
    pub any_of: Vec<[u8; 6]>,
    /// Those with `!`.
    pub none_of: Vec<[u8; 6]>,
}

impl MacMatch {
    /// Whether every address matches by the form of the expression.
    pub fn is_any(&self) -> bool {
        self.any_of.is_empty() && self.none_of.is_empty()
    }

    /// Whether this address matches.
    pub fn contains(&self, mac: &[u8; 6]) -> bool {
        (self.any_of.is_empty() || self.any_of.contains(mac)) && !self.none_of.contains(mac)
    }
}

impl std::fmt::Display for MacMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = |mac: &[u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let any = self.any_of.iter().map(name);
        let none = self.none_of.iter().map(|mac| format!("!{}", name(mac)));
        f.write_str(&any.chain(none).collect::<Vec<_>>().join(", "))
    }
}

/// TCP flags: any of these alternatives, each a mask of the flags it looks at and their values. Empty: any flags at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct FlagMatch(pub Vec<(u8, u8)>);

/// The flags of a TCP header, lowest bit first (RFC 9293 section 3.1; ECE and CWR: RFC 3168).
pub const TCP_FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

impl FlagMatch {
    /// Whether these flags match.
    pub fn contains(&self, flags: u8) -> bool {
        self.0.is_empty() || self.0.iter().any(|(mask, value)| flags & mask == *value)
    }
}

impl std::fmt::Display for FlagMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let alternative = |&(mask, value): &(u8, u8)| {
            let named = TCP_FLAGS
                .iter()
                .enumerate()
                .filter(|(bit, _)| mask >> bit & 1 == 1);
            let named = named.map(|(bit, name)| match value >> bit & 1 {
                1 => (*name).to_owned(),
                _ => format!("!{name}"),
            });
            named.collect::<Vec<_>>().join(",")
        };
        f.write_str(
            &self
                .0
                .iter()
                .map(alternative)
                .collect::<Vec<_>>()
                .join(" or "),
        )
    }
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
        }
    }

    /// Whether every IP frame of the direction matches, by the form of the clause.
    pub fn is_any(&self) -> bool {
        *self == Clause::any(self.direction)
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

/// A set of transport protocols, by IANA number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProtoSet([u64; 4]);

/// Names of transport protocols that rules may use, with their IANA numbers; the first name of a number is the one shown.
pub const PROTOCOLS: &[(&str, u8)] = &[
    ("tcp", 6),
    ("udp", 17),
    ("icmp", 1),
    ("icmpv6", 58),
    ("icmp6", 58),
    ("igmp", 2),
    ("ipip", 4),
    ("6in4", 41),
    ("dccp", 33),
    ("gre", 47),
    ("esp", 50),
    ("ah", 51),
    ("ospf", 89),
    ("pim", 103),
    ("vrrp", 112),
    ("sctp", 132),
    ("udplite", 136),
];

impl ProtoSet {
    /// No protocol.
    pub const EMPTY: ProtoSet = ProtoSet([0; 4]);
    /// Every protocol.
    pub const ALL: ProtoSet = ProtoSet([u64::MAX; 4]);
    /// Those whose header starts with two ports: TCP, UDP, DCCP (RFC 4340), SCTP (RFC 9260), UDP-Lite (RFC 3828).
    pub const WITH_PORTS: ProtoSet = ProtoSet::of(&[6, 17, 33, 132, 136]);

    /// These protocols.
    pub const fn of(protos: &[u8]) -> ProtoSet {
        let mut set = [0; 4];
        let mut i = 0;
        while i < protos.len() {
            set[(protos[i] >> 6) as usize] |= 1 << (protos[i] & 63);
            i += 1;
        }
        ProtoSet(set)
    }

    /// Every protocol but these.
    pub const fn all_but(protos: &[u8]) -> ProtoSet {
        let ProtoSet([a, b, c, d]) = ProtoSet::of(protos);
        ProtoSet([!a, !b, !c, !d])
    }

    /// Both sets together.
    pub const fn union(self, other: ProtoSet) -> ProtoSet {
        let (ProtoSet(a), ProtoSet(b)) = (self, other);
        ProtoSet([a[0] | b[0], a[1] | b[1], a[2] | b[2], a[3] | b[3]])
    }

    /// Whether the set holds this protocol.
    pub const fn contains(self, proto: u8) -> bool {
        self.0[(proto >> 6) as usize] >> (proto & 63) & 1 == 1
    }

    /// Whether each protocol of this set is in `other`.
    pub fn within(self, other: ProtoSet) -> bool {
        self.0.iter().zip(other.0).all(|(a, b)| a & !b == 0)
    }

    /// The set as bits, lowest protocol first.
    pub(super) const fn words(self) -> [u64; 4] {
        self.0
    }

    /// Whether it holds ICMP or ICMPv6 and nothing else.
    pub fn is_icmp(self) -> bool {
        self != ProtoSet::EMPTY && self.within(ProtoSet::of(&[1, 58]))
    }

    /// The protocols, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..=255).filter(move |&proto| self.contains(proto))
    }
}

/// The name of a protocol, or its number.
pub fn proto_name(proto: u8) -> String {
    PROTOCOLS
        .iter()
        .find(|(_, number)| *number == proto)
        .map_or_else(|| proto.to_string(), |(name, _)| (*name).to_owned())
}

impl std::fmt::Display for ProtoSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == ProtoSet::ALL {
            return f.write_str("any");
        }
        let (held, prefix) = if self.iter().count() > 128 {
            (ProtoSet(self.0.map(|w| !w)), "!")
        } else {
            (*self, "")
        };
        let names: Vec<_> = held
            .iter()
            .map(|proto| format!("{prefix}{}", proto_name(proto)))
            .collect();
        f.write_str(&names.join(", "))
    }
}

/// A set of ports (or of ICMP types, or codes): ranges, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortSet(pub Vec<(u16, u16)>);

impl PortSet {
    /// Every number, and so also protocols that have none.
    pub fn any() -> PortSet {
        PortSet(vec![(0, u16::MAX)])
    }

    /// One port.
    pub fn one(port: u16) -> PortSet {
        PortSet(vec![(port, port)])
    }

    /// Whether every number is in it, by its form.
    pub fn is_any(&self) -> bool {
        self.0.contains(&(0, u16::MAX))
    }

    /// Whether the set holds this port.
    pub fn contains(&self, port: u16) -> bool {
        self.0
            .iter()
            .any(|&(first, last)| first <= port && port <= last)
    }
}

impl std::fmt::Display for PortSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = self.0.iter().map(|&(first, last)| {
            if first == last {
                first.to_string()
            } else {
                format!("{first}-{last}")
            }
        });
        f.write_str(&parts.collect::<Vec<_>>().join(", "))
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
