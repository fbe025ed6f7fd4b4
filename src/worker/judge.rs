//! From frames to rulings: parse, admit, look the flow up, and ask the rule table about what opens one, the whole burst at once.

use super::court::{
    ALONE, Court, Ruling, adopted, first_of_datagram, found, of_flow, of_frame, of_rules, settled,
    tunnelled, unknown,
};
use super::held::MOST as MOST_HELD;
use super::looks::looked;
use super::own::Own;
use crate::flow::{Control, Express, Found, Kind, Look, Seen, Track, Tracker, Why, key_of};
use crate::frame::{self, Frag, Meta, tunnel};
use crate::policy::admit::{Admit, admit};
use crate::policy::{AppSet, Generation, Key, RuleId, RuleSlot, Side, Verdict};
use crate::port::BURST;
use crate::telemetry::Reason;
use af_xdp::{Frame, Umem};
use std::sync::Arc;

/// What one burst is worked on in. Every vector has its full capacity from the start.
pub(super) struct Burst {
    pub received: Vec<Frame>,
    pub forward: Vec<Frame>,
    pub replies: Vec<Frame>,
    /// The frames, a bit each, that are of open flows and pass: there is nothing to say about them but the rule that lets them through.
    pub passed: u64,
    /// The rule of each of these.
    pub rules: [RuleSlot; BURST],
    /// The headers of each other one, and then what is left of those before.
    pub metas: [Meta; BURST],
    /// What becomes of it.
    pub rulings: [Ruling; BURST],
    /// By which the burst is judged and dealt out. Whoever replaces it keeps it until nobody here holds it, so that no table is freed here.
    pub generation: Arc<Generation>,
    /// It enforces nothing.
    pub shadow: bool,
    /// Those on the shortest way, a bit each; what is not passed in the end has left it.
    quick: u64,
    express: Express,
    tracks: [Track; BURST],
    plans: [Plan; BURST],
    keys: Vec<Key>,
    /// The keys once more, asked about as if they had any application.
    any_keys: Vec<Key>,
    any: [RuleId; BURST],
    first: [RuleId; BURST],
    deciding: [RuleId; BURST],
}

// A burst's frames are bits of one word.
const _: () = assert!(BURST <= 64 && BURST <= Express::MOST);

/// How many frames are read and hashed before the tags of their flows are asked for: while the memory looks for those, the next ones are read.
const GROUP: usize = 16;

/// Of a frame that is still to be judged: one that were somehow left out is not let through.
const UNJUDGED: Verdict = Verdict::Drop(Reason::Default);

/// What is still to be done about a frame.
#[derive(Clone, Copy)]
enum Plan {
    /// Nothing.
    Done,
    /// To look its flow up.
    Seek,
    /// To look at its payload.
    Look(Look),
    /// The rules are asked about the key at this place.
    Ask(u8, Why),
    /// They are asked about a frame that is not IP; what its ruling says is for where none names it.
    AskOr(u8),
    /// They are asked whether one of them forbids this frame of a flow that this rule lets through; whether it goes the way that the flow was opened.
    OfFrame(RuleId, bool, Seen),
    /// To be asked about alone, once the frames before it are settled.
    Again,
    /// A connection that was open before the start, perhaps.
    Adopt,
    /// To get what the first of its datagram got.
    Later,
    /// It is a tunnel: judged by itself, and then by what it carries.
    Tunnel(tunnel::Kind),
}

/// The places of the bits that are set, the lowest first.
pub(super) fn bits(mut set: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = set.trailing_zeros() as usize;
        let found = (set != 0).then_some(at);
        set &= set.wrapping_sub(1);
        found
    })
}

