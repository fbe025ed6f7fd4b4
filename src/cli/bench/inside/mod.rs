//! `portcullis bench ceiling` and `portcullis bench model`: what the loop does with no kernel and no NIC in the way, and what a box of so many cores could.

mod measure;
mod table;

use super::options;
use measure::{Inside, Measured};
use serde::Serialize;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;
use traffic::policy::MOST;
use traffic::size::Size;

/// Lines that a box may be on, bits a second.
const LINES: [(u32, f64); 4] = [(10, 10e9), (25, 25e9), (40, 40e9), (100, 100e9)];
/// Frames of which a line is full.
const SIZES: [Size; 2] = [Size::Fixed(64), Size::Imix];

/// What is measured, and for how long.
#[derive(clap::Args)]
struct Points {
    /// Numbers of rules
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1000", value_parser = clap::value_parser!(u32).range(4..=MOST as i64))]
    rules: Vec<u32>,
    /// Numbers of open flows: `10k`, `1M`
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "10k,100k,1M", value_parser = flows)]
    flows: Vec<u32>,
    /// Flows that the table has room for, as `[flows] size` of the config: by default a million, or half as many again as there are flows. A table that fits the caches is looked up sooner
    #[arg(long, value_name = "N", value_parser = flows)]
    table: Option<u32>,
    /// How long each point is measured
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    duration: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What this processor does with no kernel in the way: the gate's own loop over ports in memory, against full lines
#[derive(clap::Args)]
#[command(
    after_help = "The loop is the one that runs in the gate: receive, parse, look the flow up, count, send; one frame in flight of a random open flow after the other,
half of them TCP. What a NIC and its driver cost is not in it, so this is what no box gets past on such a processor.

Examples:
  portcullis bench ceiling
  portcullis bench ceiling --rules 100,1000,10000 --flows 100k --workers 1,2 --json"
)]
pub(super) struct Ceiling {
    #[command(flatten)]
    points: Points,
    /// Numbers of workers that run at once, each on a core of its own, over one table of flows
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: Vec<u32>,
}

/// How fast a box of so many cores and queues could be: measured here, stage by stage, and multiplied
#[derive(clap::Args)]
#[command(
    after_help = "What a frame costs is what the loop costs, measured now on this processor, and what its NICs cost. For these say what one worker was measured to forward:
--measured 1.2M, from `portcullis bench throughput` or `make bench-rig`; without it the result is an upper bound. A worker has a core and a queue of each NIC.

Examples:
  portcullis bench model --cores 1,2,4,8 --queues 8
  portcullis bench model --cores 4 --queues 4 --rules 10000 --flows 1M --opening 2% --measured 1.2M"
)]
pub(super) struct Model {
    #[command(flatten)]
    points: Points,
    /// Cores for workers
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,2,4,8", value_parser = clap::value_parser!(u32).range(1..=256))]
    cores: Vec<u32>,
    /// Receive queues of the NIC that has fewer
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=256))]
    queues: u32,
    /// The part of the frames that open a flow
    #[arg(long, value_name = "PART", default_value = "1%", value_parser = options::part)]
    opening: f64,
    /// Frames a second that one worker was measured to forward, with the first numbers of rules and flows
    #[arg(long, value_name = "RATE", value_parser = options::fixed)]
    measured: Option<f64>,
}

/// Both, as JSON.
#[derive(Serialize)]
struct Told {
    version: &'static str,
    machine: traffic::report::Machine,
    points: Vec<Measured>,
    lines: Vec<Busy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Modelled>,
}

/// What a full line asks of a box, one way, were there nothing but the loop.
#[derive(Serialize)]
struct Busy {
    rules: u32,
    flows: u32,
    /// That ran at once while the loop was measured.
    workers: u32,
    /// Of the frames with their check sequence: `64`, `imix`.
    size: String,
    /// Of the line, a second.
    gigabits: u32,
    /// Workers that it keeps busy.
    busy: f64,
}

impl Busy {
    /// By size, and of each by line.
    fn of(point: &Measured) -> impl Iterator<Item = Busy> {
        let line = |size: Size, (gigabits, bits): (u32, f64)| Busy {
            rules: point.rules,
            flows: point.flows,
            workers: point.workers,
            size: size.to_string(),
            gigabits,
            busy: bits / size.wire_bits() * point.loop_ns / 1e9,
        };
        let lines = SIZES.into_iter();
        lines.flat_map(move |size| LINES.map(|of| line(size, of)))
    }
}

/// What a box could do.
#[derive(Serialize)]
struct Modelled {
    queues: u32,
    opening: f64,
    /// What the NICs cost for each frame, nanoseconds; `null` where nobody said what was measured.
    port_ns: Option<f64>,
    boxes: Vec<Boxed>,
}

/// One of them.
#[derive(Serialize)]
struct Boxed {
    rules: u32,
    flows: u32,
    cores: u32,
    /// Cores that have a queue.
    workers: u32,
    fps: f64,
    /// As many workers ran here at once; else it is projected from those that did.
    measured_together: bool,
}

fn flows(text: &str) -> Result<u32, String> {
    let number = options::fixed(text).map_err(|_| "expected 5000, 100k, 1M".to_string())?;
    match number <= 4e6 {
        true => Ok(number as u32),
        false => Err("at most 4M".into()),
    }
}

impl Points {
    /// Measures each, with each number of workers.
    fn measure(&self, workers: &[u32]) -> Result<Vec<Measured>, String> {
        let watched = std::io::stderr().is_terminal();
        let mut points = Vec::new();
        for rules in &self.rules {
            for flows in &self.flows {
                if watched {
                    eprint!("\r\x1b[K{rules} rules: opening {flows} flows");
                }
                let inside = Inside::new(*rules, *flows, self.table, workers)?;
                for count in workers {
                    if watched {
                        eprint!("\r\x1b[K{rules} rules, {flows} flows: {count} workers");
                    }
                    points.push(inside.measure(*count, self.duration)?);
                }
            }
        }
        if watched {
            eprint!("\r\x1b[K");
        }
        Ok(points)
    }
}

