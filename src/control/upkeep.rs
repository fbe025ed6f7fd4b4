//! The thread that keeps the policy: it ends rules whose time is over and reads the set files that change, away from the workers' cores.

use super::added::{self, Store};
use super::diff::Stopped;
use super::keeper::Keeper;
use super::quarantine::{self, Quarantine};
use super::reload::{self, Reloader, Reloads};
use super::snapshot::Named;
use super::watch::Watch;
use super::windows;
use crate::config::load_set;
use crate::policy::Key;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};

/// A file is read when its folder was quiet for so long: an editor, or a copy, writes in several steps.
const QUIET: Duration = Duration::from_millis(200);
/// And at the latest so long after the first sign of a change.
const LATEST: Duration = Duration::from_millis(600);
/// How often the files are looked at without a sign.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is asked whether the workers have let go of a generation that was replaced.
const SWEEP: Duration = Duration::from_millis(50);

/// What became of one set that comes from a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SetStatus {
    /// Its file.
    pub file: PathBuf,
    /// Addresses, prefixes and ranges in force.
    pub entries: usize,
    /// Changes that were taken since the start.
    pub reloads: u64,
    /// Changes that were not.
    pub errors: u64,
    /// Why the file as it is now is not in force; what was read before it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What `status` and the metrics show of the sets that come from files, by name.
#[derive(Debug, Default)]
pub struct Sets(Mutex<Vec<(String, SetStatus)>>);

impl Sets {
    fn lock(&self) -> MutexGuard<'_, Vec<(String, SetStatus)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As they are now.
    pub fn status(&self) -> Named<SetStatus> {
        Named(self.lock().clone())
    }

    /// By name, whether the file as it is now is not in force.
    pub fn refused(&self) -> Vec<(String, bool)> {
        let sets = self.lock();
        let is = |(name, set): &(String, SetStatus)| (name.clone(), set.error.is_some());
        sets.iter().map(is).collect()
    }

    /// Changes taken, and not taken, since the start.
    pub fn reloads(&self) -> (u64, u64) {
        let sets = self.lock();
        let sum = |of: fn(&SetStatus) -> u64| sets.iter().map(|(_, set)| of(set)).sum();
        (sum(|set| set.reloads), sum(|set| set.errors))
    }
}

/// Commands that may wait for the thread.
const WAITING: usize = 16;

/// Packets that may wait to be explained. Fewer than commands may, so that those about sets find a place.
const EXPLAINING: usize = 4;

/// What can be asked of the thread.
#[derive(Debug)]
pub enum Ask {
    /// About sets, or what becomes of a packet.
    Sets(added::Ask),
    /// About configs, with what was not let through lately.
    Config(reload::Ask, Vec<Stopped>),
    /// About hosts in quarantine.
    Quarantine(quarantine::Ask),
    /// Writes this into a file that is kept.
    Keep(PathBuf, Vec<u8>),
}

/// A command, and where its answer goes.
type Job = (Ask, oneshot::Sender<serde_json::Value>);

/// Where commands are given to the thread.
#[derive(Clone, Debug)]
pub struct Desk {
    jobs: SyncSender<Job>,
    wake: SyncSender<()>,
    explaining: Arc<Semaphore>,
}

impl Desk {
    /// What the policy in force does with a packet. An `error` says why nobody looked; whoever asks and goes leaves its question, and its place is taken until it
    /// was looked at.
    pub async fn explain(&self, key: Key) -> serde_json::Value {
        match Arc::clone(&self.explaining).try_acquire_owned() {
            Ok(seat) => {
                let ask = added::Ask::Explain(Box::new(key), seat);
                self.ask(Ask::Sets(ask)).await
            }
            Err(_) => {
                serde_json::json!({ "error": "too many packets are being explained; try again" })
            }
        }
    }

    /// Leaves something to be done; nobody waits for it. False where too much is asked already, and it is not done.
    pub fn leave(&self, ask: Ask) -> bool {
        let (answer, _) = oneshot::channel();
        let left = self.jobs.try_send((ask, answer)).is_ok();
        if left {
            let _ = self.wake.try_send(());
        }
        left
    }

    /// Does what is asked, on the thread that keeps the policy. An `error` in the answer says why it was not done.
    pub async fn ask(&self, ask: Ask) -> serde_json::Value {
        let (answer, answered) = oneshot::channel();
        if self.jobs.try_send((ask, answer)).is_err() {
            return serde_json::json!({ "error": "too many commands wait already; try again" });
        }
        // A channel that is full wakes it as well.
        let _ = self.wake.try_send(());
        let ended = serde_json::json!({ "error": "the gate is ending" });
        answered.await.unwrap_or(ended)
    }
}

