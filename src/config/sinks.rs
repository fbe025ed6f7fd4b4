//! `[[sink]]`: where alert lines go beside the file. `[alerts] rotate`.

pub use super::endpoint::token;
use super::endpoint::{address, roots, token_file, url_of};
use super::raw::{Reader, Value};
use super::rule::is_name;
use super::section::Section;
use super::size;
use crate::policy::Severity;
use hyper::Uri;
use rustls::pki_types::CertificateDer;
use std::ops::Range;
use std::path::PathBuf;
pub use syslog_fmt::Facility;

/// Lines that wait for a sink at most, where the config does not say.
pub const QUEUE: u32 = 10_000;
/// The name of the sink that `[alerts]` configures.
pub const FILE: &str = "file";
/// Where journald listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// One `[[sink]]`.
#[derive(Clone, Debug)]
pub struct Sink {
    /// What status and metrics call it; no two have the same.
    pub name: String,
    /// Where its lines go.
    pub kind: Kind,
    /// How many lines may wait for it.
    pub queue: usize,
    /// What is less loud is not for it.
    pub level: Severity,
}

/// Where lines go, and in what words.
#[derive(Clone, Debug)]
pub enum Kind {
    /// journald's native protocol, over the socket at this path.
    Journald(PathBuf),
    /// RFC 5424.
    Syslog(Syslog),
    /// A POST of a JSON array of lines.
    Webhook(Http),
    /// Alertmanager's API, version 2; the URL is the one that it is reached by.
    Alertmanager(Http),
}

impl Kind {
    /// As the config calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::Journald(_) => "journald",
            Kind::Syslog(_) => "syslog",
            Kind::Webhook(_) => "webhook",
            Kind::Alertmanager(_) => "alertmanager",
        }
    }
}

/// A syslog receiver.
#[derive(Clone, Debug)]
pub struct Syslog {
    /// A name or an address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How lines get there.
    pub transport: Transport,
    /// What it files them under.
    pub facility: Facility,
}

/// How syslog messages travel.
#[derive(Clone, Debug)]
pub enum Transport {
    /// A datagram each (RFC 5426).
    Udp,
    /// A stream, each with its length before it (RFC 6587, section 3.4.1).
    Tcp,
    /// The same inside of TLS (RFC 5425).
    Tls(Roots),
}

/// A server that is spoken to by HTTP.
#[derive(Clone, Debug)]
pub struct Http {
    /// `http` or `https`, with a host.
    pub url: Uri,
    /// Whom an `https` server must be vouched for by.
    pub roots: Roots,
    /// A file with the token of `Authorization: Bearer`; read for each request, so that it may change.
    pub token_file: Option<PathBuf>,
}

/// The authorities that may vouch for a server.
#[derive(Clone, Debug)]
pub enum Roots {
    /// Those of the system.
    System,
    /// Those of a file, and no other.
    Given(Vec<CertificateDer<'static>>),
}

/// When the alert file is put aside, and how many are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotate {
    /// Bytes that it may have.
    pub size: u64,
    /// Files beside the one that is written.
    pub keep: u32,
}

impl Rotate {
    /// Where the config does not say.
    pub const DEFAULT: Rotate = Rotate {
        size: 100_000_000,
        keep: 10,
    };
}

/// Reads `rotate` of `[alerts]`.
pub(super) fn rotate(reader: &mut Reader, value: Value<'_>) -> Option<Rotate> {
    let mut section = reader.section(value, "rotate")?;
    let size = section
        .take("size")
        .and_then(|value| size::bytes(reader, &value, "size", 4_096..=1 << 40));
    let keep = section
        .take("keep")
        .and_then(|value| reader.integer(&value, "keep", 1..=1000));
    section.finish(reader);
    Some(Rotate {
        size: size.unwrap_or(Rotate::DEFAULT.size),
        keep: keep.unwrap_or(Rotate::DEFAULT.keep),
    })
}

/// Reads every `[[sink]]`.
pub(super) fn sinks(reader: &mut Reader, value: Option<Value<'_>>) -> Vec<Sink> {
    let Some(value) = value else {
        return Vec::new();
    };
    let mut sinks: Vec<Sink> = Vec::new();
    for section in reader.sections(value, "sink") {
        let header = section.span.clone();
        let Some((sink, named)) = sink(reader, section) else {
            continue;
        };
        if sinks.iter().any(|other| other.name == sink.name) {
            let message = format!("two sinks are called `{}`", sink.name);
            let help = "give one of them another `name`: status and metrics call it by it; without one it is called as its kind";
            reader.error(named.unwrap_or(header), message, "the second of them", help);
        }
        sinks.push(sink);
    }
    sinks
}

