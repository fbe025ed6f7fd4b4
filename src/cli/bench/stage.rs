//! From two names to an open tester: the NICs are looked at before they are touched.

use super::options::{Place, Ports, Threads, Traffic, Trials};
use crate::os::netns;
use crate::os::nic::{self, Nic};
use crate::port::capture::{CaptureReader, Captured};
use nix::sys::signal::{SigSet, Signal};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};
use traffic::flow::Flow;
use traffic::frames::{Ends, Frames};
use traffic::port::{self, Hears, Port, Wanted};
use traffic::report::{Machine, PortReport, Report, Settings};
use traffic::size::Size;
use traffic::tester::{Manner, Tester};

/// A machine with so many cores has one for each thread of the tester, and some for the box if that is on it too.
const CORES: usize = 4;
/// Ethernet header and FCS, which an MTU does not count.
const AROUND: u32 = 18;
/// How long a link may take to come back.
const CARRIER: Duration = Duration::from_secs(15);

pub(super) type Trouble = Box<dyn Error>;

/// An open tester, and what is to be told of it.
pub(super) struct Stage {
    pub(super) tester: Tester,
    pub(super) report: Report,
}

impl Stage {
    /// Opens both NICs, for frames of at most this size.
    pub(super) fn open(ports: &Ports, trials: &Trials, largest: u32) -> Result<Stage, Trouble> {
        let manner = manner(&ports.threads, trials.settle)?;
        if ports.lan == ports.uplink {
            return Err("--lan and --uplink name the same NIC: it takes two".into());
        }
        let [lan, uplink] =
            [&ports.lan, &ports.uplink].map(|place| look(place, ports.force, largest));
        let nics = [lan?, uplink?];
        let ends: Ends = [nics[0].mac, nics[1].mac];
        if ends[0] == ends[1] {
            return Err(format!(
                "{} and {} have the same MAC address, so frames of one cannot be told from those of the other: ip link set dev {} address 02:00:00:00:00:01",
                nics[0].name, nics[1].name, nics[0].name
            )
            .into());
        }
        let places = [&ports.lan, &ports.uplink];
        let hears = |at: usize| Hears::From(ends[1 - at]);
        let opened = [
            open(places[0], &nics[0], hears(0), ports.mode)?,
            open(places[1], &nics[1], hears(1), ports.mode)?,
        ];
        places.into_iter().try_for_each(wait_for_carrier)?;
        let mut report = report(trials);
        for (at, port) in opened.iter().enumerate() {
            report.ports.push(PortReport {
                side: ["lan", "uplink"][at],
                interface: nics[at].name.clone(),
                namespace: places[at].namespace.clone(),
                driver: driver(places[at], &nics[at]),
                mode: port.mode(),
                queues: nics[at].rx_queues,
            });
        }
        report.notes.extend(doubts(&report.ports));
        if trials.duration < Duration::from_secs(60) {
            let took = humantime::format_duration(trials.duration);
            let note = format!("trials of {took}: RFC 2544 section 24 asks for 60 s or more");
            report.notes.push(note);
        }
        let tester = Tester::new(opened, ends, manner);
        Ok(Stage { tester, report })
    }
}

/// What of the ports bounds what they can tell.
fn doubts(ports: &[PortReport]) -> Vec<String> {
    let mut notes = Vec::new();
    if ports.iter().any(|port| port.driver == "veth") {
        notes.push("veth pairs: tester, cable and device share the cores of one machine, so rates are of all of them together; compare within a run".into());
    }
    for port in ports.iter().filter(|port| port.mode == "generic") {
        let name = &port.interface;
        notes.push(format!(
            "{name} runs in generic mode, the slowest: its driver has no XDP"
        ));
    }
    notes
}

