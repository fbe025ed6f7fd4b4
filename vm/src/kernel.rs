//! Kernels and emulators out of Debian packages.

use std::path::{Path, PathBuf};
use std::process::Command;

use rig::{Error, Result};

use crate::archive::{self, Apt, Archive, alone, make, refused};
use crate::image::pack;

/// What the machines need that a kernel may have as a module: their devices, drivers that the lab has NICs for, and the bridge that stands in for the gate.
const MODULES: [&str; 6] = [
    "virtio_pci",
    "virtio_net",
    "virtio_console",
    "virtio_rng",
    "igb",
    "bridge",
];

/// The release of Debian whose backports have a kernel with zero copy on virtio-net, and that whose backports have an emulator for it that this release runs.
const NEWER_KERNEL: &str = "trixie-backports";

/// A kernel to boot.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// `6.1.0-56-cloud-amd64`.
    pub version: String,
    /// The kernel itself.
    pub image: PathBuf,
    /// Its modules, an archive to be put behind an image.
    pub modules: PathBuf,
}

impl Kernel {
    /// That which the release has for machines like these.
    ///
    /// # Errors
    /// What apt says.
    pub fn of_release(cache: &Path, step: &dyn Fn(&str)) -> Result<Kernel> {
        let package = image_of(&archive::depends_here("linux-image-cloud-amd64")?)?;
        Kernel::kept(cache, &package, step, |into| {
            archive::download_here(std::slice::from_ref(&package), into)
        })
    }

    /// One that binds zero copy on virtio-net (Linux 6.13 and later) and has the drivers of real NICs.
    ///
    /// # Errors
    /// That the archive does not have it.
    pub fn newer(archive: &Archive, cache: &Path, step: &dyn Fn(&str)) -> Result<Kernel> {
        let apt = Apt::with(archive, &[NEWER_KERNEL], &cache.join("apt-kernel"))?;
        let package = image_of(&apt.depends("linux-image-amd64", NEWER_KERNEL)?)?;
        let version = package.trim_start_matches(PREFIX).to_owned();
        // From this version on a kernel and its modules are packages of their own.
        let packages = ["linux-binary-", "linux-modules-"].map(|kind| format!("{kind}{version}"));
        Kernel::kept(cache, &package, step, |into| apt.download(&packages, into))
    }

    /// The kernel of `package` in the cache, made by `download` where it is not there.
    fn kept(
        cache: &Path,
        package: &str,
        step: &dyn Fn(&str),
        download: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<Kernel> {
        let version = package.trim_start_matches(PREFIX).to_owned();
        let kept = cache.join(package);
        let kernel = Kernel {
            image: kept.join("vmlinuz"),
            modules: kept.join("modules.cpio"),
            version,
        };
        let _alone = alone(cache)?;
        if kernel.modules.exists() && kernel.image.exists() {
            return Ok(kernel);
        }
        step(&format!("fetching the kernel {}, once", kernel.version));
        make(&kept)?;
        let dir = tempfile::Builder::new()
            .prefix("kernel-")
            .tempdir_in(cache)
            .map_err(Error::io("making a directory"))?;
        let (packages, root) = (dir.path().join("packages"), dir.path().join("root"));
        download(&packages)?;
        archive::unpack(&packages, &root)?;
        let modules = ["lib/modules", "usr/lib/modules"]
            .map(|at| root.join(at).join(&kernel.version))
            .into_iter()
            .find(|dir| dir.exists())
            .ok_or_else(|| refused(&format!("{package} has no modules")))?;
        let image = [
            root.join("boot")
                .join(format!("vmlinuz-{}", kernel.version)),
            modules.join("vmlinuz"),
        ]
        .into_iter()
        .find(|file| file.exists())
        .ok_or_else(|| refused(&format!("{package} has no kernel")))?;
        let chosen = dir.path().join("chosen");
        choose(&modules, &kernel.version, &chosen)?;
        pack(&chosen, &kernel.modules)?;
        std::fs::copy(&image, &kernel.image)
            .map_err(Error::io(format!("copying {}", image.display())))?;
        Ok(kernel)
    }
}

/// How the name of a package with a kernel begins.
const PREFIX: &str = "linux-image-";

fn image_of(depends: &[String]) -> Result<String> {
    let image = depends.iter().find(|name| name.starts_with(PREFIX));
    image
        .cloned()
        .ok_or_else(|| refused("the archive has no kernel for this: apt-get update"))
}

/// Copies [`MODULES`] and what they need to `root`, as `/usr/lib/modules/VERSION` with its indices.
fn choose(modules: &Path, version: &str, root: &Path) -> Result<()> {
    // What depmod(8) and modprobe(8) take for the root of a system has them in lib/modules.
    let base = modules.ancestors().nth(3).unwrap_or(Path::new("/"));
    let base = if base.join("lib/modules").join(version).exists() {
        base.to_owned()
    } else {
        base.join("usr")
    };
    rig::must(Command::new("depmod").arg("-b").arg(&base).arg(version), "")?;
    let mut wanted = String::new();
    for module in MODULES {
        let mut command = Command::new("modprobe");
        command
            .arg("-d")
            .arg(&base)
            .args(["-S", version, "--show-depends", module]);
        // A kernel that was built without a driver does without it.
        let known = rig::run(&mut command, "", std::time::Duration::from_secs(20))?;
        wanted.push_str(&known.stdout);
    }
    let to = root.join("lib/modules").join(version);
    make(&to)?;
    let copy = |file: &Path| -> Result<()> {
        let name = file
            .strip_prefix(modules)
            .or_else(|_| file.strip_prefix(base.join("lib/modules").join(version)));
        let Ok(name) = name else { return Ok(()) };
        let at = to.join(name);
        make(at.parent().unwrap_or(&to))?;
        std::fs::copy(file, at)
            .map(drop)
            .map_err(Error::io(format!("copying {}", file.display())))
    };
    for file in files(&wanted) {
        copy(&file)?;
    }
    // Packages of some kernels do without one or another of these.
    for index in [
        "modules.order",
        "modules.builtin",
        "modules.builtin.modinfo",
    ] {
        let index = modules.join(index);
        if index.exists() {
            copy(&index)?;
        }
    }
    rig::must(Command::new("depmod").arg("-b").arg(root).arg(version), "")?;
    // Debian has /lib as a link to /usr/lib, which a directory of that name would take the place of.
    let usr = root.join("usr");
    make(&usr)?;
    std::fs::rename(root.join("lib"), usr.join("lib")).map_err(Error::io("moving modules"))
}

/// The files in what `modprobe --show-depends` prints, each once.
fn files(said: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = said
        .lines()
        .filter_map(|line| line.strip_prefix("insmod "))
        .map(|path| PathBuf::from(path.trim()))
        .collect();
    files.sort();
    files.dedup();
    files
}

/// An emulator: the program, and where its firmware is.
#[derive(Clone, Debug)]
pub struct Emulator {
    /// qemu-system-x86_64.
    pub program: PathBuf,
    /// Options for `-L`.
    pub firmware: Vec<PathBuf>,
    /// What it says of itself.
    pub version: String,
}

/// The packages of an emulator.
const EMULATOR: [&str; 4] = [
    "qemu-system-x86",
    "qemu-system-common",
    "qemu-system-data",
    "seabios",
];

impl Emulator {
    /// That which this machine has.
    ///
    /// # Errors
    /// That it has none.
    pub fn of_this_machine() -> Result<Emulator> {
        Emulator::at(PathBuf::from("qemu-system-x86_64"), Vec::new())
            .map_err(|_| refused("there is no qemu-system-x86_64: deploy/setup.sh vm, or make vm"))
    }

