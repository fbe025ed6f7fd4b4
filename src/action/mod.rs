//! What the box does beyond forwarding and dropping.

pub mod reject;
