//! The top level, and the sections that are not policy: `[bridge]`, `[flows]`, `[metrics]`, `[inband]`, `[alerts]`, `[detect]`, `[decoy]`, `[[sink]]`, `[control]`.

use super::endpoint::token_file;
use super::raw::{Reader, Value};
use super::section::Section;
use super::{
    Alerts, Bridge, BusyPoll, Config, Control, Idle, Metrics, Mode, Offloads, OnFailure, Queues,
    decoy, detect, evidence, flows, inband, policy,
    policy_tests::{self, Entry},
    quarantine, sinks,
};
use std::path::PathBuf;
use std::time::Duration;
use toml::de::DeValue;

/// Reads a whole config. `None` where the text is not TOML, or a part has no usable value; the reader has the problems.
pub(super) fn config(reader: &mut Reader, text: &str) -> Option<Config> {
    let mut root = reader.root(text);
    if !reader.problems.is_empty() {
        return None;
    }
    let bridge = root
        .section("bridge", reader)
        .map(|section| bridge(reader, section));
    let (policy, hosts) = policy::policy(reader, &mut root);
    let section = root.section("flows", reader);
    let flows = flows::flows(reader, section);
    let section = root.section("metrics", reader);
    let metrics = metrics(reader, section);
    let section = root.section("inband", reader);
    let inband = inband::inband(reader, section, metrics.token_file.is_some());
    let section = root.section("alerts", reader);
    let alerts = alerts(reader, section);
    let section = root.section("detect", reader);
    let detect = detect::detect(reader, section, &policy.sets);
    let section = root.section("quarantine", reader);
    let quarantine = quarantine::quarantine(reader, section, &policy.sets);
    let section = root.section("decoy", reader);
    let decoy = decoy::decoy(reader, section);
    let sinks = root.take("sink");
    let sinks = sinks::sinks(reader, sinks);
    let section = root.section("evidence", reader);
    let evidence = evidence::evidence(reader, section);
    let section = root.section("control", reader);
    let control = control(reader, section);
    let (mut tests, mut test_files) = (Vec::new(), Vec::new());
    if let Some(value) = root.take("test") {
        for section in reader.sections(value, "test") {
            match policy_tests::read(reader, section) {
                Some(Entry::Test(test)) => tests.push(test),
                Some(Entry::File(file)) => test_files.push(file),
                None => {}
            }
        }
    }
    root.finish(reader);
    let bridge = match bridge {
        Some(None) => return None,
        Some(some) => some,
        None => None,
    };
    let (warnings, source) = (std::mem::take(&mut reader.warnings), reader.source.clone());
    Some(Config {
        bridge,
        policy,
        hosts,
        flows,
        metrics,
        inband,
        alerts,
        evidence,
        detect,
        quarantine,
        decoy,
        sinks,
        control,
        tests,
        test_files,
        warnings,
        source,
        places: std::mem::take(&mut reader.places),
    })
}

