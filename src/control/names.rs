//! What hosts are called: by the config, by what they say to DHCP, by reverse DNS. Names of packets and of DNS are whatever somebody
//! wrote there: they are made safe, and tell a person where to look, and decide nothing.

use super::resolve::Resolver;
use crate::app::safe_text;
use crate::config::hosts::Host;
use crate::policy::{AddrRange, addr_bits};
use crate::telemetry::dhcp::DhcpRequest;
use smoltcp::wire::DhcpPacket;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

/// The longest name, characters.
const LONGEST: usize = 128;
/// Names that hosts have said which are remembered; the oldest goes.
const MOST: usize = 4_096;

/// Where a name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum From {
    Config,
    Dhcp,
    Dns,
}

impl From {
    /// As alerts say it.
    pub fn name(self) -> &'static str {
        match self {
            From::Config => "config",
            From::Dhcp => "dhcp",
            From::Dns => "dns",
        }
    }
}

/// A map that holds so many and forgets what was put in first.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    most: usize,
    next: u64,
    by_key: HashMap<K, (u64, V)>,
    by_age: BTreeMap<u64, K>,
}

impl<K: Hash + Eq + Copy, V> Recent<K, V> {
    pub fn new(most: usize) -> Recent<K, V> {
        Recent {
            most,
            next: 0,
            by_key: HashMap::new(),
            by_age: BTreeMap::new(),
        }
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.by_key.get(key).map(|(_, value)| value)
    }

    pub fn put(&mut self, key: K, value: V) {
        let age = self.next;
        self.next += 1;
        if let Some((before, _)) = self.by_key.insert(key, (age, value)) {
            self.by_age.remove(&before);
        }
        self.by_age.insert(age, key);
        if self.by_key.len() > self.most
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.by_key.remove(&oldest);
        }
    }
}

/// All that is known.
#[derive(Debug)]
pub struct Names {
    by_mac: HashMap<[u8; 6], String>,
    by_ip: Vec<(AddrRange, String)>,
    said: Recent<[u8; 6], String>,
    resolver: Option<Resolver>,
}

impl Default for Names {
    fn default() -> Names {
        Names::new(&[])
    }
}

impl Names {
    /// Those of the config.
    pub fn new(hosts: &[Host]) -> Names {
        let safe = |host: &Host| safe_text(host.name.as_bytes(), LONGEST);
        let macs = hosts
            .iter()
            .filter_map(|host| Some((host.mac?, safe(host))));
        // A pinned address that another machine uses is not that host.
        let unpinned = hosts.iter().filter(|host| host.mac.is_none());
        let ips = unpinned.flat_map(|host| host.ips.iter().map(|ip| (*ip, safe(host))));
        Names {
            by_mac: macs.collect(),
            by_ip: ips.collect(),
            said: Recent::new(MOST),
            resolver: None,
        }
    }

    /// Hosts are called by this config from now on; what was heard of others stays.
    pub fn restate(&mut self, hosts: &[Host]) {
        let stated = Names::new(hosts);
        (self.by_mac, self.by_ip) = (stated.by_mac, stated.by_ip);
    }

    /// Addresses that have no other name are looked up, aside; their names are there for a later line.
    pub fn with_resolver(mut self, resolver: Option<Resolver>) -> Names {
        self.resolver = resolver;
        self
    }

    /// What a host is called.
    pub fn of(&self, ip: Option<IpAddr>, mac: [u8; 6]) -> Option<(String, From)> {
        let stated = self.by_mac.get(&mac).or_else(|| {
            let (family, bits) = addr_bits(ip?);
            let found = self
                .by_ip
                .iter()
                .find(|(range, _)| range.contains(family, bits));
            found.map(|(_, name)| name)
        });
        if let Some(name) = stated {
            return Some((name.clone(), From::Config));
        }
        if let Some(name) = self.said.get(&mac) {
            return Some((name.clone(), From::Dhcp));
        }
        let name = self.resolver.as_ref()?.name(ip?)?;
        let name = safe_text(name.as_bytes(), LONGEST);
        (!name.is_empty()).then_some((name, From::Dns))
    }

