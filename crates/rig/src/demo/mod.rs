//! What `make demo` shows, wherever the machines are: everything that the baseline policy blocks, first where nothing filters, then through the gate, with what
//! it lets through beside it.

mod report;

use std::time::Duration;

pub use report::Report;

use crate::{
    Alert, Attempt, Error, Expect, Gate, Got, Result, Site, Status, parse_alerts, poll_until,
    run_all_at,
};

/// How long clients are waited for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// One that is expected to get through, at most.
    pub allowed: Duration,
    /// One that is not, at least: it is given thrice what the slowest took with no gate.
    pub blocked: Duration,
    /// The alerts, and the counters to come to rest.
    pub alerts: Duration,
}

/// The metrics page, and how a person gets at it.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Where it is.
    pub url: String,
    /// A command that prints it.
    pub command: String,
    /// What it says.
    pub text: String,
}

/// A running gate, as far as it is asked what it did.
pub trait Asked {
    /// Its counters.
    fn status(&self) -> Result<Status>;
    /// The text of its alert file; empty where there is none yet.
    fn alerts(&self) -> Result<String>;
    /// Its metrics.
    fn metrics(&self) -> Result<Metrics>;
}

impl Asked for Gate<'_> {
    fn status(&self) -> Result<Status> {
        Gate::status(self)
    }

    fn alerts(&self) -> Result<String> {
        match std::fs::read_to_string(self.alert_file()) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            other => other.map_err(Error::io("reading the alert file")),
        }
    }

    fn metrics(&self) -> Result<Metrics> {
        let url = format!("http://{}/metrics", Gate::METRICS);
        let command = format!(
            "nsenter --net={} curl -s {url}",
            self.namespace().path().display()
        );
        let text = Gate::metrics(self)?;
        Ok(Metrics { url, command, text })
    }
}

/// What is to be blocked, where nothing filters: who does not get through here proves nothing later.
pub fn control(
    site: &dyn Site,
    blocked: &[Attempt],
    patience: Patience,
    step: impl Fn(&str),
) -> Result<Vec<Got>> {
    let control = run_all_at(site, blocked, patience.allowed)?;
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
pub fn judge(
    site: &dyn Site,
    gate: &dyn Asked,
    blocked: Vec<Attempt>,
    control: &[Got],
    patience: Patience,
    step: impl Fn(&str),
) -> Result<Report> {
    let before = gate.status()?;
    let slowest = control.iter().map(|got| got.took).max().unwrap_or_default();
    let limit = patience.blocked.max(3 * slowest);
    step(&format!(
        "with the gate: what is forbidden, for {:.1} s",
        limit.as_secs_f32()
    ));
    let mut got = run_all_at(site, &blocked, limit)?;

    step("with the gate: what is allowed");
    let mut allowed = Attempt::allowed_by_baseline();
    // The transfer comes last and alone, so that its rate is that of the gate.
    let transfer = allowed.split_off(allowed.len() - 1);
    got.extend(run_all_at(site, &allowed, patience.allowed)?);
    got.extend(run_all_at(site, &transfer, patience.allowed)?);

    let attempts: Vec<_> = blocked.into_iter().chain(allowed).chain(transfer).collect();
    let alerts = alerts(gate, &attempts, patience.alerts)?;
    let after = settled(gate, patience.alerts)?;
    let metrics = gate.metrics()?;
    Ok(Report::new(
        &attempts,
        control,
        &got,
        alerts,
        [before, after],
        metrics,
    ))
}

/// The alerts, once there is one for each alerting rule, or as they are after `limit`.
fn alerts(gate: &dyn Asked, attempts: &[Attempt], limit: Duration) -> Result<Vec<Alert>> {
    let complete = poll_until("the alerts", limit, || {
        let alerts = parse_alerts(&gate.alerts()?)?;
        Ok(attempts
            .iter()
            .all(|attempt| !is_missing(attempt, &alerts))
            .then_some(alerts))
    });
    match complete {
        Err(Error::Timeout { .. }) => parse_alerts(&gate.alerts()?),
        other => other,
    }
}

/// The counters once both ports balance, or as they are when they still do not after `limit`: the law of accounting is about quiet moments.
fn settled(gate: &dyn Asked, limit: Duration) -> Result<Status> {
    let balanced = poll_until("the counters to balance", limit, || {
        Ok(Some(gate.status()?).filter(Status::holds))
    });
    match balanced {
        Err(Error::Timeout { .. }) => gate.status(),
        other => other,
    }
}

/// True where the attempt's rule alerts, and none of `alerts` is its.
fn is_missing(attempt: &Attempt, alerts: &[Alert]) -> bool {
    let Expect::Blocked { rule, alerts: true } = attempt.expect else {
        return false;
    };
    !alerts
        .iter()
        .any(|alert| alert.alert.signature == rule && alert.src_ip == attempt.from)
}
