//! `portcullis run`.

use super::{ConfigFile, cannot};
use crate::config::check;
use crate::control::handover::Left;
use crate::control::serve::serve;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigFile,
}

impl Run {
    pub(super) fn run(self) -> ExitCode {
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
        match serve(config, &self.config.config, left) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => cannot(e),
        }
    }
}
