//! The loop: receive, parse, classify, act, send.
//!
//! Nothing here allocates, locks, logs or makes a syscall; the port makes the wake-ups. Time is a parameter, once a turn; a clock is read only where it is asked how long
//! frames are in the box, twice for one of [`TIMED`] times that a queue has something.

mod court;
mod held;
mod host;
mod judge;
mod looks;
mod observer;
mod own;
mod rest;
mod shown;
mod teller;

use crate::action::reject::Rejector;
use crate::flow::Tracker;
use crate::frame::{Meta, Net};
use crate::policy::{Generation, InForce, RuleSlot, Severity, Side, Verdict};
use crate::port::{BURST, Port};
use crate::telemetry::counters::{Health, SideCounters};
use crate::telemetry::dhcp::{self, DhcpRequest, DhcpRing};
use crate::telemetry::{Cause, EventRing, ObservationRing, Reason, Recorder, WorkerCounters};
use af_xdp::{Frame, Umem};
use arc_swap::Cache;
use court::{Court, Ruling};
use held::Held;
pub use held::LONGEST as LONGEST_HELD;
pub use host::{Host, Rates};
use judge::Burst;
use observer::Observer;
pub use own::Own;
use shown::Showcase;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;
use teller::{Alarm, Teller, mac_bits};

/// Bursts from one queue before the kernel is told to send: a wake-up is a syscall, and costs less for many frames at once.
const BURSTS: usize = 4;

/// One of so many times that frames are received it is measured how long it takes to send them.
///
/// A prime, so that queues that are read in turn are all measured.
const TIMED: u32 = 61;

/// The time of one turn, nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// Since the Unix epoch: what records say. It may be set while the gate runs.
    pub wall: u64,
    /// Of a clock that only goes on, and that all workers share: what limits and time-outs go by.
    pub steady: u64,
}

impl From<u64> for Now {
    /// Both clocks at this time: for captures, whose frames bring their time, and for tests.
    fn from(time: u64) -> Now {
        Now {
            wall: time,
            steady: time,
        }
    }
}

/// One core's share of the gate: its queues of both sides, its frames, its counters.
pub struct Worker<P: Port> {
    umem: Umem,
    /// Frames that no port holds. Its capacity is the number of all frames of this worker, so that it never grows.
    pool: Vec<Frame>,
    ports: [Vec<P>; 2],
    /// One load of a pointer a burst, as long as the policy stays the same. Whoever stores a new one keeps the old one until no
    /// worker holds it, so that no table is freed here.
    policy: Cache<InForce, Arc<Generation>>,
    tracker: Tracker,
    held: Held,
    rejector: Rejector,
    counters: Arc<WorkerCounters>,
    teller: Teller,
    /// `None` where no evidence is kept.
    recorder: Option<Recorder>,
    dhcp: DhcpRing,
    burst: Burst,
    shown: Showcase,
    observer: Observer,
    /// `None` where the box has no stack of its own: in a replay.
    host: Option<Box<Host>>,
    stopwatch: Stopwatch,
}

/// Measures how long frames are in the box, now and then.
#[derive(Default)]
struct Stopwatch {
    /// `None` where nobody asks.
    clock: Option<fn() -> Instant>,
    passed: u32,
}

impl Stopwatch {
    /// Frames were received: the time, where they are among those that are measured.
    #[inline]
    fn start(&mut self) -> Option<Instant> {
        self.passed = self.passed.wrapping_add(1);
        match self.clock {
            Some(clock) if self.passed.is_multiple_of(TIMED) => Some(clock()),
            _ => None,
        }
    }

    /// They were sent.
    #[inline]
    fn stop(&self, since: Option<Instant>, health: &Health) {
        if let (Some(since), Some(clock)) = (since, self.clock) {
            health.time(clock().saturating_duration_since(since));
        }
    }
}

impl<P: Port> Worker<P> {
    /// A worker over `ports` (by [`Side`], at least one each) that owns `frames` of `umem`. The trackers of all workers of a gate are of the same
    /// [`Flows`](crate::flow::Flows).
    pub fn new(
        umem: Umem,
        frames: Vec<Frame>,
        ports: [Vec<P>; 2],
        policy: InForce,
        tracker: Tracker,
        rejector: Rejector,
        events: EventRing,
    ) -> Worker<P> {
        let generation = policy.load_full();
        let counters = Arc::new(WorkerCounters::new(generation.roster().room()));
        counters.health.frames.store(frames.len() as u64, Relaxed);
        Worker {
            umem,
            pool: frames,
            ports,
            policy: Cache::new(policy),
            tracker,
            held: Held::new(),
            rejector,
            counters,
            teller: Teller::new(events),
            recorder: None,
            dhcp: dhcp::ring(),
            burst: Burst::new(generation),
            shown: Showcase::new(),
            observer: Observer::closed(),
            host: None,
            stopwatch: Stopwatch::default(),
        }
    }

