//! From frames of the LAN to observations: what the control thread's detectors judge by. No frame's way depends on it.
//!
//! A frame of a live TCP flow pays for one comparison; the cold functions are for flows that open, questions of DNS, and pings. What finds no room is counted.

use super::judge::{Burst, bits};
use super::{Now, mac_bits};
use crate::flow::Answer;
use crate::frame::{Frag, Meta, Net};
use crate::policy::{Side, Verdict};
use crate::telemetry::observe::{DOMAIN, Echo, Host, Observation, Peer, Question, What};
use crate::telemetry::{Counter, ObservationRing};
use af_xdp::Umem;

const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const DNS: u16 = 53;

/// Questions and pings of one burst that are looked into.
const LOOKS: u32 = 32;
/// One frame in so many stands for all that is sent; where there are many, one in up to so many.
pub(super) const SAMPLE: u32 = 64;
const SPARSEST: u32 = 512;
/// Samples of an epoch that are many, and few: with more the next epoch has half of them, with less twice as many. At most 4,000 a second, then, up to two million
/// frames: each costs the control thread a microsecond, and an upload of hundreds of megabytes needs no more of them.
const MANY: u32 = 64;
const FEW: u32 = 24;
/// Budgets by MAC address; a power of two.
const MACS: usize = 256;
/// Observations that one MAC address may make in 2^24 nanoseconds, 30,000 a second: somebody who makes addresses up leaves room in the ring for others, and takes
/// a few hundredths of the control thread's core.
const BUDGET: u32 = 512;
/// Of what was refused one MAC address makes so many beside these, a thousand a second, and all of them together eight times as many: a host whose every frame is
/// dropped shows what it is after with its first ones, and a flood is not to keep the control thread busy, nor to hide what hosts do that may do it.
const REFUSED: u32 = 16;
const ALL_REFUSED: u32 = 128;

/// What was told in the epoch, 2^24 nanoseconds.
#[derive(Clone, Copy, Default)]
struct Budget {
    epoch: u64,
    used: u32,
    refused: u32,
}

impl Budget {
    #[inline]
    fn at(&mut self, now: Now) -> &mut Budget {
        let epoch = now.steady >> 24;
        if self.epoch != epoch {
            *self = Budget {
                epoch,
                ..Budget::default()
            };
        }
        self
    }
}

/// One worker's eyes; without a ring, closed.
pub(super) struct Observer {
    ring: Option<ObservationRing>,
    budgets: Box<[Budget]>,
    /// Of all of them; only what was refused is bounded.
    all: Budget,
    /// Of them those that stand for others.
    samples: Budget,
    /// Frames until the next that is taken for the others, the mean by which that was chosen, and what chooses it.
    next: u32,
    mean: u32,
    dice: u64,
    key: u64,
}

impl Observer {
    pub fn closed() -> Observer {
        Observer {
            ring: None,
            budgets: Box::default(),
            all: Budget::default(),
            samples: Budget::default(),
            next: SAMPLE,
            mean: SAMPLE,
            dice: 1,
            key: 1,
        }
    }

    pub fn into(ring: ObservationRing) -> Observer {
        let key = ring.key();
        Observer {
            ring: Some(ring),
            budgets: vec![Budget::default(); MACS].into(),
            all: Budget::default(),
            samples: Budget::default(),
            next: SAMPLE,
            mean: SAMPLE,
            dice: key,
            key,
        }
    }

    /// A frame of the LAN has opened a flow, or wanted to.
    #[inline]
    pub fn opened(&mut self, meta: &Meta, blocked: bool, now: Now, lost: &Counter) {
        if self.ring.is_none() || meta.src == 0 {
            return;
        }
        match blocked && self.all.at(now).refused >= ALL_REFUSED {
            true => lost.add(1),
            false => self.tell_opened(meta, blocked, now, lost),
        }
    }

    #[cold]
    fn tell_opened(&mut self, meta: &Meta, blocked: bool, now: Now, lost: &Counter) {
        let what = What::Opened {
            peer: peer(meta),
            blocked,
        };
        self.push(host(meta), what, now, lost);
    }

