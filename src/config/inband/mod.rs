//! `[inband]`: an address of the box itself, on the wire that it stands in.

mod on_link;

use super::address::{self, quoted};
use super::link;
use super::raw::{Reader, Value};
use super::section::Section;
use ipnet::IpNet;
use on_link::{family, gateway, own};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Range;
use toml::de::DeValue;

/// How many addresses there may be.
const MOST: usize = 4;

/// `[inband]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InBand {
    /// The addresses, each with the length of its prefix: host bits are kept. 1 to 4, no address twice; none is link-local IPv6.
    pub addresses: Vec<IpNet>,
    /// The way to what is not on the link: at most one for each family.
    pub gateways: Vec<IpAddr>,
    /// Who gets an answer; at least one prefix.
    pub allow: Vec<IpNet>,
    /// On which side it is.
    pub side: InBandSide,
    /// The VLAN that it is in, 1 to 4094; `None`: untagged.
    pub vlan: Option<u16>,
    /// Its MAC address, of one machine and not zero; `None`: that of the NIC.
    pub mac: Option<[u8; 6]>,
    /// The TCP port of the page and the metrics; not 0.
    pub port: u16,
    /// Frames a second that workers hand to it at most, 10 to 1,000,000.
    pub rate: u32,
}

/// On which side the box answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InBandSide {
    /// To frames that the LAN port receives.
    Lan,
    /// To frames that the uplink port receives.
    Uplink,
    /// To both.
    Both,
}

impl InBand {
    /// The port of a config that names none.
    pub const PORT: u16 = 9155;
    /// The rate of a config that names none, frames a second.
    pub const RATE: u32 = 5000;
}

/// Reads `[inband]`; `None` has no address. `token`: whoever reads the page must send one.
pub(super) fn inband(
    reader: &mut Reader,
    section: Option<Section<'_>>,
    token: bool,
) -> Option<InBand> {
    let mut section = section?;
    let header = section.span.clone();
    let (address, gateway) = (section.take("address"), section.take("gateway"));
    let allow = section.take("allow");
    let sides = [
        ("lan", InBandSide::Lan),
        ("uplink", InBandSide::Uplink),
        ("both", InBandSide::Both),
    ];
    let side = section
        .take("side")
        .and_then(|value| reader.word(&value, "side", &sides));
    let mac = section.take("mac").and_then(|value| mac(reader, &value));
    let mut number = |key, range| {
        let value = section.take(key)?;
        reader.integer(&value, key, range)
    };
    let vlan = number("vlan", 1..=4094);
    let port = number("port", 1..=u16::MAX.into());
    let rate = number("rate", 10..=1_000_000);
    section.finish(reader);

    let addresses = match &address {
        Some(value) => addresses(reader, value),
        None => {
            let help = "add `address = \"10.77.0.2/24\"`, a free address of the LAN with the length of its prefix, or take [inband] out: without it the box has no address";
            let message = "[inband] has no `address`";
            reader.error(header.clone(), message, "this section", help);
            None
        }
    };
    let allow = match &allow {
        Some(value) => allowed(reader, value),
        None => {
            let help = "add `allow = [\"10.77.0.0/28\"]`, the prefixes of the administrators' machines: nobody else gets an answer";
            let message = "[inband] has no `allow`";
            reader.error(header.clone(), message, "who may ask?", help);
            None
        }
    };
    let own = addresses.as_deref();
    let gateways = match &gateway {
        Some(value) => gateways(reader, value, own)?,
        None => Vec::new(),
    };
    let (addresses, allow) = (addresses?, allow?);
    for (prefix, place) in &allow {
        answerable(reader, *prefix, place, &addresses, &gateways);
    }
    if !token {
        let help = "add `token_file = \"page.token\"` to [metrics], a file with one word that whoever reads the page and the metrics must send";
        let message = "whoever is in `allow` of [inband] can read the page with its captures, and the metrics";
        reader.warn(header, message, "no token is asked for", help);
    }
    Some(InBand {
        addresses,
        gateways,
        allow: allow.into_iter().map(|(prefix, _)| prefix).collect(),
        side: side.unwrap_or(InBandSide::Lan),
        vlan: vlan.map(|id| id as u16),
        mac,
        port: port.map_or(InBand::PORT, |port| port as u16),
        rate: rate.unwrap_or(InBand::RATE),
    })
}