/// Some drivers take the link down for a moment when a program or a socket comes.
fn wait_for_carrier(place: &Place) -> Result<(), Trouble> {
    let name = &place.nic;
    let since = Instant::now();
    loop {
        let looked = || nic::block_on(nic::inspect(name));
        if netns::within(place.namespace.as_deref(), looked)??.carrier {
            return Ok(());
        }
        if since.elapsed() > CARRIER {
            return Err(format!(
                "{name} has no carrier: is its cable in, and the device at the other end on?"
            )
            .into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Opens a NIC where it is.
pub(super) fn open(
    place: &Place,
    nic: &Nic,
    hears: Hears,
    wanted: Wanted,
) -> Result<Port, Trouble> {
    let nic = port::Nic {
        name: nic.name.clone(),
        index: nic.index,
        mac: nic.mac,
        queues: nic.rx_queues,
    };
    let opened = netns::within(place.namespace.as_deref(), || {
        Port::open(&nic, hears, wanted)
    });
    Ok(opened??)
}

/// How the threads run, and a flag that signals set. Before there are other threads.
pub(super) fn manner(threads: &Threads, settle: Duration) -> Result<Manner, Trouble> {
    let stop = stop_on_signals()?;
    let several = std::thread::available_parallelism().is_ok_and(|n| n.get() >= CORES);
    let core = |at| threads.cores.get(at).copied();
    Ok(Manner {
        cores: [core(0), core(1)],
        spin: threads.spin || several,
        settle,
        stop,
    })
}

/// The frames of a capture file.
pub(super) fn captured(path: &std::path::Path, ends: &Ends) -> Result<(Frames, usize), Trouble> {
    let mut reader = CaptureReader::open(path)?;
    let (mut frame, mut all, mut cut) = (Captured::default(), Vec::new(), 0);
    while reader.next(&mut frame)? {
        if frame.cut {
            cut += 1;
        } else {
            all.push(std::mem::take(&mut frame.bytes));
        }
    }
    let (frames, left_out) = Frames::captured(all.iter().map(Vec::as_slice), ends);
    if frames.is_empty() {
        return Err(format!("{}: no frame in it can be sent", path.display()).into());
    }
    Ok((frames, left_out + cut))
}

/// The flows of generated traffic.
pub(super) fn flows(traffic: &Traffic) -> Result<Vec<Flow>, Trouble> {
    Ok(traffic.ranges().flows(traffic.flows as usize)?)
}

/// The longest frame of these sizes.
pub(super) fn largest(sizes: &[Size]) -> u32 {
    let all = sizes.iter().flat_map(|size| size.pattern());
    all.max().unwrap_or(64).into()
}

/// Looks at a NIC, and refuses what cannot work or would harm somebody.
pub(super) fn look(place: &Place, force: bool, largest: u32) -> Result<Nic, Trouble> {
    let Place {
        namespace,
        nic: name,
    } = place;
    let found = netns::within(namespace.as_deref(), || nic::block_on(nic::inspect(name)));
    let nic = found.map_err(|e| {
        let namespace = namespace.as_deref().unwrap_or_default();
        format!("network namespace {namespace}: {e}; `ip netns` lists those there are")
    })??;
    if !nic.up {
        return Err(format!("{name} is down; run: ip link set {name} up").into());
    }
    if nic.xdp.is_some() {
        let nic = name.clone();
        return Err(port::PortError::Taken { nic }.into());
    }
    if nic.controller.is_some() && !force {
        return Err(format!(
            "{name} belongs to a bridge or bond, which would miss frames; take it out (ip link set {name} nomaster), or say --force"
        )
        .into());
    }
    if nic.mtu + AROUND < largest {
        return Err(format!(
            "{name} has an MTU of {}, and frames of {largest} bytes are to be sent; run: ip link set {name} mtu {}, or say --size",
            nic.mtu,
            largest - AROUND
        )
        .into());
    }
    Ok(nic)
}

fn driver(place: &Place, nic: &Nic) -> String {
    if nic.veth {
        return "veth".into();
    }
    // What sysfs shows is of the namespace that it was mounted in.
    let link = format!("/sys/class/net/{}/device/driver", place.nic);
    let driver = match place.namespace {
        Some(_) => None,
        None => std::fs::read_link(link).ok(),
    };
    let name = driver.and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    name.unwrap_or_else(|| "unknown".into())
}

fn report(trials: &Trials) -> Report {
    let command: Vec<String> = std::env::args().collect();
    let program = command.first().map(std::path::Path::new);
    let name = program
        .and_then(|path| path.file_name())
        .unwrap_or_default();
    let rest = command.get(1..).unwrap_or_default().join(" ");
    Report {
        version: env!("CARGO_PKG_VERSION").into(),
        command: format!("{} {rest}", name.to_string_lossy()),
        date: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
        machine: machine(),
        settings: Settings {
            duration_s: trials.duration.as_secs_f64(),
            settle_s: trials.settle.as_secs_f64(),
            tolerance: trials.tolerance,
            resolution: trials.resolution,
            retries: trials.retries,
            ..Settings::default()
        },
        ..Report::default()
    }
}

pub(super) fn machine() -> Machine {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus
        .lines()
        .find_map(|line| line.strip_prefix("model name"));
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    Machine {
        cpu: model
            .map_or("unknown", |name| name.trim_start_matches(['\t', ' ', ':']))
            .to_string(),
        cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        kernel: kernel.trim().to_string(),
    }
}

/// A flag that SIGINT and SIGTERM set, so that the ports are closed in order. The second one ends the process at once, and the kernel closes them.
fn stop_on_signals() -> Result<Arc<AtomicBool>, Trouble> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        signals.add(signal);
    }
    // Before there are other threads, which all have them blocked then.
    signals.thread_block()?;
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    let thread = std::thread::Builder::new().name("signals".into());
    thread.spawn(move || {
        if signals.wait().is_ok() {
            flag.store(true, Relaxed);
            let _ = signals.wait();
            std::process::exit(super::super::CANNOT.into());
        }
    })?;
    Ok(stop)
}
