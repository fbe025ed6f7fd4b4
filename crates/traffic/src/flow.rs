//! Who talks to whom: ranges of addresses and ports, and the flows out of them.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;

/// The protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Datagrams.
    Udp,
    /// Segments of a connection that the tester opens on both sides.
    Tcp,
}

/// Five things that name a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The host behind the LAN port.
    pub src: SocketAddr,
    /// The host behind the uplink port.
    pub dst: SocketAddr,
    /// TCP, else UDP.
    pub tcp: bool,
}

/// What flows are drawn from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ranges {
    /// Hosts behind the LAN port.
    pub src: IpNet,
    /// Hosts behind the uplink port.
    pub dst: IpNet,
    /// Their ports.
    pub sport: RangeInclusive<u16>,
    /// Their ports.
    pub dport: RangeInclusive<u16>,
    /// What they talk.
    pub protocol: Protocol,
}

/// Why there are no flows in ranges.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum RangeError {
    #[error("{src} and {dst} are not of the same family")]
    Families { src: IpNet, dst: IpNet },
    #[error("a range of ports is empty: write the lower one first")]
    NoPorts,
    #[error(
        "{wanted} flows are not in these ranges, only {there}: make --src, --dst, --sport or --dport wider, or --flows smaller"
    )]
    TooFew { wanted: usize, there: u128 },
}

impl Ranges {
    /// How many flows they hold.
    pub fn count(&self) -> u128 {
        self.sizes()
            .iter()
            .fold(1, |product: u128, size| product.saturating_mul(*size))
    }

    /// So many different flows, spread over all of the ranges and the same each time.
    ///
    /// # Errors
    /// [`RangeError`].
    pub fn flows(&self, wanted: usize) -> Result<Vec<Flow>, RangeError> {
        if self.src.addr().is_ipv4() != self.dst.addr().is_ipv4() {
            return Err(RangeError::Families {
                src: self.src,
                dst: self.dst,
            });
        }
        if self.sport.is_empty() || self.dport.is_empty() {
            return Err(RangeError::NoPorts);
        }
        let there = self.count();
        if there < wanted as u128 {
            return Err(RangeError::TooFew { wanted, there });
        }
        let stride = stride(there);
        Ok((0..wanted as u128)
            .map(|n| self.flow(product(n, stride, there)))
            .collect())
    }

    /// Flow number `n` of all that there are.
    fn flow(&self, mut n: u128) -> Flow {
        let [src, dst, sport, dport] = self.sizes().map(|size| {
            let digit = n % size;
            n /= size;
            digit
        });
        let end = |net, host, ports: &RangeInclusive<u16>, port: u128| {
            SocketAddr::new(address(net, host), ports.start() + port as u16)
        };
        Flow {
            src: end(self.src, src, &self.sport, sport),
            dst: end(self.dst, dst, &self.dport, dport),
            tcp: self.protocol == Protocol::Tcp,
        }
    }

    fn sizes(&self) -> [u128; 4] {
        let ports = |ports: &RangeInclusive<u16>| ports.clone().count() as u128;
        [
            hosts(self.src),
            hosts(self.dst),
            ports(&self.sport),
            ports(&self.dport),
        ]
    }
}

/// Hosts of a prefix: of IPv4 without its own and its broadcast address, of which /31 and /32 have none.
fn hosts(net: IpNet) -> u128 {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    match net {
        IpNet::V4(_) if bits >= 2 => (1 << bits) - 2,
        _ => 1u128.checked_shl(bits).unwrap_or(u128::MAX),
    }
}

fn address(net: IpNet, host: u128) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            let first = u32::from(net.prefix_len() < 31);
            IpAddr::V4(Ipv4Addr::from_bits(
                net.network().to_bits() + first + host as u32,
            ))
        }
        IpNet::V6(net) => IpAddr::V6(Ipv6Addr::from_bits(net.network().to_bits() + host)),
    }
}

/// A step that comes to each number below `count` once before it repeats: near the golden ratio of it, and with no divisor in common.
fn stride(count: u128) -> u128 {
    let near = (count / 1_000_000_007).saturating_mul(618_033_989)
        + count % 1_000_000_007 * 618_033_989 / 1_000_000_007;
    (near.max(1)..)
        .find(|step| divisor(*step, count) == 1)
        .unwrap_or(1)
}

fn divisor(a: u128, b: u128) -> u128 {
    if b == 0 { a } else { divisor(b, a % b) }
}

/// `n * step % count`. Where the product would be too long there are more flows than anybody asks for, and counting on is as good.
fn product(n: u128, step: u128, count: u128) -> u128 {
    n.checked_mul(step).unwrap_or(n) % count
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn ranges(src: &str, dst: &str) -> Ranges {
        Ranges {
            src: src.parse().unwrap(),
            dst: dst.parse().unwrap(),
            sport: 1024..=1123,
            dport: 443..=443,
            protocol: Protocol::Udp,
        }
    }

    #[test]
    fn every_flow_of_small_ranges_is_drawn_once() {
        let all = ranges("10.77.0.0/28", "93.184.216.34/32");
        assert_eq!(all.count(), 14 * 100);
        let flows = all.flows(1400).unwrap();
        let different: HashSet<_> = flows.iter().collect();
        assert_eq!(different.len(), 1400);
        let hosts: HashSet<_> = flows.iter().map(|flow| flow.src.ip()).collect();
        assert_eq!(hosts.len(), 14);
        assert!(!hosts.contains(&"10.77.0.0".parse().unwrap()));
        assert!(!hosts.contains(&"10.77.0.15".parse().unwrap()));
        assert_eq!(
            all.flows(1401).unwrap_err(),
            RangeError::TooFew {
                wanted: 1401,
                there: 1400
            }
        );
    }

    #[test]
    fn a_few_flows_of_wide_ranges_are_of_many_hosts_on_both_sides() {
        for (src, dst) in [
            ("10.0.0.0/16", "93.184.0.0/16"),
            ("fd77::/64", "2606:2800::/32"),
        ] {
            let flows = ranges(src, dst).flows(1000).unwrap();
            let count =
                |of: fn(&Flow) -> IpAddr| flows.iter().map(of).collect::<HashSet<_>>().len();
            assert_eq!(flows.iter().collect::<HashSet<_>>().len(), 1000);
            assert!(count(|flow| flow.src.ip()) > 500, "{src}");
        }
    }

    #[test]
    fn families_do_not_mix_and_ports_are_written_in_order() {
        assert!(ranges("10.0.0.0/8", "fd77::/64").flows(1).is_err());
        let mut none = ranges("10.0.0.0/8", "11.0.0.0/8");
        #[allow(clippy::reversed_empty_ranges)]
        {
            none.sport = 9..=1;
        }
        assert_eq!(none.flows(1).unwrap_err(), RangeError::NoPorts);
    }
}
