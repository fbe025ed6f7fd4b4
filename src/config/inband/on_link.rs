//! Which addresses a machine on the link can have, and which routers can be on it.

use super::super::address::{Wrong, quoted};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// An address that the box can have, with the length of its prefix.
pub(super) fn own(text: &str) -> Result<IpNet, Wrong> {
    let Ok(net) = text.parse::<IpNet>() else {
        return Err(match text.parse::<IpAddr>() {
            Ok(address) => {
                let length = if address.is_ipv4() { 24 } else { 64 };
                let help = format!("write the length of the LAN's prefix too: \"{text}/{length}\"");
                (format!("\"{text}\" has no prefix length"), help)
            }
            Err(_) => {
                let help = "write an address with the length of its prefix, such as \"10.77.0.2/24\" or \"fd77::2/64\"";
                let message = format!("{} is not an address with a prefix length", quoted(text));
                (message, help.to_owned())
            }
        });
    };
    let what = match net.addr() {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            let help =
                "leave it out: the box has a link-local address by itself where it has one of IPv6";
            return Err((
                format!("\"{text}\" is a link-local address"),
                help.to_owned(),
            ));
        }
        address if special(address).is_some() => special(address),
        _ if net.prefix_len() == 0 => {
            let help = "write the length of the LAN's prefix: with 0, no address at all would be behind a gateway";
            return Err((
                format!("\"{text}\" has the prefix length 0"),
                help.to_owned(),
            ));
        }
        _ => of_the_prefix(net),
    };
    match what {
        Some(what) => {
            let help = "write a free address of one machine, with the length of the LAN's prefix";
            let message = format!("\"{text}\" is {what}: the box cannot have it");
            Err((message, help.to_owned()))
        }
        None => Ok(net),
    }
}

/// Why no machine can have this address anywhere (RFC 6890, RFC 4291 section 2.5).
fn special(address: IpAddr) -> Option<&'static str> {
    let mapped = matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    let v4 = |is: fn(Ipv4Addr) -> bool| matches!(address, IpAddr::V4(v4) if is(v4));
    match address {
        _ if address.is_unspecified() => Some("the unspecified address"),
        _ if address.is_loopback() => Some("a loopback address"),
        _ if address.is_multicast() => Some("a multicast address"),
        _ if mapped => Some("an IPv4 address in the form of IPv6"),
        _ if v4(|v4| v4.is_broadcast()) => Some("the broadcast address"),
        _ if v4(|v4| v4.octets()[0] == 0 || v4.octets()[0] >= 240) => Some("a reserved address"),
        _ => None,
    }
}

/// Why no machine of this prefix can have this address: IPv4 but for /31 and /32 (RFC 3021), and the anycast address of
/// routers (RFC 4291 section 2.6.1) but for /127 and /128 (RFC 6164).
fn of_the_prefix(net: IpNet) -> Option<&'static str> {
    let (first, last) = (net.addr() == net.network(), net.addr() == net.broadcast());
    match net {
        IpNet::V4(net) if net.prefix_len() > 30 => None,
        IpNet::V4(_) if first => Some("the address of the network itself"),
        IpNet::V4(_) if last => Some("the broadcast address of its network"),
        IpNet::V6(net) if first && net.prefix_len() < 127 => Some("the anycast address of routers"),
        _ => None,
    }
}

/// The family of an address, in words.
pub(super) fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// A gateway; `own` are the addresses of the box, or nothing where they have a fault.
pub(super) fn gateway(text: &str, own: Option<&[IpNet]>) -> Result<IpAddr, Wrong> {
    let Ok(address) = text.parse::<IpAddr>() else {
        let help = "write the address of a router, such as \"10.77.0.1\" or \"fe80::1\"";
        return Err((
            format!("{} is not an address", quoted(text)),
            help.to_owned(),
        ));
    };
    let Some(own) = own else {
        return Ok(address);
    };
    let family = family(address);
    let mut same = own
        .iter()
        .filter(|net| net.addr().is_ipv4() == address.is_ipv4());
    if same.clone().next().is_none() {
        let help = format!("add an {family} address to `address`, or take this gateway out");
        return Err((
            format!("the gateway {address} is of {family}, and `address` has none"),
            help,
        ));
    }
    if same.clone().any(|net| net.addr() == address) {
        let help = "write the address of the router that is the way to other networks";
        return Err((
            format!("the gateway {address} is an address of the box itself"),
            help.to_owned(),
        ));
    }
    if matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local()) {
        return Ok(address);
    }
    let Some(net) = same.find(|net| net.contains(&address)) else {
        let or = if address.is_ipv4() {
            ""
        } else {
            ", or in fe80::/10"
        };
        let help = format!("write the address of a router in one of the prefixes of `address`{or}");
        return Err((
            format!("the gateway {address} is in no prefix of `address`"),
            help,
        ));
    };
    let here = IpNet::new(address, net.prefix_len()).ok();
    // A router may have the anycast address of routers.
    match here.and_then(of_the_prefix).filter(|_| address.is_ipv4()) {
        Some(what) => Err((
            format!("the gateway {address} is {what}"),
            "write the address of a router".to_owned(),
        )),
        None => Ok(address),
    }
}
