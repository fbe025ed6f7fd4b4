//! IRC: what a client says to register (RFC 1459 section 4.1, RFC 2812 section 3.1, IRCv3).
//!
//! A server reads lines, however they are split over segments, ignores or refuses what it does not expect before registration, and goes on.
//! So every line that is there is looked at, and a first line that a server lets pass waits for the next.

use super::Looks;
use super::details::Fields;
use super::text::{Words, begins, line, lines, skip_blanks, skip_line_ends, strip, word};

/// Text, and the ends of empty lines.
pub(super) const STARTS: &[(u8, u8)] =
    &[(b'\t', b'\n'), (b'\r', b'\r'), (0x20, 0x7e), (0x80, 0xff)];

/// Lines that are looked at where some are none of IRC's.
const MOST_LINES: usize = 64;
/// The longest line that a server reads (RFC 1459 section 2.3): a longer one that is not IRC's is not looked behind.
const LONGEST: usize = 512;

/// Lines that a server answers or ignores before registration: whoever says so many and nothing else is taken for a client all the same, so that nobody has to be read line by line for
/// long.
const MOST_IGNORED: usize = 16;

/// What registers, a bit each.
const NICK: u8 = 1;
const USER: u8 = 1 << 1;
const CAP: u8 = 1 << 2;
const JOIN: u8 = 1 << 3;
const OTHER: u8 = 1 << 4;
/// Says nothing alone: other protocols have a PASS too.
const PASS: u8 = 1 << 5;
/// What a server answers or ignores before registration.
const IGNORED: u8 = 1 << 6;

/// One of these is enough, where nothing foreign stands before it.
const ENOUGH: u8 = NICK | USER | CAP | JOIN | OTHER;

/// What a command is: its bit, the parameters it needs, and what the first of them may begin with, where it is not free.
type Command = (u8, usize, &'static [&'static [u8]]);

static COMMANDS: Words<Command> = Words::new(&[
    (b"NICK", (NICK, 1, &[])),
    // Four parameters (RFC 1459 section 4.1.3): FTP and POP3 have a USER with one.
    (b"USER", (USER, 4, &[])),
    (b"PASS", (PASS, 1, &[])),
    (
        b"CAP",
        (
            CAP,
            1,
            &[b"LS", b"REQ", b"END", b"LIST", b":LS", b":END", b":LIST"],
        ),
    ),
    (b"JOIN", (JOIN, 1, &[b"#", b"&", b"+", b"!", b":#", b":&"])),
    (b"AUTHENTICATE", (OTHER, 1, &[])),
    (b"WEBIRC", (OTHER, 4, &[])),
    (b"SERVER", (OTHER, 3, &[])),
    (b"PROTOCTL", (OTHER, 1, &[])),
    // Without a parameter these are other protocols' (Redis PING, POP3 QUIT).
    (b"PING", (IGNORED, 1, &[])),
    (b"PONG", (IGNORED, 1, &[])),
    (b"MODE", (IGNORED, 1, &[])),
    (b"WHO", (IGNORED, 1, &[])),
    (b"WHOIS", (IGNORED, 1, &[])),
    (b"USERHOST", (IGNORED, 1, &[])),
    (b"ISON", (IGNORED, 1, &[])),
    (b"QUIT", (IGNORED, 1, &[])),
    (b"PRIVMSG", (IGNORED, 2, &[])),
    (b"NOTICE", (IGNORED, 2, &[])),
]);

/// What the lines so far are.
#[derive(Default)]
struct Seen {
    kinds: u8,
    /// A line that is no IRC.
    foreign: bool,
}

impl Seen {
    fn is_irc(&self) -> bool {
        if self.foreign {
            // Text of any kind may have one line that looks like it, not two different ones.
            (self.kinds & !IGNORED).count_ones() >= 2
        } else {
            self.kinds & ENOUGH != 0 || self.kinds & PASS != 0 && self.kinds.count_ones() >= 2
        }
    }

