//! The same policies and the same traffic through our rule table and flow engine, and through nftables with connection tracking on a router of
//! the kernel's: what one lets through the other does.
//!
//! ```text
//!  lan0 ═══ veth ═══ gl0 [router, nftables, conntrack] gu0 ═══ veth ═══ up0
//! ```
//!
//! Many conversations are interleaved, opened from either side; a round has at most one packet of each, and is over before the next begins. Each packet has
//! a number in its identification or flow label. Packets on which the two differ by design are not made: SYN with PSH or URG (we drop `tcp-flags`), and a SYN from
//! the responder of a half-open connection (we ask the rules, conntrack does not).

#[path = "common/mod.rs"]
mod common;
#[path = "stateful/lab.rs"]
#[allow(dead_code)]
mod lab;

use common::{Lab as Box3, SOON, Wire, until};
use etherparse::{PacketBuilder, TcpHeader};
use lab::{ACK, FIN, Lab, PSH, RST, SYN, Seeded, settings};
use portcullis::policy::Side;
use std::collections::HashSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

const POLICIES: u64 = 12;
/// Packets of each policy.
const PACKETS: usize = 9_000;
const CONVERSATIONS: usize = 300;
const AGAIN: usize = 4;

fn pick<T: Copy>(seeded: &mut Seeded, from: &[T]) -> T {
    from[seeded.below(from.len() as u64) as usize]
}

fn inside(v6: bool, n: u64) -> IpAddr {
    match v6 {
        false => Ipv4Addr::new(10, 77, 0, 2 + n as u8).into(),
        true => Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2 + n as u16).into(),
    }
}

fn outside(v6: bool, n: u64) -> IpAddr {
    match v6 {
        false => Ipv4Addr::new(93, 184, 216, 2 + n as u8).into(),
        true => Ipv6Addr::new(0x2606, 0x2800, 0x220, 1, 0, 0, 0, 2 + n as u16).into(),
    }
}

const PORTS: [u16; 6] = [22, 25, 53, 80, 443, 6667];

/// A random policy, as a config of ours and as rules of nft.
fn policy(seeded: &mut Seeded) -> (String, String) {
    let drop = seeded.below(2) == 0;
    let (default, rest) = if drop {
        ("drop", "drop")
    } else {
        ("allow", "accept")
    };
    let mut ours = format!("[policy]\nprofile = \"none\"\ndefault = \"{default}\"\n");
    let mut nft = String::new();
    for n in 0..15 {
        let allow = seeded.below(2) == 0;
        let out = seeded.below(3) > 0;
        let v6 = seeded.below(2) == 0;
        let proto = match (seeded.below(5), v6) {
            (0 | 1, _) => "tcp",
            (2 | 3, _) => "udp",
            (_, false) => "icmp",
            (_, true) => "icmpv6",
        };
        let ip = if v6 { "ip6" } else { "ip" };
        let l4 = if proto == "icmpv6" {
            "ipv6-icmp"
        } else {
            proto
        };
        let mut line = format!(
            "iifname \"{}\" meta l4proto {l4} ",
            if out { "gl0" } else { "gu0" }
        );
        let action = if allow { "allow" } else { "drop" };
        let direction = if out { "out" } else { "in" };
        let _ = write!(
            ours,
            "[[rule]]\nname = \"r{n}\"\naction = \"{action}\"\ndirection = \"{direction}\"\nproto = \"{proto}\"\n"
        );
        let of = |out: bool, n| if out { inside(v6, n) } else { outside(v6, n) };
        let (src, dst) = (
            seeded.below(3) == 0,
            seeded.below(3) == 0 || proto.starts_with("icmp"),
        );
        if src {
            let address = of(out, seeded.below(4));
            let _ = writeln!(ours, "src = \"{address}\"");
            let _ = write!(line, "{ip} saddr {address} ");
        }
        if dst {
            let address = of(!out, seeded.below(4));
            let _ = writeln!(ours, "dst = \"{address}\"");
            let _ = write!(line, "{ip} daddr {address} ");
        }
        if !proto.starts_with("icmp") && seeded.below(4) > 0 {
            let (a, b) = (pick(seeded, &PORTS), pick(seeded, &PORTS));
            let _ = writeln!(ours, "dport = [{a}, {b}]");
            let set = if a == b {
                a.to_string()
            } else {
                format!("{a}, {b}")
            };
            let _ = write!(line, "{proto} dport {{ {set} }} ");
        }
        let _ = writeln!(nft, "    {line}{}", if allow { "accept" } else { "drop" });
    }
    let nft = format!(
        "flush ruleset\ntable inet t {{\n  chain rules {{\n{nft}  }}\n  chain f {{\n    type filter hook forward priority 0; policy {rest};\n    \
         ct state invalid drop\n    ct state established accept\n    jump rules\n    ct state related accept\n  }}\n}}\n"
    );
    (ours, nft)
}

