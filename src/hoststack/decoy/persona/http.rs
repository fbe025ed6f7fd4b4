//! HTTP/1.1 as a server speaks it that has no time (RFC 9112): it reads one request with its body, and says 503.

#[cfg(test)]
use super::testing::allocated;
use super::{Learned, Limits, Manners, Next, keep};
use crate::app::text::word;

/// The longest head of a request, and the longest method.
const LONGEST_HEAD: usize = 8 * 1024;
const LONGEST_METHOD: usize = 32;

// A server without a clock says no Date (RFC 9110 section 6.6.1).
const UNAVAILABLE: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 120\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
const BAD: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
/// RFC 6585 section 5.
const TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// The last chunk without trailers, and the end of what is before it (RFC 9112 section 7.1).
const LAST_CHUNK: &[u8; 7] = b"\r\n0\r\n\r\n";

enum State {
    /// What there is of the head.
    Head(Vec<u8>),
    /// Bytes of the body that are still to come.
    Body(usize),
    /// The last bytes of a body that is chunked.
    Chunks([u8; 7]),
}

pub(super) struct Http {
    content: usize,
    state: State,
    /// Of the body.
    bytes: usize,
    seen: Seen,
}

/// What is for the alert; of secrets only that there are some.
#[derive(Default)]
struct Seen {
    method: Vec<u8>,
    host: Vec<u8>,
    path: Vec<u8>,
    agent: Vec<u8>,
    authorization: Vec<u8>,
    cookie: bool,
}

/// How the body of a request ends, as far as its head is read (RFC 9112 section 6.3).
#[derive(Default)]
struct Framing {
    length: Option<usize>,
    chunked: bool,
    /// The client waits for an answer before it sends the body (RFC 9110 section 10.1.1).
    waits: bool,
}

impl Http {
    pub fn new(limits: Limits) -> Http {
        Http {
            content: limits.content,
            state: State::Head(Vec::new()),
            bytes: 0,
            seen: Seen::default(),
        }
    }

    /// One byte; the answer, if it was the last that is needed.
    fn byte(&mut self, byte: u8) -> Option<&'static [u8]> {
        match &mut self.state {
            State::Head(head) => {
                // Empty lines before a request are passed over (RFC 9112 section 2.2).
                if head.is_empty() && matches!(byte, b'\r' | b'\n') {
                    return None;
                }
                head.push(byte);
                if byte == b'\n' {
                    return self.head_line();
                }
                if !head.contains(&b' ') {
                    // Whatever is no method is known at once: TLS, say, has no line end to wait for.
                    let fits = is_token(byte) && head.len() <= LONGEST_METHOD;
                    return (!fits).then_some(BAD);
                }
                (head.len() >= LONGEST_HEAD).then(|| {
                    let head = std::mem::take(head);
                    self.seen.request_line(&head);
                    TOO_LARGE
                })
            }
            State::Body(left) => {
                *left = left.saturating_sub(1);
                self.bytes += 1;
                (*left == 0 || self.bytes >= self.content).then_some(UNAVAILABLE)
            }
            State::Chunks(last) => {
                last.rotate_left(1);
                last[6] = byte;
                self.bytes += 1;
                (last == LAST_CHUNK || self.bytes >= self.content).then_some(UNAVAILABLE)
            }
        }
    }

    /// A line of the head is whole.
    fn head_line(&mut self) -> Option<&'static [u8]> {
        let State::Head(head) = &mut self.state else {
            return None;
        };
        let is_end = head.ends_with(b"\n\n") || head.ends_with(b"\n\r\n");
        // A request line that is taken has a method.
        let is_first = self.seen.method.is_empty();
        if is_first && !self.seen.request_line(head) {
            return Some(BAD);
        }
        if !is_end {
            return (head.len() >= LONGEST_HEAD).then_some(TOO_LARGE);
        }
        let head = std::mem::take(head);
        let Some(framing) = self.seen.fields(&head) else {
            return Some(BAD);
        };
        if framing.waits || self.content == 0 {
            return Some(UNAVAILABLE);
        }
        match (framing.chunked, framing.length) {
            (true, _) => self.state = State::Chunks(*b"     \r\n"),
            (false, None | Some(0)) => return Some(UNAVAILABLE),
            (false, Some(length)) => self.state = State::Body(length),
        }
        None
    }
}