impl Burst {
    pub fn new(generation: Arc<Generation>) -> Burst {
        Burst {
            // These two may change places.
            received: Vec::with_capacity(BURST + MOST_HELD),
            forward: Vec::with_capacity(BURST + MOST_HELD),
            replies: Vec::with_capacity(BURST),
            passed: 0,
            rules: [RuleSlot(u32::MAX); BURST],
            quick: 0,
            express: Express::default(),
            metas: [Meta::NONE; BURST],
            rulings: std::array::from_fn(|_| Ruling::new(UNJUDGED)),
            generation,
            shadow: false,
            tracks: [Track::NONE; BURST],
            plans: [Plan::Done; BURST],
            keys: Vec::with_capacity(BURST),
            any_keys: Vec::with_capacity(BURST),
            any: [RuleId(0); BURST],
            first: [RuleId(0); BURST],
            deciding: [RuleId(0); BURST],
        }
    }

    /// What is received next is judged by this generation.
    #[inline]
    pub fn under(&mut self, generation: &Arc<Generation>) {
        if !Arc::ptr_eq(&self.generation, generation) {
            self.generation = Arc::clone(generation);
        }
    }

    /// Judges what was received on one side by one generation: fills `rulings`.
    pub fn judge(&mut self, mut court: Court<'_>) {
        self.shadow = court.generation.is_shadow();
        self.keys.clear();
        court.tracker.begin();
        court.shown.clear();
        self.parse(&court);
        if let Some(own) = court.own.filter(|own| own.is_at(court.side)) {
            self.keep_own(own, &court);
        }
        let elsewhere = self.seek(court.tracker);
        if elsewhere != 0 {
            self.seek_elsewhere(court.tracker, elsewhere);
        }
        for at in bits(self.quick & self.express.absent()) {
            self.leave(at, &court);
        }
        if self.find(&mut court) {
            self.ask(court.generation);
            let mut waiting = false;
            for at in bits(self.others()) {
                self.finish(at, &mut court);
                waiting |= self.rulings[at].waits;
            }
            if waiting {
                self.finish_waiting(&court);
            }
        }
    }

    /// All received frames, a bit each.
    fn all(&self) -> u64 {
        // None of 64 are left out: a shift by 64 is not one by 0.
        u64::MAX
            .checked_shr((BURST - self.received.len().min(BURST)) as u32)
            .unwrap_or(0)
    }

    /// The frames that have headers and a ruling, a bit each: those that did not simply pass.
    pub fn others(&self) -> u64 {
        self.all() & !self.passed
    }

    /// The headers of any frame.
    pub fn meta(&mut self, at: usize, umem: &Umem) -> &Meta {
        if self.passed >> at & 1 == 1 {
            // It was of this form, or it would not have passed that way.
            frame::parse_ordinary(umem.bytes(&self.received[at]), &mut self.metas[at]);
        }
        &self.metas[at]
    }

    /// What becomes of any frame.
    pub fn verdict(&self, at: usize) -> Verdict {
        match self.passed >> at & 1 {
            1 => Verdict::Forward,
            _ => self.rulings[at].verdict,
        }
    }

    /// Bytes to keys of flows: of most frames the short way, of the others by their headers.
    fn parse(&mut self, court: &Court<'_>) {
        (self.quick, self.passed) = (0, 0);
        // Where rules are about single frames, all of them are asked about each.
        if !court.generation.judges_frames() {
            let tunnels = court.generation.looks_into_any();
            self.quick = match (court.side, tunnels) {
                (Side::Lan, false) => self.read::<true, true>(court),
                (Side::Lan, true) => self.read::<true, false>(court),
                (Side::Uplink, false) => self.read::<false, true>(court),
                (Side::Uplink, true) => self.read::<false, false>(court),
            };
        }
        let others = self.all() & !self.quick;
        for at in bits(others) {
            court.umem.prefetch(&self.received[at]);
        }
        for at in bits(others) {
            self.prepare_one(at, court);
        }
    }

    /// Reads those that may go the shortest way, a bit each, and hashes their keys.
    #[inline(always)]
    fn read<const LAN: bool, const UDP_TOO: bool>(&mut self, court: &Court<'_>) -> u64 {
        for frame in &self.received {
            court.umem.prefetch_head(frame);
        }
        let count = self.received.len().min(BURST);
        let mut quick = 0;
        for start in (0..count).step_by(GROUP) {
            let end = count.min(start + GROUP);
            for at in start..end {
                self.express.put(at, court.umem.bytes(&self.received[at]));
            }
            let these = self.express.read::<LAN, UDP_TOO>(start..end);
            (court.tracker).hash_express(&mut self.express, start..end, these);
            quick |= these;
        }
        quick
    }

