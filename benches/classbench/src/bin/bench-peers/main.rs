//! The rule table and DPDK's `rte_acl`, side by side in one run, on the same files, in the same bursts.
//!
//! ```text
//! make bench-peers                                    everything: some ten minutes
//! make bench-peers PEERS_ARGS=--quick                 small and middle sizes, two profiles, three rounds
//! bench-peers --sizes 1000 --profiles fw,fw6 --no-save
//! ```
//!
//! rte_acl is run by DPDK's own `dpdk-test-acl` (Debian package dpdk-dev), in each SIMD mode that this machine can do; the
//! best ones are run in rounds, and the best of these is compared. Each round runs it once, building its table anew, and
//! then the rule table, on the same core.
//! Every answer of both is compared with a linear search. Figures of different runs are not to be compared; ratios
//! within a run are.

mod machine;
mod peer;
mod report;

use clap::Parser;
use classbench::machine::cores;
use classbench::measured::{Side, measure, wrong};
use classbench::{Kind, Profile, Reference, generate, ours, trace, write_rules, write_trace};
use peer::{Files, Mode, Peer};
use portcullis::policy::Family;
use report::{Outcome, Report};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Anything that ends a run; it is told to a person and to nobody else.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Packets of a trace.
const PACKETS: usize = 16_384;
/// Packets handed over at once, to both.
const BURST: usize = 32;
/// How long one round measures each, apart from building.
const WINDOW: Duration = Duration::from_millis(150);
/// From this many rules on, building takes so long that only the modes that did well on fewer rules are tried.
const LARGE: usize = 50_000;
/// How well: at most this many times as slow as the best.
const WELL: f64 = 1.5;

#[derive(Parser)]
#[command(
    about = "The rule table and DPDK's rte_acl side by side, on rule sets like those of ClassBench"
)]
struct Arguments {
    /// Numbers of rules
    #[arg(long, value_delimiter = ',', default_values_t = [16, 128, 1000, 10_000, 100_000])]
    sizes: Vec<usize>,
    /// Rule sets: acl, fw, ipc, egress; with 6 behind it for IPv6
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL.map(Kind::v4))]
    profiles: Vec<Profile>,
    /// Rounds; each has both once
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Sizes to 10,000, acl and fw, three rounds
    #[arg(long)]
    quick: bool,
    /// Seed of the rule sets and traces
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Core that both run on; by default the last one
    #[arg(long)]
    core: Option<usize>,
    /// No new rule set or round is begun after this many seconds
    #[arg(long, default_value_t = 720)]
    at_most: u64,
    /// The peer
    #[arg(long, value_name = "PROGRAM", default_value = "dpdk-test-acl")]
    peer: PathBuf,
    /// Folder for the results
    #[arg(long, value_name = "DIR", default_value = "benches/results")]
    results: PathBuf,
    /// Write no files
    #[arg(long)]
    no_save: bool,
}

fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.quick {
        arguments.sizes.retain(|size| *size <= 10_000);
        arguments
            .profiles
            .retain(|profile| matches!(profile.kind, Kind::Acl | Kind::Fw));
        arguments.rounds = arguments.rounds.min(3);
    }
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("bench-peers: some answers are wrong; see the table");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether every answer was right.
fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let begun = Instant::now();
    machine::catch_signals()?;
    let core = arguments.core.unwrap_or_else(|| cores().saturating_sub(1));
    let pages = machine::HugePages::reserve();
    let peer = Peer::new(&arguments.peer, core, pages.is_some());
    let mut report = Report::new(arguments, core, pages.is_some());
    if pages.is_none() {
        report.remark(
            "no huge pages could be reserved: rte_acl runs on pages of 4 KiB, where it is slower"
                .into(),
        );
    }
    // Modes that a smaller rule set of the profile found good.
    let mut good: Vec<(Profile, Vec<Mode>)> = Vec::new();
    for &size in &arguments.sizes {
        for &profile in &arguments.profiles {
            if begun.elapsed() > Duration::from_secs(arguments.at_most) {
                report.remark(format!(
                    "{profile} with {size} rules left out: {} s are over",
                    arguments.at_most
                ));
                continue;
            }
            let known = good
                .iter()
                .find(|(of, _)| *of == profile)
                .map(|(_, modes)| &modes[..]);
            let modes = match known {
                Some(modes) if size >= LARGE => modes.to_vec(),
                _ => Mode::all(profile.family == Family::V6),
            };
            machine::stopped()?;
            let outcome = compare(arguments, &peer, core, profile, size, &modes, begun)?;
            eprintln!("{profile} {size}: {}", outcome.one_line());
            if outcome.peer.ns.len().min(outcome.ours.ns.len()) < arguments.rounds {
                report.remark(format!(
                    "{profile} with {size} rules: fewer rounds than asked for"
                ));
            }
            let well = outcome.modes_within(WELL);
            if !well.is_empty() {
                good.retain(|(of, _)| *of != profile);
                good.push((profile, well));
            }
            report.add(outcome);
        }
    }
    print!("{}", report.markdown());
    if !arguments.no_save {
        report.save(&arguments.results)?;
    }
    Ok(report.right())
}