    /// One burst, once it was judged; `answers` are those that it has brought.
    #[inline]
    pub fn look(
        &mut self,
        umem: &Umem,
        burst: &mut Burst,
        side: Side,
        answers: impl Iterator<Item = Answer>,
        now: Now,
        lost: &Counter,
    ) {
        if self.ring.is_none() {
            return;
        }
        if side == Side::Uplink {
            self.answered(answers, now, lost);
            return;
        }
        // What opens a flow within a burst may be answered in the next of the other side at the earliest.
        drop(answers);
        let passes = |burst: &Burst, at| burst.shadow || burst.verdict(at) == Verdict::Forward;
        let mut looks = 0;
        // What went the shortest way is no question of DNS, and no ping.
        for at in bits(burst.others()) {
            let (frame, meta) = (&burst.received[at], &burst.metas[at]);
            if meta.proto == TCP {
                continue;
            }
            let dns = meta.proto == UDP && meta.dport == DNS;
            if (dns || matches!(meta.proto, ICMP | ICMPV6))
                && meta.frag != Frag::Later
                && passes(burst, at)
            {
                looks += 1;
                if looks > LOOKS {
                    lost.add(1);
                } else {
                    self.inside(umem.bytes(frame), meta, now, lost);
                }
            }
        }
        let count = burst.received.len() as u32;
        while self.next < count {
            let (at, stands_for) = (self.next as usize, self.mean);
            self.next += self.gap(now);
            if passes(burst, at) {
                let bytes = (burst.received[at].len() as u32).saturating_mul(stands_for);
                self.sent(bytes, burst.meta(at, umem), now, lost);
            }
        }
        self.next -= count;
    }

    #[cold]
    fn answered(&mut self, answers: impl Iterator<Item = Answer>, now: Now, lost: &Counter) {
        for answer in answers {
            let host = Host {
                address: answer.host,
                v6: answer.v6,
                mac: answer.mac,
                router: answer.router,
            };
            let peer = Peer {
                address: answer.peer,
                port: answer.port,
                proto: answer.proto,
            };
            self.push(host, What::Answered(peer), now, lost);
        }
    }

    #[cold]
    fn inside(&mut self, bytes: &[u8], meta: &Meta, now: Now, lost: &Counter) {
        let payload = bytes.get(usize::from(meta.payload)..usize::from(meta.end));
        let payload = payload.unwrap_or_default();
        let what = match (meta.proto, meta.net) {
            (UDP, _) => question(payload, meta.dst, self.key).map(What::Dns),
            (ICMP, Net::V4) if meta.sport == 8 => echo(bytes, payload, meta),
            (ICMPV6, Net::V6) if meta.sport == 128 => echo(bytes, payload, meta),
            _ => None,
        };
        if let Some(what) = what {
            self.push(host(meta), what, now, lost);
        }
    }

    #[cold]
    fn sent(&mut self, bytes: u32, meta: &Meta, now: Now, lost: &Counter) {
        if matches!(meta.net, Net::V4 | Net::V6) && meta.src != 0 {
            let what = What::Sent {
                peer: peer(meta),
                bytes,
            };
            self.push(host(meta), what, now, lost);
        }
    }

    /// From 1 to twice the mean, so that nothing that comes in a beat is always taken or never.
    fn gap(&mut self, now: Now) -> u32 {
        if self.samples.epoch != now.steady >> 24 {
            self.mean = match self.samples.used {
                MANY.. => (self.mean * 2).min(SPARSEST),
                ..FEW => (self.mean / 2).max(SAMPLE),
                _ => self.mean,
            };
        }
        self.samples.at(now).used += 1;
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        1 + (self.dice >> 33) as u32 % (2 * self.mean - 1)
    }

    /// Whether one more is within the budget.
    fn may_tell(&mut self, mac: &[u8; 6], refused: bool, now: Now) -> bool {
        let hash = mac_bits(mac).wrapping_mul(self.key) >> 32;
        let Some(budget) = self.budgets.get_mut(hash as usize % MACS) else {
            return false;
        };
        let budget = budget.at(now);
        let (used, most) = match refused {
            true => (&mut budget.refused, REFUSED),
            false => (&mut budget.used, BUDGET),
        };
        *used = used.saturating_add(1);
        let may = *used <= most;
        self.all.refused += u32::from(may && refused);
        may
    }

