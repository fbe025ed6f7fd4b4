//! What a worker gives the box's own stack, within a rate, and what it sends for it.

use super::own::Own;
use super::{Now, Worker};
use crate::frame::Meta;
use crate::hoststack::rings::{Lane, Parcel, WorkerEnd};
use crate::policy::{RuleSlot, Side, Verdict};
use crate::port::{BURST, Port};
use crate::telemetry::Reason;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

/// TCP flags: SYN without ACK begins a connection.
const SYN: u8 = 0x02;
const SYN_ACK: u8 = 0x12;
const TCP: u8 = 6;
/// Senders that are told apart, about: those that share a place share its rate.
const PLACES: usize = 256;
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
            Lane::Decoy(..) => (&mut self.to_decoys, Reason::Rule),
        };
        let begins = meta.proto != TCP || meta.tcp_flags & SYN_ACK == SYN;
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
    seed: RandomState,
}

impl Rate {
    fn new(frames: u32) -> Rate {
        Rate {
            interval: 1_000_000_000 / u64::from(frames.max(1)),
            all: 0,
            senders: Box::new([0; PLACES]),
            seed: RandomState::new(),
        }
    }

    fn admits(&mut self, meta: &Meta, now: u64) -> bool {
        let place = self.seed.hash_one((meta.src_mac, meta.src)) as usize % PLACES;
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
            if let Some(mut frame) = self.pool.pop() {
                match self.umem.write(&mut frame, parcel.bytes()) {
                    Ok(()) => self.burst.replies.push(frame),
                    Err(_) => self.pool.push(frame),
                }
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
