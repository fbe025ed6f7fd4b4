//! Where alert lines go, with what receives them for real: Alertmanager, rsyslogd, journald, web servers, full disks.
//!
//! `deploy/setup.sh test` installs the daemons; each is started here with a config of its own, on loopback or in a directory of
//! the test's.

mod alertmanager;
mod daemon;
mod docs;
mod file;
mod journald;
mod queue;
mod syslog;
mod vector;
mod webhook;

use portcullis::config;
use portcullis::control::alerts::{Incidents, Line};
use portcullis::control::sink::queue::SinkStatus;
use portcullis::control::sink::{self, Delivery, Sinks};
use portcullis::frame::{Meta, Net};
use portcullis::policy::{Generation, Side, Verdict};
use portcullis::telemetry::event::Snippet;
use portcullis::telemetry::{Cause, Event, Reason};
use std::path::Path;
use std::time::{Duration, Instant};

/// Long for a machine that does much else.
const LIMIT: Duration = Duration::from_secs(20);

/// Lines about TFTP, from 10.77.0.0 plus a number.
struct Lines(Incidents, Cause);

impl Lines {
    fn new() -> Lines {
        let text = "[lan]\nprefixes = [\"10.77.0.0/16\"]\n";
        let config = config::parse(text, "test", Path::new(".")).unwrap();
        let generation = Generation::first(&config.policy).unwrap();
        let slot = generation.roster().slot("tftp");
        let cause = Cause::Rule(slot.expect("the rule"));
        let all = Incidents::new(generation.in_force(), Duration::from_secs(60));
        let names = ["enp1s0".to_owned(), "enp2s0".to_owned()];
        Lines(all.with_interfaces(names), cause)
    }

    fn of(&mut self, host: u32) -> Line {
        let event = Event {
            time: 1_767_225_600_000_000_000,
            cause: self.1,
            verdict: Verdict::Drop(Reason::Rule),
            shadow: false,
            side: Side::Lan,
            frames: 1,
            len: 60,
            app: None,
            payload: Snippet::of(b"\0\x01tool\0octet\0"),
            meta: Meta {
                net: Net::V4,
                proto: 17,
                src: (0x0a4d_0000 + host).into(),
                dst: 0x5db8_d822,
                sport: 40_000,
                dport: 69,
                src_mac: [2, 0, 0, 0, (host >> 8) as u8, host as u8],
                dst_mac: [2, 0, 0, 0, 0, 1],
                ..Meta::NONE
            },
        };
        self.0.take(&event).unwrap()
    }

    fn send(&mut self, sinks: &Sinks, hosts: std::ops::RangeInclusive<u32>) {
        for host in hosts {
            sinks.write(self.of(host));
        }
    }
}

/// `10.77.0.0` plus a number, as it stands in a line.
fn host(n: u32) -> String {
    format!("10.77.{}.{}", n >> 8, n & 255)
}

/// The runtime of a control thread.
fn on_one_thread<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let done = runtime.block_on(test);
    runtime.shutdown_background();
    done
}

/// Starts the sinks of a config, with the alert file in `dir`.
fn start(dir: &Path, text: &str) -> (Sinks, Delivery) {
    let file = if text.contains("[alerts]") {
        String::new()
    } else {
        "[alerts]\nfile = \"alerts.jsonl\"\n".to_owned()
    };
    let config = match config::parse(&format!("{file}{text}"), "test", dir) {
        Ok(config) => config,
        Err(error) => panic!("{}", config::error::render(&error.problems, false)),
    };
    sink::open(&config.alerts, &config.sinks).unwrap().start()
}

fn status(sinks: &Sinks, name: &str) -> SinkStatus {
    let all = sinks.status();
    all.into_iter().find(|(n, _)| n == name).unwrap().1
}

/// Waits until `done` gives something.
async fn until<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(start.elapsed() < LIMIT, "{what} has not come");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until a sink has taken `n` lines.
async fn sent(sinks: &Sinks, name: &str, n: u64) {
    let start = Instant::now();
    while status(sinks, name).sent < n {
        assert!(start.elapsed() < LIMIT, "{:?}", status(sinks, name));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The hosts of the lines of a text, in order.
fn hosts(text: &str) -> Vec<String> {
    let host = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        line["src_ip"].as_str().unwrap().to_owned()
    };
    text.lines().map(host).collect()
}

/// Those of the hosts with these numbers.
fn numbered(numbers: std::ops::RangeInclusive<u32>) -> Vec<String> {
    numbers.map(host).collect()
}
