//! What the running gate says of itself: the source of `status`, the metrics and `/healthz`.

use super::alerts::Incidents;
use super::crew::Clock;
use super::evidence::{Evidence, EvidenceStatus};
use super::handover::TakenOver;
use super::hoststack::{DecoyStatus, InbandStatus, Tallies};
use super::metrics::Format;
use super::quarantine::{Held, Hosts};
use super::reload::{ReloadStatus, Reloads};
use super::sink::Sinks;
use super::sink::queue::SinkStatus;
use super::snapshot::{FlowCounts, Flowed, Named, RuleHits, Snapshot};
use super::upkeep::{Desk, SetStatus, Sets};
use crate::config::Config;
use crate::policy::rule::Origin;
use crate::policy::table::RuleInfo;
use crate::policy::{Generation, InForce, Severity};
use crate::port::gate::{GateStats, GateStatsReader};
use crate::telemetry::WorkerCounters;
use af_xdp::StatisticsReader;
use serde::Serialize;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

/// A worker whose last turn is older than this is not well. An adaptive one sleeps for far less.
const STALE: Duration = Duration::from_secs(1);

/// How one port runs.
pub struct PortInfo {
    /// `lan` or `uplink`.
    pub side: &'static str,
    /// Its interface.
    pub interface: String,
    /// `zero-copy`, `copy` or `generic`.
    pub mode: &'static str,
    /// Queues with a socket.
    pub queues: u32,
    /// One for each queue.
    pub sockets: Vec<StatisticsReader>,
    /// The in-kernel gate's counters.
    pub gate: Option<GateStatsReader>,
}

impl PortInfo {
    /// XDP_STATISTICS by queue, under the names of `struct xdp_statistics` (linux/if_xdp.h).
    pub fn statistics(&self) -> Vec<[(&'static str, u64); 6]> {
        let read = |socket: &StatisticsReader| {
            let s = socket.read().unwrap_or_default();
            [
                ("rx_dropped", s.rx_dropped),
                ("rx_invalid_descs", s.rx_invalid_descs),
                ("tx_invalid_descs", s.tx_invalid_descs),
                ("rx_ring_full", s.rx_ring_full),
                ("rx_fill_ring_empty_descs", s.rx_fill_ring_empty_descs),
                ("tx_ring_empty_descs", s.tx_ring_empty_descs),
            ]
        };
        self.sockets.iter().map(read).collect()
    }

    /// The in-kernel gate's counters.
    pub fn gate(&self) -> GateStats {
        self.gate
            .as_ref()
            .map(GateStatsReader::read)
            .unwrap_or_default()
    }
}

/// Everything the control thread knows.
pub struct State {
    /// The policy in force.
    pub policy: InForce,
    /// The sets that come from files.
    pub sets: Arc<Sets>,
    /// Where commands about sets go.
    pub desk: Desk,
    /// By side.
    pub ports: [PortInfo; 2],
    /// One for each worker.
    pub workers: Vec<Arc<WorkerCounters>>,
    /// What each is pinned to.
    pub cores: Vec<usize>,
    /// Which config is in force, and what became of others.
    pub reloads: Arc<Reloads>,
    /// Who is in quarantine.
    pub quarantine: Hosts,
    /// Flows that there is room for.
    pub flows_limit: usize,
    /// What the workers go by.
    pub clock: Clock,
    /// When the gate was ready.
    pub since: Instant,
    /// What was taken over from the process before; `None` after a start with sockets of its own.
    pub taken: Option<TakenOver>,
    /// What the box's own stack counts; `None` where it has none.
    pub hoststack: Option<Tallies>,
    incidents: Mutex<(Incidents, Sinks)>,
}

/// The answer to `status`.
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct Status {
    pub version: &'static str,
    pub pid: u32,
    pub uptime_s: u64,
    pub healthy: bool,
    pub balanced: bool,
    /// Every frame is forwarded: the policy is judged, counted and alerted on, and not enforced.
    pub shadow: bool,
    /// How many policies there were since the start, this one included: a set that changes and a rule that ends make a new one.
    pub generation: u64,
    pub ports: Named<PortStatus>,
    pub flows: FlowCounts,
    /// Those that come from files.
    pub sets: Named<SetStatus>,
    /// In the order in which they are asked.
    pub rules: Named<RuleStatus>,
    pub workers: Vec<WorkerStatus>,
    pub config: ConfigInfo,
    pub reloads: ReloadStatus,
    /// What was taken over from the process before; `None` after a start with sockets of its own.
    pub taken_over: Option<TakenOver>,
    pub quarantine: Vec<Held>,
    pub alerts: u64,
    pub alert_events_lost: u64,
    pub alerts_lost: u64,
    /// The file first.
    pub sinks: Named<SinkStatus>,
    /// `None` where none is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidenceStatus>,
    /// What decoys did.
    pub decoys: DecoyStatus,
    /// What the box's own address did; `None` where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inband: Option<InbandStatus>,
}

/// One rule in a [`Status`].
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct RuleStatus {
    /// Counted from 1, in the order in which they are asked: many a reader of JSON forgets that of an object.
    pub place: usize,
    /// `allow`, `drop` or `reject`.
    pub action: &'static str,
    /// `low`, `medium` or `high`; `None` where it does not alert.
    pub alert: Option<&'static str>,
    /// `built in`, `line N`, or `default`.
    pub from: String,
    #[serde(flatten)]
    pub hits: RuleHits,
}

/// One worker in a [`Status`].
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct WorkerStatus {
    /// What it is pinned to.
    pub core: usize,
    /// Milliseconds since its last turn.
    pub heartbeat_ms: u64,
    pub turns: u64,
    /// Those that moved a frame.
    pub busy_turns: u64,
    /// Frames it received.
    pub rx: u64,
}

/// Whether a worker turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heart {
    /// What it is pinned to.
    pub core: usize,
    /// Milliseconds since its last turn; `None` before its first.
    pub silent_ms: Option<u64>,
    /// It has turned lately.
    pub fresh: bool,
}

