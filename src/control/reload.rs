//! Another config in the place of the one in force: read and compiled aside, judged by its own tests, and then taken whole, or refused whole.
//!
//! What is in force is always one file. A change of a section that only a start can follow is refused with the rest of its file, and said.

use super::diff::{self, Stopped};
use super::keeper::{Candidate, Keeper, Refused, Times};
use super::status::{ConfigInfo, now};
use crate::config::hosts::Host;
use crate::config::{self, Config, ConfigError, OnFailure, check};
use crate::flow::Flows;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// The longest time that a commit may wait to be confirmed.
pub const LONGEST_CONFIRM: Duration = Duration::from_secs(24 * 3600);
/// Problems of a refused config that an answer holds.
const TOLD: usize = 40;

/// What became of configs since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReloadStatus {
    /// Taken.
    pub taken: u64,
    /// Refused.
    pub refused: u64,
    /// Taken back, because nobody confirmed them or somebody said so.
    pub rolled_back: u64,
    /// Why the last one was refused, where none was taken since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// One that is in force waits to be confirmed until then, seconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirm_until: Option<u64>,
}

/// What everybody may see: which config is in force, and what became of others.
#[derive(Debug, Default)]
pub struct Reloads(Mutex<(ConfigInfo, ReloadStatus)>);

impl Reloads {
    /// The first config is in force.
    pub fn new(config: &Config) -> Reloads {
        Reloads(Mutex::new((
            ConfigInfo::of(config),
            ReloadStatus::default(),
        )))
    }

    fn lock(&self) -> MutexGuard<'_, (ConfigInfo, ReloadStatus)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The config in force.
    pub fn config(&self) -> ConfigInfo {
        self.lock().0.clone()
    }

    /// What became of configs.
    pub fn status(&self) -> ReloadStatus {
        self.lock().1.clone()
    }
}

/// What of a config others than the policy's thread go by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// `[hosts]`.
    pub hosts: Vec<Host>,
    /// `[alerts] window`.
    pub window: Duration,
    /// `[bridge] watchdog` and `on_failure`; `None` where there is no bridge.
    pub failing: Option<(Duration, OnFailure)>,
}

impl Applied {
    fn of(config: &Config) -> Applied {
        let bridge = config.bridge.as_ref();
        Applied {
            hosts: config.hosts.clone(),
            window: config.alerts.window,
            failing: bridge.map(|bridge| (bridge.watchdog, bridge.on_failure)),
        }
    }
}

/// What can be asked about configs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "kebab-case")]
pub enum Ask {
    /// The gate's own file again.
    Reload,
    /// This file, until it is confirmed or `confirm_s` seconds are over; without these, for good.
    Commit {
        /// Absolute.
        file: PathBuf,
        /// Seconds.
        confirm_s: Option<u64>,
    },
    /// What waits to be confirmed stays.
    Confirm,
    /// What waits to be confirmed goes, at once.
    Rollback,
    /// What this file would change.
    Diff {
        /// Absolute.
        file: PathBuf,
    },
}

/// What waits to be confirmed.
struct Pending {
    until: Instant,
    /// What was in force before.
    before: Box<Config>,
    /// How long its rules had left.
    times: Times,
}

/// The config in force, and the way to another.
pub struct Reloader {
    /// The gate's own file, absolute.
    file: PathBuf,
    config: Config,
    pending: Option<Pending>,
    /// A text of the gate's own file that is not in force for a reason: it was taken back, or another file took its place. The file is not read again for that.
    passed_over: Option<Arc<str>>,
    reloads: Arc<Reloads>,
    /// `None` where nobody else goes by the config.
    applied: Option<UnboundedSender<Applied>>,
    /// What is going on.
    flows: Arc<Flows>,
    /// Folders that configs, and what they name, may be read from: those of the config that the gate was started with.
    roots: Vec<PathBuf>,
}

impl Reloader {
    /// `config` is in force, and was read from `file`.
    pub fn new(
        file: &Path,
        config: Config,
        flows: Arc<Flows>,
        applied: Option<UnboundedSender<Applied>>,
    ) -> Reloader {
        Reloader {
            file: std::path::absolute(file).unwrap_or_else(|_| file.to_owned()),
            reloads: Arc::new(Reloads::new(&config)),
            roots: named_files(file, &config)
                .iter()
                .map(|path| folder(path))
                .collect(),
            config,
            pending: None,
            passed_over: None,
            applied,
            flows,
        }
    }

    /// What everybody may see.
    pub fn reloads(&self) -> Arc<Reloads> {
        Arc::clone(&self.reloads)
    }

    /// The gate's own file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// The config in force.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How long what waits to be confirmed has left.
    pub fn left(&self) -> Option<Duration> {
        let until = self.pending.as_ref()?.until;
        Some(until.saturating_duration_since(Instant::now()))
    }

