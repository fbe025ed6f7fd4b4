//! The alert file and those that were put aside, oldest first; and what comes after.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The longest line that is read, bytes; a line of ours has a few thousand at most.
const LONGEST: usize = 256 << 10;

/// Device and inode.
type Place = (u64, u64);

/// The files by their common name.
pub(super) struct Files {
    path: PathBuf,
}

impl Files {
    pub fn new(path: PathBuf) -> Files {
        Files { path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives every line, as text, to `each`: of the file put aside first to the one that is being written. Files that were last written
    /// before `since` are passed over. With `follow`, what is needed to go on; the file may then be one that is not there yet.
    pub fn read(
        &self,
        since: Option<SystemTime>,
        follow: bool,
        mut each: impl FnMut(&str),
    ) -> io::Result<Option<Follow>> {
        let mut open = self.open(None)?;
        if open.is_empty() && !follow {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "there is no alert file {}: no gate has run with this config yet, or another config is meant (-c FILE, --file FILE)",
                    self.path.display()
                ),
            ));
        }
        let mut last = None;
        while let Some(mut source) = open.pop() {
            let about = source.file.metadata()?;
            let old = |since| about.modified().is_ok_and(|at| at < since);
            match since.is_some_and(old) {
                true => {
                    source.file.seek(SeekFrom::End(0))?;
                }
                false => source.read(&mut each)?,
            }
            if open.is_empty() && !follow {
                source.end(&mut each);
            }
            last = Some(source);
        }
        let files = Files {
            path: self.path.clone(),
        };
        Ok(follow.then_some(Follow { files, last }))
    }

    /// The newest first, up to the one that is `known`. In this order a rotation meanwhile makes us meet one twice, and miss none.
    fn open(&self, known: Option<Place>) -> io::Result<Vec<Source>> {
        let mut open: Vec<Source> = Vec::new();
        let aside = self.aside()?;
        for path in [&self.path].into_iter().chain(aside.values()) {
            let source = match Source::open(path) {
                Ok(source) => source,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(io::Error::new(e.kind(), format!("{}: {e}", path.display()))),
            };
            if Some(source.place) == known {
                return Ok(open);
            }
            if open.iter().all(|other| other.place != source.place) {
                open.push(source);
            }
        }
        if known.is_some() {
            // The one that was read last is gone: who knows how many of the others were read before it.
            open.truncate(1);
        }
        Ok(open)
    }

    /// `alerts.jsonl.1` and so on, by number.
    fn aside(&self) -> io::Result<BTreeMap<u32, PathBuf>> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let entries = match std::fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(e) => {
                return Err(io::Error::new(
                    e.kind(),
                    format!("{}: {e}", folder.display()),
                ));
            }
        };
        let name = self.path.file_name().unwrap_or_default().as_encoded_bytes();
        let number = |entry: &std::fs::DirEntry| {
            let entry = entry.file_name();
            let number = entry.as_encoded_bytes().strip_prefix(name)?;
            std::str::from_utf8(number.strip_prefix(b".")?)
                .ok()?
                .parse()
                .ok()
        };
        let entries = entries.filter_map(Result::ok);
        Ok(entries
            .filter_map(|entry| Some((number(&entry)?, entry.path())))
            .collect())
    }
}

/// What is read on.
pub(super) struct Follow {
    files: Files,
    last: Option<Source>,
}

impl Follow {
    /// Gives every line that came since to `each`.
    pub fn read(&mut self, mut each: impl FnMut(&str)) -> io::Result<()> {
        if let Some(last) = &mut self.last {
            last.rewind_if_cut()?;
            last.read(&mut each)?;
        }
        let known = self.last.as_ref().map(|last| last.place);
        let there = std::fs::metadata(&self.files.path);
        let place = there.ok().map(|about| (about.dev(), about.ino()));
        if place.is_none() || place == known {
            return Ok(());
        }
        let mut new = self.files.open(known)?;
        if let Some(last) = &mut self.last
            && !new.is_empty()
        {
            // What was written between our reading and its being put aside.
            last.read(&mut each)?;
        }
        while let Some(mut source) = new.pop() {
            source.read(&mut each)?;
            self.last = Some(source);
        }
        Ok(())
    }
}

/// One file, as far as it was read.
struct Source {
    file: File,
    place: Place,
    /// A line that has no end yet.
    rest: Vec<u8>,
    /// That line is longer than any of ours.
    too_long: bool,
}

impl Source {
    fn open(path: &Path) -> io::Result<Source> {
        // Opening a pipe would wait for its writer.
        if !std::fs::metadata(path)?.is_file() {
            let what = "it is not a regular file, so nothing can be read back from it";
            return Err(io::Error::other(what));
        }
        let file = File::open(path)?;
        let about = file.metadata()?;
        Ok(Source {
            file,
            place: (about.dev(), about.ino()),
            rest: Vec::new(),
            too_long: false,
        })
    }

