//! Bitsets of policies that are not the common ones: fields beyond the five, or the aggregated form. What may be slow is
//! checked code.

use super::burst::{Lane, starts};
use crate::policy::table::plan::{BitField, ExtraField, Form, Plan, mode};
use crate::policy::{Key, RuleId};

/// Fields beyond the five are asked for, or the bitsets are aggregated: safe code, for policies that are not the common
/// ones.
pub(super) fn general_bits(plan: &Plan, keys: &[Key], intervals: &[Lane; 2], out: &mut [RuleId]) {
    for (i, (key, out)) in keys.iter().zip(out).enumerate() {
        // SAFETY: the intervals are those of this plan.
        let starts = unsafe {
            if plan.mode & mode::SIFTED != 0 {
                starts::<0, true, true>(plan, key, intervals, i)
            } else {
                starts::<0, true, false>(plan, key, intervals, i)
            }
        };
        let bit = general(plan, key, starts);
        let rule = plan.rule_of_bit.get(bit).copied().unwrap_or(plan.last_rule);
        out.0 = out.0.min(rule);
    }
}

/// The first bit of one key.
fn general(plan: &Plan, key: &Key, five: [u32; 5]) -> usize {
    let mut starts = [(0usize, &plan.bits[0]); 11];
    let mut count = 0;
    for (start, bits) in five.into_iter().zip(&plan.bits) {
        starts[count] = (start as usize, bits);
        count += 1;
    }
    for extra in &plan.extras {
        let value = match extra.field {
            ExtraField::Ethertype => usize::from(key.ethertype),
            ExtraField::Vlan => usize::from(key.vlan),
            ExtraField::TcpFlags => usize::from(key.tcp_flags),
            ExtraField::Fragment => usize::from(key.fragment),
            ExtraField::App => usize::from(key.app),
            ExtraField::SrcMac => match extra.macs.binary_search(&key.src_mac) {
                Ok(at) => at + 1,
                Err(_) => 0,
            },
        };
        let class = extra.class.get(value).copied().unwrap_or(0);
        let start = extra.bits.base as usize + class as usize * plan.unit;
        starts[count] = (start, &extra.bits);
        count += 1;
    }
    let starts = &starts[..count];
    match plan.form {
        Form::Dense => {
            let mut first = plan.rule_of_bit.len() - 1;
            for word in (0..plan.words).rev() {
                let both = starts.iter().fold(u64::MAX, |both, (start, _)| {
                    let at = start + word;
                    both & plan.lines[at / 8].0[at % 8]
                });
                let bit = word * 64 + both.trailing_zeros() as usize;
                first = if both != 0 { bit } else { first };
            }
            first
        }
        Form::Aggregated => aggregated(plan, starts),
    }
}

/// Only the words that are not empty in any field are looked at, in order, until one has a bit.
fn aggregated(plan: &Plan, starts: &[(usize, &BitField)]) -> usize {
    for group in 0..plan.unit {
        let summaries = starts
            .iter()
            .map(|(start, bits)| bits.sparse.summary[start + group]);
        let mut open = summaries.fold(u64::MAX, |both, summary| both & summary);
        while open != 0 {
            let word = open.trailing_zeros();
            let both = starts.iter().fold(u64::MAX, |both, (start, bits)| {
                let sparse = &bits.sparse;
                let before = sparse.summary[start + group] & ((1 << word) - 1);
                let at = sparse.starts[start + group] as usize + before.count_ones() as usize;
                both & sparse.words[at]
            });
            if both != 0 {
                return (group * 64 + word as usize) * 64 + both.trailing_zeros() as usize;
            }
            open &= open - 1;
        }
    }
    plan.rule_of_bit.len() - 1
}
