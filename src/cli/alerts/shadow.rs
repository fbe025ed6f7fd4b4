//! `portcullis shadow`: what would have been blocked, by host and rule, read from the alert file.

use super::files::Files;
use super::select::time;
use super::table::{cut, safe, shown, to};
use super::{Which, tell_unread};
use crate::cli::{cannot, print_json};
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::process::ExitCode;
use unicode_width::UnicodeWidthStr;

/// Pairs of host and rule that are told apart.
const MOST: usize = 100_000;
/// The longest that a column grows.
const WIDEST: usize = 40;

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(in crate::cli) struct Shadow {
    #[command(flatten)]
    which: Which,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const HELP: &str = "A rule with `shadow = true`, and every rule under `[policy] shadow = true`, is judged and not enforced: its frames pass, and are told of as alerts. This adds them up: which rule would have stopped which machine, how often, and on the way to where. Rules that would have stopped nobody are not here; `portcullis status` has the hits of all.

Examples:
  portcullis shadow                     before `shadow = false`: who would be hit
  portcullis shadow --since 7days --rule smtp
  portcullis shadow --json | jq '.rules[] | {rule, frames}'";

/// One rule that would have stopped something.
#[derive(Debug, Default, Serialize)]
struct Rule {
    rule: String,
    frames: u64,
    hosts: Vec<Host>,
}

/// What it would have stopped of one host.
#[derive(Clone, Debug, Default, Serialize)]
struct Host {
    host: String,
    name: Option<String>,
    /// `drop` or `reject`.
    verdict: String,
    frames: u64,
    incidents: u64,
    first: Option<String>,
    last: Option<String>,
    /// Where the last went.
    to: String,
    /// What its payload showed.
    shown: Option<String>,
}

/// Adds lines up. The lines of one incident count on: its last has them all.
#[derive(Default)]
struct Sums {
    pairs: BTreeMap<(String, String), Host>,
    incidents: HashMap<String, ((String, String), u64)>,
    left_out: bool,
}

impl Sums {
    fn add(&mut self, line: &Value) {
        let alert = &line["alert"];
        if alert["shadow"] != true {
            return;
        }
        let text = |value: &Value| value.as_str().map(safe);
        let (Some(rule), Some(host)) = (text(&alert["signature"]), text(&alert["host"])) else {
            return;
        };
        let pair = (rule, host);
        if !self.pairs.contains_key(&pair) && self.pairs.len() >= MOST {
            self.left_out = true;
            return;
        }
        let entry = self.pairs.entry(pair.clone()).or_default();
        entry.host.clone_from(&pair.1);
        entry.name = text(&alert["host_name"]).or(entry.name.take());
        entry.verdict = text(&alert["verdict"]).unwrap_or_default();
        entry.to = to(line);
        entry.shown = shown(line).or(entry.shown.take());
        let first = text(&alert["first_seen"]);
        if entry.first.is_none() || first < entry.first {
            entry.first = first;
        }
        let last = text(&alert["last_seen"]);
        entry.last = last.max(entry.last.take());
        let packets = alert["packets"].as_u64().unwrap_or(0);
        let incident = alert["incident"].as_str().unwrap_or_default().to_owned();
        match self.incidents.insert(incident, (pair, packets)) {
            Some((_, before)) => entry.frames += packets.saturating_sub(before),
            None => {
                entry.incidents += 1;
                entry.frames += packets;
            }
        }
    }

    /// By rule, the one with the most frames first, and so its hosts.
    fn rules(self) -> Vec<Rule> {
        let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
        for ((rule, _), host) in self.pairs {
            let entry = rules.entry(rule.clone()).or_default();
            entry.rule = rule;
            entry.frames += host.frames;
            entry.hosts.push(host);
        }
        let mut rules: Vec<Rule> = rules.into_values().collect();
        rules.sort_by_key(|rule| std::cmp::Reverse(rule.frames));
        for rule in &mut rules {
            rule.hosts
                .sort_by_key(|host| std::cmp::Reverse(host.frames));
        }
        rules
    }
}

impl Shadow {
    pub(in crate::cli) fn run(self) -> ExitCode {
        let path = match self.which.path() {
            Ok(path) => path,
            Err(code) => return code,
        };
        match self.sums(&Files::new(path.clone())) {
            Err(e) => cannot(e),
            Ok(sums) => {
                let left_out = sums.left_out;
                let rules = sums.rules();
                if left_out {
                    eprintln!(
                        "portcullis: note: more than {MOST} pairs of host and rule; --since, --host and --rule make them fewer"
                    );
                }
                match self.json {
                    true => print_json(&serde_json::json!({ "file": path, "rules": rules })),
                    false => {
                        print!("{}", table(&rules));
                        if rules.is_empty() {
                            eprintln!("portcullis: nothing in {} was in shadow", path.display());
                        }
                        ExitCode::SUCCESS
                    }
                }
            }
        }
    }

    fn sums(&self, files: &Files) -> io::Result<Sums> {
        let (since, select) = self.which.select();
        let (mut sums, mut unread) = (Sums::default(), 0);
        files.read(since, false, |line| match select.takes(line) {
            Ok(Some(value)) => sums.add(&value),
            Ok(None) => {}
            Err(()) => unread += 1,
        })?;
        tell_unread(unread);
        Ok(sums)
    }
}

/// A block a rule, a line a host.
fn table(rules: &[Rule]) -> String {
    let mut out = String::new();
    let named = |host: &Host| match &host.name {
        Some(name) => cut(&format!("{name} ({})", host.host), WIDEST),
        None => cut(&host.host, WIDEST),
    };
    let hosts = rules.iter().flat_map(|rule| &rule.hosts);
    let width = hosts.map(|host| named(host).width()).max().unwrap_or(0);
    for rule in rules {
        let n = rule.hosts.len();
        let of = if n == 1 { "host" } else { "hosts" };
        out += &format!(
            "{}: {} frames of {n} {of} would have been stopped\n",
            rule.rule, rule.frames
        );
        for host in &rule.hosts {
            let name = named(host);
            let gap = " ".repeat(width - name.width());
            let last = host.last.as_deref().and_then(short).unwrap_or_default();
            out += &format!(
                "    {name}{gap}  {:>10} frames  {:<6}  last {last}  to {}\n",
                host.frames, host.verdict, host.to
            );
            if let Some(shown) = &host.shown {
                out += &format!("        {}\n", cut(shown, 100));
            }
        }
    }
    out
}

/// To the second.
fn short(stamp: &str) -> Option<String> {
    let at = time(&serde_json::json!({ "timestamp": stamp }))?;
    let text = humantime::format_rfc3339_seconds(at).to_string();
    Some(text.trim_end_matches('Z').replace('T', " "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(incident: &str, host: &str, rule: &str, packets: u64, shadow: bool) -> Value {
        let stamp = format!("2026-01-01T00:00:{packets:02}.000000+0000");
        serde_json::json!({
            "timestamp": stamp, "direction": "out", "dest_ip": "192.0.2.1", "dest_port": 25,
            "alert": {
                "signature": rule, "host": host, "verdict": "drop", "incident": incident, "packets": packets,
                "shadow": shadow, "first_seen": "2026-01-01T00:00:00.000000+0000", "last_seen": stamp,
            },
        })
    }

    #[test]
    fn the_lines_of_an_incident_count_once_and_what_was_enforced_not_at_all() {
        let mut sums = Sums::default();
        for (incident, host, rule, packets, shadow) in [
            ("1", "10.0.0.1", "smtp", 1, true),
            ("2", "10.0.0.2", "smtp", 3, true),
            ("1", "10.0.0.1", "smtp", 40, true),
            ("3", "10.0.0.1", "smtp", 2, true),
            ("4", "10.0.0.1", "tftp", 9, false),
            ("5", "10.0.0.3", "irc", 7, true),
        ] {
            sums.add(&line(incident, host, rule, packets, shadow));
        }
        let rules = sums.rules();
        let of = |rule: &Rule| (rule.rule.clone(), rule.frames, rule.hosts.len());
        let all: Vec<_> = rules.iter().map(of).collect();
        assert_eq!(all, [("smtp".to_owned(), 45, 2), ("irc".to_owned(), 7, 1)]);
        let host = &rules[0].hosts[0];
        assert_eq!((host.frames, host.incidents), (42, 2));
        assert_eq!(
            host.last.as_deref(),
            Some("2026-01-01T00:00:40.000000+0000")
        );
        let text = table(&rules);
        assert!(
            text.starts_with("smtp: 45 frames of 2 hosts would have been stopped\n"),
            "{text}"
        );
        assert!(
            text.contains("last 2026-01-01 00:00:40  to 192.0.2.1:25\n"),
            "{text}"
        );
    }
}
