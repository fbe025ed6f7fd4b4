//! Captures, written as pcapng with nanosecond times.

use super::capture::CaptureError;
use pcap_parser::pcapng::{
    EnhancedPacketBlock, InterfaceDescriptionBlock, OptionCode, PcapNGOption, SectionHeaderBlock,
};
use pcap_parser::{Linktype, ToVec};
use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes pcapng with nanosecond times.
pub struct CaptureWriter {
    path: PathBuf,
    out: BufWriter<File>,
}

/// A frame, or the beginning of one.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// Which of the capture's interfaces it came in by, from 0.
    pub interface: u32,
    /// Nanoseconds since the Unix epoch.
    pub time: u64,
    /// Its length on the wire.
    pub len: u32,
    /// What there is of it.
    pub bytes: &'a [u8],
    /// What an analyser shows beside it.
    pub comment: Option<&'a str>,
}

impl CaptureWriter {
    /// Creates the file, or empties it.
    ///
    /// # Errors
    /// [`CaptureError::Io`].
    pub fn create(path: &Path) -> Result<CaptureWriter, CaptureError> {
        CaptureWriter::begin(path, vec![], vec![vec![]], 0o666)
    }

    /// Creates the file, for its owner alone, with a comment and with named interfaces.
    ///
    /// # Errors
    /// [`CaptureError::Io`].
    pub fn create_for(
        path: &Path,
        comment: &str,
        interfaces: &[String],
    ) -> Result<CaptureWriter, CaptureError> {
        let section = vec![
            text(OptionCode::Comment, comment),
            text(
                OptionCode::ShbUserAppl,
                concat!("Portcullis ", env!("CARGO_PKG_VERSION")),
            ),
        ];
        let named = interfaces
            .iter()
            .map(|name| vec![text(OptionCode::IfName, name)]);
        CaptureWriter::begin(path, section, named.collect(), 0o600)
    }

    fn begin(
        path: &Path,
        section: Vec<PcapNGOption<'_>>,
        interfaces: Vec<Vec<PcapNGOption<'_>>>,
        mode: u32,
    ) -> Result<CaptureWriter, CaptureError> {
        let io = |source| CaptureError::Io {
            path: path.into(),
            source,
        };
        let mut open = OpenOptions::new();
        open.write(true).create(true).truncate(true);
        let mut writer = CaptureWriter {
            path: path.into(),
            out: BufWriter::new(open.mode(mode).open(path).map_err(io)?),
        };
        let mut section = SectionHeaderBlock {
            block_type: pcap_parser::SHB_MAGIC,
            block_len1: 0,
            bom: pcap_parser::BOM_MAGIC,
            major_version: 1,
            minor_version: 0,
            section_len: -1,
            options: section,
            block_len2: 0,
        };
        writer.block(section.to_vec())?;
        for options in interfaces {
            let mut interface = InterfaceDescriptionBlock {
                block_type: pcap_parser::IDB_MAGIC,
                block_len1: 0,
                linktype: Linktype::ETHERNET,
                reserved: 0,
                snaplen: 0,
                // Resolution and offset are added from the fields below.
                options,
                block_len2: 0,
                if_tsresol: 9,
                if_tsoffset: 0,
            };
            writer.block(interface.to_vec())?;
        }
        Ok(writer)
    }

    /// Appends one frame.
    ///
    /// # Errors
    /// [`CaptureError::Io`].
    pub fn write(&mut self, time: u64, frame: &[u8]) -> Result<(), CaptureError> {
        self.write_part(&Part {
            interface: 0,
            time,
            len: frame.len() as u32,
            bytes: frame,
            comment: None,
        })
    }

    /// Appends one frame, or what there is of it.
    ///
    /// # Errors
    /// [`CaptureError::Io`].
    pub fn write_part(&mut self, part: &Part<'_>) -> Result<(), CaptureError> {
        let mut packet = EnhancedPacketBlock {
            block_type: pcap_parser::EPB_MAGIC,
            block_len1: 0,
            if_id: part.interface,
            ts_high: (part.time >> 32) as u32,
            ts_low: part.time as u32,
            caplen: part.bytes.len() as u32,
            origlen: part.len,
            data: part.bytes,
            options: part
                .comment
                .map(|comment| text(OptionCode::Comment, comment))
                .into_iter()
                .collect(),
            block_len2: 0,
        };
        self.block(packet.to_vec())
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// [`CaptureError::Io`].
    pub fn flush(&mut self) -> Result<(), CaptureError> {
        self.out.flush().map_err(|source| CaptureError::Io {
            path: self.path.clone(),
            source,
        })
    }

    /// Writes out what is buffered, and closes the file.
    ///
    /// # Errors
    /// [`CaptureError::Io`].
    pub fn finish(mut self) -> Result<(), CaptureError> {
        self.flush()
    }

    fn block<E: std::fmt::Debug>(&mut self, block: Result<Vec<u8>, E>) -> Result<(), CaptureError> {
        let io = |source| CaptureError::Io {
            path: self.path.clone(),
            source,
        };
        let block = block.map_err(|e| io(std::io::Error::other(format!("{e:?}"))))?;
        self.out.write_all(&block).map_err(io)
    }
}

/// An option whose value is text, cut where its length would not fit.
fn text(code: OptionCode, value: &str) -> PcapNGOption<'_> {
    let value = value.as_bytes();
    let value = value.get(..1024).unwrap_or(value);
    PcapNGOption {
        code,
        len: value.len() as u16,
        value: Cow::Borrowed(value),
    }
}
