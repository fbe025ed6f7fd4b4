//! `portcullis check`.

use super::{CANNOT, ConfigFile, NO};
use crate::config::check;
use std::io::IsTerminal;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Check {
    #[command(flatten)]
    config: ConfigFile,
    /// Print how large the rules and sets are, and how long reading, judging and compiling them took
    #[arg(long)]
    stats: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Check {
    pub(super) fn run(self) -> ExitCode {
        let report = check::report(&self.config.config);
        let stats = report.stats.as_ref().filter(|_| self.stats);
        if self.json {
            let mut json = report.json();
            if let Some(stats) = stats {
                json["stats"] = stats.json();
            }
            super::print_json(&json);
        } else {
            print!("{}", report.human(std::io::stdout().is_terminal()));
            if let Some(stats) = stats {
                print!("\n{}", stats.human());
            }
        }
        match report.errors.len() {
            0 => ExitCode::SUCCESS,
            errors if errors == report.failed => ExitCode::from(NO),
            _ => ExitCode::from(CANNOT),
        }
    }
}
