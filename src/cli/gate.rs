//! The running gate that a command asks.

use super::cannot;
use crate::config::{self, Control};
use crate::control::socket::{self, Request};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Which gate.
#[derive(clap::Args)]
pub(super) struct Gate {
    /// The config file, for the control socket that it names
    #[arg(
        short,
        long,
        value_name = "FILE",
        global = true,
        default_value = super::CONFIG
    )]
    config: PathBuf,
    /// The control socket of the gate; without it, the one that the config names
    #[arg(long, value_name = "PATH", global = true)]
    socket: Option<PathBuf>,
}

impl Gate {
    /// Its answer, or why there is none on standard error.
    pub(super) fn ask(&self, request: &Request) -> Result<Value, ExitCode> {
        let path = match (&self.socket, self.config.exists()) {
            (Some(path), _) => path.clone(),
            (None, true) => config::control_socket(&self.config).map_err(cannot)?,
            (None, false) => PathBuf::from(Control::SOCKET),
        };
        socket::ask(&path, request).map_err(|e| cannot(silence(&path, &e)))
    }
}

/// Why there is no answer.
fn silence(path: &Path, e: &std::io::Error) -> String {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, TimedOut, WouldBlock};
    let path = path.display();
    match e.kind() {
        NotFound | ConnectionRefused => format!(
            "no gate is running behind {path}; start it with `portcullis run`, or name another socket with --socket"
        ),
        WouldBlock | TimedOut => {
            format!("a gate has {path} open and does not answer: its process is stopped or hangs")
        }
        PermissionDenied => format!("{path}: {e}; ask as root"),
        _ => format!("{path}: {e}"),
    }
}