    /// One frame's headers, and the key of its flow, hashed.
    fn prepare_one(&mut self, at: usize, court: &Court<'_>) {
        self.parse_one(at, court);
        if let Plan::Seek = self.plans[at] {
            court.tracker.hash_key(&mut self.tracks[at]);
        }
    }

    /// One frame's headers, and the key of its flow.
    fn parse_one(&mut self, at: usize, court: &Court<'_>) {
        let bytes = court.umem.bytes(&self.received[at]);
        let (meta, track) = (&mut self.metas[at], &mut self.tracks[at]);
        let (plan, ruling) = (&mut self.plans[at], &mut self.rulings[at]);
        // The short way: what the branches below would come to, for a frame that none of them is about.
        let ordinary = frame::parse_ordinary(bytes, meta);
        if ordinary
            && court.generation.looks_into(meta).is_none()
            && (court.tracker).prepare_ordinary(meta, bytes, court.side, track)
        {
            ruling.verdict = UNJUDGED;
            *plan = Plan::Seek;
            return;
        }
        let parsed = match ordinary {
            true => Ok(()),
            false => frame::parse_rest(bytes, meta),
        };
        let verdict = match parsed {
            Err(reason) => Verdict::Drop(reason),
            Ok(()) => match admit(meta, court.side) {
                Admit::Pass => Verdict::Forward,
                Admit::Ask => match court.generation.looks_into(meta) {
                    Some(kind) => {
                        *ruling = Ruling::new(UNJUDGED);
                        *plan = Plan::Tunnel(kind);
                        return;
                    }
                    None => match court.tracker.prepare(meta, bytes, court.side, track) {
                        Err(reason) => Verdict::Drop(reason),
                        Ok(()) => {
                            // All of it is written where it is judged, below.
                            ruling.verdict = UNJUDGED;
                            *plan = match track.kind {
                                Kind::Later => Plan::Later,
                                _ => Plan::Seek,
                            };
                            return;
                        }
                    },
                },
                Admit::AskOr(key, verdict) => {
                    *ruling = Ruling::new(verdict);
                    *plan = Plan::Done;
                    if court.generation.names_ethertypes() {
                        *plan = Plan::AskOr(self.keys.len() as u8);
                        self.keys.push(key);
                    }
                    return;
                }
            },
        };
        *ruling = Ruling::new(verdict);
        *plan = Plan::Done;
    }

    /// Looks for each flow by its tag. Says which may stand in their second bucket, a bit each.
    fn seek(&mut self, tracker: &Tracker) -> u64 {
        let (mut elsewhere, all) = (0u64, self.all());
        if self.quick == all {
            for at in 0..self.received.len().min(BURST) {
                elsewhere |= u64::from(tracker.seek_express(&mut self.express, at)) << at;
            }
            return elsewhere;
        }
        for at in bits(all) {
            let is_elsewhere = match (self.quick >> at & 1, self.plans[at]) {
                (1, _) => tracker.seek_express(&mut self.express, at),
                (_, Plan::Seek) => tracker.seek(&mut self.tracks[at]),
                _ => false,
            };
            elsewhere |= u64::from(is_elsewhere) << at;
        }
        elsewhere
    }

    #[inline(never)]
    fn seek_elsewhere(&mut self, tracker: &Tracker, elsewhere: u64) {
        for at in bits(elsewhere) {
            match self.quick >> at & 1 {
                1 => tracker.seek_express_elsewhere(&mut self.express, at),
                _ => tracker.seek_elsewhere(&mut self.tracks[at]),
            }
        }
    }

