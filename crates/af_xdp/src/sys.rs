//! System calls with types, and the memory that they map.

use std::{
    ffi::c_int,
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use crate::ring::{AtomicU32, Memory};

/// Bytes of a page.
pub(crate) fn page_size() -> u32 {
    // SAFETY: takes and returns numbers.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u32::try_from(size).unwrap_or(4096)
}

/// A mapping of one's own, unmapped on drop.
pub(crate) struct Mapping {
    start: *mut u8,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to a thread; what may be done with its bytes is up to its users.
unsafe impl Send for Mapping {}
// SAFETY: as above; the methods only give out its address.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Private zeroed memory; `flags` beside `MAP_PRIVATE | MAP_ANONYMOUS`.
    pub(crate) fn anonymous(len: usize, flags: c_int) -> io::Result<Mapping> {
        Mapping::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags, -1, 0)
    }

    /// A socket's ring; `offset` is one of `XDP_PGOFF_*`.
    pub(crate) fn ring(fd: BorrowedFd<'_>, len: usize, offset: libc::off_t) -> io::Result<Mapping> {
        Mapping::new(
            len,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            offset,
        )
    }

    fn new(len: usize, flags: c_int, fd: c_int, offset: libc::off_t) -> io::Result<Mapping> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: without MAP_FIXED the kernel picks unused addresses, so no memory of ours is touched.
        let start = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, fd, offset) };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping {
            start: start.cast(),
            len,
        })
    }

    pub(crate) fn start(&self) -> *mut u8 {
        self.start
    }

    /// Asks for transparent huge pages, then for all pages at once. Both are wishes: on a kernel that has neither
    /// (`MADV_POPULATE_WRITE` is 5.14) pages come when touched.
    pub(crate) fn advise_huge_and_populate(&self) {
        for advice in [libc::MADV_HUGEPAGE, libc::MADV_POPULATE_WRITE] {
            // SAFETY: our own mapping; neither advice changes what is in it.
            unsafe { libc::madvise(self.start.cast(), self.len, advice) };
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: ours, and nothing borrows from it: users hold the mapping itself for as long as they use its bytes.
        unsafe { libc::munmap(self.start.cast(), self.len) };
    }
}

/// A ring that the kernel shares with us.
pub(crate) struct RingMemory<T> {
    map: Mapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    size: u32,
    entry: std::marker::PhantomData<T>,
}

/// What may lie in a ring: any bits are a value.
pub(crate) trait Entry: Copy {}
impl Entry for u64 {}
impl Entry for libc::xdp_desc {}

impl<T: Entry> RingMemory<T> {
    /// Maps the ring of `size` entries at `page_offset` (`XDP_PGOFF_*`), laid out as `at` says.
    pub(crate) fn map(
        fd: BorrowedFd<'_>,
        page_offset: libc::off_t,
        at: &libc::xdp_ring_offset,
        size: u32,
    ) -> io::Result<Self> {
        let place = |offset: u64, align: usize| {
            usize::try_from(offset)
                .ok()
                .filter(|n| n.is_multiple_of(align))
                .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
        };
        let [producer, consumer, flags] = [
            place(at.producer, align_of::<u32>())?,
            place(at.consumer, align_of::<u32>())?,
            place(at.flags, align_of::<u32>())?,
        ];
        let entries = place(at.desc, align_of::<T>())?;
        let len = (size as usize)
            .checked_mul(size_of::<T>())
            .and_then(|n| n.checked_add(entries))
            .filter(|&n| {
                size.is_power_of_two()
                    && [producer, consumer, flags].iter().all(|&word| word < n - 3)
            })
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        let map = Mapping::ring(fd, len, page_offset)?;
        Ok(RingMemory {
            map,
            producer,
            consumer,
            flags,
            entries,
            size,
            entry: std::marker::PhantomData,
        })
    }

    fn word(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: `map` checked that the word is aligned and inside of the mapping, which lives as long as `self`; the
        // kernel too writes it atomically (smp_store_release, WRITE_ONCE).
        unsafe { AtomicU32::from_ptr(self.map.start().add(offset).cast()) }
    }

    fn slot(&self, cursor: u32) -> *mut T {
        // In range: masked to the size that `map` made room for.
        self.map
            .start()
            .wrapping_add(self.entries)
            .cast::<T>()
            .wrapping_add((cursor & (self.size - 1)) as usize)
    }
}

// SAFETY: `map` checked the size and the places; any bits are a valid `Entry`.
unsafe impl<T: Entry> Memory for RingMemory<T> {
    type Entry = T;

    fn size(&self) -> u32 {
        self.size
    }

    fn producer(&self) -> &AtomicU32 {
        self.word(self.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.word(self.consumer)
    }

    fn flags(&self) -> &AtomicU32 {
        self.word(self.flags)
    }

    unsafe fn read(&self, cursor: u32) -> T {
        // SAFETY: a slot of the mapping, aligned, and by the caller's promise not written meanwhile.
        unsafe { self.slot(cursor).read() }
    }

    unsafe fn write(&self, cursor: u32, entry: T) {
        // SAFETY: a slot of the mapping, aligned, and by the caller's promise not used meanwhile.
        unsafe { self.slot(cursor).write(entry) }
    }
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

/// A structure of `linux/if_xdp.h` that `getsockopt` fills: numbers only, so zeroes are a value of it.
pub(crate) trait OptionValue: Copy {
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

/// `getsockopt(2)` at level `SOL_XDP`. Returns also the bytes that the kernel filled; the rest is zero.
pub(crate) fn get_option<T: OptionValue>(fd: BorrowedFd<'_>) -> io::Result<(T, usize)> {
    let mut value = MaybeUninit::<T>::zeroed();
    let mut len = size_of::<T>() as libc::socklen_t;
    // SAFETY: `value` is writable for `len` bytes.
    check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_XDP,
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

/// A hint to load the cache line at `address`.
#[inline]
pub(crate) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it does not fault, whatever the address.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(address.cast())
    };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: a hint; it does not fault, whatever the address.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly))
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
