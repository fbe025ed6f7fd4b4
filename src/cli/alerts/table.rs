//! Alerts for a person at a terminal. The file is as hostile as what crossed the wire: nothing of it moves a cursor.

use super::select::time;
use crate::app::safe_text;
use serde_json::Value;
use std::io::IsTerminal;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns where there is no terminal: what is read by a program is not cut.
const ENDLESS: usize = 10_000;
/// The narrowest terminal that is taken for one.
const NARROWEST: usize = 40;
/// The longest text of one field, characters.
const LONGEST: usize = 2_000;
/// No column is made wider for the sake of one line.
const WIDEST: usize = 44;
/// What a line is about, and not another line.
const INDENT: &str = "    ";

/// The columns that are always there.
const COLUMNS: [&str; 6] = [
    "time (UTC)",
    "severity",
    "host",
    "rule",
    "verdict",
    "packets",
];
/// What they hold where nothing else is known, columns.
const USUAL: [usize; 6] = [19, 8, 15, 12, 7, 7];

/// How the columns are laid out.
pub(super) struct Table {
    width: usize,
    columns: [usize; 6],
    /// There is room for names beside addresses; else they have the second line.
    names: bool,
    /// What was said to decoys is shown line by line.
    transcripts: bool,
}

impl Table {
    /// For these lines and others that may come.
    pub fn new<'a>(lines: impl Iterator<Item = &'a Value>) -> Table {
        let size = terminal_size::terminal_size().filter(|_| std::io::stdout().is_terminal());
        let width = size.map_or(ENDLESS, |(width, _)| usize::from(width.0).max(NARROWEST));
        Table::wide(width, lines)
    }

    fn wide<'a>(width: usize, lines: impl Iterator<Item = &'a Value>) -> Table {
        let (mut named, mut bare) = (USUAL, USUAL);
        for line in lines {
            for (columns, name) in [(&mut named, true), (&mut bare, false)] {
                for (column, cell) in columns.iter_mut().zip(cells(line, name)) {
                    *column = (*column).max(cell.width()).min(WIDEST);
                }
            }
        }
        let fits = named.iter().sum::<usize>() + 2 * (named.len() - 1) <= width;
        Table {
            width,
            columns: if fits { named } else { bare },
            names: fits,
            transcripts: false,
        }
    }

    /// The same with what was said to decoys, where that is wanted.
    pub fn with_transcripts(self, transcripts: bool) -> Table {
        Table {
            transcripts,
            ..self
        }
    }

    /// The names of the columns.
    pub fn head(&self) -> String {
        self.line(COLUMNS.map(str::to_owned), "", "to")
    }

    /// One alert: its line, what the payload showed, what it said to a decoy, where its frames are, and what to do.
    pub fn row(&self, line: &Value) -> String {
        let name = text(&line["alert"]["host_name"]).filter(|_| !self.names);
        let name = name.map_or(String::new(), |name| format!("{name} "));
        let mut out = self.line(cells(line, self.names), &name, &to(line));
        if let Some(shown) = shown(line) {
            out += &format!("{}\n", cut(&format!("{INDENT}{shown}"), self.width));
        }
        let mut told = |text: String| {
            out += &format!("{}\n", cut(&format!("{INDENT}{text}"), self.width));
        };
        if let Some(held) = conversation(line) {
            told(format!("decoy: {held}"));
            if self.transcripts {
                transcript(line)
                    .into_iter()
                    .for_each(|said| told(format!("  {said}")));
            }
            if let Some(file) = text(&line["decoy"]["evidence"]) {
                told(format!("transcript: {file}"));
            }
        }
        if let Some(capture) = text(&line["alert"]["evidence"]) {
            told(format!("frames: {capture}"));
        }
        if let Some(hint) = line["alert"]["hint"].as_str() {
            out += &wrapped(&safe(hint), self.width);
        }
        out
    }

    /// Where it does not fit, the other end has a line of its own.
    fn line(&self, cells: [String; 6], name: &str, to: &str) -> String {
        let mut out = String::new();
        for (at, (cell, width)) in cells.iter().zip(self.columns).enumerate() {
            let cell = cut(cell, width);
            let gap = " ".repeat(width - cell.width());
            // Numbers are read from their right end.
            out += &if at == 5 {
                format!("{gap}{cell}  ")
            } else {
                format!("{cell}{gap}  ")
            };
        }
        match name.is_empty() && out.width() + to.width() <= self.width {
            true => format!("{}\n", (out + to).trim_end()),
            false => format!(
                "{}\n{}\n",
                cut(out.trim_end(), self.width),
                cut(&format!("{INDENT}{name}-> {to}"), self.width)
            ),
        }
    }
}

