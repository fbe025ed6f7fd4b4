//! From a TOML file to a checked policy.
//!
//! ```text
//! text --raw--> keys and values with their places --policy--> Config (checked) --policy::Table--> compiled
//! ```
//! Every problem is collected, not the first alone, and says where it stands and what would be right.

mod address;
mod app;
pub mod baseline;
pub mod check;
mod decoy;
pub mod detect;
mod endpoint;
pub mod error;
pub mod evidence;
mod expect;
mod flags;
pub mod flows;
mod header;
pub mod hosts;
mod icmp;
mod inband;
pub mod judge;
mod limit;
mod link;
mod matching;
mod number;
pub mod packet;
mod places;
mod policy;
pub mod policy_tests;
pub mod quarantine;
mod raw;
mod rule;
mod section;
mod sections;
mod set;
mod set_file;
pub mod sinks;
mod size;
mod stats;
pub mod strict;
pub mod tunnels;
mod warn;

pub use decoy::Decoy;
pub use endpoint::token;
pub use error::{ConfigError, Problem};
pub use inband::{InBand, InBandSide};
pub use link::parse as parse_mac;
pub use places::Places;
pub use policy_tests::{TestFile, load as load_tests};
pub use set::{entry as set_entry, find as find_set};
pub use set_file::load as load_set;

use crate::policy::{Policy, PolicyTest};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A checked config.
#[derive(Clone, Debug)]
pub struct Config {
    /// `[bridge]`; `None` where the file has none: enough to check, explain and replay.
    pub bridge: Option<Bridge>,
    /// What is decided.
    pub policy: Policy,
    /// `[hosts]`: what machines are called.
    pub hosts: Vec<hosts::Host>,
    /// `[flows]`.
    pub flows: flows::Settings,
    /// `[metrics]`.
    pub metrics: Metrics,
    /// `[inband]`; `None` where the box has no address.
    pub inband: Option<InBand>,
    /// `[alerts]`.
    pub alerts: Alerts,
    /// `[evidence]`; `None` where no frame is kept.
    pub evidence: Option<evidence::Evidence>,
    /// `[detect]`.
    pub detect: detect::Settings,
    /// `[quarantine]`.
    pub quarantine: quarantine::Settings,
    /// `[decoy]`.
    pub decoy: Decoy,
    /// The `[[sink]]` entries.
    pub sinks: Vec<sinks::Sink>,
    /// `[control]`.
    pub control: Control,
    /// The `[[test]]` entries of the config itself.
    pub tests: Vec<PolicyTest>,
    /// Those of the files that `[[test]]` entries name, a file each.
    pub test_files: Vec<TestFile>,
    /// What is allowed and yet unlikely to be meant.
    pub warnings: Vec<Problem>,
    /// The text and its name, for problems that are found later.
    pub source: error::Source,
    /// Where rules and sets stand in the text.
    pub places: Places,
}

/// `[bridge]`: the two NICs and how frames pass between them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Interface towards the inside.
    pub lan: String,
    /// Interface towards the outside; not `lan`.
    pub uplink: String,
    /// How the sockets are bound.
    pub mode: Mode,
    /// How many queue pairs.
    pub queues: Queues,
    /// What the in-kernel gate does without a live process.
    pub on_failure: OnFailure,
    /// How old the heartbeat may be.
    pub watchdog: Duration,
    /// What a worker does when nothing comes.
    pub idle: Idle,
    /// The CPUs that workers are pinned to, in order; `None` leaves the choice to the program.
    pub cores: Option<Vec<usize>>,
    /// Bytes of a UMEM chunk: 2048 or 4096.
    pub chunk: u32,
    /// UMEM frames for each queue pair.
    pub frames: u32,
    /// Descriptors of each ring; a power of two.
    pub ring: u32,
    /// Whether the UMEM asks for huge pages (and goes without where there are none).
    pub huge_pages: bool,
    /// What happens to NIC offloads that would break a bridge.
    pub offloads: Offloads,
    /// Where the BPF file system is mounted.
    pub bpffs: PathBuf,
    /// Busy polling by the kernel; `None` for none.
    pub busy_poll: Option<BusyPoll>,
    /// A planned stop hands sockets and memory to the next process, where a service manager keeps them, and frames wait for it so long; `None`: they are lost.
    pub handover: Option<Duration>,
}

