//! What can go wrong while a rig is built or used.

use std::time::Duration;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the rig could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A program could not be started, or a file not be written.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program that had to succeed did not.
    #[error("`{command}` failed ({status}): {said}")]
    Command {
        /// Its command line.
        command: String,
        /// Its exit status, in words.
        status: String,
        /// The end of what it wrote to stderr.
        said: String,
    },
    /// A wait reached its deadline.
    #[error("waited {} s for {what}", limit.as_secs_f32())]
    Timeout {
        /// What did not happen.
        what: String,
        /// How long it was given.
        limit: Duration,
    },
    /// Something ended that had to stay.
    #[error("{name} ended: {said}")]
    Ended {
        /// The program.
        name: String,
        /// The end of its log.
        said: String,
    },
    /// An answer that cannot be read.
    #[error("{what}: {said}")]
    Answer {
        /// What was read.
        what: String,
        /// What is wrong with it.
        said: String,
    },
    /// SIGINT, SIGTERM or SIGHUP arrived.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// For `map_err`: names what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let what = what.into();
        move |source| Error::Io { what, source }
    }
}
