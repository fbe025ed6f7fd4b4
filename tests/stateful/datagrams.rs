//! Fragments: all of a datagram get what its first got.

use super::lab::*;
use portcullis::policy::Side;
use std::net::IpAddr;
use std::time::Duration;

/// The datagram of `frame` in fragments whose data ends at these offsets, and at its end.
pub fn fragments(frame: &[u8], id: u16, cuts: &[usize]) -> Vec<Vec<u8>> {
    let v6 = frame[12..14] == [0x86, 0xdd];
    let header = if v6 { 54 } else { 34 };
    let data = &frame[header..];
    let mut ends = cuts.to_vec();
    ends.push(data.len());
    let mut start = 0;
    let mut all = Vec::new();
    for end in ends {
        all.push(fragment(
            frame,
            id,
            start,
            &data[start..end],
            end < data.len(),
        ));
        start = end;
    }
    all
}

/// The checksum of an IPv4 header (RFC 791 section 3.1).
pub fn header_sum(frame: &mut [u8]) {
    let (header, _) = etherparse::Ipv4Header::from_slice(&frame[14..]).unwrap();
    let sum = header.calc_header_checksum();
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
}

/// One fragment: the headers of `frame`, and `data` at `offset`.
pub fn fragment(frame: &[u8], id: u16, offset: usize, data: &[u8], more: bool) -> Vec<u8> {
    let mut out;
    if frame[12..14] == [0x86, 0xdd] {
        out = frame[..54].to_vec();
        let field = (offset as u16 | u16::from(more)).to_be_bytes();
        let next = out[20];
        out[20] = 44;
        out[18..20].copy_from_slice(&(8 + data.len() as u16).to_be_bytes());
        out.extend([next, 0, field[0], field[1], 0, 0]);
        out.extend(id.to_be_bytes());
    } else {
        out = frame[..34].to_vec();
        out[16..18].copy_from_slice(&(20 + data.len() as u16).to_be_bytes());
        out[18..20].copy_from_slice(&id.to_be_bytes());
        let field = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
        out[20..22].copy_from_slice(&field.to_be_bytes());
        header_sum(&mut out);
    }
    out.extend(data);
    out
}

const FAMILIES: [(&str, &str); 2] = [
    ("10.77.0.9:40000", "93.184.216.34"),
    ("[fd77::9]:40000", "[2606:2800:220:1::34]"),
];

/// A datagram of 200 bytes of data to this port.
fn datagram((src, dst): (&str, &str), port: u16) -> Vec<u8> {
    let data: Vec<u8> = (40..240).collect();
    udp_with(src, &format!("{dst}:{port}"), &data)
}

#[test]
fn every_fragment_of_a_datagram_gets_what_its_first_got_in_any_order() {
    // Every order of four.
    let orders: Vec<Vec<usize>> = (0..256)
        .map(|n| vec![n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6])
        .filter(|order| (0..4).all(|part| order.contains(&part)))
        .collect();
    assert_eq!(orders.len(), 24);
    for family in FAMILIES {
        let mut lab = Lab::new("");
        for (id, order) in orders.iter().enumerate() {
            for (port, passes) in [(5000, true), (69, false)] {
                let id = id as u16 * 2 + u16::from(passes);
                let parts = fragments(&datagram(family, port), id, &[64, 120, 160]);
                for part in order {
                    lab.arrive(0, Side::Lan, &parts[*part]);
                }
                lab.turn();
                lab.turn();
                let mut sent = lab.sent(Side::Uplink);
                let mut expected = if passes { parts } else { vec![] };
                sent.sort();
                expected.sort();
                assert_eq!(sent, expected, "{order:?} to {port}");
                lab.turn();
                assert_eq!(lab.workers[0].waiting(), 0);
            }
        }
        let snapshot = lab.snapshot();
        assert_eq!(snapshot.sides[0].dropped.get("rule"), Some(&96));
        assert_eq!(snapshot.sides[0].dropped_total(), 96);
        assert_eq!(lab.alerts().len(), 24, "one for each datagram");
    }
}

