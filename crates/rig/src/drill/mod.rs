//! Failure drills: what passes, and when, while the gate dies, hangs or is stuck.
//!
//! A host of the LAN sends frames that the policy allows and frames that it forbids, five a millisecond, all numbered, to two sockets beyond the uplink. What is told of a
//! run is made of the times at which they were sent and received, and of nothing that the gate says of itself.

mod cause;
mod report;
mod traffic;

pub use cause::Cause;
pub use report::{Line, Report, time};

use crate::{Gate, GateKind, Result, Rig, addr, check_interrupt};
use std::path::Path;
use std::time::{Duration, Instant};
pub(crate) use traffic::{Stream, Traffic};

/// What the gate is told to do when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `on_failure = "closed"`.
    Closed,
    /// `on_failure = "open"`.
    Open,
}

impl Mode {
    /// As the config has it.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Closed => "closed",
            Mode::Open => "open",
        }
    }
}

/// Traffic before the failure, and after the end of it.
const QUIET: Duration = Duration::from_millis(60);
/// What a failure lasts beyond the watchdog's time.
const LASTS: Duration = Duration::from_millis(150);
/// From the end of the cause, or from when the next process says that it is ready, until the policy must be in force.
const SETTLES: Duration = Duration::from_millis(100);
/// How long it is waited for the gate to be as it was.
const RETURNS: Duration = Duration::from_secs(5);

/// What one run has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// From the cause until the gate was in its fail mode: until the first frame was sent that it dropped (closed), or let through unfiltered (open). `None` where it never was.
    pub failed_after: Option<Duration>,
    /// From the end of the cause (a signal, a start) until the policy was in force again.
    pub back_after: Option<Duration>,
    /// Forbidden frames that got through while a worker filtered, before the cause or after its end, or at any time in closed mode.
    pub leaked: u64,
    /// Forbidden frames that got through in open mode.
    pub unfiltered: u64,
    /// Allowed frames that were sent from the cause on and never arrived.
    pub lost: u64,
    /// Allowed frames that arrived more than 100 ms after they were sent: they waited in a ring.
    pub late: u64,
    /// The longest time in which no allowed frame arrived.
    pub silent_for: Duration,
}

/// A gate on a rig of its own, over which failures are caused one after the other.
pub struct Drill<'rig> {
    rig: &'rig Rig,
    gate: Gate<'rig>,
    traffic: Traffic,
    mode: Mode,
    watchdog: Duration,
}

