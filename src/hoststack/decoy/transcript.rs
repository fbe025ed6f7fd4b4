//! Who said what in a conversation, in order, up to a bound: evidence for a person.

use crate::app::safe_text;
use std::fmt::Write as _;

/// The most turns: with them a transcript has 4 KiB beside the bytes.
const MOST_TURNS: usize = 512;
/// Bytes of one line as it is shown; what is longer goes on in the next.
const LONGEST_LINE: usize = 256;

/// Bytes that one side said before the other did.
#[derive(Clone, Copy, Debug)]
struct Turn {
    server: bool,
    length: u32,
}

/// A record of a conversation.
#[derive(Clone, Debug)]
pub struct Transcript {
    limit: usize,
    turns: Vec<Turn>,
    bytes: Vec<u8>,
    client: u64,
    server: u64,
    cut: bool,
}

impl Transcript {
    /// One that keeps at most so many bytes of both sides together, and 4 KiB for itself.
    pub fn new(limit: usize) -> Transcript {
        Transcript {
            limit: limit.min(u32::MAX as usize),
            turns: Vec::new(),
            bytes: Vec::new(),
            client: 0,
            server: 0,
            cut: false,
        }
    }

    /// The client has said this.
    pub fn client(&mut self, bytes: &[u8]) {
        self.client = self.client.saturating_add(bytes.len() as u64);
        self.keep(false, bytes);
    }

    /// The server has said this.
    pub fn server(&mut self, bytes: &[u8]) {
        self.server = self.server.saturating_add(bytes.len() as u64);
        self.keep(true, bytes);
    }

    /// Bytes that the client has said, kept or not.
    pub fn client_bytes(&self) -> u64 {
        self.client
    }

    /// Bytes that the server has said, kept or not.
    pub fn server_bytes(&self) -> u64 {
        self.server
    }

    /// Whether more was said than is kept. What is kept is the beginning, without gaps.
    pub fn is_cut(&self) -> bool {
        self.cut
    }

    /// The pieces in order, one a turn: whether the server says it, and what.
    pub fn turns(&self) -> impl Iterator<Item = (bool, &[u8])> {
        let mut rest = &self.bytes[..];
        self.turns.iter().map(move |turn| {
            let length = turn.length as usize;
            let (piece, behind) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = behind;
            (turn.server, piece)
        })
    }

    /// The lines in order, `C: ` or `S: ` before each, all text made safe as [`safe_text`] does. One of more than 256 bytes ends with a
    /// single backslash, and goes on in the next.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.turns().flat_map(|(server, piece)| {
            let who = if server { "S: " } else { "C: " };
            let mut rest = piece;
            std::iter::from_fn(move || {
                let (line, whole) = take_line(&mut rest)?;
                let mut text = String::from(who);
                // No byte takes more than the ten characters of `\u{10ffff}`, so nothing is cut.
                text += &safe_text(line, LONGEST_LINE * 10);
                if !whole {
                    text.push('\\');
                }
                Some(text)
            })
        })
    }

    /// All of it, as a file of evidence: the lines, and at the end what was said in all.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for line in self.lines() {
            text += &line;
            text.push('\n');
        }
        // A `String` takes everything that is written to it.
        let _ = write!(
            text,
            "# client {} bytes, server {} bytes",
            self.client, self.server
        );
        if self.cut {
            let _ = write!(text, "; the first {} are kept", self.bytes.len());
        }
        text.push('\n');
        text
    }

    fn keep(&mut self, server: bool, bytes: &[u8]) {
        if bytes.is_empty() || self.cut {
            return;
        }
        let room = self.limit - self.bytes.len();
        let kept = bytes.get(..room).unwrap_or(bytes);
        self.cut = kept.len() < bytes.len();
        if kept.is_empty() {
            return;
        }
        let length = kept.len() as u32;
        let is_full = self.turns.len() == MOST_TURNS;
        match self.turns.last_mut().filter(|turn| turn.server == server) {
            Some(turn) => turn.length += length,
            None if !is_full => self.turns.push(Turn { server, length }),
            None => {
                self.cut = true;
                return;
            }
        }
        // Doubled as a `Vec` does, but never beyond the limit.
        let needed = self.bytes.len() + kept.len();
        if needed > self.bytes.capacity() {
            let capacity = needed.max(self.bytes.capacity() * 2).min(self.limit);
            self.bytes.reserve_exact(capacity - self.bytes.len());
        }
        self.bytes.extend_from_slice(kept);
    }
}

