//! The page: facts, bars, the table, and how to read it. Cells are padded, so that a terminal shows it as well.

use super::{Outcome, Results, bars};
use crate::contender::{Load, Receive};
use std::fmt::Write;

/// How to read the table.
const LEGEND: &str = "\
- Mpps: median of the frames a second at the sink; on the lines `drop:`, of the frames that the box received, all of which are dropped.
- floor, testpmd: times the median of the floor and of testpmd (io; rxonly on the lines `drop:`) with the same load, in this run; the lines `one core` beside the floor and the testpmd on one core.
- ns a frame: time on a CPU of the box's threads for each frame that it received; a box in user space spins, so that is all the time there is. On CPU: share of a core; what a spinning box lacks to 100 % other processes took: run it on a quiet machine.
- Receives on: whose core does the LAN port's receive work (NAPI); on the generator's it is not in ns a frame.
- Flows: least number of flows that the box knew after a round. All were opened before by both ends; the gate opened none meanwhile, and neither takes a segment of no connection.
- Before each measurement a box showed that it forwards; a filter that it drops a frame for each rule, and any other that it passes these.
";

/// All of it.
pub fn page(results: &Results) -> String {
    let mut out = format!(
        "# Forwarding, side by side\n\n| | |\n|---|---|\n| date | {} |\n",
        results.date
    );
    for (name, value) in &results.machine {
        let text = value.as_str().map_or(value.to_string(), str::to_owned);
        let _ = writeln!(out, "| {name} | {text} |");
    }
    out.push('\n');
    for bar in bars(results) {
        let _ = writeln!(out, "- {bar}");
    }
    let head = [
        "box",
        "Mpps",
        "range",
        "floor",
        "testpmd",
        "received",
        "ns a frame",
        "on CPU",
        "lost",
        "flows",
        "receives on",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(results.boxes.iter().map(|outcome| row(results, outcome)));
    let _ = write!(out, "\n{}\n{LEGEND}", table(&rows));
    for note in notes(results) {
        let _ = writeln!(out, "- Note: {note}.");
    }
    if let Some(ceiling) = &results.ceiling {
        out.push_str(&super::ceiling::part(ceiling));
    }
    out
}

fn row(results: &Results, outcome: &Outcome) -> [String; 11] {
    let none = || "-".to_owned();
    let mut cells: [String; 11] = std::array::from_fn(|_| none());
    cells[0].clone_from(&outcome.name);
    let Some(rate) = outcome.rate() else {
        cells[2] = "not measured".to_owned();
        return cells;
    };
    let millions = |pps: f64| format!("{:.3}", pps / 1e6);
    let of = |pick: fn(&crate::measure::Figures) -> f64| outcome.median(pick).unwrap_or_default();
    let beside = |name| {
        let ratio = results.ratio(&outcome.name, name);
        ratio.map_or(none(), |ratio| format!("{ratio:.2}"))
    };
    let [floor, testpmd] = outcome.references();
    cells[1] = millions(rate.median);
    cells[2] = format!("{}-{}", millions(rate.least), millions(rate.most));
    cells[3] = beside(floor);
    cells[4] = beside(testpmd);
    cells[5] = millions(of(|f| f.received));
    cells[6] = format!("{:.0}", of(|f| f.nanoseconds));
    cells[7] = format!("{:.0} %", 100.0 * of(|f| f.on_cpu));
    if outcome.load == Load::Office {
        cells[8] = format!("{:.1} %", 100.0 * of(|f| f.lost()));
    }
    let flows = outcome.rounds.iter().filter_map(|f| f.flows).min();
    cells[9] = flows.map_or(none(), |flows| flows.to_string());
    cells[10] = match outcome.receives_on {
        Receive::BoxCore => "box's core",
        Receive::GeneratorCore => "generator's",
    }
    .to_owned();
    cells
}

/// The first row is the head; the first column and the last are of words.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|row| row[at].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|at| width(at).unwrap_or(0));
    let words = |at: usize| at == 0 || at == N - 1;
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        for (at, (cell, width)) in row.iter().zip(widths).enumerate() {
            let _ = match words(at) {
                true => write!(out, "| {cell:<width$} "),
                false => write!(out, "| {cell:>width$} "),
            };
        }
        out.push_str("|\n");
        if number == 0 {
            for (at, width) in widths.into_iter().enumerate() {
                let (dashes, end) = ("-".repeat(width + 1), if words(at) { '-' } else { ':' });
                let _ = write!(out, "|{dashes}{end}");
            }
            out.push_str("|\n");
        }
    }
    out
}

fn notes(results: &Results) -> Vec<String> {
    let mut notes = Vec::new();
    for outcome in &results.boxes {
        let name = &outcome.name;
        if let Some(why) = &outcome.missing {
            notes.push(format!("{name} was not measured: {why}"));
        }
        let bound = outcome.rounds.iter().filter(|f| f.generator_bound());
        let (bound, all) = (bound.count(), outcome.rounds.len());
        if bound > 0 {
            notes.push(format!(
                "{name}: in {bound} of {all} rounds the box took all that was offered; the generator's core was the limit, the box can do more"
            ));
        }
    }
    notes.extend(results.notes.iter().cloned());
    notes
}

#[cfg(test)]
mod tests {
    use crate::report::tests::results;

    #[test]
    fn the_page_has_a_row_for_each_box_the_bars_and_the_notes() {
        let page = results(|_| 1e6).markdown();
        let gate = "| gate, 1000 rules               | 1.000 | 0.500-1.250 |  1.00 |    1.00 |    1.000 |       1000 |  100 % | 0.0 % | 100000 | generator's |";
        assert!(page.contains(gate), "{page}");
        assert_eq!(page.matches("bar: ").count(), 6);
        assert!(page.contains("| processor | CPU, 2 cores |"));
        assert!(page.ends_with("- Note: something to know.\n"), "{page}");
    }

    #[test]
    fn a_box_that_is_missing_has_a_row_and_a_note_that_says_what_to_install() {
        let mut results = results(|_| 1e6);
        results.boxes[1].rounds.clear();
        results.boxes[1].missing = Some("apt install it".to_owned());
        let page = results.markdown();
        assert!(
            page.contains("| testpmd io                     |     - | not measured |"),
            "{page}"
        );
        assert!(page.contains("- Note: testpmd io was not measured: apt install it.\n"));
    }

    #[test]
    fn a_box_that_took_all_that_was_offered_is_said_to_be_able_to_do_more() {
        let mut results = results(|_| 1e6);
        for figures in &mut results.boxes[0].rounds {
            figures.offered = figures.received;
        }
        let page = results.markdown();
        assert!(
            page.contains("- Note: floor: in 3 of 3 rounds the box took all"),
            "{page}"
        );
    }
}