    /// Takes out what is for the box itself. A frame that is dropped already stays so: what could not be read is not looked at again.
    #[inline(never)]
    fn keep_own(&mut self, own: &Own, court: &Court<'_>) {
        for at in bits(self.quick) {
            if own.may_be_to_us(court.umem.bytes(&self.received[at])) {
                self.quick &= !(1 << at);
                self.prepare_one(at, court);
            }
        }
        for at in bits(self.all() & !self.quick) {
            if own.may_be_for_us(&self.metas[at]) {
                self.keep_own_frame(at, own, court);
            }
        }
    }

    #[cold]
    fn keep_own_frame(&mut self, at: usize, own: &Own, court: &Court<'_>) {
        if let (Plan::Done, Verdict::Drop(_)) = (self.plans[at], self.rulings[at].verdict) {
            return;
        }
        let bytes = court.umem.bytes(&self.received[at]);
        if let Some(verdict) = own.verdict(&self.metas[at], bytes, court.side) {
            (self.rulings[at], self.plans[at]) = (Ruling::new(verdict), Plan::Done);
        }
    }

    /// Takes a frame off the shortest way whose flow was sought there.
    #[inline(never)]
    fn leave(&mut self, at: usize, court: &Court<'_>) {
        self.quick &= !(1 << at);
        self.parse_one(at, court);
        if let Plan::Seek = self.plans[at] {
            // The keys of both ways are the same.
            self.express.leave(at, &mut self.tracks[at]);
        }
    }

    /// Looks the flows up. Says whether anything is left to do.
    fn find(&mut self, court: &mut Court<'_>) -> bool {
        let mut left = !self.keys.is_empty();
        let generation = court.generation;
        let number = generation.number();
        let mut passed = 0u64;
        // In order: what a frame says of its flow is known to the next.
        for at in 0..self.received.len().min(BURST) {
            if self.quick >> at & 1 == 1 {
                let word = (court.tracker).pass_express(&self.express, at, court.side, number);
                let rule = word.and_then(|word| generation.plain(Control::rule_of(word)));
                if let Some(rule) = rule {
                    self.rules[at] = rule;
                    passed |= 1 << at;
                    continue;
                }
                self.leave(at, court);
            }
            left |= self.find_one(at, court);
        }
        self.passed = passed;
        left
    }

    /// The same of one frame by its headers.
    #[inline(never)]
    fn find_one(&mut self, at: usize, court: &mut Court<'_>) -> bool {
        let (meta, track) = (&self.metas[at], &mut self.tracks[at]);
        let (plan, ruling) = (&mut self.plans[at], &mut self.rulings[at]);
        let fragment = meta.frag != Frag::Whole;
        let Plan::Seek = plan else {
            return fragment | !matches!(plan, Plan::Done);
        };
        let number = court.generation.number();
        let judges_frames = court.generation.judges_frames();
        let then = |rule, blocked: bool, forth, seen| match !blocked && judges_frames {
            true => Plan::OfFrame(rule, forth, seen),
            false => Plan::Done,
        };
        if let Some(word) = court.tracker.express(track, court.side, number) {
            let (rule, blocked) = (Control::rule_of(word), Control::is_blocked(word));
            let forth = Control::initiator_of(word) == court.side;
            *ruling = of_flow(court, self.shadow, rule, blocked, forth);
            *plan = then(rule, blocked, forth, Seen::of(word));
            return fragment | judges_frames;
        }
        let bytes = court.umem.bytes(&self.received[at]);
        let found = court
            .tracker
            .find_rest(track, meta, bytes, court.side, number);
        *plan = match found {
            Found::Flow {
                rule,
                blocked,
                forth,
                seen,
            } => {
                *ruling = of_flow(court, self.shadow, rule, blocked, forth);
                then(rule, blocked, forth, seen)
            }
            Found::Look(look) => Plan::Look(look),
            Found::Ask(opened_from, why) => {
                // The usual one by itself, so that it is made where it stays and not moved there.
                match opened_from {
                    None => self.keys.push(Key::new(meta, court.side)),
                    from => (self.keys).push(key_of(meta, court.side, from, track.kind)),
                }
                Plan::Ask(self.keys.len() as u8 - 1, why)
            }
            Found::Adopt => Plan::Adopt,
            Found::Again => Plan::Again,
            Found::Drop(reason) => {
                *ruling = unknown(court, self.shadow, meta, reason);
                Plan::Done
            }
        };
        fragment | !matches!(plan, Plan::Done)
    }

