//! `[lan]` and `[policy]`.

use super::raw::Reader;
use super::section::Section;
use super::{address, number, tunnels};
use crate::policy::{Action, PortSet, Tunnels};
use ipnet::IpNet;
use std::ops::Range;
use toml::de::DeValue;

/// Which built-in rules are on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Profile {
    /// Those of [`baseline`](super::baseline).
    Baseline,
    /// Those, and the ones of [`strict`](super::strict).
    Strict,
    /// None of them.
    None,
}

/// `[policy]`.
pub(super) struct Header {
    pub profile: Profile,
    /// Where the profile is said; the beginning of the text where it is not.
    pub profile_span: Range<usize>,
    pub default: Action,
    pub inner: bool,
    pub shadow: bool,
    /// QUIC may leave.
    pub quic: bool,
    /// Tunnels that are judged by what they carry.
    pub look_into: Tunnels,
    /// TCP ports that may leave; empty for none.
    pub tcp_ports: PortSet,
}

/// Reads `[policy]`.
pub(super) fn policy(reader: &mut Reader, section: Option<Section<'_>>) -> Header {
    let mut header = Header {
        profile: Profile::Baseline,
        profile_span: 0..0,
        default: Action::Allow,
        inner: false,
        shadow: false,
        quic: false,
        look_into: Tunnels::NONE,
        tcp_ports: PortSet(Vec::new()),
    };
    let Some(mut section) = section else {
        return header;
    };
    if let Some(value) = section.take("profile") {
        let words = [
            ("baseline", Profile::Baseline),
            ("strict", Profile::Strict),
            ("none", Profile::None),
        ];
        header.profile_span = value.span();
        header.profile = reader
            .word(&value, "profile", &words)
            .unwrap_or(Profile::Baseline);
    }
    if let Some(value) = section.take("default") {
        let words = [("allow", Action::Allow), ("drop", Action::Drop)];
        header.default = reader
            .word(&value, "default", &words)
            .unwrap_or(Action::Drop);
    }
    if let Some(value) = section.take("shadow") {
        header.shadow = reader.boolean(&value, "shadow").unwrap_or(false);
    }
    if let Some(value) = section.take("uplink") {
        header.inner = reader
            .word(&value, "uplink", &[("internet", false), ("inner", true)])
            .unwrap_or(false);
    }
    if let Some(value) = section.take("look_into") {
        header.look_into = tunnels::look_into(reader, &value);
    }
    let (quic, tcp_ports) = (section.take_entry("quic"), section.take_entry("tcp_ports"));
    if header.profile != Profile::Strict {
        for (key, _) in [&quic, &tcp_ports].into_iter().flatten() {
            let message = format!("`{}` changes nothing here", key.get_ref());
            let help =
                "it is of the profile \"strict\": add `profile = \"strict\"`, or take it out";
            reader.warn(key.span(), message, "of another profile", help);
        }
    }
    if let Some((_, value)) = quic {
        header.quic = reader.boolean(&value, "quic").unwrap_or(false);
    }
    if let Some((_, value)) = tcp_ports {
        let empty = matches!(value.get_ref(), DeValue::Array(array) if array.is_empty());
        let all = (0, u16::MAX);
        let parse = |value: &DeValue<'_>| number::plain(value, "tcp_ports", u16::MAX);
        if !empty && let Some(ports) = number::set(reader, &value, "tcp_ports", all, parse) {
            header.tcp_ports = ports;
        }
    }
    section.finish(reader);
    header
}

/// `prefixes` of `[lan]`.
pub(super) fn lan_prefixes(reader: &mut Reader, section: Option<Section<'_>>) -> Vec<IpNet> {
    let Some(mut section) = section else {
        return Vec::new();
    };
    let value = section.take("prefixes");
    section.finish(reader);
    let Some(value) = value else {
        return Vec::new();
    };
    if value
        .get_ref()
        .as_array()
        .is_some_and(|array| array.is_empty())
    {
        return Vec::new();
    }
    let mut prefixes = Vec::new();
    for item in reader.list(&value, "prefixes").unwrap_or_default() {
        let Some(text) = reader.string(&item, "prefixes") else {
            continue;
        };
        match address::prefix(&text) {
            Ok(prefix) => prefixes.push(prefix),
            Err((message, help)) => reader.error(item.span(), message, "here", help),
        }
    }
    prefixes
}
