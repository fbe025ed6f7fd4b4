//! How large a policy is, and how long it takes to get ready: `check --stats`.

use super::Config;
use crate::policy::AddrRange;
use crate::policy::table::{BUDGET, Shape, Table};
use serde::Serialize;
use std::fmt::Write;
use std::time::Duration;

/// Sizes and times of a config that loads.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Rules in force, without the default.
    pub rules: usize,
    /// Rows of the rule table: the clauses of all rules, the default's among them.
    pub rows: usize,
    /// Bytes of the compiled table; 0 where it does not compile.
    pub table_bytes: usize,
    /// How the table is laid out; `None` where it does not compile.
    pub shape: Option<Shape>,
    /// Flows that there is memory for.
    pub flows: usize,
    /// Bytes of that memory, which `run` allocates at its start.
    pub flow_bytes: usize,
    /// The named sets, in order.
    pub sets: Vec<SetStats>,
    /// Time to read the files and check what they say.
    pub read: Duration,
    /// Time to judge the rules against each other.
    pub judge: Duration,
    /// Time to compile the table.
    pub compile: Duration,
    /// Time to run the config's own tests.
    pub test: Duration,
}

/// One named set.
#[derive(Clone, Debug, Serialize)]
pub struct SetStats {
    /// Its name.
    pub name: String,
    /// Addresses, prefixes and ranges.
    pub entries: usize,
    /// Bytes of the entries as they were read; the table holds them in its own form.
    pub bytes: usize,
    /// The file that it was read from.
    pub file: Option<String>,
}

impl Stats {
    pub(super) fn of(config: &Config) -> Stats {
        let policy = &config.policy;
        let sets = policy.sets.iter().map(|set| SetStats {
            name: set.name.clone(),
            entries: set.ranges.len(),
            bytes: set.ranges.len() * size_of::<AddrRange>(),
            file: set.file.as_ref().map(|file| file.display().to_string()),
        });
        Stats {
            rules: policy.rules.len().saturating_sub(1),
            rows: policy.rules.iter().map(|rule| rule.clauses.len()).sum(),
            sets: sets.collect(),
            flows: config.flows.size,
            flow_bytes: config.flows.bytes(),
            ..Stats::default()
        }
    }

    /// Notes what the compiler made of the policy.
    pub(super) fn of_table(&mut self, table: &Table) {
        self.table_bytes = table.memory();
        self.shape = Some(table.shape());
    }

    /// For a person: sizes and times, how the table is laid out, the sets.
    pub fn human(&self) -> String {
        let mut out = String::new();
        let row = |out: &mut String, what: &str, size: String, time: Option<Duration>| {
            let time = time.map_or_else(String::new, |time| format!("{:>12}", ms(time)));
            let line = format!("{what:<22}{size:>16}{time}");
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}", line.trim_end());
        };
        row(&mut out, "rules", self.rules.to_string(), Some(self.read));
        row(
            &mut out,
            "rows, judged",
            self.rows.to_string(),
            Some(self.judge),
        );
        let table = bytes(self.table_bytes);
        row(&mut out, "table, compiled", table, Some(self.compile));
        let flows = format!("room for flows: {}", self.flows);
        row(&mut out, &flows, bytes(self.flow_bytes), None);
        row(&mut out, "tests", String::new(), Some(self.test));
        if let Some(shape) = &self.shape {
            out.push('\n');
            out.push_str(&layout(shape, self.rows));
        }
        let _ = writeln!(
            out,
            "\n{:<22}{:>16}{:>12}  file",
            "set", "entries", "memory"
        );
        for set in &self.sets {
            let file = set.file.as_deref().unwrap_or("");
            let line = format!(
                "{:<22}{:>16}{:>12}  {file}",
                format!("@{}", set.name),
                set.entries,
                bytes(set.bytes)
            );
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }

    /// For a program.
    pub fn json(&self) -> serde_json::Value {
        let seconds = |time: Duration| time.as_secs_f64();
        serde_json::json!({
            "rules": self.rules,
            "rows": self.rows,
            "table_bytes": self.table_bytes,
            "flows": self.flows,
            "flow_bytes": self.flow_bytes,
            "table": self.shape.as_ref().map(|shape| serde_json::json!({
                "kernel": shape.kernel,
                "rows_in_bitsets": shape.wide_rows,
                "bitset_words": shape.words,
                "aggregated": shape.aggregated,
                "rows_in_lists": self.rows.saturating_sub(shape.wide_rows + shape.crossed),
                "rows_answered_ahead": shape.crossed,
                "chunks": shape.chunks,
                "rows_in_a_chunk": shape.rows_in_a_chunk,
                "lists_taken_apart": shape.separators,
                "lists_by": lists_by(shape),
            })),
            "sets": self.sets,
            "seconds": {
                "read": seconds(self.read),
                "judge": seconds(self.judge),
                "compile": seconds(self.compile),
                "test": seconds(self.test),
            },
        })
    }
}

