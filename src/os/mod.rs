//! What Portcullis asks of the operating system outside the frame path.

pub mod affinity;
pub mod genl;
pub mod netns;
pub mod nic;
pub mod notify;
pub mod offload;
pub mod sandbox;
pub mod signals;
