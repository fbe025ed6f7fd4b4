//! `portcullis check`.

use super::{CANNOT, ConfigFile, NO};
use crate::config::check;
use std::io::IsTerminal;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> ExitCode {
        let report = check::report(&self.config.config);
        if self.json {
            super::print_json(&report.json());
        } else {
            print!("{}", report.human(std::io::stdout().is_terminal()));
        }
        match report.errors.len() {
            0 => ExitCode::SUCCESS,
            errors if errors == report.failed => ExitCode::from(NO),
            _ => ExitCode::from(CANNOT),
        }
    }
}
