//! The running gate: workers on their cores, everything else on the calling thread.

use super::added::Store;
use super::alerts::Incidents;
use super::bringup::{BringupError, Ready, bring_up};
use super::crew::Crew;
use super::detect::{self, Detectors};
use super::handover::{Giver, Left, monotonic};
use super::http::Doors;
use super::http::access::Access;
use super::keeper::Keeper;
use super::lapses::Lapses;
use super::names::Names;
use super::quarantine::{self, Quarantine};
use super::reach::reach;
use super::reload::{self, Applied, Reloader};
use super::resolve::Resolver;
use super::sink::{self, OpenError};
use super::status::{State, now};
use super::upkeep::{Ask, Upkeep};
use super::windows::{self, Window};
use super::{evidence, hoststack, http, socket};
use crate::config::{Config, OnFailure, token};
use crate::flow::Flows;
use crate::hoststack::decoy::Report;
use crate::os::affinity;
use crate::os::notify::Manager;
use crate::os::sandbox::{self, Calls, Reach, SandboxError};
use crate::os::signals::Held;
use crate::policy::CompileError;
use crate::port::gate::{Beats, Failing, Gate, GateError, Loader};
use crate::telemetry::dhcp::DhcpRing;
use crate::telemetry::{EventRing, ObservationRing, observe};
use crossbeam::channel::Receiver;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// How often the control thread looks at the event rings.
const TICK: Duration = Duration::from_millis(20);
/// How often windows that are over are looked for.
const EXPIRE_TICKS: u32 = 25;

/// How often the windows of incidents are kept.
const KEEP_TICKS: u32 = 250;

/// Observations that a worker may be ahead of the control thread.
const OBSERVATIONS: usize = 4096;

/// Conversations that are told of at once.
const REPORTS: usize = 64;

/// How long sinks may take at the end for what they have.
const FLUSH: Duration = Duration::from_secs(2);
/// And when frames wait meanwhile, for what came last.
const FLUSH_LAST: Duration = Duration::from_millis(300);
/// How long a disk may take then, for each of two things.
const LAST: Duration = Duration::from_millis(50);