    /// It owns so many frames, some of which are in the rings of its ports already.
    pub fn owning(self, frames: usize) -> Worker<P> {
        self.counters.health.frames.store(frames as u64, Relaxed);
        self
    }

    /// Measures now and then, by this clock, how long frames are in the box.
    pub fn timed(mut self, clock: fn() -> Instant) -> Worker<P> {
        self.stopwatch.clock = Some(clock);
        self
    }

    /// Records every frame that it receives, for evidence.
    pub fn with_recorder(mut self, recorder: Option<Recorder>) -> Worker<P> {
        self.recorder = recorder;
        self
    }

    /// The same, and it tells what it sees hosts of the LAN do.
    pub fn observing(mut self, ring: ObservationRing) -> Worker<P> {
        self.tracker.note_answers(2 * BURST);
        self.observer = Observer::into(ring);
        self
    }

    /// What this worker counts, for others to read.
    pub fn counters(&self) -> Arc<WorkerCounters> {
        Arc::clone(&self.counters)
    }

    /// Where the requests of DHCP clients are copied to.
    pub fn dhcp(&self) -> DhcpRing {
        Arc::clone(&self.dhcp)
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

    /// One turn over all queues. Says how many frames it received.
    pub fn turn(&mut self, now: impl Into<Now>) -> usize {
        self.turn_at(now.into())
    }

    fn turn_at(&mut self, now: Now) -> usize {
        // A worker that receives nothing lets go of a generation that was replaced, too.
        self.burst.under(self.policy.load());
        self.tracker.tick(now.steady, &self.counters.flows);
        let release = self.held.is_due(self.tracker.datagrams(), now.steady);
        let mut received = 0;
        for side in Side::BOTH {
            for queue in 0..self.ports[side as usize].len() {
                received += self.pass(side, queue, release, now);
            }
        }
        self.send_own(now);
        let lost = &self.counters.events_lost;
        self.teller.tell_rest(now, false, lost);
        if let Some(recorder) = &mut self.recorder {
            recorder.tick(now.steady);
        }
        self.levels();
        self.counters.turns.add(1);
        self.counters.busy_turns.add((received > 0) as u64);
        self.counters.last_turn.store(now.steady, Relaxed);
        received
    }

    /// Says where its frames are.
    fn levels(&self) {
        let Health {
            pool,
            transmit,
            held,
            ..
        } = &self.counters.health;
        pool.store(self.pool.len() as u64, Relaxed);
        held.store(self.held.len() as u64, Relaxed);
        let queues = self.ports.iter().flatten();
        transmit.store(
            queues.map(|port| u64::from(port.in_flight())).sum(),
            Relaxed,
        );
    }

    /// Tells of every alert that was counted and not told yet: at the end.
    pub fn tell_rest(&mut self, now: impl Into<Now>) {
        let lost = &self.counters.events_lost;
        self.teller.tell_rest(now.into(), true, lost);
    }

    /// Frames that wait for the first fragment of their datagram.
    pub fn waiting(&self) -> usize {
        self.held.len()
    }

    /// From one queue to the other side: up to [`BURSTS`] bursts, told to the kernel at once.
    fn pass(&mut self, side: Side, queue: usize, release: bool, now: Now) -> usize {
        let other = side.other();
        let out = queue % self.ports[other as usize].len();
        self.reclaim(other, out);
        if queue >= self.ports[other as usize].len() {
            // No queue of the other side sends here, so nobody else looks after the replies that this one sent.
            self.ports[side as usize][queue].flush(now.steady);
            self.reclaim(side, queue);
        }
        self.ports[side as usize][queue].refill(&mut self.pool);
        if release {
            self.release(side, queue, out, now);
        }
        let mut total = 0;
        let (mut since, mut forwards) = (None, false);
        for _ in 0..BURSTS {
            let port = &mut self.ports[side as usize][queue];
            let received = port.receive(&mut self.burst.received, BURST);
            if received == 0 {
                break;
            }
            if total == 0 {
                since = self.stopwatch.start();
            }
            total += received;
            self.counters.health.burst(received);
            let generation = self.policy.load();
            self.burst.under(generation);
            self.burst.judge(Court {
                umem: &self.umem,
                generation,
                tracker: &mut self.tracker,
                counters: &self.counters.flows,
                shown: &mut self.shown,
                observer: &mut self.observer,
                unobserved: &self.counters.observations_lost,
                own: self.host.as_ref().and_then(|host| host.own()),
                side,
                now,
            });
            self.observer.look(
                &self.umem,
                &mut self.burst,
                side,
                self.tracker.answers(),
                now,
                &self.counters.observations_lost,
            );
            self.act(side, queue, now);
            forwards |= !self.burst.forward.is_empty();
            self.send(side, out, now.steady);
            self.send_replies(side, queue, now.steady);
            if received < BURST {
                break;
            }
        }
        let oversize = self.ports[side as usize][queue].take_oversize();
        self.account_oversize(side, oversize);
        self.ports[other as usize][out].flush(now.steady);
        self.stopwatch
            .stop(since.filter(|_| forwards), &self.counters.health);
        total
    }

    /// Takes back what was sent on a queue of `side`: frames that came from the other one.
    fn reclaim(&mut self, side: Side, queue: usize) {
        let done = self.ports[side as usize][queue].reclaim(&mut self.pool);
        let counters = &self.counters.sides[side.other() as usize];
        counters.completed.add(done.sent.into());
        counters.tx_failed.add(done.failed.into());
    }

    /// Counts the burst and moves each frame to where its ruling sends it.
    fn act(&mut self, side: Side, queue: usize, now: Now) {
        let counters = &self.counters.sides[side as usize];
        let frames = self.burst.received.len() as u64;
        let bytes = self.burst.received.iter().map(|frame| frame.len() as u64);
        let bytes = bytes.sum();
        counters.rx.add(frames);
        counters.rx_bytes.add(bytes);
        if self.recorder.is_some() {
            self.record(side, now);
        }
        if self.burst.others() == 0 && self.burst.forward.is_empty() {
            // All of them pass: nothing is dealt out.
            let counters = &self.counters.sides[side as usize];
            counters.forwarded.add(frames);
            counters.forwarded_bytes.add(bytes);
            for (frame, rule) in self.burst.received.iter().zip(&self.burst.rules) {
                self.counters.hit(*rule, frame.len() as u64);
            }
            std::mem::swap(&mut self.burst.received, &mut self.burst.forward);
            return;
        }
        // Taken out for as long as its frames are dealt out, and put back with its capacity.
        let mut received = std::mem::take(&mut self.burst.received);
        let passed = self.burst.passed;
        let (mut desk, rules, metas, rulings) = self.desk(side, queue, now);
        let judged = rules.iter().zip(metas).zip(rulings).enumerate();
        for (frame, (at, ((rule, meta), ruling))) in received.drain(..).zip(judged) {
            if passed >> at & 1 == 1 {
                desk.pass_by(*rule, frame);
                continue;
            }
            match ruling.plain() {
                Some(rule) if !dhcp::is_request(meta.sport, meta.dport) => {
                    desk.pass_by(rule, frame);
                }
                _ => desk.deal(frame, meta, ruling),
            }
        }
        desk.close();
        self.burst.received = received;
    }

    /// Keeps a copy of the burst, with what becomes of each frame.
    fn record(&mut self, side: Side, now: Now) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        let burst = &mut self.burst;
        for at in 0..burst.received.len() {
            let verdict = match (burst.shadow, burst.verdict(at)) {
                (true, verdict) if verdict != Verdict::Own => Verdict::Forward,
                (_, verdict) => verdict,
            };
            let meta = *burst.meta(at, &self.umem);
            let bytes = self.umem.bytes(&burst.received[at]);
            recorder.record(now.wall, side, &meta, verdict, bytes);
        }
    }