impl Seen {
    /// Method, target and version (RFC 9112 section 3), in any of the target's forms. Whether it is a request of this version.
    fn request_line(&mut self, head: &[u8]) -> bool {
        let end = head.iter().position(|byte| *byte == b'\n');
        let line = head.get(..end.unwrap_or(head.len())).unwrap_or(head);
        let (method, rest) = word(line.trim_ascii_end());
        let (target, rest) = word(rest);
        self.method = keep(method);
        self.path = keep(target);
        let version = rest.trim_ascii();
        let is_version = matches!(version, [b'H', b'T', b'T', b'P', b'/', b'1', b'.', minor] if minor.is_ascii_digit());
        is_version && !target.is_empty()
    }

    /// The header fields. `None` is a length that is none, or two of them (RFC 9112 section 6.3).
    fn fields(&mut self, head: &[u8]) -> Option<Framing> {
        let mut framing = Framing::default();
        for line in head.split(|byte| *byte == b'\n').skip(1) {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else {
                continue;
            };
            let (name, value) = line.split_at_checked(colon)?;
            let value = value.get(1..)?.trim_ascii();
            match &name.to_ascii_lowercase()[..] {
                b"host" => self.host = keep(value),
                b"user-agent" => self.agent = keep(value),
                b"authorization" | b"proxy-authorization" => self.authorization = scheme(value),
                b"cookie" => self.cookie = true,
                b"content-length" => {
                    let length = number(value)?;
                    if framing.length.is_some_and(|known| known != length) {
                        return None;
                    }
                    framing.length = Some(length);
                }
                b"transfer-encoding" => framing.chunked = true,
                b"expect" => framing.waits |= value.eq_ignore_ascii_case(b"100-continue"),
                _ => {}
            }
        }
        Some(framing)
    }
}

impl Manners for Http {
    fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Next {
        for byte in bytes {
            if let Some(answer) = self.byte(*byte) {
                out.extend_from_slice(answer);
                return Next::Close;
            }
        }
        Next::More
    }

    fn learned(&self, fields: &mut Learned) {
        let seen = &self.seen;
        fields.add("method", &seen.method);
        fields.add("host", &seen.host);
        fields.add("path", &seen.path);
        fields.add("user_agent", &seen.agent);
        fields.add("authorization", &seen.authorization);
        if seen.cookie {
            fields.add("cookie", b"given");
        }
        if self.bytes > 0 {
            fields.add_text("bytes", self.bytes.to_string());
        }
    }

    #[cfg(test)]
    fn kept(&self) -> usize {
        let seen = &self.seen;
        let texts = [
            &seen.method,
            &seen.host,
            &seen.path,
            &seen.agent,
            &seen.authorization,
        ];
        let head = match &self.state {
            State::Head(head) => Some(head),
            State::Body(_) | State::Chunks(_) => None,
        };
        allocated(texts.into_iter().chain(head))
    }
}

/// RFC 9110 section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The scheme of credentials. What has no scheme may be the secret itself.
fn scheme(value: &[u8]) -> Vec<u8> {
    let (scheme, rest) = word(value);
    if rest.is_empty() {
        b"given".to_vec()
    } else {
        keep(scheme)
    }
}

