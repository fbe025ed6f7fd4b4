//! Each alert rule fires when its cause is made, on a live gate, with the shipped rules in a hurry (see [`rules::write_short`]).

use super::common::craft::{HOST, HOST4, Packet, ROUTER, SERVER4, TCP, UDP};
use super::common::gate::{config, get};
use super::common::{Gate, Lab, Wire, until};
use super::held::Held;
use super::rules;
use super::server::Prometheus;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// What no test can make here, and why. promtool's tests have each of them.
const NOT_MADE: [(&str, &str); 2] = [
    (
        "PortcullisWorkerSaturated",
        "a worker that is busy in 95 of 100 turns needs more frames than a packet socket sends on a shared core",
    ),
    (
        "PortcullisSlow",
        "a worker that is stopped between receiving and sending, at one of the turns that are sampled, is a matter of luck",
    ),
];

/// Scrapes, evaluation, `for`, and a machine that does much else.
const LIMIT: Duration = Duration::from_secs(40);

/// What the baseline drops with a low alert.
const SNMP: u16 = 161;

/// What every policy here lets out, and no detector looks into.
const NTP: u16 = 123;

const METRICS: &str = "[metrics]\nlisten = \"127.0.0.1:9155\"\n";

/// A lab with its Prometheus, and the alerts that have fired.
struct Watch<'lab> {
    lab: &'lab Lab,
    prometheus: Prometheus<'lab>,
    fired: BTreeSet<String>,
}

impl<'lab> Watch<'lab> {
    fn gate(&self, bridge: &str, more: &str) -> Gate<'lab> {
        self.changed(bridge, more, |text| text)
    }

    /// With a config that is changed by hand.
    fn changed(&self, bridge: &str, more: &str, change: impl Fn(String) -> String) -> Gate<'lab> {
        let text = config(self.lab, bridge, &format!("{METRICS}{more}"));
        let gate = Gate::with(self.lab, &change(text));
        self.scraped();
        gate
    }

    /// Waits until Prometheus has asked the gate that runs now, and again: what happens before the first time is no increase of a counter.
    fn scraped(&self) {
        let start = SystemTime::now().duration_since(UNIX_EPOCH);
        let start = start.expect("a time").as_secs_f64();
        let mut times = Vec::new();
        until("two scrapes", LIMIT, || {
            std::thread::sleep(Duration::from_millis(100));
            let asked = self
                .prometheus
                .query("timestamp(portcullis_healthy)")
                .ok()?;
            let last = *asked.first()?;
            if last > start && !times.contains(&last) {
                times.push(last);
            }
            (times.len() == 2).then_some(())
        });
    }

    /// None of these fires before its cause is made.
    fn quiet(&self, names: &[&str]) {
        for name in names {
            let firing = self.prometheus.firing(name);
            assert!(
                firing.is_empty(),
                "{name} fires without its cause: {firing:?}"
            );
        }
    }

    /// Waits until the alert fires with these labels, and reads what it says; `go_on` keeps the cause up.
    fn fires(&mut self, name: &str, labels: &[(&str, &str)], mut go_on: impl FnMut()) {
        let start = Instant::now();
        let has = |alert: &Value| {
            labels
                .iter()
                .all(|(key, value)| alert["labels"][key] == *value)
        };
        let alert = until(name, LIMIT, || {
            go_on();
            std::thread::sleep(Duration::from_millis(100));
            self.prometheus.firing(name).into_iter().find(has)
        });
        let (summary, description) = (
            alert["annotations"]["summary"].as_str().expect("a summary"),
            alert["annotations"]["description"]
                .as_str()
                .expect("a description"),
        );
        println!("{name} after {:.1?}: {summary}", start.elapsed());
        for text in [summary, description] {
            for wrong in ["<no value>", "<error", "%!", "{{"] {
                assert!(!text.contains(wrong), "{name}: {text}");
            }
        }
        self.fired.insert(name.to_owned());
    }

    fn fire(&mut self, names: &[(&str, &[(&str, &str)])]) {
        for (name, labels) in names {
            self.fires(name, labels, || ());
        }
    }
}

/// Forbidden frames of this many hosts.
fn tftp_of(hosts: std::ops::Range<u8>) -> Vec<Vec<u8>> {
    let frame = |host| Packet::out(UDP, 69).from([10, 77, 0, host]).frame();
    hosts.map(frame).collect()
}

