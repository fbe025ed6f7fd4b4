//! What passes passes as it came: byte for byte, once, in order, however odd it is.

use super::datagrams::fragments;
use super::lab::*;
use portcullis::policy::Side;

/// Ordinary frames of every kind, to be changed.
fn corpus() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (src, dst) in [
        ("10.77.0.9:40000", "93.184.216.34:443"),
        ("[fd77::9]:40000", "[2606:2800:220:1::34]:443"),
    ] {
        all.push(udp_with(src, dst, &[7; 60]));
        all.push(tcp_with(src, dst, SYN, (1, 0), &[]));
        all.push(tcp_with(src, dst, ACK | PSH, (2, 1), &[7; 60]));
        all.extend(fragments(&udp_with(src, dst, &[7; 200]), 9, &[64, 136]));
        let (from, to) = (end(src).ip.to_string(), end(dst).ip.to_string());
        let echo = if from.contains(':') { 128 } else { 8 };
        all.push(icmp(&from, &to, echo, 0, [0, 1, 0, 1], &[7; 40]));
        let quoted = udp(dst, src);
        all.push(icmp(
            &from,
            &to,
            if echo == 8 { 3 } else { 1 },
            1,
            [0; 4],
            packet(&quoted),
        ));
    }
    let tagged: Vec<_> = all
        .iter()
        .map(|frame| [&frame[..12], &[0x81, 0, 0x20, 5], &frame[12..]].concat())
        .collect();
    all.extend(tagged);
    let mut pppoe = all[0][..12].to_vec();
    let body = packet(&all[0]);
    pppoe.extend([0x88, 0x64, 0x11, 0, 0, 1]);
    pppoe.extend((body.len() as u16 + 2).to_be_bytes());
    pppoe.extend([0, 0x21]);
    pppoe.extend(body);
    all.push(pppoe);
    let arp = [0, 1, 8, 0, 6, 4, 0, 1];
    all.push([&[0xff; 6][..], &[2, 0, 0, 0, 0, 9, 8, 6], &arp, &[0; 38]].concat());
    all
}

/// A frame with some of its bytes changed, cut, or repeated.
fn mutant(seeded: &mut Seeded, corpus: &[Vec<u8>]) -> Vec<u8> {
    let mut frame = corpus[seeded.below(corpus.len() as u64) as usize].clone();
    for _ in 0..1 + seeded.below(4) {
        let at = seeded.below(frame.len() as u64) as usize;
        match seeded.below(8) {
            0 => frame.truncate(at.max(14)),
            1 => frame.insert(at, seeded.next() as u8),
            2 => frame[at] ^= 1 << seeded.below(8),
            3 => frame[at] = [0, 1, 0x7f, 0x80, 0xff][seeded.below(5) as usize],
            4 => frame.extend([seeded.next() as u8; 9]),
            // Near the headers, where most decisions are made.
            _ => {
                let at = 12 + seeded.below(40.min(frame.len() as u64 - 12)) as usize;
                frame[at] = seeded.next() as u8;
            }
        }
    }
    frame
}

fn is_fragment(frame: &[u8]) -> bool {
    portcullis::frame::parse(frame).is_ok_and(|meta| meta.frag != portcullis::frame::Frag::Whole)
}

const MUTANTS: usize = 1_000_000;

#[test]
fn a_million_mutants_pass_a_box_in_shadow_byte_for_byte_once_and_in_order() {
    let mut lab = Lab::new("[policy]\nshadow = true\n");
    let (corpus, mut seeded) = (corpus(), Seeded(42));
    let mut done = 0;
    while done < MUTANTS {
        let side = if seeded.below(2) == 0 {
            Side::Lan
        } else {
            Side::Uplink
        };
        let frames: Vec<_> = (0..250).map(|_| mutant(&mut seeded, &corpus)).collect();
        for frame in &frames {
            lab.arrive(0, side, frame);
        }
        lab.turn();
        assert!(lab.sent(side.other()) == frames, "after {done}");
        assert!(lab.sent(side).is_empty(), "nothing is answered");
        lab.turn();
        done += frames.len();
    }
    let snapshot = lab.snapshot();
    assert_eq!(snapshot.sides[0].rx + snapshot.sides[1].rx, MUTANTS as u64);
    assert!(
        snapshot.sides[0].shadow.0.len() > 10,
        "{:?}",
        snapshot.sides[0].shadow
    );
}

#[test]
fn of_mutants_what_passes_the_gate_is_as_it_was_sent_and_the_rest_has_a_reason() {
    let mut lab = Lab::new("");
    let (corpus, mut seeded) = (corpus(), Seeded(43));
    let (mut sent_in, mut passed) = (0u64, 0u64);
    for _ in 0..800 {
        let side = if seeded.below(2) == 0 {
            Side::Lan
        } else {
            Side::Uplink
        };
        let frames: Vec<_> = (0..200).map(|_| mutant(&mut seeded, &corpus)).collect();
        for frame in &frames {
            lab.arrive(0, side, frame);
        }
        lab.turn();
        // Each at most as often as it was sent; in order, but for fragments that have waited for their first.
        let mut left = frames.clone();
        let mut last = 0;
        for frame in lab.sent(side.other()) {
            let at = left.iter().position(|sent| *sent == frame);
            let at = at.expect("it was sent, and has not passed before");
            left.remove(at);
            assert!(at >= last || is_fragment(&frame), "out of order");
            last = last.max(at);
            passed += 1;
        }
        lab.sent(side);
        lab.turn();
        lab.settle();
        sent_in += frames.len() as u64;
    }
    let snapshot = lab.snapshot();
    assert_eq!(snapshot.sides[0].rx + snapshot.sides[1].rx, sent_in);
    assert!(passed > sent_in / 5, "{passed} of {sent_in}");
}
