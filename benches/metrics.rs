//! What a scrape costs, by the number of rules. `cargo bench --bench metrics`; the aim is at most 10 ms at 10,000.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portcullis::config;
use portcullis::control::metrics::{Format, Source, text};
use portcullis::control::snapshot::Snapshot;
use portcullis::control::status::{ConfigInfo, PortInfo};
use portcullis::policy::Generation;
use portcullis::telemetry::WorkerCounters;
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

fn scrape(c: &mut Criterion) {
    let mut group = c.benchmark_group("scrape");
    for rules in [10, 1_000, 10_000] {
        let each = |n: usize| {
            format!(
                "[[rule]]\nname = \"rule-{n}\"\naction = \"drop\"\nproto = \"udp\"\ndport = {}\ndst = \"10.{}.{}.0/24\"\n",
                1 + n % 60_000,
                n >> 8 & 255,
                n & 255
            )
        };
        let text_of: String = (0..rules).map(each).collect();
        let config = config::parse(&text_of, "bench", Path::new(".")).expect("a config");
        let policy = Generation::first(&config.policy).expect("a policy");
        let worker = Arc::new(WorkerCounters::new(policy.rules().len()));
        let ports = ["lan", "uplink"].map(|side| PortInfo {
            side,
            interface: side.to_owned(),
            mode: "copy",
            queues: 1,
            sockets: Vec::new(),
            gate: None,
        });
        let info = ConfigInfo::of(&config);
        for (name, format) in [("text", Format::Text), ("openmetrics", Format::OpenMetrics)] {
            group.bench_function(BenchmarkId::new(name, rules), |b| {
                b.iter(|| {
                    let snapshot = Snapshot::take(std::slice::from_ref(&worker), &policy, &[]);
                    let source = Source {
                        counters: &snapshot,
                        ports: &ports,
                        policy: &policy,
                        config: &info,
                        reloads: &portcullis::control::reload::ReloadStatus::default(),
                        quarantined: 0,
                        set_reloads: (0, 0),
                        set_refused: &[],
                        alerts_lost: 0,
                        incidents_open: 0,
                        findings: &[],
                        sinks: &[],
                        evidence: None,
                        hosts: None,
                        flows_limit: 1,
                        healthy: true,
                        taken: None,
                        decoys: Default::default(),
                        inband: None,
                        now: 0,
                        uptime: 0.0,
                    };
                    black_box(text(&source, format).expect("metrics"))
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, scrape);
criterion_main!(benches);