#[test]
fn each_alert_fires_when_its_cause_is_made() {
    let Some(lab) = Lab::new() else { return };
    let prometheus = Prometheus::start(&lab);
    let mut watch = Watch {
        lab: &lab,
        prometheus,
        fired: BTreeSet::new(),
    };
    let (lan, uplink) = Wire::both(&lab);
    a_worker_or_the_control_thread_stands_still(&mut watch, &lan);
    all_is_in_shadow_and_telling_goes_wrong(&mut watch, &lan);
    flows_find_no_room(&mut watch, (&lan, &uplink));
    the_own_stack_has_more_to_do_than_it_may(&mut watch, &lan);
    frames_pass_unfiltered_and_a_config_is_refused(&mut watch, &lan);
    nothing_passes(&mut watch, &lan);
    assert_eq!(watch.prometheus.broken_rules(), [""; 0]);
    for (name, _) in NOT_MADE {
        assert!(watch.fired.insert(name.to_owned()), "{name} can be made");
    }
    assert_eq!(watch.fired, rules::alerts().into_iter().collect());
}

/// A gate that is well; then its worker stands still, then its control thread, then all of it is gone.
fn a_worker_or_the_control_thread_stands_still(watch: &mut Watch<'_>, lan: &Wire) {
    let gate = watch.gate("", "");
    for n in 0..50 {
        lan.send(&Packet::out(UDP, NTP).sport(20_000 + n).frame());
    }
    std::thread::sleep(Duration::from_secs(2));
    for name in rules::alerts() {
        watch.quiet(&[&name]);
    }

    let worker = Held::new(&gate, "worker-0");
    for n in 0..20_000 {
        lan.try_send(&Packet::out(UDP, NTP).sport(n).frame());
    }
    watch.fire(&[
        ("PortcullisReceiveRingFull", &[("port", "lan")]),
        ("PortcullisWorkerStuck", &[("worker", "0")]),
    ]);
    drop(worker);

    watch.quiet(&["PortcullisAlertEventsLost", "PortcullisObservationsLost"]);
    // As often as it takes: a worker that shares its core with much else receives few of them.
    for round in 0..20u16 {
        let control = Held::new(&gate, "portcullis");
        // Each of another machine, so that none is told as one more of the last.
        let mut frame = Packet::out(UDP, SNMP).frame();
        for n in 0..30_000u16 {
            frame[9..12].copy_from_slice(&[round as u8, (n >> 8) as u8, n as u8]);
            lan.try_send(&frame);
            lan.try_send(&Packet::out(UDP, NTP).sport(n).frame());
        }
        drop(control);
        let page = get(watch.lab, "/metrics").1;
        let lost = |name: &str| {
            page.lines()
                .any(|line| line.starts_with(name) && !line.ends_with(" 0"))
        };
        if lost("portcullis_alert_events_lost_total") && lost("portcullis_observations_lost_total")
        {
            break;
        }
    }
    watch.fire(&[
        ("PortcullisAlertEventsLost", &[]),
        ("PortcullisObservationsLost", &[]),
    ]);

    watch.quiet(&["PortcullisDown", "PortcullisKernelGateWithoutSocket"]);
    // Its in-kernel gate stays and lets nothing through.
    gate.end(Signal::SIGKILL);
    for host in 0..50 {
        lan.send(&Packet::out(UDP, NTP).sport(host).frame());
    }
    watch.fire(&[("PortcullisDown", &[])]);
    let _gate = watch.gate("", "");
    let no_socket = [("port", "lan"), ("verdict", "no-socket")];
    watch.fire(&[("PortcullisKernelGateWithoutSocket", &no_socket)]);
}

/// An open gate that hangs for a moment, and one that finds nonsense in its file.
fn frames_pass_unfiltered_and_a_config_is_refused(watch: &mut Watch<'_>, lan: &Wire) {
    for (role, interface) in [("lan", "lan0"), ("uplink", "up0")] {
        // Else the far end takes no frame that is handed to it in the kernel (veth_xdp_xmit).
        let on = format!("-K {interface} gro on");
        watch.lab.must(role, "ethtool", &on);
    }
    let gate = watch.gate("on_failure = \"open\"\nwatchdog = \"100ms\"\n", "");
    watch.quiet(&["PortcullisUnfiltered", "PortcullisConfigRefused"]);
    gate.signal(Signal::SIGSTOP);
    for _ in 0..60 {
        lan.send(&Packet::out(UDP, 69).frame());
        std::thread::sleep(Duration::from_millis(20));
    }
    gate.signal(Signal::SIGCONT);
    watch.fire(&[("PortcullisUnfiltered", &[("port", "lan")])]);
    std::fs::write(watch.lab.dir().join("portcullis.toml"), "[bridge\n").expect("a config");
    watch.fire(&[("PortcullisConfigRefused", &[])]);
    drop(gate);
    for (role, interface) in [("lan", "lan0"), ("uplink", "up0")] {
        watch
            .lab
            .must(role, "ethtool", &format!("-K {interface} gro off"));
    }
}

