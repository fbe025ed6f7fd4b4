//! `make vm`: the gate on a machine of its own, between two others. See [`lab`] for what is where, README.md for how to use it.
//!
//! ```text
//!  archive ─▶ image, kernel ─▶ cpio ─┐
//!                                    ├─▶ qemu ─▶ guest ◀─ talk (QMP, guest agent)
//!  mode (what the gate's NICs are) ──┘             │
//!                                                 lab ─▶ gate, load, scrape ─▶ trial ─▶ report
//! ```

#![deny(unsafe_code)]

mod archive;
mod cpio;
mod gate;
mod guest;
mod hops;
mod image;
mod kernel;
mod lab;
mod load;
mod mode;
mod qemu;
mod report;
mod scrape;
mod talk;
mod trial;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use rig::demo::{self, Patience};
use rig::{Attempt, Error, Result};

use archive::{Archive, refused};
use gate::{Bridge, Ends};
use image::Image;
use lab::{Lab, Plan};
use load::Load;
use mode::{Ground, Mode};
use qemu::Accelerator;
use report::{Report, Run};
use scrape::Prometheus;

/// An emulated client takes its time.
const PATIENCE: Patience = Patience {
    allowed: Duration::from_secs(60),
    blocked: Duration::from_secs(4),
    alerts: Duration::from_secs(20),
};

/// Three virtual machines, lan, gate and uplink: the Debian package on a machine of its own, under load and faults
#[derive(Debug, Parser)]
#[command(
    name = "vm-lab",
    after_help = "Needs root, for a network namespace and taps; `make vm` asks sudo, installs what is missing and builds the package.
Exit status: 0 all is as it should be, 1 it is not, 2 it could not be run, 130 interrupted.

Examples:
  vm-lab demo                                   the acceptance traffic of make demo, a throughput run, Prometheus
  vm-lab demo --mode igb-zero-copy --json       the same on a real driver in zero copy, as JSON
  vm-lab links --mode all                       in each mode: full-size frames, links that flap, a machine that pauses
  vm-lab faults                                 kill -9, cable out, pause and reload in the middle of a load
  vm-lab --list                                 what there is, and what is kept
  vm-lab images                                 build and fetch what the machines boot, and no more"
)]
struct Args {
    #[command(subcommand)]
    command: Option<What>,
    #[command(flatten)]
    options: Options,
    /// Say what modes and images there are, and what of it is kept
    #[arg(long)]
    list: bool,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The acceptance traffic of `make demo`, Prometheus, a throughput run
    Demo,
    /// Full-size frames, links that flap 20 times, a machine that stands still; nothing may be lost after that
    Links,
    /// kill -9, cable out, pause and reload in the middle of a load; what is lost, and that nothing leaks
    Faults,
    /// All of these
    All,
    /// Build and fetch what the machines boot
    Images,
}

#[derive(Clone, Debug, clap::Args)]
struct Options {
    /// What the gate's NICs are and how they are used; `all` for each
    #[arg(
        long,
        value_name = "MODE",
        value_delimiter = ',',
        default_value = "virtio-copy",
        global = true
    )]
    mode: Vec<Wanted>,
    /// What runs the guests; `auto` tries KVM with a time limit
    #[arg(long, value_name = "WHAT", default_value = "auto", global = true)]
    accel: Accel,
    /// The Debian package of the gate; without it, the newest in target/debian
    #[arg(long, value_name = "FILE", global = true)]
    deb: Option<PathBuf>,
    /// Where images, kernels and emulators are kept
    #[arg(long, value_name = "DIR", default_value = "target/vm", global = true)]
    cache: PathBuf,
    /// Frames a second of a load: the first, where it is doubled
    #[arg(long, value_name = "N", default_value_t = 500, global = true, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    rate: u32,
    /// How long a load lasts
    #[arg(long, value_name = "TIME", default_value = "4s", value_parser = humantime::parse_duration, global = true)]
    duration: Duration,
    /// How often the rate is doubled at most in a throughput run
    #[arg(long, value_name = "N", default_value_t = 5, global = true, value_parser = clap::value_parser!(u32).range(1..=10))]
    steps: u32,
    /// Processors of each machine, and queues of each NIC
    #[arg(long, value_name = "N", default_value_t = 2, global = true, value_parser = clap::value_parser!(u32).range(1..=8))]
    queues: u32,
    /// Print one JSON object
    #[arg(long, global = true)]
    json: bool,
    /// Keep the report here too, as text and as JSON
    #[arg(long, value_name = "DIR", global = true)]
    results: Option<PathBuf>,
    /// Leave everything up until Enter or Ctrl-C
    #[arg(long, global = true)]
    stay: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Accel {
    Auto,
    Kvm,
    Tcg,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    One(Mode),
    All,
}

