//! The shortest way through the table, which most frames go: data of TCP or UDP over IPv4 between two hosts, in a flow that this generation of the policy has judged and whose
//! payload is of no interest.
//!
//! What such a frame is known by are six numbers, read off its bytes at once: no record of its headers is made. Each step says only "yes, and this is what the long way would
//! say" or "ask the long way" ([`Tracker::prepare`] and what follows there).

use super::slots::{Likely, Slot, Tag};
use super::state::{Control, Phase};
use super::{Track, Tracker, tcp};
use crate::frame::{Glance, Words, all_bits};
use crate::policy::Side;
use crate::policy::table::{Lanes, Registers};
use std::ops::Range;

/// See [`Express::MOST`].
const MOST: usize = 64;

/// The frames of a burst that are on the shortest way. Each number stands beside those of the other frames, so that wide registers read several at once.
#[derive(Clone, Debug)]
pub struct Express {
    registers: Registers,
    words: Column,
    /// Bits that stand against it: 0 of a frame on this way.
    amiss: [u64; MOST],
    /// The inside's address above, the outside's below.
    ends: [u64; MOST],
    /// The last word of the flow's key.
    rest: [u64; MOST],
    /// As in [`Glance::acknowledges`].
    acknowledges: [u64; MOST],
    /// All bits where it is TCP, else none.
    tcp: [u64; MOST],
    hash: [u64; MOST],
    /// The first bucket that the hash names.
    bucket: [u32; MOST],
    /// Where the flow most likely is; without a tag nowhere that is known.
    slot: [Slot; MOST],
    /// Of which there was no such flow when its tags were looked at, a bit each.
    absent: u64,
}

/// The words of the frames of a burst.
#[derive(Clone, Debug)]
struct Column {
    form: [u64; MOST],
    middle: [u64; MOST],
    ends: [u64; MOST],
    ports: [u64; MOST],
    acknowledges: [u64; MOST],
}

impl Column {
    /// Of no frames.
    const fn new() -> Column {
        Column {
            form: [0; MOST],
            middle: [0; MOST],
            ends: [0; MOST],
            ports: [0; MOST],
            acknowledges: [0; MOST],
        }
    }

    /// Puts them down at this place.
    #[inline(always)]
    fn put(&mut self, at: usize, words: Words) {
        self.form[at] = words.form;
        self.middle[at] = words.middle;
        self.ends[at] = words.ends;
        self.ports[at] = words.ports;
        self.acknowledges[at] = words.acknowledges;
    }

    /// Those at this place.
    #[inline(always)]
    fn at(&self, at: usize) -> Words {
        Words {
            form: self.form[at],
            middle: self.middle[at],
            ends: self.ends[at],
            ports: self.ports[at],
            acknowledges: self.acknowledges[at],
        }
    }
}

/// Ports of UDP whose datagrams are heard, whatever becomes of them: DNS, DHCP over both families.
const HEARD: [u64; 3] = [53, 67, 547];
/// Phases in which the data of TCP passes.
const OPEN: u64 = 1 << Phase::Established as u64
    | 1 << Phase::InitiatorEnded as u64
    | 1 << Phase::ResponderEnded as u64;
/// The same of UDP, of which only the initiator's passes unanswered.
const UNANSWERED: u64 = 1 << Phase::Unanswered as u64;
const SPOKEN: u64 = UNANSWERED | 1 << Phase::Answered as u64;

impl Default for Express {
    fn default() -> Express {
        Express::new(Registers::widest())
    }
}

impl Express {
    /// The frames of a burst, at most: a bit each.
    pub const MOST: usize = MOST;

    /// Of no frames, read by these registers.
    pub const fn new(registers: Registers) -> Express {
        Express {
            registers,
            words: Column::new(),
            amiss: [0; MOST],
            ends: [0; MOST],
            rest: [0; MOST],
            acknowledges: [0; MOST],
            tcp: [0; MOST],
            hash: [0; MOST],
            bucket: [0; MOST],
            slot: [Slot::NONE; MOST],
            absent: 0,
        }
    }

    /// Puts down the bytes that are read of a frame, at this place below [`Express::MOST`].
    #[inline(always)]
    pub fn put(&mut self, at: usize, frame: &[u8]) {
        self.words.put(at, Words::of(frame));
    }

