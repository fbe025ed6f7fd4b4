//! `portcullis quarantine`.

use super::gate::Gate;
use super::{cannot, print_json};
use crate::control::quarantine::Ask;
use crate::control::socket::Request;
use crate::control::status::now;
use serde_json::Value;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Quarantine {
    /// An address, a MAC address, or a name of [hosts]; without one, who is in quarantine
    #[arg(value_name = "HOST")]
    host: Option<String>,
    /// How long: 30m, 1h, 7days [default: `for` of [quarantine], an hour]
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration, conflicts_with = "release")]
    time: Option<Duration>,
    /// A word for whoever reads the list
    #[arg(
        long,
        value_name = "TEXT",
        conflicts_with = "release",
        requires = "host"
    )]
    why: Option<String>,
    /// Let this host go
    #[arg(long, requires = "host")]
    release: bool,
    #[command(flatten)]
    gate: Gate,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

const HELP: &str = "Examples:
  portcullis quarantine                          who is in quarantine
  portcullis quarantine 10.77.0.9 --for 1h
  portcullis quarantine printer --why 'sends spam'
  portcullis quarantine 52:54:00:12:34:56
  portcullis quarantine --release 10.77.0.9

No IP packet passes the gate from or to an address in quarantine, of what was open neither; a MAC address is stopped as a sender. What [hosts] of the config knows of the machine goes with it: with ip and mac there, all of it. Inside the LAN it goes on. It is in force at once, survives a restart and ends by itself. A rule with `quarantine = \"1h\"` puts a host here when it alerts on it: its address and MAC address together.

[quarantine] of the config says who never is (`protect`), how many of a hundred hosts at once (`share`), and how long (`for`).";

impl Quarantine {
    pub(super) fn run(self) -> ExitCode {
        let ask = match (self.host, self.release) {
            (None, _) if self.time.is_some() => {
                return cannot("whom? portcullis quarantine HOST --for TIME");
            }
            (None, _) => Ask::List,
            (Some(host), true) => Ask::Release { host },
            (Some(host), false) => Ask::Put {
                host,
                seconds: self.time.map(|time| time.as_secs()),
                why: self.why,
            },
        };
        let answer = match self.gate.request(&Request::Quarantine { ask }) {
            Ok(answer) => answer,
            Err(code) => return code,
        };
        if self.json {
            return print_json(&answer);
        }
        print!("{}", human(&answer));
        ExitCode::SUCCESS
    }
}

fn human(answer: &Value) -> String {
    if answer["held"].is_object() {
        let held = &answer["held"];
        let mut out = format!("in quarantine: {}\n", line(held));
        if held["mac"].is_null() {
            out += "what it sends from another address, of IPv6 too, passes: its MAC address in quarantine stops all of that\n";
        }
        if answer["shadow"] == true {
            out += "THE BOX IS IN SHADOW: nothing is enforced, this neither\n";
        }
        return out;
    }
    let list = |key: &str| -> Vec<String> {
        let all = answer[key].as_array().into_iter().flatten();
        all.map(line).collect()
    };
    if answer["released"].is_array() {
        return format!("let go: {}\n", list("released").join("\nlet go: "));
    }
    let hosts = list("hosts");
    let (share, room) = (&answer["share"], &answer["room"]);
    match hosts.is_empty() {
        true => format!(
            "nobody is in quarantine; at most {room} hosts may be at once ({share} of a hundred that are seen)\n"
        ),
        false => format!(
            "{}\n\n{} of at most {room} at once ({share} of a hundred that are seen)\n",
            hosts.join("\n"),
            hosts.len()
        ),
    }
}

/// Who, until when, by whom and why.
pub(super) fn line(held: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let ips = held["ips"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(text);
    let who: Vec<String> = text(&held["name"])
        .into_iter()
        .chain(ips)
        .chain(text(&held["mac"]))
        .collect();
    let left = held["until"]
        .as_u64()
        .unwrap_or(0)
        .saturating_sub(now() / 1_000_000_000);
    let left = humantime::format_duration(Duration::from_secs(left));
    let by = match held["by"].as_str() {
        Some("command") | None => "by command".to_owned(),
        Some(rule) => format!("by the rule `{rule}`"),
    };
    let pair = if held["pair"] == true {
        " (together)"
    } else {
        ""
    };
    let why = held["why"]
        .as_str()
        .map_or(String::new(), |why| format!(": {why}"));
    format!("{}{pair}, {left} more, {by}{why}", who.join(" "))
}
