//! A named rule for each kind of tunnel, and which of them are judged by what they carry.

use super::baseline::{UDP, ports};
use super::raw::{Reader, Value};
use crate::policy::{Action, Clause, Direction, Origin, ProtoSet, Rule, Severity, Tunnels};

/// The names of the rules, in order of evaluation. All are off until a config switches them on by name.
pub const NAMES: [&str; 8] = [
    "tunnel-gre",
    "tunnel-ipip",
    "tunnel-6in4",
    "tunnel-esp",
    "tunnel-vxlan",
    "tunnel-geneve",
    "tunnel-teredo",
    "tunnel-wireguard",
];

/// The rules as they are before the config changes them, in the order of [`NAMES`]: direction out, drop, alert low.
pub(super) fn rules() -> Vec<Rule> {
    let protos = |protos: &[u8]| Clause {
        protos: ProtoSet::of(protos),
        ..Clause::any(Direction::Out)
    };
    let udp = |port: u16| ports(UDP, &[(port, port)]);
    let clauses = [
        // RFC 2784.
        vec![protos(&[47])],
        // RFC 2003; RFC 2004, and IP within IP of KA9Q.
        vec![protos(&[4, 55, 94])],
        // RFC 4213 section 3.
        vec![protos(&[41])],
        // RFC 4303, and RFC 3948: the same in UDP.
        vec![protos(&[50]), udp(4500)],
        // RFC 7348; the port that Linux takes of old.
        vec![udp(4789), udp(8472)],
        // RFC 8926.
        vec![udp(6081)],
        // RFC 4380.
        vec![udp(3544)],
        // The port that its documentation proposes; any other is as good.
        vec![udp(51_820)],
    ];
    let rule = |(name, clauses)| Rule {
        alert: Some(Severity::Low),
        ..Rule::new(name, Action::Drop, clauses, Origin::Builtin)
    };
    NAMES.into_iter().zip(clauses).map(rule).collect()
}

/// `look_into` of `[policy]`: the tunnels that are judged by what they carry.
pub(super) fn look_into(reader: &mut Reader, value: &Value<'_>) -> Tunnels {
    let words = [
        ("gre", Tunnels::GRE),
        ("ipip", Tunnels::IPIP),
        ("6in4", Tunnels::SIX_IN_FOUR),
        ("vxlan", Tunnels::VXLAN),
    ];
    let mut all = Tunnels::NONE;
    for item in reader.list(value, "look_into").unwrap_or_default() {
        if let Some(kind) = reader.word(&item, "look_into", &words) {
            all = all.with(kind);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_come_in_the_order_of_their_names() {
        let rules = rules();
        assert!(rules.iter().map(|rule| rule.name.as_str()).eq(NAMES));
    }
}
