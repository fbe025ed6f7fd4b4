//! The memory of the flow table: a fixed number of slots that any number of workers read and write at once.
//!
//! ```text
//! bucket, 512 bytes:  head │ tag 0 … tag 6      one cache line: all that a look-up and the sweep read
//!                     flow 0                    one cache line each: key, control word, two words of the protocol
//!                       …
//!                     flow 6
//! ```
//!
//! A flow stands in one of two buckets that its hash names, in the first where there is room there. Its **tag** says whether the slot
//! is taken, of which flow (32 bits of the hash), when it was last used, and carries a version, which changes each time the slot changes
//! hands.
//!
//! - *Looking up* takes no lock: read the tag, read the key, read the tag again; if it still is of the same version, the key was
//!   that of one flow (a sequence lock).
//! - *Opening* locks the head of the first bucket of the hash, for the time of one packet, so that two workers that
//!   meet the same new flow at the same time make one entry of it.
//! - *Changing* the control word is a compare-and-swap that fails when the slot has changed hands: the word carries the version too.
//! - *Removing* is one compare-and-swap of the tag.
//!
//! Nothing here knows what a flow is: a key is five words and a hash, and who may be thrown out is for the caller to say.

use super::sync::{AtomicU64, Ordering, fence, prefetch, spin_loop};
use Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Slots of a bucket.
pub const WAYS: usize = super::sync::WAYS;
/// Words of a key.
pub const KEY_WORDS: usize = 5;

/// The five words of a key.
pub type KeyWords = [u64; KEY_WORDS];

/// A tag: who has a slot, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u64);

impl Tag {
    const CLASS: u64 = 0xf;
    const SECOND: u64 = 1 << 4;
    const VERSION: u64 = VERSION_MASK << VERSION_AT;
    const TICK_AT: u32 = 16;
    const TICK: u64 = 0xffff << Tag::TICK_AT;
    const HASH: u64 = 0xffff_ffff << 32;
    /// What stays the same as long as the slot does not change hands.
    const IDENTITY: u64 = Tag::HASH | Tag::VERSION | Tag::SECOND;

    const EMPTY: u64 = 0;
    const BEING_WRITTEN: u64 = 1;

    /// The class that the flow was last put in, at least 2.
    pub fn class(self) -> usize {
        (self.0 & Tag::CLASS) as usize
    }

    /// When it was last used.
    pub fn tick(self) -> u16 {
        (self.0 >> Tag::TICK_AT) as u16
    }

    fn is_live(self) -> bool {
        self.0 & Tag::CLASS > Tag::BEING_WRITTEN
    }

    fn same_flow(self, other: u64) -> bool {
        (self.0 ^ other) & Tag::IDENTITY == 0 && Tag(other).is_live()
    }

    fn version(self) -> u64 {
        (self.0 >> VERSION_AT) & VERSION_MASK
    }

    /// In the second of its two buckets.
    fn in_second(self) -> bool {
        self.0 & Tag::SECOND != 0
    }
}

const VERSION_AT: u32 = 5;
const VERSION_MASK: u64 = 0x7ff;
/// The control word's own bits; above them stands the version.
pub const CONTROL_BITS: u32 = 53;
const CONTROL_MASK: u64 = (1 << CONTROL_BITS) - 1;

/// The first word of a bucket: bit 0 is the lock of opening, the rest counts flows that have their place in the second bucket for
/// want of room in this one.
const LOCK: u64 = 1;
const ELSEWHERE: u64 = 2;

/// Classes start here: 0 is an empty slot, 1 one that is being written.
pub const FIRST_CLASS: u8 = 2;

#[repr(C, align(64))]
struct Line([AtomicU64; 8]);

