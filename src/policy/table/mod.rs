//! The compiled policy: immutable, looked up without a data-dependent branch per rule.
//!
//! [`plan`] says what it is made of, [`kernel`] how it is looked up.

mod build;
mod coarse;
mod crossed;
mod fields;
mod homes;
mod kernel;
mod pairs;
mod plan;
mod rows;
mod search;
mod split;
mod sweep;

pub use build::Budget;
pub use kernel::{Kernel, Lanes, Registers};

use self::plan::{Form, Plan};
use super::rule::{AppSet, Clause, Direction, Origin, Policy};
use super::{Action, Key, RuleId, Severity, Verdict};
use crate::telemetry::Reason;

/// The most rules of a policy, the default rule included.
pub const MAX_RULES: usize = 1 << 20;
/// The most bytes that a table may take: a table beyond this is refused rather than left to exhaust the box.
pub const MAX_BYTES: usize = 1 << 30;
/// The bounds of [`Table::compile`].
pub const BUDGET: Budget = Budget {
    most: MAX_BYTES,
    dense: 64 << 20,
    few: 1024,
    whole: 30_000,
    lists: false,
    pairs: 1 << 19,
};

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
    /// The gate was started with fewer names.
    #[error(
        "with these the gate has seen more than {0} names of rules since its start, and has room for no more"
    )]
    #[diagnostic(help("restart it: `systemctl restart portcullis`"))]
    NoSlot(usize),
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
    /// Its alerts go by MAC address alone.
    pub by_mac: bool,
    /// How long a host that it alerts on is put in quarantine; `None` for not.
    pub quarantine: Option<std::time::Duration>,
    /// Where it comes from.
    pub origin: Origin,
}

impl RuleInfo {
    /// That of a rule.
    pub fn of(rule: &super::Rule) -> RuleInfo {
        RuleInfo {
            name: rule.name.clone(),
            action: rule.action,
            alert: rule.alert,
            by_mac: rule.by_mac,
            quarantine: rule.quarantine,
            origin: rule.origin,
        }
    }
}

/// The compiled policy.
#[derive(Clone)]
pub struct Table {
    /// Of the clauses that do not ask what the payload is: all that there is to know when a flow opens.
    plan: Plan,
    /// Of those that do; `None` where there is none. Asked once for a flow, so that a rule on an application costs the others nothing.
    apps: Option<Plan>,
    kernel: Kernel,
    rules: Vec<RuleInfo>,
    verdicts: Vec<Verdict>,
}

impl Table {
    /// Compiles a policy, for the best kernel that this processor can run.
    ///
    /// # Errors
    /// [`CompileError`] where the policy has too many rules, no default, or would take too much memory.
    pub fn compile(policy: &Policy) -> Result<Table, CompileError> {
        Table::compile_within(policy, BUDGET)
    }

    /// [`Table::compile`] with bounds of one's own; [`MAX_BYTES`] bounds them in any case.
    ///
    /// # Errors
    /// As [`Table::compile`].
    pub fn compile_within(policy: &Policy, budget: Budget) -> Result<Table, CompileError> {
        // Numbers in the table are as wide as this needs.
        let budget = Budget {
            most: budget.most.min(MAX_BYTES),
            ..budget
        };
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
        let (mut rows, mut rule_of_row) = (Vec::new(), Vec::new());
        for (id, rule) in policy.rules.iter().enumerate() {
            rows.extend(rule.clauses.iter().filter(|clause| clause.app.is_none()));
            rule_of_row.resize(rows.len(), RuleId(id as u32));
        }
        let last = policy.rules.len() - 1;
        let plan = build::build(&rows, &rule_of_row, &policy.sets, budget)?;
        let budget = Budget {
            most: budget.most.saturating_sub(plan.memory()),
            ..budget
        };
        let verdict = |(id, action)| match action {
            Action::Allow => Verdict::Forward,
            Action::Drop if id == last => Verdict::Drop(Reason::Default),
            Action::Drop => Verdict::Drop(Reason::Rule),
            Action::Reject => Verdict::Reject(Reason::Rule),
            Action::Decoy(manners) => Verdict::Decoy(manners),
        };
        let actions = policy.rules.iter().map(|rule| rule.action);
        Ok(Table {
            plan,
            apps: apps(policy, budget)?,
            kernel: Kernel::best(),
            rules: policy.rules.iter().map(RuleInfo::of).collect(),
            verdicts: actions.enumerate().map(verdict).collect(),
        })
    }

    /// The same table for another kernel; `None` where this processor cannot run it.
    pub fn with_kernel(&self, kernel: Kernel) -> Option<Table> {
        if !Kernel::available().contains(&kernel) {
            return None;
        }
        let mut table = Table {
            kernel,
            ..self.clone()
        };
        for plan in std::iter::once(&mut table.plan).chain(&mut table.apps) {
            plan.src.with_root(|ends| kernel.root(ends));
            plan.dst.with_root(|ends| kernel.root(ends));
        }
        Some(table)
    }

