//! Each detector by observations that are made up; with real tools: `tests/detectors.rs`.

use super::*;
use crate::telemetry::observe::{DOMAIN, Echo, Question};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
const TCP: u8 = 6;
const UDP: u8 = 17;

struct Lan {
    detectors: Detectors,
    now: u64,
    found: Vec<Finding>,
}

impl Lan {
    fn new() -> Lan {
        Lan::with("")
    }

    fn with(text: &str) -> Lan {
        let config = crate::config::parse(text, "test", std::path::Path::new("."));
        Lan {
            detectors: Detectors::new(config.unwrap().detect),
            now: 1000 * HOUR,
            found: Vec::new(),
        }
    }

    fn see(&mut self, host: u8, what: What) {
        let host = Host {
            address: 0x0a4d_0000 + u128::from(host),
            v6: false,
            mac: [2, 0, 0, 0, 0, host],
            router: [2, 0, 0, 0, 0, 1],
        };
        self.see_of(host, what);
    }

    fn see_of(&mut self, host: Host, what: What) {
        let seen = Observation {
            wall: self.now,
            steady: self.now,
            host,
            what,
        };
        self.found.extend(self.detectors.take(&seen));
    }

    fn opens(&mut self, host: u8, address: u128, port: u16) {
        self.opens_by(host, address, port, TCP);
    }

    fn opens_by(&mut self, host: u8, address: u128, port: u16, proto: u8) {
        let peer = Peer {
            address,
            port,
            proto,
        };
        let blocked = false;
        self.see(host, What::Opened { peer, blocked });
    }

    fn connects(&mut self, host: u8, address: u128, port: u16) {
        self.opens(host, address, port);
        let peer = Peer {
            address,
            port,
            proto: TCP,
        };
        self.see(host, What::Answered(peer));
    }

    fn asks(&mut self, host: u8, sub: &str, domain: &str) {
        let mut question = Question {
            server: 9,
            hash: fnv(sub),
            length: sub.len() as u8,
            longest: sub.split('.').map(str::len).max().unwrap_or(0) as u8,
            entropy: bits(sub),
            kind: 1,
            domain: [0; DOMAIN],
        };
        question.domain[..domain.len()].copy_from_slice(domain.as_bytes());
        self.see(host, What::Dns(question));
    }

    /// In the last hour of so many: this many bytes.
    fn sends(&mut self, host: u8, bytes: u64) {
        let peer = Peer {
            address: 99,
            port: 443,
            proto: TCP,
        };
        for _ in 0..100 {
            let bytes = (bytes / 100) as u32;
            self.see(host, What::Sent { peer, bytes });
        }
    }

    fn names(&self) -> Vec<&'static str> {
        self.found
            .iter()
            .map(|found| found.behaviour.name())
            .collect()
    }
}

fn fnv(text: &str) -> u64 {
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    hash ^ hash << 32
}

fn bits(text: &str) -> u8 {
    let all = text.len() as f32;
    let share = |byte: u8| text.bytes().filter(|other| *other == byte).count() as f32 / all;
    let sum: f32 = text.bytes().map(|byte| -share(byte).log2() / all).sum();
    (sum * 8.0) as u8
}

/// Digits and letters of no meaning.
fn noise(seed: u64, length: usize) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b"abcdefghijklmnopqrstuvwxyz234567"[(state >> 40) as usize % 32])
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn a_scan_of_a_port_is_told_once_in_its_window_with_its_numbers() {
    let mut lan = Lan::new();
    for n in 0..254 {
        lan.opens(9, 0x0505_0500 + n, 22);
        lan.now += SECOND / 20;
    }
    assert_eq!(lan.names(), ["scan-horizontal"]);
    let found = &lan.found[0];
    assert_eq!((found.host.address, found.peer.port), (0x0a4d_0009, 22));
    let hosts = found.numbers["unanswered"].as_u64().unwrap();
    assert!((95..=105).contains(&hosts), "{:?}", found.numbers);
    lan.now += 60 * SECOND;
    for n in 0..254 {
        lan.opens(9, 0x0505_0500 + n, 22);
    }
    assert_eq!(lan.names().len(), 2, "in the next window again");
}

