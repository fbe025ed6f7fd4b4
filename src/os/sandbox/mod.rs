//! What the process gives up when it is ready: capabilities, new privileges, most system calls, and the files and ports that it has no business with.
//!
//! Everything here is of the calling thread and of those that it starts afterwards, so it is done before there are others. What a kernel does not have is said, and the rest is done.

mod calls;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, NetPort, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, path_beneath_rules,
};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, SeccompRule};
use std::collections::BTreeMap;
use std::path::PathBuf;

pub use calls::Calls;

/// The files and ports that stay within reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Files and folders that are read.
    pub read: Vec<PathBuf>,
    /// Files and folders in which files are written, made, renamed and removed, and read.
    pub write: Vec<PathBuf>,
    /// TCP ports that may be connected to. None may be listened on that is not yet.
    pub connect: Vec<u16>,
}

/// Why the process could not give something up that this kernel has.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what}: {why}")]
pub struct SandboxError {
    what: &'static str,
    why: String,
}

fn failed<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> SandboxError {
    move |e| SandboxError {
        what,
        why: e.to_string(),
    }
}

/// Core dumps hold packets and tokens: none is written, and no other process of this user reads our memory.
///
/// # Errors
/// [`SandboxError`].
pub fn no_core_dumps() -> Result<(), SandboxError> {
    let off = setrlimit(Resource::RLIMIT_CORE, 0, 0);
    // A service may not change limits; its LimitCORE=0 says the same.
    if let Err(e) = off
        && !getrlimit(Resource::RLIMIT_CORE).is_ok_and(|limits| limits == (0, 0))
    {
        return Err(failed("switch core dumps off")(e));
    }
    nix::sys::prctl::set_dumpable(false).map_err(failed("switch core dumps off"))
}

/// Keeps the memory of the process in memory, what it takes later too, from when it is touched: a page that has to come from a disk stops a worker for milliseconds. A note where
/// that cannot be, or not for what is taken later.
pub fn lock_memory() -> Option<String> {
    // Later memory counts against the limit once the capability is gone.
    let raised = setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY);
    let limit = getrlimit(Resource::RLIMIT_MEMLOCK).map_or(0, |(soft, _)| soft);
    let later = raised.is_ok() || limit == RLIM_INFINITY;
    let mut flags =
        MlockAllFlags::MCL_CURRENT | MlockAllFlags::from_bits_retain(nix::libc::MCL_ONFAULT);
    flags.set(MlockAllFlags::MCL_FUTURE, later);
    match mlockall(flags) {
        Ok(()) if later => None,
        Ok(()) => Some(
            "memory that is taken from now on (a new policy) is not locked; set LimitMEMLOCK=infinity for the service"
                .to_owned(),
        ),
        Err(e) => Some(format!(
            "memory is not locked: {e}; run as root, or with CAP_IPC_LOCK and LimitMEMLOCK=infinity"
        )),
    }
}

/// Gives up every capability (capabilities(7)) of this thread and those that it starts, and the way to get any again.
///
/// # Errors
/// [`SandboxError`].
pub fn drop_capabilities() -> Result<(), SandboxError> {
    let what = "give up capabilities";
    // Who may not narrow the bounding set has one that is narrow already, or gets nothing from it: there are no new privileges either.
    if caps::has_cap(None, caps::CapSet::Effective, caps::Capability::CAP_SETPCAP).unwrap_or(false)
    {
        caps::clear(None, caps::CapSet::Bounding).map_err(failed(what))?;
    }
    for set in [
        caps::CapSet::Ambient,
        caps::CapSet::Inheritable,
        caps::CapSet::Effective,
        caps::CapSet::Permitted,
    ] {
        caps::clear(None, set).map_err(failed(what))?;
    }
    nix::sys::prctl::set_no_new_privs().map_err(failed("give up new privileges"))
}

/// Gives up every file and TCP port that is not named (landlock(7)). A note where the kernel has less than that.
///
/// # Errors
/// [`SandboxError`].
pub fn confine(reach: &Reach) -> Result<Option<String>, SandboxError> {
    let what = "give up files and ports";
    let abi = ABI::V5;
    let all = AccessFs::from_all(abi);
    // The ioctls of files that are open already are not concerned; of others none is needed.
    let write =
        all & !AccessFs::Execute & !AccessFs::IoctlDev & !AccessFs::MakeBlock & !AccessFs::MakeChar;
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(all)
        .and_then(|ruleset| ruleset.handle_access(AccessNet::from_all(ABI::V4)))
        .and_then(Ruleset::create)
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(&reach.read, read)))
        .and_then(|ruleset| ruleset.add_rules(path_beneath_rules(&reach.write, write)));
    let mut ruleset = ruleset.map_err(failed(what))?;
    for port in &reach.connect {
        let rule = NetPort::new(*port, AccessNet::ConnectTcp);
        ruleset = ruleset.add_rule(rule).map_err(failed(what))?;
    }
    let status = ruleset.restrict_self().map_err(failed(what))?;
    Ok(match status.ruleset {
        RulesetStatus::FullyEnforced => None,
        RulesetStatus::PartiallyEnforced => {
            Some("this kernel's Landlock does not know all kinds of access (Linux 6.10 does); what it knows is enforced".to_owned())
        }
        RulesetStatus::NotEnforced => Some(
            "this kernel has no Landlock (Linux 5.13, `lsm=landlock,…` on its command line): files are within reach that need not be".to_owned(),
        ),
    })
}

/// Gives up every system call that `calls` does not name: it then fails with EPERM (seccomp(2)).
///
/// # Errors
/// [`SandboxError`].
pub fn only(calls: Calls) -> Result<(), SandboxError> {
    let what = "give up system calls";
    let rules: BTreeMap<i64, Vec<SeccompRule>> = calls.rules().map_err(failed(what))?;
    let arch = std::env::consts::ARCH.try_into().map_err(failed(what))?;
    let refused = SeccompAction::Errno(nix::libc::EPERM as u32);
    let filter =
        SeccompFilter::new(rules, refused, SeccompAction::Allow, arch).map_err(failed(what))?;
    let program: BpfProgram = filter.try_into().map_err(failed(what))?;
    seccompiler::apply_filter(&program).map_err(failed(what))
}
