//! A listener that says nothing: for what waits to be spoken to in a protocol that is not known. What it hears is in the transcript.

use super::Manners;

pub(super) struct Raw;

impl Manners for Raw {}