/// Why the gate did not start, or stopped.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ServeError {
    #[error(
        "the config has no [bridge] section, so there are no NICs to run on; add [bridge] with lan = \"…\" and uplink = \"…\""
    )]
    NoBridge,
    #[error("{0}")]
    Compile(#[from] CompileError),
    #[error(transparent)]
    Bringup(#[from] BringupError),
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    #[error("[control] state, or [evidence] dir: {0}")]
    Folder(std::io::Error),
    #[error("[metrics] listen = \"{address}\": {source}; name another address or port, or \"off\"")]
    Metrics {
        address: std::net::SocketAddr,
        source: std::io::Error,
    },
    #[error("[metrics] token_file {path}: {source}", path = path.display())]
    Token {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("control socket {path}: {source}{}", hint(source), path = path.display())]
    Socket {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("[alerts] file {path}: {source}; name a file that can be made", path = path.display())]
    Alerts {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("evidence {path}: {source}", path = path.display())]
    Evidence {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{0}")]
    Sink(OpenError),
    #[error("{0}")]
    Os(std::io::Error),
    #[error("a worker ended by itself; the in-kernel gate stays on the NICs and drops everything")]
    WorkerEnded,
}

fn hint(source: &std::io::Error) -> &'static str {
    match source.kind() {
        std::io::ErrorKind::PermissionDenied => {
            "; run as root, or set [control] socket to a path that this user may make"
        }
        _ => "",
    }
}

/// Runs the config that was read from `file` until SIGTERM or SIGINT, and reads it again at SIGHUP. The in-kernel gate stays attached, and does what the config says for when
/// nobody filters. What an earlier process has `left` is taken over where it fits; at SIGTERM it is left for the next one, where there is a service manager.
///
/// # Errors
/// [`ServeError`]; before the gate was ready, the NICs are as they were.
pub fn serve(config: Config, file: &Path, left: Left, held_back: Held) -> Result<(), ServeError> {
    let bridge = config.bridge.as_ref().ok_or(ServeError::NoBridge)?;
    let loaded = Instant::now();
    // Beside what the policy and the table of flows take.
    let loader = std::thread::spawn(Loader::new);
    let tests = config.all_tests().cloned().collect();
    let mut keeper = Keeper::new(quarantine::with_rule(config.policy.clone()), tests)?;
    let mut store = Store::new(&config.control.state);
    for warning in store.restore(&mut keeper) {
        eprintln!("portcullis: warning: {warning}");
    }
    let flows = Flows::new(&config.flows);
    let mut held = Quarantine::new(
        &config.control.state,
        config.quarantine.clone(),
        config.hosts.clone(),
        Arc::clone(&flows),
    );
    for warning in held.restore(&mut keeper, now() / 1_000_000_000) {
        eprintln!("portcullis: warning: {warning}");
    }
    let policy = keeper.in_force();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServeError::Os)?;
    let inside = runtime.enter();
    // Held back until here, and answered when the gate is ready: a start is never cut off half-way.
    let signals = Signals {
        terminate: signal(SignalKind::terminate()).map_err(ServeError::Os)?,
        interrupt: signal(SignalKind::interrupt()).map_err(ServeError::Os)?,
        hangup: signal(SignalKind::hangup()).map_err(ServeError::Os)?,
    };
    drop(held_back);
    // What can fail without touching a NIC comes first.
    let metrics = config.metrics.listen.map(|address| {
        let bind = || {
            let listener = std::net::TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(listener)
        };
        bind().map_err(|source| ServeError::Metrics { address, source })
    });
    let metrics = metrics.transpose()?;
    let access = match &config.metrics.token_file {
        None => Access::Open,
        Some(path) => Access::Token(token(path).map_err(|source| ServeError::Token {
            path: path.clone(),
            source,
        })?),
    };
    let path = config.control.socket.clone();
    let listener = socket::bind(&path, socket::GROUP).map_err(|source| ServeError::Socket {
        path: path.clone(),
        source,
    })?;
    let _remove = RemoveOnDrop(&path);
    let sinks = sink::open(&config.alerts, &config.sinks).map_err(|error| match error {
        OpenError::File(source) => ServeError::Alerts {
            path: config.alerts.file.clone().unwrap_or_default(),
            source,
        },
        other => ServeError::Sink(other),
    })?;
    let wanted = config.evidence.as_ref();
    let state_dir = path.parent().unwrap_or(Path::new("/run/portcullis"));
    // What is given up when all is ready is given up by a thread first that has nothing else to do: a refusal then leaves the NICs as they are.
    let within = reach(&config, file).map_err(ServeError::Folder)?;
    let rehearsal = || -> Result<(), SandboxError> {
        sandbox::drop_capabilities()?;
        sandbox::confine(&within)?;
        sandbox::only(Calls::Control)?;
        sandbox::only(Calls::Worker)
    };
    std::thread::scope(|scope| scope.spawn(rehearsal).join())
        .map_err(|_| ServeError::WorkerEnded)??;
    // Netlink work has a runtime of its own, which may not be entered from inside of this one.
    let manager = Manager::here();
    let keeps = manager.zip(bridge.handover);
    let bring = || {
        let loader = loader.join().unwrap_or_else(|_| Loader::new());
        let hand_over = (left, keeps.is_some());
        bring_up(
            bridge, &policy, &flows, wanted, state_dir, loader, hand_over,
        )
    };
    let mut ready = std::thread::scope(|scope| scope.spawn(bring).join())
        .map_err(|_| ServeError::WorkerEnded)??;
    let made = hoststack::make(&config, &mut ready);
    let Ready {
        workers,
        ports: [lan, uplink],
        events,
        pages,
        notes,
        layout,
        taken,
        ..
    } = ready;
    let received_before = taken.as_ref().map_or([0; 2], |taken| taken.received_before);
    let giver = keeps
        .zip(layout)
        .map(|(keeps, layout)| Giver::new(keeps, layout, received_before));
    let giver = giver.transpose().map_err(ServeError::Os)?;
    let given_up = give_up(&config, &within)?;
    for note in notes.iter().chain(&given_up) {
        eprintln!("portcullis: note: {note}");
    }
    let dhcp: Vec<DhcpRing> = workers.iter().map(|(worker, _)| worker.dhcp()).collect();
    let watched = Watched {
        rings: match config.detect.enabled {
            true => observe::rings(workers.len(), OBSERVATIONS),
            false => Vec::new(),
        },
        detectors: Detectors::new(config.detect.clone()),
    };
    let workers: Vec<_> = workers
        .into_iter()
        .enumerate()
        .map(|(index, (worker, core))| match watched.rings.get(index) {
            Some(ring) => (worker.observing(Arc::clone(ring)), core),
            None => (worker, core),
        })
        .collect();
    let counters = workers
        .iter()
        .map(|(worker, _)| worker.counters())
        .collect();
    let mut gates = [lan.1, uplink.1];
    let beats = [gates[0].beats()?, gates[1].beats()?];
    let cores: Vec<usize> = workers.iter().map(|(_, core)| *core).collect();
    let crew = Crew::start(workers, bridge.idle, &beats)?;
    let taken = taken.map(|taken| taken.ended(monotonic()));
    arm(&mut gates, (bridge.watchdog, bridge.on_failure))?;
    // Threads that are started from here on keep off them too.
    affinity::keep_off(&cores);
    let (applied, follows) = unbounded_channel();
    let reloader = Reloader::new(file, config.clone(), Arc::clone(&flows), Some(applied));
    let stack = made
        .stack
        .start(|| sandbox::only(Calls::Worker))
        .map_err(ServeError::Os)?;
    let upkeep = Upkeep::start(keeper, store, loaded, (reloader, held)).map_err(ServeError::Os)?;
    let (sinks, delivery) = sinks.start();
    let interfaces = [&lan.0, &uplink.0].map(|port| port.interface.clone());
    let evidence = wanted.map(|wanted| {
        evidence::start(wanted, pages, interfaces).map_err(|source| ServeError::Evidence {
            path: wanted.dir.clone(),
            source,
        })
    });
    let (evidence, evidence_thread) = evidence.transpose()?.unzip();
    let resolver = config.alerts.reverse_dns.then(Resolver::start).transpose();
    let names = Names::new(&config.hosts).with_resolver(resolver.map_err(ServeError::Os)?);
    let kept = windows::path(&config.control.state);
    let (before, wrong) = windows::load(&kept, now(), config.alerts.window.as_nanos() as u64);
    if let Some(wrong) = wrong {
        eprintln!("portcullis: warning: {wrong}");
    }
    let incidents = Incidents::new(Arc::clone(&policy), config.alerts.window)
        .resume(before)
        .with_socket(&path)
        .with_hosts(config.metrics.hosts)
        .with_names(names);
    let state = State::new(
        policy,
        (upkeep.sets(), upkeep.desk()),
        [lan.0, uplink.0],
        (counters, cores),
        incidents,
        sinks,
        evidence,
    );
    let state = state.with_config(&config, upkeep.reloads());
    let state = state.with_quarantine(upkeep.quarantine());
    let state = state.with_taken(taken).with_hoststack(made.tallies);
    let state = Arc::new(state.with_clock(crew.clock()));
    announce(&state, &config, manager);
    let mut from_workers = FromWorkers {
        events,
        dhcp,
        watched,
        reports: made.reports,
    };
    let evidence_dir = wanted.map(|kept| kept.dir.clone());
    let doors = Doors {
        listener: metrics,
        inband: made.connections,
    };
    let outcome = runtime.block_on(control(
        (signals, follows),
        Arc::clone(&state),
        (&crew, &mut gates),
        &kept,
        &mut from_workers,
        (doors, access, evidence_dir),
        listener,
    ));
    drop(upkeep);
    let mut flush = FLUSH;
    let giver = giver.filter(|_| matches!(outcome, Ok(End::Planned)));
    if let (Some(manager), Ok(_)) = (manager, &outcome) {
        tell(manager.stopping("ending"));
    }
    let save = |open: Vec<Window>| {
        if let Err(e) = windows::save(&kept, &windows::text(open)) {
            eprintln!("portcullis: warning: {}: {e}", kept.display());
        }
    };
    match giver {
        None => {
            crew.stop();
            drop(stack);
            while !from_workers.reports.is_empty() {
                drain(&state, &mut from_workers, 0);
            }
            drain(&state, &mut from_workers, 0);
            // As they stand: what follows closes them.
            let open = state.incidents().0.windows();
            drain(&state, &mut from_workers, u64::MAX);
            save(told_now(open));
            drop(evidence_thread);
        }
        Some(giver) => {
            // What may take its time is done while frames still pass. Incidents stay open: the next process goes on with them, and tells of what was not told.
            drop(stack);
            while !from_workers.reports.is_empty() {
                drain(&state, &mut from_workers, 0);
            }
            let until = Instant::now() + FLUSH;
            drain(&state, &mut from_workers, 0);
            while !runtime.block_on(delivery.settle()) && Instant::now() < until {
                drain(&state, &mut from_workers, 0);
            }
            save(state.incidents().0.windows());
            flush = FLUSH_LAST;
            hand_over(giver, crew, (&mut gates, &beats), &state);
            // From here on frames wait, and no disk is waited for.
            drain(&state, &mut from_workers, 0);
            let open = windows::text(state.incidents().0.windows());
            let (path, (done, ended)) = (kept.clone(), std::sync::mpsc::channel());
            std::thread::spawn(move || {
                // The next process reads it from the same kernel: it need not be on the disk. What was saved above is there in any case.
                let _ = windows::replace(&path, &open);
                let _ = done.send(());
            });
            let _ = ended.recv_timeout(LAST);
            if evidence_thread.is_some_and(|thread| !thread.end_within(LAST)) {
                eprintln!("portcullis: warning: the last captures were not written in time");
            }
        }
    }
    for (name, lines) in runtime.block_on(delivery.finish(flush)) {
        eprintln!(
            "portcullis: warning: the sink `{name}` did not take the last {lines} alert lines in time; they are lost"
        );
    }
    // A write or a name look-up that hangs holds up nobody.
    drop(inside);
    runtime.shutdown_background();
    outcome.map(drop)
}