impl Line {
    fn new() -> Line {
        Line(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

#[repr(C, align(64))]
struct Bucket {
    head: Line,
    flows: [Line; WAYS],
}

/// Words of a flow's line.
const CONTROL: usize = KEY_WORDS;
const FIRST_STATE: usize = KEY_WORDS + 1;

/// A flow that was found: its slot, and the tag that it had.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    bucket: u32,
    way: u8,
    /// As it was when the flow was found.
    pub tag: Tag,
}

/// What a new flow starts with.
#[derive(Clone, Copy, Debug)]
pub struct Fresh {
    /// At least [`FIRST_CLASS`], at most 15.
    pub class: u8,
    /// Now.
    pub tick: u16,
    /// The control word, below 1 << [`CONTROL_BITS`].
    pub control: u64,
    /// The two words of the protocol.
    pub state: [u64; 2],
}

/// How opening went.
#[derive(Debug)]
pub enum Opened {
    /// A new entry.
    New(Slot),
    /// A new entry in the place of one that was thrown out: its key.
    Replaced(Slot, KeyWords),
    /// It was there already.
    Exists(Slot),
    /// No room, and nobody who may be thrown out.
    Full,
}

/// The slots.
pub struct Slots {
    buckets: Box<[Bucket]>,
}

impl Slots {
    /// With room for about `flows` flows: half as many slots more, so that two full buckets are rare.
    pub fn new(flows: usize) -> Slots {
        let buckets = (flows + flows / 2).div_ceil(WAYS).max(1);
        Slots {
            buckets: (0..buckets)
                .map(|_| Bucket {
                    head: Line::new(),
                    flows: std::array::from_fn(|_| Line::new()),
                })
                .collect(),
        }
    }

    /// Buckets.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.buckets)
    }

    fn first(&self, hash: u64) -> usize {
        (((hash & 0xffff_ffff) * self.buckets.len() as u64) >> 32) as usize
    }

    fn second(&self, hash: u64) -> usize {
        let mixed = (hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((mixed * self.buckets.len() as u64) >> 32) as usize
    }

    /// Asks for the tags of this hash, to have them in the cache in time.
    #[inline]
    pub fn prefetch_tags(&self, hash: u64) {
        prefetch(&self.bucket(self.first(hash)).head);
    }

    #[inline]
    fn bucket(&self, at: usize) -> &Bucket {
        // `first` and `second` give less than the length, of which there is at least one.
        self.buckets.get(at).unwrap_or_else(|| unreachable_bucket())
    }

    #[inline]
    fn tag(&self, bucket: usize, way: usize) -> Option<&AtomicU64> {
        self.bucket(bucket).head.0.get(way + 1)
    }

    #[inline]
    fn line(&self, slot: &Slot) -> Option<&Line> {
        self.bucket(slot.bucket as usize)
            .flows
            .get(usize::from(slot.way))
    }

    /// The slot in the first bucket whose tag has this hash: most likely the flow's, if it is there. [`Slots::is_of`] says whether it
    /// is.
    #[inline]
    pub fn likely(&self, hash: u64) -> Option<Slot> {
        let at = self.first(hash);
        let [_, tags @ ..] = &self.bucket(at).head.0;
        let mut found = None;
        for (way, tag) in tags.iter().take(WAYS).enumerate() {
            let tag = Tag(tag.load(Acquire));
            if (tag.0 ^ hash) & Tag::HASH == 0 && tag.is_live() {
                found = Some(Slot {
                    bucket: at as u32,
                    way: way as u8,
                    tag,
                });
            }
        }
        found
    }

    /// Asks for the flow's own line, to have it in the cache in time.
    #[inline]
    pub fn prefetch_flow(&self, slot: &Slot) {
        if let Some(line) = self.line(slot) {
            prefetch(line);
        }
    }

    /// Whether the slot held this key while it had its tag.
    #[inline]
    pub fn is_of(&self, slot: &Slot, key: &KeyWords) -> bool {
        let (Some(line), Some(tag)) = (
            self.line(slot),
            self.tag(slot.bucket as usize, usize::from(slot.way)),
        ) else {
            return false;
        };
        let mut differ = 0;
        for (word, key) in line.0.iter().zip(key) {
            differ |= word.load(Relaxed) ^ key;
        }
        fence(Acquire);
        differ == 0 && slot.tag.same_flow(tag.load(Relaxed))
    }

    /// The flow of this key.
    pub fn find(&self, key: &KeyWords, hash: u64) -> Option<Slot> {
        let first = self.first(hash);
        if let Some(slot) = self.find_in(first, key, hash) {
            return Some(slot);
        }
        let head = self.bucket(first).head.0.first()?;
        if head.load(Acquire) < ELSEWHERE {
            return None;
        }
        self.find_in(self.second(hash), key, hash)
    }

    fn find_in(&self, bucket: usize, key: &KeyWords, hash: u64) -> Option<Slot> {
        (0..WAYS).find_map(|way| {
            let tag = Tag(self.tag(bucket, way)?.load(Acquire));
            let slot = Slot {
                bucket: bucket as u32,
                way: way as u8,
                tag,
            };
            let likely = (tag.0 ^ hash) & Tag::HASH == 0 && tag.is_live();
            (likely && self.is_of(&slot, key)).then_some(slot)
        })
    }

    /// The control word, and the protocol's words; `None` where the slot has changed hands.
    #[inline]
    pub fn read(&self, slot: &Slot) -> Option<(u64, [u64; 2])> {
        let line = self.line(slot)?;
        let control = line.0[CONTROL].load(Relaxed);
        let state = [
            line.0[FIRST_STATE].load(Relaxed),
            line.0[FIRST_STATE + 1].load(Relaxed),
        ];
        (control >> CONTROL_BITS == slot.tag.version()).then_some((control & CONTROL_MASK, state))
    }

    /// The key of a slot; `None` where it has changed hands.
    pub fn key(&self, slot: &Slot) -> Option<KeyWords> {
        let line = self.line(slot)?;
        let mut key = [0; KEY_WORDS];
        for (word, from) in key.iter_mut().zip(&line.0) {
            *word = from.load(Relaxed);
        }
        fence(Acquire);
        let tag = self.tag(slot.bucket as usize, usize::from(slot.way))?;
        slot.tag.same_flow(tag.load(Relaxed)).then_some(key)
    }

    /// Puts `new` in the place of `old`, as [`Slots::read`] gave it. False where another worker was first, or the slot has changed
    /// hands.
    pub fn change(&self, slot: &Slot, old: u64, new: u64) -> bool {
        let version = slot.tag.version() << CONTROL_BITS;
        self.line(slot).is_some_and(|line| {
            line.0[CONTROL]
                .compare_exchange(
                    old | version,
                    (new & CONTROL_MASK) | version,
                    AcqRel,
                    Relaxed,
                )
                .is_ok()
        })
    }

    /// Sets one of the protocol's words. Not tied to the version: a word of a slot that changes hands in this very moment may be
    /// that of the flow before.
    #[inline]
    pub fn set_state(&self, slot: &Slot, at: usize, word: u64) {
        if let Some(cell) = self
            .line(slot)
            .and_then(|line| line.0.get(FIRST_STATE + at))
        {
            cell.store(word, Relaxed);
        }
    }

    /// Writes down that the flow was used at `tick` and is in `class` now. Writes nothing where the tag says so already.
    #[inline]
    pub fn touch(&self, slot: &Slot, class: u8, tick: u16) {
        let new = (slot.tag.0 & !(Tag::TICK | Tag::CLASS))
            | u64::from(tick) << Tag::TICK_AT
            | u64::from(class);
        if new != slot.tag.0 {
            self.retag(slot, new);
        }
    }

    #[inline(never)]
    fn retag(&self, slot: &Slot, new: u64) {
        let Some(tag) = self.tag(slot.bucket as usize, usize::from(slot.way)) else {
            return;
        };
        let mut seen = slot.tag.0;
        // Another worker may touch the same flow; whoever is last is right enough, unless the flow is gone.
        while let Err(now) = tag.compare_exchange(seen, new, AcqRel, Relaxed) {
            if !slot.tag.same_flow(now) {
                return;
            }
            seen = now;
        }
    }

    /// Removes a flow; its key. `None` where it was used meanwhile, or is gone.
    pub fn remove(&self, slot: &Slot, rehash: impl Fn(&KeyWords) -> u64) -> Option<KeyWords> {
        let key = self.key(slot)?;
        let tag = self.tag(slot.bucket as usize, usize::from(slot.way))?;
        let empty = (slot.tag.0 & Tag::VERSION) | Tag::EMPTY;
        tag.compare_exchange(slot.tag.0, empty, AcqRel, Relaxed)
            .ok()?;
        if slot.tag.in_second()
            && let Some(head) = self.bucket(self.first(rehash(&key))).head.0.first()
        {
            head.fetch_sub(ELSEWHERE, AcqRel);
        }
        Some(key)
    }

    /// Gives the slot of a flow a new start under the same key: false where it has changed hands meanwhile.
    pub fn restart(&self, slot: &Slot, fresh: &Fresh) -> Option<Slot> {
        let tag = self.tag(slot.bucket as usize, usize::from(slot.way))?;
        let mut seen = slot.tag.0;
        let writing = loop {
            let next = (Tag(seen).version() + 1) & VERSION_MASK;
            let writing =
                (seen & (Tag::HASH | Tag::SECOND)) | next << VERSION_AT | Tag::BEING_WRITTEN;
            match tag.compare_exchange(seen, writing, AcqRel, Relaxed) {
                Ok(_) => break writing,
                Err(now) if slot.tag.same_flow(now) => seen = now,
                Err(_) => return None,
            }
        };
        fence(Release);
        Some(self.publish(slot.bucket, slot.way, writing, None, fresh))
    }

    /// Makes an entry for this key, or finds the one that is there.
    ///
    /// `over` says of a tag whether that flow's time is over, `rank` how readily a live one is thrown out for this one: the lowest
    /// goes first, `None` never. `rehash` is the hash that the key was opened with.
    pub fn open(
        &self,
        key: &KeyWords,
        hash: u64,
        fresh: &Fresh,
        over: impl Fn(Tag) -> bool,
        rank: impl Fn(Tag, &KeyWords) -> Option<u32>,
        rehash: impl Fn(&KeyWords) -> u64,
    ) -> Opened {
        let places = [self.first(hash), self.second(hash)];
        let _lock = Lock::of(self.bucket(places[0]));
        // Nobody else can open this key now; an entry of it that is being restarted is waited for.
        for bucket in places {
            if let Some(slot) = self.settled(bucket, key, hash) {
                return Opened::Exists(slot);
            }
        }
        for _ in 0..WAYS {
            if let Some((bucket, way, writing)) = self.claim(&places, hash) {
                let slot = self.publish(bucket, way, writing, Some(key), fresh);
                return Opened::New(slot);
            }
            let Some(victim) = self.lowest(hash, &over, &rank) else {
                return Opened::Full;
            };
            if let Some(gone) = self.remove(&victim, &rehash)
                && let Some((bucket, way, writing)) = self.claim(&places, hash)
            {
                let slot = self.publish(bucket, way, writing, Some(key), fresh);
                return Opened::Replaced(slot, gone);
            }
        }
        Opened::Full
    }

    /// As [`Slots::find_in`], and waits for a slot of this hash that is being written.
    fn settled(&self, bucket: usize, key: &KeyWords, hash: u64) -> Option<Slot> {
        for way in 0..WAYS {
            let cell = self.tag(bucket, way)?;
            while {
                let tag = cell.load(Acquire);
                (tag ^ hash) & Tag::HASH == 0 && tag & Tag::CLASS == Tag::BEING_WRITTEN
            } {
                spin_loop();
            }
        }
        self.find_in(bucket, key, hash)
    }

    /// Takes an empty slot: in the first bucket as long as there are some, else in the emptier one, so that it is rare that both are full.
    fn claim(&self, places: &[usize; 2], hash: u64) -> Option<(u32, u8, u64)> {
        let taken = places.map(|bucket| self.taken(bucket));
        let order = match taken[0] + 2 < WAYS || taken[0] <= taken[1] {
            true => [0, 1],
            false => [1, 0],
        };
        for (at, bucket) in order.into_iter().zip(order.map(|at| places[at])) {
            let second = if at == 1 { Tag::SECOND } else { 0 };
            for way in 0..WAYS {
                let tag = self.tag(bucket, way)?;
                let seen = tag.load(Relaxed);
                if seen & Tag::CLASS != Tag::EMPTY {
                    continue;
                }
                let version = (Tag(seen).version() + 1) & VERSION_MASK;
                let writing =
                    (hash & Tag::HASH) | second | version << VERSION_AT | Tag::BEING_WRITTEN;
                if tag.compare_exchange(seen, writing, AcqRel, Relaxed).is_ok() {
                    if at == 1 {
                        let head = self.bucket(places[0]).head.0.first()?;
                        head.fetch_add(ELSEWHERE, AcqRel);
                    }
                    fence(Release);
                    return Some((bucket as u32, way as u8, writing));
                }
            }
        }
        None
    }

    /// Slots of a bucket that are not empty.
    fn taken(&self, bucket: usize) -> usize {
        let [_, tags @ ..] = &self.bucket(bucket).head.0;
        let taken = tags
            .iter()
            .take(WAYS)
            .filter(|tag| tag.load(Relaxed) & Tag::CLASS != Tag::EMPTY);
        taken.count()
    }

    fn publish(
        &self,
        bucket: u32,
        way: u8,
        writing: u64,
        key: Option<&KeyWords>,
        fresh: &Fresh,
    ) -> Slot {
        let version = Tag(writing).version() << CONTROL_BITS;
        let live = (writing & !Tag::CLASS)
            | u64::from(fresh.class)
            | u64::from(fresh.tick) << Tag::TICK_AT;
        let slot = Slot {
            bucket,
            way,
            tag: Tag(live),
        };
        if let Some(line) = self.line(&slot) {
            for (word, from) in line.0.iter().zip(key.into_iter().flatten()) {
                word.store(*from, Relaxed);
            }
            // An exchange, and so ordered with the compare-and-swap of a worker that knew the flow before.
            line.0[CONTROL].swap((fresh.control & CONTROL_MASK) | version, Relaxed);
            line.0[FIRST_STATE].store(fresh.state[0], Relaxed);
            line.0[FIRST_STATE + 1].store(fresh.state[1], Relaxed);
        }
        if let Some(tag) = self.tag(bucket as usize, usize::from(way)) {
            tag.store(live, Release);
        }
        slot
    }

    /// Who goes, of the two buckets of this hash: one whose time is over, else the one with the lowest rank.
    pub fn lowest(
        &self,
        hash: u64,
        over: impl Fn(Tag) -> bool,
        rank: impl Fn(Tag, &KeyWords) -> Option<u32>,
    ) -> Option<Slot> {
        let mut lowest: Option<(u32, Slot)> = None;
        for bucket in [self.first(hash), self.second(hash)] {
            for slot in self.live(bucket) {
                if over(slot.tag) {
                    return Some(slot);
                }
                let ranked = self.key(&slot).and_then(|key| rank(slot.tag, &key));
                if let Some(ranked) = ranked
                    && lowest.is_none_or(|(least, _)| ranked < least)
                {
                    lowest = Some((ranked, slot));
                }
            }
        }
        lowest.map(|(_, slot)| slot)
    }

    /// Removes the flow with the lowest rank in the two buckets of a hash; its key.
    pub fn make_room(
        &self,
        hash: u64,
        rank: impl Fn(Tag, &KeyWords) -> Option<u32>,
        rehash: impl Fn(&KeyWords) -> u64,
    ) -> Option<KeyWords> {
        self.remove(&self.lowest(hash, |_| false, rank)?, rehash)
    }

    /// The flows of one bucket, as they are at this moment.
    pub fn live(&self, bucket: usize) -> impl Iterator<Item = Slot> + '_ {
        let tags = self.buckets.get(bucket).map(|bucket| &bucket.head.0);
        let tags = tags.into_iter().flatten().skip(1).take(WAYS);
        tags.enumerate().filter_map(move |(way, tag)| {
            let tag = Tag(tag.load(Acquire));
            tag.is_live().then_some(Slot {
                bucket: bucket as u32,
                way: way as u8,
                tag,
            })
        })
    }
}

/// Holds the lock of one bucket.
struct Lock<'a>(Option<&'a AtomicU64>);

impl Lock<'_> {
    fn of(bucket: &Bucket) -> Lock<'_> {
        let head = bucket.head.0.first();
        while head.is_some_and(|head| head.fetch_or(LOCK, Acquire) & LOCK != 0) {
            spin_loop();
        }
        Lock(head)
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        if let Some(head) = self.0 {
            head.fetch_and(!LOCK, Release);
        }
    }
}

#[cold]
fn unreachable_bucket() -> ! {
    unreachable!("a bucket beyond the table")
}