#[test]
fn a_later_fragment_without_its_first_is_held_for_a_moment_and_then_dropped() {
    for family in FAMILIES {
        let mut lab = Lab::new("");
        let parts = fragments(&datagram(family, 5000), 7, &[64]);
        lab.arrive(0, Side::Lan, &parts[1]);
        lab.turn();
        assert_eq!(
            (lab.workers[0].waiting(), lab.dropped("fragment-orphan")),
            (1, 0)
        );
        lab.wait(Duration::from_millis(240));
        assert_eq!(lab.workers[0].waiting(), 1);
        lab.wait(Duration::from_millis(20));
        assert_eq!(
            (lab.workers[0].waiting(), lab.dropped("fragment-orphan")),
            (0, 1)
        );
        assert!(lab.sent(Side::Uplink).is_empty());
        assert!(lab.out(&parts[0]), "the first alone passes");
        assert!(lab.out(&parts[1]), "and the rest, sent once more");
    }
}

#[test]
fn a_worker_that_comes_to_rest_holds_no_fragment_receives_nothing_and_has_all_its_frames() {
    let mut lab = Lab::new("");
    let parts = fragments(&datagram(FAMILIES[0], 5000), 7, &[64]);
    lab.arrive(0, Side::Lan, &parts[1]);
    lab.turn();
    let whole = datagram(FAMILIES[0], 5000);
    assert!(lab.out(&whole));
    lab.arrive(0, Side::Lan, &whole);
    let now = lab.now;
    assert_eq!(lab.workers[0].rest(now), 0);
    assert_eq!(
        (lab.workers[0].waiting(), lab.dropped("fragment-orphan")),
        (0, 1)
    );
    assert!(lab.sent(Side::Uplink).is_empty(), "it waits for another");
    assert_eq!(lab.workers[0].pool().len(), 511);
}

#[test]
fn held_fragments_are_bounded_and_one_sender_does_not_take_all_the_room() {
    let mut lab = Lab::new("");
    for id in 0..200 {
        let parts = fragments(&datagram(FAMILIES[0], 5000), id, &[64]);
        lab.arrive(0, Side::Lan, &parts[1]);
    }
    lab.turn();
    assert_eq!(
        (lab.workers[0].waiting(), lab.dropped("fragment-orphan")),
        (64, 136)
    );
    let parts = fragments(&datagram(("10.77.0.10:1", "93.184.216.34"), 5000), 1, &[64]);
    lab.arrive(0, Side::Lan, &parts[1]);
    lab.turn();
    lab.arrive(0, Side::Lan, &parts[0]);
    lab.turn();
    lab.turn();
    let mut sent = lab.sent(Side::Uplink);
    sent.sort();
    let mut expected = parts.clone();
    expected.sort();
    assert_eq!(sent, expected);
    for host in 20..60 {
        for id in 0..10 {
            let src = format!("10.77.0.{host}:1");
            let parts = fragments(&datagram((&src, "93.184.216.34"), 5000), id, &[64]);
            lab.arrive(0, Side::Lan, &parts[1]);
        }
    }
    lab.turn();
    assert_eq!(lab.workers[0].waiting(), 256);
    lab.settle();
    assert_eq!(lab.dropped("fragment-orphan"), 136 + 64 + 400);
    assert_eq!(lab.workers[0].pool().len(), 512);
}

#[test]
fn a_first_fragment_without_the_whole_transport_header_is_tiny_and_alerts() {
    for family in FAMILIES {
        let mut lab = Lab::new("");
        let (src, dst) = (family.0, format!("{}:80", family.1));
        let syn = tcp_with(src, &dst, SYN, (1, 0), &[0; 100]);
        for cut in [8, 16] {
            let parts = fragments(&syn, cut as u16, &[cut]);
            lab.drops(Side::Lan, &parts[0], "fragment-tiny");
            assert_eq!(lab.alerts(), ["fragment-tiny"]);
        }
        // Flags in a fragment of their own (RFC 1858 section 3.2.2).
        let flags = fragments(&syn, 9, &[8]).remove(1);
        lab.drops(Side::Lan, &flags, "fragment-tiny");
    }
}

