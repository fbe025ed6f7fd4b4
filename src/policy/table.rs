//! The compiled policy: immutable, looked up without a data-dependent branch per rule.
//!
//! ```text
//! side, proto --> class --> bits over the rows --.
//! src (v4|v6) --> class --> bits over the rows --|
//! dst (v4|v6) --> class --> bits over the rows --+--> AND --> first row --> rule
//! sport       --> class --> bits over the rows --|
//! dport       --> class --> bits over the rows --'
//! ```
//!
//! A row is one clause of one rule, in order of evaluation. A class of a field is a set of values that no row tells
//! apart; it names the bitset of the rows that such a value satisfies. This is the bit-vector scheme of Lakshman and
//! Stiliadis (SIGCOMM 1998), with classes in place of intervals. The last row is the default rule, which every key
//! satisfies, so the AND always has a bit.

use super::rule::{Clause, Direction, Policy};
use super::{Action, Key, RuleId, Severity, Verdict, compile};
use crate::telemetry::Reason;

/// The longest burst that one pass of [`Table::classify`] takes; longer slices take several passes.
pub const BURST: usize = 64;
/// The most rules of a policy, the default rule included.
pub const MAX_RULES: usize = 1 << 20;
/// The most bytes that a table may take: a table beyond this is refused rather than left to exhaust the box.
pub const MAX_BYTES: usize = 1 << 30;

/// Why a policy cannot be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum CompileError {
    /// A policy must end in its default rule.
    #[error("the policy does not end in a rule that matches everything")]
    NoDefault,
    /// More than [`MAX_RULES`].
    #[error("{0} rules, and a policy holds at most {MAX_RULES}")]
    #[diagnostic(help(
        "put addresses that share a rule into a set: a set of any size costs one rule"
    ))]
    TooManyRules(usize),
    /// More than [`MAX_BYTES`].
    #[error("the compiled rules would take more than {} MiB", MAX_BYTES >> 20)]
    #[diagnostic(help(
        "put addresses and ports that share a rule into one rule with a set or a list"
    ))]
    TooLarge,
}

/// What the outside of the table needs to know of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleInfo {
    /// The name.
    pub name: String,
    /// What happens to a frame that matches.
    pub action: Action,
    /// How loud the alert is; `None` for no alert.
    pub alert: Option<Severity>,
}

/// The compiled policy.
#[derive(Clone, Debug)]
pub struct Table {
    /// Indexed by `side * 256 + proto`.
    head: Field<Vec<u32>>,
    src: Field<AddrIndex>,
    dst: Field<AddrIndex>,
    /// Indexed by the number itself, as is `dport`.
    sport: Field<Vec<u32>>,
    dport: Field<Vec<u32>>,
    /// Words of one bitset.
    words: usize,
    /// Row to rule.
    rule_of_row: Vec<RuleId>,
    rules: Vec<RuleInfo>,
    interim: Option<Box<Policy>>,
    verdicts: Vec<Verdict>,
}

/// One field: how a value finds its class, and the bitset of each class, `words` long, one after the other.
#[derive(Clone, Debug)]
pub(super) struct Field<I> {
    pub index: I,
    pub bits: Vec<u64>,
}

/// Address to class, by the start of the interval that holds the address. Both families share the classes.
#[derive(Clone, Debug)]
pub(super) struct AddrIndex {
    pub v4_starts: Vec<u32>,
    pub v4_class: Vec<u32>,
    pub v6_starts: Vec<u128>,
    pub v6_class: Vec<u32>,
}

impl AddrIndex {
    fn class(&self, v6: bool, addr: u128) -> u32 {
        if v6 {
            self.v6_class[interval(&self.v6_starts, addr)]
        } else {
            self.v4_class[interval(&self.v4_starts, addr as u32)]
        }
    }
}

/// The last index whose start is not above `value`. `starts` is sorted, not empty, and begins with 0.
/// The number of steps depends on the length alone, and each is a conditional move.
fn interval<T: Copy + PartialOrd>(starts: &[T], value: T) -> usize {
    let (mut base, mut size) = (0, starts.len());
    while size > 1 {
        let half = size / 2;
        base += half * usize::from(starts[base + half] <= value);
        size -= half;
    }
    base
}

impl<I> Field<I> {
    fn row_bits(&self, class: u32, words: usize) -> &[u64] {
        let start = class as usize * words;
        &self.bits[start..start + words]
    }
}

