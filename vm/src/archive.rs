//! Debian packages: from the archive that this machine uses, by apt with lists of its own. What apt has set up here stays as it is.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rig::{Error, Result};

/// How long apt may take for one step.
const LIMIT: Duration = Duration::from_secs(300);

/// The keys of Debian's archive, of the package debian-archive-keyring.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// One suite of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suite {
    /// Where the archive is.
    uri: String,
    /// Its name: `bookworm`, `bookworm-security`.
    name: String,
}

impl Suite {
    /// As a line of sources.list(5).
    pub fn line(&self) -> String {
        format!("deb [signed-by={KEYS}] {} {} main", self.uri, self.name)
    }
}

/// The suites of Debian that this machine has, that of its release first.
#[derive(Clone, Debug)]
pub struct Archive {
    /// The release: `bookworm`.
    pub release: String,
    /// What apt has of it here.
    pub suites: Vec<Suite>,
}

impl Archive {
    /// Asks apt, and os-release(5).
    ///
    /// # Errors
    /// That this is no Debian, or that apt knows no suite of its release.
    pub fn of_this_machine() -> Result<Archive> {
        let text = std::fs::read_to_string("/etc/os-release")
            .map_err(Error::io("reading /etc/os-release"))?;
        let release = text
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .map(|name| name.trim_matches('"').to_owned())
            .ok_or_else(|| {
                refused("this is no Debian that names its release in /etc/os-release")
            })?;
        let targets = rig::must(
            Command::new("apt-get").args([
                "indextargets",
                "--format",
                "$(ORIGIN) $(REPO_URI) $(CODENAME) $(COMPONENT)",
                "Created-By: Packages",
            ]),
            "",
        )?;
        let suites = suites(&targets, &release);
        if suites.is_empty() {
            return Err(refused(&format!(
                "apt knows no Debian suite {release}: apt-get update, and look at /etc/apt/sources.list.d"
            )));
        }
        Ok(Archive { release, suites })
    }

    /// Another suite of the archive that has the release itself.
    fn other(&self, name: &str) -> Option<Suite> {
        let main = self.suites.first()?;
        Some(Suite {
            uri: main.uri.clone(),
            name: name.to_owned(),
        })
    }
}

/// Reads what `apt-get indextargets` says: origin, URI, code name, component.
fn suites(targets: &str, release: &str) -> Vec<Suite> {
    let mut suites: Vec<Suite> = Vec::new();
    for line in targets.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["Debian", uri, name, "main"] = words[..] else {
            continue;
        };
        let ours = name == release
            || name
                .strip_prefix(release)
                .is_some_and(|rest| rest == "-updates" || rest == "-security");
        let suite = Suite {
            uri: uri.to_owned(),
            name: name.to_owned(),
        };
        if ours && !suites.contains(&suite) {
            suites.push(suite);
        }
    }
    suites.sort_by_key(|suite| suite.name.len());
    suites
}

/// apt with lists and a cache in a directory of its own.
#[derive(Debug)]
pub struct Apt {
    dir: PathBuf,
}

impl Apt {
    /// Fetches the lists of these suites of `archive` into `dir`.
    ///
    /// # Errors
    /// What apt says: that the archive does not have them, or is out of reach.
    pub fn with(archive: &Archive, suites: &[&str], dir: &Path) -> Result<Apt> {
        for name in ["lists/partial", "cache/archives/partial"] {
            make(&dir.join(name))?;
        }
        let lines: Vec<String> = suites
            .iter()
            .filter_map(|name| archive.other(name))
            .map(|suite| suite.line() + "\n")
            .collect();
        write(&dir.join("sources.list"), &lines.concat())?;
        let apt = Apt {
            dir: dir.to_owned(),
        };
        apt.run("apt-get", &["-qq", "update"], dir)?;
        Ok(apt)
    }

    /// The packages that the newest `package` of `suite` depends on.
    ///
    /// # Errors
    /// What apt says.
    pub fn depends(&self, package: &str, suite: &str) -> Result<Vec<String>> {
        let said = self.run(
            "apt-cache",
            &["depends", &format!("{package}/{suite}")],
            &self.dir,
        )?;
        Ok(depends(&said))
    }

    /// Downloads packages, each written as for apt-get(8) `NAME` or `NAME/SUITE`, into `into`.
    ///
    /// # Errors
    /// What apt says.
    pub fn download(&self, packages: &[String], into: &Path) -> Result<()> {
        make(into)?;
        let words: Vec<&str> = ["-qq", "download"]
            .into_iter()
            .chain(packages.iter().map(String::as_str))
            .collect();
        self.run("apt-get", &words, into).map(drop)
    }

