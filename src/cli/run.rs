//! `portcullis run`.

use super::{ConfigFile, cannot};
use crate::config::check;
use crate::control::serve::serve;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    config: ConfigFile,
}

impl Run {
    pub(super) fn run(self) -> ExitCode {
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
        match serve(config, &self.config.config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => cannot(e),
        }
    }
}
