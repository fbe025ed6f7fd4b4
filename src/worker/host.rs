//! What a worker gives the box's own stack, within a rate, and what it sends for it.

use super::own::Own;
use super::{Now, Worker};
use crate::frame::Meta;
use crate::hoststack::rings::{Lane, Parcel, WorkerEnd};
use crate::policy::{RuleSlot, Side, Verdict};
use crate::port::{BURST, Port};
use crate::telemetry::Reason;
use ipnet::IpNet;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// TCP flags: SYN without ACK begins a connection.
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const TCP: u8 = 6;
/// Senders that are told apart, about: those that share a place share its rate.
const PLACES: usize = 256;
const _: () = assert!(PLACES.is_power_of_two());
/// One sender may have this part of the rate.
const SHARE: u64 = 4;
/// How much of a second's frames may come at once.
const AT_ONCE: u64 = 20;
/// After so long without a frame for the stack its answers need not be waited for. Nanoseconds.
const AWAKE: u64 = 50_000_000;

/// How much the stack is given, frames a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Of its own address.
    pub own: u32,
    /// Of connections that are answered in their destination's place.
    pub decoy: u32,
}

/// A worker's way to the stack.
pub struct Host {
    end: WorkerEnd,
    own: Option<Arc<Own>>,
    to_own: Rate,
    to_decoys: Rate,
    /// When it was given something last.
    last: u64,
}

impl Host {
    /// Over its end of the rings; `own` is the box's own address, where it has one.
    pub fn new(end: WorkerEnd, own: Option<Arc<Own>>, rates: Rates) -> Host {
        Host {
            end,
            own,
            to_own: Rate::new(rates.own),
            to_decoys: Rate::new(rates.decoy),
            last: 0,
        }
    }

    /// The box's own address.
    pub(super) fn own(&self) -> Option<&Own> {
        self.own.as_deref()
    }

    /// Copies a frame to the stack; where it takes none, why the frame is dropped.
    #[cold]
    pub(super) fn give(
        &mut self,
        frame: &[u8],
        meta: &Meta,
        (lane, side): (Lane, Side),
        now: Now,
    ) -> Result<(), Reason> {
        let (rate, reason) = match lane {
            Lane::Own => (&mut self.to_own, Reason::InbandRate),
            Lane::Decoy(..) => (&mut self.to_decoys, Reason::DecoyFull),
        };
        // Of a datagram it is not known here: the stack refuses what would begin another conversation, and counts it.
        let begins = meta.proto == TCP && meta.tcp_flags & SYN_ACK == SYN;
        let full = begins && matches!(lane, Lane::Decoy(..)) && self.end.is_full();
        if full || !rate.admits(meta, now.steady) || !self.end.give(frame, lane, side, now.wall) {
            return Err(reason);
        }
        self.last = now.steady;
        Ok(())
    }

    /// Whether an answer of the stack may come soon.
    pub(super) fn is_awake(&self, now: u64) -> bool {
        now.saturating_sub(self.last) < AWAKE
    }
}

/// So many frames a second, and no sender more than a share of them. Each is a bucket, kept as the time at which it is full again (GCRA, ITU-T I.371).
struct Rate {
    interval: u64,
    all: u64,
    senders: Box<[u64; PLACES]>,
    /// Odd, and known to nobody outside: senders cannot choose the place that they share.
    seed: u64,
}

impl Rate {
    fn new(frames: u32) -> Rate {
        Rate {
            interval: 1_000_000_000 / u64::from(frames.max(1)),
            all: 0,
            senders: Box::new([0; PLACES]),
            seed: RandomState::new().hash_one(0) | 1,
        }
    }

    fn place(&self, meta: &Meta) -> usize {
        let [a, b, c, d, e, f] = meta.src_mac;
        let mac = u64::from_be_bytes([0, 0, a, b, c, d, e, f]);
        let address = (meta.src as u64) ^ ((meta.src >> 64) as u64).rotate_left(32);
        let mixed = (address ^ mac.rotate_left(16)).wrapping_mul(self.seed);
        (mixed >> (u64::BITS - PLACES.trailing_zeros())) as usize
    }

