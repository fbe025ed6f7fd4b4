//! From alerting frames to lines that a person reads: one incident for each (rule, inside host), repeats counted into it.

use crate::frame::Meta;
use crate::policy::{Generation, InForce, RuleId, Severity, Side, Verdict};
use crate::telemetry::{Cause, Event};
use crate::worker::reason_alert;
use serde::Serialize;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};

/// Open incidents at most: what is beyond it is counted, and costs no memory.
const OPEN_AT_MOST: usize = 65_536;
/// Of these, at most so many of one rule behind one MAC address, so that a host that forges sources leaves room for others.
const OPEN_FOR_A_MAC: u32 = 1_024;

/// One line of the alert file. Field names are those of Suricata's EVE format where it has one; docs/alerts.md says which.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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
    pub alert: Alert,
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
    /// What happened to the frame; in shadow, what would have happened.
    pub verdict: &'static str,
    /// The rule, or the whole policy, is not enforced: the alert stopped nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
    /// Frames counted into the incident since its first.
    pub packets: u64,
    pub first_seen: String,
    pub last_seen: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

struct Incident {
    first: u64,
    /// The frame that the last line was about.
    event: Event,
    last: u64,
    packets: u64,
    /// Frames that a line has told of.
    told: u64,
    /// When the last line was written.
    line: u64,
}

type Key = (Cause, [u8; 6], u128, bool);

/// The open incidents.
pub struct Incidents {
    policy: InForce,
    window: u64,
    /// What the two ports are called, by side.
    interfaces: Option<[String; 2]>,
    open: HashMap<Key, Incident>,
    /// Open incidents by cause and MAC address.
    behind: HashMap<(Cause, [u8; 6]), u32>,
    by_rule: Vec<u64>,
    lines: u64,
    uncounted: u64,
}

impl Incidents {
    /// None open. A repeat within `window` of the last line is counted, not told.
    pub fn new(policy: InForce, window: Duration) -> Incidents {
        let generation = policy.load();
        let by_rule = vec![0; generation.rules().len()];
        drop(generation);
        Incidents {
            policy,
            window: window.as_nanos() as u64,
            interfaces: None,
            open: HashMap::new(),
            behind: HashMap::new(),
            by_rule,
            lines: 0,
            uncounted: 0,
        }
    }

    /// Lines name the interface that a frame came in by; `names` are those of the two sides.
    pub fn with_interfaces(mut self, names: [String; 2]) -> Incidents {
        self.interfaces = Some(names);
        self
    }

    /// Takes one event; a line if its host is new to the rule, or if the window of its incident is over.
    pub fn take(&mut self, event: &Event) -> Option<Line> {
        let key = self.key(event);
        if !self.open.contains_key(&key) {
            let behind = self.behind.entry((key.0, key.1)).or_insert(0);
            if self.open.len() >= OPEN_AT_MOST || *behind >= OPEN_FOR_A_MAC {
                self.uncounted += 1;
                return None;
            }
            *behind += 1;
        }
        let incident = self.open.entry(key).or_insert(Incident {
            first: event.time,
            event: *event,
            last: event.time,
            packets: 0,
            told: 0,
            line: 0,
        });
        incident.packets += u64::from(event.frames);
        incident.last = incident.last.max(event.time);
        incident.event = *event;
        if incident.told > 0 && event.time.saturating_sub(incident.line) < self.window {
            return None;
        }
        self.tell(key, event.time)
    }

    /// Closes the incidents whose window is over at `now`: a last line for those with repeats that no line has told of.
    pub fn expire(&mut self, now: u64) -> Vec<Line> {
        let window = self.window;
        let over: Vec<Key> = self
            .open
            .iter()
            .filter(|(_, i)| now.saturating_sub(i.line) >= window)
            .map(|(key, _)| *key)
            .collect();
        let mut lines = Vec::new();
        for key in over {
            if self
                .open
                .get(&key)
                .is_some_and(|incident| incident.packets > incident.told)
            {
                lines.extend(self.tell(key, now));
            } else {
                self.open.remove(&key);
                if let Some(behind) = self.behind.get_mut(&(key.0, key.1)) {
                    *behind = behind.saturating_sub(1);
                }
            }
        }
        self.behind.retain(|_, open| *open > 0);
        lines
    }

