//! Whether earlier pieces hold all of a piece: look for a frame of it that none of them holds.
//!
//! Take the lowest corner of what is left of the piece. If no earlier piece holds the corner, the rule decides it. If
//! one holds all that is left, that part is covered. Else cut away what one of them holds, and go on with the rest.
//! Exact either way; the search ends without an answer where it takes too much work.

use super::index::Index;
use super::space::{Piece, Product};
use std::collections::BTreeSet;

/// Work that one rule may take, in nodes, pieces and intervals looked at.
const RULE_WORK: usize = 1 << 20;
/// Work that a whole policy may take: a few seconds.
const POLICY_WORK: usize = 1 << 28;

/// What is left of the work.
pub(super) struct Budget {
    rule: usize,
    policy: usize,
}

/// The work ran out.
#[derive(Debug)]
pub(super) struct Exhausted;

impl Budget {
    pub fn new() -> Budget {
        Budget {
            rule: RULE_WORK,
            policy: POLICY_WORK,
        }
    }

    /// The work of the next rule.
    pub fn refill(&mut self) {
        self.rule = RULE_WORK;
    }

    fn take(&mut self, work: usize) -> Result<(), Exhausted> {
        self.policy = self.policy.saturating_sub(work);
        self.rule = self.rule.saturating_sub(work);
        if self.rule == 0 || self.policy == 0 {
            return Err(Exhausted);
        }
        Ok(())
    }
}

/// The rules before `piece` that hold all of it together; `None` where there is a frame that none of them holds.
pub(super) fn cover(
    index: &Index,
    piece: &Piece,
    budget: &mut Budget,
) -> Result<Option<BTreeSet<u32>>, Exhausted> {
    let mut used = BTreeSet::new();
    let mut left = vec![piece.product.clone()];
    while let Some(product) = left.pop() {
        let mut whole: Option<u32> = None;
        let mut cutter: Option<(u32, u32, Product)> = None;
        let mut work = 1;
        let looked = index.stab(&product.corner(), piece.rule, |earlier| {
            let beyond = product.beyond(&earlier.product, &mut work);
            if beyond == 0 {
                whole = Some(earlier.rule);
                return earlier.rule;
            }
            // The fewer fields are cut, the fewer parts are left; of two alike the earlier rule.
            let rank = (beyond.count_ones(), earlier.rule);
            let better =
                |(beyond, rule, _): &(u32, u32, Product)| rank < (beyond.count_ones(), *rule);
            if cutter.as_ref().is_none_or(better) {
                cutter = Some((beyond, earlier.rule, earlier.product.clone()));
            }
            whole.unwrap_or(piece.rule)
        });
        budget.take(looked + work)?;
        match (whole, cutter) {
            (Some(rule), _) => {
                used.insert(rule);
            }
            (None, Some((beyond, rule, other))) => {
                used.insert(rule);
                let mut work = 0;
                left.extend(product.without(&other, beyond, &mut work));
                budget.take(work)?;
            }
            (None, None) => return Ok(None),
        }
    }
    Ok(Some(used))
}

/// Whether `others` alone hold all of `product`.
pub(super) fn covered_by(
    product: &Product,
    others: &[&Product],
    budget: &mut Budget,
) -> Result<bool, Exhausted> {
    let mut left = vec![product.clone()];
    for other in others {
        let mut next = Vec::new();
        for part in left {
            let mut work = 1;
            if part.meets(other, &mut work) {
                let beyond = part.beyond(other, &mut work);
                next.extend(part.without(other, beyond, &mut work));
            } else {
                next.push(part);
            }
            budget.take(work)?;
        }
        left = next;
    }
    Ok(left.is_empty())
}
