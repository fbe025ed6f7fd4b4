//! The explain form: a packet as a person writes it, and what the gate says of it.

use crate::cli::alerts::table::end;
use crate::config::packet::Asked;
use serde_json::Value;

/// The longest text that is typed.
pub(super) const LONGEST: usize = 80;
/// Rules that came near which are told of.
const NEAREST: usize = 5;

/// What there is to fill in, in this order.
pub(super) const FIELDS: [&str; 5] = ["direction", "proto", "src", "dst", "app"];
/// Which of them says what the payload is.
const APP: usize = 4;

/// A packet that is asked about.
#[derive(Clone, Debug)]
pub(super) struct Form {
    /// By [`FIELDS`].
    pub fields: [String; 5],
    /// Which of them is typed into.
    pub at: usize,
    /// What an incident says of its packet that is in no field; none once the fields are of another packet.
    pub besides: Option<Besides>,
    pub answer: Answer,
    /// Lines of the answer that are above.
    pub scroll: usize,
}

/// The rest of an incident's packet.
#[derive(Clone, Debug)]
pub(super) struct Besides {
    icmp_type: Option<u8>,
    icmp_code: Option<u8>,
    /// Of the outer tag.
    vlan: Option<u16>,
    src_mac: Option<String>,
    /// What the field had from the incident.
    app: String,
}

