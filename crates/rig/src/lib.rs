//! A network in three namespaces, with real servers and real clients, for whatever forwards between two NICs.
//!
//! ```text
//!  namespace <id>-lan            namespace <id>-gate             namespace <id>-uplink
//!  10.77.0.9   workstation                                       router 10.77.0.1, fd77::1
//!  10.77.0.25  mail server       no address at all               servers 93.184.216.34,
//!  fd77::9, fd77::25                                             2606:2800:220:1::34, 192.168.99.1
//!        lan0 ════════ veth ════════ gl0  [Gate]  gu0 ════════ veth ════════ up0
//! ```
//!
//! [`Rig::new`] makes it; [`Gate::start`] puts something between `gl0` and `gu0`; [`Servers::start`] brings up
//! dnsmasq, aiosmtpd, ngircd, snmpd, samba, nginx and iperf3 in the uplink namespace; an [`Attempt`] is one run of a
//! real client, with the proof that its server answered it. The public addresses exist inside the namespaces only:
//! nothing leaves the machine.
//!
//! Everything goes when its value is dropped, on return, error, panic (with unwinding) or, where
//! [`catch_signals`] was called, SIGINT and SIGTERM. Every wait is a poll with a deadline. What a SIGKILL left behind
//! is swept by the next [`Rig::new`].
//!
//! Needs root, and the programs that `deploy/setup.sh demo` installs.

#![deny(unsafe_code)]

mod attempt;
mod certificates;
pub mod demo;
pub mod drill;
mod error;
mod gate;
#[cfg(target_arch = "x86_64")]
pub mod inject;
mod manager;
mod netns;
mod process;
mod server;
mod site;
pub mod soak;
mod status;
mod topology;

pub use attempt::{Attempt, Expect, Got, Proof, run_all, run_all_at};
pub use certificates::tls_files;
pub use error::{Error, Result};
pub use gate::{Gate, GateKind};
pub use manager::Manager;
pub use netns::{Namespace, sweep};
pub use process::{
    Daemon, Output, catch_signals, check_interrupt, interrupted, must, must_within, poll_until,
    run, spawn,
};
pub use server::{Server, Servers, Transport, mailbox};
pub use site::{Client, Site};
pub use status::{Alert, PortCounters, RuleCounters, Status, parse_alerts, read_alerts};
pub use topology::{Layout, Rig, addr, root_or_say};
