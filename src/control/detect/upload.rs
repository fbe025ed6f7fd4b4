//! A host that sends far more in an hour than in any hour of the week before. What it sends is known from samples: one frame in sixty-four, or in more where there are many.

use super::Found;
use crate::config::detect;
use crate::telemetry::Behaviour;
use crate::telemetry::observe::Peer;
use serde_json::json;

const HOUR: u64 = 3_600_000_000_000;
/// A week.
const HOURS: usize = 168;

/// Of one host.
pub(super) struct Upload {
    /// When it was seen first.
    since: Option<u64>,
    /// Hours of the clock that this one is.
    hour: u64,
    /// Bytes in this hour.
    bytes: u64,
    frames: u32,
    told: bool,
    /// KiB in each hour before, by its number.
    past: [u32; HOURS],
    /// The most of these.
    most: u32,
}

impl Default for Upload {
    fn default() -> Upload {
        Upload {
            since: None,
            hour: 0,
            bytes: 0,
            frames: 0,
            told: false,
            past: [0; HOURS],
            most: 0,
        }
    }
}

impl Upload {
    pub fn sent(
        &mut self,
        settings: &detect::Upload,
        peer: Peer,
        bytes: u32,
        now: u64,
    ) -> Option<Found> {
        let hour = now / HOUR;
        let since = *self.since.get_or_insert(now);
        if self.frames == 0 && self.hour == 0 {
            self.hour = hour;
        }
        if hour > self.hour {
            self.turn_to(hour);
        }
        self.bytes = self.bytes.saturating_add(bytes.into());
        self.frames = self.frames.saturating_add(1);
        let most = u64::from(self.most) << 10;
        let learnt = super::is_over(since, settings.learn, now);
        let much = self.bytes >= settings.least
            && self.bytes >= most.saturating_mul(settings.factor.into());
        if !learnt || !much || std::mem::replace(&mut self.told, true) {
            return None;
        }
        Some(Found {
            behaviour: Behaviour::Upload,
            peer,
            frames: self.frames,
            numbers: json!({
                "kind": Behaviour::Upload.name(),
                "bytes": self.bytes,
                "most_in_an_hour_before": most,
                "watched_hours": now.saturating_sub(since) / HOUR,
            }),
        })
    }

    /// Puts this hour with those before; the hours between were silent.
    fn turn_to(&mut self, hour: u64) {
        let silent = (hour - self.hour).min(HOURS as u64);
        let at = |hour: u64| (hour % HOURS as u64) as usize;
        self.past[at(self.hour)] = u32::try_from(self.bytes >> 10).unwrap_or(u32::MAX);
        for ago in 0..silent {
            self.past[at(hour - ago)] = 0;
        }
        self.most = self.past.iter().max().copied().unwrap_or(0);
        (self.hour, self.bytes, self.frames, self.told) = (hour, 0, 0, false);
    }
}
