//! Portcullis, an egress firewall for a two-NIC bridge box.
//!
//! The packet's way:
//!
//! ```text
//! port (AF_XDP, pcap, memory) -> frame (bytes to Meta) -> policy (rule table) -> verdict -> port of the other side
//! ```
#![deny(unsafe_code)]

pub mod config;
pub mod frame;
pub mod policy;
pub mod telemetry;