/// Which config is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConfigInfo {
    /// Its file, as it was named.
    pub file: String,
    /// SHA-256 of its text, hexadecimal.
    pub sha256: String,
    /// When it was read, seconds since the Unix epoch.
    pub loaded: u64,
}

impl ConfigInfo {
    /// That of a config which is read now.
    pub fn of(config: &Config) -> ConfigInfo {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(config.source.inner().as_bytes());
        ConfigInfo {
            file: config.source.name().to_owned(),
            sha256: digest.iter().map(|byte| format!("{byte:02x}")).collect(),
            loaded: now() / 1_000_000_000,
        }
    }
}

/// One port in a [`Status`].
#[derive(Debug, Serialize)]
#[allow(missing_docs)]
pub struct PortStatus {
    pub interface: String,
    pub mode: &'static str,
    pub queues: u32,
    #[serde(flatten)]
    pub flowed: Flowed,
    pub balanced: bool,
    /// Sums of XDP_STATISTICS over the queues.
    pub kernel: Named<u64>,
    /// Frames that the in-kernel gate dropped for want of a socket, since it was attached.
    pub gate_no_socket: u64,
    /// Frames that it dropped because the worker of their queue had not turned for longer than the watchdog allows.
    pub gate_stale: u64,
    /// Frames that it handed to the other NIC unfiltered (`on_failure = "open"`), and how long that went on, milliseconds.
    pub gate_unfiltered: u64,
    pub gate_unfiltered_ms: u64,
}

impl State {
    /// The state of a gate that is ready now.
    pub fn new(
        policy: InForce,
        (sets, desk): (Arc<Sets>, Desk),
        ports: [PortInfo; 2],
        (workers, cores): (Vec<Arc<WorkerCounters>>, Vec<usize>),
        incidents: Incidents,
        sinks: Sinks,
        evidence: Option<Evidence>,
    ) -> State {
        let names = [&ports[0], &ports[1]].map(|port| port.interface.clone());
        let incidents = incidents.with_interfaces(names).with_evidence(evidence);
        let incidents = Mutex::new((incidents, sinks));
        State {
            policy,
            sets,
            desk,
            ports,
            workers,
            cores,
            reloads: Arc::default(),
            quarantine: Hosts::default(),
            flows_limit: 0,
            clock: Clock::start(),
            since: Instant::now(),
            taken: None,
            hoststack: None,
            incidents,
        }
    }