/// The thread. It ends when this is dropped, which does not wait for it: compiling a large policy takes its time.
pub struct Upkeep {
    sets: Arc<Sets>,
    reloads: Arc<Reloads>,
    quarantine: quarantine::Hosts,
    stop: Arc<AtomicBool>,
    desk: Desk,
}

impl Upkeep {
    /// Starts the thread, on the cores of the calling one. The policy was loaded at `loaded`, from the config of `reloader`; `store` is where what commands add is kept.
    ///
    /// # Errors
    /// That there is no thread to be had.
    pub fn start(
        keeper: Keeper,
        store: Store,
        loaded: Instant,
        (reloader, quarantine): (Reloader, Quarantine),
    ) -> std::io::Result<Upkeep> {
        let sets: Arc<Sets> = Arc::default();
        let (reloads, held) = (reloader.reloads(), quarantine.shown());
        let stop = Arc::new(AtomicBool::new(false));
        let (wake, woken) = sync_channel(1);
        let (jobs, asked) = sync_channel(WAITING);
        let mut work = Work {
            keeper,
            store,
            asked,
            loaded,
            reloader,
            quarantine,
            files: Vec::new(),
            sets: Arc::clone(&sets),
            watch: None,
            first: true,
            wake: wake.clone(),
        };
        work.list_files();
        let ending = Arc::clone(&stop);
        std::thread::Builder::new()
            .name("policy".into())
            .spawn(move || work.run(&woken, &ending))?;
        let explaining = Arc::new(Semaphore::new(EXPLAINING));
        let desk = Desk {
            jobs,
            wake,
            explaining,
        };
        Ok(Upkeep {
            sets,
            reloads,
            quarantine: held,
            stop,
            desk,
        })
    }

    /// What became of the sets.
    pub fn sets(&self) -> Arc<Sets> {
        Arc::clone(&self.sets)
    }

    /// Which config is in force, and what became of others.
    pub fn reloads(&self) -> Arc<Reloads> {
        Arc::clone(&self.reloads)
    }

    /// Who is in quarantine.
    pub fn quarantine(&self) -> quarantine::Hosts {
        self.quarantine.clone()
    }

    /// Where commands are given to the thread.
    pub fn desk(&self) -> Desk {
        self.desk.clone()
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        // A channel that is full wakes it as well.
        let _ = self.desk.wake.try_send(());
    }
}

/// What a file that is watched is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Watched {
    /// Of the set at this index, whose status is at this place.
    Set(usize, usize),
    /// The gate's own config.
    Config,
    /// Tests that it names.
    Tests,
}

/// What the thread works on.
struct Work {
    keeper: Keeper,
    store: Store,
    asked: Receiver<Job>,
    loaded: Instant,
    reloader: Reloader,
    quarantine: Quarantine,
    /// What is watched, and where.
    files: Vec<(Watched, PathBuf)>,
    sets: Arc<Sets>,
    watch: Option<Watch>,
    /// The files of this config were not read yet since it was taken: what they hold is what was loaded with it, most likely.
    first: bool,
    wake: SyncSender<()>,
}

impl Work {
    /// Says which files there are to watch, of the policy and the config as they are now. What is known of a set and its file stays known.
    fn list_files(&mut self) {
        let mut known = self.sets.lock();
        let (mut files, mut status) = (Vec::new(), Vec::new());
        for (index, set) in self.keeper.policy().sets.iter().enumerate() {
            let Some(file) = set.file.clone() else {
                continue;
            };
            let before = known
                .iter()
                .find(|(name, set_before)| *name == set.name && set_before.file == file);
            let counts = before.map(|(_, set)| set.clone()).unwrap_or_default();
            files.push((Watched::Set(index, status.len()), file.clone()));
            status.push((
                set.name.clone(),
                SetStatus {
                    file,
                    entries: self.keeper.stated(index).len(),
                    error: None,
                    ..counts
                },
            ));
        }
        *known = status;
        let config = self.reloader.config();
        if config.control.watch {
            files.push((Watched::Config, self.reloader.file().to_owned()));
            let tests = config.test_files.iter().map(|file| file.source.name());
            files.extend(tests.map(|name| (Watched::Tests, PathBuf::from(name))));
        }
        self.files = files;
    }

