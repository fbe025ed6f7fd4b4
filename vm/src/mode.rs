//! How frames get from the gate's NICs into its memory, and what that takes.

use std::path::Path;

use clap::ValueEnum;
use rig::Result;
use serde::Serialize;

use crate::archive::Archive;
use crate::kernel::{Emulator, Kernel};
use crate::qemu::Nic;

/// What the gate's NICs are and how they are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// virtio-net, copy mode: the kernel and the qemu of the release
    #[value(name = "virtio-copy")]
    #[serde(rename = "virtio-copy")]
    Virtio,
    /// virtio-net, zero copy: a newer kernel, qemu 10
    VirtioZeroCopy,
    /// igb, the driver of Intel 82575 to 82580, I210, I350; zero copy: a newer kernel, qemu 10
    IgbZeroCopy,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Virtio, Mode::VirtioZeroCopy, Mode::IgbZeroCopy];

    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Virtio => "virtio-copy",
            Mode::VirtioZeroCopy => "virtio-zero-copy",
            Mode::IgbZeroCopy => "igb-zero-copy",
        }
    }

    /// What the gate is told, and has to say of both ports.
    pub const fn bridge_mode(self) -> &'static str {
        match self {
            Mode::Virtio => "copy",
            Mode::VirtioZeroCopy | Mode::IgbZeroCopy => "zero-copy",
        }
    }

    /// The gate's NICs.
    pub const fn nic(self) -> Nic {
        match self {
            Mode::Virtio => Nic::Virtio,
            Mode::VirtioZeroCopy => Nic::VirtioByIommu,
            Mode::IgbZeroCopy => Nic::Igb,
        }
    }
}

/// What a mode runs on.
#[derive(Clone, Debug)]
pub struct Ground {
    /// The mode that it is for: another than was asked for, where that cannot be had.
    pub mode: Mode,
    /// Why, where it is another.
    pub fell_back: Option<String>,
    /// The gate's kernel.
    pub kernel: Kernel,
    /// What runs all three machines.
    pub emulator: Emulator,
}

impl Ground {
    /// Finds, fetches or has what `mode` takes; where a newer kernel or emulator cannot be had, what copy mode takes.
    ///
    /// # Errors
    /// That not even that can be had.
    pub fn find(
        mode: Mode,
        archive: &Archive,
        cache: &Path,
        step: &dyn Fn(&str),
    ) -> Result<Ground> {
        let plain = || -> Result<Ground> {
            Ok(Ground {
                mode: Mode::Virtio,
                fell_back: None,
                kernel: Kernel::of_release(cache, step)?,
                emulator: Emulator::of_this_machine()?,
            })
        };
        if mode == Mode::Virtio {
            return plain();
        }
        let newer = Kernel::newer(archive, cache, step)
            .and_then(|kernel| Ok((kernel, Emulator::newer(archive, cache, step)?)));
        match newer {
            Ok((kernel, emulator)) => Ok(Ground {
                mode,
                fell_back: None,
                kernel,
                emulator,
            }),
            Err(rig::Error::Interrupted) => Err(rig::Error::Interrupted),
            Err(error) => Ok(Ground {
                fell_back: Some(format!("{} cannot be had here: {error}", mode.name())),
                ..plain()?
            }),
        }
    }
}
