//! The numbers that rules are counted under: a rule of one name has the same in every generation, wherever it stands among the others.

use super::rule::Policy;
use super::table::{CompileError, MAX_RULES, RuleInfo};
use std::collections::HashMap;

/// What a rule is counted and told of under, whichever generation decides. Unlike [`RuleId`](super::RuleId), which is its place in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleSlot(pub u32);

impl RuleSlot {
    /// The number.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// Slots that there are at least: what a policy may grow to, and its rules change their names, while the gate runs.
const LEAST: usize = 16_384;

/// Which rule has which slot. What is gone from the policy keeps its own, so that what is yet to be told of it has a name.
#[derive(Clone, Debug)]
pub struct Roster {
    of_name: HashMap<String, RuleSlot>,
    /// By slot: as the rule is, or was last.
    infos: Vec<RuleInfo>,
    room: usize,
}

impl Roster {
    /// The rules of the first policy, in their order, and room for as many again.
    pub fn new(policy: &Policy) -> Roster {
        let room = (2 * policy.rules.len()).clamp(LEAST, 2 * MAX_RULES);
        let mut roster = Roster {
            of_name: HashMap::new(),
            infos: Vec::new(),
            room,
        };
        // There is room for these.
        let _ = roster.enter(policy);
        roster
    }

    /// The same with the rules of the next policy.
    ///
    /// # Errors
    /// [`CompileError::NoSlot`].
    pub fn with(&self, policy: &Policy) -> Result<Roster, CompileError> {
        let mut next = self.clone();
        next.enter(policy)?;
        Ok(next)
    }

    fn enter(&mut self, policy: &Policy) -> Result<(), CompileError> {
        for rule in &policy.rules {
            let info = RuleInfo::of(rule);
            match self.of_name.get(&rule.name) {
                Some(slot) => self.infos[slot.index()] = info,
                None if self.infos.len() == self.room => {
                    return Err(CompileError::NoSlot(self.room));
                }
                None => {
                    let slot = RuleSlot(self.infos.len() as u32);
                    self.of_name.insert(rule.name.clone(), slot);
                    self.infos.push(info);
                }
            }
        }
        Ok(())
    }

    /// Of the rules of a policy that is in it, in their order.
    pub fn slots(&self, policy: &Policy) -> Box<[RuleSlot]> {
        let rules = policy.rules.iter();
        rules.filter_map(|rule| self.slot(&rule.name)).collect()
    }

    /// Of the rule of this name, if there is one, or was.
    pub fn slot(&self, name: &str) -> Option<RuleSlot> {
        self.of_name.get(name).copied()
    }

    /// The rule of a slot, as it is or was last.
    pub fn info(&self, slot: RuleSlot) -> Option<&RuleInfo> {
        self.infos.get(slot.index())
    }

    /// Slots that there can be.
    pub fn room(&self) -> usize {
        self.room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Action, Clause, Direction, Origin, Rule};

    fn policy(names: &[&str]) -> Policy {
        let rule = |name: &&str| {
            let clause = Clause::any(Direction::Out);
            Rule::new(*name, Action::Drop, vec![clause], Origin::Default)
        };
        Policy {
            rules: names.iter().map(rule).collect(),
            default: Action::Allow,
            lan_prefixes: Vec::new(),
            sets: Vec::new(),
            disabled: Vec::new(),
            look_into: Default::default(),
            shadow: false,
        }
    }

    #[test]
    fn a_rule_keeps_its_slot_wherever_it_stands_and_when_it_was_away() {
        let roster = Roster::new(&policy(&["a", "b", "default"]));
        let slots = |roster: &Roster, names: &[&str]| -> Vec<u32> {
            roster.slots(&policy(names)).iter().map(|s| s.0).collect()
        };
        assert_eq!(slots(&roster, &["a", "b", "default"]), [0, 1, 2]);
        let roster = roster.with(&policy(&["c", "b", "default"])).unwrap();
        assert_eq!(slots(&roster, &["c", "b", "default"]), [3, 1, 2]);
        let gone = roster.info(RuleSlot(0)).unwrap();
        assert_eq!(gone.name, "a", "events of it may still be on their way");
        let roster = roster.with(&policy(&["default", "a"])).unwrap();
        assert_eq!(slots(&roster, &["default", "a"]), [2, 0]);
    }

    #[test]
    fn names_without_end_are_refused_and_nothing_is_entered() {
        let mut roster = Roster::new(&policy(&["default"]));
        let names: Vec<String> = (1..LEAST).map(|n| format!("r{n}")).collect();
        let mut names: Vec<&str> = names.iter().map(String::as_str).collect();
        roster = roster.with(&policy(&names)).unwrap();
        names.push("one too many");
        let refused = roster.with(&policy(&names));
        assert!(matches!(refused, Err(CompileError::NoSlot(LEAST))));
        assert_eq!(roster.slot("one too many"), None);
    }
}
