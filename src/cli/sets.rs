//! `portcullis sets`.

use super::{Gate, print_json};
use crate::config::set_entry;
use crate::control::socket::Request;
use serde_json::Value;
use std::process::ExitCode;

/// Columns of a list of entries.
const INDENT: &str = "    ";

#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Sets {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    gate: Gate,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

const EXAMPLES: &str = "Examples:
  portcullis sets list
  portcullis sets add mail_servers 10.0.0.25
  portcullis sets add partners 192.0.2.0/24 198.51.100.1-198.51.100.9 2001:db8::/32
  portcullis sets remove mail_servers 10.0.0.25

What is added is in force at once, and kept across restarts in sets.json in the folder of `[control] state`. A change that makes the config's own [[test]] entries fail is refused.";

#[derive(clap::Subcommand)]
enum Command {
    /// Show what each set holds: what the config or a file says, and what was added by command
    List,
    /// Add entries to a set of the running gate
    Add(Change),
    /// Take out entries that were added by command
    Remove(Change),
}

#[derive(clap::Args)]
struct Change {
    /// The set, as the config calls it
    #[arg(value_name = "SET")]
    set: String,
    /// Addresses, prefixes or ranges: 10.0.0.25, 10.0.0.0/24, 10.0.0.1-10.0.0.9
    #[arg(value_name = "ENTRY", required = true, value_parser = entry)]
    entries: Vec<String>,
}

/// Told before anybody is asked.
fn entry(text: &str) -> Result<String, String> {
    set_entry(text).map(|range| range.to_string())
}

impl Sets {
    pub(super) fn run(self) -> ExitCode {
        let request = match self.command {
            Command::List => Request::SetsList,
            Command::Add(Change { set, entries }) => Request::SetsAdd { set, entries },
            Command::Remove(Change { set, entries }) => Request::SetsRemove { set, entries },
        };
        let answer = match self.gate.request(&request) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        if self.json {
            return print_json(&answer);
        }
        match request {
            Request::SetsList => print!("{}", list(&answer)),
            _ => println!("{}", changed(&answer)),
        }
        ExitCode::SUCCESS
    }
}

fn words<'a>(answer: &'a Value, key: &str) -> Vec<&'a str> {
    let words = answer[key].as_array().into_iter().flatten();
    words.filter_map(Value::as_str).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn changed(answer: &Value) -> String {
    let (set, generation) = (text(&answer["set"]), &answer["generation"]);
    let mut done = Vec::new();
    for (key, words_for) in [
        ("added", "added"),
        ("removed", "removed"),
        ("already", "already there, nothing to do for"),
    ] {
        let entries = words(answer, key);
        if !entries.is_empty() {
            done.push(format!("{words_for} {}", entries.join(", ")));
        }
    }
    let rules = words(answer, "rules");
    let named = match rules.len() {
        0 => "no rule names this set, so nothing is decided otherwise".to_owned(),
        1 => format!("1 rule names it ({})", rules[0]),
        n => format!("{n} rules name it ({})", rules.join(", ")),
    };
    format!(
        "{set}: {}; {named}; in force from generation {generation} on, kept in {}",
        done.join("; "),
        text(&answer["kept_in"])
    )
}

fn list(answer: &Value) -> String {
    let mut out = String::new();
    for (name, set) in answer["sets"].as_object().into_iter().flatten() {
        let rules = words(set, "rules");
        let named = match rules.is_empty() {
            true => "no rule names it".to_owned(),
            false => format!("named by {}", rules.join(", ")),
        };
        out += &format!("@{name}: {named}\n");
        let (stated, added) = (words(set, "stated"), words(set, "added"));
        let from = set["file"].as_str().unwrap_or("the config");
        let all = set["entries"].as_u64().unwrap_or(0);
        if all > 0 {
            out += &format!("  from {from}: {all}\n");
            stated
                .iter()
                .for_each(|entry| out += &format!("{INDENT}{entry}\n"));
            let more = all.saturating_sub(stated.len() as u64);
            if more > 0 {
                out += &format!("{INDENT}and {more} more\n");
            }
        }
        if !added.is_empty() {
            out += &format!("  added by command: {}\n", added.len());
            added
                .iter()
                .for_each(|entry| out += &format!("{INDENT}{entry}\n"));
        }
        if all == 0 && added.is_empty() {
            out += "  empty\n";
        }
    }
    out + &format!(
        "\ngeneration {}; what is added by command is kept in {}\n",
        answer["generation"],
        text(&answer["kept_in"])
    )
}
