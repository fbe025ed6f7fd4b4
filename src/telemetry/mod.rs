//! What the data plane tells the control plane: reasons, counters, event records.

pub mod counters;
pub mod event;
pub mod observe;
pub mod reason;

pub use counters::{Counter, WorkerCounters};
pub use event::{Cause, Event, EventRing};
pub use observe::{Behaviour, Observation, ObservationRing};
pub use reason::Reason;