impl std::str::FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Wanted, String> {
        match text {
            "all" => Ok(Wanted::All),
            other => Mode::from_str(other, false)
                .map(Wanted::One)
                .map_err(|_| format!("expected {} or all", Mode::ALL.map(Mode::name).join(", "))),
        }
    }
}

impl Options {
    fn modes(&self) -> Vec<Mode> {
        let each = |wanted: &Wanted| match wanted {
            Wanted::One(mode) => vec![*mode],
            Wanted::All => Mode::ALL.to_vec(),
        };
        self.mode.iter().flat_map(each).collect()
    }

    fn load(&self) -> Load {
        Load {
            rate: self.rate,
            time: self.duration,
            size: "imix",
        }
    }

    fn package(&self) -> Result<PathBuf> {
        let newest = || {
            let all = std::fs::read_dir("target/debian").ok()?.flatten();
            let packages = all
                .map(|entry| entry.path())
                .filter(|path| path.extension().is_some_and(|e| e == "deb"));
            packages.max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok())
        };
        let package = self.deb.clone().or_else(newest);
        package.filter(|path| path.is_file()).ok_or_else(|| {
            refused("there is no Debian package of the gate: `make deb`, or say --deb FILE")
        })
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    match args.run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Error::Interrupted) => {
            eprintln!("interrupted: everything is taken down");
            ExitCode::from(130)
        }
        Err(error) => {
            eprintln!("vm-lab: {error}");
            ExitCode::from(2)
        }
    }
}

impl Args {
    fn run(&self) -> Result<bool> {
        let options = &self.options;
        if self.list {
            return list(options).map(|()| true);
        }
        let Some(what) = &self.command else {
            return Err(refused(
                "say what: demo, links, faults, all or images; --help has examples",
            ));
        };
        if !nix::unistd::geteuid().is_root() {
            return Err(refused(
                "it makes a network namespace and taps: run it as root, or `make vm`, which asks sudo",
            ));
        }
        rig::catch_signals()?;
        rig::sweep();
        let archive = Archive::of_this_machine()?;
        archive::make(&options.cache)?;
        let cache = options
            .cache
            .canonicalize()
            .map_err(Error::io("finding the cache"))?;
        if matches!(what, What::Images) {
            for image in Image::ALL {
                println!("{}", image.build(&archive, &cache, &step)?.display());
            }
            for mode in options.modes() {
                let ground = Ground::find(mode, &archive, &cache, &step)?;
                println!(
                    "{}: kernel {}, qemu {}",
                    ground.mode.name(),
                    ground.kernel.version,
                    ground.emulator.version
                );
            }
            return Ok(true);
        }
        let package = options.package()?;
        let mut runs = Vec::new();
        for mode in options.modes() {
            runs.push(run(what, options, mode, &package, &archive, &cache)?);
        }
        let report = Report::new(runs);
        let text = if options.json {
            report.json() + "\n"
        } else {
            report.text()
        };
        print!("{text}");
        if let Some(dir) = &options.results {
            archive::make(dir)?;
            let name = report.date.replace([':', '-'], "");
            archive::write(&dir.join(format!("{name}-vm.txt")), &report.text())?;
            archive::write(&dir.join(format!("{name}-vm.json")), &report.json())?;
        }
        Ok(report.ok)
    }
}

