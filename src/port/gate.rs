//! The in-kernel gate of one NIC: loads the XDP program, attaches it by a link pinned in bpffs, adopts what an earlier process left.
//!
//! The pinned link is what makes "closed" true without us: it outlives the process, and a queue without a socket drops.

use af_xdp::Words;
use aya::maps::{Array, DevMap, MapData, PerCpuArray, XskMap};
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use aya::programs::xdp::{XdpLink, XdpLinkId};
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// `gate.bpf.c`, compiled; see `src/bpf/build.sh`.
static OBJECT: &[u8] = aya::include_bytes_aligned!("../bpf/gate.bpf.o");

/// The maps that are pinned beside the link, by their names in the object.
const MAPS: [&str; 7] = [
    "xsks", "stats", "beats", "settings", "peer", "failures", "outages",
];
/// `MAX_QUEUES` and the size of `struct beat` there.
pub const QUEUES: usize = 256;
const BEAT: usize = 64;

/// A NIC is free again this long after its link was let go, at most.
const LETS_GO: Duration = Duration::from_millis(500);

/// Where the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// In the driver, on the frame as it came.
    Driver,
    /// In the network stack, for a driver without XDP.
    Generic,
}

/// What the gate counted since it was first attached, over all queues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateStats {
    /// Frames given to a socket.
    pub redirected: u64,
    /// Frames dropped because their queue had no socket: nobody was there.
    pub no_socket: u64,
    /// Frames dropped because the worker of their queue had not turned for too long.
    pub stale: u64,
    /// Frames handed to the other NIC unfiltered, for either cause.
    pub unfiltered: u64,
    /// How long that went on: from the first such frame of each outage to its last, of the queue where it was longest.
    pub unfiltered_for: Duration,
    /// When the last such frame came, nanoseconds of `CLOCK_MONOTONIC`; 0 where none ever has.
    pub unfiltered_last: u64,
}

/// What the gate does with frames while nobody filters them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failing {
    /// It drops them.
    Closed,
    /// It hands them to the NIC of this index.
    OpenTo(u32),
}

/// The heartbeats of the workers behind one NIC, by receive queue: nanoseconds of `CLOCK_MONOTONIC`, read by the gate in the kernel.
pub type Beats = Arc<Words>;

/// Why the gate could not be put on a NIC.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum GateError {
    #[error(
        "{nic} already runs an XDP program that is not ours; see `ip link show {nic}`, take it off with `ip link set dev {nic} xdp off`"
    )]
    Taken { nic: String },
    #[error(
        "{nic}: its driver has no XDP, or not at this MTU ({why}); set mode = \"auto\" or \"generic\", or run: ip link set {nic} mtu 1500"
    )]
    NoDriverSupport { nic: String, why: String },
    #[error(
        "not allowed to load BPF programs; run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW"
    )]
    Privilege,
    #[error("{path} is not a BPF file system and none could be mounted there ({why}); run: mount -t bpf bpf {path}", path = path.display())]
    Bpffs { path: PathBuf, why: String },
    #[error("{nic}: {what}: {why}")]
    Other {
        nic: String,
        what: &'static str,
        why: String,
    },
}

/// What loads gates. Making one reads what types the kernel has, which takes its time: one for all of them, made while something else is done.
pub struct Loader(EbpfLoader<'static>);

impl Loader {
    /// Reads what it needs to know of the kernel.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Loader {
        Loader(EbpfLoader::new())
    }

    /// Reads the object, and makes or adopts its maps.
    fn load(&mut self, nic: &str, dir: &Path) -> Result<Ebpf, GateError> {
        std::fs::create_dir_all(dir)
            .map_err(|e| other(nic, "cannot make its folder in bpffs", e.to_string()))?;
        for name in MAPS {
            self.0.map_pin_path(name, dir.join(name));
        }
        self.0.load(OBJECT).map_err(|e| match os_code(&e) {
            Some(nix::libc::EPERM | nix::libc::EACCES) => GateError::Privilege,
            _ => other(nic, "cannot load the gate", chain(&e)),
        })
    }
}

