//! System calls with types.

use std::{
    ffi::c_int,
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr,
};

/// Bytes of a page.
pub(crate) fn page_size() -> u32 {
    // SAFETY: takes and returns numbers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(size).unwrap_or(4096)
}

/// `socket(AF_XDP, SOCK_RAW | SOCK_CLOEXEC, 0)`.
pub(crate) fn xdp_socket() -> io::Result<OwnedFd> {
    socket(libc::AF_XDP, libc::SOCK_RAW)
}

fn socket(family: c_int, kind: c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes and returns numbers.
    let fd = check(unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, 0) } as isize)?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// A file of memory alone that can be sealed (memfd_create(2)); `flags` beside those that make it so.
pub(crate) fn memory_file(flags: libc::c_uint) -> io::Result<OwnedFd> {
    const NAME: &std::ffi::CStr = c"portcullis-frames";
    let wanted = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | flags;
    let make = |flags| {
        // SAFETY: the name is a string with its zero.
        check(unsafe { libc::memfd_create(NAME.as_ptr(), flags) } as isize)
    };
    // Before Linux 6.3 nobody asks whether it may be executed.
    let fd = make(wanted | libc::MFD_NOEXEC_SEAL).or_else(|_| make(wanted))?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// Adds seals to a file of memory (`F_ADD_SEALS`, fcntl(2)).
pub(crate) fn seal(fd: BorrowedFd<'_>, seals: c_int) -> io::Result<()> {
    // SAFETY: takes and returns numbers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_ADD_SEALS, seals) } as isize)?;
    Ok(())
}

/// The seals of a file of memory (`F_GET_SEALS`); `EINVAL` for what is none.
pub(crate) fn seals(fd: BorrowedFd<'_>) -> io::Result<c_int> {
    // SAFETY: takes and returns numbers.
    check(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) } as isize).map(|n| n as c_int)
}

/// A duplicate, with a number of its own, of a descriptor that this process was started with and that is known by its number alone (`F_DUPFD_CLOEXEC`, fcntl(2)).
///
/// # Errors
/// `EBADF` where there is none of this number.
pub fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: takes and returns numbers.
    let fd = check(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) } as isize)?;
    // SAFETY: just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as c_int) })
}

/// `setsockopt(2)` with a plain value.
pub(crate) fn set_option<T: Copy>(
    fd: BorrowedFd<'_>,
    level: c_int,
    name: c_int,
    value: &T,
) -> io::Result<()> {
    let len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is readable for `len` bytes.
    check(unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            len,
        )
    } as isize)?;
    Ok(())
}

/// What `getsockopt` fills: numbers only, so zeroes are a value of it.
pub(crate) trait OptionValue: Copy {
    const LEVEL: c_int = libc::SOL_XDP;
    const NAME: c_int;
}

impl OptionValue for libc::xdp_mmap_offsets {
    const NAME: c_int = libc::XDP_MMAP_OFFSETS;
}
impl OptionValue for libc::xdp_statistics {
    const NAME: c_int = libc::XDP_STATISTICS;
}
impl OptionValue for libc::xdp_options {
    const NAME: c_int = libc::XDP_OPTIONS;
}

/// The family of a socket (`SO_DOMAIN`, socket(7)).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Domain(pub(crate) c_int);
impl OptionValue for Domain {
    const LEVEL: c_int = libc::SOL_SOCKET;
    const NAME: c_int = libc::SO_DOMAIN;
}

/// The network namespace of a socket (`SO_NETNS_COOKIE` of `asm-generic/socket.h`, since Linux 5.14), a number that no other has until the machine is restarted.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Namespace(u64);
impl OptionValue for Namespace {
    const LEVEL: c_int = libc::SOL_SOCKET;
    const NAME: c_int = 71;
}

/// `getsockopt(2)`. Returns also the bytes that the kernel filled; the rest is zero.
pub(crate) fn get_option<T: OptionValue>(fd: BorrowedFd<'_>) -> io::Result<(T, usize)> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is writable for `len` bytes.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            T::LEVEL,
            T::NAME,
            value.as_mut_ptr().cast(),
            &mut len,
        )
    } as isize)?;
    // SAFETY: zeroed before, and any bits are a value of these structures of numbers.
    Ok((unsafe { value.assume_init() }, len as usize))
}