    /// The gate's own file has changed, or one of tests that it names. `None` where that is nothing new, or something waits to be confirmed first.
    pub fn seen(&mut self, keeper: &mut Keeper, age: Duration, tests: bool) -> Option<Value> {
        if self.pending.is_some() {
            return None;
        }
        if let Ok(text) = std::fs::read_to_string(&self.file) {
            let in_force = !tests && text == **self.config.source.inner();
            if in_force || self.passed_over.as_deref() == Some(&*text) {
                return None;
            }
        }
        let file = self.file.clone();
        Some(self.take(keeper, age, &file, None))
    }

    /// Does what was asked; an `error` in the answer says why nothing was done.
    pub fn answer(&mut self, keeper: &mut Keeper, age: Duration, ask: &Ask) -> Value {
        match ask {
            Ask::Reload | Ask::Commit { .. } if self.pending.is_some() => json!({
                "error": "a commit waits to be confirmed: `portcullis commit` keeps it, `portcullis rollback` takes it back"
            }),
            Ask::Reload => {
                let file = self.file.clone();
                self.take(keeper, age, &file, None)
            }
            Ask::Commit { file, confirm_s } => {
                let confirm = confirm_s.map(Duration::from_secs);
                match confirm {
                    Some(time) if time.is_zero() || time > LONGEST_CONFIRM => {
                        json!({ "error": "a commit may wait from a second to a day to be confirmed" })
                    }
                    confirm => self.take(keeper, age, file, confirm),
                }
            }
            Ask::Confirm => self.confirm(),
            Ask::Rollback if self.pending.is_none() => {
                json!({ "error": "nothing waits to be confirmed, so there is nothing to take back" })
            }
            Ask::Rollback => self.roll_back(keeper, age, "as somebody asked"),
            Ask::Diff { .. } => json!({ "error": "a comparison is made aside" }),
        }
    }

    /// Takes back what nobody has confirmed in time. `None` where there is nothing.
    pub fn expire(&mut self, keeper: &mut Keeper, age: Duration) -> Option<Value> {
        match self.left() {
            Some(Duration::ZERO) => {
                Some(self.roll_back(keeper, age, "since nobody confirmed it in time"))
            }
            _ => None,
        }
    }

    fn take(
        &mut self,
        keeper: &mut Keeper,
        age: Duration,
        file: &Path,
        confirm: Option<Duration>,
    ) -> Value {
        let start = Instant::now();
        let prepared = self.prepare(keeper, age, file).and_then(|(config, candidate)| {
            let fixed = only_by_restart(&self.config, &config);
            match fixed.is_empty() {
                true => Ok((config, candidate)),
                false => Err(json!({ "error": format!(
                    "{}: {} cannot change while the gate runs, so nothing of the file was taken; restart it: `systemctl restart portcullis`",
                    file.display(), fixed.join(", ")
                ) })),
            }
        });
        let (config, candidate) = match prepared {
            Ok(prepared) => prepared,
            Err(refused) => {
                let why = refused["error"].as_str().unwrap_or_default();
                eprintln!("portcullis: config not taken, the one before stays in force: {why}");
                let mut guard = self.reloads.lock();
                guard.1.refused += 1;
                guard.1.error = Some(why.to_owned());
                drop(guard);
                return refused;
            }
        };
        let parted: Vec<String> = candidate.parted().map(str::to_owned).collect();
        let rules = config.policy.rules.len() - 1;
        let times = keeper.times();
        keeper.replace(candidate);
        let before = std::mem::replace(&mut self.config, config);
        self.passed_over = None;
        if confirm.is_none() {
            self.pass_over(file);
        }
        let until = confirm.map(|time| {
            self.pending = Some(Pending {
                until: Instant::now() + time,
                before: Box::new(before),
                times,
            });
            now() / 1_000_000_000 + time.as_secs()
        });
        let info = self.in_force();
        {
            let mut guard = self.reloads.lock();
            guard.1.taken += 1;
            guard.1.error = None;
            guard.1.confirm_until = until;
        }
        let generation = keeper.in_force().load().number();
        let spent = start.elapsed().as_millis() as u64;
        let waits = confirm.map_or(String::new(), |time| {
            format!(
                ", for {} unless it is confirmed",
                humantime::format_duration(time)
            )
        });
        eprintln!(
            "portcullis: config {} in force{waits}: {rules} rules, generation {generation}, after {spent} ms",
            file.display()
        );
        for set in &parted {
            eprintln!(
                "portcullis: warning: the config has no set `{set}` any more; what commands have added to it counts again when it has"
            );
        }
        json!({
            "file": file,
            "own_file": self.file,
            "sha256": info.sha256,
            "rules": rules,
            "generation": generation,
            "took_ms": spent,
            "confirm_s": confirm.map(|time| time.as_secs()),
            "sets_gone": parted,
        })
    }

