//! What an alert shows of a payload. Unlike the rest of this module it allocates: the control thread asks for it.
//!
//! A payload is written by whoever has taken over a machine, and read by a person at a terminal, in a mail or in a web page. So nothing of it is
//! shown that could move the cursor, hide, or turn the text around.

use super::{
    App, bittorrent, dns, ftp, http, irc, msrpc, quic, rdp, smb, smtp, snmp, socks, ssh, telnet,
    tftp, tls, vnc,
};
use std::fmt::Write as _;

/// The longest value, in characters.
pub(crate) const LONGEST: usize = 128;
/// The most fields of one payload.
const MOST_FIELDS: usize = 16;
/// The most values that are joined to one.
const MOST_JOINED: usize = 16;

/// What a payload shows, for an alert: name and value pairs, all text made safe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    /// What it was taken for.
    pub app: App,
    /// In the order of the payload; none without a value.
    pub fields: Vec<(&'static str, String)>,
}

/// What the payload of a flow shows that was identified as `app`: as much as is there, and nothing if it is something else.
pub fn details(app: App, payload: &[u8]) -> Details {
    let mut fields = Fields(Vec::new());
    let show = match app {
        App::Irc => irc::details,
        App::Smtp => smtp::details,
        App::Tftp => tftp::details,
        App::Snmp => snmp::details,
        App::Smb => smb::details,
        App::Msrpc => msrpc::details,
        App::Dns => dns::details,
        App::Http => http::details,
        App::Tls => tls::details,
        App::Quic => quic::details,
        App::Ssh => ssh::details,
        App::Ftp => ftp::details,
        App::Telnet => telnet::details,
        App::Rdp => rdp::details,
        App::Vnc => vnc::details,
        App::Bittorrent => bittorrent::details,
        App::Socks => socks::details,
    };
    show(payload, &mut fields);
    Details {
        app,
        fields: fields.0,
    }
}

/// Fields that are being collected.
pub(super) struct Fields(Vec<(&'static str, String)>);

impl Fields {
    /// One, if it has a value, and there are not too many.
    pub fn add(&mut self, name: &'static str, value: &[u8]) {
        self.add_text(name, safe_text(value, LONGEST));
    }

    /// One that is safe already.
    pub fn add_text(&mut self, name: &'static str, value: String) {
        if !value.is_empty() && self.0.len() < MOST_FIELDS {
            self.0.push((name, value));
        }
    }
}

/// Some values as one; what is beyond the first few would not be shown.
pub(super) fn joined(mut values: Vec<&[u8]>) -> Vec<u8> {
    values.truncate(MOST_JOINED);
    values.join(&b", "[..])
}

/// Text of a packet as it may be shown, of at most `most` characters, the last of them `…` where it is cut. A control character, a byte that is not UTF-8, and a
/// character that turns, joins or hides others is written as `\xNN` or `\u{…}`, a backslash as two.
pub fn safe_text(bytes: &[u8], most: usize) -> String {
    let mut text = SafeText::new(most);
    text.bytes(bytes);
    text.finish()
}

/// A safe text that grows up to its bound.
pub(super) struct SafeText {
    text: String,
    /// Characters in it.
    count: usize,
    most: usize,
    /// Bytes of it that leave room for the mark of a cut.
    room: usize,
    cut: bool,
}

impl SafeText {
    pub fn new(most: usize) -> Self {
        SafeText {
            text: String::new(),
            count: 0,
            most,
            room: 0,
            cut: false,
        }
    }

    /// Something that is safe, of ASCII, whole or not at all.
    pub fn piece(&mut self, piece: &str) {
        self.append(piece, piece.len());
    }

    fn append(&mut self, piece: &str, count: usize) {
        self.cut |= self.count + count > self.most;
        if self.cut {
            return;
        }
        self.text.push_str(piece);
        self.count += count;
        if self.count < self.most {
            self.room = self.text.len();
        }
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        let mut piece = String::new();
        for chunk in bytes.utf8_chunks() {
            for char in chunk.valid().chars() {
                piece.clear();
                // A `String` takes everything that is written to it.
                let _ = match char {
                    '\\' => write!(piece, "\\\\"),
                    '\0'..='\x1f' | '\x7f' => write!(piece, "\\x{:02x}", u32::from(char)),
                    _ if is_hidden(char) => write!(piece, "\\u{{{:x}}}", u32::from(char)),
                    _ => write!(piece, "{char}"),
                };
                self.append(&piece, piece.chars().count());
                if self.cut {
                    return;
                }
            }
            for byte in chunk.invalid() {
                self.piece(&format!("\\x{byte:02x}"));
            }
        }
    }

    pub fn finish(mut self) -> String {
        if self.cut {
            self.text.truncate(self.room);
            if self.most > 0 {
                self.text.push('…');
            }
        }
        self.text
    }
}

/// Controls beyond ASCII, and what Unicode calls format characters (category Cf), line and paragraph separators, and fillers that show nothing.
fn is_hidden(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{ad}' | '\u{34f}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}'
            | '\u{890}' | '\u{891}' | '\u{8e2}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_could_deceive_a_reader_is_escaped() {
        for (bytes, expected) in [
            (&b"plain text"[..], "plain text"),
            (b"a\\b", "a\\\\b"),
            (b"\x1b[31m\r\n\x7f", "\\x1b[31m\\x0d\\x0a\\x7f"),
            (b"\xff\xc3\x28", "\\xff\\xc3("),
            ("\u{85}é".as_bytes(), "\\u{85}é"),
            ("gpj.\u{202e}exe".as_bytes(), "gpj.\\u{202e}exe"),
            (
                "\u{feff}\u{200b}\u{e0041}".as_bytes(),
                "\\u{feff}\\u{200b}\\u{e0041}",
            ),
        ] {
            assert_eq!(safe_text(bytes, 128), expected);
        }
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters_and_says_so() {
        assert_eq!(safe_text(b"abcd", 4), "abcd");
        assert_eq!(safe_text(b"abcde", 4), "abc…");
        assert_eq!(safe_text("äöüß€".as_bytes(), 4), "äöü…");
        assert_eq!(safe_text(b"ab\x01", 5), "ab…");
        assert_eq!(safe_text(b"\x01", 3), "…");
        assert_eq!(safe_text(b"x", 0), "");
        assert_eq!(safe_text(b"", 4), "");
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_text_unsafe_or_too_long(bytes in prop::collection::vec(any::<u8>(), 0..300), text in "\\PC{0,50}|[\u{2000}-\u{2070}]{0,50}", most in 0usize..200) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let safe = safe_text(bytes, most);
                prop_assert!(safe.chars().count() <= most);
                prop_assert!(!safe.chars().any(|char| char.is_control() || is_hidden(char)));
            }
        }
    }
}
