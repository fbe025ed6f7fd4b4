//! Packets a second through the gate, the kernel's bridge and a bare AF_XDP loop: the same frames, the same cables, interleaved rounds.
//!
//! ```text
//! make bench-rig                                  five rounds of everything, some five minutes; root
//! bench-rig --only gate --rounds 1 --no-save      one figure
//! ```
//!
//! The generator and the sink are XDP programs in the kernel (`bpf/rig.bpf.c`) on one core, the box is on another. Figures of different
//! runs are not to be compared: machines differ, and one machine differs from hour to hour. Ratios within a run are.
#![deny(unsafe_code)]

mod boxes;
mod floor;
mod frames;
mod gate;
mod measure;
mod netns;
mod report;
mod traffic;

use boxes::{CONTENDERS, Contender};
use clap::Parser;
use measure::Setup;
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Anything that ends a run; it is told to a person and to nobody else.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Building and taking down a lab and a box, beside what is measured.
const AROUND: Duration = Duration::from_millis(1500);

static STOPPED: AtomicBool = AtomicBool::new(false);

#[derive(Parser)]
#[command(about = "Forwarding rates side by side, with 64-byte frames")]
struct Arguments {
    /// Rounds; each has every contender once
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Seconds measured each time
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// Seconds flooded before
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// No new measurement is begun that would end after this many seconds
    #[arg(long, default_value_t = 360)]
    at_most: u64,
    /// Only these contenders, by name; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Core of the box
    #[arg(long, default_value_t = 0)]
    box_core: usize,
    /// Core of the generator and the sink
    #[arg(long, default_value_t = 1)]
    generator_core: usize,
    /// The gate's binary; by default the one beside this
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
    /// Print JSON instead of the table
    #[arg(long)]
    json: bool,
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "benches/results")]
    results: PathBuf,
    /// Write no files
    #[arg(long)]
    no_save: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("bench-rig: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err("this needs root, for namespaces and XDP".into());
    }
    catch_signals()?;
    let gate = match &arguments.gate {
        Some(gate) => gate.canonicalize()?,
        None => std::env::current_exe()?.with_file_name("portcullis"),
    };
    if !gate.exists() {
        return Err(format!(
            "{} is not there; run: cargo build --release",
            gate.display()
        )
        .into());
    }
    let setup = Setup {
        gate,
        box_core: arguments.box_core,
        generator_core: arguments.generator_core,
        warm_up: Duration::try_from_secs_f64(arguments.warm_up)?,
        window: Duration::try_from_secs_f64(arguments.seconds)?,
    };
    let contenders = chosen(&arguments.only)?;
    let mut report = Report::new(&contenders, &setup, arguments.rounds);
    let begun = Instant::now();
    let each = setup.warm_up + setup.window + AROUND;
    'rounds: for round in 0..arguments.rounds {
        for at in 0..contenders.len() {
            // Each round begins with another one, so that none is always the first.
            let index = (at + round as usize) % contenders.len();
            if begun.elapsed() + each > Duration::from_secs(arguments.at_most) {
                report.remark(format!(
                    "stopped in round {} of {}: {} s are over",
                    round + 1,
                    arguments.rounds,
                    arguments.at_most
                ));
                break 'rounds;
            }
            let name = contenders[index].name;
            match measure::measure(&contenders[index], &setup) {
                Ok(figures) => {
                    eprintln!("round {} {name}: {}", round + 1, report::one_line(&figures));
                    report.add(index, figures);
                }
                Err(e) if STOPPED.load(Relaxed) => return Err(e),
                Err(e) => report.remark(format!("round {} {name}: refused: {e}", round + 1)),
            }
        }
    }
    if arguments.json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.text());
    }
    if !arguments.no_save {
        report.save(&arguments.results)?;
    }
    Ok(())
}

fn chosen(only: &[String]) -> Result<Vec<Contender>, Failure> {
    let names: Vec<&str> = CONTENDERS.iter().map(|contender| contender.name).collect();
    if let Some(unknown) = only.iter().find(|name| !names.contains(&name.as_str())) {
        return Err(format!("there is no \"{unknown}\"; there are: {}", names.join("; ")).into());
    }
    let wanted =
        |contender: &&Contender| only.is_empty() || only.iter().any(|name| name == contender.name);
    let mut chosen = Vec::new();
    for contender in CONTENDERS.iter().filter(wanted) {
        match boxes::missing(contender) {
            Some(why) => eprintln!("bench-rig: without {}: {why}", contender.name),
            None => chosen.push(*contender),
        }
    }
    Ok(chosen)
}

/// Sleeps; an error as soon as a signal asks to stop, so that everything is taken down on the way out.
fn pause(time: Duration) -> Result<(), Failure> {
    let end = Instant::now() + time;
    loop {
        if STOPPED.load(Relaxed) {
            return Err("stopped by a signal".into());
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
}

extern "C" fn stop(_signal: i32) {
    STOPPED.store(true, Relaxed);
}

#[allow(unsafe_code)]
fn catch_signals() -> Result<(), Failure> {
    use nix::sys::signal::{SigHandler, Signal, signal};
    for which in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the handler does nothing but store to an atomic, which is allowed in a signal handler.
        unsafe { signal(which, SigHandler::Handler(stop)) }?;
    }
    Ok(())
}