    /// Where another file than the gate's own is in force for good, the text of that is passed over, whether or not somebody installs the other in its place.
    fn pass_over(&mut self, taken: &Path) {
        let same = taken.canonicalize().ok() == self.file.canonicalize().ok();
        let text = std::fs::read_to_string(&self.file).ok();
        self.passed_over = text.filter(|_| !same).map(Arc::from);
    }

    fn confirm(&mut self) -> Value {
        if self.pending.take().is_none() {
            return json!({ "error": "nothing waits to be confirmed" });
        }
        self.reloads.lock().1.confirm_until = None;
        let taken = PathBuf::from(self.config.source.name());
        self.pass_over(&taken);
        let info = self.reloads.config();
        eprintln!("portcullis: config {} confirmed", info.file);
        json!({
            "confirmed": true,
            "file": self.config.source.name(),
            "own_file": self.file,
            "sha256": info.sha256,
        })
    }

    fn roll_back(&mut self, keeper: &mut Keeper, age: Duration, why: &str) -> Value {
        let Some(Pending { before, times, .. }) = self.pending.take() else {
            return Value::Null;
        };
        self.reloads.lock().1.confirm_until = None;
        let mut policy = before.policy.clone();
        // Files of sets go by themselves: what they say now, or said last, is newer than what the config was read with.
        for set in &mut policy.sets {
            let now = keeper
                .policy()
                .sets
                .iter()
                .position(|held| held.name == set.name && held.file == set.file);
            if let (Some(_), Some(now)) = (&set.file, now) {
                set.ranges = keeper.stated(now).to_vec();
            }
        }
        // It has compiled before, and what it did then it does now but for sets that have changed: it is not judged again, since there is nothing else to go back to.
        let tests = before.all_tests().cloned().collect();
        let candidate = keeper.candidate_after(policy, tests, (age, &times), |_, _| Ok(()));
        let candidate = match candidate {
            Ok(candidate) => candidate,
            Err(e) => {
                eprintln!("portcullis: the config before cannot be put into force again: {e}");
                return json!({ "error": format!("the config before cannot be put into force again: {e}") });
            }
        };
        keeper.replace(candidate);
        let gone = std::mem::replace(&mut self.config, *before);
        self.passed_over = Some(Arc::clone(gone.source.inner()));
        self.in_force();
        {
            let mut guard = self.reloads.lock();
            guard.1.rolled_back += 1;
            guard.1.confirm_until = None;
        }
        let generation = keeper.in_force().load().number();
        eprintln!(
            "portcullis: config {} taken back, {why}: the one before is in force again, generation {generation}",
            gone.source.name()
        );
        json!({
            "rolled_back": true,
            "file": gone.source.name(),
            "own_file": self.file,
            "generation": generation,
        })
    }

    /// What a file would change, to be found out on a thread of its own.
    ///
    /// # Errors
    /// The answer, where the file is not one that could be in force.
    pub fn diff(
        &self,
        keeper: &Keeper,
        age: Duration,
        file: &Path,
        stopped: Vec<Stopped>,
    ) -> Result<impl FnOnce() -> Value + Send + 'static, Value> {
        let (config, candidate) = self.prepare(keeper, age, file)?;
        let restart = only_by_restart(&self.config, &config);
        let found = diff::diff(keeper, candidate, Arc::clone(&self.flows), stopped);
        let (file, own) = (file.to_owned(), self.file.clone());
        Ok(move || {
            let mut answer = serde_json::to_value(found()).unwrap_or_default();
            answer["file"] = json!(file);
            answer["own_file"] = json!(own);
            answer["restart"] = json!(restart);
            answer
        })
    }

    /// Reads a config, and compiles and judges its policy. Whoever may ask may not be root: what the gate reads for him is where its own config is.
    fn prepare(
        &self,
        keeper: &Keeper,
        age: Duration,
        file: &Path,
    ) -> Result<(Config, Candidate), Value> {
        let within = |path: &Path| self.roots.iter().any(|root| folder(path).starts_with(root));
        let elsewhere = |path: &Path| {
            json!({ "error": format!(
                "{} is in another folder than the config that the gate was started with and the files that this names; put it there, or restart the gate",
                path.display()
            ) })
        };
        if !within(file) {
            return Err(elsewhere(file));
        }
        let named = config::named_files(file).map_err(|problems| refusal(file, &problems))?;
        if let Some(path) = named.iter().find(|path| !within(path)) {
            return Err(elsewhere(path));
        }
        let config = config::load(file).map_err(|problems| refusal(file, &problems))?;
        let candidate = candidate(keeper, &config, age);
        candidate
            .map(|candidate| (config, candidate))
            .map_err(|refused| json!({ "error": format!("{}: {refused}", file.display()) }))
    }

    /// Tells everybody which config is in force now.
    fn in_force(&self) -> ConfigInfo {
        let info = ConfigInfo::of(&self.config);
        self.reloads.lock().0 = info.clone();
        if let Some(applied) = &self.applied {
            // Whoever went by it may have ended.
            let _ = applied.send(Applied::of(&self.config));
        }
        info
    }
}