/// A sink, and the place of its name.
fn sink(reader: &mut Reader, mut section: Section<'_>) -> Option<(Sink, Option<Range<usize>>)> {
    let header = section.span.clone();
    let Some(value) = section.take("kind") else {
        let help = "add `kind = \"journald\"`, \"syslog\", \"webhook\" or \"alertmanager\"";
        reader.error(header, "a sink has no `kind`", "this sink", help);
        return None;
    };
    type Read = fn(&mut Reader, &mut Section<'_>) -> Option<Kind>;
    let kinds: [(&str, Read); 4] = [
        ("journald", journald),
        ("syslog", syslog),
        ("webhook", |reader, section| {
            http(reader, section, "webhook").map(Kind::Webhook)
        }),
        ("alertmanager", |reader, section| {
            http(reader, section, "alertmanager").map(Kind::Alertmanager)
        }),
    ];
    // Of an unknown kind, nobody can say which keys it has.
    let read = reader.word(&value, "kind", &kinds)?;
    let kind = read(reader, &mut section);
    let name = section.take("name");
    let named = name.as_ref().map(Value::span);
    let name = name.map(|value| named_so(reader, &value));
    let queue = section
        .take("queue")
        .and_then(|value| reader.integer(&value, "queue", 1..=1_000_000));
    let level = section.take("level").and_then(|value| {
        let levels = [Severity::Low, Severity::Medium, Severity::High];
        reader.word(&value, "level", &levels.map(|level| (level.name(), level)))
    });
    section.finish(reader);
    let kind = kind?;
    let sink = Sink {
        name: name.unwrap_or_else(|| Some(kind.name().to_owned()))?,
        kind,
        queue: queue.unwrap_or(QUEUE) as usize,
        level: level.unwrap_or(Severity::Low),
    };
    Some((sink, named))
}

fn named_so(reader: &mut Reader, value: &Value<'_>) -> Option<String> {
    let name = reader.string(value, "name")?;
    if name == FILE || !is_name(&name) {
        let help = if name == FILE {
            "`file` is what the file of [alerts] is called; write another word"
        } else {
            super::rule::NAME_HELP
        };
        let message = format!("\"{name}\" is not a name for a sink");
        reader.error(value.span(), message, "here", help);
        return None;
    }
    Some(name)
}

fn journald(reader: &mut Reader, section: &mut Section<'_>) -> Option<Kind> {
    let socket = section.take("socket");
    let socket = socket.map(|value| reader.path(&value, "socket"));
    Some(Kind::Journald(
        socket.unwrap_or_else(|| Some(JOURNAL.into()))?,
    ))
}

#[derive(Clone, Copy)]
enum Way {
    Udp,
    Tcp,
    Tls,
}

const FACILITIES: [(&str, Facility); 12] = [
    ("user", Facility::User),
    ("daemon", Facility::Daemon),
    ("auth", Facility::Auth),
    ("authpriv", Facility::Authpriv),
    ("local0", Facility::Local0),
    ("local1", Facility::Local1),
    ("local2", Facility::Local2),
    ("local3", Facility::Local3),
    ("local4", Facility::Local4),
    ("local5", Facility::Local5),
    ("local6", Facility::Local6),
    ("local7", Facility::Local7),
];

fn syslog(reader: &mut Reader, section: &mut Section<'_>) -> Option<Kind> {
    let header = section.span.clone();
    let address = match section.take("address") {
        Some(value) => address(reader, &value),
        None => {
            let help = "add `address = \"192.0.2.10:514\"`, the receiver and its port";
            reader.error(header, "a syslog sink needs `address`", "this sink", help);
            None
        }
    };
    let ways = [("udp", Way::Udp), ("tcp", Way::Tcp), ("tls", Way::Tls)];
    let transport = section.take("transport");
    let way = transport.map(|value| reader.word(&value, "transport", &ways));
    let facility = section
        .take("facility")
        .map(|value| reader.word(&value, "facility", &FACILITIES));
    let ca = section.take("ca");
    let place = ca.as_ref().map(Value::span);
    let roots = ca.map(|value| roots(reader, &value));
    let transport = match (way.unwrap_or(Some(Way::Udp))?, place) {
        (Way::Tls, _) => Transport::Tls(roots.unwrap_or(Some(Roots::System))?),
        (_, Some(place)) => {
            let help = "write `transport = \"tls\"`, or leave `ca` out";
            reader.error(place, "`ca` without TLS has no use", "here", help);
            return None;
        }
        (Way::Udp, None) => Transport::Udp,
        (Way::Tcp, None) => Transport::Tcp,
    };
    let (host, port) = address?;
    Some(Kind::Syslog(Syslog {
        host,
        port,
        transport,
        facility: facility.unwrap_or(Some(Facility::Local4))?,
    }))
}

fn http(reader: &mut Reader, section: &mut Section<'_>, kind: &str) -> Option<Http> {
    let header = section.span.clone();
    let url = section.take("url");
    let place = url.as_ref().map(Value::span);
    let url = match url {
        Some(value) => url_of(reader, &value),
        None => {
            let help = "add `url = \"https://...\"`";
            let message = format!("a sink of the kind \"{kind}\" needs `url`");
            reader.error(header, message, "this sink", help);
            None
        }
    };
    let ca = section.take("ca");
    let ca_place = ca.as_ref().map(Value::span);
    let roots = ca.map(|value| roots(reader, &value));
    let token = section.take("token_file");
    let token_file = token.map(|value| token_file(reader, &value));
    let plain = url.as_ref()?.scheme_str() == Some("http");
    if let (true, Some(place)) = (plain, ca_place) {
        let help = "write https:// in `url`, or leave `ca` out";
        reader.error(place, "`ca` without TLS has no use", "here", help);
        return None;
    }
    let here = ["localhost", "127.0.0.1", "[::1]"].contains(&url.as_ref()?.host()?);
    if let (true, false, Some(_), Some(place)) = (plain, here, &token_file, place) {
        let help = "write https:// in `url`: who sees the token can speak in the box's name";
        reader.warn(
            place,
            "the token of this sink is sent without TLS",
            "http",
            help,
        );
    }
    Some(Http {
        url: url?,
        roots: roots.unwrap_or(Some(Roots::System))?,
        token_file: token_file.map_or(Some(None), |file| file.map(Some))?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, parse};
    use std::path::Path;

    fn config(sinks: &str) -> Config {
        match parse(sinks, "test", Path::new("/")) {
            Ok(config) => config,
            Err(error) => panic!("{}", crate::config::error::render(&error.problems, false)),
        }
    }

    #[test]
    fn what_is_left_out_has_a_default() {
        let config = config(
            "[[sink]]\nkind = \"journald\"\n[[sink]]\nkind = \"syslog\"\naddress = \"[2001:db8::10]:514\"\n",
        );
        let [journald, syslog] = &config.sinks[..] else {
            panic!("{:?}", config.sinks);
        };
        assert_eq!((&*journald.name, &*syslog.name), ("journald", "syslog"));
        assert_eq!((syslog.queue, syslog.level), (10_000, Severity::Low));
        assert!(matches!(&journald.kind, Kind::Journald(path) if path == Path::new(JOURNAL)));
        let Kind::Syslog(to) = &syslog.kind else {
            panic!("{syslog:?}");
        };
        assert_eq!((&*to.host, to.port), ("2001:db8::10", 514));
        assert!(matches!(to.transport, Transport::Udp));
        assert!(matches!(to.facility, Facility::Local4));
        assert_eq!(config.alerts.rotate, Rotate::DEFAULT);
    }

    #[test]
    fn a_token_that_would_cross_a_network_in_the_clear_is_warned_about() {
        let dir = tempfile::tempdir().unwrap();
        let token = dir.path().join("token");
        std::fs::write(&token, "t\n").unwrap();
        let sink = |url: &str| {
            let text = format!("kind = \"webhook\"\nurl = \"{url}\"\ntoken_file = {token:?}\n");
            let about = |message: &String| message.contains("without TLS");
            let warnings = config(&format!("[[sink]]\n{text}")).warnings;
            warnings.iter().filter(|w| about(&w.message)).count()
        };
        assert_eq!(sink("http://192.0.2.10/"), 1);
        assert_eq!(sink("http://127.0.0.1:8080/"), 0);
        assert_eq!(sink("https://192.0.2.10/"), 0);
    }
}