    /// Watches them, from what they hold now on.
    fn follow_files(&mut self) {
        let paths: Vec<PathBuf> = self.files.iter().map(|(_, path)| path.clone()).collect();
        self.watch = None;
        if paths.is_empty() {
            return;
        }
        let (watch, note) = Watch::new(paths, self.wake.clone());
        if let Some(note) = note {
            eprintln!(
                "portcullis: note: changes of files are seen once a second, not at once: {note}"
            );
        }
        self.watch = Some(watch);
        self.first = true;
    }

    /// The time since the load that times-to-live count from.
    fn age(&self) -> Duration {
        self.loaded.elapsed()
    }

    fn run(mut self, woken: &Receiver<()>, stop: &AtomicBool) {
        self.follow_files();
        let mut signs = Signs::default();
        // Between the load and now a file may have changed.
        signs.seen(Instant::now());
        loop {
            let swept = !self.keeper.sweep();
            let more = self.answer();
            let now = Instant::now();
            if signs.due(now) {
                signs = Signs::default();
                self.read();
            }
            let wait = [
                signs.wait(now).unwrap_or(LOOK),
                if swept { LOOK } else { SWEEP },
                self.until_end().unwrap_or(LOOK),
                self.reloader.left().unwrap_or(LOOK),
                self.quarantine
                    .next_end(seconds())
                    .map_or(LOOK, Duration::from_secs),
                if more { Duration::ZERO } else { LOOK },
            ];
            let wait = wait.into_iter().min().unwrap_or(LOOK);
            match woken.recv_timeout(wait) {
                Ok(()) => signs.seen(Instant::now()),
                Err(RecvTimeoutError::Timeout) => {}
                // The watch has a sender as long as it lives.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(wait),
            }
            if stop.load(Relaxed) {
                return;
            }
            if let Some(watch) = &mut self.watch
                && signs.first.is_none()
                && watch.changed()
            {
                // Not read at once: it may be half written.
                signs.seen(Instant::now());
            }
        }
    }

    /// Until the next rule ends.
    fn until_end(&self) -> Option<Duration> {
        let end = self.keeper.next_end()?;
        Some(end.saturating_sub(self.loaded.elapsed()))
    }

    /// Does what was asked, and ends rules in time however much that is. True where there may be more.
    fn answer(&mut self) -> bool {
        for _ in 0..WAITING {
            self.expire();
            let Ok((ask, to)) = self.asked.try_recv() else {
                return false;
            };
            let answer = match ask {
                Ask::Sets(ask) => {
                    let answer = added::answer(&mut self.keeper, &mut self.store, &ask);
                    added::log(&answer);
                    answer
                }
                Ask::Keep(path, text) => {
                    if let Err(e) = windows::save(&path, &text) {
                        eprintln!("portcullis: warning: {}: {e}", path.display());
                    }
                    serde_json::Value::Null
                }
                Ask::Quarantine(ask) => {
                    let answer = self.quarantine.answer(&mut self.keeper, &ask, seconds());
                    self.quarantine.log(&answer, &ask);
                    answer
                }
                Ask::Config(reload::Ask::Diff { file }, stopped) => {
                    let age = self.age();
                    match self.reloader.diff(&self.keeper, age, &file, stopped) {
                        Ok(found) => {
                            // It takes seconds where there are many flows, and rules end and hosts are cut off meanwhile.
                            let aside = std::thread::Builder::new().name("diff".into());
                            let _ = aside.spawn(move || to.send(found()));
                            continue;
                        }
                        Err(refused) => refused,
                    }
                }
                Ask::Config(ask, _) => {
                    let age = self.age();
                    let answer = self.reloader.answer(&mut self.keeper, age, &ask);
                    self.replaced(&answer);
                    answer
                }
            };
            // Whoever asked may have gone: it is done all the same.
            let _ = to.send(answer);
        }
        true
    }

    /// Follows the files of another config, where there is one.
    fn replaced(&mut self, answer: &serde_json::Value) {
        if answer["error"].is_null() {
            let config = self.reloader.config();
            self.quarantine
                .restate(config.quarantine.clone(), config.hosts.clone());
            self.list_files();
            self.follow_files();
            // Between the reading of them and now they may have changed.
            let _ = self.wake.try_send(());
        }
    }

