//! From alerting frames to lines that a person reads: one incident for each (rule, inside host), repeats counted into it.

use super::decoys::{self, Conversation};
use super::detect::Finding;
use super::diff::Stopped;
use super::evidence::{Evidence, EvidenceStatus, Request};
use super::hosts::{Host, Hosts, Loudest};
use super::line::{About, line};
pub use super::line::{Alert, Line, timestamp};
use super::names::Names;
use super::quarantine;
use super::recent::{Latest, Recent, Told};
use super::windows::{self, Whom, Window};
use crate::app::{self, Details, Identity};
use crate::frame::Meta;
use crate::hoststack::decoy::Report;
use crate::policy::{Generation, InForce, Side, Verdict};
use crate::telemetry::{Behaviour, Cause, Event, recording};
use serde_json::{Map, Value};
use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Open incidents at most: what is beyond it is counted, and costs no memory.
const OPEN_AT_MOST: usize = 65_536;
/// Of these, at most so many of one rule behind one MAC address, so that a host that forges sources leaves room for others.
const OPEN_FOR_A_MAC: u32 = 1_024;

/// Destinations of one incident that are counted.
const MOST_DESTINATIONS: usize = 32;

/// One rule and one inside host.
pub(super) struct Incident {
    /// What the lines of this incident call it.
    pub id: String,
    pub first: u64,
    /// What the last line was about.
    pub last_frame: Sight,
    pub last: u64,
    pub packets: u64,
    /// Address and port of the other end; a port of 0 where there is none.
    pub destinations: Vec<(IpAddr, u16)>,
    /// There were others.
    pub more_destinations: bool,
    /// What the payload has shown; the last that has shown anything.
    pub shown: Option<Details>,
    /// The capture with its frames.
    pub evidence: Option<PathBuf>,
    /// What a detector goes by; the last that was told.
    pub behaviour: Map<String, Value>,
    /// The last conversation of a decoy with it.
    pub decoy: Option<Conversation>,
    /// Conversations until now, and those that were told of in this window.
    conversations: (u64, u32),
    /// Frames that a line has told of.
    told: u64,
    /// When the last line was written.
    line: u64,
}

/// What an incident keeps of an event: all but the payload.
#[derive(Clone, Copy)]
pub(super) struct Sight {
    pub cause: Cause,
    pub verdict: Verdict,
    pub shadow: bool,
    pub side: Side,
    pub meta: Meta,
}

impl Incident {
    fn new(id: String, event: &Event) -> Incident {
        Incident {
            id,
            first: event.time,
            last_frame: Sight::of(event),
            last: event.time,
            packets: 0,
            destinations: Vec::new(),
            more_destinations: false,
            shown: None,
            evidence: None,
            behaviour: Map::new(),
            decoy: None,
            conversations: (0, 0),
            told: 0,
            line: 0,
        }
    }

    /// What there is to know for whoever keeps its frames.
    fn request(&self, generation: &Generation, about: About<'_>) -> Request {
        let Sight { side, meta, .. } = &self.last_frame;
        let told = line(self, generation, about).alert;
        let (address, mac) = recording::host_of(meta, *side);
        // The address is a lie, or there is none: the MAC address says who it is.
        let by_mac = told.host.parse::<IpAddr>().is_err();
        Request {
            incident: told.incident,
            rule: told.signature,
            host: told.host,
            address: (!by_mac).then_some(address),
            mac,
            flow: recording::flow_of(meta),
            time: self.first,
        }
    }

    fn add(&mut self, event: &Event) {
        self.packets += u64::from(event.frames);
        self.last = self.last.max(event.time);
        self.last_frame = Sight::of(event);
        let meta = &event.meta;
        let (ip, port) = match event.side {
            Side::Lan => (meta.dst_ip(), meta.dport),
            Side::Uplink => (meta.src_ip(), meta.sport),
        };
        let port = if matches!(meta.proto, 1 | 58) {
            0
        } else {
            port
        };
        if let Some(ip) = ip
            && !self.destinations.contains(&(ip, port))
        {
            if self.destinations.len() < MOST_DESTINATIONS {
                self.destinations.push((ip, port));
            } else {
                self.more_destinations = true;
            }
        }
        if let Some(details) = shown(event) {
            self.shown = Some(details);
        }
    }
}

