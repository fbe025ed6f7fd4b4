//! Incident windows across a restart: who has been told of lately is not told of anew, and what comes counts on.

use super::keep;
use crate::app::safe_text;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Windows that are kept: the latest.
pub const MOST: usize = 10_000;

/// Who, and for what: what alerts by its name, the host's MAC address and address, whether that is IPv6.
pub type Whom = (String, [u8; 6], u128, bool);

/// One open incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// What alerts: a rule, or what a frame or a host is suspicious for.
    pub cause: String,
    /// Of the host.
    pub mac: [u8; 6],
    /// Of the host, in decimal; 0 where it is a lie.
    pub host: String,
    /// The address is one of IPv6.
    pub v6: bool,
    /// What its lines call it.
    pub incident: String,
    /// Nanoseconds since the Unix epoch.
    pub first: u64,
    /// When its last line was written.
    pub line: u64,
    /// Frames that were counted, and those of them that lines have told of.
    pub packets: u64,
    /// See `packets`.
    pub told: u64,
    /// Conversations of a decoy with it: the name of a transcript is never given twice.
    #[serde(default)]
    pub conversations: u64,
}

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    version: u32,
    windows: Vec<Window>,
}

/// Where they are kept in the folder of `[control] state`.
pub fn path(state: &Path) -> PathBuf {
    state.join("incidents.json")
}

/// Those that were kept and whose window was not over at `now`; and what is wrong with the file, if anything is. Nothing depends on it but what is told twice.
pub fn load(path: &Path, now: u64, window: u64) -> (HashMap<Whom, Window>, Option<String>) {
    match keep::kept(path, |kept: &Kept| kept.version) {
        Err(why) => {
            let why = safe_text(why.as_bytes(), 300);
            let told = format!("{}: {why}; incidents begin anew", path.display());
            (HashMap::new(), Some(told))
        }
        Ok(kept) => {
            let live = |held: &Window| held.line <= now && now - held.line < window;
            let name = |held: &str| safe_text(held.as_bytes(), 64) == held;
            let windows = kept
                .windows
                .into_iter()
                .take(MOST)
                .filter(|held| live(held) && name(&held.incident));
            let keyed = windows.filter_map(|held| {
                let whom = (
                    held.cause.clone(),
                    held.mac,
                    held.host.parse().ok()?,
                    held.v6,
                );
                Some((whom, held))
            });
            (keyed.collect(), None)
        }
    }
}

/// The text of the file.
pub fn text(windows: Vec<Window>) -> Vec<u8> {
    serde_json::to_vec(&Kept {
        version: 1,
        windows,
    })
    .unwrap_or_default()
}

/// Writes it.
///
/// # Errors
/// What the file system says.
pub fn save(path: &Path, text: &[u8]) -> std::io::Result<()> {
    keep::write(path, text)
}

/// Writes it for a process of the same kernel to read: it is whole or not there, and gets onto the disk when the kernel likes.
///
/// # Errors
/// What the file system says.
pub fn replace(path: &Path, text: &[u8]) -> std::io::Result<()> {
    keep::replace(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(line: u64, incident: &str) -> Window {
        Window {
            cause: "tftp".into(),
            mac: [2, 0, 0, 0, 0, 9],
            host: line.to_string(),
            v6: false,
            incident: incident.into(),
            first: 1,
            line,
            packets: 7,
            told: 7,
            conversations: 3,
        }
    }

    #[test]
    fn what_was_kept_is_there_again_as_long_as_its_window_lasts_and_nonsense_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = path(dir.path());
        assert_eq!(load(&path, 100, 60), (HashMap::new(), None));
        let all = vec![
            window(50, "a-1"),
            window(39, "a-2"),
            window(101, "a-3"),
            window(60, "\u{1b}[2J"),
        ];
        save(&path, &text(all)).unwrap();
        let (found, wrong) = load(&path, 100, 60);
        let names: Vec<&str> = found.values().map(|held| held.incident.as_str()).collect();
        assert_eq!(
            (names, wrong),
            (vec!["a-1"], None),
            "not over, not of the future, no control character"
        );
        std::fs::write(&path, "{\"version\":1,").unwrap();
        let (found, wrong) = load(&path, 100, 60);
        assert!(found.is_empty() && wrong.unwrap().contains("damaged"));
    }
}
