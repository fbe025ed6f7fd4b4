//! What is added to an image for one boot. The kernel unpacks archives that lie one behind the other in turn, and a later file takes the place of an earlier
//! one (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use cpio::newc::{Builder, trailer};
use rig::{Error, Result};

/// Bits of a mode that say what it is (stat(2)).
const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;

/// Files, directories and links, in the order in which they are made.
#[derive(Debug, Default)]
pub struct Overlay {
    entries: Vec<(String, u32, Vec<u8>)>,
}

impl Overlay {
    /// A directory; its parent has to be there.
    pub fn directory(&mut self, path: &str) -> &mut Overlay {
        self.add(path, DIRECTORY | 0o755, Vec::new())
    }

    /// A file in a directory that is there.
    pub fn file(&mut self, path: &str, content: impl Into<Vec<u8>>) -> &mut Overlay {
        self.add(path, REGULAR | 0o644, content.into())
    }

    /// A program.
    pub fn program(&mut self, path: &str, content: impl Into<Vec<u8>>) -> &mut Overlay {
        self.add(path, REGULAR | 0o755, content.into())
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, to: &str) -> &mut Overlay {
        self.add(path, LINK | 0o777, to.as_bytes().to_vec())
    }

    fn add(&mut self, path: &str, mode: u32, content: Vec<u8>) -> &mut Overlay {
        self.entries.push((path.to_owned(), mode, content));
        self
    }

    /// Writes `images`, one behind the other, and this behind them, as an initramfs.
    ///
    /// # Errors
    /// That something cannot be read or written.
    pub fn write(&self, images: &[&Path], file: &Path) -> Result<()> {
        let failed = || format!("writing {}", file.display());
        let mut out = File::create(file).map_err(Error::io(failed()))?;
        for image in images {
            let open = File::open(image).map_err(Error::io(format!("reading {}", image.display())));
            io::copy(&mut open?, &mut out).map_err(Error::io(failed()))?;
        }
        self.archive(out).map_err(Error::io(failed()))
    }

    fn archive(&self, mut out: impl Write) -> io::Result<()> {
        let mut archive = Vec::new();
        for (at, (path, mode, content)) in self.entries.iter().enumerate() {
            let size = u32::try_from(content.len()).map_err(io::Error::other)?;
            // Two entries of one inode would be one file.
            let entry = Builder::new(path.trim_start_matches('/'))
                .ino(at as u32 + 1)
                .nlink(1)
                .mode(*mode);
            let mut entry = entry.write(&mut archive, size);
            entry.write_all(content)?;
            entry.finish()?;
        }
        let archive = trailer(archive)?;
        out.write_all(&archive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpio::NewcReader;
    use std::io::Read;

    #[test]
    fn what_was_added_is_read_back_with_its_kind() {
        let mut overlay = Overlay::default();
        overlay
            .directory("/srv/rig")
            .file("/srv/rig/one", "text")
            .program("/init", "#!/bin/sh\n")
            .link("/etc/here", "../there");
        let mut bytes = Vec::new();
        overlay.archive(&mut bytes).unwrap();
        let (mut rest, mut found) = (&bytes[..], Vec::new());
        loop {
            let mut reader = NewcReader::new(rest).unwrap();
            if reader.entry().is_trailer() {
                break;
            }
            let mut text = String::new();
            reader.read_to_string(&mut text).unwrap();
            let entry = reader.entry();
            found.push((entry.name().to_owned(), entry.mode(), text));
            rest = reader.finish().unwrap();
        }
        let entry = |name: &str, mode, text: &str| (name.to_owned(), mode, text.to_owned());
        assert_eq!(
            found,
            [
                entry("srv/rig", 0o040_755, ""),
                entry("srv/rig/one", 0o100_644, "text"),
                entry("init", 0o100_755, "#!/bin/sh\n"),
                entry("etc/here", 0o120_777, "../there"),
            ]
        );
    }
}
