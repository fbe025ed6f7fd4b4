//! The control socket: a Unix socket, one JSON request a line, one JSON answer a line.

use super::added;
use super::status::State;
use super::upkeep::Ask;
use super::{quarantine, reload};
use crate::config::packet::{Asked, PacketError};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Gid, Group};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader as AsyncReader};
use tokio::net::{UnixListener, UnixSocket, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// The longest request that is read: as many entries as one command may have, the longest that there are.
const LONGEST: u64 = 512 << 10;
/// How long a request may take to come, and its answer to go.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long what was asked may take: a change of a large policy compiles it.
const WORK: Duration = Duration::from_secs(60);
/// How long nobody is let in after that has failed.
const PAUSE: Duration = Duration::from_millis(100);
/// How many may ask at once; others wait.
const AT_ONCE: usize = 16;

/// The group whose members may ask, where there is one of this name.
pub const GROUP: &str = "portcullis";
/// Connections that wait to be taken.
const WAITING: u32 = 128;

/// What can be asked.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// The whole [`Status`](super::status::Status).
    Status,
    /// The last incidents as their last lines have them, with the counts of now: `incidents`, the latest first.
    Incidents {
        /// At most so many; [`super::recent::MOST`] are remembered.
        most: usize,
    },
    /// What the policy in force does with a packet, and why: an [`Explanation`](crate::policy::explain::Explanation), or `error`.
    Explain {
        /// The packet.
        packet: Box<Asked>,
    },
    /// Another config, or what waits to be confirmed.
    Config(reload::Ask),
    /// Hosts in quarantine.
    Quarantine {
        /// What about them.
        ask: quarantine::Ask,
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

/// Binds the socket for its owner, and for the members of `group` where there is one of that name: mode 0660 then, else 0600. One that
/// nobody answers on is left over from a process that died, and is replaced.
///
/// # Errors
/// That it cannot be bound, that a gate is running behind it, or that the path is that of something else than a socket.
pub fn bind(path: &Path, group: &str) -> std::io::Result<UnixListener> {
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
    let socket = UnixSocket::new_stream()?;
    // Before it has a name, so that nobody finds it open meanwhile: its file takes this mode (unix_bind_bsd() in net/unix/af_unix.c).
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    socket.bind(path)?;
    // Where the gate runs without root it may not give a file to a group that it is not in: the socket stays its own.
    if let Some(group) = Group::from_name(group)?
        && lchown(path, None, Some(group.gid.as_raw())).is_ok()
    {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    }
    socket.listen(WAITING)
}

/// What somebody who may not ask at this socket can do about it.
pub fn who_may_ask(path: &Path) -> String {
    let group = std::fs::metadata(path)
        .ok()
        .filter(|socket| socket.mode() & 0o060 == 0o060)
        .and_then(|socket| Group::from_gid(Gid::from_raw(socket.gid())).ok()?);
    match group {
        Some(group) => format!(
            "ask as root, or as a member of the group `{name}`: `sudo usermod -aG {name} $USER`, and log in again",
            name = group.name
        ),
        None => format!(
            "ask as root; where there is a group `{GROUP}` when the gate starts, its members may ask too: `sudo groupadd --system {GROUP}`, `sudo usermod -aG {GROUP} $USER`, restart the gate, and log in again"
        ),
    }
}

/// Answers for ever.
pub async fn serve(listener: UnixListener, gate: Arc<State>) {
    let room = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // No descriptor is left, most likely: others give theirs back.
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
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
            let latest = gate.incidents().0.latest(most);
            return json(&serde_json::json!({ "incidents": latest.lines() }));
        }
        Request::Explain { packet } => match packet.packet().key() {
            Ok(key) => return in_time(gate.desk.explain(key)).await,
            Err(e) => return json(&wrong_packet(&e)),
        },
        Request::Config(ask) => {
            let stopped = match ask {
                reload::Ask::Diff { .. } => gate.incidents().0.stopped(),
                _ => Vec::new(),
            };
            Ask::Config(ask, stopped)
        }
        // What a rule has done is no command.
        Request::Quarantine {
            ask: quarantine::Ask::ByRule { .. },
        } => {
            return error("only a rule can say so");
        }
        Request::Quarantine { ask } => Ask::Quarantine(ask),
        Request::SetsList => Ask::Sets(added::Ask::List),
        Request::SetsAdd { set, entries } => Ask::Sets(added::Ask::Add { set, entries }),
        Request::SetsRemove { set, entries } => Ask::Sets(added::Ask::Remove { set, entries }),
    };
    in_time(gate.desk.ask(ask)).await
}

/// An answer of the thread that keeps the policy.
async fn in_time(answer: impl Future<Output = serde_json::Value>) -> String {
    match timeout(WORK, answer).await {
        Ok(answer) => answer.to_string(),
        Err(_) => {
            error("it takes longer than a minute; `portcullis status` shows what became of it")
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Mode and group of a socket bound for `group`.
    fn bound(group: &str) -> (u32, u32, String) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _inside = runtime.enter();
        let _listener = bind(&path, group).unwrap();
        assert!(StdStream::connect(&path).is_ok());
        let about = std::fs::symlink_metadata(&path).unwrap();
        (about.mode() & 0o7777, about.gid(), who_may_ask(&path))
    }

    #[test]
    fn the_socket_is_for_the_members_of_the_group_where_there_is_one() {
        // One that this user may give a file to, by the name that the system has for it.
        let wanted = if nix::unistd::geteuid().is_root() {
            Group::from_name("daemon").unwrap().unwrap()
        } else {
            Group::from_gid(nix::unistd::getegid()).unwrap().unwrap()
        };
        let (mode, gid, words) = bound(&wanted.name);
        assert_eq!((mode, gid), (0o660, wanted.gid.as_raw()));
        let join = format!("usermod -aG {} ", wanted.name);
        assert!(words.contains(&join), "{words}");
    }

    #[test]
    fn without_the_group_the_socket_is_for_its_owner_alone() {
        let (mode, gid, words) = bound("no-such-group-here");
        assert_eq!((mode, gid), (0o600, nix::unistd::getegid().as_raw()));
        assert!(words.contains("groupadd --system portcullis"), "{words}");
    }
}
