//! The files of sets: seen to change by inotify(7) on their folders, and by a look at each now and then where that says nothing.

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::SyncSender;
use std::time::{Duration, SystemTime};

/// A file changed less than this before it was looked at may change again without a new time stamp, which the kernel takes from its
/// tick (10 ms at most).
const TICK: Duration = Duration::from_millis(50);

/// What tells one content of a file from another, without reading it: device, inode, length, and times of change. `None` where there
/// is no file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(Option<[i64; 7]>);

impl Stamp {
    /// Of what the path leads to, through any symbolic links.
    fn of(path: &Path) -> Stamp {
        let about = std::fs::metadata(path).ok();
        Stamp(about.map(|about| {
            [
                about.dev() as i64,
                about.ino() as i64,
                about.size() as i64,
                about.mtime(),
                about.mtime_nsec(),
                about.ctime(),
                about.ctime_nsec(),
            ]
        }))
    }

    /// Whether a later change would show.
    fn is_settled(&self) -> bool {
        let Some([.., seconds, nanos]) = self.0 else {
            return true;
        };
        let changed = Duration::new(seconds.max(0) as u64, nanos.clamp(0, 999_999_999) as u32);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        // A file from the future is one whose clock differs from ours, as on a network file system.
        now.is_ok_and(|now| now < changed || now - changed > TICK)
    }
}

/// One file that is watched.
struct Watched {
    path: PathBuf,
    /// When it was last read; `None` before that, and where it is to be read again.
    read: Option<Stamp>,
}

/// Device, inode, and time of birth, as an inode is soon used again.
type Place = (u64, u64, Option<SystemTime>);

/// The files of sets, in the order given.
pub struct Watch {
    files: Vec<Watched>,
    /// `None` where there is no inotify to be had; the looks are then all there is.
    watcher: Option<RecommendedWatcher>,
    /// Folders to watch, each with which one it is that is watched under that name.
    folders: BTreeMap<PathBuf, Option<Place>>,
}

impl Watch {
    /// Watches the folders of `files`, so that a file that is renamed into place, deleted and made again, or reached by a symbolic
    /// link that is turned elsewhere is seen too. `wake` is sent to when something has happened there; one that is full is awake.
    ///
    /// The note says why changes are seen late, where they are.
    pub fn new(files: Vec<PathBuf>, wake: SyncSender<()>) -> (Watch, Option<String>) {
        let seen = move |event: Result<Event, notify::Error>| {
            let reading = event.as_ref().is_ok_and(|event| is_reading(&event.kind));
            if !reading {
                let _ = wake.try_send(());
            }
        };
        let (watcher, note) = match notify::recommended_watcher(seen) {
            Ok(watcher) => (Some(watcher), None),
            Err(e) => (None, Some(e.to_string())),
        };
        let watched = |path| Watched { path, read: None };
        let mut watch = Watch {
            files: files.into_iter().map(watched).collect(),
            watcher,
            folders: BTreeMap::new(),
        };
        let failed = watch.follow();
        (watch, note.or(failed))
    }

    /// Watches the folders that are new, or were made again under their old name. Why the last one that failed did.
    pub fn follow(&mut self) -> Option<String> {
        let watcher = self.watcher.as_mut()?;
        let mut wanted = BTreeMap::new();
        for file in &self.files {
            // Where the file is a link, its own folder and that of what it leads to.
            let ends = [Some(file.path.clone()), file.path.canonicalize().ok()];
            for path in ends.into_iter().flatten() {
                let folder = match path.parent() {
                    Some(folder) if !folder.as_os_str().is_empty() => folder,
                    _ => Path::new("."),
                };
                let about = std::fs::metadata(folder).ok();
                let place = about.map(|about| (about.dev(), about.ino(), about.created().ok()));
                wanted.insert(folder.to_path_buf(), place);
            }
        }
        let mut failed = None;
        for (folder, _) in self
            .folders
            .iter()
            .filter(|(f, p)| wanted.get(*f) != Some(p))
        {
            // One that is gone is not watched any more by itself.
            let _ = watcher.unwatch(folder);
        }
        for (folder, place) in &mut wanted {
            if place.is_none() || self.folders.get(folder) == Some(place) {
                continue;
            }
            if let Err(e) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                failed = Some(format!("{}: {e}", folder.display()));
                *place = None;
            }
        }
        self.folders = wanted;
        failed
    }

    /// Whether any file is another than the one that was read.
    pub fn changed(&self) -> bool {
        self.files
            .iter()
            .any(|file| file.read != Some(Stamp::of(&file.path)))
    }

    /// Reads the files that changed: for each, its place in the order given and what `load` made of it. One that changes while it is read
    /// is left for the next time.
    pub fn read<T>(&mut self, mut load: impl FnMut(&Path) -> T) -> Vec<(usize, T)> {
        let mut read = Vec::new();
        for (index, file) in self.files.iter_mut().enumerate() {
            let stamp = Stamp::of(&file.path);
            if file.read == Some(stamp) {
                continue;
            }
            let settled = stamp.is_settled();
            let loaded = load(&file.path);
            if Stamp::of(&file.path) == stamp {
                file.read = settled.then_some(stamp);
                read.push((index, loaded));
            }
        }
        read
    }
}