fn bridge(reader: &mut Reader, mut section: Section<'_>) -> Option<Bridge> {
    let header = section.span.clone();
    let mut get = |key| section.take(key);
    let (lan, uplink) = (get("lan"), get("uplink"));
    let lan_name = interface(reader, lan.as_ref(), "lan", &header);
    let uplink_name = interface(reader, uplink.as_ref(), "uplink", &header);
    if let (Some(lan), Some(uplink), Some(value)) = (&lan_name, &uplink_name, &uplink)
        && lan == uplink
    {
        let help = "name two interfaces: the gate stands between them";
        reader.error(
            value.span(),
            format!("`lan` and `uplink` are both \"{lan}\""),
            "the same interface",
            help,
        );
    }
    let modes = [
        ("auto", Mode::Auto),
        ("zero-copy", Mode::ZeroCopy),
        ("copy", Mode::Copy),
        ("generic", Mode::Generic),
    ];
    let mode = get("mode").map(|value| reader.word(&value, "mode", &modes));
    let queues = get("queues").map(|value| queues(reader, &value));
    let ways = [("closed", OnFailure::Closed), ("open", OnFailure::Open)];
    let on_failure = get("on_failure").map(|value| reader.word(&value, "on_failure", &ways));
    let watchdog = get("watchdog").map(|value| watchdog(reader, &value));
    let idle = get("idle").map(|value| {
        reader.word(
            &value,
            "idle",
            &[("spin", Idle::Spin), ("adaptive", Idle::Adaptive)],
        )
    });
    let cores = get("cores").map(|value| cores(reader, &value));
    let chunk = get("chunk").map(|value| chunk(reader, &value));
    let frames = get("frames").map(|value| reader.integer(&value, "frames", 64..=1 << 22));
    let ring = get("ring").map(|value| ring(reader, &value));
    let huge_pages = get("huge_pages").map(|value| reader.boolean(&value, "huge_pages"));
    let words = [("set", Offloads::Set), ("check", Offloads::Check)];
    let offloads = get("offloads").map(|value| reader.word(&value, "offloads", &words));
    let bpffs = get("bpffs").map(|value| reader.path(&value, "bpffs"));
    let busy_poll = get("busy_poll").map(|value| busy_poll(reader, value));
    let handover = get("handover").map(|value| handover(reader, &value));
    section.finish(reader);
    Some(Bridge {
        lan: lan_name?,
        uplink: uplink_name?,
        mode: or(mode, Mode::Auto)?,
        queues: or(queues, Queues::Auto)?,
        on_failure: or(on_failure, OnFailure::Closed)?,
        watchdog: or(watchdog, Duration::from_millis(200))?,
        idle: or(idle, Idle::Spin)?,
        cores: cores.map_or(Some(None), |cores| cores.map(Some))?,
        chunk: or(chunk, 4096)?,
        frames: or(frames, 16_384)?,
        ring: or(ring, 2048)?,
        huge_pages: or(huge_pages, true)?,
        offloads: or(offloads, Offloads::Set)?,
        bpffs: or(bpffs, PathBuf::from("/sys/fs/bpf"))?,
        busy_poll: busy_poll.map_or(Some(None), |busy_poll| busy_poll.map(Some))?,
        handover: or(handover, Some(Duration::from_secs(2)))?,
    })
}

/// The default for a key that is not there; `None` for one that has a fault, which is reported already.
fn or<T>(read: Option<Option<T>>, default: T) -> Option<T> {
    read.unwrap_or(Some(default))
}

/// A name that Linux takes for an interface: `dev_valid_name` in net/core/dev.c, `IFNAMSIZ` 16 with the final zero.
fn interface(
    reader: &mut Reader,
    value: Option<&Value<'_>>,
    key: &str,
    header: &std::ops::Range<usize>,
) -> Option<String> {
    let Some(value) = value else {
        let help = format!("add `{key} = \"enp1s0\"`; `ip link` lists the interfaces");
        reader.error(
            header.clone(),
            format!("[bridge] has no `{key}`"),
            "this section",
            help,
        );
        return None;
    };
    let name = reader.string(value, key)?;
    let letters = !name.contains(['/', ':']) && !name.contains(char::is_whitespace);
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || !letters {
        let help =
            "write a name of 1 to 15 bytes as `ip link` shows it, without `/`, `:` and spaces";
        reader.error(
            value.span(),
            format!("\"{name}\" is not a name for an interface"),
            "here",
            help,
        );
        return None;
    }
    Some(name)
}

fn queues(reader: &mut Reader, value: &Value<'_>) -> Option<Queues> {
    if value.get_ref().as_str() == Some("auto") {
        return Some(Queues::Auto);
    }
    if value.get_ref().is_str() {
        reader.error(
            value.span(),
            "`queues` must be \"auto\" or a number",
            "here",
            "write \"auto\" or a number from 1 to 1024",
        );
        return None;
    }
    reader
        .integer(value, "queues", 1..=1024)
        .map(|count| Queues::Count(count as u16))
}

