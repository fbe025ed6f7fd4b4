//! Conversations in place of a forbidden destination: what a server there would say, and a record of what was said.

pub mod persona;
pub mod transcript;
