//! Root file systems out of Debian packages, as archives for an initramfs, kept from run to run.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rig::{Error, Result};
use sha2::{Digest, Sha256};

use crate::archive::{Archive, alone};

/// Told apart from images that were built another way.
const RECIPE: u32 = 1;

/// How long building one may take.
const LIMIT: Duration = Duration::from_secs(600);

/// What nobody reads in a machine that lives for minutes.
const LEFT_OUT: [&str; 6] = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/i18n",
    "usr/share/fonts",
];

/// A root file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Image {
    /// That of the gate: what a Debian server with systemd has, and what the package of the gate depends on.
    Gate,
    /// That of the machines at the two ends: the clients and servers of the demo.
    Ends,
}

impl Image {
    /// Both.
    pub const ALL: [Image; 2] = [Image::Gate, Image::Ends];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Image::Gate => "gate",
            Image::Ends => "ends",
        }
    }

    /// Its packages, besides those that Debian calls required.
    pub const fn packages(self) -> &'static [&'static str] {
        match self {
            Image::Gate => &[
                "systemd",
                "systemd-sysv",
                "udev",
                "dbus",
                "kmod",
                "procps",
                "iproute2",
                "ethtool",
                "qemu-guest-agent",
            ],
            Image::Ends => &[
                "kmod",
                "procps",
                "iproute2",
                "ethtool",
                "qemu-guest-agent",
                "dnsmasq-base",
                "nginx",
                "ngircd",
                "python3-aiosmtpd",
                "snmpd",
                "samba",
                "iperf3",
                "bind9-dnsutils",
                "curl",
                "ii",
                "snmp",
                "smbclient",
                "iputils-ping",
            ],
        }
    }

    /// Where it is, or will be, below `cache`.
    pub fn file(self, archive: &Archive, cache: &Path) -> PathBuf {
        let key = format!("{RECIPE} {} {:?}", archive.release, self.packages());
        let digest = Sha256::digest(key.as_bytes());
        let key: String = digest
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        cache.join(format!("{}-{}-{key}.cpio", archive.release, self.name()))
    }

    /// Builds it, unless it is there.
    ///
    /// # Errors
    /// What mmdebstrap or cpio says.
    pub fn build(self, archive: &Archive, cache: &Path, step: &dyn Fn(&str)) -> Result<PathBuf> {
        let file = self.file(archive, cache);
        let _alone = alone(cache)?;
        if file.exists() {
            return Ok(file);
        }
        step(&format!(
            "building the image {}: {} and {} packages, once",
            file.display(),
            archive.release,
            self.packages().len()
        ));
        let dir = tempfile::Builder::new()
            .prefix("root-")
            .tempdir_in(cache)
            .map_err(Error::io("making a directory"))?;
        let root = dir.path().join("root");
        let mut command = Command::new("mmdebstrap");
        // Not asked whether the directory is empty, nor told what programs of it would do on this machine.
        command.args(["--quiet", "--variant=minbase", "--skip=check/empty"]);
        command.arg(format!("--include={}", self.packages().join(",")));
        for path in LEFT_OUT {
            command.arg(format!("--dpkgopt=path-exclude=/{path}/*"));
        }
        command.arg(&archive.release).arg(&root);
        command.args(archive.suites.iter().map(|suite| suite.line()));
        rig::must_within(&mut command, "", LIMIT)?;
        let part = file.with_extension("part");
        pack(&root, &part)?;
        std::fs::rename(&part, &file).map_err(Error::io(format!("naming {}", file.display())))?;
        Ok(file)
    }
}

/// Packs a directory as the kernel unpacks it, uncompressed: an emulated processor reads faster than it inflates.
pub fn pack(root: &Path, file: &Path) -> Result<()> {
    let failed = || format!("packing {}", file.display());
    let mut list = Command::new("find")
        .arg(".")
        .arg("-mindepth")
        .arg("1")
        .arg("-print0")
        .current_dir(root)
        .stdout(Stdio::piped())
        .spawn()
        .map_err(Error::io(failed()))?;
    let names = list.stdout.take();
    let out = File::create(file).map_err(Error::io(failed()))?;
    let packed = Command::new("cpio")
        .args([
            "--null",
            "--create",
            "--format=newc",
            "--quiet",
            "--owner=+0:+0",
        ])
        .current_dir(root)
        .stdin(names.map_or_else(Stdio::null, Stdio::from))
        .stdout(out)
        .status()
        .map_err(Error::io(failed()))?;
    let listed = list.wait().map_err(Error::io(failed()))?;
    if packed.success() && listed.success() {
        return Ok(());
    }
    Err(Error::Command {
        command: format!("find | cpio, of {}", root.display()),
        status: format!("{listed}, {packed}"),
        said: String::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_named_by_release_and_packages() {
        let archive = |release: &str| Archive {
            release: release.to_owned(),
            suites: Vec::new(),
        };
        let name = |image: Image, release| image.file(&archive(release), Path::new("c"));
        let gate = name(Image::Gate, "bookworm");
        assert!(
            gate.to_string_lossy().starts_with("c/bookworm-gate-"),
            "{gate:?}"
        );
        assert_eq!(gate, name(Image::Gate, "bookworm"));
        assert_ne!(gate, name(Image::Gate, "trixie"));
        assert_ne!(gate, name(Image::Ends, "bookworm"));
    }
}