/// Why the gate ends in good order.
enum End {
    /// SIGTERM: another process may come.
    Planned,
    /// SIGINT: somebody who has started it by hand wants it to end.
    Interrupted,
}

/// Brings the workers to rest, and hands over what they work with. Where that fails everything ends with this process, as at any other end.
fn hand_over(
    giver: Giver,
    crew: Crew,
    (gates, beats): (&mut [Gate; 2], &[Beats; 2]),
    state: &State,
) {
    let Some(workers) = crew.rest() else {
        eprintln!(
            "portcullis: warning: nothing is handed over to the next process: a worker has ended by itself"
        );
        return;
    };
    let now = monotonic();
    for ((gate, beats), port) in gates.iter_mut().zip(beats).zip(&state.ports) {
        if let Err(e) = gate.wait(beats, port.queues, now, giver.patience()) {
            eprintln!("portcullis: warning: {e}");
        }
    }
    let received = |side: usize| {
        let counters = state
            .workers
            .iter()
            .map(|worker| worker.sides[side].rx.get());
        counters.sum()
    };
    match giver.give(workers, [received(0), received(1)]) {
        Ok(chunks) => eprintln!(
            "portcullis: note: sockets and packet memory are with the service manager, for the next process ({chunks} chunks in hand)"
        ),
        Err(e) => eprintln!("portcullis: warning: nothing is handed over to the next process: {e}"),
    }
}

