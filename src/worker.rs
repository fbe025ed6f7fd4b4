//! The loop: receive, parse, classify, act, send.
//!
//! Nothing here allocates, locks, logs, reads a clock or makes a syscall; the port makes the wake-ups. Time is a parameter, once a turn.

use crate::action::reject::Rejector;
use crate::frame::{self, Meta};
use crate::policy::admit::{Admit, admit};
use crate::policy::table::Table;
use crate::policy::{Key, RuleId, Severity, Side, Verdict};
use crate::port::{BURST, Port};
use crate::telemetry::{Cause, Event, EventRing, Reason, WorkerCounters};
use af_xdp::{Frame, Umem};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// One core's share of the gate: its queues of both sides, its frames, its counters.
pub struct Worker<P: Port> {
    umem: Umem,
    /// Frames that no port holds. Its capacity is the number of all frames of this worker, so that it never grows.
    pool: Vec<Frame>,
    ports: [Vec<P>; 2],
    table: Arc<Table>,
    rejector: Rejector,
    counters: Arc<WorkerCounters>,
    events: EventRing,
    burst: Burst,
}

/// What one burst is worked on in.
struct Burst {
    received: Vec<Frame>,
    forward: Vec<Frame>,
    replies: Vec<Frame>,
    parsed: Vec<Result<Meta, Reason>>,
    verdicts: Vec<(Verdict, Option<RuleId>)>,
    keys: Vec<Key>,
    asked: Vec<u8>,
    rules: [RuleId; BURST],
}

impl Burst {
    fn new() -> Burst {
        Burst {
            received: Vec::with_capacity(BURST),
            forward: Vec::with_capacity(BURST),
            replies: Vec::with_capacity(BURST),
            parsed: Vec::with_capacity(BURST),
            verdicts: Vec::with_capacity(BURST),
            keys: Vec::with_capacity(BURST),
            asked: Vec::with_capacity(BURST),
            rules: [RuleId(0); BURST],
        }
    }
}

impl<P: Port> Worker<P> {
    /// A worker over `ports` (by [`Side`], at least one each) that owns `frames` of `umem`.
    pub fn new(umem: Umem, frames: Vec<Frame>, ports: [Vec<P>; 2], table: Arc<Table>, rejector: Rejector, events: EventRing) -> Worker<P> {
        let counters = Arc::new(WorkerCounters::new(table.rules().len()));
        Worker { umem, pool: frames, ports, table, rejector, counters, events, burst: Burst::new() }
    }

    /// What this worker counts, for others to read.
    pub fn counters(&self) -> Arc<WorkerCounters> {
        Arc::clone(&self.counters)
    }

    /// The ports of one side.
    pub fn ports(&mut self, side: Side) -> &mut [P] {
        &mut self.ports[side as usize]
    }

    /// The ports of one side, to look at.
    pub fn ports_ref(&self, side: Side) -> &[P] {
        &self.ports[side as usize]
    }

    /// Frames that no port holds: with those in rings and in flight, all that the worker was given.
    pub fn pool(&mut self) -> &mut Vec<Frame> {
        &mut self.pool
    }

    /// The memory of the frames.
    pub fn umem(&self) -> &Umem {
        &self.umem
    }

    /// One turn over all queues at `now` (nanoseconds since the Unix epoch). Says how many frames it received.
    pub fn turn(&mut self, now: u64) -> usize {
        let mut received = 0;
        for side in Side::BOTH {
            for queue in 0..self.ports[side as usize].len() {
                received += self.pass(side, queue, now);
            }
        }
        self.counters.turns.add(1);
        self.counters.busy_turns.add((received > 0) as u64);
        self.counters.last_turn.store(now, Relaxed);
        received
    }

    /// One burst from one queue to the other side.
    fn pass(&mut self, side: Side, queue: usize, now: u64) -> usize {
        let other = side.other();
        let out = queue % self.ports[other as usize].len();
        self.reclaim(other, out);
        let port = &mut self.ports[side as usize][queue];
        port.refill(&mut self.pool);
        let oversize = port.take_oversize();
        let received = port.receive(&mut self.burst.received, BURST);
        if received > 0 {
            self.judge(side);
            self.act(side, now);
        }
        self.account_oversize(side, oversize);
        self.send(side, out, now);
        self.send_replies(side, queue, now);
        received
    }

    /// Takes back what was sent on a queue of `side`: frames that came from the other one.
    fn reclaim(&mut self, side: Side, queue: usize) {
        let done = self.ports[side as usize][queue].reclaim(&mut self.pool);
        let counters = &self.counters.sides[side.other() as usize];
        counters.completed.add(done.sent.into());
        counters.tx_failed.add(done.failed.into());
    }

