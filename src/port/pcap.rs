//! Two ports over one capture file, so that `replay` runs the production loop: no root, no NIC, and time comes from the capture.

use super::capture::{CaptureError, CaptureReader, CaptureWriter, Captured};
use super::{BURST, Port, Reclaimed};
use crate::frame::{self, Meta};
use crate::policy::Side;
use af_xdp::{Frame, Umem};
use ipnet::IpNet;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tells which side a captured frame came from.
#[derive(Clone, Debug, Default)]
pub struct Sides {
    /// Prefixes of the LAN.
    pub prefixes: Vec<IpNet>,
    /// MAC addresses of LAN hosts; if there are any, only they decide.
    pub macs: HashSet<[u8; 6]>,
    /// MAC addresses that were seen with a source in `prefixes`, for frames without an address that tells.
    learned: HashSet<[u8; 6]>,
}

impl Sides {
    /// By prefixes, or by MAC addresses where there are any.
    pub fn new(prefixes: Vec<IpNet>, macs: HashSet<[u8; 6]>) -> Sides {
        Sides {
            prefixes,
            macs,
            learned: HashSet::new(),
        }
    }

    /// The side that `frame` came from.
    ///
    /// By prefixes: a source in one is from the LAN; a source that is not, to a destination that is not either, is a spoofed source from
    /// the LAN, since nothing else is on its way there; of frames whose addresses do not tell (ARP, link-local, multicast), those of a MAC address
    /// that was seen with a LAN source.
    pub fn of(&mut self, frame: &[u8]) -> Side {
        let mut meta = Meta::NONE;
        // What does not parse is from the side that its MAC address says.
        let _ = frame::parse_into(frame, &mut meta);
        let lan = if !self.macs.is_empty() {
            self.macs.contains(&meta.src_mac)
        } else {
            let src = meta
                .src_ip()
                .or_else(|| arp_sender(frame, meta.ethertype, meta.l3.into()));
            match (src, meta.dst_ip()) {
                (Some(src), _) if self.inside(src) => {
                    self.learned.insert(meta.src_mac);
                    true
                }
                (Some(src), Some(dst)) if routable(src) && routable(dst) => {
                    !self.inside(dst) && self.has_family(dst)
                }
                _ => self.learned.contains(&meta.src_mac),
            }
        };
        if lan { Side::Lan } else { Side::Uplink }
    }

    fn inside(&self, ip: IpAddr) -> bool {
        self.prefixes.iter().any(|net| net.contains(&ip))
    }

    fn has_family(&self, ip: IpAddr) -> bool {
        self.prefixes
            .iter()
            .any(|net| net.addr().is_ipv4() == ip.is_ipv4())
    }
}

/// The sender protocol address of an ARP packet for IPv4 (RFC 826).
fn arp_sender(frame: &[u8], ethertype: u16, l3: usize) -> Option<IpAddr> {
    let sender: [u8; 4] = frame.get(l3 + 14..l3 + 18)?.try_into().ok()?;
    (ethertype == 0x0806).then_some(IpAddr::from(sender))
}

/// An address that says which network it belongs to: not unspecified, multicast, broadcast or link-local.
fn routable(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            !(ip.is_unspecified() || ip.is_multicast() || ip.is_broadcast() || ip.is_link_local())
        }
        IpAddr::V6(ip) => !(ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local()),
    }
}

/// The capture between the two ports.
pub struct Stage {
    reader: CaptureReader,
    sides: Sides,
    writer: Option<CaptureWriter>,
    next: Captured,
    pending: Option<Side>,
    now: u64,
    /// Frames of which the capture holds only the beginning.
    pub cut: u64,
    oversize: [u64; 2],
    error: Option<CaptureError>,
}

