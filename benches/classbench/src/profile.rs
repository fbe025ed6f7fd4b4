//! What kind of rule set: which share of its fields is wild, exact or a range.

use portcullis::policy::Family;
use std::{fmt, str::FromStr};

/// The role of the rule set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A router's access list: long destination prefixes, the source wild half the time, the source port always, the
    /// destination port mostly exact.
    Acl,
    /// A firewall: many wild addresses, port ranges on both sides, many lines for any protocol.
    Fw,
    /// IP chains: prefixes of middle length on both sides, exact ports on both sides.
    Ipc,
    /// A small office's list of what must not leave: the source is wild, the LAN or a host of it; the destination is
    /// wild or a blocked net; the destination port decides.
    Egress,
}

/// A rule set's role and address family; `acl`, `fw6` and so on as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Profile {
    /// The role.
    pub kind: Kind,
    /// The family of all its addresses.
    pub family: Family,
}

/// Not the name of a profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not acl, fw, ipc or egress, nor one of these followed by 6 for IPv6")]
pub struct UnknownProfile(pub String);

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 4] = [Kind::Acl, Kind::Fw, Kind::Ipc, Kind::Egress];

    /// `acl`, `fw`, `ipc` or `egress`.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Acl => "acl",
            Kind::Fw => "fw",
            Kind::Ipc => "ipc",
            Kind::Egress => "egress",
        }
    }

    /// This role with IPv4 addresses.
    pub const fn v4(self) -> Profile {
        Profile {
            kind: self,
            family: Family::V4,
        }
    }

    /// This role with IPv6 addresses.
    pub const fn v6(self) -> Profile {
        Profile {
            kind: self,
            family: Family::V6,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let six = if self.family == Family::V6 { "6" } else { "" };
        write!(f, "{}{six}", self.kind.name())
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Profile, UnknownProfile> {
        let profiles = Kind::ALL
            .into_iter()
            .flat_map(|kind| [kind.v4(), kind.v6()]);
        profiles
            .into_iter()
            .find(|profile| profile.to_string() == text)
            .ok_or_else(|| UnknownProfile(text.to_owned()))
    }
}

/// How an address of a line is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Addr {
    Wild,
    /// The shortest prefixes, each of which holds many of the next.
    Site,
    Net,
    Subnet,
    Host,
    /// The office's own prefix.
    Lan,
    /// A host of the office.
    LanHost,
}

/// How a port range of a line is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Wild,
    /// A port that services are known by.
    Known,
    /// Any one port.
    Exact,
    /// 1024 to 65535.
    High,
    /// 0 to 1023.
    Low,
    Range,
}

/// How a protocol of a line is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proto {
    Tcp,
    Udp,
    Icmp,
    Any,
}

/// Weights of the choices for each field.
pub(crate) struct Shares {
    pub proto: &'static [(u32, Proto)],
    pub src: &'static [(u32, Addr)],
    pub dst: &'static [(u32, Addr)],
    pub sport: &'static [(u32, Port)],
    pub dport: &'static [(u32, Port)],
}

impl Kind {
    /// The weights; those of small rule sets may differ.
    pub(crate) fn shares(self, rules: usize) -> &'static Shares {
        match self {
            Kind::Acl => &ACL,
            Kind::Fw => &FW,
            Kind::Ipc => &IPC,
            Kind::Egress if rules <= 128 => &EGRESS_SMALL,
            Kind::Egress => &EGRESS,
        }
    }
}

use Proto::{Any, Icmp, Tcp, Udp};

const ACL: Shares = Shares {
    proto: &[(75, Tcp), (18, Udp), (4, Icmp), (3, Any)],
    src: &[
        (45, Addr::Wild),
        (5, Addr::Site),
        (20, Addr::Net),
        (10, Addr::Subnet),
        (20, Addr::Host),
    ],
    dst: &[
        (2, Addr::Wild),
        (3, Addr::Site),
        (25, Addr::Net),
        (25, Addr::Subnet),
        (45, Addr::Host),
    ],
    sport: &[(1, Port::Wild)],
    dport: &[
        (20, Port::Wild),
        (35, Port::Known),
        (30, Port::Exact),
        (8, Port::Range),
        (7, Port::High),
    ],
};

const FW: Shares = Shares {
    proto: &[(45, Tcp), (28, Udp), (7, Icmp), (20, Any)],
    src: &[
        (40, Addr::Wild),
        (8, Addr::Site),
        (22, Addr::Net),
        (10, Addr::Subnet),
        (20, Addr::Host),
    ],
    dst: &[
        (28, Addr::Wild),
        (7, Addr::Site),
        (25, Addr::Net),
        (10, Addr::Subnet),
        (30, Addr::Host),
    ],
    sport: &[
        (65, Port::Wild),
        (12, Port::High),
        (8, Port::Known),
        (6, Port::Exact),
        (6, Port::Range),
        (3, Port::Low),
    ],
    dport: &[
        (28, Port::Wild),
        (33, Port::Known),
        (15, Port::Exact),
        (12, Port::Range),
        (9, Port::High),
        (3, Port::Low),
    ],
};

const IPC: Shares = Shares {
    proto: &[(55, Tcp), (30, Udp), (5, Icmp), (10, Any)],
    src: &[
        (15, Addr::Wild),
        (8, Addr::Site),
        (32, Addr::Net),
        (20, Addr::Subnet),
        (25, Addr::Host),
    ],
    dst: &[
        (12, Addr::Wild),
        (8, Addr::Site),
        (30, Addr::Net),
        (20, Addr::Subnet),
        (30, Addr::Host),
    ],
    sport: &[
        (55, Port::Wild),
        (20, Port::Known),
        (10, Port::Exact),
        (5, Port::Range),
        (10, Port::High),
    ],
    dport: &[
        (30, Port::Wild),
        (35, Port::Known),
        (20, Port::Exact),
        (8, Port::Range),
        (7, Port::High),
    ],
};

const EGRESS_SRC: &[(u32, Addr)] = &[(60, Addr::Wild), (15, Addr::Lan), (25, Addr::LanHost)];
const EGRESS_PROTO: &[(u32, Proto)] = &[(58, Tcp), (40, Udp), (1, Icmp), (1, Any)];
const EGRESS_DPORT: &[(u32, Port)] = &[
    (15, Port::Wild),
    (45, Port::Known),
    (30, Port::Exact),
    (16, Port::Range),
];

const EGRESS_SMALL: Shares = Shares {
    proto: EGRESS_PROTO,
    src: EGRESS_SRC,
    dst: &[
        (70, Addr::Wild),
        (5, Addr::Site),
        (30, Addr::Net),
        (10, Addr::Subnet),
        (30, Addr::Host),
    ],
    sport: &[(1, Port::Wild)],
    dport: EGRESS_DPORT,
};

/// A long list is long because of the nets that it blocks.
const EGRESS: Shares = Shares {
    proto: EGRESS_PROTO,
    src: EGRESS_SRC,
    dst: &[
        (25, Addr::Wild),
        (5, Addr::Site),
        (30, Addr::Net),
        (10, Addr::Subnet),
        (30, Addr::Host),
    ],
    sport: &[(1, Port::Wild)],
    dport: EGRESS_DPORT,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_profile_reads_back() {
        for kind in Kind::ALL {
            for profile in [kind.v4(), kind.v6()] {
                assert_eq!(profile.to_string().parse(), Ok(profile));
            }
        }
        let error = "acl7".parse::<Profile>().unwrap_err();
        assert!(
            error.to_string().starts_with("`acl7` is not acl"),
            "{error}"
        );
    }
}
