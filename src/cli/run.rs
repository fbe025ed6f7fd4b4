//! `portcullis run`.

use super::{ConfigFile, cannot};
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
        if !config.tests.is_empty() {
            // A policy that fails its own tests is not the policy that was meant.
            let failed = crate::config::check::failing_tests(&config);
            if !failed.is_empty() {
                eprint!("{}", crate::config::error::render(&failed, false));
                return ExitCode::from(super::CANNOT);
            }
        }
        match serve(config) {
            Ok(()) => ExitCode::SUCCESS,
            Err(e) => cannot(e),
        }
    }
}
