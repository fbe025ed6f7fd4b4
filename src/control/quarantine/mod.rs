//! Hosts in quarantine: whom nothing passes from or to, until their time is over.
//!
//! A host that a command names is stopped both ways. One that a rule puts here is known by the frame that alerted, whose address may be a lie: it is stopped by that address and
//! that MAC address together, so that who forges the address of another stops himself.

mod held;

pub use held::Held;
use held::mac_text;

use super::keep;
use super::keeper::Keeper;
use crate::app::safe_text;
use crate::config::hosts::Host;
use crate::config::quarantine::{LONGEST, Protected, Settings};
use crate::config::{parse_mac, set_entry};
use crate::flow::Flows;
use crate::policy::{AddrRange, Origin, Policy, QUARANTINE_RULE, Rule};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Who has put a host here that no rule has.
const COMMAND: &str = "command";
/// Hosts that may be here, whatever the share: each is a clause of a rule.
const MOST: usize = 1024;
/// The longest reason, bytes.
const LONGEST_WHY: usize = 200;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "kebab-case")]
pub enum Ask {
    /// Who is here.
    List,
    /// Puts a host here, or gives it another time.
    Put {
        /// An address, a MAC address, or a name of `[hosts]`.
        host: String,
        /// Seconds; `None` for the time of the config.
        seconds: Option<u64>,
        /// For whoever reads the list.
        why: Option<String>,
    },
    /// Lets a host go.
    Release {
        /// As it was put here, or its name.
        host: String,
    },
    /// A rule has alerted on this host.
    ByRule {
        /// The rule.
        rule: String,
        /// The host's address; `None` where it is a lie or there is none.
        ip: Option<IpAddr>,
        /// Its MAC address.
        mac: [u8; 6],
        /// How long the rule says.
        time: Duration,
    },
}

/// A host as a person means it: its name in the config, its addresses, its MAC address.
type Named = (Option<String>, Vec<AddrRange>, Option<[u8; 6]>);

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    hosts: Vec<Held>,
}

/// What everybody may see.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<Mutex<Vec<Held>>>);

impl Hosts {
    /// As they are now.
    pub fn list(&self) -> Vec<Held> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The rule that stops them; it matches nothing before there are any.
pub fn rule() -> Rule {
    Rule::new(
        QUARANTINE_RULE,
        crate::policy::Action::Drop,
        Vec::new(),
        Origin::Builtin,
    )
}

/// Puts the rule before all others of a policy that a gate runs by.
pub fn with_rule(mut policy: Policy) -> Policy {
    policy.rules.insert(0, rule());
    policy
}

/// Entries of one MAC address that rules may make: a machine has a few addresses, and one that makes them up leaves room for others.
const MOST_OF_A_MAC: usize = 4;
/// How long the number of hosts that have flows is taken for what it was: counting them walks the whole table.
const COUNTED: Duration = Duration::from_secs(1);
/// How often it is said that a rule could not have its will.
const SAID: Duration = Duration::from_secs(10);

/// The hosts, and the file that they are kept in.
pub struct Quarantine {
    path: PathBuf,
    settings: Settings,
    names: Vec<Host>,
    held: Vec<Held>,
    shown: Hosts,
    flows: Arc<Flows>,
    /// How many hosts had flows, and when that was counted.
    seen: Option<(usize, Instant)>,
    /// When it was last said that a rule could not have its will.
    said: Option<Instant>,
}

impl Quarantine {
    /// Empty; `state` is the folder of what is kept.
    pub fn new(
        state: &Path,
        settings: Settings,
        names: Vec<Host>,
        flows: Arc<Flows>,
    ) -> Quarantine {
        Quarantine {
            path: state.join("quarantine.json"),
            settings,
            names,
            held: Vec::new(),
            shown: Hosts::default(),
            flows,
            seen: None,
            said: None,
        }
    }

    /// What everybody may see.
    pub fn shown(&self) -> Hosts {
        self.shown.clone()
    }

    /// Another config says who is protected, and what hosts are called.
    pub fn restate(&mut self, settings: Settings, names: Vec<Host>) {
        (self.settings, self.names) = (settings, names);
    }

