//! Bytes to [`Meta`], or a [`Reason`]: one protocol a file, nothing copied, never a panic.

pub mod meta;

pub use meta::{Frag, Meta, Net};

use crate::telemetry::Reason;

/// Parses one frame as it came from the wire (no FCS).
///
/// # Errors
/// The [`Reason`] for which the frame cannot be judged and so is dropped.
pub fn parse(_frame: &[u8]) -> Result<Meta, Reason> {
    Err(Reason::Malformed)
}
