//! The shortest way through the table, which most frames go: data of TCP or UDP over IPv4 between two hosts, in a flow that this generation of the policy has judged and whose
//! payload is of no interest.
//!
//! What such a frame is known by are six numbers, read off its bytes at once: no record of its headers is made. Each step says only "yes, and this is what the long way would
//! say" or "ask the long way" ([`Tracker::prepare`] and what follows there).

use super::slots::{Likely, Slot, Tag};
use super::state::{Control, Phase};
use super::{Track, Tracker, tcp};
use crate::frame::Glance;
use crate::policy::Side;

/// A frame on the shortest way.
#[derive(Clone, Copy, Debug)]
pub struct Express {
    /// The inside's address above, the outside's below.
    ends: u64,
    /// The last word of the flow's key.
    rest: u64,
    /// As in [`Glance::acknowledges`].
    acknowledges: u64,
    hash: u64,
    /// Where the flow most likely is; without a tag nowhere that is known.
    slot: Slot,
    /// The first bucket that the hash names.
    bucket: u32,
    /// The phases that its flow may be in, a bit each.
    phases: u16,
    /// There was no such flow when its tags were looked at.
    absent: bool,
}

/// Ports of UDP whose datagrams are heard, whatever becomes of them: DNS, DHCP over both families.
const HEARD: [u16; 3] = [53, 67, 547];
/// Phases in which the data of TCP passes.
const OPEN: u16 = 1 << Phase::Established as u16
    | 1 << Phase::InitiatorEnded as u16
    | 1 << Phase::ResponderEnded as u16;
/// The same of UDP, of which only the initiator's passes unanswered.
const UNANSWERED: u16 = 1 << Phase::Unanswered as u16;
const SPOKEN: u16 = UNANSWERED | 1 << Phase::Answered as u16;

impl Express {
    /// Of a frame that was not looked at.
    pub const NONE: Express = Express {
        ends: 0,
        rest: 0,
        acknowledges: 0,
        hash: 0,
        slot: Slot::NONE,
        bucket: 0,
        phases: 0,
        absent: false,
    };

    /// Reads a frame off its bytes, of the LAN or of the uplink; false where it is not surely nothing but data between two hosts. Without `UDP_TOO` it is false of every datagram of UDP, which may carry
    /// a tunnel that is looked into.
    #[inline(always)]
    pub fn read<const LAN: bool, const UDP_TOO: bool>(&mut self, frame: &[u8]) -> bool {
        let Some(glance) = Glance::of(frame) else {
            return false;
        };
        let (tcp, port) = (glance.is_tcp(), glance.ports as u16);
        let heard = HEARD.iter().fold(!UDP_TOO, |any, one| any | (*one == port));
        // Both protocols by the same instructions, as in the glance.
        let data = (tcp & tcp::is_ordinary(glance.flags())) | !(tcp | heard);
        // Above are groups, what is reserved (RFC 1112 section 4) and the broadcast address.
        let (src, dst) = ((glance.ends >> 32) as u32, glance.ends as u32);
        if !data | (src.wrapping_sub(1) >= 0xdfff_ffff) | (dst >= 0xe000_0000) {
            return false;
        }
        let (ends, ports) = match LAN {
            true => (glance.ends, glance.ports),
            false => (glance.ends.rotate_left(32), glance.ports.rotate_left(16)),
        };
        let of_tcp = u16::from(tcp).wrapping_neg();
        self.ends = ends;
        self.rest = u64::from(ports) << 32 | u64::from(glance.proto) << 24;
        self.acknowledges = glance.acknowledges;
        self.phases = (OPEN & of_tcp) | (SPOKEN & !of_tcp);
        true
    }

    /// Goes on as `track`, which was made of the same frame.
    pub fn leave(&self, track: &mut Track) {
        let known = self.slot.tag != Tag::NONE;
        let slot = known.then_some(self.slot);
        track.found_before(self.hash, self.bucket, slot, self.absent);
    }
}

impl Tracker {
    /// Hashes the key of a frame that was read, and asks for the tags.
    #[inline(always)]
    pub fn hash_express(&self, express: &mut Express) {
        express.hash = self.flows.hasher.hash_v4(express.ends, express.rest);
        express.bucket = self.flows.slots.prefetch_tags(express.hash);
    }

    /// Looks for the flow by its tag, and asks for its line. True where [`Tracker::seek_express_elsewhere`] has to be asked too.
    #[inline(always)]
    pub fn seek_express(&self, express: &mut Express) -> bool {
        let likely = self.flows.slots.likely(express.hash, express.bucket);
        self.stands(express, likely)
    }

