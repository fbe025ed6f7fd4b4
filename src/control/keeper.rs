//! The policy as the control plane keeps it: rules whose time ends, sets that change, and the generation that is in force.

use crate::policy::{
    AddrRange, Clause, CompileError, Generation, InForce, Key, Policy, PolicyTest, QUARANTINE_RULE,
    RuleId, Table, explain, test,
};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Makes one generation after the other of one policy. Nothing here is on a frame's way: a store into [`InForce`] is all that
/// the workers see of it.
pub struct Keeper {
    /// The rules as they were loaded, and the sets as they are now.
    policy: Policy,
    /// By set: what the config or a file says of it.
    stated: Vec<Vec<AddrRange>>,
    /// By set: what commands have added to that.
    added: Vec<Vec<AddrRange>>,
    /// What they have added to sets that a policy in between does not have, by name: a policy that has them again finds it.
    parted: BTreeMap<String, Vec<AddrRange>>,
    tests: Vec<PolicyTest>,
    /// What the rule of hosts in quarantine matches. Not part of `policy`, whose tests know nothing of it.
    quarantine: Vec<Clause>,
    /// By rule: its time-to-live is over.
    over: Vec<bool>,
    /// When rules that are not over yet will be, after the load: the next one last.
    ends: Vec<(Duration, RuleId)>,
    in_force: InForce,
    /// Generations that a worker may still judge a burst by. They are freed here, not by the worker that lets go of them last.
    retired: Vec<Arc<Generation>>,
}

/// Why a changed set is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs)]
pub enum Refused {
    #[error("{0}")]
    Compile(#[from] CompileError),
    #[error(
        "the policy's own test {test} fails with it: {verdict} by rule `{rule}`, expected {expected}"
    )]
    Test {
        /// Its place among the tests, from 1.
        test: usize,
        verdict: &'static str,
        rule: String,
        expected: String,
    },
    /// What whoever asked for the change has against it.
    #[error("{0}")]
    Judged(String),
    #[error("it cannot be kept across restarts: {0}")]
    NotKept(String),
}

/// By name of a rule with a time-to-live: that, and when it ends, after the load that ages count from; zero where it has.
#[derive(Clone, Debug, Default)]
pub struct Times(BTreeMap<String, (Duration, Option<Duration>)>);

impl Times {
    /// Which rules of a policy are over, and when others will be: those of the same name and time-to-live go on.
    fn of(&self, policy: &Policy, age: Duration) -> (Vec<bool>, Vec<(Duration, RuleId)>) {
        let (mut over, mut ends) = (vec![false; policy.rules.len()], Vec::new());
        for (index, rule) in policy.rules.iter().enumerate() {
            let Some(ttl) = rule.ttl else { continue };
            let end = match self.0.get(&rule.name) {
                Some((same, Some(end))) if *same == ttl => *end,
                _ => age.saturating_add(ttl),
            };
            match end <= age {
                true => over[index] = true,
                false => ends.push((end, RuleId(index as u32))),
            }
        }
        ends.sort_unstable_by(|a, b| b.cmp(a));
        (over, ends)
    }
}

/// A policy that may take the place of the one in force: compiled, and judged.
pub struct Candidate {
    policy: Policy,
    tests: Vec<PolicyTest>,
    stated: Vec<Vec<AddrRange>>,
    added: Vec<Vec<AddrRange>>,
    parted: BTreeMap<String, Vec<AddrRange>>,
    over: Vec<bool>,
    ends: Vec<(Duration, RuleId)>,
    generation: Generation,
}

impl Candidate {
    /// The policy, its sets with what commands have added.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// As the workers would judge by it.
    pub fn generation(&self) -> &Generation {
        &self.generation
    }

    /// Sets that commands have added to and that it does not have.
    pub fn parted(&self) -> impl Iterator<Item = &str> {
        self.parted.keys().map(String::as_str)
    }
}