#[test]
fn a_scan_of_a_host_is_told_though_its_open_ports_answer() {
    let mut lan = Lan::new();
    for port in 1..=1000 {
        lan.opens(9, 5, port);
        if port % 100 == 22 {
            lan.connects(9, 5, port);
        }
    }
    assert_eq!(lan.names(), ["scan-vertical"]);
}

#[test]
fn a_browser_with_hundreds_of_tabs_is_silent_and_a_crawl_of_thousands_is_not() {
    let mut lan = Lan::new();
    for n in 0..400 {
        lan.connects(9, 0x0505_0500 + n, 443);
        lan.opens_by(9, 0x0606_0600 + n, 53, UDP);
    }
    for n in 0..40 {
        lan.opens(9, 0x0707_0700 + n, 443);
    }
    assert!(lan.found.is_empty(), "{:?}", lan.found);
    for n in 0..3000 {
        lan.connects(10, 0x0505_0500 + n, 443);
    }
    assert_eq!(lan.names(), ["scan-horizontal"]);
}

#[test]
fn a_slow_scan_is_not_seen_and_an_excepted_host_may_scan() {
    let mut lan = Lan::with("[detect]\nscan = { except = [\"10.77.0.8\"] }\n");
    for n in 0..1000 {
        lan.opens(9, 0x0505_0500 + n, 22);
        lan.opens(8, 0x0505_0500, n as u16 + 1);
        lan.now += SECOND;
    }
    assert!(lan.found.is_empty(), "{:?}", lan.found);
}

#[test]
fn many_long_names_like_noise_of_one_domain_are_a_tunnel() {
    let mut lan = Lan::new();
    for n in 0..300 {
        lan.asks(9, &noise(n, 60), "example.org");
        lan.now += SECOND / 10;
    }
    assert_eq!(lan.names(), ["dns-tunnel"]);
    let numbers = &lan.found[0].numbers;
    assert_eq!(numbers["domain"], "example.org");
    assert_eq!(numbers["length"], 60.0);
    // Short ones, and many more of them: what a download through a tunnel looks like.
    let mut lan = Lan::new();
    for n in 0..1500 {
        lan.asks(9, &noise(n, 7), "example.org");
        lan.now += SECOND / 50;
    }
    assert_eq!(lan.names(), ["dns-tunnel"]);
}

#[test]
fn names_of_everyday_are_no_tunnel() {
    let mut lan = Lan::with(
        "[sets]\nmail_servers = [\"10.77.0.25\"]\n[detect]\ndns_tunnel = { domains = [\"scanner.example\"] }\n",
    );
    for n in 0..2000u64 {
        // A page each second, whose parts come from a network of caches; the same ones come again.
        lan.asks(9, &format!("d{}", noise(n % 60, 13)), "cloudfront.net");
        lan.asks(9, "www", &format!("{}.org", noise(n, 8)));
        lan.asks(9, &format!("{}.{}", n % 256, n / 256), "in-addr.arpa");
        lan.asks(25, &noise(n, 50), "blocklist.example");
        lan.asks(9, &noise(n, 50), "scanner.example");
        lan.now += SECOND;
    }
    assert!(lan.found.is_empty(), "{:?}", lan.found);
}

#[test]
fn pings_with_data_are_a_tunnel_and_a_flood_of_pings_is_none() {
    let mut lan = Lan::new();
    let echo = |size, ordinary| {
        What::Echo(Echo {
            to: 5,
            identifier: 7,
            size,
            ordinary,
        })
    };
    for _ in 0..10_000 {
        lan.see(9, echo(1400, true));
    }
    for n in 0..19 {
        lan.see(9, echo(100 + n, false));
    }
    assert!(lan.found.is_empty());
    lan.see(9, echo(1000, false));
    assert_eq!(lan.names(), ["icmp-tunnel"]);
    assert_eq!(lan.found[0].numbers["echoes"], 20);
    assert_eq!(lan.found[0].numbers["largest"], 1000);
    assert_eq!(lan.found[0].event().meta.proto, 1);
}

