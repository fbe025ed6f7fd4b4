//! One rule set: every design is built, asked for every answer, and then measured in rounds, in turn.

use crate::crossing::Crossing;
use crate::design::{self, BURST, Budget, Design, Line, NONE, Packet};
use crate::lanes;
use crate::pruned::Pruned;
use crate::tree::Trees;
use crate::tuple_space::TupleSpace;
use crate::{Arguments, Failure, PACKETS, WINDOW};
use classbench::machine::read;
use classbench::measured::{Side, measure, wrong};
use classbench::{Profile, Reference, generate, ours, trace};
use portcullis::policy::Key;
use std::hint::black_box;
use std::time::{Duration, Instant};

/// What each design is called in tables, in their order. The last one is the yardstick.
pub const NAMES: [&str; 5] = [
    "tuple space",
    "tuple space, pruned",
    "decision trees",
    "cross-products",
    "rule table",
];

/// What was found on one rule set.
pub struct Outcome {
    pub profile: Profile,
    pub size: usize,
    /// In the order of [`NAMES`]: what was found, and what the design looks like.
    pub sides: Vec<(Side, String)>,
    /// Bytes of this process in huge pages while it was measured.
    pub huge: usize,
}

/// One pass over the trace.
type Pass<'a> = Box<dyn FnMut() + Send + 'a>;

/// The packets of a trace in both forms, and the right answers.
pub struct Trace {
    packets: Vec<[Packet; BURST]>,
    keys: Vec<Key>,
    right: Vec<Option<usize>>,
}

/// Builds, asks and measures.
pub fn contest(
    arguments: &Arguments,
    profile: Profile,
    size: usize,
    core: usize,
) -> Result<Outcome, Failure> {
    let rules = generate(profile, size, arguments.seed);
    let headers = trace(&rules, PACKETS, arguments.seed);
    let reference = Reference::new(&rules);
    let packets: Option<Vec<Packet>> = headers.iter().map(design::packet).collect();
    let (Some(lines), Some(packets)) = (design::lines(&rules), packets) else {
        return Err(format!("{profile}: only rule sets of IPv4 are compared").into());
    };
    let trace = Trace {
        packets: packets.as_chunks().0.to_vec(),
        keys: headers.iter().map(classbench::key).collect(),
        right: headers
            .iter()
            .map(|header| reference.first_match(header))
            .collect(),
    };
    let (space, a) = built::<TupleSpace>(arguments, &lines, &trace, NAMES[0]);
    let (pruned, b) = built::<Pruned>(arguments, &lines, &trace, NAMES[1]);
    let (trees, c) = built::<Trees>(arguments, &lines, &trace, NAMES[2]);
    let (crossing, d) = built::<Crossing>(arguments, &lines, &trace, NAMES[3]);
    let (table, took) = ours::compile(&rules)?;
    let found = ours::answers(&table, &trace.keys, BURST);
    let e = Side {
        builds: vec![took],
        bytes: Some(table.memory()),
        wrong: Some(wrong(&trace.right, &found)),
        ..Side::default()
    };
    let mut passes: [Option<Pass>; NAMES.len()] = [
        space.as_ref().map(|design| pass(design, &trace)),
        pruned.as_ref().map(|design| pass(design, &trace)),
        trees.as_ref().map(|design| pass(design, &trace)),
        crossing.as_ref().map(|design| pass(design, &trace)),
        Some(Box::new(|| ours::pass::<BURST>(&table, &trace.keys))),
    ];
    let mut sides = vec![a, b, c, d, (e, String::new())];
    for _ in 0..arguments.rounds {
        for (pass, (side, _)) in passes.iter_mut().zip(&mut sides) {
            if let Some(pass) = pass {
                side.ns.push(measure(pass, PACKETS, WINDOW, core));
            }
        }
    }
    Ok(Outcome {
        profile,
        size,
        sides,
        huge: huge().unwrap_or(0),
    })
}

/// Bytes of this process in transparent huge pages; `None` where the kernel does not say.
fn huge() -> Option<usize> {
    let rollup = read("/proc/self/smaps_rollup");
    let line = rollup
        .lines()
        .find_map(|line| line.strip_prefix("AnonHugePages:"))?;
    let kibibytes: usize = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes << 10)
}

/// A design, and what is known of it before it is measured.
fn built<D: Design>(
    arguments: &Arguments,
    lines: &[Line],
    trace: &Trace,
    name: &str,
) -> (Option<D>, (Side, String)) {
    let start = Instant::now();
    let time = Duration::from_secs(arguments.build_seconds);
    let budget = Budget::new(arguments.memory << 20, time);
    let design = D::build(lines, &budget);
    let took = start.elapsed();
    let mut side = Side::default();
    match design {
        Ok(design) => {
            side.builds.push(took);
            side.bytes = Some(design.memory());
            side.wrong = Some(wrong(&trace.right, &answers(&design, &trace.packets)));
            let shape = design.shape();
            eprintln!("  {name}: {:.1} s to build, {shape}", took.as_secs_f64());
            (Some(design), (side, shape))
        }
        Err(stopped) => {
            eprintln!("  {name}: {:.1} s, {stopped}", took.as_secs_f64());
            side.error = Some(stopped.to_string());
            (None, (side, String::new()))
        }
    }
}

/// The line that decides each packet.
pub fn answers<D: Design>(design: &D, bursts: &[[Packet; BURST]]) -> Vec<Option<usize>> {
    let mut answers = Vec::new();
    lanes::bursts(design, bursts, |out| {
        answers.extend(out.map(|rule| (rule != NONE).then_some(rule as usize)));
    });
    answers
}

fn pass<'a, D: Design + Sync>(design: &'a D, trace: &'a Trace) -> Pass<'a> {
    Box::new(|| {
        lanes::bursts(design, black_box(&trace.packets), |out| {
            black_box(out);
        });
    })
}
