//! `portcullis bench send` and `portcullis bench sink`: one half of a test each.

use super::options::{self, Place, Threads, Traffic};
use super::output::rate;
use super::stage::{self, Trouble};
use std::process::ExitCode;
use std::time::Duration;
use traffic::flow::{Protocol, Ranges};
use traffic::frames::{Ends, Frames, Step};
use traffic::load::Load;
use traffic::outcome::Outcome;
use traffic::pace::Rate;
use traffic::port::{Hears, Wanted};
use traffic::report::Quantiles;
use traffic::sink::Run;
use traffic::size::Size;
use traffic::tester::{Amount, send};

/// A frame of IMIX at the longest.
const LARGEST: u32 = 1518;
/// What the baseline policy lets nobody do: send to the port of TFTP, and send from an address that is not the LAN's (RFC 5737).
const TFTP: u16 = 69;
const SPOOFED: &str = "198.51.100.0/24";
/// So many forbidden flows of each kind come in turn.
const FORBIDDEN: usize = 16;

/// Send frames from one NIC, and hear nothing
#[derive(clap::Args)]
#[command(after_help = "Examples:
  portcullis bench send --lan enp1s0 --to 52:54:00:12:34:56 --rate 100k --duration 1m
  portcullis bench send --lan a:lan0 --to 52:54:00:12:34:56 --capture office.pcapng --rate max
  portcullis bench send --lan enp1s0 --to 52:54:00:12:34:56 --size imix --count 1000000
  portcullis bench send --lan enp1s0 --to 52:54:00:12:34:56 --rate 5k --forbidden 10%")]
pub(super) struct Send {
    /// The NIC
    #[arg(long, value_name = "[NETNS:]NIC")]
    lan: Place,
    /// The MAC address that frames are sent to
    #[arg(long, value_name = "MAC", value_parser = super::super::replay::mac)]
    to: [u8; 6],
    /// Frames a second, or `max`
    #[arg(long, value_name = "RATE", default_value = "1k", value_parser = options::rate)]
    rate: Rate,
    /// How long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// How many frames, instead of how long
    #[arg(long, value_name = "N", conflicts_with = "duration")]
    count: Option<u64>,
    /// The part of the frames that must not get through a gate with the baseline policy: over UDP to port 69, and from 198.51.100.0/24
    #[arg(long, value_name = "PART", value_parser = options::part, conflicts_with = "capture")]
    forbidden: Option<f64>,
    #[command(flatten)]
    traffic: Traffic,
    #[command(flatten)]
    threads: Threads,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Receive what a `bench send` sends, until Ctrl-C, and say what was lost, twice or out of order
#[derive(clap::Args)]
#[command(
    after_help = "What is lost is told by gaps: frames behind the last that came are not missed. Latencies mean something only where the sender runs on the same machine.
Exit status: 0 done, 1 a frame arrived that `bench send --forbidden` sent as one that must not, 2 it could not be done.

Examples:
  portcullis bench sink --uplink enp2s0
  portcullis bench sink --uplink b:up0 --from 52:54:00:12:34:56 --quiet 3s --json"
)]
pub(super) struct Sink {
    /// The NIC
    #[arg(long, value_name = "[NETNS:]NIC")]
    uplink: Place,
    /// Take the frames of this MAC address alone; without it, all that come to the NIC, and nobody else hears them
    #[arg(long, value_name = "MAC", value_parser = super::super::replay::mac)]
    from: Option<[u8; 6]>,
    /// End after this long
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// End when nothing more has come for so long
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    quiet: Option<Duration>,
    /// How many flows the sender sends in turn: frames are out of order only within one. Without it, within all
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    flows: u32,
    #[command(flatten)]
    threads: Threads,
    /// Print JSON, a line for each run of a sender
    #[arg(long)]
    json: bool,
}

/// What was sent.
#[derive(serde::Serialize)]
struct Sent {
    sent: u64,
    forbidden: u64,
    bytes: u64,
    seconds: f64,
    offered_fps: f64,
    asked_fps: Option<f64>,
    valid: bool,
}

/// What was heard of one run of a sender.
#[derive(serde::Serialize)]
struct Heard {
    received: u64,
    missing: u64,
    duplicated: u64,
    reordered: u64,
    late: u64,
    foreign: u64,
    leaked: u64,
    silence_ns: u64,
    latency: Quantiles,
}

impl Send {
    pub(super) fn run(self) -> ExitCode {
        match self.send() {
            Ok(outcome) => self.tell(&outcome),
            Err(e) => super::super::cannot(e),
        }
    }

    fn send(&self) -> Result<Outcome, Trouble> {
        let manner = stage::manner(&self.threads, Duration::ZERO)?;
        let nic = stage::look(&self.lan, false, LARGEST)?;
        let load = self.load(&[nic.mac, self.to])?;
        let mut port = stage::open(&self.lan, &nic, Hears::Nothing, Wanted::Auto)?;
        let amount = self
            .count
            .map_or(Amount::Time(self.duration), Amount::Frames);
        Ok(send(&mut port, &load, self.rate, amount, &manner)?)
    }

