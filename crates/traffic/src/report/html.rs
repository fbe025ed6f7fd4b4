//! The page: one file that needs no network and no script, with the plots inside.

use super::plot::{self, Line};
use super::{BackToBack, Latency, Loss, Mix, Report, Throughput};
use maud::{DOCTYPE, Markup, PreEscaped, html};

/// Colours of the plots are attributes that [`plot`] writes; here they get their looks.
const STYLE: &str = include_str!("page.css");

/// All of a report.
pub fn page(report: &Report) -> String {
    let date = &report.date;
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { "portcullis bench, " (date) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "portcullis bench" }
                    p { code { (report.command) } }
                }
                main {
                    (verdict(report))
                    @if !report.throughput.is_empty() { (throughput(&report.throughput)) }
                    @if !report.latency.is_empty() { (latency("Latency", &report.latency)) }
                    @if !report.loss.is_empty() { (loss(&report.loss)) }
                    @if !report.back_to_back.is_empty() { (bursts(&report.back_to_back)) }
                    @if let Some(row) = &report.mix { (mix(row)) }
                    (about(report))
                }
            }
        }
    }
    .into_string()
}

/// What matters first.
fn verdict(report: &Report) -> Markup {
    let best = |key: fn(&Throughput) -> f64| {
        let rows = report.throughput.iter();
        let rows = rows.chain(report.mix.as_ref().map(|mix| &mix.throughput));
        rows.max_by(|a, b| key(a).total_cmp(&key(b)))
    };
    let loss = match report.settings.tolerance {
        0.0 => "without loss".to_string(),
        part => format!("with {} % lost at the most", part * 100.0),
    };
    html! {
        div.tiles {
            @if let Some(row) = best(|row| row.fps) {
                div { strong { (rate(row.fps)) } span { "frames/s " (loss) ", size " (row.size) } }
            }
            @if let Some(row) = best(|row| row.mbps) {
                div { strong { (rate(row.mbps * 1e6)) } span { "bit/s " (loss) ", size " (row.size) } }
            }
            @if let Some(mix) = &report.mix {
                div.bad[mix.leaked > 0].good[mix.leaked == 0] {
                    strong { (number(mix.leaked)) }
                    span { "forbidden frames got through, of " (number(mix.kinds.iter().map(|kind| kind.sent).sum())) }
                }
            }
        }
    }
}

fn throughput(rows: &[Throughput]) -> Markup {
    let bars = |of: fn(&Throughput) -> f64| -> Vec<(String, f64)> {
        rows.iter().map(|row| (row.size.clone(), of(row))).collect()
    };
    html! {
        section {
            h2 { "Throughput" }
            p { "The highest rate at which no more was lost than may be, by frame size (RFC 2544 section 26.1). Sizes are in bytes, with FCS." }
            @if rows.len() > 1 {
                div.plots {
                    (figure("Frames a second, by size", &plot::bars(&bars(|row| row.fps), "frames/s"), &[]))
                    (figure("Megabits a second, by size", &plot::bars(&bars(|row| row.mbps), "Mbit/s"), &[]))
                }
            }
            (throughput_table(rows))
        }
    }
}

fn throughput_table(rows: &[Throughput]) -> Markup {
    html! {
        div.wide { table {
            thead { tr { th { "size" } th { "frames/s" } th { "Mbit/s" } th { "Mbit/s on the line" } th { "trials" } th.text { "bound by" } } }
            tbody { @for row in rows {
                tr { th { (row.size) } td { (number(row.fps as u64)) } td { (fixed(row.mbps)) } td { (fixed(row.line_mbps)) } td { (row.trials.len()) } td.text { (row.bound_by()) } }
            } }
        } }
    }
}

fn latency(title: &str, rows: &[Latency]) -> Markup {
    let mut sizes: Vec<&str> = rows.iter().map(|row| row.size.as_str()).collect();
    sizes.dedup();
    html! {
        section {
            h2 { (title) }
            p { "How long frames were on their way, through the tester's own sockets too (RFC 2544 section 26.2, each frame measured). A point says that so many of the frames took no longer; loads are parts of the throughput, times microseconds." }
            div.plots { @for size in sizes {
                @let lines = curves(rows, size);
                (figure(&format!("Size {size}"), &plot::latencies(&lines), &lines))
            } }
            div.wide { table {
                thead { tr { th { "size" } th { "load" } th { "frames/s" } th { "median" } th { "p99" } th { "p99.9" } th { "max" } th.text { "" } } }
                tbody { @for row in rows {
                    @let quantiles = &row.quantiles;
                    tr {
                        th { (row.size) } td { (load(row)) } td { (number(row.trial.offered_fps as u64)) }
                        td { (micro(quantiles.median_ns)) } td { (micro(quantiles.p99_ns)) }
                        td { (micro(quantiles.p99_9_ns)) } td { (micro(quantiles.max_ns)) }
                        td.text { @if row.trial.lost > 0 { (number(row.trial.lost)) " lost " } (row.trial.doubt()) }
                    }
                } }
            } }
        }
    }
}

