//! The control socket: a Unix socket, one JSON request a line, one JSON answer a line.

use super::added::Ask;
use super::status::State;
use crate::config::packet::{Asked, PacketError};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The longest request that is read: as many entries as one command may have, the longest that there are.
const LONGEST: u64 = 512 << 10;
/// How long a request may take to come, and its answer to go.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what was asked may take: a change of a large policy compiles it.
const WORK: Duration = Duration::from_secs(60);
/// How many may ask at once; others wait.
const AT_ONCE: usize = 16;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// The whole [`Status`](super::status::Status).
    Status,
    /// The last incidents as their last lines have them: `incidents`, the latest first.
    Incidents {
        /// At most so many; [`super::recent::MOST`] are remembered.
        most: usize,
    },
    /// What the policy in force does with a packet, and why: an [`Explanation`](crate::policy::explain::Explanation), or `error`.
    Explain {
        /// The packet.
        packet: Box<Asked>,
    },
    /// What each set holds.
    SetsList,
    /// Adds entries to a set.
    SetsAdd {
        /// Its name.
        set: String,
        /// Addresses, prefixes and ranges.
        entries: Vec<String>,
    },
    /// Takes entries out that were added so.
    SetsRemove {
        /// Its name.
        set: String,
        /// As they were added.
        entries: Vec<String>,
    },
}

impl Request {
    /// How long an answer may take.
    fn patience(&self) -> Duration {
        match self {
            Request::Status | Request::Incidents { .. } => PATIENCE,
            _ => PATIENCE + WORK,
        }
    }
}

/// Binds the socket for its owner only. One that nobody answers on is left over from a process that died, and is replaced.
///
/// # Errors
/// That it cannot be bound, that a gate is running behind it, or that the path is that of something else than a socket.
pub fn bind(path: &Path) -> std::io::Result<UnixListener> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    if StdStream::connect(path).is_ok() {
        return Err(std::io::Error::new(
            std::io::ErrorKind::AddrInUse,
            "a gate is already running behind it; stop that one first",
        ));
    }
    match std::fs::symlink_metadata(path) {
        Ok(there) if there.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => {
            return Err(std::io::Error::new(
                std::io::ErrorKind::AlreadyExists,
                "something is there that is not a socket; name another path, or remove it",
            ));
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers for ever.
pub async fn serve(listener: UnixListener, gate: Arc<State>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    while let Ok((stream, _)) = listener.accept().await {
        let Ok(seat) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            // Whoever goes away gets no answer: nothing else depends on it.
            let _ = answer(stream, gate).await;
            drop(seat);
        });
    }
}

async fn answer(stream: UnixStream, gate: Arc<State>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    let mut reader = AsyncReader::new(read.take(LONGEST));
    timeout(PATIENCE, reader.read_line(&mut line)).await??;
    let text = match serde_json::from_str(&line) {
        Ok(request) => done(request, &gate).await,
        Err(_) if line.len() as u64 >= LONGEST => error("the request is too long"),
        Err(e) => error(&e.to_string()),
    };
    let mut bytes = text.into_bytes();
    bytes.push(b'\n');
    timeout(PATIENCE, write.write_all(&bytes)).await?
}

async fn done(request: Request, gate: &State) -> String {
    let ask = match request {
        Request::Status => return json(&gate.status()),
        Request::Incidents { most } => {
            let latest = gate.incidents().0.recent().latest(most);
            return json(
                &serde_json::json!({ "incidents": latest.iter().map(|line| &**line).collect::<Vec<_>>() }),
            );
        }
        Request::Explain { packet } => match packet.packet().key() {
            Ok(key) => Ask::Explain(Box::new(key)),
            Err(e) => return json(&wrong_packet(&e)),
        },
        Request::SetsList => Ask::List,
        Request::SetsAdd { set, entries } => Ask::Add { set, entries },
        Request::SetsRemove { set, entries } => Ask::Remove { set, entries },
    };
    match timeout(WORK, gate.desk.ask(ask)).await {
        Ok(answer) => answer.to_string(),
        Err(_) => {
            error("it takes longer than a minute; `portcullis sets list` shows what became of it")
        }
    }
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The field at fault, what is wrong with it, and what would be right.
pub(super) fn wrong_packet(e: &PacketError) -> serde_json::Value {
    serde_json::json!({ "error": e.message, "field": e.field, "help": e.help })
}

fn error(what: &str) -> String {
    serde_json::json!({ "error": what }).to_string()
}

/// Asks a running gate.
///
/// # Errors
/// That nobody answers, or not in JSON.
pub fn ask(path: &Path, request: &Request) -> std::io::Result<serde_json::Value> {
    let mut stream = StdStream::connect(path)?;
    stream.set_read_timeout(Some(request.patience()))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
