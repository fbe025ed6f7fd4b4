//! Files that live across restarts: read within bounds, written whole or not at all.

use serde::de::DeserializeOwned;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The longest file, bytes: twice the most entries of the greatest length.
const LONGEST: u64 = 16 << 20;

/// Of what these files hold.
const VERSION: u32 = 1;

/// Reads a file that was kept. `None` where there is none.
///
/// # Errors
/// Why it is not taken, in words.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    if !file.metadata().is_ok_and(|about| about.is_file()) {
        return Err("it is not a regular file".into());
    }
    let mut bytes = Vec::new();
    let read = file.take(LONGEST + 1).read_to_end(&mut bytes);
    read.map_err(|e| e.to_string())?;
    if bytes.len() as u64 > LONGEST {
        return Err(format!("it is longer than {} MiB", LONGEST >> 20));
    }
    Ok(Some(bytes))
}

/// Reads a file of JSON that says its version. What there is nothing of is empty.
///
/// # Errors
/// Why it is not taken, in words.
pub(super) fn kept<T: DeserializeOwned + Default>(
    path: &Path,
    version: impl Fn(&T) -> u32,
) -> Result<T, String> {
    let Some(bytes) = read(path)? else {
        return Ok(T::default());
    };
    let kept: T = serde_json::from_slice(&bytes).map_err(|e| format!("it is damaged: {e}"))?;
    match version(&kept) {
        VERSION => Ok(kept),
        other => Err(format!(
            "its version is {other}, and this program knows {VERSION}"
        )),
    }
}

/// Writes a file: beside it, onto the disk, then into its place, so that a crash leaves the one or the other and no half. Its folder is made where there is none.
///
/// # Errors
/// What the file system says.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, File::sync_all)
}

/// The same, but for the disk: after a crash of the machine the file may be damaged.
///
/// # Errors
/// What the file system says.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(path, bytes, |_| Ok(()))
}

fn put(path: &Path, bytes: &[u8], sync: fn(&File) -> io::Result<()>) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    // One of its own, so that two that write at once do not write into one.
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let new = path.with_extension(format!("json.{}", COUNT.fetch_add(1, Relaxed) % 2));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    // What somebody has put there to lead elsewhere is not followed.
    options.custom_flags(nix::libc::O_NOFOLLOW);
    let mut file = options.open(&new)?;
    file.write_all(bytes)?;
    sync(&file)?;
    fs::rename(&new, path)?;
    // The new name is on the disk when its folder is.
    sync(&File::open(folder)?)
}