    /// Says which clock the workers go by.
    pub fn with_clock(mut self, clock: Clock) -> State {
        self.clock = clock;
        self
    }

    /// Says what was taken over.
    pub fn with_taken(mut self, taken: Option<TakenOver>) -> State {
        self.taken = taken;
        self
    }

    /// Says what the box's own stack counts.
    pub fn with_hoststack(mut self, tallies: Tallies) -> State {
        self.hoststack = Some(tallies);
        self
    }

    /// Says who is in quarantine.
    pub fn with_quarantine(mut self, quarantine: Hosts) -> State {
        self.quarantine = quarantine;
        self
    }

    /// Says which config is in force.
    pub fn with_config(mut self, config: &Config, reloads: Arc<Reloads>) -> State {
        self.reloads = reloads;
        self.flows_limit = config.flows.size;
        self
    }

    /// The incidents and where their lines go.
    pub fn incidents(&self) -> MutexGuard<'_, (Incidents, Sinks)> {
        // A panic while it was held would have aborted or ended the control thread; the data in it stays usable.
        self.incidents
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The counters now.
    pub fn snapshot(&self) -> Snapshot {
        let alerts = self.incidents().0.by_rule().to_vec();
        Snapshot::take(&self.workers, &self.policy.load(), &alerts)
    }

    /// Alerts told, and alerts that were not: lines not written to the file, and hosts beyond the bound on open incidents.
    fn alerts(&self) -> (u64, u64) {
        let guard = self.incidents();
        (
            guard.0.lines(),
            guard.0.uncounted() + guard.1.lost_for_file(),
        )
    }

    /// Where alerts go, and what is kept beside them.
    fn delivery(&self) -> (Vec<(String, SinkStatus)>, Option<EvidenceStatus>) {
        let guard = self.incidents();
        (guard.1.status(), guard.0.evidence())
    }

    /// The metrics' text.
    ///
    /// # Errors
    /// See [`super::metrics::text`].
    pub fn metrics(&self, format: Format) -> Result<Vec<u8>, prometheus::Error> {
        // One lock at a time: a guard lives as long as the expression that it is part of.
        let (sinks, evidence) = self.delivery();
        let (findings, incidents_open, hosts) = {
            let guard = self.incidents();
            (guard.0.findings(), guard.0.open(), guard.0.loudest())
        };
        let source = super::metrics::Source {
            counters: &self.snapshot(),
            ports: &self.ports,
            policy: &self.policy.load(),
            config: &self.reloads.config(),
            reloads: &self.reloads.status(),
            quarantined: self.quarantine.list().len(),
            set_reloads: self.sets.reloads(),
            set_refused: &self.sets.refused(),
            alerts_lost: self.alerts().1,
            sinks: &sinks,
            evidence,
            findings: &findings,
            incidents_open,
            hosts,
            flows_limit: self.flows_limit,
            healthy: self.healthy(),
            taken: self.taken.as_ref(),
            decoys: self.decoys(),
            inband: self.inband(),
            now: self.clock.steady(),
            uptime: self.since.elapsed().as_secs_f64(),
        };
        super::metrics::text(&source, format)
    }

    /// True if every worker has turned lately.
    pub fn healthy(&self) -> bool {
        self.hearts().iter().all(|heart| heart.fresh)
    }

    /// When each worker has turned last.
    pub fn hearts(&self) -> Vec<Heart> {
        let now = self.clock.steady();
        let one = |(worker, core): (&Arc<WorkerCounters>, &usize)| {
            let last = worker.last_turn.load(Relaxed);
            let silent = now.saturating_sub(last);
            Heart {
                core: *core,
                silent_ms: (last > 0).then_some(silent / 1_000_000),
                fresh: silent <= STALE.as_nanos() as u64,
            }
        };
        self.workers.iter().zip(&self.cores).map(one).collect()
    }