    /// Parses and classifies the burst: fills `verdicts`, one for each received frame.
    fn judge(&mut self, side: Side) {
        let Burst { received, parsed, verdicts, keys, asked, rules, .. } = &mut self.burst;
        for frame in received.iter() {
            self.umem.prefetch(frame);
        }
        for (at, frame) in received.iter().enumerate() {
            let meta = frame::parse(self.umem.bytes(frame));
            let verdict = match &meta {
                Err(reason) => Verdict::Drop(*reason),
                Ok(meta) => match admit(meta, side) {
                    Admit::Pass => Verdict::Forward,
                    Admit::Drop(reason) => Verdict::Drop(reason),
                    Admit::Ask(key) => {
                        keys.push(key);
                        asked.push(at as u8);
                        // Overwritten below; a frame that the table somehow left out is not let through.
                        Verdict::Drop(Reason::Default)
                    }
                },
            };
            parsed.push(meta);
            verdicts.push((verdict, None));
        }
        self.table.classify(keys, &mut rules[..keys.len()]);
        for (at, rule) in asked.iter().zip(rules.iter()) {
            verdicts[usize::from(*at)] = (self.table.verdict(*rule), Some(*rule));
        }
        keys.clear();
        asked.clear();
    }

    /// Counts the burst and moves each frame to where its verdict sends it.
    fn act(&mut self, side: Side, now: u64) {
        let counters = &self.counters.sides[side as usize];
        let mut bytes = 0;
        let (mut forwarded, mut forwarded_bytes) = (0, 0);
        let frames = self.burst.received.drain(..).zip(self.burst.parsed.drain(..)).zip(self.burst.verdicts.drain(..));
        for ((frame, parsed), (verdict, rule)) in frames {
            let len = u64::from(frame.len());
            bytes += len;
            counters.rx.add(1);
            let mut cause = None;
            if let Some(rule) = rule {
                let index = usize::from(rule.0);
                if let Some(hits) = self.counters.rules.get(index) {
                    hits.packets.add(1);
                    hits.bytes.add(len);
                }
                cause = self.table.rules()[index].alert.map(|_| Cause::Rule(rule));
            }
            match verdict {
                Verdict::Forward => {
                    forwarded += 1;
                    forwarded_bytes += len;
                }
                Verdict::Drop(reason) => {
                    counters.dropped[reason.index()].add(1);
                    if reason_alert(reason).is_some() {
                        cause = Some(Cause::Reason(reason));
                    }
                }
                Verdict::Reject(_) => counters.rejected.add(1),
            }
            if let Some(cause) = cause {
                let meta = parsed.unwrap_or_else(|_| frame::macs(self.umem.bytes(&frame)));
                let event = Event { time: now, cause, verdict, side, len: frame.len(), meta };
                if self.events.push(event).is_err() {
                    self.counters.events_lost.add(1);
                }
            }
            match (verdict, parsed) {
                (Verdict::Forward, _) => self.burst.forward.push(frame),
                // The answer takes the place of what it answers: the frame is free, and has the headers at hand.
                (Verdict::Reject(_), Ok(meta)) => match self.rejector.answer(&self.umem, frame, &meta, side, now) {
                    Ok(reply) => self.burst.replies.push(reply),
                    Err(frame) => self.pool.push(frame),
                },
                _ => self.pool.push(frame),
            }
        }
        counters.rx_bytes.add(bytes);
        counters.forwarded.add(forwarded);
        counters.forwarded_bytes.add(forwarded_bytes);
    }

    fn account_oversize(&mut self, side: Side, frames: u64) {
        let counters = &self.counters.sides[side as usize];
        counters.rx.add(frames);
        counters.dropped[Reason::Oversize.index()].add(frames);
    }

    /// Sends the burst on the other side; what finds no room is dropped and counted.
    fn send(&mut self, side: Side, queue: usize, now: u64) {
        let port = &mut self.ports[side.other() as usize][queue];
        let forward = &mut self.burst.forward;
        if !forward.is_empty() && port.send(forward) > 0 && !forward.is_empty() {
            // A full ring is usually one that was not yet told to send.
            port.flush(now);
            port.send(forward);
        }
        port.flush(now);
        self.counters.sides[side as usize].tx_failed.add(forward.len() as u64);
        self.pool.append(forward);
    }

    /// Sends our own answers back where the frames came from.
    fn send_replies(&mut self, side: Side, queue: usize, now: u64) {
        if self.burst.replies.is_empty() {
            return;
        }
        let port = &mut self.ports[side as usize][queue];
        let sent = port.send(&mut self.burst.replies);
        port.flush(now);
        self.counters.sides[side.other() as usize].replies.add(sent as u64);
        self.pool.append(&mut self.burst.replies);
    }
}

/// The reasons that alert by themselves: frames that nobody makes by accident.
pub fn reason_alert(reason: Reason) -> Option<Severity> {
    match reason {
        Reason::FragmentTiny | Reason::SourceRoute => Some(Severity::Medium),
        _ => None,
    }
}