/// The manager is told what it need not know; that it does not listen is no reason to end.
fn tell(told: std::io::Result<()>) {
    if let Err(e) = told {
        eprintln!("portcullis: warning: the service manager cannot be told: {e}");
    }
}

/// Sets the watchdogs, when every worker beats.
fn arm(
    gates: &mut [Gate; 2],
    (watchdog, on_failure): (Duration, OnFailure),
) -> Result<(), GateError> {
    let peers = [gates[1].index(), gates[0].index()];
    for (gate, peer) in gates.iter_mut().zip(peers) {
        let failing = match on_failure {
            OnFailure::Closed => Failing::Closed,
            OnFailure::Open => Failing::OpenTo(peer),
        };
        gate.arm(watchdog, failing)?;
    }
    Ok(())
}

/// Gives up what a gate that is ready has no need of, before there are other threads. What this kernel does not have is noted.
fn give_up(config: &Config, within: &Reach) -> Result<Vec<String>, ServeError> {
    if !config.control.core_dumps {
        sandbox::no_core_dumps()?;
    }
    let mut notes: Vec<String> = sandbox::lock_memory().into_iter().collect();
    sandbox::drop_capabilities()?;
    notes.extend(sandbox::confine(within)?);
    sandbox::only(Calls::Control)?;
    Ok(notes)
}