    fn admits(&mut self, meta: &Meta, now: u64) -> bool {
        let place = self.place(meta);
        let ahead = 1_000_000_000 / AT_ONCE;
        let fits = |full: u64| full.saturating_sub(now) <= ahead;
        if !fits(self.all) || !fits(self.senders[place]) {
            return false;
        }
        self.all = self.all.max(now) + self.interval;
        self.senders[place] = self.senders[place].max(now) + self.interval * SHARE;
        true
    }
}

/// The lane of a frame with this verdict, where it goes to the stack.
pub(super) fn lane(verdict: Verdict, rule: Option<RuleSlot>) -> Option<Lane> {
    match (verdict, rule) {
        (Verdict::Own, _) => Some(Lane::Own),
        (Verdict::Decoy(manners), Some(rule)) => Some(Lane::Decoy(rule, manners)),
        _ => None,
    }
}

/// Whether the stack is given such a frame at all. Like a rejecting rule, a decoy answers hosts of the LAN alone: who is received there, and where prefixes are named, is of them.
pub(super) fn may_answer(lane: Lane, meta: &Meta, side: Side, inside: &[IpNet]) -> bool {
    let is_inside = |ip| inside.is_empty() || inside.iter().any(|net| net.contains(&ip));
    match lane {
        Lane::Own => true,
        Lane::Decoy(..) => side == Side::Lan && meta.src_ip().is_some_and(is_inside),
    }
}

/// What stands where no stack is: nothing answers.
pub(super) fn refusal(verdict: Verdict) -> Reason {
    match verdict {
        Verdict::Own => Reason::InbandRefused,
        _ => Reason::Rule,
    }
}

impl<P: Port> Worker<P> {
    /// The same, with a way to the stack.
    pub fn with_host(mut self, host: Host) -> Worker<P> {
        self.host = Some(Box::new(host));
        self
    }

    /// Whether the stack may have something to send soon.
    pub fn awaits_host(&self, now: u64) -> bool {
        self.host.as_ref().is_some_and(|host| host.is_awake(now))
    }

    /// Sends what the stack has for us, at most a burst.
    #[inline]
    pub(super) fn send_own(&mut self, now: Now) {
        let Some(parcel) = self.host.as_ref().and_then(|host| host.end.take()) else {
            return;
        };
        self.send_parcels(parcel, now);
    }

