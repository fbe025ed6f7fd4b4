//! A checked policy: rules in order of evaluation, each a list of clauses.

use super::addr::{AddrMatch, Set};
use super::{Action, Key, Severity, Side};
use ipnet::IpNet;

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
    /// Where the rule comes from.
    pub origin: Origin,
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