/// A box in shadow and in generic mode, whose alerts and evidence find no place.
fn all_is_in_shadow_and_telling_goes_wrong(watch: &mut Watch<'_>, lan: &Wire) {
    watch.quiet(&[
        "PortcullisShadow",
        "PortcullisPortGenericMode",
        "PortcullisRuleInShadow",
        "PortcullisRuleExpired",
        "PortcullisSetFileRefused",
        "PortcullisManyHighAlerts",
        "PortcullisBehaviourFound",
        "PortcullisAlertsLost",
        "PortcullisSinkFailing",
        "PortcullisSinkLosing",
        "PortcullisEvidenceFailing",
    ]);
    let (partners, kept) = (
        watch.lab.dir().join("partners.txt"),
        watch.lab.dir().join("kept"),
    );
    std::fs::write(&partners, "198.51.100.1\n").expect("a set file");
    let more = format!(
        r#"
[policy]
shadow = true

[[rule]]
name   = "partners-only"
proto  = "udp"
dport  = 4000
dst    = "!@partners"
action = "drop"
shadow = true

[[rule]]
name   = "visitor"
src    = "10.77.0.99"
action = "allow"
ttl    = "1s"

[detect]
icmp_tunnel = {{ echoes = 5 }}

[evidence]
dir = "{}"

[[sink]]
kind      = "syslog"
name      = "dead"
address   = "127.0.0.1:6514"
transport = "tcp"
queue     = 3
"#,
        kept.display()
    );
    let file = format!("file = \"{}/alerts.jsonl\"", watch.lab.dir().display());
    let gate = watch.changed("mode = \"generic\"\n", &more, |text| {
        // Every write to it finds no space (full(4)).
        text.replace(&file, "file = \"/dev/full\"\nqueue = 10")
            .replace(
                "[sets]\n",
                "[sets]\npartners = { file = \"partners.txt\" }\n",
            )
    });
    std::fs::remove_dir_all(&kept).expect("the folder of the captures");
    std::fs::write(&kept, "").expect("a file in its place");
    std::fs::write(&partners, "198.51.100.1/33\n").expect("a set file");
    for frame in tftp_of(10..60) {
        lan.send(&frame);
    }
    for n in 0..40 {
        lan.send(&echo(n));
    }
    watch.fire(&[
        ("PortcullisShadow", &[]),
        ("PortcullisPortGenericMode", &[("port", "uplink")]),
        ("PortcullisRuleInShadow", &[("rule", "partners-only")]),
        ("PortcullisRuleExpired", &[("rule", "visitor")]),
        ("PortcullisSetFileRefused", &[("set", "partners")]),
        (
            "PortcullisManyHighAlerts",
            &[("rule", "tftp"), ("alert", "high")],
        ),
        ("PortcullisBehaviourFound", &[("detector", "icmp-tunnel")]),
        ("PortcullisAlertsLost", &[]),
        ("PortcullisSinkLosing", &[("sink", "dead")]),
        ("PortcullisSinkFailing", &[("sink", "dead")]),
        ("PortcullisEvidenceFailing", &[]),
    ]);
    let would = "sum by (reason) (rate(portcullis_shadow_frames_total[60s])) > 0";
    assert!(!watch.prometheus.query(would).expect("an answer").is_empty());
    drop(gate);
}

/// A ping whose payload is each time another (RFC 792).
fn echo(n: u16) -> Vec<u8> {
    let payload: Vec<u8> = (0..200u32)
        .map(|at| (((at + 1) * (u32::from(n) * 7919 + 104_729)) >> 7) as u8)
        .collect();
    let mut frame = Vec::new();
    etherparse::PacketBuilder::ethernet2(HOST, ROUTER)
        .ipv4(HOST4.octets(), SERVER4.octets(), 64)
        .icmpv4_echo_request(7, n)
        .write(&mut frame, &payload)
        .expect("a frame");
    frame
}

/// The smallest table, and hosts whose flows are all answered, so that none gives way to a new one.
fn flows_find_no_room(watch: &mut Watch<'_>, (lan, uplink): (&Wire, &Wire)) {
    watch.quiet(&[
        "PortcullisFlowTableNearlyFull",
        "PortcullisFlowTableFull",
        "PortcullisHostFlowsRefused",
    ]);
    let gate = watch.gate("", "[flows]\nsize = 1024\nper_host = 200\n");
    let converse = |host, ports: std::ops::Range<u16>| {
        for port in ports.clone() {
            let ask = Packet::out(UDP, NTP).from([10, 77, 0, host]).sport(port);
            lan.send(&ask.frame());
        }
        // Not before the gate knows what is answered.
        std::thread::sleep(Duration::from_millis(50));
        for port in ports {
            let mut answer = Packet::back(UDP, NTP);
            (answer.dst4, answer.dport) = ([10, 77, 0, host].into(), port);
            uplink.send(&answer.frame());
        }
    };
    for host in 10..16 {
        converse(host, 10_000..10_250);
    }
    let mut next = 20_000;
    let more = || {
        next += 20;
        // One that has all that it may, and others that would take the last free places.
        converse(10, next..next + 20);
        converse(200 + (next / 20 % 8) as u8, next..next + 20);
    };
    watch.fires("PortcullisFlowTableFull", &[("why", "full")], more);
    watch.fire(&[
        ("PortcullisHostFlowsRefused", &[("why", "host")]),
        ("PortcullisFlowTableNearlyFull", &[]),
    ]);
    drop(gate);
}

