//! The link layer as rules write it: ethertypes, VLAN ids, MAC addresses.

use super::address::{Wrong, quoted};
use super::error::nearest;
use super::number;
use super::raw::{Reader, Value, as_integer};
use crate::policy::{MacMatch, PortSet, UNTAGGED};
use toml::de::DeValue;

/// IPv4 (RFC 894) and IPv6 (RFC 2464).
pub(super) const IP: [u16; 2] = [0x0800, 0x86dd];
/// VLAN tags (IEEE 802.1Q, 802.1ad): no ethertype of what a frame carries.
const TAGS: [u16; 2] = [0x8100, 0x88a8];
/// The smallest ethertype: a smaller number there is the length of an LLC frame (IEEE 802.3-2022 section 3.2.6).
const FIRST_ETHERTYPE: u16 = 0x0600;
/// The highest VLAN id, reserved by IEEE 802.1Q and seen all the same.
const LAST_VLAN: u16 = 4095;

/// Names of ethertypes (IEEE registration authority; IANA ieee-802-numbers).
pub const ETHERTYPES: &[(&str, u16)] = &[
    ("ipv4", 0x0800),
    ("ipv6", 0x86dd),
    ("arp", 0x0806),
    ("rarp", 0x8035),
    ("lldp", 0x88cc),
    ("eapol", 0x888e),
    ("slow", 0x8809),
    ("lacp", 0x8809),
    ("ptp", 0x88f7),
    ("mpls", 0x8847),
    ("mpls-multicast", 0x8848),
    ("pppoe-discovery", 0x8863),
    ("pppoe-session", 0x8864),
    ("macsec", 0x88e5),
    ("cfm", 0x8902),
    ("mvrp", 0x88f5),
    ("wol", 0x0842),
    ("profinet", 0x8892),
    ("ethercat", 0x88a4),
    ("goose", 0x88b8),
    ("aoe", 0x88a2),
    ("fcoe", 0x8906),
    ("roce", 0x8915),
    ("homeplug", 0x88e1),
    ("ipx", 0x8137),
    ("loopback", 0x9000),
];

/// The ethertypes of a rule. `None` after an error has been reported.
pub(super) fn ethertypes(reader: &mut Reader, value: &Value<'_>) -> Option<PortSet> {
    let all = (FIRST_ETHERTYPE, u16::MAX);
    number::set(reader, value, "ethertype", all, ethertype)
}

/// Whether the set holds an ethertype that is not that of IP.
pub(super) fn holds_more_than_ip(ethertypes: &PortSet) -> bool {
    let ip = |&(first, last): &(u16, u16)| first == last && IP.contains(&first);
    !ethertypes.0.iter().all(ip)
}

/// One ethertype, or a range of them.
pub(super) fn ethertype(value: &DeValue<'_>) -> Result<Vec<number::Span>, Wrong> {
    let text = value.as_str().unwrap_or_default();
    if let Some((_, number)) = ETHERTYPES.iter().find(|(name, _)| *name == text) {
        return Ok(vec![(*number, *number)]);
    }
    let found =
        number::range(value, 0, u16::MAX, hex_or_decimal).and_then(|spans| spans.first().copied());
    match found {
        Some((first, _)) if first < FIRST_ETHERTYPE => Err((
            format!("{first:#06x} is not an ethertype"),
            "a number below 0x0600 there is the length of an 802.3 frame with LLC, which no rule can name: \
             spanning tree passes, other LLC protocols do not"
                .to_owned(),
        )),
        Some((first, last)) if first == last && TAGS.contains(&first) => Err((
            format!("the ethertype {first:#06x} is a VLAN tag, and never that of what a frame carries"),
            "match on `vlan`; `ethertype` is what stands inside the tags".to_owned(),
        )),
        Some(span) => Ok(vec![span]),
        None => Err(no_ethertype(value)),
    }
}

fn no_ethertype(value: &DeValue<'_>) -> Wrong {
    let names = ETHERTYPES.iter().map(|(name, _)| *name);
    let forms = "write a name such as \"arp\", a number from 0x0600 to 0xffff, a range \"a-b\", either with `!` before it, or a list of these";
    let Some(text) = value.as_str() else {
        return (
            "`ethertype` has something that is neither a name nor a number".to_owned(),
            forms.to_owned(),
        );
    };
    let help = match nearest(text, names) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => forms.to_owned(),
    };
    (format!("there is no ethertype {}", quoted(text)), help)
}

