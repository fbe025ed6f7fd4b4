//! `portcullis explain`.

use super::{ConfigFile, cannot, print_json};
use crate::config::packet::Packet;
use crate::policy::explain::{self, Explanation};
use crate::policy::table::Table;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Explain {
    #[command(flatten)]
    config: ConfigFile,
    /// The way the packet goes, out of the LAN or into it: out, in
    #[arg(long, value_name = "DIR", default_value = "out")]
    dir: String,
    /// tcp, udp, icmp, icmpv6, another protocol's name, or its number
    #[arg(long)]
    proto: String,
    /// Source: 10.77.0.9:40000, [fd77::9]:40000, or the address alone for a protocol without ports
    #[arg(long, value_name = "ADDR[:PORT]")]
    src: String,
    /// Destination, in the same form
    #[arg(long, value_name = "ADDR[:PORT]")]
    dst: String,
    /// ICMP or ICMPv6 type; without it, the echo request
    #[arg(long, value_name = "TYPE")]
    icmp_type: Option<u8>,
    /// ICMP or ICMPv6 code; without it, 0
    #[arg(long, value_name = "CODE")]
    icmp_code: Option<u8>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Explain {
    pub(super) fn run(self) -> ExitCode {
        let packet = Packet {
            direction: &self.dir,
            proto: &self.proto,
            src: &self.src,
            dst: &self.dst,
            icmp_type: self.icmp_type,
            icmp_code: self.icmp_code,
            ..Packet::default()
        };
        let key = match packet.key() {
            Ok(key) => key,
            Err(e) => return cannot(e),
        };
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let table = match Table::compile(&config.policy) {
            Ok(table) => table,
            Err(e) => return cannot(e),
        };
        match explain::explain(&config.policy, &table, &key) {
            Ok(explanation) if self.json => print_json(&explanation),
            Ok(explanation) => {
                print!("{}", human(&explanation));
                ExitCode::SUCCESS
            }
            Err(e) => cannot(e),
        }
    }
}

fn human(explanation: &Explanation) -> String {
    let mut text = explanation.verdict.to_string();
    if let Some(reason) = explanation.reason {
        text += &format!(" ({reason})");
    }
    text += &format!(" by rule {}", explanation.rule);
    if let Some(level) = explanation.alert {
        text += &format!(", alert {level}");
    }
    text += &format!("\n  why: {}\n", explanation.why);
    if let Some(note) = explanation.note {
        text += &format!("  note: {note}\n");
    }
    if !explanation.also.is_empty() {
        text += &format!(
            "  would have matched after it: {}\n",
            explanation.also.join(", ")
        );
    }
    text
}