    /// Asks the rule table about all keys at once.
    fn ask(&mut self, generation: &Generation) {
        let keys = &self.keys;
        if keys.is_empty() {
            return;
        }
        generation.classify(keys, &mut self.first[..keys.len()]);
        let deciding = &mut self.deciding[..keys.len()];
        if generation.has_shadow_rules() {
            generation.classify_enforced(keys, deciding);
        } else {
            deciding.copy_from_slice(&self.first[..keys.len()]);
        }
        self.any_keys.clear();
        let permits = |rule: &RuleId| generation.permits(*rule);
        // What nothing lets through is not looked at.
        if generation.names_apps() && (generation.permits_apps() || deciding.iter().any(permits)) {
            let any = keys.iter().map(|key| Key {
                app: AppSet::ANY,
                ..*key
            });
            self.any_keys.extend(any);
            generation.classify_any(&self.any_keys, &mut self.any[..keys.len()]);
        }
    }

    /// Asks again for fragments whose first came after them in the same burst: a sender may well send the last one first.
    fn finish_waiting(&mut self, court: &Court<'_>) {
        for at in bits(self.others()) {
            let (meta, ruling) = (&self.metas[at], &mut self.rulings[at]);
            if ruling.waits {
                let datagrams = court.tracker.datagrams();
                *ruling = Ruling::of_piece(datagrams.later(meta, court.side, court.now.steady));
            }
        }
    }

    /// What is left to do about one frame, those before it being done with.
    fn finish(&mut self, at: usize, court: &mut Court<'_>) {
        let (meta, track) = (&self.metas[at], &mut self.tracks[at]);
        let answer = |key: u8| {
            let key = usize::from(key);
            (self.first[key], self.deciding[key])
        };
        let ruling = &mut self.rulings[at];
        let shadow = self.shadow;
        match self.plans[at] {
            Plan::Done | Plan::Seek => {}
            Plan::AskOr(key) => {
                let answer = answer(key);
                // Where no rule names it, it stays with what is done with such frames.
                if !court.generation.is_default(answer.1) {
                    *ruling = of_rules(court, shadow, answer);
                } else if answer.0 != answer.1 {
                    let verdict = court.generation.verdict(answer.0, court.now.steady);
                    ruling.shadowed = Some((court.generation.slot(answer.0), verdict));
                }
            }
            Plan::OfFrame(rule, forth, seen) => {
                of_frame(
                    court,
                    shadow,
                    track,
                    meta,
                    (rule, forth, seen),
                    ruling,
                    &ALONE,
                );
            }
            Plan::Ask(key, why) => {
                let forth = self.keys[usize::from(key)].side == court.side;
                let bytes = court.umem.bytes(&self.received[at]);
                let any = self.any_keys.get(usize::from(key));
                let any = any.map(|_| self.any[usize::from(key)]);
                let (answer, why) = ((answer(key), any), (why, forth));
                let of = (track, &mut *ruling);
                settled(court, shadow, of, (meta, bytes), answer, why, &ALONE);
            }
            Plan::Look(look) => {
                let bytes = court.umem.bytes(&self.received[at]);
                *ruling = looked(court, shadow, track, meta, bytes, look, &ALONE);
            }
            Plan::Again => {
                if court.tracker.seek(track) {
                    court.tracker.seek_elsewhere(track);
                }
                let bytes = court.umem.bytes(&self.received[at]);
                *ruling = found(court, shadow, track, meta, bytes, &ALONE);
            }
            Plan::Tunnel(kind) => {
                let bytes = court.umem.bytes(&self.received[at]);
                *ruling = tunnelled(court, shadow, track, meta, bytes, kind);
                if meta.frag == Frag::Later {
                    return;
                }
            }
            Plan::Adopt => *ruling = adopted(court, shadow, track, meta, &ALONE),
            Plan::Later => {
                let datagrams = court.tracker.datagrams();
                *ruling = Ruling::of_piece(datagrams.later(meta, court.side, court.now.steady));
            }
        }
        first_of_datagram(court, meta, ruling);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Bench, tcp, udp};
    use crate::policy::{Action, Generation, Limit, Policy, Severity, Side, Verdict};
    use crate::telemetry::{Cause, Event, Reason};
    use std::sync::Arc;
    use std::time::Duration;

