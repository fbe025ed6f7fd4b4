//! One host in quarantine, and what stops it.

use crate::config::{parse_mac, set_entry};
use crate::policy::{AddrMatch, AddrRange, Clause, Direction, MacMatch, Term};
use serde::{Deserialize, Serialize};

/// Who is here, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its name in the config, where that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<String>,
    /// Its MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Only what has both address and MAC address is stopped, and only what it sends.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pair: bool,
    /// Seconds since the Unix epoch.
    pub since: u64,
    /// See `since`.
    pub until: u64,
    /// `command`, or the rule.
    pub by: String,
    /// What somebody said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Held {
    pub(super) fn ranges(&self) -> Vec<AddrRange> {
        self.ips
            .iter()
            .filter_map(|ip| set_entry(ip).ok())
            .collect()
    }

    fn mac_bytes(&self) -> Option<[u8; 6]> {
        parse_mac(self.mac.as_deref()?)
    }

    /// What a person calls it.
    pub(super) fn label(&self) -> String {
        let mut parts: Vec<&str> = self.name.as_deref().into_iter().collect();
        parts.extend(self.ips.iter().map(String::as_str));
        parts.extend(self.mac.as_deref());
        parts.join(" ")
    }

    pub(super) fn is(&self, other: &Held) -> bool {
        (&self.ips, &self.mac, self.pair) == (&other.ips, &other.mac, other.pair)
    }

    pub(super) fn clauses(&self) -> Vec<Clause> {
        let any_of: Vec<Term> = self.ranges().into_iter().map(Term::Range).collect();
        let address = AddrMatch {
            any_of,
            none_of: Vec::new(),
        };
        let machine = MacMatch {
            any_of: self.mac_bytes().into_iter().collect(),
            none_of: Vec::new(),
        };
        let (has_ip, has_mac) = (!address.any_of.is_empty(), !machine.any_of.is_empty());
        let from = |src: AddrMatch, src_mac: MacMatch| Clause {
            src,
            src_mac,
            ..Clause::any(Direction::Out)
        };
        let mut clauses = Vec::new();
        if self.pair && has_ip && has_mac {
            clauses.push(from(address, machine));
            return clauses;
        }
        if has_ip {
            clauses.push(from(address.clone(), MacMatch::default()));
            clauses.push(Clause {
                dst: address,
                ..Clause::any(Direction::In)
            });
        }
        if has_mac {
            clauses.push(from(AddrMatch::any(), machine));
        }
        clauses
    }
}

/// As an alert has it.
pub(super) fn mac_text(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}
