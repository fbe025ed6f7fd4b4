//! What another config would change: which rules and sets, and, of what is going on now, which flows and hosts it would hit.

use super::keeper::{Candidate, Keeper};
use crate::flow::{Control, FlowKey, Flows};
use crate::frame::Net;
use crate::policy::{AddrRange, Generation, Key, Policy, Rule, RuleId, Side, UNTAGGED};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Hosts that are listed, those with the most flows first.
const HOSTS: usize = 200;
/// Destinations of a host that are listed.
const TO: usize = 5;

/// What would change.
#[derive(Debug, Default, Serialize)]
pub struct Diff {
    /// By rule, in the order of evaluation: first those that go.
    pub rules: Vec<RuleChange>,
    /// Sets.
    pub sets: Vec<SetChange>,
    /// Flows that the table held.
    pub flows: usize,
    /// What passes now and would not.
    pub blocked: Hits,
    /// What does not pass now, as far as it is remembered, and would.
    pub allowed: Hits,
}

/// A rule that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct RuleChange {
    /// Its name.
    pub rule: String,
    /// `removed`, `added`, `changed` or `moved`.
    pub what: &'static str,
    /// Its place from 1, and what it says, now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<(usize, String)>,
    /// The same afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<(usize, String)>,
}

/// A set that differs.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct SetChange {
    /// Its name.
    pub set: String,
    /// Addresses, prefixes and ranges now and afterwards; `None` where there is no such set.
    pub before: Option<usize>,
    /// See `before`.
    pub after: Option<usize>,
    /// Entries that come.
    pub added: usize,
    /// Entries that go.
    pub removed: usize,
}

/// Flows and hosts that another policy would hit.
#[derive(Debug, Default, Serialize)]
pub struct Hits {
    /// Flows, or incidents of hosts that were stopped.
    pub count: usize,
    /// All hosts of these.
    pub hosts: usize,
    /// Those with the most.
    pub by_host: Vec<HostHits>,
}

/// One inside host.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct HostHits {
    /// Its address.
    pub host: IpAddr,
    /// How many of its flows.
    pub count: usize,
    /// By which rules then, and how many of them.
    pub rules: BTreeMap<String, usize>,
    /// Where to, some of them.
    pub to: Vec<String>,
}

/// Something that was stopped and is remembered.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// The packet.
    pub key: Key,
}

/// Collects hits.
#[derive(Default)]
struct Collect {
    count: usize,
    hosts: HashMap<IpAddr, HostHits>,
}

impl Collect {
    fn hit(&mut self, key: &Key, rule: &str) {
        let ip = |bits: u128| match key.net {
            Net::V6 => IpAddr::V6(Ipv6Addr::from(bits)),
            _ => IpAddr::V4(Ipv4Addr::from(bits as u32)),
        };
        let (inside, outside) = match key.side {
            Side::Lan => (ip(key.src), ip(key.dst)),
            Side::Uplink => (ip(key.dst), ip(key.src)),
        };
        self.count += 1;
        let host = self.hosts.entry(inside).or_insert_with(|| HostHits {
            host: inside,
            count: 0,
            rules: BTreeMap::new(),
            to: Vec::new(),
        });
        host.count += 1;
        *host.rules.entry(rule.to_owned()).or_default() += 1;
        let port = match key.side {
            Side::Lan => key.dport,
            Side::Uplink => key.sport,
        };
        let proto = crate::policy::rule::proto_name(key.proto);
        let to = match key.proto {
            6 | 17 | 33 | 132 | 136 => {
                format!("{proto} {}", std::net::SocketAddr::new(outside, port))
            }
            _ => format!("{proto} {outside}"),
        };
        if host.to.len() < TO && !host.to.contains(&to) {
            host.to.push(to);
        }
    }

    fn done(self) -> Hits {
        let mut by_host: Vec<HostHits> = self.hosts.into_values().collect();
        let hosts = by_host.len();
        by_host.sort_by(|a, b| b.count.cmp(&a.count).then(a.host.cmp(&b.host)));
        by_host.truncate(HOSTS);
        Hits {
            count: self.count,
            hosts,
            by_host,
        }
    }
}

