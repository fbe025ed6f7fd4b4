//! Packets out of a rule set and a seed.

use crate::random::Random;
use crate::{Header, Rule};
use ipnet::IpNet;
use std::net::IpAddr;

/// `packets` headers: of twenty, nineteen are drawn from what a random rule matches and one is wholly random.
/// The same for the same arguments. `rules` must not be empty; their family is that of the headers.
pub fn trace(rules: &[Rule], packets: usize, seed: u64) -> Vec<Header> {
    let mut random = Random::new(&format!("trace/{}", rules.len()), seed);
    let all = rules.last().map(|rule| match rule.src {
        IpNet::V4(_) => (IpNet::V4(Default::default()), IpNet::V4(Default::default())),
        IpNet::V6(_) => (IpNet::V6(Default::default()), IpNet::V6(Default::default())),
    });
    let Some((any_src, any_dst)) = all else {
        return Vec::new();
    };
    let anything = Rule {
        src: any_src,
        dst: any_dst,
        sport: (0, u16::MAX),
        dport: (0, u16::MAX),
        proto: 0,
        mask: 0,
    };
    let header = |_| {
        let drawn_from = (random.below(20) > 0).then(|| random.below(rules.len()));
        let rule = drawn_from.map_or(&anything, |line| &rules[line]);
        let icmp = if let IpNet::V4(_) = rule.src { 1 } else { 58 };
        Header {
            src: inside(rule.src, &mut random),
            dst: inside(rule.dst, &mut random),
            sport: random.within(rule.sport),
            dport: random.within(rule.dport),
            proto: if rule.mask == 0 {
                random.weighted(&[(70, 6), (27, 17), (3, icmp)])
            } else {
                rule.proto
            },
            drawn_from,
        }
    };
    (0..packets).map(header).collect()
}

/// An address of the prefix.
fn inside(net: IpNet, random: &mut Random) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let host = random.next() as u32 & u32::from(net.hostmask());
            IpAddr::V4((u32::from(net.network()) | host).into())
        }
        IpNet::V6(net) => {
            let host = random.wide() & u128::from(net.hostmask());
            IpAddr::V6((u128::from(net.network()) | host).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Reference, generate};

    #[test]
    fn every_packet_matches_the_line_it_was_drawn_from_and_one_in_twenty_is_random() {
        for profile in [Kind::Fw.v4(), Kind::Ipc.v6()] {
            let rules = generate(profile, 300, 3);
            let headers = trace(&rules, 20_000, 4);
            assert_eq!(headers, trace(&rules, 20_000, 4));
            let random = headers.iter().filter(|h| h.drawn_from.is_none()).count();
            assert!((850..1150).contains(&random), "{random}");
            let reference = Reference::new(&rules);
            for header in &headers {
                let first = reference
                    .first_match(header)
                    .expect("the last line matches");
                assert!(
                    header.drawn_from.is_none_or(|line| first <= line),
                    "{header:?}"
                );
            }
        }
    }
}
