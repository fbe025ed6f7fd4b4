//! Where alert lines go.

use super::alerts::Line;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Where lines go: a file, or standard output where none is named.
pub struct Sink {
    file: Option<File>,
    lost: u64,
}

impl Sink {
    /// Opens the file for appending, and makes its folder.
    ///
    /// # Errors
    /// That the file cannot be opened.
    pub fn open(path: Option<&Path>) -> std::io::Result<Sink> {
        let Some(path) = path else {
            return Ok(Sink {
                file: None,
                lost: 0,
            });
        };
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Sink {
            file: Some(file),
            lost: 0,
        })
    }

    /// Writes one line. A full disk is counted; it never stops the gate.
    pub fn write(&mut self, line: &Line) {
        let Ok(mut text) = serde_json::to_vec(line) else {
            return;
        };
        text.push(b'\n');
        let done = match &mut self.file {
            Some(file) => file.write_all(&text),
            None => std::io::stdout().write_all(&text),
        };
        self.lost += u64::from(done.is_err());
    }

    /// Lines that could not be written.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}
