//! What commands add to sets: asked over the control socket, in force at once, and kept in a file across restarts.

use super::keep;
use super::keeper::Keeper;
use crate::config::{find_set, set_entry};
use crate::policy::{AddrRange, Clause, Key, Term};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::{fs, io};
use tokio::sync::OwnedSemaphorePermit;

/// Entries that commands may have added, in all sets together.
pub const MOST: usize = 65_536;
/// Entries of one command.
pub const MOST_AT_ONCE: usize = 4_096;
/// Entries of the config or of a file that a list shows of one set.
const LISTED: usize = 1_000;
/// The set that is the prefixes of `[lan]`, which other parts go by too.
const LAN: &str = "lan";

/// What can be asked of the sets.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Ask {
    List,
    Add {
        set: String,
        entries: Vec<String>,
    },
    Remove {
        set: String,
        entries: Vec<String>,
    },
    /// With the place that it takes until it is answered.
    Explain(Box<Key>, OwnedSemaphorePermit),
}

/// The file, as it is written.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    /// Entries by set.
    added: BTreeMap<String, Vec<String>>,
}

/// Where the entries are kept.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    /// The file holds what was not taken: it is copied aside before it is written over.
    damaged: bool,
}

impl Store {
    /// `sets.json` in the folder of `[control] state`.
    pub fn new(state: &Path) -> Store {
        Store {
            path: state.join("sets.json"),
            damaged: false,
        }
    }

    /// Puts what was kept into force. What is wrong with the file is told, a line each, and the rest of it is taken: a gate that does not
    /// start protects nobody.
    pub fn restore(&mut self, keeper: &mut Keeper) -> Vec<String> {
        let mut told = Vec::new();
        let kept = match keep::kept(&self.path, |kept: &Kept| kept.version) {
            Ok(kept) => kept,
            Err(why) => {
                told.push(format!(
                    "{why}; nothing of it is taken, the sets are those of the config"
                ));
                Kept::default()
            }
        };
        let mut room = MOST;
        for (name, entries) in &kept.added {
            if let Err(why) = restore(keeper, name, entries, &mut room) {
                told.push(why);
            }
        }
        self.damaged = !told.is_empty();
        let path = self.path.display();
        let aside = self.aside();
        let more = format!(
            "at the next `portcullis sets add` it is copied to {}",
            aside.display()
        );
        let told = told.into_iter();
        told.map(|why| {
            format!(
                "{path}: {}; {more}",
                crate::app::safe_text(why.as_bytes(), 300)
            )
        })
        .collect()
    }

    fn aside(&self) -> PathBuf {
        self.path.with_extension("json.damaged")
    }

    /// Writes what the keeper holds, with `set` at `ranges`: to a file beside it, onto the disk, then into its place, so that a crash
    /// leaves the one or the other and no half.
    fn write(&mut self, keeper: &Keeper, set: usize, ranges: &[AddrRange]) -> io::Result<()> {
        let sets = keeper.policy().sets.iter().enumerate();
        let added = sets.filter_map(|(index, held)| {
            let all = if index == set {
                ranges
            } else {
                keeper.added(index)
            };
            let entries = all.iter().map(ToString::to_string).collect();
            (!all.is_empty()).then(|| (held.name.clone(), entries))
        });
        // Sets that a policy in force does not have for now keep theirs.
        let parted = keeper.parted().iter().map(|(name, ranges)| {
            let entries = ranges.iter().map(ToString::to_string).collect();
            (name.clone(), entries)
        });
        let kept = Kept {
            version: 1,
            added: added.chain(parted).collect(),
        };
        let mut text = serde_json::to_vec_pretty(&kept)?;
        text.push(b'\n');
        if self.damaged {
            fs::copy(&self.path, self.aside())?;
            self.damaged = false;
        }
        keep::write(&self.path, &text)
    }
}