/// The gate on one NIC.
pub struct Gate {
    nic: String,
    index: u32,
    ebpf: Ebpf,
    link: PinnedLink,
    hook: Hook,
    dir: PathBuf,
    adopted: bool,
}

impl Gate {
    /// Puts the gate on the NIC at the first of `hooks` that its driver has, or takes over the one that an earlier process left there,
    /// at whichever of them it is. `taken` says where some XDP program is attached now.
    ///
    /// # Errors
    /// [`GateError`]; the NIC is then as it was.
    pub fn attach(
        loader: &mut Loader,
        (nic, index): (&str, u32),
        hooks: &[Hook],
        bpffs: &Path,
        taken: Option<Hook>,
    ) -> Result<Gate, GateError> {
        let dir = pin_dir(bpffs, nic, index);
        ensure_bpffs(bpffs)?;
        let pinned = dir.join("link").exists();
        if taken.is_some() && !pinned {
            return Err(GateError::Taken {
                nic: nic.to_string(),
            });
        }
        let old = taken
            .filter(|hook| pinned && hooks.contains(hook))
            .and_then(|hook| Some((open_link(&dir)?, hook)));
        let adopted = old.is_some();
        if !adopted {
            remove_pins(&dir);
        }
        let attached = loader.load(nic, &dir).and_then(|mut ebpf| {
            let program = program(&mut ebpf, nic)?;
            let (link, hook) = match old {
                Some((link, hook)) => (take_over(program, link, nic, &dir)?, hook),
                // Pins that were just removed let go of the NIC a moment later.
                None => attach_new(program, nic, index, hooks, pinned, &dir)?,
            };
            Ok((ebpf, link, hook))
        });
        let (ebpf, link, hook) = attached.inspect_err(|_| {
            if !adopted {
                remove_pins(&dir);
            }
        })?;
        Ok(Gate {
            nic: nic.to_string(),
            index,
            ebpf,
            link,
            hook,
            dir,
            adopted,
        })
    }

    /// Where the program runs.
    pub fn hook(&self) -> Hook {
        self.hook
    }

    /// True if the program of an earlier process was taken over, so that the NIC was never without a gate.
    pub fn adopted(&self) -> bool {
        self.adopted
    }

    /// The index of its NIC.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// Where the workers beat.
    ///
    /// # Errors
    /// [`GateError::Other`], if the map cannot be mapped.
    pub fn beats(&self) -> Result<Beats, GateError> {
        let fail = |why| other(&self.nic, "cannot map the heartbeats", why);
        let Some(aya::maps::Map::Array(map)) = self.ebpf.map("beats") else {
            return Err(fail("no such map".into()));
        };
        let words = Words::map(map.fd().as_fd(), QUEUES, BEAT);
        words.map(Arc::new).map_err(|e| fail(e.to_string()))
    }

    /// Says how old a heartbeat may be, and what happens then. Before it was called for the first time, and nobody else had, no beat is young enough and
    /// every frame is dropped.
    ///
    /// # Errors
    /// [`GateError::Other`], if a map refuses.
    pub fn arm(&mut self, watchdog: Duration, failing: Failing) -> Result<(), GateError> {
        let nic = self.nic.clone();
        let fail = |why| other(&nic, "cannot set the watchdog", why);
        if let Failing::OpenTo(index) = failing {
            let map = self.ebpf.map_mut("peer");
            let map = map.ok_or_else(|| fail("no such map".into()))?;
            let mut map: DevMap<&mut MapData> =
                DevMap::try_from(map).map_err(|e| fail(chain(&e)))?;
            map.set(0, index, None, 0).map_err(|e| fail(chain(&e)))?;
        }
        let map = self.ebpf.map_mut("settings");
        let map = map.ok_or_else(|| fail("no such map".into()))?;
        let mut map: Array<&mut MapData, [u64; 2]> =
            Array::try_from(map).map_err(|e| fail(chain(&e)))?;
        let open = u64::from(failing != Failing::Closed);
        let settings = [watchdog.as_nanos() as u64, open];
        map.set(0, settings, 0).map_err(|e| fail(chain(&e)))
    }

