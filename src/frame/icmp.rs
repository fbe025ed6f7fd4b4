//! ICMP (RFC 792) and ICMPv6 (RFC 4443 section 2.1).

use super::{Meta, chunk, transport};
use crate::telemetry::Reason;

/// Type, code, checksum, and the four bytes that depend on the type: where an error's quoted packet starts.
const HEADER_LEN: usize = 8;

/// The part that every type has.
struct Header<'a>(&'a [u8; 4]);

impl<'a> Header<'a> {
    /// `None` where it is not whole in `bytes` at `pos`.
    fn new_checked(bytes: &'a [u8], pos: usize) -> Option<Self> {
        chunk(bytes, pos).map(Header)
    }

    fn kind(&self) -> u8 {
        self.0[0]
    }

    fn code(&self) -> u8 {
        self.0[1]
    }
}

/// Type and code of the message at `l4`, as `sport` and `dport`. The payload starts after 8 bytes, or at the end of a
/// message that is shorter.
///
/// # Errors
/// As [`transport::parse`].
pub(super) fn parse(bytes: &[u8], l4: usize, meta: &mut Meta) -> Result<(), Reason> {
    let header = Header::new_checked(bytes, l4).ok_or_else(|| transport::cut_short(meta))?;
    meta.sport = u16::from(header.kind());
    meta.dport = u16::from(header.code());
    meta.payload = (l4 + HEADER_LEN).min(bytes.len()) as u16;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::frame::parse;
    use crate::frame::testing::{Ip4, Ip6, ethernet};
    use crate::telemetry::Reason;

    #[test]
    fn type_and_code_stand_in_the_place_of_the_ports() {
        let message = [3, 4, 0, 0, 0, 0, 5, 0xdc, 0x45];
        let v4 = parse(&ethernet(0x0800, &Ip4::new(1).build(&message))).unwrap();
        assert_eq!((v4.proto, v4.sport, v4.dport, v4.payload), (1, 3, 4, 42));
        let v6 = parse(&ethernet(0x86dd, &Ip6::new(58).build(&message))).unwrap();
        assert_eq!((v6.proto, v6.sport, v6.dport, v6.payload), (58, 3, 4, 62));
    }

    #[test]
    fn four_bytes_are_enough_and_three_are_not() {
        for (proto, len, ok) in [(1, 3, false), (1, 4, true), (58, 3, false), (58, 4, true)] {
            let v4 = parse(&ethernet(
                0x0800,
                &Ip4::new(proto).build(&[8, 0, 0, 0][..len]),
            ));
            let v6 = parse(&ethernet(
                0x86dd,
                &Ip6::new(proto).build(&[8, 0, 0, 0][..len]),
            ));
            assert_eq!((v4.is_ok(), v6.is_ok()), (ok, ok));
            match v4 {
                Ok(meta) => assert_eq!(meta.payload, meta.end),
                Err(reason) => assert_eq!(reason, Reason::Malformed),
            }
        }
    }
}
