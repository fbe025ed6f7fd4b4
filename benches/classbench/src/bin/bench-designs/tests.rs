//! Every design against the linear search, on small rule sets.

use crate::contest::answers;
use crate::crossing::Crossing;
use crate::design::{self, BURST, Budget, Design, NONE, Packet, Stopped};
use crate::lanes::{self, Plain};
use crate::pruned::Pruned;
use crate::tree::Trees;
use crate::tuple_space::TupleSpace;
use classbench::{Header, Kind, Reference, Rule, generate, parse_rules, trace};
use std::time::Duration;

const PLENTY: (usize, Duration) = (64 << 20, Duration::from_secs(60));

/// A design answers as the linear search does, in wide registers and without them.
fn agrees<D: Design>(rules: &[Rule], headers: &[Header]) {
    let lines = design::lines(rules).unwrap();
    let packets: Vec<Packet> = headers.iter().filter_map(design::packet).collect();
    let (bursts, rest) = packets.as_chunks::<BURST>();
    assert!(rest.is_empty());
    let built = D::build(&lines, &Budget::new(PLENTY.0, PLENTY.1)).unwrap();
    assert!(built.memory() > 0 && !built.shape().is_empty());
    let reference = Reference::new(rules);
    let mut plain = Vec::new();
    lanes::all(Plain, &built, bursts, |out| plain.extend(*out));
    for ((header, found), plain) in headers.iter().zip(answers(&built, bursts)).zip(plain) {
        let right = reference.first_match(header);
        assert_eq!(found, right, "{header:?}");
        assert_eq!(plain, right.map_or(NONE, |rule| rule as u32), "{header:?}");
    }
}

fn all_agree(rules: &[Rule], headers: &[Header]) {
    agrees::<TupleSpace>(rules, headers);
    agrees::<Pruned>(rules, headers);
    agrees::<Trees>(rules, headers);
    agrees::<Crossing>(rules, headers);
}

#[test]
fn every_design_finds_what_a_linear_search_finds() {
    for kind in Kind::ALL {
        for (size, seed) in [(1, 1), (2, 2), (9, 3), (40, 4), (200, 5), (200, 6)] {
            let rules = generate(kind.v4(), size, seed);
            all_agree(&rules, &trace(&rules, 4 * BURST, seed));
        }
    }
}

#[test]
fn every_design_knows_the_ends_of_fields_and_packets_that_nothing_matches() {
    let text = "@255.255.255.255/32\t0.0.0.0/0\t0 : 65535\t65535 : 65535\t0x06/0xFF\n\
        @255.255.0.0/16\t255.255.255.0/24\t65535 : 65535\t0 : 65535\t0xFF/0xFF\n\
        @0.0.0.0/1\t0.0.0.0/32\t0 : 0\t1 : 65535\t0x10/0xFE\n\
        @128.0.0.0/1\t128.0.0.0/1\t1 : 65534\t0 : 65535\t0x00/0x00\n\
        @0.0.0.0/8\t0.0.0.0/0\t0 : 65535\t0 : 0\t0x11/0xFF\n";
    let rules = parse_rules(text).unwrap();
    let ends = [0, 1, u32::MAX / 2, u32::MAX / 2 + 1, u32::MAX - 1, u32::MAX];
    let mut headers = Vec::new();
    for src in ends {
        for dst in ends {
            for (sport, dport) in [(0, 0), (0, 1), (65535, 65535), (65534, 65535), (1, 0)] {
                for proto in [0, 6, 16, 17, 255] {
                    headers.push(Header {
                        src: std::net::IpAddr::V4(src.into()),
                        dst: std::net::IpAddr::V4(dst.into()),
                        sport,
                        dport,
                        proto,
                        drawn_from: None,
                    });
                }
            }
        }
    }
    headers.truncate(headers.len() / BURST * BURST);
    all_agree(&rules, &headers);
    // Many rules of the same kind, so that trees have more than one node.
    let many: Vec<Rule> = rules.iter().cycle().take(100).cloned().collect();
    all_agree(&many, &headers);
}

#[test]
fn building_stops_where_the_budget_ends() {
    let lines = design::lines(&generate(Kind::Fw.v4(), 300, 1)).unwrap();
    let small = Crossing::build(&lines, &Budget::new(100_000, PLENTY.1));
    assert!(matches!(small, Err(Stopped::Bytes { .. })));
    let late = Trees::build(&lines, &Budget::new(PLENTY.0, Duration::ZERO));
    assert!(matches!(late, Err(Stopped::Time { .. })));
}
