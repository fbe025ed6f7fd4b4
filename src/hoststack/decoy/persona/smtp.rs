//! SMTP as a server speaks it (RFC 5321). It takes a message, and then has an error of its own that will pass, so that nothing is said to be
//! delivered and the sender does not give up. The words are those of a server that is met everywhere.

use super::line::{Ends, Line, Lines, Voice};
#[cfg(test)]
use super::testing::allocated;
use super::{Learned, Limits, Manners, Next, keep};
use crate::app::safe_text;
use crate::app::text::{skip_blanks, strip, word};

/// Without the line's end. With it, any server has to take 512 bytes of a command, and 1000 of a text line (RFC 5321 section 4.5.3.1).
const LONGEST_LINE: usize = 1000;
/// What any server has to take (RFC 5321 section 4.5.3.1.8).
const MOST_RECIPIENTS: usize = 100;
/// Recipients that are remembered.
const RECIPIENTS_KEPT: usize = 16;
/// Refusals in a conversation before the server hangs up.
const MOST_ERRORS: usize = 20;
const BODY_KEPT: usize = 1024;

/// How far a transaction is (RFC 5321 section 4.1.4).
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Greeted,
    Sender,
    Recipients,
    /// Whether the line before ended with CR LF, as a dot that ends a message needs.
    Headers {
        crlf: bool,
    },
    Body {
        crlf: bool,
    },
}

pub(super) struct Smtp {
    name: Vec<u8>,
    content: usize,
    lines: Lines,
    voice: Voice,
    state: State,
    errors: usize,
    /// Of this transaction.
    recipients: usize,
    /// Of this message.
    bytes: usize,
    /// The header that goes on in the next line, if it is one that matters.
    header: Option<Header>,
    seen: Seen,
}

#[derive(Clone, Copy)]
enum Header {
    Subject,
    From,
    To,
}

/// What is for the alert: of the first transaction, but all recipients.
#[derive(Default)]
struct Seen {
    helo: Vec<u8>,
    from: Vec<u8>,
    to: Vec<Vec<u8>>,
    /// More than are remembered.
    more: usize,
    subject: Vec<u8>,
    header_from: Vec<u8>,
    header_to: Vec<u8>,
    body: Vec<u8>,
    /// Messages begun, and their bytes.
    messages: usize,
    bytes: usize,
}

impl Smtp {
    pub fn new(name: Vec<u8>, limits: Limits) -> Smtp {
        Smtp {
            name,
            content: limits.content,
            lines: Lines::new(Ends::Lf, LONGEST_LINE),
            voice: Voice::new(limits.said),
            state: State::New,
            errors: 0,
            recipients: 0,
            bytes: 0,
            header: None,
            seen: Seen::default(),
        }
    }

    fn command(&mut self, line: &Line, out: &mut Vec<u8>) -> Next {
        if line.long {
            self.refuse(out, b"500 5.5.2 Error: line too long");
            return Next::More;
        }
        let (command, rest) = word(&line.bytes);
        match &command.to_ascii_uppercase()[..] {
            b"EHLO" | b"HELO" if skip_blanks(rest).is_empty() => {
                self.refuse(out, b"501 5.5.4 Syntax: EHLO hostname");
            }
            b"HELO" => {
                self.greeted(rest);
                let name = self.name.clone();
                self.say(out, &[b"250 ", &name]);
            }
            b"EHLO" => {
                self.greeted(rest);
                let name = self.name.clone();
                self.say(out, &[b"250-", &name]);
                self.say(out, &[b"250-SIZE 10240000"]);
                self.say(out, &[b"250 8BITMIME"]);
            }
            b"MAIL" => self.mail(rest, out),
            b"RCPT" => self.recipient(rest, out),
            b"DATA" => self.data(out),
            b"RSET" => {
                if self.state != State::New {
                    self.state = State::Greeted;
                }
                self.say(out, &[b"250 2.0.0 Ok"]);
            }
            b"NOOP" => self.say(out, &[b"250 2.0.0 Ok"]),
            b"VRFY" => self.say(out, &[b"252 2.0.0 Cannot VRFY user"]),
            b"QUIT" => {
                self.say(out, &[b"221 2.0.0 Bye"]);
                return Next::Close;
            }
            b"STARTTLS" | b"AUTH" | b"BDAT" | b"EXPN" | b"HELP" | b"TURN" | b"ETRN" => {
                self.refuse(out, b"502 5.5.1 Error: command not implemented");
            }
            _ => self.refuse(out, b"500 5.5.2 Error: command not recognized"),
        }
        Next::More
    }

