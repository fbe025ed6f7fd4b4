//! `portcullis bench`: what a box between two NICs can do, measured from outside.

mod inside;
mod mix;
mod options;
mod output;
mod rfc2544;
mod single;
mod stage;
mod table;

use std::process::ExitCode;

/// Measure a box from outside: throughput, latency, loss, bursts, and whether what is forbidden gets through
///
/// A traffic generator and sink over AF_XDP, on two NICs that are cabled to the two sides of the box, or in network namespaces of one machine. Tests are those
/// of RFC 2544, and mixes in the manner of RFC 9411. The box may be any: this gate, another firewall, a switch.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 done, 1 a forbidden frame got through, 2 it could not be done.

A NIC is written NIC, or NETNS:NIC for one in a network namespace. The NICs keep their addresses and go on working for others;
a program in the kernel takes only the frames that the tester itself has sent, and is gone when the command ends, however it ends.

Examples:
  portcullis bench throughput --lan enp1s0 --uplink enp2s0
  portcullis bench throughput --lan a:lan0 --uplink b:up0 --size 64,imix --duration 60s --json
  portcullis bench latency --lan enp1s0 --uplink enp2s0 --at 50,90
  portcullis bench policy --lan gl0 --uplink gu0 > bench.toml
  portcullis bench mix --lan enp1s0 --uplink enp2s0
  portcullis bench all --lan enp1s0 --uplink enp2s0 --html page.html
  portcullis bench ceiling
  portcullis bench model --cores 1,2,4,8 --queues 8 --measured 1.2M"
)]
pub(super) struct Bench {
    #[command(subcommand)]
    command: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// The highest rate without loss, by frame size (RFC 2544 section 26.1)
    Throughput(rfc2544::Throughput),
    /// How long frames take, at parts of the throughput: median, p99, p99.9, max (RFC 2544 section 26.2)
    Latency(rfc2544::Latency),
    /// How much is lost, from full speed down in steps of a tenth (RFC 2544 section 26.3)
    Loss(rfc2544::Loss),
    /// The longest burst at full speed without loss (RFC 2544 section 26.4)
    BackToBack(rfc2544::BackToBack),
    /// All four of RFC 2544
    All(rfc2544::All),
    Mix(mix::Mix),
    Policy(mix::PolicyFile),
    Send(single::Send),
    Sink(single::Sink),
    Ceiling(inside::Ceiling),
    Model(inside::Model),
}

impl Bench {
    pub(super) fn run(self) -> ExitCode {
        match self.command {
            What::Throughput(command) => command.run(),
            What::Latency(command) => command.run(),
            What::Loss(command) => command.run(),
            What::BackToBack(command) => command.run(),
            What::All(command) => command.run(),
            What::Mix(command) => command.run(),
            What::Policy(command) => command.run(),
            What::Send(command) => command.run(),
            What::Sink(command) => command.run(),
            What::Ceiling(command) => command.run(),
            What::Model(command) => command.run(),
        }
    }
}
