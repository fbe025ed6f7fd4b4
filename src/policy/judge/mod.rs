//! What can be said of a policy before a frame comes: rules that can never match, and rules that never decide because
//! rules before them match all that they match.
//!
//! Decided on what the clauses match, not on how they are written, and exactly: what is reported is so for every frame.
//! What takes too much work to decide is counted and not guessed.

mod contradiction;
mod cover;
mod index;
mod space;

pub use contradiction::Contradiction;

use super::rule::{Origin, Policy, Rule};
use super::{Action, RuleId};
use cover::Budget;
use index::Index;
use space::{PLANES, Piece, Space};
use std::collections::BTreeSet;

/// What was found, in the order of the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Rules that never decide.
    pub findings: Vec<Finding>,
    /// How many rules it was too much work to compare with those before them.
    pub undecided: usize,
}

/// A rule that never decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing matches it.
    Never {
        /// The rule.
        rule: RuleId,
        /// What contradicts what.
        why: Contradiction,
    },
    /// All that it matches is decided before it.
    Covered {
        /// The rule.
        rule: RuleId,
        /// The rules that decide, in order; more than one where none of them does it alone.
        by: Vec<RuleId>,
        /// Both match the very same: `by` is one rule.
        same_match: bool,
    },
}

impl Finding {
    /// The rule that never decides.
    pub fn rule(&self) -> RuleId {
        match self {
            Finding::Never { rule, .. } | Finding::Covered { rule, .. } => *rule,
        }
    }
}

/// How the action of a covered rule stands to those that cover it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They all do what it does.
    Redundant,
    /// None of them does what it does.
    Contradicting,
    /// Some do.
    Mixed,
}

/// How the action of a rule stands to those of others.
pub fn agreement(action: Action, others: impl IntoIterator<Item = Action>) -> Agreement {
    let (mut same, mut other) = (false, false);
    for one in others {
        same |= one == action;
        other |= one != action;
    }
    match (same, other) {
        (_, false) => Agreement::Redundant,
        (false, true) => Agreement::Contradicting,
        (true, true) => Agreement::Mixed,
    }
}

/// Whether what this rule matches never comes to the rules after it. A rule in shadow decides nothing, and one with a
/// time-to-live only for a while. One with a limit does: what is beyond the limit is dropped.
pub fn is_final(rule: &Rule) -> bool {
    !rule.shadow && rule.ttl.is_none()
}

/// Judges every rule but the default.
pub fn judge(policy: &Policy) -> Judgement {
    let (rules, sets) = (&policy.rules, &policy.sets);
    let mut space = Space::new(sets);
    // Of each rule its pieces, as places in the planes.
    let mut pieces: [Vec<Piece>; PLANES] = Default::default();
    let mut matches_nothing = Vec::with_capacity(rules.len());
    for (at, rule) in rules.iter().enumerate() {
        let mut nothing = true;
        for clause in &rule.clauses {
            for (plane, pieces) in space::planes().zip(&mut pieces) {
                if let Some(product) = space.product(clause, plane) {
                    nothing = false;
                    pieces.push(Piece {
                        rule: at as u32,
                        product,
                    });
                }
            }
        }
        matches_nothing.push(nothing);
    }
    let finals = |pieces: &Vec<Piece>| {
        let finals = pieces.iter();
        let finals = finals.filter(|piece| is_final(&rules[piece.rule as usize]));
        Index::new(finals.cloned().collect())
    };
    let mut judge = Judge {
        indices: pieces.iter().map(finals).collect(),
        pieces,
        budget: Budget::new(),
    };
    let mut found = Judgement::default();
    for (at, rule) in rules.iter().enumerate() {
        if rule.origin == Origin::Default {
            continue;
        }
        let id = RuleId(at as u32);
        if matches_nothing[at] {
            let why = contradiction::of(rule, sets);
            found.findings.push(Finding::Never { rule: id, why });
            continue;
        }
        match judge.covered(id.0) {
            Ok(Some((by, same_match))) => found.findings.push(Finding::Covered {
                rule: id,
                by: by.into_iter().map(RuleId).collect(),
                same_match,
            }),
            Ok(None) => {}
            Err(cover::Exhausted) => found.undecided += 1,
        }
    }
    found
}

/// The pieces of all rules, by plane and there in the order of rules, and the trees over those that decide for good.
struct Judge {
    pieces: [Vec<Piece>; PLANES],
    indices: Vec<Index>,
    budget: Budget,
}

type Cover = (BTreeSet<u32>, bool);

impl Judge {
    /// The rules that cover a rule, and whether the first of them matches the very same.
    fn covered(&mut self, rule: u32) -> Result<Option<Cover>, cover::Exhausted> {
        self.budget.refill();
        let mut used = BTreeSet::new();
        for plane in 0..PLANES {
            for piece in of_rule(&self.pieces[plane], rule) {
                match cover::cover(&self.indices[plane], piece, &mut self.budget)? {
                    Some(by) => used.extend(by),
                    None => return Ok(None),
                }
            }
        }
        // What was found may be more than is needed. Not to know the least is no fault: every answer here is true.
        for alone in self.alone(rule, &used) {
            if self.hold(&[alone], rule).unwrap_or(false) {
                let same = self.hold(&[rule], alone).unwrap_or(false);
                return Ok(Some((BTreeSet::from([alone]), same)));
            }
        }
        if used.len() <= MOST_TO_REDUCE {
            for one in used.clone().into_iter().rev() {
                let rest: Vec<_> = used.iter().copied().filter(|other| *other != one).collect();
                if self.hold(&rest, rule).unwrap_or(false) {
                    used.remove(&one);
                }
            }
        }
        Ok(Some((used, false)))
    }

    /// The rules that may hold all of a covered rule alone: those that decided it piece by piece and, of a rule with
    /// several pieces or covered by several rules, whichever hold one frame of it.
    fn alone(&self, rule: u32, used: &BTreeSet<u32>) -> BTreeSet<u32> {
        let mut alone = used.clone();
        let planes = self.pieces.iter().zip(&self.indices);
        let mut first = planes.filter_map(|(pieces, index)| {
            let piece = of_rule(pieces, rule).first()?;
            Some((piece.product.corner(), index))
        });
        if let (true, Some((corner, index))) = (used.len() > 1, first.next()) {
            index.stab(&corner, rule, |earlier| {
                alone.insert(earlier.rule);
                rule
            });
        }
        alone.into_iter().take(MOST_ALONE).collect()
    }

    /// Whether these rules alone hold all that `rule` matches.
    fn hold(&mut self, others: &[u32], rule: u32) -> Result<bool, cover::Exhausted> {
        for pieces in &self.pieces {
            let others: Vec<_> = others
                .iter()
                .flat_map(|other| of_rule(pieces, *other))
                .map(|piece| &piece.product)
                .collect();
            for piece in of_rule(pieces, rule) {
                if !cover::covered_by(&piece.product, &others, &mut self.budget)? {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// How many rules are tried for whether one of them alone covers another.
const MOST_ALONE: usize = 64;
/// Covers of more rules than this are told as they are found.
const MOST_TO_REDUCE: usize = 32;

fn of_rule(pieces: &[Piece], rule: u32) -> &[Piece] {
    let start = pieces.partition_point(|piece| piece.rule < rule);
    let len = pieces[start..].partition_point(|piece| piece.rule == rule);
    &pieces[start..start + len]
}
