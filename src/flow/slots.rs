//! The memory of the flow table: a fixed number of slots that any number of workers read and write at once.
//!
//! ```text
//! bucket, a cache line:  head │ tag 0 … tag 6        all that a look-up and the sweep read first
//!                                  │ names
//!                                  ▼
//! flow, a cache line:    key │ control word │ two words of the protocol      from one pool, the last freed first
//! ```
//!
//! A flow stands in one of two buckets that its hash names. Its **tag** says whether the slot is taken, of which flow (13 bits of the
//! hash, and the number of the line that has its key), when it was last used, and carries a version, which changes each time that line changes hands.
//! Buckets are small and lines are handed out densely, so that few flows in a large table touch few pages.
//!
//! - *Looking up* takes no lock: read the tag, read the key, read the tag again; if it still is of the same version, the key was
//!   that of one flow (a sequence lock).
//! - *Opening* locks the head of the first bucket of the hash, for the time of one packet, so that two workers that
//!   meet the same new flow at the same time make one entry of it.
//! - *Changing* the control word is a compare-and-swap that fails when the slot has changed hands: the word carries the version too.
//! - *Removing* is one compare-and-swap of the tag.
//!
//! Nothing here knows what a flow is: a key is five words and a hash, and who may be thrown out is for the caller to say.

use super::free::{Free, LOCK, Lock};
use super::sync::{AtomicU64, Ordering, fence, huge_vec, prefetch, spin_loop};
use Ordering::{AcqRel, Acquire, Relaxed, Release};

/// Slots of a bucket.
pub const WAYS: usize = super::sync::WAYS;
/// Words of a key.
pub const KEY_WORDS: usize = 5;

/// The five words of a key.
pub type KeyWords = [u64; KEY_WORDS];

/// The first word of a key of IPv4 on the wire.
pub const V4_WORD: u64 = 0xff << 56;

/// A tag: who has a slot, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u64);

/// ```text
/// bits  0–3   class; 0 empty, 1 being written
/// bit   4     in the second of its two buckets
/// bits  5–10  version
/// bits 11–26  tick
/// bits 27–50  line
/// bits 51–63  hash
/// ```
impl Tag {
    /// That of no flow, which stands in no slot: an empty one has no bit.
    pub const NONE: Tag = Tag(Tag::SECOND);

    const CLASS: u64 = 0xf;
    const SECOND: u64 = 1 << 4;
    const VERSION: u64 = VERSION_MASK << VERSION_AT;
    const TICK_AT: u32 = 11;
    const TICK: u64 = 0xffff << Tag::TICK_AT;
    const LINE_AT: u32 = 27;
    const LINE: u64 = (MOST_LINES as u64 - 1) << Tag::LINE_AT;
    const HASH: u64 = !0 << 51;
    /// What stays the same as long as the slot does not change hands.
    const IDENTITY: u64 = Tag::HASH | Tag::LINE | Tag::VERSION | Tag::SECOND;

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

