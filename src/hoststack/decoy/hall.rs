//! All conversations, a bounded number, and what becomes of packets that are of none.

use super::talk::{Report, Settings, Talk, Who, begins};
use crate::frame;
use crate::hoststack::rings::{Lane, Parcel};
use crate::policy::{Manners, RuleSlot};
use crate::telemetry::Counter;
use smoltcp::time::Instant;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// Reports that wait to be taken: as many conversations as there may be end at once when the gate does.
const REPORTS: usize = 1024;

/// What the hall counts. One writer, any reader.
#[derive(Debug, Default)]
pub struct Tally {
    /// Conversations now.
    pub open: AtomicU64,
    /// Begun since the start.
    pub begun: Counter,
    /// Not begun: there were as many as may be.
    pub full: Counter,
    /// Not begun: their host had as many as one may have.
    pub host_full: Counter,
    /// Packets of conversations that had begun before them.
    pub heard: Counter,
    /// Packets of no conversation.
    pub strays: Counter,
    /// Packets of the decoys that found no room on their way out.
    pub unsent: Counter,
    /// Conversations that nobody heard of: reports waited, and there was no room.
    pub unreported: Counter,
}

/// The conversations.
pub struct Hall {
    settings: Settings,
    talks: HashMap<Who, Talk>,
    of_host: HashMap<IpAddr, usize>,
    seed: RandomState,
    number: u64,
    reports: Vec<Report>,
    tally: Arc<Tally>,
    frame: Vec<u8>,
}

impl Hall {
    /// An empty one.
    pub fn new(settings: Settings) -> Hall {
        Hall {
            settings,
            talks: HashMap::new(),
            of_host: HashMap::new(),
            seed: RandomState::new(),
            number: 0,
            reports: Vec::new(),
            tally: Arc::default(),
            frame: Vec::new(),
        }
    }

    /// What it counts.
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// Whether nothing more can be begun.
    pub fn is_full(&self) -> bool {
        self.talks.len() >= self.settings.at_most
    }

    /// Whether nobody is talked to.
    pub fn is_empty(&self) -> bool {
        self.talks.is_empty()
    }

    /// The client of each conversation, once for each.
    pub fn clients(&self) -> impl Iterator<Item = IpAddr> {
        self.talks.keys().map(|who| who.client)
    }

    /// Takes a packet, and hands the frames that answer it to `send`, which says whether it takes them.
    pub fn take(&mut self, parcel: &Parcel, now: Instant, send: impl FnMut(&[u8]) -> bool) {
        let Lane::Decoy(rule, manners) = parcel.lane else {
            return;
        };
        self.take_frame(parcel.bytes(), (rule, manners), parcel.time, now, send);
    }

    /// The same for the bytes of a frame that was received at `time`, nanoseconds since the Unix epoch.
    pub fn take_frame(
        &mut self,
        bytes: &[u8],
        by: (RuleSlot, Manners),
        time: u64,
        now: Instant,
        send: impl FnMut(&[u8]) -> bool,
    ) {
        let Some((meta, who)) = frame::parse(bytes)
            .ok()
            .and_then(|meta| Some((meta, Who::of(bytes, &meta)?)))
        else {
            self.tally.strays.add(1);
            return;
        };
        if self.talks.contains_key(&who) {
            self.tally.heard.add(1);
        } else {
            if !begins(&meta) {
                self.tally.strays.add(1);
                return;
            }
            let of_host = self.of_host.get(&who.client).copied().unwrap_or(0);
            if self.is_full() {
                self.tally.full.add(1);
                return;
            }
            if of_host >= self.settings.for_a_host {
                self.tally.host_full.add(1);
                return;
            }
            self.number += 1;
            let seed = self.seed.hash_one(self.number);
            let Some(talk) = Talk::begin(bytes, &meta, by, &self.settings, (seed, time), now)
            else {
                self.tally.strays.add(1);
                return;
            };
            self.tally.begun.add(1);
            *self.of_host.entry(who.client).or_insert(0) += 1;
            self.talks.insert(who, talk);
            self.tally.open.store(self.talks.len() as u64, Relaxed);
        }
        let Some(talk) = self.talks.get_mut(&who) else {
            return;
        };
        talk.take(bytes, &meta, &self.settings, now);
        flush(talk, &mut self.frame, &self.tally, send);
        if talk.is_over() {
            self.close(&who, now);
        }
    }

    /// Does what is due: sends again, ends what has lasted long enough.
    pub fn tick(&mut self, now: Instant, mut send: impl FnMut(&[u8]) -> bool) {
        let mut over = Vec::new();
        for (who, talk) in self.talks.iter_mut().filter(|(_, talk)| talk.is_due(now)) {
            talk.turn(&self.settings, now);
            flush(talk, &mut self.frame, &self.tally, &mut send);
            if talk.is_over() {
                over.push(*who);
            }
        }
        for who in over {
            self.close(&who, now);
        }
    }

    /// Ends all conversations, for the end of the gate.
    pub fn end(&mut self, now: Instant) {
        let all: Vec<Who> = self.talks.keys().copied().collect();
        for who in all {
            self.close(&who, now);
        }
    }

    /// The conversations that are over since the last time.
    pub fn reports(&mut self) -> std::vec::Drain<'_, Report> {
        self.reports.drain(..)
    }

    fn close(&mut self, who: &Who, now: Instant) {
        let Some(talk) = self.talks.remove(who) else {
            return;
        };
        self.tally.open.store(self.talks.len() as u64, Relaxed);
        if let Some(open) = self.of_host.get_mut(&who.client) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                self.of_host.remove(&who.client);
            }
        }
        if let Some(report) = talk.report(now) {
            match self.reports.len() < REPORTS {
                true => self.reports.push(report),
                false => self.tally.unreported.add(1),
            }
        }
    }
}

/// Sends what a conversation has to send.
fn flush(talk: &mut Talk, frame: &mut Vec<u8>, tally: &Tally, mut send: impl FnMut(&[u8]) -> bool) {
    let link = talk.link;
    for packet in talk.wire.outgoing.drain(..) {
        link.wrap(&packet, frame);
        if !send(frame) {
            tally.unsent.add(1);
        }
    }
}
