//! The last incidents, each as its last line has it: what the page and `top` show without reading a file.

use super::line::{Line, timestamp};
use std::collections::VecDeque;
use std::sync::Arc;

/// Incidents that are remembered.
pub const MOST: usize = 200;

/// The last incidents, the one that was told of last at the end, each with the key under which it may still be open.
#[derive(Debug)]
pub(super) struct Recent<K>(VecDeque<(K, Arc<Line>)>);

impl<K> Recent<K> {
    /// None yet.
    pub fn new() -> Recent<K> {
        Recent(VecDeque::new())
    }

    /// A line takes the place of the one before it of its incident.
    pub fn put(&mut self, key: K, line: &Line) {
        let incident = &line.alert.incident;
        self.0.retain(|(_, old)| old.alert.incident != *incident);
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((key, Arc::new(line.clone())));
    }

    /// At most so many, the one that was told of last first.
    pub fn latest(&self, most: usize) -> impl Iterator<Item = &(K, Arc<Line>)> {
        self.0.iter().rev().take(most)
    }
}

/// The last incidents as they are now. Made in no time, so that what guards them is held for none; the lines are put together of it.
#[derive(Debug, Default)]
pub struct Latest(Vec<Told>);

/// One of them: its last line, and what has been counted since where it is open still.
#[derive(Debug)]
pub(super) struct Told {
    pub line: Arc<Line>,
    /// Packets, and the time of the last, nanoseconds since the Unix epoch.
    pub since: Option<(u64, u64)>,
}

impl Latest {
    pub(super) fn new(told: Vec<Told>) -> Latest {
        Latest(told)
    }

    /// With the counts of now, the one with the latest frame first.
    pub fn lines(&self) -> Vec<Line> {
        let line = |Told { line, since }: &Told| {
            let mut line = Line::clone(line);
            if let Some((packets, last)) = since {
                line.alert.packets = *packets;
                line.alert.last_seen = timestamp(*last);
            }
            line
        };
        let mut lines: Vec<Line> = self.0.iter().map(line).collect();
        // All in one form, in which later is greater.
        lines.sort_by(|a, b| b.alert.last_seen.cmp(&a.alert.last_seen));
        lines
    }
}
