//! The commands, one a file. Exit status: 0 done, 1 the answer is no, 2 it could not be done.

mod alerts;
mod bench;
mod check;
mod detach;
mod diff;
mod doctor;
mod explain;
mod gate;
mod quarantine;
mod reload;
mod replay;
mod run;
mod sets;
mod status;
mod test;
mod top;

use crate::config::{self, Config};
use clap::{Args, Parser, Subcommand};
use gate::Gate;
use std::path::PathBuf;
use std::process::ExitCode;

/// The exit status of what could not be done: bad input, a missing interface, no privilege.
const CANNOT: u8 = 2;
/// The exit status of a question whose answer is no.
const NO: u8 = 1;

/// An egress firewall for a two-NIC bridge box: what is forbidden does not leave, and the administrator learns which machine it was.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  portcullis check -c portcullis.toml
  portcullis test -c portcullis.toml --tests policy-tests.toml
  portcullis explain -c portcullis.toml --dir out --proto udp --src 10.77.0.9:40000 --dst 93.184.216.34:69
  portcullis replay -c portcullis.toml --lan-prefix 10.77.0.0/24 capture.pcapng
  portcullis doctor -c portcullis.toml
  portcullis run -c portcullis.toml
  portcullis status
  portcullis top
  portcullis alerts --since 1h
  portcullis sets add mail_servers 10.0.0.25
  portcullis quarantine 10.77.0.9 --for 1h
  portcullis diff -c new.toml
  portcullis commit -c new.toml --confirm 60s
  portcullis bench throughput --lan enp1s0 --uplink enp2s0";

#[derive(Subcommand)]
enum Command {
    /// Filter between the two NICs of the config, until SIGTERM or Ctrl-C
    Run(run::Run),
    /// Read a config and say what is wrong with it, and what would be right
    Check(check::Check),
    /// Run the config's own policy tests, and those of other files
    Test(test::Test),
    /// Say what the policy does with one packet, by which rule, and why
    Explain(explain::Explain),
    /// Run a capture file through the production loop: no root, no NIC, time comes from the capture
    Replay(replay::Replay),
    /// Show what a running gate has seen, forwarded and dropped
    Status(status::Status),
    /// Watch a running gate: rates, rules, the last incidents, and what it would do with a packet
    Top(top::Top),
    /// Show the alerts of the alert file, of one host or rule, and follow those that come
    Alerts(alerts::Alerts),
    /// Say what rules in shadow would have blocked, by rule and host
    Shadow(alerts::shadow::Shadow),
    /// Show and change the sets of a running gate, at once and for good
    Sets(sets::Sets),
    /// Cut a host off for a time, at once; show who is cut off, and let go
    Quarantine(quarantine::Quarantine),
    /// Read the config of a running gate again, and put it into force at once
    Reload(reload::Reload),
    /// Put a config into force on a running gate, for good or until it is confirmed
    Commit(reload::Commit),
    /// Say what another config would change: rules, sets, and which flows and hosts of now it would hit
    Diff(diff::Diff),
    /// Take back a config that waits to be confirmed
    Rollback(reload::Rollback),
    Doctor(doctor::Doctor),
    Bench(bench::Bench),
    /// Take the in-kernel gate off the NICs and put them back as they were
    Detach(detach::Detach),
}

/// Where the config is, unless a command is told.
const CONFIG: &str = "/etc/portcullis/portcullis.toml";

/// The config that a command reads.
#[derive(Args)]
struct ConfigFile {
    /// The config file
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = CONFIG
    )]
    config: PathBuf,
}

impl ConfigFile {
    /// Loads it, or says on standard error what is wrong with it.
    fn load(&self) -> Result<Config, ExitCode> {
        config::load(&self.config).map_err(|e| {
            cannot(format!(
                "{e}; `portcullis check -c {}` shows every problem in its place",
                self.config.display()
            ))
        })
    }
}

/// The command line as it is parsed, for man pages and completions.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Run(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Test(command) => command.run(),
        Command::Explain(command) => command.run(),
        Command::Replay(command) => command.run(),
        Command::Status(command) => command.run(),
        Command::Top(command) => command.run(),
        Command::Alerts(command) => command.run(),
        Command::Shadow(command) => command.run(),
        Command::Sets(command) => command.run(),
        Command::Quarantine(command) => command.run(),
        Command::Reload(command) => command.run(),
        Command::Commit(command) => command.run(),
        Command::Diff(command) => command.run(),
        Command::Rollback(command) => command.run(),
        Command::Doctor(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Detach(command) => command.run(),
    }
}

/// One line on standard error, and exit status 2.
fn cannot(error: impl std::fmt::Display) -> ExitCode {
    eprintln!("portcullis: {error}");
    ExitCode::from(CANNOT)
}

/// Prints JSON, or says why not.
fn print_json(value: &impl serde::Serialize) -> ExitCode {
    match serde_json::to_string(value) {
        Ok(text) => {
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(e) => cannot(e),
    }
}