    /// Looks in the second bucket, once the others of the burst were looked for.
    pub fn seek_express_elsewhere(&self, express: &mut Express) {
        let likely = self.flows.slots.likely_elsewhere(express.hash);
        self.stands(express, likely);
    }

    #[inline(always)]
    fn stands(&self, express: &mut Express, likely: Likely) -> bool {
        let slot = match likely {
            Likely::Here(slot) => {
                self.flows.slots.prefetch_flow(&slot);
                slot
            }
            _ => Slot::NONE,
        };
        express.slot = slot;
        express.absent = matches!(likely, Likely::Nowhere);
        matches!(likely, Likely::Elsewhere)
    }

    /// The flow's control word, and its state moves on. `None` of any other frame than one of many of a live flow that this generation has judged and lets through.
    #[inline(always)]
    pub fn pass_express(&self, express: &Express, side: Side, generation: u64) -> Option<u64> {
        let (slots, slot) = (&self.flows.slots, &express.slot);
        // What has no slot has no tag either, which is that of no flow.
        let (mut differ, word, ends) = slots.get_v4(slot, express.ends, express.rest)?;
        let own = (word >> 40 & 1) ^ side as u64;
        // All that may stand against it in one test: each is rare, and several branches cost more.
        let phases = u64::from(express.phases) & !(own * u64::from(UNANSWERED));
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
        let told = tcp::next_told(express.acknowledges, scale as u8);
        let moves = tcp::moves_on(express.acknowledges, known) & (told != known);
        // Both protocols by the same instructions: which one comes next nobody can foretell.
        if moves & (express.phases == OPEN) {
            slots.set_state(slot, own as usize, told);
        }
        Some(word)
    }
}

#[cfg(test)]
mod tests {
    use super::super::slots::Fresh;
    use super::super::{Flows, Found, Judged, Kind, Seen, Settings, Why};
    use super::*;
    use crate::frame::{Meta, parse};
    use crate::policy::RuleId;
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
    }

    impl Box {
        fn new() -> Box {
            let flows = Flows::new(&Settings::of_size(512));
            let tracker = flows.tracker(0, 1);
            Box {
                flows,
                tracker,
                counters: FlowCounters::default(),
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
            if let Found::Ask(key, why) = found {
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
            let mut express = Express::NONE;
            let read = match side {
                Side::Lan => express.read::<true, true>(frame),
                Side::Uplink => express.read::<false, true>(frame),
            };
            if !read {
                return None;
            }
            self.tracker.hash_express(&mut express);
            if self.tracker.seek_express(&mut express) {
                self.tracker.seek_express_elsewhere(&mut express);
            }
            let word = self.tracker.pass_express(&express, side, sent.generation)?;
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

        /// The key that is read off a frame is the one that its headers say, and what is read is of the kinds that it may be.
        #[test]
        fn what_is_read_off_a_frame_is_what_its_headers_say(
            sent in sent(),
            changes in proptest::collection::vec((12..54usize, any::<u8>()), 0..3),
            udp in any::<bool>(),
        ) {
            let mut frame = sent.bytes();
            for (at, byte) in changes {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            let (mut express, mut track) = (Express::NONE, Track::NONE);
            let read = match (sent.side, udp) {
                (Side::Lan, true) => express.read::<true, true>(&frame),
                (Side::Lan, false) => express.read::<true, false>(&frame),
                (Side::Uplink, true) => express.read::<false, true>(&frame),
                (Side::Uplink, false) => express.read::<false, false>(&frame),
            };
            if read {
                let meta = parse(&frame).unwrap();
                let table = Box::new();
                prop_assert!(table.tracker.prepare_ordinary(&meta, &frame, sent.side, &mut track));
                table.tracker.hash_key(&mut track);
                table.tracker.hash_express(&mut express);
                prop_assert_eq!(track.hash, express.hash);
                let kind = if track.kind == Kind::Tcp { OPEN } else { SPOKEN };
                prop_assert_eq!(express.phases, kind);
                prop_assert!(udp || kind == OPEN);
                prop_assert!(kind == OPEN || !HEARD.contains(&meta.dport));
                // The words are the same, or a flow of the one would not be found by the other.
                let words = [
                    track.key[1] << 32 | track.key[3],
                    track.key[4],
                ];
                prop_assert_eq!(words, [express.ends, express.rest]);
            }
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
