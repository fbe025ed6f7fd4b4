//! Syslog: RFC 5424 messages, over UDP (RFC 5426), TCP (RFC 6587, octet counting) or TLS (RFC 5425).

use super::text::{clean, json, rfc3339};
use super::{Failure, tls, within};
use crate::config::sinks::{self, Transport};
use crate::control::alerts::Line;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use syslog_fmt::Severity;
use syslog_fmt::v5424::{Config, Formatter, Msg, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::TlsConnector;

/// For a connection, TLS included.
const CONNECT: Duration = Duration::from_secs(10);
/// For a message.
const SEND: Duration = Duration::from_secs(10);
/// Of datagrams, so many go at once, and then none for a while: the receiver's socket holds about a hundred, and what it has no
/// room for is lost without a word.
const BURST: usize = 16;
const BREATH: Duration = Duration::from_millis(2);
/// The number is the one that RFC 5612 has set aside for those who have none.
const SD_ID: &str = "portcullis@32473";

pub(super) struct Syslog {
    to: sinks::Syslog,
    format: Formatter,
    tls: Option<TlsConnector>,
    connection: Option<Connection>,
}

/// A TCP connection, bare or inside of TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

enum Connection {
    Udp(UdpSocket),
    Stream(Box<dyn Stream>),
}

impl Syslog {
    pub fn new(to: &sinks::Syslog) -> Result<Syslog, String> {
        let tls = match &to.transport {
            Transport::Tls(roots) => Some(tls::client(roots)?),
            Transport::Udp | Transport::Tcp => None,
        };
        let host = nix::unistd::gethostname().unwrap_or_default();
        Ok(Syslog {
            format: formatter(to, &host.to_string_lossy()),
            to: to.clone(),
            tls: tls.map(|config| TlsConnector::from(Arc::new(config))),
            connection: None,
        })
    }

    pub async fn deliver(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure> {
        for (done, line) in lines.iter().enumerate() {
            if matches!(self.connection, Some(Connection::Udp(_))) && done % BURST == BURST - 1 {
                tokio::time::sleep(BREATH).await;
            }
            let message = message(&self.format, line).map_err(|e| Failure::refused(done, e))?;
            let Err(e) = self.send(&message).await else {
                continue;
            };
            self.connection = None;
            let why = format!("{}:{}: {e}", self.to.host, self.to.port);
            // No datagram is as long, whatever the way.
            return Err(if e.raw_os_error() == Some(nix::libc::EMSGSIZE) {
                Failure::refused(done, why)
            } else {
                Failure::again(done, why)
            });
        }
        Ok(())
    }

    async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let connect = connect(&self.to, self.tls.as_ref());
                none.insert(within(CONNECT, connect).await?)
            }
        };
        match connection {
            Connection::Udp(socket) => within(SEND, socket.send(message)).await.map(|_| ()),
            Connection::Stream(stream) => {
                still_open(stream).await?;
                let mut framed = format!("{} ", message.len()).into_bytes();
                framed.extend_from_slice(message);
                within(SEND, async {
                    stream.write_all(&framed).await?;
                    stream.flush().await
                })
                .await
            }
        }
    }
}

/// A receiver says nothing, so what can be read is its end. Without this, the first line after it would be written into a
/// connection that nobody reads any more.
async fn still_open(stream: &mut Box<dyn Stream>) -> io::Result<()> {
    let mut said = [0; 256];
    match tokio::time::timeout(Duration::ZERO, stream.read(&mut said)).await {
        Ok(Ok(0)) => Err(io::ErrorKind::ConnectionReset.into()),
        Ok(Err(e)) => Err(e),
        Ok(Ok(_)) | Err(_) => Ok(()),
    }
}

async fn connect(to: &sinks::Syslog, tls: Option<&TlsConnector>) -> io::Result<Connection> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((&*to.host, to.port))
        .await?
        .collect();
    for address in addresses {
        match connect_to(address, to, tls).await {
            Ok(connection) => return Ok(connection),
            Err(e) => last = e,
        }
    }
    Err(last)
}

