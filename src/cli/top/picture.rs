//! What the gate says at one moment, read from its answers. Whatever a packet, a DHCP request or a config wrote is made safe here, before
//! anything else sees it.

use crate::cli::alerts::table::safe;
use serde::de::Deserializer;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::time::{Instant, SystemTime};

/// The gate at one moment.
#[derive(Clone, Debug)]
pub(super) struct Picture {
    /// When it was taken.
    pub at: Instant,
    /// The same by the clock on the wall.
    pub time: SystemTime,
    pub status: Status,
    /// The last incidents, as the alert file has them, the latest first.
    pub incidents: Vec<Value>,
}

impl Picture {
    /// From the answers to [`Status`](crate::control::socket::Request::Status) and
    /// [`Incidents`](crate::control::socket::Request::Incidents).
    ///
    /// # Errors
    /// That they are not such answers: another program, or another version, is behind the socket.
    pub fn read(
        (at, time): (Instant, SystemTime),
        status: &Value,
        incidents: &Value,
    ) -> Result<Picture, String> {
        let strange = |what: &str| format!("what answers is no gate of this version ({what})");
        let status = Status::deserialize(made_safe(status)).map_err(|e| strange(&e.to_string()))?;
        let status = status.with_decoyed();
        let lines = incidents["incidents"].as_array();
        let lines = lines.ok_or_else(|| strange("it knows no incidents"))?;
        Ok(Picture {
            at,
            time,
            status,
            incidents: lines.iter().map(made_safe).collect(),
        })
    }
}

/// The same with every text and every name such that a terminal may print it.
pub(super) fn made_safe(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(safe(text)),
        Value::Array(values) => values.iter().map(made_safe).collect(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, v)| (safe(name), made_safe(v)));
            Value::Object(fields.collect())
        }
        other => other.clone(),
    }
}

/// A JSON object whose order says something.
#[derive(Clone, Debug)]
pub(super) struct InOrder<T>(pub Vec<(String, T)>);

impl<T> Default for InOrder<T> {
    fn default() -> Self {
        InOrder(Vec::new())
    }
}

impl<T> InOrder<T> {
    pub fn get(&self, name: &str) -> Option<&T> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value)
    }
}

impl<'de, T: DeserializeOwned> Deserialize<'de> for InOrder<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let fields = Map::deserialize(from)?.into_iter();
        let read = |(name, value)| Ok((name, serde_json::from_value(value)?));
        let fields: Result<Vec<_>, serde_json::Error> = fields.map(read).collect();
        fields.map(InOrder).map_err(serde::de::Error::custom)
    }
}

/// What is shown of [`crate::control::status::Status`].
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Status {
    pub version: String,
    pub pid: u32,
    pub uptime_s: u64,
    pub healthy: bool,
    pub shadow: bool,
    pub generation: u64,
    pub ports: InOrder<Port>,
    pub rules: InOrder<Rule>,
    pub workers: Vec<Worker>,
    #[serde(default)]
    pub config: Config,
    #[serde(default)]
    pub alerts_lost: u64,
    #[serde(default)]
    pub sinks: InOrder<Sink>,
    #[serde(default)]
    pub sets: InOrder<Set>,
    #[serde(default)]
    pub reloads: Reloads,
    #[serde(default)]
    pub quarantine: Vec<serde_json::Value>,
    #[serde(default)]
    pub inband: Inband,
}

/// The box's own address.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Inband {
    /// Frames that it was given.
    pub received: u64,
}

impl Status {
    /// What the gate's own stack was given is for decoys but for what its address got, and what is for decoys is of the LAN.
    fn with_decoyed(mut self) -> Status {
        let given: u64 = self
            .ports
            .0
            .iter()
            .map(|(_, port)| port.to_host_stack)
            .sum();
        let decoyed = given.saturating_sub(self.inband.received);
        for (_, port) in self.ports.0.iter_mut().filter(|(name, _)| name == "lan") {
            port.decoyed = decoyed;
        }
        self
    }
}

/// What became of other configs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reloads {
    pub error: Option<String>,
    pub confirm_until: Option<u64>,
}

/// Frames that came in by one port, and what became of them.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Port {
    pub interface: String,
    pub mode: String,
    pub rx: u64,
    pub rx_bytes: u64,
    pub forwarded: u64,
    pub forwarded_bytes: u64,
    pub dropped: InOrder<u64>,
    pub rejected: u64,
    #[serde(default)]
    pub shadow: InOrder<u64>,
    pub tx: u64,
    pub tx_failed: u64,
    #[serde(default)]
    pub replies: u64,
    #[serde(default)]
    pub to_host_stack: u64,
    /// Of these, frames for decoys.
    #[serde(skip)]
    pub decoyed: u64,
}

impl Port {
    /// Frames that did not pass.
    pub fn stopped(&self) -> u64 {
        self.dropped.0.iter().map(|(_, n)| n).sum::<u64>() + self.rejected + self.decoyed
    }

    /// Why frames did not leave, and how many; some of zero.
    pub fn reasons(&self) -> impl Iterator<Item = (&str, u64)> {
        let dropped = self.dropped.0.iter();
        let dropped = dropped.map(|(reason, count)| (reason.as_str(), *count));
        dropped.chain([
            ("rejected", self.rejected),
            ("to decoys", self.decoyed),
            ("not sent", self.tx_failed),
        ])
    }
}

/// A rule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rule {
    pub action: String,
    pub alert: Option<String>,
    pub from: String,
    pub packets: u64,
    pub bytes: u64,
    pub alerts: u64,
    pub shadow: bool,
    pub expired: bool,
}

/// A worker thread.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Worker {
    pub core: usize,
    pub heartbeat_ms: u64,
    pub turns: u64,
    pub busy_turns: u64,
}

/// Which config is in force.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Config {
    pub file: String,
    pub sha256: String,
}

/// Where alert lines go.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Sink {
    pub kind: String,
    pub state: String,
    pub waiting: u64,
    pub lost: u64,
    pub last_error: Option<String>,
}

/// A set that comes from a file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Set {
    pub error: Option<String>,
}
