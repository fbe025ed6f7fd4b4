//! The table that a test prints.

use std::fmt::{Result, Write};
use traffic::report::{BackToBack, Latency, Loss, Mix, Report, Throughput, Totals};

/// All of a report.
pub(super) fn table(report: &Report) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = head(report, &mut out);
    let _ = body(report, &mut out);
    let _ = totals(&report.totals, &mut out);
    for note in &report.notes {
        let _ = writeln!(out, "\nnote: {note}");
    }
    let lines = out.lines().map(str::trim_end);
    lines.flat_map(|line| [line, "\n"]).collect()
}

fn head(report: &Report, out: &mut String) -> Result {
    let Report {
        machine, settings, ..
    } = report;
    for port in &report.ports {
        let place = match &port.namespace {
            Some(namespace) => format!("{namespace}:{}", port.interface),
            None => port.interface.clone(),
        };
        let (side, driver, mode, queues) = (port.side, &port.driver, port.mode, port.queues);
        writeln!(out, "{side:<7}{place} ({driver}, {mode}, queues: {queues})")?;
    }
    let both = if settings.both {
        ", both ways at once"
    } else {
        ""
    };
    writeln!(
        out,
        "sent   {}{both}, {} flows",
        settings.traffic, settings.flows
    )?;
    writeln!(
        out,
        "on     {}, {} cores, Linux {}, {}",
        machine.cpu, machine.cores, machine.kernel, report.date
    )
}

fn body(report: &Report, out: &mut String) -> Result {
    throughputs("throughput", &report.throughput, out)?;
    latencies(&report.latency, out)?;
    for row in &report.loss {
        loss(row, out)?;
    }
    bursts(&report.back_to_back, out)?;
    report.mix.as_ref().map_or(Ok(()), |row| mix(row, out))
}

fn totals(totals: &Totals, out: &mut String) -> Result {
    writeln!(
        out,
        "\n{} trials: {} frames sent = {} received + {} lost; {} twice, {} out of order, {} foreign, {} lost by the tester itself",
        totals.trials,
        totals.sent,
        totals.received,
        totals.lost,
        totals.duplicated,
        totals.reordered,
        totals.foreign,
        totals.lost_by_tester
    )
}

fn throughputs<'a>(
    title: &str,
    rows: impl IntoIterator<Item = &'a Throughput>,
    out: &mut String,
) -> Result {
    for (at, row) in rows.into_iter().enumerate() {
        if at == 0 {
            writeln!(
                out,
                "\n{title:<12}{:>14}{:>12}{:>14}{:>8}  bound by",
                "frames/s", "Mbit/s", "line Mbit/s", "trials"
            )?;
        }
        writeln!(
            out,
            "{:<12}{:>14.0}{:>12.1}{:>14.1}{:>8}  {}",
            row.size,
            row.fps,
            row.mbps,
            row.line_mbps,
            row.trials.len(),
            row.bound_by()
        )?;
    }
    Ok(())
}

fn latencies(rows: &[Latency], out: &mut String) -> Result {
    if !rows.is_empty() {
        writeln!(
            out,
            "\n{:<12}{:>6}{:>14}{:>10}{:>10}{:>10}{:>10}  microseconds",
            "latency", "load", "frames/s", "median", "p99", "p99.9", "max"
        )?;
    }
    rows.iter().try_for_each(|row| latency(row, out))
}

fn loss(row: &Loss, out: &mut String) -> Result {
    let title = format!("loss, {}", row.size);
    writeln!(
        out,
        "\n{title:<12}{:>6}{:>14}{:>12}",
        "load", "frames/s", "lost"
    )?;
    for step in &row.steps {
        writeln!(
            out,
            "{:<12}{:>5}%{:>14.0}{:>11.4}%  {}",
            "",
            step.load_percent,
            step.trial.offered_fps,
            step.loss_percent,
            step.trial.doubt()
        )?;
    }
    Ok(())
}