impl Ceiling {
    pub(super) fn run(self) -> ExitCode {
        match self.points.measure(&self.workers) {
            Ok(points) => tell(points, None, self.points.json),
            Err(e) => super::super::cannot(e),
        }
    }
}

impl Model {
    pub(super) fn run(self) -> ExitCode {
        let here = std::thread::available_parallelism().map_or(1, usize::from) as u32;
        let most = self.cores.iter().copied().max().unwrap_or(1);
        let workers: Vec<u32> = (1..=here.min(most).min(self.queues)).collect();
        match self.points.measure(&workers) {
            Ok(points) => {
                let model = self.model(&points);
                tell(points, Some(model), self.points.json)
            }
            Err(e) => super::super::cannot(e),
        }
    }

    fn model(&self, points: &[Measured]) -> Modelled {
        let cost = |point: &Measured| {
            point.loop_ns * (1.0 - self.opening) + point.opening_ns * self.opening
        };
        let first = points.first();
        // What was measured from outside, less the loop that was in it.
        let port_ns = self.measured.zip(first).map(|(fps, point)| {
            let all = 1e9 / fps;
            (all - point.loop_ns).max(0.0)
        });
        let mut boxes = Vec::new();
        let alone = points.iter().filter(|point| point.workers == 1);
        for one in alone {
            let same = |point: &&Measured| point.rules == one.rules && point.flows == one.flows;
            for cores in &self.cores {
                let workers = (*cores).min(self.queues);
                let together = (points.iter().filter(same))
                    .filter(|point| point.workers <= workers)
                    .max_by_key(|point| point.workers)
                    .unwrap_or(one);
                let each = cost(together) + port_ns.unwrap_or(0.0);
                boxes.push(Boxed {
                    rules: one.rules,
                    flows: one.flows,
                    cores: *cores,
                    workers,
                    fps: f64::from(workers) * 1e9 / each,
                    measured_together: together.workers == workers,
                });
            }
        }
        Modelled {
            queues: self.queues,
            opening: self.opening,
            port_ns,
            boxes,
        }
    }
}

fn tell(points: Vec<Measured>, model: Option<Modelled>, json: bool) -> ExitCode {
    let told = Told {
        version: env!("CARGO_PKG_VERSION"),
        machine: super::stage::machine(),
        lines: points.iter().flat_map(Busy::of).collect(),
        points,
        model,
    };
    if json {
        return super::super::print_json(&told);
    }
    print!("{}", table::table(&told));
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(workers: u32, loop_ns: f64) -> Measured {
        Measured {
            rules: 1000,
            flows: 10_000,
            workers,
            loop_ns,
            opening_ns: 300.0,
            ..Measured::default()
        }
    }

    fn model(cores: &[u32], queues: u32, opening: f64, measured: Option<f64>) -> Model {
        Model {
            points: Points {
                rules: vec![1000],
                flows: vec![10_000],
                table: None,
                duration: Duration::ZERO,
                json: false,
            },
            cores: cores.to_vec(),
            queues,
            opening,
            measured,
        }
    }

    #[test]
    fn a_box_is_as_fast_as_its_workers_and_there_is_one_for_each_core_that_has_a_queue() {
        let points = [point(1, 40.0), point(2, 50.0)];
        let told = model(&[1, 2, 8], 4, 0.0, None).model(&points);
        let fps: Vec<f64> = told.boxes.iter().map(|one| one.fps).collect();
        // Beyond what ran here, what two cost each other is what all cost.
        assert_eq!(fps, [25e6, 40e6, 80e6]);
        let workers: Vec<u32> = told.boxes.iter().map(|one| one.workers).collect();
        assert_eq!(workers, [1, 2, 4]);
        let seen: Vec<bool> = told.boxes.iter().map(|one| one.measured_together).collect();
        assert_eq!(seen, [true, true, false]);
    }

    #[test]
    fn what_nics_cost_is_what_was_measured_less_the_loop_and_frames_that_open_cost_more() {
        let points = [point(1, 50.0)];
        let told = model(&[1], 1, 0.0, Some(1e6)).model(&points);
        assert_eq!(told.port_ns, Some(950.0));
        assert_eq!(told.boxes[0].fps, 1e6);
        let opens = model(&[1], 1, 0.1, None).model(&points);
        assert_eq!(opens.boxes[0].fps, 1e9 / 75.0);
    }

    #[test]
    fn numbers_of_flows_have_units() {
        assert_eq!(flows("10k"), Ok(10_000));
        assert_eq!(flows("1M"), Ok(1_000_000));
        assert!(flows("5M").is_err() && flows("0").is_err() && flows("many").is_err());
    }

    #[test]
    fn a_small_table_is_opened_and_measured() {
        let inside = Inside::new(16, 200, Some(1000), &[1, 2]).unwrap();
        for workers in [1, 2] {
            let point = inside.measure(workers, Duration::from_millis(30)).unwrap();
            assert_eq!((point.workers, point.flows), (workers, 200));
            assert!(point.frames > 64, "{point:?}");
            let stages = point.parse_ns + point.flow_ns + point.rest_ns;
            assert!(
                stages + 1e-6 >= point.loop_ns && point.loop_ns > 0.0,
                "{point:?}"
            );
            assert!(point.quick_ns <= point.loop_ns, "{point:?}");
            assert!(point.opening_ns > 0.0 && point.rules_ns > 0.0);
        }
    }
}
