//! Lines and words of the text protocols, as lenient as their servers are.

/// Behind the line ends that it begins with: servers skip empty lines.
pub(super) fn skip_line_ends(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    start.and_then(|start| bytes.get(start..)).unwrap_or(&[])
}

/// Behind the spaces and tabs that it begins with.
pub(crate) fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !is_blank(*byte));
    start.and_then(|start| bytes.get(start..)).unwrap_or(&[])
}

pub(crate) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// The first line without its end, which is LF, CR LF or CR, and what follows. `None` while the end is not there.
pub(super) fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(line_end(bytes)?)
}

/// Where the first CR or LF is. Eight bytes at a time: unknown text is searched to its end.
fn line_end(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const LF: u64 = u64::from_ne_bytes([b'\n'; 8]);
    const CR: u64 = u64::from_ne_bytes([b'\r'; 8]);
    // The highest bit of each byte that is zero, and perhaps of some above it.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & (ONES << 7);
    let (words, rest) = bytes.as_chunks();
    for (at, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let ends = zeros(word ^ LF) | zeros(word ^ CR);
        if ends != 0 {
            return Some(at * 8 + ends.trailing_zeros() as usize / 8);
        }
    }
    let end = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
    Some(words.len() * 8 + end)
}

/// The lines that are whole, none of them empty.
pub(super) fn lines(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (found, rest) = line(skip_line_ends(bytes))?;
        bytes = rest;
        Some(found)
    })
}

/// The first word behind any blanks, and what follows it.
pub(crate) fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let bytes = skip_blanks(bytes);
    let end = bytes.iter().position(|byte| is_blank(*byte));
    bytes
        .split_at_checked(end.unwrap_or(bytes.len()))
        .unwrap_or((bytes, &[]))
}

/// Whether a word is this name, which is in upper case, in any case. The first letter excludes most.
#[inline]
pub(super) fn is(name: &[u8], word: &[u8]) -> bool {
    name.first() == word.first().map(u8::to_ascii_uppercase).as_ref()
        && name.eq_ignore_ascii_case(word)
}

/// Names in upper case, and what is known of each: found by the first letter, in any case.
pub(super) struct Words<T: 'static> {
    entries: &'static [(&'static [u8], T)],
    /// By the low five bits of the first byte, which are the same in either case: whose first letter it may be, a bit each.
    by_first: [u32; 32],
}

impl<T: 'static> Words<T> {
    /// At most 32 names, none of them empty.
    pub const fn new(entries: &'static [(&'static [u8], T)]) -> Words<T> {
        let mut by_first = [0; 32];
        let mut at = 0;
        while at < entries.len() {
            by_first[(entries[at].0[0] & 31) as usize] |= 1 << at;
            at += 1;
        }
        Words { entries, by_first }
    }

    /// What is known of this word.
    #[inline]
    pub fn find(&self, word: &[u8]) -> Option<&'static T> {
        self.first(word, |name| name.eq_ignore_ascii_case(word))
    }

    /// Whether one of the names begins with this part of it.
    pub fn any_begins(&self, part: &[u8]) -> bool {
        part.is_empty() || self.first(part, |name| begins(name, part)).is_some()
    }

    #[inline]
    fn first(&self, word: &[u8], fits: impl Fn(&[u8]) -> bool) -> Option<&'static T> {
        let mut left = self.by_first[usize::from(word.first()? & 31)];
        while left != 0 {
            let (name, known) = self.entries.get(left.trailing_zeros() as usize)?;
            if fits(name) {
                return Some(known);
            }
            left &= left - 1;
        }
        None
    }
}

/// Whether a name begins with this part of it, in any case.
pub(super) fn begins(name: &[u8], part: &[u8]) -> bool {
    name.get(..part.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(part))
}

/// The rest of a text that begins with `start` in any case.
pub(crate) fn strip<'a>(bytes: &'a [u8], start: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(start.len())?;
    head.eq_ignore_ascii_case(start).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_ends_with_the_first_of_its_ends_wherever_it_stands() {
        for at in 0..40 {
            for end in [b'\n', b'\r'] {
                let mut bytes = [0x0b; 40];
                bytes[at] = end;
                bytes[39] = b'\n';
                assert_eq!(line(&bytes), Some(bytes.split_at(at)));
            }
        }
        assert_eq!(line(&[0x0e; 40]), None);
        assert_eq!(line(b"\x8a\x8d\xff\0\x09\x0c"), None);
    }

    #[test]
    fn empty_lines_and_the_one_that_is_not_whole_are_left_out() {
        let found: Vec<_> = lines(b"\r\na b\n\n\rc\r\nd").collect();
        assert_eq!(found, [b"a b".as_slice(), b"c"]);
    }

    #[test]
    fn words_stand_between_blanks() {
        assert_eq!(word(b" \ta  b"), (&b"a"[..], &b"  b"[..]));
        assert_eq!(word(b"  "), (&b""[..], &b""[..]));
        assert!(is(b"NICK", b"nIcK") && !is(b"NICK", b"NIC") && !is(b"NICK", b""));
        assert!(begins(b"NICK", b"ni") && !begins(b"NICK", b"NICKS"));
    }

    #[test]
    fn a_word_is_found_by_its_first_letter_in_any_case() {
        static WORDS: Words<u8> = Words::new(&[(b"NICK", 1), (b"NOTICE", 2), (b"USER", 3)]);
        for (word, known) in [(&b"NICK"[..], 1), (b"notice", 2), (b"uSeR", 3)] {
            assert_eq!(WORDS.find(word), Some(&known));
            assert!((0..=word.len()).all(|end| WORDS.any_begins(&word[..end])));
        }
        // The last begins with a byte that has the low bits of an N.
        for other in [&b""[..], b"NIC", b"NICKS", b"x", b".ICK"] {
            assert_eq!(WORDS.find(other), None);
        }
        assert!(!WORDS.any_begins(b"NICKS") && !WORDS.any_begins(b".I"));
    }
}
