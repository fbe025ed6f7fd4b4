//! The captures on disk: how much of it they may take, of one host and of all, and that the oldest go first.

use crate::config::evidence::Evidence;
use std::collections::{HashMap, VecDeque};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// How the files of this program end, captures and transcripts; no other file in the folder is touched.
const ENDINGS: [&str; 2] = [CAPTURE, TRANSCRIPT];
const CAPTURE: &str = ".pcapng";
const TRANSCRIPT: &str = ".decoy.txt";
/// Between the parts of a file's name: when, whose, for what.
const BETWEEN: char = '_';

struct Kept {
    name: String,
    bytes: u64,
}

impl Kept {
    fn host(&self) -> &str {
        self.name.split(BETWEEN).nth(1).unwrap_or_default()
    }
}

/// The captures that there are, oldest first.
pub(super) struct Store {
    dir: PathBuf,
    per_host: u64,
    disk: u64,
    kept: VecDeque<Kept>,
    bytes: u64,
    of_host: HashMap<String, u64>,
}

impl Store {
    /// Makes the folder, for its owner alone, and counts what is in it.
    ///
    /// # Errors
    /// That it cannot be made or read.
    pub fn open(settings: &Evidence) -> io::Result<Store> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&settings.dir)?;
        let mut found = Vec::new();
        for entry in std::fs::read_dir(&settings.dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if meta.is_file() && ENDINGS.iter().any(|ending| name.ends_with(ending)) {
                let bytes = meta.len();
                found.push((meta.modified()?, Kept { name, bytes }));
            }
        }
        found.sort_by(|a, b| (a.0, &a.1.name).cmp(&(b.0, &b.1.name)));
        let mut store = Store {
            dir: settings.dir.clone(),
            per_host: settings.per_host,
            disk: settings.disk,
            kept: VecDeque::new(),
            bytes: 0,
            of_host: HashMap::new(),
        };
        for (_, kept) in found {
            store.count(kept);
        }
        Ok(store)
    }

    /// The path of an incident's capture.
    pub fn path(dir: &Path, incident: &str, host: &str, rule: &str) -> PathBuf {
        Store::file(dir, (incident, host, rule), CAPTURE)
    }

    /// The path of the transcript of a conversation, the incident's of this number.
    pub fn transcript(dir: &Path, incident: &str, host: &str, rule: &str, number: u64) -> PathBuf {
        Store::file(
            dir,
            (&format!("{incident}-{number}"), host, rule),
            TRANSCRIPT,
        )
    }

    fn file(dir: &Path, (incident, host, rule): (&str, &str, &str), ending: &str) -> PathBuf {
        // Addresses of IPv6 and MAC addresses have colons, which not every file system takes.
        let host = host.replace([':', BETWEEN], "-");
        let rule = rule.replace(BETWEEN, "-");
        dir.join(format!("{incident}{BETWEEN}{host}{BETWEEN}{rule}{ending}"))
    }

    /// Makes room for a capture of up to `bytes` of the host that is in its name: its own oldest go first, then the oldest of all. `reserved` bytes are for captures that are being
    /// written.
    pub fn make_room(&mut self, path: &Path, bytes: u64, reserved: u64) {
        let new = Kept {
            name: name(path),
            bytes,
        };
        let host = new.host();
        while self
            .of_host
            .get(host)
            .is_some_and(|used| used + bytes > self.per_host)
        {
            let oldest = self.kept.iter().position(|kept| kept.host() == host);
            match oldest {
                Some(at) => self.remove(at),
                None => break,
            }
        }
        while self.bytes + bytes + reserved > self.disk && !self.kept.is_empty() {
            self.remove(0);
        }
    }

    /// A capture that is whole now.
    pub fn add(&mut self, path: &Path) {
        let bytes = std::fs::metadata(path).map_or(0, |meta| meta.len());
        self.count(Kept {
            name: name(path),
            bytes,
        });
    }

    /// Bytes of all captures.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn count(&mut self, kept: Kept) {
        self.bytes += kept.bytes;
        *self.of_host.entry(kept.host().to_owned()).or_default() += kept.bytes;
        self.kept.push_back(kept);
    }

    fn remove(&mut self, at: usize) {
        let Some(kept) = self.kept.remove(at) else {
            return;
        };
        // Whoever has removed it before us has made the room.
        let _ = std::fs::remove_file(self.dir.join(&kept.name));
        self.bytes = self.bytes.saturating_sub(kept.bytes);
        if let Some(used) = self.of_host.get_mut(kept.host()) {
            *used = used.saturating_sub(kept.bytes);
            if *used == 0 {
                self.of_host.remove(kept.host());
            }
        }
    }
}

fn name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(dir: &Path) -> Evidence {
        Evidence {
            per_host: 300,
            disk: 1000,
            ..Evidence::in_dir(dir.to_owned())
        }
    }

    fn write(store: &mut Store, dir: &Path, n: usize, host: &str) -> PathBuf {
        let path = Store::path(dir, &format!("{n:03}"), host, "tftp");
        store.make_room(&path, 100, 0);
        std::fs::write(&path, [0; 100]).unwrap();
        store.add(&path);
        path
    }

    #[test]
    fn a_host_pays_with_its_own_oldest_and_all_with_the_oldest_of_all() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&settings(dir.path())).unwrap();
        let quiet = write(&mut store, dir.path(), 0, "10.77.0.1");
        let loud: Vec<_> = (1..=8)
            .map(|n| write(&mut store, dir.path(), n, "fd77::9"))
            .collect();
        let there = loud.iter().filter(|path| path.exists()).count();
        assert_eq!((there, quiet.exists()), (3, true));
        assert!(loud[7].exists() && !loud[0].exists());
        for n in 10..20 {
            write(&mut store, dir.path(), n, &format!("10.77.0.{n}"));
        }
        assert!(!quiet.exists(), "the oldest of all");
        assert_eq!(store.bytes(), 1000);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 10);
    }

    #[test]
    fn what_was_there_before_the_start_counts_and_other_files_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let mut store = Store::open(&settings(dir.path())).unwrap();
        for n in 0..3 {
            write(&mut store, dir.path(), n, "10.77.0.1");
        }
        std::fs::write(dir.path().join("notes.txt"), [0; 5000]).unwrap();
        let mut store = Store::open(&settings(dir.path())).unwrap();
        assert_eq!(store.bytes(), 300);
        write(&mut store, dir.path(), 3, "10.77.0.1");
        assert_eq!(store.bytes(), 300);
        assert!(dir.path().join("notes.txt").exists());
        let mode = std::fs::metadata(dir.path()).unwrap();
        assert!(mode.is_dir());
    }
}
