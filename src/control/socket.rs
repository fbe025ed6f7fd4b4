//! The control socket: a Unix socket, one JSON request a line, one JSON answer a line.

use super::status::State;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncReader};
use tokio::net::{UnixListener, UnixStream};

/// The longest request that is read.
const LONGEST: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(5);

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// The whole [`Status`](super::status::Status).
    Status,
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
    while let Ok((stream, _)) = listener.accept().await {
        let gate = Arc::clone(&gate);
        tokio::spawn(async move {
            // Whoever does not ask in time, or goes away, gets no answer: nothing else depends on it.
            let _ = tokio::time::timeout(PATIENCE, answer(stream, gate)).await;
        });
    }
}

async fn answer(stream: UnixStream, gate: Arc<State>) -> std::io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    AsyncReader::new(read.take(LONGEST))
        .read_line(&mut line)
        .await?;
    let text = match serde_json::from_str(&line) {
        Ok(Request::Status) => serde_json::to_string(&gate.status()),
        Err(e) => serde_json::to_string(&serde_json::json!({ "error": e.to_string() })),
    };
    write.write_all(text.unwrap_or_default().as_bytes()).await?;
    write.write_all(b"\n").await
}

/// Asks a running gate.
///
/// # Errors
/// That nobody answers, or not in JSON.
pub fn ask(path: &Path, request: &Request) -> std::io::Result<serde_json::Value> {
    let mut stream = StdStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    stream.write_all(&text)?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(serde_json::from_str(&line)?)
}