/// The curves of one size. Percent become nines, and the slowest frame stands as far right as one in so many does.
fn curves(rows: &[Latency], size: &str) -> Vec<Line> {
    let of = |row: &Latency| {
        let count = row.quantiles.count.max(1) as f64;
        let end = count.log10();
        let inner = row
            .quantiles
            .curve
            .iter()
            .filter(|(percent, _)| *percent < 100.0);
        let mut points: Vec<(f64, f64)> = inner
            .map(|(percent, ns)| (-(1.0 - percent / 100.0).log10(), *ns as f64 / 1e3))
            .filter(|(nines, _)| *nines < end)
            .collect();
        points.push((end, row.quantiles.max_ns as f64 / 1e3));
        Line {
            name: format!("at {}", load(row)),
            points,
        }
    };
    rows.iter().filter(|row| row.size == size).map(of).collect()
}

fn loss(rows: &[Loss]) -> Markup {
    html! {
        section {
            h2 { "Frame loss" }
            p { "The part of the frames that did not arrive, by the part of full speed that was offered (RFC 2544 section 26.3)." }
            div.plots { @for row in rows {
                @let line = Line {
                    name: row.size.clone(),
                    points: row.steps.iter().map(|step| (step.load_percent, step.loss_percent)).collect(),
                };
                (figure(&format!("Size {}", row.size), &plot::shares(&[line], "% lost"), &[]))
            } }
            div.wide { table {
                thead { tr { th { "size" } th { "load" } th { "frames/s" } th { "lost" } th.text { "" } } }
                tbody { @for row in rows { @for step in &row.steps {
                    tr { th { (row.size) } td { (step.load_percent) " %" } td { (number(step.trial.offered_fps as u64)) } td { (format!("{:.4}", step.loss_percent)) " %" } td.text { (step.trial.doubt()) } }
                } } }
            } }
        }
    }
}

fn bursts(rows: &[BackToBack]) -> Markup {
    let bars: Vec<_> = rows
        .iter()
        .map(|row| (row.size.clone(), row.mean))
        .collect();
    html! {
        section {
            h2 { "Back-to-back frames" }
            p { "The longest burst at full speed of which nothing was lost, on the average of several searches (RFC 2544 section 26.4)." }
            @if rows.len() > 1 {
                div.plots { (figure("Frames in a burst, by size", &plot::bars(&bars, "frames"), &[])) }
            }
            div.wide { table {
                thead { tr { th { "size" } th { "mean" } th { "least" } th { "most" } th { "runs" } th.text { "" } } }
                tbody { @for row in rows {
                    @let (least, most) = (row.bursts.iter().min(), row.bursts.iter().max());
                    tr {
                        th { (row.size) } td { (number(row.mean as u64)) } td { (number(*least.unwrap_or(&0))) } td { (number(*most.unwrap_or(&0))) } td { (row.bursts.len()) }
                        td.text { @if most == Some(&row.longest_tried) { "the longest that was tried" } }
                    }
                } }
            } }
        }
    }
}

fn mix(row: &Mix) -> Markup {
    html! {
        section {
            h2 { "Mix" }
            p {
                (number(row.rules as u64)) " rules, " (number(row.flows as u64)) " flows opened and "
                (number(row.live_after as u64)) " of them open at the end, "
                (row.forbidden_per_mille as f64 / 10.0) " % of the frames forbidden (in the manner of RFC 9411)."
            }
            (throughput_table(std::slice::from_ref(&row.throughput)))
            div.wide { table {
                thead { tr { th.text { "forbidden by" } th { "sent" } th { "got through" } } }
                tbody { @for kind in &row.kinds {
                    tr { th.text { (kind.kind) } td { (number(kind.sent)) } td.bad[kind.leaked > 0] { (number(kind.leaked)) } }
                } }
            } }
        }
        @if !row.latency.is_empty() { (latency("Latency in the mix", &row.latency)) }
    }
}

fn about(report: &Report) -> Markup {
    let settings = &report.settings;
    html! {
        section {
            h2 { "How it was measured" }
            dl {
                dt { "date" } dd { (report.date) }
                dt { "machine" } dd { (report.machine.cpu) ", " (report.machine.cores) " cores, Linux " (report.machine.kernel) }
                @for port in &report.ports {
                    dt { (port.side) " port" }
                    dd { @if let Some(namespace) = &port.namespace { (namespace) ":" } (port.interface) ", " (port.driver) ", " (port.mode) " mode, queues: " (port.queues) }
                }
                dt { "traffic" } dd { (settings.traffic) @if settings.both { ", both ways at once" } ", " (number(settings.flows as u64)) " flows" }
                dt { "trials" } dd {
                    (settings.duration_s) " s each, stragglers waited for " (settings.settle_s) " s, loss allowed "
                    (settings.tolerance * 100.0) " %, resolution " (settings.resolution * 100.0) " %, tried again " (settings.retries) " times"
                }
                @let totals = &report.totals;
                dt { "frames" } dd {
                    (number(totals.sent)) " sent in " (totals.trials) " trials, " (number(totals.received)) " received, " (number(totals.lost)) " lost, "
                    (number(totals.duplicated)) " twice, " (number(totals.reordered)) " out of order, " (number(totals.foreign)) " foreign, "
                    (number(totals.lost_by_tester)) " lost by the tester itself"
                }
                dt { "version" } dd { "portcullis " (report.version) }
            }
            @for note in &report.notes { p.note { (note) } }
        }
    }
}