/// How AF_XDP sockets are bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The best that both NICs have.
    Auto,
    /// Driver mode, `XDP_ZEROCOPY`, or refuse to start.
    ZeroCopy,
    /// Driver mode, `XDP_COPY`.
    Copy,
    /// Generic (skb) mode.
    Generic,
}

/// How many queue pairs, and so workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queues {
    /// As many as both NICs have.
    Auto,
    /// This many, at least 1.
    Count(u16),
}

/// What the in-kernel gate does without a live process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnFailure {
    /// Drop.
    Closed,
    /// Hand every frame to the other NIC, unfiltered.
    Open,
}

/// What a worker does when nothing comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Poll on.
    Spin,
    /// Sleep in `poll` after a quiet time.
    Adaptive,
}

/// What happens to NIC offloads that would break a bridge (GRO, LRO, TSO, VLAN stripping).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offloads {
    /// They are switched off at start.
    Set,
    /// Start is refused with the command that switches them off.
    Check,
}

/// Busy polling by the kernel (`SO_PREFER_BUSY_POLL`, Linux 5.11).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyPoll {
    /// `SO_BUSY_POLL`, microseconds.
    pub usecs: u32,
    /// `SO_BUSY_POLL_BUDGET`, packets.
    pub budget: u32,
}

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where the HTTP page listens; `None` for nowhere.
    pub listen: Option<SocketAddr>,
    /// How many of the hosts that alert most have a series of their own.
    pub hosts: usize,
    /// The file with the token that it asks for; there always is one where other machines reach it.
    pub token_file: Option<PathBuf>,
}

/// `[alerts]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alerts {
    /// The file that alerts are appended to, one JSON object a line; `None` for standard output.
    pub file: Option<PathBuf>,
    /// When it is put aside.
    pub rotate: sinks::Rotate,
    /// How many lines may wait for it.
    pub queue: usize,
    /// How long repeats of one rule and host are counted and not repeated.
    pub window: Duration,
    /// Whether the names of hosts are looked up in DNS.
    pub reverse_dns: bool,
}

/// `[control]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The Unix socket that `status` and its like talk to.
    pub socket: PathBuf,
    /// The folder of what is kept across restarts.
    pub state: PathBuf,
    /// Whether the config is read again by itself when its file changes. The files of sets always are.
    pub watch: bool,
    /// Whether a crash leaves a core dump, which holds packets and tokens.
    pub core_dumps: bool,
}

impl Control {
    /// The socket of a config that names none.
    pub const SOCKET: &str = "/run/portcullis/control.sock";
    /// The folder of a config that names none.
    pub const STATE: &str = "/var/lib/portcullis";
}

impl Config {
    /// Every test that the policy must pass: those of the config, then those of the files that it names.
    pub fn all_tests(&self) -> impl Iterator<Item = &PolicyTest> {
        let files = self.test_files.iter().flat_map(|file| &file.tests);
        self.tests.iter().chain(files)
    }
}

/// Reads and checks a config file. Relative paths in it are relative to its directory.
///
/// # Errors
/// [`ConfigError`] with every problem found; the file itself may be what is missing.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let (text, name, dir) = read(path)?;
    parse(&text, &name, dir)
}

/// Where the gate of a config file is asked. The rest of the file may be wrong: a gate that runs is asked above all when a set of its
/// is broken.
///
/// # Errors
/// [`ConfigError`] where the file cannot be read, is not TOML, or says `[control]` wrongly.
pub fn control_socket(path: &Path) -> Result<PathBuf, ConfigError> {
    let (text, name, dir) = read(path)?;
    let mut reader = raw::Reader::new(&text, &name, dir);
    let mut root = reader.root(&text);
    let section = root.section("control", &mut reader);
    let control = sections::control(&mut reader, section);
    if reader.problems.is_empty() {
        Ok(control.socket)
    } else {
        Err(reader.into_error())
    }
}

