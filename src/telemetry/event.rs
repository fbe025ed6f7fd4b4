//! The record that a worker hands to the control thread when a frame alerts: fixed size, nothing behind a pointer.

use super::Reason;
use crate::frame::Meta;
use crate::policy::{RuleId, Side, Verdict};
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// What made the alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A rule that alerts.
    Rule(RuleId),
    /// A frame that is suspicious in itself.
    Reason(Reason),
}

/// One alerting frame.
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
    /// Its length, bytes.
    pub len: u32,
    /// Its headers; where parsing failed, what was read until then.
    pub meta: Meta,
}

/// The bounded ring from one worker to the control thread: one pushes, one pops, full is counted by the worker.
pub type EventRing = Arc<ArrayQueue<Event>>;

/// A ring with room for `capacity` events.
pub fn ring(capacity: usize) -> EventRing {
    Arc::new(ArrayQueue::new(capacity))
}
