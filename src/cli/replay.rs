//! `portcullis replay`.

use super::{ConfigFile, cannot, print_json};
use crate::action::reject::Rejector;
use crate::config::Config;
use crate::control::alerts::{Incidents, Line};
use crate::control::detect::Detectors;
use crate::control::keeper::Keeper;
use crate::control::names::Names;
use crate::control::snapshot::{Flowed, Named, RuleHits, Snapshot};
use crate::flow::Flows;
use crate::policy::Side;
use crate::port::Port;
use crate::port::capture::{CaptureError, CaptureReader, CaptureWriter};
use crate::port::pcap::{PcapPort, Sides, Stage};
use crate::telemetry::{ObservationRing, Reason, event, observe};
use crate::worker::{LONGEST_HELD, Worker};
use af_xdp::{Umem, UmemConfig};
use ipnet::IpNet;
use serde::Serialize;
use std::collections::HashSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

/// Frames under way in a replay.
const FRAMES: u32 = 1024;
/// What hosts do in one turn has room in it.
const SEEN: usize = 4096;
/// The chunk of a default config, so that a replay finds oversize what the gate would.
const CHUNK: u32 = 4096;

#[derive(clap::Args)]
pub(super) struct Replay {
    #[command(flatten)]
    config: ConfigFile,
    /// The capture, pcap or pcapng
    #[arg(value_name = "IN.pcap[ng]")]
    capture: PathBuf,
    /// A prefix of the LAN: frames from it go out, others come in. Repeatable; without it, the config's [lan] prefixes
    #[arg(long, value_name = "PREFIX")]
    lan_prefix: Vec<IpNet>,
    /// The MAC address of a LAN host: frames from it go out, all others come in. Repeatable
    #[arg(long, value_name = "MAC", value_parser = mac, conflicts_with = "lan_prefix")]
    lan_mac: Vec<[u8; 6]>,
    /// Write the frames that are forwarded, in order, to a pcapng file
    #[arg(long, value_name = "OUT.pcapng")]
    write_forwarded: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    frames: u64,
    forwarded: u64,
    rejected: u64,
    dropped: Named<u64>,
    /// The policy is not enforced: every frame was forwarded.
    shadow: bool,
    /// Frames forwarded for that reason alone, by the reason of the drop or reject that was not done.
    would_drop: Named<u64>,
    rules: Named<RuleHits>,
    alerts: Vec<Line>,
    out: Flowed,
    r#in: Flowed,
    balanced: bool,
    /// Frames of which the capture holds only the beginning, so that they were judged by that.
    cut_by_capture: u64,
    /// Alert events and hosts that found no room.
    alerts_lost: u64,
}

impl Replay {
    pub(super) fn run(self) -> ExitCode {
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        match self.replay(&config) {
            Ok((report, broken)) => {
                let printed = if self.json {
                    print_json(&report)
                } else {
                    print!("{}", human(&report, &self.capture));
                    ExitCode::SUCCESS
                };
                // What could be read is told all the same: a capture that was cut off is an everyday thing.
                broken.map_or(printed, cannot)
            }
            Err(e) => cannot(e),
        }
    }

    fn replay(&self, config: &Config) -> Result<(Report, Option<CaptureError>), Box<dyn Error>> {
        let mut keeper = Keeper::new(config.policy.clone(), Vec::new())?;
        let policy = keeper.in_force();
        let prefixes = if self.lan_prefix.is_empty() {
            config.policy.lan_prefixes.clone()
        } else {
            self.lan_prefix.clone()
        };
        if prefixes.is_empty() && self.lan_mac.is_empty() {
            return Err("which frames came from the LAN? say --lan-prefix 10.0.0.0/8 (repeatable) or --lan-mac, or give [lan] prefixes in the config".into());
        }
        let macs: HashSet<[u8; 6]> = self.lan_mac.iter().copied().collect();
        let reader = CaptureReader::open(&self.capture)?;
        if let Some(out) = &self.write_forwarded
            && same_file(out, &self.capture)
        {
            return Err(format!(
                "{}: the capture would be overwritten while it is read",
                out.display()
            )
            .into());
        }
        let writer = self
            .write_forwarded
            .as_deref()
            .map(CaptureWriter::create)
            .transpose()?;
        let stage = Stage::open(reader, Sides::new(prefixes, macs), writer)?;
        let chunk = config.bridge.as_ref().map_or(CHUNK, |bridge| bridge.chunk);
        let (umem, frames) = Umem::new(&UmemConfig {
            frames: FRAMES,
            chunk,
            headroom: 0,
            huge_pages: false,
        })?;
        let ports =
            Side::BOTH.map(|side| vec![PcapPort::new(side, Arc::clone(&stage), umem.clone())]);
        let ring = event::ring(FRAMES as usize);
        let rejector = Rejector::silent();
        let mut worker = Worker::new(
            umem,
            frames,
            ports,
            Arc::clone(&policy),
            Flows::new(&config.flows).tracker(0, 1),
            rejector,
            Arc::clone(&ring),
        );
        let mut incidents = Incidents::new(Arc::clone(&policy), config.alerts.window)
            .with_names(Names::new(&config.hosts));
        let dhcp = worker.dhcp();
        let mut detectors = Detectors::new(config.detect.clone());
        let seen = observe::rings(config.detect.enabled.into(), SEEN).pop();
        if let Some(ring) = &seen {
            worker = worker.observing(Arc::clone(ring));
        }
        let (mut first, mut last) = (None, 0);
        loop {
            let Some(now) = Stage::lock(&stage).next_time() else {
                break;
            };
            last = now;
            // As if the policy had been loaded when the capture began.
            keeper.expire(Duration::from_nanos(now - *first.get_or_insert(now)))?;
            keeper.sweep();
            worker.turn(now);
            while let Some(request) = dhcp.pop() {
                incidents.names().hear(&request);
            }
            while let Some(event) = ring.pop() {
                incidents.take(&event);
            }
            judge(seen.as_ref(), &mut detectors, &mut incidents);
        }
        // Nothing arrives any more; what waits for a first fragment waits in vain, what was sent is taken back, and an oversize frame at the very end
        // is counted.
        worker.turn(last + LONGEST_HELD);
        worker.turn(last + LONGEST_HELD);
        worker.tell_rest(last + LONGEST_HELD);
        while let Some(event) = ring.pop() {
            incidents.take(&event);
        }
        let in_flight: u32 = Side::BOTH
            .iter()
            .flat_map(|side| worker.ports_ref(*side))
            .map(Port::in_flight)
            .sum();
        debug_assert_eq!(in_flight, 0);
        let cut = Stage::lock(&stage).cut;
        let broken = Stage::lock(&stage).finish().err();
        let snapshot = Snapshot::take(&[worker.counters()], &policy.load(), incidents.by_rule());
        let shadow = policy.load().is_shadow();
        Ok((report(&snapshot, &incidents, cut, shadow), broken))
    }
}

