//! Rule sets out of a seed.

use crate::Rule;
use crate::profile::{Addr, Port, Profile, Proto, Shares};
use crate::random::Random;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use portcullis::policy::Family;
use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Every port.
pub(crate) const ALL_PORTS: (u16, u16) = (0, u16::MAX);

/// `n` rules, at least 1, no two the same, more specific ones mostly first; the last one matches everything.
/// The same for the same arguments.
pub fn generate(profile: Profile, n: usize, seed: u64) -> Vec<Rule> {
    let mut random = Random::new(&format!("{profile}/{n}"), seed);
    let mut maker = Maker::new(profile, n, &mut random);
    let (mut seen, mut rules) = (HashSet::new(), Vec::with_capacity(n));
    while rules.len() + 1 < n {
        let rule = maker.rule();
        if rule != match_all(profile.family) && seen.insert(rule.clone()) {
            // As an administrator writes them, so that few rules hide behind an earlier one: by how much a rule says,
            // but not exactly.
            let order = specificity(&rule) + 6.0 * maker.random.bell();
            rules.push((order, rule));
        }
    }
    rules.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let rules = rules.into_iter().map(|(_, rule)| rule);
    rules.chain([match_all(profile.family)]).collect()
}

/// The line that matches every packet of a family.
fn match_all(family: Family) -> Rule {
    Rule {
        src: net(family, 0, 0),
        dst: net(family, 0, 0),
        sport: ALL_PORTS,
        dport: ALL_PORTS,
        proto: 0,
        mask: 0,
    }
}

/// How many bits a rule fixes, addresses counted as those of IPv4 so that the fields weigh the same in both families.
fn specificity(rule: &Rule) -> f64 {
    let addr = |net: &IpNet| 32.0 * f64::from(net.prefix_len()) / f64::from(net.max_prefix_len());
    let ports = |(first, last): (u16, u16)| {
        let size = u32::from(last - first) + 1;
        f64::from(17 - (32 - size.leading_zeros()))
    };
    let proto = if rule.mask == 0 { 0.0 } else { 8.0 };
    addr(&rule.src) + addr(&rule.dst) + ports(rule.sport) + ports(rule.dport) + proto
}

/// A prefix from its bits and length; lower bits are cleared. An IPv4 address stands in the low 32 bits.
fn net(family: Family, bits: u128, len: u8) -> IpNet {
    let net = match family {
        Family::V4 => Ipv4Net::new(Ipv4Addr::from(bits as u32), len).map(IpNet::V4),
        Family::V6 => Ipv6Net::new(Ipv6Addr::from(bits), len).map(IpNet::V6),
    };
    net.expect("a length within the family's").trunc()
}

/// Prefixes that hold each other: sites, nets in them, and subnets and hosts in the nets. The first of each kind are
/// the most popular.
struct Pool {
    sites: Vec<(u128, u8)>,
    nets: Vec<(u128, u8)>,
    subnets: Vec<(u128, u8)>,
    hosts: Vec<(u128, u8)>,
}

/// Weights of the prefix lengths of each kind, IPv4. In ClassBench's seeds /16, /24 and /32 stand out.
const LENGTHS_4: [&[(u32, u8)]; 4] = [
    &[(1, 12), (2, 14), (5, 16)],
    &[
        (1, 18),
        (1, 19),
        (2, 20),
        (2, 21),
        (3, 22),
        (3, 23),
        (8, 24),
    ],
    &[(1, 25), (1, 26), (2, 27), (2, 28), (2, 29), (2, 30)],
    &[(1, 32)],
];
/// The same for IPv6: a provider's or a company's allocation, a customer's site, a link, a host (RFC 6177, RFC 7421).
const LENGTHS_6: [&[(u32, u8)]; 4] = [
    &[(5, 32), (2, 36), (1, 40)],
    &[
        (1, 42),
        (1, 44),
        (2, 46),
        (8, 48),
        (2, 50),
        (3, 52),
        (3, 56),
    ],
    &[(1, 58), (2, 60), (2, 62), (5, 64)],
    &[(1, 128)],
];

impl Pool {
    fn new(family: Family, sites: usize, nets: usize, hosts: usize, random: &mut Random) -> Pool {
        let (lengths, top) = match family {
            Family::V4 => (LENGTHS_4, (0, 0)),
            // Global unicast, 2000::/3 (RFC 4291 section 2.4).
            Family::V6 => (LENGTHS_6, (0x2000 << 112, 3)),
        };
        let sites = under(family, &[top], lengths[0], sites, random);
        let nets_of = under(family, &sites, lengths[1], nets, random);
        Pool {
            subnets: under(family, &nets_of, lengths[2], (nets / 2).max(1), random),
            hosts: under(family, &nets_of, lengths[3], hosts, random),
            sites,
            nets: nets_of,
        }
    }
}

/// `count` prefixes, each in one of the `parents`, early parents more often.
fn under(
    family: Family,
    parents: &[(u128, u8)],
    lengths: &[(u32, u8)],
    count: usize,
    random: &mut Random,
) -> Vec<(u128, u8)> {
    let width = if family == Family::V4 { 32 } else { 128 };
    let child = |_| {
        let unit = random.unit();
        let (base, shortest) = parents[(parents.len() as f64 * unit * unit) as usize];
        let len = random.weighted(lengths).max(shortest);
        let free = family.max().checked_shr(shortest.into()).unwrap_or(0);
        let kept = family.max() << (width - len) & family.max();
        ((base | random.wide() & free) & kept, len)
    };
    (0..count).map(child).collect()
}

