//! What is printed for people.

use super::{Busy, LINES, Modelled, SIZES, Told};
use crate::cli::bench::output::rate;
use std::fmt::{Result, Write};

pub(super) fn table(told: &Told) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = head(told, &mut out);
    let _ = match &told.model {
        None => lines(told, &mut out),
        Some(model) => boxes(model, &mut out),
    };
    let lines = out.lines().map(str::trim_end);
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn head(told: &Told, out: &mut String) -> Result {
    let machine = &told.machine;
    writeln!(
        out,
        "on {}, {} cores, Linux {}; ports in memory, no kernel and no NIC in the way",
        machine.cpu, machine.cores, machine.kernel
    )?;
    writeln!(
        out,
        "\nnanoseconds a frame: the loop of each worker (median, quickest tenth of bursts), of it parse, flows and the rest; the rule table, and the loop, where a flow opens\n"
    )?;
    writeln!(
        out,
        "{:>6} {:>9} {:>7} {:>8} {:>8} {:>7} {:>7} {:>7} {:>7} {:>8} {:>12}",
        "rules",
        "flows",
        "workers",
        "loop",
        "quick",
        "parse",
        "flows",
        "rest",
        "rules",
        "opening",
        "a worker"
    )?;
    for point in &told.points {
        writeln!(
            out,
            "{:>6} {:>9} {:>7} {:>8.1} {:>8.1} {:>7.1} {:>7.1} {:>7.1} {:>7.1} {:>8.1} {:>12}",
            point.rules,
            point.flows,
            point.workers,
            point.loop_ns,
            point.quick_ns,
            point.parse_ns,
            point.flow_ns,
            point.rest_ns,
            point.rules_ns,
            point.opening_ns,
            rate(1e9 / point.loop_ns)
        )?;
    }
    Ok(())
}

fn lines(told: &Told, out: &mut String) -> Result {
    writeln!(
        out,
        "\nworkers that a full line would keep busy, one way, were there nothing but the loop\n"
    )?;
    write!(out, "{:>6} {:>9} {:>7}", "rules", "flows", "workers")?;
    for size in SIZES {
        for (gigabits, _) in LINES {
            write!(out, " {:>11}", format!("{size} {gigabits}G"))?;
        }
    }
    writeln!(out)?;
    for point in &told.points {
        write!(
            out,
            "{:>6} {:>9} {:>7}",
            point.rules, point.flows, point.workers
        )?;
        for line in Busy::of(point) {
            write!(out, " {:>11.2}", line.busy)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

fn boxes(model: &Modelled, out: &mut String) -> Result {
    let nics = match model.port_ns {
        Some(ns) => format!("NICs that cost {ns:.0} ns a frame"),
        None => "NICs that cost nothing: an upper bound (see --measured)".to_string(),
    };
    writeln!(
        out,
        "\nboxes with {} queues on each side and {nics}; {:.1} % of the frames open a flow\n",
        model.queues,
        model.opening * 100.0
    )?;
    writeln!(
        out,
        "{:>6} {:>9} {:>6} {:>8} {:>12} {:>13} {:>13}",
        "rules", "flows", "cores", "workers", "rate", "at 64", "at imix"
    )?;
    for one in &model.boxes {
        let gigabits = |at: usize| format!("{:.1} Gbit/s", one.fps * SIZES[at].wire_bits() / 1e9);
        writeln!(
            out,
            "{:>6} {:>9} {:>6} {:>8} {:>12} {:>13} {:>13}{}",
            one.rules,
            one.flows,
            one.cores,
            one.workers,
            rate(one.fps),
            gigabits(0),
            gigabits(1),
            if one.measured_together {
                ""
            } else {
                "  projected"
            }
        )?;
    }
    Ok(())
}