/// The strings of a list, or one string, each with its place. `None` after an error has been reported.
fn strings<'t>(
    reader: &mut Reader,
    value: &Value<'t>,
    key: &str,
    help_for_none: &str,
) -> Option<Vec<(String, Range<usize>)>> {
    if let DeValue::Array(array) = value.get_ref()
        && array.is_empty()
    {
        let message = format!("`{key}` is an empty list");
        reader.error(value.span(), message, "nothing in it", help_for_none);
        return None;
    }
    let items = reader.list(value, key)?;
    let texts = items
        .iter()
        .map(|item| Some((reader.string(item, key)?, item.span())));
    // Every error is told, not the first alone.
    let texts: Vec<Option<_>> = texts.collect();
    texts.into_iter().collect()
}

fn addresses(reader: &mut Reader, value: &Value<'_>) -> Option<Vec<IpNet>> {
    let none = "write an address with the length of its prefix, or take [inband] out: without it the box has no address";
    let texts = strings(reader, value, "address", none)?;
    let (mut found, mut whole) = (Vec::<IpNet>::new(), true);
    for (text, place) in texts {
        let wrong = match own(&text) {
            Ok(net) if found.iter().any(|other| other.addr() == net.addr()) => {
                let message = format!("`address` has {} twice", net.addr());
                (message, "take one of them out".to_owned())
            }
            Ok(_) if found.len() == MOST => {
                let message = format!("`address` has more than {MOST} addresses");
                (message, format!("leave {MOST} of them"))
            }
            Ok(net) => {
                found.push(net);
                continue;
            }
            Err(wrong) => wrong,
        };
        reader.error(place, wrong.0, "here", wrong.1);
        whole = false;
    }
    whole.then_some(found)
}

fn allowed(reader: &mut Reader, value: &Value<'_>) -> Option<Vec<(IpNet, Range<usize>)>> {
    let none = "write the prefixes of the administrators' machines, or take [inband] out: nobody would get an answer";
    let texts = strings(reader, value, "allow", none)?;
    let (mut found, mut whole) = (Vec::new(), true);
    for (text, place) in texts {
        match address::prefix(&text) {
            Ok(prefix) => found.push((prefix, place)),
            Err((message, help)) => {
                let help = match text.parse::<IpNet>() {
                    Ok(_) => help,
                    Err(_) => "write addresses (\"10.77.0.9\") and prefixes (\"10.77.0.0/28\"): ranges and sets are not taken here".to_owned(),
                };
                reader.error(place, message, "here", help);
                whole = false;
            }
        }
    }
    whole.then_some(found)
}

/// The gateways; `own` are the addresses of the box, or nothing where they have a fault.
fn gateways(reader: &mut Reader, value: &Value<'_>, own: Option<&[IpNet]>) -> Option<Vec<IpAddr>> {
    let none = "leave `gateway` out where all who ask are on the link";
    let texts = strings(reader, value, "gateway", none)?;
    let (mut found, mut whole) = (Vec::<IpAddr>::new(), true);
    for (text, place) in texts {
        let wrong = match gateway(&text, own) {
            Ok(address) => {
                let family = family(address);
                let second = found.iter().any(|o| o.is_ipv4() == address.is_ipv4());
                found.push(address);
                if !second {
                    continue;
                }
                let message = format!("`gateway` has two addresses of {family}");
                (message, format!("leave one for {family}"))
            }
            Err(wrong) => wrong,
        };
        reader.error(place, wrong.0, "here", wrong.1);
        whole = false;
    }
    whole.then_some(found)
}

/// Link-local addresses, on the link wherever IPv6 is (RFC 4291 section 2.5.6).
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0);

/// Warns where answers to a prefix of `allow` go to everybody, or nowhere.
fn answerable(
    reader: &mut Reader,
    prefix: IpNet,
    place: &Range<usize>,
    own: &[IpNet],
    gateways: &[IpAddr],
) {
    let v4 = prefix.addr().is_ipv4();
    let family = family(prefix.addr());
    if prefix.prefix_len() == 0 {
        let help = "write the prefixes of the administrators' machines";
        let message = format!("`allow` has {prefix}: everybody gets an answer");
        reader.warn(place.clone(), message, "all addresses", help);
    }
    let link_local = IpNet::new(LINK_LOCAL.into(), 10).ok();
    let same = own.iter().filter(|net| net.addr().is_ipv4() == v4);
    let mut on_link = same.chain(link_local.iter().filter(|_| !v4));
    let meets = |net: &IpNet| net.contains(&prefix.network()) || prefix.contains(&net.network());
    if !own.iter().any(|net| net.addr().is_ipv4() == v4) {
        let help = format!("add an {family} address to `address`, or take {prefix} out");
        let message = format!("`allow` has {prefix}, and the box has no {family} address");
        reader.warn(place.clone(), message, "cannot ask", help);
    } else if !on_link.any(meets) && !gateways.iter().any(|gateway| gateway.is_ipv4() == v4) {
        let help = format!("add a `gateway` of {family}, or take {prefix} out");
        let message = format!(
            "`allow` has {prefix}, which is in no prefix of `address`, and there is no `gateway` of {family}: answers find no way"
        );
        reader.warn(place.clone(), message, "not on the link", help);
    }
}