    fn load(&self, ends: &Ends) -> Result<Load, Trouble> {
        if let Some(path) = &self.traffic.capture {
            let (frames, _) = stage::captured(path, ends)?;
            return Ok(Load::plain(frames));
        }
        let size = self.traffic.size.first().copied();
        let size = size.unwrap_or(Size::Fixed(64));
        let flows = stage::flows(&self.traffic)?;
        let shortest = size.pattern().into_iter().min().unwrap_or(64);
        Frames::fit(&flows, shortest.into())?;
        let load = Load::of(&flows, ends, Step::Out, size);
        let Some(part) = self.forbidden else {
            return Ok(load);
        };
        let tftp = Ranges {
            dport: TFTP..=TFTP,
            protocol: Protocol::Udp,
            ..self.traffic.ranges()
        };
        let spoofed = Ranges {
            src: SPOOFED.parse()?,
            protocol: Protocol::Udp,
            ..self.traffic.ranges()
        };
        let mut forbidden = tftp.flows(FORBIDDEN)?;
        // An address of version 4 sends to nobody of version 6.
        if self.traffic.dst.addr().is_ipv4() {
            forbidden.extend(spoofed.flows(FORBIDDEN)?);
        }
        let forbidden = Frames::build(&forbidden, ends, Step::Out, shortest.into());
        Ok(load.with_forbidden(forbidden, (part * 1000.0).round() as u64))
    }

    fn tell(&self, outcome: &Outcome) -> ExitCode {
        let sent = Sent {
            sent: outcome.sent,
            forbidden: outcome.forbidden,
            bytes: outcome.bytes,
            seconds: outcome.took as f64 / 1e9,
            offered_fps: outcome.offered(),
            asked_fps: outcome.asked.fixed(),
            valid: outcome.valid(),
        };
        if self.json {
            return super::super::print_json(&sent);
        }
        println!(
            "{} frames{}, {} bytes in {:.3} s: {}{}",
            sent.sent,
            match sent.forbidden {
                0 => String::new(),
                n => format!(" and {n} that must not arrive"),
            },
            sent.bytes,
            sent.seconds,
            rate(sent.offered_fps),
            if sent.valid {
                ""
            } else {
                ", LESS THAN WAS ASKED FOR"
            }
        );
        ExitCode::SUCCESS
    }
}

impl Sink {
    pub(super) fn run(self) -> ExitCode {
        match self.listen() {
            Ok(0) => ExitCode::SUCCESS,
            Ok(_) => ExitCode::from(1),
            Err(e) => super::super::cannot(e),
        }
    }

    /// How many frames that must not arrive did.
    fn listen(&self) -> Result<u64, Trouble> {
        let manner = stage::manner(&self.threads, Duration::ZERO)?;
        let nic = stage::look(&self.uplink, false, 0)?;
        let hears = self.from.map_or(Hears::All, Hears::From);
        let mut port = stage::open(&self.uplink, &nic, hears, Wanted::Auto)?;
        eprintln!("portcullis: listening on {} ({})", port.name(), port.mode());
        let (limit, quiet, flows) = (self.duration, self.quiet, self.flows as usize);
        let mut leaked = 0;
        traffic::sink::listen(&mut port, &manner, limit, quiet, flows, |run| {
            leaked += run.leaked();
            self.tell(run);
        });
        let lost = port.lost();
        if lost > 0 {
            eprintln!("portcullis: {lost} frames were lost here, since the sink was too slow");
        }
        Ok(leaked)
    }

    fn tell(&self, run: &Run) {
        let tally = &run.tally;
        let counted = &tally.counted;
        let heard = Heard {
            received: counted.received,
            missing: counted.next() - counted.received,
            duplicated: counted.duplicated,
            reordered: tally.reordered,
            late: counted.late,
            foreign: tally.foreign,
            leaked: run.leaked(),
            silence_ns: run.silence,
            latency: Quantiles::of(&tally.latency),
        };
        if self.json {
            // It says itself what is wrong, and the next line may be right.
            let _ = super::super::print_json(&heard);
            return;
        }
        println!(
            "{} frames: {} missing, {} twice, {} out of order, {} foreign, {} FORBIDDEN; longest silence {:.1} ms; median {:.1} µs, p99 {:.1}, max {:.1}",
            heard.received,
            heard.missing,
            heard.duplicated,
            heard.reordered,
            heard.foreign,
            heard.leaked,
            heard.silence_ns as f64 / 1e6,
            heard.latency.median_ns as f64 / 1e3,
            heard.latency.p99_ns as f64 / 1e3,
            heard.latency.max_ns as f64 / 1e3
        );
    }
}
