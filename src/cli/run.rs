//! `portcullis run`.

use super::{ConfigFile, cannot};
use crate::config::check;
use crate::control::handover::Left;
use crate::control::serve::serve;
use crate::os::signals::Held;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigFile,
}

impl Run {
    pub(super) fn run(self) -> ExitCode {
        // A start that was begun is gone through with: frames may wait for it, and what it has taken over would be lost with it.
        let held = match Held::all() {
            Ok(held) => held,
            Err(e) => return cannot(format!("cannot hold signals back: {e}")),
        };
        // Before anything can go wrong: what an earlier process has left must not outlive this one.
        let left = Left::take();
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        // A policy that fails its own tests is not the policy that was meant.
        if let Err(e) = check::accept(&config) {
            return cannot(format!(
                "{e}; `portcullis test -c {}` runs the tests",
                self.config.config.display()
            ));
        }
        match serve(config, &self.config.config, left, held) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => cannot(e),
        }
    }
}