    /// Every open incident as it stands, in the order of its first frame: for the end of a replay.
    pub fn summary(&self) -> Vec<Line> {
        let mut incidents: Vec<_> = self.open.values().collect();
        incidents.sort_by_key(|incident| {
            (
                incident.first,
                incident.event.cause,
                incident.event.meta.src,
            )
        });
        let generation = self.policy.load();
        incidents
            .into_iter()
            .map(|incident| self.line(incident, &generation))
            .collect()
    }

    /// Lines made, by rule.
    pub fn by_rule(&self) -> &[u64] {
        &self.by_rule
    }

    /// Lines made in all.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Events of hosts that found no room among the open incidents.
    pub fn uncounted(&self) -> u64 {
        self.uncounted
    }

    /// The inside host: the source of what leaves, the destination of what comes in.
    fn key(&self, event: &Event) -> Key {
        let meta = &event.meta;
        let v6 = meta.net == crate::frame::Net::V6;
        let by_mac = match event.cause {
            Cause::Rule(RuleId(rule)) => self
                .policy
                .load()
                .rules()
                .get(rule as usize)
                .is_some_and(|rule| rule.by_mac),
            Cause::Reason(_) => false,
        };
        match event.side {
            // The address is a lie, so it is no part of who it was.
            Side::Lan if by_mac => (event.cause, meta.src_mac, 0, false),
            Side::Lan => (event.cause, meta.src_mac, meta.src, v6),
            Side::Uplink => (event.cause, meta.dst_mac, meta.dst, v6),
        }
    }

    fn tell(&mut self, key: Key, now: u64) -> Option<Line> {
        let incident = self.open.get_mut(&key)?;
        incident.told = incident.packets;
        incident.line = now;
        self.lines += 1;
        if let Cause::Rule(rule) = key.0
            && let Some(count) = self.by_rule.get_mut(rule.index())
        {
            *count += 1;
        }
        self.open
            .get(&key)
            .map(|incident| self.line(incident, &self.policy.load()))
    }

    fn line(&self, incident: &Incident, generation: &Generation) -> Line {
        let (cause, side) = (incident.event.cause, incident.event.side);
        let names = self.interfaces.as_ref();
        let iface = names.map(|names| names[side as usize].clone());
        line(incident, generation, iface, self.spoofed == Some(cause))
    }
}

/// `forged`: the inside host's address is a lie.
fn line(
    incident: &Incident,
    generation: &Generation,
    in_iface: Option<String>,
    forged: bool,
) -> Line {
    let event = &incident.event;
    let meta = &event.meta;
    let (signature, severity) = match event.cause {
        Cause::Rule(rule) => {
            let info = &generation.rules()[rule.index()];
            (info.name.clone(), info.alert.unwrap_or(Severity::Low))
        }
        Cause::Reason(reason) => (
            reason.name().to_string(),
            reason_alert(reason).unwrap_or(Severity::Low),
        ),
    };
    let ports = matches!(meta.proto, 6 | 17 | 33 | 132 | 136) && meta.src_ip().is_some();
    let icmp = matches!(meta.proto, 1 | 58) && meta.src_ip().is_some();
    let hint = hint(&signature, event);
    let inside = match event.side {
        Side::Lan => (meta.src_ip().filter(|_| !forged), meta.src_mac),
        Side::Uplink => (meta.dst_ip(), meta.dst_mac),
    };
    Line {
        timestamp: timestamp(incident.last),
        flow_id: flow_id(meta, ports),
        in_iface,
        event_type: "alert",
        direction: event.side.direction(),
        src_ip: meta.src_ip().map(|ip| ip.to_string()),
        src_port: ports.then_some(meta.sport),
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
                Cause::Reason(_) => "Potentially Bad Traffic",
            },
            signature,
            severity: match severity {
                Severity::High => 1,
                Severity::Medium => 2,
                Severity::Low => 3,
            },
            level: severity.name(),
            host: inside.0.map_or_else(|| mac(inside.1), |ip| ip.to_string()),
            verdict: event.verdict.name(),
            shadow: event.shadow,
            packets: incident.packets,
            first_seen: timestamp(incident.first),
            last_seen: timestamp(incident.last),
            hint,
        },
    }
}

