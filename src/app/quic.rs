//! QUIC: a client's first packet (RFC 9000 sections 14.1 and 17.2.2, RFC 9369), of drafts, and of Google's own versions.
//!
//! What is in it is encrypted with a key that follows from its connection ID. It is not decrypted here.

use super::Looks;
use super::cursor::{Cursor, check, looks};
use super::details::Fields;

/// A long header with the fixed bit, or Google's first flags: a version and a connection ID, no reset.
pub(super) const STARTS: &[(u8, u8)] = &[
    (0xc0, 0xff),
    (0x09, 0x09),
    (0x0d, 0x0d),
    (0x19, 0x19),
    (0x1d, 0x1d),
    (0x29, 0x29),
    (0x2d, 0x2d),
    (0x39, 0x39),
    (0x3d, 0x3d),
];

/// A client pads its first datagram to this (RFC 9000 section 14.1).
const SHORTEST: usize = 1200;
const V2: u32 = 0x6b33_43cf;

/// Over UDP.
pub fn udp(bytes: &[u8]) -> Looks {
    looks(first(bytes).map(drop))
}

/// Version and connection ID.
fn first(bytes: &[u8]) -> Result<([u8; 4], &[u8]), Looks> {
    let mut rest = Cursor(bytes);
    let flags = rest.u8()?;
    if flags & 0x80 == 0 {
        return old(flags, rest);
    }
    check(flags & 0x40 != 0)?;
    let version = *rest.array()?;
    let initial = flags & 0x30;
    let google = matches!(version, [b'Q' | b'T', b'0', b'0'..=b'9', b'0'..=b'9']);
    match u32::from_be_bytes(version) {
        1 | 0xff00_0000..=0xff00_00ff => check(initial == 0)?,
        V2 => check(initial == 0x10)?,
        // Asks for a list of versions (RFC 9000 section 15).
        reserved if reserved & 0x0f0f_0f0f == 0x0a0a_0a0a => {}
        _ => check(google)?,
    }
    let length = rest.u8()?;
    if google {
        // Up to Q046 the lengths of both IDs share a byte (draft-ietf-quic-transport-17 section 17.2).
        let length = if length == 0x50 { 8 } else { length };
        check(length <= 20)?;
        return Ok((version, rest.take(usize::from(length))?));
    }
    // At least 8 bytes that nobody could guess (RFC 9000 section 7.2).
    check((8..=20).contains(&length))?;
    let id = rest.take(usize::from(length))?;
    let source = rest.byte_in(0..=20)?;
    rest.take(usize::from(source))?;
    if bytes.len() < SHORTEST {
        return Err(Looks::More);
    }
    Ok((version, id))
}

/// Up to Q043: flags, connection ID, version.
fn old(flags: u8, mut rest: Cursor<'_>) -> Result<([u8; 4], &[u8]), Looks> {
    check(flags & 0xcb == 0x09)?;
    let id = rest.take(8)?;
    rest.literal(b"Q0")?;
    let [tens, ones] = [rest.byte_in(b'0'..=b'9')?, rest.byte_in(b'0'..=b'9')?];
    Ok(([b'Q', b'0', tens, ones], id))
}

/// What is in clear.
pub(super) fn details(payload: &[u8], fields: &mut Fields) {
    let Ok((version, id)) = first(payload) else {
        return;
    };
    let name = match u32::from_be_bytes(version) {
        1 => "1".to_owned(),
        V2 => "2".to_owned(),
        draft @ 0xff00_0000..=0xff00_00ff => format!("draft-{}", draft & 0xff),
        _ if matches!(version, [b'Q' | b'T', ..]) => String::from_utf8_lossy(&version).into_owned(),
        other => format!("0x{other:08x}"),
    };
    fields.add("version", name.as_bytes());
    fields.add("dcid_length", id.len().to_string().as_bytes());
}

#[cfg(test)]
mod tests {
    use super::Looks::{Match, More, No};
    use super::udp;

    fn padded(start: &[u8]) -> Vec<u8> {
        let mut bytes = start.to_vec();
        bytes.resize(1200, 7);
        bytes
    }

    #[test]
    fn a_first_packet_is_padded_and_of_its_versions_type() {
        for (expected, start) in [
            (Match, &b"\xc3\0\0\0\x01\x08abcdefgh\x00"[..]),
            (Match, b"\xd3\x6b\x33\x43\xcf\x08abcdefgh\x08"),
            (Match, b"\xcf\xff\0\0\x1d\x14abcdefghijklmnopqrst\0"),
            (Match, b"\xc0\x1a\x2a\x3a\xfa\x08abcdefgh\0"),
            (No, b"\xd3\0\0\0\x01\x08abcdefgh\x00"),
            (No, b"\xc3\x6b\x33\x43\xcf\x08abcdefgh\x08"),
            (No, b"\xc3\0\0\0\x02\x08abcdefgh\x00"),
            (No, b"\xc3\0\0\0\x01\x07abcdefg\x00"),
            (No, b"\xc3\0\0\0\x01\x15"),
            (No, b"\xc3\0\0\0\x01\x08abcdefgh\x15"),
            (No, b"\x83\0\0\0\x01\x08abcdefgh\x00"),
        ] {
            assert_eq!(udp(&padded(start)), expected, "{start:02x?}");
        }
        assert_eq!(
            udp(&padded(b"\xc3\0\0\0\x01\x08abcdefgh\x00")[..1199]),
            More
        );
    }

    #[test]
    fn googles_versions_are_known_by_name() {
        assert_eq!(udp(b"\x0dabcdefghQ043\x01"), Match);
        assert_eq!(udp(b"\xc3Q046\x50abcdefgh"), Match);
        assert_eq!(udp(b"\xc3Q050\x08abcdefgh"), Match);
        assert_eq!(udp(b"\x0dabcdefghQ0"), More);
        assert_eq!(udp(b"\x0dabcdefghR"), No);
    }
}
