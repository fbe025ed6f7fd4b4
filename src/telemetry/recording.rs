//! The last frames that each worker has received, for evidence: pages that go round between the worker and whoever keeps them.
//!
//! ```text
//! worker ── full page ──► [ring] ──► keeper: the last few, searched when something alerts
//!    ▲                                  │
//!    └───── empty page ◄── [ring] ◄─────┘
//! ```
//!
//! A worker that finds no empty page empties its own: frames are missed and counted, and nobody waits.

use super::Counter;
use crate::frame::{Meta, Net};
use crate::policy::{Side, Verdict};
use crate::telemetry::Reason;
use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// Bytes of a page.
pub const PAGE: usize = 128 << 10;
/// A page that is not full is handed over after this long, nanoseconds.
const LATEST: u64 = 100_000_000;
/// Bytes before each frame.
const HEADER: usize = 64;

/// What became of a recorded frame: 0 forwarded, 1 rejected, 2 given to the box's own stack, 3 and above dropped for the reason of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fate(u8);

impl Fate {
    /// Of a frame with this verdict; in shadow it was forwarded all the same.
    pub fn of(verdict: Verdict) -> Fate {
        match verdict {
            Verdict::Forward => Fate(0),
            Verdict::Reject(_) => Fate(1),
            Verdict::Decoy(_) | Verdict::Own => Fate(2),
            Verdict::Drop(reason) => Fate(3 + reason as u8),
        }
    }

    /// In words; `None` where it was forwarded.
    pub fn describe(self) -> Option<String> {
        match self.0 {
            0 => None,
            1 => Some("rejected".to_owned()),
            2 => Some("to the gate's own stack".to_owned()),
            number => {
                let reason = Reason::ALL.get(usize::from(number) - 3);
                Some(format!(
                    "dropped: {}",
                    reason.map_or("", |reason| reason.name())
                ))
            }
        }
    }
}

/// One frame of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// When its burst was received, nanoseconds since the Unix epoch.
    pub time: u64,
    /// Its length.
    pub len: u32,
    /// Where it came from.
    pub side: Side,
    /// What became of it.
    pub fate: Fate,
    /// The host on the LAN side: its address (0 where the frame is not IP), and its MAC address.
    pub host: u128,
    /// As `host`.
    pub mac: [u8; 6],
    /// The same for both directions of a flow.
    pub flow: u64,
    /// The beginning of the frame.
    pub bytes: &'a [u8],
}