impl Sight {
    fn of(event: &Event) -> Sight {
        Sight {
            cause: event.cause,
            verdict: event.verdict,
            shadow: event.shadow,
            side: event.side,
            meta: event.meta,
        }
    }
}

/// What the payload of an event shows. Where nobody had to look what it is, it is looked at now: a packet that a rule on its port has dropped shows as much.
fn shown(event: &Event) -> Option<Details> {
    let payload = event.payload.bytes();
    if payload.is_empty() {
        return None;
    }
    let identity = || match event.meta.proto {
        6 => app::identify_tcp(payload),
        17 => app::identify_udp(payload),
        _ => Identity::Unknown,
    };
    let known = event.app.or_else(|| match identity() {
        Identity::Known(app) => Some(app),
        Identity::Unknown | Identity::More => None,
    });
    known.map(|app| app::details(app, payload))
}

type Key = (Cause, [u8; 6], u128, bool);

/// What alerts, by a name that outlives the process.
fn name_of(cause: Cause, generation: &Generation) -> String {
    match cause {
        Cause::Rule(slot) => {
            let info = generation.roster().info(slot);
            info.map_or_else(String::new, |info| format!("rule {}", info.name))
        }
        Cause::Reason(reason) => format!("reason {}", reason.name()),
        Cause::Behaviour(behaviour) => format!("behaviour {}", behaviour.name()),
    }
}

/// The open incidents.
pub struct Incidents {
    policy: InForce,
    window: u64,
    /// What the two ports are called, by side.
    interfaces: Option<[String; 2]>,
    /// What a command that a hint gives must say to reach this gate.
    reach: String,
    names: Names,
    open: HashMap<Key, Incident>,
    /// Their keys, oldest first; closed ones may still be among them.
    order: VecDeque<Key>,
    /// Open incidents by cause and MAC address.
    behind: HashMap<(Cause, [u8; 6]), u32>,
    by_rule: Vec<u64>,
    lines: u64,
    /// Keeps the frames behind them; `None` where nobody does.
    evidence: Option<Evidence>,
    /// What detectors have found.
    findings: [u64; Behaviour::ALL.len()],
    /// Incidents until now.
    begun: u64,
    uncounted: u64,
    recent: Recent<Key>,
    /// Windows from before the start that nothing has come for yet.
    before: HashMap<Whom, Window>,
    /// `None` where nobody asks which hosts alert most.
    hosts: Option<Hosts>,
}

impl Incidents {
    /// None open. A repeat within `window` of the last line is counted, not told.
    pub fn new(policy: InForce, window: Duration) -> Incidents {
        Incidents {
            policy,
            window: window.as_nanos() as u64,
            interfaces: None,
            reach: String::new(),
            names: Names::default(),
            open: HashMap::new(),
            order: VecDeque::new(),
            behind: HashMap::new(),
            by_rule: Vec::new(),
            lines: 0,
            evidence: None,
            findings: [0; Behaviour::ALL.len()],
            begun: 0,
            uncounted: 0,
            recent: Recent::new(),
            before: HashMap::new(),
            hosts: None,
        }
    }

    /// Lines name the interface that a frame came in by; `names` are those of the two sides.
    pub fn with_interfaces(mut self, names: [String; 2]) -> Incidents {
        self.interfaces = Some(names);
        self
    }

    /// Each incident asks for its frames to be kept.
    pub fn with_evidence(mut self, evidence: Option<Evidence>) -> Incidents {
        self.evidence = evidence;
        self
    }

    /// What became of evidence, where it is kept.
    pub fn evidence(&self) -> Option<EvidenceStatus> {
        self.evidence.as_ref().map(Evidence::status)
    }