    fn run(&self, program: &str, words: &[&str], at: &Path) -> Result<String> {
        let dir = self.dir.display();
        let mut command = Command::new(program);
        command.current_dir(at);
        for option in [
            format!("Dir::Etc::sourcelist={dir}/sources.list"),
            "Dir::Etc::sourceparts=-".to_owned(),
            "Dir::Etc::preferencesparts=-".to_owned(),
            format!("Dir::State::lists={dir}/lists"),
            format!("Dir::Cache={dir}/cache"),
            // The user that apt downloads as may not write here.
            "APT::Sandbox::User=root".to_owned(),
        ] {
            command.args(["-o", &option]);
        }
        rig::must_within(command.args(words), "", LIMIT)
    }
}

/// Reads what `apt-cache depends` says.
fn depends(said: &str) -> Vec<String> {
    said.lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::to_owned)
        .collect()
}

/// The packages that the `package` of this machine's own lists depends on.
///
/// # Errors
/// What apt says.
pub fn depends_here(package: &str) -> Result<Vec<String>> {
    let said = rig::must(Command::new("apt-cache").args(["depends", package]), "")?;
    Ok(depends(&said))
}

/// Downloads packages from this machine's own lists into `into`.
///
/// # Errors
/// What apt says.
pub fn download_here(packages: &[String], into: &Path) -> Result<()> {
    make(into)?;
    let mut command = Command::new("apt-get");
    command
        .current_dir(into)
        .args(["-o", "APT::Sandbox::User=root", "-qq", "download"])
        .args(packages);
    rig::must_within(&mut command, "", LIMIT).map(drop)
}

/// Unpacks every package in `from` into `to`.
///
/// # Errors
/// What dpkg-deb says.
pub fn unpack(from: &Path, to: &Path) -> Result<()> {
    make(to)?;
    let packages =
        std::fs::read_dir(from).map_err(Error::io(format!("reading {}", from.display())))?;
    for package in packages.flatten().map(|entry| entry.path()) {
        if package.extension().is_some_and(|end| end == "deb") {
            let mut command = Command::new("dpkg-deb");
            rig::must_within(command.arg("-x").arg(&package).arg(to), "", LIMIT)?;
        }
    }
    Ok(())
}

/// Nobody else builds or fetches into the cache for as long as this is held.
///
/// # Errors
/// That somebody else is at it for too long, or that the lock cannot be had.
pub(crate) fn alone(cache: &Path) -> Result<File> {
    make(cache)?;
    let path = cache.join("lock");
    let failed = || format!("locking {}", path.display());
    let file = File::create(&path).map_err(Error::io(failed()))?;
    rig::poll_until("another lab, which builds images", LIMIT, || {
        match file.try_lock() {
            Ok(()) => Ok(Some(())),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(Error::io(failed())(e)),
        }
    })?;
    Ok(file)
}

pub(crate) fn make(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).map_err(Error::io(format!("making {}", dir.display())))
}

pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).map_err(Error::io(format!("writing {}", file.display())))
}

/// An error that says what to do.
pub(crate) fn refused(why: &str) -> Error {
    Error::Answer {
        what: "cannot run".to_owned(),
        said: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_of_the_release_are_taken_and_no_others() {
        let said = "Debian mirror.test/debian/ bookworm-updates main\n\
                    Debian mirror.test/debian/ bookworm main\nDebian mirror.test/debian/ bookworm main\n\
                    Debian mirror.test/debian/ bookworm contrib\nDebian mirror.test/debian/ bookworm-backports main\n\
                    Debian mirror.test/security/ bookworm-security main\nNode mirror.test/ nodistro main\n";
        let names: Vec<_> = suites(said, "bookworm")
            .into_iter()
            .map(|s| s.name)
            .collect();
        assert_eq!(names, ["bookworm", "bookworm-updates", "bookworm-security"]);
        assert!(suites(said, "trixie").is_empty());
    }

    #[test]
    fn dependencies_are_read_from_apt_cache() {
        let said = "linux-image-amd64\n  Depends: linux-image-7.3.4-amd64\n  Recommends: firmware\n |Depends: other\n";
        assert_eq!(depends(said), ["linux-image-7.3.4-amd64"]);
    }
}