/// What `candidate` would change of what the keeper has in force, to be found out on a thread of its own: it asks about every flow. `stopped` is what was not let through lately.
pub fn diff(
    keeper: &Keeper,
    candidate: Candidate,
    flows: Arc<Flows>,
    stopped: Vec<Stopped>,
) -> impl FnOnce() -> Diff + Send + 'static {
    let rules = rules(keeper.policy(), candidate.policy());
    let sets = sets(keeper.policy(), candidate.policy());
    let before = keeper.in_force().load_full();
    move || Diff {
        rules,
        sets,
        ..hits(&before, candidate.generation(), &flows, &stopped)
    }
}

fn hits(before: &Generation, after: &Generation, flows: &Flows, stopped: &[Stopped]) -> Diff {
    let (mut blocked, mut allowed, mut count) = (Collect::default(), Collect::default(), 0);
    flows.each(|flow, control| {
        count += 1;
        let key = opening(flow, &control);
        let inside = flow.tunnel != 0;
        let passes = !control.blocked && decide(before, &key, inside).0;
        let (would, rule) = decide(after, &key, inside);
        match (passes, would) {
            (true, false) => blocked.hit(&key, rule),
            (false, true) => allowed.hit(&key, rule),
            _ => {}
        }
    });
    for Stopped { key } in stopped {
        let (passes, _) = decide(before, key, false);
        let (would, rule) = decide(after, key, false);
        if !passes && would {
            allowed.hit(key, rule);
        }
    }
    Diff {
        flows: count,
        blocked: blocked.done(),
        allowed: allowed.done(),
        ..Diff::default()
    }
}

/// Whether a packet that opens a flow passes, and by which rule.
fn decide<'a>(generation: &'a Generation, key: &Key, inside: bool) -> (bool, &'a str) {
    let rule = match inside {
        true => generation.classify_inside(key),
        false => {
            let mut deciding = [RuleId(0)];
            generation.classify_enforced(std::slice::from_ref(key), &mut deciding);
            deciding[0]
        }
    };
    let name = generation.rules().get(rule.index());
    let name = name.map_or("", |rule| rule.name.as_str());
    (generation.is_shadow() || generation.permits(rule), name)
}

/// The packet that has opened a flow, as far as the table remembers it: without its MAC address, and with the flags of a SYN where it is TCP.
fn opening(flow: &FlowKey, control: &Control) -> Key {
    let (src, dst, sport, dport) = match control.initiator {
        Side::Lan => (
            flow.inside,
            flow.outside,
            flow.inside_port,
            flow.outside_port,
        ),
        Side::Uplink => (
            flow.outside,
            flow.inside,
            flow.outside_port,
            flow.inside_port,
        ),
    };
    // Of a query the ports are the identifier and the type of the request (RFC 792, RFC 4443).
    let (sport, dport) = match flow.proto {
        1 | 58 => (flow.outside_port, 0),
        _ => (sport, dport),
    };
    Key {
        src,
        dst,
        sport,
        dport,
        ethertype: if flow.v6 { 0x86dd } else { 0x0800 },
        vlan: match flow.vlan[0] {
            0 => UNTAGGED,
            id => id,
        },
        proto: flow.proto,
        side: control.initiator,
        tcp_flags: if flow.proto == 6 { 2 } else { 0 },
        net: if flow.v6 { Net::V6 } else { Net::V4 },
        app: control.app,
        ..Key::EMPTY
    }
}

/// What a rule says, in words.
fn words(rule: &Rule, policy: &Policy) -> String {
    let mut out = rule.action.name().to_owned();
    let clauses: Vec<String> = rule
        .clauses
        .iter()
        .map(|clause| clause.describe(&policy.sets))
        .collect();
    let mut also = vec![clauses.join(" or ")];
    if let Some(alert) = rule.alert {
        also.push(format!("alert {}", alert.name()));
    }
    if let Some(limit) = rule.limit {
        also.push(format!(
            "limit {} in {}, burst {}",
            limit.frames,
            humantime::format_duration(limit.per),
            limit.burst
        ));
    }
    if let Some(ttl) = rule.ttl {
        also.push(format!("ttl {}", humantime::format_duration(ttl)));
    }
    if let Some(time) = rule.quarantine {
        also.push(format!("quarantine {}", humantime::format_duration(time)));
    }
    if rule.shadow {
        also.push("in shadow".to_owned());
    }
    for part in also.into_iter().filter(|part| !part.is_empty()) {
        out += if out.contains(' ') { ", " } else { ": " };
        out += &part;
    }
    out
}

