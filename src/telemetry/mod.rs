//! What the data plane tells the control plane: reasons, counters, event records.

pub mod reason;

pub use reason::Reason;
