//! The explain form: a packet as a person writes it, and what the gate says of it.

use crate::cli::alerts::table::end;
use crate::config::packet::Asked;
use serde_json::Value;

/// The longest text that is typed.
pub(super) const LONGEST: usize = 80;
/// Rules that came near which are told of.
const NEAREST: usize = 5;

/// What there is to fill in, in this order.
pub(super) const FIELDS: [&str; 4] = ["direction", "proto", "src", "dst"];

/// A packet that is asked about.
#[derive(Clone, Debug)]
pub(super) struct Form {
    /// By [`FIELDS`].
    pub fields: [String; 4],
    /// Which of them is typed into.
    pub at: usize,
    pub answer: Answer,
    /// Lines of the answer that are above.
    pub scroll: usize,
}

/// What the gate says.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Nothing was asked.
    None,
    Awaited,
    Said(Vec<String>),
    /// Which field is at fault, and what would be right; no field where none was read.
    Refused(Option<usize>, String),
}

impl Form {
    /// An empty one, or the packet of an incident.
    pub fn of(incident: Option<&Value>) -> Form {
        let text = |name: &str| incident.and_then(|line| line[name].as_str());
        // A frame without IP has no address to ask about.
        let end = |which: &str| match (incident, text("src_ip")) {
            (Some(line), Some(_)) => end(line, which),
            _ => String::new(),
        };
        let proto = match text("proto").unwrap_or("tcp") {
            "IPv6-ICMP" => "icmpv6".to_owned(),
            other => other.trim_start_matches("IP-").to_ascii_lowercase(),
        };
        Form {
            fields: [
                text("direction").unwrap_or("out").to_owned(),
                proto,
                end("src"),
                end("dest"),
            ],
            at: if incident.is_some() { 3 } else { 2 },
            answer: Answer::None,
            scroll: 0,
        }
    }

    /// The question.
    pub fn asked(&self) -> Asked {
        let [direction, proto, src, dst] =
            self.fields.each_ref().map(|text| text.trim().to_owned());
        Asked {
            direction,
            proto,
            src,
            dst,
            ..Asked::default()
        }
    }

    pub fn hear(&mut self, answer: Result<Value, String>) {
        self.scroll = 0;
        self.answer = match answer {
            Err(e) => Answer::Refused(None, e),
            Ok(answer) => match answer["error"].as_str() {
                Some(error) => {
                    let field = answer["field"].as_str();
                    let at = FIELDS.iter().position(|name| Some(*name) == field);
                    let help = answer["help"].as_str();
                    let help = help.map_or(String::new(), |help| format!("; {help}"));
                    Answer::Refused(at, format!("{error}{help}"))
                }
                None => Answer::Said(said(&answer)),
            },
        };
        if let Answer::Refused(Some(at), _) = self.answer {
            self.at = at;
        }
    }
}

/// An explanation in lines, the verdict first.
fn said(answer: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let list = |name: &str| -> Option<String> {
        let names = answer[name].as_array()?.iter().map(text);
        let names: Vec<_> = names.collect();
        (!names.is_empty()).then(|| names.join(", "))
    };
    let mut first = text(&answer["verdict"]).to_uppercase();
    if let Some(reason) = answer["reason"].as_str() {
        first += &format!(" ({reason})");
    }
    first += &format!(" by rule {}", text(&answer["rule"]));
    if let Some(level) = answer["alert"].as_str() {
        first += &format!(", alert {level}");
    }
    if let Some(marks) = list("marks") {
        first += &format!(", {marks}");
    }
    let mut lines = vec![first, format!("why: {}", text(&answer["why"]))];
    if let Some(note) = answer["note"].as_str() {
        lines.push(format!("note: {note}"));
    }
    for (name, words) in [
        ("in_shadow", "matched before it, in shadow and not enforced"),
        ("once_known", "once its payload is known, instead"),
        ("also", "would have matched after it"),
    ] {
        lines.extend(list(name).map(|list| format!("{words}: {list}")));
    }
    let misses = answer["misses"].as_array().into_iter().flatten();
    let near = misses.filter_map(|miss| match miss["fields"].as_array()?.as_slice() {
        [field] => Some(format!(
            "came near: {} ({}), all but {}: wants {}, has {}",
            text(&miss["rule"]),
            text(&miss["origin"]),
            text(&field["field"]),
            text(&field["wants"]),
            text(&field["has"]),
        )),
        _ => None,
    });
    lines.extend(near.take(NEAREST));
    lines
}
