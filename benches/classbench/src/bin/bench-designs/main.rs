//! The rule table beside other designs, on the same rule sets and traces as `bench-peers`: tuple space search, decision
//! trees, cross-producting. Each is written for bursts, as the rule table is: its loads are asked for ahead, for the whole
//! burst.
//!
//! ```text
//! make bench-designs                                       everything: some minutes
//! bench-designs --sizes 1000 --profiles fw --no-save
//! ```

mod contest;
mod crossing;
mod design;
mod grow;
mod hashed;
mod lanes;
mod pruned;
mod report;
mod rows;
mod search;
#[cfg(test)]
mod tests;
mod tree;
mod tuple_space;
mod tuples;

use clap::Parser;
use classbench::machine::cores;
use classbench::{Kind, Profile};
use report::Report;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Anything that ends a run; it is told to a person and to nobody else.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Packets of a trace.
const PACKETS: usize = 16_384;
/// How long one round measures each, apart from building.
const WINDOW: Duration = Duration::from_millis(150);

const ABOUT: &str = "The rule table beside other designs of classifiers

  tuple space          a hash table for each combination of prefix lengths,
                       ports and protocol that rules ask for, merged, asked in
                       the order of their earliest rules (TupleMerge)
  tuple space, pruned  the same, but each field says first which of the tables
                       can hold the packet
  decision trees       one tree for each kind of rule by what is wide in it,
                       nodes of thirteen children, leaves of eight rules
                       compared at once
  cross-products       tables of pairs of classes (recursive flow
                       classification)
  rule table           the one that the gate uses

Rule sets are like those of ClassBench. Each looks up the same trace in bursts
of 32, in rounds, in turn, on one core. Every answer is compared with a linear
search; one that is wrong fails the run. Figures of different runs are not to
be compared; ratios within a run are.";

const EXAMPLES: &str = "Examples:
  GLIBC_TUNABLES=glibc.malloc.hugetlb=1 bench-designs
      everything, on huge pages, as `make bench-designs` runs it
  bench-designs --sizes 1000 --profiles fw --rounds 9 --core 1 --no-save
      one kind of rule set, nothing written";

#[derive(Parser)]
#[command(about = ABOUT, after_help = EXAMPLES)]
struct Arguments {
    /// Numbers of rules
    #[arg(long, value_delimiter = ',', default_values_t = [1000, 10_000, 100_000])]
    sizes: Vec<usize>,
    /// Rule sets: acl, fw, ipc, egress
    #[arg(long, value_delimiter = ',', default_values_t = Kind::ALL.map(Kind::v4))]
    profiles: Vec<Profile>,
    /// Rounds; each has every design once, for 150 ms
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seed of the rule sets and traces
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Core that all run on; by default the last one
    #[arg(long)]
    core: Option<usize>,
    /// MiB that a design may take
    #[arg(long, default_value_t = 512)]
    memory: usize,
    /// Seconds that building a design may take
    #[arg(long, default_value_t = 60)]
    build_seconds: u64,
    /// Print the JSON instead of the table
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
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("bench-designs: some answers are wrong; see the table");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench-designs: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether every answer was right.
fn run(arguments: &Arguments) -> Result<bool, Failure> {
    let core = arguments.core.unwrap_or(cores().saturating_sub(1));
    let mut report = Report::new(arguments, core);
    for &size in &arguments.sizes {
        for &profile in &arguments.profiles {
            eprintln!("{profile}, {size} rules");
            let outcome = contest::contest(arguments, profile, size, core)?;
            eprintln!("  {}", report::one_line(&outcome));
            report.add(outcome);
        }
    }
    if arguments.json {
        println!("{:#}", report.json());
    } else {
        print!("{}", report.markdown());
    }
    if !arguments.no_save {
        report.save(&arguments.results)?;
    }
    Ok(report.right())
}