    /// A greeting also ends a transaction (RFC 5321 section 4.1.4).
    fn greeted(&mut self, rest: &[u8]) {
        self.state = State::Greeted;
        first(&mut self.seen.helo, skip_blanks(rest).trim_ascii_end());
    }

    fn mail(&mut self, rest: &[u8], out: &mut Vec<u8>) {
        match (self.state, path(rest, b"FROM:")) {
            (State::New, _) => self.refuse(out, b"503 5.5.1 Error: send HELO/EHLO first"),
            (State::Greeted, Some(path)) => {
                // A null sender is one too (RFC 5321 section 4.5.5).
                first(
                    &mut self.seen.from,
                    if path.is_empty() { b"<>" } else { path },
                );
                self.state = State::Sender;
                self.recipients = 0;
                self.say(out, &[b"250 2.1.0 Ok"]);
            }
            (State::Greeted, None) => self.refuse(out, b"501 5.5.4 Syntax: MAIL FROM:<address>"),
            _ => self.refuse(out, b"503 5.5.1 Error: nested MAIL command"),
        }
    }

    fn recipient(&mut self, rest: &[u8], out: &mut Vec<u8>) {
        if !matches!(self.state, State::Sender | State::Recipients) {
            return self.refuse(out, b"503 5.5.1 Error: need MAIL command");
        }
        let Some(path) = path(rest, b"TO:").filter(|path| !path.is_empty()) else {
            return self.refuse(out, b"501 5.5.4 Syntax: RCPT TO:<address>");
        };
        if self.seen.to.len() < RECIPIENTS_KEPT {
            self.seen.to.push(keep(path));
        } else {
            self.seen.more += 1;
        }
        if self.recipients == MOST_RECIPIENTS {
            return self.refuse(out, b"452 4.5.3 Error: too many recipients");
        }
        self.recipients += 1;
        self.state = State::Recipients;
        self.say(out, &[b"250 2.1.5 Ok"]);
    }

    fn data(&mut self, out: &mut Vec<u8>) {
        match self.state {
            State::Recipients => {
                self.seen.messages += 1;
                self.bytes = 0;
                self.header = None;
                self.state = State::Headers { crlf: true };
                self.say(out, &[b"354 End data with <CR><LF>.<CR><LF>"]);
            }
            State::Sender => self.refuse(out, b"503 5.5.1 Error: need RCPT command"),
            _ => self.refuse(out, b"503 5.5.1 Error: need MAIL command"),
        }
    }

    /// A line of a message. Its end is CR LF, a dot, CR LF and nothing else (RFC 5321 section 4.1.1.4).
    fn content(&mut self, line: &Line, out: &mut Vec<u8>) {
        let (in_headers, crlf) = match self.state {
            State::Headers { crlf } => (true, crlf),
            State::Body { crlf } => (false, crlf),
            _ => return,
        };
        if crlf && line.crlf && line.bytes == b"." {
            // The dot's line is no part of it.
            self.seen.bytes += self.bytes.saturating_sub(3);
            self.bytes = 0;
            self.state = State::Greeted;
            return self.say(out, &[b"451 4.3.0 Error: queue file write error"]);
        }
        // RFC 5321 section 4.5.2.
        let text = match line.bytes.strip_prefix(b".") {
            Some(rest) if crlf => rest,
            _ => &line.bytes,
        };
        let crlf = line.crlf;
        let headers_end = in_headers && text.is_empty();
        self.state = if in_headers && !headers_end {
            State::Headers { crlf }
        } else {
            State::Body { crlf }
        };
        if self.seen.messages > 1 || headers_end {
            return;
        }
        if in_headers {
            self.header_line(text);
        } else {
            let room = BODY_KEPT.saturating_sub(self.seen.body.len());
            let kept = text.iter().chain(b"\n").take(room);
            self.seen.body.extend(kept);
        }
    }

