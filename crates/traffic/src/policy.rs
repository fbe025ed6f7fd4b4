//! A policy of many rules, and traffic of which it is known what that policy allows: both come from one seed, so that the tester and the box agree
//! without a word.
//!
//! Every rule has destinations of its own, so that their order decides nothing; half of them allow, half drop. (RFC 9411 section 4.2 is about the
//! configuration of a device under test.)

use crate::flow::Flow;
use crate::frames::{Ends, Frames, Step};
use ipnet::IpNet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

/// Destinations of rules are in this, those of no rule in its last /16; it belongs to nobody that an example network could meet by accident.
const FIRST: u32 = u32::from_be_bytes([45, 0, 0, 0]);
const NOWHERE: u32 = u32::from_be_bytes([45, 255, 0, 0]);
/// The most rules: what is before the last /16.
pub const MOST: usize = 50_000;
/// Forbidden flows of each kind.
const EACH: usize = 100;
const SEED: u64 = 0x706f_7274_6375;
const TFTP: u16 = 69;
/// The lowest port that a rule names, and the lowest of a LAN host.
const LOWEST: u16 = 1024;

/// Rules that can be told to a box, and that traffic is made for.
#[derive(Clone, Debug)]
pub struct Policy {
    rules: Vec<Rule>,
    src: IpNet,
}

#[derive(Clone, Debug)]
struct Rule {
    allow: bool,
    tcp: bool,
    /// The first address, and how many.
    dst: (u32, u32),
    dport: RangeInclusive<u16>,
}

/// What forbids a frame.
pub const KINDS: [&str; 6] = [
    "drop-rule",
    "wrong-port",
    "no-rule",
    "tftp",
    "spoofed-source",
    "no-connection",
];

impl Policy {
    /// So many rules, [`MOST`] at most, for hosts of `src`; the same each time.
    pub fn new(rules: usize, src: IpNet) -> Policy {
        let mut random = Random(SEED);
        let rule = |n: u32| {
            let length = 24 + random.below(5) as u32;
            let size = 1 << (32 - length);
            let first = LOWEST + random.below(40_000) as u16;
            Rule {
                // One of each at the least.
                allow: n < 2 || (n > 3 && random.below(2) == 0),
                tcp: n.is_multiple_of(2),
                dst: (FIRST + n * 256, size),
                dport: first..=first + random.below(2_000) as u16,
            }
        };
        Policy {
            rules: (0..rules.clamp(4, MOST) as u32).map(rule).collect(),
            src,
        }
    }

    /// How many rules there are.
    pub fn rules(&self) -> usize {
        self.rules.len()
    }

    /// As a config of the gate. Rules name their sources: one that allows and does not would allow spoofed ones too, since it comes before the built-in rules.
    pub fn toml(&self, ports: Option<[&str; 2]>) -> String {
        let mut text = format!(
            "# Written by `portcullis bench policy --rules {} --src {}`, for `portcullis bench mix` with the same two.\n",
            self.rules.len(),
            self.src
        );
        if let Some([lan, uplink]) = ports {
            text += &format!("[bridge]\nlan = {lan:?}\nuplink = {uplink:?}\n\n");
        }
        text += &format!(
            "[lan]\nprefixes = [\"{}\"]\n\n[policy]\ndefault = \"drop\"\n\n",
            self.src
        );
        text += "# A segment of no connection is forbidden from the first minute on.\n[flows]\nadopt = \"off\"\n";
        for (n, rule) in self.rules.iter().enumerate() {
            let length = 32 - rule.dst.1.ilog2();
            // Writing to a string does not fail.
            let _ = write!(
                text,
                "\n[[rule]]\nname = \"bench-{n}\"\naction = \"{}\"\nproto = \"{}\"\nsrc = \"@lan\"\ndst = \"{}/{length}\"\ndport = \"{}-{}\"\n",
                if rule.allow { "allow" } else { "drop" },
                if rule.tcp { "tcp" } else { "udp" },
                Ipv4Addr::from_bits(rule.dst.0),
                rule.dport.start(),
                rule.dport.end()
            );
        }
        text
    }

    /// So many flows that it allows, over all the rules that allow and many hosts.
    pub fn allowed(&self, count: usize) -> Vec<Flow> {
        let rules = self.having(|rule| rule.allow);
        let mut random = Random(SEED + 1);
        (0..count)
            .map(|n| {
                let rule = rules[n % rules.len()];
                // Flows of one rule differ by this.
                let sport = LOWEST + (n / rules.len() % 60_000) as u16;
                self.flow(rule, sport, &mut random)
            })
            .collect()
    }

    /// Frames of `size` that it forbids, and which of [`KINDS`] each is.
    pub fn forbidden(&self, ends: &Ends, size: usize) -> (Frames, Vec<usize>) {
        let (mut frames, mut kinds) = (Frames::default(), Vec::new());
        let mut random = Random(SEED + 2);
        for kind in 0..KINDS.len() {
            for n in 0..EACH {
                let (flow, step) = self.bad(kind, n, &mut random);
                frames.append(&Frames::build(&[flow], ends, step, size));
                kinds.push(kind);
            }
        }
        (frames, kinds)
    }

