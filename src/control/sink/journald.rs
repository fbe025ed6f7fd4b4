//! journald, by its native protocol (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).
//!
//! Written out here because the crates that speak it send to a fixed path, and block while journald does not read.

use super::text::{clean, json, summary};
use super::{Failure, within};
use crate::control::alerts::Line;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixDatagram;

/// How long journald may leave its socket full.
const PATIENCE: Duration = Duration::from_secs(5);
/// What `journalctl MESSAGE_ID=` finds all alerts by.
const MESSAGE_ID: &str = "6f1f8a1f5d0c4f0e9a55c6a9d0a5b7c1";

pub(super) struct Journald {
    path: PathBuf,
    /// Connected: only then does the kernel say when there is room again.
    socket: Option<UnixDatagram>,
}

impl Journald {
    pub fn new(path: &Path) -> Journald {
        Journald {
            path: path.to_owned(),
            socket: None,
        }
    }

    pub async fn deliver(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure> {
        for (done, line) in lines.iter().enumerate() {
            let entry = entry(line);
            let Err(e) = within(PATIENCE, self.send(&entry)).await else {
                continue;
            };
            // journald may have been started anew.
            self.socket = None;
            let why = format!("{}: {e}", self.path.display());
            // Larger entries go by a file descriptor; a line is far from that.
            return Err(if e.raw_os_error() == Some(nix::libc::EMSGSIZE) {
                Failure::refused(done, why)
            } else {
                Failure::again(done, why)
            });
        }
        Ok(())
    }

    async fn send(&mut self, entry: &[u8]) -> io::Result<()> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => {
                let socket = UnixDatagram::unbound()?;
                socket.connect(&self.path)?;
                none.insert(socket)
            }
        };
        socket.send(entry).await.map(|_| ())
    }
}

/// The entry: a field a line. No value can hold a line feed, so none needs its length before it.
fn entry(line: &Line) -> Vec<u8> {
    let alert = &line.alert;
    // RFC 5424, section 6.2.1: critical, warning, notice.
    let priority = match alert.severity {
        1 => "2",
        2 => "4",
        _ => "5",
    };
    let fields = [
        ("MESSAGE", summary(line)),
        ("PRIORITY", priority.to_owned()),
        ("MESSAGE_ID", MESSAGE_ID.to_owned()),
        ("SYSLOG_IDENTIFIER", "portcullis".to_owned()),
        ("PORTCULLIS_RULE", clean(&alert.signature)),
        ("PORTCULLIS_LEVEL", clean(alert.level)),
        ("PORTCULLIS_HOST", clean(&alert.host)),
        ("PORTCULLIS_MAC", clean(&line.src_mac)),
        ("PORTCULLIS_DIRECTION", clean(line.direction)),
        ("PORTCULLIS_ACTION", clean(alert.action)),
        ("PORTCULLIS_PACKETS", alert.packets.to_string()),
        ("PORTCULLIS_EVE", json(line)),
    ];
    let mut out = String::new();
    for (name, value) in fields {
        out += &format!("{name}={value}\n");
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::super::tests::line;
    use super::*;

    #[test]
    fn an_entry_has_one_field_a_line_whatever_a_packet_carried() {
        let mut line = line(1);
        line.alert.signature = "x\nPRIORITY=0\n\u{1b}[2J".into();
        let entry = String::from_utf8(entry(&line)).unwrap();
        let names: Vec<_> = entry.lines().filter_map(|l| l.split('=').next()).collect();
        assert_eq!(names.len(), 12, "{entry}");
        assert_eq!(names.iter().filter(|name| **name == "PRIORITY").count(), 1);
        assert!(entry.contains("\nPORTCULLIS_RULE=x?PRIORITY=0??[2J\n"));
        assert!(
            entry
                .bytes()
                .all(|b| b == b'\n' || (b' '..=b'~').contains(&b))
        );
    }
}
