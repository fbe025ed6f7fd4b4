//! The packet memory: one mapping, cut into chunks of one size, each owned through its one [`Frame`].
//!
//! It is anonymous, or a file of memory (memfd_create(2)) that can be handed to another process together with the sockets over it.

use std::{
    ffi::c_int,
    fmt,
    fs::File,
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
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
    file: Option<OwnedFd>,
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
        let bytes = check_shape(config)?;
        let (mapping, pages) = map(bytes, config.huge_pages)?;
        let umem = Umem::over(config, mapping, pages, None, OURS)?;
        Ok(umem.with_all())
    }

    /// The same in a file of memory, which [`Umem::file`] gives out for another process to [`adopt`](Umem::adopt).
    ///
    /// # Errors
    /// As those of [`Umem::new`].
    pub fn shared(config: &UmemConfig) -> Result<(Umem, Vec<Frame>), UmemError> {
        let bytes = check_shape(config)?;
        let huge = config.huge_pages.then(|| file(bytes, Pages::Huge));
        let (file, mapping, pages) = match huge {
            Some(Ok((file, mapping))) => (file, mapping, Pages::Huge),
            _ => {
                let (file, mapping) = file(bytes, Pages::Small)
                    .map_err(|source| UmemError::File { bytes, source })?;
                (file, mapping, Pages::Small)
            }
        };
        let umem = Umem::over(config, mapping, pages, Some(file), OURS)?;
        Ok(umem.with_all())
    }

    /// Takes over the memory that another process has made by [`Umem::shared`] and let go of, and the frames of the chunks that it had in hand, empty and in this
    /// order. All other chunks are the kernel's: those in the rings of the sockets that are taken over with it, and those that are lost. Here `huge_pages` says
    /// what the memory is made of.
    ///
    /// That the other process has let go of it cannot be seen: whoever passes on the descriptor says so.
    ///
    /// # Errors
    /// [`UmemError::Foreign`] and [`UmemError::Twice`] besides those of [`Umem::new`].
    pub fn adopt(
        file: OwnedFd,
        config: &UmemConfig,
        in_hand: &[u32],
    ) -> Result<(Umem, Vec<Frame>), UmemError> {
        let bytes = check_shape(config)?;
        let pages = if config.huge_pages {
            Pages::Huge
        } else {
            Pages::Small
        };
        let len = pages.whole(bytes);
        // What can be cut short behind our back would end us when it is read.
        match sys::seals(file.as_fd()) {
            Ok(seals) if seals & SEALS == SEALS => {}
            Ok(_) => return Err(UmemError::Foreign("it is not sealed")),
            Err(_) => return Err(UmemError::Foreign("it is no file of memory")),
        }
        let file = File::from(file);
        if file.metadata().map_or(0, |found| found.len()) != len as u64 {
            return Err(UmemError::Foreign("it is of another length"));
        }
        let file = OwnedFd::from(file);
        let mapping =
            Mapping::file(file.as_fd(), len).map_err(|source| UmemError::Map { bytes, source })?;
        let umem = Umem::over(config, mapping, pages, Some(file), KERNELS)?;
        let mut frames = Vec::with_capacity(config.frames as usize);
        for chunk in in_hand {
            let addr = u64::from(*chunk) * u64::from(config.chunk);
            frames.push(umem.take_empty(addr).ok_or(UmemError::Twice(*chunk))?);
        }
        Ok((umem, frames))
    }

    fn over(
        config: &UmemConfig,
        mapping: Mapping,
        pages: Pages,
        file: Option<OwnedFd>,
        owner: u8,
    ) -> Result<Umem, UmemError> {
        let UmemConfig {
            frames,
            chunk,
            headroom,
            ..
        } = *config;
        let id = LAST_ID
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |id| id.checked_add(1))
            .map_err(|_| UmemError::Exhausted)?
            + 1;
        let lent = (0..frames).map(|_| AtomicU8::new(owner)).collect();
        Ok(Umem(Arc::new(Area {
            mapping,
            file,
            id,
            frames,
            chunk,
            headroom,
            pages,
            lent,
        })))
    }

    /// With every one of its frames, which is done once, when it is made.
    fn with_all(self) -> (Umem, Vec<Frame>) {
        // From the last to the first: callers take from the end, and low addresses come first.
        let all = (0..u64::from(self.0.frames))
            .rev()
            .map(|n| Frame {
                addr: n * u64::from(self.0.chunk),
                len: 0,
                umem: self.0.id,
            })
            .collect();
        (self, all)
    }

    /// The file that it is in, where it was made to be handed over.
    pub fn file(&self) -> Option<BorrowedFd<'_>> {
        self.0.file.as_ref().map(AsFd::as_fd)
    }

    /// The number of a frame's chunk, from 0, by which [`Umem::adopt`] gives it out again; `None` if it is of another UMEM.
    pub fn number(&self, frame: &Frame) -> Option<u32> {
        self.chunk_at(frame.addr).filter(|_| self.owns(frame))
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

    /// Asks the processor for the first 128 bytes of the frame: link, network and transport headers of whatever form. A hint for x86-64 and aarch64, nothing elsewhere.
    #[inline]
    pub fn prefetch(&self, frame: &Frame) {
        if !self.owns(frame) || frame.is_empty() {
            return;
        }
        let first = self.start(frame);
        sys::prefetch_at::<true>(first);
        if frame.len > 64 {
            sys::prefetch_at::<true>(first.wrapping_add(64));
        }
    }

    /// The same of the first 64 bytes, where the headers of most frames are, into the second cache: all frames start at one place of their chunks, and the first cache has no room for many lines of one place.
    #[inline]
    pub fn prefetch_head(&self, frame: &Frame) {
        if self.owns(frame) && !frame.is_empty() {
            sys::prefetch_at::<false>(self.start(frame));
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

    /// The chunk that an address is in.
    pub(crate) fn chunk_at(&self, addr: u64) -> Option<u32> {
        let number = u32::try_from(self.index(addr)).ok()?;
        (number < self.0.frames).then_some(number)
    }

    /// Whether the chunk that an address is in is not the kernel's.
    pub(crate) fn is_in_hand(&self, addr: u64) -> bool {
        let lent = self.0.lent.get(self.index(addr));
        lent.is_some_and(|lent| lent.load(Ordering::Relaxed) == OURS)
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

/// What a file of packet memory is sealed with: it stays as long as it is (`F_ADD_SEALS`, fcntl(2)).
const SEALS: c_int = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;

/// Refuses what `AF_XDP` does not take; the bytes of all chunks.
fn check_shape(config: &UmemConfig) -> Result<usize, UmemError> {
    let UmemConfig {
        frames,
        chunk,
        headroom,
        ..
    } = *config;
    let page = sys::page_size();
    if !chunk.is_power_of_two() || !(SMALLEST_CHUNK..=page).contains(&chunk) {
        return Err(UmemError::Chunk { chunk, page });
    }
    if headroom >= chunk - KERNEL_HEADROOM {
        return Err(UmemError::Headroom { headroom, chunk });
    }
    (frames as usize)
        .checked_mul(chunk as usize)
        .filter(|&n| n > 0 && n <= isize::MAX as usize - HUGE_PAGE)
        .ok_or(UmemError::Frames { frames, chunk })
}

impl Pages {
    /// So many bytes, in whole pages of this kind where these are huge: else the mapping could not be given back.
    fn whole(self, bytes: usize) -> usize {
        match self {
            Pages::Huge => bytes.next_multiple_of(HUGE_PAGE),
            Pages::Small => bytes,
        }
    }
}

/// A file of memory with all of its pages, sealed, and where it is mapped.
fn file(bytes: usize, pages: Pages) -> io::Result<(OwnedFd, Mapping)> {
    let len = pages.whole(bytes);
    let huge = match pages {
        Pages::Huge => libc::MFD_HUGETLB,
        Pages::Small => 0,
    };
    let file = File::from(sys::memory_file(huge)?);
    file.set_len(len as u64)?;
    let file = OwnedFd::from(file);
    let mapping = Mapping::file(file.as_fd(), len)?;
    sys::seal(file.as_fd(), SEALS)?;
    Ok((file, mapping))
}

fn map(bytes: usize, huge_pages: bool) -> Result<(Mapping, Pages), UmemError> {
    if huge_pages {
        let whole = Pages::Huge.whole(bytes);
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

    #[test]
    fn memory_in_a_file_is_taken_over_with_its_bytes_and_only_the_chunks_in_hand_are_ours() {
        for huge_pages in [false, true] {
            let asked = UmemConfig {
                huge_pages,
                ..config(8, 2048)
            };
            let (umem, mut frames) = Umem::shared(&asked).unwrap();
            assert_eq!(frames.len(), 8);
            for (n, frame) in frames.iter_mut().enumerate() {
                umem.write(frame, &[n as u8; 2048]).unwrap();
            }
            let (rx, _) = umem.lend(frames.remove(3)).unwrap();
            let numbers: Vec<u32> = frames.iter().map(|f| umem.number(f).unwrap()).collect();
            assert_eq!(numbers, [7, 6, 5, 3, 2, 1, 0]);
            let file = umem.file().unwrap().try_clone_to_owned().unwrap();
            let shape = UmemConfig {
                huge_pages: umem.pages() == Pages::Huge,
                ..asked
            };
            drop((umem, frames));
            let (umem, frames) = Umem::adopt(file, &shape, &numbers).unwrap();
            let again: Vec<u32> = frames.iter().map(|f| umem.number(f).unwrap()).collect();
            assert_eq!(again, numbers);
            assert!(frames.iter().all(Frame::is_empty));
            let frame = umem.take(rx, 2048).unwrap();
            assert_eq!(umem.bytes(&frame), [3; 2048]);
            assert!(umem.take(rx, 0).is_none());
            assert!(umem.take(0, 0).is_none(), "in hand");
        }
    }

    #[test]
    fn memory_that_is_not_what_it_is_said_to_be_is_not_taken_over() {
        let shape = config(8, 2048);
        let made = || {
            let (umem, _) = Umem::shared(&shape).unwrap();
            umem.file().unwrap().try_clone_to_owned().unwrap()
        };
        let refused = |file, shape: &UmemConfig, in_hand: &[u32]| {
            Umem::adopt(file, shape, in_hand).unwrap_err().to_string()
        };
        assert!(refused(made(), &config(7, 2048), &[]).contains("length"));
        assert!(refused(made(), &config(8, 4096), &[]).contains("length"));
        let huge = UmemConfig {
            huge_pages: true,
            ..shape
        };
        assert!(refused(made(), &huge, &[]).contains("length"));
        assert!(refused(made(), &shape, &[0, 8]).contains("chunk 8"));
        assert!(refused(made(), &shape, &[u32::MAX]).contains("chunk 4294967295"));
        assert!(refused(made(), &shape, &[1, 2, 1]).contains("chunk 1"));
        assert!(refused(made(), &config(0, 2048), &[]).contains("cannot be mapped"));
        let open = sys::memory_file(0).unwrap();
        assert!(refused(open, &shape, &[]).contains("sealed"));
        let null = OwnedFd::from(File::open("/dev/null").unwrap());
        assert!(refused(null, &shape, &[]).contains("no file of memory"));
    }

    #[test]
    fn what_is_not_made_to_be_handed_over_has_no_file() {
        assert!(Umem::new(&config(1, 2048)).unwrap().0.file().is_none());
    }
}
