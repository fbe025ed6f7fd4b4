//! Offloads that would make a bridge forward something else than what it received: found, switched off, and put back by `detach`.

use super::nic::Nic;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The offloads that must be off on a port, by the kernel's name.
///
/// GRO and LRO merge frames into ones that no wire carried; VLAN stripping takes the tag out of the frame, so it would be judged and forwarded
/// untagged. Segmentation offloads concern what the box's own stack sends, which is nothing here; on the far end of a veth they are for
/// its owner to switch off.
pub const HARMFUL: [&str; 7] = [
    "rx-gro",
    "rx-gro-hw",
    "rx-gro-list",
    "rx-lro",
    "rx-udp-gro-forwarding",
    "rx-vlan-hw-parse",
    "rx-vlan-stag-hw-parse",
];

/// Why a port could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum OffloadError {
    /// An offload is on and may not, or cannot, be switched off from here.
    #[error("{nic}: {} would make it forward other frames than it receives ({why}); run: {command}", names.join(", "))]
    On {
        /// The interface.
        nic: String,
        /// The offloads.
        names: Vec<String>,
        /// Why they are still on.
        why: String,
        /// What to run.
        command: String,
    },
    /// What was changed could not be written down, so `detach` could not put it back.
    #[error("cannot write {path}: {source}", path = path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What happened.
        source: std::io::Error,
    },
}

/// How a port stood before Portcullis touched it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The interface's index, to tell it from a later one of the same name.
    pub index: u32,
    /// It was promiscuous.
    pub promisc: bool,
    /// Offloads that were on.
    pub features: Vec<String>,
}

impl Before {
    /// How `nic` stands now.
    pub fn of(nic: &Nic) -> Before {
        Before {
            index: nic.index,
            promisc: nic.promisc,
            features: harmful(nic),
        }
    }

    /// What an earlier start wrote down for this interface, if it is the same one.
    pub fn load(dir: &Path, nic: &Nic) -> Option<Before> {
        let text = std::fs::read(file(dir, &nic.name)).ok()?;
        let before: Before = serde_json::from_slice(&text).ok()?;
        (before.index == nic.index).then_some(before)
    }

    /// Writes it down for `detach`.
    ///
    /// # Errors
    /// [`OffloadError::State`].
    pub fn store(&self, dir: &Path, nic: &str) -> Result<(), OffloadError> {
        let path = file(dir, nic);
        let text = serde_json::to_vec(self).unwrap_or_default();
        let write = || {
            std::fs::create_dir_all(dir)?;
            let aside = path.with_extension("new");
            std::fs::write(&aside, &text)?;
            std::fs::rename(&aside, &path)
        };
        write().map_err(|source| OffloadError::State {
            path: path.clone(),
            source,
        })
    }

    /// Forgets what was written down.
    pub fn forget(dir: &Path, nic: &str) {
        // Nothing written down is as good as forgotten.
        let _ = std::fs::remove_file(file(dir, nic));
    }
}

fn file(dir: &Path, nic: &str) -> PathBuf {
    dir.join(format!("{nic}.before.json"))
}

/// Those of [`HARMFUL`] that are on.
pub fn harmful(nic: &Nic) -> Vec<String> {
    HARMFUL
        .iter()
        .filter(|name| nic.features.get(**name).is_some_and(|f| f.active))
        .map(|name| name.to_string())
        .collect()
}

/// Switches `names` on or off with ethtool(8); the netlink crate can read features but not set them.
///
/// # Errors
/// [`OffloadError::On`] with the command to run by hand.
pub fn switch(nic: &str, names: &[String], on: bool) -> Result<(), OffloadError> {
    if names.is_empty() {
        return Ok(());
    }
    let arguments = arguments(nic, names, on);
    let failed = |why: String| OffloadError::On {
        nic: nic.to_string(),
        names: names.to_vec(),
        why,
        command: format!("ethtool {}", arguments.join(" ")),
    };
    match Command::new("ethtool").args(&arguments).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(failed(
            String::from_utf8_lossy(&output.stderr)
                .trim()
                .replace('\n', "; "),
        )),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(failed("ethtool is not installed here".into()))
        }
        Err(e) => Err(failed(e.to_string())),
    }
}

/// The arguments of ethtool(8) that switch `names`.
pub fn arguments(nic: &str, names: &[String], on: bool) -> Vec<String> {
    let mut arguments = vec!["-K".to_string(), nic.to_string()];
    for name in names {
        arguments.push(name.clone());
        arguments.push(if on { "on" } else { "off" }.to_string());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::nic::Feature;

    fn nic(features: &[(&str, bool)]) -> Nic {
        Nic {
            name: "eth9".into(),
            index: 7,
            features: features
                .iter()
                .map(|(n, active)| {
                    (
                        n.to_string(),
                        Feature {
                            active: *active,
                            changeable: true,
                        },
                    )
                })
                .collect(),
            ..Nic::default()
        }
    }

    #[test]
    fn only_harmful_offloads_that_are_on_are_named() {
        let nic = nic(&[
            ("rx-gro", true),
            ("rx-lro", false),
            ("tx-checksum-ip-generic", true),
            ("rx-vlan-hw-parse", true),
        ]);
        assert_eq!(harmful(&nic), ["rx-gro", "rx-vlan-hw-parse"]);
        assert_eq!(
            arguments("eth9", &harmful(&nic), false).join(" "),
            "-K eth9 rx-gro off rx-vlan-hw-parse off"
        );
    }

    #[test]
    fn the_state_before_is_kept_for_the_same_interface_only() {
        let dir = tempfile::tempdir().unwrap();
        let mut nic = nic(&[("rx-gro", true)]);
        let before = Before::of(&nic);
        before.store(dir.path(), &nic.name).unwrap();
        assert_eq!(Before::load(dir.path(), &nic), Some(before));
        nic.index = 8;
        assert_eq!(
            Before::load(dir.path(), &nic),
            None,
            "another interface of that name"
        );
        Before::forget(dir.path(), &nic.name);
        nic.index = 7;
        assert_eq!(Before::load(dir.path(), &nic), None);
    }
}
