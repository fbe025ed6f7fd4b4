//! Where clients run, and where the proofs of what they got lie: namespaces here, or other machines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use crate::process::run_until;
use crate::server::mailbox;
use crate::{Error, Namespace, Output, Result, Rig};

/// A place for the clients of [`crate::Attempt`]s, whose servers are beyond what is tried.
pub trait Site: Sync {
    /// A directory for one client.
    fn client(&self) -> Result<Client>;

    /// Where clients find the files of the servers that they are configured by.
    fn servers(&self) -> PathBuf;

    /// Runs `argv` with `input` on stdin to its end, until `limit`, or until `enough` says that it has done what it was started for.
    fn run(
        &self,
        argv: &[String],
        input: &str,
        limit: Duration,
        enough: &mut dyn FnMut() -> bool,
    ) -> Result<Output>;

    /// The content of a client's file; none where it cannot be read.
    fn read(&self, file: &Path) -> Option<Vec<u8>>;

    /// Whether a message that holds `word` lies in the server's mailbox.
    fn delivered(&self, word: &str) -> bool;
}

/// A directory for one client, whose name no other has.
#[derive(Debug)]
pub struct Client {
    dir: PathBuf,
    /// Takes it away, where it is on this machine.
    _here: Option<TempDir>,
}

impl Client {
    /// How its name begins; what follows has at most eight characters, all fit for an IRC nick.
    pub const PREFIX: &'static str = "client-";

    /// One that is on another machine.
    pub fn elsewhere(dir: PathBuf) -> Client {
        Client { dir, _here: None }
    }

    /// Its path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A namespace of a rig.
pub(crate) struct Inside<'a> {
    pub(crate) namespace: &'a Namespace,
    pub(crate) rig: &'a Rig,
}

impl Site for Inside<'_> {
    fn client(&self) -> Result<Client> {
        let dir = tempfile::Builder::new()
            .prefix(Client::PREFIX)
            .tempdir_in(self.rig.dir())
            .map_err(Error::io("making a directory for a client"))?;
        Ok(Client {
            dir: dir.path().to_owned(),
            _here: Some(dir),
        })
    }

    fn servers(&self) -> PathBuf {
        self.rig.dir().join("servers")
    }

    fn run(
        &self,
        argv: &[String],
        input: &str,
        limit: Duration,
        enough: &mut dyn FnMut() -> bool,
    ) -> Result<Output> {
        let mut command = self.namespace.command(&argv[0]);
        run_until(command.args(&argv[1..]), input, limit, enough)
    }

    fn read(&self, file: &Path) -> Option<Vec<u8>> {
        std::fs::read(file).ok()
    }

    fn delivered(&self, word: &str) -> bool {
        let Ok(mails) = std::fs::read_dir(mailbox(&self.servers())) else {
            return false;
        };
        mails
            .flatten()
            .any(|mail| std::fs::read_to_string(mail.path()).is_ok_and(|mail| mail.contains(word)))
    }
}