impl Stage {
    /// Reads up to the first frame.
    ///
    /// # Errors
    /// [`CaptureError`], if even that cannot be read.
    pub fn open(
        reader: CaptureReader,
        sides: Sides,
        writer: Option<CaptureWriter>,
    ) -> Result<Arc<Mutex<Stage>>, CaptureError> {
        let mut stage = Stage {
            reader,
            sides,
            writer,
            next: Captured::default(),
            pending: None,
            now: 0,
            cut: 0,
            oversize: [0; 2],
            error: None,
        };
        stage.advance();
        match stage.error.take() {
            Some(e) => Err(e),
            None => Ok(Arc::new(Mutex::new(stage))),
        }
    }

    /// The stage, for one call.
    pub fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
        stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the next frame, from which on it can be received; `None` at the end. Time never goes back.
    pub fn next_time(&mut self) -> Option<u64> {
        self.pending?;
        self.now = self.now.max(self.next.time);
        Some(self.now)
    }

    /// Ends the capture: writes out what was forwarded.
    ///
    /// # Errors
    /// What went wrong while reading or writing.
    pub fn finish(&mut self) -> Result<(), CaptureError> {
        let written = self.writer.take().map_or(Ok(()), CaptureWriter::finish);
        self.error.take().map_or(written, Err)
    }

    fn advance(&mut self) {
        self.pending = None;
        match self.reader.next(&mut self.next) {
            Ok(true) => {
                self.cut += u64::from(self.next.cut);
                self.pending = Some(self.sides.of(&self.next.bytes));
            }
            Ok(false) => {}
            Err(e) => self.error = Some(e),
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if let Some(writer) = &mut self.writer
            && let Err(e) = writer.write(self.now, bytes)
        {
            self.error.get_or_insert(e);
        }
    }
}

/// One side of a capture.
pub struct PcapPort {
    side: Side,
    stage: Arc<Mutex<Stage>>,
    umem: Umem,
    free: Vec<Frame>,
    done: Vec<Frame>,
}

impl PcapPort {
    /// The port of `side` over `stage`, with frames of `umem`.
    pub fn new(side: Side, stage: Arc<Mutex<Stage>>, umem: Umem) -> PcapPort {
        PcapPort {
            side,
            stage,
            umem,
            free: Vec::with_capacity(BURST),
            done: Vec::with_capacity(BURST),
        }
    }
}

impl Port for PcapPort {
    fn receive(&mut self, out: &mut Vec<Frame>, max: usize) -> usize {
        let mut stage = Stage::lock(&self.stage);
        let mut received = 0;
        while received < max && stage.pending == Some(self.side) && stage.next.time <= stage.now {
            let Some(mut frame) = self.free.pop() else {
                break;
            };
            match self.umem.write(&mut frame, &stage.next.bytes) {
                Ok(()) => {
                    out.push(frame);
                    received += 1;
                }
                Err(_) => {
                    self.free.push(frame);
                    stage.oversize[self.side as usize] += 1;
                }
            }
            stage.advance();
        }
        received
    }

    fn send(&mut self, frames: &mut Vec<Frame>) -> usize {
        let mut stage = Stage::lock(&self.stage);
        let n = frames.len();
        for frame in frames.drain(..) {
            stage.write(self.umem.bytes(&frame));
            self.done.push(frame);
        }
        n
    }

    fn flush(&mut self, _now: u64) {}

    fn reclaim(&mut self, pool: &mut Vec<Frame>) -> Reclaimed {
        let sent = self.done.len() as u32;
        pool.append(&mut self.done);
        Reclaimed { sent, failed: 0 }
    }

    fn refill(&mut self, pool: &mut Vec<Frame>) {
        let wanted = BURST.saturating_sub(self.free.len()).min(pool.len());
        self.free.extend(pool.drain(pool.len() - wanted..));
    }

    fn take_oversize(&mut self) -> u64 {
        std::mem::take(&mut Stage::lock(&self.stage).oversize[self.side as usize])
    }

    fn in_flight(&self) -> u32 {
        self.done.len() as u32
    }
}