    fn waits(&self) -> bool {
        !self.foreign || self.kinds & !IGNORED != 0
    }
}

/// Over TCP. Text that is not IRC is `No` with its first line, and as soon as no command begins like it.
pub fn tcp(bytes: &[u8]) -> Looks {
    let mut seen = Seen::default();
    let mut rest = bytes;
    let mut read = 0;
    loop {
        rest = skip_blanks(skip_line_ends(rest));
        let Some((found, after)) = line(rest) else {
            break;
        };
        rest = after;
        if found.is_empty() {
            continue;
        }
        match kind(found) {
            Some(kind) => seen.kinds |= kind,
            None if found.len() <= LONGEST && is_text(found) => seen.foreign = true,
            None => return Looks::No,
        }
        read += 1;
        if seen.is_irc() || (read > MOST_IGNORED && !seen.foreign) {
            return Looks::Match;
        }
        if read > MOST_LINES {
            return Looks::No;
        }
    }
    if seen.foreign || rest.is_empty() || seen.kinds & !IGNORED != 0 || may_be(rest) {
        if seen.waits() { Looks::More } else { Looks::No }
    } else {
        Looks::No
    }
}

/// The command word and what stands behind it; without tags and prefix. `None` where the line ends with these.
fn command(mut line: &[u8]) -> Option<(&[u8], &[u8])> {
    for mark in [b'@', b':'] {
        if line.first() == Some(&mark) {
            line = skip_blanks(word(line).1);
        }
    }
    (!line.is_empty()).then(|| word(line))
}

/// What this whole line is to a server; `None` is nothing.
fn kind(line: &[u8]) -> Option<u8> {
    let (name, rest) = command(line)?;
    let (kind, needed, firsts) = COMMANDS.find(name)?;
    let first = word(rest).0;
    let enough = parameters(rest, *needed);
    (enough
        && may_start(*kind, first)
        && (firsts.is_empty() || firsts.iter().any(|start| fits(first, start))))
    .then_some(*kind)
}

/// ManageSieve (RFC 5804 section 2.1) quotes what follows its AUTHENTICATE.
fn may_start(kind: u8, first: &[u8]) -> bool {
    kind != OTHER || first.first() != Some(&b'"')
}

/// Whether a first parameter is what it has to be: a word of CAP, or the mark that a channel's name begins with.
fn fits(first: &[u8], start: &[u8]) -> bool {
    if start.last().is_some_and(u8::is_ascii_alphabetic) {
        first.eq_ignore_ascii_case(start)
    } else {
        first.starts_with(start)
    }
}

/// Whether there are so many: words, the last of which may be a text behind a colon.
fn parameters(mut rest: &[u8], needed: usize) -> bool {
    for at in 1..=needed {
        let (found, after) = word(rest);
        if found.is_empty() {
            return false;
        }
        if found.first() == Some(&b':') {
            return at == needed;
        }
        rest = after;
    }
    true
}

/// Whether a line of which this is the beginning may be a command.
fn may_be(start: &[u8]) -> bool {
    let Some((name, rest)) = command(start) else {
        return is_text(start);
    };
    if matches!(name.first(), Some(b'@' | b':')) {
        return is_text(start);
    }
    if rest.is_empty() {
        return COMMANDS.any_begins(name);
    }
    let Some((kind, _, firsts)) = COMMANDS.find(name) else {
        return false;
    };
    let (first, behind) = word(rest);
    let whole = !behind.is_empty();
    may_start(*kind, first)
        && (firsts.is_empty()
            || firsts
                .iter()
                .any(|start| fits(first, start) || !whole && begins(start, first)))
}

/// Whether it can be a line of text: no control characters but the tab. Looks at all of it, which is faster than to stop early.
fn is_text(line: &[u8]) -> bool {
    let fits = |byte: &u8| *byte == b'\t' || !byte.is_ascii_control();
    line.iter().fold(true, |all, byte| all & fits(byte))
}

