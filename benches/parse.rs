//! What it costs to parse one frame, for the frames that a gate sees most.
//!
//! `cargo bench --bench parse`. An iteration is a burst of 64 different frames; the line `thrpt` counts frames, and its
//! inverse is the time for one.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::{PacketBuilder, VlanId};
use portcullis::frame::parse;

/// Frames in a burst.
const BURST: u16 = 64;
/// The shortest frame on the wire, without the FCS.
const SHORTEST: usize = 60;

const MACS: ([u8; 6], [u8; 6]) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);

/// The `n`th frame of a burst: its ports and addresses differ from those of the others.
type Build = fn(u16) -> Vec<u8>;

fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

fn address(n: u16) -> [u8; 4] {
    let [hi, lo] = n.to_be_bytes();
    [93, 184, hi, lo]
}

fn udp4(n: u16) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4([10, 77, 0, 9], address(n), 64);
    let mut frame = Vec::new();
    step.udp(40000 + n, 53)
        .write_to_vec(&mut frame, b"question")
        .expect("fits");
    padded(frame)
}

fn tcp4(n: u16) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv4([10, 77, 0, 9], address(n), 64);
    let mut frame = Vec::new();
    step.tcp(40000 + n, 443, 1, 1000)
        .ack(1)
        .write_to_vec(&mut frame, b"")
        .expect("fits");
    padded(frame)
}

fn vlan_udp4(n: u16) -> Vec<u8> {
    let step = PacketBuilder::ethernet2(MACS.0, MACS.1)
        .single_vlan(VlanId::try_new(n).expect("below 4096"))
        .ipv4([10, 77, 0, 9], address(n), 64);
    let mut frame = Vec::new();
    step.udp(40000 + n, 53)
        .write_to_vec(&mut frame, b"question")
        .expect("fits");
    padded(frame)
}

fn udp6(n: u16) -> Vec<u8> {
    let mut dst = [0x26; 16];
    dst[14..].copy_from_slice(&n.to_be_bytes());
    let step = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv6([0xfd; 16], dst, 64);
    let mut frame = Vec::new();
    step.udp(40000 + n, 53)
        .write_to_vec(&mut frame, b"question")
        .expect("fits");
    frame
}

fn tcp6(n: u16) -> Vec<u8> {
    let mut dst = [0x26; 16];
    dst[14..].copy_from_slice(&n.to_be_bytes());
    let step = PacketBuilder::ethernet2(MACS.0, MACS.1).ipv6([0xfd; 16], dst, 64);
    let mut frame = Vec::new();
    step.tcp(40000 + n, 443, 1, 1000)
        .ack(1)
        .write_to_vec(&mut frame, b"")
        .expect("fits");
    frame
}

fn mixed(n: u16) -> Vec<u8> {
    [udp4, tcp4, vlan_udp4, udp6, tcp6][usize::from(n * 7 % 5)](n)
}

fn parse_bursts(c: &mut Criterion) {
    let kinds: [(&str, Build); 6] = [
        ("udp4", udp4),
        ("tcp4", tcp4),
        ("vlan-udp4", vlan_udp4),
        ("udp6", udp6),
        ("tcp6", tcp6),
        ("mixed", mixed),
    ];
    let mut group = c.benchmark_group("parse");
    group.throughput(Throughput::Elements(BURST.into()));
    for (name, build) in kinds {
        let burst: Vec<Vec<u8>> = (0..BURST).map(build).collect();
        assert!(burst.iter().all(|frame| parse(frame).is_ok()));
        group.bench_function(name, |b| {
            b.iter(|| {
                for frame in &burst {
                    let _ = black_box(parse(black_box(frame)));
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parse_bursts);
criterion_main!(benches);
