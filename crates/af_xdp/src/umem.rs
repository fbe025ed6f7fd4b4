//! The packet memory: one anonymous mapping, cut into chunks of one size, each owned through its one [`Frame`].

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
};

use crate::{
    error::{TooLong, UmemError},
    mapping::Mapping,
    sys,
};

/// What the kernel keeps free before a received frame, besides the headroom asked for (`XDP_PACKET_HEADROOM`).
const KERNEL_HEADROOM: u32 = 256;

/// Bytes of a huge page that `MAP_HUGETLB` without a size gives on x86-64 and, with 4 KiB pages, on aarch64.
const HUGE_PAGE: usize = 2 << 20;

/// The smallest chunk (`XDP_UMEM_MIN_CHUNK_SIZE`).
const SMALLEST_CHUNK: u32 = 2048;

/// The shape of a [`Umem`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UmemConfig {
    /// Chunks.
    pub frames: u32,
    /// Bytes of a chunk: a power of two from 2,048 to the page size. A received frame is at most `chunk - 256 -
    /// headroom` bytes long; the kernel drops longer ones and counts them as `rx_dropped`.
    pub chunk: u32,
    /// Bytes to keep free before a received frame, besides the kernel's own 256.
    pub headroom: u32,
    /// Ask for huge pages. Where there are none the mapping falls back to small ones; [`Umem::pages`] tells.
    pub huge_pages: bool,
}

/// What a [`Umem`] is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pages {
    /// Huge pages (`MAP_HUGETLB`).
    Huge,
    /// Pages of the usual size; the kernel was advised to join them where huge ones were asked for.
    Small,
}

/// The right to one chunk, and where in it a frame lies. It is neither `Clone` nor `Copy` and cannot be made: exactly
/// one owner for each chunk, be it a `Frame` or the kernel. 16 bytes.
#[must_use = "a frame that is dropped is lost to its UMEM"]
pub struct Frame {
    /// Bytes from the start of the UMEM, as in `xdp_desc.addr` (aligned mode). `addr..addr + len` is inside of one
    /// chunk: every place that makes or changes a frame keeps that.
    addr: u64,
    len: u32,
    umem: u32,
}

impl Frame {
    /// Bytes of the frame.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it holds none, as a frame that was never received into or written to.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frame({}: {:#x}+{})", self.umem, self.addr, self.len)
    }
}

/// A handle on the packet memory; clones are handles on the same memory, which lives until the last of them and of
/// the sockets over it is gone.
#[derive(Clone)]
pub struct Umem(Arc<Area>);

struct Area {
    mapping: Mapping,
    id: u32,
    frames: u32,
    chunk: u32,
    headroom: u32,
    pages: Pages,
    /// For each chunk whether the kernel has it. The kernel is trusted to give back only what it was given, but a
    /// driver that gives back the same chunk twice would make two owners of it, so it is looked at. Relaxed is enough: a
    /// chunk's entry is touched only by whoever owns it, and ownership is handed on with the frame or through a ring.
    lent: Box<[AtomicU8]>,
}

const OURS: u8 = 0;
const KERNELS: u8 = 1;

/// Tells frames of one UMEM from those of another; 0 is never given.
static LAST_ID: AtomicU32 = AtomicU32::new(0);