/// `bind(2)`.
pub(crate) fn bind(fd: BorrowedFd<'_>, address: &libc::sockaddr_xdp) -> io::Result<()> {
    let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
    // SAFETY: `address` is readable for `len` bytes.
    check(unsafe { libc::bind(fd.as_raw_fd(), ptr::from_ref(address).cast(), len) } as isize)?;
    Ok(())
}

/// `sendto(2)` of nothing: "look at the tx ring".
pub(crate) fn kick_tx(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no buffer, no address.
    check(unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            ptr::null(),
            0,
        )
    })?;
    Ok(())
}

/// `recvfrom(2)` of nothing: "look at the fill ring".
pub(crate) fn kick_rx(fd: BorrowedFd<'_>) -> io::Result<()> {
    let none = ptr::null_mut();
    // SAFETY: no buffer, no address.
    check(unsafe {
        libc::recvfrom(
            fd.as_raw_fd(),
            none,
            0,
            libc::MSG_DONTWAIT,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    })?;
    Ok(())
}

/// `struct ethtool_channels` of `linux/ethtool.h`.
#[repr(C)]
#[derive(Default)]
struct Channels {
    cmd: u32,
    max_rx: u32,
    max_tx: u32,
    max_other: u32,
    max_combined: u32,
    rx: u32,
    tx: u32,
    other: u32,
    combined: u32,
}

/// `ETHTOOL_GCHANNELS` of `linux/ethtool.h`.
const ETHTOOL_GCHANNELS: u32 = 0x3c;
/// `SIOCETHTOOL` of `linux/sockios.h`.
const SIOCETHTOOL: libc::c_ulong = 0x8946;

/// How many queues an interface has that `AF_XDP` can bind (the larger of receive and transmit), where its driver
/// tells. The interface is looked for in the network namespace of the calling thread.
pub(crate) fn queues(ifindex: u32) -> Option<u32> {
    // AF_XDP sockets pass no device requests on; those of any ordinary family do.
    let any = socket(libc::AF_UNIX, libc::SOCK_DGRAM).ok()?;
    let mut channels = Channels {
        cmd: ETHTOOL_GCHANNELS,
        ..Channels::default()
    };
    // SAFETY: `ifreq` is plain numbers and a pointer; zeroes are a value of it.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: `ifr_name` has IFNAMSIZ bytes, which is what the call writes at most.
    if unsafe { libc::if_indextoname(ifindex, request.ifr_name.as_mut_ptr()) }.is_null() {
        return None;
    }
    request.ifr_ifru.ifru_data = ptr::from_mut(&mut channels).cast();
    // SAFETY: SIOCETHTOOL with this command reads the name and fills the structure that `ifru_data` points to.
    check(unsafe {
        libc::ioctl(
            any.as_raw_fd(),
            SIOCETHTOOL as _,
            ptr::from_mut(&mut request),
        )
    } as isize)
    .ok()?;
    let count = channels
        .rx
        .max(channels.tx)
        .saturating_add(channels.combined);
    (count > 0).then_some(count)
}

/// Asks the kernel for transparent huge pages (`MADV_HUGEPAGE`, madvise(2)) behind the whole small pages of this memory. A wish: where the kernel has none, the
/// pages stay small.
pub(crate) fn advise_huge<T>(memory: &mut [std::mem::MaybeUninit<T>]) {
    const PAGE: usize = 4096;
    let bytes = size_of_val(memory);
    let start = memory.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(PAGE);
    if bytes < skipped.saturating_add(PAGE) {
        return;
    }
    let len = (bytes - skipped) / PAGE * PAGE;
    // SAFETY: the range lies within memory that is borrowed alone, and this advice changes no byte of it.
    unsafe { libc::madvise(start.wrapping_add(skipped).cast(), len, libc::MADV_HUGEPAGE) };
}

/// A hint to load the cache line at `address`, into the second cache alone if it is not `NEAR`.
#[inline]
pub(crate) fn prefetch_at<const NEAR: bool>(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it does not fault, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _MM_HINT_T1, _mm_prefetch};
        match NEAR {
            true => _mm_prefetch::<_MM_HINT_T0>(address.cast()),
            false => _mm_prefetch::<_MM_HINT_T1>(address.cast()),
        }
    };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint; it does not fault, whatever the address.
    unsafe {
        match NEAR {
            true => {
                std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly))
            }
            false => {
                std::arch::asm!("prfm pldl2keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly))
            }
        }
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let _ = address;
}

fn check(returned: isize) -> io::Result<isize> {
    if returned < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(returned)
    }
}