    /// A header that begins with a blank goes on (RFC 5322 section 2.2.3).
    fn header_line(&mut self, text: &[u8]) {
        let is_more = matches!(text.first(), Some(b' ' | b'\t'));
        let value = if is_more {
            text
        } else {
            let names = [
                (&b"subject:"[..], Header::Subject),
                (b"from:", Header::From),
                (b"to:", Header::To),
            ];
            let known = names
                .iter()
                .find_map(|(name, header)| Some((strip(text, name)?, *header)));
            self.header = known.map(|(_, header)| header);
            known.map_or(&[][..], |(value, _)| value)
        };
        let into = match self.header {
            Some(Header::Subject) => &mut self.seen.subject,
            Some(Header::From) => &mut self.seen.header_from,
            Some(Header::To) => &mut self.seen.header_to,
            None => return,
        };
        let value = value.trim_ascii();
        if into.is_empty() {
            *into = keep(value);
        } else if is_more {
            *into = keep(&[&into[..], b" ", value].concat());
        }
    }

    fn refuse(&mut self, out: &mut Vec<u8>, why: &[u8]) {
        self.errors += 1;
        self.say(out, &[why]);
    }

    fn say(&mut self, out: &mut Vec<u8>, parts: &[&[u8]]) {
        self.voice.say(out, parts);
    }

    fn in_message(&self) -> bool {
        matches!(self.state, State::Headers { .. } | State::Body { .. })
    }
}

impl Manners for Smtp {
    fn greet(&mut self, out: &mut Vec<u8>) {
        let name = self.name.clone();
        self.say(out, &[b"220 ", &name, b" ESMTP"]);
    }

