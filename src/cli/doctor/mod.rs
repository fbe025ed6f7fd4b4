//! `portcullis doctor`: what of the machine is not ready, and what mends it. It reads only.

mod cores;
mod finding;
mod host;
mod nics;
#[cfg(test)]
mod tests;
mod tree;

use super::{ConfigFile, NO, cannot};
use crate::config::{Bridge, Config};
use crate::control::bringup;
use crate::os::genl;
use crate::os::nic::{self, NicError};
use finding::Finding;
use nics::Facts;
use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use tree::Tree;

/// Say what of this machine is not ready for the gate, each with the command that mends it
///
/// Looked at are, for the NICs and cores of the config: huge pages, isolated cores, SMT siblings, CPU governor, interrupts of the
/// queues, offloads, MTU, RSS symmetry, zero copy of the driver, irqbalance, clock source, bpffs, locked memory, kernel. It
/// changes nothing, and the gate may run meanwhile. Most of it is for speed: `portcullis run` itself says what it cannot do without.
#[derive(clap::Args)]
#[command(
    after_help = "Exit status: 0 all is ready, 1 something is not, 2 it could not look.

What is `unknown` this machine does not tell or does not have, and counts for neither.
What is set by `echo` or `ethtool` is gone after a boot: put it where your system keeps such things,
for example in a unit of your own that is ordered before portcullis.service.

Examples:
  portcullis doctor
  portcullis doctor -c portcullis.toml --json | jq -r '.checks[].mend[]'"
)]
pub(super) struct Doctor {
    #[command(flatten)]
    config: ConfigFile,
    /// Print JSON: `ready`, and `checks`, each with `check`, `nic`, `state`, `found` and `mend`
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let findings = match look(&config) {
            Ok(findings) => findings,
            Err(e) => return cannot(e),
        };
        if self.json {
            super::print_json(&finding::json(&findings));
        } else {
            print!("{}", finding::table(&findings));
        }
        if finding::all_ready(&findings) {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(NO)
        }
    }
}

fn look(config: &Config) -> Result<Vec<Finding>, Box<dyn Error>> {
    let bridge = config
        .bridge
        .as_ref()
        .ok_or("the config has no [bridge] section, so there are no NICs to look at; add [bridge] with lan = \"…\" and uplink = \"…\"")?;
    let facts = [ask(&bridge.lan)?, ask(&bridge.uplink)?];
    let queues = facts.each_ref().map(|facts| facts.nic.rx_queues.max(1));
    let workers = bringup::cores(bridge, queues[0].min(queues[1]) as usize)?;
    Ok(judge(&Tree::new(Path::new("/")), bridge, &facts, &workers))
}

/// What netlink tells of a NIC.
fn ask(name: &str) -> Result<Facts, NicError> {
    nic::block_on(async {
        let nic = nic::inspect(name).await?;
        Ok(Facts {
            xdp: genl::xdp_features(nic.index).await?,
            rss: genl::rss(nic.index).await?,
            nic,
        })
    })
}

/// Every finding; `workers` are the cores that workers will be pinned to.
fn judge(tree: &Tree, bridge: &Bridge, facts: &[Facts; 2], workers: &[usize]) -> Vec<Finding> {
    let pairs = facts
        .iter()
        .map(|facts| facts.nic.rx_queues)
        .max()
        .unwrap_or(1);
    let mut findings = host::checks(tree, bridge, pairs);
    findings.extend(cores::checks(tree, workers));
    for facts in facts {
        findings.extend(nics::checks(tree, bridge, facts, workers));
    }
    findings
}
