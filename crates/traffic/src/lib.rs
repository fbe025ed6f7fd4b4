//! A traffic generator and sink over `AF_XDP`, and on it the tests of RFC 2544 and mixes in the manner of RFC 9411.
//!
//! The way of a frame:
//!
//! ```text
//!  flow ──► frames ──────► load ─────► tester ──► port ─► the device ─► port ──► tally
//!  who      headers built  which one   paced,                                    mark read: there, again,
//!  talks    once, by       is next     marked                                    out of order, how late
//!           smoltcp
//! ```
//!
//! A test ([`suite`]) asks a [`search::Device`] for trials and knows nothing of ports, so that it is tested
//! with devices of known capacity.
#![deny(unsafe_code)]

pub mod failure;
pub mod flow;
pub mod frames;
pub mod load;
pub mod mark;
pub mod mix;
pub mod opening;
pub mod outcome;
pub mod pace;
pub mod policy;
pub mod port;
mod program;
pub mod report;
pub mod search;
pub mod sink;
pub mod size;
pub mod suite;
pub mod tally;
pub mod tester;
mod window;
mod work;
