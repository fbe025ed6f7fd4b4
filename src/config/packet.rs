//! A packet as a person writes it, for `[[test]]` and `explain`: `out`, `udp`, `10.77.0.9:40000`, `93.184.216.34:69`.

use super::address::{Wrong, quoted};
use super::{app, flags, icmp, link, number};
use crate::frame::Net;
use crate::policy::addr::bits;
use crate::policy::{Family, Key, ProtoSet, Side, UNTAGGED};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use toml::de::DeValue;

pub(super) use super::expect::test;

/// What is wrong with a packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}: {help}")]
pub struct PacketError {
    /// The field at fault: `direction`, `proto`, `src`, `dst`, `ethertype`, `src_mac`, `tcp_flags` and so on.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

/// The fields of a packet, as written. What is empty or `None` is not given.
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
    /// VLAN id of the outer tag, 0 to 4095; untagged where it is not given.
    pub vlan: Option<u16>,
    /// Name or number of the ethertype. Of one that is not IP there are no addresses, protocol or flags; that of IP need
    /// not be given.
    pub ethertype: Option<&'a str>,
    /// Source MAC address; 00:00:00:00:00:00 where it is not given.
    pub src_mac: Option<&'a str>,
    /// TCP flags that are set: `syn,ack`, or `none`; `syn` where they are not given.
    pub tcp_flags: Option<&'a str>,
    /// The first fragment of a datagram that has more.
    pub fragment: bool,
    /// What its flow's payload is: the name of an application, or `unknown`; nobody has looked where it is not given.
    pub app: Option<&'a str>,
}

/// The same with its own text, as a question that comes from elsewhere brings it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[allow(missing_docs)] // As in `Packet`.
pub struct Asked {
    pub direction: String,
    pub proto: String,
    pub src: String,
    pub dst: String,
    pub icmp_type: Option<u8>,
    pub icmp_code: Option<u8>,
    pub vlan: Option<u16>,
    pub ethertype: Option<String>,
    pub src_mac: Option<String>,
    pub tcp_flags: Option<String>,
    pub fragment: bool,
    pub app: Option<String>,
}

impl Asked {
    /// The packet.
    pub fn packet(&self) -> Packet<'_> {
        Packet {
            direction: &self.direction,
            proto: &self.proto,
            src: &self.src,
            dst: &self.dst,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            vlan: self.vlan,
            ethertype: self.ethertype.as_deref(),
            src_mac: self.src_mac.as_deref(),
            tcp_flags: self.tcp_flags.as_deref(),
            fragment: self.fragment,
            app: self.app.as_deref(),
        }
    }
}

/// The TCP flag of a segment that opens a connection (RFC 9293 section 3.1).
const SYN: u8 = 0x02;

