//! A packet as a person writes it, for `[[test]]` and `explain`: `out`, `udp`, `10.77.0.9:40000`, `93.184.216.34:69`.

use super::address::Wrong;
use super::error::nearest;
use super::raw::{Reader, as_integer};
use super::rule::number_of;
use super::section::Section;
use crate::frame::Net;
use crate::policy::addr::bits;
use crate::policy::rule::PROTOCOLS;
use crate::policy::{Family, Key, PolicyTest, ProtoSet, Side};
use std::net::{IpAddr, SocketAddr};

/// What is wrong with a packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {help}")]
pub struct PacketError {
    /// The field at fault: `direction`, `proto`, `src`, `dst`.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

/// The fields of a packet, as written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Packet<'a> {
    /// `out` or `in`.
    pub direction: &'a str,
    /// A protocol's name or number.
    pub proto: &'a str,
    /// `address:port` for protocols that have ports (`[v6]:port`), else an address.
    pub src: &'a str,
    /// As `src`.
    pub dst: &'a str,
    /// Type of an ICMP message; 8 (ICMP) or 128 (ICMPv6), the echo request, where it is not given.
    pub icmp_type: Option<u8>,
    /// Code of an ICMP message; 0 where it is not given.
    pub icmp_code: Option<u8>,
}

impl Packet<'_> {
    /// What the rule table sees of the packet.
    ///
    /// # Errors
    /// [`PacketError`] for the first field that is wrong.
    pub fn key(&self) -> Result<Key, PacketError> {
        let wrong = |field, (message, help): Wrong| PacketError {
            field,
            message,
            help,
        };
        let side = match self.direction {
            "out" => Side::Lan,
            "in" => Side::Uplink,
            other => {
                let message = format!("a packet cannot go \"{other}\"");
                return Err(wrong(
                    "direction",
                    (message, "write \"out\" or \"in\"".to_owned()),
                ));
            }
        };
        let proto = number_of(self.proto)
            .or_else(|| self.proto.parse().ok())
            .ok_or_else(|| {
                let near = nearest(self.proto, PROTOCOLS.iter().map(|(name, _)| *name));
                let help = near.map_or_else(
                    || "write a name or a number".to_owned(),
                    |near| format!("did you mean \"{near}\"?"),
                );
                wrong(
                    "proto",
                    (format!("there is no protocol \"{}\"", self.proto), help),
                )
            })?;
        let ports = ProtoSet::WITH_PORTS.contains(proto);
        let (src, sport) = endpoint(self.src, ports).map_err(|error| wrong("src", error))?;
        let (dst, dport) = endpoint(self.dst, ports).map_err(|error| wrong("dst", error))?;
        let ((family, src), (other, dst)) = (bits(src), bits(dst));
        if family != other {
            let message = "source and destination are of two families".to_owned();
            return Err(wrong(
                "dst",
                (message, "write two IPv4 or two IPv6 addresses".to_owned()),
            ));
        }
        if (proto == 1 && family == Family::V6) || (proto == 58 && family == Family::V4) {
            let message = "ICMP goes over IPv4, and ICMPv6 over IPv6".to_owned();
            let help = "write \"icmp\" with IPv4 addresses, or \"icmpv6\" with IPv6 addresses";
            return Err(wrong("proto", (message, help.to_owned())));
        }
        let echo = if proto == 58 { 128 } else { 8 };
        let (sport, dport) = match proto {
            1 | 58 => (
                self.icmp_type.unwrap_or(echo).into(),
                self.icmp_code.unwrap_or(0).into(),
            ),
            _ => (sport, dport),
        };
        Ok(Key {
            src,
            dst,
            sport,
            dport,
            proto,
            ethertype: if family == Family::V6 { 0x86dd } else { 0x0800 },
            net: if family == Family::V6 {
                Net::V6
            } else {
                Net::V4
            },
            side,
            ..Key::EMPTY
        })
    }
}

fn endpoint(text: &str, ports: bool) -> Result<(IpAddr, u16), Wrong> {
    if ports {
        let parsed: Result<SocketAddr, _> = text.parse();
        return parsed.map(|at| (at.ip(), at.port())).map_err(|_| {
            let help = "write \"10.0.0.1:80\" or \"[2001:db8::1]:80\": this protocol has ports";
            (
                format!("\"{text}\" is not an address and a port"),
                help.to_owned(),
            )
        });
    }
    text.parse().map(|ip| (ip, 0)).map_err(|_| {
        let help = "write an address without a port: this protocol has none";
        (format!("\"{text}\" is not an address"), help.to_owned())
    })
}

