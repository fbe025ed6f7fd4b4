//! What the data plane tells the control plane: reasons, counters, event records.

pub mod counters;
pub mod dhcp;
pub mod event;
pub mod observe;
pub mod reason;
pub mod recording;

pub use counters::{Counter, WorkerCounters};
pub use event::{Cause, Event, EventRing};
pub use observe::{Behaviour, Observation, ObservationRing};
pub use reason::Reason;
pub use recording::Recorder;