#[test]
fn an_upload_is_told_against_the_host_s_own_week_and_not_on_its_first_day() {
    let mut lan = Lan::new();
    const GB: u64 = 1_000_000_000;
    lan.sends(9, 50 * GB);
    assert!(lan.found.is_empty(), "nothing is known of it yet");
    for hour in 0..72 {
        lan.now += HOUR;
        // A backup in each night, mail by day.
        lan.sends(9, if hour % 24 == 3 { 20 * GB } else { GB / 10 });
        lan.sends(10, GB / 100);
    }
    assert!(lan.found.is_empty(), "{:?}", lan.found);
    lan.now += HOUR;
    lan.sends(9, 60 * GB);
    lan.sends(10, GB / 2);
    assert!(lan.found.is_empty(), "{:?}", lan.found);
    lan.sends(10, 2 * GB);
    lan.sends(10, 2 * GB);
    assert_eq!(lan.names(), ["upload"]);
    let numbers = &lan.found[0].numbers;
    assert!(numbers["bytes"].as_u64().unwrap() >= GB);
    assert!(numbers["most_in_an_hour_before"].as_u64().unwrap() < GB / 50);
    // What was a week ago is forgotten.
    lan.now += 200 * HOUR;
    lan.sends(9, 2 * GB);
    assert_eq!(lan.names(), ["upload", "upload"]);
}

#[test]
fn a_beat_of_small_connections_is_a_beacon() {
    let mut lan = Lan::new();
    for n in 0..40u64 {
        // Late or early by up to 3 seconds of 60, and now and then not at all.
        lan.now += (57 + n * 7 % 7) * SECOND;
        if n % 13 != 12 {
            lan.connects(9, 0x0505_0505, 443);
            lan.connects(9, 0x0505_0505, 443);
        }
    }
    assert_eq!(lan.names(), ["beacon"]);
    let numbers = &lan.found[0].numbers;
    let every = numbers["every_seconds"].as_f64().unwrap();
    assert!((54.0..66.0).contains(&every), "{numbers:?}");
    assert_eq!(numbers["beats"], 20);
}

#[test]
fn what_beats_by_itself_is_no_beacon() {
    let mut lan = Lan::new();
    let peer = Peer {
        address: 0x0909_0909,
        port: 443,
        proto: TCP,
    };
    for n in 0..200u64 {
        lan.now += 64 * SECOND;
        // NTP, mail, ping; a program that sends much; one that looks for news now and then.
        lan.opens_by(9, 5, 123, UDP);
        lan.connects(9, 6, 993);
        lan.opens_by(9, 7, 0, 1);
        lan.connects(9, peer.address, peer.port);
        lan.see(
            9,
            What::Sent {
                peer,
                bytes: 1_000_000,
            },
        );
        if (n * n) % 7 < 3 {
            lan.connects(9, 8, 443);
        }
        if n % 60 == 0 {
            lan.connects(9, 10, 443);
        }
    }
    assert!(lan.found.is_empty(), "{:?}", lan.found);
}

#[test]
fn a_beacon_is_found_on_a_host_that_talks_to_hundreds() {
    let mut lan = Lan::new();
    for n in 0..600u128 {
        lan.now += 60 * SECOND;
        lan.connects(9, 0x0505_0505, 443);
        for other in 0..100 {
            lan.connects(9, 0x0606_0000 + n * 100 + other, 443);
        }
    }
    assert_eq!(lan.names(), ["beacon"]);
}

#[test]
fn a_machine_that_makes_up_a_million_addresses_takes_bounded_memory_and_hides_nobody() {
    let mut lan = Lan::with("[detect]\nhosts = 128\n");
    for n in 0..1_000_000u128 {
        let host = Host {
            address: 0x0b00_0000 + n,
            v6: false,
            mac: [2, 0, 0, 0, 0, 99],
            router: [2, 0, 0, 0, 0, 1],
        };
        let peer = Peer {
            address: 0x0505_0500 + n % 7,
            port: 80,
            proto: TCP,
        };
        lan.see_of(
            host,
            What::Opened {
                peer,
                blocked: false,
            },
        );
        if n % 5000 == 0 {
            lan.opens(9, 0x0606_0600 + n / 5000, 22);
            lan.now += SECOND / 10;
        }
    }
    assert!(lan.detectors.hosts() <= 128);
    assert_eq!(lan.names(), ["scan-horizontal"]);
    assert_eq!(lan.found[0].host.mac[5], 9);
    let most = Detectors::bytes_of_a_host();
    assert!(most < 10_000, "{most} bytes a host");
}