    const SECOND: u64 = 1_000_000_000;

    /// `watch` comes first and drops UDP 53; `after` allows or drops it; `telnet` rejects.
    fn policy() -> Policy {
        let text = "[policy]\nprofile = \"none\"\n\
            [[rule]]\nname = \"watch\"\nproto = \"udp\"\ndport = [53]\naction = \"drop\"\n\
            [[rule]]\nname = \"after\"\nproto = \"udp\"\ndport = [53, 54]\naction = \"allow\"\n\
            [[rule]]\nname = \"telnet\"\nproto = \"tcp\"\ndport = [23]\naction = \"reject\"\n";
        let config = crate::config::parse(text, "test", std::path::Path::new("."));
        config.unwrap().policy
    }

    fn with(change: impl FnOnce(&mut Policy)) -> Bench {
        let mut policy = policy();
        change(&mut policy);
        Bench::with(&policy, 64)
    }

    fn limit(frames: u32, burst: u32) -> Option<Limit> {
        let per = Duration::from_secs(1);
        Some(Limit { frames, per, burst })
    }

    fn events(bench: &Bench) -> Vec<Event> {
        std::iter::from_fn(|| bench.ring.pop()).collect()
    }

    #[test]
    fn a_rule_in_shadow_is_counted_and_alerts_and_the_frame_goes_where_the_others_send_it() {
        let mut bench = with(|policy| policy.rules[0].shadow = true);
        bench.arrive(Side::Lan, &udp(53));
        bench.arrive(Side::Lan, &udp(54));
        bench.worker.turn(7);
        assert_eq!(bench.sent(Side::Uplink), [udp(53), udp(54)]);
        let events = events(&bench);
        assert_eq!(events.len(), 1, "{events:?}");
        let would = Verdict::Drop(Reason::Rule);
        assert_eq!((events[0].shadow, events[0].verdict), (true, would));
        assert!(matches!(events[0].cause, Cause::Rule(rule) if rule.0 == 0));
        let snapshot = bench.settle();
        assert!(snapshot.balanced());
        let packets = |name| snapshot.rules.get(name).unwrap().packets;
        assert_eq!((packets("watch"), packets("after")), (1, 2));
        assert!(snapshot.rules.get("watch").unwrap().shadow);
        assert!(
            snapshot.sides[0].shadow.0.is_empty(),
            "that is for the box as a whole"
        );
    }

    #[test]
    fn what_a_rule_in_shadow_would_allow_is_still_dropped_by_the_rule_after_it() {
        let mut bench = with(|policy| {
            policy.rules[0].shadow = true;
            policy.rules[0].action = Action::Allow;
            policy.rules[1].action = Action::Drop;
            policy.rules[1].alert = Some(Severity::High);
        });
        bench.arrive(Side::Lan, &udp(53));
        bench.worker.turn(7);
        assert!(bench.sent(Side::Uplink).is_empty());
        let told: Vec<_> = events(&bench)
            .iter()
            .map(|event| (event.shadow, event.verdict))
            .collect();
        let drop = Verdict::Drop(Reason::Rule);
        assert_eq!(told, [(true, Verdict::Forward), (false, drop)]);
        assert_eq!(bench.settle().sides[0].dropped.get("rule"), Some(&1));
    }

