use super::*;
use crate::profile::Kind;

fn profiles() -> impl Iterator<Item = Profile> {
    Kind::ALL
        .into_iter()
        .flat_map(|kind| [kind.v4(), kind.v6()])
}

#[test]
fn any_number_of_rules_comes_out_the_same_each_time_without_duplicates() {
    for profile in profiles() {
        for n in [1, 2, 16, 128, 1000, 10_000] {
            let rules = generate(profile, n, 1);
            assert_eq!(rules.len(), n, "{profile}");
            assert_eq!(rules.last(), Some(&match_all(profile.family)));
            let different: HashSet<_> = rules.iter().collect();
            assert_eq!(different.len(), n, "{profile}");
            assert_eq!(rules, generate(profile, n, 1), "{profile}");
            assert!(n < 16 || rules != generate(profile, n, 2), "{profile}");
        }
    }
}

#[test]
fn a_hundred_thousand_rules_are_made() {
    for profile in [Kind::Egress.v4(), Kind::Fw.v6()] {
        assert_eq!(generate(profile, 100_000, 1).len(), 100_000);
    }
}

/// Hundredths of the rules of which it is true.
fn share(rules: &[Rule], is: impl Fn(&Rule) -> bool) -> usize {
    rules.iter().filter(|rule| is(rule)).count() * 100 / rules.len()
}

#[test]
fn the_shares_of_wild_and_exact_fields_are_those_of_the_profile() {
    // Source wild, destination wild, source port wild, destination port wild, destination port exact, TCP: per hundred.
    // A line without ports has both wild, and duplicates are left out, so that small choices fall short.
    let expected = [
        (Kind::Acl, [45, 2, 100, 26, 60, 76]),
        (Kind::Fw, [38, 27, 74, 46, 35, 46]),
        (Kind::Ipc, [15, 12, 62, 41, 46, 55]),
        (Kind::Egress, [57, 17, 100, 16, 65, 58]),
    ];
    for (kind, expected) in expected {
        for profile in [kind.v4(), kind.v6()] {
            let rules = generate(profile, 5000, 3);
            let found = [
                share(&rules, |rule| rule.src.prefix_len() == 0),
                share(&rules, |rule| rule.dst.prefix_len() == 0),
                share(&rules, |rule| rule.sport == ALL_PORTS),
                share(&rules, |rule| rule.dport == ALL_PORTS),
                share(&rules, |rule| rule.dport.0 == rule.dport.1),
                share(&rules, |rule| rule.proto == 6),
            ];
            let near = found
                .iter()
                .zip(expected)
                .all(|(found, wanted)| found.abs_diff(wanted) <= 5);
            assert!(near, "{profile}: {found:?}, expected {expected:?}");
        }
    }
}

#[test]
fn prefixes_lie_in_each_other_and_some_are_much_more_popular_than_others() {
    for profile in [Kind::Acl.v4(), Kind::Acl.v6()] {
        let rules = generate(profile, 5000, 4);
        let hosts: Vec<_> = rules
            .iter()
            .map(|rule| rule.dst)
            .filter(|dst| dst.prefix_len() == dst.max_prefix_len())
            .collect();
        let sites: HashSet<_> = rules
            .iter()
            .map(|rule| rule.dst)
            .filter(|dst| {
                [12, 14, 16, 36, 40].contains(&dst.prefix_len())
                    || (dst.prefix_len() == 32 && profile.family == Family::V6)
            })
            .collect();
        let different: HashSet<_> = hosts.iter().collect();
        assert!(
            (300..1300).contains(&different.len()),
            "{profile}: {}",
            different.len()
        );
        let most = different
            .iter()
            .map(|dst| hosts.iter().filter(|host| host == dst).count())
            .max()
            .unwrap();
        assert!(
            most * different.len() > 5 * hosts.len(),
            "{profile}: {most} of {}",
            hosts.len()
        );
        let inside = hosts
            .iter()
            .filter(|host| {
                sites
                    .iter()
                    .any(|site| site != *host && site.contains(*host))
            })
            .count();
        assert!(
            inside * 2 > hosts.len(),
            "{profile}: {inside} of {}",
            hosts.len()
        );
    }
}

#[test]
fn ipv6_prefixes_are_of_the_lengths_in_use_and_global() {
    let rules = generate(Kind::Fw.v6(), 3000, 5);
    let global: IpNet = "2000::/3".parse().unwrap();
    for net in rules.iter().flat_map(|rule| [rule.src, rule.dst]) {
        let len = net.prefix_len();
        assert!(len == 0 || len == 128 || (32..=64).contains(&len), "{net}");
        assert!(len == 0 || global.contains(&net), "{net}");
    }
}

#[test]
fn more_specific_rules_stand_mostly_first_and_few_are_hidden() {
    let rules = generate(Kind::Ipc.v4(), 1000, 6);
    let mean = |rules: &[Rule]| rules.iter().map(specificity).sum::<f64>() / rules.len() as f64;
    assert!(mean(&rules[..250]) > mean(&rules[750..]) + 15.0);
    let covers = |a: &Rule, b: &Rule| {
        a.src.contains(&b.src)
            && a.dst.contains(&b.dst)
            && a.sport.0 <= b.sport.0
            && a.sport.1 >= b.sport.1
            && a.dport.0 <= b.dport.0
            && a.dport.1 >= b.dport.1
            && (a.mask == 0 || (a.mask == b.mask && a.proto == b.proto))
    };
    let hidden =
        (0..rules.len()).filter(|&at| rules[..at].iter().any(|before| covers(before, &rules[at])));
    let hidden = hidden.count();
    assert!(hidden < 100, "{hidden} of 1000 rules never match");
}

#[test]
fn a_list_of_prefixes_has_no_duplicates_and_only_its_own_family() {
    for family in [Family::V4, Family::V6] {
        let nets = prefixes(family, 20_000, 1);
        assert_eq!(nets, prefixes(family, 20_000, 1));
        assert_eq!(nets.iter().collect::<HashSet<_>>().len(), 20_000);
        let v6 = family == Family::V6;
        assert!(nets.iter().all(|net| net.network().is_ipv6() == v6));
    }
}