    fn worker_status(&self) -> Vec<WorkerStatus> {
        let now = self.clock.steady();
        let one = |(worker, core): (&Arc<WorkerCounters>, &usize)| WorkerStatus {
            core: *core,
            heartbeat_ms: now.saturating_sub(worker.last_turn.load(Relaxed)) / 1_000_000,
            turns: worker.turns.get(),
            busy_turns: worker.busy_turns.get(),
            rx: worker.sides.iter().map(|side| side.rx.get()).sum(),
        };
        self.workers.iter().zip(&self.cores).map(one).collect()
    }

    /// What decoys did until now.
    pub fn decoys(&self) -> DecoyStatus {
        let tallies = self.hoststack.as_ref();
        tallies.map(Tallies::decoys).unwrap_or_default()
    }

    /// What the box's own address did.
    pub fn inband(&self) -> Option<InbandStatus> {
        self.hoststack.as_ref().and_then(Tallies::inband)
    }

    /// Everything for `status`.
    pub fn status(&self) -> Status {
        let snapshot = self.snapshot();
        let balanced = snapshot.balanced();
        let (alerts, alerts_lost) = self.alerts();
        let (sinks, evidence) = self.delivery();
        let generation = self.policy.load();
        let ports = self
            .ports
            .iter()
            .zip(snapshot.sides)
            .map(|(port, flowed)| (port.side.to_string(), port_status(port, flowed)));
        Status {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_s: self.since.elapsed().as_secs(),
            healthy: self.healthy(),
            balanced,
            shadow: generation.is_shadow(),
            generation: generation.number(),
            sets: self.sets.status(),
            ports: Named(ports.collect()),
            flows: snapshot.flows,
            rules: rules(&generation, snapshot.rules),
            workers: self.worker_status(),
            config: self.reloads.config(),
            reloads: self.reloads.status(),
            taken_over: self.taken.clone(),
            quarantine: self.quarantine.list(),
            alerts,
            alert_events_lost: snapshot.events_lost,
            alerts_lost,
            sinks: Named(sinks),
            evidence,
            decoys: self.decoys(),
            inband: self.inband(),
        }
    }
}

/// Where a rule comes from, in words.
pub(super) fn origin(rule: &RuleInfo) -> String {
    match rule.origin {
        Origin::Builtin => "built in".to_owned(),
        Origin::User { line } => format!("line {line}"),
        Origin::Default => "default".to_owned(),
    }
}

fn rules(generation: &Generation, hits: Named<RuleHits>) -> Named<RuleStatus> {
    let of = |(at, ((name, hits), rule)): (usize, ((String, RuleHits), &RuleInfo))| {
        let status = RuleStatus {
            place: at + 1,
            action: rule.action.name(),
            alert: rule.alert.map(Severity::name),
            from: origin(rule),
            hits,
        };
        (name, status)
    };
    let rules = hits.0.into_iter().zip(generation.rules());
    Named(rules.enumerate().map(of).collect())
}

fn port_status(port: &PortInfo, flowed: Flowed) -> PortStatus {
    let mut kernel: Vec<(String, u64)> = Vec::new();
    for queue in port.statistics() {
        for (at, (name, n)) in queue.into_iter().enumerate() {
            match kernel.get_mut(at) {
                Some((_, sum)) => *sum += n,
                None => kernel.push((name.to_string(), n)),
            }
        }
    }
    let gate = port.gate();
    PortStatus {
        interface: port.interface.clone(),
        mode: port.mode,
        queues: port.queues,
        balanced: flowed.balanced(),
        flowed,
        kernel: Named(kernel),
        gate_no_socket: gate.no_socket,
        gate_stale: gate.stale,
        gate_unfiltered: gate.unfiltered,
        gate_unfiltered_ms: gate.unfiltered_for.as_millis() as u64,
    }
}

/// Nanoseconds since the Unix epoch.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}