/// The next line without its end, or as much of it as is shown in one; whether that is all of it.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], bool)> {
    if rest.is_empty() {
        return None;
    }
    let end = rest
        .iter()
        .take(LONGEST_LINE + 2)
        .position(|byte| *byte == b'\n');
    if let Some(end) = end {
        let (line, behind) = rest.split_at_checked(end)?;
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.len() <= LONGEST_LINE {
            *rest = behind.get(1..).unwrap_or(&[]);
            return Some((line, true));
        }
    }
    let (line, behind) = rest.split_at_checked(LONGEST_LINE).unwrap_or((rest, &[]));
    *rest = behind;
    Some((line, behind.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(transcript: &Transcript) -> Vec<String> {
        transcript.lines().collect()
    }

    #[test]
    fn who_said_what_is_kept_in_order_and_shown_safely() {
        let mut transcript = Transcript::new(1000);
        transcript.server(b"220 hi\r\n");
        transcript.client(b"NI");
        transcript.client(b"CK \x1b[2Ja\r\n\r\nraw \xff\\\ngpj.\xe2\x80\xaeexe");
        transcript.server(b"");
        transcript.client(b"!");
        transcript.server(b"bye");
        let expected = [
            "S: 220 hi",
            "C: NICK \\x1b[2Ja",
            "C: ",
            "C: raw \\xff\\\\",
            "C: gpj.\\u{202e}exe!",
            "S: bye",
        ];
        assert_eq!(lines(&transcript), expected);
        let text = expected.join("\n") + "\n# client 32 bytes, server 11 bytes\n";
        assert_eq!(transcript.to_text(), text);
        assert_eq!(transcript.turns().count(), 3);
    }

    #[test]
    fn a_line_that_is_too_long_goes_on_in_the_next() {
        let mut transcript = Transcript::new(10_000);
        transcript.client(&[b'a'; 300]);
        transcript.server(&[&[b'b'; 256][..], b"\r\n"].concat());
        let (a, b) = ("a".repeat(256), "b".repeat(256));
        let expected = [
            format!("C: {a}\\"),
            format!("C: {}", "a".repeat(44)),
            format!("S: {b}"),
        ];
        assert_eq!(lines(&transcript), expected);
    }

    #[test]
    fn what_is_beyond_the_bound_is_counted_and_nothing_behind_it_is_kept() {
        let mut transcript = Transcript::new(5);
        transcript.client(b"abc");
        assert!(!transcript.is_cut());
        transcript.server(b"defg");
        transcript.client(b"h");
        assert!(transcript.is_cut());
        assert_eq!(
            (transcript.client_bytes(), transcript.server_bytes()),
            (4, 4)
        );
        let expected = "C: abc\nS: de\n# client 4 bytes, server 4 bytes; the first 5 are kept\n";
        assert_eq!(transcript.to_text(), expected);
    }

    proptest! {
        #[test]
        fn any_pieces_take_no_more_memory_than_the_bound(pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..4)), 0..1500), limit in 0usize..3000) {
            let mut transcript = Transcript::new(limit);
            let mut all = Vec::new();
            for (server, bytes) in &pieces {
                if *server { transcript.server(bytes) } else { transcript.client(bytes) }
                all.extend_from_slice(bytes);
            }
            prop_assert!(transcript.bytes.capacity() <= limit);
            prop_assert!(transcript.turns.capacity() <= MOST_TURNS);
            prop_assert_eq!(std::mem::size_of::<Turn>(), 8);
            prop_assert!(all.starts_with(&transcript.bytes));
            prop_assert_eq!(transcript.is_cut(), all.len() > transcript.bytes.len());
            prop_assert_eq!(transcript.client_bytes() + transcript.server_bytes(), all.len() as u64);
            let kept: Vec<u8> = transcript.turns().flat_map(|(_, piece)| piece.to_vec()).collect();
            prop_assert_eq!(&kept, &transcript.bytes);
            for line in transcript.lines() {
                prop_assert!(!line.chars().any(char::is_control));
                prop_assert!(!line.ends_with('…'));
            }
        }
    }
}
