//! The flow table's slots, the very file, under loom: two threads, and every order of their loads and stores that the memory model allows, up to
//! three preemptions (two in one model). Buckets have two slots here, so that they are soon full.
//!
//! `cargo test -p flow_model` runs the models; they have to be built as they are here, so nothing of this is in the product.
#![allow(dead_code, missing_docs)]

#[path = "../../../src/flow/free.rs"]
mod free;
#[path = "../../../src/flow/slots.rs"]
mod slots;

mod sync {
    pub(super) use loom::hint::spin_loop;
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering, fence};

    pub(super) const WAYS: usize = 2;

    pub(super) fn huge_vec<T>(count: usize) -> Vec<T> {
        Vec::with_capacity(count)
    }

    pub(super) fn prefetch<T>(_place: &T) {}
}

#[cfg(test)]
mod models;