/// Who registers, and where it wants to go; of a password only that there is one.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    for line in lines(payload) {
        let Some((name, rest)) = command(skip_blanks(line)) else {
            continue;
        };
        let (first, behind) = word(rest);
        let first = strip(first, b":").unwrap_or(first);
        if name.eq_ignore_ascii_case(b"NICK") {
            fields.add("nick", first);
        } else if name.eq_ignore_ascii_case(b"USER") {
            fields.add("user", first);
            fields.add("realname", trailing(word(word(behind).1).1));
        } else if name.eq_ignore_ascii_case(b"JOIN") {
            fields.add("channel", first);
            fields.add("key", trailing(behind));
        } else if name.eq_ignore_ascii_case(b"PASS") && !first.is_empty() {
            fields.add("password", b"given");
        }
    }
}

/// The last parameter, without its colon.
fn trailing(rest: &[u8]) -> &[u8] {
    let rest = skip_blanks(rest);
    match strip(rest, b":") {
        Some(text) => text,
        None => word(rest).0,
    }
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::tcp;
    use crate::app::testing::all;

    #[test]
    fn what_registers_matches_in_any_case_and_with_any_line_end() {
        all(
            tcp,
            Match,
            &[
                "NICK bot\r\n",
                "nick bot\n",
                "NiCk bot\r",
                "\r\n\r\n NICK bot\n",
                "USER a b c :d e\r\n",
                "USER a b c d\n",
                "user\ta  b\tc :\n",
                "CAP LS 302\r\n",
                "cap end\n",
                "JOIN #c\n",
                "JOIN &local key\n",
                "@id=1;x=y NICK bot\n",
                ":bot USER a b c d\n",
                "@a=b :bot  JOIN #c\n",
                "AUTHENTICATE PLAIN\n",
                "WEBIRC pw gate host 192.0.2.1\n",
                "SERVER irc.example 1 :leaf\n",
                "PROTOCTL NOQUIT\n",
                "PASS x\r\nNICK bot\r\n",
                "PASS x\r\nPING y\r\n",
                "PING y\r\nNICK bot\r\n",
                "PRIVMSG #c :hello\nMODE bot +i\nUSER a b c d\n",
            ],
        );
    }

    #[test]
    fn what_may_become_irc_waits() {
        all(
            tcp,
            More,
            &[
                "\r\n",
                "N",
                "nic",
                "NICK",
                "NICK ",
                "NICK bo",
                "USER bob",
                "CAP L",
                "JOIN",
                "JOIN ",
                "@a=b",
                "@a=b ",
                "@a=b :p",
                "@a=b :p ",
                "@a=b :p NI",
                "PASS x\r\n",
                "PASS x\r\nFOO\r\n",
                "PING x\r\n",
                "PING x\r\nN",
                "PRIVMSG #c :x\r\n",
                "FOO\r\nNICK x\r\n",
            ],
        );
    }

    #[test]
    fn what_only_resembles_it_is_no() {
        all(
            tcp,
            No,
            &[
                "NICKEL",
                "NICKEL 1\n",
                "CAPA\r\n",
                "CAPABILITY",
                "JOIN us",
                "JOIN us\n",
                "STARTTLS\r\n",
                "PING\r\n",
                "QUIT\r\n",
                "USER bob\r\n",
                "USER a b c\r\n",
                "USER a :b c d e\r\n",
                "CAP X",
                "CAP LSX\n",
                "AUTHENTICATE \"PLAIN\" \"x\"\r\n",
                "PING x\r\nFOO\r\n",
                "FOO\r\n",
                "FOO",
                "@RSYNCD: 31.0\n",
                "x\x01y\r\nNICK a\r\nUSER a b c d\r\n",
            ],
        );
    }

    #[test]
    fn behind_a_foreign_line_two_commands_are_needed() {
        all(
            tcp,
            Match,
            &[
                "FOO\r\nNICK x\r\nUSER a b c d\r\n",
                "NICK\r\nUSER a b c d\r\nJOIN #x\r\n",
            ],
        );
        all(tcp, No, &["hello\nwho are you\nping me\n"]);
    }
}
