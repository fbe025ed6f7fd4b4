//! The four tests of RFC 2544.

use super::options::{self, Output, Ports, Traffic, Trials, Ways};
use super::output::{self, Progress};
use super::stage::{self, Stage, Trouble};
use std::process::ExitCode;
use std::time::Duration;
use traffic::flow::Flow;
use traffic::frames::{Frames, Step};
use traffic::load::Load;
use traffic::opening::Opening;
use traffic::outcome::Outcome;
use traffic::pace::Rate;
use traffic::report::Report;
use traffic::search::Device;
use traffic::size::Size;
use traffic::suite::{self, Flood};
use traffic::tester::Tester;

/// Full speed is measured for this long where it is only to know how long a burst may be.
const GLANCE: Duration = Duration::from_secs(1);
/// The longest burst that is tried, in seconds of full speed (RFC 2544 section 26.4: 2 s at the least).
const BURST: f64 = 2.0;

/// What is done for a size, once its flows are open.
type Test<'a> = dyn FnMut(Size, &mut Flood<'_>, &mut Report) -> Result<(), Trouble> + 'a;

/// What all of them take.
#[derive(clap::Args)]
struct Common {
    #[command(flatten)]
    ports: Ports,
    #[command(flatten)]
    traffic: Traffic,
    #[command(flatten)]
    ways: Ways,
    #[command(flatten)]
    trials: Trials,
    #[command(flatten)]
    output: Output,
}

#[derive(clap::Args)]
#[command(after_help = "Examples:
  portcullis bench throughput --lan enp1s0 --uplink enp2s0
  portcullis bench throughput --lan enp1s0 --uplink enp2s0 --size 64 --src 10.0.0.0/16 --flows 100000
  portcullis bench throughput --lan a:lan0 --uplink b:up0 --size 1518 --duration 2s --retries 1
  portcullis bench throughput --lan enp1s0 --uplink enp2s0 --capture office.pcapng")]
pub(super) struct Throughput {
    #[command(flatten)]
    common: Common,
    /// No higher rate is tried, frames a second
    #[arg(long, help_heading = "Trials", value_name = "RATE", default_value = "max", value_parser = options::rate)]
    rate: Rate,
}

#[derive(clap::Args)]
#[command(
    after_help = "The throughput is looked for first, unless --rate is given.

Examples:
  portcullis bench latency --lan enp1s0 --uplink enp2s0 --at 50,90
  portcullis bench latency --lan enp1s0 --uplink enp2s0 --rate 100k --size imix --html page.html"
)]
pub(super) struct Latency {
    #[command(flatten)]
    common: Common,
    /// Measure at this rate alone, frames a second
    #[arg(long, help_heading = "Trials", value_name = "RATE", value_parser = options::rate)]
    rate: Option<Rate>,
    #[command(flatten)]
    at: At,
}

