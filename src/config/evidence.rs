//! `[evidence]`: the frames behind an alert.

use super::raw::Reader;
use super::section::Section;
use super::size;
use std::path::PathBuf;

/// How frames are kept as evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The folder of the captures; its files are this program's own.
    pub dir: PathBuf,
    /// Bytes of the last frames of each worker, from before something alerts.
    pub ring: u64,
    /// Bytes of each frame that are recorded.
    pub snap: u32,
    /// Frames of a host that are written after it has alerted.
    pub frames: u32,
    /// Bytes of one capture at most.
    pub file: u64,
    /// Bytes of the captures of one host at most.
    pub per_host: u64,
    /// Bytes of all captures at most.
    pub disk: u64,
}

impl Evidence {
    /// What is kept in this folder where the config says no more.
    pub fn in_dir(dir: PathBuf) -> Evidence {
        Evidence {
            dir,
            ring: 8 << 20,
            snap: 512,
            frames: 200,
            file: 1 << 20,
            per_host: 8 << 20,
            disk: 256 << 20,
        }
    }
}

/// Reads `[evidence]`; `None` keeps none.
pub(super) fn evidence(reader: &mut Reader, section: Option<Section<'_>>) -> Option<Evidence> {
    let mut section = section?;
    let header = section.span.clone();
    let dir = section.take("dir");
    let dir_there = dir.is_some();
    let dir = dir.and_then(|value| reader.path(&value, "dir"));
    let mut kept = Evidence::in_dir(dir.unwrap_or_default());
    for (key, bytes, range) in [
        ("ring", &mut kept.ring, 1 << 20..=1 << 30),
        ("file", &mut kept.file, 64 << 10..=1 << 30),
        ("per_host", &mut kept.per_host, 64 << 10..=1 << 40),
        ("disk", &mut kept.disk, 1 << 20..=1 << 44),
    ] {
        let stated = section.take(key);
        let stated = stated.and_then(|value| size::bytes(reader, &value, key, range));
        *bytes = stated.unwrap_or(*bytes);
    }
    for (key, number, range) in [
        ("snap", &mut kept.snap, 64..=9216),
        ("frames", &mut kept.frames, 1..=100_000),
    ] {
        let stated = section.take(key);
        let stated = stated.and_then(|value| reader.integer(&value, key, range));
        *number = stated.unwrap_or(*number);
    }
    section.finish(reader);
    if kept.file > kept.per_host || kept.per_host > kept.disk {
        let help = "one capture is of one host, and those of one host are a part of all: write `file` <= `per_host` <= `disk`";
        let message = "[evidence]: a part is larger than the whole";
        reader.error(header.clone(), message, "`file`, `per_host`, `disk`", help);
    }
    if !dir_there {
        let help = "add `dir = \"/var/lib/portcullis/evidence\"`, or take [evidence] out: without it no frame is kept";
        reader.error(header, "[evidence] without `dir`", "where to?", help);
        return None;
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn read(text: &str) -> Result<Option<Evidence>, String> {
        crate::config::parse(text, "test", Path::new("/etc"))
            .map(|config| config.evidence)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn no_frame_is_kept_unless_a_folder_is_named() {
        assert_eq!(read("").unwrap(), None);
        assert!(read("[evidence]\nring = \"8MiB\"\n").is_err());
        let kept = read("[evidence]\ndir = \"here\"\n").unwrap().unwrap();
        assert_eq!(kept, Evidence::in_dir("/etc/here".into()));
    }

    #[test]
    fn every_key_is_taken_and_what_cannot_be_is_refused() {
        let text = "[evidence]\ndir = \"/e\"\nring = \"2MiB\"\nsnap = 1514\nframes = 9\nfile = \"64KiB\"\nper_host = \"1MB\"\ndisk = \"5GB\"\n";
        let expected = Evidence {
            dir: "/e".into(),
            ring: 2 << 20,
            snap: 1514,
            frames: 9,
            file: 64 << 10,
            per_host: 1_000_000,
            disk: 5_000_000_000,
        };
        assert_eq!(read(text).unwrap(), Some(expected));
        for wrong in [
            "snap = 63",
            "frames = 0",
            "ring = \"1kB\"",
            "disk = 5",
            "size = 1",
            "file = \"9MiB\"",
            "disk = \"2MiB\"",
        ] {
            assert!(
                read(&format!("[evidence]\ndir = \"/e\"\n{wrong}\n")).is_err(),
                "{wrong}"
            );
        }
    }
}