impl Packet<'_> {
    /// What the rule table sees of the packet.
    ///
    /// # Errors
    /// [`PacketError`] for the first field that is wrong.
    pub fn key(&self) -> Result<Key, PacketError> {
        let side = match self.direction {
            "out" => Side::Lan,
            "in" => Side::Uplink,
            other => {
                let message = format!("a packet cannot go {}", quoted(other));
                return Err(wrong("direction", message, "write \"out\" or \"in\""));
            }
        };
        let src_mac = self.src_mac.map_or(Ok([0; 6]), |text| {
            link::mac(text).map_err(|(message, help)| wrong("src_mac", message, help))
        })?;
        let vlan = self.vlan.unwrap_or(UNTAGGED);
        if vlan > UNTAGGED {
            return Err(wrong(
                "vlan",
                format!("there is no VLAN {vlan}"),
                "write an id from 0 to 4095",
            ));
        }
        let link = Key {
            side,
            src_mac,
            vlan,
            ..Key::EMPTY
        };
        match self.ethertype()? {
            Some(ethertype) if !link::IP.contains(&ethertype) => {
                self.not_ip(Key { ethertype, ..link })
            }
            ethertype => self.ip(link, ethertype),
        }
    }

    fn ethertype(&self) -> Result<Option<u16>, PacketError> {
        let Some(text) = self.ethertype else {
            return Ok(None);
        };
        let value = DeValue::String(text.into());
        let spans =
            link::ethertype(&value).map_err(|(message, help)| wrong("ethertype", message, help))?;
        match spans[..] {
            [(first, last)] if first == last => Ok(Some(first)),
            _ => Err(wrong(
                "ethertype",
                "a packet has one ethertype",
                "write a name such as \"arp\", or one number",
            )),
        }
    }

    fn not_ip(&self, key: Key) -> Result<Key, PacketError> {
        let given = [
            ("proto", !self.proto.is_empty()),
            ("src", !self.src.is_empty()),
            ("dst", !self.dst.is_empty()),
            ("icmp_type", self.icmp_type.is_some()),
            ("icmp_code", self.icmp_code.is_some()),
            ("tcp_flags", self.tcp_flags.is_some()),
            ("fragment", self.fragment),
            ("app", self.app.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((field, _)) => {
                let message = format!("a packet that is not IP has no `{field}`");
                let help = format!("take `{field}` out, or `ethertype`");
                Err(wrong(field, message, help))
            }
            None => Ok(key),
        }
    }

    fn ip(&self, link: Key, ethertype: Option<u16>) -> Result<Key, PacketError> {
        let proto = number::proto(&DeValue::String(self.proto.into()))
            .map_err(|(message, help)| wrong("proto", message, help))?;
        let ports = ProtoSet::WITH_PORTS.contains(proto);
        let at = |field, text| {
            endpoint(text, ports).map_err(|(message, help)| wrong(field, message, help))
        };
        let ((src, sport), (dst, dport)) = (at("src", self.src)?, at("dst", self.dst)?);
        let ((family, src), (other, dst)) = (bits(src), bits(dst));
        if family != other {
            let message = "source and destination are of two families";
            return Err(wrong(
                "dst",
                message,
                "write two IPv4 or two IPv6 addresses",
            ));
        }
        if (proto == icmp::V4 && family == Family::V6)
            || (proto == icmp::V6 && family == Family::V4)
        {
            let help = "write \"icmp\" with IPv4 addresses, or \"icmpv6\" with IPv6 addresses";
            return Err(wrong(
                "proto",
                "ICMP goes over IPv4, and ICMPv6 over IPv6",
                help,
            ));
        }
        let (net, own) = match family {
            Family::V4 => (Net::V4, link::IP[0]),
            Family::V6 => (Net::V6, link::IP[1]),
        };
        if ethertype.is_some_and(|stated| stated != own) {
            let help = "leave `ethertype` out: the addresses say it";
            return Err(wrong(
                "ethertype",
                "`ethertype` and the addresses are of two families",
                help,
            ));
        }
        let (sport, dport) = self.icmp(proto)?.unwrap_or((sport, dport));
        Ok(Key {
            src,
            dst,
            sport,
            dport,
            proto,
            tcp_flags: self.tcp_flags(proto)?,
            fragment: self.fragment,
            ethertype: own,
            net,
            app: self.app(proto)?,
            ..link
        })
    }

    /// The number of the application; 0 where none is given.
    fn app(&self, proto: u8) -> Result<u8, PacketError> {
        let Some(name) = self.app else { return Ok(0) };
        if ![6, 17].contains(&proto) {
            let help = "write `proto = \"tcp\"` or \"udp\", or take it out";
            return Err(wrong(
                "app",
                "the payload of this protocol is not looked at",
                help,
            ));
        }
        app::named(name).map_err(|(message, help)| wrong("app", message, help))
    }

    /// Type and code; `None` where the protocol is no ICMP.
    fn icmp(&self, proto: u8) -> Result<Option<(u16, u16)>, PacketError> {
        let echo = match proto {
            icmp::V4 => 8,
            icmp::V6 => 128,
            _ => {
                let given = [("icmp_type", self.icmp_type), ("icmp_code", self.icmp_code)];
                return match given.iter().find(|(_, given)| given.is_some()) {
                    Some((field, _)) => Err(wrong(
                        field,
                        format!("this protocol has no `{field}`"),
                        "write `proto = \"icmp\"` or \"icmpv6\", or take it out",
                    )),
                    None => Ok(None),
                };
            }
        };
        let (kind, code) = (self.icmp_type.unwrap_or(echo), self.icmp_code.unwrap_or(0));
        Ok(Some((kind.into(), code.into())))
    }

    fn tcp_flags(&self, proto: u8) -> Result<u8, PacketError> {
        match (self.tcp_flags, proto) {
            (None, 6) => Ok(SYN),
            (None, _) => Ok(0),
            (Some(text), 6) => {
                flags::of_segment(text).map_err(|(message, help)| wrong("tcp_flags", message, help))
            }
            (Some(_), _) => Err(wrong(
                "tcp_flags",
                "this protocol has no `tcp_flags`",
                "write `proto = \"tcp\"`, or take them out",
            )),
        }
    }
}

fn wrong(field: &'static str, message: impl Into<String>, help: impl Into<String>) -> PacketError {
    PacketError {
        field,
        message: message.into(),
        help: help.into(),
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