    #[test]
    fn a_box_in_shadow_forwards_everything_and_counts_what_it_would_have_done() {
        let mut bench = with(|policy| policy.shadow = true);
        let short = udp(54)[..20].to_vec();
        let ethertype = [[2; 12].as_slice(), &[0x88, 0x47], &[0; 46]].concat();
        let frames = [udp(53), tcp(23), udp(54), short, ethertype];
        for frame in &frames {
            bench.arrive(Side::Lan, frame);
        }
        bench.worker.turn(7);
        assert_eq!(bench.sent(Side::Uplink), frames);
        assert!(bench.sent(Side::Lan).is_empty(), "nothing is answered");
        let told: Vec<_> = events(&bench)
            .iter()
            .map(|event| (event.shadow, event.verdict))
            .collect();
        let rule = Reason::Rule;
        let expected = [Verdict::Drop(rule), Verdict::Reject(rule)];
        assert_eq!(told, expected.map(|verdict| (true, verdict)));
        let snapshot = bench.settle();
        assert!(snapshot.balanced(), "{snapshot:?}");
        let lan = &snapshot.sides[0];
        assert_eq!(
            (lan.forwarded, lan.dropped_total(), lan.rejected),
            (5, 0, 0)
        );
        let would = |reason| lan.shadow.get(reason).copied();
        assert_eq!(would("rule"), Some(2));
        assert_eq!(would("malformed"), Some(1));
        assert_eq!(would("ethertype"), Some(1));
        assert_eq!(snapshot.rules.get("watch").unwrap().packets, 1);
    }

    #[test]
    fn a_rule_that_names_an_ethertype_decides_over_such_frames_and_the_others_go_as_without_it() {
        let text = "[[rule]]\nname = \"no-arp\"\nethertype = [0x0806]\naction = \"drop\"\n\
            [[rule]]\nname = \"mpls\"\nethertype = [0x8847]\naction = \"allow\"\n";
        let config = crate::config::parse(text, "test", std::path::Path::new("."));
        let mut bench = Bench::with(&config.unwrap().policy, 8);
        let frame = |ethertype: u16| {
            let body = [0, 1, 8, 0, 6, 4, 0, 1];
            let link = [[2u8; 12].as_slice(), &ethertype.to_be_bytes()].concat();
            [link.as_slice(), &body, &[0; 38]].concat()
        };
        let (arp, mpls, lldp, ipx) = (frame(0x0806), frame(0x8847), frame(0x88cc), frame(0x8137));
        for frame in [&arp, &mpls, &lldp, &ipx] {
            bench.arrive(Side::Lan, frame);
        }
        bench.arrive(Side::Uplink, &arp);
        bench.worker.turn(1);
        assert_eq!(bench.sent(Side::Uplink), [mpls, lldp]);
        assert_eq!(bench.sent(Side::Lan), [arp], "the rule is for what leaves");
        let snapshot = bench.settle();
        let lan = &snapshot.sides[0];
        let of = |reason| lan.dropped.get(reason).copied();
        assert_eq!((of("rule"), of("ethertype")), (Some(1), Some(1)));
        let packets = |name| snapshot.rules.get(name).unwrap().packets;
        assert_eq!(
            (packets("no-arp"), packets("mpls"), packets("default")),
            (1, 1, 0)
        );
        assert!(snapshot.balanced());
    }

    #[test]
    fn an_allow_beyond_its_limit_is_dropped_for_that_reason_and_comes_back_with_time() {
        let mut bench = with(|policy| {
            policy.rules[1].limit = limit(10, 5);
            policy.rules[0].clauses.clear();
        });
        let mut passed = |now| {
            for _ in 0..20 {
                bench.arrive(Side::Lan, &udp(53));
                bench.arrive(Side::Lan, &tcp(443));
            }
            let before = bench.sent(Side::Uplink).len();
            while bench.worker.turn(now) > 0 {}
            bench.sent(Side::Uplink).len() - before - 20
        };
        let start = 1_795_000_000 * SECOND;
        assert_eq!(passed(start), 5);
        assert_eq!(passed(start + SECOND / 10), 1);
        let snapshot = bench.settle();
        assert_eq!(snapshot.sides[0].dropped.get("rate-limit"), Some(&34));
        assert_eq!(snapshot.rules.get("after").unwrap().packets, 40);
        assert!(snapshot.balanced());
    }