    /// Counts by host which alert most, and shows so many of them; 0 counts nothing.
    pub fn with_hosts(mut self, shown: usize) -> Incidents {
        self.hosts = (shown > 0).then(|| Hosts::new(shown));
        self
    }

    /// The hosts that alert most, where they are counted.
    pub fn loudest(&self) -> Option<Loudest> {
        self.hosts.as_ref().map(Hosts::loudest)
    }

    /// What an event asks for whose rule puts hosts in quarantine, where it was enforced.
    pub fn quarantines(&self, event: &Event) -> Option<quarantine::Ask> {
        let Cause::Rule(slot) = event.cause else {
            return None;
        };
        if event.shadow || event.side != Side::Lan || event.verdict == Verdict::Forward {
            return None;
        }
        let generation = self.policy.load();
        let rule = generation.roster().info(slot)?;
        let time = rule.quarantine?;
        Some(quarantine::Ask::ByRule {
            rule: rule.name.clone(),
            ip: event.meta.src_ip().filter(|_| !rule.by_mac),
            mac: event.meta.src_mac,
            time,
        })
    }

    /// What the incidents are about that are still counted into, where it was not let through, or would not have been.
    pub fn stopped(&self) -> Vec<Stopped> {
        let incidents = self.open.values().map(|incident| &incident.last_frame);
        incidents
            .filter(|sight| {
                matches!(sight.cause, Cause::Rule(_)) && sight.verdict != Verdict::Forward
            })
            .map(|sight| Stopped {
                key: crate::policy::Key::new(&sight.meta, sight.side),
            })
            .collect()
    }

    /// Incidents that are still counted into.
    pub fn open(&self) -> usize {
        self.open.len()
    }

    /// Commands that hints give name this control socket where it is not the one that they ask by themselves.
    pub fn with_socket(mut self, socket: &Path) -> Incidents {
        self.reach = super::line::reach(socket);
        self
    }

    /// What hosts are called.
    pub fn with_names(mut self, names: Names) -> Incidents {
        self.names = names;
        self
    }

    /// Windows go on that were open before the start.
    pub fn resume(mut self, before: HashMap<Whom, Window>) -> Incidents {
        self.before = before;
        self
    }

    /// The windows that are open, those from before the start too; the latest [`windows::MOST`].
    pub fn windows(&self) -> Vec<Window> {
        let generation = self.policy.load();
        let of = |(key, incident): (&Key, &Incident)| Window {
            cause: name_of(key.0, &generation),
            mac: key.1,
            host: key.2.to_string(),
            v6: key.3,
            incident: incident.id.clone(),
            first: incident.first,
            line: incident.line,
            packets: incident.packets,
            told: incident.told,
            conversations: incident.conversations.0,
        };
        let open = self.open.iter().filter(|(_, incident)| incident.line > 0);
        let mut all: Vec<Window> = open.map(of).chain(self.before.values().cloned()).collect();
        all.sort_unstable_by(|a, b| {
            b.line
                .cmp(&a.line)
                .then_with(|| a.incident.cmp(&b.incident))
        });
        all.truncate(windows::MOST);
        all
    }

    /// A repeat within `window` of the last line is counted, not told, from now on.
    pub fn set_window(&mut self, window: Duration) {
        self.window = window.as_nanos() as u64;
    }

    /// What hosts are called, to learn more.
    pub fn names(&mut self) -> &mut Names {
        &mut self.names
    }

    /// Takes one event; a line if its host is new to the rule, or if the window of its incident is over.
    pub fn take(&mut self, event: &Event) -> Option<Line> {
        if self.hosts.is_some() {
            let host = self.host(event);
            let frames = event.frames.into();
            self.hosts
                .iter_mut()
                .for_each(|hosts| hosts.add(host, frames));
        }
        self.add(event, None)
    }

    /// The same for what a detector has found.
    pub fn take_finding(&mut self, finding: Finding) -> Option<Line> {
        if let Some(count) = self.findings.get_mut(finding.behaviour as usize) {
            *count += 1;
        }
        self.add(&finding.event(), Some(finding.numbers))
    }