    #[cold]
    fn send_parcels(&mut self, first: Box<Parcel>, now: Now) {
        let Some(host) = self.host.take() else {
            return;
        };
        let (mut next, mut sent, mut side) = (Some(first), 0, Side::Lan);
        while let Some(parcel) = next {
            if parcel.side != side {
                self.send_replies(side, 0, now.steady);
                side = parcel.side;
            }
            // Without a free frame it is lost, as on any wire; TCP sends it again.
            match self.pool.pop() {
                Some(mut frame) => match self.umem.write(&mut frame, parcel.bytes()) {
                    Ok(()) => self.burst.replies.push(frame),
                    Err(_) => {
                        self.counters.unsent.add(1);
                        self.pool.push(frame);
                    }
                },
                None => self.counters.unsent.add(1),
            }
            host.end.give_back(parcel);
            sent += 1;
            next = match sent < BURST {
                true => host.end.take(),
                false => None,
            };
        }
        self.send_replies(side, 0, now.steady);
        self.host = Some(host);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Bench;
    use super::*;
    use crate::policy::Manners;

    const SECOND: u64 = 1_000_000_000;

    fn of(host: u32, mac: u8) -> Meta {
        Meta {
            src: host.into(),
            src_mac: [2, 0, 0, 0, 0, mac],
            ..Meta::NONE
        }
    }

    /// How many of a second's frames are admitted, one a millisecond from each sender in turn.
    fn admitted(rate: &mut Rate, senders: &[Meta], from: u64) -> Vec<usize> {
        let mut counts = vec![0; senders.len()];
        for ms in 0..1000 {
            for (count, sender) in counts.iter_mut().zip(senders) {
                *count += usize::from(rate.admits(sender, from + ms * 1_000_000));
            }
        }
        counts
    }

    #[test]
    fn one_sender_has_a_quarter_of_the_rate_and_leaves_the_rest() {
        let mut rate = Rate::new(400);
        let loud = of(1, 1);
        let counts = admitted(&mut rate, &[loud], 10 * SECOND);
        assert!((100..=106).contains(&counts[0]), "{counts:?}");
        // One that is in another place gets its own share beside it.
        let mut others = (2..).map(|n| of(n, 2));
        let other = others
            .find(|other| rate.place(other) != rate.place(&loud))
            .unwrap();
        let counts = admitted(&mut rate, &[loud, other], 20 * SECOND);
        assert!(
            counts.iter().all(|count| (100..=106).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn all_together_have_the_rate_and_what_may_come_at_once() {
        let mut rate = Rate::new(1000);
        let many: Vec<Meta> = (0..200).map(|n| of(n, n as u8)).collect();
        let counts = admitted(&mut rate, &many, 10 * SECOND);
        let all: usize = counts.iter().sum();
        assert!((1000..=1052).contains(&all), "{all}");
    }

    #[test]
    fn senders_spread_over_the_places() {
        let rate = Rate::new(1000);
        let mut places = std::collections::HashSet::new();
        for host in 0..1000 {
            places.insert(rate.place(&of(0x0a4d_0000 + host, host as u8)));
        }
        assert!(places.len() > PLACES / 4, "{}", places.len());
    }

    #[test]
    fn frames_of_the_stack_that_are_not_sent_are_counted_and_lose_no_frame_of_the_pool() {
        let (end, stack) = crate::hoststack::rings::pair(16);
        let rates = Rates { own: 1, decoy: 1 };
        let Bench {
            worker,
            ring,
            in_force,
        } = Bench::new(16);
        let mut bench = Bench {
            worker: worker.with_host(Host::new(end, None, rates)),
            ring,
            in_force,
        };
        let frames = bench.worker.pool().len();
        let send = |n: usize| {
            for _ in 0..n {
                assert!(stack.send(&[0x2a; 60], Lane::Own, Side::Lan));
            }
        };
        bench.worker.ports(Side::Lan)[0].room = Some(3);
        send(10);
        bench.worker.turn(1);
        assert_eq!(bench.sent(Side::Lan).len(), 3);
        assert_eq!(bench.worker.counters().unsent.get(), 7, "no room");

        // All but one are elsewhere.
        bench.worker.ports(Side::Lan)[0].room = None;
        let mut pool: Vec<_> = bench.worker.pool().drain(1..).collect();
        send(4);
        bench.worker.turn(2);
        assert_eq!(bench.worker.counters().unsent.get(), 10, "no frame");
        bench.worker.pool().append(&mut pool);

        let snapshot = bench.settle();
        assert_eq!((snapshot.sides[1].replies, snapshot.unsent), (4, 10));
        assert!(snapshot.balanced(), "{snapshot:?}");
        assert_eq!(bench.worker.pool().len(), frames);
        assert_eq!(stack.room(), 16, "every parcel is back");
    }

    #[test]
    fn a_decoy_answers_only_what_came_in_from_the_lan_and_from_a_source_of_it() {
        let inside: [IpNet; 1] = ["10.77.0.0/24".parse().unwrap()];
        let from = |ip: &str| Meta {
            src: u128::from(u32::from(ip.parse::<std::net::Ipv4Addr>().unwrap())),
            net: crate::frame::Net::V4,
            ..Meta::default()
        };
        let decoy = Lane::Decoy(RuleSlot(0), Manners::Raw);
        let (ours, forged) = (from("10.77.0.9"), from("192.0.2.9"));
        assert!(may_answer(decoy, &ours, Side::Lan, &inside));
        assert!(!may_answer(decoy, &ours, Side::Uplink, &inside));
        assert!(!may_answer(decoy, &forged, Side::Lan, &inside));
        assert!(may_answer(decoy, &forged, Side::Lan, &[]));
        assert!(!may_answer(decoy, &forged, Side::Uplink, &[]));
        assert!(may_answer(Lane::Own, &forged, Side::Uplink, &inside));
    }
}