fn hex_or_decimal(text: &str) -> Option<u16> {
    match text.strip_prefix("0x") {
        Some(hex) if hex.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            u16::from_str_radix(hex, 16).ok()
        }
        Some(_) => None,
        None => number::digits(text),
    }
}

/// The VLAN ids of a rule. [`UNTAGGED`] stands alone in the set, so that it can be shown by its name. `None` after an
/// error has been reported.
pub(super) fn vlans(reader: &mut Reader, value: &Value<'_>) -> Option<PortSet> {
    let set = number::set(reader, value, "vlan", (0, UNTAGGED), |value| {
        if value.as_str() == Some("none") {
            return Ok(vec![(UNTAGGED, UNTAGGED)]);
        }
        number::plain(value, "vlan", LAST_VLAN).map_err(|(message, _)| {
            let help = "write an id from 0 to 4095, a range \"a-b\", \"none\" for untagged frames, either with `!` before it, or a list of these";
            (message, help.to_owned())
        })
    })?;
    let split = set
        .0
        .into_iter()
        .flat_map(|(first, last)| match (first, last) {
            (0..UNTAGGED, UNTAGGED) => vec![(first, LAST_VLAN), (UNTAGGED, UNTAGGED)],
            whole => vec![whole],
        });
    Some(PortSet(split.collect()))
}

/// A VLAN id of a packet.
pub(super) fn vlan(reader: &mut Reader, value: &Value<'_>) -> Option<u16> {
    if value.get_ref().as_str() == Some("none") {
        return Some(UNTAGGED);
    }
    if as_integer(value.get_ref()).is_none() {
        let help = "write an id from 0 to 4095, or \"none\" for an untagged frame";
        reader.error(
            value.span(),
            "`vlan` of a packet is one id or \"none\"",
            "here",
            help,
        );
        return None;
    }
    reader
        .integer(value, "vlan", 0..=LAST_VLAN.into())
        .map(|id| id as u16)
}

/// The source MAC addresses of a rule. `None` after an error has been reported.
pub(super) fn macs(reader: &mut Reader, value: &Value<'_>) -> Option<MacMatch> {
    let (mut macs, mut whole) = (MacMatch::default(), true);
    for item in reader.list(value, "src_mac")? {
        let Some(text) = reader.string(&item, "src_mac") else {
            whole = false;
            continue;
        };
        let plain = text.strip_prefix('!');
        match mac(plain.unwrap_or(&text).trim()) {
            Ok(mac) if plain.is_some() => macs.none_of.push(mac),
            Ok(mac) => macs.any_of.push(mac),
            Err((message, help)) => {
                reader.error(item.span(), message, "here", help);
                whole = false;
            }
        }
    }
    if !whole {
        return None;
    }
    if !macs.any_of.is_empty() && macs.any_of.iter().all(|mac| macs.none_of.contains(mac)) {
        number::nothing_left(reader, value, "src_mac");
        return None;
    }
    Some(macs)
}

/// A MAC address as a person writes it; `None` for anything else.
pub fn parse(text: &str) -> Option<[u8; 6]> {
    mac(text.trim()).ok()
}

/// A MAC address: six bytes in hex, with `:` or `-` between them.
pub(super) fn mac(text: &str) -> Result<[u8; 6], Wrong> {
    let between = if text.contains('-') { '-' } else { ':' };
    let byte = |text: &str| match text.len() {
        2 if text.bytes().all(|byte| byte.is_ascii_hexdigit()) => u8::from_str_radix(text, 16).ok(),
        _ => None,
    };
    let bytes: Option<Vec<u8>> = text.split(between).map(byte).collect();
    bytes
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| {
            let help = "write six bytes in hex, as in \"52:54:00:12:34:56\"";
            (
                format!("{} is not a MAC address", quoted(text)),
                help.to_owned(),
            )
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_has_six_bytes_of_two_digits() {
        let bytes = [0x52, 0x54, 0, 0x12, 0x34, 0xab];
        assert_eq!(mac("52:54:00:12:34:ab"), Ok(bytes));
        assert_eq!(mac("52-54-00-12-34-AB"), Ok(bytes));
        for text in [
            "",
            "52:54:00:12:34",
            "52:54:00:12:34:ab:cd",
            "52:54:0:12:34:ab",
            "52:54-00:12:34:ab",
            "+2:54:00:12:34:ab",
        ] {
            assert!(mac(text).is_err(), "{text}");
        }
    }
}
