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

    /// Reads a frame off its bytes, of the LAN or of the uplink; false where it is not surely nothing but data between two hosts. Not of `UDP_TOO`: no datagram of UDP is, since it may carry
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