    /// What frames of one queue are dealt out with, and the rules, headers and rulings of the burst.
    fn desk(
        &mut self,
        side: Side,
        queue: usize,
        now: Now,
    ) -> (
        Desk<'_>,
        &[RuleSlot; BURST],
        &[Meta; BURST],
        &[Ruling; BURST],
    ) {
        let desk = Desk {
            umem: &self.umem,
            pool: &mut self.pool,
            rejector: &mut self.rejector,
            host: self.host.as_deref_mut(),
            all: &self.counters,
            teller: &mut self.teller,
            dhcp: &self.dhcp,
            forward: &mut self.burst.forward,
            replies: &mut self.burst.replies,
            held: &mut self.held,
            shown: &self.shown,
            generation: &self.burst.generation,
            shadow: self.burst.shadow,
            from: (side, queue),
            now,
            forwarded: (0, 0),
        };
        (
            desk,
            &self.burst.rules,
            &self.burst.metas,
            &self.burst.rulings,
        )
    }

    /// What was longer than a chunk is no frame that could be sent: it is dropped in shadow too.
    fn account_oversize(&mut self, side: Side, frames: u64) {
        let counters = &self.counters.sides[side as usize];
        counters.rx.add(frames);
        counters.dropped[Reason::Oversize.index()].add(frames);
    }