    fn hear(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Next {
        loop {
            let before = bytes.len();
            let line = self.lines.next(&mut bytes);
            if self.in_message() {
                self.bytes += before - bytes.len();
                if self.bytes > self.content {
                    self.bytes = self.content;
                    self.say(out, &[b"451 4.3.1 Error: insufficient system storage"]);
                    return Next::Close;
                }
            }
            let Some(line) = line else {
                return Next::More;
            };
            if self.in_message() {
                self.content(&line, out);
            } else if self.command(&line, out) == Next::Close {
                return Next::Close;
            }
            if self.errors > MOST_ERRORS || self.voice.spent() {
                let name = self.name.clone();
                self.say(out, &[b"421 4.7.0 ", &name, b" Error: too many errors"]);
                return Next::Close;
            }
        }
    }

    fn learned(&self, fields: &mut Learned) {
        let seen = &self.seen;
        fields.add("helo", &seen.helo);
        fields.add("mail_from", &seen.from);
        fields.add_list("rcpt_to", &seen.to);
        if seen.more > 0 {
            let all = seen.to.len() + seen.more;
            fields.add_text("recipients", all.to_string());
        }
        fields.add("subject", &seen.subject);
        fields.add("header_from", &seen.header_from);
        fields.add("header_to", &seen.header_to);
        fields.add_text("body", safe_text(&seen.body, BODY_KEPT));
        if seen.messages > 0 {
            fields.add_text("messages", seen.messages.to_string());
            let bytes = seen.bytes.saturating_add(self.bytes);
            fields.add_text("bytes", bytes.to_string());
        }
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        let seen = &self.seen;
        let headers = [&seen.subject, &seen.header_from, &seen.header_to];
        let texts = [&seen.helo, &seen.from, &seen.body];
        self.lines.kept() + allocated(seen.to.iter().chain(headers).chain(texts))
    }
}

/// The first that is said is kept.
fn first(kept: &mut Vec<u8>, said: &[u8]) {
    if kept.is_empty() {
        *kept = keep(said);
    }
}

/// The path behind its key word, without the angle brackets, as leniently as servers read it. `None` is no path.
fn path<'a>(rest: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let rest = skip_blanks(strip(skip_blanks(rest), key)?);
    match rest.strip_prefix(b"<") {
        Some(path) => {
            let end = path.iter().position(|byte| *byte == b'>')?;
            path.get(..end)
        }
        None => Some(word(rest).0).filter(|path| !path.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Split, dialogue, hear};
    use super::super::{Kind, Limits, Next};

    const GREETING: (&str, &str) = ("", "220 x.example ESMTP\r\n");
    const EHLO: (&str, &str) = (
        "EHLO pc\r\n",
        "250-x.example\r\n250-SIZE 10240000\r\n250 8BITMIME\r\n",
    );

    #[test]
    fn a_mail_is_taken_and_fails_for_now() {
        let learned = dialogue(
            Kind::Smtp,
            &[
                GREETING,
                EHLO,
                ("mail from:<a@b.example> SIZE=300\r\n", "250 2.1.0 Ok\r\n"),
                ("RCPT TO:<c@d.example>\r\n", "250 2.1.5 Ok\r\n"),
                ("RCPT TO: <e@f.example>\r\n", "250 2.1.5 Ok\r\n"),
                ("DATA\r\n", "354 End data with <CR><LF>.<CR><LF>\r\n"),
                (
                    "Received: x\r\n y\r\nSubject: Buy\r\n\tthis \x1b[2J\r\nfrom: Boss <b@b>\r\n",
                    "",
                ),
                (
                    "To: you\r\nTo: not this\r\n\r\nHello\r\n..dot\r\n.x\r\n\n.\n.\r\n\r\n",
                    "",
                ),
                (".\r\n", "451 4.3.0 Error: queue file write error\r\n"),
                ("QUIT\r\n", "221 2.0.0 Bye\r\n"),
            ],
            Next::Close,
        );
        let expected = [
            ("helo", "pc"),
            ("mail_from", "a@b.example"),
            ("rcpt_to", "c@d.example, e@f.example"),
            ("subject", "Buy this \\x1b[2J"),
            ("header_from", "Boss <b@b>"),
            ("header_to", "you"),
            ("body", "Hello\\x0a.dot\\x0ax\\x0a\\x0a.\\x0a.\\x0a\\x0a"),
            ("messages", "1"),
            ("bytes", "112"),
        ];
        assert_eq!(
            learned,
            expected.map(|(name, value)| (name, value.to_owned()))
        );
    }

    #[test]
    fn commands_may_come_before_the_answers_to_the_last() {
        dialogue(
            Kind::Smtp,
            &[
                GREETING,
                EHLO,
                (
                    "MAIL FROM:<>\r\nRCPT TO:<c@d>\r\nDATA\r\n",
                    "250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 End data with <CR><LF>.<CR><LF>\r\n",
                ),
                (
                    ".\r\nMAIL FROM:<a@b>\r\nRSET\r\nQUIT\r\nNOOP\r\n",
                    "451 4.3.0 Error: queue file write error\r\n250 2.1.0 Ok\r\n250 2.0.0 Ok\r\n221 2.0.0 Bye\r\n",
                ),
            ],
            Next::Close,
        );
    }

    #[test]
    fn what_is_out_of_order_or_not_offered_is_refused() {
        let not = "502 5.5.1 Error: command not implemented\r\n";
        dialogue(
            Kind::Smtp,
            &[
                GREETING,
                (
                    "MAIL FROM:<a@b>\r\n",
                    "503 5.5.1 Error: send HELO/EHLO first\r\n",
                ),
                ("EHLO\r\n", "501 5.5.4 Syntax: EHLO hostname\r\n"),
                ("HELO pc\n", "250 x.example\r\n"),
                (
                    "RCPT TO:<a@b>\r\n",
                    "503 5.5.1 Error: need MAIL command\r\n",
                ),
                ("DATA\r\n", "503 5.5.1 Error: need MAIL command\r\n"),
                ("MAIL a@b\r\n", "501 5.5.4 Syntax: MAIL FROM:<address>\r\n"),
                ("MAIL FROM:a@b\r\n", "250 2.1.0 Ok\r\n"),
                (
                    "MAIL FROM:<a@b>\r\n",
                    "503 5.5.1 Error: nested MAIL command\r\n",
                ),
                ("DATA\r\n", "503 5.5.1 Error: need RCPT command\r\n"),
                ("RCPT TO:<>\r\n", "501 5.5.4 Syntax: RCPT TO:<address>\r\n"),
                ("RSET\r\n", "250 2.0.0 Ok\r\n"),
                (
                    "RCPT TO:<a@b>\r\n",
                    "503 5.5.1 Error: need MAIL command\r\n",
                ),
                ("STARTTLS\r\n", not),
                ("AUTH LOGIN\r\n", not),
                ("BDAT 0 LAST\r\n", not),
                ("VRFY root\r\n", "252 2.0.0 Cannot VRFY user\r\n"),
                (
                    "GET / HTTP/1.1\r\n",
                    "500 5.5.2 Error: command not recognized\r\n",
                ),
                ("\r\n", "500 5.5.2 Error: command not recognized\r\n"),
            ],
            Next::More,
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_one_error() {
        let bytes = format!("NOOP {}\r\nQUIT\r\n", "x".repeat(5000));
        let heard = hear(
            Kind::Smtp,
            Limits::default(),
            bytes.as_bytes(),
            Split::Whole,
        );
        let expected = "220 x.example ESMTP\r\n500 5.5.2 Error: line too long\r\n221 2.0.0 Bye\r\n";
        assert_eq!(String::from_utf8(heard.out).unwrap(), expected);
    }

    fn begun(rest: &str) -> String {
        format!("EHLO pc\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\n{rest}")
    }

    #[test]
    fn a_message_over_the_bound_is_hung_up_on() {
        for text in ["x".repeat(90_000), "x\r\n".repeat(30_000)] {
            let bytes = begun(&format!("DATA\r\n{text}"));
            for split in [Split::Whole, Split::Bytes] {
                let heard = hear(Kind::Smtp, Limits::default(), bytes.as_bytes(), split);
                assert_eq!(heard.next, Next::Close);
                assert!(
                    heard
                        .out
                        .ends_with(b"\n451 4.3.1 Error: insufficient system storage\r\n")
                );
                assert!(heard.learned.contains(&("bytes", "65536".to_owned())));
            }
        }
    }

    #[test]
    fn recipients_are_counted_and_the_first_are_kept() {
        let bytes = begun(&"RCPT TO:<e@f>\r\n".repeat(105));
        let heard = hear(
            Kind::Smtp,
            Limits::default(),
            bytes.as_bytes(),
            Split::Whole,
        );
        let out = String::from_utf8(heard.out).unwrap();
        assert_eq!(out.matches("250 2.1.5 Ok").count(), 100);
        assert_eq!(
            out.matches("452 4.5.3 Error: too many recipients").count(),
            6
        );
        assert!(heard.learned.contains(&("recipients", "106".to_owned())));
    }

    #[test]
    fn who_makes_errors_only_is_hung_up_on() {
        let heard = hear(
            Kind::Smtp,
            Limits::default(),
            &b"X\r\n".repeat(50),
            Split::Whole,
        );
        let out = String::from_utf8(heard.out).unwrap();
        assert_eq!(out.matches("500 5.5.2").count(), 21);
        assert!(out.ends_with("421 4.7.0 x.example Error: too many errors\r\n"));
        assert_eq!(heard.next, Next::Close);
    }
}