    /// Takes the name that a DHCP request says, if it says one.
    pub fn hear(&mut self, request: &DhcpRequest) {
        let name = match request.v6 {
            true => name6(request.bytes()),
            false => name4(request.bytes(), request.mac),
        };
        let name = safe_text(&name.unwrap_or_default(), LONGEST);
        if !name.is_empty() {
            self.said.put(request.mac, name);
        }
    }
}

/// Option numbers of RFC 2132, RFC 4702 and RFC 4704.
const HOST_NAME: u8 = 12;
const MESSAGE_TYPE: u8 = 53;
const FQDN: u8 = 81;
const FQDN6: u16 = 39;

/// The name in a DHCPDISCOVER, DHCPREQUEST or DHCPINFORM of the machine that sent it: the whole one where it says it.
fn name4(bytes: &[u8], mac: [u8; 6]) -> Option<Vec<u8>> {
    // What stands before the options, and their magic number (RFC 2131).
    if bytes.get(236..240)? != [0x63, 0x82, 0x53, 0x63] {
        return None;
    }
    let packet = DhcpPacket::new_checked(bytes).ok()?;
    if u8::from(packet.opcode()) != 1 || packet.client_hardware_address().0 != mac {
        return None;
    }
    let (mut asks, mut host, mut whole) = (false, None, None);
    for option in packet.options() {
        match option.kind {
            MESSAGE_TYPE => asks = matches!(option.data, [1 | 3 | 8]),
            HOST_NAME => host = Some(option.data.to_vec()),
            // Flags and two codes that mean nothing any more; bit 2 says that the name is in the encoding of DNS.
            FQDN => {
                whole = match option.data {
                    [flags, _, _, name @ ..] if flags & 4 != 0 => labels(name),
                    [_, _, _, name @ ..] => Some(name.to_vec()),
                    _ => None,
                }
            }
            _ => {}
        }
    }
    let name = whole.filter(|name| !name.is_empty()).or(host)?;
    // Some clients end it with a NUL.
    let end = name
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(name.len());
    asks.then(|| name.get(..end).unwrap_or_default().to_vec())
}

/// The name in a DHCPv6 message of a client (RFC 8415).
fn name6(bytes: &[u8]) -> Option<Vec<u8>> {
    let (head, mut rest) = bytes.split_at_checked(4)?;
    // Solicit, request, confirm, renew, rebind, information-request.
    if !matches!(head[0], 1 | 3 | 4 | 5 | 6 | 11) {
        return None;
    }
    while let [c1, c0, l1, l0, more @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*l1, *l0]));
        let (data, after) = more.split_at_checked(len)?;
        if u16::from_be_bytes([*c1, *c0]) == FQDN6 {
            return labels(data.get(1..)?);
        }
        rest = after;
    }
    None
}