    /// Reads these frames that were put down, of the LAN or of the uplink. A bit for each that is surely nothing but data between two hosts. Without `UDP_TOO` that is no
    /// datagram of UDP, which may carry a tunnel that is looked into.
    #[inline(always)]
    pub fn read<const LAN: bool, const UDP_TOO: bool>(&mut self, these: Range<usize>) -> u64 {
        self.registers.run(Reading::<LAN, UDP_TOO>(self, these))
    }

    /// Those of which there was no such flow when their tags were looked at, a bit each; the others' bits say nothing.
    #[inline]
    pub fn absent(&self) -> u64 {
        self.absent
    }

    /// Goes on as `track`, which was made of the same frame.
    pub fn leave(&self, at: usize, track: &mut Track) {
        let slot = self.slot[at];
        let known = slot.tag != Tag::NONE;
        let absent = self.absent >> at & 1 == 1;
        let slot = known.then_some(slot);
        track.found_before(self.hash[at], self.bucket[at], slot, absent);
    }
}

/// From words to keys.
struct Reading<'a, const LAN: bool, const UDP_TOO: bool>(&'a mut Express, Range<usize>);

impl<const LAN: bool, const UDP_TOO: bool> Lanes for Reading<'_, LAN, UDP_TOO> {
    type Output = u64;

    #[inline(always)]
    fn run(self) -> u64 {
        let Reading(express, these) = self;
        let these = these.start..these.end.min(MOST);
        for at in these.clone() {
            let glance = Glance::of(express.words.at(at));
            let (tcp, port) = (glance.of_tcp(), glance.ports & 0xffff);
            let mut heard = all_bits(!UDP_TOO);
            for one in HEARD {
                heard |= all_bits(one == port);
            }
            let data = (tcp & tcp::are_ordinary(glance.flags())) | (glance.of_udp() & !heard);
            // Above are groups, what is reserved (RFC 1112 section 4) and the broadcast address.
            let (src, dst) = (glance.ends >> 32, glance.ends & 0xffff_ffff);
            let no_host =
                all_bits(src.wrapping_sub(1) >= 0xdfff_ffff) | all_bits(dst >= 0xe000_0000);
            let (ends, ports) = match LAN {
                true => (glance.ends, glance.ports),
                false => (
                    glance.ends.rotate_left(32),
                    glance.ports << 16 & 0xffff_0000 | glance.ports >> 16,
                ),
            };
            express.amiss[at] = glance.amiss | !data | no_host;
            express.ends[at] = ends;
            express.rest[at] = ports << 32 | glance.proto << 24;
            express.acknowledges[at] = glance.acknowledges;
            express.tcp[at] = tcp;
        }
        let mut quick = 0;
        for at in these {
            quick |= u64::from(express.amiss[at] == 0) << at;
        }
        quick
    }
}

impl Tracker {
    /// Hashes the keys of some of these frames that were read, a bit each, and asks for their tags.
    #[inline(always)]
    pub fn hash_express(&self, express: &mut Express, these: Range<usize>, some: u64) {
        for at in these.start..these.end.min(MOST) {
            if some >> at & 1 == 1 {
                let hasher = &self.flows.hasher;
                let hash = hasher.hash_v4(express.ends[at], express.rest[at]);
                express.hash[at] = hash;
                express.bucket[at] = self.flows.slots.prefetch_tags(hash);
            }
        }
        express.absent &= !some;
    }

    /// Looks for the flow by its tag, and asks for its line. True where [`Tracker::seek_express_elsewhere`] has to be asked too.
    #[inline(always)]
    pub fn seek_express(&self, express: &mut Express, at: usize) -> bool {
        let likely = (self.flows.slots).likely(express.hash[at], express.bucket[at]);
        self.stands(express, at, likely)
    }

    /// Looks in the second bucket, once the others of the burst were looked for.
    pub fn seek_express_elsewhere(&self, express: &mut Express, at: usize) {
        let likely = self.flows.slots.likely_elsewhere(express.hash[at]);
        self.stands(express, at, likely);
    }

