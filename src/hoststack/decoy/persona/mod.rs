//! How a server of a protocol behaves: what it says to what it hears. Bytes in, bytes out; no socket and no clock.
//!
//! A persona answers so that a client goes on and shows what it wants, and promises nothing: no mail is said to be delivered, no file kept.
//! It is spoken to by machines that are taken over, so it takes any bytes, keeps less than 32 KiB of them ([`MOST_KEPT`]), and says a bounded
//! number of bytes ([`Persona::most_said`]).

mod http;
mod irc;
mod line;
mod raw;
mod smtp;
#[cfg(test)]
mod testing;
mod tftp;

use crate::app::details::LONGEST;
use crate::app::safe_text;
use crate::policy;
use std::time::Duration;

/// The longest name that a server gives itself.
const LONGEST_NAME: usize = 64;
/// What the longest answer to one line may have beyond [`Limits::said`]: IRC's welcome, and a farewell.
const ONE_ANSWER: usize = 3 * 1024;
/// Bytes of what a client says that a persona keeps at most, for the answer and for the alert.
pub const MOST_KEPT: usize = 32 * 1024;
/// The longest list in one field, in characters.
const LONGEST_LIST: usize = 512;

/// The protocol that a persona speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names are the protocols'.
pub enum Kind {
    Irc,
    Smtp,
    Http,
    Tftp,
    /// Says nothing.
    Raw,
}

impl Kind {
    /// All there are.
    pub const ALL: [Kind; 5] = [Kind::Irc, Kind::Smtp, Kind::Http, Kind::Tftp, Kind::Raw];

    /// As it is written in an alert.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Irc => "irc",
            Kind::Smtp => "smtp",
            Kind::Http => "http",
            Kind::Tftp => "tftp",
            Kind::Raw => "raw",
        }
    }

    /// What a client expects to listen at a port.
    pub const fn for_port(udp: bool, port: u16) -> Kind {
        Kind::of(policy::Manners::Port, udp, port)
    }

    /// What a rule has speak at a port.
    pub const fn of(manners: policy::Manners, udp: bool, port: u16) -> Kind {
        match manners.at(udp, port) {
            policy::Manners::Irc => Kind::Irc,
            policy::Manners::Smtp => Kind::Smtp,
            policy::Manners::Http => Kind::Http,
            policy::Manners::Tftp => Kind::Tftp,
            policy::Manners::Port | policy::Manners::Raw => Kind::Raw,
        }
    }
}

/// Whether a conversation goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The server waits for more.
    More,
    /// The server is done: what it has said is to be sent, then the connection closed. Of datagrams it only means that the conversation may
    /// be forgotten; until then, what is sent again is answered again (TFTP).
    Close,
}

/// What a conversation may cost at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the server after which it hangs up.
    pub said: usize,
    /// Bytes of a message (SMTP), a body (HTTP) or a file (TFTP) that are taken.
    pub content: usize,
}

impl Default for Limits {
    /// 16 KiB said, 64 KiB of content.
    fn default() -> Limits {
        Limits {
            said: 16 * 1024,
            content: 64 * 1024,
        }
    }
}

/// What a protocol's server does; what it does not do is silence.
trait Manners {
    fn greet(&mut self, _out: &mut Vec<u8>) {}

    fn hear(&mut self, _bytes: &[u8], _out: &mut Vec<u8>) -> Next {
        Next::More
    }

    fn hear_datagram(&mut self, _bytes: &[u8], _out: &mut Vec<u8>) -> Next {
        Next::More
    }

    fn tick(&mut self, _since_start: Duration, _out: &mut Vec<u8>) -> Next {
        Next::More
    }

    fn learned(&self, _fields: &mut Learned) {}

    /// Bytes that are allocated for what was heard.
    #[cfg(test)]
    fn kept(&self) -> usize {
        0
    }
}

enum Inner {
    Irc(irc::Irc),
    Smtp(smtp::Smtp),
    Http(http::Http),
    Tftp(tftp::Tftp),
    Raw(raw::Raw),
}