/// A number that the frames of one flow have in common, whichever way they go; others share it by chance.
pub fn flow_of(meta: &Meta) -> u64 {
    let end = |address: u128, port: u16| {
        let low = (address as u64) ^ (u64::from(port) << 48);
        let high = (address >> 64) as u64;
        (low ^ high.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    };
    let ports = matches!(meta.proto, 6 | 17 | 33 | 132 | 136);
    let [sport, dport] = [meta.sport, meta.dport].map(|port| if ports { port } else { 0 });
    let both = end(meta.src, sport).wrapping_add(end(meta.dst, dport));
    (both ^ u64::from(meta.proto)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The host on the LAN side of a frame.
pub fn host_of(meta: &Meta, side: Side) -> (u128, [u8; 6]) {
    let ip = matches!(meta.net, Net::V4 | Net::V6);
    let (address, mac) = match side {
        Side::Lan => (meta.src, meta.src_mac),
        Side::Uplink => (meta.dst, meta.dst_mac),
    };
    (if ip { address } else { 0 }, mac)
}

/// Frames, one after the other.
pub struct Page {
    bytes: Box<[u8]>,
    used: usize,
    frames: u64,
}

impl Page {
    fn new() -> Page {
        Page {
            bytes: vec![0; PAGE].into(),
            used: 0,
            frames: 0,
        }
    }

    fn clear(&mut self) {
        (self.used, self.frames) = (0, 0);
    }

    /// Appends a frame. False where there is no room.
    fn push(&mut self, record: &Record<'_>) -> bool {
        let end = self.used + HEADER + record.bytes.len();
        let Some((header, bytes)) = self
            .bytes
            .get_mut(self.used..end)
            .and_then(|room| room.split_first_chunk_mut::<HEADER>())
        else {
            return false;
        };
        let mut at = 0;
        let mut put = |part: &[u8]| {
            header[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        };
        put(&record.time.to_le_bytes());
        put(&record.flow.to_le_bytes());
        put(&record.host.to_le_bytes());
        put(&record.len.to_le_bytes());
        put(&(record.bytes.len() as u32).to_le_bytes());
        put(&record.mac);
        put(&[record.side as u8, record.fate.0]);
        bytes.copy_from_slice(record.bytes);
        (self.used, self.frames) = (end, self.frames + 1);
        true
    }

    /// The frames, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        let mut rest = self.bytes.get(..self.used).unwrap_or_default();
        std::iter::from_fn(move || {
            let (header, after) = rest.split_first_chunk::<HEADER>()?;
            let (time, header) = header.split_first_chunk()?;
            let (flow, header) = header.split_first_chunk()?;
            let (host, header) = header.split_first_chunk()?;
            let (len, header) = header.split_first_chunk()?;
            let (held, header) = header.split_first_chunk()?;
            let (mac, header) = header.split_first_chunk()?;
            let [side, fate, ..] = header else {
                return None;
            };
            let (bytes, after) = after.split_at_checked(u32::from_le_bytes(*held) as usize)?;
            rest = after;
            Some(Record {
                time: u64::from_le_bytes(*time),
                flow: u64::from_le_bytes(*flow),
                host: u128::from_le_bytes(*host),
                len: u32::from_le_bytes(*len),
                mac: *mac,
                side: if *side == 0 { Side::Lan } else { Side::Uplink },
                fate: Fate(*fate),
                bytes,
            })
        })
    }

    /// How many there are.
    pub fn frames(&self) -> u64 {
        self.frames
    }
}

/// The pages on their way between one worker and the keeper.
#[derive(Clone)]
pub struct Pages {
    full: Arc<ArrayQueue<Page>>,
    empty: Arc<ArrayQueue<Page>>,
    /// Frames that were not recorded.
    pub missed: Arc<Counter>,
}

impl Pages {
    /// `count` pages, at least two, and the worker's hand on them, which records the first `snap` bytes of each frame.
    pub fn new(count: usize, snap: usize) -> (Pages, Recorder) {
        let count = count.max(2);
        let pages = Pages {
            full: Arc::new(ArrayQueue::new(count)),
            empty: Arc::new(ArrayQueue::new(count)),
            missed: Arc::default(),
        };
        for _ in 1..count {
            // As many as there is room for.
            let _ = pages.empty.push(Page::new());
        }
        let recorder = Recorder {
            page: Page::new(),
            pages: pages.clone(),
            snap: snap.min(PAGE / 8),
            since: 0,
        };
        (pages, recorder)
    }

    /// The next page that a worker has handed over.
    pub fn take(&self) -> Option<Page> {
        self.full.pop()
    }

    /// Gives a page back.
    pub fn give(&self, mut page: Page) {
        page.clear();
        // There are never more pages than there is room for.
        let _ = self.empty.push(page);
    }
}

/// One worker's hand on its pages.
pub struct Recorder {
    page: Page,
    pages: Pages,
    snap: usize,
    /// When the first frame of the page was recorded.
    since: u64,
}

impl Recorder {
    /// Records one frame.
    #[inline]
    pub fn record(&mut self, time: u64, side: Side, meta: &Meta, verdict: Verdict, frame: &[u8]) {
        let (host, mac) = host_of(meta, side);
        let record = Record {
            time,
            len: frame.len() as u32,
            side,
            fate: Fate::of(verdict),
            host,
            mac,
            flow: flow_of(meta),
            bytes: frame.get(..self.snap).unwrap_or(frame),
        };
        if !self.page.push(&record) {
            self.hand_over();
            self.page.push(&record);
        }
    }

    /// Hands a page over that is not full and has waited for long enough, of a clock that only goes on.
    #[inline]
    pub fn tick(&mut self, now: u64) {
        if self.page.frames == 0 {
            self.since = now;
        } else if now.saturating_sub(self.since) > LATEST {
            self.hand_over();
            self.since = now;
        }
    }

    #[cold]
    fn hand_over(&mut self) {
        let Some(empty) = self.pages.empty.pop() else {
            self.pages.missed.add(self.page.frames);
            self.page.clear();
            return;
        };
        let full = std::mem::replace(&mut self.page, empty);
        if let Err(mut back) = self.pages.full.push(full) {
            // There are never more pages than there is room for.
            self.pages.missed.add(back.frames);
            back.clear();
        }
    }
}

impl std::fmt::Debug for Pages {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} of {} pages full",
            self.full.len(),
            self.full.capacity()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(src: u128, dst: u128) -> Meta {
        Meta {
            net: Net::V4,
            proto: 17,
            src,
            dst,
            sport: 7,
            dport: 9,
            src_mac: [2; 6],
            ..Meta::NONE
        }
    }

    #[test]
    fn frames_come_back_as_they_were_recorded() {
        let (pages, mut recorder) = Pages::new(3, 100);
        let drop = Verdict::Drop(Reason::FragmentTiny);
        recorder.tick(1);
        recorder.record(7, Side::Lan, &meta(1, 2), drop, &[5; 300]);
        recorder.record(8, Side::Uplink, &meta(2, 1), Verdict::Forward, &[6; 60]);
        recorder.tick(2);
        assert!(pages.take().is_none(), "it is not full");
        recorder.tick(2 + LATEST);
        let page = pages.take().unwrap();
        let [out, back] = page.records().collect::<Vec<_>>().try_into().unwrap();
        assert_eq!((out.time, out.len, out.bytes), (7, 300, &[5; 100][..]));
        assert_eq!(out.fate.describe().unwrap(), "dropped: fragment-tiny");
        assert_eq!((out.host, out.mac, out.side), (1, [2; 6], Side::Lan));
        assert_eq!(
            (back.host, back.side, back.fate.describe()),
            (1, Side::Uplink, None)
        );
        assert_eq!(back.bytes, [6; 60]);
    }

    #[test]
    fn both_ways_of_a_flow_are_one() {
        let (out, mut back) = (meta(1, 2), meta(2, 1));
        (back.sport, back.dport) = (9, 7);
        assert_eq!(flow_of(&out), flow_of(&back));
        back.sport = 10;
        assert_ne!(flow_of(&out), flow_of(&back));
    }

    #[test]
    fn a_keeper_that_gives_no_page_back_costs_frames_and_they_are_counted() {
        let (pages, mut recorder) = Pages::new(3, 1500);
        let mut recorded = 0;
        for time in 0..1000 {
            recorder.record(time, Side::Lan, &meta(1, 2), Verdict::Forward, &[0; 1500]);
            recorded += 1;
        }
        let kept: Vec<Page> = std::iter::from_fn(|| pages.take()).collect();
        assert_eq!(kept.len(), 2);
        let kept_frames: u64 = kept.iter().map(Page::frames).sum();
        assert_eq!(
            kept_frames + pages.missed.get() + recorder.page.frames,
            recorded
        );
        for page in kept {
            pages.give(page);
        }
        let before = pages.missed.get();
        for time in 0..100 {
            recorder.record(time, Side::Lan, &meta(1, 2), Verdict::Forward, &[0; 1500]);
        }
        assert_eq!(pages.missed.get(), before, "there is room again");
    }
}
