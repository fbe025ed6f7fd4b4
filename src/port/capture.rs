//! Capture files, read and written with pcap-parser. What a file says is hostile: lengths are bounded, an error is an error, never a panic.

pub use super::capture_writer::{CaptureWriter, Part};
use pcap_parser::pcapng::Block;
use pcap_parser::traits::{PcapNGPacketBlock, PcapReaderIterator};
use pcap_parser::{Linktype, PcapBlockOwned, PcapError, create_reader};
use std::fs::File;
use std::path::{Path, PathBuf};

const BUFFER: usize = 1 << 20;
/// The longest block that is read; far beyond any frame.
const LONGEST_BLOCK: usize = 16 << 20;
const NANOS: u64 = 1_000_000_000;

/// Why a capture could not be read or written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum CaptureError {
    #[error("{path}: {source}", path = path.display())]
    Io {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{path}: not a pcap or pcapng file", path = path.display())]
    NotACapture { path: PathBuf },
    #[error("{path}: broken after {frames} frames: {why}", path = path.display())]
    Broken {
        path: PathBuf,
        frames: u64,
        why: String,
    },
    #[error("{path}: link type {linktype} is not Ethernet (1); only captures of Ethernet frames can be replayed", path = path.display())]
    NotEthernet { path: PathBuf, linktype: i32 },
}

/// One captured frame.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Captured {
    /// Nanoseconds since the Unix epoch.
    pub time: u64,
    /// The bytes that were captured.
    pub bytes: Vec<u8>,
    /// True if the frame was longer than what was captured.
    pub cut: bool,
}

/// Reads pcap and pcapng.
pub struct CaptureReader {
    path: PathBuf,
    reader: Box<dyn PcapReaderIterator + Send>,
    clocks: Vec<Clock>,
    frames: u64,
}

/// How an interface of a capture counts time.
#[derive(Clone, Copy)]
struct Clock {
    per_second: u64,
    offset: i64,
}

impl Clock {
    fn nanos(self, ticks: u64) -> u64 {
        let per_second = u128::from(self.per_second.max(1));
        let nanos = u128::from(ticks) * u128::from(NANOS) / per_second;
        let nanos =
            i128::try_from(nanos).unwrap_or(0) + i128::from(self.offset) * i128::from(NANOS);
        u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
    }
}

impl CaptureReader {
    /// Opens a capture, told by its first bytes.
    ///
    /// # Errors
    /// [`CaptureError`].
    pub fn open(path: &Path) -> Result<CaptureReader, CaptureError> {
        let file = File::open(path).map_err(|source| CaptureError::Io {
            path: path.into(),
            source,
        })?;
        let reader = create_reader(BUFFER, file)
            .map_err(|_| CaptureError::NotACapture { path: path.into() })?;
        Ok(CaptureReader {
            path: path.into(),
            reader,
            clocks: Vec::new(),
            frames: 0,
        })
    }

    /// Reads the next frame into `into`; false at the end.
    ///
    /// # Errors
    /// [`CaptureError::Broken`] or [`CaptureError::NotEthernet`].
    pub fn next(&mut self, into: &mut Captured) -> Result<bool, CaptureError> {
        let mut capacity = BUFFER;
        loop {
            let step = match self.reader.next() {
                Ok((offset, block)) => {
                    let got = take(&block, &mut self.clocks, into);
                    self.reader.consume(offset);
                    Step::Block(got)
                }
                Err(PcapError::Eof) => return Ok(false),
                Err(PcapError::Incomplete(_)) => Step::More,
                Err(PcapError::BufferTooSmall) => Step::Grow,
                Err(e) => Step::Fail(plain(&e)),
            };
            match step {
                Step::Block(Ok(true)) => {
                    self.frames += 1;
                    return Ok(true);
                }
                Step::Block(Ok(false)) => {}
                Step::Block(Err(Refused::Linktype(linktype))) => {
                    return Err(CaptureError::NotEthernet {
                        path: self.path.clone(),
                        linktype,
                    });
                }
                Step::Block(Err(Refused::Broken(why))) | Step::Fail(why) => {
                    return Err(self.broken(why));
                }
                Step::More if self.reader.reader_exhausted() => {
                    return Err(self.broken("it ends in the middle of a block".into()));
                }
                Step::More => self
                    .reader
                    .refill()
                    .map_err(|e| plain(&e))
                    .map_err(|why| self.broken(why))?,
                Step::Grow if capacity >= LONGEST_BLOCK => {
                    return Err(self.broken("a block is longer than 16 MiB".into()));
                }
                Step::Grow => {
                    capacity *= 2;
                    self.reader.grow(capacity);
                    self.reader
                        .refill()
                        .map_err(|e| plain(&e))
                        .map_err(|why| self.broken(why))?;
                }
            }
        }
    }

    fn broken(&self, why: String) -> CaptureError {
        CaptureError::Broken {
            path: self.path.clone(),
            frames: self.frames,
            why,
        }
    }
}

enum Step {
    Block(Result<bool, Refused>),
    More,
    Grow,
    Fail(String),
}

enum Refused {
    Linktype(i32),
    Broken(String),
}

fn plain(e: &PcapError<&[u8]>) -> String {
    match e {
        PcapError::UnexpectedEof => "it ends in the middle of a block".into(),
        PcapError::ReadError => "it could not be read".into(),
        PcapError::NomError(_, kind) | PcapError::OwnedNomError(_, kind) => {
            format!("a block is malformed ({kind:?})")
        }
        other => format!("{other:?}"),
    }
}