/// A name in the encoding of DNS, without its end where it is part of one; there is no compression in DHCP.
fn labels(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut name = Vec::new();
    while let [len, rest @ ..] = bytes
        && *len > 0
    {
        let (label, after) = rest.split_at_checked(usize::from(*len))?;
        if *len > 63 {
            return None;
        }
        if !name.is_empty() {
            name.push(b'.');
        }
        name.extend_from_slice(label);
        bytes = after;
    }
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn v4(kind: u8, options: &[(u8, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 240];
        bytes[..3].copy_from_slice(&[1, 1, 6]);
        bytes[28..34].copy_from_slice(&MAC);
        bytes[236..240].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        bytes.extend([MESSAGE_TYPE, 1, kind]);
        for (code, data) in options {
            bytes.extend([*code, data.len() as u8]);
            bytes.extend(*data);
        }
        bytes.push(255);
        bytes
    }

    fn heard(v6: bool, bytes: &[u8]) -> Option<String> {
        let mut names = Names::default();
        names.hear(&DhcpRequest::of(MAC, v6, bytes));
        let (name, from) = names.of(None, MAC)?;
        assert_eq!(from.name(), "dhcp");
        Some(name)
    }

    #[test]
    fn a_host_is_called_what_it_says_to_dhcp() {
        let name: (u8, &[u8]) = (HOST_NAME, b"desk-9");
        for kind in [1, 3, 8] {
            assert_eq!(heard(false, &v4(kind, &[name])).as_deref(), Some("desk-9"));
        }
        assert_eq!(heard(false, &v4(2, &[name])), None, "an offer");
        let whole = |data: &'static [u8]| heard(false, &v4(1, &[name, (FQDN, data)]));
        assert_eq!(
            whole(b"\x04\0\0\x04desk\x07example\0").as_deref(),
            Some("desk.example")
        );
        assert_eq!(
            whole(b"\0\0\0desk.example").as_deref(),
            Some("desk.example")
        );
        assert_eq!(whole(b"\x04\0\0").as_deref(), Some("desk-9"));
        let mut other = v4(1, &[name]);
        other[33] = 8;
        assert_eq!(heard(false, &other), None, "the name of another machine");
        let solicit = b"\x01abc\0\x01\0\x02xx\0\x27\0\x0e\x01\x04desk\x07example";
        assert_eq!(heard(true, solicit).as_deref(), Some("desk.example"));
        assert_eq!(
            heard(true, &[b"\x07", &solicit[1..]].concat()),
            None,
            "a reply"
        );
    }

    #[test]
    fn what_is_said_is_bounded_safe_and_never_stops_us() {
        let long = vec![b'\x1b'; 250];
        let name = heard(false, &v4(1, &[(HOST_NAME, &long)])).unwrap();
        assert!(
            name.chars().count() <= LONGEST && !name.contains('\u{1b}'),
            "{name}"
        );
        let whole = v4(1, &[(HOST_NAME, b"desk"), (FQDN, b"\x04\0\0\x04desk\0")]);
        let solicit = b"\x01abc\0\x27\0\x0e\x01\x04desk\x07example".to_vec();
        for (v6, good) in [(false, whole), (true, solicit)] {
            for at in 0..good.len() {
                heard(v6, &good[..at]);
                for byte in [0, 1, 63, 64, 127, 255] {
                    let mut bad = good.clone();
                    bad[at] = byte;
                    heard(v6, &bad);
                }
            }
        }
    }

    #[test]
    fn the_oldest_name_goes_where_there_are_too_many() {
        let mut names = Names::default();
        let of = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            [2, 0, a, b, c, d]
        };
        for n in 0..=MOST as u32 {
            let request = b"\x01abc\0\x27\0\x06\x01\x04desk";
            names.hear(&DhcpRequest::of(of(n), true, request));
        }
        assert_eq!(names.of(None, of(0)), None);
        assert!(names.of(None, of(1)).is_some());
        assert_eq!(
            (names.said.by_key.len(), names.said.by_age.len()),
            (MOST, MOST)
        );
    }

    #[test]
    fn the_config_comes_first_and_a_pinned_address_of_another_machine_has_not_its_name() {
        let ip = |last| IpAddr::from(Ipv4Addr::new(10, 77, 0, last));
        let host = |name: &str, ips: &[u8], mac| Host {
            name: name.into(),
            ips: ips.iter().map(|last| AddrRange::host(ip(*last))).collect(),
            mac,
        };
        let other = [2, 0, 0, 0, 0, 8];
        let mut names = Names::new(&[
            host("printer", &[5], Some(MAC)),
            host("camera", &[6, 7], None),
            host("door", &[], Some([2, 0, 0, 0, 0, 7])),
        ]);
        names.hear(&DhcpRequest::of(
            MAC,
            false,
            &v4(1, &[(HOST_NAME, b"said")]),
        ));
        let of = |at, mac| names.of(at, mac).map(|(name, from)| (name, from.name()));
        let stated = |name: &str| Some((name.to_owned(), "config"));
        assert_eq!(of(Some(ip(5)), MAC), stated("printer"));
        assert_eq!(of(Some(ip(99)), MAC), stated("printer"));
        assert_eq!(of(Some(ip(5)), other), None);
        assert_eq!(of(Some(ip(7)), other), stated("camera"));
        assert_eq!(of(None, [2, 0, 0, 0, 0, 7]), stated("door"));
    }
}
