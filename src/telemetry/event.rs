//! The record that a worker hands to the control thread when a frame alerts: fixed size, nothing behind a pointer.

use super::{Behaviour, Reason};
use crate::app::{App, MOST};
use crate::frame::Meta;
use crate::policy::{RuleSlot, Side, Verdict};
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// What made the alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A rule that alerts.
    Rule(RuleSlot),
    /// A frame that is suspicious in itself.
    Reason(Reason),
    /// What a host does over time, whatever each frame is.
    Behaviour(Behaviour),
}

/// One alerting frame, and how many like it there were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When the burst was received, nanoseconds since the Unix epoch.
    pub time: u64,
    /// What alerted.
    pub cause: Cause,
    /// What happened to the frame; with `shadow`, what would have happened.
    pub verdict: Verdict,
    /// The rule, or the whole policy, is not enforced.
    pub shadow: bool,
    /// Where it came from.
    pub side: Side,
    /// Frames of this host that alerted for this cause since the last event of it, this one among them.
    pub frames: u32,
    /// Its length, bytes.
    pub len: u32,
    /// Its headers; where parsing failed, what was read until then.
    pub meta: Meta,
    /// What its flow's payload is, where that was looked at.
    pub app: Option<App>,
    /// The beginning of its payload, or of what it is known by where that came in pieces.
    pub payload: Snippet,
}

/// The most bytes of a payload that an event holds.
pub const SNIPPET: usize = MOST;

/// The beginning of a payload.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Snippet {
    len: u16,
    bytes: [u8; SNIPPET],
}

impl Snippet {
    /// Nothing.
    pub const EMPTY: Snippet = Snippet {
        len: 0,
        bytes: [0; SNIPPET],
    };

    /// The first [`SNIPPET`] of these bytes.
    pub fn of(payload: &[u8]) -> Snippet {
        let mut snippet = Snippet::EMPTY;
        let len = payload.len().min(SNIPPET);
        snippet.bytes[..len].copy_from_slice(&payload[..len]);
        snippet.len = len as u16;
        snippet
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len).min(SNIPPET)]
    }
}

impl std::fmt::Debug for Snippet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.len)
    }
}

/// The bounded ring from one worker to the control thread: one pushes, one pops, full is counted by the worker.
pub type EventRing = Arc<ArrayQueue<Event>>;

/// A ring with room for `capacity` events.
pub fn ring(capacity: usize) -> EventRing {
    Arc::new(ArrayQueue::new(capacity))
}
