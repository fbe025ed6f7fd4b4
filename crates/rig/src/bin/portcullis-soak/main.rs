//! `portcullis-soak`: hours of a box's troubles in half an hour.

#![deny(unsafe_code)]

use clap::Parser;
use rig::Error;
use rig::soak::soak;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Run the gate under traffic while configs, sets, links, floods, malformed frames, stops and kills go on; at the end its memory must be flat and every frame accounted for. Needs root.
#[derive(Parser)]
struct Arguments {
    /// The gate's binary
    #[arg(long, value_name = "FILE", default_value = "target/release/portcullis")]
    gate: PathBuf,
    /// How long, minutes
    #[arg(long, default_value_t = 30.0)]
    minutes: f64,
    /// Troubles come in the same order for the same number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print JSON instead of lines
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Error::Interrupted) => ExitCode::from(130),
        Err(e) => {
            eprintln!("portcullis-soak: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> rig::Result<bool> {
    if !rig::root_or_say("the soak") {
        return Ok(false);
    }
    rig::catch_signals()?;
    let length = Duration::try_from_secs_f64(arguments.minutes * 60.0).unwrap_or_default();
    let soaked = soak(&arguments.gate, length, arguments.seed, |line| {
        eprintln!("portcullis-soak: {line}")
    })?;
    if arguments.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&soaked).unwrap_or_default()
        );
    } else {
        let troubles: Vec<String> = soaked
            .troubles
            .iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect();
        println!(
            "{} s, seed {}; {}; {} starts",
            soaked.seconds,
            arguments.seed,
            troubles.join(", "),
            soaked.starts
        );
        println!(
            "resident memory: at most {} kB in the first half of the last life, {} kB in the second",
            soaked.memory_kb[0], soaked.memory_kb[1]
        );
        for (side, (seen, account)) in ["lan", "uplink"].into_iter().zip(soaked.accounts) {
            println!("{side}: the XDP program saw {seen} frames, {account} are in the account");
        }
    }
    for fault in &soaked.faults {
        eprintln!("portcullis-soak: {fault}");
    }
    Ok(soaked.faults.is_empty())
}
