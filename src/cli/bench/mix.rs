//! `portcullis bench mix` and `portcullis bench policy`.

use super::options::{self, Output, Ports, Trials};
use super::output::{self, Progress};
use super::stage::{self, Stage, Trouble};
use ipnet::Ipv4Net;
use std::process::ExitCode;
use traffic::mix::{self, Plan};
use traffic::outcome::Outcome;
use traffic::pace::Rate;
use traffic::policy::{self, Policy};
use traffic::report::Report;
use traffic::size::Size;

/// The rules that the box has, and whom they are for.
#[derive(clap::Args)]
struct Rules {
    /// How many rules the policy has
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(4..=policy::MOST as i64))]
    rules: u32,
    /// Hosts behind the LAN port
    #[arg(long, value_name = "PREFIX", default_value = "10.77.0.0/24")]
    src: Ipv4Net,
}

impl Rules {
    fn policy(&self) -> Policy {
        Policy::new(self.rules as usize, self.src.into())
    }
}

/// Write the policy that `bench mix` makes its traffic for, as a config of the gate
#[derive(clap::Args)]
#[command(
    after_help = "It is the same each time. Another firewall has to be given the same rules in its own words.

Example:
  portcullis bench policy --rules 1000 --lan enp1s0 --uplink enp2s0 > bench.toml"
)]
pub(super) struct PolicyFile {
    #[command(flatten)]
    rules: Rules,
    /// The box's NIC on the LAN side, for a [bridge] section
    #[arg(long, value_name = "NIC", requires = "uplink")]
    lan: Option<String>,
    /// The box's NIC on the uplink side
    #[arg(long, value_name = "NIC", requires = "lan")]
    uplink: Option<String>,
}

impl PolicyFile {
    pub(super) fn run(self) -> ExitCode {
        let ports = self.lan.as_deref().zip(self.uplink.as_deref());
        let ports = ports.map(|(lan, uplink)| [lan, uplink]);
        print!("{}", self.rules.policy().toml(ports));
        ExitCode::SUCCESS
    }
}

/// Many rules, many live flows, a part forbidden: throughput, latency, and whether anything leaks (in the manner of RFC 9411)
#[derive(clap::Args)]
#[command(
    after_help = "The box has to have the policy that `portcullis bench policy` writes with the same --rules and --src.

Exit status: 0 nothing leaked, 1 a forbidden frame got through, 2 it could not be done.

Examples:
  portcullis bench mix --lan enp1s0 --uplink enp2s0
  portcullis bench mix --lan a:lan0 --uplink b:up0 --rules 10000 --flows 500000 --html page.html"
)]
pub(super) struct Mix {
    #[command(flatten)]
    ports: Ports,
    #[command(flatten)]
    rules: Rules,
    /// Flows that are opened before and stay open: TCP connections and UDP, half each
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    flows: u32,
    /// The part of the frames that must not get through
    #[arg(long, value_name = "PART", default_value = "10%", value_parser = options::part)]
    forbidden: f64,
    /// The frame size, or `imix`; a TCP frame has 78 bytes or more
    #[arg(long, value_name = "SIZE", default_value = "imix")]
    size: Size,
    /// No higher rate is tried, frames a second
    #[arg(long, value_name = "RATE", default_value = "max", value_parser = options::rate)]
    rate: Rate,
    /// Percent of the throughput at which latencies are measured
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', default_value = "50,90", value_parser = clap::value_parser!(u8).range(1..=100))]
    at: Vec<u8>,
    /// How fast flows are opened before the trials, frames a second
    #[arg(long, value_name = "RATE", default_value = "20k", value_parser = options::fixed)]
    opening_rate: f64,
    #[command(flatten)]
    trials: Trials,
    #[command(flatten)]
    output: Output,
}

impl Mix {
    pub(super) fn run(self) -> ExitCode {
        match self.measure() {
            Ok(report) => output::tell(&report, None, &self.output),
            Err(e) => super::super::cannot(e),
        }
    }

    fn measure(&self) -> Result<Report, Trouble> {
        self.output.ready()?;
        let policy = self.rules.policy();
        let flows = policy.allowed(self.flows as usize);
        let largest = stage::largest(&[self.size]);
        let Stage {
            mut tester,
            mut report,
        } = Stage::open(&self.ports, &self.trials, largest)?;
        report.settings.flows = flows.len();
        report.settings.traffic = format!(
            "tcp and udp of {} to the destinations of {} rules, {} % of the frames forbidden",
            self.rules.src,
            policy.rules(),
            self.forbidden * 100.0
        );
        let plan = Plan {
            policy: &policy,
            flows: &flows,
            per_mille: (self.forbidden * 1000.0).round() as u64,
            size: self.size,
            time: self.trials.duration,
            search: self.trials.search(self.rate),
            at: &self.at,
            opening: Rate::Fixed(self.opening_rate),
        };
        let progress = std::cell::RefCell::new(Progress::new());
        let mut say = |text: &str| progress.borrow_mut().say(text);
        let mut seen = |outcome: &Outcome| progress.borrow_mut().trial(self.size, outcome);
        let mix = mix::run(&mut tester, &plan, &mut say, &mut seen)?;
        progress.borrow_mut().done();
        if mix.live_after < mix.flows {
            report.notes.push(format!(
                "{} of {} flows were no longer open at the end: the box forgets them sooner than they come round, or lost the frame",
                mix.flows - mix.live_after,
                mix.flows
            ));
        }
        report.mix = Some(mix);
        report.sum();
        Ok(report)
    }
}