/// A worker that sleeps wakes every 20 ms, and one that has a core to itself is seldom kept off it for as long again.
const SHORTEST_WATCHDOG: Duration = Duration::from_millis(50);
/// Longer, and nobody is watching.
const LONGEST_WATCHDOG: Duration = Duration::from_secs(60);

fn watchdog(reader: &mut Reader, value: &Value<'_>) -> Option<Duration> {
    let time = reader.duration(value, "watchdog")?;
    if (SHORTEST_WATCHDOG..=LONGEST_WATCHDOG).contains(&time) {
        return Some(time);
    }
    let message = format!("`watchdog` cannot be {}", humantime::format_duration(time));
    let help = "write a time from \"50ms\" to \"60s\": after so long without a sign of its worker a frame is not filtered any more, but dropped or bridged as `on_failure` says";
    reader.error(value.span(), message, "too short, or too long", help);
    None
}

/// A process that takes over is not ready sooner.
const SHORTEST_HANDOVER: Duration = Duration::from_millis(100);
/// What waits in the rings for longer is of no use to anybody.
const LONGEST_HANDOVER: Duration = Duration::from_secs(10);

fn handover(reader: &mut Reader, value: &Value<'_>) -> Option<Option<Duration>> {
    if value.get_ref().as_str() == Some("off") {
        return Some(None);
    }
    let time = reader.duration(value, "handover")?;
    if (SHORTEST_HANDOVER..=LONGEST_HANDOVER).contains(&time) {
        return Some(Some(time));
    }
    let message = format!("`handover` cannot be {}", humantime::format_duration(time));
    let help = "write a time from \"100ms\" to \"10s\": so long frames wait for the next process when the service is restarted; or \"off\"";
    reader.error(value.span(), message, "too short, or too long", help);
    None
}

fn cores(reader: &mut Reader, value: &Value<'_>) -> Option<Vec<usize>> {
    if !value.get_ref().is_array() {
        reader.error(
            value.span(),
            "`cores` must be a list of CPU numbers",
            "here",
            "write `cores = [0, 1]`",
        );
        return None;
    }
    let items = reader.list(value, "cores")?;
    items
        .iter()
        .map(|item| {
            reader
                .integer(item, "cores", 0..=4095)
                .map(|core| core as usize)
        })
        .collect()
}

fn chunk(reader: &mut Reader, value: &Value<'_>) -> Option<u32> {
    let chunk = reader.integer(value, "chunk", 2048..=4096)?;
    if ![2048, 4096].contains(&chunk) {
        let help = "write 4096, or 2048 where the driver is known to take full-size frames in it";
        reader.error(value.span(), "`chunk` must be 2048 or 4096", "here", help);
        return None;
    }
    Some(chunk)
}

fn ring(reader: &mut Reader, value: &Value<'_>) -> Option<u32> {
    let ring = reader.integer(value, "ring", 64..=1 << 16)?;
    if !ring.is_power_of_two() {
        let help = format!(
            "write {} or {}",
            ring.next_power_of_two() / 2,
            ring.next_power_of_two()
        );
        reader.error(value.span(), "`ring` must be a power of two", "here", help);
        return None;
    }
    Some(ring)
}

fn busy_poll(reader: &mut Reader, value: Value<'_>) -> Option<BusyPoll> {
    let mut section = reader.section(value, "busy_poll")?;
    let usecs = section
        .take("usecs")
        .map(|value| reader.integer(&value, "usecs", 1..=10_000));
    let budget = section
        .take("budget")
        .map(|value| reader.integer(&value, "budget", 1..=1024));
    section.finish(reader);
    Some(BusyPoll {
        usecs: or(usecs, 20)?,
        budget: or(budget, 64)?,
    })
}