    /// To its end as it is now.
    fn read(&mut self, each: &mut impl FnMut(&str)) -> io::Result<()> {
        let mut bytes = [0; 64 << 10];
        loop {
            let n = match self.file.read(&mut bytes) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            for piece in bytes[..n].split_inclusive(|byte| *byte == b'\n') {
                let (line, ends) = match piece.strip_suffix(b"\n") {
                    Some(line) => (line, true),
                    None => (piece, false),
                };
                if self.rest.len() + line.len() > LONGEST {
                    self.too_long = true;
                    self.rest.clear();
                }
                if !self.too_long {
                    self.rest.extend_from_slice(line);
                }
                if ends {
                    self.line(each);
                }
            }
        }
    }

    fn line(&mut self, each: &mut impl FnMut(&str)) {
        let line = std::mem::take(&mut self.rest);
        match (
            std::mem::take(&mut self.too_long),
            std::str::from_utf8(&line),
        ) {
            (false, Ok(line)) => {
                if !line.trim().is_empty() {
                    each(line);
                }
            }
            // As good as any that is no JSON.
            _ => each("?"),
        }
    }

    /// A last line without an end is one if it is whole, and else being written.
    fn end(&mut self, each: &mut impl FnMut(&str)) {
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&self.rest);
        if whole.is_ok() {
            self.line(each);
        }
    }

    /// A file that was copied and emptied (`copytruncate`) begins anew.
    fn rewind_if_cut(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() < self.file.stream_position()? {
            self.file.rewind()?;
            self.rest.clear();
            self.too_long = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;

    fn files(dir: &Path) -> Files {
        Files::new(dir.join("a.jsonl"))
    }

    fn put(path: PathBuf, text: &str) {
        let mut file = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn more(follow: &mut Follow) -> Vec<String> {
        let mut lines = Vec::new();
        follow.read(|line| lines.push(line.to_owned())).unwrap();
        lines
    }

    #[test]
    fn files_put_aside_are_read_oldest_first_and_others_are_not() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        let mut lines = Vec::new();
        assert!(files.read(None, false, |_| {}).is_err());
        for (name, text) in [
            ("a.jsonl", "7\n\n8"),
            ("a.jsonl.1", "5\n6\n"),
            ("a.jsonl.2", "4\n"),
            ("a.jsonl.10", "1\n2\n3\n"),
            ("a.jsonl.gz", "no\n"),
            ("b.jsonl.1", "no\n"),
        ] {
            fs::write(dir.path().join(name), text).unwrap();
        }
        files
            .read(None, false, |line| lines.push(line.to_owned()))
            .unwrap();
        assert_eq!(lines, ["1", "2", "3", "4", "5", "6", "7", "8"]);
        let later = SystemTime::now() + std::time::Duration::from_secs(9);
        files
            .read(Some(later), false, |line| panic!("{line}"))
            .unwrap();
    }

    #[test]
    fn following_goes_on_across_rotations_deletion_and_truncation_and_waits_for_whole_lines() {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside) = (dir.path().join("a.jsonl"), |n: u32| {
            dir.path().join(format!("a.jsonl.{n}"))
        });
        let mut follow = files(dir.path()).read(None, true, |_| {}).unwrap().unwrap();
        assert!(more(&mut follow).is_empty());
        put(path.clone(), "1\n2");
        assert_eq!(more(&mut follow), ["1"]);
        put(path.clone(), "\n3\n");
        assert_eq!(more(&mut follow), ["2", "3"]);
        // Two rotations between two looks, and a line at the end of the first file.
        put(path.clone(), "4\n");
        fs::rename(&path, aside(2)).unwrap();
        put(aside(1), "5\n");
        put(path.clone(), "6\n");
        assert_eq!(more(&mut follow), ["4", "5", "6"]);
        assert!(more(&mut follow).is_empty());
        fs::write(&path, "").unwrap();
        assert!(more(&mut follow).is_empty());
        put(path.clone(), "7\n");
        assert_eq!(more(&mut follow), ["7"]);
        fs::remove_file(&path).unwrap();
        assert!(more(&mut follow).is_empty());
        put(path, "8\n");
        assert_eq!(more(&mut follow), ["8"]);
    }

    #[test]
    fn a_line_without_an_end_costs_no_more_than_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path());
        fs::write(&files.path, "x".repeat(LONGEST * 4) + "\n1\n\u{fffd}\n").unwrap();
        let mut lines = Vec::new();
        files
            .read(None, false, |line| lines.push(line.to_owned()))
            .unwrap();
        assert_eq!(lines, ["?", "1", "\u{fffd}"]);
        fs::remove_file(&files.path).unwrap();
        fs::create_dir(&files.path).unwrap();
        assert!(files.read(None, false, |_| {}).is_err());
    }
}
