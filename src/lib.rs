//! Portcullis, an egress firewall for a two-NIC bridge box.
//!
//! The packet's way:
//!
//! ```text
//!  NIC ─ XDP gate ─► port ──► frame ──► policy ──────► worker ──► port ─► NIC
//!        src/bpf     afxdp    bytes →   admit, then    forward,   the other side:
//!                    pcap     Meta or   the compiled   drop or    the same descriptor,
//!                    memory   a Reason  rule table     reject     the bytes never moved
//!                                                        │
//!                                          telemetry: counters, events
//!                                                        │
//!                             control: alerts, metrics, status, policy upkeep, start and stop
//! ```
//!
//! Everything left of `control` is the data plane: it takes what it needs as arguments and never sees a `Config`. The same
//! [`worker::Worker`] runs live traffic, `replay`, tests and benches; only the [`port::Port`] differs.
#![deny(unsafe_code)]

pub mod action;
pub mod app;
pub mod cli;
pub mod config;
pub mod control;
pub mod flow;
pub mod frame;
pub mod hoststack;
pub mod os;
pub mod policy;
pub mod port;
pub mod telemetry;
pub mod worker;