fn metrics(reader: &mut Reader, section: Option<Section<'_>>) -> Metrics {
    let mut metrics = Metrics {
        listen: Some(([127, 0, 0, 1], 9155).into()),
        hosts: 0,
        token_file: None,
    };
    let Some(mut section) = section else {
        return metrics;
    };
    let token = section.take("token_file");
    let token_there = token.is_some();
    metrics.token_file = token.and_then(|value| token_file(reader, &value));
    if let Some(value) = section.take("listen") {
        match value.get_ref() {
            DeValue::String(text) if text == "off" => metrics.listen = None,
            DeValue::String(text) if text.parse::<std::net::SocketAddr>().is_ok() => {
                metrics.listen = text.parse().ok()
            }
            _ => {
                let help = "write an address and a port, such as \"127.0.0.1:9155\" or \"[::1]:9155\", or \"off\"";
                reader.error(
                    value.span(),
                    "`listen` is not an address and a port",
                    "here",
                    help,
                );
            }
        }
        let here = |address: &std::net::SocketAddr| address.ip().to_canonical().is_loopback();
        if !token_there && !metrics.listen.as_ref().is_none_or(here) {
            let help = "add `token_file = \"page.token\"`, a file with one word that whoever reads the page and the metrics must send; or listen on 127.0.0.1 or [::1]";
            reader.error(
                value.span(),
                "`listen` is an address that other machines reach, and no token is asked for",
                "not a loopback address",
                help,
            );
        }
    }
    let hosts = section
        .take("hosts")
        .and_then(|value| reader.integer(&value, "hosts", 0..=100));
    metrics.hosts = hosts.map_or(0, |hosts| hosts as usize);
    section.finish(reader);
    metrics
}

pub(super) fn alerts(reader: &mut Reader, section: Option<Section<'_>>) -> Alerts {
    let mut alerts = Alerts {
        file: None,
        rotate: sinks::Rotate::DEFAULT,
        queue: sinks::QUEUE as usize,
        window: Duration::from_secs(60),
        reverse_dns: false,
    };
    let Some(mut section) = section else {
        return alerts;
    };
    alerts.file = section
        .take("file")
        .and_then(|value| reader.path(&value, "file"));
    let window = section
        .take("window")
        .and_then(|value| reader.duration(&value, "window"));
    alerts.window = window.unwrap_or(alerts.window);
    let reverse_dns = section
        .take("reverse_dns")
        .and_then(|value| reader.boolean(&value, "reverse_dns"));
    alerts.reverse_dns = reverse_dns.unwrap_or(false);
    let rotate = section
        .take("rotate")
        .and_then(|value| sinks::rotate(reader, value));
    alerts.rotate = rotate.unwrap_or(alerts.rotate);
    let queue = section
        .take("queue")
        .and_then(|value| reader.integer(&value, "queue", 1..=1_000_000));
    alerts.queue = queue.map_or(alerts.queue, |queue| queue as usize);
    section.finish(reader);
    alerts
}

pub(super) fn control(reader: &mut Reader, section: Option<Section<'_>>) -> Control {
    let mut control = Control {
        socket: Control::SOCKET.into(),
        state: Control::STATE.into(),
        watch: true,
        core_dumps: false,
    };
    let Some(mut section) = section else {
        return control;
    };
    let mut path = |key| section.take(key).and_then(|value| reader.path(&value, key));
    let (socket, state) = (path("socket"), path("state"));
    let mut flag = |key| {
        section
            .take(key)
            .and_then(|value| reader.boolean(&value, key))
    };
    let (watch, core_dumps) = (flag("watch"), flag("core_dumps"));
    section.finish(reader);
    control.watch = watch.unwrap_or(control.watch);
    control.core_dumps = core_dumps.unwrap_or(control.core_dumps);
    control.socket = socket.unwrap_or(control.socket);
    control.state = state.unwrap_or(control.state);
    control
}
