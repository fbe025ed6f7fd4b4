//! Addresses as a config writes them.

use super::error::nearest;
use super::raw::{Reader, Value};
use crate::policy::{AddrMatch, AddrRange, Set, Term};
use ipnet::IpNet;
use std::net::IpAddr;

/// What is wrong with an address: the message and the help.
pub(super) type Wrong = (String, String);

/// The longest text that a message repeats, characters.
const MAX_QUOTED: usize = 60;

/// A text as a message repeats it: on one line, and not for ever.
pub(super) fn quoted(text: &str) -> String {
    let mut short: String = text.chars().take(MAX_QUOTED).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    format!("\"{}\"", short.escape_debug())
}

const FORMS: &str =
    "write an address (\"10.0.0.1\"), a prefix (\"10.0.0.0/8\") or a range (\"10.0.0.1-10.0.0.9\")";

/// An address, a prefix or a range `a-b`, IPv4 or IPv6.
pub(super) fn range(text: &str) -> Result<AddrRange, Wrong> {
    if let Some((first, last)) = text.split_once('-') {
        let (first, last) = (host(first.trim())?, host(last.trim())?);
        return AddrRange::between(first, last).ok_or_else(|| {
            let message = format!("{} is not a range", quoted(text));
            (
                message,
                "write the lower address first, and both ends of one family".to_owned(),
            )
        });
    }
    if text.contains('/') {
        prefix(text).map(AddrRange::prefix)
    } else {
        host(text).map(AddrRange::host)
    }
}

/// A prefix; a bare address is a prefix of its full length.
pub(super) fn prefix(text: &str) -> Result<IpNet, Wrong> {
    if !text.contains('/') {
        return host(text).map(IpNet::from);
    }
    let net: IpNet = text.parse().map_err(|_| {
        (
            format!("{} is not a prefix", quoted(text)),
            FORMS.to_owned(),
        )
    })?;
    if net.trunc() != net {
        let message = format!("\"{text}\" has bits set below its prefix length");
        return Err((
            message,
            format!(
                "did you mean \"{}\", or the one address \"{}\"?",
                net.trunc(),
                net.addr()
            ),
        ));
    }
    Ok(net)
}

fn host(text: &str) -> Result<IpAddr, Wrong> {
    text.parse().map_err(|_| {
        (
            format!("{} is not an address", quoted(text)),
            FORMS.to_owned(),
        )
    })
}

/// An address expression: one term or a list of them, each with or without `!`.
pub(super) fn expression(
    reader: &mut Reader,
    value: &Value<'_>,
    key: &str,
    sets: &[Set],
) -> Option<AddrMatch> {
    let mut wanted = AddrMatch::any();
    let mut whole = true;
    for item in reader.list(value, key)? {
        let Some(text) = reader.string(&item, key) else {
            whole = false;
            continue;
        };
        let negated = text.starts_with('!');
        let name = text.strip_prefix('!').unwrap_or(&text).trim();
        match term(name, sets) {
            Ok(term) if negated => wanted.none_of.push(term),
            Ok(term) => wanted.any_of.push(term),
            Err((message, help)) => {
                reader.error(item.span(), message, "here", help);
                whole = false;
            }
        }
    }
    whole.then_some(wanted)
}

fn term(name: &str, sets: &[Set]) -> Result<Term, Wrong> {
    let Some(set) = name.strip_prefix('@') else {
        return range(name).map(Term::Range);
    };
    sets.iter()
        .position(|known| known.name == set)
        .map(Term::Set)
        .ok_or_else(|| {
            let help = match nearest(set, sets.iter().map(|set| set.name.as_str())) {
                Some(near) => format!("did you mean \"@{near}\"?"),
                None => format!("add `{set} = [...]` to [sets]"),
            };
            (format!("there is no set `{set}`"), help)
        })
}
