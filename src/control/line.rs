//! One line of an alert: an incident as it stands, in the form of Suricata's EVE records.

use super::alerts::Incident;
use super::decoys::Conversation;
use super::names::Names;
use crate::config::Control;
use crate::frame::Meta;
use crate::policy::{Generation, Severity, Side, Verdict};
use crate::telemetry::{Behaviour, Cause};
use crate::worker::reason_alert;
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Destinations that a line lists.
const LISTED: usize = 8;

/// One line of the alert file. Field names are those of Suricata's EVE format where it has one; docs/alerts.md says which.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct Line {
    pub timestamp: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flow_id: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_iface: Option<String>,
    pub event_type: &'static str,
    pub direction: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub src_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_ip: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_port: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u16>,
    pub proto: String,
    pub src_mac: String,
    pub dest_mac: String,
    pub ether: Ether,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vlan: Vec<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app_proto: Option<&'static str>,
    pub alert: Alert,
    /// What it said to a decoy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decoy: Option<Conversation>,
    /// What the payload has shown, under the name of its application.
    #[serde(flatten)]
    pub shown: Map<String, Value>,
}

/// EVE's place for the MAC addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Ether {
    pub src_mac: String,
    pub dest_mac: String,
}

/// Whose `signature_id` it is: not 1, which is Suricata's own.
const GENERATOR: u32 = 9155;

/// What a line says of the alert itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs)]
pub struct Alert {
    /// EVE's word: `blocked` or `allowed`; in shadow always the latter.
    pub action: &'static str,
    pub gid: u32,
    /// Of the rule's name: the same at every box and after every restart.
    pub signature_id: u32,
    pub rev: u32,
    /// The rule, or the reason of a frame that is suspicious in itself.
    pub signature: String,
    /// A description of Suricata's classification.config.
    pub category: &'static str,
    /// EVE's number: 1 is high, 3 is low.
    pub severity: u8,
    pub level: &'static str,
    /// The inside host: its IP address, or its MAC address where the frame has none, or a forged one.
    pub host: String,
    /// What that host is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_name: Option<String>,
    /// Who says so: `config`, `dhcp` or `dns`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host_name_from: Option<&'static str>,
    /// What happened to the frame; in shadow, what would have happened.
    pub verdict: &'static str,
    /// The rule, or the whole policy, is not enforced: the alert stopped nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// The incident that this line is one of: all of its lines have the same.
    pub incident: String,
    /// Frames counted into the incident since its first.
    pub packets: u64,
    /// Addresses and ports of the other end that differ, as far as they are counted.
    pub destinations: usize,
    /// There were more than are counted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub more_destinations: bool,
    /// The first of them, without that of this line where it is the only one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<String>,
    /// The capture with its frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<PathBuf>,
    pub first_seen: String,
    pub last_seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// What a line says besides.
pub(super) struct About<'a> {
    /// The port that the last frame came in by.
    pub in_iface: Option<String>,
    /// What a command of a hint needs besides.
    pub reach: &'a str,
    pub names: &'a Names,
}

/// The line of an incident as it stands.
pub(super) fn line(incident: &Incident, generation: &Generation, about: About<'_>) -> Line {
    let event = &incident.last_frame;
    let meta = &event.meta;
    let mut forged = false;
    let (signature, severity) = match event.cause {
        Cause::Rule(rule) => {
            // Also where it is gone from the policy meanwhile.
            let info = generation.roster().info(rule);
            // The inside host's address is a lie then.
            forged = info.is_some_and(|info| info.by_mac);
            let severity = info.and_then(|info| info.alert);
            let name = info.map_or_else(String::new, |info| info.name.clone());
            (name, severity.unwrap_or(Severity::Low))
        }
        Cause::Reason(reason) => (
            reason.name().to_string(),
            reason_alert(reason).unwrap_or(Severity::Low),
        ),
        Cause::Behaviour(behaviour) => (behaviour.name().to_string(), severity(behaviour)),
    };
    let ports = matches!(meta.proto, 6 | 17 | 33 | 132 | 136) && meta.src_ip().is_some();
    let icmp = matches!(meta.proto, 1 | 58) && meta.src_ip().is_some();
    let hint = hint(&signature, event.side, meta, about.reach);
    let inside = match event.side {
        Side::Lan => (meta.src_ip().filter(|_| !forged), meta.src_mac),
        Side::Uplink => (meta.dst_ip(), meta.dst_mac),
    };
    let (host_name, host_name_from) = about
        .names
        .of(inside.0, inside.1)
        .map(|(name, from)| (name, from.name()))
        .unzip();
    Line {
        timestamp: timestamp(incident.last),
        flow_id: match event.cause {
            Cause::Behaviour(_) => None,
            _ => flow_id(meta, ports),
        },
        in_iface: about.in_iface,
        event_type: "alert",
        direction: event.side.direction(),
        src_ip: meta.src_ip().map(|ip| ip.to_string()),
        // What a host does over time has no port of its own.
        src_port: (ports && !matches!(event.cause, Cause::Behaviour(_))).then_some(meta.sport),
        dest_ip: meta.dst_ip().map(|ip| ip.to_string()),
        dest_port: ports.then_some(meta.dport),
        icmp_type: icmp.then_some(meta.sport),
        icmp_code: icmp.then_some(meta.dport),
        proto: protocol(meta),
        src_mac: mac(meta.src_mac),
        dest_mac: mac(meta.dst_mac),
        ether: Ether {
            src_mac: mac(meta.src_mac),
            dest_mac: mac(meta.dst_mac),
        },
        vlan: meta.vlan[..usize::from(meta.vlan_depth.min(2))]
            .iter()
            .map(|tag| tag & 0x0fff)
            .collect(),
        app_proto: incident.shown.as_ref().map(|shown| shown.app.name()),
        decoy: incident.decoy.clone(),
        shown: shown(incident),
        alert: Alert {
            action: if event.shadow || event.verdict == Verdict::Forward {
                "allowed"
            } else {
                "blocked"
            },
            gid: GENERATOR,
            signature_id: fnv(signature.as_bytes()) as u32 >> 1,
            rev: 1,
            category: match event.cause {
                Cause::Rule(_) => "Potential Corporate Privacy Violation",
                Cause::Behaviour(Behaviour::ScanHorizontal | Behaviour::ScanVertical) => {
                    "Detection of a Network Scan"
                }
                Cause::Reason(_) | Cause::Behaviour(_) => "Potentially Bad Traffic",
            },
            signature,
            severity: match severity {
                Severity::High => 1,
                Severity::Medium => 2,
                Severity::Low => 3,
            },
            level: severity.name(),
            host_name,
            host_name_from,
            host: inside.0.map_or_else(|| mac(inside.1), |ip| ip.to_string()),
            verdict: event.verdict.name(),
            shadow: event.shadow,
            incident: incident.id.clone(),
            packets: incident.packets,
            destinations: incident.destinations.len(),
            more_destinations: incident.more_destinations,
            to: destinations(incident),
            evidence: incident.evidence.clone(),
            first_seen: timestamp(incident.first),
            last_seen: timestamp(incident.last),
            hint,
        },
    }
}