fn bursts(rows: &[BackToBack], out: &mut String) -> Result {
    if !rows.is_empty() {
        writeln!(
            out,
            "\n{:<14}{:>14}{:>12}{:>12}{:>6}",
            "back-to-back", "mean, frames", "least", "most", "runs"
        )?;
    }
    for row in rows {
        let (least, most) = (row.bursts.iter().min(), row.bursts.iter().max());
        let all = if most == Some(&row.longest_tried) {
            "  the longest that was tried"
        } else {
            ""
        };
        writeln!(
            out,
            "{:<14}{:>14.0}{:>12}{:>12}{:>6}{all}",
            row.size,
            row.mean,
            least.unwrap_or(&0),
            most.unwrap_or(&0),
            row.bursts.len()
        )?;
    }
    Ok(())
}

fn mix(row: &Mix, out: &mut String) -> Result {
    throughputs("mix", [&row.throughput], out)?;
    latencies(&row.latency, out)?;
    writeln!(
        out,
        "\n{} rules, {} flows opened, {} of them open at the end",
        row.rules, row.flows, row.live_after
    )?;
    writeln!(out, "\n{:<16}{:>14}{:>12}", "forbidden", "sent", "leaked")?;
    for kind in &row.kinds {
        writeln!(out, "{:<16}{:>14}{:>12}", kind.kind, kind.sent, kind.leaked)?;
    }
    match row.leaked {
        0 => writeln!(out, "\nnothing that is forbidden got through"),
        leaked => writeln!(out, "\nLEAK: {leaked} FORBIDDEN FRAMES GOT THROUGH"),
    }
}

fn latency(row: &Latency, out: &mut String) -> Result {
    let load = row
        .load_percent
        .map_or("-".into(), |percent| format!("{percent}%"));
    let us = |ns: u64| ns as f64 / 1e3;
    let quantiles = &row.quantiles;
    writeln!(
        out,
        "{:<12}{load:>6}{:>14.0}{:>10.1}{:>10.1}{:>10.1}{:>10.1}  {}",
        row.size,
        row.trial.offered_fps,
        us(quantiles.median_ns),
        us(quantiles.p99_ns),
        us(quantiles.p99_9_ns),
        us(quantiles.max_ns),
        match row.trial.lost {
            _ if !row.trial.valid => row.trial.doubt().to_string(),
            0 => String::new(),
            lost => format!("{lost} lost"),
        }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use traffic::report::{Forbidden, Machine, Quantiles, Trial};

    fn trial(lost: u64) -> Trial {
        Trial::of(
            &traffic::outcome::Outcome {
                sent: 1000,
                received: 1000 - lost,
                took: 1_000_000_000,
                ..Default::default()
            },
            lost == 0,
        )
    }

    fn report(leaked: u64) -> Report {
        let throughput = Throughput {
            size: "imix".into(),
            fps: 1234.5,
            mbps: 3.7,
            line_mbps: 3.9,
            bound: "tester",
            trials: vec![trial(3), trial(0)],
        };
        let latency = Latency {
            size: "imix".into(),
            load_percent: Some(50.0),
            trial: trial(2),
            quantiles: Quantiles {
                median_ns: 12_345,
                ..Quantiles::default()
            },
        };
        let kinds = vec![Forbidden {
            kind: "tftp",
            sent: 10,
            leaked,
        }];
        let mut report = Report {
            machine: Machine::default(),
            mix: Some(Mix {
                size: "imix".into(),
                rules: 1000,
                flows: 5,
                live_after: 4,
                forbidden_per_mille: 100,
                throughput,
                latency: vec![latency],
                kinds,
                leaked,
            }),
            ..Report::default()
        };
        report.sum();
        report
    }

    #[test]
    fn a_leak_is_told_loudly_and_none_is_told_too() {
        let leaks = table(&report(3));
        assert!(
            leaks.contains("LEAK: 3 FORBIDDEN FRAMES GOT THROUGH"),
            "{leaks}"
        );
        let none = table(&report(0));
        assert!(none.contains("nothing that is forbidden got through"));
    }

    #[test]
    fn the_table_has_rates_latencies_what_bounds_them_and_sums_that_add_up() {
        let text = table(&report(0));
        for words in [
            "the tester: the device may do more",
            "12.3",
            "2 lost",
            "3 trials: 3000 frames sent = 2995 received + 5 lost",
            "5 flows opened, 4 of them open at the end",
        ] {
            assert!(text.contains(words), "no `{words}` in: {text}");
        }
    }
}
