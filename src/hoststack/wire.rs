//! The device of a stack: one packet or frame in, a few out. Whoever polls the stack moves them from and to the rings.

use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;

/// What waits to be taken out: what a poll makes, and the answer to what came in.
pub const OUTGOING: usize = 8;
/// Bytes of an IP packet: what every Ethernet carries (RFC 894).
pub const MTU: usize = 1500;
const ETHERNET: usize = 14;

/// A wire that is as long as a function call.
pub struct Wire {
    medium: Medium,
    /// What is received next.
    pub incoming: Option<Vec<u8>>,
    /// What was sent.
    pub outgoing: Vec<Vec<u8>>,
    /// How much of that there may be.
    pub room: usize,
}

impl Wire {
    /// Of IP packets, or of Ethernet frames.
    pub fn new(medium: Medium) -> Wire {
        Wire {
            medium,
            incoming: None,
            outgoing: Vec::new(),
            room: OUTGOING,
        }
    }
}

impl Device for Wire {
    type RxToken<'a> = Incoming;
    type TxToken<'a> = Outgoing<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Incoming, Outgoing<'_>)> {
        if self.outgoing.len() >= self.room {
            return None;
        }
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Outgoing<'_>> {
        (self.outgoing.len() < self.room).then_some(Outgoing(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = self.medium;
        capabilities.max_transmission_unit = match self.medium {
            Medium::Ethernet => ETHERNET + MTU,
            Medium::Ip => MTU,
        };
        capabilities.max_burst_size = Some(OUTGOING);
        capabilities
    }
}

/// What is taken in.
pub struct Incoming(Vec<u8>);

impl RxToken for Incoming {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// A place for what is sent.
pub struct Outgoing<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let done = f(&mut packet);
        self.0.push(packet);
        done
    }
}