    fn expire(&mut self) {
        let age = self.age();
        if let Some(answer) = self.reloader.expire(&mut self.keeper, age) {
            self.replaced(&answer);
        }
        for line in self.quarantine.expire(&mut self.keeper, seconds()) {
            eprintln!("portcullis: quarantine: {line}");
        }
        match self.keeper.expire(self.loaded.elapsed()) {
            Ok(ended) => {
                for rule in ended {
                    let rule = self.keeper.policy().rules.get(rule.index());
                    let Some((rule, ttl)) = rule.and_then(|rule| Some((rule, rule.ttl?))) else {
                        continue;
                    };
                    eprintln!(
                        "portcullis: rule `{}`: its time-to-live of {} is over, it matches nothing from now on",
                        rule.name,
                        humantime::format_duration(ttl)
                    );
                }
            }
            Err(e) => {
                eprintln!("portcullis: a rule whose time-to-live is over stays in force: {e}")
            }
        }
    }

    fn read(&mut self) {
        let Some(watch) = &mut self.watch else {
            return;
        };
        let files = &self.files;
        // Those of sets are read here; a config is read as a whole.
        let load = |path: &Path| {
            let is =
                |(what, of): &&(Watched, PathBuf)| matches!(what, Watched::Set(..)) && of == path;
            files.iter().find(is).map(|_| {
                let start = Instant::now();
                (load_set(path), start.elapsed())
            })
        };
        let read = watch.read(load);
        watch.follow();
        let (mut config, mut tests) = (false, false);
        for (at, loaded) in read {
            let Some((what, _)) = self.files.get(at).cloned() else {
                continue;
            };
            let (set, at, (loaded, reading)) = match (what, loaded) {
                (Watched::Set(set, at), Some(loaded)) => (set, at, loaded),
                (Watched::Tests, _) => {
                    tests = true;
                    continue;
                }
                _ => {
                    config = true;
                    continue;
                }
            };
            let start = Instant::now();
            let taken = match loaded {
                Ok(ranges) => {
                    let entries = ranges.len();
                    let replaced = self.keeper.replace_set(set, ranges);
                    replaced
                        .map(|new| (new, entries))
                        .map_err(|refused| refused.to_string())
                }
                Err(e) => Err(e.to_string()),
            };
            self.note(at, taken, [reading, start.elapsed()]);
        }
        if config || (tests && !self.first) {
            let age = self.age();
            let tests = tests && !self.first;
            if let Some(answer) = self.reloader.seen(&mut self.keeper, age, tests) {
                self.replaced(&answer);
            }
        }
        self.first = false;
    }

    /// Books what became of one file, and says it. `taken`: whether the set is a new one, and its entries. `spent` on reading, and on
    /// compiling and swapping.
    fn note(&self, at: usize, taken: Result<(bool, usize), String>, spent: [Duration; 2]) {
        let mut sets = self.sets.lock();
        let Some((name, set)) = sets.get_mut(at) else {
            return;
        };
        let file = set.file.display();
        match taken {
            // As it was, and nothing was wrong with it.
            Ok((false, _)) if set.error.is_none() => {}
            Ok((_, entries)) => {
                set.entries = entries;
                set.reloads += 1;
                set.error = None;
                eprintln!(
                    "portcullis: set @{name}: {file}: {entries} entries in force; read in {} ms, compiled and swapped in {} ms",
                    spent[0].as_millis(),
                    spent[1].as_millis()
                );
            }
            Err(why) => {
                set.errors += 1;
                eprintln!(
                    "portcullis: set @{name}: {file}: not taken, the {} entries read before stay in force: {why}",
                    set.entries
                );
                set.error = Some(why);
            }
        }
    }
}

/// Seconds since the Unix epoch.
fn seconds() -> u64 {
    super::status::now() / 1_000_000_000
}