    /// As if the workers of all queues had turned now, and for so long nobody asked for them to turn again: somebody else is to go on. Then the gate does what it does
    /// when nobody filters.
    ///
    /// # Errors
    /// [`GateError::Other`], if the map refuses.
    pub fn wait(
        &mut self,
        beats: &Beats,
        queues: u32,
        now: u64,
        patience: Duration,
    ) -> Result<(), GateError> {
        let nic = self.nic.clone();
        let fail = |why| other(&nic, "cannot tell the gate to wait", why);
        let map = self.ebpf.map_mut("settings");
        let map = map.ok_or_else(|| fail("no such map".into()))?;
        let map: Array<&mut MapData, [u64; 2]> =
            Array::try_from(map).map_err(|e| fail(chain(&e)))?;
        let [watchdog, _] = map.get(&0, 0).map_err(|e| fail(chain(&e)))?;
        // The program compares with a sign (`stale` there), so that a beat may be of a time to come, and numbers may wrap.
        let at = now
            .wrapping_add(patience.as_nanos() as u64)
            .wrapping_sub(watchdog);
        for queue in 0..queues as usize {
            beats.store(queue, at);
        }
        Ok(())
    }

    /// Closed from now on, whatever an earlier process has said, until [`Gate::arm`] says else: a start that fails on the way does not go on bridging for a config that forbids it.
    ///
    /// # Errors
    /// [`GateError::Other`], if the map refuses.
    pub fn close(&mut self) -> Result<(), GateError> {
        let nic = self.nic.clone();
        let fail = |why| other(&nic, "cannot close the gate", why);
        let map = self.ebpf.map_mut("settings");
        let map = map.ok_or_else(|| fail("no such map".into()))?;
        let mut map: Array<&mut MapData, [u64; 2]> =
            Array::try_from(map).map_err(|e| fail(chain(&e)))?;
        let [watchdog, _] = map.get(&0, 0).map_err(|e| fail(chain(&e)))?;
        map.set(0, [watchdog, 0], 0).map_err(|e| fail(chain(&e)))
    }

    /// From now on frames of `queue` go to the AF_XDP socket `fd`.
    ///
    /// # Errors
    /// [`GateError::Other`], if the map refuses.
    pub fn set_socket(&mut self, queue: u32, fd: &impl AsFd) -> Result<(), GateError> {
        let nic = self.nic.clone();
        let fail = move |why: String| GateError::Other {
            nic: nic.clone(),
            what: "cannot enter the socket in the gate's map",
            why,
        };
        let map = self
            .ebpf
            .map_mut("xsks")
            .ok_or_else(|| fail("no such map".into()))?;
        let mut map: XskMap<&mut MapData> = XskMap::try_from(map).map_err(|e| fail(chain(&e)))?;
        map.set(queue, fd.as_fd().as_raw_fd(), 0)
            .map_err(|e| fail(chain(&e)))
    }

    /// A reader of the counters that can go to another thread, for a NIC of so many queues.
    pub fn take_stats(&mut self, queues: u32) -> Option<GateStatsReader> {
        let mut take = |name| self.ebpf.take_map(name);
        Some(GateStatsReader {
            stats: PerCpuArray::try_from(take("stats")?).ok()?,
            failures: PerCpuArray::try_from(take("failures")?).ok()?,
            outages: Array::try_from(take("outages")?).ok()?,
            queues,
        })
    }

    /// Takes the gate off again, unless it was there before us: for a start that fails half-way.
    pub fn undo(self) {
        if !self.adopted {
            remove_pins(&self.dir);
            drop(self.link);
        }
    }
}

/// Reads what the in-kernel gate counted.
pub struct GateStatsReader {
    stats: PerCpuArray<MapData, u64>,
    failures: PerCpuArray<MapData, u64>,
    /// By queue: `struct outage`.
    outages: Array<MapData, [u64; 3]>,
    queues: u32,
}