/// Two ends that talk.
struct Talk {
    kind: u64,
    /// Of its pings: the same in all of a policy.
    id: u8,
    v6: bool,
    opener: Side,
    /// Addresses and ports by side.
    ends: [(IpAddr, u16); 2],
    /// Next sequence number of the opener and of the other.
    seq: [u32; 2],
    step: u32,
    last: Option<Vec<u8>>,
}

impl Talk {
    fn new(seeded: &mut Seeded, n: usize, id: u8) -> Talk {
        let v6 = seeded.below(2) == 0;
        let opener = if seeded.below(3) > 0 {
            Side::Lan
        } else {
            Side::Uplink
        };
        let (service, client) = (pick(seeded, &PORTS), 20_000 + n as u16);
        let ports = if opener == Side::Lan {
            [client, service]
        } else {
            [service, client]
        };
        let kind = seeded.below(8);
        Talk {
            kind,
            id,
            v6,
            opener,
            ends: [
                (inside(v6, seeded.below(4)), ports[0]),
                (outside(v6, seeded.below(4)), ports[1]),
            ],
            seq: [seeded.next() as u32, seeded.next() as u32],
            // Some connections begin in the middle.
            step: if kind == 3 { 3 } else { 0 },
            last: None,
        }
    }

    /// The next packet: where it comes from, and itself.
    fn next(&mut self, seeded: &mut Seeded, number: u16) -> (Side, Vec<u8>) {
        self.step += 1;
        match self.kind {
            0..4 => self.tcp(seeded, number),
            4 | 5 => {
                let side = if self.step == 1 || seeded.below(2) == 0 {
                    self.opener
                } else {
                    self.opener.other()
                };
                (side, self.udp(side, number))
            }
            6 => {
                // Pings of either side with one identifier, answers, and answers to nothing.
                let side = if seeded.below(3) > 0 {
                    self.opener
                } else {
                    self.opener.other()
                };
                let request = seeded.below(2) == 0;
                let kind = match (self.v6, request) {
                    (false, true) => 8,
                    (false, false) => 0,
                    (true, true) => 128,
                    (true, false) => 129,
                };
                (
                    side,
                    self.icmp(side, number, kind, 0, [7, self.id, 0, 1], b"ping"),
                )
            }
            _ => {
                // UDP, and errors that quote what was sent, or what never was.
                match &self.last {
                    Some(last) if self.step.is_multiple_of(2) => {
                        let mut quoted = last[14..].to_vec();
                        if seeded.below(3) == 0 {
                            // Another source port.
                            let at = if self.v6 { 41 } else { 21 };
                            quoted[at] ^= 0x40;
                        }
                        let side = self.opener.other();
                        let kind = if self.v6 { 1 } else { 3 };
                        (side, self.icmp(side, number, kind, 1, [0; 4], &quoted))
                    }
                    _ => {
                        let frame = self.udp(self.opener, number);
                        self.last = Some(frame.clone());
                        (self.opener, frame)
                    }
                }
            }
        }
    }

    fn tcp(&mut self, seeded: &mut Seeded, number: u16) -> (Side, Vec<u8>) {
        let (opener, other) = (self.opener, self.opener.other());
        let (side, flags, len) = match self.step {
            1 => (opener, SYN, 0),
            2 => (other, SYN | ACK, 0),
            3 => (opener, ACK, 0),
            _ => match seeded.below(12) {
                0 => (opener, FIN | ACK, 0),
                1 => (other, FIN | ACK, 0),
                2 if self.step > 12 => (pick(seeded, &[opener, other]), RST | ACK, 0),
                n => (if n % 2 == 0 { opener } else { other }, ACK | PSH, 30),
            },
        };
        let at = usize::from(side != opener);
        let (seq, ack) = (self.seq[at], self.seq[1 - at]);
        let ack = if flags & ACK == 0 { 0 } else { ack };
        let sent = len + u32::from(flags & (SYN | FIN) != 0);
        let frame = self.segment(side, flags, seq, ack, len as usize, number);
        self.seq[at] = seq.wrapping_add(sent);
        (side, frame)
    }