/// What workers see hosts do, and what is made of it.
struct Watched {
    /// None where nothing is looked for.
    rings: Vec<ObservationRing>,
    detectors: Detectors,
}

/// What workers tell.
struct FromWorkers {
    events: Vec<EventRing>,
    dhcp: Vec<DhcpRing>,
    watched: Watched,
    /// Conversations of decoys that are over.
    reports: Receiver<Report>,
}

/// What ends the gate.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// The config is to be read again.
    hangup: Signal,
}

struct RemoveOnDrop<'a>(&'a Path);

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(self.0);
    }
}

fn announce(state: &State, config: &Config, manager: Option<Manager>) {
    let port = |at: usize| {
        format!(
            "{}={} ({}, queues: {})",
            state.ports[at].side,
            state.ports[at].interface,
            state.ports[at].mode,
            state.ports[at].queues
        )
    };
    let metrics = config.metrics.listen.map_or("off".to_string(), |address| {
        format!("http://{address}/metrics")
    });
    if state.policy.load().is_shadow() {
        eprintln!(
            "portcullis: warning: [policy] shadow = true: NOTHING IS ENFORCED; every frame is forwarded, and what would have been dropped is counted and alerted on"
        );
    }
    if config
        .bridge
        .as_ref()
        .is_some_and(|bridge| bridge.on_failure == OnFailure::Open)
    {
        eprintln!(
            "portcullis: warning: [bridge] on_failure = \"open\": whenever nobody filters, every frame passes unfiltered; that goes for a stop too, until `portcullis detach`"
        );
    }
    if let Some(taken) = &state.taken {
        eprintln!("portcullis: note: {taken}");
    }
    if let Some(manager) = manager {
        tell(manager.ready(&format!("filtering: {} {}", port(0), port(1))));
    }
    let inband = config.inband.as_ref().map_or(String::new(), |inband| {
        let at = |net: &ipnet::IpNet| {
            let at = std::net::SocketAddr::new(net.addr(), inband.port);
            format!(" inband=http://{at}/")
        };
        inband.addresses.iter().map(at).collect()
    });
    eprintln!(
        "portcullis: ready: {} {} workers={} metrics={metrics}{inband}",
        port(0),
        port(1),
        state.workers.len()
    );
}

