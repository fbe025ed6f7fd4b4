//! The way between a worker and the box's own stack: two bounded rings of frames, copied.
//!
//! ```text
//! worker ── give ──► frames ──► stack        worker ◄── frames ◄── send ── stack
//!    ▲                              │           │                            ▲
//!    └────────── empty ◄────────────┘           └──────────► empty ──────────┘
//! ```
//!
//! Each way has so many parcels, made at the start, that go round: neither end allocates, frees, waits, or can take the other's room. What finds none is for its caller to count.

use crate::policy::{Manners, RuleSlot, Side};
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

/// The longest frame that fits: a full-size one with every tag that the gate lets through, and room to spare. Bytes.
pub const LONGEST: usize = 2048;

/// What a frame is to the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// To or from the box's own address.
    Own,
    /// Of a connection that is answered in its destination's place, by this rule.
    Decoy(RuleSlot, Manners),
}

/// One frame on its way.
pub struct Parcel {
    /// What it is.
    pub lane: Lane,
    /// The port that it was received by, or is to be sent by.
    pub side: Side,
    /// When it was received, nanoseconds since the Unix epoch.
    pub time: u64,
    len: usize,
    bytes: [u8; LONGEST],
}

impl Parcel {
    fn empty() -> Box<Parcel> {
        Box::new(Parcel {
            lane: Lane::Own,
            side: Side::Lan,
            time: 0,
            len: 0,
            bytes: [0; LONGEST],
        })
    }

    /// The frame.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len.min(LONGEST)]
    }

    /// Whether it fits.
    fn hold(&mut self, frame: &[u8]) -> bool {
        let fits = frame.len() <= LONGEST;
        if let Some(place) = self.bytes.get_mut(..frame.len()) {
            place.copy_from_slice(frame);
            self.len = frame.len();
        }
        fits
    }
}

type Ring = Arc<ArrayQueue<Box<Parcel>>>;

/// One way.
#[derive(Clone)]
struct Way {
    frames: Ring,
    empty: Ring,
}

impl Way {
    fn new(room: usize) -> Way {
        let (frames, empty) = (ArrayQueue::new(room), ArrayQueue::new(room));
        for _ in 0..room {
            // There is room for just so many.
            let _ = empty.push(Parcel::empty());
        }
        Way {
            frames: Arc::new(frames),
            empty: Arc::new(empty),
        }
    }

    fn put(&self, frame: &[u8], lane: Lane, side: Side, time: u64) -> bool {
        let Some(mut parcel) = self.empty.pop() else {
            return false;
        };
        let fits = parcel.hold(frame);
        (parcel.lane, parcel.side, parcel.time) = (lane, side, time);
        // All parcels together fit in either ring.
        let _ = match fits {
            true => self.frames.push(parcel),
            false => self.empty.push(parcel),
        };
        fits
    }

    fn give_back(&self, parcel: Box<Parcel>) {
        // As above.
        let _ = self.empty.push(parcel);
    }
}

/// A worker's end.
pub struct WorkerEnd {
    to: Way,
    from: Way,
    full: Arc<AtomicBool>,
}

/// The stack's end.
pub struct StackEnd {
    from: Way,
    to: Way,
    full: Arc<AtomicBool>,
}

/// The two ends of a way there and a way back, each with room for so many frames.
pub fn pair(room: usize) -> (WorkerEnd, StackEnd) {
    let (there, back) = (Way::new(room), Way::new(room));
    let full = Arc::new(AtomicBool::new(false));
    let worker = WorkerEnd {
        to: there.clone(),
        from: back.clone(),
        full: Arc::clone(&full),
    };
    let stack = StackEnd {
        from: there,
        to: back,
        full,
    };
    (worker, stack)
}

impl WorkerEnd {
    /// Copies a frame to the stack; false where there is no room, or it is too long.
    pub fn give(&self, frame: &[u8], lane: Lane, side: Side, time: u64) -> bool {
        self.to.put(frame, lane, side, time)
    }

    /// The next frame that the stack sends.
    #[inline]
    pub fn take(&self) -> Option<Box<Parcel>> {
        // Mostly there is none, and asking a queue for what it has not costs a fence.
        match self.from.frames.is_empty() {
            true => None,
            false => self.from.frames.pop(),
        }
    }

    /// Gives back what was taken.
    pub fn give_back(&self, parcel: Box<Parcel>) {
        self.from.give_back(parcel);
    }

    /// Whether the stack begins no conversation now.
    pub fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }
}

impl StackEnd {
    /// The next frame of the worker.
    pub fn take(&self) -> Option<Box<Parcel>> {
        self.from.frames.pop()
    }

    /// Gives back what was taken.
    pub fn give_back(&self, parcel: Box<Parcel>) {
        self.from.give_back(parcel);
    }

    /// Has the worker send a frame; false where there is no room, or it is too long.
    pub fn send(&self, frame: &[u8], lane: Lane, side: Side) -> bool {
        self.to.put(frame, lane, side, 0)
    }

    /// How many frames there is room for.
    pub fn room(&self) -> usize {
        self.to.empty.len()
    }

    /// Says whether conversations can be begun.
    pub fn set_full(&self, full: bool) {
        self.full.store(full, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_refuses_and_what_comes_back_makes_room() {
        let (worker, stack) = pair(2);
        let give = |byte: u8| worker.give(&[byte; 60], Lane::Own, Side::Lan, 7);
        assert!(give(1) && give(2) && !give(3));
        let first = stack.take().unwrap();
        assert_eq!((first.bytes(), first.time), (&[1; 60][..], 7));
        assert!(!give(4), "it is still in somebody's hand");
        stack.give_back(first);
        assert!(give(5));
        let rest: Vec<u8> = std::iter::from_fn(|| stack.take().map(|p| p.bytes()[0])).collect();
        assert_eq!(rest, [2, 5]);
    }

    #[test]
    fn one_way_does_not_take_the_room_of_the_other_and_a_frame_that_is_too_long_takes_none() {
        let (worker, stack) = pair(1);
        assert!(!worker.give(&[0; LONGEST + 1], Lane::Own, Side::Lan, 0));
        assert!(worker.give(&[0; LONGEST], Lane::Own, Side::Lan, 0));
        assert!(stack.room() == 1 && stack.send(&[9], Lane::Own, Side::Uplink));
        assert!(stack.room() == 0 && !stack.send(&[9], Lane::Own, Side::Uplink));
        let sent = worker.take().unwrap();
        assert_eq!((sent.bytes(), sent.side), (&[9][..], Side::Uplink));
        worker.give_back(sent);
        assert_eq!(stack.room(), 1);
    }

    #[test]
    fn two_threads_lose_no_frame_and_keep_the_order() {
        let (worker, stack) = pair(8);
        let sent = std::thread::spawn(move || {
            for number in 0..20_000u32 {
                while !worker.give(&number.to_be_bytes(), Lane::Own, Side::Lan, 0) {
                    std::thread::yield_now();
                }
            }
        });
        for number in 0..20_000u32 {
            let parcel = loop {
                match stack.take() {
                    Some(parcel) => break parcel,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(parcel.bytes(), number.to_be_bytes());
            stack.give_back(parcel);
        }
        sent.join().unwrap();
    }
}
