//! The last incidents, each as its last line has it: what the page and `top` show without reading a file.

use super::decoys::Conversation;
use super::line::{Line, timestamp};
use std::collections::VecDeque;
use std::sync::Arc;

/// Incidents that are remembered.
pub const MOST: usize = 200;
/// What is remembered of a transcript, bytes: all of it is in the alert file, and all incidents go to each who looks at the page.
const SAID: usize = 4096;

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
        let mut line = line.clone();
        let incident = &line.alert.incident;
        let place = self
            .0
            .iter()
            .position(|(_, old)| old.alert.incident == *incident);
        let before = place.and_then(|place| self.0.remove(place));
        if let Some(now) = &mut line.decoy {
            shorten(now);
            let before = before.as_ref().and_then(|(_, old)| old.decoy.as_ref());
            before.into_iter().for_each(|before| go_on(before, now));
        }
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back((key, Arc::new(line)));
    }

    /// At most so many, the one that was told of last first.
    pub fn latest(&self, most: usize) -> impl Iterator<Item = &(K, Arc<Line>)> {
        self.0.iter().rev().take(most)
    }
}

/// No more of a transcript than is remembered.
fn shorten(conversation: &mut Conversation) {
    let mut bytes = 0;
    let fits = |line: &&String| {
        bytes += line.len();
        bytes <= SAID
    };
    let fitting = conversation.transcript.iter().take_while(fits).count();
    conversation.cut |= fitting < conversation.transcript.len();
    conversation.transcript.truncate(fitting);
}

/// A later line tells of the same conversation, and has not what was said in it.
fn go_on(before: &Conversation, now: &mut Conversation) {
    if now.transcript.is_empty() && now.conversations == before.conversations {
        now.transcript.clone_from(&before.transcript);
        now.cut = before.cut;
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
