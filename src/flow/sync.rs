//! What the flow table is built of. The model check, `crates/flow_model`, puts loom's atomics and smaller buckets in their place.

pub(super) use af_xdp::{huge_vec, prefetch};
pub(super) use std::hint::spin_loop;
pub(super) use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Slots of a bucket: as many as tags fit in a cache line beside the head.
pub(super) const WAYS: usize = 7;