    /// One with which zero copy on virtio-net does not stall (qemu 10, of the backports of this release), unpacked in the cache.
    ///
    /// # Errors
    /// That the archive does not have it, or that it does not start here.
    pub fn newer(archive: &Archive, cache: &Path, step: &dyn Fn(&str)) -> Result<Emulator> {
        let here = Emulator::of_this_machine();
        if let Ok(here) = here
            && here.major().is_some_and(|major| major >= 10)
        {
            return Ok(here);
        }
        let suite = format!("{}-backports", archive.release);
        let kept = cache.join(format!("qemu-{suite}"));
        let root = kept.join("root");
        let _alone = alone(cache)?;
        if !root.exists() {
            step(&format!("fetching qemu of {suite}, once"));
            let apt = Apt::with(archive, &[&suite], &cache.join("apt-qemu"))?;
            let dir = tempfile::Builder::new()
                .prefix("qemu-")
                .tempdir_in(cache)
                .map_err(Error::io("making a directory"))?;
            let packages = EMULATOR.map(|name| format!("{name}/{suite}"));
            apt.download(&packages, &dir.path().join("packages"))?;
            archive::unpack(&dir.path().join("packages"), &dir.path().join("root"))?;
            make(&kept)?;
            std::fs::rename(dir.path().join("root"), &root)
                .map_err(Error::io("moving the emulator"))?;
        }
        let firmware = [
            root.join("usr/share/qemu"),
            root.join("usr/share/seabios"),
            PathBuf::from("/usr/share/qemu"),
            PathBuf::from("/usr/share/seabios"),
        ];
        Emulator::at(root.join("usr/bin/qemu-system-x86_64"), firmware.into())
    }

    fn at(program: PathBuf, firmware: Vec<PathBuf>) -> Result<Emulator> {
        let said = rig::must(Command::new(&program).arg("--version"), "")?;
        let version = said.lines().next().unwrap_or_default();
        let version = version.trim_start_matches("QEMU emulator version ");
        Ok(Emulator {
            program,
            firmware,
            version: version.to_owned(),
        })
    }

    /// The number before the first dot of its version.
    fn major(&self) -> Option<u32> {
        self.version.split('.').next()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_modules_are_read_once_each_and_what_is_built_in_has_none() {
        let said = "insmod /m/virtio.ko \ninsmod /m/virtio_net.ko.xz \nbuiltin bridge\ninsmod /m/virtio.ko \n";
        assert_eq!(
            files(said),
            [Path::new("/m/virtio.ko"), Path::new("/m/virtio_net.ko.xz")]
        );
    }

    #[test]
    fn the_kernel_among_what_a_metapackage_depends_on_is_found() {
        let names = ["linux-base", "linux-image-7.3.4-amd64"].map(str::to_owned);
        assert_eq!(image_of(&names).unwrap(), "linux-image-7.3.4-amd64");
        assert!(image_of(&names[..1]).is_err());
    }
}
