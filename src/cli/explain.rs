//! `portcullis explain`.

use super::{ConfigFile, cannot, print_json};
use crate::policy::explain::{self, Explanation};
use crate::policy::table::Table;
use crate::policy::{Key, Side};
use clap::ValueEnum;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

#[derive(clap::Args)]
pub(super) struct Explain {
    #[command(flatten)]
    config: ConfigFile,
    /// The way the packet goes: out of the LAN, or into it
    #[arg(long, value_enum, default_value = "out")]
    dir: Dir,
    /// tcp, udp, icmp, icmpv6, or a protocol number
    #[arg(long, value_parser = protocol)]
    proto: u8,
    /// Source: address, or address and port (10.77.0.9:40000, [fd77::9]:40000)
    #[arg(long, value_parser = endpoint, value_name = "ADDR[:PORT]")]
    src: (IpAddr, u16),
    /// Destination: address, or address and port
    #[arg(long, value_parser = endpoint, value_name = "ADDR[:PORT]")]
    dst: (IpAddr, u16),
    /// ICMP or ICMPv6 type
    #[arg(long, default_value_t = 8)]
    icmp_type: u8,
    /// ICMP or ICMPv6 code
    #[arg(long, default_value_t = 0)]
    icmp_code: u8,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dir {
    Out,
    In,
}

impl Explain {
    pub(super) fn run(self) -> ExitCode {
        let key = match self.key() {
            Ok(key) => key,
            Err(e) => return cannot(e),
        };
        let config = match self.config.load() {
            Ok(config) => config,
            Err(code) => return code,
        };
        let explained = Table::compile(&config.policy)
            .map_err(|e| e.to_string())
            .and_then(|table| {
                explain::explain(&config.policy, &table, &key).map_err(|e| e.to_string())
            });
        match explained {
            Ok(explanation) if self.json => print_json(&explanation),
            Ok(explanation) => {
                print!("{}", human(&explanation));
                ExitCode::SUCCESS
            }
            Err(e) => cannot(e),
        }
    }

    fn key(&self) -> Result<Key, String> {
        let number = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip),
        };
        if self.src.0.is_ipv4() != self.dst.0.is_ipv4() {
            return Err(
                "--src and --dst are of different families; a packet has two addresses of one"
                    .into(),
            );
        }
        let icmp = matches!(self.proto, 1 | 58);
        let (sport, dport) = if icmp {
            (u16::from(self.icmp_type), u16::from(self.icmp_code))
        } else {
            (self.src.1, self.dst.1)
        };
        let side = match self.dir {
            Dir::Out => Side::Lan,
            Dir::In => Side::Uplink,
        };
        Ok(Key {
            src: number(self.src.0),
            dst: number(self.dst.0),
            sport,
            dport,
            proto: self.proto,
            side,
            v6: self.src.0.is_ipv6(),
        })
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
    if !explanation.also.is_empty() {
        text += &format!(
            "  would have matched after it: {}\n",
            explanation.also.join(", ")
        );
    }
    text
}

fn endpoint(text: &str) -> Result<(IpAddr, u16), String> {
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok((socket.ip(), socket.port()));
    }
    match text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        Ok(ip) => Ok((ip, 0)),
        Err(_) => Err("expected an address, or address:port; an IPv6 address with a port stands in brackets: [fd77::9]:443".into()),
    }
}

fn protocol(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "icmp" => Ok(1),
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "gre" => Ok(47),
        "esp" => Ok(50),
        "ah" => Ok(51),
        "icmpv6" => Ok(58),
        "sctp" => Ok(132),
        number => number.parse().map_err(|_| {
            "expected tcp, udp, icmp, icmpv6, gre, esp, ah, sctp, or a number from 0 to 255".into()
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_in_every_usual_form() {
        let v4: IpAddr = "10.0.0.1".parse().unwrap();
        let v6: IpAddr = "fd77::9".parse().unwrap();
        for (text, want) in [
            ("10.0.0.1:69", (v4, 69)),
            ("10.0.0.1", (v4, 0)),
            ("[fd77::9]:443", (v6, 443)),
            ("fd77::9", (v6, 0)),
            ("[fd77::9]", (v6, 0)),
        ] {
            assert_eq!(endpoint(text), Ok(want), "{text}");
        }
        for text in ["", "10.0.0", "10.0.0.1:99999", "host:25"] {
            assert!(endpoint(text).is_err(), "{text}");
        }
    }
}