    fn ip(&self, side: Side, number: u16) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
        let (src, dst) = match side {
            Side::Lan => (self.ends[0].0, self.ends[1].0),
            Side::Uplink => (self.ends[1].0, self.ends[0].0),
        };
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]);
        match (src, dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut header = etherparse::Ipv4Header::new(
                    0,
                    64,
                    etherparse::IpNumber::TCP,
                    src.octets(),
                    dst.octets(),
                )
                .unwrap();
                header.identification = number;
                header.dont_fragment = true;
                link.ip(etherparse::IpHeaders::Ipv4(header, Default::default()))
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let header = etherparse::Ipv6Header {
                    flow_label: u32::from(number).try_into().unwrap(),
                    hop_limit: 64,
                    source: src.octets(),
                    destination: dst.octets(),
                    ..Default::default()
                };
                link.ip(etherparse::IpHeaders::Ipv6(header, Default::default()))
            }
            _ => unreachable!("one family"),
        }
    }

    fn ports(&self, side: Side) -> (u16, u16) {
        match side {
            Side::Lan => (self.ends[0].1, self.ends[1].1),
            Side::Uplink => (self.ends[1].1, self.ends[0].1),
        }
    }

    fn udp(&self, side: Side, number: u16) -> Vec<u8> {
        let (src, dst) = self.ports(side);
        let mut frame = Vec::new();
        self.ip(side, number)
            .udp(src, dst)
            .write(&mut frame, &[5; 20])
            .unwrap();
        frame
    }

    fn icmp(
        &self,
        side: Side,
        number: u16,
        kind: u8,
        code: u8,
        rest: [u8; 4],
        payload: &[u8],
    ) -> Vec<u8> {
        let mut frame = Vec::new();
        let ip = self.ip(side, number);
        match self.v6 {
            false => ip.icmpv4_raw(kind, code, rest).write(&mut frame, payload),
            true => ip.icmpv6_raw(kind, code, rest).write(&mut frame, payload),
        }
        .unwrap();
        frame
    }

    fn segment(
        &self,
        side: Side,
        flags: u8,
        seq: u32,
        ack: u32,
        len: usize,
        number: u16,
    ) -> Vec<u8> {
        let (src, dst) = self.ports(side);
        let bit = |at: u8| flags >> at & 1 == 1;
        let header = TcpHeader {
            acknowledgment_number: ack,
            fin: bit(0),
            syn: bit(1),
            rst: bit(2),
            psh: bit(3),
            ack: bit(4),
            ..TcpHeader::new(src, dst, seq, 60_000)
        };
        let mut frame = Vec::new();
        self.ip(side, number)
            .tcp_header(header)
            .write(&mut frame, &vec![7; len])
            .unwrap();
        frame
    }
}

/// The number of a packet that came out of the router; `None` of one that is not ours.
fn number_of(frame: &[u8]) -> Option<u16> {
    match frame.get(12..14)? {
        [0x08, 0x00] => Some(u16::from_be_bytes([*frame.get(18)?, *frame.get(19)?])),
        [0x86, 0xdd] => Some(u16::from_be_bytes([*frame.get(16)?, *frame.get(17)?])),
        _ => None,
    }
}

struct Router<'a> {
    lab: &'a Box3,
    wires: [Wire; 2],
    macs: [[u8; 6]; 2],
}

