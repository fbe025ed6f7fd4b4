//! One generation of the policy: what the workers judge by, compiled and immutable, and how it takes the place of the one before.

use super::limit::Limits;
use super::rule::{Clause, Policy, Tunnels};
use super::table::{CompileError, RuleInfo, Table};
use super::{Key, Roster, RuleId, RuleSlot, Verdict};
use crate::frame::{Meta, tunnel};
use arc_swap::ArcSwap;
use ipnet::IpNet;
use std::sync::Arc;

/// Where the workers find the generation in force. They look once a turn; a store is seen by the next turn of each.
pub type InForce = Arc<ArcSwap<Generation>>;

/// What the frames of one burst are judged by.
///
/// Two generations of one policy have the same rules under the same ids: a rule that is over or in shadow keeps its place and
/// has no clauses in the table that it may not decide in. A policy that takes the place of another may have any rules; what is counted by rule goes by
/// [`RuleSlot`], which stays from one to the next.
#[derive(Debug)]
pub struct Generation {
    /// Counted from 1.
    number: u64,
    /// All rules, those in shadow too: who would decide.
    all: Table,
    /// Who decides. `None` where no rule is in shadow: then [`Generation::all`] does.
    enforced: Option<Table>,
    /// Who decides over what a tunnel carries; `None` where none is looked into.
    inside: Option<Table>,
    look_into: Tunnels,
    /// The whole policy is judged, counted and alerted on, and every frame is forwarded.
    shadow: bool,
    /// Some rule names ethertypes: only then frames that are not IP are the rules' business.
    names_ethertypes: bool,
    /// Some rule on an application lets through.
    permits_apps: bool,
    /// Some rule answers in the destination's place.
    has_decoys: bool,
    /// By rule; empty where none is about frames or machines.
    frames: Box<[OfFrames]>,
    /// By rule; empty where none is in shadow.
    shadowed: Box<[bool]>,
    /// By rule.
    over: Box<[bool]>,
    /// Shared by the generations of a policy: a new one is no new burst.
    limits: Option<Arc<Limits>>,
    roster: Arc<Roster>,
    /// By rule.
    slots: Box<[RuleSlot]>,
    /// By rule: the same of one that lets every frame through that it decides, without a limit; else [`NOT_PLAIN`].
    plain: Box<[RuleSlot]>,
    /// The prefixes of the inside.
    prefixes: Box<[IpNet]>,
}

/// What of a rule is about single frames. Nothing of one in shadow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct OfFrames {
    /// It forbids, and asks for what is not the same for every frame of a flow: TCP flags, a fragment, a MAC address.
    forbids: bool,
    /// It forbids, and is about the machine alone.
    forbids_machine: bool,
    /// It asks for a MAC address.
    names_machine: bool,
}

/// No rule's.
const NOT_PLAIN: RuleSlot = RuleSlot(u32::MAX);

impl OfFrames {
    fn new(rule: &super::Rule) -> OfFrames {
        if rule.shadow {
            return OfFrames::default();
        }
        let forbids = rule.action != super::Action::Allow;
        let any = |asks: fn(&Clause) -> bool| rule.clauses.iter().any(asks);
        OfFrames {
            forbids: forbids && any(Clause::is_of_a_frame),
            forbids_machine: forbids && any(Clause::is_of_a_machine),
            names_machine: any(|clause| clause.src_mac != super::MacMatch::default()),
        }
    }
}