/// One boot, and all that is asked of it.
fn run(
    what: &What,
    options: &Options,
    mode: Mode,
    package: &Path,
    archive: &Archive,
    cache: &Path,
) -> Result<Run> {
    let ground = Ground::find(mode, archive, cache, &step)?;
    if let Some(why) = &ground.fell_back {
        step(&format!(
            "NOT {}, but {}: {why}",
            mode.name(),
            ground.mode.name()
        ));
    }
    let scratch = tempfile::tempdir().map_err(Error::io("making a directory"))?;
    let (accelerator, because) = match options.accel {
        Accel::Auto => Accelerator::found(&ground.emulator, &ground.kernel, scratch.path())?,
        Accel::Kvm => (Accelerator::Kvm, "--accel kvm".to_owned()),
        Accel::Tcg => (Accelerator::Tcg, "--accel tcg".to_owned()),
    };
    step(&format!(
        "{}: booting lan, gate and uplink on {}: {because}",
        ground.mode.name(),
        accelerator.name()
    ));
    let plan = Plan {
        package,
        cache,
        accelerator,
        processors: options.queues,
    };
    let lab = Lab::boot(&plan, archive, &ground, &step)?;
    step(&format!(
        "up after {:.1} s, with the servers of the demo in uplink",
        lab.booted.as_secs_f32()
    ));

    let acceptance = matches!(what, What::Demo | What::All);
    let blocked = Attempt::blocked_by_baseline();
    let mut control = Vec::new();
    if acceptance {
        let bridge = Bridge::make(&lab.gate)?;
        control = demo::control(&Ends(&lab), &blocked, PATIENCE, step)?;
        bridge.remove()?;
    }
    step("the gate: dpkg -i, config, systemctl enable --now");
    let gate = gate::install(&lab)?;
    step(&format!(
        "ready after {:.1} s, in {} mode",
        gate.ready_after_s, gate.mode[0]
    ));

    let mut run = Run {
        asked: mode,
        mode: ground.mode,
        fell_back: ground.fell_back.clone(),
        kernel: ground.kernel.version.clone(),
        qemu: ground.emulator.version.clone(),
        accelerator,
        because,
        booted_s: lab.booted.as_secs_f32(),
        gate,
        demo: None,
        scraped: Vec::new(),
        loads: Vec::new(),
        wrong: Vec::new(),
    };
    if acceptance {
        let prometheus = Prometheus::start(&lab)?;
        let report = demo::judge(&Ends(&lab), &lab, blocked, &control, PATIENCE, step)?;
        if !report.ok() {
            run.wrong.push("the acceptance traffic".to_owned());
        }
        run.demo = Some(report);
        for query in [
            "up{job=\"portcullis\"}",
            "portcullis_port_info{port=\"lan\"}",
            "portcullis_received_frames_total{port=\"lan\"}",
            "sum(portcullis_alerts_total)",
        ] {
            run.scraped.push(prometheus.ask(&lab, query)?);
        }
        run.loads.extend(trial::throughput(
            &lab,
            options.load(),
            options.steps,
            &step,
        )?);
    }
    if matches!(what, What::Links | What::All) {
        run.loads.extend(trial::links(&lab, options.load(), &step)?);
    }
    if matches!(what, What::Faults | What::All) {
        run.loads
            .extend(trial::faults(&lab, options.load(), &step)?);
    }
    let rows = run.loads.iter();
    run.wrong.extend(rows.flat_map(|row| {
        row.wrong
            .iter()
            .map(|wrong| format!("{}: {wrong}", row.what))
    }));
    if options.stay {
        stay(&lab);
    }
    step("shutting down");
    if let Err(error) = lab.shut_down() {
        rig::check_interrupt()?;
        run.wrong
            .push(format!("the machines were to switch off: {error}"));
    }
    Ok(run)
}

/// Says how to look around, and waits for Enter or a signal.
fn stay(lab: &Lab) {
    eprintln!("\nstaying up; Enter or Ctrl-C takes everything down. Look around, as root:");
    eprintln!("  tail -f {}/gate/serial.log", lab.dir().display());
    eprintln!(
        "  nsenter --net={} curl -s http://127.0.0.1:9155/",
        lab.namespace.path().display()
    );
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
}

/// What there is, and what of it is kept.
fn list(options: &Options) -> Result<()> {
    println!("modes");
    for mode in Mode::ALL {
        let help = mode
            .to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string));
        println!("  {:18} {}", mode.name(), help.unwrap_or_default());
    }
    println!("\nimages, in {}", options.cache.display());
    let archive = Archive::of_this_machine()?;
    for image in Image::ALL {
        let file = image.file(&archive, &options.cache);
        let kept = match file.metadata() {
            Ok(data) => format!("{} MB", data.len() / 1_000_000),
            Err(_) => "not built yet".to_owned(),
        };
        println!(
            "  {:5} {kept:14} {}",
            image.name(),
            image.packages().join(" ")
        );
    }
    println!(
        "\npackage\n  {}",
        options
            .package()
            .map_or_else(|e| e.to_string(), |path| path.display().to_string())
    );
    Ok(())
}

fn step(text: &str) {
    eprintln!("==> {text}");
}