    fn push(&mut self, host: Host, what: What, now: Now, lost: &Counter) {
        if self.ring.is_none() {
            return;
        }
        let refused = matches!(what, What::Opened { blocked: true, .. });
        let may = self.may_tell(&host.mac, refused, now);
        let observation = Observation {
            wall: now.wall,
            steady: now.steady,
            host,
            what,
        };
        let told = may && (self.ring.as_ref()).is_some_and(|ring| ring.push(observation));
        lost.add((!told).into());
    }
}

fn host(meta: &Meta) -> Host {
    Host {
        address: meta.src,
        v6: meta.net == Net::V6,
        mac: meta.src_mac,
        router: meta.dst_mac,
    }
}

fn peer(meta: &Meta) -> Peer {
    let ports = matches!(meta.proto, 6 | 17 | 33 | 132 | 136);
    Peer {
        address: meta.dst,
        port: if ports { meta.dport } else { 0 },
        proto: meta.proto,
    }
}

/// The first question of a query (RFC 1035 section 4.1), whatever else is wrong with it: a tunnel may be careless. `None` where the name cannot be read, or is the root or a single label.
fn question(payload: &[u8], server: u128, key: u64) -> Option<Question> {
    let (&[_, _, flags, _, many, few, ..], Some(mut rest)) = (payload, payload.get(12..)) else {
        return None;
    };
    if flags & 0x80 != 0 || (many, few) == (0, 0) {
        return None;
    }
    let mut name = [0u8; 256];
    let (mut length, mut hash) = (0usize, key);
    // Where the last two labels begin.
    let mut starts = [0usize; 2];
    let mut longest = [0u8; 3];
    loop {
        let (&label, after) = rest.split_first()?;
        if label == 0 {
            rest = after;
            break;
        }
        if label > 63 {
            return None;
        }
        let (bytes, after) = after.split_at_checked(usize::from(label))?;
        starts = [starts[1], length];
        longest = [longest[0].max(longest[1]), longest[2], label];
        let place = name.get_mut(length..length + bytes.len() + 1)?;
        for (to, from) in place.iter_mut().zip(bytes) {
            *to = from.to_ascii_lowercase();
            let wide = u128::from(hash ^ u64::from(*to)) * u128::from(key | 1 << 63);
            hash = (wide as u64) ^ (wide >> 64) as u64;
        }
        *place.last_mut()? = b'.';
        hash = hash.rotate_left(23) ^ 0x9e37_79b9_7f4a_7c15;
        length += bytes.len() + 1;
        rest = after;
    }
    let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
    let labels = name.get(..length.checked_sub(1)?)?;
    let (front, back) = labels.split_at_checked(starts[0])?;
    let front = front.strip_suffix(b".").unwrap_or(front);
    let mut domain = [0; DOMAIN];
    let back = back.get(back.len().saturating_sub(DOMAIN)..)?;
    domain.get_mut(..back.len())?.copy_from_slice(back);
    Some(Question {
        server,
        hash,
        length: front.len().min(255) as u8,
        longest: longest[0],
        entropy: entropy(front),
        kind,
        domain,
    })
}

/// Shannon entropy of bytes, in eighths of a bit.
fn entropy(bytes: &[u8]) -> u8 {
    let mut counts = [0u8; 256];
    for byte in bytes {
        counts[usize::from(*byte)] = counts[usize::from(*byte)].saturating_add(1);
    }
    let all = bytes.len() as f32;
    let of = |count: &u8| {
        let share = f32::from(*count) / all;
        -share * share.log2()
    };
    let bits: f32 = counts.iter().filter(|count| **count > 0).map(of).sum();
    (bits * 8.0).round() as u8
}

fn echo(frame: &[u8], payload: &[u8], meta: &Meta) -> Option<What> {
    let at = usize::from(meta.l4) + 4;
    let identifier = frame.get(at..at + 2)?;
    Some(What::Echo(Echo {
        to: meta.dst,
        identifier: u16::from_be_bytes([identifier[0], identifier[1]]),
        size: payload.len() as u16,
        ordinary: is_ping(payload),
    }))
}

/// Bytes at the beginning that may be a time and whatever else a ping keeps there.
const STAMP: usize = 24;
/// Of less no tunnel lives.
const LITTLE: usize = 8;