impl Generation {
    /// The first generation of a policy, its buckets full.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn first(policy: &Policy) -> Result<Generation, CompileError> {
        let roster = Roster::new(policy);
        let limits = Limits::new(policy, &roster.slots(policy), None).map(Arc::new);
        let over = vec![false; policy.rules.len()];
        Generation::compile(policy.clone(), over.into(), 1, limits, Arc::new(roster))
    }

    /// The next one: the same rules, of which those marked in `over` (by rule) match nothing any more. What the limits have admitted
    /// stays counted.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn next(&self, policy: &Policy, over: &[bool]) -> Result<Generation, CompileError> {
        let (limits, roster) = (self.limits.clone(), Arc::clone(&self.roster));
        let number = self.number + 1;
        Generation::compile(policy.clone(), over.into(), number, limits, roster)
    }

    /// Another policy in its place, of which the rules marked in `over` match nothing. What the limit of a rule has admitted stays counted where the rule has its name and
    /// the limit from before.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn replaced(&self, policy: &Policy, over: &[bool]) -> Result<Generation, CompileError> {
        let roster = self.roster.with(policy)?;
        let before = self.limits.as_deref();
        let limits = Limits::new(policy, &roster.slots(policy), before).map(Arc::new);
        let number = self.number + 1;
        Generation::compile(
            policy.clone(),
            over.into(),
            number,
            limits,
            Arc::new(roster),
        )
    }

    fn compile(
        mut policy: Policy,
        over: Box<[bool]>,
        number: u64,
        limits: Option<Arc<Limits>>,
        roster: Arc<Roster>,
    ) -> Result<Generation, CompileError> {
        let silence = |policy: &mut Policy, silent: &[bool]| {
            for (rule, _) in policy.rules.iter_mut().zip(silent).filter(|(_, s)| **s) {
                rule.clauses = Vec::<Clause>::new();
            }
        };
        let slots = roster.slots(&policy);
        silence(&mut policy, &over);
        let all = Table::compile(&policy)?;
        let mut clauses = policy.rules.iter().flat_map(|rule| &rule.clauses);
        let names_ethertypes = clauses.any(|clause| clause.ethertype.is_some());
        let permits_apps = policy.rules.iter().any(|rule| {
            rule.action == super::Action::Allow
                && rule.clauses.iter().any(|clause| clause.app.is_some())
        });
        let decoys = |rule: &super::Rule| matches!(rule.action, super::Action::Decoy(_));
        let has_decoys = policy.rules.iter().any(decoys);
        let in_shadow = |rule: &super::Rule| rule.shadow && !rule.clauses.is_empty();
        let (mut enforced, mut shadowed) = (None, Box::default());
        let of_frames = |rule: &super::Rule| OfFrames::new(rule);
        let frames = match policy
            .rules
            .iter()
            .any(|rule| of_frames(rule) != OfFrames::default())
        {
            true => policy.rules.iter().map(of_frames).collect(),
            false => Box::default(),
        };
        if policy.rules.iter().any(in_shadow) {
            shadowed = policy.rules.iter().map(in_shadow).collect();
            silence(&mut policy, &shadowed);
            enforced = Some(Table::compile(&policy)?);
        }
        let look_into = policy.look_into;
        let mut inside = None;
        if !look_into.is_empty() {
            let wire_only: Vec<bool> = policy.rules.iter().map(|rule| rule.wire_only).collect();
            silence(&mut policy, &wire_only);
            inside = Some(Table::compile(&policy)?);
        }
        let is_plain = |rule: RuleId| {
            let limited = limits.as_ref().is_some_and(|limits| limits.is_on(rule));
            all.verdict(rule) == Verdict::Forward && !limited
        };
        let plain = slots
            .iter()
            .enumerate()
            .map(|(at, slot)| match is_plain(RuleId(at as u32)) {
                true => *slot,
                false => NOT_PLAIN,
            });
        let plain = plain.collect();
        Ok(Generation {
            number,
            all,
            enforced,
            inside,
            look_into,
            shadow: policy.shadow,
            names_ethertypes,
            permits_apps,
            has_decoys,
            frames,
            shadowed,
            over,
            limits,
            roster,
            slots,
            plain,
            prefixes: policy.lan_prefixes.into(),
        })
    }

    /// As the workers find it.
    pub fn in_force(self) -> InForce {
        Arc::new(ArcSwap::from_pointee(self))
    }

    /// Which generation it is, counted from 1 at the start.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The table of all rules, those in shadow too.
    pub fn table(&self) -> &Table {
        &self.all
    }

    /// The table of the rules that decide: those not in shadow.
    pub fn deciding_table(&self) -> &Table {
        self.enforced.as_ref().unwrap_or(&self.all)
    }

    /// What a rule of this generation is counted under.
    #[inline]
    pub fn slot(&self, rule: RuleId) -> RuleSlot {
        // Every rule has one; what were none is counted nowhere.
        let slot = self.slots.get(rule.index()).copied();
        slot.unwrap_or(RuleSlot(u32::MAX))
    }

    /// The same of a rule that lets through whatever it decides; `None` of one that forbids or has a limit.
    #[inline(always)]
    pub fn plain(&self, rule: RuleId) -> Option<RuleSlot> {
        let slot = self.plain.get(rule.index()).copied();
        slot.filter(|slot| *slot != NOT_PLAIN)
    }

    /// Whether tunnels of any kind are looked into.
    #[inline]
    pub fn looks_into_any(&self) -> bool {
        !self.look_into.is_empty()
    }

    /// Which rules have which slots, those of earlier generations too.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// The prefixes of the inside; none where the config names none.
    pub fn prefixes(&self) -> &[IpNet] {
        &self.prefixes
    }

    /// The rules by [`RuleId`], the same in every generation of a policy.
    pub fn rules(&self) -> &[RuleInfo] {
        self.all.rules()
    }

    /// Whether every frame is forwarded, whatever the rules say.
    pub fn is_shadow(&self) -> bool {
        self.shadow
    }

    /// Whether this rule is judged and never enforced.
    pub fn rule_in_shadow(&self, rule: RuleId) -> bool {
        self.shadowed.get(rule.index()).copied().unwrap_or(false)
    }

    /// Whether this rule's time is over.
    pub fn rule_expired(&self, rule: RuleId) -> bool {
        self.over.get(rule.index()).copied().unwrap_or(false)
    }

    /// Whether any rule is in shadow, so that the one that decides may be another than the first that matches.
    #[inline]
    pub fn has_shadow_rules(&self) -> bool {
        self.enforced.is_some()
    }

    /// Whether there is a rule that a frame which is not IP may match.
    #[inline]
    pub fn names_ethertypes(&self) -> bool {
        self.names_ethertypes
    }

    /// Whether there is a rule that may forbid single frames of a flow that it would let open.
    #[inline]
    pub fn judges_frames(&self) -> bool {
        !self.frames.is_empty()
    }

    fn of_frames(&self, rule: RuleId) -> OfFrames {
        self.frames.get(rule.index()).copied().unwrap_or_default()
    }

    /// Whether this rule forbids, and asks for what is not the same for every frame of a flow.
    pub fn is_of_frames(&self, rule: RuleId) -> bool {
        self.of_frames(rule).forbids
    }

    /// Whether this rule forbids, and is about the machine that a frame comes from.
    pub fn is_of_machines(&self, rule: RuleId) -> bool {
        self.of_frames(rule).forbids_machine
    }

    /// Whether this rule asks for a MAC address.
    pub fn names_machines(&self, rule: RuleId) -> bool {
        self.of_frames(rule).names_machine
    }

    /// Whether this is the rule that decides where no other does: the last.
    pub fn is_default(&self, rule: RuleId) -> bool {
        rule.index() + 1 == self.rules().len()
    }

    /// Whether this rule lets frames through, its limit aside.
    #[inline]
    pub fn permits(&self, rule: RuleId) -> bool {
        self.all.verdict(rule) == Verdict::Forward
    }

    /// Whether a frame that this rule decides alerts.
    #[inline]
    pub fn alerts(&self, rule: RuleId) -> bool {
        let info = self.rules().get(rule.index());
        info.is_some_and(|info| info.alert.is_some())
    }

    /// The first rule that matches each key, those in shadow too. `first` is as long as `keys`.
    #[inline]
    pub fn classify(&self, keys: &[Key], first: &mut [RuleId]) {
        self.all.classify(keys, first);
    }

    /// The first rule that matches each key and is not in shadow. `deciding` is as long as `keys`.
    #[inline]
    pub fn classify_enforced(&self, keys: &[Key], deciding: &mut [RuleId]) {
        self.deciding_table().classify(keys, deciding);
    }

    /// Whether there is a rule that asks what the payload of a flow is.
    #[inline]
    pub fn names_apps(&self) -> bool {
        self.all.names_apps()
    }

    /// Whether there is a rule that asks what the payload of a flow is, and lets it through.
    #[inline]
    pub fn permits_apps(&self) -> bool {
        self.permits_apps
    }

    /// The first rule that asks for an application that each key might come under, those in shadow too; see [`Table::classify_any`].
    pub fn classify_any(&self, keys: &[Key], out: &mut [RuleId]) {
        self.all.classify_any(keys, out);
    }

    /// What a payload yet to come might bring a flow of this key under, `first` and `deciding` being what it is under now: whether there is any rule that matters, and, where it is
    /// not let through now, one that would. `any` is what [`Generation::classify_any`] has said, if it was asked.
    pub fn might(
        &self,
        key: &Key,
        (first, deciding): (RuleId, RuleId),
        any: Option<RuleId>,
    ) -> (bool, Option<RuleId>) {
        if let (Some(any), Some(_)) = (any, &self.enforced)
            && any >= first.max(deciding)
        {
            return (false, None);
        }
        let table = self.deciding_table();
        self.might_by(table, key, deciding, |this| {
            let all = any.unwrap_or_else(|| this.all.any(key)) < first;
            all || (this.enforced.is_some() && table.any(key) < deciding)
        })
    }

    /// The same for a packet that a tunnel carries.
    pub fn might_inside(
        &self,
        key: &Key,
        (_, deciding): (RuleId, RuleId),
        _any: Option<RuleId>,
    ) -> (bool, Option<RuleId>) {
        let table = self.inside.as_ref().unwrap_or(self.deciding_table());
        self.might_by(table, key, deciding, |_| table.any(key) < deciding)
    }

    fn might_by(
        &self,
        table: &Table,
        key: &Key,
        deciding: RuleId,
        any: impl Fn(&Generation) -> bool,
    ) -> (bool, Option<RuleId>) {
        let permitted = self.permits(deciding);
        if (!permitted && !self.permits_apps) || !any(self) {
            return (false, None);
        }
        if permitted {
            return (true, None);
        }
        let permits = table.any_that_permits(key);
        (true, (permits < deciding).then_some(permits))
    }

    /// The kind of tunnel that this packet is, if it is one that is looked into.
    #[inline]
    pub fn looks_into(&self, meta: &Meta) -> Option<tunnel::Kind> {
        match self.look_into.is_empty() {
            true => None,
            false => tunnel::Kind::of(meta).filter(|kind| self.look_into.contains(*kind)),
        }
    }

    /// Whether a rule answers in the destination's place.
    #[inline]
    pub fn has_decoys(&self) -> bool {
        self.has_decoys
    }

    /// Whether this rule does.
    pub fn answers_for(&self, rule: RuleId) -> bool {
        matches!(self.all.verdict(rule), Verdict::Decoy(_))
    }

    /// The rule that decides over a packet that a tunnel carries: none in shadow, and none that is about the wire alone.
    pub fn classify_inside(&self, key: &Key) -> RuleId {
        self.inside
            .as_ref()
            .unwrap_or(self.deciding_table())
            .lookup(key)
    }

    /// What a rule does to a frame at `now` (nanoseconds since the Unix epoch), its limit counted.
    #[inline]
    pub fn verdict(&self, rule: RuleId, now: u64) -> Verdict {
        let verdict = self.all.verdict(rule);
        match &self.limits {
            None => verdict,
            Some(limits) => limits.apply(rule, verdict, now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Net;
    use crate::policy::oracle;
    use std::time::Duration;

    fn policy(text: &str) -> Policy {
        crate::config::parse(text, "test", std::path::Path::new("."))
            .unwrap()
            .policy
    }

    #[test]
    fn a_plain_rule_is_one_that_lets_through_whatever_it_decides() {
        let policy = policy(
            "[policy]\nprofile = \"none\"\n\
             [[rule]]\nname = \"all\"\nproto = \"udp\"\ndport = [1]\naction = \"allow\"\n\
             [[rule]]\nname = \"some\"\nproto = \"udp\"\ndport = [2]\naction = \"allow\"\nlimit = \"5/s\"\n\
             [[rule]]\nname = \"none\"\nproto = \"udp\"\ndport = [3]\naction = \"drop\"\n",
        );
        let generation = Generation::first(&policy).unwrap();
        let plain = |name: &str| {
            let at = generation.rules().iter().position(|rule| rule.name == name);
            let rule = RuleId(at.unwrap() as u32);
            (generation.plain(rule), generation.slot(rule))
        };
        let (all, slot) = plain("all");
        assert_eq!(all, Some(slot));
        assert_eq!((plain("some").0, plain("none").0), (None, None));
        assert_eq!(generation.plain(RuleId(1 << 19)), None);
    }

    fn three() -> Policy {
        let mut policy = policy(
            "[policy]\nprofile = \"none\"\n\
             [[rule]]\nname = \"a\"\nproto = \"udp\"\ndport = [53]\naction = \"drop\"\n\
             [[rule]]\nname = \"b\"\nproto = \"udp\"\ndport = [\"50-60\"]\naction = \"reject\"\n",
        );
        policy.rules[0].shadow = true;
        policy
    }

    fn key(dport: u16) -> Key {
        Key {
            net: Net::V4,
            proto: 17,
            dport,
            ethertype: 0x0800,
            ..Key::EMPTY
        }
    }

    fn both(generation: &Generation, dport: u16) -> [u32; 2] {
        let (mut first, mut deciding) = ([RuleId(9)], [RuleId(9)]);
        generation.classify(&[key(dport)], &mut first);
        generation.classify_enforced(&[key(dport)], &mut deciding);
        [first[0].0, deciding[0].0]
    }

    #[test]
    fn a_rule_in_shadow_is_the_first_that_matches_and_not_the_one_that_decides() {
        let generation = Generation::first(&three()).unwrap();
        assert!(generation.has_shadow_rules());
        assert_eq!(both(&generation, 53), [0, 1]);
        assert_eq!(both(&generation, 54), [1, 1]);
        assert_eq!(both(&generation, 99), [2, 2]);
        assert!(generation.rule_in_shadow(RuleId(0)) && !generation.rule_in_shadow(RuleId(1)));
    }

    #[test]
    fn a_rule_that_is_over_matches_nothing_and_the_ids_of_the_others_stay() {
        let mut policy = three();
        policy.rules[0].ttl = Some(Duration::from_secs(1));
        let first = Generation::first(&policy).unwrap();
        let next = first.next(&policy, &[true, false, false]).unwrap();
        assert_eq!(both(&next, 53), [1, 1]);
        assert!(
            !next.has_shadow_rules(),
            "a shadow that is over costs nothing"
        );
        assert!(next.rule_expired(RuleId(0)) && !next.rule_in_shadow(RuleId(0)));
        assert_eq!((first.number(), next.number()), (1, 2));
        let names = |generation: &Generation| -> Vec<String> {
            generation.rules().iter().map(|r| r.name.clone()).collect()
        };
        assert_eq!(names(&first), names(&next));
    }

    #[test]
    fn a_rule_without_clauses_matches_nothing_in_table_and_oracle() {
        let mut policy = three();
        policy.rules[1].clauses.clear();
        let table = Table::compile(&policy).unwrap();
        for dport in [50, 53, 54, 61] {
            let expected = RuleId(if dport == 53 { 0 } else { 2 });
            assert_eq!(table.lookup(&key(dport)), expected);
            assert_eq!(oracle::evaluate(&policy, &key(dport)), expected);
        }
    }

    #[test]
    fn a_policy_without_shadow_has_one_table_and_without_limits_no_buckets() {
        let generation = Generation::first(&policy("")).unwrap();
        assert!(!generation.has_shadow_rules() && generation.limits.is_none());
        assert!(!generation.is_shadow());
    }

    #[test]
    fn a_limit_counts_on_from_one_generation_to_the_next() {
        let mut policy = three();
        policy.rules[1].limit = Some(super::super::Limit {
            frames: 1,
            per: Duration::from_secs(1),
            burst: 3,
        });
        let first = Generation::first(&policy).unwrap();
        let reject = Verdict::Reject(crate::telemetry::Reason::Rule);
        let drop = Verdict::Drop(crate::telemetry::Reason::Rule);
        let now = 1_000_000_000_000;
        assert_eq!(first.verdict(RuleId(1), now), reject);
        let next = first.next(&policy, &[false; 3]).unwrap();
        let verdicts = [(); 3].map(|()| next.verdict(RuleId(1), now));
        assert_eq!(verdicts, [reject, reject, drop]);
        assert_eq!(
            next.verdict(RuleId(2), now),
            Verdict::Forward,
            "another rule"
        );
    }
}
