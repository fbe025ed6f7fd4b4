//! What it costs to tell the application of a flow from its first payload: of each that a real client sent, and of a mix of them all.
//!
//! `cargo bench --bench app`. The payloads are those of `tests/data/app`; an iteration of the mix is one pass over them, and the inverse of its
//! line `thrpt` is the mean for one. At most 60 ns for each is the aim.

use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use portcullis::app::{Identity, identify_tcp, identify_udp};

type Identify = fn(&[u8]) -> Identity;

/// Name and bytes, in the order of the names.
fn payloads(protocol: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/app")
        .join(protocol);
    let files = std::fs::read_dir(folder).expect("the payloads of the tests");
    let mut payloads: Vec<_> = files
        .map(|file| {
            let path = file.expect("a file").path();
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            (name.into_owned(), std::fs::read(&path).expect("its bytes"))
        })
        .collect();
    payloads.sort();
    payloads
}

fn identify_payloads(c: &mut Criterion) {
    for (protocol, identify) in [("tcp", identify_tcp as Identify), ("udp", identify_udp)] {
        let payloads = payloads(protocol);
        let mut group = c.benchmark_group(format!("app/{protocol}"));
        for (name, bytes) in &payloads {
            group.bench_function(name, |b| b.iter(|| identify(black_box(bytes))));
        }
        group.throughput(Throughput::Elements(payloads.len() as u64));
        group.bench_function("mix", |b| {
            b.iter(|| {
                for (_, bytes) in &payloads {
                    black_box(identify(black_box(bytes)));
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, identify_payloads);
criterion_main!(benches);