#[derive(clap::Args)]
struct At {
    /// Percent of the throughput at which latencies are measured
    #[arg(long, help_heading = "Trials", value_name = "PERCENT", value_delimiter = ',', default_value = "10,50,90", value_parser = clap::value_parser!(u8).range(1..=100))]
    at: Vec<u8>,
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  portcullis bench loss --lan enp1s0 --uplink enp2s0 --rate 14.88M --size 64")]
pub(super) struct Loss {
    #[command(flatten)]
    common: Common,
    /// What 100 % is, frames a second; `max` is what the tester can offer
    #[arg(long, help_heading = "Trials", value_name = "RATE", default_value = "max", value_parser = options::rate)]
    rate: Rate,
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  portcullis bench back-to-back --lan enp1s0 --uplink enp2s0 --size 64 --repeats 50")]
pub(super) struct BackToBack {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    repeats: Repeats,
}

#[derive(clap::Args)]
struct Repeats {
    /// How often the longest burst is looked for; RFC 2544 asks for 50
    #[arg(long, help_heading = "Trials", value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    repeats: u32,
    /// The longest burst that is tried, in frames; by default two seconds of full speed
    #[arg(long, help_heading = "Trials", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    longest: Option<u64>,
}

#[derive(clap::Args)]
#[command(after_help = "Example:
  portcullis bench all --lan enp1s0 --uplink enp2s0 --duration 60s --repeats 50 --html page.html")]
pub(super) struct All {
    #[command(flatten)]
    common: Common,
    /// No higher rate is tried, frames a second
    #[arg(long, help_heading = "Trials", value_name = "RATE", default_value = "max", value_parser = options::rate)]
    rate: Rate,
    #[command(flatten)]
    at: At,
    #[command(flatten)]
    repeats: Repeats,
}

impl Throughput {
    pub(super) fn run(self) -> ExitCode {
        let Throughput { common, rate } = self;
        let search = common.trials.search(rate);
        common.run(|size, flood, report| {
            let found = suite::throughput(flood, size, &search)?;
            report.throughput.push(found);
            Ok(())
        })
    }
}

impl Latency {
    pub(super) fn run(self) -> ExitCode {
        let Latency { common, rate, at } = self;
        let search = common.trials.search(Rate::Max);
        common.run(|size, flood, report| {
            if let Some(rate) = rate {
                let measured = suite::latency(flood, size, rate, None)?;
                report.latency.push(measured);
                return Ok(());
            }
            let found = suite::throughput(flood, size, &search)?;
            let fps = found.fps;
            report.throughput.push(found);
            latencies(size, flood, report, &at.at, fps)
        })
    }
}

impl Loss {
    pub(super) fn run(self) -> ExitCode {
        let Loss { common, rate } = self;
        common.run(|size, flood, report| {
            let steps = suite::loss(flood, size, rate.fixed())?;
            report.loss.push(steps);
            Ok(())
        })
    }
}

impl BackToBack {
    pub(super) fn run(self) -> ExitCode {
        let BackToBack { common, repeats } = self;
        let search = common.trials.search(Rate::Max);
        common.run(|size, flood, report| bursts(size, flood, report, &search, &repeats))
    }
}

impl All {
    pub(super) fn run(self) -> ExitCode {
        let All {
            common,
            rate,
            at,
            repeats,
        } = self;
        let search = common.trials.search(rate);
        common.run(|size, flood, report| {
            let found = suite::throughput(flood, size, &search)?;
            let fps = found.fps;
            report.throughput.push(found);
            latencies(size, flood, report, &at.at, fps)?;
            let steps = suite::loss(flood, size, rate.fixed())?;
            report.loss.push(steps);
            bursts(size, flood, report, &search, &repeats)
        })
    }
}

fn latencies(
    size: Size,
    flood: &mut Flood<'_>,
    report: &mut Report,
    at: &[u8],
    fps: f64,
) -> Result<(), Trouble> {
    if fps <= 0.0 {
        let note = format!("no latency for frames of {size}: some were lost at every rate");
        report.notes.push(note);
        return Ok(());
    }
    for percent in at {
        let percent = f64::from(*percent);
        let rate = Rate::Fixed(fps * percent / 100.0);
        let measured = suite::latency(flood, size, rate, Some(percent))?;
        report.latency.push(measured);
    }
    Ok(())
}

fn bursts(
    size: Size,
    flood: &mut Flood<'_>,
    report: &mut Report,
    search: &traffic::search::Search,
    repeats: &Repeats,
) -> Result<(), Trouble> {
    let longest = match repeats.longest {
        Some(longest) => longest,
        None => {
            let time = std::mem::replace(&mut flood.time, GLANCE);
            let glance = flood.trial(Rate::Max);
            flood.time = time;
            (glance?.offered() * BURST) as u64
        }
    };
    let found = suite::back_to_back(flood, size, search, longest.max(1), repeats.repeats)?;
    report.back_to_back.push(found);
    Ok(())
}

impl Common {
    /// Opens the tester, makes `test` for each size, and tells.
    fn run(
        &self,
        mut test: impl FnMut(Size, &mut Flood<'_>, &mut Report) -> Result<(), Trouble>,
    ) -> ExitCode {
        match self.open(&mut test) {
            Ok((report, ended)) => output::tell(&report, ended, &self.output),
            Err(e) => super::super::cannot(e),
        }
    }

    /// The report; and what ended it early, if something did after a first result.
    fn open(&self, test: &mut Test<'_>) -> Result<(Report, Option<Trouble>), Trouble> {
        let Common {
            ports,
            traffic,
            ways,
            trials,
            output,
        } = self;
        output.ready()?;
        let sizes = match traffic.capture {
            // Of a capture the frames have the sizes that they have.
            Some(_) => vec![Size::Fixed(64)],
            None => traffic.sizes(),
        };
        let flows = stage::flows(traffic)?;
        let Stage {
            mut tester,
            mut report,
        } = Stage::open(ports, trials, stage::largest(&sizes))?;
        report.settings.both = ways.both;
        report.settings.flows = flows.len();
        report.settings.traffic = output::traffic(traffic);
        let mut progress = Progress::new();
        let mut ended = None;
        for size in sizes {
            if let Err(e) = self.size(size, &flows, &mut tester, &mut report, &mut progress, test) {
                ended = Some(e);
                break;
            }
        }
        progress.done();
        report.sum();
        match ended {
            Some(e) if report.totals.trials == 0 => Err(e),
            ended => Ok((report, ended)),
        }
    }

    /// Opens the flows, and makes the test for one size.
    fn size(
        &self,
        size: Size,
        flows: &[Flow],
        tester: &mut Tester,
        report: &mut Report,
        progress: &mut Progress,
        test: &mut Test<'_>,
    ) -> Result<(), Trouble> {
        let loads = self.loads(size, flows, tester.ends(), report)?;
        if self.traffic.capture.is_none() && !self.ways.no_opening {
            progress.say(&format!("{size}: opening {} flows", flows.len()));
            let rate = Rate::Fixed(self.ways.opening_rate);
            Opening::new(tester, flows, smallest(size)).open(tester, rate)?;
        }
        let mut seen = |outcome: &Outcome| progress.trial(size, outcome);
        let mut flood = Flood {
            tester,
            loads: [Some(&loads.0), loads.1.as_ref()],
            time: self.trials.duration,
            seen: &mut seen,
        };
        test(size, &mut flood, report)
    }

    /// What both ports send.
    fn loads(
        &self,
        size: Size,
        flows: &[Flow],
        ends: &traffic::frames::Ends,
        report: &mut Report,
    ) -> Result<(Load, Option<Load>), Trouble> {
        if let Some(path) = &self.traffic.capture {
            let (frames, left_out) = stage::captured(path, ends)?;
            if left_out > 0 {
                report.notes.push(format!(
                    "{left_out} frames of the capture were left out: cut short, or with no room for the tester's 18 bytes"
                ));
            }
            return Ok((Load::plain(frames), None));
        }
        Frames::fit(flows, smallest(size))?;
        let back = Load::of(flows, ends, Step::Back, size);
        let out = Load::of(flows, ends, Step::Out, size);
        Ok((out, self.ways.both.then_some(back)))
    }
}

/// The shortest frame of a size.
fn smallest(size: Size) -> usize {
    size.pattern().into_iter().min().unwrap_or(64).into()
}
