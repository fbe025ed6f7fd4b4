//! What the tests have in common on the command line.

use ipnet::IpNet;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;
use traffic::flow::{Protocol, Ranges};
use traffic::pace::Rate;
use traffic::port::Wanted;
use traffic::search::Search;
use traffic::size::{self, Size};

/// A NIC, and the network namespace that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) namespace: Option<String>,
    pub(super) nic: String,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Place, String> {
        let (namespace, nic) = match text.split_once(':') {
            Some((namespace, nic)) => (Some(namespace.to_string()), nic),
            None => (None, text),
        };
        if nic.is_empty() || namespace.as_deref() == Some("") {
            return Err("expected NIC, or NETNS:NIC".into());
        }
        let nic = nic.to_string();
        Ok(Place { namespace, nic })
    }
}

/// The two ports of the tester.
#[derive(clap::Args)]
#[command(next_help_heading = "Ports")]
pub(super) struct Ports {
    /// The NIC on the LAN side of the box: frames are sent here
    #[arg(long, value_name = "[NETNS:]NIC")]
    pub(super) lan: Place,
    /// The NIC on the uplink side: frames arrive here
    #[arg(long, value_name = "[NETNS:]NIC")]
    pub(super) uplink: Place,
    /// How frames get into memory: `auto` takes zero copy where the driver has it
    #[arg(long, value_name = "MODE", default_value = "auto", value_parser = mode)]
    pub(super) mode: Wanted,
    #[command(flatten)]
    pub(super) threads: Threads,
    /// Use a NIC that belongs to a bridge or bond all the same
    #[arg(long)]
    pub(super) force: bool,
}

/// How threads run.
#[derive(clap::Args)]
pub(super) struct Threads {
    /// Cores of the threads: of the LAN port's, and of the uplink port's
    #[arg(long, value_name = "A[,B]", value_delimiter = ',', num_args = 1)]
    pub(super) cores: Vec<usize>,
    /// Threads never sleep: no wake-up is in a latency. By default where there are four cores or more
    #[arg(long)]
    pub(super) spin: bool,
}

/// What is sent.
#[derive(clap::Args)]
#[command(next_help_heading = "Traffic")]
pub(super) struct Traffic {
    /// Frame sizes with FCS, 64 to 1518, or `imix` (7 of 64, 4 of 594, 1 of 1518); by default those of RFC 2544 section 9.1, and IMIX
    #[arg(long, value_name = "SIZE", value_delimiter = ',')]
    pub(super) size: Vec<Size>,
    /// Hosts behind the LAN port
    #[arg(long, value_name = "PREFIX", default_value = "10.77.0.0/24")]
    pub(super) src: IpNet,
    /// Hosts behind the uplink port. RFC 2544 has 198.18.0.0/15 for that, which a firewall takes for bogus
    #[arg(long, value_name = "PREFIX", default_value = "93.184.216.0/24")]
    pub(super) dst: IpNet,
    /// Ports of the LAN hosts
    #[arg(long, value_name = "A[-B]", default_value = "1024-65535", value_parser = ports)]
    pub(super) sport: RangeInclusive<u16>,
    /// Ports of the uplink hosts
    #[arg(long, value_name = "A[-B]", default_value = "7", value_parser = ports)]
    pub(super) dport: RangeInclusive<u16>,
    /// `udp`, or `tcp`, whose connections are opened first; a TCP frame has 78 bytes or more
    #[arg(long, value_name = "PROTOCOL", default_value = "udp", value_parser = protocol)]
    pub(super) proto: Protocol,
    /// How many flows, spread over all of these
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(super) flows: u32,
    /// Send the frames of this capture instead, over and over: pcap or pcapng, 18 bytes appended to each
    #[arg(long, value_name = "FILE", conflicts_with = "size")]
    pub(super) capture: Option<PathBuf>,
}

/// How flows are opened, and which way frames go.
#[derive(clap::Args)]
#[command(next_help_heading = "Traffic")]
pub(super) struct Ways {
    /// Send both ways at once, the answers of the same flows from the uplink side
    #[arg(long, conflicts_with = "capture")]
    pub(super) both: bool,
    /// How fast flows are opened before the trials, frames a second
    #[arg(long, value_name = "RATE", default_value = "20k", value_parser = fixed)]
    pub(super) opening_rate: f64,
    /// Open no flows before the trials
    #[arg(long)]
    pub(super) no_opening: bool,
}

impl Traffic {
    pub(super) fn sizes(&self) -> Vec<Size> {
        if self.size.is_empty() {
            size::ALL.to_vec()
        } else {
            self.size.clone()
        }
    }