/// Whether the rest is what pings fill themselves up with: bytes that count up (iputils, BSD), the alphabet up to W over and over (Windows), or one pattern of up to 16 bytes
/// (`ping -p`, hping3, busybox).
fn is_ping(payload: &[u8]) -> bool {
    let rest = payload.get(STAMP..).unwrap_or_default();
    if rest.len() <= LITTLE {
        return true;
    }
    let counts = rest.windows(2).all(|two| two[1] == two[0].wrapping_add(1));
    let repeats = |period: usize| {
        let ahead = rest.get(period..).unwrap_or_default();
        ahead.iter().zip(rest).all(|(one, other)| one == other)
    };
    // A pattern that does not come twice is none.
    counts
        || (1..=16)
            .chain([23])
            .any(|period| 2 * period <= rest.len() && repeats(period))
        || is_alphabet(rest)
}

/// A part of the alphabet of Windows too short to come round twice.
fn is_alphabet(rest: &[u8]) -> bool {
    let next = |byte: u8| {
        if byte == b'w' {
            b'a'
        } else {
            byte.wrapping_add(1)
        }
    };
    rest.windows(2).all(|two| two[1] == next(two[0]))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, tcp, udp};
    use super::*;
    use crate::policy::Policy;
    use crate::telemetry::observe;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            bytes.push(label.len() as u8);
            bytes.extend(label.bytes());
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend([0, 1]);
        bytes
    }

    fn domain(question: &Question) -> String {
        let bytes = question.domain.iter().take_while(|byte| **byte != 0);
        bytes.map(|byte| char::from(*byte)).collect()
    }

    #[test]
    fn a_question_is_measured_before_its_last_two_labels() {
        let asked = |name| question(&query(name, 16), 1, 99).unwrap();
        let plain = asked("www.Example.org");
        assert_eq!(domain(&plain), "example.org");
        assert_eq!((plain.length, plain.longest, plain.kind), (3, 3, 16));
        assert_eq!(plain.entropy, 0, "three times the same letter");
        assert_eq!(plain.hash, asked("WWW.example.ORG").hash);
        let deep = asked("0a1b2c3d4e5f6789.abcd.t.example.org");
        assert_eq!((deep.length, deep.longest), (23, 16));
        assert!(deep.entropy > 28, "{deep:?}");
        assert_ne!(deep.hash, asked("0a1b2c3d4e5f678.9abcd.t.example.org").hash);
        let bare = asked("example.org");
        assert_eq!(
            (bare.length, bare.longest, domain(&bare).as_str()),
            (0, 0, "example.org")
        );
        let one = asked("localhost");
        assert_eq!((one.length, domain(&one).as_str()), (0, "localhost"));
        assert_eq!(question(&query("", 2), 1, 99), None, "the root");
        let long = asked(&format!("a.{}.org", "x".repeat(60)));
        assert!(domain(&long).ends_with("xxx.org") && domain(&long).len() == DOMAIN);
    }

    #[test]
    fn what_pings_send_is_ordinary_and_what_tunnels_send_is_not() {
        let iputils: Vec<u8> = (0..56u8)
            .map(|n| if n < 16 { n ^ 0x5a } else { n })
            .collect();
        assert!(is_ping(&iputils));
        assert!(is_ping(b"abcdefghijklmnopqrstuvwabcdefghi"), "Windows");
        let windows: Vec<u8> = (0..1400).map(|n| b'a' + (n % 23) as u8).collect();
        assert!(is_ping(&windows));
        assert!(is_ping(&[b'X'; 120]) && is_ping(&[0; 1400]) && is_ping(&[]));
        assert!(is_ping(
            &[[7u8; 24].as_slice(), &b"pattern-".repeat(9)].concat()
        ));
        let text = b"GET / HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: something\r\n\r\n";
        assert!(!is_ping(text));
        let random: Vec<u8> = (0..100u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        assert!(!is_ping(&random));
        let hidden = [&iputils[..], b"hidden"].concat();
        assert!(!is_ping(&hidden), "behind a pattern");
    }

    fn observed(policy: &Policy, capacity: usize) -> (Bench, ObservationRing) {
        let ring = observe::rings(1, capacity).remove(0);
        let Bench {
            worker,
            ring: events,
            in_force,
        } = Bench::with(policy, 8);
        let bench = Bench {
            worker: worker.observing(Arc::clone(&ring)),
            ring: events,
            in_force,
        };
        (bench, ring)
    }

    fn policy(text: &str) -> Policy {
        let config = crate::config::parse(text, "test", std::path::Path::new("."));
        config.unwrap().policy
    }

    /// What was seen, without samples.
    fn seen(ring: &ObservationRing) -> Vec<What> {
        let all = std::iter::from_fn(|| ring.pop()).map(|seen| seen.what);
        all.filter(|what| !matches!(what, What::Sent { .. }))
            .collect()
    }

    /// What answers `udp` or `tcp` of the tests of a worker.
    fn back(udp: bool, port: u16, flags: &[u8]) -> Vec<u8> {
        let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 9]);
        let step = link.ipv4([93, 184, 216, 34], [10, 77, 0, 9], 64);
        let mut frame = Vec::new();
        if udp {
            step.udp(port, 40_000).write(&mut frame, b"hi").unwrap();
        } else {
            let mut step = step.tcp(port, 40_000, 1, 1024).ack(2);
            for flag in flags {
                step = if *flag == b'S' {
                    step.syn()
                } else {
                    step.rst()
                };
            }
            step.write(&mut frame, &[]).unwrap();
        }
        frame
    }

    #[test]
    fn a_flow_is_seen_when_it_opens_and_when_it_is_answered_once_each() {
        let (mut bench, ring) = observed(&policy("[lan]\nprefixes = [\"10.77.0.0/24\"]\n"), 64);
        let peer = |port, proto| Peer {
            address: 0x5db8_d822,
            port,
            proto,
        };
        let opened = |port, proto, blocked| What::Opened {
            peer: peer(port, proto),
            blocked,
        };
        for _ in 0..2 {
            for frame in [tcp(443), tcp(22), udp(4433), udp(69)] {
                bench.arrive(Side::Lan, &frame);
            }
            bench.worker.turn(1);
        }
        let all = seen(&ring);
        // What is refused is no flow, and opens each time.
        let tftp = opened(69, UDP, true);
        let (one, two, three) = (
            opened(443, TCP, false),
            opened(22, TCP, false),
            opened(4433, UDP, false),
        );
        assert_eq!(all, [one, two, three, tftp, tftp]);
        for _ in 0..2 {
            bench.arrive(Side::Uplink, &back(false, 443, b"S"));
            bench.arrive(Side::Uplink, &back(true, 4433, b""));
            bench.arrive(Side::Uplink, &back(false, 22, b"R"));
            bench.worker.turn(2);
        }
        let mut answers = seen(&ring);
        answers.dedup();
        assert!(answers.contains(&What::Answered(peer(443, TCP))));
        assert!(answers.contains(&What::Answered(peer(4433, UDP))));
        assert!(!answers.contains(&What::Answered(peer(22, TCP))), "refused");
        assert_eq!(bench.worker.counters().observations_lost.get(), 0);
    }

    #[test]
    fn a_forged_source_is_no_host_and_a_full_ring_is_counted() {
        let (mut bench, ring) = observed(&policy("[lan]\nprefixes = [\"10.78.0.0/24\"]\n"), 4);
        bench.arrive(Side::Lan, &tcp(443));
        bench.arrive(Side::Lan, &udp(53));
        bench.worker.turn(1);
        assert_eq!(seen(&ring), []);
        let (mut bench, ring) = observed(&policy(""), 4);
        for port in 1000..1010 {
            bench.arrive(Side::Lan, &tcp(port));
        }
        bench.worker.turn(1);
        assert_eq!(seen(&ring).len(), 4);
        assert_eq!(bench.worker.counters().observations_lost.get(), 6);
        assert!(bench.settle().balanced());
    }

    #[test]
    fn a_machine_that_does_too_much_leaves_room_for_another() {
        let ring = observe::rings(1, 1 << 16).remove(0);
        let mut observer = Observer::into(Arc::clone(&ring));
        // Two machines that share a budget are no surprise, but here they would be.
        observer.key = 0x9e37_79b9_7f4a_7c15;
        let lost = Counter::default();
        let of = |mac: u8, src: u32| Meta {
            net: Net::V4,
            src: src.into(),
            src_mac: [2, 0, 0, 0, 0, mac],
            ..Meta::NONE
        };
        for n in 1..=100_000 {
            observer.opened(&of(9, n), false, Now::from(1), &lost);
        }
        assert_eq!(lost.get(), 100_000 - u64::from(BUDGET));
        observer.opened(&of(10, 7), false, Now::from(1), &lost);
        let last = std::iter::from_fn(|| ring.pop()).last().unwrap();
        assert_eq!(last.host.mac[5], 10);
        observer.opened(&of(9, 7), false, Now::from(1 << 25), &lost);
        assert!(ring.pop().is_some(), "later again");
    }

    #[test]
    fn what_is_refused_takes_no_room_from_what_is_not_and_all_of_it_not_much_more_than_one_machine()
    {
        let ring = observe::rings(1, 1 << 16).remove(0);
        let mut observer = Observer::into(Arc::clone(&ring));
        // Two machines that share a budget are no surprise, but here they would be.
        observer.key = 0x9e37_79b9_7f4a_7c15;
        let lost = Counter::default();
        let of = |mac: u32| Meta {
            net: Net::V4,
            src: mac.into(),
            src_mac: [2, 0, 0, 0, (mac >> 8) as u8, mac as u8],
            ..Meta::NONE
        };
        let told = |ring: &ObservationRing| std::iter::from_fn(|| ring.pop()).count() as u32;
        for _ in 0..10_000 {
            observer.opened(&of(1), true, Now::from(1), &lost);
        }
        assert_eq!(
            (told(&ring), lost.get()),
            (REFUSED, u64::from(10_000 - REFUSED))
        );
        for _ in 0..BUDGET {
            observer.opened(&of(1), false, Now::from(1), &lost);
        }
        assert_eq!(told(&ring), BUDGET);
        for n in 0..100_000 {
            observer.opened(&of(2 + n % 1000), true, Now::from(1), &lost);
        }
        assert_eq!(told(&ring), ALL_REFUSED - REFUSED);
        assert_eq!(
            lost.get(),
            u64::from(10_000 - REFUSED + 100_000 - (ALL_REFUSED - REFUSED))
        );
        observer.opened(&of(2), false, Now::from(1), &lost);
        observer.opened(&of(3), true, Now::from(1 << 25), &lost);
        assert_eq!(told(&ring), 2);
    }

    #[test]
    fn one_frame_in_sixty_four_is_taken_on_the_average() {
        let mut observer = Observer::closed();
        observer.dice = 12_345;
        let sum: u64 = (0..10_000)
            .map(|n| u64::from(observer.gap(Now::from(n << 20))))
            .sum();
        assert!((630_000..650_000).contains(&sum), "{sum}");
    }

    #[test]
    fn of_more_frames_fewer_are_taken_and_each_stands_for_as_many_as_it_should() {
        let mut observer = Observer::closed();
        observer.dice = 12_345;
        // Frames of an epoch, and the samples of one when the rate has been the same for a while.
        for (frames, wanted) in [
            (20_000u64, 24..=64),
            (2_000, 24..=40),
            (100_000, 150..=250),
            (100, 0..=6),
        ] {
            let (mut left, mut taken, mut stood_for) = (0i64, 0u64, 0u64);
            let start = (observer.samples.epoch + 1) << 24;
            for epoch in 0..100u64 {
                left += frames as i64;
                taken = 0;
                while left > 0 {
                    stood_for += u64::from(observer.mean);
                    left -= i64::from(observer.gap(Now::from(start + (epoch << 24))));
                    taken += 1;
                }
            }
            assert!(wanted.contains(&taken), "{frames}: {taken}");
            let all = frames * 100;
            assert!(
                stood_for.abs_diff(all) < all / 8,
                "{frames}: {stood_for} for {all}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_payload_is_too_odd(payload in proptest::collection::vec(any::<u8>(), 0..600)) {
            question(&payload, 1, 77);
            is_ping(&payload);
            let mut lead = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            lead.extend(&payload);
            question(&lead, 1, 77);
        }
    }
}
