//! `[hosts]`: named machines, and the MAC address that their IP addresses belong to.

use super::address;
use super::link;
use super::raw::{Reader, Value};
use super::section::Section;
use crate::policy::{
    Action, AddrMatch, AddrRange, Clause, Direction, MacMatch, Origin, Rule, Severity, Term,
};

/// The rule of pinned addresses that another machine uses.
pub const SPOOFED_MAC: &str = "spoofed-mac";

/// A named machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// Its addresses; may be none.
    pub ips: Vec<AddrRange>,
    /// Its MAC address: where there are addresses too, they are pinned to it.
    pub mac: Option<[u8; 6]>,
}

/// Reads `[hosts]`.
pub(super) fn hosts(reader: &mut Reader, section: Option<Section<'_>>) -> Vec<Host> {
    let mut hosts = Vec::new();
    for (name, value) in section
        .map(|mut section| section.rest())
        .unwrap_or_default()
    {
        hosts.extend(host(reader, value, name.get_ref()));
    }
    hosts
}

fn host(reader: &mut Reader, value: Value<'_>, name: &str) -> Option<Host> {
    let title = format!("the host `{name}`");
    let mut section = reader.section(value, &title)?;
    let span = section.span.clone();
    let (ip, mac) = (section.take("ip"), section.take("mac"));
    section.finish(reader);
    if ip.is_none() && mac.is_none() {
        let help = "write { ip = \"10.77.0.5\", mac = \"52:54:00:12:34:56\" } to pin the one to the other, or one of them for the name alone";
        reader.error(span, format!("{title} needs `ip` or `mac`"), "here", help);
        return None;
    }
    let mut host = Host {
        name: name.to_owned(),
        ips: Vec::new(),
        mac: None,
    };
    if let Some(value) = mac {
        let text = reader.string(&value, "mac")?;
        let mac = link::mac(&text).map_err(|(message, help)| {
            reader.error(value.span(), message, "here", help);
        });
        host.mac = Some(mac.ok()?);
    }
    if let Some(value) = ip {
        for item in reader.list(&value, "ip")? {
            let text = reader.string(&item, "ip")?;
            match address::range(&text) {
                Ok(range) => host.ips.push(range),
                Err((message, help)) => reader.error(item.span(), message, "here", help),
            }
        }
    }
    Some(host)
}

/// A clause for each host that is pinned: what says it is that host and comes from another MAC address.
pub(super) fn pins(hosts: &[Host]) -> Vec<Clause> {
    let pin = |host: &Host| {
        let (mac, ips) = (host.mac?, host.ips.iter());
        let any_of: Vec<_> = ips.copied().map(Term::Range).collect();
        (!any_of.is_empty()).then(|| Clause {
            src: AddrMatch {
                any_of,
                none_of: vec![],
            },
            src_mac: MacMatch {
                any_of: vec![],
                none_of: vec![mac],
            },
            ..Clause::any(Direction::Out)
        })
    };
    hosts.iter().filter_map(pin).collect()
}

/// The rule, before the config changes it.
pub(super) fn rule(clauses: Vec<Clause>) -> Rule {
    Rule {
        alert: Some(Severity::High),
        wire_only: true,
        ..Rule::new(SPOOFED_MAC, Action::Drop, clauses, Origin::Builtin)
    }
}
