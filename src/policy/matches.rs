//! What the fields of a clause match: protocols, ports, MAC addresses, TCP flags. Addresses are in [`addr`](super::addr).

use crate::app::App;
use crate::frame::tunnel::Kind as TunnelKind;

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

    /// What is in both sets.
    pub const fn and(self, other: ProtoSet) -> ProtoSet {
        let (ProtoSet(a), ProtoSet(b)) = (self, other);
        ProtoSet([a[0] & b[0], a[1] & b[1], a[2] & b[2], a[3] & b[3]])
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

/// A set of applications, by the numbers that [`Key::app`](super::Key::app) may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppSet(u64);

impl AppSet {
    /// The payload was looked at, and is none of those that are known.
    pub const UNKNOWN: u8 = 31;
    /// The name of that in rules.
    pub const UNKNOWN_NAME: &str = "unknown";
    /// Not looked at yet: what it might match is asked for, so that every set that is not empty holds this.
    pub const ANY: u8 = 32;
    /// The same, of rules that let it through alone; only the table's own rows hold this.
    pub(super) const PERMITTED: u8 = 33;

    /// No application.
    pub const EMPTY: AppSet = AppSet(0);

    /// What is known and what is not: every number that a payload may be identified as.
    pub fn all() -> AppSet {
        let known = App::ALL
            .iter()
            .fold(AppSet::EMPTY, |all, app| all.with(*app as u8));
        known.with(AppSet::UNKNOWN)
    }

    /// And the one with this number.
    pub const fn with(self, number: u8) -> AppSet {
        AppSet(self.0 | 1 << (number & 63) | 1 << AppSet::ANY)
    }

    /// What is in both.
    pub const fn and(self, other: AppSet) -> AppSet {
        AppSet(self.0 & other.0)
    }

    /// Whether the set holds this number.
    pub const fn contains(self, number: u8) -> bool {
        number < 64 && self.0 >> number & 1 == 1
    }

    /// The numbers, ascending, that a payload may be identified as.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (1..=AppSet::UNKNOWN).filter(move |number| self.contains(*number))
    }

    /// The name of a number: that of the application, or `unknown`.
    pub fn name(number: u8) -> &'static str {
        App::from_number(number).map_or(AppSet::UNKNOWN_NAME, App::name)
    }

    /// The number of a name.
    pub fn number(name: &str) -> Option<u8> {
        match name {
            AppSet::UNKNOWN_NAME => Some(AppSet::UNKNOWN),
            name => App::of_name(name).map(|app| app as u8),
        }
    }
}

impl std::fmt::Display for AppSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let others = AppSet::all()
            .iter()
            .filter(|number| !self.contains(*number));
        let others: Vec<_> = others
            .map(|number| format!("!{}", AppSet::name(number)))
            .collect();
        let names: Vec<_> = self
            .iter()
            .map(|number| AppSet::name(number).to_owned())
            .collect();
        let shorter = if others.len() < names.len() {
            others
        } else {
            names
        };
        f.write_str(&shorter.join(", "))
    }
}

/// Kinds of tunnels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Tunnels(u8);

impl Tunnels {
    /// None of them.
    pub const NONE: Tunnels = Tunnels(0);
    /// GRE.
    pub const GRE: Tunnels = Tunnels(1 << TunnelKind::Gre as u8);
    /// IPv4 in IP.
    pub const IPIP: Tunnels = Tunnels(1 << TunnelKind::Ipip as u8);
    /// IPv6 in IP.
    pub const SIX_IN_FOUR: Tunnels = Tunnels(1 << TunnelKind::SixInFour as u8);
    /// VXLAN.
    pub const VXLAN: Tunnels = Tunnels(1 << TunnelKind::Vxlan as u8);

    /// These and those.
    pub const fn with(self, other: Tunnels) -> Tunnels {
        Tunnels(self.0 | other.0)
    }

    /// Whether there are none.
    #[inline]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this kind is one of them.
    pub const fn contains(self, kind: TunnelKind) -> bool {
        self.0 >> kind as u8 & 1 == 1
    }
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