fn figure(title: &str, svg: &str, lines: &[Line]) -> Markup {
    html! {
        figure {
            figcaption { (title) }
            // Made by us, out of numbers and of labels that plotters escapes.
            (PreEscaped(svg))
            @if lines.len() > 1 {
                p.key { @for (at, line) in lines.iter().enumerate() { span class={ "s" (at % plot::SERIES) } { (line.name) } } }
            }
        }
    }
}

fn load(row: &Latency) -> String {
    row.load_percent
        .map_or("given rate".into(), |percent| format!("{percent} %"))
}

fn micro(ns: u64) -> String {
    fixed(ns as f64 / 1e3)
}

fn fixed(value: f64) -> String {
    format!("{value:.1}")
}

/// With a thin space between thousands, at which no line breaks.
fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push('\u{202f}');
        }
        text.push(digit);
    }
    text
}

fn rate(value: f64) -> String {
    match value {
        1e9.. => format!("{:.2} G", value / 1e9),
        1e6.. => format!("{:.2} M", value / 1e6),
        1e3.. => format!("{:.1} k", value / 1e3),
        _ => format!("{value:.0} "),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Forbidden, LossStep, Quantiles, Trial};
    use super::*;
    use crate::outcome::Outcome;

    #[test]
    fn a_page_has_no_script_and_asks_nothing_of_a_network_and_escapes_what_it_is_given() {
        let report = Report {
            command: "portcullis <b>".into(),
            ..Report::default()
        };
        let page = page(&report);
        assert!(page.contains("portcullis &lt;b&gt;") && !page.contains("<b>"));
        for word in ["<script", "src=", "href=", "@import", "url("] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn every_part_of_a_report_has_its_place_and_its_plots() {
        let trial = || Trial::of(&Outcome::default(), true);
        let throughput = |size: &str| Throughput {
            size: size.into(),
            fps: 1e6,
            mbps: 512.0,
            line_mbps: 672.0,
            bound: "device",
            trials: vec![trial()],
        };
        let latency = |percent| Latency {
            size: "64".into(),
            load_percent: Some(percent),
            trial: trial(),
            quantiles: Quantiles {
                count: 1000,
                max_ns: 9_000,
                curve: vec![(0.0, 1_000), (90.0, 5_000), (99.99, 8_000), (100.0, 9_000)],
                ..Quantiles::default()
            },
        };
        let step = |load_percent| LossStep {
            load_percent,
            loss_percent: 1.0,
            trial: trial(),
        };
        let burst = |size: &str| BackToBack {
            size: size.into(),
            bursts: vec![7],
            mean: 7.0,
            longest_tried: 7,
        };
        let report = Report {
            throughput: vec![throughput("64"), throughput("imix")],
            latency: vec![latency(50.0), latency(90.0)],
            loss: vec![Loss {
                size: "64".into(),
                steps: vec![step(100.0), step(90.0)],
            }],
            back_to_back: vec![burst("64"), burst("imix")],
            mix: Some(Mix {
                size: "imix".into(),
                rules: 1000,
                flows: 100_000,
                live_after: 99_999,
                forbidden_per_mille: 100,
                throughput: throughput("imix"),
                latency: vec![latency(50.0)],
                kinds: vec![Forbidden {
                    kind: "tftp",
                    sent: 10,
                    leaked: 1,
                }],
                leaked: 1,
            }),
            ..Report::default()
        };
        let page = page(&report);
        for title in [
            "Throughput",
            "Latency",
            "Frame loss",
            "Back-to-back frames",
            "Mix",
            "Latency in the mix",
        ] {
            assert!(page.contains(&format!("<h2>{title}</h2>")), "{title}");
        }
        assert_eq!(page.matches("</svg>").count(), 2 + 1 + 1 + 1 + 1);
        assert!(page.contains("class=\"bad\"") && page.contains("at 90 %"));
        let lines = curves(&report.latency, "64");
        let right = lines[0]
            .points
            .iter()
            .map(|point| point.0)
            .fold(0.0, f64::max);
        assert!(
            (right - 3.0).abs() < 1e-9,
            "one in a thousand is three nines"
        );
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(number(7), "7");
        assert_eq!(number(1_234_567), "1\u{202f}234\u{202f}567");
    }
}