fn cells(line: &Value, name: bool) -> [String; 6] {
    let alert = &line["alert"];
    let at = time(line).map(|at| {
        let text = humantime::format_rfc3339_seconds(at).to_string();
        text.trim_end_matches('Z').replace('T', " ")
    });
    let host = match text(&alert["host_name"]).filter(|_| name) {
        Some(name) => format!("{name} ({})", word(&alert["host"])),
        None => word(&alert["host"]),
    };
    let verdict = match alert["shadow"] {
        Value::Bool(true) => format!("{}, in shadow", word(&alert["verdict"])),
        _ => word(&alert["verdict"]),
    };
    [
        at.unwrap_or_else(|| "?".to_owned()),
        word(&alert["level"]),
        host,
        word(&alert["signature"]),
        verdict,
        word(&alert["packets"]),
    ]
}

/// One end of what a line is about, `src` or `dest`: address and port, or the MAC address where there is no other.
pub(in crate::cli) fn end(line: &Value, which: &str) -> String {
    let of = |what: &str| text(&line[format!("{which}_{what}")]);
    match (of("ip"), of("port")) {
        (Some(ip), Some(port)) if ip.contains(':') => format!("[{ip}]:{port}"),
        (Some(ip), Some(port)) => format!("{ip}:{port}"),
        (Some(ip), None) => ip,
        (None, _) => of("mac").unwrap_or_else(|| "-".to_owned()),
    }
}

/// The other end, and how many others there were.
pub(in crate::cli) fn to(line: &Value) -> String {
    let end = match line["direction"].as_str() {
        Some("in") => end(line, "src"),
        _ => end(line, "dest"),
    };
    let alert = &line["alert"];
    let more = if alert["more_destinations"] == true {
        "+"
    } else {
        ""
    };
    match alert["destinations"].as_u64() {
        Some(2) if more.is_empty() => format!("{end} and 1 other"),
        Some(n @ 2..) => format!("{end} and {}{more} others", n - 1),
        _ => end,
    }
}

/// What the payload showed, under the name of its application.
pub(in crate::cli) fn shown(line: &Value) -> Option<String> {
    let app = text(&line["app_proto"])?;
    let fields = line["app_proto"]
        .as_str()
        .and_then(|app| line[app].as_object());
    let fields = fields.into_iter().flatten();
    let fields: Vec<_> = fields
        .map(|(name, value)| format!("{}={}", safe(name), word(value)))
        .collect();
    Some(
        format!("{app}: {}", fields.join(" "))
            .trim_end_matches([':', ' '])
            .to_owned(),
    )
}

/// The last conversation with a decoy, in a sentence.
pub(in crate::cli) fn conversation(line: &Value) -> Option<String> {
    let decoy = &line["decoy"];
    decoy.is_object().then(|| {
        let mut told = format!(
            "spoke {} for {} s, {}; {} bytes of the client, {} of the decoy",
            word(&decoy["protocol"]),
            word(&decoy["seconds"]),
            word(&decoy["ended"]),
            word(&decoy["client_bytes"]),
            word(&decoy["decoy_bytes"]),
        );
        if let Some(n @ 2..) = decoy["conversations"].as_u64() {
            told += &format!("; the last of {n} conversations");
        }
        told
    })
}

/// What was said in it, in lines; the last says where there was more.
pub(in crate::cli) fn transcript(line: &Value) -> Vec<String> {
    let decoy = &line["decoy"];
    let lines = decoy["transcript"].as_array().into_iter().flatten();
    let mut lines: Vec<String> = lines.map(word).collect();
    if decoy["cut"] == true {
        lines.push("(more was said than is kept here)".to_owned());
    }
    lines
}

/// A value as one text; none where there is none.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(safe(text)),
        other => Some(safe(&other.to_string())),
    }
}

fn word(value: &Value) -> String {
    text(value).unwrap_or_else(|| "-".to_owned())
}

/// Nothing of it moves a cursor, hides, or turns the text around. What the gate has made safe before stays as it is: a backslash is
/// harmless.
pub(in crate::cli) fn safe(text: &str) -> String {
    let parts = text
        .split('\\')
        .map(|part| safe_text(part.as_bytes(), LONGEST));
    let whole = parts.collect::<Vec<_>>().join("\\");
    cut(&whole, LONGEST)
}

/// As much of a safe text as fits.
pub(in crate::cli) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let (mut out, mut used) = (String::new(), 0);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used >= width {
            break;
        }
        out.push(c);
    }
    out.push('…');
    out
}