    /// Sends the burst on the other side; what finds no room is dropped and counted.
    fn send(&mut self, side: Side, queue: usize, now: u64) {
        let other = side.other();
        self.ports[other as usize][queue].send(&mut self.burst.forward);
        if !self.burst.forward.is_empty() {
            // A full ring is usually one that was not yet told to send, or whose completions nobody took.
            self.ports[other as usize][queue].flush(now);
            self.reclaim(other, queue);
            self.ports[other as usize][queue].send(&mut self.burst.forward);
        }
        let failed = self.burst.forward.len() as u64;
        self.counters.sides[side as usize].tx_failed.add(failed);
        self.pool.append(&mut self.burst.forward);
    }

    /// Sends our own answers back where the frames came from; what finds no room is counted.
    fn send_replies(&mut self, side: Side, queue: usize, now: u64) {
        if self.burst.replies.is_empty() {
            return;
        }
        let port = &mut self.ports[side as usize][queue];
        let sent = port.send(&mut self.burst.replies);
        port.flush(now);
        self.counters.sides[side.other() as usize]
            .replies
            .add(sent as u64);
        self.counters.unsent.add(self.burst.replies.len() as u64);
        self.pool.append(&mut self.burst.replies);
    }
}

/// Where frames are dealt out by their rulings.
struct Desk<'a> {
    umem: &'a Umem,
    pool: &'a mut Vec<Frame>,
    rejector: &'a mut Rejector,
    host: Option<&'a mut Host>,
    all: &'a WorkerCounters,
    teller: &'a mut Teller,
    dhcp: &'a DhcpRing,
    forward: &'a mut Vec<Frame>,
    replies: &'a mut Vec<Frame>,
    held: &'a mut Held,
    shown: &'a Showcase,
    /// Which has judged them.
    generation: &'a Generation,
    shadow: bool,
    from: (Side, usize),
    now: Now,
    /// Frames and bytes.
    forwarded: (u64, u64),
}

