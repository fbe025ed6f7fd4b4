//! One rule set looked up with one kernel, for a tool that counts instructions and branches of the function `measured`:
//! see `benches/classbench/branches.sh`, which runs it under callgrind.
//!
//! ```text
//! branches --profile fw --rules 10000 --order random --kernel avx2
//! ```
//!
//! Prints one line on the table's shape, which is all that the loops of the lookup may depend on.

use clap::{Parser, ValueEnum};
use classbench::{Profile, generate, key, policy, trace};
use portcullis::policy::table::Kernel;
use portcullis::policy::{Key, RuleId, Table};
use std::hint::black_box;
use std::process::ExitCode;

/// Keys handed over at once.
const BURST: usize = 32;

#[derive(Parser)]
#[command(about = "Looks a trace up in the rule table, for tools that count branches")]
struct Arguments {
    /// Rule set: acl, fw, ipc, egress; with 6 behind it for IPv6
    #[arg(long, default_value = "acl")]
    profile: Profile,
    /// Number of rules, the match-all at the end included
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rules: u32,
    /// Number of packets
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(1..))]
    packets: u32,
    /// Order of the packets
    #[arg(long, value_enum, default_value_t = Order::Random)]
    order: Order,
    /// portable, avx2 or avx512
    #[arg(long, default_value = "portable", value_parser = kernel)]
    kernel: Kernel,
    /// How often the packets are looked up
    #[arg(long, default_value_t = 1)]
    repeat: u32,
    /// Seed of the rule set and the trace
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Order {
    /// As the trace has them: each packet drawn from a rule at random
    Random,
    /// The same packets, by the rule that decides, then by addresses and ports
    Sorted,
    /// The first packet, over and over
    Same,
}

fn kernel(name: &str) -> Result<Kernel, String> {
    [Kernel::Portable, Kernel::Avx2, Kernel::Avx512]
        .into_iter()
        .find(|kernel| kernel.name() == name)
        .ok_or_else(|| "one of portable, avx2, avx512".to_owned())
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("branches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let rules = generate(arguments.profile, arguments.rules as usize, arguments.seed);
    let headers = trace(&rules, arguments.packets as usize, arguments.seed);
    let table = Table::compile(&policy(&rules)).map_err(|error| error.to_string())?;
    let table = table
        .with_kernel(arguments.kernel)
        .ok_or_else(|| format!("this processor cannot run {}", arguments.kernel.name()))?;
    let keys = ordered(&table, headers.iter().map(key).collect(), arguments.order);
    measured(&table, &keys, arguments.repeat);
    let shape = table.shape();
    println!(
        "bitset words {}, chunks of lists {}, bytes {}",
        shape.words,
        shape.chunks,
        table.memory()
    );
    Ok(())
}

fn ordered(table: &Table, mut keys: Vec<Key>, order: Order) -> Vec<Key> {
    match order {
        Order::Random => {}
        Order::Sorted => keys.sort_by_cached_key(|key| {
            let rule = table.lookup(key).index();
            (rule, key.src, key.dst, key.sport, key.dport)
        }),
        Order::Same => {
            let first = keys[0];
            keys.fill(first);
        }
    }
    keys
}

/// What is counted: the look-ups of all keys, and nothing else.
#[inline(never)]
fn measured(table: &Table, keys: &[Key], repeat: u32) {
    let mut out = [RuleId(0); BURST];
    for _ in 0..repeat {
        for keys in keys.chunks(BURST) {
            table.classify(black_box(keys), &mut out);
            black_box(&out);
        }
    }
}