/// Hosts begin more conversations than there is room for, and more than are taken note of; and somebody who may not asks the box.
fn the_own_stack_has_more_to_do_than_it_may(watch: &mut Watch<'_>, lan: &Wire) {
    watch.quiet(&[
        "PortcullisDecoysRefused",
        "PortcullisDecoysUnreported",
        "PortcullisInbandRefused",
    ]);
    const ODD: u16 = 4444;
    let more = r#"
[decoy]
at_most    = 1024
for_a_host = 32
deadline   = "1s"
silence    = "1s"
rate       = 1000000

[[rule]]
name   = "odd"
proto  = "udp"
dport  = 4444
action = "decoy"
decoy  = "raw"
alert  = "low"

[inband]
address = "10.77.0.2/24"
mac     = "02:00:00:00:00:fe"
allow   = ["10.77.0.9"]
"#;
    let gate = watch.gate("", more);
    let hello = |host: u8, port: u16| {
        let packet = Packet::out(UDP, ODD).from([10, 77, 0, host]).sport(port);
        packet.payload(b"hello").frame()
    };
    let begin = |ports: u16| {
        for host in 10..50 {
            for port in 0..ports {
                lan.try_send(&hello(host, 10_000 + port));
            }
            // What else a LAN does: a gate that lets nothing out is another cause.
            lan.try_send(&Packet::out(UDP, NTP).sport(20_000).frame());
            // The stack looks once in a while, and a ring has room for few.
            std::thread::sleep(Duration::from_millis(3));
        }
    };
    // A host may have half of these.
    begin(64);
    watch.fire(&[("PortcullisDecoysRefused", &[("bound", "host")])]);
    let unreported = || {
        let page = get(watch.lab, "/metrics").1;
        page.lines().any(|line| {
            line.starts_with("portcullis_decoy_unreported_total") && !line.ends_with(" 0")
        })
    };
    for _ in 0..10 {
        let control = Held::new(&gate, "portcullis");
        let held = Instant::now();
        while held.elapsed() < Duration::from_secs(4) {
            begin(32);
        }
        drop(control);
        if unreported() {
            break;
        }
    }
    watch.fire(&[("PortcullisDecoysUnreported", &[])]);
    for n in 0..50 {
        let mut ask = Packet::out(TCP, 9155).from([10, 77, 0, 99]).sport(n + 1024);
        ask.dst4 = [10, 77, 0, 2].into();
        let mut frame = ask.frame();
        frame[..6].copy_from_slice(&[2, 0, 0, 0, 0, 0xfe]);
        lan.send(&frame);
    }
    let refused = [("port", "lan"), ("reason", "inband-refused")];
    watch.fire(&[("PortcullisInbandRefused", &refused)]);
    drop(gate);
}

/// First nothing may pass, then nothing can: the uplink port is down.
fn nothing_passes(watch: &mut Watch<'_>, lan: &Wire) {
    watch.quiet(&["PortcullisNothingForwarded", "PortcullisTransmitFailures"]);
    let some = || {
        for n in 0..20 {
            lan.try_send(&Packet::out(UDP, NTP).sport(n).frame());
        }
    };
    let policy = "[policy]\nprofile = \"none\"\ndefault = \"drop\"\n";
    let gate = watch.gate("", policy);
    let port = [("port", "lan")];
    watch.fires("PortcullisNothingForwarded", &port, some);
    drop(gate);
    let gate = watch.gate("", "");
    watch.lab.ip("gate", "link set gu0 down");
    watch.fires("PortcullisTransmitFailures", &port, some);
    drop(gate);
    watch.lab.ip("gate", "link set gu0 up");
    // All those before may be too long ago on a slow machine.
    let (lab, text) = (watch.lab, config(watch.lab, "", METRICS));
    let mut running = None;
    watch.fires("PortcullisRestarting", &[], || {
        drop(running.take());
        running = Some(Gate::with(lab, &text));
        std::thread::sleep(Duration::from_secs(4));
    });
}