/// One rule set: the modes of the peer one after the other, then rounds of the best ones and of ours.
fn compare(
    arguments: &Arguments,
    peer: &Peer,
    core: usize,
    profile: Profile,
    size: usize,
    modes: &[Mode],
    begun: Instant,
) -> Result<Outcome, Failure> {
    let rules = generate(profile, size, arguments.seed);
    let headers = trace(&rules, PACKETS, arguments.seed);
    let reference = Reference::new(&rules);
    let first = |header| reference.first_match(header);
    let right: Vec<Option<usize>> = headers.iter().map(first).collect();
    let texts = (write_rules(&rules), write_trace(&headers));
    let files = Files::write(&texts.0, &texts.1, size, PACKETS, profile.family)?;
    let keys: Vec<_> = headers.iter().map(classbench::key).collect();

    let mut outcome = Outcome::new(profile, size);
    let mut best = tried(peer, &files, modes, &mut outcome)?;
    let table = match ours::compile(&rules) {
        Ok((table, took)) => {
            let found = ours::answers(&table, &keys, BURST);
            outcome.ours.wrong = Some(wrong(&right, &found));
            outcome.ours.bytes = Some(table.memory());
            outcome.ours.builds.push(took);
            Some(table)
        }
        Err(error) => {
            outcome.ours.error = Some(error.to_string());
            None
        }
    };
    for round in 0..arguments.rounds {
        if round > 0 && begun.elapsed() > Duration::from_secs(arguments.at_most) {
            break;
        }
        for (mode, ns, side) in &mut best {
            // The first pass is a cold one, and it is in the time that the peer prints: one of at least forty.
            let passes = WINDOW.as_nanos() as f64 / (*ns * PACKETS as f64);
            let run = peer.run(&files, *mode, (passes as usize).clamp(40, 4000), false);
            machine::stopped()?;
            match run {
                Ok(run) => {
                    side.ns.push(run.ns);
                    side.builds.push(run.build);
                }
                Err(error) => outcome.refused.push((*mode, error.to_string())),
            }
        }
        if let Some(table) = &table {
            let pass = || ours::pass::<BURST>(table, &keys);
            let ns = measure(pass, keys.len(), WINDOW, core);
            outcome.ours.ns.push(ns);
            // Compiled anew as the peer's is, for the time of it.
            if round > 0 {
                outcome
                    .ours
                    .builds
                    .extend(ours::compile(&rules).map(|(_, took)| took));
            }
        }
    }
    let median = |side: &Side| side.median().unwrap_or(f64::INFINITY);
    best.sort_by(|(.., a), (.., b)| median(a).total_cmp(&median(b)));
    match best.into_iter().next() {
        Some((mode, _, side)) => {
            let checked = peer.run(&files, mode, 1, true)?;
            outcome.peer = side;
            outcome.peer.wrong = Some(wrong(&right, &checked.answers));
            outcome.peer.bytes = Some(checked.bytes);
            outcome.best = Some(mode);
        }
        None => outcome.peer.error = outcome.refused.first().map(|(_, error)| error.clone()),
    }
    Ok(outcome)
}

/// A mode of the peer, its time in short runs, and what rounds say of it.
type Contender = (Mode, f64, Side);

/// Each mode of the peer in short runs; the best ones: two, or one where building takes long.
fn tried(
    peer: &Peer,
    files: &Files,
    modes: &[Mode],
    outcome: &mut Outcome,
) -> Result<Vec<Contender>, Failure> {
    let (tries, passes, rounds_of) = if outcome.size >= LARGE {
        (1, 20, 1)
    } else {
        (2, 60, 2)
    };
    for &mode in modes {
        let run = |_| Ok(peer.run(files, mode, passes, false)?.ns);
        let tries: Result<Vec<f64>, Failure> = (0..tries).map(run).collect();
        machine::stopped()?;
        match tries {
            Ok(tries) => {
                let least = tries.into_iter().fold(f64::INFINITY, f64::min);
                outcome.modes.push((mode, least));
            }
            Err(error) => outcome.refused.push((mode, error.to_string())),
        }
    }
    let mut sorted = outcome.modes.clone();
    sorted.sort_by(|(_, a), (_, b)| a.total_cmp(b));
    let best = sorted.into_iter().take(rounds_of);
    Ok(best.map(|(mode, ns)| (mode, ns, Side::default())).collect())
}