impl Desk<'_> {
    /// Forwards one frame that there is nothing to say about but which rule lets it through.
    #[inline(always)]
    fn pass_by(&mut self, rule: RuleSlot, frame: Frame) {
        let len = frame.len() as u64;
        self.hit(rule, len);
        self.pass(frame, len);
    }

    /// Counts one frame and moves it to where its ruling sends it.
    #[inline(never)]
    fn deal(&mut self, mut frame: Frame, meta: &Meta, ruling: &Ruling) {
        let len = frame.len() as u64;
        if dhcp::is_request(meta.sport, meta.dport) {
            self.hear(&frame, meta);
        }
        if let Some((rule, verdict)) = ruling.shadowed {
            self.hit(rule, len);
            self.tell(Cause::Rule(rule), verdict, true, &frame, meta, ruling);
        }
        if let Some(rule) = ruling.rule {
            self.hit(rule, len);
        }
        if let Some(cause) = ruling.cause {
            self.tell(cause, ruling.verdict, self.shadow, &frame, meta, ruling);
        }
        // A box in shadow changes nothing, not even the order.
        if ruling.waits && !self.shadow {
            match self.held.hold(frame, meta, self.from, self.now.steady) {
                Ok(()) => {
                    self.all.flows.held.add(1);
                    return;
                }
                Err(back) => frame = back,
            }
        }
        match ruling.verdict {
            Verdict::Forward => self.pass(frame, len),
            Verdict::Drop(reason) | Verdict::Reject(reason) if self.shadow => {
                self.counters().shadow[reason.index()].add(1);
                self.pass(frame, len);
            }
            Verdict::Drop(reason) => self.drop(frame, reason),
            Verdict::Decoy(_) if self.shadow => {
                self.counters().shadow[Reason::Rule.index()].add(1);
                self.pass(frame, len);
            }
            Verdict::Decoy(_) | Verdict::Own => self.keep(frame, meta, ruling),
            // The answer takes the place of what it answers: the frame is free, and has the headers at hand.
            Verdict::Reject(_) => {
                self.counters().rejected.add(1);
                self.counters().rejected_bytes.add(len);
                let now = self.now.steady;
                let by = (self.umem, self.generation.prefixes());
                match self.rejector.answer(by, frame, meta, self.from.0, now) {
                    Ok(reply) => self.replies.push(reply),
                    Err(frame) => self.pool.push(frame),
                }
            }
        }
    }

    fn drop(&mut self, frame: Frame, reason: Reason) {
        self.counters().dropped[reason.index()].add(1);
        self.counters().dropped_bytes.add(frame.len() as u64);
        self.pool.push(frame);
    }

    /// Gives a frame to the box's own stack, which copies it; dropped where it takes none.
    #[cold]
    fn keep(&mut self, frame: Frame, meta: &Meta, ruling: &Ruling) {
        let lane = host::lane(ruling.verdict, ruling.rule);
        let given = match (&mut self.host, lane) {
            (Some(host), Some(lane))
                if host::may_answer(lane, meta, self.from.0, self.generation.prefixes()) =>
            {
                let to = (lane, self.from.0);
                host.give(self.umem.bytes(&frame), meta, to, self.now)
            }
            _ => Err(host::refusal(ruling.verdict)),
        };
        match given {
            Ok(()) => {
                self.counters().to_host_stack.add(1);
                self.pool.push(frame);
            }
            Err(reason) => self.drop(frame, reason),
        }
    }

    /// Copies what a client of the LAN asks DHCP, whatever becomes of it.
    #[cold]
    fn hear(&self, frame: &Frame, meta: &Meta) {
        if self.from.0 != Side::Lan || meta.proto != 17 {
            return;
        }
        let own = usize::from(meta.payload)..usize::from(meta.end);
        let payload = self.umem.bytes(frame).get(own).unwrap_or_default();
        let request = DhcpRequest::of(meta.src_mac, meta.net == Net::V6, payload);
        let told = self.dhcp.push(request).is_ok();
        self.all.dhcp_lost.add((!told).into());
    }

    #[inline]
    fn pass(&mut self, frame: Frame, len: u64) {
        self.forwarded.0 += 1;
        self.forwarded.1 += len;
        self.forward.push(frame);
    }

    fn counters(&self) -> &SideCounters {
        &self.all.sides[self.from.0 as usize]
    }

    #[inline]
    fn hit(&self, rule: RuleSlot, len: u64) {
        self.all.hit(rule, len);
    }

    /// Tells of a frame that alerts.
    #[inline(always)]
    fn tell(
        &mut self,
        cause: Cause,
        verdict: Verdict,
        shadow: bool,
        frame: &Frame,
        meta: &Meta,
        ruling: &Ruling,
    ) {
        let side = self.from.0;
        if !(self.teller).again(cause, shadow, side, meta, ruling.app, self.now) {
            self.tell_new(cause, verdict, shadow, frame, meta, ruling);
        }
    }

    /// Of one that is not like the one before it.
    #[cold]
    #[inline(never)]
    fn tell_new(
        &mut self,
        cause: Cause,
        verdict: Verdict,
        shadow: bool,
        frame: &Frame,
        meta: &Meta,
        ruling: &Ruling,
    ) {
        let own = usize::from(meta.payload)..usize::from(meta.end);
        let rule = match cause {
            Cause::Rule(slot) => self.generation.roster().info(slot),
            Cause::Reason(_) | Cause::Behaviour(_) => None,
        };
        let alarm = Alarm {
            cause,
            by_mac: rule.is_some_and(|rule| rule.by_mac),
            verdict,
            shadow,
            side: self.from.0,
            len: frame.len(),
            meta,
            app: ruling.app,
            payload: match ruling.shown {
                Some(place) => self.shown.get(place),
                None => self.umem.bytes(frame).get(own).unwrap_or_default(),
            },
            now: self.now,
        };
        self.teller.tell(&alarm, &self.all.events_lost);
    }

    /// Counts what was forwarded.
    fn close(self) {
        let counters = self.counters();
        counters.forwarded.add(self.forwarded.0);
        counters.forwarded_bytes.add(self.forwarded.1);
    }
}

