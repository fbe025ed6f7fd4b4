//! Small connections to one destination in a beat, as of a program that asks its master for orders.
//!
//! A host that talks to hundreds of destinations has no room for all of them: a destination that no beat is known of takes the place of another such one once in four times, so
//! that some stay long enough to show their beat.

use super::Found;
use crate::config::detect;
use crate::telemetry::Behaviour;
use crate::telemetry::observe::Peer;
use serde_json::json;

const ROWS: usize = 16;
const WAYS: usize = 4;
/// What comes within it is one visit, nanoseconds.
const VISIT: u64 = 5_000_000_000;
/// Beats that may fail to appear at once.
const MISSED: u64 = 3;
/// And in all not more than one for so many that did: whoever comes by the clock, and not each time, is a person or a job.
const FOR_EACH: u32 = 5;
/// Older beats fade from the mean.
const MEMORY: u32 = 16;

/// Clients keep these in a beat by themselves: DNS, DHCP, NTP, IKE, SSDP, STUN, NAT traversal, mDNS.
const UDP_SERVICES: [u16; 10] = [53, 67, 123, 500, 547, 1900, 3478, 4500, 5353, 5355];
/// And ask these for news: mail, DNS over TLS.
const TCP_SERVICES: [u16; 9] = [25, 53, 110, 143, 465, 587, 853, 993, 995];

#[derive(Clone, Copy)]
struct Beat {
    first: u64,
    last: u64,
    /// Nanoseconds between two.
    mean: f64,
    /// By how much of it they differ from it, on the average.
    off: f32,
    beats: u32,
    missed: u32,
    openings: u32,
    /// As samples say.
    bytes: u64,
    told: bool,
}

/// Some destinations. What they are known by stands together: a sample asks for it, and most are of destinations that have no place.
#[derive(Default)]
struct Row {
    hashes: [u64; WAYS],
    beats: [Option<Beat>; WAYS],
}

/// Of one host.
#[derive(Default)]
pub(super) struct Beacon {
    rows: [Row; ROWS],
    dice: u32,
}

impl Beacon {
    pub fn opened(
        &mut self,
        settings: &detect::Beacon,
        peer: Peer,
        hash: u64,
        now: u64,
    ) -> Option<Found> {
        let service = match peer.proto {
            6 => TCP_SERVICES.contains(&peer.port),
            17 => UDP_SERVICES.contains(&peer.port),
            // A ping is a beat.
            _ => true,
        };
        if service {
            return None;
        }
        let longest = settings.longest.as_nanos().min(u64::MAX.into()) as u64;
        let beat = self.place(hash, now, longest.saturating_mul(1 + MISSED))?;
        let since = now.saturating_sub(beat.last);
        beat.openings = beat.openings.saturating_add(1);
        if since < VISIT {
            return None;
        }
        beat.last = now;
        beat.keep(
            since as f64,
            longest as f64,
            f64::from(settings.jitter) / 100.0,
            now,
        );
        let small = beat.bytes / u64::from(beat.openings.max(1)) <= settings.size;
        if beat.beats < settings.count || !small || std::mem::replace(&mut beat.told, true) {
            return None;
        }
        Some(Found {
            behaviour: Behaviour::Beacon,
            peer,
            frames: beat.openings,
            numbers: json!({
                "kind": Behaviour::Beacon.name(),
                "beats": beat.beats,
                "every_seconds": (beat.mean / 1e8).round() / 10.0,
                "jitter_percent": (f64::from(beat.off) * 1000.0).round() / 10.0,
                "bytes": beat.bytes,
                "seconds": super::seconds(beat.first, now),
            }),
        })
    }

    /// A sample of what goes there.
    pub fn sent(&mut self, hash: u64, bytes: u32) {
        if let Some(beat) = self.find(hash) {
            beat.bytes = beat.bytes.saturating_add(bytes.into());
        }
    }

    fn find(&mut self, hash: u64) -> Option<&mut Beat> {
        let row = self.rows.get_mut(hash as usize % ROWS)?;
        let at = row.hashes.iter().position(|known| *known == hash)?;
        row.beats.get_mut(at)?.as_mut()
    }

    /// The same; what is not known yet may get the place of another. `None` where it gets none.
    fn place(&mut self, hash: u64, now: u64, stale: u64) -> Option<&mut Beat> {
        let row = self.rows.get_mut(hash as usize % ROWS)?;
        let mut known = row.hashes.iter().zip(&row.beats);
        if let Some(at) = known.position(|(known, beat)| *known == hash && beat.is_some()) {
            return row.beats.get_mut(at)?.as_mut();
        }
        self.dice = self
            .dice
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let weight = |place: &Option<Beat>| match place {
            None => 0,
            Some(beat) if now.saturating_sub(beat.last) > stale => 1,
            Some(beat) => 2 + u64::from(beat.beats),
        };
        let weights = row.beats.iter().map(weight).enumerate();
        let (at, room) = weights.min_by_key(|(_, room)| *room)?;
        if room >= 2 && (room > 3 || self.dice >> 30 != 0) {
            return None;
        }
        *row.hashes.get_mut(at)? = hash;
        Some(row.beats.get_mut(at)?.insert(Beat::new(now)))
    }
}

impl Beat {
    fn new(now: u64) -> Beat {
        Beat {
            first: now,
            last: now,
            mean: 0.0,
            off: 0.0,
            beats: 0,
            missed: 0,
            openings: 0,
            bytes: 0,
            told: false,
        }
    }

    /// One more visit, `since` nanoseconds after the last.
    fn keep(&mut self, since: f64, longest: f64, jitter: f64, now: u64) {
        let missed = if self.beats > 1 {
            (since / self.mean).round()
        } else {
            1.0
        };
        let one = since / missed.max(1.0);
        let off = (one - self.mean).abs() / self.mean.max(1.0);
        let gaps = self
            .missed
            .saturating_add((missed - 1.0).clamp(0.0, 1e6) as u32);
        let steady = gaps == 0 || gaps.saturating_mul(FOR_EACH) <= self.beats;
        if self.beats > 0
            && steady
            && missed <= 1.0 + MISSED as f64
            && off <= jitter
            && one <= longest
        {
            self.beats = self.beats.saturating_add(1);
            self.missed = gaps;
            let share = f64::from(self.beats.min(MEMORY));
            self.mean += (one - self.mean) / share;
            self.off += ((off - f64::from(self.off)) / share) as f32;
            return;
        }
        // Another beat, perhaps.
        *self = Beat {
            first: now.saturating_sub(since as u64),
            mean: since,
            off: 0.0,
            beats: u32::from(since <= longest),
            missed: 0,
            openings: 1,
            bytes: 0,
            told: false,
            ..*self
        };
    }
}