/// The commonest mistake is a new mail server that nobody added.
fn hint(signature: &str, event: &Event) -> Option<String> {
    let host = event.meta.src_ip()?;
    (signature == "smtp" && event.side == Side::Lan)
        .then(|| format!("if {host} is a mail server, add \"{host}\" to mail_servers under [sets] and restart; else it sends mail that nobody knows of"))
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

fn mac(mac: [u8; 6]) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Net;
    use crate::telemetry::Reason;
    use crate::telemetry::event::Snippet;
    use std::path::Path;

    const SECOND: u64 = 1_000_000_000;

    fn incidents() -> Incidents {
        let text = "[lan]\nprefixes = [\"10.77.0.0/24\"]\n";
        let config = crate::config::parse(text, "test", Path::new(".")).unwrap();
        let in_force = Generation::first(&config.policy).unwrap().in_force();
        Incidents::new(in_force, Duration::from_secs(60))
    }

    fn event(incidents: &Incidents, rule: &str, mac: u8, src: u32, time: u64) -> Event {
        let generation = incidents.policy.load();
        let index = generation.rules().iter().position(|r| r.name == rule);
        let meta = Meta {
            net: Net::V4,
            proto: 17,
            src: src.into(),
            dst: 0x5db8_d822,
            dport: 69,
            src_mac: [2, 0, 0, 0, 0, mac],
            ..Meta::NONE
        };
        Event {
            time,
            cause: Cause::Rule(RuleId(index.unwrap() as u32)),
            verdict: Verdict::Drop(Reason::Rule),
            shadow: false,
            side: Side::Lan,
            frames: 1,
            len: 60,
            meta,
            app: None,
            payload: Snippet::EMPTY,
        }
    }

    #[test]
    fn a_new_host_alerts_at_once_and_its_repeats_are_counted_into_the_next_line() {
        let mut all = incidents();
        let host = 0x0a4d_0009;
        let first = event(&all, "tftp", 9, host, SECOND);
        assert_eq!(all.take(&first).unwrap().alert.packets, 1);
        for n in 1..1000 {
            let again = event(&all, "tftp", 9, host, SECOND + n * 1_000_000);
            assert_eq!(all.take(&again), None);
        }
        let other = event(&all, "tftp", 10, host + 1, 2 * SECOND);
        assert!(all.take(&other).is_some(), "another host");
        let same_host = event(&all, "irc", 9, host, 2 * SECOND);
        assert!(all.take(&same_host).is_some(), "another rule");
        assert!(all.expire(30 * SECOND).is_empty(), "within the window");
        let told = all.expire(70 * SECOND);
        assert_eq!(told.len(), 1, "only the incident with repeats");
        assert_eq!(told[0].alert.packets, 1000);
        assert!(all.expire(200 * SECOND).is_empty());
        assert!(
            all.open.is_empty() && all.behind.is_empty(),
            "all is closed"
        );
        assert_eq!(all.lines(), 4);
    }

    #[test]
    fn a_host_that_forges_sources_is_one_incident_by_its_mac() {
        let mut all = incidents();
        let lines = (0..70_000)
            .filter(|n| {
                let event = event(&all, "spoofed-source", 9, *n, SECOND);
                all.take(&event).is_some()
            })
            .count();
        assert_eq!((lines, all.uncounted()), (1, 0));
    }

    #[test]
    fn a_host_with_many_addresses_leaves_room_for_another() {
        let mut all = incidents();
        for n in 0..70_000 {
            let event = event(&all, "tftp", 9, 0x0a4d_0000 + n, SECOND);
            all.take(&event);
        }
        assert_eq!(all.lines(), u64::from(OPEN_FOR_A_MAC));
        assert_eq!(all.uncounted(), 70_000 - u64::from(OPEN_FOR_A_MAC));
        let other = event(&all, "irc", 10, 0x0a4d_0a0a, SECOND);
        assert!(all.take(&other).is_some());
    }
}
