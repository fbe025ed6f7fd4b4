//! Which lines are shown.

use ipnet::IpNet;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::SystemTime;

/// What is asked for.
pub(super) struct Select {
    host: Option<Host>,
    rule: Option<String>,
    since: Option<SystemTime>,
}

/// A machine, as a person names it.
enum Host {
    Net(IpNet),
    /// In lower case, with colons.
    Mac(String),
    /// In lower case.
    Name(String),
}

impl Host {
    fn new(text: &str) -> Host {
        let net = text.parse::<IpNet>();
        if let Ok(net) = net.or_else(|_| text.parse::<IpAddr>().map(IpNet::from)) {
            return Host::Net(net);
        }
        let text = text.to_lowercase();
        let mac = text.replace('-', ":");
        let hex = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit());
        match mac.split(':').count() == 6 && mac.split(':').all(hex) {
            true => Host::Mac(mac),
            false => Host::Name(text),
        }
    }

    fn is(&self, line: &Value) -> bool {
        let alert = &line["alert"];
        // The inside end of what the line is about.
        let (ip, mac) = match line["direction"].as_str() {
            Some("in") => (&line["dest_ip"], &line["dest_mac"]),
            _ => (&line["src_ip"], &line["src_mac"]),
        };
        let texts = [&alert["host"], ip, mac]
            .into_iter()
            .filter_map(Value::as_str);
        match self {
            Host::Net(net) => texts
                .filter_map(|text| text.parse().ok())
                .any(|ip: IpAddr| net.contains(&ip)),
            Host::Mac(mac) => texts.into_iter().any(|text| text.eq_ignore_ascii_case(mac)),
            Host::Name(name) => alert["host_name"].as_str().is_some_and(|held| {
                let held = held.to_lowercase();
                // The whole, or its first label.
                held == *name || held.split('.').next() == Some(name)
            }),
        }
    }
}

impl Select {
    pub fn new(host: Option<&str>, rule: Option<&str>, since: Option<SystemTime>) -> Select {
        Select {
            host: host.map(Host::new),
            rule: rule.map(str::to_owned),
            since,
        }
    }

    /// The line, if it is asked for.
    ///
    /// # Errors
    /// That it is no alert in JSON.
    pub fn takes(&self, line: &str) -> Result<Option<Value>, ()> {
        let value: Value = serde_json::from_str(line).map_err(|_| ())?;
        if !value["alert"].is_object() {
            return Err(());
        }
        let rule = |rule: &String| value["alert"]["signature"] == *rule;
        let new = |since: &SystemTime| time(&value).is_some_and(|at| at >= *since);
        let takes = self.rule.as_ref().is_none_or(rule)
            && self.since.as_ref().is_none_or(new)
            && self.host.as_ref().is_none_or(|host| host.is(&value));
        Ok(takes.then_some(value))
    }
}

/// When the frame came in that a line is about.
pub(super) fn time(line: &Value) -> Option<SystemTime> {
    let text = line["timestamp"].as_str()?;
    humantime::parse_rfc3339(&format!("{}Z", text.strip_suffix("+0000")?)).ok()
}

/// The newest lines, as many as are asked for: of each incident its latest alone, where not all are wanted.
pub(super) struct Newest {
    limit: usize,
    all: bool,
    next: u64,
    lines: BTreeMap<u64, (String, Value)>,
    incidents: HashMap<String, u64>,
    left_out: bool,
}

impl Newest {
    pub fn new(limit: usize, all: bool) -> Newest {
        Newest {
            limit,
            all,
            next: 0,
            lines: BTreeMap::new(),
            incidents: HashMap::new(),
            left_out: false,
        }
    }

    pub fn add(&mut self, line: &str, mut value: Value) {
        let place = self.next;
        self.next += 1;
        if let (false, Some(incident)) = (self.all, value["alert"]["incident"].as_str())
            && let Some(before) = self.incidents.insert(incident.to_owned(), place)
            && let Some((_, before)) = self.lines.remove(&before)
        {
            keep_transcript(&before, &mut value);
        }
        self.lines.insert(place, (line.to_owned(), value));
        if self.lines.len() > self.limit
            && let Some((_, (_, oldest))) = self.lines.pop_first()
        {
            self.left_out = true;
            if let Some(incident) = oldest["alert"]["incident"].as_str() {
                self.incidents.remove(incident);
            }
        }
    }

    /// In the order of the file.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.lines
            .values()
            .map(|(line, value)| (line.as_str(), value))
    }

    pub fn values(&self) -> impl Iterator<Item = &Value> {
        self.lines.values().map(|(_, value)| value)
    }

    /// There were others.
    pub fn left_out(&self) -> bool {
        self.left_out
    }
}

