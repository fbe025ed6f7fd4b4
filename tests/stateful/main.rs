//! The gate remembers: flows, connections, fragments. Frames go through real workers over ports in memory, built by another crate than the one
//! that reads them.

mod app_tricks;
mod apps;
mod connections;
mod datagrams;
mod decoys;
mod lab;
mod limits;
mod reasons;
mod reloads;
mod transparency;
mod tunnels;
mod workers;
