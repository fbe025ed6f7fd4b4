//! Lines of a stream that comes in any pieces, and the lines that answer them.

/// The longest line that is said, with its end (RFC 2812 section 2.3, RFC 5321 section 4.5.3.1.5).
const LONGEST_SAID: usize = 512;

/// What ends a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// LF, and a CR before it is no part of the line.
    Lf,
    /// CR or LF: a CR LF ends two, the second of them empty.
    CrOrLf,
}

/// A whole line without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Its beginning, where it is too long.
    pub bytes: Vec<u8>,
    /// Whether it was longer than is kept.
    pub long: bool,
    /// Whether it ended with CR LF. Known of lines that end with LF alone.
    pub crlf: bool,
}

/// Collects the line that is not whole yet, in no more memory than the longest may have.
pub(super) struct Lines {
    ends: Ends,
    most: usize,
    /// One byte more than the longest: it may be the CR.
    start: Vec<u8>,
    /// Bytes of the line so far, kept or not.
    length: usize,
    last: u8,
}

impl Lines {
    /// Lines of at most so many bytes without their end; what is behind these is passed over.
    pub fn new(ends: Ends, most: usize) -> Lines {
        Lines {
            ends,
            most,
            start: Vec::new(),
            length: 0,
            last: 0,
        }
    }

    /// The next line that these bytes make whole; they are moved on behind its end. `None` has taken all of them.
    pub fn next(&mut self, bytes: &mut &[u8]) -> Option<Line> {
        let is_end = |byte: &u8| *byte == b'\n' || self.ends == Ends::CrOrLf && *byte == b'\r';
        let Some(end) = bytes.iter().position(is_end) else {
            self.take(bytes);
            *bytes = &[];
            return None;
        };
        let (line, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
        *bytes = rest.get(1..).unwrap_or(&[]);
        self.take(line);
        let crlf = self.ends == Ends::Lf && self.length > 0 && self.last == b'\r';
        let length = self.length - usize::from(crlf);
        let mut found = std::mem::take(&mut self.start);
        found.truncate(length.min(self.most));
        self.length = 0;
        Some(Line {
            bytes: found,
            long: length > self.most,
            crlf,
        })
    }

    #[cfg(test)]
    pub fn kept(&self) -> usize {
        self.start.capacity()
    }

    fn take(&mut self, bytes: &[u8]) {
        let room = (self.most + 1).saturating_sub(self.start.len());
        self.start
            .extend_from_slice(bytes.get(..room).unwrap_or(bytes));
        self.length = self.length.saturating_add(bytes.len());
        self.last = bytes.last().copied().unwrap_or(self.last);
    }
}

/// What a server may still say. Whoever makes it talk is hung up on, so that it is no amplifier.
pub(super) struct Voice {
    left: usize,
}

impl Voice {
    pub fn new(most: usize) -> Voice {
        Voice { left: most }
    }

    /// One line of these parts, cut where it would be too long, and its end.
    pub fn say(&mut self, out: &mut Vec<u8>, parts: &[&[u8]]) {
        let mut room = LONGEST_SAID - 2;
        for part in parts {
            let part = part.get(..room).unwrap_or(part);
            out.extend_from_slice(part);
            room -= part.len();
        }
        out.extend_from_slice(b"\r\n");
        self.left = self.left.saturating_sub(LONGEST_SAID - room);
    }

    /// Whether it has said what it may: time for a last line.
    pub fn spent(&self) -> bool {
        self.left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(ends: Ends, pieces: &[&[u8]]) -> Vec<Line> {
        let mut lines = Lines::new(ends, 4);
        let mut found = Vec::new();
        for mut piece in pieces.iter().copied() {
            while let Some(line) = lines.next(&mut piece) {
                found.push(line);
            }
            assert!(lines.start.len() <= 5);
        }
        found
    }

    #[test]
    fn a_line_ends_where_its_protocol_says_and_is_cut_where_it_is_too_long() {
        let line = |bytes: &[u8], long, crlf| Line {
            bytes: bytes.to_vec(),
            long,
            crlf,
        };
        assert_eq!(
            read(Ends::Lf, &[b"abcd\r\n\nab\rcd\r\nabcd\rx\r\n\r\n"]),
            [
                line(b"abcd", false, true),
                line(b"", false, false),
                line(b"ab\rc", true, true),
                line(b"abcd", true, true),
                line(b"", false, true),
            ]
        );
        assert_eq!(
            read(Ends::CrOrLf, &[b"a\rb\nabcde\r\nc"]),
            [
                line(b"a", false, false),
                line(b"b", false, false),
                line(b"abcd", true, false),
                line(b"", false, false),
            ]
        );
    }

    proptest! {
        #[test]
        fn lines_are_the_same_in_any_pieces(bytes in "[a\r\n]{0,40}", cr in any::<bool>(), at in 0usize..40) {
            let bytes = bytes.as_bytes();
            let ends = if cr { Ends::CrOrLf } else { Ends::Lf };
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            let (head, tail) = bytes.split_at(at.min(bytes.len()));
            prop_assert_eq!(read(ends, &[bytes]), read(ends, &single));
            prop_assert_eq!(read(ends, &[bytes]), read(ends, &[head, tail]));
        }
    }

    #[test]
    fn a_line_that_is_said_has_at_most_512_bytes_and_counts() {
        let mut voice = Voice::new(520);
        let mut out = Vec::new();
        voice.say(&mut out, &[&[b'a'; 500], &[b'b'; 500], b"c"]);
        assert_eq!(out.len(), 512);
        assert!(out.ends_with(b"b\r\n") && !voice.spent());
        voice.say(&mut out, &[b"123456"]);
        assert!(voice.spent());
    }
}
