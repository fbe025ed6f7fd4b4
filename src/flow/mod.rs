//! What is remembered of traffic: flows and the fragments of datagrams, in memory that all workers share.
//!
//! ```text
//! meta ─ kind ─┬─ TCP, UDP, ICMP query, other ── key, hash ─► slots ─► a live flow: its verdict, its state moved on
//!              │                                                └────► none: do the rules let it open?
//!              ├─ ICMP error ── the packet it quotes ── key ─► a live flow, or dropped
//!              ├─ later fragment ─► datagrams: the verdict of the first, or wait for it
//!              ├─ the first payload of a client ─► stream: what it is, if a rule asks
//!              └─ no flow to be had (multicast, IGMP): the rules decide over each frame
//! ```
//!
//! [`Flows`] is the memory, made once; a [`Tracker`] is one worker's hand on it. The rules say who may open; a flow carries
//! the generation of the policy that judged it, and is judged again when that is not the one in force.
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic)
)]

pub mod datagram;
mod express;
mod free;
pub mod key;
mod kind;
pub mod slots;
pub mod state;
pub mod stream;
mod sync;
pub mod tcp;
mod tracker;
mod watch;

pub use datagram::{Datagrams, Outcome};
pub use express::Express;
pub use key::FlowKey;
pub use kind::Kind;
pub use state::{Control, Timeouts, Watch};
pub use stream::{Known, Shown};
pub use tracker::{Answer, Found, Judged, Refused, Settled, Track, Tracker, Why, key_of, opener};
pub use watch::{Look, Seen, Still};

use crate::telemetry::counters::FlowCounters;
use key::Hasher;
use slots::{KeyWords, Slots, Tag};
use state::Limits;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use stream::Streams;

/// What a flow that finds no room gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Its frames are dropped.
    #[default]
    Drop,
    /// Its frames are judged by the rules one by one, and what is under way is adopted when there is room again.
    Allow,
}

/// How much is remembered, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Flows that there is room for.
    pub size: usize,
    /// Flows that one host on the LAN side may have; at most `size`.
    pub per_host: usize,
    /// What a flow that finds no room gets.
    pub overflow: Overflow,
    /// How long after the start connections that were open before are adopted.
    pub adopt: Duration,
    /// Fragmented datagrams that may be under way.
    pub datagrams: usize,
    /// TCP streams whose first bytes came in pieces, and may be kept until it is known what they are.
    pub streams: usize,
    /// How long a flow may be idle.
    pub timeouts: Timeouts,
}

impl Settings {
    /// Room for `size` flows, an eighth of them for one host.
    pub fn of_size(size: usize) -> Settings {
        Settings {
            size,
            per_host: (size / 8).max(1),
            overflow: Overflow::Drop,
            adopt: Duration::from_secs(60),
            datagrams: 2048,
            streams: 2048,
            timeouts: Timeouts::default(),
        }
    }
}

impl Settings {
    /// Bytes of memory that this takes, [`Flows::bytes`] without making it.
    pub fn bytes(&self) -> usize {
        Slots::bytes_of(self.size)
            + HOSTS * size_of::<AtomicU32>()
            + Datagrams::bytes_of(self.datagrams)
            + Streams::bytes_of(self.streams)
    }
}

impl Default for Settings {
    /// A million flows.
    fn default() -> Settings {
        Settings::of_size(1_000_000)
    }
}

/// Counters of flows by inside host: a host's place is by its keyed hash, so two of a LAN's hosts share one only by chance.
const HOSTS: usize = 1 << 16;
/// After a refusal with [`Overflow::Allow`], connections without a flow are adopted for this long, nanoseconds.
const ADOPT_AFTER_REFUSAL: u64 = 60_000_000_000;

/// The memory of flows and datagrams.
pub struct Flows {
    slots: Slots,
    hasher: Hasher,
    limits: Limits,
    hosts: Box<[AtomicU32]>,
    per_host: u32,
    overflow: Overflow,
    adopt: Duration,
    /// Connections without a flow are adopted until then, nanoseconds of the steady clock; 0 before the first turn.
    adopt_until: AtomicU64,
    datagrams: Datagrams,
    streams: Streams,
}

impl Flows {
    /// Allocates all that will ever be used.
    pub fn new(settings: &Settings) -> Arc<Flows> {
        let hasher = Hasher::random();
        Arc::new(Flows {
            slots: Slots::new(settings.size),
            limits: Limits::new(&settings.timeouts),
            hosts: (0..HOSTS).map(|_| AtomicU32::new(0)).collect(),
            per_host: settings.per_host.clamp(1, u32::MAX as usize) as u32,
            overflow: settings.overflow,
            adopt: settings.adopt,
            adopt_until: AtomicU64::new(0),
            datagrams: Datagrams::new(settings.datagrams),
            streams: Streams::new(settings.streams),
            hasher,
        })
    }

    /// The hand of the worker `index` of `workers`.
    pub fn tracker(self: &Arc<Flows>, index: usize, workers: usize) -> Tracker {
        Tracker::new(Arc::clone(self), index, workers)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.slots.bytes()
            + size_of_val(&*self.hosts)
            + self.datagrams.bytes()
            + self.streams.bytes()
    }

    /// Flows that live now, counted one by one: for tests and tools.
    pub fn count(&self) -> usize {
        (0..self.slots.buckets())
            .map(|bucket| self.slots.live(bucket).count())
            .sum()
    }

    /// Every flow that lives now, as it stands when it is met: for tools. Those that come and go meanwhile may be met or not.
    pub fn each(&self, mut met: impl FnMut(&FlowKey, Control)) {
        for bucket in 0..self.slots.buckets() {
            for slot in self.slots.live(bucket) {
                if let (Some(key), Some((control, _))) =
                    (self.slots.key(&slot), self.slots.read(&slot))
                {
                    met(&FlowKey::from_words(&key), Control::unpack(control));
                }
            }
        }
    }

    /// Flows of one inside host, or of those that share its place.
    pub fn of_host(&self, inside: u128) -> u32 {
        self.host(inside).load(Relaxed)
    }

    fn host(&self, inside: u128) -> &AtomicU32 {
        let at = (self.hasher.host(inside) >> 32) as usize % HOSTS;
        &self.hosts[at]
    }

    fn hash(&self, key: &KeyWords) -> u64 {
        self.hasher.hash(key)
    }

    /// One flow of this key is gone.
    fn gone(&self, key: &KeyWords) {
        self.host(FlowKey::from_words(key).inside)
            .fetch_sub(1, Relaxed);
    }

    /// Forgets flows of these buckets whose time is over at `tick`.
    fn sweep(&self, buckets: Range<usize>, tick: u16, counters: &FlowCounters) {
        self.forget(buckets, |tag| self.limits.over(tag, tick), counters);
    }

    fn forget(&self, buckets: Range<usize>, over: impl Fn(Tag) -> bool, counters: &FlowCounters) {
        for bucket in buckets {
            for slot in self.slots.live(bucket) {
                if over(slot.tag)
                    && let Some(key) = self.slots.remove(&slot, |key| self.hash(key))
                {
                    self.gone(&key);
                    counters.expired.add(1);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_that_is_told_is_the_memory_that_is_taken() {
        for size in [1024, 5000, 100_000] {
            let settings = Settings::of_size(size);
            assert_eq!(Flows::new(&settings).bytes(), settings.bytes());
        }
        assert!(Settings::default().bytes() < 100 << 20);
    }
}
