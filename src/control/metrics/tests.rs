use super::*;
use crate::config;
use crate::control::hoststack::{DecoyStatus, InbandStatus};
use crate::telemetry::WorkerCounters;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

fn ports() -> [PortInfo; 2] {
    ["lan", "uplink"].map(|side| PortInfo {
        side,
        interface: format!("{side}0"),
        mode: "copy",
        queues: 1,
        sockets: Vec::new(),
        gate: None,
    })
}

fn written(format: Format, hosts: Option<Loudest>) -> String {
    let text = "[lan]\nprefixes = [\"10.77.0.0/16\"]\n[[rule]]\nname = \"mine\"\naction = \"allow\"\nproto = \"tcp\"\ndport = 22\n";
    let config = config::parse(text, "p.toml", Path::new(".")).unwrap();
    let policy = Generation::first(&config.policy).unwrap();
    let worker = WorkerCounters::new(policy.rules().len());
    let lan = &worker.sides[0];
    lan.rx_bytes.add(1000);
    lan.forwarded_bytes.add(700);
    lan.rejected_bytes.add(60);
    lan.dropped_bytes.add(240);
    worker.unsent.add(3);
    worker.rules[0].packets.add(5);
    worker.health.burst(3);
    worker.health.time(Duration::from_micros(3));
    worker.health.pool.store(10, Relaxed);
    worker.health.transmit.store(20, Relaxed);
    worker.health.frames.store(100, Relaxed);
    worker.last_turn.store(4_000_000_000, Relaxed);
    let snapshot = Snapshot::take(&[Arc::new(worker)], &policy, &[7]);
    let source = Source {
        counters: &snapshot,
        ports: &ports(),
        policy: &policy,
        config: &ConfigInfo::of(&config),
        reloads: &ReloadStatus::default(),
        quarantined: 0,
        set_reloads: (0, 0),
        set_refused: &[("partners".to_owned(), true)],
        alerts_lost: 0,
        incidents_open: 3,
        findings: &[],
        sinks: &[],
        evidence: None,
        hosts,
        flows_limit: 1024,
        healthy: true,
        taken: Some(&TakenOver {
            gap_us: 61_500,
            waiting: [7, 2],
            ..TakenOver::default()
        }),
        decoys: DecoyStatus {
            open: 2,
            begun: 9,
            refused: 4,
            refused_host: 1,
            ..DecoyStatus::default()
        },
        inband: Some(InbandStatus {
            received: 70,
            ..InbandStatus::default()
        }),
        now: 4_500_000_000,
        uptime: 9.9,
    };
    String::from_utf8(super::text(&source, format).unwrap()).unwrap()
}

const COMMON: &[&str] = &[
    "portcullis_decoy_conversations 2",
    "portcullis_decoy_conversations_total 9",
    "portcullis_decoy_refused_total{bound=\"all\"} 4",
    "portcullis_decoy_refused_total{bound=\"host\"} 1",
    "portcullis_inband_received_frames_total 70",
    "portcullis_handover_taken 1",
    "portcullis_handover_gap_seconds 0.0615",
    "portcullis_handover_waiting_frames{port=\"uplink\"} 2",
    "portcullis_bytes_total{port=\"lan\",verdict=\"forward\"} 700",
    "portcullis_bytes_total{port=\"lan\",verdict=\"drop\"} 240",
    "portcullis_bytes_total{port=\"lan\",verdict=\"reject\"} 60",
    "portcullis_own_unsent_frames_total 3",
    "portcullis_rule_packets_total{rule=\"mine\"} 5",
    "portcullis_alerts_total{rule=\"mine\"} 7",
    "portcullis_rule_info{rule=\"mine\",order=\"1\",action=\"allow\",alert=\"none\",from=\"line 3\"} 1",
    "portcullis_burst_frames_sum 3",
    "portcullis_in_box_seconds_bucket{le=\"0.000002\"} 0",
    "portcullis_in_box_seconds_bucket{le=\"0.000004\"} 1",
    "portcullis_in_box_seconds_bucket{le=\"+Inf\"} 1",
    "portcullis_in_box_seconds_sum 0.000003",
    "portcullis_umem_frames{owner=\"receive\"} 70",
    "portcullis_umem_frames{owner=\"pool\"} 10",
    "portcullis_worker_heartbeat_age_seconds{worker=\"0\"} 0.5",
    "portcullis_set_refused{set=\"partners\"} 1",
    "portcullis_incidents_open 3",
    "portcullis_flows_limit 1024",
    "portcullis_uptime_seconds 9",
];

#[test]
fn both_formats_hold_every_series() {
    let (old, new) = (
        written(Format::Text, None),
        written(Format::OpenMetrics, None),
    );
    for line in COMMON {
        for text in [&old, &new] {
            assert!(text.lines().any(|there| there == *line), "{line}\n{text}");
        }
    }
    assert!(old.contains("portcullis_burst_frames_bucket{le=\"4\"} 1\n"));
    assert!(new.contains("portcullis_burst_frames_bucket{le=\"4.0\"} 1\n"));
    assert!(old.contains("# TYPE portcullis_bytes_total counter\n"));
    assert!(new.contains("# TYPE portcullis_bytes counter\n"));
    assert!(new.ends_with("\n# EOF\n") && !old.contains("EOF"));
    let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(samples(&old), samples(&new));
}

#[test]
fn addresses_are_labels_only_where_the_config_asks_for_them() {
    assert!(!written(Format::Text, None).contains("portcullis_host"));
    let loudest = Loudest {
        hosts: vec![("10.77.0.9".to_owned(), 12)],
        other: 4,
    };
    let text = written(Format::Text, Some(loudest));
    assert!(text.contains("portcullis_host_alerting_frames{host=\"10.77.0.9\"} 12\n"));
    assert!(text.contains("portcullis_host_alerting_frames{host=\"other\"} 4\n"));
}

#[test]
fn openmetrics_is_for_those_who_ask_for_it() {
    let prometheus =
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4";
    assert_eq!(Format::of_accept(Some(prometheus)), Format::OpenMetrics);
    for other in [None, Some("*/*"), Some("text/plain;version=0.0.4")] {
        assert_eq!(Format::of_accept(other), Format::Text);
    }
}