impl<'a> Router<'a> {
    fn new(lab: &'a Box3) -> Router<'a> {
        for port in ["gl0", "gu0"] {
            for (key, value) in [
                ("ipv6/conf", "disable_ipv6=0"),
                ("ipv6/conf", "forwarding=1"),
                ("ipv4/conf", "forwarding=1"),
                ("ipv4/conf", "rp_filter=0"),
            ] {
                let (name, value) = value.split_once('=').unwrap();
                lab.must(
                    "gate",
                    "sh",
                    &format!("-c echo\t{value}\t>/proc/sys/net/{key}/{port}/{name}"),
                );
            }
        }
        lab.must(
            "gate",
            "sh",
            "-c echo\t1\t>/proc/sys/net/ipv6/conf/all/forwarding",
        );
        for (net, port) in [
            ("10.77.0.0/24", "gl0"),
            ("93.184.216.0/24", "gu0"),
            ("fd77::/64", "gl0"),
            ("2606:2800:220:1::/64", "gu0"),
        ] {
            let family = if net.contains(':') { "-6" } else { "-4" };
            lab.ip("gate", &format!("{family} route add {net} dev {port}"));
        }
        let mac = |port: &str| {
            let text = lab.ip("gate", &format!("-j link show {port}"));
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            let bytes: Vec<u8> = value[0]["address"]
                .as_str()
                .unwrap()
                .split(':')
                .map(|b| u8::from_str_radix(b, 16).unwrap())
                .collect();
            bytes.try_into().unwrap()
        };
        Router {
            wires: [
                Wire::open(lab, "lan", "lan0"),
                Wire::open(lab, "uplink", "up0"),
            ],
            macs: [mac("gl0"), mac("gu0")],
            lab,
        }
    }

    fn load(&self, rules: &str) {
        let file = self.lab.dir().join("rules.nft");
        std::fs::write(&file, rules).unwrap();
        self.lab
            .must("gate", "nft", &format!("-f {}", file.display()));
        let folder = "/proc/sys/net/netfilter";
        // A connection that was not seen to open is none of conntrack's either; and sequence numbers are not compared here.
        self.lab.must(
            "gate",
            "sh",
            &format!("-c echo\t0\t>{folder}/nf_conntrack_tcp_loose"),
        );
        self.lab.must(
            "gate",
            "sh",
            &format!("-c echo\t1\t>{folder}/nf_conntrack_tcp_be_liberal"),
        );
    }

    /// Sends a round; the numbers of what came out. `expected` of them should.
    fn round(&self, packets: &[(Side, Vec<u8>)], numbers: &[u16], expected: usize) -> HashSet<u16> {
        for (side, frame) in packets {
            let mut frame = frame.clone();
            frame[..6].copy_from_slice(&self.macs[*side as usize]);
            self.wires[*side as usize].send(&frame);
        }
        let ours: HashSet<u16> = numbers.iter().copied().collect();
        let mut came = HashSet::new();
        let mut quiet = 0;
        // As many as expected and a moment more, or until nothing comes for a while.
        let enough =
            |came: &HashSet<u16>, quiet: u32| quiet > if came.len() >= expected { 1 } else { 40 };
        until("the round's packets", SOON, || {
            let mut any = false;
            for wire in &self.wires {
                while let Some(frame) = wire.next(Duration::from_micros(200)) {
                    any = true;
                    came.extend(number_of(&frame).filter(|number| ours.contains(number)));
                }
            }
            quiet = if any { 0 } else { quiet + 1 };
            enough(&came, quiet).then_some(())
        });
        came
    }
}

#[test]
fn what_conntrack_and_nftables_let_through_is_what_we_do() {
    let Some(lab) = Box3::new() else { return };
    let router = Router::new(&lab);
    let (mut total, mut passed, mut again) = (0, 0, 0);
    for seed in 0..POLICIES {
        let mut seeded = Seeded(seed + 77);
        let (config, rules) = policy(&mut seeded);
        lab.must("gate", "nft", "flush ruleset");
        router.load(&rules);
        let mut gate = Lab::with(&config, &settings(), 1);
        let mut talks: Vec<Talk> = (0..CONVERSATIONS)
            .map(|n| {
                Talk::new(
                    &mut seeded,
                    (seed as usize * CONVERSATIONS + n) % 30_000,
                    seed as u8,
                )
            })
            .collect();
        let (mut sent, mut here) = (0, 0);
        while sent < PACKETS {
            let mut round = Vec::new();
            let mut numbers = Vec::new();
            for talk in &mut talks {
                let number = (total + sent + round.len()) as u16;
                round.push(talk.next(&mut seeded, number));
                numbers.push(number);
            }
            let verdicts: Vec<bool> = round
                .iter()
                .map(|(side, frame)| gate.passes(*side, frame))
                .collect();
            let expected = verdicts.iter().filter(|passes| **passes).count();
            let mut came = router.round(&round, &numbers, expected);
            // A packet may be lost on the way to the router; it is sent again, so that a loss is not taken for a drop.
            for _ in 0..AGAIN {
                let lost: Vec<usize> = (0..round.len())
                    .filter(|at| verdicts[*at] && !came.contains(&numbers[*at]))
                    .collect();
                if lost.is_empty() {
                    break;
                }
                again += lost.len();
                let (packets, ids): (Vec<_>, Vec<_>) = lost
                    .iter()
                    .map(|at| (round[*at].clone(), numbers[*at]))
                    .unzip();
                came.extend(router.round(&packets, &ids, ids.len()));
            }
            for (at, (side, frame)) in round.iter().enumerate() {
                assert_eq!(
                    came.contains(&numbers[at]),
                    verdicts[at],
                    "policy {seed}, {side:?}, step {}: we say {}, the kernel the other\n{frame:02x?}\n{:?}\n{config}",
                    talks[at].step,
                    verdicts[at],
                    gate.snapshot().sides
                );
            }
            sent += round.len();
            here += expected;
        }
        println!("policy {seed}: {sent} packets, {here} passed both");
        assert!(here > 0 && here < sent, "{here}");
        total += sent;
        passed += here;
    }
    println!("{total} packets, {passed} passed, no difference; {again} were sent again");
    assert!(
        total >= 100_000 && passed > total / 4,
        "{passed} of {total}"
    );
}
