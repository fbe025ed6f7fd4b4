//! Packets a second through the gate, through other boxes and through a bare AF_XDP loop: the same frames, the same cables, rounds in turn.
//!
//! ```text
//! measure     a lab is built, a box put in, proved, flooded, and all taken down
//!   netns     three namespaces and two cables
//!   traffic   generator and sinks: programs in the kernel (bpf/rig.bpf.c), on one core
//!   boxes     what stands in the middle, on another core
//!   check     it forwards, it filters, its flows are open
//! report      medians, ratios and bars, as Markdown and JSON
//! ```
//!
//! Figures of different runs are not to be compared: machines differ, and one machine differs from hour to hour. Ratios within a run are.
#![deny(unsafe_code)]

mod boxes;
mod check;
mod contender;
mod frames;
mod measure;
mod netns;
mod report;
mod rules;
mod traffic;

use clap::Parser;
use contender::{CONTENDERS, Contender};
use measure::Setup;
use report::Results;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Anything that ends a run; it is told to a person and to nobody else.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Building and taking down a lab and a box, and opening flows, beside what is measured.
const AROUND: Duration = Duration::from_secs(4);
/// Flows that the gate has room for by default, and conntrack on most machines.
const MOST_FLOWS: i64 = 250_000;

static STOPPED: AtomicBool = AtomicBool::new(false);

const ABOUT: &str = "Forwarding rates side by side, with 64-byte frames";

const LONG_ABOUT: &str = "\
Forwarding rates side by side, with 64-byte frames.

Three network namespaces are joined by veth pairs, lan - mid - uplink. A generator floods the LAN port from one core; the box \
stands in the middle, on another core; a sink counts what comes out. Each round measures each box once, in turn, in a lab of \
its own. Before that a box has to show that it forwards, a filter that it drops what each of its rules forbids, and one with \
state that all flows are open. Needs root, iproute2 and ethtool; nftables and DPDK for the boxes of these names.

Compare within a run only, on a quiet machine, by medians and ratios.";

const EXAMPLES: &str = "\
Examples:
  bench-rig                                  eight rounds of all boxes, some ten minutes
  bench-rig --list                           what each box is, and what is not installed
  bench-rig --only 'testpmd io' --only 'gate, 1000 rules' --rounds 3 --no-save
  bench-rig --flows 1000 --seconds 0.5 --rounds 1 --no-save
  bench-rig --show benches/results/FILE.json";

#[derive(Parser)]
#[command(about = ABOUT, long_about = LONG_ABOUT, after_help = EXAMPLES)]
struct Arguments {
    /// Rounds; each has every box once
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Seconds measured each time
    #[arg(long, value_name = "S", default_value_t = 1.0)]
    seconds: f64,
    /// Seconds flooded before
    #[arg(long, value_name = "S", default_value_t = 0.5)]
    warm_up: f64,
    /// Flows of the load; boxes with state have them all open
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(i64).range(1..=MOST_FLOWS))]
    flows: i64,
    /// No new measurement is begun that would end after this many seconds
    #[arg(long, value_name = "S", default_value_t = 700)]
    at_most: u64,
    /// Only these boxes, by name; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Say which boxes there are, and stop
    #[arg(long)]
    list: bool,
    /// Print the page of results that were kept as JSON, and stop
    #[arg(long, value_name = "FILE")]
    show: Option<PathBuf>,
    /// Core of the box
    #[arg(long, value_name = "CORE", default_value_t = 0)]
    box_core: usize,
    /// Core of the generator and the sink
    #[arg(long, value_name = "CORE", default_value_t = 1)]
    generator_core: usize,
    /// The gate's binary; by default the one beside this
    #[arg(long, value_name = "FILE")]
    gate: Option<PathBuf>,
    /// Do not measure, at the end, what the gate's loop does with no kernel in the way
    #[arg(long)]
    no_ceiling: bool,
    /// Print JSON instead of the page
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
    if arguments.list {
        list();
        return Ok(());
    }
    if let Some(file) = &arguments.show {
        print!("{}", Results::read(file)?.markdown());
        return Ok(());
    }
    let contenders = chosen(&arguments.only)?;
    if !nix::unistd::geteuid().is_root() {
        return Err("this needs root, for namespaces and XDP".into());
    }
    catch_signals()?;
    let setup = Setup {
        gate: gate(arguments, &contenders)?,
        box_core: arguments.box_core,
        generator_core: arguments.generator_core,
        flows: usize::try_from(arguments.flows)?,
        warm_up: Duration::try_from_secs_f64(arguments.warm_up)?,
        window: Duration::try_from_secs_f64(arguments.seconds)?,
    };
    let mut results = Results::new(&setup, arguments.rounds);
    for contender in &contenders {
        results.enter(contender, boxes::missing(contender.kind));
    }
    rounds(arguments, &setup, &contenders, &mut results)?;
    if contenders.iter().any(is_gate) && !arguments.no_ceiling {
        match report::measure_ceiling(&setup.gate, setup.box_core) {
            Ok(ceiling) => results.ceiling = Some(ceiling),
            Err(e) => results.note(e.to_string()),
        }
    }
    if arguments.json {
        println!("{:#}", results.json()?);
    } else {
        print!("{}", results.markdown());
    }
    if !arguments.no_save {
        results.save(&arguments.results)?;
    }
    Ok(())
}