#[test]
fn rings_are_emptied_in_the_order_of_time_and_not_for_ever() {
    use crate::telemetry::observe;
    let rings = observe::rings(2, 8);
    let seen = |steady| Observation {
        wall: 0,
        steady,
        host: Host {
            address: 9,
            v6: false,
            mac: [0; 6],
            router: [0; 6],
        },
        what: What::Answered(Peer {
            address: 1,
            port: 1,
            proto: TCP,
        }),
    };
    for time in [2, 5, 7] {
        rings[0].push(seen(time));
    }
    for time in [1, 3, 9] {
        rings[1].push(seen(time));
    }
    let mut times = Vec::new();
    drain(&rings, |seen| times.push(seen.steady));
    assert_eq!(times, [1, 2, 3, 5, 7, 9]);
    // Somebody fills one as fast as it is emptied.
    rings[0].push(seen(1));
    let mut count = 0;
    drain(&rings, |_| {
        rings[0].push(seen(2));
        count += 1;
    });
    assert!((16..=18).contains(&count), "{count}");
    drain(&[], |_| ());
}

fn any_what() -> impl Strategy<Value = What> {
    let peer = || {
        (
            0..4u128,
            prop_oneof![Just(0u16), Just(53), Just(443), any::<u16>()],
            prop_oneof![Just(1u8), Just(TCP), Just(UDP), any::<u8>()],
        )
            .prop_map(|(address, port, proto)| Peer {
                address: address.wrapping_sub(1),
                port,
                proto,
            })
    };
    let question = (
        any::<[u64; 2]>(),
        any::<[u8; 3]>(),
        any::<u16>(),
        any::<[u8; 6]>(),
    )
        .prop_map(|(words, sizes, kind, letters)| {
            let mut domain = [0; DOMAIN];
            domain[..6].copy_from_slice(&letters);
            Question {
                server: words[0].into(),
                hash: words[1],
                length: sizes[0],
                longest: sizes[1],
                entropy: sizes[2],
                kind,
                domain,
            }
        });
    prop_oneof![
        (peer(), any::<bool>()).prop_map(|(peer, blocked)| What::Opened { peer, blocked }),
        peer().prop_map(What::Answered),
        question.prop_map(What::Dns),
        (0..3u128, any::<[u16; 2]>(), any::<bool>()).prop_map(
            |(to, [identifier, size], ordinary)| {
                What::Echo(Echo {
                    to,
                    identifier,
                    size,
                    ordinary,
                })
            }
        ),
        (peer(), any::<u32>()).prop_map(|(peer, bytes)| What::Sent { peer, bytes }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn no_sequence_is_too_odd(
        all in proptest::collection::vec((any_what(), 0..200u8, any::<bool>(), prop_oneof![Just(0u64), 0..HOUR, any::<u64>()]), 0..600)
    ) {
        let mut lan = Lan::with("[detect]\nhosts = 64\nscan = { hosts = 10, ports = 10 }\nicmp_tunnel = { echoes = 3 }\nbeacon = { count = 5 }\ndns_tunnel = { names = 10, length = 1, entropy = 0 }\nupload = { learn = \"1s\", least = \"1kB\" }\n");
        for (what, host, v6, later) in all {
            // Also backwards, which the clock never does.
            lan.now = lan.now.wrapping_add(later);
            let host = Host { address: host.into(), v6, mac: [host % 3; 6], router: [0; 6] };
            lan.see_of(host, what);
        }
        prop_assert!(lan.detectors.hosts() <= 64);
        for found in &lan.found {
            prop_assert!(!found.numbers.is_empty() && found.frames > 0);
            found.event();
        }
    }
}