impl<'rig> Drill<'rig> {
    /// Starts the gate, and the traffic: for causes that are [hand-overs](Cause::is_a_handover) under a service manager, and for others without one.
    pub fn start(
        rig: &'rig Rig,
        bin: &Path,
        (mode, managed): (Mode, bool),
        watchdog: Duration,
    ) -> Result<Drill<'rig>> {
        // The far ends take frames that are handed to them in the kernel only with a NAPI of their own (veth_xdp_xmit in drivers/net/veth.c).
        for (namespace, interface) in [(&rig.lan, "lan0"), (&rig.uplink, "up0")] {
            crate::process::must(
                namespace
                    .command("ethtool")
                    .args(["-K", interface, "gro", "on"]),
                "",
            )?;
        }
        rig.lan.ip(&format!(
            "neigh replace {} lladdr {} dev lan0 nud permanent\n",
            addr::ROUTER,
            addr::UPLINK_MAC
        ))?;
        rig.uplink.ip(&format!(
            "neigh replace {} lladdr {} dev up0 nud permanent\n",
            addr::HOST,
            addr::LAN_MAC
        ))?;
        let rule = format!(
            "[[rule]]\nname = \"drill\"\nproto = \"udp\"\ndport = [{}]\naction = \"allow\"\n",
            traffic::ALLOWED
        );
        let failing = format!(
            "on_failure = \"{}\"\nwatchdog = \"{}ms\"\nring = 4096\n",
            mode.name(),
            watchdog.as_millis()
        );
        let config = GateKind::config(rig, &rule)
            .replacen("[bridge]\n", &format!("[bridge]\n{failing}"), 1)
            .replacen("idle   = \"adaptive\"", "idle   = \"spin\"", 1);
        let kind = GateKind::Portcullis {
            bin: bin.to_owned(),
            config,
        };
        let gate = match managed {
            true => Gate::managed(rig, kind)?,
            false => Gate::start(rig, kind)?,
        };
        let traffic = Traffic::start(rig)?;
        Ok(Drill {
            rig,
            gate,
            traffic,
            mode,
            watchdog,
        })
    }

    /// Causes one failure, ends it, and says what was seen. `None` where this machine cannot cause it; why it cannot is told on standard error.
    pub fn run(&mut self, cause: Cause) -> Result<Option<Outcome>> {
        check_interrupt()?;
        self.traffic.begin();
        std::thread::sleep(QUIET);
        let Some(daemon) = self.gate.daemon() else {
            return Ok(None);
        };
        let Some(caused) = cause.start(daemon.pid(), self.rig.dir())? else {
            self.traffic.end();
            return Ok(None);
        };
        let from = caused.at;
        let lasts = match cause {
            Cause::Restart | Cause::Handover => Duration::ZERO,
            _ if cause.is_a_hang() => LASTS + self.watchdog,
            _ => LASTS,
        };
        std::thread::sleep(lasts.saturating_sub(from.elapsed()));
        let until = caused.end()?;
        if !cause.is_a_hang() {
            self.gate.restart()?;
        }
        let filters = Instant::now() + SETTLES;
        self.await_return(until)?;
        std::thread::sleep(QUIET);
        let [allowed, forbidden] = self.traffic.end();
        Ok(Some(self.judge(
            cause,
            [from, until, filters],
            &allowed,
            &forbidden,
        )))
    }

    /// Waits until allowed frames pass again, and for a while no other.
    fn await_return(&self, until: Instant) -> Result<()> {
        crate::poll_until("the gate to filter again", RETURNS, || {
            let [allowed, forbidden] = self.traffic.last_received();
            let quiet = forbidden.is_none_or(|last| last.elapsed() > QUIET);
            Ok(
                (allowed.is_some_and(|last| last > until && last.elapsed() < QUIET) && quiet)
                    .then_some(()),
            )
        })
    }

    fn judge(
        &self,
        cause: Cause,
        [from, until, filters]: [Instant; 3],
        allowed: &Stream,
        forbidden: &Stream,
    ) -> Outcome {
        let since = |at: Instant, start: Instant| at.saturating_duration_since(start);
        let missing = allowed
            .frames()
            .filter(|(sent, got)| *sent >= from && got.is_none());
        let first_missing = missing.clone().map(|(sent, _)| sent).next();
        // In flight at the moment of the cause is with the cause.
        let through = forbidden.frames().filter(|(_, got)| got.is_some());
        let open = through
            .clone()
            .filter(|(sent, got)| *sent >= from || got.is_some_and(|got| got >= from));
        // Sent when the policy must be in force again.
        let after = open.clone().filter(|(sent, _)| *sent >= filters).count() as u64;
        let late = Duration::from_millis(100);
        let mut arrivals: Vec<Instant> = allowed.frames().filter_map(|(_, got)| got).collect();
        arrivals.sort_unstable();
        let silences = arrivals.windows(2).map(|two| since(two[1], two[0]));
        let (open_count, all) = (open.clone().count() as u64, through.count() as u64);
        let failed_at = match self.mode {
            Mode::Closed => first_missing,
            Mode::Open => open.clone().map(|(sent, _)| sent).next(),
        };
        let back_at = match self.mode {
            Mode::Open if !cause.is_a_handover() => open
                .filter_map(|(_, got)| got)
                .max()
                // The last that was let through, or at once.
                .map(|last| last.max(until)),
            _ => allowed
                .frames()
                .filter(|(sent, _)| *sent >= until)
                .find_map(|(_, got)| got),
        };
        let unfiltered = match self.mode {
            Mode::Open => open_count - after,
            Mode::Closed => 0,
        };
        Outcome {
            failed_after: failed_at.map(|at| since(at, from)),
            back_after: back_at.map(|at| since(at, until)),
            leaked: all - unfiltered,
            unfiltered,
            lost: missing.count() as u64,
            silent_for: silences.max().unwrap_or_default(),
            late: allowed
                .frames()
                .filter(|(sent, got)| got.is_some_and(|got| since(got, *sent) > late))
                .count() as u64,
        }
    }

    /// What the gate says of itself at the end, which has to balance.
    pub fn finish(self) -> Result<()> {
        self.gate.stop()
    }
}
