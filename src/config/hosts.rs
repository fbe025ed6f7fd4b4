//! `[hosts]`: named machines, and the MAC address that their IP addresses belong to.

use super::address;
use super::link;
use super::raw::{Reader, Value};
use super::section::Section;
use crate::policy::{Action, AddrMatch, Clause, Direction, MacMatch, Origin, Rule, Severity, Term};

/// The rule of pinned addresses that another machine uses.
pub const SPOOFED_MAC: &str = "spoofed-mac";

/// Reads `[hosts]`: a clause for each, which matches what says it is that host and comes from another MAC address.
pub(super) fn hosts(reader: &mut Reader, section: Option<Section<'_>>) -> Vec<Clause> {
    let Some(mut section) = section else {
        return Vec::new();
    };
    let mut clauses = Vec::new();
    for (name, value) in section.rest() {
        clauses.extend(host(
            reader,
            value,
            &format!("the host `{}`", name.get_ref()),
        ));
    }
    clauses
}

fn host(reader: &mut Reader, value: Value<'_>, title: &str) -> Option<Clause> {
    let mut section = reader.section(value, title)?;
    let span = section.span.clone();
    let (ip, mac) = (section.take("ip"), section.take("mac"));
    section.finish(reader);
    let (Some(ip), Some(mac)) = (ip, mac) else {
        let help = "write { ip = \"10.77.0.5\", mac = \"52:54:00:12:34:56\" }; `ip` may be a list";
        reader.error(span, format!("{title} needs `ip` and `mac`"), "here", help);
        return None;
    };
    let text = reader.string(&mac, "mac")?;
    let mac = link::mac(&text).map_err(|(message, help)| {
        reader.error(mac.span(), message, "here", help);
    });
    let mut any_of = Vec::new();
    for item in reader.list(&ip, "ip")? {
        let text = reader.string(&item, "ip")?;
        match address::range(&text) {
            Ok(range) => any_of.push(Term::Range(range)),
            Err((message, help)) => reader.error(item.span(), message, "here", help),
        }
    }
    Some(Clause {
        src: AddrMatch {
            any_of,
            none_of: vec![],
        },
        src_mac: MacMatch {
            any_of: vec![],
            none_of: vec![mac.ok()?],
        },
        ..Clause::any(Direction::Out)
    })
}

/// The rule, before the config changes it.
pub(super) fn rule(clauses: Vec<Clause>) -> Rule {
    Rule {
        alert: Some(Severity::High),
        wire_only: true,
        ..Rule::new(SPOOFED_MAC, Action::Drop, clauses, Origin::Builtin)
    }
}