/// One set of the file.
fn restore(
    keeper: &mut Keeper,
    name: &str,
    entries: &[String],
    room: &mut usize,
) -> Result<(), String> {
    let (mut ranges, mut wrong, mut over) = (Vec::new(), Vec::new(), 0);
    let mut seen = HashSet::new();
    let set = settable(keeper, name).map_err(|why| {
        format!(
            "its {} entries of the set {name:?} are ignored: {why}",
            entries.len()
        )
    })?;
    for text in entries {
        match set_entry(text) {
            Ok(range) if seen.contains(&range) => {}
            Ok(_) if ranges.len() >= *room => over += 1,
            Ok(range) => {
                seen.insert(range);
                ranges.push(range);
            }
            Err(why) => wrong.push(why),
        }
    }
    *room -= ranges.len();
    let taken = match ranges.is_empty() {
        true => Ok(()),
        false => keeper.replace_added(set, ranges, |_| Ok(())),
    };
    match (taken, wrong.first()) {
        (Err(why), _) => Err(format!(
            "its {} entries of the set `{name}` are ignored: {why}",
            entries.len()
        )),
        (Ok(()), Some(first)) => Err(format!(
            "{} of its entries of the set `{name}` are ignored, the first: {first}",
            wrong.len() + over
        )),
        (Ok(()), None) if over > 0 => Err(format!(
            "{over} of its entries of the set `{name}` are ignored: {MOST} are the most"
        )),
        (Ok(()), None) => Ok(()),
    }
}

/// The place of a set that commands may change.
fn settable(keeper: &Keeper, name: &str) -> Result<usize, String> {
    let sets = &keeper.policy().sets;
    let index = find_set(sets, name)?;
    match sets.get(index).is_some_and(|set| set.name == LAN) {
        true => Err(
            "the set `lan` is always the prefixes of [lan]; change them in the config and reload it"
                .into(),
        ),
        false => Ok(index),
    }
}

/// Does what was asked, and says what became of it; `error` where it could not be done, and nothing was.
pub fn answer(keeper: &mut Keeper, store: &mut Store, ask: &Ask) -> Value {
    let outcome = match ask {
        Ask::List => Ok(list(keeper, store)),
        Ask::Add { set, entries } => add(keeper, store, set, entries),
        Ask::Remove { set, entries } => remove(keeper, store, set, entries),
        Ask::Explain(key, _) => keeper.explain(key),
    };
    outcome.unwrap_or_else(|error| json!({ "error": error }))
}

/// Says on standard error what a command has changed.
pub fn log(answer: &Value) {
    let words = |key: &str| {
        let all = answer[key].as_array()?;
        let words: Vec<_> = all.iter().take(8).filter_map(Value::as_str).collect();
        let more = if all.len() > 8 { " and more" } else { "" };
        (!all.is_empty()).then(|| format!("{}{more}", words.join(", ")))
    };
    for done in ["added", "removed"] {
        if let (Some(entries), Some(set)) = (words(done), answer["set"].as_str()) {
            let generation = &answer["generation"];
            eprintln!(
                "portcullis: set @{set}: {done} by command: {entries}; generation {generation}"
            );
        }
    }
}

fn list(keeper: &Keeper, store: &Store) -> Value {
    let sets = keeper.policy().sets.iter().enumerate();
    let sets = sets.map(|(index, set)| {
        let stated = keeper.stated(index);
        let first: Vec<_> = stated
            .iter()
            .take(LISTED)
            .map(ToString::to_string)
            .collect();
        let added: Vec<_> = keeper
            .added(index)
            .iter()
            .map(ToString::to_string)
            .collect();
        let about = json!({
            "file": set.file,
            "entries": stated.len(),
            "stated": first,
            "added": added,
            "rules": naming(keeper, index),
        });
        (set.name.clone(), about)
    });
    json!({
        "generation": keeper.in_force().load().number(),
        "kept_in": store.path,
        "sets": serde_json::Map::from_iter(sets),
    })
}

fn ranges(entries: &[String]) -> Result<Vec<AddrRange>, String> {
    if entries.is_empty() {
        return Err("no entry was given".into());
    }
    if entries.len() > MOST_AT_ONCE {
        return Err(format!(
            "{MOST_AT_ONCE} entries at once are the most; a file of the set takes any number"
        ));
    }
    entries.iter().map(|text| set_entry(text)).collect()
}