/// The reasons that alert by themselves: frames that nobody makes by accident.
pub fn reason_alert(reason: Reason) -> Option<Severity> {
    match reason {
        Reason::FragmentTiny
        | Reason::SourceRoute
        | Reason::PayloadOverlap
        | Reason::PayloadHidden => Some(Severity::Medium),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::baseline;
    use crate::control::snapshot::Snapshot;
    use crate::flow::{Flows, Settings};
    use crate::policy::{Action, Policy, rule};
    use crate::port::memory::MemoryPort;
    use crate::telemetry::event;
    use af_xdp::UmemConfig;
    use etherparse::PacketBuilder;

    const FRAMES: usize = 256;

    /// A worker with a port of memory on each side.
    pub(super) struct Bench {
        pub worker: Worker<MemoryPort>,
        pub ring: EventRing,
        pub in_force: InForce,
    }

    fn policy() -> Policy {
        let mut policy = crate::config::parse("", "empty", std::path::Path::new("."))
            .unwrap()
            .policy;
        for rule in &mut policy.rules {
            if rule.name == "irc" {
                rule.action = Action::Reject;
            }
        }
        policy
    }

    impl Bench {
        pub fn new(events: usize) -> Bench {
            Bench::with(&policy(), events)
        }

        pub fn with(policy: &Policy, events: usize) -> Bench {
            Bench::over(Generation::first(policy).unwrap().in_force(), events)
        }

        pub fn over(in_force: InForce, events: usize) -> Bench {
            Bench::sharing(in_force, events, &Flows::new(&Settings::of_size(10_000)))
        }

        pub fn sharing(in_force: InForce, events: usize, flows: &Arc<Flows>) -> Bench {
            let (umem, frames) = Umem::new(&UmemConfig {
                frames: FRAMES as u32,
                chunk: 2048,
                headroom: 0,
                huge_pages: false,
            })
            .unwrap();
            let ports = [
                vec![MemoryPort::with_capacity(FRAMES)],
                vec![MemoryPort::with_capacity(FRAMES)],
            ];
            let ring = event::ring(events);
            Bench {
                worker: Worker::new(
                    umem,
                    frames,
                    ports,
                    Arc::clone(&in_force),
                    flows.tracker(0, 1),
                    Rejector::new(),
                    Arc::clone(&ring),
                ),
                ring,
                in_force,
            }
        }

        pub fn arrive(&mut self, side: Side, bytes: &[u8]) {
            let mut frame = self.worker.pool().pop().expect("a free frame");
            let umem = self.worker.umem().clone();
            umem.write(&mut frame, bytes).unwrap();
            self.worker.ports(side)[0].arriving.push_back(frame);
        }

        pub fn sent(&mut self, side: Side) -> Vec<Vec<u8>> {
            let umem = self.worker.umem().clone();
            self.worker.ports(side)[0]
                .sent
                .iter()
                .map(|frame| umem.bytes(frame).to_vec())
                .collect()
        }

        pub fn settle(&mut self) -> Snapshot {
            for side in Side::BOTH {
                self.worker.ports(side)[0].finish();
            }
            self.worker.turn(2);
            Snapshot::take(&[self.worker.counters()], &self.in_force.load(), &[])
        }
    }

    pub(super) fn tcp(port: u16) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]).ipv4(
            [10, 77, 0, 9],
            [93, 184, 216, 34],
            64,
        );
        let mut frame = Vec::new();
        builder
            .tcp(40_000, port, 1, 1024)
            .syn()
            .write(&mut frame, &[])
            .unwrap();
        frame
    }

    pub(super) fn udp(port: u16) -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]).ipv4(
            [10, 77, 0, 9],
            [93, 184, 216, 34],
            64,
        );
        let mut frame = Vec::new();
        builder
            .udp(40_000, port)
            .write(&mut frame, b"hello")
            .unwrap();
        frame
    }

    #[test]
    fn allowed_frames_come_out_of_the_other_side_unchanged_and_in_order() {
        let mut bench = Bench::new(16);
        let frames: Vec<_> = (0..200)
            .map(|n| tcp(1024 + n))
            .filter(|f| f.len() < 100)
            .collect();
        for frame in &frames {
            bench.arrive(Side::Lan, frame);
        }
        while bench.worker.turn(1) > 0 {}
        assert_eq!(bench.sent(Side::Uplink), frames);
        assert!(bench.sent(Side::Lan).is_empty());
        let snapshot = bench.settle();
        assert!(snapshot.balanced(), "{snapshot:?}");
        assert_eq!(snapshot.sides[0].tx, 200);
        assert_eq!(
            bench.worker.pool().len(),
            FRAMES,
            "every frame is back in the pool"
        );
    }

    #[test]
    fn a_forwarded_frame_is_sent_from_the_very_chunk_that_it_was_received_in() {
        let mut bench = Bench::new(16);
        bench.arrive(Side::Lan, &tcp(443));
        let umem = bench.worker.umem().clone();
        let place = |frame: &Frame| umem.bytes(frame).as_ptr();
        let received = place(&bench.worker.ports(Side::Lan)[0].arriving[0]);
        bench.worker.turn(1);
        assert_eq!(
            place(&bench.worker.ports(Side::Uplink)[0].sent[0]),
            received
        );
    }

    #[test]
    fn a_forbidden_frame_stops_at_the_gate_and_alerts_with_its_mac() {
        let mut bench = Bench::new(16);
        bench.arrive(Side::Lan, &udp(69));
        bench.arrive(Side::Lan, &udp(53));
        bench.worker.turn(7);
        assert_eq!(bench.sent(Side::Uplink), [udp(53)]);
        let alert = bench.ring.pop().unwrap();
        assert_eq!(
            (alert.time, alert.side, alert.meta.src_mac),
            (7, Side::Lan, [2, 0, 0, 0, 0, 9])
        );
        assert_eq!(alert.verdict, Verdict::Drop(Reason::Rule));
        assert!(bench.ring.pop().is_none());
        let snapshot = bench.settle();
        assert_eq!(snapshot.rules.get("tftp").unwrap().packets, 1);
        assert_eq!(snapshot.sides[0].dropped.get("rule"), Some(&1));
        assert!(snapshot.balanced());
    }

    #[test]
    fn the_same_port_from_outside_is_not_the_baseline_s_business() {
        let mut bench = Bench::new(16);
        bench.arrive(Side::Uplink, &udp(69));
        bench.worker.turn(1);
        assert_eq!(bench.sent(Side::Lan), [udp(69)]);
        assert!(bench.settle().balanced());
    }

    #[test]
    fn a_reject_answers_the_inside_with_a_reset_and_nothing_leaves() {
        let mut bench = Bench::new(16);
        bench.arrive(Side::Lan, &tcp(6667));
        bench.worker.turn(1);
        assert!(bench.sent(Side::Uplink).is_empty());
        let answers = bench.sent(Side::Lan);
        let parsed = etherparse::PacketHeaders::from_ethernet_slice(&answers[0]).unwrap();
        let tcp = parsed.transport.unwrap().tcp().unwrap();
        assert!(tcp.rst && tcp.ack && !tcp.syn);
        assert_eq!(
            (
                tcp.source_port,
                tcp.destination_port,
                tcp.acknowledgment_number
            ),
            (6667, 40_000, 2)
        );
        let snapshot = bench.settle();
        assert_eq!(
            (
                snapshot.sides[0].rejected,
                snapshot.sides[1].replies,
                snapshot.sides[1].tx
            ),
            (1, 1, 0)
        );
        assert!(snapshot.balanced(), "{snapshot:?}");
        assert_eq!(bench.worker.pool().len(), FRAMES);
    }

    #[test]
    fn replies_on_a_queue_that_nothing_is_forwarded_to_come_back_too() {
        let (umem, frames) = Umem::new(&UmemConfig {
            frames: FRAMES as u32,
            chunk: 2048,
            headroom: 0,
            huge_pages: false,
        })
        .unwrap();
        let port = || MemoryPort::with_capacity(FRAMES);
        let ports = [vec![port(), port()], vec![port()]];
        let in_force = Generation::first(&policy()).unwrap().in_force();
        let policy = Arc::clone(&in_force);
        let rejector = Rejector::new();
        let ring = event::ring(16);
        let tracker = Flows::new(&Settings::of_size(64)).tracker(0, 1);
        let mut worker = Worker::new(umem, frames, ports, policy, tracker, rejector, ring);
        for _ in 0..10 {
            for (side, queue, port) in [(Side::Lan, 1, 6667), (Side::Uplink, 0, 80)] {
                let mut frame = worker.pool().pop().unwrap();
                worker.umem().write(&mut frame, &tcp(port)).unwrap();
                worker.ports(side)[queue].arriving.push_back(frame);
            }
        }
        for _ in 0..4 {
            worker.turn(1);
            for side in Side::BOTH {
                worker.ports(side).iter_mut().for_each(MemoryPort::finish);
            }
        }
        let snapshot = Snapshot::take(&[worker.counters()], &in_force.load(), &[]);
        assert_eq!((snapshot.sides[1].replies, snapshot.sides[1].tx), (10, 10));
        assert!(snapshot.balanced(), "{snapshot:?}");
        assert_eq!(worker.pool().len(), FRAMES);
    }

    #[test]
    fn a_full_transmit_ring_is_counted_and_the_frames_come_back() {
        let mut bench = Bench::new(16);
        bench.worker.ports(Side::Uplink)[0].room = Some(10);
        for _ in 0..50 {
            bench.arrive(Side::Lan, &tcp(443));
        }
        while bench.worker.turn(1) > 0 {}
        let snapshot = bench.settle();
        assert_eq!(
            (
                snapshot.sides[0].forwarded,
                snapshot.sides[0].tx,
                snapshot.sides[0].tx_failed
            ),
            (50, 10, 40)
        );
        assert!(snapshot.balanced());
        assert_eq!(bench.worker.pool().len(), FRAMES);
    }

    #[test]
    fn answers_that_find_no_room_are_counted_and_their_frames_come_back() {
        let mut bench = Bench::new(16);
        bench.worker.ports(Side::Lan)[0].room = Some(2);
        for _ in 0..5 {
            bench.arrive(Side::Lan, &tcp(6667));
        }
        bench.worker.turn(1);
        let snapshot = bench.settle();
        assert_eq!((snapshot.sides[1].replies, snapshot.unsent), (2, 3));
        assert!(snapshot.balanced(), "{snapshot:?}");
        assert_eq!(bench.worker.pool().len(), FRAMES);
    }

    #[test]
    fn a_full_event_ring_loses_events_not_verdicts() {
        let mut bench = Bench::new(4);
        for host in 0..20 {
            let mut frame = udp(69);
            frame[29] = host;
            bench.arrive(Side::Lan, &frame);
        }
        while bench.worker.turn(1) > 0 {}
        let snapshot = bench.settle();
        assert_eq!(
            (snapshot.events_lost, snapshot.sides[0].dropped_total()),
            (16, 20)
        );
        assert!(bench.sent(Side::Uplink).is_empty());
    }

    #[test]
    fn frames_of_any_bytes_are_accounted_for_and_never_stop_the_loop() {
        use proptest::prelude::*;
        let bytes = proptest::collection::vec(any::<u8>(), 0..200);
        let frames = proptest::collection::vec((any::<bool>(), bytes), 0..200);
        proptest!(ProptestConfig::with_cases(64), |(frames in frames)| {
            let mut bench = Bench::new(16);
            for (lan, bytes) in &frames {
                bench.arrive(if *lan { Side::Lan } else { Side::Uplink }, bytes);
            }
            while bench.worker.turn(1) > 0 {}
            let snapshot = bench.settle();
            prop_assert!(snapshot.balanced());
            prop_assert_eq!(snapshot.sides[0].rx + snapshot.sides[1].rx, frames.len() as u64);
            prop_assert_eq!(bench.worker.pool().len(), FRAMES);
        });
    }

    #[test]
    fn the_built_in_rules_are_those_that_the_tests_above_speak_of() {
        let names: Vec<_> = baseline::rules()
            .iter()
            .map(|rule: &rule::Rule| rule.name.clone())
            .collect();
        for name in ["tftp", "smtp", "irc"] {
            assert!(names.iter().any(|n| n == name), "{name}");
        }
    }

    #[test]
    fn what_lan_clients_ask_dhcp_is_copied_and_a_full_ring_is_counted() {
        let mut bench = Bench::new(16);
        let ask = |sport, dport| {
            let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [0xff; 6])
                .ipv4([0; 4], [255; 4], 64)
                .udp(sport, dport);
            let mut bytes = Vec::new();
            builder.write(&mut bytes, b"request").unwrap();
            bytes
        };
        bench.arrive(Side::Lan, &ask(68, 67));
        bench.arrive(Side::Lan, &ask(67, 68));
        bench.arrive(Side::Uplink, &ask(68, 67));
        bench.worker.turn(1);
        let ring = bench.worker.dhcp();
        let request = ring.pop().unwrap();
        assert_eq!((request.mac, request.v6), ([2, 0, 0, 0, 0, 9], false));
        assert_eq!(request.bytes(), b"request");
        assert!(ring.is_empty(), "the answer, and what comes from outside");
        for _ in 0..ring.capacity() + 3 {
            bench.arrive(Side::Lan, &ask(68, 67));
        }
        for _ in 0..8 {
            bench.worker.turn(2);
        }
        assert_eq!(bench.worker.counters().dhcp_lost.get(), 3);
    }
}
