//! What ends a test before it has an answer.

use crate::frames::TooShort;
use crate::port::PortError;

/// What ends a test.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum Failure {
    #[error("{0}")]
    Port(#[from] PortError),
    #[error("stopped; the program was taken off the NICs")]
    Stopped,
    #[error("{nic} does not send what it is given; see `ip link show {nic}`")]
    Stuck { nic: String },
    #[error("{0}")]
    Frames(#[from] TooShort),
    #[error("{missing} of {flows} flows do not pass ({step}), flow {first} for one: {why}")]
    Closed {
        missing: usize,
        flows: usize,
        step: &'static str,
        first: String,
        why: &'static str,
    },
    #[error("a thread of the tester panicked")]
    Panicked,
}
