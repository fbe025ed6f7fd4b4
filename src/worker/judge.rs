//! From frames to rulings: parse, admit, ask the rule table for the whole burst at once.

use super::reason_alert;
use crate::frame::{self, Meta};
use crate::policy::admit::{Admit, admit};
use crate::policy::{Generation, Key, RuleId, Side, Verdict};
use crate::port::BURST;
use crate::telemetry::{Cause, Reason};
use af_xdp::{Frame, Umem};

/// What one burst is worked on in. Every vector has its full capacity from the start.
pub(super) struct Burst {
    pub received: Vec<Frame>,
    pub forward: Vec<Frame>,
    pub replies: Vec<Frame>,
    pub metas: [Meta; BURST],
    /// One for each received frame.
    pub rulings: Vec<Ruling>,
    /// The generation that judged the burst enforces nothing.
    pub shadow: bool,
    keys: Vec<Key>,
    asked: Vec<u8>,
    first: [RuleId; BURST],
    deciding: [RuleId; BURST],
}

/// What was found of one frame.
pub(super) struct Ruling {
    /// What becomes of it, or would if the policy were enforced.
    pub verdict: Verdict,
    /// The rule that decides.
    pub rule: Option<RuleId>,
    /// What alerts, if anything does.
    pub cause: Option<Cause>,
    /// A rule in shadow that matched before the one that decides, and the verdict it would have had.
    pub shadowed: Option<(RuleId, Verdict)>,
}

impl Burst {
    pub fn new() -> Burst {
        Burst {
            received: Vec::with_capacity(BURST),
            forward: Vec::with_capacity(BURST),
            replies: Vec::with_capacity(BURST),
            metas: [Meta::NONE; BURST],
            rulings: Vec::with_capacity(BURST),
            shadow: false,
            keys: Vec::with_capacity(BURST),
            asked: Vec::with_capacity(BURST),
            first: [RuleId(0); BURST],
            deciding: [RuleId(0); BURST],
        }
    }

    /// Judges what was received on `side` by one generation: fills `rulings`.
    pub fn judge(&mut self, umem: &Umem, generation: &Generation, side: Side, now: u64) {
        let Burst {
            received,
            metas,
            rulings,
            keys,
            asked,
            ..
        } = self;
        for frame in received.iter() {
            umem.prefetch(frame);
        }
        for (at, (frame, meta)) in received.iter().zip(metas.iter_mut()).enumerate() {
            let verdict = match frame::parse_into(umem.bytes(frame), meta) {
                Err(reason) => Verdict::Drop(reason),
                Ok(()) => match admit(meta, side) {
                    Admit::Pass => Verdict::Forward,
                    Admit::Drop(reason) => Verdict::Drop(reason),
                    Admit::Ask(key) => {
                        keys.push(key);
                        asked.push(at as u8);
                        // Overwritten below; a frame that the table somehow left out is not let through.
                        Verdict::Drop(Reason::Default)
                    }
                },
            };
            rulings.push(Ruling {
                verdict,
                rule: None,
                cause: suspicious(verdict),
                shadowed: None,
            });
        }
        self.shadow = generation.is_shadow();
        self.ask(generation, now);
    }

    /// Asks the rule table about the frames that it is for.
    fn ask(&mut self, generation: &Generation, now: u64) {
        let (keys, shadow) = (&self.keys, self.shadow);
        let first = &mut self.first[..keys.len()];
        generation.classify(keys, first);
        let deciding: &[RuleId] = if generation.has_shadow_rules() {
            let deciding = &mut self.deciding[..keys.len()];
            generation.classify_enforced(keys, deciding);
            deciding
        } else {
            first
        };
        for ((at, first), rule) in self.asked.iter().zip(first.iter()).zip(deciding) {
            let verdict = generation.verdict(*rule, now);
            let alerts = generation
                .rules()
                .get(rule.index())
                .is_some_and(|info| info.alert.is_some());
            // In shadow an alert is all that is seen of a rule.
            let alerts = alerts || (shadow && verdict != Verdict::Forward);
            self.rulings[usize::from(*at)] = Ruling {
                verdict,
                rule: Some(*rule),
                cause: suspicious(verdict).or(alerts.then_some(Cause::Rule(*rule))),
                shadowed: (first != rule).then(|| (*first, generation.verdict(*first, now))),
            };
        }
        self.keys.clear();
        self.asked.clear();
    }
}

/// A frame that alerts whatever the rules say.
fn suspicious(verdict: Verdict) -> Option<Cause> {
    match verdict {
        Verdict::Drop(reason) if reason_alert(reason).is_some() => Some(Cause::Reason(reason)),
        _ => None,
    }
}
