//! What a DHCP client asks, copied for the control thread: hosts say their names there. Fixed size, nothing behind a pointer.

use crossbeam::queue::ArrayQueue;
use std::sync::Arc;

/// Bytes of a request that are kept: more than clients send (RFC 2131 lets them count on 576 with the headers).
const KEPT: usize = 548;
/// Requests that a ring holds: clients ask seldom, and again where nobody answers.
const RING: usize = 64;

/// Ports of a request, source before destination: DHCP (RFC 2131) and DHCPv6 (RFC 8415).
const V4: u32 = 68 << 16 | 67;
const V6: u32 = 546 << 16 | 547;

/// The beginning of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DhcpRequest {
    /// The machine that the frame came from.
    pub mac: [u8; 6],
    /// DHCPv6.
    pub v6: bool,
    len: u16,
    bytes: [u8; KEPT],
}

/// Whether UDP ports are those of a request.
#[inline]
pub fn is_request(sport: u16, dport: u16) -> bool {
    let ports = u32::from(sport) << 16 | u32::from(dport);
    ports == V4 || ports == V6
}

impl DhcpRequest {
    /// As much of a payload as is kept.
    pub fn of(mac: [u8; 6], v6: bool, payload: &[u8]) -> DhcpRequest {
        let len = payload.len().min(KEPT);
        let mut bytes = [0; KEPT];
        bytes[..len].copy_from_slice(&payload[..len]);
        DhcpRequest {
            mac,
            v6,
            len: len as u16,
            bytes,
        }
    }

    /// The payload.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len).min(KEPT)]
    }
}

/// The bounded ring from one worker to the control thread; full is counted by the worker.
pub type DhcpRing = Arc<ArrayQueue<DhcpRequest>>;

/// An empty one.
pub fn ring() -> DhcpRing {
    Arc::new(ArrayQueue::new(RING))
}