impl Umem {
    /// Maps the memory (touching every page of it) and returns it with all of its frames, empty and owned by the
    /// caller.
    ///
    /// # Errors
    /// [`UmemError`]: a shape that `AF_XDP` does not take, or no memory.
    pub fn new(config: &UmemConfig) -> Result<(Umem, Vec<Frame>), UmemError> {
        let UmemConfig {
            frames,
            chunk,
            headroom,
            huge_pages,
        } = *config;
        let page = sys::page_size();
        if !chunk.is_power_of_two() || !(SMALLEST_CHUNK..=page).contains(&chunk) {
            return Err(UmemError::Chunk { chunk, page });
        }
        if headroom >= chunk - KERNEL_HEADROOM {
            return Err(UmemError::Headroom { headroom, chunk });
        }
        let bytes = (frames as usize)
            .checked_mul(chunk as usize)
            .filter(|&n| n > 0 && n <= isize::MAX as usize - HUGE_PAGE)
            .ok_or(UmemError::Frames { frames, chunk })?;
        let id = LAST_ID
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1))
            .map_err(|_| UmemError::Exhausted)?
            + 1;
        let (mapping, pages) = map(bytes, huge_pages)?;
        let lent = (0..frames).map(|_| AtomicU8::new(OURS)).collect();
        let umem = Umem(Arc::new(Area {
            mapping,
            id,
            frames,
            chunk,
            headroom,
            pages,
            lent,
        }));
        // From the last to the first: callers take from the end, and low addresses come first.
        let all = (0..u64::from(frames))
            .rev()
            .map(|n| Frame {
                addr: n * u64::from(chunk),
                len: 0,
                umem: id,
            })
            .collect();
        Ok((umem, all))
    }

    /// Bytes of a chunk.
    pub fn chunk(&self) -> u32 {
        self.0.chunk
    }

    /// Chunks.
    pub fn frames(&self) -> u32 {
        self.0.frames
    }

    /// What the memory is made of.
    pub fn pages(&self) -> Pages {
        self.0.pages
    }

    /// Bytes that [`Umem::write`] can put into a frame: a whole chunk.
    pub fn capacity(&self) -> usize {
        self.0.chunk as usize
    }

    /// The frame's bytes; none if it is of another UMEM.
    pub fn bytes<'a>(&'a self, frame: &'a Frame) -> &'a [u8] {
        if !self.owns(frame) {
            return &[];
        }
        // SAFETY: the frame lies inside of the mapping (its invariant), which lives as long as `self`; the frame is the
        // only owner of its chunk, so neither the kernel nor anybody else writes there while it is borrowed.
        unsafe { std::slice::from_raw_parts(self.start(frame), frame.len as usize) }
    }

    /// The frame's bytes, to be changed; none if it is of another UMEM.
    pub fn bytes_mut<'a>(&'a self, frame: &'a mut Frame) -> &'a mut [u8] {
        if !self.owns(frame) {
            return &mut [];
        }
        // SAFETY: as in `bytes`, and the frame is borrowed exclusively, so these are the only bytes of the chunk lent.
        unsafe { std::slice::from_raw_parts_mut(self.start(frame), frame.len as usize) }
    }

    /// Makes `bytes` the frame's content, from the start of its chunk.
    ///
    /// # Errors
    /// [`TooLong`] if they do not fit, or the frame is of another UMEM; the frame is then as it was.
    pub fn write(&self, frame: &mut Frame, bytes: &[u8]) -> Result<(), TooLong> {
        let capacity = if self.owns(frame) { self.capacity() } else { 0 };
        if capacity == 0 || bytes.len() > capacity {
            return Err(TooLong {
                len: bytes.len(),
                capacity,
            });
        }
        self.reset(frame);
        frame.len = bytes.len() as u32;
        self.bytes_mut(frame).copy_from_slice(bytes);
        Ok(())
    }

    /// Asks the processor for the first 128 bytes of the frame: link, network and transport headers. A hint for
    /// x86-64 and aarch64, nothing elsewhere.
    #[inline]
    pub fn prefetch(&self, frame: &Frame) {
        if !self.owns(frame) || frame.is_empty() {
            return;
        }
        let first = self.start(frame);
        sys::prefetch_at(first);
        if frame.len > 64 {
            sys::prefetch_at(first.wrapping_add(64));
        }
    }

    fn owns(&self, frame: &Frame) -> bool {
        frame.umem == self.0.id
    }

    fn start(&self, frame: &Frame) -> *mut u8 {
        // `wrapping_add` for want of a reason to be unsafe: the frame is in range, the product does not wrap.
        self.0.mapping.start().wrapping_add(frame.addr as usize)
    }

    fn reset(&self, frame: &mut Frame) {
        frame.addr &= !u64::from(self.0.chunk - 1);
        frame.len = 0;
    }

    pub(crate) fn is(&self, other: &Umem) -> bool {
        self.0.id == other.0.id
    }

    /// What `XDP_UMEM_REG` wants to know.
    pub(crate) fn registration(&self) -> libc::xdp_umem_reg {
        libc::xdp_umem_reg {
            addr: self.0.mapping.start() as u64,
            len: self.len() as u64,
            chunk_size: self.0.chunk,
            headroom: self.0.headroom,
            flags: 0,
            tx_metadata_len: 0,
        }
    }

    /// Bytes of all chunks.
    pub(crate) fn len(&self) -> usize {
        self.0.frames as usize * self.0.chunk as usize
    }

    /// Makes the chunk the kernel's and returns the frame's address and length, or gives the frame back if it is not
    /// of this UMEM.
    pub(crate) fn lend(&self, frame: Frame) -> Result<(u64, u32), Frame> {
        // A frame of this UMEM names one of its chunks; `get` only spares the bounds check its panic.
        match self.0.lent.get(self.index(frame.addr)) {
            Some(lent) if self.owns(&frame) => {
                lent.store(KERNELS, Ordering::Relaxed);
                Ok((frame.addr, frame.len))
            }
            _ => Err(frame),
        }
    }

    /// Makes a frame of what the kernel gave back. `None` if it lies outside of the memory or crosses the end of its
    /// chunk, or if the chunk was not the kernel's to give.
    pub(crate) fn take(&self, addr: u64, len: u32) -> Option<Frame> {
        let lent = self.0.lent.get(self.index(addr))?;
        let offset = addr & u64::from(self.0.chunk - 1);
        if offset + u64::from(len) > u64::from(self.0.chunk)
            || lent.load(Ordering::Relaxed) != KERNELS
        {
            return None;
        }
        lent.store(OURS, Ordering::Relaxed);
        Some(Frame {
            addr,
            len,
            umem: self.0.id,
        })
    }

    /// The same, as an empty frame at the start of its chunk.
    pub(crate) fn take_empty(&self, addr: u64) -> Option<Frame> {
        self.take(addr & !u64::from(self.0.chunk - 1), 0)
    }

    fn index(&self, addr: u64) -> usize {
        usize::try_from(addr >> self.0.chunk.trailing_zeros()).unwrap_or(usize::MAX)
    }
}