impl GateStatsReader {
    /// The sums over all CPUs; zero where the kernel does not answer.
    pub fn read(&self) -> GateStats {
        let sum = |map: &PerCpuArray<MapData, u64>, index| {
            map.get(&index, 0)
                .map(|values| values.iter().sum())
                .unwrap_or(0)
        };
        let outages: Vec<[u64; 3]> = (0..self.queues)
            .filter_map(|queue| self.outages.get(&queue, 0).ok())
            .collect();
        let lasted = outages.iter().map(|[since, until, total]| match since {
            0 => *total,
            since => total + until.saturating_sub(*since),
        });
        GateStats {
            redirected: sum(&self.stats, 0),
            no_socket: sum(&self.stats, 1),
            stale: sum(&self.failures, 0),
            unfiltered: sum(&self.failures, 1),
            unfiltered_for: Duration::from_nanos(lasted.max().unwrap_or(0)),
            unfiltered_last: outages
                .iter()
                .map(|[_, until, _]| *until)
                .max()
                .unwrap_or(0),
        }
    }
}

/// Takes the gate off a NIC. Says whether there was one.
///
/// # Errors
/// That the pins could not be removed.
pub fn detach(nic: &str, index: u32, bpffs: &Path) -> Result<bool, GateError> {
    let dir = pin_dir(bpffs, nic, index);
    if !dir.exists() {
        return Ok(false);
    }
    remove_pins(&dir);
    if dir.exists() {
        return Err(GateError::Other {
            nic: nic.into(),
            what: "cannot remove its pins in bpffs",
            why: format!("{} is still there", dir.display()),
        });
    }
    Ok(true)
}

/// True if a gate of ours is pinned for this NIC.
pub fn is_pinned(nic: &str, index: u32, bpffs: &Path) -> bool {
    pin_dir(bpffs, nic, index).join("link").exists()
}

/// One folder for each NIC: names and indices repeat in other network namespaces, bpffs is shared by them.
fn pin_dir(bpffs: &Path, nic: &str, index: u32) -> PathBuf {
    use std::os::unix::fs::MetadataExt;
    let namespace = std::fs::metadata("/proc/self/ns/net")
        .map(|m| m.ino())
        .unwrap_or(0);
    bpffs
        .join("portcullis")
        .join(format!("{nic}-{index}-{namespace}"))
}

fn remove_pins(dir: &Path) {
    for name in MAPS.iter().chain(&["link"]) {
        // What is not there needs no removing; what is left is seen by the caller, who looks for the folder.
        let _ = std::fs::remove_file(dir.join(name));
    }
    let _ = std::fs::remove_dir(dir);
}

fn open_link(dir: &Path) -> Option<XdpLink> {
    let pinned = PinnedLink::from_pin(dir.join("link")).ok()?;
    XdpLink::try_from(FdLink::from(pinned)).ok()
}

fn other(nic: &str, what: &'static str, why: String) -> GateError {
    GateError::Other {
        nic: nic.to_string(),
        what,
        why,
    }
}

/// Loads the program into the kernel.
fn program<'a>(ebpf: &'a mut Ebpf, nic: &str) -> Result<&'a mut Xdp, GateError> {
    let missing = || other(nic, "cannot load the gate", "no such program".into());
    let program: &mut Xdp = ebpf
        .program_mut("gate")
        .ok_or_else(missing)?
        .try_into()
        .map_err(|e: ProgramError| other(nic, "cannot load the gate", chain(&e)))?;
    program.load().map_err(|e| match os_code(&e) {
        Some(nix::libc::EPERM | nix::libc::EACCES) => GateError::Privilege,
        _ => other(nic, "the kernel refuses the gate", chain(&e)),
    })?;
    Ok(program)
}

