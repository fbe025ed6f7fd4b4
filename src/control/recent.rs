//! The last incidents, each as its last line has it: what the page and `top` show without reading a file.

use super::line::Line;
use std::collections::VecDeque;
use std::sync::Arc;

/// Incidents that are remembered.
pub const MOST: usize = 200;

/// The last incidents, the one that was told of last at the end.
#[derive(Debug, Default)]
pub struct Recent(VecDeque<Arc<Line>>);

impl Recent {
    /// A line takes the place of the one before it of its incident.
    pub fn put(&mut self, line: &Line) {
        let incident = &line.alert.incident;
        self.0.retain(|old| old.alert.incident != *incident);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(Arc::new(line.clone()));
    }

    /// At most so many, the latest first.
    pub fn latest(&self, most: usize) -> Vec<Arc<Line>> {
        self.0.iter().rev().take(most).cloned().collect()
    }
}