/// `n` different prefixes like those of a list of bad networks: many close together, mostly links and hosts. Some lie in
/// others. The same for the same arguments.
pub fn prefixes(family: Family, n: usize, seed: u64) -> Vec<IpNet> {
    let mut random = Random::new("prefixes", seed);
    let (top, shorter, lengths): (_, &[_], &[_]) = match family {
        Family::V4 => (
            (0, 0),
            &[(1, 12), (2, 14), (5, 16)],
            &[(1, 18), (2, 20), (4, 22), (12, 24), (6, 32)],
        ),
        Family::V6 => (
            (0x2000 << 112, 3),
            &[(5, 32), (2, 36)],
            &[(1, 40), (4, 48), (4, 56), (10, 64), (6, 128)],
        ),
    };
    let parents = under(family, &[top], shorter, n / 50 + 1, &mut random);
    let (mut seen, mut nets) = (HashSet::new(), Vec::with_capacity(n));
    while nets.len() < n {
        let batch = under(family, &parents, lengths, n - nets.len(), &mut random);
        let batch = batch.into_iter().map(|(bits, len)| net(family, bits, len));
        nets.extend(batch.filter(|net| seen.insert(*net)));
    }
    nets
}

/// Ports that services are known by, the commonest first.
const KNOWN: [u16; 37] = [
    80, 443, 53, 25, 22, 21, 23, 20, 110, 123, 139, 445, 135, 137, 138, 161, 69, 143, 389, 514,
    993, 995, 587, 111, 3389, 1433, 3306, 8080, 8443, 5060, 1521, 5432, 2049, 1723, 3128, 636,
    6667,
];

/// What one rule set is made of.
struct Maker<'a> {
    family: Family,
    shares: &'static Shares,
    sources: Pool,
    destinations: Pool,
    random: &'a mut Random,
}

impl<'a> Maker<'a> {
    fn new(Profile { kind, family }: Profile, n: usize, random: &'a mut Random) -> Maker<'a> {
        // Real sets grow faster than the number of different addresses in them.
        let nets = ((n as f64).powf(0.7) as usize).max(4);
        let sites = nets / 40 + 2;
        Maker {
            family,
            shares: kind.shares(n),
            sources: Pool::new(family, sites, nets, 2 * nets, random),
            destinations: Pool::new(family, sites, nets, 3 * nets, random),
            random,
        }
    }

    fn rule(&mut self) -> Rule {
        let shares = self.shares;
        let choice = self.random.weighted(shares.proto);
        let src = self.random.weighted(shares.src);
        let dst = self.random.weighted(shares.dst);
        let (proto, mask) = match (choice, self.family) {
            (Proto::Tcp, _) => (6, 0xff),
            (Proto::Udp, _) => (17, 0xff),
            (Proto::Icmp, Family::V4) => (1, 0xff),
            (Proto::Icmp, Family::V6) => (58, 0xff),
            (Proto::Any, _) => (0, 0),
        };
        let ports = matches!(choice, Proto::Tcp | Proto::Udp);
        let mut pick = |shares| {
            if ports {
                port(self.random, shares)
            } else {
                ALL_PORTS
            }
        };
        let (sport, dport) = (pick(shares.sport), pick(shares.dport));
        Rule {
            src: addr(self.family, &self.sources, src, self.random),
            dst: addr(self.family, &self.destinations, dst, self.random),
            sport,
            dport,
            proto,
            mask,
        }
    }
}

/// A prefix of that kind out of a pool.
fn addr(family: Family, pool: &Pool, kind: Addr, random: &mut Random) -> IpNet {
    let (lan, width) = match family {
        Family::V4 => ((0xc0a8_0a00, 24), 32),
        Family::V6 => ((0x2001_0db8_000a << 80, 64), 128),
    };
    let from = match kind {
        Addr::Wild => return net(family, 0, 0),
        Addr::Lan => return net(family, lan.0, lan.1),
        Addr::LanHost => return net(family, lan.0 + 2 + random.below(248) as u128, width),
        Addr::Site => &pool.sites,
        Addr::Net => &pool.nets,
        Addr::Subnet => &pool.subnets,
        Addr::Host => &pool.hosts,
    };
    let unit = random.unit();
    let (bits, len) = from[(from.len() as f64 * unit * unit.sqrt()) as usize];
    net(family, bits, len)
}

fn port(random: &mut Random, shares: &[(u32, Port)]) -> (u16, u16) {
    match random.weighted(shares) {
        Port::Wild => ALL_PORTS,
        Port::High => (1024, u16::MAX),
        Port::Low => (0, 1023),
        Port::Known => {
            let unit = random.unit();
            let port = KNOWN[(KNOWN.len() as f64 * unit * unit.sqrt().sqrt()) as usize];
            (port, port)
        }
        Port::Exact => {
            let port = random.within((1, u16::MAX));
            (port, port)
        }
        Port::Range => {
            let first = random.within((1, 65_000));
            let more = [1, 2, 9, 15, 99, 255, 1000, 5000][random.below(8)];
            (first, first.saturating_add(more))
        }
    }
}

#[cfg(test)]
#[path = "generate_tests.rs"]
mod tests;
