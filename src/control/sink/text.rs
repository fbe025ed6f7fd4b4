//! A line as text. What a frame carried is in it, so nothing leaves here that a terminal or a parser of logs would obey.

use crate::control::alerts::Line;
use std::fmt::Write;

/// The line as one JSON object, in printable ASCII: what is not, is escaped as JSON has it.
pub fn json(line: &Line) -> String {
    let Ok(text) = serde_json::to_string(line) else {
        // A struct of numbers and strings always serializes.
        return "{}".to_owned();
    };
    ascii(text)
}

/// JSON in printable ASCII. Only strings can hold other characters, and there `\u` stands for them.
pub fn ascii(json: String) -> String {
    if json.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return json;
    }
    let mut out = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        if matches!(c, ' '..='~') {
            out.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// Text for a reader that knows no escapes: what is not printable ASCII becomes `?`.
pub fn clean(text: &str) -> String {
    let keep = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    text.chars().map(keep).collect()
}

/// The line in one sentence, for a person.
pub fn summary(line: &Line) -> String {
    let end = |ip: &Option<String>, port: Option<u16>, mac: &str| match (ip, port) {
        (Some(ip), Some(port)) if ip.contains(':') => format!("[{ip}]:{port}"),
        (Some(ip), Some(port)) => format!("{ip}:{port}"),
        (Some(ip), None) => ip.clone(),
        (None, _) => mac.to_owned(),
    };
    let alert = &line.alert;
    let packets = if alert.packets == 1 {
        "packet"
    } else {
        "packets"
    };
    let shadow = if alert.shadow { ", in shadow" } else { "" };
    clean(&format!(
        "{} ({}): {} {} {} -> {}, {} {packets}{shadow}",
        alert.signature,
        alert.level,
        alert.action,
        line.proto,
        end(&line.src_ip, line.src_port, &line.src_mac),
        end(&line.dest_ip, line.dest_port, &line.dest_mac),
        alert.packets,
    ))
}

/// RFC 3339, from the form that EVE has.
pub fn rfc3339(timestamp: &str) -> String {
    match timestamp.strip_suffix("+0000") {
        Some(utc) => format!("{utc}Z"),
        None => timestamp.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_printable_ascii_and_says_the_same() {
        let nasty = "a\u{1b}[31m\n\0\u{7f}\u{9b}31m\u{202e}\u{2028}é😀\"\\]";
        let text = ascii(serde_json::to_string(&nasty).unwrap());
        assert!(text.bytes().all(|b| (b' '..=b'~').contains(&b)), "{text}");
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), nasty);
        assert_eq!(ascii("{\"a\":1}".into()), "{\"a\":1}");
    }

    #[test]
    fn text_for_people_holds_nothing_that_a_terminal_obeys() {
        assert_eq!(clean("x\u{1b}[2J\u{9b}y\n"), "x?[2J?y?");
    }
}