/// The files that a config names for its sets and its tests, whatever else is wrong with it and with them.
///
/// # Errors
/// [`ConfigError`] where the file cannot be read, or is not TOML.
pub fn named_files(path: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let (text, name, dir) = read(path)?;
    let mut reader = raw::Reader::new(&text, &name, dir);
    // Says what is wrong with it.
    reader.root(&text);
    let Ok(root) = text.parse::<toml::Table>() else {
        return Err(reader.into_error());
    };
    let sets = root.get("sets").and_then(toml::Value::as_table);
    let sets = sets.into_iter().flat_map(|sets| sets.values());
    let tests = root.get("test").and_then(toml::Value::as_array);
    let tests = tests.into_iter().flatten();
    let files = sets
        .chain(tests)
        .filter_map(|value| value.get("file")?.as_str());
    Ok(files.map(|file| dir.join(file)).collect())
}

/// The alert file of a config file, whatever else is wrong with it; `None` where it names none.
///
/// # Errors
/// [`ConfigError`] where the file cannot be read, is not TOML, or says `[alerts]` wrongly.
pub fn alert_file(path: &Path) -> Result<Option<PathBuf>, ConfigError> {
    let (text, name, dir) = read(path)?;
    let mut reader = raw::Reader::new(&text, &name, dir);
    let mut root = reader.root(&text);
    let section = root.section("alerts", &mut reader);
    let alerts = sections::alerts(&mut reader, section);
    if reader.problems.is_empty() {
        Ok(alerts.file)
    } else {
        Err(reader.into_error())
    }
}

/// The text of a config file, what problems call it, and its directory.
fn read(path: &Path) -> Result<(String, String, &Path), ConfigError> {
    let name = path.display().to_string();
    match read_text(path) {
        Ok(text) => Ok((text, name, path.parent().unwrap_or(Path::new("")))),
        Err(error) => {
            let problem = Problem::of_file(name, format!("cannot read the config: {error}"));
            let help = "name an existing file that this user may read with `-c FILE`";
            Err(ConfigError {
                problems: vec![problem.help(help)],
            })
        }
    }
}

/// The longest config, bytes: a hundred thousand rules and more.
const LONGEST: u64 = 64 << 20;

/// A device or a pipe would be read for ever.
fn read_text(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, ErrorKind, Read};
    let about = std::fs::metadata(path)?;
    if !about.is_file() {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "it is not a regular file",
        ));
    }
    let mut text = String::new();
    std::fs::File::open(path)?
        .take(LONGEST + 1)
        .read_to_string(&mut text)?;
    if text.len() as u64 > LONGEST {
        let why = format!(
            "it is longer than {} MiB; put addresses into files of sets",
            LONGEST >> 20
        );
        return Err(Error::new(ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// Checks the text of a config. `name` is what problems call it; relative paths are relative to `dir`.
///
/// # Errors
/// [`ConfigError`] with every problem found, in the order of the text.
pub fn parse(text: &str, name: &str, dir: &Path) -> Result<Config, ConfigError> {
    let mut reader = raw::Reader::new(text, name, dir);
    match sections::config(&mut reader, text) {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => Err(reader.into_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_socket_is_found_in_a_config_that_is_otherwise_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("p.toml");
        let socket = |text: &str| {
            std::fs::write(&path, text).unwrap();
            assert!(load(&path).is_err());
            control_socket(&path)
        };
        let wrong = "[sets]\np = { file = \"none.txt\" }\n";
        let named = socket(&format!("{wrong}[control]\nsocket = \"c.sock\"\n"));
        assert_eq!(named.unwrap(), dir.path().join("c.sock"));
        let default = Path::new("/run/portcullis/control.sock");
        assert_eq!(socket(wrong).unwrap(), default);
        assert!(socket("[control]\nsocket = 7\n").is_err());
        assert!(socket("[control\n").is_err());
    }
}
