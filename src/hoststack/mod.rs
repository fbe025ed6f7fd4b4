//! What the gate says as a host: conversations that it holds itself.

pub mod decoy;
