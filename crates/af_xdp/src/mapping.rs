//! Mapped memory: that of the packets, and that of the rings, which the kernel shares.

use std::{
    ffi::c_int,
    io,
    mem::size_of,
    os::fd::{AsRawFd, BorrowedFd},
    ptr,
};

use crate::ring::{AtomicU32, Memory};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

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

    /// The beginning of a file of memory, shared with whoever else has it; every page is there at once.
    pub(crate) fn file(fd: BorrowedFd<'_>, len: usize) -> io::Result<Mapping> {
        Mapping::new(
            len,
            libc::MAP_SHARED | libc::MAP_POPULATE,
            fd.as_raw_fd(),
            0,
        )
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

/// The words of a BPF array that was made with `BPF_F_MMAPABLE`, so that a program in the kernel reads what is stored here without a system call.
pub struct Words {
    map: Mapping,
    count: usize,
    stride: usize,
}

impl Words {
    /// Maps `count` values of `stride` bytes, a multiple of 8, whose first word is meant.
    ///
    /// # Errors
    /// What mmap(2) answers; `EINVAL` too where the stride is none.
    pub fn map(fd: BorrowedFd<'_>, count: usize, stride: usize) -> io::Result<Words> {
        let len = count
            .checked_mul(stride)
            .filter(|&len| len > 0 && stride.is_multiple_of(align_of::<u64>()));
        let len = len.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let map = Mapping::new(len, libc::MAP_SHARED, fd.as_raw_fd(), 0)?;
        Ok(Words { map, count, stride })
    }

    fn word(&self, index: usize) -> Option<&AtomicU64> {
        let place =
            (index < self.count).then(|| self.map.start().wrapping_add(index * self.stride));
        // SAFETY: aligned, since the mapping starts on a page and the stride is a multiple of 8, and inside of the mapping, which lives as long as `self`; the
        // kernel's side reads it whole.
        place.map(|place| unsafe { AtomicU64::from_ptr(place.cast()) })
    }

    /// Stores the first word of the value at `index`; nothing where there is none.
    #[inline]
    pub fn store(&self, index: usize, word: u64) {
        if let Some(place) = self.word(index) {
            place.store(word, Relaxed);
        }
    }

    /// The first word of the value at `index`.
    pub fn load(&self, index: usize) -> Option<u64> {
        self.word(index).map(|word| word.load(Relaxed))
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