fn covers(range: &AddrRange, other: &AddrRange) -> bool {
    range.contains(other.family, other.first) && range.contains(other.family, other.last)
}

fn add(
    keeper: &mut Keeper,
    store: &mut Store,
    name: &str,
    entries: &[String],
) -> Result<Value, String> {
    let (set, entries) = (settable(keeper, name)?, ranges(entries)?);
    let mut held = keeper.added(set).to_vec();
    let (mut new, mut already) = (Vec::new(), Vec::new());
    for entry in entries {
        let there = keeper.stated(set).iter().chain(&held);
        match there.into_iter().find(|range| covers(range, &entry)) {
            Some(range) if *range == entry => already.push(entry.to_string()),
            Some(range) => already.push(format!("{entry} (in {range})")),
            None => {
                held.push(entry);
                new.push(entry.to_string());
            }
        }
    }
    let others = (0..keeper.policy().sets.len()).filter(|index| *index != set);
    let all: usize = others.map(|index| keeper.added(index).len()).sum();
    if all + held.len() > MOST {
        return Err(format!(
            "{MOST} entries are the most that commands may add; put them into a file of the set"
        ));
    }
    if !new.is_empty() {
        take(keeper, store, set, held)?;
    }
    Ok(done(
        keeper,
        store,
        set,
        json!({ "added": new, "already": already }),
    ))
}

fn remove(
    keeper: &mut Keeper,
    store: &mut Store,
    name: &str,
    entries: &[String],
) -> Result<Value, String> {
    let (set, entries) = (settable(keeper, name)?, ranges(entries)?);
    let mut held = keeper.added(set).to_vec();
    let mut gone = Vec::new();
    for entry in entries {
        match held.iter().position(|range| *range == entry) {
            Some(at) => {
                held.remove(at);
                gone.push(entry.to_string());
            }
            None if gone.contains(&entry.to_string()) => {}
            None => return Err(not_added(keeper, set, &entry)),
        }
    }
    take(keeper, store, set, held)?;
    Ok(done(keeper, store, set, json!({ "removed": gone })))
}

/// Why an entry cannot be removed, and what to do instead.
fn not_added(keeper: &Keeper, set: usize, entry: &AddrRange) -> String {
    let Some(of) = keeper.policy().sets.get(set) else {
        return String::new();
    };
    let name = &of.name;
    if let Some(range) = keeper.added(set).iter().find(|range| covers(range, entry)) {
        return format!(
            "{entry} was added as part of {range}; remove {range}, and add what shall stay"
        );
    }
    match keeper.stated(set).iter().find(|range| covers(range, entry)) {
        Some(range) => match &of.file {
            Some(file) => format!(
                "{entry} comes from {}; take {range} out of that file, the gate reads it again by itself",
                file.display()
            ),
            None => format!(
                "{entry} comes from the config; take {range} out of `{name}` under [sets] there: `portcullis reload`"
            ),
        },
        None => format!("{entry} is not in the set `{name}`; `portcullis sets list` shows what is"),
    }
}

fn take(
    keeper: &mut Keeper,
    store: &mut Store,
    set: usize,
    held: Vec<AddrRange>,
) -> Result<(), String> {
    // Written when the new policy has passed its tests, and before it is in force.
    let writing = held.clone();
    keeper
        .replace_added(set, held, |keeper| {
            let path = store.path.display().to_string();
            store
                .write(keeper, set, &writing)
                .map_err(|e| format!("{path}: {e}"))
        })
        .map_err(|refused| format!("not taken, the set stays as it was: {refused}"))
}

fn done(keeper: &Keeper, store: &Store, set: usize, what: Value) -> Value {
    let name = keeper.policy().sets.get(set).map(|set| set.name.clone());
    let mut answer = json!({
        "set": name,
        "rules": naming(keeper, set),
        "generation": keeper.in_force().load().number(),
        "kept_in": store.path,
    });
    if let (Value::Object(answer), Value::Object(what)) = (&mut answer, what) {
        answer.extend(what);
    }
    answer
}