/// A hint in as many lines as it takes: a command in it must be there whole.
fn wrapped(text: &str, width: usize) -> String {
    let (mut out, mut line) = (String::new(), INDENT.to_owned());
    for word in text.split(' ') {
        if line.len() > INDENT.len() && line.width() + 1 + word.width() > width {
            out += &format!("{line}\n");
            line = INDENT.to_owned();
        }
        if line.len() > INDENT.len() {
            line.push(' ');
        }
        line += word;
    }
    out + &format!("{line}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line() -> Value {
        serde_json::json!({
            "timestamp": "2026-01-01T00:00:10.250000+0000", "direction": "out",
            "src_ip": "10.77.0.9", "dest_ip": "2606:2800:220:1::34", "dest_port": 69,
            "app_proto": "tftp", "tftp": { "operation": "read", "file": "\\x1b[2Jtool.bin" },
            "alert": {
                "signature": "tftp", "level": "high", "verdict": "drop", "packets": 7, "host": "10.77.0.9",
                "host_name": "desk-9", "destinations": 3, "evidence": "/var/lib/portcullis/evidence/1-tftp.pcapng", "hint": "if 10.77.0.9 is a mail server, run: portcullis sets add mail_servers 10.77.0.9",
            },
        })
    }

    #[test]
    fn a_wide_terminal_has_all_in_a_line_and_a_narrow_one_in_several_that_fit() {
        let line = line();
        let table = Table::wide(200, [&line].into_iter());
        let row = table.row(&line);
        let rows: Vec<&str> = row.lines().collect();
        assert_eq!(
            rows,
            [
                "2026-01-01 00:00:10  high      desk-9 (10.77.0.9)  tftp          drop           7  [2606:2800:220:1::34]:69 and 2 others",
                "    tftp: operation=read file=\\x1b[2Jtool.bin",
                "    frames: /var/lib/portcullis/evidence/1-tftp.pcapng",
                "    if 10.77.0.9 is a mail server, run: portcullis sets add mail_servers 10.77.0.9",
            ]
        );
        assert_eq!(table.head().find("host"), rows[0].find("desk-9"));
        let narrow = Table::wide(80, [&line].into_iter()).row(&line);
        let two: Vec<&str> = narrow.lines().take(2).collect();
        assert_eq!(
            two,
            [
                "2026-01-01 00:00:10  high      10.77.0.9        tftp          drop           7",
                "    desk-9 -> [2606:2800:220:1::34]:69 and 2 others",
            ]
        );
        for width in NARROWEST..120 {
            let table = Table::wide(width, [&line].into_iter());
            for text in [table.head(), table.row(&line)] {
                let fits = text.lines().all(|text| text.width() <= width);
                assert!(fits, "{width}: {text}");
            }
        }
    }

    #[test]
    fn a_conversation_with_a_decoy_is_told_of_and_shown_where_that_is_wanted() {
        let mut line = line();
        line["alert"]["verdict"] = "decoy".into();
        line["decoy"] = serde_json::json!({
            "protocol": "irc", "began": "2026-01-01T00:00:07.000000+0000", "seconds": 3.25, "ended": "the client closed it",
            "client_bytes": 61, "decoy_bytes": 240, "transcript": ["C: NICK zombie", "S: :relay 001 zombie :\u{1b}[2J"], "cut": true,
            "conversations": 3, "evidence": "/var/lib/portcullis/evidence/1-3_10.77.0.9_tftp.decoy.txt",
        });
        let row = |transcripts| {
            let table = Table::wide(200, [&line].into_iter());
            table.with_transcripts(transcripts).row(&line)
        };
        let told = [
            "    decoy: spoke irc for 3.25 s, the client closed it; 61 bytes of the client, 240 of the decoy; the last of 3 conversations",
            "    transcript: /var/lib/portcullis/evidence/1-3_10.77.0.9_tftp.decoy.txt",
        ];
        let short = row(false);
        let rows: Vec<&str> = short.lines().collect();
        assert!(rows[0].contains("  decoy  "), "{short}");
        assert_eq!(rows[2..4], told);
        let long = row(true);
        let rows: Vec<&str> = long.lines().collect();
        let said = [
            "      C: NICK zombie",
            "      S: :relay 001 zombie :\\x1b[2J",
            "      (more was said than is kept here)",
        ];
        assert_eq!(rows[2..7], [&told[..1], &said, &told[1..]].concat());
    }

    #[test]
    fn whatever_is_in_the_file_nothing_moves_the_cursor() {
        let hostile = "\u{1b}[2J\u{9b}31m\u{202e}\r\n\u{7}漢\\";
        let mut line = line();
        for key in ["timestamp", "direction", "dest_ip", "src_mac", "app_proto"] {
            line[key] = hostile.into();
        }
        line[hostile] = serde_json::json!({ hostile: hostile, "list": [hostile] });
        for (_, value) in line["alert"].as_object_mut().unwrap() {
            *value = hostile.into();
        }
        line["dest_port"] = serde_json::json!({ hostile: hostile });
        line["decoy"] = serde_json::json!({ "ended": hostile, "protocol": [hostile], "transcript": [hostile, { hostile: 1 }], "evidence": hostile });
        for width in [NARROWEST, 80, ENDLESS] {
            let table = Table::wide(width, [&line].into_iter()).with_transcripts(true);
            let row = table.row(&line);
            let bad = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
            assert!(!row.contains(bad), "{row:?}");
            assert!(row.lines().count() <= 16, "{row}");
        }
        Table::wide(80, std::iter::empty()).row(&serde_json::json!({}));
    }
}