#[test]
fn an_overlap_ends_the_datagram_and_a_duplicate_only_itself() {
    for family in FAMILIES {
        let mut lab = Lab::new("");
        let frame = datagram(family, 5000);
        let header = frame.len() - 208;
        let data = &frame[header..];
        let parts = fragments(&frame, 1, &[64, 128]);
        assert!(lab.out(&parts[0]));
        lab.drops(Side::Lan, &parts[0], "fragment-duplicate");
        assert!(lab.out(&parts[1]));
        lab.drops(Side::Lan, &parts[1], "fragment-duplicate");
        assert!(lab.out(&parts[2]), "the rest passes all the same");
        // Ports written over by a second first fragment (RFC 1858 section 3.1).
        let mut other = data[..64].to_vec();
        other[2..4].copy_from_slice(&69u16.to_be_bytes());
        assert!(lab.out(&fragment(&frame, 2, 0, &data[..64], true)));
        lab.drops(
            Side::Lan,
            &fragment(&frame, 2, 0, &other[..56], true),
            "fragment-overlap",
        );
        lab.drops(
            Side::Lan,
            &fragment(&frame, 2, 64, &data[64..], false),
            "fragment-overlap",
        );
        // And by a later one that reaches back (RFC 5722).
        assert!(lab.out(&fragment(&frame, 3, 0, &data[..64], true)));
        lab.drops(
            Side::Lan,
            &fragment(&frame, 3, 56, &data[56..], false),
            "fragment-overlap",
        );
        lab.drops(
            Side::Lan,
            &fragment(&frame, 3, 64, &data[64..], false),
            "fragment-overlap",
        );
    }
}

#[test]
fn an_atomic_fragment_is_judged_as_unfragmented() {
    let mut lab = Lab::new("");
    let atomic = |port| {
        let frame = datagram(FAMILIES[1], port);
        fragment(&frame, 1, 0, &frame[54..], false)
    };
    assert!(
        lab.out(&atomic(5000)) && lab.out(&atomic(5000)),
        "each by itself"
    );
    lab.drops(Side::Lan, &atomic(69), "rule");
}

#[test]
fn fragments_of_a_reply_pass_with_it_and_a_rule_on_fragments_holds_in_an_open_flow() {
    let text = "[policy]\ndefault = \"drop\"\n[[rule]]\nname = \"whole\"\nfragment = true\naction = \"drop\"\n\
        [[rule]]\nname = \"dns\"\nproto = \"udp\"\ndport = [53]\naction = \"allow\"\n";
    for (src, dst) in FAMILIES {
        let mut lab = Lab::new(text);
        let server = format!("{dst}:53");
        assert!(lab.out(&udp(src, &server)));
        let answer = udp_with(&server, src, &[7; 300]);
        for part in fragments(&answer, 3, &[104, 208]) {
            assert!(lab.back(&part));
        }
        let asks = udp_with(src, &server, &[7; 300]);
        for part in fragments(&asks, 4, &[104, 208]) {
            lab.drops(Side::Lan, &part, "rule");
        }
        assert!(lab.out(&udp(src, &server)));
    }
}

#[test]
fn fragments_of_two_datagrams_with_one_identification_do_not_mix() {
    let mut lab = Lab::new("");
    let tcp = |port: u16| {
        tcp_with(
            "10.77.0.9:40000",
            &format!("93.184.216.34:{port}"),
            SYN,
            (1, 0),
            &[0; 180],
        )
    };
    let forbidden = fragments(&tcp(6667), 5, &[64]);
    let allowed = fragments(&datagram(FAMILIES[0], 5000), 5, &[64]);
    let other_host = fragments(
        &datagram(("10.77.0.10:40000", "93.184.216.34"), 69),
        5,
        &[64],
    );
    lab.drops(Side::Lan, &forbidden[0], "rule");
    assert!(lab.out(&allowed[0]));
    lab.drops(Side::Lan, &other_host[0], "rule");
    assert!(lab.out(&allowed[1]));
    lab.drops(Side::Lan, &forbidden[1], "rule");
    lab.drops(Side::Lan, &other_host[1], "rule");
    assert!(matches!(end("10.77.0.9:1").ip, IpAddr::V4(_)));
}