    /// The same for a conversation of a decoy: a line of its own, as many as a window may have.
    pub fn take_report(&mut self, report: &Report) -> Option<Line> {
        // One that does not alert does not tell either.
        let generation = self.policy.load_full();
        generation.roster().info(report.rule)?.alert?;
        let event = decoys::event(report);
        let Some(key) = self.count(&event, None) else {
            self.uncounted += 1;
            return None;
        };
        let incident = self.open.get_mut(&key)?;
        if event.time.saturating_sub(incident.line) >= self.window {
            incident.conversations.1 = 0;
        }
        let (number, told) = &mut incident.conversations;
        *number += 1;
        *told += 1;
        if *told > decoys::TOLD {
            return None;
        }
        let (mut conversation, before) = (Conversation::of(report, *number), incident.line);
        if let Some(evidence) = &self.evidence {
            let line = self.line(self.open.get(&key)?, &generation);
            let (host, rule) = (line.alert.host, line.alert.signature);
            let of = (&*line.alert.incident, &*host, &*rule);
            let text = decoys::file(report, &host, &rule);
            conversation.evidence = evidence.keep(of, conversation.conversations, text);
        }
        let incident = self.open.get_mut(&key)?;
        incident.decoy = Some(conversation);
        if let Some(details) = decoys::shown(report) {
            incident.shown = Some(details);
        }
        let line = self.tell(key, event.time);
        let incident = self.open.get_mut(&key)?;
        if before > 0 {
            // The window goes on as it was: what is repeated is counted, not told, for no longer than before.
            incident.line = before;
        }
        if let Some(conversation) = &mut incident.decoy {
            conversation.transcript = Vec::new();
        }
        line
    }

    /// What detectors have found until now, by name.
    pub fn findings(&self) -> Vec<(&'static str, u64)> {
        let names = Behaviour::ALL.iter().map(|behaviour| behaviour.name());
        names.zip(self.findings).collect()
    }

    /// Counts an event, and tells of it where that is due.
    fn add(&mut self, event: &Event, behaviour: Option<Map<String, Value>>) -> Option<Line> {
        let key = self.count(event, behaviour)?;
        let incident = self.open.get(&key)?;
        if incident.line > 0 && event.time.saturating_sub(incident.line) < self.window {
            return None;
        }
        self.tell(key, event.time)
    }