/// What the payload has shown, as EVE has it: an object with the name of the protocol.
fn shown(incident: &Incident) -> Map<String, Value> {
    let mut shown = Map::new();
    if !incident.behaviour.is_empty() {
        shown.insert("behaviour".to_owned(), incident.behaviour.clone().into());
    }
    let Some(details) = &incident.shown else {
        return shown;
    };
    let fields = details.fields.iter();
    let mut map = Map::new();
    for (name, value) in fields {
        let value = Value::from(value.as_str());
        match map.get_mut(*name) {
            None => {
                map.insert((*name).to_owned(), value);
            }
            // What is said several times is a list.
            Some(Value::Array(all)) => all.push(value),
            Some(one) => *one = Value::Array(vec![one.take(), value]),
        }
    }
    let fields = map;
    if !fields.is_empty() {
        shown.insert(details.app.name().to_owned(), fields.into());
    }
    shown
}

/// A regular connection is mostly a program that looks for news; the others are hardly anything else.
fn severity(behaviour: Behaviour) -> Severity {
    match behaviour {
        Behaviour::Beacon => Severity::Low,
        _ => Severity::Medium,
    }
}

fn destinations(incident: &Incident) -> Vec<String> {
    let all = &incident.destinations;
    if all.len() < 2 {
        return Vec::new();
    }
    let told = |(ip, port): &(std::net::IpAddr, u16)| match port {
        0 => ip.to_string(),
        port => std::net::SocketAddr::new(*ip, *port).to_string(),
    };
    all.iter().take(LISTED).map(told).collect()
}

/// The commonest mistake is a new mail server that nobody added. What stands behind `run:` is a command as a shell takes it.
fn hint(signature: &str, side: Side, meta: &Meta, reach: &str) -> Option<String> {
    let host = meta.src_ip()?;
    (signature == "smtp" && side == Side::Lan).then(|| {
        format!("if {host} is a mail server, run: portcullis sets add mail_servers {host}{reach}")
    })
}

/// The option by which a command reaches the gate behind this socket; none for the default one.
pub(super) fn reach(socket: &Path) -> String {
    if socket == Path::new(Control::SOCKET) {
        return String::new();
    }
    let text = socket.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    match text.chars().all(plain) {
        true => format!(" --socket {text}"),
        false => format!(" --socket '{}'", text.replace('\'', "'\\''")),
    }
}

fn protocol(meta: &Meta) -> String {
    match (meta.src_ip().is_some(), meta.proto) {
        (false, _) => format!("ETHER-{:04x}", meta.ethertype),
        (_, 1) => "ICMP".into(),
        (_, 6) => "TCP".into(),
        (_, 17) => "UDP".into(),
        (_, 58) => "IPv6-ICMP".into(),
        (_, 132) => "SCTP".into(),
        (_, proto) => format!("IP-{proto}"),
    }
}

pub(super) fn mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The same for both directions of a flow. EVE's has 53 bits too, which is what every reader of JSON can hold.
fn flow_id(meta: &Meta, ports: bool) -> Option<u64> {
    meta.src_ip()?;
    let [sport, dport] = [meta.sport, meta.dport].map(|port| if ports { port } else { 0 });
    let ends = [(meta.src, sport), (meta.dst, dport)];
    let mut bytes = vec![meta.proto];
    for (address, port) in [ends.iter().min()?, ends.iter().max()?] {
        bytes.extend(address.to_be_bytes());
        bytes.extend(port.to_be_bytes());
    }
    Some(fnv(&bytes) >> 11)
}

/// FNV-1a: what is written into alerts must be the same with every build.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3)
    })
}

/// EVE's form: UTC, to the microsecond, with the offset.
pub fn timestamp(nanos: u64) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_nanos(nanos);
    let text = humantime::format_rfc3339_micros(time).to_string();
    text.replace('Z', "+0000")
}
