//! `portcullis diff`.

use super::gate::Gate;
use super::{cannot, print_json};
use crate::control::reload::Ask;
use crate::control::socket::Request;
use serde_json::Value;
use std::fmt::Write;
use std::process::ExitCode;

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Diff {
    #[command(flatten)]
    gate: Gate,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const HELP: &str = "The running gate compares the file of `-c` with what it has in force, and asks both policies about every flow in its table: who passes now and would not, who is stopped and would pass. Nothing changes. What a flow's first frame said of its MAC address is not known any more, so rules on MAC addresses are left out of account; what is stopped is known as long as its incident is open.

Exit status 0 where nothing would change, 1 where something would, 2 where the file is wrong or no gate answers.";

impl Diff {
    pub(super) fn run(self) -> ExitCode {
        let file = match std::path::absolute(self.gate.config()) {
            Ok(file) => file,
            Err(e) => return cannot(e),
        };
        let answer = match self.gate.request(&Request::Config(Ask::Diff { file })) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        let same = is_nothing(&answer);
        if self.json {
            let printed = print_json(&answer);
            return if same {
                printed
            } else {
                ExitCode::from(super::NO)
            };
        }
        print!("{}", human(&answer));
        match same {
            true => ExitCode::SUCCESS,
            false => ExitCode::from(super::NO),
        }
    }
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn is_nothing(answer: &Value) -> bool {
    let lists = ["rules", "sets", "restart"];
    lists.iter().all(|key| list(answer, key).is_empty())
        && ["blocked", "allowed"]
            .iter()
            .all(|key| answer[key]["count"] == 0)
}

fn human(answer: &Value) -> String {
    let mut out = String::new();
    // Writing to a string does not fail.
    let _ = write(&mut out, answer);
    out
}

fn write(out: &mut String, answer: &Value) -> std::fmt::Result {
    let (rules, sets) = (list(answer, "rules"), list(answer, "sets"));
    if rules.is_empty() && sets.is_empty() {
        writeln!(out, "The rules and sets are those in force.")?;
    }
    for change in rules {
        let place = |side: &Value| format!("{:>4}  {}", side[0], text(&side[1]));
        let what = text(&change["what"]);
        writeln!(out, "{what:<8} {}", text(&change["rule"]))?;
        let (before, after) = (&change["before"], &change["after"]);
        match what {
            "moved" => writeln!(out, "    from place {} to {}", before[0], after[0])?,
            _ => {
                if !before.is_null() {
                    writeln!(out, "  - {}", place(before))?;
                }
                if !after.is_null() {
                    writeln!(out, "  + {}", place(after))?;
                }
            }
        }
    }
    for set in sets {
        let entries = |n: &Value| match n.as_u64() {
            Some(n) => n.to_string(),
            None => "none".to_owned(),
        };
        writeln!(
            out,
            "set      @{}\n    {} entries now, {} then: {} come, {} go",
            text(&set["set"]),
            entries(&set["before"]),
            entries(&set["after"]),
            set["added"],
            set["removed"]
        )?;
    }
    for section in list(answer, "restart") {
        writeln!(
            out,
            "{} differs, which only a restart can follow",
            text(section)
        )?;
    }
    writeln!(out, "\n{} flows are open.", answer["flows"])?;
    hits(
        out,
        &answer["blocked"],
        ("pass now and would be blocked", "flows"),
    )?;
    hits(
        out,
        &answer["allowed"],
        ("are stopped now and would pass", "flows and incidents"),
    )
}

fn hits(out: &mut String, hits: &Value, (what, of): (&str, &str)) -> std::fmt::Result {
    let all = hits["hosts"].as_u64().unwrap_or(0);
    let hosts = list(hits, "by_host");
    match all {
        0 => return writeln!(out, "None {what}."),
        1 => writeln!(out, "{} {what}, {of} of 1 host:", hits["count"])?,
        n => writeln!(out, "{} {what}, {of} of {n} hosts:", hits["count"])?,
    }
    for host in hosts {
        let rules = host["rules"].as_object().into_iter().flatten();
        let rules: Vec<String> = rules.map(|(rule, n)| format!("{rule} {n}")).collect();
        let to: Vec<&str> = list(host, "to").iter().map(text).collect();
        writeln!(
            out,
            "    {:<39} {:>6}  by {}; to {}",
            text(&host["host"]),
            host["count"],
            rules.join(", "),
            to.join(", ")
        )?;
    }
    let more = all.saturating_sub(hosts.len() as u64);
    if more > 0 {
        writeln!(out, "    and {more} more hosts")?;
    }
    Ok(())
}