/// Reads one `[[test]]`.
pub(super) fn test(reader: &mut Reader, mut section: Section<'_>) -> Option<PolicyTest> {
    let span = section.span.clone();
    let (packet, expect) = (section.take("packet"), section.take("expect"));
    section.finish(reader);
    let (Some(packet), Some(expect)) = (packet, expect) else {
        let help = "write `packet = { direction = \"out\", proto = \"udp\", src = \"10.0.0.9:40000\", dst = \"93.184.216.34:69\" }` \
                    and `expect = { verdict = \"drop\", rule = \"tftp\" }`";
        reader.error(
            span,
            "a test needs `packet` and `expect`",
            "this test",
            help,
        );
        return None;
    };
    let expect_span = expect.span();
    let key = reader
        .section(packet, "packet")
        .and_then(|packet| key(reader, packet));
    let mut expect = reader.section(expect, "expect")?;
    let words = [
        ("forward", "forward"),
        ("allow", "forward"),
        ("drop", "drop"),
        ("reject", "reject"),
    ];
    let verdict = expect
        .take("verdict")
        .map(|value| reader.word(&value, "verdict", &words));
    let rule = expect
        .take("rule")
        .map(|value| reader.string(&value, "rule"));
    expect.finish(reader);
    if verdict.is_none() && rule.is_none() {
        let help = "write `verdict = \"drop\"`, `rule = \"tftp\"`, or both";
        reader.error(
            expect_span.clone(),
            "a test that expects nothing",
            "neither verdict nor rule",
            help,
        );
    }
    let line = reader.line(span.start);
    let span = (expect_span.start, expect_span.len());
    Some(PolicyTest {
        key: key?,
        verdict: verdict.flatten(),
        rule: rule.flatten(),
        line,
        span,
    })
}

fn key(reader: &mut Reader, mut section: Section<'_>) -> Option<Key> {
    let table = section.span.clone();
    let mut places = Vec::new();
    let mut field = |reader: &mut Reader, name: &'static str, default: Option<&str>| {
        let Some(value) = section.take(name) else {
            if default.is_none() {
                let help = format!("add `{name}`: a test packet has proto, src and dst");
                reader.error(
                    table.clone(),
                    format!("the packet has no `{name}`"),
                    "this packet",
                    help,
                );
            }
            return default.map(str::to_owned);
        };
        places.push((name, value.span()));
        match as_integer(value.get_ref()) {
            Some(_) if name == "proto" => reader
                .integer(&value, name, 0..=255)
                .map(|number| number.to_string()),
            _ => reader.string(&value, name),
        }
    };
    let direction = field(reader, "direction", Some("out"));
    let (proto, src, dst) = (
        field(reader, "proto", None),
        field(reader, "src", None),
        field(reader, "dst", None),
    );
    let byte = |reader: &mut Reader, section: &mut Section<'_>, name: &'static str| {
        let value = section.take(name)?;
        reader
            .integer(&value, name, 0..=255)
            .map(|number| number as u8)
    };
    let icmp_type = byte(reader, &mut section, "icmp_type");
    let icmp_code = byte(reader, &mut section, "icmp_code");
    section.finish(reader);
    let (direction, proto, src, dst) = (direction?, proto?, src?, dst?);
    let packet = Packet {
        direction: &direction,
        proto: &proto,
        src: &src,
        dst: &dst,
        icmp_type,
        icmp_code,
    };
    packet
        .key()
        .map_err(|error| {
            let place = places
                .iter()
                .find(|(name, _)| *name == error.field)
                .map_or(table, |(_, span)| span.clone());
            reader.error(place, error.message, "here", error.help);
        })
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet<'a>(proto: &'a str, src: &'a str, dst: &'a str) -> Packet<'a> {
        Packet {
            direction: "out",
            proto,
            src,
            dst,
            ..Packet::default()
        }
    }

    #[test]
    fn each_icmp_goes_with_its_own_family() {
        let echo = packet("icmpv6", "fd77::9", "fd77::1").key().unwrap();
        assert_eq!((echo.sport, echo.dport), (128, 0));
        assert!(packet("icmp", "10.77.0.9", "10.77.0.1").key().is_ok());
        for (proto, src, dst) in [
            ("icmpv6", "10.77.0.9", "8.8.8.8"),
            ("icmp", "fd77::9", "fd77::1"),
        ] {
            let error = packet(proto, src, dst).key().unwrap_err();
            assert_eq!(error.field, "proto", "{error}");
        }
    }
}
