//! ICMP types as rules write them: by name for both protocols, by number for one.

use super::address::{Wrong, quoted};
use super::error::nearest;
use super::number;
use super::raw::{Reader, Value};
use crate::policy::PortSet;
use toml::de::DeValue;

/// Protocol number of ICMP.
pub(super) const V4: u8 = 1;
/// Protocol number of ICMPv6.
pub(super) const V6: u8 = 58;

/// A name, the type of ICMP (IANA icmp-parameters), the type of ICMPv6 (IANA icmpv6-parameters).
type Name = (&'static str, Option<u16>, Option<u16>);

/// Names of types. Neighbour discovery is that of RFC 4861, multicast listener discovery that of RFC 2710 and RFC 9777.
pub const NAMES: &[Name] = &[
    ("echo-request", Some(8), Some(128)),
    ("echo-reply", Some(0), Some(129)),
    ("unreachable", Some(3), Some(1)),
    ("destination-unreachable", Some(3), Some(1)),
    ("packet-too-big", None, Some(2)),
    ("time-exceeded", Some(11), Some(3)),
    ("parameter-problem", Some(12), Some(4)),
    ("redirect", Some(5), Some(137)),
    ("router-solicitation", Some(10), Some(133)),
    ("router-advertisement", Some(9), Some(134)),
    ("neighbour-solicitation", None, Some(135)),
    ("neighbor-solicitation", None, Some(135)),
    ("neighbour-advertisement", None, Some(136)),
    ("neighbor-advertisement", None, Some(136)),
    ("mld-query", None, Some(130)),
    ("mld-report", None, Some(131)),
    ("mld-done", None, Some(132)),
    ("mldv2-report", None, Some(143)),
    ("source-quench", Some(4), None),
    ("timestamp-request", Some(13), None),
    ("timestamp-reply", Some(14), None),
    ("address-mask-request", Some(17), None),
    ("address-mask-reply", Some(18), None),
];

/// The type that a name has in a protocol.
fn of(name: &Name, proto: u8) -> Option<u16> {
    if proto == V6 { name.2 } else { name.1 }
}

/// The type of a packet, by name.
pub(super) fn of_packet(name: &str, proto: u8) -> Result<u16, Wrong> {
    let value = DeValue::String(name.into());
    match find(name).and_then(|name| of(name, proto)) {
        Some(number) => Ok(number),
        None => one(&value, proto).map(|spans| spans.first().map_or(0, |span| span.0)),
    }
}

fn find(text: &str) -> Option<&'static Name> {
    NAMES.iter().find(|(name, ..)| *name == text)
}

/// Whether every entry is a name, with or without `!`: then the protocol need not be said.
pub(super) fn all_named(value: &DeValue<'_>) -> bool {
    let named = |value: &DeValue<'_>| {
        let text = value.as_str().unwrap_or_default();
        let text = text.strip_prefix('!').unwrap_or(text).trim();
        !text.starts_with(|first: char| first.is_ascii_digit())
    };
    match value {
        DeValue::Array(array) => array
            .iter()
            .all(|item| item.as_ref().as_str().is_some() && named(item.get_ref())),
        other => other.as_str().is_some() && named(other),
    }
}

/// The types that `value` names in one of `protos`, or in each of them; a protocol of which it names nothing is not
/// there. `None` after an error has been reported.
pub(super) fn types(
    reader: &mut Reader,
    value: &Value<'_>,
    protos: &[u8],
) -> Option<Vec<(u8, PortSet)>> {
    let mut found = Vec::new();
    for (at, &proto) in protos.iter().enumerate() {
        // A name that one protocol lacks names nothing there; that none of them has it is said once.
        let parse = |value: &DeValue<'_>| match value.as_str().and_then(find) {
            Some(name) if of(name, proto).is_some() => {
                Ok(of(name, proto).map(|it| (it, it)).into_iter().collect())
            }
            Some(name) if protos.iter().any(|other| of(name, *other).is_some()) => Ok(Vec::new()),
            _ => one(value, proto),
        };
        let names_here = names_any(value.get_ref(), proto);
        if at > 0 && !names_here {
            continue;
        }
        let set = number::set(reader, value, "icmp_type", (0, u8::MAX.into()), parse)?;
        if names_here {
            found.push((proto, set));
        }
    }
    Some(found)
}

/// Whether the entries without `!` say anything of this protocol; entries with `!` alone do.
fn names_any(value: &DeValue<'_>, proto: u8) -> bool {
    let here = |value: &DeValue<'_>| {
        let name = value.as_str().and_then(find);
        name.is_none_or(|name| of(name, proto).is_some())
    };
    let negated = |value: &DeValue<'_>| value.as_str().is_some_and(|text| text.starts_with('!'));
    match value {
        DeValue::Array(array) => {
            let mut plain = array
                .iter()
                .map(|item| item.get_ref())
                .filter(|item| !negated(item))
                .peekable();
            plain.peek().is_none() || plain.any(here)
        }
        other => negated(other) || here(other),
    }
}

/// A type of one protocol by number, or what is wrong with it.
fn one(value: &DeValue<'_>, proto: u8) -> Result<Vec<number::Span>, Wrong> {
    let numeric =
        |text: &str| text.starts_with(|first: char| first.is_ascii_digit() || first == '-');
    let Some(text) = value.as_str().filter(|text| !numeric(text)) else {
        return number::plain(value, "icmp_type", u8::MAX.into());
    };
    let (own, other) = if proto == V6 {
        ("ICMPv6", "ICMP")
    } else {
        ("ICMP", "ICMPv6")
    };
    if find(text).is_some() {
        let help = match text {
            "packet-too-big" => {
                "ICMP says it as `icmp_type = \"unreachable\"`, `icmp_code = 4` (RFC 1191)"
                    .to_owned()
            }
            _ => format!("it is a type of {other}"),
        };
        return Err((format!("{own} has no type {}", quoted(text)), help));
    }
    let names = NAMES.iter().map(|(name, ..)| *name);
    let help = match nearest(text, names) {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "write a name such as \"echo-request\", a number from 0 to 255, a range \"a-b\", either with `!` before it, or a list of these".to_owned(),
    };
    Err((format!("there is no ICMP type {}", quoted(text)), help))
}
