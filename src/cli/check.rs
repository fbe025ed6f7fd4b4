//! `portcullis check`.

use super::{ConfigFile, NO};
use crate::config::{check, error};
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
            super::print_json(&report);
        } else {
            print!("{}", error::render(&report.problems, std::io::stdout().is_terminal()));
            println!("{}", report.summary());
        }
        if report.ok() { ExitCode::SUCCESS } else { ExitCode::from(if report.only_tests_failed() { NO } else { super::CANNOT }) }
    }
}
