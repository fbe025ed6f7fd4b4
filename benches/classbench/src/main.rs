//! `classbench gen acl 1000 1 --rules acl.rules --trace acl.trace`

use clap::{Parser, Subcommand};
use classbench::{Profile, generate, trace, write_rules, write_trace};
use std::path::PathBuf;
use std::process::ExitCode;

/// Rule sets and packet traces like those of ClassBench, from a seed.
#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Write a rule set and, if asked, a trace.
    Gen {
        /// acl, fw, ipc or egress; with 6 behind it for IPv6.
        profile: Profile,
        /// How many rules, the match-all at the end included.
        #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        n: u32,
        /// Seed of both.
        seed: u64,
        /// Where the rules go.
        #[arg(long, value_name = "FILE")]
        rules: PathBuf,
        /// Where the packets go.
        #[arg(long, value_name = "FILE")]
        trace: Option<PathBuf>,
        /// How many packets.
        #[arg(long, default_value_t = 16_384)]
        packets: usize,
    },
}

fn main() -> ExitCode {
    let Command::Gen {
        profile,
        n,
        seed,
        rules,
        trace: packets_to,
        packets,
    } = Cli::parse().command;
    let set = generate(profile, n as usize, seed);
    let headers = packets_to.map(|path| (path, write_trace(&trace(&set, packets, seed))));
    for (path, text) in [(rules, write_rules(&set))].into_iter().chain(headers) {
        if let Err(error) = std::fs::write(&path, text) {
            eprintln!("classbench: {}: {error}", path.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