/// Signs that a file may have changed.
#[derive(Default)]
struct Signs {
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Signs {
    fn seen(&mut self, now: Instant) {
        self.first.get_or_insert(now);
        self.last = Some(now);
    }

    /// How long to wait for more of them; `None` where there was none.
    fn wait(&self, now: Instant) -> Option<Duration> {
        let (first, last) = (self.first?, self.last?);
        let due = (first + LATEST).min(last + QUIET);
        Some(due.saturating_duration_since(now))
    }

    fn due(&self, now: Instant) -> bool {
        self.wait(now).is_some_and(|wait| wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::InForce;
    use std::fs;

    struct Kept {
        dir: tempfile::TempDir,
        in_force: InForce,
        upkeep: Upkeep,
    }

    fn kept(rules: &str, ttl: Option<Duration>) -> Kept {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("partners.txt"), "10.0.0.1\n").unwrap();
        let text = format!(
            "[policy]\nprofile = \"none\"\n[sets]\npartners = {{ file = \"partners.txt\" }}\n{rules}"
        );
        let config = crate::config::parse(&text, "test", dir.path()).unwrap();
        let (mut policy, tests) = (config.policy.clone(), config.tests.clone());
        policy.rules[0].ttl = ttl;
        let keeper = Keeper::new(policy, tests).unwrap();
        let flows = crate::flow::Flows::new(&crate::flow::Settings::of_size(64));
        let settings = config.quarantine.clone();
        let quarantine = Quarantine::new(dir.path(), settings, Vec::new(), Arc::clone(&flows));
        let reloader = Reloader::new(&dir.path().join("none.toml"), config, flows, None);
        Kept {
            in_force: keeper.in_force(),
            upkeep: Upkeep::start(
                keeper,
                Store::new(dir.path()),
                Instant::now(),
                (reloader, quarantine),
            )
            .unwrap(),
            dir,
        }
    }

    const RULE: &str = "[[rule]]\nname = \"p\"\ndst = \"!@partners\"\naction = \"drop\"\n";

    fn until(what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    impl Kept {
        fn write(&self, text: &str) {
            fs::write(self.dir.path().join("partners.txt"), text).unwrap();
        }

        fn set(&self) -> SetStatus {
            self.upkeep.sets().status().get("partners").unwrap().clone()
        }

        fn generation(&self) -> u64 {
            self.in_force.load().number()
        }
    }

    #[test]
    fn a_set_file_that_changes_is_in_force_within_two_seconds() {
        let kept = kept(RULE, None);
        let start = Instant::now();
        kept.write("10.0.0.1\n10.0.0.2\n");
        until("a new generation", || kept.generation() == 2);
        assert!(start.elapsed() < Duration::from_secs(2));
        until("its status", || kept.set().reloads == 1);
        let set = kept.set();
        assert_eq!((set.entries, set.errors, set.error), (2, 0, None));
    }

    #[test]
    fn a_file_that_is_broken_or_gone_leaves_the_old_set_and_says_where_it_is_wrong() {
        let kept = kept(RULE, None);
        kept.write("10.0.0.1\n10.0.0.300\n");
        until("an error", || kept.set().errors == 1);
        let set = kept.set();
        let error = set.error.unwrap();
        assert!(error.contains("partners.txt:2:1"), "{error}");
        assert_eq!((set.entries, kept.generation()), (1, 1));
        fs::remove_file(kept.dir.path().join("partners.txt")).unwrap();
        until("another error", || kept.set().errors == 2);
        assert_eq!((kept.set().entries, kept.generation()), (1, 1));
        // The very same content is no new generation, but the trouble is over.
        kept.write("10.0.0.1\n");
        until("no error", || kept.set().error.is_none());
        assert_eq!((kept.set().reloads, kept.generation()), (1, 1));
        assert_eq!(kept.upkeep.sets().reloads(), (1, 2));
    }

    #[test]
    fn a_rule_ends_by_itself() {
        let kept = kept(RULE, Some(Duration::from_secs(1)));
        assert_eq!(kept.generation(), 1);
        until("the end of the rule", || kept.generation() == 2);
        assert!(kept.in_force.load().rule_expired(crate::policy::RuleId(0)));
    }

    #[test]
    fn a_set_that_fails_the_policy_s_own_tests_is_not_taken() {
        let test = "[[test]]\npacket = { direction = \"out\", proto = \"udp\", src = \"10.77.0.9:1\", dst = \"10.0.0.1:2\" }\n\
            expect = { verdict = \"forward\" }\n";
        let kept = kept(&format!("{RULE}{test}"), None);
        kept.write("# nobody\n");
        until("an error", || kept.set().errors == 1);
        assert!(kept.set().error.unwrap().contains("test"));
        assert_eq!((kept.generation(), kept.set().entries), (1, 1));
    }

    #[test]
    fn a_folder_that_is_never_quiet_does_not_put_a_change_off_for_ever() {
        let start = Instant::now();
        let mut signs = Signs::default();
        assert!(!signs.due(start) && signs.wait(start).is_none());
        let at = |ms| start + Duration::from_millis(ms);
        signs.seen(at(0));
        assert!(!signs.due(at(199)) && signs.due(at(200)));
        for ms in (0..=600).step_by(100) {
            signs.seen(at(ms));
        }
        assert!(signs.due(at(600)));
        assert!(
            !Signs {
                first: Some(at(500)),
                ..signs
            }
            .due(at(601))
        );
    }
}