    /// Puts those into force that were kept and whose time is not over at `now`, seconds since the Unix epoch. What is wrong with the file is told, a line each.
    pub fn restore(&mut self, keeper: &mut Keeper, now: u64) -> Vec<String> {
        let path = self.path.display().to_string();
        let kept = match keep::kept(&self.path, |kept: &Kept| kept.version) {
            Ok(kept) => kept,
            Err(why) => {
                let aside = self.path.with_extension("json.damaged");
                let moved = std::fs::rename(&self.path, &aside);
                let then = moved.map_or_else(
                    |e| format!("and it cannot be put aside: {e}"),
                    |()| format!("it is put aside as {}", aside.display()),
                );
                return vec![format!(
                    "{path}: {}; nobody is in quarantine, {then}",
                    safe_text(why.as_bytes(), 300)
                )];
            }
        };
        let whole =
            |held: &Held| !held.clauses().is_empty() && held.ranges().len() == held.ips.len();
        let all = kept.hosts.len();
        let valid: Vec<Held> = kept.hosts.into_iter().filter(whole).take(MOST).collect();
        let mut told = Vec::new();
        if valid.len() < all {
            told.push(format!("{path}: {} of its hosts are ignored: they have no address that can be read, or are more than {MOST}", all - valid.len()));
        }
        let live: Vec<Held> = valid.into_iter().filter(|held| held.until > now).collect();
        if !live.is_empty()
            && let Err(e) = self.take(keeper, live, false)
        {
            told.push(format!("{path}: nobody is in quarantine: {e}"));
        }
        told
    }

    /// Seconds until the next is let go; `None` where nobody is here.
    pub fn next_end(&self, now: u64) -> Option<u64> {
        let ends = self.held.iter().map(|held| held.until.saturating_sub(now));
        ends.min()
    }

    /// Lets those go whose time is over, a line each.
    pub fn expire(&mut self, keeper: &mut Keeper, now: u64) -> Vec<String> {
        let (over, stay): (Vec<Held>, Vec<Held>) = self
            .held
            .iter()
            .cloned()
            .partition(|held| held.until <= now);
        if over.is_empty() {
            return Vec::new();
        }
        match self.take(keeper, stay, true) {
            Ok(()) => over
                .iter()
                .map(|held| {
                    format!(
                        "{} is not in quarantine any more: its time is over",
                        held.label()
                    )
                })
                .collect(),
            Err(e) => {
                // Not asked for again at once.
                for held in self.held.iter_mut().filter(|held| held.until <= now) {
                    held.until = now + 60;
                }
                vec![format!("hosts stay in quarantine beyond their time: {e}")]
            }
        }
    }

    /// Does what was asked; `error` where it was not done.
    pub fn answer(&mut self, keeper: &mut Keeper, ask: &Ask, now: u64) -> Value {
        let outcome = match ask {
            Ask::List => Ok(
                json!({ "hosts": self.held, "kept_in": self.path, "share": self.settings.share, "room": self.room() }),
            ),
            Ask::Put { host, seconds, why } => {
                self.put(keeper, host, *seconds, why.as_deref(), now)
            }
            Ask::Release { host } => self.release(keeper, host),
            Ask::ByRule {
                rule,
                ip,
                mac,
                time,
            } => self.by_rule(keeper, rule, *ip, *mac, *time, now),
        };
        outcome.unwrap_or_else(|error| json!({ "error": error }))
    }

    fn put(
        &mut self,
        keeper: &mut Keeper,
        host: &str,
        seconds: Option<u64>,
        why: Option<&str>,
        now: u64,
    ) -> Result<Value, String> {
        let seconds = seconds.unwrap_or(self.settings.time.as_secs());
        if !(1..=LONGEST.as_secs()).contains(&seconds) {
            return Err("a time in quarantine is from a second to a year".into());
        }
        let (name, ips, mac) = self.who(host)?;
        let held = Held {
            name,
            ips: ips.iter().map(ToString::to_string).collect(),
            mac: mac.map(mac_text),
            pair: false,
            since: now,
            until: now + seconds,
            by: COMMAND.to_owned(),
            why: why.map(|why| safe_text(why.as_bytes(), LONGEST_WHY)),
        };
        self.add(keeper, held, &ips, mac)
    }

    fn by_rule(
        &mut self,
        keeper: &mut Keeper,
        rule: &str,
        ip: Option<IpAddr>,
        mac: [u8; 6],
        time: Duration,
        now: u64,
    ) -> Result<Value, String> {
        let range = ip.and_then(|ip| AddrRange::between(ip, ip));
        let named = self.names.iter().find(|host| {
            host.mac == Some(mac) || range.is_some_and(|range| host.ips.contains(&range))
        });
        if range.is_none() && named.is_none() {
            return Err("its address is a lie, and its MAC address, which may be that of a router for many, is not in [hosts]".into());
        }
        let held = Held {
            name: named.map(|host| host.name.clone()),
            ips: range.iter().map(ToString::to_string).collect(),
            mac: Some(mac_text(mac)),
            pair: range.is_some(),
            since: now,
            until: now + time.as_secs().clamp(1, LONGEST.as_secs()),
            by: rule.to_owned(),
            why: None,
        };
        // One that is here already by the same rule has its time; each alert would else compile the policy anew.
        if self
            .held
            .iter()
            .any(|here| here.is(&held) && here.until > now)
        {
            return Ok(json!({ "already": true }));
        }
        self.add(keeper, held, range.as_slice(), Some(mac))
    }

