//! ARP (RFC 826): only its length is checked, what it says is not our matter.

use super::Meta;
use crate::telemetry::Reason;

/// Ethertype of ARP.
pub(super) const ETHERTYPE: u16 = 0x0806;

/// A packet for Ethernet and IPv4, bytes.
const PACKET_LEN: usize = 28;

/// `Malformed` where fewer than 28 bytes follow the ethertype.
pub(super) fn check(frame: &[u8], meta: &Meta) -> Result<(), Reason> {
    if frame.len() < usize::from(meta.l3) + PACKET_LEN {
        Err(Reason::Malformed)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::frame::testing::ethernet;
    use crate::frame::{Net, parse};
    use crate::telemetry::Reason;

    #[test]
    fn arp_needs_twenty_eight_bytes() {
        assert_eq!(parse(&ethernet(0x0806, &[0; 27])), Err(Reason::Malformed));
        let meta = parse(&ethernet(0x0806, &[0; 28])).unwrap();
        assert_eq!((meta.net, meta.ethertype), (Net::Other, 0x0806));
    }
}
