//! The control plane: everything that is not on a frame's way. It sees the data plane through counters and event rings only.

pub mod added;
pub mod alerts;
pub mod bringup;
pub mod crew;
pub mod detect;
pub mod diff;
pub mod evidence;
pub mod hosts;
pub mod http;
mod keep;
pub mod keeper;
pub mod lapses;
mod line;
pub mod metrics;
pub mod names;
pub mod quarantine;
pub mod reach;
pub mod recent;
pub mod reload;
pub mod resolve;
pub mod serve;
pub mod sink;
pub mod snapshot;
pub mod socket;
pub mod status;
pub mod upkeep;
pub mod watch;