/// Copies the frame of a block that has one.
fn take(
    block: &PcapBlockOwned<'_>,
    clocks: &mut Vec<Clock>,
    into: &mut Captured,
) -> Result<bool, Refused> {
    let (time, bytes, full) = match block {
        PcapBlockOwned::LegacyHeader(header) => {
            ethernet(header.network)?;
            let per_second = if header.is_nanosecond_precision() {
                NANOS
            } else {
                1_000_000
            };
            clocks.push(Clock {
                per_second,
                offset: header.thiszone.into(),
            });
            return Ok(false);
        }
        PcapBlockOwned::Legacy(packet) => {
            let clock = clock(clocks, 0)?;
            let time = u64::from(packet.ts_sec) * NANOS
                + Clock { offset: 0, ..clock }.nanos(packet.ts_usec.into());
            (
                time,
                packet.data.get(..packet.caplen as usize),
                packet.origlen,
            )
        }
        PcapBlockOwned::NG(Block::SectionHeader(_)) => {
            clocks.clear();
            return Ok(false);
        }
        PcapBlockOwned::NG(Block::InterfaceDescription(interface)) => {
            ethernet(interface.linktype)?;
            let per_second = resolution(interface.if_tsresol)
                .ok_or_else(|| Refused::Broken("an impossible time resolution".into()))?;
            clocks.push(Clock {
                per_second,
                offset: interface.ts_offset(),
            });
            return Ok(false);
        }
        PcapBlockOwned::NG(Block::EnhancedPacket(packet)) => {
            let ticks = u64::from(packet.ts_high) << 32 | u64::from(packet.ts_low);
            let time = clock(clocks, packet.if_id as usize)?.nanos(ticks);
            (
                time,
                packet.data.get(..packet.caplen as usize),
                packet.origlen,
            )
        }
        PcapBlockOwned::NG(Block::SimplePacket(packet)) => {
            clock(clocks, 0)?;
            // It has no time of its own: the last one known goes on.
            let len = packet.data.len().min(packet.orig_len() as usize);
            (into.time, packet.data.get(..len), packet.orig_len())
        }
        PcapBlockOwned::NG(_) => return Ok(false),
    };
    let bytes = bytes.ok_or_else(|| Refused::Broken("a frame is longer than its block".into()))?;
    into.time = time;
    into.cut = bytes.len() < full as usize;
    into.bytes.clear();
    into.bytes.extend_from_slice(bytes);
    Ok(true)
}

/// Units in a second: the exponent of 10, or with the high bit of 2 (pcapng, section 4.2, `if_tsresol`).
fn resolution(exponent: u8) -> Option<u64> {
    match exponent & 0x80 {
        0 => 10u64.checked_pow(exponent.into()),
        _ => 1u64.checked_shl(u32::from(exponent & 0x7f)),
    }
}

fn ethernet(linktype: Linktype) -> Result<(), Refused> {
    // In a pcap header the bits above say how long an FCS is.
    if linktype.0 & 0xffff == Linktype::ETHERNET.0 {
        Ok(())
    } else {
        Err(Refused::Linktype(linktype.0))
    }
}

fn clock(clocks: &[Clock], interface: usize) -> Result<Clock, Refused> {
    clocks
        .get(interface)
        .copied()
        .ok_or_else(|| Refused::Broken("a frame of an interface that was not described".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Vec<Captured>, CaptureError> {
        let mut reader = CaptureReader::open(path)?;
        let (mut all, mut frame) = (Vec::new(), Captured::default());
        while reader.next(&mut frame)? {
            all.push(frame.clone());
        }
        Ok(all)
    }

    fn written(dir: &Path, frames: &[(u64, Vec<u8>)]) -> PathBuf {
        let path = dir.join("a.pcapng");
        let mut writer = CaptureWriter::create(&path).unwrap();
        for (time, bytes) in frames {
            writer.write(*time, bytes).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    #[test]
    fn what_is_written_is_read_back_to_the_nanosecond() {
        let dir = tempfile::tempdir().unwrap();
        let frames: Vec<_> = (0..70u64)
            .map(|n| (1_700_000_000_123_456_789 + n, vec![n as u8; n as usize + 1]))
            .collect();
        let read = read(&written(dir.path(), &frames)).unwrap();
        assert_eq!(read.len(), frames.len());
        for (captured, (time, bytes)) in read.iter().zip(&frames) {
            assert_eq!(
                (captured.time, &captured.bytes, captured.cut),
                (*time, bytes, false)
            );
        }
    }

    #[test]
    fn a_capture_cut_or_changed_anywhere_is_an_error_or_a_shorter_capture_but_never_a_panic() {
        let dir = tempfile::tempdir().unwrap();
        let whole =
            std::fs::read(written(dir.path(), &[(1, vec![1; 60]), (2, vec![2; 61])])).unwrap();
        let path = dir.path().join("hostile");
        for at in 0..whole.len() {
            std::fs::write(&path, &whole[..at]).unwrap();
            let _ = read(&path);
            for value in [0, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = value;
                std::fs::write(&path, &changed).unwrap();
                if let Ok(frames) = read(&path) {
                    assert!(frames.len() <= 2);
                }
            }
        }
    }

    #[test]
    fn other_files_and_other_links_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        std::fs::write(&path, b"hello, this is no capture at all").unwrap();
        assert!(matches!(
            CaptureReader::open(&path),
            Err(CaptureError::NotACapture { .. })
        ));
        let mut raw_ip = 0xa1b2_c3d4u32.to_le_bytes().to_vec();
        raw_ip.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 101, 0, 0, 0]);
        std::fs::write(&path, &raw_ip).unwrap();
        assert!(matches!(
            read(&path),
            Err(CaptureError::NotEthernet { linktype: 101, .. })
        ));
    }
}