impl Table {
    /// Compiles a policy.
    ///
    /// # Errors
    /// [`CompileError`] where the policy has too many rules, no default, or would take too much memory.
    pub fn compile(policy: &Policy) -> Result<Table, CompileError> {
        if policy.rules.len() > MAX_RULES {
            return Err(CompileError::TooManyRules(policy.rules.len()));
        }
        let ends = policy
            .rules
            .last()
            .is_some_and(|rule| rule.clauses.iter().any(ends_policy));
        if !ends {
            return Err(CompileError::NoDefault);
        }
        let rows: Vec<_> = policy
            .rules
            .iter()
            .enumerate()
            .flat_map(|(id, rule)| {
                rule.clauses
                    .iter()
                    .map(move |clause| (RuleId(id as u32), clause))
            })
            .collect();
        let clauses: Vec<_> = rows.iter().map(|(_, clause)| *clause).collect();
        let compile::Fields {
            head,
            src,
            dst,
            sport,
            dport,
            words,
        } = compile::fields(&clauses, &policy.sets)?;
        let last = policy.rules.len() - 1;
        let verdict = |(id, action)| match action {
            Action::Allow => Verdict::Forward,
            Action::Drop if id == last => Verdict::Drop(Reason::Default),
            Action::Drop => Verdict::Drop(Reason::Rule),
            Action::Reject => Verdict::Reject(Reason::Rule),
        };
        let plain = |clause: &&Clause| {
            clause.ethertype.is_none()
                && clause.vlan.is_any()
                && clause.src_mac.is_any()
                && clause.tcp_flags.0.is_empty()
                && clause.fragment.is_none()
        };
        Ok(Table {
            interim: (!clauses.iter().all(plain)).then(|| Box::new(policy.clone())),
            head,
            src,
            dst,
            sport,
            dport,
            words,
            rule_of_row: rows.iter().map(|(id, _)| *id).collect(),
            verdicts: policy
                .rules
                .iter()
                .map(|rule| rule.action)
                .enumerate()
                .map(verdict)
                .collect(),
            rules: policy
                .rules
                .iter()
                .map(|rule| RuleInfo {
                    name: rule.name.clone(),
                    action: rule.action,
                    alert: rule.alert,
                })
                .collect(),
        })
    }

    /// The rule that decides each key of a burst: `out[i]` is set for `keys[i]`, as far as both slices reach.
    pub fn classify(&self, keys: &[Key], out: &mut [RuleId]) {
        if self.interim.is_some() {
            for (key, out) in keys.iter().zip(out) {
                *out = self.lookup(key);
            }
            return;
        }
        for (keys, out) in keys.chunks(BURST).zip(out.chunks_mut(BURST)) {
            let mut classes = [[0u32; 5]; BURST];
            for (class, key) in classes.iter_mut().zip(keys) {
                *class = self.classes(key);
            }
            for (out, class) in out.iter_mut().zip(&classes[..keys.len()]) {
                *out = self.first_rule(class);
            }
        }
    }

    /// The rule that decides one key.
    pub fn lookup(&self, key: &Key) -> RuleId {
        if let Some(policy) = &self.interim {
            return super::oracle::evaluate(policy, key);
        }
        self.first_rule(&self.classes(key))
    }

    fn classes(&self, key: &Key) -> [u32; 5] {
        let v6 = key.net == crate::frame::Net::V6;
        [
            self.head.index[key.side as usize * 256 + usize::from(key.proto)],
            self.src.index.class(v6, key.src),
            self.dst.index.class(v6, key.dst),
            self.sport.index[usize::from(key.sport)],
            self.dport.index[usize::from(key.dport)],
        ]
    }

    /// The words are walked from the last to the first and none is left out: the work does not depend on the key.
    fn first_rule(&self, &[head, src, dst, sport, dport]: &[u32; 5]) -> RuleId {
        let words = self.words;
        let (head, src, dst) = (
            self.head.row_bits(head, words),
            self.src.row_bits(src, words),
            self.dst.row_bits(dst, words),
        );
        let (sport, dport) = (
            self.sport.row_bits(sport, words),
            self.dport.row_bits(dport, words),
        );
        let mut first = self.rule_of_row.len() - 1;
        for w in (0..words).rev() {
            let hit = head[w] & src[w] & dst[w] & sport[w] & dport[w];
            let row = w * 64 + (hit.trailing_zeros() & 63) as usize;
            first = if hit != 0 { row } else { first };
        }
        self.rule_of_row[first]
    }

    /// The rules, indexed by [`RuleId`]; the last is the default.
    pub fn rules(&self) -> &[RuleInfo] {
        &self.rules
    }

    /// What a rule does to a frame. An id that this table does not know drops.
    pub fn verdict(&self, rule: RuleId) -> Verdict {
        self.verdicts
            .get(rule.index())
            .copied()
            .unwrap_or(Verdict::Drop(Reason::Rule))
    }

    /// Bytes that the lookup structures take.
    pub fn memory(&self) -> usize {
        let addr = |index: &AddrIndex| {
            size_of_val(&index.v4_starts[..])
                + size_of_val(&index.v4_class[..])
                + size_of_val(&index.v6_starts[..])
                + size_of_val(&index.v6_class[..])
        };
        let direct = [&self.head, &self.sport, &self.dport]
            .map(|field| size_of_val(&field.index[..]) + size_of_val(&field.bits[..]));
        let addrs =
            [&self.src, &self.dst].map(|field| addr(&field.index) + size_of_val(&field.bits[..]));
        direct.iter().chain(&addrs).sum::<usize>() + size_of_val(&self.rule_of_row[..])
    }
}

fn ends_policy(clause: &Clause) -> bool {
    clause.is_any() && clause.direction == Direction::Both
}