async fn control(
    (mut signals, mut follows): (Signals, UnboundedReceiver<Applied>),
    state: Arc<State>,
    (crew, gates): (&Crew, &mut [Gate; 2]),
    kept: &Path,
    from_workers: &mut FromWorkers,
    (doors, access, evidence): (Doors, Access, Option<PathBuf>),
    listener: tokio::net::UnixListener,
) -> Result<End, ServeError> {
    let answering = tokio::spawn(socket::serve(listener, Arc::clone(&state)));
    let asked = doors.listener.is_some() || doors.inband.is_some();
    let serve = http::serve(doors, Arc::clone(&state), access, evidence);
    let serving = asked.then(|| tokio::spawn(serve));
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut ticks = 0u32;
    let mut lapses = Lapses::new(kept.parent().unwrap_or(Path::new("/")));
    let mut told: Vec<Window> = Vec::new();
    let outcome = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break Ok(End::Planned),
            _ = signals.interrupt.recv() => break Ok(End::Interrupted),
            _ = signals.hangup.recv() => {
                let desk = state.desk.clone();
                // What becomes of it is logged, and stands in the status; that nobody took it up does not.
                tokio::spawn(async move {
                    let answer = desk.ask(Ask::Config(reload::Ask::Reload, Vec::new())).await;
                    if let Some(error) = answer["error"].as_str() {
                        eprintln!("portcullis: SIGHUP: not reloaded: {error}");
                    }
                });
            }
            Some(applied) = follows.recv() => follow(&state, gates, &applied),
            _ = tick.tick() => {
                ticks = ticks.wrapping_add(1);
                let expire = ticks.is_multiple_of(EXPIRE_TICKS);
                drain(&state, from_workers, if expire { now() } else { 0 });
                if ticks.is_multiple_of(KEEP_TICKS) {
                    let open = state.incidents().0.windows();
                    if open != told {
                        let text = windows::text(open.clone());
                        if state.desk.leave(Ask::Keep(kept.to_owned(), text)) {
                            told = open;
                        }
                    }
                }
                if expire {
                    for line in lapses.look(&state.ports) {
                        eprintln!("portcullis: warning: {line}");
                    }
                }
                if !crew.complete() {
                    break Err(ServeError::WorkerEnded);
                }
            }
        }
    };
    answering.abort();
    if let Some(serving) = serving {
        serving.abort();
    }
    outcome
}

/// The windows at the end, whose last lines are written now.
fn told_now(mut open: Vec<Window>) -> Vec<Window> {
    for window in open
        .iter_mut()
        .filter(|window| window.packets > window.told)
    {
        (window.line, window.told) = (now(), window.packets);
    }
    open
}

/// Another config is in force.
fn follow(state: &State, gates: &mut [Gate; 2], applied: &Applied) {
    let mut guard = state.incidents();
    guard.0.set_window(applied.window);
    guard.0.names().restate(&applied.hosts);
    drop(guard);
    if let Some(failing) = applied.failing
        && let Err(e) = arm(gates, failing)
    {
        eprintln!("portcullis: warning: the watchdog stays as it was: {e}");
    }
}

/// Empties the rings; at a time other than 0, also closes the incidents whose window is over by then.
fn drain(state: &State, from: &mut FromWorkers, expire: u64) {
    let mut guard = state.incidents();
    let (incidents, sinks) = &mut *guard;
    for ring in &from.dhcp {
        for _ in 0..ring.capacity() {
            let Some(request) = ring.pop() else { break };
            incidents.names().hear(&request);
        }
    }
    for ring in &from.events {
        // Bounded, so that one loud ring does not keep the others waiting.
        for _ in 0..ring.capacity() {
            let Some(event) = ring.pop() else { break };
            if let Some(ask) = incidents.quarantines(&event) {
                state.desk.leave(Ask::Quarantine(ask));
            }
            if let Some(line) = incidents.take(&event) {
                sinks.write(line);
            }
        }
    }
    for report in from.reports.try_iter().take(REPORTS) {
        if let Some(line) = incidents.take_report(&report) {
            sinks.write(line);
        }
    }
    let Watched { rings, detectors } = &mut from.watched;
    detect::drain(rings, |seen| {
        for finding in detectors.take(seen) {
            if let Some(line) = incidents.take_finding(finding) {
                sinks.write(line);
            }
        }
    });
    if expire > 0 {
        for line in incidents.expire(expire) {
            sinks.write(line);
        }
    }
}