    /// Counts an event into its incident, which it opens where there is none; `None` where there is no room for that.
    fn count(&mut self, event: &Event, behaviour: Option<Map<String, Value>>) -> Option<Key> {
        let key = self.key(event);
        if !self.open.contains_key(&key) {
            let behind = self.behind.entry((key.0, key.1)).or_insert(0);
            if *behind >= OPEN_FOR_A_MAC {
                self.uncounted += u64::from(event.frames);
                return None;
            }
            *behind += 1;
            self.make_room();
            self.order.push_back(key);
        }
        let count = &mut self.begun;
        let before = match self.before.is_empty() || self.open.contains_key(&key) {
            true => None,
            false => {
                let whom = (name_of(key.0, &self.policy.load()), key.1, key.2, key.3);
                let held = self.before.remove(&whom);
                held.filter(|held| event.time.saturating_sub(held.line) < self.window)
            }
        };
        let incident = self.open.entry(key).or_insert_with(|| {
            if let Some(held) = before {
                // No capture is begun for what has one from before.
                return Incident {
                    first: held.first,
                    packets: held.packets,
                    told: held.told,
                    line: held.line,
                    conversations: (held.conversations, 0),
                    ..Incident::new(held.incident, event)
                };
            }
            *count += 1;
            // In the order of time also across restarts, as far as the clock is right.
            let id = format!("{:x}-{count}", event.time / 1_000_000);
            let mut incident = Incident::new(id, event);
            if let Some(evidence) = &self.evidence {
                let about = About {
                    in_iface: None,
                    reach: &self.reach,
                    names: &self.names,
                };
                let request = incident.request(&self.policy.load(), about);
                incident.evidence = evidence.ask(request);
            }
            incident
        });
        incident.add(event);
        if let Some(numbers) = behaviour {
            incident.behaviour = numbers;
        }
        Some(key)
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
                self.close(&key);
            }
        }
        self.behind.retain(|_, open| *open > 0);
        self.before
            .retain(|_, held| now.saturating_sub(held.line) < window);
        self.order.retain(|key| self.open.contains_key(key));
        lines
    }

    /// Closes the oldest where there are too many: a new host alerts, however many there were before it. What no line has told of the oldest is counted.
    fn make_room(&mut self) {
        while self.open.len() >= OPEN_AT_MOST {
            let Some(oldest) = self.order.pop_front() else {
                return;
            };
            if let Some(gone) = self.close(&oldest) {
                self.uncounted += gone.packets - gone.told;
            }
        }
    }

    fn close(&mut self, key: &Key) -> Option<Incident> {
        let gone = self.open.remove(key)?;
        if let Some(behind) = self.behind.get_mut(&(key.0, key.1)) {
            *behind = behind.saturating_sub(1);
        }
        Some(gone)
    }

    /// Every open incident as it stands, in the order of its first frame: for the end of a replay.
    pub fn summary(&self) -> Vec<Line> {
        let mut incidents: Vec<_> = self.open.values().collect();
        incidents.sort_by_key(|incident| {
            (
                incident.first,
                incident.last_frame.cause,
                incident.last_frame.meta.src,
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
        let by_mac = self.by_mac(event);
        match event.side {
            // The address is a lie, so it is no part of who it was.
            Side::Lan if by_mac => (event.cause, meta.src_mac, 0, false),
            Side::Lan => (event.cause, meta.src_mac, meta.src, v6),
            Side::Uplink => (event.cause, meta.dst_mac, meta.dst, v6),
        }
    }

    /// The source that such frames have is a lie.
    fn by_mac(&self, event: &Event) -> bool {
        match event.cause {
            Cause::Rule(rule) => self
                .policy
                .load()
                .roster()
                .info(rule)
                .is_some_and(|rule| rule.by_mac),
            Cause::Reason(_) | Cause::Behaviour(_) => false,
        }
    }

    fn host(&self, event: &Event) -> Host {
        let meta = &event.meta;
        let (ip, mac) = match event.side {
            Side::Lan => (meta.src_ip(), meta.src_mac),
            Side::Uplink => (meta.dst_ip(), meta.dst_mac),
        };
        match ip {
            Some(ip) if event.side == Side::Uplink || !self.by_mac(event) => Host::Ip(ip),
            _ => Host::Mac(mac),
        }
    }

    fn tell(&mut self, key: Key, now: u64) -> Option<Line> {
        let incident = self.open.get_mut(&key)?;
        if now.saturating_sub(incident.line) >= self.window {
            incident.conversations.1 = 0;
        }
        incident.told = incident.packets;
        incident.line = now;
        self.lines += 1;
        if let Cause::Rule(rule) = key.0 {
            if self.by_rule.len() <= rule.index() {
                self.by_rule.resize(rule.index() + 1, 0);
            }
            self.by_rule[rule.index()] += 1;
        }
        let line = self.line(self.open.get(&key)?, &self.policy.load());
        self.recent.put(key, &line);
        Some(line)
    }

    /// At most so many of the incidents that were told of last, as they are now.
    pub fn latest(&self, most: usize) -> Latest {
        let told = self.recent.latest(most).map(|(key, line)| {
            let open = self.open.get(key);
            // Another one may be open under the key by now.
            let open = open.filter(|incident| incident.id == line.alert.incident);
            Told {
                line: Arc::clone(line),
                since: open.map(|incident| (incident.packets, incident.last)),
            }
        });
        Latest::new(told.collect())
    }

    fn line(&self, incident: &Incident, generation: &Generation) -> Line {
        let names = self.interfaces.as_ref();
        let side = incident.last_frame.side as usize;
        let iface = names.and_then(|names| names.get(side)).cloned();
        let about = About {
            in_iface: iface,
            reach: &self.reach,
            names: &self.names,
        };
        line(incident, generation, about)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Net;
    use crate::hoststack::decoy::Ended;
    use crate::hoststack::decoy::persona::Kind;
    use crate::hoststack::decoy::transcript::Transcript;
    use crate::telemetry::Reason;
    use crate::telemetry::event::Snippet;

    const SECOND: u64 = 1_000_000_000;

    fn incidents() -> Incidents {
        let text = "[lan]\nprefixes = [\"10.77.0.0/24\"]\n";
        let config = crate::config::parse(text, "test", Path::new(".")).unwrap();
        let in_force = Generation::first(&config.policy).unwrap().in_force();
        Incidents::new(in_force, Duration::from_secs(60))
    }

    fn event(incidents: &Incidents, rule: &str, mac: u8, src: u32, time: u64) -> Event {
        let generation = incidents.policy.load();
        let slot = generation.roster().slot(rule);
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
            cause: Cause::Rule(slot.unwrap()),
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
        let counts: Vec<_> = all
            .latest(2)
            .lines()
            .iter()
            .map(|l| l.alert.packets)
            .collect();
        assert_eq!(counts, [1, 1], "the latest first");
        let now = &all.latest(9).lines()[2].alert;
        assert_eq!((now.packets, now.signature.as_str()), (1000, "tftp"));
        assert!(now.last_seen > now.first_seen, "{now:?}");
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

    /// A conversation in which a client says this.
    fn report(incidents: &Incidents, said: &[u8], time: u64) -> Report {
        let event = event(incidents, "tftp", 9, 0x0a4d_0009, time);
        let Cause::Rule(rule) = event.cause else {
            panic!("a rule")
        };
        let mut transcript = Transcript::new(16 << 10);
        transcript.client(said);
        Report {
            rule,
            meta: event.meta,
            len: 60,
            began: time,
            lasted: Duration::from_secs(1),
            kind: Kind::Raw,
            ended: Ended::Silence,
            learned: Vec::new(),
            transcript,
        }
    }

    #[test]
    fn what_was_said_to_a_decoy_stays_with_the_last_incidents_up_to_a_bound() {
        let mut all = incidents();
        let said = |line: &Line| line.decoy.as_ref().map(|decoy| decoy.transcript.clone());
        let first = report(&all, b"hello\r\nworld\r\n", SECOND);
        let lines = vec!["C: hello".to_owned(), "C: world".to_owned()];
        assert_eq!(said(&all.take_report(&first).unwrap()), Some(lines.clone()));
        // A later line of the incident is not about it, and what is shown keeps it.
        let again = event(&all, "tftp", 9, 0x0a4d_0009, 3 * SECOND);
        assert!(all.take(&again).is_none(), "its window is open");
        let again = event(&all, "tftp", 9, 0x0a4d_0009, 63 * SECOND);
        let later = all.take(&again).unwrap();
        assert_eq!(said(&later), Some(Vec::new()));
        let shown = &all.latest(1).lines()[0];
        assert_eq!((said(shown), shown.alert.packets), (Some(lines), 2));
        assert_eq!(all.lines(), 2);

        let long = report(&all, &b"0123456789\r\n".repeat(1000), 80 * SECOND);
        let told = all.take_report(&long).unwrap();
        let shown = &all.latest(1).lines()[0];
        let (told, shown) = (told.decoy.unwrap(), shown.decoy.as_ref().unwrap());
        assert!(!told.cut && shown.cut);
        let bytes: usize = shown.transcript.iter().map(String::len).sum();
        assert!((4000..=4096).contains(&bytes), "{bytes}");
        assert_eq!(told.transcript.len(), 1000);
    }

    #[test]
    fn conversations_count_on_across_a_restart_and_those_beyond_some_are_counted_only() {
        let mut before = incidents();
        let first = event(&before, "tftp", 9, 0x0a4d_0009, SECOND);
        assert!(before.take(&first).is_some());
        let number = |line: Line| line.decoy.unwrap().conversations;
        for n in 1..=u64::from(decoys::TOLD) {
            let one = report(&before, b"x", 2 * SECOND);
            assert_eq!(before.take_report(&one).map(number), Some(n));
        }
        let one = report(&before, b"x", 2 * SECOND);
        assert!(before.take_report(&one).is_none());
        let kept = before.windows();
        let keyed = kept.iter().map(|held| {
            let whom = (
                held.cause.clone(),
                held.mac,
                held.host.parse().unwrap(),
                held.v6,
            );
            (whom, held.clone())
        });
        let mut after = incidents().resume(keyed.collect());
        let one = report(&after, b"x", 3 * SECOND);
        let line = after.take_report(&one).unwrap();
        assert_eq!(line.alert.incident, kept[0].incident);
        assert_eq!(
            number(line),
            u64::from(decoys::TOLD) + 2,
            "no name is given twice"
        );
        assert_eq!(after.lines(), 1);
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
    fn a_machine_with_many_mac_addresses_does_not_silence_another() {
        let mut all = incidents();
        for n in 0..100_000u32 {
            let mut forged = event(&all, "tftp", 9, n, SECOND);
            forged.meta.src_mac = [2, 0, 0, (n >> 17) as u8, (n >> 9) as u8, 1];
            all.take(&forged);
        }
        assert_eq!(all.open.len(), OPEN_AT_MOST);
        let other = event(&all, "irc", 10, 0x0a4d_0a0a, SECOND);
        assert!(all.take(&other).is_some());
        assert_eq!(all.open.len(), OPEN_AT_MOST);
        all.expire(100 * SECOND);
        assert!(all.open.is_empty() && all.order.is_empty());
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

    fn json(line: &Line) -> serde_json::Value {
        serde_json::to_value(line).unwrap()
    }

    #[test]
    fn a_line_shows_what_the_payload_does_and_nothing_that_moves_a_cursor() {
        let mut all = incidents();
        let mut asked = event(&all, "tftp", 9, 0x0a4d_0009, SECOND);
        asked.payload = Snippet::of(b"\0\x01\x1b[2Jtool.bin\0octet\0");
        let line = json(&all.take(&asked).unwrap());
        assert_eq!(line["app_proto"], "tftp");
        assert_eq!(line["tftp"]["operation"], "read");
        assert_eq!(line["tftp"]["file"], "\\x1b[2Jtool.bin");
        // A repeat without a payload does not take it away.
        let silent = event(&all, "tftp", 9, 0x0a4d_0009, 2 * SECOND);
        assert_eq!(all.take(&silent), None);
        let [told] = all.expire(70 * SECOND).try_into().unwrap();
        assert_eq!(json(&told)["tftp"]["mode"], "octet");
        assert_eq!(line["alert"]["incident"], json(&told)["alert"]["incident"]);
    }

    #[test]
    fn destinations_are_counted_as_far_as_there_is_room_and_the_first_are_named() {
        let mut all = incidents();
        for dst in 0..40 {
            let mut event = event(&all, "tftp", 9, 0x0a4d_0009, SECOND);
            event.meta.dst = 0x0808_0800 + dst / 2;
            event.meta.dport = 69 + (dst % 2) as u16;
            all.take(&event);
        }
        let [line] = all.summary().try_into().unwrap();
        assert_eq!(
            (line.alert.destinations, line.alert.more_destinations),
            (32, true)
        );
        assert_eq!(line.alert.to[..2], ["8.8.8.0:69", "8.8.8.0:70"]);
        assert_eq!(line.alert.to.len(), 8);
    }

    #[test]
    fn an_event_of_many_frames_counts_as_many() {
        let mut all = incidents();
        let mut many = event(&all, "tftp", 9, 9, SECOND);
        many.frames = 1_000_000;
        assert_eq!(all.take(&many).unwrap().alert.packets, 1_000_000);
    }
}