/// Every box once in each round, each round beginning with another one, so that none is always the first.
fn rounds(
    arguments: &Arguments,
    setup: &Setup,
    contenders: &[Contender],
    results: &mut Results,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let each = setup.warm_up + setup.window + AROUND;
    for round in 0..arguments.rounds {
        for at in 0..contenders.len() {
            let index = (at + round as usize) % contenders.len();
            if results.boxes[index].missing.is_some() {
                continue;
            }
            if begun.elapsed() + each > Duration::from_secs(arguments.at_most) {
                results.note(format!(
                    "stopped in round {} of {}: {} s are over",
                    round + 1,
                    arguments.rounds,
                    arguments.at_most
                ));
                return Ok(());
            }
            let contender = &contenders[index];
            let shown = format!(
                "round {} of {}, {}",
                round + 1,
                arguments.rounds,
                contender.name
            );
            match measure::measure(contender, setup) {
                Ok(figures) => {
                    let seconds = begun.elapsed().as_secs();
                    eprintln!("{seconds:>4} s  {shown}: {}", report::one_line(&figures));
                    results.add(index, figures);
                }
                Err(e) if STOPPED.load(Relaxed) => return Err(e),
                Err(e) => results.note(format!("{shown}: refused: {e}")),
            }
        }
    }
    Ok(())
}

fn is_gate(contender: &Contender) -> bool {
    matches!(contender.kind, contender::Kind::Gate { .. })
}

/// The gate's binary, which need not be there if no box is a gate.
fn gate(arguments: &Arguments, contenders: &[Contender]) -> Result<PathBuf, Failure> {
    let beside = std::env::current_exe()?.with_file_name("portcullis");
    let gate = arguments.gate.clone().unwrap_or(beside);
    if contenders.iter().any(is_gate) && !gate.exists() {
        return Err(format!(
            "{} is not there; run: cargo build --release",
            gate.display()
        )
        .into());
    }
    Ok(gate.canonicalize().unwrap_or(gate))
}

fn list() {
    for contender in CONTENDERS {
        let missing =
            boxes::missing(contender.kind).map_or(String::new(), |why| format!("; {why}"));
        println!("{:<32}{}{missing}", contender.name, contender.what);
    }
}

fn chosen(only: &[String]) -> Result<Vec<Contender>, Failure> {
    let named = |name: &&String| CONTENDERS.iter().any(|contender| contender.name == **name);
    if let Some(unknown) = only.iter().find(|name| !named(name)) {
        let names = CONTENDERS.map(|contender| contender.name);
        return Err(format!("there is no \"{unknown}\"; there are: {}", names.join("; ")).into());
    }
    let wanted =
        |contender: &&Contender| only.is_empty() || only.iter().any(|name| name == contender.name);
    Ok(CONTENDERS.iter().filter(wanted).copied().collect())
}

/// An error once a signal asked to stop.
fn stopped() -> Result<(), Failure> {
    if STOPPED.load(Relaxed) {
        return Err("stopped by a signal".into());
    }
    Ok(())
}

/// Sleeps; an error as soon as a signal asks to stop, so that everything is taken down on the way out.
fn pause(time: Duration) -> Result<(), Failure> {
    let end = Instant::now() + time;
    loop {
        stopped()?;
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