impl fmt::Debug for Umem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Area {
            id,
            frames,
            chunk,
            pages,
            ..
        } = &*self.0;
        write!(
            f,
            "Umem({id}: {frames} frames of {chunk} bytes, {pages:?} pages)"
        )
    }
}

fn map(bytes: usize, huge_pages: bool) -> Result<(Mapping, Pages), UmemError> {
    if huge_pages {
        // Whole huge pages, else the mapping could not be given back.
        let whole = bytes.next_multiple_of(HUGE_PAGE);
        if let Ok(mapping) = Mapping::anonymous(whole, libc::MAP_HUGETLB | libc::MAP_POPULATE) {
            return Ok((mapping, Pages::Huge));
        }
    }
    // The advice has to come before the pages are there, so they are asked for by it and not by MAP_POPULATE.
    let populate = if huge_pages { 0 } else { libc::MAP_POPULATE };
    let mapping =
        Mapping::anonymous(bytes, populate).map_err(|source| UmemError::Map { bytes, source })?;
    if huge_pages {
        mapping.advise_huge_and_populate();
    }
    Ok((mapping, Pages::Small))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(frames: u32, chunk: u32) -> UmemConfig {
        UmemConfig {
            frames,
            chunk,
            headroom: 0,
            huge_pages: false,
        }
    }

    #[test]
    fn a_frame_is_sixteen_bytes() {
        assert_eq!(size_of::<Frame>(), 16);
    }

    #[test]
    fn all_frames_are_handed_out_once_and_keep_their_own_bytes() {
        let (umem, mut frames) = Umem::new(&config(64, 2048)).unwrap();
        assert_eq!(
            (frames.len(), umem.frames(), umem.chunk(), umem.capacity()),
            (64, 64, 2048, 2048)
        );
        for (n, frame) in frames.iter_mut().enumerate() {
            assert!(frame.is_empty());
            umem.write(frame, &[n as u8; 2048]).unwrap();
        }
        for (n, frame) in frames.iter_mut().enumerate() {
            assert_eq!(umem.bytes(frame), [n as u8; 2048]);
            umem.prefetch(frame);
            umem.bytes_mut(frame)[0] = 0xff;
            assert_eq!(umem.bytes(frame)[..2], [0xff, n as u8]);
        }
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused_and_the_frame_stays_as_it_was() {
        let (umem, mut frames) = Umem::new(&config(1, 2048)).unwrap();
        umem.write(&mut frames[0], b"before").unwrap();
        assert_eq!(
            umem.write(&mut frames[0], &[0; 2049]),
            Err(TooLong {
                len: 2049,
                capacity: 2048
            })
        );
        assert_eq!(umem.bytes(&frames[0]), b"before");
        umem.write(&mut frames[0], b"").unwrap();
        assert!(frames[0].is_empty());
    }

    #[test]
    fn a_frame_of_another_umem_is_harmless() {
        let (one, mut frames) = Umem::new(&config(8, 4096)).unwrap();
        let (other, _) = Umem::new(&config(1, 2048)).unwrap();
        for frame in &mut frames {
            one.write(frame, b"mine").unwrap();
            assert_eq!(other.bytes(frame), b"");
            assert_eq!(other.bytes_mut(frame), b"");
            assert_eq!(
                other.write(frame, b"yours"),
                Err(TooLong {
                    len: 5,
                    capacity: 0
                })
            );
            assert_eq!(
                other.write(frame, b""),
                Err(TooLong {
                    len: 0,
                    capacity: 0
                })
            );
            other.prefetch(frame);
            assert_eq!(one.bytes(frame), b"mine");
        }
        let back = other.lend(frames.remove(0)).unwrap_err();
        assert_eq!(one.bytes(&back), b"mine");
    }

    #[test]
    fn a_chunk_is_a_power_of_two_from_2048_to_the_page_size() {
        for chunk in [0, 1, 1024, 2047, 2049, 3072, 8192, 65_536, u32::MAX] {
            assert!(
                matches!(Umem::new(&config(1, chunk)), Err(UmemError::Chunk { .. })),
                "{chunk}"
            );
        }
        for chunk in [2048, 4096] {
            assert!(Umem::new(&config(3, chunk)).is_ok(), "{chunk}");
        }
    }

    #[test]
    fn shapes_without_room_for_a_frame_are_refused() {
        assert!(matches!(
            Umem::new(&config(0, 2048)),
            Err(UmemError::Frames { .. })
        ));
        let wide = UmemConfig {
            headroom: 2048 - 256,
            ..config(1, 2048)
        };
        assert!(matches!(Umem::new(&wide), Err(UmemError::Headroom { .. })));
        assert!(
            Umem::new(&UmemConfig {
                headroom: 2048 - 257,
                ..config(1, 2048)
            })
            .is_ok()
        );
    }

    #[test]
    fn more_memory_than_there_is_address_space_is_an_error() {
        // 2^32 chunks of 4 KiB are 16 TiB: mappable in 47 bits without MAP_POPULATE, so go through the mapping itself.
        assert!(Mapping::anonymous(1 << 62, 0).is_err());
    }

    #[test]
    fn huge_pages_or_small_ones_the_memory_is_the_same() {
        let asked = UmemConfig {
            huge_pages: true,
            ..config(100, 2048)
        };
        let (umem, mut frames) = Umem::new(&asked).unwrap();
        let reserved = std::fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
        if reserved.trim() == "0" {
            assert_eq!(umem.pages(), Pages::Small);
        }
        for frame in &mut frames {
            umem.write(frame, &[7; 2048]).unwrap();
        }
        assert_eq!(Umem::new(&config(1, 2048)).unwrap().0.pages(), Pages::Small);
    }

    #[test]
    fn only_what_the_kernel_was_lent_becomes_a_frame_again() {
        let (umem, mut frames) = Umem::new(&config(4, 2048)).unwrap();
        let (addr, _) = umem.lend(frames.pop().unwrap()).unwrap();
        assert_eq!(addr, 0);
        for (addr, len) in [
            (8192, 0),
            (u64::MAX, 0),
            (u64::MAX, u32::MAX),
            (0, 2049),
            (0, u32::MAX),
            (2000, 49),
            (2048, 10),
            (1 << 63, 1),
        ] {
            assert!(umem.take(addr, len).is_none(), "{addr:#x}+{len}");
        }
        let frame = umem.take(256, 1792).unwrap();
        assert_eq!(umem.bytes(&frame).len(), 1792);
        assert!(
            umem.take(256, 1792).is_none(),
            "a chunk that is handed back twice has one owner"
        );
    }

    #[test]
    fn the_memory_outlives_the_handle_that_made_it() {
        let (umem, mut frames) = Umem::new(&config(2, 4096)).unwrap();
        let kept = umem.clone();
        drop(umem);
        kept.write(&mut frames[1], b"still here").unwrap();
        assert_eq!(kept.bytes(&frames[1]), b"still here");
    }
}