fn rules(before: &Policy, after: &Policy) -> Vec<RuleChange> {
    let listed = |policy: &Policy| -> Vec<(String, String)> {
        policy
            .rules
            .iter()
            .map(|rule| (rule.name.clone(), words(rule, policy)))
            .collect()
    };
    let (old, new) = (listed(before), listed(after));
    let place = |all: &[(String, String)]| -> HashMap<String, usize> {
        all.iter()
            .enumerate()
            .map(|(at, (name, _))| (name.clone(), at))
            .collect()
    };
    let (old_at, new_at) = (place(&old), place(&new));
    let mut changes = Vec::new();
    for (at, (name, words)) in old.iter().enumerate() {
        if !new_at.contains_key(name) {
            changes.push(RuleChange {
                rule: name.clone(),
                what: "removed",
                before: Some((at + 1, words.clone())),
                after: None,
            });
        }
    }
    let common: Vec<usize> = new
        .iter()
        .filter_map(|(name, _)| old_at.get(name).copied())
        .collect();
    let stay = longest_rising(&common);
    for (at, (name, words)) in new.iter().enumerate() {
        let after = Some((at + 1, words.clone()));
        let Some(was) = old_at.get(name) else {
            changes.push(RuleChange {
                rule: name.clone(),
                what: "added",
                before: None,
                after,
            });
            continue;
        };
        let before = Some((was + 1, old[*was].1.clone()));
        let what = match (old[*was].1 == *words, stay.contains(was)) {
            (false, _) => "changed",
            (true, false) => "moved",
            (true, true) => continue,
        };
        changes.push(RuleChange {
            rule: name.clone(),
            what,
            before,
            after,
        });
    }
    changes
}

/// Numbers of the longest rising sequence within these: rules that keep their order.
fn longest_rising(numbers: &[usize]) -> HashSet<usize> {
    // By length, the index of the smallest number that ends a sequence of it; and for each number the one before it.
    let (mut ends, mut previous): (Vec<usize>, Vec<Option<usize>>) = (Vec::new(), Vec::new());
    for (at, number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|end| numbers[*end] < *number);
        previous.push(length.checked_sub(1).map(|shorter| ends[shorter]));
        match ends.get_mut(length) {
            Some(end) => *end = at,
            None => ends.push(at),
        }
    }
    let mut at = ends.last().copied();
    std::iter::from_fn(|| {
        let now = at?;
        at = previous[now];
        Some(numbers[now])
    })
    .collect()
}

fn sets(before: &Policy, after: &Policy) -> Vec<SetChange> {
    let names: BTreeSet<&str> = before
        .sets
        .iter()
        .chain(&after.sets)
        .map(|set| set.name.as_str())
        .collect();
    let ranges = |policy: &Policy, name: &str| -> Option<HashSet<AddrRange>> {
        Some(policy.set(name)?.ranges.iter().copied().collect())
    };
    let change = |name: &str| {
        let (old, new) = (ranges(before, name), ranges(after, name));
        let none = HashSet::new();
        let (was, is) = (old.as_ref().unwrap_or(&none), new.as_ref().unwrap_or(&none));
        let (added, removed) = (is.difference(was).count(), was.difference(is).count());
        let differs = added + removed > 0 || old.is_some() != new.is_some();
        differs.then(|| SetChange {
            set: name.to_owned(),
            before: old.as_ref().map(HashSet::len),
            after: new.as_ref().map(HashSet::len),
            added,
            removed,
        })
    };
    names.into_iter().filter_map(change).collect()
}