/// Our own reading, among others.
fn is_reading(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::sync::mpsc::{Receiver, sync_channel};

    struct Folder {
        dir: tempfile::TempDir,
        woken: Receiver<()>,
        watch: Watch,
    }

    /// A folder with the file `set`, read.
    fn folder() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set");
        fs::write(&path, "a").unwrap();
        std::thread::sleep(TICK * 2);
        let (wake, woken) = sync_channel(1);
        let (watch, note) = Watch::new(vec![path], wake);
        assert_eq!(note, None);
        let mut folder = Folder { dir, woken, watch };
        assert_eq!(folder.read(), ["a"]);
        folder
    }

    impl Folder {
        fn read(&mut self) -> Vec<String> {
            let load = |path: &Path| fs::read_to_string(path).unwrap_or("gone".into());
            let read = self.watch.read(load);
            read.into_iter().map(|(_, text)| text).collect()
        }

        /// Waits for the wake-up, then until the stamps are old enough.
        fn seen(&mut self) -> Vec<String> {
            self.woken
                .recv_timeout(Duration::from_secs(5))
                .expect("a wake-up");
            std::thread::sleep(TICK * 2);
            while self.woken.try_recv().is_ok() {}
            assert!(self.watch.changed());
            let read = self.read();
            assert!(!self.watch.changed());
            self.watch.follow();
            read
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }
    }

    #[test]
    fn a_file_that_stays_as_it_is_is_read_once() {
        let mut folder = folder();
        assert!(!folder.watch.changed());
        assert!(folder.read().is_empty());
        let quiet = folder.woken.recv_timeout(Duration::from_millis(100));
        assert!(quiet.is_err(), "reading it wakes nobody");
    }

    #[test]
    fn a_file_that_is_written_renamed_into_place_deleted_or_made_again_is_seen() {
        let mut folder = folder();
        let path = folder.path("set");
        fs::write(&path, "b").unwrap();
        assert_eq!(folder.seen(), ["b"]);
        let new = folder.path("new");
        fs::write(&new, "c").unwrap();
        fs::rename(&new, &path).unwrap();
        assert_eq!(folder.seen(), ["c"]);
        fs::remove_file(&path).unwrap();
        assert_eq!(folder.seen(), ["gone"]);
        fs::write(&path, "d").unwrap();
        assert_eq!(folder.seen(), ["d"]);
    }

    #[test]
    fn a_symbolic_link_that_is_turned_elsewhere_is_seen_and_so_is_what_it_leads_to() {
        let mut folder = folder();
        for name in ["one", "two"] {
            fs::create_dir(folder.path(name)).unwrap();
            fs::write(folder.path(name).join("set"), name).unwrap();
        }
        let (path, link) = (folder.path("set"), folder.path("data"));
        std::os::unix::fs::symlink("one", &link).unwrap();
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("data/set", &path).unwrap();
        assert_eq!(folder.seen(), ["one"]);
        let new = folder.path("new");
        std::os::unix::fs::symlink("two", &new).unwrap();
        fs::rename(&new, &link).unwrap();
        assert_eq!(folder.seen(), ["two"]);
        fs::write(folder.path("two").join("set"), "three").unwrap();
        assert_eq!(folder.seen(), ["three"]);
    }

    #[test]
    fn a_folder_that_is_made_again_is_watched_again() {
        let dir = tempfile::tempdir().unwrap();
        let (inner, path) = (dir.path().join("inner"), dir.path().join("inner/set"));
        fs::create_dir(&inner).unwrap();
        fs::write(&path, "a").unwrap();
        let (wake, woken) = sync_channel(1);
        let (mut watch, _) = Watch::new(vec![path.clone()], wake);
        fs::remove_dir_all(&inner).unwrap();
        fs::create_dir(&inner).unwrap();
        watch.follow();
        while woken.recv_timeout(Duration::from_millis(100)).is_ok() {}
        fs::write(&path, "b").unwrap();
        assert!(woken.recv_timeout(Duration::from_secs(5)).is_ok());
    }

    #[test]
    fn a_change_within_one_tick_of_the_clock_is_not_missed() {
        let mut folder = folder();
        let path = folder.path("set");
        // Same length, same inode: only the clock tells them apart, if it does.
        for text in ["b", "c", "d", "e"] {
            fs::write(&path, text).unwrap();
            assert_eq!(folder.read(), [text]);
        }
    }
}