/// Swaps the program behind the pinned link: no moment without one.
fn take_over(
    program: &mut Xdp,
    link: XdpLink,
    nic: &str,
    dir: &Path,
) -> Result<PinnedLink, GateError> {
    let what = "cannot take over the gate of an earlier process";
    program
        .attach_to_link(link)
        .map_err(|e| other(nic, what, chain(&e)))?;
    PinnedLink::from_pin(dir.join("link")).map_err(|e| other(nic, what, chain(&e)))
}

/// Attaches by a new link at the first hook that works, and pins it.
fn attach_new(
    program: &mut Xdp,
    nic: &str,
    index: u32,
    hooks: &[Hook],
    wait: bool,
    dir: &Path,
) -> Result<(PinnedLink, Hook), GateError> {
    let mut tried = Err(other(nic, "cannot attach the gate", "nowhere to".into()));
    let deadline = Instant::now() + if wait { LETS_GO } else { Duration::ZERO };
    for hook in hooks {
        tried = loop {
            match attach_at(program, nic, index, *hook) {
                Err(GateError::Taken { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                tried => break tried,
            }
        };
        match &tried {
            Err(GateError::NoDriverSupport { .. }) => {}
            _ => break,
        }
    }
    let (id, hook) = tried?;
    let link = program
        .take_link(id)
        .map_err(|e| other(nic, "cannot attach the gate", chain(&e)))?;
    // Without a link of its own the attachment would end with the process: refused, not accepted silently.
    let old_kernel = "this kernel has no XDP links (Linux 5.9 or later is needed)";
    let link: FdLink = link
        .try_into()
        .map_err(|e: LinkError| other(nic, old_kernel, chain(&e)))?;
    let pinned = link
        .pin(dir.join("link"))
        .map_err(|e| other(nic, "cannot pin the gate in bpffs", chain(&e)))?;
    Ok((pinned, hook))
}

fn attach_at(
    program: &mut Xdp,
    nic: &str,
    index: u32,
    hook: Hook,
) -> Result<(XdpLinkId, Hook), GateError> {
    let mode = match hook {
        Hook::Driver => XdpMode::Driver,
        Hook::Generic => XdpMode::Skb,
    };
    let id = program.attach_to_if_index(index, mode);
    id.map(|id| (id, hook)).map_err(|e| match os_code(&e) {
        Some(nix::libc::EBUSY | nix::libc::EEXIST) => GateError::Taken {
            nic: nic.to_string(),
        },
        Some(nix::libc::EPERM) => GateError::Privilege,
        _ if hook == Hook::Driver => GateError::NoDriverSupport {
            nic: nic.to_string(),
            why: chain(&e),
        },
        _ => other(nic, "cannot attach the gate", chain(&e)),
    })
}

fn ensure_bpffs(path: &Path) -> Result<(), GateError> {
    let is_bpffs = || statfs(path).is_ok_and(|fs| fs.filesystem_type() == BPF_FS_MAGIC);
    if is_bpffs() {
        return Ok(());
    }
    let fail = |why: String| GateError::Bpffs {
        path: path.to_path_buf(),
        why,
    };
    if !path.exists() {
        std::fs::create_dir_all(path).map_err(|e| fail(e.to_string()))?;
    }
    // Its own default is a folder for everybody: whoever made `portcullis` there first would own the pins.
    nix::mount::mount(
        Some("bpf"),
        path,
        Some("bpf"),
        nix::mount::MsFlags::empty(),
        Some("mode=0700"),
    )
    .map_err(|e| fail(e.to_string()))?;
    if is_bpffs() {
        Ok(())
    } else {
        Err(fail("the mount is not there".into()))
    }
}

fn os_code(e: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut at = Some(e);
    while let Some(error) = at {
        if let Some(code) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::raw_os_error)
        {
            return Some(code);
        }
        at = error.source();
    }
    None
}

/// An error and what is behind it, on one line.
fn chain(e: &(dyn std::error::Error + 'static)) -> String {
    let mut text = e.to_string();
    let mut at = e.source();
    while let Some(error) = at {
        text.push_str(": ");
        text.push_str(&error.to_string());
        at = error.source();
    }
    text.replace('\n', " ")
}