/// The fields that rows in lists are found by.
fn lists_by(shape: &Shape) -> Vec<&'static str> {
    const NAMES: [&str; 5] = [
        "source address",
        "destination address",
        "source port",
        "destination port",
        "both addresses",
    ];
    let used = NAMES.into_iter().zip(shape.homes);
    used.filter_map(|(name, used)| used.then_some(name))
        .collect()
}

/// What the compiler chose, a line each.
fn layout(shape: &Shape, rows: usize) -> String {
    let plural = |n: usize, what: &str| format!("{n} {what}{}", if n == 1 { "" } else { "s" });
    let listed = rows.saturating_sub(shape.wide_rows);
    let mut out = format!("the table is looked up by the {} kernel\n", shape.kernel);
    if shape.wide_rows > 0 {
        out += &format!(
            "  {} in bitsets of {}\n",
            plural(shape.wide_rows, "row"),
            plural(shape.words, "word")
        );
    }
    if shape.aggregated {
        out += &format!(
            "  these in the smaller, aggregated form: whole bitsets would be too long, or\n  past their budget of {}\n",
            bytes(BUDGET.dense)
        );
    }
    if shape.crossed > 0 {
        out += &format!(
            "  {} with wide addresses answered ahead, by\n  classes of ports, protocols and addresses\n",
            plural(shape.crossed, "row")
        );
    }
    if shape.chunks > 0 {
        out += &format!(
            "  {} in lists, {} of up to {}, by\n  {}\n",
            plural(listed.saturating_sub(shape.crossed), "row"),
            shape.chunks,
            shape.rows_in_a_chunk,
            lists_by(shape).join(", ")
        );
    }
    if shape.separators > 0 {
        out += &format!(
            "  {} taken apart by one more field\n",
            plural(shape.separators, "list")
        );
    }
    out
}

fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// A size with a unit, three digits or so.
fn bytes(n: usize) -> String {
    match n {
        0..10_240 => format!("{n} B"),
        10_240..10_485_760 => format!("{:.1} KiB", n as f64 / 1024.0),
        _ => format!("{:.1} MiB", n as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_aligned_and_fit_eighty_columns() {
        let set = |name: &str, entries, file: Option<&str>| SetStats {
            name: name.to_owned(),
            entries,
            bytes: entries * 48,
            file: file.map(str::to_owned),
        };
        let stats = Stats {
            rules: 10_011,
            rows: 10_024,
            table_bytes: 3_500_000,
            flows: 1_000_000,
            flow_bytes: 91_000_000,
            shape: Some(Shape {
                kernel: "avx512",
                wide_rows: 24,
                words: 1,
                aggregated: false,
                chunks: 2500,
                rows_in_a_chunk: 16,
                homes: [true, true, false, true, false],
                crossed: 500,
                separators: 120,
            }),
            sets: vec![
                set("lan", 2, None),
                set("partners", 100_000, Some("/etc/portcullis/partners.txt")),
            ],
            read: Duration::from_micros(81_230),
            judge: Duration::from_micros(410_000),
            compile: Duration::from_micros(733_333),
            test: Duration::from_micros(12),
        };
        let expected = "\
rules                            10011     81.2 ms
rows, judged                     10024    410.0 ms
table, compiled             3418.0 KiB    733.3 ms
room for flows: 1000000        86.8 MiB
tests                                       0.0 ms

the table is looked up by the avx512 kernel
  24 rows in bitsets of 1 word
  500 rows with wide addresses answered ahead, by
  classes of ports, protocols and addresses
  9500 rows in lists, 2500 of up to 16, by
  source address, destination address, destination port
  120 lists taken apart by one more field

set                            entries      memory  file
@lan                                 2        96 B
@partners                       100000  4687.5 KiB  /etc/portcullis/partners.txt
";
        assert_eq!(stats.human(), expected);
    }

    #[test]
    fn a_table_in_the_smaller_form_says_so_and_one_without_lists_says_nothing_of_them() {
        let shape = Shape {
            kernel: "portable",
            wide_rows: 5000,
            words: 79,
            aggregated: true,
            chunks: 0,
            rows_in_a_chunk: 16,
            homes: [false; 5],
            crossed: 0,
            separators: 0,
        };
        let expected = "\
the table is looked up by the portable kernel
  5000 rows in bitsets of 79 words
  these in the smaller, aggregated form: whole bitsets would be too long, or
  past their budget of 64.0 MiB
";
        assert_eq!(layout(&shape, 5000), expected);
    }
}