/// A decimal number; one that is too large for any bound is the largest.
fn number(value: &[u8]) -> Option<usize> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0usize, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| usize::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Split, dialogue, hear};
    use super::super::{Kind, Limits, Next};

    const UNAVAILABLE: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 120\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    const BAD: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

    fn ask(turns: &[(&str, &str)]) -> Vec<(&'static str, String)> {
        dialogue(Kind::Http, turns, Next::Close)
    }

    #[test]
    fn a_request_is_told_to_come_back_later() {
        let learned = ask(&[
            ("\r\nGET /a?b=\u{202e}c HTTP/1.1\r\n", ""),
            (
                "Host: evil.example\r\nuser-agent: curl/8 \x1b\r\nAuthorization: Basic c2VjcmV0\r\nCookie: a=secret\r\n",
                "",
            ),
            ("\r\n", UNAVAILABLE),
        ]);
        let expected = [
            ("method", "GET"),
            ("host", "evil.example"),
            ("path", "/a?b=\\u{202e}c"),
            ("user_agent", "curl/8 \\x1b"),
            ("authorization", "Basic"),
            ("cookie", "given"),
        ];
        assert_eq!(
            learned,
            expected.map(|(name, value)| (name, value.to_owned()))
        );
    }

    #[test]
    fn a_body_is_read_before_the_answer() {
        let learned = ask(&[
            (
                "POST /up HTTP/1.1\nContent-Length: 5\nContent-Length: 5\n\n",
                "",
            ),
            ("1234", ""),
            ("5", UNAVAILABLE),
        ]);
        assert!(learned.contains(&("bytes", "5".to_owned())));
        ask(&[
            ("PUT /up HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
            ("5\r\nhello\r\n", ""),
            ("0\r\n\r\n", UNAVAILABLE),
        ]);
        ask(&[(
            "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            UNAVAILABLE,
        )]);
    }

    #[test]
    fn who_waits_for_leave_to_send_a_body_gets_the_answer_instead() {
        ask(&[(
            "POST / HTTP/1.1\r\nContent-Length: 9999\r\nExpect: 100-Continue\r\n\r\n",
            UNAVAILABLE,
        )]);
    }

    #[test]
    fn every_form_of_target_is_taken() {
        for (line, path) in [
            ("CONNECT mail.example:25 HTTP/1.1", "mail.example:25"),
            ("GET http://a.example/b HTTP/1.0", "http://a.example/b"),
            ("OPTIONS * HTTP/1.1", "*"),
            ("BREW pot HTTP/1.1", "pot"),
        ] {
            let learned = ask(&[(&format!("{line}\r\n\r\n"), UNAVAILABLE)]);
            assert!(learned.contains(&("path", path.to_owned())), "{line}");
        }
    }

    #[test]
    fn what_is_no_request_of_this_version_is_bad() {
        for text in [
            "GET /\r\n",
            "GET / HTTP/2.0\r\n",
            "PRI * HTTP/2.0\r\n",
            "GET\r",
            "\x16\x03\x01",
            "NICK\tbot",
            "hello\n",
            "ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG",
            "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        ] {
            ask(&[(text, BAD)]);
        }
    }

    #[test]
    fn head_and_body_are_read_up_to_a_bound() {
        let head = format!("GET /{} HTTP/1.1\r\n", "x".repeat(20_000));
        let heard = hear(Kind::Http, Limits::default(), head.as_bytes(), Split::Whole);
        assert!(heard.out.starts_with(b"HTTP/1.1 431 "));
        assert!(heard.learned.contains(&("method", "GET".to_owned())));
        let head = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(5000));
        let heard = hear(Kind::Http, Limits::default(), head.as_bytes(), Split::Bytes);
        assert!(heard.out.starts_with(b"HTTP/1.1 431 "));

        let post = format!(
            "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
            "x".repeat(70_000)
        );
        let heard = hear(Kind::Http, Limits::default(), post.as_bytes(), Split::Whole);
        assert_eq!(heard.out, UNAVAILABLE.as_bytes());
        assert!(heard.learned.contains(&("bytes", "65536".to_owned())));
    }
}
