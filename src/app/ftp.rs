//! FTP: what a client says first (RFC 959 section 4.1, RFC 2228, RFC 2389, RFC 7151).
//!
//! `USER name` is also what a client of POP3 (RFC 1939) says first. The two cannot be told apart by it, and it counts as FTP.

use super::Looks;
use super::details::Fields;
use super::text::{Words, begins, is, line, lines, skip_line_ends, word};

pub(super) const STARTS: &[(u8, u8)] = &[
    (b'\t', b'\n'),
    (b'\r', b'\r'),
    (b' ', b' '),
    (b'A', b'A'),
    (b'F', b'F'),
    (b'H', b'H'),
    (b'N', b'N'),
    (b'S', b'S'),
    (b'U', b'U'),
    (b'a', b'a'),
    (b'f', b'f'),
    (b'h', b'h'),
    (b'n', b'n'),
    (b's', b's'),
    (b'u', b'u'),
];

/// What a command is.
enum Command {
    /// With so many parameters, and what the first of them may be, where it is not free.
    Says(usize, &'static [&'static [u8]]),
    /// A server answers it, and goes on.
    Nothing,
}

static COMMANDS: Words<Command> = Words::new(&[
    (b"USER", Command::Says(1, &[])),
    // Not the mechanisms of SASL, which POP3 and SMTP have here.
    (
        b"AUTH",
        Command::Says(1, &[b"TLS", b"SSL", b"TLS-C", b"TLS-P", b"GSSAPI"]),
    ),
    (b"FEAT", Command::Says(0, &[])),
    (b"SYST", Command::Says(0, &[])),
    (b"HOST", Command::Says(1, &[])),
    (b"ACCT", Command::Says(1, &[])),
    (b"NOOP", Command::Nothing),
]);

/// Over TCP: a match once the line is whole that says so.
pub fn tcp(bytes: &[u8]) -> Looks {
    let mut rest = bytes;
    loop {
        rest = skip_line_ends(rest);
        let Some((found, after)) = line(rest) else {
            return start(rest);
        };
        rest = after;
        let (name, behind) = word(found);
        match COMMANDS.find(name) {
            Some(Command::Nothing) => {}
            Some(Command::Says(needed, firsts)) if fits(*needed, firsts, behind) => {
                return Looks::Match;
            }
            _ => return Looks::No,
        }
    }
}

/// Whether these are the parameters of a command that needs so many.
fn fits(needed: usize, firsts: &[&[u8]], rest: &[u8]) -> bool {
    let (first, behind) = word(rest);
    let count = usize::from(!first.is_empty()) + usize::from(!word(behind).0.is_empty());
    count == needed && (firsts.is_empty() || firsts.iter().any(|word| is(word, first)))
}

/// Whether a line that begins so may be a command.
fn start(rest: &[u8]) -> Looks {
    let (name, behind) = word(rest);
    let (first, behind_first) = word(behind);
    let may = if behind.is_empty() {
        COMMANDS.any_begins(name)
    } else {
        match COMMANDS.find(name) {
            Some(Command::Nothing) => true,
            Some(Command::Says(needed, firsts)) => {
                (first.is_empty() || *needed == 1)
                    && word(behind_first).0.is_empty()
                    && (firsts.is_empty() || firsts.iter().any(|word| begins(word, first)))
            }
            None => false,
        }
    };
    if may { Looks::More } else { Looks::No }
}

/// Who logs in.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    for line in lines(payload) {
        let (name, rest) = word(line);
        if name.eq_ignore_ascii_case(b"USER") {
            fields.add("user", word(rest).0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::tcp;
    use crate::app::testing::all;

    #[test]
    fn what_a_client_says_first_matches() {
        all(
            tcp,
            Match,
            &[
                "USER bob\r\n",
                "user  bob \n",
                "AUTH TLS\r\n",
                "auth ssl\n",
                "FEAT\r\n",
                "SYST\r\n",
                "HOST a.b\n",
                "NOOP\nACCT x\n",
            ],
        );
    }

    #[test]
    fn what_is_not_whole_waits() {
        all(
            tcp,
            More,
            &[
                "",
                "U",
                "user",
                "USER b",
                "USER bob ",
                "AUTH",
                "AUTH T",
                "FEAT",
                "FEAT ",
                "NOOP",
                "NOOP\r\n",
            ],
        );
    }

    #[test]
    fn what_is_of_others_is_no() {
        all(
            tcp,
            No,
            &[
                "USER a b c :d\r\n",
                "USER a b",
                "USERS",
                "AUTH PLAIN\r\n",
                "AUTH C",
                "FEAT x",
                "FEATURE",
                "CAPA\r\n",
                "PASS x\r\n",
                "USER\r\n",
            ],
        );
    }
}
