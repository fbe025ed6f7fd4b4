//! SMTP (RFC 5321 section 4.1.1) and LMTP (RFC 2033): the client's greeting, or a transaction without one.

use super::Looks;
use super::details::{Fields, joined};
use super::text::{Words, begins, line, lines, skip_line_ends, strip, word};

pub(super) const STARTS: &[(u8, u8)] = &[
    (b'\t', b'\n'),
    (b'\r', b'\r'),
    (b' ', b' '),
    (b'E', b'E'),
    (b'H', b'H'),
    (b'L', b'N'),
    (b'R', b'R'),
    (b'V', b'V'),
    (b'X', b'X'),
    (b'e', b'e'),
    (b'h', b'h'),
    (b'l', b'n'),
    (b'r', b'r'),
    (b'v', b'v'),
    (b'x', b'x'),
];

/// What a command is.
#[derive(PartialEq)]
enum Command {
    Greeting,
    Mail,
    /// What a server answers before a greeting, and goes on.
    Before,
}

static COMMANDS: Words<Command> = Words::new(&[
    (b"EHLO", Command::Greeting),
    (b"HELO", Command::Greeting),
    (b"LHLO", Command::Greeting),
    (b"MAIL", Command::Mail),
    (b"NOOP", Command::Before),
    (b"RSET", Command::Before),
    (b"HELP", Command::Before),
    (b"VRFY", Command::Before),
    (b"EXPN", Command::Before),
    (b"XCLIENT", Command::Before),
    (b"XFORWARD", Command::Before),
]);
const FROM: &[u8] = b"FROM:";

/// Lines before a greeting that are read.
const MOST_BEFORE: usize = 16;

/// Over TCP: a match once the line is whole that says so.
pub fn tcp(bytes: &[u8]) -> Looks {
    let mut rest = bytes;
    // Whoever says so many of these and nothing else is a client all the same, and is not read line by line for long.
    for _ in 0..MOST_BEFORE {
        rest = skip_line_ends(rest);
        let Some((found, after)) = line(rest) else {
            return start(rest);
        };
        rest = after;
        let (name, behind) = word(found);
        let argument = word(behind).0;
        match COMMANDS.find(name) {
            // Without a name it is refused, and may be said again.
            Some(Command::Greeting) if argument.is_empty() => {}
            Some(Command::Greeting) => return Looks::Match,
            Some(Command::Mail) if begins(argument, FROM) => return Looks::Match,
            Some(Command::Before) => {}
            Some(Command::Mail) | None => return Looks::No,
        }
    }
    Looks::Match
}

/// Whether a line that begins so may be a command.
fn start(rest: &[u8]) -> Looks {
    let (name, behind) = word(rest);
    let may = if behind.is_empty() {
        COMMANDS.any_begins(name)
    } else {
        match COMMANDS.find(name) {
            Some(Command::Mail) => {
                let argument = word(behind).0;
                begins(FROM, argument) || begins(argument, FROM)
            }
            found => found.is_some(),
        }
    };
    if may { Looks::More } else { Looks::No }
}

/// Whether a server greets so (RFC 5321 section 4.2): 220, and the protocol's name, as nearly all do.
pub(super) fn greets(server: &[u8]) -> bool {
    let greeting = server
        .strip_prefix(b"220 ")
        .or_else(|| server.strip_prefix(b"220-"));
    greeting.is_some_and(|text| {
        text.windows(4)
            .any(|part| part.eq_ignore_ascii_case(b"SMTP"))
    })
}

/// Who says it is, and from whom to whom.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    let mut to = Vec::new();
    for line in lines(payload) {
        let (name, rest) = word(line);
        let known = COMMANDS.find(name);
        if known == Some(&Command::Greeting) {
            fields.add("helo", word(rest).0);
        } else if known == Some(&Command::Mail) {
            fields.add("from", path(rest, FROM));
        } else if name.eq_ignore_ascii_case(b"RCPT") {
            to.push(path(rest, b"TO:"));
        } else if name.eq_ignore_ascii_case(b"DATA") {
            break;
        }
    }
    fields.add("to", &joined(to));
}

/// The path behind its key word, without the angle brackets.
fn path<'a>(rest: &'a [u8], key: &[u8]) -> &'a [u8] {
    let (first, behind) = word(rest);
    let Some(mut path) = strip(first, key) else {
        return &[];
    };
    if path.is_empty() {
        path = word(behind).0;
    }
    let path = path.strip_prefix(b"<").unwrap_or(path);
    path.strip_suffix(b">").unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::{greets, tcp};
    use crate::app::testing::all;

    #[test]
    fn a_greeting_or_a_sender_matches() {
        all(
            tcp,
            Match,
            &[
                "EHLO host\r\n",
                "helo host\n",
                "\r\nLHLO  host\r\n",
                "NOOP\r\nHELP\r\nEHLO x\r\n",
                "HELO\r\nHELO x\r\n",
                "MAIL FROM:<a@b>\r\n",
                "mail  from: a@b\r\n",
            ],
        );
    }

    #[test]
    fn a_command_that_is_not_whole_waits() {
        all(
            tcp,
            More,
            &[
                "",
                "\r\n",
                "E",
                "ehl",
                "EHLO ",
                "EHLO host",
                "NOOP\r\n",
                "HELO\r\n",
                "MAIL",
                "MAIL FRO",
            ],
        );
    }

    #[test]
    fn other_text_is_no() {
        all(
            tcp,
            No,
            &[
                "EHLOX",
                "HELLO",
                "HELLO x\r\n",
                "MAIL TO",
                "MAILBOX",
                "NOOP\r\nUSER x\r\n",
                "LIST\r\n",
                "STARTTLS\r\n",
            ],
        );
    }

    #[test]
    fn a_server_greets_with_220_and_the_name_of_the_protocol() {
        assert!(greets(b"220 mx.example ESMTP Postfix\r\n"));
        assert!(greets(b"220-mx smtp service\r\n220 ready\r\n"));
        assert!(!greets(b"220 ftp ready\r\n"));
        assert!(!greets(b"554 no SMTP here\r\n"));
    }
}