/// What the gate says.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// Nothing was asked.
    None,
    /// To the question of this number.
    Awaited(u64),
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
        let besides = incident.map(|line| Besides::of(line, &proto));
        let app = besides.as_ref().map_or("", |besides| &besides.app);
        Form {
            fields: [
                text("direction").unwrap_or("out").to_owned(),
                proto,
                end("src"),
                end("dest"),
                app.to_owned(),
            ],
            at: if incident.is_some() { 3 } else { 2 },
            besides,
            answer: Answer::None,
            scroll: 0,
        }
    }

    /// The question.
    pub fn asked(&self) -> Asked {
        let [direction, proto, src, dst, app] =
            self.fields.each_ref().map(|text| text.trim().to_owned());
        let besides = self.besides.as_ref();
        Asked {
            direction,
            proto,
            src,
            dst,
            icmp_type: besides.and_then(|besides| besides.icmp_type),
            icmp_code: besides.and_then(|besides| besides.icmp_code),
            vlan: besides.and_then(|besides| besides.vlan),
            src_mac: besides.and_then(|besides| besides.src_mac.clone()),
            app: Some(app).filter(|app| !app.is_empty()),
            ..Asked::default()
        }
    }

    /// Puts another text into the field that is typed into. With another of any but `app` it is not the incident's packet any more,
    /// and what is known of that one alone goes.
    pub fn edit(&mut self, text: String) {
        let Some(field) = self.fields.get_mut(self.at) else {
            return;
        };
        if *field == text {
            return;
        }
        *field = text;
        if self.at == APP {
            return;
        }
        if let Some(besides) = self.besides.take()
            && self.fields[APP] == besides.app
        {
            self.fields[APP].clear();
        }
    }

    /// The answer to the question of a number; one that is not awaited, or not any more, is dropped.
    pub fn hear(&mut self, number: u64, answer: Result<Value, String>) {
        if !matches!(self.answer, Answer::Awaited(awaited) if awaited == number) {
            return;
        }
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

impl Besides {
    /// `proto` as the form has it. The same as `packetOf` of the page takes (src/control/http/assets/app.js).
    fn of(line: &Value, proto: &str) -> Besides {
        fn number<T: TryFrom<u64>>(value: &Value) -> Option<T> {
            value.as_u64().and_then(|n| T::try_from(n).ok())
        }
        // Of no other is the payload looked at.
        let looked_at = matches!(proto, "tcp" | "udp");
        let app = line["app_proto"].as_str().filter(|_| looked_at);
        Besides {
            icmp_type: number(&line["icmp_type"]),
            icmp_code: number(&line["icmp_code"]),
            vlan: number(&line["vlan"][0]),
            src_mac: line["src_mac"].as_str().map(str::to_owned),
            app: app.unwrap_or_default().to_owned(),
        }
    }

    /// All of it that is in no field.
    pub fn told(&self) -> String {
        let number = |name: &str, n: Option<u16>| n.map(|n| format!("{name} {n}"));
        let told = [
            number("icmp_type", self.icmp_type.map(u16::from)),
            number("icmp_code", self.icmp_code.map(u16::from)),
            number("vlan", self.vlan),
            self.src_mac.as_ref().map(|mac| format!("src_mac {mac}")),
        ];
        told.into_iter().flatten().collect::<Vec<_>>().join(", ")
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

#[cfg(test)]
mod tests {
    use super::super::testing::incident;
    use super::*;
    use serde_json::json;

    /// IRC on a port that is not its own, in a VLAN.
    fn irc() -> Value {
        let mut line = incident("4", "irc", "high", "10.77.0.9");
        line["proto"] = "TCP".into();
        line["dest_port"] = 8080.into();
        line["app_proto"] = "irc".into();
        line["vlan"] = json!([100, 7]);
        line
    }

    fn echo() -> Value {
        json!({
            "direction": "in", "src_ip": "fd77::1", "dest_ip": "fd77::9", "proto": "IPv6-ICMP", "icmp_type": 129, "icmp_code": 0,
            "src_mac": "02:00:00:00:00:01", "app_proto": "irc",
        })
    }

    #[test]
    fn the_packet_of_an_incident_is_asked_about_with_all_that_the_incident_says_of_it() {
        let form = Form::of(Some(&irc()));
        let asked = Asked {
            direction: "out".to_owned(),
            proto: "tcp".to_owned(),
            src: "10.77.0.9:40000".to_owned(),
            dst: "93.184.216.34:8080".to_owned(),
            vlan: Some(100),
            src_mac: Some("02:00:00:00:00:09".to_owned()),
            app: Some("irc".to_owned()),
            ..Asked::default()
        };
        assert_eq!(form.asked(), asked);
        assert!(asked.packet().key().is_ok());
        let told = form.besides.map(|besides| besides.told());
        assert_eq!(told.as_deref(), Some("vlan 100, src_mac 02:00:00:00:00:09"));

        let form = Form::of(Some(&echo()));
        let asked = form.asked();
        assert_eq!((asked.icmp_type, asked.icmp_code), (Some(129), Some(0)));
        assert_eq!((asked.vlan, asked.app.as_deref()), (None, None));
        assert!(asked.packet().key().is_ok());
        let told = form.besides.map(|besides| besides.told());
        assert_eq!(
            told.as_deref(),
            Some("icmp_type 129, icmp_code 0, src_mac 02:00:00:00:00:01")
        );
        assert!(Form::of(None).besides.is_none());
    }

    #[test]
    fn numbers_that_no_packet_has_are_left_out() {
        let mut line = echo();
        line["icmp_type"] = 256.into();
        line["icmp_code"] = (-1).into();
        line["vlan"] = json!(["x"]);
        let asked = Form::of(Some(&line)).asked();
        assert_eq!(
            (asked.icmp_type, asked.icmp_code, asked.vlan),
            (None, None, None)
        );
    }

    #[test]
    fn another_direction_protocol_or_address_is_another_packet() {
        for at in 0..APP {
            let mut form = Form::of(Some(&irc()));
            form.at = at;
            form.edit(form.fields[at].clone());
            assert!(form.besides.is_some(), "{at}: the same text");
            form.edit("x".to_owned());
            let asked = form.asked();
            assert!(form.besides.is_none(), "{at}");
            assert_eq!(
                (asked.app, asked.vlan, asked.src_mac),
                (None, None, None),
                "{at}"
            );
        }
    }

    #[test]
    fn another_app_is_asked_about_in_the_same_packet_and_stays_where_that_changes() {
        let mut form = Form::of(Some(&irc()));
        form.at = APP;
        form.edit("tls".to_owned());
        let asked = form.asked();
        assert_eq!((asked.app.as_deref(), asked.vlan), (Some("tls"), Some(100)));
        form.at = 3;
        form.edit("93.184.216.34:443".to_owned());
        let asked = form.asked();
        assert_eq!((asked.app.as_deref(), asked.vlan), (Some("tls"), None));
    }

    #[test]
    fn only_the_answer_that_is_awaited_is_taken() {
        let mut form = Form::of(None);
        form.hear(1, Err("not asked".to_owned()));
        assert!(matches!(form.answer, Answer::None));
        form.answer = Answer::Awaited(2);
        form.hear(1, Err("late".to_owned()));
        assert!(matches!(form.answer, Answer::Awaited(2)));
        form.hear(2, Err("in time".to_owned()));
        form.hear(1, Err("later still".to_owned()));
        let said = matches!(&form.answer, Answer::Refused(None, why) if why == "in time");
        assert!(said, "{:?}", form.answer);
    }
}