async fn connect_to(
    address: SocketAddr,
    to: &sinks::Syslog,
    tls: Option<&TlsConnector>,
) -> io::Result<Connection> {
    if matches!(to.transport, Transport::Udp) {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => ([0; 4], 0).into(),
            SocketAddr::V6(_) => ([0u16; 8], 0).into(),
        };
        let socket = UdpSocket::bind(any).await?;
        socket.connect(address).await?;
        return Ok(Connection::Udp(socket));
    }
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        return Ok(Connection::Stream(Box::new(stream)));
    };
    let name = ServerName::try_from(to.host.clone()).map_err(io::Error::other)?;
    let stream = tls.connect(name, stream).await?;
    Ok(Connection::Stream(Box::new(stream)))
}

fn formatter(to: &sinks::Syslog, host: &str) -> Formatter {
    // RFC 5424, section 6: the header is printable ASCII without spaces.
    let host: String = host
        .chars()
        .filter(char::is_ascii_graphic)
        .take(255)
        .collect();
    Config {
        facility: to.facility,
        hostname: (!host.is_empty()).then_some(&*host),
        app_name: Some("portcullis"),
        proc_id: Some(&std::process::id().to_string()),
    }
    .into_formatter()
}

/// The message: what is sorted by in STRUCTURED-DATA, the line as JSON after it. All of it is printable ASCII.
fn message(format: &Formatter, line: &Line) -> io::Result<Vec<u8>> {
    let alert = &line.alert;
    let severity = match alert.severity {
        1 => Severity::Crit,
        2 => Severity::Warning,
        _ => Severity::Notice,
    };
    let (rule, host) = (clean(&alert.signature), clean(&alert.host));
    let packets = alert.packets.to_string();
    let data = [
        ("rule", &*rule),
        ("level", alert.level),
        ("host", &host),
        ("direction", line.direction),
        ("action", alert.action),
        ("packets", &packets),
    ];
    let time = rfc3339(&line.timestamp);
    let json = json(line);
    let mut out = Vec::with_capacity(json.len() + 256);
    format.write_with_data(
        &mut out,
        severity,
        Timestamp::PreformattedStr(&time),
        // As text it would get a byte order mark, which no reader of JSON expects.
        Msg::NonUnicodeBytes(json.as_bytes()),
        Some("alert"),
        [(SD_ID, data)],
    )?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::super::tests::line;
    use super::*;

    fn text(line: &Line) -> String {
        let to = sinks::Syslog {
            host: "h".into(),
            port: 514,
            transport: Transport::Udp,
            facility: sinks::Facility::Local4,
        };
        String::from_utf8(message(&formatter(&to, "the gäte 1"), line).unwrap()).unwrap()
    }

    #[test]
    fn a_message_is_as_rfc_5424_has_it() {
        let line = line(1);
        let process = std::process::id();
        let data = r#"[portcullis@32473 rule="tftp" level="high" host="10.77.0.9" direction="out" action="blocked" packets="1"]"#;
        let head = format!(
            "<162>1 2023-11-14T22:13:20.000000Z thegte1 portcullis {process} alert {data} {{\"timestamp\""
        );
        let text = text(&line);
        assert!(text.starts_with(&head), "{text}");
        assert!(text.ends_with('}'), "{text}");
    }

    #[test]
    fn values_are_escaped_and_no_control_character_gets_into_a_message() {
        let mut line = line(1);
        line.alert.signature = "a\"b\\c]d\n\u{1b}[2Jé\u{9b}\0<13>1 - - - - - forged".into();
        let text = text(&line);
        let bytes = text.as_bytes();
        assert!(bytes.iter().all(|b| (b' '..=b'~').contains(b)), "{text}");
        let value = r#"rule="a\"b\\c\]d??[2J???<13>1 - - - - - forged" level"#;
        assert!(text.contains(value), "{text}");
        assert!(
            text.contains(r#""signature":"a\"b\\c]d\n\u001b[2J\u00e9\u009b\u0000<13>"#),
            "{text}"
        );
    }
}