/// The rules that name a set.
fn naming(keeper: &Keeper, set: usize) -> Vec<&str> {
    let names = |clause: &Clause| {
        let terms = [&clause.src, &clause.dst].map(|side| side.any_of.iter().chain(&side.none_of));
        terms
            .into_iter()
            .flatten()
            .any(|term| *term == Term::Set(set))
    };
    let rules = keeper.policy().rules.iter();
    rules
        .filter(|rule| rule.clauses.iter().any(names))
        .map(|rule| rule.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "[policy]\nprofile = \"none\"\n[sets]\npartners = [\"10.0.0.0/30\"]\nothers = []\n\
        [[rule]]\nname = \"p\"\ndst = \"!@partners\"\naction = \"drop\"\n\
        [[test]]\npacket = { direction = \"out\", proto = \"udp\", src = \"10.77.0.9:1\", dst = \"10.9.0.1:2\" }\n\
        expect = { verdict = \"drop\" }\n";

    struct Kept {
        dir: tempfile::TempDir,
        keeper: Keeper,
        store: Store,
    }

    fn start(dir: tempfile::TempDir) -> (Kept, Vec<String>) {
        let config = crate::config::parse(TEXT, "test", dir.path()).unwrap();
        let mut keeper = Keeper::new(config.policy, config.tests).unwrap();
        let mut store = Store::new(&dir.path().join("state"));
        let told = store.restore(&mut keeper);
        (Kept { dir, keeper, store }, told)
    }

    fn kept() -> Kept {
        let (kept, told) = start(tempfile::tempdir().unwrap());
        assert!(told.is_empty(), "{told:?}");
        kept
    }

    impl Kept {
        fn ask(&mut self, ask: Ask) -> Value {
            answer(&mut self.keeper, &mut self.store, &ask)
        }

        fn add(&mut self, set: &str, entries: &[&str]) -> Value {
            let entries = entries.iter().map(ToString::to_string).collect();
            self.ask(Ask::Add {
                set: set.into(),
                entries,
            })
        }

        fn remove(&mut self, set: &str, entry: &str) -> Value {
            self.ask(Ask::Remove {
                set: set.into(),
                entries: vec![entry.into()],
            })
        }

        fn generation(&self) -> u64 {
            self.keeper.in_force().load().number()
        }
    }

    #[test]
    fn what_is_added_is_in_force_and_there_again_after_a_restart() {
        let mut kept = kept();
        let answer = kept.add("partners", &["10.1.0.1", "10.0.0.2", "10.0.0.0/30"]);
        assert_eq!(answer["added"], json!(["10.1.0.1"]));
        assert_eq!(
            answer["already"],
            json!(["10.0.0.2 (in 10.0.0.0/30)", "10.0.0.0/30"])
        );
        assert_eq!(
            (&answer["rules"], &answer["generation"]),
            (&json!(["p"]), &json!(2))
        );
        assert_eq!(kept.add("partners", &["10.1.0.1"])["added"], json!([]));
        assert_eq!(kept.generation(), 2, "nothing new, nothing compiled");
        let (mut again, told) = start(kept.dir);
        assert!(told.is_empty(), "{told:?}");
        let list = again.ask(Ask::List);
        assert_eq!(list["sets"]["partners"]["added"], json!(["10.1.0.1"]));
        assert_eq!(list["sets"]["partners"]["stated"], json!(["10.0.0.0/30"]));
        assert_eq!(
            again.remove("partners", "10.1.0.1")["removed"],
            json!(["10.1.0.1"])
        );
        let (again, _) = start(again.dir);
        assert_eq!(again.generation(), 1);
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let mut kept = kept();
        for (answer, words) in [
            (kept.remove("partners", "10.0.0.1"), "comes from the config"),
            (kept.remove("partners", "10.5.0.1"), "is not in the set"),
            (
                kept.add("partner", &["10.5.0.1"]),
                "did you mean `partners`?",
            ),
            (kept.add("partners", &["nine"]), "is not an address"),
            (kept.add("partners", &["10.9.0.0/16"]), "test 1 fails"),
            (kept.add("lan", &["10.9.0.0/16"]), "[lan]"),
            (kept.add("partners", &[]), "no entry"),
            (
                kept.add("partners", &["10.5.0.1"; MOST_AT_ONCE + 1]),
                "at once",
            ),
            (
                kept.add(&"x".repeat(100_000), &["10.5.0.1"]),
                "there is no set",
            ),
            (
                kept.add("partners", &[&"1".repeat(100_000)]),
                "is not an entry",
            ),
        ] {
            let error = answer["error"]
                .as_str()
                .unwrap_or_else(|| panic!("{answer}"));
            assert!(error.contains(words) && error.len() < 600, "{error}");
        }
        assert_eq!(kept.generation(), 1);
        assert!(!kept.store.path.exists());
    }

    #[test]
    fn what_cannot_be_kept_is_not_in_force() {
        let mut kept = kept();
        fs::write(
            kept.dir.path().join("state"),
            "a file where a folder should be",
        )
        .unwrap();
        let answer = kept.add("partners", &["10.1.0.1"]);
        assert!(
            answer["error"].as_str().unwrap().contains("cannot be kept"),
            "{answer}"
        );
        assert_eq!(kept.generation(), 1);
        assert!(
            kept.keeper
                .policy()
                .sets
                .iter()
                .all(|set| set.ranges.len() < 2)
        );
    }

    #[test]
    fn entries_are_bounded() {
        let mut kept = kept();
        // A set that no rule names: this is not about compiling.
        let set = settable(&kept.keeper, "others").unwrap();
        let host = |n: u32| AddrRange::host(std::net::Ipv4Addr::from(n * 2).into());
        let all = (0..MOST as u32 - 1).map(host).collect();
        kept.keeper.replace_added(set, all, |_| Ok(())).unwrap();
        assert_eq!(kept.add("others", &["2001:db8::/32"])["error"], Value::Null);
        let answer = kept.add("partners", &["10.1.0.1"]);
        assert!(
            answer["error"].as_str().unwrap().contains("the most"),
            "{answer}"
        );
        let (again, told) = start(kept.dir);
        assert!(told.is_empty(), "{told:?}");
        assert_eq!(again.generation(), 2);
    }

    #[test]
    fn a_damaged_file_is_told_of_and_what_can_be_read_of_it_is_taken() {
        let damaged = |bytes: &[u8]| {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("state")).unwrap();
            fs::write(dir.path().join("state/sets.json"), bytes).unwrap();
            start(dir)
        };
        for (bytes, words) in [
            (&b"\x00\xff\x1b[2J"[..], "damaged"),
            (b"", "damaged"),
            (b"{\"version\":9,\"added\":{}}", "version is 9"),
            (
                b"{\"version\":1,\"added\":{\"gone\":[\"10.1.0.1\"]}}",
                "there is no set",
            ),
            (
                b"{\"version\":1,\"added\":{\"partners\":[\"10.9.0.1\"]}}",
                "test 1 fails",
            ),
        ] {
            let (kept, told) = damaged(bytes);
            assert_eq!(told.len(), 1, "{told:?}");
            assert!(
                told[0].contains(words) && told[0].contains("sets.json"),
                "{told:?}"
            );
            assert!(told[0].chars().all(|c| !c.is_control()));
            assert_eq!(kept.generation(), 1);
        }
        let half = b"{\"version\":1,\"added\":{\"partners\":[\"10.1.0.1\",\"nine\"],\"lan\":[\"10.1.0.1\"]}}";
        let (mut kept, told) = damaged(half);
        assert_eq!(told.len(), 2, "{told:?}");
        assert_eq!(
            kept.ask(Ask::List)["sets"]["partners"]["added"],
            json!(["10.1.0.1"])
        );
        kept.add("partners", &["10.1.0.2"]);
        assert_eq!(fs::read(kept.store.aside()).unwrap(), half);
    }
}
