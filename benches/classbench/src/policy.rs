//! The same rules and packets in the words of Portcullis.

use crate::{Header, Rule};
use ipnet::IpNet;
use portcullis::frame::Net;
use portcullis::policy::addr::{Family, bits};
use portcullis::policy::{
    Action, AddrMatch, AddrRange, Clause, DEFAULT_RULE, Direction, Key, Origin, Policy, PortSet,
    ProtoSet, Side, Term,
};

/// Each line as one rule, in order, for both directions; behind the last line comes the default rule. So the
/// [`RuleId`](portcullis::policy::RuleId) that decides is the number of the line, from 0.
///
/// Lines drop; one that matches everything, and the default, allow.
pub fn policy(rules: &[Rule]) -> Policy {
    let rule = |(line, rule): (usize, &Rule)| {
        let clause = clause(rule);
        let action = if clause.is_any() {
            Action::Allow
        } else {
            Action::Drop
        };
        let origin = Origin::User { line: line + 1 };
        portcullis::policy::Rule::new(format!("line-{}", line + 1), action, vec![clause], origin)
    };
    let default = portcullis::policy::Rule::new(
        DEFAULT_RULE,
        Action::Allow,
        vec![Clause::any(Direction::Both)],
        Origin::Default,
    );
    Policy {
        rules: rules
            .iter()
            .enumerate()
            .map(rule)
            .chain([default])
            .collect(),
        default: Action::Allow,
        lan_prefixes: Vec::new(),
        sets: Vec::new(),
        disabled: Vec::new(),
        look_into: Default::default(),
        shadow: false,
    }
}

fn clause(rule: &Rule) -> Clause {
    let addr = |net: IpNet| AddrMatch {
        any_of: match net.prefix_len() {
            0 => Vec::new(),
            _ => vec![Term::Range(AddrRange::prefix(net))],
        },
        none_of: Vec::new(),
    };
    let protos: Vec<u8> = (0..=255)
        .filter(|proto| (proto ^ rule.proto) & rule.mask == 0)
        .collect();
    Clause {
        protos: ProtoSet::of(&protos),
        src: addr(rule.src),
        dst: addr(rule.dst),
        sport: PortSet(vec![rule.sport]),
        dport: PortSet(vec![rule.dport]),
        ..Clause::any(Direction::Both)
    }
}

/// The packet as the rule table sees it: whole, untagged, from the inside; of TCP a SYN (RFC 9293 section 3.1).
pub fn key(header: &Header) -> Key {
    let ((family, src), (_, dst)) = (bits(header.src), bits(header.dst));
    let (net, ethertype) = match family {
        Family::V4 => (Net::V4, 0x0800),
        Family::V6 => (Net::V6, 0x86dd),
    };
    Key {
        src,
        dst,
        sport: header.sport,
        dport: header.dport,
        proto: header.proto,
        tcp_flags: if header.proto == 6 { 2 } else { 0 },
        net,
        ethertype,
        side: Side::Lan,
        ..Key::EMPTY
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Reference, generate, parse_rules, trace};
    use portcullis::policy::oracle;

    #[test]
    fn the_policy_decides_each_packet_by_the_line_that_a_linear_search_finds() {
        for kind in Kind::ALL {
            for profile in [kind.v4(), kind.v6()] {
                let rules = generate(profile, 64, 5);
                let (policy, reference) = (policy(&rules), Reference::new(&rules));
                assert_eq!(policy.rules.len(), rules.len() + 1);
                for header in trace(&rules, 500, 6) {
                    let id = oracle::evaluate(&policy, &key(&header));
                    assert_eq!(
                        reference.first_match(&header),
                        Some(id.index()),
                        "{profile} {header:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_protocol_mask_names_every_protocol_that_it_lets_through() {
        let rules =
            parse_rules("@0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x10/0xFE\n").unwrap();
        let protos: Vec<u8> = policy(&rules).rules[0].clauses[0].protos.iter().collect();
        assert_eq!(protos, [16, 17]);
    }
}