    /// The rule that decides each key of a burst: `out[i]` is set for `keys[i]`, as far as both slices reach.
    pub fn classify(&self, keys: &[Key], out: &mut [RuleId]) {
        kernel::classify(&self.plan, self.kernel, keys, out);
        if self.apps.is_some() && keys.iter().fold(0, |any, key| any | key.app) != 0 {
            for (key, rule) in keys.iter().zip(out).filter(|(key, _)| key.app != 0) {
                *rule = (*rule).min(self.of_app(key));
            }
        }
    }

    /// Whether there is a rule that asks what the payload is.
    #[inline]
    pub fn names_apps(&self) -> bool {
        self.apps.is_some()
    }

    /// The first rule with a clause on the application that matches; the last rule where none does.
    fn of_app(&self, key: &Key) -> RuleId {
        let mut rule = [RuleId(self.rules.len().saturating_sub(1) as u32)];
        if let Some(plan) = &self.apps {
            kernel::classify(plan, self.kernel, std::slice::from_ref(key), &mut rule);
        }
        rule[0]
    }

    /// The first rule with a clause on the application that each key matches, whatever it asks the payload to be; the last rule where none does. The keys have the application
    /// [`AppSet::ANY`]; `out` is as long.
    pub fn classify_any(&self, keys: &[Key], out: &mut [RuleId]) {
        let last = RuleId(self.rules.len().saturating_sub(1) as u32);
        match &self.apps {
            Some(plan) => kernel::classify(plan, self.kernel, keys, out),
            None => out.fill(last),
        }
    }

    /// [`Table::classify_any`] of one key, whatever its application.
    pub fn any(&self, key: &Key) -> RuleId {
        self.of_app(&Key {
            app: AppSet::ANY,
            ..*key
        })
    }

    /// The same of rules that let through alone.
    pub fn any_that_permits(&self, key: &Key) -> RuleId {
        self.of_app(&Key {
            app: AppSet::PERMITTED,
            ..*key
        })
    }

    /// The rule that decides one key.
    pub fn lookup(&self, key: &Key) -> RuleId {
        let mut rule = [RuleId(0)];
        self.classify(std::slice::from_ref(key), &mut rule);
        rule[0]
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
        self.plan.memory() + self.apps.as_ref().map_or(0, Plan::memory)
    }

    /// What the compiler chose.
    pub fn shape(&self) -> Shape {
        let plan = &self.plan;
        Shape {
            kernel: self.kernel.name(),
            wide_rows: plan.wide_rows,
            words: plan.words,
            aggregated: plan.form == Form::Aggregated,
            chunks: plan.chunks.len().max(plan.sieves.len()) - 1,
            rows_in_a_chunk: if plan.mode & plan::mode::SIFTED == 0 {
                plan::LANES
            } else {
                plan::SIEVE_LANES
            },
            homes: plan.homes,
            crossed: plan.crossed.rows,
            separators: plan.nodes.len() - 1,
        }
    }
}

/// How a table is laid out: see [`plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The kernel that looks up.
    pub kernel: &'static str,
    /// Rows that are kept in bitsets.
    pub wide_rows: usize,
    /// 64-bit words of one bitset.
    pub words: usize,
    /// Whether the bitsets are kept in the smaller, aggregated form.
    pub aggregated: bool,
    /// Chunks of rows in lists.
    pub chunks: usize,
    /// How many rows a chunk has at most.
    pub rows_in_a_chunk: usize,
    /// Whether there are lists by source address, destination address, source port, destination port, both addresses.
    pub homes: [bool; 5],
    /// Rows that are answered ahead.
    pub crossed: usize,
    /// Lists that are taken apart by separators.
    pub separators: usize,
}

impl std::fmt::Debug for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("rules", &self.rules.len())
            .field("shape", &self.shape())
            .field("bytes", &self.memory())
            .finish()
    }
}

/// The rows that ask for an application, and the end of the policy for what none of them matches.
fn apps(policy: &Policy, budget: Budget) -> Result<Option<Plan>, CompileError> {
    let (mut rows, mut rule_of_row) = (Vec::new(), Vec::new());
    for (id, rule) in policy.rules.iter().enumerate() {
        for clause in &rule.clauses {
            let app = match (clause.app, rule.action) {
                (None, _) => continue,
                (Some(apps), Action::Allow) => apps.with(AppSet::PERMITTED),
                (Some(apps), _) => apps,
            };
            rows.push(Clause {
                app: Some(app),
                ..clause.clone()
            });
            rule_of_row.push(RuleId(id as u32));
        }
    }
    if rows.is_empty() {
        return Ok(None);
    }
    rows.push(Clause::any(Direction::Both));
    rule_of_row.push(RuleId(policy.rules.len() as u32 - 1));
    let rows: Vec<_> = rows.iter().collect();
    build::build(&rows, &rule_of_row, &policy.sets, budget).map(Some)
}

fn ends_policy(clause: &Clause) -> bool {
    clause.is_any() && clause.direction == Direction::Both
}