impl Keeper {
    /// Compiles the first generation. `tests` are asked again whenever a set changes.
    ///
    /// # Errors
    /// [`CompileError`].
    pub fn new(policy: Policy, tests: Vec<PolicyTest>) -> Result<Keeper, CompileError> {
        let in_force = Generation::first(&policy)?.in_force();
        let rules = policy.rules.iter().enumerate();
        let mut ends: Vec<_> = rules
            .filter_map(|(index, rule)| Some((rule.ttl?, RuleId(index as u32))))
            .collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Keeper {
            stated: policy.sets.iter().map(|set| set.ranges.clone()).collect(),
            added: vec![Vec::new(); policy.sets.len()],
            parted: BTreeMap::new(),
            ends,
            over: vec![false; policy.rules.len()],
            quarantine: Vec::new(),
            policy,
            tests,
            in_force,
            retired: Vec::new(),
        })
    }

    /// Where the workers find the generation in force.
    pub fn in_force(&self) -> InForce {
        Arc::clone(&self.in_force)
    }

    /// The policy with its sets as they are now.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What the policy in force does with a packet, and why.
    ///
    /// # Errors
    /// That the table and the rules disagree, which is a fault of this program.
    pub fn explain(&self, key: &Key) -> Result<serde_json::Value, String> {
        let generation = self.in_force.load();
        let mut policy = self.with_quarantine(&self.policy);
        if self.over.contains(&true) {
            let rules = policy.to_mut().rules.iter_mut().zip(&self.over);
            rules
                .filter(|(_, over)| **over)
                .for_each(|(rule, _)| rule.clauses.clear());
        }
        explain::explain(&policy, generation.table(), key)
            .map_err(|e| e.to_string())
            .and_then(|found| serde_json::to_value(found).map_err(|e| e.to_string()))
    }

    /// How long after the load the next rule ends; `None` where none does.
    pub fn next_end(&self) -> Option<Duration> {
        self.ends.last().map(|(ttl, _)| *ttl)
    }

    /// Ends the rules whose time-to-live is not longer than `age`, the time since the policy was loaded. Says which ended; empty
    /// where none did, and nothing was compiled.
    ///
    /// # Errors
    /// [`CompileError`]; the rules then stay in force, and are not asked about again.
    pub fn expire(&mut self, age: Duration) -> Result<Vec<RuleId>, CompileError> {
        let mut ended = Vec::new();
        while let Some((_, rule)) = self.ends.pop_if(|(ttl, _)| *ttl <= age) {
            if let Some(over) = self.over.get_mut(rule.index()) {
                *over = true;
            }
            ended.push(rule);
        }
        if !ended.is_empty() {
            let next = self.next()?;
            self.swap(next);
        }
        Ok(ended)
    }

    /// Prepares another policy for the place of this one. Sets of the same name keep what commands have added; a rule of the same name and time-to-live goes on to run from when
    /// it was loaded first, and one that is over stays over. `age` is the time since the load that times-to-live count from. `judge` is asked with the table of the rules that
    /// decide, those included whose time is over.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn candidate(
        &self,
        policy: Policy,
        tests: Vec<PolicyTest>,
        age: Duration,
        judge: impl FnOnce(&Policy, &Table) -> Result<(), String>,
    ) -> Result<Candidate, Refused> {
        self.candidate_after(policy, tests, (age, &self.times()), judge)
    }

    /// The same, where rules go on from `times`, of a policy that was in force before.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn candidate_after(
        &self,
        mut policy: Policy,
        tests: Vec<PolicyTest>,
        (age, times): (Duration, &Times),
        judge: impl FnOnce(&Policy, &Table) -> Result<(), String>,
    ) -> Result<Candidate, Refused> {
        if self.quarantines() {
            policy = super::quarantine::with_rule(policy);
        }
        let mut parted = self.parted.clone();
        for (set, added) in self.policy.sets.iter().zip(&self.added) {
            if !added.is_empty() {
                parted.insert(set.name.clone(), added.clone());
            }
        }
        let (mut stated, mut added) = (Vec::new(), Vec::new());
        for set in &mut policy.sets {
            let more = parted.remove(&set.name).unwrap_or_default();
            stated.push(set.ranges.clone());
            set.ranges.extend_from_slice(&more);
            added.push(more);
        }
        let (over, ends) = times.of(&policy, age);
        let in_force = self.in_force.load();
        let generation = in_force.replaced(&self.with_quarantine(&policy), &over)?;
        let whole = match over.contains(&true) || !self.quarantine.is_empty() {
            true => Some(Generation::first(&policy)?),
            false => None,
        };
        let table = whole.as_ref().unwrap_or(&generation).deciding_table();
        judge(&policy, table).map_err(Refused::Judged)?;
        Ok(Candidate {
            policy,
            tests,
            stated,
            added,
            parted,
            over,
            ends,
            generation,
        })
    }

    /// Whether hosts can be put in quarantine: the policy has a rule for that.
    fn quarantines(&self) -> bool {
        let first = self.policy.rules.first();
        first.is_some_and(|rule| rule.name == QUARANTINE_RULE)
    }

    /// A policy as it is enforced, with hosts in quarantine.
    fn with_quarantine<'p>(&self, policy: &'p Policy) -> Cow<'p, Policy> {
        let mut policy = Cow::Borrowed(policy);
        if !self.quarantine.is_empty()
            && let Some(rule) = policy.to_mut().rules.first_mut()
            && rule.name == QUARANTINE_RULE
        {
            rule.clauses.clone_from(&self.quarantine);
        }
        policy
    }

    /// The next generation of the policy as it is now.
    fn next(&self) -> Result<Generation, CompileError> {
        let policy = self.with_quarantine(&self.policy);
        self.in_force.load().next(&policy, &self.over)
    }

    /// Puts hosts in quarantine that these clauses match, and no others.
    ///
    /// # Errors
    /// [`Refused`]; everything is then as it was.
    pub fn quarantine(&mut self, clauses: Vec<Clause>) -> Result<(), Refused> {
        let before = std::mem::replace(&mut self.quarantine, clauses);
        match self.next() {
            Ok(next) => {
                self.swap(next);
                Ok(())
            }
            Err(e) => {
                self.quarantine = before;
                Err(Refused::Compile(e))
            }
        }
    }

    /// How long the rules of this policy have left.
    pub fn times(&self) -> Times {
        let mut times = Times::default();
        for (rule, over) in self.policy.rules.iter().zip(&self.over) {
            if let Some(ttl) = rule.ttl {
                times
                    .0
                    .insert(rule.name.clone(), (ttl, over.then_some(Duration::ZERO)));
            }
        }
        for (end, rule) in &self.ends {
            let rule = self.policy.rules.get(rule.index());
            if let Some(known) = rule.and_then(|rule| times.0.get_mut(&rule.name)) {
                known.1 = Some(*end);
            }
        }
        times
    }

    /// Puts a candidate into force that was prepared from what is in force now.
    pub fn replace(&mut self, candidate: Candidate) {
        self.policy = candidate.policy;
        self.tests = candidate.tests;
        self.stated = candidate.stated;
        self.added = candidate.added;
        self.parted = candidate.parted;
        self.over = candidate.over;
        self.ends = candidate.ends;
        self.swap(candidate.generation);
    }

    /// What commands have added to sets that this policy does not have.
    pub fn parted(&self) -> &BTreeMap<String, Vec<AddrRange>> {
        &self.parted
    }

    /// Keeps what was added to a set that this policy does not have.
    pub fn part(&mut self, set: &str, ranges: Vec<AddrRange>) {
        self.parted.insert(set.to_owned(), ranges);
    }

    /// What the config or a file says of the set at this index.
    pub fn stated(&self, set: usize) -> &[AddrRange] {
        self.stated.get(set).map_or(&[], Vec::as_slice)
    }

    /// What commands have added to the set at this index.
    pub fn added(&self, set: usize) -> &[AddrRange] {
        self.added.get(set).map_or(&[], Vec::as_slice)
    }

    /// Puts `ranges` in the place of what the config or a file said of the set at this index, if that is a policy that compiles and
    /// passes its own tests. False where it said just this already, and nothing was done.
    ///
    /// # Errors
    /// [`Refused`]; everything is then as it was.
    pub fn replace_set(&mut self, set: usize, ranges: Vec<AddrRange>) -> Result<bool, Refused> {
        if self.stated.get(set).is_none_or(|stated| *stated == ranges) {
            return Ok(false);
        }
        let all = [&ranges[..], self.added(set)].concat();
        let next = self.with_set(set, all)?;
        if let Some(stated) = self.stated.get_mut(set) {
            *stated = ranges;
        }
        self.swap(next);
        Ok(true)
    }

    /// Puts `ranges` in the place of what commands have added to the set at this index. When the new policy is compiled and passed its
    /// own tests, `keep` is to keep the change across restarts; it is in force when that was done.
    ///
    /// # Errors
    /// [`Refused`]; everything is then as it was.
    pub fn replace_added(
        &mut self,
        set: usize,
        ranges: Vec<AddrRange>,
        keep: impl FnOnce(&Keeper) -> Result<(), String>,
    ) -> Result<(), Refused> {
        let before = self.policy.sets.get(set).map(|set| set.ranges.clone());
        let all = [self.stated(set), &ranges[..]].concat();
        let next = self.with_set(set, all)?;
        if let Err(why) = keep(self) {
            if let (Some(held), Some(before)) = (self.policy.sets.get_mut(set), before) {
                held.ranges = before;
            }
            return Err(Refused::NotKept(why));
        }
        if let Some(added) = self.added.get_mut(set) {
            *added = ranges;
        }
        self.swap(next);
        Ok(())
    }

    /// The next generation, in which the set holds `ranges`.
    fn with_set(&mut self, set: usize, ranges: Vec<AddrRange>) -> Result<Generation, Refused> {
        let held = |keeper: &mut Keeper, ranges| match keeper.policy.sets.get_mut(set) {
            Some(held) => std::mem::replace(&mut held.ranges, ranges),
            None => Vec::new(),
        };
        let before = held(self, ranges);
        self.judged().inspect_err(|_| {
            held(self, before);
        })
    }

    /// The next generation, if the policy's own tests pass.
    fn judged(&self) -> Result<Generation, Refused> {
        let next = self.next()?;
        if self.tests.is_empty() {
            return Ok(next);
        }
        // The tests speak of the policy as it was loaded, with the rules whose time is over, and nobody in quarantine.
        let whole = match self.over.contains(&true) || !self.quarantine.is_empty() {
            true => Some(Generation::first(&self.policy)?),
            false => None,
        };
        let table = whole.as_ref().unwrap_or(&next).deciding_table();
        for (index, entry) in self.tests.iter().enumerate() {
            test::run(&self.policy, table, entry).map_err(|failure| Refused::Test {
                test: index + 1,
                verdict: failure.verdict,
                rule: failure.rule,
                expected: failure.expected,
            })?;
        }
        Ok(next)
    }

    fn swap(&mut self, next: Generation) {
        self.retired.push(self.in_force.swap(Arc::new(next)));
    }

    /// Frees the generations that no worker holds any more. True if some are left.
    pub fn sweep(&mut self) -> bool {
        self.retired
            .retain(|generation| Arc::strong_count(generation) > 1);
        !self.retired.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Net;
    use crate::policy::{Key, Verdict};
    use crate::telemetry::Reason;

    const TEXT: &str = "[policy]\nprofile = \"none\"\n[sets]\npartners = [\"10.0.0.1\"]\n\
        [[rule]]\nname = \"p\"\ndst = \"!@partners\"\nproto = \"udp\"\naction = \"drop\"\n\
        [[test]]\npacket = { direction = \"out\", proto = \"udp\", src = \"10.77.0.9:1\", dst = \"10.0.0.1:2\" }\n\
        expect = { verdict = \"forward\" }\n";

    fn keeper(ttl: Option<Duration>) -> (Keeper, usize) {
        let config = crate::config::parse(TEXT, "test", std::path::Path::new(".")).unwrap();
        let mut policy = config.policy;
        policy.rules[0].ttl = ttl;
        let set = policy.sets.iter().position(|s| s.name == "partners");
        (Keeper::new(policy, config.tests).unwrap(), set.unwrap())
    }

    fn verdict(keeper: &Keeper, dst: u32) -> Verdict {
        let key = Key {
            net: Net::V4,
            ethertype: 0x0800,
            proto: 17,
            dst: dst.into(),
            ..Key::EMPTY
        };
        let generation = keeper.in_force.load();
        generation.verdict(generation.table().lookup(&key), 0)
    }

    fn ranges(first: u32, last: u32) -> Vec<AddrRange> {
        let range = AddrRange::between(
            std::net::Ipv4Addr::from(first).into(),
            std::net::Ipv4Addr::from(last).into(),
        );
        range.into_iter().collect()
    }

    const ONE: u32 = 0x0a00_0001;

    #[test]
    fn a_set_that_changes_makes_a_new_generation_and_the_same_set_does_not() {
        let (mut keeper, set) = keeper(None);
        assert_eq!(verdict(&keeper, ONE + 1), Verdict::Drop(Reason::Rule));
        assert!(!keeper.replace_set(set, ranges(ONE, ONE)).unwrap());
        assert_eq!(keeper.in_force.load().number(), 1);
        assert!(keeper.replace_set(set, ranges(ONE, ONE + 1)).unwrap());
        assert_eq!(verdict(&keeper, ONE + 1), Verdict::Forward);
        assert_eq!(keeper.in_force.load().number(), 2);
    }

    #[test]
    fn what_a_command_adds_stays_when_the_file_of_the_set_changes_and_the_other_way_round() {
        let (mut keeper, set) = keeper(None);
        let add = |keeper: &mut Keeper, last| keeper.replace_added(set, last, |_| Ok(()));
        add(&mut keeper, ranges(ONE + 8, ONE + 8)).unwrap();
        assert!(keeper.replace_set(set, ranges(ONE, ONE + 1)).unwrap());
        for dst in [ONE, ONE + 1, ONE + 8] {
            assert_eq!(verdict(&keeper, dst), Verdict::Forward);
        }
        add(&mut keeper, Vec::new()).unwrap();
        assert_eq!(verdict(&keeper, ONE + 8), Verdict::Drop(Reason::Rule));
        assert_eq!(verdict(&keeper, ONE + 1), Verdict::Forward);
    }

    #[test]
    fn a_set_with_which_the_policy_fails_its_own_tests_is_refused_and_nothing_changes() {
        let (mut keeper, set) = keeper(None);
        let refused = keeper.replace_set(set, Vec::new()).unwrap_err();
        assert!(
            matches!(refused, Refused::Test { test: 1, .. }),
            "{refused}"
        );
        assert_eq!(verdict(&keeper, ONE), Verdict::Forward);
        assert_eq!(keeper.policy().sets[set].ranges, ranges(ONE, ONE));
        assert_eq!(keeper.in_force.load().number(), 1);
    }

    #[test]
    fn the_policy_s_own_tests_ask_for_the_rule_that_decides_not_for_one_in_shadow() {
        let config = crate::config::parse(TEXT, "test", std::path::Path::new(".")).unwrap();
        let mut policy = config.policy;
        policy.rules[0].shadow = true;
        let set = policy.sets.iter().position(|s| s.name == "partners");
        let mut keeper = Keeper::new(policy, config.tests).unwrap();
        assert_eq!(keeper.replace_set(set.unwrap(), Vec::new()), Ok(true));
    }

    #[test]
    fn a_rule_ends_with_its_time_to_live_and_not_before() {
        let (mut keeper, set) = keeper(Some(Duration::from_secs(10)));
        assert_eq!(keeper.next_end(), Some(Duration::from_secs(10)));
        assert!(keeper.expire(Duration::from_secs(9)).unwrap().is_empty());
        assert_eq!(verdict(&keeper, 9), Verdict::Drop(Reason::Rule));
        assert_eq!(keeper.expire(Duration::from_secs(10)).unwrap(), [RuleId(0)]);
        assert_eq!(verdict(&keeper, 9), Verdict::Forward);
        assert_eq!(keeper.next_end(), None);
        assert!(keeper.expire(Duration::MAX).unwrap().is_empty(), "once");
        // It does not come back with a new set, whose tests still speak of it.
        let refused = keeper.replace_set(set, Vec::new());
        assert!(refused.is_err(), "{refused:?}");
        assert!(keeper.replace_set(set, ranges(ONE, ONE + 1)).unwrap());
        assert_eq!(verdict(&keeper, 9), Verdict::Forward);
        assert!(keeper.in_force.load().rule_expired(RuleId(0)));
    }

    #[test]
    fn a_generation_is_freed_by_the_keeper_when_the_last_worker_has_let_go_of_it() {
        let (mut keeper, set) = keeper(None);
        let held = keeper.in_force.load_full();
        keeper.replace_set(set, ranges(ONE, ONE + 1)).unwrap();
        assert!(keeper.sweep(), "a worker holds it");
        drop(held);
        assert!(!keeper.sweep());
        assert!(keeper.retired.is_empty());
    }
}