/// A server in one conversation.
pub struct Persona {
    kind: Kind,
    limits: Limits,
    closed: bool,
    inner: Inner,
}

impl Persona {
    /// One that gives itself this host name, of at most 64 characters that a host name may have.
    pub fn new(kind: Kind, name: &str, limits: Limits) -> Persona {
        let fits = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        let name: Vec<u8> = name.bytes().filter(fits).take(LONGEST_NAME).collect();
        let inner = match kind {
            Kind::Irc => Inner::Irc(irc::Irc::new(name, limits)),
            Kind::Smtp => Inner::Smtp(smtp::Smtp::new(name, limits)),
            Kind::Http => Inner::Http(http::Http::new(limits)),
            Kind::Tftp => Inner::Tftp(tftp::Tftp::new(limits)),
            Kind::Raw => Inner::Raw(raw::Raw),
        };
        Persona {
            kind,
            limits,
            closed: false,
            inner,
        }
    }

    /// What it speaks.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes that it says at most over a stream, whatever it hears and however time goes by. Over datagrams, no answer has more than 32, and
    /// all of them together no more than 32 more than was heard.
    pub fn most_said(&self) -> usize {
        self.limits.said.saturating_add(ONE_ANSWER)
    }

    /// What a server says before it is spoken to (SMTP); nothing for the others.
    pub fn greet(&mut self, out: &mut Vec<u8>) {
        self.manners().greet(out);
    }