/// The files that a config consists of, itself first.
fn named_files(file: &Path, config: &Config) -> Vec<PathBuf> {
    let sets = config.policy.sets.iter().filter_map(|set| set.file.clone());
    let tests = config
        .test_files
        .iter()
        .map(|file| PathBuf::from(file.source.name()));
    std::iter::once(file.to_owned())
        .chain(sets)
        .chain(tests)
        .collect()
}

/// The folder that a file is in, without links on the way.
fn folder(path: &Path) -> PathBuf {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    path.parent().unwrap_or(Path::new("/")).to_owned()
}

/// The policy of a config, compiled and judged by its own tests.
///
/// # Errors
/// [`Refused`].
fn candidate(keeper: &Keeper, config: &Config, age: Duration) -> Result<Candidate, Refused> {
    let tests = config.all_tests().cloned().collect();
    keeper.candidate(config.policy.clone(), tests, age, |policy, table| {
        check::tests(config, policy, table).map_err(|problems| lines(&problems))
    })
}

/// Every problem, a line each.
fn lines(problems: &ConfigError) -> String {
    let told = problems
        .problems
        .iter()
        .take(TOLD)
        .map(config::Problem::one_line);
    let mut lines: Vec<String> = told.collect();
    let more = problems.problems.len().saturating_sub(TOLD);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.join("\n")
}

fn refusal(file: &Path, problems: &ConfigError) -> Value {
    json!({ "error": lines(problems), "problems": problems.problems.len(), "file": file })
}

/// What differs that only a start can follow.
fn only_by_restart(before: &Config, after: &Config) -> Vec<&'static str> {
    // What can change is made the same first.
    let bridge = |config: &Config| {
        config.bridge.clone().map(|bridge| config::Bridge {
            watchdog: Duration::ZERO,
            on_failure: OnFailure::Closed,
            ..bridge
        })
    };
    let alerts = |config: &Config| config::Alerts {
        window: Duration::ZERO,
        ..config.alerts.clone()
    };
    // Their kinds hold what cannot be compared but by its text, which goes nowhere.
    let sinks = |config: &Config| format!("{:?}", config.sinks);
    let control = |config: &Config| config::Control {
        watch: true,
        ..config.control.clone()
    };
    [
        ("[bridge]", bridge(before) != bridge(after)),
        ("[flows]", before.flows != after.flows),
        ("[metrics]", before.metrics != after.metrics),
        ("[inband]", before.inband != after.inband),
        (
            "[alerts] (but for `window`)",
            alerts(before) != alerts(after),
        ),
        ("[evidence]", before.evidence != after.evidence),
        ("[detect]", before.detect != after.detect),
        ("[decoy]", before.decoy != after.decoy),
        ("[[sink]]", sinks(before) != sinks(after)),
        (
            "[control] (but for `watch`)",
            control(before) != control(after),
        ),
    ]
    .into_iter()
    .filter_map(|(section, differs)| differs.then_some(section))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> Config {
        match config::parse(text, "p.toml", Path::new("/")) {
            Ok(config) => config,
            Err(error) => panic!("{text}: {error}"),
        }
    }

    #[test]
    fn a_section_that_only_a_start_can_follow_is_named_and_what_says_the_same_is_not() {
        let inband = "[inband]\naddress = \"10.77.0.2/24\"\nallow = \"10.77.0.0/28\"\n";
        for (before, after, sections) in [
            ("", "", &[][..]),
            ("", inband, &["[inband]"]),
            (inband, "", &["[inband]"]),
            (inband, &format!("{inband}vlan = 10\n"), &["[inband]"]),
            (
                inband,
                &format!("{inband}side = \"lan\"\nport = 9155\n"),
                &[],
            ),
            ("", "[decoy]\nat_most = 9\n", &["[decoy]"]),
            (
                "[decoy]\nname = \"a\"\n",
                "[decoy]\nname = \"b\"\n",
                &["[decoy]"],
            ),
            ("", "[decoy]\nat_most = 64\nsilence = \"20s\"\n", &[]),
            (
                "",
                &format!("[decoy]\nrate = 10\n{inband}"),
                &["[inband]", "[decoy]"],
            ),
            ("", "[metrics]\nlisten = \"off\"\n", &["[metrics]"]),
            ("", "[alerts]\nwindow = \"9s\"\n", &[]),
        ] {
            let found = only_by_restart(&config(before), &config(after));
            assert_eq!(found, sections, "{before:?}, then {after:?}");
        }
    }
}