    #[inline(always)]
    fn stands(&self, express: &mut Express, at: usize, likely: Likely) -> bool {
        express.slot[at] = match likely {
            Likely::Here(slot) => {
                self.flows.slots.prefetch_flow(&slot);
                slot
            }
            _ => Slot::NONE,
        };
        if let Likely::Nowhere = likely {
            express.absent |= 1 << at;
        }
        matches!(likely, Likely::Elsewhere)
    }

    /// The flow's control word, and its state moves on. `None` of any other frame than one of many of a live flow that this generation has judged and lets through.
    #[inline(always)]
    pub fn pass_express(
        &self,
        express: &Express,
        at: usize,
        side: Side,
        generation: u64,
    ) -> Option<u64> {
        let (slots, slot) = (&self.flows.slots, &express.slot[at]);
        // What has no slot has no tag either, which is that of no flow.
        let (mut differ, word, ends) = slots.get_v4(slot, express.ends[at], express.rest[at])?;
        let own = (word >> 40 & 1) ^ side as u64;
        // All that may stand against it in one test: each is rare, and several branches cost more.
        let tcp = express.tcp[at];
        let phases = (OPEN & tcp) | (SPOKEN & !tcp & !(own * UNANSWERED));
        differ |= (phases >> (word >> 36 & 0xf) & 1) ^ 1;
        differ |= Control::stands_against(word, generation);
        if differ != 0 {
            return None;
        }
        let tick = slot.tag.tick();
        if tick != self.tick {
            if self.flows.limits.over(slot.tag, self.tick) {
                return None;
            }
            slots.tick(slot, self.tick);
        }
        let known = if own == 0 { ends[0] } else { ends[1] };
        let scale = word >> (43 + 4 * own) & 0xf;
        let acknowledges = express.acknowledges[at];
        let told = tcp::next_told(acknowledges, scale as u8);
        // Both protocols by the same instructions, as bits: which one comes next nobody can foretell, and conditions become branches.
        let news = (told ^ known) & tcp & all_bits(tcp::moves_on(acknowledges, known));
        if news != 0 {
            slots.set_state(slot, own as usize, told);
        }
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::Fresh;
    use super::super::{Flows, Found, Judged, Kind, Seen, Settings, Why, key_of};
    use super::*;
    use crate::frame::{Meta, parse};
    use crate::policy::RuleId;
    use crate::policy::table::Kernel;
    use crate::telemetry::counters::FlowCounters;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;
    use std::sync::Arc;

    /// A frame: who sends it, to which of a few ports, by which protocol, with which flags and numbers.
    #[derive(Clone, Debug)]
    struct Sent {
        side: Side,
        port: u16,
        tcp: bool,
        flags: u8,
        ack: u32,
        window: u16,
        payload: usize,
        later: u64,
        generation: u64,
    }

    impl Sent {
        fn bytes(&self) -> Vec<u8> {
            let (inside, outside) = ([10, 77, 0, 9], [93, 184, 216, 34]);
            let link = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 9], [2, 0, 0, 0, 0, 1]);
            let (ip, here, there) = match self.side {
                Side::Lan => (link.ipv4(inside, outside, 64), 4000, self.port),
                Side::Uplink => (link.ipv4(outside, inside, 64), self.port, 4000),
            };
            let payload = vec![7; self.payload];
            let mut frame = Vec::new();
            match self.tcp {
                true => ip
                    .tcp(here, there, 100, self.window)
                    .write(&mut frame, &payload),
                false => ip.udp(here, there).write(&mut frame, &payload),
            }
            .unwrap();
            if self.tcp {
                frame[47] = self.flags;
                frame[42..46].copy_from_slice(&self.ack.to_be_bytes());
            }
            frame
        }
    }

    fn sent() -> impl Strategy<Value = Sent> {
        let side = prop_oneof![Just(Side::Lan), Just(Side::Uplink)];
        let port = prop_oneof![Just(53u16), Just(67), Just(443), Just(444), Just(4789)];
        // Data mostly, and what opens and ends.
        let flags = prop_oneof![
            6 => Just(tcp::ACK),
            2 => Just(tcp::ACK | tcp::PSH),
            2 => Just(tcp::SYN),
            2 => Just(tcp::SYN | tcp::ACK),
            1 => Just(tcp::FIN | tcp::ACK),
            1 => any::<u8>(),
        ];
        let ack = prop_oneof![4 => 100..104u32, 1 => any::<u32>()];
        let later = prop_oneof![20 => Just(0), 1 => 1..20_000_000_000u64];
        let generation = prop_oneof![20 => Just(3u64), 1 => Just(4)];
        let rest = (ack, any::<u16>(), 0..20usize, later, generation);
        (side, port, any::<bool>(), flags, rest).prop_map(
            |(side, port, tcp, flags, (ack, window, payload, later, generation))| Sent {
                side,
                port,
                tcp,
                flags,
                ack,
                window,
                payload,
                later,
                generation,
            },
        )
    }

    /// A table, and one worker's hand on it.
    struct Box {
        flows: Arc<Flows>,
        tracker: Tracker,
        counters: FlowCounters,
        /// As in a worker: what one burst has left there, the next one finds.
        express: Express,
    }

    impl Box {
        fn new() -> Box {
            let flows = Flows::new(&Settings::of_size(512));
            let tracker = flows.tracker(0, 1);
            Box {
                flows,
                tracker,
                counters: FlowCounters::default(),
                express: Express::default(),
            }
        }

        /// The long way. What opens is let through; the fourth generation ends what goes to port 444.
        fn long(&mut self, frame: &[u8], meta: &Meta, sent: &Sent) -> String {
            let (side, generation) = (sent.side, sent.generation);
            let mut track = Track::NONE;
            self.tracker.begin();
            if let Err(reason) = self.tracker.prepare(meta, frame, side, &mut track) {
                return format!("{reason:?}");
            }
            self.tracker.hash_key(&mut track);
            if self.tracker.seek(&mut track) {
                self.tracker.seek_elsewhere(&mut track);
            }
            let found = self
                .tracker
                .find_rest(&mut track, meta, frame, side, generation);
            if let Found::Ask(opened_from, why) = found {
                let key = key_of(meta, side, opened_from, track.kind);
                let blocked = generation == 4 && key.dport == 444;
                let judged = Judged {
                    rule: RuleId(key.dport.into()),
                    blocked,
                    generation,
                    seen: Seen::default(),
                };
                if !blocked || !matches!(why, Why::Opens) {
                    let counters = &self.counters;
                    let _ = (self.tracker).settle(&mut track, why, meta, side, judged, counters);
                }
                return format!("asked about {}", key.dport);
            }
            match found {
                Found::Flow { rule, blocked, .. } => format!("{rule:?} {blocked}"),
                Found::Drop(reason) => format!("{reason:?}"),
                other => format!("{other:?}"),
            }
        }

        /// The shortest way, where it knows.
        fn short(&mut self, frame: &[u8], sent: &Sent) -> Option<String> {
            let side = sent.side;
            let express = &mut self.express;
            express.put(0, frame);
            let read = match side {
                Side::Lan => express.read::<true, true>(0..1),
                Side::Uplink => express.read::<false, true>(0..1),
            };
            if read == 0 {
                return None;
            }
            self.tracker.hash_express(express, 0..1, 1);
            if self.tracker.seek_express(express, 0) {
                self.tracker.seek_express_elsewhere(express, 0);
            }
            let word = (self.tracker).pass_express(express, 0, side, sent.generation);
            // What leaves this way says of its flow what was found out here, and not of one before.
            let slot = express.slot[0].tag != Tag::NONE;
            assert!(
                !(slot && express.absent & 1 == 1),
                "a flow that is not there"
            );
            let word = word?;
            let (rule, blocked) = (Control::rule_of(word), Control::is_blocked(word));
            Some(format!("{rule:?} {blocked}"))
        }

        /// All that is kept of every flow whose time is not over: when those are forgotten hangs on where they stand.
        fn kept(&self) -> Vec<String> {
            let mut kept = Vec::new();
            for bucket in 0..self.flows.slots.buckets() {
                for slot in self.flows.slots.live(bucket) {
                    if self.flows.limits.over(slot.tag, self.tracker.tick) {
                        continue;
                    }
                    let (class, tick) = (slot.tag.class(), slot.tag.tick());
                    let (key, read) = (self.flows.slots.key(&slot), self.flows.slots.read(&slot));
                    kept.push(format!("{key:?} {read:?} {class} {tick}"));
                }
            }
            kept.sort();
            kept
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        /// Two tables, one asked the long way alone: the same answers, and the same is kept of every flow.
        #[test]
        fn the_shortest_way_says_and_keeps_what_the_long_one_does(
            frames in proptest::collection::vec(sent(), 1..120),
        ) {
            let (mut one, mut other) = (Box::new(), Box::new());
            let mut now = 1 << 40;
            for sent in frames {
                now += 1000 + sent.later;
                for table in [&mut one, &mut other] {
                    table.tracker.tick(now, &table.counters);
                }
                let frame = sent.bytes();
                let meta = parse(&frame).unwrap();
                let said = one.long(&frame, &meta, &sent);
                let short = other.short(&frame, &sent);
                let also = short.unwrap_or_else(|| other.long(&frame, &meta, &sent));
                prop_assert_eq!(said, also, "{:?}", sent);
                prop_assert_eq!(one.kept(), other.kept(), "{:?}", sent);
            }
        }

        /// The key that is read off a frame is the one that its headers say, and what is read is of the kinds that it may be; whatever registers read it, and beside whichever others.
        #[test]
        fn what_is_read_off_frames_is_what_their_headers_say(
            all in proptest::collection::vec(
                (sent(), proptest::collection::vec((12..54usize, any::<u8>()), 0..3)), 1..=MOST),
            side in prop_oneof![Just(Side::Lan), Just(Side::Uplink)],
            udp in any::<bool>(),
            cut in (0..MOST, 0..54usize),
        ) {
            let mut frames = Vec::new();
            for (sent, changes) in &all {
                let mut frame = Sent { side, ..sent.clone() }.bytes();
                for (at, byte) in changes {
                    if let Some(place) = frame.get_mut(*at) {
                        *place = *byte;
                    }
                }
                frames.push(frame);
            }
            if let Some(frame) = frames.get_mut(cut.0) {
                frame.truncate(cut.1);
            }
            let table = Box::new();
            let mut read_by = Vec::new();
            for kernel in Kernel::available() {
                let mut express = Express::new(Registers::of(kernel).unwrap());
                for (at, frame) in frames.iter().enumerate() {
                    express.put(at, frame);
                }
                let these = 0..frames.len();
                let read = match (side, udp) {
                    (Side::Lan, true) => express.read::<true, true>(these.clone()),
                    (Side::Lan, false) => express.read::<true, false>(these.clone()),
                    (Side::Uplink, true) => express.read::<false, true>(these.clone()),
                    (Side::Uplink, false) => express.read::<false, false>(these.clone()),
                };
                table.tracker.hash_express(&mut express, these, read);
                for (at, frame) in frames.iter().enumerate() {
                    if read >> at & 1 == 1 {
                        says_what_the_headers_say(&table.tracker, &express, at, (frame, side), udp);
                    }
                }
                read_by.push(read);
            }
            prop_assert!(read_by.windows(2).all(|two| two[0] == two[1]), "{:?}", read_by);
        }
    }

    /// What was read at this place, beside what the other way makes of the same frame.
    fn says_what_the_headers_say(
        tracker: &Tracker,
        express: &Express,
        at: usize,
        (frame, side): (&[u8], Side),
        udp: bool,
    ) {
        let meta = parse(frame).unwrap();
        let mut track = Track::NONE;
        assert!(tracker.prepare_ordinary(&meta, frame, side, &mut track));
        tracker.hash_key(&mut track);
        assert_eq!(track.hash, express.hash[at]);
        let bucket = tracker.flows.slots.prefetch_tags(track.hash);
        assert_eq!(bucket, express.bucket[at]);
        let tcp = track.kind == Kind::Tcp;
        assert_eq!(express.tcp[at], all_bits(tcp));
        assert!(udp || tcp);
        assert!(tcp || !HEARD.contains(&meta.dport.into()));
        let told = tcp::acknowledges(frame, 34);
        assert!(!tcp || express.acknowledges[at] == told);
        // The words are the same, or a flow of the one would not be found by the other.
        let words = [track.key[1] << 32 | track.key[3], track.key[4]];
        assert_eq!(words, [express.ends[at], express.rest[at]]);
    }

    #[test]
    fn data_is_read_by_any_registers_at_any_place_and_nothing_else_is() {
        for kernel in Kernel::available() {
            for (side, count) in [Side::Lan, Side::Uplink].into_iter().zip([MOST, 13]) {
                let mut express = Express::new(Registers::of(kernel).unwrap());
                let mut expected = 0;
                for at in 0..count {
                    // Every fifth one opens; every third is of UDP, which goes to a port that is heard now and then.
                    let (tcp, opens) = (at % 3 > 0, at % 5 == 0);
                    let port = if at % 7 == 0 { 53 } else { 444 };
                    let sent = Sent {
                        side,
                        port,
                        tcp,
                        flags: if opens { tcp::SYN } else { tcp::ACK | tcp::PSH },
                        ack: 7,
                        window: 5,
                        payload: 12 + at,
                        later: 0,
                        generation: 0,
                    };
                    express.put(at, &sent.bytes());
                    let heard = port == 53 && side == Side::Lan;
                    let quick = if tcp { !opens } else { !heard };
                    expected |= u64::from(quick) << at;
                }
                let read = match side {
                    Side::Lan => express.read::<true, true>(0..count),
                    Side::Uplink => express.read::<false, true>(0..count),
                };
                assert_eq!(read, expected, "{kernel:?} {side:?}");
            }
        }
    }

    #[test]
    fn what_is_for_a_group_or_from_nobody_or_too_long_is_not_read_by_any_registers() {
        let sent = Sent {
            side: Side::Lan,
            port: 444,
            tcp: true,
            flags: tcp::ACK,
            ack: 7,
            window: 5,
            payload: 20,
            later: 0,
            generation: 0,
        };
        let with = |at: usize, address: [u8; 4]| {
            let mut frame = sent.bytes();
            frame[at..at + 4].copy_from_slice(&address);
            frame
        };
        let long = |len: usize| [sent.bytes(), vec![0; len - sent.bytes().len()]].concat();
        let frames = [
            (true, sent.bytes()),
            (true, with(26, [223, 255, 255, 255])),
            (true, with(30, [223, 255, 255, 255])),
            (true, with(26, [0, 0, 0, 1])),
            (false, with(26, [0; 4])),
            (false, with(26, [224, 0, 0, 0])),
            (false, with(26, [255; 4])),
            (false, with(30, [224, 0, 0, 0])),
            (false, with(30, [239, 1, 2, 3])),
            (false, with(30, [255; 4])),
            (true, long(65_535)),
            (false, long(65_536)),
        ];
        for kernel in Kernel::available() {
            let mut express = Express::new(Registers::of(kernel).unwrap());
            let mut expected = 0;
            for (at, (data, frame)) in frames.iter().enumerate() {
                express.put(at, frame);
                expected |= u64::from(*data) << at;
            }
            // What comes from the uplink is told by the same addresses.
            let read = [
                express.read::<true, true>(0..frames.len()),
                express.read::<false, true>(0..frames.len()),
            ];
            assert_eq!(read, [expected; 2], "{kernel:?}");
        }
    }

    #[test]
    fn a_flow_of_ipv6_or_in_a_tunnel_is_none_of_ipv4_with_the_same_low_words() {
        let table = Box::new();
        let slots = &table.flows.slots;
        let fresh = Fresh {
            class: 3,
            tick: 0,
            control: 1,
            state: [0; 2],
        };
        for key in [
            [1, 2, 0, 3, 4],
            [0xff << 56, 2, 0xff << 56, 3, 4],
            [0xff << 56, 2, 0, 3, 4],
        ] {
            let (over, rank) = (|_: Tag| false, |_: Tag| None);
            let hash = |_: &_| 7;
            let opened = slots.open(&key, 7, &fresh, over, rank, hash, |_| ());
            let super::super::slots::Opened::New(slot) = opened else {
                panic!("there is room")
            };
            let (differ, ..) = slots.get_v4(&slot, 2 << 32 | 3, 4).unwrap();
            assert_eq!(differ == 0, key[0] == 0xff << 56 && key[2] == 0, "{key:?}");
        }
    }
}
