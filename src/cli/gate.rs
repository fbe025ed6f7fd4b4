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
        ask(&self.socket()?, request).map_err(cannot)
    }

    /// Its answer to what it may also refuse; why it did is on standard error too.
    pub(super) fn request(&self, request: &Request) -> Result<Value, ExitCode> {
        let answer = self.ask(request)?;
        match answer["error"].as_str() {
            Some(error) => Err(cannot(error)),
            None => Ok(answer),
        }
    }

    /// The config file.
    pub(super) fn config(&self) -> &Path {
        &self.config
    }

    /// Where it answers, or what is wrong with the config that should say so on standard error.
    pub(super) fn socket(&self) -> Result<PathBuf, ExitCode> {
        match (&self.socket, self.config.exists()) {
            (Some(path), _) => Ok(path.clone()),
            (None, true) => config::control_socket(&self.config).map_err(cannot),
            (None, false) => Ok(PathBuf::from(Control::SOCKET)),
        }
    }
}

/// The answer of the gate behind this socket, or why there is none.
pub(super) fn ask(socket: &Path, request: &Request) -> Result<Value, String> {
    socket::ask(socket, request).map_err(|e| silence(socket, &e))
}

/// Why there is no answer.
fn silence(socket: &Path, e: &std::io::Error) -> String {
    use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied, TimedOut, WouldBlock};
    let path = socket.display();
    match e.kind() {
        NotFound | ConnectionRefused => format!(
            "no gate is running behind {path}; start it with `portcullis run`, or name another socket with --socket"
        ),
        WouldBlock | TimedOut => {
            format!("a gate has {path} open and does not answer: its process is stopped or hangs")
        }
        PermissionDenied => format!("{path}: {e}; {}", socket::who_may_ask(socket)),
        _ => format!("{path}: {e}"),
    }
}