    fn line(self) -> usize {
        ((self.0 & Tag::LINE) >> Tag::LINE_AT) as usize
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
const VERSION_MASK: u64 = 0x3f;
/// Lines that a tag can name.
const MOST_LINES: usize = 1 << 24;
/// The control word's own bits; above them stands the version.
pub const CONTROL_BITS: u32 = 58;
const CONTROL_MASK: u64 = (1 << CONTROL_BITS) - 1;

/// The first word of a bucket, its head: a byte of the hash of each flow in it, so that one load says which tag to look at; above them, bit 56 is the lock of
/// opening ([`LOCK`]), and the rest counts flows that have their place in the second bucket for want of room in this one.
const ELSEWHERE: u64 = LOCK << 1;
/// As many as seven bits count.
const MOST_ELSEWHERE: u64 = 127;
const EACH_BYTE: u64 = 0x0101_0101_0101_0101;
/// The bytes of the flows.
const MARKS: u64 = (1 << (8 * WAYS)) - 1;

/// The byte of a hash; 0 is that of an empty slot.
#[inline]
fn mark(hash: u64) -> u64 {
    (hash >> 40 & 0xff).max(1)
}

/// Classes start here: 0 is an empty slot, 1 one that is being written.
pub const FIRST_CLASS: u8 = 2;

#[repr(C, align(64))]
struct Line([AtomicU64; 8]);

impl Line {
    fn new() -> Line {
        Line(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// How often opening tries again when others take what it was about to.
const ATTEMPTS: usize = 8;
/// Buckets that are searched for somebody to throw out when no line is free.
const SEARCH: usize = 32;

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

impl Slot {
    /// None: no flow is found there.
    pub const NONE: Slot = Slot {
        bucket: 0,
        way: 0,
        tag: Tag::NONE,
    };
}

/// Where a flow most likely is, by the tags of its first bucket.
#[derive(Clone, Copy, Debug)]
pub enum Likely {
    /// In this slot.
    Here(Slot),
    /// In its second bucket, whose tags were asked for.
    Elsewhere,
    /// Perhaps in this bucket behind another that looks like it: [`Slots::find`] says.
    Unsure,
    /// Nowhere: no such flow was open when this was asked.
    Nowhere,
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
    /// It was there already.
    Exists(Slot),
    /// No room, and nobody who may be thrown out.
    Full,
}

/// The slots.
pub struct Slots {
    /// A head and the tags, each.
    buckets: Box<[Line]>,
    /// Of the flows.
    lines: Box<[Line]>,
    free: Free,
    /// Where the next search for somebody to throw out begins.
    hand: AtomicU64,
}

impl Slots {
    /// With room for `flows` flows, and twice as many slots, so that nearly all of them stand in their first bucket.
    pub fn new(flows: usize) -> Slots {
        let (buckets, lines) = Slots::shape(flows);
        Slots::made_of(buckets, lines)
    }

    /// Buckets, and lines, for so many flows.
    fn shape(flows: usize) -> (usize, usize) {
        let flows = flows.clamp(1, MOST_LINES);
        ((flows * 2).div_ceil(WAYS), flows)
    }

    /// Bytes for so many flows.
    pub fn bytes_of(flows: usize) -> usize {
        let (buckets, lines) = Slots::shape(flows);
        (buckets + lines) * size_of::<Line>() + lines * size_of::<AtomicU64>()
    }

    /// Of so many buckets, and lines for so many flows.
    pub fn made_of(buckets: usize, flows: usize) -> Slots {
        let lines = |count| {
            let mut lines = huge_vec(count);
            lines.resize_with(count, Line::new);
            lines.into_boxed_slice()
        };
        Slots {
            buckets: lines(buckets.max(1)),
            lines: lines(flows),
            free: Free::new(flows),
            hand: AtomicU64::new(0),
        }
    }

    /// Buckets.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    /// Bytes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.buckets) + size_of_val(&*self.lines) + self.free.bytes()
    }

    fn first(&self, hash: u64) -> usize {
        (((hash & 0xffff_ffff) * self.buckets.len() as u64) >> 32) as usize
    }

    fn second(&self, hash: u64) -> usize {
        let mixed = (hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        ((mixed * self.buckets.len() as u64) >> 32) as usize
    }

    /// Asks for the tags of this hash, to have them in the cache in time. The number of their bucket, for [`Slots::likely`].
    #[inline]
    pub fn prefetch_tags(&self, hash: u64) -> u32 {
        let first = self.first(hash);
        self.prefetch_bucket(first);
        first as u32
    }

    #[inline]
    fn prefetch_bucket(&self, at: usize) {
        if let Some(bucket) = self.buckets.get(at) {
            prefetch(bucket);
        }
    }

    /// The head of a bucket.
    #[inline]
    fn head(&self, bucket: usize) -> Option<&AtomicU64> {
        self.buckets.get(bucket)?.0.first()
    }

    #[inline]
    fn tag(&self, bucket: usize, way: usize) -> Option<&AtomicU64> {
        // A way is below seven; the mask spares looking.
        Some(&self.buckets.get(bucket)?.0[(way + 1) & 7])
    }

    #[inline]
    fn line(&self, slot: &Slot) -> Option<&Line> {
        self.lines.get(slot.tag.line())
    }

    /// The slot in the first bucket whose tag has this hash: most likely the flow's, if it is there. [`Slots::is_of`] says whether it
    /// is.
    #[inline]
    pub fn likely(&self, hash: u64, first: u32) -> Likely {
        let first = first as usize;
        let likely = self.likely_in(first, hash);
        if let Likely::Nowhere = likely
            && let Some(head) = self.head(first)
            && head.load(Relaxed) >= ELSEWHERE
        {
            self.prefetch_bucket(self.second(hash));
            return Likely::Elsewhere;
        }
        likely
    }

    /// The same in the second bucket, once it was asked for.
    #[inline]
    pub fn likely_elsewhere(&self, hash: u64) -> Likely {
        self.likely_in(self.second(hash), hash)
    }

    #[inline]
    fn likely_in(&self, at: usize, hash: u64) -> Likely {
        let Some(Line([head, tags @ ..])) = self.buckets.get(at) else {
            return Likely::Nowhere;
        };
        // The lowest byte that is zero here is one that is alike, exactly; no jump depends on which. A flow's byte stands there for as long as its tag is live, so where none is alike
        // there is no such flow.
        let other = head.load(Relaxed) ^ mark(hash).wrapping_mul(EACH_BYTE);
        let alike = other.wrapping_sub(EACH_BYTE) & !other & (EACH_BYTE << 7) & MARKS;
        let way = alike.trailing_zeros() as usize / 8;
        let Some(tag) = tags.get(way).filter(|_| alike != 0) else {
            return Likely::Nowhere;
        };
        let tag = Tag(tag.load(Acquire));
        if (tag.0 ^ hash) & Tag::HASH != 0 || !tag.is_live() {
            return Likely::Unsure;
        }
        Likely::Here(Slot {
            bucket: at as u32,
            way: way as u8,
            tag,
        })
    }

    /// Asks for the flow's own line, to have it in the cache in time.
    #[inline]
    pub fn prefetch_flow(&self, slot: &Slot) {
        if let Some(line) = self.line(slot) {
            prefetch(line);
        }
    }

    /// Whether the slot held this key while it had its tag.
    pub fn is_of(&self, slot: &Slot, key: &KeyWords) -> bool {
        self.get(slot, key).is_some()
    }

    /// The flow of this key.
    #[inline(never)]
    pub fn find(&self, key: &KeyWords, hash: u64) -> Option<Slot> {
        let first = self.first(hash);
        if let Some(slot) = self.find_in(first, key, hash) {
            return Some(slot);
        }
        let head = self.head(first)?;
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

    /// The control word and the protocol's words of the slot, as [`Slots::read`], if it held this key while it had its tag.
    #[inline]
    pub fn get(&self, slot: &Slot, key: &KeyWords) -> Option<(u64, [u64; 2])> {
        // One test of all bits at once: a chain of comparisons would need as many registers as there are words.
        let read = self.read_of(slot, |[a, b, c, d, e, ..]| {
            let mut differ = a.load(Relaxed) ^ key[0];
            differ |= b.load(Relaxed) ^ key[1];
            differ |= c.load(Relaxed) ^ key[2];
            differ |= d.load(Relaxed) ^ key[3];
            differ | (e.load(Relaxed) ^ key[4])
        });
        let (mut differ, tag, control, state) = read?;
        differ |= (slot.tag.0 ^ tag) & Tag::IDENTITY;
        (differ == 0 && Tag(tag).is_live()).then_some((control, state))
    }

    /// The same of a flow of IPv4 on the wire, the inside's address above the outside's, with the last word of its key: but first the bits in which something differs, all 0 where the
    /// rest is worth something.
    #[inline(always)]
    pub fn get_v4(&self, slot: &Slot, ends: u64, rest: u64) -> Option<(u64, u64, [u64; 2])> {
        let read = self.read_of(slot, |[a, b, c, d, e, ..]| {
            // The addresses are below 2^32 where the first and third word say that they are of IPv4.
            let mut differ = a.load(Relaxed) ^ V4_WORD;
            differ |= (b.load(Relaxed) << 32 | d.load(Relaxed)) ^ ends;
            differ |= c.load(Relaxed);
            differ | (e.load(Relaxed) ^ rest)
        });
        let (differ, tag, control, state) = read?;
        // The very tag, which is live: whoever has touched the flow since is rare, and may ask the longer way.
        Some((differ | (slot.tag.0 ^ tag), control, state))
    }

    /// What `differ` says of the flow's key, and the bits in which the version is another; the tag after that was read; the control word, and the protocol's words.
    #[inline(always)]
    fn read_of(
        &self,
        slot: &Slot,
        differ: impl Fn(&[AtomicU64; 8]) -> u64,
    ) -> Option<(u64, u64, u64, [u64; 2])> {
        let line = self.line(slot)?;
        let cell = self.tag(slot.bucket as usize, usize::from(slot.way))?;
        let mut differ = differ(&line.0);
        let [.., control, first, second] = &line.0;
        let control = control.load(Relaxed);
        differ |= control >> CONTROL_BITS ^ slot.tag.version();
        let state = [first.load(Relaxed), second.load(Relaxed)];
        fence(Acquire);
        let tag = cell.load(Relaxed);
        Some((differ, tag, control & CONTROL_MASK, state))
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
            self.retag(slot, |_| new);
        }
    }

    /// Writes down that the flow was used at `tick`, and leaves its class as it is.
    #[inline]
    pub fn tick(&self, slot: &Slot, tick: u16) {
        if slot.tag.tick() != tick {
            self.retag(slot, |tag| {
                tag & !Tag::TICK | u64::from(tick) << Tag::TICK_AT
            });
        }
    }

    #[inline(never)]
    fn retag(&self, slot: &Slot, new: impl Fn(u64) -> u64) {
        let Some(tag) = self.tag(slot.bucket as usize, usize::from(slot.way)) else {
            return;
        };
        let mut seen = slot.tag.0;
        // Another worker may touch the same flow; whoever is last is right enough, unless the flow is gone.
        while let Err(now) = tag.compare_exchange(seen, new(seen), AcqRel, Relaxed) {
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
        tag.compare_exchange(slot.tag.0, Tag::EMPTY, AcqRel, Relaxed)
            .ok()?;
        let hash = rehash(&key);
        if let Some(head) = self.head(slot.bucket as usize) {
            // Whoever wants the slot waits for this.
            head.fetch_and(!(0xff << (8 * slot.way)), AcqRel);
        }
        if slot.tag.in_second()
            && let Some(head) = self.head(self.first(hash))
        {
            head.fetch_sub(ELSEWHERE, AcqRel);
        }
        self.free.put(slot.tag.line());
        Some(key)
    }

    /// Gives the slot of a flow a new start under the same key: false where it has changed hands meanwhile.
    pub fn restart(&self, slot: &Slot, fresh: &Fresh) -> Option<Slot> {
        let tag = self.tag(slot.bucket as usize, usize::from(slot.way))?;
        let mut seen = slot.tag.0;
        let writing = loop {
            let next = (Tag(seen).version() + 1) & VERSION_MASK;
            let same = seen & (Tag::HASH | Tag::LINE | Tag::SECOND);
            let writing = same | next << VERSION_AT | Tag::BEING_WRITTEN;
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
    /// goes first, `None` never. `rehash` is the hash that keys are opened with; `gone` is told the key of whoever was thrown out.
    #[expect(
        clippy::too_many_arguments,
        reason = "four questions that only the caller can answer"
    )]
    pub fn open(
        &self,
        key: &KeyWords,
        hash: u64,
        fresh: &Fresh,
        over: impl Fn(Tag) -> bool,
        rank: impl Fn(Tag) -> Option<u32>,
        rehash: impl Fn(&KeyWords) -> u64,
        mut gone: impl FnMut(&KeyWords),
    ) -> Opened {
        let places = [self.first(hash), self.second(hash)];
        let _lock = Lock::of(self.head(places[0]));
        // Nobody else can open this key now; an entry of it that is being restarted is waited for.
        for bucket in places {
            if let Some(slot) = self.settled(bucket, key, hash) {
                return Opened::Exists(slot);
            }
        }
        for _ in 0..ATTEMPTS {
            // A line, then a slot in the two buckets; whichever is missing has to be had from somebody.
            let line = self.free.take();
            if let Some(line) = line {
                if let Some((bucket, way, writing)) = self.claim(&places, hash, line) {
                    return Opened::New(self.publish(bucket, way, writing, Some(key), fresh));
                }
                self.free.put(line);
            }
            let near = self.lowest(&places, &over, &rank, |_| true);
            let victim = match line {
                Some(_) => near,
                None => near.or_else(|| self.somebody(&over, &rank)),
            };
            let Some(victim) = victim else {
                return Opened::Full;
            };
            if let Some(key) = self.remove(&victim, &rehash) {
                gone(&key);
            }
        }
        Opened::Full
    }

    /// Somebody who may be thrown out, anywhere: the search goes on where the last one ended, and is not long.
    fn somebody(
        &self,
        over: &impl Fn(Tag) -> bool,
        rank: &impl Fn(Tag) -> Option<u32>,
    ) -> Option<Slot> {
        (0..SEARCH).find_map(|_| {
            let at = self.hand.fetch_add(1, Relaxed) % self.buckets.len() as u64;
            self.lowest(&[at as usize], over, rank, |_| true)
        })
    }

    /// As [`Slots::find_in`], while nobody else can open this key: waits for a slot of this hash that is being written, and looks again at one that was
    /// restarted while it was looked at.
    fn settled(&self, bucket: usize, key: &KeyWords, hash: u64) -> Option<Slot> {
        (0..WAYS).find_map(|way| {
            let cell = self.tag(bucket, way)?;
            loop {
                let tag = Tag(cell.load(Acquire));
                let empty = tag.0 & Tag::CLASS == Tag::EMPTY;
                if empty || (tag.0 ^ hash) & Tag::HASH != 0 {
                    return None;
                }
                let slot = Slot {
                    bucket: bucket as u32,
                    way: way as u8,
                    tag,
                };
                if !tag.is_live() {
                    spin_loop();
                } else if self.is_of(&slot, key) {
                    return Some(slot);
                } else {
                    // Whoever has seen a word of the new start sees the tag that was changed before it.
                    fence(Acquire);
                    if tag.same_flow(cell.load(Relaxed)) {
                        return None;
                    }
                }
            }
        })
    }

    /// Takes an empty slot: in the first bucket as long as there are some, else in the emptier one, so that it is rare that both are full.
    fn claim(&self, places: &[usize; 2], hash: u64, line: usize) -> Option<(u32, u8, u64)> {
        // The line is free, so that nobody else writes its version.
        let control = self.lines.get(line)?.0[CONTROL].load(Relaxed);
        let version = ((control >> CONTROL_BITS) + 1) & VERSION_MASK;
        let first = self.head(places[0])?;
        let taken = places.map(|bucket| self.taken(bucket));
        let order = match taken[0] + 1 < WAYS || taken[0] <= taken[1] {
            true => [0, 1],
            false => [1, 0],
        };
        for (at, bucket) in order.into_iter().zip(order.map(|at| places[at])) {
            let second = if at == 1 { Tag::SECOND } else { 0 };
            if at == 1 && first.load(Relaxed) / ELSEWHERE >= MOST_ELSEWHERE {
                continue;
            }
            for way in 0..WAYS {
                let tag = self.tag(bucket, way)?;
                let seen = tag.load(Relaxed);
                if seen & Tag::CLASS != Tag::EMPTY {
                    continue;
                }
                let writing = (hash & Tag::HASH)
                    | (line as u64) << Tag::LINE_AT
                    | second
                    | version << VERSION_AT
                    | Tag::BEING_WRITTEN;
                if tag.compare_exchange(seen, writing, AcqRel, Relaxed).is_ok() {
                    let head = self.head(bucket)?;
                    if head.load(Acquire) >> (8 * way) & 0xff != 0 {
                        // Of whoever has left the slot, and not yet wiped its byte: to wait for it here might be long.
                        tag.store(Tag::EMPTY, Release);
                        continue;
                    }
                    if at == 1 {
                        first.fetch_add(ELSEWHERE, AcqRel);
                    }
                    head.fetch_or(mark(hash) << (8 * way), AcqRel);
                    fence(Release);
                    return Some((bucket as u32, way as u8, writing));
                }
            }
        }
        None
    }

    /// Slots of a bucket that are not empty.
    fn taken(&self, bucket: usize) -> usize {
        let tags = (0..WAYS).filter_map(|way| self.tag(bucket, way));
        tags.filter(|tag| tag.load(Relaxed) & Tag::CLASS != Tag::EMPTY)
            .count()
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

    /// Who goes, of these buckets: one whose time is over, else the one with the lowest rank.
    fn lowest(
        &self,
        buckets: &[usize],
        over: impl Fn(Tag) -> bool,
        rank: impl Fn(Tag) -> Option<u32>,
        own: impl Fn(&Slot) -> bool,
    ) -> Option<Slot> {
        let mut lowest: Option<(u32, Slot)> = None;
        for bucket in buckets {
            for slot in self.live(*bucket) {
                if over(slot.tag) {
                    return Some(slot);
                }
                // The tags say who may go at all; only of those the flow's own line is looked at.
                if let Some(ranked) = rank(slot.tag)
                    && lowest.is_none_or(|(least, _)| ranked < least)
                    && own(&slot)
                {
                    lowest = Some((ranked, slot));
                }
            }
        }
        lowest.map(|(_, slot)| slot)
    }

    /// Removes the flow with the lowest rank in the two buckets of a hash, of those whose key is `own`; its key.
    pub fn make_room(
        &self,
        hash: u64,
        rank: impl Fn(Tag) -> Option<u32>,
        own: impl Fn(&KeyWords) -> bool,
        rehash: impl Fn(&KeyWords) -> u64,
    ) -> Option<KeyWords> {
        let places = [self.first(hash), self.second(hash)];
        let own = |slot: &Slot| self.key(slot).is_some_and(|key| own(&key));
        self.remove(&self.lowest(&places, |_| false, rank, own)?, rehash)
    }

    /// The flows of one bucket, as they are at this moment.
    pub fn live(&self, bucket: usize) -> impl Iterator<Item = Slot> + '_ {
        let tags = self.buckets.get(bucket).map(|bucket| &bucket.0);
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