    /// Bytes of the client's stream, in any pieces. Appends what the server answers; behind [`Next::Close`] that is nothing.
    pub fn hear(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Next {
        self.unless_closed(|manners| manners.hear(bytes, out))
    }

    /// One datagram, and its answer, if any.
    pub fn hear_datagram(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Next {
        self.manners().hear_datagram(bytes, out)
    }

    /// So much time has gone by in the conversation: what a server does of its own accord.
    pub fn tick(&mut self, since_start: Duration, out: &mut Vec<u8>) -> Next {
        self.unless_closed(|manners| manners.tick(since_start, out))
    }

    /// What it has learned, for an alert: name and value pairs, in a fixed order, all text made safe. A name may be there more than once.
    pub fn learned(&self) -> Vec<(&'static str, String)> {
        let mut learned = Learned(Vec::new());
        match &self.inner {
            Inner::Irc(irc) => irc.learned(&mut learned),
            Inner::Smtp(smtp) => smtp.learned(&mut learned),
            Inner::Http(http) => http.learned(&mut learned),
            Inner::Tftp(tftp) => tftp.learned(&mut learned),
            Inner::Raw(raw) => raw.learned(&mut learned),
        }
        learned.0
    }

    fn manners(&mut self) -> &mut dyn Manners {
        match &mut self.inner {
            Inner::Irc(irc) => irc,
            Inner::Smtp(smtp) => smtp,
            Inner::Http(http) => http,
            Inner::Tftp(tftp) => tftp,
            Inner::Raw(raw) => raw,
        }
    }

    fn unless_closed(&mut self, act: impl FnOnce(&mut dyn Manners) -> Next) -> Next {
        if !self.closed {
            self.closed = act(self.manners()) == Next::Close;
        }
        if self.closed { Next::Close } else { Next::More }
    }
}

/// Fields that are being collected.
struct Learned(Vec<(&'static str, String)>);

impl Learned {
    /// One, if it has a value.
    fn add(&mut self, name: &'static str, value: &[u8]) {
        self.add_text(name, safe_text(value, LONGEST));
    }

    /// Some values as one.
    fn add_list(&mut self, name: &'static str, values: &[Vec<u8>]) {
        self.add_text(name, safe_text(&values.join(&b", "[..]), LONGEST_LIST));
    }

    /// One that is safe already.
    fn add_text(&mut self, name: &'static str, value: String) {
        if !value.is_empty() {
            self.0.push((name, value));
        }
    }
}

/// So much of what a client says as an alert may show of it: a character has at most four bytes.
fn keep(bytes: &[u8]) -> Vec<u8> {
    bytes.get(..LONGEST * 4).unwrap_or(bytes).to_vec()
}

#[cfg(test)]
mod tests {
    use super::testing::{Split, hear};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_port_has_the_persona_that_its_clients_expect() {
        for (udp, port, kind) in [
            (false, 25, Kind::Smtp),
            (false, 587, Kind::Smtp),
            (false, 465, Kind::Raw),
            (true, 25, Kind::Raw),
            (false, 194, Kind::Irc),
            (false, 6659, Kind::Raw),
            (false, 6660, Kind::Irc),
            (false, 6669, Kind::Irc),
            (false, 6697, Kind::Raw),
            (false, 7000, Kind::Irc),
            (false, 80, Kind::Http),
            (false, 3128, Kind::Http),
            (false, 443, Kind::Raw),
            (true, 69, Kind::Tftp),
            (false, 69, Kind::Raw),
        ] {
            assert_eq!(Kind::for_port(udp, port), kind, "{udp} {port}");
        }
    }

    #[test]
    fn every_kind_has_its_own_name() {
        assert_eq!(
            Kind::ALL.map(Kind::name),
            ["irc", "smtp", "http", "tftp", "raw"]
        );
    }

    #[test]
    fn a_host_name_is_only_what_one_may_be() {
        let mut persona = Persona::new(Kind::Smtp, "a.b\r\n 221-c", Limits::default());
        let mut out = Vec::new();
        persona.greet(&mut out);
        assert_eq!(out, b"220 a.b221-c ESMTP\r\n");
    }

    #[test]
    fn raw_says_nothing_and_goes_on() {
        let mut persona = Persona::new(Kind::Raw, "x.example", Limits::default());
        let mut out = Vec::new();
        persona.greet(&mut out);
        assert_eq!(
            persona.hear(b"\x16\x03\x01 NICK a\r\n", &mut out),
            Next::More
        );
        assert_eq!(
            persona.hear_datagram(b"\0\x02a\0octet\0", &mut out),
            Next::More
        );
        assert_eq!(persona.tick(Duration::from_secs(900), &mut out), Next::More);
        assert!(out.is_empty() && persona.learned().is_empty());
    }

    /// Bytes of any kind, and such as their servers understand.
    fn said() -> impl Strategy<Value = Vec<u8>> {
        let words: &[&[u8]] = &[
            b"NICK a\r\n",
            b"USER a b c :d\r\n",
            b"JOIN #a,#b,#c k,l\n",
            b"PRIVMSG #a :\x1b[2J\r",
            b"CAP LS 302\r\n",
            b"CAP END\r\n",
            b"CAP REQ :x\r\n",
            b"PING x\n",
            b"NAMES\n",
            b"WHO\n",
            b"MODE a +i\n",
            b"PART #a\n",
            b"X\n",
            b"PASS \x07\xff\r\n",
            b":a ",
            b"@t ",
            b"EHLO x\r\n",
            b"HELO \x01\r\n",
            b"MAIL FROM:<a@b>\r\n",
            b"RCPT TO:<c@d>\r\n",
            b"DATA\r\n",
            b"Subject: a\x1b\r\n",
            b"From: \xe2\x80\xae\r\n",
            b"\r\n.\r\n",
            b"..\r\n",
            b".\n",
            b"RSET\r\n",
            b"NOOP\n",
            b"QUIT\r\n",
            b"\r\n",
            b"\n",
            b"\r",
            b" ",
            b":",
            b"#",
            b"GET / HTTP/1.1\r\n",
            b"Host: a\x02b\r\n",
            b"Content-Length: 4\r\n",
            b"Transfer-Encoding: chunked\r\n",
            b"0\r\n\r\n",
            b"Authorization: Basic x\r\n",
            b"\0\x02a\0octet\0",
            b"\0\x03\0\x01abc",
        ];
        let piece = prop_oneof![
            8 => prop::sample::select(words).prop_map(<[u8]>::to_vec),
            1 => prop::collection::vec(any::<u8>(), 0..40),
            1 => (any::<u8>(), 0usize..1500).prop_map(|(byte, count)| vec![byte; count]),
        ];
        prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_have_one_answer_within_the_bound_and_safe_fields(bytes in said(), kind in prop::sample::select(&Kind::ALL[..]), at in 0usize..2000, limit in 0usize..3000) {
            let limits = Limits { said: limit, content: limit };
            let whole = hear(kind, limits, &bytes, Split::Whole);
            prop_assert_eq!(&whole, &hear(kind, limits, &bytes, Split::Bytes));
            prop_assert_eq!(&whole, &hear(kind, limits, &bytes, Split::At(at)));
            let most = Persona::new(kind, "x.example", limits).most_said();
            prop_assert!(whole.out.len() <= most, "{} bytes", whole.out.len());
            for (name, value) in &whole.learned {
                prop_assert!(!value.is_empty() && !value.chars().any(char::is_control), "{name}: {value}");
                prop_assert!(value.chars().count() <= 1024);
            }
        }

        #[test]
        fn any_datagrams_have_short_answers_and_safe_fields(datagrams in prop::collection::vec(prop_oneof![said(), prop::collection::vec(0u8..4, 0..6)], 0..8), kind in prop::sample::select(&Kind::ALL[..])) {
            let mut persona = Persona::new(kind, "x.example", Limits::default());
            let (mut heard, mut said) = (0, 0);
            for datagram in datagrams {
                let mut out = Vec::new();
                persona.hear_datagram(&datagram, &mut out);
                prop_assert!(out.len() <= 32);
                (heard, said) = (heard + datagram.len(), said + out.len());
                prop_assert!(said <= heard + 32);
                prop_assert!(persona.manners().kept() <= MOST_KEPT);
            }
            for (_, value) in persona.learned() {
                prop_assert!(!value.chars().any(char::is_control));
            }
        }
    }

    #[test]
    fn what_is_kept_has_a_bound_where_everything_is_long() {
        let long = "x".repeat(5000);
        let irc: String = (0..40)
            .map(|at| {
                format!(
                    "JOIN #{at}{long}\nJOIN #{at} {at}{long}\nPRIVMSG {at} :{long}\nPASS {long}\n"
                )
            })
            .collect();
        let start = format!("NICK {long}\nUSER {long} 0 * {long}\n");
        let smtp: String = (0..40)
            .map(|at| format!("RCPT TO:<{at}{}>\r\n", &long[..900]))
            .collect();
        let mail = format!(
            "EHLO {0}\r\nMAIL FROM:<{0}>\r\n{smtp}DATA\r\nSubject: {long}\r\n {long}\r\n\r\n{long}\r\n{long}",
            &long[..900]
        );
        let http = format!(
            "{}GET /{} HTTP/1.1\r\nHost: {long}\r\n",
            "\r\n".repeat(9000),
            &long[..900]
        );
        for (kind, bytes) in [
            (Kind::Irc, start.clone() + &irc),
            (Kind::Irc, irc),
            (Kind::Smtp, mail),
            (Kind::Http, http + &long),
        ] {
            // Looks at what is kept after each piece.
            for split in [Split::Whole, Split::Bytes] {
                hear(kind, Limits::default(), bytes.as_bytes(), split);
            }
        }
    }

    #[test]
    fn whoever_makes_a_server_talk_is_hung_up_on() {
        for (kind, line) in [
            (Kind::Irc, &b"X\n"[..]),
            (Kind::Irc, b"JOIN #a\nPART #a\n"),
            (Kind::Smtp, b"NOOP\n"),
            (Kind::Smtp, b"\n"),
        ] {
            let start: &[u8] = match kind {
                Kind::Irc => b"NICK a\nUSER a b c d\n",
                _ => b"EHLO a\n",
            };
            let bytes = [start, &line.repeat(20_000)].concat();
            let heard = hear(kind, Limits::default(), &bytes, Split::Whole);
            assert_eq!(heard.next, Next::Close);
            assert!(heard.out.len() <= 17 * 1024, "{}", heard.out.len());
        }
    }
}