    pub(super) fn ranges(&self) -> Ranges {
        Ranges {
            src: self.src,
            dst: self.dst,
            sport: self.sport.clone(),
            dport: self.dport.clone(),
            protocol: self.proto,
        }
    }
}

/// How trials are made.
#[derive(clap::Args)]
#[command(next_help_heading = "Trials")]
pub(super) struct Trials {
    /// How long a trial is; RFC 2544 asks for 60s or more
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = humantime::parse_duration)]
    pub(super) duration: Duration,
    /// How long stragglers are waited for after it
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = humantime::parse_duration)]
    pub(super) settle: Duration,
    /// The part of the frames that may be lost; RFC 2544 allows none
    #[arg(long, value_name = "PART", default_value = "0", value_parser = part)]
    pub(super) tolerance: f64,
    /// A search ends when it knows the rate to this part of the highest
    #[arg(long, value_name = "PART", default_value = "1%", value_parser = part)]
    pub(super) resolution: f64,
    /// A rate with loss is tried so often again: for a tester that shares its machine
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) retries: u32,
}

impl Trials {
    pub(super) fn search(&self, rate: Rate) -> Search {
        Search {
            tolerance: self.tolerance,
            resolution: self.resolution,
            retries: self.retries,
            most: rate.fixed(),
        }
    }
}

/// How results are told.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Output {
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Write a page with plots too: one file, which opens without a network
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
}

fn mode(text: &str) -> Result<Wanted, String> {
    match text {
        "auto" => Ok(Wanted::Auto),
        "copy" => Ok(Wanted::Copy),
        "zero-copy" => Ok(Wanted::ZeroCopy),
        _ => Err("expected auto, copy or zero-copy".into()),
    }
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "udp" => Ok(Protocol::Udp),
        "tcp" => Ok(Protocol::Tcp),
        _ => Err("expected udp or tcp".into()),
    }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let number = |text: &str| {
        text.parse()
            .map_err(|_| "expected 7, or 1024-2047".to_string())
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    if first > last {
        return Err("write the lower one first".into());
    }
    Ok(first..=last)
}

/// `max`, or frames a second.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "max" => Ok(Rate::Max),
        _ => fixed(text).map(Rate::Fixed),
    }
}

/// Frames a second: `1500`, `100k`, `1.5M`.
pub(super) fn fixed(text: &str) -> Result<f64, String> {
    let (number, unit) = match text.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1e3),
        None => text
            .strip_suffix('M')
            .map_or((text, 1.0), |number| (number, 1e6)),
    };
    number
        .parse::<f64>()
        .ok()
        .map(|number| number * unit)
        .filter(|rate| (1.0..=1e9).contains(rate))
        .ok_or_else(|| "expected frames a second: 1500, 100k, 1.5M".into())
}

/// `0.001`, `0.1%`.
pub(super) fn part(text: &str) -> Result<f64, String> {
    let (number, unit) = text
        .strip_suffix('%')
        .map_or((text, 1.0), |text| (text, 0.01));
    number
        .parse::<f64>()
        .ok()
        .map(|number| number * unit)
        .filter(|part| (0.0..1.0).contains(part))
        .ok_or_else(|| "expected a part below 1, or a percentage".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_units_and_parts_may_be_percentages() {
        assert_eq!(rate("max"), Ok(Rate::Max));
        assert_eq!(rate("1.5M"), Ok(Rate::Fixed(1.5e6)));
        assert_eq!(fixed("100k"), Ok(1e5));
        assert_eq!(fixed("64"), Ok(64.0));
        assert_eq!(part("1%"), Ok(0.01));
        assert_eq!(part("0"), Ok(0.0));
        for wrong in ["", "k", "-5", "0", "nan", "fast"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert!(part("100%").is_err() && part("-1").is_err());
    }

    #[test]
    fn a_nic_may_be_in_a_namespace() {
        let place: Place = "lan:lan0".parse().unwrap();
        assert_eq!(
            (place.namespace.as_deref(), &*place.nic),
            (Some("lan"), "lan0")
        );
        let place: Place = "enp1s0".parse().unwrap();
        assert_eq!((place.namespace, &*place.nic), (None, "enp1s0"));
        assert!("lan:".parse::<Place>().is_err() && ":lan0".parse::<Place>().is_err());
    }

    #[test]
    fn ports_are_one_or_a_range() {
        assert_eq!(ports("7"), Ok(7..=7));
        assert_eq!(ports("1-3"), Ok(1..=3));
        assert!(ports("3-1").is_err() && ports("a").is_err() && ports("70000").is_err());
    }
}