/// A later line tells of the same conversation, and has not what was said in it.
fn keep_transcript(before: &Value, line: &mut Value) {
    let said = &before["decoy"]["transcript"];
    let Some(decoy) = line["decoy"].as_object_mut() else {
        return;
    };
    let same = before["decoy"].get("conversations") == decoy.get("conversations");
    if same && said.is_array() && !decoy.contains_key("transcript") {
        decoy.insert("transcript".to_owned(), said.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const LINE: &str = r#"{"timestamp":"2026-01-01T00:00:10.000000+0000","direction":"in","src_ip":"93.184.216.34","dest_ip":"10.77.0.9","src_mac":"02:00:00:00:00:01","dest_mac":"02:00:00:00:00:0a","alert":{"signature":"irc","host":"10.77.0.9","host_name":"Desk.Example","incident":"1-1"}}"#;

    fn takes(host: Option<&str>, rule: Option<&str>, since: Option<u64>) -> bool {
        let start = humantime::parse_rfc3339("2026-01-01T00:00:00Z").unwrap();
        let since = since.map(|secs| start + Duration::from_secs(secs));
        Select::new(host, rule, since)
            .takes(LINE)
            .unwrap()
            .is_some()
    }

    #[test]
    fn a_host_is_an_address_a_prefix_a_mac_address_or_a_name_of_the_inside() {
        for host in [
            "10.77.0.9",
            "10.77.0.0/24",
            "02:00:00:00:00:0A",
            "02-00-00-00-00-0a",
            "desk",
            "DESK.example",
        ] {
            assert!(takes(Some(host), None, None), "{host}");
        }
        for host in [
            "93.184.216.34",
            "10.78.0.0/16",
            "02:00:00:00:00:01",
            "des",
            "example",
            "fd77::/64",
            "",
        ] {
            assert!(!takes(Some(host), None, None), "{host}");
        }
    }

    #[test]
    fn rules_and_times_select_and_what_is_no_alert_is_an_error() {
        assert!(takes(None, Some("irc"), Some(10)));
        assert!(!takes(None, Some("ir"), None));
        assert!(!takes(None, None, Some(11)));
        let select = Select::new(None, None, None);
        for line in [
            "",
            "?",
            "[1]",
            "{\"alert\":3}",
            "{\"alert\":{}",
            "\u{1b}[2J",
        ] {
            assert_eq!(select.takes(line), Err(()), "{line}");
        }
        let late = Select::new(None, None, Some(SystemTime::UNIX_EPOCH));
        assert_eq!(late.takes("{\"alert\":{}}"), Ok(None), "without a time");
    }

    #[test]
    fn what_was_said_to_a_decoy_outlives_later_lines_of_the_same_conversation() {
        let mut newest = Newest::new(10, false);
        let mut add = |decoy: Value| {
            let value = serde_json::json!({ "alert": { "incident": "1" }, "decoy": decoy });
            newest.add("", value);
            newest.values().next().unwrap()["decoy"]["transcript"].clone()
        };
        let said = serde_json::json!(["C: hello"]);
        add(serde_json::json!({ "conversations": 1, "transcript": said }));
        let later = add(serde_json::json!({ "conversations": 1 }));
        assert_eq!(later, said);
        assert_eq!(add(serde_json::json!({ "conversations": 2 })), Value::Null);
        assert_eq!(add(Value::Null), Value::Null);
    }

    #[test]
    fn an_incident_is_folded_into_its_latest_line_and_the_newest_are_kept() {
        let line = |n: u64, incident: u64| {
            let text = format!("{{\"n\":{n},\"alert\":{{\"incident\":\"{incident}\"}}}}");
            (serde_json::from_str::<Value>(&text).unwrap(), text)
        };
        let shown = |limit, all| {
            let mut newest = Newest::new(limit, all);
            for (n, incident) in [(0, 1), (1, 2), (2, 1), (3, 3), (4, 1)] {
                let (value, text) = line(n, incident);
                newest.add(&text, value);
            }
            let lines: Vec<u64> = newest.values().map(|v| v["n"].as_u64().unwrap()).collect();
            (lines, newest.left_out())
        };
        assert_eq!(shown(10, false), (vec![1, 3, 4], false));
        assert_eq!(shown(10, true), (vec![0, 1, 2, 3, 4], false));
        assert_eq!(shown(2, false), (vec![3, 4], true));
    }
}
