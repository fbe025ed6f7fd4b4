//! Answering a forbidden connection in place of its destination, to learn what it would have said.

mod hall;
pub mod persona;
mod talk;
pub mod transcript;

pub use hall::{Hall, Tally};
pub use talk::{Ended, Report, Settings};