    #[test]
    fn a_reject_beyond_its_limit_is_dropped_without_an_answer() {
        let mut bench = with(|policy| policy.rules[2].limit = limit(1, 2));
        for _ in 0..10 {
            bench.arrive(Side::Lan, &tcp(23));
        }
        bench.worker.turn(SECOND);
        assert_eq!(bench.sent(Side::Lan).len(), 2);
        let lan = &bench.settle().sides[0];
        assert_eq!((lan.rejected, lan.dropped.get("rule")), (2, Some(&8)));
    }

    #[test]
    fn two_workers_share_one_bucket() {
        let mut policy = policy();
        policy.rules[1].limit = limit(10, 8);
        let first = Bench::with(&policy, 8);
        let second = Bench::over(Arc::clone(&first.in_force), 8);
        let mut sent = 0;
        for mut bench in [first, second] {
            for _ in 0..6 {
                bench.arrive(Side::Lan, &udp(54));
            }
            bench.worker.turn(SECOND);
            sent += bench.sent(Side::Uplink).len();
        }
        assert_eq!(sent, 8);
    }

    #[test]
    fn a_generation_that_is_swapped_in_judges_from_the_next_turn_on_and_counters_go_on() {
        let policy = policy();
        let mut bench = Bench::with(&policy, 64);
        bench.arrive(Side::Lan, &udp(53));
        bench.worker.turn(1);
        assert!(bench.sent(Side::Uplink).is_empty());
        let next = bench
            .in_force
            .load()
            .next(&policy, &[true, false, false, false]);
        bench.in_force.store(Arc::new(next.unwrap()));
        bench.arrive(Side::Lan, &udp(53));
        bench.worker.turn(2);
        assert_eq!(bench.sent(Side::Uplink), [udp(53)]);
        let snapshot = bench.settle();
        let watch = snapshot.rules.get("watch").unwrap();
        assert_eq!((watch.packets, watch.expired), (1, true));
        assert_eq!(snapshot.rules.get("after").unwrap().packets, 1);
        assert!(snapshot.balanced());
    }

    #[test]
    fn a_worker_that_receives_nothing_lets_go_of_a_generation_that_was_replaced() {
        let policy = policy();
        let mut bench = Bench::with(&policy, 8);
        let next = bench.in_force.load().next(&policy, &[false; 4]).unwrap();
        let old = bench.in_force.swap(Arc::new(next));
        assert!(Arc::strong_count(&old) > 1);
        bench.worker.turn(1);
        assert_eq!(Arc::strong_count(&old), 1);
    }

    #[test]
    fn every_burst_is_judged_by_one_generation_however_often_they_are_swapped() {
        let policy = policy();
        let mut bench = Bench::with(&policy, 64);
        let generations = [
            Generation::first(&policy).unwrap(),
            bench
                .in_force
                .load()
                .next(&policy, &[true, false, false, false])
                .unwrap(),
        ]
        .map(Arc::new);
        let in_force = Arc::clone(&bench.in_force);
        let stop = std::sync::atomic::AtomicBool::new(false);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for at in (0..2).cycle() {
                    if stop.load(relaxed) {
                        break;
                    }
                    in_force.store(Arc::clone(&generations[at]));
                    std::thread::yield_now();
                }
            });
            let mut outcomes = [0; 2];
            let start = std::time::Instant::now();
            // Until each has judged many bursts, however the threads are scheduled.
            while outcomes.iter().any(|n| *n < 500) && start.elapsed().as_secs() < 20 {
                for _ in 0..32 {
                    bench.arrive(Side::Lan, &udp(53));
                }
                bench.worker.turn(1);
                let port = &mut bench.worker.ports(Side::Uplink)[0];
                let sent = port.sent.len();
                assert!(sent == 0 || sent == 32, "a mix: {sent} of 32");
                outcomes[usize::from(sent > 0)] += 1;
                port.finish();
                bench.worker.turn(1);
            }
            stop.store(true, relaxed);
            assert!(outcomes.iter().all(|n| *n > 0), "{outcomes:?}");
        });
        assert!(bench.settle().balanced());
    }
}
