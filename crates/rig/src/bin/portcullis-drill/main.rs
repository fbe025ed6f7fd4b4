//! `portcullis-drill`: what passes while the gate dies, hangs or is stuck, measured over many runs.

#![deny(unsafe_code)]

use clap::{Parser, ValueEnum};
use rig::drill::{Cause, Drill, Line, Mode, Report};
use rig::{Error, Rig};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Make the gate fail in every way, many times, under traffic, in network namespaces; say how long its fail mode took, what leaked and what was lost. Needs root.
#[derive(Parser)]
struct Arguments {
    /// The gate's binary
    #[arg(long, value_name = "FILE", default_value = "target/release/portcullis")]
    gate: PathBuf,
    /// Runs of each cause in each mode
    #[arg(long, default_value_t = 100)]
    runs: usize,
    /// The gate's watchdog, milliseconds
    #[arg(long, value_name = "MS", default_value_t = 200)]
    watchdog: u64,
    /// Only these causes; may be given several times
    #[arg(long, value_name = "CAUSE")]
    only: Vec<Causes>,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Write both beside each other into this folder
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum, PartialEq, Eq)]
enum Causes {
    Kill,
    Abort,
    Oom,
    Stop,
    Stuck,
    Restart,
    Handover,
}

impl Causes {
    fn is(self, cause: Cause) -> bool {
        self.to_possible_value()
            .is_some_and(|value| value.get_name() == cause.name())
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(faults) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(faults) => {
            for fault in faults {
                eprintln!("portcullis-drill: {fault}");
            }
            ExitCode::FAILURE
        }
        Err(Error::Interrupted) => ExitCode::from(130),
        Err(e) => {
            eprintln!("portcullis-drill: {e}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> rig::Result<Vec<String>> {
    if !rig::root_or_say("the failure drills") {
        return Ok(vec!["run it as root".into()]);
    }
    rig::catch_signals()?;
    let watchdog = Duration::from_millis(arguments.watchdog);
    let only = arguments.only.iter().filter_map(Causes::to_possible_value);
    let only: String = only
        .map(|cause| format!(" --only {}", cause.get_name()))
        .collect();
    let command = format!(
        "portcullis-drill --runs {} --watchdog {}{only}",
        arguments.runs, arguments.watchdog
    );
    let mut report = Report::new(command, watchdog);
    let wanted = |cause: &Cause| {
        arguments.only.is_empty() || arguments.only.iter().any(|only| only.is(*cause))
    };
    let both = [false, true].map(|managed| (Mode::Closed, managed));
    let all = both
        .into_iter()
        .chain(both.map(|(_, managed)| (Mode::Open, managed)));
    for (mode, managed) in all {
        let causes = Cause::ALL.into_iter().filter(wanted);
        let causes: Vec<Cause> = causes
            .filter(|cause| cause.is_a_handover() == managed)
            .collect();
        if causes.is_empty() {
            continue;
        }
        let rig = Rig::new()?;
        let mut drill = Drill::start(&rig, &arguments.gate, (mode, managed), watchdog)?;
        for cause in causes {
            let mut outcomes = Vec::new();
            while outcomes.len() < arguments.runs {
                let Some(outcome) = drill.run(cause)? else {
                    break;
                };
                outcomes.push(outcome);
                if outcomes.len().is_multiple_of(25) {
                    eprintln!(
                        "{} {}: {} of {} runs",
                        mode.name(),
                        cause.name(),
                        outcomes.len(),
                        arguments.runs
                    );
                }
            }
            if !outcomes.is_empty() {
                report.lines.push(Line::of(mode, cause, &outcomes));
            }
        }
        drill.finish()?;
    }
    let json = serde_json::to_string_pretty(&report).unwrap_or_default();
    match arguments.json {
        true => println!("{json}"),
        false => print!("{}", report.text()),
    }
    if let Some(dir) = &arguments.results {
        let date = rig::drill::time();
        for (ending, text) in [("txt", report.text()), ("json", json + "\n")] {
            let path = dir.join(format!("{date}-failing.{ending}"));
            std::fs::write(&path, text).map_err(|source| Error::Io {
                what: format!("writing {}", path.display()),
                source,
            })?;
            eprintln!("wrote {}", path.display());
        }
    }
    Ok(report.faults())
}
