//! What `check` says of a policy that loads: rules that never decide, and empty sets that rules name, each with the
//! places that it is about.

mod cover;
mod never;
mod sets;

use super::error::{Lines, Problem};
use super::{Config, Places};
use crate::policy::judge::{self as policy_judge, Finding};
use crate::policy::{Action, Manners, Origin, Policy, Rule, RuleId};
use std::ops::Range;

/// Problems beyond this are counted and not told one by one.
const MOST: usize = 1000;
/// How many names a message lists.
const NAMES: usize = 3;

/// What is said of a policy.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// In the order of the rules; at most about a thousand, and then one with the count of the rest.
    pub warnings: Vec<Problem>,
    /// Rules that it was too much work to compare with those before them.
    pub undecided: usize,
}

/// Judges the policy of a config. Takes milliseconds for a thousand rules, and a few seconds at most.
pub fn judge(config: &Config) -> Judged {
    let policy = &config.policy;
    let found = policy_judge::judge(policy);
    let text = Text {
        policy,
        places: &config.places,
        lines: Lines::new(&config.source),
        file: config.source.name(),
    };
    let mut warnings = sets::empty(&text, &found.findings);
    let own = found.findings.iter();
    let own = own.filter(|finding| text.rule(finding.rule()).origin != Origin::Builtin);
    let mut left = 0;
    for finding in own {
        if warnings.len() >= MOST {
            left += 1;
            continue;
        }
        match finding {
            Finding::Never { rule, why } => warnings.extend(never::problem(&text, *rule, why)),
            Finding::Covered {
                rule,
                by,
                same_match,
            } => warnings.push(cover::problem(&text, *rule, by, *same_match)),
        }
    }
    warnings.sort_by_key(Problem::offset);
    if left > 0 {
        let message = format!("{left} more rules never decide");
        warnings.push(Problem::of_file(text.file, message).warn());
    }
    warnings.extend(cover::builtin(&text, &found.findings));
    Judged {
        warnings,
        undecided: found.undecided,
    }
}

/// The policy, and where it stands.
struct Text<'c> {
    policy: &'c Policy,
    places: &'c Places,
    lines: Lines,
    file: &'c str,
}

impl Text<'_> {
    fn rule(&self, id: RuleId) -> &Rule {
        &self.policy.rules[id.index()]
    }

    fn name_of(&self, id: RuleId) -> Option<Range<usize>> {
        let place = self.places.rule(&self.rule(id).name);
        place.map(|place| place.name.clone())
    }

    /// A warning at a place, or of the whole file where there is none.
    fn warning(&self, place: Option<Range<usize>>, message: String, label: &str) -> Problem {
        match place {
            Some(span) => self.lines.problem(span, message, label.to_owned()),
            None => Problem::of_file(self.file, message),
        }
        .warn()
    }

    fn and(&self, problem: &mut Problem, place: Option<Range<usize>>, label: &str) {
        if let Some(span) = place.filter(|_| problem.line > 0) {
            self.lines.and(problem, span, label);
        }
    }
}

/// `` `a` ``, `` `a` and `b` ``, `` `a`, `b`, `c` and 4 more ``.
fn names<'a>(list: impl ExactSizeIterator<Item = &'a str>) -> String {
    let len = list.len();
    let shown = if len == NAMES + 1 {
        NAMES - 1
    } else {
        len.min(NAMES)
    };
    let shown: Vec<_> = list.take(shown).map(|name| format!("`{name}`")).collect();
    match (len - shown.len(), &shown[..]) {
        (0, [all @ .., last]) if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        (0, all) => all.join(", "),
        (more, all) => format!("{} and {more} more", all.join(", ")),
    }
}

/// An action as a verb, and how it does that.
fn verb(action: Action) -> (&'static str, String) {
    let verb = match action {
        Action::Allow => "allow",
        Action::Drop => "drop",
        Action::Reject => "reject",
        Action::Decoy(_) => "decoy",
    };
    let how = match action {
        Action::Decoy(Manners::Port) => String::new(),
        Action::Decoy(manners) => format!(" as {}", manners.name()),
        _ => String::new(),
    };
    (verb, how)
}

/// What an action does, for a sentence: `drops`, `decoys as irc`.
fn does(action: Action) -> String {
    let (verb, how) = verb(action);
    format!("{verb}s{how}")
}

/// The same with its object: `drops it`, `decoys it as irc`.
fn does_it(action: Action) -> String {
    let (verb, how) = verb(action);
    format!("{verb}s it{how}")
}

/// The same after "they": `drop`, `decoy as irc`.
fn infinitive(action: Action) -> String {
    let (verb, how) = verb(action);
    format!("{verb}{how}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_makes_a_sentence() {
        let said = |action| (does(action), does_it(action), infinitive(action));
        let three = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(said(Action::Drop), three("drops", "drops it", "drop"));
        let decoy = said(Action::Decoy(Manners::Port));
        assert_eq!(decoy, three("decoys", "decoys it", "decoy"));
        let irc = three("decoys as irc", "decoys it as irc", "decoy as irc");
        assert_eq!(said(Action::Decoy(Manners::Irc)), irc);
    }

    #[test]
    fn a_list_of_names_is_a_phrase_and_stays_short() {
        let phrase = |list: &[&str]| names(list.iter().copied());
        assert_eq!(phrase(&["a"]), "`a`");
        assert_eq!(phrase(&["a", "b"]), "`a` and `b`");
        assert_eq!(phrase(&["a", "b", "c"]), "`a`, `b` and `c`");
        assert_eq!(phrase(&["a", "b", "c", "d"]), "`a`, `b` and 2 more");
        assert_eq!(
            phrase(&["a", "b", "c", "d", "e"]),
            "`a`, `b`, `c` and 2 more"
        );
    }
}
