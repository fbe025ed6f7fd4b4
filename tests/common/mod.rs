//! A whole box for tests: three network namespaces joined by veth pairs, the real binary between them, and raw frames.
//!
//! ```text
//!  NAME-lan        NAME-gate           NAME-uplink
//!    lan0 ═══ veth ═══ gl0 [portcullis] gu0 ═══ veth ═══ up0
//! ```
//!
//! Everything goes when its value is dropped, also on panic. Needs root; [`Lab::new`] says so where it is not.

#![allow(dead_code, unused_imports)] // Each test file uses a part of it.

pub mod craft;
pub mod gate;
pub mod lab;
pub mod wire;

pub use gate::Gate;
pub use lab::Lab;
pub use wire::Wire;

use std::time::{Duration, Instant};

/// For things that take milliseconds on a machine that does nothing else.
pub const SOON: Duration = Duration::from_secs(10);

/// Asks every few milliseconds until there is an answer.
///
/// # Panics
/// If there is none within `limit`; `what` says what was waited for.
pub fn until<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