    fn add(
        &mut self,
        keeper: &mut Keeper,
        held: Held,
        ips: &[AddrRange],
        mac: Option<[u8; 6]>,
    ) -> Result<Value, String> {
        if let Some(by) = self.protected(keeper.policy(), ips, mac) {
            return Err(format!(
                "{} is protected by {by} of [quarantine] protect",
                held.label()
            ));
        }
        let mut all: Vec<Held> = self
            .held
            .iter()
            .filter(|here| !here.is(&held))
            .cloned()
            .collect();
        // Another time for who is here already takes no room.
        if all.len() == self.held.len() {
            self.has_room(&held)?;
        }
        all.push(held.clone());
        self.take(keeper, all, true)?;
        let shadow = keeper.in_force().load().is_shadow();
        Ok(json!({
            "held": held,
            "generation": keeper.in_force().load().number(),
            "kept_in": self.path,
            "shadow": shadow,
        }))
    }

    /// Whether one more may be here. Rules have half of the room, so that a host that has many cut off by one leaves some for commands.
    fn has_room(&mut self, held: &Held) -> Result<(), String> {
        let room = self.room();
        let share = self.settings.share;
        if held.by == COMMAND {
            return match self.held.len() < room {
                true => Ok(()),
                false => Err(format!(
                    "{} of at most {room} hosts are in quarantine ([quarantine] share = {share} of a hundred that are seen); let one go: portcullis quarantine --release HOST",
                    self.held.len()
                )),
            };
        }
        let by_rules = self.held.iter().filter(|here| here.by != COMMAND);
        let of_mac = by_rules.clone().filter(|here| here.mac == held.mac).count();
        if by_rules.count() >= room.div_ceil(2) || self.held.len() >= room {
            return Err(format!(
                "rules have put as many there as they may, half of {room} ([quarantine] share = {share} of a hundred hosts that are seen)"
            ));
        }
        match of_mac < MOST_OF_A_MAC {
            true => Ok(()),
            false => Err(format!(
                "{of_mac} addresses of this machine are there already"
            )),
        }
    }

    fn release(&mut self, keeper: &mut Keeper, host: &str) -> Result<Value, String> {
        let wanted = self.who(host).ok();
        let text = host.to_lowercase();
        let is = |held: &Held| {
            let by_name = held
                .name
                .as_deref()
                .is_some_and(|name| name.eq_ignore_ascii_case(host));
            let by_text = held.ips.contains(&text) || held.mac.as_deref() == Some(&*text);
            let by_who = wanted.as_ref().is_some_and(|(_, ips, mac)| {
                ips.iter().any(|ip| held.ips.contains(&ip.to_string()))
                    || mac.is_some_and(|mac| held.mac == Some(mac_text(mac)))
            });
            by_name || by_text || by_who
        };
        let (gone, stay): (Vec<Held>, Vec<Held>) = self.held.iter().cloned().partition(is);
        if gone.is_empty() {
            return Err(format!(
                "{host} is not in quarantine; `portcullis quarantine` lists who is"
            ));
        }
        self.take(keeper, stay, true)?;
        Ok(
            json!({ "released": gone, "generation": keeper.in_force().load().number(), "kept_in": self.path }),
        )
    }

    /// Puts another list into force, and keeps it where `write` says so. A disk that is full is no reason to let somebody go on: it is in force, and it is said that a restart ends it.
    fn take(&mut self, keeper: &mut Keeper, all: Vec<Held>, write: bool) -> Result<(), String> {
        let clauses = all.iter().flat_map(Held::clauses).collect();
        let taken = keeper.quarantine(clauses);
        taken.map_err(|refused| refused.to_string())?;
        self.held = all;
        *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner) = self.held.clone();
        if write {
            let kept = Kept {
                version: 1,
                hosts: self.held.clone(),
            };
            let mut bytes = serde_json::to_vec_pretty(&kept).unwrap_or_default();
            bytes.push(b'\n');
            if let Err(e) = keep::write(&self.path, &bytes) {
                eprintln!(
                    "portcullis: warning: {}: {e}; who is in quarantine is not kept across a restart",
                    self.path.display()
                );
            }
        }
        Ok(())
    }

