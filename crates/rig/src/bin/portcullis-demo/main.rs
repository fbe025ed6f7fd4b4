//! `make demo`: real clients against real servers, with the gate between them.
//!
//! First everything that the baseline policy blocks is tried through a plain bridge, which proves that each server
//! answers; then the same through the gate, with what the policy lets through beside it. The exit status is 0 only
//! if each attempt got what the policy says, the rules counted it, the alerts are there and both ports balance; 1 if
//! not; 2 if the demo could not be run; 130 if it was interrupted.

#![deny(unsafe_code)]

mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rig::{Attempt, Error, Expect, Gate, GateKind, Got, Result, Rig, Server, Servers, run_all};

use report::Report;

/// How long a client may take that is expected to get through.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long a blocked client is waited for, at least: it is given thrice what the slowest took with no gate.
const IMPATIENCE: Duration = Duration::from_millis(2500);

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
    match demo(&args) {
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

fn demo(args: &Args) -> Result<bool> {
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
    let report = judge(&rig, &gate, blocked, control)?;
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

/// What is to be blocked, with nothing that blocks: who does not get through here proves nothing later.
fn control(rig: &Rig, blocked: &[Attempt]) -> Result<Vec<Got>> {
    let bridge = Gate::start(rig, GateKind::Bridge { nftables: None })?;
    let control = run_all(rig, blocked, PATIENCE)?;
    bridge.stop()?;
    let through = control.iter().filter(|got| got.through).count();
    step(&format!(
        "without the gate: {through} of {} got through",
        control.len()
    ));
    for (attempt, got) in blocked.iter().zip(&control) {
        eprintln!(
            "     {:21} {:.2} s  {}",
            attempt.name,
            got.took.as_secs_f32(),
            got.said
        );
    }
    Ok(control)
}

/// Everything once more, through the gate.
fn judge(rig: &Rig, gate: &Gate, blocked: Vec<Attempt>, control: Vec<Got>) -> Result<Report> {
    let before = gate.status()?;
    let slowest = control.iter().map(|got| got.took).max().unwrap_or_default();
    let limit = IMPATIENCE.max(3 * slowest);
    step(&format!(
        "with the gate: what is forbidden, for {:.1} s",
        limit.as_secs_f32()
    ));
    let mut got = run_all(rig, &blocked, limit)?;

    step("with the gate: what is allowed");
    let mut allowed = Attempt::allowed_by_baseline();
    // The transfer comes last and alone, so that its rate is that of the gate.
    let transfer = allowed.split_off(allowed.len() - 1);
    got.extend(run_all(rig, &allowed, PATIENCE)?);
    got.extend(run_all(rig, &transfer, PATIENCE)?);

    let attempts: Vec<_> = blocked.into_iter().chain(allowed).chain(transfer).collect();
    let alerts = alerts(gate, &attempts)?;
    let after = gate.settled_status(Duration::from_secs(3))?;
    let metrics = gate.metrics()?;
    Ok(Report::new(
        rig, &attempts, &control, &got, alerts, &before, after, &metrics,
    ))
}

/// The alert file, once it holds an alert for each alerting rule, or as it is after three seconds.
fn alerts(gate: &Gate, attempts: &[Attempt]) -> Result<Vec<rig::Alert>> {
    let file = gate.alert_file();
    let complete = rig::poll_until("the alerts", Duration::from_secs(3), || {
        let alerts = rig::read_alerts(&file)?;
        Ok(attempts
            .iter()
            .all(|attempt| !is_missing(attempt, &alerts))
            .then_some(alerts))
    });
    match complete {
        Err(Error::Timeout { .. }) => rig::read_alerts(&file),
        other => other,
    }
}

/// True where the attempt's rule alerts, and none of `alerts` is its.
fn is_missing(attempt: &Attempt, alerts: &[rig::Alert]) -> bool {
    let Expect::Blocked { rule, alerts: true } = attempt.expect else {
        return false;
    };
    !alerts
        .iter()
        .any(|alert| alert.alert.signature == rule && alert.src_ip == attempt.from)
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