fn mac(reader: &mut Reader, value: &Value<'_>) -> Option<[u8; 6]> {
    let text = reader.string(value, "mac")?;
    // The lowest bit of the first byte: IEEE 802-2014 section 8.2.2.
    let wrong = match link::mac(&text) {
        Ok([0, 0, 0, 0, 0, 0]) => (
            "`mac` cannot be all zero".to_owned(),
            "write the MAC address that the box is to answer by, or leave `mac` out for that of the NIC".to_owned(),
        ),
        Ok(mac) if mac[0] & 1 == 1 => {
            let one = (mac[0] & !1) | 2;
            let help = format!(
                "write an address of one machine: its first byte is even, as in \"{one:02x}{}\"",
                text.get(2..).unwrap_or_default()
            );
            (format!("`mac` cannot be {}", quoted(&text)), help)
        }
        Ok(mac) => return Some(mac),
        Err(wrong) => wrong,
    };
    reader.error(value.span(), wrong.0, "here", wrong.1);
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, parse};
    use std::path::Path;

    const LEAST: &str = "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\n";
    const BOTH: &str =
        "[inband]\naddress = [\"10.77.0.2/24\", \"fd77::2/64\"]\nallow = [\"10.77.0.0/24\", ";

    fn config(text: &str) -> Config {
        match parse(text, "test", Path::new("/")) {
            Ok(config) => config,
            Err(error) => panic!("{}", crate::config::error::render(&error.problems, false)),
        }
    }

    fn read(text: &str) -> InBand {
        config(text).inband.unwrap()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    /// The warnings about this section: message, label, help, and the text that they are about.
    fn warnings(text: &str) -> Vec<[String; 4]> {
        let warnings = config(text).warnings.into_iter();
        let ours = warnings.filter(|warning| warning.line > 0);
        ours.map(|warning| {
            assert!(warning.warning);
            let line = text.lines().nth(warning.line - 1).unwrap();
            let place = line.chars().skip(warning.column - 1).collect();
            let help = warning.help.unwrap();
            [warning.message, warning.label, help, place]
        })
        .collect()
    }

    /// Those about `allow`, in short.
    fn warned(text: &str) -> Vec<(String, String)> {
        let warnings = warnings(text).into_iter();
        let about = warnings.filter(|[_, label, ..]| label != "no token is asked for");
        about.map(|[message, _, help, _]| (message, help)).collect()
    }

    #[test]
    fn the_box_has_no_address_unless_one_is_named_and_what_is_left_out_has_a_default() {
        assert_eq!(config("").inband, None);
        assert!(config("").warnings.iter().all(|warning| warning.line == 0));
        let least = read(LEAST);
        let expected = InBand {
            addresses: nets(&["10.77.0.2/24"]),
            gateways: vec![],
            allow: nets(&["10.77.0.0/28"]),
            side: InBandSide::Lan,
            vlan: None,
            mac: None,
            port: 9155,
            rate: 5000,
        };
        assert_eq!(least, expected);
    }

    #[test]
    fn every_key_is_taken() {
        let all = read(
            "[inband]\naddress = [\"10.77.0.2/24\", \"fd77::2/64\"]\ngateway = [\"10.77.0.1\", \"fe80::1\"]\n\
             allow = [\"10.77.0.0/24\", \"10.9.9.9\", \"fd77::/64\", \"fd00::1\"]\nside = \"both\"\nvlan = 4094\n\
             mac = \"02-00-00-00-00-01\"\nport = 1\nrate = 1_000_000\n",
        );
        let expected = InBand {
            addresses: nets(&["10.77.0.2/24", "fd77::2/64"]),
            gateways: vec!["10.77.0.1".parse().unwrap(), "fe80::1".parse().unwrap()],
            allow: nets(&["10.77.0.0/24", "10.9.9.9/32", "fd77::/64", "fd00::1/128"]),
            side: InBandSide::Both,
            vlan: Some(4094),
            mac: Some([2, 0, 0, 0, 0, 1]),
            port: 1,
            rate: 1_000_000,
        };
        assert_eq!(all, expected);
        let uplink = read(&format!("{LEAST}side = \"uplink\"\nport = 65535\n"));
        assert_eq!((uplink.side, uplink.port), (InBandSide::Uplink, 65535));
    }

    #[test]
    fn addresses_and_gateways_that_only_look_wrong_are_taken() {
        for address in [
            "10.77.0.0/31",
            "10.77.0.1/31",
            "10.77.0.0/32",
            "fd77::/127",
            "fd77::/128",
            "fd77::ffff:ffff:ffff:ffff/64",
            "169.254.7.7/16",
            "2001:db8::1/48",
        ] {
            let text = format!("[inband]\naddress = \"{address}\"\nallow = \"10.0.0.1\"\n");
            assert_eq!(read(&text).addresses, nets(&[address]));
        }
        // One for each family; several addresses of a prefix.
        for (address, gateway) in [
            ("\"10.77.0.2/24\", \"10.78.0.2/24\"", "10.78.0.1"),
            ("\"10.77.0.2/24\", \"10.77.0.3/24\"", "10.77.0.1"),
            ("\"10.77.0.2/31\"", "10.77.0.3"),
            ("\"fd77::2/64\"", "fd77::"),
            ("\"fd77::2/128\"", "fe80::1"),
            (
                "\"10.77.0.2/24\", \"10.77.0.3/24\", \"fd77::2/64\", \"fd77::3/64\"",
                "fd77::1",
            ),
        ] {
            let text = format!(
                "[inband]\naddress = [{address}]\ngateway = \"{gateway}\"\nallow = \"10.77.0.0/24\"\n"
            );
            let gateways: Vec<IpAddr> = vec![gateway.parse().unwrap()];
            assert_eq!(read(&text).gateways, gateways);
        }
    }

    #[test]
    fn a_page_that_asks_for_no_token_is_warned_about() {
        let [warning] = &warnings(LEAST)[..] else {
            panic!("{:?}", warnings(LEAST));
        };
        let [message, label, help, place] = warning;
        assert_eq!(
            message,
            "whoever is in `allow` of [inband] can read the page with its captures, and the metrics"
        );
        assert_eq!((&**label, &**place), ("no token is asked for", "[inband]"));
        assert!(help.starts_with("add `token_file = \"page.token\"` to [metrics]"));
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("page.token"), "word\n").unwrap();
        for metrics in ["", "listen = \"off\"\n"] {
            let text = format!("{LEAST}[metrics]\ntoken_file = \"page.token\"\n{metrics}");
            let config = parse(&text, "test", dir.path()).unwrap();
            assert!(config.warnings.iter().all(|warning| warning.line == 0));
        }
    }

    #[test]
    fn an_answer_to_everybody_is_warned_about() {
        for (allow, all) in [("\"0.0.0.0/0\"]", "0.0.0.0/0"), ("\"::/0\"]", "::/0")] {
            let text = format!("{BOTH}{allow}\n");
            let message = format!("`allow` has {all}: everybody gets an answer");
            let help = "write the prefixes of the administrators' machines".to_owned();
            assert_eq!(warned(&text), [(message, help)]);
            let place = &warnings(&text)[0][3];
            assert!(place.starts_with(&format!("\"{all}\"")), "{place}");
        }
    }

    #[test]
    fn who_has_no_address_to_ask_is_warned_about() {
        for (address, allow, family) in [
            ("10.77.0.2/24", "fd77::/64", "IPv6"),
            ("10.77.0.2/24", "fe80::/10", "IPv6"),
            ("fd77::2/64", "10.77.0.0/24", "IPv4"),
        ] {
            let text = format!("[inband]\naddress = \"{address}\"\nallow = \"{allow}\"\n");
            let message = format!("`allow` has {allow}, and the box has no {family} address");
            let help = format!("add an {family} address to `address`, or take {allow} out");
            assert_eq!(warned(&text), [(message, help)]);
        }
    }

    #[test]
    fn who_no_answer_would_find_is_warned_about() {
        for (allow, gateway, family) in [
            ("10.78.0.0/24", "", Some("IPv4")),
            ("10.78.0.1", "gateway = \"fe80::1\"\n", Some("IPv4")),
            ("fd78::/64", "gateway = \"10.77.0.1\"\n", Some("IPv6")),
            ("10.78.0.0/24", "gateway = \"10.77.0.1\"\n", None),
            ("fd78::/64", "gateway = \"fe80::1\"\n", None),
            ("10.0.0.0/8", "", None),
            ("10.77.0.9", "", None),
            ("fd77::9", "", None),
            ("fe80::/64", "", None),
        ] {
            let text = format!("{BOTH}\"{allow}\"]\n{gateway}");
            let expected = family.map(|family| {
                let prefix = address::prefix(allow).unwrap();
                let message = format!("`allow` has {prefix}, which is in no prefix of `address`, and there is no `gateway` of {family}: answers find no way");
                let help = format!("add a `gateway` of {family}, or take {prefix} out");
                (message, help)
            });
            assert_eq!(warned(&text), Vec::from_iter(expected), "{text}");
        }
    }
}