    /// The host that a person names.
    fn who(&self, text: &str) -> Result<Named, String> {
        let named = |host: &Host| Some(host.name.clone());
        if let Some(host) = self
            .names
            .iter()
            .find(|host| host.name.eq_ignore_ascii_case(text))
        {
            return Ok((named(host), host.ips.clone(), host.mac));
        }
        if let Some(mac) = parse_mac(text) {
            let host = self.names.iter().find(|host| host.mac == Some(mac));
            let ips = host.map(|host| host.ips.clone()).unwrap_or_default();
            return Ok((host.and_then(named), ips, Some(mac)));
        }
        let range = set_entry(text)
            .map_err(|why| format!("{why}; a MAC address or a name of [hosts] will do too"))?;
        let single = range.first == range.last;
        if !single {
            return Err(format!(
                "{text} is more than one host; a rule or a set is for those"
            ));
        }
        // What the config knows of that machine goes with it.
        match self.names.iter().find(|host| host.ips.contains(&range)) {
            Some(host) => Ok((named(host), host.ips.clone(), host.mac)),
            None => Ok((None, vec![range], None)),
        }
    }

    /// What protects a host, if anything does.
    fn protected(
        &self,
        policy: &Policy,
        ips: &[AddrRange],
        mac: Option<[u8; 6]>,
    ) -> Option<String> {
        // Whoever the config says is the same machine is meant too.
        let same = |host: &&Host| {
            (mac.is_some() && host.mac == mac) || host.ips.iter().any(|ip| ips.contains(ip))
        };
        let known: Vec<&Host> = self.names.iter().filter(same).collect();
        let more = known.iter().flat_map(|host| host.ips.iter().copied());
        let ips: Vec<AddrRange> = ips.iter().copied().chain(more).collect();
        let macs: Vec<[u8; 6]> = known
            .iter()
            .filter_map(|host| host.mac)
            .chain(mac)
            .collect();
        let overlap = |range: &AddrRange| {
            ips.iter().any(|ip| {
                ip.family == range.family && ip.first <= range.last && range.first <= ip.last
            })
        };
        self.settings
            .protect
            .iter()
            .find_map(|protected| match protected {
                Protected::Range(range) => overlap(range).then(|| range.to_string()),
                Protected::Mac(own) => macs.contains(own).then(|| mac_text(*own)),
                Protected::Set(name) => {
                    let held = policy
                        .set(name)
                        .is_some_and(|set| set.ranges.iter().any(overlap));
                    held.then(|| format!("@{name}"))
                }
            })
    }

    /// How many hosts may be here: the share of those that have flows now.
    fn room(&mut self) -> usize {
        let fresh = self.seen.filter(|(_, at)| at.elapsed() < COUNTED);
        let seen = fresh.map(|(seen, _)| seen).unwrap_or_else(|| {
            let mut hosts = HashSet::new();
            self.flows.each(|flow, _| {
                hosts.insert(flow.inside);
            });
            hosts.len()
        });
        if fresh.is_none() {
            self.seen = Some((seen, Instant::now()));
        }
        let of = seen.max(self.held.len()) * self.settings.share as usize;
        of.div_ceil(100).clamp(1, MOST)
    }
}

impl Quarantine {
    /// Says on standard error what became of it; of rules that could not have their will not more often than [`SAID`].
    pub fn log(&mut self, answer: &Value, ask: &Ask) {
        let label = |held: &Value| {
            let held = serde_json::from_value(held.clone());
            held.map_or_else(|_| String::new(), |held: Held| held.label())
        };
        if let (Some(error), Ask::ByRule { rule, mac, .. }) = (answer["error"].as_str(), ask)
            && self.said.is_none_or(|said| said.elapsed() >= SAID)
        {
            self.said = Some(Instant::now());
            eprintln!(
                "portcullis: quarantine: the rule `{rule}` could not put {} there: {error}",
                mac_text(*mac)
            );
        }
        if let held @ Value::Object(_) = &answer["held"] {
            let until = held["until"].as_u64().unwrap_or(0);
            let until = std::time::UNIX_EPOCH + Duration::from_secs(until);
            let until = humantime::format_rfc3339_seconds(until);
            eprintln!(
                "portcullis: quarantine: {} until {until}, by {}",
                label(held),
                held["by"].as_str().unwrap_or("?")
            );
        }
        for held in answer["released"].as_array().into_iter().flatten() {
            eprintln!("portcullis: quarantine: {} was let go", label(held));
        }
    }
}
