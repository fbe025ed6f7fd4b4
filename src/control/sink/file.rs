//! The alert file, or standard output where none is named.

use super::Failure;
use super::text::json;
use crate::config::sinks::Rotate;
use crate::control::alerts::Line;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The outlet. Files may block for long, so a thread beside the control thread writes; the writer is with it meanwhile.
pub(super) struct File(Option<Writer>);

struct Writer {
    to: Option<Place>,
    /// What is left of the line that a full disk cut.
    rest: Vec<u8>,
}

struct Place {
    path: PathBuf,
    file: std::fs::File,
    /// Device and inode.
    identity: (u64, u64),
    /// Bytes in it; `None` where it is not a regular file, which is never put aside.
    len: Option<u64>,
    rotate: Rotate,
}

impl File {
    /// Opens the file for appending, and makes its folder.
    pub fn open(path: Option<&Path>, rotate: Rotate) -> io::Result<File> {
        let to = path.map(|path| Place::open(path, rotate)).transpose()?;
        let rest = Vec::new();
        Ok(File(Some(Writer { to, rest })))
    }

    pub async fn deliver(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure> {
        let Some(mut writer) = self.0.take() else {
            return Err(Failure::again(0, "the thread that wrote the file ended"));
        };
        let lines = lines.to_vec();
        let written = tokio::task::spawn_blocking(move || {
            let outcome = writer.write(&lines);
            (writer, outcome)
        });
        let (writer, outcome) = written.await.map_err(|e| Failure::again(0, e))?;
        self.0 = Some(writer);
        outcome
    }
}

impl Writer {
    fn write(&mut self, lines: &[Arc<Line>]) -> Result<(), Failure> {
        for (done, line) in lines.iter().enumerate() {
            if self.rest.is_empty() {
                self.rest = json(line).into_bytes();
                self.rest.push(b'\n');
                if let Some(place) = &mut self.to
                    && let Err(e) = place.make_room(self.rest.len() as u64)
                {
                    // The line is made anew when it is tried again.
                    self.rest.clear();
                    return Err(Failure::again(done, e));
                }
            }
            self.write_rest().map_err(|e| Failure::again(done, e))?;
        }
        Ok(())
    }

    /// As much of it as goes in; what was written is not written again.
    fn write_rest(&mut self) -> io::Result<()> {
        while !self.rest.is_empty() {
            let written = match &mut self.to {
                Some(place) => place.file.write(&self.rest),
                None => io::stdout().write(&self.rest),
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    self.rest.drain(..n);
                    if let Some(Place { len: Some(len), .. }) = &mut self.to {
                        *len += n as u64;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        match &self.to {
            Some(_) => Ok(()),
            None => io::stdout().flush(),
        }
    }
}

impl Place {
    fn open(path: &Path, rotate: Rotate) -> io::Result<Place> {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let about = file.metadata()?;
        Ok(Place {
            path: path.to_owned(),
            file,
            identity: (about.dev(), about.ino()),
            len: about.is_file().then_some(about.len()),
            rotate,
        })
    }

    /// Before a line: a file that somebody else has put aside is left, one that is full is put aside.
    fn make_room(&mut self, more: u64) -> io::Result<()> {
        let there = std::fs::metadata(&self.path).map(|about| (about.dev(), about.ino()));
        if there.ok() != Some(self.identity) {
            *self = Place::open(&self.path, self.rotate)?;
        }
        let size = self.rotate.size;
        if self.len.is_some_and(|len| len > 0 && len + more > size) {
            // Where it cannot be put aside, it grows on by as much before that is tried again: better a long file than none.
            self.len = Some(0);
            self.put_aside()
                .map_err(|e| io::Error::new(e.kind(), format!("rotation: {e}")))?;
            *self = Place::open(&self.path, self.rotate)?;
        }
        Ok(())
    }

    /// `alerts.jsonl` becomes `alerts.jsonl.1`, that `.2`, and so on; what would be one too many is overwritten.
    fn put_aside(&self) -> io::Result<()> {
        let numbered = |n: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..self.rotate.keep).rev() {
            match std::fs::rename(numbered(n), numbered(n + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        std::fs::rename(&self.path, numbered(1))
    }
}
