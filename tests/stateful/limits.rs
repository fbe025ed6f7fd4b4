//! A table that is full, and hosts that want all of it.

use super::lab::*;
use portcullis::flow::{Overflow, Settings};
use portcullis::policy::Side;
use std::time::Duration;

fn small(size: usize, per_host: usize) -> Settings {
    Settings {
        per_host,
        adopt: Duration::ZERO,
        ..Settings::of_size(size)
    }
}

/// SYNs of one host to port 80 of many servers.
fn flood(lab: &mut Lab, host: &str, count: u32) {
    for n in 0..count {
        let dst = std::net::Ipv4Addr::from(0x5db8_0000 + n);
        let frame = tcp(
            &format!("{host}:{}", 1024 + n % 60_000),
            &format!("{dst}:80"),
            SYN,
            n,
            0,
        );
        lab.arrive(0, Side::Lan, &frame);
        if n % 64 == 63 {
            lab.turn();
            lab.sent(Side::Uplink);
        }
    }
    lab.turn();
    lab.sent(Side::Uplink);
    lab.turn();
}

#[test]
fn a_flood_of_one_host_costs_another_neither_its_flows_nor_new_ones() {
    let mut lab = Lab::with("", &small(4096, 4096), 1);
    let open = |lab: &mut Lab, port: u16| {
        let (src, dst) = (format!("10.77.0.10:{port}"), "93.184.216.34:443");
        assert!(lab.out(&tcp(&src, dst, SYN, 100, 0)));
        assert!(lab.back(&tcp(dst, &src, SYN | ACK, 500, 101)));
        assert!(lab.out(&tcp(&src, dst, ACK, 101, 501)));
    };
    for port in 0..50 {
        open(&mut lab, 20_000 + port);
    }
    flood(&mut lab, "10.77.0.9", 100_000);
    for port in 0..50 {
        let src = format!("10.77.0.10:{}", 20_000 + port);
        assert!(
            lab.back(&tcp("93.184.216.34:443", &src, ACK, 501, 101)),
            "{port}"
        );
        open(&mut lab, 30_000 + port);
    }
    let evicted = lab.workers[0].counters().flows.evicted.get();
    assert!(evicted > 90_000, "{evicted}");
    assert_eq!(lab.dropped("flow-table-full"), 0);
}

#[test]
fn packets_of_any_protocol_that_nobody_answers_make_room() {
    // More for one host than there are: which of its own has to go is another matter.
    let mut lab = Lab::with("", &small(1024, 100_000), 1);
    for n in 0..5000u32 {
        let src = std::net::Ipv4Addr::from(0x5db8_0000 + n).to_string();
        let frame = match n % 2 {
            0 => icmp(&src, "10.77.0.9", 8, 0, [0, 1, 0, 1], b"ping"),
            _ => {
                let mut other = udp(&format!("{src}:1"), "10.77.0.9:1");
                other[23] = 254;
                other
            }
        };
        let passed = lab.back(&frame);
        assert!(passed, "{n}: {:?}", lab.snapshot());
    }
    assert_eq!(lab.dropped("flow-table-full"), 0);
    assert!(lab.out(&tcp("10.77.0.10:1024", "93.184.216.34:80", SYN, 1, 0)));
}

#[test]
fn a_host_has_no_more_flows_than_it_may() {
    let mut lab = Lab::with("", &small(100_000, 500), 1);
    flood(&mut lab, "10.77.0.9", 5_000);
    let host = u128::from(u32::from(std::net::Ipv4Addr::new(10, 77, 0, 9)));
    // Half-open ones give way to new ones where they share a bucket; else the new one is refused.
    assert!(
        (490..=500).contains(&lab.flows.of_host(host)),
        "{}",
        lab.flows.of_host(host)
    );
    assert!(lab.dropped("host-flows") > 4_000);
    assert!(lab.out(&tcp("10.77.0.10:1024", "93.184.216.34:80", SYN, 1, 0)));
    lab.wait(Duration::from_secs(40));
    for _ in 0..20 {
        lab.wait(Duration::from_secs(2));
        for _ in 0..300 {
            lab.turn();
        }
    }
    assert_eq!((lab.flows.count(), lab.flows.of_host(host)), (0, 0));
}

#[test]
fn a_table_holds_what_it_is_made_for() {
    let mut lab = Lab::with("", &small(20_000, 20_000), 1);
    for host in 0..200 {
        for port in 0..100 {
            let src = format!("10.77.1.{host}:{}", 5000 + port);
            lab.arrive(0, Side::Lan, &udp(&src, "93.184.216.34:53"));
        }
        lab.turn();
        lab.sent(Side::Uplink);
        lab.turn();
    }
    // Each is answered, so that none may be thrown out.
    let counters = lab.workers[0].counters();
    assert_eq!(counters.flows.refused_full.get(), 0);
    let (opened, evicted) = (counters.flows.opened.get(), counters.flows.evicted.get());
    assert_eq!(lab.flows.count() as u64, opened - evicted);
    assert!(evicted < 20, "{evicted} of {opened}");
}

#[test]
fn a_flow_that_finds_no_room_gets_the_verdict_that_was_declared() {
    for overflow in [Overflow::Drop, Overflow::Allow] {
        let settings = Settings {
            overflow,
            ..small(1024, 1024)
        };
        let mut lab = Lab::with("", &settings, 1);
        let mut refused = 0;
        // Open connections, of which none may be thrown out, until some are refused.
        for n in 0..3000u32 {
            let src = format!("10.77.{}.{}:5000", n >> 8, n & 255);
            let dst = "93.184.216.34:443";
            let passed = lab.out(&tcp(&src, dst, SYN, 100, 0));
            if passed {
                lab.back(&tcp(dst, &src, SYN | ACK, 500, 101));
                assert!(lab.out(&tcp(&src, dst, ACK, 101, 501)), "{n}");
            }
            refused += u32::from(!passed);
        }
        let full = lab.workers[0].counters().flows.refused_full.get();
        assert!(full > 1000, "{full}");
        match overflow {
            Overflow::Drop => {
                assert_eq!(u64::from(refused), full);
                assert_eq!(lab.dropped("flow-table-full"), full);
            }
            Overflow::Allow => {
                assert_eq!((refused, lab.snapshot().sides[0].dropped_total()), (0, 0))
            }
        }
        lab.drops(Side::Lan, &udp("10.77.0.9:1", "93.184.216.34:69"), "rule");
    }
}