/// What hosts were seen to do, to the detectors.
fn judge(seen: Option<&ObservationRing>, detectors: &mut Detectors, incidents: &mut Incidents) {
    while let Some(observation) = seen.and_then(|ring| ring.pop()) {
        for finding in detectors.take(&observation) {
            incidents.take_finding(finding);
        }
    }
}

fn report(snapshot: &Snapshot, incidents: &Incidents, cut: u64, shadow: bool) -> Report {
    let [out, r#in] = snapshot.sides.clone();
    let by_reason = |of: fn(&Flowed) -> &Named<u64>| {
        let sum = |reason: &Reason| -> u64 {
            let sides = snapshot.sides.iter();
            sides.filter_map(|side| of(side).get(reason.name())).sum()
        };
        let reasons = Reason::ALL.iter();
        let named = reasons.map(|reason| (reason.name().to_string(), sum(reason)));
        Named(named.filter(|(_, n)| *n > 0).collect())
    };
    Report {
        frames: out.rx + r#in.rx,
        forwarded: out.forwarded + r#in.forwarded,
        rejected: out.rejected + r#in.rejected,
        dropped: by_reason(|side| &side.dropped),
        shadow,
        would_drop: by_reason(|side| &side.shadow),
        rules: snapshot.rules.clone(),
        alerts: incidents.summary(),
        balanced: snapshot.balanced(),
        out,
        r#in,
        cut_by_capture: cut,
        alerts_lost: snapshot.events_lost + incidents.uncounted(),
    }
}

/// What a rule in shadow would have done.
fn shadow_of(line: &Line) -> String {
    format!(" (shadow: {})", line.alert.verdict)
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

pub(super) fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Result<Vec<u8>, _> = text
        .split([':', '-'])
        .map(|part| u8::from_str_radix(part, 16))
        .collect();
    bytes
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(|| "expected six bytes: 52:54:00:12:34:56".into())
}

fn human(report: &Report, capture: &Path) -> String {
    let list = |named: &Named<u64>| {
        named
            .0
            .iter()
            .map(|(name, n)| format!("{name} {n}"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let mut text = format!(
        "{}: {} frames ({} out, {} in): {} forwarded, {} rejected, {} dropped",
        capture.display(),
        report.frames,
        report.out.rx,
        report.r#in.rx,
        report.forwarded,
        report.rejected,
        report.out.dropped_total() + report.r#in.dropped_total(),
    );
    if !report.dropped.0.is_empty() {
        text += &format!(" ({})", list(&report.dropped));
    }
    text += if report.balanced {
        "; every frame is accounted for\n"
    } else {
        "; THE COUNTS DO NOT ADD UP\n"
    };
    if report.shadow {
        let n: u64 = report.would_drop.0.iter().map(|(_, n)| n).sum();
        text += &format!(
            "shadow: nothing is enforced; {n} of the forwarded frames would not have been ({})\n",
            list(&report.would_drop)
        );
    }
    if report.cut_by_capture > 0 {
        text += &format!(
            "note: the capture holds only the beginning of {} frames; they were judged by that\n",
            report.cut_by_capture
        );
    }
    text += &format!(
        "\n{:<24}{:>12}{:>16}{:>10}\n",
        "rule", "packets", "bytes", "alerts"
    );
    for (name, hits) in report.rules.0.iter().filter(|(_, hits)| hits.packets > 0) {
        text += &format!(
            "{name:<24}{:>12}{:>16}{:>10}{}\n",
            hits.packets,
            hits.bytes,
            hits.alerts,
            hits.note()
        );
    }
    for line in &report.alerts {
        let end = |ip: &Option<String>, port: Option<u16>| {
            let ip = ip.as_deref().unwrap_or("-");
            port.map_or(ip.to_string(), |port| {
                if ip.contains(':') {
                    format!("[{ip}]:{port}")
                } else {
                    format!("{ip}:{port}")
                }
            })
        };
        text += &format!(
            "\nalert {:<7}{}  {} {} -> {}, {} packets, {}{}, from {}",
            line.alert.level,
            line.alert.signature,
            line.proto,
            end(&line.src_ip, line.src_port),
            end(&line.dest_ip, line.dest_port),
            line.alert.packets,
            line.alert.action,
            if line.alert.shadow {
                shadow_of(line)
            } else {
                String::new()
            },
            line.src_mac,
        );
    }
    if !report.alerts.is_empty() {
        text.push('\n');
    }
    text
}
