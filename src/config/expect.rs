//! `[[test]]`: a packet, and what it should meet.

use super::packet::Packet;
use super::raw::{Reader, Value, as_integer};
use super::section::Section;
use super::{icmp, link, number};
use crate::policy::{Key, PolicyTest};
use std::ops::Range;

/// Reads one `[[test]]`.
pub(super) fn test(reader: &mut Reader, mut section: Section<'_>) -> Option<PolicyTest> {
    let span = section.span.clone();
    let (packet, expect) = (section.take("packet"), section.take("expect"));
    section.finish(reader);
    let (Some(packet), Some(expect)) = (packet, expect) else {
        let help = "write `packet = { direction = \"out\", proto = \"udp\", src = \"10.0.0.9:40000\", dst = \"93.184.216.34:69\" }` \
                    and `expect = { verdict = \"drop\", rule = \"tftp\" }`";
        reader.error(
            span,
            "a test needs `packet` and `expect`",
            "this test",
            help,
        );
        return None;
    };
    let expect_span = expect.span();
    let key = reader
        .section(packet, "packet")
        .and_then(|packet| key(reader, packet));
    let mut expect = reader.section(expect, "expect")?;
    let words = [
        ("forward", "forward"),
        ("allow", "forward"),
        ("drop", "drop"),
        ("reject", "reject"),
        ("decoy", "decoy"),
    ];
    let verdict = expect
        .take("verdict")
        .map(|value| reader.word(&value, "verdict", &words));
    let rule = expect
        .take("rule")
        .map(|value| reader.string(&value, "rule"));
    expect.finish(reader);
    if verdict.is_none() && rule.is_none() {
        let help = "write `verdict = \"drop\"`, `rule = \"tftp\"`, or both";
        reader.error(
            expect_span.clone(),
            "a test that expects nothing",
            "neither verdict nor rule",
            help,
        );
    }
    let line = reader.line(span.start);
    let span = (expect_span.start, expect_span.len());
    Some(PolicyTest {
        name: None,
        key: key?,
        verdict: verdict.flatten(),
        rule: rule.flatten(),
        line,
        span,
    })
}

/// The texts of a packet, with their places.
struct Texts(Vec<(&'static str, String, Range<usize>)>);

impl Texts {
    /// Takes a text, or a number where `number` says that one may stand there. `None` after an error has been reported.
    fn take(
        &mut self,
        reader: &mut Reader,
        section: &mut Section<'_>,
        name: &'static str,
        number: bool,
    ) -> Option<()> {
        let Some(value) = section.take(name) else {
            return Some(());
        };
        let text = match as_integer(value.get_ref()) {
            Some(number_there) if number => number_there.to_string(),
            _ => reader.string(&value, name)?,
        };
        self.0.push((name, text, value.span()));
        Some(())
    }

    fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(known, ..)| *known == name);
        found.map(|(_, text, _)| text.as_str())
    }
}

fn key(reader: &mut Reader, mut section: Section<'_>) -> Option<Key> {
    let table = section.span.clone();
    let before = reader.problems.len();
    let mut texts = Texts(Vec::new());
    for name in [
        "direction",
        "proto",
        "src",
        "dst",
        "ethertype",
        "src_mac",
        "tcp_flags",
        "app",
    ] {
        let number = ["proto", "ethertype"].contains(&name);
        texts.take(reader, &mut section, name, number);
    }
    let numbers =
        ["icmp_type", "icmp_code", "vlan", "fragment"].map(|name| (name, section.take(name)));
    section.finish(reader);
    let mut places: Vec<_> = texts
        .0
        .iter()
        .map(|(name, _, span)| (*name, span.clone()))
        .collect();
    places.extend(
        numbers
            .iter()
            .filter_map(|(name, value)| Some((*name, value.as_ref()?.span()))),
    );
    let [kind, code, vlan, fragment] = numbers.map(|(_, value)| value);
    let proto = texts.get("proto").and_then(number::proto_of);
    let packet = Packet {
        direction: texts.get("direction").unwrap_or("out"),
        proto: texts.get("proto").unwrap_or_default(),
        src: texts.get("src").unwrap_or_default(),
        dst: texts.get("dst").unwrap_or_default(),
        icmp_type: kind.and_then(|value| icmp_type(reader, &value, proto)),
        icmp_code: code
            .and_then(|value| reader.integer(&value, "icmp_code", 0..=255))
            .map(|code| code as u8),
        vlan: vlan.and_then(|value| link::vlan(reader, &value)),
        ethertype: texts.get("ethertype"),
        src_mac: texts.get("src_mac"),
        tcp_flags: texts.get("tcp_flags"),
        app: texts.get("app"),
        fragment: fragment
            .and_then(|value| reader.boolean(&value, "fragment"))
            .unwrap_or(false),
    };
    if reader.problems.len() > before {
        return None;
    }
    if packet.ethertype.is_none() {
        for name in ["proto", "src", "dst"] {
            if texts.get(name).is_none() {
                let help = format!(
                    "add `{name}`: a test packet has proto, src and dst, or the `ethertype` of what is not IP"
                );
                reader.error(
                    table.clone(),
                    format!("the packet has no `{name}`"),
                    "this packet",
                    help,
                );
            }
        }
        if reader.problems.len() > before {
            return None;
        }
    }
    packet
        .key()
        .map_err(|error| {
            let place = places.iter().find(|(name, _)| *name == error.field);
            let place = place.map_or(table, |(_, span)| span.clone());
            reader.error(place, error.message, "here", error.help);
        })
        .ok()
}

/// A type by number, or by a name of this protocol.
fn icmp_type(reader: &mut Reader, value: &Value<'_>, proto: Option<u8>) -> Option<u8> {
    let (Some(name), Some(proto @ (icmp::V4 | icmp::V6))) = (value.get_ref().as_str(), proto)
    else {
        return reader
            .integer(value, "icmp_type", 0..=255)
            .map(|number| number as u8);
    };
    match icmp::of_packet(name, proto) {
        Ok(number) => u8::try_from(number).ok(),
        Err((message, help)) => {
            reader.error(value.span(), message, "here", help);
            None
        }
    }
}