    fn bad(&self, kind: usize, n: usize, random: &mut Random) -> (Flow, Step) {
        let pick = |wanted: &dyn Fn(&Rule) -> bool| {
            let rules = self.having(wanted);
            rules[n % rules.len()]
        };
        let sport = 61_100 + n as u16;
        let with = |rule: &Rule, random: &mut Random| self.flow(rule, sport, random);
        let opens = |flow: Flow| (flow, Step::Open);
        match KINDS[kind] {
            "drop-rule" => opens(with(pick(&|rule| !rule.allow), random)),
            "wrong-port" => {
                let rule = pick(&|rule| rule.allow);
                let mut flow = with(rule, random);
                flow.dst.set_port(rule.dport.end() + 1);
                opens(flow)
            }
            "no-rule" => {
                let mut flow = with(pick(&|rule| rule.allow), random);
                let far = NOWHERE + 1 + random.below(65_000) as u32;
                flow.dst.set_ip(IpAddr::V4(Ipv4Addr::from_bits(far)));
                opens(flow)
            }
            "tftp" => {
                let mut flow = with(pick(&|rule| rule.allow && !rule.tcp), random);
                flow.dst.set_port(TFTP);
                opens(flow)
            }
            "spoofed-source" => {
                let mut flow = with(pick(&|rule| rule.allow), random);
                let stranger = Ipv4Addr::new(198, 51, 100, 1 + (n % 250) as u8);
                flow.src.set_ip(IpAddr::V4(stranger));
                opens(flow)
            }
            _ => (
                with(pick(&|rule| rule.allow && rule.tcp), random),
                Step::Out,
            ),
        }
    }

    fn flow(&self, rule: &Rule, sport: u16, random: &mut Random) -> Flow {
        let dst = rule.dst.0 + random.below(rule.dst.1.into()) as u32;
        let ports = u64::from(rule.dport.end() - rule.dport.start()) + 1;
        let dport = rule.dport.start() + random.below(ports) as u16;
        Flow {
            src: SocketAddr::new(self.host(random), sport),
            dst: SocketAddr::new(IpAddr::V4(Ipv4Addr::from_bits(dst)), dport),
            tcp: rule.tcp,
        }
    }

    fn host(&self, random: &mut Random) -> IpAddr {
        match self.src {
            IpNet::V4(net) => {
                let hosts = (1u64 << (32 - net.prefix_len())).saturating_sub(2).max(1);
                let first = u32::from(net.prefix_len() < 31);
                IpAddr::V4(Ipv4Addr::from_bits(
                    net.network().to_bits() + first + random.below(hosts) as u32,
                ))
            }
            // Of another family than the destinations: the caller has refused it.
            IpNet::V6(net) => IpAddr::V6(net.network()),
        }
    }

    fn having(&self, wanted: impl Fn(&Rule) -> bool) -> Vec<&Rule> {
        self.rules.iter().filter(|rule| wanted(rule)).collect()
    }
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): the same everywhere and for ever, which no library promises.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not 0.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn policy(rules: usize) -> Policy {
        Policy::new(rules, "10.77.0.0/20".parse().unwrap())
    }

    /// What the rules alone say, the default being to drop.
    fn allows(policy: &Policy, flow: &Flow) -> bool {
        let IpAddr::V4(dst) = flow.dst.ip() else {
            return false;
        };
        let of = |rule: &&Rule| {
            rule.tcp == flow.tcp
                && (rule.dst.0..rule.dst.0 + rule.dst.1).contains(&dst.to_bits())
                && rule.dport.contains(&flow.dst.port())
        };
        let matching: Vec<_> = policy.rules.iter().filter(of).collect();
        assert!(matching.len() <= 1, "destinations are of one rule");
        matching.first().is_some_and(|rule| rule.allow)
    }

    #[test]
    fn what_is_called_allowed_is_allowed_and_each_flow_is_another() {
        for rules in [4, 1_000] {
            let policy = policy(rules);
            let flows = policy.allowed(20_000);
            assert!(flows.iter().all(|flow| allows(&policy, flow)));
            assert_eq!(flows.iter().collect::<HashSet<_>>().len(), 20_000);
            let tcp = flows.iter().filter(|flow| flow.tcp).count();
            assert!((5_000..15_000).contains(&tcp), "{tcp}");
        }
    }

    #[test]
    fn what_is_called_forbidden_has_no_rule_that_allows_it_or_is_forbidden_by_its_source_or_state()
    {
        let policy = policy(1_000);
        let mut random = Random(1);
        for (kind, name) in KINDS.iter().enumerate() {
            for n in 0..EACH {
                let (flow, step) = policy.bad(kind, n, &mut random);
                let inside = policy.src.contains(&flow.src.ip());
                assert_eq!(inside, *name != "spoofed-source");
                match *name {
                    "no-connection" => assert!(step == Step::Out && flow.tcp),
                    "spoofed-source" => {}
                    _ => assert!(!allows(&policy, &flow), "{name} {flow:?}"),
                }
            }
        }
        let (frames, kinds) = policy.forbidden(&[[2; 6], [4; 6]], 64);
        assert_eq!((frames.len(), kinds.len()), (600, 600));
    }

    #[test]
    fn the_same_rules_come_each_time_half_of_them_allow_and_the_text_has_all_of_them() {
        let text = policy(1_000).toml(Some(["a", "b"]));
        assert_eq!(text, policy(1_000).toml(Some(["a", "b"])));
        assert_eq!(text.matches("[[rule]]").count(), 1_000);
        let allow = text.matches("\"allow\"").count();
        assert!((400..600).contains(&allow), "{allow}");
    }
}
