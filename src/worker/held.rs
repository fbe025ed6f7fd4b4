//! Fragments that came before the first of their datagram, and wait for it for a moment.

use super::court::Ruling;
use super::{Now, Worker};
use crate::flow::Datagrams;
use crate::flow::datagram::Piece;
use crate::frame::Meta;
use crate::policy::Side;
use crate::port::Port;
use af_xdp::Frame;

/// Fragments that one worker holds at most.
pub const MOST: usize = 256;
/// Of one sender.
const MOST_OF_ONE: usize = 64;
/// How often those that wait are looked at, nanoseconds: whoever keeps the place full costs no more than that.
const OFTEN: u64 = 100_000;
/// How long one is held, nanoseconds: fragments of one datagram are sent at once, and a network that changes their order does so within this.
pub const LONGEST: u64 = 250_000_000;

/// A fragment that waits.
struct Waiting {
    frame: Frame,
    meta: Meta,
    side: Side,
    queue: usize,
    until: u64,
}

/// Those that wait, in the order that they came.
pub(super) struct Held {
    waiting: Vec<Waiting>,
    /// When they are looked at next, at the earliest.
    next: u64,
    /// The datagrams that had begun when they were looked at last.
    begun: u64,
}

impl Held {
    pub fn new() -> Held {
        Held {
            waiting: Vec::with_capacity(MOST),
            next: 0,
            begun: 0,
        }
    }

    /// How many frames wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether some wait and it is worth to look at them: a datagram has begun, or the first of them has waited long enough. Asked once a turn.
    pub fn is_due(&mut self, datagrams: &Datagrams, now: u64) -> bool {
        let Some(oldest) = self.waiting.first() else {
            return false;
        };
        let begun = datagrams.begun();
        let due = now >= oldest.until || (begun != self.begun && now >= self.next);
        if due {
            self.next = now.saturating_add(OFTEN);
            self.begun = begun;
        }
        due
    }

    /// Holds a frame. It comes back where there is no room for it.
    pub fn hold(
        &mut self,
        frame: Frame,
        meta: &Meta,
        (side, queue): (Side, usize),
        now: u64,
    ) -> Result<(), Frame> {
        let of_one = self.waiting.iter().filter(|held| held.meta.src == meta.src);
        if self.waiting.len() == MOST || of_one.count() == MOST_OF_ONE {
            return Err(frame);
        }
        self.waiting.push(Waiting {
            frame,
            meta: *meta,
            side,
            queue,
            until: now.saturating_add(LONGEST),
        });
        Ok(())
    }

    /// The next one of this side and queue, from `at` on, that waits no longer, and what it gets.
    fn next(
        &mut self,
        at: &mut usize,
        datagrams: &Datagrams,
        (side, queue): (Side, usize),
        now: u64,
    ) -> Option<(Frame, Meta, Ruling)> {
        while let Some(held) = self.waiting.get(*at) {
            if (held.side, held.queue) == (side, queue) {
                let piece = datagrams.later(&held.meta, side, now);
                if piece != Piece::Waits || now >= held.until {
                    let held = self.waiting.remove(*at);
                    let mut ruling = Ruling::of_piece(piece);
                    ruling.waits = false;
                    return Some((held.frame, held.meta, ruling));
                }
            }
            *at += 1;
        }
        None
    }
}

impl<P: Port> Worker<P> {
    /// Lets go of what waits no longer, of one queue.
    pub(super) fn release(&mut self, side: Side, queue: usize, out: usize, now: Now) {
        self.burst.shadow = self.policy.load().is_shadow();
        let mut at = 0;
        loop {
            let datagrams = self.tracker.datagrams();
            let next = self
                .held
                .next(&mut at, datagrams, (side, queue), now.steady);
            let Some((frame, meta, ruling)) = next else {
                break;
            };
            let (mut desk, ..) = self.desk(side, queue, now);
            desk.deal(frame, &meta, &ruling);
            desk.close();
        }
        self.send(side, out, now.steady);
    }
}
