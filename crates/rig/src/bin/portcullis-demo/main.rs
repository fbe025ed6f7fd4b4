//! `make demo`: real clients against real servers, with the gate between them.
//!
//! First everything that the baseline policy blocks is tried through a plain bridge, which proves that each server
//! answers; then the same through the gate, with what the policy lets through beside it. The exit status is 0 only
//! if each attempt got what the policy says, the rules counted it, the alerts are there and both ports balance; 1 if
//! not; 2 if the demo could not be run; 130 if it was interrupted.

#![deny(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rig::demo::{self, Patience};
use rig::{Attempt, Error, Gate, GateKind, Got, Result, Rig, Server, Servers};

const PATIENCE: Patience = Patience {
    allowed: Duration::from_secs(10),
    blocked: Duration::from_millis(2500),
    alerts: Duration::from_secs(3),
};

/// Shows the gate at work between real clients and real servers, in network namespaces of its own.
#[derive(Debug, Parser)]
#[command(name = "portcullis-demo")]
struct Args {
    /// The portcullis binary.
    #[arg(long, default_value = "target/release/portcullis")]
    gate: PathBuf,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
    /// Leave everything up until Enter or Ctrl-C.
    #[arg(long)]
    stay: bool,
    /// Only show that everything gets through where nothing filters.
    #[arg(long, hide = true)]
    control_only: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match show(&args) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Error::Interrupted) => {
            eprintln!("interrupted: everything is taken down");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("portcullis-demo: {error}");
            ExitCode::from(2)
        }
    }
}

fn show(args: &Args) -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        return Err(refused(
            "it makes network namespaces: run it as root, or `make demo`, which asks sudo",
        ));
    }
    if !args.control_only && !args.gate.is_file() {
        return Err(refused(&format!(
            "{} is not there: `make build`",
            args.gate.display()
        )));
    }
    rig::catch_signals()?;

    step("three network namespaces: lan - gate - uplink");
    let rig = Rig::new()?;
    step("servers in uplink: dnsmasq, aiosmtpd, ngircd, snmpd, samba, nginx, iperf3");
    let _servers = Servers::start(&rig, &Server::ALL)?;

    let blocked = Attempt::blocked_by_baseline();
    let control = control(&rig, &blocked)?;
    if args.control_only {
        return Ok(control.iter().all(|got| got.through));
    }

    let gate = Gate::start(&rig, GateKind::portcullis(&args.gate, &rig))?;
    step(&format!(
        "the gate forwards after {} ms",
        gate.ready_after.as_millis()
    ));
    let report = demo::judge(&rig.inside_lan(), &gate, blocked, &control, PATIENCE, step)?;
    if args.json {
        println!("{}", report.json());
    } else {
        print!("{}", report.text());
    }
    if args.stay {
        stay(&rig, &gate)?;
    }
    gate.stop()?;
    Ok(report.ok())
}

/// What is to be blocked, through a bridge.
fn control(rig: &Rig, blocked: &[Attempt]) -> Result<Vec<Got>> {
    let bridge = Gate::start(rig, GateKind::Bridge { nftables: None })?;
    let control = demo::control(&rig.inside_lan(), blocked, PATIENCE, step)?;
    bridge.stop()?;
    Ok(control)
}

/// Says how to look around, and waits for Enter or a signal.
fn stay(rig: &Rig, gate: &Gate) -> Result<()> {
    eprintln!("\nstaying up; Enter or Ctrl-C takes everything down. Look around, as root:");
    for namespace in [&rig.lan, &rig.gate, &rig.uplink] {
        eprintln!("  nsenter --net={} bash", namespace.path().display());
    }
    eprintln!(
        "  nsenter --net={} curl -s http://{}/metrics",
        rig.gate.path().display(),
        Gate::METRICS
    );
    eprintln!("  tail -f {}", gate.alert_file().display());
    let (enter, entered) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // The end of input is no Enter: where stdin is /dev/null, a signal ends the stay.
        if std::io::stdin()
            .read_line(&mut String::new())
            .is_ok_and(|bytes| bytes > 0)
        {
            let _ = enter.send(());
        }
    });
    while !rig::interrupted() && entered.try_recv().is_err() {
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

fn step(text: &str) {
    eprintln!("==> {text}");
}

fn refused(why: &str) -> Error {
    Error::Answer {
        what: "cannot run".to_owned(),
        said: why.to_owned(),
    }
}
